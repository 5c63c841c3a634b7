//! Rules of thumb: random, round-robin, least-loaded and best-fit.
//!
//! What they expect of a placement is described in the module `fleet`. A request that no open host
//! can hold is left waiting.

use rand::RngExt;

use super::fleet::{self, Candidate, Fleet, HostLoad};
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
    /// Which hosts are to be on; kept to avoid allocation.
    on: Vec<bool>,
}

impl Random {
    /// The policy for `world`, with choices drawn from `seed`.
    #[must_use]
    pub fn new(world: &World, seed: u64) -> Self {
        Self {
            fleet: Fleet::default(),
            stream: stream::named(seed, "policy/random"),
            largest_mib: fleet::largest_fragment_mib(world),
            on: Vec::new(),
        }
    }

    fn provision(&mut self, world: &World, decision: &mut Decision) {
        let hosts = self.fleet.hosts.len();
        self.on.clear();
        self.on
            .extend((0..hosts).map(|_| self.stream.random::<bool>()));
        let capable = |h: usize| world.ram_for_fragments(h).0 >= self.largest_mib;
        if !(0..hosts).any(|h| self.on[h] && capable(h)) {
            let count = (0..hosts).filter(|&h| capable(h)).count();
            let drawn = self.stream.random_range(0..count.max(1));
            if let Some(h) = (0..hosts).filter(|&h| capable(h)).nth(drawn) {
                self.on[h] = true;
            }
        }
        for h in 0..hosts {
            self.fleet.switch(world, decision, h, self.on[h]);
        }
    }
}

impl Policy for Random {
    fn name(&self) -> &str {
        "random"
    }

    fn decide(
        &mut self,
        observation: &Observation<'_>,
        decision: &mut Decision,
    ) -> Result<(), PolicyError> {
        let world = observation.world();
        self.fleet.observe(observation);
        if observation.may_provision() {
            self.provision(world, decision);
        }
        for request in observation.waiting() {
            let variants = world.applications[request.application.index()]
                .variants
                .len();
            let variant = VariantId::at(self.stream.random_range(0..variants));
            let stream = &mut self.stream;
            // The highest of one value a host is a uniformly random host.
            let placed = self
                .fleet
                .place(world, &request, variant, |_| stream.random::<f64>());
            if placed.is_some() {
                self.fleet.keep(decision, &request, variant);
            }
        }
        Ok(())
    }
}

/// Turns every host on; for the policies that never turn one off.
fn all_on(fleet: &mut Fleet, observation: &Observation<'_>, decision: &mut Decision) {
    if observation.may_provision() {
        for h in 0..fleet.hosts.len() {
            fleet.switch(observation.world(), decision, h, true);
        }
    }
}

/// All hosts on, the most accurate variant, hosts in turn.
#[derive(Debug)]
pub struct RoundRobin {
    fleet: Fleet,
    variants: Vec<VariantId>,
    /// The host whose turn it is.
    next: usize,
}

impl RoundRobin {
    /// The policy for `world`.
    #[must_use]
    pub fn new(world: &World) -> Self {
        Self {
            fleet: Fleet::default(),
            variants: fleet::most_accurate(world),
            next: 0,
        }
    }
}

impl Policy for RoundRobin {
    fn name(&self) -> &str {
        "round-robin"
    }

    fn decide(
        &mut self,
        observation: &Observation<'_>,
        decision: &mut Decision,
    ) -> Result<(), PolicyError> {
        let world = observation.world();
        self.fleet.observe(observation);
        all_on(&mut self.fleet, observation, decision);
        let hosts = self.fleet.hosts.len();
        for request in observation.waiting() {
            let variant = self.variants[request.application.index()];
            let next = self.next;
            let turns = |c: &Candidate<'_>| {
                let first = c.previous.map_or(next, |h| h + 1);
                -(((c.index + hosts - first % hosts) % hosts) as f64)
            };
            if self.fleet.place(world, &request, variant, turns).is_some() {
                self.next = self.fleet.last_host().map_or(next, |h| (h + 1) % hosts);
                self.fleet.keep(decision, &request, variant);
            }
        }
        Ok(())
    }
}

/// All hosts on, the most accurate variant that is expected in time (else the fastest), each
/// fragment on the host that has worked off its fragments first.
#[derive(Debug)]
pub struct LeastLoaded {
    fleet: Fleet,
    variants: Vec<Vec<VariantId>>,
}

impl LeastLoaded {
    /// The policy for `world`.
    #[must_use]
    pub fn new(world: &World) -> Self {
        Self {
            fleet: Fleet::default(),
            variants: fleet::by_accuracy(world),
        }
    }
}

