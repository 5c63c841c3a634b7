//! A fleet from its inputs, decisions on it, and drift.

use std::path::Path;
use std::sync::Mutex;

use twin::decision_log::DecisionId;
use twin::ids::HostId;
use twin::live::{Event, Lifecycle, Sample};
use twin::simulate::{self, Options};
use twin::state::State;

use super::drift::{Quantity, WARMUP};
use super::*;
use crate::decider::Decider;
use crate::source::Source;

fn small() -> Arc<World> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("examples/small.toml");
    Arc::new(World::load(path.to_str().expect("the path is text")).expect("the world is valid"))
}

fn empty(world: &World) -> FleetView {
    Observation::new(world, &State::new(world), Epoch::Boundary).view()
}

/// Keeps everything.
#[derive(Debug, Default)]
struct Kept {
    inputs: Mutex<Vec<FleetInput>>,
    decisions: Mutex<Vec<Decision>>,
    refuses: bool,
}

impl FleetLog for Kept {
    fn input(&self, input: &FleetInput) -> Result<u64, LogError> {
        if self.refuses {
            return Err(LogError("the disk is full".into()));
        }
        let mut inputs = self.inputs.lock().expect("nobody panics");
        inputs.push(input.clone());
        Ok(inputs.len() as u64)
    }

    fn decision(&self, taken: &Taken<'_>) -> Result<DecisionId, LogError> {
        let mut decisions = self.decisions.lock().expect("nobody panics");
        decisions.push(taken.answer.decision.clone());
        Ok(DecisionId(decisions.len() as u64))
    }
}

/// Arrivals of the small world, each asked about when it comes; fragments end after two seconds.
fn busy(world: &Arc<World>, kept: &Kept) -> LiveFleet {
    let view = empty(world);
    let put = FleetInput::Put(Box::new(view.clone()));
    kept.input(&put).expect("it is kept");
    let mut fleet = LiveFleet::put(world, &view).expect("a view is a state");
    let mut decider = Decider::new(world, &Source::named("greedy"), 1).expect("it exists");
    let arrivals = simulate::arrivals(world, &Options::new(4));
    let mut running: Vec<(SimTime, RequestId)> = Vec::new();
    for (i, arrival) in arrivals.iter().enumerate() {
        let request = RequestId(i as u64);
        let mut deltas: Vec<Delta> = Vec::new();
        running.retain(|&(until, request)| {
            let due = until <= arrival.time;
            if due {
                let event = Event::Answered { request };
                deltas.push(Delta { at: until, event });
            }
            !due
        });
        deltas.push(Delta {
            at: arrival.time,
            event: Event::Arrived {
                request,
                application: arrival.application,
                context_tokens: arrival.context_tokens,
            },
        });
        let boundary = fleet.live().next_boundary() <= arrival.time;
        let ask = Ask {
            request: b"{}",
            now: arrival.time,
            epoch: if boundary {
                Epoch::Boundary
            } else {
                Epoch::Arrival
            },
            next_boundary: None,
            deltas,
            dry_run: false,
            with_view: false,
        };
        decide(&mut fleet, &mut decider, ask, kept).expect("it decides");
        if fleet.observation(Epoch::Arrival).waiting().next().is_none() {
            running.push((arrival.time.after(SimTime(2_000_000_000)), request));
        }
    }
    fleet
}

