//! The events of one connection.

use std::collections::VecDeque;
use std::fmt;
use std::sync::{Arc, PoisonError};
use std::time::Duration;

use super::event::{Blocker, Closed, Connection, Data, Direction, Event, Kind, cut};
use super::scope::Scope;
use super::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use super::sync::{Mutex, MutexGuard};

/// How many events of a connection are remembered.
const EVENTS: usize = 64;
/// How many bytes of payload of a connection are remembered.
const BYTES: usize = 16 * 1024;
/// The most bytes that one event has. More at once are several events.
const PIECE: usize = 64 * 1024;

/// Where the events of a connection go. Each of its functions looks first whether somebody wants
/// events, and does nothing else if nobody does.
pub(crate) struct Track {
    scope: Option<Arc<Scope>>,
    id: u64,
    /// The number of the instance that has the connection; 0 if none has.
    instance: AtomicU64,
    /// Whether the connection has ended, after which nothing is reported any more.
    over: AtomicBool,
    /// What is known of the connection; nothing while nobody watches. The lock keeps its events in
    /// order, and is taken before that of the [`Log`](super::log::Log).
    known: Mutex<Option<Box<Known>>>,
}

/// What is known of a connection while somebody watches.
#[derive(Debug, Default)]
struct Known {
    /// Its last events, and the bytes of payload in them.
    recent: VecDeque<Event>,
    bytes: usize,
    /// Why the connection is about to end, if somebody has said.
    note: Option<Arc<str>>,
    /// How much had been received when somebody last looked and data waited to be.
    waited: Option<u64>,
    /// Whether it was reported that the service does not read.
    unread: bool,
    /// Whether it was reported that the peer's kernel has acknowledged our FIN.
    acknowledged: bool,
}

impl Track {
    /// Reports nothing.
    pub(crate) fn none() -> Self {
        Track::new(None, 0)
    }

    /// Reports the events of a connection of a service.
    pub(crate) fn new(scope: Option<Arc<Scope>>, id: u64) -> Self {
        Track {
            scope,
            id,
            instance: AtomicU64::new(0),
            over: AtomicBool::new(false),
            known: Mutex::new(None),
        }
    }

    /// The number of the connection.
    pub(crate) fn id(&self) -> u64 {
        self.id
    }

    /// The service and its events, if they are reported.
    pub(crate) fn scope(&self) -> Option<&Arc<Scope>> {
        self.scope.as_ref()
    }

    /// The name of the service; empty if it has none.
    pub(crate) fn service(&self) -> Arc<str> {
        let scope = self.scope.as_ref();
        scope.map(|scope| scope.service()).unwrap_or_default()
    }

    /// The number of the instance that has the connection.
    pub(crate) fn instance(&self) -> Option<u64> {
        Some(self.instance.load(Ordering::Relaxed)).filter(|&instance| instance != 0)
    }

    /// Describes the connection as far as its events do: its socket knows the addresses, the time, the
    /// bytes and the ends.
    pub(crate) fn connection(&self) -> Connection {
        Connection {
            id: self.id,
            service: self.service(),
            peer: None,
            local: None,
            began: Duration::ZERO,
            received: 0,
            sent: 0,
            received_end: false,
            sent_end: false,
            acknowledged: self.is_acknowledged(),
            instance: self.instance(),
        }
    }

    #[inline]
    fn watched(&self) -> Option<&Scope> {
        self.scope.as_deref().filter(|scope| scope.is_watched())
    }

    /// Returns whether somebody wants the events of the connection.
    pub(crate) fn is_watched(&self) -> bool {
        self.watched().is_some()
    }

    /// Returns whether somebody wants the bytes of data.
    #[inline]
    pub(crate) fn wants_payload(&self) -> bool {
        let scope = self.scope.as_deref();
        scope.is_some_and(Scope::wants_payload)
    }

    /// Reports what `kind` returns.
    #[inline]
    pub(crate) fn report(&self, kind: impl FnOnce() -> Kind) {
        if let Some(scope) = self.watched() {
            let kind = kind();
            self.with(|known| known.report(scope, self.id, kind));
        }
    }

    /// Reports that an instance of the service has the connection.
    pub(crate) fn served(&self, instance: u64) {
        self.instance.store(instance, Ordering::Relaxed);
        self.report(|| Kind::Served { instance });
    }

    /// Reports data. `count` counts its bytes, and returns how many there were before. The bytes
    /// are `None` if they never were in this process's memory.
    #[inline]
    pub(crate) fn data(
        &self,
        direction: Direction,
        length: usize,
        bytes: Option<&[u8]>,
        count: impl FnOnce() -> u64,
    ) {
        match self.watched() {
            None => _ = count(),
            Some(scope) => {
                // Counted under the lock: what is counted before the end is reported before it.
                let mut known = self.known();
                let offset = count();
                if self.is_over() {
                    return;
                }
                let known = known.get_or_insert_default();
                let bytes = bytes.filter(|_| scope.wants_payload());
                if direction == Direction::In && std::mem::take(&mut known.unread) {
                    known.report(scope, self.id, unread(false));
                }
                for data in pieces(direction, length, offset, bytes) {
                    known.report(scope, self.id, Kind::Data(data));
                }
            }
        }
    }

