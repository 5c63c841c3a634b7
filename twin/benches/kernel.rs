//! The twin beside the least that any event-driven simulation of the same workload does.
//!
//! `kernel` is processor sharing on heaps without any accounting, `apart` the same one host after
//! the other, `twin` the twin with all of its accounts; see `peers/kernel.rs` and
//! `peers/driver.rs`. All get the same tasks, generated beforehand. They run in turn, round after
//! round, in CPU time, so that a disturbance meets all of them; what is printed is the median of
//! the times, and of the ratios within a round.

#[path = "peers/clock.rs"]
mod clock;
#[path = "peers/driver.rs"]
mod driver;
#[path = "peers/kernel.rs"]
mod kernel;
#[path = "peers/tasks.rs"]
mod tasks;

use std::io::Write;

use anyhow::Result;
use twin::workload::Arrival;
use twin::world::World;

use tasks::{Shape, Task};

/// The measured workloads: hosts, tasks, rounds, and runs in a round.
const CASES: [(u32, u32, usize, u32); 2] = [(16, 10_000, 15, 20), (1000, 1_000_000, 5, 1)];
const CORES: u32 = 8;
const SEED: u64 = 1;

/// A workload, ready to be simulated.
struct Case {
    shape: Shape,
    tasks: Vec<Task>,
    arrivals: Vec<Arrival>,
    world: World,
    ends_s: Vec<f64>,
}

impl Case {
    fn new(hosts: u32, tasks: u32) -> Result<Self> {
        let shape = Shape {
            hosts,
            cores: CORES,
            tasks,
            seed: SEED,
        };
        let tasks: Vec<Task> = shape.generate().collect();
        let arrivals = (0..)
            .zip(&tasks)
            .map(|(index, &task)| driver::arrival(shape, index, task))
            .collect();
        Ok(Self {
            shape,
            world: driver::world(shape)?,
            arrivals,
            ends_s: vec![f64::NAN; tasks.len()],
            tasks,
        })
    }

    /// CPU time of one run of each simulator, in s: kernel, apart, twin.
    fn round(&mut self, runs: u32) -> Result<[f64; 3]> {
        Ok([
            mean_s(runs, || {
                kernel::together(self.shape, &self.tasks, &mut self.ends_s);
                Ok(())
            })?,
            mean_s(runs, || {
                kernel::apart(self.shape, &self.tasks, &mut self.ends_s);
                Ok(())
            })?,
            mean_s(runs, || {
                driver::run(&self.world, &self.arrivals, &mut self.ends_s).map(|_| ())
            })?,
        ])
    }
}

/// Mean CPU time of a run, in s.
fn mean_s(runs: u32, mut run: impl FnMut() -> Result<()>) -> Result<f64> {
    let started = clock::cpu_time();
    for _ in 0..runs {
        run()?;
    }
    Ok((clock::cpu_time() - started).as_secs_f64() / f64::from(runs))
}

fn median(values: impl Iterator<Item = f64>) -> f64 {
    let mut values: Vec<f64> = values.collect();
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

fn main() -> Result<()> {
    let mut out = std::io::stdout();
    writeln!(
        out,
        "| hosts | tasks | kernel, ms | apart, ms | twin, ms | apart / kernel | twin / kernel |\n\
         |---|---|---|---|---|---|---|"
    )?;
    for (hosts, tasks, rounds, runs) in CASES {
        let mut case = Case::new(hosts, tasks)?;
        // The first round warms caches and the allocator.
        case.round(1)?;
        let times: Vec<[f64; 3]> = (0..rounds)
            .map(|_| case.round(runs))
            .collect::<Result<_>>()?;
        let [kernel, apart, twin] = [0, 1, 2].map(|i| 1e3 * median(times.iter().map(|t| t[i])));
        let [apart_ratio, twin_ratio] = [1, 2].map(|i| median(times.iter().map(|t| t[i] / t[0])));
        writeln!(
            out,
            "| {hosts} | {tasks} | {kernel:.2} | {apart:.2} | {twin:.2} | {apart_ratio:.2} | {twin_ratio:.2} |"
        )?;
    }
    Ok(())
}
