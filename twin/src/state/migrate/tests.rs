//! Migrations in the mechanics: against hand-computed figures, against the protocol alone, and
//! against what must hold whatever happens.

use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;

use super::*;
use crate::checker::{self, Immovable, Infeasible};
use crate::decision::{Decision, Deployment, PowerAction};
use crate::faults::Incident;
use crate::host::Lifecycle;
use crate::ids::VariantId;
use crate::migration::{Migration, Report, Step};
use crate::observation::Observation;
use crate::sink::Silent;
use crate::state::{Epoch, Future};
use crate::stream;
use crate::workload::{Arrival, Split};

/// Bits of 1,000 MiB over 1 Gbit/s: 1000 · 2²⁰ · 8 / 10⁹ s.
const COPY_S: f64 = 8.388_608;

/// A world of three hosts of one vCPU of 1,000 MIPS and a network of 1 Gbit/s; requests of one
/// fragment of 1,000 MiB that runs for 20 s alone.
fn world(migration: &str, more: &str) -> World {
    let text = format!(
        r#"
schema = 1
name = "three"
description = "Three hosts."
interval_s = 1000
episode_intervals = 1
[objective]
reference_power_w = 100
reference_cost_usd_per_hour = 1
reference_response_s = 1
reference_rate_per_s = 1
[objective.weights]
energy = 1
cost = 1
response = 1
sla = 1
accuracy = 1
[workload]
kind = "poisson"
rate_per_s = 0.01
[migration]
{migration}
[[sites]]
name = "here"
user_latency_ms = 0
[[sizes]]
name = "one"
vcpus = 1
mips_per_vcpu = 1000
ram_mib = 2500
network_mbps = 1000
power_w = [100, 110, 120, 130, 140, 150, 160, 170, 180, 190, 200]
price_usd_per_hour = {{ here = 0.36 }}
boot_s = 7
[[hosts]]
size = "one"
site = "here"
count = 3
initially_on = 3
[[applications]]
name = "app"
deadline_s = 60
[[applications.variants]]
name = "whole"
accuracy = 0.9
fragments = [{{ name = "part", work_mi = {{ kind = "constant", value = 20000 }}, max_vcpus = 1, ram_mib = 1000{more} }}]
"#
    );
    World::parse(&text, "three.toml", None).expect("the world is valid")
}

/// What was told of migrations, and when fragments ended.
#[derive(Default)]
struct Log {
    started: u32,
    ended: Vec<(f64, Course, Outcome, Report)>,
    done: Vec<(f64, HostId)>,
    lifecycles: Vec<(f64, HostId, Lifecycle)>,
    withdrawn: BTreeSet<RequestId>,
}

impl Sink for Log {
    fn migration_started(&mut self, _: SimTime, _: &Course) {
        self.started += 1;
    }
    fn migration_ended(&mut self, now: SimTime, course: &Course, outcome: Outcome, r: &Report) {
        self.ended.push((now.seconds(), *course, outcome, *r));
    }
    fn fragment_done(&mut self, now: SimTime, _: RequestId, _: usize, host: HostId) {
        self.done.push((now.seconds(), host));
    }
    fn lifecycle(&mut self, now: SimTime, host: HostId, lifecycle: Lifecycle) {
        self.lifecycles.push((now.seconds(), host, lifecycle));
    }
    fn incident(&mut self, _: SimTime, incident: &Incident) {
        if let Incident::Withdrawn { request } = *incident {
            self.withdrawn.insert(request);
        }
    }
}

/// A run by hand.
struct Hand {
    world: World,
    state: State,
    log: Log,
}

impl Hand {
    /// One request a host of `hosts`, all placed at time zero.
    fn new(world: World, hosts: &[u32]) -> Self {
        let mut state = State::new(&world);
        let mut log = Log::default();
        let boundary = state.advance(&world, &mut Future::empty(), SimTime(1), &mut log);
        assert_eq!(boundary, Epoch::Boundary);
        for &host in hosts {
            let arrival = Arrival {
                time: SimTime::ZERO,
                application: crate::ids::ApplicationId(0),
                context_tokens: 0,
                generated_tokens: 0,
                key: 7,
            };
            let request = RequestId(state.next_request);
            state.arrive(&world, arrival, &mut log);
            let decision = Decision {
                deployments: vec![Deployment {
                    request,
                    variant: VariantId(0),
                    hosts: vec![HostId(host)],
                }],
                ..Decision::default()
            };
            state.apply(&world, &decision, &mut log);
        }
        Self { world, state, log }
    }

