//! From accept to a service: who is let in, and what comes before the service.

use std::io;
use std::net::SocketAddr;
use std::os::fd::AsFd;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use rustls::ServerConfig;
use socket2::SockRef;
use tokio::net::TcpStream;
use tokio::sync::OwnedSemaphorePermit;
use tokio::time::timeout;
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;

use super::Shared;
use super::serving::{Accepted, Worker};
use crate::admission::{AtLimit, PeerPlace, Refusal};
use crate::proxy_protocol::ProxyProtocol;
use crate::tcp::{Acceptor, Ending, Life, Load, PeerTls, Place, Stream};
use crate::tls::known_of;

/// What stands between accept and the service.
#[derive(Clone, Debug, Default)]
pub(super) struct Front {
    pub(super) proxy: Option<ProxyProtocol>,
    /// And how long a handshake may take.
    pub(super) tls: Option<(Arc<ServerConfig>, Duration)>,
}

/// A connection that was accepted, and has still to be admitted.
struct Arrival {
    stream: std::net::TcpStream,
    life: Life,
    /// Its place among all, if it has waited for one.
    permit: Option<OwnedSemaphorePermit>,
}

/// A connection that is to be served.
struct Admitted {
    stream: Stream,
    /// What is known of its peer's TLS session.
    tls: Option<PeerTls>,
    permit: OwnedSemaphorePermit,
    of_peer: Option<PeerPlace>,
}

impl Shared {
    /// Accepts until it is told not to. What it has accepted it always hands over.
    pub(super) async fn accept_all(
        self: Arc<Self>,
        listener: Acceptor,
        workers: Arc<[Worker]>,
        retired: CancellationToken,
    ) {
        loop {
            let next = tokio::select! {
                next = self.next(&listener) => next,
                () = retired.cancelled() => return,
            };
            let arrival = match next {
                Ok(arrival) => arrival,
                Err(error) => {
                    tracing::error!("a listener has failed, and accepts no more: {error}");
                    return;
                }
            };
            if self.front.waits() {
                // For its peer, and so it holds up nobody else.
                let (shared, workers) = (self.clone(), workers.clone());
                let arriving = Load::one_more(&self.arriving);
                self.tasks.spawn(async move {
                    let _arriving = arriving;
                    tokio::select! {
                        () = shared.clone().receive(arrival, &workers) => {}
                        () = shared.killed.cancelled() => {}
                    }
                });
            } else {
                self.clone().receive(arrival, &workers).await;
            }
        }
    }

    /// The next connection.
    async fn next(&self, listener: &Acceptor) -> io::Result<Arrival> {
        let permit = match self.at_limit {
            AtLimit::Refuse => None,
            // It is never closed.
            AtLimit::Wait => self.permits.clone().acquire_owned().await.ok(),
        };
        let (stream, peer) = listener
            .accept(|error| {
                self.observers
                    .tell(|observer| observer.accept_failed(error))
            })
            .await?;
        Ok(Arrival {
            stream,
            life: Life::new(peer, self.observers.clone()),
            permit,
        })
    }

    /// Admits a connection and hands it to a service, or refuses it.
    async fn receive(self: Arc<Self>, arrival: Arrival, workers: &[Worker]) {
        let Arrival {
            stream,
            mut life,
            permit,
        } = arrival;
        let admitted = match self.admit(stream, &mut life, permit).await {
            Ok(admitted) => admitted,
            Err(refusal) => return life.ending(Ending::Refused(refusal)),
        };
        self.accepted.fetch_add(1, Ordering::Relaxed);
        self.observers.tell(|observer| observer.accepted());
        let worker = workers
            .iter()
            .min_by_key(|worker| worker.load.load(Ordering::Relaxed));
        let accepted = Accepted {
            peer: life.peer(),
            stream: admitted.stream,
            place: Place {
                _permit: admitted.permit,
                _peer: admitted.of_peer,
                _load: Load::one_more(worker.map_or(&self.unshared, |worker| &worker.load)),
                tls: admitted.tls.map(Box::new),
                life,
            },
        };
        match worker {
            None => {
                let shared = self.clone();
                self.tasks
                    .spawn(async move { shared.own_instance(accepted).await });
            }
            // The other end lives as long as the server.
            Some(worker) => drop(worker.handover.send(accepted).await),
        }
    }

