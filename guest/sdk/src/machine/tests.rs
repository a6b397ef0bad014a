//! Tests of the state machine.

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
    // The host has not taken it yet.
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

/// An action of the program or of the host.
#[derive(Clone, Debug)]
enum Act {
    Write(u16),
    End,
    Destroy,
    Reset,
    /// The sending task does its next step.
    Step,
    /// The host takes the data that was offered.
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
    /// No byte is lost, doubled or reordered; FIN comes once and last; nothing is sent
    /// after an error or a reset; a refused write changes nothing.
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
                    // Lost data means a reset.
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
