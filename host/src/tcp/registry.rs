//! Who is connected: to abort connections together, and to wait for their end.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Instant;

use tokio::sync::Notify;
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;

use super::Socket;
use super::life::{Ending, Timeouts};

/// A set of connections. A connection is in it from its opening until it is
/// closed for good, the gentle close included.
#[derive(Clone, Debug, Default)]
pub(crate) struct Registry(Arc<Shared>);

#[derive(Debug, Default)]
struct Shared {
    entries: Mutex<Entries>,
    emptied: Notify,
    /// How often data was moved between a guest and its connections.
    moved: AtomicU64,
    shut_down: CancellationToken,
}

#[derive(Debug, Default)]
struct Entries {
    next: u64,
    sockets: HashMap<u64, Weak<Socket>>,
}

/// What goes on on the connections of a registry.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Traffic {
    pub(crate) open: usize,
    pub(crate) half_open: usize,
    pub(crate) closing: usize,
    /// Bytes of those that are not closing.
    pub(crate) received: u64,
    pub(crate) sent: u64,
}

/// A connection's place in a registry; dropping it takes the connection out.
#[derive(Debug)]
pub(super) struct Registration {
    registry: Registry,
    key: u64,
}

impl Registry {
    pub(super) fn register(&self, socket: Weak<Socket>) -> Registration {
        let mut entries = self.entries();
        let key = entries.next;
        entries.next += 1;
        entries.sockets.insert(key, socket);
        Registration {
            registry: self.clone(),
            key,
        }
    }

    /// How often the guest's connections have moved data.
    pub(crate) fn moved(&self) -> u64 {
        self.0.moved.load(Ordering::Relaxed)
    }

    /// How many connections are open, or closing.
    pub(crate) fn len(&self) -> usize {
        self.entries().sockets.len()
    }

    /// What goes on on them.
    pub(crate) fn traffic(&self) -> Traffic {
        let mut traffic = Traffic {
            closing: self.len(),
            ..Traffic::default()
        };
        for socket in self.sockets() {
            traffic.closing = traffic.closing.saturating_sub(1);
            socket.count(&mut traffic);
        }
        traffic
    }

    /// Resets every connection that has not ended. Those that are closing gently
    /// have sent everything, and are left to it.
    pub(crate) fn abort_all(&self, ending: &Ending) {
        for socket in self.sockets() {
            socket.abort(ending.clone());
        }
    }

    /// Resets the connections on which something takes too long, again and again.
    pub(crate) async fn enforce(&self, timeouts: Timeouts) {
        let Some(period) = timeouts.period() else {
            return;
        };
        loop {
            sleep(period).await;
            let now = Instant::now();
            for socket in self.sockets() {
                socket.enforce(&timeouts, now);
            }
        }
    }

    /// Those that are open. That the last to hold one of them may be who asked is why
    /// it is not asked under the lock, which closing takes.
    fn sockets(&self) -> impl Iterator<Item = Arc<Socket>> + use<> {
        let sockets: Vec<_> = self.entries().sockets.values().cloned().collect();
        sockets.into_iter().filter_map(|socket| socket.upgrade())
    }

    /// Resets every connection, and cuts every gentle close short.
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
        // No code panics while it holds the lock.
        self.0
            .entries
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }
}

impl Registration {
    /// Data was moved between the guest and a connection.
    pub(super) fn note_moved(&self) {
        self.registry.0.moved.fetch_add(1, Ordering::Relaxed);
    }

    /// Resolves when the registry is shut down.
    pub(super) async fn shut_down(&self) {
        self.registry.0.shut_down.cancelled().await;
    }
}

impl Drop for Registration {
    fn drop(&mut self) {
        let mut entries = self.registry.entries();
        entries.sockets.remove(&self.key);
        if entries.sockets.is_empty() {
            self.registry.0.emptied.notify_waiters();
        }
    }
}
