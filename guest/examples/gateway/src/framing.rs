//! How messages are told apart on the wire: lines, or a length before each.
//!
//! The first byte decides. A length has two bytes, the high one first, and is at most 512: so its
//! first byte is no letter.

use halfopen_guest::LineBuffer;

/// The most bytes of a message.
const MOST: usize = 512;

/// What a device has sent, and how it tells messages apart.
pub(crate) struct Framing {
    kind: Option<Kind>,
    lines: LineBuffer,
    bytes: Vec<u8>,
}

/// How messages are told apart.
#[derive(Clone, Copy)]
pub(crate) enum Kind {
    Lines,
    Lengths,
}

impl Kind {
    /// Makes of a message what is sent.
    pub(crate) fn frame(self, text: &str) -> Vec<u8> {
        match self {
            Kind::Lines => format!("{text}\n").into_bytes(),
            Kind::Lengths => [&(text.len() as u16).to_be_bytes()[..], text.as_bytes()].concat(),
        }
    }
}

impl Framing {
    pub(crate) fn new() -> Self {
        Framing {
            kind: None,
            lines: LineBuffer::new().limit(MOST),
            bytes: Vec::new(),
        }
    }

    pub(crate) fn kind(&self) -> Kind {
        self.kind.unwrap_or(Kind::Lines)
    }

    /// Adds what was received.
    pub(crate) fn push(&mut self, chunk: &[u8]) {
        let kind = match chunk.first() {
            Some(0..=2) => Kind::Lengths,
            _ => Kind::Lines,
        };
        match self.kind.get_or_insert(kind) {
            Kind::Lines => self.lines.push(chunk),
            Kind::Lengths => self.bytes.extend_from_slice(chunk),
        }
    }

    /// Returns the next message, if there is a whole one.
    pub(crate) fn next(&mut self) -> Option<Result<String, String>> {
        match self.kind? {
            Kind::Lines => {
                let line = self.lines.next_line()?;
                Some(line.map_err(|_| "the message is too long".to_owned()))
            }
            Kind::Lengths => {
                let (length, rest) = self.bytes.split_first_chunk::<2>()?;
                let length = usize::from(u16::from_be_bytes(*length));
                if length > MOST {
                    return Some(Err("the message is too long".to_owned()));
                }
                let text = rest.get(..length)?.to_vec();
                self.bytes.drain(..2 + length);
                Some(String::from_utf8(text).map_err(|_| "the message is not UTF-8".to_owned()))
            }
        }
    }
}
