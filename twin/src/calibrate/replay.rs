//! Recorded placements run again under processor sharing, with demands drawn anew.
//!
//! A task starts on its recorded host at a uniformly random moment of its recorded interval and
//! needs `alone · min(cap, vcpus)` vCPU-seconds, where `alone` is its duration on an otherwise
//! idle host. The host serves `n` tasks at `min(cap, vcpus / n)` vCPUs each, as the twin does.
//! The replayed length is what a recorder would have noted: the interval in which the task ends
//! less the one in which it starts. Rounding is therefore simulated rather than corrected for.
//!
//! Left out: tasks that started before the first job and still ran.

use statrs::distribution::{ContinuousCDF, Normal};

use super::cells::Job;
use crate::stream;

/// Replications of each replay.
pub(crate) const REPLICATIONS: usize = 48;
/// Key of the random values of replays.
const KEY: u64 = 0x5ca1_ab1e;

/// Demand of a cell.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Demand {
    /// Mean duration on an otherwise idle host, in s.
    pub(crate) alone_s: f64,
    /// Standard deviation over mean.
    pub(crate) cv: f64,
}

/// What the tasks run on.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Machine {
    /// Virtual CPUs of a host.
    pub(crate) vcpus: f64,
    /// The most virtual CPUs that a task can use.
    pub(crate) cap: f64,
    /// Length of an interval, in s.
    pub(crate) interval_s: f64,
}

/// Mean and variance over the replications of a job's length, in intervals.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(crate) struct Length {
    pub(crate) mean: f64,
    pub(crate) variance: f64,
}

/// Jobs with the random values of all their replications (common random numbers).
pub(crate) struct Replay<'a> {
    pub(crate) jobs: &'a [Job],
    /// Standard normal values, replication by replication.
    normals: Vec<f64>,
    /// Parts of an interval between its start and that of the job, replication by replication.
    phases: Vec<f64>,
    replications: usize,
}

impl<'a> Replay<'a> {
    /// Prepares replays of `jobs`, sorted by host and start.
    pub(crate) fn new(jobs: &'a [Job]) -> Self {
        Self::with(jobs, KEY, REPLICATIONS)
    }

    /// As [`Replay::new`], with random values derived from `key`.
    pub(crate) fn with(jobs: &'a [Job], key: u64, replications: usize) -> Self {
        let normal = Normal::standard();
        let mut normals = Vec::with_capacity(jobs.len() * replications);
        let mut phases = Vec::with_capacity(jobs.len() * replications);
        for replication in 0..replications as u64 {
            for (i, job) in jobs.iter().enumerate() {
                let of_job = stream::mix(key, i as u64);
                normals.push(normal.inverse_cdf(stream::unit(of_job, replication)));
                // Tasks that one decision starts on a host start together.
                let of_start = stream::mix(key ^ u64::from(job.host), u64::from(job.started));
                phases.push(stream::unit(!of_start, replication));
            }
        }
        Self {
            jobs,
            normals,
            phases,
            replications,
        }
    }

    /// The lengths of all jobs under `demands`, by position of the cell.
    pub(crate) fn lengths(&self, demands: &[Demand], machine: Machine) -> Vec<Length> {
        let n = self.jobs.len();
        let logs: Vec<(f64, f64)> = demands.iter().map(|d| log_parameters(*d)).collect();
        let mut sums = vec![(0.0, 0.0); n];
        let mut needs = vec![0.0; n];
        for replication in 0..self.replications {
            let at = replication * n;
            let served = machine.cap.min(machine.vcpus);
            for (i, job) in self.jobs.iter().enumerate() {
                let (location, scale) = logs[job.cell];
                needs[i] = (location + scale * self.normals[at + i]).exp() * served;
            }
            let mut from = 0;
            while from < n {
                let host = self.jobs[from].host;
                let until = from + self.jobs[from..].partition_point(|j| j.host == host);
                let on_host = from..until;
                run_host(
                    &self.jobs[on_host.clone()],
                    &needs[on_host.clone()],
                    &self.phases[at + from..at + until],
                    machine,
                    &mut sums[on_host],
                );
                from = until;
            }
        }
        let count = self.replications as f64;
        sums.into_iter()
            .map(|(sum, squares): (f64, f64)| {
                let mean = sum / count;
                Length {
                    mean,
                    variance: (squares / count - mean * mean).max(0.0),
                }
            })
            .collect()
    }
}

