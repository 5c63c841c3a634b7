//! The decision dataset: what an oracle answered in the states that policies visited.
//!
//! A dataset is a folder of Parquet shards and a `manifest.json`.
//! A shard holds [`DecisionRow`]s, one per decision point; the manifest says from which world, seed
//! and encoding they came, and holds the checksum of every shard.
//! Equal rows give equal bytes, so a run that was killed and resumed ends with the same files as
//! one that was not.
//!
//! | column | type | meaning |
//! |---|---|---|
//! | `episode` | u64 | the run of the world in which the state was visited |
//! | `step` | u32 | the decision point within the episode, from 0 |
//! | `policy` | text | the policy that steered when the state was visited |
//! | `kind` | u32 | what is decided: [`PROVISION`], [`DEPLOY`] or [`PLACE`] |
//! | `time_s` | f64 | simulated seconds since the start of the episode |
//! | `weight` | f32 | how much the row counts in a loss, without unit |
//! | `global` | list of f32 | encoded features of the whole state |
//! | `hosts` | list of f32 | encoded features, row-major, hosts × features |
//! | `host_count` | u32 | rows of `hosts` |
//! | `candidates` | list of f32 | encoded features, row-major, candidates × features |
//! | `candidate_count` | u32 | rows of `candidates` |
//! | `candidate_hosts` | list of u32 | for each candidate the row of `hosts` that it is about, or [`NO_HOST`] |
//! | `values` | list of f32 | objective of each candidate; NaN where it is infeasible or unpriced |
//! | `best` | u32 | the candidate that the oracle chose |
//! | `target_load` | list of f32 | the load that a forecast should have told, as encoded |
//! | `state` | bytes | snapshot from which the state can be replayed; may be empty |
//!
//! Left out: what the features mean.
//! The encoding's version and hash stand in the manifest, and whoever encoded knows the rest.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use thiserror::Error;

use crate::files::write_atomic;
use crate::table::{Columns, Frame, ParquetError, ParquetRow, read_bytes};

/// The version of the columns and of the manifest.
pub const SCHEMA_VERSION: u32 = 1;

/// The name of the manifest within the folder.
pub const MANIFEST_FILE: &str = "manifest.json";

/// [`DecisionRow::kind`]: which hosts to keep on.
pub const PROVISION: u8 = 0;

/// [`DecisionRow::kind`]: which variant to run for a request.
pub const DEPLOY: u8 = 1;

/// [`DecisionRow::kind`]: on which host a fragment runs.
pub const PLACE: u8 = 2;

/// [`DecisionRow::candidate_hosts`]: the candidate is about no host.
pub const NO_HOST: u32 = u32::MAX;

/// One decision point: the encoded state, the alternatives, and what each is worth.
#[derive(Debug, Clone, PartialEq)]
pub struct DecisionRow {
    /// The run of the world in which the state was visited; validation splits by it.
    pub episode: u64,
    /// The decision point within the episode, from 0.
    pub step: u32,
    /// The policy that steered when the state was visited.
    pub policy: String,
    /// What is decided: [`PROVISION`], [`DEPLOY`] or [`PLACE`].
    pub kind: u8,
    /// Simulated seconds since the start of the episode.
    pub time_s: f64,
    /// How much the row counts in a loss; at least 0.
    pub weight: f32,
    /// Features of the whole state.
    pub global: Vec<f32>,
    /// Features of the hosts: `host_count` rows of equal width, row-major.
    pub hosts: Vec<f32>,
    /// Hosts in the state.
    pub host_count: u32,
    /// Features of the alternatives: `candidate_count` rows of equal width, row-major.
    pub candidates: Vec<f32>,
    /// Alternatives to choose from; at least 1.
    pub candidate_count: u32,
    /// For each alternative the row of `hosts` that it is about, or [`NO_HOST`].
    pub candidate_hosts: Vec<u32>,
    /// The objective of each alternative with the rest held fixed, higher being better; NaN where
    /// it is infeasible or was not priced.
    pub values: Vec<f32>,
    /// The alternative that the oracle chose; its value is not NaN.
    pub best: u32,
    /// What a forecast of the load should have said.
    pub target_load: Vec<f32>,
    /// Snapshot of the twin from which the state can be replayed; may be empty.
    pub state: Vec<u8>,
}

