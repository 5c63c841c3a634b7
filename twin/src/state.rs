//! The state of the twin, and how events change it.
//!
//! Time is continuous (integer nanoseconds). [`State::advance`] runs events until a decision is
//! due; [`State::apply`] carries a decision out. The state holds no future: arrivals are handed
//! in, so that the same state can be continued in many ways.
//!
//! Events at the same nanosecond are handled in a fixed order: transfers, timers, completions (by
//! host), arrivals, interval boundaries.

pub(crate) mod incidents;
pub(crate) mod migrate;
pub(crate) mod telemetry;

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use serde::{Deserialize, Serialize};

use self::incidents::Fault;
use crate::container::ContainerMeter;
use crate::decision::{Decision, Deployment, PowerAction};
use crate::demand;
use crate::faults::{Incident, Incidents};
use crate::host::{Host, Lifecycle};
use crate::ids::{ApplicationId, HostId, RequestId, VariantId};
use crate::network::{self, Delivery, Endpoint, Network};
use crate::queue::EventQueue;
use crate::sink::Sink;
use crate::stream;
use crate::units::SimTime;
use crate::workload::{Arrival, Rates};
use crate::world::{Dispatch, World};

pub(crate) use migrate::Migrations;
pub use migrate::{Course, MigrationTotals};

/// Part of a seed for what is random about the fleet.
const FLEET_PART: u64 = 0x0066_6c65_6574;

/// Why [`State::advance`] came back.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Epoch {
    /// An interval boundary: everything may be decided.
    Boundary,
    /// A request arrived (`dispatch = "on-arrival"`): requests may be deployed.
    Arrival,
    /// The time handed in was reached; nothing is to be decided.
    End,
}

/// Sums over the requests that ended, and over those under way.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct RequestTotals {
    /// Requests that arrived.
    pub arrived: u64,
    /// Requests answered.
    pub completed: u64,
    /// Requests answered after their deadline.
    pub late: u64,
    /// Sum of response times, in s.
    pub response_s: f64,
    /// Sum of times from arrival to the first service, in s.
    pub waiting_s: f64,
    /// Sum of the accuracies of the variants that answered.
    pub accuracy: f64,
    /// Sum of one minus these.
    pub inaccuracy: f64,
}

/// A request between arrival and answer.
///
/// One cache line: with many hosts, requests are where memory is waited for.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
#[repr(align(64))]
pub(crate) struct Request {
    pub(crate) id: RequestId,
    pub(crate) application: ApplicationId,
    pub(crate) arrived: SimTime,
    pub(crate) context_tokens: u32,
    pub(crate) generated_tokens: u32,
    /// Whether a finished fragment has told how many tokens were generated.
    pub(crate) generated_known: bool,
    pub(crate) key: u64,
    pub(crate) deployed: Option<Deployed>,
    pub(crate) started: Option<SimTime>,
}

const _: () = assert!(size_of::<Request>() == 64);

/// The deployment of a request under way.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub(crate) struct Deployed {
    pub(crate) variant: VariantId,
    /// Slot of the first fragment; the others follow.
    pub(crate) first: u32,
    /// Outputs that the users still wait for.
    pub(crate) outputs_left: u16,
}

/// Where a fragment is in its life.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Phase {
    /// Waits for inputs.
    Waiting,
    /// Has its inputs and waits for memory or for the host's boot.
    Queued,
    /// Holds its memory and waits for its model to be loaded.
    Loading,
    /// Runs.
    Running,
    /// Ran, and is paused while a migration copies it.
    Paused,
    /// Has ended.
    Done,
}

impl Phase {
    /// Whether a fragment in this phase holds its memory.
    #[must_use]
    pub fn holds_memory(self) -> bool {
        matches!(self, Self::Loading | Self::Running | Self::Paused)
    }
}

