//! What is to be migrated, and how.

use serde::{Deserialize, Serialize};
use thiserror::Error;

use super::DirtyPages;
use crate::units::{Mebibytes, SimTime};

/// The most rounds that may be asked for.
const MAX_ROUNDS: u32 = 10_000;

/// One migration: the container, the ends, and the strategy.
///
/// It is plain data; [`Spec::check`] says whether it makes sense, and
/// [`Migration::new`](super::Migration::new) asks it.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Spec {
    /// The order of things.
    pub strategy: Strategy,
    /// Memory of the container, V.
    pub memory: Mebibytes,
    /// Execution state that is sent while the container is paused: registers, open files.
    pub state: Mebibytes,
    /// Pages that it writes while it runs.
    pub dirtied: DirtyPages,
    /// Pages that it touches, by reading or writing, once it has resumed without them.
    pub touched: DirtyPages,
    /// Image layers that the destination lacks; they are fetched first, while the container runs.
    pub image: Mebibytes,
    /// Round-trip time between the ends: one before the copy begins, one to hand over, and one a
    /// remote fault.
    pub rtt: SimTime,
    /// Time to freeze the container and dump what is not memory.
    pub dump: SimTime,
    /// Time to restore that at the destination.
    pub restore: SimTime,
    /// Time to check the restored container; it stays paused, except after a post-copy.
    pub verify: SimTime,
    /// Time from the order to resume until it serves again.
    pub resume: SimTime,
}

/// The order of things.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Strategy {
    /// Pause, copy, resume.
    StopAndCopy,
    /// Copy while it runs, in rounds, until a rule says stop; pause, copy the rest, resume.
    PreCopy(StopRules),
    /// Pause, copy the execution state, resume, pull the memory.
    PostCopy,
    /// Rounds as in pre-copy; the rest as in pre-copy if it fits the downtime limit, else as in
    /// post-copy.
    Hybrid(StopRules),
}

/// The order of things, without its rules.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "kebab-case")]
pub enum StrategyKind {
    /// Pause, copy, resume.
    StopAndCopy,
    /// Copy in rounds while it runs; pause, copy the rest, resume.
    #[default]
    PreCopy,
    /// Pause, copy the execution state, resume, pull the memory.
    PostCopy,
    /// Rounds as in pre-copy; the rest as in pre-copy if it is short, else as in post-copy.
    Hybrid,
}

impl StrategyKind {
    /// All of them.
    pub const ALL: [Self; 4] = [
        Self::StopAndCopy,
        Self::PreCopy,
        Self::PostCopy,
        Self::Hybrid,
    ];

    /// The strategy of this kind with these rules, where it has any.
    #[must_use]
    pub fn with(self, rules: StopRules) -> Strategy {
        match self {
            Self::StopAndCopy => Strategy::StopAndCopy,
            Self::PreCopy => Strategy::PreCopy(rules),
            Self::PostCopy => Strategy::PostCopy,
            Self::Hybrid => Strategy::Hybrid(rules),
        }
    }

    /// Its name in files.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::StopAndCopy => "stop-and-copy",
            Self::PreCopy => "pre-copy",
            Self::PostCopy => "post-copy",
            Self::Hybrid => "hybrid",
        }
    }
}

/// When rounds of copying end.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct StopRules {
    /// Stop when the whole downtime is expected to fit: the rest and the execution state at the
    /// bandwidth of the last round, and all fixed times. Where these alone exceed it, nothing
    /// ever fits.
    pub downtime_limit: SimTime,
    /// Stop after that many rounds; the first copies all memory. With 0 nothing is copied while
    /// the container runs.
    pub max_rounds: u32,
    /// Stop when more than this multiple of the memory has been sent.
    pub max_sent_ratio: Option<f64>,
    /// Stop when the pages left after a round are not fewer than those that the round sent by at
    /// least this share.
    pub min_gain: Option<f64>,
}

impl Default for StopRules {
    /// 300 ms as in QEMU, at most 30 rounds and three times the memory as in Xen.
    fn default() -> Self {
        Self {
            downtime_limit: SimTime(300_000_000),
            max_rounds: 30,
            max_sent_ratio: Some(3.0),
            min_gain: None,
        }
    }
}

/// Why a [`Spec`] makes no sense.
#[derive(Clone, Debug, PartialEq, Error)]
#[non_exhaustive]
pub enum SpecError {
    /// The memory is not a positive number.
    #[error("migration.memory: {value} MiB is not a finite number above 0")]
    Memory {
        /// What it is.
        value: f64,
    },
    /// Bytes are not a number of at least zero.
    #[error("migration.{field}: {value} MiB is not a finite number of at least 0")]
    Size {
        /// The field.
        field: &'static str,
        /// What it is.
        value: f64,
    },
    /// A rate of writes is not a number of at least zero.
    #[error("migration.{field}.rate_mib_per_s: {value} is not a finite number of at least 0")]
    Rate {
        /// The field.
        field: &'static str,
        /// What it is.
        value: f64,
    },
    /// A working set that the memory cannot hold, or without pages.
    #[error(
        "migration.{field}: {value} MiB of pages are not within the memory of {memory_mib} MiB; \
         a container without writes has the model \"none\""
    )]
    Pages {
        /// The field.
        field: &'static str,
        /// What it is.
        value: f64,
        /// The memory.
        memory_mib: f64,
    },
    /// A stop rule means nothing.
    #[error("migration.strategy.{field}: {value} is not {wanted}; leave it out to switch it off")]
    Rule {
        /// The field.
        field: &'static str,
        /// What it is.
        value: f64,
        /// What it may be.
        wanted: &'static str,
    },
    /// There are too many rounds.
    #[error("migration.strategy.max_rounds: {value} is above {MAX_ROUNDS}")]
    Rounds {
        /// What it is.
        value: u32,
    },
    /// The bandwidth is not a positive number.
    #[error("migration: a bandwidth of {value} Mbit/s is not a finite number above 0")]
    Bandwidth {
        /// What it is.
        value: f64,
    },
    /// A probability of faults is not one.
    #[error("migration.faults.{field}: {value} is not a probability between 0 and 1")]
    Probability {
        /// The field.
        field: &'static str,
        /// What it is.
        value: f64,
    },
}

