//! The calibrated model of a testbed, and its file.
//!
//! A fragment takes `alone_s` seconds on an otherwise idle host. All fragments of a host progress
//! together: `n` of them at `speed · min(cap, vCPUs / n) / min(cap, vCPUs)` of the speed that each
//! would have alone. Of its progress a fragment spends the part before `begin_ratio` on its start
//! (container, transfer), the part from `begin_ratio` to `end_ratio` on computing, and the rest on
//! its end; only while it computes does it use CPU, as much as the recorded quantiles say.

use std::path::Path;

use serde::{Deserialize, Serialize};

use super::TestbedError;
use crate::calibrate::cells::Cell;
use crate::world::MAX_HOSTS;

/// Version of the file.
pub const SCHEMA: u32 = 1;
/// What `kind` says in the file.
pub const KIND: &str = "testbed";
/// Points of the quantile function of CPU use: 0, 20, … 100 % of the samples.
pub const LEVELS: usize = 6;

/// A calibration of a testbed.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Model {
    /// Version of the file: 1.
    pub schema: u32,
    /// What the file is: "testbed".
    pub kind: String,
    /// The intervals that it was made from: first, and first after them.
    pub window: [u32; 2],
    /// Length of an interval, in s.
    pub interval_s: f64,
    /// Virtual CPUs of a host.
    pub vcpus: f64,
    /// The most virtual CPUs that a fragment gets.
    pub cap_vcpus: f64,
    /// When in an interval the CPU is sampled, as a part of it.
    pub sample_phase_ratio: f64,
    /// Power of a host at 0, 10, … 100 % use, in W.
    pub power_w: [f64; 11],
    /// Demand of fragments, sorted by application, variant and place.
    pub fragments: Vec<Demand>,
    /// CPU use by application, sorted by name.
    pub applications: Vec<CpuWindow>,
    /// Hosts, by number.
    pub hosts: Vec<HostFit>,
}

/// The demand of a fragment.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Demand {
    /// Name of the application.
    pub application: String,
    /// Name of the variant.
    pub variant: String,
    /// Place in the variant's chain.
    pub place: usize,
    /// Mean duration on an otherwise idle host, in s.
    pub alone_s: f64,
    /// Standard deviation over mean.
    pub cv: f64,
}

/// When the fragments of an application use CPU, and how much.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CpuWindow {
    /// Name of the application.
    pub application: String,
    /// Progress at which computing begins.
    pub begin_ratio: f64,
    /// Progress at which it ends.
    pub end_ratio: f64,
    /// CPU use while computing, in percent of all virtual CPUs: quantiles 0, 20, … 100 % of the
    /// recorded samples, linear in between.
    pub levels_percent: [f64; LEVELS],
}

/// A host.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct HostFit {
    /// Its number.
    pub host: u32,
    /// Speed relative to the mean host.
    pub speed: f64,
    /// CPU use without fragments, in percent.
    pub background_percent: f64,
}

impl CpuWindow {
    /// CPU use at quantile `u` between 0 and 1, in percent.
    #[must_use]
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "the value lies between 0 and the number of levels"
    )]
    pub fn level_percent(&self, u: f64) -> f64 {
        let at = u.clamp(0.0, 1.0) * (LEVELS - 1) as f64;
        let segment = (at as usize).min(LEVELS - 2);
        let (low, high) = (
            self.levels_percent[segment],
            self.levels_percent[segment + 1],
        );
        low + (high - low) * (at - segment as f64)
    }

    /// Mean CPU use while computing, in percent: that of the linear quantile function.
    #[must_use]
    pub fn mean_percent(&self) -> f64 {
        let pairs = self.levels_percent.windows(2);
        pairs.map(|w| w[0].midpoint(w[1])).sum::<f64>() / (LEVELS - 1) as f64
    }
}

impl Model {
    /// Reads the file at `path`.
    ///
    /// # Errors
    ///
    /// If it cannot be read or is not a calibration of a testbed.
    pub fn load(path: &Path) -> Result<Self, TestbedError> {
        let text = std::fs::read_to_string(path).map_err(|source| TestbedError::Read {
            path: path.display().to_string(),
            source,
        })?;
        Self::parse(&text, &path.display().to_string())
    }

