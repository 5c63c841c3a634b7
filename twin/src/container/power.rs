//! What a node draws, from what is allocated on it and how busy it is.
//!
//! P(u) = idle + [something is allocated] · (allocated + extra(u)), with `extra` linear between
//! knots of utilization and zero at no utilization. Power curves by measured load levels: the
//! benchmark SPECpower_ssj2008, which has eleven.
//!
//! The parts of P are linear in its parameters, so the energy of a cluster over any span follows
//! from the host-seconds at each knot ([`Knots::weights`]), and the same sums serve to fit the
//! parameters to measured power.
//!
//! Left out: temperature, fans, and nodes that are switched off.

use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::units::Watts;

/// The most knots that a curve may have.
pub const MAX_KNOTS: usize = 101;

/// Why a curve is no curve.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum PowerError {
    /// The knots are wrong.
    #[error("utilization: must rise from 0 to 1 in 2 to {MAX_KNOTS} knots")]
    Knots,
    /// There are not as many values as knots.
    #[error("extra_w: expected {expected} values, one for each knot of utilization, found {found}")]
    Values {
        /// Knots.
        expected: usize,
        /// Values.
        found: usize,
    },
    /// A power is not a number, or less than nothing.
    #[error("{field}: must be finite, and the node may at no utilization draw less than 0 W")]
    Watts {
        /// The field.
        field: &'static str,
    },
}

/// Levels of utilization, rising from 0 to 1.
#[derive(Clone, Debug, PartialEq)]
pub struct Knots(Vec<f64>);

impl Knots {
    /// The knots at `levels`.
    ///
    /// # Errors
    ///
    /// [`PowerError::Knots`] unless they rise from 0 to 1.
    pub fn new(levels: Vec<f64>) -> Result<Self, PowerError> {
        let ends = levels
            .first()
            .is_some_and(|first| first.abs() < f64::EPSILON)
            && levels
                .last()
                .is_some_and(|last| (last - 1.0).abs() < f64::EPSILON);
        let rising = levels.windows(2).all(|pair| pair[0] < pair[1]);
        if ends && rising && (2..=MAX_KNOTS).contains(&levels.len()) {
            Ok(Self(levels))
        } else {
            Err(PowerError::Knots)
        }
    }

    /// `steps + 1` knots at equal distances; `steps` is cut to what is allowed.
    #[must_use]
    pub fn even(steps: usize) -> Self {
        let steps = steps.clamp(1, MAX_KNOTS - 1);
        Self((0..=steps).map(|k| k as f64 / steps as f64).collect())
    }

    /// The levels.
    #[must_use]
    pub fn levels(&self) -> &[f64] {
        &self.0
    }

    /// The knot below `utilization`, and how far that is on the way to the next, from 0 to 1.
    ///
    /// A function that is linear between knots is then `(1 − w) · f[k] + w · f[k + 1]`.
    #[must_use]
    pub fn weights(&self, utilization: f64) -> (usize, f64) {
        let above = self.0.partition_point(|&level| level <= utilization);
        let knot = above.clamp(1, self.0.len() - 1) - 1;
        let width = self.0[knot + 1] - self.0[knot];
        (knot, ((utilization - self.0[knot]) / width).clamp(0.0, 1.0))
    }
}

/// The power of a node.
#[derive(Clone, Debug, PartialEq)]
pub struct NodePower {
    idle: Watts,
    allocated: Watts,
    knots: Knots,
    extra_w: Vec<f64>,
}

/// [`NodePower`] as it stands in files.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NodePowerFile {
    /// Power of a node on which nothing is allocated, in W.
    pub idle_w: f64,
    /// What it draws beyond that when something is allocated but nothing runs, in W.
    pub allocated_w: f64,
    /// Levels of utilization, from 0 to 1.
    pub utilization: Vec<f64>,
    /// What it draws beyond both at each level, in W.
    pub extra_w: Vec<f64>,
}

impl TryFrom<NodePowerFile> for NodePower {
    type Error = PowerError;

