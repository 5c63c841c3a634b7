//! The protocol of one migration: a chain of stages, each of which demands a transfer or a delay.
//!
//! Whoever drives it carries out [`Migration::demand`], however long that takes, and says so with
//! [`Migration::finish`]; the next stage follows from it. So bandwidth may change at any moment,
//! and be shared with whatever else is sent.
//!
//! ```text
//! fetch image → handshake → round 1 → … → round n → dump → copy → hand over → restore
//!             └── stop-and-copy, post-copy ──────────┘
//!   stop-and-copy, pre-copy:  restore → verify → resume → done
//!   post-copy:                restore → resume → pull → verify → done
//! ```
//!
//! Round 1 sends the memory V, and each further one what was written during the last, D(t). The
//! copy sends what is left and the execution state while the container is paused; in post-copy the
//! execution state alone, and what is left is pulled after the resume.
//!
//! With D(t) = D t, constant bandwidth R, λ = D / R, n rounds and no other times, this gives what
//! Liu et al., "Performance and Energy Modeling for Live Migration of Virtual Machines", HPDC
//! 2011, derive: T = V/R · (1 − λⁿ⁺¹) / (1 − λ), and a downtime of V λⁿ / R + resume.
//!
//! Rounds follow each other without waiting for the other end, so only the handshake and the
//! hand-over cost a round trip: the last page arrives half of one after it was sent, and the
//! source gives up its claim before the destination goes on.

use serde::{Deserialize, Serialize};

use super::stall::stall;
use super::{Spec, SpecError, StopRules, Strategy, mib_per_second};
use crate::units::{Mebibytes, MegabitsPerSecond, Ratio, SimTime};

/// What is being done.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Stage {
    /// The destination fetches the image layers that it lacks.
    FetchImage,
    /// Both ends agree to begin.
    Handshake,
    /// Memory is copied while the container runs.
    Round {
        /// From 1.
        number: u32,
    },
    /// The container is frozen and dumped.
    Dump,
    /// The rest, or the execution state alone, is copied while the container is paused.
    Copy,
    /// The last page arrives, and the source gives up its claim.
    HandOver,
    /// The destination restores what was dumped.
    Restore,
    /// The restored container is checked.
    Verify,
    /// The container is made to run at the destination.
    Resume,
    /// Memory is pulled while the container runs at the destination.
    Pull,
    /// The container runs at the destination, with all of its memory.
    Done,
    /// Something failed: the container is made to run at the source again.
    RollBack,
    /// It failed.
    Aborted {
        /// Whether the container is lost, rather than back at the source.
        lost: bool,
    },
}

/// What a stage takes.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Demand {
    /// So much is to be sent; image layers come from wherever they are kept, all else from the
    /// source. The protocol accounts for latency: none is to be added.
    Transfer(Mebibytes),
    /// So much time is to pass.
    Delay(SimTime),
    /// Nothing: the migration has ended.
    Nothing,
}

impl Demand {
    /// Whether nothing is to be sent and no time is to pass.
    #[must_use]
    pub fn is_empty(self) -> bool {
        match self {
            Self::Transfer(Mebibytes(mib)) => mib <= 0.0,
            Self::Delay(span) => span == SimTime::ZERO,
            Self::Nothing => true,
        }
    }
}

/// Where the container runs, if it does.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Container {
    /// At the source, at full speed.
    AtSource,
    /// Nowhere: it is paused.
    Paused,
    /// At the destination.
    AtDestination {
        /// The share of its speed that faults leave it.
        speed: Ratio,
    },
    /// Nowhere ever again: its progress is lost.
    Lost,
}

/// Why rounds of copying ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum PreCopyEnd {
    /// The downtime is expected to fit its limit.
    Fits,
    /// Nothing was written during the last round.
    NothingLeft,
    /// As many rounds as are allowed.
    Rounds,
    /// As many bytes as are allowed.
    Sent,
    /// The last round gained too little.
    Gain,
}

