//! What-if evaluations and labels per second, on one core and on all.
//!
//! `what-if` prices joint decisions about 12 pending fragments (6 requests as chains of 2) on the
//! 16 hosts of `scinet-16`, each over one future of 5 intervals: `greedy` with the greedy policy
//! deciding everything later, `fixed` with that held as it was recorded. One evaluation is one
//! decision in one future.
//!
//! `change` prices decisions that place one waiting request elsewhere, with everything else as it
//! was recorded: `whole` by whole rollouts, `touched` by the hosts on which they make a difference.
//! The fleets are `scinet-16`, the same scaled up and loaded to 60 %, and `azure-llm`. One element is
//! one host that is touched, in both; their number for each decision is written to standard error,
//! beside the number of hosts that the decision names otherwise.
//!
//! `labels` lets the oracle answer the questions of joint decisions in `azure-llm`: `boundary`
//! those at an interval boundary, most of them about hosts, `arrival` those about single requests.
//! One label is one question with the value of each of its answers.

use std::hint::black_box;
use std::time::Duration;

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use rayon::prelude::*;
use twin::decision::{Decision, Deployment};
use twin::ids::{ApplicationId, HostId};
use twin::observation::Observation;
use twin::policy::oracle::{Options, Oracle};
use twin::policy::{self, Policy, PolicyError};
use twin::sequence::{Chooser, Context, Question, Stepwise};
use twin::sink::Silent;
use twin::state::{Epoch, Future, State};
use twin::stream;
use twin::units::SimTime;
use twin::what_if::{self, Futures, Horizon};
use twin::workload::{Arrival, Split};
use twin::world::World;
use twin::world::file::{WorkloadFile, WorldFile};

/// Requests that wait in `scinet-16`, each to be run as a chain of two fragments.
const WAITING: usize = 6;
/// Intervals that a decision is priced over.
const INTERVALS: u64 = 5;
/// Decisions that are priced at once: enough to keep some cores busy.
const DECISIONS: usize = 64;
/// Intervals before the state that is measured.
const WARM_UP_INTERVALS: u64 = 20;
/// Arrivals that are labeled in `azure-llm`.
const ARRIVALS: usize = 8;

/// The name of a measurement and the threads that it runs on.
fn pools() -> Vec<(String, rayon::ThreadPool)> {
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let mut counts = vec![1, cores];
    counts.dedup();
    counts
        .into_iter()
        .map(|threads| {
            let pool = rayon::ThreadPoolBuilder::new()
                .num_threads(threads)
                .build()
                .expect("threads start");
            let cores = if threads == 1 { "core" } else { "cores" };
            (format!("{threads} {cores}"), pool)
        })
        .collect()
}

/// Runs `least-loaded` through `arrivals`, and gives every state in which a decision is due from
/// `from` up to and including `until`, undecided.
fn epochs(
    world: &World,
    arrivals: &[Arrival],
    (from, until): (SimTime, SimTime),
) -> Vec<(State, Epoch)> {
    let mut policy = policy::by_name("least-loaded", world, 1).expect("the policy exists");
    let mut state = State::new(world);
    let mut future = Future::new(arrivals);
    let mut decision = Decision::none();
    let mut found = Vec::new();
    let end = until.after(SimTime(1));
    loop {
        let epoch = state.advance(world, &mut future, end, &mut Silent);
        if epoch == Epoch::End {
            return found;
        }
        if state.now() >= from {
            found.push((state.clone(), epoch));
        }
        decision.clear();
        policy
            .decide(&Observation::new(world, &state, epoch), &mut decision)
            .expect("the policy decides");
        state.apply(world, &decision, &mut Silent);
    }
}

/// The end of the warm-up.
fn warm(world: &World) -> SimTime {
    SimTime(world.interval.0 * WARM_UP_INTERVALS)
}

/// A boundary of `scinet-16` at which [`WAITING`] requests wait.
fn pending(world: &World) -> (State, Epoch) {
    let now = warm(world);
    let mut stream = stream::named(1, "arrivals");
    let mut arrivals = world.arrivals(Split::Training, now, &mut stream);
    arrivals.extend((0..WAITING).map(|i| Arrival {
        time: now,
        application: ApplicationId::at(i),
        context_tokens: 0,
        generated_tokens: 0,
        key: stream::mix(1, i as u64),
    }));
    let mut found = epochs(world, &arrivals, (now, now));
    found.pop().expect("a boundary is an epoch")
}

