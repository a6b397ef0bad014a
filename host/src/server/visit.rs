//! One connection, as the server sees it from accept to its last FIN.

use std::fmt;
use std::io;
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use tokio::runtime::{Handle, RuntimeFlavor};
use tokio::sync::oneshot;

use super::cause::closed;
use super::journal::Journal;
use super::observer::Observers;
use super::places::Places;
use super::report::{Accepted, Outcome, Refusal, Report};
use crate::events::{Direction, Kind, Track};
use crate::tcp::{
    Attachment, Connection, Ending, Meter, Parted, PeerTls, Registry, Relay, Stream, TcpCtx,
    canonical,
};

/// Says whether a peer is refused.
#[derive(Clone)]
pub(super) struct Banned(pub(super) Arc<dyn Fn(SocketAddr) -> bool + Send + Sync>);

impl fmt::Debug for Banned {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Banned").finish_non_exhaustive()
    }
}

/// One connection, from accept until it has closed for good.
///
/// The gate fills in the places. Once a store has the connection, its socket holds the
/// visit, and drops it after the descriptor is closed. Dropping a visit gives its places
/// back and then reports to the observers, so that a new connection finds the place of one
/// that was reported as closed.
#[derive(Debug)]
pub(super) struct Visit {
    peer: SocketAddr,
    /// The peer's TLS session, as the handshake or a load balancer describes it.
    peer_session: Option<Box<PeerTls>>,
    pub(super) places: Places,
    meter: Arc<Meter>,
    refusal: Option<Refusal>,
    /// Whether the peer was refused since it was admitted.
    banned: Option<Banned>,
    observers: Arc<Observers>,
    /// Dropped at the end of the visit, which is how others hear of it.
    going_on: Option<oneshot::Sender<()>>,
}

/// The end of a visit, as others wait for it.
#[derive(Debug)]
pub(super) struct Ended(Option<oneshot::Receiver<()>>);

impl Ended {
    /// Waits until the connection has closed for good, and its places are free. May be called
    /// again.
    pub(super) async fn wait(&mut self) {
        if let Some(going_on) = &mut self.0 {
            // Nothing is ever sent: the visit drops the sender.
            let _ = going_on.await;
            self.0 = None;
        }
    }
}

impl Visit {
    /// Begins a visit: the connection of `peer` has just been accepted.
    pub(super) fn begin(stream: &TcpStream, peer: SocketAddr, observers: Arc<Observers>) -> Self {
        Visit::go_on(stream, peer, Duration::ZERO, observers)
    }

    /// Begins a visit that goes on from another server, which has accepted the connection so long
    /// ago.
    pub(super) fn go_on(
        stream: &TcpStream,
        peer: SocketAddr,
        age: Duration,
        observers: Arc<Observers>,
    ) -> Self {
        let visit = Visit::of(peer, age, observers);
        let track = visit.track();
        track.report(|| {
            let local = stream.local_addr().ok().map(canonical);
            Kind::accepted(peer, local, track.service())
        });
        visit
    }

    fn of(peer: SocketAddr, age: Duration, observers: Arc<Observers>) -> Self {
        static NEXT: AtomicU64 = AtomicU64::new(1);
        let id = NEXT.fetch_add(1, Ordering::Relaxed);
        Visit {
            peer,
            peer_session: None,
            places: Places::default(),
            meter: Arc::new(Meter::tracked(Track::new(observers.scope(), id)).aged(age)),
            refusal: None,
            banned: None,
            observers,
            going_on: None,
        }
    }

    /// The events of the connection.
    pub(super) fn track(&self) -> &Track {
        self.meter.track()
    }

    pub(super) fn journal(&self) -> &Journal {
        self.observers.journal()
    }

    /// Returns the end of the visit, to wait for. Only the value returned last resolves at the
    /// end; one returned before resolves when it is replaced.
    pub(super) fn ended(&mut self) -> Ended {
        let (going_on, ended) = oneshot::channel();
        self.going_on = Some(going_on);
        Ended(Some(ended))
    }

    /// When the connection was accepted.
    pub(super) fn began(&self) -> Instant {
        self.meter.began()
    }

    pub(super) fn peer(&self) -> SocketAddr {
        self.peer
    }

    /// Reports that the service gets the connection.
    pub(super) fn accepted(&self) {
        let accepted = Accepted {
            id: self.track().id(),
            peer: self.peer,
        };
        self.observers
            .notify(|observer| observer.accepted(&accepted));
    }

    /// Sets the address of the peer that a load balancer forwards.
    pub(super) fn set_peer(&mut self, peer: SocketAddr) {
        self.peer = peer;
    }

