//! Where accepted inputs and decisions are kept.

use thiserror::Error;
use twin::decision::Decision;
use twin::state::Epoch;

use super::{FleetInput, LiveFleet};

/// Why an input or a decision could not be kept.
#[derive(Debug, Error)]
#[error("the input cannot be kept, so it is not accepted: {0}")]
pub struct LogError(pub String);

/// Keeps what a fleet accepts, in its order.
///
/// Both methods are called while nothing else changes the fleet. What they refuse does not happen:
/// the client is told to try again.
pub trait FleetLog: Send + Sync + std::fmt::Debug {
    /// Called with an input that was found valid, before it is taken in; replayed in this order,
    /// inputs rebuild the fleet.
    ///
    /// # Errors
    ///
    /// If it cannot be kept.
    fn input(&self, input: &FleetInput) -> Result<(), LogError>;

    /// Called with a decision that the checker has found feasible, before it is answered, and before
    /// the input that applies it; `fleet` is as the policy saw it.
    ///
    /// # Errors
    ///
    /// If it cannot be kept.
    fn decision(&self, fleet: &LiveFleet, taken: &Taken<'_>) -> Result<(), LogError>;
}

/// A decision that was taken.
#[derive(Clone, Copy, Debug)]
pub struct Taken<'a> {
    /// Why it was due.
    pub epoch: Epoch,
    /// The decision.
    pub decision: &'a Decision,
    /// The policy that took it; `None` where nothing is changed because none did.
    pub policy: Option<&'a str>,
    /// SHA-256 of the model's weights, where the policy is a model.
    pub model_sha256: Option<&'a str>,
    /// Whether it is only looked at.
    pub dry_run: bool,
}

/// Keeps nothing.
#[derive(Clone, Copy, Debug, Default)]
pub struct NoLog;

impl FleetLog for NoLog {
    fn input(&self, _: &FleetInput) -> Result<(), LogError> {
        Ok(())
    }

    fn decision(&self, _: &LiveFleet, _: &Taken<'_>) -> Result<(), LogError> {
        Ok(())
    }
}
