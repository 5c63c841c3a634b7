//! The policy of a model folder, run in process.

use std::path::Path;

use anyhow::Result;
use models::ModelPolicy;
use twin::World;
use twin::policy::Policy;

/// The model in `folder` as a policy; it answers on any world, and makes no random choice.
///
/// # Errors
///
/// If the model cannot be read, is damaged, or was trained on another observation encoding.
pub fn build(folder: &Path, _world: &World, _seed: u64) -> Result<Box<dyn Policy>> {
    Ok(Box::new(ModelPolicy::load(folder)?))
}
