//! Who decides: a policy in this process, or the decision service.

use std::sync::Arc;

use async_trait::async_trait;
use thiserror::Error;
use twin::checker::{self, Infeasible};
use twin::decision::Decision;
use twin::observation::{FleetView, Observation, ViewError};
use twin::state::{Epoch, State};
use twin::wire::{
    self, DecisionRequest, DecisionResponse, FleetDecisionRequest, SCHEMA, WireError, WorldName,
};
use twin::world::World;
use url::Url;

use super::service::{Service, ServiceError, fetch};
use crate::decider::Decider;

/// Where decisions are asked for.
const PATH: &str = "/v1/decisions";

/// A decision, and who took it.
#[derive(Clone, Debug, PartialEq)]
pub struct Verdict {
    /// The decision; the checker has found it feasible.
    pub decision: Decision,
    /// The policy.
    pub policy: String,
    /// Why another policy than the one asked for decided, where one did.
    pub fallback: Option<String>,
}

/// Why there is no decision.
#[derive(Debug, Error)]
pub enum BrainError {
    /// The view contradicts itself.
    #[error("the state contradicts itself: {0}")]
    View(#[from] ViewError),
    /// Neither the policy nor its fallback gave a feasible decision.
    #[error("no policy gave a decision that can be carried out: {0}")]
    Nobody(String),
    /// The service does not answer.
    #[error(transparent)]
    Service(#[from] ServiceError),
    /// The service's answer is not of the schema.
    #[error("{url}: the answer: {source}")]
    Answer {
        /// Its address.
        url: Box<Url>,
        /// What is wrong.
        source: WireError,
    },
    /// The service's decision cannot be carried out.
    #[error("{url}: infeasible decision: {source}")]
    Infeasible {
        /// Its address.
        url: Box<Url>,
        /// Why not.
        source: Infeasible,
    },
}

/// Takes decisions.
#[async_trait]
pub trait Brain: Send {
    /// Decides in the situation of `view`.
    ///
    /// # Errors
    ///
    /// If there is no decision that can be carried out.
    async fn decide(&mut self, view: &FleetView) -> Result<Verdict, BrainError>;
}

/// A policy in this process.
#[derive(Debug)]
pub struct Local(Decider);

impl Local {
    /// Decides with `decider`.
    #[must_use]
    pub fn new(decider: Decider) -> Self {
        Self(decider)
    }
}

#[async_trait]
impl Brain for Local {
    async fn decide(&mut self, view: &FleetView) -> Result<Verdict, BrainError> {
        let outcome = self.0.decide(view)?;
        let told = |r: &crate::decider::Rejection| r.to_string();
        match outcome.policy {
            Some(policy) => Ok(Verdict {
                decision: outcome.decision.clone(),
                policy: policy.into(),
                fallback: outcome.fallback.as_ref().map(told),
            }),
            None => {
                let reason = outcome.fallback_failure.as_ref().map(told);
                Err(BrainError::Nobody(reason.unwrap_or_default()))
            }
        }
    }
}

/// What the service is asked about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum About {
    /// The state that is sent with the question.
    Sent,
    /// The fleet that the service keeps. What is decided is not carried out there: what the loop
    /// does of it, it tells as it is done.
    Kept,
}

/// The decision service: `POST /v1/decisions`.
#[derive(Debug)]
pub struct Remote {
    world: Arc<World>,
    service: Service,
    about: About,
}

impl Remote {
    /// Asks `service`.
    #[must_use]
    pub fn new(world: &Arc<World>, service: Service, about: About) -> Self {
        Self {
            world: Arc::clone(world),
            service,
            about,
        }
    }

    async fn ask(&self, view: &FleetView) -> Result<Vec<u8>, ServiceError> {
        let post = reqwest::Method::POST;
        match self.about {
            About::Sent => {
                let question = DecisionRequest::from_view(&self.world, view);
                self.service.send(post, PATH, &question).await
            }
            About::Kept => {
                let next = Some(view.next_boundary).filter(|&next| next > view.now);
                let question = FleetDecisionRequest {
                    schema: SCHEMA,
                    world: Some(WorldName::of(&self.world)),
                    now_ns: view.now.0,
                    epoch: wire::Epoch::Boundary,
                    next_boundary_ns: next.map(|next| next.0),
                    requests: Vec::new(),
                    telemetry: Vec::new(),
                    dry_run: true,
                };
                self.service.send(post, PATH, &question).await
            }
        }
    }
}

#[async_trait]
impl Brain for Remote {
    async fn decide(&mut self, view: &FleetView) -> Result<Verdict, BrainError> {
        let answer = self.ask(view).await?;
        let url = || Box::new(self.service.url(PATH));
        let mut decision = Decision::none();
        let response = DecisionResponse::from_json(&answer)
            .and_then(|mut response| {
                if self.about == About::Kept {
                    // Deployers place what waits there; the view may not know it yet.
                    response.decision.deployments.clear();
                    response.decision.migrations.clear();
                }
                let body = &response.decision;
                body.to_decision(&self.world, view, &mut decision)?;
                Ok(response)
            })
            .map_err(|source| BrainError::Answer { url: url(), source })?;
        let verdict = Verdict {
            policy: response.policy.clone().into_owned(),
            fallback: response.fallback_reason.clone().map(Into::into),
            decision,
        };
        self.check(view, &verdict.decision)?;
        Ok(verdict)
    }
}

impl Remote {
    /// What others decided is checked here too.
    fn check(&self, view: &FleetView, decision: &Decision) -> Result<(), BrainError> {
        let state = State::from_view(&self.world, view)?;
        let observation = Observation::new(&self.world, &state, Epoch::Boundary);
        checker::check(&observation, decision).map_err(|source| BrainError::Infeasible {
            url: Box::new(self.service.url(PATH)),
            source,
        })
    }
}

/// Where the state of the applications can be read.
#[derive(Debug)]
pub struct StateSource {
    url: Url,
    client: reqwest::Client,
    token: Option<Arc<str>>,
}

impl StateSource {
    /// Reads `url` with `client`; `token` is sent as a bearer token.
    #[must_use]
    pub fn new(url: Url, client: reqwest::Client, token: Option<Arc<str>>) -> Self {
        Self { url, client, token }
    }

    /// The document.
    ///
    /// # Errors
    ///
    /// If it cannot be read or is not a state of `world`.
    pub async fn read(&self, world: &World) -> Result<FleetView, String> {
        let request = self.client.get(self.url.clone());
        let (status, body) = fetch(request, self.token.as_deref())
            .await
            .map_err(|problem| format!("{}: {problem}", self.url))?;
        if status != 200 {
            return Err(format!("{}: status {status}", self.url));
        }
        super::view::read_document(world, &body).map_err(|error| format!("{}: {error}", self.url))
    }
}
