//! Connections, callback style: events as of a Node socket.

use std::pin::pin;

use futures::future::{self, Either};
use futures::stream::{Stream, StreamExt};

use crate::machine::Machine;
use crate::{Connection, Error, Socket, task};

/// The callbacks of one connection. Each does nothing by default.
///
/// They are called in this order: `data` any number of times, `end` at most once, `error`
/// at most once, and `close` always. During a call nothing else happens on this
/// connection; data that the callback writes is sent once the callback has returned.
pub trait Events {
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
        let mut chunks = Box::pin(core.receive());
        task::spawn(core.clone().send());
        let socket = Socket { core };
        let mut events = open(&socket);
        let core = &socket.core;

        receive(&socket, &mut chunks, options, &mut events).await;
        core.until(Machine::settled).await;
        let error = core.look(|machine| machine.error().cloned());
        if let Some(error) = &error {
            events.error(&socket, error);
        }
        drop(chunks);
        core.close();
        events.close(&socket, error.is_some());
    }
}

/// Calls `data` and `end` for the chunks that arrive, until the receiving direction ends
/// or the connection is over.
async fn receive(
    socket: &Socket,
    chunks: &mut (impl Stream<Item = Result<Vec<u8>, Error>> + Unpin),
    options: Options,
    events: &mut impl Events,
) {
    let core = &socket.core;
    loop {
        core.until(|machine| machine.may_read() || machine.stopped())
            .await;
        let stopped = pin!(core.until(Machine::stopped));
        let next = match future::select(stopped, chunks.next()).await {
            Either::Left(_) => return,
            Either::Right((next, _)) => next,
        };
        match next {
            Some(Ok(chunk)) => {
                // While the socket is paused, one chunk waits here; nothing is lost.
                core.until(|machine| !machine.is_paused() || machine.stopped())
                    .await;
                if core.look(Machine::stopped) {
                    return;
                }
                events.data(socket, chunk);
            }
            // The machine has already recorded the error.
            Some(Err(_)) => return,
            None => {
                events.end(socket);
                if !options.allow_half_open {
                    socket.end();
                }
                return;
            }
        }
    }
}
