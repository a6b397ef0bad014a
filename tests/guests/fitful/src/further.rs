//! Calls of further interfaces, and what they must return.

use crate::bindings::halfopen::tcp::types::ErrorCode;
use crate::bindings::halfopen::tcp::{naming, socket_secure};
use crate::service::Socket;
use crate::source::Source;
use crate::topics;

/// Names, of which some are none.
const NAMES: [&str; 9] = [
    "",
    "localhost",
    "name.invalid",
    "a..b",
    "-",
    "127.0.0.1",
    "::1",
    "no name at all",
    "\u{e9}\0",
];

/// Names that no certificate can have.
const WRONG: [&str; 4] = ["", "a..b", "no name at all", "\u{e9}\0"];

/// Makes a call, or none.
pub(crate) fn call(source: &mut Source, socket: Socket) -> Result<(), String> {
    match source.below(24) {
        0 => connect(source),
        1 => secure(source, socket),
        2..=5 => topics::call(source),
        _ => Ok(()),
    }
}

/// Connects to a name, none of which is granted.
fn connect(source: &mut Source) -> Result<(), String> {
    let name = name(source);
    let port = match source.below(3) {
        0 => 0,
        _ => u16::try_from(source.below(1 << 16)).unwrap_or(1),
    };
    let refused = naming::connect(&name, port).err();
    match refused {
        Some(ErrorCode::AccessDenied | ErrorCode::InvalidArgument) => Ok(()),
        other => Err(format!("connect to {name:?}, port {port}: {other:?}")),
    }
}

/// Begins TLS, as a server without a certificate or as a client with a name or a protocol that is
/// none: the connection stays as it is.
fn secure(source: &mut Source, socket: Socket) -> Result<(), String> {
    let unprocessed = source.below(3);
    let refused = match source.below(2) {
        0 => socket_secure::as_server(socket, unprocessed),
        _ => {
            let (name, protocol) = match source.below(2) {
                0 => (
                    WRONG[source.below(WRONG.len() as u32) as usize],
                    "h2".to_owned(),
                ),
                _ => ("a.example", "x".repeat(256 * source.below(2) as usize)),
            };
            socket_secure::as_client(socket, name, &[protocol], unprocessed)
        }
    };
    match refused {
        Err(ErrorCode::AccessDenied | ErrorCode::InvalidArgument) => Ok(()),
        other => Err(format!("{socket}: TLS that cannot begin: {other:?}")),
    }
}

/// A name, or one that is too long.
fn name(source: &mut Source) -> String {
    let index = source.below(NAMES.len() as u32 + 1) as usize;
    match NAMES.get(index) {
        Some(name) => (*name).to_owned(),
        None => "x".repeat(source.below(70_000) as usize),
    }
}
