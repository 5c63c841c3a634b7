//! Decision datasets as the fit keeps them: all rows in flat arrays, read once.
//!
//! Of the values only their differences matter, so a row keeps the *regret* of each candidate: how
//! much worse it is than the best, in seconds of penalty, at least zero. A candidate that was not
//! priced (NaN) takes the worst regret of its row and [`UNPRICED_MARGIN`] of that more: the oracle
//! leaves out what a cheap estimate rules out.

use std::collections::BTreeMap;
use std::ops::Range;
use std::path::{Path, PathBuf};

use anyhow::{Result, bail};
use datasets::decisions::{DecisionRow, Manifest};
use models::Ranges;
use models::encoding::{
    ENCODING_VERSION, Encoded, GLOBAL_FEATURES, HOST_FEATURES, Kind, encoding_hash,
};
use models::network::Example;
use models::weights::{FORECASTS, Standardization, Standardizations};
use sha2::{Digest, Sha256};
use twin::stream::{mix, unit};

use super::FitError;

/// What a candidate without a price is worse than the worst with one, as a share of that regret.
pub(crate) const UNPRICED_MARGIN: f32 = 0.05;

/// Where rows came from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Source {
    pub(crate) world: String,
    pub(crate) world_hash: String,
    pub(crate) seed: u64,
    pub(crate) rows: u64,
    /// SHA-256 of its shards.
    pub(crate) shards: Vec<String>,
    /// Whether the labeling was finished.
    pub(crate) complete: bool,
}

/// Rows in flat arrays.
#[derive(Debug, Default)]
pub(crate) struct Rows {
    rows: Vec<Row>,
    global: Vec<f32>,
    hosts: Vec<f32>,
    candidates: Vec<f32>,
    candidate_hosts: Vec<u32>,
    regrets_s: Vec<f32>,
}

#[derive(Clone, Debug)]
struct Row {
    kind: Kind,
    /// The episode: those with the same future have the same.
    episode: u64,
    /// Uniform in (0, 1), by episode: which side of the split.
    side: f64,
    weight: f32,
    hosts: Range<usize>,
    candidates: Range<usize>,
    /// Into `candidate_hosts` and `regrets_s`.
    positions: Range<usize>,
    target_load: Option<[f32; FORECASTS]>,
}

/// Positions of the rows on either side of the split.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Split {
    pub(crate) training: Vec<usize>,
    pub(crate) validation: Vec<usize>,
    pub(crate) training_episodes: usize,
    pub(crate) validation_episodes: usize,
}

impl Rows {
    /// Reads the datasets in `folders`; every checksum is held against the manifests.
    pub(crate) fn read(folders: &[PathBuf]) -> Result<(Self, Vec<Source>)> {
        let mut rows = Self::default();
        let mut sources = Vec::new();
        for folder in folders {
            let manifest = Manifest::load(folder)?;
            check_encoding(folder, &manifest)?;
            let key = episode_key(&manifest);
            for shard in &manifest.shards {
                let read = Manifest::read_shard(folder, shard)?;
                for (position, row) in read.iter().enumerate() {
                    rows.push(row, key).map_err(|problem| FitError::Row {
                        path: folder.join(&shard.file),
                        row: position,
                        problem,
                    })?;
                }
            }
            sources.push(Source {
                rows: manifest.row_count(),
                world: manifest.world,
                world_hash: manifest.world_hash,
                seed: manifest.seed,
                shards: manifest.shards.into_iter().map(|s| s.sha256).collect(),
                complete: manifest.complete,
            });
        }
        if rows.rows.is_empty() {
            let folders = folders.to_vec();
            bail!(FitError::Empty { folders });
        }
        Ok((rows, sources))
    }

