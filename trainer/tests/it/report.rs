//! `trainer report`.

use std::collections::BTreeMap;
use std::f64::consts::TAU;
use std::fs;
use std::path::Path;
use std::process::Command;

use datasets::write_parquet;
use serde_json::{Map, Value, json};
use trainer::evaluate::{EVALUATION_FILE, METRICS, RUNS_FILE, RunRow, TIMELINE_FILE, TimelineRow};
use trainer::report::{ReportError, render, write};
use twin::qos::{Qos, Snapshot};

const MODEL: &str = "model:runs/quickstart/model";

/// Names that roles, layouts and markup depend on, each with the quality from 0 to 1 of its figures.
const POLICIES: [(&str, f64); 12] = [
    ("random", 0.05),
    ("round-robin", 0.30),
    ("least-loaded", 0.42),
    ("best-fit", 0.55),
    ("threshold-autoscaler", 0.60),
    ("scinet-teacher", 0.25),
    ("scinet-teacher-corrected", 0.38),
    ("greedy", 0.80),
    (MODEL, 0.93),
    ("http://127.0.0.1:8080", 0.93),
    (
        "model:runs/a-longer-experiment/models/azure-llm-wide-64",
        0.90,
    ),
    ("oracle", 1.00),
];

/// A folder of results: policies whose figures follow from a quality, on `seeds` seeds.
struct Sample<'a> {
    policies: &'a [(&'a str, f64)],
    seeds: u64,
    intervals: u32,
}

impl Sample<'_> {
    fn write(&self, folder: &Path) {
        let rows: Vec<RunRow> = self
            .policies
            .iter()
            .flat_map(|(name, quality)| (1..=self.seeds).map(|seed| run(name, *quality, seed)))
            .collect();
        write_parquet(&rows, folder.join(RUNS_FILE)).expect("the folder can be written");
        let shots: Vec<TimelineRow> = self
            .policies
            .iter()
            .flat_map(|(name, quality)| timeline(name, *quality, self.intervals))
            .collect();
        write_parquet(&shots, folder.join(TIMELINE_FILE)).expect("the folder can be written");
        let evaluation = self.evaluation(&rows).to_string();
        fs::write(folder.join(EVALUATION_FILE), evaluation).expect("the folder can be written");
        fs::create_dir_all(folder.join("model")).expect("the folder can be written");
        let training = training().to_string();
        fs::write(folder.join("model/metrics.json"), training).expect("the folder can be written");
    }

    fn evaluation(&self, rows: &[RunRow]) -> Value {
        let values = |policy: &str, metric: &str| -> Option<Vec<f64>> {
            let rows = rows.iter().filter(|row| row.policy == policy);
            rows.map(|row| row.metric(metric)).collect()
        };
        let mut policies = Map::new();
        let mut paired = Vec::new();
        for (index, (a, _)) in self.policies.iter().enumerate() {
            let estimates: Map<String, Value> = METRICS
                .iter()
                .map(|metric| {
                    let estimate = values(a, metric).map(|values| estimate("mean", &values));
                    ((*metric).to_owned(), json!(estimate))
                })
                .collect();
            policies.insert((*a).to_owned(), Value::Object(estimates));
            for (b, _) in &self.policies[index + 1..] {
                for metric in METRICS {
                    let (of_a, of_b) = (values(a, metric), values(b, metric));
                    let (of_a, of_b) = (of_a.expect("a value"), of_b.expect("a value"));
                    let differences: Vec<f64> =
                        of_a.iter().zip(&of_b).map(|(a, b)| a - b).collect();
                    let mut entry = estimate("mean_difference", &differences);
                    entry.insert("a".to_owned(), json!(a));
                    entry.insert("b".to_owned(), json!(b));
                    entry.insert("metric".to_owned(), json!(metric));
                    paired.push(Value::Object(entry));
                }
            }
        }
        let known = self.seeds > 1;
        let gap = json!({
            "best_heuristic": "threshold-autoscaler",
            "ratio": 0.931,
            "ci95_low": known.then_some(0.912),
            "ci95_high": known.then_some(0.948),
            "against_greedy": {"ratio": 0.71, "ci95_low": null, "ci95_high": null},
        });
        json!({
            "world": "azure-llm",
            "world_hash": "5f2a".repeat(16),
            "seeds": self.seeds,
            "first_seed": 1,
            "intervals": self.intervals,
            "split": "held-out",
            "policies": policies,
            "paired": paired,
            "gap_closed": {MODEL: gap},
            "spread": null,
            "a key of a later version": [1, 2, 3],
        })
    }
}

