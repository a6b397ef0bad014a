//! What became of a connection, and of a server.

use std::fmt;
use std::net::SocketAddr;
use std::time::Duration;

use crate::tcp::{Ending, ErrorCode, Limit, Side};

/// A connection that is handed to the service.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Accepted {
    /// The number of the connection, which no other connection of this process has. Its
    /// [`Report`] has the same one.
    pub id: u64,
    /// The peer's address; behind a load balancer, the address that the balancer named.
    pub peer: SocketAddr,
}

/// What became of a connection, reported when it has closed for good.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Report {
    /// The number of the connection, which no other connection of this process has.
    pub id: u64,
    /// The peer's address; behind a load balancer, the address that the balancer named.
    pub peer: SocketAddr,
    /// Bytes received from the peer.
    pub received: u64,
    /// Bytes sent to the peer.
    pub sent: u64,
    /// The time from accept to the end.
    pub duration: Duration,
    /// The side whose direction ended first, if either ended by FIN.
    pub first_end: Option<Side>,
    /// How the connection ended.
    pub outcome: Outcome,
}

/// How a connection came to its end. Its text is one word, for logs and metrics.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum Outcome {
    /// The service had the connection.
    Served(Ending),
    /// The server did not admit the connection: it was reset, or its TLS handshake failed.
    Refused(Refusal),
}

/// The reason why a connection was not admitted. Its text is one word.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Refusal {
    /// [`Peers`](crate::Peers) does not admit the peer.
    Denied,
    /// All places are taken, and [`AtLimit::Refuse`](crate::AtLimit::Refuse) is set; or the
    /// system cannot watch another connection.
    Full,
    /// Too many connections were arriving at once, and this one had waited longest for its
    /// peer's PROXY protocol header or TLS handshake.
    Displaced,
    /// The peer is banned for some time: [`Bans`](crate::Bans).
    Banned,
    /// The peer has as many connections as one peer may have.
    TooMany,
    /// The peer connects more often than one peer may.
    TooOften,
    /// The connection does not come from a load balancer that the server trusts for
    /// [`ProxyProtocol`](crate::ProxyProtocol) headers.
    Untrusted,
    /// The PROXY protocol header is missing, malformed or late.
    ProxyHeader,
    /// The TLS handshake failed, or was not done in time.
    Handshake,
    /// The server stopped before the connection was admitted.
    Stopped,
}

/// What a server did, when it has ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Summary {
    /// Connections that were handed to the service.
    pub accepted: u64,
    /// Connections that were reset because they were still open at the end of the grace
    /// time.
    pub aborted: usize,
}

impl Outcome {
    /// Returns every outcome once, for counters that begin at zero. Outcomes with the same
    /// text are one.
    pub fn all() -> impl Iterator<Item = Outcome> {
        let endings = [
            Ending::Fin,
            Ending::Failed(ErrorCode::ConnectionReset),
            Ending::Failed(ErrorCode::Other(None)),
            Ending::Reset,
            Ending::ServiceFailed,
            Ending::Trapped,
            Ending::Stopped,
            Ending::Displaced,
            Ending::Operator,
            Ending::Unsent,
            Ending::ClearText,
            Ending::HandedOver,
        ];
        let limits = [
            Limit::Age,
            Limit::Idle,
            Limit::HalfOpen,
            Limit::Write,
            Limit::Handshake,
        ];
        let refusals = [
            Refusal::Denied,
            Refusal::Full,
            Refusal::Displaced,
            Refusal::Banned,
            Refusal::TooMany,
            Refusal::TooOften,
            Refusal::Untrusted,
            Refusal::ProxyHeader,
            Refusal::Handshake,
            Refusal::Stopped,
        ];
        let endings = endings.into_iter().chain(limits.map(Ending::Limit));
        let served = endings.map(Outcome::Served);
        served.chain(refusals.map(Outcome::Refused))
    }

    /// Returns whether the server refused the connection, so that no service has seen it.
    #[must_use]
    pub fn is_refusal(&self) -> bool {
        matches!(self, Outcome::Refused(_))
    }
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Outcome::Served(ending) => ending.fmt(f),
            Outcome::Refused(refusal) => write!(f, "refused-{refusal}"),
        }
    }
}

impl Refusal {
    /// Says in a few words why the connection was refused.
    #[must_use]
    pub fn reason(self) -> &'static str {
        match self {
            Refusal::Denied => "the peer's address is not admitted",
            Refusal::Full => "all places are taken",
            Refusal::Displaced => "it waited longest when too many connections were arriving",
            Refusal::Banned => "the peer is banned for some time",
            Refusal::TooMany => "the peer has as many connections as one peer may have",
            Refusal::TooOften => "the peer connects more often than one peer may",
            Refusal::Untrusted => "the peer is not a trusted load balancer",
            Refusal::ProxyHeader => "the PROXY protocol header is missing, malformed or late",
            Refusal::Handshake => "the TLS handshake failed or was late",
            Refusal::Stopped => "the server is stopping",
        }
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Refusal::Denied => "denied",
            Refusal::Full => "full",
            Refusal::Displaced => "displaced",
            Refusal::Banned => "banned",
            Refusal::TooMany => "per-peer",
            Refusal::TooOften => "rate",
            Refusal::Untrusted => "untrusted",
            Refusal::ProxyHeader => "proxy-header",
            Refusal::Handshake => "tls",
            Refusal::Stopped => "stopped",
        })
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    /// Counts the variants. A new one does not compile until it is counted here, and the
    /// test then fails until `Outcome::all` has it.
    fn count() -> usize {
        match Ending::Fin {
            Ending::Fin
            | Ending::Failed(_)
            | Ending::Reset
            | Ending::ServiceFailed
            | Ending::Trapped
            | Ending::Stopped
            | Ending::Displaced
            | Ending::Operator
            | Ending::Unsent
            | Ending::ClearText
            | Ending::HandedOver
            | Ending::Limit(
                Limit::Age | Limit::Idle | Limit::HalfOpen | Limit::Write | Limit::Handshake,
            ) => {}
        }
        match Refusal::Denied {
            Refusal::Denied
            | Refusal::Full
            | Refusal::Displaced
            | Refusal::Banned
            | Refusal::TooMany
            | Refusal::TooOften
            | Refusal::Untrusted
            | Refusal::ProxyHeader
            | Refusal::Handshake
            | Refusal::Stopped => {}
        }
        // `Failed` has two texts.
        12 + 5 + 10
    }

    #[test]
    fn all_outcomes_are_listed() {
        let texts: BTreeSet<_> = Outcome::all().map(|outcome| outcome.to_string()).collect();
        assert_eq!(texts.len(), count(), "{texts:?}");
    }
}
