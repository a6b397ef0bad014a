//! Moving bytes from one direction to another without the guest (rule W9).

use std::future::poll_fn;

use super::receive::{CHUNK, Receiver};
use super::send::Sender;

/// Sends everything that `receiver` receives, then FIN for FIN.
///
/// A buffer is held only while there are bytes to move: an idle connection costs
/// none.
pub(super) async fn pump(receiver: Receiver, sender: Sender) {
    let Some((source, received)) = receiver.into_parts() else {
        // It had ended before; dropping the sender passes that on.
        return;
    };
    let Some(sink) = sender.socket().cloned() else {
        return;
    };
    loop {
        poll_fn(|cx| source.poll_readable(cx)).await;
        let mut buffer = vec![0; CHUNK].into_boxed_slice();
        let length = match poll_fn(|cx| source.poll_receive(cx, &mut buffer)).await {
            Ok(0) => break,
            Ok(length) => length,
            Err(error) => {
                // The end of what came is not the end of what was meant. The cause is
                // told before its consequence.
                let _ = received.send(Err(error));
                sink.abort();
                return;
            }
        };
        let mut rest = &buffer[..length];
        while !rest.is_empty() {
            match poll_fn(|cx| sink.poll_send(cx, rest)).await {
                Ok(sent) => rest = &rest[sent..],
                Err(error) => {
                    // The receiving direction is given up, as if dropped.
                    let _ = received.send(Ok(()));
                    sender.fail(error);
                    return;
                }
            }
        }
    }
    // Nobody may be interested.
    let _ = received.send(Ok(()));
    drop(sender);
}
