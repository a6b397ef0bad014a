//! What a store needs to offer the primitives: context, builder, view.

use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use rustls::{ClientConfig, ServerConfig};
use tokio::net::TcpStream;
use tokio_util::sync::CancellationToken;
use wasmtime::component::{HasData, ResourceTable};

use super::callbacks::Sockets as Callbacks;
use super::listener::no_delay;
use super::membership::Membership;
use super::resolve::Resolver;
use super::secure::{Role, Settings as Tls};
use super::socket::securing::Beginning;
use super::{
    Attachment, Connection, Denied, Ending, ErrorCode, Meter, Names, Passing, Policy, Quota,
    Registry, Resolve, Socket, SocketPlace, Sockets, Stream,
};
use crate::noise::{Noise, caught};
use crate::topics::Topics;

/// The state of the primitives in one store: what its guest may do, and which connections
/// it has.
#[derive(Debug)]
pub struct TcpCtx {
    policy: Policy,
    resolver: Resolver,
    /// Made when the guest first names a name.
    names: Option<Names>,
    on_denied: OnDenied,
    /// Limits what the guest makes the log say.
    noise: Arc<Noise>,
    opener: Opener,
    /// The pumps between its connections, if somebody may want to part with these.
    passing: Passing,
    quota: Quota,
    connect_timeout: Option<Duration>,
    tls: Tls,
    /// Cancelled when the guest's listeners have to close.
    stopping: CancellationToken,
    /// The connections of a service in callback style.
    sockets: Callbacks,
    membership: Membership,
}

/// Opens the connections of a store.
#[derive(Clone, Debug, Default)]
pub(super) struct Opener {
    /// The connections of this store.
    connections: Registry,
    /// A registry that the connections are entered into as well.
    outer: Option<Registry>,
}

impl Opener {
    /// Takes over a connected stream, in the current tokio runtime.
    ///
    /// # Errors
    /// If the runtime cannot register the stream. The attachment is then dropped, after
    /// the stream is closed.
    fn open(
        &self,
        stream: Stream,
        remote: Option<SocketAddr>,
        attachment: Option<Attachment>,
    ) -> io::Result<Connection> {
        let outer = self.outer.as_ref();
        let socket = Socket::open(stream, remote, &self.connections, outer, attachment)?;
        Ok(Connection::new(socket))
    }

    /// Takes over a stream that the guest has made or accepted itself, with its place among
    /// the guest's sockets.
    ///
    /// # Errors
    /// If the runtime cannot register the stream.
    pub(super) fn open_own(
        &self,
        stream: TcpStream,
        remote: SocketAddr,
        place: SocketPlace,
    ) -> io::Result<Connection> {
        no_delay(&stream);
        let attachment = Attachment {
            // The limits on time hold for these connections as well. Their bytes are not
            // those of a peer.
            meter: Arc::new(Meter::of_guest()),
            peer_session: None,
            guard: Box::new(place),
        };
        self.open(Stream::Plain(stream), Some(remote), Some(attachment))
    }
}

/// Controls the connections and listeners of a store while its guest runs.
#[derive(Clone, Debug)]
pub(crate) struct Handle {
    connections: Registry,
    stopping: CancellationToken,
}

impl Handle {
    /// Closes the guest's listeners. Calls of `accept` then never return.
    pub(crate) fn stop_accepting(&self) {
        self.stopping.cancel();
    }

    /// Waits until no connection is left, including those being closed.
    pub(crate) async fn empty(&self) {
        self.connections.empty().await;
    }

    /// Resets every connection that has not ended.
    pub(crate) fn abort_all(&self) {
        self.connections.abort_all(&Ending::Trapped);
    }

    /// Resets every connection that has not ended, and cuts gentle closes short.
    pub(crate) fn shut_down(&self) {
        self.connections.shut_down();
    }
}

impl TcpCtx {
    /// Returns a builder for a context that grants nothing by default.
    #[must_use]
    pub fn builder() -> TcpCtxBuilder {
        TcpCtxBuilder::default()
    }

    /// Makes a handle from a connected stream, such as an accepted one. Push the handle
    /// into the store's resource table to pass it to the guest.
    ///
    /// Switches TCP_NODELAY on.
    ///
    /// # Panics
    /// Outside of a tokio runtime.
    #[must_use]
    pub fn connection(&self, stream: TcpStream) -> Connection {
        no_delay(&stream);
        let attachment = Attachment {
            meter: Arc::new(Meter::of_guest()),
            peer_session: None,
            guard: Box::new(()),
        };
        self.open(Stream::Plain(stream), None, Some(attachment))
            .expect("a tokio stream is already registered")
    }

    /// Resets every connection of this store that has not ended (rule C4).
    ///
    /// Call this when a guest has trapped, before its store is dropped. Dropping the store
    /// alone ends the connections with FIN, and their peers may mistake a truncated reply
    /// for a complete one.
    pub fn abort_all(&self) {
        self.opener.connections.abort_all(&Ending::Trapped);
    }

    /// How often data was transferred between the guest and its connections, or an event was
    /// delivered.
    pub(crate) fn moved(&self) -> u64 {
        self.opener.connections.moved() + self.sockets.events() + self.membership.moved()
    }

