//! The price of a change is that of a whole rollout, to the last bit.

use proptest::prelude::*;
use twin::decision::{Decision, Deployment, PowerAction};
use twin::ids::{HostId, VariantId};
use twin::observation::Observation;
use twin::policy;
use twin::simulate::{self, Options};
use twin::sink::Silent;
use twin::state::{Epoch, Future, State};
use twin::stream;
use twin::units::SimTime;
use twin::what_if::{self, Futures, Horizon};
use twin::world::World;

use crate::small_worlds::{Chance, plans};
use crate::validation;

/// How often changes were priced.
#[derive(Debug, Default)]
struct Count {
    /// By what they touch.
    changes: usize,
    /// By whole rollouts.
    whole: usize,
    /// Hosts that were simulated for the former.
    hosts: usize,
}

/// Decisions that differ from `base` in little: another variant, another host, a host turned over.
fn neighbors(observation: &Observation<'_>, base: &Decision, seed: u64) -> Vec<Decision> {
    let world = observation.world();
    let hosts = observation.host_count();
    let pick = |key: u64, count: usize| {
        usize::try_from(stream::mix(seed, key) % count.max(1) as u64).expect("small")
    };
    let open: Vec<HostId> = (0..hosts)
        .map(HostId::at)
        .filter(|&h| observation.lifecycle(h).accepts())
        .collect();
    let mut found = vec![base.clone()];
    for (i, waiting) in observation.waiting().enumerate() {
        if open.is_empty() {
            break;
        }
        let key = 10 * i as u64;
        let variants = &world.applications[waiting.application.index()].variants;
        let variant = pick(key, variants.len());
        let deployment = Deployment {
            request: waiting.id,
            variant: VariantId::at(variant),
            hosts: (0..variants[variant].fragments.len() as u64)
                .map(|k| open[pick(key + 1 + k, open.len())])
                .collect(),
        };
        let mut decision = base.clone();
        decision.deployments.retain(|d| d.request != waiting.id);
        decision.deployments.push(deployment);
        found.push(decision.clone());
        // All of them at once, and with a fragment moved.
        if let Some(last) = found.last_mut() {
            let at = pick(key + 7, last.deployments.len());
            let to = open[pick(key + 8, open.len())];
            last.deployments[at].hosts[0] = to;
        }
        found.push(decision);
    }
    if observation.may_provision() {
        for k in 0..2 {
            let mut decision = base.clone();
            let host = HostId::at(pick(1000 + k, hosts));
            let on = !observation.lifecycle(host).accepts();
            decision.provisioning.push(PowerAction { host, on });
            found.push(decision);
        }
    }
    found
}

/// Prices neighbors of `base` in both ways.
fn compare(
    observation: &Observation<'_>,
    base: &Decision,
    horizon: Horizon,
    seed: u64,
    count: &mut Count,
) {
    let world = observation.world();
    let mut stream = stream::named(seed, "test");
    let mut futures = Futures::sample(observation, 3, horizon.span, &mut stream);
    futures.record(world, base, horizon);
    futures.prepare(world, base, horizon);
    let decisions = neighbors(observation, base, seed);
    let whole = what_if::evaluate_fixed(world, &futures, &decisions, horizon);
    let changes = what_if::evaluate_changes(world, &futures, &decisions, horizon);
    for (i, (value, priced)) in whole.iter().zip(&changes).enumerate() {
        assert_eq!(
            value.to_bits(),
            priced.value.to_bits(),
            "at {}, decision {i}: {value} and {priced:?}",
            observation.now()
        );
        count.whole += priced.whole;
        count.changes += futures.len() - priced.whole;
        count.hosts += priced.hosts;
    }
}

/// Steers `world` with random decisions, and compares at each of up to `epochs` epochs.
fn walk(world: &World, seed: u64, skip: usize, epochs: usize, horizon: Horizon) -> Count {
    let arrivals = simulate::arrivals(world, &Options::new(seed));
    let (mut state, mut future) = (State::new(world), Future::new(&arrivals));
    let mut chance = Chance::new(seed);
    let mut count = Count::default();
    for step in 0..skip + epochs {
        let epoch = state.advance(world, &mut future, world.episode(), &mut Silent);
        if epoch == Epoch::End {
            break;
        }
        let observation = Observation::new(world, &state, epoch);
        let decision = chance.decision(&observation);
        if step >= skip {
            let base = if step % 2 == 0 {
                decision.clone()
            } else {
                Decision::none()
            };
            compare(&observation, &base, horizon, seed + step as u64, &mut count);
        }
        state.apply(world, &decision, &mut Silent);
    }
    count
}

