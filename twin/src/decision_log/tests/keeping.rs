//! Rotation, retention, look-ups and rows.

use std::time::Duration;

use super::*;

/// Segments of some 4 KiB, of which four are kept.
fn small() -> Settings {
    Settings {
        segment_bytes: 4096,
        retain_bytes: 4 * 4096,
        ..Settings::default()
    }
}

fn checkpoint(log: &Log) -> u64 {
    let entry = Entry::Checkpoint(Checkpoint {
        through: log.status().next - 1,
        snapshot: &[1, 2, 3],
    });
    log.append(&entry).expect("it is appended")
}

#[test]
fn segments_follow_each_other_and_the_oldest_go() {
    let folder = folder();
    let (log, _) = open_with(folder.path(), small());
    let text = "x".repeat(900);
    for _ in 0..100 {
        append(&log, &text);
    }
    let before = log.status();
    assert!(before.segments > 15, "{before:?}");
    let mut reader = Reader::open(folder.path(), 0).expect("there");
    assert!(reader.next_record().expect("readable").is_some());
    let removed = log.tidy().expect("it is tidied");
    let after = log.status();
    assert_eq!(after.segments + removed.len(), before.segments);
    assert!(
        after.bytes <= 4 * 4096 && after.bytes > 2 * 4096,
        "{after:?}"
    );
    assert_eq!(notes(folder.path())[0].0, after.oldest);
    assert_eq!(log.get(1).expect("readable"), None);
    // A reader that is behind goes on with what is there: the open segment, then the oldest.
    let mut last = 1;
    let mut passed = 0;
    while let Some(record) = reader.next_record().expect("readable") {
        assert!(record.sequence > last);
        passed += u64::from(record.sequence != last + 1);
        last = record.sequence;
    }
    assert_eq!((last, passed, reader.damaged()), (100, 1, 0));
}

#[test]
fn what_the_last_anchor_needs_is_kept() {
    let folder = folder();
    let (log, _) = open_with(folder.path(), small());
    let text = "x".repeat(900);
    for _ in 0..30 {
        append(&log, &text);
    }
    let anchor = checkpoint(&log);
    for _ in 0..100 {
        append(&log, &text);
    }
    log.tidy().expect("it is tidied");
    let status = log.status();
    assert_eq!(status.anchor, Some(anchor));
    assert!(status.since_anchor_bytes > 90_000 && status.bytes > status.since_anchor_bytes);
    assert!(log.get(anchor).expect("readable").is_some());
    assert!(status.oldest <= anchor && status.oldest > 20, "{status:?}");
    drop(log);
    // The anchor is many segments back, and the header of the last one tells.
    let (log, _) = open_with(folder.path(), small());
    assert_eq!(log.status().anchor, Some(anchor));
    assert!(log.status().since_anchor_bytes > 90_000);
    let newer = checkpoint(&log);
    log.tidy().expect("it is tidied");
    assert_eq!(log.status().anchor, Some(newer));
    assert!(log.status().bytes <= 4 * 4096);
}

#[test]
fn age_seals_and_removes_but_a_clock_that_jumps_does_not() {
    let folder = folder();
    let hour = Duration::from_secs(3600);
    let settings = Settings {
        segment_age: hour,
        retain_age: 10 * hour,
        ..Settings::default()
    };
    let (log, _, clock) = open_faulty(folder.path(), settings);
    append(&log, "a");
    clock.pass(hour);
    log.tidy().expect("it is tidied");
    append(&log, "b");
    assert_eq!(log.status().segments, 2);
    // The wall clock is set ten years ahead, and back.
    clock.set_wall((1 << 60) + 315_000_000_000_000_000);
    assert!(log.tidy().expect("it is tidied").is_empty());
    clock.set_wall(1 << 60);
    assert!(log.tidy().expect("it is tidied").is_empty());
    // Each segment goes ten hours after its last record, which was written by this clock.
    for _ in 0..9 {
        clock.pass(hour);
        assert!(log.tidy().expect("it is tidied").is_empty());
    }
    clock.pass(2 * hour);
    let removed = log.tidy().expect("it is tidied");
    assert!(!removed.is_empty(), "{:?}", log.status());
}

