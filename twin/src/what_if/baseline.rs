//! A rollout written down: what reached each host and when, so that a decision that differs in few
//! places can be priced from what differs ([`super::incremental`]).
//!
//! Hosts act on each other through *messages* alone: the input of a request, the output of a
//! fragment that another host or the users wait for. A message starts when its request is placed
//! or its fragment ends, crosses the network, and arrives. Messages that share an egress, an
//! ingress or a link at the same time form a *cluster*; messages of different clusters do not slow
//! each other down.

use std::collections::BTreeSet;
use std::ops::Range;

use super::ledger::{HostPart, Ledger, RequestPart};
use super::rollout::{Class, Tally, Trace};
use super::transfers;
use super::{Horizon, SampledFuture};
use crate::decision::{Decision, PowerAction};
use crate::demand;
use crate::ids::{HostId, RequestId, VariantId};
use crate::network::{self, Delivery, Endpoint, Network, Transfer};
use crate::sink::Sink;
use crate::state::incidents::Fault;
use crate::state::{self, Phase, Request, State, TimerKind};
use crate::units::SimTime;
use crate::world::{Variant, World};

/// No position.
pub(super) const NONE: u32 = u32::MAX;

/// When something reaches a host: by time, and in the order of the engine at equal times.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Moment {
    pub(super) at: SimTime,
    pub(super) class: Class,
    pub(super) rank: u64,
}

impl Moment {
    pub(super) const NEVER: Self = Self {
        at: SimTime::NEVER,
        class: Class::Boundary,
        rank: u64::MAX,
    };

    pub(super) fn new(at: SimTime, class: Class, rank: u64) -> Self {
        Self { at, class, rank }
    }
}

impl Default for Moment {
    fn default() -> Self {
        Self::NEVER
    }
}

/// What reaches a host.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Event {
    /// It is turned on or off.
    Power(bool),
    /// A fragment is placed on it.
    Place(u32),
    /// One of the inputs of a fragment arrives.
    Input(u32),
}

/// A fragment that waits for its model.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Loading {
    pub(super) at: SimTime,
    pub(super) rank: u64,
    pub(super) fragment: u32,
}

/// Where a message goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Target {
    /// To a fragment.
    Input(u32),
    /// To the users of a request.
    Output(u32),
}

/// What starts a message.
#[derive(Clone, Copy, Debug)]
pub(super) enum Source {
    /// The placement of its request.
    Placement(Moment),
    /// The end of a fragment on a host.
    Fragment(HostId),
    /// It was under way already: the position among the transfers that were.
    Transfer(u32),
    /// It was sent already and arrives at a known time.
    Sent(Moment),
}

/// Something that is sent.
#[derive(Clone, Copy, Debug)]
pub(super) struct Message {
    pub(super) source: Source,
    pub(super) target: Target,
    /// The request that it belongs to.
    pub(super) owner: u32,
    pub(super) from: Endpoint,
    pub(super) to: Endpoint,
    /// What crosses the network; zero crosses at once.
    pub(super) bits: f64,
    pub(super) latency: SimTime,
    /// Place among what arrives at the same time.
    pub(super) rank: u64,
}

impl Message {
    /// When it arrives, given when its last bit has crossed the network.
    pub(super) fn arrival(&self, crossed: SimTime) -> Moment {
        if let Source::Sent(moment) = self.source {
            return moment;
        }
        if crossed == SimTime::NEVER {
            return Moment::NEVER;
        }
        let at = crossed.after(self.latency);
        if self.latency > SimTime::ZERO || matches!(self.target, Target::Output(_)) {
            return Moment::new(at, Class::Timer, self.rank);
        }
        match self.source {
            _ if self.bits > 0.0 => Moment::new(at, Class::Transfer, self.rank),
            Source::Placement(placed) => Moment::new(at, placed.class, placed.rank + 1),
            Source::Fragment(host) => Moment::new(at, Class::Completion, u64::from(host.0)),
            Source::Transfer(_) | Source::Sent(_) => Moment::new(at, Class::Transfer, self.rank),
        }
    }
}

