//! The scripted kernel, as far as a connected TCP socket sees it, and tokio's reactor on it.
//!
//! As on Linux (`wit/SEMANTICS.md` cites the rules): data that arrived before a reset can be
//! read; the error of a reset is reported once, to whoever calls first; after that, reading
//! returns EOF, as if the peer had sent FIN; writing after it fails with EPIPE. As in tokio's
//! reactor, one task can wait for each direction, and nobody is woken when a socket leaves.

pub mod tcp;

use std::collections::VecDeque;
use std::io::{Error, ErrorKind, IoSlice, Result};
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use shuttle::sync::Mutex;

use crate::io::Interest;

/// A connected socket in the kernel.
#[derive(Debug, Default)]
pub struct Kernel(Mutex<Inner>);

#[derive(Debug, Default)]
struct Inner {
    inbox: VecDeque<u8>,
    /// Whether the peer's FIN has arrived.
    fin: bool,
    /// `SO_ERROR`.
    error: Option<ErrorKind>,
    /// Whether the connection was reset, by either side.
    dissolved: bool,
    /// Whether our FIN is sent.
    finished: bool,
    /// The bytes that are sent, and how many more there is room for.
    sent: Vec<u8>,
    room: usize,
    /// How many bytes went to or came from a pipe.
    spliced: usize,
    /// How often RST was sent.
    resets: usize,
    /// Whether the descriptor is closed.
    closed: bool,
    /// Whether the reactor has seen an error.
    error_event: bool,
    reader: Option<Waker>,
    writer: Option<Waker>,
    watchers: Vec<Waker>,
}

impl Inner {
    fn wake(&mut self, error: bool) -> Vec<Waker> {
        self.error_event |= error;
        let mut wakers: Vec<_> = self.reader.take().into_iter().collect();
        wakers.extend(self.writer.take());
        if error {
            wakers.append(&mut self.watchers);
        }
        wakers
    }

    fn receive(&mut self, buffer: &mut [u8], peek: bool) -> Result<usize> {
        let length = buffer.len().min(self.inbox.len());
        if length > 0 {
            if !peek {
                self.inbox
                    .drain(..length)
                    .zip(buffer)
                    .for_each(|(byte, place)| *place = byte);
            }
            return Ok(length);
        }
        if let Some(error) = self.error.take() {
            return Err(error.into());
        }
        if self.dissolved || self.fin {
            return Ok(0);
        }
        Err(ErrorKind::WouldBlock.into())
    }

    fn send(&mut self, data: &[u8]) -> Result<usize> {
        if let Some(error) = self.error.take() {
            return Err(error.into());
        }
        if self.dissolved || self.finished {
            return Err(ErrorKind::BrokenPipe.into());
        }
        let length = data.len().min(self.room);
        if length == 0 {
            return Err(ErrorKind::WouldBlock.into());
        }
        self.room -= length;
        self.sent.extend(&data[..length]);
        Ok(length)
    }
}

impl Kernel {
    fn act(&self, error: bool, act: impl FnOnce(&mut Inner)) {
        let mut inner = self.lock();
        act(&mut inner);
        let wakers = inner.wake(error);
        drop(inner);
        wakers.into_iter().for_each(Waker::wake);
    }

