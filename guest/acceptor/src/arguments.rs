//! The acceptor's own arguments.

use std::net::{IpAddr, SocketAddr};

/// What `--help` prints.
pub(crate) const HELP: &str = "\
Listens, and has the service handle each connection.

Usage: COMPONENT [--listen ADDR]... [-- ARGS]

  --listen ADDR  address to listen on (127.0.0.1:1234); port 0 takes any free one;
                 may be given several times
  --help         this text
  -- ARGS        arguments for the service
";

/// What is asked for.
#[derive(Debug, PartialEq)]
pub(crate) enum Request {
    Help,
    Listen(Vec<SocketAddr>),
}

/// Reads the arguments up to `--`.
pub(crate) fn parse(arguments: impl IntoIterator<Item = String>) -> Result<Request, String> {
    let mut arguments = arguments.into_iter();
    let mut addresses = Vec::new();
    while let Some(argument) = arguments.next() {
        match argument.as_str() {
            "--" => break,
            "--help" | "-h" => return Ok(Request::Help),
            "--listen" => {
                let text = arguments
                    .next()
                    .ok_or("`--listen` needs an address, such as 127.0.0.1:1234")?;
                addresses.push(address(&text)?);
            }
            other => match other.strip_prefix("--listen=") {
                Some(text) => addresses.push(address(text)?),
                None => {
                    return Err(format!(
                        "unknown argument `{other}`; there is `--listen ADDR`, and arguments for the service go after `--`"
                    ));
                }
            },
        }
    }
    if addresses.is_empty() {
        addresses.push(SocketAddr::from(([127, 0, 0, 1], 1234)));
    }
    Ok(Request::Listen(addresses))
}

fn address(text: &str) -> Result<SocketAddr, String> {
    if let Ok(address) = text.parse() {
        return Ok(address);
    }
    let example = "write an IP address and a port, such as 127.0.0.1:1234 or [::1]:1234";
    let bare = text.trim_start_matches('[').trim_end_matches(']');
    let why = match text.rsplit_once(':') {
        _ if bare.parse::<IpAddr>().is_ok() => format!("the port is missing; {example}"),
        Some((host, port)) if format!("{host}:0").parse::<SocketAddr>().is_ok() => {
            format!("`{port}` is not a port; ports go from 0 (any free one) to 65535")
        }
        _ => example.to_owned(),
    };
    Err(format!("bad address `{text}`: {why}"))
}
