//! The twin against queuing theory.
//!
//! A host of `c` virtual CPUs serves fragments that arrive as a Poisson process. With caps of all
//! CPUs it is one processor-sharing server; with caps of one CPU and exponential work, the number
//! `n` of fragments goes down at the rate `min(n, c) μ` whoever is served, so it is that of M/M/c,
//! and by Little's law so is the mean response; with memory for one fragment it is a server that is
//! first come, first served. Sources: Kleinrock, Queueing Systems I and II, 1975 and 1976; Harchol-
//! Balter, Performance Modeling and Design of Computer Systems, 2013.

use twin::World;
use twin::decision::{Decision, Deployment};
use twin::ids::{HostId, RequestId, VariantId};
use twin::observation::Observation;
use twin::qos::{Qos, ResponseTimes};
use twin::simulate::{self, Options};
use twin::sink::{Silent, Sink};
use twin::state::{Epoch, Future, State};
use twin::stream;
use twin::units::SimTime;
use twin::workload::Arrival;

use crate::statistics::{Interval, at_most, relative_difference};

/// Speed of a virtual CPU; a fragment needs this much work on average, so that its mean service on
/// one CPU is one second.
const MIPS: f64 = 1000.0;
/// Memory of a fragment.
const FRAGMENT_MIB: f64 = 100.0;
/// Seeds of the runs behind an interval. One set in a hundred misses the truth by chance; seeds 0
/// to 39 do so for M/M/1 at load 0.6, where the mean over seeds 0 to 479 is 0.04 % off.
const SEEDS: std::ops::Range<u64> = 40..80;
/// Power at no and at full load of a host whose curve is a straight line.
const IDLE_W: f64 = 80.0;
const FULL_W: f64 = 200.0;

const EXPONENTIAL: &str = r#"{ kind = "exponential", mean = 1000 }"#;
const CONSTANT: &str = r#"{ kind = "constant", value = 1000 }"#;
/// Squared coefficient of variation of [`LOGNORMAL`].
const LOGNORMAL_CV2: f64 = 2.25;
const LOGNORMAL: &str = r#"{ kind = "lognormal", mean = 1000, cv = 1.5 }"#;

/// Hosts that serve one kind of fragment.
struct Queue<'a> {
    /// Virtual CPUs of each host; their sizes differ in nothing else.
    vcpus: &'a [f64],
    /// The most CPUs that a fragment uses.
    cap: f64,
    /// How many fragments fit into the memory of a host.
    room: f64,
    work: &'a str,
    rate_per_s: f64,
    duration_s: f64,
    /// How often the fleet is looked at; once at the end if absent.
    interval_s: Option<f64>,
    power_w: [f64; 11],
    /// The most requests under way; more are refused.
    most_active: Option<u32>,
}

impl Default for Queue<'_> {
    fn default() -> Self {
        Self {
            vcpus: &[1.0],
            cap: 1.0,
            room: 1e6,
            work: EXPONENTIAL,
            rate_per_s: 0.5,
            duration_s: 10_000.0,
            interval_s: None,
            power_w: std::array::from_fn(|k| IDLE_W + (FULL_W - IDLE_W) * k as f64 / 10.0),
            most_active: None,
        }
    }
}

