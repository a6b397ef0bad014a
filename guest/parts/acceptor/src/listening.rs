//! Listening sockets.

use std::net::SocketAddr;

use halfopen_parts::types::{ErrorCode, TcpSocket};
use halfopen_parts::{Accepted, listen};

/// A listening socket. The port is free once both fields are dropped.
pub(crate) struct Listener {
    accepted: Accepted,
    socket: TcpSocket,
}

impl Listener {
    /// Binds and listens; the error says what to do about it.
    pub(crate) fn listen(address: SocketAddr) -> Result<Self, String> {
        let (socket, accepted) = listen(address.into(), None)
            .map_err(|error| format!("cannot listen on {address}: {}", explain(&error)))?;
        Ok(Listener { accepted, socket })
    }

    /// The bound address; the host has chosen the port if port 0 was requested.
    pub(crate) fn address(&self) -> Result<SocketAddr, String> {
        let address = self.socket.get_local_address();
        address
            .map(SocketAddr::from)
            .map_err(|error| explain(&error))
    }

    /// Waits for the next connection; returns `None` if the listener has failed.
    pub(crate) async fn next(&mut self) -> Option<TcpSocket> {
        self.accepted.next().await
    }
}

fn explain(error: &ErrorCode) -> String {
    match error {
        ErrorCode::AddressInUse => {
            "address already in use; stop the other program, or choose another port (0 for any free one)"
        }
        ErrorCode::AccessDenied => {
            "access denied; let the host grant this address (`wasmtime run -S inherit-network`, `halfopen run --allow-listen ADDR`), and below port 1024 the system has to allow it too"
        }
        ErrorCode::AddressNotBindable => {
            "address not available; choose one of this machine (`ip address` lists them)"
        }
        ErrorCode::InvalidArgument => "not an address that can be listened on",
        other => return format!("{other:?}"),
    }
    .to_owned()
}
