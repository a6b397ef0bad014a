//! Addresses at the prompt.

use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, SocketAddrV4};

use anyhow::anyhow;
use rustix::io::Errno;
use tokio::net::TcpListener;

/// Where to listen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Listen {
    /// On one address.
    At(SocketAddr),
    /// On all addresses of IPv6 and IPv4, with one socket.
    DualStack(u16),
}

/// Where it listens if nothing is said.
pub(super) const DEFAULT: Listen =
    Listen::At(SocketAddr::V4(SocketAddrV4::new(Ipv4Addr::LOCALHOST, 1234)));

impl Listen {
    pub(super) fn parse(text: &str) -> Result<Self, String> {
        match text.strip_prefix("*:").map(str::parse) {
            Some(Ok(port)) => Ok(Listen::DualStack(port)),
            _ => parse(text).map(Listen::At),
        }
    }

    /// Binds and listens.
    pub(super) fn bind(self) -> anyhow::Result<TcpListener> {
        match self {
            Listen::At(address) => halfopen::tcp::bind(address, None)
                .map_err(|error| listen_error(&address.to_string(), &error)),
            Listen::DualStack(port) => halfopen::tcp::bind_dual_stack(port, None)
                .map_err(|error| listen_error(&format!("*:{port}"), &error)),
        }
    }
}

fn parse(text: &str) -> Result<SocketAddr, String> {
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

/// Says why an address cannot be listened on, and what to do.
fn listen_error(address: &str, error: &io::Error) -> anyhow::Error {
    let why = match Errno::from_io_error(error) {
        Some(Errno::ADDRINUSE) => {
            "address already in use; stop the other program, or choose another port (0 for any free one)".into()
        }
        Some(Errno::ACCESS | Errno::PERM) => {
            "permission denied; choose a port from 1024 on, or grant the capability CAP_NET_BIND_SERVICE".into()
        }
        Some(Errno::ADDRNOTAVAIL) => {
            "address not available; choose one of this machine (`ip address` lists them)".into()
        }
        _ => error.to_string(),
    };
    anyhow!("cannot listen on {address}: {why}")
}

#[cfg(test)]
mod tests {
    use super::{Listen, parse};

    #[test]
    fn a_star_is_every_address() {
        assert_eq!(Listen::parse("*:80"), Ok(Listen::DualStack(80)));
        assert!(Listen::parse("*:x").is_err());
        assert!(Listen::parse("*").is_err());
    }

    #[test]
    fn mistakes_are_told_apart() {
        assert!(parse("127.0.0.1:0").is_ok());
        assert!(parse("[::1]:80").is_ok());
        assert!(
            parse("127.0.0.1:65536")
                .unwrap_err()
                .contains("`65536` is not a port")
        );
        assert!(parse("127.0.0.1").unwrap_err().contains("port is missing"));
        assert!(parse("[::1]").unwrap_err().contains("port is missing"));
        assert!(parse("localhost:80").unwrap_err().contains("IP address"));
    }
}
