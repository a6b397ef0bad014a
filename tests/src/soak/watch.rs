//! The thread that leads a soak through its rounds, and looks at the server.

use std::sync::atomic::Ordering;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::Result;
use indicatif::{ProgressBar, ProgressStyle};

use super::Soak;
use super::clients::Counts;
use super::figures::Sample;
use super::process::Process;
use super::stage::{Phase, Stage};
use crate::memory;
use crate::patience::PATIENCE;

/// The time of one round.
const ROUND: Duration = Duration::from_secs(450);

/// The part of a round in which the hostile parts rest: the limits of the hostile services
/// end every connection in about this time, those in the backlog included.
const REST: Duration = Duration::from_secs(25);

/// Outbound connections that the guests may have in addition to their own, at any time.
const OUTBOUND: usize = 4 * 300;

/// Growth from one rest to a later one that does not count as growth, in KiB: what
/// allocators may keep or give back at any time.
const NOISE: u64 = 8 * 1024;

/// The thread that looks at the server.
pub(super) struct Watch<'s> {
    pub(super) soak: &'s Soak,
    pub(super) stage: &'s Stage,
    pub(super) counts: &'s Counts,
    pub(super) process: Process,
    pub(super) rests: Vec<Sample>,
    pub(super) minutes: Vec<Sample>,
    /// The most descriptors, and the most memory.
    pub(super) most: (u64, u64),
    pub(super) bar: ProgressBar,
    pub(super) hostile_connections: usize,
    /// The service on each port.
    pub(super) names: Vec<(u16, &'static str)>,
}