/// When a message starts, when it has crossed the network, and when it arrives.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Course {
    pub(super) start: SimTime,
    pub(super) crossed: SimTime,
    pub(super) arrival: Moment,
}

/// A request of the rollout.
#[derive(Clone, Debug)]
pub(super) struct Planned {
    pub(super) info: Request,
    pub(super) variant: VariantId,
    /// Where its hosts are in [`Baseline::hosts`]; empty if it is never placed.
    pub(super) hosts: Range<usize>,
    /// Its first fragment.
    pub(super) first: u32,
    pub(super) placed: Moment,
    /// Its inputs among the messages.
    pub(super) inputs: Range<u32>,
    /// Its outputs in [`Baseline::outputs`].
    pub(super) outputs: Range<usize>,
    pub(super) part: RequestPart,
}

/// A fragment of the rollout, or room for one.
#[derive(Clone, Copy, Debug)]
pub(super) struct Placed {
    /// Its request, or [`NONE`].
    pub(super) request: u32,
    pub(super) index: u16,
    pub(super) inputs_left: u16,
    pub(super) work_mi: f64,
    /// When it ends, if it does.
    pub(super) finish: SimTime,
    /// What it sends, among the messages.
    pub(super) sends: (u32, u32),
}

/// What reaches a host, and the message that brings it, if any.
#[derive(Clone, Copy, Debug)]
pub(super) struct HostEvent {
    pub(super) moment: Moment,
    pub(super) event: Event,
    pub(super) message: u32,
    pub(super) request: u32,
}

/// The time that a message spends on a resource.
#[derive(Clone, Copy, Debug)]
pub(super) struct Use {
    pub(super) start: SimTime,
    pub(super) end: SimTime,
    /// The latest end up to here in the list of the resource.
    pub(super) latest: SimTime,
    pub(super) message: u32,
}

/// A recorded rollout of one future.
#[derive(Clone, Debug)]
pub(super) struct Baseline {
    pub(super) decision: Decision,
    pub(super) horizon: Horizon,
    pub(super) ledger: Ledger,
    pub(super) until: SimTime,
    pub(super) end: SimTime,
    /// Requests by number: first those under way at the start.
    pub(super) requests: Vec<Planned>,
    known: usize,
    next_request: u64,
    /// How many waiting requests the decision names.
    pub(super) named: usize,
    pub(super) hosts: Vec<HostId>,
    pub(super) fragments: Vec<Placed>,
    pub(super) messages: Vec<Message>,
    pub(super) courses: Vec<Course>,
    pub(super) outputs: Vec<u32>,
    pub(super) standing: Vec<Transfer>,
    /// Fragments whose model is being loaded at the start, with the time when it is.
    pub(super) loading: Vec<(HostId, Loading)>,
    /// When the speed of each host first changes.
    pub(super) drifts: Vec<SimTime>,
    pub(super) events: Lists<HostEvent>,
    pub(super) parts: Vec<HostPart>,
    /// The cluster of each message, and the messages of each.
    pub(super) cluster_of: Vec<u32>,
    pub(super) clusters: Lists<u32>,
    /// By resource, by start.
    pub(super) uses: Lists<Use>,
}

/// Lists by number, one after the other in memory.
#[derive(Clone, Debug)]
pub(super) struct Lists<T> {
    items: Vec<T>,
    starts: Vec<u32>,
}

impl<T: Clone> Lists<T> {
    /// `count` lists of `items`, each with the number of its list.
    fn new(count: usize, mut items: Vec<(u32, T)>) -> Self {
        items.sort_by_key(|item| item.0);
        let mut starts = Vec::with_capacity(count + 1);
        for list in 0..=count {
            let list = u32::try_from(list).unwrap_or(NONE);
            starts.push(items.partition_point(|item| item.0 < list));
        }
        Self {
            starts: starts.into_iter().map(position).collect(),
            items: items.into_iter().map(|item| item.1).collect(),
        }
    }

