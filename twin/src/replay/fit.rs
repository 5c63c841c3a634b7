//! Fits the power of a node to the measured power of a cluster.
//!
//! The mean power of a bin of T seconds is
//! n · idle + (1/T) Σₖ hₖ · wₖ, with n nodes, hₖ the host-seconds of allocated nodes at level k of
//! utilization, and wₖ what an allocated node draws beyond idle there. It is linear in idle and wₖ,
//! so they follow by least squares of the relative error, none below zero.
//!
//! Four models are tried, each the one before with something added ([`Model`]). The one is taken
//! whose error is the least in cross-validation over blocks of six hours within the window of the
//! fit: nothing outside that window is looked at.
//! The errors of cross-validation also give the prediction interval.

use serde::{Deserialize, Serialize};

use super::ReplayError;
use super::containers::{Bin, Replay};
use super::nnls::Normal;
use super::score::{Pair, Score, quantile, score};
use super::window::Span;
use crate::container::power::{NodePower, NodePowerFile, PowerError};

/// Length of a block of cross-validation, in s.
pub const BLOCK_S: f64 = 21_600.0;

/// The share of bins that the prediction interval is meant to hold.
pub const INTERVAL_LEVEL: f64 = 0.95;

/// What the power of a node depends on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Model {
    /// A line through utilization.
    Line,
    /// A line, and what allocated nodes draw beyond idle.
    LineAllocated,
    /// A curve that never falls, with a knot for each core.
    RisingCurve,
    /// A curve with a knot for each core that may fall, but not below idle.
    Curve,
}

impl Model {
    /// All models, the simplest first.
    pub const ALL: [Self; 4] = [
        Self::Line,
        Self::LineAllocated,
        Self::RisingCurve,
        Self::Curve,
    ];

    /// What people call it.
    #[must_use]
    pub fn describe(self) -> &'static str {
        match self {
            Self::Line => "utilization, linear",
            Self::LineAllocated => "+ allocated nodes",
            Self::RisingCurve => "+ curve over load, rising",
            Self::Curve => "+ curve over load, free",
        }
    }

    /// The regressors of a bin: what each coefficient is multiplied by to give mean power.
    fn regressors(self, replay: &Replay, bin: &Bin) -> Vec<f64> {
        let bin_s = replay.bin.seconds();
        let at: Vec<f64> = bin.at_knots_s.iter().map(|s| s / bin_s).collect();
        let levels = replay.knots.levels();
        let allocated: f64 = at.iter().sum();
        let busy: f64 = at
            .iter()
            .zip(levels)
            .map(|(hosts, level)| hosts * level)
            .sum();
        let mut row = vec![replay.hosts as f64];
        match self {
            Self::Line => row.push(busy),
            Self::LineAllocated => row.extend([allocated, busy]),
            Self::RisingCurve => {
                // The rise from one knot to the next counts for all hosts above.
                row.extend((0..at.len()).map(|knot| at[knot..].iter().sum::<f64>()));
            }
            Self::Curve => row.extend(at),
        }
        row
    }

    /// The power that the coefficients stand for.
    fn power(self, coefficients: &[f64], levels: &[f64]) -> Result<NodePower, PowerError> {
        let line = |slope: f64| levels.iter().map(|level| slope * level).collect();
        let (allocated_w, extra_w): (f64, Vec<f64>) = match self {
            Self::Line => (0.0, line(coefficients[1])),
            Self::LineAllocated => (coefficients[1], line(coefficients[2])),
            Self::RisingCurve => {
                let rises = coefficients[2..].iter().scan(0.0, |sum, rise| {
                    *sum += rise;
                    Some(*sum)
                });
                (coefficients[1], std::iter::once(0.0).chain(rises).collect())
            }
            Self::Curve => {
                let extra = coefficients[1..].iter().map(|w| w - coefficients[1]);
                (coefficients[1], extra.collect())
            }
        };
        NodePower::try_from(NodePowerFile {
            idle_w: coefficients[0],
            allocated_w,
            utilization: levels.to_vec(),
            extra_w,
        })
    }

    /// How many coefficients it has, with `knots` knots.
    #[must_use]
    pub fn parameters(self, knots: usize) -> usize {
        match self {
            Self::Line => 2,
            Self::LineAllocated => 3,
            Self::RisingCurve | Self::Curve => knots + 1,
        }
    }
}

