//! Pipes between connections in callback style (rule K15): what is received on one, the
//! source, is sent on another, the sink, which may be the same connection.

use super::{Machine, Receiving};

/// What a pipe may do with its source now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Source {
    /// Pass on the chunk that was received before the pipe began: [`Machine::take_held`].
    Held,
    /// Receive, and pass on what comes.
    Receive,
    /// Wait: the program has paused the source.
    Wait,
    /// End the sink: the peer of the source has sent FIN.
    End,
    /// Reset the sink: the source has failed, or was destroyed.
    Failed,
}

/// What a pipe may do with its sink now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sink {
    /// Send.
    Send,
    /// Wait until what was written before is sent.
    Wait,
    /// Nothing: the sink has failed or was destroyed.
    Gone,
}

/// The source of a pipe.
impl<E: Clone> Machine<E> {
    /// Whether the connection may become the source of a pipe: it is none, and the program has
    /// not seen its end.
    #[must_use]
    pub fn may_pipe(&self) -> bool {
        let receives = matches!(self.receiving, Receiving::Open | Receiving::Ended);
        receives && !self.piped && !self.stopped()
    }

    /// Gives what is received to a pipe from now on.
    pub fn pipe(&mut self) {
        self.piped = true;
    }

    /// Whether the connection is the source of a pipe.
    #[must_use]
    pub fn is_piped(&self) -> bool {
        self.piped
    }

    /// Returns what the pipe may do.
    #[must_use]
    pub fn source(&self) -> Source {
        if self.stopped() {
            Source::Failed
        } else if self.paused {
            Source::Wait
        } else if self.held {
            Source::Held
        } else if self.receiving == Receiving::Open {
            Source::Receive
        } else {
            Source::End
        }
    }

    /// Records that the pipe has the chunk that was received before it began.
    pub fn take_held(&mut self) {
        self.held = false;
    }

    /// Ends the pipe. If it has `passed` FIN on, the sending direction stays open after the end
    /// event, as if half-open were allowed.
    pub fn unpipe(&mut self, passed: bool) {
        self.piped = false;
        self.half_open |= passed;
    }
}

/// The sink of a pipe.
impl<E: Clone> Machine<E> {
    /// Gives the sending direction to a pipe, if the program may write; returns whether it may.
    /// No drain event follows.
    pub fn feed(&mut self) -> bool {
        let feeds = self.can_write();
        if feeds {
            self.fed = true;
            self.awaits_drain = false;
        }
        feeds
    }

    /// Whether a pipe has the sending direction.
    #[must_use]
    pub fn is_fed(&self) -> bool {
        self.fed
    }

    /// Returns what the pipe may do.
    #[must_use]
    pub fn sink(&self) -> Sink {
        if !self.fed || !self.can_send() {
            Sink::Gone
        } else if self.unsent > 0 {
            Sink::Wait
        } else {
            Sink::Send
        }
    }

    /// Accepts `length` bytes of the pipe, of which the kernel has taken the first `taken`.
    pub fn fed(&mut self, length: usize, taken: usize) {
        debug_assert!(self.fed, "no pipe");
        self.take(length, taken);
    }

    /// Ends the pipe at the FIN of its source: FIN follows what was sent.
    pub fn end_feed(&mut self) {
        self.fed = false;
        self.end();
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::{Destroy, Event, Step, Written};

    fn machine() -> Machine<&'static str> {
        Machine::default()
    }

    #[test]
    fn a_pipe_sends_behind_what_was_written_and_takes_the_direction() {
        let mut sink = machine();
        assert_eq!(sink.write(crate::HIGH_WATER + 1), Written::Wait);
        assert!(sink.feed());
        assert!(!sink.feed(), "it has a source");
        assert_eq!(sink.write(1), Written::Ended);
        sink.end();
        assert_eq!(sink.sink(), Sink::Wait);
        assert_eq!(sink.next_step(), Some(Step::Send));
        sink.taken(crate::HIGH_WATER + 1);
        assert_eq!(sink.next_step(), None, "the program's end has no effect");
        assert_eq!(sink.next_event(), None, "no drain");
        assert_eq!(sink.sink(), Sink::Send);
        sink.end_feed();
        assert_eq!(sink.next_step(), Some(Step::Finish));
    }

