//! Who comes in: accepts connections, and admits or refuses each.

use std::fmt;
use std::io;
use std::num::NonZeroU32;
use std::os::fd::AsFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use rustls::ServerConfig;
use socket2::SockRef;
use tokio::net::TcpStream;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio_util::sync::CancellationToken;

use super::dispatch::Dispatcher;
use super::observer::{Observer, Observers};
use super::places::Gauge;
use super::report::Refusal;
use super::tasks::Tasks;
use super::visit::Visit;
use crate::tcp::{Acceptor, Stream};

mod admission;
pub mod proxy_protocol;
pub mod tls;

use admission::Admission;
pub use admission::Peers;
use proxy_protocol::ProxyProtocol;

/// What becomes of connections beyond the limit on all of them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum AtLimit {
    /// They wait in the listener's backlog; when that is full, their kernels try again and
    /// again to connect.
    #[default]
    Wait,
    /// The server accepts and resets them at once, so that their peers can turn elsewhere.
    Refuse,
}

/// Settings of a [`Gate`].
#[derive(Clone, Debug)]
pub(super) struct Settings {
    pub(super) max_connections: usize,
    pub(super) at_limit: AtLimit,
    pub(super) peers: Peers,
    pub(super) max_per_peer: Option<NonZeroU32>,
    pub(super) max_rate_per_peer: Option<NonZeroU32>,
    pub(super) proxy: Option<ProxyProtocol>,
    pub(super) tls: Option<Arc<ServerConfig>>,
    pub(super) handshake_timeout: Duration,
}

/// Admits connections, and gives them to a [`Dispatcher`].
pub(super) struct Gate {
    permits: Arc<Semaphore>,
    at_limit: AtLimit,
    admission: Admission,
    proxy: Option<ProxyProtocol>,
    tls: Option<Arc<ServerConfig>>,
    handshake_timeout: Duration,
    /// Connections that wait for a header or a handshake of their peer.
    arriving: Gauge,
    /// Connections that were admitted, in all.
    accepted: AtomicU64,
    observers: Arc<Observers>,
    tasks: Tasks,
}

impl Gate {
    pub(super) fn new(settings: Settings, observers: Arc<Observers>, tasks: Tasks) -> Self {
        Gate {
            permits: Arc::new(Semaphore::new(settings.max_connections)),
            at_limit: settings.at_limit,
            admission: Admission::new(
                settings.peers,
                settings.max_per_peer,
                settings.max_rate_per_peer,
            ),
            proxy: settings.proxy,
            tls: settings.tls,
            handshake_timeout: settings.handshake_timeout,
            arriving: Gauge::default(),
            accepted: AtomicU64::new(0),
            observers,
            tasks,
        }
    }

    pub(super) fn set_peers(&self, peers: Peers) {
        self.admission.set_peers(peers);
    }

    /// Returns how many connections wait for a header or a handshake of their peer.
    pub(super) fn arriving(&self) -> usize {
        self.arriving.get()
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
        loop {
            let accepted = tokio::select! {
                accepted = self.accept(&listener) => accepted,
                () = retired.cancelled() => return,
            };
            let (stream, visit) = match accepted {
                Ok(accepted) => accepted,
                Err(error) => {
                    tracing::error!("a listener has failed, and accepts no more: {error}");
                    return;
                }
            };
            if self.waits_for_peers() {
                // In a task, because a slow peer must not hold up the others.
                let (gate, dispatcher) = (self.clone(), dispatcher.clone());
                let arriving = self.arriving.count_one();
                self.tasks.spawn(async move {
                    let _arriving = arriving;
                    tokio::select! {
                        () = gate.receive(stream, visit, &dispatcher) => {}
                        () = gate.tasks.killed() => {}
                    }
                });
            } else {
                self.receive(stream, visit, &dispatcher).await;
            }
        }
    }

    /// Accepts the next connection; with [`AtLimit::Wait`], once there is a place for it.
    async fn accept(&self, listener: &Acceptor) -> io::Result<(std::net::TcpStream, Visit)> {
        let permit = match self.at_limit {
            AtLimit::Refuse => None,
            // The semaphore is never closed.
            AtLimit::Wait => self.permits.clone().acquire_owned().await.ok(),
        };
        let (stream, peer) = listener
            .accept(|error| {
                let event = |observer: &dyn Observer| observer.accept_failed(error);
                self.observers.notify(event);
            })
            .await?;
        let mut visit = Visit::begin(peer, self.observers.clone());
        visit.places.permit = permit;
        Ok((stream, visit))
    }