impl Queue<'_> {
    fn world(&self) -> World {
        let interval_s = self.interval_s.unwrap_or(self.duration_s);
        let limit = match self.most_active {
            Some(most) => format!("max_active_requests = {most}"),
            None => String::new(),
        };
        let mut hosts = String::new();
        for (h, vcpus) in self.vcpus.iter().enumerate() {
            hosts += &format!(
                r#"
[[sizes]]
name = "size-{h}"
vcpus = {vcpus}
mips_per_vcpu = {MIPS}
ram_mib = {}
network_mbps = 1000
power_w = {:?}
price_usd_per_hour = {{ here = 0.1 }}
boot_s = 0
[[hosts]]
size = "size-{h}"
site = "here"
count = 1
"#,
                self.room * FRAGMENT_MIB,
                self.power_w,
            );
        }
        let text = format!(
            r#"
schema = 1
name = "queue"
description = "A queue of theory."
interval_s = {interval_s}
{limit}
episode_intervals = {}
[objective]
reference_power_w = 100
reference_cost_usd_per_hour = 0.1
reference_response_s = 1
reference_rate_per_s = 1
weights = {{ energy = 1, cost = 1, response = 1, sla = 1, accuracy = 1 }}
[workload]
kind = "poisson"
rate_per_s = {}
[[sites]]
name = "here"
user_latency_ms = 0
{hosts}
[[applications]]
name = "app"
deadline_s = 10
[[applications.variants]]
name = "whole"
accuracy = 1
fragments = [
  {{ name = "model", work_mi = {}, max_vcpus = {}, ram_mib = {FRAGMENT_MIB} }},
]
"#,
            (self.duration_s / interval_s).ceil(),
            self.rate_per_s,
            self.work,
            self.cap,
        );
        World::parse(&text, "queue.toml", None).expect("the world is valid")
    }

    fn arrivals(&self, world: &World, seed: u64) -> Vec<Arrival> {
        let mut arrivals = simulate::arrivals(world, &Options::new(seed));
        let end = SimTime::from_seconds(self.duration_s);
        arrivals.truncate(arrivals.partition_point(|a| a.time < end));
        arrivals
    }

    /// Serves the arrivals of `seed` to the last one's answer.
    fn serve(&self, world: &World, seed: u64) -> Served {
        let arrivals = self.arrivals(world, seed);
        let mut state = State::new(world);
        steer(
            world,
            &mut state,
            &arrivals,
            SimTime::NEVER,
            |_| HostId(0),
            |_| {},
        );
        Served::of(world, &mut state, &arrivals)
    }

    /// The mean response, with the load that came as control.
    fn response_s(&self) -> Interval {
        let world = self.world();
        let pairs: Vec<(f64, f64)> = SEEDS
            .map(|seed| {
                let served = self.serve(&world, seed);
                let offered = served.work_mi / MIPS / self.duration_s;
                (served.qos.response_mean_s, offered)
            })
            .collect();
        Interval::controlled(&pairs, self.rate_per_s)
    }
}

/// What came of a run.
struct Served {
    qos: Qos,
    /// Work of all requests, from their keys.
    work_mi: f64,
}

impl Served {
    fn of(world: &World, state: &mut State, arrivals: &[Arrival]) -> Self {
        let fragment = &world.applications[0].variants[0].fragments[0];
        Self {
            qos: Qos::of(world, state, &mut ResponseTimes::default()),
            work_mi: arrivals
                .iter()
                .map(|a| fragment.work_mi.quantile(stream::unit(a.key, 0)))
                .sum(),
        }
    }
}

