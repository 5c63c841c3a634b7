//! How long requests are expected to take, by the quick estimates of [`crate::estimate`].

use super::Live;
use crate::decision::Decision;
use crate::estimate::{Asked, Loads, output_bytes, task};
use crate::ids::{HostId, RequestId};
use crate::observation::Observation;
use crate::state::Epoch;
use crate::world::World;

/// A request that is about to be deployed.
#[derive(Clone, Debug, PartialEq)]
pub struct Expected {
    /// The request.
    pub request: RequestId,
    /// Time from its arrival to its answer, in s.
    pub response_s: f64,
    /// The hosts that it is placed on, each once.
    pub hosts: Vec<HostId>,
}

/// Estimates for one fleet; keeps buffers.
#[derive(Clone, Debug, Default)]
pub struct Expectations {
    loads: Loads,
}

impl Expectations {
    /// What the requests that `decision` deploys are expected to take, before it is applied to
    /// `live`. Costs what the hosts that it names cost.
    pub fn of(&mut self, world: &World, live: &Live, decision: &Decision) -> Vec<Expected> {
        let observation = live.observation(world, Epoch::Arrival);
        let named = decision.deployments.iter().flat_map(|d| &d.hosts);
        let mut hosts: Vec<HostId> = named.copied().collect();
        hosts.sort_unstable();
        hosts.dedup();
        hosts.retain(|h| h.index() < world.hosts.len());
        self.loads.refresh(&observation, &hosts);
        for action in &decision.provisioning {
            if hosts.binary_search(&action.host).is_ok() {
                let h = action.host.index();
                self.loads.plan_power(world, h, action.on);
            }
        }
        let deployments = decision.deployments.iter();
        deployments
            .filter_map(|d| self.deployment(world, live, &observation, d))
            .collect()
    }

    fn deployment(
        &mut self,
        world: &World,
        live: &Live,
        observation: &Observation<'_>,
        deployment: &crate::decision::Deployment,
    ) -> Option<Expected> {
        let track = live.tracks.get(&deployment.request)?;
        let request = &live.state.requests[track.slot as usize];
        let asked = Asked {
            application: request.application,
            age_s: observation.now().since(request.arrived).seconds(),
            context_tokens: request.context_tokens,
        };
        let variants = &world.applications[asked.application.index()].variants;
        let variant = variants.get(deployment.variant.index())?;
        let mut ends = Vec::with_capacity(variant.fragments.len());
        let mut answered_s: f64 = 0.0;
        for (k, (fragment, host)) in variant.fragments.iter().zip(&deployment.hosts).enumerate() {
            let h = host.index();
            let piece = task(world, &asked, deployment.variant, k, &ends);
            let end_s = self.loads.place(world, &piece, h)?.end_s();
            ends.push((h, end_s));
            self.loads.plan_fragment(h, piece.work_mi, fragment.ram.0);
            if fragment.successors.is_empty() {
                let load = &self.loads.hosts()[h];
                let bytes = output_bytes(world, &asked, fragment);
                answered_s = answered_s.max(end_s + load.user_latency_s + bytes * load.byte_s);
            }
        }
        let mut hosts = deployment.hosts.clone();
        hosts.sort_unstable();
        hosts.dedup();
        Some(Expected {
            request: deployment.request,
            response_s: asked.age_s + answered_s,
            hosts,
        })
    }
}
