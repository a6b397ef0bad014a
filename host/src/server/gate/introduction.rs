//! What a peer has to do before its connection is admitted: the header of its load
//! balancer, and the TLS handshake.

use std::net::SocketAddr;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use rustls::{Connection, ServerConfig};
use tokio::net::TcpStream;

use super::admission::Admission;
use super::arrivals::Arrival;
use super::proxy_protocol::ProxyProtocol;
use super::room::Room;
use super::tls;
use crate::events::{Kind, Proxied};
use crate::noise::quietly;
use crate::server::report::Refusal;
use crate::server::tasks::Tasks;
use crate::server::visit::Visit;
use crate::tcp::{Stream, close_with_fin, describe, reset_on_close, secured};

/// What a server expects of its peers.
pub(super) struct Introduction {
    pub(super) proxy: Option<ProxyProtocol>,
    pub(super) tls: Option<Arc<ServerConfig>>,
    pub(super) handshake_timeout: Duration,
    /// Health checks of load balancers fail, because the server is about to stop.
    pub(super) draining: AtomicBool,
}

/// What a connection passes on its way in.
pub(super) struct Way<'g> {
    pub(super) arrival: &'g Arrival,
    pub(super) admission: &'g Admission,
    pub(super) room: &'g Room,
    pub(super) tasks: &'g Tasks,
}

impl Introduction {
    /// Returns whether a peer has something to do before it is admitted.
    pub(super) fn is_needed(&self) -> bool {
        self.reads_header() || self.tls.is_some()
    }

    /// Returns whether the peer is known only from a PROXY protocol header.
    pub(super) fn reads_header(&self) -> bool {
        self.proxy.is_some()
    }

    /// Refuses headers of strangers, who could name any peer.
    pub(super) fn check(&self, from: SocketAddr) -> Result<(), Refusal> {
        match &self.proxy {
            Some(proxy) if !proxy.trusts(from) => Err(Refusal::Untrusted),
            _ => Ok(()),
        }
    }

    /// Waits for the peer to do its part, and then for a place, which the visit gets.
    ///
    /// # Errors
    /// The reason why the connection is refused. It is reset then; after a failed
    /// handshake, it is closed behind a TLS alert.
    pub(super) async fn introduce(
        &self,
        stream: std::net::TcpStream,
        visit: &mut Visit,
        way: Way<'_>,
    ) -> Result<Stream, Refusal> {
        // Only a successful conversion returns a stream that can be told to close otherwise.
        reset_on_close(&stream);
        let mut stream = TcpStream::from_std(stream).map_err(|error| {
            visit.journal().lost(visit.peer(), &error);
            Refusal::Full
        })?;
        close_with_fin(&stream);
        let mut cut = pin!(async {
            tokio::select! {
                () = way.arrival.displaced() => Refusal::Displaced,
                () = way.tasks.killed() => Refusal::Stopped,
            }
        });
        let identified = async {
            if let Some(proxy) = &self.proxy {
                let local = read_header(proxy, &mut stream, visit).await?;
                if local && self.draining.load(Ordering::Relaxed) {
                    return Err(Refusal::Stopped);
                }
                visit.places.peer = way.admission.admit(visit.peer())?;
                way.room.check()?;
            }
            Ok(())
        };
        let identified = tokio::select! {
            identified = identified => identified,
            refusal = &mut cut => Err(refusal),
        };
        if let Err(refusal) = identified {
            reset_on_close(&stream);
            return Err(refusal);
        }
        let (stream, session) = self.secure(stream, visit, cut.as_mut()).await?;
        way.arrival.introduced();
        // A connection that was displaced just before gives way: a newcomer waits for its place.
        let place = tokio::select! {
            place = way.room.take() => place,
            refusal = cut => Err(refusal),
        };
        match place {
            Ok(place) => visit.places.permit = Some(place),
            Err(refusal) => {
                reset_on_close(&stream);
                return Err(refusal);
            }
        }
        Ok(match session {
            Some(session) => Stream::Tls(stream, session),
            None => Stream::Plain(stream),
        })
    }

    /// Does the TLS handshake, if the server has TLS.
    async fn secure(
        &self,
        stream: TcpStream,
        visit: &mut Visit,
        cut: impl Future<Output = Refusal>,
    ) -> Result<(TcpStream, Option<Box<Connection>>), Refusal> {
        let Some(config) = &self.tls else {
            return Ok((stream, None));
        };
        let handshake = tls::handshake(config, stream, self.handshake_timeout, cut).await;
        let (stream, session) = handshake.map_err(|failed| {
            quietly(|| tracing::debug!(peer = %visit.peer(), "TLS handshake: {}", failed.reason));
            failed.refusal
        })?;
        let session = Connection::from(session);
        // A session that ends here replaces what the load balancer reported.
        let described = describe(&session);
        visit.track().report(|| secured(&described));
        visit.set_peer_session(described);
        Ok((stream, Some(Box::new(session))))
    }
}

/// Reads from a load balancer whom it forwards. Returns whether the balancer connects for
/// itself.
async fn read_header(
    proxy: &ProxyProtocol,
    stream: &mut TcpStream,
    visit: &mut Visit,
) -> Result<bool, Refusal> {
    let forwarded = proxy.read(stream).await.map_err(|error| {
        quietly(|| tracing::debug!(balancer = %visit.peer(), "{error}"));
        Refusal::ProxyHeader
    })?;
    visit.track().report(|| {
        Kind::Proxied(Box::new(Proxied {
            peer: forwarded.source,
            local: forwarded.destination,
        }))
    });
    if let Some(source) = forwarded.source {
        visit.set_peer(source);
    }
    if let Some(session) = forwarded.tls {
        visit.set_peer_session(session);
    }
    Ok(forwarded.local)
}