    pub(super) fn of(&self, list: usize) -> &[T] {
        &self.items[self.starts[list] as usize..self.starts[list + 1] as usize]
    }

    fn of_mut(&mut self, list: usize) -> &mut [T] {
        &mut self.items[self.starts[list] as usize..self.starts[list + 1] as usize]
    }
}

pub(super) fn position(at: usize) -> u32 {
    u32::try_from(at).unwrap_or(NONE)
}

/// Writes down a replayed rollout.
pub(super) struct Log<'w> {
    tally: Tally<'w>,
    arrived: Vec<Request>,
    placed: Vec<(RequestId, Moment, VariantId, Range<usize>)>,
    hosts: Vec<HostId>,
    powered: Vec<(HostId, HostEvent)>,
    finished: Vec<(RequestId, usize, SimTime)>,
    parts: Vec<HostPart>,
    stuck: bool,
}

impl<'w> Log<'w> {
    pub(super) fn new(world: &'w World) -> Self {
        Self {
            tally: Tally::new(world),
            arrived: Vec::new(),
            placed: Vec::new(),
            hosts: Vec::new(),
            powered: Vec::new(),
            finished: Vec::new(),
            parts: Vec::new(),
            stuck: false,
        }
    }
}

impl Sink for Log<'_> {
    fn arrived(&mut self, _now: SimTime, request: &Request) {
        self.arrived.push(*request);
    }
    fn fragment_done(&mut self, now: SimTime, request: RequestId, index: usize, _host: HostId) {
        self.finished.push((request, index, now));
    }
    fn completed(&mut self, now: SimTime, request: &Request, variant: VariantId, late: bool) {
        self.tally.completed(now, request, variant, late);
    }
}

impl Trace for Log<'_> {
    fn ledger(&mut self) -> &mut Ledger {
        self.tally.ledger()
    }
    fn powered(&mut self, (at, class): (SimTime, Class), position: usize, action: PowerAction) {
        let event = HostEvent {
            moment: power_moment(at, class, position),
            event: Event::Power(action.on),
            message: NONE,
            request: NONE,
        };
        self.powered.push((action.host, event));
    }
    fn placed(
        &mut self,
        (at, class): (SimTime, Class),
        (request, variant): (&Request, VariantId),
        hosts: &[HostId],
    ) {
        let from = self.hosts.len();
        self.hosts.extend_from_slice(hosts);
        let hosts = from..self.hosts.len();
        let moment = placement_moment(at, class, request.id);
        self.placed.push((request.id, moment, variant, hosts));
    }
    fn stuck(&mut self) {
        self.stuck = true;
    }
    fn metered(&mut self, part: HostPart) {
        self.parts.push(part);
    }
}

/// Power actions come before placements.
pub(super) fn power_moment(at: SimTime, class: Class, position: usize) -> Moment {
    Moment::new(at, class, position as u64)
}

/// Placements come in the order of their requests; inputs that need no time come right after.
fn placement_moment(at: SimTime, class: Class, request: RequestId) -> Moment {
    const AFTER_POWER: u64 = 1 << 32;
    Moment::new(at, class, AFTER_POWER + 2 * request.0)
}

