//! `trainer export-decisions`.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use clap::Parser;
use datasets::table::Frame;
use tempfile::TempDir;
use trainer::export_decisions::{
    ACTIONS_FILE, Args, DECISIONS_FILE, Exported, OUTCOMES_FILE, export,
};
use twin::World;
use twin::decision_log::{ActionRow, DecisionId, DecisionRow, OutcomeRow, Row, Rows};

use crate::logged::{open, outcome, run};

#[derive(Parser)]
struct Cli {
    #[command(flatten)]
    args: Args,
}

/// A folder with a log and one for what is made of it.
struct Place {
    folder: TempDir,
    world: World,
}

impl Place {
    fn new() -> Self {
        Self {
            folder: tempfile::tempdir().expect("a folder"),
            world: World::load("scinet-16").expect("it is embedded"),
        }
    }

    fn log(&self) -> PathBuf {
        self.folder.path().join("log")
    }

    fn out(&self) -> PathBuf {
        self.folder.path().join("out")
    }

    fn args(&self, more: &[&str]) -> Args {
        let (log, out) = (self.log(), self.out());
        let fixed = [
            "trainer",
            log.to_str().expect("text"),
            "--out",
            out.to_str().expect("text"),
        ];
        Cli::parse_from([&fixed[..], more].concat()).args
    }

    fn export(&self, more: &[&str]) -> Exported {
        export(&self.args(more)).expect("the log is whole")
    }

    fn frame(&self, name: &str) -> Frame {
        let path = self.out().join(name);
        let bytes = fs::read(&path).expect("the file is there");
        Frame::decode(&path, bytes).expect("it is whole")
    }

    fn segments(&self) -> Vec<PathBuf> {
        let mut segments: Vec<PathBuf> = fs::read_dir(self.log())
            .expect("the folder is there")
            .map(|entry| entry.expect("an entry").path())
            .filter(|path| path.extension().is_some_and(|e| e == "log"))
            .collect();
        segments.sort();
        segments
    }

    /// The rows that the log has.
    fn rows(&self) -> (Vec<DecisionRow>, Vec<OutcomeRow>) {
        let mut rows = Rows::open(&self.log(), 0).expect("the folder is there");
        let (mut decisions, mut outcomes) = (Vec::new(), Vec::new());
        while let Some(row) = rows.next_row().expect("readable") {
            match row {
                Row::Decision(row) => decisions.push(*row),
                Row::Outcome(row) => outcomes.push(row),
            }
        }
        (decisions, outcomes)
    }
}

fn texts(texts: &[Option<&str>]) -> Vec<Option<String>> {
    texts.iter().map(|text| text.map(Into::into)).collect()
}

