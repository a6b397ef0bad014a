//! A server that serves, as its embedder holds it.

use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio_util::sync::{CancellationToken, DropGuard};
use tokio_util::task::{AbortOnDropHandle, TaskTracker};

use super::gate::{Gate, Peers};
use super::instances::Instances;
use super::observer::Snapshot;
use super::passed::{Leaving, Passed};
use super::peers::PeerChanges;
use super::report::Summary;
use super::tasks::Tasks;

/// How long the lines that guests printed may take to be written, at the end.
const FLUSH: Duration = Duration::from_secs(1);

/// A [`Server`](super::Server) that serves.
///
/// Dropping the handle stops accepting; open connections go on, without timeouts.
pub struct ServerHandle {
    pub(super) gate: Arc<Gate>,
    pub(super) instances: Arc<Instances>,
    pub(super) tasks: Tasks,
    pub(super) grace: Duration,
    /// The accept loops.
    pub(super) accepting: TaskTracker,
    pub(super) retired: CancellationToken,
    pub(super) stopped: CancellationToken,
    pub(super) _stop_accepting: DropGuard,
    pub(super) _limiting: AbortOnDropHandle<()>,
    pub(super) _looking: Option<AbortOnDropHandle<()>>,
}

impl ServerHandle {
    /// Stops accepting, so that another server can take over: open connections go on for
    /// as long as they like.
    pub fn retire(&self) {
        self.retired.cancel();
    }

    /// Stops accepting; open connections have the grace time to finish.
    pub fn stop(&self) {
        self.retired.cancel();
        self.stopped.cancel();
    }

    /// Lets the health checks of load balancers fail from now on, while the server goes on
    /// accepting: their connections, which version 2 of the PROXY protocol calls `LOCAL`, are
    /// reset. Call it some time before [`stop`](Self::stop), so that the balancers send new
    /// connections elsewhere by then. Without [`ProxyProtocol`](crate::ProxyProtocol) it has
    /// no effect.
    pub fn fail_health_checks(&self) {
        self.gate.fail_health_checks();
    }

    /// Sets the peers that are served from now on. Open connections go on.
    pub fn set_peers(&self, peers: Peers) {
        self.gate.set_peers(peers);
    }

    /// Whether the service's connections may go on in another process:
    /// [`ServerBuilder::hand_over`](super::ServerBuilder::hand_over).
    #[must_use]
    pub fn hands_over(&self) -> bool {
        self.instances.hands_over()
    }

    /// Lets somebody else go on with connections whose bytes only pass through, as long as the
    /// value exists, such as another process: those that the service
    /// [hands over](super::ServerBuilder::hand_over), as soon as nothing is on the way between
    /// their sockets. Call it after [`retire`](Self::retire).
    #[must_use]
    pub fn hand_over(&self) -> Leaving {
        let gate = Arc::downgrade(&self.gate);
        self.tasks.hand_over(Arc::new(move |passed| {
            if let Some(gate) = gate.upgrade() {
                gate.go_on(passed);
            }
        }))
    }

    /// Goes on with a connection of another server. The service does not see it.
    ///
    /// # Panics
    /// Outside of a tokio runtime.
    pub fn go_on(&self, passed: Passed) {
        self.gate.clone().go_on(passed);
    }

    /// Follows how many connections each peer has, so that another server can count them as well.
    #[must_use]
    pub fn follow_peers(&self) -> PeerChanges {
        self.gate.follow_peers()
    }

    /// Returns the peers that have used up some of their
    /// [rate](super::ServerBuilder::max_rate_per_peer), each with the time until it has all of it
    /// again; at most so many, those first that have used up most. [`Server::spend`] takes it over.
    ///
    /// [`Server::spend`]: super::Server::spend
    #[must_use]
    pub fn spent(&self, most: usize) -> Vec<(IpAddr, Duration)> {
        self.gate.spent(most)
    }

    /// Waits until the server accepts no more: after [`retire`](Self::retire) or
    /// [`stop`](Self::stop), or when all its listeners have failed.
    pub async fn stopped_accepting(&self) {
        self.accepting.wait().await;
    }

    /// Returns whether the server accepts connections.
    #[must_use]
    pub fn is_accepting(&self) -> bool {
        !self.accepting.is_empty()
    }

    /// Returns the time that connections have to finish after [`stop`](Self::stop).
    #[must_use]
    pub fn grace(&self) -> Duration {
        self.grace
    }

    /// Returns how many connections are open, or closing.
    #[must_use]
    pub fn connections(&self) -> usize {
        self.tasks.connections().len()
    }

    /// Returns the server's present state.
    #[must_use]
    pub fn snapshot(&self) -> Snapshot {
        Snapshot::new(
            self.tasks.connections().traffic(),
            self.gate.arriving(),
            self.instances.count(),
        )
    }

    /// Waits until the server accepts no more and the last connection has ended. After
    /// [`stop`](Self::stop) that is within the grace time: connections that are still open
    /// then are reset.
    pub async fn wait(&self) -> Summary {
        self.accepting.wait().await;
        self.tasks.close();
        tokio::select! {
            () = self.tasks.ended() => {}
            () = self.stopped.cancelled() => {}
        }
        let aborted = self.tasks.end_within(self.grace).await;
        self.instances.flush(FLUSH).await;
        Summary {
            accepted: self.gate.accepted(),
            aborted,
        }
    }
}

impl fmt::Debug for ServerHandle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ServerHandle")
            .field("accepting", &self.is_accepting())
            .field("connections", &self.connections())
            .finish_non_exhaustive()
    }
}
