//! Metrics in the text format of Prometheus (OpenMetrics 1.0).
//!
//! Observers count events as they happen. The state of a server, such as its open
//! connections, is read when the metrics are encoded.

use std::collections::BTreeMap;
use std::fmt;
use std::io;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use halfopen::{Accepted, Observer, Report, ServerHandle, Snapshot};
use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeLabelSet, text};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::exemplar::Exemplar;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::metrics::info::Info;
use prometheus_client::registry::{Registry, Unit};

/// The buckets for durations of connections, in seconds: from a short request to a day.
const DURATIONS: [f64; 10] = [
    0.001, 0.01, 0.1, 1.0, 10.0, 60.0, 600.0, 3600.0, 21_600.0, 86_400.0,
];

/// The metrics of the process.
#[derive(Debug)]
pub(crate) struct Metrics {
    registry: Registry,
    accepted: Family<Service, Counter>,
    closed: Family<Closed, Counter>,
    durations: Family<Service, Histogram, fn() -> Histogram>,
    traps: Family<Service, Counter>,
    accept_errors: Family<AcceptError, Counter>,
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
    error: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Reload {
    outcome: &'static str,
}

impl Metrics {
    pub(crate) fn new() -> Arc<Self> {
        let mut metrics = Metrics {
            registry: Registry::with_prefix("halfopen"),
            accepted: Family::default(),
            closed: Family::default(),
            durations: Family::new_with_constructor(|| Histogram::new(DURATIONS)),
            traps: Family::default(),
            accept_errors: Family::default(),
            reloads: Family::default(),
            servers: Arc::default(),
        };
        let registry = &mut metrics.registry;
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
        registry.register("reloads", "Reloads, by outcome", metrics.reloads.clone());
        registry.register_collector(Box::new(metrics.servers.clone()));
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

    /// Includes the state of a server in the metrics of a service, until it is dropped.
    pub(crate) fn watch(&self, service: &str, server: &Arc<ServerHandle>) {
        self.servers
            .handles()
            .push((service.to_owned(), Arc::downgrade(server)));
    }

    /// Counts a reload.
    pub(crate) fn reloaded(&self, succeeded: bool) {
        let outcome = if succeeded { "ok" } else { "failed" };
        self.reloads.get_or_create(&Reload { outcome }).inc();
    }

    /// Encodes all metrics.
    pub(crate) fn text(&self) -> Result<String, fmt::Error> {
        let mut metrics = String::new();
        text::encode(&mut metrics, &self.registry)?;
        Ok(metrics)
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

    fn accept_failed(&self, error: &io::Error) {
        self.metrics
            .accept_errors
            .get_or_create(&AcceptError {
                service: self.service.service.clone(),
                error: error.kind().to_string(),
            })
            .inc();
    }
}

/// The servers, whose state is read when the metrics are encoded.
#[derive(Debug, Default)]
struct Servers {
    /// Each with the name of its service.
    handles: Mutex<Vec<(String, Weak<ServerHandle>)>>,
    bytes: Mutex<BTreeMap<String, Arc<Bytes>>>,
    accepted: AtomicU64,
    refused: AtomicU64,
}

/// The bytes of a service's connections.
#[derive(Debug, Default)]
struct Bytes {
    /// Bytes of connections that have ended.
    received: AtomicU64,
    sent: AtomicU64,
    /// The totals that were reported last.
    reported: Mutex<(u64, u64)>,
}

impl Servers {
    fn handles(&self) -> MutexGuard<'_, Vec<(String, Weak<ServerHandle>)>> {
        // No code panics while it holds the lock.
        self.handles.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn accepted(&self) -> u64 {
        self.accepted.load(Ordering::Relaxed)
    }

    fn refused(&self) -> u64 {
        self.refused.load(Ordering::Relaxed)
    }

    fn bytes(&self, service: &str) -> Arc<Bytes> {
        let mut bytes = self.bytes.lock().unwrap_or_else(PoisonError::into_inner);
        bytes.entry(service.to_owned()).or_default().clone()
    }

    /// The state of each service, all its versions together.
    fn snapshots(&self) -> BTreeMap<String, Snapshot> {
        let mut handles = self.handles();
        handles.retain(|(_, server)| server.strong_count() > 0);
        let mut snapshots: BTreeMap<String, Snapshot> = BTreeMap::new();
        for (service, server) in handles.iter() {
            if let Some(server) = server.upgrade() {
                *snapshots.entry(service.clone()).or_default() += server.snapshot();
            }
        }
        snapshots
    }
}

impl Bytes {
    /// The bytes received and sent so far, on open connections as well. A connection that
    /// closes right now may be missing in both parts of the sum; but a counter must never
    /// decrease, so the total is at least the one reported before.
    fn total(&self, now: &Snapshot) -> (u64, u64) {
        let received = self.received.load(Ordering::Relaxed) + now.received;
        let sent = self.sent.load(Ordering::Relaxed) + now.sent;
        let mut reported = self.reported.lock().unwrap_or_else(PoisonError::into_inner);
        *reported = (reported.0.max(received), reported.1.max(sent));
        *reported
    }
}

impl Collector for Servers {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let snapshots = self.snapshots();
        let mut connections = encoder.encode_descriptor(
            "connections",
            "Connections, by phase.",
            None,
            MetricType::Gauge,
        )?;
        for (service, now) in &snapshots {
            for (phase, count) in [
                ("arriving", now.arriving),
                ("open", now.open),
                ("half-open", now.half_open),
                ("closing", now.closing),
            ] {
                connections
                    .encode_family(&[("service", service.as_str()), ("phase", phase)])?
                    .encode_gauge(&i64::try_from(count).unwrap_or(i64::MAX))?;
            }
        }
        let mut instances = encoder.encode_descriptor(
            "instances",
            "Instances of components.",
            None,
            MetricType::Gauge,
        )?;
        for (service, now) in &snapshots {
            instances
                .encode_family(&[("service", service.as_str())])?
                .encode_gauge(&i64::try_from(now.instances).unwrap_or(i64::MAX))?;
        }
        let totals: Vec<_> = snapshots
            .iter()
            .map(|(service, now)| (service.as_str(), self.bytes(service).total(now)))
            .collect();
        for (name, help, pick) in [
            (
                "received",
                "Bytes received from peers.",
                (|total| total.0) as fn((u64, u64)) -> u64,
            ),
            ("sent", "Bytes sent to peers.", |total| total.1),
        ] {
            let mut counter =
                encoder.encode_descriptor(name, help, Some(&Unit::Bytes), MetricType::Counter)?;
            for &(service, total) in &totals {
                counter
                    .encode_family(&[("service", service)])?
                    .encode_counter(&pick(total), NO_EXEMPLAR)?;
            }
        }
        Ok(())
    }
}

const NO_EXEMPLAR: Option<&Exemplar<[(String, String); 0], u64>> = None;
