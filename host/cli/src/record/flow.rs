//! What a recording has of one connection: its two streams, counted as TCP counts them.

use std::net::SocketAddr;

use super::segment::{Flags, LONGEST, Segment};
use crate::watch::json::{At, Dir, Direction, Event};

/// The window of a side, in units of 16 KiB, so that no data is ever outside of it.
const WINDOW: u16 = u16::MAX;
/// Data that a side may leave without an acknowledgment: a quarter of the window.
const UNACKNOWLEDGED: u64 = 1 << 28;

/// A connection.
#[derive(Debug)]
pub(super) struct Flow {
    pub(super) service: String,
    peer: SocketAddr,
    local: SocketAddr,
    began: At,
    instance: Option<u64>,
    incoming: Stream,
    outgoing: Stream,
    /// Whether the peer is known to have acknowledged the service's FIN.
    acknowledged: bool,
    /// The last file that describes the connection, by its number.
    pub(super) file: u64,
    /// When it was missing among the open connections, unless something has come of it since.
    pub(super) doubted: Option<At>,
}

/// One direction, and the side that sends it.
#[derive(Debug)]
struct Stream {
    /// The sequence number of SYN.
    initial: u32,
    /// The bytes so far.
    bytes: u64,
    fin: bool,
    /// What the side that sends this stream has acknowledged of the other one, in bytes; FIN
    /// counts as one.
    acknowledged: u64,
    /// The window that this side announced last.
    window: u16,
}

/// Why a packet is there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Part {
    /// It stands for the event.
    Event,
    /// TCP has such a packet at this place, and it stands for no event.
    Filler,
}

/// The packets of an event, in their order.
pub(super) type Packets = Vec<(Part, Dir, Segment)>;

impl Stream {
    fn new(initial: u32) -> Self {
        Stream {
            initial,
            bytes: 0,
            fin: false,
            acknowledged: 0,
            window: WINDOW,
        }
    }

    /// The number of bytes that have to be acknowledged.
    fn length(&self) -> u64 {
        self.bytes + u64::from(self.fin)
    }

    /// The sequence number of a byte.
    #[allow(clippy::cast_possible_truncation, reason = "sequence numbers wrap")]
    fn sequence(&self, offset: u64) -> u32 {
        self.initial.wrapping_add(1).wrapping_add(offset as u32)
    }
}

impl Flow {
    /// A connection that is accepted.
    pub(super) fn new(
        id: u64,
        service: String,
        peer: SocketAddr,
        local: SocketAddr,
        began: At,
    ) -> Self {
        let (first, second) = initials(id);
        Flow {
            service,
            peer,
            local,
            began,
            instance: None,
            incoming: Stream::new(first),
            outgoing: Stream::new(second),
            acknowledged: false,
            file: 0,
            doubted: None,
        }
    }

    /// A connection that was open already, as `connection` describes it.
    pub(super) fn of(id: u64, connection: &Event) -> Option<Self> {
        let Event::Connection {
            service,
            peer,
            local,
            began,
            received,
            sent,
            incoming,
            outgoing,
            acknowledged,
            instance,
        } = connection
        else {
            return None;
        };
        let mut flow = Flow::new(id, service.clone(), *peer, *local, *began);
        flow.instance = *instance;
        flow.acknowledged = *acknowledged;
        flow.incoming.bytes = *received;
        flow.incoming.fin = *incoming == Direction::Ended;
        flow.outgoing.bytes = *sent;
        flow.outgoing.fin = *outgoing == Direction::Ended;
        flow.incoming.acknowledged = flow.outgoing.length();
        flow.outgoing.acknowledged = flow.incoming.length();
        Some(flow)
    }

    /// The connection as it is now, for a file that begins in the midst of it.
    pub(super) fn describe(&self) -> Event {
        let direction = |stream: &Stream| match stream.fin {
            true => Direction::Ended,
            false => Direction::Open,
        };
        Event::Connection {
            service: self.service.clone(),
            peer: self.peer,
            local: self.local,
            began: self.began,
            received: self.incoming.bytes,
            sent: self.outgoing.bytes,
            incoming: direction(&self.incoming),
            outgoing: direction(&self.outgoing),
            acknowledged: self.acknowledged,
            instance: self.instance,
        }
    }

    /// Takes an event of the connection, and returns its packets.
    pub(super) fn packets(&mut self, event: &Event, with_payload: bool) -> Packets {
        let mut packets = Packets::new();
        if self.has(event) {
            return packets;
        }
        match event {
            Event::Accepted { .. } => self.shake_hands(&mut packets),
            Event::Data {
                dir,
                length,
                offset,
                payload,
                ..
            } => {
                let payload = payload.as_ref().filter(|_| with_payload);
                let payload = payload.map_or(&[][..], |payload| &payload.0);
                self.data(*dir, *offset, *length, payload, &mut packets);
            }
            Event::Fin { dir } => {
                self.reopen(*dir, &mut packets);
                packets.push((Part::Event, *dir, self.segment(*dir, Flags::FIN)));
                self.stream(*dir).fin = true;
                if *dir == Dir::In {
                    // The kernel acknowledges it; when the peer's does, it is asked later.
                    packets.push((Part::Filler, Dir::Out, self.segment(Dir::Out, Flags::ACK)));
                }
            }
            Event::Rst { dir } => {
                packets.push((Part::Event, *dir, self.segment(*dir, Flags::RST)));
            }
            Event::Blocked { dir: Dir::Out, .. } => {
                self.incoming.window = 0;
                packets.push((Part::Event, Dir::In, self.segment(Dir::In, Flags::ACK)));
            }
            Event::Unblocked { dir: Dir::Out, .. } => {
                let dir = match self.incoming.window {
                    0 => Dir::In,
                    _ => Dir::Out,
                };
                self.remark(dir, &mut packets);
            }
            Event::Acknowledged => {
                self.acknowledged = true;
                self.remark(Dir::In, &mut packets);
            }
            Event::Closed { .. } => {
                // The peer has acknowledged our FIN, if that was not told before.
                let fin = self.outgoing.fin && self.incoming.acknowledged < self.outgoing.length();
                self.remark(if fin { Dir::In } else { Dir::Out }, &mut packets);
            }
            event => {
                if let Event::Served { instance } = event {
                    self.instance = Some(*instance);
                }
                self.remark(Dir::Out, &mut packets);
            }
        }
        packets
    }

