//! When an instance begins that many connections share.

use std::time::Duration;

use tokio::sync::mpsc;
use tokio::time::{Instant, sleep};

/// How long an instance that is kept running waits to begin again after its first trap, and at
/// most: the time doubles from one trap to the next.
const SHORTEST: Duration = Duration::from_millis(100);
const LONGEST: Duration = Duration::from_secs(60);

/// Decides when the next instance begins: with its first connection; if it is kept running, at
/// once, or some time after a trap.
#[derive(Debug)]
pub(super) struct Restarts {
    keep_running: bool,
    /// How often an instance has trapped soon after its beginning.
    traps: u32,
    begun: Instant,
}

impl Restarts {
    pub(super) fn new(keep_running: bool) -> Self {
        Restarts {
            keep_running,
            traps: 0,
            begun: Instant::now(),
        }
    }

    /// Whether the instance works without connections.
    pub(super) fn keep_running(&self) -> bool {
        self.keep_running
    }

    /// Waits until the next instance is to begin, and returns its first connection if there is
    /// one by then. `None` if the queue is closed.
    pub(super) async fn next<C>(&mut self, queue: &mut mpsc::Receiver<C>) -> Option<Option<C>> {
        let first = if self.keep_running {
            tokio::select! {
                received = queue.recv() => Some(received?),
                () = sleep(self.delay()) => None,
            }
        } else {
            Some(queue.recv().await?)
        };
        self.begun = Instant::now();
        Some(first)
    }

    /// Counts a trap. One that comes late starts the count anew.
    pub(super) fn trapped(&mut self) {
        if self.begun.elapsed() > LONGEST {
            self.traps = 0;
        }
        self.traps = self.traps.saturating_add(1);
    }

    fn delay(&self) -> Duration {
        match self.traps {
            0 => Duration::ZERO,
            traps => (SHORTEST * (1 << (traps - 1).min(16))).min(LONGEST),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn an_instance_that_traps_over_and_over_begins_less_and_less_often() {
        let (sender, mut queue) = mpsc::channel::<()>(1);
        let mut restarts = Restarts::new(true);
        let mut waits = Vec::new();
        for _ in 0..13 {
            let before = Instant::now();
            assert_eq!(restarts.next(&mut queue).await, Some(None));
            waits.push(before.elapsed().as_millis());
            restarts.trapped();
        }
        assert_eq!(waits[..4], [0, 100, 200, 400]);
        assert_eq!(waits[11..], [60_000, 60_000]);
        // A connection does not wait.
        sender.send(()).await.unwrap();
        let before = Instant::now();
        assert_eq!(restarts.next(&mut queue).await, Some(Some(())));
        assert_eq!(before.elapsed(), Duration::ZERO);
        // One that has run for long begins anew.
        tokio::time::advance(LONGEST * 2).await;
        restarts.trapped();
        let before = Instant::now();
        restarts.next(&mut queue).await;
        assert_eq!(before.elapsed(), SHORTEST);
        drop(sender);
        assert_eq!(restarts.next(&mut queue).await, None);
    }

    #[tokio::test(start_paused = true)]
    async fn without_the_grant_it_begins_with_its_first_connection() {
        let (sender, mut queue) = mpsc::channel::<()>(1);
        let mut restarts = Restarts::new(false);
        let waited = tokio::time::timeout(LONGEST, restarts.next(&mut queue)).await;
        assert!(waited.is_err());
        sender.send(()).await.unwrap();
        assert_eq!(restarts.next(&mut queue).await, Some(Some(())));
    }
}
