//! A twin world in closed loop is the fleet; its live twin hears of it by deltas alone.

use std::collections::BTreeMap;

use proptest::prelude::*;
use proptest::test_runner::{Config, RngSeed};

use super::*;
use crate::demand;
use crate::policy;
use crate::simulate::{self, Options};
use crate::state::Future;
use crate::workload::Arrival;

/// Writes down what a fleet would report.
#[derive(Default)]
struct Reporter<'a> {
    world: Option<&'a World>,
    arrivals: &'a [Arrival],
    deployed: BTreeMap<RequestId, (ApplicationId, VariantId)>,
    deltas: Vec<Delta>,
}

impl Reporter<'_> {
    fn tell(&mut self, at: SimTime, event: Event) {
        self.deltas.push(Delta { at, event });
    }
}

impl Sink for Reporter<'_> {
    fn arrived(&mut self, now: SimTime, request: &Request) {
        self.deployed
            .insert(request.id, (request.application, VariantId(0)));
        let event = Event::Arrived {
            request: request.id,
            application: request.application,
            context_tokens: request.context_tokens,
        };
        self.tell(now, event);
    }

    fn deployed(&mut self, _: SimTime, deployment: &Deployment) {
        if let Some(entry) = self.deployed.get_mut(&deployment.request) {
            entry.1 = deployment.variant;
        }
    }

    fn fragment_done(&mut self, now: SimTime, request: RequestId, index: usize, host: HostId) {
        let (application, variant) = self.deployed[&request];
        let world = self.world.expect("a world");
        let fragment = &world.variant(application, variant).fragments[index];
        let arrival = &self.arrivals[usize::try_from(request.0).expect("few")];
        let tells = demand::tells_generated_tokens(fragment);
        let event = Event::Finished {
            request,
            fragment: u16::try_from(index).expect("few"),
            host: Some(host),
            generated_tokens: tells.then_some(arrival.generated_tokens),
        };
        self.tell(now, event);
    }

    fn completed(&mut self, now: SimTime, request: &Request, _: VariantId, _: bool) {
        let request = request.id;
        self.tell(now, Event::Answered { request });
    }

    fn lifecycle(&mut self, now: SimTime, host: HostId, lifecycle: host::Lifecycle) {
        let lifecycle = match lifecycle {
            host::Lifecycle::Off => Lifecycle::Off,
            host::Lifecycle::On => Lifecycle::On,
            host::Lifecycle::Draining => Lifecycle::Draining,
            host::Lifecycle::Booting { ready_at } => Lifecycle::Booting {
                ready_at: Some(ready_at),
            },
        };
        self.tell(now, Event::Host { host, lifecycle });
    }
}

/// What came of a comparison.
#[derive(Debug, Default)]
struct Compared {
    epochs: usize,
    deployments: usize,
    applied: usize,
    ignored: BTreeMap<Ignored, usize>,
    facts: Vec<Fact>,
}

/// Runs `name` on the fleet and on its live twin, which must see and decide the same.
fn compare(world: &World, name: &str, seed: u64, intervals: u32) -> Compared {
    let options = Options {
        intervals: Some(intervals),
        ..Options::new(seed)
    };
    let arrivals = simulate::arrivals(world, &options);
    let end = SimTime(world.interval.0 * u64::from(intervals));
    let mut reporter = Reporter {
        world: Some(world),
        arrivals: &arrivals,
        ..Reporter::default()
    };
    let by_name = || policy::by_name(name, world, seed).expect("the policy exists");
    let (mut near, mut far) = (by_name(), by_name());
    let mut plant = State::seeded(world, seed);
    let view = Observation::new(world, &State::new(world), Epoch::End).view();
    let mut live = Live::new(world, &view).expect("a view is a state");
    let mut future = Future::new(&arrivals);
    let mut compared = Compared::default();
    loop {
        let epoch = plant.advance(world, &mut future, end, &mut reporter);
        let deltas = std::mem::take(&mut reporter.deltas);
        let noted = live
            .observe(world, plant.now(), &deltas)
            .expect("the fleet tells the truth");
        compared.applied += noted.applied;
        for (_, reason) in noted.ignored {
            *compared.ignored.entry(reason).or_default() += 1;
        }
        compared.facts.extend(noted.facts);
        if epoch == Epoch::Boundary {
            live.meet_boundary(world, None);
        }
        let told = live.observation(world, epoch);
        let known = Observation::new(world, &plant, epoch);
        assert_eq!(told.view(), known.view(), "{name} at {}", plant.now());
        if epoch == Epoch::End {
            return compared;
        }
        let (mut a, mut b) = (Decision::none(), Decision::none());
        near.decide(&known, &mut a).expect("decides");
        far.decide(&told, &mut b).expect("decides");
        assert_eq!(a, b, "{name} at {}", plant.now());
        compared.epochs += 1;
        compared.deployments += a.deployments.len();
        plant.apply(world, &a, &mut reporter);
        live.apply(world, &b);
    }
}