#[test]
fn every_row_of_a_running_log_is_in_the_files() {
    let place = Place::new();
    let log = open(&place.log(), &place.world);
    let ids = run(&log, &place.world, 20);
    let told: Vec<_> = (0..5).map(|request| outcome(ids[1], request)).collect();
    log.append_outcomes(&told).expect("appended");
    // The log is still open for writing.
    let exported = place.export(&["--json"]);
    let (rows, outcomes) = place.rows();
    assert!(rows.len() == ids.len() && rows.len() > 10 && outcomes.len() == 5);
    assert_eq!(exported.decisions, rows.len() as u64);
    let frame = place.frame(DECISIONS_FILE);
    let each = |of: &dyn Fn(&DecisionRow) -> u64| rows.iter().map(of).collect::<Vec<u64>>();
    assert_eq!(
        frame.u64("decision_id").expect("a column"),
        each(&|r| r.id.0)
    );
    assert_eq!(
        frame.u64("answered_at_ns").expect("a column"),
        each(&|r| r.at_ns)
    );
    let text = |name: &str| frame.text(name).expect("a column");
    assert!(
        text("request_json")
            .iter()
            .zip(&rows)
            .all(|(json, row)| *json == row.request_json)
    );
    assert!(
        text("response_json")
            .iter()
            .zip(&rows)
            .all(|(json, row)| *json == row.response_json)
    );
    assert!(text("asked_policy").iter().all(|policy| policy == "edge"));
    for (name, value) in [
        ("policy", "least-loaded"),
        ("fallback_reason", "it is busy"),
        ("client", "deployer"),
        ("model_sha256", "ab12"),
        ("world_sha256", &place.world.hash),
    ] {
        let found = frame.optional_text(name).expect("a column");
        assert_eq!(found, texts(&vec![Some(value); rows.len()]), "{name}");
    }
    // Every second one is on the fleet that is kept, and was the candidate's.
    let turns: Vec<bool> = (0..rows.len()).map(|place| place % 2 == 1).collect();
    assert_eq!(frame.flag("candidate").expect("a column"), turns);
    let stateless: Vec<bool> = turns.iter().map(|turn| !turn).collect();
    assert_eq!(frame.flag("stateless").expect("a column"), stateless);
    let numbers = |name: &str| frame.optional_u64(name).expect("a column");
    let hosts: Vec<Option<u64>> = stateless.iter().map(|s| s.then_some(16)).collect();
    assert_eq!(numbers("hosts"), hosts);
    let now: Vec<Option<u64>> = rows.iter().map(|row| row.now_ns).collect();
    assert!(numbers("fleet_now_ns") == now && now.iter().all(Option::is_some));
    let boundary = frame.optional_flag("boundary").expect("a column");
    assert!(boundary.contains(&Some(true)) && boundary.iter().all(Option::is_some));
    assert_eq!(
        frame.optional_f64("decision_time_us").expect("a column"),
        vec![Some(2.5); rows.len()]
    );
    check_actions(&place, &rows, exported.actions);
    check_outcomes(&place, ids[1]);
}

/// Holds the outcomes against those that were told of `decision`.
fn check_outcomes(place: &Place, decision: DecisionId) {
    let frame = place.frame(OUTCOMES_FILE);
    assert_eq!(frame.u64("decision_id").expect("a column"), [decision.0; 5]);
    assert_eq!(frame.u64("request_id").expect("a column"), [0, 1, 2, 3, 4]);
    assert_eq!(
        frame.flag("answered").expect("a column"),
        [false, true, true, false, true]
    );
    let response = [None, Some(0.25), Some(0.25), None, Some(0.25)];
    assert_eq!(
        frame.optional_f64("response_s").expect("a column"),
        response
    );
    assert_eq!(
        frame.flag("late").expect("a column"),
        [true, false, false, true, false]
    );
}

/// Holds the actions against those of `rows`.
fn check_actions(place: &Place, rows: &[DecisionRow], count: u64) {
    let frame = place.frame(ACTIONS_FILE);
    let ids = frame.u64("decision_id").expect("a column");
    assert_eq!(ids.len() as u64, count);
    let kinds = frame.text("kind").expect("a column");
    let hosts = frame.optional_u32("host").expect("a column");
    let requests = frame.optional_u64("request_id").expect("a column");
    let variants = frame.optional_text("variant").expect("a column");
    let fragments = frame.optional_u32("fragment").expect("a column");
    let mut found: BTreeMap<(u64, u64), (Option<String>, Vec<u32>)> = BTreeMap::new();
    for at in 0..ids.len() {
        assert_eq!(kinds[at], "deploy", "nothing else is decided in this run");
        let key = (ids[at], requests[at].expect("it deploys a request"));
        let (variant, placed) = found.entry(key).or_default();
        variant.clone_from(&variants[at]);
        assert_eq!(fragments[at].map(|f| f as usize), Some(placed.len()));
        placed.push(hosts[at].expect("it is placed"));
    }
    let mut expected = BTreeMap::new();
    for row in rows {
        for action in row.actions.iter().flatten() {
            let ActionRow::Deploy {
                request,
                variant,
                hosts,
            } = action
            else {
                panic!("another action: {action:?}");
            };
            let deployed = (Some(variant.clone()), hosts.clone());
            expected.insert((row.id.0, *request), deployed);
        }
    }
    assert!(!expected.is_empty());
    assert_eq!(found, expected);
    let deployments: u64 = place
        .frame(DECISIONS_FILE)
        .optional_u64("deployments")
        .expect("a column")
        .into_iter()
        .flatten()
        .sum();
    assert_eq!(deployments, expected.len() as u64);
}

