//! The containers of a host: their memory, their share of its CPU, what they lack.
//!
//! A container takes its memory before fragments that wait do, and gives it back when it ends or
//! its host stops. It is never moved to another host.
//!
//! Where a host is short of CPU, containers and fragments share it max-min fairly, a container
//! capped at its demand; those that come [`CpuShare::First`] and [`CpuShare::Last`] share among
//! themselves what there is before and after all others.

use super::Host;
use crate::container::{ContainerRun, CpuRate, CpuWork, Stage};
use crate::ids::ContainerId;
use crate::units::SimTime;
use crate::world::{CpuShare, World};

/// The least part of a host's speed that estimates leave to fragments.
const LEAST_LEFT: f64 = 0.05;

impl Host {
    /// The containers of host `h` as they are at `now`, without memory yet.
    pub(crate) fn place_containers(&mut self, world: &World, h: usize, now: SimTime) {
        let ids = world.containers.of_host(h).iter();
        let runs = ids.map(|&id| ContainerRun::at(id, world.containers.get(id), now));
        self.containers = runs.collect();
        self.sort_containers();
    }

    /// Goes through what changes for the containers at `now`, to which the host is up to date.
    pub(crate) fn turn_containers(&mut self, world: &World, now: SimTime) {
        let mut changed = false;
        for run in &mut self.containers {
            changed |= run.turn(world.containers.get(run.id), now);
            if run.stage == Stage::Over && run.seated {
                run.seated = false;
                self.ram_free_mib += run.ram_mib;
            }
        }
        if changed {
            self.sort_containers();
            self.tidy();
        }
    }

    /// In the order in which they are given CPU: by share, then the least demand first.
    fn sort_containers(&mut self) {
        self.containers
            .sort_unstable_by_key(|run| (run.share, run.demand, run.id));
    }

    /// Gives memory to the containers that lack it, in the order of the world, as far as they fit;
    /// whether none waits for memory then.
    pub(crate) fn seat_containers(&mut self) -> bool {
        let mut after = None;
        let mut all = true;
        loop {
            let waits = |run: &&mut ContainerRun| {
                run.stage == Stage::Running && !run.seated && Some(run.id) > after
            };
            let obtainable_mib = self.obtainable_mib(None);
            let Some(next) = self
                .containers
                .iter_mut()
                .filter(waits)
                .min_by_key(|r| r.id)
            else {
                return all;
            };
            after = Some(next.id);
            let ram_mib = next.ram_mib;
            next.seated = ram_mib <= obtainable_mib;
            if next.seated {
                self.evict(ram_mib);
                self.ram_free_mib -= ram_mib;
            } else {
                all = false;
            }
        }
    }

    /// Whether container `id` runs and holds no memory.
    pub(crate) fn lacks(&self, id: ContainerId) -> bool {
        let runs = |run: &&ContainerRun| run.stage == Stage::Running && !run.seated;
        self.containers.iter().filter(runs).any(|run| run.id == id)
    }

    /// Whether a container that runs holds no memory.
    pub(crate) fn container_waits(&self) -> bool {
        let waits = |run: &ContainerRun| run.stage == Stage::Running && !run.seated;
        self.containers.iter().any(waits)
    }

    /// Gives all that run their memory but those `waiting`, whether or not it is free.
    pub(crate) fn take_seats(&mut self, waiting: &[ContainerId]) {
        for run in &mut self.containers {
            if run.stage == Stage::Running && !waiting.contains(&run.id) {
                run.seated = true;
                self.ram_free_mib -= run.ram_mib;
            }
        }
    }

    /// They lose their memory: the host stops.
    pub(super) fn unseat_containers(&mut self) {
        for run in &mut self.containers {
            run.seated = false;
        }
    }

    /// They get nothing: the host does not serve.
    pub(super) fn starve_containers(&mut self) {
        for run in &mut self.containers {
            run.served = CpuRate::default();
        }
    }

    /// Memory that they hold, in MiB.
    pub(super) fn containers_mib(&self) -> f64 {
        let seated = self.containers.iter().filter(|run| run.seated);
        seated.map(|run| run.ram_mib).sum()
    }

