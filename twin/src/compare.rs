//! Two policies, or two runs, against each other.
//!
//! All differences are paired: what the two sides had in common (the seed, or the request) cancels.
//!
//! - Policies, and reports of runs ([`policies()`], [`files()`]): the mean over seeds of `B − A`
//!   for each metric, with the 95 % interval of Student's t ([`Estimate`]).
//! - Two event logs of one future: the mean over requests of `B − A`. Requests of one run are not
//!   independent, so they are put into batches in the order of arrival, and the interval is that of
//!   the batches' means (Law and Kelton, *Simulation Modeling and Analysis*, section on batch
//!   means).
//!
//! "Better" and "worse" mean that the interval excludes zero. The intervals are not corrected for
//! the number of metrics: of twenty metrics that do not differ, one will seem to.
//! Left out: decision times of policies, which need a quiet machine (`trainer evaluate`).

mod files;
mod policies;

use serde::{Serialize, Serializer};
use thiserror::Error;

use crate::events::EventsError;
use crate::simulate::RunError;
use crate::statistics::Estimate;

pub use files::files;
pub use policies::{Options, policies};

/// Why two sides cannot be compared.
#[derive(Debug, Error)]
pub enum CompareError {
    /// A file cannot be read.
    #[error("{path}: cannot read: {source}")]
    Read {
        /// The file.
        path: String,
        /// The reason.
        source: std::io::Error,
    },
    /// A file is neither a report nor an event log.
    #[error("{path}:{line}: {problem}")]
    Line {
        /// The file.
        path: String,
        /// The line, from one.
        line: usize,
        /// What is wrong.
        problem: String,
    },
    /// An event log is not valid.
    #[error(transparent)]
    Events(#[from] EventsError),
    /// The sides have nothing in common that could be paired.
    #[error("{0}")]
    NoPair(String),
    /// A policy failed.
    #[error("seed {seed}: {source}")]
    Run {
        /// The seed.
        seed: u64,
        /// The reason.
        source: RunError,
    },
    /// There is no such policy.
    #[error("{0}")]
    Policy(#[from] crate::policy::PolicyError),
}

/// What is paired.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Pairing {
    /// Runs with the same seed.
    Seeds,
    /// Requests of one future.
    Requests,
}

/// What came of a comparison.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Comparison {
    /// The first side.
    pub a: String,
    /// The second side.
    pub b: String,
    /// Name of the world.
    pub world: String,
    /// What is paired.
    pub pairing: Pairing,
    /// Number of pairs.
    pub pairs: usize,
    /// Metrics, in the order in which tables show them.
    pub metrics: Vec<MetricComparison>,
    /// Where the decisions of the two sides first differ.
    pub divergences: Vec<Divergence>,
}

/// One metric of both sides.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct MetricComparison {
    /// Its name.
    pub metric: String,
    /// Which way is better; absent where neither is.
    pub better: Option<Direction>,
    /// The mean of A.
    pub a: Estimate,
    /// The mean of B.
    pub b: Estimate,
    /// The mean of B − A, pair by pair.
    pub difference: Estimate,
    /// What B is, compared with A.
    pub verdict: Verdict,
}

/// Which way is better.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Direction {
    /// More is better.
    Higher,
    /// Less is better.
    Lower,
}

/// What B is, compared with A.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// The interval excludes zero, on the better side.
    Better,
    /// The interval excludes zero, on the worse side.
    Worse,
    /// The interval excludes zero; neither way is better.
    Higher,
    /// The interval excludes zero; neither way is better.
    Lower,
    /// All pairs are equal.
    Equal,
    /// The interval includes zero, or there is none.
    NotDistinguishable,
}

impl Verdict {
    fn of(better: Option<Direction>, difference: &Estimate, equal: bool) -> Self {
        if equal {
            return Self::Equal;
        }
        if !difference.excludes_zero() {
            return Self::NotDistinguishable;
        }
        let higher = difference.mean > 0.0;
        match (better, higher) {
            (None, true) => Self::Higher,
            (None, false) => Self::Lower,
            (Some(Direction::Higher), true) | (Some(Direction::Lower), false) => Self::Better,
            (Some(_), _) => Self::Worse,
        }
    }

    /// Its name in tables.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Better => "better",
            Self::Worse => "worse",
            Self::Higher => "higher",
            Self::Lower => "lower",
            Self::Equal => "equal",
            Self::NotDistinguishable => "not distinguishable",
        }
    }
}

impl Serialize for Verdict {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.name())
    }
}

/// Where the decisions of two sides first differ: up to then both met the same states.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Divergence {
    /// The seed; absent for event logs, which do not tell.
    pub seed: Option<u64>,
    /// When, in s; absent if they never differ.
    pub time_s: Option<f64>,
    /// What A decides and B does not.
    pub a: String,
    /// What B decides and A does not.
    pub b: String,
}

/// Which way of `metric` is better, as far as there is a better one.
#[must_use]
pub fn direction(metric: &str) -> Option<Direction> {
    match metric {
        "objective" | "accuracy_mean" | "jain_fairness" | "requests_completed" => {
            Some(Direction::Higher)
        }
        "utilization_mean"
        | "hosts_billed_mean"
        | "requests_arrived"
        | "migrations"
        | "migrations_completed" => None,
        _ => Some(Direction::Lower),
    }
}

/// Compares a metric, given its values pair by pair; `None` without pairs.
fn metric(name: &str, a: &[f64], b: &[f64]) -> Option<MetricComparison> {
    let differences: Vec<f64> = b.iter().zip(a).map(|(b, a)| b - a).collect();
    let equal = differences.iter().all(|d| *d == 0.0);
    let difference = Estimate::of(&differences)?;
    let better = direction(name);
    Some(MetricComparison {
        metric: name.to_owned(),
        better,
        a: Estimate::of(a)?,
        b: Estimate::of(b)?,
        difference,
        verdict: Verdict::of(better, &difference, equal),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn verdicts_follow_the_direction_and_the_interval() {
        // Differences 1, 2, 3 have the interval 2 ± 2.48 (Student, two degrees of freedom).
        let undecided = metric("objective", &[0.0, 0.0, 0.0], &[1.0, 2.0, 3.0]).expect("pairs");
        assert_eq!(undecided.verdict, Verdict::NotDistinguishable);
        // Differences 10, 11, 12: 11 ± 2.48.
        let (zero, more) = ([0.0; 3], [10.0, 11.0, 12.0]);
        let verdict = |name, a, b| metric(name, a, b).expect("pairs").verdict;
        assert_eq!(verdict("objective", &zero, &more), Verdict::Better);
        assert_eq!(verdict("energy_wh", &zero, &more), Verdict::Worse);
        assert_eq!(verdict("energy_wh", &more, &zero), Verdict::Better);
        assert_eq!(verdict("utilization_mean", &zero, &more), Verdict::Higher);
        assert_eq!(verdict("energy_wh", &more, &more), Verdict::Equal);
        // One pair has no interval.
        assert_eq!(
            verdict("energy_wh", &[1.0], &[2.0]),
            Verdict::NotDistinguishable
        );
        assert_eq!(metric("energy_wh", &[], &[]), None);
    }
}
