//! Why a decision is what it is.
//!
//! A decision of late is taken up again in its own situation ([`crate::recent`]): the questions of
//! which a joint decision consists ([`twin::sequence`]) are asked once more and answered as they
//! were, and what the model thought of each answer is written down ([`choices`]); what was ruled
//! out is told with its reason ([`exclusions`]); and the twin prices the decision next to the
//! same one with a single answer changed, over the same futures, so that each answer
//! stands next to its runner-up and next to not being given at all.
//!
//! Left out: why the network scores as it does, and answers that take two changes at once.

pub mod choices;
pub mod exclusions;
mod prices;

use serde::Serialize;
use std::sync::Arc;

use models::ModelPolicy;
use twin::decision::Decision;
use twin::observation::Observation;
use twin::policy::PolicyError;
use twin::state::{Epoch, State};
use twin::wire::{SCHEMA, WireError};
use twin::world::World;
use utoipa::ToSchema;

use crate::pricing::wire::Qos;
use crate::pricing::{Budget, PricingError};
use crate::recent::Recorded;
use crate::registry::Role;

use choices::{Asked, Choice};
use exclusions::Exclusion;

/// The most actions that are explained; the others are counted.
pub const MAX_ACTIONS: usize = 32;
/// The most decisions that are priced for an explanation.
pub const MAX_PRICED: usize = 96;
/// The most answers to a question that are listed, the best first.
pub const MAX_LISTED: usize = 16;
/// The most answers to a question that are priced.
pub const MAX_ALTERNATIVES: usize = 4;
/// Futures unless a question says otherwise.
pub const FUTURES: usize = 8;

/// An explanation, as it is sent.
#[derive(Clone, Debug, Serialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Explanation {
    /// Version of the schema: [`SCHEMA`].
    pub schema: u32,
    /// The decision.
    pub id: String,
    /// The policy that took it; `none` where nobody did.
    pub policy: String,
    /// SHA-256 of the weights of the model that was asked, where it is one.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>)]
    pub model_sha256: Option<Arc<str>>,
    /// Which of the service's policies was asked.
    pub role: Role,
    /// Why the policy's own decision was not taken: the checker's or the policy's words.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub fallback_reason: Option<String>,
    /// Whether search took it, since the state was unlike those of the model's training.
    pub searched: bool,
    /// Whether the scores are those of the model that decided; they are not there if not.
    pub scored: bool,
    /// Futures over which decisions were priced; 0 where there was no time.
    #[schema(value_type = u32)]
    pub futures: usize,
    /// Whether the time was up before every future was priced.
    pub cut_short: bool,
    /// What the decision is expected to lead to.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub qos: Option<Qos>,
    /// The difference to doing nothing: hosts stay as they are, requests are left to the twin's
    /// greedy policy.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub against_nothing: Option<Qos>,
    /// Which hosts could not be turned on or off, and why.
    #[schema(max_items = 1_000)]
    pub power_excluded: Vec<Exclusion>,
    /// Why no further host was turned on or off, where that was asked.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub power_ended: Option<Choice>,
    /// The actions, in the order of the decision.
    #[schema(max_items = 32)]
    pub actions: Vec<Action>,
    /// Actions beyond those that are explained.
    #[schema(value_type = u64)]
    pub actions_left_out: usize,
}

/// One action of a decision.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct Action {
    /// What is done.
    #[serde(flatten)]
    pub what: What,
    /// The difference to the same decision without this action: the host stays as it is, the
    /// request is left to the greedy policy, the fragment stays.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub against_without: Option<Qos>,
    /// The answers that it was chosen from: for a host whether to turn it, for a request its
    /// variant and then the host of each fragment. A question with one answer is not asked.
    #[schema(max_items = 17)]
    pub choices: Vec<Choice>,
    /// What was ruled out, and why.
    #[schema(max_items = 1_000)]
    pub excluded: Vec<Exclusion>,
}

/// What an action does.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, ToSchema)]
#[serde(tag = "kind", rename_all = "kebab-case")]
pub enum What {
    /// Turns a host on or off.
    Power {
        /// Position of the host.
        host: u32,
        /// Its name.
        name: String,
        /// On or off.
        on: bool,
    },
    /// Deploys a request.
    Deploy {
        /// Number of the request.
        request: u64,
        /// Its application.
        application: String,
        /// The variant.
        variant: String,
        /// Positions of the hosts of its fragments.
        #[schema(max_items = 16)]
        hosts: Vec<u32>,
    },
    /// Moves a fragment.
    Migrate {
        /// Number of the request.
        request: u64,
        /// Position of the fragment in its variant.
        fragment: u16,
        /// Position of the host that it goes to.
        to_host: u32,
    },
}