impl Policy for LeastLoaded {
    fn name(&self) -> &str {
        "least-loaded"
    }

    fn decide(
        &mut self,
        observation: &Observation<'_>,
        decision: &mut Decision,
    ) -> Result<(), PolicyError> {
        let world = observation.world();
        self.fleet.observe(observation);
        all_on(&mut self.fleet, observation, decision);
        for request in observation.waiting() {
            let variants = &self.variants[request.application.index()];
            self.fleet
                .deploy_in_time(world, &request, variants, decision, |c| -c.host.backlog_s());
        }
        Ok(())
    }
}

/// One in this many hosts is kept on though it is empty.
const RESERVE_SHARE: usize = 8;

/// Consolidates: the fullest host that has room, empty hosts off.
///
/// A host has room for a fragment if it is on and has memory and speed that are promised to no
/// other fragment; fragments that still wait for inputs count. Where no host has room, the
/// fragment goes to the host that has worked off its fragments first, and at the next boundary as
/// many hosts are turned on as the speed promised to such fragments asks for, the cheapest first.
/// Empty hosts are turned off at boundaries but for a reserve of one host in eight. The variant is
/// chosen as [`LeastLoaded`] does.
#[derive(Debug)]
pub struct BestFit {
    fleet: Fleet,
    variants: Vec<Vec<VariantId>>,
    order: Vec<usize>,
    largest_mib: f64,
    /// Speed promised since the last boundary beyond what the hosts have, in MIPS.
    beyond_mips: f64,
}

impl BestFit {
    /// The policy for `world`.
    #[must_use]
    pub fn new(world: &World) -> Self {
        Self {
            fleet: Fleet::default(),
            variants: fleet::by_accuracy(world),
            order: fleet::by_price(world),
            largest_mib: fleet::largest_fragment_mib(world),
            beyond_mips: 0.0,
        }
    }

    /// Turns on what the fragments without room ask for.
    fn grow(&mut self, world: &World, decision: &mut Decision) {
        self.fleet
            .ensure_holding(world, decision, &self.order, self.largest_mib);
        let beyond_mips = &mut self.beyond_mips;
        self.fleet.turn_on(world, decision, &self.order, |host| {
            let take = *beyond_mips > 0.0;
            *beyond_mips -= if take { host.capacity_mips } else { 0.0 };
            take
        });
        self.beyond_mips = 0.0;
    }

    /// Turns off empty hosts beyond the reserve, the dearest first.
    fn shrink(&mut self, world: &World, decision: &mut Decision) {
        let hosts = &self.fleet.hosts;
        let idle =
            |host: &HostLoad| host.open && host.lifecycle == Lifecycle::On && host.count == 0;
        let empty = hosts.iter().filter(|host| idle(host)).count();
        let mut excess = empty.saturating_sub(hosts.len().div_ceil(RESERVE_SHARE));
        let mut holding = self.fleet.count_holding(self.largest_mib);
        for &h in self.order.iter().rev() {
            let host = &self.fleet.hosts[h];
            let holds = host.ram_mib >= self.largest_mib;
            if excess == 0 || !idle(host) || (holds && holding == 1) {
                continue;
            }
            holding -= usize::from(holds);
            excess -= 1;
            self.fleet.switch(world, decision, h, false);
        }
    }
}

impl Policy for BestFit {
    fn name(&self) -> &str {
        "best-fit"
    }

    fn decide(
        &mut self,
        observation: &Observation<'_>,
        decision: &mut Decision,
    ) -> Result<(), PolicyError> {
        let world = observation.world();
        self.fleet.observe(observation);
        if observation.may_provision() {
            self.grow(world, decision);
        }
        for request in observation.waiting() {
            let variants = &self.variants[request.application.index()];
            let deployed = self
                .fleet
                .deploy_in_time(world, &request, variants, decision, fit);
            if deployed {
                self.beyond_mips += self.fleet.placed_beyond_mips();
            }
        }
        if observation.may_provision() {
            self.shrink(world, decision);
        }
        Ok(())
    }
}

/// Hosts with room come first, the one with the least speed left of them; then the others, the one
/// with the least backlog first. The scores of hosts with room are positive.
fn fit(candidate: &Candidate<'_>) -> f64 {
    let host = candidate.host;
    let left_mips = host.capacity_mips - host.promised_mips - candidate.rate_mips;
    if host.lifecycle == Lifecycle::On && left_mips >= 0.0 && host.ram_free_mib >= candidate.ram_mib
    {
        1.0 / (1.0 + left_mips)
    } else {
        -host.backlog_s()
    }
}
