//! What is foretold is what happens, bit by bit on any number of threads.

use std::collections::BTreeSet;

use twin::World;
use twin::decision::Decision;
use twin::observation::Observation;
use twin::policy::oracle::{self, Oracle};
use twin::policy::{self, Policy};
use twin::qos::{Account, Qos, ResponseTimes};
use twin::sequence::Stepwise;
use twin::simulate::{self, Options};
use twin::sink::Silent;
use twin::snapshot;
use twin::state::{Epoch, Future, State};
use twin::stream;
use twin::units::SimTime;
use twin::what_if::{self, Futures, Horizon};

use crate::properties::{go, same_account};
use crate::small_worlds::Chance;

/// Work is constant and no two hosts are alike, so that the greedy policy, which knows what is
/// expected, and the rollouts, which know what is hidden, decide alike.
fn certain_world() -> World {
    let mut hosts = String::new();
    for (h, vcpus, mips, on) in [
        (0, 1, 1000, 1),
        (1, 2, 1130, 1),
        (2, 2, 1370, 0),
        (3, 4, 910, 0),
    ] {
        hosts += &format!(
            r#"
[[sizes]]
name = "size-{h}"
vcpus = {vcpus}
mips_per_vcpu = {mips}
ram_mib = {}
network_mbps = {}
power_w = [40, 44, 48, 52, 56, 60, 64, 68, 72, 76, 80]
price_usd_per_hour = {{ here = 0.{vcpus} }}
boot_s = 3
[[hosts]]
size = "size-{h}"
site = "here"
count = 1
initially_on = {on}
"#,
            500 + 100 * h,
            20 + 7 * h,
        );
    }
    let text = format!(
        r#"
schema = 1
name = "certain"
description = "Constant work on unlike hosts."
interval_s = 5
episode_intervals = 30
[objective]
reference_power_w = 100
reference_cost_usd_per_hour = 1
reference_response_s = 2
reference_rate_per_s = 1
weights = {{ energy = 1, cost = 1, response = 1, sla = 1, accuracy = 1 }}
[workload]
kind = "poisson"
rate_per_s = 1.1
[[sites]]
name = "here"
user_latency_ms = 7
{hosts}
[[applications]]
name = "app"
deadline_s = 4
input_kib = 30
[[applications.variants]]
name = "chain"
accuracy = 0.9
fragments = [
  {{ name = "a", work_mi = {{ kind = "constant", value = 1210 }}, max_vcpus = 1, ram_mib = 130, output_kib = 20 }},
  {{ name = "b", after = ["a"], work_mi = {{ kind = "constant", value = 830 }}, max_vcpus = 2, ram_mib = 110 }},
]
[[applications.variants]]
name = "small"
accuracy = 0.7
fragments = [
  {{ name = "c", work_mi = {{ kind = "constant", value = 970 }}, max_vcpus = 1, ram_mib = 90 }},
]
"#
    );
    World::parse(&text, "certain.toml", None).expect("the world is valid")
}

#[test]
fn what_if_foretells_what_happens_under_the_same_later_decisions() {
    let world = certain_world();
    let horizon = Horizon {
        span: SimTime::from_seconds(25.0),
        drain: SimTime::ZERO,
        provisions: true,
    };
    let (mut deployed, mut powered) = (0, 0);
    for seed in 0..6 {
        let arrivals = simulate::arrivals(&world, &Options::new(seed));
        let mut greedy = policy::by_name("greedy", &world, 1).expect("the policy is listed");
        let (mut state, mut future) = (State::new(&world), Future::new(&arrivals));
        for _ in 0..80 {
            let epoch = state.advance(&world, &mut future, world.episode(), &mut Silent);
            if epoch == Epoch::End {
                break;
            }
            let mut decision = Decision::none();
            greedy
                .decide(&Observation::new(&world, &state, epoch), &mut decision)
                .expect("greedy always decides");
            deployed += decision.deployments.len();
            powered += decision.provisioning.len();
            let come = arrivals.partition_point(|a| a.time <= state.now());
            let known = Futures::known(&state, epoch, arrivals[come..].to_vec());
            let alone = std::slice::from_ref(&decision);
            let foretold = what_if::accounts(&world, &known, alone, horizon);
            let mut real = state.clone();
            let before = Account::of(&world, &real);
            real.apply(&world, &decision, &mut Silent);
            let until = state.now().after(horizon.span);
            go(
                &world,
                &mut real,
                &mut future.clone(),
                until,
                greedy.as_mut(),
            );
            same_account(&foretold[0][0], &Account::of(&world, &real).since(&before));
            state.apply(&world, &decision, &mut Silent);
        }
    }
    assert!(
        deployed > 100 && powered > 5,
        "{deployed} deployments, {powered} power actions"
    );
}

#[test]
fn threads_do_not_change_a_bit() {
    let world = World::load("scinet-16").expect("the world is embedded");
    let arrivals = simulate::arrivals(&world, &Options::new(4));
    let mut greedy = policy::by_name("greedy", &world, 1).expect("the policy is listed");
    let (mut state, mut future) = (State::new(&world), Future::new(&arrivals));
    let until = SimTime::from_seconds(59.0);
    go(&world, &mut state, &mut future, until, greedy.as_mut());
    let epoch = state.advance(&world, &mut future, world.episode(), &mut Silent);
    let observation = Observation::new(&world, &state, epoch);
    let mut chance = Chance::new(4);
    let decisions: Vec<Decision> = (0..5).map(|_| chance.decision(&observation)).collect();
    let horizon = Horizon {
        span: SimTime::from_seconds(25.0),
        drain: SimTime::from_seconds(60.0),
        provisions: true,
    };
    let label = |threads| {
        let pool = rayon::ThreadPoolBuilder::new()
            .num_threads(threads)
            .build()
            .expect("threads can be started");
        pool.install(|| {
            let mut stream = stream::named(9, "test");
            let mut futures = Futures::sample(&observation, 7, horizon.span, &mut stream);
            let mut values = what_if::evaluate(&world, &futures, &decisions, horizon);
            futures.record(&world, &decisions[0], horizon);
            values.extend(what_if::evaluate_fixed(
                &world, &futures, &decisions, horizon,
            ));
            let mut oracle = Stepwise::new(Oracle::new(oracle::Options::default(), 5));
            let mut decision = Decision::none();
            oracle
                .decide(&observation, &mut decision)
                .expect("the oracle decides");
            let bits: Vec<u64> = values.iter().map(|v| v.to_bits()).collect();
            (bits, decision)
        })
    };
    let one = label(1);
    assert!(
        one.0.iter().collect::<BTreeSet<_>>().len() > 5,
        "decisions differ in value"
    );
    for threads in [2, 8] {
        assert_eq!(one, label(threads), "{threads} threads");
    }
}

#[test]
fn a_run_and_its_qos_are_the_same_bytes_every_time() {
    let plan = |seed| {
        let world = certain_world();
        let mut chance = Chance::new(seed);
        let run = simulate::run(&world, &mut chance, &Options::new(seed)).expect("feasible");
        let state = run.state;
        let qos = Qos::of(&world, &state, &mut ResponseTimes::default());
        (snapshot::encode(&state), format!("{qos:?}"))
    };
    assert_eq!(plan(1), plan(1));
    assert_ne!(plan(1), plan(2));
}
