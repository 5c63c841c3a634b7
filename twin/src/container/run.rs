//! A container of a world on its host, at a moment of a run.
//!
//! What a container will demand is hidden, as the work of fragments is. A sampled future
//! ([`ContainerRun::resample`]) therefore reads no step of the trace that has not begun: it goes on
//! from one of the moments of the last [`MEMORY`] steps at which demand was most like the present
//! (nearest-neighbor bootstrap, as for arrivals), and starts there again where it reaches the
//! present. Start and stop are in the world, and known.

use serde::{Deserialize, Serialize};

use super::{CpuRate, CpuWork};
use crate::ids::ContainerId;
use crate::stream;
use crate::units::SimTime;
use crate::world::{ContainerSpec, CpuShare};

/// Steps back that a sampled future is drawn from: a day of five minutes each.
const MEMORY: usize = 288;

/// Moments like the present that one is drawn from.
const ANALOGS: usize = 8;

/// Where a container is in its life.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Stage {
    /// It has not started.
    Before,
    /// It demands CPU.
    Running,
    /// It was stopped, or its demand has ended.
    Over,
}

/// A container at a moment.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub(crate) struct ContainerRun {
    pub(crate) id: ContainerId,
    pub(crate) share: CpuShare,
    pub(crate) stage: Stage,
    /// The step of its demand that it is in, or that the present was found to be like.
    step: u32,
    /// Steps that have begun, from the first.
    known: u32,
    /// In a sampled future: the first and the last of the steps that are gone through again.
    again: Option<(u32, u32)>,
    /// When its demand last changed.
    began: SimTime,
    /// When its demand, or its life, changes next.
    pub(crate) until: SimTime,
    /// What it wants.
    pub(crate) demand: CpuRate,
    /// What it gets.
    pub(crate) served: CpuRate,
    pub(crate) ram_mib: f64,
    /// Whether it holds its memory, without which it gets nothing.
    pub(crate) seated: bool,
    /// What it has wanted so far.
    pub(crate) demanded: CpuWork,
    /// What of that it did not get.
    pub(crate) unmet: CpuWork,
}

impl ContainerRun {
    /// The container as `spec` says, at time `now` of a run.
    pub(crate) fn at(id: ContainerId, spec: &ContainerSpec, now: SimTime) -> Self {
        let mut run = Self {
            id,
            share: spec.share,
            stage: Stage::Before,
            step: 0,
            known: 0,
            again: None,
            began: SimTime::ZERO,
            until: spec.start,
            demand: CpuRate::default(),
            served: CpuRate::default(),
            ram_mib: spec.ram.0,
            seated: false,
            demanded: CpuWork::default(),
            unmet: CpuWork::default(),
        };
        let age = now.since(spec.start);
        let pass = spec.demand.duration();
        if spec.repeat && age > pass {
            // Whole passes are left out; the one under way is gone through.
            run.stage = Stage::Running;
            run.known = run.count(spec);
            let passes = age.0 / pass.0.max(1);
            run.enter(spec, 0, SimTime(spec.start.0 + passes * pass.0));
        }
        run.turn(spec, now);
        run
    }

    /// Goes through the changes that are due at `now`; whether there were any.
    pub(crate) fn turn(&mut self, spec: &ContainerSpec, now: SimTime) -> bool {
        let due = self.until <= now;
        while self.until <= now {
            let at = self.until;
            match self.following(spec) {
                Some(step) if at < spec.stop => self.enter(spec, step, at),
                _ => self.end(),
            }
        }
        due
    }

    fn count(&self, spec: &ContainerSpec) -> u32 {
        u32::try_from(spec.demand.steps().len()).unwrap_or(u32::MAX)
    }

    /// The step after the present one.
    fn following(&self, spec: &ContainerSpec) -> Option<u32> {
        let next = self.step + 1;
        match (self.stage, self.again) {
            (Stage::Before, _) => Some(0),
            (Stage::Over, _) => None,
            (Stage::Running, Some((first, last))) if next > last => Some(first),
            (Stage::Running, None) if next >= self.count(spec) => spec.repeat.then_some(0),
            (Stage::Running, _) => Some(next),
        }
    }

    fn enter(&mut self, spec: &ContainerSpec, step: u32, from: SimTime) {
        self.stage = Stage::Running;
        self.step = step;
        self.known = self.known.max(step + 1);
        self.began = from;
        self.demand = spec.demand.steps()[step as usize].rate;
        self.until = from.after(length(spec, step as usize)).min(spec.stop);
    }

    fn end(&mut self) {
        self.stage = Stage::Over;
        self.demand = CpuRate::default();
        self.served = CpuRate::default();
        self.until = SimTime::NEVER;
    }

    /// Accounts for `span`.
    pub(crate) fn advance(&mut self, span: SimTime) {
        self.demanded += self.demand.over(span);
        self.unmet += self.lacking().over(span);
    }

    /// What it wants and does not get.
    pub(crate) fn lacking(&self) -> CpuRate {
        CpuRate(self.demand.0.saturating_sub(self.served.0))
    }

    /// Draws anew, by `key`, what it will demand.
    pub(crate) fn resample(&mut self, spec: &ContainerSpec, now: SimTime, key: u64) {
        if self.stage != Stage::Running {
            return;
        }
        let last = self.known.saturating_sub(1);
        match self.analog(spec, key) {
            None => {
                self.again = Some((self.step, self.step));
                self.until = spec.stop;
            }
            Some(step) => {
                let periodic = spec.repeat && self.known == self.count(spec);
                self.again = (!periodic).then_some(((step + 1).min(last), last));
                self.step = step;
                let length = length(spec, step as usize);
                // One that did not last as long begins anew.
                let elapsed = now.since(self.began);
                let from = if length > elapsed { self.began } else { now };
                self.until = from.after(length).min(spec.stop);
            }
        }
    }

    /// One of the steps that have begun whose demand was most like the present.
    fn analog(&self, spec: &ContainerSpec, key: u64) -> Option<u32> {
        let steps = spec.demand.steps();
        let known = (self.known as usize).min(steps.len());
        let mut nearest = [(u64::MAX, 0_u32); ANALOGS];
        let mut found = 0;
        for step in (known.saturating_sub(MEMORY)..known).rev() {
            let number = u32::try_from(step).unwrap_or(u32::MAX);
            if number == self.step {
                continue;
            }
            let far = steps[step].rate.0.abs_diff(self.demand.0);
            let place = nearest[..found].partition_point(|&(other, _)| other <= far);
            if place < ANALOGS {
                found = (found + 1).min(ANALOGS);
                nearest[place..found].rotate_right(1);
                nearest[place] = (far, number);
            }
        }
        let drawn = stream::mix(key, u64::from(self.id.0)).checked_rem(found as u64)?;
        Some(nearest[usize::try_from(drawn).unwrap_or(0)].1)
    }
}

/// How long step `step` of the demand lasts.
fn length(spec: &ContainerSpec, step: usize) -> SimTime {
    let steps = spec.demand.steps();
    let from = match step.checked_sub(1) {
        Some(before) => steps[before].until,
        None => SimTime::ZERO,
    };
    steps[step].until.since(from)
}