/// A placed fragment.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub(crate) struct FragmentRun {
    pub(crate) request: u32,
    pub(crate) index: u16,
    pub(crate) host: HostId,
    pub(crate) phase: Phase,
    pub(crate) inputs_left: u16,
    pub(crate) work_mi: f64,
    /// Virtual work of its class when it would have started, had it run there from its start: less
    /// the service that it has had elsewhere. Of a fragment that does not run, minus its service.
    pub(crate) started_at_mi: f64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub(crate) struct Timer {
    pub(crate) at: SimTime,
    /// Among equal times: by host, or by request and fragment, so that the order does not depend on
    /// what happened elsewhere.
    pub(crate) rank: u64,
    pub(crate) kind: TimerKind,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub(crate) enum TimerKind {
    Boot(HostId),
    Input(u32),
    Output(u32),
    /// The model that a fragment waits for is loaded.
    Loaded(u32),
    Fault(Fault),
    Migration(u32),
}

/// The state of the twin at one moment.
#[derive(Debug, Serialize, Deserialize)]
pub struct State {
    pub(crate) now: SimTime,
    pub(crate) hosts: Vec<Host>,
    pub(crate) completions: EventQueue,
    pub(crate) requests: Vec<Request>,
    pub(crate) free_requests: Vec<u32>,
    /// Slots of requests that are not deployed, in the order of arrival.
    pub(crate) waiting: Vec<u32>,
    /// Slots of all requests under way, in no particular order.
    pub(crate) active: Vec<u32>,
    /// Position in `active` by slot; kept apart from the requests, since each request that ends
    /// changes that of another.
    pub(crate) places: Vec<u32>,
    pub(crate) fragments: Vec<FragmentRun>,
    /// Free runs of slots, by length.
    pub(crate) free_fragments: Vec<Vec<u32>>,
    pub(crate) network: Network,
    pub(crate) timers: BinaryHeap<Reverse<Timer>>,
    pub(crate) rates: Vec<Rates>,
    pub(crate) next_request: u64,
    pub(crate) next_boundary: SimTime,
    pub(crate) totals: RequestTotals,
    /// Sum of the accounts of requests by application: answered, and response over deadline.
    pub(crate) by_application: Vec<(u64, f64)>,
    /// Hashed into what is random about hosts and faults.
    pub(crate) key: u64,
    /// What happened to the fleet.
    pub(crate) incidents: Incidents,
    pub(crate) migrations: Migrations,
    /// Fragments that started, and when, since somebody asked; of the state of a real fleet only,
    /// whose copies are simulated.
    #[serde(skip)]
    pub(crate) starts: Option<Vec<(u32, SimTime)>>,
}

impl Clone for State {
    fn clone(&self) -> Self {
        Self {
            hosts: self.hosts.clone(),
            completions: self.completions.clone(),
            requests: self.requests.clone(),
            free_requests: self.free_requests.clone(),
            waiting: self.waiting.clone(),
            active: self.active.clone(),
            places: self.places.clone(),
            fragments: self.fragments.clone(),
            free_fragments: self.free_fragments.clone(),
            network: self.network.clone(),
            timers: self.timers.clone(),
            rates: self.rates.clone(),
            by_application: self.by_application.clone(),
            migrations: self.migrations.clone(),
            starts: None,
            ..*self
        }
    }

    fn clone_from(&mut self, source: &Self) {
        self.starts = None;
        self.now = source.now;
        self.hosts.clone_from(&source.hosts);
        self.completions.clone_from(&source.completions);
        self.requests.clone_from(&source.requests);
        self.free_requests.clone_from(&source.free_requests);
        self.waiting.clone_from(&source.waiting);
        self.active.clone_from(&source.active);
        self.places.clone_from(&source.places);
        self.fragments.clone_from(&source.fragments);
        self.free_fragments.clone_from(&source.free_fragments);
        self.network.clone_from(&source.network);
        self.timers.clone_from(&source.timers);
        self.rates.clone_from(&source.rates);
        self.next_request = source.next_request;
        self.next_boundary = source.next_boundary;
        self.totals = source.totals;
        self.by_application.clone_from(&source.by_application);
        self.key = source.key;
        self.incidents = source.incidents;
        self.migrations.clone_from(&source.migrations);
    }
}

/// The future that a state is continued with: arrivals by time, and how many of them have come.
#[derive(Clone, Copy, Debug)]
pub struct Future<'a> {
    arrivals: &'a [Arrival],
    next: usize,
}

impl<'a> Future<'a> {
    /// The future of `arrivals`, sorted by time.
    #[must_use]
    pub fn new(arrivals: &'a [Arrival]) -> Self {
        Self { arrivals, next: 0 }
    }

    /// No arrivals.
    #[must_use]
    pub fn empty() -> Self {
        Self {
            arrivals: &[],
            next: 0,
        }
    }

    /// The future of `arrivals`, of which the first `skip` have already come.
    #[must_use]
    pub fn skipping(arrivals: &'a [Arrival], skip: usize) -> Self {
        Self {
            arrivals,
            next: skip.min(arrivals.len()),
        }
    }

    fn peek(&self) -> SimTime {
        self.arrivals
            .get(self.next)
            .map_or(SimTime::NEVER, |a| a.time)
    }
}