proptest! {
    #![proptest_config(validation::property(48, ProptestConfig::default()))]

    #[test]
    fn a_change_costs_what_the_whole_costs(plan in plans(), drain in 0_u32..8) {
        let world = plan.world(&plan.in_order());
        let horizon = Horizon {
            span: SimTime::from_seconds(6.0),
            drain: SimTime::from_seconds(f64::from(drain)),
            provisions: plan.seed % 2 == 0,
        };
        walk(&world, plan.seed, 0, 12, horizon);
    }
}

#[test]
fn changes_in_embedded_worlds_are_priced_by_what_they_touch() {
    for (name, skip, epochs) in [("scinet-16", 12, 6), ("azure-llm", 60, 6)] {
        let world = World::load(name).expect("the world is embedded");
        let horizon = Horizon {
            span: SimTime(3 * world.interval.0),
            drain: SimTime::from_seconds(40.0),
            provisions: true,
        };
        let mut total = Count::default();
        for seed in 0..2 {
            let count = walk(&world, seed, skip, epochs, horizon);
            total.changes += count.changes;
            total.whole += count.whole;
            total.hosts += count.hosts;
        }
        assert!(total.changes > 3 * total.whole, "{name}: {total:?}");
        assert!(total.hosts > 0, "{name}: {total:?}");
    }
}

#[test]
fn the_decision_that_was_prepared_costs_nothing_more() {
    let world = World::load("scinet-16").expect("the world is embedded");
    let arrivals = simulate::arrivals(&world, &Options::new(3));
    let (mut state, mut future) = (State::new(&world), Future::new(&arrivals));
    let mut greedy = policy::by_name("greedy", &world, 1).expect("the policy is listed");
    let mut decision = Decision::none();
    let mut epoch = Epoch::Boundary;
    while state.now() < SimTime::from_seconds(60.0) {
        epoch = state.advance(&world, &mut future, world.episode(), &mut Silent);
        decision.clear();
        greedy
            .decide(&Observation::new(&world, &state, epoch), &mut decision)
            .expect("greedy always decides");
        state.apply(&world, &decision, &mut Silent);
    }
    let observation = Observation::new(&world, &state, epoch);
    let horizon = Horizon {
        span: SimTime::from_seconds(25.0),
        drain: SimTime::from_seconds(60.0),
        provisions: true,
    };
    let mut futures = Futures::sample(&observation, 2, horizon.span, &mut stream::named(1, "test"));
    let base = Decision::none();
    futures.record(&world, &base, horizon);
    futures.prepare(&world, &base, horizon);
    let alone = std::slice::from_ref(&base);
    let priced = what_if::evaluate_changes(&world, &futures, alone, horizon)[0];
    assert_eq!((priced.hosts, priced.whole), (0, 0));
    // With another horizon nothing is prepared.
    let other = Horizon {
        drain: SimTime::from_seconds(61.0),
        ..horizon
    };
    let priced = what_if::evaluate_changes(&world, &futures, alone, other)[0];
    assert_eq!((priced.hosts, priced.whole), (0, 2));
}

/// Work of a fragment, and KiB that it sends.
fn demand(even: bool) -> (&'static str, u32) {
    if even {
        ("{ kind = \"constant\", value = 800 }", 0)
    } else {
        ("{ kind = \"exponential\", mean = 900 }", 90)
    }
}