impl Spec {
    /// The migration of a container with `memory` that writes nothing, between ends without delay
    /// and in no time but that of the copy; name what differs with `..Spec::new(strategy, memory)`.
    #[must_use]
    pub fn new(strategy: Strategy, memory: Mebibytes) -> Self {
        Self {
            strategy,
            memory,
            state: Mebibytes(0.0),
            dirtied: DirtyPages::None,
            touched: DirtyPages::None,
            image: Mebibytes(0.0),
            rtt: SimTime::ZERO,
            dump: SimTime::ZERO,
            restore: SimTime::ZERO,
            verify: SimTime::ZERO,
            resume: SimTime::ZERO,
        }
    }

    /// Checks every number.
    ///
    /// # Errors
    ///
    /// [`SpecError`], which names the field.
    pub fn check(&self) -> Result<(), SpecError> {
        let Mebibytes(value) = self.memory;
        if !value.is_finite() || value <= 0.0 {
            return Err(SpecError::Memory { value });
        }
        for (field, Mebibytes(value)) in [("state", self.state), ("image", self.image)] {
            if !value.is_finite() || value < 0.0 {
                return Err(SpecError::Size { field, value });
            }
        }
        self.dirtied.check("dirtied", self.memory)?;
        self.touched.check("touched", self.memory)?;
        match self.strategy {
            Strategy::StopAndCopy | Strategy::PostCopy => Ok(()),
            Strategy::PreCopy(rules) | Strategy::Hybrid(rules) => rules.check(),
        }
    }

    /// The part of the downtime that does not depend on bandwidth, if it ends without post-copy.
    #[must_use]
    pub fn fixed_downtime(&self) -> SimTime {
        [self.rtt, self.restore, self.verify, self.resume]
            .into_iter()
            .fold(self.dump, SimTime::after)
    }
}

impl StopRules {
    fn check(&self) -> Result<(), SpecError> {
        let rule = |field, value: f64, holds: bool, wanted| {
            if holds {
                Ok(())
            } else {
                Err(SpecError::Rule {
                    field,
                    value,
                    wanted,
                })
            }
        };
        if self.max_rounds > MAX_ROUNDS {
            return Err(SpecError::Rounds {
                value: self.max_rounds,
            });
        }
        if let Some(ratio) = self.max_sent_ratio {
            let holds = ratio.is_finite() && ratio >= 1.0;
            rule(
                "max_sent_ratio",
                ratio,
                holds,
                "a finite number of at least 1",
            )?;
        }
        if let Some(gain) = self.min_gain {
            let holds = (0.0..=1.0).contains(&gain);
            rule("min_gain", gain, holds, "a share between 0 and 1")?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(change: impl FnOnce(&mut Spec)) -> String {
        let mut spec = Spec::new(Strategy::PreCopy(StopRules::default()), Mebibytes(100.0));
        change(&mut spec);
        spec.check()
            .err()
            .map(|e| e.to_string())
            .unwrap_or_default()
    }

    fn refused_writes(dirtied: DirtyPages) -> String {
        refused(|s| s.dirtied = dirtied)
    }

    fn refused_rules(change: impl FnOnce(&mut StopRules)) -> String {
        let mut rules = StopRules::default();
        change(&mut rules);
        refused(|s| s.strategy = Strategy::Hybrid(rules))
    }

    #[test]
    fn what_makes_no_sense_is_refused_by_name() {
        assert_eq!(refused(|_| ()), "");
        let linear = |rate_mib_per_s, limit| DirtyPages::Linear {
            rate_mib_per_s,
            limit,
        };
        let working_set = |mib| DirtyPages::WorkingSet {
            size: Mebibytes(mib),
            rate_mib_per_s: 1.0,
        };
        let cases = [
            (
                refused(|s| s.memory = Mebibytes(0.0)),
                "migration.memory: 0 MiB",
            ),
            (
                refused(|s| s.image = Mebibytes(f64::NAN)),
                "migration.image: NaN MiB",
            ),
            (
                refused(|s| s.state = Mebibytes(-1.0)),
                "migration.state: -1 MiB",
            ),
            (
                refused(|s| s.touched = working_set(101.0)),
                "migration.touched: 101 MiB",
            ),
            (refused_writes(working_set(0.0)), "migration.dirtied: 0 MiB"),
            (
                refused_writes(linear(-2.0, None)),
                "migration.dirtied.rate_mib_per_s: -2",
            ),
            (
                refused_writes(linear(1.0, Some(Mebibytes(-3.0)))),
                "migration.dirtied: -3 MiB",
            ),
            (
                refused_rules(|r| r.max_rounds = 10_001),
                "migration.strategy.max_rounds: 10001",
            ),
            (
                refused_rules(|r| r.max_sent_ratio = Some(0.5)),
                "migration.strategy.max_sent_ratio: 0.5",
            ),
            (
                refused_rules(|r| r.min_gain = Some(1.5)),
                "migration.strategy.min_gain: 1.5",
            ),
        ];
        for (message, start) in cases {
            assert!(message.starts_with(start), "{message:?} for {start:?}");
        }
    }
}
