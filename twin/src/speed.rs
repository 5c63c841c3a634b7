//! How fast a VM is among those of its size, and how its speed drifts: drawn from recordings.
//!
//! ```
//! use twin::speed::SpeedModel;
//!
//! let model = SpeedModel::recorded("B8ms/eastus")?;
//! // One VM in sixteen is twice as fast as the median, one in three a sixth slower.
//! assert!(model.factor(0.97) > 2.0 && model.factor(0.2) < 0.85);
//!
//! let mut vm = model.start(7);
//! let first = vm.factor(&model);
//! vm.step(&model);
//! assert!((vm.factor(&model) / first - 1.0).abs() < 0.05);
//! # Ok::<(), twin::speed::SpeedError>(())
//! ```
//!
//! The speed of a VM in a period *k* of length *P*, relative to the median of its size and region, is
//!
//! ```text
//! factor(k) = F⁻¹(u) · (1 + s(k) + q z′(k))
//! s(0) = σ z(0),   s(k) = φ s(k − 1) + σ √(1 − φ²) z(k),   φ = exp(−P / τ)
//! ```
//!
//! with *F* the distribution between VMs, *u* uniform and *z*, *z′* standard normal, all hashed from
//! the VM's key and the period, so that they depend on nothing else. *s* is an Ornstein-Uhlenbeck
//! process sampled exactly (Gillespie, Physical Review E, 1996); *q* stands for what changed from one
//! benchmark to the next, a few hours later.
//!
//! The recording: `sysbench cpu` on 43,603 short-lived and 12 long-lived Azure VMs of the sizes B8ms
//! and D8s_v5 in two regions (Azure/AzurePublicDataset 2024, CC-BY 4.0; Freischuetz et al., "TUNA",
//! EuroSys 2025). Its tables are made by `datasets::vm_speed`.
//!
//! A VM that lived for one benchmark shows its speed and one moment of its drift; the latter is not
//! taken out, so that the two together vary a little too much: by 0.9 % where VMs differ by 8 % and
//! more (B8ms), by 0.1 % where they hardly differ (D8s_v5).
//! Left out: that recorded dips are deeper than peaks are high, and anything but the CPU.

use std::fmt;
use std::str::FromStr;

use csv::StringRecord;
use serde::{Deserialize, Serialize};
use statrs::distribution::{ContinuousCDF, Normal};
use thiserror::Error;

use crate::stream;
use crate::units::SimTime;
use crate::world::did_you_mean;

/// The length of a period unless a world says otherwise, in s.
pub const PERIOD_S: f64 = 3600.0;

/// Drift never takes a VM below this share of its own mean speed.
pub const LEAST_DRIFT: f64 = 0.1;

/// Parts of a VM's key.
const BASE_PART: u64 = 0;
const SLOW_PART: u64 = 1;
const FAST_PART: u64 = 2;

const QUANTILES: &str = include_str!("../worlds/azure-vm-speed.csv");
const DRIFT: &str = include_str!("../worlds/azure-vm-drift.csv");
const DRIFT_HEADER: [&str; 7] = [
    "size",
    "region",
    "vms",
    "benchmarks",
    "slow_sd",
    "slow_time_s",
    "fast_sd",
];

/// The speed of VMs of one size in one region.
#[derive(Clone, Debug, PartialEq)]
pub struct SpeedModel {
    /// Probabilities from 0 to 1 and the speeds below which so many VMs are, both ascending.
    quantiles: Vec<(f64, f64)>,
    drift: Drift,
    /// Correlation of the slow part between two periods.
    phi: f64,
    period: SimTime,
}

/// Drift of a VM around its own mean, relative to it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Drift {
    /// Standard deviation of the slow part.
    pub slow_sd: f64,
    /// Correlation time of the slow part, in s.
    pub slow_time_s: f64,
    /// Standard deviation of the part that is new in each period.
    pub fast_sd: f64,
}

/// One VM in one period.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct VmSpeed {
    key: u64,
    period: u64,
    slow: f64,
}

/// Why there is no model of speed.
#[derive(Clone, Debug, PartialEq, Error)]
pub enum SpeedError {
    /// Nobody has recorded that.
    #[error("no recorded speeds of \"{name}\"{hint}; there are {}", known.join(", "))]
    Unknown {
        /// What was asked for.
        name: String,
        /// A suggestion, or nothing.
        hint: String,
        /// What there is.
        known: Vec<String>,
    },
    /// A table is wrong.
    #[error("{origin}:{line}: {problem}")]
    Line {
        /// The table.
        origin: &'static str,
        /// The line, from 1.
        line: u64,
        /// The column, what is wrong and what would be right.
        problem: String,
    },
    /// A number cannot be part of a model.
    #[error("{field}: {problem}")]
    Invalid {
        /// The field.
        field: &'static str,
        /// What is wrong and what would be right.
        problem: String,
    },
}

