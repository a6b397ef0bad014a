//! The receiving direction.

use std::rc::Rc;

use futures::stream::{self, Stream};
use wit_bindgen::rt::async_support::StreamResult;

use super::{Core, Machine};
use crate::bindings::imports::halfopen::tcp::connections;
use crate::{Error, ErrorCode, task};

/// The size of the first read buffer. An idle connection holds one, so it is small.
const READ_MIN: usize = 4 * 1024;
/// The size that the buffer grows to while reads fill it.
const READ_MAX: usize = 64 * 1024;

impl Core {
    /// Returns the data that the peer sends, up to its FIN or to an error, which becomes
    /// the connection's error.
    ///
    /// `unfold` keeps the stream in its own state, so that all reads share one allocation.
    pub(crate) fn receive(self: &Rc<Self>) -> impl Stream<Item = Result<Vec<u8>, Error>> + use<> {
        let taken = self
            .handle
            .borrow()
            .as_ref()
            .map(connections::Connection::read);
        let state = taken.map(|(stream, ended)| (stream, ended, READ_MIN, self.clone()));
        stream::unfold(state, async |state| {
            let (mut stream, ended, size, core) = state?;
            loop {
                let (result, chunk) = stream.read(Vec::with_capacity(size)).await;
                if !chunk.is_empty() {
                    let size = next_size(size, chunk.len());
                    return Some((Ok(chunk), Some((stream, ended, size, core))));
                }
                if matches!(result, StreamResult::Dropped) {
                    break;
                }
            }
            // To read the stream again would trap.
            drop(stream);
            match core.received(ended.await).await {
                Ok(()) => None,
                Err(error) => Some((Err(error), None)),
            }
        })
    }

    /// Records how the receiving direction ended, and returns the error that both
    /// directions report (rule E1).
    async fn received(&self, ended: Result<(), ErrorCode>) -> Result<(), Error> {
        if let Err(code) = ended {
            self.change(|machine| machine.fail(code.into()));
        } else {
            if self.look(|machine| machine.unsent() > 0) {
                // The kernel reports a reset once. If the sending direction gets it, the
                // receiving one looks as if FIN had come; the sending direction's error is
                // then already on its way.
                task::yield_now().await;
            }
            return self.change(Machine::receive_end);
        }
        self.look(|machine| machine.error().cloned().map_or(Ok(()), Err))
    }
}

/// Returns the buffer size of the next read, given how much of the last one was filled.
fn next_size(size: usize, filled: usize) -> usize {
    if filled == size {
        (size * 4).min(READ_MAX)
    } else if filled < size / 4 {
        (size / 4).max(READ_MIN)
    } else {
        size
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_room_for_reads_follows_the_traffic() {
        assert_eq!(next_size(READ_MIN, READ_MIN), 4 * READ_MIN);
        assert_eq!(next_size(READ_MAX, READ_MAX), READ_MAX);
        assert_eq!(next_size(READ_MAX, 10), READ_MAX / 4);
        assert_eq!(next_size(READ_MIN, 10), READ_MIN);
        assert_eq!(next_size(READ_MAX, READ_MAX / 2), READ_MAX);
    }
}