/// Why there is no explanation.
#[derive(Debug, thiserror::Error)]
pub enum ExplainError {
    /// The situation cannot be read any more.
    #[error("the state of the decision cannot be read: {0}")]
    State(#[from] WireError),
    /// The questions cannot be asked again.
    #[error(transparent)]
    Policy(#[from] PolicyError),
    /// Nobody waits for it.
    #[error(transparent)]
    Pricing(#[from] PricingError),
}

/// Explains `recorded`, with the scores of `model` if it is the one that decided, and prices over
/// `futures` futures as far as `budget` goes.
///
/// # Errors
///
/// If the situation cannot be read, or nobody waits any more.
pub fn explain(
    world: &World,
    recorded: &Recorded,
    model: Option<&ModelPolicy>,
    futures: usize,
    budget: &Budget,
) -> Result<Explanation, ExplainError> {
    let view = recorded.situation.view(world)?;
    let state = State::from_view(world, &view).map_err(WireError::from)?;
    let observation = Observation::new(world, &state, view.epoch);
    let decided = recorded.fallback.is_none() && !recorded.searched;
    let model = model.filter(|_| decided);
    let asked = choices::ask_again(&observation, &recorded.decision, model)?;
    let mut explanation = outline(&observation, recorded, &asked, model.is_some());
    prices::add(
        &observation,
        recorded,
        &asked,
        &mut explanation,
        (futures, budget),
    )?;
    Ok(explanation)
}

/// Everything but the prices.
fn outline(
    observation: &Observation<'_>,
    recorded: &Recorded,
    asked: &[Asked],
    scored: bool,
) -> Explanation {
    let decision = &recorded.decision;
    let count = count(decision);
    let mut actions: Vec<Action> = whats(observation, decision)
        .take(MAX_ACTIONS)
        .map(|what| Action {
            excluded: Vec::new(),
            choices: Vec::new(),
            against_without: None,
            what,
        })
        .collect();
    for (position, action) in actions.iter_mut().enumerate() {
        let of_action = asked.iter().filter(|a| a.action == Some(position));
        action.choices = of_action.map(|a| a.choice(observation)).collect();
        action.excluded = exclusions::of_action(observation, decision, position, asked);
    }
    let ended = asked.iter().find(|a| a.action.is_none());
    Explanation {
        schema: SCHEMA,
        id: recorded.id.to_string(),
        policy: recorded.policy.clone().unwrap_or_else(|| "none".into()),
        model_sha256: recorded.model_sha256.clone(),
        role: recorded.role,
        fallback_reason: recorded.fallback.clone(),
        searched: recorded.searched,
        scored,
        futures: 0,
        cut_short: true,
        qos: None,
        against_nothing: None,
        power_excluded: match observation.epoch() {
            Epoch::Boundary => exclusions::of_power(observation, asked),
            Epoch::Arrival | Epoch::End => vec![exclusions::no_boundary(observation)],
        },
        power_ended: ended.map(|asked| asked.choice(observation)),
        actions_left_out: count - actions.len(),
        actions,
    }
}

/// Number of actions of `decision`.
fn count(decision: &Decision) -> usize {
    decision.provisioning.len() + decision.deployments.len() + decision.migrations.len()
}

/// The actions of `decision` in words: hosts, then requests, then fragments.
fn whats<'a>(
    observation: &'a Observation<'_>,
    decision: &'a Decision,
) -> impl Iterator<Item = What> + 'a {
    let world = observation.world();
    let powers = decision.provisioning.iter().map(|action| What::Power {
        host: action.host.0,
        name: world.hosts[action.host.index()].name.clone(),
        on: action.on,
    });
    let deployments = decision.deployments.iter().map(|deployment| {
        let waiting = observation.waiting().find(|w| w.id == deployment.request);
        let application = waiting.map(|w| &world.applications[w.application.index()]);
        let variant = application.and_then(|a| a.variants.get(deployment.variant.index()));
        What::Deploy {
            request: deployment.request.0,
            application: application.map(|a| a.name.clone()).unwrap_or_default(),
            variant: variant.map(|v| v.name.clone()).unwrap_or_default(),
            hosts: deployment.hosts.iter().map(|host| host.0).collect(),
        }
    });
    let migrations = decision.migrations.iter().map(|migration| What::Migrate {
        request: migration.request.0,
        fragment: migration.fragment,
        to_host: migration.to.0,
    });
    powers.chain(deployments).chain(migrations)
}
