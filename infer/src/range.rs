//! Input drift: states unlike those that a model was trained on, and search in the model's place.
//!
//! A model that knows the ranges of its features in training counts, for each decision, which
//! features lie outside ([`InputDrift`]). The answer tells them. Where too great a share of the
//! features of one kind is outside, the model guesses, and search on the twin, which has no training to leave,
//! takes the decision within a time budget: the oracle with few futures, and the greedy policy for
//! the questions that are left when the time is up.
//!
//! Left out: windows over many decisions; each is judged alone, so that the same state gets the
//! same answer.

use std::borrow::Cow;
use std::time::{Duration, Instant};

use twin::observation::Observation;
use twin::policy::greedy::Greedy;
use twin::policy::oracle::{self, Oracle};
use twin::policy::{FeatureDrift, InputDrift, Policy, PolicyError};
use twin::sequence::{Chooser, Context, Question, Stepwise};
use twin::wire::InputRange;

/// The name of search in answers.
pub const SEARCH: &str = "search";
/// The share of a model's features of one kind that must be outside for search to take its place.
pub const THRESHOLD: f64 = 0.2;
/// Time that search may take, in ms.
pub const SEARCH_TIME_MS: u64 = 50;
/// The most features that an answer names.
const MOST_NAMED: usize = 8;
/// What the futures of search are drawn from: the same state gets the same decision.
const SEED: u64 = 1;

/// When and how search takes a model's place.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Search {
    /// The share of the features that must be outside.
    pub threshold: f64,
    /// The time from the request's reading that it may take.
    pub time: Duration,
}

impl Default for Search {
    fn default() -> Self {
        Self {
            threshold: THRESHOLD,
            time: Duration::from_millis(SEARCH_TIME_MS),
        }
    }
}

impl Search {
    /// Whether search decides on an input of this drift.
    #[must_use]
    pub fn is_due(&self, drift: &InputDrift) -> bool {
        drift.outside_share() >= self.threshold
    }

    /// Search that has its time from `started` on.
    #[must_use]
    pub fn policy(&self, started: Instant) -> impl Policy + use<> {
        let options = oracle::Options {
            power_futures: 4,
            place_futures: 2,
            placements: 3,
            placements_per_variant: 2,
            ..oracle::Options::default()
        };
        Stepwise::new(Timed {
            oracle: Oracle::new(options, SEED),
            started,
            time: self.time,
        })
    }
}

/// The oracle while there is time, then the greedy policy.
struct Timed {
    oracle: Oracle,
    started: Instant,
    time: Duration,
}

impl Chooser for Timed {
    fn name(&self) -> &'static str {
        SEARCH
    }

    fn begin(&mut self, observation: &Observation<'_>) {
        self.oracle.begin(observation);
    }

    fn choose(
        &mut self,
        context: &Context<'_>,
        question: &Question<'_>,
    ) -> Result<usize, PolicyError> {
        if self.started.elapsed() < self.time {
            self.oracle.choose(context, question)
        } else {
            Greedy.choose(context, question)
        }
    }
}

/// The name of a feature in answers and metrics, as `host.utilization`.
#[must_use]
pub fn name_of(feature: &FeatureDrift) -> String {
    format!("{}.{}", feature.table, feature.feature)
}

/// What an answer tells of `drift`.
#[must_use]
pub fn told(drift: &InputDrift, searched: bool) -> InputRange<'static> {
    let named = drift.outside().take(MOST_NAMED);
    InputRange {
        outside_share: drift.outside_share(),
        outside: named.map(|feature| Cow::Owned(name_of(feature))).collect(),
        searched,
    }
}
