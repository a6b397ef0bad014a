//! What runs within a server, and how it is brought to its end.

use std::fmt;
use std::future::{pending, poll_fn};
use std::net::SocketAddr;
use std::pin::pin;
use std::sync::{Arc, OnceLock};
use std::task::Poll;
use std::time::{Duration, Instant};

use tokio::sync::{mpsc, watch};
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::passed::{Home, Leaving, Passed};
use crate::tcp::{Passing, Registry};

/// How long the bytes of a connection may take that are on the way, before it leaves.
const REST: Duration = Duration::from_millis(50);
/// How long to wait before a busy connection is asked again.
const AGAIN: Duration = Duration::from_secs(1);
/// How many connections may wait for whoever takes them, or for their last bytes.
const QUEUE: usize = 64;

/// The connections of a server, and the tasks that serve them. Clones are the same set.
#[derive(Clone, Debug, Default)]
pub(super) struct Tasks {
    connections: Registry,
    tracker: TaskTracker,
    killed: CancellationToken,
    /// Who goes on with connections whose bytes only pass through.
    taker: Arc<watch::Sender<Option<Taker>>>,
    /// How many connections were left when the rest was reset.
    aborted: Arc<OnceLock<usize>>,
}

/// Goes on with connections, or gives them back.
#[derive(Clone)]
struct Taker {
    queue: mpsc::Sender<Passed>,
    home: Home,
}

impl fmt::Debug for Taker {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Taker").finish_non_exhaustive()
    }
}

impl Tasks {
    /// Returns the connections that are open, or closing.
    pub(super) fn connections(&self) -> &Registry {
        &self.connections
    }

    /// Runs a task of the server, until [`killed`](Self::killed) at the latest: the task
    /// sees to that itself.
    pub(super) fn spawn(&self, task: impl Future<Output = ()> + Send + 'static) {
        self.tracker.spawn(task);
    }

    /// Waits for the moment at which every task has to end.
    pub(super) async fn killed(&self) {
        self.killed.cancelled().await;
    }

    /// Lets somebody else go on with connections whose bytes only pass through, as long as the
    /// value exists. Those that are not taken go `home`.
    pub(super) fn hand_over(&self, home: Home) -> Leaving {
        let (queue, passed) = mpsc::channel(QUEUE);
        self.taker.send_replace(Some(Taker { queue, home }));
        Leaving::new(passed)
    }

    /// Waits until somebody else goes on with a connection, by itself or with the one to which its
    /// bytes pass. Never resolves if nobody does.
    ///
    /// What begins pumps has to be polled before this, in the same task.
    pub(super) async fn handed_over(&self, passing: &Passing, peer: SocketAddr, began: Instant) {
        let mut leaves = pin!(self.leaves(passing, peer, began));
        let mut passes = false;
        // Who copies its bytes pays nothing for this.
        poll_fn(|cx| {
            passes = passes || passing.has_begun();
            match passes {
                true => leaves.as_mut().poll(cx),
                false => Poll::Pending,
            }
        })
        .await;
    }

    async fn leaves(&self, passing: &Passing, peer: SocketAddr, began: Instant) {
        let mut takers = self.taker.subscribe();
        let takes = |taker: &Option<Taker>| {
            let taker = taker.as_ref();
            taker.is_some_and(|taker| !taker.queue.is_closed())
        };
        loop {
            let taker = takers.wait_for(takes).await.map(|taker| taker.clone());
            let Ok(Some(Taker { queue, home })) = taker else {
                return pending().await;
            };
            let Ok(place) = queue.reserve().await else {
                continue;
            };
            if let Some(parted) = passing.part(REST).await {
                let (age, leaving) = (began.elapsed(), self.tracker.token());
                return place.send(Passed::leaving(peer, age, parted, home, leaving));
            }
            drop(place);
            sleep(AGAIN).await;
        }
    }

    /// Declares that no more connections come.
    pub(super) fn close(&self) {
        self.tracker.close();
    }

    /// Waits for the end of the last connection and the last task, once no more come.
    pub(super) async fn ended(&self) {
        self.connections.empty().await;
        self.tracker.wait().await;
    }

    /// Waits for the end for at most `grace`, then resets the connections that are left.
    /// Returns how many these were; all who wait get the same number.
    pub(super) async fn end_within(&self, grace: Duration) -> usize {
        if timeout(grace, self.ended()).await.is_ok() {
            return self.aborted.get().copied().unwrap_or(0);
        }
        let left = *self.aborted.get_or_init(|| self.connections.len());
        self.connections.shut_down();
        self.killed.cancel();
        self.tracker.wait().await;
        self.connections.empty().await;
        left
    }
}