fn embedded(name: &str) -> World {
    World::load(name).expect("the world is embedded")
}

#[test]
fn the_live_twin_is_the_fleet() {
    for (name, policy, intervals) in [
        ("scinet-16", "least-loaded", 60),
        ("scinet-16", "greedy", 60),
        ("scinet-16", "random", 40),
        ("azure-llm", "least-loaded", 3),
        ("azure-llm", "greedy", 3),
        ("azure-llm", "random", 3),
        ("azure-llm", "best-fit", 4),
    ] {
        let compared = compare(&embedded(name), policy, 5, intervals);
        assert!(compared.deployments > 20, "{name} {policy}: {compared:?}");
        // Answers and lifecycles were predicted to the nanosecond; ends of fragments never were.
        let known: Vec<&Ignored> = compared.ignored.keys().collect();
        assert!(
            known
                .iter()
                .all(|r| matches!(r, Ignored::Known | Ignored::Ended)),
            "{name} {policy}: {compared:?}"
        );
        let finished = |f: &&Fact| matches!(f, Fact::Finished { .. });
        assert!(compared.facts.iter().filter(finished).count() > 10);
    }
}

/// A world with a host of one CPU, another that is off, and one application: a fragment of 1000 MI at
/// 1000 MIPS, or two of half of that.
fn one_host() -> World {
    hosts(2, 1)
}

/// As [`one_host`], with `count` hosts of which `on` are on.
fn hosts(count: usize, on: usize) -> World {
    let text = r#"
schema = 1
name = "one"
description = "One host and one kind of request."
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
network_mbps = 1000
power_w = [0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10]
price_usd_per_hour = { here = 1 }
boot_s = 3
[[hosts]]
size = "size"
site = "here"
count = COUNT
initially_on = ON
[[applications]]
name = "app"
deadline_s = 4
input_kib = 0
[[applications.variants]]
name = "whole"
accuracy = 1
fragments = [{ name = "model", work_mi = { kind = "constant", value = 1000 }, max_vcpus = 1, ram_mib = 400 }]
[[applications.variants]]
name = "split"
accuracy = 1
fragments = [
  { name = "a", work_mi = { kind = "constant", value = 500 }, max_vcpus = 1, ram_mib = 400, output_kib = 100 },
  { name = "b", after = ["a"], work_mi = { kind = "constant", value = 500 }, max_vcpus = 1, ram_mib = 400 },
]
"#;
    let text = text.replace("COUNT", &count.to_string());
    let text = text.replace("ON", &on.to_string());
    World::parse(&text, "one.toml", None).expect("the world is valid")
}

fn fresh(world: &World) -> Live {
    let view = Observation::new(world, &State::new(world), Epoch::Boundary).view();
    Live::new(world, &view).expect("a view is a state")
}

fn seconds(s: f64) -> SimTime {
    SimTime::from_seconds(s)
}

fn at(s: f64, event: Event) -> Delta {
    let at = seconds(s);
    Delta { at, event }
}

fn arrived(request: u64) -> Event {
    Event::Arrived {
        request: RequestId(request),
        application: ApplicationId(0),
        context_tokens: 0,
    }
}

fn deployed(request: u64, variant: u16, hosts: &[u32]) -> Event {
    Event::Deployed {
        request: RequestId(request),
        variant: VariantId(variant),
        hosts: hosts.iter().map(|&h| HostId(h)).collect(),
    }
}

