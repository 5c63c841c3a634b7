//! What is counted about models and their inputs.

use metrics::{Counter, Gauge, counter, describe_counter, describe_gauge, gauge};
use models::ranges;

use crate::decider::Answer;
use crate::registry::Role;
use crate::shadow::Report;

/// The handles of these metrics.
pub(crate) struct TrustMetrics {
    by_active: Counter,
    by_candidate: Counter,
    flagged: Counter,
    searched: Counter,
    /// By feature, in the order of the drift.
    outside: Vec<Counter>,
    agreement: Gauge,
    gain_s: Gauge,
    compared: Counter,
    dropped: Counter,
    canary_stops: Counter,
}

impl TrustMetrics {
    /// Registers them with the recorder of this thread.
    pub(crate) fn new() -> Self {
        describe();
        let role = |role: &'static str| counter!("infer_asked_policy_total", "role" => role);
        let range = |action: &'static str| counter!("infer_out_of_range_decisions_total", "action" => action);
        let feature = |name: String| counter!("infer_model_input_outside_total", "feature" => name);
        Self {
            by_active: role("active"),
            by_candidate: role("candidate"),
            flagged: range("flagged"),
            searched: range("searched"),
            outside: ranges::feature_names().map(feature).collect(),
            agreement: gauge!("infer_shadow_agreement_ratio"),
            gain_s: gauge!("infer_shadow_gain_seconds"),
            compared: counter!("infer_shadow_compared_decisions_total"),
            dropped: counter!("infer_shadow_dropped_decisions_total"),
            canary_stops: counter!("infer_canary_stops_total"),
        }
    }

    pub(crate) fn answered(&self, answer: &Answer) {
        match answer.role {
            Role::Active => self.by_active.increment(1),
            Role::Candidate => self.by_candidate.increment(1),
        }
        let Some(drift) = &answer.drift else {
            return;
        };
        if answer.searched {
            self.searched.increment(1);
        } else {
            self.flagged.increment(1);
        }
        for (feature, counter) in drift.features.iter().zip(&self.outside) {
            if feature.is_outside() {
                counter.increment(1);
            }
        }
    }

    /// Takes over what the shadow has counted so far.
    pub(crate) fn shadowed(&self, report: &Report) {
        self.compared.absolute(report.total_compared);
        self.dropped.absolute(report.total_dropped);
        self.canary_stops.absolute(report.total_stops);
        self.agreement
            .set(report.agreement_ratio.unwrap_or(f64::NAN));
        self.gain_s
            .set(report.gain_s.map_or(f64::NAN, |gain| gain.mean));
    }
}

fn describe() {
    describe_counter!(
        "infer_asked_policy_total",
        "Decisions, by which of the policies was asked: the active one or the candidate."
    );
    describe_counter!(
        "infer_out_of_range_decisions_total",
        "Decisions on inputs that lie outside of the model's training, by what was done."
    );
    describe_counter!(
        "infer_model_input_outside_total",
        "Decisions for which a feature lay outside of its range in training."
    );
    describe_gauge!(
        "infer_shadow_agreement_ratio",
        "Share of the compared decisions on which active policy and candidate agree."
    );
    describe_gauge!(
        "infer_shadow_gain_seconds",
        "How much better the candidate's decisions are on the twin, mean, in s of penalty."
    );
    describe_counter!(
        "infer_shadow_compared_decisions_total",
        "Decisions that were compared with the other policy's."
    );
    describe_counter!(
        "infer_shadow_dropped_decisions_total",
        "Decisions that were not compared because the shadow was busy."
    );
    describe_counter!(
        "infer_canary_stops_total",
        "How often a candidate was stopped because it decided worse."
    );
}
