//! Moving bytes from one direction to another without the guest (rule W9).

use std::future::poll_fn;
use std::task::{Poll, ready};

use super::Ending;
use super::moving::{Moving, Stop};
use super::passing::{Passing, Place};
use super::receive::Receiver;
use super::send::Sender;
use super::waiters::Wait;

/// Sends everything that `receiver` receives, and forwards FIN as FIN. It rests while `passing`
/// asks for that, as soon as nothing is on the way.
pub(super) async fn pump(receiver: Receiver, sender: Sender, passing: &Passing) {
    let Some((source, received)) = receiver.into_parts() else {
        // The source had ended before; dropping the sender forwards the end.
        return;
    };
    let Some(sink) = sender.socket().cloned() else {
        return;
    };
    let place = passing.enter(&source, &sink);
    let is_asked = || place.as_ref().is_some_and(Place::is_asked);
    let mut moving = Moving::default();
    let stop = loop {
        let next = poll_fn(|cx| {
            if is_asked() {
                let sent = ready!(moving.poll_rest(cx, &sink));
                return Poll::Ready(sent.err());
            }
            let moved = moving.poll(cx, &source, &sink);
            if moved.is_pending() && moving.is_empty() {
                if is_asked() {
                    return Poll::Ready(None);
                }
                // The source has nothing to move now, and may never have: only here is a
                // failure of the sink seen.
                let failed = sink.poll_failed(cx, Wait::Pump);
                return failed.map(|error| Some(Stop::SinkFailed(error)));
            }
            moved.map(Some)
        });
        match (next.await, &place) {
            (Some(stop), _) => break stop,
            (None, Some(place)) => place.rest().await,
            (None, None) => {}
        }
    };
    match stop {
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
