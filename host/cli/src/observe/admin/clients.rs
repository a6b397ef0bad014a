//! The clients of the admin address, and how long each may stay.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep, sleep_until};

use crate::observe::page::Stay;

/// The limit on connections at once, without those that watch: each takes a descriptor from the
/// services. A further one takes the place of another.
const CONNECTIONS: usize = 16;
/// The limit on a connection that does not watch, from accept to the end of the response.
pub(super) const TIMEOUT: Duration = Duration::from_secs(10);

/// How far a client has come.
#[derive(Clone, Debug, Default)]
pub(super) struct Progress {
    asked: Arc<AtomicBool>,
    /// Set once the client watches.
    pub(super) stay: Stay,
}

impl Progress {
    /// The client has sent its request.
    pub(super) fn has_asked(&self) {
        self.asked.store(true, Ordering::Relaxed);
    }

    /// Waits until the client has had its time. One that watches may stay while it reads.
    pub(super) async fn over(&self) {
        sleep(TIMEOUT).await;
        while let Some(until) = self.stay.until() {
            if until <= Instant::now() {
                return;
            }
            sleep_until(until).await;
        }
    }
}

/// The connections of clients, the oldest first.
#[derive(Default)]
pub(super) struct Clients(VecDeque<(JoinHandle<()>, Progress)>);

impl Clients {
    /// Makes room for another connection: clients that connect and send nothing must not keep
    /// others from an answer. The victim is the oldest that has not sent its request; only if
    /// all have, the oldest. Those that watch have a limit of their own.
    pub(super) fn make_room(&mut self) {
        self.0.retain(|(task, _)| !task.is_finished());
        let answered = |(_, client): &(_, Progress)| client.stay.until().is_none();
        if self.0.iter().filter(|&client| answered(client)).count() < CONNECTIONS {
            return;
        }
        let silent = |(_, client): &(_, Progress)| !client.asked.load(Ordering::Relaxed);
        let victim = self.0.iter().position(silent);
        let victim = victim.or_else(|| self.0.iter().position(answered));
        if let Some((task, _)) = victim.and_then(|victim| self.0.remove(victim)) {
            task.abort();
        }
    }

    pub(super) fn add(&mut self, task: JoinHandle<()>, progress: Progress) {
        self.0.push_back((task, progress));
    }
}

/// When the process answers no more, those that watch go to the one that does.
impl Drop for Clients {
    fn drop(&mut self) {
        for (task, client) in &self.0 {
            if client.stay.until().is_some() {
                task.abort();
            }
        }
    }
}
