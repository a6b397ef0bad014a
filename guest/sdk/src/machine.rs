//! A connection's state, apart from its I/O.
//!
//! Whoever does the I/O asks the machine what to do, and tells it what happened; the
//! rules named here are those of `wit/SEMANTICS.md`.

use std::mem;

use halfopen_model::Directions;

use crate::Error;

/// How many bytes may wait to be sent before nothing more is read (rule K6).
pub(crate) const HIGH_WATER: usize = 64 * 1024;

/// A connection: two directions, and the error that both share.
#[derive(Debug, Default)]
pub(crate) struct Machine {
    directions: Directions<Error>,
    sending: Sending,
    /// Written by the program, and not yet taken to be sent.
    queue: Vec<u8>,
    /// Taken to be sent, and not yet with the host.
    in_flight: usize,
    paused: bool,
    destroyed: bool,
    /// Destroyed so that the peer has to know.
    reset: bool,
    /// Destroyed, and what was written is offered to the host once more.
    flushing: bool,
}

/// What those who wait for a change of a [`Machine`] wait for; as long as it is the same,
/// they need not look.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Concerns {
    /// Whether there is something to do, and whether that is all.
    pub(crate) sender: (bool, bool),
    /// Whether more may be read, is to be told, will come, has yet to go.
    pub(crate) receiver: (bool, bool, bool, bool),
}

/// How far the program has got with its direction.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Sending {
    #[default]
    Open,
    /// The program has ended it; what it wrote before is still being sent.
    Ending,
    /// FIN is on its way to the host, or there.
    Finishing,
}

/// What is to be done on the sending direction.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Step {
    /// Send these bytes, and report with [`Machine::sent`].
    Send(Vec<u8>),
    /// Send FIN, and report with [`Machine::finished`].
    Finish,
    /// Nothing any more: the connection has failed, or was destroyed.
    Stop,
}

/// How [`Machine::destroy`] is to be carried out (rule K5).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Destroy {
    /// Everything written is with the host, or perhaps will be at once: close.
    Close,
    /// Something that was written is lost: the peer has to know.
    Reset,
    /// The connection has already ended.
    Nothing,
}

impl Machine {
    /// Takes what the program writes; false if its direction is not open (rule K4).
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

    /// What those who wait for a change wait for.
    pub(crate) fn concerns(&self) -> Concerns {
        let idle = self.in_flight == 0;
        let step = !self.queue.is_empty() || self.sending == Sending::Ending;
        let failed = self.error().is_some() || self.reset;
        Concerns {
            sender: (failed || (idle && step), self.stopped()),
            receiver: (self.may_read(), self.paused, self.stopped(), self.settled()),
        }
    }

    /// How many bytes wait to be sent.
    pub(crate) fn unsent(&self) -> usize {
        self.queue.len() + self.in_flight
    }

    /// No more will be written: FIN follows what was (rule K3).
    pub(crate) fn end(&mut self) {
        if self.sending == Sending::Open {
            self.sending = Sending::Ending;
        }
    }

    /// What to send next; nothing if that is to be waited for.
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

    /// All that was taken is with the host.
    pub(crate) fn sent(&mut self) {
        self.in_flight = 0;
        self.flushing = false;
    }

    /// FIN is with the host.
    pub(crate) fn finished(&mut self) {
        self.directions.finish();
    }

    /// The first error is the connection's (rule E1).
    pub(crate) fn fail(&mut self, error: Error) {
        self.directions.fail(error);
        self.queue = Vec::new();
        self.in_flight = 0;
        self.flushing = false;
    }

    /// The peer's FIN was read.
    pub(crate) fn receive_end(&mut self) -> Result<(), Error> {
        self.directions.receive_end()
    }

    /// Closes at once; whoever does the I/O has to do what this says.
    pub(crate) fn destroy(&mut self) -> Destroy {
        if self.stopped() || self.directions.over() {
            self.destroyed = true;
            return Destroy::Nothing;
        }
        self.destroyed = true;
        if self.in_flight == 0 {
            // What was written just now has not been offered to the host yet.
            self.flushing = !self.queue.is_empty();
            self.end();
            Destroy::Close
        } else {
            self.queue = Vec::new();
            self.reset = true;
            Destroy::Reset
        }
    }