    /// Whether a peer has something to do before it is admitted.
    fn waits_for_peers(&self) -> bool {
        self.proxy.is_some() || self.tls.is_some()
    }

    /// Admits a connection and gives it to an instance, or refuses it.
    async fn receive(
        &self,
        stream: std::net::TcpStream,
        mut visit: Visit,
        dispatcher: &Dispatcher,
    ) {
        let stream = match self.admit(stream, &mut visit).await {
            Ok(stream) => stream,
            Err(refusal) => return visit.refuse(refusal),
        };
        if self.at_limit == AtLimit::Refuse && !dispatcher.has_place() {
            stream.reset_on_close();
            return visit.refuse(Refusal::Full);
        }
        self.accepted.fetch_add(1, Ordering::Relaxed);
        self.observers.notify(|observer| observer.accepted());
        dispatcher.serve(stream, visit).await;
    }

    /// Does everything that comes before the service. A refused connection is reset; after
    /// a failed handshake, it is closed behind a TLS alert.
    async fn admit(
        &self,
        stream: std::net::TcpStream,
        visit: &mut Visit,
    ) -> Result<Stream, Refusal> {
        if !self.waits_for_peers() {
            self.take_places(visit)
                .inspect_err(|_| reset_on_close(&stream))?;
            return Ok(Stream::Accepted(stream));
        }
        let mut stream = TcpStream::from_std(stream).map_err(|error| {
            tracing::error!(peer = %visit.peer(), "a connection cannot be watched: {error}");
            Refusal::Full
        })?;
        let introduced = async {
            self.read_header(&mut stream, visit).await?;
            self.take_places(visit)
        };
        if let Err(refusal) = introduced.await {
            reset_on_close(&stream);
            return Err(refusal);
        }
        self.secure(stream, visit).await
    }

    /// Reads from a load balancer whom it forwards.
    async fn read_header(&self, stream: &mut TcpStream, visit: &mut Visit) -> Result<(), Refusal> {
        let Some(proxy) = &self.proxy else {
            return Ok(());
        };
        let balancer = visit.peer();
        if !proxy.trusts(balancer) {
            return Err(Refusal::Untrusted);
        }
        let forwarded = proxy.read(stream).await.map_err(|error| {
            tracing::debug!(%balancer, "{error}");
            Refusal::ProxyHeader
        })?;
        if let Some(source) = forwarded.source {
            visit.set_peer(source);
        }
        if let Some(session) = forwarded.tls {
            visit.set_peer_session(session);
        }
        Ok(())
    }

    /// Takes the connection's places: one among those of its peer, and one among all.
    fn take_places(&self, visit: &mut Visit) -> Result<(), Refusal> {
        visit.places.peer = self.admission.admit(visit.peer())?;
        if visit.places.permit.is_none() {
            visit.places.permit = Some(self.permit()?);
        }
        Ok(())
    }

    fn permit(&self) -> Result<OwnedSemaphorePermit, Refusal> {
        let permit = self.permits.clone().try_acquire_owned();
        permit.map_err(|_| Refusal::Full)
    }

    /// Does the TLS handshake, if the server has TLS.
    async fn secure(&self, stream: TcpStream, visit: &mut Visit) -> Result<Stream, Refusal> {
        let Some(config) = &self.tls else {
            return Ok(Stream::Plain(stream));
        };
        let handshake = tls::handshake(config, stream, self.handshake_timeout);
        let (stream, session) = handshake.await.map_err(|error| {
            tracing::debug!(peer = %visit.peer(), "TLS handshake: {error}");
            Refusal::Handshake
        })?;
        // A session that ends here replaces what the load balancer reported.
        visit.set_peer_session(tls::peer_session(&session));
        Ok(Stream::Tls(stream, Box::new(session)))
    }
}

/// Makes close(2) send RST, for a connection of which nothing has been read.
fn reset_on_close(stream: &impl AsFd) {
    // Fails only if the peer has already gone.
    let _ = SockRef::from(stream).set_linger(Some(Duration::ZERO));
}

impl fmt::Debug for Gate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Gate")
            .field("at_limit", &self.at_limit)
            .field("admission", &self.admission)
            .finish_non_exhaustive()
    }
}
