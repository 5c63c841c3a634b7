//! What-if: the price of a decision over sampled futures.
//!
//! [`Futures`] holds `K` possible continuations of one observation: for each a state whose hidden
//! part is drawn anew, and arrivals that resemble what the trace brought in like moments. A
//! decision is applied to each, the greedy policy decides from then on, and the penalty up to a
//! horizon is the decision's price there. Requests that are under way at the horizon are followed
//! to their end; hosts are billed up to the horizon, and the energy of work beyond it counts above
//! that of idle hosts.
//!
//! All decisions meet the same futures (common random numbers). Prices are computed in parallel
//! and put in their place by number, so the result does not depend on the number of threads.

use std::cell::RefCell;
use std::collections::BTreeMap;

use rayon::prelude::*;

use crate::decision::{Decision, PowerAction};
use crate::estimate::{self, Asked, Loads};
use crate::ids::{HostId, RequestId, VariantId};
use crate::observation::Observation;
use crate::policy::greedy;
use crate::qos::Account;
use crate::sequence::{self, VariantOption};
use crate::sink::Silent;
use crate::state::{Epoch, Future, State};
use crate::stream::{self, Stream};
use crate::units::SimTime;
use crate::workload::Arrival;
use crate::world::World;

/// Possible continuations of one observation.
#[derive(Clone, Debug)]
pub struct Futures {
    futures: Vec<SampledFuture>,
    epoch: Epoch,
}

#[derive(Clone, Debug)]
struct SampledFuture {
    state: State,
    arrivals: Vec<Arrival>,
    /// What the greedy policy decides in this future, once it has been recorded.
    script: Script,
}

/// Decisions of a rollout: deployments by request, power actions by boundary.
#[derive(Clone, Debug, Default)]
struct Script {
    deployments: BTreeMap<RequestId, (VariantId, Vec<HostId>)>,
    powers: BTreeMap<SimTime, Vec<PowerAction>>,
}

/// How the decisions after the first one are taken.
enum Later<'a> {
    /// By the greedy policy.
    Greedy,
    /// By the greedy policy, written down.
    Record(&'a mut Script),
    /// As written down.
    Replay(&'a Script),
}

impl Futures {
    /// `count` continuations of `observation` up to `span` from now, drawn from `stream`.
    #[must_use]
    pub fn sample(
        observation: &Observation<'_>,
        count: usize,
        span: SimTime,
        stream: &mut Stream,
    ) -> Self {
        use rand::RngExt;
        let world = observation.world();
        let now = observation.now();
        let analogs = observation.analogs();
        let mut futures = Vec::with_capacity(count);
        for _ in 0..count {
            let key: u64 = stream.random();
            let mut state = observation.state().clone();
            state.resample(world, key);
            let mut own = stream::named(key, "future");
            let arrivals = world.future(now, now.after(span), &analogs, &mut own);
            futures.push(SampledFuture {
                state,
                arrivals,
                script: Script::default(),
            });
        }
        Self {
            futures,
            epoch: observation.epoch(),
        }
    }

    /// The one future in which `arrivals` come and all hidden work is as in `state`: for checks
    /// and for clairvoyant bounds.
    #[must_use]
    pub fn known(state: &State, epoch: Epoch, arrivals: Vec<Arrival>) -> Self {
        let future = SampledFuture {
            state: state.clone(),
            arrivals,
            script: Script::default(),
        };
        Self {
            futures: vec![future],
            epoch,
        }
    }

    /// Writes down what the greedy policy decides in each future after `decision`, for
    /// [`evaluate_fixed`].
    pub fn record(&mut self, world: &World, decision: &Decision, horizon: Horizon) {
        let epoch = self.epoch;
        self.futures.par_iter_mut().for_each(|future| {
            let mut script = Script::default();
            SCRATCH.with_borrow_mut(|scratch| {
                let later = Later::Record(&mut script);
                roll_out(world, future, epoch, (decision, later), horizon, scratch)
            });
            future.script = script;
        });
    }

    /// Number of futures.
    #[must_use]
    pub fn len(&self) -> usize {
        self.futures.len()
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.futures.is_empty()
    }
}

/// How decisions are priced.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Horizon {
    /// Time from now over which hosts are billed and requests arrive.
    pub span: SimTime,
    /// Time after that in which requests under way may end.
    pub drain: SimTime,
    /// Whether the greedy policy turns hosts on and off at later boundaries; else they stay as
    /// the decision leaves them.
    pub provisions: bool,
}

/// Buffers of one thread.
#[derive(Debug, Default)]
struct Scratch {
    state: Option<State>,
    loads: Loads,
    decision: Decision,
    options: Vec<VariantOption>,
}

thread_local! {
    static SCRATCH: RefCell<Scratch> = RefCell::new(Scratch::default());
}

/// The account of each decision in each future, decision by decision: what happens from now to the
/// horizon if it is taken.
#[must_use]
pub fn accounts(
    world: &World,
    futures: &Futures,
    decisions: &[Decision],
    horizon: Horizon,
) -> Vec<Vec<Account>> {
    price(world, futures, decisions, horizon, false)
}