    fn push(&mut self, row: &DecisionRow, key: u64) -> Result<(), String> {
        let kind = Kind::at(usize::from(row.kind)).ok_or("`kind` is unknown")?;
        let width = |name: &str, found: usize, expected: usize| {
            let message = || format!("`{name}` has {found} numbers, expected {expected}");
            (found == expected).then_some(()).ok_or_else(message)
        };
        let (hosts, count) = (row.host_count as usize, row.candidate_count as usize);
        width("global", row.global.len(), GLOBAL_FEATURES.len())?;
        width("hosts", row.hosts.len(), hosts * HOST_FEATURES.len())?;
        width(
            "candidates",
            row.candidates.len(),
            count * kind.features().len(),
        )?;
        let target_load = match row.target_load.as_slice() {
            [] => None,
            found => {
                width("target_load", found.len(), FORECASTS)?;
                found.try_into().ok()
            }
        };
        self.global.extend_from_slice(&row.global);
        self.rows.push(Row {
            kind,
            episode: mix(key, row.episode),
            side: unit(key, row.episode),
            weight: row.weight,
            hosts: append(&mut self.hosts, &row.hosts),
            candidates: append(&mut self.candidates, &row.candidates),
            positions: append(&mut self.regrets_s, &regrets_s(&row.values)),
            target_load,
        });
        self.candidate_hosts.extend_from_slice(&row.candidate_hosts);
        Ok(())
    }

    pub(crate) fn len(&self) -> usize {
        self.rows.len()
    }

    pub(crate) fn kind(&self, row: usize) -> Kind {
        self.rows[row].kind
    }

    pub(crate) fn weight(&self, row: usize) -> f32 {
        self.rows[row].weight
    }

    pub(crate) fn target_load(&self, row: usize) -> Option<[f32; FORECASTS]> {
        self.rows[row].target_load
    }

    /// How much worse each candidate is than the best, in seconds of penalty.
    pub(crate) fn regrets_s(&self, row: usize) -> &[f32] {
        &self.regrets_s[self.rows[row].positions.clone()]
    }

    /// Whether it matters what is answered.
    pub(crate) fn matters(&self, row: usize) -> bool {
        self.weight(row) > 0.0 && self.regrets_s(row).iter().any(|regret| *regret > 0.0)
    }

    /// The row as batches take it.
    pub(crate) fn example(&self, row: usize) -> Example<'_> {
        let at = &self.rows[row];
        let width = GLOBAL_FEATURES.len();
        Example {
            kind: at.kind,
            global: &self.global[row * width..(row + 1) * width],
            hosts: &self.hosts[at.hosts.clone()],
            candidates: &self.candidates[at.candidates.clone()],
            candidate_hosts: &self.candidate_hosts[at.positions.clone()],
        }
    }

    /// The row as the plain forward pass takes it, into `out`, whose allocations are kept.
    pub(crate) fn encoded(&self, row: usize, out: &mut Encoded) {
        let example = self.example(row);
        out.kind = example.kind;
        out.host_count = example.hosts.len() / HOST_FEATURES.len();
        out.candidate_count = example.candidate_hosts.len();
        refill(&mut out.global, example.global);
        refill(&mut out.hosts, example.hosts);
        refill(&mut out.candidates, example.candidates);
        refill(&mut out.candidate_hosts, example.candidate_hosts);
    }

    /// The candidate that the greedy policy takes, if the features tell one.
    pub(crate) fn greedy(&self, row: usize) -> Option<usize> {
        let example = self.example(row);
        let names = example.kind.features();
        let feature = names.iter().position(|name| *name == "greedy")?;
        let mut candidates = example.candidates.chunks_exact(names.len());
        candidates.position(|features| features[feature] > 0.5)
    }

    /// Splits by episode: an episode is wholly on one side, the same one whatever else is fitted.
    ///
    /// About `share` of the episodes is for validation; either side gets at least one.
    pub(crate) fn split(&self, share: f64) -> Result<Split, FitError> {
        let sides: BTreeMap<u64, f64> = self.rows.iter().map(|r| (r.episode, r.side)).collect();
        if sides.len() < 2 {
            return Err(FitError::OneEpisode);
        }
        let least = sides.values().copied().fold(f64::INFINITY, f64::min);
        let most = sides.values().copied().fold(0.0, f64::max);
        // The greatest is never on the side of validation, the least always.
        let bound = share.max(least).min(most.next_down());
        let validates = |side: f64| side <= bound;
        let (validation, training) =
            (0..self.rows.len()).partition(|&row| validates(self.rows[row].side));
        let validation_episodes = sides.values().filter(|side| validates(**side)).count();
        Ok(Split {
            training,
            validation,
            training_episodes: sides.len() - validation_episodes,
            validation_episodes,
        })
    }

    /// Least and greatest value of each feature of `rows`.
    pub(crate) fn ranges(&self, rows: &[usize]) -> Ranges {
        let mut ranges = Ranges::default();
        for example in rows.iter().map(|&row| self.example(row)) {
            let tables = [example.global, example.hosts, example.candidates];
            ranges.see_rows(example.kind, tables);
        }
        ranges
    }

    /// Mean and deviation of the features of `rows`.
    pub(crate) fn standardizations(&self, rows: &[usize]) -> Standardizations {
        let examples = || rows.iter().map(|&row| self.example(row));
        let hosts = HOST_FEATURES.len();
        let candidates = Kind::ALL.map(|kind| {
            let width = kind.features().len();
            let of_kind = examples().filter(|example| example.kind == kind);
            Standardization::of(
                of_kind.flat_map(|example| example.candidates.chunks_exact(width)),
                width,
            )
        });
        Standardizations {
            host: Standardization::of(
                examples().flat_map(|example| example.hosts.chunks_exact(hosts)),
                hosts,
            ),
            global: Standardization::of(
                examples().map(|example| example.global),
                GLOBAL_FEATURES.len(),
            ),
            candidates,
        }
    }
}

