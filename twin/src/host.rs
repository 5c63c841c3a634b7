//! A host: lifecycle, processor sharing, memory, energy.
//!
//! **Processor sharing.** The running fragments share the host's speed max-min fairly, each capped
//! by its parallelism (generalized processor sharing with caps, solved by water filling: Bertsekas
//! and Gallager, Data Networks, 1992, section 6.5.2). All fragments with the same cap run at the
//! same rate, so each cap has one *virtual work* counter `v` that grows at that rate; a fragment
//! that starts at `v₀` with work `w` ends when `v = v₀ + w`. An event costs the logarithm of what
//! runs, not its number.
//!
//! **Memory.** A fragment that does not fit waits in the host's queue, first in, first out.
//!
//! **Energy** is the exact integral of the power curve over the piecewise constant utilization;
//! a booting host draws the power of an idle one.
//!
//! Left out: burst credits, caches, interference between fragments beyond sharing.

use std::cmp::Ordering;
use std::collections::{BinaryHeap, VecDeque};

use serde::{Deserialize, Serialize};

use crate::units::SimTime;
use crate::world::{VmSize, World};

/// Where a host is in its life.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Lifecycle {
    /// Draws no power, costs nothing, serves nothing.
    Off,
    /// Starting; what is placed on it waits.
    Booting {
        /// When it will serve.
        ready_at: SimTime,
    },
    /// Serving.
    On,
    /// Serving what was placed on it, taking nothing new, then off.
    Draining,
}

impl Lifecycle {
    /// Whether fragments may be placed on the host.
    #[must_use]
    pub fn accepts(self) -> bool {
        matches!(self, Self::On | Self::Booting { .. })
    }

    /// Whether placed fragments are executed.
    #[must_use]
    pub fn serves(self) -> bool {
        matches!(self, Self::On | Self::Draining)
    }

    /// Whether the host is billed and draws power.
    #[must_use]
    pub fn billed(self) -> bool {
        !matches!(self, Self::Off)
    }
}

/// A running fragment in the order of completion.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub(crate) struct Finish {
    pub(crate) at_work: f64,
    pub(crate) fragment: u32,
}

impl PartialEq for Finish {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other).is_eq()
    }
}
impl Eq for Finish {}
impl PartialOrd for Finish {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}
impl Ord for Finish {
    /// Reversed: the heap's greatest is the first to finish.
    fn cmp(&self, other: &Self) -> Ordering {
        other
            .at_work
            .total_cmp(&self.at_work)
            .then(other.fragment.cmp(&self.fragment))
    }
}

/// The running fragments with one parallelism cap.
#[derive(Debug, Default, Serialize, Deserialize)]
pub(crate) struct CapClass {
    /// The most that one fragment gets, in MIPS.
    pub(crate) limit_mips: f64,
    /// What each of them gets now, in MIPS.
    pub(crate) rate_mips: f64,
    /// Virtual work: what a fragment that ran all the time would have had, in MI.
    pub(crate) virtual_mi: f64,
    pub(crate) running: BinaryHeap<Finish>,
    /// Sum of `at_work` over `running`.
    pub(crate) finish_sum_mi: f64,
}

impl Clone for CapClass {
    fn clone(&self) -> Self {
        Self {
            running: self.running.clone(),
            ..*self
        }
    }
    fn clone_from(&mut self, source: &Self) {
        self.limit_mips = source.limit_mips;
        self.rate_mips = source.rate_mips;
        self.virtual_mi = source.virtual_mi;
        self.finish_sum_mi = source.finish_sum_mi;
        self.running.clone_from(&source.running);
    }
}

/// The mechanical state of one host.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Host {
    pub(crate) lifecycle: Lifecycle,
    /// Everything below is true at this time.
    pub(crate) updated: SimTime,
    pub(crate) capacity_mips: f64,
    pub(crate) used_mips: f64,
    /// Used over available speed.
    pub(crate) utilization: f64,
    pub(crate) power_w: f64,
    pub(crate) classes: Vec<CapClass>,
    pub(crate) ram_mib: f64,
    pub(crate) ram_free_mib: f64,
    /// Work of the resident fragments that do not run yet, in MI.
    pub(crate) ahead_mi: f64,
    /// Fragments whose inputs are here and that wait for memory or for the boot.
    pub(crate) queue: VecDeque<u32>,
    /// Every fragment placed here and not finished, in the order of placement.
    pub(crate) resident: Vec<u32>,
    pub(crate) energy_j: f64,
    pub(crate) billed: SimTime,
    /// Integral of utilization over the time it served, in s.
    pub(crate) busy_s: f64,
    pub(crate) served: SimTime,
}