fn price(
    world: &World,
    futures: &Futures,
    decisions: &[Decision],
    horizon: Horizon,
    fixed: bool,
) -> Vec<Vec<Account>> {
    let count = futures.len();
    let cells: Vec<Account> = (0..decisions.len() * count)
        .into_par_iter()
        .map(|cell| {
            let (decision, future) = (&decisions[cell / count], &futures.futures[cell % count]);
            SCRATCH.with_borrow_mut(|scratch| {
                let later = if fixed {
                    Later::Replay(&future.script)
                } else {
                    Later::Greedy
                };
                let plan = (decision, later);
                roll_out(world, future, futures.epoch, plan, horizon, scratch)
            })
        })
        .collect();
    cells
        .chunks(count.max(1))
        .map(<[Account]>::to_vec)
        .collect()
}

/// The value of each decision: minus its mean penalty over the futures by `world.objective`, in
/// seconds. Higher is better.
#[must_use]
pub fn evaluate(
    world: &World,
    futures: &Futures,
    decisions: &[Decision],
    horizon: Horizon,
) -> Vec<f64> {
    values(world, &accounts(world, futures, decisions, horizon))
}

/// As [`evaluate`], with everything that is decided later held as it was recorded
/// ([`Futures::record`]).
///
/// The greedy policy of a rollout reacts to every change, and small causes have large and random
/// effects; with the rest held fixed, what is priced is the change itself.
#[must_use]
pub fn evaluate_fixed(
    world: &World,
    futures: &Futures,
    decisions: &[Decision],
    horizon: Horizon,
) -> Vec<f64> {
    values(world, &price(world, futures, decisions, horizon, true))
}

fn values(world: &World, accounts: &[Vec<Account>]) -> Vec<f64> {
    accounts
        .iter()
        .map(|list| {
            let sum: f64 = list.iter().map(|a| a.penalty(&world.objective)).sum();
            -sum / list.len().max(1) as f64
        })
        .collect()
}

fn roll_out(
    world: &World,
    future: &SampledFuture,
    epoch: Epoch,
    (decision, mut later): (&Decision, Later<'_>),
    horizon: Horizon,
    scratch: &mut Scratch,
) -> Account {
    let mut state = match scratch.state.take() {
        Some(mut state) => {
            state.clone_from(&future.state);
            state
        }
        None => future.state.clone(),
    };
    let before = Account::of(world, &state);
    let now = state.now();
    state.apply(world, decision, &mut Silent);
    answer(world, &mut state, epoch, false, &mut later, scratch);
    let mut arrivals = Future::new(&future.arrivals);
    let until = now.after(horizon.span);
    loop {
        let epoch = state.advance(world, &mut arrivals, until, &mut Silent);
        if epoch == Epoch::End {
            break;
        }
        answer(
            world,
            &mut state,
            epoch,
            horizon.provisions,
            &mut later,
            scratch,
        );
    }
    let billed = Account::of(world, &state);
    let idle = above_idle(world, &state);
    let until = until.after(horizon.drain);
    let mut none = Future::empty();
    while !state.active.is_empty() {
        let epoch = state.advance(world, &mut none, until, &mut Silent);
        if epoch == Epoch::End {
            break;
        }
        answer(world, &mut state, epoch, false, &mut later, scratch);
    }
    let served = Account::of(world, &state);
    // Work that is left at the horizon is paid for too, or putting it off would seem to save it.
    let after = above_idle(world, &state);
    scratch.state = Some(state);
    Account {
        energy_j: billed.energy_j + after.0 - idle.0,
        carbon_g: billed.carbon_g + after.1 - idle.1,
        cost_usd: billed.cost_usd,
        ..served
    }
    .since(&before)
}

/// Energy so far beyond what the hosts would have used idle, in J, and its greenhouse gas, in g.
fn above_idle(world: &World, state: &State) -> (f64, f64) {
    let (mut energy_j, mut carbon_g) = (0.0, 0.0);
    for (h, host) in state.hosts.iter().enumerate() {
        let meter = host.meter(state.now);
        let above_j = meter.energy_j - world.size_of(h).power.at(0.0).0 * meter.billed.seconds();
        energy_j += above_j;
        carbon_g += above_j * world.carbon_g_per_joule(h);
    }
    (energy_j, carbon_g)
}

/// Decides in a rollout.
fn answer(
    world: &World,
    state: &mut State,
    epoch: Epoch,
    provision: bool,
    later: &mut Later<'_>,
    scratch: &mut Scratch,
) {
    let boundary = epoch == Epoch::Boundary && provision;
    if !boundary && state.waiting.is_empty() {
        return;
    }
    if let Later::Replay(script) = later {
        replay(world, state, boundary, script);
        if state.waiting.is_empty() {
            return;
        }
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
fn replay(world: &World, state: &mut State, boundary: bool, script: &Script) {
    if boundary {
        for action in script.powers.get(&state.now).into_iter().flatten() {
            state.power(world, *action, &mut Silent);
        }
    }
    let mut next = 0;
    while let Some(&slot) = state.waiting.get(next) {
        let planned = script.deployments.get(&state.requests[slot as usize].id);
        match planned {
            Some((variant, hosts))
                if hosts
                    .iter()
                    .all(|h| state.hosts[h.index()].lifecycle.accepts()) =>
            {
                state.waiting.remove(next);
                state.place(world, slot, *variant, hosts);
            }
            _ => next += 1,
        }
    }
}
