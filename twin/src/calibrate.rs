//! Calibration: the demand of fragments, from a recording of a real run.
//!
//! Three steps. [`cells`] groups the recorded tasks by application, variant and place in the
//! variant's chain. [`fit`] finds, for each group, the mean and the coefficient of variation of a
//! lognormal demand under which the recorded placements, replayed under processor sharing
//! (module `replay`), have the recorded mean and variance of durations; and the parallelism cap with
//! which single tasks come out best. [`table`] turns demands into the applications of a world.
//!
//! Recorded times are whole intervals. A task that starts at a uniformly random moment of an
//! interval and takes `d` intervals is recorded with `floor(phase + d)`, whose mean is `d` and
//! whose variance has up to ¼ added (the classical result on dithered rounding: Schuchman, "Dither
//! signals and their effect on quantization noise", IEEE Trans. Commun. Tech. 12, 1964). The replay
//! rounds in the same way, so both moments are compared like with like. If starts were not spread
//! over the interval but always at one moment of it, all means would be off by the same amount, at
//! most half an interval either way; whole intervals cannot tell.
//!
//! The accuracy of a fit is reported on the window that it was made from and on intervals that a fit
//! never saw, in two ways: fitted on the first half of the window and tested on the second, where
//! any drift of the recorded system counts as error; and fitted and tested on alternating stretches
//! of 50 intervals, where it does not.
//!
//! Left out: differences between hosts, change of demand over time, memory and network.

pub mod cells;
pub mod command;
pub mod cpu;
pub mod fit;
pub mod inputs;
mod replay;
pub mod report;
pub mod table;

use std::collections::BTreeMap;

use serde::Serialize;
use thiserror::Error;

use self::cells::{Cell, Job, Shape};
use self::cpu::CpuUse;
use self::fit::CapTrial;
use self::inputs::Inputs;
use self::replay::{Demand, Machine, Replay};
use crate::recording::{Recording, RecordingError};

/// Length of the stretches that are fitted and tested in turn, in intervals.
const STRETCH: u32 = 50;

/// Why a calibration failed.
#[derive(Debug, Error)]
pub enum CalibrateError {
    /// The recording could not be read.
    #[error(transparent)]
    Recording(#[from] RecordingError),
    /// The inputs could not be read.
    #[error("{path}: cannot read: {source}")]
    InputsRead {
        /// The file.
        path: String,
        /// The reason.
        source: std::io::Error,
    },
    /// The inputs are wrong.
    #[error("{origin}: {problem}")]
    Inputs {
        /// The file.
        origin: String,
        /// The field and what is wrong with it.
        problem: String,
    },
    /// Requests of a variant differ in their number of tasks.
    #[error(
        "request {request}: {count} tasks, numbered from 0 without gaps as in other requests of \
         variant \"{variant}\", are expected; complete the request or leave it out"
    )]
    Tasks {
        /// The request.
        request: u32,
        /// Its variant.
        variant: String,
        /// Its number of tasks.
        count: usize,
    },
    /// The interval length is not a positive number.
    #[error("--interval-s: must be finite and above zero, found {0}")]
    Interval(f64),
    /// There are too few tasks in the window.
    #[error(
        "window {from}..{until}: its first half and every other stretch need started tasks of every \
         application and variant; \"{application}\" \"{variant}\" has none in one of them; choose a \
         longer window"
    )]
    Window {
        /// First interval.
        from: u32,
        /// First interval after it.
        until: u32,
        /// An application without tasks.
        application: String,
        /// Its variant.
        variant: String,
    },
    /// The inputs lack something that was recorded.
    #[error("the recording has {kind} \"{name}\", which the inputs do not list{hint}")]
    NoInput {
        /// Application or variant.
        kind: &'static str,
        /// Its name.
        name: String,
        /// A suggestion, or nothing.
        hint: String,
    },
    /// The recording lacks something that the inputs list.
    #[error(
        "the inputs list application \"{application}\" with variant \"{variant}\", of which the \
         window has no task"
    )]
    NotRecorded {
        /// The application.
        application: String,
        /// The variant.
        variant: String,
    },
}