/// Mean and an interval of two standard errors; none for a single value.
fn estimate(mean_key: &str, values: &[f64]) -> Map<String, Value> {
    let n = values.len() as f64;
    let mean = values.iter().sum::<f64>() / n;
    let squares: f64 = values.iter().map(|value| (value - mean).powi(2)).sum();
    let half = (n > 1.0).then(|| 2.0 * (squares / (n - 1.0) / n).sqrt());
    [
        (mean_key.to_owned(), json!(mean)),
        ("ci95_low".to_owned(), json!(half.map(|half| mean - half))),
        ("ci95_high".to_owned(), json!(half.map(|half| mean + half))),
    ]
    .into_iter()
    .collect()
}

/// A number from 0 to 1 that looks random and is always the same.
fn noise(name: &str, index: u64) -> f64 {
    let seed = name
        .bytes()
        .fold(index + 1, |sum, byte| (sum * 31 + u64::from(byte)) % 99_991);
    (seed as f64 * 0.618_033_988_75).fract()
}

fn run(name: &str, quality: f64, seed: u64) -> RunRow {
    // The service decides like the model in process.
    let source = if name.starts_with("http:") {
        MODEL
    } else {
        name
    };
    let loss = 1.0 - quality;
    let shared = noise("arrivals", seed);
    let own = 0.06 * (noise(source, seed) - 0.5);
    let objective = -0.4 - loss - 0.3 * shared + own * (0.2 + loss);
    let response = 0.8 + 2.5 * loss * loss + 0.4 * shared + own;
    let qos = Qos {
        objective,
        energy_wh: 2100.0 + 900.0 * loss + 300.0 * shared + 1000.0 * own,
        cost_usd: 4.1 + 3.0 * loss + own,
        response_mean_s: response,
        response_p50_s: response * 0.7,
        response_p95_s: response * 2.9,
        response_p99_s: response * (5.0 + 60.0 * loss.powi(3)),
        sla_violation_ratio: 0.012 + 0.25 * loss * loss + 0.01 * shared,
        accuracy_mean: 0.94 - 0.1 * loss + 0.1 * own,
        utilization_mean: 0.66 - 0.3 * loss + 0.05 * shared,
        waiting_mean_s: 0.02 + loss * (0.4 + own),
        jain_fairness: 0.97 - 0.2 * loss + 0.2 * own,
        requests_arrived: 12_000 + seed,
        requests_completed: 11_950,
        requests_unfinished: 50 + seed,
        hosts_billed_mean: 14.0,
        duration_s: 3600.0,
        ..Qos::default()
    };
    let decision_time_us = match name {
        "oracle" => 210_000.0,
        "greedy" => 900.0,
        _ if name.starts_with("model:") => 11.0,
        _ if name.starts_with("http:") => 240.0,
        _ if name.starts_with("scinet") => 35.0,
        _ => 1.8 + 0.9 * noise(name, 7),
    };
    RunRow {
        world: "azure-llm".to_owned(),
        policy: name.to_owned(),
        seed,
        mechanics: Vec::new(),
        regret: Some((loss * (1.0 - own)).max(0.0)),
        qos,
        decision_time_p50_us: Some(decision_time_us * (1.0 + own)),
        decision_time_p99_us: Some(decision_time_us * (3.0 + own)),
    }
}

fn timeline(name: &str, quality: f64, intervals: u32) -> Vec<TimelineRow> {
    let (mut arrived, mut energy_wh) = (0, 0.0);
    (0..intervals)
        .map(|interval| {
            let phase = TAU * f64::from(interval) / f64::from(intervals.max(1));
            let load = 0.5 - 0.4 * phase.cos() + 0.1 * noise("load", u64::from(interval));
            let wanted = (24.0 * load * (1.4 - 0.4 * quality)).clamp(1.0, 24.0);
            let hosts_on = (1..=24)
                .rev()
                .find(|on| f64::from(*on) <= wanted)
                .unwrap_or(1);
            let power_w = 60.0 * f64::from(hosts_on) + 800.0 * load;
            let snapshot = Snapshot {
                time_s: 10.0 * f64::from(interval),
                hosts_on,
                hosts_booting: u32::from(noise(name, u64::from(interval)) > 0.8),
                utilization: (load * 20.0 / f64::from(hosts_on)).min(1.0),
                queued: u32::from(load > 0.8) * interval % 17,
                active_requests: 10 + interval % 23,
                power_w,
                energy_wh,
                price_usd_per_hour: 0.2 * f64::from(hosts_on),
                arrived,
            };
            arrived += u64::from(interval % 40) + 20;
            energy_wh += power_w * 10.0 / 3600.0;
            TimelineRow {
                world: "azure-llm".to_owned(),
                policy: name.to_owned(),
                seed: 1,
                interval,
                snapshot,
            }
        })
        .collect()
}

