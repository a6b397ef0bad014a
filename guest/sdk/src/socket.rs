//! The handle of a connection in callback style.

use std::net::SocketAddr;
use std::rc::Rc;
use std::time::Duration;

use halfopen_model::Written;

use crate::bindings::sockets::halfopen::tcp::socket_peer;
use crate::callbacks::Number;
use crate::core::{Core, Machine};
use crate::{Error, Tls};

/// A connection in callback style, for use in its callbacks or anywhere else.
///
/// Clones refer to the same connection. Every method may be called at any time, also after
/// the connection has ended.
#[derive(Clone)]
pub struct Socket {
    /// A pointer to functions, so that a component links those of its own style alone.
    handle: Rc<dyn Handle>,
}

/// What carries out the calls of a socket: the host, or the SDK itself.
pub(crate) trait Handle {
    /// Returns whether the data is taken.
    fn write(&self, data: &mut dyn Data) -> bool;
    fn end(&self);
    fn destroy(&self);
    fn reset(&self);
    fn pause(&self, paused: bool);
    fn allow_half_open(&self, allow: bool);
    fn set_timeout(&self, time: Duration);
    fn is_writable(&self) -> bool;
    fn unsent(&self) -> usize;
    fn local_addr(&self) -> Result<SocketAddr, Error>;
    fn peer_addr(&self) -> Result<SocketAddr, Error>;
    /// The socket as the host knows it, if it does.
    fn number(&self) -> Option<&Number>;
    /// The peer's TLS session, where the SDK serves the events.
    fn tls(&self) -> Option<Tls> {
        None
    }
}

/// Data that is written. Only who keeps it needs a vector of its own.
pub(crate) trait Data {
    fn bytes(&self) -> &[u8];
    /// Moves or copies the data into a vector. After that, there is none.
    fn take(&mut self) -> Vec<u8>;
}

impl<T: AsRef<[u8]> + Into<Vec<u8>>> Data for Option<T> {
    fn bytes(&self) -> &[u8] {
        self.as_ref().map_or(&[], AsRef::as_ref)
    }

    fn take(&mut self) -> Vec<u8> {
        Option::take(self).map_or_else(Vec::new, Into::into)
    }
}

impl std::fmt::Debug for Socket {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Socket")
            .field("peer_addr", &self.peer_addr())
            .field("unsent", &self.unsent())
            .finish_non_exhaustive()
    }
}

/// Two sockets are equal if they are the same connection.
impl PartialEq for Socket {
    fn eq(&self, other: &Self) -> bool {
        Rc::ptr_eq(&self.handle, &other.handle)
    }
}

impl Eq for Socket {}

impl Socket {
    pub(crate) fn new(handle: Rc<impl Handle + 'static>) -> Self {
        Socket { handle }
    }

    /// Returns the socket as the host knows it, in a component in callback style.
    pub(crate) fn number(&self) -> Option<&Number> {
        self.handle.number()
    }

    /// Sends `data` behind the data written before. Returns false, and sends nothing, if
    /// the socket was ended or destroyed or has failed.
    ///
    /// While more than 64 KiB wait to be sent, [`Events::data`](crate::Events::data) is
    /// not called; [`Events::drain`](crate::Events::drain) follows once all of it is sent.
    pub fn write(&self, data: impl AsRef<[u8]> + Into<Vec<u8>>) -> bool {
        self.handle.write(&mut Some(data))
    }

    /// Ends the sending direction: FIN is sent behind the written data. Data from the peer
    /// keeps arriving.
    pub fn end(&self) {
        self.handle.end();
    }

    /// Closes at once; only the `close` callback is still called.
    ///
    /// If the host does not take all written data immediately, the peer gets a reset
    /// instead of FIN, so that it cannot mistake a part for the whole.
    pub fn destroy(&self) {
        self.handle.destroy();
    }

    /// Aborts the connection: the peer gets RST where the host can send one.
    pub fn reset(&self) {
        self.handle.reset();
    }

    /// Holds back data, and an end behind it, until [`Socket::resume`]. The peer has to
    /// wait once the buffers on the way are full.
    pub fn pause(&self) {
        self.handle.pause(true);
    }

    /// Undoes [`Socket::pause`].
    pub fn resume(&self) {
        self.handle.pause(false);
    }

    /// Sets whether the sending direction stays open after the peer's FIN (default: false).
    ///
    /// If false, the socket ends once [`Events::end`](crate::Events::end) has returned: written
    /// data is sent, and FIN after it. If true, only [`Socket::end`] and [`Socket::destroy`]
    /// end it. Has no effect after that.
    pub fn allow_half_open(&self, allow: bool) {
        self.handle.allow_half_open(allow);
    }

    /// Calls [`Events::timeout`](crate::Events::timeout) once no data was received or sent for
    /// this time, in whole milliseconds; zero never does (the default). The connection goes on.
    ///
    /// On connections that [`Connection::serve`](crate::Connection::serve) serves it has an effect
    /// only if [`Options::timeout`](crate::Options::timeout) was used.
    pub fn set_timeout(&self, time: Duration) {
        self.handle.set_timeout(time);
    }

    /// Returns whether [`Socket::write`] accepts data.
    #[must_use]
    pub fn is_writable(&self) -> bool {
        self.handle.is_writable()
    }

    /// Returns the number of written bytes that the host has not taken yet.
    #[must_use]
    pub fn unsent(&self) -> usize {
        self.handle.unsent()
    }

    /// Returns the local address.
    ///
    /// # Errors
    /// If the connection is closed.
    pub fn local_addr(&self) -> Result<SocketAddr, Error> {
        self.handle.local_addr()
    }

    /// Returns the address of the peer. After a first successful call, the address stays
    /// available when the connection has closed.
    ///
    /// # Errors
    /// If the connection is closed, or the peer had gone before it was accepted.
    pub fn peer_addr(&self) -> Result<SocketAddr, Error> {
        self.handle.peer_addr()
    }

    /// Returns the peer's TLS session, if the connection is open and the host knows of
    /// one.
    #[must_use]
    pub fn tls(&self) -> Option<Tls> {
        match self.number() {
            Some(number) => socket_peer::tls(number.number()).map(Tls::from),
            None => self.handle.tls(),
        }
    }
}

impl Handle for Core {
    fn write(&self, data: &mut dyn Data) -> bool {
        self.write(data.take()) != Written::Ended
    }

    fn end(&self) {
        self.change(Machine::end);
    }

    fn destroy(&self) {
        self.destroy();
    }

    fn reset(&self) {
        self.reset();
    }

    fn pause(&self, paused: bool) {
        self.change(|machine| machine.pause(paused));
    }

    fn allow_half_open(&self, allow: bool) {
        self.change(|machine| machine.allow_half_open(allow));
    }

    fn set_timeout(&self, time: Duration) {
        self.set_timeout(time);
    }

    fn is_writable(&self) -> bool {
        self.look(Machine::can_write)
    }

    fn unsent(&self) -> usize {
        self.look(Machine::unsent)
    }

    fn local_addr(&self) -> Result<SocketAddr, Error> {
        self.local_addr()
    }

    fn peer_addr(&self) -> Result<SocketAddr, Error> {
        self.peer_addr()
    }

    fn number(&self) -> Option<&Number> {
        None
    }

    fn tls(&self) -> Option<Tls> {
        self.tls()
    }
}
