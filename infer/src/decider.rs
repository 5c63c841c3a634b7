//! From a view to a decision that has been checked.
//!
//! A [`Decider`] asks its policy, holds the answer against the state with the independent
//! [`twin::checker`], asks the fallback policy where that fails, and changes nothing where that
//! fails too.
//!
//! A policy that remembers what it saw within a run (as `round-robin` remembers whose turn it is)
//! remembers only what its own decider saw; a service with many deciders has many memories, and
//! nothing tells it where a run begins. Serve policies without memory where runs must repeat.

use std::fmt;
use std::sync::Arc;
use std::time::{Duration, Instant};

use thiserror::Error;
use twin::checker::{self, Infeasible};
use twin::decision::Decision;
use twin::observation::{FleetView, Observation, ViewError};
use twin::policy::{Policy, PolicyError};
use twin::state::{Epoch, State};
use twin::wire::{DecisionBody, DecisionRequest, DecisionResponse, SCHEMA, WireError};
use twin::world::World;

use crate::source::{self, Loaded, Source, SourceError};
use crate::traces;

/// The policy that decides where the one asked for does not.
pub const FALLBACK: &str = "least-loaded";

/// A policy, its fallback and the checker.
pub struct Decider {
    world: Arc<World>,
    primary: Loaded,
    fallback: Box<dyn Policy>,
    decision: Decision,
}

/// A decision, and how it came about.
#[derive(Debug)]
pub struct Outcome<'a> {
    /// The decision, which the checker has found feasible.
    pub decision: &'a Decision,
    /// The policy that took it; `None` where the decision is to change nothing because neither
    /// the policy nor the fallback gave a feasible one.
    pub policy: Option<&'a str>,
    /// Why the policy's own decision was not taken, where it was not.
    pub fallback: Option<Rejection>,
    /// Why the fallback's decision was not taken either, where it was not.
    pub fallback_failure: Option<Rejection>,
    /// Time that it took.
    pub elapsed: Duration,
}

/// Why the decision of a policy was not taken.
#[derive(Debug, Error)]
pub enum Rejection {
    /// It cannot be carried out.
    #[error("policy {policy}: infeasible decision: {source}")]
    Infeasible {
        /// The policy.
        policy: String,
        /// Why not.
        source: Infeasible,
    },
    /// The policy gave none.
    #[error(transparent)]
    Failed(#[from] PolicyError),
}

impl fmt::Debug for Decider {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Decider")
            .field("world", &self.world.name)
            .field("policy", &self.policy())
            .field("model_sha256", &self.primary.model_sha256)
            .finish_non_exhaustive()
    }
}

impl Decider {
    /// A decider for `world` with the policy of `source`; random choices come from `seed`.
    ///
    /// # Errors
    ///
    /// If there is no such policy, or the model cannot be read or is not for this world.
    pub fn new(world: &Arc<World>, source: &Source, seed: u64) -> Result<Self, SourceError> {
        let primary = source::load_policy(source, world, seed)?;
        let fallback = twin::policy::by_name(FALLBACK, world, seed)?;
        Ok(Self::with(world, primary, fallback))
    }

    /// A decider for `world` with policies that exist already.
    #[must_use]
    pub fn with(world: &Arc<World>, primary: Loaded, fallback: Box<dyn Policy>) -> Self {
        Self {
            world: Arc::clone(world),
            primary,
            fallback,
            decision: Decision::none(),
        }
    }

    /// The world that it decides for.
    #[must_use]
    pub fn world(&self) -> &Arc<World> {
        &self.world
    }

    /// The name of its policy.
    #[must_use]
    pub fn policy(&self) -> &str {
        self.primary.policy.name()
    }

    /// SHA-256 of the model's weights in hexadecimal, where the policy is a model.
    #[must_use]
    pub fn model_sha256(&self) -> Option<&Arc<str>> {
        self.primary.model_sha256.as_ref()
    }

    /// Decides in the situation of `view`.
    ///
    /// # Errors
    ///
    /// If the view does not fit the world or contradicts itself, or nothing is to be decided.
    pub fn decide(&mut self, view: &FleetView) -> Result<Outcome<'_>, ViewError> {
        let started = Instant::now();
        if view.epoch == Epoch::End {
            let problem = "nothing is to be decided at the end".into();
            return Err(ViewError {
                field: "epoch".into(),
                problem,
            });
        }
        let state = State::from_view(&self.world, view)?;
        let observation = Observation::new(&self.world, &state, view.epoch);
        let decision = &mut self.decision;
        let fallback = attempt(self.primary.policy.as_mut(), &observation, decision).err();
        let fallback_failure = match &fallback {
            None => None,
            Some(_) => attempt(self.fallback.as_mut(), &observation, decision).err(),
        };
        let policy = match (&fallback, &fallback_failure) {
            (None, _) => Some(self.primary.policy.name()),
            (Some(_), None) => Some(self.fallback.name()),
            (Some(_), Some(_)) => {
                decision.clear();
                None
            }
        };
        let elapsed = started.elapsed();
        Ok(Outcome {
            decision: &self.decision,
            policy,
            fallback,
            fallback_failure,
            elapsed,
        })
    }

    /// Answers `request` with the response as JSON.
    ///
    /// # Errors
    ///
    /// If the request does not fit the world or contradicts itself.
    pub fn answer(&mut self, request: &DecisionRequest<'_>) -> Result<Answer, WireError> {
        let world = Arc::clone(&self.world);
        let view = request.to_view(&world)?;
        let model_sha256 = self.primary.model_sha256.clone();
        let outcome = self.decide(&view)?;
        let response = DecisionResponse {
            schema: SCHEMA,
            decision: DecisionBody::from_decision(&world, &view, outcome.decision),
            policy: outcome.policy.unwrap_or("none").into(),
            model_sha256: model_sha256.as_deref().map(Into::into),
            fallback: outcome.fallback.is_some(),
            fallback_reason: outcome.fallback.as_ref().map(|r| r.to_string().into()),
            decision_time_us: outcome.elapsed.as_secs_f64() * 1e6,
        };
        // A response of names and finite numbers always serializes.
        let body = serde_json::to_vec(&response).unwrap_or_default();
        Ok(Answer {
            body,
            fallback: outcome.fallback,
            fallback_failure: outcome.fallback_failure,
            elapsed: outcome.elapsed,
        })
    }
}

/// A response as JSON, and how it came about.
#[derive(Debug)]
pub struct Answer {
    /// The [`DecisionResponse`].
    pub body: Vec<u8>,
    /// As [`Outcome::fallback`].
    pub fallback: Option<Rejection>,
    /// As [`Outcome::fallback_failure`].
    pub fallback_failure: Option<Rejection>,
    /// As [`Outcome::elapsed`].
    pub elapsed: Duration,
}

/// Lets `policy` write its decision and checks it.
fn attempt(
    policy: &mut dyn Policy,
    observation: &Observation<'_>,
    decision: &mut Decision,
) -> Result<(), Rejection> {
    decision.clear();
    traces::decide(policy.name()).in_scope(|| policy.decide(observation, decision))?;
    let _check = traces::check(policy.name()).entered();
    checker::check(observation, decision).map_err(|source| Rejection::Infeasible {
        policy: policy.name().into(),
        source,
    })
}