    fn until(&mut self, seconds: f64) {
        let until = SimTime::from_seconds(seconds);
        while self
            .state
            .advance(&self.world, &mut Future::empty(), until, &mut self.log)
            != Epoch::End
        {}
    }

    fn order(&mut self, request: u64, to: u32, strategy: StrategyKind) {
        let decision = Decision {
            migrations: vec![decision::Migration {
                request: RequestId(request),
                fragment: 0,
                to: HostId(to),
                strategy: Some(strategy),
            }],
            ..Decision::default()
        };
        let observation = Observation::new(&self.world, &self.state, Epoch::Arrival);
        assert_eq!(checker::check(&observation, &decision), Ok(()));
        self.state.apply(&self.world, &decision, &mut self.log);
    }

    fn power(&mut self, host: u32, on: bool) {
        let host = HostId(host);
        self.state
            .power(&self.world, PowerAction { host, on }, &mut self.log);
    }

    fn ram_free(&self, host: usize) -> f64 {
        self.state.hosts[host].ram_free_mib
    }

    /// All memory is free and nothing is under way.
    fn check_empty(&self) {
        for (h, host) in self.state.hosts.iter().enumerate() {
            assert_eq!((host.holds, host.resident.len()), (0, 0), "host {h}");
            assert!(close(host.ram_free_mib, host.ram_mib), "host {h}");
        }
        assert!(self.state.active.is_empty() && self.state.migrations.is_empty());
    }
}

fn close(a: f64, b: f64) -> bool {
    (a - b).abs() < 1e-6
}

#[test]
fn stop_and_copy_pauses_for_as_long_as_the_memory_takes() {
    let mut hand = Hand::new(world("", ""), &[0]);
    hand.until(5.0);
    hand.order(0, 1, StrategyKind::StopAndCopy);
    // Memory is held at both ends while it is copied.
    hand.until(6.0);
    assert!(close(hand.ram_free(0), 1500.0) && close(hand.ram_free(1), 1500.0));
    assert!(close(hand.state.hosts[0].utilization, 0.0));
    hand.until(14.0);
    assert!(close(hand.ram_free(0), 2500.0) && close(hand.ram_free(1), 1500.0));
    assert!(close(hand.state.hosts[1].utilization, 1.0));
    hand.until(100.0);
    // 20 s of work, and 8.388608 s in which it was paused.
    let (done_s, at) = hand.log.done[0];
    assert!(close(done_s, 20.0 + COPY_S), "{done_s}");
    assert_eq!(at, HostId(1));
    let (ended_s, _, outcome, report) = hand.log.ended[0];
    assert!(close(ended_s, 5.0 + COPY_S));
    assert_eq!((hand.log.started, outcome), (1, Outcome::Succeeded));
    assert!(close(report.total_s, COPY_S) && close(report.downtime_s, COPY_S));
    assert!(close(report.bytes().0, 1000.0));
    let totals = hand.state.migration_totals();
    assert_eq!(
        (totals.completed, totals.failed, totals.canceled),
        (1, 0, 0)
    );
    assert!(close(totals.sent_mib, 1000.0) && close(totals.downtime_s, COPY_S));
    hand.check_empty();
}

#[test]
fn two_migrations_share_the_network_of_their_source() {
    let mut hand = Hand::new(world("", ""), &[0, 0]);
    hand.until(5.0);
    hand.order(0, 1, StrategyKind::StopAndCopy);
    hand.order(1, 2, StrategyKind::StopAndCopy);
    hand.until(200.0);
    // Each gets half of the egress of host 0, for twice as long.
    for (_, _, outcome, report) in &hand.log.ended {
        assert_eq!(*outcome, Outcome::Succeeded);
        assert!(close(report.downtime_s, 2.0 * COPY_S), "{report:?}");
    }
    // Two fragments share one vCPU for 5 s: 2.5 s of work each, then 17.5 s alone.
    for (done_s, _) in &hand.log.done {
        assert!(close(*done_s, 5.0 + 2.0 * COPY_S + 17.5), "{done_s}");
    }
    hand.check_empty();
}

