//! One policy of a registry.

use std::path::{Component, Path};
use std::sync::Arc;

use models::{ModelFolder, ModelPolicy};
use serde::{Deserialize, Serialize};
use twin::checker;
use twin::decision::Decision;
use twin::observation::Observation;
use twin::policy::Policy;
use twin::state::{Epoch, State};
use twin::world::World;
use utoipa::ToSchema;

use super::{Places, RegistryError, Source};

/// The seed of policies that are only tried out.
const TRIAL_SEED: u64 = 1;

/// Where a policy is loaded from.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Origin {
    /// The policy that the service was started with.
    Given,
    /// A model in this folder below the configured one.
    Path(String),
    /// One of the twin's own policies.
    Policy(String),
}

/// What is known of a model; nothing of policies that are none.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = ModelFacts)]
pub struct Facts {
    /// The world that it was trained on.
    pub world: String,
    /// Hash of that world.
    pub world_hash: String,
    /// Seeds of its datasets and of its fit.
    #[schema(max_items = 1_000)]
    pub training_seeds: Vec<u64>,
    /// Number of fitted parameters.
    #[schema(value_type = u64)]
    pub parameters: usize,
    /// Whether the ranges of its inputs in training are known.
    pub has_ranges: bool,
    /// By kind of question, the regret on validation rows next to the greedy policy's, as its fit
    /// reported them.
    #[serde(default, skip_serializing_if = "serde_json::Value::is_null")]
    #[schema(value_type = Option<Object>)]
    pub validation: serde_json::Value,
    /// What to know before it decides here, if anything.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub caution: Option<String>,
}

/// A policy that is held.
#[derive(Clone, Debug)]
pub struct Entry {
    /// The name that answers tell.
    pub name: String,
    /// SHA-256 of the weights, where it is a model.
    pub sha256: Option<Arc<str>>,
    /// Where it came from.
    pub origin: Origin,
    /// What is known of it, where it is a model.
    pub facts: Option<Facts>,
    /// What deciders make theirs from; `None` where each of them was given its own.
    pub source: Option<Source>,
}

impl Entry {
    /// The policy that the service was started with, as its deciders hold it.
    #[must_use]
    pub fn given(name: &str, sha256: Option<Arc<str>>) -> Self {
        Self {
            name: name.into(),
            sha256,
            origin: Origin::Given,
            facts: None,
            source: None,
        }
    }

    /// The policy that the service was started with, made from `source`.
    #[must_use]
    pub fn given_from(source: &Source, world: &World) -> Self {
        match source {
            Source::Named(name) => Self {
                source: Some(source.clone()),
                ..Self::given(name, None)
            },
            Source::Model(model) => Self {
                facts: Some(facts_of(model, source, world)),
                source: Some(source.clone()),
                ..Self::given(model.name(), Some(model.sha256().into()))
            },
        }
    }

    /// What names it in requests: the SHA-256 of a model, the name of any other policy.
    #[must_use]
    pub fn key(&self) -> &str {
        self.sha256.as_deref().unwrap_or(&self.name)
    }

    /// Whether the service was started with it.
    #[must_use]
    pub fn is_given(&self) -> bool {
        self.origin == Origin::Given
    }
}

/// Reads the policy of `origin`, and tries it out.
pub(super) fn read(
    world: &World,
    places: &Places,
    origin: &Origin,
    any_world: bool,
) -> Result<Entry, RegistryError> {
    match origin {
        Origin::Given => Err(RegistryError::Unknown("given".into())),
        Origin::Policy(name) => {
            let source = Source::Named(name.clone());
            let mut policy = twin::policy::by_name(name, world, TRIAL_SEED)?;
            try_out(world, policy.as_mut())?;
            Ok(Entry {
                name: name.clone(),
                sha256: None,
                origin: origin.clone(),
                facts: None,
                source: Some(source),
            })
        }
        Origin::Path(path) => read_model(world, places, path, any_world),
    }
}

fn read_model(
    world: &World,
    places: &Places,
    path: &str,
    any_world: bool,
) -> Result<Entry, RegistryError> {
    let below = places.models.as_ref().ok_or(RegistryError::NoFolder)?;
    let wrong = || RegistryError::Path(path.into());
    let plain = |part: Component<'_>| matches!(part, Component::Normal(_));
    if path.is_empty() || !Path::new(path).components().all(plain) {
        return Err(wrong());
    }
    let dir = below.join(path);
    // A link may lead out of the folder.
    if let (Ok(dir), Ok(below)) = (dir.canonicalize(), below.canonicalize())
        && !dir.starts_with(below)
    {
        return Err(wrong());
    }
    let folder = ModelFolder::load(&dir)?;
    let trained = folder.config.world.clone();
    let fits = trained.split(',').any(|name| name == world.name);
    if !fits && !any_world {
        return Err(RegistryError::World {
            trained,
            world: world.name.clone(),
        });
    }
    let name = format!("model:{path}");
    let model = ModelPolicy::new(&name, &folder)
        .map_err(|error| RegistryError::Trial(error.to_string()))?;
    try_out(world, &mut model.fresh())?;
    let source = Source::Model(Arc::new(model));
    let Source::Model(model) = &source else {
        return Err(wrong());
    };
    let facts = Facts {
        validation: validation(&folder.metrics),
        ..facts_of(model, &source, world)
    };
    Ok(Entry {
        name,
        sha256: Some(model.sha256().into()),
        origin: Origin::Path(path.into()),
        facts: Some(facts),
        source: Some(source),
    })
}

fn facts_of(model: &ModelPolicy, source: &Source, world: &World) -> Facts {
    let config = model.config();
    Facts {
        world: config.world.clone(),
        world_hash: config.world_hash.clone(),
        training_seeds: config.training_seeds.clone(),
        parameters: config.widths.parameter_count(),
        has_ranges: model.chooser().drift().is_some(),
        validation: serde_json::Value::Null,
        caution: source.caution(world),
    }
}

/// The part of a fit's metrics that tells models apart at a glance.
fn validation(metrics: &serde_json::Value) -> serde_json::Value {
    let Some(kinds) = metrics.get("kinds").and_then(serde_json::Value::as_object) else {
        return serde_json::Value::Null;
    };
    let told = ["validation_rows", "regret_s", "greedy_regret_s", "accuracy"];
    kinds
        .iter()
        .map(|(kind, measured)| {
            let parts: serde_json::Map<String, serde_json::Value> = told
                .iter()
                .filter_map(|name| Some(((*name).to_owned(), measured.get(name)?.clone())))
                .collect();
            (kind.clone(), serde_json::Value::Object(parts))
        })
        .collect::<serde_json::Map<_, _>>()
        .into()
}

/// Asks for a decision on the first state of the world and holds it against that.
fn try_out(world: &World, policy: &mut dyn Policy) -> Result<(), RegistryError> {
    let state = State::new(world);
    let observation = Observation::new(world, &state, Epoch::Boundary);
    let mut decision = Decision::none();
    let trial = |error: String| RegistryError::Trial(error);
    policy
        .decide(&observation, &mut decision)
        .map_err(|error| trial(error.to_string()))?;
    checker::check(&observation, &decision).map_err(|error| trial(error.to_string()))
}
