//! What became of a connection, and of a server.

use std::fmt;
use std::net::SocketAddr;
use std::time::Duration;

use crate::tcp::{Ending, Side};

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
    /// All places are taken, and [`AtLimit::Refuse`](crate::AtLimit::Refuse) is set.
    Full,
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

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Refusal::Denied => "denied",
            Refusal::Full => "full",
            Refusal::TooMany => "per-peer",
            Refusal::TooOften => "rate",
            Refusal::Untrusted => "untrusted",
            Refusal::ProxyHeader => "proxy-header",
            Refusal::Handshake => "tls",
        })
    }
}
