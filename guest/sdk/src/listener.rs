//! Listening sockets.

use std::net::SocketAddr;

use crate::bindings::imports::halfopen::tcp::listeners;
use crate::{Connection, Error};

/// A listening socket. Dropped, it closes: the port is free, and connections that
/// were accepted live on.
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
    /// Binds to `address` and listens; port 0 takes any free one.
    ///
    /// # Errors
    /// `access-denied`, `address-in-use`, `address-not-bindable`; `invalid-argument`
    /// for an address that cannot be listened on.
    pub fn bind(address: SocketAddr) -> Result<Self, Error> {
        listen(address, None)
    }

    /// Like [`Listener::bind`], with how many connections may wait to be accepted
    /// (listen(2)); at least 1.
    ///
    /// # Errors
    /// Those of [`Listener::bind`]; `invalid-argument` if `backlog` is 0.
    pub fn bind_with_backlog(address: SocketAddr, backlog: u32) -> Result<Self, Error> {
        listen(address, Some(backlog))
    }

    /// The address that it listens on, with the port that was chosen.
    ///
    /// # Errors
    /// If the host cannot tell.
    pub fn local_addr(&self) -> Result<SocketAddr, Error> {
        Ok(self.handle.local_address()?.into())
    }

    /// Waits for the next connection. What concerns one connection only, or passes by
    /// itself, is waited out by the host.
    ///
    /// # Errors
    /// If the listener has failed for good.
    pub async fn accept(&self) -> Result<Connection, Error> {
        Ok(Connection::new(self.handle.accept().await?))
    }
}

fn listen(address: SocketAddr, backlog: Option<u32>) -> Result<Listener, Error> {
    let options = listeners::ListenOptions { backlog };
    let handle = listeners::Listener::listen(address.into(), options)?;
    Ok(Listener { handle })
}
