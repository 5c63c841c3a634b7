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
//!
//! A decision that differs in few places from one whose rollouts were written down
//! ([`Futures::prepare`]) is priced by what differs ([`evaluate_changes`]): the cost grows with the
//! hosts that it touches, not with the fleet, and the result is that of whole rollouts
//! ([`evaluate_fixed`]) to the last bit.

mod alone;
mod baseline;
mod incremental;
mod ledger;
mod outcome;
mod rollout;
mod sparse;
mod transfers;

use std::cell::RefCell;

use rayon::prelude::*;

use crate::decision::Decision;
use crate::observation::Observation;
use crate::qos::Account;
use crate::state::{Epoch, State};
use crate::stream::{self, Stream};
use crate::units::SimTime;
use crate::workload::Arrival;
use crate::world::World;

pub use outcome::{Outcome, Reaction};

use baseline::{Baseline, Log};
use incremental::Arena;
use rollout::{Later, Scratch, Script, Tally, Trace, roll_out};

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
    /// The rollout that changes are compared with, once it has been prepared.
    baseline: Option<Baseline>,
}

impl SampledFuture {
    fn new(state: State, arrivals: Vec<Arrival>) -> Self {
        Self {
            state,
            arrivals,
            script: Script::default(),
            baseline: None,
        }
    }
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
            futures.push(SampledFuture::new(state, arrivals));
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
        Self {
            futures: vec![SampledFuture::new(state.clone(), arrivals)],
            epoch,
        }
    }

    /// Writes down what the greedy policy decides in each future after `decision`, for
    /// [`evaluate_fixed`].
    pub fn record(&mut self, world: &World, decision: &Decision, horizon: Horizon) {
        let epoch = self.epoch;
        self.futures.par_iter_mut().for_each(|future| {
            let mut script = Script::default();
            SCRATCH.with_borrow_mut(|(scratch, _)| {
                let plan = (decision, Later::Record(&mut script));
                let tally = &mut Tally::new(world);
                roll_out(world, (future, epoch), plan, horizon, scratch, tally);
            });
            future.script = script;
            future.baseline = None;
        });
    }

    /// Writes down what happens in each future after `decision`, with everything that is decided
    /// later as it was recorded, for [`evaluate_changes`].
    pub fn prepare(&mut self, world: &World, decision: &Decision, horizon: Horizon) {
        let epoch = self.epoch;
        self.futures.par_iter_mut().for_each(|future| {
            let mut log = Log::new(world);
            SCRATCH.with_borrow_mut(|(scratch, _)| {
                let plan = (decision, Later::Replay(&future.script));
                roll_out(world, (future, epoch), plan, horizon, scratch, &mut log);
            });
            future.baseline = Baseline::new(world, future, decision, horizon, log);
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

thread_local! {
    static SCRATCH: RefCell<(Scratch, Arena)> = RefCell::default();
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
    let cells = price(futures, decisions, |decision, future| {
        whole(world, (futures, future), decision, horizon, false)
    });
    cells
        .chunks(futures.len().max(1))
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
    let cells = price(futures, decisions, |decision, future| {
        whole(world, (futures, future), decision, horizon, false)
    });
    let chunks = cells.chunks(futures.len().max(1));
    chunks.map(|list| value(world, list.iter())).collect()
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
    let cells = price(futures, decisions, |decision, future| {
        whole(world, (futures, future), decision, horizon, true)
    });
    let chunks = cells.chunks(futures.len().max(1));
    chunks.map(|list| value(world, list.iter())).collect()
}

/// What [`evaluate_changes`] finds out about a decision.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Priced {
    /// Its value, that of [`evaluate_fixed`] to the last bit.
    pub value: f64,
    /// Hosts that were simulated, over all futures in which that was enough.
    pub hosts: usize,
    /// Futures in which only a whole rollout could tell.
    pub whole: usize,
}

/// As [`evaluate_fixed`], at a cost that grows with the hosts on which a decision makes a
/// difference to the one that was prepared ([`Futures::prepare`]).
///
/// Whole rollouts answer where nothing was prepared for this horizon, and where hosts act on each
/// other in other ways than through their fragments' inputs: where a request must wait because no
/// host takes it as planned, where fragments are migrated, where faults strike or requests are
/// turned away, or where two events fall on the same nanosecond and may come in either order.
#[must_use]
pub fn evaluate_changes(
    world: &World,
    futures: &Futures,
    decisions: &[Decision],
    horizon: Horizon,
) -> Vec<Priced> {
    let cells = price(futures, decisions, |decision, future| {
        let found = future
            .baseline
            .as_ref()
            .filter(|baseline| baseline.horizon == horizon)
            .and_then(|baseline| {
                SCRATCH.with_borrow_mut(|(_, arena)| {
                    incremental::price(world, &future.state, baseline, decision, arena)
                })
            });
        let (account, hosts) = found.map_or_else(
            || {
                let account = whole(world, (futures, future), decision, horizon, true);
                (account, None)
            },
            |(account, hosts)| (account, Some(hosts)),
        );
        (account, hosts)
    });
    let chunks = cells.chunks(futures.len().max(1));
    chunks
        .map(|list| Priced {
            value: value(world, list.iter().map(|cell| &cell.0)),
            hosts: list.iter().filter_map(|cell| cell.1).sum(),
            whole: list.iter().filter(|cell| cell.1.is_none()).count(),
        })
        .collect()
}

/// What `one` says of each decision in each future, decision by decision.
fn price<T: Send>(
    futures: &Futures,
    decisions: &[Decision],
    one: impl Fn(&Decision, &SampledFuture) -> T + Sync,
) -> Vec<T> {
    let count = futures.len();
    (0..decisions.len() * count)
        .into_par_iter()
        .map(|cell| one(&decisions[cell / count], &futures.futures[cell % count]))
        .collect()
}

/// The account of `decision` in `future` by a whole rollout.
fn whole(
    world: &World,
    (futures, future): (&Futures, &SampledFuture),
    decision: &Decision,
    horizon: Horizon,
    fixed: bool,
) -> Account {
    let later = if fixed {
        Later::Replay(&future.script)
    } else {
        Later::Greedy
    };
    let mut tally = Tally::new(world);
    SCRATCH.with_borrow_mut(|(scratch, _)| {
        let plan = (decision, later);
        let place = (future, futures.epoch);
        roll_out(world, place, plan, horizon, scratch, &mut tally);
    });
    tally.ledger().account()
}

/// Minus the mean penalty.
fn value<'a>(world: &World, accounts: impl ExactSizeIterator<Item = &'a Account>) -> f64 {
    let count = accounts.len().max(1) as f64;
    let sum: f64 = accounts.map(|a| a.penalty(&world.objective)).sum();
    -sum / count
}
