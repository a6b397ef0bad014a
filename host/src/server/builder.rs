//! Sets up a server.

use std::fmt;
use std::num::{NonZeroU32, NonZeroUsize};
use std::sync::Arc;
use std::time::Duration;

use rustls::ServerConfig;
use tokio::sync::Semaphore;
use wasmtime::Engine;

use super::Server;
use super::declaration::Contradiction;
use super::dispatch::Isolation;
use super::gate::proxy_protocol::ProxyProtocol;
use super::gate::{self, AtLimit, Bans, Gate, Peers, Share};
use super::instances::{Instances, Limits};
use super::journal::Journal;
use super::observer::{Observer, Observers};
use super::service::Services;
use super::tasks::Tasks;
use crate::events::{Events, Scope};
use crate::runtime::component::{Kind, Style, works_alone};
use crate::runtime::{Defaults, Grants, HANDLES, LoadError, Loading, Source, Stdio, one_line};
use crate::tcp::Timeouts;

/// The grants of a service where [`Grants`] do not say.
const DEFAULTS: Defaults = Defaults {
    name: "service",
    stdio: Stdio::Shared,
    max_compute: Duration::from_secs(10),
    max_output: NonZeroU32::new(1 << 20),
    max_handles: HANDLES,
    max_sockets: Some(SOCKETS),
    max_sockets_total: None,
    connect_timeout: Duration::from_secs(10),
    shared: false,
    secures: false,
    handshake_timeout: Duration::from_secs(10),
};

/// The sockets that an instance for one connection may have of its own.
const SOCKETS: usize = 64;

/// The interface by which instances send each other messages.
const TOPICS: &str = "halfopen:tcp/topics@0.1.0";

/// The handles of an instance for one connection.
const OWN_HANDLES: usize = 10_000;

/// The handles of a shared instance for each connection, if that is more. The SDK takes about
/// nine for an idle one.
const HANDLES_PER_CONNECTION: usize = 32;

/// How many more instances there are than connections: some instances are still being
/// dropped while the next ones start.
const SPARE_INSTANCES: usize = 64;

/// Sets up a [`Server`].
#[derive(Clone)]
pub struct ServerBuilder {
    grants: Grants,
    loading: Loading,
    isolation: Option<Isolation>,
    workers: Option<NonZeroUsize>,
    keep_running: bool,
    hand_over: bool,
    gate: gate::Settings,
    timeouts: Timeouts,
    max_instances: Option<NonZeroUsize>,
    background: Option<Duration>,
    observers: Observers,
    events: Option<Events>,
    event_payload: bool,
    name: Option<String>,
    grace: Duration,
}

impl Default for ServerBuilder {
    fn default() -> Self {
        ServerBuilder {
            grants: Grants::new(),
            loading: Loading::default(),
            isolation: None,
            workers: None,
            keep_running: false,
            hand_over: false,
            gate: gate::Settings {
                max_connections: 4096,
                max_arriving: None,
                at_limit: AtLimit::default(),
                peers: Peers::everyone(),
                bans: Bans::default(),
                share: Share::default(),
                max_rate_per_peer: None,
                proxy: None,
                tls: None,
                handshake_timeout: Duration::from_secs(10),
            },
            timeouts: Timeouts::default(),
            max_instances: None,
            background: Some(Duration::from_secs(30)),
            observers: Observers::default(),
            events: None,
            event_payload: true,
            name: None,
            grace: Duration::from_secs(10),
        }
    }
}

impl Server {
    /// Returns a builder for a server that grants its service nothing but its connections.
    #[must_use]
    pub fn builder() -> ServerBuilder {
        ServerBuilder::default()
    }
}

impl ServerBuilder {
    /// Sets what the service may use (default: nothing but its connections).
    #[must_use]
    pub fn grants(mut self, grants: Grants) -> Self {
        self.grants = grants;
        self
    }

    /// Sets how connections share instances (default: as the component declares, and if it
    /// declares nothing, each has its own).
    ///
    /// A service that needs something else than this runs all the same; see
    /// [`Server::contradiction`].
    #[must_use]
    pub fn isolation(mut self, isolation: Isolation) -> Self {
        self.isolation = Some(isolation);
        self
    }