/// One shard as the manifest lists it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ShardEntry {
    /// The file within the folder, [`shard_file`] of the index.
    pub file: String,
    /// The shard's place in the dataset, from 0.
    pub index: u32,
    /// Rows in it.
    pub rows: u64,
    /// SHA-256 of the file, in hexadecimal.
    pub sha256: String,
}

/// Where a dataset came from, and the checksum of each of its shards.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Manifest {
    /// [`SCHEMA_VERSION`] of the writer.
    pub schema_version: u32,
    /// The world that was simulated.
    pub world: String,
    /// Hash of the resolved world.
    pub world_hash: String,
    /// Version of the observation encoding.
    pub encoding_version: u32,
    /// Hash of the observation encoding.
    pub encoding_hash: String,
    /// The seed of the run.
    pub seed: u64,
    /// The decision points that were asked for.
    pub steps: u64,
    /// Every other argument that the rows depend on.
    pub arguments: BTreeMap<String, String>,
    /// The shards that are finished, by ascending index.
    pub shards: Vec<ShardEntry>,
    /// Whether all shards are there.
    pub complete: bool,
}

/// A dataset that cannot be written or read.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum DatasetError {
    /// A file cannot be opened, read or written.
    #[error("cannot access {}: {source}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The folder has no manifest.
    #[error("{} holds no decision dataset: it has no {MANIFEST_FILE}", folder.display())]
    NoManifest {
        /// The folder.
        folder: PathBuf,
    },
    /// The manifest is not what it should be.
    #[error("{}: malformed manifest: {reason}", path.display())]
    Manifest {
        /// The manifest.
        path: PathBuf,
        /// What is wrong, with line and column where there are any.
        reason: String,
    },
    /// The manifest is of another schema version.
    #[error("{}: schema version {found}, but this program reads version {SCHEMA_VERSION}; label the world again", path.display())]
    Version {
        /// The manifest.
        path: PathBuf,
        /// The version found.
        found: u64,
    },
    /// A shard that the manifest lists is absent.
    #[error("{} is listed in the manifest but absent; label the world again", path.display())]
    MissingShard {
        /// The shard.
        path: PathBuf,
    },
    /// A shard is not the one that was written.
    #[error("{} is damaged: expected SHA-256 {expected}, found {found}; delete the dataset and label the world again", path.display())]
    Checksum {
        /// The shard.
        path: PathBuf,
        /// The checksum in the manifest.
        expected: String,
        /// The checksum of the file.
        found: String,
    },
    /// A shard has more or fewer rows than the manifest says.
    #[error("{}: expected {expected} rows as in the manifest, found {found}", path.display())]
    RowCount {
        /// The shard.
        path: PathBuf,
        /// Rows in the manifest.
        expected: u64,
        /// Rows in the file.
        found: u64,
    },
    /// A row is inconsistent.
    #[error("{}: row {row}: `{field}`: {reason}", path.display())]
    Row {
        /// The shard.
        path: PathBuf,
        /// The row, from 0.
        row: usize,
        /// The field at fault.
        field: &'static str,
        /// What is wrong.
        reason: String,
    },
    /// A shard is not readable Parquet, or cannot be encoded.
    #[error(transparent)]
    Parquet(#[from] ParquetError),
}

/// The file name of a shard: `shard-00000.parquet` and so on.
#[must_use]
pub fn shard_file(index: u32) -> String {
    format!("shard-{index:05}.parquet")
}

/// Writes one shard into the folder `dir`, atomically, and returns its entry for the manifest.
///
/// Equal rows give equal bytes: the compression and the row groups are fixed, and no time is
/// written.
///
/// # Errors
///
/// [`DatasetError`] if a row is inconsistent or the file cannot be written.
pub fn write_shard(
    dir: impl AsRef<Path>,
    index: u32,
    rows: &[DecisionRow],
) -> Result<ShardEntry, DatasetError> {
    let file = shard_file(index);
    let path = dir.as_ref().join(&file);
    check_rows(&path, rows)?;
    let bytes = DecisionRow::to_columns(rows).encode(&path)?;
    write_atomic(&path, &bytes).map_err(|source| DatasetError::Io { path, source })?;
    Ok(ShardEntry {
        file,
        index,
        rows: rows.len() as u64,
        sha256: sha256_hex(&bytes),
    })
}

