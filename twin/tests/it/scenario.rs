//! One host and one application with constant work: every figure by hand.

use twin::World;
use twin::check::{CheckReport, Severity};
use twin::events::{Event, EventLog, Reader};
use twin::policy;
use twin::qos::Qos;
use twin::simulate::{self, Hooks, Options};

/// Policies that leave a single host on and place on it at once.
const POLICIES: &[&str] = &[
    "random",
    "round-robin",
    "least-loaded",
    "best-fit",
    "threshold-autoscaler",
    "scinet-teacher",
    "scinet-teacher-as-committed",
];

/// A world with `requests` at the start of each interval.
fn world(requests: u32) -> World {
    let text = format!(
        r#"
schema = 1
name = "one-host"
description = "One host, one application, constant work."
interval_s = 10
dispatch = "interval"
episode_intervals = 3

[objective]
reference_power_w = 100
reference_cost_usd_per_hour = 0.36
reference_response_s = 5.2
reference_rate_per_s = 0.1
[objective.weights]
energy = 1
cost = 1
response = 1
sla = 1
accuracy = 1

[workload]
kind = "batch"
mean = 0
sd = 0
minimum = {requests}

[[sites]]
name = "here"
user_latency_ms = 100

[[sizes]]
name = "two"
vcpus = 2
mips_per_vcpu = 1000
ram_mib = 1000
network_mbps = 8.192
power_w = [100, 110, 120, 130, 140, 150, 160, 170, 180, 190, 200]
price_usd_per_hour = {{ here = 0.36 }}
boot_s = 0

[[hosts]]
size = "two"
site = "here"
count = 1

[[applications]]
name = "app"
deadline_s = 6
input_kib = 1000
[[applications.variants]]
name = "whole"
accuracy = 0.9
fragments = [{{ name = "model", work_mi = {{ kind = "constant", value = 4000 }}, max_vcpus = 1, ram_mib = 100 }}]
"#
    );
    World::parse(&text, "one-host.toml", None).expect("the world is valid")
}

fn check(world: &World, expected: &[(&str, f64)]) {
    for name in POLICIES {
        let mut policy = policy::by_name(name, world, 1).expect("the policy is listed");
        let run = simulate::run(world, policy.as_mut(), &Options::new(1)).expect("feasible");
        let found: Vec<(&str, f64)> = run.qos.metrics().to_vec();
        for (metric, value) in expected {
            let (_, measured) = found
                .iter()
                .find(|(m, _)| m == metric)
                .expect("the metric is listed");
            assert!(
                (measured - value).abs() < 1e-6,
                "{name}: {metric} {measured}, not {value}"
            );
        }
        let Qos {
            requests_completed,
            requests_unfinished,
            ..
        } = run.qos;
        assert_eq!((requests_completed % 3, requests_unfinished), (0, 0));
    }
}

#[test]
fn one_request_an_interval() {
    // The input of 1000 KiB is 8.192 Mbit: 1 s, and 0.1 s of latency. The work of 4000 MI runs on
    // one of two vCPUs of 1000 MIPS: 4 s. The empty answer takes the latency, 0.1 s.
    let response_s = 1.0 + 0.1 + 4.0 + 0.1;
    // Three times 10 s at 100 W, and 4 s at half utilization, which is 50 W more: 3600 J.
    let energy_j = 3.0 * (10.0 * 100.0 + 4.0 * 50.0);
    let cost_usd = 0.36 * 30.0 / 3600.0;
    // Each term in s: 3600 J / 100 W = 36, 30 s of all hosts = 30, 15.6 s / (5.2 s · 0.1 /s) = 30,
    // nothing late, 3 · 0.1 / (0.1 /s) = 3. Over 30 s: 99 / 30.
    let objective = -99.0 / 30.0;
    check(
        &world(1),
        &[
            ("objective", objective),
            ("energy_wh", energy_j / 3600.0),
            ("cost_usd", cost_usd),
            ("response_mean_s", response_s),
            ("response_p50_s", response_s),
            ("response_p99_s", response_s),
            ("sla_violation_ratio", 0.0),
            ("accuracy_mean", 0.9),
            ("utilization_mean", 0.5 * 4.0 / 10.0),
            ("waiting_mean_s", 1.1),
            ("jain_fairness", 1.0),
        ],
    );
}

#[test]
fn three_requests_at_once_share_the_network_and_the_processor() {
    // Three inputs share the network: 3 s. Three fragments share 2000 MIPS: 4000 / (2000 / 3) = 6 s.
    let response_s = 3.0 + 0.1 + 6.0 + 0.1;
    // In each interval 6 s at full utilization, which is 100 W more.
    let energy_j = 3.0 * (10.0 * 100.0 + 6.0 * 100.0);
    check(
        &world(3),
        &[
            ("energy_wh", energy_j / 3600.0),
            ("response_mean_s", response_s),
            ("response_p95_s", response_s),
            ("sla_violation_ratio", 1.0),
            ("utilization_mean", 0.6),
            ("waiting_mean_s", 3.1),
        ],
    );
}

