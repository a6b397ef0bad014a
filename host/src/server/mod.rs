//! The server: accepts connections, and has a service component handle them.

use std::num::NonZeroUsize;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use tokio::net::TcpListener;
use tokio::sync::Semaphore;
use tokio::time::timeout;
use tokio_util::sync::{CancellationToken, DropGuard};
use tokio_util::task::{AbortOnDropHandle, TaskTracker};
use wasmtime::Engine;

use crate::admission::{Admission, AtLimit, Peers};
use crate::bindings::HostWorldPre;
use crate::store::{Grants, State};
use crate::tcp::{Acceptor, Registry, Timeouts};

mod accepting;
mod builder;
mod observer;
mod serving;

use accepting::Front;
pub use builder::ServerBuilder;
pub(crate) use observer::Observers;
pub use observer::{Observer, Snapshot};

/// How instances and connections go together.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Isolation {
    /// A new instance for each connection: nothing that one connection does can be
    /// seen by, or harm, another.
    #[default]
    Connection,
    /// One instance for all connections, or one for each of
    /// [workers](ServerBuilder::workers). Faster, and the service can share state; a
    /// trap ends all connections of its instance, and a new one takes over.
    Shared,
}

/// A service component, ready to handle connections.
///
/// ```no_run
/// # async fn example() -> anyhow::Result<()> {
/// use halfopen::{Isolation, Server};
///
/// let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await?;
/// let server = Server::builder()
///     .isolation(Isolation::Shared)
///     .args(["--quiet"])
///     .build(std::path::Path::new("echo.wasm"))?;
/// let stop = async { drop(tokio::signal::ctrl_c().await) };
/// server.run([listener], stop).await;
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
pub struct Server {
    shared: Arc<Shared>,
}

/// What a server did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Summary {
    /// Connections accepted in all.
    pub accepted: u64,
    /// Connections that were still open when the grace time was over, and were
    /// reset.
    pub aborted: usize,
}

struct Shared {
    engine: Engine,
    pre: HostWorldPre<State>,
    grants: Arc<Grants>,
    isolation: Isolation,
    workers: Option<NonZeroUsize>,
    permits: Arc<Semaphore>,
    at_limit: AtLimit,
    admission: Arc<Admission>,
    timeouts: Timeouts,
    observers: Arc<Observers>,
    /// How many connections wait for their peer before a service has them.
    arriving: Arc<AtomicUsize>,
    instances: Arc<AtomicUsize>,
    front: Front,
    /// How many connections have no worker.
    unshared: Arc<AtomicUsize>,
    grace: Duration,
    connections: Registry,
    accepted: AtomicU64,
    /// Ends whatever is left when the grace time is over.
    killed: CancellationToken,
    tasks: TaskTracker,
}

impl Server {
    /// A builder for a server that grants its service nothing but its connections.
    #[must_use]
    pub fn builder() -> ServerBuilder {
        ServerBuilder::default()
    }

    /// Serves what `listeners` accept until `shutdown` resolves; then stops
    /// accepting, lets live connections finish within the grace time, resets the
    /// rest, and returns. Nothing of it goes on afterwards.
    ///
    /// Has to run within a multi-threaded tokio runtime with timers;
    /// [workers](ServerBuilder::workers) have threads and runtimes of their own. Dropping
    /// the future stops accepting; connections that are open then go on.
    pub async fn run(
        self,
        listeners: impl IntoIterator<Item = TcpListener>,
        shutdown: impl Future<Output = ()>,
    ) -> Summary {
        let running = self.start(listeners);
        tokio::select! {
            () = shutdown => {}
            // All listeners have failed.
            () = running.accepts_no_more() => {}
        }
        running.stop();
        running.wait().await
    }

