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
        match text.strip_prefix("*:") {
            Some(port_text) => port(port_text).map(Listen::DualStack),
            None => socket_address(text).map(Listen::At),
        }
    }
}

impl Listen {
    /// Whether the kernel lets only one socket of the two listen (ip(7), ipv6(7)): the ports
    /// are the same, and one address is the other or contains it. Port 0 is never the same.
    pub(crate) fn overlaps(self, other: Listen) -> bool {
        if self.port() != other.port() || self.port() == 0 {
            return false;
        }
        let (Listen::At(one), Listen::At(other)) = (self, other) else {
            return true;
        };
        let any = one.ip().is_unspecified() || other.ip().is_unspecified();
        one.is_ipv4() == other.is_ipv4() && (any || one.ip() == other.ip())
    }

    fn port(self) -> u16 {
        match self {
            Listen::At(address) => address.port(),
            Listen::DualStack(port) => port,
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

/// Parses an IP address and a port. A port alone, also as `:PORT` or `localhost:PORT`, is on
/// 127.0.0.1. An error says which part is wrong.
pub(crate) fn socket_address(text: &str) -> Result<SocketAddr, String> {
    if let Ok(address) = text.parse() {
        return Ok(address);
    }
    let on_loopback = text
        .strip_prefix("localhost:")
        .or_else(|| text.strip_prefix(':'))
        .or_else(|| is_number(text).then_some(text));
    if let Some(port_text) = on_loopback {
        return Ok((Ipv4Addr::LOCALHOST, port(port_text)?).into());
    }
    let example = "write a port, which is on 127.0.0.1, or an IP address and a port, \
        such as 192.0.2.1:1234 or [::1]:1234";
    let bare = text.trim_start_matches('[').trim_end_matches(']');
    if bare == "localhost" || bare.parse::<IpAddr>().is_ok() {
        return Err(format!("the port is missing; {example}"));
    }
    match text.rsplit_once(':') {
        Some((host, port_text)) if format!("{host}:0").parse::<SocketAddr>().is_ok() => {
            Err(not_a_port(port_text))
        }
        Some((host, port_text)) if is_number(port_text) && !host.contains([':', '[', '*']) => Err(
            format!("`{host}` is not an IP address, and names are not looked up; {example}"),
        ),
        _ => Err(example.to_owned()),
    }
}

fn is_number(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit())
}

fn port(text: &str) -> Result<u16, String> {
    text.parse().map_err(|_| not_a_port(text))
}

fn not_a_port(text: &str) -> String {
    format!("`{text}` is not a port; ports go from 0 (any free one) to 65535")
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
        assert!(error("localhost").contains("port is missing"));
        assert!(error("example.org:80").contains("`example.org` is not an IP address"));
        assert!(error(":http").contains("`http` is not a port"));
        assert!(error("*:70000").contains("`70000` is not a port"));
        assert!(error("70000").contains("`70000` is not a port"));
        assert!(error("1234x").contains("write a port"));
    }

    #[test]
    fn a_port_alone_is_on_loopback() {
        let loopback = Ok(Listen::At(([127, 0, 0, 1], 1234).into()));
        for text in ["1234", ":1234", "localhost:1234", "127.0.0.1:1234"] {
            assert_eq!(text.parse(), loopback, "{text}");
        }
    }

    #[test]
    fn addresses_overlap_where_the_kernel_refuses_the_second() {
        let overlap = |one: &str, other: &str| {
            let (one, other): (Listen, Listen) = (one.parse().unwrap(), other.parse().unwrap());
            assert_eq!(one.overlaps(other), other.overlaps(one));
            one.overlaps(other)
        };
        assert!(overlap("127.0.0.1:1", ":1"));
        assert!(overlap("0.0.0.0:1", "127.0.0.1:1"));
        assert!(overlap("[::]:1", "[::1]:1"));
        assert!(overlap("*:1", "192.0.2.1:1"));
        assert!(!overlap("[::]:1", "0.0.0.0:1"));
        assert!(!overlap("127.0.0.1:1", "127.0.0.2:1"));
        assert!(!overlap("127.0.0.1:1", "127.0.0.1:2"));
        assert!(!overlap("127.0.0.1:0", "127.0.0.1:0"));
    }
}
