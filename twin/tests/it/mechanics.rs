//! Credits, speeds, models, faults, rejection and greenhouse gas, against arithmetic by hand.

use twin::decision::{Decision, Deployment, PowerAction};
use twin::faults::Incidents;
use twin::ids::{ApplicationId, HostId, VariantId};
use twin::observation::Observation;
use twin::qos::{Qos, ResponseTimes};
use twin::snapshot;
use twin::state::{Epoch, Future, State};
use twin::units::SimTime;
use twin::wire::DecisionRequest;
use twin::workload::Arrival;
use twin::world::World;

/// Two sites of one host each, of 2 vCPUs of 1000 MIPS; `size`, `fragment` and `top` add keys.
fn world(size: &str, fragment: &str, top: &str) -> World {
    let text = format!(
        r#"
        schema = 1
        name = "mechanics"
        description = "Two hosts."
        interval_s = 10
        episode_intervals = 100
        {top}
        [objective]
        reference_power_w = 100
        reference_cost_usd_per_hour = 1
        reference_response_s = 1
        reference_rate_per_s = 1
        reference_carbon_g_per_hour = 10
        weights = {{ energy = 1, cost = 1, response = 1, sla = 1, accuracy = 1, carbon = 2 }}
        [workload]
        kind = "poisson"
        rate_per_s = 0.01
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
        bandwidth_mbps = 8.192
        [[sizes]]
        name = "two"
        vcpus = 2
        mips_per_vcpu = 1000
        ram_mib = 1000
        network_mbps = 1000
        power_w = [100, 110, 120, 130, 140, 150, 160, 170, 180, 190, 200]
        price_usd_per_hour = {{ here = 0.1, there = 0.1 }}
        boot_s = 30
        {size}
        [[hosts]]
        size = "two"
        site = "here"
        count = 1
        [[hosts]]
        size = "two"
        site = "there"
        count = 1
        [[applications]]
        name = "app"
        deadline_s = 60
        [[applications.variants]]
        name = "whole"
        accuracy = 1
        fragments = [{{ name = "one", work_mi = {{ kind = "constant", value = 60000 }}, max_vcpus = 2, ram_mib = 400 {fragment} }}]
        [[applications.variants]]
        name = "chain"
        accuracy = 1
        fragments = [
          {{ name = "one", work_mi = {{ kind = "constant", value = 2000 }}, max_vcpus = 2, ram_mib = 100, output_kib = 10000 }},
          {{ name = "two", after = ["one"], work_mi = {{ kind = "constant", value = 2000 }}, max_vcpus = 2, ram_mib = 100 }},
        ]
        "#
    );
    World::parse(&text, "mechanics.toml", None).expect("the world is valid")
}

/// Requests at `times_s`, each deployed on arrival as variant `variant` on `hosts`, until `until_s`.
fn run(
    world: &World,
    seed: u64,
    times_s: &[f64],
    (variant, hosts): (u16, &[u32]),
    until_s: f64,
) -> (State, Qos) {
    let arrivals: Vec<Arrival> = times_s
        .iter()
        .map(|&t| Arrival {
            time: SimTime::from_seconds(t),
            application: ApplicationId(0),
            context_tokens: 0,
            generated_tokens: 0,
            key: 0,
        })
        .collect();
    let mut state = State::seeded(world, seed);
    let mut responses = ResponseTimes::default();
    go(
        world,
        &mut state,
        &arrivals,
        (variant, hosts),
        until_s,
        &mut responses,
    );
    let qos = Qos::of(world, &state, &mut responses);
    (state, qos)
}

fn go(
    world: &World,
    state: &mut State,
    arrivals: &[Arrival],
    (variant, hosts): (u16, &[u32]),
    until_s: f64,
    responses: &mut ResponseTimes,
) {
    let mut future = Future::new(arrivals);
    loop {
        let epoch = state.advance(
            world,
            &mut future,
            SimTime::from_seconds(until_s),
            responses,
        );
        if epoch == Epoch::End {
            return;
        }
        let mut decision = Decision::none();
        let observation = Observation::new(world, state, epoch);
        for request in observation.waiting() {
            decision.deployments.push(Deployment {
                request: request.id,
                variant: VariantId(variant),
                hosts: hosts.iter().map(|&h| HostId(h)).collect(),
            });
        }
        twin::checker::check(&observation, &decision).expect("the hosts accept fragments");
        state.apply(world, &decision, responses);
    }
}

