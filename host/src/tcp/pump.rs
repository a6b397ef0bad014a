//! Moving bytes from one direction to another without the guest (rule W9).

use std::cell::RefCell;
use std::future::poll_fn;
use std::task::{Context, Poll, ready};

use super::life::Ending;
use super::receive::Receiver;
use super::send::Sender;
use super::{ErrorCode, Socket};

/// How much is moved at a time.
const BUFFER: usize = 256 * 1024;

thread_local! {
    /// Bytes pass through it within one poll, so that one serves all connections of a
    /// thread.
    static PASSAGE: RefCell<Box<[u8]>> = RefCell::new(vec![0; BUFFER].into_boxed_slice());
}

/// Sends everything that `receiver` receives, then FIN for FIN.
///
/// A connection has memory of its own only while its sink takes less than was received.
pub(super) async fn pump(receiver: Receiver, sender: Sender) {
    let Some((source, received)) = receiver.into_parts() else {
        // It had ended before; dropping the sender passes that on.
        return;
    };
    let Some(sink) = sender.socket().cloned() else {
        return;
    };
    let mut rest = Vec::new();
    match poll_fn(|cx| poll_move(cx, &source, &sink, &mut rest)).await {
        Moved::Ended => {
            // Nobody may be interested.
            let _ = received.send(Ok(()));
            drop(sender);
        }
        Moved::SourceFailed(error) => {
            // The end of what came is not the end of what was meant. The cause is told
            // before its consequence.
            let _ = received.send(Err(error));
            sink.abort(Ending::Reset);
        }
        Moved::SinkFailed(error) => {
            // The receiving direction is given up, as if dropped.
            let _ = received.send(Ok(()));
            sender.fail(error);
        }
    }
}

/// How it came to an end.
enum Moved {
    Ended,
    SourceFailed(ErrorCode),
    SinkFailed(ErrorCode),
}

/// Moves what there is, until one of them has to be waited for.
fn poll_move(
    cx: &mut Context<'_>,
    source: &Socket,
    sink: &Socket,
    rest: &mut Vec<u8>,
) -> Poll<Moved> {
    loop {
        let mut sent = 0;
        while sent < rest.len() {
            match sink.poll_send(cx, &rest[sent..]) {
                Poll::Ready(Ok(length)) => sent += length,
                Poll::Ready(Err(error)) => return Poll::Ready(Moved::SinkFailed(error)),
                Poll::Pending => {
                    rest.drain(..sent);
                    return Poll::Pending;
                }
            }
        }
        // Idle connections keep no memory.
        *rest = Vec::new();
        let moved = PASSAGE.with_borrow_mut(|buffer| {
            let length = match ready!(source.poll_receive(cx, buffer)) {
                Ok(0) => return Poll::Ready(Some(Moved::Ended)),
                Ok(length) => length,
                Err(error) => return Poll::Ready(Some(Moved::SourceFailed(error))),
            };
            let mut sent = 0;
            while sent < length {
                match sink.poll_send(cx, &buffer[sent..length]) {
                    Poll::Ready(Ok(length)) => sent += length,
                    Poll::Ready(Err(error)) => return Poll::Ready(Some(Moved::SinkFailed(error))),
                    Poll::Pending => {
                        *rest = buffer[sent..length].to_vec();
                        return Poll::Pending;
                    }
                }
            }
            Poll::Ready(None)
        });
        if let Some(end) = ready!(moved) {
            return Poll::Ready(end);
        }
    }
}
