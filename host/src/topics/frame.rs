//! A message on its way to other processes, and what was heard from them.

use std::collections::HashMap;

use bytes::{Buf, BufMut, Bytes, BytesMut};

use super::limits::PAYLOAD;

/// How a message begins, in the first version of the format.
const MAGIC: &[u8; 4] = b"hop1";
/// The bytes before the payload.
pub(super) const HEAD: usize = MAGIC.len() + 16 + 8;

/// Who numbers messages: a process, for one topic. The process numbers its senders, because it
/// may forget one, and begins with a new one then.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Sender {
    pub(super) process: u64,
    pub(super) begun: u64,
}

/// A message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Frame {
    pub(super) sender: Sender,
    /// Its number among those of its sender, from 1.
    pub(super) number: u64,
    pub(super) payload: Bytes,
}

impl Frame {
    pub(super) fn encode(&self) -> Bytes {
        let mut bytes = BytesMut::with_capacity(HEAD + self.payload.len());
        bytes.put_slice(MAGIC);
        bytes.put_u64(self.sender.process);
        bytes.put_u64(self.sender.begun);
        bytes.put_u64(self.number);
        bytes.put_slice(&self.payload);
        bytes.freeze()
    }

    /// Reads a message; `None` if somebody else has published it.
    pub(super) fn decode(bytes: &[u8]) -> Option<Self> {
        let mut rest = bytes.strip_prefix(MAGIC)?;
        let sender = Sender {
            process: rest.try_get_u64().ok()?,
            begun: rest.try_get_u64().ok()?,
        };
        let number = rest.try_get_u64().ok()?;
        let payload = Bytes::copy_from_slice(rest);
        let fits = payload.len() <= PAYLOAD;
        fits.then_some(Frame {
            sender,
            number,
            payload,
        })
    }
}

/// How many senders of a topic are remembered. Beyond that, the one that was silent for longest
/// is forgotten: what it sends next counts as its first message.
const SENDERS: usize = 1024;

/// The last numbers that were heard of a topic.
#[derive(Debug, Default)]
pub(super) struct Heard {
    /// The last number of a sender, and when it came.
    senders: HashMap<Sender, (u64, u64)>,
    heard: u64,
}

impl Heard {
    /// Records the number of a message. Returns how many before it are missing, and `None` if
    /// the message was heard before.
    pub(super) fn number(&mut self, sender: Sender, number: u64) -> Option<u64> {
        self.heard += 1;
        let now = self.heard;
        if let Some((last, when)) = self.senders.get_mut(&sender) {
            let missing = number.checked_sub(*last)?.checked_sub(1)?;
            (*last, *when) = (number, now);
            return Some(missing);
        }
        if self.senders.len() >= SENDERS {
            let oldest = self.senders.iter().min_by_key(|(_, (_, when))| *when);
            let oldest = oldest.map(|(&sender, _)| sender);
            oldest.and_then(|oldest| self.senders.remove(&oldest));
        }
        self.senders.insert(sender, (number, now));
        Some(0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sender(begun: u64) -> Sender {
        Sender { process: 7, begun }
    }

    #[test]
    fn a_message_is_read_as_it_was_written() {
        for payload in [&b""[..], b"hello", &[0; 65_536]] {
            let frame = Frame {
                sender: sender(u64::MAX),
                number: 3,
                payload: Bytes::new(),
            };
            let frame = Frame {
                payload: Bytes::copy_from_slice(payload),
                ..frame
            };
            assert_eq!(Frame::decode(&frame.encode()), Some(frame));
        }
    }

    #[test]
    fn what_others_publish_is_no_message() {
        let frame = Frame {
            sender: sender(1),
            number: 1,
            payload: Bytes::from(vec![0; PAYLOAD + 1]),
        };
        let long = frame.encode();
        for bytes in [&b""[..], b"hop1", b"hello", &long[..HEAD - 1], &long] {
            assert_eq!(Frame::decode(bytes), None, "{} bytes", bytes.len());
        }
    }

    #[test]
    fn gaps_are_counted_and_nothing_comes_twice() {
        let mut heard = Heard::default();
        // Nobody knows what came before the first message.
        assert_eq!(heard.number(sender(1), 10), Some(0));
        assert_eq!(heard.number(sender(1), 11), Some(0));
        assert_eq!(heard.number(sender(1), 11), None);
        assert_eq!(heard.number(sender(1), 10), None);
        assert_eq!(heard.number(sender(1), 15), Some(3));
        assert_eq!(heard.number(sender(2), 1), Some(0));
        assert_eq!(heard.number(sender(1), 16), Some(0));
    }

    #[test]
    fn a_silent_sender_is_forgotten_first() {
        let mut heard = Heard::default();
        for begun in 0..SENDERS as u64 {
            heard.number(sender(begun), 1);
        }
        heard.number(sender(0), 2);
        heard.number(sender(9999), 1);
        assert_eq!(heard.senders.len(), SENDERS);
        assert_eq!(heard.number(sender(0), 2), None);
        assert_eq!(heard.number(sender(1), 1), Some(0));
    }
}
