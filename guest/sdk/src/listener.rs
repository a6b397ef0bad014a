//! Listening sockets.

use std::net::SocketAddr;

use crate::bindings::imports::halfopen::tcp::listeners;
use crate::{Connection, Error};

/// A listening socket.
///
/// Dropping it closes it: the port is free again, connections that wait to be accepted are
/// reset, and accepted connections stay open.
///
/// ```no_run
/// # use halfopen_guest::Listener;
/// # async fn example() -> Result<(), halfopen_guest::Error> {
/// let listener = Listener::bind("127.0.0.1:1234".parse().unwrap())?;
/// let connection = listener.accept().await?;
/// # Ok(())
/// # }
/// ```
pub struct Listener {
    handle: listeners::Listener,
}

impl std::fmt::Debug for Listener {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Listener")
            .field("local_addr", &self.local_addr())
            .finish_non_exhaustive()
    }
}

impl Listener {
    /// Binds to `address` and listens; with port 0, the host chooses a free port.
    ///
    /// # Errors
    /// `access-denied` if the host does not grant the address; `address-in-use`;
    /// `address-not-bindable`; `invalid-argument` for an address that nothing can listen
    /// on, such as a multicast address.
    pub fn bind(address: SocketAddr) -> Result<Self, Error> {
        listen(address, None)
    }

    /// Like [`Listener::bind`], and sets the number of connections that may wait to be
    /// accepted (listen(2)); at least 1. The default is 511, or less where the system
    /// caps it.
    ///
    /// # Errors
    /// The errors of [`Listener::bind`]; `invalid-argument` if `backlog` is 0.
    pub fn bind_with_backlog(address: SocketAddr, backlog: u32) -> Result<Self, Error> {
        listen(address, Some(backlog))
    }

    /// Returns the bound address, with the port that the host chose for port 0.
    ///
    /// # Errors
    /// If the host cannot determine the address.
    pub fn local_addr(&self) -> Result<SocketAddr, Error> {
        Ok(self.handle.local_address()?.into())
    }

    /// Waits for the next connection.
    ///
    /// The host retries after an error that concerns a single connection or that passes
    /// by itself, such as a lack of descriptors.
    ///
    /// # Errors
    /// `invalid-state` if the listener has failed for good.
    pub async fn accept(&self) -> Result<Connection, Error> {
        Ok(Connection::new(self.handle.accept().await?))
    }
}

fn listen(address: SocketAddr, backlog: Option<u32>) -> Result<Listener, Error> {
    let options = listeners::ListenOptions { backlog };
    let handle = listeners::Listener::listen(address.into(), options)?;
    Ok(Listener { handle })
}
