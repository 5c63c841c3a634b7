//! A view is the whole of what can be observed: a state that is made of one goes on like the one it
//! was taken from, where nothing is hidden.

use proptest::prelude::*;
use proptest::test_runner::{Config, RngSeed};
use twin::World;
use twin::ids::ApplicationId;
use twin::observation::Observation;
use twin::policy;
use twin::qos::{Account, Qos, ResponseTimes};
use twin::simulate::{self, Options};
use twin::sink::Silent;
use twin::state::{Epoch, Future, State};
use twin::units::SimTime;
use twin::workload::Arrival;

use crate::properties::go;
use crate::small_worlds::{Chance, plans};
use crate::statistics::close;
use crate::validation;

fn config(cases: u32) -> Config {
    let rest = Config {
        rng_seed: RngSeed::Fixed(3),
        failure_persistence: None,
        ..Config::default()
    };
    validation::property(cases, rest)
}

proptest! {
    #![proptest_config(config(64))]

    #[test]
    fn a_view_of_known_work_has_the_same_future(mut plan in plans(), epochs in 1_usize..30) {
        let fragments = plan.applications.iter_mut().flatten().flatten();
        fragments.for_each(|f| f.work = 0);
        let world = plan.world(&plan.in_order());
        let arrivals = simulate::arrivals(&world, &Options::new(plan.seed));
        let (mut state, mut chance) = (State::new(&world), Chance::new(plan.seed));
        let mut future = Future::new(&arrivals);
        let mut epoch = Epoch::End;
        for _ in 0..epochs {
            epoch = state.advance(&world, &mut future, world.episode(), &mut Silent);
            if epoch == Epoch::End {
                return Ok(());
            }
            let decision = chance.decision(&Observation::new(&world, &state, epoch));
            state.apply(&world, &decision, &mut Silent);
        }
        let view = Observation::new(&world, &state, epoch).view();
        let mut copy = State::from_view(&world, &view).expect("a view is a state");
        let (mut other, mut same) = (future, Chance::new(plan.seed ^ 1));
        let mut chance = Chance::new(plan.seed ^ 1);
        let (a, b) = (Account::of(&world, &state), Account::of(&world, &copy));
        go(&world, &mut state, &mut future, world.episode(), &mut chance);
        go(&world, &mut copy, &mut other, world.episode(), &mut same);
        let (a, b) = (Account::of(&world, &state).since(&a), Account::of(&world, &copy).since(&b));
        // What a fragment has had is told to some 1e-9 of its work.
        prop_assert!((a.energy_j - b.energy_j).abs() < 1e-3, "{a:?} {b:?}");
        prop_assert!((a.response_s - b.response_s).abs() < 1e-4, "{a:?} {b:?}");
    }
}

#[test]
fn a_view_tells_what_is_left_now() {
    let text = r#"
schema = 1
name = "slow"
description = "One host behind a slow line."
interval_s = 5
episode_intervals = 10
[objective]
reference_power_w = 100
reference_cost_usd_per_hour = 1
reference_response_s = 2
reference_rate_per_s = 1
weights = { energy = 1, cost = 1, response = 1, sla = 1, accuracy = 1 }
[workload]
kind = "poisson"
rate_per_s = 1
[[sites]]
name = "here"
user_latency_ms = 0
[[sizes]]
name = "size"
vcpus = 1
mips_per_vcpu = 1000
ram_mib = 1000
network_mbps = 1.024
power_w = [0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10]
price_usd_per_hour = { here = 1 }
boot_s = 0
[[hosts]]
size = "size"
site = "here"
count = 1
[[applications]]
name = "app"
deadline_s = 4
input_kib = 1000
[[applications.variants]]
name = "whole"
accuracy = 1
fragments = [{ name = "model", work_mi = { kind = "constant", value = 1000 }, max_vcpus = 1, ram_mib = 1 }]
"#;
    let world = World::parse(text, "slow.toml", None).expect("the world is valid");
    let arrival = Arrival {
        time: SimTime::from_seconds(1.0),
        application: ApplicationId(0),
        context_tokens: 0,
        generated_tokens: 0,
        key: 0,
    };
    let (mut state, arrivals) = (State::new(&world), [arrival]);
    let mut future = Future::new(&arrivals);
    let mut policy = policy::by_name("round-robin", &world, 1).expect("the policy is listed");
    // 1000 KiB at 1.024 Mbit/s take 8 s, from 1 to 9; then the work takes one, to 10.
    go(
        &world,
        &mut state,
        &mut future,
        SimTime::from_seconds(5.0),
        policy.as_mut(),
    );
    let epoch = state.advance(&world, &mut future, SimTime::NEVER, &mut Silent);
    assert_eq!(epoch, Epoch::Boundary);
    let view = Observation::new(&world, &state, epoch).view();
    let mut copy = State::from_view(&world, &view).expect("it is a view");
    for state in [&mut state, &mut copy] {
        let until = SimTime::from_seconds(12.0);
        go(&world, state, &mut Future::empty(), until, policy.as_mut());
        let qos = Qos::of(&world, state, &mut ResponseTimes::default());
        assert_eq!((qos.requests_completed, qos.requests_unfinished), (1, 0));
        close(qos.response_mean_s, 9.0, 1e-9, "response");
    }
}
