//! Errors of socket operations.

use std::{error, fmt, io};

pub use crate::bindings::imports::halfopen::tcp::types::ErrorCode;

/// The reason why a socket operation failed: an [`ErrorCode`] of the contract, with a
/// message for people.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Error {
    code: ErrorCode,
}

impl Error {
    /// Returns the contract's code.
    #[must_use]
    pub fn code(&self) -> &ErrorCode {
        &self.code
    }

    /// Returns the name that POSIX and Node use, such as `ECONNRESET`; `EIO` for an error
    /// that has no name there.
    #[must_use]
    pub fn name(&self) -> &'static str {
        match self.code {
            ErrorCode::AccessDenied => "EACCES",
            ErrorCode::NotSupported => "EOPNOTSUPP",
            ErrorCode::InvalidArgument | ErrorCode::InvalidState => "EINVAL",
            ErrorCode::OutOfMemory => "ENOMEM",
            ErrorCode::Timeout => "ETIMEDOUT",
            ErrorCode::AddressNotBindable => "EADDRNOTAVAIL",
            ErrorCode::AddressInUse => "EADDRINUSE",
            ErrorCode::RemoteUnreachable => "EHOSTUNREACH",
            ErrorCode::ConnectionRefused => "ECONNREFUSED",
            ErrorCode::ConnectionBroken => "EPIPE",
            ErrorCode::ConnectionReset => "ECONNRESET",
            ErrorCode::ConnectionAborted => "ECONNABORTED",
            ErrorCode::DatagramTooLarge => "EMSGSIZE",
            ErrorCode::Other(_) => "EIO",
        }
    }
}

impl From<ErrorCode> for Error {
    fn from(code: ErrorCode) -> Self {
        Error { code }
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match &self.code {
            ErrorCode::AccessDenied => {
                "access denied: the host does not grant this address, or the system does not permit it"
            }
            ErrorCode::NotSupported => "not supported by this host",
            ErrorCode::InvalidArgument => "invalid argument",
            ErrorCode::OutOfMemory => "out of memory",
            ErrorCode::Timeout => "timed out",
            ErrorCode::InvalidState => "invalid state: it was used or has ended before",
            ErrorCode::AddressNotBindable => "address not available: not one of this host's",
            ErrorCode::AddressInUse => "address already in use",
            ErrorCode::RemoteUnreachable => "no route to the peer",
            ErrorCode::ConnectionRefused => "connection refused",
            ErrorCode::ConnectionBroken => "broken pipe: the peer has gone",
            ErrorCode::ConnectionReset => "connection reset by the peer",
            ErrorCode::ConnectionAborted => "connection aborted on this side",
            ErrorCode::DatagramTooLarge => "datagram too large",
            ErrorCode::Other(Some(text)) => text,
            ErrorCode::Other(None) => "input/output error",
        })
    }
}

impl error::Error for Error {}

impl From<Error> for io::Error {
    fn from(error: Error) -> Self {
        let kind = match error.code {
            ErrorCode::AccessDenied => io::ErrorKind::PermissionDenied,
            ErrorCode::NotSupported => io::ErrorKind::Unsupported,
            ErrorCode::InvalidArgument | ErrorCode::InvalidState => io::ErrorKind::InvalidInput,
            ErrorCode::OutOfMemory => io::ErrorKind::OutOfMemory,
            ErrorCode::Timeout => io::ErrorKind::TimedOut,
            ErrorCode::AddressNotBindable => io::ErrorKind::AddrNotAvailable,
            ErrorCode::AddressInUse => io::ErrorKind::AddrInUse,
            ErrorCode::RemoteUnreachable => io::ErrorKind::HostUnreachable,
            ErrorCode::ConnectionRefused => io::ErrorKind::ConnectionRefused,
            ErrorCode::ConnectionBroken => io::ErrorKind::BrokenPipe,
            ErrorCode::ConnectionReset => io::ErrorKind::ConnectionReset,
            ErrorCode::ConnectionAborted => io::ErrorKind::ConnectionAborted,
            ErrorCode::DatagramTooLarge | ErrorCode::Other(_) => io::ErrorKind::Other,
        };
        io::Error::new(kind, error)
    }
}
