//! What an evaluation left in its folder, read leniently: any file may be absent, and keys or
//! columns that the report does not know are skipped.
//! A file that is there and cannot be read is an error.

use std::cmp::Ordering;
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use datasets::table::{Frame, ParquetError};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::{Map, Value};

use super::ReportError;
use super::metric::{Estimate, OBJECTIVE, find};

/// Everything that the report shows.
#[derive(Debug, Default)]
pub(crate) struct Results {
    /// Facts about the run, label and value, in the order in which they are shown.
    pub(crate) facts: Vec<(&'static str, String)>,
    /// World, if the evaluation names it.
    pub(crate) world: Option<String>,
    /// Number of seeds, if the evaluation says it.
    pub(crate) seeds: Option<usize>,
    /// Policies from the best mean objective to the worst.
    pub(crate) policies: Vec<Policy>,
    /// Paired differences: (a, b, metric) to a less b.
    paired: BTreeMap<(String, String, String), Estimate>,
    /// Share of the distance between the best heuristic and the oracle, by policy.
    pub(crate) gap_closed: BTreeMap<String, GapClosed>,
    /// Objective by policy and seed.
    runs: BTreeMap<String, BTreeMap<u64, f64>>,
    /// One run by policy.
    pub(crate) timelines: BTreeMap<String, Timeline>,
    /// Training curves, if there are any.
    pub(crate) training: Training,
    /// The files that were looked for, and what was found.
    pub(crate) files: Vec<InputFile>,
}

/// What became of one file.
#[derive(Debug)]
pub(crate) struct InputFile {
    /// Its name, relative to the folder.
    pub(crate) name: String,
    /// What it holds.
    pub(crate) content: &'static str,
    /// A count of what was found; `None` if the file is absent.
    pub(crate) found: Option<String>,
}

/// What kind of policy a name stands for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Role {
    /// A learned policy, in process or behind a service.
    Model,
    /// A search that may take its time.
    Oracle,
    /// Anything else.
    Heuristic,
}

/// One policy and its figures.
#[derive(Debug)]
pub(crate) struct Policy {
    pub(crate) name: String,
    pub(crate) role: Role,
    estimates: BTreeMap<String, Estimate>,
}

impl Policy {
    /// The estimate of a metric in the unit in which it is shown.
    pub(crate) fn shown(&self, key: &str) -> Option<Estimate> {
        let metric = find(key)?;
        let estimate = self.estimates.get(key)?;
        Some(estimate.scaled(metric.factor))
    }
}

/// How much of the distance to the oracle a policy closes.
#[derive(Debug)]
pub(crate) struct GapClosed {
    pub(crate) best_heuristic: Option<String>,
    /// 1 is the oracle, 0 the best heuristic.
    pub(crate) ratio: Estimate,
}

/// One run, a value per interval in each series; a column that is absent is an empty series.
#[derive(Debug, Default)]
pub(crate) struct Timeline {
    pub(crate) time_s: Vec<f64>,
    pub(crate) arrived: Vec<f64>,
    pub(crate) hosts_on: Vec<f64>,
    pub(crate) hosts_booting: Vec<f64>,
    pub(crate) utilization: Vec<f64>,
    pub(crate) queued: Vec<f64>,
    pub(crate) active_requests: Vec<f64>,
    pub(crate) power_w: Vec<f64>,
    pub(crate) energy_wh: Vec<f64>,
}

