//! The addresses that `--listen` takes.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, SocketAddrV4};
use std::str::FromStr;

/// An address to listen on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Listen {
    /// One address and port.
    At(SocketAddr),
    /// A port on all addresses of IPv6 and IPv4, with a single socket.
    DualStack(u16),
}

/// The address to listen on when neither a flag nor systemd gives one.
pub(crate) const DEFAULT: Listen =
    Listen::At(SocketAddr::V4(SocketAddrV4::new(Ipv4Addr::LOCALHOST, 1234)));

impl FromStr for Listen {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text.strip_prefix("*:").map(str::parse) {
            Some(Ok(port)) => Ok(Listen::DualStack(port)),
            _ => socket_address(text).map(Listen::At),
        }
    }
}

impl fmt::Display for Listen {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Listen::At(address) => write!(f, "{address}"),
            Listen::DualStack(port) => write!(f, "*:{port}"),
        }
    }
}

/// Parses an IP address and a port; an error says which of the two is wrong.
fn socket_address(text: &str) -> Result<SocketAddr, String> {
    if let Ok(address) = text.parse() {
        return Ok(address);
    }
    let example = "write an IP address and a port, such as 127.0.0.1:1234 or [::1]:1234";
    let bare = text.trim_start_matches('[').trim_end_matches(']');
    if bare.parse::<IpAddr>().is_ok() {
        return Err(format!("the port is missing; {example}"));
    }
    match text.rsplit_once(':') {
        Some((host, port)) if format!("{host}:0").parse::<SocketAddr>().is_ok() => Err(format!(
            "`{port}` is not a port; ports go from 0 (any free one) to 65535"
        )),
        _ => Err(example.to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn error(text: &str) -> String {
        text.parse::<Listen>().unwrap_err()
    }

    #[test]
    fn a_star_means_every_address() {
        assert_eq!("*:80".parse(), Ok(Listen::DualStack(80)));
        assert!("*:x".parse::<Listen>().is_err());
        assert!("*".parse::<Listen>().is_err());
    }

    #[test]
    fn an_error_names_the_part_that_is_wrong() {
        assert!("127.0.0.1:0".parse::<Listen>().is_ok());
        assert!("[::1]:80".parse::<Listen>().is_ok());
        assert!(error("127.0.0.1:65536").contains("`65536` is not a port"));
        assert!(error("127.0.0.1").contains("port is missing"));
        assert!(error("[::1]").contains("port is missing"));
        assert!(error("localhost:80").contains("IP address"));
    }
}
