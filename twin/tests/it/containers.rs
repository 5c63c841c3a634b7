//! Long-running containers beside requests: closed forms, memory, hosts that are off.

use twin::World;
use twin::decision::{Decision, Deployment, PowerAction};
use twin::ids::{ApplicationId, HostId, RequestId, VariantId};
use twin::observation::Observation;
use twin::policy;
use twin::qos::{Account, Qos, ResponseTimes};
use twin::simulate::{self, Options};
use twin::sink::Silent;
use twin::snapshot;
use twin::state::{Epoch, Future, State};
use twin::units::SimTime;
use twin::workload::Arrival;
use twin::world::file::WorkloadFile;

use crate::statistics::close;

/// Hosts of 2 virtual CPUs of 1,000 MIPS, 100 W idle and 200 W at full load, with `containers`; a
/// request is 1,500 MI on up to two virtual CPUs.
fn world(hosts: u32, extra: &str, containers: &str) -> World {
    let text = format!(
        r#"
schema = 1
name = "beside"
description = "Containers beside requests."
interval_s = 10
episode_intervals = 4
{extra}
workload = {{ kind = "poisson", rate_per_s = 1e-9 }}
[objective]
reference_power_w = 100
reference_cost_usd_per_hour = 1
reference_response_s = 1
reference_rate_per_s = 1
reference_unmet_vcpus = 2
weights = {{ energy = 0, cost = 0, response = 0, sla = 0, accuracy = 0, unmet = 3 }}
[[sites]]
name = "here"
user_latency_ms = 0
[[sizes]]
name = "two"
vcpus = 2
mips_per_vcpu = 1000
ram_mib = 1000
network_mbps = 1000
power_w = [100, 110, 120, 130, 140, 150, 160, 170, 180, 190, 200]
price_usd_per_hour = {{ here = 0.1 }}
boot_s = 3
[[hosts]]
size = "two"
site = "here"
count = {hosts}
[[applications]]
name = "app"
deadline_s = 100
[[applications.variants]]
name = "whole"
accuracy = 1
fragments = [{{ name = "all", work_mi = {{ kind = "constant", value = 1500 }}, max_vcpus = 2, ram_mib = 600 }}]
{containers}
"#
    );
    World::parse(&text, "beside.toml", None).expect("the world is valid")
}

fn container(more: &str, steps: &str) -> String {
    format!(
        "[[containers]]\nname = \"c\"\nvcpus = 2\n{more}\n\
         demand = {{ kind = \"steps\", steps = [{steps}] }}\n"
    )
}

fn seconds(s: f64) -> SimTime {
    SimTime::from_seconds(s)
}

fn arrival(at_s: f64) -> Arrival {
    Arrival {
        time: seconds(at_s),
        application: ApplicationId(0),
        context_tokens: 0,
        generated_tokens: 0,
        key: 1,
    }
}

fn place_on(request: u64, host: u32) -> Decision {
    Decision {
        deployments: vec![Deployment {
            request: RequestId(request),
            variant: VariantId(0),
            hosts: vec![HostId(host)],
        }],
        ..Decision::none()
    }
}

fn turn(host: u32, on: bool) -> Decision {
    Decision {
        provisioning: vec![PowerAction {
            host: HostId(host),
            on,
        }],
        ..Decision::none()
    }
}

/// Advances without decisions.
fn pass(world: &World, state: &mut State, future: &mut Future<'_>, until_s: f64) {
    while state.advance(world, future, seconds(until_s), &mut Silent) != Epoch::End {}
}

fn qos(world: &World, state: &State) -> Qos {
    Qos::of(world, state, &mut ResponseTimes::default())
}

#[track_caller]
fn demand_is(world: &World, state: &State, demanded_vcpu_s: f64, unmet_vcpu_s: f64) {
    let found = qos(world, state).containers;
    close(found.demanded_vcpu_s, demanded_vcpu_s, 1e-9, "demanded");
    assert!(
        (found.unmet_vcpu_s - unmet_vcpu_s).abs() < 1e-6,
        "unmet: {}, not {unmet_vcpu_s}",
        found.unmet_vcpu_s
    );
}

