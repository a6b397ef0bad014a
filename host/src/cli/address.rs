//! Addresses at the prompt.

use std::io;
use std::net::{IpAddr, SocketAddr};

use anyhow::anyhow;
use rustix::io::Errno;

/// Parses an address to listen on.
pub(super) fn parse(text: &str) -> Result<SocketAddr, String> {
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
pub(super) fn listen_error(address: SocketAddr, error: &io::Error) -> anyhow::Error {
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
    use super::parse;

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