/// What a migration took.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Report {
    /// Seconds from the first stage to the end of the last.
    pub total_s: f64,
    /// Seconds in which the container ran nowhere.
    pub downtime_s: f64,
    /// Seconds that the container lost to remote faults after its resume.
    pub stall_s: f64,
    /// Memory and execution state sent.
    pub sent: Mebibytes,
    /// Image layers fetched.
    pub fetched: Mebibytes,
    /// Rounds of copying while the container ran.
    pub rounds: u32,
    /// Why these ended, if there were any.
    pub pre_copy_end: Option<PreCopyEnd>,
    /// Whether the container resumed before its memory was there.
    pub post_copy: bool,
    /// Pages touched before they had arrived, expected.
    pub remote_faults: f64,
}

impl Report {
    /// All that was sent over the network.
    #[must_use]
    pub fn bytes(&self) -> Mebibytes {
        self.sent + self.fetched
    }
}

/// One migration under way.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Migration {
    spec: Spec,
    stage: Stage,
    /// Pages that the destination lacks, or has in an old version.
    left: Mebibytes,
    /// What the last transfer between the ends got, or what is expected before there was one.
    bandwidth_mib_per_s: f64,
    /// Share of its speed that the container keeps during the pull.
    speed: f64,
    /// Seconds that one remote fault costs.
    fault_s: f64,
    report: Report,
}

impl Migration {
    /// The migration of `spec`, at its first stage. `expected` is what the path between the ends
    /// is likely to give: it counts until a transfer tells more.
    ///
    /// # Errors
    ///
    /// [`SpecError`] if a number makes no sense.
    pub fn new(spec: Spec, expected: MegabitsPerSecond) -> Result<Self, SpecError> {
        spec.check()?;
        if !expected.0.is_finite() || expected.0 <= 0.0 {
            return Err(SpecError::Bandwidth { value: expected.0 });
        }
        Ok(Self {
            spec,
            stage: Stage::FetchImage,
            left: spec.memory,
            bandwidth_mib_per_s: mib_per_second(expected),
            speed: 1.0,
            fault_s: 0.0,
            report: Report {
                post_copy: spec.strategy == Strategy::PostCopy,
                ..Report::default()
            },
        })
    }

    /// The migration of `spec` that is at `stage`, at whose beginning `left` was missing at the
    /// destination, after what `report` says; the last transfer got `bandwidth_mib_per_s`.
    ///
    /// # Errors
    ///
    /// [`SpecError`] if a number makes no sense.
    pub fn at(
        spec: Spec,
        stage: Stage,
        left: Mebibytes,
        bandwidth_mib_per_s: f64,
        report: Report,
    ) -> Result<Self, SpecError> {
        let expected = bandwidth_mib_per_s / mib_per_second(MegabitsPerSecond(1.0));
        let mut migration = Self {
            stage,
            left,
            bandwidth_mib_per_s,
            report,
            ..Self::new(spec, MegabitsPerSecond(expected))?
        };
        if stage == Stage::Pull {
            migration.begin_pull();
        }
        Ok(migration)
    }

    /// Pages that the destination lacked, or had in an old version, when this stage began.
    #[must_use]
    pub fn left(&self) -> Mebibytes {
        self.left
    }

    /// What the last transfer between the ends got, or what is expected before there was one, in
    /// MiB/s.
    #[must_use]
    pub fn bandwidth_mib_per_s(&self) -> f64 {
        self.bandwidth_mib_per_s
    }

    /// What the migration of `spec` takes at constant bandwidth, if nothing fails.
    ///
    /// # Errors
    ///
    /// [`SpecError`] if a number makes no sense.
    pub fn run_at(spec: Spec, bandwidth: MegabitsPerSecond) -> Result<Report, SpecError> {
        let mut migration = Self::new(spec, bandwidth)?;
        loop {
            match migration.demand() {
                Demand::Transfer(Mebibytes(mib)) => {
                    migration.finish(mib / mib_per_second(bandwidth));
                }
                Demand::Delay(span) => migration.finish(span.seconds()),
                Demand::Nothing => return Ok(migration.report),
            }
        }
    }

    /// What is to be migrated, and how.
    #[must_use]
    pub fn spec(&self) -> &Spec {
        &self.spec
    }

    /// What is being done.
    #[must_use]
    pub fn stage(&self) -> Stage {
        self.stage
    }

