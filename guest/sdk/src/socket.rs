//! The handle of a connection in callback style.

use std::net::SocketAddr;
use std::rc::Rc;

use halfopen_model::Written;

use crate::core::{Core, Machine};
use crate::{Error, Tls};

/// A connection in callback style, for use in its callbacks or anywhere else.
///
/// Clones refer to the same connection. Every method may be called at any time, also after
/// the connection has ended.
#[derive(Clone)]
pub struct Socket {
    pub(crate) core: Rc<Core>,
}

impl std::fmt::Debug for Socket {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Socket")
            .field("peer_addr", &self.peer_addr())
            .field("unsent", &self.unsent())
            .finish_non_exhaustive()
    }
}

impl Socket {
    /// Sends `data` behind the data written before. Returns false, and sends nothing, if
    /// the socket was ended or destroyed or has failed.
    ///
    /// While more than 64 KiB wait to be sent, [`Events::data`](crate::Events::data) is
    /// not called; [`Events::drain`](crate::Events::drain) follows once all of it is sent.
    pub fn write(&self, data: impl Into<Vec<u8>>) -> bool {
        self.core.write(data.into()) != Written::Ended
    }

    /// Ends the sending direction: FIN is sent behind the written data. Data from the peer
    /// keeps arriving.
    pub fn end(&self) {
        self.core.change(Machine::end);
    }

    /// Closes at once; only the `close` callback is still called.
    ///
    /// If the host does not take all written data immediately, the peer gets a reset
    /// instead of FIN, so that it cannot mistake a part for the whole.
    pub fn destroy(&self) {
        self.core.destroy();
    }

    /// Aborts the connection: the peer gets RST where the host can send one.
    pub fn reset(&self) {
        self.core.reset();
    }

    /// Holds back data, and an end behind it, until [`Socket::resume`]. The peer has to
    /// wait once the buffers on the way are full.
    pub fn pause(&self) {
        self.core.change(|machine| machine.pause(true));
    }

    /// Undoes [`Socket::pause`].
    pub fn resume(&self) {
        self.core.change(|machine| machine.pause(false));
    }

    /// Returns whether [`Socket::write`] accepts data.
    #[must_use]
    pub fn is_writable(&self) -> bool {
        self.core.look(Machine::can_write)
    }

    /// Returns the number of written bytes that the host has not taken yet.
    #[must_use]
    pub fn unsent(&self) -> usize {
        self.core.look(Machine::unsent)
    }

    /// Returns the local address.
    ///
    /// # Errors
    /// If the connection is closed.
    pub fn local_addr(&self) -> Result<SocketAddr, Error> {
        self.core.local_addr()
    }

    /// Returns the address of the peer. After a first successful call, the address stays
    /// available when the connection has closed.
    ///
    /// # Errors
    /// If the connection is closed, or the peer had gone before it was accepted.
    pub fn peer_addr(&self) -> Result<SocketAddr, Error> {
        self.core.peer_addr()
    }

    /// Returns the peer's TLS session, if the connection is open and the host knows of
    /// one.
    #[must_use]
    pub fn tls(&self) -> Option<Tls> {
        self.core.tls()
    }
}
