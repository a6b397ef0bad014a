//! How much the log of events keeps.
//!
//! `tests/shuttle` has smaller sizes in this place.

use std::thread;

/// How many events a ring holds.
pub(super) const EVENTS: usize = 8192;
/// How many events a reader copies before it lets writers have the ring.
pub(super) const AT_ONCE: usize = 64;
/// How many rings there are at most.
const RINGS: usize = 16;

/// How many rings there are.
pub(super) fn rings() -> usize {
    let threads = thread::available_parallelism().map_or(2, usize::from);
    // The main thread and others write seldom, and should have a ring as well.
    (threads + 1).min(RINGS)
}
