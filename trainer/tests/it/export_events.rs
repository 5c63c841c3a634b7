//! `trainer export-events`.

use std::fs;
use std::path::Path;

use datasets::table::Frame;
use trainer::export_events::{
    CONTAINERS_FILE, Exported, FRAGMENTS_FILE, HOSTS_FILE, INCIDENTS_FILE, MIGRATIONS_FILE,
    REQUESTS_FILE, export,
};

const LOG: &str = r#"{"time_s":0.0,"event":"started","schema":1,"world":"w","world_hash":"0"}
{"time_s":0.0,"event":"host","host":"h-1","size":"s","site":"west","state":"on"}
{"time_s":0.0,"event":"host","host":"h-2","size":"s","site":"west","state":"off"}
{"time_s":0.0,"event":"lifecycle","host":"h-2","state":"booting","ready_at_s":7.0}
{"time_s":0.5,"event":"arrived","request":0,"application":"a","context_tokens":3}
{"time_s":0.5,"event":"deployed","request":0,"application":"a","variant":"v","hosts":["h-1"]}
{"time_s":1.0,"event":"arrived","request":1,"application":"a","context_tokens":4}
{"time_s":2.5,"event":"fragment-done","request":0,"fragment":"f","host":"h-1"}
{"time_s":3.0,"event":"completed","request":0,"application":"a","variant":"v","response_s":2.5,"late":true}
{"time_s":7.0,"event":"lifecycle","host":"h-2","state":"on"}
{"time_s":9.0,"event":"arrived","request":2,"application":"a","context_tokens":5}
"#;

fn frame(path: &Path) -> Frame {
    let bytes = fs::read(path).expect("the file is there");
    Frame::decode(path, bytes).expect("it is whole")
}

#[test]
fn a_log_becomes_requests_fragments_and_hosts() {
    let folder = tempfile::tempdir().expect("a folder");
    let (log, out) = (folder.path().join("log.jsonl"), folder.path().join("out"));
    fs::write(&log, LOG).expect("written");
    let exported = export(&log, &out).expect("the log is valid");
    // h-2 boots from 0 to 7 s and is on until the end, h-1 is on all the time.
    let expected = Exported {
        requests: 3,
        fragments: 1,
        hosts: 3,
        ..Exported::default()
    };
    assert_eq!(exported, expected);
    let requests = frame(&out.join(REQUESTS_FILE));
    assert_eq!(requests.u64("request_id").expect("ids"), [0, 1, 2]);
    let answered = requests.optional_f64("response_s").expect("a column");
    assert_eq!(answered, [Some(2.5), None, None]);
    let late = requests.optional_flag("late").expect("a column");
    assert_eq!(late, [Some(true), None, None]);
    let hosts = frame(&out.join(HOSTS_FILE));
    assert_eq!(hosts.text("host").expect("a column"), ["h-2", "h-1", "h-2"]);
    assert_eq!(
        hosts.text("state").expect("a column"),
        ["booting", "on", "on"]
    );
    assert_eq!(hosts.f64("start_s").expect("a column"), [0.0, 0.0, 7.0]);
    assert_eq!(hosts.f64("end_s").expect("a column"), [7.0, 9.0, 9.0]);
    let fragments = frame(&out.join(FRAGMENTS_FILE));
    assert_eq!(fragments.f64("ended_s").expect("a column"), [2.5]);
}

const MOVES: &str = r#"{"time_s":9.5,"event":"host-slow","host":"h-1","until_s":12.0}
{"time_s":10.0,"event":"container","container":"c","host":"h-1","span_s":5.0,"demanded_vcpu_s":4.0,"unmet_vcpu_s":1.5}
{"time_s":10.0,"event":"migration-started","request":2,"fragment":"f","from":"h-1","to":"h-2","strategy":"pre-copy"}
{"time_s":10.0,"event":"migration-started","request":2,"fragment":"g","from":"h-1","to":"h-2","strategy":"post-copy"}
{"time_s":11.0,"event":"migration-ended","request":2,"fragment":"f","from":"h-1","to":"h-2","strategy":"pre-copy","outcome":"failed","step":"executing","cause":"injected","lost":false,"total_s":1.0,"downtime_s":0.1,"stall_s":0.0,"sent_mib":64.0,"fetched_mib":0.0,"rounds":2}
{"time_s":12.0,"event":"link-down","from":"west","to":"east","until_s":13.0}
{"time_s":12.5,"event":"withdrawn","request":2}
"#;