    /// The calibration in `text`, which errors call `origin`.
    ///
    /// # Errors
    ///
    /// If it is not a calibration of a testbed; the message names the field.
    pub fn parse(text: &str, origin: &str) -> Result<Self, TestbedError> {
        let wrong = |problem: String| TestbedError::Calibration {
            origin: origin.into(),
            problem,
        };
        let model: Self =
            toml::from_str(text).map_err(|e| wrong(e.to_string().trim().to_string()))?;
        model.check().map_err(wrong)?;
        Ok(model)
    }

    /// The file.
    ///
    /// # Errors
    ///
    /// Never, unless a number is not finite.
    pub fn to_toml(&self) -> Result<String, TestbedError> {
        toml::to_string(self).map_err(|e| TestbedError::Calibration {
            origin: "calibration".into(),
            problem: e.to_string(),
        })
    }

    fn check(&self) -> Result<(), String> {
        let within = |field: String, value: f64, least: f64, most: f64| {
            if (least..=most).contains(&value) {
                Ok(())
            } else {
                Err(format!(
                    "{field}: expected a number from {least} to {most}, found {value}"
                ))
            }
        };
        if self.schema != SCHEMA || self.kind != KIND {
            return Err(format!(
                "schema and kind: expected {SCHEMA} and \"{KIND}\", found {} and \"{}\"; write the \
                 file with `twin calibrate --out`",
                self.schema, self.kind
            ));
        }
        within("interval_s".into(), self.interval_s, 1e-3, 1e6)?;
        within("vcpus".into(), self.vcpus, 1e-3, 1e6)?;
        within("cap_vcpus".into(), self.cap_vcpus, 1e-3, 1e6)?;
        within(
            "sample_phase_ratio".into(),
            self.sample_phase_ratio,
            0.0,
            1.0,
        )?;
        for (i, w) in self.power_w.iter().enumerate() {
            within(format!("power_w[{i}]"), *w, 0.0, 1e6)?;
        }
        for (i, d) in self.fragments.iter().enumerate() {
            within(format!("fragments[{i}].alone_s"), d.alone_s, 1e-6, 1e6)?;
            within(format!("fragments[{i}].cv"), d.cv, 0.0, 100.0)?;
        }
        for (i, a) in self.applications.iter().enumerate() {
            let at = |field: &str| format!("applications[{i}].{field}");
            within(at("begin_ratio"), a.begin_ratio, 0.0, 1e3)?;
            within(at("end_ratio"), a.end_ratio, a.begin_ratio, 1e3)?;
            for level in a.levels_percent {
                within(at("levels_percent"), level, 0.0, 100.0)?;
            }
        }
        if self.hosts.len() > MAX_HOSTS {
            return Err(format!("hosts: at most {MAX_HOSTS}"));
        }
        for (i, h) in self.hosts.iter().enumerate() {
            if h.host as usize != i {
                return Err(format!("hosts[{i}].host: expected {i}, found {}", h.host));
            }
            within(format!("hosts[{i}].speed"), h.speed, 1e-3, 1e3)?;
            within(
                format!("hosts[{i}].background_percent"),
                h.background_percent,
                0.0,
                100.0,
            )?;
        }
        Ok(())
    }

    /// Position of the demand of `cell`.
    pub(crate) fn demand(&self, cell: &Cell) -> Option<usize> {
        self.fragments.iter().position(|d| {
            d.application == cell.application && d.variant == cell.variant && d.place == cell.place
        })
    }

    /// Position of an application.
    pub(crate) fn application(&self, name: &str) -> Option<usize> {
        self.applications.iter().position(|a| a.application == name)
    }

    /// Progress per second of each of `n` fragments on a host of speed 1, relative to one alone.
    pub(crate) fn share(&self, n: usize) -> f64 {
        let alone = self.cap_vcpus.min(self.vcpus);
        self.cap_vcpus.min(self.vcpus / n.max(1) as f64) / alone
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn levels_are_linear_between_quantiles() {
        let window = CpuWindow {
            application: "a".into(),
            begin_ratio: 0.0,
            end_ratio: 1.0,
            levels_percent: [10.0, 20.0, 30.0, 40.0, 50.0, 100.0],
        };
        // 0.9 lies halfway between 80 % (50) and 100 % (100).
        assert!((window.level_percent(0.9) - 75.0).abs() < 1e-9);
        // (15 + 25 + 35 + 45 + 75) / 5 = 39.
        assert!((window.mean_percent() - 39.0).abs() < 1e-9);
    }
}
