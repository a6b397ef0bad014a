//! The acceptor's arguments: those before `--`.

use std::net::{IpAddr, SocketAddr};

/// The text that `--help` prints.
pub(crate) const HELP: &str = "\
Listens, and calls the service for each connection.

Usage: COMPONENT [--listen ADDR]... [--max-connections N] [--keep-running] [-- ARGS]

  --listen ADDR         address to listen on (default: 127.0.0.1:1234); port 0 chooses
                        a free port; may be repeated
  --max-connections N   most connections open at once (default: 4096); others wait in
                        the backlog
  --keep-running        lets the service work without connections as well
  --help                print this text
  -- ARGS               arguments for the service
";

/// What the arguments request.
#[derive(Debug, PartialEq)]
pub(crate) enum Request {
    Help,
    Serve(Settings),
}

/// The settings of a server.
#[derive(Debug, PartialEq)]
pub(crate) struct Settings {
    pub(crate) listen: Vec<SocketAddr>,
    pub(crate) max_connections: usize,
    pub(crate) keep_running: bool,
}

/// The default bound. A connection takes about ten handles, and wasmtime allows a
/// program 100,000.
const MAX_CONNECTIONS: usize = 4096;

/// Parses the arguments before `--`.
pub(crate) fn parse(arguments: impl IntoIterator<Item = String>) -> Result<Request, String> {
    let mut arguments = arguments.into_iter();
    let mut listen = Vec::new();
    let mut max_connections = MAX_CONNECTIONS;
    let mut keep_running = false;
    while let Some(argument) = arguments.next() {
        // Both `--name=value` and `--name value` are accepted.
        let (name, value) = match argument.split_once('=') {
            Some((name, value)) => (name, Some(value.to_owned())),
            None => (argument.as_str(), None),
        };
        let mut value_like = |example: &str| {
            let value = value.clone().or_else(|| arguments.next());
            value.ok_or_else(|| format!("`{name}` needs a value, such as {example}"))
        };
        match name {
            "--" => break,
            "--help" | "-h" => return Ok(Request::Help),
            "--keep-running" if value.is_none() => keep_running = true,
            "--listen" => listen.push(address(&value_like("127.0.0.1:1234")?)?),
            "--max-connections" => {
                let text = value_like("1000")?;
                max_connections = match text.parse() {
                    Ok(count) if count > 0 => count,
                    _ => return Err(format!("`{text}` is not a number of connections from 1 on")),
                };
            }
            _ => {
                return Err(format!(
                    "unknown argument `{argument}`; there are `--listen ADDR`, `--max-connections N` and `--keep-running`, and arguments for the service go after `--`"
                ));
            }
        }
    }
    if listen.is_empty() {
        listen.push(SocketAddr::from(([127, 0, 0, 1], 1234)));
    }
    Ok(Request::Serve(Settings {
        listen,
        max_connections,
        keep_running,
    }))
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
