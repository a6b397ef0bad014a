//! Services in callback style: the host reads and writes, and calls the component.
//!
//! A component of this style imports `halfopen:tcp/sockets` and exports
//! `halfopen:tcp/events`. None of its functions waits, so the engine needs no
//! [`concurrency_support`](wasmtime::Config::concurrency_support), and is faster without.
//!
//! [`add_to_linker`] provides the imports, and a [`Driver`] calls the exports of one instance
//! for all its connections. [`Server`](crate::Server) uses both.

mod bindings;
mod driver;
mod entry;
mod host;
mod ready;
mod table;

use std::net::SocketAddr;
use std::sync::Arc;
use std::task::{Context, Poll};

pub(crate) use bindings::{Callbacks as Exports, CallbacksPre as ExportsPre};
pub use driver::Driver;
use entry::{Due, Entry};
use halfopen_model::Written;
pub use host::add_to_linker;
use ready::Ready;
use table::Table;

use super::Connection;

/// The sockets of an instance, by number.
#[derive(Debug)]
pub(super) struct Sockets {
    entries: Table<Box<Entry>>,
    ready: Arc<Ready>,
    /// The socket whose event the service handles.
    current: u32,
    /// How many events were delivered.
    events: u64,
    /// The number of bytes that are kept for all sockets.
    kept: usize,
    /// The most bytes to keep.
    max_kept: usize,
}

impl Sockets {
    /// Has no sockets yet. `max_kept` limits the bytes that are kept for all of them.
    pub(super) fn new(max_kept: Option<usize>) -> Self {
        Sockets {
            entries: Table::default(),
            ready: Arc::default(),
            current: 0,
            events: 0,
            kept: 0,
            max_kept: max_kept.unwrap_or(usize::MAX),
        }
    }

    /// Takes over a connection. Its first event is due.
    fn add(&mut self, connection: Connection) -> u32 {
        let ready = &self.ready;
        let socket = connection.into_socket();
        let number = self
            .entries
            .add(|number| Box::new(Entry::new(socket, ready.signal(number))));
        self.touch(number);
        number
    }

    /// Calls `act` on a socket that the service names, and lets the driver look at it; `None`
    /// if there is none.
    fn act<R>(&mut self, socket: u32, act: impl FnOnce(&mut Entry) -> R) -> Option<R> {
        self.given(socket)?;
        let entry = self.entries.get_mut(socket)?;
        let before = entry.kept();
        let result = act(entry);
        self.kept = self.kept + entry.kept() - before;
        // The driver looks at the current socket in any case.
        if socket != self.current {
            self.touch(socket);
        }
        Some(result)
    }

    /// Takes the entry of a socket out, to write to it; [`written`](Self::written) puts it back.
    /// Returns as well how many bytes may be kept for it.
    fn writes(&mut self, socket: u32) -> Option<(Box<Entry>, usize)> {
        self.given(socket)?;
        let room = self.max_kept.saturating_sub(self.kept);
        Some((self.entries.lend(socket)?, room))
    }

    fn written(&mut self, socket: u32, entry: Box<Entry>, written: Written, kept: usize) {
        self.entries.give_back(socket, entry);
        self.kept += kept;
        // The driver is woken for data that waits; it does not know that the write has failed.
        if written == Written::Ended && socket != self.current {
            self.touch(socket);
        }
    }

    fn look<R>(&self, socket: u32, look: impl FnOnce(&Entry) -> R) -> Option<R> {
        self.given(socket).map(look)
    }

    /// Returns a socket that the service names. A number that it has guessed, before
    /// `connection` gave it, stands for none.
    fn given(&self, socket: u32) -> Option<&Entry> {
        let entry = self.entries.get(socket)?;
        entry.is_given().then_some(&**entry)
    }

    /// Lets the driver look at a socket.
    fn touch(&self, socket: u32) {
        if let Some(entry) = self.entries.get(socket) {
            std::task::Wake::wake_by_ref(entry.signal());
        }
    }

    /// Returns the next event of a socket.
    fn next(&mut self, socket: u32, buffer: &mut [u8]) -> Option<Due> {
        let entry = self.entries.get_mut(socket)?;
        let before = entry.kept();
        let due = entry.next(buffer);
        self.kept = self.kept + entry.kept() - before;
        if due.is_some() {
            self.current = socket;
            self.events += 1;
        }
        due
    }

    /// Records that the handler of an event has returned.
    fn handled(&mut self) {
        self.current = 0;
    }

    /// The peer of the socket whose event the service handles.
    pub(super) fn current_peer(&self) -> Option<SocketAddr> {
        self.entries.get(self.current)?.remote()
    }

    /// How many events were delivered.
    pub(super) fn events(&self) -> u64 {
        self.events
    }

    fn poll_ready(&self, cx: &Context<'_>) -> Poll<()> {
        self.ready.poll(cx)
    }
}
