//! Traces for OpenTelemetry: what a request did, and for how long.
//!
//! A request is a span, continued from the client's where the request says so (W3C `traceparent`),
//! with a span inside for each of `parse`, `decide` and `check`. They go to a collector as OTLP
//! over HTTP, in JSON, in batches, from a thread of its own; what a slow collector does not take in
//! time is dropped. Where no collector is named no span is made at all: the spans have a target of
//! their own, which nothing else listens to.
//!
//! Whether a request is traced is what its client says, where the client says so, and else a matter
//! of chance with a given share. Headers for the collector come from the environment, as
//! OpenTelemetry defines it (`OTEL_EXPORTER_OTLP_HEADERS`).

use std::time::Duration;

use axum::http::HeaderMap;
use opentelemetry::propagation::{Extractor, TextMapPropagator};
use opentelemetry::trace::TracerProvider;
use opentelemetry_otlp::{ExporterBuildError, SpanExporter, WithExportConfig};
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::propagation::TraceContextPropagator;
use opentelemetry_sdk::trace::{
    BatchConfigBuilder, BatchSpanProcessor, Sampler, SdkTracerProvider, SpanLimits,
};
use thiserror::Error;
use tracing::field::Empty;
use tracing::{Level, Span};
use tracing_opentelemetry::OpenTelemetrySpanExt;
use tracing_subscriber::Layer;
use tracing_subscriber::filter::Targets;
use tracing_subscriber::registry::LookupSpan;

/// The target of the spans.
const TARGET: &str = "infer::trace";
/// The most spans that wait for the collector; more are dropped.
const QUEUE_SPANS: usize = 4096;
/// The most spans in one message.
const BATCH_SPANS: usize = 512;
/// How often spans are sent.
const SEND_INTERVAL: Duration = Duration::from_secs(2);
/// How long the collector may take.
const SEND_LIMIT: Duration = Duration::from_secs(5);
/// How long the last spans may take once the service has ended.
const FLUSH_LIMIT: Duration = Duration::from_secs(5);
/// The most attributes of a span.
const MAX_ATTRIBUTES: u32 = 32;

/// Why there are no traces.
#[derive(Debug, Error)]
#[error("cannot send traces to {endpoint}: {source}")]
pub struct TracesError {
    endpoint: String,
    source: ExporterBuildError,
}

/// Sends spans to a collector.
#[derive(Debug)]
pub struct Traces {
    provider: SdkTracerProvider,
}

impl Traces {
    /// Traces of a `share` of the requests, from 0 to 1, that go to the collector at `endpoint`, as
    /// in `http://127.0.0.1:4318`.
    ///
    /// # Errors
    ///
    /// If that is no URL.
    pub fn to(endpoint: &str, share: f64) -> Result<Self, TracesError> {
        let url = format!("{}/v1/traces", endpoint.trim_end_matches('/'));
        let exporter = SpanExporter::builder()
            .with_http()
            .with_endpoint(url)
            .with_timeout(SEND_LIMIT)
            .build()
            .map_err(|source| TracesError {
                endpoint: endpoint.into(),
                source,
            })?;
        let batches = BatchConfigBuilder::default()
            .with_max_queue_size(QUEUE_SPANS)
            .with_max_export_batch_size(BATCH_SPANS)
            .with_scheduled_delay(SEND_INTERVAL)
            .build();
        let processor = BatchSpanProcessor::builder(exporter)
            .with_batch_config(batches)
            .build();
        let limits = SpanLimits {
            max_attributes_per_span: MAX_ATTRIBUTES,
            max_events_per_span: MAX_ATTRIBUTES,
            ..SpanLimits::default()
        };
        let provider = SdkTracerProvider::builder()
            .with_span_processor(processor)
            .with_span_limits(limits)
            .with_sampler(Sampler::parent_based(Sampler::TraceIdRatioBased(share)))
            .with_resource(resource())
            .build();
        Ok(Self { provider })
    }

    /// What hands the program's spans over to be sent.
    pub fn layer<S>(&self) -> impl Layer<S> + use<S>
    where
        S: tracing::Subscriber + for<'a> LookupSpan<'a>,
    {
        tracing_opentelemetry::layer()
            .with_tracer(self.provider.tracer("infer"))
            .with_location(false)
            .with_threads(false)
            .with_target(false)
            .with_level(false)
            .with_filter(Targets::new().with_target(TARGET, Level::DEBUG))
    }

    /// Sends what is left, and ends.
    pub fn end(self) {
        if let Err(error) = self.provider.shutdown_with_timeout(FLUSH_LIMIT) {
            tracing::warn!(%error, "the last traces were not sent");
        }
    }
}

fn resource() -> Resource {
    Resource::builder()
        .with_service_name("infer")
        .with_attribute(opentelemetry::KeyValue::new(
            "service.version",
            env!("CARGO_PKG_VERSION"),
        ))
        .build()
}

/// The span of a request.
pub(crate) fn request(method: &'static str, route: &str, id: &str, headers: &HeaderMap) -> Span {
    let span = tracing::debug_span!(
        target: TARGET,
        "request",
        otel.name = Empty,
        otel.kind = "server",
        http.request.method = method,
        http.route = route,
        http.response.status_code = Empty,
        request.id = id,
    );
    if !span.is_disabled() {
        span.record("otel.name", format!("{method} {route}"));
        let parent = TraceContextPropagator::new().extract(&Carrier(headers));
        // Fails where spans are logged only, and then there is nobody to tell.
        let _ = span.set_parent(parent);
    }
    span
}

/// Says how the request of `span` was answered.
pub(crate) fn answered(span: &Span, status: u16) {
    if !span.is_disabled() {
        span.record("http.response.status_code", i64::from(status));
        if status >= 500 {
            span.set_status(opentelemetry::trace::Status::error(""));
        }
    }
}

/// The span of the reading of a message.
pub(crate) fn parse(bytes: usize) -> Span {
    let bytes = i64::try_from(bytes).unwrap_or(i64::MAX);
    tracing::debug_span!(target: TARGET, "parse", bytes)
}

/// The span of a policy that decides.
pub(crate) fn decide(policy: &str) -> Span {
    tracing::debug_span!(target: TARGET, "decide", policy)
}

/// The span of the checker.
pub(crate) fn check(policy: &str) -> Span {
    tracing::debug_span!(target: TARGET, "check", policy)
}

/// The headers of a request, as OpenTelemetry reads them.
struct Carrier<'a>(&'a HeaderMap);

impl Extractor for Carrier<'_> {
    fn get(&self, key: &str) -> Option<&str> {
        self.0.get(key)?.to_str().ok()
    }

    fn keys(&self) -> Vec<&str> {
        self.0.keys().map(|name| name.as_str()).collect()
    }
}