/// Every strategy with everything that it knows, alone on the network: as the protocol says.
#[test]
fn alone_on_the_network_a_migration_is_what_its_protocol_says() {
    let migration = "
downtime_limit_ms = 500
state_mib = 3
image_mib = 40
dump_ms = 30
restore_ms = 20
verify_ms = 10
resume_ms = 5
";
    let writes = ", dirty_mib_per_s = 25, working_set_mib = 300";
    for strategy in StrategyKind::ALL {
        let mut hand = Hand::new(world(migration, writes), &[0]);
        hand.until(2.0);
        hand.order(0, 1, strategy);
        hand.until(100.0);
        let fragment = &hand.world.applications[0].variants[0].fragments[0];
        let ends = (HostId(0), HostId(1));
        let settings = &hand.world.migration;
        let spec = settings.spec(&hand.world, fragment, ends, strategy);
        let expected = Migration::run_at(spec, nominal_bandwidth(&hand.world, ends));
        let expected = expected.expect("the specification is valid");
        let (_, _, outcome, report) = hand.log.ended[0];
        assert_eq!(outcome, Outcome::Succeeded, "{strategy:?}");
        for (found, wanted) in [
            (report.total_s, expected.total_s),
            (report.downtime_s, expected.downtime_s),
            (report.stall_s, expected.stall_s),
            (report.sent.0, expected.sent.0),
            (report.fetched.0, expected.fetched.0),
        ] {
            assert!(
                (found - wanted).abs() < 1e-6,
                "{strategy:?}: {found} {wanted}"
            );
        }
        assert_eq!(report.rounds, expected.rounds);
        // No work is lost or made: what it did not run, it was paused or stalled.
        let (done_s, at) = hand.log.done[0];
        let lost_s = report.downtime_s + report.stall_s;
        assert!(
            (done_s - 20.0 - lost_s).abs() < 1e-5,
            "{strategy:?}: {done_s}"
        );
        assert_eq!(at, HostId(1));
        hand.check_empty();
    }
}

#[test]
fn a_fragment_that_ends_during_the_copy_ends_its_migration() {
    let mut hand = Hand::new(world("", ""), &[0]);
    hand.until(16.0);
    hand.order(0, 1, StrategyKind::PreCopy);
    hand.until(100.0);
    // It ends at 20 s, before the first round would have, at 24.4 s: 4 s of 119.2 MiB/s are sent.
    assert!(close(hand.log.done[0].0, 20.0));
    assert_eq!(hand.log.done[0].1, HostId(0));
    let (ended_s, _, outcome, report) = hand.log.ended[0];
    assert_eq!(outcome, Outcome::ContainerEnded);
    assert!(close(ended_s, 20.0) && close(report.sent.0, 1000.0 * 4.0 / COPY_S));
    assert_eq!(hand.state.migration_totals().canceled, 1);
    hand.check_empty();
}

#[test]
fn every_fault_gives_back_what_was_held() {
    for step in ["planning", "preparing", "executing", "verifying"] {
        for strategy in StrategyKind::ALL {
            let faults = format!("resume_ms = 100\nverify_ms = 10\nfaults = {{ {step} = 1.0 }}");
            let mut hand = Hand::new(world(&faults, ", dirty_mib_per_s = 5"), &[0]);
            hand.until(2.0);
            hand.order(0, 1, strategy);
            hand.until(300.0);
            let (_, _, outcome, report) = hand.log.ended[0];
            let Outcome::Failed { cause, lost, .. } = outcome else {
                panic!("{step} {strategy:?}: {outcome:?}");
            };
            assert_eq!(cause, Cause::Injected);
            let (done_s, at) = hand.log.done[0];
            assert_eq!(at, HostId(0), "{step} {strategy:?}");
            // What is lost starts anew when the migration has failed; else it was paused.
            let wanted_s = if lost {
                hand.log.ended[0].0 + 20.0
            } else {
                20.0 + report.downtime_s
            };
            assert!(
                (done_s - wanted_s).abs() < 1e-5,
                "{step} {strategy:?}: {done_s}"
            );
            hand.check_empty();
        }
    }
}

