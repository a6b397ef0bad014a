//! Connections, await style.

mod forward;
mod halves;
mod options;
mod secure;
mod tls;

use std::net::SocketAddr;
use std::rc::{Rc, Weak};

use crate::Error;
use crate::bindings::imports::halfopen::tcp::{connections, outbound};
use crate::core::Core;

pub use forward::splice;
pub use halves::{ReadHalf, WriteHalf};
pub use options::KeepAlive;
pub use tls::Tls;

/// A TCP connection: two directions that end independently.
///
/// Dropping it closes it: FIN is sent, and nothing more is received.
///
/// ```no_run
/// # use halfopen_guest::{Connection, futures::{AsyncReadExt, AsyncWriteExt}};
/// # async fn example(connection: Connection) -> std::io::Result<()> {
/// let (mut receive, mut send) = connection.split();
/// let mut request = Vec::new();
/// receive.read_to_end(&mut request).await?; // until the peer's FIN
/// send.write_all(b"thank you\n").await?; // the other direction is still open
/// send.close().await // our FIN
/// # }
/// ```
pub struct Connection {
    core: Rc<Core>,
}

impl std::fmt::Debug for Connection {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Connection")
            .field("peer_addr", &self.peer_addr())
            .finish_non_exhaustive()
    }
}

impl Connection {
    pub(crate) fn new(handle: connections::Connection) -> Self {
        Connection {
            core: Core::new(handle),
        }
    }

    /// Connects to `address` (connect(2)).
    ///
    /// # Errors
    /// `access-denied` if the host does not grant the address; `connection-refused`;
    /// `remote-unreachable`; `timeout`; `invalid-argument` for an address that nothing can
    /// connect to, such as a multicast address.
    pub async fn connect(address: SocketAddr) -> Result<Self, Error> {
        Ok(Connection::new(outbound::connect(address.into()).await?))
    }

    /// Returns the local address.
    ///
    /// # Errors
    /// If the host cannot determine the address.
    pub fn local_addr(&self) -> Result<SocketAddr, Error> {
        self.core.local_addr()
    }

    /// Returns the address of the peer.
    ///
    /// # Errors
    /// `invalid-state` if the peer had gone before the connection was accepted.
    pub fn peer_addr(&self) -> Result<SocketAddr, Error> {
        self.core.peer_addr()
    }

    /// Returns the peer's TLS session, if the host knows of one.
    ///
    /// The session ends either at the host or at a load balancer that describes it in a
    /// PROXY protocol header.
    #[must_use]
    pub fn tls(&self) -> Option<Tls> {
        self.core.tls()
    }

    /// Splits the connection into its two directions, for use at the same time.
    #[must_use]
    pub fn split(self) -> (ReadHalf, WriteHalf) {
        halves::split(self.into_core())
    }

    /// Aborts the connection: unsent data is discarded, and the peer gets RST where the
    /// host can send one.
    pub fn reset(self) {
        self.core.reset();
    }

    /// Returns a reference to the connection that does not keep it open.
    pub(crate) fn downgrade(&self) -> Weak<Core> {
        Rc::downgrade(&self.core)
    }

    pub(crate) fn into_core(self) -> Rc<Core> {
        self.core
    }
}