/// Location and scale of the logarithm of a lognormal variable.
fn log_parameters(demand: Demand) -> (f64, f64) {
    let variance = (demand.cv * demand.cv).ln_1p();
    (demand.alone_s.ln() - variance / 2.0, variance.sqrt())
}

/// Runs one host once and adds each job's length and its square to `sums`.
fn run_host(
    jobs: &[Job],
    needs: &[f64],
    phases: &[f64],
    machine: Machine,
    sums: &mut [(f64, f64)],
) {
    let mut active: Vec<(f64, usize)> = Vec::new();
    let mut next = 0;
    let mut now = 0.0;
    loop {
        let rate = machine.cap.min(machine.vcpus / active.len().max(1) as f64);
        let first = (0..active.len()).min_by(|&a, &b| active[a].0.total_cmp(&active[b].0));
        let end = first.map_or(f64::INFINITY, |a| now + active[a].0 / rate);
        let start = jobs.get(next).map_or(f64::INFINITY, |j| {
            (f64::from(j.started) + phases[next]) * machine.interval_s
        });
        let (then, ended) = if start <= end {
            (start, None)
        } else {
            (end, first)
        };
        if then.is_infinite() {
            return;
        }
        for (left, _) in &mut active {
            *left -= (then - now) * rate;
        }
        now = then;
        if let Some(a) = ended {
            let (_, job) = active.swap_remove(a);
            let length = (now / machine.interval_s).floor() - f64::from(jobs[job].started);
            sums[job].0 += length;
            sums[job].1 += length * length;
        } else {
            active.push((needs[next], next));
            next += 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MACHINE: Machine = Machine {
        vcpus: 2.0,
        cap: 1.0,
        interval_s: 5.0,
    };

    fn mean_of(jobs: &[Job], alone_s: f64, machine: Machine) -> f64 {
        let demands = [Demand { alone_s, cv: 0.0 }];
        let lengths = Replay::new(jobs).lengths(&demands, machine);
        lengths.iter().map(|l| l.mean).sum::<f64>() / lengths.len() as f64
    }

    #[test]
    fn rounding_keeps_the_mean() {
        // Alone for 7 s: floor(phase + 1.4) is 1 with probability 0.6 and 2 with 0.4.
        let jobs: Vec<Job> = (0..200)
            .map(|i| Job {
                cell: 0,
                host: 0,
                started: i * 10,
                length: 0,
            })
            .collect();
        let mean = mean_of(&jobs, 7.0, MACHINE);
        assert!((mean - 1.4).abs() < 0.02, "{mean}");
    }

    #[test]
    fn tasks_share_the_host() {
        // Four together on two vCPUs get half a vCPU each and take 20 s instead of 10 s.
        let jobs: Vec<Job> = (0..800)
            .map(|i| Job {
                cell: 0,
                host: 0,
                started: (i / 4) * 10,
                length: 0,
            })
            .collect();
        let mean = mean_of(&jobs, 10.0, MACHINE);
        assert!((mean - 4.0).abs() < 0.02, "{mean}");
        // Two together get one vCPU each, as alone.
        let jobs: Vec<Job> = (0..400)
            .map(|i| Job {
                cell: 0,
                host: 0,
                started: (i / 2) * 10,
                length: 0,
            })
            .collect();
        let mean = mean_of(&jobs, 10.0, MACHINE);
        assert!((mean - 2.0).abs() < 0.02, "{mean}");
    }
}