#[test]
fn the_same_seed_fails_in_the_same_way() {
    let outcomes = |seed| {
        let faults = "faults = { executing = 0.5 }";
        let mut hand = Hand::new(world(faults, ""), &[]);
        hand.state = State::seeded(&hand.world, seed);
        let mut outcomes = Vec::new();
        for number in 0..64 {
            outcomes.push(
                hand.world
                    .migration
                    .faults
                    .strike(hand.state.fault_key(number), Step::Executing),
            );
        }
        outcomes
    };
    assert_eq!(outcomes(1), outcomes(1));
    assert_ne!(outcomes(1), outcomes(2));
}

#[test]
fn without_room_it_waits_and_is_called_off_at_the_boundary() {
    // Two fragments fill 2,000 of 2,500 MiB of host 1.
    let mut hand = Hand::new(world("", ""), &[0, 1, 1]);
    hand.until(5.0);
    hand.order(0, 1, StrategyKind::StopAndCopy);
    hand.until(6.0);
    let view = Observation::new(&hand.world, &hand.state, Epoch::Arrival).view();
    assert_eq!(view.migrations[0].stage, None);
    hand.until(100.0);
    // It ends at 20 s where it is; those on host 1 end at 40 s.
    assert_eq!(hand.log.ended[0].2, Outcome::Canceled);
    assert!(close(hand.log.ended[0].0, 20.0));
    hand.check_empty();

    // Those on host 1 have half of it each and leave at 40 s; ordered then, it finds room at once.
    let mut hand = Hand::new(world("", ""), &[0, 0, 1, 1]);
    hand.until(25.0);
    hand.power(2, false);
    hand.order(0, 1, StrategyKind::StopAndCopy);
    hand.until(1001.0);
    hand.check_empty();
    // All four end at 40 s, host 0 first.
    assert_eq!(hand.log.ended[0].2, Outcome::Canceled);
}

#[test]
fn it_waits_for_the_boot_of_its_destination() {
    let mut hand = Hand::new(world("", ""), &[0]);
    hand.power(1, false);
    hand.until(5.0);
    hand.power(1, true);
    hand.order(0, 1, StrategyKind::StopAndCopy);
    hand.until(100.0);
    // The boot ends at 12 s, the copy 8.388608 s later.
    assert!(close(hand.log.ended[0].0, 12.0 + COPY_S));
    assert!(close(hand.log.done[0].0, 20.0 + COPY_S));
    hand.check_empty();
}

#[test]
fn a_host_drains_by_migration_and_not_before() {
    let mut hand = Hand::new(world("", ""), &[0]);
    hand.until(5.0);
    hand.order(0, 1, StrategyKind::StopAndCopy);
    hand.power(0, false);
    // The destination is not turned off under what is on its way to it.
    hand.power(1, false);
    hand.until(100.0);
    let off = |host| {
        let gone =
            |&&(_, h, l): &&(f64, HostId, Lifecycle)| (h, l) == (HostId(host), Lifecycle::Off);
        hand.log.lifecycles.iter().find(gone).map(|l| l.0)
    };
    assert!(close(off(0).expect("it is off"), 5.0 + COPY_S));
    assert!(close(off(1).expect("it is off"), 20.0 + COPY_S));
}

