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
//! **Speed.** A VM may be faster or slower than its size is rated ([`crate::speed`]), is held to its
//! base when its CPU credits are gone ([`crate::credits`]), and may have slow spells
//! ([`crate::faults`]).
//!
//! **Models.** A fragment that needs a model waits until the host has loaded it. Loaded models stay
//! until their memory is needed; the one that has been unused longest goes first.
//!
//! **Containers.** Long-running ones share the CPU and hold memory beside fragments (`host::containers`).
//!
//! Left out: interference between fragments beyond sharing.

mod containers;

use std::cmp::Ordering;
use std::collections::{BinaryHeap, VecDeque};

use serde::{Deserialize, Deserializer, Serialize};
use smallvec::SmallVec;

use crate::container::{ContainerRun, CpuWork};
use crate::credits::{CreditAccount, CreditLevel};
use crate::faults::{self, Purpose};
use crate::ids::ModelId;
use crate::speed::VmSpeed;
use crate::state::{FragmentRun, Phase};
use crate::stream;
use crate::units::SimTime;
use crate::world::{Fragment, VmSize, World};

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
    /// Utilization of one MIPS.
    mip_share: f64,
    pub(crate) used_mips: f64,
    /// Used over available speed.
    pub(crate) utilization: f64,
    pub(crate) power_w: f64,
    /// By cap, in ascending order. Most worlds have one or two: they are part of the host.
    #[serde(deserialize_with = "classes")]
    pub(crate) classes: SmallVec<[CapClass; 1]>,
    pub(crate) ram_mib: f64,
    pub(crate) ram_free_mib: f64,
    /// Holders of memory that do not run here: paused fragments, and what migrations hold.
    pub(crate) holds: u32,
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
    /// Speed relative to the rated one, without slow spells.
    pub(crate) vm_factor: f64,
    /// Speed of the slow spell under way; 1 if there is none.
    pub(crate) slow_factor: f64,
    /// The VM among those of its size, where they differ.
    pub(crate) vm: Option<VmSpeed>,
    /// CPU credits, where the size is burstable and the VM runs.
    pub(crate) credits: Option<CreditAccount>,
    /// Whether fragments want more than the base while there are no credits.
    pub(crate) throttled: bool,
    /// Time for which it was throttled.
    pub(crate) throttled_time: SimTime,
    /// How often it was started.
    pub(crate) starts: u32,
    /// Models that are loaded or being loaded.
    pub(crate) models: Vec<LoadedModel>,
    /// Fragments that wait for a model to be loaded, and hold their memory.
    pub(crate) loading: u32,
    /// Long-running containers, in the order in which they are given CPU.
    pub(crate) containers: Vec<ContainerRun>,
}

/// A model on a host.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct LoadedModel {
    pub(crate) model: ModelId,
    pub(crate) ram_mib: f64,
    /// When it is loaded.
    pub(crate) ready_at: SimTime,
    /// Fragments that run with it or wait for it.
    pub(crate) users: u32,
    /// When the last of them left.
    pub(crate) unused_since: SimTime,
}

