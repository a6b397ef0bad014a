//! The figures of a soak, as JSON and as text.

use std::fmt::Write;
use std::time::Duration;

use anyhow::Result;
use hdrhistogram::Histogram;
use serde_json::{Value, json};

use super::clients::Measured;
use super::process::Usage;
use super::stage::Reported;

/// What a soak has found.
#[derive(Debug)]
pub struct Figures {
    pub(crate) seed: u64,
    pub(crate) took: Duration,
    pub(crate) clients: usize,
    /// At rest: before the first connection, and after each round.
    pub(crate) rests: Vec<Sample>,
    /// Every minute.
    pub(crate) minutes: Vec<Sample>,
    /// The most descriptors that were seen, and the most memory, in KiB.
    pub(crate) most_descriptors: u64,
    pub(crate) most_memory: u64,
    pub(crate) measured: Vec<Measured>,
    pub(crate) reported: Reported,
    pub(crate) endings: Vec<String>,
    pub(crate) logged: u64,
    pub(crate) last_log: String,
}

/// What the server used at some time.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Sample {
    pub(crate) at: Duration,
    pub(crate) usage: Usage,
    pub(crate) processor_seconds: f64,
    /// The open connections of well-behaved clients.
    pub(crate) open: usize,
}

impl Figures {
    /// What must not have happened.
    #[must_use]
    pub fn violations(&self) -> &[String] {
        &self.reported.violations
    }

    /// Returns the samples that stand for the start, the middle and the end.
    fn three(&self) -> Vec<(&'static str, &Sample)> {
        let rests = &self.rests;
        let named = [
            ("start", rests.first()),
            ("middle", rests.get(rests.len() / 2)),
            ("end", rests.last()),
        ];
        let known = named.into_iter();
        known
            .filter_map(|(name, sample)| Some((name, sample?)))
            .collect()
    }

    /// Returns the figures as JSON.
    #[must_use]
    pub fn json(&self) -> Value {
        let samples = |samples: &[Sample]| samples.iter().map(sample).collect::<Vec<_>>();
        let clients: Vec<_> = self.measured.iter().map(service).collect();
        let three = self.three().into_iter();
        json!({
            "seed": self.seed,
            "seconds": self.took.as_secs(),
            "clients": self.clients,
            "rest": three.map(|(name, at)| (name.to_owned(), sample(at))).collect::<serde_json::Map<_, _>>(),
            "rests": samples(&self.rests),
            "minutes": samples(&self.minutes),
            "most": {"descriptors": self.most_descriptors, "resident_kib": self.most_memory},
            "services": clients,
            "acts": self.reported.acts,
            "endings": self.endings,
            "log_lines": self.logged,
            "last_log": self.last_log.lines().collect::<Vec<_>>(),
            "violations": self.reported.violations,
            "more_violations": self.reported.more,
        })
    }

    /// Returns the figures as tables in Markdown.
    ///
    /// # Errors
    ///
    /// None: writing into a string does not fail.
    pub fn markdown(&self) -> Result<String> {
        let mut text = String::new();
        let connections = self.reported.acts.get("well-behaved-connections");
        writeln!(
            text,
            "{} s, {} well-behaved clients ({} connections ended), seed {}\n",
            self.took.as_secs(),
            self.clients,
            connections.unwrap_or(&0),
            self.seed
        )?;
        text.push_str("| at rest | resident MiB | PSS MiB | descriptors | of which clients |\n|---|--:|--:|--:|--:|\n");
        for (name, sample) in self.three() {
            let usage = sample.usage;
            writeln!(
                text,
                "| {name} | {:.1} | {:.1} | {} | {} |",
                usage.resident as f64 / 1024.0,
                usage.proportional as f64 / 1024.0,
                usage.descriptors,
                sample.open
            )?;
        }
        writeln!(
            text,
            "| most, under load | {:.1} | | {} | |\n",
            self.most_memory as f64 / 1024.0,
            self.most_descriptors
        )?;
        text.push_str("| service | answers | p50 ms | p99 ms | p99.9 ms | slowest ms | first answer p99 ms |\n|---|--:|--:|--:|--:|--:|--:|\n");
        for measured in &self.measured {
            let times = measured.times.lock().expect("not poisoned");
            let ms = |histogram: &Histogram<u64>, q| histogram.value_at_quantile(q) as f64 / 1e3;
            writeln!(
                text,
                "| {} | {} | {:.1} | {:.1} | {:.1} | {:.1} (at {} s) | {:.1} |",
                measured.name,
                times.first.len() + times.later.len(),
                ms(&times.later, 0.5),
                ms(&times.later, 0.99),
                ms(&times.later, 0.999),
                times.slowest.0.as_secs_f64() * 1e3,
                times.slowest.1.as_secs(),
                ms(&times.first, 0.99),
            )?;
        }
        let acts = self.reported.acts.iter();
        let acts: Vec<_> = acts
            .map(|(name, count)| format!("{name} {count}"))
            .collect();
        writeln!(text, "\nDone: {}.", acts.join(", "))?;
        let violations = self.reported.violations.len() as u64 + self.reported.more;
        writeln!(text, "Violations: {violations}")?;
        for violation in &self.reported.violations {
            writeln!(text, "- {violation}")?;
        }
        Ok(text)
    }
}

fn sample(sample: &Sample) -> Value {
    json!({
        "second": sample.at.as_secs(),
        "resident_kib": sample.usage.resident,
        "proportional_kib": sample.usage.proportional,
        "descriptors": sample.usage.descriptors,
        "threads": sample.usage.threads,
        "processor_seconds": sample.processor_seconds,
        "clients_connected": sample.open,
    })
}

fn service(measured: &Measured) -> Value {
    let times = measured.times.lock().expect("not poisoned");
    json!({
        "name": measured.name,
        "first_answer_us": percentiles(&times.first),
        "answer_us": percentiles(&times.later),
        "slowest_us": times.slowest.0.as_micros() as u64,
        "slowest_at_second": times.slowest.1.as_secs(),
        "bytes": times.bytes,
    })
}

fn percentiles(histogram: &Histogram<u64>) -> Value {
    let at = |quantile| histogram.value_at_quantile(quantile);
    json!({
        "count": histogram.len(),
        "p50": at(0.5),
        "p90": at(0.9),
        "p99": at(0.99),
        "p99.9": at(0.999),
        "max": histogram.max(),
    })
}
