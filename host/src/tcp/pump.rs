//! Moving bytes from one direction to another without the guest (rule W9).

use std::cell::RefCell;
use std::future::poll_fn;
use std::task::{Context, Poll, ready};

use super::receive::Receiver;
use super::send::Sender;
use super::waiters::Wait;
use super::{Ending, ErrorCode, Socket};

/// The most bytes moved at a time.
const BUFFER: usize = 256 * 1024;

thread_local! {
    /// Holds bytes only within one poll, so that all connections of a thread share it.
    static SHARED_BUFFER: RefCell<Box<[u8]>> = RefCell::new(vec![0; BUFFER].into_boxed_slice());
}

/// Sends everything that `receiver` receives, and forwards FIN as FIN.
///
/// A connection allocates a buffer of its own only while its sink accepts less than was
/// received.
pub(super) async fn pump(receiver: Receiver, sender: Sender) {
    let Some((source, received)) = receiver.into_parts() else {
        // The source had ended before; dropping the sender forwards the end.
        return;
    };
    let Some(sink) = sender.socket().cloned() else {
        return;
    };
    let mut rest = Vec::new();
    let stop = poll_fn(|cx| {
        let moved = poll_move(cx, &source, &sink, &mut rest);
        if moved.is_pending() && rest.is_empty() {
            // The source has nothing to move now, and may never have: only here is a
            // failure of the sink seen.
            return sink.poll_failed(cx, Wait::Pump).map(Stop::SinkFailed);
        }
        moved
    });
    match stop.await {
        Stop::Ended => {
            // The guest may have dropped the future.
            let _ = received.send(Ok(()));
            drop(sender);
        }
        Stop::SourceFailed(error) => {
            // The data is truncated, so the sink must not see FIN. The source's error, the
            // cause, is reported before the sink's.
            let _ = received.send(Err(error));
            sink.abort(Ending::Reset);
        }
        Stop::SinkFailed(error) => {
            // As if the guest had dropped the receiving direction.
            let _ = received.send(Ok(()));
            sender.fail(error);
        }
    }
}

/// Why the pump stops.
enum Stop {
    Ended,
    SourceFailed(ErrorCode),
    SinkFailed(ErrorCode),
}

/// Moves data until the source has none or the sink accepts none. `rest` is what was
/// received and not yet sent.
fn poll_move(
    cx: &mut Context<'_>,
    source: &Socket,
    sink: &Socket,
    rest: &mut Vec<u8>,
) -> Poll<Stop> {
    loop {
        let mut sent = 0;
        while sent < rest.len() {
            match sink.poll_send(cx, &rest[sent..]) {
                Poll::Ready(Ok(length)) => sent += length,
                Poll::Ready(Err(error)) => return Poll::Ready(Stop::SinkFailed(error)),
                Poll::Pending => {
                    rest.drain(..sent);
                    return Poll::Pending;
                }
            }
        }
        // Idle connections hold no memory.
        *rest = Vec::new();
        let moved = SHARED_BUFFER.with_borrow_mut(|buffer| {
            let length = match ready!(source.poll_receive(cx, buffer)) {
                Ok(0) => return Poll::Ready(Some(Stop::Ended)),
                Ok(length) => length,
                Err(error) => return Poll::Ready(Some(Stop::SourceFailed(error))),
            };
            let mut sent = 0;
            while sent < length {
                match sink.poll_send(cx, &buffer[sent..length]) {
                    Poll::Ready(Ok(length)) => sent += length,
                    Poll::Ready(Err(error)) => return Poll::Ready(Some(Stop::SinkFailed(error))),
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
