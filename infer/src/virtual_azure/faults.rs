//! What goes wrong with calls, from a seed: the same settings and the same calls meet the same
//! faults.
//!
//! Each call of the Resource Manager has a number; whether it meets a fault, and which, is hashed
//! from the seed and that number. Only faults that can happen to a call are chosen from, by weight,
//! so that the share of calls that meet one is the rate.

use std::collections::BTreeMap;
use std::path::Path;

use serde::{Deserialize, Serialize};
use thiserror::Error;
use twin::stream;

/// Parts of a call's random key.
const MEETS: u64 = 0;
const WHICH: u64 = 1;
const DETAIL: u64 = 2;
/// The most that a length of time may be, in s.
const MOST_SECONDS: f64 = 1e6;
/// The most calls of a storm.
const MOST_STORM_CALLS: u32 = 10_000;

/// A kind of fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FaultKind {
    /// The call and those after it get 429.
    TooManyRequests,
    /// The call gets 500, 502, 503 or 504, and nothing is done.
    ServerError,
    /// The call is done, and the connection closed without an answer.
    LostResponse,
    /// The call is done twice, as if it had been sent again.
    Duplicated,
    /// A start or a creation finds no capacity.
    AllocationFailed,
    /// The operation is accepted and fails without having done anything.
    OperationFailed,
    /// The operation does nothing for a while.
    Slow,
    /// The operation is done and does not tell for long.
    Stuck,
    /// What is read is as it was a while ago.
    StaleRead,
}

/// All kinds.
const KINDS: [FaultKind; 9] = [
    FaultKind::TooManyRequests,
    FaultKind::ServerError,
    FaultKind::LostResponse,
    FaultKind::Duplicated,
    FaultKind::AllocationFailed,
    FaultKind::OperationFailed,
    FaultKind::Slow,
    FaultKind::Stuck,
    FaultKind::StaleRead,
];

/// What kind of call meets a fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum CallKind {
    /// Reads a resource or a list.
    Read,
    /// Polls an operation.
    Poll,
    /// Changes what needs no operation.
    Write,
    /// Starts an operation.
    Action,
    /// Starts an operation that needs capacity.
    Allocation,
}

impl FaultKind {
    /// Whether it can happen to a call of `kind`.
    fn happens_to(self, kind: CallKind) -> bool {
        match self {
            Self::TooManyRequests | Self::ServerError | Self::LostResponse => true,
            Self::StaleRead => kind == CallKind::Read,
            Self::AllocationFailed => kind == CallKind::Allocation,
            Self::Duplicated | Self::OperationFailed | Self::Slow | Self::Stuck => {
                matches!(kind, CallKind::Action | CallKind::Allocation)
            }
        }
    }
}

/// What goes wrong, and how often.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct FaultSettings {
    /// Share of the calls that meet a fault, between 0 and 1.
    pub rate: f64,
    /// Seed.
    pub seed: u64,
    /// How often each kind is met, relative to the others.
    pub weights: FaultWeights,
    /// Calls that a storm of 429 takes.
    pub storm_calls: u32,
    /// How long a slow operation does nothing, in s.
    pub slow_s: f64,
    /// How long a stuck operation does not tell, in s.
    pub stuck_s: f64,
    /// How old what is read may be, in s.
    pub stale_s: f64,
}

/// How often each kind of fault is met, relative to the others.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
#[expect(missing_docs, reason = "the kinds of fault are described at FaultKind")]
pub struct FaultWeights {
    pub too_many_requests: f64,
    pub server_error: f64,
    pub lost_response: f64,
    pub duplicated: f64,
    pub allocation_failed: f64,
    pub operation_failed: f64,
    pub slow: f64,
    pub stuck: f64,
    pub stale_read: f64,
}

impl Default for FaultWeights {
    fn default() -> Self {
        Self {
            too_many_requests: 1.0,
            server_error: 1.0,
            lost_response: 1.0,
            duplicated: 1.0,
            allocation_failed: 1.0,
            operation_failed: 1.0,
            slow: 1.0,
            stuck: 1.0,
            stale_read: 1.0,
        }
    }
}

impl FaultWeights {
    fn of(&self, kind: FaultKind) -> f64 {
        match kind {
            FaultKind::TooManyRequests => self.too_many_requests,
            FaultKind::ServerError => self.server_error,
            FaultKind::LostResponse => self.lost_response,
            FaultKind::Duplicated => self.duplicated,
            FaultKind::AllocationFailed => self.allocation_failed,
            FaultKind::OperationFailed => self.operation_failed,
            FaultKind::Slow => self.slow,
            FaultKind::Stuck => self.stuck,
            FaultKind::StaleRead => self.stale_read,
        }
    }
}

