//! What waits for a subscriber.

use std::collections::VecDeque;
use std::mem;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};

use bytes::Bytes;
use futures::task::AtomicWaker;

use super::counts::TopicCounts;
use super::limits::{WAITING, WAITING_BYTES};

/// What an [`Inbox`](super::Inbox) delivers.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Delivery {
    /// The subscription is in force: from now on every message is delivered, or counted as
    /// missed. Comes again once the connection to Redis was lost and is back.
    #[non_exhaustive]
    Subscribed {
        /// The topic.
        topic: Arc<str>,
    },
    /// Messages were lost.
    #[non_exhaustive]
    Missed {
        /// Their topic.
        topic: Arc<str>,
        /// How many they are, since the last time.
        count: u64,
    },
    /// A message.
    #[non_exhaustive]
    Message {
        /// Its topic.
        topic: Arc<str>,
        /// What was published.
        payload: Bytes,
        /// Whether the member that has this inbox has published it.
        own: bool,
    },
}

/// A bounded queue of messages. What does not fit displaces the oldest ones.
#[derive(Debug)]
pub(super) struct Queue {
    waiting: Mutex<Waiting>,
    reader: AtomicWaker,
    counts: Arc<TopicCounts>,
}

#[derive(Debug, Default)]
struct Waiting {
    messages: VecDeque<Message>,
    /// The bytes of all messages, with the names of their topics.
    bytes: usize,
    /// What comes before the messages: at most two entries for each topic.
    notes: VecDeque<Delivery>,
}

#[derive(Debug)]
struct Message {
    topic: Arc<str>,
    payload: Bytes,
    own: bool,
}

impl Message {
    fn bytes(&self) -> usize {
        self.topic.len() + self.payload.len()
    }
}

impl Waiting {
    fn is_empty(&self) -> bool {
        self.notes.is_empty() && self.messages.is_empty()
    }

    fn missed(&mut self, missed: &Arc<str>, more: u64) {
        for note in &mut self.notes {
            if let Delivery::Missed { topic, count } = note
                && topic == missed
            {
                *count += more;
                return;
            }
        }
        self.notes.push_back(Delivery::Missed {
            topic: missed.clone(),
            count: more,
        });
    }

    /// Makes room for a message of this many bytes. Returns how many others were displaced.
    fn make_room(&mut self, bytes: usize) -> u64 {
        let mut displaced = 0;
        while self.messages.len() >= WAITING || self.bytes + bytes > WAITING_BYTES {
            let Some(oldest) = self.messages.pop_front() else {
                break;
            };
            self.bytes -= oldest.bytes();
            self.missed(&oldest.topic, 1);
            displaced += 1;
        }
        displaced
    }

    fn pop(&mut self) -> Option<Delivery> {
        if let Some(note) = self.notes.pop_front() {
            return Some(note);
        }
        let message = self.messages.pop_front()?;
        self.bytes -= message.bytes();
        let Message {
            topic,
            payload,
            own,
        } = message;
        Some(Delivery::Message {
            topic,
            payload,
            own,
        })
    }
}

impl Queue {
    pub(super) fn new(counts: Arc<TopicCounts>) -> Self {
        Queue {
            waiting: Mutex::default(),
            reader: AtomicWaker::new(),
            counts,
        }
    }

    /// Adds a message, and displaces the oldest ones if there is no room.
    pub(super) fn push(&self, topic: &Arc<str>, payload: &Bytes, own: bool) {
        let message = Message {
            topic: topic.clone(),
            payload: payload.clone(),
            own,
        };
        self.change(|waiting| {
            let displaced = waiting.make_room(message.bytes());
            self.counts.miss(displaced);
            waiting.bytes += message.bytes();
            waiting.messages.push_back(message);
        });
    }

    /// Reports that a subscription is in force.
    pub(super) fn subscribed(&self, topic: &Arc<str>) {
        let note = Delivery::Subscribed {
            topic: topic.clone(),
        };
        self.change(|waiting| {
            if !waiting.notes.contains(&note) {
                waiting.notes.push_back(note);
            }
        });
    }

    /// Reports that messages of a topic were lost on their way here.
    pub(super) fn missed(&self, topic: &Arc<str>, count: u64) {
        self.counts.miss(count);
        self.change(|waiting| waiting.missed(topic, count));
    }