/// What a calibration found.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Calibration {
    /// Tasks that started in these intervals were fitted: first, and first after them.
    pub window: (u32, u32),
    /// Length of an interval, in s.
    pub interval_s: f64,
    /// The most virtual CPUs that a task can use.
    pub cap_vcpus: f64,
    /// How well each cap explains the recording.
    pub caps: Vec<CapTrial>,
    /// How the tasks of each variant follow each other.
    pub shapes: BTreeMap<String, Shape>,
    /// The demands found.
    pub demands: Vec<CellDemand>,
    /// Recorded and replayed durations in the window.
    pub fitted: Comparison,
    /// The same for a fit on the first half of the window, tested on the second.
    pub halves: Comparison,
    /// The same for a fit on every other stretch of the window, tested on the stretches between.
    pub stretches: Comparison,
    /// Recorded CPU use.
    pub cpu: CpuUse,
}

/// The demand of a cell.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct CellDemand {
    /// The cell.
    #[serde(flatten)]
    pub cell: Cell,
    /// Tasks in the window.
    pub tasks: usize,
    /// Mean duration on an otherwise idle host, in s.
    pub alone_s: f64,
    /// Mean work, in million instructions.
    pub work_mi: f64,
    /// Standard deviation over mean, of both.
    pub cv: f64,
}

/// Recorded against replayed durations.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Comparison {
    /// The cap of the fit, in vCPUs.
    pub cap_vcpus: f64,
    /// Tasks compared.
    pub tasks: usize,
    /// Root mean square difference of single tasks, in s.
    pub rmse_s: f64,
    /// Mean absolute difference of single tasks, in s.
    pub mae_s: f64,
    /// Mean of replayed less recorded duration, in s.
    pub bias_s: f64,
    /// What the root mean square difference would be if the model were exact, in s: the spread of
    /// demand and rounding that no model can foresee.
    pub noise_rmse_s: f64,
    /// By application and variant.
    pub rows: Vec<ComparisonRow>,
    /// By number of other tasks on the host when a task starts.
    pub by_company: Vec<GroupRow>,
    /// By time of the start: first interval of each stretch of 100.
    pub by_time: Vec<GroupRow>,
}

/// Recorded against replayed mean duration of an application's variant.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct ComparisonRow {
    /// Name of the application.
    pub application: String,
    /// Name of the variant.
    pub variant: String,
    /// Tasks.
    pub tasks: usize,
    /// Mean recorded duration of a task, in s.
    pub recorded_s: f64,
    /// Its standard error, in s: the noise floor of the comparison.
    pub standard_error_s: f64,
    /// Mean replayed duration, in s.
    pub predicted_s: f64,
    /// Replayed less recorded, in percent of recorded.
    pub difference_percent: f64,
}

/// Recorded against replayed mean duration of a group of tasks.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct GroupRow {
    /// What the group has in common.
    pub key: u32,
    /// Tasks.
    pub tasks: usize,
    /// Mean recorded duration, in s.
    pub recorded_s: f64,
    /// Mean replayed duration, in s.
    pub predicted_s: f64,
}

/// Fits the tasks of `recording` that started in the intervals `window` (all if `None`).
///
/// # Errors
///
/// If the requests of a variant differ in shape, the window is too short or `interval_s` is not a
/// positive number.
pub fn calibrate(
    recording: &Recording,
    inputs: &Inputs,
    interval_s: f64,
    window: Option<(u32, u32)>,
) -> Result<Calibration, CalibrateError> {
    if !(interval_s.is_finite() && interval_s > 0.0) {
        return Err(CalibrateError::Interval(interval_s));
    }
    let window = window.unwrap_or_else(|| span(recording));
    let shapes = cells::shapes(recording)?;
    let cells = cells::cells(recording, &shapes);
    let machine = Machine {
        vcpus: inputs.vcpus,
        cap: inputs.vcpus,
        interval_s,
    };
    let jobs_in = |takes: &dyn Fn(u32) -> bool| {
        cells::jobs(recording, &shapes, &cells, |i| {
            (window.0..window.1).contains(&i) && takes(i)
        })
    };
    let split = |fitted: &dyn Fn(u32) -> bool| {
        let (seen, unseen) = (jobs_in(fitted), jobs_in(&|i| !fitted(i)));
        complete(&seen, &cells, window)?;
        let (machine, demands, _) = fit::fit(&Replay::new(&seen), &cells, machine);
        Ok::<_, CalibrateError>(compare(&unseen, &cells, &demands, machine))
    };
    let middle = window.0 + window.1.saturating_sub(window.0) / 2;
    let halves = split(&|i| i < middle)?;
    let stretches = split(&|i| ((i - window.0) / STRETCH).is_multiple_of(2))?;

    let all = jobs_in(&|_| true);
    let (machine, demands, caps) = fit::fit(&Replay::new(&all), &cells, machine);
    let fitted = compare(&all, &cells, &demands, machine);
    let moments = fit::recorded(&all, cells.len());
    let served = machine.cap.min(machine.vcpus);
    let modeled_vcpu_s: f64 = all.iter().map(|j| demands[j.cell].alone_s * served).sum();
    Ok(Calibration {
        window,
        interval_s,
        cap_vcpus: machine.cap,
        caps,
        shapes,
        demands: cells
            .iter()
            .zip(&demands)
            .zip(&moments)
            .map(|((cell, demand), moments)| CellDemand {
                cell: cell.clone(),
                tasks: moments.count,
                alone_s: demand.alone_s,
                work_mi: demand.alone_s * served * inputs.mips_per_vcpu,
                cv: demand.cv,
            })
            .collect(),
        fitted,
        halves,
        stretches,
        cpu: cpu::cpu_use(recording, window, inputs.vcpus, interval_s, modeled_vcpu_s),
    })
}

