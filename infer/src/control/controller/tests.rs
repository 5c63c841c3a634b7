//! The loop on a cloud in memory that loses, repeats, refuses and delays, with kills in between.

use std::collections::BTreeMap;
use std::future::Future;
use std::path::Path;
use std::sync::{Mutex, MutexGuard};
use std::task::{Context, Poll};

use async_trait::async_trait;
use proptest::prelude::*;
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use twin::decision::Decision;

use super::*;
use crate::azure::operation::OperationKind;
use crate::azure::{Operation, Progress};
use crate::control::action::Change;
use crate::control::brain::BrainError;
use crate::control::facts::{Power, VmFacts};
use crate::control::journal::records;
use crate::control::lease::{FileLease, NoLease};
use crate::control::test_fleet::{decision, fleet, small};

/// A VM of the cloud in memory.
struct Machine {
    facts: VmFacts,
    /// What it will be, and when.
    turning: Option<(Power, i64)>,
    /// What it was, newest last.
    past: Vec<Power>,
}

/// The state of the cloud in memory. Time goes in seconds.
struct Inside {
    now: i64,
    machines: BTreeMap<ResourceId, Machine>,
    /// Requests that arrive late, and when.
    late: Vec<(i64, ResourceId, Change)>,
    /// Operations: the end, and when it is known.
    operations: Vec<(bool, i64)>,
    rng: ChaCha8Rng,
    /// Chance of a fault at each call.
    faults: f64,
    /// Every submission, by what it acts upon.
    submissions: Vec<(ResourceId, Change)>,
    observations: u32,
}

impl Inside {
    fn strikes(&mut self) -> bool {
        let faults = self.faults;
        self.rng.random::<f64>() < faults
    }

    fn advance(&mut self, to: i64) {
        self.now = to;
        let (due, late) = std::mem::take(&mut self.late)
            .into_iter()
            .partition(|(at, ..)| *at <= to);
        self.late = late;
        let due: Vec<(i64, ResourceId, Change)> = due;
        for (_, target, change) in due {
            self.carry_out(&target, change);
        }
        for machine in self.machines.values_mut() {
            machine.past.push(machine.facts.power);
            if let Some((power, at)) = machine.turning
                && at <= to
            {
                machine.facts.power = power;
                machine.turning = None;
            }
        }
    }

    fn carry_out(&mut self, target: &ResourceId, change: Change) {
        let (via, end) = match change {
            Change::Start => (Power::Starting, Power::Running),
            _ => (Power::Deallocating, Power::Deallocated),
        };
        let at = self.now + self.rng.random_range(0..30);
        let machine = self.machines.get_mut(target).expect("a VM of the fleet");
        if machine.facts.power != end {
            machine.facts.power = via;
        }
        machine.turning = Some((end, at));
    }
}

struct Fake(Mutex<Inside>);

impl Fake {
    fn new(seed: u64, faults: f64) -> Arc<Self> {
        let world = small();
        let machine = |facts: VmFacts| Machine {
            past: vec![facts.power],
            facts,
            turning: None,
        };
        let machines = fleet(&world)
            .vms
            .into_iter()
            .map(|(id, facts)| (id, machine(facts)));
        Arc::new(Self(Mutex::new(Inside {
            now: 0,
            machines: machines.collect(),
            late: Vec::new(),
            operations: Vec::new(),
            rng: ChaCha8Rng::seed_from_u64(seed),
            faults,
            submissions: Vec::new(),
            observations: 0,
        })))
    }

    fn inside(&self) -> MutexGuard<'_, Inside> {
        self.0.lock().expect("nobody panicked")
    }

    fn powers(&self) -> Vec<Power> {
        let world = small();
        let inside = self.inside();
        let of = |name: &String| {
            let mut machines = inside.machines.values();
            machines
                .find(|m| m.facts.name == *name)
                .map(|m| m.facts.power)
        };
        world.hosts.iter().filter_map(|h| of(&h.name)).collect()
    }
}

#[async_trait]
impl Cloud for Fake {
    async fn observe(&self, _: Timestamp) -> Result<Facts, String> {
        tokio::task::yield_now().await;
        let mut inside = self.inside();
        inside.observations += 1;
        if inside.strikes() {
            return Err("status 503".into());
        }
        let mut facts = Facts::default();
        let ids: Vec<ResourceId> = inside.machines.keys().cloned().collect();
        for id in ids {
            let (stale, unknown) = (inside.strikes(), inside.strikes());
            let back = inside.rng.random_range(1..4);
            let machine = &inside.machines[&id];
            let mut vm = machine.facts.clone();
            if stale {
                let past = machine.past.iter().rev().nth(back);
                vm.power = past.copied().unwrap_or(vm.power);
            }
            if unknown {
                vm.power = Power::Unknown;
            }
            facts.vms.insert(id, vm);
        }
        Ok(facts)
    }

