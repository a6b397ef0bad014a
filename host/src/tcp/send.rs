//! The sending direction as the consumer of a component-model stream.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use wasmtime::StoreContextMut;
use wasmtime::component::{Source, StreamConsumer, StreamResult};

use super::receive::EndSender;
use super::{ErrorCode, Socket};

/// Sends the data that the guest writes; `None` once the direction has ended. Dropping it
/// before ends the data, and thus sends our FIN (rule W2).
pub(super) struct Sender(Option<(Arc<Socket>, EndSender)>);

impl Sender {
    pub(super) fn new(socket: Arc<Socket>, end: EndSender) -> Self {
        Sender(Some((socket, end)))
    }

    pub(super) fn socket(&self) -> Option<&Arc<Socket>> {
        self.0.as_ref().map(|(socket, _)| socket)
    }

    fn end(&mut self, result: Result<(), ErrorCode>) {
        if let Some((_, end)) = self.0.take() {
            // The guest may have dropped the future.
            let _ = end.send(result);
        }
    }

    /// Ends the direction by an error instead of FIN.
    pub(super) fn fail(mut self, error: ErrorCode) {
        self.end(Err(error));
    }
}

impl Drop for Sender {
    fn drop(&mut self) {
        // After an abort this reports the abort, and sends nothing: dropping a store drops
        // its streams as well, which must not look like the end of the data.
        if let Some((socket, end)) = self.0.take() {
            // The guest may have dropped the future.
            socket.finish_sending(|result| drop(end.send(result)));
        }
    }
}

impl<D> StreamConsumer<D> for Sender {
    type Item = u8;

    fn poll_consume(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        store: StoreContextMut<D>,
        source: Source<'_, u8>,
        finish: bool,
    ) -> Poll<wasmtime::Result<StreamResult>> {
        let Some(socket) = self.socket() else {
            return Poll::Ready(Ok(StreamResult::Dropped));
        };
        let mut source = source.as_direct(store);
        // A write of length 0 waits until something can be sent.
        if source.remaining().is_empty() {
            return match socket.poll_writable(cx) {
                Poll::Ready(()) => Poll::Ready(Ok(StreamResult::Completed)),
                Poll::Pending if finish => Poll::Ready(Ok(StreamResult::Cancelled)),
                Poll::Pending => Poll::Pending,
            };
        }
        match socket.poll_send(cx, source.remaining()) {
            Poll::Ready(Ok(length)) => {
                socket.count_transfer();
                source.mark_read(length);
                Poll::Ready(Ok(StreamResult::Completed))
            }
            Poll::Ready(Err(error)) => {
                self.end(Err(error));
                Poll::Ready(Ok(StreamResult::Dropped))
            }
            Poll::Pending if finish => Poll::Ready(Ok(match socket.abandon_send() {
                0 => StreamResult::Cancelled,
                length => {
                    source.mark_read(length);
                    StreamResult::Completed
                }
            })),
            Poll::Pending => Poll::Pending,
        }
    }
}