#[test]
fn a_container_alone_uses_what_it_wants_up_to_the_whole_host() {
    let steps = "{ duration_s = 10, vcpus = 0.5 }, { duration_s = 10, vcpus = 2.5 }";
    let world = world(1, "", &container("", steps));
    let mut state = State::new(&world);
    pass(&world, &mut state, &mut Future::empty(), 30.0);
    // 10 · 0.5 + 10 · 2.5 = 30 are wanted, of which 10 · (2.5 − 2) are not met.
    demand_is(&world, &state, 30.0, 5.0);
    let qos = qos(&world, &state);
    close(qos.containers.unmet_ratio(), 5.0 / 30.0, 1e-9, "ratio");
    // Utilization 0.25, 1 and 0 for 10 s each.
    close(qos.utilization_mean, 1.25 / 3.0, 1e-12, "utilization");
    // 125 W, 200 W and 100 W for 10 s each.
    close(qos.energy_wh * 3600.0, 4250.0, 1e-12, "energy");
    // 3 · 5 vCPU-s / 2 vCPUs, over 30 s.
    close(qos.objective, -0.25, 1e-9, "objective");
}

/// Response of one request at 1 s beside a container that wants 1.5 virtual CPUs, and what the
/// container lacks up to 10 s.
fn beside(share: &str) -> (f64, f64) {
    let more = format!("share = \"{share}\"");
    let world = world(1, "", &container(&more, "{ duration_s = 40, vcpus = 1.5 }"));
    let mut state = State::new(&world);
    let arrivals = [arrival(1.0)];
    let mut future = Future::new(&arrivals);
    pass(&world, &mut state, &mut future, 1.0);
    assert_eq!(
        state.advance(&world, &mut future, seconds(10.0), &mut Silent),
        Epoch::Arrival
    );
    state.apply(&world, &place_on(0, 0), &mut Silent);
    pass(&world, &mut state, &mut future, 10.0);
    let qos = qos(&world, &state);
    assert_eq!(qos.requests_completed, 1);
    (qos.response_mean_s, qos.containers.unmet_vcpu_s)
}

#[test]
fn the_share_says_who_lacks_what() {
    // 2,000 MIPS; the fragment could use all, the container 1,500.
    // Alike: 1,000 each, so the fragment takes 1.5 s, in which the container lacks 0.5.
    let (response, unmet) = beside("fair");
    close(response, 1.5, 1e-8, "response");
    close(unmet, 0.75, 1e-8, "unmet");
    // The container first: 500 are left, 1,500 MI take 3 s.
    let (response, unmet) = beside("first");
    close(response, 3.0, 1e-8, "response");
    assert!(unmet.abs() < 1e-9);
    // The container last: 1,500 MI take 0.75 s, in which it gets nothing.
    let (response, unmet) = beside("last");
    close(response, 0.75, 1e-8, "response");
    close(unmet, 1.125, 1e-8, "unmet");
}

#[test]
fn small_demands_are_met_before_the_rest_is_shared() {
    let more = |name: &str, vcpus: f64| {
        container("", &format!("{{ duration_s = 40, vcpus = {vcpus} }}"))
            .replace("\"c\"", &format!("\"{name}\""))
    };
    let world = world(
        1,
        "",
        &(more("a", 0.25) + &more("b", 1.5) + &more("c", 1.0)),
    );
    let mut state = State::new(&world);
    pass(&world, &mut state, &mut Future::empty(), 4.0);
    // 2 among 0.25, 1.5 and 1: 0.25 is met, 1.75 are left for two, 0.875 each.
    let observation = Observation::new(&world, &state, Epoch::End);
    let mut served: Vec<(u32, f64)> = observation
        .containers(HostId(0))
        .map(|c| (c.id.0, c.served.0))
        .collect();
    served.sort_by_key(|c| c.0);
    for ((_, found), wanted) in served.iter().zip([250.0, 875.0, 875.0]) {
        close(*found, wanted, 1e-12, "rate");
    }
    // For 4 s: 0.625 and 0.125 vCPUs.
    demand_is(&world, &state, 11.0, 3.0);
}