fn close(found: f64, wanted: f64) {
    assert!(
        (found - wanted).abs() < 1e-6 * wanted.abs().max(1.0),
        "{found} {wanted}"
    );
}

#[test]
fn spent_credits_hold_a_host_to_its_base() {
    // 60,000 MI on two vCPUs of 1000 MIPS: 30 s. Credits: 24 an hour is a base of 0.4 vCPUs; full
    // use spends (2 − 0.4) / 60 a second, so 0.4 credits last 15 s, after which 30,000 MI are left.
    // At 0.4 vCPUs, 400 MIPS, they take 75 s: 90 s in all.
    let world = world(
        "credits = { initial = 0.4, per_hour = 24, maximum = 576 }",
        "",
        "",
    );
    let (_, qos) = run(&world, 0, &[0.0], (0, &[0]), 100.0);
    close(qos.response_mean_s, 90.0);
    close(qos.throttled_s, 75.0);
    // Energy: 15 s at 200 W, 75 s at utilization 0.2, 120 W, 10 s idle at 100 W; the other host idles.
    close(
        qos.energy_wh * 3600.0,
        15.0 * 200.0 + 75.0 * 120.0 + 10.0 * 100.0 + 100.0 * 100.0,
    );
}

#[test]
fn credits_come_back_while_a_host_idles() {
    // As above, but the request comes after 150 s, in which 150 · 0.4 / 60 = 1 credit is earned:
    // 1.4 credits last 52.5 s at full use, longer than the 30 s that are needed.
    let world = world(
        "credits = { initial = 0.4, per_hour = 24, maximum = 576 }",
        "",
        "",
    );
    let (_, qos) = run(&world, 0, &[150.0], (0, &[0]), 200.0);
    close(qos.response_mean_s, 30.0);
    close(qos.throttled_s, 0.0);
}

#[test]
fn greenhouse_gas_is_energy_times_the_grid_factor() {
    // Only the grid of "here" is known: 100 W for 100 s are 10 kJ, at 360 g/kWh 1 g.
    let world = world("", "", "");
    let (_, qos) = run(&world, 0, &[], (0, &[0]), 100.0);
    close(qos.carbon_g, 1.0);
    // Penalty per second: 200 W of 100, 0.2 USD/h of 1, and twice 36 g/h of 10.
    close(qos.objective, -(2.0 + 0.2 + 2.0 * 3.6));
}

#[test]
fn vms_of_a_recorded_size_differ_and_keep_their_speed() {
    let world = world("speed = \"B8ms/eastus\"", "", "");
    let responses: Vec<f64> = (0..40)
        .map(|seed| {
            run(&world, seed, &[0.0], (0, &[0]), 100.0)
                .1
                .response_mean_s
        })
        .collect();
    // 30 s at the median speed; the classes are at 0.83, 1 and 2.08 of it.
    assert!(responses.iter().any(|r| *r > 33.0), "{responses:?}");
    assert!(
        responses.iter().any(|r| (29.0..31.0).contains(r)),
        "{responses:?}"
    );
    let twice = |seed| run(&world, seed, &[0.0], (0, &[0]), 100.0).1;
    assert_eq!(twice(3), twice(3));
}

#[test]
fn a_model_is_loaded_once_and_stays_until_memory_is_needed() {
    let models = "models = [{ name = \"net\", ram_mib = 500, load_s = 7 }]";
    let world = world("", ", model = \"net\"", models);
    // Cold: 7 s to load, then 30 s; the second request, at 50 s, finds the model there.
    let (state, qos) = run(&world, 0, &[0.0, 50.0], (0, &[0]), 100.0);
    close(qos.response_mean_s, (37.0 + 30.0) / 2.0);
    assert_eq!(qos.incidents.cold_starts, 1);
    // 1000 MiB less the model's 500.
    let observation = Observation::new(&world, &state, Epoch::Boundary);
    close(observation.ram_free_mib(HostId(0)), 500.0);
    // A second fragment of 400 MiB beside the first does not fit, since the model is in use.
    let (_, qos) = run(&world, 0, &[0.0, 1.0], (0, &[0]), 100.0);
    close(qos.response_mean_s, (37.0 + 66.0) / 2.0);
}

