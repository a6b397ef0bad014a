//! Conversion of the operating system's errors to error codes of `halfopen:tcp`.

use std::io;

pub use super::bindings::halfopen::tcp::types::ErrorCode;
use rustix::io::Errno;

impl ErrorCode {
    /// The name of the error in WIT; for [`ErrorCode::Other`], the operating system's
    /// message if there is one.
    #[must_use]
    pub fn reason(&self) -> &str {
        match self {
            ErrorCode::Other(Some(text)) => text,
            other => other.code(),
        }
    }

    /// Whether the peer has sent RST. After its FIN, Linux reports that as EPIPE.
    pub(crate) fn is_reset(&self) -> bool {
        matches!(
            self,
            ErrorCode::ConnectionReset | ErrorCode::ConnectionBroken
        )
    }

    /// The name of the error in WIT.
    pub(super) fn code(&self) -> &'static str {
        match self {
            ErrorCode::AccessDenied => "access-denied",
            ErrorCode::NotSupported => "not-supported",
            ErrorCode::InvalidArgument => "invalid-argument",
            ErrorCode::OutOfMemory => "out-of-memory",
            ErrorCode::Timeout => "timeout",
            ErrorCode::InvalidState => "invalid-state",
            ErrorCode::AddressNotBindable => "address-not-bindable",
            ErrorCode::AddressInUse => "address-in-use",
            ErrorCode::RemoteUnreachable => "remote-unreachable",
            ErrorCode::ConnectionRefused => "connection-refused",
            ErrorCode::ConnectionBroken => "connection-broken",
            ErrorCode::ConnectionReset => "connection-reset",
            ErrorCode::ConnectionAborted => "connection-aborted",
            ErrorCode::DatagramTooLarge => "datagram-too-large",
            ErrorCode::Other(_) => "other",
        }
    }

    /// What the error of a connection means.
    pub(crate) fn words(&self) -> String {
        match self {
            ErrorCode::Timeout => "the peer's host does not answer any more".to_owned(),
            ErrorCode::RemoteUnreachable => "the peer's host cannot be reached any more".to_owned(),
            other => other.reason().to_owned(),
        }
    }
}

impl From<&io::Error> for ErrorCode {
    fn from(error: &io::Error) -> Self {
        match Errno::from_io_error(error) {
            Some(errno) => ErrorCode::from(errno),
            None => ErrorCode::Other(Some(error.to_string())),
        }
    }
}

impl From<io::Error> for ErrorCode {
    fn from(error: io::Error) -> Self {
        ErrorCode::from(&error)
    }
}

impl From<Errno> for ErrorCode {
    /// Converts by the table of `wasi:sockets/types@0.3.0`. Values of errno that TCP cannot
    /// produce become [`ErrorCode::Other`].
    fn from(errno: Errno) -> Self {
        match errno {
            Errno::ACCESS | Errno::PERM => ErrorCode::AccessDenied,
            Errno::OPNOTSUPP | Errno::NOPROTOOPT | Errno::PFNOSUPPORT | Errno::PROTONOSUPPORT => {
                ErrorCode::NotSupported
            }
            Errno::INVAL | Errno::DESTADDRREQ | Errno::AFNOSUPPORT => ErrorCode::InvalidArgument,
            Errno::NOMEM | Errno::NOBUFS => ErrorCode::OutOfMemory,
            Errno::TIMEDOUT => ErrorCode::Timeout,
            Errno::NOTCONN | Errno::ISCONN | Errno::ALREADY => ErrorCode::InvalidState,
            Errno::ADDRNOTAVAIL => ErrorCode::AddressNotBindable,
            Errno::ADDRINUSE => ErrorCode::AddressInUse,
            Errno::HOSTUNREACH | Errno::NETUNREACH | Errno::NETDOWN => ErrorCode::RemoteUnreachable,
            #[cfg(target_os = "linux")]
            Errno::HOSTDOWN | Errno::NONET => ErrorCode::RemoteUnreachable,
            Errno::CONNREFUSED => ErrorCode::ConnectionRefused,
            Errno::PIPE => ErrorCode::ConnectionBroken,
            Errno::CONNRESET => ErrorCode::ConnectionReset,
            Errno::CONNABORTED => ErrorCode::ConnectionAborted,
            Errno::MSGSIZE => ErrorCode::DatagramTooLarge,
            other => ErrorCode::Other(Some(io::Error::from(other).to_string())),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_errno_of_tcp_becomes_its_code() {
        let code = |errno: Errno| ErrorCode::from(io::Error::from(errno));
        assert!(matches!(code(Errno::CONNRESET), ErrorCode::ConnectionReset));
        assert!(matches!(code(Errno::PIPE), ErrorCode::ConnectionBroken));
        assert!(matches!(code(Errno::PERM), ErrorCode::AccessDenied));
        assert!(matches!(code(Errno::ADDRINUSE), ErrorCode::AddressInUse));
    }

    #[test]
    fn any_other_errno_keeps_the_systems_message() {
        let ErrorCode::Other(Some(text)) = ErrorCode::from(Errno::MFILE) else {
            panic!("EMFILE must be `other`");
        };
        assert!(text.contains("Too many open files"), "{text}");
    }
}