/// Mean power of the cluster in `bin`, in W.
#[must_use]
pub fn predict(replay: &Replay, power: &NodePower, bin: &Bin) -> f64 {
    let bin_s = replay.bin.seconds();
    let idle_w = power.idle().0;
    let beyond: f64 = bin
        .at_knots_s
        .iter()
        .enumerate()
        .map(|(knot, host_s)| host_s / bin_s * (power.at_knot(knot).0 - idle_w))
        .sum();
    replay.hosts as f64 * idle_w + beyond
}

/// A model, and how well it does.
#[derive(Clone, Debug, PartialEq)]
pub struct Trial {
    /// The model.
    pub model: Model,
    /// Its power, fitted to the whole window.
    pub power: NodePower,
    /// Errors on the window itself.
    pub fitted: Score,
    /// Errors in cross-validation within the window.
    pub cross_validated: Score,
    /// Measured over predicted power in cross-validation: the bounds of the prediction interval.
    pub interval: (f64, f64),
}

/// Predicted and measured power of the bins in `span` that were measured.
#[must_use]
pub fn pairs(
    replay: &Replay,
    power: &NodePower,
    measured_w: &[Option<f64>],
    span: Span,
) -> Vec<Pair> {
    known(measured_w, span)
        .map(|(index, measured)| Pair {
            predicted: predict(replay, power, &replay.bins[index]),
            measured,
        })
        .collect()
}

/// The bins in `span` with a measured power above zero.
fn known(measured_w: &[Option<f64>], span: Span) -> impl Iterator<Item = (usize, f64)> {
    measured_w
        .iter()
        .enumerate()
        .filter(move |(index, _)| span.contains(*index))
        .filter_map(|(index, w)| Some((index, w.filter(|w| *w > 0.0)?)))
}

/// Fits every model to the bins in `span`; the best by cross-validation comes first.
///
/// # Errors
///
/// If the window holds too few measured bins.
pub fn fit(
    replay: &Replay,
    measured_w: &[Option<f64>],
    span: Span,
) -> Result<Vec<Trial>, ReplayError> {
    let mut trials = Model::ALL
        .iter()
        .map(|&model| try_model(replay, measured_w, span, model))
        .collect::<Option<Vec<_>>>()
        .ok_or_else(|| {
            ReplayError::Options(format!(
                "--fit-window: expected measured power in at least two blocks of {} h; choose a \
                 longer window",
                BLOCK_S / 3600.0
            ))
        })?;
    trials.sort_by(|a, b| {
        let error = |trial: &Trial| trial.cross_validated.mape_percent;
        error(a).total_cmp(&error(b))
    });
    Ok(trials)
}

