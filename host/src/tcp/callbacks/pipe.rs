//! Pipes between the sockets of an instance (rule K15).

use std::task::{Poll, ready};

use halfopen_model::Sink;

use super::entry::{Entry, Passed};
use super::{Sockets, given};
use crate::tcp::ErrorCode;
use crate::tcp::sizes::LARGE;
use crate::tcp::transport::KernelPipe;

/// How many chunks a pipe moves while others wait.
const TURN: usize = 8;

/// What a pipe may read when its instance has no memory left for what is not sent.
const LEAST: usize = 4096;

impl Sockets {
    /// Begins a pipe.
    ///
    /// # Errors
    /// `invalid-state` if the source does not receive, or the sink does not send, or another
    /// pipe has them.
    pub(super) fn pipe(&mut self, source: u32, sink: u32) -> Result<(), ErrorCode> {
        let may_pipe = self.look(source, |entry| entry.may_pipe()) == Some(true);
        let feeds = may_pipe && given(&mut self.entries, sink).is_some_and(Entry::feed);
        let entry = self.entries.get_mut(source).filter(|_| feeds);
        entry.ok_or(ErrorCode::InvalidState)?.pipe_to(sink);
        self.touch(source);
        Ok(())
    }

    /// Moves what there is from a source to its sink, up to [`TURN`] chunks. Once the sink
    /// has gone, the source's data is discarded.
    pub(super) fn pump(&mut self, number: u32, buffer: &mut [u8]) {
        let room = self.max_kept.saturating_sub(self.kept).max(LEAST);
        let length = buffer.len().min(room);
        for _ in 0..TURN {
            let Some(source) = self.entries.get_mut(number) else {
                return;
            };
            let (Some(sink), failed) = (source.sink(), source.has_failed()) else {
                return;
            };
            let state = match self.entries.get_mut(sink) {
                Some(sink) => {
                    let state = sink.sink_state();
                    if state == Sink::Wait && !failed {
                        sink.wait_for(number);
                        return;
                    }
                    state
                }
                None => Sink::Gone,
            };
            self.piped += 1;
            if state == Sink::Send {
                match self.splice(number, sink, &mut buffer[..length]) {
                    Poll::Pending => return,
                    Poll::Ready(true) => continue,
                    Poll::Ready(false) => {}
                }
            }
            let Some(source) = self.entries.get_mut(number) else {
                return;
            };
            let passed = source.pass(&mut buffer[..length], state != Sink::Gone);
            if state == Sink::Gone {
                match passed {
                    Passed::Nothing | Passed::End | Passed::Failed => return,
                    Passed::Data(_) | Passed::Held(_) => continue,
                }
            }
            match passed {
                Passed::Nothing => return,
                Passed::Data(length) => self.feed(sink, &buffer[..length]),
                Passed::Held(data) => self.feed(sink, &data),
                Passed::End => {
                    _ = self.act(sink, |sink| sink.end_feed());
                    return self.touch(sink);
                }
                Passed::Failed => {
                    _ = self.act(sink, |sink| sink.fail_feed());
                    return self.touch(sink);
                }
            }
        }
        self.touch(number);
    }

    /// Moves some data from a source to its sink inside the kernel, if that is possible and
    /// cheaper than copying it; returns whether it is. `buffer` is for what the kernel does
    /// not take.
    fn splice(&mut self, source: u32, sink: u32, buffer: &mut [u8]) -> Poll<bool> {
        if buffer.len() < LARGE || !self.entries.get(sink).is_some_and(|sink| sink.is_plain()) {
            return Poll::Ready(false);
        }
        let source = self.entries.get_mut(source);
        let Some(source) = source.filter(|source| source.comes_in_bulk()) else {
            return Poll::Ready(false);
        };
        let Some(mut pipe) = KernelPipe::take() else {
            return Poll::Ready(false);
        };
        let filled = ready!(source.poll_fill(&mut pipe, buffer.len()));
        if filled > 0 {
            self.feed_by(sink, |sink| sink.feed_pipe(&mut pipe, buffer));
        }
        Poll::Ready(filled > 0)
    }

    fn feed(&mut self, sink: u32, data: &[u8]) {
        self.feed_by(sink, |sink| sink.feed_data(data));
    }

    /// Calls `feed` on a sink; it returns whether the connection still works.
    fn feed_by(&mut self, sink: u32, feed: impl FnOnce(&mut Entry) -> bool) {
        let Some(entry) = self.entries.get_mut(sink) else {
            return;
        };
        let before = entry.kept();
        let sent = feed(entry);
        self.kept = self.kept + entry.kept() - before;
        self.watch(sink);
        if !sent {
            self.touch(sink);
        }
    }
}
