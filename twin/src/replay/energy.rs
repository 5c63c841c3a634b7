//! A recording of CPU use and energy per interval.
//!
//! - `recording.toml`: `kind = "host-energy"`, name, source, interval, number of hosts, power curve;
//! - `hosts.csv`: `interval,host,enabled,cpu_percent`, one row an interval and host, in that order;
//! - `energy.csv`: `interval,energy_j`, one row an interval.
//!
//! The energy of an interval of T seconds is E = T · (1/n) Σ enabledᵢ · curve(cpuᵢ), a mean over
//! the n hosts: a host that is not enabled counts as 0 W, and its CPU use as nothing. That is how
//! the reference system defines it; the curve is that of its VM sizes.

use std::path::Path;

use serde::{Deserialize, Serialize};

use super::ReplayError;
use super::rows::read_rows;
use crate::world::PowerCurve;

/// The file of hosts.
pub const HOSTS_FILE: &str = "hosts.csv";
/// The header of the file of hosts.
pub const HOSTS_HEADER: [&str; 4] = ["interval", "host", "enabled", "cpu_percent"];
/// The file of energy.
pub const ENERGY_FILE: &str = "energy.csv";
/// The header of the file of energy.
pub const ENERGY_HEADER: [&str; 2] = ["interval", "energy_j"];

/// The largest relative difference at which energies count as equal.
pub const TOLERANCE: f64 = 1e-9;

/// What `recording.toml` says.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Manifest {
    /// Name of the recording.
    pub name: String,
    /// Where it comes from.
    pub source: String,
    /// Length of an interval, in s.
    pub interval_s: f64,
    /// Hosts.
    pub hosts: usize,
    /// Power of a host at 0, 10, … 100 % CPU, in W.
    pub power_w: PowerCurve,
}

/// Recorded and predicted energy of an interval.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Interval {
    /// What was recorded, in J.
    pub recorded_j: f64,
    /// What the twin predicts, in J.
    pub predicted_j: f64,
}

impl Interval {
    /// |predicted − recorded| over recorded.
    #[must_use]
    pub fn relative_error(&self) -> f64 {
        let difference = (self.predicted_j - self.recorded_j).abs();
        if difference > 0.0 {
            difference / self.recorded_j.abs()
        } else {
            0.0
        }
    }
}

/// The energies of the recording in `folder`, of which the manifest is known.
///
/// # Errors
///
/// If a file cannot be read or a line of it is wrong.
pub fn replay(folder: &Path, manifest: &Manifest) -> Result<Vec<Interval>, ReplayError> {
    let bad = manifest.hosts == 0
        || !(manifest.interval_s > 0.0 && manifest.interval_s.is_finite())
        || manifest
            .power_w
            .0
            .iter()
            .any(|w| !w.is_finite() || *w < 0.0);
    if bad {
        let problem = "hosts and interval_s must be above zero, power_w not below";
        return Err(ReplayError::file(
            &folder.join(super::MANIFEST_FILE),
            problem,
        ));
    }
    let power_w = read_power(&folder.join(HOSTS_FILE), manifest)?;
    let energy = folder.join(ENERGY_FILE);
    let mut intervals = Vec::new();
    read_rows(&energy, &ENERGY_HEADER, |row| {
        let interval = row.whole(0, 0, u32::MAX)? as usize;
        let Some(watts) = power_w
            .get(interval)
            .filter(|_| interval == intervals.len())
        else {
            let next = format!("{}, as many as in {HOSTS_FILE}", intervals.len());
            return Err(row.problem(0, &next));
        };
        intervals.push(Interval {
            recorded_j: row.number(1, 0.0, 1e18)?,
            predicted_j: watts * manifest.interval_s,
        });
        Ok(())
    })?;
    if intervals.len() < power_w.len() {
        let problem = format!(
            "{} intervals, and {} in {HOSTS_FILE}; the file was cut off",
            intervals.len(),
            power_w.len()
        );
        return Err(ReplayError::file(&energy, problem));
    }
    Ok(intervals)
}