fn started(request: u64, fragment: u16) -> Event {
    Event::Started {
        request: RequestId(request),
        fragment,
        host: None,
    }
}

fn finished(request: u64, fragment: u16) -> Event {
    Event::Finished {
        request: RequestId(request),
        fragment,
        host: None,
        generated_tokens: None,
    }
}

fn answered(request: u64) -> Event {
    Event::Answered {
        request: RequestId(request),
    }
}

/// Service of the fragments of host 0 in order, in MI.
fn attained(world: &World, live: &Live) -> Vec<f64> {
    let observation = live.observation(world, Epoch::Arrival);
    let residents = observation.residents(HostId(0));
    residents.map(|r| r.attained_mi).collect()
}

#[track_caller]
fn near(found: &[f64], expected: &[f64]) {
    let same = found.len() == expected.len()
        && found
            .iter()
            .zip(expected)
            .all(|(a, b)| (a - b).abs() < 1e-6);
    assert!(same, "found {found:?}, expected {expected:?}");
}

#[test]
fn a_fragment_lasts_until_the_fleet_says_so() {
    let world = one_host();
    let mut live = fresh(&world);
    let start = [at(1.0, arrived(0)), at(1.0, deployed(0, 0, &[0]))];
    live.observe(&world, seconds(1.0), &start).expect("true");
    // Its 1000 MI would be done at 2 s; at 9 s it has had 8000.
    live.observe(&world, seconds(9.0), &[]).expect("true");
    near(&attained(&world, &live), &[8000.0]);
    let resident = live.observation(&world, Epoch::Arrival);
    let left = resident.residents(HostId(0)).next().expect("one");
    assert!(left.expected_left_mi >= 0.0);
    let noted = live.observe(&world, seconds(9.0), &[at(9.0, finished(0, 0))]);
    assert_eq!(noted.expect("true").applied, 1);
    assert_eq!(live.observation(&world, Epoch::Arrival).active_count(), 0);
    assert!(live.state().requests.len() == 1 && live.tracks.is_empty());
}

#[test]
fn a_late_end_gives_the_others_the_service_that_they_had() {
    let world = one_host();
    let mut live = fresh(&world);
    let mut start = Vec::new();
    for request in 0..3 {
        start.push(at(0.0, arrived(request)));
        start.push(at(0.0, deployed(request, 0, &[0])));
    }
    // Two fit into memory: 500 MIPS each; the third waits.
    live.observe(&world, seconds(4.0), &start).expect("true");
    near(&attained(&world, &live), &[2000.0, 2000.0, 0.0]);
    // The first ended at 1 s, where both had had 500, and the third started: 3 s at 500 MIPS.
    let late = [at(1.0, finished(0, 0))];
    live.observe(&world, seconds(4.0), &late).expect("true");
    near(&attained(&world, &live), &[2000.0, 1500.0]);
    // The second ended at 2 s, where it had had 1000 and the third 500: that had 2 s alone.
    let later = [at(2.0, finished(1, 0))];
    live.observe(&world, seconds(4.0), &later).expect("true");
    near(&attained(&world, &live), &[2500.0]);
}

#[test]
fn a_start_that_was_predicted_is_put_right() {
    let world = one_host();
    let mut live = fresh(&world);
    let start = [at(1.0, arrived(0)), at(1.0, deployed(0, 0, &[0]))];
    live.observe(&world, seconds(3.0), &start).expect("true");
    near(&attained(&world, &live), &[2000.0]);
    // It started half a second after it was taken to: 1500 MI at 3 s. Told twice, it counts once.
    for expected in [1, 0] {
        let noted = live.observe(&world, seconds(3.0), &[at(1.5, started(0, 0))]);
        assert_eq!(noted.expect("true").applied, expected);
        near(&attained(&world, &live), &[1500.0]);
    }
    live.observe(&world, seconds(4.0), &[]).expect("true");
    near(&attained(&world, &live), &[2500.0]);
}

