//! What can be said of a server before it runs.

use std::num::{NonZeroU32, NonZeroUsize};
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::Duration;

use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::accepting::Front;
use super::observer::{Observer, Observers};
use super::{Isolation, Server, Shared};
use crate::admission::{Admission, AtLimit, Peers};
use crate::bindings::HostWorldPre;
use crate::engine::EngineOptions;
use crate::error::LoadError;
use crate::load::{self, Source};
use crate::output::Output;
use crate::policy::Policy;
use crate::proxy_protocol::ProxyProtocol;
use crate::store::{Grants, linker};
use crate::tcp::{Registry, Timeouts};
use crate::tls::Tls;

const HANDLER: &str = "halfopen:tcp/handler@0.1.0";

/// Sets up a [`Server`].
#[derive(Clone)]
pub struct ServerBuilder {
    isolation: Isolation,
    workers: Option<NonZeroUsize>,
    grants: Grants,
    max_connections: usize,
    at_limit: AtLimit,
    peers: Peers,
    max_per_peer: Option<NonZeroU32>,
    max_rate_per_peer: Option<NonZeroU32>,
    timeouts: Timeouts,
    observers: Observers,
    proxy: Option<ProxyProtocol>,
    tls: Option<Tls>,
    grace: Duration,
    engine: EngineOptions,
    allow_precompiled: bool,
}

impl Default for ServerBuilder {
    fn default() -> Self {
        ServerBuilder {
            isolation: Isolation::default(),
            workers: None,
            grants: Grants {
                max_compute: Duration::from_secs(10),
                max_output: NonZeroU32::new(1 << 20),
                ..Grants::new("service")
            },
            max_connections: 4096,
            at_limit: AtLimit::default(),
            peers: Peers::everyone(),
            max_per_peer: None,
            max_rate_per_peer: None,
            timeouts: Timeouts::default(),
            observers: Observers::default(),
            proxy: None,
            tls: None,
            grace: Duration::from_secs(10),
            engine: EngineOptions::default(),
            allow_precompiled: false,
        }
    }
}

impl ServerBuilder {
    /// One instance per connection (at first), or one for all.
    #[must_use]
    pub fn isolation(mut self, isolation: Isolation) -> Self {
        self.isolation = isolation;
        self
    }

    /// Spreads the connections of [`Isolation::Shared`] over so many instances, each on a
    /// thread of its own; a new connection goes to the one that has fewest.
    ///
    /// Without it there is one instance, and the service's state is one. It has no effect
    /// with an instance for each connection: these use the runtime's threads.
    #[must_use]
    pub fn workers(mut self, workers: NonZeroUsize) -> Self {
        self.workers = Some(workers);
        self
    }

    /// The name under which the service runs, its argument 0; `service` at first.
    #[must_use]
    pub fn name(mut self, name: impl Into<String>) -> Self {
        self.grants.args[0] = name.into();
        self
    }

    /// Adds to the service's arguments.
    #[must_use]
    pub fn args<S: Into<String>>(mut self, args: impl IntoIterator<Item = S>) -> Self {
        self.grants.args.extend(args.into_iter().map(Into::into));
        self
    }

    /// Adds to the service's environment, which is empty at first.
    #[must_use]
    pub fn env(mut self, name: impl Into<String>, value: impl Into<String>) -> Self {
        self.grants.env.push((name.into(), value.into()));
        self
    }

    /// What the service may do on the network by itself; nothing at first.
    #[must_use]
    pub fn policy(mut self, policy: Policy) -> Self {
        self.grants.policy = policy;
        self
    }

    /// Where the service's standard output goes; nowhere at first.
    #[must_use]
    pub fn stdout(mut self, output: Output) -> Self {
        self.grants.stdout = Some(output);
        self
    }

    /// Where the service's standard error goes; nowhere at first.
    #[must_use]
    pub fn stderr(mut self, output: Output) -> Self {
        self.grants.stderr = Some(output);
        self
    }

    /// How much linear memory an instance may have, in bytes; 256 MiB at first.
    #[must_use]
    pub fn max_memory(mut self, bytes: usize) -> Self {
        self.grants.max_memory = bytes;
        self
    }

    /// How long the service may compute without waiting for anything or moving data;
    /// then it traps. Meanwhile it gives way every 10 ms. 10 s at first, and zero is no
    /// limit.
    #[must_use]
    pub fn max_compute(mut self, time: Duration) -> Self {
        self.grants.max_compute = time;
        self
    }

    /// How many bytes an instance may print in a second, on each of its streams; what is
    /// more is thrown away, and a line says how much. 1 MiB at first, and `None` is no
    /// limit.
    #[must_use]
    pub fn max_output(mut self, bytes_per_second: Option<NonZeroU32>) -> Self {
        self.grants.max_output = bytes_per_second;
        self
    }

    /// How many connections may be open at once. At least 1, and 4,096 at first.
    #[must_use]
    pub fn max_connections(mut self, connections: usize) -> Self {
        self.max_connections = connections.clamp(1, Semaphore::MAX_PERMITS);
        self
    }

