//! 1,000 intervals of the SciNet testbed under the decisions of its own oracle.
//!
//! Per interval of 5 s: CPU use and state of 16 Azure VMs, and the energy that SciNet computed from
//! them: the mean over the VMs of the power curve at the CPU use, 0 for a VM that is not enabled,
//! times the interval.
//! The originals are three CSV files without a header, one line an interval.
//! Source: the public repository of SciNet (`provisioner/src/datasets/`).
//!
//! Left out: the decisions (applications, choices and hosts).

use std::fmt::Write;
use std::path::Path;
use std::str::FromStr;

use crate::table::{Columns, Frame, ParquetError, ParquetRow, ReadError, read_bytes};

/// VMs.
pub const HOSTS: usize = 16;
/// Seconds per interval.
pub const INTERVAL_S: f64 = 5.0;
/// Power at 0, 10, … 100 % CPU of both VM sizes, B2s and B2ms, in W.
pub const POWER_W: [f64; 11] = [
    75.2, 78.2, 84.1, 89.6, 94.9, 100.0, 105.0, 109.0, 112.0, 115.0, 117.0,
];
/// The first line of the plain file of hosts.
pub const HOSTS_HEADER: &str = "interval,host,enabled,cpu_percent";
/// The first line of the plain file of energy.
pub const ENERGY_HEADER: &str = "interval,energy_j";

/// A VM in an interval.
#[derive(Debug, Clone, PartialEq)]
pub struct HostState {
    /// The interval, from 0.
    pub interval: u32,
    /// The VM, from 0.
    pub host: u32,
    /// Whether it was enabled.
    pub enabled: bool,
    /// Its CPU use, in percent.
    pub cpu_percent: f64,
}

/// The energy of an interval.
#[derive(Debug, Clone, PartialEq)]
pub struct Energy {
    /// The interval, from 0.
    pub interval: u32,
    /// Mean over the VMs, in J.
    pub energy_j: f64,
}

/// Reads the three originals: CPU use, whether each VM is enabled, energy.
///
/// # Errors
///
/// If a file cannot be read, a field is not what it should be, or the files differ in length.
pub fn read_original(
    cpu: &Path,
    enable: &Path,
    energy: &Path,
) -> Result<(Vec<HostState>, Vec<Energy>), ReadError> {
    let percent = |text: &str| {
        let value = text.parse().ok()?;
        (0.0..=100.0).contains(&value).then_some(value)
    };
    let joules = |text: &str| {
        f64::from_str(text)
            .ok()
            .filter(|j| j.is_finite() && *j > 0.0)
    };
    let flag = |text: &str| match text {
        "0" => Some(false),
        "1" => Some(true),
        _ => None,
    };
    let cpu_rows = lines(cpu, HOSTS, "a number from 0 to 100", percent)?;
    let enable_rows = lines(enable, HOSTS, "0 or 1", flag)?;
    let energy_rows = lines(energy, 1, "a number above 0", joules)?;
    for (path, count) in [(enable, enable_rows.len()), (energy, energy_rows.len())] {
        if count != cpu_rows.len() {
            return Err(ReadError::FieldCount {
                path: path.to_path_buf(),
                line: count,
                expected: cpu_rows.len(),
                found: count,
            });
        }
    }
    let numbered = || (0_u32..).zip(cpu_rows.iter().zip(&enable_rows));
    let hosts = numbered().flat_map(|(interval, (cpu, enabled))| {
        let hosts = (0_u32..).zip(cpu.iter().zip(enabled));
        hosts.map(move |(host, (cpu_percent, enabled))| HostState {
            interval,
            host,
            enabled: *enabled,
            cpu_percent: *cpu_percent,
        })
    });
    let energy = (0_u32..).zip(&energy_rows).map(|(interval, row)| Energy {
        interval,
        energy_j: row[0],
    });
    Ok((hosts.collect(), energy.collect()))
}

/// The lines of a file without a header, each of `width` fields.
fn lines<T>(
    path: &Path,
    width: usize,
    expected: &str,
    parse: impl Fn(&str) -> Option<T>,
) -> Result<Vec<Vec<T>>, ReadError> {
    let bytes = read_bytes(path).map_err(|source| ReadError::Io {
        path: path.to_path_buf(),
        source,
    })?;
    let text = String::from_utf8_lossy(&bytes);
    let numbered = text.lines().enumerate();
    numbered
        .map(|(index, line)| {
            let fields: Vec<&str> = line.split(',').collect();
            if fields.len() != width {
                return Err(ReadError::FieldCount {
                    path: path.to_path_buf(),
                    line: index + 1,
                    expected: width,
                    found: fields.len(),
                });
            }
            let value = |(column, field): (usize, &&str)| {
                parse(field.trim()).ok_or_else(|| ReadError::Field {
                    path: path.to_path_buf(),
                    line: index + 1,
                    column: column.to_string(),
                    expected: expected.to_owned(),
                    found: (*field).to_owned(),
                })
            };
            fields.iter().enumerate().map(value).collect()
        })
        .collect()
}

