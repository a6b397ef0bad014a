//! A socket as the source or the sink of a pipe (rule K15).

use std::task::{Context, Poll, ready};

use halfopen_model::{Sink, Source};

use super::Entry;
use crate::tcp::transport::KernelPipe;
use crate::tcp::{Ending, ErrorCode};

/// What a pipe gets of its source.
#[derive(Debug)]
pub(in crate::tcp::callbacks) enum Passed {
    /// Nothing yet; the driver is woken when there is something.
    Nothing,
    /// The chunk is in the buffer that was passed, and has this length.
    Data(usize),
    /// The chunk was received before the pipe began.
    Held(Vec<u8>),
    /// The peer's FIN.
    End,
    /// The source has failed, or was destroyed.
    Failed,
}

/// What a pipe does with its source and its sink.
impl Entry {
    pub(in crate::tcp::callbacks) fn may_pipe(&self) -> bool {
        self.machine.may_pipe() && self.securing.is_none()
    }

    pub(in crate::tcp::callbacks) fn pipe_to(&mut self, sink: u32) {
        self.machine.pipe();
        self.sink = Some(sink);
    }

    pub(in crate::tcp::callbacks) fn is_piped(&self) -> bool {
        self.machine.is_piped()
    }

    pub(in crate::tcp::callbacks) fn sink(&self) -> Option<u32> {
        self.sink
    }

    /// Whether the connection has failed, or was destroyed.
    pub(in crate::tcp::callbacks) fn has_failed(&self) -> bool {
        self.machine.source() == Source::Failed
    }

    /// Returns what there is to pass on. `passes` says whether the sink is there: otherwise FIN
    /// is not passed on.
    pub(in crate::tcp::callbacks) fn pass(&mut self, buffer: &mut [u8], passes: bool) -> Passed {
        if self.machine.source() == Source::Receive {
            let Some(socket) = &self.socket else {
                return Passed::Nothing;
            };
            match socket.poll_receive(&mut Context::from_waker(&self.waker), buffer) {
                Poll::Pending => {
                    self.flow.waits();
                    return Passed::Nothing;
                }
                Poll::Ready(Ok(0)) => {
                    if let Err(error) = self.machine.receive_end() {
                        self.machine.fail(error);
                    }
                }
                Poll::Ready(Ok(length)) => {
                    self.flow.received(length);
                    socket.count_transfer();
                    if let Some(watch) = &mut self.watch {
                        watch.moved();
                    }
                    return Passed::Data(length);
                }
                Poll::Ready(Err(error)) => self.machine.fail(error),
            }
        }
        let passed = match self.machine.source() {
            Source::Receive | Source::Wait => return Passed::Nothing,
            Source::Held => {
                self.machine.take_held();
                return Passed::Held(std::mem::take(&mut self.held));
            }
            Source::End => Passed::End,
            Source::Failed => Passed::Failed,
        };
        self.machine.unpipe(passes);
        self.sink = None;
        passed
    }

    /// Whether what comes for the pipe is to be moved inside the kernel.
    pub(in crate::tcp::callbacks) fn comes_in_bulk(&self) -> bool {
        self.flow.is_large() && self.machine.source() == Source::Receive && self.is_plain()
    }

    /// Moves up to `most` bytes that were received into a pipe of the kernel. Returns how many;
    /// 0 says nothing about the connection, and [`pass`](Self::pass) has to be called.
    pub(in crate::tcp::callbacks) fn poll_fill(
        &mut self,
        pipe: &mut KernelPipe,
        most: usize,
    ) -> Poll<usize> {
        let Some(socket) = &self.socket else {
            return Poll::Ready(0);
        };
        let most = most.min(pipe.size());
        let mut cx = Context::from_waker(&self.waker);
        let filled = ready!(socket.poll_fill(&mut cx, pipe, most));
        self.flow.moved(filled);
        if filled > 0 {
            socket.count_transfer();
            if let Some(watch) = &mut self.watch {
                watch.moved();
            }
        }
        Poll::Ready(filled)
    }

    /// Gives the sending direction to a pipe; returns whether that is possible.
    pub(in crate::tcp::callbacks) fn feed(&mut self) -> bool {
        self.securing.is_none() && self.machine.feed()
    }

    pub(in crate::tcp::callbacks) fn sink_state(&self) -> Sink {
        match self.machine.sink() {
            Sink::Send if self.socket.is_none() => Sink::Wait,
            state => state,
        }
    }

    /// Lets the driver look at a source once this sink is free.
    pub(in crate::tcp::callbacks) fn wait_for(&mut self, source: u32) {
        self.waiting = Some(source);
    }

    /// Returns the source that waits, if this sink is free or gone.
    pub(in crate::tcp::callbacks) fn frees(&mut self) -> Option<u32> {
        match self.waiting {
            Some(_) if self.sink_state() != Sink::Wait => self.waiting.take(),
            _ => None,
        }
    }

    /// Sends data of a pipe, and keeps what the kernel does not take; returns whether the
    /// connection still works.
    pub(in crate::tcp::callbacks) fn feed_data(&mut self, data: &[u8]) -> bool {
        let Some(taken) = self.offer(data) else {
            return false;
        };
        self.queue.push(&data[taken..]);
        self.machine.fed(data.len(), taken);
        true
    }

    /// Sends what is in a pipe of the kernel, and keeps what the kernel does not take; returns
    /// whether the connection still works. `buffer` is as large as what is in the pipe.
    pub(in crate::tcp::callbacks) fn feed_pipe(
        &mut self,
        pipe: &mut KernelPipe,
        buffer: &mut [u8],
    ) -> bool {
        let Some(socket) = &self.socket else {
            return false;
        };
        let length = pipe.held();
        if let Err(error) = socket.drain(pipe) {
            self.machine.fail(error);
            return false;
        }
        let taken = length - pipe.held();
        let Ok(left) = pipe.read_back(buffer) else {
            // What cannot be read is lost, so the peer must not see FIN.
            self.fail_feed();
            return false;
        };
        if taken > 0
            && let Some(watch) = &mut self.watch
        {
            watch.moved();
        }
        // The driver is woken when the kernel has room for the rest.
        let Some(more) = self.offer(&buffer[..left]) else {
            return false;
        };
        self.queue.push(&buffer[more..left]);
        self.machine.fed(length, taken + more);
        true
    }

    /// Whether the bytes of the connection are those of its socket.
    pub(in crate::tcp::callbacks) fn is_plain(&self) -> bool {
        self.socket.as_ref().is_some_and(|socket| socket.is_plain())
    }

    /// Ends the sending direction, because the peer of the source has.
    pub(in crate::tcp::callbacks) fn end_feed(&mut self) {
        self.machine.end_feed();
    }

    /// Resets the connection, because the source has failed: the data is truncated.
    pub(in crate::tcp::callbacks) fn fail_feed(&mut self) {
        if let Some(socket) = &self.socket {
            socket.abort(Ending::Reset);
        }
        self.machine.fail(ErrorCode::ConnectionAborted);
    }
}