fn training() -> Value {
    let epochs: Vec<Value> = (0..30)
        .map(|epoch| {
            let left = (-0.15 * f64::from(epoch)).exp();
            json!({
                "epoch": epoch,
                "train_loss": 0.02 + 1.9 * left,
                "validation_loss": 0.09 + 1.8 * left + 0.001 * f64::from(epoch),
                "train_regret": 0.004 + 0.4 * left,
                "validation_regret": 0.012 + 0.4 * left,
                "validation_accuracy": {"provisioning": 0.9 - 0.5 * left, "placement": 0.8 - 0.5 * left},
                "learning_rate": 0.001 * left,
                "improved": true,
            })
        })
        .collect();
    json!({"epochs": epochs, "best_epoch": 24})
}

fn folder() -> tempfile::TempDir {
    tempfile::tempdir().expect("a folder can be made")
}

/// What every page must be: whole, alone, and well nested.
fn check(page: &str) {
    assert!(page.starts_with("<!DOCTYPE html>") && page.ends_with("</html>\n"));
    for external in ["<script", "<link", "<img", "@import", "url(", "src="] {
        assert!(!page.contains(external), "{external}");
    }
    assert!(!page.contains("NaN") && !page.contains("inf\""));
    let mut ids = BTreeMap::new();
    for id in page.split(" id=\"").skip(1) {
        let id = id.split('"').next().expect("a split has a part");
        assert!(ids.insert(id, ()).is_none(), "two elements are called {id}");
    }
    let mut open: Vec<&str> = Vec::new();
    for tag in page.split('<').skip(2) {
        let end = tag.find('>').expect("a tag ends");
        let name = tag
            .split([' ', '>', '/', '\n'])
            .next()
            .expect("a split has a part");
        if let Some(closed) = tag.strip_prefix('/') {
            let closed = closed.split('>').next().expect("a split has a part");
            assert_eq!(open.pop(), Some(closed));
        } else if !tag[..end].ends_with('/') && !["meta", "input", "wbr"].contains(&name) {
            open.push(name);
        }
    }
    assert!(open.is_empty(), "{open:?}");
}

#[test]
fn a_whole_evaluation_has_every_section_and_the_same_bytes() {
    let folder = folder();
    let sample = Sample {
        policies: &POLICIES,
        seeds: 20,
        intervals: 360,
    };
    sample.write(folder.path());
    let path = write(folder.path(), None).expect("a page");
    assert_eq!(path, folder.path().join("report.html"));
    let page = fs::read_to_string(&path).expect("the page is there");
    check(&page);
    assert_eq!(page, render(folder.path()).expect("a page"));
    for metric in METRICS {
        assert!(page.contains(&format!("id=\"qos-{metric}-t\"")), "{metric}");
    }
    // Twelve runs, each for a desk and for a phone; a forest for each of three models.
    assert_eq!(page.matches("<title id=\"run-").count(), 24);
    assert_eq!(page.matches("<title id=\"forest-").count(), 6);
    assert_eq!(page.matches("<title id=\"training-").count(), 5);
    assert!(
        page.contains("93.1 %") && page.contains("91.2 to 94.8 %"),
        "gap closed"
    );
    assert!(page.contains("20 of 20"), "seeds won");
    assert!(!page.contains("class=\"missing\""));
    // A copy for eyes, where somebody asks for one.
    if let Some(copy) = std::env::var_os("REPORT_SAMPLE") {
        fs::copy(&path, copy).expect("the copy can be written");
    }
}

#[test]
fn each_file_may_be_absent() {
    for present in [
        EVALUATION_FILE,
        RUNS_FILE,
        TIMELINE_FILE,
        "model/metrics.json",
    ] {
        let (whole, part) = (folder(), folder());
        let sample = Sample {
            policies: &POLICIES[7..],
            seeds: 2,
            intervals: 3,
        };
        sample.write(whole.path());
        fs::create_dir(part.path().join("model")).expect("the folder can be written");
        fs::copy(whole.path().join(present), part.path().join(present)).expect("a copy");
        let page = render(part.path()).expect("a page");
        check(&page);
        assert_eq!(
            page.matches("<td class=\"words\">absent</td>").count(),
            3,
            "{present}"
        );
        assert!(page.contains("class=\"missing\""), "{present}");
    }
}

#[test]
fn a_folder_without_results_is_an_error_that_says_what_to_give() {
    let folder = folder();
    let error = render(folder.path()).expect_err("nothing is there");
    assert!(matches!(error, ReportError::Nothing { .. }));
    assert!(
        error.to_string().contains("trainer evaluate --out"),
        "{error}"
    );
    let error = render(&folder.path().join("absent")).expect_err("no folder");
    assert!(matches!(error, ReportError::NoFolder { .. }));
}

