//! The price of a decision that differs from a recorded one in few places.
//!
//! Requests that are placed otherwise take their events and messages away from some hosts and
//! bring others; hosts that are turned over get other lifecycle events. What differs is followed:
//! a host that something else reaches is simulated alone, from the start
//! ([`super::alone`]); fragments that end at another time move their messages, with all that these
//! meet in the network ([`super::transfers`]); messages that arrive at another time reach their
//! host otherwise. It ends when nothing differs any more, since causes come before their effects.
//! Only what was touched is taken out of the recorded account and put in anew.
//!
//! A decision for which hosts would act on each other in another way is not priced here: where a
//! request would have to wait for a host, or two events at one nanosecond could come in either
//! order.

use super::baseline::{
    Baseline, Course, Event, HostEvent, Loading, Message, Moment, NONE, Plan, Target, position,
    power_moment, request_part,
};
use super::ledger::HostPart;
use super::rollout::Class;
use super::sparse::Sparse;
use super::transfers::Run;
use crate::decision::{Decision, Deployment};
use crate::host::Host;
use crate::ids::HostId;
use crate::network::Network;
use crate::qos::Account;
use crate::state::{State, delivery_rank};
use crate::units::SimTime;
use crate::world::{MAX_FRAGMENTS, Variant, World};

/// Simulations of single hosts for each host that is touched, after which something is amiss.
const ROUNDS: usize = 32;

/// A request that is placed otherwise.
#[derive(Clone, Copy, Debug)]
struct Replaced {
    request: u32,
    /// Where it is in the decision.
    deployment: u32,
    work_mi: [f64; MAX_FRAGMENTS],
    /// What each fragment sends, among the messages.
    sends: [(u32, u32); MAX_FRAGMENTS],
    inputs: (u32, u32),
}

/// A host that something else reaches.
#[derive(Clone, Copy, Debug)]
struct Touched {
    host: u32,
    /// The first difference that has not been simulated.
    since: SimTime,
    part: HostPart,
}

/// Buffers of one thread.
#[derive(Debug, Default)]
pub(super) struct Arena {
    replaced: Vec<Replaced>,
    /// Position in `replaced` by request.
    replaced_at: Sparse<u32>,
    touched: Vec<Touched>,
    touched_at: Sparse<u32>,
    /// Requests whose answer may come at another time.
    answered: Vec<u32>,
    answered_at: Sparse<bool>,
    fresh: Vec<Message>,
    courses: Sparse<Course>,
    finishes: Sparse<SimTime>,
    pub(super) inputs_left: Sparse<u16>,
    pub(super) events: Vec<HostEvent>,
    pub(super) host: Option<Host>,
    pub(super) loading: Vec<Loading>,
    pub(super) restarted: Vec<u32>,
    pub(super) unsettled: Vec<u32>,
    pub(super) groups: Vec<Vec<u32>>,
    pub(super) groups_used: usize,
    pub(super) group_of: Sparse<u32>,
    pub(super) runs: Vec<Run>,
    pub(super) network: Option<Network>,
}

/// A fragment as it is placed here.
#[derive(Clone, Copy)]
pub(super) struct Local<'a> {
    pub(super) spec: &'a crate::world::Fragment,
    pub(super) hosts: &'a [HostId],
    /// The first fragment of its request.
    pub(super) first: u32,
    pub(super) work_mi: f64,
    pub(super) inputs_left: u16,
    /// Its place among what happens at the same time.
    pub(super) rank: u64,
}

/// A decision that is compared with a recorded one.
pub(super) struct Change<'a> {
    pub(super) world: &'a World,
    pub(super) state: &'a State,
    pub(super) base: &'a Baseline,
    pub(super) decision: &'a Decision,
    pub(super) arena: &'a mut Arena,
}

/// The account of `decision` where `base` was recorded in `state`; `None` where only a whole
/// rollout tells. With it, the number of hosts that were simulated.
pub(super) fn price(
    world: &World,
    state: &State,
    base: &Baseline,
    decision: &Decision,
    arena: &mut Arena,
) -> Option<(Account, usize)> {
    arena.clear(base, world);
    let mut change = Change {
        world,
        state,
        base,
        decision,
        arena,
    };
    change.compare()?;
    change.follow()?;
    Some((change.account(), change.arena.touched.len()))
}

impl Arena {
    fn clear(&mut self, base: &Baseline, world: &World) {
        self.replaced.clear();
        self.replaced_at.clear(base.requests.len());
        self.touched.clear();
        self.touched_at.clear(world.hosts.len());
        self.answered.clear();
        self.answered_at.clear(base.requests.len());
        self.fresh.clear();
        self.courses.clear(base.messages.len());
        self.finishes.clear(base.fragments.len());
        self.restarted.clear();
        self.unsettled.clear();
        self.groups_used = 0;
        self.group_of.clear(base.messages.len());
    }
}

