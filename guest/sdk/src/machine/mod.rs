//! The state of a connection, without I/O.
//!
//! The tasks that do the I/O ask the machine for their next step and report its outcome.
//! The rules named here are in `wit/SEMANTICS.md`.

#[cfg(test)]
mod tests;

use std::mem;

use halfopen_model::Directions;

use crate::Error;

/// The number of unsent bytes above which nothing more is read (rule K6).
pub(crate) const HIGH_WATER: usize = 64 * 1024;

/// The state of a connection: two directions, and the error that they share.
#[derive(Debug, Default)]
pub(crate) struct Machine {
    directions: Directions<Error>,
    sending: Sending,
    /// Data that the program has written and no step has taken.
    queue: Vec<u8>,
    /// The number of bytes that a step has taken and the host has not.
    in_flight: usize,
    paused: bool,
    destroyed: bool,
    /// Destroyed with a reset: no FIN may follow.
    reset: bool,
    /// Destroyed, while the written data is offered to the host one last time.
    flushing: bool,
}

/// The conditions that tasks wait for. A task need not be woken while its conditions stay
/// the same.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Concerns {
    /// Whether there is a step to do; whether the connection has stopped.
    pub(crate) sender: (bool, bool),
    /// Whether more may be read; whether the program has paused; whether the connection has
    /// stopped; whether it has settled.
    pub(crate) receiver: (bool, bool, bool, bool),
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

/// The next step of the sending direction.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Step {
    /// Send these bytes, then call [`Machine::sent`].
    Send(Vec<u8>),
    /// Send FIN, then call [`Machine::finished`].
    Finish,
    /// Stop: the connection has failed, or was destroyed.
    Stop,
}

/// How to carry out [`Machine::destroy`] (rule K5).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Destroy {
    /// Close: the host has taken all written data, or may take the rest at once.
    Close,
    /// Reset: written data is lost.
    Reset,
    /// Do nothing: the connection has already ended.
    Nothing,
}

impl Machine {
    /// Accepts data that the program writes; false if its direction is not open (rule K4).
    pub(crate) fn write(&mut self, data: Vec<u8>) -> bool {
        if !self.can_write() {
            return false;
        }
        if self.queue.is_empty() {
            self.queue = data;
        } else {
            self.queue.extend_from_slice(&data);
        }
        true
    }

    /// Whether the program may write.
    pub(crate) fn can_write(&self) -> bool {
        self.sending == Sending::Open && !self.stopped()
    }

    /// The conditions that tasks wait for.
    pub(crate) fn concerns(&self) -> Concerns {
        let idle = self.in_flight == 0;
        let step = !self.queue.is_empty() || self.sending == Sending::Ending;
        let failed = self.error().is_some() || self.reset;
        Concerns {
            sender: (failed || (idle && step), self.stopped()),
            receiver: (self.may_read(), self.paused, self.stopped(), self.settled()),
        }
    }

    /// The number of written bytes that the host has not taken.
    pub(crate) fn unsent(&self) -> usize {
        self.queue.len() + self.in_flight
    }

    /// Ends the sending direction: FIN follows the written data (rule K3).
    pub(crate) fn end(&mut self) {
        if self.sending == Sending::Open {
            self.sending = Sending::Ending;
        }
    }

    /// Returns the next step of the sending direction; `None` while there is nothing to do.
    pub(crate) fn next_step(&mut self) -> Option<Step> {
        if self.error().is_some() || self.reset {
            return Some(Step::Stop);
        }
        if !self.queue.is_empty() {
            let bytes = mem::take(&mut self.queue);
            self.in_flight = bytes.len();
            return Some(Step::Send(bytes));
        }
        if self.sending == Sending::Ending {
            self.sending = Sending::Finishing;
            return Some(Step::Finish);
        }
        None
    }

    /// Records that the host has taken all data of the last step.
    pub(crate) fn sent(&mut self) {
        self.in_flight = 0;
        self.flushing = false;
    }

    /// Records that the host has taken FIN.
    pub(crate) fn finished(&mut self) {
        self.directions.finish();
    }

    /// Records an error; only the first counts (rule E1).
    pub(crate) fn fail(&mut self, error: Error) {
        self.directions.fail(error);
        self.queue = Vec::new();
        self.in_flight = 0;
        self.flushing = false;
    }

    /// Records the peer's FIN.
    pub(crate) fn receive_end(&mut self) -> Result<(), Error> {
        self.directions.receive_end()
    }

    /// Closes at once; the caller has to carry out the result.
    pub(crate) fn destroy(&mut self) -> Destroy {
        if self.stopped() || self.directions.over() {
            self.destroyed = true;
            return Destroy::Nothing;
        }
        self.destroyed = true;
        if self.in_flight == 0 {
            // Data in the queue has not been offered to the host yet.
            self.flushing = !self.queue.is_empty();
            self.end();
            Destroy::Close
        } else {
            self.queue = Vec::new();
            self.reset = true;
            Destroy::Reset
        }
    }

    /// Records that the host did not immediately take the data offered after
    /// [`Machine::destroy`]; returns whether the connection has to be reset.
    pub(crate) fn flush_failed(&mut self) -> bool {
        self.reset |= self.flushing;
        mem::take(&mut self.flushing)
    }

    /// Resets the connection, discarding unsent data; the caller has to carry out the
    /// result.
    pub(crate) fn reset(&mut self) -> Destroy {
        if self.stopped() || self.directions.over() {
            self.destroyed = true;
            return Destroy::Nothing;
        }
        self.destroyed = true;
        self.reset = true;
        self.queue = Vec::new();
        Destroy::Reset
    }

    /// Whether more may be read (rule K6).
    pub(crate) fn may_read(&self) -> bool {
        self.unsent() <= HIGH_WATER
    }

    /// Holds back received data, or releases it (rule K7).
    pub(crate) fn pause(&mut self, paused: bool) {
        self.paused = paused;
    }

    /// Whether received data is held back.
    pub(crate) fn is_paused(&self) -> bool {
        self.paused
    }

    /// Whether nothing more is received or sent, except a FIN that is due.
    pub(crate) fn stopped(&self) -> bool {
        self.error().is_some() || self.destroyed
    }

    /// Whether closing is all that is left to do.
    pub(crate) fn settled(&self) -> bool {
        self.sending_ended() || (self.stopped() && !self.flushing)
    }

    /// The connection's error, if it has failed.
    pub(crate) fn error(&self) -> Option<&Error> {
        self.directions.failure()
    }

    /// Whether the host has taken FIN.
    pub(crate) fn sending_ended(&self) -> bool {
        self.directions.finished()
    }
}
