//! Measures one connection: bytes, age, progress, and how it ended.

use std::time::{Duration, Instant};

use super::sync::atomic::{AtomicBool, AtomicU8, AtomicU64, Ordering};
use super::sync::{Mutex, OnceLock, PoisonError};
use super::{Ending, ErrorCode, Limit, Side, Timeouts};
use crate::events::{Blocker, Direction, Failed, Kind, Track};

/// Counts the bytes of one connection, records how it ended, and reports its events.
///
/// The socket updates the meter; the host that opened the connection reads it, also after
/// the connection has ended.
#[derive(Debug)]
pub(crate) struct Meter {
    created: Instant,
    received: AtomicU64,
    sent: AtomicU64,
    /// When the last byte moved, in milliseconds after `created`, plus 1; 0 if none has.
    last_byte: AtomicU64,
    /// 0 while both directions are open, otherwise [`PEER`] or [`SERVICE`].
    first_end: AtomicU8,
    /// The sides that have sent FIN, and [`RESET_LATE`].
    ended: AtomicU8,
    /// Whether data waits to be sent and the kernel does not accept it.
    stalled: AtomicBool,
    /// Whether a TLS handshake was done on the connection in use.
    secured: AtomicBool,
    ending: OnceLock<Ending>,
    /// Whether the peer is one that the guest chose, and not a peer of the host.
    of_guest: bool,
    track: Track,
    last_check: Mutex<Check>,
}

const PEER: u8 = 1;
const SERVICE: u8 = 2;
/// The peer has sent RST while the connection closed.
const RESET_LATE: u8 = 4;

/// How much of the sent data has reached the peer's kernel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Delivery {
    /// The number of bytes that the peer's kernel has acknowledged.
    pub(super) acknowledged: u64,
    /// Whether the kernel has more that the peer's kernel has not acknowledged.
    pub(super) outstanding: bool,
}