#[test]
fn records_are_found_by_number_in_old_and_new_segments() {
    let folder = folder();
    let settings = Settings {
        retain_bytes: 1 << 30,
        ..small()
    };
    let mut known = Vec::new();
    for run in 0..3 {
        let (log, _) = open_with(folder.path(), settings.clone());
        for i in 0..40 {
            let text = format!("{run}:{i}:{}", "x".repeat(i * 20));
            known.push((append(&log, &text), text));
        }
        for (sequence, text) in &known {
            let record = log.get(*sequence).expect("readable").expect("it is there");
            let Ok(Entry::Audit(audit)) = record.as_record().entry() else {
                panic!("another kind");
            };
            assert_eq!(
                (record.sequence, &audit.detail),
                (*sequence, &Cow::from(text))
            );
        }
        for absent in [0, known[known.len() - 1].0 + 1, u64::MAX, 41 + JUMP / 2] {
            assert_eq!(log.get(absent).expect("readable"), None, "{absent}");
        }
    }
}

#[test]
fn pages_tell_the_newest_first_without_gaps() {
    let folder = folder();
    let settings = Settings {
        segment_bytes: 512 << 10,
        retain_bytes: 1 << 30,
        ..Settings::default()
    };
    let mut known = Vec::new();
    for _ in 0..2 {
        let (log, _) = open_with(folder.path(), settings.clone());
        for i in 0..500 {
            known.push(append(&log, &"x".repeat(i * 7)));
        }
    }
    let (log, _) = open_with(folder.path(), settings);
    known.reverse();
    for (limit, budget) in [
        (1, u64::MAX),
        (7, u64::MAX),
        (1000, 100_000),
        (5000, u64::MAX),
    ] {
        let mut before = u64::MAX;
        let mut seen = Vec::new();
        let mut pages = 0;
        loop {
            let page = log
                .newest(before, limit, budget, |record| {
                    (record.kind() == Some(Kind::Audit)).then_some(record.sequence)
                })
                .expect("readable");
            assert!(page.items.len() <= limit);
            seen.extend(page.items);
            pages += 1;
            let Some(next) = page.before else { break };
            assert!(next < before);
            before = next;
        }
        assert_eq!(seen, known, "limit {limit}");
        assert!(pages >= known.len() / limit && (budget == u64::MAX || pages > 5));
    }
}

#[test]
fn rows_tell_decisions_and_outcomes() {
    let folder = folder();
    let (log, _) = open(folder.path());
    let world = crate::World::load("scinet-16").expect("it is embedded");
    let state = crate::State::new(&world);
    let view = crate::Observation::new(&world, &state, crate::state::Epoch::Boundary).view();
    let request = serde_json::to_vec(&crate::wire::DecisionRequest::from_view(&world, &view))
        .expect("it serializes");
    let response = br#"{"schema":1,"decision":{"provisioning":[{"host":0,"on":true}],"deployments":[]},"policy":"least-loaded","fallback":true,"decision_time_us":2.5}"#;
    let decision = |request, stateful| NewDecision {
        policy: "edge",
        model_sha256: None,
        client: Some("me"),
        request: Json::parsed(request),
        stateful,
        response: Json::parsed(response),
    };
    let id = log
        .append_decision(&decision(&request, None))
        .expect("appended");
    let other = log
        .append_decision(&decision(b"[]", Some(Some(1))))
        .expect("appended");
    append(&log, "no row");
    let outcome = Outcome {
        schema: ENTRY_SCHEMA,
        decision: id,
        request: 3,
        answered: true,
        response_s: Some(0.25),
        late: true,
    };
    log.append_outcomes(&[outcome, outcome]).expect("appended");

    let mut rows = Rows::open(folder.path(), 0).expect("there");
    let Some(Row::Decision(row)) = rows.next_row().expect("readable") else {
        panic!("not a decision");
    };
    assert_eq!(
        (row.id, row.stateless, row.fallback),
        (id, true, Some(true))
    );
    assert_eq!((row.hosts, row.waiting), (Some(16), Some(0)));
    assert_eq!((row.power_actions, row.deployments), (Some(1), Some(0)));
    assert_eq!(row.policy.as_deref(), Some("least-loaded"));
    assert_eq!(row.decision_time_us, Some(2.5));
    assert_eq!(row.world_sha256.as_deref(), Some(WORLD));
    assert_eq!(row.request_json.as_bytes(), request);
    let Some(Row::Decision(row)) = rows.next_row().expect("readable") else {
        panic!("not a decision");
    };
    assert_eq!((row.id, row.stateless, row.hosts), (other, false, None));
    for _ in 0..2 {
        let Some(Row::Outcome(row)) = rows.next_row().expect("readable") else {
            panic!("not an outcome");
        };
        assert_eq!((row.decision_id, row.request_id, row.late), (id, 3, true));
    }
    assert_eq!(rows.next_row().expect("readable"), None);
    assert_eq!(rows.unreadable(), 0);
}
