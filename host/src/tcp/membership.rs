//! A guest as a member of topics.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::topics::Member;

/// What the guest of a store has to do with topics.
#[derive(Debug, Default)]
pub(super) struct Membership {
    /// `None`: it may not use them.
    member: Option<Member>,
    /// How many deliveries its streams have passed to it.
    moved: Arc<AtomicU64>,
}

impl Membership {
    pub(super) fn new(member: Option<Member>) -> Self {
        Membership {
            member,
            moved: Arc::default(),
        }
    }

    /// `None` if the guest may not use topics.
    pub(super) fn member(&self) -> Option<Member> {
        self.member.clone()
    }

    /// Counts deliveries.
    pub(super) fn counter(&self) -> Arc<AtomicU64> {
        self.moved.clone()
    }

    /// How many deliveries streams have passed to the guest.
    pub(super) fn moved(&self) -> u64 {
        self.moved.load(Ordering::Relaxed)
    }
}
