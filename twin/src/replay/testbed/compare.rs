//! Predicted against recorded, and against what an exact twin would reach.
//!
//! A prediction is the mean over replications: of the power and CPU use of each host and interval,
//! of the mean, the median and the 95th percentile of the responses of each application and
//! variant (the quantile of each replication has the recorded number of requests, so that both
//! have the same bias). Held against one of its own replications it gives the **noise floor**:
//! the figures that the twin would show if it were exact and the recording one more replication.

use std::collections::BTreeMap;

use serde::Serialize;

use super::outcome::{Outcome, Scope};
use super::script::Script;
use super::statistics::{batch_error, mean, quantile, spearman, standard_error};

/// Intervals of the coarser bins in which power is compared: 150 s of intervals of 5 s.
pub(crate) const BIN: usize = 30;
/// Intervals whose mean use counts as one value in standard errors.
const BATCH: usize = 10;
/// Targets: mean power, in percent.
pub(crate) const POWER_TARGET_PERCENT: f64 = 3.0;
/// Mean response, in percent.
pub(crate) const MEAN_TARGET_PERCENT: f64 = 5.0;
/// 95th percentile of responses, in percent.
pub(crate) const P95_TARGET_PERCENT: f64 = 10.0;
/// Utilization of a host, in percentage points.
pub(crate) const UTILIZATION_TARGET_POINTS: f64 = 2.0;
/// What a prediction interval covers: from 5 to 95 %.
const TAIL: f64 = 0.05;

/// How far a prediction is from an outcome.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub struct Figures {
    /// Mean absolute error of the fleet's power by interval, in percent of the recorded power.
    pub power_mape_percent: f64,
    /// The same in bins of 30 intervals.
    pub power_bins_mape_percent: f64,
    /// Predicted less recorded energy, in percent.
    pub power_bias_percent: f64,
    /// Mean over hosts of the absolute error of mean power, in percent.
    pub power_hosts_mape_percent: f64,
    /// Predicted less recorded mean CPU use of all hosts, in percentage points.
    pub utilization_bias_points: f64,
    /// Mean over hosts of the absolute error of mean CPU use, in percentage points.
    pub utilization_error_points: f64,
    /// Largest error of a host.
    pub utilization_largest_points: f64,
    /// Hosts within the target of 2 points.
    pub hosts_within: f64,
    /// Error of the mean response of all requests, in percent.
    pub response_bias_percent: f64,
    /// Mean over applications and variants of the absolute error of the mean response, in percent.
    pub response_mean_error_percent: f64,
    /// Applications and variants within the target of 5 %.
    pub response_mean_within: f64,
    /// As above, of the median.
    pub response_p50_error_percent: f64,
    /// As above, of the 95th percentile.
    pub response_p95_error_percent: f64,
    /// Applications and variants whose 95th percentile is within the target of 10 %.
    pub response_p95_within: f64,
    /// Rank correlation over hosts of mean CPU use.
    pub hosts_utilization_rank: f64,
    /// Rank correlation over hosts of mean power.
    pub hosts_power_rank: f64,
    /// Rank correlation over applications of the mean response.
    pub applications_response_rank: f64,
    /// Rank correlation over applications and variants of the mean response.
    pub variants_response_rank: f64,
}

/// Share of outcomes within the 90 % prediction intervals, in percent.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub struct Coverage {
    /// Power of the fleet, by interval.
    pub power_percent: f64,
    /// Mean CPU use, by host.
    pub hosts_percent: f64,
    /// Response, by request; wide intervals since times are whole intervals.
    pub requests_percent: f64,
    /// Mean response, by application and variant.
    pub variants_percent: f64,
}

/// A host in the window.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct HostRow {
    /// Its number.
    pub host: usize,
    /// Mean recorded CPU use, in percent.
    pub recorded_percent: f64,
    /// Standard error of recorded less predicted use, in points.
    pub error_points: f64,
    /// Mean predicted CPU use, in percent.
    pub predicted_percent: f64,
    /// Predicted less recorded, in points.
    pub difference_points: f64,
    /// Mean recorded power, in W.
    pub recorded_power_w: f64,
    /// Mean predicted power, in W.
    pub predicted_power_w: f64,
}

/// An application's variant in the window; responses in s.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct VariantRow {
    /// Name of the application.
    pub application: String,
    /// Name of the variant.
    pub variant: String,
    /// Requests.
    pub requests: usize,
    /// Mean recorded response.
    pub recorded_s: f64,
    /// Standard error of the mean of recorded less predicted responses: the waits are given, so
    /// that only durations are uncertain.
    pub error_s: f64,
    /// Mean predicted response.
    pub predicted_s: f64,
    /// Predicted less recorded, in percent.
    pub difference_percent: f64,
    /// Recorded median.
    pub recorded_p50_s: f64,
    /// Predicted median.
    pub predicted_p50_s: f64,
    /// Recorded 95th percentile.
    pub recorded_p95_s: f64,
    /// Predicted 95th percentile.
    pub predicted_p95_s: f64,
    /// Standard deviation of the 95th percentile over replications.
    pub p95_spread_s: f64,
    /// Predicted less recorded 95th percentile, in percent.
    pub p95_difference_percent: f64,
}