#[test]
fn what_is_missing_is_made_up_by_what_follows() {
    let world = one_host();
    let mut live = fresh(&world);
    let deltas = [
        at(1.0, arrived(4)),
        at(1.0, deployed(4, 1, &[0, 0])),
        // The end of the first fragment is not told, nor is the output on its way.
        at(2.0, started(4, 1)),
    ];
    let noted = live.observe(&world, seconds(2.5), &deltas).expect("true");
    assert_eq!((noted.applied, noted.ignored), (3, vec![]));
    near(&attained(&world, &live), &[500.0]);
    // Now it comes after all.
    let noted = live.observe(&world, seconds(2.5), &[at(1.9, finished(4, 0))]);
    assert_eq!(noted.expect("true").ignored, [(0, Ignored::Known)]);
    let noted = live.observe(&world, seconds(3.0), &[at(2.9, answered(4))]);
    let response = Fact::Answered {
        request: RequestId(4),
        application: ApplicationId(0),
        at: seconds(2.9),
        response: SimTime(1_900_000_000),
    };
    assert!(noted.expect("true").facts.contains(&response));
    for event in [answered(4), finished(4, 1), started(4, 0), arrived(4)] {
        let noted = live.observe(&world, seconds(3.0), &[at(3.0, event)]);
        assert_eq!(noted.expect("true").ignored, [(0, Ignored::Ended)]);
    }
}

#[test]
fn hosts_are_where_they_are_seen() {
    let world = one_host();
    let mut live = fresh(&world);
    let turn = |s: f64, host: u32, lifecycle| {
        let host = HostId(host);
        at(s, Event::Host { host, lifecycle })
    };
    let ready_at = Some(seconds(6.0));
    let deltas = [
        turn(1.0, 1, Lifecycle::Booting { ready_at }),
        at(2.0, arrived(0)),
        at(2.0, deployed(0, 0, &[1])),
    ];
    live.observe(&world, seconds(5.0), &deltas).expect("true");
    let queued = |live: &Live| {
        live.observation(&world, Epoch::Arrival)
            .queued_count(HostId(1))
    };
    let running = |live: &Live| {
        live.observation(&world, Epoch::Arrival)
            .running_count(HostId(1))
    };
    assert_eq!((queued(&live), running(&live)), (1, 0));
    live.observe(&world, seconds(7.0), &[]).expect("true");
    assert_eq!((queued(&live), running(&live)), (0, 1));
    // The boot took longer than expected: it still boots.
    let ready_at = Some(seconds(9.0));
    let late = [turn(7.5, 1, Lifecycle::Booting { ready_at })];
    live.observe(&world, seconds(7.5), &late).expect("true");
    assert_eq!((queued(&live), running(&live)), (1, 0));
    // What is older than that is not believed.
    let old = [turn(7.0, 1, Lifecycle::On)];
    let noted = live.observe(&world, seconds(8.0), &old).expect("true");
    assert_eq!(noted.ignored, [(0, Ignored::Outdated)]);
    live.observe(&world, seconds(8.0), &[turn(8.0, 1, Lifecycle::On)])
        .expect("true");
    assert_eq!(running(&live), 1);
    // A crash: the request waits again, and the host boots.
    let crash = [turn(
        8.5,
        1,
        Lifecycle::Crashed {
            ready_at: Some(seconds(20.0)),
        },
    )];
    live.observe(&world, seconds(8.5), &crash).expect("true");
    let observation = live.observation(&world, Epoch::Arrival);
    assert_eq!(observation.waiting().count(), 1);
    assert!(matches!(
        live.lifecycle(HostId(1)),
        host::Lifecycle::Booting { .. }
    ));
}

