//! The fit: a simulated method of moments.
//!
//! For a given cap, the mean of each cell and the coefficient of variation of each application's
//! variant are moved until the replayed lengths have the recorded mean and variance (McFadden, "A method of simulated moments",
//! Econometrica 57(5), 1989; the random values stay the same from step to step). The cap is the one
//! of [`CAPS`] whose replay comes closest to the recorded length of each single task: under
//! processor sharing it alone says how much company on the host slows a task down.

use rayon::prelude::*;
use serde::Serialize;

use super::cells::{Cell, Job};
use super::replay::{Demand, Length, Machine, Replay};

/// Caps that are tried, in vCPUs.
pub const CAPS: [f64; 9] = [0.5, 0.8, 1.0, 1.1, 1.2, 1.3, 1.4, 1.6, 2.0];
/// Steps of the fit for one cap.
const STEPS: usize = 20;
/// Smallest coefficient of variation. Behind rounding no smaller one can be seen: the variance of
/// the length of 160 tasks of two intervals, about 0.3, has a standard error of 0.03, and a
/// coefficient of 0.1 adds 0.04 to it.
const MIN_CV: f64 = 0.1;
/// Largest coefficient of variation.
const MAX_CV: f64 = 2.0;
/// Shortest mean duration, in intervals: a cell whose tasks all end where they start has no other.
const MIN_MEAN: f64 = 0.05;
/// Fewest tasks of which a variance is taken.
const MIN_TASKS: usize = 2;

/// How well a cap explains the recording.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct CapTrial {
    /// The cap, in vCPUs.
    pub cap_vcpus: f64,
    /// Root mean square difference of recorded and replayed durations of single tasks, in s.
    pub rmse_s: f64,
}

/// Recorded moments of a cell.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(crate) struct Moments {
    pub(crate) count: usize,
    /// Mean length, in intervals.
    pub(crate) mean: f64,
    /// Unbiased variance of the length.
    pub(crate) variance: f64,
}

/// Moments of the recorded lengths by cell.
pub(crate) fn recorded(jobs: &[Job], cells: usize) -> Vec<Moments> {
    let mut sums = vec![(0usize, 0.0, 0.0); cells];
    for job in jobs {
        let length = f64::from(job.length);
        let sum = &mut sums[job.cell];
        *sum = (sum.0 + 1, sum.1 + length, sum.2 + length * length);
    }
    sums.into_iter()
        .map(|(count, sum, squares)| {
            let n = count.max(1) as f64;
            let mean = sum / n;
            let spread = (squares / n - mean * mean).max(0.0);
            let unbiased = if count >= MIN_TASKS {
                spread * n / (n - 1.0)
            } else {
                0.0
            };
            Moments {
                count,
                mean,
                variance: unbiased,
            }
        })
        .collect()
}

/// Moments of replayed lengths by cell, over tasks and replications together.
fn replayed(jobs: &[Job], lengths: &[Length], cells: usize) -> Vec<Moments> {
    let mut sums = vec![(0usize, 0.0, 0.0); cells];
    for (job, length) in jobs.iter().zip(lengths) {
        let sum = &mut sums[job.cell];
        let square = length.variance + length.mean * length.mean;
        *sum = (sum.0 + 1, sum.1 + length.mean, sum.2 + square);
    }
    sums.into_iter()
        .map(|(count, sum, squares)| {
            let n = count.max(1) as f64;
            let mean = sum / n;
            Moments {
                count,
                mean,
                variance: (squares / n - mean * mean).max(0.0),
            }
        })
        .collect()
}