    pub(super) fn set_peer_session(&mut self, session: PeerTls) {
        self.peer_session = Some(Box::new(session));
    }

    /// Sets who knows whether the peer is refused by the time that the service gets the connection.
    pub(super) fn ask_again(&mut self, banned: Banned) {
        self.banned = Some(banned);
    }

    /// Ends the visit before any service has seen the connection.
    pub(super) fn refuse(mut self, refusal: Refusal) {
        self.refusal = Some(refusal);
    }

    /// Opens the connection in a store. The socket holds the visit from now on.
    ///
    /// # Errors
    /// If the runtime cannot watch the socket. The visit ends then.
    pub(super) fn open(mut self, stream: Stream, ctx: &TcpCtx) -> io::Result<Connection> {
        let stream = match Handle::current().runtime_flavor() {
            // A worker has a runtime of its own, which has to watch its connections.
            RuntimeFlavor::CurrentThread => stream.moved_here()?,
            _ => stream,
        };
        let (peer, banned) = (self.peer, self.banned.take());
        let attachment = Attachment {
            meter: self.meter.clone(),
            peer_session: self.peer_session.take(),
            guard: Box::new(self),
        };
        let connection = ctx.open(stream, Some(peer), Some(attachment))?;
        // A ban resets registered connections. It may have come before this one was registered.
        if banned.is_some_and(|Banned(banned)| banned(peer)) {
            connection.socket().abort(Ending::Operator);
        }
        Ok(connection)
    }

    /// Passes bytes between connections, of which the accepted one is the visit's, without a
    /// store. The socket holds the visit from now on.
    ///
    /// # Errors
    /// If the runtime cannot watch a socket. The visit ends then.
    pub(super) fn relay(self, parted: Parted, connections: &Registry) -> io::Result<Relay> {
        let peer = self.peer;
        let attachment = Attachment {
            meter: self.meter.clone(),
            peer_session: None,
            guard: Box::new(self),
        };
        Relay::open(parted, peer, attachment, connections)
    }
}

impl Drop for Visit {
    fn drop(&mut self) {
        drop(std::mem::take(&mut self.places));
        let (received, sent) = self.meter.bytes();
        let report = Report {
            id: self.track().id(),
            peer: self.peer,
            received,
            sent,
            duration: self.meter.age(),
            first_end: self.meter.first_end(),
            outcome: match self.refusal {
                Some(refusal) => Outcome::Refused(refusal),
                None => Outcome::Served(self.meter.ending().unwrap_or(Ending::Fin)),
            },
        };
        if let Some(refusal) = self.refusal {
            self.observers.journal().refused(self.peer, refusal);
            if refusal.resets() {
                self.track().report(|| Kind::Rst(Direction::Out));
            }
        }
        self.track()
            .closed(|note| closed(&report, &self.meter, note));
        self.observers.notify(|observer| observer.closed(&report));
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use tokio::sync::Semaphore;

    use super::*;

    fn peer() -> SocketAddr {
        SocketAddr::from(([192, 0, 2, 1], 7))
    }

    #[test]
    fn the_places_are_free_when_the_end_is_reported_once() {
        let permits = Arc::new(Semaphore::new(1));
        let reports = Arc::new(Mutex::new(Vec::new()));
        let mut observers = Observers::default();
        let (free, reported) = (permits.clone(), reports.clone());
        observers.add(move |report: &Report| {
            let free = free.available_permits();
            reported.lock().unwrap().push((free, report.clone()));
        });
        let mut visit = Visit::of(peer(), Duration::ZERO, Arc::new(observers));
        visit.places.permit = permits.try_acquire_owned().ok();
        visit.meter.set_ending(Ending::Trapped);
        visit.meter.set_ending(Ending::Fin);
        drop(visit);
        let reports = reports.lock().unwrap();
        let [(free, report)] = &reports[..] else {
            panic!("{reports:?}");
        };
        assert_eq!(*free, 1);
        assert_eq!(report.peer, peer());
        assert_eq!(report.outcome.to_string(), "trap");
    }

    #[test]
    fn a_refusal_is_reported_as_such() {
        let outcomes = Arc::new(Mutex::new(Vec::new()));
        let mut observers = Observers::default();
        let reported = outcomes.clone();
        observers.add(move |report: &Report| {
            assert!(report.outcome.is_refusal());
            reported.lock().unwrap().push(report.outcome.to_string());
        });
        Visit::of(peer(), Duration::ZERO, Arc::new(observers)).refuse(Refusal::TooMany);
        assert_eq!(*outcomes.lock().unwrap(), ["refused-per-peer"]);
    }
}
