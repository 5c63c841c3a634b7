//! What the log measures, for Prometheus.

use std::time::Duration;

use metrics::{
    Counter, Gauge, Histogram, Unit, counter, describe_counter, describe_gauge, describe_histogram,
    gauge, histogram,
};
use twin::decision_log::{KINDS, Kind, LogError, Recovered, Status};

/// Name of the histogram of syncs.
pub(crate) const SYNC_SECONDS: &str = "infer_log_sync_duration_seconds";
/// Upper ends of its buckets, in s.
pub(crate) const SYNC_BUCKETS_S: [f64; 10] =
    [1e-4, 5e-4, 1e-3, 2e-3, 5e-3, 1e-2, 5e-2, 1e-1, 1.0, 10.0];
/// Reasons of failures.
const REASONS: [&str; 4] = ["full", "io", "too-long", "closed"];

/// The handles of the metrics of a log.
pub(crate) struct LogMetrics {
    records: Vec<(Kind, Counter)>,
    errors: Vec<(&'static str, Counter)>,
    sync_duration: Histogram,
    segments: Gauge,
    bytes: Gauge,
    failing: Gauge,
    since_anchor: Gauge,
    damaged: Counter,
    torn: Counter,
}

impl LogMetrics {
    /// Metrics of the recorder that is set.
    pub(crate) fn new() -> Self {
        describe();
        let records = KINDS
            .iter()
            .map(|(kind, _, name)| (*kind, counter!("infer_log_records_total", "kind" => *name)));
        let errors = REASONS.iter().map(|reason| {
            (
                *reason,
                counter!("infer_log_errors_total", "reason" => *reason),
            )
        });
        Self {
            records: records.collect(),
            errors: errors.collect(),
            sync_duration: histogram!(SYNC_SECONDS),
            segments: gauge!("infer_log_segments"),
            bytes: gauge!("infer_log_size_bytes"),
            failing: gauge!("infer_log_failing"),
            since_anchor: gauge!("infer_log_unanchored_bytes"),
            damaged: counter!("infer_log_damaged_stretches_total"),
            torn: counter!("infer_log_torn_bytes_total"),
        }
    }

    pub(super) fn appended(&self, kind: Kind, count: usize) {
        if let Some((_, counter)) = self.records.iter().find(|(k, _)| *k == kind) {
            counter.increment(count as u64);
        }
    }

    pub(super) fn failed(&self, error: &LogError) {
        let reason = error.reason();
        if let Some((_, counter)) = self.errors.iter().find(|(r, _)| *r == reason) {
            counter.increment(1);
        }
        if reason != "too-long" {
            self.failing.set(1.0);
        }
    }

    pub(super) fn synced(&self, elapsed: Duration) {
        self.sync_duration.record(elapsed.as_secs_f64());
    }

    pub(super) fn recovered(&self, found: &Recovered) {
        self.damaged.increment(found.damage.len() as u64);
        let torn = found.torn.as_ref().map_or(0, |torn| torn.damage.bytes);
        self.torn.increment(torn);
    }

    pub(super) fn status(&self, status: &Status) {
        self.segments.set(status.segments as f64);
        self.bytes.set(status.bytes as f64);
        self.since_anchor.set(status.since_anchor_bytes as f64);
        self.failing
            .set(f64::from(u8::from(status.failure.is_some())));
    }
}

fn describe() {
    describe_counter!(
        "infer_log_records_total",
        "Records appended to the decision log, by kind."
    );
    describe_counter!(
        "infer_log_errors_total",
        "Records and syncs that failed, by reason."
    );
    describe_histogram!(
        SYNC_SECONDS,
        Unit::Seconds,
        "Time to force the decision log to the disk."
    );
    describe_gauge!("infer_log_segments", "Segments of the decision log.");
    describe_gauge!(
        "infer_log_size_bytes",
        Unit::Bytes,
        "Bytes of the decision log."
    );
    describe_gauge!(
        "infer_log_failing",
        "1 while the decision log cannot be written, else 0."
    );
    describe_gauge!(
        "infer_log_unanchored_bytes",
        Unit::Bytes,
        "Bytes written since the last fleet or checkpoint; nothing behind it is removed."
    );
    describe_counter!(
        "infer_log_damaged_stretches_total",
        "Damaged stretches found when the decision log was opened."
    );
    describe_counter!(
        "infer_log_torn_bytes_total",
        Unit::Bytes,
        "Bytes set aside when the decision log was opened."
    );
}
