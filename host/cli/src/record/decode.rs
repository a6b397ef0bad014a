//! The events of a recording.

use std::collections::{HashMap, VecDeque};
use std::io::{self, Read};
use std::net::SocketAddr;

use super::clock;
use super::encode::APPLICATION;
use super::foreign::Foreign;
use super::pcapng::{Block, Reader};
use super::segment::Segment;
use crate::watch::json::{At, Dir, Direction, Event, Line, Payload};

/// Connections of one section that are known at the same time.
const MOST: usize = 100_000;
/// Bytes of one event. Its packets come one after the other, and there are few.
const LONGEST: usize = 16 << 20;

/// Reads the events of a recording; of a capture by another program, what its packets tell.
#[derive(Debug)]
pub(crate) struct Decoder<R> {
    blocks: Reader<R>,
    /// The time of [`At`] 0 in the current section, in microseconds since 1970.
    began: u64,
    /// Whether the current section was written by [`super::Encoder`].
    own: bool,
    streams: HashMap<(SocketAddr, SocketAddr), Known>,
    foreign: Foreign,
    /// An event of which more packets may come.
    pending: Option<Line>,
    ready: VecDeque<Line>,
}

/// A connection whose addresses a comment has told.
#[derive(Clone, Copy, Debug)]
struct Known {
    id: u64,
    incoming: Counted,
    outgoing: Counted,
}

/// The place in one direction.
#[derive(Clone, Copy, Debug)]
struct Counted {
    /// The sequence number of SYN.
    initial: u32,
    bytes: u64,
}

impl<R: Read> Decoder<R> {
    /// Begins to read a file.
    ///
    /// # Errors
    /// If it cannot be read, or is in another format.
    pub(crate) fn new(file: R) -> io::Result<Self> {
        Ok(Decoder {
            blocks: Reader::new(file)?,
            began: 0,
            own: false,
            streams: HashMap::new(),
            foreign: Foreign::default(),
            pending: None,
            ready: VecDeque::new(),
        })
    }

    /// Returns the next event; `None` at the end of the file.
    ///
    /// # Errors
    /// If the file cannot be read, or is damaged.
    pub(crate) fn next(&mut self) -> io::Result<Option<Line>> {
        loop {
            if let Some(line) = self.ready.pop_front() {
                return Ok(Some(line));
            }
            match self.blocks.next()? {
                Some(block) => self.take(block),
                None => {
                    self.settle();
                    return Ok(self.ready.pop_front());
                }
            }
        }
    }

    fn take(&mut self, block: Block) {
        match block {
            Block::Section {
                application,
                comments,
            } => {
                self.settle();
                self.own = application.starts_with(APPLICATION);
                self.streams.clear();
                let hello = comments.iter().find_map(|comment| line(comment));
                if let Some(Line {
                    event: Event::Hello { began, .. },
                    ..
                }) = &hello
                {
                    self.began = clock::parse(began).unwrap_or_default();
                }
                match hello {
                    Some(hello) => self.ready.push_back(hello),
                    None => self.foreign = Foreign::default(),
                }
            }
            Block::Statistics { comments, .. } => {
                self.settle();
                self.ready
                    .extend(comments.iter().find_map(|comment| line(comment)));
            }
            Block::Packet {
                at,
                link,
                data,
                original,
                number,
                comments,
            } => {
                let Some(segment) = Segment::parse(link, &data, original) else {
                    return;
                };
                if !self.own {
                    self.ready.extend(self.foreign.take(at, segment));
                    return;
                }
                match comments.iter().find_map(|comment| line(comment)) {
                    Some(line) => {
                        self.settle();
                        self.learn(&line, &segment);
                        self.ready.push_back(line);
                    }
                    None => self.derive(at, number, segment),
                }
            }
        }
    }

