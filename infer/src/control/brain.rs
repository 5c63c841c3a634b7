//! Who decides: a policy in this process, or the decision service.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use thiserror::Error;
use twin::checker::{self, Infeasible};
use twin::decision::Decision;
use twin::observation::{FleetView, Observation, ViewError};
use twin::state::{Epoch, State};
use twin::wire::{DecisionRequest, DecisionResponse, MAX_BODY_BYTES, Problem, WireError};
use twin::world::World;
use url::Url;

use crate::azure::causes;
use crate::decider::Decider;

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
    #[error("{url}: {problem}")]
    Service {
        /// Its address.
        url: Box<Url>,
        /// What is wrong.
        problem: String,
    },
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

/// The decision service: `POST /v1/decisions`, with the state.
#[derive(Debug)]
pub struct Remote {
    world: Arc<World>,
    url: Url,
    client: reqwest::Client,
    token: Option<Arc<str>>,
}

impl Remote {
    /// Asks the service at `base` with `client`; `token` is sent as a bearer token.
    ///
    /// # Errors
    ///
    /// If `base` is no address of a service.
    pub fn new(
        world: &Arc<World>,
        base: &Url,
        client: reqwest::Client,
        token: Option<Arc<str>>,
    ) -> Result<Self, String> {
        let base_text = base.as_str().trim_end_matches('/');
        let url = Url::parse(&format!("{base_text}/v1/decisions"))
            .map_err(|error| format!("{base}: {error}"))?;
        Ok(Self {
            world: Arc::clone(world),
            url,
            client,
            token,
        })
    }
}

#[async_trait]
impl Brain for Remote {
    async fn decide(&mut self, view: &FleetView) -> Result<Verdict, BrainError> {
        let url = || Box::new(self.url.clone());
        let request = DecisionRequest::from_view(&self.world, view);
        let body = serde_json::to_vec(&request).unwrap_or_default();
        let (status, answer) = fetch(
            self.client
                .post(self.url.clone())
                .header("content-type", "application/json")
                .body(body),
            self.token.as_deref(),
        )
        .await
        .map_err(|problem| BrainError::Service {
            url: url(),
            problem,
        })?;
        if status != 200 {
            let told = serde_json::from_slice::<Problem>(&answer);
            let detail = told.map_or_else(|_| String::new(), |p| format!(": {}", p.detail));
            let problem = format!("status {status}{detail}");
            return Err(BrainError::Service {
                url: url(),
                problem,
            });
        }
        let mut decision = Decision::none();
        let response = DecisionResponse::from_json(&answer)
            .and_then(|response| {
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
            url: Box::new(self.url.clone()),
            source,
        })
    }
}

/// Sends a request and reads a bounded answer: status and body.
///
/// # Errors
///
/// If there is none, or it is too large.
pub(super) async fn fetch(
    request: reqwest::RequestBuilder,
    token: Option<&str>,
) -> Result<(u16, Vec<u8>), String> {
    let request = match token {
        Some(token) => request.bearer_auth(token),
        None => request,
    };
    let told = |error: reqwest::Error| causes(&error.without_url());
    let mut answer = request.send().await.map_err(told)?;
    let status = answer.status().as_u16();
    let mut body = Vec::new();
    while let Some(chunk) = answer.chunk().await.map_err(told)? {
        if body.len() + chunk.len() > MAX_BODY_BYTES {
            return Err(format!("the answer has more than {MAX_BODY_BYTES} bytes"));
        }
        body.extend_from_slice(&chunk);
    }
    Ok((status, body))
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

/// How long the service and the state document may take.
pub const ANSWER_LIMIT: Duration = Duration::from_secs(10);