    /// Spreads the connections of [`Isolation::Shared`] over this many instances, each on a
    /// thread of its own (default: one instance on the runtime's threads, so that there is
    /// one state). A new connection goes to the instance with the fewest.
    ///
    /// This has no effect with [`Isolation::Connection`].
    #[must_use]
    pub fn workers(mut self, workers: NonZeroUsize) -> Self {
        self.workers = Some(workers);
        self
    }

    /// Lets the service work without connections, such as on timers (default: false): each
    /// shared instance begins when the server starts, and its export `starting` or `background`
    /// is called. After a trap it begins again, later and later if it traps over and over.
    ///
    /// Needs [`Isolation::Shared`].
    #[must_use]
    pub fn keep_running(mut self, keep_running: bool) -> Self {
        self.keep_running = keep_running;
        self
    }

    /// Lets another process go on with connections whose bytes only pass through (default: false),
    /// see [`ServerHandle::hand_over`](super::ServerHandle::hand_over): the service echoes them, or
    /// passes them to a connection of its own and back, and the host moves them. The instance ends
    /// without a word, whatever else the service would have done.
    ///
    /// This has no effect with [`Isolation::Shared`] and on services in callback style.
    #[must_use]
    pub fn hand_over(mut self, hand_over: bool) -> Self {
        self.hand_over = hand_over;
        self
    }

    /// Sets how many connections may be open at once, at least 1 (default: 4,096).
    #[must_use]
    pub fn max_connections(mut self, connections: usize) -> Self {
        self.gate.max_connections = connections.clamp(1, Semaphore::MAX_PERMITS);
        self
    }

    /// Sets how many connections may be arriving at once, at least 1 (default: as many as
    /// [`max_connections`](Self::max_connections), and at least 1,024).
    ///
    /// A connection is arriving until its PROXY protocol header has come and its TLS
    /// handshake is done; only then it takes a place among all connections, or waits for
    /// one. Beyond the limit, the one that has waited longest for its peer is reset.
    #[must_use]
    pub fn max_arriving(mut self, connections: usize) -> Self {
        self.gate.max_arriving = Some(connections.clamp(1, Semaphore::MAX_PERMITS));
        self
    }

    /// Sets what becomes of connections beyond the limit (default: they wait in the
    /// backlog).
    #[must_use]
    pub fn at_limit(mut self, at_limit: AtLimit) -> Self {
        self.gate.at_limit = at_limit;
        self
    }

    /// Sets which peers are served (default: everyone). Connections of others are reset as
    /// soon as they are accepted.
    #[must_use]
    pub fn peers(mut self, peers: Peers) -> Self {
        self.gate.peers = peers;
        self
    }

    /// Sets how many connections one peer may have at once, arriving ones included; `None`
    /// is no limit. Further ones are reset as soon as the peer is known.
    ///
    /// By default it is a quarter of [`max_connections`](Self::max_connections), rounded up,
    /// so that no single peer takes all places, and a thousand people behind one address
    /// have room. The default does not apply to loopback addresses and to the load balancers
    /// of [`proxy_protocol`](Self::proxy_protocol), which connect for others.
    ///
    /// A peer is an IPv4 address or an IPv6 network of 64 bits. The IPv6 addresses of an
    /// IPv4 host (6to4, Teredo, NAT64) count as its IPv4 address.
    #[must_use]
    pub fn max_connections_per_peer(mut self, connections: impl Into<Option<NonZeroU32>>) -> Self {
        self.gate.share = Share::Most(connections.into());
        self
    }

    /// Sets how many connections one peer may open per second, with as many at once after a
    /// pause (default: no limit). Further ones are reset as soon as they are accepted.
    #[must_use]
    pub fn max_rate_per_peer(mut self, connections: NonZeroU32) -> Self {
        self.gate.max_rate_per_peer = Some(connections);
        self
    }

    /// Sets how long a service may go on after its connection has ended; `None` means no limit
    /// (default: 30 s).
    ///
    /// An instance of its own is ended then. A call of a shared instance cannot be ended alone;
    /// those that go on for longer are counted, see [`max_instances`](Self::max_instances).
    #[must_use]
    pub fn background_timeout(mut self, timeout: Option<Duration>) -> Self {
        self.background = timeout;
        self
    }

