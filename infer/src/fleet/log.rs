//! Where accepted inputs and decisions are kept.

use thiserror::Error;
use twin::decision_log::DecisionId;

use super::FleetInput;
use crate::decider::Answer;

/// Why an input or a decision could not be kept.
#[derive(Debug, Error)]
#[error("it cannot be kept, so it is not accepted: {0}")]
pub struct LogError(pub String);

/// Keeps what a fleet accepts, in its order.
///
/// Both methods are called while nothing else changes the fleet. What they refuse does not happen:
/// the client is told to try again.
pub trait FleetLog {
    /// Called with an input that was found valid, before it is taken in; replayed in this order,
    /// inputs rebuild the fleet. Its number, which rises.
    ///
    /// # Errors
    ///
    /// If it cannot be kept.
    fn input(&self, input: &FleetInput) -> Result<u64, LogError>;

    /// Called with a decision that the checker has found feasible, before it is answered, and before
    /// the input that applies it. Its id.
    ///
    /// # Errors
    ///
    /// If it cannot be kept.
    fn decision(&self, taken: &Taken<'_>) -> Result<DecisionId, LogError>;
}

/// A decision that was taken.
#[derive(Clone, Copy, Debug)]
pub struct Taken<'a> {
    /// The body of the request, as JSON.
    pub request: &'a [u8],
    /// The policy that was asked.
    pub policy: &'a str,
    /// What is answered.
    pub answer: &'a Answer,
    /// The number of the last input before it.
    pub after: u64,
}

/// Keeps nothing.
#[derive(Clone, Copy, Debug, Default)]
pub struct NoLog;

impl FleetLog for NoLog {
    fn input(&self, _: &FleetInput) -> Result<u64, LogError> {
        Ok(0)
    }

    fn decision(&self, _: &Taken<'_>) -> Result<DecisionId, LogError> {
        Ok(DecisionId(0))
    }
}