/// Places each request on the host that `route` names, and shows the fleet at each boundary to
/// `look`; ends at `until`, or when the last request is answered.
fn steer(
    world: &World,
    state: &mut State,
    arrivals: &[Arrival],
    until: SimTime,
    route: impl Fn(u64) -> HostId,
    look: impl FnMut(&Observation<'_>),
) {
    steer_with(world, state, arrivals, until, (route, look), &mut Silent);
}

fn steer_with(
    world: &World,
    state: &mut State,
    arrivals: &[Arrival],
    until: SimTime,
    (route, mut look): (impl Fn(u64) -> HostId, impl FnMut(&Observation<'_>)),
    sink: &mut impl Sink,
) {
    let mut future = Future::new(arrivals);
    let mut decision = Decision {
        deployments: vec![Deployment {
            request: RequestId(0),
            variant: VariantId(0),
            hosts: vec![HostId(0)],
        }],
        ..Decision::none()
    };
    loop {
        match state.advance(world, &mut future, until, sink) {
            Epoch::End => return,
            Epoch::Arrival => {
                // Refused requests are numbered too, and no decision is due for them.
                let observation = Observation::new(world, state, Epoch::Arrival);
                let Some(request) = observation.waiting().next().map(|w| w.id) else {
                    continue;
                };
                decision.deployments[0].request = request;
                decision.deployments[0].hosts[0] = route(request.0);
                state.apply(world, &decision, sink);
            }
            Epoch::Boundary => {
                let observation = Observation::new(world, state, Epoch::Boundary);
                look(&observation);
                let last = arrivals.last().map_or(SimTime::ZERO, |a| a.time);
                if observation.now() > last && observation.active_count() == 0 {
                    return;
                }
            }
        }
    }
}

/// Probabilities of 0 to `most` in a birth-death process with births at `birth` and deaths at
/// `death(n)`.
fn birth_death(birth: f64, death: impl Fn(usize) -> f64, most: usize) -> Vec<f64> {
    let mut p = vec![1.0];
    for n in 1..=most {
        p.push(p[n - 1] * birth / death(n));
    }
    let total: f64 = p.iter().sum();
    p.iter().map(|x| x / total).collect()
}

/// Mean number of what has the probabilities `p`.
fn mean_number(p: &[f64]) -> f64 {
    p.iter().enumerate().map(|(n, p)| n as f64 * p).sum()
}

/// Mean response of M/M/c by Erlang's C formula, with services of one second.
fn erlang_c_response_s(servers: u32, rate_per_s: f64) -> f64 {
    let c = servers as f64;
    // Erlang's B formula by recursion over servers, and C from it.
    let b = (1..=servers).fold(1.0, |b, k| rate_per_s * b / (f64::from(k) + rate_per_s * b));
    let wait = b / (1.0 - rate_per_s / c * (1.0 - b));
    1.0 + wait / (c - rate_per_s)
}

/// Mean response of processor sharing is E[S] / (1 − ρ), whatever the distribution of the work.
fn processor_sharing(name: &str, work: &str) {
    for (load, relative) in [(0.3, 0.01), (0.5, 0.01), (0.7, 0.02)] {
        let queue = Queue {
            work,
            rate_per_s: load,
            duration_s: 20_000.0,
            ..Queue::default()
        };
        let what = format!("{name}, load {load}: mean response, s");
        queue
            .response_s()
            .confirms(1.0 / (1.0 - load), relative, &what);
    }
}

#[test]
fn mm1_processor_sharing() {
    processor_sharing("M/M/1-PS", EXPONENTIAL);
}

#[test]
fn md1_processor_sharing() {
    processor_sharing("M/D/1-PS", CONSTANT);
}

#[test]
fn mg1_processor_sharing() {
    processor_sharing("M/G/1-PS (lognormal, cv 1.5)", LOGNORMAL);
}

#[test]
fn mmc_by_caps() {
    for servers in [2, 8] {
        let rate_per_s = 0.7 * servers as f64;
        let queue = Queue {
            vcpus: &[servers as f64],
            rate_per_s,
            duration_s: 32_000.0 / servers as f64,
            ..Queue::default()
        };
        let theory = erlang_c_response_s(servers, rate_per_s);
        let what = format!("M/M/{servers} by caps, load 0.7: mean response, s");
        queue.response_s().confirms(theory, 0.02, &what);
    }
}

#[test]
fn caps_of_two_make_half_as_many_servers_of_double_speed() {
    // Four CPUs, two a fragment: M/M/2 with services of half a second.
    let queue = Queue {
        vcpus: &[4.0],
        cap: 2.0,
        rate_per_s: 2.4,
        duration_s: 20_000.0,
        ..Queue::default()
    };
    let theory = erlang_c_response_s(2, 1.2) / 2.0;
    let what = "4 vCPUs and caps of 2 as M/M/2, load 0.6: mean response, s";
    queue.response_s().confirms(theory, 0.02, what);
}

#[test]
fn first_come_first_served_where_memory_holds_one() {
    // Pollaczek and Khinchine: the mean wait is λ E[S²] / (2 (1 − ρ)).
    for (name, work, second_moment) in [
        ("M/D/1", CONSTANT, 1.0),
        ("M/M/1", EXPONENTIAL, 2.0),
        ("M/G/1 (lognormal, cv 1.5)", LOGNORMAL, 1.0 + LOGNORMAL_CV2),
    ] {
        let load = 0.4;
        let queue = Queue {
            work,
            room: 1.0,
            rate_per_s: load,
            duration_s: 50_000.0,
            ..Queue::default()
        };
        let wait_s = load * second_moment / (2.0 * (1.0 - load));
        let what = format!("{name}-FCFS by memory, load {load}: mean response, s");
        queue.response_s().confirms(1.0 + wait_s, 0.02, &what);
    }
}

#[test]
fn limited_processor_sharing_of_exponential_work_is_mm1() {
    // With room for three the server still works off one second of work a second, and which
    // fragments share it does not matter to how many there are.
    let load = 0.6;
    let queue = Queue {
        room: 3.0,
        rate_per_s: load,
        duration_s: 30_000.0,
        ..Queue::default()
    };
    let theory = 1.0 / (1.0 - load);
    let what = format!("memory for 3 of exponential work, load {load}: mean response, s");
    queue.response_s().confirms(theory, 0.02, &what);
}

#[test]
fn mm1k_behind_a_gate() {
    // A gate in front of the host lets nobody in where `K` are inside.
    const K: usize = 4;
    let load = 0.8;
    let queue = Queue {
        rate_per_s: load,
        ..Queue::default()
    };
    let world = queue.world();
    let (mut lost, mut response_s) = (Vec::new(), Vec::new());
    for seed in SEEDS {
        let arrivals = queue.arrivals(&world, seed);
        let (mut state, mut refused) = (State::new(&world), 0);
        for arrival in &arrivals {
            let none = &mut Future::empty();
            while state.advance(&world, none, arrival.time, &mut Silent) != Epoch::End {}
            let observation = Observation::new(&world, &state, Epoch::Arrival);
            if observation.resident_count(HostId(0)) == K {
                refused += 1;
                continue;
            }
            let id = state_requests(&observation);
            let one = &mut Future::new(std::slice::from_ref(arrival));
            let epoch = state.advance(&world, one, SimTime::NEVER, &mut Silent);
            assert_eq!(epoch, Epoch::Arrival);
            let deployment = Deployment {
                request: RequestId(id),
                variant: VariantId(0),
                hosts: vec![HostId(0)],
            };
            let decision = Decision {
                deployments: vec![deployment],
                ..Decision::none()
            };
            state.apply(&world, &decision, &mut Silent);
        }
        lost.push(f64::from(refused) / arrivals.len() as f64);
        let qos = Qos::of(&world, &state, &mut ResponseTimes::default());
        response_s.push(qos.response_mean_s);
    }
    let p = birth_death(load, |_| 1.0, K);
    let admitted_per_s = load * (1.0 - p[K]);
    let mean_s = mean_number(&p) / admitted_per_s;
    let what = format!("M/M/1/{K} behind a gate, load {load}");
    Interval::of(&lost).confirms(p[K], 0.03, &format!("{what}: share lost"));
    Interval::of(&response_s).confirms(mean_s, 0.02, &format!("{what}: mean response, s"));
}

/// Requests that have come so far: the number of the next one.
fn state_requests(observation: &Observation<'_>) -> u64 {
    observation.view().next_request
}

/// Response times of each host, by its own reckoning.
struct Answers<'a> {
    arrivals: &'a [Arrival],
    count: [f64; 3],
    response_s: [f64; 3],
}

impl Sink for Answers<'_> {
    fn fragment_done(&mut self, now: SimTime, id: RequestId, _: usize, host: HostId) {
        let arrival = &self.arrivals[usize::try_from(id.0).expect("it is a position")];
        self.count[host.index()] += 1.0;
        self.response_s[host.index()] += now.since(arrival.time).seconds();
    }
}

#[test]
fn littles_law_and_the_utilization_law_hold_at_each_host() {
    const VCPUS: [f64; 3] = [1.0, 2.0, 4.0];
    // Each host gets a third of the requests: 0.6 a second.
    let queue = Queue {
        vcpus: &VCPUS,
        cap: 4.0,
        rate_per_s: 1.8,
        interval_s: Some(0.5),
        ..Queue::default()
    };
    let world = queue.world();
    let until = SimTime::from_seconds(queue.duration_s);
    let mut number = [const { Vec::new() }; 3];
    let mut differences = [const { Vec::new() }; 3];
    let mut busy = [const { Vec::new() }; 3];
    let mut accounts = 0.0;
    for seed in 0..24 {
        let arrivals = queue.arrivals(&world, seed);
        let mut state = State::new(&world);
        let (mut looks, mut inside, mut used) = (0.0, [0.0; 3], [0.0; 3]);
        let mut answers = Answers {
            arrivals: &arrivals,
            count: [0.0; 3],
            response_s: [0.0; 3],
        };
        let turn = |request| usize::try_from(stream::mix(request, seed) % 3).expect("it is small");
        let route = |request| HostId::at(turn(request));
        let look = |observation: &Observation<'_>| {
            looks += 1.0;
            for h in 0..3 {
                inside[h] += observation.resident_count(HostId::at(h)) as f64;
                used[h] += observation.utilization(HostId::at(h));
            }
        };
        let (decide, sink) = ((route, look), &mut answers);
        steer_with(&world, &mut state, &arrivals, until, decide, sink);
        for h in 0..3 {
            // L is seen at the boundaries; λ W from the answers: the sum of the response times over
            // the time.
            let seen = inside[h] / looks;
            let through = answers.response_s[h] / queue.duration_s;
            number[h].push(through);
            differences[h].push(seen - through);
            busy[h].push(used[h] / looks);
        }
        let told: f64 = answers.response_s.iter().sum();
        let qos = Qos::of(&world, &state, &mut ResponseTimes::default());
        let count: f64 = answers.count.iter().sum();
        let difference = relative_difference(told / count, qos.response_mean_s);
        accounts = f64::max(accounts, difference);
    }
    at_most(
        accounts,
        1e-9,
        "mean response by host, against that of the fleet",
    );
    for h in 0..3 {
        let load = 0.6 / VCPUS[h];
        let theory = load / (1.0 - load);
        let what = |what: &str| format!("host of {} vCPUs: {what}", VCPUS[h]);
        Interval::of(&number[h]).confirms(theory, 0.05, &what("number inside λW"));
        Interval::of(&busy[h]).confirms(load, 0.02, &what("utilization"));
        Interval::of(&differences[h]).tells(0.0, 0.01 * theory, &what("L − λW (Little)"));
    }
}

