//! The time of an instance: its timers, and the idle times of its sockets.

use std::time::Duration;

use halfopen_model::{Alarm, Idle, Timers};

use crate::bindings::wasi::clocks::monotonic_clock;

/// The timers, and the alarms of idle sockets. The driver waits for them.
#[derive(Default)]
pub(crate) struct Clock {
    timers: Timers,
    /// The time when the driver began to ask for orders, once there was a need to know it.
    /// What becomes due while it asks has to wait, or a timer of 0 ms could go on for ever.
    now: Option<Duration>,
    /// The time that was ordered, and that has not passed.
    wait: Option<Duration>,
}

/// The time, since an origin that the host chooses.
pub(crate) fn now() -> Duration {
    Duration::from_nanos(monotonic_clock::now())
}

pub(crate) fn milliseconds(number: u32) -> Duration {
    Duration::from_millis(number.into())
}

impl Clock {
    pub(crate) fn set(&mut self, delay: u32, repeats: bool) -> u32 {
        self.timers.set(now(), milliseconds(delay), repeats)
    }

    pub(crate) fn clear(&mut self, timer: u32) {
        self.timers.clear(timer);
    }

    /// Sets the alarm of a socket, if it has none that comes early enough.
    pub(crate) fn watch(&mut self, socket: u32, idle: &mut Idle) {
        self.timers.attend(socket, idle);
    }

    /// Forgets a socket that has closed.
    pub(crate) fn unwatch(&mut self, socket: u32, idle: &Idle) {
        self.timers.forget(socket, idle);
    }

    /// Takes an alarm whose time has come.
    pub(crate) fn due(&mut self) -> Option<Alarm> {
        if self.wait.is_none() && self.timers.next().is_none() {
            return None;
        }
        let now = *self.now.get_or_insert_with(now);
        self.timers.due(now)
    }

    /// Looks at the time of a socket after its alarm; returns whether the event `timeout` is
    /// due.
    pub(crate) fn ring(&mut self, socket: u32, idle: &mut Idle) -> bool {
        let due = self.now.is_some_and(|now| idle.ring(now));
        self.watch(socket, idle);
        due
    }

    /// Returns the time for which the driver has to wait, if it does not know it. There is
    /// nothing else to order.
    pub(crate) fn wait(&mut self) -> Option<Duration> {
        self.wait = self
            .wait
            .filter(|wait| self.now.is_none_or(|now| now < *wait));
        let next = self.timers.next();
        let sooner = next.filter(|next| self.wait.is_none_or(|wait| wait > *next));
        match sooner {
            Some(next) => self.wait = Some(next),
            None => self.now = None,
        }
        sooner
    }
}
