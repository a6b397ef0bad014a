//! Services in callback style: the host reads and writes, and calls the component.
//!
//! A component of this style imports `halfopen:tcp/sockets` and exports
//! `halfopen:tcp/events`. None of its functions waits, so the engine needs no
//! [`concurrency_support`](wasmtime::Config::concurrency_support), and is faster without.
//!
//! [`add_to_linker`] provides the imports, and a [`Driver`] calls the exports of one instance
//! for all its connections. [`Server`](crate::Server) uses both.
//!
//! # Example
//!
//! Accepts a connection and serves it, with WASI in the same linker:
//!
//! ```
//! use halfopen::tcp::{TcpCtx, TcpCtxView, TcpView, callbacks};
//! use tokio::net::TcpListener;
//! use wasmtime::component::{Component, Linker, ResourceTable};
//! use wasmtime::{Config, Engine, Store};
//! use wasmtime_wasi::{WasiCtx, WasiCtxView, WasiView};
//!
//! struct State {
//!     tcp: TcpCtx,
//!     wasi: WasiCtx,
//!     table: ResourceTable,
//! }
//!
//! impl TcpView for State {
//!     fn tcp(&mut self) -> TcpCtxView<'_> {
//!         TcpCtxView { ctx: &mut self.tcp, table: &mut self.table }
//!     }
//! }
//!
//! impl WasiView for State {
//!     fn ctx(&mut self) -> WasiCtxView<'_> {
//!         WasiCtxView { ctx: &mut self.wasi, table: &mut self.table }
//!     }
//! }
//!
//! #[tokio::main]
//! async fn main() -> wasmtime::Result<()> {
//!     let mut config = Config::new();
//!     // Nothing in callback style needs it, and calls are faster without.
//!     config.concurrency_support(false);
//!     let engine = Engine::new(&config)?;
//!     let mut linker = Linker::<State>::new(&engine);
//!     callbacks::add_to_linker(&mut linker)?;
//!     wasmtime_wasi::p2::add_to_linker_async(&mut linker)?;
//!     let service = Component::from_file(&engine, "dist/echo.wasm")?;
//!
//!     let listener = TcpListener::bind("127.0.0.1:0").await?;
//! #   let address = listener.local_addr()?;
//! #   let peer = std::thread::spawn(move || {
//! #       use std::io::{Read, Write};
//! #       let mut peer = std::net::TcpStream::connect(address).unwrap();
//! #       peer.write_all(b"hi").unwrap();
//! #       peer.shutdown(std::net::Shutdown::Write).unwrap();
//! #       let mut answer = String::new();
//! #       peer.read_to_string(&mut answer).unwrap();
//! #       answer
//! #   });
//!     let (stream, _) = listener.accept().await?;
//!
//!     let state = State {
//!         tcp: TcpCtx::default(),
//!         wasi: WasiCtx::builder().inherit_stdout().build(),
//!         table: ResourceTable::new(),
//!     };
//!     let mut store = Store::new(&engine, state);
//!     let instance = linker.instantiate_async(&mut store, &service).await?;
//!     let mut driver = callbacks::Driver::new(&mut store, &instance)?;
//!     let connection = store.data().tcp.connection(stream);
//!     driver.add(&mut store, connection);
//!     // Until the last connection has closed; more can be added at any time.
//!     while !driver.is_empty(&mut store) {
//!         driver.ready(&mut store).await;
//!         if let Err(trap) = driver.run(&mut store).await {
//!             // RST, where dropping the store is FIN.
//!             store.data().tcp.abort_all();
//!             return Err(trap);
//!         }
//!     }
//! #   assert_eq!(peer.join().unwrap(), "hi");
//!     Ok(())
//! }
//! ```

mod bindings;
mod clock;
mod driver;
mod entry;
mod exports;
mod further;
mod host;
mod pipe;
mod queue;
mod ready;
mod securing;
mod topics;

