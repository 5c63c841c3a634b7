//! Offered load: work that arrives over what all hosts can do in the same time.
//!
//! At the mean, `load = Σ rate · work / capacity`. In the busiest window of a trace, the work of
//! the arrivals in it, the window being anywhere. Without a trace, the work of the 99.9 % quantile
//! of the number of arrivals in a window: Poisson, or the sum of the batches that one window can
//! hold, by convolution of the distribution of one batch.
//!
//! The least number of hosts for stability counts the fastest hosts first, until their speed is
//! above the mean of the work that arrives.

use serde::Serialize;
use statrs::distribution::{ContinuousCDF, DiscreteCDF, Normal, Poisson};

use super::{Findings, Severity, percent};
use crate::summary::Summary;
use crate::workload::{Trace, Workload};
use crate::world::{Variant, World};

/// Windows of the peak, in s.
const WINDOWS_S: [f64; 3] = [1.0, 10.0, 60.0];
/// The quantile of arrivals in a window where there is no trace.
const QUANTILE: f64 = 0.999;
/// Above this load queues grow long.
const HIGH: f64 = 0.9;
/// Below this load most of the fleet is never needed.
const LOW: f64 = 0.02;
/// The largest batch that is convolved; larger ones are near enough to a normal distribution.
const BATCH_LIMIT: u32 = 2_000;

/// The load with the two extreme choices of variants.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct LoadReport {
    /// Speed of all hosts together, in MIPS.
    pub capacity_mips: f64,
    /// Requests per second, on average.
    pub rate_per_s: f64,
    /// The quantile of arrivals that peaks are of; absent where they are of the busiest window of a
    /// trace.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub peak_quantile: Option<f64>,
    /// With the most accurate variant of each application.
    pub most_accurate: Load,
    /// With the variant of least work of each application.
    pub least_work: Load,
}

/// The load with one choice of variants.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Load {
    /// Mean load.
    pub mean: f64,
    /// Load of the busiest windows.
    pub peaks: Vec<Peak>,
    /// The least number of hosts that do the work in the long run; absent if all are too few.
    pub hosts_least: Option<usize>,
}

/// The load of the busiest window.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Peak {
    /// Length of the window, in s.
    pub window_s: f64,
    /// Work that arrives in it over what all hosts can do in it.
    pub load: f64,
}

impl LoadReport {
    /// The load of `world`.
    pub(super) fn of(world: &World) -> Self {
        let summary = Summary::of(world);
        let accurate: Vec<usize> = summary
            .applications
            .iter()
            .map(|a| a.variants.iter().position(|v| v.most_accurate).unwrap_or(0))
            .collect();
        let least: Vec<usize> = summary
            .applications
            .iter()
            .map(|a| {
                let work = |v: usize| a.variants[v].work_mean_mi;
                (0..a.variants.len())
                    .min_by(|&x, &y| work(x).total_cmp(&work(y)))
                    .unwrap_or(0)
            })
            .collect();
        Self {
            capacity_mips: summary.capacity_mips,
            rate_per_s: summary.rate_per_s,
            peak_quantile: (!matches!(world.workload, Workload::Trace(_))).then_some(QUANTILE),
            most_accurate: load(world, &summary, &accurate),
            least_work: load(world, &summary, &least),
        }
    }
}

/// The load if application `a` always runs the variant `chosen[a]`.
fn load(world: &World, summary: &Summary, chosen: &[usize]) -> Load {
    let demand_mips: f64 = summary
        .applications
        .iter()
        .zip(chosen)
        .map(|(a, &v)| a.rate_per_s * a.variants[v].work_mean_mi)
        .sum();
    let per_request_mi = if summary.rate_per_s > 0.0 {
        demand_mips / summary.rate_per_s
    } else {
        0.0
    };
    let capacity_mips = summary.capacity_mips;
    let work_mi = |window_s: f64| match &world.workload {
        Workload::Trace(trace) => busiest_mi(world, trace, chosen, window_s),
        Workload::Poisson { rate_per_s } => per_request_mi * poisson(rate_per_s * window_s),
        Workload::Batch { mean, sd, minimum } => {
            let batches = (window_s / world.interval.seconds()).ceil().max(1.0);
            per_request_mi * batch_sum((*mean, *sd, *minimum), batches)
        }
    };
    let mut speeds: Vec<f64> = summary.hosts.iter().map(|h| h.capacity_mips).collect();
    speeds.sort_by(|a, b| b.total_cmp(a));
    let mut sum_mips = 0.0;
    let enough = speeds.iter().position(|mips| {
        sum_mips += mips;
        sum_mips > demand_mips
    });
    Load {
        mean: demand_mips / capacity_mips,
        peaks: WINDOWS_S
            .iter()
            .map(|&window_s| Peak {
                window_s,
                load: work_mi(window_s) / (capacity_mips * window_s),
            })
            .collect(),
        hosts_least: enough.map(|position| position + 1),
    }
}

