//! Measures one connection: bytes, age, progress, and how it ended.

use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU64, Ordering};
use std::sync::{Mutex, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use super::{Ending, Limit, Side, Timeouts};

/// Counts the bytes of one connection and records how it ended.
///
/// The socket updates the meter; the host that opened the connection reads it, also after
/// the connection has ended.
#[derive(Debug)]
pub(crate) struct Meter {
    created: Instant,
    received: AtomicU64,
    sent: AtomicU64,
    /// 0 while both directions are open, otherwise [`PEER`] or [`SERVICE`].
    first_end: AtomicU8,
    /// Whether data waits to be sent and the kernel does not accept it.
    stalled: AtomicBool,
    ending: OnceLock<Ending>,
    /// Whether the peer is one that the guest chose, and not a peer of the host.
    of_guest: bool,
    last_check: Mutex<Check>,
}

const PEER: u8 = 1;
const SERVICE: u8 = 2;

/// The result of the last check against the limits.
#[derive(Debug)]
struct Check {
    received: u64,
    sent: u64,
    half_open: bool,
    stalled: bool,
    /// When the last byte was received or sent.
    idle_since: Instant,
    /// When the first of the two directions ended, if `half_open`.
    half_open_since: Instant,
    /// When the kernel last accepted data to send, if `stalled`.
    stalled_since: Instant,
}

impl Meter {
    /// A meter for a connection that begins now.
    pub(crate) fn new() -> Self {
        let now = Instant::now();
        Meter {
            created: now,
            received: AtomicU64::new(0),
            sent: AtomicU64::new(0),
            first_end: AtomicU8::new(0),
            stalled: AtomicBool::new(false),
            ending: OnceLock::new(),
            of_guest: false,
            last_check: Mutex::new(Check {
                received: 0,
                sent: 0,
                half_open: false,
                stalled: false,
                idle_since: now,
                half_open_since: now,
                stalled_since: now,
            }),
        }
    }

    /// A meter for a connection that the guest makes or accepts itself.
    pub(crate) fn of_guest() -> Self {
        Meter {
            of_guest: true,
            ..Meter::new()
        }
    }

    /// Whether the guest has made or accepted the connection itself.
    pub(crate) fn is_of_guest(&self) -> bool {
        self.of_guest
    }

    /// The time since the connection began.
    pub(crate) fn age(&self) -> Duration {
        self.created.elapsed()
    }

    /// The number of bytes received and sent so far.
    pub(crate) fn bytes(&self) -> (u64, u64) {
        (
            self.received.load(Ordering::Relaxed),
            self.sent.load(Ordering::Relaxed),
        )
    }

    /// The side whose FIN came first; `None` if neither side has sent FIN.
    pub(crate) fn first_end(&self) -> Option<Side> {
        match self.first_end.load(Ordering::Relaxed) {
            PEER => Some(Side::Peer),
            SERVICE => Some(Side::Service),
            _ => None,
        }
    }

    /// The first ending that was recorded; `None` if the connection is open, or ended by
    /// FIN.
    pub(crate) fn ending(&self) -> Option<Ending> {
        self.ending.get().cloned()
    }

    /// Records how the connection ended. Only the first call counts.
    pub(crate) fn set_ending(&self, ending: Ending) {
        let _ = self.ending.set(ending);
    }

    pub(super) fn add_received(&self, bytes: usize) {
        self.received.fetch_add(bytes as u64, Ordering::Relaxed);
    }

    pub(super) fn add_sent(&self, bytes: usize) {
        self.sent.fetch_add(bytes as u64, Ordering::Relaxed);
        if self.stalled.load(Ordering::Relaxed) {
            self.stalled.store(false, Ordering::Relaxed);
        }
    }

    /// Records that the kernel does not accept the data that waits to be sent.
    pub(super) fn stalled(&self) {
        self.stalled.store(true, Ordering::Relaxed);
    }

    /// Records the FIN of `side`.
    pub(super) fn ended(&self, side: Side) {
        let side = match side {
            Side::Peer => PEER,
            Side::Service => SERVICE,
        };
        // Only the first FIN counts.
        let _ = self
            .first_end
            .compare_exchange(0, side, Ordering::Relaxed, Ordering::Relaxed);
    }

    /// Returns the limit that the connection has reached; `None` if it has reached none,
    /// or is `over` because both directions have ended.
    ///
    /// Progress is noticed only by comparing with the previous call, so this has to be
    /// called periodically.
    pub(super) fn overdue(&self, limits: &Timeouts, now: Instant, over: bool) -> Option<Limit> {
        if over {
            return None;
        }
        let mut last = self
            .last_check
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        let (received, sent) = self.bytes();
        let half_open = self.first_end().is_some();
        let stalled = self.stalled.load(Ordering::Relaxed);
        if (received, sent) != (last.received, last.sent) {
            last.idle_since = now;
        }
        if half_open && !last.half_open {
            last.half_open_since = now;
            // A FIN counts as activity, too.
            last.idle_since = now;
        }
        if stalled && (!last.stalled || sent != last.sent) {
            last.stalled_since = now;
        }
        (last.received, last.sent) = (received, sent);
        (last.half_open, last.stalled) = (half_open, stalled);
        let reached = |limit: Option<Duration>, since: Instant| {
            limit.is_some_and(|limit| now.saturating_duration_since(since) >= limit)
        };
        if reached(limits.age, self.created) {
            Some(Limit::Age)
        } else if stalled && reached(limits.write, last.stalled_since) {
            Some(Limit::Write)
        } else if half_open && reached(limits.half_open, last.half_open_since) {
            Some(Limit::HalfOpen)
        } else if reached(limits.idle, last.idle_since) {
            Some(Limit::Idle)
        } else {
            None
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn bytes_in_either_direction_restart_the_idle_limit() {
        let limits = Timeouts {
            idle: Some(10 * SECOND),
            ..Timeouts::NONE
        };
        let meter = Meter::new();
        let start = Instant::now();
        meter.add_received(1);
        assert_eq!(meter.overdue(&limits, start + 9 * SECOND, false), None);
        assert_eq!(meter.overdue(&limits, start + 18 * SECOND, false), None);
        meter.add_sent(1);
        assert_eq!(meter.overdue(&limits, start + 18 * SECOND, false), None);
        let late = start + 28 * SECOND;
        assert_eq!(meter.overdue(&limits, late, true), None);
        assert_eq!(meter.overdue(&limits, late, false), Some(Limit::Idle));
    }

    #[test]
    fn the_half_open_limit_runs_from_the_end_of_the_first_direction() {
        let limits = Timeouts {
            half_open: Some(SECOND),
            ..Timeouts::NONE
        };
        let meter = Meter::new();
        let start = Instant::now();
        assert_eq!(meter.overdue(&limits, start + 100 * SECOND, false), None);
        meter.ended(Side::Peer);
        assert_eq!(meter.overdue(&limits, start + 100 * SECOND, false), None);
        meter.add_received(1);
        let late = start + 101 * SECOND;
        assert_eq!(meter.overdue(&limits, late, false), Some(Limit::HalfOpen));
    }

    #[test]
    fn any_progress_restarts_the_write_limit() {
        let limits = Timeouts {
            write: Some(SECOND),
            ..Timeouts::NONE
        };
        let meter = Meter::new();
        let start = Instant::now();
        for second in 0..10 {
            meter.add_sent(1);
            meter.stalled();
            assert_eq!(meter.overdue(&limits, start + second * SECOND, false), None);
        }
        let late = start + 10 * SECOND;
        assert_eq!(meter.overdue(&limits, late, false), Some(Limit::Write));
    }

    #[test]
    fn the_first_fin_and_the_first_ending_count() {
        let meter = Meter::new();
        meter.add_received(3);
        meter.add_sent(2);
        meter.ended(Side::Service);
        meter.ended(Side::Peer);
        meter.set_ending(Ending::Limit(Limit::Idle));
        meter.set_ending(Ending::Fin);
        assert_eq!(meter.bytes(), (3, 2));
        assert_eq!(meter.first_end(), Some(Side::Service));
        let ending = meter.ending().map(|ending| ending.to_string());
        assert_eq!(ending.as_deref(), Some("limit-idle"));
    }
}
