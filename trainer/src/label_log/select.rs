//! Which decisions of a log are labeled.

use std::fmt;

use anyhow::Result;
use twin::decision_log::{DecisionId, NoSituation, Situation, Situations};
use twin::state::Epoch;
use twin::{State, World, stream};

use super::Args;
use crate::progress::Progress;

/// A state that a decision was taken in.
pub(super) struct Logged {
    pub(super) id: DecisionId,
    /// The policy that decided.
    pub(super) policy: String,
    pub(super) epoch: Epoch,
    pub(super) state: State,
}

/// Decisions that were passed over.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Passed {
    /// Those about other worlds.
    pub other_world: u64,
    /// Those on fleets that the log does not hold.
    pub no_fleet: u64,
    /// Those that cannot be read, or contradict the world.
    pub unreadable: u64,
}

impl fmt::Display for Passed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            other_world,
            no_fleet,
            unreadable,
        } = self;
        write!(
            f,
            "{other_world} decisions about other worlds, {no_fleet} on fleets that the log does \
             not hold, {unreadable} that cannot be read"
        )
    }
}

/// The decisions to label, in the order of the log.
pub(super) struct Selection<'a> {
    world: &'a World,
    situations: Situations<'a>,
    share: f64,
    /// Tells which decisions are chosen.
    key: u64,
    pub(super) passed: Passed,
    /// Why decisions were passed over: the first of each kind.
    reasons: Vec<String>,
}

impl<'a> Selection<'a> {
    pub(super) fn open(args: &Args, world: &'a World) -> Result<Self> {
        let from = args.after.map_or(0, |id| id.0.saturating_add(1));
        Ok(Self {
            world,
            situations: Situations::open(&args.log, from..u64::MAX, world)?,
            share: args.label_share,
            key: stream::mix(1, args.seed),
            passed: Passed::default(),
            reasons: Vec::new(),
        })
    }

    /// The next decision to label; `None` at the end of the log.
    ///
    /// # Errors
    ///
    /// If a segment cannot be read.
    pub(super) fn next_logged(&mut self) -> Result<Option<Logged>> {
        let (share, key) = (self.share, self.key);
        let wanted = |id: DecisionId, epoch| match epoch {
            Epoch::Boundary => true,
            Epoch::Arrival => stream::unit(key, id.0) < share,
            Epoch::End => false,
        };
        while let Some(next) = self.situations.next_situation(wanted)? {
            match next.and_then(|situation| self.logged(situation)) {
                Ok(logged) => return Ok(Some(logged)),
                Err(reason) => self.pass(&reason),
            }
        }
        Ok(None)
    }

    fn logged(&self, situation: Situation) -> Result<Logged, NoSituation> {
        let id = situation.id;
        let state = State::from_view(self.world, &situation.view);
        Ok(Logged {
            id,
            policy: situation.policy.unwrap_or_else(|| "none".to_owned()),
            epoch: situation.view.epoch,
            state: state.map_err(|error| NoSituation::Unreadable {
                id,
                problem: error.to_string(),
            })?,
        })
    }

    fn pass(&mut self, reason: &NoSituation) {
        let count = match reason {
            NoSituation::OtherWorld { .. } => &mut self.passed.other_world,
            NoSituation::NoFleet { .. } => &mut self.passed.no_fleet,
            _ => &mut self.passed.unreadable,
        };
        *count += 1;
        if *count == 1 {
            self.reasons.push(reason.to_string());
        }
    }

    /// Says why decisions were passed over, and what of the log is damaged.
    pub(super) fn tell(&self, progress: &Progress) {
        for reason in &self.reasons {
            progress.say(&format!(
                "label-log: passed over, as others of its kind: {reason}"
            ));
        }
        for damage in self.situations.reader().damage() {
            progress.say(&format!("label-log: {damage}"));
        }
    }

    /// Bytes of the log that were read.
    pub(super) fn bytes(&self) -> u64 {
        self.situations.reader().bytes()
    }

    /// Bytes of the log that are to be read.
    pub(super) fn bytes_ahead(&self) -> Result<u64> {
        Ok(self.situations.reader().bytes_ahead()?)
    }
}
