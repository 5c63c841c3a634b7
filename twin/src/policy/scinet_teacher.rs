//! The teacher that the SciNet network was trained to imitate, in two forms.
//!
//! Its published code states three scores and decides by comparing one change at a time (an A/B
//! test) in a simulator. Here the comparison uses estimates one interval ahead, from what is
//! observed:
//!
//! - **Provisioning**, at boundaries: reward `Σ utilization − 0.2 · Σ cost` over the hosts that
//!   are on. The hosts are gone through in the world's order; each is on if the reward with it is
//!   above the reward without it, the rest as decided so far, and stays as it is where they are
//!   equal. At least a quarter of the hosts are on, as in the published system, and one that can
//!   hold the largest fragment. `cost` is the host's price over the highest price of the fleet.
//!   `utilization` of a host is the expected work left there over what it can do in an interval,
//!   at most one; work that has no host yet fills the speed that this leaves, and counts by the
//!   mean speed of the hosts. That work is what waits, in the most accurate variants, and where
//!   requests are dispatched on arrival what was deployed since the last boundary, which is
//!   expected to come again.
//! - **Deployment**: the variant with the highest `1[response ≤ SLA] + accuracy`, the response
//!   being expected with the placement below; the first of equals.
//! - **Placement**: the host with the highest `1 − (0.3 · energy + 0.3 · SLA term)`, fragment by
//!   fragment, the first of equals. `energy` is the power of the host once the fragment runs there
//!   too over the highest power of a host of the fleet. The SLA term is one where the request is
//!   expected to miss its deadline with the end of this fragment. **As committed** it is one where
//!   the request *meets* it, so that meeting it lowers the score: a sign error. Both forms exist,
//!   and both are reported.
//!
//! Left out: the boot time in the estimate of provisioning.

use super::fleet::{self, Candidate, Fleet};
use super::{Policy, PolicyError};
use crate::decision::Decision;
use crate::observation::{Observation, WaitingRequest};
use crate::world::{Dispatch, World};

/// Weight of the cost in the provisioning reward.
const COST_WEIGHT: f64 = 0.2;
/// Weight of energy in the placement score.
const ENERGY_WEIGHT: f64 = 0.3;
/// Weight of the SLA term in the placement score.
const SLA_WEIGHT: f64 = 0.3;
/// At least one in this many hosts is on.
const LEAST_SHARE: usize = 4;

/// What the SLA term of the placement score rewards.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SlaTerm {
    /// Meeting the deadline lowers the score, as in the published code.
    AsCommitted,
    /// Missing the deadline lowers the score.
    Corrected,
}

/// See the module.
#[derive(Debug)]
pub struct ScinetTeacher {
    fleet: Fleet,
    sla_term: SlaTerm,
    order: Vec<usize>,
    largest_mib: f64,
    /// Price of each host over the highest.
    costs: Vec<f64>,
    highest_power_w: f64,
    /// Expected work deployed since the last boundary, in MI.
    deployed_mi: f64,
}

/// Sums over the hosts that are on.
#[derive(Clone, Copy, Debug, Default)]
struct Sums {
    hosts: usize,
    utilization: f64,
    free_mips: f64,
    capacity_mips: f64,
    cost: f64,
}

impl Sums {
    fn plus(mut self, host: &Self) -> Self {
        self.hosts += host.hosts;
        self.utilization += host.utilization;
        self.free_mips += host.free_mips;
        self.capacity_mips += host.capacity_mips;
        self.cost += host.cost;
        self
    }

    fn minus(mut self, host: &Self) -> Self {
        self.hosts -= host.hosts;
        self.utilization -= host.utilization;
        self.free_mips -= host.free_mips;
        self.capacity_mips -= host.capacity_mips;
        self.cost -= host.cost;
        self
    }

    /// The reward where `homeless_mips` of work without a host are asked for.
    fn reward(&self, homeless_mips: f64) -> f64 {
        if self.hosts == 0 {
            return 0.0;
        }
        let mean_mips = self.capacity_mips / self.hosts as f64;
        let filled = homeless_mips.min(self.free_mips.max(0.0)) / mean_mips;
        self.utilization + filled - COST_WEIGHT * self.cost
    }
}

impl ScinetTeacher {
    /// The policy for `world`.
    #[must_use]
    pub fn new(world: &World, sla_term: SlaTerm) -> Self {
        let hosts = 0..world.hosts.len();
        let highest_price = hosts
            .clone()
            .map(|h| world.price_usd_per_second(h))
            .fold(0.0, f64::max);
        let cost = |h: usize| {
            if highest_price > 0.0 {
                world.price_usd_per_second(h) / highest_price
            } else {
                0.0
            }
        };
        Self {
            fleet: Fleet::default(),
            sla_term,
            order: fleet::by_price(world),
            largest_mib: fleet::largest_fragment_mib(world),
            costs: hosts.clone().map(cost).collect(),
            highest_power_w: hosts
                .map(|h| world.size_of(h).power.at(1.0).0)
                .fold(0.0, f64::max),
            deployed_mi: 0.0,
        }
    }

