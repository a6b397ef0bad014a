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

/// The size of a read whose reader is not a guest with a buffer of its own. Node reads as
/// much at a time.
pub(super) const CHUNK: usize = 64 * 1024;

/// Reports how a direction ended, once. Dropped unused, it reports a local abort.
pub(super) type EndSender = oneshot::Sender<Result<(), ErrorCode>>;

/// Produces the data that the peer sends; `None` once the direction has ended. Dropping it
/// before gives up the rest of the data (rule R6).
pub(super) struct Receiver(Option<(Arc<Socket>, EndSender)>);

impl Receiver {
    pub(super) fn new(socket: Arc<Socket>, end: EndSender) -> Self {
        Receiver(Some((socket, end)))
    }

    /// Returns the socket and the sender of its end; `None` if the direction has ended.
    pub(super) fn into_parts(mut self) -> Option<(Arc<Socket>, EndSender)> {
        self.0.take()
    }

    fn end(&mut self, result: Result<(), ErrorCode>) {
        if let Some((_, end)) = self.0.take() {
            // The guest may have dropped the future.
            let _ = end.send(result);
        }
    }
}

impl Drop for Receiver {
    fn drop(&mut self) {
        // Giving up the rest is not an error, unless the connection had failed before.
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
        // A read of length 0 waits until there is something to read (rule R7).
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
                socket.count_transfer();
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

    /// Lets `write` recover the socket behind a stream that the guest only forwards, and
    /// move the bytes without the guest (rule W9).
    fn try_into(me: Pin<Box<Self>>, ty: TypeId) -> Result<Box<dyn Any>, Pin<Box<Self>>> {
        if ty == TypeId::of::<Receiver>() {
            let me: Box<Self> = Pin::into_inner(me);
            Ok(me)
        } else {
            Err(me)
        }
    }
}