#[test]
fn a_fragment_that_waits_for_its_model_survives_bytes_and_the_wire() {
    let models = "models = [{ name = \"net\", ram_mib = 500, load_s = 7 }]";
    let world = world("", ", model = \"net\"", models);
    let (state, _) = run(&world, 0, &[2.0], (0, &[0]), 5.0);
    let mut copy = snapshot::decode(&snapshot::encode(&state)).expect("a snapshot");
    let view = Observation::new(&world, &state, Epoch::Boundary).view();
    assert_eq!(view.hosts[0].models.len(), 1);
    let json =
        serde_json::to_vec(&DecisionRequest::from_view(&world, &view)).expect("it is written");
    let read = DecisionRequest::from_json(&json).expect("it is read");
    let mut wired = State::from_view(&world, &read.to_view(&world).expect("it fits the world"))
        .expect("it is a state");
    for state in [&mut copy, &mut wired] {
        let mut responses = ResponseTimes::default();
        go(&world, state, &[], (0, &[0]), 60.0, &mut responses);
        // Arrival at 2, 7 s to load, 30 s of work.
        close(responses.quantile(0.5), 37.0);
    }
}

#[test]
fn a_crash_sends_requests_back_to_wait() {
    let faults = "faults = { crash_every_s = 20, restart_s = 5 }";
    let world = world("", "", faults);
    let (state, qos) = run(&world, 1, &[0.0, 100.0, 200.0], (0, &[0]), 990.0);
    let Incidents {
        host_crashes,
        requests_withdrawn,
        ..
    } = qos.incidents;
    // 990 s on two hosts with a crash every 25 s or so.
    assert!((40..120).contains(&host_crashes), "{host_crashes}");
    assert!(requests_withdrawn > 0);
    assert_eq!(
        qos.requests_arrived,
        qos.requests_completed + qos.requests_unfinished
    );
    // What was held for the lost is free again.
    let observation = Observation::new(&world, &state, Epoch::Boundary);
    close(observation.ram_free_mib(HostId(1)), 1000.0);
    // The same seed crashes at the same times; another seed at others.
    assert_eq!(
        run(&world, 1, &[0.0, 100.0, 200.0], (0, &[0]), 990.0).1,
        qos
    );
    assert_ne!(
        run(&world, 2, &[0.0, 100.0, 200.0], (0, &[0]), 990.0).1,
        qos
    );
}

#[test]
fn faults_do_not_depend_on_decisions() {
    let faults = "faults = { crash_every_s = 50, restart_s = 5, slow_every_s = 40, slow_for_s = 10, slow_factor = 0.5, link_down_every_s = 60, link_down_for_s = 5 }";
    let world = world("", "", faults);
    let idle = run(&world, 4, &[], (0, &[0]), 900.0).1.incidents;
    let busy = run(&world, 4, &[0.0, 10.0, 20.0, 30.0, 300.0], (0, &[1]), 900.0)
        .1
        .incidents;
    assert!(idle.host_crashes > 0 && idle.slow_spells > 0 && idle.link_failures > 0);
    assert_eq!(
        (idle.host_crashes, idle.slow_spells, idle.link_failures),
        (busy.host_crashes, busy.slow_spells, busy.link_failures)
    );
}

#[test]
fn a_slow_host_takes_longer() {
    // Slow all the time but for the gaps between spells, at half the speed: between 30 and 60 s.
    let faults = "faults = { slow_every_s = 0.001, slow_for_s = 1000, slow_factor = 0.5 }";
    let world = world("", "", faults);
    let (_, qos) = run(&world, 1, &[0.0], (0, &[0]), 100.0);
    assert!(
        (59.9..60.0).contains(&qos.response_mean_s),
        "{}",
        qos.response_mean_s
    );
}

#[test]
fn slow_spells_do_not_overlap() {
    // Two hosts, up to 900 s: a spell of 10 s follows 5 s after the one before, on average, so that
    // each host has some 60.
    let faults = "faults = { slow_every_s = 5, slow_for_s = 10, slow_factor = 0.5 }";
    let world = world("", "", faults);
    let spells = run(&world, 1, &[], (0, &[0]), 900.0)
        .1
        .incidents
        .slow_spells;
    assert!((100..=140).contains(&spells), "{spells}");
    // Half speed two thirds of the time: 60,000 MI at 2000 MIPS take 30 s / (1/3 + 1/3) = 45 s.
    let times_s: Vec<f64> = (0..12).map(|k| 70.0 * f64::from(k)).collect();
    let (_, qos) = run(&world, 1, &times_s, (0, &[0]), 900.0);
    assert!(
        (40.0..50.0).contains(&qos.response_mean_s),
        "{}",
        qos.response_mean_s
    );
}

