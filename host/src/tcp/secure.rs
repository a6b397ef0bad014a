//! TLS on a connection's stream: the two directions as TLS has them (RFC 8446 section
//! 6.1). `close_notify` is the end of a direction; a FIN without it is a truncation.

use std::io::{self, Read, Write};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, ready};

use rustls::ServerConnection;
use tokio::net::TcpStream;

use super::ErrorCode;

/// What the guest's error says when a peer goes without `close_notify`.
const TRUNCATED: &str = "truncated: the peer sent FIN without TLS close_notify";

/// A stream, and the TLS on it.
#[derive(Debug)]
pub(super) struct Secure {
    pub(super) stream: TcpStream,
    session: Mutex<Session>,
}

#[derive(Debug)]
struct Session {
    tls: ServerConnection,
    /// Bytes that TLS has taken and that are not all with the system, and which their
    /// writer has not been told of.
    owed: usize,
}

impl Secure {
    /// After the handshake.
    pub(super) fn new(stream: TcpStream, mut tls: ServerConnection) -> Self {
        // What is sent is waited for, chunk by chunk.
        tls.set_buffer_limit(None);
        Secure {
            stream,
            session: Mutex::new(Session { tls, owed: 0 }),
        }
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
            if ready!(self.poll_take(cx, &mut session)).is_err() {
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
            ready!(self.poll_take(cx, &mut session))?;
        }
    }

    /// Takes what has come from the peer.
    fn poll_take(
        &self,
        cx: &mut Context<'_>,
        session: &mut Session,
    ) -> Poll<Result<(), ErrorCode>> {
        loop {
            ready!(self.stream.poll_read_ready(cx))?;
            match session.tls.read_tls(&mut Direct(&self.stream)) {
                Ok(_) => break,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(error) => return Poll::Ready(Err(error.into())),
            }
        }
        if let Err(error) = session.tls.process_new_packets() {
            // The alert that tells the peer why, if there is room for it.
            let _ = session.tls.write_tls(&mut Direct(&self.stream));
            return Poll::Ready(Err(ErrorCode::Other(Some(format!("TLS: {error}")))));
        }
        Poll::Ready(Ok(()))
    }

    /// Waits until something can be sent.
    pub(super) fn poll_writable(&self, cx: &mut Context<'_>) -> Poll<()> {
        let mut session = self.session();
        self.poll_flush(cx, &mut session.tls).map(|_| ())
    }

    /// Sends a part of `data`, and waits until all of that is with the system. Asked
    /// again, it has to be given the same data.
    pub(super) fn poll_send(
        &self,
        cx: &mut Context<'_>,
        data: &[u8],
    ) -> Poll<Result<usize, ErrorCode>> {
        let mut session = self.session();
        loop {
            ready!(self.poll_flush(cx, &mut session.tls))?;
            if session.owed > 0 {
                return Poll::Ready(Ok(std::mem::take(&mut session.owed)));
            }
            let part = &data[..data.len().min(MOST)];
            session.owed = session.tls.writer().write(part)?;
        }
    }

    /// How much of the data that was given cannot be taken back.
    pub(super) fn give_up_send(&self) -> usize {
        std::mem::take(&mut self.session().owed)
    }

    fn poll_flush(
        &self,
        cx: &mut Context<'_>,
        tls: &mut ServerConnection,
    ) -> Poll<Result<(), ErrorCode>> {
        while tls.wants_write() {
            match tls.write_tls(&mut Direct(&self.stream)) {
                Ok(_) => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    ready!(self.stream.poll_write_ready(cx))?;
                }
                Err(error) => return Poll::Ready(Err(error.into())),
            }
        }
        Poll::Ready(Ok(()))
    }

    /// Ends what we send, by `close_notify`; it goes out with [`flushed`](Self::flushed).
    pub(super) fn close_notify(&self) {
        self.session().tls.send_close_notify();
    }

    /// Waits until everything is with the system.
    pub(super) async fn flushed(&self) -> Result<(), ErrorCode> {
        std::future::poll_fn(|cx| self.poll_flush(cx, &mut self.session().tls)).await
    }
}

/// How much is encrypted at a time.
const MOST: usize = 64 * 1024;

/// The stream without waiting.
struct Direct<'s>(&'s TcpStream);

impl Read for Direct<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.0.try_read(buffer)
    }
}

impl Write for Direct<'_> {
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
