//! Bytes within TLS, with the two directions of RFC 8446 section 6.1: `close_notify` ends
//! a direction, and FIN without it is a truncation.

use std::future::poll_fn;
use std::io::{self, Read, Write};
use std::task::{Context, Poll, ready};

use rustls::Connection;
use tokio::net::TcpStream;

use super::shut_down;
use crate::tcp::ErrorCode;
use crate::tcp::state::State;
use crate::tcp::sync::atomic::{AtomicU64, Ordering};
use crate::tcp::sync::{Mutex, MutexGuard, PoisonError};

/// The error that a guest sees when its peer sends FIN without `close_notify`.
const TRUNCATED: &str = "truncated: the peer sent FIN without TLS close_notify";

/// The most bytes encrypted at a time.
const MAX_CHUNK: usize = 64 * 1024;

/// A stream and its TLS session.
///
/// Every system call that may consume the socket's error is made under the lock of the
/// session, and so is the record of the error that it returned: whoever calls next finds
/// the record. The lock of a [`State`] is taken within that of the session.
#[derive(Debug)]
pub(in crate::tcp) struct Secure {
    stream: TcpStream,
    session: Mutex<Session>,
    /// The number of bytes that the kernel has accepted: encrypted ones, and those that were
    /// sent in the clear before.
    written: AtomicU64,
}

#[derive(Debug)]
pub(super) struct Session {
    pub(super) tls: Connection,
    /// The length of the chunk that TLS has encrypted, and that was not yet reported to
    /// its writer as sent, because the kernel has not accepted all of it.
    unreported: usize,
    /// The handshake, while it goes on: nothing else is received or sent then.
    pub(super) handshake: Option<Handshake>,
}

/// The progress of a handshake.
#[derive(Debug, Default)]
pub(super) struct Handshake {
    /// Whether the peer has begun, with a record of TLS.
    pub(super) begun: bool,
    /// Whether our direction has to end once the handshake is done.
    pub(super) ends: bool,
}

impl Secure {
    /// Takes over a stream after the handshake.
    pub(super) fn new(stream: TcpStream, tls: Connection) -> Self {
        Secure::of(stream, tls, 0, None)
    }

    /// Takes over a stream on which the handshake begins, after `written` bytes in the clear.
    pub(super) fn beginning(stream: TcpStream, tls: Connection, written: u64) -> Self {
        Secure::of(stream, tls, written, Some(Handshake::default()))
    }

    fn of(
        stream: TcpStream,
        mut tls: Connection,
        written: u64,
        handshake: Option<Handshake>,
    ) -> Self {
        // `poll_send` hands over the next chunk only once the previous one is flushed, so
        // rustls buffers no more than one.
        tls.set_buffer_limit(None);
        Secure {
            stream,
            session: Mutex::new(Session {
                tls,
                unreported: 0,
                handshake,
            }),
            written: AtomicU64::new(written),
        }
    }

    pub(super) fn stream(&self) -> &TcpStream {
        &self.stream
    }

    /// The number of bytes that the kernel has accepted.
    pub(super) fn written(&self) -> u64 {
        self.written.load(Ordering::Relaxed)
    }