    /// Sets how many instances may exist at once with [`Isolation::Connection`] (default: as
    /// many as connections). At the limit, a further connection is open, and served when an
    /// instance has ended; with [`AtLimit::Refuse`] it is reset.
    ///
    /// With [`Isolation::Shared`], sets how many calls of one instance may go on for longer than
    /// [`background_timeout`](Self::background_timeout). With one more, the instance ends as
    /// after a trap: its connections are reset, and a new instance takes over.
    #[must_use]
    pub fn max_instances(mut self, instances: NonZeroUsize) -> Self {
        self.max_instances = Some(instances);
        self
    }

    /// Sets how long things may take on a connection (default: [`Timeouts::default`]), also on
    /// those that the service makes or accepts itself.
    #[must_use]
    pub fn timeouts(mut self, timeouts: Timeouts) -> Self {
        self.timeouts = timeouts;
        self
    }

    /// Serves only connections of load balancers, which name the peers that they forward
    /// (default: off).
    #[must_use]
    pub fn proxy_protocol(mut self, proxy: ProxyProtocol) -> Self {
        self.gate.proxy = Some(proxy);
        self
    }

    /// Serves TLS (default: off). The service sees the bytes within it.
    ///
    /// [`TlsFiles`](crate::tls::TlsFiles) makes a configuration from PEM files.
    #[must_use]
    pub fn tls(mut self, config: Arc<ServerConfig>) -> Self {
        self.gate.tls = Some(config);
        self
    }

    /// Sets how long a TLS handshake may take (default: 10 s), also one that the service has
    /// begun itself.
    #[must_use]
    pub fn handshake_timeout(mut self, timeout: Duration) -> Self {
        self.gate.handshake_timeout = timeout;
        self
    }

    /// Sets the name of the service in the log, as the field `service` (default: no such
    /// field).
    #[must_use]
    pub fn name(mut self, name: impl Into<String>) -> Self {
        self.name = Some(name.into());
        self
    }

    /// Adds an observer of what happens.
    #[must_use]
    pub fn observer(mut self, observer: impl Observer + 'static) -> Self {
        self.observers.add(observer);
        self
    }

    /// Reports what happens to the connections, as [`Events`] (default: nowhere).
    #[must_use]
    pub fn events(mut self, events: &Events) -> Self {
        self.events = Some(events.clone());
        self
    }

    /// Sets whether [`events`](Self::events) may have the bytes of data (default: true).
    #[must_use]
    pub fn event_payload(mut self, allow: bool) -> Self {
        self.event_payload = allow;
        self
    }

    /// Refuses the peers that are banned (default: nobody is).
    #[must_use]
    pub fn bans(mut self, bans: &Bans) -> Self {
        self.gate.bans = bans.clone();
        self
    }

    /// Sets how long live connections may take to finish when the server stops (default:
    /// 10 s). Connections that are left then are reset.
    #[must_use]
    pub fn grace(mut self, grace: Duration) -> Self {
        self.grace = grace;
        self
    }

    /// Sets whether compiled code is kept on disk, so that a second start is fast
    /// (default: true).
    #[must_use]
    pub fn cache(mut self, cache: bool) -> Self {
        self.loading.cache = cache;
        self
    }

    /// Sets whether precompiled native code is accepted (default: false). Such a file is
    /// trusted like the host itself.
    #[must_use]
    pub fn allow_precompiled(mut self, allow: bool) -> Self {
        self.loading.allow_precompiled = allow;
        self
    }

    /// Runs the service in an engine of the embedder's, with the embedder's settings for
    /// caching and pooling (default: an engine of [`EngineOptions`](crate::EngineOptions)
    /// with a pool for `max_connections` instances).
    ///
    /// The engine needs [`wasm_component_model_async`] and, to interrupt a service that
    /// computes, [`epoch_interruption`] and an epoch every [`EPOCH`](crate::EPOCH).
    ///
    /// [`wasm_component_model_async`]: wasmtime::Config::wasm_component_model_async
    /// [`epoch_interruption`]: wasmtime::Config::epoch_interruption
    #[must_use]
    pub fn engine(mut self, engine: Engine) -> Self {
        self.loading.engine = Some(engine);
        self
    }