/// Work of the busiest window of `trace`, in MI.
fn busiest_mi(world: &World, trace: &Trace, chosen: &[usize], window_s: f64) -> f64 {
    let mut arrivals: Vec<(f64, f64)> = Vec::new();
    for (a, list) in trace.applications.iter().enumerate() {
        let variant = &world.applications[a].variants[chosen[a]];
        arrivals.extend(list.iter().map(|x| {
            let work_mi = mean_work_mi(
                variant,
                f64::from(x.context_tokens),
                f64::from(x.generated_tokens),
            );
            (x.time.seconds(), work_mi)
        }));
    }
    arrivals.sort_by(|a, b| a.0.total_cmp(&b.0));
    let (mut first, mut sum_mi, mut most_mi) = (0, 0.0, 0.0_f64);
    for &(time_s, work_mi) in &arrivals {
        sum_mi += work_mi;
        while arrivals[first].0 <= time_s - window_s {
            sum_mi -= arrivals[first].1;
            first += 1;
        }
        most_mi = most_mi.max(sum_mi);
    }
    most_mi
}

/// Mean work of a request with these tokens, in MI.
pub(super) fn mean_work_mi(variant: &Variant, context: f64, generated: f64) -> f64 {
    variant
        .fragments
        .iter()
        .map(|f| {
            f.work_mi.mean()
                + f.work_mi_per_context_token * context
                + f.work_mi_per_generated_token * generated
        })
        .sum()
}

/// The quantile of a Poisson distribution.
fn poisson(mean: f64) -> f64 {
    // Beyond this the normal distribution is as good, and the search for the quantile is not.
    if mean > 1e6 {
        return mean + normal(QUANTILE) * mean.sqrt();
    }
    Poisson::new(mean).map_or(0.0, |p| p.inverse_cdf(QUANTILE) as f64)
}

/// The quantile of the sum of `count` batches of max(minimum, ⌊N(mean, sd)⌋).
fn batch_sum((mean, sd, minimum): (f64, f64, u32), count: f64) -> f64 {
    let least = f64::from(minimum);
    if sd <= 0.0 {
        return count * mean.floor().max(least);
    }
    if mean + 10.0 * sd > f64::from(BATCH_LIMIT) || count > 1_000.0 {
        return (count * mean + normal(QUANTILE) * sd * count.sqrt()).max(count * least);
    }
    // P(size = minimum + k), until what is left does not matter.
    let exceeds = |size: f64| Normal::standard().sf((size - mean) / sd);
    let mut one = Vec::new();
    for k in 0..=BATCH_LIMIT {
        let size = least + f64::from(k);
        let at_least = if k == 0 { 1.0 } else { exceeds(size) };
        if k > 0 && at_least < 1e-12 {
            break;
        }
        one.push(at_least - exceeds(size + 1.0));
    }
    let mut sum = vec![1.0];
    let mut added = 0.0;
    while added < count {
        let mut next = vec![0.0; sum.len() + one.len() - 1];
        for (i, p) in sum.iter().enumerate() {
            for (k, q) in one.iter().enumerate() {
                next[i + k] += p * q;
            }
        }
        while next.len() > 1 && next.last().is_some_and(|p| *p < 1e-12) {
            next.pop();
        }
        sum = next;
        added += 1.0;
    }
    let mut below = 0.0;
    let extra = sum
        .iter()
        .position(|p| {
            below += p;
            below >= QUANTILE
        })
        .unwrap_or(sum.len() - 1);
    count * least + extra as f64
}

fn normal(quantile: f64) -> f64 {
    Normal::standard().inverse_cdf(quantile)
}

