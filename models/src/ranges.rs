//! The range of each feature in training, to tell inputs that the model has never seen the like of.
//!
//! A model folder may hold them in `ranges.json`: for each table of features (`global`, `host`,
//! and the candidates of each kind of question) the least and the greatest value of each feature
//! among the inputs of training. A value is *outside* if it lies beyond them by more than
//! [`MARGIN`] of their distance. A table that training never saw is not judged.
//!
//! Left out: combinations of values that are ordinary one by one.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use thiserror::Error;
use twin::policy::{FeatureDrift, InputDrift};

use crate::encoding::{Encoded, GLOBAL_FEATURES, HOST_FEATURES, Kind, encoding_hash};

/// By how much a value may lie beyond the range, relative to its length.
pub const MARGIN: f32 = 0.1;
/// By how much a value may lie beyond a range of any length: features are scaled to about one.
pub const LEAST_MARGIN: f32 = 0.02;

/// Number of tables: global, hosts, and one for the candidates of each kind of question.
const TABLES: usize = 5;

/// Names of the tables and of their features.
fn tables() -> [(&'static str, &'static [&'static str]); TABLES] {
    let [power, variant, place] = Kind::ALL.map(|kind| (kind.name(), kind.features()));
    [
        ("global", &GLOBAL_FEATURES),
        ("host", &HOST_FEATURES),
        power,
        variant,
        place,
    ]
}

/// Names of all features with their tables, as `host.utilization`, in the order of an
/// [`InputDrift`].
pub fn feature_names() -> impl Iterator<Item = String> {
    let named = |(table, features): (&'static str, &'static [&'static str])| {
        features
            .iter()
            .map(move |feature| format!("{table}.{feature}"))
    };
    tables().into_iter().flat_map(named)
}

/// The table of the candidates of `kind`.
fn table_of(kind: Kind) -> usize {
    2 + kind.index()
}

/// Least and greatest value of a feature.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Range {
    low: f32,
    high: f32,
}

impl Range {
    const EMPTY: Self = Self {
        low: f32::INFINITY,
        high: f32::NEG_INFINITY,
    };

    /// Where values are inside.
    fn widened(self) -> Self {
        let margin = (MARGIN * (self.high - self.low)).max(LEAST_MARGIN);
        Self {
            low: self.low - margin,
            high: self.high + margin,
        }
    }
}

/// The ranges of all features.
#[derive(Clone, Debug, PartialEq)]
pub struct Ranges {
    tables: [Vec<Range>; TABLES],
}

impl Default for Ranges {
    /// Ranges of which nothing was seen yet.
    fn default() -> Self {
        Self {
            tables: tables().map(|(_, features)| vec![Range::EMPTY; features.len()]),
        }
    }
}

/// Why ranges are not those of a model of this program.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum RangesError {
    /// They are of another encoding.
    #[error("the ranges are of the observation encoding {found}, this program encodes {expected}")]
    Encoding {
        /// The hash found.
        found: String,
        /// This program's hash.
        expected: String,
    },
    /// A table is unknown, missing, or has other features.
    #[error("table `{0}` is not one of this program, or its features are not")]
    Table(String),
    /// A range is empty or not finite.
    #[error("feature `{0}`: low and high must be finite, and low not above high")]
    Range(String),
}

/// Ranges as their file holds them.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct RangesFile {
    encoding_hash: String,
    /// By name; a table that was never seen is empty.
    tables: BTreeMap<String, Vec<FeatureRange>>,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct FeatureRange {
    feature: String,
    low: f32,
    high: f32,
}

impl Ranges {
    /// Widens the ranges to hold the values of a question.
    pub fn see(&mut self, encoded: &Encoded) {
        self.see_rows(
            encoded.kind,
            [&encoded.global, &encoded.hosts, &encoded.candidates],
        );
    }

    /// Widens the ranges to hold the features of a question of `kind`: of the fleet, of the hosts
    /// and of the candidates, row-major.
    pub fn see_rows(&mut self, kind: Kind, [global, hosts, candidates]: [&[f32]; 3]) {
        for (table, values) in [(0, global), (1, hosts), (table_of(kind), candidates)] {
            let ranges = &mut self.tables[table];
            for row in values.chunks_exact(ranges.len()) {
                for (range, &value) in ranges.iter_mut().zip(row) {
                    range.low = range.low.min(value);
                    range.high = range.high.max(value);
                }
            }
        }
    }

    pub(crate) fn to_file(&self) -> RangesFile {
        let named = tables().into_iter().zip(&self.tables);
        let tables = named.map(|((table, features), ranges)| {
            let seen = features.iter().zip(ranges).filter(|(_, r)| r.low <= r.high);
            let list = seen.map(|(feature, range)| FeatureRange {
                feature: (*feature).to_owned(),
                low: range.low,
                high: range.high,
            });
            (table.to_owned(), list.collect())
        });
        RangesFile {
            encoding_hash: encoding_hash(),
            tables: tables.collect(),
        }
    }

    pub(crate) fn from_file(mut file: RangesFile) -> Result<Self, RangesError> {
        let expected = encoding_hash();
        if file.encoding_hash != expected {
            return Err(RangesError::Encoding {
                found: file.encoding_hash,
                expected,
            });
        }
        let mut ranges = Self::default();
        for ((table, features), ranges) in tables().into_iter().zip(&mut ranges.tables) {
            let wrong = || RangesError::Table(table.to_owned());
            let list = file.tables.remove(table).ok_or_else(wrong)?;
            if list.is_empty() {
                continue;
            }
            let same = list
                .iter()
                .map(|r| r.feature.as_str())
                .eq(features.iter().copied());
            if !same {
                return Err(wrong());
            }
            for (range, read) in ranges.iter_mut().zip(list) {
                let (low, high) = (read.low, read.high);
                if !(low.is_finite() && high.is_finite() && low <= high) {
                    return Err(RangesError::Range(format!("{table}.{}", read.feature)));
                }
                *range = Range { low, high };
            }
        }
        match file.tables.into_keys().next() {
            Some(table) => Err(RangesError::Table(table)),
            None => Ok(ranges),
        }
    }
}

/// Counts the values outside of the ranges, decision by decision.
#[derive(Clone, Debug)]
pub(crate) struct Watch {
    /// Where values are inside, table by table.
    inside: std::sync::Arc<[Vec<Range>; TABLES]>,
    drift: InputDrift,
    /// Whether the fleet of this decision was looked at.
    seen_fleet: bool,
}

impl Watch {
    pub(crate) fn new(ranges: &Ranges) -> Self {
        let inside = ranges
            .tables
            .clone()
            .map(|table| table.into_iter().map(Range::widened).collect::<Vec<_>>());
        let features = tables().into_iter().flat_map(|(table, features)| {
            features.iter().map(move |feature| FeatureDrift {
                table,
                feature,
                seen: 0,
                outside: 0,
            })
        });
        Self {
            inside: std::sync::Arc::new(inside),
            drift: InputDrift {
                features: features.collect(),
            },
            seen_fleet: false,
        }
    }

    /// A decision begins.
    pub(crate) fn begin(&mut self) {
        self.seen_fleet = false;
        for feature in &mut self.drift.features {
            (feature.seen, feature.outside) = (0, 0);
        }
    }

    /// Looks at a question: at the fleet with the first of a decision only, at the candidates
    /// with each.
    pub(crate) fn see(&mut self, encoded: &Encoded) {
        if !std::mem::replace(&mut self.seen_fleet, true) {
            self.count(0, &encoded.global);
            self.count(1, &encoded.hosts);
        }
        self.count(table_of(encoded.kind), &encoded.candidates);
    }

    pub(crate) fn drift(&self) -> &InputDrift {
        &self.drift
    }

    fn count(&mut self, table: usize, values: &[f32]) {
        let inside = &self.inside[table];
        // A table that was never seen in training is not judged.
        if inside.first().is_none_or(|range| !range.low.is_finite()) {
            return;
        }
        let first: usize = self.inside[..table].iter().map(Vec::len).sum();
        let counts = &mut self.drift.features[first..first + inside.len()];
        for row in values.chunks_exact(inside.len()) {
            for ((count, range), &value) in counts.iter_mut().zip(inside).zip(row) {
                count.seen += 1;
                count.outside += u32::from(value < range.low || value > range.high);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A question about one host with one candidate, all features alike.
    fn question(value: f32) -> Encoded {
        Encoded {
            kind: Kind::Place,
            global: vec![value; GLOBAL_FEATURES.len()],
            hosts: vec![value; HOST_FEATURES.len()],
            host_count: 1,
            candidates: vec![value; Kind::Place.features().len()],
            candidate_hosts: vec![0],
            candidate_count: 1,
            answers: vec![0],
        }
    }

    fn seen() -> Ranges {
        let mut ranges = Ranges::default();
        ranges.see(&question(1.0));
        ranges.see(&question(2.0));
        ranges
    }

    #[test]
    fn values_beyond_the_margin_are_outside() {
        let mut watch = Watch::new(&seen());
        // The range is 1 to 2, so the margin is 0.1.
        for (value, outside) in [(0.85, true), (0.95, false), (2.05, false), (2.15, true)] {
            watch.begin();
            watch.see(&question(value));
            watch.see(&question(value));
            for feature in &watch.drift().features {
                let seen = match feature.table {
                    "global" | "host" => 1,
                    "place" => 2,
                    // Training saw no such question.
                    _ => 0,
                };
                let expected = if outside { seen } else { 0 };
                assert_eq!(
                    (feature.seen, feature.outside),
                    (seen, expected),
                    "{feature:?}"
                );
            }
        }
    }

    #[test]
    fn files_keep_ranges_and_are_held_against_the_encoding() {
        let ranges = seen();
        let read = Ranges::from_file(ranges.to_file()).expect("they are this program's");
        assert_eq!(read, ranges);
        let mut other = ranges.to_file();
        other.encoding_hash = "0".into();
        assert!(matches!(
            Ranges::from_file(other),
            Err(RangesError::Encoding { .. })
        ));
        let mut renamed = ranges.to_file();
        if let Some(table) = renamed.tables.get_mut("host") {
            table[0].feature = "x".into();
        }
        assert_eq!(
            Ranges::from_file(renamed),
            Err(RangesError::Table("host".into()))
        );
        let mut reversed = ranges.to_file();
        if let Some(table) = reversed.tables.get_mut("global") {
            table[0].low = 3.0;
        }
        assert!(matches!(
            Ranges::from_file(reversed),
            Err(RangesError::Range(_))
        ));
        let mut more = ranges.to_file();
        more.tables.insert("more".into(), Vec::new());
        assert_eq!(
            Ranges::from_file(more),
            Err(RangesError::Table("more".into()))
        );
    }
}
