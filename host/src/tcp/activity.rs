//! How active a connection is.

use std::time::{Duration, Instant};

/// How active a connection is; the least active one is the smallest. One on which no byte
/// has moved is less active than all others, whenever it began: being accepted is no
/// activity.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Activity {
    /// When the last byte moved in either direction, if one has.
    pub(super) last_byte: Option<Instant>,
    /// When the connection began.
    pub(super) began: Instant,
}

impl Activity {
    /// The time without a byte, or since the beginning if there was none.
    pub(super) fn idle_for(&self, now: Instant) -> Duration {
        now.saturating_duration_since(self.last_byte.unwrap_or(self.began))
    }
}
