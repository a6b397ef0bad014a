//! Connections of a store whose bytes only pass through it, so that another process can go on
//! with them.
//!
//! A pump looks at one flag whenever it is polled. Who wants to part with the connections sets
//! the flag, and wakes the pumps: each sends what it has received, and rests. Whatever comes then
//! stays in the kernel, and goes along with the descriptors.

use std::collections::HashMap;
use std::fmt;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::timeout;

use super::Socket;
use super::pair::{Pair, Parted};
use super::registry::Registry;

/// The pumps of a store, if somebody may want to part with its connections. Clones are the same.
#[derive(Clone, Default)]
pub(crate) struct Passing(Option<Arc<Shared>>);

struct Shared {
    /// The connections of the store.
    connections: Registry,
    pumps: Mutex<Pumps>,
    /// Whether pumps are to rest. It changes under the lock.
    asked: AtomicBool,
    /// Whether pumps have begun, or will.
    begun: AtomicBool,
    /// A pump has come to rest, or has ended.
    rests: Notify,
    /// Pumps go on.
    resumed: Notify,
}

#[derive(Default)]
struct Pumps {
    next: u64,
    all: HashMap<u64, Pump>,
}

struct Pump {
    source: Arc<Socket>,
    sink: Arc<Socket>,
    rests: bool,
}

/// The place of a pump, until it ends.
pub(super) struct Place {
    shared: Arc<Shared>,
    number: u64,
}

impl Passing {
    /// The pumps of a store that has these connections.
    pub(super) fn of(connections: Registry) -> Self {
        Passing(Some(Arc::new(Shared {
            connections,
            pumps: Mutex::default(),
            asked: AtomicBool::new(false),
            begun: AtomicBool::new(false),
            rests: Notify::new(),
            resumed: Notify::new(),
        })))
    }

    /// Records that a pump will begin, in a task of its own.
    pub(super) fn begins(&self) -> Self {
        if let Some(shared) = &self.0 {
            shared.begun.store(true, Ordering::Release);
        }
        self.clone()
    }

    /// Counts a pump that has begun.
    pub(super) fn enter(&self, source: &Arc<Socket>, sink: &Arc<Socket>) -> Option<Place> {
        let shared = self.0.as_ref()?;
        let mut pumps = shared.lock();
        let number = pumps.next;
        pumps.next += 1;
        let pump = Pump {
            source: source.clone(),
            sink: sink.clone(),
            rests: false,
        };
        pumps.all.insert(number, pump);
        drop(pumps);
        Some(Place {
            shared: shared.clone(),
            number,
        })
    }

    /// Whether pumps have begun, or will.
    pub(crate) fn has_begun(&self) -> bool {
        let shared = self.0.as_ref();
        shared.is_some_and(|shared| shared.begun.load(Ordering::Acquire))
    }

    /// Takes the connections out of the store, if all that happens on them is that bytes pass
    /// from one to the other, and none is on the way within `limit`. If it is not possible,
    /// everything goes on as before.
    ///
    /// Who calls this runs the guest as well, which therefore rests meanwhile.
    pub(crate) async fn part(&self, limit: Duration) -> Option<Parted> {
        let shared = self.0.as_ref()?;
        shared.pair()?;
        // Also if the future is dropped meanwhile.
        let _asking = Asking::of(shared);
        let rest = async {
            loop {
                let rests = shared.rests.notified();
                if shared.lock().rest() {
                    return;
                }
                rests.await;
            }
        };
        timeout(limit, rest).await.ok()?;
        shared.take()
    }
}

/// Asks the pumps to rest, until it is dropped.
struct Asking<'s>(&'s Shared);

impl<'s> Asking<'s> {
    fn of(shared: &'s Shared) -> Self {
        let pumps = shared.lock();
        shared.asked.store(true, Ordering::SeqCst);
        let sources: Vec<_> = pumps.all.values().map(|pump| pump.source.clone()).collect();
        drop(pumps);
        // A pump waits at its source, or looks at the flag once more. One that waits for its sink
        // has something on the way.
        sources.iter().for_each(|source| source.wake_receiver());
        Asking(shared)
    }
}

impl Drop for Asking<'_> {
    fn drop(&mut self) {
        let mut pumps = self.0.lock();
        self.0.asked.store(false, Ordering::SeqCst);
        for pump in pumps.all.values_mut() {
            pump.rests = false;
        }
        drop(pumps);
        self.0.resumed.notify_waiters();
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, Pumps> {
        // No code panics while it holds the lock.
        self.pumps.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The connections of the store, if all that happens on them is that bytes pass from one to
    /// the other.
    fn pair(&self) -> Option<Pair> {
        let pumps = self.lock();
        let sockets = pumps
            .all
            .values()
            .flat_map(|pump| [&pump.source, &pump.sink]);
        let pair = Pair::of(sockets)?;
        let only_passes = pair.only_passes(|source, sink| pumps.passes(source, sink));
        drop(pumps);
        (only_passes && self.connections.len() == pair.len()).then_some(pair)
    }

    /// Takes the streams of connections all of whose pumps rest.
    fn take(&self) -> Option<Parted> {
        let pair = self.pair()?;
        let rest = self.lock().rest();
        rest.then(|| pair.part()).flatten()
    }
}

impl Pumps {
    fn rest(&self) -> bool {
        self.all.values().all(|pump| pump.rests)
    }

    fn passes(&self, source: &Arc<Socket>, sink: &Arc<Socket>) -> bool {
        let mut all = self.all.values();
        all.any(|pump| Arc::ptr_eq(&pump.source, source) && Arc::ptr_eq(&pump.sink, sink))
    }
}

impl Place {
    /// Whether the pump is to rest as soon as it has sent what it has received.
    #[inline]
    pub(super) fn is_asked(&self) -> bool {
        self.shared.asked.load(Ordering::SeqCst)
    }

    /// Rests, until the pump is to go on. Nothing may be on the way.
    pub(super) async fn rest(&self) {
        let resumed = self.shared.resumed.notified();
        if self.begins_to_rest() {
            self.shared.rests.notify_one();
            resumed.await;
        }
    }

    /// Records that the pump rests, unless nobody asks for that any more.
    fn begins_to_rest(&self) -> bool {
        let mut pumps = self.shared.lock();
        let asked = self.is_asked();
        if let Some(pump) = pumps.all.get_mut(&self.number) {
            pump.rests = asked;
        }
        asked
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        // The sockets are dropped under no lock.
        let ended = self.shared.lock().all.remove(&self.number);
        drop(ended);
        self.shared.rests.notify_one();
    }
}

impl fmt::Debug for Passing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self.0 {
            Some(_) => "Passing(on)",
            None => "Passing(off)",
        })
    }
}
