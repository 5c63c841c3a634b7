//! What decisions were taken on, from the log alone.

use super::super::frame::MARKER;
use super::*;
use crate::live::{Delta, Event, FleetInput, Live};
use crate::observation::{FleetView, Observation};
use crate::state::Epoch;
use crate::units::SimTime;
use crate::wire::{DecisionRequest, FleetDecisionRequest};
use crate::{State, World};

const RESPONSE: &[u8] = br#"{"schema":1,"decision":{"provisioning":[{"host":1,"on":false}],"deployments":[]},"policy":"least-loaded","fallback":true,"fallback_reason":"busy","decision_time_us":2.5}"#;

fn world() -> World {
    World::load("scinet-16").expect("it is embedded")
}

fn open_about(folder: &Path, world: &World, settings: Settings) -> Log {
    Log::open(folder, &world.hash, settings)
        .expect("it opens")
        .0
}

fn first_view(world: &World) -> FleetView {
    Observation::new(world, &State::new(world), Epoch::Boundary).view()
}

fn keep(log: &Log, input: &FleetInput) -> u64 {
    let text = serde_json::value::to_raw_value(input).expect("it serializes");
    let entry = Input {
        schema: ENTRY_SCHEMA,
        client: None,
        input: &text,
    };
    let entry = match input {
        FleetInput::Put(_) => Entry::Fleet(entry),
        _ => Entry::Telemetry(entry),
    };
    log.append(&entry).expect("it is appended")
}

fn decide(log: &Log, request: &[u8], stateful: bool) -> DecisionId {
    let decision = NewDecision {
        policy: "edge",
        model_sha256: Some("ab"),
        client: None,
        candidate: true,
        request: Json::parsed(request),
        stateful: stateful.then_some(None),
        response: Json::parsed(RESPONSE),
    };
    log.append_decision(&decision).expect("it is appended")
}

