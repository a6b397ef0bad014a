//! The locks and atomics that threads share which report events, and those that read them.
//!
//! They are those of std. `tests/shuttle` compiles the same files with other ones in this
//! place, which try out the orders in which threads can get at them.

use std::cell::Cell;
use std::sync::atomic::AtomicUsize;

use atomic::Ordering;

pub(super) use std::sync::{Mutex, MutexGuard};

pub(super) mod atomic {
    pub(in crate::events) use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU64, Ordering};
}

/// The number of this thread among those that have asked.
pub(super) fn thread() -> usize {
    static THREADS: AtomicUsize = AtomicUsize::new(0);
    thread_local! {
        static OWN: Cell<Option<usize>> = const { Cell::new(None) };
    }
    OWN.get().unwrap_or_else(|| {
        let own = THREADS.fetch_add(1, Ordering::Relaxed);
        OWN.set(Some(own));
        own
    })
}