#[test]
fn a_migration_ends_when_and_where_the_fleet_says() {
    let world = hosts(2, 2);
    for to in [1, 0] {
        let mut live = fresh(&world);
        let start = [at(1.0, arrived(0)), at(1.0, deployed(0, 0, &[0]))];
        live.observe(&world, seconds(2.0), &start).expect("true");
        let moves = Decision {
            migrations: vec![crate::decision::Migration {
                request: RequestId(0),
                fragment: 0,
                to: HostId(1),
                strategy: None,
            }],
            ..Decision::none()
        };
        live.apply(&world, &moves);
        let count = |live: &Live| {
            live.observation(&world, Epoch::Arrival)
                .migrations()
                .count()
        };
        assert_eq!(count(&live), 1);
        let moved = Event::Moved {
            request: RequestId(0),
            fragment: 0,
            host: HostId(to),
        };
        let deltas = [at(2.5, moved)];
        let noted = live.observe(&world, seconds(2.5), &deltas).expect("true");
        assert_eq!((noted.applied, count(&live)), (1, 0), "{to}");
        let placed = live.deployment_of(RequestId(0)).expect("it is deployed");
        assert_eq!(placed.hosts, [HostId(to)]);
        let view = live.observation(&world, Epoch::Arrival).view();
        State::from_view(&world, &view).expect("a possible fleet");
        let done = [at(2.5, finished(0, 0)), at(2.5, answered(0))];
        live.observe(&world, seconds(2.5), &done).expect("true");
        let free = |h| {
            live.observation(&world, Epoch::Arrival)
                .ram_free_mib(HostId(h))
        };
        near(&[free(0), free(1)], &[1000.0, 1000.0]);
    }
}

#[test]
fn what_cannot_be_true_names_the_field() {
    let world = one_host();
    let mut live = fresh(&world);
    let start = [at(1.0, arrived(0)), at(1.0, deployed(0, 0, &[0]))];
    live.observe(&world, seconds(1.0), &start).expect("true");
    let before = live.encode();
    let app = Event::Arrived {
        request: RequestId(1),
        application: ApplicationId(9),
        context_tokens: 0,
    };
    let elsewhere = Event::Finished {
        request: RequestId(0),
        fragment: 0,
        host: Some(HostId(1)),
        generated_tokens: None,
    };
    let nowhere = Event::Host {
        host: HostId(7),
        lifecycle: Lifecycle::On,
    };
    for (event, field) in [
        (app, "application"),
        (finished(8, 0), "request"),
        (finished(0, 3), "fragment"),
        (elsewhere, "host"),
        (nowhere, "host"),
        (deployed(0, 0, &[1]), "hosts[0]"),
        (deployed(0, 5, &[0]), "variant"),
        (deployed(0, 1, &[0]), "hosts"),
        (arrived(1 << 40), "request"),
    ] {
        let deltas = [at(1.5, arrived(1)), at(1.6, event.clone())];
        let error = live.observe(&world, seconds(2.0), &deltas);
        let error = error.expect_err("it cannot be true");
        assert_eq!((error.index, error.field.as_str()), (1, field), "{error}");
        assert!(live.encode() == before, "{event:?} changed something");
    }
    let future = [at(3.0, arrived(1))];
    let error = live
        .observe(&world, seconds(2.0), &future)
        .expect_err("not yet");
    assert_eq!(error.field, "at");
}

#[test]
fn the_clock_is_bounded_and_never_goes_back() {
    let world = one_host();
    let mut live = fresh(&world);
    live.observe(&world, seconds(1000.0), &[]).expect("true");
    live.observe(&world, seconds(900.0), &[]).expect("true");
    assert_eq!(live.now(), seconds(1000.0));
    assert_eq!(live.next_boundary(), seconds(1000.0));
    assert!(live.check_clock(seconds(701.0)).is_ok());
    assert!(live.check_clock(seconds(699.0)).is_err());
    assert!(live.check_clock(SimTime::NEVER).is_err());
}

#[test]
fn bytes_hold_the_whole_twin() {
    let world = embedded("azure-llm");
    let arrivals = simulate::arrivals(&world, &Options::new(3));
    let mut live = fresh(&world);
    let deltas: Vec<Delta> = arrivals[..200]
        .iter()
        .zip(0..)
        .map(|(a, request)| Delta {
            at: a.time,
            event: Event::Arrived {
                request: RequestId(request),
                application: a.application,
                context_tokens: a.context_tokens,
            },
        })
        .collect();
    let half = deltas[100].at;
    live.observe(&world, half, &deltas[..100]).expect("true");
    let mut decision = Decision::none();
    policy::by_name("least-loaded", &world, 1)
        .expect("it exists")
        .decide(&live.observation(&world, Epoch::Boundary), &mut decision)
        .expect("decides");
    live.apply(&world, &decision);
    let mut again = Live::decode(&world, &live.encode()).expect("a snapshot");
    let mut copy = live.clone();
    for twin in [&mut live, &mut again, &mut copy] {
        let end = deltas[199].at;
        twin.observe(&world, end, &deltas[100..]).expect("true");
    }
    assert!(live.encode() == again.encode() && live.encode() == copy.encode());
    let bytes = live.encode();
    for length in [0, 7, 8, 40, bytes.len() - 1] {
        assert!(Live::decode(&world, &bytes[..length]).is_err(), "{length}");
    }
    assert!(Live::decode(&embedded("scinet-16"), &bytes).is_err());
}