#[test]
fn utilization_and_linear_power_are_exact() {
    for (vcpus, cap, room) in [(1.0, 1.0, 1e6), (2.0, 1.0, 1e6), (8.0, 3.0, 4.0)] {
        let queue = Queue {
            vcpus: &[vcpus],
            cap,
            room,
            rate_per_s: 0.5 * vcpus,
            interval_s: Some(100.0),
            ..Queue::default()
        };
        let world = queue.world();
        let (mut busy, mut power_w) = (Vec::new(), Vec::new());
        let (mut work, mut linear) = (0.0, 0.0);
        for seed in 0..12 {
            let Served { qos, work_mi } = queue.serve(&world, seed);
            assert_eq!(qos.requests_completed, qos.requests_arrived);
            // All work has been done, each fragment's up to the whole nanosecond in which it ends.
            let busy_s = qos.utilization_mean * qos.duration_s;
            let more_s = busy_s - work_mi / (vcpus * MIPS);
            let most_s = qos.requests_completed as f64 * 1e-9;
            work = f64::max(work, more_s.abs() / most_s);
            let mean_w = qos.energy_wh * 3600.0 / qos.duration_s;
            let linear_w = IDLE_W + (FULL_W - IDLE_W) * qos.utilization_mean;
            linear = f64::max(linear, relative_difference(mean_w, linear_w));
            busy.push(qos.utilization_mean);
            power_w.push(mean_w);
        }
        // U = λ E[S] / c = 0.5 c · 1 s / c.
        let what = |what: &str| format!("{vcpus} vCPUs, caps of {cap}: {what}");
        at_most(
            work,
            1.0,
            &what("busy time less work over speed, ns a request"),
        );
        at_most(
            linear,
            1e-9,
            &what("power against the line through utilization"),
        );
        Interval::of(&busy).confirms(0.5, 0.02, &what("utilization λ E[S] / c"));
        let theory_w = IDLE_W + (FULL_W - IDLE_W) * 0.5;
        Interval::of(&power_w).confirms(theory_w, 0.01, &what("power, W"));
    }
}

