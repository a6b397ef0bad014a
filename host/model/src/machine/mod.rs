//! The callback style: which calls take effect, and which event comes next.

mod pipe;
#[cfg(test)]
mod tests;

pub use pipe::{Sink, Source};

use crate::Directions;

/// The number of unsent bytes above which nothing more is read (rule K6).
pub const HIGH_WATER: usize = 64 * 1024;

/// The state of a connection in callback style.
///
/// The program calls [`write`](Machine::write), [`end`](Machine::end) and the other
/// methods that a socket has. Whoever does the I/O asks for the next [`Step`] of the sending
/// direction and the next [`Event`] of the program, and reports what the kernel said. The
/// machine counts bytes; whoever does the I/O keeps them.
///
/// ```
/// use halfopen_model::{Event, Machine, Step, Written};
///
/// let mut machine = Machine::<&str>::default();
/// // Two bytes arrive; the program echoes them while it handles the event.
/// machine.received();
/// assert_eq!(machine.next_event(), Some(Event::Data));
/// assert_eq!(machine.write(2), Written::More);
/// assert_eq!(machine.next_step(), Some(Step::Send));
/// machine.taken(2);
/// // The peer's FIN arrives: the socket ends by itself, since half-open is off.
/// machine.receive_end().unwrap();
/// assert_eq!(machine.next_event(), Some(Event::End));
/// assert_eq!(machine.next_event(), None);
/// assert_eq!(machine.next_step(), Some(Step::Finish));
/// machine.finished();
/// assert_eq!(machine.next_event(), Some(Event::Close { had_error: false }));
/// ```
#[derive(Clone, Debug)]
pub struct Machine<E> {
    directions: Directions<E>,
    sending: Sending,
    receiving: Receiving,
    /// The number of written bytes that the kernel has not taken.
    unsent: usize,
    /// The number of unsent bytes that the last step has offered.
    in_flight: usize,
    /// Whether a write has returned [`Written::Wait`] and no drain event has followed.
    awaits_drain: bool,
    /// Whether a chunk is received and not delivered.
    held: bool,
    paused: bool,
    half_open: bool,
    destroyed: bool,
    /// Destroyed with a reset: no FIN may follow.
    reset: bool,
    /// Destroyed, while the written data is offered one last time.
    flushing: bool,
    /// Whether what is received goes to a pipe, and not to the program.
    piped: bool,
    /// Whether a pipe has the sending direction, and not the program.
    fed: bool,
    reported: Reported,
}

/// The progress of the sending direction.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Sending {
    #[default]
    Open,
    /// The program has ended it; data written before is still being sent.
    Ending,
    /// FIN has been handed out as a step.
    Finishing,
}

/// The progress of the receiving direction, as the program sees it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Receiving {
    #[default]
    Open,
    /// The peer's FIN is received and not delivered.
    Ended,
    /// The end event is handed out, and its handler may still run.
    Ending,
    /// The handler of the end event has returned.
    Over,
}

/// The last of the final events that was handed out.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Reported {
    #[default]
    Nothing,
    Error,
    Close,
}

/// What became of a write (rules K4 and K6).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Written {
    /// The data is taken, and there is room for more.
    More,
    /// The data is taken, and more than [`HIGH_WATER`] bytes wait to be sent. A drain event
    /// follows once the kernel has them all.
    Wait,
    /// The data is not taken: the sending direction has ended. No drain event follows.
    Ended,
}

/// The next step of the sending direction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// Offer all unsent bytes to the kernel, or the first of them (see [`Machine::offered`]),
    /// then call [`Machine::taken`].
    Send,
    /// Send FIN, then call [`Machine::finished`].
    Finish,
    /// Stop: the connection has failed, or was destroyed.
    Stop,
}

/// The next event for the program.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event<E> {
    /// The chunk that was received.
    Data,
    /// The peer's FIN.
    End,
    /// The kernel has taken all written data, after a write returned [`Written::Wait`].
    Drain,
    /// The connection's error.
    Error(E),
    /// The connection is over. It is the last event, and after [`Machine::destroy`] and
    /// [`Machine::reset`] the only one.
    Close {
        /// Whether [`Event::Error`] came before.
        had_error: bool,
    },
}

/// How to carry out [`Machine::destroy`] (rule K5).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Destroy {
    /// Close: the kernel has taken all written data, or may take the rest at once.
    Close,
    /// Reset: written data is lost.
    Reset,
    /// Do nothing: the connection has already ended.
    Nothing,
}

impl<E> Default for Machine<E> {
    /// The state of a new connection: both directions are open, and half-open is off.
    fn default() -> Self {
        Machine {
            directions: Directions::default(),
            sending: Sending::Open,
            receiving: Receiving::Open,
            unsent: 0,
            in_flight: 0,
            awaits_drain: false,
            held: false,
            paused: false,
            half_open: false,
            destroyed: false,
            reset: false,
            flushing: false,
            piped: false,
            fed: false,
            reported: Reported::Nothing,
        }
    }
}

