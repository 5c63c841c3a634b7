//! The workload that every simulator is given: Poisson arrivals of one-core tasks with
//! exponential work, dealt to equal hosts in turn.
//!
//! Task `i` goes to host `i mod hosts`. Its work and the gap before it are quantiles of values
//! that are hashed from its key, which is what the twin does with a request; so the twin draws
//! the very works that the others read.

use twin::distribution::Distribution;
use twin::stream;

/// Share of the fleet's cores that the arrivals keep busy.
pub(crate) const LOAD: f64 = 0.9;
/// Mean work of a task, in s on one core.
pub(crate) const MEAN_WORK_S: f64 = 1.0;
/// Part of a task's key for its work: the twin's part for the first fragment of a request.
const WORK_PART: u64 = 0;
/// Part of a task's key for the gap before it.
const GAP_PART: u64 = 1;

/// How large the workload is, and the seed that it is drawn from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Shape {
    pub(crate) hosts: u32,
    pub(crate) cores: u32,
    pub(crate) tasks: u32,
    pub(crate) seed: u64,
}

/// One task.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Task {
    /// When it arrives, in whole nanoseconds.
    pub(crate) arrival_ns: u64,
    /// How long it takes on a core of its own, in s.
    pub(crate) work_s: f64,
}

impl Shape {
    /// The key of the random values of task `index`.
    pub(crate) fn key(self, index: u32) -> u64 {
        stream::mix(self.seed, u64::from(index))
    }

    /// The tasks, by arrival.
    pub(crate) fn generate(self) -> impl Iterator<Item = Task> {
        let rate_per_s = LOAD * f64::from(self.hosts) * f64::from(self.cores) / MEAN_WORK_S;
        let gap_ns = Distribution::Exponential {
            mean: twin::units::NANOS_PER_SECOND / rate_per_s,
        };
        let work_s = Distribution::Exponential { mean: MEAN_WORK_S };
        let mut arrival_ns = 0;
        (0..self.tasks).map(move |index| {
            let key = self.key(index);
            arrival_ns += whole(gap_ns.quantile(stream::unit(key, GAP_PART)));
            Task {
                arrival_ns,
                work_s: work_s.quantile(stream::unit(key, WORK_PART)),
            }
        })
    }
}

#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "a gap is not negative and far below 2^53 ns"
)]
fn whole(nanoseconds: f64) -> u64 {
    nanoseconds.round() as u64
}
