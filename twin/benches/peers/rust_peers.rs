//! Writes the workload that the simulators are compared on, and simulates it in Rust.
//!
//! `run.py` calls this program and the other simulators; README.md says how.

mod clock;
mod driver;
mod format;
mod kernel;
mod memory;
mod tasks;

use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result};
use clap::{Parser, ValueEnum};
use serde::Serialize;

use format::Workload;
use tasks::Shape;

/// Writes the workload that the simulators are compared on, and simulates it in Rust.
#[derive(Debug, Parser)]
enum Command {
    /// Write a workload.
    Generate {
        /// Number of hosts.
        #[arg(long, default_value_t = 1000, value_parser = clap::value_parser!(u32).range(1..=100_000))]
        hosts: u32,
        /// Cores of each host.
        #[arg(long, default_value_t = 8, value_parser = clap::value_parser!(u32).range(1..=1024))]
        cores: u32,
        /// Number of tasks.
        #[arg(long, default_value_t = 1_000_000, value_parser = clap::value_parser!(u32).range(1..))]
        tasks: u32,
        /// Seed of arrivals and works.
        #[arg(long, default_value_t = 1)]
        seed: u64,
        /// The file to write.
        workload: PathBuf,
    },
    /// Simulate a workload; prints what it took as one line of JSON.
    Run {
        /// The simulator.
        peer: Peer,
        /// The workload.
        workload: PathBuf,
        /// Where to write when each task ended.
        ends: PathBuf,
    },
}

/// A simulator that is written in Rust.
#[derive(Clone, Copy, Debug, ValueEnum)]
enum Peer {
    /// Heaps without any accounting: the floor.
    Kernel,
    /// The same, one host after the other.
    KernelApart,
    /// The twin.
    Twin,
}

/// What a simulation took.
#[derive(Debug, Serialize)]
struct Took {
    /// CPU time of the simulation, without reading and writing files, in s.
    loop_cpu_s: f64,
    /// The most memory that the process had in use, in bytes, where the system tells.
    peak_memory_bytes: Option<u64>,
    /// Quality of service, where the simulator keeps account of it.
    qos: Option<twin::qos::Qos>,
}

fn main() -> Result<()> {
    match Command::parse() {
        Command::Generate {
            hosts,
            cores,
            tasks,
            seed,
            workload,
        } => {
            let shape = Shape {
                hosts,
                cores,
                tasks,
                seed,
            };
            format::write_workload(&workload, shape)
        }
        Command::Run {
            peer,
            workload,
            ends,
        } => {
            let took = run(peer, &workload, &ends)?;
            let line = serde_json::to_string(&took)?;
            writeln!(std::io::stdout(), "{line}").context("failed to write to the output")
        }
    }
}

fn run(peer: Peer, workload: &Path, ends: &Path) -> Result<Took> {
    let workload = Workload::open(workload)?;
    let shape = workload.shape;
    let mut ends_s = vec![f64::NAN; shape.tasks as usize];
    let (time, qos) = match peer {
        Peer::Kernel => (
            through_kernel(kernel::together, workload, &mut ends_s)?,
            None,
        ),
        Peer::KernelApart => (through_kernel(kernel::apart, workload, &mut ends_s)?, None),
        Peer::Twin => {
            let world = driver::world(shape)?;
            let arrivals = workload.tasks(|index, task| driver::arrival(shape, index, task))?;
            let started = clock::cpu_time();
            let qos = driver::run(&world, &arrivals, &mut ends_s)?;
            (clock::cpu_time() - started, Some(qos))
        }
    };
    format::write_ends(ends, &ends_s)?;
    Ok(Took {
        loop_cpu_s: time.as_secs_f64(),
        peak_memory_bytes: memory::peak_bytes(),
        qos,
    })
}

fn through_kernel(
    simulate: fn(Shape, &[tasks::Task], &mut [f64]),
    workload: Workload,
    ends_s: &mut [f64],
) -> Result<Duration> {
    let shape = workload.shape;
    let tasks = workload.tasks(|_, task| task)?;
    let started = clock::cpu_time();
    simulate(shape, &tasks, ends_s);
    Ok(clock::cpu_time() - started)
}