    /// The peer of the connection whose event a guest in callback style handles.
    pub(crate) fn current_peer(&self) -> Option<SocketAddr> {
        self.sockets.current_peer()
    }

    /// What the guest has to do with topics.
    pub(super) fn membership(&self) -> &Membership {
        &self.membership
    }

    pub(super) fn sockets(&mut self) -> &mut Callbacks {
        &mut self.sockets
    }

    pub(crate) fn handle(&self) -> Handle {
        Handle {
            connections: self.opener.connections.clone(),
            stopping: self.stopping.clone(),
        }
    }

    /// Takes over a connected stream, in the current tokio runtime.
    ///
    /// # Errors
    /// If the runtime cannot register the stream. The attachment is then dropped, after
    /// the stream is closed.
    pub(crate) fn open(
        &self,
        stream: Stream,
        remote: Option<SocketAddr>,
        attachment: Option<Attachment>,
    ) -> io::Result<Connection> {
        self.opener.open(stream, remote, attachment)
    }

    /// Opens connections of this store, also after a call of the guest has returned.
    pub(super) fn opener(&self) -> &Opener {
        &self.opener
    }

    /// Notes pumps from now on, so that another process can go on with their connections.
    pub(crate) fn note_passing(&mut self) -> Passing {
        self.passing = Passing::of(self.opener.connections.clone());
        self.passing.clone()
    }

    /// The pumps between the connections.
    pub(super) fn passing(&self) -> &Passing {
        &self.passing
    }

    /// The limit on the guest's own sockets.
    pub(crate) fn quota(&self) -> &Quota {
        &self.quota
    }

    /// How long connecting may take; `None` is no limit but the kernel's.
    pub(crate) fn connect_timeout(&self) -> Option<Duration> {
        self.connect_timeout
    }

    /// Makes a TLS session for a connection in use.
    ///
    /// # Errors
    /// Those of [`Role::begin`]. What is denied is reported.
    pub(super) fn begin_tls(&self, role: Role) -> Result<Beginning, ErrorCode> {
        if let Some(denied) = self.tls.denies(&role) {
            self.denied(&denied);
        }
        role.begin(&self.tls)
    }

    pub(super) fn policy(&self) -> &Policy {
        &self.policy
    }

    /// The names that the guest looks up.
    pub(crate) fn names(&mut self) -> &Names {
        let (policy, resolver) = (&self.policy, &self.resolver);
        let limit = self.connect_timeout;
        self.names
            .get_or_insert_with(|| Names::new(policy.clone(), resolver.clone(), limit))
    }

    /// Whether the guest may connect to an address.
    pub(super) fn may_connect(&self, address: SocketAddr) -> bool {
        match &self.names {
            Some(names) => names.may_connect(address),
            None => self.policy.may_connect(address),
        }
    }

    /// Reports that the guest was denied something.
    pub(crate) fn denied(&self, denied: &Denied) {
        self.report()(denied);
    }

    /// Reports denials, also after a call of the guest has returned.
    pub(super) fn report(&self) -> impl Fn(&Denied) + Send + use<> {
        let (on_denied, noise) = (self.on_denied.clone(), self.noise.clone());
        move |denied| on_denied.call(denied, &noise)
    }

    /// Limits what the guest makes the log say.
    pub(super) fn noise(&self) -> Arc<Noise> {
        self.noise.clone()
    }

    /// Cancelled when the guest's listeners have to close.
    pub(super) fn stopping(&self) -> CancellationToken {
        self.stopping.clone()
    }
}

impl Default for TcpCtx {
    fn default() -> Self {
        TcpCtx::builder().build()
    }
}

/// Builds a [`TcpCtx`].
///
/// By default, the guest may neither listen nor connect. It may always use the connections
/// that the host passes to it. A builder can be cloned and built once for each store.
#[derive(Clone, Debug, Default)]
pub struct TcpCtxBuilder {
    policy: Policy,
    resolver: Resolver,
    on_denied: OnDenied,
    noise: CtxNoise,
    outer: Option<Registry>,
    max_sockets: Option<usize>,
    all_sockets: Option<Sockets>,
    connect_timeout: Option<Duration>,
    max_unsent: Option<usize>,
    topics: Option<Topics>,
    tls: Tls,
}

impl TcpCtxBuilder {
    /// Sets the addresses that the guest may listen on and connect to, and the names that it
    /// may look up. Default: [`Policy::deny_all`].
    #[must_use]
    pub fn policy(mut self, policy: Policy) -> Self {
        self.policy = policy;
        self
    }

    /// Sets what looks up names. Default: the operating system.
    #[must_use]
    pub fn resolver(mut self, resolver: Arc<dyn Resolve>) -> Self {
        self.resolver = Resolver(resolver);
        self
    }

    /// Calls `report` when the policy denies the guest an address; the guest sees
    /// `access-denied`. Default: logs a warning.
    ///
    /// `report` runs in the guest's call, and must not block.
    #[must_use]
    pub fn on_denied(mut self, report: impl Fn(&Denied) + Send + Sync + 'static) -> Self {
        self.on_denied = OnDenied(Some(Arc::new(report)));
        self
    }

