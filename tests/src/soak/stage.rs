//! What the threads of a soak share: the phase, and what they report.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Condvar, Mutex, MutexGuard};
use std::time::{Duration, Instant};

/// What goes on now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Phase {
    /// Everything: scripts, hostile guests, hostile peers, and well-behaved clients.
    Load,
    /// Only the well-behaved clients. Hostile peers keep the connections that they hold, so
    /// that the server's limits have to end them.
    Drain,
    /// The well-behaved clients keep their connections and wait, so that memory can be
    /// compared.
    Still,
    /// Every thread ends.
    Over,
}

/// Violations beyond this number are counted, and not kept.
const KEPT: usize = 50;

/// The phase, and what the threads report.
#[derive(Debug)]
pub(crate) struct Stage {
    phase: Mutex<Phase>,
    changed: Condvar,
    reported: Mutex<Reported>,
    start: Instant,
}

/// What the threads have reported.
#[derive(Clone, Debug, Default)]
pub(crate) struct Reported {
    /// How often each thing was done, by its name.
    pub(crate) acts: BTreeMap<&'static str, u64>,
    /// What must not have happened.
    pub(crate) violations: Vec<String>,
    /// The violations that were not kept.
    pub(crate) more: u64,
}

impl Stage {
    pub(crate) fn new() -> Self {
        Stage {
            phase: Mutex::new(Phase::Drain),
            changed: Condvar::new(),
            reported: Mutex::default(),
            start: Instant::now(),
        }
    }

    pub(crate) fn elapsed(&self) -> Duration {
        self.start.elapsed()
    }

    pub(crate) fn phase(&self) -> Phase {
        *self.lock()
    }

    pub(crate) fn set(&self, phase: Phase) {
        *self.lock() = phase;
        self.changed.notify_all();
    }

    /// Waits until the phase is one of these, and returns whether the soak goes on.
    pub(crate) fn wait_for(&self, phases: &[Phase]) -> bool {
        let mut phase = self.lock();
        while *phase != Phase::Over && !phases.contains(&phase) {
            phase = self.changed.wait(phase).expect("not poisoned");
        }
        *phase != Phase::Over
    }

    /// Waits for this long, or until the phase changes.
    pub(crate) fn pause(&self, time: Duration) {
        let phase = self.lock();
        let before = *phase;
        let _waited = self
            .changed
            .wait_timeout_while(phase, time, |phase| *phase == before)
            .expect("not poisoned");
    }

    /// Counts something that was done.
    pub(crate) fn act(&self, name: &'static str) {
        *self.reports().acts.entry(name).or_default() += 1;
    }

    /// Reports what must not happen.
    pub(crate) fn violation(&self, what: impl fmt::Display) {
        let seconds = self.elapsed().as_secs();
        let mut reported = self.reports();
        if reported.violations.len() < KEPT {
            reported
                .violations
                .push(format!("after {seconds} s: {what}"));
        } else {
            reported.more += 1;
        }
    }

    pub(crate) fn reported(&self) -> Reported {
        self.reports().clone()
    }

    fn lock(&self) -> MutexGuard<'_, Phase> {
        self.phase.lock().expect("not poisoned")
    }

    fn reports(&self) -> MutexGuard<'_, Reported> {
        self.reported.lock().expect("not poisoned")
    }
}