    #[test]
    fn the_fin_of_a_sink_does_not_end_what_its_pipe_sends() {
        let mut sink = machine();
        assert!(sink.feed());
        sink.receive_end().unwrap();
        assert_eq!(sink.next_event(), Some(Event::End));
        assert_eq!(sink.next_event(), None);
        assert_eq!(sink.sink(), Sink::Send);
        sink.fed(3, 1);
        assert_eq!(sink.sink(), Sink::Wait);
    }

    #[test]
    fn a_source_has_no_data_events_and_keeps_sending_after_its_end() {
        let mut source = machine();
        source.received();
        source.pipe();
        assert!(!source.may_pipe());
        assert!(!source.may_read());
        assert_eq!(source.next_event(), None);
        assert_eq!(source.source(), Source::Held);
        source.take_held();
        assert_eq!(source.source(), Source::Receive);
        source.pause(true);
        assert_eq!(source.source(), Source::Wait);
        source.pause(false);
        source.receive_end().unwrap();
        assert_eq!(source.source(), Source::End);
        assert_eq!(source.next_event(), None, "the pipe passes it on first");
        source.unpipe(true);
        assert_eq!(source.next_event(), Some(Event::End));
        assert_eq!(source.next_event(), None);
        assert_eq!(source.write(1), Written::More);
        assert!(!source.may_pipe(), "it has ended");
    }

    #[test]
    fn a_failed_source_has_its_error_and_a_sink_that_is_destroyed_resets() {
        let mut source = machine();
        source.pipe();
        source.fail("reset");
        assert_eq!(source.source(), Source::Failed);
        assert_eq!(source.next_event(), Some(Event::Error("reset")));

        let mut sink = machine();
        assert!(sink.feed());
        assert_eq!(sink.destroy(), Destroy::Reset);
        assert_eq!(sink.sink(), Sink::Gone);
        assert_eq!(sink.next_event(), Some(Event::Close { had_error: false }));
    }

    proptest! {
        /// Copies from one machine to another whatever the kernel takes at a time: nothing is
        /// lost, FIN comes last and once, and at most one chunk waits.
        #[test]
        fn everything_arrives_and_then_fin(
            chunks in prop::collection::vec(1_usize..1000, 0..40),
            takes in prop::collection::vec(0_usize..700, 1..40),
        ) {
            let (mut source, mut sink) = (machine(), machine());
            source.pipe();
            prop_assert!(sink.feed());
            let mut takes = takes.into_iter().cycle();
            let mut chunks_left = chunks.iter();
            let (mut sent, mut received) = (0, 0);
            for _ in 0..100_000 {
                match sink.sink() {
                    Sink::Gone => break,
                    Sink::Wait => {
                        prop_assert_eq!(sink.next_step(), Some(Step::Send));
                        let taken = takes.next().unwrap().clamp(1, sink.unsent());
                        sink.taken(taken);
                        sent += taken;
                    }
                    Sink::Send => match source.source() {
                        Source::Receive => match chunks_left.next() {
                            Some(&length) => {
                                received += length;
                                let taken = takes.next().unwrap().min(length);
                                sink.fed(length, taken);
                                sent += taken;
                            }
                            None => source.receive_end().unwrap(),
                        },
                        Source::End => {
                            source.unpipe(true);
                            sink.end_feed();
                        }
                        other => prop_assert!(false, "{:?}", other),
                    },
                }
            }
            prop_assert_eq!(received, chunks.iter().sum::<usize>());
            prop_assert_eq!(sent, received);
            prop_assert_eq!(sink.next_step(), Some(Step::Finish));
            prop_assert_eq!(sink.next_step(), None);
        }
    }
}
