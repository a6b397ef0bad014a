//! The places that a connection takes up, and gives back when it has ended.

use std::collections::HashMap;
use std::net::IpAddr;
use std::num::NonZeroU32;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::{Notify, OwnedSemaphorePermit};

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

/// Counts the connections of each peer.
#[derive(Debug, Default)]
pub(super) struct PeerCounts(Mutex<HashMap<IpAddr, u32>>);

/// Counts one connection of a peer in [`PeerCounts`], until it is dropped.
#[derive(Debug)]
pub(super) struct PeerPlace {
    counts: Arc<PeerCounts>,
    peer: IpAddr,
}

impl PeerCounts {
    /// Takes a place for `peer`, if it has fewer than `limit`.
    pub(super) fn take(self: &Arc<Self>, peer: IpAddr, limit: NonZeroU32) -> Option<PeerPlace> {
        let mut counts = self.lock();
        let count = counts.entry(peer).or_default();
        if *count >= limit.get() {
            return None;
        }
        *count += 1;
        Some(PeerPlace {
            counts: self.clone(),
            peer,
        })
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<IpAddr, u32>> {
        // No code panics while it holds the lock.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for PeerPlace {
    fn drop(&mut self) {
        let mut counts = self.counts.lock();
        if let Some(count) = counts.get_mut(&self.peer) {
            *count -= 1;
            if *count == 0 {
                counts.remove(&self.peer);
            }
        }
    }
}