    /// What was offered after [`Machine::destroy`] was not taken at once; true if the
    /// peer has to know.
    pub(crate) fn flush_failed(&mut self) -> bool {
        self.reset |= self.flushing;
        mem::take(&mut self.flushing)
    }

    /// Resets, whatever was sent.
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

    /// Stops what comes in, or lets it come again (rule K7).
    pub(crate) fn pause(&mut self, paused: bool) {
        self.paused = paused;
    }

    pub(crate) fn is_paused(&self) -> bool {
        self.paused
    }

    /// Whether nothing more will come, nor go, but a FIN that is due.
    pub(crate) fn stopped(&self) -> bool {
        self.error().is_some() || self.destroyed
    }

    /// Whether nothing is left to be done but to close.
    pub(crate) fn settled(&self) -> bool {
        self.sending_ended() || (self.stopped() && !self.flushing)
    }

    /// The connection's error, if it has failed.
    pub(crate) fn error(&self) -> Option<&Error> {
        self.directions.failure()
    }

    /// Whether FIN was handed to the host.
    pub(crate) fn sending_ended(&self) -> bool {
        self.directions.finished()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::ErrorCode;

    fn reset() -> Error {
        Error::from(ErrorCode::ConnectionReset)
    }

    #[test]
    fn fin_comes_once_and_after_the_last_byte() {
        let mut machine = Machine::default();
        assert!(machine.write(b"ab".to_vec()));
        assert!(machine.write(b"c".to_vec()));
        machine.end();
        machine.end();
        assert_eq!(machine.next_step(), Some(Step::Send(b"abc".to_vec())));
        machine.sent();
        assert_eq!(machine.next_step(), Some(Step::Finish));
        machine.finished();
        machine.end();
        assert_eq!(machine.next_step(), None);
        assert!(machine.sending_ended());
    }

    #[test]
    fn a_write_after_the_end_does_nothing() {
        let mut machine = Machine::default();
        machine.end();
        assert!(!machine.write(b"late".to_vec()));
        assert_eq!(machine.unsent(), 0);
        assert_eq!(machine.next_step(), Some(Step::Finish));
    }

    #[test]
    fn reading_stops_while_more_than_the_bound_waits() {
        let mut machine = Machine::default();
        machine.write(vec![0; HIGH_WATER]);
        assert!(machine.may_read());
        machine.write(vec![0; 1]);
        assert!(!machine.may_read());
        assert!(matches!(machine.next_step(), Some(Step::Send(_))));
        // Still with us: the host has not taken it.
        assert!(!machine.may_read());
        machine.sent();
        assert!(machine.may_read());
    }

    #[test]
    fn the_first_error_stays_and_stops_the_sending() {
        let mut machine = Machine::default();
        machine.write(b"x".to_vec());
        machine.fail(reset());
        machine.fail(Error::from(ErrorCode::ConnectionBroken));
        assert_eq!(machine.error(), Some(&reset()));
        assert_eq!(machine.next_step(), Some(Step::Stop));
        assert!(!machine.write(b"y".to_vec()));
    }

    #[test]
    fn an_error_after_both_ends_is_none() {
        let mut machine = Machine::default();
        machine.end();
        machine.next_step();
        machine.finished();
        machine.receive_end().unwrap();
        machine.fail(reset());
        assert_eq!(machine.error(), None);
    }

    #[test]
    fn destroy_closes_if_nothing_is_lost_and_resets_otherwise() {
        let mut machine = Machine::default();
        assert_eq!(machine.destroy(), Destroy::Close);
        assert_eq!(machine.next_step(), Some(Step::Finish));

        let mut machine = Machine::default();
        machine.write(b"x".to_vec());
        assert_eq!(machine.destroy(), Destroy::Close);
        assert!(!machine.settled());
        assert_eq!(machine.next_step(), Some(Step::Send(b"x".to_vec())));
        machine.sent();
        assert!(machine.settled());
        assert_eq!(machine.next_step(), Some(Step::Finish));

        let mut machine = Machine::default();
        machine.write(b"x".to_vec());
        assert_eq!(machine.destroy(), Destroy::Close);
        machine.next_step();
        assert!(machine.flush_failed());
        assert!(machine.settled());
        assert_eq!(machine.next_step(), Some(Step::Stop));
        assert_eq!(machine.destroy(), Destroy::Nothing);

        let mut machine = Machine::default();
        machine.write(b"x".to_vec());
        machine.end();
        machine.next_step();
        assert_eq!(machine.destroy(), Destroy::Reset, "still in flight");

        let mut machine = Machine::default();
        machine.fail(reset());
        assert_eq!(machine.destroy(), Destroy::Nothing);
    }

    /// What can happen to a connection, from the program's side and from the host's.
    #[derive(Clone, Debug)]
    enum Act {
        Write(u16),
        End,
        Destroy,
        Reset,
        /// The sending task looks what there is to do, and does it.
        Step,
        /// The host takes what was offered.
        Taken,
        ReceiveEnd,
        Fail,
    }

    fn acts() -> impl Strategy<Value = Vec<Act>> {
        let act = prop_oneof![
            6 => (0..2000_u16).prop_map(Act::Write),
            2 => Just(Act::End),
            1 => Just(Act::Destroy),
            1 => Just(Act::Reset),
            8 => Just(Act::Step),
            8 => Just(Act::Taken),
            1 => Just(Act::ReceiveEnd),
            1 => Just(Act::Fail),
        ];
        prop::collection::vec(act, 0..60)
    }

    proptest! {
        /// No byte is lost, doubled or reordered; FIN comes once and last; nothing goes
        /// out after an error or a reset; what is refused changes nothing.
        #[test]
        fn the_laws_hold_whatever_happens(acts in acts()) {
            let mut machine = Machine::default();
            let mut accepted = Vec::new();
            let mut sent = Vec::new();
            let mut offered: Option<usize> = None;
            let (mut finished, mut ended, mut stopped) = (false, false, false);
            let mut next = 0_u8;
            for act in acts {
                match act {
                    Act::Write(length) => {
                        let bytes: Vec<u8> = (0..length)
                            .map(|_| { next = next.wrapping_add(1); next })
                            .collect();
                        let before = machine.unsent();
                        if machine.write(bytes.clone()) {
                            prop_assert!(!ended && !stopped);
                            accepted.extend(bytes);
                        } else {
                            prop_assert!(ended || stopped);
                            prop_assert_eq!(machine.unsent(), before);
                        }
                    }
                    Act::End => { machine.end(); ended = true; }
                    Act::Destroy => {
                        let unsent = machine.unsent();
                        let how = machine.destroy();
                        // What is lost is told.
                        if how == Destroy::Close { prop_assert!(offered.is_none()); }
                        if unsent == 0 { prop_assert!(how != Destroy::Reset); }
                        stopped = true;
                    }
                    Act::Reset => { machine.reset(); stopped = true; }
                    Act::Step if offered.is_none() && !finished => match machine.next_step() {
                        Some(Step::Send(bytes)) => {
                            prop_assert!(!bytes.is_empty());
                            offered = Some(bytes.len());
                            sent.extend(bytes);
                        }
                        Some(Step::Finish) => {
                            prop_assert_eq!(&sent, &accepted, "FIN before the last byte");
                            prop_assert!(ended || stopped);
                            finished = true;
                            machine.finished();
                        }
                        Some(Step::Stop) => {
                            prop_assert!(stopped);
                            break;
                        }
                        None => prop_assert!(!ended && sent == accepted),
                    },
                    Act::Taken => if offered.take().is_some() { machine.sent(); },
                    Act::Step => {}
                    Act::ReceiveEnd => {
                        let failed = machine.error().is_some();
                        prop_assert_eq!(machine.receive_end().is_err(), failed);
                    }
                    Act::Fail => {
                        machine.fail(reset());
                        if machine.error().is_some() { stopped = true; }
                    }
                }
                prop_assert!(accepted.starts_with(&sent), "lost, doubled or reordered");
                prop_assert_eq!(machine.sending_ended(), finished);
            }
        }
    }
}
