//! Outgoing connections and pipes of a service in callback style.

use std::net::SocketAddr;

use crate::bindings::imports::halfopen::tcp::types::ErrorCode;
use crate::bindings::sockets::halfopen::tcp::{connecting, naming, piping};
use crate::{Error, Events, Socket};

/// Begins to connect to `address` (connect(2)). Calls `new` with the socket at once, and keeps
/// the value that it returns for the events of the connection.
///
/// The outcome is an event: [`Events::connect`], or [`Events::error`] and [`Events::close`].
/// It does not come before the event that is being handled has returned. Data that is written
/// before is sent once the connection exists.
///
/// ```no_run
/// use halfopen_guest::{Error, Events, Socket, callbacks, log};
///
/// struct Server;
///
/// impl Events for Server {
///     fn connect(&mut self, socket: &Socket) {
///         log!("connected from {:?}", socket.local_addr());
///     }
///
///     fn error(&mut self, _: &Socket, error: &Error) {
///         log!("no connection: {error}");
///     }
/// }
///
/// # fn example() -> Result<(), Error> {
/// let socket = callbacks::connect(([127, 0, 0, 1], 1234).into(), |_| Server)?;
/// socket.write("hello\n");
/// # Ok(())
/// # }
/// ```
///
/// # Errors
/// At once: `access-denied` if the host does not grant the address; `invalid-argument` for an
/// address that nothing can connect to, such as a multicast address; `other` if the instance
/// has as many sockets as it may. `new` is not called then. As an event: `connection-refused`,
/// `remote-unreachable`, `timeout` and others.
pub fn connect<E: Events + 'static>(
    address: SocketAddr,
    new: impl FnOnce(&Socket) -> E,
) -> Result<Socket, Error> {
    Ok(super::add(connecting::connect(address.into())?, new))
}

/// Begins to look up `name` and to connect to `port` of it, as [`connect`] does with an address.
/// One address of the name is tried after the other.
///
/// The host grants this by `--allow-connect NAME:PORT`. It does not grant private addresses that a
/// name has, unless a rule names them. `peer_addr` is known once the connection exists.
///
/// # Errors
/// As of [`connect`]. As an event: `access-denied` if none of the addresses is granted, `other`
/// with a text if the name cannot be looked up, and what is found about the last address.
pub fn connect_to_name<E: Events + 'static>(
    name: &str,
    port: u16,
    new: impl FnOnce(&Socket) -> E,
) -> Result<Socket, Error> {
    Ok(super::add(naming::connect(name, port)?, new))
}

/// Sends everything that `source` receives from now on to `sink`, behind the data that is
/// written to `sink` already. The host moves the bytes, so `source` has no more
/// [`Events::data`]. Both may still be connecting, and both may be the same socket.
///
/// The peer's FIN on `source` ends `sink`, and [`Events::end`] comes; it does not end the
/// sending direction of `source`. So two pipes in opposite directions carry two directions
/// that end independently. If `source` fails, is destroyed or reset, `sink` is reset. If `sink`
/// fails or is destroyed, the rest of what `source` receives is discarded.
///
/// Until the pipe ends, only the pipe writes to `sink` and ends it.
///
/// # Errors
/// `invalid-state` if `source` no longer receives or is piped already, or if `sink` no longer
/// sends or has a source already; also for sockets of an await-style component.
pub fn pipe(source: &Socket, sink: &Socket) -> Result<(), Error> {
    let (Some(source), Some(sink)) = (source.number(), sink.number()) else {
        return Err(ErrorCode::InvalidState.into());
    };
    piping::pipe(source.number(), sink.number())?;
    source.piped_to(sink);
    Ok(())
}
