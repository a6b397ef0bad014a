//! Metrics in the text formats of Prometheus.
//!
//! Observers count events as they happen. The state of a server, such as its open
//! connections, is read when the metrics are encoded.

mod exposition;
mod process;
mod servers;

use std::fmt;
use std::io;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use halfopen::tcp::Denied;
use halfopen::topics::TopicCounts;
use halfopen::{Accepted, Observer, Outcome, Report, ServerHandle};
use prometheus_client::encoding::{EncodeLabelSet, text};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::metrics::info::Info;
use prometheus_client::registry::{Registry, Unit};
use rustix::io::Errno;

pub(crate) use exposition::Exposition;
use process::{LogLines, Process};
use servers::{Bytes, Servers};

use crate::observe::lines::Lines;

/// The buckets for durations of connections, in seconds: from a short request to a day.
const DURATIONS: [f64; 10] = [
    0.001, 0.01, 0.1, 1.0, 10.0, 60.0, 600.0, 3600.0, 21_600.0, 86_400.0,
];

/// The outcomes of a reload.
const RELOADS: [&str; 2] = ["ok", "failed"];

/// What makes accept(2) fail: the process or the system has no more descriptors, the kernel
/// no more memory, or the connection had ended in the backlog.
const ACCEPT_ERRORS: [&str; 4] = ["descriptors", "memory", "aborted", "other"];

fn accept_error(error: &io::Error) -> &'static str {
    let [descriptors, memory, aborted, other] = ACCEPT_ERRORS;
    match Errno::from_io_error(error) {
        Some(Errno::MFILE | Errno::NFILE) => descriptors,
        Some(Errno::NOBUFS | Errno::NOMEM) => memory,
        Some(Errno::CONNABORTED | Errno::CONNRESET | Errno::PROTO | Errno::TIMEDOUT) => aborted,
        // How the library reports a connection that has no address any more.
        None if error.kind() == io::ErrorKind::ConnectionAborted => aborted,
        _ => other,
    }
}

