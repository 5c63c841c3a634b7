//! Migrations of running fragments, carried out by the mechanics.
//!
//! A migration is an [`Attempt`], driven by events: each of its orders is a transfer that shares
//! the network with all others, or a timer. [`Container`] says where the fragment is meanwhile:
//!
//! | container | what the mechanics do |
//! |---|---|
//! | at the source | nothing: the fragment runs |
//! | paused | it leaves the CPU of the source and keeps its service and its memory there |
//! | at the destination, at speed *s* | it takes its share of the CPU there, of which *s* is service |
//!
//! Memory at the destination is held from the preparation on, memory at the source until the end.
//! A host that holds memory for a migration is not turned off, but drains.
//!
//! A migration begins at once if its destination serves and has room: memory that nobody holds, and
//! nobody queues for. Else it waits, and is tried again when something leaves the destination or its
//! boot ends; it is called off at the first boundary at which its destination serves without room,
//! or takes nothing any more.
//!
//! A fragment that ends while it is being migrated has ended where it ran, and its migration with
//! it. A fragment whose migration fails without a way back starts anew, with nothing done, in the
//! queue of its source, or of its destination if the source does not serve any more.
//!
//! A fragment that needs a model begins to move once the model is loaded at the destination.
//!
//! What fails is hashed from the state's key and the migration's number.
//!
//! Left out: moving fragments that wait for inputs or memory, the CPU that copying takes, and that a
//! stalled fragment gives up its share of the CPU.

use serde::{Deserialize, Serialize};

use super::{FragmentRun, Phase, State, TimerKind};
use crate::decision;
use crate::faults::{self, Purpose};
use crate::ids::{HostId, ModelId, RequestId};
use crate::migration::{
    self, Attempt, Cause, Container, Demand, Ending, Order, Outcome, Reservation, Stage,
    StrategyKind,
};
use crate::network::{Delivery, Endpoint};
use crate::sink::Sink;
use crate::units::{Mebibytes, Ratio, SimTime};
use crate::world::{Fragment, World, nominal_bandwidth};

/// Bits in a MiB.
pub(crate) const BITS_PER_MIB: f64 = 8.0 * 1024.0 * 1024.0;

/// The least speed of a fragment that runs while its memory is pulled.
const LEAST_SPEED: f64 = 1e-6;

/// What is migrated, from where to where, and how.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Course {
    /// Number of migrations that were ordered before.
    pub number: u32,
    /// The request.
    pub request: RequestId,
    /// Position of the fragment in its variant.
    pub fragment: u16,
    /// The source.
    pub from: HostId,
    /// The destination.
    pub to: HostId,
    /// The order of things.
    pub strategy: StrategyKind,
}

/// Sums over the migrations that have ended.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct MigrationTotals {
    /// The fragment is at the destination.
    pub completed: u64,
    /// A fault, or a host or link that was lost.
    pub failed: u64,
    /// Found no room, or its fragment ended first.
    pub canceled: u64,
    /// Sent over the network, failed attempts included, in MiB.
    pub sent_mib: f64,
    /// Time in which fragments were paused, in s.
    pub downtime_s: f64,
    /// Time that fragments lost to memory that had not come, in s.
    pub stall_s: f64,
}

impl MigrationTotals {
    /// Whether no migration has ended.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.completed + self.failed + self.canceled == 0
    }
}

/// How the order under way of a migration is carried out.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Carrier {
    /// There is none: it waits for room.
    Nobody,
    /// The transfer in this slot of the network.
    Transfer(u32),
    /// The timer of this moment.
    Timer(SimTime),
}

/// A migration under way.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Moving {
    pub(crate) course: Course,
    /// The fragment.
    pub(crate) slot: u32,
    pub(crate) ram_mib: f64,
    /// The model that must be loaded for it.
    pub(crate) model: Option<ModelId>,
    pub(crate) attempt: Attempt,
    /// When its order under way began.
    pub(crate) began: SimTime,
    pub(crate) carrier: Carrier,
    /// The share of the fragment's CPU that is service.
    pub(crate) speed: f64,
    /// The host that holds memory for it, beside the one that the fragment is on.
    pub(crate) held: Option<HostId>,
}

/// The migrations under way by number, and what came of the others.
#[derive(Debug, Default, Serialize, Deserialize)]
pub(crate) struct Migrations {
    pub(crate) under_way: Vec<Moving>,
    pub(crate) next: u32,
    pub(crate) totals: MigrationTotals,
}