impl Baseline {
    /// The rollout of `decision` that `log` has written down; `None` where hosts act on each other
    /// in other ways than by messages: where a request could not be placed as planned, so that the
    /// greedy policy looked at the whole fleet; where faults strike or the number of requests is
    /// limited.
    pub(super) fn new(
        world: &World,
        future: &SampledFuture,
        decision: &Decision,
        horizon: Horizon,
        log: Log<'_>,
    ) -> Option<Self> {
        let state = &future.state;
        if log.stuck || !tracked(world, state) || !decision.migrations.is_empty() {
            return None;
        }
        let until = state.now.after(horizon.span);
        let mut baseline = Self {
            decision: decision.clone(),
            horizon,
            ledger: log.tally.into_ledger(),
            until,
            end: until.after(horizon.drain),
            requests: Vec::new(),
            known: 0,
            next_request: state.next_request,
            named: 0,
            hosts: log.hosts,
            fragments: Vec::new(),
            messages: Vec::new(),
            courses: Vec::new(),
            outputs: Vec::new(),
            standing: state.network.transfers().into_iter().copied().collect(),
            loading: Vec::new(),
            drifts: Vec::new(),
            events: Lists::new(0, Vec::new()),
            parts: log.parts,
            cluster_of: Vec::new(),
            clusters: Lists::new(0, Vec::new()),
            uses: Lists::new(0, Vec::new()),
        };
        baseline.take_timers(world, state);
        baseline.take_requests(world, state, &log.arrived, &log.placed);
        for (request, index, at) in log.finished {
            let first = baseline.requests[baseline.request(request)?].first;
            baseline.fragments[first as usize + index].finish = at;
        }
        baseline.send(world, state);
        baseline.cross(world)?;
        baseline.list_events(world, &log.powered);
        for q in 0..baseline.requests.len() {
            baseline.requests[q].part = baseline.request_part(world, q);
        }
        let waits = |q: &usize| baseline.requests[*q].placed.class == Class::Decision;
        let named = decision.deployments.iter();
        let named = named.filter_map(|d| baseline.request(d.request).filter(waits));
        baseline.named = named.collect::<BTreeSet<_>>().len();
        Some(baseline)
    }

    /// The number of a request.
    pub(super) fn request(&self, id: RequestId) -> Option<usize> {
        if id.0 >= self.next_request {
            let q = self.known + usize::try_from(id.0 - self.next_request).ok()?;
            return (q < self.requests.len()).then_some(q);
        }
        self.requests[..self.known]
            .binary_search_by_key(&id, |planned| planned.info.id)
            .ok()
    }