#[test]
fn a_host_that_is_off_leaves_demand_unmet_and_its_containers_come_back() {
    let world = world(
        1,
        "",
        &container("ram_mib = 300", "{ duration_s = 100, vcpus = 1 }"),
    );
    let mut state = State::new(&world);
    let mut future = Future::empty();
    let boundary = |state: &mut State, future: &mut Future<'_>, decision: &Decision| {
        let epoch = state.advance(&world, future, SimTime::NEVER, &mut Silent);
        assert_eq!(epoch, Epoch::Boundary);
        state.apply(&world, decision, &mut Silent);
    };
    let free = |state: &State| Observation::new(&world, state, Epoch::End).ram_free_mib(HostId(0));
    boundary(&mut state, &mut future, &Decision::none());
    close(free(&state), 700.0, 1e-12, "free memory");
    boundary(&mut state, &mut future, &turn(0, false));
    // A container does not keep its host on.
    close(free(&state), 1000.0, 1e-12, "free memory");
    boundary(&mut state, &mut future, &turn(0, true));
    pass(&world, &mut state, &mut future, 30.0);
    // Off from 10 to 20 s, then 3 s of boot: 13 of 30 vCPU-s.
    demand_is(&world, &state, 30.0, 13.0);
    close(free(&state), 700.0, 1e-12, "free memory");
    // Nothing is drawn while it is off, and the idle power while it boots: 10 · 150 + 3 · 100 +
    // 7 · 150.
    let energy_j = Account::of(&world, &state).energy_j;
    close(energy_j, 2850.0, 1e-12, "energy");
}

#[test]
fn a_container_takes_its_memory_before_fragments_that_wait() {
    // 600 of 1,000 MiB are held by the first request when the container starts at 1.5 s.
    let world = world(
        1,
        "",
        &container(
            "ram_mib = 400\nstart_s = 1.5\nstop_s = 3\nshare = \"first\"",
            "{ duration_s = 100, vcpus = 1 }",
        )
        .replace("ram_mib = 400", "ram_mib = 399"),
    );
    let mut state = State::new(&world);
    let arrivals = [arrival(1.0), arrival(1.2)];
    let mut future = Future::new(&arrivals);
    pass(&world, &mut state, &mut future, 1.0);
    for request in [0, 1] {
        let epoch = state.advance(&world, &mut future, seconds(10.0), &mut Silent);
        assert_eq!(epoch, Epoch::Arrival);
        state.apply(&world, &place_on(request, 0), &mut Silent);
    }
    pass(&world, &mut state, &mut future, 10.0);
    // The first has 1,000 MI by 1.5 s, then 1,000 MIPS beside the container: it ends at 2 s. The
    // second runs from 2 s, has 1,000 MI by 3 s, and ends at 3.25 s.
    let qos = qos(&world, &state);
    close(
        qos.response_mean_s,
        f64::midpoint(1.0, 2.05),
        1e-8,
        "response",
    );
    demand_is(&world, &state, 1.5, 0.0);
}

