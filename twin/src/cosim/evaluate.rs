//! Telemetry run through two twins: one that recalibrates and one that only watches.
//!
//! Both are fitted in the same warm-up. Each prediction is made before its observation is known,
//! so that every figure is out of sample, the time it takes to recalibrate included.

use serde::Serialize;

use super::detector::Alarm;
use super::telemetry::Record;
use super::{Calibration, Comparison, Cosim, CosimError, Mode, Quantity, Settings};
use crate::world::World;

/// What came of it.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Evaluation {
    /// The settings of the twin that recalibrates.
    pub settings: Settings,
    /// Streams that are watched.
    pub streams: usize,
    /// Tests of all streams.
    pub tests: usize,
    /// Time of the change, in s.
    pub change_s: f64,
    /// Time of the last record, in s.
    pub end_s: f64,
    /// Alarms of the twin that recalibrates.
    pub alarms: Vec<Alarm>,
    /// Alarms of the twin that only watches.
    pub watch_alarms: Vec<Alarm>,
    /// From the end of the warm-up to the change, without recalibration.
    pub before_without: Accuracy,
    /// The same with it.
    pub before_with: Accuracy,
    /// From the change on, without recalibration.
    pub after_without: Accuracy,
    /// The same with it.
    pub after_with: Accuracy,
    /// What was learned in the end.
    pub calibration: Calibration,
}

/// How well a part of the telemetry was predicted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub struct Accuracy {
    /// Durations, in s.
    pub duration_s: Errors,
    /// Utilization, as a ratio.
    pub utilization: Errors,
    /// Power, in W, from the observed utilization.
    pub power_w: Errors,
    /// Power, in W, from the tasks.
    pub power_of_tasks_w: Errors,
}

/// Errors of one quantity.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub struct Errors {
    /// Observations.
    pub count: usize,
    /// Mean observation.
    pub observed_mean: f64,
    /// Mean of predicted less observed.
    pub bias: f64,
    /// Mean absolute difference.
    pub mae: f64,
    /// Root mean square difference.
    pub rmse: f64,
}

impl Errors {
    /// Of the comparisons of `quantity`.
    fn of<'a>(comparisons: impl Iterator<Item = &'a Comparison>, quantity: Quantity) -> Self {
        let (mut n, mut observed, mut bias, mut absolute, mut square) = (0, 0.0, 0.0, 0.0, 0.0);
        for c in comparisons.filter(|c| c.quantity == quantity) {
            let difference = c.predicted - c.observed;
            n += 1;
            observed += c.observed;
            bias += difference;
            absolute += difference.abs();
            square += difference * difference;
        }
        let count = f64::max(f64::from(n), 1.0);
        Self {
            count: n as usize,
            observed_mean: observed / count,
            bias: bias / count,
            mae: absolute / count,
            rmse: (square / count).sqrt(),
        }
    }
}

impl Accuracy {
    /// Of the comparisons made at or after `from_s` and before `until_s`.
    #[must_use]
    pub fn of(comparisons: &[Comparison], from_s: f64, until_s: f64) -> Self {
        let part = || {
            comparisons
                .iter()
                .filter(|c| (from_s..until_s).contains(&c.time_s))
        };
        Self {
            duration_s: Errors::of(part(), Quantity::Duration),
            utilization: Errors::of(part(), Quantity::Utilization),
            power_w: Errors::of(part(), Quantity::Power),
            power_of_tasks_w: Errors::of(part(), Quantity::PowerOfTasks),
        }
    }
}

/// Alarms and comparisons of a whole run, and the twin at its end.
#[derive(Clone, Debug)]
pub struct Run {
    /// Alarms in order.
    pub alarms: Vec<Alarm>,
    /// Comparisons in order.
    pub comparisons: Vec<Comparison>,
    /// The twin.
    pub cosim: Cosim,
}

/// Runs `records` through a twin of `world`.
///
/// # Errors
///
/// If a record does not fit the world.
pub fn run(world: &World, records: &[Record], settings: Settings) -> Result<Run, CosimError> {
    let mut cosim = Cosim::new(world, settings)?;
    let (mut alarms, mut comparisons) = (Vec::new(), Vec::new());
    for (i, record) in records.iter().enumerate() {
        let observed = cosim.observe(record).map_err(|source| CosimError::InList {
            number: i + 1,
            source: Box::new(source),
        })?;
        alarms.extend(observed.alarms);
        comparisons.extend(observed.comparisons);
    }
    Ok(Run {
        alarms,
        comparisons,
        cosim,
    })
}

/// Runs `records`, which change at `change_s`, through both twins.
///
/// # Errors
///
/// If a record does not fit the world.
pub fn evaluate(
    world: &World,
    records: &[Record],
    settings: Settings,
    change_s: f64,
) -> Result<Evaluation, CosimError> {
    let with_mode = |mode| run(world, records, Settings { mode, ..settings });
    let (with, without) = rayon::join(|| with_mode(Mode::Recalibrate), || with_mode(Mode::Watch));
    let (with, without) = (with?, without?);
    let began_s = records.first().map_or(0.0, Record::time_s);
    let warm_s = began_s + settings.warmup_s;
    let before = |run: &Run| Accuracy::of(&run.comparisons, warm_s, change_s.max(warm_s));
    let after = |run: &Run| Accuracy::of(&run.comparisons, change_s.max(warm_s), f64::INFINITY);
    Ok(Evaluation {
        settings,
        streams: with.cosim.streams(),
        tests: with.cosim.tests(),
        change_s,
        end_s: with.cosim.now_s(),
        before_without: before(&without),
        before_with: before(&with),
        after_without: after(&without),
        after_with: after(&with),
        calibration: with.cosim.calibration(),
        alarms: with.alarms,
        watch_alarms: without.alarms,
    })
}