    /// What it took so far: stages that have ended.
    #[must_use]
    pub fn report(&self) -> &Report {
        &self.report
    }

    /// What this stage takes; it may be empty, and is to be finished all the same.
    #[must_use]
    pub fn demand(&self) -> Demand {
        let spec = &self.spec;
        match self.stage {
            Stage::FetchImage => Demand::Transfer(spec.image),
            Stage::Handshake | Stage::HandOver => Demand::Delay(spec.rtt),
            Stage::Round { .. } | Stage::Pull => Demand::Transfer(self.left),
            Stage::Dump => Demand::Delay(spec.dump),
            Stage::Copy if self.report.post_copy => Demand::Transfer(spec.state),
            Stage::Copy => Demand::Transfer(self.left + spec.state),
            Stage::Restore => Demand::Delay(spec.restore),
            Stage::Verify => Demand::Delay(spec.verify),
            Stage::Resume | Stage::RollBack => Demand::Delay(spec.resume),
            Stage::Done | Stage::Aborted { .. } => Demand::Nothing,
        }
    }

    /// Where the container runs during this stage.
    #[must_use]
    pub fn container(&self) -> Container {
        match self.stage {
            Stage::FetchImage | Stage::Handshake | Stage::Round { .. } => Container::AtSource,
            Stage::Verify if self.report.post_copy => {
                Container::AtDestination { speed: Ratio(1.0) }
            }
            Stage::Dump
            | Stage::Copy
            | Stage::HandOver
            | Stage::Restore
            | Stage::Verify
            | Stage::Resume
            | Stage::RollBack => Container::Paused,
            Stage::Pull => Container::AtDestination {
                speed: Ratio(self.speed),
            },
            Stage::Done => Container::AtDestination { speed: Ratio(1.0) },
            Stage::Aborted { lost: true } => Container::Lost,
            Stage::Aborted { lost: false } => Container::AtSource,
        }
    }

    /// Whether the source could still go on with the container if this stage failed.
    #[must_use]
    pub fn way_back(&self) -> bool {
        matches!(self.container(), Container::AtSource | Container::Paused)
    }

    /// Goes on to the next stage, after this one took `elapsed_s` seconds (negative counts as 0).
    /// A migration that has ended stays as it is.
    pub fn finish(&mut self, elapsed_s: f64) {
        let sent = match self.demand() {
            Demand::Transfer(mebibytes) => mebibytes,
            Demand::Delay(_) => Mebibytes(0.0),
            Demand::Nothing => return,
        };
        let elapsed_s = elapsed_s.max(0.0);
        self.account(elapsed_s, sent);
        self.stage = match self.stage {
            Stage::FetchImage => Stage::Handshake,
            Stage::Handshake => self.after_handshake(),
            Stage::Round { number } => self.after_round(number, elapsed_s),
            Stage::Dump => Stage::Copy,
            Stage::Copy => Stage::HandOver,
            Stage::HandOver => Stage::Restore,
            Stage::Restore if self.report.post_copy => Stage::Resume,
            Stage::Restore => Stage::Verify,
            Stage::Verify if self.report.post_copy => Stage::Done,
            Stage::Verify => Stage::Resume,
            Stage::Resume if self.report.post_copy => self.begin_pull(),
            Stage::Resume => Stage::Done,
            Stage::Pull => Stage::Verify,
            Stage::RollBack => Stage::Aborted { lost: false },
            ended @ (Stage::Done | Stage::Aborted { .. }) => ended,
        };
    }

    /// Gives up in this stage, after `elapsed_s` seconds and `sent` of what it was to send: back
    /// to the source, which takes as long as a resume if the container is paused, or lost if there
    /// is no way back or `source_lost`. A migration that has ended stays as it is.
    pub fn abort(&mut self, elapsed_s: f64, sent: Mebibytes, source_lost: bool) {
        if self.demand() == Demand::Nothing {
            return;
        }
        let container = self.container();
        self.account(elapsed_s.max(0.0), Mebibytes(sent.0.max(0.0)));
        self.stage = match container {
            Container::AtSource if !source_lost => Stage::Aborted { lost: false },
            Container::Paused if !source_lost => Stage::RollBack,
            _ => Stage::Aborted { lost: true },
        };
    }

