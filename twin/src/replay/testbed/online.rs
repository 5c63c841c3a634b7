//! Recalibration while the system runs: what is predicted of an interval rests on what was
//! recorded before it.
//!
//! Two quantities follow the recording, each an average with exponential forgetting:
//!
//! - the **delay** with which fragments begin to progress: recorded less replayed length of the
//!   fragments that have ended, and what is left of it for the fragments of the same demand alone;
//!   both with a prior of nothing that weighs as much as a few fragments;
//! - the **factors** on the chance that a fragment of some age computes when it is sampled: the
//!   recorded CPU use of the fleet above the background, by ridge regression on the use that the
//!   replay with delay expects of each age, with a prior of one; times the recorded over the
//!   predicted sum, since a regression on uncertain values alone comes out too low.
//!
//! They forget over 40 intervals, long against a fragment and short against the recording, and over
//! four times as long what concerns one demand alone, of which there is less to see. On the embedded
//! recording half or twice as long gives nearly the same figures.
//!
//! **Drift** is named by the two-sided cumulative sum of the standardized length residuals (Page,
//! "Continuous inspection schemes", Biometrika 41, 1954).

use serde::Serialize;

use super::drive::{AGES, Drift, Run};
use super::model::Model;
use super::script::Script;
use super::statistics::Ridge;

/// Intervals over which the weight of a value falls to 1/e.
pub(crate) const MEMORY: f64 = 40.0;
/// The same for what concerns one demand alone.
const OWN_MEMORY: f64 = 160.0;
/// What the prior of no delay weighs, in fragments.
const DELAY_PRIOR: f64 = 5.0;
/// What the prior of factors of one weighs, in squared percent of use.
const FACTOR_PRIOR: f64 = 5000.0;
/// What the prior of a scale of one weighs, in percent of use.
const TOTAL_PRIOR: f64 = 500.0;
/// Largest factor.
const MAX_FACTOR: f64 = 5.0;
/// Slack of the cumulative sum, in standard deviations.
const SLACK: f64 = 0.25;
/// Where it raises the alarm.
const ALARM: f64 = 20.0;

/// Mean and variance over the replications of a fragment's length, in intervals.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Length {
    pub(crate) mean: f64,
    pub(crate) variance: f64,
}

/// The lengths of all fragments in `runs`.
pub(crate) fn lengths(script: &Script, runs: &[Run]) -> Vec<Length> {
    let n = runs.len().max(1) as f64;
    (0..script.fragments.len())
        .map(|i| {
            let of = |r: &Run| f64::from(r.finished[i] - r.started[i]);
            let mean = runs.iter().map(of).sum::<f64>() / n;
            let squares = runs.iter().map(|r| of(r).powi(2)).sum::<f64>() / n;
            Length {
                mean,
                variance: (squares - mean * mean).max(0.0),
            }
        })
        .collect()
}

/// A recorded length against the replayed one, in the order in which fragments ended.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Residual {
    /// Interval in which the fragment ended.
    pub(crate) finished: u32,
    /// Interval in which it started.
    pub(crate) started: u32,
    /// Position of its demand.
    pub(crate) demand: usize,
    /// Recorded less replayed length, in intervals.
    pub(crate) intervals: f64,
    /// Variance of the replayed length, in squared intervals.
    pub(crate) variance: f64,
}

/// Residuals of all fragments in the order in which they ended.
pub(crate) fn residuals(script: &Script, runs: &[Run]) -> Vec<Residual> {
    let mut list: Vec<Residual> = script
        .fragments
        .iter()
        .zip(lengths(script, runs))
        .map(|(f, length)| Residual {
            finished: f.finished,
            started: f.started,
            demand: f.demand,
            intervals: f64::from(f.finished - f.started) - length.mean,
            variance: length.variance,
        })
        .collect();
    list.sort_by_key(|r| r.finished);
    list
}

