//! Connections, callback style: events as of a Node socket.

use std::future::poll_fn;
use std::mem;
use std::task::Poll;

use futures::stream::{Stream, StreamExt};
use halfopen_model::Event;

use crate::core::{Core, Machine};
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
}

impl Options {
    /// Sets [`Options::allow_half_open`].
    #[must_use]
    pub fn allow_half_open(mut self, allow: bool) -> Self {
        self.allow_half_open = allow;
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
            // The machine has already recorded an end or an error.
            if let Some(Ok(chunk)) = next_chunk(core, &mut chunks).await {
                held = chunk;
                core.change(Machine::received);
            }
        }
    }
}

/// Waits for the next chunk, or for an event that needs none; returns `None` for that.
async fn next_chunk<T>(core: &Core, chunks: &mut (impl Stream<Item = T> + Unpin)) -> Option<T> {
    poll_fn(|context| {
        core.register_receiver(context);
        if core.look(Machine::event_due) {
            return Poll::Ready(None);
        }
        if core.look(Machine::may_read) {
            return chunks.poll_next_unpin(context);
        }
        Poll::Pending
    })
    .await
}