#[test]
fn a_lost_destination_sends_the_fragment_back_and_a_lost_source_ends_it() {
    let mut hand = Hand::new(world("resume_ms = 1000", ""), &[0]);
    hand.until(5.0);
    hand.order(0, 1, StrategyKind::StopAndCopy);
    hand.until(7.0);
    hand.state.hosts[1].lifecycle = Lifecycle::Off;
    hand.state
        .interrupt_migrations(&hand.world, HostId(1), &mut hand.log);
    hand.until(100.0);
    // Paused for 2 s of copying and 1 s on the way back.
    assert!(close(hand.log.done[0].0, 23.0), "{}", hand.log.done[0].0);
    assert_eq!(hand.log.done[0].1, HostId(0));
    let outcome = Outcome::Failed {
        step: Step::Executing,
        cause: Cause::DestinationLost,
        lost: false,
    };
    assert_eq!(hand.log.ended[0].2, outcome);
    hand.check_empty();

    let mut hand = Hand::new(world("resume_ms = 1000", ""), &[0]);
    hand.until(5.0);
    hand.order(0, 1, StrategyKind::PreCopy);
    hand.until(7.0);
    hand.state.hosts[0].lifecycle = Lifecycle::Off;
    hand.state
        .interrupt_migrations(&hand.world, HostId(0), &mut hand.log);
    assert!(close(hand.ram_free(1), 2500.0));
    let outcome = hand.log.ended[0].2;
    assert!(matches!(
        outcome,
        Outcome::Failed {
            cause: Cause::SourceLost,
            lost: true,
            ..
        }
    ));
}

#[test]
fn what_cannot_be_migrated_is_refused_by_name() {
    let hand = Hand::new(world("", ""), &[0, 2]);
    let check = |migrations: &[(u64, u16, u32)], off: Option<u32>| {
        let decision = Decision {
            provisioning: (off.iter())
                .map(|&host| PowerAction {
                    host: HostId(host),
                    on: false,
                })
                .collect(),
            migrations: (migrations.iter())
                .map(|&(request, fragment, to)| decision::Migration {
                    request: RequestId(request),
                    fragment,
                    to: HostId(to),
                    strategy: None,
                })
                .collect(),
            ..Decision::default()
        };
        let observation = Observation::new(&hand.world, &hand.state, Epoch::Boundary);
        match checker::check(&observation, &decision) {
            Ok(()) => None,
            Err(Infeasible::Migration { problem, .. }) => Some(problem),
            Err(other) => panic!("{other}"),
        }
    };
    assert_eq!(check(&[(0, 0, 1), (1, 0, 1)], None), None);
    assert_eq!(check(&[(9, 0, 1)], None), Some(Immovable::Fragment));
    assert_eq!(check(&[(0, 1, 1)], None), Some(Immovable::Fragment));
    assert_eq!(check(&[(0, 0, 0)], None), Some(Immovable::There));
    assert_eq!(check(&[(0, 0, 7)], None), Some(Immovable::Closed));
    assert_eq!(check(&[(0, 0, 1)], Some(1)), Some(Immovable::Closed));
    assert_eq!(
        check(&[(0, 0, 1), (0, 0, 2)], None),
        Some(Immovable::Moving)
    );
    let mut moving = Hand::new(world("", ""), &[0]);
    moving.order(0, 1, StrategyKind::PreCopy);
    let again = Decision {
        migrations: vec![decision::Migration {
            request: RequestId(0),
            fragment: 0,
            to: HostId(2),
            strategy: None,
        }],
        ..Decision::default()
    };
    let observation = Observation::new(&moving.world, &moving.state, Epoch::Arrival);
    let refused = checker::check(&observation, &again).expect_err("it moves already");
    assert_eq!(
        refused.to_string(),
        "migrations[0].request: the fragment is already being migrated or is named twice"
    );
}

