//! Tests of the state machine.

use proptest::prelude::*;

use super::*;

const RESET: &str = "reset";
const BROKEN: &str = "broken";

fn machine() -> Machine<&'static str> {
    Machine::default()
}

fn events(machine: &mut Machine<&'static str>) -> Vec<Event<&'static str>> {
    std::iter::from_fn(|| machine.next_event()).collect()
}

#[test]
fn nobody_writes_between_the_handler_of_end_and_fin() {
    let mut machine = Machine::<&str>::default();
    machine.receive_end().unwrap();
    assert_eq!(machine.next_event(), Some(Event::End));
    assert_eq!(machine.write(1), Written::More, "the handler may write");
    machine.handled();
    assert_eq!(machine.write(1), Written::Ended, "another handler may not");
}

#[test]
fn fin_comes_once_and_after_the_last_byte() {
    let mut machine = machine();
    assert_eq!(machine.write(2), Written::More);
    assert_eq!(machine.write(1), Written::More);
    machine.end();
    machine.end();
    assert_eq!(machine.next_step(), Some(Step::Send));
    machine.taken(2);
    assert_eq!(machine.next_step(), Some(Step::Send));
    machine.taken(1);
    assert_eq!(machine.next_step(), Some(Step::Finish));
    machine.finished();
    machine.end();
    assert_eq!(machine.next_step(), None);
    assert!(machine.sending_ended());
}

#[test]
fn a_write_after_the_end_does_nothing() {
    let mut machine = machine();
    machine.end();
    assert_eq!(machine.write(4), Written::Ended);
    assert_eq!(machine.unsent(), 0);
    assert_eq!(machine.next_step(), Some(Step::Finish));
}

#[test]
fn reading_stops_while_more_than_the_bound_waits() {
    let mut machine = machine();
    assert_eq!(machine.write(HIGH_WATER), Written::More);
    assert!(machine.may_read());
    assert_eq!(machine.write(1), Written::Wait);
    assert!(!machine.may_read());
    machine.next_step();
    machine.taken(1);
    assert!(machine.may_read());
    assert_eq!(machine.next_event(), None, "not all of it is sent");
    machine.taken(HIGH_WATER);
    assert_eq!(events(&mut machine), [Event::Drain]);
}

#[test]
fn a_chunk_waits_while_more_than_the_bound_waits() {
    let mut machine = machine();
    machine.received();
    machine.write(HIGH_WATER + 1);
    assert_eq!(machine.next_event(), None);
    machine.next_step();
    machine.taken(HIGH_WATER + 1);
    assert_eq!(events(&mut machine), [Event::Drain, Event::Data]);
}

#[test]
fn what_was_not_offered_is_a_step_of_its_own() {
    let mut machine = machine();
    machine.write(5);
    assert_eq!(machine.next_step(), Some(Step::Send));
    machine.offered(2);
    assert!(!machine.step_due(), "a step is under way");
    machine.taken(2);
    assert!(machine.step_due());
    // Nothing is in flight, so that the rest can be offered one last time.
    assert_eq!(machine.destroy(), Destroy::Close);
    assert_eq!(machine.next_step(), Some(Step::Send));
    machine.taken(3);
    assert!(machine.settled());
}

#[test]
fn no_drain_comes_after_the_end() {
    let mut machine = machine();
    assert_eq!(machine.write(HIGH_WATER + 1), Written::Wait);
    machine.end();
    machine.next_step();
    machine.taken(HIGH_WATER + 1);
    assert_eq!(machine.next_event(), None);
}

#[test]
fn the_end_event_ends_the_other_direction_unless_half_open_is_allowed() {
    let mut machine = machine();
    machine.receive_end().unwrap();
    assert_eq!(machine.next_event(), Some(Event::End));
    // The handler of the end event may still write.
    assert_eq!(machine.write(3), Written::More);
    assert_eq!(machine.next_event(), None);
    assert_eq!(machine.write(3), Written::Ended);
    assert_eq!(machine.next_step(), Some(Step::Send));
    machine.taken(3);
    assert_eq!(machine.next_step(), Some(Step::Finish));
    machine.finished();
    assert_eq!(events(&mut machine), [Event::Close { had_error: false }]);

    let mut machine = Machine::<&str>::default();
    machine.allow_half_open(true);
    machine.receive_end().unwrap();
    assert_eq!(events(&mut machine), [Event::End]);
    assert_eq!(machine.write(3), Written::More);
}

#[test]
fn pause_holds_back_data_and_an_end_behind_it() {
    let mut machine = machine();
    machine.pause(true);
    machine.received();
    machine.receive_end().unwrap();
    assert_eq!(machine.next_event(), None);
    machine.pause(false);
    assert_eq!(machine.next_event(), Some(Event::Data));
    assert_eq!(machine.next_event(), Some(Event::End));

    let mut machine = Machine::<&str>::default();
    machine.pause(true);
    machine.receive_end().unwrap();
    assert_eq!(machine.next_event(), Some(Event::End), "no data before it");
}

#[test]
fn the_first_error_stays_and_stops_the_sending() {
    let mut machine = machine();
    machine.write(1);
    machine.fail(RESET);
    machine.fail(BROKEN);
    assert_eq!(machine.error(), Some(&RESET));
    assert_eq!(machine.next_step(), Some(Step::Stop));
    assert_eq!(machine.write(1), Written::Ended);
    let close = Event::Close { had_error: true };
    assert_eq!(events(&mut machine), [Event::Error(RESET), close]);
    assert!(machine.closed());
}

#[test]
fn an_error_after_both_ends_is_none() {
    let mut machine = machine();
    machine.end();
    machine.next_step();
    machine.finished();
    machine.receive_end().unwrap();
    machine.fail(RESET);
    assert_eq!(machine.error(), None);
}

#[test]
fn an_error_is_not_reported_after_destroy() {
    for end in [Machine::destroy, Machine::reset] {
        let mut machine = machine();
        machine.fail(RESET);
        assert_eq!(end(&mut machine), Destroy::Nothing);
        assert_eq!(events(&mut machine), [Event::Close { had_error: false }]);
    }
    let mut machine = machine();
    machine.destroy();
    machine.fail(BROKEN);
    assert_eq!(events(&mut machine), [Event::Close { had_error: false }]);
}

#[test]
fn destroy_closes_if_nothing_is_lost_and_resets_otherwise() {
    let mut machine = machine();
    assert_eq!(machine.destroy(), Destroy::Close);
    assert_eq!(machine.next_step(), Some(Step::Finish));

    let mut machine = Machine::<&str>::default();
    machine.write(1);
    assert_eq!(machine.destroy(), Destroy::Close);
    assert!(!machine.settled());
    assert_eq!(machine.next_step(), Some(Step::Send));
    machine.taken(1);
    assert!(machine.settled());
    assert_eq!(machine.next_step(), Some(Step::Finish));

    let mut machine = Machine::<&str>::default();
    machine.write(2);
    assert_eq!(machine.destroy(), Destroy::Close);
    machine.next_step();
    machine.taken(1);
    assert!(machine.flush_failed());
    assert!(machine.settled());
    assert_eq!(machine.next_step(), Some(Step::Stop));
    assert_eq!(machine.destroy(), Destroy::Nothing);

    let mut machine = Machine::<&str>::default();
    machine.write(1);
    machine.end();
    machine.next_step();
    assert_eq!(machine.destroy(), Destroy::Reset, "still in flight");

    let mut machine = Machine::<&str>::default();
    machine.fail(RESET);
    assert_eq!(machine.destroy(), Destroy::Nothing);
}

/// An action of the program, of whoever does the I/O, or of the peer.
#[derive(Clone, Debug)]
enum Act {
    Write(u32),
    End,
    Destroy,
    Reset,
    Pause(bool),
    HalfOpen(bool),
    /// The next step of the sending direction, which offers a part of the bytes, in 256ths.
    Step(u8),
    /// The kernel takes a part of what was offered, in 256ths.
    Taken(u8),
    /// The kernel takes no more.
    Full,
    /// A chunk arrives, if one may be read.
    Receive,
    ReceiveEnd,
    Fail,
    /// The program handles the next event.
    Event,
}

fn acts() -> impl Strategy<Value = Vec<Act>> {
    let act = prop_oneof![
        6 => (0..100_000_u32).prop_map(Act::Write),
        2 => Just(Act::End),
        1 => Just(Act::Destroy),
        1 => Just(Act::Reset),
        3 => any::<bool>().prop_map(Act::Pause),
        1 => any::<bool>().prop_map(Act::HalfOpen),
        8 => any::<u8>().prop_map(Act::Step),
        8 => any::<u8>().prop_map(Act::Taken),
        1 => Just(Act::Full),
        8 => Just(Act::Receive),
        2 => Just(Act::ReceiveEnd),
        1 => Just(Act::Fail),
        12 => Just(Act::Event),
    ];
    prop::collection::vec(act, 0..100)
}

/// What the kernel and the program have seen of a connection.
#[derive(Debug, Default)]
struct Seen {
    accepted: usize,
    sent: usize,
    offered: Option<usize>,
    /// FIN was sent.
    finished: bool,
    /// The program has ended, destroyed or reset, or the connection has failed.
    ended: bool,
    stopped: bool,
    /// The program has destroyed or reset the connection.
    destroyed: bool,
    chunks: usize,
    eof: bool,
    events: Vec<Event<&'static str>>,
    waits: usize,
}

impl Seen {
    fn count(&self, wanted: &Event<&str>) -> usize {
        self.events.iter().filter(|&event| event == wanted).count()
    }

    fn step(&mut self, machine: &mut Machine<&'static str>, part: u8) -> Result<(), TestCaseError> {
        match machine.next_step() {
            Some(Step::Send) => {
                prop_assert!(machine.unsent() > 0);
                prop_assert_eq!(self.sent + machine.unsent(), self.accepted);
                let offered = (machine.unsent() * usize::from(part) / 255).max(1);
                machine.offered(offered);
                self.offered = Some(offered);
            }
            Some(Step::Finish) => {
                prop_assert_eq!(self.sent, self.accepted, "FIN before the last byte");
                prop_assert!(self.ended || self.stopped || self.eof);
                self.finished = true;
                machine.finished();
            }
            Some(Step::Stop) => prop_assert!(self.stopped),
            None => prop_assert!(self.finished || self.sent == self.accepted),
        }
        Ok(())
    }

    fn event(&mut self, machine: &mut Machine<&'static str>) -> Result<(), TestCaseError> {
        let (paused, unsent) = (machine.is_paused(), machine.unsent());
        let due = machine.event_due();
        let event = machine.next_event();
        prop_assert!(due || event.is_none(), "an event that was not announced");
        let Some(event) = event else { return Ok(()) };
        let over = self.count(&Event::Close { had_error: true })
            + self.count(&Event::Close { had_error: false });
        prop_assert_eq!(over, 0, "an event after close");
        match event {
            Event::Data => {
                prop_assert!(!paused && unsent <= HIGH_WATER && !self.stopped);
                prop_assert_eq!(self.count(&Event::End), 0, "data after the end");
                prop_assert!(self.count(&Event::Data) < self.chunks);
            }
            Event::End => {
                prop_assert!(self.eof && !self.stopped);
                prop_assert_eq!(self.count(&Event::End), 0, "two ends");
                prop_assert_eq!(self.count(&Event::Data), self.chunks, "data is lost");
            }
            Event::Drain => {
                prop_assert_eq!(unsent, 0);
                prop_assert!(self.count(&Event::Drain) < self.waits);
            }
            Event::Error(_) => {
                prop_assert!(!self.destroyed, "an error after destroy or reset");
                prop_assert_eq!(self.count(&Event::Error(RESET)), 0, "two errors");
            }
            Event::Close { had_error } => {
                prop_assert_eq!(had_error, self.count(&Event::Error(RESET)) == 1);
                prop_assert!(self.stopped || (self.finished && self.eof));
            }
        }
        self.events.push(event);
        Ok(())
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    /// No byte is counted twice or lost; FIN comes once and last; nothing is sent after an
    /// error or a reset; a refused write changes nothing; events come in order, each at its
    /// time, and close is the last.
    #[test]
    fn the_laws_hold_whatever_happens(acts in acts()) {
        let mut machine = machine();
        let mut seen = Seen::default();
        for act in acts {
            match act {
                Act::Write(length) => {
                    let before = machine.unsent();
                    let length = length as usize;
                    let can = machine.can_write();
                    match machine.write(length) {
                        Written::Ended => {
                            prop_assert!(!can && (seen.ended || seen.stopped || seen.eof));
                            prop_assert_eq!(machine.unsent(), before);
                        }
                        written => {
                            prop_assert!(can && !seen.ended && !seen.stopped);
                            seen.accepted += length;
                            let wait = before + length > HIGH_WATER;
                            prop_assert_eq!(written == Written::Wait, wait);
                            seen.waits += usize::from(wait);
                        }
                    }
                }
                Act::End => { machine.end(); seen.ended = true; }
                Act::Destroy => {
                    let unsent = machine.unsent();
                    let how = machine.destroy();
                    // Lost data means a reset.
                    if how == Destroy::Close { prop_assert!(seen.offered.is_none()); }
                    if how == Destroy::Reset {
                        prop_assert!(unsent > 0 && seen.offered.is_some());
                        seen.offered = None;
                    }
                    seen.stopped = true;
                    seen.destroyed = true;
                }
                Act::Reset => {
                    machine.reset();
                    seen.stopped = true;
                    seen.destroyed = true;
                    seen.offered = None;
                }
                Act::Pause(paused) => machine.pause(paused),
                Act::HalfOpen(allow) => machine.allow_half_open(allow),
                Act::Step(part) => if seen.offered.is_none() && !seen.finished {
                    seen.step(&mut machine, part)?;
                },
                Act::Taken(part) => if let Some(offered) = seen.offered.take() {
                    let taken = offered * usize::from(part) / 255;
                    machine.taken(taken);
                    seen.sent += taken;
                    if taken < offered { seen.offered = Some(offered - taken); }
                },
                Act::Full => if machine.flush_failed() {
                    prop_assert!(seen.stopped);
                    seen.offered = None;
                },
                Act::Receive => if machine.may_read() && !seen.eof {
                    machine.received();
                    seen.chunks += 1;
                },
                Act::ReceiveEnd => if machine.may_read() {
                    prop_assert!(machine.receive_end().is_ok());
                    seen.eof = true;
                },
                Act::Fail => {
                    machine.fail(RESET);
                    if machine.error().is_some() { seen.stopped = true; seen.offered = None; }
                }
                Act::Event => seen.event(&mut machine)?,
            }
            if !seen.stopped {
                prop_assert_eq!(seen.sent + machine.unsent(), seen.accepted);
            }
            prop_assert_eq!(machine.sending_ended(), seen.finished);
        }
        // Whatever has happened, a reset brings the close event.
        machine.reset();
        for _ in 0..8 { machine.next_event(); }
        prop_assert!(machine.closed());
        prop_assert!(!machine.event_due());
    }
}
