//! Policies: functions from what can be observed to a decision.

pub mod edge_controller;
pub mod exhaustive;
mod fleet;
pub mod greedy;
pub mod heuristics;
pub mod oracle;
pub mod scinet_teacher;
pub mod threshold;

use thiserror::Error;

use self::scinet_teacher::{ScinetTeacher, SlaTerm};
use crate::decision::Decision;
use crate::observation::Observation;
use crate::sequence::Stepwise;
use crate::world::{World, did_you_mean};

/// Why a policy gave no decision.
#[derive(Debug, Error)]
#[error("policy {policy}: {problem}")]
pub struct PolicyError {
    /// The policy.
    pub policy: String,
    /// What went wrong.
    pub problem: String,
}

/// A function from an observation to a decision.
///
/// A policy may remember what it saw within a run; a run starts with a fresh policy.
pub trait Policy: Send {
    /// The name that reports use.
    fn name(&self) -> &str;

    /// Writes the decision for `observation` into `decision`, which comes empty.
    ///
    /// # Errors
    ///
    /// If no decision can be given, as when a remote service does not answer.
    fn decide(
        &mut self,
        observation: &Observation<'_>,
        decision: &mut Decision,
    ) -> Result<(), PolicyError>;

    /// How far what it saw for its last decision lay outside of what it was trained on; `None`
    /// where nothing is known of that.
    fn drift(&self) -> Option<&InputDrift> {
        None
    }
}

/// How far what a policy saw for a decision lay outside of what it was trained on.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct InputDrift {
    /// Its features.
    pub features: Vec<FeatureDrift>,
}

/// How often a feature lay outside of its range in training.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FeatureDrift {
    /// What it is a feature of.
    pub table: &'static str,
    /// Its name.
    pub feature: &'static str,
    /// Values that were seen.
    pub seen: u32,
    /// Values outside of the range.
    pub outside: u32,
}

/// A feature is outside for a decision if more than this share of its values is.
const OUTSIDE_SHARE: f64 = 0.05;

impl FeatureDrift {
    /// Whether the feature is outside: more than a few of its values are.
    #[must_use]
    pub fn is_outside(&self) -> bool {
        f64::from(self.outside) > OUTSIDE_SHARE * f64::from(self.seen)
    }
}

impl InputDrift {
    /// The features that are outside.
    pub fn outside(&self) -> impl Iterator<Item = &FeatureDrift> {
        self.features.iter().filter(|feature| feature.is_outside())
    }

    /// The greatest share of the features of one table that are outside: a fleet under a load that
    /// training never saw is as strange as hosts or candidates would be. 0 if none was seen.
    #[must_use]
    pub fn outside_share(&self) -> f64 {
        let by_table = self.features.chunk_by(|a, b| a.table == b.table);
        let share = |table: &[FeatureDrift]| {
            let seen = table.iter().filter(|f| f.seen > 0).count();
            let outside = table.iter().filter(|f| f.is_outside()).count();
            outside as f64 / seen.max(1) as f64
        };
        by_table.map(share).fold(0.0, f64::max)
    }
}

/// Names of the policies of this crate, with what they do.
pub const POLICIES: &[(&str, &str)] = &[
    (
        "random",
        "uniformly random hosts on, variants and placement",
    ),
    (
        "round-robin",
        "all hosts on, most accurate variant, hosts in turn",
    ),
    (
        "least-loaded",
        "all hosts on, most accurate variant in time, least loaded host",
    ),
    (
        "best-fit",
        "consolidates: fullest host that fits, empty hosts off",
    ),
    (
        "threshold-autoscaler",
        "scales on utilization thresholds with cool-down, least allocated host",
    ),
    (
        "scinet-teacher",
        "SciNet's A/B teacher with the sign of the SLA term corrected",
    ),
    (
        "scinet-teacher-as-committed",
        "SciNet's A/B teacher as published",
    ),
    (
        "edge-controller",
        "fullest edge host with room; else those who can wait longer move to the cloud",
    ),
    (
        "greedy",
        "least expected penalty of each request; hosts as the forecast needs",
    ),
    ("oracle", "searches the twin over sampled futures"),
];

/// The policy called `name`, with random choices drawn from `seed`.
///
/// # Errors
///
/// If there is no such policy.
pub fn by_name(name: &str, world: &World, seed: u64) -> Result<Box<dyn Policy>, PolicyError> {
    Ok(match name {
        "random" => Box::new(heuristics::Random::new(world, seed)),
        "round-robin" => Box::new(heuristics::RoundRobin::new(world)),
        "least-loaded" => Box::new(heuristics::LeastLoaded::new(world)),
        "best-fit" => Box::new(heuristics::BestFit::new(world)),
        "threshold-autoscaler" => Box::new(threshold::ThresholdAutoscaler::new(world)),
        "scinet-teacher" => Box::new(ScinetTeacher::new(world, SlaTerm::Corrected)),
        "scinet-teacher-as-committed" => Box::new(ScinetTeacher::new(world, SlaTerm::AsCommitted)),
        "edge-controller" => Box::new(edge_controller::EdgeController::new(world)),
        "greedy" => Box::new(Stepwise::new(greedy::Greedy::new())),
        "oracle" => Box::new(Stepwise::new(oracle::Oracle::new(
            oracle::Options::default(),
            seed,
        ))),
        _ => {
            let names: Vec<&str> = POLICIES.iter().map(|p| p.0).collect();
            return Err(PolicyError {
                policy: name.into(),
                problem: format!(
                    "there is no such policy{}; there are {}",
                    did_you_mean(name, &names),
                    names.join(", ")
                ),
            });
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_strangest_table_counts() {
        let feature = |table, seen, outside| FeatureDrift {
            table,
            feature: "x",
            seen,
            outside,
        };
        let drift = InputDrift {
            features: vec![
                feature("global", 1, 1),
                feature("global", 1, 0),
                // One value of 20 is a few, two are not.
                feature("host", 20, 1),
                feature("host", 20, 2),
                feature("host", 20, 0),
                feature("power", 0, 0),
            ],
        };
        assert_eq!(drift.outside().count(), 2);
        // Half of the features of the fleet, a third of those of the hosts.
        assert!((drift.outside_share() - 0.5).abs() < 1e-12);
        assert!(InputDrift::default().outside_share().abs() < 1e-12);
    }
}
