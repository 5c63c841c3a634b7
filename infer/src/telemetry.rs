//! What the service measures about itself, for Prometheus.

mod requests;

use std::sync::Arc;

use metrics::{
    Counter, Gauge, Histogram, Unit, counter, describe_counter, describe_gauge, describe_histogram,
    gauge, histogram,
};
use metrics_exporter_prometheus::{
    Matcher, PrometheusBuilder, PrometheusHandle, PrometheusRecorder,
};
use metrics_process::Collector;
use twin::wire::SCHEMA;

use self::requests::{REQUEST_BUCKETS_S, Requests};

use crate::decider::{Answer, Rejection};
use crate::fleet::metrics::FleetMetrics;
use crate::history::History;
use crate::log::{LogMetrics, SYNC_BUCKETS_S, SYNC_SECONDS};
use crate::trust::TrustMetrics;

/// Upper ends of the buckets of decision times, in s.
const DECISION_BUCKETS_S: [f64; 14] = [
    5e-6, 1e-5, 2e-5, 5e-5, 1e-4, 2e-4, 5e-4, 1e-3, 2e-3, 5e-3, 1e-2, 1e-1, 1.0, 10.0,
];

/// The handles of all metrics of one service.
pub(crate) struct Telemetry {
    recorder: Arc<PrometheusRecorder>,
    process: Collector,
    /// What is measured of every request.
    pub(crate) requests: Requests,
    prometheus: PrometheusHandle,
    by_policy: Counter,
    by_fallback: Counter,
    by_nobody: Counter,
    infeasible: Counter,
    failed: Counter,
    decision_duration: Histogram,
    in_flight: Gauge,
    rejected: Vec<(u16, Counter)>,
    pub(crate) fleet: FleetMetrics,
    pub(crate) log: LogMetrics,
    pub(crate) trust: TrustMetrics,
    pub(crate) history: History,
}

/// Counts a request as in flight while it lives.
pub(crate) struct InFlight<'a>(&'a Gauge);

impl Drop for InFlight<'_> {
    fn drop(&mut self) {
        self.0.decrement(1.0);
    }
}

impl Telemetry {
    /// Metrics of a service; `statuses` are those that rejected requests get.
    pub(crate) fn new(
        statuses: &[u16],
        info: [(&'static str, String); 3],
    ) -> Result<Self, metrics_exporter_prometheus::BuildError> {
        let duration = Matcher::Full("infer_decision_duration_seconds".into());
        let requests = Matcher::Full(requests::DURATION.into());
        let recorder = PrometheusBuilder::new()
            .set_buckets_for_metric(duration, &DECISION_BUCKETS_S)?
            .set_buckets_for_metric(Matcher::Full(SYNC_SECONDS.into()), &SYNC_BUCKETS_S)?
            .set_buckets_for_metric(requests, &REQUEST_BUCKETS_S)?
            .build_recorder();
        let recorder = Arc::new(recorder);
        let prometheus = recorder.handle();
        Ok(metrics::with_local_recorder(&*recorder, || {
            let process = Collector::default();
            process.describe();
            describe();
            gauge!("infer_service_info", &info).set(1.0);
            gauge!("infer_build_info", "version" => env!("CARGO_PKG_VERSION"),
                "schema" => SCHEMA.to_string())
            .set(1.0);
            let outcome = |o: &'static str| counter!("infer_decisions_total", "outcome" => o);
            let fallback = |r: &'static str| counter!("infer_fallbacks_total", "reason" => r);
            let rejected = |status: u16| counter!("infer_rejected_requests_total", "status" => status.to_string());
            let telemetry = Self {
                recorder: Arc::clone(&recorder),
                process,
                requests: Requests::new(Arc::clone(&recorder)),
                prometheus,
                by_policy: outcome("policy"),
                by_fallback: outcome("fallback"),
                by_nobody: outcome("none"),
                infeasible: fallback("infeasible"),
                failed: fallback("failed"),
                decision_duration: histogram!("infer_decision_duration_seconds"),
                in_flight: gauge!("infer_in_flight_requests"),
                rejected: statuses.iter().map(|&s| (s, rejected(s))).collect(),
                fleet: FleetMetrics::register(),
                log: LogMetrics::new(),
                trust: TrustMetrics::new(),
                history: History::default(),
            };
            telemetry.in_flight.set(0.0);
            telemetry
        }))
    }

    /// The metrics page.
    pub(crate) fn render(&self) -> String {
        metrics::with_local_recorder(&*self.recorder, || self.process.collect());
        self.prometheus.render()
    }

    /// Moves samples into buckets; called now and then, so that they do not pile up unread.
    pub(crate) fn tidy(&self) {
        self.prometheus.run_upkeep();
    }

    pub(crate) fn in_flight(&self) -> InFlight<'_> {
        self.in_flight.increment(1.0);
        InFlight(&self.in_flight)
    }

    pub(crate) fn rejected(&self, status: u16) {
        self.history.refused();
        if let Some((_, counter)) = self.rejected.iter().find(|(s, _)| *s == status) {
            counter.increment(1);
        }
    }

    pub(crate) fn answered(&self, answer: &Answer) {
        self.trust.answered(answer);
        self.history
            .decided(answer.elapsed, answer.fallback.is_some());
        self.decision_duration.record(answer.elapsed.as_secs_f64());
        match (&answer.fallback, &answer.fallback_failure) {
            (None, _) => self.by_policy.increment(1),
            (Some(_), None) => self.by_fallback.increment(1),
            (Some(_), Some(_)) => self.by_nobody.increment(1),
        }
        match &answer.fallback {
            Some(Rejection::Infeasible { .. }) => self.infeasible.increment(1),
            Some(Rejection::Failed(_)) => self.failed.increment(1),
            None => {}
        }
    }
}

fn describe() {
    describe_gauge!("infer_service_info", "What is served; always 1.");
    describe_gauge!(
        "infer_build_info",
        "What the program is: its version, and that of the messages; always 1."
    );
    describe_histogram!(
        requests::DURATION,
        Unit::Seconds,
        "Time from the head of a request to that of its response, by route, method and status."
    );
    describe_counter!(
        "infer_decisions_total",
        "Decisions sent, by who took them: the policy, the fallback, or none (no change)."
    );
    describe_counter!(
        "infer_fallbacks_total",
        "Decisions that the policy did not take, by reason."
    );
    describe_counter!(
        "infer_rejected_requests_total",
        "Requests refused, by HTTP status."
    );
    describe_histogram!(
        "infer_decision_duration_seconds",
        Unit::Seconds,
        "Time from the parsed state to the checked decision."
    );
    describe_gauge!(
        "infer_in_flight_requests",
        "Requests for decisions under way."
    );
}