/// What must hold at any time.
fn check_invariants(world: &World, state: &State) {
    let mut placed = vec![0_u32; state.fragments.len()];
    for (h, host) in state.hosts.iter().enumerate() {
        let mut held_mib = 0.0;
        let mut holds = 0;
        for &slot in &host.resident {
            placed[slot as usize] += 1;
            let run = &state.fragments[slot as usize];
            assert_eq!(
                run.host.index(),
                h,
                "a fragment is where it says that it is"
            );
            if run.phase.holds_memory() {
                held_mib += state.fragment_in(world, slot).map_or(0.0, |f| f.ram.0);
            }
            holds += u32::from(run.phase == Phase::Paused);
        }
        for moving in &state.migrations.under_way {
            if moving.held.is_some_and(|held| held.index() == h) {
                held_mib += moving.ram_mib;
                holds += 1;
            }
        }
        held_mib += host.models.iter().map(|m| m.ram_mib).sum::<f64>();
        let users: u32 = host.models.iter().map(|m| m.users).sum();
        assert!(users as usize <= host.resident.len() + state.migrations.under_way.len());
        assert_eq!(host.holds, holds, "host {h}");
        assert!(
            close(host.ram_mib - held_mib, host.ram_free_mib),
            "host {h}"
        );
        assert!(host.ram_free_mib > -1e-6, "host {h}");
        if host.lifecycle == Lifecycle::Off {
            assert!(host.vacant(), "host {h}");
        }
    }
    for &slot in &state.active {
        let Some(deployed) = state.requests[slot as usize].deployed else {
            continue;
        };
        let request = &state.requests[slot as usize];
        let variant = world.variant(request.application, deployed.variant);
        for k in 0..variant.fragments.len() {
            let at = deployed.first as usize + k;
            let wanted = u32::from(state.fragments[at].phase != Phase::Done);
            assert_eq!(placed[at], wanted, "a fragment is at one place");
        }
    }
}

/// A view gives a state back that looks the same.
fn check_view(world: &World, state: &State, epoch: Epoch) {
    let view = Observation::new(world, state, epoch).view();
    let back = State::from_view(world, &view).unwrap_or_else(|e| panic!("{e}: {view:#?}"));
    check_invariants(world, &back);
    let again = Observation::new(world, &back, epoch).view();
    assert_eq!(again.migrations.len(), view.migrations.len());
    for (a, b) in again.migrations.iter().zip(&view.migrations) {
        assert_eq!(
            (a.request, a.from, a.to, a.stage),
            (b.request, b.from, b.to, b.stage)
        );
        assert!(
            (a.stage_sent.0 - b.stage_sent.0).abs() < 1e-6,
            "{a:?} {b:?}"
        );
        assert_eq!(
            (a.stage_elapsed, a.left, a.sent),
            (b.stage_elapsed, b.left, b.sent)
        );
    }
    for (a, b) in again.requests.iter().zip(&view.requests) {
        let (Some(a), Some(b)) = (&a.deployed, &b.deployed) else {
            continue;
        };
        for (a, b) in a.fragments.iter().zip(&b.fragments) {
            assert_eq!((a.host, a.phase), (b.host, b.phase));
            assert!((a.attained_mi - b.attained_mi).abs() < 1e-5, "{a:?} {b:?}");
        }
    }
    let json = serde_json::to_string(&crate::wire::DecisionRequest::from_view(world, &view))
        .expect("a view serializes");
    let request = crate::wire::DecisionRequest::from_json(json.as_bytes()).expect("its own JSON");
    assert_eq!(
        request.to_view(world).expect("its own view").migrations,
        view.migrations
    );
}

/// A busier world: short intervals, faults of every kind, a model, a chain of two fragments.
fn busy_world(strategy: StrategyKind) -> World {
    let migration = format!(
        "strategy = \"{}\"\ndowntime_limit_ms = 60\nimage_mib = 5\nstate_mib = 1\ndump_ms = 3\nrestore_ms = 2\n\
         verify_ms = 2\nresume_ms = 1\nfaults = {{ planning = 0.05, preparing = 0.05, \
         executing = 0.2, verifying = 0.1 }}\n[faults]\ncrash_every_s = 40\nrestart_s = 2\n\
         allocation_failure = 0.1\n[[models]]\nname = \"m\"\nram_mib = 300\nload_s = 0.5",
        strategy.name()
    );
    let text = toml::to_string(&*world(&migration, "").file).expect("a world is TOML");
    let text = text
        .replace("interval_s = 1000.0", "interval_s = 2.0")
        .replace("boot_s = 7.0", "boot_s = 0.7")
        .replace("count = 3", "count = 4")
        .replace("rate_per_s = 0.01", "rate_per_s = 2.0")
        // 400 MiB in 0.34 s: most copies end before their fragment does.
        .replace("network_mbps = 1000.0", "network_mbps = 10000.0")
        .replace("value = 20000.0", "value = 1000.0");
    let mut file: crate::world::file::WorldFile = toml::from_str(&text).expect("a world");
    let variant = &mut file.applications[0].variants[0];
    let fragment = &mut variant.fragments[0];
    fragment.ram_mib = 400.0;
    fragment.dirty_mib_per_s = Some(300.0);
    fragment.working_set_mib = Some(200.0);
    fragment.output_kib = 300.0;
    let mut second = fragment.clone();
    second.name = "second".into();
    second.after = vec!["part".into()];
    second.model = Some("m".into());
    variant.fragments.push(second);
    World::resolve(file, "busy", None).expect("the world is valid")
}

