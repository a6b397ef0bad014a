//! The I/O behind a connection: what both styles have in common.

use std::cell::{Cell, RefCell};
use std::future::poll_fn;
use std::net::SocketAddr;
use std::pin::pin;
use std::rc::Rc;
use std::task::{Context, Poll};

use futures::future::{self, Either};
use futures::stream::{self, Stream};
use futures::task::AtomicWaker;
use wit_bindgen::rt::async_support::StreamResult;

use crate::bindings::imports::halfopen::tcp::{connections, peer};
use crate::bindings::imports::wit_stream;
use crate::machine::{Destroy, Machine, Step};
use crate::{Error, ErrorCode, Tls, task};

/// The room for a read at first, and what it grows to while reads fill it. Small at
/// first, because an idle connection holds it.
const READ_MIN: usize = 4 * 1024;
const READ_MAX: usize = 64 * 1024;

/// One connection: its state, its handle, and who waits for a change.
pub(crate) struct Core {
    machine: RefCell<Machine>,
    /// Gone once the connection is closed from this side.
    handle: RefCell<Option<connections::Connection>>,
    remote: Cell<Option<SocketAddr>>,
    sender: AtomicWaker,
    receiver: AtomicWaker,
    writer: AtomicWaker,
}

impl Core {
    pub(crate) fn new(handle: connections::Connection) -> Rc<Self> {
        Rc::new(Core {
            machine: RefCell::default(),
            handle: RefCell::new(Some(handle)),
            remote: Cell::new(None),
            sender: AtomicWaker::new(),
            receiver: AtomicWaker::new(),
            writer: AtomicWaker::new(),
        })
    }

    /// The peer's address; known also after the connection has ended, if it was asked
    /// for before.
    pub(crate) fn peer_addr(&self) -> Result<SocketAddr, Error> {
        if let Some(remote) = self.remote.get() {
            return Ok(remote);
        }
        let remote = self.with_handle(connections::Connection::remote_address)?;
        let remote = SocketAddr::from(remote);
        self.remote.set(Some(remote));
        Ok(remote)
    }

    pub(crate) fn local_addr(&self) -> Result<SocketAddr, Error> {
        let local = self.with_handle(connections::Connection::local_address)?;
        Ok(local.into())
    }

    pub(crate) fn tls(&self) -> Option<Tls> {
        let known = self.with_handle(|handle| Ok(peer::tls(handle)));
        known.ok().flatten().map(Tls::from)
    }

    /// Does something with the handle, unless it has been closed.
    pub(crate) fn with_handle<T>(
        &self,
        act: impl FnOnce(&connections::Connection) -> Result<T, ErrorCode>,
    ) -> Result<T, Error> {
        match &*self.handle.borrow() {
            Some(handle) => act(handle).map_err(Error::from),
            None => Err(ErrorCode::InvalidState.into()),
        }
    }

    /// Changes the state, and wakes whom that concerns. Nobody else: whoever is polled
    /// asks the host anew for what it waits for.
    pub(crate) fn change<T>(&self, change: impl FnOnce(&mut Machine) -> T) -> T {
        let mut machine = self.machine.borrow_mut();
        let before = machine.concerns();
        let result = change(&mut machine);
        let after = machine.concerns();
        drop(machine);
        if after.sender != before.sender {
            self.sender.wake();
        }
        if after.receiver != before.receiver {
            self.receiver.wake();
        }
        self.writer.wake();
        result
    }

    /// Looks at the state.
    pub(crate) fn look<T>(&self, look: impl FnOnce(&Machine) -> T) -> T {
        look(&self.machine.borrow())
    }

    /// Waits, on the receiving side, until the state is as wanted.
    pub(crate) async fn until(&self, wanted: impl Fn(&Machine) -> bool) {
        poll_fn(|context| {
            if self.look(&wanted) {
                return Poll::Ready(());
            }
            self.receiver.register(context.waker());
            Poll::Pending
        })
        .await
    }

    /// Registers a writer that waits for a change.
    pub(crate) fn register_writer(&self, context: &Context<'_>) {
        self.writer.register(context.waker());
    }

    /// Lets go of the handle: once its streams have ended, the connection closes.
    pub(crate) fn close(&self) {
        drop(self.handle.take());
    }

    /// Closes at once (rule K5).
    pub(crate) fn destroy(&self) {
        // The other side's streams find out by themselves, but only after the reset
        // has been sent: otherwise giving them up could send FIN first.
        if self.look(|machine| !machine.stopped()) {
            let how = self.machine.borrow_mut().destroy();
            self.carry_out(how);
        }
    }

    /// Resets at once (rule C3).
    pub(crate) fn reset(&self) {
        let how = self.machine.borrow_mut().reset();
        self.carry_out(how);
    }