    fn lock(&self) -> shuttle::sync::MutexGuard<'_, Inner> {
        self.0.lock().expect("no thread panics with it")
    }

    // --- The peer ---------------------------------------------------------------

    /// The peer sends data.
    pub fn arrive(&self, bytes: &[u8]) {
        self.act(false, |inner| {
            if !inner.dissolved {
                inner.inbox.extend(bytes);
            }
        });
    }

    /// The peer sends FIN.
    pub fn end(&self) {
        self.act(false, |inner| inner.fin |= !inner.dissolved);
    }

    /// The peer makes room for more data.
    pub fn make_room(&self, length: usize) {
        self.act(false, |inner| inner.room += length);
    }

    /// The peer sends RST. After its FIN it is reported as EPIPE (rule E2).
    pub fn reset(&self) {
        self.act(true, |inner| {
            if !inner.dissolved {
                inner.dissolved = true;
                inner.error = Some(if inner.fin {
                    ErrorKind::BrokenPipe
                } else {
                    ErrorKind::ConnectionReset
                });
            }
        });
    }

    // --- The socket -------------------------------------------------------------

    pub(crate) fn shut_down(&self) -> Result<()> {
        let mut inner = self.lock();
        if inner.dissolved {
            return Err(ErrorKind::NotConnected.into());
        }
        inner.finished = true;
        Ok(())
    }

    pub(crate) fn splice_out(&self, buffer: &mut [u8]) -> Result<usize> {
        let mut inner = self.lock();
        let length = inner.receive(buffer, false)?;
        inner.spliced += length;
        Ok(length)
    }

    pub(crate) fn splice_in(&self, data: &[u8]) -> Result<usize> {
        let mut inner = self.lock();
        let length = inner.send(data)?;
        inner.spliced += length;
        Ok(length)
    }

    pub(crate) fn unread(&self) -> u64 {
        self.lock().inbox.len() as u64
    }

    /// How often RST was sent.
    pub fn resets(&self) -> usize {
        self.lock().resets
    }

    /// Whether our FIN was sent.
    pub fn finished(&self) -> bool {
        self.lock().finished
    }

    /// The bytes that were sent.
    pub fn sent(&self) -> Vec<u8> {
        self.lock().sent.clone()
    }

    /// How many bytes were moved to or from a pipe.
    pub fn spliced(&self) -> usize {
        self.lock().spliced
    }

    /// Whether the descriptor is closed.
    pub fn closed(&self) -> bool {
        self.lock().closed
    }
}

/// A registered stream. Dropping it closes the descriptor, and wakes nobody.
#[derive(Debug)]
pub struct TcpStream(Option<Arc<Kernel>>);

impl TcpStream {
    /// Opens a stream on a kernel's socket.
    #[must_use]
    pub fn on(kernel: Arc<Kernel>) -> Self {
        TcpStream(Some(kernel))
    }

    pub(crate) fn kernel(&self) -> &Kernel {
        self.0.as_ref().expect("it is there until drop")
    }

    /// Not scripted.
    ///
    /// # Errors
    ///
    /// Always.
    pub fn from_std(_: std::net::TcpStream) -> Result<Self> {
        Err(ErrorKind::Unsupported.into())
    }

    /// Not scripted.
    ///
    /// # Errors
    ///
    /// Always.
    pub fn into_std(self) -> Result<std::net::TcpStream> {
        Err(ErrorKind::Unsupported.into())
    }

    /// Returns an address.
    ///
    /// # Errors
    ///
    /// None.
    pub fn local_addr(&self) -> Result<SocketAddr> {
        Ok(SocketAddr::from((Ipv4Addr::LOCALHOST, 1)))
    }

    /// Returns an address.
    ///
    /// # Errors
    ///
    /// `NotConnected` after a reset.
    pub fn peer_addr(&self) -> Result<SocketAddr> {
        if self.kernel().lock().dissolved {
            return Err(ErrorKind::NotConnected.into());
        }
        Ok(SocketAddr::from((Ipv4Addr::LOCALHOST, 2)))
    }

    /// Splits the stream.
    #[must_use]
    pub fn into_split(self) -> (tcp::OwnedReadHalf, tcp::OwnedWriteHalf) {
        tcp::split(self)
    }

    /// Waits for data, EOF or an error.
    pub fn poll_read_ready(&self, cx: &mut Context<'_>) -> Poll<Result<()>> {
        let mut inner = self.kernel().lock();
        if !inner.inbox.is_empty() || inner.fin || inner.dissolved {
            return Poll::Ready(Ok(()));
        }
        inner.reader = Some(cx.waker().clone());
        Poll::Pending
    }

