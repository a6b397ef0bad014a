//! What the packets of a capture by another program tell: addresses, lengths, FIN and RST.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::time::{Duration, UNIX_EPOCH};

use super::segment::Segment;
use crate::watch::json::{At, Dir, Event, Line, Payload, Side, VERSION};
use crate::watch::wall::rfc3339;

/// The name of the service, which packets do not tell.
const SERVICE: &str = "capture";
/// Connections that are remembered at the same time.
const MOST: usize = 100_000;

/// Follows the connections of a capture.
#[derive(Debug, Default)]
pub(super) struct Foreign {
    streams: HashMap<(SocketAddr, SocketAddr), Followed>,
    began: Option<u64>,
    /// The numbers that were given to events and to connections.
    events: u64,
    connections: u64,
}

/// A connection, from its SYN on. The side that sent it is the peer.
#[derive(Debug)]
struct Followed {
    id: u64,
    began: At,
    accepted: bool,
    incoming: Progress,
    outgoing: Progress,
    first: Option<Side>,
}

#[derive(Debug, Default)]
struct Progress {
    initial: u32,
    /// The bytes that have come, in order.
    bytes: u64,
    fin: bool,
}

impl Foreign {
    /// Takes the next packet, and returns what happened with it.
    pub(super) fn take(&mut self, at: u64, segment: Segment) -> Vec<Line> {
        let mut lines = Vec::new();
        let began = *self.began.get_or_insert_with(|| {
            lines.push(hello(at));
            at
        });
        let at = At(at.saturating_sub(began));
        let way = (segment.from, segment.to);
        if segment.flags.syn && !segment.flags.ack {
            self.open(way, at, segment.sequence);
            return lines;
        }
        let (dir, key) = match self.streams.contains_key(&way) {
            true => (Dir::In, way),
            false => (Dir::Out, (way.1, way.0)),
        };
        let Some(stream) = self.streams.get_mut(&key) else {
            return lines;
        };
        let mut happened = Vec::new();
        stream.take(dir, key, segment, &mut happened);
        let id = stream.id;
        if !stream.accepted {
            // The answer to SYN was RST.
            if !happened.is_empty() {
                self.streams.remove(&key);
            }
            return lines;
        }
        if let Some(end) = stream.end(at, &happened) {
            happened.push(end);
            self.streams.remove(&key);
        }
        lines.extend(happened.into_iter().map(|event| {
            self.events += 1;
            Line {
                event,
                seq: Some(self.events),
                at: Some(at),
                id: Some(id),
            }
        }));
        lines
    }

    fn open(&mut self, way: (SocketAddr, SocketAddr), at: At, sequence: u32) {
        let again = |stream: &Followed| stream.incoming.initial == sequence;
        if self.streams.get(&way).is_some_and(again) || self.streams.len() >= MOST {
            return;
        }
        self.connections += 1;
        let stream = Followed {
            id: self.connections,
            began: at,
            accepted: false,
            incoming: Progress {
                initial: sequence,
                ..Progress::default()
            },
            outgoing: Progress::default(),
            first: None,
        };
        self.streams.insert(way, stream);
    }
}

impl Followed {
    fn take(
        &mut self,
        dir: Dir,
        (peer, local): (SocketAddr, SocketAddr),
        segment: Segment,
        happened: &mut Vec<Event>,
    ) {
        let (progress, side) = match dir {
            Dir::In => (&mut self.incoming, Side::Peer),
            Dir::Out => (&mut self.outgoing, Side::Service),
        };
        if segment.flags.syn {
            progress.initial = segment.sequence;
            if !std::mem::replace(&mut self.accepted, true) {
                happened.push(Event::Accepted {
                    peer,
                    local,
                    service: SERVICE.to_owned(),
                });
            }
            return;
        }
        // A packet that comes again has nothing new; one after a gap has more than is known.
        let expected = progress.expected();
        let again = expected.wrapping_sub(segment.sequence);
        let again = if again > u32::MAX / 2 { 0 } else { again };
        let ahead = segment.sequence.wrapping_sub(expected);
        let ahead = if ahead > u32::MAX / 2 { 0 } else { ahead };
        if segment.length > again && !progress.fin {
            progress.bytes += u64::from(ahead);
            let length = segment.length - again;
            let known = segment.payload.get(again as usize..).unwrap_or_default();
            happened.push(Event::Data {
                dir,
                length: length.into(),
                offset: progress.bytes,
                payload: (!known.is_empty()).then(|| Payload(known.to_vec())),
                cut: !known.is_empty() && known.len() < length as usize,
            });
            progress.bytes += u64::from(length);
        }
        if segment.flags.fin && !progress.fin {
            progress.fin = true;
            self.first.get_or_insert(side);
            happened.push(Event::Fin { dir });
        }
        if segment.flags.rst {
            self.first.get_or_insert(side);
            happened.push(Event::Rst { dir });
        }
    }

