//! Metrics of the process itself, by the names that Prometheus gives them
//! (<https://prometheus.io/docs/instrumenting/writing_clientlibs/#process-metrics>), and of
//! its log.

use std::fmt;
use std::fs;
use std::time::{SystemTime, UNIX_EPOCH};

use prometheus_client::collector::Collector;
use prometheus_client::encoding::DescriptorEncoder;
use prometheus_client::metrics::MetricType;
use prometheus_client::registry::Unit;
use rustix::param::page_size;
use rustix::process::{Resource, getrlimit};
use rustix::time::{ClockId, clock_gettime};

use super::exposition::NO_EXEMPLAR;
use crate::observe::lines::Lines;

/// Reads the state of the process when the metrics are encoded. A figure that cannot be read
/// is left out.
#[derive(Debug)]
pub(super) struct Process {
    /// When the process started, in seconds since the Unix epoch. The exact time is in
    /// `/proc`, relative to the boot, whose time systemd's `ProcSubset=pid` hides.
    started: f64,
}

impl Process {
    /// Returns the metrics of this process, which has just started.
    pub(super) fn new() -> Self {
        let now = SystemTime::now().duration_since(UNIX_EPOCH);
        Process {
            started: now.map_or(0.0, |now| now.as_secs_f64()),
        }
    }
}

impl Collector for Process {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let time = clock_gettime(ClockId::ProcessCPUTime);
        #[allow(clippy::cast_precision_loss, reason = "a metric need not be exact")]
        let seconds = time.tv_sec as f64 + time.tv_nsec as f64 / 1e9;
        encoder
            .encode_descriptor(
                "process_cpu",
                "Processor time, of user and system",
                Some(&Unit::Seconds),
                MetricType::Counter,
            )?
            .encode_counter(&seconds, NO_EXEMPLAR)?;
        encoder
            .encode_descriptor(
                "process_start_time",
                "Start of the process since the Unix epoch",
                Some(&Unit::Seconds),
                MetricType::Gauge,
            )?
            .encode_gauge(&self.started)?;
        let [total, resident] = memory().map_or([None; 2], |pages| pages.map(Some));
        for (name, help, unit, value) in [
            ("process_open_fds", "Open file descriptors", None, open()),
            (
                "process_max_fds",
                "The limit on open file descriptors",
                None,
                getrlimit(Resource::Nofile).current,
            ),
            (
                "process_virtual_memory",
                "Virtual memory",
                Some(Unit::Bytes),
                total,
            ),
            (
                "process_resident_memory",
                "Resident memory",
                Some(Unit::Bytes),
                resident,
            ),
        ] {
            let Some(value) = value else {
                continue;
            };
            encoder
                .encode_descriptor(name, help, unit.as_ref(), MetricType::Gauge)?
                .encode_gauge(&i64::try_from(value).unwrap_or(i64::MAX))?;
        }
        Ok(())
    }
}

/// Counts the descriptors, without the one that reads the folder.
fn open() -> Option<u64> {
    let folder = fs::read_dir("/proc/self/fd").ok()?;
    (folder.count() as u64).checked_sub(1)
}

/// Returns the bytes of all memory and of resident memory (proc_pid_statm(5)).
fn memory() -> Option<[u64; 2]> {
    let pages = fs::read_to_string("/proc/self/statm").ok()?;
    let mut pages = pages.split_whitespace().map(str::parse::<u64>);
    let mut next = || Some(pages.next()?.ok()? * page_size() as u64);
    Some([next()?, next()?])
}

/// Lines of the log that were dropped.
#[derive(Debug)]
pub(super) struct LogLines(pub(super) Lines);

impl Collector for LogLines {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        encoder
            .encode_descriptor(
                "log_lines_dropped",
                "Log lines dropped, because standard error was not read, or the log could not be written",
                None,
                MetricType::Counter,
            )?
            .encode_counter(&self.0.dropped(), NO_EXEMPLAR)
    }
}