/// An error unless each of `cells` has a job.
fn complete(jobs: &[Job], cells: &[Cell], (from, until): (u32, u32)) -> Result<(), CalibrateError> {
    match (0..cells.len()).find(|c| jobs.iter().all(|j| j.cell != *c)) {
        None => Ok(()),
        Some(cell) => Err(CalibrateError::Window {
            from,
            until,
            application: cells[cell].application.clone(),
            variant: cells[cell].variant.clone(),
        }),
    }
}

/// The intervals from the first start of a task to the last.
fn span(recording: &Recording) -> (u32, u32) {
    let starts = || recording.tasks.iter().map(|t| t.started_interval);
    (
        starts().min().unwrap_or(0),
        starts().max().map_or(0, |last| last + 1),
    )
}

/// Recorded and replayed durations of `jobs`.
fn compare(jobs: &[Job], cells: &[Cell], demands: &[Demand], machine: Machine) -> Comparison {
    let lengths = Replay::new(jobs).lengths(demands, machine);
    let n = jobs.len().max(1) as f64;
    let (mut absolute, mut bias, mut noise) = (0.0, 0.0, 0.0);
    let mut groups: BTreeMap<(&str, &str), Vec<(f64, f64)>> = BTreeMap::new();
    let mut company: BTreeMap<u32, Vec<(f64, f64)>> = BTreeMap::new();
    let mut time: BTreeMap<u32, Vec<(f64, f64)>> = BTreeMap::new();
    for (i, (job, length)) in jobs.iter().zip(&lengths).enumerate() {
        let recorded = f64::from(job.length) * machine.interval_s;
        let predicted = length.mean * machine.interval_s;
        absolute += (predicted - recorded).abs();
        bias += predicted - recorded;
        noise += length.variance * machine.interval_s.powi(2);
        let cell = &cells[job.cell];
        let pair = (recorded, predicted);
        groups
            .entry((&cell.application, &cell.variant))
            .or_default()
            .push(pair);
        company.entry(others(jobs, i)).or_default().push(pair);
        time.entry(job.started / 100 * 100).or_default().push(pair);
    }
    Comparison {
        cap_vcpus: machine.cap,
        tasks: jobs.len(),
        rmse_s: fit::rmse_s(jobs, &lengths, machine),
        mae_s: absolute / n,
        bias_s: bias / n,
        noise_rmse_s: (noise / n).sqrt(),
        rows: groups
            .into_iter()
            .map(|(names, pairs)| comparison_row(names, &pairs))
            .collect(),
        by_company: group_rows(company),
        by_time: group_rows(time),
    }
}

fn group_rows(groups: BTreeMap<u32, Vec<(f64, f64)>>) -> Vec<GroupRow> {
    groups
        .into_iter()
        .map(|(key, pairs)| {
            let (recorded_s, predicted_s) = means(&pairs);
            GroupRow {
                key,
                tasks: pairs.len(),
                recorded_s,
                predicted_s,
            }
        })
        .collect()
}