    async fn submit(&self, target: &ResourceId, change: Change) -> Submission {
        self.inside().submissions.push((target.clone(), change));
        tokio::task::yield_now().await;
        let mut inside = self.inside();
        let lost = || Submission::Unknown {
            reason: "connection reset".into(),
        };
        if inside.strikes() {
            return match inside.rng.random_range(0..6) {
                0 => lost(),
                1 => {
                    inside.carry_out(target, change);
                    lost()
                }
                2 => {
                    let at = inside.now + inside.rng.random_range(1..120);
                    inside.late.push((at, target.clone(), change));
                    lost()
                }
                3 => Submission::Refused {
                    reason: "status 429".into(),
                },
                4 => accepted(&mut inside, false),
                _ => {
                    inside.carry_out(target, change);
                    let at = inside.now + inside.rng.random_range(1..60);
                    inside.late.push((at, target.clone(), change));
                    accepted(&mut inside, true)
                }
            };
        }
        inside.carry_out(target, change);
        accepted(&mut inside, true)
    }

    async fn progress(&self, operation: &Operation) -> Option<Progress> {
        tokio::task::yield_now().await;
        let mut inside = self.inside();
        let (strikes, stuck) = (inside.strikes(), inside.strikes());
        let number: usize = operation.url.parse().ok()?;
        let (succeeds, at) = *inside.operations.get(number)?;
        match (strikes, stuck || inside.now < at, succeeds) {
            (true, ..) => None,
            (_, true, _) => Some(Progress::Running { retry_after: None }),
            (.., true) => Some(Progress::Succeeded),
            (.., false) => Some(Progress::Failed {
                code: "AllocationFailed".into(),
                message: "there is no room".into(),
            }),
        }
    }
}

fn accepted(inside: &mut Inside, succeeds: bool) -> Submission {
    let at = inside.now + 30;
    inside.operations.push((succeeds, at));
    let number = inside.operations.len() - 1;
    Submission::Accepted {
        operation: Some(Operation {
            kind: OperationKind::AsyncOperation,
            url: number.to_string(),
        }),
    }
}

/// Wants what it was told to want.
struct Wanting(Arc<Mutex<Decision>>);

#[async_trait]
impl Brain for Wanting {
    async fn decide(&mut self, _: &FleetView) -> Result<Verdict, BrainError> {
        Ok(Verdict {
            decision: self.0.lock().expect("whole").clone(),
            policy: "told".into(),
            fallback: None,
        })
    }
}

const INTERVAL_S: i64 = 30;

fn rules() -> Rules {
    Rules {
        matching: Rule::Name,
        sets: Vec::new(),
        guardrails: Guardrails {
            maximum_actions: 2,
            minimum_on: 1,
            backoff: SignedDuration::from_secs(20),
            ..Guardrails::default()
        },
        timing: Timing {
            grace: SignedDuration::from_secs(100),
            operation: SignedDuration::from_secs(400),
        },
        interval: SignedDuration::from_secs(INTERVAL_S),
        in_flight: 2,
        apply: true,
    }
}

fn controller(
    cloud: &Arc<Fake>,
    wanted: &Arc<Mutex<Decision>>,
    log: &Path,
    lease: Box<dyn Lease>,
    rules: Rules,
) -> Controller {
    let clock = Arc::clone(cloud);
    let parts = Parts {
        world: small(),
        cloud: Arc::clone(cloud) as Arc<dyn Cloud>,
        brain: Box::new(Wanting(Arc::clone(wanted))),
        lease,
        journal: Journal::open(log).expect("a log"),
        state: None,
        clock: Arc::new(move || Timestamp::from_second(clock.inside().now).expect("a time")),
        holder: "test".into(),
        telemetry: Arc::new(Telemetry::new().expect("metrics")),
    };
    Controller::new(parts, rules)
}