/// Reads a shard without holding it against a manifest; see [`Manifest::read_shard`].
///
/// # Errors
///
/// [`DatasetError`] if the file is not a whole shard or a row is inconsistent.
pub fn read_shard(path: impl AsRef<Path>) -> Result<Vec<DecisionRow>, DatasetError> {
    let path = path.as_ref();
    let bytes = read_bytes(path).map_err(|source| DatasetError::Io {
        path: path.to_path_buf(),
        source,
    })?;
    decode_shard(path, bytes)
}

/// Checks the manifest in `dir` and the checksum of every shard that it lists.
///
/// # Errors
///
/// [`DatasetError`] naming the first file that is absent or damaged.
pub fn verify(dir: impl AsRef<Path>) -> Result<Manifest, DatasetError> {
    let dir = dir.as_ref();
    let manifest = Manifest::load(dir)?;
    for entry in &manifest.shards {
        checked_bytes(dir, entry)?;
    }
    Ok(manifest)
}

impl Manifest {
    /// Reads the manifest of the dataset in the folder `dir`.
    ///
    /// # Errors
    ///
    /// [`DatasetError`] if there is none, it is malformed, or its version is another.
    pub fn load(dir: impl AsRef<Path>) -> Result<Self, DatasetError> {
        #[derive(Deserialize)]
        struct Version {
            schema_version: u64,
        }
        let folder = dir.as_ref();
        let path = folder.join(MANIFEST_FILE);
        let bytes = read_bytes(&path).map_err(|source| match source.kind() {
            io::ErrorKind::NotFound => DatasetError::NoManifest {
                folder: folder.to_path_buf(),
            },
            _ => DatasetError::Io {
                path: path.clone(),
                source,
            },
        })?;
        let malformed = |error: serde_json::Error| DatasetError::Manifest {
            path: path.clone(),
            reason: error.to_string(),
        };
        let version: Version = serde_json::from_slice(&bytes).map_err(malformed)?;
        if version.schema_version != u64::from(SCHEMA_VERSION) {
            return Err(DatasetError::Version {
                path,
                found: version.schema_version,
            });
        }
        let manifest: Self = serde_json::from_slice(&bytes).map_err(malformed)?;
        manifest
            .check()
            .map_err(|reason| DatasetError::Manifest { path, reason })?;
        Ok(manifest)
    }

    /// Writes the manifest into the folder `dir`, atomically.
    ///
    /// # Errors
    ///
    /// [`DatasetError`] if it is inconsistent or the file cannot be written.
    pub fn save(&self, dir: impl AsRef<Path>) -> Result<(), DatasetError> {
        let path = dir.as_ref().join(MANIFEST_FILE);
        let malformed = |reason| DatasetError::Manifest {
            path: path.clone(),
            reason,
        };
        self.check().map_err(malformed)?;
        let mut json =
            serde_json::to_string_pretty(self).map_err(|error| malformed(error.to_string()))?;
        json.push('\n');
        write_atomic(&path, json.as_bytes()).map_err(|source| DatasetError::Io {
            path: path.clone(),
            source,
        })
    }

    /// Reads one of its shards from the folder `dir`, after its checksum was found right.
    ///
    /// # Errors
    ///
    /// [`DatasetError`] if the shard is absent, damaged or inconsistent.
    pub fn read_shard(
        dir: impl AsRef<Path>,
        entry: &ShardEntry,
    ) -> Result<Vec<DecisionRow>, DatasetError> {
        let dir = dir.as_ref();
        let bytes = checked_bytes(dir, entry)?;
        let path = dir.join(&entry.file);
        let rows = decode_shard(&path, bytes)?;
        let found = rows.len() as u64;
        if found != entry.rows {
            return Err(DatasetError::RowCount {
                path,
                expected: entry.rows,
                found,
            });
        }
        Ok(rows)
    }

    /// All rows of all shards, in order, each shard after its checksum was found right.
    ///
    /// # Errors
    ///
    /// As [`Manifest::read_shard`].
    pub fn read_rows(&self, dir: impl AsRef<Path>) -> Result<Vec<DecisionRow>, DatasetError> {
        let mut rows = Vec::new();
        for entry in &self.shards {
            rows.append(&mut Self::read_shard(dir.as_ref(), entry)?);
        }
        Ok(rows)
    }

    /// The rows of all shards together.
    #[must_use]
    pub fn row_count(&self) -> u64 {
        self.shards
            .iter()
            .fold(0, |total, shard| total.saturating_add(shard.rows))
    }

