//! Pipes between sockets (rule K15).

use halfopen_model::{Sink, Source};

use crate::bindings::exports::halfopen::tcp::control::Order;
use crate::bindings::halfopen::tcp::types::ErrorCode;
use crate::entry::Entry;
use crate::sockets::Sockets;

impl Sockets {
    /// Begins a pipe.
    ///
    /// # Errors
    /// `invalid-state` if the source does not receive, or the sink does not send, or another
    /// pipe has them.
    pub(crate) fn pipe(&mut self, source: u32, sink: u32) -> Result<(), ErrorCode> {
        let may_pipe = self.get(source).is_some_and(Entry::may_pipe);
        let feeds = may_pipe && self.act(sink, Entry::feed) == Some(true);
        if !feeds {
            return Err(ErrorCode::InvalidState);
        }
        self.act(source, |source| source.pipe_to(sink));
        Ok(())
    }

    /// Returns the next order for a pipe, by its source. Once the sink has gone, the source's
    /// data is discarded.
    pub(crate) fn pump(&mut self, number: u32) -> Option<(u32, Order)> {
        loop {
            let entry = self.get(number)?;
            let (sink, source) = (entry.sink()?, entry.source());
            let state = self.get(sink).map_or(Sink::Gone, Entry::sink_state);
            let passes = state != Sink::Gone;
            if state == Sink::Wait && source != Source::Failed {
                self.change(sink, |sink| sink.wait_for(number));
                return None;
            }
            match source {
                Source::Wait => return None,
                Source::Receive => {
                    let receives = self.change(number, Entry::receive)?;
                    return receives.then_some((number, Order::Receive));
                }
                Source::Held => {
                    let length = self.change(number, Entry::take_held)?;
                    if passes {
                        self.act(sink, |sink| sink.feed_data(length));
                        return Some((sink, Order::Pass(number)));
                    }
                }
                Source::End | Source::Failed => {
                    self.change(number, |entry| entry.unpipe(passes));
                    if passes && source == Source::End {
                        self.act(sink, Entry::end_feed);
                    } else if passes {
                        self.act(sink, |sink| sink.abort(ErrorCode::ConnectionAborted));
                    }
                    return None;
                }
            }
        }
    }
}