#[test]
fn inputs_rebuild_the_fleet_to_the_byte() {
    let world = small();
    let kept = Kept::default();
    let fleet = busy(&world, &kept);
    let inputs = kept.inputs.lock().expect("nobody panics");
    assert!(inputs.len() > 40 && fleet.drift().overall(Quantity::Response).is_some());
    let again = LiveFleet::replay(&world, inputs.iter()).expect("they were accepted");
    assert!(again.checkpoint() == fleet.checkpoint());
    let report = |f: &LiveFleet| f.drift().report(&world, f.now());
    assert_eq!(report(&again), report(&fleet));
    // Inputs are values that can be written and read.
    let lines: Vec<String> = inputs
        .iter()
        .map(|i| serde_json::to_string(i).expect("they have a form in JSON"))
        .collect();
    let read: Vec<FleetInput> = lines
        .iter()
        .map(|l| serde_json::from_str(l).expect("what was written"))
        .collect();
    assert_eq!(read, *inputs);
    // From a checkpoint in the middle, and from nothing at all.
    let half = inputs.len() / 2;
    let start = LiveFleet::replay(&world, &inputs[..half]).expect("they were accepted");
    let mut restored = LiveFleet::restore(&world, &start.checkpoint()).expect("a checkpoint");
    for input in &inputs[half..] {
        restored.accept(input).expect("it was accepted");
    }
    assert!(restored.checkpoint() == fleet.checkpoint());
    assert!(LiveFleet::replay(&world, &inputs[1..]).is_err());
    assert!(LiveFleet::replay(&world, []).is_err());
    let decisions = kept.decisions.lock().expect("nobody panics");
    let applied = inputs.iter().filter(|i| matches!(i, FleetInput::Apply(_)));
    assert_eq!(decisions.len(), applied.count());
}

#[test]
fn what_cannot_be_kept_does_not_happen() {
    let world = small();
    let mut fleet = LiveFleet::put(&world, &empty(&world)).expect("a view is a state");
    let mut decider = Decider::new(&world, &Source::named("greedy"), 1).expect("it exists");
    let before = fleet.checkpoint();
    let kept = Kept {
        refuses: true,
        ..Kept::default()
    };
    let ask = Ask {
        request: b"{}",
        now: SimTime(1_000_000_000),
        epoch: Epoch::Boundary,
        next_boundary: None,
        deltas: Vec::new(),
        dry_run: false,
        with_view: false,
    };
    let error = decide(&mut fleet, &mut decider, ask, &kept).expect_err("the log refuses");
    assert!(error.to_string().contains("the disk is full"), "{error}");
    assert!(fleet.checkpoint() == before);
}

#[test]
fn a_decision_that_is_only_looked_at_changes_nothing_but_what_was_told() {
    let world = small();
    let mut fleet = LiveFleet::put(&world, &empty(&world)).expect("a view is a state");
    let mut decider = Decider::new(&world, &Source::named("greedy"), 1).expect("it exists");
    let now = SimTime(1_000_000_000);
    let event = Event::Arrived {
        request: RequestId(0),
        application: ApplicationId(1),
        context_tokens: 0,
    };
    let mut ask = Ask {
        request: b"{}",
        now,
        epoch: Epoch::Arrival,
        next_boundary: None,
        deltas: vec![Delta { at: now, event }],
        dry_run: true,
        with_view: false,
    };
    decide(&mut fleet, &mut decider, ask.clone(), &NoLog).expect("it decides");
    let waiting = |f: &LiveFleet| f.observation(Epoch::Arrival).waiting().count();
    assert_eq!(waiting(&fleet), 1);
    // The same again, in earnest: the arrival is known already.
    ask.dry_run = false;
    let decided = decide(&mut fleet, &mut decider, ask, &NoLog).expect("it decides");
    assert_eq!(decided.noted.applied, 0);
    assert_eq!(waiting(&fleet), 0);
}

/// A sample of host 0 at `second`.
fn sampled(second: u64, utilization: f64, power_w: f64) -> Delta {
    Delta {
        at: SimTime(second * 1_000_000_000),
        event: Event::Sample(Sample {
            host: HostId(0),
            span: None,
            utilization: Some(utilization),
            power_w: Some(power_w),
            speed: None,
            credits: None,
        }),
    }
}