/// The delay by interval of `span` and demand, in s.
pub(crate) fn delays(
    residuals: &[Residual],
    span: (u32, u32),
    demands: usize,
    interval_s: f64,
) -> Vec<Vec<f64>> {
    let mut common = Fading::new(MEMORY);
    let mut own = vec![Fading::new(OWN_MEMORY); demands];
    let mut next = 0;
    (span.0..span.1)
        .map(|interval| {
            let before = common.mean();
            common.fade();
            own.iter_mut().for_each(Fading::fade);
            while let Some(r) = residuals.get(next)
                && r.finished < interval
            {
                common.add(r.intervals);
                own[r.demand].add(r.intervals - before);
                next += 1;
            }
            let delay_s = |o: &Fading| interval_s * (common.mean() + o.mean());
            own.iter().map(delay_s).collect()
        })
        .collect()
}

/// A mean that forgets, with a prior of zero.
#[derive(Clone, Copy, Debug)]
struct Fading {
    sum: f64,
    weight: f64,
    factor: f64,
}

impl Fading {
    fn new(memory: f64) -> Self {
        Self {
            sum: 0.0,
            weight: 0.0,
            factor: (-1.0 / memory).exp(),
        }
    }

    fn fade(&mut self) {
        self.sum *= self.factor;
        self.weight *= self.factor;
    }

    fn add(&mut self, value: f64) {
        self.sum += value;
        self.weight += 1.0;
    }

    fn mean(&self) -> f64 {
        self.sum / (self.weight + DELAY_PRIOR)
    }
}

/// The factors by interval of the span: `expected` is the use by age that the replay expects, and
/// `recorded` the use above background, both by interval and host; hosts that were not recorded are
/// left out.
pub(crate) fn factors(
    expected: &[[f64; AGES]],
    recorded: &[Option<f64>],
    hosts: usize,
) -> Vec<[f64; AGES]> {
    let mut ridge = Ridge::new(AGES);
    let (mut seen, mut predicted) = (TOTAL_PRIOR, TOTAL_PRIOR);
    let fade = (-1.0 / MEMORY).exp();
    expected
        .chunks_exact(hosts.max(1))
        .zip(recorded.chunks_exact(hosts.max(1)))
        .map(|(expected, recorded)| {
            let values = ridge.solve(&[1.0; AGES], FACTOR_PRIOR);
            ridge.forget(fade);
            let mut x = [0.0; AGES];
            let mut y = 0.0;
            for (expected, recorded) in expected.iter().zip(recorded) {
                if let Some(recorded) = recorded {
                    y += recorded;
                    for (sum, value) in x.iter_mut().zip(expected) {
                        *sum += value;
                    }
                }
            }
            ridge.add(&x, y);
            let scale = seen / predicted;
            let total: f64 = values.iter().zip(&x).map(|(v, x)| v * x).sum();
            seen = TOTAL_PRIOR + fade * (seen - TOTAL_PRIOR) + y.max(0.0);
            predicted = TOTAL_PRIOR + fade * (predicted - TOTAL_PRIOR) + total.max(0.0);
            std::array::from_fn(|age| (values[age] * scale).clamp(0.0, MAX_FACTOR))
        })
        .collect()
}

/// CPU use by age that `runs` expect, by interval and host.
pub(crate) fn expected(runs: &[Run]) -> Vec<[f64; AGES]> {
    let samples = runs.first().map_or(0, |r| r.by_age.len());
    let mut sums = vec![[0.0; AGES]; samples];
    for run in runs {
        for (sum, by_age) in sums.iter_mut().zip(&run.by_age) {
            for (s, v) in sum.iter_mut().zip(by_age) {
                *s += v;
            }
        }
    }
    let n = runs.len().max(1) as f64;
    sums.iter_mut().flatten().for_each(|s| *s /= n);
    sums
}

/// Chance that a fragment computes when it is sampled, by interval, application and age, from what
/// `runs` show up to that interval.
fn chances(model: &Model, runs: &[Run], intervals: usize) -> Vec<Vec<[f64; AGES]>> {
    let none = vec![[(0.0, 0.0); AGES]; model.applications.len()];
    let mut counts = vec![none.clone(); intervals];
    for seen in runs.iter().flat_map(|r| &r.seen) {
        let window = &model.applications[seen.application];
        let count: &mut (f64, f64) = &mut counts[seen.offset][seen.application][seen.age];
        count.1 += 1.0;
        if (window.begin_ratio..window.end_ratio).contains(&seen.progress) {
            count.0 += 1.0;
        }
    }
    let fade = (-1.0 / MEMORY).exp();
    let mut sums = none;
    let mut list = Vec::with_capacity(intervals);
    for counts in counts {
        for (sum, count) in sums.iter_mut().flatten().zip(counts.iter().flatten()) {
            *sum = (fade * sum.0 + count.0, fade * sum.1 + count.1);
        }
        let share = |(does, all): (f64, f64)| does / all.max(1.0);
        list.push(sums.iter().map(|ages| ages.map(share)).collect());
    }
    list
}

