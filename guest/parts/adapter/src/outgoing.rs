//! Outgoing connections.

use halfopen_parts::family_of;
use halfopen_parts::types::{ErrorCode, IpSocketAddress, TcpSocket};

use crate::exports::halfopen::tcp::connections;
use crate::exports::halfopen::tcp::outbound::Guest;
use crate::{Adapter, Connection};

impl Guest for Adapter {
    async fn connect(
        remote_address: IpSocketAddress,
    ) -> Result<connections::Connection, ErrorCode> {
        let socket = TcpSocket::create(family_of(&remote_address))?;
        socket.connect(remote_address).await?;
        Ok(Connection::handle(socket))
    }
}
