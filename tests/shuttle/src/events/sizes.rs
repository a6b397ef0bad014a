//! Smaller sizes than those of `host/src/events/sizes.rs`: few events fill a ring, and a reader
//! lets writers have it in the midst.

/// How many events a ring holds.
pub(super) const EVENTS: usize = 8;
/// How many events a reader copies before it lets writers have the ring.
pub(super) const AT_ONCE: usize = 2;

/// How many rings there are: some threads share one.
pub(super) fn rings() -> usize {
    2
}