/// `delayed`, with the factors that follow from `runs` under its delays.
pub(crate) fn with_factors(
    delayed: Drift,
    model: &Model,
    script: &Script,
    runs: &[Run],
    recorded_percent: &[Option<f64>],
) -> Drift {
    let above: Vec<Option<f64>> = recorded_percent
        .iter()
        .enumerate()
        .map(|(i, v)| v.map(|v| v - model.hosts[i % script.hosts].background_percent))
        .collect();
    Drift {
        factors: factors(&expected(runs), &above, script.hosts),
        chances: chances(model, runs, (script.span.1 - script.span.0) as usize),
        ..delayed
    }
}

/// What the test for drift found.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Alarm {
    /// Interval before which the fragments had ended that raised it.
    pub interval: u32,
    /// Whether fragments took longer than calibrated, not shorter.
    pub longer: bool,
}

/// The first alarm on fragments that started in `window`.
pub(crate) fn alarm(residuals: &[Residual], window: (u32, u32)) -> Option<Alarm> {
    let (mut up, mut down) = (0.0f64, 0.0f64);
    residuals
        .iter()
        .filter(|r| (window.0..window.1).contains(&r.started))
        .find_map(|r| {
            // Rounding alone gives a variance of up to a quarter.
            let z = r.intervals / r.variance.max(0.25).sqrt();
            up = (up + z - SLACK).max(0.0);
            down = (down - z - SLACK).max(0.0);
            (up.max(down) > ALARM).then_some(Alarm {
                interval: r.finished + 1,
                longer: up > down,
            })
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn residual(finished: u32, intervals: f64) -> Residual {
        Residual {
            finished,
            started: finished,
            demand: 0,
            intervals,
            variance: 1.0,
        }
    }

    #[test]
    fn delays_use_what_has_ended() {
        // A fragment of demand 0 ends in interval 1, one interval late: known from interval 2 on,
        // where its weight is 1 of 1 + 5, once for all and once more for its demand.
        let delays = delays(&[residual(1, 1.0)], (0, 4), 2, 5.0);
        assert!(delays[1].iter().all(|d| d.abs() < 1e-12));
        assert!((delays[2][0] - 2.0 * 5.0 / 6.0).abs() < 1e-12);
        assert!((delays[2][1] - 5.0 / 6.0).abs() < 1e-12);
        // One interval later both its sum and its weight have faded by exp(-1/40).
        let fade = (-1.0f64 / 40.0).exp();
        assert!((delays[3][1] - 5.0 * fade / (fade + 5.0)).abs() < 1e-12);
    }

    #[test]
    fn factors_use_the_past() {
        // Expected 100 of age 0 and recorded 50: the regression of the next interval gives
        // (100 · 50 + 5000) / (100² + 5000) = 2/3, and recorded over predicted in sum is
        // (500 + 50) / (500 + 100) = 11/12. What age 1 does is open: its factor is the scale.
        let expected = [[100.0, 0.0, 0.0, 0.0, 0.0]; 2];
        let found = factors(&expected, &[Some(50.0), None], 1);
        assert!((found[0][0] - 1.0).abs() < 1e-12);
        assert!((found[1][0] - 2.0 / 3.0 * 11.0 / 12.0).abs() < 1e-12);
        assert!((found[1][1] - 11.0 / 12.0).abs() < 1e-12);
    }

    #[test]
    fn the_alarm_follows_a_shift() {
        // Each residual of one standard deviation adds 0.75: above 20 with the 27th.
        let late: Vec<Residual> = (0..30).map(|i| residual(i, 1.0)).collect();
        let found = alarm(&late, (0, 30)).expect("a shift");
        assert_eq!((found.interval, found.longer), (27, true));
        let none: Vec<Residual> = (0..30).map(|i| residual(i, 0.2)).collect();
        assert_eq!(alarm(&none, (0, 30)), None);
    }
}
