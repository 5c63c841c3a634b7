//! One rollout: a decision, what is decided after it, and the account of both.
//!
//! Slots of fragments follow the order of placement ([`State::forget_free_slots`]), every rollout
//! ends at the same time, and sums do not depend on the order of their parts
//! ([`super::ledger`]): so what happens to a host follows from what reaches it, and from nothing
//! else.

use std::collections::BTreeMap;

use super::ledger::{HostPart, Ledger, RequestPart};
use super::{Horizon, SampledFuture};
use crate::decision::{Decision, PowerAction};
use crate::estimate::{self, Asked, Loads};
use crate::host::Meter;
use crate::ids::{HostId, RequestId, VariantId};
use crate::observation::Observation;
use crate::policy::greedy;
use crate::sequence::{self, VariantOption};
use crate::sink::{Silent, Sink};
use crate::state::{Epoch, Future, Request, State};
use crate::units::SimTime;
use crate::world::World;

/// Decisions of a rollout: deployments by request, power actions by boundary.
#[derive(Clone, Debug, Default)]
pub(super) struct Script {
    deployments: BTreeMap<RequestId, (VariantId, Vec<HostId>)>,
    powers: BTreeMap<SimTime, Vec<PowerAction>>,
}

/// How the decisions after the first one are taken.
pub(super) enum Later<'a> {
    /// By the greedy policy.
    Greedy,
    /// By the greedy policy, written down.
    Record(&'a mut Script),
    /// As written down.
    Replay(&'a Script),
}

/// Buffers of one thread.
#[derive(Debug, Default)]
pub(super) struct Scratch {
    state: Option<State>,
    loads: Loads,
    decision: Decision,
    options: Vec<VariantOption>,
    horizon: Vec<Meter>,
}

/// What moves a rollout on, in the order of the engine at equal times.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Class {
    /// The decision that is priced.
    Decision,
    /// The end of a transfer.
    Transfer,
    /// A latency or a boot that has passed.
    Timer,
    /// The end of a fragment.
    Completion,
    /// The arrival of a request.
    Arrival,
    /// An interval boundary.
    Boundary,
}

/// What wants to know about a replayed rollout.
pub(super) trait Trace: Sink {
    /// The ledger of the requests that are answered.
    fn ledger(&mut self) -> &mut Ledger;
    /// A host was turned on or off, as action `position` of its moment.
    fn powered(&mut self, _when: (SimTime, Class), _position: usize, _action: PowerAction) {}
    /// A request was placed.
    fn placed(&mut self, _when: (SimTime, Class), _what: (&Request, VariantId), _at: &[HostId]) {}
    /// A request was not placed as it was written down.
    fn stuck(&mut self) {}
    /// A request is followed no further at this age.
    fn unanswered(&mut self, _age: SimTime) {}
    /// The account of a host is known.
    fn metered(&mut self, _part: HostPart) {}
}

/// Adds up what is answered.
pub(super) struct Tally<'w> {
    world: &'w World,
    ledger: Ledger,
}

impl<'w> Tally<'w> {
    pub(super) fn new(world: &'w World) -> Self {
        Self {
            world,
            ledger: Ledger::default(),
        }
    }

    pub(super) fn into_ledger(self) -> Ledger {
        self.ledger
    }
}

impl Sink for Tally<'_> {
    fn completed(&mut self, now: SimTime, request: &Request, variant: VariantId, _late: bool) {
        let accuracy = self.world.variant(request.application, variant).accuracy;
        let response = now.since(request.arrived);
        self.ledger.add_request(RequestPart::of(
            self.world,
            request,
            response,
            Some(accuracy),
        ));
    }
}

impl Trace for Tally<'_> {
    fn ledger(&mut self) -> &mut Ledger {
        &mut self.ledger
    }
}