    pub(super) fn variant<'w>(&self, world: &'w World, q: usize) -> &'w Variant {
        let planned = &self.requests[q];
        world.variant(planned.info.application, planned.variant)
    }

    pub(super) fn hosts_of(&self, q: usize) -> &[HostId] {
        &self.hosts[self.requests[q].hosts.clone()]
    }

    /// Takes over what hosts wait for by themselves.
    fn take_timers(&mut self, world: &World, state: &State) {
        self.drifts = vec![SimTime::NEVER; world.hosts.len()];
        for timer in &state.timers {
            match timer.0.kind {
                TimerKind::Loaded(fragment) => {
                    let host = state.fragments[fragment as usize].host;
                    self.loading.push((
                        host,
                        Loading {
                            at: timer.0.at,
                            rank: timer.0.rank,
                            fragment,
                        },
                    ));
                }
                TimerKind::Fault(Fault::Drift(host)) => self.drifts[host.index()] = timer.0.at,
                _ => {}
            }
        }
    }

    /// Numbers the requests and their fragments: those under way keep their slots, the others
    /// follow in the order of placement, with room for any variant.
    fn take_requests(
        &mut self,
        world: &World,
        state: &State,
        arrived: &[Request],
        placed: &[(RequestId, Moment, VariantId, Range<usize>)],
    ) {
        let mut all: Vec<Request> = state
            .active
            .iter()
            .map(|&slot| state.requests[slot as usize])
            .collect();
        all.sort_unstable_by_key(|request| request.id);
        self.known = all.len();
        all.extend_from_slice(arrived);
        self.requests = all
            .into_iter()
            .map(|info| Planned {
                info,
                variant: VariantId::default(),
                hosts: 0..0,
                first: NONE,
                placed: Moment::NEVER,
                inputs: 0..0,
                outputs: 0..0,
                part: RequestPart::default(),
            })
            .collect();
        let blank = Placed {
            request: NONE,
            index: 0,
            inputs_left: 0,
            work_mi: 0.0,
            finish: SimTime::NEVER,
            sends: (0, 0),
        };
        self.fragments = vec![blank; state.fragments.len()];
        for q in 0..self.known {
            self.take_deployed(world, state, q);
        }
        let room = |application: &crate::world::Application| {
            let counts = application.variants.iter().map(|v| v.fragments.len());
            counts.max().unwrap_or(0)
        };
        for (id, moment, variant, hosts) in placed {
            let Some(q) = self.request(*id) else {
                continue;
            };
            let planned = &mut self.requests[q];
            planned.variant = *variant;
            planned.hosts = hosts.clone();
            planned.first = position(self.fragments.len());
            planned.placed = *moment;
            let request = planned.info;
            let application = &world.applications[request.application.index()];
            let fragments = &application.variants[variant.index()].fragments;
            for index in 0..room(application) {
                let mut fragment = Placed {
                    request: position(q),
                    index: u16::try_from(index).unwrap_or(u16::MAX),
                    ..blank
                };
                if let Some(spec) = fragments.get(index) {
                    fragment.work_mi = demand::work(spec, index, &request);
                    fragment.inputs_left = inputs_of(spec);
                }
                self.fragments.push(fragment);
            }
        }
    }

    /// Takes over the fragments of a request that was deployed before.
    fn take_deployed(&mut self, world: &World, state: &State, q: usize) {
        let request = self.requests[q].info;
        let Some(deployed) = request.deployed else {
            return;
        };
        let count = world
            .variant(request.application, deployed.variant)
            .fragments
            .len();
        let from = self.hosts.len();
        for k in 0..count {
            let slot = deployed.first as usize + k;
            let run = &state.fragments[slot];
            self.hosts.push(run.host);
            self.fragments[slot] = Placed {
                request: position(q),
                index: run.index,
                inputs_left: run.inputs_left,
                work_mi: run.work_mi,
                finish: SimTime::NEVER,
                sends: (0, 0),
            };
        }
        let planned = &mut self.requests[q];
        planned.variant = deployed.variant;
        planned.first = deployed.first;
        planned.hosts = from..self.hosts.len();
    }

    /// Lists the messages of all requests.
    fn send(&mut self, world: &World, state: &State) {
        let mut messages = Vec::new();
        let mut sends = Vec::new();
        for q in 0..self.requests.len() {
            let planned = &self.requests[q];
            if planned.hosts.is_empty() {
                continue;
            }
            let plan = Plan {
                world,
                request: &planned.info,
                q: position(q),
                variant: self.variant(world, q),
                hosts: self.hosts_of(q),
                first: planned.first,
            };
            let inputs = position(messages.len());
            if planned.placed != Moment::NEVER {
                plan.inputs(planned.placed, &mut messages);
            }
            let sent = position(messages.len());
            for index in 0..plan.hosts.len() {
                let at = plan.first as usize + index;
                let done =
                    plan.request.deployed.is_some() && state.fragments[at].phase == Phase::Done;
                let from = position(messages.len());
                if !done {
                    plan.sends(index, &mut messages);
                }
                sends.push((at, (from, position(messages.len()))));
            }
            self.requests[q].inputs = inputs..sent;
        }
        for (at, range) in sends {
            self.fragments[at].sends = range;
        }
        self.courses = messages
            .iter()
            .map(|message: &Message| {
                let start = match (message.source, message.target) {
                    (Source::Placement(placed), _) => placed.at,
                    _ => SimTime::NEVER,
                };
                Course {
                    start,
                    ..Course::never()
                }
            })
            .collect();
        self.messages = messages;
        for at in 0..self.fragments.len() {
            let (from, to) = self.fragments[at].sends;
            for message in from..to {
                self.courses[message as usize].start = self.fragments[at].finish;
            }
        }
        self.take_standing(state);
        self.list_outputs();
    }

    /// Lists the outputs of each request.
    fn list_outputs(&mut self) {
        let mut outputs: Vec<(u32, u32)> = Vec::new();
        for (m, message) in self.messages.iter().enumerate() {
            if let Target::Output(q) = message.target {
                outputs.push((q, position(m)));
            }
        }
        outputs.sort_unstable();
        for (at, (q, _)) in outputs.iter().enumerate() {
            let range = &mut self.requests[*q as usize].outputs;
            if range.start == range.end {
                *range = at..at + 1;
            } else {
                range.end = at + 1;
            }
        }
        self.outputs = outputs.into_iter().map(|output| output.1).collect();
    }

    /// Lists the messages that are under way at the start.
    fn take_standing(&mut self, state: &State) {
        let target_of = |delivery: Delivery| match delivery {
            Delivery::Input { fragment } => {
                let run = &self.fragments[fragment as usize];
                let id = self.requests[run.request as usize].info.id;
                let rank = state::delivery_rank(id, Some(run.index));
                Some((Target::Input(fragment), run.request, rank))
            }
            Delivery::Output { request } => {
                let id = state.requests[request as usize].id;
                let q = position(self.request(id)?);
                Some((Target::Output(q), q, state::delivery_rank(id, None)))
            }
            Delivery::Migration { .. } => None,
        };
        let mut found = Vec::new();
        for (at, transfer) in self.standing.iter().enumerate() {
            let Some((target, owner, rank)) = target_of(transfer.delivery) else {
                continue;
            };
            found.push(Message {
                source: Source::Transfer(position(at)),
                target,
                owner,
                from: transfer.from,
                to: transfer.to,
                bits: transfer.bits_left(state.now).max(f64::MIN_POSITIVE),
                latency: SimTime::ZERO,
                rank,
            });
        }
        for timer in &state.timers {
            let delivery = match timer.0.kind {
                TimerKind::Boot(_)
                | TimerKind::Fault(_)
                | TimerKind::Loaded(_)
                | TimerKind::Migration(_) => continue,
                TimerKind::Input(fragment) => Delivery::Input { fragment },
                TimerKind::Output(request) => Delivery::Output { request },
            };
            let Some((target, owner, rank)) = target_of(delivery) else {
                continue;
            };
            found.push(Message {
                source: Source::Sent(Moment::new(timer.0.at, Class::Timer, timer.0.rank)),
                target,
                owner,
                from: Endpoint::User,
                to: Endpoint::User,
                bits: 0.0,
                latency: SimTime::ZERO,
                rank,
            });
        }
        for message in found {
            let mut course = Course::never();
            if matches!(message.source, Source::Transfer(_)) {
                course.start = SimTime::ZERO;
            }
            self.courses.push(course);
            self.messages.push(message);
        }
    }

    /// Lets all messages cross the network, and finds the clusters.
    fn cross(&mut self, world: &World) -> Option<()> {
        for m in 0..self.messages.len() {
            if let Source::Transfer(_) = self.messages[m].source {
                let message = &mut self.messages[m];
                message.latency = network::latency(world, message.from, message.to);
            }
        }
        let mut runs: Vec<transfers::Run> = (0..self.messages.len())
            .filter(|&m| self.messages[m].bits > 0.0)
            .map(|m| transfers::Run::new(position(m), self.courses[m].start))
            .collect();
        let mut network = Network::new(world);
        let standing = &self.standing;
        let messages = &self.messages;
        let of = |m: u32| messages[m as usize];
        transfers::run(world, &mut network, &mut runs, (standing, of), self.end);
        for run in &runs {
            self.courses[run.message as usize].crossed = run.end;
        }
        for (message, course) in self.messages.iter().zip(&mut self.courses) {
            if message.bits <= 0.0 {
                course.crossed = course.start;
            }
            course.arrival = message.arrival(course.crossed);
        }
        let resources = 2 * world.hosts.len() + world.links.len();
        let mut uses: Vec<(u32, Use)> = Vec::new();
        for run in runs.iter().filter(|run| run.start != SimTime::NEVER) {
            let message = &self.messages[run.message as usize];
            for resource in network::resources(world, message.from, message.to) {
                if resource != network::NONE {
                    let (start, end) = (run.start, run.end);
                    let message = run.message;
                    uses.push((
                        resource,
                        Use {
                            start,
                            end,
                            latest: end,
                            message,
                        },
                    ));
                }
            }
        }
        uses.sort_by_key(|(resource, used)| (*resource, used.start, used.message));
        self.uses = Lists::new(resources, uses);
        self.join(resources);
        Some(())
    }

    /// Joins messages that share a resource at the same time into clusters.
    fn join(&mut self, resources: usize) {
        fn root(of: &mut [u32], mut at: u32) -> u32 {
            while of[at as usize] != at {
                of[at as usize] = of[of[at as usize] as usize];
                at = of[at as usize];
            }
            at
        }
        let mut of: Vec<u32> = (0..position(self.messages.len())).collect();
        for resource in 0..resources {
            let mut latest = SimTime::ZERO;
            let mut last = NONE;
            for used in self.uses.of_mut(resource) {
                if last != NONE && used.start <= latest {
                    let (a, b) = (root(&mut of, last), root(&mut of, used.message));
                    of[a.max(b) as usize] = a.min(b);
                }
                latest = latest.max(used.end);
                used.latest = latest;
                last = used.message;
            }
        }
        let members: Vec<(u32, u32)> = (0..position(of.len()))
            .map(|m| (root(&mut of, m), m))
            .collect();
        self.cluster_of = members.iter().map(|member| member.0).collect();
        self.clusters = Lists::new(self.messages.len(), members);
    }

    /// Lists what reaches each host.
    fn list_events(&mut self, world: &World, powered: &[(HostId, HostEvent)]) {
        let mut events: Vec<(u32, HostEvent)> = powered
            .iter()
            .map(|(host, event)| (host.0, *event))
            .collect();
        for (q, planned) in self.requests.iter().enumerate() {
            if planned.placed == Moment::NEVER {
                continue;
            }
            for (k, host) in self.hosts_of(q).iter().enumerate() {
                let event = HostEvent {
                    moment: planned.placed,
                    event: Event::Place(planned.first + position(k)),
                    message: NONE,
                    request: position(q),
                };
                events.push((host.0, event));
            }
        }
        for (m, message) in self.messages.iter().enumerate() {
            if let Target::Input(fragment) = message.target {
                let placed = &self.fragments[fragment as usize];
                let q = placed.request as usize;
                let event = HostEvent {
                    moment: self.courses[m].arrival,
                    event: Event::Input(fragment),
                    message: position(m),
                    request: position(q),
                };
                events.push((self.hosts_of(q)[usize::from(placed.index)].0, event));
            }
        }
        self.events = Lists::new(world.hosts.len(), events);
    }

    fn request_part(&self, world: &World, q: usize) -> RequestPart {
        let planned = &self.requests[q];
        let outputs = &self.outputs[planned.outputs.clone()];
        let accuracy = (!planned.hosts.is_empty()).then(|| self.variant(world, q).accuracy);
        let arrivals = outputs.iter().map(|&m| self.courses[m as usize].arrival.at);
        request_part(world, &planned.info, accuracy, arrivals, self.end)
    }
}