fn try_model(
    replay: &Replay,
    measured_w: &[Option<f64>],
    span: Span,
    model: Model,
) -> Option<Trial> {
    let rows: Vec<(usize, Vec<f64>, f64)> = known(measured_w, span)
        .map(|(index, w)| (index, model.regressors(replay, &replay.bins[index]), w))
        .collect();
    let block = |index: usize| {
        let seconds = (index - span.from_interval) as f64 * replay.bin.seconds();
        (seconds / BLOCK_S).floor()
    };
    let solve = |without: Option<f64>| {
        let mut normal = Normal::new(rows.first()?.1.len());
        for (index, row, measured) in &rows {
            if without.is_none_or(|left_out| (block(*index) - left_out).abs() > 0.5) {
                let relative: Vec<f64> = row.iter().map(|value| value / measured).collect();
                normal.add(&relative, 1.0);
            }
        }
        Some(normal.solve())
    };
    let power = model.power(&solve(None)?, replay.knots.levels()).ok()?;
    let blocks = rows.chunk_by(|a, b| (block(a.0) - block(b.0)).abs() < 0.5);
    let mut folds = 0;
    let mut unseen: Vec<Pair> = Vec::new();
    for rows in blocks {
        folds += 1;
        let coefficients = solve(rows.first().map(|row| block(row.0)))?;
        unseen.extend(rows.iter().map(|(_, row, measured)| Pair {
            predicted: row.iter().zip(&coefficients).map(|(x, c)| x * c).sum(),
            measured: *measured,
        }));
    }
    let ratios: Vec<f64> = unseen
        .iter()
        .filter(|pair| pair.predicted > 0.0)
        .map(|pair| pair.measured / pair.predicted)
        .collect();
    let tail = (1.0 - INTERVAL_LEVEL) / 2.0;
    Some(Trial {
        model,
        fitted: score(&pairs(replay, &power, measured_w, span))?,
        cross_validated: score(&unseen).filter(|_| folds > 1)?,
        interval: (quantile(&ratios, tail), quantile(&ratios, 1.0 - tail)),
        power,
    })
}

/// The share of `pairs` whose measurement lies in the prediction interval, in percent.
#[must_use]
pub fn coverage_percent(pairs: &[Pair], (low, high): (f64, f64)) -> f64 {
    let inside =
        |pair: &&Pair| (low * pair.predicted..=high * pair.predicted).contains(&pair.measured);
    100.0 * pairs.iter().filter(inside).count() as f64 / pairs.len().max(1) as f64
}

/// How far measurements are apart when the twin sees no difference.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct NoiseFloor {
    /// Pairs of bins, one after the other, in which nothing starts or ends and the mean use of the
    /// cluster differs by less than a thousandth of its hosts.
    pub pairs: usize,
    /// Mean relative difference of such bins over √2, in percent: the error of a twin that knows
    /// the mean of each state.
    pub mape_percent: f64,
}

/// The noise floor in `span`; `None` if no two bins are alike.
#[must_use]
pub fn noise_floor(replay: &Replay, measured_w: &[Option<f64>], span: Span) -> Option<NoiseFloor> {
    let use_in = |index: usize| {
        replay.bins[index].served.megacycles() / replay.capacity.mhz() / replay.bin.seconds()
    };
    let quiet = |index: usize| replay.bins[index].changes == 0;
    let list: Vec<(usize, f64)> = known(measured_w, span).collect();
    let differences: Vec<f64> = list
        .windows(2)
        .map(|pair| (pair[0], pair[1]))
        .filter(|((a, _), (b, _))| a + 1 == *b && quiet(*a) && quiet(*b))
        .filter(|((a, _), (b, _))| (use_in(*a) - use_in(*b)).abs() < 0.001 * replay.hosts as f64)
        .map(|((_, x), (_, y))| 2.0 * (x - y).abs() / (x + y))
        .collect();
    let count = differences.len();
    (count > 0).then(|| NoiseFloor {
        pairs: count,
        mape_percent: 100.0 * differences.iter().sum::<f64>()
            / count as f64
            / std::f64::consts::SQRT_2,
    })
}

#[cfg(test)]
mod tests {
    use super::super::containers::tests::MANIFEST;
    use super::super::containers::{Options, Recording, replay};
    use super::*;
    use crate::container::{Container, CpuRate, DemandTrace};
    use crate::units::SimTime;

