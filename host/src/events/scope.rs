//! The events of one service.

use std::collections::VecDeque;
use std::fmt;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, PoisonError};
use std::time::{Duration, Instant};

use super::event::{Change, Event, Instance, Kind, cut};
use super::hub::Events;
use super::sync::{Mutex, MutexGuard};

/// How many traps are remembered, for the connections that end with them.
const TRAPS: usize = 16;

/// A service whose events are reported.
pub(crate) struct Scope {
    pub(super) events: Events,
    pub(super) service: Arc<str>,
    /// Whether the bytes of its connections may be reported.
    payload: bool,
    /// The last instances that have trapped, and why.
    traps: Mutex<VecDeque<(u64, Arc<str>)>>,
}

/// The life of an instance, as events tell it.
#[derive(Debug)]
pub(crate) struct Life {
    number: u64,
    scope: Option<Arc<Scope>>,
    made: AtomicBool,
}

impl Scope {
    pub(crate) fn new(events: Events, service: &str, payload: bool) -> Self {
        Scope {
            events,
            service: service.into(),
            payload,
            traps: Mutex::default(),
        }
    }

    /// Returns whether somebody wants events.
    #[inline]
    pub(crate) fn is_watched(&self) -> bool {
        self.events.are_watched()
    }

    /// Returns whether somebody wants the bytes of this service's connections.
    #[inline]
    pub(crate) fn wants_payload(&self) -> bool {
        self.payload && self.events.are_watched_with_payload()
    }

    /// Returns a moment as events have it.
    pub(crate) fn at(&self, moment: Instant) -> Duration {
        self.events.at(moment)
    }

    /// The name of the service.
    pub(crate) fn service(&self) -> Arc<str> {
        self.service.clone()
    }

    pub(super) fn report(&self, connection: u64, kind: Kind) -> Event {
        self.events.report(Some(connection), kind)
    }

    fn instance(&self, number: u64, change: Change) {
        let instance = Instance {
            number,
            service: self.service(),
            change,
        };
        drop(self.events.report(None, Kind::Instance(Box::new(instance))));
    }

    /// Why an instance has trapped, if it has and somebody watched.
    pub(super) fn trap(&self, instance: u64) -> Option<Arc<str>> {
        let traps = self.traps();
        let trap = traps.iter().find(|(number, _)| *number == instance)?;
        Some(trap.1.clone())
    }

    fn traps(&self) -> MutexGuard<'_, VecDeque<(u64, Arc<str>)>> {
        // No code panics while it holds the lock.
        self.traps.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Life {
    /// Gives an instance that will be made a number.
    pub(crate) fn new(scope: Option<Arc<Scope>>) -> Self {
        static NEXT: AtomicU64 = AtomicU64::new(1);
        Life {
            number: NEXT.fetch_add(1, Ordering::Relaxed),
            scope,
            made: AtomicBool::new(false),
        }
    }

    /// The number of the instance.
    pub(crate) fn number(&self) -> u64 {
        self.number
    }

    /// Reports that the instance exists.
    pub(crate) fn made(&self) {
        self.made.store(true, Ordering::Relaxed);
        self.report(|| Change::Made);
    }

    /// Reports that the instance has trapped. The connections that end with it refer to that.
    pub(crate) fn trapped(&self, cause: &str) {
        self.made.store(false, Ordering::Relaxed);
        self.report(|| {
            let cause = Arc::<str>::from(cut(cause));
            if let Some(scope) = &self.scope {
                let mut traps = scope.traps();
                traps.truncate(TRAPS - 1);
                traps.push_front((self.number, cause.clone()));
            }
            Change::Trapped(cause)
        });
    }

    fn report(&self, change: impl FnOnce() -> Change) {
        if let Some(scope) = self.scope.as_ref().filter(|scope| scope.is_watched()) {
            scope.instance(self.number, change());
        }
    }
}

impl Drop for Life {
    fn drop(&mut self) {
        if *self.made.get_mut() {
            self.report(|| Change::Ended);
        }
    }
}

impl fmt::Debug for Scope {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Scope")
            .field("service", &self.service)
            .field("events", &self.events)
            .finish_non_exhaustive()
    }
}
