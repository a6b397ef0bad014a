//! What a guest was denied.

use std::fmt;
use std::net::SocketAddr;

use super::policy::is_private;

/// What a guest tried to use and was not granted.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Denied {
    /// To listen on this address.
    Listen(SocketAddr),
    /// To connect.
    #[non_exhaustive]
    Connect {
        /// The remote address.
        address: SocketAddr,
        /// Whether the address is of a private network, which a rule has to name (see
        /// [`Policy::allow_connect`](super::Policy::allow_connect)).
        private: bool,
    },
    /// To look up this name.
    Lookup(String),
    /// To connect to a port of a name.
    #[non_exhaustive]
    ConnectName {
        /// The name.
        name: String,
        /// The port.
        port: u16,
    },
    /// Anything else.
    #[non_exhaustive]
    Other {
        /// The grant that is missing, one of [`Denied::KINDS`].
        what: &'static str,
        /// What the guest may not do, as in "the component may not keep state".
        text: String,
    },
}

impl Denied {
    /// The kinds of grants that can be missing: what [`what`](Self::what) returns.
    pub const KINDS: &[&str] = &[
        "connect", "listen", "lookup", "files", "running", "secure", "state", "topics",
    ];

    /// A denied attempt to connect to `address`.
    pub(crate) fn connect(address: SocketAddr) -> Self {
        Denied::Connect {
            address,
            private: is_private(address.ip()),
        }
    }

    /// A denial of the kind `what`, one of [`Denied::KINDS`]. `text` says what the guest may
    /// not do; it is logged once an hour, so it should not vary more than what is denied.
    pub(crate) fn other(what: &'static str, text: impl Into<String>) -> Self {
        let text = text.into();
        Denied::Other { what, text }
    }

    /// Returns the kind of grant that is missing, one of [`Denied::KINDS`].
    #[must_use]
    pub fn what(&self) -> &'static str {
        match self {
            Denied::Listen(_) => "listen",
            Denied::Connect { .. } | Denied::ConnectName { .. } => "connect",
            Denied::Lookup(_) => "lookup",
            Denied::Other { what, .. } => what,
        }
    }
}

impl fmt::Display for Denied {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Denied::Listen(address) => write!(f, "the component may not listen on {address}"),
            Denied::Connect { address, private } => {
                write!(f, "the component may not connect to {address}")?;
                if *private {
                    f.write_str(", which is private")?;
                }
                Ok(())
            }
            Denied::Lookup(name) => write!(f, "the component may not look up {name}"),
            Denied::ConnectName { name, port } => {
                write!(f, "the component may not connect to {name}:{port}")
            }
            Denied::Other { text, .. } => f.write_str(text),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_denial_says_whether_the_address_is_private() {
        let denied = |address: &str| Denied::connect(address.parse().unwrap()).to_string();
        assert_eq!(
            denied("10.1.2.3:80"),
            "the component may not connect to 10.1.2.3:80, which is private"
        );
        assert_eq!(
            denied("192.0.2.1:80"),
            "the component may not connect to 192.0.2.1:80"
        );
    }
}
