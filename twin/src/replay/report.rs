//! What a replay found, for people and for programs.

use std::fmt::Write;

use serde::Serialize;

use super::calibration::Calibration;
use super::containers::{Bin, Recording, Replay};
use super::energy::{self, Interval, TOLERANCE};
use super::fit::{self, Model, NoiseFloor};
use super::score::{Score, score};
use super::window::Span;
use crate::container::CpuWork;
use crate::container::power::NodePowerFile;

/// A replay of containers.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Report {
    /// Name of the recording.
    pub recording: String,
    /// Hosts.
    pub hosts: usize,
    /// Containers.
    pub containers: usize,
    /// Length of a bin, in s.
    pub bin_s: f64,
    /// Work, over the whole recording.
    pub work: Work,
    /// The bins that errors are reported on.
    pub window: Span,
    /// Power, if nodes have a power curve.
    pub power: Option<Power>,
    /// All bins.
    pub bins: Vec<BinRow>,
}

/// Demanded and served work, in 10⁶ cycles.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Work {
    /// What the traces say.
    pub recorded_megacycles: f64,
    /// What the hosts did.
    pub served_megacycles: f64,
    /// What they were asked for and did not do.
    pub unmet_megacycles: f64,
    /// That as a share of what was recorded, in percent.
    pub unmet_percent: f64,
    /// Containers with unmet demand.
    pub containers_short: usize,
    /// Bins in which served and unmet work add up to the recorded work to the last digit.
    pub bins_balanced: usize,
    /// Bins in which served work is the recorded work to the last digit.
    pub bins_exact: usize,
    /// The largest relative difference of served and recorded work of a bin.
    pub largest_difference: f64,
    /// Mean utilization of all hosts, in percent.
    pub utilization_mean_percent: f64,
    /// Largest utilization of a bin, in percent.
    pub utilization_peak_percent: f64,
    /// The most hosts with a container at a time.
    pub most_allocated_hosts: usize,
}

/// Power of the cluster.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Power {
    /// The recording that nodes were calibrated on.
    pub calibrated_on: String,
    /// The bins that the calibration saw.
    pub fit: Span,
    /// Length of those bins, in s.
    pub fit_bin_s: f64,
    /// The power of a node.
    pub node: NodePowerFile,
    /// Predicted energy in the window, in kWh.
    pub predicted_kwh: f64,
    /// Measured energy in the bins of the window that were measured, in kWh.
    pub measured_kwh: f64,
    /// Errors of every model, that which is used first.
    pub models: Vec<ModelRow>,
    /// How far measurements of like states are apart in the window.
    pub noise_floor: Option<NoiseFloor>,
    /// Bounds of the prediction interval, relative to the prediction.
    pub interval: (f64, f64),
}

/// Errors of a model.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct ModelRow {
    /// The model.
    pub model: Model,
    /// Its coefficients.
    pub parameters: usize,
    /// Errors where it was fitted.
    pub fitted: Score,
    /// Errors in cross-validation there.
    pub cross_validated: Score,
    /// Errors on the window; absent if nothing was measured there.
    pub window: Option<Score>,
    /// Measurements of the window in the prediction interval, in percent.
    pub coverage_percent: Option<f64>,
}

/// A bin.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct BinRow {
    /// Its start, in s.
    pub from_s: f64,
    /// Utilization of all hosts, in percent.
    pub utilization_percent: f64,
    /// Mean number of hosts with a container on them.
    pub allocated_hosts: f64,
    /// Predicted power, in W.
    pub predicted_w: Option<f64>,
    /// Measured power, in W.
    pub measured_w: Option<f64>,
}

impl Report {
    /// The report of `replay`, with power where there is a calibration.
    #[must_use]
    pub fn new(
        recording: &Recording,
        replay: &Replay,
        measured_w: &[Option<f64>],
        calibration: Option<Calibration>,
        window: Span,
    ) -> Self {
        let power = calibration.and_then(|c| Power::new(replay, measured_w, &c, window));
        let node = power
            .as_ref()
            .and_then(|power| power.node.clone().try_into().ok());
        let bin_s = replay.bin.seconds();
        let rows = replay.bins.iter().zip(measured_w).enumerate();
        let bins = rows.map(|(index, (bin, measured))| BinRow {
            from_s: index as f64 * bin_s,
            utilization_percent: utilization_percent(replay, bin),
            allocated_hosts: bin.allocated_host_ns as f64 / replay.bin.0 as f64,
            predicted_w: node.as_ref().map(|node| fit::predict(replay, node, bin)),
            measured_w: *measured,
        });
        Self {
            recording: recording.manifest.name.clone(),
            hosts: replay.hosts,
            containers: recording.containers.len(),
            bin_s,
            work: Work::new(replay),
            window,
            power,
            bins: bins.collect(),
        }
    }
}