impl<'a> Change<'a> {
    /// Finds what differs between the decisions.
    fn compare(&mut self) -> Option<()> {
        let (base, decision) = (self.base, self.decision);
        if !decision.migrations.is_empty() {
            return None;
        }
        if base.decision.provisioning != decision.provisioning {
            let both = base.decision.provisioning.iter();
            for action in both.chain(&decision.provisioning) {
                if action.host.index() < self.world.hosts.len() {
                    self.touch(action.host, self.state.now);
                }
            }
        }
        let mut named = 0;
        for (at, deployment) in decision.deployments.iter().enumerate() {
            let Some(q) = base.request(deployment.request) else {
                continue;
            };
            let planned = &base.requests[q];
            if planned.placed.class != Class::Decision {
                continue;
            }
            // Named twice: the first that can be done counts, which is not looked into here.
            if self.arena.answered_at.get(q).is_some() {
                return None;
            }
            self.arena.answered_at.set(q, false);
            named += usize::from(self.was_named(at, deployment));
            let same = planned.variant == deployment.variant
                && base.hosts_of(q) == deployment.hosts.as_slice();
            if !same {
                self.replace(q, at, deployment)?;
            }
        }
        // A request that only the recorded decision places.
        (named == base.named).then_some(())
    }

    /// Whether the recorded decision names the request of `deployment`, which is at `at` here.
    fn was_named(&self, at: usize, deployment: &Deployment) -> bool {
        let before = &self.base.decision.deployments;
        let is = |d: &Deployment| d.request == deployment.request;
        before.get(at).is_some_and(is) || before.iter().any(is)
    }

    /// Places request `q` as `deployment` says.
    fn replace(&mut self, q: usize, at: usize, deployment: &Deployment) -> Option<()> {
        let base = self.base;
        let planned = &base.requests[q];
        let application = &self.world.applications[planned.info.application.index()];
        let variant = application.variants.get(deployment.variant.index())?;
        let known = |host: &HostId| host.index() < self.world.hosts.len();
        if variant.fragments.len() != deployment.hosts.len() || !deployment.hosts.iter().all(known)
        {
            return None;
        }
        let old = base.hosts_of(q);
        let mut replaced = Replaced {
            request: position(q),
            deployment: position(at),
            work_mi: [0.0; MAX_FRAGMENTS],
            sends: [(0, 0); MAX_FRAGMENTS],
            inputs: (0, 0),
        };
        let plan = Plan {
            world: self.world,
            request: &planned.info,
            q: position(q),
            variant,
            hosts: &deployment.hosts,
            first: planned.first,
        };
        let offset = base.messages.len();
        let fresh = &mut self.arena.fresh;
        let end = |fresh: &Vec<Message>| position(offset + fresh.len());
        replaced.inputs.0 = end(fresh);
        plan.inputs(planned.placed, fresh);
        replaced.inputs.1 = end(fresh);
        for (k, spec) in variant.fragments.iter().enumerate() {
            replaced.work_mi[k] = crate::demand::work(spec, k, &planned.info);
            replaced.sends[k].0 = end(fresh);
            plan.sends(k, fresh);
            replaced.sends[k].1 = end(fresh);
        }
        let until = position(offset + fresh.len());
        self.arena
            .replaced_at
            .set(q, position(self.arena.replaced.len()));
        self.arena.replaced.push(replaced);
        self.answer(position(q));
        for k in 0..old.len().max(deployment.hosts.len()) {
            let fragment = planned.first as usize + k;
            self.arena.finishes.set(fragment, SimTime::NEVER);
        }
        for host in old.iter().chain(&deployment.hosts) {
            self.touch(*host, planned.placed.at);
        }
        self.withdraw(q);
        for message in replaced.inputs.0..until {
            self.arena.courses.set(message as usize, Course::never());
        }
        for message in replaced.inputs.0..replaced.inputs.1 {
            self.start(message, planned.placed.at);
        }
        Some(())
    }

    /// Takes the recorded messages of request `q` off the network.
    fn withdraw(&mut self, q: usize) {
        let base = self.base;
        let planned = &base.requests[q];
        let first = planned.first as usize;
        let sends = (0..planned.hosts.len()).map(|k| base.fragments[first + k].sends);
        for (from, to) in sends.chain([(planned.inputs.start, planned.inputs.end)]) {
            for message in from..to {
                let crosses = base.messages[message as usize].bits > 0.0;
                let cluster = base.cluster_of[message as usize];
                if crosses && base.clusters.of(cluster as usize).len() > 1 {
                    self.arena.restarted.push(message);
                }
            }
        }
    }