    /// Does what comes before the service. A connection that is not admitted is reset,
    /// unless TLS has told it why.
    async fn admit(
        &self,
        stream: std::net::TcpStream,
        life: &mut Life,
        permit: Option<OwnedSemaphorePermit>,
    ) -> Result<Admitted, Refusal> {
        if !self.front.waits() {
            let places = self.place(life.peer(), permit);
            let (permit, of_peer) = places.inspect_err(|_| reset_when_closed(&stream))?;
            return Ok(Admitted {
                stream: Stream::Accepted(stream),
                tls: None,
                permit,
                of_peer,
            });
        }
        let mut stream = TcpStream::from_std(stream).map_err(|error| {
            tracing::error!(peer = %life.peer(), "a connection cannot be watched: {error}");
            Refusal::Full
        })?;
        let known = async {
            let told = self.introduce(&mut stream, life).await?;
            Ok((told, self.place(life.peer(), permit)?))
        };
        let (told, (permit, of_peer)) = match known.await {
            Ok(known) => known,
            Err(refusal) => {
                reset_when_closed(&stream);
                return Err(refusal);
            }
        };
        let (stream, own) = self.secure(stream, life.peer()).await?;
        Ok(Admitted {
            stream,
            // What was decrypted here counts more than what another tells.
            tls: own.or(told),
            permit,
            of_peer,
        })
    }

    /// Learns from a load balancer who the peer is, and of its TLS session.
    async fn introduce(
        &self,
        stream: &mut TcpStream,
        life: &mut Life,
    ) -> Result<Option<PeerTls>, Refusal> {
        let Some(proxy) = &self.front.proxy else {
            return Ok(None);
        };
        let balancer = life.peer();
        if !proxy.trusts(balancer) {
            return Err(Refusal::Untrusted);
        }
        match proxy.read(stream).await {
            Ok(forwarded) => {
                life.set_peer(forwarded.source.unwrap_or(balancer));
                Ok(forwarded.tls)
            }
            Err(error) => {
                tracing::debug!(%balancer, "{error}");
                Err(Refusal::ProxyHeader)
            }
        }
    }

    /// A connection's place among all, and that among those of its peer.
    fn place(
        &self,
        peer: SocketAddr,
        permit: Option<OwnedSemaphorePermit>,
    ) -> Result<(OwnedSemaphorePermit, Option<PeerPlace>), Refusal> {
        let of_peer = self.admission.admit(peer)?;
        let permit = match permit {
            Some(permit) => permit,
            None => {
                let permit = self.permits.clone().try_acquire_owned();
                permit.map_err(|_| Refusal::Full)?
            }
        };
        Ok((permit, of_peer))
    }

    /// Does the TLS handshake. One that fails has been told why, by an alert.
    async fn secure(
        &self,
        stream: TcpStream,
        peer: SocketAddr,
    ) -> Result<(Stream, Option<PeerTls>), Refusal> {
        let Some((config, longest)) = &self.front.tls else {
            return Ok((Stream::Plain(stream), None));
        };
        let handshake = TlsAcceptor::from(config.clone()).accept(stream);
        match timeout(*longest, handshake).await {
            Ok(Ok(secure)) => {
                let (stream, session) = secure.into_inner();
                let known = known_of(&session);
                Ok((Stream::Tls(stream, Box::new(session)), Some(known)))
            }
            Ok(Err(error)) => {
                tracing::debug!(%peer, "TLS handshake: {error}");
                Err(Refusal::Handshake)
            }
            Err(_) => {
                tracing::debug!(%peer, "TLS handshake: not done in time");
                Err(Refusal::Handshake)
            }
        }
    }
}

impl Front {
    /// Whether the peer has something to do before it is served.
    fn waits(&self) -> bool {
        self.proxy.is_some() || self.tls.is_some()
    }
}

/// Has a connection that is not admitted end by RST, before anything is read of it.
fn reset_when_closed(stream: &impl AsFd) {
    // Fails only if the peer has already gone.
    let _ = SockRef::from(stream).set_linger(Some(Duration::ZERO));
}
