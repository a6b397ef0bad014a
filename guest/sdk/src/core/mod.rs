//! The I/O of a connection, which both styles share.

mod receive;
mod send;

use std::cell::{Cell, OnceCell, RefCell};
use std::net::SocketAddr;
use std::rc::Rc;
use std::task::{Context, Poll};
use std::time::Duration;

use futures::task::AtomicWaker;
use halfopen_model::{Destroy, Step, Written};

use crate::bindings::imports::halfopen::tcp::{connections, peer};
use crate::idle::Watch;
use crate::{Error, ErrorCode, Tls};

/// The state of a connection.
pub(crate) type Machine = halfopen_model::Machine<Error>;

/// A connection: its state, its handle, and the tasks that wait for a change.
pub(crate) struct Core {
    machine: RefCell<Machine>,
    /// Data that the program has written and no step has taken.
    queue: RefCell<Vec<u8>>,
    /// `None` once this side has closed the connection.
    handle: RefCell<Option<connections::Connection>>,
    /// The peer's address, once it has been read.
    remote: Cell<Option<SocketAddr>>,
    /// The number of bytes that the program has taken from the receiving half.
    processed: Rc<Cell<u64>>,
    /// The task that sends.
    sender: AtomicWaker,
    /// The task that receives.
    receiver: AtomicWaker,
    /// The task that waits in a write, flush or close.
    writer: AtomicWaker,
    /// The idle time, if it is limited.
    watch: OnceCell<Watch>,
}

/// The conditions that tasks wait for. A task need not be woken while its conditions stay
/// the same.
#[derive(PartialEq, Eq)]
struct Concerns {
    /// Whether there is a step to do; whether the connection has stopped.
    sender: (bool, bool),
    /// Whether more may be read; whether there is an event to deliver.
    receiver: (bool, bool),
}

impl Concerns {
    fn of(machine: &Machine) -> Self {
        Concerns {
            sender: (machine.step_due(), machine.stopped()),
            receiver: (machine.may_read(), machine.event_due()),
        }
    }
}

impl Core {
    pub(crate) fn new(handle: connections::Connection) -> Rc<Self> {
        Rc::new(Core {
            machine: RefCell::default(),
            queue: RefCell::default(),
            handle: RefCell::new(Some(handle)),
            remote: Cell::new(None),
            processed: Rc::default(),
            sender: AtomicWaker::new(),
            receiver: AtomicWaker::new(),
            writer: AtomicWaker::new(),
            watch: OnceCell::new(),
        })
    }

    /// Returns the peer's address, after the end of the connection as well if it was read
    /// before.
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

    /// The number of bytes that the program has taken from the receiving half, which counts them
    /// here.
    pub(crate) fn processed(&self) -> &Rc<Cell<u64>> {
        &self.processed
    }

    /// Calls `act` with the handle, unless this side has closed the connection.
    pub(crate) fn with_handle<T>(
        &self,
        act: impl FnOnce(&connections::Connection) -> Result<T, ErrorCode>,
    ) -> Result<T, Error> {
        match &*self.handle.borrow() {
            Some(handle) => act(handle).map_err(Error::from),
            None => Err(ErrorCode::InvalidState.into()),
        }
    }

    /// Changes the state, and wakes the tasks which that concerns. No other task is woken,
    /// because each poll of a pending read or write calls the host again.
    pub(crate) fn change<T>(&self, change: impl FnOnce(&mut Machine) -> T) -> T {
        let mut machine = self.machine.borrow_mut();
        let before = Concerns::of(&machine);
        let result = change(&mut machine);
        let after = Concerns::of(&machine);
        if machine.unsent() == 0 {
            self.queue.take();
        }
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

    /// Reads the state.
    pub(crate) fn look<T>(&self, look: impl FnOnce(&Machine) -> T) -> T {
        look(&self.machine.borrow())
    }

    /// Accepts data that the program writes, unless its direction has ended (rule K4).
    pub(crate) fn write(&self, data: impl AsRef<[u8]> + Into<Vec<u8>>) -> Written {
        let length = data.as_ref().len();
        self.change(|machine| {
            let written = machine.write(length);
            if written != Written::Ended {
                let mut queue = self.queue.borrow_mut();
                if queue.is_empty() {
                    *queue = data.into();
                } else {
                    queue.extend_from_slice(data.as_ref());
                }
            }
            written
        })
    }

    /// Returns the next step of the sending direction, with the bytes to send.
    pub(crate) fn next_step(&self) -> Option<(Step, Vec<u8>)> {
        let step = self.machine.borrow_mut().next_step()?;
        Some((step, self.queue.take()))
    }

    /// Registers the task that receives for the next change.
    pub(crate) fn register_receiver(&self, context: &Context<'_>) {
        self.receiver.register(context.waker());
    }

    /// Registers the task that waits in a write for the next change.
    pub(crate) fn register_writer(&self, context: &Context<'_>) {
        self.writer.register(context.waker());
    }

    /// Limits the idle time.
    pub(crate) fn watch(&self, watch: Watch) {
        // Only the first one counts, and there is one.
        let _ = self.watch.set(watch);
    }

    /// Changes the limit of the idle time, if there is one.
    pub(crate) fn set_timeout(&self, limit: Duration) {
        if let Some(watch) = self.watch.get() {
            watch.set(limit);
            self.receiver.wake();
        }
    }

    /// Records that data was received or sent.
    pub(crate) fn moved(&self) {
        if let Some(watch) = self.watch.get() {
            watch.moved();
            self.receiver.wake();
        }
    }

    /// Resolves once the connection was idle for too long. For the task that receives.
    pub(crate) fn poll_idle(&self, context: &mut Context<'_>) -> Poll<()> {
        match self.watch.get() {
            Some(watch) => watch.poll(context),
            None => Poll::Pending,
        }
    }

    /// Drops the handle: the connection closes once its streams have ended.
    pub(crate) fn close(&self) {
        drop(self.handle.take());
    }

    /// Closes at once (rule K5).
    pub(crate) fn destroy(&self) {
        // The tasks are woken after the reset: a task that drops its stream earlier could
        // cause a FIN instead.
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
}