#[test]
fn migrations_incidents_and_containers_have_tables_of_their_own() {
    let folder = tempfile::tempdir().expect("a folder");
    let (log, out) = (folder.path().join("log.jsonl"), folder.path().join("out"));
    fs::write(&log, format!("{LOG}{MOVES}")).expect("written");
    let exported = export(&log, &out).expect("the log is valid");
    let counts = (exported.migrations, exported.incidents, exported.containers);
    assert_eq!(counts, (2, 3, 1));
    let moved = frame(&out.join(MIGRATIONS_FILE));
    assert_eq!(moved.text("fragment").expect("a column"), ["f", "g"]);
    let strategies = moved.text("strategy").expect("a column");
    assert_eq!(strategies, ["pre-copy", "post-copy"]);
    assert_eq!(moved.f64("started_s").expect("a column"), [10.0, 10.0]);
    // The second had not ended when the log did.
    let ended = moved.optional_f64("ended_s").expect("a column");
    assert_eq!(ended, [Some(11.0), None]);
    let sent = moved.optional_f64("sent_mib").expect("a column");
    assert_eq!(sent, [Some(64.0), None]);
    let rounds = moved.optional_u32("rounds").expect("a column");
    assert_eq!(rounds, [Some(2), None]);
    let lost = moved.optional_flag("progress_lost").expect("a column");
    assert_eq!(lost, [Some(false), None]);
    let incidents = frame(&out.join(INCIDENTS_FILE));
    let kinds = incidents.text("kind").expect("a column");
    assert_eq!(kinds, ["host-slow", "link-down", "withdrawn"]);
    let until = incidents.optional_f64("until_s").expect("a column");
    assert_eq!(until, [Some(12.0), Some(13.0), None]);
    let requests = incidents.optional_u64("request_id").expect("a column");
    assert_eq!(requests, [None, None, Some(2)]);
    let containers = frame(&out.join(CONTAINERS_FILE));
    assert_eq!(containers.f64("start_s").expect("a column"), [5.0]);
    assert_eq!(containers.f64("unmet_vcpu_s").expect("a column"), [1.5]);
}

#[test]
fn a_migration_that_never_began_is_named() {
    let folder = tempfile::tempdir().expect("a folder");
    let (log, out) = (folder.path().join("log.jsonl"), folder.path().join("out"));
    let wrong = MOVES.replace("\"request\":2,\"fragment\":\"f\",\"from\":\"h-1\",\"to\":\"h-2\",\"strategy\":\"pre-copy\"}", "\"request\":2,\"fragment\":\"x\",\"from\":\"h-1\",\"to\":\"h-2\",\"strategy\":\"pre-copy\"}");
    fs::write(&log, format!("{LOG}{wrong}")).expect("written");
    let message = export(&log, &out)
        .expect_err("f was not to move")
        .to_string();
    assert!(
        message.contains(":16: a migration of request 2 is not known"),
        "{message}"
    );
}

#[test]
fn more_rows_than_a_part_are_all_there() {
    let folder = tempfile::tempdir().expect("a folder");
    let (log, out) = (folder.path().join("log.jsonl"), folder.path().join("out"));
    let mut text = LOG.to_owned();
    for request in 3..40_000 {
        let line = format!(
            "{{\"time_s\":9.0,\"event\":\"arrived\",\"request\":{request},\"application\":\"a\",\"context_tokens\":0}}\n"
        );
        text.push_str(&line);
    }
    fs::write(&log, text).expect("written");
    export(&log, &out).expect("the log is valid");
    let ids = frame(&out.join(REQUESTS_FILE)).u64("request_id");
    assert_eq!(ids.expect("ids"), (0..40_000).collect::<Vec<u64>>());
}

#[test]
fn a_wrong_line_is_named_and_nothing_is_left_behind() {
    let folder = tempfile::tempdir().expect("a folder");
    let (log, out) = (folder.path().join("log.jsonl"), folder.path().join("out"));
    let wrong = LOG.replace("\"request\":0,\"fragment\"", "\"request\":8,\"fragment\"");
    fs::write(&log, wrong).expect("written");
    let error = export(&log, &out).expect_err("request 8 never arrived");
    let message = error.to_string();
    let start = format!("{}:8: request 8 is not known here", log.display());
    assert!(message.starts_with(&start), "{message}");
    let left = fs::read_dir(&out).expect("the folder is there").count();
    assert_eq!(left, 0);
}
