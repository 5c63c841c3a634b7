//! Measured power of a whole cluster.
//!
//! One CSV file, `time_ms,power_w`: the mean power from the time of the line before to the time of
//! the line. The first line covers as long a span as the second; a gap of more than one and a half
//! times that is not covered.

use std::path::Path;

use super::ReplayError;
use super::rows::read_rows;
use crate::units::{SimTime, Watts};

const HEADER: [&str; 2] = ["time_ms", "power_w"];
const NANOS_PER_MS: u64 = 1_000_000;
/// 30 years in ms.
pub(super) const MAX_MS: u64 = 1_000_000_000_000;

/// Power from `from` to `until`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Sample {
    /// Start.
    pub from: SimTime,
    /// End.
    pub until: SimTime,
    /// Mean power.
    pub power: Watts,
}

/// The samples in the file at `path`.
///
/// # Errors
///
/// If the file cannot be read or a line of it is wrong.
pub fn load(path: &Path) -> Result<Vec<Sample>, ReplayError> {
    let mut points: Vec<(u64, f64)> = Vec::new();
    read_rows(path, &HEADER, |row| {
        let time_ms = row.whole(0, 0, MAX_MS)?;
        if let Some(&(before, _)) = points.last()
            && time_ms <= before
        {
            return Err(row.problem(
                0,
                &format!("a time after {before}, that of the line before"),
            ));
        }
        points.push((time_ms, row.number(1, 0.0, 1e9)?));
        Ok(())
    })?;
    if points.len() < 2 {
        return Err(ReplayError::file(path, "expected at least two samples"));
    }
    let usual = points[1].0 - points[0].0;
    let start = points[0].0.saturating_sub(usual);
    let earlier = std::iter::once(start).chain(points.iter().map(|&(time_ms, _)| time_ms));
    let samples = earlier.zip(&points).map(|(before, &(time_ms, power_w))| {
        let gap = (time_ms - before) * 2 > usual * 3;
        let from = if gap { time_ms - usual } else { before };
        Sample {
            from: SimTime(from * NANOS_PER_MS),
            until: SimTime(time_ms * NANOS_PER_MS),
            power: Watts(power_w),
        }
    });
    Ok(samples.collect())
}

/// Mean power in each of `count` bins; nothing where samples do not cover the whole bin.
#[must_use]
pub fn in_bins(samples: &[Sample], bin: SimTime, count: usize) -> Vec<Option<f64>> {
    let mut covered_ns = vec![0_u64; count];
    let mut watt_ns = vec![0.0; count];
    for sample in samples {
        let mut from = sample.from;
        while from < sample.until {
            let index = from.0 / bin.0;
            let until = SimTime((index + 1) * bin.0).min(sample.until);
            let Some(index) = usize::try_from(index).ok().filter(|&i| i < count) else {
                break;
            };
            let span = until.since(from);
            covered_ns[index] += span.0;
            watt_ns[index] += sample.power.0 * span.0 as f64;
            from = until;
        }
    }
    covered_ns
        .iter()
        .zip(watt_ns)
        .map(|(&covered, sum)| (covered == bin.0).then(|| sum / covered as f64))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(text: &str) -> (tempfile::TempDir, std::path::PathBuf) {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("power.csv");
        std::fs::write(&path, text).expect("written");
        (folder, path)
    }

    #[test]
    fn samples_are_averaged_over_bins() {
        let (_folder, path) =
            file("time_ms,power_w\n1000,10\n2000,20\n3000,40\n6000,70\n7000,80\n");
        let samples = load(&path).expect("good lines");
        let bins = in_bins(&samples, SimTime::from_seconds(1.5), 5);
        // 0–1.5 s: (1 · 10 + 0.5 · 20) / 1.5; 1.5–3 s: (0.5 · 20 + 1 · 40) / 1.5.
        // 3–5 s is a gap, so the bins from 3 and from 4.5 s are not covered; nor is that from 6 s.
        let expected = [Some(20.0 / 1.5), Some(50.0 / 1.5), None, None, None];
        for (found, expected) in bins.iter().zip(expected) {
            match (found, expected) {
                (Some(a), Some(b)) => assert!((a - b).abs() < 1e-9, "{a} {b}"),
                (a, b) => assert_eq!(*a, b),
            }
        }
    }

    #[test]
    fn errors_name_file_and_line() {
        for (text, problem) in [
            (
                "time_ms,power_w\n1000,10\n1000,20\n",
                "power.csv:3: time_ms: expected a time after 1000, that of the line before, found \
                 \"1000\"",
            ),
            (
                "time_ms,power_w\n1000,NaN\n",
                "power.csv:2: power_w: expected a number from 0 to 1000000000, found \"NaN\"",
            ),
            (
                "time_ms,power_w\n1000,10\n2000,2",
                "power.csv:3: the file ends within a line",
            ),
            ("time_ms,power_w\n", "power.csv: no rows after the header"),
            ("time,power_w\n1,1\n", "power.csv:1: the header must be"),
        ] {
            let (_folder, path) = file(text);
            let error = load(&path).expect_err("a line is wrong").to_string();
            assert!(error.contains(problem), "{error}");
        }
    }
}
