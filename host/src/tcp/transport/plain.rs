//! Bytes as they are.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use rustix::net::{RecvFlags, recv};
use tokio::io::{AsyncRead, Interest, ReadBuf};
use tokio::net::TcpStream;
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};

use super::{KernelPipe, shut_down};
use crate::tcp::ErrorCode;
use crate::tcp::state::State;
use crate::tcp::sync::{Mutex, PoisonError};

/// A stream, split into its two directions.
///
/// The receiving half is behind a lock because tokio needs exclusive access
/// ([`AsyncRead`]) to clear the readiness after a read that did not fill its buffer. A
/// shared read would need another system call to learn that nothing is left.
#[derive(Debug)]
pub(in crate::tcp) struct Halves {
    receiving: Mutex<OwnedReadHalf>,
    sending: OwnedWriteHalf,
}

impl Halves {
    pub(super) fn new(stream: TcpStream) -> Self {
        let (receiving, sending) = stream.into_split();
        Halves {
            receiving: Mutex::new(receiving),
            sending,
        }
    }

    pub(super) fn stream(&self) -> &TcpStream {
        self.sending.as_ref()
    }

    /// Receives under the lock of `state`, like [`poll_send`](Self::poll_send): whoever sends
    /// after a read has consumed the socket's error finds EPIPE instead.
    pub(super) fn poll_receive(
        &self,
        cx: &mut Context<'_>,
        buffer: &mut [u8],
        state: &State,
    ) -> Poll<Result<usize, ErrorCode>> {
        // No code panics while it holds the lock.
        let mut receiving = self
            .receiving
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        loop {
            if let Err(error) = ready!(self.stream().poll_read_ready(cx)) {
                return Poll::Ready(Err(state.lock().fail(error.into())));
            }
            let mut state = state.lock();
            let mut filled = ReadBuf::new(buffer);
            match ready!(Pin::new(&mut *receiving).poll_read(cx, &mut filled)) {
                Ok(()) => return Poll::Ready(Ok(filled.filled().len())),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Poll::Ready(Err(state.fail(error.into()))),
            }
        }
    }

    /// Whether the peer's FIN has come, and nothing before it is left to be read.
    ///
    /// # Errors
    /// If the connection has failed. The error is recorded in `state`, whose lock is held
    /// meanwhile: looking may consume the socket's error.
    pub(super) fn at_end(&self, state: &State) -> Result<bool, ErrorCode> {
        let mut state = state.lock();
        let peek = || Ok(recv(self.stream(), &mut [0; 1], RecvFlags::PEEK)?.0);
        match self.stream().try_io(Interest::READABLE, peek) {
            Ok(length) => Ok(length == 0),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(false),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => Ok(false),
            Err(error) => Err(state.fail(error.into())),
        }
    }

    /// Sends under the lock of `state`: a write may consume the socket's error.
    pub(super) fn poll_send(
        &self,
        cx: &mut Context<'_>,
        data: &[u8],
        state: &State,
    ) -> Poll<Result<usize, ErrorCode>> {
        loop {
            if let Err(error) = ready!(self.stream().poll_write_ready(cx)) {
                return Poll::Ready(Err(state.lock().fail(error.into())));
            }
            let mut state = state.lock();
            match self.stream().try_write(data) {
                Ok(length) => return Poll::Ready(Ok(length)),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Poll::Ready(Err(state.fail(error.into()))),
            }
        }
    }

    /// Moves up to `most` bytes that were received into a pipe. Returns how many; 0 says
    /// nothing about the connection, which has to be received from: it may have ended, have
    /// failed, which is then recorded in `state`, or have urgent data, at which splice(2)
    /// stops as at EOF (`tcp_read_sock`).
    pub(super) fn poll_fill(
        &self,
        cx: &mut Context<'_>,
        pipe: &mut KernelPipe,
        most: usize,
        state: &State,
    ) -> Poll<usize> {
        // An error of the readiness is met again by whoever receives.
        if ready!(self.stream().poll_read_ready(cx)).is_err() {
            return Poll::Ready(0);
        }
        let mut state = state.lock();
        let filled = pipe.fill(self.stream(), most);
        Poll::Ready(filled.unwrap_or_else(|error| {
            state.fail(error.into());
            0
        }))
    }

    /// Sends what is in a pipe, as far as the kernel has room.
    ///
    /// # Errors
    /// If the connection has failed. The error is recorded in `state`.
    pub(super) fn drain(&self, pipe: &mut KernelPipe, state: &State) -> Result<(), ErrorCode> {
        let mut state = state.lock();
        let sent = pipe.drain(self.stream());
        let sent = sent.map_err(|error| state.fail(error.into()))?;
        // splice(2) sends in several steps (`splice_to_socket`). If a later one meets an error,
        // it returns what the earlier ones have sent, and the error is lost. A socket that was
        // reset has no peer.
        if sent > 0 && pipe.held() > 0 && self.stream().peer_addr().is_err() {
            let error = match self.stream().take_error() {
                Ok(Some(error)) => error.into(),
                // After the peer's FIN, Linux reports a reset as EPIPE.
                _ if state.received_end() => ErrorCode::ConnectionBroken,
                _ => ErrorCode::ConnectionReset,
            };
            return Err(state.fail(error));
        }
        Ok(())
    }

    /// Queues FIN, and records that in `state`.
    ///
    /// # Errors
    /// If the connection has failed.
    pub(super) fn finish(&self, state: &State) -> Result<(), ErrorCode> {
        // Shutting down may consume the socket's error, too.
        let mut state = state.lock();
        if let Some(failure) = state.failure() {
            return Err(failure.clone());
        }
        shut_down(self.stream()).map_err(|error| state.fail(error))?;
        state.finish();
        Ok(())
    }

    /// Joins the halves again. Dropping the sending half alone would shut the stream
    /// down; reuniting both does not.
    pub(super) fn into_stream(self) -> Option<TcpStream> {
        let receiving = self.receiving.into_inner();
        let receiving = receiving.unwrap_or_else(PoisonError::into_inner);
        // Fails only for the halves of two streams.
        receiving.reunite(self.sending).ok()
    }
}