    /// Two hosts of two cores under a demand that goes through all levels, for `hours`.
    fn made_up(hours: u64) -> Replay {
        let super::super::Manifest::Containers(mut manifest) =
            toml::from_str(MANIFEST).expect("a manifest")
        else {
            panic!("another kind");
        };
        manifest.bin_s = 300.0;
        let mut demand = DemandTrace::default();
        for step in 0..hours * 12 {
            // A level from 0 to 1,000 MHz that repeats after 77 steps.
            let mhz = (step * 13 % 77) as f64 / 76.0 * 1000.0;
            demand
                .push(
                    SimTime::from_seconds(300.0),
                    CpuRate::from_mhz(mhz).expect("within bounds"),
                )
                .expect("a step");
        }
        let second = |start_h: u64, steps: u64| {
            let mut demand = DemandTrace::default();
            for step in 0..steps {
                let mhz = (step * 7 % 11) as f64 * 100.0;
                demand
                    .push(
                        SimTime::from_seconds(300.0),
                        CpuRate::from_mhz(mhz).expect("within bounds"),
                    )
                    .expect("a step");
            }
            Container {
                id: start_h,
                start: SimTime::from_seconds(start_h as f64 * 3600.0),
                reserved: CpuRate(1),
                demand,
            }
        };
        let containers = vec![
            Container {
                id: 0,
                start: SimTime::ZERO,
                reserved: CpuRate(5),
                demand,
            },
            second(2, 40),
            second(9, 70),
        ];
        let recording = Recording {
            manifest,
            containers,
        };
        replay(&recording, &Options::default()).expect("it runs")
    }

    fn known_power() -> NodePower {
        NodePower::try_from(NodePowerFile {
            idle_w: 30.0,
            allocated_w: 6.0,
            utilization: vec![0.0, 0.5, 1.0],
            extra_w: vec![0.0, 70.0, 100.0],
        })
        .expect("a curve")
    }

    fn span(from_interval: usize, until_interval: usize) -> Span {
        Span {
            from_interval,
            until_interval,
        }
    }

    #[test]
    fn a_known_curve_is_found_again() {
        let replay = made_up(24);
        let truth = known_power();
        let measured: Vec<Option<f64>> = replay
            .bins
            .iter()
            .map(|bin| Some(predict(&replay, &truth, bin)))
            .collect();
        let trials = fit(&replay, &measured, span(0, 192)).expect("enough bins");
        assert!(matches!(trials[0].model, Model::Curve | Model::RisingCurve));
        let found = NodePowerFile::from(&trials[0].power);
        assert!((found.idle_w - 30.0).abs() < 1e-6, "{found:?}");
        assert!((found.allocated_w - 6.0).abs() < 1e-6, "{found:?}");
        for (found, expected) in found.extra_w.iter().zip([0.0, 70.0, 100.0]) {
            assert!((found - expected).abs() < 1e-6);
        }
        // A line cannot follow the bend; it comes last.
        assert_eq!(trials[3].model, Model::Line);
        assert!(trials[3].fitted.mape_percent > 1.0);
        // On bins that the fit did not see.
        let unseen = pairs(&replay, &trials[0].power, &measured, span(192, 288));
        let score = score(&unseen).expect("bins");
        assert!(score.mape_percent < 1e-6 && score.bins == 96);
    }

    #[test]
    fn predicted_power_is_the_integral_of_the_power_of_nodes() {
        let replay = made_up(2);
        let power = known_power();
        // In the first hours only the first container runs, a level a bin: 0 in the first, 13/76 in
        // the second.
        let expected = 30.0 + power.busy(0.0).0;
        assert!((predict(&replay, &power, &replay.bins[0]) - expected).abs() < 1e-9);
        let expected = 30.0 + power.busy(13.0 / 76.0).0;
        assert!((predict(&replay, &power, &replay.bins[1]) - expected).abs() < 1e-9);
    }

    #[test]
    fn coverage_counts_measurements_in_the_interval() {
        let pair = |measured| Pair {
            predicted: 100.0,
            measured,
        };
        let list = [pair(95.0), pair(100.0), pair(106.0), pair(94.0)];
        assert!((coverage_percent(&list, (0.95, 1.05)) - 50.0).abs() < 1e-9);
    }

    #[test]
    fn too_short_a_window_is_refused() {
        let replay = made_up(24);
        let measured = vec![Some(100.0); replay.bins.len()];
        let error = fit(&replay, &measured, span(0, 20)).expect_err("one block");
        assert!(error.to_string().starts_with("--fit-window:"), "{error}");
    }
}