impl SpeedModel {
    /// The model of a recorded size and region, such as `B8ms/eastus`, with periods of [`PERIOD_S`].
    ///
    /// # Errors
    ///
    /// If that was not recorded.
    pub fn recorded(name: &str) -> Result<Self, SpeedError> {
        let quantiles = column(name)?;
        let drift = recorded_drift(name)?;
        Self::new(quantiles, drift, PERIOD_S)
    }

    /// A model with these `quantiles` of the speed between VMs, probabilities and speeds, and drift
    /// within VMs that changes every `period_s` seconds. Speeds between two quantiles are equally
    /// likely.
    ///
    /// # Errors
    ///
    /// If probabilities do not rise from 0 to 1, a speed is not above zero or below the one before, or
    /// a number of the drift is not a quantity.
    pub fn new(
        quantiles: Vec<(f64, f64)>,
        drift: Drift,
        period_s: f64,
    ) -> Result<Self, SpeedError> {
        let invalid = |field, problem: String| Err(SpeedError::Invalid { field, problem });
        let ends = (quantiles.first(), quantiles.last());
        let whole =
            matches!(ends, (Some(&(p, _)), Some(&(q, _))) if p.abs() + (q - 1.0).abs() < 1e-12);
        if !whole || !quantiles.windows(2).all(|pair| pair[0].0 < pair[1].0) {
            return invalid("quantiles", "probabilities must rise from 0 to 1".into());
        }
        if let Some((_, wrong)) = quantiles.iter().find(|q| !(q.1.is_finite() && q.1 > 0.0)) {
            let problem = format!("speeds must be finite and above zero, found {wrong}");
            return invalid("quantiles", problem);
        }
        if !quantiles.is_sorted_by_key(|q| q.1) {
            return invalid("quantiles", "speeds must not fall".into());
        }
        for (field, value) in [("slow_sd", drift.slow_sd), ("fast_sd", drift.fast_sd)] {
            if !(0.0..1.0).contains(&value) {
                return invalid(field, format!("must be from 0 to below 1, found {value}"));
            }
        }
        for (field, value) in [("slow_time_s", drift.slow_time_s), ("period_s", period_s)] {
            if !(value.is_finite() && value > 0.0) {
                let problem = format!("must be finite and above zero, found {value}");
                return invalid(field, problem);
            }
        }
        Ok(Self {
            quantiles,
            drift,
            phi: (-period_s / drift.slow_time_s).exp(),
            period: SimTime::from_seconds(period_s).max(SimTime(1)),
        })
    }

    /// How fast a VM is on average relative to the median VM, for a uniform value between 0 and 1.
    #[must_use]
    pub fn factor(&self, host_unit: f64) -> f64 {
        let unit = host_unit.clamp(0.0, 1.0);
        // The checked table starts at 0 and ends at 1, so there is a point on either side.
        let above = self.quantiles.partition_point(|q| q.0 <= unit);
        let above = above.clamp(1, self.quantiles.len() - 1);
        let ((p, low), (q, high)) = (self.quantiles[above - 1], self.quantiles[above]);
        low + (high - low) * (unit - p) / (q - p)
    }

    /// The mean of [`SpeedModel::factor`] over all VMs: what a size's rated speed stands for, where it
    /// is a mean.
    #[must_use]
    pub fn mean(&self) -> f64 {
        self.quantiles
            .windows(2)
            .map(|pair| (pair[1].0 - pair[0].0) * (pair[0].1 + pair[1].1) / 2.0)
            .sum()
    }

    /// The drift within VMs.
    #[must_use]
    pub fn drift(&self) -> Drift {
        self.drift
    }

    /// How long a speed holds: every VM's speed changes at multiples of it.
    #[must_use]
    pub fn period(&self) -> SimTime {
        self.period
    }

    /// The VM that belongs to `key`, in its first period.
    #[must_use]
    pub fn start(&self, key: u64) -> VmSpeed {
        VmSpeed {
            key,
            period: 0,
            slow: self.drift.slow_sd * normal(key, SLOW_PART, 0),
        }
    }
}

impl VmSpeed {
    /// The speed in this period, relative to the median VM.
    #[must_use]
    pub fn factor(&self, model: &SpeedModel) -> f64 {
        model.factor(stream::unit(self.key, BASE_PART)) * self.drift(model)
    }