/// Runs `step` for at most `polls` polls: a kill at any moment.
fn poll_some<T>(step: impl Future<Output = T>, polls: u32) -> Option<T> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .expect("a runtime");
    runtime.block_on(async {
        tokio::pin!(step);
        let mut left = polls;
        std::future::poll_fn(|context: &mut Context<'_>| {
            if left == 0 {
                return Poll::Ready(None);
            }
            left -= 1;
            step.as_mut().poll(context).map(Some)
        })
        .await
    })
}

fn random_decision(rng: &mut ChaCha8Rng) -> Decision {
    let mut named = Vec::new();
    for host in 0..3 {
        if rng.random::<f64>() < 0.6 {
            named.push((host, rng.random()));
        }
    }
    decision(&named)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(12))]

    /// Whatever is lost, repeated, refused or late, and wherever the process is killed: each action
    /// is planned once and ends once, guardrails hold, and in the end the fleet is as decided.
    #[test]
    fn the_fleet_converges_under_faults_and_kills(seed: u64) {
        let folder = tempfile::tempdir_in(memory()).expect("a folder");
        let log = folder.path().join("actions.jsonl");
        let cloud = Fake::new(seed, 0.15);
        let wanted = Arc::new(Mutex::new(Decision::none()));
        let mut rng = ChaCha8Rng::seed_from_u64(seed ^ 1);
        let start = || controller(&cloud, &wanted, &log, Box::new(NoLease), rules());
        let mut running = start();
        for i in 1..=40 {
            cloud.inside().advance(i * INTERVAL_S);
            *wanted.lock().expect("whole") = random_decision(&mut rng);
            let polls = if rng.random::<f64>() < 0.3 { rng.random_range(0..12) } else { u32::MAX };
            match poll_some(running.step(), polls) {
                Some(report) => { report.expect("the log can be written"); }
                None => {
                    drop(running);
                    running = start();
                }
            }
        }
        // The weather clears, and what is wanted stays.
        cloud.inside().faults = 0.0;
        let target = [true, false, true];
        *wanted.lock().expect("whole") = decision(&[(0, true), (1, false), (2, true)]);
        for i in 41..=80 {
            cloud.inside().advance(i * INTERVAL_S);
            poll_some(running.step(), u32::MAX).expect("ends").expect("written");
        }
        let expected = target.map(|on| if on { Power::Running } else { Power::Deallocated });
        prop_assert_eq!(cloud.powers(), expected);
        prop_assert!(running.journal().ledger().open().is_empty());
        drop(running);
        audit(&log, &cloud)?;
    }
}

/// Each action is planned once and ends once, each submission was planned, and the limits held.
fn audit(log: &Path, cloud: &Fake) -> Result<(), TestCaseError> {
    let records = records(log).expect("a log");
    let mut phases: BTreeMap<u64, Vec<Phase>> = BTreeMap::new();
    let mut planned: BTreeMap<(ResourceId, String), usize> = BTreeMap::new();
    let mut by_time: BTreeMap<Timestamp, usize> = BTreeMap::new();
    for record in &records {
        phases.entry(record.action).or_default().push(record.phase);
        if let Some(plan) = &record.plan {
            let key = (plan.target.clone(), plan.change.to_string());
            *planned.entry(key).or_default() += 1;
            *by_time.entry(record.at).or_default() += 1;
            prop_assert!(!plan.reason.is_empty());
        }
    }
    for (action, phases) in &phases {
        prop_assert_eq!(phases[0], Phase::Planned, "action {}", action);
        prop_assert_eq!(phases.iter().filter(|p| **p == Phase::Planned).count(), 1);
        prop_assert_eq!(phases.iter().filter(|p| p.is_end()).count(), 1);
    }
    let mut submitted: BTreeMap<(ResourceId, String), usize> = BTreeMap::new();
    for (target, change) in &cloud.inside().submissions {
        *submitted
            .entry((target.clone(), change.to_string()))
            .or_default() += 1;
    }
    for (key, count) in &submitted {
        // A kill after the plan and before the submission leaves a plan that was not submitted.
        prop_assert!(
            planned.get(key).copied().unwrap_or(0) >= *count,
            "{:?}",
            key
        );
    }
    for (at, count) in by_time {
        prop_assert!(count <= 2, "{} actions at {}", count, at);
    }
    Ok(())
}

/// A folder in memory, where there is one: writes to a disk are waited for.
fn memory() -> std::path::PathBuf {
    let memory = Path::new("/dev/shm");
    if memory.is_dir() {
        memory.into()
    } else {
        std::env::temp_dir()
    }
}