fn utilization_percent(replay: &Replay, bin: &Bin) -> f64 {
    let capacity = replay.capacity.over(replay.bin).megacycles() * replay.hosts as f64;
    100.0 * bin.served.megacycles() / capacity
}

impl Work {
    fn new(replay: &Replay) -> Self {
        let sum = |of: fn(&Bin) -> CpuWork| replay.bins.iter().map(of).sum::<CpuWork>();
        let unmet: CpuWork = replay.unmet.iter().copied().sum();
        let recorded = sum(|bin| bin.recorded);
        let utilization: Vec<f64> = replay
            .bins
            .iter()
            .map(|bin| utilization_percent(replay, bin))
            .collect();
        let share = |part: CpuWork, whole: CpuWork| {
            if whole.0 == 0 {
                0.0
            } else {
                part.megacycles() / whole.megacycles()
            }
        };
        let count = |holds: fn(&Bin) -> bool| replay.bins.iter().filter(|bin| holds(bin)).count();
        Self {
            recorded_megacycles: recorded.megacycles(),
            served_megacycles: sum(|bin| bin.served).megacycles(),
            unmet_megacycles: unmet.megacycles(),
            unmet_percent: 100.0 * share(unmet, recorded),
            containers_short: replay.unmet.iter().filter(|work| work.0 > 0).count(),
            bins_balanced: count(|bin| bin.demanded == bin.recorded),
            bins_exact: count(|bin| bin.served == bin.recorded),
            largest_difference: replay
                .bins
                .iter()
                .map(|bin| share(bin.recorded - bin.served, bin.recorded))
                .fold(0.0, f64::max),
            utilization_mean_percent: utilization.iter().sum::<f64>()
                / utilization.len().max(1) as f64,
            utilization_peak_percent: utilization.iter().copied().fold(0.0, f64::max),
            most_allocated_hosts: replay.most_allocated,
        }
    }
}

impl Power {
    fn new(
        replay: &Replay,
        measured_w: &[Option<f64>],
        calibration: &Calibration,
        window: Span,
    ) -> Option<Self> {
        let best = calibration.best()?;
        let kwh = |watts: f64| watts * replay.bin.seconds() / 3.6e6;
        let bins = &replay.bins[window.from_interval..window.until_interval];
        let models = calibration.trials.iter().map(|trial| {
            let pairs = fit::pairs(replay, &trial.power, measured_w, window);
            let window = score(&pairs);
            ModelRow {
                model: trial.model,
                parameters: trial.model.parameters(replay.knots.levels().len()),
                fitted: trial.fitted,
                cross_validated: trial.cross_validated,
                coverage_percent: window.map(|_| fit::coverage_percent(&pairs, trial.interval)),
                window,
            }
        });
        let measured = fit::pairs(replay, &best.power, measured_w, window);
        let predicted = bins
            .iter()
            .map(|bin| fit::predict(replay, &best.power, bin));
        Some(Self {
            calibrated_on: calibration.recording.clone(),
            fit: calibration.fit,
            fit_bin_s: calibration.bin_s,
            node: NodePowerFile::from(&best.power),
            predicted_kwh: predicted.map(kwh).sum(),
            measured_kwh: measured.iter().map(|pair| kwh(pair.measured)).sum(),
            models: models.collect(),
            noise_floor: fit::noise_floor(replay, measured_w, window),
            interval: best.interval,
        })
    }
}

/// The report as tables.
#[must_use]
pub fn to_text(report: &Report) -> String {
    let mut text = String::new();
    let work = &report.work;
    let bins = report.bins.len();
    // Writing to a string cannot fail, here and below.
    let _ = write!(
        text,
        "{}: {} containers on {} hosts, {bins} bins of {} s\n\n\
         work      recorded    {:>16.3} million cycles\n\
         \u{20}         served      {:>16.3}, equal to the last digit in {} of {bins} bins\n\
         \u{20}         unmet       {:>16.3} ({:.4} %), of {} containers\n\
         hosts     utilization {:>16.3} % in the mean, {:.3} % in the highest bin\n\
         \u{20}         allocated   {:>16} at most\n",
        report.recording,
        report.containers,
        report.hosts,
        report.bin_s,
        work.recorded_megacycles,
        work.served_megacycles,
        work.bins_exact,
        work.unmet_megacycles,
        work.unmet_percent,
        work.containers_short,
        work.utilization_mean_percent,
        work.utilization_peak_percent,
        work.most_allocated_hosts,
    );
    if let Some(power) = &report.power {
        power_to_text(&mut text, report, power);
    }
    text
}