    fn host_sums(&self, h: usize, interval_s: f64) -> Sums {
        let host = &self.fleet.hosts[h];
        let utilization = (host.left_mi / (host.capacity_mips * interval_s)).min(1.0);
        Sums {
            hosts: 1,
            utilization,
            free_mips: (1.0 - utilization) * host.capacity_mips,
            capacity_mips: host.capacity_mips,
            cost: self.costs[h],
        }
    }

    fn provision(&mut self, observation: &Observation<'_>, decision: &mut Decision) {
        let world = observation.world();
        let interval_s = world.interval.seconds();
        let mut homeless_mi: f64 = match world.dispatch {
            Dispatch::OnArrival => self.deployed_mi,
            Dispatch::Interval => 0.0,
        };
        self.deployed_mi = 0.0;
        for request in observation.waiting() {
            homeless_mi +=
                fleet::work_mi(world, &request, world.most_accurate(request.application));
        }
        let homeless_mips = homeless_mi / interval_s;
        self.fleet
            .ensure_holding(world, decision, &self.order, self.largest_mib);
        let mut holding = self.fleet.count_holding(self.largest_mib);
        let hosts = self.fleet.hosts.len();
        let least = hosts.div_ceil(LEAST_SHARE);
        let mut sums = Sums::default();
        for h in 0..hosts {
            if self.fleet.hosts[h].open {
                sums = sums.plus(&self.host_sums(h, interval_s));
            }
        }
        for h in 0..hosts {
            let host = self.host_sums(h, interval_s);
            let was = self.fleet.hosts[h].open;
            let holds = self.fleet.hosts[h].ram_mib >= self.largest_mib;
            let kept = was && (self.fleet.named(h) || (holds && holding == 1));
            let without = if was { sums.minus(&host) } else { sums };
            let with = without.plus(&host);
            let gain = with.reward(homeless_mips) - without.reward(homeless_mips);
            let on = kept || gain > 0.0 || (gain >= 0.0 && was) || without.hosts < least;
            self.fleet.switch(world, decision, h, on);
            if holds {
                holding = holding + usize::from(on) - usize::from(was);
            }
            sums = if on { with } else { without };
        }
    }

    fn deploy(&mut self, world: &World, request: &WaitingRequest, decision: &mut Decision) {
        let application = &world.applications[request.application.index()];
        let deadline_s = application.deadline.seconds();
        let (sla_term, highest_power_w) = (self.sla_term, self.highest_power_w);
        let score = |c: &Candidate<'_>| {
            let utilization = (c.host.promised_mips + c.rate_mips) / c.host.capacity_mips;
            let power_w = world.size_of(c.index).power.at(utilization.min(1.0)).0;
            let energy = if highest_power_w > 0.0 {
                power_w / highest_power_w
            } else {
                0.0
            };
            let lowers = match sla_term {
                SlaTerm::AsCommitted => c.end_s <= deadline_s,
                SlaTerm::Corrected => c.end_s > deadline_s,
            };
            1.0 - (ENERGY_WEIGHT * energy + SLA_WEIGHT * f64::from(u8::from(lowers)))
        };
        let mut best = None;
        for (v, variant) in application.variants.iter().enumerate() {
            let id = crate::ids::VariantId::at(v);
            let Some(response_s) = self.fleet.place(world, request, id, score) else {
                continue;
            };
            self.fleet.undo();
            let value = f64::from(u8::from(response_s <= deadline_s)) + variant.accuracy;
            if best.is_none_or(|(highest, _)| value > highest) {
                best = Some((value, id));
            }
        }
        let Some((_, id)) = best else { return };
        if self.fleet.place(world, request, id, score).is_some() {
            self.deployed_mi += self.fleet.placed_mi();
            self.fleet.keep(decision, request, id);
        }
    }
}

impl Policy for ScinetTeacher {
    fn name(&self) -> &str {
        match self.sla_term {
            SlaTerm::AsCommitted => "scinet-teacher-as-committed",
            SlaTerm::Corrected => "scinet-teacher",
        }
    }

    fn decide(
        &mut self,
        observation: &Observation<'_>,
        decision: &mut Decision,
    ) -> Result<(), PolicyError> {
        self.fleet.observe(observation);
        if observation.may_provision() {
            self.provision(observation, decision);
        }
        for request in observation.waiting() {
            self.deploy(observation.world(), &request, decision);
        }
        Ok(())
    }
}
