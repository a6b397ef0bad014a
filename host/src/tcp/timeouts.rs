//! Limits on the time that a connection takes.

use std::fmt;
use std::time::Duration;

/// Limits on the time that a connection takes; `None` is no limit.
///
/// A connection that reaches a limit is reset, and its service sees
/// [`ErrorCode::Timeout`](super::ErrorCode::Timeout) (rule C7). Limits are checked
/// periodically, so a connection may exceed one by up to 2 seconds.
///
/// ```
/// use std::time::Duration;
///
/// use halfopen::tcp::Timeouts;
///
/// let mut timeouts = Timeouts::default();
/// timeouts.age = Some(Duration::from_secs(3600));
/// timeouts.idle = None;
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Timeouts {
    /// The time from accept until both directions have ended. Default: no limit.
    pub age: Option<Duration>,
    /// The time without a byte in either direction. Default: 10 minutes, which is longer
    /// than people pause at a terminal and shorter than most NATs keep an idle mapping.
    ///
    /// On Linux, a byte that the peer's kernel acknowledges counts as well.
    pub idle: Option<Duration>,
    /// The time from the end of one direction until the end of the other. Default: no
    /// limit.
    pub half_open: Option<Duration>,
    /// The time for which there is data to send and the peer takes none of it. Default: 1
    /// minute; a peer that reads at all opens its window sooner.
    ///
    /// On Linux, the peer takes data when its kernel acknowledges it, so that a peer that
    /// reads slowly and steadily stays below the limit. On other systems it takes data when
    /// the own kernel accepts some, which may come long after the peer has made room: the
    /// limit has to be longer there than a peer takes to read a third of the send buffer.
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
    /// No limits.
    pub const NONE: Timeouts = Timeouts {
        age: None,
        idle: None,
        half_open: None,
        write: None,
    };

    /// How often connections are checked: 8 times within the shortest limit, but between
    /// every 10 ms and every second. Without limits, the check finds only ends that nobody
    /// waits for.
    pub(super) fn period(&self) -> Duration {
        const LONGEST: Duration = Duration::from_secs(1);
        [self.age, self.idle, self.half_open, self.write]
            .into_iter()
            .flatten()
            .min()
            .map_or(LONGEST, |shortest| {
                (shortest / 8).clamp(Duration::from_millis(10), LONGEST)
            })
    }
}

/// Names one of the [`Timeouts`].
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
    /// The time of a TLS handshake that the service has begun, which is none of the [`Timeouts`]:
    /// see `TcpCtxBuilder::handshake_timeout`.
    Handshake,
}

impl Limit {
    /// The name of the limit, in one word.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Limit::Age => "age",
            Limit::Idle => "idle",
            Limit::HalfOpen => "half-open",
            Limit::Write => "write",
            Limit::Handshake => "handshake",
        }
    }
}

/// One word, for logs.
impl fmt::Display for Limit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}
