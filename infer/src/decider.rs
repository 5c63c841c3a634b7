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
use twin::policy::{InputDrift, Policy, PolicyError};
use twin::state::{Epoch, State};
use twin::wire::{DecisionBody, DecisionRequest, DecisionResponse, SCHEMA, WireError};
use twin::world::World;

use crate::range::{self, Search};
use crate::registry::{Entry, Role, Serving};
use crate::source::{self, Loaded, Source, SourceError};
use crate::traces;

/// The policy that decides where the one asked for does not.
pub const FALLBACK: &str = "least-loaded";

/// A policy, its fallback and the checker.
pub struct Decider {
    world: Arc<World>,
    /// The policy that it was made with.
    given: Loaded,
    /// What the registry says, of the generation that was followed last.
    followed: Followed,
    role: Role,
    fallback: Box<dyn Policy>,
    /// Takes the place of a model whose input is unlike those of training.
    search: Option<Search>,
    seed: u64,
    decision: Decision,
}

/// Policies that a registry named; `None` is the given one.
#[derive(Default)]
struct Followed {
    generation: u64,
    active: Option<Loaded>,
    candidate: Option<Loaded>,
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
    /// How far the input lay outside of what the policy was trained on; `None` if nothing did, or
    /// if that is not known.
    pub drift: Option<&'a InputDrift>,
    /// Whether search took the decision for that reason.
    pub searched: bool,
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
            .field("model_sha256", &self.model_sha256())
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
        Ok(Self {
            seed,
            ..Self::with(world, primary, fallback)
        })
    }

    /// A decider for `world` with policies that exist already.
    #[must_use]
    pub fn with(world: &Arc<World>, primary: Loaded, fallback: Box<dyn Policy>) -> Self {
        Self {
            world: Arc::clone(world),
            given: primary,
            followed: Followed::default(),
            role: Role::Active,
            fallback,
            search: None,
            seed: 1,
            decision: Decision::none(),
        }
    }

    /// Lets search on the twin decide where the input of a model is unlike those of training.
    pub fn search_when_outside(&mut self, search: Option<Search>) {
        self.search = search;
    }

    /// Takes up who decides by `serving`, and decides in `role` from now on. Costs nothing unless
    /// something has changed.
    pub fn follow(&mut self, serving: &Serving, role: Role) {
        self.role = role;
        if serving.generation == self.followed.generation {
            return;
        }
        let load = |entry: &Entry| {
            let source = entry.source.as_ref().filter(|_| !entry.is_given())?;
            match source::load_policy(source, &self.world, self.seed) {
                Ok(loaded) => Some(loaded),
                // It was tried out when it was listed, so this does not happen.
                Err(error) => {
                    tracing::error!(policy = entry.name, %error, "a policy is not taken up");
                    None
                }
            }
        };
        self.followed = Followed {
            generation: serving.generation,
            active: load(&serving.active),
            candidate: serving.candidate.as_ref().and_then(|c| load(&c.entry)),
        };
    }

    fn primary(&self) -> &Loaded {
        let of_role = match self.role {
            Role::Active => self.followed.active.as_ref(),
            Role::Candidate => self.followed.candidate.as_ref(),
        };
        of_role.unwrap_or(&self.given)
    }

    /// The world that it decides for.
    #[must_use]
    pub fn world(&self) -> &Arc<World> {
        &self.world
    }

    /// The name of its policy.
    #[must_use]
    pub fn policy(&self) -> &str {
        self.primary().policy.name()
    }

    /// Which of the service's policies is asked.
    #[must_use]
    pub fn role(&self) -> Role {
        self.role
    }

    /// SHA-256 of the model's weights in hexadecimal, where the policy is a model.
    #[must_use]
    pub fn model_sha256(&self) -> Option<&Arc<str>> {
        self.primary().model_sha256.as_ref()
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
        let world = Arc::clone(&self.world);
        let state = State::from_view(&world, view)?;
        let observation = Observation::new(&world, &state, view.epoch);
        Ok(self.decide_since(&observation, started))
    }

    /// Decides on what is observed of a state of its world.
    pub fn decide_on(&mut self, observation: &Observation<'_>) -> Outcome<'_> {
        self.decide_since(observation, Instant::now())
    }

    /// Decides on what is observed; time counts from `started`.
    fn decide_since(&mut self, observation: &Observation<'_>, started: Instant) -> Outcome<'_> {
        let decision = &mut self.decision;
        let of_role = match self.role {
            Role::Active => self.followed.active.as_mut(),
            Role::Candidate => self.followed.candidate.as_mut(),
        };
        let primary = &mut of_role.unwrap_or(&mut self.given).policy;
        let fallback = attempt(primary.as_mut(), observation, decision).err();
        let drift = primary
            .drift()
            .filter(|drift| drift.outside().next().is_some());
        let searched = match (&self.search, drift) {
            (Some(search), Some(drift)) if search.is_due(drift) => {
                let mut found = Decision::none();
                let searched = attempt(&mut search.policy(started), observation, &mut found);
                if searched.is_ok() {
                    *decision = found;
                }
                searched.is_ok()
            }
            _ => false,
        };
        let fallback = fallback.filter(|_| !searched);
        let fallback_failure = match &fallback {
            None => None,
            Some(_) => attempt(self.fallback.as_mut(), observation, decision).err(),
        };
        let policy = match (&fallback, &fallback_failure) {
            (None, _) if searched => Some(range::SEARCH),
            (None, _) => Some(primary.name()),
            (Some(_), None) => Some(self.fallback.name()),
            (Some(_), Some(_)) => {
                decision.clear();
                None
            }
        };
        Outcome {
            decision: &self.decision,
            policy,
            fallback,
            fallback_failure,
            elapsed: started.elapsed(),
            drift,
            searched,
        }
    }

    /// Answers `request` with the response as JSON.
    ///
    /// # Errors
    ///
    /// If the request does not fit the world or contradicts itself.
    pub fn answer(&mut self, request: &DecisionRequest<'_>) -> Result<Answer, WireError> {
        let world = Arc::clone(&self.world);
        let view = request.to_view(&world)?;
        let model_sha256 = self.model_sha256().cloned();
        let role = self.role;
        let outcome = self.decide(&view)?;
        let body = DecisionBody::from_decision(&world, &view, outcome.decision);
        Ok(Answer::of(outcome, body, model_sha256, role))
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
    /// As [`Outcome::decision`].
    pub decision: Decision,
    /// As [`Outcome::policy`].
    pub policy: Option<String>,
    /// SHA-256 of the weights of the model that was asked, where it is one.
    pub model_sha256: Option<Arc<str>>,
    /// Which policy was asked.
    pub role: Role,
    /// As [`Outcome::drift`].
    pub drift: Option<InputDrift>,
    /// As [`Outcome::searched`].
    pub searched: bool,
}

impl Answer {
    /// The response that says `outcome`, whose decision is `decision` on the wire.
    pub(crate) fn of(
        outcome: Outcome<'_>,
        decision: DecisionBody<'_>,
        model_sha256: Option<Arc<str>>,
        role: Role,
    ) -> Self {
        let response = DecisionResponse {
            id: None,
            schema: SCHEMA,
            decision,
            policy: outcome.policy.unwrap_or("none").into(),
            model_sha256: model_sha256.as_deref().map(Into::into),
            fallback: outcome.fallback.is_some(),
            fallback_reason: outcome.fallback.as_ref().map(|r| r.to_string().into()),
            decision_time_us: outcome.elapsed.as_secs_f64() * 1e6,
            input_range: outcome.drift.map(|d| range::told(d, outcome.searched)),
        };
        // A response of names and finite numbers always serializes.
        let body = serde_json::to_vec(&response).unwrap_or_default();
        Self {
            body,
            fallback: outcome.fallback,
            fallback_failure: outcome.fallback_failure,
            elapsed: outcome.elapsed,
            decision: outcome.decision.clone(),
            policy: outcome.policy.map(Into::into),
            model_sha256,
            role,
            drift: outcome.drift.cloned(),
            searched: outcome.searched,
        }
    }
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