    /// Loads the service, and prepares its instances.
    ///
    /// # Errors
    /// If the component cannot be loaded, is not a service, or needs what this host does
    /// not provide; if a granted directory cannot be read; or if an instance for one connection
    /// would have to be kept running.
    pub fn build(self, service: impl Into<Source>) -> Result<Server, LoadError> {
        let opened = self.loading.open(&service.into())?;
        let declared = opened.declared()?;
        let isolation = self
            .isolation
            .or(declared.map(Isolation::from))
            .unwrap_or_default();
        if self.keep_running && isolation == Isolation::Connection {
            return Err(LoadError::KeptWithoutSharing);
        }
        let connections = self.gate.max_connections;
        let max_instances = self.max_instances.map_or(connections, NonZeroUsize::get);
        let max_instances = max_instances.min(Semaphore::MAX_PERMITS);
        let defaults = Defaults {
            max_sockets_total: Some(connections),
            secures: opened.secures(),
            handshake_timeout: self.gate.handshake_timeout,
            ..DEFAULTS
        };
        let begins_tls = defaults.secures;
        let (pooled, defaults) = match isolation {
            Isolation::Connection => {
                let max_handles = OWN_HANDLES;
                let defaults = Defaults {
                    max_handles,
                    ..defaults
                };
                (max_instances.saturating_add(SPARE_INSTANCES), defaults)
            }
            Isolation::Shared => {
                let handles = connections.saturating_mul(HANDLES_PER_CONNECTION);
                let defaults = Defaults {
                    max_handles: handles.max(HANDLES),
                    max_sockets: Some(connections),
                    shared: true,
                    ..defaults
                };
                (0, defaults)
            }
        };
        let mut observers = self.observers;
        observers.log_to(Journal::of(self.name.clone()));
        let tasks = Tasks::default();
        if let Some(events) = &self.events {
            let name = self.name.as_deref().unwrap_or_default();
            let scope = Scope::new(events.clone(), name, self.event_payload);
            observers.report_to(scope);
            tasks.connections().show(events);
        }
        let observers = Arc::new(observers);
        let counting = observers.clone();
        let grants = self
            .grants
            .service(self.name)
            .on_denied(move |denied| counting.notify(|observer| observer.denied(denied)))
            .resolve(defaults)?;
        let pooled = u32::try_from(pooled).unwrap_or(u32::MAX);
        let loaded = opened.link(Kind::Service)?;
        let interfaces = loaded.interfaces;
        let style = interfaces.style();
        let not_kept = works_alone(&interfaces) && !self.keep_running;
        let pooling = loaded.pooling.filter(|_| pooled > 0);
        let services = Services::new(loaded.engine, loaded.pre, style)
            .map_err(|error| LoadError::Invalid(one_line(&error)))?;
        // Instances that have topics may know of each other.
        let meets = interfaces.imports.iter().any(|name| name == TOPICS) && grants.has_topics();
        let workers = self.workers.filter(|_| !meets);
        let contradiction = Contradiction::find(grants.name(), declared, isolation, workers);
        let limits = Limits {
            instances: max_instances,
            background: self.background,
            keep_running: self.keep_running,
            hand_over: self.hand_over
                && isolation == Isolation::Connection
                && style == Some(Style::Await),
        };
        let instances = Instances::new(services, grants, limits, observers.clone(), tasks.clone());
        Ok(Server {
            gate: Arc::new(Gate::new(self.gate, observers, tasks.clone())),
            instances: Arc::new(instances),
            pooling: pooling.map(|pooling| (pooling, pooled)),
            contradiction,
            not_kept,
            interfaces,
            begins_tls,
            isolation,
            workers: self.workers,
            timeouts: self.timeouts,
            tasks,
            grace: self.grace,
            events: self.events,
        })
    }
}

impl fmt::Debug for ServerBuilder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ServerBuilder")
            .field("isolation", &self.isolation)
            .field("grants", &self.grants)
            .finish_non_exhaustive()
    }
}