/// What the program calls.
impl<E: Clone> Machine<E> {
    /// Accepts `length` bytes that the program writes, unless the direction has ended.
    pub fn write(&mut self, length: usize) -> Written {
        self.write_through(length, 0)
    }

    /// Accepts `length` bytes that the program writes, of which the kernel has taken the first
    /// `taken` already. That is possible while nothing else is unsent.
    pub fn write_through(&mut self, length: usize, taken: usize) -> Written {
        if !self.can_write() {
            return Written::Ended;
        }
        self.take(length, taken);
        if self.unsent <= HIGH_WATER {
            return Written::More;
        }
        self.awaits_drain = true;
        Written::Wait
    }

    /// Counts `length` bytes to send, of which the kernel has taken the first `taken`.
    fn take(&mut self, length: usize, taken: usize) {
        debug_assert!(taken == 0 || self.unsent == 0, "{} unsent", self.unsent);
        self.unsent += length - taken;
    }

    /// Whether the program may write.
    #[must_use]
    pub fn can_write(&self) -> bool {
        self.can_send() && !self.fed
    }

    /// Whether more may be sent, by the program or by a pipe.
    fn can_send(&self) -> bool {
        self.sending == Sending::Open && !self.stopped()
    }

    /// The number of written bytes that the kernel has not taken.
    #[must_use]
    pub fn unsent(&self) -> usize {
        self.unsent
    }

    /// Ends the sending direction: FIN follows the written data (rule K3). Has no effect while a
    /// pipe has the direction.
    pub fn end(&mut self) {
        if self.sending == Sending::Open && !self.fed {
            self.sending = Sending::Ending;
            self.awaits_drain = false;
        }
    }

    /// Closes at once; the caller has to carry out the result.
    pub fn destroy(&mut self) -> Destroy {
        let ended = self.stopped() || self.directions.over();
        self.destroyed = true;
        if ended {
            return Destroy::Nothing;
        }
        if self.in_flight > 0 || self.fed {
            // What the pipe has still to send is lost.
            return self.lose();
        }
        // The unsent data has not been offered to the kernel yet.
        self.flushing = self.unsent > 0;
        self.end();
        Destroy::Close
    }

    /// Resets the connection, discarding unsent data; the caller has to carry out the
    /// result.
    pub fn reset(&mut self) -> Destroy {
        let ended = self.stopped() || self.directions.over();
        self.destroyed = true;
        if ended && !self.flushing {
            return Destroy::Nothing;
        }
        self.lose()
    }

    fn lose(&mut self) -> Destroy {
        self.discard();
        self.reset = true;
        Destroy::Reset
    }

    /// Holds back received data, or releases it (rule K7).
    pub fn pause(&mut self, paused: bool) {
        self.paused = paused;
    }

    /// Whether received data is held back.
    #[must_use]
    pub fn is_paused(&self) -> bool {
        self.paused
    }

    /// Sets whether the sending direction stays open after the peer's FIN (rule K2). It has
    /// no effect once the end event's handler has returned.
    pub fn allow_half_open(&mut self, allow: bool) {
        self.half_open = allow;
    }
}

/// The sending direction, for whoever does the I/O.
impl<E: Clone> Machine<E> {
    /// Returns the next step of the sending direction; `None` while there is nothing to do.
    pub fn next_step(&mut self) -> Option<Step> {
        if self.error().is_some() || self.reset {
            return Some(Step::Stop);
        }
        if self.unsent > 0 {
            self.in_flight = self.unsent;
            return Some(Step::Send);
        }
        if self.sending == Sending::Ending {
            self.sending = Sending::Finishing;
            return Some(Step::Finish);
        }
        None
    }

    /// Records that only the first `length` unsent bytes are offered to the kernel in the step
    /// [`Step::Send`] that was returned last. The rest is a step of its own.
    pub fn offered(&mut self, length: usize) {
        self.in_flight = self.in_flight.min(length);
    }

    /// Whether [`Machine::next_step`] would return a step that is not under way.
    #[must_use]
    pub fn step_due(&self) -> bool {
        let idle = self.in_flight == 0;
        let step = self.unsent > 0 || self.sending == Sending::Ending;
        self.error().is_some() || self.reset || (idle && step)
    }

    /// Records that the kernel has taken `length` of the bytes that the last step offered.
    pub fn taken(&mut self, length: usize) {
        self.in_flight = self.in_flight.saturating_sub(length);
        self.unsent = self.unsent.saturating_sub(length);
        if self.unsent == 0 {
            self.flushing = false;
        }
    }

