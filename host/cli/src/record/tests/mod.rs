//! What is recorded is read again.

mod stream;

use std::collections::HashMap;

use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::Index;

use super::pcapng::{Block, Reader};
use super::segment::Segment;
use super::{Decoder, Encoder, Excluded};
use crate::watch::json::{Dir, Direction, Event, Life, Line, Payload, VERSION};
use stream::{Process, accepted, closed, happening, stream};

fn hello() -> Line {
    let event = Event::Hello {
        version: VERSION,
        pid: 7,
        began: "2026-11-26T12:00:00.250000Z".to_owned(),
        services: vec!["echo".to_owned()],
        payload: true,
        may_write: false,
    };
    Line {
        event,
        seq: None,
        at: None,
        id: None,
    }
}

fn encoder(with_payload: bool, excluded: &[&str]) -> Encoder {
    let names = Excluded::default();
    names.set(excluded.iter().map(ToString::to_string).collect());
    Encoder::new(hello(), with_payload, names).unwrap()
}

fn decode(file: &[u8]) -> Vec<Line> {
    let mut decoder = Decoder::new(file).unwrap();
    std::iter::from_fn(|| decoder.next().unwrap()).collect()
}

/// Leaves out what describes a connection again.
fn told(lines: Vec<Line>) -> Vec<Line> {
    let again = |line: &Line| matches!(line.event, Event::Connection { .. });
    lines.into_iter().filter(|line| !again(line)).collect()
}

fn without_payload(mut lines: Vec<Line>) -> Vec<Line> {
    for line in &mut lines {
        if let Event::Data { payload, cut, .. } = &mut line.event {
            (*payload, *cut) = (None, false);
        }
    }
    lines
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn what_is_recorded_is_read_again(
        happenings in vec((0_u64..4, happening()), 0..60),
        with_payload: bool,
        anew in vec(any::<bool>(), 60),
    ) {
        let lines = stream(&happenings);
        let mut encoder = encoder(with_payload, &[]);
        // Files one after the other: each begins with `hello`, and needs none before it.
        let mut files = vec![Vec::new()];
        encoder.begin(&mut files[0]);
        for (line, anew) in lines.iter().zip(anew) {
            if anew {
                files.push(Vec::new());
                encoder.begin(files.last_mut().unwrap());
            }
            encoder.add(line, files.last_mut().unwrap());
        }
        let mut read = Vec::new();
        for file in files {
            let lines = decode(&file);
            prop_assert_eq!(&lines[0], &hello());
            read.extend(told(lines).into_iter().skip(1));
        }
        let expected = if with_payload { lines } else { without_payload(lines) };
        prop_assert_eq!(read, expected);
    }

    /// A short run of the fuzz target `recording`: what is read may be anybody's.
    #[test]
    fn no_damage_makes_the_decoder_panic_or_run_on(
        happenings in vec((0_u64..4, happening()), 0..12),
        damage in vec((any::<Index>(), any::<u8>()), 1..40),
        end in any::<Index>(),
    ) {
        let mut encoder = encoder(true, &[]);
        let mut file = Vec::new();
        encoder.begin(&mut file);
        for line in stream(&happenings) {
            encoder.add(&line, &mut file);
        }
        for (place, value) in damage {
            let place = place.index(file.len());
            file[place] = value;
        }
        file.truncate(end.index(file.len()) + 1);
        if let Ok(mut decoder) = Decoder::new(&*file) {
            let events = std::iter::from_fn(|| decoder.next().ok().flatten());
            prop_assert!(events.count() <= file.len() / 8);
        }
    }

    /// Nothing looks as if it had been lost, repeated or reordered.
    #[test]
    fn packets_follow_each_other_as_those_of_tcp_do(
        happenings in vec((0_u64..4, happening()), 0..60),
    ) {
        let mut encoder = encoder(false, &[]);
        let mut file = Vec::new();
        encoder.begin(&mut file);
        for line in stream(&happenings) {
            if !matches!(line.event, Event::Lost { .. }) {
                encoder.add(&line, &mut file);
            }
        }
        let mut sides: HashMap<_, Side> = HashMap::new();
        let mut blocks = Reader::new(&*file).unwrap();
        while let Some(block) = blocks.next().unwrap() {
            let Block::Packet { link, data, original, .. } = block else {
                continue;
            };
            let segment = Segment::parse(link, &data, original).unwrap();
            let other = sides.get(&(segment.to, segment.from)).map(|side| side.next);
            let side = sides.entry((segment.from, segment.to)).or_default();
            if !segment.flags.syn {
                prop_assert_eq!(segment.sequence, side.next, "{:?}", segment);
                prop_assert_eq!(Some(segment.acknowledgment), other, "{:?}", segment);
                let state = (segment.sequence, segment.acknowledgment, segment.window);
                let is_bare = segment.length == 0 && !segment.flags.fin && !segment.flags.rst;
                prop_assert!(!is_bare || state != side.last || segment.window == 0, "{:?}", segment);
            }
            let more = u32::from(segment.flags.syn) + u32::from(segment.flags.fin);
            side.next = segment.sequence.wrapping_add(segment.length + more);
            side.last = (side.next, segment.acknowledgment, segment.window);
        }
    }
}

