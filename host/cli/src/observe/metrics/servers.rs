//! The state of the servers, read when the metrics are encoded.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use halfopen::topics::TopicCounts;
use halfopen::{ServerHandle, Snapshot};
use prometheus_client::collector::Collector;
use prometheus_client::encoding::DescriptorEncoder;
use prometheus_client::metrics::MetricType;
use prometheus_client::registry::Unit;

use super::exposition::NO_EXEMPLAR;

/// The servers, whose state is read when the metrics are encoded.
#[derive(Debug, Default)]
pub(super) struct Servers {
    /// Each with the name of its service.
    handles: Mutex<Vec<(String, Weak<ServerHandle>)>>,
    bytes: Mutex<BTreeMap<String, Arc<Bytes>>>,
    /// What the services did on topics.
    topics: Mutex<BTreeMap<String, Arc<TopicCounts>>>,
    pub(super) accepted: AtomicU64,
    pub(super) refused: AtomicU64,
}

/// The bytes of a service's connections.
#[derive(Debug, Default)]
pub(super) struct Bytes {
    /// Bytes of connections that have ended.
    pub(super) received: AtomicU64,
    pub(super) sent: AtomicU64,
    /// The totals that were reported last.
    reported: Mutex<(u64, u64)>,
}

impl Servers {
    pub(super) fn handles(&self) -> MutexGuard<'_, Vec<(String, Weak<ServerHandle>)>> {
        // No code panics while it holds the lock.
        self.handles.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn accepted(&self) -> u64 {
        self.accepted.load(Ordering::Relaxed)
    }

    pub(super) fn refused(&self) -> u64 {
        self.refused.load(Ordering::Relaxed)
    }

    pub(super) fn bytes(&self, service: &str) -> Arc<Bytes> {
        let mut bytes = self.bytes.lock().unwrap_or_else(PoisonError::into_inner);
        bytes.entry(service.to_owned()).or_default().clone()
    }

    pub(super) fn topics(&self, service: &str) -> Arc<TopicCounts> {
        let mut topics = self.topics.lock().unwrap_or_else(PoisonError::into_inner);
        topics.entry(service.to_owned()).or_default().clone()
    }

    /// The state of each service, all its versions together.
    pub(super) fn snapshots(&self) -> BTreeMap<String, Snapshot> {
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
        let mut messages = encoder.encode_descriptor(
            "topic_messages",
            "Messages on topics, by what became of them.",
            None,
            MetricType::Counter,
        )?;
        for service in snapshots.keys() {
            let counts = self.topics(service);
            for (outcome, count) in [
                ("published", counts.published()),
                ("delivered", counts.delivered()),
                ("missed", counts.missed()),
            ] {
                messages
                    .encode_family(&[("service", service.as_str()), ("outcome", outcome)])?
                    .encode_counter(&count, NO_EXEMPLAR)?;
            }
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
