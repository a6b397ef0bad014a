//! How a connection ends, and which side ends it.

use std::fmt;

use super::{ErrorCode, Limit};

/// One of the two ends of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Side {
    /// The remote end.
    Peer,
    /// The local end: the guest that the connection was handed to.
    Service,
}

/// How a connection ended.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum Ending {
    /// Both sides sent FIN, or the service sent FIN and stopped waiting for the peer's.
    Fin,
    /// The connection failed, because of the peer or the network;
    /// [`ErrorCode::ConnectionReset`] is a RST from the peer.
    Failed(ErrorCode),
    /// The service reset the connection, or the source that it forwards failed.
    Reset,
    /// The connection was reset because the service returned an error.
    ServiceFailed,
    /// The connection was reset because the service trapped.
    Trapped,
    /// The connection was reset because its host stopped.
    Stopped,
    /// The connection was reset because it reached a limit.
    Limit(Limit),
    /// The connection was reset to make room for a new one: it was the least active.
    Displaced,
    /// The operator has reset the connection.
    Operator,
    /// The connection was reset because what its service had written, and its peer did not
    /// take, had no more room in the service's memory.
    Unsent,
    /// The connection was reset because data in the clear came behind the request for TLS.
    ClearText,
    /// Another process goes on with the connection, whose bytes only pass through.
    HandedOver,
}

/// The error of a connection on which data in the clear came behind the request for TLS.
const CLEAR_TEXT: &str = "data in the clear came behind the request for TLS";

impl Ending {
    /// The error that the service sees when its host ends the connection this way.
    pub(super) fn error(&self) -> ErrorCode {
        match self {
            Ending::Limit(_) => ErrorCode::Timeout,
            Ending::Unsent => ErrorCode::OutOfMemory,
            Ending::ClearText => ErrorCode::Other(Some(CLEAR_TEXT.to_owned())),
            _ => ErrorCode::ConnectionAborted,
        }
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
            Ending::Displaced => f.write_str("displaced"),
            Ending::Operator => f.write_str("reset-by-operator"),
            Ending::Unsent => f.write_str("limit-unsent"),
            Ending::ClearText => f.write_str("clear-text"),
            Ending::HandedOver => f.write_str("handed-over"),
        }
    }
}

/// One word, for logs.
impl fmt::Display for Side {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Side::Peer => "peer",
            Side::Service => "service",
        })
    }
}