/// Joint decisions that deploy all waiting requests, each on other hosts.
fn decisions(world: &World, observation: &Observation<'_>) -> Vec<Decision> {
    let hosts = observation.host_count();
    (0..DECISIONS)
        .map(|shift| {
            let mut decision = Decision::none();
            let mut host = shift;
            for request in observation.waiting() {
                let variant = world.most_accurate(request.application);
                let count = world.variant(request.application, variant).fragments.len();
                // A stride for each block of decisions keeps them all different.
                let stride = 1 + shift / hosts;
                decision.deployments.push(Deployment {
                    request: request.id,
                    variant,
                    hosts: (0..count)
                        .map(|k| HostId::at((host + k * stride) % hosts))
                        .collect(),
                });
                host += count * stride;
            }
            decision
        })
        .collect()
}

fn what_if(c: &mut Criterion) {
    let world = World::load("scinet-16").expect("the world is embedded");
    let (state, epoch) = pending(&world);
    let observation = Observation::new(&world, &state, epoch);
    let decisions = decisions(&world, &observation);
    let fragments: usize = decisions[0].deployments.iter().map(|d| d.hosts.len()).sum();
    assert_eq!(fragments, 12, "six chains of two fragments are pending");
    let deadline = world.applications.iter().map(|a| a.deadline).max();
    let horizon = Horizon {
        span: SimTime(world.interval.0 * INTERVALS),
        drain: SimTime(3 * deadline.unwrap_or_default().0),
        provisions: true,
    };
    let mut stream = stream::named(1, "futures");
    let mut futures = Futures::sample(&observation, 1, horizon.span, &mut stream);
    futures.record(&world, &Decision::none(), horizon);
    let mut group = c.benchmark_group("what-if");
    group
        .sample_size(20)
        .measurement_time(Duration::from_secs(3))
        .throughput(Throughput::Elements(DECISIONS as u64));
    for (name, pool) in pools() {
        group.bench_function(BenchmarkId::new("greedy", &name), |b| {
            let evaluate = || what_if::evaluate(&world, &futures, &decisions, horizon);
            b.iter(|| black_box(pool.install(evaluate)));
        });
        group.bench_function(BenchmarkId::new("fixed", &name), |b| {
            let evaluate = || what_if::evaluate_fixed(&world, &futures, &decisions, horizon);
            b.iter(|| black_box(pool.install(evaluate)));
        });
    }
    group.finish();
}

