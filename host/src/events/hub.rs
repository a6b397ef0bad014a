//! Where the events of servers come together.

use std::fmt;
use std::net::SocketAddr;
use std::sync::{Arc, PoisonError, Weak};
use std::time::{Duration, Instant, SystemTime};

use tokio::sync::Notify;

use super::event::{Connection, Event, Kind};
use super::log::Log;
use super::sync::atomic::{AtomicBool, AtomicU8, Ordering};
use super::sync::{Mutex, MutexGuard};

/// The events of servers: what happens to each of their connections.
///
/// Give it to [`ServerBuilder::events`](crate::ServerBuilder::events), and
/// [`subscribe`](Self::subscribe). While nobody has subscribed, an event costs a server next to
/// nothing, and none is kept. Clones are the same events.
#[derive(Clone)]
pub struct Events(pub(super) Arc<Hub>);

/// What servers report to, and subscriptions read.
pub(super) struct Hub {
    pub(super) began: Instant,
    began_at: SystemTime,
    /// [`NOBODY`], [`EVENTS`] or [`PAYLOAD`].
    watched: AtomicU8,
    subscribers: Mutex<Subscribers>,
    pub(super) log: Log,
    /// Whether a subscription waits for the next event.
    pub(super) waiting: AtomicBool,
    pub(super) arrived: Notify,
    /// Somebody has subscribed.
    entered: Notify,
    sources: Mutex<Vec<Weak<dyn Source>>>,
}

/// Nobody wants events.
const NOBODY: u8 = 0;
/// Somebody wants events.
const EVENTS: u8 = 1;
/// Somebody wants events with the bytes.
const PAYLOAD: u8 = 2;

/// How many subscriptions there are.
#[derive(Debug, Default)]
struct Subscribers {
    all: usize,
    with_payload: usize,
    /// The number of the first event since there has been one.
    since: u64,
}

/// Copies the last events of a connection.
pub(crate) type Recall<'a> = &'a dyn Fn() -> Vec<Event>;

/// The connections of a server.
pub(crate) trait Source: Send + Sync {
    /// Calls `see` with each connection that is open, and with what recalls its last events.
    fn each(&self, see: &mut dyn FnMut(Connection, Recall<'_>));

    /// Resets the connections that `which` chooses by their number and peer. Returns how many
    /// these were.
    fn reset(&self, which: &dyn Fn(u64, Option<SocketAddr>) -> bool) -> usize;

    /// Forgets what connections keep while somebody watches.
    fn forget(&self);
}

impl Events {
    /// Makes events that no server reports yet.
    #[must_use]
    pub fn new() -> Self {
        Events(Arc::new(Hub {
            began: Instant::now(),
            began_at: SystemTime::now(),
            watched: AtomicU8::new(NOBODY),
            subscribers: Mutex::default(),
            log: Log::new(),
            waiting: AtomicBool::new(false),
            arrived: Notify::new(),
            entered: Notify::new(),
            sources: Mutex::default(),
        }))
    }

    /// Returns the moment from which the times of events count.
    #[must_use]
    pub fn began(&self) -> SystemTime {
        self.0.began_at
    }

    /// Resets the connection with this number. Returns whether there is one that can be reset: its
    /// service has it, and it has not ended.
    pub fn reset(&self, connection: u64) -> bool {
        self.reset_all(|id, _| id == connection) > 0
    }

    /// Returns the open connections, by their numbers. Connections that are still arriving, and those
    /// that only close, are not among them.
    #[must_use]
    pub fn connections(&self) -> Vec<Connection> {
        let mut connections = Vec::new();
        for source in self.0.sources() {
            source.each(&mut |connection, _| connections.push(connection));
        }
        connections.sort_by_key(|connection| connection.id);
        connections
    }

    /// Resets the connections that `which` chooses by their number and peer. Returns how many
    /// these were.
    pub fn reset_all(&self, which: impl Fn(u64, Option<SocketAddr>) -> bool) -> usize {
        let sources = self.0.sources();
        sources.iter().map(|source| source.reset(&which)).sum()
    }

    /// Returns whether somebody wants events.
    #[inline]
    pub(crate) fn are_watched(&self) -> bool {
        self.0.watched.load(Ordering::Relaxed) != NOBODY
    }

    /// Returns whether somebody wants the bytes as well.
    #[inline]
    pub(crate) fn are_watched_with_payload(&self) -> bool {
        self.0.watched.load(Ordering::Relaxed) == PAYLOAD
    }

    /// Adds the connections of a server.
    pub(crate) fn add(&self, source: Weak<dyn Source>) {
        let mut sources = lock(&self.0.sources);
        sources.retain(|source| source.strong_count() > 0);
        sources.push(source);
    }

    /// Waits until somebody wants events.
    pub(crate) async fn wanted(&self) {
        loop {
            let entered = self.0.entered.notified();
            if self.are_watched() {
                return;
            }
            entered.await;
        }
    }

    /// Returns a moment as events have it.
    pub(crate) fn at(&self, moment: Instant) -> Duration {
        moment.saturating_duration_since(self.0.began)
    }

    /// Reports an event, and returns it.
    pub(crate) fn report(&self, connection: Option<u64>, kind: Kind) -> Event {
        let hub = &*self.0;
        let event = hub.log.push(hub.began, connection, kind);
        if hub.waiting.load(Ordering::Relaxed) && hub.waiting.swap(false, Ordering::Relaxed) {
            hub.arrived.notify_waiters();
        }
        event
    }
}

impl Hub {
    /// The servers that there are. Looking at them takes their locks, and none of these events.
    pub(super) fn sources(&self) -> Vec<Arc<dyn Source>> {
        lock(&self.sources)
            .iter()
            .filter_map(Weak::upgrade)
            .collect()
    }

    /// Counts a subscription in. Returns the number of the first event of which it may hear.
    pub(super) fn enter(&self, payload: bool) -> u64 {
        let mut subscribers = lock(&self.subscribers);
        subscribers.all += 1;
        subscribers.with_payload += usize::from(payload);
        self.set(&subscribers);
        if subscribers.all == 1 {
            // Threads may still add events for a subscription that has left: parts of stories. The first
            // number is taken after `watched` is set, so that a thread which adds an event from that
            // number on also reports the end of its connection.
            subscribers.since = self.log.clear();
        }
        let since = subscribers.since;
        drop(subscribers);
        self.entered.notify_waiters();
        since
    }

    /// Counts a subscription out.
    pub(super) fn leave(&self, payload: bool) {
        let mut subscribers = lock(&self.subscribers);
        subscribers.all -= 1;
        subscribers.with_payload -= usize::from(payload);
        self.set(&subscribers);
        let last = subscribers.all == 0;
        if last {
            self.log.clear();
        }
        // Whatever looks at connections may come to close one, and an observer hears of that.
        drop(subscribers);
        if last {
            for source in self.sources() {
                // A subscription that began meanwhile needs what the connections keep.
                if lock(&self.subscribers).all == 0 {
                    source.forget();
                }
            }
        }
    }

    fn set(&self, subscribers: &Subscribers) {
        let watched = match subscribers {
            Subscribers { all: 0, .. } => NOBODY,
            Subscribers {
                with_payload: 0, ..
            } => EVENTS,
            _ => PAYLOAD,
        };
        self.watched.store(watched, Ordering::Relaxed);
    }
}

impl Default for Events {
    fn default() -> Self {
        Events::new()
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // No code panics while it holds the lock.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl fmt::Debug for Events {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Events")
            .field("watched", &self.are_watched())
            .finish_non_exhaustive()
    }
}
