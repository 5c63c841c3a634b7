//! What holds in every world and under every decision.
//!
//! Cases are drawn from a fixed seed; `PROPTEST_RNG_SEED` draws others.

use std::collections::{BTreeMap, BTreeSet};

use proptest::collection::vec;
use proptest::prelude::*;
use proptest::test_runner::{Config, RngSeed};
use twin::World;
use twin::decision::{Decision, Deployment};
use twin::events::EventLog;
use twin::host::Lifecycle;
use twin::ids::{HostId, VariantId};
use twin::observation::{Observation, ResidentContainer};
use twin::policy::{self, Policy};
use twin::qos::{Account, Qos};
use twin::simulate::{self, Hooks, Options};
use twin::sink::Silent;
use twin::snapshot;
use twin::state::{Epoch, Future, State};
use twin::stream;
use twin::units::SimTime;
use twin::what_if::{self, Futures, Horizon};
use twin::workload::Arrival;
use twin::world::{ContainerSpec, CpuShare};

use crate::small_worlds::{Chance, Plan, plans};
use crate::statistics::close;
use crate::validation;
use crate::walk::{Piece, Reading, walk};

/// Ends are rounded up to whole nanoseconds, and what ends within half of one has ended.
const ROUNDING_S: f64 = 2e-9;

fn config(cases: u32) -> Config {
    let rest = Config {
        rng_seed: RngSeed::Fixed(3),
        failure_persistence: None,
        ..Config::default()
    };
    validation::property(cases, rest)
}

/// Walks through the episode of `plan` under random decisions.
fn stroll(plan: &Plan, mut look: impl FnMut(&World, &Reading, &Reading)) {
    let world = plan.world(&plan.in_order());
    let arrivals = simulate::arrivals(&world, &Options::new(plan.seed));
    let mut chance = Chance::new(plan.seed);
    walk(
        &world,
        &arrivals,
        world.episode(),
        |observation| chance.decision(observation),
        |before, after| look(&world, before, after),
    );
}

fn span_s(before: &Reading, after: &Reading) -> f64 {
    after.now.since(before.now).seconds()
}

/// Rates of the containers on a host, and what is left to its fragments; by the rule of each.
///
/// Those of one rule are served together, the first before the last, `limits_mips` of fragments
/// with those that come fair.
fn rates(
    world: &World,
    containers: &[ResidentContainer],
    limits_mips: &[f64],
    capacity_mips: f64,
) -> (Vec<f64>, Vec<f64>) {
    let mut of_containers = vec![0.0; containers.len()];
    let mut of_fragments = Vec::new();
    let mut left = capacity_mips;
    for share in [CpuShare::First, CpuShare::Fair, CpuShare::Last] {
        let takes = |c: &&ResidentContainer| world.containers.get(c.id).share == share && !c.waits;
        let mut claims: Vec<f64> = containers
            .iter()
            .filter(takes)
            .map(|c| c.demand.0)
            .collect();
        let own = claims.len();
        if share == CpuShare::Fair {
            claims.extend(limits_mips);
        }
        let filled = water_filling(&claims, left);
        left -= filled.iter().sum::<f64>();
        let served = containers.iter().zip(&mut of_containers);
        for ((_, rate), filled) in served.filter(|(c, _)| takes(c)).zip(&filled) {
            *rate = *filled;
        }
        if share == CpuShare::Fair {
            of_fragments = filled[own..].to_vec();
        }
    }
    (of_containers, of_fragments)
}

/// Rates of fragments with the limits `limits_mips` that share `capacity_mips` max-min fairly.
fn water_filling(limits_mips: &[f64], capacity_mips: f64) -> Vec<f64> {
    let mut order: Vec<usize> = (0..limits_mips.len()).collect();
    order.sort_by(|&a, &b| limits_mips[a].total_cmp(&limits_mips[b]));
    let mut rates = vec![0.0; limits_mips.len()];
    let mut left = capacity_mips;
    for (k, &i) in order.iter().enumerate() {
        rates[i] = limits_mips[i].min(left / (order.len() - k) as f64);
        left -= rates[i];
    }
    rates
}