/// The place of what is delivered to fragment `index` of `request`, or to its users, among other
/// deliveries at the same time.
pub(crate) fn delivery_rank(request: RequestId, index: Option<u16>) -> u64 {
    const DELIVERIES: u64 = 2 * crate::world::MAX_FRAGMENTS as u64;
    request.0 * DELIVERIES + index.map_or(DELIVERIES - 1, u64::from)
}

impl State {
    /// The state at the start of an episode: hosts as the world says, nothing under way. The first
    /// boundary is at time zero. Speeds of VMs and faults are those of seed 0.
    #[must_use]
    pub fn new(world: &World) -> Self {
        Self::seeded(world, 0)
    }

    /// As [`State::new`], with the speeds of VMs and the faults of `seed`.
    #[must_use]
    pub fn seeded(world: &World, seed: u64) -> Self {
        let key = stream::mix(seed, FLEET_PART);
        let hosts: Vec<Host> = (0..world.hosts.len())
            .map(|h| Host::new(world, h, key))
            .collect();
        let mut state = Self {
            now: SimTime::ZERO,
            completions: EventQueue::new(hosts.len()),
            hosts,
            requests: Vec::new(),
            free_requests: Vec::new(),
            waiting: Vec::new(),
            active: Vec::new(),
            places: Vec::new(),
            fragments: Vec::new(),
            free_fragments: vec![Vec::new(); crate::world::MAX_FRAGMENTS + 1],
            network: Network::new(world),
            timers: BinaryHeap::new(),
            rates: vec![Rates::default(); world.applications.len()],
            next_request: 0,
            next_boundary: SimTime::ZERO,
            totals: RequestTotals::default(),
            by_application: vec![(0, 0.0); world.applications.len()],
            migrations: Migrations::default(),
            key,
            incidents: Incidents::default(),
            starts: None,
        };
        state.expect_faults(world);
        if !world.containers.is_empty() {
            for h in 0..state.hosts.len() {
                state.admit(world, h);
                state.reschedule(world, h);
            }
        }
        state
    }

    /// The time of this state.
    #[must_use]
    pub fn now(&self) -> SimTime {
        self.now
    }

    /// What each container of the world has wanted and lacked up to now, in their order.
    #[must_use]
    pub fn container_meters(&self) -> Vec<ContainerMeter> {
        let mut meters = Vec::new();
        for (h, host) in self.hosts.iter().enumerate() {
            let span = self.now.since(host.updated);
            meters.extend(host.containers.iter().map(|run| ContainerMeter {
                id: run.id,
                host: HostId::at(h),
                demanded: run.demanded + run.demand.over(span),
                unmet: run.unmet + run.lacking().over(span),
            }));
        }
        meters.sort_unstable_by_key(|meter| meter.id);
        meters
    }

    /// Runs events until a decision is due or `until` is reached.
    ///
    /// With `dispatch = "interval"` a decision is due at boundaries only.
    pub fn advance<S: Sink>(
        &mut self,
        world: &World,
        future: &mut Future<'_>,
        until: SimTime,
        sink: &mut S,
    ) -> Epoch {
        loop {
            let transfer = self.network.next();
            let timer = self.timers.peek().map_or(SimTime::NEVER, |t| t.0.at);
            let (completion, host) = self.completions.first();
            let arrival = future.peek();
            let next = transfer
                .min(timer)
                .min(completion)
                .min(arrival)
                .min(self.next_boundary);
            if next >= until {
                self.now = until.max(self.now);
                return Epoch::End;
            }
            self.now = next;
            if transfer == next {
                self.finish_transfers(world, sink);
            } else if timer == next {
                self.fire_timer(world, sink);
            } else if completion == next {
                self.finish_fragments(world, host, sink);
            } else if arrival == next {
                let arrived = future.arrivals[future.next];
                future.next += 1;
                let taken = self.arrive(world, arrived, sink);
                if taken && world.dispatch == Dispatch::OnArrival {
                    return Epoch::Arrival;
                }
            } else {
                self.next_boundary = self.next_boundary.after(world.interval);
                self.call_off_migrations(world, sink);
                sink.boundary(self, world);
                return Epoch::Boundary;
            }
        }
    }

    /// Carries out `decision`, which [`crate::checker::check`] has found feasible: provisioning
    /// first, then deployments, then migrations.
    ///
    /// Parts that are not feasible are left out.
    pub fn apply<S: Sink>(&mut self, world: &World, decision: &Decision, sink: &mut S) {
        for action in &decision.provisioning {
            self.power(world, *action, sink);
        }
        for deployment in &decision.deployments {
            self.deploy(world, deployment, sink);
        }
        for migration in &decision.migrations {
            self.migrate(world, migration, sink);
        }
    }