    /// Limits the sockets that the guest has of its own: listeners, and connections that it
    /// has made or accepted (default: no limit). At the limit, listening and connecting fail
    /// with [`ErrorCode::Other`](super::ErrorCode::Other), and accepting waits.
    #[must_use]
    pub fn max_sockets(mut self, sockets: usize) -> Self {
        self.max_sockets = Some(sockets);
        self
    }

    /// Limits how long connecting may take; the guest sees
    /// [`ErrorCode::Timeout`](super::ErrorCode::Timeout). Default: no limit but the kernel's,
    /// which on Linux is about two minutes.
    #[must_use]
    pub fn connect_timeout(mut self, timeout: Duration) -> Self {
        self.connect_timeout = Some(timeout);
        self
    }

    /// Limits the bytes that a guest in callback style has written and the operating system has
    /// not taken, over all its connections (default: no limit). A write for which there is no
    /// room resets its connection, which fails with
    /// [`ErrorCode::OutOfMemory`](super::ErrorCode::OutOfMemory).
    #[must_use]
    pub fn max_unsent(mut self, bytes: usize) -> Self {
        self.max_unsent = Some(bytes);
        self
    }

    /// Lets the guest publish and subscribe on these topics (default: it may not, and sees
    /// `access-denied`).
    #[must_use]
    pub fn topics(mut self, topics: Topics) -> Self {
        self.topics = Some(topics);
        self
    }

    /// Lets the guest begin TLS as the server, on connections in use, with these certificates
    /// (default: it may not).
    #[must_use]
    pub fn tls_server(mut self, config: Arc<ServerConfig>) -> Self {
        self.tls.server = Some(config);
        self
    }

    /// Lets the guest begin TLS as the client, on connections in use, with the authorities that
    /// this configuration trusts (default: it may not).
    #[must_use]
    pub fn tls_client(mut self, config: Arc<ClientConfig>) -> Self {
        self.tls.client = Some(config);
        self
    }

    /// Limits a TLS handshake that the guest has begun (default: 10 s). The connection is reset
    /// then, and the guest sees [`ErrorCode::Timeout`](super::ErrorCode::Timeout).
    #[must_use]
    pub fn handshake_timeout(mut self, timeout: Duration) -> Self {
        self.tls.limit = timeout;
        self
    }

    /// Limits the sockets of all stores that are built with the same `sockets`.
    pub(crate) fn all_sockets(mut self, sockets: Sockets) -> Self {
        self.all_sockets = Some(sockets);
        self
    }

    /// Enters the connections into `outer` as well as into the store's own registry.
    pub(crate) fn registry(mut self, outer: Registry) -> Self {
        self.outer = Some(outer);
        self
    }

    /// Builds the context.
    #[must_use]
    pub fn build(self) -> TcpCtx {
        TcpCtx {
            policy: self.policy,
            resolver: self.resolver,
            names: None,
            on_denied: self.on_denied,
            noise: self.noise.0,
            opener: Opener {
                connections: Registry::default(),
                outer: self.outer,
            },
            passing: Passing::default(),
            quota: Quota {
                own: self.max_sockets.map(Sockets::new),
                all: self.all_sockets,
            },
            connect_timeout: self.connect_timeout,
            tls: self.tls,
            stopping: CancellationToken::new(),
            sockets: Callbacks::new(self.max_unsent),
            membership: Membership::new(self.topics.map(|topics| topics.join())),
        }
    }
}

/// Limits what the guests of a builder make the log say.
#[derive(Clone, Debug)]
struct CtxNoise(Arc<Noise>);

impl Default for CtxNoise {
    fn default() -> Self {
        CtxNoise(Noise::new("denied addresses, failed listeners"))
    }
}

/// Reports what the policy denies; `None` logs it.
#[derive(Clone, Default)]
struct OnDenied(Option<Arc<Report>>);

type Report = dyn Fn(&Denied) + Send + Sync;

impl OnDenied {
    fn call(&self, denied: &Denied, noise: &Arc<Noise>) {
        match &self.0 {
            Some(report) => _ = caught(|| report(denied)),
            None => noise.log(|| tracing::warn!("denied: {denied}")),
        }
    }
}

impl fmt::Debug for OnDenied {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self.0 {
            Some(_) => "OnDenied(..)",
            None => "OnDenied(log)",
        })
    }
}

/// A [`TcpCtx`] and the resource table that holds its connections and listeners.
#[derive(Debug)]
pub struct TcpCtxView<'a> {
    /// The context of this store.
    pub ctx: &'a mut TcpCtx,
    /// The resource table of this store.
    pub table: &'a mut ResourceTable,
}

/// Gives the primitives access to their state in a store's data.
pub trait TcpView: Send {
    /// Returns the parts of the store's data that the primitives use.
    fn tcp(&mut self) -> TcpCtxView<'_>;
}

/// Tells wasmtime's bindings that the primitives work on a [`TcpCtxView`].
#[derive(Debug)]
pub struct Tcp;

impl HasData for Tcp {
    type Data<'a> = TcpCtxView<'a>;
}