impl Clone for Migrations {
    fn clone(&self) -> Self {
        Self {
            under_way: self.under_way.clone(),
            ..*self
        }
    }
    fn clone_from(&mut self, source: &Self) {
        self.under_way.clone_from(&source.under_way);
        self.next = source.next;
        self.totals = source.totals;
    }
}

impl Migrations {
    pub(crate) fn is_empty(&self) -> bool {
        self.under_way.is_empty()
    }

    fn place(&self, number: u32) -> Option<usize> {
        self.under_way
            .binary_search_by_key(&number, |m| m.course.number)
            .ok()
    }

    pub(crate) fn place_of_fragment(&self, slot: u32) -> Option<usize> {
        self.under_way.iter().position(|m| m.slot == slot)
    }

    /// The share of its CPU that is service to the fragment in `slot`.
    pub(crate) fn speed_of(&self, slot: u32) -> f64 {
        self.place_of_fragment(slot)
            .map_or(1.0, |place| self.under_way[place].speed)
    }
}

/// Where a transfer of that stage comes from: image layers come from wherever they are kept.
pub(crate) fn source_of(stage: Stage, from: HostId) -> Endpoint {
    match stage {
        Stage::FetchImage => Endpoint::User,
        _ => Endpoint::Host(from),
    }
}

/// Orders, and what begins and ends.
impl State {
    /// Sums over the migrations that have ended.
    #[must_use]
    pub fn migration_totals(&self) -> MigrationTotals {
        self.migrations.totals
    }

    /// Begins to migrate a running fragment; what is not feasible is left out.
    pub(crate) fn migrate<S: Sink>(
        &mut self,
        world: &World,
        order: &decision::Migration,
        sink: &mut S,
    ) {
        let Some(slot) = self.fragment_slot(world, order.request, order.fragment) else {
            return;
        };
        let run = self.fragments[slot as usize];
        let (Some(fragment), Some(host)) = (
            self.fragment_in(world, slot),
            self.hosts.get(order.to.index()),
        ) else {
            return;
        };
        let moves = self.migrations.place_of_fragment(slot).is_some();
        let fits = host.lifecycle.accepts()
            && world.needs_mib(fragment) <= world.ram_for_fragments(order.to.index()).0;
        if run.phase != Phase::Running || run.host == order.to || moves || !fits {
            return;
        }
        let course = Course {
            number: self.migrations.next,
            request: order.request,
            fragment: order.fragment,
            from: run.host,
            to: order.to,
            strategy: order.strategy.unwrap_or(world.migration.strategy),
        };
        let ends = (course.from, course.to);
        let spec = world.migration.spec(world, fragment, ends, course.strategy);
        let key = self.fault_key(course.number);
        let expected = nominal_bandwidth(world, ends);
        let Ok(mut attempt) = Attempt::new(key, spec, expected, world.migration.faults) else {
            return;
        };
        if attempt.plan().is_err() {
            return;
        }
        self.migrations.next += 1;
        self.migrations.under_way.push(Moving {
            course,
            slot,
            ram_mib: fragment.ram.0,
            model: fragment.model,
            attempt,
            began: self.now,
            carrier: Carrier::Nobody,
            speed: 1.0,
            held: None,
        });
        sink.migration_started(self.now, &course);
        self.prepare_migration(world, course.number, sink);
    }

    /// The key that decides what fails in a migration.
    pub(crate) fn fault_key(&self, number: u32) -> u64 {
        faults::key(self.key, Purpose::Migration, number as usize)
    }

    /// The slot of a fragment of a request that is deployed.
    pub(crate) fn fragment_slot(
        &self,
        world: &World,
        request: RequestId,
        fragment: u16,
    ) -> Option<u32> {
        let mut requests = self.active.iter().map(|&r| &self.requests[r as usize]);
        let found = requests.find(|r| r.id == request)?;
        let deployed = found.deployed?;
        let variant = world.variant(found.application, deployed.variant);
        (usize::from(fragment) < variant.fragments.len())
            .then(|| deployed.first + u32::from(fragment))
    }

