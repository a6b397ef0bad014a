//! The idle time of a connection in await style whose events the SDK serves (rule K14).

use std::cell::RefCell;
use std::task::{Context, Poll};
use std::time::Duration;

use futures::future::{FutureExt, LocalBoxFuture};
use halfopen_model::{Idle, Timers};

/// A clock, as functions: a component imports it only if it limits a time.
#[derive(Clone, Copy)]
pub(crate) struct Clock {
    /// The time since an origin that the host chooses.
    pub(crate) now: fn() -> Duration,
    /// Waits until a time.
    pub(crate) wait: fn(Duration) -> LocalBoxFuture<'static, ()>,
}

/// Watches the idle time of a connection.
pub(crate) struct Watch {
    clock: Clock,
    state: RefCell<(Idle, Timers)>,
    /// The wait for the next alarm, and its time.
    wait: RefCell<Option<(Duration, LocalBoxFuture<'static, ()>)>>,
}

/// The connection, among the timers of its own.
const CONNECTION: u32 = 1;

impl Watch {
    pub(crate) fn new(clock: Clock, limit: Duration) -> Self {
        let watch = Watch {
            clock,
            state: RefCell::default(),
            wait: RefCell::default(),
        };
        watch.set(limit);
        watch
    }

    /// Sets how long the connection may be idle, from now on; zero is no limit.
    pub(crate) fn set(&self, limit: Duration) {
        let now = (self.clock.now)();
        self.change(|idle| idle.set(now, limit));
    }

    /// Records that data was received or sent.
    pub(crate) fn moved(&self) {
        let now = (self.clock.now)();
        self.change(|idle| idle.moved(now));
    }

    fn change(&self, change: impl FnOnce(&mut Idle)) {
        let (idle, timers) = &mut *self.state.borrow_mut();
        change(idle);
        timers.attend(CONNECTION, idle);
    }

    /// Resolves once the connection has been idle for too long, and again only after data has
    /// moved. The task has to be woken when data moves or the limit changes.
    pub(crate) fn poll(&self, context: &mut Context<'_>) -> Poll<()> {
        loop {
            let (idle, timers) = &mut *self.state.borrow_mut();
            if idle.take_passed() {
                return Poll::Ready(());
            }
            let Some(next) = timers.next() else {
                return Poll::Pending;
            };
            let mut wait = self.wait.borrow_mut();
            if wait.as_ref().is_none_or(|(time, _)| *time != next) {
                *wait = Some((next, (self.clock.wait)(next)));
            }
            if let Some((_, waiting)) = &mut *wait {
                futures::ready!(waiting.poll_unpin(context));
            }
            *wait = None;
            let now = (self.clock.now)();
            while timers.due(now).is_some() {
                idle.ring(now);
                timers.attend(CONNECTION, idle);
            }
        }
    }
}
