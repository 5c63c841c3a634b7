//! Where a policy comes from: a model folder or a name.

use std::fmt;
use std::path::Path;
use std::sync::Arc;

use models::{ModelError, ModelPolicy};
use thiserror::Error;
use twin::World;
use twin::policy::{Policy, PolicyError};
use twin::world::WorldError;

/// Where a policy comes from.
#[derive(Clone)]
pub enum Source {
    /// A model; its weights are shared by all policies that come from it.
    Model(Arc<ModelPolicy>),
    /// One of the twin's own policies ([`twin::policy::POLICIES`]).
    Named(String),
}

/// A policy, ready to decide.
pub struct Loaded {
    /// The policy.
    pub policy: Box<dyn Policy>,
    /// SHA-256 of the model's weights in hexadecimal, where it is a model.
    pub model_sha256: Option<Arc<str>>,
}

/// Why there is no policy.
#[derive(Debug, Error)]
pub enum SourceError {
    /// There is no policy of that name.
    #[error(transparent)]
    Policy(#[from] PolicyError),
    /// The world cannot be loaded.
    #[error(transparent)]
    World(#[from] WorldError),
    /// The model cannot be read.
    #[error(transparent)]
    Model(#[from] ModelError),
    /// No world was named, and a policy of the twin names none.
    #[error("policy {policy} does not say for which world it decides; name one with --world")]
    NoWorld {
        /// The policy.
        policy: String,
    },
}

impl fmt::Debug for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Model(model) => f.debug_tuple("Model").field(&model.name()).finish(),
            Self::Named(name) => f.debug_tuple("Named").field(name).finish(),
        }
    }
}

impl Source {
    /// The policy of the twin that is called `name`.
    #[must_use]
    pub fn named(name: &str) -> Self {
        Self::Named(name.into())
    }

    /// The model in the folder `folder`.
    ///
    /// # Errors
    ///
    /// If the model cannot be read.
    pub fn model(folder: &Path) -> Result<Self, SourceError> {
        Ok(Self::Model(Arc::new(ModelPolicy::load(folder)?)))
    }

    /// The world called `world`, or, where `None`, the one that the model was trained on.
    ///
    /// # Errors
    ///
    /// If there is no such world, or none is named anywhere.
    pub fn world(&self, world: Option<&str>) -> Result<World, SourceError> {
        match (world, self) {
            (Some(name), _) => Ok(World::load(name)?),
            (None, Self::Model(model)) => Ok(World::load(&model.config().world)?),
            (None, Self::Named(policy)) => Err(SourceError::NoWorld {
                policy: policy.clone(),
            }),
        }
    }

    /// What an operator should know before the policy decides for `world`: a model works in any
    /// world, but was measured in its own.
    #[must_use]
    pub fn caution(&self, world: &World) -> Option<String> {
        let Self::Model(model) = self else {
            return None;
        };
        let config = model.config();
        if config.world_hash == world.hash {
            return None;
        }
        let version = if config.world == world.name {
            "another version of "
        } else {
            ""
        };
        let trained = format!("{version}the world {}", config.world);
        Some(format!(
            "{} was trained on {trained}; it decides for {}",
            model.name(),
            world.name
        ))
    }
}

/// The policy of `source` for `world`; random choices come from `seed`.
///
/// # Errors
///
/// If there is no such policy.
pub fn load_policy(source: &Source, world: &World, seed: u64) -> Result<Loaded, SourceError> {
    Ok(match source {
        Source::Named(name) => {
            let policy = twin::policy::by_name(name, world, seed)?;
            Loaded {
                policy,
                model_sha256: None,
            }
        }
        Source::Model(model) => Loaded {
            policy: Box::new(model.fresh()),
            model_sha256: Some(model.sha256().into()),
        },
    })
}
