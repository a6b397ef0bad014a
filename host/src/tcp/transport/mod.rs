//! How bytes get from a connection to its socket: as they are, or through TLS.

mod handshake;
mod kernel;
mod plain;
#[cfg(target_os = "linux")]
mod splice;
#[cfg(not(target_os = "linux"))]
#[path = "no_splice.rs"]
mod splice;
mod tls;

use std::io;
use std::task::{Context, Poll};

use rustls::Connection;
use tokio::net::TcpStream;

use super::ErrorCode;
use super::meter::Delivery;
use super::state::State;
use super::sync::Arc;
pub(super) use handshake::Shaken;
use kernel::{outstanding, reset, shut_down};
pub(super) use plain::Halves;
pub(super) use splice::KernelPipe;
pub(super) use tls::Secure;

/// A connected stream that no [`Socket`](super::Socket) has taken over yet.
#[derive(Debug)]
pub(crate) enum Stream {
    /// A nonblocking stream that is not registered with any runtime.
    Accepted(std::net::TcpStream),
    /// A stream that is registered with a runtime.
    Plain(TcpStream),
    /// A stream after the TLS handshake, and its session.
    Tls(TcpStream, Box<Connection>),
}

impl Stream {
    /// Moves the stream to the current runtime.
    ///
    /// # Errors
    /// If the runtime cannot register the stream.
    pub(crate) fn moved_here(self) -> io::Result<Self> {
        let here = |stream: TcpStream| TcpStream::from_std(stream.into_std()?);
        Ok(match self {
            // It is registered where it is opened.
            Stream::Accepted(stream) => Stream::Accepted(stream),
            Stream::Plain(stream) => Stream::Plain(here(stream)?),
            Stream::Tls(stream, session) => Stream::Tls(here(stream)?, session),
        })
    }
}

/// The transport of an open connection. Clones are the same transport.
#[derive(Clone, Debug)]
pub(super) enum Transport {
    Plain(Arc<Halves>),
    Tls(Arc<Secure>),
}

impl Transport {
    /// Takes over a stream, in the current runtime.
    ///
    /// # Errors
    /// If the runtime cannot register the stream.
    pub(super) fn open(stream: Stream) -> io::Result<Self> {
        let plain = |stream| Transport::Plain(Arc::new(Halves::new(stream)));
        Ok(match stream {
            Stream::Accepted(stream) => plain(TcpStream::from_std(stream)?),
            Stream::Plain(stream) => plain(stream),
            Stream::Tls(stream, session) => Transport::Tls(Arc::new(Secure::new(stream, *session))),
        })
    }

    /// Begins TLS, after `sent` bytes in the clear; [`poll_handshake`](Self::poll_handshake) goes
    /// on with it. Returns whether that was possible: with TLS it is not, nor with other clones.
    pub(super) fn secure(self, session: Connection, sent: u64) -> (Self, bool) {
        let Transport::Plain(halves) = self else {
            return (self, false);
        };
        match Arc::try_unwrap(halves).map(Halves::into_stream) {
            Ok(Some(stream)) => {
                let secure = Secure::beginning(stream, session, sent);
                (Transport::Tls(Arc::new(secure)), true)
            }
            Ok(None) => unreachable!("the halves are of one stream"),
            Err(halves) => (Transport::Plain(halves), false),
        }
    }

    /// Does the handshake of [`secure`](Self::secure).
    ///
    /// # Errors
    /// If it or the connection fails.
    pub(super) fn poll_handshake(
        &self,
        cx: &mut Context<'_>,
        state: &State,
    ) -> Poll<Result<Shaken, ErrorCode>> {
        match self {
            Transport::Plain(_) => Poll::Ready(Ok(Shaken::Open)),
            Transport::Tls(secure) => secure.poll_handshake(cx, state),
        }
    }

    /// Calls `look` with the TLS session, if there is one.
    pub(super) fn look<T>(&self, look: impl FnOnce(&Connection) -> T) -> Option<T> {
        match self {
            Transport::Plain(_) => None,
            Transport::Tls(secure) => Some(secure.look(look)),
        }
    }

    pub(super) fn stream(&self) -> &TcpStream {
        match self {
            Transport::Plain(halves) => halves.stream(),
            Transport::Tls(secure) => secure.stream(),
        }
    }

