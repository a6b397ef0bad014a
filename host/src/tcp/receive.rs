//! The receiving direction as a component-model stream.

use std::any::{Any, TypeId};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::BytesMut;
use tokio::sync::oneshot;
use wasmtime::component::{Destination, StreamProducer, StreamResult};
use wasmtime::{AsContextMut as _, StoreContextMut};

use super::{ErrorCode, Socket};

/// Room for one read where the reader is not a guest with a buffer of its own.
/// As large as Node's reads.
pub(super) const CHUNK: usize = 64 * 1024;

/// How a direction ended; sent once, and taken for a local abort if it is not.
pub(super) type Outcome = oneshot::Sender<Result<(), ErrorCode>>;

/// Produces what the peer sends. Dropped early, it gives up the rest (rule R6).
pub(super) struct Receiver(Option<(Arc<Socket>, Outcome)>);

impl Receiver {
    pub(super) fn new(socket: Arc<Socket>, outcome: Outcome) -> Self {
        Receiver(Some((socket, outcome)))
    }

    /// The socket and the outcome still to be told, unless it has ended.
    pub(super) fn into_parts(mut self) -> Option<(Arc<Socket>, Outcome)> {
        self.0.take()
    }

    fn end(&mut self, result: Result<(), ErrorCode>) {
        if let Some((_, outcome)) = self.0.take() {
            // Nobody may be interested.
            let _ = outcome.send(result);
        }
    }
}

impl Drop for Receiver {
    fn drop(&mut self) {
        // Given up by the program: that is not an error, unless there was one before.
        if let Some((socket, _)) = &self.0 {
            let result = socket.failure().map_or(Ok(()), Err);
            self.end(result);
        }
    }
}

impl<D> StreamProducer<D> for Receiver {
    type Item = u8;
    type Buffer = BytesMut;

    fn poll_produce<'a>(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        mut store: StoreContextMut<'a, D>,
        destination: Destination<'a, u8, BytesMut>,
        finish: bool,
    ) -> Poll<wasmtime::Result<StreamResult>> {
        let Some((socket, _)) = &self.0 else {
            return Poll::Ready(Ok(StreamResult::Dropped));
        };
        // A read of length 0 asks whether there is something to read (rule R7).
        if destination.remaining(store.as_context_mut()) == Some(0) {
            return match socket.poll_readable(cx) {
                Poll::Ready(()) => Poll::Ready(Ok(StreamResult::Completed)),
                Poll::Pending if finish => Poll::Ready(Ok(StreamResult::Cancelled)),
                Poll::Pending => Poll::Pending,
            };
        }
        let mut destination = destination.as_direct(store, CHUNK);
        match socket.poll_receive(cx, destination.remaining()) {
            Poll::Ready(Ok(0)) => {
                self.end(Ok(()));
                Poll::Ready(Ok(StreamResult::Dropped))
            }
            Poll::Ready(Ok(length)) => {
                socket.note_moved();
                destination.mark_written(length);
                Poll::Ready(Ok(StreamResult::Completed))
            }
            Poll::Ready(Err(error)) => {
                self.end(Err(error));
                Poll::Ready(Ok(StreamResult::Dropped))
            }
            Poll::Pending if finish => Poll::Ready(Ok(StreamResult::Cancelled)),
            Poll::Pending => Poll::Pending,
        }
    }

    /// Lets `write` recover the socket behind a stream that the guest only passes
    /// on, and move the bytes without it (rule W9).
    fn try_into(me: Pin<Box<Self>>, ty: TypeId) -> Result<Box<dyn Any>, Pin<Box<Self>>> {
        if ty == TypeId::of::<Receiver>() {
            let me: Box<Self> = Pin::into_inner(me);
            Ok(me)
        } else {
            Err(me)
        }
    }
}