impl Clone for Host {
    fn clone(&self) -> Self {
        Self {
            classes: self.classes.clone(),
            queue: self.queue.clone(),
            resident: self.resident.clone(),
            models: self.models.clone(),
            containers: self.containers.clone(),
            ..*self
        }
    }
    fn clone_from(&mut self, source: &Self) {
        let classes = std::mem::take(&mut self.classes);
        let queue = std::mem::take(&mut self.queue);
        let resident = std::mem::take(&mut self.resident);
        let models = std::mem::take(&mut self.models);
        let containers = std::mem::take(&mut self.containers);
        *self = Self {
            classes,
            queue,
            resident,
            models,
            containers,
            ..*source
        };
        self.classes.clone_from(&source.classes);
        self.queue.clone_from(&source.queue);
        self.resident.clone_from(&source.resident);
        self.models.clone_from(&source.models);
        self.containers.clone_from(&source.containers);
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
    /// Work that containers wanted and did not get.
    pub(crate) unmet: CpuWork,
}

impl CapClass {
    /// Number of running fragments.
    fn count(&self) -> u32 {
        u32::try_from(self.running.len()).unwrap_or(u32::MAX)
    }

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

/// Reads classes as a [`Vec`] is read: by itself, a [`SmallVec`] makes room for as many as the bytes
/// say that there are.
fn classes<'de, D: Deserializer<'de>>(from: D) -> Result<SmallVec<[CapClass; 1]>, D::Error> {
    let list = Vec::deserialize(from)?;
    Ok(list.into_iter().collect())
}

impl Host {
    /// Host `host` at the start of an episode; `state_key` is hashed into what is random about it.
    pub(crate) fn new(world: &World, host: usize, state_key: u64) -> Self {
        let size = world.size_of(host);
        let on = world.hosts[host].initially_on;
        let mips = size.mips_per_vcpu.0;
        let mut new = Self {
            lifecycle: if on { Lifecycle::On } else { Lifecycle::Off },
            updated: SimTime::ZERO,
            capacity_mips: size.capacity().0,
            mip_share: 1.0 / size.capacity().0,
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
            holds: 0,
            ahead_mi: 0.0,
            queue: VecDeque::new(),
            resident: Vec::new(),
            energy_j: 0.0,
            billed: SimTime::ZERO,
            busy_s: 0.0,
            served: SimTime::ZERO,
            vm_factor: 1.0,
            slow_factor: 1.0,
            vm: None,
            credits: None,
            throttled: false,
            throttled_time: SimTime::ZERO,
            starts: 0,
            models: Vec::new(),
            loading: 0,
            containers: Vec::new(),
        };
        if !world.containers.is_empty() {
            new.place_containers(world, host, SimTime::ZERO);
        }
        if on {
            new.allocate(size, faults::key(state_key, Purpose::Speed, host));
        }
        new
    }

    /// A VM is found for the host: its speed is drawn from `key`, its credits are the initial ones.
    pub(crate) fn allocate(&mut self, size: &VmSize, key: u64) {
        self.starts += 1;
        self.credits = size.credits.as_ref().map(CreditAccount::started);
        if let Some(model) = size.speed.as_deref() {
            let vm = model.start(stream::mix(key, u64::from(self.starts)));
            self.vm_factor = vm.factor(model);
            self.vm = Some(vm);
            self.set_capacity(size);
        }
    }

    /// The VM's speed goes on to its next period.
    pub(crate) fn drift(&mut self, size: &VmSize) {
        if let (Some(model), Some(vm)) = (size.speed.as_deref(), &mut self.vm) {
            vm.step(model);
            self.vm_factor = vm.factor(model);
            self.set_capacity(size);
        }
    }

    /// Speed relative to the rated one.
    pub(crate) fn speed(&self) -> f64 {
        self.vm_factor * self.slow_factor
    }

    /// Recomputes the speed of the whole host; [`Host::share`] must follow.
    pub(crate) fn set_capacity(&mut self, size: &VmSize) {
        self.capacity_mips = size.capacity().0 * self.speed();
        self.mip_share = 1.0 / self.capacity_mips;
    }

    /// Sets the speed relative to the rated one; [`Host::share`] must follow.
    pub(crate) fn set_speed(&mut self, size: &VmSize, factor: f64) {
        self.vm_factor = factor;
        self.slow_factor = 1.0;
        self.set_capacity(size);
    }

    /// Starts a fragment that has its inputs, its memory and its model.
    pub(crate) fn start(&mut self, cap: usize, slot: u32, run: &mut FragmentRun) {
        let class = &mut self.classes[cap];
        run.phase = Phase::Running;
        run.started_at_mi = class.virtual_mi;
        class.start(slot, run.started_at_mi, run.work_mi);
        self.ahead_mi -= run.work_mi;
    }

    /// Forgets what is lost when the VM stops: models and credits.
    pub(crate) fn stop(&mut self) {
        for loaded in self.models.drain(..) {
            debug_assert_eq!(loaded.users, 0, "nothing runs on a host that stops");
        }
        self.ram_free_mib = self.ram_mib;
        self.unseat_containers();
        self.credits = None;
        self.throttled = false;
    }

