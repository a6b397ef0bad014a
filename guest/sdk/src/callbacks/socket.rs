//! The socket of a service in callback style: a number that the host knows.

use std::cell::Cell;
use std::net::SocketAddr;
use std::rc::Rc;
use std::time::Duration;

use crate::Error;
use crate::bindings::sockets::halfopen::tcp::sockets::{self, Written};
use crate::socket::{Data, Handle};

/// A socket by its number.
pub(crate) struct Number {
    number: u32,
    /// Whether the sending direction has ended.
    ended: Cell<bool>,
    half_open: Cell<bool>,
    /// Whether the host sends what it receives to another socket.
    piped: Cell<bool>,
    /// The peer's address, once it has been read.
    remote: Cell<Option<SocketAddr>>,
}

impl Number {
    pub(super) fn new(number: u32) -> Rc<Self> {
        Rc::new(Number {
            number,
            ended: Cell::new(false),
            half_open: Cell::new(false),
            piped: Cell::new(false),
            remote: Cell::new(None),
        })
    }

    /// The number by which the host knows the socket.
    pub(crate) fn number(&self) -> u32 {
        self.number
    }

    /// Records that what this socket receives is sent to `sink`, by the host.
    pub(super) fn piped_to(&self, sink: &Number) {
        self.piped.set(true);
        sink.ended.set(true);
    }

    /// Records that the connection has failed or closed.
    pub(super) fn ended(&self) {
        self.ended.set(true);
    }

    /// Records that the handler of the peer's FIN has returned (rules K2 and K15).
    pub(super) fn peer_ended(&self) {
        if !self.half_open.get() && !self.piped.get() {
            self.ended.set(true);
        }
    }
}

/// Returns whole milliseconds, rounded up: a time is late, never early.
pub(super) fn milliseconds(time: Duration) -> u32 {
    let milliseconds = time.as_nanos().div_ceil(1_000_000);
    u32::try_from(milliseconds).unwrap_or(u32::MAX)
}

impl Handle for Number {
    fn write(&self, data: &mut dyn Data) -> bool {
        if sockets::write(self.number, data.bytes()) == Written::Ended {
            self.ended.set(true);
        }
        !self.ended.get()
    }

    fn end(&self) {
        self.ended.set(true);
        sockets::end(self.number);
    }

    fn destroy(&self) {
        self.ended.set(true);
        sockets::destroy(self.number);
    }

    fn reset(&self) {
        self.ended.set(true);
        sockets::reset(self.number);
    }

    fn pause(&self, paused: bool) {
        match paused {
            true => sockets::pause(self.number),
            false => sockets::resume(self.number),
        }
    }

    fn allow_half_open(&self, allow: bool) {
        self.half_open.set(allow);
        sockets::allow_half_open(self.number, allow);
    }

    fn set_timeout(&self, time: Duration) {
        sockets::set_timeout(self.number, milliseconds(time));
    }

    fn is_writable(&self) -> bool {
        !self.ended.get()
    }

    fn unsent(&self) -> usize {
        usize::try_from(sockets::unsent(self.number)).unwrap_or(usize::MAX)
    }

    fn local_addr(&self) -> Result<SocketAddr, Error> {
        Ok(sockets::local_address(self.number)?.into())
    }

    fn peer_addr(&self) -> Result<SocketAddr, Error> {
        if let Some(remote) = self.remote.get() {
            return Ok(remote);
        }
        let remote = SocketAddr::from(sockets::remote_address(self.number)?);
        self.remote.set(Some(remote));
        Ok(remote)
    }

    fn number(&self) -> Option<&Number> {
        Some(self)
    }
}