#[test]
fn drift_has_a_bias_and_a_change_sets_off_an_alarm() {
    let world = small();
    let mut fleet = LiveFleet::put(&world, &empty(&world)).expect("a view is a state");
    // Idle, host 0 draws 10 W; the meter says 0.4 to 0.6 W more, and from 100 s on 3 W more.
    let wobble = |second: u64| 0.4 + 0.1 * (second % 3) as f64;
    let mut first = None;
    for second in 1..200_u64 {
        let more = if second < 100 { 0.0 } else { 2.5 };
        let delta = sampled(second, 0.0, 10.0 + wobble(second) + more);
        fleet.observe(delta.at, &[delta]).expect("it is true");
        if second == 99 {
            let errors = fleet.drift().overall(Quantity::Power).expect("values");
            // The first sample only begins the comparison; 98 follow.
            assert_eq!((errors.count, errors.alarms, errors.watched), (98, 0, true));
            // Of the last 32, the mean of 0.4, 0.5 and 0.6 is 0.5 to a third of a wobble in 32.
            assert!((errors.bias - 0.5).abs() < 0.005, "{errors:?}");
            assert!((errors.mean_absolute_error - errors.bias).abs() < 1e-9);
        }
        first = first.or_else(|| fleet.drift().alarms().next().cloned());
    }
    let alarm = first.expect("the change is noticed");
    assert_eq!(alarm.quantity, Quantity::Power);
    // The deviation is 0.084, so the change is cut at three of these and noticed in some ten values.
    let second = alarm.at_ns / 1_000_000_000;
    assert!((100..125).contains(&second), "{alarm:?}");
    assert!(alarm.changed_at_ns >= 98_000_000_000, "{alarm:?}");
    let report = fleet.drift().report(&world, fleet.now());
    assert_eq!(report.hosts.len(), 1);
    assert!(report.hosts[0].errors["power"].alarms >= 1);
    assert_eq!(report.hosts[0].errors["utilization"].alarms, 0);
    assert!(u64::from(WARMUP) < report.overall["power"].count);
}

#[test]
fn utilization_and_duration_are_held_against_the_twin() {
    let world = small();
    let mut fleet = LiveFleet::put(&world, &empty(&world)).expect("a view is a state");
    let at = |s: f64| SimTime::from_seconds(s);
    let deployed = [
        Delta {
            at: at(1.0),
            event: Event::Arrived {
                request: RequestId(0),
                application: ApplicationId(1),
                context_tokens: 0,
            },
        },
        Delta {
            at: at(1.0),
            event: Event::Deployed {
                request: RequestId(0),
                variant: twin::ids::VariantId(0),
                hosts: vec![HostId(0)],
            },
        },
        // It starts when its input is there; then it has two CPUs of 2000 MIPS.
        Delta {
            at: at(2.0),
            event: Event::Started {
                request: RequestId(0),
                fragment: 0,
                host: Some(HostId(0)),
            },
        },
        sampled(2, 0.0, 10.0),
    ];
    fleet.observe(at(2.0), &deployed).expect("it is true");
    let ended = Delta {
        at: at(3.5),
        event: Event::Finished {
            request: RequestId(0),
            fragment: 0,
            host: None,
            generated_tokens: None,
        },
    };
    // Both CPUs were in use until 3.5 s, nothing since: 1.5 of 2 s, as measured.
    let deltas = [ended, sampled(4, 0.75, 17.5)];
    fleet.observe(at(4.0), &deltas).expect("it is true");
    let of = |quantity| fleet.drift().overall(quantity).expect("a value");
    assert!(of(Quantity::Utilization).mean_absolute_error < 1e-9);
    assert!(of(Quantity::Power).mean_absolute_error < 1e-9);
    // 1200 MI at 4000 MIPS are 0.3 s; it took 1.5 s.
    assert!(
        (of(Quantity::Duration).bias - 1.2).abs() < 1e-6,
        "{:?}",
        of(Quantity::Duration)
    );
    let crash = Delta {
        at: at(5.0),
        event: Event::Host {
            host: HostId(0),
            lifecycle: Lifecycle::Crashed { ready_at: None },
        },
    };
    fleet.observe(at(5.0), &[crash]).expect("it is true");
}