    /// Whether a message belongs to a request that is placed otherwise now.
    pub(super) fn removed(&self, message: u32) -> bool {
        let owner = self.base.messages.get(message as usize).map(|m| m.owner);
        owner.is_some_and(|q| self.arena.replaced_at.get(q as usize).is_some())
    }

    pub(super) fn message(&self, message: u32) -> Message {
        let at = message as usize;
        let recorded = &self.base.messages;
        match recorded.get(at) {
            Some(message) => *message,
            None => self.arena.fresh[at - recorded.len()],
        }
    }

    pub(super) fn course(&self, message: u32) -> Course {
        let at = message as usize;
        let recorded = || self.base.courses.get(at).copied();
        let moved = self.arena.courses.get(at);
        moved.or_else(recorded).unwrap_or(Course::never())
    }

    /// The fragment with its request, as they are placed here.
    pub(super) fn local(&self, fragment: u32) -> Local<'a> {
        let base = self.base;
        let placed = &base.fragments[fragment as usize];
        let (q, index) = (placed.request as usize, usize::from(placed.index));
        let planned = &base.requests[q];
        let rank = delivery_rank(planned.info.id, Some(placed.index));
        let application = &self.world.applications[planned.info.application.index()];
        let variant_of = |variant: crate::ids::VariantId| -> &'a Variant {
            &application.variants[variant.index()]
        };
        if let Some(at) = self.arena.replaced_at.get(q) {
            let replaced = &self.arena.replaced[at as usize];
            let decision: &'a Decision = self.decision;
            let deployment = &decision.deployments[replaced.deployment as usize];
            let spec = &variant_of(deployment.variant).fragments[index];
            return Local {
                rank,
                spec,
                hosts: &deployment.hosts,
                first: planned.first,
                work_mi: replaced.work_mi[index],
                inputs_left: super::baseline::inputs_of(spec),
            };
        }
        Local {
            rank,
            spec: &variant_of(planned.variant).fragments[index],
            hosts: base.hosts_of(q),
            first: planned.first,
            work_mi: placed.work_mi,
            inputs_left: placed.inputs_left,
        }
    }

    /// The host that a fragment is placed on.
    fn host_of(&self, fragment: u32) -> HostId {
        let local = self.local(fragment);
        local.hosts[(fragment - local.first) as usize]
    }

    /// When a fragment ends, as far as is known.
    pub(super) fn finish(&self, fragment: u32) -> SimTime {
        let at = fragment as usize;
        let moved = self.arena.finishes.get(at);
        moved.unwrap_or(self.base.fragments[at].finish)
    }

    /// A fragment ends at another time: what it sends starts at another time.
    pub(super) fn finished(&mut self, fragment: u32, at: SimTime) {
        if self.finish(fragment) == at {
            return;
        }
        self.arena.finishes.set(fragment as usize, at);
        let placed = &self.base.fragments[fragment as usize];
        let (from, to) = match self.arena.replaced_at.get(placed.request as usize) {
            Some(replaced) => {
                self.arena.replaced[replaced as usize].sends[usize::from(placed.index)]
            }
            None => placed.sends,
        };
        for message in from..to {
            self.start(message, at);
        }
    }

    /// A message starts at another time.
    fn start(&mut self, message: u32, at: SimTime) {
        let mut course = self.course(message);
        if course.start == at {
            return;
        }
        course.start = at;
        self.arena.courses.set(message as usize, course);
        if self.message(message).bits > 0.0 {
            self.arena.restarted.push(message);
        } else {
            self.crossed(message, at);
        }
    }

    /// A message has crossed the network, perhaps at another time.
    pub(super) fn crossed(&mut self, message: u32, at: SimTime) {
        let mut course = self.course(message);
        let sent = self.message(message);
        let (before, arrival) = (course.arrival, sent.arrival(at));
        if course.crossed == at && before == arrival {
            return;
        }
        course.crossed = at;
        course.arrival = arrival;
        self.arena.courses.set(message as usize, course);
        if before == arrival {
            return;
        }
        match sent.target {
            Target::Input(fragment) => {
                let since = before.at.min(arrival.at);
                self.touch(self.host_of(fragment), since);
            }
            Target::Output(q) => self.answer(q),
        }
    }

    /// Something else reaches `host`.
    fn touch(&mut self, host: HostId, since: SimTime) {
        let h = host.index();
        if let Some(at) = self.arena.touched_at.get(h) {
            let touched = &mut self.arena.touched[at as usize];
            touched.since = touched.since.min(since);
            return;
        }
        let at = position(self.arena.touched.len());
        self.arena.touched_at.set(h, at);
        self.arena.touched.push(Touched {
            host: host.0,
            since,
            part: self.base.parts[h],
        });
    }

    /// A request may be answered at another time.
    fn answer(&mut self, q: u32) {
        if self.arena.answered_at.get(q as usize) != Some(true) {
            self.arena.answered_at.set(q as usize, true);
            self.arena.answered.push(q);
        }
    }

    /// Follows what differs until nothing does: the earliest first.
    fn follow(&mut self) -> Option<()> {
        let mut rounds = 0;
        loop {
            self.settle_network();
            let touched = self.arena.touched.iter().enumerate();
            let first = touched.min_by_key(|(_, touched)| touched.since);
            let Some((at, touched)) = first.filter(|(_, t)| t.since < self.base.end) else {
                return Some(());
            };
            let host = touched.host as usize;
            self.arena.touched[at].since = SimTime::NEVER;
            self.arena.touched[at].part = self.simulate(host)?;
            rounds += 1;
            if rounds > ROUNDS * self.arena.touched.len() {
                return None;
            }
        }
    }

    /// Collects what reaches host `h`, in order.
    pub(super) fn gather(&self, h: usize, events: &mut Vec<HostEvent>) {
        events.clear();
        let base = self.base;
        for event in base.events.of(h) {
            let mut event = *event;
            if event.request == NONE {
                if event.moment.class == Class::Decision {
                    continue;
                }
            } else if self.arena.replaced_at.get(event.request as usize).is_some() {
                continue;
            }
            if event.message != NONE
                && let Some(moved) = self.arena.courses.get(event.message as usize)
            {
                event.moment = moved.arrival;
            }
            events.push(event);
        }
        let now = self.state.now;
        for (at, action) in self.decision.provisioning.iter().enumerate() {
            if action.host.index() == h {
                events.push(HostEvent {
                    moment: power_moment(now, Class::Decision, at),
                    event: Event::Power(action.on),
                    message: NONE,
                    request: NONE,
                });
            }
        }
        for replaced in &self.arena.replaced {
            self.gather_replaced(h, replaced, events);
        }
        events.retain(|event| event.moment.at < base.end);
        events.sort_unstable_by_key(|event| (event.moment, event.event));
    }

    fn gather_replaced(&self, h: usize, replaced: &Replaced, events: &mut Vec<HostEvent>) {
        let planned = &self.base.requests[replaced.request as usize];
        let hosts = &self.decision.deployments[replaced.deployment as usize].hosts;
        if !hosts.iter().any(|host| host.index() == h) {
            return;
        }
        let mut push = |moment: Moment, event: Event| {
            events.push(HostEvent {
                moment,
                event,
                message: NONE,
                request: replaced.request,
            });
        };
        for (k, host) in hosts.iter().enumerate() {
            if host.index() == h {
                push(planned.placed, Event::Place(planned.first + position(k)));
            }
        }
        let last = replaced.sends[hosts.len() - 1].1;
        for message in replaced.inputs.0..last {
            if let Target::Input(fragment) = self.message(message).target
                && hosts[(fragment - planned.first) as usize].index() == h
            {
                push(self.course(message).arrival, Event::Input(fragment));
            }
        }
    }

    /// The account with what was touched.
    fn account(&self) -> Account {
        let base = self.base;
        let mut ledger = base.ledger;
        for touched in &self.arena.touched {
            ledger.remove_host(base.parts[touched.host as usize]);
            ledger.add_host(touched.part);
        }
        for &q in &self.arena.answered {
            let planned = &base.requests[q as usize];
            let recorded = &base.outputs[planned.outputs.clone()];
            ledger.remove_request(planned.part);
            let part = match self.arena.replaced_at.get(q as usize) {
                None => {
                    let arrivals = recorded.iter().map(|&m| self.course(m).arrival.at);
                    let accuracy = base.variant(self.world, q as usize).accuracy;
                    request_part(
                        self.world,
                        &planned.info,
                        Some(accuracy),
                        arrivals,
                        base.end,
                    )
                }
                Some(at) => {
                    let replaced = &self.arena.replaced[at as usize];
                    let deployment = &self.decision.deployments[replaced.deployment as usize];
                    let application = planned.info.application;
                    let accuracy = self.world.variant(application, deployment.variant).accuracy;
                    let last = replaced.sends[deployment.hosts.len() - 1].1;
                    let arrivals = (replaced.inputs.0..last)
                        .filter(|&m| matches!(self.message(m).target, Target::Output(_)))
                        .map(|m| self.course(m).arrival.at);
                    request_part(
                        self.world,
                        &planned.info,
                        Some(accuracy),
                        arrivals,
                        base.end,
                    )
                }
            };
            ledger.add_request(part);
        }
        ledger.account()
    }
}
