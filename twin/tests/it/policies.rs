//! Every policy in closed loop: feasible decisions, requests that are accounted for, repeatability.

use twin::World;
use twin::policy::{self, POLICIES};
use twin::simulate::{self, Options, Run};

/// Policies that search are slow; their own tests run them.
const SEARCHES: &[&str] = &["oracle"];

fn run(world: &World, name: &str, seed: u64, intervals: u32) -> Run {
    let mut policy = policy::by_name(name, world, seed).expect("the policy is listed");
    let options = Options {
        intervals: Some(intervals),
        ..Options::new(seed)
    };
    // A run ends with an error where a decision is not feasible.
    simulate::run(world, policy.as_mut(), &options)
        .unwrap_or_else(|error| panic!("{} with {name}: {error}", world.name))
}

fn check_everywhere(check: impl Fn(&World, &str)) {
    for name in ["azure-llm", "scinet-16"] {
        let world = World::load(name).expect("the world is embedded");
        for (policy, _) in POLICIES {
            if !SEARCHES.contains(policy) {
                check(&world, policy);
            }
        }
    }
}

#[test]
fn decisions_are_feasible_and_figures_finite() {
    check_everywhere(|world, policy| {
        let qos = run(world, policy, 11, 20).qos;
        for (metric, value) in qos.metrics() {
            assert!(
                value.is_finite(),
                "{}, {policy}: {metric} is {value}",
                world.name
            );
        }
        assert!(qos.requests_arrived > 0 && qos.energy_wh > 0.0 && qos.cost_usd > 0.0);
        assert!((0.0..=1.0).contains(&qos.utilization_mean));
        assert!((0.0..=1.0).contains(&qos.sla_violation_ratio));
    });
}

#[test]
fn each_request_ends_in_one_state() {
    check_everywhere(|world, policy| {
        let qos = run(world, policy, 12, 20).qos;
        assert_eq!(
            qos.requests_arrived,
            qos.requests_completed + qos.requests_unfinished,
            "{}, {policy}",
            world.name
        );
    });
}

#[test]
fn the_same_seed_gives_the_same_run() {
    check_everywhere(|world, policy| {
        let (a, b) = (run(world, policy, 13, 12), run(world, policy, 13, 12));
        assert_eq!(a.qos, b.qos, "{}, {policy}", world.name);
    });
}

/// Hosts that boot slowly and are off at first, half of them too small, and more requests than the
/// fleet can answer.
const HARD_WORLD: &str = r#"
schema = 1
name = "hard"
description = "Small hosts, slow boots, too many requests."
interval_s = 3
dispatch = "on-arrival"
episode_intervals = 60

[objective]
reference_power_w = 100
reference_cost_usd_per_hour = 1
reference_response_s = 5
reference_rate_per_s = 2
[objective.weights]
energy = 1
cost = 1
response = 1
sla = 1
accuracy = 1

[workload]
kind = "poisson"
rate_per_s = 2

[[sites]]
name = "here"
user_latency_ms = 5

[[sizes]]
name = "small"
vcpus = 2
mips_per_vcpu = 1000
ram_mib = 500
network_mbps = 100
power_w = [10, 11, 12, 13, 14, 15, 16, 17, 18, 19, 20]
price_usd_per_hour = { here = 0.05 }
boot_s = 20

[[sizes]]
name = "large"
vcpus = 2
mips_per_vcpu = 1000
ram_mib = 2500
network_mbps = 100
power_w = [10, 11, 12, 13, 14, 15, 16, 17, 18, 19, 20]
price_usd_per_hour = { here = 0.1 }
boot_s = 20

[[hosts]]
size = "small"
site = "here"
count = 3
initially_on = 0
[[hosts]]
size = "large"
site = "here"
count = 3
initially_on = 0

[[applications]]
name = "app"
deadline_s = 8
[[applications.variants]]
name = "whole"
accuracy = 0.9
fragments = [
  { name = "model", work_mi = { kind = "lognormal", mean = 6000, cv = 0.5 }, max_vcpus = 2, ram_mib = 1000 },
]
[[applications.variants]]
name = "split"
accuracy = 0.8
fragments = [
  { name = "front", work_mi = { kind = "lognormal", mean = 3000, cv = 0.5 }, max_vcpus = 1, ram_mib = 1000, output_kib = 100 },
  { name = "back", after = ["front"], work_mi = { kind = "lognormal", mean = 3000, cv = 0.5 }, max_vcpus = 1, ram_mib = 300 },
]
"#;

#[test]
fn decisions_are_feasible_where_hosts_are_off_small_or_draining() {
    let world = World::parse(HARD_WORLD, "hard.toml", None).expect("the world is valid");
    for (policy, _) in POLICIES
        .iter()
        .filter(|(policy, _)| !SEARCHES.contains(policy))
    {
        for seed in 0..5 {
            let qos = run(&world, policy, seed, 60).qos;
            let ended = qos.requests_completed + qos.requests_unfinished;
            assert_eq!(qos.requests_arrived, ended, "{policy}");
            assert!(qos.requests_completed > 0, "{policy} answers nothing");
        }
    }
}

#[test]
fn an_unknown_policy_is_refused_with_a_suggestion() {
    let world = World::load("scinet-16").expect("the world is embedded");
    let error = policy::by_name("best-fti", &world, 1)
        .err()
        .expect("there is no such policy");
    assert!(
        error.to_string().contains("did you mean \"best-fit\"?"),
        "{error}"
    );
}

#[test]
fn the_two_forms_of_the_teacher_differ_where_the_deadline_is_at_stake() {
    let world = World::load("azure-llm").expect("the world is embedded");
    let late = |name: &str| run(&world, name, 14, 12).qos.sla_violation_ratio;
    let (corrected, as_committed) = (late("scinet-teacher"), late("scinet-teacher-as-committed"));
    assert!(
        corrected < as_committed,
        "{corrected} against {as_committed}"
    );
}
