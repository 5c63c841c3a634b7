//! Who places arriving requests: a policy inside, a decision service, or somebody outside.
//!
//! A deployer is asked when a request arrives, and at interval boundaries if requests wait. It
//! deploys and migrates; turning VMs on and off is the Resource Manager's.

use std::fmt;
use std::sync::Arc;

use serde::Serialize;
use twin::World;
use twin::checker;
use twin::decision::Decision;
use twin::observation::Observation;
use twin::policy::{self, Policy, PolicyError};
use twin::wire::{DecisionRequest, DecisionResponse};

/// The policy that places requests unless another is named, and where a service fails.
pub(super) const FALLBACK: &str = "least-loaded";

/// Who places arriving requests.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum DeployerChoice {
    /// One of the twin's own policies.
    Policy(String),
    /// A decision service: its address, as in `http://127.0.0.1:8080`.
    Service(String),
    /// Somebody who reads `GET /virtual/state` and writes `POST /virtual/deployments`.
    Outside,
}

impl Default for DeployerChoice {
    fn default() -> Self {
        Self::Policy(FALLBACK.into())
    }
}

impl std::str::FromStr for DeployerChoice {
    type Err = std::convert::Infallible;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Ok(match text {
            "outside" => Self::Outside,
            url if url.starts_with("http://") || url.starts_with("https://") => {
                Self::Service(url.trim_end_matches('/').into())
            }
            name => Self::Policy(name.into()),
        })
    }
}

/// Sends a state to a decision service and gives its answer, or why there is none.
pub(super) type Ask = Box<dyn FnMut(&[u8]) -> Result<Vec<u8>, String> + Send>;

/// How often a deployer was asked, and what came of it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub(super) struct DeployerCounts {
    /// Times that it was asked.
    pub(super) asked: u64,
    /// Times that its answer could not be had or carried out, and the fallback was asked.
    pub(super) fallbacks: u64,
    /// Times that the fallback could not help either.
    pub(super) failures: u64,
    /// The last reason for a fallback.
    pub(super) last_problem: Option<String>,
}

/// Places requests.
pub(super) struct Deployer {
    kind: Kind,
    fallback: Box<dyn Policy>,
    counts: DeployerCounts,
}

enum Kind {
    Policy(Box<dyn Policy>),
    Service(Ask),
    Outside,
}

impl fmt::Debug for Deployer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Deployer")
            .field("counts", &self.counts)
            .finish_non_exhaustive()
    }
}

impl Deployer {
    /// The deployer of `choice`, which asks a service through `ask`.
    pub(super) fn new(
        choice: &DeployerChoice,
        world: &Arc<World>,
        seed: u64,
        ask: Option<Ask>,
    ) -> Result<Self, PolicyError> {
        let kind = match (choice, ask) {
            (DeployerChoice::Policy(name), _) => Kind::Policy(policy::by_name(name, world, seed)?),
            (DeployerChoice::Service(_), Some(ask)) => Kind::Service(ask),
            (DeployerChoice::Service(_), None) | (DeployerChoice::Outside, _) => Kind::Outside,
        };
        Ok(Self {
            kind,
            fallback: policy::by_name(FALLBACK, world, seed)?,
            counts: DeployerCounts::default(),
        })
    }

    /// Whether requests wait for somebody outside.
    pub(super) fn is_outside(&self) -> bool {
        matches!(self.kind, Kind::Outside)
    }

    pub(super) fn counts(&self) -> &DeployerCounts {
        &self.counts
    }

    /// Where the waiting requests go; nothing where nobody says.
    pub(super) fn decide(&mut self, observation: &Observation<'_>) -> Decision {
        let mut decision = Decision::none();
        let problem = match &mut self.kind {
            Kind::Outside => return decision,
            Kind::Policy(policy) => ask_policy(policy.as_mut(), observation, &mut decision),
            Kind::Service(ask) => ask_service(ask, observation, &mut decision),
        };
        self.counts.asked += 1;
        let Err(problem) = problem else {
            return decision;
        };
        tracing::warn!(problem, "the fallback places requests");
        self.counts.fallbacks += 1;
        self.counts.last_problem = Some(problem);
        decision.clear();
        if let Err(problem) = ask_policy(self.fallback.as_mut(), observation, &mut decision) {
            tracing::error!(problem, "requests wait");
            self.counts.failures += 1;
            decision.clear();
        }
        decision
    }
}

fn ask_policy(
    policy: &mut dyn Policy,
    observation: &Observation<'_>,
    decision: &mut Decision,
) -> Result<(), String> {
    policy
        .decide(observation, decision)
        .map_err(|error| error.to_string())?;
    check(observation, decision)
}

fn ask_service(
    ask: &mut Ask,
    observation: &Observation<'_>,
    decision: &mut Decision,
) -> Result<(), String> {
    let world = observation.world();
    let view = observation.view();
    let request = DecisionRequest::from_view(world, &view);
    let body = serde_json::to_vec(&request).map_err(|error| error.to_string())?;
    let answer = ask(&body)?;
    DecisionResponse::from_json(&answer)
        .and_then(|response| response.decision.to_decision(world, &view, decision))
        .map_err(|error| error.to_string())?;
    check(observation, decision)
}

fn check(observation: &Observation<'_>, decision: &mut Decision) -> Result<(), String> {
    // VMs are turned on and off through the Resource Manager only.
    decision.provisioning.clear();
    checker::check(observation, decision).map_err(|error| error.to_string())
}
