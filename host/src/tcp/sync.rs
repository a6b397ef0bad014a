//! The locks and atomics that the tasks of a connection share.
//!
//! They are those of std. `tests/shuttle` compiles the same files with other ones in this
//! place, which try out the orders in which threads can get at them.

pub(super) use std::sync::{
    Arc, Mutex, MutexGuard, OnceLock, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard, Weak,
};

pub(super) mod atomic {
    pub(in crate::tcp) use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU64, Ordering};
}