/// No host does more than it can, and each fragment gets its fair share.
fn check_processors(world: &World, before: &Reading, after: &Reading) {
    let seconds = span_s(before, after);
    for (h, (at, to)) in before.hosts.iter().zip(&after.hosts).enumerate() {
        let size = world.size_of(h);
        let capacity = size.capacity().0;
        if matches!(at.lifecycle, Lifecycle::Off | Lifecycle::Booting { .. }) {
            assert!(at.running.is_empty() && at.utilization <= 0.0);
            assert!(at.containers.iter().all(|c| c.served.0 <= 0.0));
            continue;
        }
        let limits: Vec<f64> = at
            .running
            .values()
            .map(|(cap, ..)| cap.min(size.vcpus) * size.mips_per_vcpu.0)
            .collect();
        let (served, fair) = rates(world, &at.containers, &limits, capacity);
        for (container, rate) in at.containers.iter().zip(&served) {
            let off = (container.served.0 - rate).abs();
            assert!(
                off <= 1e-12 * capacity,
                "{} MIPS, not {rate}",
                container.served.0
            );
        }
        let total: f64 = fair.iter().chain(&served).sum();
        assert!(total <= capacity * (1.0 + 1e-12));
        close(at.utilization, total / capacity, 1e-12, "utilization");
        for ((piece, (.., had_mi)), rate) in at.running.iter().zip(fair) {
            let served = to.running[piece].2 - had_mi;
            let (wanted, slack) = (rate * seconds, rate * ROUNDING_S + 1e-9);
            assert!(
                (served - wanted).abs() <= slack,
                "{served} MI, not {wanted}"
            );
        }
    }
}

/// No memory is given out twice, and no fragment waits that could start.
fn check_memory(world: &World, before: &Reading) {
    for (h, host) in before.hosts.iter().enumerate() {
        let ram = world.size_of(h).ram.0;
        let serves = matches!(host.lifecycle, Lifecycle::On | Lifecycle::Draining);
        let seated = host.containers.iter().filter(|c| serves && !c.waits);
        let of_containers: f64 = seated.map(|c| world.containers.get(c.id).ram.0).sum();
        let of_fragments: f64 = host.running.values().map(|(_, ram, _)| ram).sum();
        let held = of_fragments + of_containers;
        assert!(held <= ram + 1e-6, "{held} of {ram} MiB");
        assert!((host.ram_free_mib - (ram - held)).abs() < 1e-6);
        if serves && !host.queue.is_empty() {
            assert!(!host.running.is_empty(), "who waits, waits for memory");
        }
    }
}

/// Holds the bits that cross each network resource against its bandwidth.
///
/// What is left of a transfer is looked at when a transfer begins or ends, since rates change then
/// and only then.
struct Bandwidth {
    since: Reading,
}

impl Bandwidth {
    fn check(&mut self, world: &World, before: &Reading) {
        let names = |r: &Reading| r.transfers.iter().map(|t| t.0).collect::<Vec<_>>();
        if names(&self.since) == names(before) {
            return;
        }
        let mut crossed: BTreeMap<(&str, usize), f64> = BTreeMap::new();
        for (name, to, bits) in &self.since.transfers {
            // Two outputs of one request from one host go by the same name: not held against it.
            let alike = |r: &Reading| r.transfers.iter().filter(|t| t.0 == *name).count();
            if alike(&self.since) > 1 || alike(before) > 1 {
                continue;
            }
            let left = before.transfers.iter().find(|t| t.0 == *name);
            let sent = bits - left.map_or(0.0, |t| t.2);
            assert!(
                sent >= 0.0,
                "a transfer has {sent} bits more to go than before"
            );
            let from = name.2;
            let site = |h: HostId| world.hosts[h.index()].site;
            if let Some(from) = from {
                *crossed.entry(("egress", from.index())).or_default() += sent;
            }
            if let Some(to) = to {
                *crossed.entry(("ingress", to.index())).or_default() += sent;
            }
            if let (Some(from), Some(to)) = (from, to)
                && site(from) != site(*to)
            {
                *crossed.entry(("link", site(from).index())).or_default() += sent;
            }
        }
        let seconds = span_s(&self.since, before) + ROUNDING_S;
        for ((kind, i), bits) in crossed {
            let mbps = match kind {
                "link" => 5.0,
                _ => world.size_of(i).network.0,
            };
            let most = mbps * 1e6 * seconds * (1.0 + 1e-9) + 1e-3;
            assert!(bits <= most, "{kind} {i}: {bits} bits, at most {most}");
        }
        self.since = before.clone();
    }
}

