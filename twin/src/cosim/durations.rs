//! How long tasks take: the coefficients of `o + f g a / s`, estimated together.
//!
//! The residual of a task moves the overhead `o` of all tasks, the factor `f` of its variant and the
//! slowness `g` of its host, each by its share of the residual's variance ([`Estimate`]). The noise
//! is the spread of the work and, twice, the rounding of times (a step of `q` adds `q² / 12` at
//! each end), times a factor that is found for each variant in the warm-up.

use std::collections::BTreeMap;

use super::calibration::WorkCalibration;
use super::detector::CUT;
use super::error::CosimError;
use super::machine;
use super::model::{Alone, Model};
use super::recursive::{Estimate, Spread};
use super::telemetry::TaskRecord;

/// Standard error of the overhead before the first observation, in s.
const OVERHEAD_PRIOR_S: f64 = 1.0;
/// The same of a factor of work.
const SCALE_PRIOR: f64 = 0.3;
/// Standard error of the overhead after an alarm, in s.
const OVERHEAD_OPEN_S: f64 = 2.0;
/// The same of a factor of work.
const SCALE_OPEN: f64 = 0.4;
/// The most that forgetting opens the overhead, in s.
const OVERHEAD_DRIFT_S: f64 = 0.2;
/// The most that forgetting opens a factor of work.
const SCALE_DRIFT: f64 = 0.05;
/// Forgetting a task, for what all tasks share.
const FORGETTING_ALL: f64 = 0.999;
/// Forgetting a task, for what tasks of a variant share.
const FORGETTING_VARIANT: f64 = 0.99;
/// Observations that the prior of a variance is worth.
const SPREAD_PRIOR: f64 = 10.0;
/// The shortest standard deviation of a duration, in s.
const LEAST_DEVIATION_S: f64 = 1e-3;

/// What an observation may change.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Learning {
    /// Coefficients and noise.
    Fit,
    /// Coefficients, cautiously.
    Follow,
    /// Nothing.
    Stopped,
}

/// The coefficients of durations, but for the slowness of hosts.
#[derive(Clone, Debug)]
pub(crate) struct Durations {
    /// Time that every task takes beside its work, in s.
    pub(crate) overhead: Estimate,
    work: BTreeMap<(String, String), Work>,
    resolution_s: f64,
}

/// What the tasks of a variant have in common.
#[derive(Clone, Copy, Debug)]
struct Work {
    scale: Estimate,
    /// Variance over that which the world and rounding give.
    spread: Spread,
}

impl Durations {
    pub(crate) fn new(model: &Model, resolution_s: f64) -> Self {
        let work = Work {
            scale: Estimate::new(1.0, SCALE_PRIOR),
            spread: Spread::new(1.0, SPREAD_PRIOR),
        };
        Self {
            overhead: Estimate::new(0.0, OVERHEAD_PRIOR_S),
            work: model
                .variants()
                .map(|(a, v)| ((a.to_owned(), v.to_owned()), work))
                .collect(),
            resolution_s,
        }
    }

    fn work_of(&self, task: &TaskRecord) -> Result<Work, CosimError> {
        let key = (task.application.clone(), task.variant.clone());
        self.work.get(&key).copied().ok_or(CosimError::Unknown {
            kind: "variant",
            name: key.1,
            hint: String::new(),
        })
    }

    /// How long `task` is expected to take on a host of `slowness` with the share `share` of its
    /// speed, in s.
    pub(crate) fn predict_s(
        &self,
        task: &TaskRecord,
        alone: Alone,
        slowness: Estimate,
        share: f64,
    ) -> Result<f64, CosimError> {
        let scale = self.work_of(task)?.scale.value;
        let own_s = scale * slowness.value * alone.mean_s / share;
        Ok((self.overhead.value + own_s).max(0.0))
    }

    /// Takes what `task` took; the residual in standard deviations.
    pub(crate) fn observe(
        &mut self,
        task: &TaskRecord,
        alone: Alone,
        slowness: &mut Estimate,
        share: f64,
        learning: Learning,
    ) -> Result<f64, CosimError> {
        let residual_s = task.duration_s() - self.predict_s(task, alone, *slowness, share)?;
        let work = self.work_of(task)?;
        let stretched_s = alone.mean_s / share;
        let by_scale = slowness.value * stretched_s;
        let by_slowness = work.scale.value * stretched_s;
        let own = (alone.deviation_s / share * work.scale.value * slowness.value).powi(2);
        let base = (own + self.resolution_s.powi(2) / 6.0).max(LEAST_DEVIATION_S.powi(2));
        let total = base * work.spread.variance()
            + self.overhead.variance
            + by_scale.powi(2) * work.scale.variance
            + by_slowness.powi(2) * slowness.variance;
        let value = residual_s / total.sqrt();
        if learning == Learning::Stopped {
            return Ok(value);
        }
        let fits = learning == Learning::Fit;
        let step_s = value.clamp(-CUT, CUT) * total.sqrt();
        let most = if fits {
            OVERHEAD_PRIOR_S
        } else {
            OVERHEAD_DRIFT_S
        };
        self.overhead
            .update(step_s, 1.0, total, FORGETTING_ALL, most);
        machine::update_slowness(slowness, step_s, by_slowness, total, fits);
        let key = (task.application.clone(), task.variant.clone());
        if let Some(work) = self.work.get_mut(&key) {
            work.scale
                .update(step_s, by_scale, total, FORGETTING_VARIANT, SCALE_DRIFT);
            if fits {
                work.spread.observe(step_s / base.sqrt());
            }
        }
        Ok(value)
    }

    /// Lets the overhead learn anew.
    pub(crate) fn open_overhead(&mut self) {
        self.overhead.open(OVERHEAD_OPEN_S);
    }

    /// Lets the factor of a variant, or of all variants of an application, learn anew.
    pub(crate) fn open_work(&mut self, application: &str, variant: Option<&String>) {
        for ((a, v), work) in &mut self.work {
            if a == application && variant.is_none_or(|variant| v == variant) {
                work.scale.open(SCALE_OPEN);
            }
        }
    }

    pub(crate) fn calibration(&self) -> Vec<WorkCalibration> {
        self.work
            .iter()
            .map(|((application, variant), work)| WorkCalibration {
                application: application.clone(),
                variant: variant.clone(),
                scale: work.scale.value,
                scale_error: work.scale.standard_error(),
            })
            .collect()
    }
}