#[test]
fn an_empty_log_becomes_empty_files_and_after_leaves_out_what_is_known() {
    let place = Place::new();
    let log = open(&place.log(), &place.world);
    assert_eq!(place.export(&[]), Exported::default());
    assert_eq!(place.frame(DECISIONS_FILE).height(), 0);
    assert!(!place.frame(DECISIONS_FILE).has("request_json"));
    assert!(place.frame(OUTCOMES_FILE).has("response_s"));
    let ids = run(&log, &place.world, 6);
    let half = ids.len() / 2;
    let after = ids[half - 1].to_string();
    place.export(&["--after", &after]);
    let found = place
        .frame(DECISIONS_FILE)
        .u64("decision_id")
        .expect("a column");
    assert!(
        found
            .iter()
            .copied()
            .map(DecisionId)
            .eq(ids[half..].iter().copied())
    );
}

#[test]
fn more_rows_than_a_part_are_all_there() {
    let place = Place::new();
    let log = open(&place.log(), &place.world);
    let many = 40_000;
    for from in (0..many).step_by(1_000) {
        let told: Vec<_> = (from..from + 1_000)
            .map(|r| outcome(DecisionId(1), r))
            .collect();
        log.append_outcomes(&told).expect("appended");
    }
    assert_eq!(place.export(&[]).outcomes, many);
    let found = place
        .frame(OUTCOMES_FILE)
        .u64("request_id")
        .expect("a column");
    assert_eq!(found, (0..many).collect::<Vec<u64>>());
}

#[test]
fn an_end_that_is_not_whole_is_left_out() {
    let place = Place::new();
    let log = open(&place.log(), &place.world);
    let ids = run(&log, &place.world, 6);
    drop(log);
    // A crash in the middle of the last record.
    let last = place.segments().pop().expect("there are segments");
    let bytes = fs::read(&last).expect("readable");
    fs::write(&last, &bytes[..bytes.len() - 7]).expect("written");
    let exported = place.export(&[]);
    assert_eq!(exported.decisions, ids.len() as u64 - 1);
    assert_eq!(exported.skipped, 0, "it is no damage");
}

fn trainer(place: &Place, more: &[&str]) -> (Option<i32>, String, String) {
    let output = Command::new(env!("CARGO_BIN_EXE_trainer"))
        .arg("export-decisions")
        .arg(place.log())
        .arg("--out")
        .arg(place.out())
        .args(more)
        .output()
        .expect("the program starts");
    let text = |bytes| String::from_utf8(bytes).expect("text");
    (
        output.status.code(),
        text(output.stdout),
        text(output.stderr),
    )
}

fn files(folder: &Path) -> usize {
    fs::read_dir(folder).map_or(0, Iterator::count)
}

#[test]
fn damage_is_named_and_leaves_nothing_behind_unless_it_is_skipped() {
    let place = Place::new();
    let (code, _, error) = trainer(&place, &[]);
    assert_eq!(code, Some(66), "{error}");
    let log = open(&place.log(), &place.world);
    let ids = run(&log, &place.world, 40);
    drop(log);
    let segments = place.segments();
    assert!(segments.len() > 3);
    let mut bytes = fs::read(&segments[1]).expect("readable");
    let middle = bytes.len() / 2;
    bytes[middle] ^= 0xff;
    fs::write(&segments[1], bytes).expect("written");
    let (code, out, error) = trainer(&place, &[]);
    assert_eq!((code, out.as_str()), (Some(65), ""), "{error}");
    let named = segments[1].display().to_string();
    assert!(
        error.contains(&named) && error.contains("--skip-damage"),
        "{error}"
    );
    assert_eq!(files(&place.out()), 0);

    let (code, out, error) = trainer(&place, &["--skip-damage"]);
    assert_eq!(code, Some(0), "{error}");
    assert!(error.contains(&named), "{error}");
    // The record is a decision, or the fleet before one.
    let found = place.frame(DECISIONS_FILE).height();
    assert!(found >= ids.len() - 1, "{found} of {}", ids.len());
    let line = format!("{DECISIONS_FILE}: {found} rows");
    assert!(out.contains(&line) && files(&place.out()) == 3, "{out}");
}