    /// Turns a host on or off.
    pub(crate) fn power<S: Sink>(&mut self, world: &World, action: PowerAction, sink: &mut S) {
        let h = action.host.index();
        let Some(host) = self.hosts.get_mut(h) else {
            return;
        };
        host.advance(world.size_of(h), self.now);
        let was = host.lifecycle;
        let ready_at = self.now.after(world.size_of(h).boot);
        host.turn(action.on, ready_at);
        let is = host.lifecycle;
        if is == (Lifecycle::Booting { ready_at }) && was == Lifecycle::Off {
            self.set_timer(ready_at, TimerKind::Boot(action.host));
        }
        if is != was {
            sink.lifecycle(self.now, action.host, is);
        }
        self.reschedule(world, h);
    }

    /// Deploys a waiting request.
    pub(crate) fn deploy<S: Sink>(&mut self, world: &World, deployment: &Deployment, sink: &mut S) {
        let Some(place) = self
            .waiting
            .iter()
            .position(|&r| self.requests[r as usize].id == deployment.request)
        else {
            return;
        };
        let slot = self.waiting[place];
        let application = self.requests[slot as usize].application;
        let variants = &world.applications[application.index()].variants;
        let Some(variant) = variants.get(deployment.variant.index()) else {
            return;
        };
        let placeable = |h: &HostId| {
            self.hosts
                .get(h.index())
                .is_some_and(|x| x.lifecycle.accepts())
        };
        if deployment.hosts.len() != variant.fragments.len()
            || !deployment.hosts.iter().all(placeable)
        {
            return;
        }
        self.waiting.remove(place);
        sink.deployed(self.now, deployment);
        self.place(world, slot, deployment.variant, &deployment.hosts);
    }

    /// Places the fragments of the request in `slot` and sends the input on its way.
    pub(crate) fn place(
        &mut self,
        world: &World,
        slot: u32,
        variant_id: VariantId,
        hosts: &[HostId],
    ) {
        let request = self.requests[slot as usize];
        let application = &world.applications[request.application.index()];
        let variant = &application.variants[variant_id.index()];
        let first = self.allocate_fragments(variant.fragments.len());
        let mut outputs = 0;
        for (i, fragment) in variant.fragments.iter().enumerate() {
            let run = FragmentRun {
                request: slot,
                index: u16::try_from(i).unwrap_or(u16::MAX),
                host: hosts[i],
                phase: Phase::Waiting,
                inputs_left: u16::try_from(fragment.predecessors.len().max(1)).unwrap_or(u16::MAX),
                work_mi: demand::work(fragment, i, &request),
                started_at_mi: 0.0,
            };
            let at = first + u32::from(run.index);
            self.fragments[at as usize] = run;
            let host = &mut self.hosts[hosts[i].index()];
            host.resident.push(at);
            host.ahead_mi += run.work_mi;
            outputs += u16::from(fragment.successors.is_empty());
        }
        self.requests[slot as usize].deployed = Some(Deployed {
            variant: variant_id,
            first,
            outputs_left: outputs,
        });
        let input_bytes = application.input_bytes
            + application.input_bytes_per_context_token * f64::from(request.context_tokens);
        for (i, fragment) in variant.fragments.iter().enumerate() {
            if fragment.predecessors.is_empty() {
                let target = first + u32::try_from(i).unwrap_or(0);
                let ends = (Endpoint::User, Endpoint::Host(hosts[i]));
                self.send(
                    world,
                    ends,
                    Delivery::Input { fragment: target },
                    input_bytes,
                );
            }
        }
    }

    /// Forgets the free slots of fragments, so that slots follow the order of placement from here
    /// on, whatever has ended.
    pub(crate) fn forget_free_slots(&mut self) {
        for list in &mut self.free_fragments {
            list.clear();
        }
    }

    fn allocate_fragments(&mut self, count: usize) -> u32 {
        if let Some(first) = self.free_fragments[count].pop() {
            return first;
        }
        let first = self.fragments.len();
        let blank = FragmentRun {
            request: 0,
            index: 0,
            host: HostId(0),
            phase: Phase::Done,
            inputs_left: 0,
            work_mi: 0.0,
            started_at_mi: 0.0,
        };
        self.fragments.resize(first + count, blank);
        u32::try_from(first).unwrap_or(u32::MAX)
    }

    /// Starts a transfer, or delivers at once where there is nothing to carry and no latency.
    fn send(
        &mut self,
        world: &World,
        (from, to): (Endpoint, Endpoint),
        delivery: Delivery,
        bytes: f64,
    ) {
        if from != to && bytes > 0.0 {
            let bits = bytes * 8.0;
            self.network
                .start(world, self.now, (from, to), delivery, bits);
            return;
        }
        self.arrive_after(world, (from, to), delivery);
    }

