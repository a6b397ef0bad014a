//! Connections that wait for a PROXY protocol header or a TLS handshake of their peer.
//!
//! They have a limit of their own, so that silent peers take no place from connections
//! that are served. When it is reached, the one that has waited longest gives way: a peer
//! that means to finish its handshake has had the most time for it.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio_util::sync::CancellationToken;

/// The part that gives way when there are no descriptors: more than one, because accepting
/// pauses for some milliseconds each time.
const SHED: usize = 8;

/// The connections that are arriving.
#[derive(Debug)]
pub(super) struct Arrivals {
    most: usize,
    places: Arc<Semaphore>,
    waiting: Mutex<Waiting>,
}

/// Connections that wait for their peers, the oldest first.
#[derive(Debug, Default)]
struct Waiting {
    next: u64,
    displaced: BTreeMap<u64, CancellationToken>,
}

/// One connection that is arriving, until it is dropped.
#[derive(Debug)]
pub(super) struct Arrival {
    key: u64,
    displaced: CancellationToken,
    arrivals: Arc<Arrivals>,
    _place: OwnedSemaphorePermit,
}

impl Arrivals {
    pub(super) fn new(most: usize) -> Arc<Self> {
        Arc::new(Arrivals {
            most,
            places: Arc::new(Semaphore::new(most)),
            waiting: Mutex::default(),
        })
    }

    /// Returns how many connections are arriving.
    pub(super) fn count(&self) -> usize {
        self.most.saturating_sub(self.places.available_permits())
    }

    /// Adds a connection. If there is no place, the oldest one that waits for its peer gives
    /// way; if none does, this waits until one leaves.
    pub(super) async fn enter(self: &Arc<Self>) -> Arrival {
        let place = match self.places.clone().try_acquire_owned() {
            Ok(place) => place,
            Err(_) => {
                self.displace(1);
                let place = self.places.clone().acquire_owned().await;
                place.expect("the semaphore is never closed")
            }
        };
        let displaced = CancellationToken::new();
        let mut waiting = self.waiting();
        let key = waiting.next;
        waiting.next += 1;
        waiting.displaced.insert(key, displaced.clone());
        drop(waiting);
        Arrival {
            key,
            displaced,
            arrivals: self.clone(),
            _place: place,
        }
    }

    /// Makes the oldest connections that wait for their peers give way, because the process
    /// has no descriptors left. Returns whether there were any.
    pub(super) fn shed(&self) -> bool {
        let waiting = self.waiting().displaced.len();
        self.displace(waiting.div_ceil(SHED));
        waiting > 0
    }

    fn displace(&self, count: usize) {
        let mut waiting = self.waiting();
        for _ in 0..count {
            if let Some((_, oldest)) = waiting.displaced.pop_first() {
                oldest.cancel();
            }
        }
    }

    fn waiting(&self) -> MutexGuard<'_, Waiting> {
        // No code panics while it holds the lock.
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Arrival {
    /// Waits until the connection has to give way to a newer one.
    pub(super) async fn displaced(&self) {
        self.displaced.cancelled().await;
    }

    /// Declares that the peer has done its part: the connection no longer gives way.
    pub(super) fn introduced(&self) {
        self.arrivals.waiting().displaced.remove(&self.key);
    }
}

impl Drop for Arrival {
    fn drop(&mut self) {
        self.introduced();
    }
}

#[cfg(test)]
mod tests {
    use futures::FutureExt as _;

    use super::*;

    #[tokio::test]
    async fn the_oldest_that_waits_for_its_peer_gives_way() {
        let arrivals = Arrivals::new(3);
        let [first, second, third] = [
            arrivals.enter().await,
            arrivals.enter().await,
            arrivals.enter().await,
        ];
        first.introduced();
        let mut fourth = Box::pin(arrivals.enter());
        assert!(fourth.as_mut().now_or_never().is_none());
        second.displaced().await;
        assert!(first.displaced().now_or_never().is_none());
        assert!(third.displaced().now_or_never().is_none());
        // It has its place when the other has left, and not before.
        assert!(fourth.as_mut().now_or_never().is_none());
        assert_eq!(arrivals.count(), 3);
        drop(second);
        let fourth = fourth.await;
        // Nobody waits for a peer any more: nobody gives way.
        third.introduced();
        fourth.introduced();
        assert!(arrivals.enter().now_or_never().is_none());
        drop((first, third, fourth));
        assert_eq!(arrivals.count(), 0);
        assert!(arrivals.waiting().displaced.is_empty());
    }
}