    /// Starts to serve what `listeners` accept, and returns at once.
    ///
    /// # Panics
    /// Outside of a tokio runtime; see [`run`](Self::run).
    pub fn start(self, listeners: impl IntoIterator<Item = TcpListener>) -> Running {
        let shared = self.shared;
        let retired = CancellationToken::new();
        let workers = shared.workers();
        let accepting = TaskTracker::new();
        for listener in listeners {
            match Acceptor::new(listener) {
                Ok(listener) => {
                    let shared = shared.clone();
                    accepting.spawn(shared.accept_all(listener, workers.clone(), retired.clone()));
                }
                Err(error) => tracing::error!("a listener cannot be watched: {error}"),
            }
        }
        accepting.close();
        let limiting = shared.clone();
        let limiting = AbortOnDropHandle::new(tokio::spawn(async move {
            limiting.connections.enforce(limiting.timeouts).await;
        }));
        Running {
            shared,
            accepting,
            stopped: CancellationToken::new(),
            _stop_accepting: retired.clone().drop_guard(),
            retired,
            _limiting: limiting,
        }
    }
}

/// A [`Server`] that serves. Dropped, it stops accepting; connections that are open
/// then go on, without the limits on their time.
#[derive(Debug)]
pub struct Running {
    shared: Arc<Shared>,
    accepting: TaskTracker,
    retired: CancellationToken,
    stopped: CancellationToken,
    _stop_accepting: DropGuard,
    _limiting: AbortOnDropHandle<()>,
}

impl Running {
    /// Stops accepting, for another server to do it: the connections that are open may
    /// go on for as long as they like.
    pub fn retire(&self) {
        self.retired.cancel();
    }

    /// Stops accepting; the connections that are open have the grace time to finish.
    pub fn stop(&self) {
        self.retired.cancel();
        self.stopped.cancel();
    }

    /// From now on these peers are served. Connections that are open go on.
    pub fn set_peers(&self, peers: Peers) {
        self.shared.admission.set_peers(peers);
    }

    /// Waits until it accepts no more: it was told so, or all its listeners have failed.
    pub async fn accepts_no_more(&self) {
        self.accepting.wait().await;
    }

    /// Whether it accepts connections.
    #[must_use]
    pub fn is_accepting(&self) -> bool {
        !self.accepting.is_empty()
    }

    /// The time that connections have to finish.
    #[must_use]
    pub fn grace(&self) -> Duration {
        self.shared.grace
    }

    /// How many connections are open, or closing.
    #[must_use]
    pub fn connections(&self) -> usize {
        self.shared.connections.len()
    }

    /// How it stands.
    #[must_use]
    pub fn snapshot(&self) -> Snapshot {
        Snapshot::new(
            self.shared.connections.traffic(),
            self.shared.arriving.load(Ordering::Relaxed),
            self.shared.instances.load(Ordering::Relaxed),
        )
    }

    /// Waits until it accepts no more, and the last connection has ended; after
    /// [`stop`](Self::stop) that is within the grace time.
    pub async fn wait(&self) -> Summary {
        self.accepting.wait().await;
        self.shared.tasks.close();
        tokio::select! {
            () = self.shared.ended() => {}
            () = self.stopped.cancelled() => {}
        }
        self.shared.drain().await
    }
}

impl std::fmt::Debug for Shared {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Shared")
            .field("isolation", &self.isolation)
            .field("grants", &self.grants)
            .finish_non_exhaustive()
    }
}

impl Shared {
    /// Waits for the end of the last connection, once no more are accepted.
    async fn ended(&self) {
        self.connections.empty().await;
        self.tasks.wait().await;
    }

    async fn drain(&self) -> Summary {
        let aborted = match timeout(self.grace, self.ended()).await {
            Ok(()) => 0,
            Err(_) => {
                let left = self.connections.len();
                self.connections.shut_down();
                self.killed.cancel();
                self.tasks.wait().await;
                self.connections.empty().await;
                left
            }
        };
        Summary {
            accepted: self.accepted.load(Ordering::Relaxed),
            aborted,
        }
    }
}