    /// The end of the connection, if what happened last is its end.
    fn end(&self, at: At, happened: &[Event]) -> Option<Event> {
        let (outcome, cause) = match happened.last()? {
            Event::Rst { dir: Dir::In } => ("reset-by-peer", "the peer sent RST"),
            Event::Rst { dir: Dir::Out } => ("reset-by-service", "the server sent RST"),
            Event::Fin { .. } if self.incoming.fin && self.outgoing.fin => {
                ("fin", "both sides sent FIN")
            }
            _ => return None,
        };
        Some(Event::Closed {
            outcome: outcome.to_owned(),
            first: self.first,
            received: self.incoming.bytes,
            sent: self.outgoing.bytes,
            age: At(at.0.saturating_sub(self.began.0)),
            cause: cause.to_owned(),
        })
    }
}

/// What a stream of events begins with.
fn hello(at: u64) -> Line {
    let event = Event::Hello {
        version: VERSION,
        pid: 0,
        began: rfc3339(UNIX_EPOCH + Duration::from_micros(at)),
        services: vec![SERVICE.to_owned()],
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

impl Progress {
    /// The sequence number of the next byte.
    #[allow(clippy::cast_possible_truncation, reason = "sequence numbers wrap")]
    fn expected(&self) -> u32 {
        let next = self.initial.wrapping_add(1);
        next.wrapping_add(self.bytes as u32)
    }
}

#[cfg(test)]
mod tests {
    use super::super::segment::Flags;
    use super::*;

    const PEER: &str = "192.0.2.1:4000";
    const LOCAL: &str = "192.0.2.2:80";

    fn segment(dir: Dir, flags: Flags, sequence: u32, payload: &[u8]) -> Segment {
        let (peer, local) = (PEER.parse().unwrap(), LOCAL.parse().unwrap());
        let (from, to) = match dir {
            Dir::In => (peer, local),
            Dir::Out => (local, peer),
        };
        Segment {
            from,
            to,
            flags,
            sequence,
            acknowledgment: 0,
            window: 1,
            length: u32::try_from(payload.len()).unwrap(),
            payload: payload.to_vec(),
        }
    }

    fn events(segments: Vec<Segment>) -> Vec<Event> {
        let mut foreign = Foreign::default();
        let lines = segments
            .into_iter()
            .flat_map(|segment| foreign.take(5_000_000, segment));
        lines.map(|line| line.event).skip(1).collect()
    }

    fn data(dir: Dir, offset: u64, payload: &[u8]) -> Event {
        Event::Data {
            dir,
            length: payload.len() as u64,
            offset,
            payload: Some(Payload(payload.to_vec())),
            cut: false,
        }
    }

    fn accepted() -> Event {
        Event::Accepted {
            peer: PEER.parse().unwrap(),
            local: LOCAL.parse().unwrap(),
            service: SERVICE.to_owned(),
        }
    }

    #[test]
    fn a_capture_is_followed_and_what_comes_again_is_not_counted() {
        let last = u32::MAX;
        let segments = vec![
            segment(Dir::In, Flags::SYN, last, b""),
            segment(Dir::Out, Flags::SYN_ACK, 10, b""),
            segment(Dir::In, Flags::ACK, 0, b""),
            segment(Dir::In, Flags::ACK, 0, b"ab"),
            segment(Dir::In, Flags::ACK, 0, b"ab"),
            segment(Dir::In, Flags::ACK, 1, b"bcd"),
            segment(Dir::Out, Flags::FIN, 11, b"x"),
            segment(Dir::In, Flags::FIN, 4, b""),
        ];
        let closed = Event::Closed {
            outcome: "fin".to_owned(),
            first: Some(Side::Service),
            received: 4,
            sent: 1,
            age: At(0),
            cause: "both sides sent FIN".to_owned(),
        };
        assert_eq!(
            events(segments),
            [
                accepted(),
                data(Dir::In, 0, b"ab"),
                data(Dir::In, 2, b"cd"),
                data(Dir::Out, 0, b"x"),
                Event::Fin { dir: Dir::Out },
                Event::Fin { dir: Dir::In },
                closed,
            ]
        );
    }

    #[test]
    fn a_reset_ends_a_connection_and_a_refusal_is_none() {
        let segments = vec![
            segment(Dir::In, Flags::SYN, 0, b""),
            segment(Dir::Out, Flags::RST, 0, b""),
            segment(Dir::In, Flags::SYN, 100, b""),
            segment(Dir::Out, Flags::SYN_ACK, 0, b""),
            segment(Dir::In, Flags::RST, 101, b""),
        ];
        let events = events(segments);
        assert_eq!(events[..2], [accepted(), Event::Rst { dir: Dir::In }]);
        assert!(matches!(
            &events[2],
            Event::Closed { outcome, first: Some(Side::Peer), .. } if outcome == "reset-by-peer"
        ));
        assert_eq!(events.len(), 3);
    }
}
