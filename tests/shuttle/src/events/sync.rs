//! The locks and atomics of shuttle, in the place of `host/src/events/sync.rs`.

pub(super) use shuttle::sync::{Mutex, MutexGuard};

pub(super) mod atomic {
    pub(in crate::events) use shuttle::sync::atomic::{AtomicBool, AtomicU8, AtomicU64, Ordering};
}

/// The number of this thread of the scheduler.
pub(super) fn thread() -> usize {
    shuttle::thread::current().id().into()
}