    /// The speed in this period, relative to the VM's own mean.
    #[must_use]
    pub fn drift(&self, model: &SpeedModel) -> f64 {
        let fast = model.drift.fast_sd * normal(self.key, FAST_PART, self.period);
        (1.0 + self.slow + fast).max(LEAST_DRIFT)
    }

    /// Goes on to the next period.
    pub fn step(&mut self, model: &SpeedModel) {
        self.period += 1;
        let innovation = model.drift.slow_sd * (1.0 - model.phi * model.phi).sqrt();
        self.slow = model.phi * self.slow + innovation * normal(self.key, SLOW_PART, self.period);
    }
}

/// The standard normal value that belongs to a part of a key and a period.
fn normal(key: u64, part: u64, period: u64) -> f64 {
    Normal::standard().inverse_cdf(stream::unit(stream::mix(key, part), period))
}

/// Names of the recorded sizes and regions.
#[must_use]
pub fn recorded_names() -> Vec<String> {
    let header = QUANTILES.lines().next().unwrap_or_default();
    header.split(',').skip(1).map(str::to_owned).collect()
}

/// The column of the table of quantiles that is called `name`.
fn column(name: &str) -> Result<Vec<(f64, f64)>, SpeedError> {
    const ORIGIN: &str = "azure-vm-speed.csv";
    let known = recorded_names();
    let Some(index) = known.iter().position(|k| k == name) else {
        let names: Vec<&str> = known.iter().map(String::as_str).collect();
        return Err(SpeedError::Unknown {
            name: name.into(),
            hint: did_you_mean(name, &names),
            known,
        });
    };
    let mut values = Vec::new();
    for (line, record) in records(QUANTILES, ORIGIN)? {
        values.push((
            number(&record, 0, "quantile", line, ORIGIN)?,
            number(&record, index + 1, name, line, ORIGIN)?,
        ));
    }
    Ok(values)
}

fn recorded_drift(name: &str) -> Result<Drift, SpeedError> {
    const ORIGIN: &str = "azure-vm-drift.csv";
    for (line, record) in records(DRIFT, ORIGIN)? {
        if format!("{}/{}", &record[0], &record[1]) == name {
            let get = |i: usize| number(&record, i, DRIFT_HEADER[i], line, ORIGIN);
            return Ok(Drift {
                slow_sd: get(4)?,
                slow_time_s: get(5)?,
                fast_sd: get(6)?,
            });
        }
    }
    Ok(Drift {
        slow_time_s: PERIOD_S,
        ..Drift::default()
    })
}

/// The lines of an embedded table after its header, all with as many fields.
fn records(text: &str, origin: &'static str) -> Result<Vec<(u64, StringRecord)>, SpeedError> {
    let mut reader = csv::Reader::from_reader(text.as_bytes());
    let mut list = Vec::new();
    for record in reader.records() {
        let record = record.map_err(|e| SpeedError::Line {
            origin,
            line: e.position().map_or(0, csv::Position::line),
            problem: e.to_string(),
        })?;
        list.push((record.position().map_or(0, csv::Position::line), record));
    }
    Ok(list)
}

fn number<T: FromStr>(
    record: &StringRecord,
    index: usize,
    column: &str,
    line: u64,
    origin: &'static str,
) -> Result<T, SpeedError> {
    let found = record.get(index).unwrap_or_default();
    found.parse().map_err(|_| SpeedError::Line {
        origin,
        line,
        problem: format!("{column}: expected a number, found \"{found}\""),
    })
}

impl fmt::Display for Drift {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "slow sd {:.3} %, correlation time {:.1} days, fast sd {:.3} %",
            self.slow_sd * 100.0,
            self.slow_time_s / 86_400.0,
            self.fast_sd * 100.0
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Factors of 10,000 VMs.
    fn draws(model: &SpeedModel) -> Vec<f64> {
        let mut draws: Vec<f64> = (0..10_000)
            .map(|host| model.factor(stream::unit(stream::mix(3, host), BASE_PART)))
            .collect();
        draws.sort_by(f64::total_cmp);
        draws
    }