fn step(controller: &mut Controller) -> Report {
    poll_some(controller.step(), u32::MAX)
        .expect("it ends")
        .expect("the log can be written")
}

#[test]
fn a_dry_run_touches_nothing_and_writes_nothing() {
    let folder = tempfile::tempdir_in(memory()).expect("a folder");
    let log = folder.path().join("actions.jsonl");
    let cloud = Fake::new(1, 0.0);
    let wanted = Arc::new(Mutex::new(decision(&[(0, false), (1, false)])));
    let mut dry = controller(
        &cloud,
        &wanted,
        &log,
        Box::new(NoLease),
        Rules {
            apply: false,
            ..rules()
        },
    );
    let report = step(&mut dry);
    assert_eq!(report.outcome, Outcome::DryRun);
    let states: Vec<&str> = report.actions.iter().map(|a| a.state).collect();
    assert_eq!(states, ["would-act", "would-act"]);
    assert!(report.expected.is_some() && report.actions[0].expected_gain_s.is_some());
    assert!(cloud.inside().submissions.is_empty());
    assert_eq!(std::fs::metadata(&log).expect("a file").len(), 0);
}

#[test]
fn of_two_copies_one_acts() {
    let folder = tempfile::tempdir_in(memory()).expect("a folder");
    let lease = folder.path().join("lease");
    let cloud = Fake::new(1, 0.0);
    let wanted = Arc::new(Mutex::new(decision(&[(0, false)])));
    let copy = |name: &str| {
        let log = folder.path().join(name);
        let lease = Box::new(FileLease::new(&lease));
        controller(&cloud, &wanted, &log, lease, rules())
    };
    let (mut a, mut b) = (copy("a"), copy("b"));
    assert_eq!(step(&mut a).outcome, Outcome::Acted);
    assert!(matches!(step(&mut b).outcome, Outcome::Standby { .. }));
    assert_eq!(cloud.inside().submissions.len(), 1);
    poll_some(a.release(), u32::MAX).expect("released");
    assert_eq!(step(&mut b).outcome, Outcome::Acted);
    assert_eq!(
        cloud.inside().submissions.len(),
        1,
        "what the other did is seen, not repeated"
    );
}

/// A lease that is lost once it was had.
struct Fleeting;

#[async_trait]
impl Lease for Fleeting {
    async fn hold(&mut self) -> Result<Hold, crate::control::lease::LeaseError> {
        Ok(Hold::Mine)
    }
    fn is_held(&self) -> bool {
        false
    }
    async fn release(&mut self) {}
}

#[test]
fn who_lost_the_lease_stops_before_the_next_action() {
    let folder = tempfile::tempdir_in(memory()).expect("a folder");
    let log = folder.path().join("actions.jsonl");
    let cloud = Fake::new(1, 0.0);
    let wanted = Arc::new(Mutex::new(decision(&[(0, false)])));
    let mut fenced = controller(&cloud, &wanted, &log, Box::new(Fleeting), rules());
    let report = step(&mut fenced);
    assert_eq!(report.outcome, Outcome::Fenced);
    assert_eq!(report.actions[0].state, "fenced");
    assert!(cloud.inside().submissions.is_empty());
    assert_eq!(std::fs::metadata(&log).expect("a file").len(), 0);
}

#[test]
fn a_started_vm_that_reads_deallocated_is_not_started_twice() {
    let folder = tempfile::tempdir_in(memory()).expect("a folder");
    let log = folder.path().join("actions.jsonl");
    let cloud = Fake::new(1, 0.0);
    for machine in cloud.inside().machines.values_mut() {
        machine.facts.power = Power::Deallocated;
    }
    let wanted = Arc::new(Mutex::new(decision(&[(0, true)])));
    let mut running = controller(&cloud, &wanted, &log, Box::new(NoLease), rules());
    assert_eq!(step(&mut running).actions[0].state, "submitted");
    // Resource Manager has forgotten, for a while.
    for machine in cloud.inside().machines.values_mut() {
        machine.facts.power = Power::Deallocated;
        machine.turning = None;
    }
    cloud.inside().now = 60;
    let report = step(&mut running);
    assert_eq!(report.ended.len(), 1, "the operation tells of its success");
    assert!(report.actions.is_empty() && report.hosts.on == 1);
    cloud.inside().now = 200;
    assert_eq!(
        step(&mut running).actions[0].change,
        "start",
        "it is off, after all"
    );
}
