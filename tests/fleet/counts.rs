//! What the clients count, for each event of the fleet.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, RwLock};
use std::time::{Duration, Instant};

use crate::link::Cut;

/// A connection that ended otherwise than its client wanted.
#[derive(Clone, Debug)]
pub(crate) struct Loss {
    /// The client's port, by which HAProxy's log names the connection. 0: it was never made.
    pub(crate) port: u16,
    pub(crate) cut: Cut,
    /// Whether a request was without an answer.
    pub(crate) unanswered: bool,
}

/// A wait for which it matters whose it was.
const LONG: Duration = Duration::from_millis(500);

/// The counts of one event.
#[derive(Debug)]
pub(crate) struct Counts {
    since: Instant,
    connections: AtomicU64,
    requests: AtomicU64,
    /// The longest wait of a client that got what it waited for, in ms, if it was below [`LONG`].
    short_wait: AtomicU64,
    /// Longer waits, with the client's port.
    long_waits: Mutex<Vec<(u16, Duration)>>,
    losses: Mutex<Vec<Loss>>,
}

impl Default for Counts {
    fn default() -> Self {
        Counts {
            since: Instant::now(),
            connections: AtomicU64::default(),
            requests: AtomicU64::default(),
            short_wait: AtomicU64::default(),
            long_waits: Mutex::default(),
            losses: Mutex::default(),
        }
    }
}

/// A time in ms.
pub(crate) fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

impl Counts {
    /// A connection ended as its client wanted.
    pub(crate) fn finished(&self) {
        self.connections.fetch_add(1, Ordering::Relaxed);
    }

    /// A client got what it waited for.
    pub(crate) fn waited(&self, port: u16, time: Duration) {
        if time < LONG {
            self.short_wait.fetch_max(millis(time), Ordering::Relaxed);
        } else {
            let mut waits = self.long_waits.lock().expect("not poisoned");
            waits.push((port, time));
        }
    }

    /// A request was answered.
    pub(crate) fn answered(&self, port: u16, time: Duration) {
        self.requests.fetch_add(1, Ordering::Relaxed);
        self.waited(port, time);
    }

    pub(crate) fn lost(&self, loss: Loss) {
        self.losses.lock().expect("not poisoned").push(loss);
    }

    pub(crate) fn losses(&self) -> Vec<Loss> {
        self.losses.lock().expect("not poisoned").clone()
    }

    /// How many connections were cut like this.
    pub(crate) fn cut(&self, cut: Cut) -> usize {
        let losses = self.losses.lock().expect("not poisoned");
        losses.iter().filter(|loss| loss.cut == cut).count()
    }

    pub(crate) fn requests(&self) -> u64 {
        self.requests.load(Ordering::Relaxed)
    }

    /// The connections that ended as their clients wanted.
    pub(crate) fn connections(&self) -> u64 {
        self.connections.load(Ordering::Relaxed)
    }

    /// The longest wait of a client that got what it waited for, other than those with these ports.
    pub(crate) fn stall(&self, except: &BTreeSet<u16>) -> Duration {
        let short = Duration::from_millis(self.short_wait.load(Ordering::Relaxed));
        let waits = self.long_waits.lock().expect("not poisoned");
        let others = waits.iter().filter(|(port, _)| !except.contains(port));
        others.map(|(_, time)| *time).fold(short, Duration::max)
    }

    /// The head of the table.
    pub(crate) fn head() -> String {
        format!(
            "{:<28} {:>5} {:>8} {:>9} {:>7} {:>5} {:>9} {:>6} {:>6} {:>8}",
            "event",
            "s",
            "ended",
            "answered",
            "refused",
            "told",
            "truncated",
            "silent",
            "lost",
            "stall ms"
        )
    }

    /// A row of the table. The stall is that of the clients other than those with these ports.
    pub(crate) fn row(&self, name: &str, except: &BTreeSet<u16>) -> String {
        let unanswered = self.losses().iter().filter(|loss| loss.unanswered).count();
        format!(
            "{name:<28} {:>5} {:>8} {:>9} {:>7} {:>5} {:>9} {:>6} {:>6} {:>8}",
            self.since.elapsed().as_secs(),
            self.connections(),
            self.requests(),
            self.cut(Cut::Refused),
            self.cut(Cut::Told),
            self.cut(Cut::Truncated),
            self.cut(Cut::Silent) + self.cut(Cut::Wrong),
            unanswered,
            self.stall(except).as_millis(),
        )
    }
}

/// The counts of the event that goes on.
#[derive(Debug, Default)]
pub(crate) struct Current(RwLock<Arc<Counts>>);

impl Current {
    pub(crate) fn get(&self) -> Arc<Counts> {
        self.0.read().expect("not poisoned").clone()
    }

    /// Begins to count anew.
    pub(crate) fn begin(&self) -> Arc<Counts> {
        let counts = Arc::new(Counts::default());
        *self.0.write().expect("not poisoned") = counts.clone();
        counts
    }
}