/// Whether hosts act on each other by messages alone.
fn tracked(world: &World, state: &State) -> bool {
    let faultless = state.timers.iter().all(|timer| match timer.0.kind {
        TimerKind::Fault(fault) => matches!(fault, Fault::Drift(_)),
        TimerKind::Boot(_) | TimerKind::Input(_) | TimerKind::Output(_) => true,
        TimerKind::Loaded(_) => true,
        TimerKind::Migration(_) => false,
    });
    faultless
        && state.network.all_up()
        && state.migrations.is_empty()
        && world.faults.allocation_failure <= 0.0
        && world.max_active_requests.is_none()
}

/// The part of a request whose outputs come at `arrivals`, if it is deployed.
pub(super) fn request_part(
    world: &World,
    request: &Request,
    accuracy: Option<f64>,
    arrivals: impl Iterator<Item = SimTime>,
    end: SimTime,
) -> RequestPart {
    let last = arrivals.max().filter(|&at| at < end).unwrap_or(end);
    RequestPart::of(world, request, last.since(request.arrived), accuracy)
}

/// The inputs that a fragment waits for.
pub(super) fn inputs_of(fragment: &crate::world::Fragment) -> u16 {
    u16::try_from(fragment.predecessors.len().max(1)).unwrap_or(u16::MAX)
}

