//! Problems of a running component that an operator can solve.

use std::fmt;
use std::io;
use std::time::Duration;

use rustix::io::Errno;

use crate::tcp::Denied;

/// A problem of a running component that its operator can solve.
///
/// The text states the fact alone. What to do about it depends on the embedder: which
/// flag or setting raises the limit. [`Grants::advice`](crate::Grants::advice) supplies that
/// part of the log line.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum Problem {
    /// The component tried to use what it was not granted, such as an address that its
    /// [`Policy`](crate::Policy) does not allow.
    Denied(Denied),
    /// The component computed for this long without waiting, and trapped: see
    /// [`Grants::max_compute`](crate::Grants::max_compute).
    ComputeLimit(Duration),
    /// This many calls of a shared instance went on long after their connections, and the
    /// instance was ended: see
    /// [`ServerBuilder::background_timeout`](crate::ServerBuilder::background_timeout).
    BackgroundCalls(usize),
    /// The kernel has no memory mapping left for another instance (`ENOMEM`). Linux limits
    /// the mappings of a process by the sysctl `vm.max_map_count`, and each instance takes
    /// several.
    OutOfMappings,
}

impl Problem {
    /// Returns the problem that made an instance fail, if the error has one.
    #[must_use]
    pub fn of(error: &wasmtime::Error) -> Option<Self> {
        let cause = error.root_cause();
        if let Some(&ComputedTooLong(limit)) = cause.downcast_ref() {
            return Some(Problem::ComputeLimit(limit));
        }
        if let Some(&TooManyCalls(calls)) = cause.downcast_ref() {
            return Some(Problem::BackgroundCalls(calls));
        }
        let errno = cause.downcast_ref().and_then(io::Error::raw_os_error);
        (errno == Some(Errno::NOMEM.raw_os_error())).then_some(Problem::OutOfMappings)
    }

    /// Returns the text of the problem with what to do about it, which may be empty.
    pub(super) fn with_advice(&self, advice: &str) -> String {
        match advice {
            "" => self.to_string(),
            advice => format!("{self}; {advice}"),
        }
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Problem::Denied(denied) => write!(f, "denied: {denied}"),
            Problem::ComputeLimit(limit) => ComputedTooLong(*limit).fmt(f),
            Problem::BackgroundCalls(calls) => TooManyCalls(*calls).fmt(f),
            Problem::OutOfMappings => {
                let error = io::Error::from(Errno::NOMEM);
                write!(f, "{error}: each instance takes some memory mappings")
            }
        }
    }
}

/// The trap of a component that computes for too long.
#[derive(Clone, Copy, Debug, thiserror::Error)]
#[error("it computed for {} s without waiting", .0.as_secs_f64())]
pub(super) struct ComputedTooLong(pub(super) Duration);

/// The end of a shared instance with too many calls that go on after their connections.
#[derive(Clone, Copy, Debug, thiserror::Error)]
#[error("{0} of its calls go on long after their connections")]
pub(crate) struct TooManyCalls(pub(crate) usize);
