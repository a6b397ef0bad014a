//! The sending direction.

use std::future::poll_fn;
use std::pin::pin;
use std::rc::Rc;
use std::task::{Context, Poll};

use futures::future::{self, Either};
use halfopen_model::{Destroy, Step};

use super::{Core, Machine};
use crate::bindings::imports::wit_stream;
use crate::{ErrorCode, task};

impl Core {
    /// Sends the data that the program writes, until the direction has ended or the
    /// connection has failed or was destroyed.
    ///
    /// Runs as a task of its own, so that written data is sent without any further call by
    /// the program.
    pub(crate) async fn send(self: Rc<Self>) {
        let (mut stream, reader) = wit_stream::new();
        let Some(ended) = self.handle.borrow().as_ref().map(|c| c.write(reader)) else {
            return;
        };
        // A second task waits for the result, which also arrives when the connection fails
        // while nothing is being sent (rule C6).
        let core = self.clone();
        task::spawn(async move {
            let result = ended.await;
            core.sent_all(result);
        });
        loop {
            match poll_fn(|context| self.poll_step(context)).await {
                (Step::Send, bytes) => {
                    let length = bytes.len();
                    let write = pin!(stream.write_all(bytes));
                    let stopped = pin!(poll_fn(|context| self.poll_stopped(context)));
                    match future::select(write, stopped).await {
                        Either::Left((rest, _)) if rest.is_empty() => {
                            self.change(|machine| machine.taken(length));
                            self.moved();
                        }
                        // The host has dropped the reader; to write again would trap (rule
                        // W5).
                        Either::Left(_) => break,
                        // Destroyed: data that the host has not taken is lost, so the peer
                        // gets a reset, unless it has had one (rule W7).
                        Either::Right(_) => {
                            if self.change(Machine::flush_failed) {
                                self.carry_out(Destroy::Reset);
                            }
                            return;
                        }
                    }
                }
                (Step::Finish, _) => break,
                (Step::Stop, _) => return,
            }
        }
    }

    fn sent_all(&self, result: Result<(), ErrorCode>) {
        self.change(|machine| match result {
            Ok(()) => machine.finished(),
            Err(code) => machine.fail(code.into()),
        });
    }

    fn poll_step(&self, context: &Context<'_>) -> Poll<(Step, Vec<u8>)> {
        match self.next_step() {
            Some(step) => Poll::Ready(step),
            None => {
                self.sender.register(context.waker());
                Poll::Pending
            }
        }
    }

    fn poll_stopped(&self, context: &Context<'_>) -> Poll<()> {
        if self.look(Machine::stopped) {
            return Poll::Ready(());
        }
        self.sender.register(context.waker());
        Poll::Pending
    }
}