/// One side of a connection, by its packets.
#[derive(Default)]
struct Side {
    /// The sequence number of its next packet.
    next: u32,
    /// What its last packet said: the sequence number after it, what it acknowledged, its window.
    last: (u32, u32, u16),
}

#[test]
fn a_file_that_begins_in_the_midst_describes_its_connections() {
    let mut process = Process::default();
    let data = |dir, length, offset| Event::Data {
        dir,
        length,
        offset,
        payload: None,
        cut: false,
    };
    process.add(Some(6), accepted(6, "echo"));
    process.add(Some(6), Event::Served { instance: 2 });
    process.add(Some(6), data(Dir::In, 5_000_000_000, 0));
    process.add(Some(6), data(Dir::Out, 3, 0));
    process.add(Some(6), Event::Fin { dir: Dir::In });
    process.add(Some(6), data(Dir::Out, 4, 3));
    let mut encoder = encoder(false, &[]);
    encoder.begin(&mut Vec::new());
    for line in &process.lines[..5] {
        encoder.add(line, &mut Vec::new());
    }
    let mut file = Vec::new();
    encoder.begin(&mut file);
    encoder.add(&process.lines[5], &mut file);
    let lines = decode(&file);
    let described = Event::Connection {
        service: "echo".to_owned(),
        peer: "192.0.2.1:4006".parse().unwrap(),
        local: "192.0.2.2:80".parse().unwrap(),
        began: process.lines[0].at.unwrap(),
        received: 5_000_000_000,
        sent: 3,
        incoming: Direction::Ended,
        outgoing: Direction::Open,
        acknowledged: false,
        instance: Some(2),
    };
    assert_eq!(lines[1].event, described);
    assert_eq!(lines[2..], process.lines[5..]);
}

#[test]
fn an_excluded_service_is_not_recorded() {
    let mut process = Process::default();
    for (id, service) in [(1, "secret"), (2, "echo")] {
        process.add(Some(id), accepted(id, service));
        process.add(Some(id), Event::Fin { dir: Dir::In });
        process.add(Some(id), closed());
        process.add(
            None,
            Event::Instance {
                instance: id,
                service: service.to_owned(),
                what: Life::Ended,
                message: None,
            },
        );
    }
    let mut encoder = encoder(true, &["secret"]);
    let mut file = Vec::new();
    encoder.begin(&mut file);
    for line in &process.lines {
        encoder.add(line, &mut file);
    }
    assert_eq!(decode(&file)[1..], process.lines[4..]);
    assert!(!file.windows(6).any(|bytes| bytes == b"secret"));
}

#[test]
fn a_recording_that_was_cut_anywhere_is_read_up_to_there() {
    let mut process = Process::default();
    process.add(Some(3), accepted(3, "echo"));
    process.add(
        Some(3),
        Event::Data {
            dir: Dir::In,
            length: 4,
            offset: 0,
            payload: Some(Payload(b"halt".to_vec())),
            cut: false,
        },
    );
    process.add(Some(3), closed());
    let mut encoder = encoder(true, &[]);
    let mut file = Vec::new();
    encoder.begin(&mut file);
    let begun = file.len();
    for line in &process.lines {
        encoder.add(line, &mut file);
    }
    for length in begun..file.len() {
        let lines = decode(&file[..length]);
        assert_eq!(lines[1..], process.lines[..lines.len() - 1], "{length}");
    }
}

#[test]
fn what_is_not_known_is_counted() {
    let mut process = Process::default();
    process.add(Some(9), Event::Fin { dir: Dir::In });
    let mut encoder = encoder(true, &[]);
    let mut file = Vec::new();
    encoder.begin(&mut file);
    let begun = file.len();
    encoder.add(&process.lines[0], &mut file);
    assert_eq!(file.len(), begun);
    encoder.lost(1, &mut file);
    let mut blocks = Reader::new(&*file).unwrap();
    blocks.next().unwrap();
    let Some(Block::Statistics { dropped, .. }) = blocks.next().unwrap() else {
        panic!("no statistics");
    };
    assert_eq!(dropped, Some(2));
}