#[test]
fn a_container_that_finds_no_memory_waits_and_holds_up_the_queue() {
    let text = |ram: u32| {
        container(
            &format!("ram_mib = {ram}\nstart_s = 1.5\nshare = \"last\""),
            "{ duration_s = 100, vcpus = 1 }",
        )
    };
    let refused = World::parse(
        &toml_of(&world(1, "", "")).replace("ram_mib = 600.0", "ram_mib = 601.0"),
        "x",
        None,
    );
    assert!(refused.is_ok(), "601 MiB fit without a container");
    // Two requests of 300 MiB beside one of 600: the container has 400 MiB, which is what one
    // request leaves and two do not.
    let whole = world(1, "", &text(400));
    let narrow = toml_of(&whole).replace("ram_mib = 600.0", "ram_mib = 310.0");
    let world = World::parse(&narrow, "narrow.toml", None).expect("it is valid");
    let mut state = State::new(&world);
    let arrivals = [arrival(1.0), arrival(1.2), arrival(1.6)];
    let mut future = Future::new(&arrivals);
    pass(&world, &mut state, &mut future, 1.0);
    for request in 0..3 {
        let epoch = state.advance(&world, &mut future, seconds(10.0), &mut Silent);
        assert_eq!(epoch, Epoch::Arrival);
        state.apply(&world, &place_on(request, 0), &mut Silent);
    }
    // At 1.6 s, 620 MiB are held and the container waits for 400: 380 are free, which the third
    // request (310) would fit into, but it comes after the container.
    let observation = Observation::new(&world, &state, Epoch::End);
    assert!(observation.containers(HostId(0)).all(|c| c.waits));
    assert_eq!(observation.queued_count(HostId(0)), 1);
    let view = observation.view();
    let rebuilt = State::from_view(&world, &view).expect("the view is one of this world");
    assert_eq!(Observation::new(&world, &rebuilt, view.epoch).view(), view);
    // 2,000 MIPS from 1.0 to 1.2 s for the first (400 MI), then 1,000 each: it ends at 2.3 s.
    pass(&world, &mut state, &mut future, 2.3 + 1e-6);
    let observation = Observation::new(&world, &state, Epoch::End);
    assert!(observation.containers(HostId(0)).all(|c| !c.waits));
    assert_eq!(observation.queued_count(HostId(0)), 1);
    close(
        qos(&world, &state).containers.unmet_vcpu_s,
        0.8,
        1e-5,
        "unmet while it waits",
    );
}

fn toml_of(world: &World) -> String {
    toml::to_string(world.file.as_ref()).expect("a world file can be written")
}

#[test]
fn demand_repeats_and_stops() {
    let steps = "{ duration_s = 2, vcpus = 1 }, { duration_s = 3, vcpus = 0 }";
    let repeated =
        container("start_s = 1\nstop_s = 12", steps).replace("] }", "], repeat = true }");
    let world = world(1, "", &repeated);
    let mut state = State::new(&world);
    let snapshots: Vec<f64> = [4.0, 11.5, 40.0]
        .into_iter()
        .map(|until| {
            pass(&world, &mut state, &mut Future::empty(), until);
            qos(&world, &state).containers.demanded_vcpu_s
        })
        .collect();
    // Busy from 1 to 3, 6 to 8 and 11 to 12 s.
    for (found, wanted) in snapshots.iter().zip([2.0, 4.5, 5.0]) {
        close(*found, wanted, 1e-9, "demanded");
    }
    // A state that is made of what is seen at any time is at the same place of the demand.
    for until in [0.5, 1.0, 2.0, 3.0, 7.5, 10.999, 11.0, 20.0] {
        let mut state = State::new(&world);
        pass(&world, &mut state, &mut Future::empty(), until);
        let view = Observation::new(&world, &state, Epoch::End).view();
        let mut rebuilt = State::from_view(&world, &view).expect("it is a view of this world");
        let before = [qos(&world, &state), qos(&world, &rebuilt)];
        pass(&world, &mut state, &mut Future::empty(), 30.0);
        pass(&world, &mut rebuilt, &mut Future::empty(), 30.0);
        let gained = |state: &State, before: &Qos| {
            qos(&world, state).containers.demanded_vcpu_s - before.containers.demanded_vcpu_s
        };
        let (a, b) = (gained(&state, &before[0]), gained(&rebuilt, &before[1]));
        assert!((a - b).abs() < 1e-9, "from {until} s: {a}, then {b}");
    }
}

#[test]
fn crashes_leave_demand_unmet() {
    let faults = "faults = { crash_every_s = 9, restart_s = 2 }";
    let world = world(
        1,
        faults,
        &container("", "{ duration_s = 1000, vcpus = 1 }"),
    );
    let mut state = State::seeded(&world, 4);
    pass(&world, &mut state, &mut Future::empty(), 400.0);
    let qos = qos(&world, &state);
    let crashes = qos.incidents.host_crashes as f64;
    assert!(crashes > 10.0, "{crashes}");
    // Each takes 2 s, of which the last may be cut off.
    let unmet = qos.containers.unmet_vcpu_s;
    assert!(
        unmet <= 2.0 * crashes + 1e-6 && unmet > 2.0 * (crashes - 1.0),
        "{unmet}"
    );
}