use std::net::SocketAddr;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use clock::Clock;
pub use driver::Driver;
use entry::{Due, Entry};
pub(crate) use exports::ExportsPre;
use halfopen_model::{Alarm, Table, Written};
pub use host::add_to_linker;
use ready::Ready;

use super::{Connection, ErrorCode};
use crate::topics::Inbox;

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
    /// How many chunks pipes have moved since the driver last asked.
    piped: usize,
    /// Made when it is first used.
    clock: Option<Box<Clock>>,
    /// What comes of the topics to which the instance is subscribed. Made when it is first used.
    inbox: Option<Box<Inbox>>,
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
            piped: 0,
            clock: None,
            inbox: None,
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

    /// Adds a connection that the service makes. Its outcome is its first event. The address of
    /// a name is not known before.
    fn connect(
        &mut self,
        connecting: impl Future<Output = Result<Connection, ErrorCode>> + Send + 'static,
        remote: Option<SocketAddr>,
    ) -> u32 {
        let ready = &self.ready;
        let number = self.entries.add(|number| {
            let signal = ready.signal(number);
            Box::new(Entry::connecting(connecting, remote, signal))
        });
        self.touch(number);
        number
    }

    /// Forgets a socket that has closed.
    fn remove(&mut self, socket: u32) {
        if let Some(entry) = self.entries.remove(socket)
            && let (Some(clock), Some(watch)) = (&mut self.clock, &entry.watch)
        {
            clock.unwatch(socket, watch);
        }
    }

    /// Calls `act` on a socket that the service names, and lets the driver look at it; `None`
    /// if there is none.
    fn act<R>(&mut self, socket: u32, act: impl FnOnce(&mut Entry) -> R) -> Option<R> {
        let entry = given(&mut self.entries, socket)?;
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
        let entry = self.entries.lend(socket)?;
        if !entry.is_given() {
            self.entries.give_back(socket, entry);
            return None;
        }
        Some((entry, self.max_kept.saturating_sub(self.kept)))
    }

    fn written(&mut self, socket: u32, entry: Box<Entry>, written: Written, kept: usize) {
        self.entries.give_back(socket, entry);
        self.kept += kept;
        self.watch(socket);
        // The driver is woken for data that waits; it does not know that the write has failed.
        if written == Written::Ended && socket != self.current {
            self.touch(socket);
        }
    }

    fn look<R>(&self, socket: u32, look: impl FnOnce(&Entry) -> R) -> Option<R> {
        let entry = self.entries.get(socket)?;
        entry.is_given().then(|| look(entry))
    }

    /// Lets the driver look at a socket.
    fn touch(&self, socket: u32) {
        if let Some(entry) = self.entries.get(socket) {
            std::task::Wake::wake_by_ref(entry.signal());
        }
    }

    /// Returns the next event of a socket.
    fn next(&mut self, socket: u32, buffer: &mut [u8]) -> Option<Due> {
        let mut entry = self.entries.get_mut(socket)?;
        if entry.is_piped() {
            self.pump(socket, buffer);
            entry = self.entries.get_mut(socket)?;
        }
        let before = entry.kept();
        let due = entry.next(buffer);
        self.kept = self.kept + entry.kept() - before;
        let freed = entry.frees();
        self.watch(socket);
        if let Some(source) = freed {
            self.touch(source);
        }
        if due.is_some() {
            self.current = socket;
            self.events += 1;
        }
        due
    }

    /// Records that the handler of an event has returned, before another socket has a turn.
    fn handled(&mut self) {
        if let Some(entry) = self.entries.get_mut(self.current) {
            entry.handled();
        }
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

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        if self.ready.poll(cx).is_ready() {
            return Poll::Ready(());
        }
        if let Some(inbox) = &self.inbox
            && inbox.poll_ready(cx).is_ready()
        {
            return Poll::Ready(());
        }
        match &mut self.clock {
            Some(clock) => clock.poll(cx),
            None => Poll::Pending,
        }
    }

    // --- Time ------------------------------------------------------------------

    /// Sets a timer, and returns its number; 0 if there are too many.
    fn set_timer(&mut self, milliseconds: u32, repeats: bool) -> u32 {
        let clock = self.clock.get_or_insert_default();
        clock.set(milliseconds, repeats)
    }

    /// Ends a timer.
    fn clear_timer(&mut self, timer: u32) {
        if let Some(clock) = &mut self.clock {
            clock.clear(timer);
        }
    }

    /// The time of the clock, if there is one.
    fn now(&self) -> Option<Duration> {
        self.clock.as_ref().map(|clock| clock.now())
    }

    /// Limits the idle time of a socket.
    fn set_timeout(&mut self, socket: u32, milliseconds: u32) {
        let Some(entry) = given(&mut self.entries, socket) else {
            return;
        };
        let clock = self.clock.get_or_insert_default();
        let watch = entry
            .watch
            .get_or_insert_with(|| Box::new(clock.new_watch()));
        watch.set(milliseconds);
        clock.watch(socket, watch);
    }

    /// Sets the alarm of a socket that has none and needs one.
    fn watch(&mut self, socket: u32) {
        if let Some(clock) = &mut self.clock
            && let Some(entry) = self.entries.get_mut(socket)
            && let Some(watch) = &mut entry.watch
        {
            clock.watch(socket, watch);
        }
    }

    /// Returns a timer whose time has come, and lets the driver look at sockets that were idle
    /// for too long.
    fn ring(&mut self, now: Duration) -> Option<u32> {
        loop {
            let clock = self.clock.as_mut()?;
            let socket = match clock.due(now)? {
                Alarm::Timer(timer) => {
                    self.events += 1;
                    return Some(timer);
                }
                Alarm::Idle(socket) => socket,
            };
            let Some(entry) = self.entries.get_mut(socket) else {
                continue;
            };
            let Some(watch) = &mut entry.watch else {
                continue;
            };
            if watch.ring(now) {
                self.touch(socket);
            } else {
                clock.watch(socket, watch);
            }
        }
    }
}

