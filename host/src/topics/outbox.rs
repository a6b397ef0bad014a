//! What waits to be published to other processes.

use std::collections::{HashMap, VecDeque};
use std::hash::{BuildHasher, RandomState};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use tokio::sync::Notify;

use super::frame::{Frame, HEAD, Sender};
use super::limits::TopicError;

/// The most messages that wait for the broker, and the most bytes of them.
const WAITING: usize = 8192;
const WAITING_BYTES: usize = 8 << 20;

/// For how many topics the numbers of messages are remembered.
const NUMBERED: usize = 4096;

/// The messages that the broker has not taken.
#[derive(Debug)]
pub(super) struct Outbox {
    process: u64,
    waiting: Mutex<Waiting>,
    /// Wakes the task that publishes.
    added: Notify,
    /// Wakes the task that subscribes.
    changed: Notify,
}

#[derive(Debug, Default)]
struct Waiting {
    messages: VecDeque<Outgoing>,
    bytes: usize,
    senders: HashMap<Arc<str>, Numbers>,
    begun: u64,
    published: u64,
}

/// The numbers of a sender.
#[derive(Debug)]
struct Numbers {
    sender: Sender,
    last: u64,
    /// When it last published.
    used: u64,
}

/// A message, and its topic.
#[derive(Clone, Debug)]
pub(super) struct Outgoing {
    pub(super) topic: Arc<str>,
    pub(super) frame: Bytes,
}

impl Outgoing {
    fn bytes(&self) -> usize {
        self.topic.len() + self.frame.len()
    }
}

impl Waiting {
    /// Returns the sender of a topic, and the number of its next message.
    fn number(&mut self, process: u64, topic: &str) -> (Arc<str>, Sender, u64) {
        self.published += 1;
        let used = self.published;
        if !self.senders.contains_key(topic) {
            if self.senders.len() >= NUMBERED {
                let oldest = self.senders.iter().min_by_key(|(_, numbers)| numbers.used);
                let oldest = oldest.map(|(topic, _)| topic.clone());
                oldest.and_then(|oldest| self.senders.remove(&oldest));
            }
            self.begun += 1;
            let begun = self.begun;
            let sender = Sender { process, begun };
            let numbers = Numbers {
                sender,
                last: 0,
                used,
            };
            self.senders.insert(Arc::from(topic), numbers);
        }
        let known = self.senders.get_key_value(topic);
        let topic = known.map_or_else(|| Arc::from(topic), |(topic, _)| topic.clone());
        let numbers = self.senders.entry(topic.clone()).or_insert(Numbers {
            sender: Sender { process, begun: 0 },
            last: 0,
            used,
        });
        numbers.last += 1;
        numbers.used = used;
        (topic, numbers.sender, numbers.last)
    }
}

impl Outbox {
    pub(super) fn new() -> Self {
        Outbox {
            // The keys of a hasher are random.
            process: RandomState::new().hash_one(std::process::id()),
            waiting: Mutex::default(),
            added: Notify::new(),
            changed: Notify::new(),
        }
    }

    /// Adds a message.
    ///
    /// # Errors
    /// [`TopicError::Unavailable`] if there is no room.
    pub(super) fn add(&self, topic: &str, payload: &Bytes) -> Result<(), TopicError> {
        let mut waiting = self.lock();
        let bytes = topic.len() + HEAD + payload.len();
        if waiting.messages.len() >= WAITING || waiting.bytes + bytes > WAITING_BYTES {
            return Err(TopicError::Unavailable);
        }
        let (topic, sender, number) = waiting.number(self.process, topic);
        let frame = Frame {
            sender,
            number,
            payload: payload.clone(),
        };
        let frame = frame.encode();
        waiting.messages.push_back(Outgoing { topic, frame });
        waiting.bytes += bytes;
        drop(waiting);
        self.added.notify_one();
        Ok(())
    }

    /// Returns whether this process has published a message.
    pub(super) fn is_own(&self, frame: &Frame) -> bool {
        frame.sender.process == self.process
    }

    /// Waits for messages, and returns the first ones, at most so many. They stay until
    /// [`sent`](Self::sent).
    pub(super) async fn first(&self, most: usize) -> Vec<Outgoing> {
        loop {
            let first: Vec<_> = self.lock().messages.iter().take(most).cloned().collect();
            if !first.is_empty() {
                return first;
            }
            self.added.notified().await;
        }
    }

    /// Removes the first messages.
    pub(super) fn sent(&self, messages: usize) {
        let mut waiting = self.lock();
        let sent: usize = waiting.messages.drain(..messages).map(|m| m.bytes()).sum();
        waiting.bytes -= sent;
    }

    /// Records that the topics with subscribers have changed.
    pub(super) fn topics_changed(&self) {
        self.changed.notify_one();
    }

    /// Waits until the topics with subscribers have changed.
    pub(super) async fn changed(&self) {
        self.changed.notified().await;
    }

    fn lock(&self) -> MutexGuard<'_, Waiting> {
        // No code panics while it holds the lock.
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn messages_are_numbered_by_topic_and_stay_until_they_are_sent() {
        let outbox = Outbox::new();
        for topic in ["a", "b", "a"] {
            outbox.add(topic, &Bytes::from_static(b"x")).unwrap();
        }
        for most in [3, 3] {
            let first = outbox.first(most).await;
            let numbers: Vec<_> = first
                .iter()
                .map(|message| Frame::decode(&message.frame).unwrap().number)
                .collect();
            assert_eq!(numbers, [1, 1, 2]);
        }
        outbox.sent(3);
        assert_eq!(outbox.lock().bytes, 0);
        assert!(outbox.lock().messages.is_empty());
    }

    #[test]
    fn only_so_much_waits() {
        let outbox = Outbox::new();
        let payload = Bytes::from(vec![0; crate::topics::PAYLOAD]);
        let added = (0..1000).take_while(|_| outbox.add("t", &payload).is_ok());
        assert!((100..128).contains(&added.count()));
        let small = Bytes::new();
        assert_eq!(outbox.add("t", &payload), Err(TopicError::Unavailable));
        outbox.add("t", &small).unwrap();
    }

    #[test]
    fn a_topic_that_was_forgotten_begins_anew() {
        let mut waiting = Waiting::default();
        let (_, first, _) = waiting.number(1, "first");
        for number in 0..NUMBERED {
            waiting.number(1, &number.to_string());
        }
        assert_eq!(waiting.senders.len(), NUMBERED);
        let (_, again, number) = waiting.number(1, "first");
        assert_ne!(first, again);
        assert_eq!(number, 1);
    }
}
