//! Calls the events of an instance.

use std::cell::RefCell;
use std::future::poll_fn;
use std::mem;
use std::task::{Context, Poll};

use tokio::task::yield_now;
use wasmtime::Store;
use wasmtime::component::Instance;

use super::Sockets;
use super::entry::Due;
use super::exports::Exports;
use super::topics;
use crate::tcp::receive::CHUNK;
use crate::tcp::{Connection, TcpView};

/// How many events of one socket come in a row while others wait.
const TURN: usize = 8;

/// How many events come in a row while other tasks of the thread wait.
const EVENTS: usize = 128;

/// How many messages of topics come in a row while sockets wait.
const MESSAGES: usize = 32;

/// Calls the events of one instance in callback style, for all its connections.
///
/// The [module](super) has an example.
pub struct Driver {
    exports: Exports,
    /// The sockets that can be looked at, the next one last.
    sockets: Vec<u32>,
    /// How many events have come since other tasks of the thread last had a turn.
    events: usize,
}

thread_local! {
    /// Buffers that no driver uses. An idle driver has none.
    static BUFFERS: RefCell<Vec<Box<[u8]>>> = const { RefCell::new(Vec::new()) };
}

/// A buffer to receive into. It stays with its driver during a call, which may give way to
/// other drivers of the thread before the guest has the data.
struct Buffer(Box<[u8]>);

/// The most buffers that a thread keeps.
const KEPT_BUFFERS: usize = 4;

impl Buffer {
    fn take() -> Self {
        let kept = BUFFERS.with_borrow_mut(Vec::pop);
        Buffer(kept.unwrap_or_else(|| vec![0; CHUNK].into_boxed_slice()))
    }
}

impl Drop for Buffer {
    fn drop(&mut self) {
        BUFFERS.with_borrow_mut(|buffers| {
            if buffers.len() < KEPT_BUFFERS {
                buffers.push(mem::take(&mut self.0));
            }
        });
    }
}

