//! Bytes within TLS, with the two directions of RFC 8446 section 6.1: `close_notify` ends
//! a direction, and FIN without it is a truncation.

use std::future::poll_fn;
use std::io::{self, Read, Write};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, ready};

use rustls::ServerConnection;
use tokio::net::TcpStream;

use super::shut_down;
use crate::tcp::ErrorCode;

/// The error that a guest sees when its peer sends FIN without `close_notify`.
const TRUNCATED: &str = "truncated: the peer sent FIN without TLS close_notify";

/// The most bytes encrypted at a time.
const MAX_CHUNK: usize = 64 * 1024;

/// A stream and its TLS session.
#[derive(Debug)]
pub(in crate::tcp) struct Secure {
    stream: TcpStream,
    session: Mutex<Session>,
}

#[derive(Debug)]
struct Session {
    tls: ServerConnection,
    /// The length of the chunk that TLS has encrypted, and that was not yet reported to
    /// its writer as sent, because the kernel has not accepted all of it.
    unreported: usize,
}

impl Secure {
    /// Takes over a stream after the handshake.
    pub(super) fn new(stream: TcpStream, mut tls: ServerConnection) -> Self {
        // `poll_send` hands over the next chunk only once the previous one is flushed, so
        // rustls buffers no more than one.
        tls.set_buffer_limit(None);
        Secure {
            stream,
            session: Mutex::new(Session { tls, unreported: 0 }),
        }
    }

    pub(super) fn stream(&self) -> &TcpStream {
        &self.stream
    }

    fn session(&self) -> MutexGuard<'_, Session> {
        // No code panics while it holds the lock.
        self.session.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits until there is something to receive: data, the end or an error.
    pub(super) fn poll_readable(&self, cx: &mut Context<'_>) -> Poll<()> {
        let mut session = self.session();
        loop {
            match io::BufRead::fill_buf(&mut session.tls.reader()) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                _ => return Poll::Ready(()),
            }
            if ready!(self.poll_read_records(cx, &mut session)).is_err() {
                return Poll::Ready(());
            }
        }
    }

    /// Receives into `buffer`; 0 is the peer's `close_notify`.
    pub(super) fn poll_receive(
        &self,
        cx: &mut Context<'_>,
        buffer: &mut [u8],
    ) -> Poll<Result<usize, ErrorCode>> {
        let mut session = self.session();
        loop {
            match session.tls.reader().read(buffer) {
                Ok(length) => return Poll::Ready(Ok(length)),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => {
                    return Poll::Ready(Err(ErrorCode::Other(Some(TRUNCATED.to_owned()))));
                }
                Err(error) => return Poll::Ready(Err(error.into())),
            }
            ready!(self.poll_read_records(cx, &mut session))?;
        }
    }

    /// Reads from the stream once, and decrypts what came.
    fn poll_read_records(
        &self,
        cx: &mut Context<'_>,
        session: &mut Session,
    ) -> Poll<Result<(), ErrorCode>> {
        loop {
            ready!(self.stream.poll_read_ready(cx))?;
            match session.tls.read_tls(&mut Nonblocking(&self.stream)) {
                Ok(_) => break,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(error) => return Poll::Ready(Err(error.into())),
            }
        }
        if let Err(error) = session.tls.process_new_packets() {
            // The alert tells the peer why; it is sent only if there is room for it.
            let _ = session.tls.write_tls(&mut Nonblocking(&self.stream));
            return Poll::Ready(Err(ErrorCode::Other(Some(format!("TLS: {error}")))));
        }
        Poll::Ready(Ok(()))
    }

    /// Waits until something can be sent.
    pub(super) fn poll_writable(&self, cx: &mut Context<'_>) -> Poll<()> {
        let mut session = self.session();
        self.poll_flush(cx, &mut session.tls).map(|_| ())
    }

    /// Encrypts a part of `data`, and waits until the kernel has accepted all of it. After
    /// `Pending`, the next call has to be given the same data.
    pub(super) fn poll_send(
        &self,
        cx: &mut Context<'_>,
        data: &[u8],
    ) -> Poll<Result<usize, ErrorCode>> {
        let mut session = self.session();
        loop {
            ready!(self.poll_flush(cx, &mut session.tls))?;
            if session.unreported > 0 {
                return Poll::Ready(Ok(std::mem::take(&mut session.unreported)));
            }
            let chunk = &data[..data.len().min(MAX_CHUNK)];
            session.unreported = session.tls.writer().write(chunk)?;
        }
    }

    /// Gives up a pending send, and returns how many bytes of its data are encrypted, and
    /// therefore sent all the same.
    pub(super) fn abandon_send(&self) -> usize {
        std::mem::take(&mut self.session().unreported)
    }

    fn poll_flush(
        &self,
        cx: &mut Context<'_>,
        tls: &mut ServerConnection,
    ) -> Poll<Result<(), ErrorCode>> {
        while tls.wants_write() {
            match tls.write_tls(&mut Nonblocking(&self.stream)) {
                Ok(_) => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    ready!(self.stream.poll_write_ready(cx))?;
                }
                Err(error) => return Poll::Ready(Err(error.into())),
            }
        }
        Poll::Ready(Ok(()))
    }

    /// Queues `close_notify`, which [`finish`](Self::finish) sends.
    pub(in crate::tcp) fn close_notify(&self) {
        self.session().tls.send_close_notify();
    }

    /// Sends everything that is encrypted, and FIN behind it.
    ///
    /// # Errors
    /// If the kernel does not accept all of it.
    pub(in crate::tcp) async fn finish(&self) -> Result<(), ErrorCode> {
        poll_fn(|cx| self.poll_flush(cx, &mut self.session().tls)).await?;
        // Fails only if the peer is already gone.
        let _ = shut_down(&self.stream);
        Ok(())
    }
}

/// The stream as rustls reads and writes it: a call that would wait fails with
/// `WouldBlock`.
struct Nonblocking<'s>(&'s TcpStream);

impl Read for Nonblocking<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.0.try_read(buffer)
    }
}

impl Write for Nonblocking<'_> {
    fn write(&mut self, data: &[u8]) -> io::Result<usize> {
        self.0.try_write(data)
    }

    fn write_vectored(&mut self, data: &[io::IoSlice<'_>]) -> io::Result<usize> {
        self.0.try_write_vectored(data)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
