//! The exhaustive search and the gap between it and the oracle, on instances counted by hand.

use std::collections::BTreeSet;
use std::time::Duration;

use twin::World;
use twin::checker;
use twin::decision::{Decision, Deployment, PowerAction};
use twin::gap::{self, Hooks, Options, small};
use twin::ids::{ApplicationId, HostId, VariantId};
use twin::observation::Observation;
use twin::policy::exhaustive::{self, TooMany, canonical, decisions, search};
use twin::policy::oracle::{self, Oracle};
use twin::policy::{self, Policy};
use twin::sequence::Stepwise;
use twin::sink::Silent;
use twin::state::{Epoch, Future, State};
use twin::statistics::Estimate;
use twin::stream;
use twin::units::SimTime;
use twin::what_if;
use twin::workload::Arrival;

/// Two hosts, one application; variant `chain` has two unlike fragments, `twins` two alike ones.
fn world(second_size: &str, second_variant: &str) -> World {
    let size = |name: &str| {
        format!(
            r#"
[[sizes]]
name = "{name}"
vcpus = 2
mips_per_vcpu = 1000
ram_mib = 2000
network_mbps = 100
power_w = [10, 11, 12, 13, 14, 15, 16, 17, 18, 19, 20]
price_usd_per_hour = {{ here = 0.05 }}
boot_s = 10
"#
        )
    };
    let (after, work) = match second_variant {
        "chain" => (r#"after = ["a"],"#, 2000),
        _ => ("", 1000),
    };
    let text = format!(
        r#"
schema = 1
name = "tiny"
description = "Two hosts and one application."
interval_s = 5
dispatch = "interval"
episode_intervals = 30
[objective]
reference_power_w = 20
reference_cost_usd_per_hour = 0.1
reference_response_s = 2
reference_rate_per_s = 1
weights = {{ energy = 1, cost = 1, response = 1, sla = 1, accuracy = 1 }}
[workload]
kind = "poisson"
rate_per_s = 0.15
[[sites]]
name = "here"
user_latency_ms = 5
{}{}
[[hosts]]
size = "one"
site = "here"
count = 1
[[hosts]]
size = "{second_size}"
site = "here"
count = 1
[[applications]]
name = "app"
deadline_s = 4
[[applications.variants]]
name = "whole"
accuracy = 0.9
fragments = [
  {{ name = "model", work_mi = {{ kind = "lognormal", mean = 2000, cv = 0.5 }}, max_vcpus = 1, ram_mib = 500 }},
]
[[applications.variants]]
name = "{second_variant}"
accuracy = 0.8
fragments = [
  {{ name = "a", work_mi = {{ kind = "lognormal", mean = 1000, cv = 0.5 }}, max_vcpus = 1, ram_mib = 500 }},
  {{ name = "b", {after} work_mi = {{ kind = "lognormal", mean = {work}, cv = 0.5 }}, max_vcpus = 1, ram_mib = 500 }},
]
"#,
        size("one"),
        size("two"),
    );
    World::parse(&text, "tiny.toml", None).expect("the world is valid")
}

/// The first boundary, with `requests` waiting.
fn waiting(world: &World, requests: u64) -> State {
    let arrivals: Vec<Arrival> = (0..requests)
        .map(|key| Arrival {
            time: SimTime::ZERO,
            application: ApplicationId(0),
            context_tokens: 0,
            generated_tokens: 0,
            key,
        })
        .collect();
    let mut state = State::new(world);
    let mut future = Future::new(&arrivals);
    let epoch = state.advance(world, &mut future, SimTime(1), &mut Silent);
    assert_eq!(epoch, Epoch::Boundary);
    state
}

fn count(world: &World, requests: u64) -> usize {
    let state = waiting(world, requests);
    let observation = Observation::new(world, &state, Epoch::Boundary);
    decisions(&observation, 20_000).expect("few enough").len()
}

#[test]
fn the_decisions_are_as_many_as_counted_by_hand() {
    // Unlike hosts, both on: nothing turned over 2 + 2² = 6 ways; either host off 1 + 1 = 2 ways
    // each; both off, and the request waits: 6 + 2 + 2 + 1 = 11.
    assert_eq!(count(&world("two", "chain"), 1), 11);
    // Two requests: 6² + 2² + 2² + 1 = 45.
    assert_eq!(count(&world("two", "chain"), 2), 45);
    // Alike fragments: on hosts 00, 01 and 11, so (2 + 3) + 2 + 2 + 1 = 10.
    assert_eq!(count(&world("two", "twins"), 1), 10);
    // Equal hosts: 1 + 2 (00, 01) with both on, 1 + 1 with the first off, 1 with both off: 6.
    assert_eq!(count(&world("one", "chain"), 1), 6);
    assert_eq!(count(&world("one", "chain"), 0), 3);
}

/// Every feasible decision about the only request or two, by brute force over variants and hosts.
fn all_decisions(state: &State, world: &World) -> Vec<Decision> {
    let observation = Observation::new(world, state, Epoch::Boundary);
    let mut all = Vec::new();
    for subset in 0..4_u32 {
        let provisioning: Vec<PowerAction> = (0..2_u32)
            .filter(|bit| subset >> bit & 1 == 1)
            .map(|bit| PowerAction {
                host: HostId(bit),
                on: false,
            })
            .collect();
        let mut partial = vec![Decision {
            provisioning,
            ..Decision::none()
        }];
        for waiting in observation.waiting() {
            let mut longer = Vec::new();
            for decision in &partial {
                for (variant, hosts) in [(0, 1), (1, 2)] {
                    for code in 0..1_u32 << hosts {
                        let mut decision = decision.clone();
                        decision.deployments.push(Deployment {
                            request: waiting.id,
                            variant: VariantId(variant),
                            hosts: (0..hosts).map(|k| HostId(code >> k & 1)).collect(),
                        });
                        longer.push(decision);
                    }
                }
            }
            if subset != 3 {
                partial = longer;
            }
        }
        partial.retain(|d| checker::check(&observation, d).is_ok());
        all.extend(partial);
    }
    all
}

fn key(decision: &Decision) -> String {
    format!("{decision:?}")
}

#[test]
fn each_feasible_decision_is_represented_once_or_more_and_no_other() {
    for (size, variant) in [("one", "chain"), ("one", "twins"), ("two", "twins")] {
        let world = world(size, variant);
        let state = waiting(&world, 2);
        let observation = Observation::new(&world, &state, Epoch::Boundary);
        let listed: BTreeSet<String> = decisions(&observation, 20_000)
            .expect("few enough")
            .iter()
            .map(key)
            .collect();
        let all = all_decisions(&state, &world);
        let represented: BTreeSet<String> = all
            .iter()
            .map(|d| key(&canonical(&observation, d)))
            .collect();
        assert_eq!(represented, listed, "{size}, {variant}");
        assert!(represented.is_subset(&all.iter().map(key).collect()));
    }
}

#[test]
fn every_decision_passes_the_checker() {
    for name in ["azure-llm", "scinet-16"] {
        let world = World::load(name).expect("the world is embedded");
        let world = small::cut(&world, 3, 1).expect("three hosts are enough");
        each_epoch(&world, 60, |observation| {
            for decision in decisions(observation, 20_000).into_iter().flatten() {
                checker::check(observation, &decision).expect("the decision is feasible");
                assert_eq!(canonical(observation, &decision), decision);
            }
        });
    }
}

/// Runs the random policy through an episode, and looks at each of the first `epochs` epochs.
fn each_epoch(world: &World, epochs: usize, mut look: impl FnMut(&Observation<'_>)) {
    let arrivals = twin::simulate::arrivals(world, &twin::simulate::Options::new(5));
    let mut future = Future::new(&arrivals);
    let mut state = State::new(world);
    let mut policy = policy::by_name("random", world, 5).expect("the policy is listed");
    let mut decision = Decision::none();
    for _ in 0..epochs {
        let epoch = state.advance(world, &mut future, world.episode(), &mut Silent);
        let observation = Observation::new(world, &state, epoch);
        look(&observation);
        decision.clear();
        policy
            .decide(&observation, &mut decision)
            .expect("the policy decides");
        state.apply(world, &decision, &mut Silent);
    }
}

#[test]
fn the_limit_is_enforced_and_the_count_is_told() {
    let world = world("one", "chain");
    let state = waiting(&world, 2);
    let observation = Observation::new(&world, &state, Epoch::Boundary);
    let most = decisions(&observation, 20_000).expect("few enough").len();
    assert_eq!(
        decisions(&observation, most).map(|list| list.len()),
        Ok(most)
    );
    // 6² + 2² + 2² + 1 = 45 with equal hosts told apart.
    let limit = most - 1;
    assert_eq!(
        decisions(&observation, limit),
        Err(TooMany { limit, count: 45 })
    );
}

fn quick_search() -> exhaustive::Options {
    exhaustive::Options {
        rollouts: 200,
        most_futures: 8,
        finalists: 3,
        final_futures: 8,
        ..exhaustive::Options::default()
    }
}

#[test]
fn the_oracle_is_never_above_the_best_of_all_on_the_same_futures() {
    let world = world("one", "chain");
    let mut stream = stream::named(3, "test");
    each_epoch(&world, 12, |observation| {
        let Ok(found) = search(observation, &quick_search(), &mut stream) else {
            return;
        };
        let mut decision = Decision::none();
        Stepwise::new(Oracle::new(oracle::Options::default(), 4))
            .decide(observation, &mut decision)
            .expect("the oracle decides");
        let horizon = exhaustive::horizon(&world, observation.epoch());
        let decided = [canonical(observation, &decision)];
        let value = what_if::evaluate(&world, &found.futures, &decided, horizon)[0];
        let greatest = found.values[oracle::best(&found.values)];
        assert!(value <= greatest, "{value} above {greatest}");
    });
}

#[test]
fn the_gap_does_not_depend_on_the_number_of_threads() {
    let world = world("two", "chain");
    let options = Options {
        states: 4,
        futures: 8,
        search: quick_search(),
        ..Options::default()
    };
    let measure = |threads| {
        let pool = rayon::ThreadPoolBuilder::new()
            .num_threads(threads)
            .build()
            .expect("threads can be started");
        let hooks = Hooks {
            clock: &|| Duration::ZERO,
            step: &|| (),
        };
        pool.install(|| gap::measure(&world, &options, &hooks))
            .expect("the policies decide")
    };
    let (one, three) = (measure(1), measure(3));
    assert!(!one.is_empty());
    assert_eq!(one, three);
    let summaries = gap::summaries(&one, 0.1);
    assert_eq!(summaries.len(), 2, "a boundary has requests or not");
    let Estimate {
        ci95_low: Some(low),
        ci95_high: Some(high),
        mean,
    } = summaries[0].oracle_in_sample_s
    else {
        panic!("there are several states");
    };
    assert!(mean >= 0.0 && low <= mean && mean <= high);
}

#[test]
fn a_world_cut_down_keeps_load_and_mix() {
    for name in ["azure-llm", "scinet-16"] {
        let whole = World::load(name).expect("the world is embedded");
        let world = small::cut(&whole, 4, 1).expect("four hosts are enough");
        let load = |w: &World| w.mean_rate_per_s() / w.capacity().0;
        let ratio = load(&world) / load(&whole);
        assert!((ratio - 1.0).abs() < 0.03, "{name}: {ratio}");
        let sites: BTreeSet<_> = world.hosts.iter().map(|h| h.site).collect();
        assert_eq!(sites.len(), whole.sites.len(), "{name}");
        assert!(small::cut(&whole, 0, 1).is_err());
    }
}
