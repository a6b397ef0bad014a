//! The primitives of `halfopen:tcp` on `wasi:sockets`: the piece that makes a service or
//! a program run on any WASI 0.3 host.
//!
//! Each standalone component contains one adapter, which service and acceptor share. The
//! types of the two interfaces are the same, so streams and futures pass through
//! untouched: after `read` and `write` have returned, the adapter takes no part in moving
//! the bytes. For the same reason it cannot change the result of a future, and so cannot
//! make the two directions of a connection agree on one error; `halfopen-guest` does.

mod environment;
mod listening;
mod outgoing;
mod topics;

use halfopen_parts::types::{ErrorCode, IpSocketAddress, TcpSocket};
use wit_bindgen::{FutureReader, StreamReader};

use exports::halfopen::tcp::{background, bridge, connections, lookups, options, peer};

#[allow(
    missing_docs,
    unsafe_code,
    unreachable_pub,
    unused_qualifications,
    clippy::all,
    reason = "generated"
)]
mod bindings {
    wit_bindgen::generate!({
        path: "wit",
        world: "halfopen:tcp/adapter",
        with: {
            "halfopen:tcp/types@0.1.0": ::halfopen_parts::types,
            "wasi:sockets/types@0.3.0": ::halfopen_parts::types,
        },
        generate_all,
    });
}
use bindings::{exports, wasi};

struct Adapter;

#[allow(unsafe_code, reason = "generated")]
const _: () = {
    bindings::export!(Adapter with_types_in bindings);
};

impl connections::Guest for Adapter {
    type Connection = Connection;
}

/// A connected socket and the address that its peer had when it was accepted or
/// connected: the host no longer gives the address of a connection that was reset.
struct Connection {
    socket: TcpSocket,
    remote: Result<IpSocketAddress, ErrorCode>,
}

impl Connection {
    fn new(socket: TcpSocket) -> Self {
        let remote = socket
            .get_remote_address()
            .map_err(|_| ErrorCode::InvalidState);
        Connection { socket, remote }
    }

    fn handle(socket: TcpSocket) -> connections::Connection {
        connections::Connection::new(Connection::new(socket))
    }
}

impl connections::GuestConnection for Connection {
    fn local_address(&self) -> Result<IpSocketAddress, ErrorCode> {
        self.socket.get_local_address()
    }

    fn remote_address(&self) -> Result<IpSocketAddress, ErrorCode> {
        self.remote.clone()
    }

    fn read(&self) -> (StreamReader<u8>, FutureReader<Result<(), ErrorCode>>) {
        self.socket.receive()
    }

    fn write(&self, data: StreamReader<u8>) -> FutureReader<Result<(), ErrorCode>> {
        self.socket.send(data)
    }

    fn reset(this: connections::Connection) {
        // WASI 0.3.0 has no way to send RST (rule C3).
        drop(this);
    }
}

impl options::Guest for Adapter {
    fn set_keep_alive(
        connection: connections::ConnectionBorrow<'_>,
        value: Option<options::KeepAlive>,
    ) -> Result<(), ErrorCode> {
        let socket = &connection.get::<Connection>().socket;
        let Some(value) = value else {
            return socket.set_keep_alive_enabled(false);
        };
        if value.idle_time == 0 || value.interval == 0 || value.count == 0 {
            return Err(ErrorCode::InvalidArgument);
        }
        socket.set_keep_alive_idle_time(value.idle_time)?;
        socket.set_keep_alive_interval(value.interval)?;
        socket.set_keep_alive_count(value.count)?;
        socket.set_keep_alive_enabled(true)
    }

    fn set_no_delay(_: connections::ConnectionBorrow<'_>, _: bool) -> Result<(), ErrorCode> {
        Err(ErrorCode::NotSupported)
    }
}

impl peer::Guest for Adapter {
    /// Returns `None`: `wasi:sockets` describes a peer by its address alone.
    fn tls(_: connections::ConnectionBorrow<'_>) -> Option<peer::TlsSession> {
        None
    }
}

/// What the acceptor calls for a service that does nothing without connections.
impl background::Guest for Adapter {
    async fn run() -> Result<(), String> {
        Ok(())
    }
}

/// What the driver calls for a service that connects to no names: never.
impl lookups::Guest for Adapter {
    async fn look_up(_: String, _: u16) -> Result<Vec<IpSocketAddress>, ErrorCode> {
        Err(ErrorCode::NotSupported)
    }
}

impl bridge::Guest for Adapter {
    fn wrap(socket: TcpSocket) -> connections::Connection {
        Connection::handle(socket)
    }
}