    fn carry_out(&self, how: Destroy) {
        if how == Destroy::Reset
            && let Some(handle) = self.handle.take()
        {
            connections::Connection::reset(handle);
        }
        self.sender.wake();
        self.receiver.wake();
        self.writer.wake();
    }

    /// What the peer sends, until its FIN or an error, which is the connection's then.
    ///
    /// One allocation for all of it: the stream is its own state.
    pub(crate) fn receive(self: &Rc<Self>) -> impl Stream<Item = Result<Vec<u8>, Error>> + use<> {
        let taken = self
            .handle
            .borrow()
            .as_ref()
            .map(connections::Connection::read);
        let state = taken.map(|(stream, ended)| (stream, ended, READ_MIN, self.clone()));
        stream::unfold(state, async |state| {
            let (mut stream, ended, size, core) = state?;
            loop {
                let (result, chunk) = stream.read(Vec::with_capacity(size)).await;
                if !chunk.is_empty() {
                    let size = next_size(size, chunk.len());
                    return Some((Ok(chunk), Some((stream, ended, size, core))));
                }
                if matches!(result, StreamResult::Dropped) {
                    break;
                }
            }
            // The stream must not be read again: that would be a trap.
            drop(stream);
            match core.received(ended.await).await {
                Ok(()) => None,
                Err(error) => Some((Err(error), None)),
            }
        })
    }

    /// How the receiving direction ended, once the sending one has had its say: the
    /// two agree (rule E1).
    async fn received(&self, ended: Result<(), ErrorCode>) -> Result<(), Error> {
        if let Err(code) = ended {
            self.change(|machine| machine.fail(code.into()));
        } else {
            if self.look(|machine| machine.unsent() > 0) {
                // A reset that the sending direction met first makes the receiving one
                // look well ended, on hosts on operating-system sockets; its report is
                // then already on its way.
                task::yield_now().await;
            }
            return self.change(Machine::receive_end);
        }
        self.look(|machine| machine.error().cloned().map_or(Ok(()), Err))
    }

    /// Sends what the program writes, until it has ended, failed or been destroyed.
    ///
    /// A task of its own, so that nothing that is written waits for the program to ask.
    pub(crate) async fn send(self: Rc<Self>) {
        let (mut stream, reader) = wit_stream::new();
        let Some(ended) = self.handle.borrow().as_ref().map(|c| c.write(reader)) else {
            return;
        };
        // A task as well: it comes by itself if the connection fails while idle (rule C6).
        let core = self.clone();
        task::spawn(async move {
            let result = ended.await;
            core.sent_all(result);
        });
        loop {
            match poll_fn(|context| self.poll_step(context)).await {
                Step::Send(bytes) => {
                    let write = pin!(stream.write_all(bytes));
                    let stopped = pin!(poll_fn(|context| self.poll_stopped(context)));
                    match future::select(write, stopped).await {
                        Either::Left((rest, _)) if rest.is_empty() => self.change(Machine::sent),
                        // The reader is gone, and the stream must not be written to
                        // again (rule W5).
                        Either::Left(_) => break,
                        // Destroyed: what was not taken is lost, and the peer has been
                        // told, or is told now (rule W7).
                        Either::Right(_) => {
                            if self.change(Machine::flush_failed) {
                                self.carry_out(Destroy::Reset);
                            }
                            return;
                        }
                    }
                }
                Step::Finish => break,
                Step::Stop => return,
            }
        }
    }

    fn sent_all(&self, result: Result<(), ErrorCode>) {
        self.change(|machine| match result {
            Ok(()) => machine.finished(),
            Err(code) => machine.fail(code.into()),
        });
    }

    fn poll_step(&self, context: &Context<'_>) -> Poll<Step> {
        match self.machine.borrow_mut().next_step() {
            Some(step) => Poll::Ready(step),
            None => {
                self.sender.register(context.waker());
                Poll::Pending
            }
        }
    }

    fn poll_stopped(&self, context: &Context<'_>) -> Poll<()> {
        if self.look(Machine::stopped) {
            return Poll::Ready(());
        }
        self.sender.register(context.waker());
        Poll::Pending
    }
}

/// Room for the next read, by how much of it this one filled.
fn next_size(size: usize, filled: usize) -> usize {
    if filled == size {
        (size * 4).min(READ_MAX)
    } else if filled < size / 4 {
        (size / 4).max(READ_MIN)
    } else {
        size
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_room_for_reads_follows_the_traffic() {
        assert_eq!(next_size(READ_MIN, READ_MIN), 4 * READ_MIN);
        assert_eq!(next_size(READ_MAX, READ_MAX), READ_MAX);
        assert_eq!(next_size(READ_MAX, 10), READ_MAX / 4);
        assert_eq!(next_size(READ_MIN, 10), READ_MIN);
        assert_eq!(next_size(READ_MAX, READ_MAX / 2), READ_MAX);
    }
}
