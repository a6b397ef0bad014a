//! A TCP connection as one end of it sees it: two directions that end independently, and
//! one error that ends both (RFC 9293 section 3.6; the rules named here are those of
//! `wit/SEMANTICS.md`).
//!
//! There is no I/O in it. The host tells it what the system calls returned, the guest's
//! SDK what the host reported, and both ask it what that means for the connection.
//!
//! ```
//! use halfopen_model::{Closing, Directions};
//!
//! let mut directions = Directions::<&str>::default();
//! // The peer's FIN: our direction stays open.
//! assert_eq!(directions.receive_end(), Ok(()));
//! assert!(!directions.over());
//! assert_eq!(directions.closing(), Closing::Fin { drain: false });
//! // Ours.
//! directions.finish();
//! assert!(directions.over());
//! // What comes now is no error of this connection.
//! assert_eq!(directions.fail("reset"), "reset");
//! assert_eq!(directions.failure(), None);
//! ```

/// The state of a connection. It only ever moves forward: an end and an error are for
/// good.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Directions<E> {
    received_end: bool,
    finished: bool,
    failure: Option<E>,
}

/// What closing a connection takes (rule C2).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Closing {
    /// It has failed, or both directions have ended: nothing but giving up the socket.
    Nothing,
    /// The peer's FIN has not come: what it still sends has to be read and thrown away.
    Drain,
    /// Our FIN, and then to `drain` as well, if the peer's has not come.
    Fin {
        /// Whether the peer's FIN has not come.
        drain: bool,
    },
}

impl<E> Default for Directions<E> {
    /// Both directions are open.
    fn default() -> Self {
        Directions {
            received_end: false,
            finished: false,
            failure: None,
        }
    }
}

impl<E: Clone> Directions<E> {
    /// The error that counts, if there was one: the first (rule E1).
    #[must_use]
    pub fn failure(&self) -> Option<&E> {
        self.failure.as_ref()
    }

    /// An error was met. Returns the one that counts, which is an earlier one if there
    /// was one; what is met when both directions have ended is noted nowhere.
    pub fn fail(&mut self, error: E) -> E {
        if self.over() {
            return error;
        }
        self.failure.get_or_insert(error).clone()
    }

    /// The peer's FIN was read.
    ///
    /// # Errors
    /// The connection's error, if it has failed: Linux reports a reset once, to whoever
    /// asks first, and from then on reads as if there had been a FIN (rule R4).
    pub fn receive_end(&mut self) -> Result<(), E> {
        if let Some(failure) = &self.failure {
            return Err(failure.clone());
        }
        self.received_end = true;
        Ok(())
    }

    /// Our FIN is with the system, behind everything that was written (rule W1).
    pub fn finish(&mut self) {
        self.finished = true;
    }

    /// Whether our FIN is with the system.
    #[must_use]
    pub fn finished(&self) -> bool {
        self.finished
    }

    /// Whether our FIN may still be sent.
    #[must_use]
    pub fn may_finish(&self) -> bool {
        !self.finished && self.failure.is_none()
    }

    /// Resets the connection, with `error` as the reason that our own side sees.
    /// Returns whether RST has to be sent: not if there is nothing left to reset
    /// (rule C3).
    #[must_use]
    pub fn abort(&mut self, error: E) -> bool {
        if self.over() || self.failure.is_some() {
            return false;
        }
        self.failure = Some(error);
        true
    }

    /// Whether both directions have ended well (rule C5).
    #[must_use]
    pub fn over(&self) -> bool {
        self.received_end && self.finished
    }

    /// Whether one of them has ended, and not the other.
    #[must_use]
    pub fn half_open(&self) -> bool {
        self.received_end != self.finished
    }