    #[test]
    fn recorded_speed_classes_are_drawn() {
        // Recorded in B8ms/eastus, of 11,821 VMs with a median of 8,205 events/s: 3,922 below 7,500
        // (33.2 %, around 6,800), 7,190 from there to 12,000 (60.8 %, at 8,200) and 709 above (6.0 %,
        // at 17,100). The sd of a share p of 10,000 draws is √(p (1 − p) / 10,000) ≤ 0.5 %.
        let model = SpeedModel::recorded("B8ms/eastus").expect("it was recorded");
        let draws = draws(&model);
        let below = |events: f64| draws.iter().filter(|f| **f < events / 8205.24).count() as f64;
        let (slow, middle) = (below(7500.0), below(12_000.0) - below(7500.0));
        assert!((slow / 1e4 - 0.332).abs() < 0.015, "{slow}");
        assert!((middle / 1e4 - 0.608).abs() < 0.015, "{middle}");
        assert!(((1e4 - slow - middle) / 1e4 - 0.060).abs() < 0.008);
        // Their mean is 1.0042 of the median.
        assert!((model.mean() - 1.0042).abs() < 2e-3, "{}", model.mean());
        assert!((model.factor(0.5) - 1.0).abs() < 1e-12);
    }

    #[test]
    fn a_size_that_hardly_varies_hardly_varies() {
        let model = SpeedModel::recorded("D8s_v5/westus2").expect("it was recorded");
        let draws = draws(&model);
        let n = draws.len() as f64;
        let mean = draws.iter().sum::<f64>() / n;
        let sd = (draws.iter().map(|f| (f - mean).powi(2)).sum::<f64>() / n).sqrt();
        // Recorded: a coefficient of variation of 0.00157, from few slow VMs, the slowest at 0.91.
        assert!((sd - 0.001_57).abs() < 0.000_4, "{sd}");
    }

    #[test]
    fn drift_has_its_deviation_and_its_memory() {
        // φ = exp(−1/20): at lags of 1 and 20 periods the slow part's autocorrelation is 0.951 and
        // 0.368. Of the variance 0.04² + 0.03² = 0.0025 the slow part is 0.64, so that speeds
        // correlate by 0.609 and 0.235.
        let drift = Drift {
            slow_sd: 0.04,
            slow_time_s: 20.0,
            fast_sd: 0.03,
        };
        let model =
            SpeedModel::new(vec![(0.0, 1.0), (1.0, 1.0)], drift, 1.0).expect("a right model");
        let (mut squares, mut near, mut far, mut pairs) = (0.0, 0.0, 0.0, 0.0);
        for key in 0..200 {
            let mut vm = model.start(key);
            let speeds: Vec<f64> = (0..220)
                .map(|_| {
                    let speed = vm.factor(&model) - 1.0;
                    vm.step(&model);
                    speed
                })
                .collect();
            for k in 0..200 {
                squares += speeds[k] * speeds[k];
                near += speeds[k] * speeds[k + 1];
                far += speeds[k] * speeds[k + 20];
                pairs += 1.0;
            }
        }
        let sd = f64::sqrt(squares / pairs);
        assert!((sd - 0.05).abs() < 0.001, "{sd}");
        assert!((near / squares - 0.609).abs() < 0.03, "{}", near / squares);
        assert!((far / squares - 0.235).abs() < 0.05, "{}", far / squares);
    }

    #[test]
    fn a_vm_depends_on_its_key_alone() {
        let model = SpeedModel::recorded("B8ms/westus2").expect("it was recorded");
        let walk = |key| {
            let mut vm = model.start(key);
            for _ in 0..5 {
                vm.step(&model);
            }
            (vm, vm.factor(&model))
        };
        assert_eq!(walk(4), walk(4));
        assert_ne!(walk(4).1.to_bits(), walk(5).1.to_bits());
    }

    #[test]
    fn errors_name_what_is_wrong() {
        assert_eq!(
            SpeedModel::recorded("B8ms/eastsu")
                .expect_err("there is none")
                .to_string(),
            "no recorded speeds of \"B8ms/eastsu\", did you mean \"B8ms/eastus\"?; there are \
             B8ms/eastus, B8ms/westus2, D8s_v5/eastus, D8s_v5/westus2"
        );
        let wrong = SpeedModel::new(vec![(0.0, 1.0), (1.0, 0.9)], Drift::default(), 1.0);
        assert_eq!(
            wrong.expect_err("it falls").to_string(),
            "quantiles: speeds must not fall"
        );
        let drift = Drift {
            slow_sd: 1.5,
            ..Drift::default()
        };
        let wrong = SpeedModel::new(vec![(0.0, 1.0), (1.0, 1.0)], drift, 1.0);
        assert_eq!(
            wrong.expect_err("it is too much").to_string(),
            "slow_sd: must be from 0 to below 1, found 1.5"
        );
    }
}