    /// What becomes of further ones: at first they wait in the backlog.
    #[must_use]
    pub fn at_limit(mut self, at_limit: AtLimit) -> Self {
        self.at_limit = at_limit;
        self
    }

    /// Who is served; everyone at first. Others are reset as soon as they are accepted.
    #[must_use]
    pub fn peers(mut self, peers: Peers) -> Self {
        self.peers = peers;
        self
    }

    /// How many connections one peer may have at once, an IPv4 address or an IPv6 network
    /// of 64 bits; further ones are reset as soon as they are accepted. No limit at first:
    /// many people may be behind one address.
    #[must_use]
    pub fn max_connections_per_peer(mut self, connections: NonZeroU32) -> Self {
        self.max_per_peer = Some(connections);
        self
    }

    /// How many connections one peer may open in a second, and as many at once after a
    /// pause; further ones are reset as soon as they are accepted. No limit at first.
    #[must_use]
    pub fn max_rate_per_peer(mut self, connections: NonZeroU32) -> Self {
        self.max_rate_per_peer = Some(connections);
        self
    }

    /// How long things may take on a connection.
    #[must_use]
    pub fn timeouts(mut self, timeouts: Timeouts) -> Self {
        self.timeouts = timeouts;
        self
    }

    /// Serves behind load balancers that tell whom they forward.
    #[must_use]
    pub fn proxy_protocol(mut self, proxy: ProxyProtocol) -> Self {
        self.proxy = Some(proxy);
        self
    }

    /// Serves TLS; the service sees what is within it.
    #[must_use]
    pub fn tls(mut self, tls: Tls) -> Self {
        self.tls = Some(tls);
        self
    }

    /// Has somebody told of what happens; may be called several times.
    #[must_use]
    pub fn observer(mut self, observer: impl Observer + 'static) -> Self {
        self.observers.add(observer);
        self
    }

    /// How long live connections may take to finish once the server is to stop;
    /// those left then are reset. 10 s at first.
    #[must_use]
    pub fn grace(mut self, grace: Duration) -> Self {
        self.grace = grace;
        self
    }

    /// Whether compiled code is kept on disk, so that a second start is fast; it
    /// is at first.
    #[must_use]
    pub fn cache(mut self, cache: bool) -> Self {
        self.engine.cache = cache;
        self
    }

    /// Whether native code that was compiled before is taken; not at first, because
    /// such a file is trusted like the host itself.
    #[must_use]
    pub fn allow_precompiled(mut self, allow: bool) -> Self {
        self.allow_precompiled = allow;
        self
    }

    /// Loads the service and prepares its instances.
    ///
    /// # Errors
    /// If it cannot be loaded, is no service, or needs what this host does not
    /// provide.
    pub fn build(mut self, service: impl Into<Source>) -> Result<Server, LoadError> {
        let service = service.into();
        if self.isolation == Isolation::Connection {
            self.engine.needs = service.needs()?;
            // A few more than there are connections: some instances are still
            // going away while the next ones come.
            let instances = self.max_connections.saturating_add(64);
            self.engine.pooled_instances = u32::try_from(instances).unwrap_or(u32::MAX);
        }
        if self.isolation == Isolation::Shared {
            self.grants.for_connections(self.max_connections);
        }
        let tls = match &self.tls {
            Some(tls) => Some((tls.load()?, tls.timeout())),
            None => None,
        };
        let engine = self.engine.build()?;
        let component = service.load(&engine, self.allow_precompiled)?;
        let exports = load::exports(&engine, &component);
        if !exports.iter().any(|name| name == HANDLER) {
            return Err(LoadError::WrongWorld {
                expected: "`serve` takes a service, which exports `halfopen:tcp/handler@0.1.0`",
                found: load::listed(&exports),
            });
        }
        let linker = linker(&engine).map_err(LoadError::Engine)?;
        let pre = load::link(&linker, &component)?;
        let pre = HostWorldPre::new(pre).map_err(|e| LoadError::Invalid(load::one_line(&e)))?;
        Ok(Server {
            shared: Arc::new(Shared {
                engine,
                pre,
                grants: Arc::new(self.grants),
                isolation: self.isolation,
                workers: self.workers,
                permits: Arc::new(Semaphore::new(self.max_connections)),
                at_limit: self.at_limit,
                admission: Arc::new(Admission::new(
                    self.peers,
                    self.max_per_peer,
                    self.max_rate_per_peer,
                )),
                timeouts: self.timeouts,
                observers: Arc::new(self.observers),
                arriving: Arc::default(),
                instances: Arc::default(),
                front: Front {
                    proxy: self.proxy,
                    tls,
                },
                unshared: Arc::default(),
                grace: self.grace,
                connections: Registry::default(),
                accepted: AtomicU64::new(0),
                killed: CancellationToken::new(),
                tasks: TaskTracker::new(),
            }),
        })
    }
}

impl std::fmt::Debug for ServerBuilder {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ServerBuilder")
            .field("isolation", &self.isolation)
            .field("grants", &self.grants)
            .finish_non_exhaustive()
    }
}