#[test]
fn a_sampled_future_reads_nothing_that_has_not_begun() {
    // Two worlds that differ in what comes after 20 s.
    let steps = |later: &str| {
        let mut text = String::new();
        for k in 0..10 {
            text += &format!("{{ duration_s = 2, vcpus = {} }}, ", 0.1 * f64::from(k % 4));
        }
        text + &format!("{{ duration_s = 60, vcpus = {later} }}")
    };
    let [a, b] = ["0", "2"].map(|later| world(1, "", &container("", &steps(later))));
    let futures = |world: &World, key: u64| {
        let mut state = State::new(world);
        pass(world, &mut state, &mut Future::empty(), 19.0);
        let mut sampled = state.clone();
        Observation::new(world, &state, Epoch::End).sample_into(&mut sampled, key);
        let before = qos(world, &sampled).containers.demanded_vcpu_s;
        pass(world, &mut sampled, &mut Future::empty(), 60.0);
        qos(world, &sampled).containers.demanded_vcpu_s - before
    };
    let mut seen = std::collections::BTreeSet::new();
    for key in 0..20 {
        let (one, other) = (futures(&a, key), futures(&b, key));
        assert_eq!(
            one.to_bits(),
            other.to_bits(),
            "key {key}: {one}, then {other}"
        );
        // The history holds 0 to 0.3 vCPUs.
        assert!((0.0..=0.3 * 41.0).contains(&one), "{one}");
        seen.insert(one.to_bits());
    }
    assert!(seen.len() > 2, "futures differ");
}

#[test]
fn runs_with_containers_are_the_same_bytes_every_time_and_through_snapshots() {
    let many = container(
        "count = 3\nram_mib = 50",
        "{ duration_s = 7, vcpus = 0.4 }, { duration_s = 4, vcpus = 1.9 }",
    )
    .replace("] }", "], repeat = true }");
    let mut file = (*world(3, "", &many).file).clone();
    file.workload = WorkloadFile::Poisson { rate_per_s: 0.8 };
    let world = World::resolve(file, "busy.toml", None).expect("it is valid");
    let hosts: Vec<u32> = world.containers.list().iter().map(|c| c.host.0).collect();
    assert_eq!(hosts, [0, 1, 2], "the least reserved");
    let run = || {
        let mut greedy = policy::by_name("greedy", &world, 1).expect("it is listed");
        let run = simulate::run(&world, greedy.as_mut(), &Options::new(5)).expect("it decides");
        assert!(run.qos.requests_completed > 10 && run.qos.containers.unmet_vcpu_s > 0.0);
        snapshot::encode(&run.state)
    };
    assert_eq!(run(), run());
}

/// What is wrong with a world that has `containers`.
#[track_caller]
fn check_refused(containers: &str, expected: &str) {
    let text = format!("{}{containers}", toml_of(&world(2, "", "")));
    let error = World::parse(&text, "w.toml", None).expect_err("it is wrong");
    assert_eq!(error.to_string(), format!("w.toml: {expected}"));
}