/// Returns a socket that the service names. A number that it has guessed, before `connection`
/// gave it, stands for none (rule K10).
fn given(entries: &mut Table<Box<Entry>>, socket: u32) -> Option<&mut Entry> {
    let entry = entries.get_mut(socket)?;
    entry.is_given().then_some(&mut **entry)
}

#[cfg(test)]
mod tests {
    use tokio::net::{TcpListener, TcpStream};

    use super::*;
    use crate::tcp::TcpCtx;

    /// Until `connection` has given it, a number stands for no socket (rule K10), whatever is
    /// done with it.
    #[tokio::test]
    async fn a_number_that_was_guessed_stands_for_nothing() {
        let ctx = TcpCtx::default();
        let mut sockets = Sockets::new(None);
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let mut peers = Vec::new();
        for _ in 0..2 {
            peers.push(TcpStream::connect(listener.local_addr().unwrap()).await);
            let (stream, _) = listener.accept().await.unwrap();
            sockets.add(ctx.connection(stream));
        }
        assert!(matches!(
            sockets.next(1, &mut [0; 16]),
            Some(Due::Connection)
        ));
        let timed = |sockets: &Sockets, number| {
            let entry = sockets.entries.get(number);
            entry.is_some_and(|entry| entry.watch.is_some())
        };
        for number in [1, 2] {
            sockets.set_timeout(number, 1000);
            assert_eq!(sockets.look(number, |_| ()), (number == 1).then_some(()));
            assert_eq!(timed(&sockets, number), number == 1);
        }
        assert!(sockets.writes(2).is_none());
        assert_eq!(sockets.act(2, Entry::destroy), None);
        for (source, sink) in [(1, 2), (2, 1)] {
            let piped = sockets.pipe(source, sink);
            assert!(matches!(piped, Err(ErrorCode::InvalidState)), "{piped:?}");
        }
        assert!(matches!(
            sockets.next(2, &mut [0; 16]),
            Some(Due::Connection)
        ));
        sockets.pipe(1, 2).unwrap();
    }
}