    /// Shares `left_mips` among containers and running fragments; gives what is left.
    pub(super) fn share_with_containers(&mut self, mut left_mips: f64) -> f64 {
        let speed = self.speed();
        let fair = self
            .containers
            .partition_point(|run| run.share < CpuShare::Fair);
        let last = self
            .containers
            .partition_point(|run| run.share < CpuShare::Last);
        left_mips = fill(&mut self.containers[..fair], left_mips);
        let seated = |run: &&mut ContainerRun| run.seated;
        let mut claims = self.classes.iter().map(|c| c.running.len()).sum::<usize>()
            + self.containers[fair..last]
                .iter()
                .filter(|run| run.seated)
                .count();
        let runs = &mut self.containers[fair..last];
        let mut runs = runs.iter_mut().filter(seated).peekable();
        let classes = self.classes.iter_mut().filter(|c| !c.running.is_empty());
        let mut classes = classes.peekable();
        // Both are sorted by what they want at most; the lesser of the two is served next.
        loop {
            let want = runs.peek().map_or(f64::INFINITY, |run| run.demand.mhz());
            if let Some(class) = classes.next_if(|class| class.limit_mips * speed <= want) {
                let count = class.running.len();
                class.rate_mips = (class.limit_mips * speed).min(left_mips / claims as f64);
                left_mips -= class.rate_mips * count as f64;
                claims -= count;
            } else if let Some(run) = runs.next() {
                left_mips -= serve(run, left_mips / claims as f64);
                claims -= 1;
            } else {
                break;
            }
        }
        fill(&mut self.containers[last..], left_mips.max(0.0))
    }

    /// What the running fragments get, in MIPS.
    pub(crate) fn fragments_mips(&self) -> f64 {
        if self.containers.is_empty() {
            return self.used_mips;
        }
        let served: f64 = self.containers.iter().map(|run| run.served.mhz()).sum();
        (self.used_mips - served).max(0.0)
    }

    /// What the containers want and what the host has for fragments beside them, in MIPS, of
    /// `speed_mips`; for estimates.
    pub(crate) fn beside_containers(&self, speed_mips: f64) -> (f64, f64) {
        let wanted = |of: &dyn Fn(CpuShare) -> bool| -> f64 {
            let runs = self.containers.iter().filter(|run| of(run.share));
            runs.map(|run| run.demand.mhz()).sum()
        };
        let first = (speed_mips - wanted(&|s| s == CpuShare::First)).max(LEAST_LEFT * speed_mips);
        let fair = wanted(&|s| s == CpuShare::Fair);
        let sharers = self
            .containers
            .iter()
            .filter(|run| run.share == CpuShare::Fair);
        // One fragment at least has an equal share.
        let equal = first / (1 + sharers.filter(|run| run.demand.0 > 0).count()) as f64;
        (wanted(&|_| true), (first - fair).max(equal))
    }

    /// Work that containers have wanted and have not got up to `now`.
    pub(crate) fn containers_meter(&self, now: SimTime) -> [CpuWork; 2] {
        let span = now.since(self.updated);
        let demanded = |run: &ContainerRun| run.demanded + run.demand.over(span);
        let unmet = |run: &ContainerRun| run.unmet + run.lacking().over(span);
        [
            self.containers.iter().map(demanded).sum(),
            self.containers.iter().map(unmet).sum(),
        ]
    }

    /// Draws anew what the containers will want.
    pub(crate) fn resample_containers(&mut self, world: &World, now: SimTime, key: u64) {
        for run in &mut self.containers {
            run.resample(world.containers.get(run.id), now, key);
        }
    }
}

/// Serves containers that are sorted by demand, max-min fairly; gives what is left.
fn fill(runs: &mut [ContainerRun], mut left_mips: f64) -> f64 {
    let mut claims = runs.iter().filter(|run| run.seated).count();
    for run in runs.iter_mut().filter(|run| run.seated) {
        left_mips -= serve(run, left_mips / claims as f64);
        claims -= 1;
    }
    left_mips
}

/// Gives a container what it wants, at most `most_mips`; says what that is.
fn serve(run: &mut ContainerRun, most_mips: f64) -> f64 {
    let want = run.demand.mhz();
    if want <= most_mips {
        run.served = run.demand;
        return want;
    }
    let most_mips = most_mips.max(0.0);
    run.served = CpuRate::from_mhz(most_mips)
        .unwrap_or_default()
        .min(run.demand);
    most_mips
}
