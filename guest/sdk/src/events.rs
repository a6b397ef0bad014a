//! Connections, callback style: events as of a Node socket.

use std::future::poll_fn;
use std::mem;
use std::task::Poll;
use std::time::Duration;

use futures::stream::{Stream, StreamExt};
use halfopen_model::Event;

use crate::core::{Core, Machine};
use crate::idle::{Clock, Watch};
use crate::time::CLOCK;
use crate::{Connection, Error, Socket, task};

/// The callbacks of one connection. Each does nothing by default.
///
/// They are called in this order: `connect` once for a connection of
/// [`callbacks::connect`](crate::callbacks::connect), `data` any number of times, `end` at
/// most once, `error` at most once, and `close` always; `drain` may come at any time before
/// `end`, or after it if half-open connections are allowed. `timeout` may come at any time
/// before `error` or `close`. During a call nothing else happens on this connection.
pub trait Events {
    /// Called when a connection that [`callbacks::connect`](crate::callbacks::connect) has
    /// begun exists. If there will be none, `error` and `close` come instead.
    fn connect(&mut self, socket: &Socket) {
        _ = socket;
    }

    /// Called when data has arrived. The size of a chunk has no meaning: TCP is a stream
    /// of bytes.
    fn data(&mut self, socket: &Socket, chunk: Vec<u8>) {
        _ = (socket, chunk);
    }

    /// Called at the peer's FIN: the peer will send no more. Unless half-open connections
    /// are allowed, the socket then ends by itself.
    fn end(&mut self, socket: &Socket) {
        _ = socket;
    }

    /// Called when the host has taken all written data, after more than 64 KiB of it had
    /// waited.
    fn drain(&mut self, socket: &Socket) {
        _ = socket;
    }

    /// Called when the TLS handshake that
    /// [`callbacks::secure_as_server`](crate::callbacks::secure_as_server) or
    /// [`secure_as_client`](crate::callbacks::secure_as_client) has begun is done: all data that
    /// follows came within TLS.
    fn secured(&mut self, socket: &Socket) {
        _ = socket;
    }

    /// Called when the time of [`Socket::set_timeout`] is over. The connection goes on.
    fn timeout(&mut self, socket: &Socket) {
        _ = socket;
    }

    /// Called when the connection has failed.
    fn error(&mut self, socket: &Socket, error: &Error) {
        _ = (socket, error);
    }

    /// Called when the connection is over; `had_error` is true if it failed.
    fn close(&mut self, socket: &Socket, had_error: bool) {
        _ = (socket, had_error);
    }
}

/// Options of a connection in callback style, built from their default.
///
/// ```
/// use halfopen_guest::Options;
///
/// let options = Options::default().allow_half_open(true);
/// assert!(options.allow_half_open);
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Options {
    /// Whether the connection stays open for sending after the peer's FIN (default:
    /// false).
    ///
    /// If false, the socket ends after the peer's FIN: written data is sent, and FIN after
    /// it. If true, only [`Socket::end`] and [`Socket::destroy`] end it.
    pub allow_half_open: bool,
    timeout: Option<Timeout>,
}

/// A limit on the idle time, and the clock that measures it.
#[derive(Clone, Copy)]
struct Timeout {
    time: Duration,
    clock: Clock,
}

impl PartialEq for Timeout {
    fn eq(&self, other: &Self) -> bool {
        // There is one clock.
        self.time == other.time
    }
}

impl Eq for Timeout {}

impl std::fmt::Debug for Timeout {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.time.fmt(f)
    }
}

impl Options {
    /// Sets [`Options::allow_half_open`].
    #[must_use]
    pub fn allow_half_open(mut self, allow: bool) -> Self {
        self.allow_half_open = allow;
        self
    }

    /// Calls [`Events::timeout`] once no data was received or sent for this time (default:
    /// never), and again only after data has moved. The connection goes on.
    /// [`Socket::set_timeout`] changes the time.
    #[must_use]
    pub fn timeout(mut self, time: Duration) -> Self {
        let clock = CLOCK;
        self.timeout = Some(Timeout { time, clock });
        self
    }
}

impl Connection {
    /// Serves the connection in callback style until it is over. `open` returns the value
    /// whose callbacks are called.
    ///
    /// ```no_run
    /// use halfopen_guest::{Connection, Events, Options, Socket};
    ///
    /// struct Echo;
    ///
    /// impl Events for Echo {
    ///     fn data(&mut self, socket: &Socket, chunk: Vec<u8>) {
    ///         socket.write(chunk);
    ///     }
    /// }
    ///
    /// async fn handle(connection: Connection) -> Result<(), String> {
    ///     connection.serve(Options::default(), |_socket| Echo).await;
    ///     Ok(())
    /// }
    /// ```
    pub async fn serve<E: Events>(self, options: Options, open: impl FnOnce(&Socket) -> E) {
        let core = self.into_core();
        core.change(|machine| machine.allow_half_open(options.allow_half_open));
        if let Some(Timeout { time, clock }) = options.timeout {
            core.watch(Watch::new(clock, time));
        }
        let mut chunks = Box::pin(core.receive());
        task::spawn(core.clone().send());
        let socket = Socket::new(core.clone());
        let mut events = open(&socket);
        let core = &core;
        // While the socket is paused, one chunk waits here; nothing is lost (rule K7).
        let mut held = Vec::new();
        loop {
            while let Some(event) = core.change(Machine::next_event) {
                match event {
                    Event::Data => events.data(&socket, mem::take(&mut held)),
                    Event::End => events.end(&socket),
                    Event::Drain => events.drain(&socket),
                    Event::Error(error) => events.error(&socket, &error),
                    Event::Close { had_error } => {
                        drop(chunks);
                        core.close();
                        events.close(&socket, had_error);
                        return;
                    }
                }
            }
            match next(core, &mut chunks).await {
                Next::Chunk(Ok(chunk)) => {
                    held = chunk;
                    core.change(Machine::received);
                    core.moved();
                }
                Next::Idle => events.timeout(&socket),
                // The machine has already recorded an end or an error.
                Next::Chunk(Err(_)) | Next::Event => {}
            }
        }
    }
}

/// What a served connection waits for.
enum Next<T> {
    Chunk(T),
    /// An event that needs no chunk.
    Event,
    /// The connection was idle for too long.
    Idle,
}

/// Waits for what comes next.
async fn next<T>(core: &Core, chunks: &mut (impl Stream<Item = T> + Unpin)) -> Next<T> {
    poll_fn(|context| {
        core.register_receiver(context);
        if core.look(Machine::event_due) {
            return Poll::Ready(Next::Event);
        }
        if core.look(Machine::may_read)
            && let Poll::Ready(chunk) = chunks.poll_next_unpin(context)
        {
            return Poll::Ready(chunk.map_or(Next::Event, Next::Chunk));
        }
        core.poll_idle(context).map(|()| Next::Idle)
    })
    .await
}
