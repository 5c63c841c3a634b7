//! Faults of migrations, injected from the seed.
//!
//! Whether a step fails is decided by the unit that is hashed from the migration's key and the
//! step ([`crate::stream::unit`]): it does not depend on the order of events, nor on whether other
//! migrations fail. The executing step fails when a hashed share of the memory has been sent, the
//! other steps fail at their end.

use serde::{Deserialize, Serialize};

use super::SpecError;
use crate::stream;
use crate::units::Ratio;

/// A step of a migration, as far as it can fail.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Step {
    /// Choosing and asking for what is needed; nothing is reserved yet.
    Planning,
    /// Fetching the image, agreeing to begin.
    Preparing,
    /// Copying.
    Executing,
    /// Checking what was restored.
    Verifying,
}

impl Step {
    /// All steps, in order.
    pub const ALL: [Self; 4] = [
        Self::Planning,
        Self::Preparing,
        Self::Executing,
        Self::Verifying,
    ];
}

/// How likely each step fails.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct FaultProbabilities {
    /// Of [`Step::Planning`].
    pub planning: Ratio,
    /// Of [`Step::Preparing`].
    pub preparing: Ratio,
    /// Of [`Step::Executing`].
    pub executing: Ratio,
    /// Of [`Step::Verifying`].
    pub verifying: Ratio,
}

/// Distance between the parts of a key that decide whether and those that decide where.
const POINTS: u64 = 16;

impl FaultProbabilities {
    /// Checks that these are probabilities.
    ///
    /// # Errors
    ///
    /// [`SpecError::Probability`], which names the step.
    pub fn check(&self) -> Result<(), SpecError> {
        for (field, Ratio(value)) in [
            ("planning", self.planning),
            ("preparing", self.preparing),
            ("executing", self.executing),
            ("verifying", self.verifying),
        ] {
            if !(0.0..=1.0).contains(&value) {
                return Err(SpecError::Probability { field, value });
            }
        }
        Ok(())
    }

    /// How likely `step` fails.
    #[must_use]
    pub fn of(&self, step: Step) -> Ratio {
        match step {
            Step::Planning => self.planning,
            Step::Preparing => self.preparing,
            Step::Executing => self.executing,
            Step::Verifying => self.verifying,
        }
    }

    /// Where `step` of the migration with `key` fails, as a share of the step in (0, 1), if it does.
    #[must_use]
    pub fn strike(&self, key: u64, step: Step) -> Option<f64> {
        let part = step as u64;
        (stream::unit(key, part) < self.of(step).0).then(|| stream::unit(key, POINTS + part))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn faults_strike_as_often_as_is_said_and_never_differently() {
        let faults = FaultProbabilities {
            planning: Ratio(0.0),
            preparing: Ratio(0.1),
            executing: Ratio(0.4),
            verifying: Ratio(1.0),
        };
        faults.check().expect("these are probabilities");
        let draws = 20_000_u32;
        for step in Step::ALL {
            let strikes: Vec<f64> = (0..draws)
                .filter_map(|n| faults.strike(stream::mix(7, u64::from(n)), step))
                .collect();
            let again =
                (0..draws).filter_map(|n| faults.strike(stream::mix(7, u64::from(n)), step));
            assert!(strikes.iter().copied().eq(again));
            let probability = faults.of(step).0;
            let share = strikes.len() as f64 / f64::from(draws);
            // Four standard errors: 4 · √(0.4 · 0.6 / 20,000) = 0.014.
            assert!((share - probability).abs() < 0.014, "{step:?}: {share}");
            let mean = strikes.iter().sum::<f64>() / strikes.len().max(1) as f64;
            assert!(strikes.is_empty() || (mean - 0.5).abs() < 0.03, "{step:?}");
        }
    }

    #[test]
    fn what_is_no_probability_is_refused() {
        for value in [-0.1, 1.1, f64::NAN] {
            let faults = FaultProbabilities {
                executing: Ratio(value),
                ..FaultProbabilities::default()
            };
            let error = faults.check().expect_err("it is no probability");
            assert!(error.to_string().starts_with("migration.faults.executing"));
        }
    }
}
