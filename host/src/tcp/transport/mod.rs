//! How bytes get from a connection to its socket: as they are, or through TLS.

mod plain;
mod tls;

use std::io;
use std::net::Shutdown;
use std::task::{Context, Poll};
use std::time::Duration;

use rustls::ServerConnection;
use socket2::SockRef;
use tokio::net::TcpStream;

use super::ErrorCode;
use super::state::State;
pub(super) use plain::Halves;
pub(super) use tls::Secure;

/// A connected stream that no [`Socket`](super::Socket) has taken over yet.
#[derive(Debug)]
pub(crate) enum Stream {
    /// A nonblocking stream that is not registered with any runtime.
    Accepted(std::net::TcpStream),
    /// A stream that is registered with a runtime.
    Plain(TcpStream),
    /// A stream after the TLS handshake, and its session.
    Tls(TcpStream, Box<ServerConnection>),
}

impl Stream {
    /// Makes close(2) send RST, for a connection that ends before anyone has served it.
    pub(crate) fn reset_on_close(&self) {
        let socket = match self {
            Stream::Accepted(stream) => SockRef::from(stream),
            Stream::Plain(stream) | Stream::Tls(stream, _) => SockRef::from(stream),
        };
        // Fails only if the peer has already gone.
        let _ = socket.set_linger(Some(Duration::ZERO));
    }

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

/// The transport of an open connection.
#[derive(Debug)]
pub(super) enum Transport {
    Plain(Halves),
    Tls(Box<Secure>),
}

impl Transport {
    /// Takes over a stream, in the current runtime.
    ///
    /// # Errors
    /// If the runtime cannot register the stream.
    pub(super) fn open(stream: Stream) -> io::Result<Self> {
        Ok(match stream {
            Stream::Accepted(stream) => Transport::Plain(Halves::new(TcpStream::from_std(stream)?)),
            Stream::Plain(stream) => Transport::Plain(Halves::new(stream)),
            Stream::Tls(stream, session) => Transport::Tls(Box::new(Secure::new(stream, *session))),
        })
    }

    pub(super) fn stream(&self) -> &TcpStream {
        match self {
            Transport::Plain(halves) => halves.stream(),
            Transport::Tls(secure) => secure.stream(),
        }
    }

    /// Waits until there is something to receive: data, the end or an error.
    pub(super) fn poll_readable(&self, cx: &mut Context<'_>) -> Poll<()> {
        match self {
            // The next read reports an error of the readiness itself as well.
            Transport::Plain(halves) => halves.stream().poll_read_ready(cx).map(|_| ()),
            Transport::Tls(secure) => secure.poll_readable(cx),
        }
    }

    /// Receives into `buffer`; 0 is EOF: the peer's FIN, or its `close_notify`.
    pub(super) fn poll_receive(
        &self,
        cx: &mut Context<'_>,
        buffer: &mut [u8],
    ) -> Poll<Result<usize, ErrorCode>> {
        match self {
            Transport::Plain(halves) => halves.poll_receive(cx, buffer),
            Transport::Tls(secure) => secure.poll_receive(cx, buffer),
        }
    }

    /// Waits until something can be sent, or sending has become impossible.
    pub(super) fn poll_writable(&self, cx: &mut Context<'_>) -> Poll<()> {
        match self {
            Transport::Plain(halves) => halves.stream().poll_write_ready(cx).map(|_| ()),
            Transport::Tls(secure) => secure.poll_writable(cx),
        }
    }

    /// Sends a part of `data`, at least one byte, and records an error in `state`.
    ///
    /// After `Pending`, the next call has to be given the same data, unless
    /// [`abandon_send`](Self::abandon_send) comes first.
    pub(super) fn poll_send(
        &self,
        cx: &mut Context<'_>,
        data: &[u8],
        state: &State,
    ) -> Poll<Result<usize, ErrorCode>> {
        match self {
            Transport::Plain(halves) => halves.poll_send(cx, data, state),
            Transport::Tls(secure) => secure
                .poll_send(cx, data)
                .map_err(|error| state.lock().fail(error)),
        }
    }

    /// Gives up a pending [`poll_send`](Self::poll_send), and returns how many bytes of
    /// its data are sent all the same.
    pub(super) fn abandon_send(&self) -> usize {
        match self {
            Transport::Plain(_) => 0,
            Transport::Tls(secure) => secure.abandon_send(),
        }
    }

    /// Joins the two directions again, to close the connection.
    pub(super) fn into_whole(self) -> Option<Whole> {
        match self {
            Transport::Plain(halves) => halves.into_stream().map(Whole::Plain),
            Transport::Tls(secure) => Some(Whole::Tls(secure)),
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
    pub(super) fn begin_finish(&self) -> io::Result<()> {
        match self {
            Whole::Plain(stream) => shut_down(stream),
            Whole::Tls(secure) => {
                secure.close_notify();
                Ok(())
            }
        }
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

/// Queues FIN behind everything written.
pub(super) fn shut_down(stream: &TcpStream) -> io::Result<()> {
    SockRef::from(stream).shutdown(Shutdown::Write)
}