fn power_to_text(text: &mut String, report: &Report, power: &Power) {
    let hours = |interval: usize, bin_s: f64| interval as f64 * bin_s / 3600.0;
    let _ = write!(
        text,
        "\npower     fitted to {:.2} to {:.2} h of {}, reported on {:.2} to {:.2} h\n\
         energy    {:.3} kWh predicted, {:.3} kWh measured\n\n\
         {:<28}{:>4}{:>11}{:>11}{:>11}{:>9}{:>9}{:>7}{:>10}\n\
         {:<28}{:>4}{:>11}{:>11}{:>11}{:>9}{:>9}{:>7}{:>10}\n",
        hours(power.fit.from_interval, power.fit_bin_s),
        hours(power.fit.until_interval, power.fit_bin_s),
        power.calibrated_on,
        hours(report.window.from_interval, report.bin_s),
        hours(report.window.until_interval, report.bin_s),
        power.predicted_kwh,
        power.measured_kwh,
        "model",
        "k",
        "fit MAPE",
        "CV MAPE",
        "MAPE",
        "bias",
        "RMSE",
        "rank",
        "coverage",
        "",
        "",
        "%",
        "%",
        "%",
        "%",
        "W",
        "",
        "%",
    );
    for row in &power.models {
        let _ = write!(
            text,
            "{:<28}{:>4}{:>11.3}{:>11.3}",
            row.model.describe(),
            row.parameters,
            row.fitted.mape_percent,
            row.cross_validated.mape_percent
        );
        let _ = match (&row.window, row.coverage_percent) {
            (Some(score), Some(coverage)) => writeln!(
                text,
                "{:>11.3}{:>9.3}{:>9.1}{:>7.3}{coverage:>10.2}",
                score.mape_percent, score.bias_percent, score.rmse_w, score.rank_correlation,
            ),
            _ => writeln!(text, "  nothing measured in the window"),
        };
    }
    let _ = writeln!(
        text,
        "The first is used: it has the least error in cross-validation within the window of the \
         fit (CV)."
    );
    if let Some(floor) = &power.noise_floor {
        let _ = writeln!(
            text,
            "noise floor: {:.3} % ({} pairs of bins in the window without any change of state)",
            floor.mape_percent, floor.pairs
        );
    }
    node_to_text(text, &power.node);
}

fn node_to_text(text: &mut String, node: &NodePowerFile) {
    let _ = write!(
        text,
        "\nnode      idle {:.2} W, allocated + {:.2} W, then by utilization\n",
        node.idle_w, node.allocated_w
    );
    for (level, extra) in node.utilization.iter().zip(&node.extra_w) {
        let total_w = node.idle_w + node.allocated_w + extra;
        let _ = writeln!(text, "{:>14.2} % {total_w:>8.2} W", 100.0 * level);
    }
}

/// A replay of energies.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct EnergyReport {
    /// Name of the recording.
    pub recording: String,
    /// Hosts.
    pub hosts: usize,
    /// Length of an interval, in s.
    pub interval_s: f64,
    /// The intervals.
    pub window: Span,
    /// Sum of the recorded energies, in J.
    pub recorded_j: f64,
    /// Sum of the predicted energies, in J.
    pub predicted_j: f64,
    /// The largest relative difference of an interval.
    pub largest_relative_error: f64,
    /// The interval that has it.
    pub worst_interval: usize,
    /// Intervals within [`TOLERANCE`].
    pub equal: usize,
}

impl EnergyReport {
    /// The report of `list`, the intervals of `window`.
    #[must_use]
    pub fn new(manifest: &energy::Manifest, window: Span, list: &[Interval]) -> Self {
        let errors = list.iter().map(Interval::relative_error);
        let worst =
            errors.enumerate().fold(
                (0, 0.0),
                |most, (index, error)| {
                    if error > most.1 { (index, error) } else { most }
                },
            );
        Self {
            recording: manifest.name.clone(),
            hosts: manifest.hosts,
            interval_s: manifest.interval_s,
            window,
            recorded_j: list.iter().map(|interval| interval.recorded_j).sum(),
            predicted_j: list.iter().map(|interval| interval.predicted_j).sum(),
            largest_relative_error: worst.1,
            worst_interval: window.from_interval + worst.0,
            equal: list
                .iter()
                .filter(|interval| interval.relative_error() <= TOLERANCE)
                .count(),
        }
    }
}

/// The report as text.
#[must_use]
pub fn energy_to_text(report: &EnergyReport) -> String {
    let count = report.window.until_interval - report.window.from_interval;
    format!(
        "{}: {} hosts, {count} intervals of {} s\n\n\
         energy    recorded    {:>16.6} J\n\
         \u{20}         predicted   {:>16.6} J\n\
         \u{20}         equal to {TOLERANCE:e} in {} of {count} intervals; largest relative \
         difference {:.3e}, in interval {}\n",
        report.recording,
        report.hosts,
        report.interval_s,
        report.recorded_j,
        report.predicted_j,
        report.equal,
        report.largest_relative_error,
        report.worst_interval,
    )
}