    /// Discards what waits of a topic.
    pub(super) fn forget(&self, forgotten: &str) {
        let mut waiting = self.lock();
        waiting
            .messages
            .retain(|message| &*message.topic != forgotten);
        waiting.bytes = waiting.messages.iter().map(Message::bytes).sum();
        waiting.notes.retain(|note| match note {
            Delivery::Subscribed { topic } | Delivery::Missed { topic, .. } => {
                &**topic != forgotten
            }
            Delivery::Message { .. } => true,
        });
    }

    /// Waits for the next delivery.
    pub(super) fn poll_next(&self, cx: &Context<'_>) -> Poll<Delivery> {
        match self.poll_ready(cx) {
            Poll::Ready(()) => self.pop().map_or(Poll::Pending, Poll::Ready),
            Poll::Pending => Poll::Pending,
        }
    }

    /// Waits until there is something to deliver.
    pub(super) fn poll_ready(&self, cx: &Context<'_>) -> Poll<()> {
        if !self.lock().is_empty() {
            return Poll::Ready(());
        }
        self.reader.register(cx.waker());
        // What came meanwhile has woken nobody.
        match self.lock().is_empty() {
            true => Poll::Pending,
            false => Poll::Ready(()),
        }
    }

    /// Takes the next delivery, if there is one.
    pub(super) fn pop(&self) -> Option<Delivery> {
        let delivery = self.lock().pop()?;
        if let Delivery::Message { .. } = delivery {
            self.counts.deliver();
        }
        Some(delivery)
    }

    fn change(&self, change: impl FnOnce(&mut Waiting)) {
        let mut waiting = self.lock();
        let was_empty = waiting.is_empty();
        change(&mut waiting);
        let wake = was_empty && !waiting.is_empty();
        drop(waiting);
        if wake {
            self.reader.wake();
        }
    }

    fn lock(&self) -> MutexGuard<'_, Waiting> {
        // No code panics while it holds the lock.
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Queue {
    fn drop(&mut self) {
        let waiting = mem::take(&mut *self.lock());
        self.counts.miss(waiting.messages.len() as u64);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn queue() -> (Queue, Arc<str>) {
        (Queue::new(Arc::default()), Arc::from("t"))
    }

    fn numbers(queue: &Queue) -> Vec<Delivery> {
        std::iter::from_fn(|| queue.pop()).collect()
    }

    #[test]
    fn the_oldest_messages_make_room_and_are_counted_first() {
        let (queue, topic) = queue();
        for number in 0..WAITING + 3 {
            queue.push(&topic, &Bytes::from(number.to_string()), false);
        }
        let all = numbers(&queue);
        let missed = Delivery::Missed {
            topic: topic.clone(),
            count: 3,
        };
        assert_eq!(all[0], missed);
        assert_eq!(all.len(), 1 + WAITING);
        for (number, delivery) in (3..).zip(&all[1..]) {
            let payload = Bytes::from(number.to_string());
            let message = Delivery::Message {
                topic: topic.clone(),
                payload,
                own: false,
            };
            assert_eq!(*delivery, message);
        }
        assert_eq!(queue.counts.missed(), 3);
        assert_eq!(queue.counts.delivered(), WAITING as u64);
    }

    #[test]
    fn bytes_are_limited_as_well() {
        let (queue, topic) = queue();
        let payload = Bytes::from(vec![0; crate::topics::PAYLOAD]);
        for _ in 0..100 {
            queue.push(&topic, &payload, true);
            assert!(queue.lock().bytes <= WAITING_BYTES);
        }
        let kept = queue.lock().messages.len();
        assert_eq!(kept, WAITING_BYTES / (payload.len() + topic.len()));
        assert_eq!(queue.counts.missed(), 100 - kept as u64);
    }

    #[test]
    fn nothing_of_a_topic_comes_once_it_is_forgotten() {
        let (queue, topic) = queue();
        let other: Arc<str> = Arc::from("other");
        for topic in [&topic, &other] {
            queue.subscribed(topic);
            queue.missed(topic, 1);
            queue.push(topic, &Bytes::from_static(b"x"), false);
        }
        queue.forget(&topic);
        let left = numbers(&queue);
        assert_eq!(left.len(), 3);
        assert!(!format!("{left:?}").contains("\"t\""), "{left:?}");
        assert_eq!(queue.lock().bytes, 0);
    }
}
