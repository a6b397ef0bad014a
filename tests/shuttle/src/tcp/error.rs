//! The error codes that a socket uses.

use std::io::{Error, ErrorKind};

/// An error of a connection.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ErrorCode {
    /// A limit.
    Timeout,
    /// No room for what is not sent.
    OutOfMemory,
    /// The connection has ended.
    InvalidState,
    /// EPIPE.
    ConnectionBroken,
    /// ECONNRESET.
    ConnectionReset,
    /// A reset by our side.
    ConnectionAborted,
    /// Anything else.
    Other(Option<String>),
}

impl ErrorCode {
    pub(crate) fn is_reset(&self) -> bool {
        matches!(
            self,
            ErrorCode::ConnectionReset | ErrorCode::ConnectionBroken
        )
    }

    pub(super) fn code(&self) -> &'static str {
        "error"
    }

    pub(crate) fn words(&self) -> String {
        format!("{self:?}")
    }
}

impl From<Error> for ErrorCode {
    fn from(error: Error) -> Self {
        match error.kind() {
            ErrorKind::BrokenPipe => ErrorCode::ConnectionBroken,
            ErrorKind::ConnectionReset => ErrorCode::ConnectionReset,
            ErrorKind::ConnectionAborted => ErrorCode::ConnectionAborted,
            _ => ErrorCode::Other(Some(error.to_string())),
        }
    }
}
