//! Decision latency of the learned policy, whose weights do not matter for it.
//!
//! The fleet is that of `scinet-16`, scaled; requests arrive one by one and load it to 60 %. Each
//! decision is about another moment, so hosts that changed are encoded anew. `arrival` places one
//! request; `boundary` also turns hosts on and off. `greedy` is what the estimates alone cost.

use std::hint::black_box;
use std::time::Instant;

use criterion::{BenchmarkId, Criterion, criterion_group, criterion_main};
use models::network::PolicyConfig;
use models::policy::ModelChooser;
use models::weights::Standardizations;
use twin::policy::Policy;
use twin::policy::greedy::Greedy;
use twin::sequence::Stepwise;
use twin::state::{Epoch, Future};
use twin::stream;
use twin::units::SimTime;
use twin::workload::Split;
use twin::world::file::WorldFile;
use twin::world::{Dispatch, file::WorkloadFile};
use twin::{Decision, Observation, State, World};

/// Moments that are gone through.
const MOMENTS: usize = 64;

/// Decisions that are timed one by one, for the percentiles.
const SINGLE_DECISIONS: usize = 4096;

fn world(hosts: u32) -> World {
    let embedded = World::load("scinet-16").expect("the world is embedded");
    let mut file: WorldFile = (*embedded.file).clone();
    file.dispatch = Dispatch::OnArrival;
    for group in &mut file.hosts {
        group.count = hosts / 2;
    }
    let mean_mi = embedded.typical_mi.iter().sum::<f64>() / embedded.typical_mi.len() as f64;
    let speed = embedded.capacity().0 * f64::from(hosts) / 16.0;
    file.workload = WorkloadFile::Poisson {
        rate_per_s: 0.6 * speed / mean_mi,
    };
    World::resolve(file, "bench", None).expect("the scaled world is valid")
}

/// States of a run of the greedy policy in which a decision is due.
fn moments(world: &World, wanted: Epoch) -> Vec<State> {
    let duration = SimTime(40 * world.interval.0);
    let arrivals = world.arrivals(
        Split::Training,
        duration,
        &mut stream::named(1, "bench/arrivals"),
    );
    let mut future = Future::new(&arrivals);
    let mut state = State::new(world);
    let mut policy = Stepwise::new(Greedy::new());
    let mut decision = Decision::none();
    let mut out = Vec::new();
    let warm = SimTime(4 * world.interval.0);
    while out.len() < MOMENTS {
        let epoch = state.advance(world, &mut future, duration, &mut twin::sink::Silent);
        if epoch == Epoch::End {
            break;
        }
        if epoch == wanted && state.now() >= warm {
            out.push(state.clone());
        }
        decision.clear();
        let observation = Observation::new(world, &state, epoch);
        policy
            .decide(&observation, &mut decision)
            .expect("greedy can decide");
        state.apply(world, &decision, &mut twin::sink::Silent);
    }
    out
}

fn decisions(criterion: &mut Criterion) {
    let device = burn::tensor::Device::flex();
    let network = PolicyConfig::new().init(&Standardizations::default(), &device);
    let weights = network.to_weights().expect("fresh weights are finite");
    for (name, epoch) in [("arrival", Epoch::Arrival), ("boundary", Epoch::Boundary)] {
        let mut group = criterion.benchmark_group(format!("decision/{name}"));
        for hosts in [16, 100, 1000] {
            let world = world(hosts);
            let states = moments(&world, epoch);
            let model = Stepwise::new(ModelChooser::new("model", &weights));
            let policies: [Box<dyn Policy>; 2] =
                [Box::new(model), Box::new(Stepwise::new(Greedy::new()))];
            for mut policy in policies {
                quantiles(
                    &format!("decision/{name}/{}/{hosts}", policy.name()),
                    || latencies_us(policy.as_mut(), &world, &states, epoch),
                );
                let mut decision = Decision::none();
                let mut turn = 0;
                let id = BenchmarkId::new(policy.name().to_owned(), hosts);
                group.bench_function(id, |bencher| {
                    bencher.iter(|| {
                        turn = (turn + 1) % states.len();
                        decision.clear();
                        let observation = Observation::new(&world, &states[turn], epoch);
                        policy
                            .decide(&observation, &mut decision)
                            .expect("it can decide");
                        black_box(&decision);
                    });
                });
            }
        }
        group.finish();
    }
}

/// Latency of single decisions, in µs, ascending.
fn latencies_us(
    policy: &mut dyn Policy,
    world: &World,
    states: &[State],
    epoch: Epoch,
) -> Vec<f64> {
    let mut decision = Decision::none();
    let mut times = Vec::with_capacity(SINGLE_DECISIONS);
    for turn in 0..SINGLE_DECISIONS {
        decision.clear();
        let observation = Observation::new(world, &states[turn % states.len()], epoch);
        let started = Instant::now();
        policy
            .decide(&observation, &mut decision)
            .expect("it can decide");
        times.push(started.elapsed().as_secs_f64() * 1e6);
        black_box(&decision);
    }
    times.sort_by(f64::total_cmp);
    times
}

/// Tells the median and the 99th percentile, which criterion does not.
fn quantiles(name: &str, measure: impl FnOnce() -> Vec<f64>) {
    let times = measure();
    let (p50, p99) = (times[times.len() / 2], times[times.len() * 99 / 100]);
    eprintln!("{name}: p50 {p50:.1} µs, p99 {p99:.1} µs");
}

criterion_group!(benches, decisions);
criterion_main!(benches);
