//! What happens to a connection, from accept to its end: for limits and for the log.

use std::fmt;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use super::ErrorCode;
use crate::admission::Refusal;
use crate::server::Observers;

/// How long things may take on a connection. What takes longer is ended by RST, and its
/// service sees `timeout`. `None` is no limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Timeouts {
    /// From accept to the end.
    pub age: Option<Duration>,
    /// Without a byte in either direction. 10 minutes at first: longer than a person
    /// hesitates, and shorter than a NAT forgets.
    pub idle: Option<Duration>,
    /// From the end of one direction to the end of the other.
    pub half_open: Option<Duration>,
    /// With something to send, of which the peer's system takes nothing. A minute at
    /// first: a peer that reads at all takes something sooner.
    pub write: Option<Duration>,
}

impl Default for Timeouts {
    fn default() -> Self {
        Timeouts {
            age: None,
            idle: Some(Duration::from_secs(600)),
            half_open: None,
            write: Some(Duration::from_secs(60)),
        }
    }
}

impl Timeouts {
    /// No limit at all.
    pub const NONE: Timeouts = Timeouts {
        age: None,
        idle: None,
        half_open: None,
        write: None,
    };

    /// How often to look, so that none is missed by much; `None` if there is none.
    pub(crate) fn period(&self) -> Option<Duration> {
        let shortest = [self.age, self.idle, self.half_open, self.write]
            .into_iter()
            .flatten()
            .min()?;
        Some((shortest / 8).clamp(Duration::from_millis(10), Duration::from_secs(1)))
    }
}

/// One of the [`Timeouts`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Limit {
    /// [`Timeouts::age`].
    Age,
    /// [`Timeouts::idle`].
    Idle,
    /// [`Timeouts::half_open`].
    HalfOpen,
    /// [`Timeouts::write`].
    Write,
}

/// One of the two ends of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Side {
    /// Whoever connected.
    Peer,
    /// The service.
    Service,
}

/// How a connection came to its end.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum Ending {
    /// Both sides sent FIN, or the service did and did not wait for the peer's.
    Fin,
    /// The peer, or the network: `connection-reset` is the peer's RST.
    Failed(ErrorCode),
    /// RST, by the service, or because a connection that it forwards has failed.
    Reset,
    /// RST, because the service returned an error.
    ServiceFailed,
    /// RST, because the service trapped.
    Trapped,
    /// RST, because the server stopped.
    Stopped,
    /// RST, because something took too long.
    Limit(Limit),
    /// It was not admitted, and no service has seen it: RST at once, or the end of the TLS
    /// handshake.
    Refused(Refusal),
}

impl Ending {
    /// Whether no service has seen the connection.
    #[must_use]
    pub fn is_refusal(&self) -> bool {
        matches!(self, Ending::Refused(_))
    }

    /// What the service sees of an end that it did not cause.
    pub(super) fn error(&self) -> ErrorCode {
        match self {
            Ending::Limit(_) => ErrorCode::Timeout,
            _ => ErrorCode::ConnectionAborted,
        }
    }
}

/// What became of a connection, told at its end.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Report {
    /// The other end.
    pub peer: SocketAddr,
    /// Bytes that came from the peer.
    pub received: u64,
    /// Bytes that went to it.
    pub sent: u64,
    /// From accept to the end.
    pub duration: Duration,
    /// Whose direction ended first, if one of them ended by FIN.
    pub first_end: Option<Side>,
    /// How it ended.
    pub ending: Ending,
}

/// What is noted of an accepted connection while it lasts. That it is dropped is its end.
pub(crate) struct Life {
    peer: SocketAddr,
    accepted: Instant,
    received: AtomicU64,
    sent: AtomicU64,
    /// 0 while both directions are open.
    first_end: AtomicU8,
    /// Something is to be sent, and the system does not take it.
    stalled: AtomicBool,
    ending: OnceLock<Ending>,
    seen: Mutex<Seen>,
    observers: Arc<Observers>,
}

/// How things were when they were looked at before.
#[derive(Debug)]
struct Seen {
    received: u64,
    sent: u64,
    half_open: bool,
    stalled: bool,
    /// Since when nothing was received or sent.
    idle: Instant,
    /// Since when one direction has ended and the other has not.
    half_open_since: Instant,
    /// Since when nothing that is to be sent was taken.
    stalled_since: Instant,
}

