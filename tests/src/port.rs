//! A port that stays a server's own while the server is away.

use std::net::SocketAddr;

use anyhow::{Context, Result};
use socket2::{Domain, Socket, Type};

/// A port of 127.0.0.1 that one server after another can listen on.
///
/// The port of a server that has ended is free: another process may get it, and a client that
/// connects again can get it as its own port and so be connected to itself (simultaneous open,
/// RFC 9293, 3.5). A socket that is bound and does not listen prevents both; a server, whose
/// listener has `SO_REUSEADDR` as well, can still listen there. It has to listen on this address,
/// not on all: any socket of another address with this port, even in TIME-WAIT, would be in the way.
#[derive(Debug)]
pub struct Port(Socket);

impl Port {
    /// Reserves a port that is free.
    ///
    /// # Errors
    ///
    /// If there is none, or no descriptor.
    pub fn reserve() -> Result<Self> {
        let socket = Socket::new(Domain::IPV4, Type::STREAM, None)?;
        socket.set_reuse_address(true)?;
        socket.bind(&SocketAddr::from(([127, 0, 0, 1], 0)).into())?;
        Ok(Port(socket))
    }

    /// Returns the address to listen on.
    ///
    /// # Errors
    ///
    /// If the kernel does not tell it.
    pub fn address(&self) -> Result<SocketAddr> {
        let address = self.0.local_addr()?;
        address.as_socket().context("not an address of IP")
    }
}

#[cfg(test)]
mod tests {
    use std::net::{TcpListener, TcpStream};

    use anyhow::ensure;

    use super::*;

    #[test]
    fn servers_can_listen_there_and_nobody_else_gets_the_port() -> Result<()> {
        let other = Socket::new(Domain::IPV4, Type::STREAM, None)?;
        let port = Port::reserve()?;
        let address = port.address()?;
        ensure!(other.bind(&address.into()).is_err());
        drop(port);
        other.bind(&address.into())?;

        let port = Port::reserve()?;
        let address = port.address()?;
        for _ in 0..2 {
            let listener = TcpListener::bind(address)?;
            let client = TcpStream::connect(address)?;
            let (accepted, _) = listener.accept()?;
            drop((accepted, client));
        }
        Ok(())
    }
}