    /// What the fragment in `slot` is.
    pub(crate) fn fragment_in<'w>(&self, world: &'w World, slot: u32) -> Option<&'w Fragment> {
        let run = &self.fragments[slot as usize];
        let request = &self.requests[run.request as usize];
        let variant = world.variant(request.application, request.deployed?.variant);
        Some(&variant.fragments[usize::from(run.index)])
    }

    /// Holds memory at the destination and begins, if there is room; first loads the model there
    /// that the fragment needs.
    pub(crate) fn prepare_migration<S: Sink>(&mut self, world: &World, number: u32, sink: &mut S) {
        let Some(place) = self.migrations.place(number) else {
            return;
        };
        let moving = &self.migrations.under_way[place];
        if moving.carrier != Carrier::Nobody {
            // Another that ended in the meantime has made it begin.
            return;
        }
        let destination = &self.hosts[moving.course.to.index()];
        let lifecycle = destination.lifecycle;
        let nobody_waits = destination.queue.is_empty() && !destination.container_waits();
        if lifecycle.accepts() && lifecycle.serves() && nobody_waits {
            match self.hold_destination(world, place) {
                Some(ready_at) if ready_at > self.now => self.await_model(place, ready_at),
                Some(_) => self.begin_migration(world, place, sink),
                None => {}
            }
        }
    }

    /// Holds memory at the destination and loads the model there; gives when that is loaded, or
    /// nothing if there is no room.
    pub(crate) fn hold_destination(&mut self, world: &World, place: usize) -> Option<SimTime> {
        let moving = &self.migrations.under_way[place];
        let to = moving.course.to;
        let fragment = self.fragment_in(world, moving.slot)?;
        let destination = &mut self.hosts[to.index()];
        let (ready_at, cold) = destination.take_memory(world, fragment, self.now)?;
        destination.holds += 1;
        self.incidents.cold_starts += u64::from(cold);
        self.migrations.under_way[place].held = Some(to);
        Some(ready_at)
    }

    /// Lets a migration begin once the model that its fragment needs is loaded.
    pub(crate) fn await_model(&mut self, place: usize, ready_at: SimTime) {
        let moving = &mut self.migrations.under_way[place];
        moving.carrier = Carrier::Timer(ready_at);
        let number = moving.course.number;
        self.set_timer(ready_at, TimerKind::Migration(number));
    }

    /// Begins a migration whose memory is held.
    fn begin_migration<S: Sink>(&mut self, world: &World, place: usize, sink: &mut S) {
        let moving = &mut self.migrations.under_way[place];
        let (host, ram) = (moving.course.to, Mebibytes(moving.ram_mib));
        let order = moving.attempt.prepare(|_| Some(Reservation { host, ram }));
        if let Ok(order) = order {
            self.follow(world, place, order, sink);
        }
    }

    /// Tries again the migrations that wait for room on host `h`.
    pub(super) fn retry_migrations<S: Sink>(&mut self, world: &World, h: usize, sink: &mut S) {
        for number in self.waiting_migrations(|m| m.course.to.index() == h) {
            self.prepare_migration(world, number, sink);
        }
    }

    /// Numbers of the migrations that wait for room, as far as `wanted`.
    fn waiting_migrations(&self, wanted: impl Fn(&Moving) -> bool) -> Vec<u32> {
        let waiting = self.migrations.under_way.iter();
        waiting
            .filter(|m| m.carrier == Carrier::Nobody && wanted(m))
            .map(|m| m.course.number)
            .collect()
    }

    /// Calls off the migrations that have found no room up to this boundary.
    pub(super) fn call_off_migrations<S: Sink>(&mut self, world: &World, sink: &mut S) {
        if self.migrations.is_empty() {
            return;
        }
        for number in self.waiting_migrations(|_| true) {
            self.prepare_migration(world, number, sink);
            let Some(place) = self.migrations.place(number) else {
                continue;
            };
            let moving = &mut self.migrations.under_way[place];
            let destination = self.hosts[moving.course.to.index()].lifecycle;
            let boots = destination.accepts() && !destination.serves();
            let waits = moving.carrier == Carrier::Nobody && !boots;
            if waits && moving.attempt.cancel().is_ok() {
                self.settle(world, place, sink);
            }
        }
    }

    /// Whether the migration waits for its timer of that moment.
    pub(super) fn waits_for_timer(&self, number: u32, at: SimTime) -> bool {
        self.migrations
            .place(number)
            .is_some_and(|place| self.migrations.under_way[place].carrier == Carrier::Timer(at))
    }

    /// The order under way has been carried out.
    pub(super) fn carried_out<S: Sink>(&mut self, world: &World, number: u32, sink: &mut S) {
        let Some(place) = self.migrations.place(number) else {
            return;
        };
        let moving = &mut self.migrations.under_way[place];
        moving.carrier = Carrier::Nobody;
        if *moving.attempt.machine().state() == migration::State::Planning {
            self.begin_migration(world, place, sink);
            return;
        }
        let elapsed_s = self.now.since(moving.began).seconds();
        if let Ok(order) = moving.attempt.finish(elapsed_s) {
            self.follow(world, place, order, sink);
        }
    }

    /// Lets the order under way of a migration be carried out now; says whether there was one, and
    /// it goes on.
    pub(super) fn hasten_migration<S: Sink>(
        &mut self,
        world: &World,
        number: u32,
        sink: &mut S,
    ) -> bool {
        let Some(place) = self.migrations.place(number) else {
            return false;
        };
        if self.migrations.under_way[place].carrier == Carrier::Nobody {
            return false;
        }
        self.halt(world, place);
        self.carried_out(world, number, sink);
        true
    }

    /// Begins to carry out `order`, or ends the migration.
    fn follow<S: Sink>(&mut self, world: &World, place: usize, order: Order, sink: &mut S) {
        match order {
            Order::Carry {
                stage,
                demand,
                container,
            } => {
                self.locate(world, place, container);
                self.carry(world, place, stage, demand);
            }
            Order::End(ending) => {
                let container = match ending {
                    Ending::Completed { .. } => Container::AtDestination { speed: Ratio(1.0) },
                    Ending::RolledBack { .. } => Container::AtSource,
                    Ending::Lost { .. } => Container::Lost,
                };
                self.locate(world, place, container);
                self.settle(world, place, sink);
            }
        }
    }

    /// Starts the transfer or the timer that a stage demands.
    pub(crate) fn carry(&mut self, world: &World, place: usize, stage: Stage, demand: Demand) {
        let now = self.now;
        let Course {
            number, from, to, ..
        } = self.migrations.under_way[place].course;
        let carrier = match demand {
            Demand::Transfer(Mebibytes(mib)) => {
                let ends = (source_of(stage, from), Endpoint::Host(to));
                let what = Delivery::Migration { number };
                let bits = mib * BITS_PER_MIB;
                Carrier::Transfer(self.network.start(world, now, ends, what, bits))
            }
            Demand::Delay(span) => {
                let at = now.after(span);
                self.set_timer(at, TimerKind::Migration(number));
                Carrier::Timer(at)
            }
            Demand::Nothing => Carrier::Nobody,
        };
        let moving = &mut self.migrations.under_way[place];
        moving.began = now;
        moving.carrier = carrier;
    }

    /// Takes out a migration whose outcome is settled, returns what it held, and lets its hosts go
    /// on.
    fn settle<S: Sink>(&mut self, world: &World, place: usize, sink: &mut S) {
        let moving = self.migrations.under_way.remove(place);
        let report = moving.attempt.report();
        let outcome = moving.attempt.outcome().unwrap_or(Outcome::Canceled);
        let totals = &mut self.migrations.totals;
        match outcome {
            Outcome::Succeeded => totals.completed += 1,
            Outcome::Failed { .. } => totals.failed += 1,
            Outcome::Canceled | Outcome::ContainerEnded => totals.canceled += 1,
        }
        totals.sent_mib += report.bytes().0;
        totals.downtime_s += report.downtime_s;
        totals.stall_s += report.stall_s;
        if let Some(host) = moving.held {
            self.hosts[host.index()].unhold(moving.ram_mib, moving.model, self.now);
        }
        sink.migration_ended(self.now, &moving.course, outcome, report);
        for host in [moving.course.from, moving.course.to] {
            let h = host.index();
            self.hosts[h].advance(world.size_of(h), self.now);
            self.refill(world, host.index(), sink);
        }
    }
}

