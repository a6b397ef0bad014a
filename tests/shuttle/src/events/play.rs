//! Connections that report, and those who watch.

use std::net::SocketAddr;
use std::sync::{Arc, Weak};
use std::time::Duration;

use shuttle::future::block_on;
use shuttle::sync::Mutex;

use super::event::{Closed, Connection, Event, Kind};
use super::hub::{Events, Recall, Source};
use super::scope::Scope;
use super::subscription::{Item, Subscription};
use super::track::Track;

/// A server without sockets. Clones are the same server.
#[derive(Clone)]
pub struct Process {
    events: Events,
    scope: Arc<Scope>,
    open: Arc<Open>,
}

/// The connections that are open, as the registry has them.
#[derive(Default)]
struct Open(Mutex<Vec<Arc<Track>>>);

/// A connection of the server.
pub struct Reporting {
    track: Arc<Track>,
    open: Arc<Open>,
}

/// Somebody who watches.
pub struct Watcher {
    subscription: Subscription,
    heard: Heard,
}

/// What a watcher has heard.
#[derive(Debug, Default)]
pub struct Heard {
    /// The connections that it has found open.
    pub found: Vec<u64>,
    /// The numbers of the events and of their connections, and whether these have closed.
    pub events: Vec<(u64, u64, bool)>,
    /// How many events it was told to have lost.
    pub lost: u64,
}

impl Process {
    /// Makes a server that nobody watches.
    #[must_use]
    pub fn begin() -> Self {
        let events = Events::new();
        let scope = Arc::new(Scope::new(events.clone(), "echo", true));
        let open = Arc::new(Open::default());
        let source: Arc<dyn Source> = open.clone();
        let source: Weak<dyn Source> = Arc::downgrade(&source);
        events.add(source);
        Process {
            events,
            scope,
            open,
        }
    }

    /// Makes a connection.
    #[must_use]
    pub fn connect(&self, id: u64) -> Reporting {
        let track = Arc::new(Track::new(Some(self.scope.clone()), id));
        self.open
            .0
            .lock()
            .expect("no thread panics with it")
            .push(track.clone());
        Reporting {
            track,
            open: self.open.clone(),
        }
    }

    /// Begins to watch.
    #[must_use]
    pub fn watch(&self) -> Watcher {
        let mut subscription = self.events.subscribe();
        let found = subscription.take_connections();
        let found = found.iter().map(|connection| connection.id);
        Watcher {
            heard: Heard {
                found: found.collect(),
                ..Heard::default()
            },
            subscription,
        }
    }
}

impl Reporting {
    /// Reports something.
    pub fn report(&self) {
        self.track.report(|| Kind::Paused);
    }

    /// Leaves the registry and reports the end, in the order of `host/src/tcp/live.rs`.
    pub fn end(self) {
        let mut open = self.open.0.lock().expect("no thread panics with it");
        open.retain(|track| track.id() != self.track.id());
        drop(open);
        self.track.closed(|_| Closed {
            outcome: "fin".to_owned(),
            first: None,
            received: 0,
            sent: 0,
            age: Duration::ZERO,
            cause: String::new(),
        });
    }
}

impl Watcher {
    /// Waits until it has heard that so many connections have closed.
    pub fn wait_for(&mut self, closed: usize) -> &Heard {
        while self.heard.closed() < closed {
            let item = block_on(self.subscription.next());
            self.heard.take(item);
        }
        &self.heard
    }

    /// Hears what has come by now.
    pub fn hear(&mut self) -> &Heard {
        while let Some(item) = self.subscription.try_next() {
            self.heard.take(item);
        }
        &self.heard
    }
}

impl Heard {
    fn take(&mut self, item: Item) {
        match item {
            Item::Event(Event {
                seq,
                connection,
                kind,
                ..
            }) => {
                let connection = connection.expect("every event is about a connection");
                let closed = matches!(kind, Kind::Closed(_));
                self.events.push((seq, connection, closed));
            }
            Item::Lost(events) => self.lost += events,
        }
    }

    fn closed(&self) -> usize {
        self.events.iter().filter(|(.., closed)| *closed).count()
    }

    /// Whether it has heard the end of a connection.
    #[must_use]
    pub fn has_ended(&self, connection: u64) -> bool {
        let mut events = self.events.iter();
        events.any(|&(_, id, closed)| id == connection && closed)
    }

    /// Checks what holds for every watcher: events come in order, and nothing of a connection
    /// comes after its end.
    ///
    /// # Panics
    ///
    /// If it does not.
    pub fn is_lawful(&self) {
        let events = &self.events;
        assert!(
            events.is_sorted_by(|(one, ..), (next, ..)| one < next),
            "{self:?}"
        );
        for (place, (_, connection, closed)) in events.iter().enumerate() {
            let mut later = events[place + 1..].iter();
            assert!(
                !closed || later.all(|(_, other, _)| other != connection),
                "{self:?}"
            );
        }
    }

    /// Checks that between its first and its last event it has heard every other one.
    ///
    /// # Panics
    ///
    /// If one is missing.
    pub fn is_whole(&self) {
        self.is_lawful();
        let numbers: Vec<_> = self.events.iter().map(|(seq, ..)| *seq).collect();
        assert!(
            self.lost == 0 && numbers.is_sorted_by(|one, next| one + 1 == *next),
            "{self:?}"
        );
    }
}

impl Source for Open {
    fn each(&self, see: &mut dyn FnMut(Connection, Recall<'_>)) {
        // As a registry does it: it lets go of the lock first.
        let tracks = self.0.lock().expect("no thread panics with it").clone();
        for track in tracks {
            see(track.connection(), &|| track.recent());
        }
    }

    fn reset(&self, _: &dyn Fn(u64, Option<SocketAddr>) -> bool) -> usize {
        0
    }

    fn forget(&self) {
        let tracks = self.0.lock().expect("no thread panics with it").clone();
        tracks.iter().for_each(|track| track.forget());
    }
}