const PEER: u8 = 1;
const SERVICE: u8 = 2;

impl Life {
    pub(crate) fn new(peer: SocketAddr, observers: Arc<Observers>) -> Self {
        let now = Instant::now();
        Life {
            peer,
            accepted: now,
            received: AtomicU64::new(0),
            sent: AtomicU64::new(0),
            first_end: AtomicU8::new(0),
            stalled: AtomicBool::new(false),
            ending: OnceLock::new(),
            seen: Mutex::new(Seen {
                received: 0,
                sent: 0,
                half_open: false,
                stalled: false,
                idle: now,
                half_open_since: now,
                stalled_since: now,
            }),
            observers,
        }
    }

    pub(crate) fn peer(&self) -> SocketAddr {
        self.peer
    }

    /// Who it is in truth, behind a load balancer.
    pub(crate) fn set_peer(&mut self, peer: SocketAddr) {
        self.peer = peer;
    }

    pub(super) fn received(&self, bytes: usize) {
        self.received.fetch_add(bytes as u64, Ordering::Relaxed);
    }

    pub(super) fn sent(&self, bytes: usize) {
        self.sent.fetch_add(bytes as u64, Ordering::Relaxed);
        if self.stalled.load(Ordering::Relaxed) {
            self.stalled.store(false, Ordering::Relaxed);
        }
    }

    pub(super) fn stalled(&self) {
        self.stalled.store(true, Ordering::Relaxed);
    }

    /// A direction has ended by FIN: that of `side`.
    pub(super) fn ended(&self, side: Side) {
        let side = match side {
            Side::Peer => PEER,
            Side::Service => SERVICE,
        };
        // Only the first counts.
        let _ = self
            .first_end
            .compare_exchange(0, side, Ordering::Relaxed, Ordering::Relaxed);
    }

    /// Bytes so far: received, and sent.
    pub(super) fn bytes(&self) -> (u64, u64) {
        (
            self.received.load(Ordering::Relaxed),
            self.sent.load(Ordering::Relaxed),
        )
    }

    /// How it ended; what was noted first counts.
    pub(crate) fn ending(&self, ending: Ending) {
        let _ = self.ending.set(ending);
    }

    /// Which limit it has reached, if any. To be called again and again; `over` is
    /// whether both directions have ended.
    pub(super) fn overdue(&self, limits: &Timeouts, now: Instant, over: bool) -> Option<Limit> {
        if over {
            return None;
        }
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        let received = self.received.load(Ordering::Relaxed);
        let sent = self.sent.load(Ordering::Relaxed);
        let half_open = self.first_end.load(Ordering::Relaxed) != 0;
        let stalled = self.stalled.load(Ordering::Relaxed);
        if (received, sent) != (seen.received, seen.sent) {
            seen.idle = now;
        }
        if half_open && !seen.half_open {
            seen.half_open_since = now;
            // An end is a sign of life as well.
            seen.idle = now;
        }
        if stalled && (!seen.stalled || sent != seen.sent) {
            seen.stalled_since = now;
        }
        (seen.received, seen.sent) = (received, sent);
        (seen.half_open, seen.stalled) = (half_open, stalled);
        let reached = |limit: Option<Duration>, since: Instant| {
            limit.is_some_and(|limit| now.saturating_duration_since(since) >= limit)
        };
        if reached(limits.age, self.accepted) {
            Some(Limit::Age)
        } else if stalled && reached(limits.write, seen.stalled_since) {
            Some(Limit::Write)
        } else if half_open && reached(limits.half_open, seen.half_open_since) {
            Some(Limit::HalfOpen)
        } else if reached(limits.idle, seen.idle) {
            Some(Limit::Idle)
        } else {
            None
        }
    }
}

impl fmt::Debug for Life {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Life")
            .field("peer", &self.peer)
            .field("seen", &self.seen)
            .finish_non_exhaustive()
    }
}