    fn try_from(file: NodePowerFile) -> Result<Self, PowerError> {
        let knots = Knots::new(file.utilization)?;
        if file.extra_w.len() != knots.levels().len() {
            return Err(PowerError::Values {
                expected: knots.levels().len(),
                found: file.extra_w.len(),
            });
        }
        let allocated_w = file.idle_w + file.allocated_w;
        let wrong = |w: f64| !w.is_finite() || w < 0.0;
        let problem = [
            ("idle_w", wrong(file.idle_w)),
            ("allocated_w", wrong(allocated_w)),
            (
                "extra_w",
                file.extra_w.iter().any(|extra| wrong(allocated_w + extra)),
            ),
        ];
        if let Some(&(field, _)) = problem.iter().find(|(_, wrong)| *wrong) {
            return Err(PowerError::Watts { field });
        }
        Ok(Self {
            idle: Watts(file.idle_w),
            allocated: Watts(file.allocated_w),
            knots,
            extra_w: file.extra_w,
        })
    }
}

impl From<&NodePower> for NodePowerFile {
    fn from(power: &NodePower) -> Self {
        Self {
            idle_w: power.idle.0,
            allocated_w: power.allocated.0,
            utilization: power.knots.levels().to_vec(),
            extra_w: power.extra_w.clone(),
        }
    }
}

impl NodePower {
    /// Power of a node on which nothing is allocated.
    #[must_use]
    pub fn idle(&self) -> Watts {
        self.idle
    }

    /// Its levels of utilization.
    #[must_use]
    pub fn knots(&self) -> &Knots {
        &self.knots
    }

    /// Power of a node on which something is allocated, at `utilization` from 0 to 1.
    #[must_use]
    pub fn busy(&self, utilization: f64) -> Watts {
        let (knot, weight) = self.knots.weights(utilization);
        Watts(self.at_knot(knot).0 * (1.0 - weight) + self.at_knot(knot + 1).0 * weight)
    }

    /// The same at a knot; `knot` is below the number of knots.
    #[must_use]
    pub fn at_knot(&self, knot: usize) -> Watts {
        Watts(self.idle.0 + self.allocated.0 + self.extra_w[knot])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn power(extra_w: &[f64]) -> Result<NodePower, PowerError> {
        NodePower::try_from(NodePowerFile {
            idle_w: 30.0,
            allocated_w: 5.0,
            utilization: vec![0.0, 0.25, 1.0],
            extra_w: extra_w.to_vec(),
        })
    }

    #[test]
    fn power_is_linear_between_knots() {
        let node = power(&[0.0, 40.0, 100.0]).expect("a curve");
        assert!((node.idle().0 - 30.0).abs() < 1e-12);
        assert!((node.busy(0.0).0 - 35.0).abs() < 1e-12);
        // Half way to the knot at 0.25: 35 + 40 / 2
        assert!((node.busy(0.125).0 - 55.0).abs() < 1e-12);
        // A third of the way from 0.25 to 1: 35 + 40 + (100 − 40) / 3
        assert!((node.busy(0.5).0 - 95.0).abs() < 1e-12);
        assert!((node.busy(1.0).0 - 135.0).abs() < 1e-12);
        // Out of range is the nearest level.
        assert!((node.busy(1.5).0 - 135.0).abs() < 1e-12);
        assert!((node.busy(-0.5).0 - 35.0).abs() < 1e-12);
    }

    #[test]
    fn files_are_checked() {
        assert_eq!(
            power(&[0.0, 40.0])
                .expect_err("a value is absent")
                .to_string(),
            "extra_w: expected 3 values, one for each knot of utilization, found 2"
        );
        // 30 + 5 − 40 is below zero.
        assert_eq!(
            power(&[0.0, -40.0, 1.0]),
            Err(PowerError::Watts { field: "extra_w" })
        );
        assert_eq!(
            power(&[0.0, f64::NAN, 1.0]),
            Err(PowerError::Watts { field: "extra_w" })
        );
        assert_eq!(Knots::new(vec![0.0, 0.5]), Err(PowerError::Knots));
        assert_eq!(Knots::new(vec![0.0, 0.5, 0.5, 1.0]), Err(PowerError::Knots));
        assert_eq!(Knots::even(2).levels(), [0.0, 0.5, 1.0]);
    }
}
