//! The idle time of a connection (rule K14).

use std::time::Duration;

/// How long a connection has neither received nor sent data, and when its program is told.
///
/// Times are durations since an origin that the caller chooses. Data moves more often than
/// a limit passes, so moving data changes no alarm: the caller sets one for
/// [`alarm`](Self::alarm), and when that rings asks [`ring`](Self::ring), which may put it off.
///
/// ```
/// use std::time::Duration;
/// use halfopen_model::Idle;
///
/// let second = Duration::from_secs;
/// let mut idle = Idle::default();
/// idle.set(second(0), second(5));
/// assert_eq!(idle.alarm(), Some(second(5)));
/// idle.moved(second(3));
/// assert!(!idle.ring(second(5)));
/// assert_eq!(idle.alarm(), Some(second(8)));
/// assert!(idle.ring(second(8)));
/// // Once, until data moves again.
/// assert_eq!(idle.alarm(), None);
/// idle.moved(second(9));
/// assert_eq!(idle.alarm(), Some(second(14)));
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Idle {
    /// Zero is no limit.
    limit: Duration,
    /// When data last moved, or the limit was set.
    since: Duration,
    /// Whether the limit has passed since then.
    passed: bool,
}

impl Idle {
    /// Sets how long the connection may be idle, from now on; zero is no limit.
    pub fn set(&mut self, now: Duration, limit: Duration) {
        self.limit = limit;
        self.moved(now);
    }

    /// Records that data was received or sent.
    pub fn moved(&mut self, now: Duration) {
        self.since = now;
        self.passed = false;
    }

    /// Returns when to call [`ring`](Self::ring), or later; `None` if there is no need.
    #[must_use]
    pub fn alarm(&self) -> Option<Duration> {
        (!self.limit.is_zero() && !self.passed).then(|| self.since + self.limit)
    }

    /// Returns whether the limit has passed now, and not been reported since data moved.
    pub fn ring(&mut self, now: Duration) -> bool {
        let passes = self.alarm().is_some_and(|alarm| alarm <= now);
        self.passed |= passes;
        passes
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[derive(Clone, Debug)]
    enum Step {
        Set(u64),
        Moved,
        /// Asks at the alarm, and so many milliseconds later.
        Ring(u64),
    }

    fn step() -> impl Strategy<Value = Step> {
        prop_oneof![
            (0_u64..20).prop_map(Step::Set),
            Just(Step::Moved),
            (0_u64..20).prop_map(Step::Ring),
        ]
    }

    #[test]
    fn a_new_limit_begins_now_and_none_has_no_alarm() {
        let mut idle = Idle::default();
        assert_eq!(idle.alarm(), None);
        assert!(!idle.ring(Duration::MAX));
        idle.set(Duration::from_secs(1), Duration::from_secs(5));
        idle.set(Duration::from_secs(2), Duration::from_secs(5));
        assert_eq!(idle.alarm(), Some(Duration::from_secs(7)));
        idle.set(Duration::from_secs(3), Duration::ZERO);
        assert_eq!(idle.alarm(), None);
    }

    proptest! {
        /// The limit passes exactly when nothing has moved for it, and once each time.
        #[test]
        fn it_is_late_never_early_and_comes_once(
            steps in prop::collection::vec((0_u64..10, step()), 1..200),
        ) {
            let milliseconds = Duration::from_millis;
            let mut idle = Idle::default();
            let (mut now, mut limit, mut since, mut told) = (0, 0, 0, false);
            for (pause, step) in steps {
                now += pause;
                match step {
                    Step::Set(to) => {
                        (limit, since, told) = (to, now, false);
                        idle.set(milliseconds(now), milliseconds(to));
                    }
                    Step::Moved => {
                        (since, told) = (now, false);
                        idle.moved(milliseconds(now));
                    }
                    Step::Ring(late) => {
                        now += late;
                        let passes = limit > 0 && !told && now >= since + limit;
                        prop_assert_eq!(idle.ring(milliseconds(now)), passes);
                        told |= passes;
                    }
                }
                let alarm = (limit > 0 && !told).then(|| milliseconds(since + limit));
                prop_assert_eq!(idle.alarm(), alarm);
            }
        }
    }
}