    /// Delivers when the latency between the ends has passed.
    fn arrive_after(&mut self, world: &World, (from, to): (Endpoint, Endpoint), what: Delivery) {
        let latency = if from == to {
            SimTime::ZERO
        } else {
            network::latency(world, from, to)
        };
        let kind = match what {
            Delivery::Input { fragment } if latency == SimTime::ZERO => {
                self.receive_input(world, fragment);
                return;
            }
            Delivery::Input { fragment } => TimerKind::Input(fragment),
            Delivery::Output { request } => TimerKind::Output(request),
            // Its protocol accounts for latency: it never comes here.
            Delivery::Migration { number } => TimerKind::Migration(number),
        };
        self.set_timer(self.now.after(latency), kind);
    }

    pub(crate) fn set_timer(&mut self, at: SimTime, kind: TimerKind) {
        let rank = match kind {
            TimerKind::Boot(host) => u64::from(host.0),
            TimerKind::Input(fragment) | TimerKind::Loaded(fragment) => {
                self.rank(Delivery::Input { fragment })
            }
            TimerKind::Output(request) => self.rank(Delivery::Output { request }),
            TimerKind::Fault(fault) => fault.rank(),
            TimerKind::Migration(number) => self.rank(Delivery::Migration { number }),
        };
        self.timers.push(Reverse(Timer { at, rank, kind }));
    }

    /// The place of a delivery among others at the same time.
    fn rank(&self, delivery: Delivery) -> u64 {
        match delivery {
            Delivery::Input { fragment } => {
                let run = &self.fragments[fragment as usize];
                delivery_rank(self.requests[run.request as usize].id, Some(run.index))
            }
            Delivery::Output { request } => delivery_rank(self.requests[request as usize].id, None),
            // After all deliveries.
            Delivery::Migration { number } => (1 << 63) | u64::from(number),
        }
    }

    /// Takes an arrival in; whether there is room for it.
    fn arrive<S: Sink>(&mut self, world: &World, arrival: Arrival, sink: &mut S) -> bool {
        let request = Request {
            id: RequestId(self.next_request),
            application: arrival.application,
            arrived: self.now,
            context_tokens: arrival.context_tokens,
            generated_tokens: arrival.generated_tokens,
            generated_known: false,
            key: arrival.key,
            deployed: None,
            started: None,
        };
        self.next_request += 1;
        self.totals.arrived += 1;
        self.rates[arrival.application.index()].count(self.now);
        sink.arrived(self.now, &request);
        let full = |most: u32| self.active.len() >= most as usize;
        if world.max_active_requests.is_some_and(full) {
            let (request, application) = (request.id, request.application);
            self.note(
                Incident::Rejected {
                    request,
                    application,
                },
                sink,
            );
            return false;
        }
        self.insert_request(request);
        true
    }

    /// Counts an incident and tells of it.
    pub(crate) fn note<S: Sink>(&mut self, incident: Incident, sink: &mut S) {
        self.incidents.count(&incident);
        sink.incident(self.now, &incident);
    }

    /// Puts a request among those under way, waiting to be deployed.
    pub(crate) fn insert_request(&mut self, request: Request) -> u32 {
        let place = u32::try_from(self.active.len()).unwrap_or(u32::MAX);
        let slot = match self.free_requests.pop() {
            Some(slot) => {
                self.requests[slot as usize] = request;
                self.places[slot as usize] = place;
                slot
            }
            None => {
                self.requests.push(request);
                self.places.push(place);
                u32::try_from(self.requests.len() - 1).unwrap_or(u32::MAX)
            }
        };
        self.waiting.push(slot);
        self.active.push(slot);
        slot
    }

    fn finish_transfers<S: Sink>(&mut self, world: &World, sink: &mut S) {
        let mut ended = self.network.take_finished(world, self.now);
        if ended.len() > 1 {
            ended.sort_unstable_by_key(|done| self.rank(done.delivery));
        }
        for done in &ended {
            if let Delivery::Migration { number } = done.delivery {
                self.carried_out(world, number, sink);
                continue;
            }
            self.arrive_after(world, (done.from, done.to), done.delivery);
        }
        self.network.give_back(ended);
    }