impl Default for FaultSettings {
    fn default() -> Self {
        Self {
            rate: 0.0,
            seed: 0,
            weights: FaultWeights::default(),
            storm_calls: 5,
            slow_s: 60.0,
            stuck_s: 600.0,
            stale_s: 60.0,
        }
    }
}

/// What is wrong with settings.
#[derive(Debug, Error)]
pub enum FaultsError {
    /// The file cannot be read.
    #[error("{path}: {source}")]
    Read {
        /// The file.
        path: String,
        /// The reason.
        source: std::io::Error,
    },
    /// The file is not of the schema.
    #[error("{path}: {source}")]
    Schema {
        /// The file.
        path: String,
        /// The reason.
        source: toml::de::Error,
    },
    /// A value is out of its range.
    #[error("{field}: {problem}")]
    Value {
        /// The field.
        field: String,
        /// What is wrong, and what would be right.
        problem: String,
    },
}

impl FaultSettings {
    /// The settings in the TOML file at `path`.
    ///
    /// # Errors
    ///
    /// If it cannot be read, is not of the schema, or a value is out of its range.
    pub fn load(path: &Path) -> Result<Self, FaultsError> {
        let name = path.display().to_string();
        let text = std::fs::read_to_string(path).map_err(|source| FaultsError::Read {
            path: name.clone(),
            source,
        })?;
        let settings: Self =
            toml::from_str(&text).map_err(|source| FaultsError::Schema { path: name, source })?;
        settings.checked()
    }

    /// The settings, if each value is in its range.
    ///
    /// # Errors
    ///
    /// The first value that is not.
    pub fn checked(self) -> Result<Self, FaultsError> {
        let value = |field: &str, problem: String| FaultsError::Value {
            field: field.into(),
            problem,
        };
        if !(0.0..=1.0).contains(&self.rate) {
            let problem = format!("is {}, must be between 0 and 1", self.rate);
            return Err(value("rate", problem));
        }
        if !(1..=MOST_STORM_CALLS).contains(&self.storm_calls) {
            let found = self.storm_calls;
            let problem = format!("is {found}, must be between 1 and {MOST_STORM_CALLS}");
            return Err(value("storm_calls", problem));
        }
        for (field, seconds) in [
            ("slow_s", self.slow_s),
            ("stuck_s", self.stuck_s),
            ("stale_s", self.stale_s),
        ] {
            if !(0.0..=MOST_SECONDS).contains(&seconds) {
                let problem = format!("is {seconds}, must be between 0 and {MOST_SECONDS}");
                return Err(value(field, problem));
            }
        }
        for kind in KINDS {
            let weight = self.weights.of(kind);
            if !(0.0..=1e6).contains(&weight) {
                let problem = format!("{kind:?} is {weight}, must be between 0 and 1e6");
                return Err(value("weights", problem));
            }
        }
        Ok(self)
    }
}

/// A fault that a call meets.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Met {
    pub(super) kind: FaultKind,
    /// Uniform between 0 and 1: what else is random about it.
    pub(super) detail: f64,
}

/// Draws faults and counts them.
#[derive(Debug)]
pub(super) struct Faults {
    settings: FaultSettings,
    /// Calls so far.
    calls: u64,
    /// Calls that the storm under way still takes.
    storm_left: u32,
    counts: BTreeMap<FaultKind, u64>,
}

impl Faults {
    pub(super) fn new(settings: FaultSettings) -> Self {
        Self {
            settings,
            calls: 0,
            storm_left: 0,
            counts: BTreeMap::new(),
        }
    }

    pub(super) fn settings(&self) -> &FaultSettings {
        &self.settings
    }

    /// Goes on with other settings; counts and the number of the next call stay.
    pub(super) fn set(&mut self, settings: FaultSettings) {
        self.settings = settings;
        self.storm_left = 0;
    }

    /// Calls so far.
    pub(super) fn calls(&self) -> u64 {
        self.calls
    }

    /// How often each kind was met.
    pub(super) fn counts(&self) -> &BTreeMap<FaultKind, u64> {
        &self.counts
    }