/// The work of each fragment, from the key of its request: the promise of [`twin::demand`].
fn demand_mi(world: &World, arrivals: &[Arrival], piece: Piece, variant: VariantId) -> f64 {
    let arrival = &arrivals[usize::try_from(piece.0.0).expect("it is a position")];
    let u = stream::unit(arrival.key, u64::from(piece.1));
    world.variant(arrival.application, variant).fragments[usize::from(piece.1)]
        .work_mi
        .quantile(u)
}

/// What container `c` wants up to the end of an episode, from its trace alone.
fn demanded_vcpu_s(world: &World, c: &ContainerSpec) -> f64 {
    let until = world.episode().min(c.stop);
    let work = c.demand.work_between(SimTime::ZERO, until.since(c.start));
    work.megacycles() / world.size_of(c.host.index()).mips_per_vcpu.0
}

proptest! {
    #![proptest_config(config(64))]

    #[test]
    fn nothing_is_over_its_capacity(plan in plans()) {
        let mut bandwidth: Option<Bandwidth> = None;
        stroll(&plan, |world, before, after| {
            check_processors(world, before, after);
            check_memory(world, before);
            bandwidth
                .get_or_insert_with(|| Bandwidth { since: before.clone() })
                .check(world, before);
        });
    }

    #[test]
    fn energy_is_the_integral_of_power(plan in plans()) {
        let (mut integral_j, mut energy_j, mut at) = (0.0, 0.0, SimTime::ZERO);
        stroll(&plan, |world, before, after| {
            let power_w: f64 = (0..world.hosts.len())
                .map(|h| {
                    let host = &before.hosts[h];
                    match host.lifecycle {
                        Lifecycle::Off => 0.0,
                        _ => world.size_of(h).power.at(host.utilization).0,
                    }
                })
                .sum();
            let grown = after.energy_j - before.energy_j;
            let wanted = power_w * span_s(before, after);
            assert!((grown - wanted).abs() <= 1e-9 * after.energy_j + 1e-9);
            // The nanosecond of the event before belongs to the stretch that follows it.
            integral_j += power_w * after.now.since(at).seconds();
            (energy_j, at) = (after.energy_j, after.now);
        });
        close(energy_j, integral_j, 1e-9, "energy in J");
    }

    #[test]
    fn work_is_conserved(plan in plans()) {
        let world = plan.world(&plan.in_order());
        let arrivals = simulate::arrivals(&world, &Options::new(plan.seed));
        // What runs at the end of a stretch: the service it has had, its work, and how much the
        // host does in the time of rounding.
        let mut last: BTreeMap<Piece, (f64, f64, f64)> = BTreeMap::new();
        let (mut done_mi, mut used_mi, mut slack_mi, mut at) = (0.0, 0.0, 1e-6, SimTime::ZERO);
        stroll(&plan, |world, before, after| {
            for (piece, (had_mi, work_mi, rounding_mi)) in &last {
                if !before.hosts.iter().any(|h| h.running.contains_key(piece)) {
                    let most = rounding_mi + 1e-9 * work_mi + 1e-9;
                    assert!((had_mi - work_mi).abs() <= most, "{had_mi} MI of {work_mi}");
                    done_mi += work_mi;
                    slack_mi += most;
                }
            }
            last.clear();
            for (h, host) in after.hosts.iter().enumerate() {
                let speed = world.size_of(h).capacity().0;
                for (piece, seen) in &host.running {
                    let work_mi = demand_mi(world, &arrivals, *piece, after.variants[&piece.0]);
                    last.insert(*piece, (seen.2, work_mi, speed * ROUNDING_S));
                }
                let containers = before.hosts[h].containers.iter();
                let theirs: f64 = containers.map(|c| c.served.0).sum();
                let used_mips = before.hosts[h].utilization * speed - theirs;
                used_mi += used_mips * after.now.since(at).seconds();
            }
            at = after.now;
        });
        let started: f64 = last.values().map(|(had_mi, ..)| had_mi).sum();
        let total = done_mi + started;
        prop_assert!((used_mi - total).abs() <= slack_mi, "{used_mi} MI used, {total} MI done");
    }

    #[test]
    fn unmet_demand_is_the_integral_of_what_is_lacking(plan in plans()) {
        let (mut demanded_mi, mut unmet_mi, mut at) = (0.0, 0.0, SimTime::ZERO);
        let mut rounding_mi = 1e-6;
        let world = plan.world(&plan.in_order());
        stroll(&plan, |_, before, after| {
            for container in before.hosts.iter().flat_map(|h| &h.containers) {
                // The nanosecond of the event before belongs to the stretch that follows it.
                let seconds = after.now.since(at).seconds();
                demanded_mi += container.demand.0 * seconds;
                unmet_mi += (container.demand.0 - container.served.0) * seconds;
                rounding_mi += container.demand.0 * ROUNDING_S;
            }
            at = after.now;
        });
        let qos = simulate::run(&world, &mut Chance::new(plan.seed), &Options::new(plan.seed))
            .expect("the decisions are feasible")
            .qos;
        // Virtual CPUs differ in speed: each container counts in those of its host.
        let list = world.containers.list();
        let traced: f64 = list.iter().map(|c| demanded_vcpu_s(&world, c)).sum();
        close(qos.containers.demanded_vcpu_s, traced, 1e-9, "demand");
        let single = list.iter().all(|c| c.host == list[0].host);
        if single && !list.is_empty() {
            let mips = world.size_of(list[0].host.index()).mips_per_vcpu.0;
            let found = qos.containers;
            let slack = rounding_mi / mips;
            prop_assert!((found.demanded_vcpu_s - demanded_mi / mips).abs() <= slack);
            prop_assert!((found.unmet_vcpu_s - unmet_mi / mips).abs() <= slack);
        }
    }

    #[test]
    fn each_request_ends_in_exactly_one_state(plan in plans()) {
        let world = plan.world(&plan.in_order());
        let mut bytes = Vec::new();
        let mut log = EventLog::new(&world, &mut bytes);
        let mut hooks = Hooks { events: Some(&mut log), ..Hooks::default() };
        let options = Options::new(plan.seed);
        let run = simulate::run_with(&world, &mut Chance::new(plan.seed), &options, &mut hooks)
            .expect("the decisions are feasible");
        log.finish().expect("memory can be written");
        let mut seen: BTreeMap<&str, BTreeSet<u64>> = BTreeMap::new();
        let mut fragments = BTreeSet::new();
        let text = String::from_utf8(bytes).expect("JSON is UTF-8");
        for line in text.lines().skip(1) {
            let line: serde_json::Value = serde_json::from_str(line).expect("each line is JSON");
            let kind = line["event"].as_str().expect("an event has a name");
            let Some(request) = line["request"].as_u64() else { continue };
            let order = match kind {
                "arrived" => ("arrived", "arrived"),
                "deployed" => ("deployed", "arrived"),
                "completed" => ("completed", "deployed"),
                _ => {
                    let fragment = line["fragment"].as_str().expect("it has a name").to_owned();
                    prop_assert!(fragments.insert((request, fragment)), "a fragment ends once");
                    prop_assert!(!seen.entry("completed").or_default().contains(&request));
                    continue;
                }
            };
            prop_assert!(seen.entry(order.0).or_default().insert(request), "{kind} happens once");
            prop_assert!(seen[order.1].contains(&request), "{kind} comes after {}", order.1);
        }
        let count = |kind: &str| seen.get(kind).map_or(0, BTreeSet::len) as u64;
        let qos = run.qos;
        prop_assert_eq!(count("arrived"), qos.requests_arrived);
        prop_assert_eq!(count("completed"), qos.requests_completed);
        prop_assert_eq!(qos.requests_arrived, qos.requests_completed + qos.requests_unfinished);
        let observation = Observation::new(&world, &run.state, Epoch::End);
        let active: BTreeSet<u64> = observation.view().requests.iter().map(|r| r.id.0).collect();
        let open: BTreeSet<u64> = match (seen.get("arrived"), seen.get("completed")) {
            (Some(all), Some(done)) => all.difference(done).copied().collect(),
            (Some(all), None) => all.clone(),
            (None, _) => BTreeSet::new(),
        };
        prop_assert_eq!(active, open);
    }

    #[test]
    fn the_order_of_hosts_does_not_matter(plan in plans(), turn in 1_usize..4) {
        let order = plan.in_order();
        let mut turned = order.clone();
        turned.rotate_left(turn % order.len());
        turned.swap(0, order.len() - 1);
        // Host `h` of the plan stands at `place[h]` of the turned world.
        let mut place = vec![HostId(0); order.len()];
        for (at, &h) in turned.iter().enumerate() {
            place[h] = HostId::at(at);
        }
        let decisions = decisions_of(&plan.world(&order), plan.seed);
        let there: Vec<Decision> = decisions
            .iter()
            .map(|d| {
                let mut d = d.clone();
                d.provisioning.iter_mut().for_each(|p| p.host = place[p.host.index()]);
                let hosts = d.deployments.iter_mut().flat_map(|d| &mut d.hosts);
                hosts.for_each(|h| *h = place[h.index()]);
                d
            })
            .collect();
        let here = replay(&plan.world(&order), plan.seed, &decisions);
        let there = replay(&plan.world(&turned), plan.seed, &there);
        for ((name, a), (_, b)) in here.metrics().into_iter().zip(there.metrics()) {
            close(a, b, 1e-9, name);
        }
        prop_assert_eq!(here.requests_completed, there.requests_completed);
    }

    #[test]
    fn a_snapshot_has_the_same_future(plan in plans(), part in 0.0..1.0) {
        let world = plan.world(&plan.in_order());
        let arrivals = simulate::arrivals(&world, &Options::new(plan.seed));
        let (mut state, mut chance) = (State::new(&world), Chance::new(plan.seed));
        let mut future = Future::new(&arrivals);
        // Not only where a decision is due.
        let middle = SimTime::from_seconds(world.episode().seconds() * part);
        go(&world, &mut state, &mut future, middle, &mut chance);
        let bytes = snapshot::encode(&state);
        let mut copy = snapshot::decode(&bytes).expect("it is a snapshot");
        prop_assert_eq!(&bytes, &snapshot::encode(&copy));
        let (mut other, mut same) = (future, Chance::new(plan.seed ^ 1));
        let mut chance = Chance::new(plan.seed ^ 1);
        go(&world, &mut state, &mut future, world.episode(), &mut chance);
        go(&world, &mut copy, &mut other, world.episode(), &mut same);
        prop_assert!(snapshot::encode(&state) == snapshot::encode(&copy));
    }

    #[test]
    fn looking_in_between_changes_nothing(plan in plans(), parts in vec(0.0..1.0, 1..20)) {
        let world = plan.world(&plan.in_order());
        let arrivals = simulate::arrivals(&world, &Options::new(plan.seed));
        let run = |looks: &[SimTime]| {
            let (mut state, mut chance) = (State::new(&world), Chance::new(plan.seed));
            let mut future = Future::new(&arrivals);
            for &until in looks {
                go(&world, &mut state, &mut future, until, &mut chance);
            }
            snapshot::encode(&state)
        };
        let end = world.episode();
        let mut looks: Vec<SimTime> =
            parts.iter().map(|part| SimTime::from_seconds(end.seconds() * part)).collect();
        looks.push(end);
        looks.sort_unstable();
        prop_assert!(run(&[end]) == run(&looks));
    }

    #[test]
    fn what_if_foretells_what_happens_where_nothing_is_left_to_decide(plan in plans()) {
        let world = plan.world(&plan.in_order());
        let arrivals = simulate::arrivals(&world, &Options::new(plan.seed));
        let (mut state, mut chance) = (State::new(&world), Chance::new(plan.seed));
        let mut future = Future::new(&arrivals);
        let middle = SimTime(world.episode().0 / 2 + 1);
        go(&world, &mut state, &mut future, middle, &mut chance);
        let epoch = state.advance(&world, &mut future, world.episode(), &mut Silent);
        // All that waits is placed on hosts that are on, and nobody comes any more.
        let observation = Observation::new(&world, &state, epoch);
        let mut decision = chance.decision(&observation);
        decision.provisioning.clear();
        let open = (0..observation.host_count()).map(HostId::at).find(|&h| {
            observation.lifecycle(h).accepts()
        });
        prop_assume!(open.is_some());
        decision.deployments = observation
            .waiting()
            .map(|w| {
                let fragments = &world.applications[w.application.index()].variants[0].fragments;
                Deployment {
                    request: w.id,
                    variant: VariantId(0),
                    hosts: vec![open.unwrap_or_default(); fragments.len()],
                }
            })
            .collect();
        let horizon = Horizon {
            span: SimTime::from_seconds(4.0),
            drain: SimTime::ZERO,
            provisions: false,
        };
        let known = Futures::known(&state, epoch, Vec::new());
        let foretold = what_if::accounts(&world, &known, std::slice::from_ref(&decision), horizon);
        let before = Account::of(&world, &state);
        let until = state.now().after(horizon.span);
        state.apply(&world, &decision, &mut Silent);
        let none = &mut Future::empty();
        while state.advance(&world, none, until, &mut Silent) != Epoch::End {}
        same_account(&foretold[0][0], &Account::of(&world, &state).since(&before));
    }
}