/// Where the fragment is.
impl State {
    /// The share of its CPU that is service to the fragment in `slot`.
    pub(super) fn speed_of(&self, slot: u32) -> f64 {
        if self.migrations.is_empty() {
            1.0
        } else {
            self.migrations.speed_of(slot)
        }
    }

    /// Puts the fragment of a migration to where it is to be.
    fn locate(&mut self, world: &World, place: usize, container: Container) {
        let moving = &self.migrations.under_way[place];
        let (slot, to) = (moving.slot, moving.course.to);
        let run = self.fragments[slot as usize];
        match container {
            Container::AtSource if run.phase == Phase::Paused => self.resume(world, place, 1.0),
            Container::Paused if run.phase == Phase::Running => self.pause(world, slot),
            Container::AtDestination { speed } => {
                let speed = speed.0.max(LEAST_SPEED);
                let there = run.host == to;
                if there && moving.speed.to_bits() == speed.to_bits() {
                    return;
                }
                if run.phase == Phase::Running {
                    // Its service so far counts at the speed that it had.
                    self.pause(world, slot);
                }
                if !there {
                    self.change_host(place);
                }
                self.resume(world, place, speed);
            }
            Container::Lost => self.start_anew(world, place),
            Container::AtSource | Container::Paused => {}
        }
    }