impl Drop for Life {
    fn drop(&mut self) {
        let report = Report {
            peer: self.peer,
            received: *self.received.get_mut(),
            sent: *self.sent.get_mut(),
            duration: self.accepted.elapsed(),
            first_end: match *self.first_end.get_mut() {
                PEER => Some(Side::Peer),
                SERVICE => Some(Side::Service),
                _ => None,
            },
            ending: self.ending.take().unwrap_or(Ending::Fin),
        };
        self.observers.tell(|observer| observer.closed(&report));
    }
}

impl fmt::Display for Limit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Limit::Age => "age",
            Limit::Idle => "idle",
            Limit::HalfOpen => "half-open",
            Limit::Write => "write",
        })
    }
}

impl fmt::Display for Side {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Side::Peer => "peer",
            Side::Service => "service",
        })
    }
}

/// One word, for logs.
impl fmt::Display for Ending {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Ending::Fin => f.write_str("fin"),
            Ending::Failed(ErrorCode::ConnectionReset) => f.write_str("reset-by-peer"),
            Ending::Failed(_) => f.write_str("error"),
            Ending::Reset => f.write_str("reset-by-service"),
            Ending::ServiceFailed => f.write_str("service-error"),
            Ending::Trapped => f.write_str("trap"),
            Ending::Stopped => f.write_str("stopped"),
            Ending::Limit(limit) => write!(f, "limit-{limit}"),
            Ending::Refused(refusal) => write!(f, "refused-{refusal}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn life() -> Life {
        Life::new(SocketAddr::from(([192, 0, 2, 1], 7)), Arc::default())
    }

    #[test]
    fn bytes_in_either_direction_put_the_idle_limit_off() {
        let limits = Timeouts {
            idle: Some(10 * SECOND),
            ..Timeouts::NONE
        };
        let life = life();
        let start = Instant::now();
        life.received(1);
        assert_eq!(life.overdue(&limits, start + 9 * SECOND, false), None);
        assert_eq!(life.overdue(&limits, start + 18 * SECOND, false), None);
        life.sent(1);
        assert_eq!(life.overdue(&limits, start + 18 * SECOND, false), None);
        let late = start + 28 * SECOND;
        assert_eq!(life.overdue(&limits, late, true), None);
        assert_eq!(life.overdue(&limits, late, false), Some(Limit::Idle));
    }

    #[test]
    fn a_direction_left_open_is_limited_from_the_end_of_the_other() {
        let limits = Timeouts {
            half_open: Some(SECOND),
            ..Timeouts::NONE
        };
        let life = life();
        let start = Instant::now();
        assert_eq!(life.overdue(&limits, start + 100 * SECOND, false), None);
        life.ended(Side::Peer);
        assert_eq!(life.overdue(&limits, start + 100 * SECOND, false), None);
        life.received(1);
        let late = start + 101 * SECOND;
        assert_eq!(life.overdue(&limits, late, false), Some(Limit::HalfOpen));
    }

    #[test]
    fn a_write_is_late_only_without_any_progress() {
        let limits = Timeouts {
            write: Some(SECOND),
            ..Timeouts::NONE
        };
        let life = life();
        let start = Instant::now();
        for second in 0..10 {
            life.sent(1);
            life.stalled();
            assert_eq!(life.overdue(&limits, start + second * SECOND, false), None);
        }
        let late = start + 10 * SECOND;
        assert_eq!(life.overdue(&limits, late, false), Some(Limit::Write));
    }

    #[test]
    fn the_end_is_told_once_with_what_was_noted_first() {
        let told = Arc::new(Mutex::new(Vec::new()));
        let mut observers = Observers::default();
        let telling = told.clone();
        observers.add(move |report: &Report| telling.lock().unwrap().push(report.clone()));
        let life = Life::new(SocketAddr::from(([192, 0, 2, 1], 7)), Arc::new(observers));
        life.received(3);
        life.sent(2);
        life.ended(Side::Service);
        life.ended(Side::Peer);
        life.ending(Ending::Limit(Limit::Idle));
        life.ending(Ending::Fin);
        drop(life);
        let told = told.lock().unwrap();
        assert_eq!(told.len(), 1);
        assert_eq!((told[0].received, told[0].sent), (3, 2));
        assert_eq!(told[0].first_end, Some(Side::Service));
        assert_eq!(told[0].ending.to_string(), "limit-idle");
    }
}