/// Goes on to `until` under the decisions of `policy`.
pub(crate) fn go(
    world: &World,
    state: &mut State,
    future: &mut Future<'_>,
    until: SimTime,
    policy: &mut dyn Policy,
) {
    let mut decision = Decision::none();
    loop {
        let epoch = state.advance(world, future, until, &mut Silent);
        if epoch == Epoch::End {
            return;
        }
        decision.clear();
        policy
            .decide(&Observation::new(world, state, epoch), &mut decision)
            .expect("the policy decides");
        state.apply(world, &decision, &mut Silent);
    }
}

/// The random decisions of an episode, epoch by epoch.
fn decisions_of(world: &World, seed: u64) -> Vec<Decision> {
    struct Scribe(Chance, Vec<Decision>);
    impl Policy for Scribe {
        fn name(&self) -> &'static str {
            "scribe"
        }
        fn decide(
            &mut self,
            observation: &Observation<'_>,
            decision: &mut Decision,
        ) -> Result<(), policy::PolicyError> {
            *decision = self.0.decision(observation);
            self.1.push(decision.clone());
            Ok(())
        }
    }
    let mut scribe = Scribe(Chance::new(seed), Vec::new());
    simulate::run(world, &mut scribe, &Options::new(seed)).expect("feasible");
    scribe.1
}

