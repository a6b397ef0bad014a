//! Sets of connections: to limit, count and abort them together, and to wait for their
//! end.

use std::collections::HashMap;
use std::fmt;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::{Duration, Instant};

use tokio::sync::Notify;
use tokio::task::yield_now;
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;

use super::activity::Activity;
use super::{Ending, Timeouts};
use crate::events::{Connection, Events, Recall, Source, Track};

/// How often to look, while somebody watches, whether data waits for a service, and whether FIN is
/// acknowledged.
pub(super) const LOOK: Duration = Duration::from_millis(250);
/// How many connections to look at before other tasks get a turn.
const AT_ONCE: usize = 256;

/// A connection as its registries see it.
pub(super) trait Member: fmt::Debug + Send + Sync {
    /// Adds the connection to `traffic`.
    fn count(&self, traffic: &mut Traffic);

    /// Returns how active the connection is; `None` if it is not measured, or cannot be reset
    /// because it has failed or ended.
    fn activity(&self) -> Option<Activity>;

    /// Resets the connection if it has not ended.
    fn abort(&self, ending: Ending);

    /// The events of the connection; `None` if it is not measured.
    fn track(&self) -> Option<&Track>;

    /// The address of the peer, if it is known.
    fn peer(&self) -> Option<SocketAddr>;

    /// Takes notice of data that waits for the service, for those who watch.
    fn look(&self);

    /// Describes the connection for those who watch, if its events are reported.
    fn seen(&self) -> Option<Connection>;

    /// Ends the connection if its end was not noticed so far, or if it has reached one of
    /// `timeouts`, by a reset.
    fn enforce(&self, timeouts: &Timeouts, now: Instant);
}

/// A set of connections; clones share it. A connection is in the set from its opening
/// until it has closed for good, the gentle close included.
#[derive(Clone, Debug, Default)]
pub(crate) struct Registry(Arc<Shared>);

#[derive(Debug, Default)]
struct Shared {
    entries: Mutex<Entries>,
    emptied: Notify,
    /// How often data was transferred between a guest and the connections.
    transfers: AtomicU64,
    shut_down: CancellationToken,
}

#[derive(Debug, Default)]
struct Entries {
    next: u64,
    members: HashMap<u64, Weak<dyn Member>>,
}

/// The connections of a registry at one moment.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Traffic {
    /// Connections with both directions open.
    pub(crate) open: usize,
    /// Connections of which one direction has ended.
    pub(crate) half_open: usize,
    /// Connections that nothing uses any more, and that are not yet closed.
    pub(crate) closing: usize,
    /// Bytes received on connections that are in use.
    pub(crate) received: u64,
    /// Bytes sent on connections that are in use.
    pub(crate) sent: u64,
}

/// A connection's place in a registry; dropping it removes the connection.
#[derive(Debug)]
pub(super) struct Registration {
    registry: Registry,
    key: u64,
}

impl Registry {
    /// Lets `events` see the connections.
    pub(crate) fn show(&self, events: &Events) {
        let shared: Arc<dyn Source> = self.0.clone();
        events.add(Arc::downgrade(&shared));
    }

    pub(super) fn register(&self, member: Weak<dyn Member>) -> Registration {
        let mut entries = self.entries();
        let key = entries.next;
        entries.next += 1;
        entries.members.insert(key, member);
        Registration {
            registry: self.clone(),
            key,
        }
    }

    /// Counts one transfer of data between a guest and a connection.
    pub(super) fn count_transfer(&self) {
        self.0.transfers.fetch_add(1, Ordering::Relaxed);
    }

    /// How often data was transferred between a guest and the connections.
    pub(crate) fn moved(&self) -> u64 {
        self.0.transfers.load(Ordering::Relaxed)
    }

    /// The number of connections, including those being closed.
    pub(crate) fn len(&self) -> usize {
        self.entries().members.len()
    }

