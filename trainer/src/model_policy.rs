//! The policy of a model folder, run in process.

use std::path::Path;

use anyhow::{Result, bail};
use twin::World;
use twin::policy::Policy;

/// The model in `folder` as a policy for `world`; random choices come from `seed`.
///
/// # Errors
///
/// If the model cannot be read or is not for this world.
pub fn build(folder: &Path, _world: &World, _seed: u64) -> Result<Box<dyn Policy>> {
    bail!(
        "policy model:{}: models are not available in this build",
        folder.display()
    )
}