/// Training curves: a value per epoch in each series.
#[derive(Debug, Default)]
pub(crate) struct Training {
    pub(crate) epoch: Vec<f64>,
    pub(crate) series: BTreeMap<String, Vec<f64>>,
    pub(crate) best_epoch: Option<f64>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct EvaluationFile {
    world: Option<String>,
    world_hash: Option<String>,
    split: Option<String>,
    seeds: Value,
    first_seed: Value,
    intervals: Value,
    policies: BTreeMap<String, BTreeMap<String, Option<EstimateEntry>>>,
    paired: Vec<PairedEntry>,
    gap_closed: Option<BTreeMap<String, Option<GapEntry>>>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct EstimateEntry {
    mean: Option<f64>,
    ci95_low: Option<f64>,
    ci95_high: Option<f64>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct PairedEntry {
    a: String,
    b: String,
    metric: String,
    mean_difference: Option<f64>,
    ci95_low: Option<f64>,
    ci95_high: Option<f64>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct GapEntry {
    best_heuristic: Option<String>,
    ratio: Option<f64>,
    ci95_low: Option<f64>,
    ci95_high: Option<f64>,
}

impl Results {
    /// Reads what `folder` holds, or what its subfolder `evaluation` does.
    ///
    /// # Errors
    ///
    /// [`ReportError`] if there is nothing to report, or a file that exists cannot be read.
    pub(crate) fn read(folder: &Path) -> Result<Self, ReportError> {
        if !folder.is_dir() {
            return Err(ReportError::NoFolder {
                folder: folder.to_path_buf(),
            });
        }
        let nested = folder.join("evaluation");
        let evaluation = if folder.join(EVALUATION).exists() || !nested.is_dir() {
            folder.to_path_buf()
        } else {
            nested
        };
        let mut results = Self::default();
        results.read_evaluation(&evaluation.join(EVALUATION))?;
        results.read_runs(&evaluation.join(RUNS))?;
        results.read_timelines(&evaluation.join(TIMELINE))?;
        let metrics = [
            evaluation.join("model").join(METRICS),
            evaluation.join(METRICS),
            folder.join("model").join(METRICS),
            folder.join(METRICS),
        ];
        let metrics = metrics.iter().find(|path| path.exists());
        results.read_training(metrics.map(PathBuf::as_path))?;
        if results.files.iter().all(|file| file.found.is_none()) {
            return Err(ReportError::Nothing {
                folder: folder.to_path_buf(),
            });
        }
        Ok(results)
    }

    /// The learned policy with the best objective, or else the best policy that is no oracle.
    pub(crate) fn reference(&self) -> Option<&Policy> {
        let first_of = |role| self.policies.iter().find(|policy| policy.role == role);
        first_of(Role::Model)
            .or_else(|| first_of(Role::Heuristic))
            .or_else(|| self.policies.first())
    }

    /// `policy` less `reference`, in the unit in which the metric is shown.
    pub(crate) fn difference(&self, policy: &str, reference: &str, key: &str) -> Option<Estimate> {
        let factor = find(key)?.factor;
        let get = |a: &str, b: &str| {
            self.paired
                .get(&(a.to_owned(), b.to_owned(), key.to_owned()))
        };
        get(policy, reference)
            .map(|estimate| estimate.scaled(factor))
            .or_else(|| get(reference, policy).map(|estimate| estimate.scaled(-factor)))
    }

    /// On how many of the seeds that both ran `policy` had the higher objective.
    pub(crate) fn seeds_won(&self, policy: &str, reference: &str) -> Option<(usize, usize)> {
        let (ours, theirs) = (self.runs.get(policy)?, self.runs.get(reference)?);
        let pairs: Vec<(f64, f64)> = ours
            .iter()
            .filter_map(|(seed, value)| Some((*value, *theirs.get(seed)?)))
            .collect();
        let won = pairs.iter().filter(|(a, b)| a > b).count();
        (!pairs.is_empty()).then_some((won, pairs.len()))
    }

    fn read_evaluation(&mut self, path: &Path) -> Result<(), ReportError> {
        let file: Option<EvaluationFile> = read_json(path)?;
        let found = file.map(|file| self.take_evaluation(file));
        self.note(EVALUATION, "summary with intervals", found);
        Ok(())
    }

    fn take_evaluation(&mut self, file: EvaluationFile) -> String {
        let facts = [
            ("World", file.world.clone()),
            ("World hash", file.world_hash),
            ("Split", file.split),
            ("Seeds", plain(&file.seeds)),
            ("First seed", plain(&file.first_seed)),
            ("Intervals per run", plain(&file.intervals)),
        ];
        self.facts = facts
            .into_iter()
            .filter_map(|(label, value)| Some((label, value?)))
            .collect();
        self.world = file.world;
        self.seeds = count(&file.seeds);
        let gaps = file.gap_closed.unwrap_or_default();
        self.policies = policies(file.policies, &gaps.keys().cloned().collect());
        self.gap_closed = gaps
            .into_iter()
            .filter_map(|(name, gap)| {
                let gap = gap?;
                let ratio = estimate(gap.ratio, gap.ci95_low, gap.ci95_high)?;
                let best_heuristic = gap.best_heuristic;
                Some((
                    name,
                    GapClosed {
                        best_heuristic,
                        ratio,
                    },
                ))
            })
            .collect();
        self.paired = file
            .paired
            .into_iter()
            .filter_map(|pair| {
                let difference = estimate(pair.mean_difference, pair.ci95_low, pair.ci95_high)?;
                Some(((pair.a, pair.b, pair.metric), difference))
            })
            .collect();
        let (policies, pairs) = (self.policies.len(), self.paired.len());
        format!("{policies} policies, {pairs} paired differences")
    }

    fn read_runs(&mut self, path: &Path) -> Result<(), ReportError> {
        let Some(frame) = read_frame(path)? else {
            self.note(RUNS, "one row per policy and seed", None);
            return Ok(());
        };
        let policies = frame.text("policy")?;
        let seeds = match frame.u64("seed") {
            Ok(seeds) => seeds,
            // Seeds are only compared with each other: the bits of a number will do.
            Err(_) => bits(&numbers(&frame, "seed")?),
        };
        let objectives = numbers(&frame, OBJECTIVE)?;
        for ((policy, seed), objective) in policies.into_iter().zip(seeds).zip(objectives) {
            self.runs.entry(policy).or_default().insert(seed, objective);
        }
        let found = format!("{} rows", frame.height());
        self.note(RUNS, "one row per policy and seed", Some(found));
        Ok(())
    }

    fn read_timelines(&mut self, path: &Path) -> Result<(), ReportError> {
        const CONTENT: &str = "one row per policy and interval of the first seed";
        let Some(frame) = read_frame(path)? else {
            self.note(TIMELINE, CONTENT, None);
            return Ok(());
        };
        self.timelines = timelines(&frame)?;
        let (rows, policies) = (frame.height(), self.timelines.len());
        let found = format!("{rows} rows, {policies} policies");
        self.note(TIMELINE, CONTENT, Some(found));
        Ok(())
    }

    fn read_training(&mut self, path: Option<&Path>) -> Result<(), ReportError> {
        let file: Option<Value> = match path {
            Some(path) => read_json(path)?,
            None => None,
        };
        let found = file.map(|file| {
            self.training = training(&file);
            let (epochs, series) = (self.training.epoch.len(), self.training.series.len());
            format!("{epochs} epochs, {series} series")
        });
        self.note("model/metrics.json", "training curves", found);
        Ok(())
    }

    fn note(&mut self, name: &str, content: &'static str, found: Option<String>) {
        self.files.push(InputFile {
            name: name.to_owned(),
            content,
            found,
        });
    }
}

const EVALUATION: &str = "evaluation.json";
const RUNS: &str = "runs.parquet";
const TIMELINE: &str = "timeline.parquet";
const METRICS: &str = "metrics.json";

fn policies(
    entries: BTreeMap<String, BTreeMap<String, Option<EstimateEntry>>>,
    with_gap: &BTreeSet<String>,
) -> Vec<Policy> {
    let is_remote_or_file = |name: &str| {
        ["model:", "http://", "https://"]
            .iter()
            .any(|prefix| name.starts_with(prefix))
    };
    let named = entries.keys().any(|name| is_remote_or_file(name));
    let role = |name: &str| {
        if is_remote_or_file(name) || (!named && with_gap.contains(name)) {
            Role::Model
        } else if name.contains("oracle") || name.contains("clairvoyant") {
            Role::Oracle
        } else {
            Role::Heuristic
        }
    };
    let mut policies: Vec<Policy> = entries
        .into_iter()
        .map(|(name, metrics)| Policy {
            role: role(&name),
            name,
            estimates: metrics
                .into_iter()
                .filter_map(|(key, entry)| {
                    let entry = entry?;
                    let value = estimate(entry.mean, entry.ci95_low, entry.ci95_high)?;
                    Some((key, value))
                })
                .collect(),
        })
        .collect();
    let objective = |policy: &Policy| {
        let estimate = policy.estimates.get(OBJECTIVE);
        estimate.map_or(f64::NEG_INFINITY, |estimate| estimate.mean)
    };
    // The sort is stable: policies of equal objective stay in the order of their names.
    policies.sort_by(|a, b| {
        objective(b)
            .partial_cmp(&objective(a))
            .unwrap_or(Ordering::Equal)
    });
    policies
}

fn estimate(mean: Option<f64>, low: Option<f64>, high: Option<f64>) -> Option<Estimate> {
    let finite = |value: Option<f64>| value.filter(|value| value.is_finite());
    Some(Estimate {
        mean: finite(mean)?,
        interval: finite(low).zip(finite(high)),
    })
}

fn timelines(frame: &Frame) -> Result<BTreeMap<String, Timeline>, ReportError> {
    let policies = frame.text("policy")?;
    let time_s = numbers(frame, "time_s")?;
    let column = |name: &str| match numbers(frame, name) {
        Err(ParquetError::Column { found, .. }) if found == "none" => Ok(Vec::new()),
        other => other,
    };
    let columns = [
        column("arrived")?,
        column("hosts_on")?,
        column("hosts_booting")?,
        column("utilization")?,
        column("queued")?,
        column("active_requests")?,
        column("power_w")?,
        column("energy_wh")?,
    ];
    let mut timelines: BTreeMap<String, Timeline> = BTreeMap::new();
    for (row, (policy, time)) in policies.into_iter().zip(time_s).enumerate() {
        let timeline = timelines.entry(policy).or_default();
        timeline.time_s.push(time);
        for (series, column) in timeline.series_mut().into_iter().zip(&columns) {
            series.extend(column.get(row));
        }
    }
    Ok(timelines)
}

impl Timeline {
    fn series_mut(&mut self) -> [&mut Vec<f64>; 8] {
        [
            &mut self.arrived,
            &mut self.hosts_on,
            &mut self.hosts_booting,
            &mut self.utilization,
            &mut self.queued,
            &mut self.active_requests,
            &mut self.power_w,
            &mut self.energy_wh,
        ]
    }
}

fn training(file: &Value) -> Training {
    let rows = match file {
        Value::Array(rows) => rows.as_slice(),
        Value::Object(object) => object
            .get("epochs")
            .and_then(Value::as_array)
            .map_or(&[][..], Vec::as_slice),
        _ => &[],
    };
    let mut training = Training {
        best_epoch: file.get("best_epoch").and_then(Value::as_f64),
        ..Training::default()
    };
    for (index, row) in rows.iter().enumerate() {
        let mut flat = BTreeMap::new();
        if let Value::Object(row) = row {
            flatten("", row, &mut flat);
        }
        let epoch = flat.remove("epoch").unwrap_or(index as f64);
        training.epoch.push(epoch);
        for (name, value) in flat {
            let series = training.series.entry(name).or_default();
            series.resize(index, f64::NAN);
            series.push(value);
        }
    }
    for series in training.series.values_mut() {
        series.resize(rows.len(), f64::NAN);
    }
    training
}

fn flatten(prefix: &str, object: &Map<String, Value>, flat: &mut BTreeMap<String, f64>) {
    for (key, value) in object {
        let name = if prefix.is_empty() {
            key.clone()
        } else {
            format!("{prefix}_{key}")
        };
        if let Value::Object(inner) = value {
            flatten(&name, inner, flat);
        } else if let Some(number) = value.as_f64() {
            flat.insert(name, number);
        }
    }
}

fn read_bytes(path: &Path) -> Result<Option<Vec<u8>>, ReportError> {
    match fs::read(path) {
        Ok(bytes) => Ok(Some(bytes)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(source) => Err(ReportError::Io {
            path: path.to_path_buf(),
            source,
        }),
    }
}

fn read_json<T: DeserializeOwned>(path: &Path) -> Result<Option<T>, ReportError> {
    let Some(bytes) = read_bytes(path)? else {
        return Ok(None);
    };
    let parsed = serde_json::from_slice(&bytes);
    parsed.map(Some).map_err(|source| ReportError::Json {
        path: path.to_path_buf(),
        source,
    })
}

fn read_frame(path: &Path) -> Result<Option<Frame>, ReportError> {
    let Some(bytes) = read_bytes(path)? else {
        return Ok(None);
    };
    Ok(Some(Frame::decode(path, bytes)?))
}

/// A column of numbers of whichever width; NaN where a value is absent.
fn numbers(frame: &Frame, column: &str) -> Result<Vec<f64>, ParquetError> {
    if let Ok(values) = frame.optional_u32(column) {
        return Ok(or_nan(values.into_iter().map(|value| value.map(f64::from))));
    }
    if let Ok(values) = frame.u64(column) {
        return Ok(values.into_iter().map(|value| value as f64).collect());
    }
    if let Ok(values) = frame.f32(column) {
        return Ok(values.into_iter().map(f64::from).collect());
    }
    Ok(or_nan(frame.optional_f64(column)?.into_iter()))
}

fn bits(values: &[f64]) -> Vec<u64> {
    values.iter().map(|value| value.to_bits()).collect()
}

fn or_nan(values: impl Iterator<Item = Option<f64>>) -> Vec<f64> {
    values.map(|value| value.unwrap_or(f64::NAN)).collect()
}

/// A number or a text as it stands in the file.
fn plain(value: &Value) -> Option<String> {
    match value {
        Value::Number(number) => Some(number.to_string()),
        Value::String(text) => Some(text.clone()),
        Value::Array(items) => Some(items.len().to_string()),
        _ => None,
    }
}

/// How many seeds: their number, or the length of their list.
fn count(value: &Value) -> Option<usize> {
    match value {
        Value::Array(items) => Some(items.len()),
        other => other.as_u64().and_then(|count| usize::try_from(count).ok()),
    }
}