    /// Waits for room, or for an error.
    pub fn poll_write_ready(&self, cx: &mut Context<'_>) -> Poll<Result<()>> {
        let mut inner = self.kernel().lock();
        if inner.room > 0 || inner.dissolved {
            return Poll::Ready(Ok(()));
        }
        inner.writer = Some(cx.waker().clone());
        Poll::Pending
    }

    /// Waits for an error.
    ///
    /// # Errors
    ///
    /// None.
    pub async fn ready(&self, interest: Interest) -> Result<()> {
        assert_eq!(interest, Interest::ERROR, "nothing else is scripted");
        std::future::poll_fn(|cx| {
            let mut inner = self.kernel().lock();
            if inner.error_event {
                return Poll::Ready(Ok(()));
            }
            inner.watchers.push(cx.waker().clone());
            Poll::Pending
        })
        .await
    }

    /// Calls a function that does I/O, if the reactor has seen an event for it.
    ///
    /// # Errors
    ///
    /// Those of the function, and `WouldBlock` if there is no event.
    pub fn try_io<T>(&self, interest: Interest, io: impl FnOnce() -> Result<T>) -> Result<T> {
        if interest == Interest::ERROR && !self.kernel().lock().error_event {
            return Err(ErrorKind::WouldBlock.into());
        }
        let result = io();
        let blocks = |error: &Error| error.kind() == ErrorKind::WouldBlock;
        if interest == Interest::ERROR && result.as_ref().is_err_and(blocks) {
            self.kernel().lock().error_event = false;
        }
        result
    }

    /// Takes `SO_ERROR`.
    ///
    /// # Errors
    ///
    /// None.
    pub fn take_error(&self) -> Result<Option<Error>> {
        Ok(self.kernel().lock().error.take().map(Error::from))
    }

    /// Reads without waiting.
    ///
    /// # Errors
    ///
    /// The error of the socket, and `WouldBlock`.
    pub fn try_read(&self, buffer: &mut [u8]) -> Result<usize> {
        self.kernel().lock().receive(buffer, false)
    }

    /// Writes without waiting.
    ///
    /// # Errors
    ///
    /// The error of the socket, and `WouldBlock`.
    pub fn try_write(&self, data: &[u8]) -> Result<usize> {
        self.kernel().lock().send(data)
    }

    /// Writes without waiting.
    ///
    /// # Errors
    ///
    /// The error of the socket, and `WouldBlock`.
    pub fn try_write_vectored(&self, data: &[IoSlice<'_>]) -> Result<usize> {
        let data: Vec<u8> = data.iter().flat_map(|part| part.iter().copied()).collect();
        self.kernel().lock().send(&data)
    }
}

impl Drop for TcpStream {
    fn drop(&mut self) {
        if let Some(kernel) = self.0.take() {
            let mut inner = kernel.lock();
            assert!(!inner.closed, "a descriptor is closed twice");
            inner.closed = true;
            // The reactor drops its record of who waits, and wakes nobody.
            let reader = inner.reader.take();
            let writer = inner.writer.take();
            let watchers = std::mem::take(&mut inner.watchers);
            drop(inner);
            drop((reader, writer, watchers));
        }
    }
}

/// How data is received.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RecvFlags(());

impl RecvFlags {
    /// It stays.
    pub const PEEK: RecvFlags = RecvFlags(());
}

/// Looks at what has arrived.
///
/// # Errors
///
/// The error of the socket, and `WouldBlock`.
pub fn recv(stream: &TcpStream, buffer: &mut [u8], _: RecvFlags) -> Result<(usize, ())> {
    Ok((stream.kernel().lock().receive(buffer, true)?, ()))
}

/// Dissolves the association: sends RST, and wakes everybody (tcp_disconnect).
///
/// # Errors
///
/// None.
pub fn connect_unspec(stream: &TcpStream) -> Result<()> {
    stream.kernel().act(true, |inner| {
        if !inner.dissolved {
            inner.dissolved = true;
            inner.resets += 1;
            inner.inbox.clear();
            inner.error = Some(ErrorKind::ConnectionReset);
        }
    });
    Ok(())
}
