//! The sending direction as the consumer of a component-model stream.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use wasmtime::StoreContextMut;
use wasmtime::component::{Source, StreamConsumer, StreamResult};

use super::receive::Outcome;
use super::{ErrorCode, Socket};

/// Sends what the program writes. That it is dropped is the end of the program's
/// data, and thus our FIN (rule W2).
pub(super) struct Sender(Option<(Arc<Socket>, Outcome)>);

impl Sender {
    pub(super) fn new(socket: Arc<Socket>, outcome: Outcome) -> Self {
        Sender(Some((socket, outcome)))
    }

    pub(super) fn socket(&self) -> Option<&Arc<Socket>> {
        self.0.as_ref().map(|(socket, _)| socket)
    }

    fn end(&mut self, result: Result<(), ErrorCode>) {
        if let Some((_, outcome)) = self.0.take() {
            // Nobody may be interested.
            let _ = outcome.send(result);
        }
    }

    /// Ends by an error instead of FIN.
    pub(super) fn fail(mut self, error: ErrorCode) {
        self.end(Err(error));
    }
}

impl Drop for Sender {
    fn drop(&mut self) {
        // After an abort this reports the abort, and sends nothing: a store that
        // is torn down drops its streams as well, and that is no FIN.
        if let Some(result) = self.socket().map(|socket| socket.finish_sending()) {
            self.end(result);
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
        // A write of length 0 asks whether there is room.
        if source.remaining().is_empty() {
            return match socket.poll_writable(cx) {
                Poll::Ready(()) => Poll::Ready(Ok(StreamResult::Completed)),
                Poll::Pending if finish => Poll::Ready(Ok(StreamResult::Cancelled)),
                Poll::Pending => Poll::Pending,
            };
        }
        match socket.poll_send(cx, source.remaining()) {
            Poll::Ready(Ok(length)) => {
                socket.note_moved();
                source.mark_read(length);
                Poll::Ready(Ok(StreamResult::Completed))
            }
            Poll::Ready(Err(error)) => {
                self.end(Err(error));
                Poll::Ready(Ok(StreamResult::Dropped))
            }
            Poll::Pending if finish => Poll::Ready(Ok(match socket.give_up_send() {
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