    /// Counts the connections and their bytes.
    pub(crate) fn traffic(&self) -> Traffic {
        let mut traffic = Traffic {
            closing: self.len(),
            ..Traffic::default()
        };
        for member in self.members() {
            traffic.closing = traffic.closing.saturating_sub(1);
            member.count(&mut traffic);
        }
        traffic
    }

    /// Resets every connection that has not ended. Connections that are closing gently
    /// have sent everything, and are left to finish.
    pub(crate) fn abort_all(&self, ending: &Ending) {
        for member in self.members() {
            member.abort(ending.clone());
        }
    }

    /// Ends connections whose end nobody has noticed, and resets those that reach one of
    /// `timeouts`, until the future is dropped.
    pub(crate) async fn enforce(&self, timeouts: Timeouts) {
        let period = timeouts.period();
        loop {
            sleep(period).await;
            let now = Instant::now();
            for member in self.members() {
                member.enforce(&timeouts, now);
            }
        }
    }

    /// While somebody watches, takes notice of services that do not read, until the future is
    /// dropped.
    pub(crate) async fn look(&self, events: Events) {
        loop {
            events.wanted().await;
            sleep(LOOK).await;
            for (index, member) in self.members().enumerate() {
                member.look();
                drop(member);
                if index % AT_ONCE == AT_ONCE - 1 {
                    yield_now().await;
                }
            }
        }
    }

    /// The connections in use that can be reset, with their activity.
    pub(super) fn activities(&self) -> Vec<(Activity, Weak<dyn Member>)> {
        let members = self.members();
        members
            .filter_map(|member| Some((member.activity()?, Arc::downgrade(&member))))
            .collect()
    }

    /// The connections in use. They are upgraded without the lock: the caller may come to
    /// hold the last reference to one, and dropping that takes the lock.
    fn members(&self) -> impl Iterator<Item = Arc<dyn Member>> + use<> {
        self.0.members()
    }

    /// Resets every connection that has not ended, and cuts every gentle close short.
    pub(crate) fn shut_down(&self) {
        self.abort_all(&Ending::Stopped);
        self.0.shut_down.cancel();
    }

    /// Waits until no connection is left.
    pub(crate) async fn empty(&self) {
        loop {
            let emptied = self.0.emptied.notified();
            if self.len() == 0 {
                return;
            }
            emptied.await;
        }
    }

    fn entries(&self) -> MutexGuard<'_, Entries> {
        self.0.entries()
    }
}

impl Shared {
    fn members(&self) -> impl Iterator<Item = Arc<dyn Member>> + use<> {
        let members: Vec<_> = self.entries().members.values().cloned().collect();
        members.into_iter().filter_map(|member| member.upgrade())
    }

    fn entries(&self) -> MutexGuard<'_, Entries> {
        // No code panics while it holds the lock.
        self.entries.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Source for Shared {
    fn each(&self, see: &mut dyn FnMut(Connection, Recall<'_>)) {
        for member in self.members() {
            if let (Some(connection), Some(track)) = (member.seen(), member.track()) {
                see(connection, &|| track.recent());
            }
        }
    }

    fn reset(&self, which: &dyn Fn(u64, Option<SocketAddr>) -> bool) -> usize {
        let resets = |member: &Arc<dyn Member>| {
            let Some(track) = member.track() else {
                return false;
            };
            track.scope().is_some()
                && member.activity().is_some()
                && which(track.id(), member.peer())
        };
        let resets = self.members().filter(resets);
        resets.map(|member| member.abort(Ending::Operator)).count()
    }

    fn forget(&self) {
        for member in self.members() {
            if let Some(track) = member.track() {
                track.forget();
            }
        }
    }
}

impl Registration {
    /// Resolves when the registry is shut down.
    pub(super) async fn shut_down(&self) {
        self.registry.0.shut_down.cancelled().await;
    }
}

impl Drop for Registration {
    fn drop(&mut self) {
        let mut entries = self.registry.entries();
        entries.members.remove(&self.key);
        if entries.members.is_empty() {
            self.registry.0.emptied.notify_waiters();
        }
    }
}