/// Replications, ready to be compared.
pub(crate) struct Prediction<'a> {
    script: &'a Script,
    scope: &'a Scope,
    interval_s: f64,
    runs: &'a [Outcome],
    /// Mean power by interval and host.
    pub(crate) power_w: Vec<f64>,
    cpu_percent: Vec<f64>,
    /// Mean response by request, in intervals.
    response: Vec<f64>,
    /// Positions within the scope by application and variant.
    groups: BTreeMap<(&'a str, &'a str), Vec<usize>>,
}

impl<'a> Prediction<'a> {
    /// The prediction of `runs`.
    pub(crate) fn new(
        script: &'a Script,
        scope: &'a Scope,
        interval_s: f64,
        runs: &'a [Outcome],
    ) -> Self {
        let mut groups: BTreeMap<_, Vec<usize>> = BTreeMap::new();
        for (i, r) in scope.requests.iter().enumerate() {
            let request = &script.requests[*r];
            groups
                .entry((request.application.as_str(), request.variant.as_str()))
                .or_default()
                .push(i);
        }
        Self {
            script,
            scope,
            interval_s,
            runs,
            power_w: average(runs, |r| &r.power_w, |v| *v),
            cpu_percent: average(runs, |r| &r.cpu_percent, |v| *v),
            response: average(runs, |r| &r.response, |v| f64::from(*v)),
            groups,
        }
    }

    /// The figures of this prediction against `truth`.
    pub(crate) fn figures(&self, truth: &Outcome) -> Figures {
        let hosts = self.hosts(truth);
        let variants = self.variants(truth);
        let (power, bins) = (self.fleet(truth, 1), self.fleet(truth, BIN));
        let total = |of: fn(&(f64, f64)) -> f64| power.iter().map(of).sum::<f64>();
        let share = |p: f64, r: f64| (p / r.max(f64::MIN_POSITIVE) - 1.0) * 100.0;
        let over_hosts =
            |of: &dyn Fn(&HostRow) -> f64| mean(&hosts.iter().map(of).collect::<Vec<_>>());
        let over_variants =
            |of: &dyn Fn(&VariantRow) -> f64| mean(&variants.iter().map(of).collect::<Vec<_>>());
        let counted = |list: Vec<f64>, limit: f64| {
            list.iter()
                .map(|d| f64::from(u8::from(d.abs() <= limit)))
                .sum()
        };
        let rank_hosts = |p: fn(&HostRow) -> f64, r: fn(&HostRow) -> f64| {
            rank(hosts.iter().map(p).collect(), hosts.iter().map(r).collect())
        };
        Figures {
            power_mape_percent: mape(&power),
            power_bins_mape_percent: mape(&bins),
            power_bias_percent: share(total(|p| p.1), total(|p| p.0)),
            power_hosts_mape_percent: over_hosts(&|h| {
                share(h.predicted_power_w, h.recorded_power_w).abs()
            }),
            utilization_bias_points: over_hosts(&|h| h.difference_points),
            utilization_error_points: over_hosts(&|h| h.difference_points.abs()),
            utilization_largest_points: hosts
                .iter()
                .map(|h| h.difference_points.abs())
                .fold(0.0, f64::max),
            hosts_within: counted(
                hosts.iter().map(|h| h.difference_points).collect(),
                UTILIZATION_TARGET_POINTS,
            ),
            response_bias_percent: share(
                mean(&self.response),
                mean(
                    &truth
                        .response
                        .iter()
                        .map(|r| f64::from(*r))
                        .collect::<Vec<_>>(),
                ),
            ),
            response_mean_error_percent: over_variants(&|v| v.difference_percent.abs()),
            response_mean_within: counted(
                variants.iter().map(|v| v.difference_percent).collect(),
                MEAN_TARGET_PERCENT,
            ),
            response_p50_error_percent: over_variants(&|v| {
                share(v.predicted_p50_s, v.recorded_p50_s).abs()
            }),
            response_p95_error_percent: over_variants(&|v| v.p95_difference_percent.abs()),
            response_p95_within: counted(
                variants.iter().map(|v| v.p95_difference_percent).collect(),
                P95_TARGET_PERCENT,
            ),
            hosts_utilization_rank: rank_hosts(|h| h.predicted_percent, |h| h.recorded_percent),
            hosts_power_rank: rank_hosts(|h| h.predicted_power_w, |h| h.recorded_power_w),
            applications_response_rank: applications_rank(&variants),
            variants_response_rank: rank(
                variants.iter().map(|v| v.predicted_s).collect(),
                variants.iter().map(|v| v.recorded_s).collect(),
            ),
        }
    }

