//! Who comes in: accepts connections, and admits or refuses each.
//!
//! A connection takes its place among all connections only when its peer has done its part:
//! a PROXY protocol header, a TLS handshake. Until then it is one of the [`Arrivals`], which
//! have a limit of their own.

use std::fmt;
use std::io;
use std::net::IpAddr;
use std::num::NonZeroU32;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use futures::FutureExt as _;
use rustix::io::Errno;
use rustls::ServerConfig;
use tokio_util::sync::CancellationToken;

use super::dispatch::Dispatcher;
use super::observer::{Observer, Observers};
use super::peers::{Elsewhere, PeerChanges};
use super::report::Refusal;
use super::tasks::Tasks;
use super::visit::{Banned, Visit};
use crate::tcp::{Acceptor, Backoff, Stream, reset_on_close};

mod admission;
mod arrivals;
mod bans;
mod introduction;
mod network;
pub mod proxy_protocol;
mod rates;
mod relayed;
mod room;
mod tickets;
pub mod tls;

use admission::Admission;
pub use admission::Peers;
pub(super) use admission::Share;
use arrivals::Arrivals;
pub use bans::Bans;
use introduction::{Introduction, Way};
use proxy_protocol::ProxyProtocol;
pub use room::AtLimit;
use room::Room;

/// The default limit on arriving connections, unless that on all connections is higher.
const LEAST_ARRIVING: usize = 1024;

/// Settings of a [`Gate`].
#[derive(Clone, Debug)]
pub(super) struct Settings {
    pub(super) max_connections: usize,
    /// `None` is as many as `max_connections`, and at least [`LEAST_ARRIVING`].
    pub(super) max_arriving: Option<usize>,
    pub(super) at_limit: AtLimit,
    pub(super) peers: Peers,
    pub(super) bans: Bans,
    pub(super) share: Share,
    pub(super) max_rate_per_peer: Option<NonZeroU32>,
    pub(super) proxy: Option<ProxyProtocol>,
    pub(super) tls: Option<Arc<ServerConfig>>,
    pub(super) handshake_timeout: Duration,
}

/// Admits connections, and gives them to a [`Dispatcher`].
pub(super) struct Gate {
    room: Room,
    arrivals: Arc<Arrivals>,
    admission: Admission,
    introduction: Introduction,
    banned: Banned,
    /// Connections that were admitted, in all.
    accepted: AtomicU64,
    observers: Arc<Observers>,
    tasks: Tasks,
}

/// A connection that was just accepted.
type Accepted = (std::net::TcpStream, Visit);

impl Gate {
    pub(super) fn new(settings: Settings, observers: Arc<Observers>, tasks: Tasks) -> Self {
        let connections = settings.max_connections;
        let arriving = settings.max_arriving;
        let balancers = settings.proxy.iter().flat_map(ProxyProtocol::trusted);
        let bans = settings.bans.clone();
        Gate {
            banned: Banned(Arc::new(move |peer| bans.refuse(peer.ip()))),
            room: Room::new(connections, settings.at_limit, tasks.connections().clone()),
            arrivals: Arrivals::new(arriving.unwrap_or(connections.max(LEAST_ARRIVING))),
            admission: Admission::new(
                (settings.peers, settings.bans),
                balancers.copied().collect(),
                connections,
                settings.share,
                settings.max_rate_per_peer,
            ),
            introduction: Introduction {
                proxy: settings.proxy,
                tls: settings.tls,
                handshake_timeout: settings.handshake_timeout,
                draining: AtomicBool::new(false),
            },
            accepted: AtomicU64::new(0),
            observers,
            tasks,
        }
    }

    pub(super) fn set_peers(&self, peers: Peers) {
        self.admission.set_peers(peers);
    }

    /// Counts connections that peers have in another server as well.
    pub(super) fn elsewhere(&self) -> Elsewhere {
        self.admission.elsewhere()
    }

    /// Follows how many connections each peer has.
    pub(super) fn follow_peers(&self) -> PeerChanges {
        self.admission.follow()
    }

    /// Returns what peers have spent of their rate.
    pub(super) fn spent(&self, most: usize) -> Vec<(IpAddr, Duration)> {
        self.admission.spent(most)
    }

    /// Takes over what a peer has spent in another server.
    pub(super) fn spend(&self, peer: IpAddr, left: Duration) {
        self.admission.spend(peer, left);
    }

    /// Lets the health checks of load balancers fail from now on.
    pub(super) fn fail_health_checks(&self) {
        self.introduction.draining.store(true, Ordering::Relaxed);
    }

    /// Returns how many connections wait for their peer, or after that for a place.
    pub(super) fn arriving(&self) -> usize {
        self.arrivals.count()
    }

    /// Logs that a listener accepts no more.
    pub(super) fn listener_failed(&self, error: &io::Error) {
        self.observers.journal().listener_failed(error);
    }

    /// Returns how many connections were admitted, in all.
    pub(super) fn accepted(&self) -> u64 {
        self.accepted.load(Ordering::Relaxed)
    }