/// The metrics of the process.
#[derive(Debug)]
pub(crate) struct Metrics {
    registry: Registry,
    accepted: Family<Service, Counter>,
    closed: Family<Closed, Counter>,
    durations: Family<Service, Histogram, fn() -> Histogram>,
    traps: Family<Service, Counter>,
    accept_errors: Family<AcceptError, Counter>,
    denied: Family<DeniedUse, Counter>,
    reloads: Family<Reload, Counter>,
    servers: Arc<Servers>,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Service {
    service: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Closed {
    service: String,
    ending: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct AcceptError {
    service: String,
    error: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct DeniedUse {
    service: String,
    what: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Reload {
    outcome: &'static str,
}

impl Metrics {
    /// The metrics of this process, which has just started, and whose log is `lines`.
    pub(crate) fn new(lines: &Lines) -> Arc<Self> {
        let mut metrics = Metrics {
            registry: Registry::default(),
            accepted: Family::default(),
            closed: Family::default(),
            durations: Family::new_with_constructor(|| Histogram::new(DURATIONS)),
            traps: Family::default(),
            accept_errors: Family::default(),
            denied: Family::default(),
            reloads: Family::default(),
            servers: Arc::default(),
        };
        metrics
            .registry
            .register_collector(Box::new(Process::new()));
        let registry = metrics.registry.sub_registry_with_prefix("halfopen");
        registry.register_collector(Box::new(LogLines(lines.clone())));
        registry.register(
            "build",
            "The version of halfopen",
            Info::new([("version", env!("CARGO_PKG_VERSION"))]),
        );
        registry.register(
            "accepted",
            "Connections handed to a service",
            metrics.accepted.clone(),
        );
        registry.register(
            "closed",
            "Connections ended or refused, by ending",
            metrics.closed.clone(),
        );
        registry.register_with_unit(
            "connection_duration",
            "Duration of connections",
            Unit::Seconds,
            metrics.durations.clone(),
        );
        registry.register("traps", "Instances that trapped", metrics.traps.clone());
        registry.register(
            "accept_errors",
            "Failures to accept a connection",
            metrics.accept_errors.clone(),
        );
        registry.register(
            "denied",
            "What components tried to use and were not granted",
            metrics.denied.clone(),
        );
        registry.register("reloads", "Reloads, by outcome", metrics.reloads.clone());
        registry.register_collector(Box::new(metrics.servers.clone()));
        for outcome in RELOADS {
            drop(metrics.reloads.get_or_create(&Reload { outcome }));
        }
        Arc::new(metrics)
    }

    /// An observer that counts the events of a service.
    pub(crate) fn observer(self: &Arc<Self>, service: &str) -> impl Observer + use<> {
        Counting {
            metrics: self.clone(),
            service: Service {
                service: service.to_owned(),
            },
            bytes: self.servers.bytes(service),
        }
    }

    /// Counts what a service does on topics.
    pub(crate) fn topics(&self, service: &str) -> Arc<TopicCounts> {
        self.servers.topics(service)
    }

    /// Includes the state of a server in the metrics of a service, until it is dropped.
    /// The counters of the service begin at zero: a rate over a counter that appears with
    /// its first event misses that event.
    pub(crate) fn watch(&self, service: &str, server: &Arc<ServerHandle>) {
        self.servers
            .handles()
            .push((service.to_owned(), Arc::downgrade(server)));
        let service = Service {
            service: service.to_owned(),
        };
        drop(self.accepted.get_or_create(&service));
        drop(self.traps.get_or_create(&service));
        drop(self.durations.get_or_create(&service));
        for outcome in Outcome::all() {
            drop(self.closed.get_or_create(&Closed {
                service: service.service.clone(),
                ending: outcome.to_string(),
            }));
        }
        for error in ACCEPT_ERRORS {
            drop(self.accept_errors.get_or_create(&AcceptError {
                service: service.service.clone(),
                error,
            }));
        }
        for &what in Denied::KINDS {
            drop(self.denied.get_or_create(&DeniedUse {
                service: service.service.clone(),
                what,
            }));
        }
    }

    /// Counts a reload.
    pub(crate) fn reloaded(&self, succeeded: bool) {
        let [ok, failed] = RELOADS;
        let outcome = if succeeded { ok } else { failed };
        self.reloads.get_or_create(&Reload { outcome }).inc();
    }

    /// Encodes all metrics.
    pub(crate) fn text(&self, exposition: Exposition) -> Result<String, fmt::Error> {
        let mut metrics = String::new();
        text::encode(&mut metrics, &self.registry)?;
        Ok(exposition.convert(metrics))
    }

    /// The numbers of connections that are open now, were accepted, and were refused.
    pub(crate) fn totals(&self) -> (usize, u64, u64) {
        let open = self.servers.snapshots().into_values();
        let open = open.map(|now| now.open + now.half_open + now.closing).sum();
        (open, self.servers.accepted(), self.servers.refused())
    }
}

/// Counts the events of one service.
struct Counting {
    metrics: Arc<Metrics>,
    service: Service,
    bytes: Arc<Bytes>,
}

impl Observer for Counting {
    fn accepted(&self, _: &Accepted) {
        self.metrics.accepted.get_or_create(&self.service).inc();
        self.metrics
            .servers
            .accepted
            .fetch_add(1, Ordering::Relaxed);
    }

    fn closed(&self, report: &Report) {
        self.metrics
            .closed
            .get_or_create(&Closed {
                service: self.service.service.clone(),
                ending: report.outcome.to_string(),
            })
            .inc();
        if report.outcome.is_refusal() {
            self.metrics.servers.refused.fetch_add(1, Ordering::Relaxed);
            return;
        }
        self.metrics
            .durations
            .get_or_create(&self.service)
            .observe(report.duration.as_secs_f64());
        self.bytes
            .received
            .fetch_add(report.received, Ordering::Relaxed);
        self.bytes.sent.fetch_add(report.sent, Ordering::Relaxed);
    }

    fn trapped(&self) {
        self.metrics.traps.get_or_create(&self.service).inc();
    }

    fn denied(&self, denied: &Denied) {
        self.metrics
            .denied
            .get_or_create(&DeniedUse {
                service: self.service.service.clone(),
                what: denied.what(),
            })
            .inc();
    }

    fn accept_failed(&self, error: &io::Error) {
        self.metrics
            .accept_errors
            .get_or_create(&AcceptError {
                service: self.service.service.clone(),
                error: accept_error(error),
            })
            .inc();
    }
}