    /// The mean figures against `count` of its own replications.
    pub(crate) fn floor(&self, count: usize) -> Vec<Figures> {
        self.runs
            .iter()
            .take(count)
            .map(|r| self.figures(r))
            .collect()
    }

    /// Recorded and predicted power of the fleet in bins of `bin` intervals.
    pub(crate) fn fleet(&self, truth: &Outcome, bin: usize) -> Vec<(f64, f64)> {
        let size = (bin * self.script.hosts).max(1);
        truth
            .power_w
            .chunks(size)
            .zip(self.power_w.chunks(size))
            .map(|(r, p)| (r.iter().sum(), p.iter().sum()))
            .collect()
    }

    /// By host.
    pub(crate) fn hosts(&self, truth: &Outcome) -> Vec<HostRow> {
        let of = |values: &[f64], host: usize| -> Vec<f64> {
            values
                .iter()
                .copied()
                .skip(host)
                .step_by(self.script.hosts)
                .collect()
        };
        (0..self.script.hosts)
            .map(|host| {
                let recorded = of(&truth.cpu_percent, host);
                let predicted = of(&self.cpu_percent, host);
                let residuals: Vec<f64> = recorded
                    .iter()
                    .zip(&predicted)
                    .map(|(r, p)| r - p)
                    .collect();
                HostRow {
                    host,
                    recorded_percent: mean(&recorded),
                    error_points: batch_error(&residuals, BATCH),
                    predicted_percent: mean(&predicted),
                    difference_points: mean(&predicted) - mean(&recorded),
                    recorded_power_w: mean(&of(&truth.power_w, host)),
                    predicted_power_w: mean(&of(&self.power_w, host)),
                }
            })
            .collect()
    }

    /// By application and variant.
    pub(crate) fn variants(&self, truth: &Outcome) -> Vec<VariantRow> {
        self.groups
            .iter()
            .map(|((application, variant), members)| {
                let seconds = |r: &Outcome| -> Vec<f64> {
                    let one = |i: &usize| f64::from(r.response[*i]) * self.interval_s;
                    members.iter().map(one).collect()
                };
                let recorded = seconds(truth);
                let residuals: Vec<f64> = members
                    .iter()
                    .zip(&recorded)
                    .map(|(i, r)| r - self.response[*i] * self.interval_s)
                    .collect();
                let over_runs = |q: f64| -> Vec<f64> {
                    self.runs.iter().map(|r| quantile(&seconds(r), q)).collect()
                };
                let p95 = over_runs(0.95);
                let recorded_s = mean(&recorded);
                let predicted_s = recorded_s - mean(&residuals);
                let recorded_p95_s = quantile(&recorded, 0.95);
                let spread = standard_error(&p95) * (p95.len() as f64).sqrt();
                VariantRow {
                    application: (*application).into(),
                    variant: (*variant).into(),
                    requests: members.len(),
                    recorded_s,
                    error_s: standard_error(&residuals),
                    predicted_s,
                    difference_percent: (predicted_s / recorded_s - 1.0) * 100.0,
                    recorded_p50_s: quantile(&recorded, 0.5),
                    predicted_p50_s: mean(&over_runs(0.5)),
                    recorded_p95_s,
                    predicted_p95_s: mean(&p95),
                    p95_spread_s: spread,
                    p95_difference_percent: (mean(&p95) / recorded_p95_s - 1.0) * 100.0,
                }
            })
            .collect()
    }

    /// Share of `truth` within the 90 % intervals over replications.
    pub(crate) fn coverage(&self, truth: &Outcome) -> Coverage {
        let hosts = self.script.hosts.max(1);
        let fleet =
            |o: &Outcome| -> Vec<f64> { o.power_w.chunks(hosts).map(|c| c.iter().sum()).collect() };
        let by_host = |o: &Outcome| -> Vec<f64> {
            (0..hosts)
                .map(|h| {
                    let own: Vec<f64> = o
                        .cpu_percent
                        .iter()
                        .copied()
                        .skip(h)
                        .step_by(hosts)
                        .collect();
                    mean(&own)
                })
                .collect()
        };
        let requests =
            |o: &Outcome| -> Vec<f64> { o.response.iter().map(|r| f64::from(*r)).collect() };
        let variants = |o: &Outcome| -> Vec<f64> {
            let group = |members: &Vec<usize>| {
                mean(
                    &members
                        .iter()
                        .map(|i| f64::from(o.response[*i]))
                        .collect::<Vec<_>>(),
                )
            };
            self.groups.values().map(group).collect()
        };
        Coverage {
            power_percent: covered(self.runs, truth, &fleet),
            hosts_percent: covered(self.runs, truth, &by_host),
            requests_percent: covered(self.runs, truth, &requests),
            variants_percent: covered(self.runs, truth, &variants),
        }
    }