/// Mean power over the hosts, one value an interval.
fn read_power(path: &Path, manifest: &Manifest) -> Result<Vec<f64>, ReplayError> {
    let mut sums: Vec<f64> = Vec::new();
    let mut rows = 0_usize;
    read_rows(path, &HOSTS_HEADER, |row| {
        let (interval, host) = (rows / manifest.hosts, rows % manifest.hosts);
        if row.whole(0, 0, u32::MAX)? as usize != interval {
            return Err(row.problem(0, &format!("{interval}, with {} hosts", manifest.hosts)));
        }
        if row.whole(1, 0, u32::MAX)? as usize != host {
            return Err(row.problem(1, &host.to_string()));
        }
        if host == 0 {
            sums.push(0.0);
        }
        let enabled = row.whole(2, 0_u8, 1)? == 1;
        let utilization = row.number(3, 0.0, 100.0)? / 100.0;
        if let Some(sum) = sums.last_mut().filter(|_| enabled) {
            *sum += manifest.power_w.at(utilization).0;
        }
        rows += 1;
        Ok(())
    })?;
    if !rows.is_multiple_of(manifest.hosts) {
        let problem = "the last interval lacks hosts; the file was cut off";
        return Err(ReplayError::file(path, problem));
    }
    Ok(sums.iter().map(|sum| sum / manifest.hosts as f64).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOSTS: &str =
        "interval,host,enabled,cpu_percent\n0,0,1,0\n0,1,1,25\n1,0,0,50\n1,1,1,100\n";
    const ENERGY: &str = "interval,energy_j\n0,550\n1,500\n";

    fn run(hosts: &str, energy: &str) -> Result<Vec<Interval>, ReplayError> {
        let folder = tempfile::tempdir().expect("a folder");
        std::fs::write(folder.path().join(HOSTS_FILE), hosts).expect("written");
        std::fs::write(folder.path().join(ENERGY_FILE), energy).expect("written");
        let manifest = Manifest {
            name: "two".into(),
            source: "made up".into(),
            interval_s: 5.0,
            hosts: 2,
            power_w: PowerCurve([
                100.0, 110.0, 116.0, 124.0, 130.0, 140.0, 150.0, 160.0, 170.0, 180.0, 200.0,
            ]),
        };
        replay(folder.path(), &manifest)
    }

    #[test]
    fn energy_is_the_mean_over_hosts() {
        let intervals = run(HOSTS, ENERGY).expect("good files");
        // 5 s · (100 W + (116 + 124) / 2 W) / 2 = 5 · 110
        assert!((intervals[0].predicted_j - 550.0).abs() < 1e-9);
        assert!(intervals[0].relative_error() < 1e-12);
        // A host that is off draws nothing: 5 s · 200 W / 2
        assert!((intervals[1].predicted_j - 500.0).abs() < 1e-9);
    }

    #[test]
    fn errors_name_file_and_line() {
        let problem = |hosts: &str, energy: &str| {
            let error = run(hosts, energy).expect_err("a line is wrong").to_string();
            error.rsplit_once('/').expect("a path").1.to_owned()
        };
        assert_eq!(
            problem(&HOSTS.replace("1,1,1,100\n", ""), ENERGY),
            "hosts.csv: the last interval lacks hosts; the file was cut off"
        );
        assert_eq!(
            problem(&HOSTS.replace(",25", ",inf"), ENERGY),
            "hosts.csv:3: cpu_percent: expected a number from 0 to 100, found \"inf\""
        );
        assert_eq!(
            problem(&HOSTS.replace("0,1,1", "0,2,1"), ENERGY),
            "hosts.csv:3: host: expected 1, found \"2\""
        );
        assert_eq!(
            problem(HOSTS, &ENERGY.replace("1,500\n", "")),
            "energy.csv: 1 intervals, and 2 in hosts.csv; the file was cut off"
        );
        assert_eq!(
            problem(HOSTS, &ENERGY.replace("1,500", "2,500")),
            "energy.csv:3: interval: expected 1, as many as in hosts.csv, found \"2\""
        );
    }
}