impl ParquetRow for HostState {
    fn to_columns(rows: &[Self]) -> Columns {
        Columns::new(rows.len())
            .u32("interval", rows.iter().map(|row| row.interval))
            .u32("host", rows.iter().map(|row| row.host))
            .flag("enabled", rows.iter().map(|row| row.enabled))
            .f64("cpu_percent", rows.iter().map(|row| row.cpu_percent))
    }

    fn from_frame(frame: &Frame) -> Result<Vec<Self>, ParquetError> {
        let interval = frame.u32("interval")?;
        let host = frame.u32("host")?;
        let enabled = frame.flag("enabled")?;
        let cpu_percent = frame.quantity("cpu_percent")?;
        let rows = (0..frame.height()).map(|row| Self {
            interval: interval[row],
            host: host[row],
            enabled: enabled[row],
            cpu_percent: cpu_percent[row],
        });
        Ok(rows.collect())
    }
}

impl ParquetRow for Energy {
    fn to_columns(rows: &[Self]) -> Columns {
        Columns::new(rows.len())
            .u32("interval", rows.iter().map(|row| row.interval))
            .f64("energy_j", rows.iter().map(|row| row.energy_j))
    }

    fn from_frame(frame: &Frame) -> Result<Vec<Self>, ParquetError> {
        let interval = frame.u32("interval")?;
        let energy_j = frame.quantity("energy_j")?;
        let rows = (0..frame.height()).map(|row| Self {
            interval: interval[row],
            energy_j: energy_j[row],
        });
        Ok(rows.collect())
    }
}

/// The manifest of the plain recording.
#[must_use]
pub fn manifest() -> String {
    format!(
        "kind = \"host-energy\"\nname = \"scinet-recorded\"\n\
         source = \"SciNet, provisioner/src/datasets; BSD-3-Clause license\"\n\
         interval_s = {INTERVAL_S:?}\nhosts = {HOSTS}\npower_w = {POWER_W:?}\n"
    )
}

/// The plain file of hosts; numbers have as many digits as they need to be read back exactly.
#[must_use]
pub fn hosts_to_csv(hosts: &[HostState]) -> String {
    let mut csv = format!("{HOSTS_HEADER}\n");
    for state in hosts {
        let enabled = u8::from(state.enabled);
        // Writing to a string cannot fail, here and below.
        let _ = writeln!(
            csv,
            "{},{},{enabled},{}",
            state.interval, state.host, state.cpu_percent
        );
    }
    csv
}

/// The plain file of energy.
#[must_use]
pub fn energy_to_csv(energy: &[Energy]) -> String {
    let mut csv = format!("{ENERGY_HEADER}\n");
    for row in energy {
        let _ = writeln!(csv, "{},{}", row.interval, row.energy_j);
    }
    csv
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn originals_are_checked_line_by_line() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = |name: &str| folder.path().join(name);
        let write = |name: &str, text: String| {
            std::fs::write(path(name), text).expect("written");
        };
        let line = |value: &str| [value; HOSTS].join(",") + "\n";
        write("cpu", line("12.5") + &line("0.0"));
        write("enable", line("1") + &line("0"));
        write("energy", "376.5\n1.25\n".into());
        let read = || read_original(&path("cpu"), &path("enable"), &path("energy"));
        let (hosts, energy) = read().expect("good files");
        assert_eq!((hosts.len(), energy.len()), (2 * HOSTS, 2));
        assert!(hosts[15].enabled && !hosts[16].enabled);
        assert_eq!(
            energy_to_csv(&energy),
            format!("{ENERGY_HEADER}\n0,376.5\n1,1.25\n")
        );
        assert!(hosts_to_csv(&hosts).starts_with(&format!("{HOSTS_HEADER}\n0,0,1,12.5\n")));

        write("enable", line("1") + &line("2"));
        let error = read().expect_err("2 is no flag").to_string();
        assert!(
            error.ends_with("enable:2: column `0`: expected 0 or 1, found `2`"),
            "{error}"
        );
        write("enable", line("1") + "1,1\n");
        let error = read().expect_err("14 fields are absent").to_string();
        assert!(error.contains("enable:2: expected 16 fields"), "{error}");
        write("cpu", line("12.5") + &line("NaN"));
        let error = read().expect_err("not a number").to_string();
        assert!(error.contains("cpu:2: column `0`"), "{error}");
    }
}
