//! Accepts connections, and has a service component handle them.
//!
//! A connection is a [`Visit`](visit::Visit) from accept to its last FIN. The [`Gate`]
//! admits or refuses it; the [`Dispatcher`] gives it to one of the [`Instances`].

use std::fmt;
use std::net::IpAddr;
use std::num::NonZeroUsize;
use std::sync::Arc;
use std::time::Duration;

use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;
use tokio_util::task::{AbortOnDropHandle, TaskTracker};

use crate::events::Events;
use crate::runtime::Pooling;
use crate::runtime::component::{Interfaces, asks_for_state};
use crate::tcp::{Acceptor, Denied, Timeouts};

mod builder;
mod call;
mod cause;
mod declaration;
mod dispatch;
mod gate;
mod handle;
mod instances;
mod journal;
mod observer;
mod passed;
mod peers;
mod places;
mod report;
mod restarts;
mod service;
mod tasks;
mod visit;

pub use builder::ServerBuilder;
pub use declaration::Contradiction;
use dispatch::Dispatcher;
pub use dispatch::Isolation;
use gate::Gate;
pub use gate::{AtLimit, Bans, Peers, proxy_protocol, tls};
pub use handle::ServerHandle;
use instances::Instances;
pub use observer::{Observer, Snapshot};
pub use passed::{Leaving, Passed};
pub use peers::{Elsewhere, PeerChanges};
pub use report::{Accepted, Outcome, Refusal, Report, Summary};
use tasks::Tasks;

/// The denial of [`ServerBuilder::keep_running`].
const NOT_KEPT: &str = "the component may not work without connections";

/// A service component that is ready to handle connections.
///
/// ```no_run
/// # async fn example() -> anyhow::Result<()> {
/// use halfopen::{Grants, Isolation, Server};
///
/// let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await?;
/// let server = Server::builder()
///     .isolation(Isolation::Shared)
///     .grants(Grants::new().arg("--quiet"))
///     .build(std::path::Path::new("echo.wasm"))?;
/// let stop = async { drop(tokio::signal::ctrl_c().await) };
/// server.run([listener], stop).await;
/// # Ok(())
/// # }
/// ```
pub struct Server {
    gate: Arc<Gate>,
    instances: Arc<Instances>,
    /// What makes a pool, and for how many instances.
    pooling: Option<(Pooling, u32)>,
    isolation: Isolation,
    contradiction: Option<Contradiction>,
    /// Whether the service would work without connections, and may not.
    not_kept: bool,
    interfaces: Interfaces,
    begins_tls: bool,
    workers: Option<NonZeroUsize>,
    timeouts: Timeouts,
    tasks: Tasks,
    grace: Duration,
    events: Option<Events>,
}

impl Server {
    /// Returns how connections share instances: as the builder was told, as the component
    /// declares, or else [`Isolation::Connection`].
    #[must_use]
    pub fn isolation(&self) -> Isolation {
        self.isolation
    }

    /// Returns how the server runs the service otherwise than the component declares, if it
    /// does. [`start`](Self::start) logs it as a warning.
    #[must_use]
    pub fn contradiction(&self) -> Option<&Contradiction> {
        self.contradiction.as_ref()
    }

    /// Returns what the service imports and exports, and so what it may ask for.
    #[must_use]
    pub fn interfaces(&self) -> &Interfaces {
        &self.interfaces
    }

    /// Returns whether the service asks for state, `wasi:keyvalue`, which
    /// [`Grants::state`](crate::Grants::state) grants.
    #[must_use]
    pub fn asks_for_state(&self) -> bool {
        asks_for_state(&self.interfaces)
    }

    /// Returns whether the service may begin TLS itself: it imports `halfopen:tcp/secure` or
    /// `socket-secure`.
    #[must_use]
    pub fn begins_tls(&self) -> bool {
        self.begins_tls
    }

    /// Returns whether connections of the service may go on in another process:
    /// [`ServerBuilder::hand_over`].
    #[must_use]
    pub fn hands_over(&self) -> bool {
        self.instances.hands_over()
    }

    /// Returns a count of the connections that peers have in another server, such as one of an
    /// earlier process that still drains. It is empty at first.
    #[must_use]
    pub fn elsewhere(&self) -> Elsewhere {
        self.gate.elsewhere()
    }

    /// Takes over how much of its [rate](ServerBuilder::max_rate_per_peer) a peer has used up in
    /// another server, as [`ServerHandle::spent`] says.
    pub fn spend(&self, peer: IpAddr, left: Duration) {
        self.gate.spend(peer, left);
    }

    /// Serves the connections of `listeners` until `shutdown` resolves or all listeners
    /// have failed.
    ///
    /// Then the server stops accepting, lets live connections finish within the grace
    /// time, resets the rest, and returns. No task or thread of the server goes on
    /// afterwards. Dropping the future stops accepting; open connections go on.
    ///
    /// The server needs a multi-threaded tokio runtime with I/O and timers;
    /// [workers](ServerBuilder::workers) have threads and runtimes of their own.
    ///
    /// # Panics
    /// Outside of a tokio runtime.
    pub async fn run(
        self,
        listeners: impl IntoIterator<Item = TcpListener>,
        shutdown: impl Future<Output = ()>,
    ) -> Summary {
        let handle = self.start(listeners);
        tokio::select! {
            () = shutdown => {}
            () = handle.stopped_accepting() => {}
        }
        handle.stop();
        handle.wait().await
    }

    /// Starts to serve the connections of `listeners`, and returns at once. See
    /// [`run`](Self::run) for the runtime that the server needs.
    ///
    /// # Panics
    /// Outside of a tokio runtime.
    pub fn start(self, listeners: impl IntoIterator<Item = TcpListener>) -> ServerHandle {
        if let Some(contradiction) = &self.contradiction {
            tracing::warn!("{contradiction}");
        }
        if self.not_kept {
            self.instances.denied(&Denied::other("running", NOT_KEPT));
        }
        if let Some((pooling, instances)) = self.pooling {
            self.instances.pool(pooling, instances);
        }
        let retired = CancellationToken::new();
        let dispatcher = Dispatcher::start(&self.instances, self.isolation, self.workers);
        let accepting = TaskTracker::new();
        for listener in listeners {
            match Acceptor::new(listener) {
                Ok(listener) => {
                    let gate = self.gate.clone();
                    accepting.spawn(gate.accept_all(listener, dispatcher.clone(), retired.clone()));
                }
                Err(error) => self.gate.listener_failed(&error),
            }
        }
        accepting.close();
        let connections = self.tasks.connections().clone();
        let timeouts = self.timeouts;
        let limiting = tokio::spawn(async move { connections.enforce(timeouts).await });
        let looking = self.events.map(|events| {
            let connections = self.tasks.connections().clone();
            AbortOnDropHandle::new(tokio::spawn(async move { connections.look(events).await }))
        });
        ServerHandle {
            gate: self.gate,
            instances: self.instances,
            tasks: self.tasks,
            grace: self.grace,
            accepting,
            stopped: CancellationToken::new(),
            _stop_accepting: retired.clone().drop_guard(),
            retired,
            _limiting: AbortOnDropHandle::new(limiting),
            _looking: looking,
        }
    }
}

impl fmt::Debug for Server {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Server")
            .field("isolation", &self.isolation)
            .field("instances", &self.instances)
            .finish_non_exhaustive()
    }
}