    /// Takes a running fragment off the CPU; its memory stays held.
    fn pause(&mut self, world: &World, slot: u32) {
        let attained_mi = self.attained_mi(world, slot);
        let Some(fragment) = self.fragment_in(world, slot) else {
            return;
        };
        let run = &mut self.fragments[slot as usize];
        let host = &mut self.hosts[run.host.index()];
        host.advance(world.size_of(run.host.index()), self.now);
        host.classes[fragment.cap].remove(slot);
        host.holds += 1;
        host.ahead_mi += run.work_mi - attained_mi;
        run.phase = Phase::Paused;
        run.started_at_mi = -attained_mi;
        let h = run.host.index();
        self.reschedule(world, h);
    }

    /// Puts the paused fragment of a migration on the CPU of the host that it is on.
    fn resume(&mut self, world: &World, place: usize, speed: f64) {
        let moving = &mut self.migrations.under_way[place];
        let slot = moving.slot;
        moving.speed = speed;
        let Some(fragment) = self.fragment_in(world, slot) else {
            return;
        };
        let run = &mut self.fragments[slot as usize];
        let host = &mut self.hosts[run.host.index()];
        host.advance(world.size_of(run.host.index()), self.now);
        let attained_mi = -run.started_at_mi;
        let class = &mut host.classes[fragment.cap];
        run.phase = Phase::Running;
        run.started_at_mi = class.virtual_mi - attained_mi / speed;
        class.start(slot, run.started_at_mi, run.work_mi / speed);
        host.holds = host.holds.saturating_sub(1);
        host.ahead_mi -= run.work_mi - attained_mi;
        let h = run.host.index();
        self.reschedule(world, h);
    }

    /// Moves the paused fragment of a migration to the memory that is held for it at the
    /// destination; that at the source is held from then on.
    fn change_host(&mut self, place: usize) {
        let moving = &mut self.migrations.under_way[place];
        let Course { from, to, .. } = moving.course;
        moving.held = Some(from);
        let run = &mut self.fragments[moving.slot as usize];
        run.host = to;
        // At either end one holder of this memory takes the place of another.
        let left_mi = run.work_mi + run.started_at_mi;
        let source = &mut self.hosts[from.index()];
        source.resident.retain(|&r| r != moving.slot);
        source.ahead_mi -= left_mi;
        let destination = &mut self.hosts[to.index()];
        destination.resident.push(moving.slot);
        destination.ahead_mi += left_mi;
    }

    /// Lets a fragment that is lost start anew, unless the host that it is on has stopped serving.
    fn start_anew(&mut self, world: &World, place: usize) {
        let moving = &self.migrations.under_way[place];
        let (slot, from) = (moving.slot, moving.course.from);
        let here = self.fragments[slot as usize].host;
        if !self.hosts[here.index()].lifecycle.serves() {
            return;
        }
        let home = if self.hosts[from.index()].lifecycle.serves() {
            from
        } else {
            here
        };
        self.detach(world, slot);
        let run = &mut self.fragments[slot as usize];
        run.host = home;
        run.phase = Phase::Queued;
        run.started_at_mi = 0.0;
        let host = &mut self.hosts[home.index()];
        host.resident.push(slot);
        host.queue.push_back(slot);
        host.ahead_mi += run.work_mi;
        let request = run.request;
        self.forget_start(world, request);
    }

    /// Forgets when a request started, if nothing that was served of it is left.
    pub(super) fn forget_start(&mut self, world: &World, request: u32) {
        let found = &mut self.requests[request as usize];
        let Some(deployed) = found.deployed else {
            return;
        };
        let count = world
            .variant(found.application, deployed.variant)
            .fragments
            .len();
        let own = self
            .fragments
            .iter()
            .skip(deployed.first as usize)
            .take(count);
        let served =
            |run: &FragmentRun| matches!(run.phase, Phase::Running | Phase::Paused | Phase::Done);
        if !own.into_iter().any(served) {
            found.started = None;
        }
    }
}