    /// Takes notice of whether data `waits` for the service, which has received so much. That it
    /// does not read is reported if nothing has changed since the last look.
    pub(crate) fn look(&self, waits: bool, received: u64) {
        let Some(scope) = self.watched() else {
            return;
        };
        self.with(|known| {
            let still = waits && known.waited == Some(received);
            known.waited = waits.then_some(received);
            if still && !known.unread {
                known.unread = true;
                known.report(scope, self.id, unread(true));
            }
        });
    }

    /// Takes notice that the peer's kernel has acknowledged our FIN.
    pub(crate) fn acknowledged(&self) {
        let Some(scope) = self.watched() else {
            return;
        };
        self.with(|known| {
            if !std::mem::replace(&mut known.acknowledged, true) {
                known.report(scope, self.id, Kind::Acknowledged);
            }
        });
    }

    /// Returns whether it was reported that the peer's kernel has acknowledged our FIN.
    pub(crate) fn is_acknowledged(&self) -> bool {
        self.known()
            .as_ref()
            .is_some_and(|known| known.acknowledged)
    }

    /// Notes why the connection is about to end.
    pub(crate) fn note(&self, note: impl FnOnce() -> String) {
        if self.watched().is_some() {
            let note = note();
            self.with(|known| known.note = Some(cut(&note).into()));
        }
    }

    /// Reports the end, after which nothing is reported any more. `closed` describes it; it gets
    /// what was noted, or what has become of the instance.
    pub(crate) fn closed(&self, closed: impl FnOnce(Option<&str>) -> Closed) {
        let Some(scope) = self.watched() else {
            // Who comes to watch from now on hears nothing of it any more.
            self.over.store(true, Ordering::Relaxed);
            return;
        };
        self.with(|known| {
            let note = known.note.take();
            let note = note.or_else(|| scope.trap(self.instance()?));
            let closed = closed(note.as_deref());
            known.report(scope, self.id, Kind::Closed(Box::new(closed)));
            self.over.store(true, Ordering::Relaxed);
        });
        self.forget();
    }

    /// The last events of the connection.
    pub(crate) fn recent(&self) -> Vec<Event> {
        match &*self.known() {
            Some(known) => known.recent.iter().cloned().collect(),
            None => Vec::new(),
        }
    }

    /// Forgets the last events.
    pub(crate) fn forget(&self) {
        *self.known() = None;
    }

    /// Does something with what is known, unless the connection has ended.
    fn with(&self, act: impl FnOnce(&mut Known)) {
        let mut known = self.known();
        if !self.is_over() {
            act(known.get_or_insert_default());
        }
    }

    fn is_over(&self) -> bool {
        self.over.load(Ordering::Relaxed)
    }

    fn known(&self) -> MutexGuard<'_, Option<Box<Known>>> {
        // No code panics while it holds the lock.
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Known {
    fn report(&mut self, scope: &Scope, id: u64, kind: Kind) {
        self.keep(scope.report(id, kind));
    }

    fn keep(&mut self, mut event: Event) {
        if event.kind.payload() > BYTES {
            event.kind.strip();
        }
        self.bytes += event.kind.payload();
        self.recent.push_back(event);
        while self.recent.len() > EVENTS || self.bytes > BYTES {
            let Some(oldest) = self.recent.pop_front() else {
                return;
            };
            self.bytes -= oldest.kind.payload();
        }
    }
}

/// The event that the service does not read, or reads again.
fn unread(is: bool) -> Kind {
    Kind::blocked(is, Direction::In, Blocker::Service)
}

/// The events of data that was moved at once.
fn pieces(
    direction: Direction,
    length: usize,
    offset: u64,
    bytes: Option<&[u8]>,
) -> impl Iterator<Item = Data> {
    let data = move |offset, length: usize, payload| Data {
        direction,
        length: length as u64,
        offset,
        payload,
    };
    let whole = match bytes {
        None => Some(data(offset, length, None)),
        Some(_) => None,
    };
    let pieces = bytes.unwrap_or_default().chunks(PIECE).enumerate();
    let pieces = pieces.map(move |(index, piece)| {
        let offset = offset + (index * PIECE) as u64;
        data(offset, piece.len(), Some(piece.into()))
    });
    whole.into_iter().chain(pieces)
}

impl fmt::Debug for Track {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Track")
            .field("id", &self.id)
            .field("scope", &self.scope)
            .finish_non_exhaustive()
    }
}