/// Demands under which the replay has the recorded moments.
pub(crate) fn demands(replay: &Replay<'_>, cells: &[Cell], machine: Machine) -> Vec<Demand> {
    let targets = recorded(replay.jobs, cells.len());
    let mut demands: Vec<Demand> = targets
        .iter()
        .map(|t| Demand {
            alone_s: t.mean.max(MIN_MEAN) * machine.interval_s,
            cv: 0.3,
        })
        .collect();
    for _ in 0..STEPS {
        let lengths = replay.lengths(&demands, machine);
        let found = replayed(replay.jobs, &lengths, cells.len());
        for ((demand, target), found) in demands.iter_mut().zip(&targets).zip(&found) {
            let ratio = target.mean.max(MIN_MEAN) / found.mean.max(MIN_MEAN);
            demand.alone_s *= ratio.clamp(0.5, 2.0);
        }
        // Cells are sorted, so those of a variant stand together.
        let mut from = 0;
        for members in cells.chunk_by(|a, b| a.same_variant(b)) {
            let range = from..from + members.len();
            from = range.end;
            let (mut excess, mut scale) = (0.0, 0.0);
            for i in range.clone() {
                let n = targets[i].count as f64;
                excess += n * (targets[i].variance - found[i].variance);
                scale += n * (demands[i].alone_s / machine.interval_s).powi(2);
            }
            for demand in &mut demands[range] {
                let square = demand.cv * demand.cv + 0.7 * excess / scale.max(f64::MIN_POSITIVE);
                demand.cv = square.clamp(MIN_CV * MIN_CV, MAX_CV * MAX_CV).sqrt();
            }
        }
    }
    demands
}

/// The best of [`CAPS`] for `jobs`, the demands that go with it, and all trials.
pub(crate) fn fit(
    replay: &Replay<'_>,
    cells: &[Cell],
    machine: Machine,
) -> (Machine, Vec<Demand>, Vec<CapTrial>) {
    let caps: Vec<f64> = CAPS.into_iter().filter(|c| *c <= machine.vcpus).collect();
    let tried: Vec<(CapTrial, Vec<Demand>)> = caps
        .into_par_iter()
        .map(|cap_vcpus| {
            let machine = Machine {
                cap: cap_vcpus,
                ..machine
            };
            let demands = demands(replay, cells, machine);
            let rmse_s = rmse_s(replay.jobs, &replay.lengths(&demands, machine), machine);
            (CapTrial { cap_vcpus, rmse_s }, demands)
        })
        .collect();
    let trials = tried.iter().map(|t| t.0).collect();
    let best = tried
        .into_iter()
        .min_by(|a, b| a.0.rmse_s.total_cmp(&b.0.rmse_s));
    let (cap, demands) = best.map_or_else(
        || (machine.cap, demands(replay, cells, machine)),
        |(trial, demands)| (trial.cap_vcpus, demands),
    );
    (Machine { cap, ..machine }, demands, trials)
}

/// Root mean square difference of recorded and replayed durations, in s.
pub(crate) fn rmse_s(jobs: &[Job], lengths: &[Length], machine: Machine) -> f64 {
    let squares: f64 = jobs
        .iter()
        .zip(lengths)
        .map(|(j, l)| (f64::from(j.length) - l.mean).powi(2))
        .sum();
    (squares / jobs.len().max(1) as f64).sqrt() * machine.interval_s
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn known_demands_are_recovered() {
        // Lengths drawn with a mean of 9 s and a cv of 0.4, two tasks at a time, cap 2: the second
        // task of a pair slows the first down, and the fit must see through it.
        let machine = Machine {
            vcpus: 2.0,
            cap: 2.0,
            interval_s: 5.0,
        };
        let mut jobs: Vec<Job> = (0..2000)
            .map(|i| Job {
                cell: 0,
                host: 0,
                started: (i / 2) * 20,
                length: 0,
            })
            .collect();
        let truth = [Demand {
            alone_s: 9.0,
            cv: 0.4,
        }];
        let lengths = Replay::with(&jobs, 99, 1).lengths(&truth, machine);
        for (job, length) in jobs.iter_mut().zip(&lengths) {
            job.length = (0..100u32)
                .filter(|k| f64::from(*k) + 0.5 < length.mean)
                .map(|_| 1)
                .sum();
        }
        let replay = Replay::new(&jobs);
        let cell = Cell {
            application: "a".into(),
            variant: "v".into(),
            place: 0,
        };
        let found = demands(&replay, &[cell], machine)[0];
        assert!((found.alone_s - 9.0).abs() < 0.3, "{found:?}");
        assert!((found.cv - 0.4).abs() < 0.12, "{found:?}");
    }
}
