//! What runs within a server, and how it is brought to its end.

use std::sync::{Arc, OnceLock};
use std::time::Duration;

use tokio::time::timeout;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::tcp::Registry;

/// The connections of a server, and the tasks that serve them. Clones are the same set.
#[derive(Clone, Debug, Default)]
pub(super) struct Tasks {
    connections: Registry,
    tracker: TaskTracker,
    killed: CancellationToken,
    /// How many connections were left when the rest was reset.
    aborted: Arc<OnceLock<usize>>,
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
