//! Log lines that a guest or a peer could cause without end.

use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// The least time between two lines: 10 s.
const PERIOD: Duration = Duration::from_secs(10);

/// Limits a log line to one in 10 seconds, and counts the lines suppressed.
#[derive(Debug, Default)]
pub(crate) struct Seldom(Mutex<Said>);

#[derive(Debug, Default)]
struct Said {
    last: Option<Instant>,
    unsaid: u64,
}

impl Seldom {
    /// Returns how many lines were suppressed since the last one if the caller may log a line
    /// now, and `None` if it may not.
    pub(crate) fn say(&self) -> Option<u64> {
        self.say_at(Instant::now())
    }

    fn say_at(&self, now: Instant) -> Option<u64> {
        // No code panics while it holds the lock.
        let mut said = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        match said.last {
            Some(last) if now.saturating_duration_since(last) < PERIOD => {
                said.unsaid += 1;
                None
            }
            _ => {
                said.last = Some(now);
                Some(std::mem::take(&mut said.unsaid))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_not_said_is_counted() {
        let seldom = Seldom::default();
        let start = Instant::now();
        assert_eq!(seldom.say_at(start), Some(0));
        assert_eq!(seldom.say_at(start), None);
        assert_eq!(seldom.say_at(start + PERIOD / 2), None);
        assert_eq!(seldom.say_at(start + PERIOD), Some(2));
        assert_eq!(seldom.say_at(start + PERIOD * 2), Some(0));
    }
}