    /// Whether an event is counted already: what came before a connection was described may come
    /// again after it.
    fn has(&self, event: &Event) -> bool {
        let stream = |dir: &Dir| match dir {
            Dir::In => &self.incoming,
            Dir::Out => &self.outgoing,
        };
        match event {
            Event::Data {
                dir,
                length,
                offset,
                ..
            } => offset.saturating_add(*length) <= stream(dir).bytes,
            Event::Fin { dir } => stream(dir).fin,
            _ => false,
        }
    }

    fn shake_hands(&mut self, packets: &mut Packets) {
        let mut syn = self.segment(Dir::In, Flags::SYN);
        syn.sequence = self.incoming.initial;
        syn.acknowledgment = 0;
        let mut answer = self.segment(Dir::Out, Flags::SYN_ACK);
        answer.sequence = self.outgoing.initial;
        packets.push((Part::Event, Dir::In, syn));
        packets.push((Part::Filler, Dir::Out, answer));
        packets.push((Part::Filler, Dir::In, self.segment(Dir::In, Flags::ACK)));
    }

    fn data(&mut self, dir: Dir, offset: u64, length: u64, payload: &[u8], packets: &mut Packets) {
        self.reopen(dir, packets);
        let mut done = 0;
        loop {
            let piece = (length - done).min(LONGEST as u64);
            let at = usize::try_from(done).unwrap_or(usize::MAX);
            let rest = payload.get(at..).unwrap_or_default();
            let known = rest.len().min(usize::try_from(piece).unwrap_or(LONGEST));
            self.stream(dir).bytes = offset.saturating_add(done);
            let mut segment = self.segment(dir, Flags::ACK);
            segment.length = u32::try_from(piece).unwrap_or(u32::MAX);
            segment.payload = rest[..known].to_vec();
            packets.push((Part::Event, dir, segment));
            done += piece;
            self.stream(dir).bytes = offset.saturating_add(done);
            let other = other(dir);
            if self.stream(dir).bytes - self.stream(other).acknowledged.min(self.stream(dir).bytes)
                >= UNACKNOWLEDGED
            {
                packets.push((Part::Filler, other, self.segment(other, Flags::ACK)));
            }
            if done == length {
                break;
            }
        }
    }

    /// A packet that only carries a comment. It announces another window than the packet before,
    /// because a repeated acknowledgment would say that something is lost.
    fn remark(&mut self, dir: Dir, packets: &mut Packets) {
        let stream = self.stream(dir);
        stream.window = match stream.window {
            WINDOW => WINDOW - 1,
            _ => WINDOW,
        };
        packets.push((Part::Event, dir, self.segment(dir, Flags::ACK)));
    }

    /// Announces the peer's window again, where data goes into a window that was full.
    fn reopen(&mut self, dir: Dir, packets: &mut Packets) {
        if dir == Dir::Out && self.incoming.window == 0 {
            self.incoming.window = WINDOW;
            packets.push((Part::Filler, Dir::In, self.segment(Dir::In, Flags::ACK)));
        }
    }

    /// The next segment of a direction, without data. It acknowledges all that came from the other
    /// side.
    fn segment(&mut self, dir: Dir, flags: Flags) -> Segment {
        let (sent, heard) = match dir {
            Dir::In => (&self.incoming, &self.outgoing),
            Dir::Out => (&self.outgoing, &self.incoming),
        };
        let (from, to) = match dir {
            Dir::In => (self.peer, self.local),
            Dir::Out => (self.local, self.peer),
        };
        let segment = Segment {
            from,
            to,
            flags,
            sequence: sent.sequence(sent.length()),
            acknowledgment: heard.sequence(heard.length()),
            window: sent.window,
            length: 0,
            payload: Vec::new(),
        };
        let heard = heard.length();
        self.stream(dir).acknowledged = heard;
        segment
    }

    fn stream(&mut self, dir: Dir) -> &mut Stream {
        match dir {
            Dir::In => &mut self.incoming,
            Dir::Out => &mut self.outgoing,
        }
    }
}

/// The other direction.
fn other(dir: Dir) -> Dir {
    match dir {
        Dir::In => Dir::Out,
        Dir::Out => Dir::In,
    }
}

/// The initial sequence numbers of a connection. They differ from those of another one with the
/// same addresses, so that its SYN is not taken for a repetition.
#[allow(clippy::cast_possible_truncation, reason = "any bits will do")]
fn initials(id: u64) -> (u32, u32) {
    // Fibonacci hashing.
    let mixed = id.wrapping_add(1).wrapping_mul(0x9E37_79B9_7F4A_7C15);
    ((mixed >> 32) as u32, mixed as u32)
}
