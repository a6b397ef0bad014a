//! Pipes between the sockets of an instance (rule K15).

use halfopen_model::Sink;

use super::entry::{Entry, Passed};
use super::{Sockets, given};
use crate::tcp::ErrorCode;

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
            let Some(source) = self.entries.get_mut(number) else {
                return;
            };
            self.piped += 1;
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

    fn feed(&mut self, sink: u32, data: &[u8]) {
        let Some(entry) = self.entries.get_mut(sink) else {
            return;
        };
        let before = entry.kept();
        let sent = entry.feed_data(data);
        self.kept = self.kept + entry.kept() - before;
        self.watch(sink);
        if !sent {
            self.touch(sink);
        }
    }
}
