//! Where a policy comes from: a model folder or a name.

use std::path::PathBuf;
use std::sync::Arc;

use thiserror::Error;
use twin::World;
use twin::policy::{Policy, PolicyError};
use twin::world::WorldError;

/// Where a policy comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Source {
    /// The model in a folder.
    Model(PathBuf),
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
    /// No world was named, and the source names none.
    #[error("policy {policy} does not say for which world it decides; name one with --world")]
    NoWorld {
        /// The policy.
        policy: String,
    },
}

impl Source {
    /// The policy of the twin that is called `name`.
    #[must_use]
    pub fn named(name: &str) -> Self {
        Self::Named(name.into())
    }

    /// The world called `world`, or, where `None`, the one that the model was trained for.
    ///
    /// # Errors
    ///
    /// If there is no such world, or none is named anywhere.
    pub fn world(&self, world: Option<&str>) -> Result<World, SourceError> {
        match (world, self) {
            (Some(name), _) => Ok(World::load(name)?),
            (None, Self::Named(policy)) => Err(SourceError::NoWorld {
                policy: policy.clone(),
            }),
            (None, Self::Model(folder)) => Err(SourceError::NoWorld {
                policy: folder.display().to_string(),
            }),
        }
    }
}

/// The policy of `source` for `world`; random choices come from `seed`.
///
/// # Errors
///
/// If there is no such policy, or the model cannot be read or is not for this world.
pub fn load_policy(source: &Source, world: &World, seed: u64) -> Result<Loaded, SourceError> {
    match source {
        Source::Named(name) => {
            let policy = twin::policy::by_name(name, world, seed)?;
            Ok(Loaded {
                policy,
                model_sha256: None,
            })
        }
        Source::Model(folder) => Err(SourceError::Policy(PolicyError {
            policy: folder.display().to_string(),
            problem: "models cannot be loaded yet".into(),
        })),
    }
}