    /// Waits until there is something to receive: data or the end.
    ///
    /// # Errors
    /// If the connection has failed, and waiting has met that. The error is recorded in
    /// `state`, as everywhere below.
    pub(super) fn poll_readable(
        &self,
        cx: &mut Context<'_>,
        state: &State,
    ) -> Poll<Result<(), ErrorCode>> {
        match self {
            // The next read reports an error, also one of the readiness itself.
            Transport::Plain(halves) => halves.stream().poll_read_ready(cx).map(|_| Ok(())),
            Transport::Tls(secure) => secure.poll_readable(cx, state),
        }
    }

    /// Receives into `buffer`; 0 is EOF: the peer's FIN, or its `close_notify`.
    ///
    /// # Errors
    /// If the connection has failed.
    pub(super) fn poll_receive(
        &self,
        cx: &mut Context<'_>,
        buffer: &mut [u8],
        state: &State,
    ) -> Poll<Result<usize, ErrorCode>> {
        match self {
            Transport::Plain(halves) => halves.poll_receive(cx, buffer, state),
            Transport::Tls(secure) => secure.poll_receive(cx, buffer, state),
        }
    }

    /// Whether the bytes of the connection are those of its socket.
    pub(super) fn is_plain(&self) -> bool {
        matches!(self, Transport::Plain(_))
    }

    /// Moves up to `most` bytes that were received into a pipe. Returns how many; 0 says
    /// nothing about the connection, which has to be received from. An error is recorded in
    /// `state`.
    pub(super) fn poll_fill(
        &self,
        cx: &mut Context<'_>,
        pipe: &mut KernelPipe,
        most: usize,
        state: &State,
    ) -> Poll<usize> {
        match self {
            Transport::Plain(halves) => halves.poll_fill(cx, pipe, most, state),
            Transport::Tls(_) => Poll::Ready(0),
        }
    }

    /// Sends what is in a pipe, as far as the kernel has room and the connection
    /// [is plain](Self::is_plain).
    ///
    /// # Errors
    /// If the connection has failed.
    pub(super) fn drain(&self, pipe: &mut KernelPipe, state: &State) -> Result<(), ErrorCode> {
        match self {
            Transport::Plain(halves) => halves.drain(pipe, state),
            Transport::Tls(_) => Ok(()),
        }
    }

    /// Whether EOF is what the next [`poll_receive`](Self::poll_receive) returns.
    ///
    /// # Errors
    /// If the connection has failed.
    pub(super) fn at_end(&self, state: &State) -> Result<bool, ErrorCode> {
        match self {
            Transport::Plain(halves) => halves.at_end(state),
            Transport::Tls(secure) => secure.at_end(state),
        }
    }

    /// Whether data has arrived that is not yet received.
    pub(super) fn holds_unread(&self) -> bool {
        let decrypted = match self {
            Transport::Plain(_) => false,
            Transport::Tls(secure) => secure.holds_decrypted(),
        };
        decrypted || rustix::io::ioctl_fionread(self.stream()).is_ok_and(|length| length > 0)
    }

    /// Waits until something can be sent, or sending has become impossible. Records an
    /// error in `state`.
    pub(super) fn poll_writable(&self, cx: &mut Context<'_>, state: &State) -> Poll<()> {
        match self {
            Transport::Plain(halves) => halves.stream().poll_write_ready(cx).map(|_| ()),
            Transport::Tls(secure) => secure.poll_flush(cx, state).map(|_| ()),
        }
    }

    /// Sends a part of `data`, at least one byte.
    ///
    /// After `Pending`, the next call has to be given the same data, unless
    /// [`abandon_send`](Self::abandon_send) comes first.
    ///
    /// # Errors
    /// If the connection has failed.
    pub(super) fn poll_send(
        &self,
        cx: &mut Context<'_>,
        data: &[u8],
        state: &State,
    ) -> Poll<Result<usize, ErrorCode>> {
        match self {
            Transport::Plain(halves) => halves.poll_send(cx, data, state),
            Transport::Tls(secure) => secure.poll_send(cx, data, state),
        }
    }