impl Clone for Host {
    fn clone(&self) -> Self {
        Self {
            classes: self.classes.clone(),
            queue: self.queue.clone(),
            resident: self.resident.clone(),
            ..*self
        }
    }
    fn clone_from(&mut self, source: &Self) {
        let classes = std::mem::take(&mut self.classes);
        let queue = std::mem::take(&mut self.queue);
        let resident = std::mem::take(&mut self.resident);
        *self = Self {
            classes,
            queue,
            resident,
            ..*source
        };
        self.classes.clone_from(&source.classes);
        self.queue.clone_from(&source.queue);
        self.resident.clone_from(&source.resident);
    }
}

/// What is metered of a host.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Meter {
    /// Energy used, in J.
    pub(crate) energy_j: f64,
    /// Time for which it was billed.
    pub(crate) billed: SimTime,
    /// Time for which it served.
    pub(crate) served: SimTime,
    /// Integral of utilization over that time, in s.
    pub(crate) busy_s: f64,
}

impl CapClass {
    /// Starts a fragment with `work_mi` ahead of it, of which it has had what lies before
    /// `from_mi` on the virtual counter.
    pub(crate) fn start(&mut self, fragment: u32, from_mi: f64, work_mi: f64) {
        let at_work = from_mi + work_mi;
        self.finish_sum_mi += at_work;
        self.running.push(Finish { at_work, fragment });
    }

    /// Takes out a running fragment before it has ended.
    pub(crate) fn remove(&mut self, fragment: u32) {
        let found = self.running.iter().find(|f| f.fragment == fragment);
        let Some(&Finish { at_work, .. }) = found else {
            return;
        };
        self.running.retain(|f| f.fragment != fragment);
        self.emptied(at_work);
    }

    /// Accounts for a fragment that was to end at `at_work` and is gone.
    fn emptied(&mut self, at_work: f64) {
        self.finish_sum_mi -= at_work;
        if self.running.is_empty() {
            self.virtual_mi = 0.0;
            self.finish_sum_mi = 0.0;
        }
    }
}

impl Host {
    pub(crate) fn new(world: &World, host: usize) -> Self {
        let size = world.size_of(host);
        let on = world.hosts[host].initially_on;
        let mips = size.mips_per_vcpu.0;
        Self {
            lifecycle: if on { Lifecycle::On } else { Lifecycle::Off },
            updated: SimTime::ZERO,
            capacity_mips: size.capacity().0,
            used_mips: 0.0,
            utilization: 0.0,
            power_w: if on { size.power.at(0.0).0 } else { 0.0 },
            classes: world
                .caps
                .iter()
                .map(|cap| CapClass {
                    limit_mips: cap.min(size.vcpus) * mips,
                    ..Default::default()
                })
                .collect(),
            ram_mib: size.ram.0,
            ram_free_mib: size.ram.0,
            ahead_mi: 0.0,
            queue: VecDeque::new(),
            resident: Vec::new(),
            energy_j: 0.0,
            billed: SimTime::ZERO,
            busy_s: 0.0,
            served: SimTime::ZERO,
        }
    }

    /// Accounts for the time since the last update.
    pub(crate) fn advance(&mut self, now: SimTime) {
        let span = now.since(self.updated);
        if span.0 == 0 {
            return;
        }
        self.updated = now;
        if !self.lifecycle.billed() {
            return;
        }
        let seconds = span.seconds();
        self.energy_j += self.power_w * seconds;
        self.billed = self.billed.after(span);
        if self.lifecycle.serves() {
            self.served = self.served.after(span);
            self.busy_s += self.utilization * seconds;
            for class in &mut self.classes {
                if !class.running.is_empty() {
                    class.virtual_mi += class.rate_mips * seconds;
                }
            }
        }
    }

    /// What has been metered up to `now`, without changing the host: looking on leaves no trace.
    pub(crate) fn meter(&self, now: SimTime) -> Meter {
        let span = now.since(self.updated);
        let mut meter = Meter {
            energy_j: self.energy_j,
            billed: self.billed,
            served: self.served,
            busy_s: self.busy_s,
        };
        if span.0 > 0 && self.lifecycle.billed() {
            meter.energy_j += self.power_w * span.seconds();
            meter.billed = meter.billed.after(span);
            if self.lifecycle.serves() {
                meter.served = meter.served.after(span);
                meter.busy_s += self.utilization * span.seconds();
            }
        }
        meter
    }