/// What goes wrong, or is over.
impl State {
    /// Stops carrying out the order under way: for how many seconds it was carried out, and what
    /// was sent.
    fn halt(&mut self, world: &World, place: usize) -> (f64, Mebibytes) {
        let sent = self.sent(place);
        let moving = &mut self.migrations.under_way[place];
        if let Carrier::Transfer(slot) = moving.carrier {
            self.network.stop(world, self.now, slot);
        }
        moving.carrier = Carrier::Nobody;
        (self.now.since(moving.began).seconds(), sent)
    }

    /// What has been sent of the order under way.
    pub(crate) fn sent(&self, place: usize) -> Mebibytes {
        let moving = &self.migrations.under_way[place];
        match (moving.carrier, moving.attempt.demand()) {
            (Carrier::Transfer(slot), Demand::Transfer(Mebibytes(mib))) => {
                let left_mib = self.network.bits_left(slot, self.now) / BITS_PER_MIB;
                Mebibytes((mib - left_mib).max(0.0))
            }
            _ => Mebibytes(0.0),
        }
    }

    /// Ends the migration of the fragment in `slot`, if there is one: the fragment has ended, or is
    /// to be withdrawn. It stays where it is.
    pub(crate) fn abandon_migration<S: Sink>(&mut self, world: &World, slot: u32, sink: &mut S) {
        let Some(place) = self.migrations.place_of_fragment(slot) else {
            return;
        };
        let (elapsed_s, sent) = self.halt(world, place);
        let attempt = &mut self.migrations.under_way[place].attempt;
        if attempt.cancel().is_ok() || attempt.end_early(elapsed_s, sent).is_ok() {
            self.settle(world, place, sink);
        } else if let Ok(order) = attempt.interrupt(Cause::Injected, elapsed_s, sent) {
            // It was being rolled back, which is over now.
            self.follow(world, place, order, sink);
        }
    }

    /// Host `lost` has just stopped serving: ends the migrations from there and to there.
    ///
    /// Fragments that are on the host stay there, for the caller to withdraw.
    pub(crate) fn interrupt_migrations<S: Sink>(
        &mut self,
        world: &World,
        lost: HostId,
        sink: &mut S,
    ) {
        let under_way = self.migrations.under_way.iter();
        let concerned: Vec<(u32, Cause)> = under_way
            .filter_map(|m| match m.course {
                Course { number, from, .. } if from == lost => Some((number, Cause::SourceLost)),
                Course { number, to, .. } if to == lost => Some((number, Cause::DestinationLost)),
                _ => None,
            })
            .collect();
        for (number, cause) in concerned {
            self.interrupt_migration(world, number, cause, sink);
        }
    }

    /// Something on which a migration depends has failed.
    pub(crate) fn interrupt_migration<S: Sink>(
        &mut self,
        world: &World,
        number: u32,
        cause: Cause,
        sink: &mut S,
    ) {
        let Some(place) = self.migrations.place(number) else {
            return;
        };
        if self.migrations.under_way[place].attempt.cancel().is_ok() {
            self.settle(world, place, sink);
            return;
        }
        let (elapsed_s, sent) = self.halt(world, place);
        let moving = &mut self.migrations.under_way[place];
        let to = moving.course.to;
        if cause == Cause::DestinationLost && moving.held == Some(to) {
            // What is lost holds nothing any more, however long the way back takes.
            moving.held = None;
            self.hosts[to.index()].unhold(moving.ram_mib, moving.model, self.now);
        }
        if let Ok(order) = moving.attempt.interrupt(cause, elapsed_s, sent) {
            self.follow(world, place, order, sink);
        }
    }

    /// Draws anew what a policy cannot know of migrations: whether, and where, they fail.
    pub(super) fn redraw_migrations(&mut self) {
        for place in 0..self.migrations.under_way.len() {
            let sent = self.sent(place);
            let key = self.fault_key(self.migrations.under_way[place].course.number);
            let moving = &mut self.migrations.under_way[place];
            let before = moving.attempt.demand();
            moving.attempt.redraw(key, sent);
            let after = moving.attempt.demand();
            if let (Carrier::Transfer(slot), Demand::Transfer(demanded)) = (moving.carrier, after)
                && before != after
            {
                let bits = (demanded - sent).0.max(0.0) * BITS_PER_MIB;
                self.network.set_bits_left(slot, self.now, bits);
            }
        }
    }
}

#[cfg(test)]
mod tests;