/// Three hosts at two sites; `top`, `size` and `fragment` add keys. With `even` work, and nothing to
/// carry between hosts, many events fall on the same nanosecond.
fn crafted(top: &str, size: &str, fragment: &str, even: bool) -> World {
    let (work, kib) = demand(even);
    let text = format!(
        r#"
schema = 1
name = "crafted"
description = "Few hosts."
interval_s = 2
dispatch = "interval"
episode_intervals = 30
{top}
workload = {{ kind = "poisson", rate_per_s = 1.2 }}
[objective]
reference_power_w = 100
reference_cost_usd_per_hour = 1
reference_response_s = 1
reference_rate_per_s = 1
reference_carbon_g_per_hour = 10
reference_unmet_vcpus = 1
weights = {{ energy = 1, cost = 1, response = 1, sla = 1, accuracy = 1, carbon = 2, unmet = 3 }}
[[sites]]
name = "here"
user_latency_ms = 0
grid_gco2e_per_kwh = 360
[[sites]]
name = "there"
user_latency_ms = 0
[[links]]
from = "here"
to = "there"
latency_ms = 0
bandwidth_mbps = 2
[[sizes]]
name = "two"
vcpus = 2
mips_per_vcpu = 1000
ram_mib = 1000
network_mbps = 3
power_w = [100, 110, 120, 130, 140, 150, 160, 170, 180, 190, 200]
price_usd_per_hour = {{ here = 0.1, there = 0.2 }}
boot_s = 3
{size}
[[hosts]]
size = "two"
site = "here"
count = 2
[[hosts]]
size = "two"
site = "there"
count = 2
initially_on = 1
[[applications]]
name = "app"
deadline_s = 4
input_kib = {kib}
[[applications.variants]]
name = "fan"
accuracy = 1
fragments = [
  {{ name = "one", work_mi = {work}, max_vcpus = 1, ram_mib = 200, output_kib = {kib} {fragment} }},
  {{ name = "two", after = ["one"], work_mi = {work}, max_vcpus = 1, ram_mib = 300, output_kib = {kib} }},
  {{ name = "three", after = ["one"], work_mi = {work}, max_vcpus = 1, ram_mib = 300, output_kib = {kib} }},
  {{ name = "four", after = ["two", "three"], work_mi = {work}, max_vcpus = 2, ram_mib = 100 }},
]
[[applications.variants]]
name = "whole"
accuracy = 0.8
fragments = [{{ name = "all", work_mi = {work}, max_vcpus = 2, ram_mib = 250 {fragment} }}]
"#
    );
    World::parse(&text, "crafted.toml", None).expect("the world is valid")
}

/// Walks through `world` with a few seeds; gives what was counted.
fn walk_crafted(world: &World) -> Count {
    let horizon = Horizon {
        span: SimTime::from_seconds(8.0),
        drain: SimTime::from_seconds(6.0),
        provisions: true,
    };
    let mut total = Count::default();
    for seed in 0..6 {
        let count = walk(world, seed, 2, 8, horizon);
        total.changes += count.changes;
        total.whole += count.whole;
    }
    total
}

#[test]
fn credits_speeds_and_models_are_followed_host_by_host() {
    let world = crafted(
        "models = [{ name = \"net\", ram_mib = 500, load_s = 0.7 }]",
        "credits = { initial = 0.1, per_hour = 24, maximum = 576 }\nspeed = \"B8ms/eastus\"",
        ", model = \"net\"",
        false,
    );
    let count = walk_crafted(&world);
    assert!(count.changes > 2 * count.whole, "{count:?}");
}

#[test]
fn containers_are_followed_host_by_host() {
    let steps = "steps = [{ duration_s = 1.5, vcpus = 0.3 }, { duration_s = 2, vcpus = 1.9 }, \
                 { duration_s = 0.5, vcpus = 0 }]";
    let container = |name: &str, host: &str, share: &str| {
        format!(
            "{{ name = \"{name}\", host = \"two-{host}\", vcpus = 1, ram_mib = 100, \
             share = \"{share}\", demand = {{ kind = \"steps\", {steps}, repeat = true }} }}"
        )
    };
    let top = format!(
        "containers = [{}, {}, {}, {}]\n\
         models = [{{ name = \"net\", ram_mib = 300, load_s = 0.7 }}]",
        container("a", "here-01", "fair"),
        container("b", "here-01", "last"),
        container("c", "here-02", "first"),
        container("d", "there-02", "fair"),
    );
    let credits = "credits = { initial = 0.1, per_hour = 24, maximum = 576 }";
    for (size, fragment, even) in [
        ("", "", false),
        ("", "", true),
        (credits, ", model = \"net\"", false),
    ] {
        let world = crafted(&top, size, fragment, even);
        let count = walk_crafted(&world);
        assert!(count.changes > 2 * count.whole || even, "{count:?}");
        assert!(count.changes > 0, "{count:?}");
    }
}

#[test]
fn events_in_the_same_nanosecond_come_in_the_same_order() {
    let count = walk_crafted(&crafted("", "", "", true));
    assert!(count.changes > 0, "{count:?}");
}

#[test]
fn where_faults_strike_or_requests_are_turned_away_rollouts_are_whole() {
    let faults = "faults = { crash_every_s = 20, restart_s = 2, link_down_every_s = 9, \
                  link_down_for_s = 3, slow_every_s = 9, slow_for_s = 4, slow_factor = 0.5 }";
    for top in [faults, "max_active_requests = 3"] {
        let count = walk_crafted(&crafted(top, "", "", false));
        assert_eq!(count.changes, 0, "{count:?}");
        assert!(count.whole > 0, "{count:?}");
    }
}