    /// Records that the kernel has not taken all of the data that was offered after
    /// [`Machine::destroy`]; returns whether the connection has to be reset.
    pub fn flush_failed(&mut self) -> bool {
        let lost = std::mem::take(&mut self.flushing);
        if lost {
            self.lose();
        }
        lost
    }

    /// Records that our FIN is queued behind the data.
    pub fn finished(&mut self) {
        self.directions.finish();
    }

    /// Whether our FIN is queued.
    #[must_use]
    pub fn sending_ended(&self) -> bool {
        self.directions.finished()
    }
}

/// The receiving direction and the events, for whoever does the I/O.
impl<E: Clone> Machine<E> {
    /// Whether the next chunk may be read (rule K6): nothing waits to be delivered, the peer
    /// has not sent FIN, and the unsent bytes are within [`HIGH_WATER`].
    ///
    /// It holds while the program has paused, so that one chunk, or a FIN or reset without
    /// data before it, is received then (rule K7).
    #[must_use]
    pub fn may_read(&self) -> bool {
        let open = self.receiving == Receiving::Open && !self.stopped();
        open && !self.piped && !self.held && self.unsent <= HIGH_WATER
    }

    /// Records that a chunk is received. It is delivered by the next [`Event::Data`].
    pub fn received(&mut self) {
        self.held = true;
    }

    /// Records that a read returned EOF, the peer's FIN.
    ///
    /// # Errors
    /// The connection's error, if it has failed before.
    pub fn receive_end(&mut self) -> Result<(), E> {
        self.directions.receive_end()?;
        if self.receiving == Receiving::Open {
            self.receiving = Receiving::Ended;
        }
        Ok(())
    }

    /// Records an error; only the first one counts (rule E1).
    pub fn fail(&mut self, error: E) {
        self.directions.fail(error);
        if self.error().is_some() {
            self.discard();
        }
    }

    /// Records that the handler of the last event has returned: after the peer's FIN, the
    /// sending direction ends (rule K2). [`Machine::next_event`] does so as well.
    pub fn handled(&mut self) {
        if self.receiving == Receiving::Ending {
            self.receiving = Receiving::Over;
            if !self.half_open {
                self.end();
            }
        }
    }

    /// Returns the next event for the program, whose handler for the last one has returned.
    ///
    /// The order is `data`\* `end`? `error`? `close`, with `drain` before `end`'s effect at
    /// any place (rule K1).
    pub fn next_event(&mut self) -> Option<Event<E>> {
        self.handled();
        let event = self.due()?;
        match &event {
            Event::Data => self.held = false,
            Event::End => self.receiving = Receiving::Ending,
            Event::Drain => self.awaits_drain = false,
            Event::Error(_) => self.reported = Reported::Error,
            Event::Close { .. } => self.reported = Reported::Close,
        }
        Some(event)
    }

    /// Whether [`Machine::next_event`] has something to do.
    #[must_use]
    pub fn event_due(&self) -> bool {
        self.receiving == Receiving::Ending || self.due().is_some()
    }

    fn due(&self) -> Option<Event<E>> {
        if self.piped && !self.stopped() {
            // The pipe passes on what is received, and the end.
            return (self.awaits_drain && self.unsent == 0).then_some(Event::Drain);
        }
        if !self.stopped() {
            if self.awaits_drain && self.unsent == 0 {
                return Some(Event::Drain);
            }
            if self.held {
                let deliverable = !self.paused && self.unsent <= HIGH_WATER;
                return deliverable.then_some(Event::Data);
            }
            if self.receiving == Receiving::Ended {
                return Some(Event::End);
            }
        }
        let received = self.receiving == Receiving::Over || self.stopped();
        if !received || !self.settled() {
            return None;
        }
        match (self.reported, self.error()) {
            (Reported::Nothing, Some(error)) if !self.destroyed => {
                Some(Event::Error(error.clone()))
            }
            (Reported::Close, _) => None,
            (reported, _) => Some(Event::Close {
                had_error: reported == Reported::Error,
            }),
        }
    }
}

/// The whole connection.
impl<E: Clone> Machine<E> {
    /// Whether nothing more is received or sent, except a FIN that is due.
    #[must_use]
    pub fn stopped(&self) -> bool {
        self.error().is_some() || self.destroyed
    }

    /// Whether closing is all that is left to do for the sending direction.
    #[must_use]
    pub fn settled(&self) -> bool {
        self.sending_ended() || (self.stopped() && !self.flushing)
    }

    /// The connection's error, if it has failed.
    #[must_use]
    pub fn error(&self) -> Option<&E> {
        self.directions.failure()
    }

    /// Whether the close event has been handed out.
    #[must_use]
    pub fn closed(&self) -> bool {
        self.reported == Reported::Close
    }

    /// Discards the unsent data and the chunk that waits.
    fn discard(&mut self) {
        self.unsent = 0;
        self.in_flight = 0;
        self.flushing = false;
        self.awaits_drain = false;
        self.held = false;
    }
}
