//! The time of an instance: its timers, and the idle times of its sockets.

use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use halfopen_model::{Alarm, Idle, Timers};
use tokio::time::{Instant, Sleep, sleep_until};

/// The timers and idle times of an instance. It is made when the first one is set.
#[derive(Debug)]
pub(super) struct Clock {
    origin: Instant,
    timers: Timers,
    /// Sleeps until the next alarm, or an earlier one that was cleared.
    sleep: Pin<Box<Sleep>>,
}

/// The idle time of a socket that has a limit on it.
#[derive(Debug)]
pub(super) struct Watch {
    idle: Idle,
    origin: Instant,
}

impl Default for Clock {
    fn default() -> Self {
        let origin = Instant::now();
        Clock {
            origin,
            timers: Timers::default(),
            sleep: Box::pin(sleep_until(origin)),
        }
    }
}

impl Clock {
    pub(super) fn now(&self) -> Duration {
        self.origin.elapsed()
    }

    /// Sets a timer, and returns its number; 0 if there are too many.
    pub(super) fn set(&mut self, milliseconds: u32, repeats: bool) -> u32 {
        let delay = Duration::from_millis(milliseconds.into());
        self.timers.set(self.now(), delay, repeats)
    }

    /// Ends a timer.
    pub(super) fn clear(&mut self, timer: u32) {
        self.timers.clear(timer);
    }

    pub(super) fn new_watch(&self) -> Watch {
        Watch {
            idle: Idle::default(),
            origin: self.origin,
        }
    }

    /// Sets the alarm of a socket, if it has none that comes early enough.
    pub(super) fn watch(&mut self, socket: u32, watch: &mut Watch) {
        self.timers.attend(socket, &mut watch.idle);
    }

    /// Forgets a socket that has closed.
    pub(super) fn unwatch(&mut self, socket: u32, watch: &Watch) {
        self.timers.forget(socket, &watch.idle);
    }

    /// Takes an alarm whose time has come.
    pub(super) fn due(&mut self, now: Duration) -> Option<Alarm> {
        self.timers.due(now)
    }

    /// Waits for the next alarm.
    pub(super) fn poll(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let Some(next) = self.timers.next() else {
            return Poll::Pending;
        };
        let next = self.origin + next;
        if self.sleep.deadline() != next {
            self.sleep.as_mut().reset(next);
        }
        self.sleep.as_mut().poll(cx)
    }
}

impl Watch {
    /// Sets the limit; 0 is none.
    pub(super) fn set(&mut self, milliseconds: u32) {
        let limit = Duration::from_millis(milliseconds.into());
        self.idle.set(self.origin.elapsed(), limit);
    }

    /// Records that data was received or sent.
    pub(super) fn moved(&mut self) {
        self.idle.moved(self.origin.elapsed());
    }

    /// Looks at the time after the alarm; returns whether the event `timeout` is due.
    pub(super) fn ring(&mut self, now: Duration) -> bool {
        self.idle.ring(now)
    }

    /// Returns whether the event `timeout` is due, which the caller delivers.
    pub(super) fn take_passed(&mut self) -> bool {
        self.idle.take_passed()
    }
}
