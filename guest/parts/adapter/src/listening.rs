//! Listening sockets.

use halfopen_model::Turns;
use halfopen_parts::types::{ErrorCode, IpSocketAddress, TcpSocket};
use halfopen_parts::{Accepted, listen};

use crate::exports::halfopen::tcp::connections;
use crate::exports::halfopen::tcp::listeners::{self, Guest, GuestListener, ListenOptions};
use crate::{Adapter, Connection};

impl Guest for Adapter {
    type Listener = Listener;
}

/// A listening socket. The port is free once both fields are dropped.
pub(crate) struct Listener {
    accepted: Turns<Accepted>,
    socket: TcpSocket,
}

impl GuestListener for Listener {
    fn listen(
        local_address: IpSocketAddress,
        options: ListenOptions,
    ) -> Result<listeners::Listener, ErrorCode> {
        let (socket, accepted) = listen(local_address, options.backlog)?;
        let accepted = Turns::new(accepted);
        Ok(listeners::Listener::new(Listener { accepted, socket }))
    }

    fn local_address(&self) -> Result<IpSocketAddress, ErrorCode> {
        self.socket.get_local_address()
    }

    async fn accept(&self) -> Result<connections::Connection, ErrorCode> {
        let mut turn = self.accepted.turn().await;
        // The host ends the stream only when the socket can no longer listen.
        let socket = turn.get().next().await.ok_or(ErrorCode::InvalidState)?;
        Ok(Connection::handle(socket))
    }
}