    fn check(&self) -> Result<(), String> {
        let mut last = None;
        for shard in &self.shards {
            if last.is_some_and(|last| shard.index <= last) {
                return Err(format!("`shards`: index {} is not ascending", shard.index));
            }
            last = Some(shard.index);
            let file = shard_file(shard.index);
            if shard.file != file {
                return Err(format!(
                    "`shards`: expected the file `{file}`, found `{}`",
                    shard.file
                ));
            }
            let digits = shard
                .sha256
                .bytes()
                .all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'));
            if shard.sha256.len() != 64 || !digits {
                return Err(format!("`shards`: `sha256` of `{file}` is not a SHA-256"));
            }
        }
        Ok(())
    }
}

impl DecisionRow {
    /// What is inconsistent in the row, if anything is: the field, and what is wrong with it.
    ///
    /// Every number must be finite, but for values, which may be NaN.
    #[must_use]
    pub fn problem(&self) -> Option<(&'static str, String)> {
        let not_finite = [
            ("global", &self.global),
            ("hosts", &self.hosts),
            ("candidates", &self.candidates),
            ("target_load", &self.target_load),
        ]
        .into_iter()
        .find_map(|(field, features)| {
            let at = features.iter().position(|feature| !feature.is_finite())?;
            Some((field, format!("{} at {at} is not finite", features[at])))
        });
        if self.kind > PLACE {
            Some(("kind", format!("{} is none of 0, 1 and 2", self.kind)))
        } else if !(self.time_s.is_finite() && self.time_s >= 0.0) {
            Some(("time_s", format!("{} is not a time", self.time_s)))
        } else if !(self.weight.is_finite() && self.weight >= 0.0) {
            Some(("weight", format!("{} is not a weight", self.weight)))
        } else if self.candidate_count == 0 {
            Some((
                "candidate_count",
                "there is nothing to choose from".to_owned(),
            ))
        } else {
            not_finite
                .or_else(|| matrix_problem("hosts", self.hosts.len(), self.host_count))
                .or_else(|| {
                    matrix_problem("candidates", self.candidates.len(), self.candidate_count)
                })
                .or_else(|| self.candidate_host_problem())
                .or_else(|| self.value_problem())
        }
    }

    fn candidate_host_problem(&self) -> Option<(&'static str, String)> {
        let hosts = &self.candidate_hosts;
        if hosts.len() as u64 != u64::from(self.candidate_count) {
            let reason = format!(
                "{} hosts for {} candidates",
                hosts.len(),
                self.candidate_count
            );
            return Some(("candidate_hosts", reason));
        }
        let beyond = |host: &u32| *host >= self.host_count && *host != NO_HOST;
        let at = hosts.iter().position(beyond)?;
        let reason = format!("{} at {at}, of {} hosts", hosts[at], self.host_count);
        Some(("candidate_hosts", reason))
    }

    fn value_problem(&self) -> Option<(&'static str, String)> {
        if self.values.len() as u64 != u64::from(self.candidate_count) {
            let reason = format!(
                "{} values for {} candidates",
                self.values.len(),
                self.candidate_count
            );
            return Some(("values", reason));
        }
        if let Some(at) = self.values.iter().position(|value| value.is_infinite()) {
            return Some(("values", format!("{} at {at} is infinite", self.values[at])));
        }
        let best = usize::try_from(self.best)
            .ok()
            .and_then(|best| self.values.get(best));
        match best {
            None => Some((
                "best",
                format!("{} of {} candidates", self.best, self.candidate_count),
            )),
            Some(value) if value.is_nan() => {
                Some(("best", format!("candidate {} has no value", self.best)))
            }
            Some(_) => None,
        }
    }
}

impl ParquetRow for DecisionRow {
    fn to_columns(rows: &[Self]) -> Columns {
        Columns::new(rows.len())
            .u64("episode", rows.iter().map(|row| row.episode))
            .u32("step", rows.iter().map(|row| row.step))
            .text("policy", rows.iter().map(|row| row.policy.as_str()))
            .u32("kind", rows.iter().map(|row| u32::from(row.kind)))
            .f64("time_s", rows.iter().map(|row| row.time_s))
            .f32("weight", rows.iter().map(|row| row.weight))
            .f32_lists("global", rows.iter().map(|row| row.global.as_slice()))
            .f32_lists("hosts", rows.iter().map(|row| row.hosts.as_slice()))
            .u32("host_count", rows.iter().map(|row| row.host_count))
            .f32_lists(
                "candidates",
                rows.iter().map(|row| row.candidates.as_slice()),
            )
            .u32(
                "candidate_count",
                rows.iter().map(|row| row.candidate_count),
            )
            .u32_lists(
                "candidate_hosts",
                rows.iter().map(|row| row.candidate_hosts.as_slice()),
            )
            .f32_lists("values", rows.iter().map(|row| row.values.as_slice()))
            .u32("best", rows.iter().map(|row| row.best))
            .f32_lists(
                "target_load",
                rows.iter().map(|row| row.target_load.as_slice()),
            )
            .bytes("state", rows.iter().map(|row| row.state.as_slice()))
    }

