//! What the loop measures about itself, for Prometheus.

use std::time::Duration;

use metrics::{
    Counter, Gauge, Histogram, Unit, counter, describe_counter, describe_gauge, describe_histogram,
    gauge, histogram,
};
use metrics_exporter_prometheus::{BuildError, Matcher, PrometheusBuilder, PrometheusHandle};

use super::guard::Rail;
use super::ledger::Ledger;
use super::report::{Outcome, Report};

/// Upper ends of the buckets of intervals, in s.
const STEP_BUCKETS_S: [f64; 10] = [0.01, 0.05, 0.1, 0.5, 1.0, 2.0, 5.0, 10.0, 30.0, 120.0];
/// What becomes of actions.
const STATES: [&str; 5] = ["submitted", "succeeded", "failed", "unknown", "fenced"];
/// How hosts stand.
const STANDINGS: [&str; 6] = ["off", "booting", "on", "draining", "stopped", "unknown"];

/// The handles of all metrics of the loop.
pub struct Telemetry {
    prometheus: PrometheusHandle,
    intervals: Vec<(&'static str, Counter)>,
    actions: Vec<(&'static str, Counter)>,
    held: Vec<(&'static str, Counter)>,
    hosts: Vec<Gauge>,
    price: Gauge,
    drift: Gauge,
    open: Gauge,
    unknown_vms: Gauge,
    last: Gauge,
    duration: Histogram,
}

impl std::fmt::Debug for Telemetry {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Telemetry").finish_non_exhaustive()
    }
}

impl Telemetry {
    /// Metrics that all begin at zero.
    ///
    /// # Errors
    ///
    /// If they cannot be set up.
    pub fn new() -> Result<Self, BuildError> {
        let duration = Matcher::Full("infer_control_step_duration_seconds".into());
        let recorder = PrometheusBuilder::new()
            .set_buckets_for_metric(duration, &STEP_BUCKETS_S)?
            .build_recorder();
        let prometheus = recorder.handle();
        Ok(metrics::with_local_recorder(&recorder, || {
            describe();
            Self {
                prometheus,
                intervals: Outcome::NAMES
                    .map(|o| (o, counter!("infer_control_intervals_total", "outcome" => o)))
                    .into(),
                actions: STATES
                    .map(|s| (s, counter!("infer_control_actions_total", "state" => s)))
                    .into(),
                held: Rail::NAMES
                    .map(|r| {
                        (
                            r,
                            counter!("infer_control_held_actions_total", "guardrail" => r),
                        )
                    })
                    .into(),
                hosts: STANDINGS
                    .map(|s| gauge!("infer_control_hosts", "standing" => s))
                    .into(),
                price: gauge!("infer_control_price_usd_per_hour"),
                drift: gauge!("infer_control_drift_ratio"),
                open: gauge!("infer_control_open_actions"),
                unknown_vms: gauge!("infer_control_unknown_vms"),
                last: gauge!("infer_control_last_step_timestamp_seconds"),
                duration: histogram!("infer_control_step_duration_seconds"),
            }
        }))
    }

    /// The metrics page.
    #[must_use]
    pub fn render(&self) -> String {
        self.prometheus.run_upkeep();
        self.prometheus.render()
    }

    /// An interval ended.
    pub(super) fn stepped(&self, report: &Report, ledger: &Ledger, elapsed: Duration) {
        count(&self.intervals, report.outcome.name());
        for action in &report.actions {
            match action.guardrail {
                Some(rail) => count(&self.held, rail),
                None => count(&self.actions, action.state),
            }
        }
        for ended in &report.ended {
            let state = if ended.succeeded {
                "succeeded"
            } else {
                "failed"
            };
            count(&self.actions, state);
        }
        let h = &report.hosts;
        let counts = [h.off, h.booting, h.on, h.draining, h.stopped, h.unknown];
        for (gauge, count) in self.hosts.iter().zip(counts) {
            gauge.set(count as f64);
        }
        self.price.set(report.price_usd_per_hour);
        if let Some(drift) = report.drift {
            self.drift.set(drift);
        }
        self.open.set(ledger.open().len() as f64);
        self.unknown_vms.set(report.unknown_vms.len() as f64);
        let now = jiff::Timestamp::now();
        self.last.set(now.as_millisecond() as f64 / 1e3);
        self.duration.record(elapsed.as_secs_f64());
        // Histograms pile up their samples until they are tidied.
        self.prometheus.run_upkeep();
    }
}

fn count(counters: &[(&'static str, Counter)], name: &str) {
    if let Some((_, counter)) = counters.iter().find(|(n, _)| *n == name) {
        counter.increment(1);
    }
}

fn describe() {
    describe_counter!(
        "infer_control_intervals_total",
        "Intervals of the control loop, by what they came to."
    );
    describe_counter!(
        "infer_control_actions_total",
        "Actions, by what became of them; an action counts when it is submitted and when it ends."
    );
    describe_counter!(
        "infer_control_held_actions_total",
        "Actions that a guardrail held back, by guardrail."
    );
    describe_gauge!(
        "infer_control_hosts",
        "Hosts of the world, by how they stand."
    );
    describe_gauge!(
        "infer_control_price_usd_per_hour",
        "What the fleet may cost in USD per hour."
    );
    describe_gauge!(
        "infer_control_drift_ratio",
        "Mean difference of predicted and measured utilization."
    );
    describe_gauge!("infer_control_open_actions", "Actions under way.");
    describe_gauge!(
        "infer_control_unknown_vms",
        "VMs that are no host of the world."
    );
    describe_gauge!(
        "infer_control_last_step_timestamp_seconds",
        Unit::Seconds,
        "When the last interval ended, in Unix time."
    );
    describe_histogram!(
        "infer_control_step_duration_seconds",
        Unit::Seconds,
        "Time that an interval's work took."
    );
}