#[test]
fn the_event_log_tells_what_happened() {
    let world = world(1);
    let mut policy = policy::by_name("least-loaded", &world, 1).expect("the policy is listed");
    let mut bytes = Vec::new();
    let mut log = EventLog::new(&world, &mut bytes);
    let options = Options {
        intervals: Some(1),
        ..Options::new(1)
    };
    let mut hooks = Hooks {
        events: Some(&mut log),
        ..Hooks::default()
    };
    simulate::run_with(&world, policy.as_mut(), &options, &mut hooks).expect("feasible");
    assert_eq!(log.finish().expect("memory can be written"), 6);
    let text = String::from_utf8(bytes)
        .expect("JSON is UTF-8")
        .replace(&world.hash, "HASH");
    insta::assert_snapshot!(text, @r#"
    {"time_s":0.0,"event":"started","schema":1,"world":"one-host","world_hash":"HASH"}
    {"time_s":0.0,"event":"host","host":"two-here-01","size":"two","site":"here","state":"on"}
    {"time_s":0.0,"event":"arrived","request":0,"application":"app","context_tokens":0}
    {"time_s":0.0,"event":"deployed","request":0,"application":"app","variant":"whole","hosts":["two-here-01"]}
    {"time_s":5.1,"event":"fragment-done","request":0,"fragment":"model","host":"two-here-01"}
    {"time_s":5.2,"event":"completed","request":0,"application":"app","variant":"whole","response_s":5.2,"late":false}
    "#);
}

#[test]
fn an_error_of_the_log_is_reported_at_the_end() {
    /// Takes the first line and no more.
    struct Full(bool);
    impl std::io::Write for Full {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            if self.0 {
                return Err(std::io::Error::other("the disk is full"));
            }
            self.0 = bytes.ends_with(b"\n");
            Ok(bytes.len())
        }
        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }
    let world = world(1);
    let mut policy = policy::by_name("least-loaded", &world, 1).expect("the policy is listed");
    let mut log = EventLog::new(&world, Full(false));
    let mut hooks = Hooks {
        events: Some(&mut log),
        ..Hooks::default()
    };
    let run = simulate::run_with(&world, policy.as_mut(), &Options::new(1), &mut hooks);
    assert!(
        run.is_ok(),
        "a log that cannot be written does not end the run"
    );
    let error = log.finish().expect_err("the disk is full");
    assert_eq!(error.to_string(), "the disk is full");
}

#[test]
fn the_example_of_the_documentation_is_a_sound_world() {
    let text = include_str!("../../../docs/examples/edge-cloud.toml");
    let world = World::parse(text, "edge-cloud.toml", None).expect("it is valid");
    let report = CheckReport::of(&world);
    let odd: Vec<_> = report
        .findings
        .iter()
        .filter(|finding| finding.severity > Severity::Note)
        .collect();
    assert!(odd.is_empty(), "{odd:?}");
    let mut policy = policy::by_name("least-loaded", &world, 1).expect("it is part of the program");
    let run = simulate::run(&world, policy.as_mut(), &Options::new(1)).expect("it decides");
    // Cold starts: each of the four hosts that are on loads the one model that is asked for.
    assert!(run.qos.incidents.cold_starts >= 4);
    assert!(run.qos.carbon_g > 0.0 && run.qos.requests_completed > 200);
}

#[test]
fn the_example_with_containers_is_a_sound_world() {
    let world = World::load("../docs/examples/containers.toml").expect("it is valid");
    let report = CheckReport::of(&world);
    let odd: Vec<_> = report
        .findings
        .iter()
        .filter(|finding| finding.severity > Severity::Note)
        .collect();
    assert!(odd.is_empty(), "{odd:?}");
    let names: Vec<(&str, u32)> = world
        .containers
        .list()
        .iter()
        .map(|c| (c.name.as_str(), c.host.0))
        .collect();
    assert_eq!(names[0], ("service-01", 0));
    assert_eq!(names[5], ("service-06", 1));
    assert_eq!(names[6], ("batch", 0));
    let mut options = Options::new(1);
    options.intervals = Some(70);
    let mut policy = policy::by_name("greedy", &world, 1).expect("it is part of the program");
    let mut bytes = Vec::new();
    let mut log = EventLog::new(&world, &mut bytes);
    let mut hooks = Hooks {
        events: Some(&mut log),
        ..Hooks::default()
    };
    let run = simulate::run_with(&world, policy.as_mut(), &options, &mut hooks);
    let qos = run.expect("it decides").qos;
    assert!(qos.requests_completed > 1000);
    // 4 vCPUs each, by the first lines of the table, and the batch of 6 from 3,600 s on.
    assert!(qos.containers.demanded_vcpu_s > 6.0 * 500.0);
    assert!(qos.containers.unmet_ratio() < 0.2, "{:?}", qos.containers);
    // The spans of the log add up to what the run counts.
    log.finish().expect("memory can be written");
    let mut reader = Reader::new(bytes.as_slice(), "log.jsonl").expect("it is a log");
    let (mut demanded, mut unmet) = (0.0, 0.0);
    while let Some(line) = reader.next_line().expect("its lines are events") {
        if let Event::Container {
            demanded_vcpu_s,
            unmet_vcpu_s,
            ..
        } = line.event
        {
            demanded += demanded_vcpu_s;
            unmet += unmet_vcpu_s;
        }
    }
    assert!((demanded - qos.containers.demanded_vcpu_s).abs() < 1e-6);
    assert!((unmet - qos.containers.unmet_vcpu_s).abs() < 1e-6);
}
