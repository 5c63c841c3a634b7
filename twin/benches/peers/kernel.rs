//! The floor: processor sharing on heaps, and nothing else.
//!
//! Each host has a *virtual work* counter that grows at the rate that every task on it gets,
//! min(1, cores / tasks); a task that starts at `v` with work `w` ends when the counter reaches
//! `v + w`, so a host's tasks stand in a heap by that value. A second heap, over hosts, finds the
//! next completion of the fleet. That is the least that an event-driven simulation of this
//! workload does: no energy, no cost, no percentiles, no memory, no network, no decisions.
//!
//! Nothing is allocated between the first event and the last, as long as no host holds more than
//! [`ROOM`] tasks at once.

use std::cmp::Ordering;
use std::collections::BinaryHeap;

use super::tasks::{Shape, Task};

/// Tasks that a host has room for from the start.
const ROOM: usize = 64;
/// Tasks of one host that are simulated at a time where hosts are simulated apart.
const TURNS: usize = 8;
/// Children of a node in the heap over hosts: wide, because what is changed there mostly sinks.
const WIDTH: usize = 4;

/// A running task in the order of completion.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Finish {
    /// Virtual work at its end; the bits of a float that is not negative sort as the float does.
    at_bits: u64,
    task: u32,
}

impl Finish {
    fn at_s(self) -> f64 {
        f64::from_bits(self.at_bits)
    }
}

impl Ord for Finish {
    /// Reversed: the heap's greatest is the first to finish.
    fn cmp(&self, other: &Self) -> Ordering {
        other.at_bits.cmp(&self.at_bits)
    }
}

impl PartialOrd for Finish {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

/// One host.
struct Host {
    /// Work that a task which always ran would have had, in s.
    virtual_s: f64,
    /// The time at which this was so, in s.
    updated_s: f64,
    running: BinaryHeap<Finish>,
}

impl Host {
    fn new() -> Self {
        Self {
            virtual_s: 0.0,
            updated_s: 0.0,
            running: BinaryHeap::with_capacity(ROOM),
        }
    }

    /// Time that a unit of virtual work takes.
    fn slowness(&self, cores: f64) -> f64 {
        (self.running.len() as f64 / cores).max(1.0)
    }

    /// Starts a task at `now_s`.
    fn start(&mut self, now_s: f64, (task, work_s): (u32, f64), cores: f64) {
        if self.running.is_empty() {
            self.virtual_s = 0.0;
        } else {
            self.virtual_s += (now_s - self.updated_s) / self.slowness(cores);
        }
        self.updated_s = now_s;
        let at_bits = (self.virtual_s + work_s).to_bits();
        self.running.push(Finish { at_bits, task });
    }

    /// When the next task ends, in s.
    fn next_s(&self, cores: f64) -> f64 {
        self.running.peek().map_or(f64::INFINITY, |first| {
            self.updated_s + (first.at_s() - self.virtual_s) * self.slowness(cores)
        })
    }

    /// Ends the next task at `now_s`.
    fn finish(&mut self, now_s: f64, ends_s: &mut [f64]) {
        if let Some(first) = self.running.pop() {
            self.virtual_s = first.at_s();
            self.updated_s = now_s;
            ends_s[first.task as usize] = now_s;
        }
    }

    /// Ends every task that ends by `until_s`.
    fn finish_until(&mut self, until_s: f64, cores: f64, ends_s: &mut [f64]) {
        loop {
            let end_s = self.next_s(cores);
            if end_s > until_s {
                return;
            }
            self.finish(end_s, ends_s);
        }
    }
}

/// The next completion of each host, first in time first.
struct Completions {
    /// Time in s and host, in heap order.
    heap: Vec<(f64, u32)>,
    /// Position of each host in `heap`.
    place: Vec<u32>,
}

impl Completions {
    fn new(hosts: u32) -> Self {
        Self {
            heap: (0..hosts).map(|h| (f64::INFINITY, h)).collect(),
            place: (0..hosts).collect(),
        }
    }

    fn put(&mut self, at: usize, entry: (f64, u32)) {
        self.heap[at] = entry;
        self.place[entry.1 as usize] = u32::try_from(at).unwrap_or(u32::MAX);
    }

    /// Sets the time of `host`.
    fn set(&mut self, host: u32, time_s: f64) {
        let mut at = self.place[host as usize] as usize;
        while at > 0 {
            let parent = (at - 1) / WIDTH;
            if self.heap[parent].0 <= time_s {
                break;
            }
            self.put(at, self.heap[parent]);
            at = parent;
        }
        loop {
            let first = WIDTH * at + 1;
            let last = (first + WIDTH).min(self.heap.len());
            let Some(children) = self.heap.get(first..last) else {
                break;
            };
            let Some((offset, &least)) = children
                .iter()
                .enumerate()
                .reduce(|a, b| if b.1.0 < a.1.0 { b } else { a })
            else {
                break;
            };
            if time_s <= least.0 {
                break;
            }
            self.put(at, least);
            at = first + offset;
        }
        self.put(at, (time_s, host));
    }
}

fn seconds(nanoseconds: u64) -> f64 {
    nanoseconds as f64 / twin::units::NANOS_PER_SECOND
}

/// Simulates all hosts side by side, event by event in the order of time; writes when each task
/// ends, in s.
pub(crate) fn together(shape: Shape, tasks: &[Task], ends_s: &mut [f64]) {
    let Shape { hosts, cores, .. } = shape;
    let cores = f64::from(cores);
    let mut fleet: Vec<Host> = (0..hosts).map(|_| Host::new()).collect();
    let mut completions = Completions::new(hosts);
    let mut turn = 0;
    let mut next = 0;
    loop {
        let (end_s, first) = completions.heap[0];
        let arrival_s = tasks
            .get(next)
            .map_or(f64::INFINITY, |t| seconds(t.arrival_ns));
        let host = if arrival_s < end_s {
            let task = (u32::try_from(next).unwrap_or(u32::MAX), tasks[next].work_s);
            fleet[turn as usize].start(arrival_s, task, cores);
            next += 1;
            let host = turn;
            turn = if turn + 1 == hosts { 0 } else { turn + 1 };
            host
        } else if end_s < f64::INFINITY {
            fleet[first as usize].finish(end_s, ends_s);
            first
        } else {
            return;
        };
        completions.set(host, fleet[host as usize].next_s(cores));
    }
}

/// As [`together`], but without an order among the hosts: no task of one host changes another.
///
/// The hosts take turns, each with its next [`TURNS`] tasks, so that what is read stays in the
/// cache.
pub(crate) fn apart(shape: Shape, tasks: &[Task], ends_s: &mut [f64]) {
    let cores = f64::from(shape.cores);
    let hosts = shape.hosts as usize;
    let mut fleet: Vec<Host> = (0..hosts).map(|_| Host::new()).collect();
    for from in (0..tasks.len()).step_by(hosts * TURNS) {
        let until = tasks.len().min(from + hosts * TURNS);
        for (turn, host) in fleet.iter_mut().enumerate() {
            for index in (from + turn..until).step_by(hosts) {
                let arrival_s = seconds(tasks[index].arrival_ns);
                host.finish_until(arrival_s, cores, ends_s);
                let number = u32::try_from(index).unwrap_or(u32::MAX);
                host.start(arrival_s, (number, tasks[index].work_s), cores);
            }
        }
    }
    for host in &mut fleet {
        host.finish_until(f64::MAX, cores, ends_s);
    }
}
