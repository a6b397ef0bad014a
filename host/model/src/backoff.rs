//! Delays of accept loops.

use std::time::Duration;

/// The delays of an accept loop while descriptors or memory have run out (rule L5): 5 ms
/// after the first failure, doubling up to 1 s.
///
/// ```
/// use std::time::Duration;
///
/// use halfopen_model::Backoff;
///
/// let mut backoff = Backoff::default();
/// assert_eq!(backoff.next_delay(), Duration::from_millis(5));
/// assert_eq!(backoff.next_delay(), Duration::from_millis(10));
/// backoff.reset();
/// assert_eq!(backoff.next_delay(), Duration::from_millis(5));
/// ```
#[derive(Clone, Debug, Default)]
pub struct Backoff {
    failures: u32,
}

impl Backoff {
    /// The delay after the first failure, and the shortest one.
    pub const SHORTEST: Duration = Duration::from_millis(5);
    /// The longest delay.
    pub const LONGEST: Duration = Duration::from_secs(1);

    /// Counts a failure, and returns how long to wait before the next attempt.
    pub fn next_delay(&mut self) -> Duration {
        // Eight doublings exceed the longest delay.
        let delay = Self::SHORTEST * (1 << self.failures.min(8));
        self.failures = self.failures.saturating_add(1);
        delay.min(Self::LONGEST)
    }

    /// Resets the count of failures. Call this after a successful accept.
    pub fn reset(&mut self) {
        self.failures = 0;
    }

    /// The number of failures since the last reset.
    #[must_use]
    pub fn failures(&self) -> u32 {
        self.failures
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn delays_double_up_to_the_longest() {
        let mut backoff = Backoff::default();
        let delays: Vec<_> = (0..10).map(|_| backoff.next_delay().as_millis()).collect();
        assert_eq!(delays, [5, 10, 20, 40, 80, 160, 320, 640, 1000, 1000]);
        assert_eq!(backoff.failures(), 10);
    }
}