    /// Takes what a comment tells of a connection.
    fn learn(&mut self, line: &Line, segment: &Segment) {
        let Some(id) = line.id else {
            return;
        };
        let known = match &line.event {
            Event::Accepted { .. } => Known {
                id,
                incoming: Counted {
                    initial: segment.sequence,
                    bytes: 0,
                },
                // Its first packet follows.
                outgoing: Counted {
                    initial: 0,
                    bytes: 0,
                },
            },
            Event::Connection {
                received,
                sent,
                incoming,
                outgoing,
                ..
            } => Known {
                id,
                incoming: Counted::at(segment.acknowledgment, *received, *incoming),
                outgoing: Counted::at(segment.sequence, *sent, *outgoing),
            },
            Event::Closed { .. } => {
                let way = (segment.from, segment.to);
                self.streams.remove(&way);
                self.streams.remove(&(way.1, way.0));
                return;
            }
            _ => return,
        };
        let (peer, local) = match line.event {
            Event::Accepted { .. } => (segment.from, segment.to),
            _ => (segment.to, segment.from),
        };
        if self.streams.len() < MOST || self.streams.contains_key(&(peer, local)) {
            self.streams.insert((peer, local), known);
        }
    }

    /// Takes a packet that says itself what happened.
    fn derive(&mut self, at: u64, number: Option<u64>, segment: Segment) {
        let way = (segment.from, segment.to);
        let (dir, known) = match self.streams.get_mut(&way) {
            Some(known) => (Dir::In, known),
            None => match self.streams.get_mut(&(way.1, way.0)) {
                Some(known) => (Dir::Out, known),
                None => return,
            },
        };
        let id = known.id;
        let counted = match dir {
            Dir::In => &mut known.incoming,
            Dir::Out => &mut known.outgoing,
        };
        if segment.flags.syn {
            counted.initial = segment.sequence;
            return;
        }
        if number.is_none() {
            return;
        }
        let event = if segment.flags.rst {
            Event::Rst { dir }
        } else if segment.flags.fin {
            Event::Fin { dir }
        } else {
            let offset = counted.offset(segment.sequence);
            counted.bytes = offset.saturating_add(segment.length.into());
            if self.continues(number, &segment) {
                return;
            }
            let payload = (!segment.payload.is_empty()).then_some(segment.payload);
            Event::Data {
                dir,
                length: segment.length.into(),
                offset,
                payload: payload.map(Payload),
                cut: false,
            }
        };
        self.settle();
        self.pending = Some(Line {
            event,
            seq: number,
            at: Some(At(at.saturating_sub(self.began))),
            id: Some(id),
        });
    }

    /// Adds a packet to the event that it belongs to, if it is not the first of its event.
    fn continues(&mut self, number: Option<u64>, segment: &Segment) -> bool {
        let Some(Line {
            event: Event::Data {
                length, payload, ..
            },
            seq,
            ..
        }) = &mut self.pending
        else {
            return false;
        };
        if *seq != number {
            return false;
        }
        if let Some(Payload(bytes)) = payload
            && bytes.len() as u64 == *length
            && bytes.len() < LONGEST
        {
            bytes.extend(&segment.payload);
        }
        *length += u64::from(segment.length);
        true
    }

    /// Finishes the event whose packets have come.
    fn settle(&mut self) {
        let Some(mut line) = self.pending.take() else {
            return;
        };
        finish(&mut line);
        self.ready.push_back(line);
    }
}

/// Notes whether the payload is all there is.
fn finish(line: &mut Line) {
    if let Event::Data {
        length,
        payload: Some(Payload(bytes)),
        cut,
        ..
    } = &mut line.event
    {
        *cut = (bytes.len() as u64) < *length;
    }
}

impl Counted {
    /// Where a stream of so many bytes is at this sequence number.
    #[allow(clippy::cast_possible_truncation, reason = "sequence numbers wrap")]
    fn at(sequence: u32, bytes: u64, state: Direction) -> Self {
        let fin = u32::from(state == Direction::Ended);
        Counted {
            initial: sequence
                .wrapping_sub(1)
                .wrapping_sub(bytes as u32)
                .wrapping_sub(fin),
            bytes,
        }
    }

    /// The byte that has a sequence number: of all that could have it, the one nearest to what
    /// has come so far.
    #[allow(
        clippy::cast_possible_truncation,
        clippy::cast_possible_wrap,
        reason = "sequence numbers wrap"
    )]
    fn offset(&self, sequence: u32) -> u64 {
        let expected = self.initial.wrapping_add(1).wrapping_add(self.bytes as u32);
        let distance = sequence.wrapping_sub(expected) as i32;
        self.bytes.saturating_add_signed(distance.into())
    }
}

/// Reads a comment that is a line of JSON.
fn line(comment: &str) -> Option<Line> {
    comment
        .starts_with('{')
        .then(|| serde_json::from_str(comment).ok())?
}