    /// Accounts for the time since the last update.
    pub(crate) fn advance(&mut self, size: &VmSize, now: SimTime) {
        let span = now.since(self.updated);
        if span.0 == 0 {
            return;
        }
        self.updated = now;
        for run in &mut self.containers {
            run.advance(span);
        }
        if !self.lifecycle.billed() {
            return;
        }
        let seconds = span.seconds();
        self.energy_j += self.power_w * seconds;
        self.billed = self.billed.after(span);
        if let (Some(account), Some(spec)) = (&mut self.credits, &size.credits) {
            account.advance(spec, span, self.utilization * size.vcpus);
            if self.throttled {
                self.throttled_time = self.throttled_time.after(span);
            }
        }
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
            unmet: CpuWork::default(),
        };
        if !self.containers.is_empty() {
            meter.unmet = self.containers_meter(now)[1];
        }
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
            (Lifecycle::On, false) if self.vacant() => {
                self.stop();
                Lifecycle::Off
            }
            (Lifecycle::On, false) => Lifecycle::Draining,
            // A boot that nobody waits for is called off; its timer finds the host off.
            (Lifecycle::Booting { .. }, false) if self.resident.is_empty() => Lifecycle::Off,
            (same, _) => same,
        };
    }

    /// Turns a draining host off once nothing is left on it; says whether it did.
    pub(crate) fn turn_off_drained(&mut self) -> bool {
        let drained = self.lifecycle == Lifecycle::Draining && self.vacant();
        if drained {
            self.lifecycle = Lifecycle::Off;
            self.stop();
        }
        drained
    }

    /// Sets the rates by water filling, and what follows from them.
    pub(crate) fn share(&mut self, size: &VmSize) {
        if !self.lifecycle.serves() {
            self.used_mips = 0.0;
            self.utilization = 0.0;
            self.throttled = false;
            let idle = size.power.at(0.0).0;
            self.power_w = if self.lifecycle.billed() { idle } else { 0.0 };
            self.starve_containers();
            return;
        }
        let available_mips = self.available_mips(size);
        let left_mips = if self.containers.is_empty() {
            self.share_among_fragments(available_mips)
        } else {
            self.share_with_containers(available_mips)
        };
        self.used_mips = (available_mips - left_mips).clamp(0.0, self.capacity_mips);
        self.throttled = available_mips < self.capacity_mips && left_mips <= 0.0;
        self.utilization = (self.used_mips * self.mip_share).min(1.0);
        self.power_w = size.power.at(self.utilization).0;
    }

    /// Shares `left_mips` among the running fragments; gives what is left.
    fn share_among_fragments(&mut self, mut left_mips: f64) -> f64 {
        let speed = self.speed();
        let mut left_count: u32 = self.classes.iter().map(CapClass::count).sum();
        // Classes are sorted by cap, so those that stay below the fair share come first.
        for class in &mut self.classes {
            let count = class.count();
            if count == 0 {
                continue;
            }
            class.rate_mips = (class.limit_mips * speed).min(left_mips / f64::from(left_count));
            left_mips -= class.rate_mips * f64::from(count);
            left_count -= count;
        }
        left_mips
    }

    /// Speed that fragments can have now: that of the base where credits are gone.
    fn available_mips(&self, size: &VmSize) -> f64 {
        match (&self.credits, &size.credits) {
            (Some(account), Some(spec)) if account.level(spec) == CreditLevel::Exhausted => {
                self.capacity_mips * spec.base_share()
            }
            _ => self.capacity_mips,
        }
    }

    /// When the host next does something by itself, given the rates: a fragment ends, the last credit
    /// is spent, or a container wants something else.
    pub(crate) fn next_event(&self, size: &VmSize) -> SimTime {
        let mut finish = self.next_finish();
        for run in &self.containers {
            finish = finish.min(run.until);
        }
        let (Some(account), Some(spec)) = (&self.credits, &size.credits) else {
            return finish;
        };
        match account.next_change(spec, self.utilization * size.vcpus) {
            Some((span, CreditLevel::Exhausted)) if self.lifecycle.serves() => {
                finish.min(self.updated.after(span))
            }
            _ => finish,
        }
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
            .map(|c| c.finish_sum_mi - c.virtual_mi * f64::from(c.count()))
            .sum();
        (running + self.ahead_mi).max(0.0)
    }