#[test]
fn damaged_files_are_errors_that_name_them() {
    let sample = Sample {
        policies: &POLICIES[10..],
        seeds: 2,
        intervals: 3,
    };
    for (name, position) in [
        (EVALUATION_FILE, "line 1"),
        (RUNS_FILE, "damaged"),
        (TIMELINE_FILE, "damaged"),
        ("model/metrics.json", "line 1"),
    ] {
        let folder = folder();
        sample.write(folder.path());
        let path = folder.path().join(name);
        let bytes = fs::read(&path).expect("the file is there");
        fs::write(&path, &bytes[..bytes.len() / 2]).expect("the file can be cut");
        let error = render(folder.path()).expect_err(name).to_string();
        let file = name.rsplit('/').next().expect("a split has a part");
        assert!(error.contains(file) && error.contains(position), "{error}");
    }
}

#[test]
fn names_cannot_become_markup() {
    let hostile = "\"><script>alert(1)</script>&<svg onload='x'>\u{202e}\u{0}";
    let endless = "a-name-without-an-end-".repeat(40);
    let policies = [
        (hostile, 0.4),
        (endless.as_str(), 0.5),
        ("", 0.6),
        ("名前", 0.7),
        (MODEL, 0.9),
    ];
    let folder = folder();
    let sample = Sample {
        policies: &policies,
        seeds: 20,
        intervals: 4,
    };
    sample.write(folder.path());
    let path = folder.path().join(EVALUATION_FILE);
    let text = fs::read_to_string(&path).expect("the file is there");
    let mut evaluation: Value = serde_json::from_str(&text).expect("JSON");
    evaluation["world"] = json!(hostile);
    evaluation["gap_closed"][MODEL]["best_heuristic"] = json!(hostile);
    evaluation["spread"] = json!({
        "worst_heuristic": "a", "worst_objective": 0.0, "best_heuristic": "b",
        "best_objective": 0.0, "worst_to_best": 0.0, "warnings": [hostile],
    });
    fs::write(&path, evaluation.to_string()).expect("the file can be written");
    let metrics = json!({"epochs": [{"<script>": 1.0, "train_<b>": 2.0}]}).to_string();
    fs::write(folder.path().join("model/metrics.json"), metrics).expect("written");
    let page = render(folder.path()).expect("a page");
    check(&page);
    assert!(!page.contains("onload='") && !page.contains('\u{202e}') && !page.contains('\0'));
    assert!(page.contains("&lt;script&gt;alert(1)&lt;/script&gt;"));
}

#[test]
fn an_empty_evaluation_says_that_it_is_empty() {
    let folder = folder();
    let sample = Sample {
        policies: &[],
        seeds: 20,
        intervals: 0,
    };
    sample.write(folder.path());
    fs::write(folder.path().join("model/metrics.json"), "{\"epochs\": []}").expect("written");
    let page = render(folder.path()).expect("a page");
    check(&page);
    assert!(page.contains("There is no policy to report"));
    assert!(page.contains("There are no training curves"));
}

#[test]
fn a_single_seed_has_no_intervals_and_no_verdicts() {
    let folder = folder();
    let sample = Sample {
        policies: &POLICIES,
        seeds: 1,
        intervals: 1,
    };
    sample.write(folder.path());
    let page = render(folder.path()).expect("a page");
    check(&page);
    assert!(page.contains("fewer than 20 seeds") && page.contains("no interval"));
    assert!(page.contains("<b>undecided against 11</b>"));
    assert!(!page.contains("<b>better than"));
}

#[test]
fn the_command_prints_where_the_page_is() {
    let folder = folder();
    let sample = Sample {
        policies: &POLICIES[7..],
        seeds: 2,
        intervals: 3,
    };
    let evaluation = folder.path().join("evaluation");
    fs::create_dir(&evaluation).expect("the folder can be written");
    sample.write(&evaluation);
    let out = folder.path().join("page.html");
    let trainer = |dir: &Path| {
        Command::new(env!("CARGO_BIN_EXE_trainer"))
            .arg("report")
            .arg(dir)
            .arg("--out")
            .arg(&out)
            .output()
            .expect("the program runs")
    };
    // The folder of a quickstart will do: the evaluation is in its subfolder.
    let done = trainer(folder.path());
    assert!(
        done.status.success(),
        "{}",
        String::from_utf8_lossy(&done.stderr)
    );
    assert_eq!(
        String::from_utf8_lossy(&done.stdout),
        format!("{}\n", out.display())
    );
    check(&fs::read_to_string(&out).expect("the page is there"));
    assert_eq!(
        trainer(&folder.path().join("absent")).status.code(),
        Some(66)
    );
    fs::write(evaluation.join(EVALUATION_FILE), "{").expect("the file can be written");
    assert_eq!(trainer(folder.path()).status.code(), Some(65));
}
