//! The two directions of a connection.

/// The state of a connection. Transitions are final: a direction that has ended stays
/// ended, and the first error stays the error.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Directions<E> {
    received_end: bool,
    /// Nothing more can be written; our FIN may still wait for what was written before.
    finishing: bool,
    finished: bool,
    aborted: bool,
    failure: Option<E>,
}

/// What is left to do to close a connection (rule C2).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Closing {
    /// The connection has failed, or both directions have ended: close the socket.
    Nothing,
    /// Our FIN is sent and the peer's is missing: read and discard what the peer sends.
    Drain,
    /// Our FIN is missing: send it, then drain if `drain` is set.
    Fin {
        /// Whether the peer's FIN is missing as well.
        drain: bool,
    },
}

impl<E> Default for Directions<E> {
    /// The state of a new connection, with both directions open.
    fn default() -> Self {
        Directions {
            received_end: false,
            finishing: false,
            finished: false,
            aborted: false,
            failure: None,
        }
    }
}

impl<E: Clone> Directions<E> {
    /// The error of the connection: the first one that was recorded (rule E1).
    #[must_use]
    pub fn failure(&self) -> Option<&E> {
        self.failure.as_ref()
    }

    /// Records an error, and returns the error of the connection: the first one recorded.
    ///
    /// After both directions have ended, an error is returned, but not recorded.
    pub fn fail(&mut self, error: E) -> E {
        if self.over() {
            return error;
        }
        self.failure.get_or_insert(error).clone()
    }

    /// Records that a read returned EOF, the peer's FIN.
    ///
    /// # Errors
    /// The error of the connection, if it has failed: Linux reports a reset once, to the
    /// first caller, and later reads return EOF as if the peer had sent FIN (rule R4).
    pub fn receive_end(&mut self) -> Result<(), E> {
        if let Some(failure) = &self.failure {
            return Err(failure.clone());
        }
        self.received_end = true;
        Ok(())
    }

    /// Whether the peer's FIN has been read.
    #[must_use]
    pub fn received_end(&self) -> bool {
        self.received_end
    }

    /// Records that nothing more is written. The direction ends with [`finish`](Self::finish),
    /// once everything that was written, and FIN behind it, is out of our hands.
    pub fn begin_finish(&mut self) {
        self.finishing = true;
    }

    /// Records that our FIN is queued behind everything that was written (rule W1).
    pub fn finish(&mut self) {
        self.finishing = true;
        self.finished = true;
    }

    /// Whether our FIN is queued.
    #[must_use]
    pub fn finished(&self) -> bool {
        self.finished
    }

    /// Whether data may still be written, and our FIN be sent behind it.
    #[must_use]
    pub fn may_finish(&self) -> bool {
        !self.finishing && self.failure.is_none()
    }

    /// Records that our side resets the connection, which fails with `error`.
    ///
    /// Returns whether RST has to be sent: not if the connection has failed or ended before
    /// (rule C3).
    #[must_use]
    pub fn abort(&mut self, error: E) -> bool {
        if self.over() || self.failure.is_some() {
            return false;
        }
        self.failure = Some(error);
        self.aborted = true;
        true
    }

    /// Whether [`abort`](Self::abort) has reset the connection.
    #[must_use]
    pub fn aborted(&self) -> bool {
        self.aborted
    }

    /// Whether both directions have ended by FIN (rule C5).
    #[must_use]
    pub fn over(&self) -> bool {
        self.received_end && self.finished
    }

    /// Whether exactly one direction has ended by FIN.
    #[must_use]
    pub fn half_open(&self) -> bool {
        self.received_end != self.finished
    }

    /// Returns what is left to do to close the connection (rule C2).
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

    /// One end of a connection, with the segments that wait to be read.
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
        /// Ends the data while some of it still waits to be sent.
        BeginFinish,
        /// Sends FIN, after the data has been ended if it was not before.
        Finish,
        Read,
        Abort,
        Close,
    }

    impl End {
        fn act(&mut self, act: Act, peer: &mut End) {
            let mut send = |end: &mut End, segment| {
                end.sent.push(segment);
                // The kernel discards segments that arrive for a reset connection, and a
                // reset discards the segments that are queued.
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
                Act::BeginFinish if self.directions.may_finish() => {
                    self.directions.begin_finish();
                }
                Act::Finish
                    if !self.directions.finished() && self.directions.failure().is_none() =>
                {
                    self.directions.finish();
                    send(self, Segment::Fin);
                }
                Act::Read => match self.inbox.pop_front() {
                    Some(Segment::Byte(byte)) => {
                        assert_eq!(byte, self.read + 1, "lost, duplicated or reordered");
                        self.read = byte;
                    }
                    Some(Segment::Fin) => match self.directions.receive_end() {
                        Ok(()) => self.ends_seen += 1,
                        Err(error) => self.errors_seen.push(error),
                    },
                    Some(Segment::Rst) => {
                        let before = self.directions.failure().copied();
                        let error = self.directions.fail(Error::Reset);
                        assert!(before.is_none_or(|before| before == error));
                        self.errors_seen.push(error);
                    }
                    None => {}
                },
                Act::Abort => {
                    // An end that is not out yet does not keep the connection from a reset.
                    let open = !self.directions.over() && self.directions.failure().is_none();
                    let resets = self.directions.abort(Error::Aborted);
                    assert_eq!(resets, open);
                    if resets {
                        assert!(self.directions.aborted());
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
                Act::Write | Act::BeginFinish | Act::Finish => {}
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
            prop_assert_eq!(self.directions.finished(), fins == 1);
            prop_assert_eq!(self.directions.aborted(), rst.is_some());
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
            1 => Just(Act::BeginFinish),
            2 => Just(Act::Finish),
            10 => Just(Act::Read),
            1 => Just(Act::Abort),
            1 => Just(Act::Close),
        ];
        prop::collection::vec((any::<bool>(), act), 0..80)
    }

    proptest! {
        /// The two ends act in any order, and end all the same.
        #[test]
        fn the_laws_hold_between_two_ends(acts in acts()) {
            let (mut one, mut two) = (End::default(), End::default());
            for (first, act) in acts {
                if first { one.act(act, &mut two) } else { two.act(act, &mut one) }
                one.check(&two)?;
                two.check(&one)?;
            }
            // Both ends close and read what is queued. Then both are over, or both have
            // failed by the reset, and nothing is left to do.
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
