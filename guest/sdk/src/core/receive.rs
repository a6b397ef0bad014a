//! The receiving direction.

use std::rc::Rc;

use futures::stream::{self, Stream};
use halfopen_model::Room;
use wit_bindgen::rt::async_support::StreamResult;

use super::{Core, Machine};
use crate::bindings::imports::halfopen::tcp::connections;
use crate::{Error, ErrorCode, task};

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
        let state = taken.map(|(stream, ended)| (stream, ended, Room::default(), self.clone()));
        stream::unfold(state, async |state| {
            let (mut stream, ended, mut room, core) = state?;
            loop {
                let (result, chunk) = stream.read(Vec::with_capacity(room.bytes())).await;
                if !chunk.is_empty() {
                    room.filled(chunk.len());
                    return Some((Ok(chunk), Some((stream, ended, room, core))));
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