    /// Turns the host on, to serve from `ready_at` if it must boot, or off.
    pub(crate) fn turn(&mut self, on: bool, ready_at: SimTime) {
        self.lifecycle = match (self.lifecycle, on) {
            (Lifecycle::Off, true) => Lifecycle::Booting { ready_at },
            (Lifecycle::Draining, true) => Lifecycle::On,
            (Lifecycle::On, false) if self.resident.is_empty() => Lifecycle::Off,
            (Lifecycle::On, false) => Lifecycle::Draining,
            // A boot that nobody waits for is called off; its timer finds the host off.
            (Lifecycle::Booting { .. }, false) if self.resident.is_empty() => Lifecycle::Off,
            (same, _) => same,
        };
    }

    /// Turns a draining host off once nothing is left on it; says whether it did.
    pub(crate) fn turn_off_drained(&mut self) -> bool {
        let drained = self.lifecycle == Lifecycle::Draining && self.resident.is_empty();
        if drained {
            self.lifecycle = Lifecycle::Off;
        }
        drained
    }

    /// Starts the first fragment of the queue if it fits into memory; gives the virtual work of its
    /// class at the start.
    pub(crate) fn start_first(&mut self, ram_mib: f64, cap: usize, work_mi: f64) -> Option<f64> {
        if ram_mib > self.ram_free_mib {
            return None;
        }
        let fragment = self.queue.pop_front()?;
        self.ram_free_mib -= ram_mib;
        self.ahead_mi -= work_mi;
        let class = &mut self.classes[cap];
        let started_at_mi = class.virtual_mi;
        class.start(fragment, started_at_mi, work_mi);
        Some(started_at_mi)
    }

    /// Sets the rates by water filling, and what follows from them.
    pub(crate) fn share(&mut self, size: &VmSize) {
        if !self.lifecycle.serves() {
            self.used_mips = 0.0;
            self.utilization = 0.0;
            let idle = size.power.at(0.0).0;
            self.power_w = if self.lifecycle.billed() { idle } else { 0.0 };
            return;
        }
        let mut left_mips = self.capacity_mips;
        let mut left_count: usize = self.classes.iter().map(|c| c.running.len()).sum();
        // Classes are sorted by cap, so those that stay below the fair share come first.
        for class in &mut self.classes {
            let count = class.running.len();
            if count == 0 {
                continue;
            }
            class.rate_mips = class.limit_mips.min(left_mips / left_count as f64);
            left_mips -= class.rate_mips * count as f64;
            left_count -= count;
        }
        self.used_mips = (self.capacity_mips - left_mips).clamp(0.0, self.capacity_mips);
        self.utilization = self.used_mips / self.capacity_mips;
        self.power_w = size.power.at(self.utilization).0;
    }

    /// When the next running fragment ends, given the rates.
    pub(crate) fn next_finish(&self) -> SimTime {
        if !self.lifecycle.serves() {
            return SimTime::NEVER;
        }
        let mut soonest = f64::INFINITY;
        for class in &self.classes {
            if let Some(first) = class.running.peek() {
                soonest = soonest.min((first.at_work - class.virtual_mi) / class.rate_mips);
            }
        }
        if soonest.is_finite() {
            self.updated
                .after(SimTime::from_seconds_ceil(soonest.max(0.0)))
        } else {
            SimTime::NEVER
        }
    }

    /// Takes out the next fragment that has ended by now, if any.
    pub(crate) fn pop_finished(&mut self) -> Option<u32> {
        for class in &mut self.classes {
            if let Some(first) = class.running.peek() {
                // Times are whole nanoseconds: what would end within half of one has ended.
                let tolerance = class.rate_mips * 5e-10 + first.at_work.abs() * 1e-15;
                if first.at_work <= class.virtual_mi + tolerance {
                    let Finish { at_work, fragment } = *first;
                    class.running.pop();
                    class.emptied(at_work);
                    return Some(fragment);
                }
            }
        }
        None
    }

    /// Work left of all resident fragments, in MI, at the time of the last update.
    pub(crate) fn left_mi(&self) -> f64 {
        let running: f64 = self
            .classes
            .iter()
            .map(|c| c.finish_sum_mi - c.virtual_mi * c.running.len() as f64)
            .sum();
        (running + self.ahead_mi).max(0.0)
    }

    /// Forgets a fragment that was placed here, with the memory that it held.
    pub(crate) fn release(&mut self, fragment: u32, held_mib: f64) {
        self.ram_free_mib += held_mib;
        if let Some(place) = self.resident.iter().position(|&r| r == fragment) {
            self.resident.remove(place);
        }
        if self.running() == 0 {
            // An empty host has all its memory, whatever rounding says.
            self.ram_free_mib = self.ram_mib;
            if self.resident.is_empty() {
                self.ahead_mi = 0.0;
            }
        }
    }

    /// Number of running fragments.
    pub(crate) fn running(&self) -> usize {
        self.classes.iter().map(|c| c.running.len()).sum()
    }
}