    fn from_frame(frame: &Frame) -> Result<Vec<Self>, ParquetError> {
        let episode = frame.u64("episode")?;
        let step = frame.u32("step")?;
        let mut policy = frame.text("policy")?.into_iter();
        let kind = frame.u32("kind")?;
        let time_s = frame.f64("time_s")?;
        let weight = frame.f32("weight")?;
        let mut global = frame.f32_lists("global")?.into_iter();
        let mut hosts = frame.f32_lists("hosts")?.into_iter();
        let host_count = frame.u32("host_count")?;
        let mut candidates = frame.f32_lists("candidates")?.into_iter();
        let candidate_count = frame.u32("candidate_count")?;
        let mut candidate_hosts = frame.u32_lists("candidate_hosts")?.into_iter();
        let mut values = frame.f32_lists("values")?.into_iter();
        let best = frame.u32("best")?;
        let mut target_load = frame.f32_lists("target_load")?.into_iter();
        let mut state = frame.bytes("state")?.into_iter();
        (0..frame.height())
            .map(|row| {
                let kind = u8::try_from(kind[row]).map_err(|_| {
                    frame.unexpected("kind", row, "0, 1 or 2", &kind[row].to_string())
                })?;
                Ok(Self {
                    episode: episode[row],
                    step: step[row],
                    policy: policy.next().unwrap_or_default(),
                    kind,
                    time_s: time_s[row],
                    weight: weight[row],
                    global: global.next().unwrap_or_default(),
                    hosts: hosts.next().unwrap_or_default(),
                    host_count: host_count[row],
                    candidates: candidates.next().unwrap_or_default(),
                    candidate_count: candidate_count[row],
                    candidate_hosts: candidate_hosts.next().unwrap_or_default(),
                    values: values.next().unwrap_or_default(),
                    best: best[row],
                    target_load: target_load.next().unwrap_or_default(),
                    state: state.next().unwrap_or_default(),
                })
            })
            .collect()
    }
}

fn matrix_problem(field: &'static str, length: usize, rows: u32) -> Option<(&'static str, String)> {
    let whole = (length as u64)
        .checked_rem(u64::from(rows))
        .map_or(length == 0, |rest| rest == 0);
    (!whole).then(|| {
        (
            field,
            format!("{length} features do not make {rows} equal rows"),
        )
    })
}

fn check_rows(path: &Path, rows: &[DecisionRow]) -> Result<(), DatasetError> {
    for (row, content) in rows.iter().enumerate() {
        if let Some((field, reason)) = content.problem() {
            return Err(DatasetError::Row {
                path: path.to_path_buf(),
                row,
                field,
                reason,
            });
        }
    }
    Ok(())
}

fn decode_shard(path: &Path, bytes: Vec<u8>) -> Result<Vec<DecisionRow>, DatasetError> {
    let rows = DecisionRow::from_frame(&Frame::decode(path, bytes)?)?;
    check_rows(path, &rows)?;
    Ok(rows)
}

/// The bytes of a listed shard, if they are the ones that were written.
fn checked_bytes(dir: &Path, entry: &ShardEntry) -> Result<Vec<u8>, DatasetError> {
    let path = dir.join(&entry.file);
    let bytes = read_bytes(&path).map_err(|source| match source.kind() {
        io::ErrorKind::NotFound => DatasetError::MissingShard { path: path.clone() },
        _ => DatasetError::Io {
            path: path.clone(),
            source,
        },
    })?;
    let found = sha256_hex(&bytes);
    if found != entry.sha256 {
        return Err(DatasetError::Checksum {
            path,
            expected: entry.sha256.clone(),
            found,
        });
    }
    Ok(bytes)
}

fn sha256_hex(bytes: &[u8]) -> String {
    hex::encode(Sha256::digest(bytes))
}
