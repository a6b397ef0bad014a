//! Moving bytes from one direction to another without the guest (rule W9).

use std::future::poll_fn;

use super::Ending;
use super::moving::{Moving, Stop};
use super::receive::Receiver;
use super::send::Sender;
use super::waiters::Wait;

/// Sends everything that `receiver` receives, and forwards FIN as FIN.
pub(super) async fn pump(receiver: Receiver, sender: Sender) {
    let Some((source, received)) = receiver.into_parts() else {
        // The source had ended before; dropping the sender forwards the end.
        return;
    };
    let Some(sink) = sender.socket().cloned() else {
        return;
    };
    let mut moving = Moving::default();
    let stop = poll_fn(|cx| {
        let moved = moving.poll(cx, &source, &sink);
        if moved.is_pending() && moving.is_empty() {
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