#[test]
fn curved_power_follows_the_distribution_of_the_number_served() {
    // With four CPUs and caps of one, min(n, 4) of 4 are used while n are there.
    let curve: [f64; 11] = std::array::from_fn(|k| 50.0 + 1.5 * (k * k) as f64);
    let queue = Queue {
        vcpus: &[4.0],
        rate_per_s: 2.0,
        power_w: curve,
        ..Queue::default()
    };
    let world = queue.world();
    let powers: Vec<f64> = (0..12)
        .map(|seed| {
            let arrivals = queue.arrivals(&world, seed);
            let until = SimTime::from_seconds(queue.duration_s);
            let mut state = State::new(&world);
            steer(&world, &mut state, &arrivals, until, |_| HostId(0), |_| {});
            let qos = Served::of(&world, &mut state, &arrivals).qos;
            qos.energy_wh * 3600.0 / qos.duration_s
        })
        .collect();
    // Between its points at 20 and 30 % and at 70 and 80 % the curve is a straight line.
    let at = [
        curve[0],
        f64::midpoint(curve[2], curve[3]),
        curve[5],
        f64::midpoint(curve[7], curve[8]),
        curve[10],
    ];
    let p = birth_death(2.0, |n| n.min(4) as f64, 200);
    let theory_w: f64 = p.iter().enumerate().map(|(n, p)| p * at[n.min(4)]).sum();
    let what = "curved power over M/M/4, W";
    Interval::of(&powers).confirms(theory_w, 0.01, what);
}

