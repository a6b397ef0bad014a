//! The timers of an instance in callback style (rule K13).

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use crate::Idle;

/// What is to be done at a time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Alarm {
    /// Call the program for the timer of this number.
    Timer(u32),
    /// Look at the idle time of the connection of this number.
    Idle(u32),
}

/// The timers of an instance, and the alarms of its idle connections.
///
/// Times are durations since an origin that the caller chooses. The caller waits until
/// [`next`](Self::next), and then takes what is [`due`](Self::due).
///
/// ```
/// use std::time::Duration;
/// use halfopen_model::{Alarm, Timers};
///
/// let second = Duration::from_secs;
/// let mut timers = Timers::default();
/// let tick = timers.set(second(0), second(10), true);
/// let once = timers.set(second(0), second(15), false);
/// assert_eq!(timers.next(), Some(second(10)));
/// // The calls at 20 and 30 are missed.
/// assert_eq!(timers.due(second(31)), Some(Alarm::Timer(tick)));
/// assert_eq!(timers.due(second(31)), Some(Alarm::Timer(once)));
/// assert_eq!(timers.due(second(31)), None);
/// assert_eq!(timers.next(), Some(second(40)));
/// timers.clear(tick);
/// assert_eq!(timers.next(), None);
/// ```
#[derive(Clone, Debug, Default)]
pub struct Timers {
    alarms: BTreeSet<(Duration, Alarm)>,
    timers: BTreeMap<u32, Timer>,
    last: u32,
}

#[derive(Clone, Copy, Debug)]
struct Timer {
    /// When its alarm rings.
    at: Duration,
    /// The time between two calls, if it repeats.
    period: Option<Duration>,
}

impl Timers {
    /// How many timers an instance may have.
    pub const MAX: usize = 10_000;

    /// Sets a timer, and returns its number; 0 if there are [`MAX`](Self::MAX). It rings after
    /// `delay`, and if it repeats at multiples of `delay`, which is then at least 1 ms.
    pub fn set(&mut self, now: Duration, delay: Duration, repeats: bool) -> u32 {
        if self.timers.len() >= Self::MAX {
            return 0;
        }
        let period = repeats.then(|| delay.max(Duration::from_millis(1)));
        let at = now + period.unwrap_or(delay);
        // Numbers ascend; after four thousand million they begin again.
        loop {
            self.last = self.last.wrapping_add(1);
            if self.last != 0 && !self.timers.contains_key(&self.last) {
                break;
            }
        }
        self.timers.insert(self.last, Timer { at, period });
        self.alarms.insert((at, Alarm::Timer(self.last)));
        self.last
    }

    /// Ends a timer, if there is one of this number.
    pub fn clear(&mut self, timer: u32) {
        if let Some(Timer { at, .. }) = self.timers.remove(&timer) {
            self.alarms.remove(&(at, Alarm::Timer(timer)));
        }
    }

    /// Sets the alarm of an idle connection, if it has none that comes early enough.
    pub fn attend(&mut self, connection: u32, idle: &mut Idle) {
        if let Some(passes) = idle.passes()
            && idle.alarm.is_none_or(|alarm| alarm > passes)
        {
            self.forget(connection, idle);
            self.alarms.insert((passes, Alarm::Idle(connection)));
            idle.alarm = Some(passes);
        }
    }

    /// Removes the alarm of a connection, which has closed.
    pub fn forget(&mut self, connection: u32, idle: &Idle) {
        if let Some(alarm) = idle.alarm {
            self.alarms.remove(&(alarm, Alarm::Idle(connection)));
        }
    }

    /// Returns the time of the next alarm.
    #[must_use]
    pub fn next(&self) -> Option<Duration> {
        self.alarms.first().map(|(at, _)| *at)
    }

    /// Takes an alarm whose time has come. A timer that repeats is set again, for the first
    /// time after `now`: calls that were missed are left out.
    pub fn due(&mut self, now: Duration) -> Option<Alarm> {
        let (at, alarm) = self.alarms.pop_first()?;
        if at > now {
            self.alarms.insert((at, alarm));
            return None;
        }
        let Alarm::Timer(number) = alarm else {
            return Some(alarm);
        };
        let timer = self.timers.get_mut(&number);
        match timer.and_then(|timer| Some((timer.period?, timer))) {
            Some((period, timer)) => {
                timer.at = following(at, period, now);
                self.alarms.insert((timer.at, alarm));
            }
            None => drop(self.timers.remove(&number)),
        }
        Some(alarm)
    }
}