    /// Gives up a pending [`poll_send`](Self::poll_send), and returns how many bytes of
    /// its data are sent all the same, by [`poll_flush`](Self::poll_flush).
    pub(super) fn abandon_send(&self) -> usize {
        match self {
            Transport::Plain(_) => 0,
            Transport::Tls(secure) => secure.abandon_send(),
        }
    }

    /// Whether [`poll_flush`](Self::poll_flush) has something to send.
    pub(super) fn holds_unsent(&self) -> bool {
        match self {
            Transport::Plain(_) => false,
            Transport::Tls(secure) => secure.holds_unsent(),
        }
    }

    /// Sends what was not sent of the data that writers were told is sent.
    pub(super) fn poll_flush(
        &self,
        cx: &mut Context<'_>,
        state: &State,
    ) -> Poll<Result<(), ErrorCode>> {
        match self {
            Transport::Plain(_) => Poll::Ready(Ok(())),
            Transport::Tls(secure) => secure.poll_flush(cx, state),
        }
    }

    /// Begins to end the sending direction, which [`poll_finish`](Self::poll_finish)
    /// completes.
    pub(super) fn begin_finish(&self) {
        match self {
            Transport::Plain(_) => {}
            Transport::Tls(secure) => secure.close_notify(),
        }
    }

    /// Sends what is left to send, queues FIN behind it, and records that in `state`.
    pub(super) fn poll_finish(
        &self,
        cx: &mut Context<'_>,
        state: &State,
    ) -> Poll<Result<(), ErrorCode>> {
        match self {
            Transport::Plain(halves) => Poll::Ready(halves.finish(state)),
            Transport::Tls(secure) => secure.poll_finish(cx, state),
        }
    }

    /// How much of what was sent the peer's kernel has acknowledged; `None` if the system
    /// does not say. `sent` is the number of bytes that writers were told are sent.
    pub(super) fn delivery(&self, sent: u64) -> Option<Delivery> {
        let sent = match self {
            Transport::Plain(_) => sent,
            Transport::Tls(secure) => secure.written(),
        };
        let outstanding = outstanding(self.stream())?;
        Some(Delivery {
            acknowledged: sent.saturating_sub(outstanding),
            outstanding: outstanding > 0,
        })
    }

    /// Whether the peer's kernel has acknowledged everything that was sent, also FIN if it is
    /// queued.
    pub(super) fn is_acknowledged(&self) -> bool {
        outstanding(self.stream()) == Some(0)
    }

    /// Discards what is not sent, and sends RST at once.
    pub(super) fn reset(&self) {
        reset(self.stream());
    }

    /// Joins the two directions again, to close the connection. `None` while there are other
    /// clones.
    pub(super) fn into_whole(self) -> Option<Whole> {
        match self {
            Transport::Plain(halves) => Arc::into_inner(halves)?.into_stream().map(Whole::Plain),
            Transport::Tls(secure) => {
                Arc::into_inner(secure).map(|secure| Whole::Tls(secure.into()))
            }
        }
    }
}

/// The transport of a connection that is being closed.
#[derive(Debug)]
pub(super) enum Whole {
    Plain(TcpStream),
    Tls(Box<Secure>),
}

impl Whole {
    pub(super) fn stream(&self) -> &TcpStream {
        match self {
            Whole::Plain(stream) => stream,
            Whole::Tls(secure) => secure.stream(),
        }
    }

    /// Begins to end the sending direction: queues FIN, or `close_notify`, which
    /// [`finish`](Self::finish) sends.
    ///
    /// # Errors
    /// If the peer is already gone.
    pub(super) fn begin_finish(&self) -> Result<(), ErrorCode> {
        match self {
            Whole::Plain(stream) => shut_down(stream),
            Whole::Tls(secure) => {
                secure.close_notify();
                Ok(())
            }
        }
    }

    /// Whether the peer's kernel has acknowledged everything that was sent, also FIN if it is
    /// queued.
    pub(super) fn is_acknowledged(&self) -> bool {
        outstanding(self.stream()) == Some(0)
    }

    /// Sends what TLS still holds back, and FIN behind it.
    ///
    /// # Errors
    /// If the peer is already gone.
    pub(super) async fn finish(&self) -> Result<(), ErrorCode> {
        match self {
            Whole::Plain(_) => Ok(()),
            Whole::Tls(secure) => secure.finish().await,
        }
    }
}