    /// Accepts until `retired` is cancelled or the listener fails. Each accepted connection
    /// is admitted or refused, even then.
    pub(super) async fn accept_all(
        self: Arc<Self>,
        listener: Acceptor,
        dispatcher: Dispatcher,
        retired: CancellationToken,
    ) {
        let mut backoff = Backoff::default();
        loop {
            let accepted = tokio::select! {
                accepted = self.accept(&listener, &mut backoff) => accepted,
                () = retired.cancelled() => return,
            };
            let (stream, mut visit) = match accepted {
                Ok(accepted) => accepted,
                Err(error) => {
                    self.listener_failed(&error);
                    return;
                }
            };
            if let Err(refusal) = self.screen(&mut visit) {
                refuse(&stream, visit, refusal);
                continue;
            }
            let (gate, dispatcher) = (self.clone(), dispatcher.clone());
            let mut admitted = match self.introduction.is_needed() {
                true => gate.receive(stream, visit, dispatcher).boxed(),
                false => gate.admit(stream, visit, dispatcher).boxed(),
            };
            tokio::select! {
                () = &mut admitted => {}
                () = retired.cancelled() => {
                    // It may wait for a place; whoever stops the server waits for this loop
                    // without a limit, and for tasks within the grace time.
                    self.tasks.spawn(admitted);
                    return;
                }
            }
        }
    }

    /// Accepts the next connection. With [`AtLimit::Wait`], that is once there is a place
    /// for it, and the line of those who wait for a place has only listeners with a
    /// connection: an idle one keeps no place from the others.
    async fn accept(&self, listener: &Acceptor, backoff: &mut Backoff) -> io::Result<Accepted> {
        loop {
            listener.ready().await?;
            let place = self.room.reserve().await;
            match listener.accept() {
                Ok(Some((stream, peer))) => {
                    backoff.reset();
                    let mut visit = Visit::begin(&stream, peer, self.observers.clone());
                    // A connection that first has to introduce itself takes its place later.
                    visit.places.permit = place.filter(|_| !self.introduction.is_needed());
                    return Ok((stream, visit));
                }
                // Another listener on the same socket was faster.
                Ok(None) => {}
                Err(error) => {
                    drop(place);
                    if exhausted(&error) && self.arrivals.shed() {
                        // Descriptors will be free after the shortest pause.
                        backoff.reset();
                    }
                    let event = |observer: &dyn Observer| observer.accept_failed(&error);
                    self.observers.notify(event);
                    listener.wait_after(error, backoff).await?;
                }
            }
        }
    }

    /// Refuses what can be refused before the peer has sent anything: such connections do
    /// not displace others.
    fn screen(&self, visit: &mut Visit) -> Result<(), Refusal> {
        self.introduction.check(visit.peer())?;
        if !self.introduction.reads_header() {
            // The peer is known.
            visit.places.peer = self.admission.admit(visit.peer())?;
            self.room.check()?;
        }
        Ok(())
    }

    /// Gives an accepted connection its place, and to an instance.
    async fn admit(
        self: Arc<Self>,
        stream: std::net::TcpStream,
        mut visit: Visit,
        dispatcher: Dispatcher,
    ) {
        if visit.places.permit.is_none() {
            let place = tokio::select! {
                place = self.room.take() => place,
                () = self.tasks.killed() => Err(Refusal::Stopped),
            };
            match place {
                Ok(place) => visit.places.permit = Some(place),
                Err(refusal) => return refuse(&stream, visit, refusal),
            }
        }
        let stream = Stream::Accepted(stream);
        self.dispatch(stream, visit, &dispatcher).await;
    }

    /// Lets a connection introduce itself, in a task: a slow peer must not hold up the
    /// others.
    async fn receive(
        self: Arc<Self>,
        stream: std::net::TcpStream,
        mut visit: Visit,
        dispatcher: Dispatcher,
    ) {
        let arrival = tokio::select! {
            arrival = self.arrivals.enter() => arrival,
            () = self.tasks.killed() => return refuse(&stream, visit, Refusal::Stopped),
        };
        let tasks = self.tasks.clone();
        tasks.spawn(async move {
            let way = Way {
                arrival: &arrival,
                admission: &self.admission,
                room: &self.room,
                tasks: &self.tasks,
            };
            let introduced = self.introduction.introduce(stream, &mut visit, way).await;
            // The place among all connections replaces that among the arriving ones.
            drop(arrival);
            match introduced {
                Ok(stream) => self.dispatch(stream, visit, &dispatcher).await,
                Err(refusal) => visit.refuse(refusal),
            }
        });
    }

    async fn dispatch(&self, stream: Stream, mut visit: Visit, dispatcher: &Dispatcher) {
        let refusal = match self.admission.check_ban(visit.peer()) {
            // Banned since it was admitted.
            Err(refusal) => Some(refusal),
            Ok(()) if self.room.refuses() && !dispatcher.has_place() => Some(Refusal::Full),
            Ok(()) => None,
        };
        if let Some(refusal) = refusal {
            reset_on_close(&stream);
            return visit.refuse(refusal);
        }
        self.accepted.fetch_add(1, Ordering::Relaxed);
        visit.accepted();
        visit.ask_again(self.banned.clone());
        dispatcher.serve(stream, visit).await;
    }
}

/// Whether accepting fails until descriptors or memory are free (accept(2)).
fn exhausted(error: &io::Error) -> bool {
    matches!(
        Errno::from_io_error(error),
        Some(Errno::MFILE | Errno::NFILE | Errno::NOBUFS | Errno::NOMEM)
    )
}

/// Resets a connection, and ends its visit.
fn refuse(stream: &std::net::TcpStream, visit: Visit, refusal: Refusal) {
    reset_on_close(stream);
    visit.refuse(refusal);
}

impl fmt::Debug for Gate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Gate")
            .field("room", &self.room)
            .field("admission", &self.admission)
            .finish_non_exhaustive()
    }
}
