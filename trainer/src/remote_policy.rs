//! A policy behind a service.

use anyhow::{Result, bail};
use twin::World;
use twin::policy::Policy;

/// The service at `url` as a policy for `world`; random choices come from `seed`.
///
/// # Errors
///
/// If the service does not answer.
pub fn build(url: &str, _world: &World, _seed: u64) -> Result<Box<dyn Policy>> {
    bail!("policy {url}: services are not available in this build")
}
