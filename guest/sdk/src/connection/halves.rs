//! The two directions of a connection.

use std::cell::Cell;
use std::io;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};

use futures::io::{AsyncBufRead, AsyncRead, AsyncWrite};
use futures::stream::{IntoAsyncRead, LocalBoxStream, StreamExt, TryStreamExt};
use halfopen_model::HIGH_WATER;

use crate::core::{Core, Machine};
use crate::{Error, ErrorCode, task};

/// Splits a connection, and starts the task that sends.
pub(super) fn split(core: Rc<Core>) -> (ReadHalf, WriteHalf) {
    let processed = core.processed().clone();
    let bytes = core.receive().map_err(io::Error::from);
    task::spawn(core.clone().send());
    let bytes = bytes.boxed_local().into_async_read();
    (ReadHalf { bytes, processed }, WriteHalf { core })
}

/// The receiving direction.
///
/// It ends (reads return 0) at the peer's FIN. Apart from one buffer of at most 64 KiB,
/// data is received only when it is read. Dropping this half discards the data that the
/// peer still sends, and leaves the sending direction open.
pub struct ReadHalf {
    bytes: IntoAsyncRead<LocalBoxStream<'static, io::Result<Vec<u8>>>>,
    /// Counts what the program takes.
    processed: Rc<Cell<u64>>,
}

impl ReadHalf {
    fn count(&self, length: usize) {
        self.processed.set(self.processed.get() + length as u64);
    }
}

impl std::fmt::Debug for ReadHalf {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ReadHalf").finish_non_exhaustive()
    }
}

impl AsyncRead for ReadHalf {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut [u8],
    ) -> Poll<io::Result<usize>> {
        let read = Pin::new(&mut self.bytes).poll_read(context, buffer);
        if let Poll::Ready(Ok(length)) = read {
            self.count(length);
        }
        read
    }
}

impl AsyncBufRead for ReadHalf {
    fn poll_fill_buf(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<&[u8]>> {
        Pin::new(&mut self.get_mut().bytes).poll_fill_buf(context)
    }

    fn consume(mut self: Pin<&mut Self>, amount: usize) {
        self.count(amount);
        Pin::new(&mut self.bytes).consume(amount);
    }
}

/// The sending direction.
///
/// At most 64 KiB wait to be sent; a write waits while there is no room (backpressure).
/// Written data is sent without a flush; `flush` waits until the host has taken it.
/// `close` sends FIN behind the data, waits until the host has taken both, and returns the
/// connection's error if there was one. Dropping this half sends FIN too, without waiting.
pub struct WriteHalf {
    core: Rc<Core>,
}

impl std::fmt::Debug for WriteHalf {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("WriteHalf").finish_non_exhaustive()
    }
}

impl WriteHalf {
    /// Aborts both directions of the connection: unsent data is discarded, and the peer
    /// gets RST where the host can send one.
    pub fn reset(self) {
        self.core.reset();
    }

    /// The connection of the half.
    pub(super) fn core(&self) -> &Core {
        &self.core
    }

    /// Waits until `look` returns a value for the connection's state.
    fn poll_state<T>(
        &self,
        context: &Context<'_>,
        look: impl FnOnce(&Machine) -> Option<T>,
    ) -> Poll<io::Result<T>> {
        let seen = self.core.look(|machine| match machine.error() {
            Some(error) => Some(Err(error.clone().into())),
            None => look(machine).map(Ok),
        });
        if let Some(result) = seen {
            return Poll::Ready(result);
        }
        self.core.register_writer(context);
        Poll::Pending
    }
}

impl AsyncWrite for WriteHalf {
    fn poll_write(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &[u8],
    ) -> Poll<io::Result<usize>> {
        let room = self.poll_state(context, |machine| {
            if !machine.can_write() {
                return Some(0);
            }
            let room = HIGH_WATER.saturating_sub(machine.unsent());
            (room > 0).then_some(room)
        });
        let room = futures::ready!(room)?;
        if room == 0 {
            return Poll::Ready(Err(Error::from(ErrorCode::InvalidState).into()));
        }
        let length = buffer.len().min(room);
        if length > 0 {
            self.core.write(&buffer[..length]);
        }
        Poll::Ready(Ok(length))
    }

    fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.poll_state(context, |machine| (machine.unsent() == 0).then_some(()))
    }

    fn poll_close(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.core.look(Machine::can_write) {
            self.core.change(Machine::end);
        }
        self.poll_state(context, |machine| machine.sending_ended().then_some(()))
    }
}

impl Drop for WriteHalf {
    fn drop(&mut self) {
        self.core.change(Machine::end);
    }
}