    pub(super) fn session(&self) -> MutexGuard<'_, Session> {
        // No code panics while it holds the lock.
        self.session.lock().unwrap_or_else(PoisonError::into_inner)
    }

    // --- Receiving -------------------------------------------------------------

    /// Waits until there is something to receive: data or the end.
    ///
    /// # Errors
    /// If the connection has failed: the kernel does not report that to the next read again.
    /// The error is recorded in `state`.
    pub(super) fn poll_readable(
        &self,
        cx: &mut Context<'_>,
        state: &State,
    ) -> Poll<Result<(), ErrorCode>> {
        let mut session = self.session();
        ready!(session.poll_open());
        while session.decrypted().is_none() {
            let read = ready!(self.poll_read_records(cx, &mut session));
            read.map_err(|error| state.lock().fail(error))?;
        }
        Poll::Ready(Ok(()))
    }

    /// Receives into `buffer`; 0 is the peer's `close_notify`.
    pub(super) fn poll_receive(
        &self,
        cx: &mut Context<'_>,
        buffer: &mut [u8],
        state: &State,
    ) -> Poll<Result<usize, ErrorCode>> {
        let mut session = self.session();
        ready!(session.poll_open());
        let mut receive = || loop {
            match session.tls.reader().read(buffer) {
                Ok(length) => return Poll::Ready(Ok(length)),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(error) => return Poll::Ready(Err(end_of_session(error))),
            }
            ready!(self.poll_read_records(cx, &mut session))?;
        };
        // Under the lock of the session, without which nobody sends.
        receive().map_err(|error| state.lock().fail(error))
    }

    /// Whether the peer's `close_notify` has come, and nothing before it is left to be read.
    ///
    /// # Errors
    /// If the connection has failed. The error is recorded in `state`.
    pub(super) fn at_end(&self, state: &State) -> Result<bool, ErrorCode> {
        let mut session = self.session();
        if session.handshake.is_some() {
            return Ok(false);
        }
        let mut look = || loop {
            if let Some(decrypted) = session.decrypted() {
                return decrypted.map(|length| length == 0);
            }
            match session.tls.read_tls(&mut Nonblocking(self)) {
                Ok(_) => self.process(&mut session)?,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(false),
                Err(error) => return Err(error.into()),
            }
        };
        look().map_err(|error| state.lock().fail(error))
    }

    /// Whether something is decrypted that nobody has received.
    pub(super) fn holds_decrypted(&self) -> bool {
        matches!(self.session().decrypted(), Some(Ok(length)) if length > 0)
    }

    /// Reads from the stream once, and decrypts what came.
    fn poll_read_records(
        &self,
        cx: &mut Context<'_>,
        session: &mut Session,
    ) -> Poll<Result<(), ErrorCode>> {
        loop {
            ready!(self.stream.poll_read_ready(cx))?;
            match session.tls.read_tls(&mut Nonblocking(self)) {
                Ok(_) => return Poll::Ready(self.process(session)),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(error) => return Poll::Ready(Err(error.into())),
            }
        }
    }

    /// Decrypts what was read.
    pub(super) fn process(&self, session: &mut Session) -> Result<(), ErrorCode> {
        match session.tls.process_new_packets() {
            Ok(_) => Ok(()),
            Err(error) => {
                // The alert tells the peer why; it is sent only if there is room for it.
                let _ = session.tls.write_tls(&mut Nonblocking(self));
                Err(ErrorCode::Other(Some(format!("TLS: {error}"))))
            }
        }
    }

    // --- Sending ---------------------------------------------------------------

    /// Encrypts a part of `data`, and waits until the kernel has accepted all of it. After
    /// `Pending`, the next call has to be given the same data.
    pub(super) fn poll_send(
        &self,
        cx: &mut Context<'_>,
        data: &[u8],
        state: &State,
    ) -> Poll<Result<usize, ErrorCode>> {
        let mut session = self.session();
        ready!(session.poll_open());
        let mut send = || loop {
            ready!(self.poll_write_records(cx, &mut session))?;
            if session.unreported > 0 {
                return Poll::Ready(Ok(std::mem::take(&mut session.unreported)));
            }
            let chunk = &data[..data.len().min(MAX_CHUNK)];
            session.unreported = session.tls.writer().write(chunk)?;
        };
        send().map_err(|error: ErrorCode| state.lock().fail(error))
    }

    /// Gives up a pending send, and returns how many bytes of its data are encrypted, and
    /// therefore sent all the same.
    pub(super) fn abandon_send(&self) -> usize {
        std::mem::take(&mut self.session().unreported)
    }

    /// Whether something is encrypted that the kernel has not accepted.
    pub(super) fn holds_unsent(&self) -> bool {
        let session = self.session();
        session.handshake.is_none() && session.tls.wants_write()
    }

    /// Sends everything that is encrypted.
    pub(super) fn poll_flush(
        &self,
        cx: &mut Context<'_>,
        state: &State,
    ) -> Poll<Result<(), ErrorCode>> {
        let mut session = self.session();
        ready!(session.poll_open());
        self.poll_write_records(cx, &mut session)
            .map_err(|error| state.lock().fail(error))
    }

    /// Queues `close_notify`, which [`poll_finish`](Self::poll_finish) sends. A second call
    /// has no effect.
    pub(super) fn close_notify(&self) {
        let mut session = self.session();
        match &mut session.handshake {
            Some(handshake) => handshake.ends = true,
            None => session.tls.send_close_notify(),
        }
    }

    /// Sends everything that is encrypted, and FIN behind it, and records that in `state`.
    pub(super) fn poll_finish(
        &self,
        cx: &mut Context<'_>,
        state: &State,
    ) -> Poll<Result<(), ErrorCode>> {
        let mut session = self.session();
        ready!(session.poll_open());
        let flushed = ready!(self.poll_write_records(cx, &mut session));
        let mut state = state.lock();
        if let Some(failure) = state.failure() {
            return Poll::Ready(Err(failure.clone()));
        }
        let sent = flushed.and_then(|()| shut_down(&self.stream));
        match sent {
            Ok(()) => state.finish(),
            Err(error) => return Poll::Ready(Err(state.fail(error))),
        }
        Poll::Ready(Ok(()))
    }

    /// Sends everything that is encrypted, and FIN behind it.
    ///
    /// # Errors
    /// If the peer is already gone.
    pub(super) async fn finish(&self) -> Result<(), ErrorCode> {
        poll_fn(|cx| self.poll_write_records(cx, &mut self.session())).await?;
        shut_down(&self.stream)
    }

    pub(super) fn poll_write_records(
        &self,
        cx: &mut Context<'_>,
        session: &mut Session,
    ) -> Poll<Result<(), ErrorCode>> {
        while session.tls.wants_write() {
            match session.tls.write_tls(&mut Nonblocking(self)) {
                Ok(_) => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    ready!(self.stream.poll_write_ready(cx))?;
                }
                Err(error) => return Poll::Ready(Err(error.into())),
            }
        }
        Poll::Ready(Ok(()))
    }
}

