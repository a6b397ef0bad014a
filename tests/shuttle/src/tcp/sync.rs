//! The locks and atomics of shuttle, in the place of `host/src/tcp/sync.rs`.

pub(super) use std::sync::{OnceLock, PoisonError};

pub(super) use shuttle::sync::{
    Arc, Mutex, MutexGuard, RwLock, RwLockReadGuard, RwLockWriteGuard, Weak,
};

pub(super) mod atomic {
    pub(in crate::tcp) use shuttle::sync::atomic::{AtomicBool, AtomicU8, AtomicU64, Ordering};
}
