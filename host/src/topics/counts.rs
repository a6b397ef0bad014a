//! Counts what happens on topics.

use std::sync::atomic::{AtomicU64, Ordering};

/// What has happened on topics, for those that were counted together.
#[derive(Debug, Default)]
pub struct TopicCounts {
    published: AtomicU64,
    delivered: AtomicU64,
    missed: AtomicU64,
}

impl TopicCounts {
    /// The number of messages that were published here.
    #[must_use]
    pub fn published(&self) -> u64 {
        self.published.load(Ordering::Relaxed)
    }

    /// The number of messages that subscribers here have taken. A message counts once for each
    /// of them.
    #[must_use]
    pub fn delivered(&self) -> u64 {
        self.delivered.load(Ordering::Relaxed)
    }

    /// The number of messages that subscribers here have missed: because they were slow, or
    /// because the connection to Redis was lost.
    #[must_use]
    pub fn missed(&self) -> u64 {
        self.missed.load(Ordering::Relaxed)
    }

    pub(super) fn publish(&self) {
        self.published.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn deliver(&self) {
        self.delivered.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn miss(&self, messages: u64) {
        self.missed.fetch_add(messages, Ordering::Relaxed);
    }
}