    /// What the next call meets.
    pub(super) fn meet(&mut self, call: CallKind) -> Option<Met> {
        let key = stream::mix(self.settings.seed, self.calls);
        self.calls += 1;
        let detail = stream::unit(key, DETAIL);
        let kind = if self.storm_left > 0 {
            self.storm_left -= 1;
            FaultKind::TooManyRequests
        } else if stream::unit(key, MEETS) < self.settings.rate {
            self.choose(call, stream::unit(key, WHICH))?
        } else {
            return None;
        };
        *self.counts.entry(kind).or_default() += 1;
        Some(Met { kind, detail })
    }

    fn choose(&mut self, call: CallKind, at: f64) -> Option<FaultKind> {
        let weight = |kind: &FaultKind| self.settings.weights.of(*kind);
        let possible: Vec<FaultKind> = KINDS
            .into_iter()
            .filter(|kind| kind.happens_to(call) && weight(kind) > 0.0)
            .collect();
        let total: f64 = possible.iter().map(weight).sum();
        let mut left = at * total;
        let mut found = possible.last().copied()?;
        for kind in &possible {
            left -= weight(kind);
            if left < 0.0 {
                found = *kind;
                break;
            }
        }
        if found == FaultKind::TooManyRequests {
            self.storm_left = self.settings.storm_calls - 1;
        }
        Some(found)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn met(rate: f64, seed: u64, call: CallKind) -> Vec<Option<FaultKind>> {
        let settings = FaultSettings {
            rate,
            seed,
            storm_calls: 1,
            ..FaultSettings::default()
        };
        let mut faults = Faults::new(settings);
        (0..2000)
            .map(|_| faults.meet(call).map(|met| met.kind))
            .collect()
    }

    #[test]
    fn the_share_of_calls_is_the_rate_and_the_seed_repeats() {
        let once = met(0.1, 7, CallKind::Allocation);
        let share = once.iter().flatten().count() as f64 / 2000.0;
        assert!((share - 0.1).abs() < 0.02, "{share}");
        assert_eq!(once, met(0.1, 7, CallKind::Allocation));
        assert_ne!(once, met(0.1, 8, CallKind::Allocation));
        let kinds: std::collections::BTreeSet<_> = once.into_iter().flatten().collect();
        assert_eq!(kinds.len(), 8, "all but stale reads: {kinds:?}");
        assert!(met(0.0, 7, CallKind::Read).iter().all(Option::is_none));
    }

    #[test]
    fn reads_meet_only_what_can_happen_to_them() {
        let kinds: std::collections::BTreeSet<_> =
            met(1.0, 1, CallKind::Read).into_iter().flatten().collect();
        let expected = [
            FaultKind::TooManyRequests,
            FaultKind::ServerError,
            FaultKind::LostResponse,
            FaultKind::StaleRead,
        ];
        assert_eq!(kinds, expected.into_iter().collect());
    }

    #[test]
    fn a_storm_takes_as_many_calls_as_it_says() {
        let mut settings = FaultSettings {
            rate: 1.0,
            storm_calls: 4,
            ..FaultSettings::default()
        };
        settings.weights = FaultWeights {
            server_error: 0.0,
            lost_response: 0.0,
            stale_read: 0.0,
            ..FaultWeights::default()
        };
        let mut faults = Faults::new(settings);
        assert!(faults.meet(CallKind::Read).is_some());
        faults.settings.rate = 0.0;
        let rest: Vec<bool> = (0..5)
            .map(|_| faults.meet(CallKind::Poll).is_some())
            .collect();
        assert_eq!(rest, [true, true, true, false, false]);
        assert_eq!(faults.counts()[&FaultKind::TooManyRequests], 4);
        assert_eq!(faults.calls(), 6);
    }

    #[test]
    fn settings_are_checked() {
        for (text, field) in [
            ("rate = 1.5", "rate"),
            ("rate = nan", "rate"),
            ("storm_calls = 0", "storm_calls"),
            ("stale_s = -1", "stale_s"),
            ("weights = { slow = -1 }", "weights"),
        ] {
            let settings: FaultSettings = toml::from_str(text).expect("of the schema");
            let error = settings.checked().expect_err(text).to_string();
            assert!(error.starts_with(field), "{text}: {error}");
        }
        assert!(toml::from_str::<FaultSettings>("weights = { unknown = 1 }").is_err());
        assert!(toml::from_str::<FaultSettings>("other = 1").is_err());
    }
}
