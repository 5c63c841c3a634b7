//! From benchmarks of VMs to the two tables with which the twin draws the speed of a host.
//!
//! **Between VMs**: quantiles of the speed of short-lived VMs relative to the median of their size and
//! region, at 1/256, 2/256, … and, so that few extreme VMs are not smeared out, at 1/8192, 2/8192,
//! 4/8192, … from both ends; interpolated linearly between order statistics (type 7 of Hyndman and
//! Fan, The American Statistician, 1996).
//!
//! **Within a VM**: of the long-lived VMs, the speed *x* relative to the VM's own mean has a variance
//! *v* and, at lags *k* of six hours to 16 days, autocorrelations *ρ(k)*. Fitted is
//!
//! ```text
//! ρ(k) = w · exp(−k / τ),   slow sd = √(w v),   fast sd = √((1 − w) v)
//! ```
//!
//! by least squares over τ and 0 ≤ w ≤ 1: an Ornstein-Uhlenbeck process and what is gone before the
//! next benchmark, some two to three hours later.
//!
//! Left out: that dips are deeper than peaks are high.

use std::collections::BTreeMap;
use std::fmt::Write;

use crate::azure_vm_noise::{Benchmark, Lifespan};

/// The table's quantiles are multiples of one over this.
const FINEST: usize = 8192;
/// Of these multiples, every so many are in the table, and powers of two at both ends.
const STEP: usize = 32;

/// The first line of the table of drift.
pub const DRIFT_HEADER: &str = "size,region,vms,benchmarks,slow_sd,slow_time_s,fast_sd";

/// Lags at which the autocorrelation is taken, in minutes; each means pairs within 10 %.
const LAGS_MIN: [u32; 7] = [360, 720, 1440, 2880, 5760, 11_520, 23_040];
/// The correlation times that are tried: from one hour, in steps of 2 %.
const TIMES: (f64, f64, i32) = (60.0, 1.02, 430);

/// Drift within a VM, relative to its mean speed.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Drift {
    /// VMs that were observed.
    pub vms: usize,
    /// Their benchmarks.
    pub benchmarks: usize,
    /// Standard deviation of the slow part.
    pub slow_sd: f64,
    /// Correlation time of the slow part, in s.
    pub slow_time_s: f64,
    /// Standard deviation of the part without memory.
    pub fast_sd: f64,
}

/// Size and region.
type Population<'a> = (&'a str, &'a str);

fn populations(
    rows: &[Benchmark],
    lifespan: Lifespan,
) -> BTreeMap<Population<'_>, Vec<&Benchmark>> {
    let mut found: BTreeMap<Population<'_>, Vec<&Benchmark>> = BTreeMap::new();
    for row in rows.iter().filter(|row| row.lifespan == lifespan) {
        found.entry((&row.size, &row.region)).or_default().push(row);
    }
    found
}

/// The speeds of short-lived VMs of each size and region relative to their median, ascending.
#[must_use]
pub fn relative_speeds(rows: &[Benchmark]) -> BTreeMap<String, Vec<f64>> {
    let speeds = |list: Vec<&Benchmark>| {
        let mut values: Vec<f64> = list.iter().map(|row| row.events_per_s).collect();
        values.sort_by(f64::total_cmp);
        let median = quantile(&values, 1, 2);
        values.iter().map(|value| value / median).collect()
    };
    populations(rows, Lifespan::Short)
        .into_iter()
        .map(|((size, region), list)| (format!("{size}/{region}"), speeds(list)))
        .collect()
}

/// The value below which `numerator / denominator` of the ascending `values` lie.
#[must_use]
fn quantile(values: &[f64], numerator: usize, denominator: usize) -> f64 {
    // Whole numbers decide between which values it lies, so that no rounding does.
    let scaled = values.len().saturating_sub(1) * numerator;
    let (below, rest) = (scaled / denominator, scaled % denominator);
    match (values.get(below), values.get(below + 1)) {
        (Some(low), Some(high)) => low + (high - low) * rest as f64 / denominator as f64,
        (Some(last), None) => *last,
        (None, _) => f64::NAN,
    }
}

/// The table of quantiles: `quantile`, then one column a size and region; five decimals.
#[must_use]
pub fn quantiles_to_csv(rows: &[Benchmark]) -> String {
    let speeds = relative_speeds(rows);
    let mut csv = String::from("quantile");
    for name in speeds.keys() {
        csv.push(',');
        csv.push_str(name);
    }
    csv.push('\n');
    for point in grid() {
        // Writing to a string cannot fail.
        let _ = write!(csv, "{}", point as f64 / FINEST as f64);
        for values in speeds.values() {
            let _ = write!(csv, ",{:.5}", quantile(values, point, FINEST));
        }
        csv.push('\n');
    }
    csv
}

/// The quantiles of the table, in parts of [`FINEST`], ascending.
fn grid() -> impl Iterator<Item = usize> {
    (0..=FINEST).filter(|point| {
        let from_end = (*point).min(FINEST - point);
        point % STEP == 0 || (from_end < STEP && from_end.is_power_of_two())
    })
}

/// The table of drift: one line a size and region.
#[must_use]
pub fn drift_to_csv(rows: &[Benchmark]) -> String {
    let mut csv = format!("{DRIFT_HEADER}\n");
    for ((size, region), drift) in drifts(rows) {
        // Writing to a string cannot fail.
        let _ = writeln!(
            csv,
            "{size},{region},{},{},{:.6},{:.0},{:.6}",
            drift.vms, drift.benchmarks, drift.slow_sd, drift.slow_time_s, drift.fast_sd
        );
    }
    csv
}