fn check_encoding(folder: &Path, manifest: &Manifest) -> Result<(), FitError> {
    let expected = encoding_hash();
    if manifest.encoding_hash == expected && manifest.encoding_version == ENCODING_VERSION {
        return Ok(());
    }
    Err(FitError::Encoding {
        folder: folder.to_path_buf(),
        found_version: manifest.encoding_version,
        found: manifest.encoding_hash.clone(),
        expected,
    })
}

/// What tells the episodes of one dataset from those of another with other futures.
fn episode_key(manifest: &Manifest) -> u64 {
    let mut hash = Sha256::new();
    hash.update(manifest.world_hash.as_bytes());
    hash.update(manifest.seed.to_le_bytes());
    let digest: [u8; 32] = hash.finalize().into();
    digest
        .iter()
        .take(8)
        .fold(0, |key, byte| key << 8 | u64::from(*byte))
}

/// Regrets from values; those without a value are the worst.
fn regrets_s(values: &[f32]) -> Vec<f32> {
    let priced = || values.iter().copied().filter(|value| !value.is_nan());
    let best = priced().fold(f32::NEG_INFINITY, f32::max);
    let worst = priced().fold(0.0, |worst: f32, value| worst.max(best - value));
    let unpriced = worst * (1.0 + UNPRICED_MARGIN);
    let regret = |value: &f32| {
        if value.is_nan() {
            unpriced
        } else {
            best - value
        }
    };
    values.iter().map(regret).collect()
}

/// Appends `values` to `all`; where they are.
fn append(all: &mut Vec<f32>, values: &[f32]) -> Range<usize> {
    let start = all.len();
    all.extend_from_slice(values);
    start..all.len()
}

fn refill<T: Copy>(out: &mut Vec<T>, values: &[T]) {
    out.clear();
    out.extend_from_slice(values);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn unpriced_candidates_are_worse_than_the_worst() {
        // The worst is 6 below the best; 5 % of that more are 6.3.
        let found = regrets_s(&[-4.0, f32::NAN, 2.0, 1.0]);
        let expected = [6.0, 6.3, 0.0, 1.0];
        for (a, b) in found.iter().zip(expected) {
            assert!((a - b).abs() < 1e-6, "{found:?}");
        }
        // Without a difference there is nothing to learn, not even from what was left out.
        assert!(regrets_s(&[1.0, f32::NAN]).iter().all(|r| r.abs() < 1e-9));
    }
}