    /// Forgets a fragment that was placed here, with the memory that it held.
    pub(crate) fn release(&mut self, fragment: u32, held_mib: f64) {
        self.ram_free_mib += held_mib;
        if let Some(place) = self.resident.iter().position(|&r| r == fragment) {
            self.resident.remove(place);
        }
        self.tidy();
    }

    /// An empty host has all its memory but for models, whatever rounding says.
    fn tidy(&mut self) {
        if self.running() == 0 && self.loading == 0 && self.holds == 0 {
            let models_mib: f64 = self.models.iter().map(|m| m.ram_mib).sum();
            self.ram_free_mib = self.ram_mib - models_mib - self.containers_mib();
            if self.resident.is_empty() {
                self.ahead_mi = 0.0;
            }
        }
    }

    /// Returns what a migration, or a fragment that was paused, held.
    pub(crate) fn unhold(&mut self, ram_mib: f64, model: Option<ModelId>, now: SimTime) {
        self.holds = self.holds.saturating_sub(1);
        self.ram_free_mib += ram_mib;
        self.leave_model(model, now);
        self.tidy();
    }

    /// Whether nothing is placed here, and no migration holds memory.
    pub(crate) fn vacant(&self) -> bool {
        self.resident.is_empty() && self.holds == 0
    }

    /// Memory that could be free for a fragment that needs `model`, in MiB: all that nothing uses.
    pub(crate) fn obtainable_mib(&self, model: Option<ModelId>) -> f64 {
        let idle = |m: &&LoadedModel| m.users == 0 && Some(m.model) != model;
        let evictable: f64 = self.models.iter().filter(idle).map(|m| m.ram_mib).sum();
        self.ram_free_mib + evictable
    }

    /// Takes memory for a fragment and the model it needs, for which others give way; gives when the
    /// model is loaded, and whether it is loaded for this fragment. `None`, and nothing has changed,
    /// if there is not enough memory.
    pub(crate) fn take_memory(
        &mut self,
        world: &World,
        fragment: &Fragment,
        now: SimTime,
    ) -> Option<(SimTime, bool)> {
        let Some(id) = fragment.model else {
            if fragment.ram.0 > self.ram_free_mib {
                if fragment.ram.0 > self.obtainable_mib(None) {
                    return None;
                }
                self.evict(fragment.ram.0);
            }
            self.ram_free_mib -= fragment.ram.0;
            return Some((now, false));
        };
        let model = &world.models[id.index()];
        let known = self.models.iter().position(|m| m.model == id);
        let missing_mib = if known.is_some() { 0.0 } else { model.ram.0 };
        let needed_mib = fragment.ram.0 + missing_mib;
        if needed_mib > self.obtainable_mib(Some(id)) {
            return None;
        }
        let place = match known {
            Some(place) => place,
            None => {
                self.models.push(LoadedModel {
                    model: id,
                    ram_mib: model.ram.0,
                    ready_at: now.after(model.load),
                    users: 0,
                    unused_since: now,
                });
                self.models.len() - 1
            }
        };
        self.models[place].users += 1;
        let ready_at = self.models[place].ready_at;
        self.evict(needed_mib);
        self.ram_free_mib -= needed_mib;
        Some((ready_at, known.is_none()))
    }

    /// A fragment no longer uses `model`.
    pub(crate) fn leave_model(&mut self, model: Option<ModelId>, now: SimTime) {
        let found = self.models.iter_mut().find(|m| Some(m.model) == model);
        if let Some(loaded) = found {
            loaded.users = loaded.users.saturating_sub(1);
            loaded.unused_since = now;
        }
    }

    /// Drops unused models, the one that has been unused longest first, until `needed_mib` are free.
    fn evict(&mut self, needed_mib: f64) {
        while self.ram_free_mib < needed_mib {
            let unused = self.models.iter().enumerate().filter(|(_, m)| m.users == 0);
            let Some((oldest, _)) = unused.min_by_key(|(_, m)| (m.unused_since, m.model)) else {
                return;
            };
            self.ram_free_mib += self.models.remove(oldest).ram_mib;
        }
    }

    /// Number of running fragments.
    pub(crate) fn running(&self) -> usize {
        self.classes.iter().map(|c| c.running.len()).sum()
    }
}