pub(super) fn check(world: &World, load: &LoadReport, findings: &mut Findings) {
    let (accurate, least) = (&load.most_accurate, &load.least_work);
    let speed = format!("{:.0} MIPS", load.capacity_mips);
    let more = "add hosts, take a larger size, or offer a variant with less work".to_owned();
    if least.mean >= 1.0 {
        findings.add(
            (Severity::Error, "load-unstable"),
            "hosts".into(),
            [
                format!(
                    "the mean load is {} of all hosts together ({speed}), even with the variants \
                     of least work",
                    percent(least.mean)
                ),
                "work comes faster than it can be done, so queues grow without end whatever the \
                 policy does"
                    .into(),
                more,
            ],
        );
    } else if accurate.mean >= 1.0 {
        findings.add(
            (Severity::Warning, "load-needs-cheap-variants"),
            "hosts".into(),
            [
                format!(
                    "with the most accurate variants the mean load is {}, with those of least \
                     work {}",
                    percent(accurate.mean),
                    percent(least.mean)
                ),
                "a policy that always answers with the most accurate variant cannot keep up".into(),
                "leave it if the choice of variants is the point, else add hosts".into(),
            ],
        );
    } else if accurate.mean >= HIGH {
        findings.add(
            (Severity::Warning, "load-high"),
            "hosts".into(),
            [
                format!(
                    "with the most accurate variants the mean load is {}",
                    percent(accurate.mean)
                ),
                "queues grow long before the load reaches 100 %".into(),
                more,
            ],
        );
    } else if accurate.mean > 0.0 && accurate.mean < LOW {
        findings.add(
            (Severity::Note, "load-low"),
            "hosts".into(),
            [
                format!(
                    "with the most accurate variants the mean load is {}",
                    percent(accurate.mean)
                ),
                "nearly all hosts can be off nearly always, so policies differ in little but that"
                    .into(),
                "take fewer hosts or more requests, if that is not meant".into(),
            ],
        );
    }
    check_peak(world, load, findings);
}

fn check_peak(world: &World, load: &LoadReport, findings: &mut Findings) {
    let Some(peak) = load.least_work.peaks.last() else {
        return;
    };
    if peak.load < 1.0 || load.least_work.mean >= 1.0 {
        return;
    }
    let backlog_s = (peak.load - 1.0) * peak.window_s;
    let field = match world.workload {
        Workload::Trace(_) => "workload.arrivals",
        Workload::Batch { .. } => "workload.mean",
        Workload::Poisson { .. } => "workload.rate_per_s",
    };
    findings.add(
        (Severity::Warning, "load-peak"),
        field.into(),
        [
            format!(
                "busy {:.0} s bring {} of what all hosts can do, even with the variants of \
                 least work",
                peak.window_s,
                percent(peak.load)
            ),
            format!(
                "all hosts together then need {backlog_s:.0} s more than the window lasts, and \
                 requests wait meanwhile"
            ),
            "leave it if such bursts are the point, else add hosts".into(),
        ],
    );
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn close(found: f64, expected: f64) {
        assert!((found - expected).abs() < 1e-9, "{found} is not {expected}");
    }

    #[test]
    fn quantiles_of_arrivals() {
        // P(N ≤ 2 | mean 0.25) = e^-0.25 (1 + 0.25 + 0.03125) = 0.99784, P(N ≤ 3) = 0.99987.
        close(poisson(0.25), 3.0);
        close(poisson(0.0), 0.0);
        // No spread: five batches of ⌊2.7⌋.
        close(batch_sum((2.7, 0.0, 1), 5.0), 10.0);
        // One batch of max(1, ⌊N(0, 1.5)⌋): P(N ≥ 5) = sf(3.33) = 0.0004, P(N ≥ 4) = 0.0038.
        close(batch_sum((0.0, 1.5, 1), 1.0), 4.0);
    }

    #[test]
    fn sums_of_batches_agree_with_the_normal_distribution_where_it_holds() {
        // ⌊N(50, 5)⌋ has mean 49.5 and variance 25 + 1/12; ten of them: 495 + 3.0902 · 15.84 = 543.9.
        let found = batch_sum((50.0, 5.0, 0), 10.0);
        assert!((found - 543.9).abs() < 2.0, "{found}");
    }
}
