//! What-if evaluations allocate nothing once their buffers have grown, and damaged snapshots nothing
//! that is not in them: a counting allocator tells.

use std::alloc::System;
use std::sync::{Mutex, PoisonError};

use sha2::{Digest, Sha256};
use stats_alloc::{INSTRUMENTED_SYSTEM, Region, StatsAlloc};
use twin::decision::{Decision, Deployment};
use twin::ids::HostId;
use twin::observation::Observation;
use twin::policy;
use twin::simulate::{self, Options};
use twin::sink::Silent;
use twin::snapshot;
use twin::state::{Epoch, Future, State};
use twin::stream;
use twin::units::SimTime;
use twin::what_if::{self, Futures, Horizon};
use twin::world::World;

/// How often allocations are counted.
const TIMES: usize = 8;

/// The most bytes that are allocated to read a snapshot of some kilobytes.
const MOST_BYTES: usize = 16 << 20;

/// All threads are counted together, so that tests take turns.
static TURN: Mutex<()> = Mutex::new(());

#[global_allocator]
static ALLOCATOR: &StatsAlloc<System> = &INSTRUMENTED_SYSTEM;

/// Allocations, and growths of what was allocated, while `work` is done: the least of several times,
/// since other threads of the process are counted too, such as those that report on tests.
fn allocations(work: impl Fn()) -> usize {
    let once = |_| {
        let region = Region::new(ALLOCATOR);
        work();
        let change = region.change();
        change.allocations + change.reallocations
    };
    (0..TIMES).map(once).min().unwrap_or(0)
}

/// A boundary of `scinet-16` under greedy decisions at which requests wait.
fn pending(world: &World) -> (State, Epoch) {
    let arrivals = simulate::arrivals(world, &Options::new(2));
    let (mut state, mut future) = (State::new(world), Future::new(&arrivals));
    let mut greedy = policy::by_name("greedy", world, 1).expect("the policy is listed");
    let mut decision = Decision::none();
    loop {
        let epoch = state.advance(world, &mut future, world.episode(), &mut Silent);
        let observation = Observation::new(world, &state, epoch);
        if observation.now() > SimTime::from_seconds(60.0) && observation.waiting().count() > 1 {
            return (state, epoch);
        }
        decision.clear();
        greedy
            .decide(&observation, &mut decision)
            .expect("greedy always decides");
        state.apply(world, &decision, &mut Silent);
    }
}

/// Decisions that place the first waiting request, each on other hosts.
fn decisions(observation: &Observation<'_>) -> Vec<Decision> {
    let world = observation.world();
    let waiting = observation.waiting().next().expect("a request waits");
    let variant = world.most_accurate(waiting.application);
    let count = world.variant(waiting.application, variant).fragments.len();
    let open: Vec<HostId> = (0..observation.host_count())
        .map(HostId::at)
        .filter(|&h| observation.lifecycle(h).accepts())
        .collect();
    (0..open.len())
        .map(|shift| Decision {
            deployments: vec![Deployment {
                request: waiting.id,
                variant,
                hosts: (0..count).map(|k| open[(shift + k) % open.len()]).collect(),
            }],
            ..Decision::none()
        })
        .collect()
}

/// Prices decisions; gives how many.
type Evaluation<'a> = dyn Fn(&[Decision]) -> usize + Sync + 'a;

#[test]
fn lengths_that_a_snapshot_claims_take_no_room() {
    let _turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
    let world = World::load("scinet-16").expect("the world is embedded");
    let bytes = snapshot::encode(&pending(&world).0);
    let payload = &bytes[9..];
    // 16,777,216 as bincode writes it, in place of each byte: some of them are lengths of lists.
    let claim = [252, 0, 0, 0, 1];
    for at in 0..payload.len() {
        let changed = [&payload[..at], &claim, &payload[at + 1..]].concat();
        let check = Sha256::digest(&changed);
        let damaged = [&[snapshot::VERSION], &check[..8], &changed].concat();
        let region = Region::new(ALLOCATOR);
        // It may still be a state: many bytes are numbers.
        let _ = snapshot::decode(&damaged);
        let taken = region.change().bytes_allocated;
        assert!(taken < MOST_BYTES, "byte {at}: {taken} bytes");
    }
}

#[test]
fn evaluations_allocate_nothing_in_the_hot_loop() {
    let _turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
    let world = World::load("scinet-16").expect("the world is embedded");
    let (state, epoch) = pending(&world);
    let observation = Observation::new(&world, &state, epoch);
    let few = decisions(&observation);
    // The same several times over: ten times the evaluations.
    let many: Vec<Decision> = std::iter::repeat_n(few.clone(), 10).flatten().collect();
    let horizon = Horizon {
        span: SimTime(5 * world.interval.0),
        drain: SimTime::from_seconds(60.0),
        provisions: true,
    };
    let mut futures = Futures::sample(&observation, 2, horizon.span, &mut stream::named(1, "test"));
    futures.record(&world, &Decision::none(), horizon);
    futures.prepare(&world, &Decision::none(), horizon);
    let pool = rayon::ThreadPoolBuilder::new()
        .num_threads(1)
        .build()
        .expect("threads start");
    let whole = |list: &[Decision]| what_if::evaluate_fixed(&world, &futures, list, horizon).len();
    let changes = |list: &[Decision]| {
        let priced = what_if::evaluate_changes(&world, &futures, list, horizon);
        assert!(priced.iter().all(|p| p.whole == 0 && p.hosts > 0));
        priced.len()
    };
    let paths: [&Evaluation<'_>; 2] = [&whole, &changes];
    pool.install(|| {
        for evaluate in paths {
            // Buffers grow to the greatest need.
            evaluate(&many);
            let of_few = allocations(|| {
                evaluate(&few);
            });
            let of_many = allocations(|| {
                evaluate(&many);
            });
            // The lists that are handed back are allocated; their number does not grow.
            assert_eq!(of_many, of_few);
            assert!(
                of_few <= 4,
                "{of_few} allocations for the lists handed back"
            );
        }
    });
}
