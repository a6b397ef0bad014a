//! Events as they may come, in any order that is possible.

use proptest::prelude::*;

use crate::watch::json::{self, At, By, Dir, Event, Life, Line, Payload};

/// Numbers events as a process does.
#[derive(Default)]
pub(super) struct Process {
    pub(super) lines: Vec<Line>,
    seq: u64,
    at: u64,
}

impl Process {
    pub(super) fn add(&mut self, id: Option<u64>, event: Event) {
        self.seq += 1;
        self.at += self.seq * 1_000_003 % 2_000_000;
        self.lines.push(Line {
            event,
            seq: Some(self.seq),
            at: Some(At(self.at)),
            id,
        });
    }
}

pub(super) fn accepted(id: u64, service: &str) -> Event {
    let port = 4000 + id % 1000;
    let (peer, local) = match id % 2 {
        0 => (format!("192.0.2.1:{port}"), "192.0.2.2:80"),
        _ => (format!("[2001:db8::1]:{port}"), "[2001:db8::2]:80"),
    };
    Event::Accepted {
        peer: peer.parse().unwrap(),
        local: local.parse().unwrap(),
        service: service.to_owned(),
    }
}

pub(super) fn closed() -> Event {
    Event::Closed {
        outcome: "fin".to_owned(),
        first: Some(json::Side::Peer),
        received: 1,
        sent: 2,
        age: At(3),
        cause: "the peer closed first \u{1b}[2J".to_owned(),
    }
}

/// What may happen to a connection.
#[derive(Clone, Debug)]
pub(super) enum Happening {
    Accept,
    Data(Dir, u32, bool, usize),
    Fin(Dir),
    Rst(Dir),
    Remark(Event),
    Close,
    Lost(u64),
    Made,
}

fn dir() -> impl Strategy<Value = Dir> {
    prop_oneof![Just(Dir::In), Just(Dir::Out)]
}

pub(super) fn happening() -> impl Strategy<Value = Happening> {
    let remark = prop_oneof![
        Just(Event::Served { instance: 4 }),
        Just(Event::Paused),
        Just(Event::Resumed),
        Just(Event::Acknowledged),
        dir().prop_map(|dir| Event::Blocked { dir, by: By::Peer }),
        dir().prop_map(|dir| Event::Unblocked { dir, by: By::Peer }),
        Just(Event::Limit {
            limit: "idle".to_owned()
        }),
        "\\PC{0,9}".prop_map(|message| Event::Error {
            code: "other".to_owned(),
            message
        }),
        Just(Event::Tls {
            version: "1.3".to_owned(),
            name: None,
            alpn: Some("h2".to_owned())
        }),
    ];
    let length = prop_oneof![1_u32..9, 60_000_u32..200_000];
    prop_oneof![
        4 => Just(Happening::Accept),
        6 => (dir(), length, any::<bool>(), 0_usize..70_000)
            .prop_map(|(dir, length, payload, cut)| Happening::Data(dir, length, payload, cut)),
        2 => dir().prop_map(Happening::Fin),
        1 => dir().prop_map(Happening::Rst),
        4 => remark.prop_map(Happening::Remark),
        1 => Just(Happening::Close),
        1 => (1_u64..9).prop_map(Happening::Lost),
        1 => Just(Happening::Made),
    ]
}

/// Makes a stream of events of what may happen, leaving out what cannot.
pub(super) fn stream(happenings: &[(u64, Happening)]) -> Vec<Line> {
    let mut process = Process::default();
    // Of each connection: whether it is open, and of each direction its bytes and its end.
    let mut all = [(false, [(0_u64, false); 2]); 4];
    for (number, happening) in happenings {
        let (open, directions) = &mut all[usize::try_from(*number).unwrap()];
        // A number is not used twice, and addresses are.
        let id = Some(number + 1000 * process.seq);
        let id = match *open {
            true => process.lines.iter().rev().find_map(|line| {
                let accepted = matches!(line.event, Event::Accepted { .. });
                line.id.filter(|id| accepted && id % 1000 == *number)
            }),
            false => id,
        };
        match happening.clone() {
            Happening::Accept if !*open => {
                (*open, *directions) = (true, [(0, false); 2]);
                process.add(id, accepted(id.unwrap(), "echo"));
            }
            Happening::Data(dir, length, payload, cut) if *open => {
                let (bytes, fin) = &mut directions[dir as usize];
                if !*fin {
                    let known = cut.min(length as usize);
                    let payload =
                        (payload && known > 0).then(|| vec![number.to_le_bytes()[0]; known]);
                    let cut = payload.is_some() && known < length as usize;
                    let (offset, length) = (*bytes, length.into());
                    *bytes += length;
                    let payload = payload.map(Payload);
                    process.add(
                        id,
                        Event::Data {
                            dir,
                            length,
                            offset,
                            payload,
                            cut,
                        },
                    );
                }
            }
            Happening::Fin(dir)
                if *open && !std::mem::replace(&mut directions[dir as usize].1, true) =>
            {
                process.add(id, Event::Fin { dir });
            }
            Happening::Rst(dir) if *open => process.add(id, Event::Rst { dir }),
            Happening::Remark(event) if *open => process.add(id, event),
            Happening::Close if *open => {
                *open = false;
                process.add(id, closed());
            }
            Happening::Lost(count) => process.lines.push(Line {
                event: Event::Lost { count },
                seq: None,
                at: None,
                id: None,
            }),
            Happening::Made => {
                let (service, what) = ("echo".to_owned(), Life::Made);
                process.add(
                    None,
                    Event::Instance {
                        instance: 1,
                        service,
                        what,
                        message: None,
                    },
                );
            }
            _ => {}
        }
    }
    process.lines
}