    /// What closing takes now (rule C2).
    #[must_use]
    pub fn closing(&self) -> Closing {
        if self.over() || self.failure.is_some() {
            Closing::Nothing
        } else if self.finished {
            Closing::Drain
        } else {
            Closing::Fin {
                drain: !self.received_end,
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::VecDeque;

    use proptest::prelude::*;

    use super::*;

    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    enum Error {
        Reset,
        Aborted,
    }

    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    enum Segment {
        Byte(u32),
        Fin,
        Rst,
    }

    /// One end of a connection, and what the other end has sent to it.
    #[derive(Default)]
    struct End {
        directions: Directions<Error>,
        inbox: VecDeque<Segment>,
        sent: Vec<Segment>,
        written: u32,
        read: u32,
        ends_seen: u32,
        errors_seen: Vec<Error>,
    }

    #[derive(Clone, Copy, Debug)]
    enum Act {
        Write,
        Finish,
        Read,
        Abort,
        Close,
    }

    impl End {
        fn act(&mut self, act: Act, peer: &mut End) {
            let mut send = |end: &mut End, segment| {
                end.sent.push(segment);
                // A system throws away what comes for a connection that was reset, and
                // what it had when the reset came.
                if peer.directions.failure().is_some() {
                    return;
                }
                if segment == Segment::Rst {
                    peer.inbox.clear();
                }
                peer.inbox.push_back(segment);
            };
            match act {
                Act::Write if self.directions.may_finish() => {
                    self.written += 1;
                    send(self, Segment::Byte(self.written));
                }
                Act::Finish if self.directions.may_finish() => {
                    self.directions.finish();
                    send(self, Segment::Fin);
                }
                Act::Read => match self.inbox.pop_front() {
                    Some(Segment::Byte(byte)) => {
                        assert_eq!(byte, self.read + 1, "lost, doubled or reordered");
                        self.read = byte;
                    }
                    Some(Segment::Fin) => match self.directions.receive_end() {
                        Ok(()) => self.ends_seen += 1,
                        Err(error) => self.errors_seen.push(error),
                    },
                    Some(Segment::Rst) => {
                        let before = self.directions.failure().copied();
                        let told = self.directions.fail(Error::Reset);
                        assert!(before.is_none_or(|before| before == told));
                        self.errors_seen.push(told);
                    }
                    None => {}
                },
                Act::Abort => {
                    if self.directions.abort(Error::Aborted) {
                        self.inbox.clear();
                        send(self, Segment::Rst);
                    }
                }
                Act::Close => match self.directions.closing() {
                    Closing::Fin { .. } => {
                        self.directions.finish();
                        send(self, Segment::Fin);
                    }
                    Closing::Nothing | Closing::Drain => {}
                },
                Act::Write | Act::Finish => {}
            }
        }

        fn check(&self, peer: &End) -> Result<(), TestCaseError> {
            let fins = self.sent.iter().filter(|&&s| s == Segment::Fin).count();
            prop_assert!(fins <= 1, "FIN twice");
            if let Some(fin) = self.sent.iter().position(|&s| s == Segment::Fin) {
                let after = &self.sent[fin + 1..];
                prop_assert!(after.iter().all(|&s| s == Segment::Rst), "sent after FIN");
            }
            let rst = self.sent.iter().position(|&s| s == Segment::Rst);
            prop_assert!(
                rst.is_none_or(|at| at + 1 == self.sent.len()),
                "sent after RST"
            );
            prop_assert!(self.ends_seen <= 1, "EOF twice");
            prop_assert!(self.read <= peer.written);
            if self.ends_seen == 1 {
                prop_assert_eq!(self.read, peer.written, "EOF before the last byte");
                prop_assert!(peer.directions.finished());
            }
            if let Some(failure) = self.directions.failure() {
                prop_assert!(self.errors_seen.iter().all(|error| error == failure));
                prop_assert_eq!(self.directions.closing(), Closing::Nothing);
                prop_assert!(!self.directions.may_finish());
            }
            Ok(())
        }
    }

    fn acts() -> impl Strategy<Value = Vec<(bool, Act)>> {
        let act = prop_oneof![
            6 => Just(Act::Write),
            2 => Just(Act::Finish),
            10 => Just(Act::Read),
            1 => Just(Act::Abort),
            1 => Just(Act::Close),
        ];
        prop::collection::vec((any::<bool>(), act), 0..80)
    }

    proptest! {
        /// Whatever both ends do, in whatever order.
        #[test]
        fn the_laws_hold_between_two_ends(acts in acts()) {
            let (mut one, mut two) = (End::default(), End::default());
            for (first, act) in acts {
                if first { one.act(act, &mut two) } else { two.act(act, &mut one) }
                one.check(&two)?;
                two.check(&one)?;
            }
            // Both close, and read what there is: both are over, or both know of the
            // reset, and nothing is left.
            for _ in 0..2 {
                one.act(Act::Close, &mut two);
                two.act(Act::Close, &mut one);
                while !one.inbox.is_empty() { one.act(Act::Read, &mut two); }
                while !two.inbox.is_empty() { two.act(Act::Read, &mut one); }
                one.check(&two)?;
                two.check(&one)?;
            }
            for end in [&one, &two] {
                prop_assert_eq!(end.directions.closing(), Closing::Nothing);
            }
            let reset = |end: &End| end.sent.contains(&Segment::Rst);
            if !reset(&one) && !reset(&two) {
                prop_assert!(one.directions.over() && two.directions.over());
                prop_assert_eq!(one.read, two.written);
                prop_assert_eq!(two.read, one.written);
            }
        }
    }
}