    fn fire_timer<S: Sink>(&mut self, world: &World, sink: &mut S) {
        let Some(Reverse(timer)) = self.timers.pop() else {
            return;
        };
        match timer.kind {
            TimerKind::Boot(id) => {
                let host = &self.hosts[id.index()];
                // The boot may have been called off, or called off and ordered again.
                if host.lifecycle == (Lifecycle::Booting { ready_at: timer.at }) {
                    self.boot(world, id.index(), sink);
                }
            }
            TimerKind::Loaded(fragment) => self.model_loaded(world, fragment),
            TimerKind::Fault(fault) => self.strike(world, fault, sink),
            TimerKind::Input(fragment) => self.receive_input(world, fragment),
            TimerKind::Output(request) => self.deliver_output(world, request, sink),
            TimerKind::Migration(number) => {
                if self.waits_for_timer(number, timer.at) {
                    self.carried_out(world, number, sink);
                }
            }
        }
    }

    fn receive_input(&mut self, world: &World, slot: u32) {
        let run = &mut self.fragments[slot as usize];
        if run.phase != Phase::Waiting {
            return;
        }
        run.inputs_left -= 1;
        if run.inputs_left > 0 {
            return;
        }
        run.phase = Phase::Queued;
        let h = run.host.index();
        self.hosts[h].advance(world.size_of(h), self.now);
        self.hosts[h].queue.push_back(slot);
        self.admit(world, h);
        self.reschedule(world, h);
    }

    /// Starts queued fragments of host `h` while the first of them fits into memory.
    pub(crate) fn admit(&mut self, world: &World, h: usize) {
        if !self.hosts[h].lifecycle.serves() {
            return;
        }
        let host = &mut self.hosts[h];
        if !host.containers.is_empty() && !host.seat_containers() {
            return;
        }
        while let Some(&slot) = self.hosts[h].queue.front() {
            let run = &mut self.fragments[slot as usize];
            let request = &mut self.requests[run.request as usize];
            let Some(deployed) = request.deployed else {
                return;
            };
            let fragment = &world
                .variant(request.application, deployed.variant)
                .fragments[usize::from(run.index)];
            let host = &mut self.hosts[h];
            let Some((ready_at, cold)) = host.take_memory(world, fragment, self.now) else {
                return;
            };
            self.incidents.cold_starts += u64::from(cold);
            host.queue.pop_front();
            if ready_at > self.now {
                run.phase = Phase::Loading;
                host.loading += 1;
                self.set_timer(ready_at, TimerKind::Loaded(slot));
                continue;
            }
            host.start(fragment.cap, slot, run);
            request.started.get_or_insert(self.now);
            if let Some(starts) = &mut self.starts {
                starts.push((slot, self.now));
            }
        }
    }

    /// The model that the fragment in `slot` waited for is loaded.
    fn model_loaded(&mut self, world: &World, slot: u32) {
        let run = &mut self.fragments[slot as usize];
        let request = &mut self.requests[run.request as usize];
        let (Phase::Loading, Some(deployed)) = (run.phase, request.deployed) else {
            return;
        };
        let h = run.host.index();
        let variant = world.variant(request.application, deployed.variant);
        let host = &mut self.hosts[h];
        host.advance(world.size_of(h), self.now);
        host.loading -= 1;
        host.start(variant.fragments[usize::from(run.index)].cap, slot, run);
        request.started.get_or_insert(self.now);
        if let Some(starts) = &mut self.starts {
            starts.push((slot, self.now));
        }
        self.reschedule(world, h);
    }

    /// Recomputes the rates of host `h` and when its next fragment ends.
    pub(crate) fn reschedule(&mut self, world: &World, h: usize) {
        let host = &mut self.hosts[h];
        let size = world.size_of(h);
        host.share(size);
        self.completions.set(h, host.next_event(size));
    }

    fn finish_fragments<S: Sink>(&mut self, world: &World, h: usize, sink: &mut S) {
        self.hosts[h].advance(world.size_of(h), self.now);
        if !self.hosts[h].containers.is_empty() {
            self.hosts[h].turn_containers(world, self.now);
        }
        while let Some(slot) = self.hosts[h].pop_finished() {
            if !self.migrations.is_empty() {
                self.abandon_migration(world, slot, sink);
            }
            self.finish_fragment(world, slot, sink);
        }
        self.refill(world, h, sink);
    }

    /// Lets host `h`, which is up to date, go on after fragments have left it.
    pub(crate) fn refill<S: Sink>(&mut self, world: &World, h: usize, sink: &mut S) {
        self.admit(world, h);
        if !self.migrations.is_empty() {
            self.retry_migrations(world, h, sink);
        }
        self.drained(h, sink);
        self.reschedule(world, h);
    }

