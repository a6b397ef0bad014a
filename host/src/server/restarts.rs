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
        self.trapped_at(Instant::now());
    }

    fn trapped_at(&mut self, now: Instant) {
        if now - self.begun > LONGEST {
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

    #[test]
    fn an_instance_that_traps_over_and_over_begins_less_and_less_often() {
        let mut restarts = Restarts::new(true);
        let mut delays = Vec::new();
        for _ in 0..13 {
            delays.push(restarts.delay().as_millis());
            restarts.trapped_at(restarts.begun + SHORTEST);
        }
        assert_eq!(delays[..4], [0, 100, 200, 400]);
        assert_eq!(delays[11..], [60_000, 60_000]);
        // One that has run for long begins anew.
        restarts.trapped_at(restarts.begun + LONGEST * 2);
        assert_eq!(restarts.delay(), SHORTEST);
    }

    #[tokio::test]
    async fn a_connection_does_not_wait_for_the_delay() {
        let (sender, mut queue) = mpsc::channel(1);
        let mut restarts = Restarts::new(true);
        assert_eq!(restarts.next(&mut queue).await, Some(None));
        for _ in 0..20 {
            restarts.trapped();
        }
        assert_eq!(restarts.delay(), LONGEST);
        sender.send(()).await.unwrap();
        assert_eq!(restarts.next(&mut queue).await, Some(Some(())));
        drop(sender);
        assert_eq!(restarts.next(&mut queue).await, None);
    }

    #[tokio::test]
    async fn without_the_grant_it_begins_with_its_first_connection() {
        let (sender, mut queue) = mpsc::channel(1);
        let mut restarts = Restarts::new(false);
        let waited = tokio::time::timeout(SHORTEST, restarts.next(&mut queue)).await;
        assert!(waited.is_err());
        sender.send(()).await.unwrap();
        assert_eq!(restarts.next(&mut queue).await, Some(Some(())));
    }
}