/// Returns the first time after `now` that is a multiple of `period` after `at`.
fn following(at: Duration, period: Duration, now: Duration) -> Duration {
    let missed = (now - at).as_nanos() / period.as_nanos();
    match u32::try_from(missed + 1) {
        Ok(periods) => at + period * periods,
        Err(_) => now + period,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn only_so_many_timers_are_set() {
        let mut timers = Timers::default();
        let now = Duration::ZERO;
        for number in 1..=10_000 {
            assert_eq!(timers.set(now, now, false), number);
        }
        assert_eq!(timers.set(now, now, true), 0);
        timers.clear(0);
        timers.clear(77);
        assert_eq!(timers.set(now, now, true), 10_001);
    }

    #[test]
    fn numbers_begin_again_and_leave_out_zero_and_what_is_in_use() {
        let mut timers = Timers::default();
        let now = Duration::ZERO;
        assert_eq!(timers.set(now, now, false), 1);
        timers.last = u32::MAX - 1;
        assert_eq!(timers.set(now, now, false), u32::MAX);
        assert_eq!(timers.set(now, now, false), 2);
    }

    #[test]
    fn the_alarm_of_a_connection_moves() {
        let mut timers = Timers::default();
        let second = Duration::from_secs;
        let [mut seventh, mut eighth] = [Idle::default(); 2];
        seventh.set(second(0), second(3));
        timers.attend(7, &mut seventh);
        seventh.set(second(0), second(2));
        timers.attend(7, &mut seventh);
        eighth.set(second(0), second(3));
        timers.attend(8, &mut eighth);
        timers.forget(8, &eighth);
        assert_eq!(timers.due(second(1)), None);
        assert_eq!(timers.due(second(4)), Some(Alarm::Idle(7)));
        assert_eq!(timers.due(second(4)), None);
        assert_eq!(timers.next(), None);
    }

    #[derive(Clone, Debug)]
    enum Step {
        Set(u64, bool),
        Clear(usize),
        Wait(u64),
    }

    fn step() -> impl Strategy<Value = Step> {
        prop_oneof![
            (0_u64..30, any::<bool>()).prop_map(|(delay, repeats)| Step::Set(delay, repeats)),
            (0_usize..20).prop_map(Step::Clear),
            (0_u64..40).prop_map(Step::Wait),
        ]
    }

    proptest! {
        /// Each timer rings at the first look after its time, never before, and in order; one
        /// that repeats rings at most once for each look; a cleared one never.
        #[test]
        fn they_ring_late_and_never_early(steps in prop::collection::vec(step(), 1..200)) {
            let mut timers = Timers::default();
            // Number, next time, period: the same in the simplest way.
            let mut model = Vec::<(u32, u64, Option<u64>)>::new();
            let mut now = 0;
            for step in steps {
                let time = Duration::from_millis(now);
                match step {
                    Step::Set(delay, repeats) => {
                        let number = timers.set(time, Duration::from_millis(delay), repeats);
                        let period = repeats.then_some(delay.max(1));
                        model.push((number, now + period.unwrap_or(delay), period));
                    }
                    Step::Clear(which) => {
                        if which < model.len() {
                            timers.clear(model.remove(which).0);
                        }
                    }
                    Step::Wait(milliseconds) => {
                        now += milliseconds;
                        let mut rings: Vec<_> = model
                            .iter()
                            .filter(|(_, at, _)| *at <= now)
                            .map(|(number, at, _)| (*at, *number))
                            .collect();
                        rings.sort_unstable();
                        for (_, number) in rings {
                            let due = timers.due(Duration::from_millis(now));
                            prop_assert_eq!(due, Some(Alarm::Timer(number)));
                        }
                        prop_assert_eq!(timers.due(Duration::from_millis(now)), None);
                        model.retain_mut(|(_, at, period)| {
                            while let (true, Some(period)) = (*at <= now, *period) {
                                *at += period;
                            }
                            *at > now
                        });
                    }
                }
                let next = model.iter().map(|(_, at, _)| Duration::from_millis(*at)).min();
                prop_assert_eq!(timers.next(), next);
            }
        }
    }
}