/// CPU time of 1500 requests from arrival to answer in a fleet of `count` hosts, one in ten under way
/// at a time.
fn cpu_time_s(count: usize) -> f64 {
    use rustix::time::{ClockId, clock_gettime};
    let world = hosts(count, count);
    let mut live = fresh(&world);
    let read = || {
        let time = clock_gettime(ClockId::ThreadCPUTime);
        time.tv_sec as f64 + time.tv_nsec as f64 * 1e-9
    };
    let started_s = read();
    for request in 0..1500_u64 {
        let now = request as f64 * 0.1;
        let host = u32::try_from(request * 7 % count as u64).expect("few");
        let mut events = vec![arrived(request), deployed(request, 0, &[host])];
        if let Some(before) = request.checked_sub(10) {
            events.push(started(before, 0));
            events.push(finished(before, 0));
            events.push(answered(before));
        }
        for event in events {
            let noted = live.observe(&world, seconds(now), &[at(now, event)]);
            noted.expect("it is true");
        }
    }
    assert_eq!(live.tracks.len(), 10);
    read() - started_s
}

#[test]
fn a_delta_costs_the_same_in_a_large_fleet() {
    let (small_s, large_s) = (cpu_time_s(100), cpu_time_s(10_000));
    // What grows is the depth of a heap; work on each host would make it a hundred times as much.
    assert!(large_s < 8.0 * small_s, "{large_s} s against {small_s} s");
}

#[test]
fn a_deployment_that_is_told_twice_is_known() {
    let world = embedded("scinet-16");
    let mut live = fresh(&world);
    // No other request's fragments stand behind its own.
    let told = [at(0.0, arrived(0)), at(0.0, deployed(0, 0, &[0, 1]))];
    live.observe(&world, seconds(0.0), &told)
        .expect("it is true");
    let again = live.observe(&world, seconds(0.0), &told[1..]);
    assert_eq!(again.expect("it is true").ignored, [(0, Ignored::Known)]);
}

#[test]
fn a_request_that_is_gone_leaves_no_transfer() {
    let world = embedded("scinet-16");
    let request = RequestId(0);
    for gone in [Event::Failed { request }, Event::Withdrawn { request }] {
        let mut live = fresh(&world);
        let sent = [at(0.0, arrived(0)), at(0.0, deployed(0, 0, &[0, 1]))];
        live.observe(&world, seconds(0.0), &sent)
            .expect("it is true");
        let transfers = |live: &Live| live.observation(&world, Epoch::Arrival).view().transfers;
        // The input is on its way to the first of two fragments.
        assert_eq!(transfers(&live).len(), 1);
        let told = [at(0.001, gone)];
        live.observe(&world, seconds(0.001), &told)
            .expect("it is true");
        assert_eq!(transfers(&live), []);
    }
}

