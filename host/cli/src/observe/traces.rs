//! OpenTelemetry: exports a span for each connection, by OTLP over HTTP.
//!
//! The standard environment variables configure the exporter, such as
//! `OTEL_EXPORTER_OTLP_ENDPOINT`
//! (<https://opentelemetry.io/docs/specs/otel/protocol/exporter/>). Without an endpoint
//! nothing is exported.

use std::time::SystemTime;

use anyhow::Context;
use halfopen::tcp::Ending;
use halfopen::{Observer, Outcome, Report};
use opentelemetry::trace::{Span, SpanKind, Status, Tracer, TracerProvider};
use opentelemetry::{KeyValue, StringValue};
use opentelemetry_otlp::SpanExporter;
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::trace::{SdkTracer, SdkTracerProvider};

/// The variables that name an endpoint; either one is enough.
const ENDPOINTS: [&str; 2] = [
    "OTEL_EXPORTER_OTLP_ENDPOINT",
    "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT",
];

/// Exports spans in batches, from a thread of its own.
#[derive(Clone, Debug)]
pub(crate) struct Traces(SdkTracerProvider);

impl Traces {
    /// Sets up the exporter; `None` if no variable names an endpoint.
    pub(crate) fn from_env() -> anyhow::Result<Option<Self>> {
        if !ENDPOINTS
            .iter()
            .any(|name| std::env::var_os(name).is_some())
        {
            return Ok(None);
        }
        let exporter = SpanExporter::builder()
            .with_http()
            .build()
            .context("cannot set up the export of traces")?;
        let name = std::env::var("OTEL_SERVICE_NAME").unwrap_or("halfopen".to_owned());
        let provider = SdkTracerProvider::builder()
            .with_batch_exporter(exporter)
            .with_resource(Resource::builder().with_service_name(name).build())
            .build();
        Ok(Some(Traces(provider)))
    }

    /// An observer that exports the connections of a service.
    pub(crate) fn observer(&self, service: &str) -> impl Observer + use<> {
        Tracing {
            tracer: self.0.tracer("halfopen"),
            service: service.to_owned().into(),
        }
    }

    /// Exports the spans that are left, and shuts down. Blocks meanwhile.
    pub(crate) fn finish(&self) {
        if let Err(error) = self.0.shutdown() {
            tracing::warn!("traces are lost: {error}");
        }
    }
}

struct Tracing {
    tracer: SdkTracer,
    service: StringValue,
}

impl Observer for Tracing {
    fn closed(&self, report: &Report) {
        let ended = SystemTime::now();
        let mut attributes = vec![
            KeyValue::new("halfopen.service", self.service.clone()),
            KeyValue::new("network.transport", "tcp"),
            KeyValue::new("network.peer.address", report.peer.ip().to_string()),
            KeyValue::new("network.peer.port", i64::from(report.peer.port())),
            KeyValue::new("halfopen.received", signed(report.received)),
            KeyValue::new("halfopen.sent", signed(report.sent)),
            KeyValue::new("halfopen.ending", report.outcome.to_string()),
        ];
        if let Some(side) = report.first_end {
            attributes.push(KeyValue::new("halfopen.first_end", side.to_string()));
        }
        let mut span = self
            .tracer
            .span_builder("connection")
            .with_kind(SpanKind::Server)
            .with_start_time(ended - report.duration)
            .with_attributes(attributes)
            .start(&self.tracer);
        match &report.outcome {
            Outcome::Served(Ending::Fin | Ending::Stopped | Ending::HandedOver) => {}
            Outcome::Served(Ending::Failed(error)) => {
                span.set_status(Status::error(error.reason().to_owned()));
            }
            other => span.set_status(Status::error(other.to_string())),
        }
        span.end_with_timestamp(ended);
    }
}

fn signed(count: u64) -> i64 {
    i64::try_from(count).unwrap_or(i64::MAX)
}