/// Other jobs recorded on the host of job `i` in the interval in which it starts.
fn others(jobs: &[Job], i: usize) -> u32 {
    let job = jobs[i];
    let from = jobs.partition_point(|j| j.host < job.host);
    jobs[from..]
        .iter()
        .take_while(|j| j.host == job.host && j.started <= job.started)
        .map(|j| u32::from(j.started + j.length >= job.started))
        .sum::<u32>()
        .saturating_sub(1)
}

fn means(pairs: &[(f64, f64)]) -> (f64, f64) {
    let n = pairs.len().max(1) as f64;
    (
        pairs.iter().map(|p| p.0).sum::<f64>() / n,
        pairs.iter().map(|p| p.1).sum::<f64>() / n,
    )
}

fn comparison_row((application, variant): (&str, &str), pairs: &[(f64, f64)]) -> ComparisonRow {
    let n = pairs.len() as f64;
    let (recorded_s, predicted_s) = means(pairs);
    let squares: f64 = pairs.iter().map(|p| (p.0 - recorded_s).powi(2)).sum();
    ComparisonRow {
        application: application.into(),
        variant: variant.into(),
        tasks: pairs.len(),
        recorded_s,
        standard_error_s: (squares / (n - 1.0).max(1.0) / n).sqrt(),
        predicted_s,
        difference_percent: (predicted_s / recorded_s - 1.0) * 100.0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::world::embedded;

    fn testbed(window: Option<(u32, u32)>) -> Result<Calibration, CalibrateError> {
        calibrate(&Recording::embedded()?, &Inputs::embedded()?, 5.0, window)
    }

    #[test]
    fn the_table_of_the_embedded_world_is_the_output() {
        let calibration = testbed(None).expect("the embedded recording can be fitted");
        let inputs = Inputs::embedded().expect("the embedded inputs are right");
        let applications =
            table::applications(&calibration, &inputs).expect("the inputs list what was recorded");
        let world = embedded::find(embedded::WORLDS, "scinet-16").expect("an embedded world");
        let (_, rest) = world
            .split_once(table::BEGIN)
            .expect("the marker before the table");
        let (committed, _) = rest
            .split_once(table::END)
            .expect("the marker after the table");
        assert_eq!(
            table::to_toml(&applications).trim(),
            committed.trim(),
            "put the output of `twin calibrate --format toml` between the markers of \
             twin/worlds/scinet-16.toml"
        );
    }

    #[test]
    fn the_fit_is_as_good_as_noise_allows() {
        let calibration = testbed(None).expect("the embedded recording can be fitted");
        assert_eq!(calibration.shapes["layer"], Shape::Chain(2));
        assert_eq!(calibration.shapes["semantic"], Shape::Parallel(4));
        assert_eq!(calibration.shapes["compression"], Shape::Chain(1));
        let fitted = &calibration.fitted;
        assert_eq!(fitted.tasks, 1882);
        assert!(
            fitted.rmse_s < 1.1 * fitted.noise_rmse_s,
            "{}",
            fitted.rmse_s
        );
        for row in &fitted.rows {
            let difference = (row.predicted_s - row.recorded_s).abs();
            assert!(difference < row.standard_error_s / 2.0, "{row:?}");
        }
        let unseen = &calibration.stretches;
        assert!(
            unseen.rmse_s < 1.1 * unseen.noise_rmse_s,
            "{}",
            unseen.rmse_s
        );
    }

    #[test]
    fn errors_say_what_to_do() {
        let short = testbed(Some((0, 10)))
            .expect_err("ten intervals are too few")
            .to_string();
        assert!(short.contains("choose a longer window"), "{short}");
        let wrong = calibrate(
            &Recording::embedded().expect("the embedded files are right"),
            &Inputs::embedded().expect("the embedded inputs are right"),
            0.0,
            None,
        );
        let message = wrong.expect_err("an interval has a length").to_string();
        assert_eq!(
            message,
            "--interval-s: must be finite and above zero, found 0"
        );
    }

    #[test]
    fn inputs_must_list_what_was_recorded() {
        let calibration = testbed(None).expect("the embedded recording can be fitted");
        let mut inputs = Inputs::embedded().expect("the embedded inputs are right");
        inputs.applications[0].name = "blurr".into();
        let error = table::applications(&calibration, &inputs).expect_err("blur is missing");
        assert_eq!(
            error.to_string(),
            "the recording has application \"blur\", which the inputs do not list, did you mean \
             \"blurr\"?"
        );
    }
}
