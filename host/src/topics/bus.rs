//! Who has subscribed to what, and the way of a message to them.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use tokio_util::sync::DropGuard;

use super::frame::{Frame, Heard};
use super::limits::TopicError;
use super::outbox::Outbox;
use super::queue::Queue;

/// Connects the members of this process.
#[derive(Debug, Default)]
pub(super) struct Bus {
    topics: Mutex<Topics>,
    members: AtomicU64,
    /// What connects them with other processes.
    remote: Option<Remote>,
}

type Topics = HashMap<Arc<str>, Topic>;

/// The connection with other processes, as this one sees it.
#[derive(Debug)]
pub(super) struct Remote {
    pub(super) outbox: Arc<Outbox>,
    /// Ends the task that keeps the connection.
    pub(super) _end: DropGuard,
}

/// A topic that somebody here has subscribed to.
#[derive(Debug)]
struct Topic {
    /// Whether the messages of all publishers arrive here.
    in_force: bool,
    subscribers: Vec<Subscriber>,
    /// What was heard from other processes.
    heard: Heard,
}

#[derive(Debug)]
struct Subscriber {
    member: u64,
    queue: Arc<Queue>,
}

impl Bus {
    pub(super) fn local() -> Self {
        Bus::default()
    }

    pub(super) fn with(remote: Remote) -> Self {
        Bus {
            remote: Some(remote),
            ..Bus::default()
        }
    }

    pub(super) fn next_member(&self) -> u64 {
        self.members.fetch_add(1, Ordering::Relaxed)
    }

    /// Gives a message to all subscribers, and to the other processes.
    ///
    /// The lock is held meanwhile, so that all subscribers here get all messages in the same
    /// order. Nothing waits under it.
    ///
    /// # Errors
    /// [`TopicError::Unavailable`]; nobody gets the message then.
    pub(super) fn publish(
        &self,
        member: u64,
        name: &str,
        payload: &Bytes,
    ) -> Result<(), TopicError> {
        let topics = self.lock();
        if let Some(remote) = &self.remote {
            remote.outbox.add(name, payload)?;
        }
        if let Some((name, topic)) = topics.get_key_value(name) {
            for subscriber in &topic.subscribers {
                let own = subscriber.member == member;
                subscriber.queue.push(name, payload, own);
            }
        }
        Ok(())
    }

    pub(super) fn subscribe(&self, name: Arc<str>, member: u64, queue: Arc<Queue>) {
        let mut topics = self.lock();
        let topic = topics.entry(name.clone()).or_insert_with(|| Topic {
            in_force: self.remote.is_none(),
            subscribers: Vec::new(),
            heard: Heard::default(),
        });
        if topic.in_force {
            queue.subscribed(&name);
        }
        topic.subscribers.push(Subscriber { member, queue });
        let is_new = topic.subscribers.len() == 1;
        drop(topics);
        if is_new {
            self.changed();
        }
    }

    pub(super) fn unsubscribe(&self, name: &str, queue: &Arc<Queue>) {
        let mut topics = self.lock();
        let Some(topic) = topics.get_mut(name) else {
            return;
        };
        let subscribers = &mut topic.subscribers;
        subscribers.retain(|subscriber| !Arc::ptr_eq(&subscriber.queue, queue));
        if subscribers.is_empty() {
            topics.remove(name);
            drop(topics);
            self.changed();
        }
    }

    /// Wakes the task that subscribes with other processes.
    fn changed(&self) {
        if let Some(remote) = &self.remote {
            remote.outbox.topics_changed();
        }
    }

    // --- What the connection with other processes calls ----------------------------

    /// The topics that somebody here has subscribed to.
    pub(super) fn names(&self) -> Vec<Arc<str>> {
        self.lock().keys().cloned().collect()
    }

    /// Records that the messages of other processes arrive from now on.
    pub(super) fn in_force(&self, names: &[Arc<str>]) {
        let mut topics = self.lock();
        for name in names {
            if let Some(topic) = topics.get_mut(name)
                && !topic.in_force
            {
                topic.in_force = true;
                for subscriber in &topic.subscribers {
                    subscriber.queue.subscribed(name);
                }
            }
        }
    }

    /// Records that no messages of other processes arrive any more.
    pub(super) fn lost(&self) {
        for topic in self.lock().values_mut() {
            topic.in_force = false;
        }
    }

    /// Delivers a message of another process.
    pub(super) fn heard(&self, name: &str, frame: &Frame) {
        let mut topics = self.lock();
        let Some(name) = topics.get_key_value(name).map(|(name, _)| name.clone()) else {
            return;
        };
        let Some(topic) = topics.get_mut(&name) else {
            return;
        };
        let Some(missed) = topic.heard.number(frame.sender, frame.number) else {
            return; // it was here before
        };
        for Subscriber { queue, .. } in &topic.subscribers {
            if missed > 0 {
                queue.missed(&name, missed);
            }
            queue.push(&name, &frame.payload, false);
        }
    }

    fn lock(&self) -> MutexGuard<'_, Topics> {
        // No code panics while it holds the lock.
        self.topics.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