impl Session {
    /// Whether the handshake is done. Whoever has to wait for that is woken by the task that
    /// does it.
    fn poll_open(&self) -> Poll<()> {
        match self.handshake {
            Some(_) => Poll::Pending,
            None => Poll::Ready(()),
        }
    }

    /// The length of what is decrypted and can be received: 0 is the peer's `close_notify`.
    /// `None` if more records have to be read first.
    fn decrypted(&mut self) -> Option<Result<usize, ErrorCode>> {
        match io::BufRead::fill_buf(&mut self.tls.reader()) {
            Ok(decrypted) => Some(Ok(decrypted.len())),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => None,
            Err(error) => Some(Err(end_of_session(error))),
        }
    }
}

/// Converts the error of reading what was decrypted.
fn end_of_session(error: io::Error) -> ErrorCode {
    match error.kind() {
        io::ErrorKind::UnexpectedEof => ErrorCode::Other(Some(TRUNCATED.to_owned())),
        _ => error.into(),
    }
}

/// The stream as rustls reads and writes it: a call that would wait fails with
/// `WouldBlock`.
pub(super) struct Nonblocking<'s>(pub(super) &'s Secure);

impl Read for Nonblocking<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.0.stream.try_read(buffer)
    }
}

impl Nonblocking<'_> {
    fn count(&self, written: io::Result<usize>) -> io::Result<usize> {
        written.inspect(|&length| {
            self.0.written.fetch_add(length as u64, Ordering::Relaxed);
        })
    }
}

impl Write for Nonblocking<'_> {
    fn write(&mut self, data: &[u8]) -> io::Result<usize> {
        self.count(self.0.stream.try_write(data))
    }

    fn write_vectored(&mut self, data: &[io::IoSlice<'_>]) -> io::Result<usize> {
        self.count(self.0.stream.try_write_vectored(data))
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
