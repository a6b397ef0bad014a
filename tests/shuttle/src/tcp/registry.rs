//! A set of connections that counts them.

use std::fmt;
use std::net::SocketAddr;
use std::time::Instant;

use super::activity::Activity;
use super::sync::atomic::{AtomicU64, Ordering};
use super::sync::{Arc, Weak};
use super::{Ending, Timeouts};
use crate::events::{Connection, Track};

/// A connection as its registries see it.
pub(super) trait Member: fmt::Debug + Send + Sync {
    fn count(&self, traffic: &mut Traffic);
    fn activity(&self) -> Option<Activity>;
    fn abort(&self, ending: Ending);
    fn track(&self) -> Option<&Track>;
    fn peer(&self) -> Option<SocketAddr>;
    fn look(&self);
    fn seen(&self) -> Option<Connection>;
    fn enforce(&self, timeouts: &Timeouts, now: Instant);
}

#[derive(Clone, Debug, Default)]
pub(crate) struct Registry(Arc<AtomicU64>);

#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Traffic {
    pub(crate) open: usize,
    pub(crate) half_open: usize,
    pub(crate) closing: usize,
    pub(crate) received: u64,
    pub(crate) sent: u64,
}

#[derive(Debug)]
pub(super) struct Registration(Registry);

impl Registry {
    pub(super) fn register(&self, _: Weak<dyn Member>) -> Registration {
        self.0.fetch_add(1, Ordering::SeqCst);
        Registration(self.clone())
    }

    pub(super) fn count_transfer(&self) {}

    pub(crate) fn len(&self) -> u64 {
        self.0.load(Ordering::SeqCst)
    }
}

impl Drop for Registration {
    fn drop(&mut self) {
        self.0.0.fetch_sub(1, Ordering::SeqCst);
    }
}