/// The quality of service where `decisions` are taken, one after the other.
fn replay(world: &World, seed: u64, decisions: &[Decision]) -> Qos {
    struct Script<'a>(std::slice::Iter<'a, Decision>);
    impl Policy for Script<'_> {
        fn name(&self) -> &'static str {
            "script"
        }
        fn decide(
            &mut self,
            _: &Observation<'_>,
            decision: &mut Decision,
        ) -> Result<(), policy::PolicyError> {
            decision.clone_from(self.0.next().expect("there are as many epochs"));
            Ok(())
        }
    }
    let mut script = Script(decisions.iter());
    simulate::run(world, &mut script, &Options::new(seed))
        .expect("feasible")
        .qos
}

/// Asserts that two accounts are equal but for rounding.
pub(crate) fn same_account(a: &Account, b: &Account) {
    // Differences of sums: 1e-9 of the sums, which are below 1e5.
    for (name, a, b) in [
        ("energy", a.energy_j, b.energy_j),
        ("cost", a.cost_usd, b.cost_usd),
        ("response", a.response_s, b.response_s),
        ("late", a.late, b.late),
        ("inaccuracy", a.inaccuracy, b.inaccuracy),
        ("unmet", a.unmet_vcpu_s, b.unmet_vcpu_s),
    ] {
        assert!(
            (a - b).abs() <= 1e-9 * a.abs().max(b.abs()) + 1e-7,
            "{name}: {a}, then {b}"
        );
    }
}