    /// Adds a stage, or the part of it that took place, to the report.
    fn account(&mut self, elapsed_s: f64, sent: Mebibytes) {
        let container = self.container();
        let report = &mut self.report;
        report.total_s += elapsed_s;
        match container {
            Container::Paused => report.downtime_s += elapsed_s,
            Container::AtDestination { speed } => {
                let stalled_s = (1.0 - speed.0) * elapsed_s;
                report.stall_s += stalled_s;
                if self.fault_s > 0.0 {
                    report.remote_faults += stalled_s / self.fault_s;
                }
            }
            Container::AtSource | Container::Lost => {}
        }
        match self.stage {
            Stage::FetchImage => report.fetched += sent,
            Stage::Round { .. } | Stage::Copy | Stage::Pull => {
                report.sent += sent;
                if sent.0 > 0.0 && elapsed_s > 0.0 {
                    self.bandwidth_mib_per_s = sent.0 / elapsed_s;
                }
            }
            _ => {}
        }
    }

    fn after_handshake(&mut self) -> Stage {
        match self.spec.strategy {
            Strategy::StopAndCopy | Strategy::PostCopy => Stage::Dump,
            Strategy::PreCopy(rules) | Strategy::Hybrid(rules) if rules.max_rounds == 0 => {
                self.end_rounds(PreCopyEnd::Rounds)
            }
            Strategy::PreCopy(_) | Strategy::Hybrid(_) => Stage::Round { number: 1 },
        }
    }

    /// The stage after round `number`, which took `elapsed_s`.
    fn after_round(&mut self, number: u32, elapsed_s: f64) -> Stage {
        let copied = self.left;
        self.left = self.spec.dirtied.after(elapsed_s);
        self.report.rounds = number;
        let (Strategy::PreCopy(rules) | Strategy::Hybrid(rules)) = self.spec.strategy else {
            return Stage::Dump;
        };
        match self.end_of_rounds(rules, number, copied) {
            Some(end) => self.end_rounds(end),
            None => Stage::Round { number: number + 1 },
        }
    }

    /// Why rounds end after round `number`, which sent `copied`, if they do.
    fn end_of_rounds(
        &self,
        rules: StopRules,
        number: u32,
        copied: Mebibytes,
    ) -> Option<PreCopyEnd> {
        let Mebibytes(left_mib) = self.left;
        let copy_s = (left_mib + self.spec.state.0) / self.bandwidth_mib_per_s;
        let downtime_s = copy_s + self.spec.fixed_downtime().seconds();
        let over = |limit: Option<f64>, value: f64| limit.is_some_and(|limit| value > limit);
        if left_mib <= 0.0 {
            Some(PreCopyEnd::NothingLeft)
        } else if downtime_s <= rules.downtime_limit.seconds() {
            Some(PreCopyEnd::Fits)
        } else if number >= rules.max_rounds {
            Some(PreCopyEnd::Rounds)
        } else if over(
            rules.max_sent_ratio,
            self.report.sent.0 / self.spec.memory.0,
        ) {
            Some(PreCopyEnd::Sent)
        } else if over(rules.min_gain.map(|gain| 1.0 - gain), left_mib / copied.0) {
            Some(PreCopyEnd::Gain)
        } else {
            None
        }
    }

    /// Pauses the container; a hybrid goes on as a post-copy if too much is left.
    fn end_rounds(&mut self, end: PreCopyEnd) -> Stage {
        self.report.pre_copy_end = Some(end);
        self.report.post_copy = matches!(self.spec.strategy, Strategy::Hybrid(_))
            && !matches!(end, PreCopyEnd::Fits | PreCopyEnd::NothingLeft);
        Stage::Dump
    }

    /// The container runs at the destination, without the pages that are left.
    fn begin_pull(&mut self) -> Stage {
        let stall = stall(
            self.spec.touched,
            self.left,
            self.bandwidth_mib_per_s,
            self.spec.rtt.seconds(),
        );
        self.speed = stall.speed;
        self.fault_s = stall.fault_s;
        Stage::Pull
    }
}

#[cfg(test)]
mod tests;