/// The fleet of `scinet-16`, scaled to `hosts` and loaded to 60 %.
fn scaled(hosts: u32) -> World {
    let embedded = World::load("scinet-16").expect("the world is embedded");
    let mut file: WorldFile = (*embedded.file).clone();
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

/// Decisions that place one waiting request each, on hosts of its own.
fn changes(world: &World, observation: &Observation<'_>) -> Vec<Decision> {
    let open: Vec<HostId> = (0..observation.host_count())
        .map(HostId::at)
        .filter(|&h| observation.lifecycle(h).accepts())
        .collect();
    let waiting: Vec<_> = observation.waiting().collect();
    (0..DECISIONS)
        .map(|i| {
            let request = waiting[i % waiting.len()];
            let variant = world.most_accurate(request.application);
            let count = world.variant(request.application, variant).fragments.len();
            Decision {
                deployments: vec![Deployment {
                    request: request.id,
                    variant,
                    hosts: (0..count)
                        .map(|k| open[(7 * i + 3 * k) % open.len()])
                        .collect(),
                }],
                ..Decision::none()
            }
        })
        .collect()
}

/// The first moment from `from` on at which a request waits.
fn waiting(world: &World) -> (State, Epoch) {
    let from = warm(world);
    let until = SimTime(from.0 + 4 * world.interval.0);
    let mut stream = stream::named(1, "arrivals");
    let arrivals = world.arrivals(Split::Training, until, &mut stream);
    epochs(world, &arrivals, (from, until))
        .into_iter()
        .find(|(state, epoch)| Observation::new(world, state, *epoch).waiting().count() > 0)
        .expect("a request waits soon")
}

fn change(c: &mut Criterion) {
    let load = |name| World::load(name).expect("the world is embedded");
    let fleets = [
        ("16 hosts", load("scinet-16")),
        ("16 hosts at 60 %", scaled(16)),
        ("100 hosts at 60 %", scaled(100)),
        ("1000 hosts at 60 %", scaled(1000)),
        ("azure-llm", load("azure-llm")),
    ];
    let mut group = c.benchmark_group("change");
    group
        .sample_size(10)
        .measurement_time(Duration::from_secs(3));
    for (fleet, world) in &fleets {
        let (state, epoch) = if *fleet == "16 hosts" {
            pending(world)
        } else {
            waiting(world)
        };
        let observation = Observation::new(world, &state, epoch);
        let decisions = changes(world, &observation);
        let deadline = world.applications.iter().map(|a| a.deadline).max();
        let horizon = Horizon {
            span: SimTime(world.interval.0 * INTERVALS),
            drain: SimTime(3 * deadline.unwrap_or_default().0),
            provisions: false,
        };
        let mut stream = stream::named(1, "futures");
        let mut futures = Futures::sample(&observation, 1, horizon.span, &mut stream);
        futures.record(world, &Decision::none(), horizon);
        futures.prepare(world, &Decision::none(), horizon);
        let priced = what_if::evaluate_changes(world, &futures, &decisions, horizon);
        let touched: usize = priced.iter().map(|p| p.hosts).sum();
        let whole: usize = priced.iter().map(|p| p.whole).sum();
        let named: usize = decisions.iter().map(|d| d.deployments[0].hosts.len()).sum();
        eprintln!(
            "{fleet}: {:.1} hosts touched a decision, {:.1} named; {whole} of {DECISIONS} whole",
            touched as f64 / (DECISIONS - whole).max(1) as f64,
            named as f64 / DECISIONS as f64,
        );
        group.throughput(Throughput::Elements(touched as u64));
        for (name, pool) in pools() {
            group.bench_function(BenchmarkId::new(format!("whole, {fleet}"), &name), |b| {
                let evaluate = || what_if::evaluate_fixed(world, &futures, &decisions, horizon);
                b.iter(|| black_box(pool.install(evaluate)));
            });
            group.bench_function(BenchmarkId::new(format!("touched, {fleet}"), &name), |b| {
                let evaluate = || what_if::evaluate_changes(world, &futures, &decisions, horizon);
                b.iter(|| black_box(pool.install(evaluate)));
            });
        }
    }
    group.finish();
}

/// Counts the questions that the oracle answers.
struct Counting {
    oracle: Oracle,
    labels: u64,
}

impl Chooser for Counting {
    fn name(&self) -> &str {
        self.oracle.name()
    }

    fn begin(&mut self, observation: &Observation<'_>) {
        self.oracle.begin(observation);
    }

    fn choose(
        &mut self,
        context: &Context<'_>,
        question: &Question<'_>,
    ) -> Result<usize, PolicyError> {
        self.labels += 1;
        self.oracle.choose(context, question)
    }
}

/// Labels the questions of every epoch side by side; gives their number.
fn label(world: &World, epochs: &[(State, Epoch)]) -> u64 {
    epochs
        .par_iter()
        .map(|(state, epoch)| {
            let mut policy = Stepwise::new(Counting {
                oracle: Oracle::new(Options::default(), 1),
                labels: 0,
            });
            let mut decision = Decision::none();
            policy
                .decide(&Observation::new(world, state, *epoch), &mut decision)
                .expect("the oracle decides");
            policy.chooser.labels
        })
        .sum()
}

fn labels(c: &mut Criterion) {
    let world = World::load("azure-llm").expect("the world is embedded");
    let from = warm(&world);
    let until = from.after(world.interval);
    let mut stream = stream::named(1, "arrivals");
    let arrivals = world.arrivals(Split::Training, until, &mut stream);
    let (boundaries, mut singles): (Vec<_>, Vec<_>) = epochs(&world, &arrivals, (from, until))
        .into_iter()
        .partition(|(_, epoch)| *epoch == Epoch::Boundary);
    singles.truncate(ARRIVALS);
    let mut group = c.benchmark_group("labels");
    group
        .sample_size(10)
        .measurement_time(Duration::from_secs(3));
    for (kind, epochs) in [("boundary", &boundaries), ("arrival", &singles)] {
        group.throughput(Throughput::Elements(label(&world, epochs)));
        for (name, pool) in pools() {
            group.bench_function(BenchmarkId::new(kind, name), |b| {
                b.iter(|| black_box(pool.install(|| label(&world, epochs))));
            });
        }
    }
    group.finish();
}

criterion_group!(benches, what_if, change, labels);
criterion_main!(benches);