/// A second of a live fleet: a request arrives, and a decision is taken.
fn second(log: &Log, world: &World, live: &mut Live, number: u64) -> (DecisionId, FleetView) {
    let now = SimTime((number + 1) * 1_000_000_000);
    let arrived = Event::Arrived {
        request: crate::ids::RequestId(number),
        application: crate::ids::ApplicationId(2),
        context_tokens: 0,
    };
    let deltas = vec![Delta {
        at: now,
        event: arrived,
    }];
    let input = FleetInput::Observe { now, deltas };
    keep(log, &input);
    live.accept(world, &input).expect("it is true");
    let asked = format!(r#"{{"schema":1,"now_ns":{},"epoch":"arrival"}}"#, now.0);
    FleetDecisionRequest::from_json(asked.as_bytes()).expect("of the schema");
    let id = decide(log, asked.as_bytes(), true);
    (id, live.observation(world, Epoch::Arrival).view())
}

/// All that is found in a range, as ids with views or reasons.
fn found(
    folder: &Path,
    world: &World,
    ids: std::ops::Range<u64>,
) -> Vec<Result<(DecisionId, FleetView), NoSituation>> {
    let mut situations = Situations::open(folder, ids, world).expect("the folder is there");
    let mut all = Vec::new();
    while let Some(next) = situations.next_situation(|_, _| true).expect("readable") {
        all.push(next.map(|s| (s.id, s.view)));
    }
    all
}

fn small_segments() -> Settings {
    Settings {
        segment_bytes: 4 << 10,
        retain_bytes: 1 << 20,
        ..Settings::default()
    }
}

#[test]
fn a_stateless_decision_has_its_state_with_it() {
    let (folder, world) = (folder(), world());
    let log = open_about(folder.path(), &world, Settings::default());
    let view = first_view(&world);
    let request = DecisionRequest::from_view(&world, &view);
    let request = serde_json::to_vec(&request).expect("it serializes");
    let id = decide(&log, &request, false);
    let mut situations = Situations::open(folder.path(), 0..u64::MAX, &world).expect("there");
    let found = situations.next_situation(|found, epoch| {
        assert_eq!((found, epoch), (id, Epoch::Boundary));
        true
    });
    let found = found.expect("readable").expect("there").expect("whole");
    assert_eq!((found.id, &found.view), (id, &view));
    assert_eq!(
        (found.asked_policy.as_str(), found.model_sha256.as_deref()),
        ("edge", Some("ab"))
    );
    assert_eq!(found.policy.as_deref(), Some("least-loaded"));
    assert_eq!(found.fallback_reason.as_deref(), Some("busy"));
    assert!(found.candidate && !found.searched);
    assert_eq!(found.decision.provisioning.len(), 1);
    let end = situations.next_situation(|_, _| true).expect("readable");
    assert!(end.is_none());
}

#[test]
fn a_stateful_decision_is_found_from_any_place_of_the_log() {
    let (folder, world) = (folder(), world());
    let log = open_about(folder.path(), &world, small_segments());
    let view = first_view(&world);
    let mut live = Live::new(&world, &view).expect("a view is a state");
    // A decision of which the state is not known, since none has been told.
    let orphan = decide(&log, br#"{"schema":1,"now_ns":0,"epoch":"boundary"}"#, true);
    keep(&log, &FleetInput::Put(Box::new(view)));
    let mut taken = Vec::new();
    for number in 0..40 {
        taken.push(second(&log, &world, &mut live, number));
        if number % 16 == 9 {
            let checkpoint = Checkpoint {
                through: log.status().next - 1,
                snapshot: &live.encode(),
            };
            log.append(&Entry::Checkpoint(checkpoint))
                .expect("appended");
        }
    }
    assert!(log.status().segments > 5, "there are many segments");
    let all = found(folder.path(), &world, 0..u64::MAX);
    let Err(NoSituation::NoFleet { id, .. }) = &all[0] else {
        panic!("{:?}", all[0]);
    };
    assert_eq!(*id, orphan);
    let whole: Vec<_> = all.into_iter().skip(1).map(|s| s.expect("whole")).collect();
    assert!(whole == taken, "the views are those that were decided on");
    for (id, view) in &taken {
        let one = found(folder.path(), &world, id.0..id.0 + 1);
        assert_eq!(one.len(), 1);
        let (found, found_view) = one[0].as_ref().expect("whole");
        assert!(found == id && found_view == view, "{id}");
    }
    let none = found(folder.path(), &world, log.status().next..u64::MAX);
    assert!(none.is_empty());
    // Only what is wanted is made.
    let mut situations = Situations::open(folder.path(), 0..u64::MAX, &world).expect("there");
    let last = taken[39].0;
    let mut next = || {
        situations
            .next_situation(|id, _| id == last)
            .expect("readable")
    };
    assert!(next().is_some_and(|orphan| orphan.is_err()));
    assert_eq!(next().map(|s| s.expect("whole").id), Some(last));
    assert!(next().is_none());
}

/// Makes the record `sequence` unreadable.
fn damage(folder: &Path, sequence: u64) {
    let begins = |w: &[u8]| w[..4] == MARKER && w[8..] == sequence.to_le_bytes();
    for (_, path, _) in segment::list(folder).expect("the folder is there") {
        let mut bytes = std::fs::read(&path).expect("readable");
        if let Some(at) = bytes.windows(16).position(begins) {
            bytes[at] ^= 0xff;
            std::fs::write(&path, &bytes).expect("it is written");
            return;
        }
    }
    panic!("there is no record {sequence}");
}

#[test]
fn a_fleet_goes_on_after_a_crash_and_is_unknown_behind_damage() {
    let (folder, world) = (folder(), world());
    let view = first_view(&world);
    let mut live = Live::new(&world, &view).expect("a view is a state");
    let log = open_about(folder.path(), &world, small_segments());
    keep(&log, &FleetInput::Put(Box::new(view)));
    let mut taken: Vec<_> = (0..5).map(|n| second(&log, &world, &mut live, n)).collect();
    // The process ends without closing; numbers jump, and nothing was lost.
    drop(log);
    let log = open_about(folder.path(), &world, small_segments());
    taken.extend((5..10).map(|n| second(&log, &world, &mut live, n)));
    assert!(taken[5].0.0 > JUMP);
    let all = found(folder.path(), &world, 0..u64::MAX);
    let whole: Vec<_> = all.into_iter().map(|s| s.expect("whole")).collect();
    assert!(whole == taken);

    // The input before the last decision but three cannot be read any more.
    let lost = taken[7].0.0 - 1;
    damage(folder.path(), lost);
    let all = found(folder.path(), &world, 0..u64::MAX);
    assert_eq!(all.len(), 10);
    for (place, next) in all.iter().enumerate() {
        match next {
            Ok(next) => assert!(place < 7 && *next == taken[place], "{place}"),
            Err(NoSituation::NoFleet { id, reason }) => {
                assert!(place >= 7 && *id == taken[place].0, "{place}: {reason}");
                assert!(reason.contains("are missing"), "{reason}");
            }
            Err(other) => panic!("{other}"),
        }
    }
}

#[test]
fn decisions_about_another_world_are_told_apart() {
    let (folder, mine) = (folder(), world());
    let other = World::load("azure-llm").expect("it is embedded");
    let log = open_about(folder.path(), &other, Settings::default());
    let view = first_view(&other);
    let request = serde_json::to_vec(&DecisionRequest::from_view(&other, &view)).expect("JSON");
    let id = decide(&log, &request, false);
    drop(log);
    let log = open_about(folder.path(), &mine, Settings::default());
    let broken = decide(&log, br#"{"schema":1}"#, false);
    let all = found(folder.path(), &mine, 0..u64::MAX);
    let expected = Some(other.hash.clone());
    assert!(
        matches!(&all[0], Err(NoSituation::OtherWorld { id: found, world }) if (*found, world) == (id, &expected))
    );
    assert!(
        matches!(&all[1], Err(NoSituation::Unreadable { id: found, problem }) if *found == broken && problem.contains("state"))
    );
    assert_eq!(all.len(), 2);
}