#[test]
fn mm1k_and_mmck_by_the_limit_on_active_requests() {
    for (servers, most) in [(1, 4), (2, 5)] {
        let rate_per_s = 0.8 * servers as f64;
        let queue = Queue {
            vcpus: &[servers as f64],
            rate_per_s,
            most_active: Some(most),
            ..Queue::default()
        };
        let world = queue.world();
        let (mut lost, mut response_s) = (Vec::new(), Vec::new());
        for seed in SEEDS {
            let qos = queue.serve(&world, seed).qos;
            let ended = qos.requests_completed + qos.incidents.requests_rejected;
            assert_eq!(qos.requests_arrived, ended);
            lost.push(qos.incidents.requests_rejected as f64 / qos.requests_arrived as f64);
            response_s.push(qos.response_mean_s);
            // Who is refused is not answered in time.
            assert!(qos.sla_violation_ratio >= lost[lost.len() - 1]);
        }
        // The probabilities of 0 to K; by Little's law the mean response of those let in.
        let (c, k) = (servers, most as usize);
        let p = birth_death(rate_per_s, |n| n.min(c) as f64, k);
        let admitted_per_s = rate_per_s * (1.0 - p[k]);
        let mean_s = mean_number(&p) / admitted_per_s;
        let what = format!("M/M/{servers}/{most} by max_active_requests, load 0.8");
        Interval::of(&lost).confirms(p[k], 0.05, &format!("{what}: share lost"));
        Interval::of(&response_s).confirms(mean_s, 0.02, &format!("{what}: mean response, s"));
    }
}