/// Service that each fragment on a host has had, in MI.
fn services(world: &World, state: &State) -> BTreeMap<(RequestId, u16), f64> {
    let observation = Observation::new(world, state, Epoch::End);
    (0..observation.host_count())
        .flat_map(|h| observation.residents(HostId::at(h)).collect::<Vec<_>>())
        .map(|r| ((r.request, r.index), r.attained_mi))
        .collect()
}

/// From `before` to `after` no fragment has lost service, unless its migration or its host failed,
/// and none has had more than a host gives in `span`.
fn check_service(
    before: &BTreeMap<(RequestId, u16), f64>,
    after: &BTreeMap<(RequestId, u16), f64>,
    span: SimTime,
    log: &Log,
) {
    for (name, &had_mi) in before {
        let Some(&has_mi) = after.get(name) else {
            continue;
        };
        let lost = |(_, course, outcome, _): &(f64, Course, Outcome, Report)| {
            (course.request, course.fragment) == *name
                && matches!(outcome, Outcome::Failed { lost: true, .. })
        };
        if !log.withdrawn.contains(&name.0) && !log.ended.iter().any(lost) {
            assert!(has_mi > had_mi - 1e-5, "{name:?}: {had_mi} to {has_mi}");
        }
        let most_mi = 1000.0 * span.seconds();
        assert!(
            has_mi - had_mi < most_mi + 1e-5,
            "{name:?}: {had_mi} to {has_mi}"
        );
    }
}

/// A run with random decisions that migrate much, under faults, looked at every 50 ms.
fn roam(strategy: StrategyKind, seed: u64) -> Log {
    let world = busy_world(strategy);
    let span = SimTime::from_seconds(20.0);
    let mut stream = stream::named(seed, "test");
    let arrivals = world.arrivals(Split::HeldOut, span, &mut stream);
    let mut state = State::seeded(&world, seed);
    let mut future = Future::new(&arrivals);
    let (mut log, mut draws) = (Log::default(), 0_u64);
    let mut draw = |n: u64| {
        draws += 1;
        stream::mix(seed, draws) % n
    };
    let end = SimTime::from_seconds(200.0);
    loop {
        let (from, had) = (state.now(), services(&world, &state));
        let step = from.after(SimTime(50_000_000)).min(end);
        let epoch = state.advance(&world, &mut future, step, &mut log);
        check_invariants(&world, &state);
        check_service(
            &had,
            &services(&world, &state),
            state.now().since(from),
            &log,
        );
        let over = state.now() > span && state.active.is_empty();
        if epoch == Epoch::End && (step >= end || over) {
            break;
        }
        if draw(4) == 0 {
            check_view(&world, &state, epoch);
        }
        if draw(8) == 0 {
            let mut other = state.clone();
            other.resample(&world, draw(1 << 20));
            check_invariants(&world, &other);
            let later = step.after(SimTime(3_000_000_000));
            other.advance(&world, &mut Future::empty(), later, &mut Silent);
            check_invariants(&world, &other);
        }
        let decision = random_decision(&world, &state, epoch, &mut draw);
        let observation = Observation::new(&world, &state, epoch);
        assert_eq!(checker::check(&observation, &decision), Ok(()));
        state.apply(&world, &decision, &mut log);
        check_invariants(&world, &state);
    }
    assert!(
        state.active.is_empty() && state.migrations.is_empty(),
        "all has ended"
    );
    assert_eq!(log.started as usize, log.ended.len());
    let totals = state.migration_totals();
    let ended = totals.completed + totals.failed + totals.canceled;
    assert_eq!(ended, log.ended.len() as u64);
    assert_eq!(state.totals.completed, state.totals.arrived);
    log
}

