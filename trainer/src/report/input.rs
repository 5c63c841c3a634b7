//! What an evaluation left in its folder: any file may be absent, and keys and columns that the
//! report does not know are skipped.
//! A file that is there and cannot be read is an error.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use datasets::{ParquetError, read_parquet};
use serde::de::DeserializeOwned;
use serde_json::{Map, Value};
use twin::qos::Snapshot;

use super::ReportError;
use super::metric::{Estimate, OBJECTIVE, find};
use crate::evaluate::{
    EVALUATION_FILE, Evaluation, GapClosed, RUNS_FILE, RunRow, TIMELINE_FILE, TimelineRow,
};
use crate::policies::{Role, role};

const METRICS_FILE: &str = "metrics.json";

/// Everything that the report shows.
#[derive(Debug, Default)]
pub(crate) struct Results {
    /// Facts about the evaluation, label and value, in the order in which they are shown.
    pub(crate) facts: Vec<(&'static str, String)>,
    /// World, if there is an evaluation.
    pub(crate) world: Option<String>,
    /// Number of seeds, if there is an evaluation.
    pub(crate) seeds: Option<u64>,
    /// What the evaluation warned of.
    pub(crate) warnings: Vec<String>,
    /// Policies from the best mean objective to the worst.
    pub(crate) policies: Vec<Policy>,
    /// Paired differences: (a, b, metric) to a less b.
    paired: BTreeMap<(String, String, String), Estimate>,
    /// Share of the distance to the oracle, by policy.
    pub(crate) gap_closed: BTreeMap<String, GapClosed>,
    /// Objective by policy and seed.
    runs: BTreeMap<String, BTreeMap<u64, f64>>,
    /// One run by policy.
    pub(crate) timelines: BTreeMap<String, Vec<Snapshot>>,
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

/// Training curves: a value per epoch in each series.
#[derive(Debug, Default)]
pub(crate) struct Training {
    pub(crate) epoch: Vec<f64>,
    pub(crate) series: BTreeMap<String, Vec<f64>>,
    pub(crate) best_epoch: Option<f64>,
}

impl Results {
    /// Reads what `folder` holds, or what its subfolder `evaluation` does.
    ///
    /// # Errors
    ///
    /// [`ReportError`] if there is nothing to report, or a file that exists cannot be read.
    pub(crate) fn read(folder: &Path) -> Result<Self, ReportError> {
        fs::read_dir(folder).map_err(|source| ReportError::NoFolder {
            folder: folder.to_path_buf(),
            source,
        })?;
        let nested = folder.join("evaluation");
        let evaluation = if folder.join(EVALUATION_FILE).exists() || !nested.is_dir() {
            folder.to_path_buf()
        } else {
            nested
        };
        let mut results = Self::default();
        results.read_evaluation(&evaluation.join(EVALUATION_FILE))?;
        results.read_runs(&evaluation.join(RUNS_FILE))?;
        results.read_timelines(&evaluation.join(TIMELINE_FILE))?;
        let metrics = [
            evaluation.join("model").join(METRICS_FILE),
            evaluation.join(METRICS_FILE),
            folder.join("model").join(METRICS_FILE),
            folder.join(METRICS_FILE),
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
        let models = self
            .policies
            .iter()
            .find(|policy| policy.role == Role::Model);
        let others = || {
            self.policies
                .iter()
                .find(|policy| policy.role != Role::Oracle)
        };
        models.or_else(others).or_else(|| self.policies.first())
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
        let found = read_json(path)?.map(|evaluation| self.take_evaluation(evaluation));
        self.note(EVALUATION_FILE, "summary with intervals", found);
        Ok(())
    }

    fn take_evaluation(&mut self, evaluation: Evaluation) -> String {
        let split = serde_json::to_value(evaluation.split);
        let split = split
            .ok()
            .and_then(|split| split.as_str().map(str::to_owned));
        self.facts = vec![
            ("World", evaluation.world.clone()),
            ("World hash", shortened(&evaluation.world_hash)),
            ("Episodes drawn from", split.unwrap_or_default()),
            ("Seeds", evaluation.seeds.to_string()),
            ("First seed", evaluation.first_seed.to_string()),
            ("Intervals per episode", evaluation.intervals.to_string()),
        ];
        self.facts.retain(|(_, value)| !value.is_empty());
        self.world = Some(evaluation.world);
        self.seeds = Some(evaluation.seeds);
        self.warnings = evaluation
            .spread
            .map_or(Vec::new(), |spread| spread.warnings);
        self.policies = evaluation.policies.into_iter().map(policy).collect();
        // A model that also answers as a service decides the same: the model in process comes first.
        let rank = |policy: &Policy| (policy.name.starts_with("http"), policy.name.clone());
        self.policies.sort_by(|a, b| {
            let objectives = objective(b).total_cmp(&objective(a));
            objectives.then_with(|| rank(a).cmp(&rank(b)))
        });
        self.gap_closed = evaluation.gap_closed;
        self.paired = evaluation
            .paired
            .into_iter()
            .map(|pair| {
                let difference = Estimate::new(pair.mean_difference, pair.ci95_low, pair.ci95_high);
                ((pair.a, pair.b, pair.metric), difference)
            })
            .collect();
        let (policies, pairs) = (self.policies.len(), self.paired.len());
        format!("{policies} policies, {pairs} paired differences")
    }

    fn read_runs(&mut self, path: &Path) -> Result<(), ReportError> {
        let rows: Option<Vec<RunRow>> = if_present(read_parquet(path))?;
        let found = rows.as_ref().map(|rows| format!("{} rows", rows.len()));
        for row in rows.into_iter().flatten() {
            let by_seed = self.runs.entry(row.policy).or_default();
            by_seed.insert(row.seed, row.qos.objective);
        }
        self.note(RUNS_FILE, "one row per policy and seed", found);
        Ok(())
    }

    fn read_timelines(&mut self, path: &Path) -> Result<(), ReportError> {
        let rows: Option<Vec<TimelineRow>> = if_present(read_parquet(path))?;
        let found = rows.as_ref().map(|rows| format!("{} rows", rows.len()));
        for row in rows.into_iter().flatten() {
            let run = self.timelines.entry(row.policy).or_default();
            run.push(row.snapshot);
        }
        let content = "one row per policy and interval of the first seed";
        self.note(TIMELINE_FILE, content, found);
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

fn policy(
    (name, metrics): (
        String,
        BTreeMap<String, Option<crate::statistics::Estimate>>,
    ),
) -> Policy {
    let estimates = metrics
        .into_iter()
        .filter_map(|(key, estimate)| {
            let estimate = estimate?;
            let shown = Estimate::new(estimate.mean, estimate.ci95_low, estimate.ci95_high);
            Some((key, shown))
        })
        .collect();
    Policy {
        role: role(&name),
        name,
        estimates,
    }
}

/// The first characters of a hash: as many as tell worlds apart.
fn shortened(hash: &str) -> String {
    hash.chars().take(12).collect()
}

/// The mean objective; below every other if there is none.
fn objective(policy: &Policy) -> f64 {
    let estimate = policy.estimates.get(OBJECTIVE);
    estimate.map_or(f64::NEG_INFINITY, |estimate| estimate.mean)
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

/// What was read, or `None` if the file is absent.
fn if_present<T>(read: Result<T, ParquetError>) -> Result<Option<T>, ReportError> {
    match read {
        Ok(rows) => Ok(Some(rows)),
        Err(ParquetError::Io { source, .. }) if source.kind() == io::ErrorKind::NotFound => {
            Ok(None)
        }
        Err(error) => Err(ReportError::Parquet(error)),
    }
}

fn read_json<T: DeserializeOwned>(path: &Path) -> Result<Option<T>, ReportError> {
    let bytes = match fs::read(path) {
        Ok(bytes) => bytes,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(source) => {
            return Err(ReportError::Io {
                path: path.to_path_buf(),
                source,
            });
        }
    };
    let parsed = serde_json::from_slice(&bytes);
    parsed.map(Some).map_err(|source| ReportError::Json {
        path: path.to_path_buf(),
        source,
    })
}