    /// Requests that are compared.
    pub(crate) fn requests(&self) -> usize {
        self.scope.requests.len()
    }
}

/// Share of the values of `truth` between the 5th and the 95th percentile of `runs`, in percent.
fn covered(runs: &[Outcome], truth: &Outcome, of: &dyn Fn(&Outcome) -> Vec<f64>) -> f64 {
    let values: Vec<Vec<f64>> = runs.iter().map(of).collect();
    let inside: Vec<f64> = of(truth)
        .iter()
        .enumerate()
        .map(|(i, recorded)| {
            let own: Vec<f64> = values.iter().map(|v| v[i]).collect();
            let interval = quantile(&own, TAIL)..=quantile(&own, 1.0 - TAIL);
            f64::from(u8::from(interval.contains(recorded)))
        })
        .collect();
    mean(&inside) * 100.0
}

/// The mean over `runs`, value by value.
fn average<T>(runs: &[Outcome], of: fn(&Outcome) -> &Vec<T>, number: fn(&T) -> f64) -> Vec<f64> {
    let mut sums = vec![0.0; runs.first().map_or(0, |r| of(r).len())];
    for run in runs {
        for (sum, value) in sums.iter_mut().zip(of(run)) {
            *sum += number(value);
        }
    }
    let n = runs.len().max(1) as f64;
    sums.iter_mut().for_each(|s| *s /= n);
    sums
}

/// Mean absolute percentage error of pairs of recorded and predicted; those without recorded
/// power are left out.
pub(crate) fn mape(pairs: &[(f64, f64)]) -> f64 {
    let errors: Vec<f64> = pairs
        .iter()
        .filter(|(recorded, _)| *recorded > 0.0)
        .map(|(recorded, predicted)| (predicted - recorded).abs() / recorded * 100.0)
        .collect();
    mean(&errors)
}

fn rank(predicted: Vec<f64>, recorded: Vec<f64>) -> f64 {
    spearman(&predicted, &recorded).unwrap_or(0.0)
}

/// Rank correlation over applications of the mean response of their requests.
fn applications_rank(variants: &[VariantRow]) -> f64 {
    let (mut predicted, mut recorded) = (Vec::new(), Vec::new());
    for rows in variants.chunk_by(|a, b| a.application == b.application) {
        let requests: f64 = rows.iter().map(|r| r.requests as f64).sum();
        let weighted = |of: fn(&VariantRow) -> f64| {
            rows.iter().map(|r| of(r) * r.requests as f64).sum::<f64>() / requests
        };
        predicted.push(weighted(|r| r.predicted_s));
        recorded.push(weighted(|r| r.recorded_s));
    }
    rank(predicted, recorded)
}

/// The mean of several figures.
pub(crate) fn mean_figures(list: &[Figures]) -> Figures {
    let of = |get: fn(&Figures) -> f64| mean(&list.iter().map(get).collect::<Vec<_>>());
    Figures {
        power_mape_percent: of(|f| f.power_mape_percent),
        power_bins_mape_percent: of(|f| f.power_bins_mape_percent),
        power_bias_percent: of(|f| f.power_bias_percent),
        power_hosts_mape_percent: of(|f| f.power_hosts_mape_percent),
        utilization_bias_points: of(|f| f.utilization_bias_points),
        utilization_error_points: of(|f| f.utilization_error_points),
        utilization_largest_points: of(|f| f.utilization_largest_points),
        hosts_within: of(|f| f.hosts_within),
        response_bias_percent: of(|f| f.response_bias_percent.abs()),
        response_mean_error_percent: of(|f| f.response_mean_error_percent),
        response_mean_within: of(|f| f.response_mean_within),
        response_p50_error_percent: of(|f| f.response_p50_error_percent),
        response_p95_error_percent: of(|f| f.response_p95_error_percent),
        response_p95_within: of(|f| f.response_p95_within),
        hosts_utilization_rank: of(|f| f.hosts_utilization_rank),
        hosts_power_rank: of(|f| f.hosts_power_rank),
        applications_response_rank: of(|f| f.applications_response_rank),
        variants_response_rank: of(|f| f.variants_response_rank),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errors_are_relative_to_what_was_recorded() {
        // |90 - 100| / 100 and |220 - 200| / 200: both 10 %; nothing recorded, nothing counted.
        let found = mape(&[(100.0, 90.0), (200.0, 220.0), (0.0, 5.0)]);
        assert!((found - 10.0).abs() < 1e-12);
    }
}