impl Course {
    pub(super) fn never() -> Self {
        Self {
            start: SimTime::NEVER,
            crossed: SimTime::NEVER,
            arrival: Moment::NEVER,
        }
    }
}

/// A request and where it runs.
#[derive(Clone, Copy)]
pub(super) struct Plan<'a> {
    pub(super) world: &'a World,
    pub(super) request: &'a Request,
    pub(super) q: u32,
    pub(super) variant: &'a Variant,
    pub(super) hosts: &'a [HostId],
    pub(super) first: u32,
}

impl Plan<'_> {
    fn input_message(
        &self,
        source: Source,
        ends: (Endpoint, Endpoint),
        k: usize,
        bytes: f64,
    ) -> Message {
        let index = u16::try_from(k).unwrap_or(u16::MAX);
        self.message(
            source,
            ends,
            Target::Input(self.first + u32::from(index)),
            state::delivery_rank(self.request.id, Some(index)),
            bytes,
        )
    }

    fn message(
        &self,
        source: Source,
        (from, to): (Endpoint, Endpoint),
        target: Target,
        rank: u64,
        bytes: f64,
    ) -> Message {
        Message {
            source,
            target,
            owner: self.q,
            from,
            to,
            bits: if bytes > 0.0 { bytes * 8.0 } else { 0.0 },
            latency: network::latency(self.world, from, to),
            rank,
        }
    }

    /// The inputs that are sent when it is placed.
    pub(super) fn inputs(&self, placed: Moment, messages: &mut Vec<Message>) {
        let application = &self.world.applications[self.request.application.index()];
        let bytes = application.input_bytes
            + application.input_bytes_per_context_token * f64::from(self.request.context_tokens);
        for (k, fragment) in self.variant.fragments.iter().enumerate() {
            if fragment.predecessors.is_empty() {
                let ends = (Endpoint::User, Endpoint::Host(self.hosts[k]));
                messages.push(self.input_message(Source::Placement(placed), ends, k, bytes));
            }
        }
    }

    /// What fragment `k` sends to other hosts and to the users when it ends.
    pub(super) fn sends(&self, k: usize, messages: &mut Vec<Message>) {
        let fragment = &self.variant.fragments[k];
        let request = self.request;
        let tokens = f64::from(request.context_tokens) + f64::from(request.generated_tokens);
        let bytes = fragment.output_bytes + fragment.output_bytes_per_token * tokens;
        let from = Endpoint::Host(self.hosts[k]);
        let source = Source::Fragment(self.hosts[k]);
        if fragment.successors.is_empty() {
            let rank = state::delivery_rank(request.id, None);
            let ends = (from, Endpoint::User);
            messages.push(self.message(source, ends, Target::Output(self.q), rank, bytes));
        }
        for &s in &fragment.successors {
            if self.hosts[s] != self.hosts[k] {
                let ends = (from, Endpoint::Host(self.hosts[s]));
                messages.push(self.input_message(source, ends, s, bytes));
            }
        }
    }
}