impl Watch<'_> {
    /// Goes through the phases, round after round.
    pub(super) fn rounds(&mut self) -> Result<()> {
        let start = Instant::now();
        let rounds = (self.soak.time.as_secs() / ROUND.as_secs()).clamp(2, 64) as u32;
        let round = self.soak.time / rounds;
        let rest = REST.min(round / 2);
        for number in 1..=rounds {
            self.stage.set(Phase::Load);
            if !self.look_until(start + round * number - rest)? {
                return Ok(());
            }
            self.stage.set(Phase::Drain);
            self.rest()?;
            if !self.look_until(start + round * number)? {
                return Ok(());
            }
        }
        self.check_growth();
        Ok(())
    }

    /// Looks at the server until then. Returns whether it is still there.
    fn look_until(&mut self, end: Instant) -> Result<bool> {
        loop {
            if let Some(status) = self.process.ended()? {
                let log = self.process.last_log();
                self.stage
                    .violation(format!("the server ended, {status}:\n{log}"));
                return Ok(false);
            }
            self.look()?;
            let left = end.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Ok(true);
            }
            thread::sleep(left.min(Duration::from_millis(500)));
        }
    }

    /// Looks at the server once, and measures it once a minute.
    fn look(&mut self) -> Result<()> {
        let descriptors = self.process.descriptors()?;
        self.most.0 = self.most.0.max(descriptors);
        let last = self.minutes.last().map_or(Duration::ZERO, |last| last.at);
        if self.minutes.is_empty() || self.stage.elapsed() >= last + Duration::from_secs(60) {
            let sample = self.sample()?;
            self.minutes.push(sample);
        }
        let reported = self.stage.reported();
        let violations = reported.violations.len() as u64 + reported.more;
        self.bar.set_position(self.stage.elapsed().as_secs());
        self.bar.set_message(format!(
            "{descriptors} descriptors, {violations} violations"
        ));
        Ok(())
    }

    fn sample(&mut self) -> Result<Sample> {
        let sample = Sample {
            at: self.stage.elapsed(),
            usage: self.process.usage()?,
            processor_seconds: self.process.processor_seconds()?,
            open: self.counts.open.load(Ordering::SeqCst),
        };
        self.most.1 = self.most.1.max(sample.usage.peak);
        Ok(sample)
    }

    /// Waits until the server has only the descriptors that it had at the start, and those
    /// of the well-behaved clients; then measures it.
    pub(super) fn rest(&mut self) -> Result<()> {
        let before = self.rests.first().map(|rest| rest.usage.descriptors);
        let clients = u64::from(self.soak.clients);
        let drained = self.falls_to(|_| before.map_or(u64::MAX, |before| before + clients))?;
        self.stage.set(Phase::Still);
        let busy = Instant::now() + PATIENCE;
        while self.counts.busy.load(Ordering::SeqCst) > 0 && Instant::now() < busy {
            thread::sleep(Duration::from_millis(50));
        }
        if drained {
            self.falls_to(|open| before.map_or(u64::MAX, |before| before + open as u64))?;
        }
        let resident = self.process.at_rest()?;
        let mut sample = self.sample()?;
        sample.usage.resident = sample.usage.resident.min(resident);
        self.rests.push(sample);
        self.stage.set(Phase::Drain);
        Ok(())
    }

    /// Waits until the descriptors are as few. Reports a violation if that takes longer than
    /// the limits of the hostile services and the backlog explain.
    fn falls_to(&mut self, bound: impl Fn(usize) -> u64) -> Result<bool> {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let open = self.counts.open.load(Ordering::SeqCst);
            let (now, bound) = (self.process.descriptors()?, bound(open));
            if now <= bound {
                return Ok(true);
            }
            if Instant::now() > deadline {
                self.stage.violation(format!(
                    "{now} descriptors are open {} s after the hostile parts rested, and {bound} is the bound; {open} are of well-behaved clients: {}",
                    PATIENCE.as_secs(),
                    self.sockets()?
                ));
                return Ok(false);
            }
            self.look()?;
            thread::sleep(Duration::from_millis(200));
        }
    }

    /// Describes the sockets of the server, without its listeners.
    fn sockets(&self) -> Result<String> {
        let sockets = self.process.sockets()?;
        let open = sockets
            .iter()
            .filter(|(socket, _)| !socket.ends_with("LISTEN"));
        let named: Vec<_> = open
            .map(|(socket, count)| {
                let service = self
                    .names
                    .iter()
                    .find(|(port, _)| socket.starts_with(&format!("port {port},")));
                let service = service.map_or("", |(_, name)| *name);
                format!("{count} × {socket} {service}")
            })
            .collect();
        Ok(named.join("; "))
    }

    /// Compares the end with the start and the first half.
    fn check_growth(&self) {
        let Some(first) = self.rests.first() else {
            return;
        };
        let connections = self.hostile_connections + usize::from(self.soak.clients) + OUTBOUND;
        let bound = first.usage.resident + memory::bound(connections) as u64;
        let (descriptors, most) = self.most;
        if most > bound {
            self.stage.violation(format!(
                "memory rose to {most} KiB, and the bound is {bound} KiB"
            ));
        }
        let bound = first.usage.descriptors + connections as u64;
        if descriptors > bound {
            self.stage.violation(format!(
                "{descriptors} descriptors were open, and the bound is {bound}"
            ));
        }
        // A short soak has not settled.
        if self.rests.len() < 8 {
            return;
        }
        let (earlier, later) = self.rests.split_at(self.rests.len() / 2);
        let highest = earlier.iter().map(|rest| rest.usage.resident).max();
        let last = later.iter().rev().take(2).map(|rest| rest.usage.resident);
        if let (Some(highest), Some(last)) = (highest, last.min())
            && last > highest + NOISE
        {
            self.stage.violation(format!(
                "memory at rest grew from at most {highest} KiB in the first half to {last} KiB"
            ));
        }
    }
}

/// A line at a terminal, and nothing elsewhere.
pub(super) fn progress(time: Duration) -> ProgressBar {
    let style = ProgressStyle::with_template("soak {elapsed} of {len} s: {msg}");
    let bar = ProgressBar::new(time.as_secs());
    style.map_or(bar.clone(), |style| bar.with_style(style))
}