/// The drift of long-lived VMs of each size and region.
#[must_use]
pub fn drifts(rows: &[Benchmark]) -> BTreeMap<(String, String), Drift> {
    populations(rows, Lifespan::Long)
        .into_iter()
        .map(|((size, region), list)| ((size.to_owned(), region.to_owned()), drift(&list)))
        .collect()
}

/// The autocorrelation of the drift of long-lived VMs at [`LAGS_MIN`], in minutes, and its variance.
fn correlations(list: &[&Benchmark]) -> (f64, Vec<(f64, f64)>) {
    let series = deviations(list);
    let (mut squares, mut count) = (0.0, 0.0);
    for (_, deviation) in series.values().flatten() {
        squares += deviation * deviation;
        count += 1.0;
    }
    let variance: f64 = squares / f64::max(count, 1.0);
    let points = LAGS_MIN.iter().filter_map(|&lag| {
        let (mut products, mut pairs) = (0.0, 0.0);
        for points in series.values() {
            let (mut from, mut to) = (0, 0);
            for &(time, deviation) in points {
                // Both ends of the window only move forward, since times do.
                while from < points.len() && points[from].0 < time + lag - lag / 10 {
                    from += 1;
                }
                to = to.max(from);
                while to < points.len() && points[to].0 <= time + lag + lag / 10 {
                    to += 1;
                }
                products += deviation * points[from..to].iter().map(|p| p.1).sum::<f64>();
                pairs += (to - from) as f64;
            }
        }
        (pairs > 0.0 && variance > 0.0).then(|| (f64::from(lag), products / pairs / variance))
    });
    (variance, points.collect())
}

/// By VM, the times of its benchmarks and how far each is off the VM's mean, relative to it.
fn deviations(list: &[&Benchmark]) -> BTreeMap<u32, Vec<(u32, f64)>> {
    let mut series: BTreeMap<u32, Vec<(u32, f64)>> = BTreeMap::new();
    for row in list {
        series
            .entry(row.vm)
            .or_default()
            .push((row.started_min, row.events_per_s));
    }
    for points in series.values_mut() {
        points.sort_by(|a, b| a.0.cmp(&b.0).then(a.1.total_cmp(&b.1)));
        let mean = points.iter().map(|p| p.1).sum::<f64>() / points.len() as f64;
        for point in points {
            point.1 = point.1 / mean - 1.0;
        }
    }
    series
}

fn drift(list: &[&Benchmark]) -> Drift {
    let (variance, points) = correlations(list);
    let (start, factor, steps) = TIMES;
    let mut best = (f64::INFINITY, 0.0, start);
    for step in 0..steps {
        let time = start * factor.powi(step);
        let decay = |lag: f64| (-lag / time).exp();
        let (mut cross, mut square) = (0.0, 0.0);
        for (lag, correlation) in &points {
            cross += correlation * decay(*lag);
            square += decay(*lag).powi(2);
        }
        let weight = (cross / f64::max(square, f64::MIN_POSITIVE)).clamp(0.0, 1.0);
        let off: f64 = points
            .iter()
            .map(|(lag, correlation)| (weight * decay(*lag) - correlation).powi(2))
            .sum();
        if off < best.0 {
            best = (off, weight, time);
        }
    }
    let (_, weight, time) = best;
    Drift {
        vms: deviations(list).len(),
        benchmarks: list.len(),
        slow_sd: (weight * variance).sqrt(),
        slow_time_s: time * 60.0,
        fast_sd: ((1.0 - weight) * variance).sqrt(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_lie_between_the_values() {
        // Positions 0, 0.75, 1.5, 2.25 and 3 among four values.
        let values = [1.0, 2.0, 4.0, 8.0];
        let found: Vec<f64> = (0..=4).map(|i| quantile(&values, i, 4)).collect();
        assert_eq!(found, [1.0, 1.75, 3.0, 5.0, 8.0]);
    }

    #[test]
    fn a_known_drift_is_recovered() {
        // Three VMs, a benchmark every three hours for 20,000 hours each. The slow part is an
        // autoregression with a deviation of 2 % and a memory of 5 days, that is exp(−3 / 120) from one
        // benchmark to the next; ±1 % by a hash lie on top.
        let mix = |i: u32| i.wrapping_mul(2_654_435_761) ^ (i.wrapping_mul(40_503) << 7);
        let unit = |i: u32| f64::from(mix(mix(i) >> 3) >> 8) / f64::from(1_u32 << 24);
        // Twelve uniform values less six are nearly standard normal.
        let normal = |i: u32| (0..12).map(|k| unit(12 * i + k)).sum::<f64>() - 6.0;
        let phi = (-3.0_f64 / 120.0).exp();
        let mut rows = Vec::new();
        for vm in 0..3 {
            let mut slow = 0.0;
            for i in 0..6_660_u32 {
                let draw = vm * 10_000 + i;
                slow = phi * slow + 0.02 * (1.0 - phi * phi).sqrt() * normal(draw);
                let fast = if unit(draw + 500_000) < 0.5 {
                    0.01
                } else {
                    -0.01
                };
                rows.push(Benchmark {
                    size: "S".into(),
                    region: "r".into(),
                    lifespan: Lifespan::Long,
                    vm,
                    started_min: i * 180,
                    events_per_s: 5000.0 * (1.0 + slow + fast),
                });
            }
        }
        let found = drifts(&rows)[&("S".to_owned(), "r".to_owned())];
        assert_eq!((found.vms, found.benchmarks), (3, 19_980));
        // Some 170 memories a VM: the deviations come out within a fifth, the memory within two fifths.
        assert!(found.slow_sd > 0.016 && found.slow_sd < 0.024, "{found:?}");
        assert!(found.fast_sd > 0.008 && found.fast_sd < 0.012, "{found:?}");
        let days = found.slow_time_s / 86_400.0;
        assert!(days > 3.0 && days < 7.0, "{found:?}");
    }
}