    /// Takes the fragment in `slot` off its host, whatever it does there, and gives the service that
    /// it has had, in MI; [`State::refill`] must follow.
    pub(crate) fn detach(&mut self, world: &World, slot: u32) -> f64 {
        let attained_mi = self.attained_mi(world, slot);
        let run = self.fragments[slot as usize];
        let request = &self.requests[run.request as usize];
        let Some(deployed) = request.deployed else {
            return 0.0;
        };
        let variant = world.variant(request.application, deployed.variant);
        let fragment = &variant.fragments[usize::from(run.index)];
        let host = &mut self.hosts[run.host.index()];
        host.advance(world.size_of(run.host.index()), self.now);
        let mut held_mib = 0.0;
        match run.phase {
            Phase::Done => return 0.0,
            Phase::Running => {
                host.classes[fragment.cap].remove(slot);
                host.leave_model(fragment.model, self.now);
                held_mib = fragment.ram.0;
            }
            Phase::Loading => {
                host.loading -= 1;
                host.ahead_mi -= run.work_mi;
                host.leave_model(fragment.model, self.now);
                held_mib = fragment.ram.0;
            }
            Phase::Waiting | Phase::Queued => {
                host.queue.retain(|&queued| queued != slot);
                host.ahead_mi -= run.work_mi;
            }
            Phase::Paused => {
                host.holds = host.holds.saturating_sub(1);
                host.ahead_mi -= run.work_mi + run.started_at_mi;
                host.leave_model(fragment.model, self.now);
                held_mib = fragment.ram.0;
            }
        }
        host.release(slot, held_mib);
        attained_mi
    }

    /// Turns a draining host off once nothing is left on it.
    fn drained<S: Sink>(&mut self, h: usize, sink: &mut S) {
        if self.hosts[h].turn_off_drained() {
            sink.lifecycle(self.now, HostId::at(h), Lifecycle::Off);
        }
    }

    fn finish_fragment<S: Sink>(&mut self, world: &World, slot: u32, sink: &mut S) {
        let run = &mut self.fragments[slot as usize];
        run.phase = Phase::Done;
        let (index, from, request_slot) = (usize::from(run.index), run.host, run.request);
        let host = &mut self.hosts[from.index()];
        let request = &mut self.requests[request_slot as usize];
        let Some(deployed) = request.deployed else {
            return;
        };
        let variant = world.variant(request.application, deployed.variant);
        let fragment = &variant.fragments[index];
        host.leave_model(fragment.model, self.now);
        host.release(slot, fragment.ram.0);
        sink.fragment_done(self.now, request.id, index, from);
        self.hand_on(world, slot, sink);
    }

    /// Sends the output of the fragment in `slot`, which has ended, on its way.
    fn hand_on<S: Sink>(&mut self, world: &World, slot: u32, sink: &mut S) {
        let run = self.fragments[slot as usize];
        let (index, from, request_slot) = (usize::from(run.index), run.host, run.request);
        let request = &mut self.requests[request_slot as usize];
        let Some(deployed) = request.deployed else {
            return;
        };
        let variant = world.variant(request.application, deployed.variant);
        let fragment = &variant.fragments[index];
        // Of a real fleet the tokens are known once they are reported.
        if self.starts.is_none() && demand::tells_generated_tokens(fragment) {
            request.generated_known = true;
        }
        let tokens = f64::from(request.context_tokens) + f64::from(request.generated_tokens);
        let bytes = fragment.output_bytes + fragment.output_bytes_per_token * tokens;
        if fragment.successors.is_empty() {
            let ends = (Endpoint::Host(from), Endpoint::User);
            if bytes <= 0.0 && network::latency(world, ends.0, ends.1) == SimTime::ZERO {
                self.deliver_output(world, request_slot, sink);
                return;
            }
            self.send(
                world,
                ends,
                Delivery::Output {
                    request: request_slot,
                },
                bytes,
            );
        }
        for &s in &fragment.successors {
            let target = deployed.first + u32::try_from(s).unwrap_or(0);
            let to = self.fragments[target as usize].host;
            let ends = (Endpoint::Host(from), Endpoint::Host(to));
            self.send(world, ends, Delivery::Input { fragment: target }, bytes);
        }
    }

    fn deliver_output<S: Sink>(&mut self, world: &World, slot: u32, sink: &mut S) {
        let request = &mut self.requests[slot as usize];
        let Some(deployed) = &mut request.deployed else {
            return;
        };
        deployed.outputs_left -= 1;
        if deployed.outputs_left > 0 {
            return;
        }
        let (variant_id, first) = (deployed.variant, deployed.first);
        let request = &self.requests[slot as usize];
        let application = &world.applications[request.application.index()];
        let variant = &application.variants[variant_id.index()];
        let response = self.now.since(request.arrived);
        let waiting = request
            .started
            .map_or(SimTime::ZERO, |s| s.since(request.arrived));
        let totals = &mut self.totals;
        totals.completed += 1;
        totals.late += u64::from(response > application.deadline);
        totals.response_s += response.seconds();
        totals.waiting_s += waiting.seconds();
        totals.accuracy += variant.accuracy;
        totals.inaccuracy += 1.0 - variant.accuracy;
        let account = &mut self.by_application[request.application.index()];
        account.0 += 1;
        account.1 += response.seconds() / application.deadline.seconds();
        sink.completed(
            self.now,
            request,
            variant_id,
            response > application.deadline,
        );
        self.free_fragments[variant.fragments.len()].push(first);
        self.remove_request(slot);
    }

