//! Connections, callback style: events come, as from a Node socket.

use std::net::SocketAddr;
use std::pin::pin;
use std::rc::Rc;

use futures::future::{self, Either};
use futures::stream::{Stream, StreamExt};

use crate::core::Core;
use crate::machine::Machine;
use crate::{Connection, Error, Tls, task};

/// What happens on one connection. Each method does nothing unless it is written.
///
/// They come in this order: any number of `data`, `end` at most once, `error` at most
/// once, and `close`, always. Meanwhile nothing else of this connection happens; what
/// is written is sent once the method has returned.
pub trait Events {
    /// Bytes came. How many come at once has no meaning: TCP is a stream of bytes.
    fn data(&mut self, socket: &Socket, chunk: Vec<u8>) {
        _ = (socket, chunk);
    }

    /// The peer's FIN: it will send no more. Unless half-open connections are
    /// allowed, the socket ends by itself after this.
    fn end(&mut self, socket: &Socket) {
        _ = socket;
    }

    /// The connection has failed.
    fn error(&mut self, socket: &Socket, error: &Error) {
        _ = (socket, error);
    }

    /// The connection is over; `had_error` tells whether by an error.
    fn close(&mut self, socket: &Socket, had_error: bool) {
        _ = (socket, had_error);
    }
}

/// How a connection is to behave.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Options {
    /// Whether the connection stays open for sending after the peer's FIN. If not,
    /// it ends by itself then: what was written is sent, and FIN after it. If so,
    /// only [`Socket::end`] and [`Socket::destroy`] end it. Off unless set.
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

/// What can be done with a connection from within its events, or from anywhere else:
/// clones are the same socket. Nothing is wrong to call at any time.
#[derive(Clone)]
pub struct Socket {
    core: Rc<Core>,
}

impl std::fmt::Debug for Socket {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Socket")
            .field("peer_addr", &self.peer_addr())
            .field("unsent", &self.unsent())
            .finish_non_exhaustive()
    }
}

impl Socket {
    /// Sends `data` after what was written before. False, and nothing is sent, if the
    /// socket was ended or destroyed or has failed.
    ///
    /// While more than 64 KiB wait to be sent, no further `data` comes.
    pub fn write(&self, data: impl Into<Vec<u8>>) -> bool {
        let data = data.into();
        self.core.change(|machine| machine.write(data))
    }

    /// Ends our direction: FIN goes out after everything that was written. What the
    /// peer still sends keeps coming.
    pub fn end(&self) {
        self.core.change(Machine::end);
    }

    /// Closes at once; of the events only `close` comes still. If the host does not at
    /// once take all that was written, the peer gets a reset instead of FIN, so that it
    /// cannot take a part for the whole.
    pub fn destroy(&self) {
        self.core.destroy();
    }

    /// Aborts: the peer gets RST where the host can send one.
    pub fn reset(&self) {
        self.core.reset();
    }

    /// Lets no `data` come, until [`Socket::resume`], nor an `end` that is behind data.
    /// The peer is held up once the buffers on the way are full.
    pub fn pause(&self) {
        self.core.change(|machine| machine.pause(true));
    }

    /// Lets them come again.
    pub fn resume(&self) {
        self.core.change(|machine| machine.pause(false));
    }

    /// Whether [`Socket::write`] takes anything.
    #[must_use]
    pub fn is_writable(&self) -> bool {
        self.core.look(Machine::can_write)
    }

    /// How many bytes were written and are not yet with the host.
    #[must_use]
    pub fn unsent(&self) -> usize {
        self.core.look(Machine::unsent)
    }

    /// The address of our end.
    ///
    /// # Errors
    /// If the connection is closed.
    pub fn local_addr(&self) -> Result<SocketAddr, Error> {
        self.core.local_addr()
    }

    /// The address of the peer. Once asked for, it is known after the connection's end
    /// as well.
    ///
    /// # Errors
    /// If the connection is closed, or the peer had gone before it was accepted.
    pub fn peer_addr(&self) -> Result<SocketAddr, Error> {
        self.core.peer_addr()
    }

    /// The peer's TLS session, if the host knows of one and the connection is open.
    #[must_use]
    pub fn tls(&self) -> Option<Tls> {
        self.core.tls()
    }
}

impl Connection {
    /// Serves the connection callback style, until it is over: `open` makes what takes
    /// its events.
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

/// Reports what comes, until its end, or until the connection is over.
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
                // While paused, one chunk waits here; nothing is lost.
                core.until(|machine| !machine.is_paused() || machine.stopped())
                    .await;
                if core.look(Machine::stopped) {
                    return;
                }
                events.data(socket, chunk);
            }
            // The connection's error is known to it already.
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
