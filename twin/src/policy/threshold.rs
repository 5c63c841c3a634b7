//! What practitioners run: scaling on utilization thresholds, placement on the least allocated
//! host, always the most accurate variant.
//!
//! *Scaling* looks at the mean utilization `u` of the hosts that are on, over the decisions since
//! the last boundary.
//!
//! - Above [`SCALE_OUT_ABOVE`], out to `⌈n · u / TARGET⌉` hosts, of which those that boot count as
//!   there (the formula of Kubernetes' horizontal autoscaler and of target tracking).
//! - Below [`SCALE_IN_BELOW`], in by one host, the least allocated, unless that would bring `u` to
//!   the upper threshold (Azure's autoscale skips such steps to avoid flapping), and not before
//!   [`COOL_DOWN_INTERVALS`] boundaries have passed since the last step. Clouds wait five minutes
//!   by default (default cooldown of AWS Auto Scaling groups, default `cooldown` of rules in
//!   Azure Monitor autoscale) while they look at one-minute metrics: five periods, as here.
//!
//! *Placement* is that of Kubernetes' scheduler with its `LeastAllocated` score: hosts that have
//! room for the fragment come first, among them the one with the greatest mean of the free shares
//! of speed and memory, the fragment counted in. Where none has room, the same score decides.

use super::fleet::{self, Candidate, Fleet};
use super::{Policy, PolicyError};
use crate::decision::Decision;
use crate::host::Lifecycle;
use crate::ids::{HostId, VariantId};
use crate::observation::Observation;
use crate::world::World;

/// Mean utilization above which hosts are added.
pub const SCALE_OUT_ABOVE: f64 = 0.7;
/// Mean utilization below which a host is taken away.
pub const SCALE_IN_BELOW: f64 = 0.4;
/// Mean utilization that scaling out aims at: the middle of the band.
pub const TARGET: f64 = 0.55;
/// Boundaries that pass between a step and the next step in.
pub const COOL_DOWN_INTERVALS: u32 = 5;

/// See the module.
#[derive(Debug)]
pub struct ThresholdAutoscaler {
    fleet: Fleet,
    variants: Vec<VariantId>,
    order: Vec<usize>,
    largest_mib: f64,
    /// Sum and number of the mean utilizations seen since the last boundary.
    seen: (f64, f64),
    /// Boundaries until the next step in.
    cool_down: u32,
}

impl ThresholdAutoscaler {
    /// The policy for `world`.
    #[must_use]
    pub fn new(world: &World) -> Self {
        Self {
            fleet: Fleet::default(),
            variants: fleet::most_accurate(world),
            order: fleet::by_price(world),
            largest_mib: fleet::largest_fragment_mib(world),
            seen: (0.0, 0.0),
            cool_down: 0,
        }
    }

    /// Notes the mean utilization of the hosts that are on.
    fn note(&mut self, observation: &Observation<'_>) {
        let (mut sum, mut on) = (0.0, 0.0);
        for h in 0..self.fleet.hosts.len() {
            if self.fleet.hosts[h].lifecycle == Lifecycle::On {
                sum += observation.utilization(HostId::at(h));
                on += 1.0;
            }
        }
        if on > 0.0 {
            self.seen.0 += sum / on;
            self.seen.1 += 1.0;
        }
    }

    fn scale(&mut self, world: &World, decision: &mut Decision) {
        let (sum, count) = std::mem::take(&mut self.seen);
        self.cool_down = self.cool_down.saturating_sub(1);
        let on = self
            .fleet
            .hosts
            .iter()
            .filter(|h| h.lifecycle == Lifecycle::On)
            .count();
        let open = self.fleet.hosts.iter().filter(|h| h.open).count();
        if count > 0.0 && on > 0 {
            let utilization = sum / count;
            if utilization > SCALE_OUT_ABOVE {
                let mut missing = whole(on as f64 * utilization / TARGET).saturating_sub(open);
                self.fleet.turn_on(world, decision, &self.order, |_| {
                    let take = missing > 0;
                    missing -= usize::from(take);
                    take
                });
            } else if utilization < SCALE_IN_BELOW && self.cool_down == 0 && on > 1 {
                let after = on as f64 * utilization / (on as f64 - 1.0);
                if after < SCALE_OUT_ABOVE {
                    self.scale_in(world, decision);
                }
            }
        }
        self.fleet
            .ensure_holding(world, decision, &self.order, self.largest_mib);
        if !decision.provisioning.is_empty() {
            self.cool_down = COOL_DOWN_INTERVALS;
        }
    }

    /// Turns off the least allocated host that is not the last one for the largest fragment.
    fn scale_in(&mut self, world: &World, decision: &mut Decision) {
        let holding = self.fleet.count_holding(self.largest_mib);
        let mut least: Option<(f64, usize)> = None;
        for (h, host) in self.fleet.hosts.iter().enumerate() {
            let last = holding == 1 && host.ram_mib >= self.largest_mib;
            if host.lifecycle != Lifecycle::On || last {
                continue;
            }
            let free = host.free_share(0.0, 0.0);
            if least.is_none_or(|(most, _)| free > most) {
                least = Some((free, h));
            }
        }
        if let Some((_, h)) = least {
            self.fleet.switch(world, decision, h, false);
        }
    }
}

/// `LeastAllocated`: above one where the host has room, below where it has not.
fn least_allocated(candidate: &Candidate<'_>) -> f64 {
    let host = candidate.host;
    let room = host.promised_mips + candidate.rate_mips <= host.capacity_mips
        && candidate.ram_mib <= host.ram_free_mib;
    let free = host.free_share(candidate.rate_mips, candidate.ram_mib);
    if room { 2.0 + free } else { free }
}

#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "a number of hosts: not negative, and bounded by the world"
)]
fn whole(hosts: f64) -> usize {
    hosts.ceil() as usize
}

impl Policy for ThresholdAutoscaler {
    fn name(&self) -> &str {
        "threshold-autoscaler"
    }

    fn decide(
        &mut self,
        observation: &Observation<'_>,
        decision: &mut Decision,
    ) -> Result<(), PolicyError> {
        let world = observation.world();
        self.fleet.observe(observation);
        self.note(observation);
        if observation.may_provision() {
            self.scale(world, decision);
        }
        for request in observation.waiting() {
            let variant = self.variants[request.application.index()];
            if self
                .fleet
                .place(world, &request, variant, least_allocated)
                .is_some()
            {
                self.fleet.keep(decision, &request, variant);
            }
        }
        Ok(())
    }
}