/// Runs `future` to its end, and adds it up in the ledger of `trace`.
pub(super) fn roll_out<T: Trace>(
    world: &World,
    (future, epoch): (&SampledFuture, Epoch),
    (decision, mut later): (&Decision, Later<'_>),
    horizon: Horizon,
    scratch: &mut Scratch,
    trace: &mut T,
) {
    let mut state = match scratch.state.take() {
        Some(mut state) => {
            state.clone_from(&future.state);
            state
        }
        None => future.state.clone(),
    };
    let now = state.now();
    for &slot in &state.active {
        let part = Ledger::under_way(world, &state, &state.requests[slot as usize]);
        trace.ledger().remove_request(part);
    }
    state.forget_free_slots();
    if let Later::Replay(script) = &later {
        begin(world, &mut state, decision, script, trace);
    } else {
        state.apply(world, decision, trace);
    }
    let class = (epoch, Class::Decision);
    answer(world, &mut state, class, false, &mut later, scratch, trace);
    let mut arrivals = Future::new(&future.arrivals);
    let until = now.after(horizon.span);
    loop {
        let epoch = state.advance(world, &mut arrivals, until, trace);
        if epoch == Epoch::End {
            break;
        }
        let class = (epoch, class_of(epoch));
        let provision = horizon.provisions;
        answer(
            world, &mut state, class, provision, &mut later, scratch, trace,
        );
    }
    scratch.horizon.clear();
    let meters = state.hosts.iter().map(|host| host.meter(until));
    scratch.horizon.extend(meters);
    let until = until.after(horizon.drain);
    let mut none = Future::empty();
    loop {
        if state.waiting.is_empty() {
            // Nothing is decided any more.
            state.next_boundary = SimTime::NEVER;
        }
        let epoch = state.advance(world, &mut none, until, trace);
        if epoch == Epoch::End {
            break;
        }
        let class = (epoch, class_of(epoch));
        answer(world, &mut state, class, false, &mut later, scratch, trace);
    }
    for &slot in &state.active {
        let request = &state.requests[slot as usize];
        let part = Ledger::under_way(world, &state, request);
        trace.ledger().add_request(part);
        trace.unanswered(state.now.since(request.arrived));
    }
    let before = future.state.incidents.requests_rejected;
    let rejected = state.incidents.requests_rejected - before;
    trace.ledger().reject(rejected);
    for (h, horizon) in scratch.horizon.iter().enumerate() {
        let before = future.state.hosts[h].meter(now);
        let part = HostPart::of(world, h, [before, *horizon, state.hosts[h].meter(until)]);
        trace.ledger().add_host(part);
        trace.metered(part);
    }
    scratch.state = Some(state);
}

fn class_of(epoch: Epoch) -> Class {
    if epoch == Epoch::Boundary {
        Class::Boundary
    } else {
        Class::Arrival
    }
}

/// Carries out `decision`, and what `script` says about the requests that it does not name: in
/// the order in which the requests wait, so that the order does not depend on who named them.
fn begin<T: Trace>(
    world: &World,
    state: &mut State,
    decision: &Decision,
    script: &Script,
    trace: &mut T,
) {
    let when = (state.now, Class::Decision);
    for (position, action) in decision.provisioning.iter().enumerate() {
        state.power(world, *action, trace);
        trace.powered(when, position, *action);
    }
    let mut cursor = 0;
    place_waiting(
        world,
        state,
        when,
        |request, fits| {
            let deployments = &decision.deployments;
            let named = deployments.get(cursor);
            if let Some(d) = named.filter(|d| d.request == request.id && fits(d.variant, &d.hosts))
            {
                cursor += 1;
                return Some((d.variant, &d.hosts));
            }
            let named = deployments
                .iter()
                .find(|d| d.request == request.id && fits(d.variant, &d.hosts))
                .map(|d| (d.variant, &d.hosts));
            named.or_else(|| script.planned(request.id, fits))
        },
        trace,
    );
    for migration in &decision.migrations {
        state.migrate(world, migration, trace);
    }
}

impl Script {
    /// What is written down about `request`, if it can be done.
    fn planned(
        &self,
        request: RequestId,
        fits: &dyn Fn(VariantId, &[HostId]) -> bool,
    ) -> Option<(VariantId, &Vec<HostId>)> {
        let (variant, hosts) = self.deployments.get(&request)?;
        fits(*variant, hosts).then_some((*variant, hosts))
    }
}

/// Places the waiting requests that `plan` knows, in their order; the others go on waiting.
fn place_waiting<'p, T: Trace>(
    world: &World,
    state: &mut State,
    when: (SimTime, Class),
    mut plan: impl FnMut(
        &Request,
        &dyn Fn(VariantId, &[HostId]) -> bool,
    ) -> Option<(VariantId, &'p Vec<HostId>)>,
    trace: &mut T,
) {
    let mut next = 0;
    while let Some(&slot) = state.waiting.get(next) {
        let request = &state.requests[slot as usize];
        let application = &world.applications[request.application.index()];
        let accepts = |host: &HostId| {
            let host = state.hosts.get(host.index());
            host.is_some_and(|host| host.lifecycle.accepts())
        };
        let fits = |variant: VariantId, hosts: &[HostId]| {
            let variant = application.variants.get(variant.index());
            variant.is_some_and(|v| v.fragments.len() == hosts.len()) && hosts.iter().all(accepts)
        };
        let Some((variant, hosts)) = plan(request, &fits) else {
            next += 1;
            continue;
        };
        trace.placed(when, (request, variant), hosts);
        state.waiting.remove(next);
        state.place(world, slot, variant, hosts);
    }
}

/// Decides in a rollout.
fn answer<T: Trace>(
    world: &World,
    state: &mut State,
    (epoch, class): (Epoch, Class),
    provision: bool,
    later: &mut Later<'_>,
    scratch: &mut Scratch,
    trace: &mut T,
) {
    let boundary = epoch == Epoch::Boundary && provision;
    if !boundary && state.waiting.is_empty() {
        return;
    }
    state.forget_free_slots();
    if let Later::Replay(script) = later {
        replay(world, state, (class, boundary), script, trace);
        if state.waiting.is_empty() {
            return;
        }
        trace.stuck();
    }
    scratch.loads.sample(world, state);
    if boundary && !matches!(later, Later::Replay(_)) {
        let observation = Observation::new(world, state, epoch);
        let demand_mips = estimate::demand_mips(world, observation.rates());
        scratch.decision.clear();
        let Scratch {
            loads, decision, ..
        } = scratch;
        greedy::provision(&observation, loads, demand_mips, decision);
        for action in &scratch.decision.provisioning {
            state.power(world, *action, &mut Silent);
        }
        if let Later::Record(script) = later {
            script
                .powers
                .insert(state.now, scratch.decision.provisioning.clone());
        }
    }
    let mut next = 0;
    while let Some(&slot) = state.waiting.get(next) {
        let request = &state.requests[slot as usize];
        let (id, asked) = (
            request.id,
            Asked {
                application: request.application,
                age_s: state.now.since(request.arrived).seconds(),
                context_tokens: request.context_tokens,
            },
        );
        sequence::variant_options(world, &scratch.loads, &asked, &mut scratch.options);
        let best = greedy::least(scratch.options.iter().map(|o| o.penalty));
        let Some(option) = scratch.options.get(best) else {
            next += 1;
            continue;
        };
        state.waiting.remove(next);
        state.place(world, slot, option.variant, &option.hosts);
        if let Later::Record(script) = later {
            script
                .deployments
                .insert(id, (option.variant, option.hosts.clone()));
        }
        if state.waiting.len() > next {
            let fragments = &world.variant(asked.application, option.variant).fragments;
            for (fragment, host) in fragments.iter().zip(&option.hosts) {
                let work = estimate::fresh_mi(world, &asked, fragment);
                scratch
                    .loads
                    .plan_fragment(host.index(), work, fragment.ram.0);
            }
        }
    }
}

/// Does what `script` says; requests that it does not name, or whose hosts do not take fragments
/// here, go on waiting.
fn replay<T: Trace>(
    world: &World,
    state: &mut State,
    (class, boundary): (Class, bool),
    script: &Script,
    trace: &mut T,
) {
    let when = (state.now, class);
    if boundary {
        let actions = script.powers.get(&state.now).into_iter().flatten();
        for (position, action) in actions.enumerate() {
            state.power(world, *action, trace);
            trace.powered(when, position, *action);
        }
    }
    let planned = |request: &Request, fits: &dyn Fn(VariantId, &[HostId]) -> bool| {
        script.planned(request.id, fits)
    };
    place_waiting(world, state, when, planned, trace);
}