#[test]
fn transfers_stand_still_while_a_link_is_down() {
    // 10,000 KiB at 8.192 Mbit/s take 10 s; work takes 1 s before and 1 s after: 12 s. A link is up for
    // 0.5 s on average and then down for 20 s, so that the transfer meets 20 failures, give or take
    // 4.5: 400 s, and half a failure more or less where it starts.
    let faults = "faults = { link_down_every_s = 0.5, link_down_for_s = 20 }";
    let (broken, whole) = (world("", "", faults), world("", "", ""));
    close(
        run(&whole, 1, &[0.0], (1, &[0, 1]), 900.0)
            .1
            .response_mean_s,
        12.0,
    );
    let (_, qos) = run(&broken, 1, &[0.0], (1, &[0, 1]), 900.0);
    assert_eq!(qos.requests_completed, 1);
    let waited_s = qos.response_mean_s - 12.0;
    assert!((220.0..600.0).contains(&waited_s), "{waited_s}");
    // Failures of one link do not overlap: each of two takes some 20.5 s.
    let failures = qos.incidents.link_failures;
    assert!((78..=98).contains(&failures), "{failures}");
}

#[test]
fn a_host_that_finds_no_room_is_off_again() {
    let faults = "faults = { allocation_failure = 0.5 }";
    let world = world("", "", faults);
    let mut failed = 0;
    for seed in 0..60 {
        let mut state = State::seeded(&world, seed);
        let end = SimTime::from_seconds(100.0);
        for on in [false, true] {
            assert_eq!(
                state.advance(&world, &mut Future::empty(), end, &mut twin::sink::Silent),
                Epoch::Boundary
            );
            let host = HostId(0);
            let decision = Decision {
                provisioning: vec![PowerAction { host, on }],
                ..Decision::none()
            };
            state.apply(&world, &decision, &mut twin::sink::Silent);
        }
        go(
            &world,
            &mut state,
            &[],
            (0, &[0]),
            100.0,
            &mut ResponseTimes::default(),
        );
        let qos = Qos::of(&world, &state, &mut ResponseTimes::default());
        failed += qos.incidents.allocation_failures;
    }
    // 60 tries at one half: 30 with a standard deviation of 3.9.
    assert!((18..=42).contains(&failed), "{failed}");
}

#[test]
fn worlds_with_impossible_mechanics_are_refused() {
    let refused = |size: &str, fragment: &str, top: &str| {
        let whole = world("", "", "");
        let mut file = (*whole.file).clone();
        let extra = format!("{top}\n[[sizes]]\n{size}\n[fragment]\n{fragment}");
        let table: toml::Table = extra.parse().expect("the test writes TOML");
        if let Some(faults) = table.get("faults") {
            file.faults = Some(faults.clone().try_into().expect("keys of faults"));
        }
        if let Some(most) = table.get("max_active_requests") {
            file.max_active_requests = Some(most.clone().try_into().expect("a number"));
        }
        let keys = &table["sizes"][0];
        if let Some(credits) = keys.get("credits") {
            file.sizes[0].credits = Some(credits.clone().try_into().expect("keys of credits"));
        }
        if let Some(speed) = keys.get("speed") {
            file.sizes[0].speed = Some(speed.clone().try_into().expect("a name"));
        }
        if let Some(model) = table["fragment"].get("model") {
            file.applications[0].variants[0].fragments[0].model =
                Some(model.clone().try_into().expect("a name"));
        }
        World::resolve(file, "w", None)
            .expect_err("it is impossible")
            .to_string()
    };
    assert_eq!(
        refused("", "model = \"net\"", ""),
        "w: applications[0].variants[0].fragments[0].model: unknown model \"net\""
    );
    assert_eq!(
        refused("", "", "faults = { allocation_failure = 1 }"),
        "w: faults.allocation_failure: must be from 0 to below 1, found 1"
    );
    assert_eq!(
        refused("", "", "faults = { crash_every_s = 0 }"),
        "w: faults.crash_every_s: must be finite and above zero, found 0"
    );
    assert_eq!(
        refused("", "", "max_active_requests = 0"),
        "w: max_active_requests: must be at least 1; leave it out for no limit"
    );
    let credits = refused(
        "credits = { initial = 9, per_hour = 24, maximum = 8 }",
        "",
        "",
    );
    assert!(
        credits.starts_with("w: sizes[0].credits: initial: 9 credits"),
        "{credits}"
    );
    let speed = refused("speed = \"B8ms/eastu\"", "", "");
    assert!(speed.contains("did you mean \"B8ms/eastus\"?"), "{speed}");
}