impl Driver {
    /// Finds the events among the exports of an instance.
    ///
    /// # Errors
    /// If the instance does not export them.
    pub fn new<T: TcpView + 'static>(
        store: &mut Store<T>,
        instance: &Instance,
    ) -> wasmtime::Result<Self> {
        Exports::new(store, instance).map(Driver::of)
    }

    pub(crate) fn of(exports: Exports) -> Self {
        Driver {
            exports,
            sockets: Vec::new(),
            events: 0,
        }
    }

    /// Tells the instance that it is kept running, if it exports `starting`. Call this before
    /// anything else, and only if the instance may work without connections.
    ///
    /// # Errors
    /// If the guest traps.
    pub async fn start<T: TcpView + 'static>(&self, store: &mut Store<T>) -> wasmtime::Result<()> {
        match self.exports.start() {
            Some(start) => start.call_async(store, ()).await,
            None => Ok(()),
        }
    }

    /// Gives the instance a connection, whose events [`run`](Self::run) calls. Returns its
    /// socket, the number by which the instance knows it.
    pub fn add<T: TcpView + 'static>(&self, store: &mut Store<T>, connection: Connection) -> u32 {
        sockets(store).add(connection)
    }

    /// Returns whether no connection is left.
    pub fn is_empty<T: TcpView + 'static>(&self, store: &mut Store<T>) -> bool {
        sockets(store).entries.len() == 0
    }

    /// Waits until [`run`](Self::run) has something to do. May be dropped and called again.
    pub async fn ready<T: TcpView + 'static>(&mut self, store: &mut Store<T>) {
        if self.sockets.is_empty() {
            let sockets = sockets(store);
            poll_fn(|cx: &mut Context<'_>| -> Poll<()> { sockets.poll_ready(cx) }).await;
        }
    }

    /// Calls the events that are due, and returns after some time even if there are more.
    ///
    /// # Errors
    /// If the guest traps. Its connections have to be reset then, see
    /// [`TcpCtx::abort_all`](crate::tcp::TcpCtx::abort_all).
    pub async fn run<T: TcpView + 'static>(
        &mut self,
        store: &mut Store<T>,
    ) -> wasmtime::Result<()> {
        if self.sockets.is_empty() {
            sockets(store).ready.take(&mut self.sockets);
            self.sockets.reverse();
        }
        self.events += self.ring(store).await?;
        self.events += self.deliver(store).await?;
        let mut buffer = Buffer::take();
        while let Some(socket) = self.sockets.pop() {
            self.events += self.serve(store, socket, &mut buffer).await?;
            if self.events >= EVENTS {
                break;
            }
        }
        drop(buffer);
        // Timers, pipes and busy sockets can go on for ever without waiting.
        if self.events >= EVENTS {
            self.events = 0;
            yield_now().await;
        }
        Ok(())
    }

    /// Calls the timers whose time has come, up to [`EVENTS`]. Returns how many they were.
    async fn ring<T: TcpView + 'static>(&self, store: &mut Store<T>) -> wasmtime::Result<usize> {
        let Some(now) = sockets(store).now() else {
            return Ok(0);
        };
        for events in 0..EVENTS {
            let Some(timer) = sockets(store).ring(now) else {
                return Ok(events);
            };
            if let Some(fired) = self.exports.fired() {
                fired.call_async(&mut *store, (timer,)).await?;
            }
        }
        Ok(EVENTS)
    }

    /// Calls the events of topics that are due, up to [`MESSAGES`]. Returns how many they were.
    async fn deliver<T: TcpView + 'static>(&self, store: &mut Store<T>) -> wasmtime::Result<usize> {
        let Some(events) = self.exports.topics() else {
            return Ok(0);
        };
        for delivered in 0..MESSAGES {
            let Some(delivery) = sockets(store).delivery() else {
                return Ok(delivered);
            };
            topics::call(events, store, delivery).await?;
        }
        Ok(MESSAGES)
    }

    /// Calls the events of a socket that are due, up to [`TURN`]. Returns how many they were.
    async fn serve<T: TcpView + 'static>(
        &self,
        store: &mut Store<T>,
        socket: u32,
        buffer: &mut Buffer,
    ) -> wasmtime::Result<usize> {
        match sockets(store).entries.get(socket) {
            Some(entry) => entry.signal().begin(),
            None => return Ok(0),
        }
        let events = self.exports.events();
        for turn in 0..TURN {
            let Some(due) = sockets(store).next(socket, &mut buffer.0) else {
                return Ok(turn + mem::take(&mut sockets(store).piped));
            };
            match due {
                Due::Connection => events.call_connection(&mut *store, socket).await?,
                Due::Data(length) => {
                    let data = &buffer.0[..length];
                    events.call_data(&mut *store, socket, data).await?;
                }
                Due::HeldData(data) => events.call_data(&mut *store, socket, &data).await?,
                Due::End => events.call_end(&mut *store, socket).await?,
                Due::Drain => events.call_drain(&mut *store, socket).await?,
                Due::Secured => {
                    if let Some(secured) = self.exports.secured() {
                        secured.call_async(&mut *store, (socket,)).await?;
                    }
                }
                Due::Timeout => events.call_timeout(&mut *store, socket).await?,
                Due::Error(error) => {
                    events.call_error(&mut *store, socket, &error).await?;
                }
                Due::Close { had_error } => {
                    events.call_close(&mut *store, socket, had_error).await?;
                    sockets(store).remove(socket);
                }
            }
            sockets(store).handled();
        }
        sockets(store).touch(socket);
        Ok(TURN)
    }
}

fn sockets<T: TcpView + 'static>(store: &mut Store<T>) -> &mut Sockets {
    store.data_mut().tcp().ctx.sockets()
}

impl std::fmt::Debug for Driver {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Driver")
            .field("sockets", &self.sockets)
            .finish_non_exhaustive()
    }
}
