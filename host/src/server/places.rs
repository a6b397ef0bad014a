//! The places that a connection takes up, and gives back when it has ended.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::sync::{Notify, OwnedSemaphorePermit};

use super::peers::PeerPlace;

/// The places of one connection. Dropping them gives them back.
#[derive(Debug, Default)]
pub(super) struct Places {
    /// The place among all connections of the server.
    pub(super) permit: Option<OwnedSemaphorePermit>,
    /// The place among the connections of the peer, if these are limited.
    pub(super) peer: Option<PeerPlace>,
    /// The connection's part in the load of its worker, if it has a worker.
    pub(super) load: Option<Counted>,
}

/// Counts things that exist at present. Clones are the same gauge.
#[derive(Clone, Debug, Default)]
pub(super) struct Gauge(Arc<Count>);

#[derive(Debug, Default)]
struct Count {
    now: AtomicUsize,
    emptied: Notify,
}

/// Counts one thing in a [`Gauge`], until it is dropped.
#[derive(Debug)]
pub(super) struct Counted(Gauge);

impl Gauge {
    pub(super) fn count_one(&self) -> Counted {
        self.0.now.fetch_add(1, Ordering::Relaxed);
        Counted(self.clone())
    }

    pub(super) fn get(&self) -> usize {
        self.0.now.load(Ordering::Relaxed)
    }

    /// Waits until the count is zero.
    pub(super) async fn empty(&self) {
        loop {
            let emptied = self.0.emptied.notified();
            if self.0.now.load(Ordering::Acquire) == 0 {
                return;
            }
            emptied.await;
        }
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        if self.0.0.now.fetch_sub(1, Ordering::Release) == 1 {
            self.0.0.emptied.notify_waiters();
        }
    }
}
