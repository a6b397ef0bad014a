//! The idle time of a connection (rule K14).

use std::time::Duration;

/// How long a connection has neither received nor sent data, and when that is reported.
///
/// Times are durations since an origin that the caller chooses. Data moves more often than
/// a limit passes, so moving data changes no alarm: [`Timers::attend`](crate::Timers::attend)
/// sets one, and when that rings the caller asks [`ring`](Self::ring), and attends again.
///
/// ```
/// use std::time::Duration;
/// use halfopen_model::{Alarm, Idle, Timers};
///
/// let second = Duration::from_secs;
/// let mut timers = Timers::default();
/// let mut idle = Idle::default();
/// idle.set(second(0), second(5));
/// timers.attend(7, &mut idle);
/// idle.moved(second(3));
/// assert_eq!(timers.due(second(5)), Some(Alarm::Idle(7)));
/// assert!(!idle.ring(second(5)));
/// timers.attend(7, &mut idle);
/// assert_eq!(timers.due(second(8)), Some(Alarm::Idle(7)));
/// assert!(idle.ring(second(8)));
/// // Once, until data moves again.
/// assert!(idle.take_passed());
/// assert!(!idle.take_passed());
/// timers.attend(7, &mut idle);
/// assert_eq!(timers.next(), None);
/// idle.moved(second(9));
/// timers.attend(7, &mut idle);
/// assert_eq!(timers.next(), Some(second(14)));
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Idle {
    /// Zero is no limit.
    limit: Duration,
    /// When data last moved, or the limit was set.
    since: Duration,
    /// Whether the limit has passed since then.
    passed: bool,
    /// Whether the limit has passed, and that has not been reported.
    due: bool,
    /// The alarm that is set. It may come earlier than the limit passes.
    pub(crate) alarm: Option<Duration>,
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
        self.due = false;
    }

    /// Looks at the time after the alarm has rung. Returns whether the program is to be told
    /// that the limit has passed.
    pub fn ring(&mut self, now: Duration) -> bool {
        self.alarm = None;
        if self.passes().is_some_and(|passes| passes <= now) {
            self.passed = true;
            self.due = true;
        }
        self.due
    }

    /// Returns whether the program is to be told that the limit has passed, which the caller
    /// does.
    pub fn take_passed(&mut self) -> bool {
        std::mem::take(&mut self.due)
    }

    /// Returns when the limit passes; `None` if there is none, or it has passed.
    pub(crate) fn passes(&self) -> Option<Duration> {
        (!self.limit.is_zero() && !self.passed).then(|| self.since + self.limit)
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
    fn a_new_limit_begins_now_and_none_never_passes() {
        let mut idle = Idle::default();
        assert_eq!(idle.passes(), None);
        assert!(!idle.ring(Duration::MAX));
        idle.set(Duration::from_secs(1), Duration::from_secs(5));
        idle.set(Duration::from_secs(2), Duration::from_secs(5));
        assert_eq!(idle.passes(), Some(Duration::from_secs(7)));
        idle.set(Duration::from_secs(3), Duration::ZERO);
        assert_eq!(idle.passes(), None);
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
                        prop_assert_eq!(idle.take_passed(), passes);
                        told |= passes;
                    }
                }
                let next = (limit > 0 && !told).then(|| milliseconds(since + limit));
                prop_assert_eq!(idle.passes(), next);
            }
        }
    }
}
