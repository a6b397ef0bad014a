//! Those that take part: members, and the inboxes in which they receive.

use std::collections::HashSet;
use std::fmt;
use std::future::poll_fn;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll};

use bytes::Bytes;

use super::bus::Bus;
use super::counts::TopicCounts;
use super::limits::{PAYLOAD, SUBSCRIPTIONS, TopicError, check_name};
use super::queue::{Delivery, Queue};

/// A publisher and subscriber of topics, such as an instance of a service. A clone is the same.
#[derive(Clone)]
pub struct Member {
    bus: Arc<Bus>,
    counts: Arc<TopicCounts>,
    number: u64,
    subscriptions: Arc<AtomicUsize>,
}

impl Member {
    pub(super) fn new(bus: Arc<Bus>, counts: Arc<TopicCounts>) -> Self {
        Member {
            number: bus.next_member(),
            bus,
            counts,
            subscriptions: Arc::default(),
        }
    }

    /// Sends a message to all who have subscribed to a topic, this member included. Returns at
    /// once.
    ///
    /// # Errors
    /// [`TopicError::InvalidTopic`], [`TopicError::TooLarge`] and [`TopicError::Unavailable`].
    pub fn publish(&self, topic: &str, payload: Bytes) -> Result<(), TopicError> {
        check_name(topic)?;
        if payload.len() > PAYLOAD {
            return Err(TopicError::TooLarge);
        }
        self.bus.publish(self.number, topic, &payload)?;
        self.counts.publish();
        Ok(())
    }

    /// Returns an inbox without subscriptions.
    #[must_use]
    pub fn inbox(&self) -> Inbox {
        Inbox {
            member: self.clone(),
            topics: HashSet::new(),
            queue: Arc::new(Queue::new(self.counts.clone())),
        }
    }

    fn take_subscription(&self) -> Result<(), TopicError> {
        let more = |now: usize| (now < SUBSCRIPTIONS).then_some(now + 1);
        let taken = self
            .subscriptions
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, more);
        taken.map(drop).map_err(|_| TopicError::TooMany)
    }

    fn give_back(&self, subscriptions: usize) {
        self.subscriptions
            .fetch_sub(subscriptions, Ordering::Relaxed);
    }
}

/// Receives the messages of the topics to which it is subscribed. Dropping it ends its
/// subscriptions.
///
/// [`WAITING`](super::WAITING) messages and [`WAITING_BYTES`](super::WAITING_BYTES) wait in it.
/// Beyond that the oldest are lost, and counted by [`Delivery::Missed`], which comes before the
/// next message.
pub struct Inbox {
    member: Member,
    topics: HashSet<Arc<str>>,
    queue: Arc<Queue>,
}

impl Inbox {
    /// Subscribes to a topic; the second time, it has no effect.
    ///
    /// # Errors
    /// [`TopicError::InvalidTopic`] and [`TopicError::TooMany`].
    pub fn subscribe(&mut self, topic: &str) -> Result<(), TopicError> {
        check_name(topic)?;
        if self.topics.contains(topic) {
            return Ok(());
        }
        self.member.take_subscription()?;
        let topic: Arc<str> = Arc::from(topic);
        self.topics.insert(topic.clone());
        self.member
            .bus
            .subscribe(topic, self.member.number, self.queue.clone());
        Ok(())
    }

    /// Ends a subscription, and discards what waits of it.
    pub fn unsubscribe(&mut self, topic: &str) {
        if self.topics.remove(topic) {
            self.member.bus.unsubscribe(topic, &self.queue);
            self.queue.forget(topic);
            self.member.give_back(1);
        }
    }

    /// Waits for the next delivery. May be dropped and called again.
    pub async fn next(&mut self) -> Delivery {
        poll_fn(|cx| self.poll_next(cx)).await
    }

    /// Waits for the next delivery.
    pub fn poll_next(&mut self, cx: &Context<'_>) -> Poll<Delivery> {
        self.queue.poll_next(cx)
    }

    /// Waits until there is a delivery.
    pub(crate) fn poll_ready(&self, cx: &Context<'_>) -> Poll<()> {
        self.queue.poll_ready(cx)
    }

    /// Takes the next delivery, if there is one.
    pub(crate) fn take(&mut self) -> Option<Delivery> {
        self.queue.pop()
    }
}

impl Drop for Inbox {
    fn drop(&mut self) {
        for topic in &self.topics {
            self.member.bus.unsubscribe(topic, &self.queue);
        }
        self.member.give_back(self.topics.len());
    }
}

impl fmt::Debug for Member {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Member")
            .field("number", &self.number)
            .finish_non_exhaustive()
    }
}

impl fmt::Debug for Inbox {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Inbox")
            .field("topics", &self.topics)
            .finish_non_exhaustive()
    }
}