    /// Takes the request in `slot`, of which nothing is left, from those under way.
    fn remove_request(&mut self, slot: u32) {
        self.free_requests.push(slot);
        let place = self.places[slot as usize];
        self.active.swap_remove(place as usize);
        if let Some(&moved) = self.active.get(place as usize) {
            self.places[moved as usize] = place;
        }
    }

    /// Service that the fragment in `slot` has had, in MI; zero unless it runs.
    pub(crate) fn attained_mi(&self, world: &World, slot: u32) -> f64 {
        let run = &self.fragments[slot as usize];
        match run.phase {
            Phase::Running => {}
            Phase::Paused => return (-run.started_at_mi).clamp(0.0, run.work_mi),
            _ => return 0.0,
        }
        let request = &self.requests[run.request as usize];
        let Some(deployed) = request.deployed else {
            return 0.0;
        };
        let fragment = &world
            .variant(request.application, deployed.variant)
            .fragments[usize::from(run.index)];
        let host = &self.hosts[run.host.index()];
        let class = &host.classes[fragment.cap];
        let since = self.now.since(host.updated).seconds();
        let service_mi = class.virtual_mi - run.started_at_mi + class.rate_mips * since;
        (service_mi * self.speed_of(slot)).clamp(0.0, run.work_mi)
    }

    /// Draws everything anew that a policy cannot know: the tokens that requests under way will
    /// generate and the work that their fragments have left, given the service they have had.
    pub fn resample(&mut self, world: &World, key: u64) {
        for i in 0..self.active.len() {
            let slot = self.active[i] as usize;
            let mut request = self.requests[slot];
            request.key = stream::mix(key, request.id.0);
            let Some(deployed) = request.deployed else {
                demand::redraw_tokens(world, &mut request, &[]);
                self.requests[slot] = request;
                continue;
            };
            let variant = world.variant(request.application, deployed.variant);
            let mut attained = [0.0; crate::world::MAX_FRAGMENTS];
            for (k, service) in attained
                .iter_mut()
                .enumerate()
                .take(variant.fragments.len())
            {
                *service = self.attained_mi(world, deployed.first + u32::try_from(k).unwrap_or(0));
            }
            let served: Vec<(usize, f64)> = (0..variant.fragments.len())
                .filter(|&k| attained[k] > 0.0)
                .map(|k| (k, attained[k]))
                .collect();
            demand::redraw_tokens(world, &mut request, &served);
            for (k, fragment) in variant.fragments.iter().enumerate() {
                let run = &mut self.fragments[deployed.first as usize + k];
                if run.phase != Phase::Done {
                    run.work_mi = demand::redraw_work(fragment, k, &request, attained[k]);
                }
            }
            self.requests[slot] = request;
        }
        for h in 0..self.hosts.len() {
            self.hosts[h].resample_containers(world, self.now, key);
            self.rebuild_finishes(world, h);
        }
        self.key = stream::mix(self.key, key);
        self.expect_faults(world);
        self.redraw_migrations();
    }

    /// Orders the running fragments of host `h` anew after their work has changed.
    pub(crate) fn rebuild_finishes(&mut self, world: &World, h: usize) {
        let host = &mut self.hosts[h];
        host.advance(world.size_of(h), self.now);
        for class in &mut host.classes {
            let mut finishes = std::mem::take(&mut class.running).into_vec();
            class.finish_sum_mi = 0.0;
            for finish in &mut finishes {
                let run = &self.fragments[finish.fragment as usize];
                let speed = self.migrations.speed_of(finish.fragment);
                finish.at_work = run.started_at_mi + run.work_mi / speed;
                class.finish_sum_mi += finish.at_work;
            }
            class.running = BinaryHeap::from(finishes);
        }
        host.ahead_mi = host
            .resident
            .iter()
            .map(|&slot| &self.fragments[slot as usize])
            .filter(|run| run.phase != Phase::Running)
            .map(|run| run.work_mi + run.started_at_mi)
            .sum();
        self.reschedule(world, h);
    }
}
