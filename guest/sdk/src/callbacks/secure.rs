//! TLS that a service in callback style begins on a connection in use.

use crate::bindings::imports::halfopen::tcp::types::ErrorCode;
use crate::bindings::sockets::halfopen::tcp::socket_secure;
use crate::{Error, Socket};

/// Begins TLS as the server (STARTTLS), with the certificates that the host holds for that. What
/// is written before is sent in the clear, what is written after it within TLS.
///
/// `unprocessed` is what the service has received behind the request for TLS: nothing, with an
/// honest peer. Otherwise the connection is reset, because anyone on the path can have put it
/// there (CVE-2011-0411).
///
/// Needs [`callbacks!(…, secure)`](macro@crate::callbacks). The outcome is an event:
/// [`Events::secured`](crate::Events::secured), or [`Events::error`](crate::Events::error) and
/// [`Events::close`](crate::Events::close).
///
/// ```no_run
/// use halfopen_guest::{Events, LineBuffer, Socket, callbacks, log};
///
/// callbacks!(|_socket| Greeter::default(), secure);
///
/// #[derive(Default)]
/// struct Greeter {
///     lines: LineBuffer,
/// }
///
/// impl Events for Greeter {
///     fn data(&mut self, socket: &Socket, chunk: Vec<u8>) {
///         self.lines.push(&chunk);
///         while let Some(Ok(line)) = self.lines.next_line() {
///             if line == "STARTTLS" {
///                 socket.write("220 go ahead\r\n");
///                 let begun = callbacks::secure_as_server(socket, self.lines.rest());
///                 return begun.unwrap_or_else(|error| log!("no TLS: {error}"));
///             }
///         }
///     }
///
///     fn secured(&mut self, socket: &Socket) {
///         log!("{:?}", socket.tls());
///     }
/// }
/// ```
///
/// # Errors
/// The connection goes on as it is: `access-denied` if the host has no certificate for this;
/// `invalid-state` if a direction has ended or is piped, or TLS has begun already; also for
/// sockets of an await-style component.
pub fn secure_as_server(socket: &Socket, unprocessed: &[u8]) -> Result<(), Error> {
    let number = number(socket)?;
    Ok(socket_secure::as_server(number, length(unprocessed))?)
}

/// Begins TLS as the client. The peer needs a certificate for `server_name`, a DNS name or an IP
/// address, of an authority that the host trusts. `application_protocols` are offered to it
/// (ALPN), the preferred one first.
///
/// Otherwise it is like [`secure_as_server`]. On a connection of
/// [`callbacks::connect`](crate::callbacks::connect), the first moment for it is
/// [`Events::connect`](crate::Events::connect).
///
/// # Errors
/// Those of [`secure_as_server`], and `invalid-argument` for a name or protocol that is none.
pub fn secure_as_client(
    socket: &Socket,
    server_name: &str,
    application_protocols: &[&str],
    unprocessed: &[u8],
) -> Result<(), Error> {
    let protocols: Vec<String> = application_protocols
        .iter()
        .map(|&name| name.to_owned())
        .collect();
    let number = number(socket)?;
    let unprocessed = length(unprocessed);
    Ok(socket_secure::as_client(
        number,
        server_name,
        &protocols,
        unprocessed,
    )?)
}

fn number(socket: &Socket) -> Result<u32, Error> {
    let number = socket.number().ok_or(ErrorCode::InvalidState)?;
    Ok(number.number())
}

fn length(unprocessed: &[u8]) -> u32 {
    u32::try_from(unprocessed.len()).unwrap_or(u32::MAX)
}

#[doc(hidden)]
pub fn secured(number: u32) {
    super::event(number, |open, events| events.secured(&open.socket));
}