proptest! {
    #![proptest_config(crate::validation::property(24, ProptestConfig::default()))]

    /// Nothing is leaked, lost or doubled.
    #[test]
    fn whatever_is_migrated_stays_whole(seed in any::<u64>(), kind in 0_usize..4) {
        roam(StrategyKind::ALL[kind], seed);
    }
}

/// The property above would say little if nothing ever arrived, or nothing ever failed.
#[test]
fn random_runs_come_to_every_kind_of_end() {
    for strategy in StrategyKind::ALL {
        let logs: Vec<Log> = (0..8).map(|seed| roam(strategy, seed)).collect();
        let ends = || logs.iter().flat_map(|log| &log.ended);
        let count = |wanted: fn(&Outcome) -> bool| ends().filter(|e| wanted(&e.2)).count();
        assert!(count(|o| *o == Outcome::Succeeded) > 20, "{strategy:?}");
        assert!(count(|o| *o == Outcome::Canceled) > 0, "{strategy:?}");
        assert!(count(|o| *o == Outcome::ContainerEnded) > 0, "{strategy:?}");
        let injected = |o: &Outcome| {
            matches!(
                o,
                Outcome::Failed {
                    cause: Cause::Injected,
                    ..
                }
            )
        };
        assert!(count(injected) > 5, "{strategy:?}");
        let crashed = |o: &Outcome| {
            matches!(
                o,
                Outcome::Failed {
                    cause: Cause::SourceLost | Cause::DestinationLost,
                    ..
                }
            )
        };
        assert!(count(crashed) > 0, "{strategy:?}");
        let pulled = ends().any(|e| e.3.post_copy && e.2 == Outcome::Succeeded);
        let may_pull = matches!(strategy, StrategyKind::PostCopy | StrategyKind::Hybrid);
        assert_eq!(pulled, may_pull, "{strategy:?}");
    }
}

/// Deploys all that waits, and moves and turns over at random.
fn random_decision(
    world: &World,
    state: &State,
    epoch: Epoch,
    draw: &mut impl FnMut(u64) -> u64,
) -> Decision {
    let observation = Observation::new(world, state, epoch);
    let mut decision = Decision::none();
    let hosts: Vec<HostId> = (0..observation.host_count()).map(HostId::at).collect();
    if observation.may_provision() {
        for &host in &hosts {
            // The first host stays on, so that every request is answered in the end.
            let on = host.index() == 0 || draw(3) > 0;
            decision.provisioning.push(PowerAction { host, on });
        }
    }
    let open: Vec<HostId> = (hosts.iter().copied())
        .filter(
            |&h| match decision.provisioning.iter().find(|a| a.host == h) {
                Some(action) => action.on,
                None => observation.lifecycle(h).accepts(),
            },
        )
        .collect();
    if open.is_empty() {
        return decision;
    }
    let pick = |draw: &mut dyn FnMut(u64) -> u64| {
        let k = draw(open.len() as u64);
        open[usize::try_from(k).unwrap_or(0)]
    };
    for waiting in observation.waiting() {
        decision.deployments.push(Deployment {
            request: waiting.id,
            variant: VariantId(0),
            hosts: vec![pick(draw), pick(draw)],
        });
    }
    for &from in &hosts {
        for resident in observation.residents(from) {
            let to = pick(draw);
            let moves = observation.migrates(resident.request, resident.index);
            if resident.phase == Phase::Running && to != from && !moves && draw(6) == 0 {
                decision.migrations.push(decision::Migration {
                    request: resident.request,
                    fragment: resident.index,
                    to,
                    strategy: None,
                });
            }
        }
    }
    decision
}