/// Anything that telemetry may say, true or not.
fn events() -> impl Strategy<Value = Event> {
    let request = 0_u64..12;
    let host = prop_oneof![8 => 0_u32..4, 1 => Just(99_u32)];
    let fragment = 0_u16..4;
    let when = prop::option::of(0_u64..60_000_000_000);
    prop_oneof![
        4 => (request.clone(), 0_u16..8).prop_map(|(r, a)| Event::Arrived {
            request: RequestId(r),
            application: ApplicationId(a),
            context_tokens: 10,
        }),
        6 => (request.clone(), 0_u16..3, prop::collection::vec(host.clone(), 1..5)).prop_map(
            |(r, v, hosts)| deployed(r, v, &hosts)
        ),
        5 => (request.clone(), fragment.clone()).prop_map(|(r, f)| started(r, f)),
        5 => (request.clone(), fragment, prop::option::of(host.clone())).prop_map(|(r, f, h)| {
            Event::Finished {
                request: RequestId(r),
                fragment: f,
                host: h.map(HostId),
                generated_tokens: Some(7),
            }
        }),
        2 => request.clone().prop_map(answered),
        1 => request.clone().prop_map(|r| Event::Failed { request: RequestId(r) }),
        1 => request.clone().prop_map(|r| Event::Withdrawn { request: RequestId(r) }),
        1 => (request, 0_u16..2, host.clone()).prop_map(|(r, fragment, h)| Event::Moved {
            request: RequestId(r),
            fragment,
            host: HostId(h),
        }),
        4 => (host.clone(), 0_u8..5, when).prop_map(|(h, kind, when)| {
            let ready_at = when.map(SimTime);
            let lifecycle = match kind {
                0 => Lifecycle::Off,
                1 => Lifecycle::Booting { ready_at },
                2 => Lifecycle::On,
                3 => Lifecycle::Draining,
                _ => Lifecycle::Crashed { ready_at },
            };
            Event::Host { host: HostId(h), lifecycle }
        }),
        1 => (host, 0.2_f64..2.0).prop_map(|(h, speed)| Event::Sample(Sample {
            host: HostId(h),
            span: Some(SimTime(1_000_000_000)),
            utilization: Some(0.5),
            power_w: None,
            speed: Some(speed),
            credits: None,
        })),
    ]
}

/// A message: how far it is ahead of the last, and its deltas with how much earlier they happened.
fn messages() -> impl Strategy<Value = Vec<(u64, Vec<(u64, Event)>)>> {
    let delta = (
        prop_oneof![2 => Just(0_u64), 1 => 0..8_000_000_000_u64],
        events(),
    );
    let deltas = prop::collection::vec(delta, 1..4);
    prop::collection::vec((0..4_000_000_000_u64, deltas), 1..60)
}

proptest! {
    #![proptest_config(Config {
        cases: 48,
        rng_seed: RngSeed::Fixed(11),
        failure_persistence: None,
        ..Config::default()
    })]

    #[test]
    fn whatever_is_told_the_twin_is_a_possible_fleet(
        messages in messages(),
        decides in prop::collection::vec(any::<bool>(), 60),
        repeats in prop::collection::vec(any::<bool>(), 60),
    ) {
        let world = embedded("scinet-16");
        let mut live = fresh(&world);
        let mut policy = policy::by_name("random", &world, 3).expect("it exists");
        let mut now = 0;
        for (((step, deltas), decides), repeats) in messages.iter().zip(decides).zip(repeats) {
            now += step;
            let deltas: Vec<Delta> = deltas
                .iter()
                .map(|(late, event)| Delta {
                    at: SimTime(now.saturating_sub(*late)),
                    event: event.clone(),
                })
                .collect();
            let before = live.encode();
            let noted = live.observe(&world, SimTime(now), &deltas);
            match &noted {
                Err(_) => prop_assert!(live.encode() == before),
                Ok(noted) => prop_assert_eq!(noted.applied + noted.ignored.len(), deltas.len()),
            }
            if repeats && noted.is_ok() {
                // Repeated whole, it is not an error.
                let again = live.observe(&world, SimTime(now), &deltas);
                prop_assert!(again.is_ok() || deltas.len() > 1, "{:?}", again);
            }
            let epoch = if decides { Epoch::Boundary } else { Epoch::Arrival };
            if decides {
                live.meet_boundary(&world, None);
            }
            let view = live.observation(&world, epoch).view();
            let copy = State::from_view(&world, &view);
            prop_assert!(copy.is_ok(), "{:?}", copy.err());
            for host in &live.state.hosts {
                prop_assert!(host.ram_free_mib >= -1e-6 && host.ram_free_mib <= host.ram_mib + 1e-6);
            }
            let ids: Vec<RequestId> = view.requests.iter().map(|r| r.id).collect();
            prop_assert!(live.tracks.keys().copied().eq(ids));
            let mut decision = Decision::none();
            let observation = live.observation(&world, epoch);
            policy.decide(&observation, &mut decision).expect("decides");
            if decides {
                live.apply(&world, &decision);
            }
        }
    }
}