#[test]
fn errors_name_the_field_and_the_way_out() {
    let good = container("host = \"two-here-02\"", "{ duration_s = 1, vcpus = 1 }");
    check_refused(
        &good.replace("two-here-02", "two-here-03"),
        "containers[0].host: unknown host \"two-here-03\", did you mean \"two-here-02\"?",
    );
    check_refused(
        &good.replace("vcpus = 2", "vcpus = 0"),
        "containers[0].vcpus: must be finite and above zero, found 0",
    );
    check_refused(
        &good.replace("vcpus = 2", "vcpus = 2\nstart_s = 5\nstop_s = 5"),
        "containers[0].stop_s: must be after start_s = 5, found 5",
    );
    check_refused(
        &good.replace("vcpus = 2", "vcpus = 2\nplacement = \"first-fit\""),
        "containers[0].placement: has no meaning where host is given; leave one of them out",
    );
    check_refused(
        &good.replace("vcpus = 2", "vcpus = 2\nram_mib = 2000"),
        "containers: hold 2000 MiB on host \"two-here-02\", which has 1000",
    );
    check_refused(
        &good
            .replace("host = \"two-here-02\"", "placement = \"first-fit\"")
            .replace("vcpus = 2", "vcpus = 3"),
        "containers[0].placement: no host has 0 MiB and 3 vCPUs left for it",
    );
    check_refused(
        &good.replace("duration_s = 1", "duration_s = 1e-6"),
        "containers[0].demand: step 0 lasts 0.000001000 s; at least 0.001000000 s are needed",
    );
    check_refused(
        &good.replace("vcpus = 1 }", "vcpus = 1e9 }"),
        "containers[0].demand: step 0 wants 1000000000000 MIPS; at most 1000000 are possible",
    );
    check_refused(
        &(good.clone() + &good),
        "containers[1].name: \"c\" is already taken; give it another name",
    );
    check_refused(
        &(good.replace("\"c\"", "\"c-01\"") + &good.replace("\"c\"", "\"c\"\ncount = 2")),
        "containers: two are called \"c-01\"; give one another name",
    );
    let read = "[[containers]]\nname = \"c\"\nvcpus = 1\ndemand = { kind = \"columns\", file = \"x.csv\", column = \"a\" }\n";
    check_refused(
        read,
        "containers[0].demand.file: no file \"x.csv\" is part of the program",
    );
}

#[test]
fn demand_is_read_from_tables_and_recordings() {
    let folder = tempfile::tempdir().expect("a folder");
    let write = |name: &str, text: &str| {
        std::fs::write(folder.path().join(name), text).expect("written");
    };
    write("cpu.csv", "time_s,vm000,vm001\n0,50,100\n300,25,\n");
    write(
        "recording.toml",
        "kind = \"containers\"\nname = \"r\"\nsource = \"made up\"\nbin_s = 10\n\
         placement = \"least-reserved\"\n[hosts]\ncount = 1\ncores = 2\ncore_mhz = 500\n",
    );
    write(
        "jobs.csv",
        "job,start_ms,duration_ms,reserved_mhz\n4,7000,20000,1000\n9,5000,10000,100\n",
    );
    write(
        "demand.csv",
        "job,duration_ms,cpu_mhz\n4,10000,100\n4,10000,750\n9,10000,40\n",
    );
    let group = |name: &str, demand: &str| {
        format!("[[containers]]\nname = \"{name}\"\ncount = 2\nvcpus = 0.5\ndemand = {demand}\n")
    };
    let containers = group(
        "t",
        "{ kind = \"columns\", file = \"cpu.csv\", column = \"vm000\" }",
    ) + &group("r", "{ kind = \"recording\", folder = \".\", job = 4 }");
    let parse = |containers: &str| {
        let text = format!("{}{containers}", toml_of(&world(2, "", "")));
        World::parse(&text, "w.toml", Some(folder.path()))
    };
    let world = parse(&containers).expect("the files are good");
    let demands: Vec<Vec<(f64, f64)>> = world
        .containers
        .list()
        .iter()
        .map(|c| {
            let steps = c.demand.steps().iter();
            steps
                .map(|s| (s.until.seconds(), s.rate.mhz() / 1000.0))
                .collect()
        })
        .collect();
    // Of half a virtual CPU: 50 and 25 %, then 100 % of a column that ends; 100 and 750 of 1,000
    // MHz, then 40 of 100.
    assert_eq!(
        demands,
        [
            vec![(300.0, 0.25), (600.0, 0.125)],
            vec![(300.0, 0.5)],
            vec![(10.0, 0.05), (20.0, 0.375)],
            vec![(10.0, 0.2)],
        ]
    );
    // What is read is part of the world.
    write("cpu.csv", "time_s,vm000,vm001\n0,50,100\n300,26,\n");
    assert_ne!(parse(&containers).expect("it is good").hash, world.hash);
    let error = parse(&containers.replace("vm000", "vm001")).expect_err("there is no third");
    assert_eq!(
        error.to_string(),
        "w.toml: containers[0].demand.column: only 1 from there on; lower count"
    );
    let error = parse(&containers.replace("job = 4", "job = 5")).expect_err("there is no job 5");
    assert_eq!(
        error.to_string(),
        "w.toml: containers[1].demand.job: . has no job 5"
    );
}