/// The result of the last check against the limits.
#[derive(Debug)]
struct Check {
    received: u64,
    sent: u64,
    delivery: Delivery,
    half_open: bool,
    stalled: bool,
    secured: bool,
    /// When the last byte was received, sent or acknowledged.
    idle_since: Instant,
    /// When the first of the two directions ended, if `half_open`.
    half_open_since: Instant,
    /// When the peer's kernel last acknowledged data, if `stalled`.
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
            last_byte: AtomicU64::new(0),
            first_end: AtomicU8::new(0),
            ended: AtomicU8::new(0),
            stalled: AtomicBool::new(false),
            secured: AtomicBool::new(false),
            ending: OnceLock::new(),
            of_guest: false,
            track: Track::none(),
            last_check: Mutex::new(Check {
                received: 0,
                sent: 0,
                delivery: Delivery {
                    acknowledged: 0,
                    outstanding: false,
                },
                half_open: false,
                stalled: false,
                secured: false,
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

    /// A meter for a connection whose events are reported.
    pub(crate) fn tracked(track: Track) -> Self {
        Meter {
            track,
            ..Meter::new()
        }
    }

    /// A meter for a connection that began so long ago.
    pub(crate) fn aged(self, age: Duration) -> Self {
        Meter {
            // A clock that has not run for so long knows no better.
            created: self.created.checked_sub(age).unwrap_or(self.created),
            ..self
        }
    }

    /// The events of the connection.
    pub(crate) fn track(&self) -> &Track {
        &self.track
    }

    /// When the connection began.
    pub(crate) fn began(&self) -> Instant {
        self.created
    }

    /// Whether the guest has made or accepted the connection itself.
    pub(crate) fn is_of_guest(&self) -> bool {
        self.of_guest
    }

    /// The time since the connection began.
    pub(crate) fn age(&self) -> Duration {
        self.created.elapsed()
    }

    /// When the connection began, and when the last byte moved in either direction, if one
    /// has.
    pub(super) fn activity(&self) -> (Instant, Option<Instant>) {
        let millis = self.last_byte.load(Ordering::Relaxed).checked_sub(1);
        let last = millis.map(|millis| self.created + Duration::from_millis(millis));
        (self.created, last)
    }

    fn moved(&self) {
        let millis = u64::try_from(self.age().as_millis()).unwrap_or(u64::MAX - 1);
        self.last_byte.store(millis + 1, Ordering::Relaxed);
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

    /// Records that so many bytes were received; `data` are the bytes, if they are in memory.
    pub(super) fn add_received(&self, bytes: usize, data: Option<&[u8]>) {
        self.track.data(Direction::In, bytes, data, || {
            self.received.fetch_add(bytes as u64, Ordering::Relaxed)
        });
        self.moved();
    }

    /// Records that so many bytes were sent; `data` are the bytes, if they are in memory.
    pub(super) fn add_sent(&self, bytes: usize, data: Option<&[u8]>) {
        self.unstalled();
        self.track.data(Direction::Out, bytes, data, || {
            self.sent.fetch_add(bytes as u64, Ordering::Relaxed)
        });
        self.moved();
    }

    /// Records that the kernel does not accept the data that waits to be sent.
    pub(super) fn stalled(&self) {
        self.set_stalled(true);
    }

    /// Records that no data waits to be sent.
    pub(super) fn unstalled(&self) {
        self.set_stalled(false);
    }

    fn set_stalled(&self, stalled: bool) {
        // Only a change is worth more than a look.
        if self.stalled.load(Ordering::Relaxed) != stalled
            && self.stalled.swap(stalled, Ordering::Relaxed) != stalled
        {
            let kind = || Kind::blocked(stalled, Direction::Out, Blocker::Peer);
            self.track.report(kind);
        }
    }

    /// Records that a TLS handshake is done, which counts as activity. Its bytes do not count.
    pub(super) fn secured(&self) {
        self.secured.store(true, Ordering::Relaxed);
        self.moved();
        self.unstalled();
    }

    /// Records the FIN of `side`.
    pub(super) fn ended(&self, side: Side) {
        let (side, direction) = match side {
            Side::Peer => (PEER, Direction::In),
            Side::Service => (SERVICE, Direction::Out),
        };
        if self.ended.fetch_or(side, Ordering::Relaxed) & side == 0 {
            self.track.report(|| Kind::Fin(direction));
        }
        // Only the first FIN counts.
        let _ = self
            .first_end
            .compare_exchange(0, side, Ordering::Relaxed, Ordering::Relaxed);
    }

    /// Whether both sides have sent FIN, also where the peer's came only while the connection
    /// closed.
    pub(crate) fn both_ended(&self) -> bool {
        self.ended.load(Ordering::Relaxed) & (PEER | SERVICE) == PEER | SERVICE
    }

    /// Whether the peer has sent RST while the connection closed, which is no ending of its own.
    pub(crate) fn is_reset_late(&self) -> bool {
        self.ended.load(Ordering::Relaxed) & RESET_LATE != 0
    }

    /// Records that the connection has failed.
    pub(super) fn failed(&self, error: &ErrorCode) {
        self.set_ending(Ending::Failed(error.clone()));
        self.track.report(|| match error.is_reset() {
            true => Kind::Rst(Direction::In),
            false => Kind::Failed(Box::new(Failed {
                code: error.code(),
                message: error.words(),
            })),
        });
    }

    /// Reports an error of the peer while the connection closes, which is how it ends in any case.
    pub(super) fn failed_late(&self, error: &ErrorCode) {
        // Without a connection there is no FIN to send: RST has come, and nobody has read it.
        if error.is_reset() || matches!(error, ErrorCode::InvalidState) {
            self.ended.fetch_or(RESET_LATE, Ordering::Relaxed);
            self.track.report(|| Kind::Rst(Direction::In));
        }
    }

    /// Notes how the connection has reached a limit, for its end.
    pub(super) fn note_limit(&self, limit: Limit, timeouts: &Timeouts) {
        self.track.note(|| {
            let seconds = |limit: Option<Duration>| limit.unwrap_or_default().as_secs_f64();
            match limit {
                Limit::Age => format!("it was open for {} s", seconds(timeouts.age)),
                Limit::Idle => format!("no byte moved for {} s", seconds(timeouts.idle)),
                Limit::Write => {
                    format!("the peer took no data for {} s", seconds(timeouts.write))
                }
                Limit::HalfOpen => {
                    let (one, other) = match self.first_end() {
                        Some(Side::Service) => ("service", "peer"),
                        _ => ("peer", "service"),
                    };
                    let seconds = seconds(timeouts.half_open);
                    format!("the {one} closed, and the {other} did not within {seconds} s")
                }
                Limit::Handshake => "the TLS handshake was not done in time".to_owned(),
            }
        });
    }

    /// Records that RST will be sent.
    pub(super) fn aborted(&self, ending: Ending) {
        if let Ending::Limit(limit) = &ending {
            let limit = limit.name();
            self.track.report(|| Kind::Limit { limit });
        }
        self.set_ending(ending);
        self.track.report(|| Kind::Rst(Direction::Out));
    }

    /// Returns the limit that the connection has reached; `None` if it has reached none,
    /// or is `over` because both directions have ended.
    ///
    /// Progress is noticed only by comparing with the previous call, so this has to be
    /// called periodically. `delivery` is asked, with the number of bytes sent, only while
    /// the answer can have changed: an idle connection costs no system call. If it does not
    /// know, what the kernel accepts counts as delivered.
    pub(super) fn overdue(
        &self,
        limits: &Timeouts,
        now: Instant,
        over: bool,
        delivery: impl FnOnce(u64) -> Option<Delivery>,
    ) -> Option<Limit> {
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
        let mut delivered = false;
        if stalled || sent != last.sent || last.delivery.outstanding {
            let accepted = Delivery {
                acknowledged: sent,
                outstanding: false,
            };
            let delivery = delivery(sent).unwrap_or(accepted);
            delivered = delivery.acknowledged > last.delivery.acknowledged;
            last.delivery = delivery;
        }
        if delivered || (received, sent) != (last.received, last.sent) {
            last.idle_since = now;
        }
        if half_open && !last.half_open {
            last.half_open_since = now;
            // A FIN counts as activity, too.
            last.idle_since = now;
        }
        let secured = self.secured.load(Ordering::Relaxed);
        if secured && !last.secured {
            last.idle_since = now;
        }
        if stalled && (!last.stalled || delivered) {
            last.stalled_since = now;
        }
        (last.received, last.sent) = (received, sent);
        (last.half_open, last.stalled, last.secured) = (half_open, stalled, secured);
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

    /// A system that does not say what is delivered.
    fn unknown(_: u64) -> Option<Delivery> {
        None
    }

    #[test]
    fn bytes_in_either_direction_restart_the_idle_limit() {
        let limits = Timeouts {
            idle: Some(10 * SECOND),
            ..Timeouts::NONE
        };
        let meter = Meter::new();
        let start = Instant::now();
        meter.add_received(1, None);
        assert_eq!(
            meter.overdue(&limits, start + 9 * SECOND, false, unknown),
            None
        );
        assert_eq!(
            meter.overdue(&limits, start + 18 * SECOND, false, unknown),
            None
        );
        meter.add_sent(1, None);
        assert_eq!(
            meter.overdue(&limits, start + 18 * SECOND, false, unknown),
            None
        );
        let late = start + 28 * SECOND;
        assert_eq!(meter.overdue(&limits, late, true, unknown), None);
        assert_eq!(
            meter.overdue(&limits, late, false, unknown),
            Some(Limit::Idle)
        );
    }

    #[test]
    fn a_handshake_restarts_the_idle_limit_once() {
        let limits = Timeouts {
            idle: Some(10 * SECOND),
            ..Timeouts::NONE
        };
        let meter = Meter::new();
        let start = Instant::now();
        let overdue =
            |seconds: u32| meter.overdue(&limits, start + seconds * SECOND, false, unknown);
        assert_eq!(overdue(9), None);
        meter.secured();
        assert_eq!(overdue(9), None);
        assert_eq!(overdue(18), None);
        assert_eq!(overdue(20), Some(Limit::Idle));
    }

    #[test]
    fn the_half_open_limit_runs_from_the_end_of_the_first_direction() {
        let limits = Timeouts {
            half_open: Some(SECOND),
            ..Timeouts::NONE
        };
        let meter = Meter::new();
        let start = Instant::now();
        assert_eq!(
            meter.overdue(&limits, start + 100 * SECOND, false, unknown),
            None
        );
        meter.ended(Side::Peer);
        assert_eq!(
            meter.overdue(&limits, start + 100 * SECOND, false, unknown),
            None
        );
        meter.add_received(1, None);
        let late = start + 101 * SECOND;
        assert_eq!(
            meter.overdue(&limits, late, false, unknown),
            Some(Limit::HalfOpen)
        );
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
            meter.add_sent(1, None);
            meter.stalled();
            assert_eq!(
                meter.overdue(&limits, start + second * SECOND, false, unknown),
                None
            );
        }
        let late = start + 10 * SECOND;
        assert_eq!(
            meter.overdue(&limits, late, false, unknown),
            Some(Limit::Write)
        );
    }

    #[test]
    fn what_the_peer_acknowledges_restarts_both_limits() {
        let limits = Timeouts {
            write: Some(2 * SECOND),
            idle: Some(3 * SECOND),
            ..Timeouts::NONE
        };
        let meter = Meter::new();
        let start = Instant::now();
        let at = |second: u32, acknowledged: u64| {
            let delivery = |sent: u64| {
                Some(Delivery {
                    acknowledged,
                    outstanding: acknowledged < sent,
                })
            };
            meter.overdue(&limits, start + second * SECOND, false, delivery)
        };
        // The kernel takes all of the data at once, and more does not fit.
        meter.add_sent(100, None);
        meter.stalled();
        for second in 0..10 {
            assert_eq!(at(second, u64::from(second)), None, "{second}");
        }
        assert_eq!(at(10, 9), None);
        assert_eq!(at(11, 9), Some(Limit::Write));
        // The writer gives up: nothing waits, and what the kernel has still goes out.
        meter.unstalled();
        assert_eq!(at(11, 10), None);
        for second in 12..20 {
            assert_eq!(at(second, u64::from(second)), None, "{second}");
        }
        assert_eq!(at(20, 100), None);
        // Everything is delivered, so nobody asks any more.
        assert_eq!(at(22, 101), None);
        assert_eq!(at(23, 101), Some(Limit::Idle));
    }

    #[test]
    fn a_writer_that_gives_up_stops_the_write_limit() {
        let limits = Timeouts {
            write: Some(SECOND),
            ..Timeouts::NONE
        };
        let meter = Meter::new();
        let start = Instant::now();
        meter.stalled();
        assert_eq!(meter.overdue(&limits, start, false, unknown), None);
        meter.unstalled();
        let late = start + 10 * SECOND;
        assert_eq!(meter.overdue(&limits, late, false, unknown), None);
        meter.stalled();
        assert_eq!(meter.overdue(&limits, late, false, unknown), None);
        let late = late + SECOND;
        assert_eq!(
            meter.overdue(&limits, late, false, unknown),
            Some(Limit::Write)
        );
    }

    #[test]
    fn the_first_fin_and_the_first_ending_count() {
        let meter = Meter::new();
        meter.add_received(3, None);
        meter.add_sent(2, None);
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
