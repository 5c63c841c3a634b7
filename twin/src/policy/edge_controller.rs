//! The controller of an edge-cloud cluster of containers.
//!
//! [`plan`] holds its rule as functions of plain values; nothing there knows of the twin's state.
//! [`EdgeController`] asks it: hosts of sites of kind `edge` are the edge nodes, all others the
//! cloud; a container is a fragment, and the delay that it tolerates is its application's deadline.
//!
//! In the twin a fragment of work *w* on *x* vCPUs of *m* MIPS takes w / (x m), the power curve of
//! [`crate::delay`] with b = 1, so the share that holds a delay is known. A fragment may take the part
//! of the deadline that its work is of the work of its variant, after the way to the users and back
//! and the input:
//!
//! ```text
//! x = w / (m · (deadline − 2 · latency − input) · w / Σ w) = Σ w / (m · (deadline − 2 · latency − input))
//! ```
//!
//! at most its parallelism; where even that is too slow the cloud is out of the question. The speed
//! is that of the slowest host of the kind, and all hosts are kept on. Every request runs in its most
//! accurate variant. A request that is late already goes where most room is, so that nobody waits
//! forever. Containers are brought back from the cloud at interval boundaries, with room kept for
//! one more of mean share.
//!
//! Left out: transfers between fragments, contention for the network, and memory beyond what a host
//! has in all or, for what comes back, has free.

pub mod plan;

use self::plan::{Container, Move, Node, Plan, Resident};
use super::fleet;
use super::{Policy, PolicyError};
use crate::decision::{Decision, Deployment, Migration, PowerAction};
use crate::demand::{self, Known};
use crate::ids::{ApplicationId, HostId, RequestId, VariantId};
use crate::observation::{Observation, WaitingRequest};
use crate::state::Phase;
use crate::world::{SiteKind, World, nominal_bandwidth};

/// Keeps requests at the edge as long as their deadlines ask for it, and moves others away for them.
#[derive(Debug)]
pub struct EdgeController {
    variants: Vec<VariantId>,
    /// What each fragment of these variants needs, by application.
    needs: Vec<Vec<Need>>,
    /// The mean share of fragments at the edge, in vCPUs.
    headroom_vcpus: f64,
    nodes: Vec<Node>,
    residents: Vec<Resident>,
    /// Which fragment each resident is, and its memory: residents are numbered by position.
    names: Vec<Name>,
}

/// What a fragment needs of a node.
#[derive(Clone, Copy, Debug)]
struct Need {
    edge_vcpus: f64,
    cloud_vcpus: Option<f64>,
    ram_mib: f64,
}

/// Which fragment a resident is.
#[derive(Clone, Copy, Debug)]
struct Name {
    request: RequestId,
    fragment: u16,
    ram_mib: f64,
}

impl EdgeController {
    /// The policy for `world`.
    #[must_use]
    pub fn new(world: &World) -> Self {
        let variants = fleet::most_accurate(world);
        let needs: Vec<Vec<Need>> = (0..world.applications.len())
            .map(|a| needs(world, ApplicationId::at(a), variants[a]))
            .collect();
        let shares = || needs.iter().flatten().map(|need| need.edge_vcpus);
        Self {
            headroom_vcpus: shares().sum::<f64>() / shares().count().max(1) as f64,
            variants,
            needs,
            nodes: Vec::new(),
            residents: Vec::new(),
            names: Vec::new(),
        }
    }

    /// Takes in what is observed, with `decision` counted in.
    fn observe(&mut self, observation: &Observation<'_>) {
        let world = observation.world();
        self.nodes.clear();
        self.residents.clear();
        self.names.clear();
        for h in 0..observation.host_count() {
            let host = HostId::at(h);
            let kind = kind_of(world, h);
            let open = observation.may_provision() || observation.lifecycle(host).accepts();
            let mut free_vcpus = if open {
                world.size_of(h).vcpus
            } else {
                f64::NEG_INFINITY
            };
            for resident in observation.residents(host) {
                let id = u32::try_from(self.residents.len()).unwrap_or(u32::MAX);
                let need = self.needs[resident.application.index()]
                    .get(usize::from(resident.index))
                    .copied();
                let Some(need) = need else { continue };
                let mut container = container(world, resident.application, need, id);
                free_vcpus -= container.vcpus_on(kind).unwrap_or(container.edge_vcpus);
                container.movable = resident.phase == Phase::Running
                    && !observation.migrates(resident.request, resident.index)
                    && resident.expected_left_mi > self.moved_mi(world, h, need);
                self.residents.push(Resident { container, node: h });
                self.names.push(Name {
                    request: resident.request,
                    fragment: resident.index,
                    ram_mib: need.ram_mib,
                });
            }
            self.nodes.push(Node { kind, free_vcpus });
        }
        self.count_arriving(observation);
    }

    /// Counts what is on its way in where it goes.
    fn count_arriving(&mut self, observation: &Observation<'_>) {
        for migration in observation.migrations() {
            let place = self.names.iter().position(|name| {
                (name.request, name.fragment) == (migration.request, migration.fragment)
            });
            let Some(place) = place else { continue };
            let resident = &self.residents[place];
            let to = migration.to.index();
            if resident.node != to {
                let node = &mut self.nodes[to];
                let share = resident.container.vcpus_on(node.kind);
                node.free_vcpus -= share.unwrap_or(resident.container.edge_vcpus);
            }
        }
    }

    /// Work that a fragment on host `h` does on its share while its memory is copied to the nearest
    /// host of the other kind, in MI.
    fn moved_mi(&self, world: &World, h: usize, need: Need) -> f64 {
        let there = |other: &usize| kind_of(world, *other) != kind_of(world, h);
        let Some(other) = (0..world.hosts.len()).find(there) else {
            return f64::INFINITY;
        };
        let bandwidth = nominal_bandwidth(world, (HostId::at(h), HostId::at(other)));
        let copy_s = need.ram_mib * 8.0 * 1024.0 * 1024.0 / (bandwidth.0 * 1e6);
        copy_s * need.edge_vcpus * world.size_of(h).mips_per_vcpu.0
    }

    /// Finds hosts for all fragments of a request, or leaves it waiting.
    fn deploy(&mut self, world: &World, request: &WaitingRequest, decision: &mut Decision) {
        let a = request.application.index();
        let late = request.age > world.applications[a].deadline;
        let (nodes, moves) = (self.nodes.clone(), decision.migrations.len());
        let residents = self.residents.clone();
        let mut hosts = Vec::new();
        for k in 0..self.needs[a].len() {
            let need = self.needs[a][k];
            let new = container(world, request.application, need, u32::MAX);
            let chosen = self.place(world, &new, need.ram_mib, decision);
            let Some(host) = chosen.or_else(|| late.then(|| self.roomiest(world, need)).flatten())
            else {
                self.nodes = nodes;
                self.residents = residents;
                decision.migrations.truncate(moves);
                return;
            };
            let node = &mut self.nodes[host];
            node.free_vcpus -= new.vcpus_on(node.kind).unwrap_or(new.edge_vcpus);
            hosts.push(HostId::at(host));
        }
        decision.deployments.push(Deployment {
            request: request.id,
            variant: self.variants[a],
            hosts,
        });
    }

    /// The host for a new container by the rule, once those who make room have been told to leave.
    fn place(
        &mut self,
        world: &World,
        new: &Container,
        ram_mib: f64,
        decision: &mut Decision,
    ) -> Option<usize> {
        let holds = |h: usize, ram_mib: f64| world.ram_for_fragments(h).0 >= ram_mib;
        let mut nodes = self.nodes.clone();
        for (h, node) in nodes.iter_mut().enumerate() {
            if !holds(h, ram_mib) {
                node.free_vcpus = f64::NEG_INFINITY;
            }
        }
        loop {
            match plan::place(&nodes, &self.residents, new) {
                Plan::Edge { node } | Plan::Cloud { node } => return Some(node),
                Plan::Wait => return None,
                Plan::EdgeAfter { node, victims } => {
                    let too_large = |m: &&Move| !holds(m.to, self.names[m.id as usize].ram_mib);
                    if let Some(&Move { id, .. }) = victims.iter().find(too_large) {
                        // Nobody told the rule of memory: it asks again without this one.
                        self.residents[id as usize].container.movable = false;
                        continue;
                    }
                    for victim in victims {
                        self.order(victim, decision);
                    }
                    return Some(node);
                }
            }
        }
    }

    /// Orders a move, and counts it as done.
    fn order(&mut self, moved: Move, decision: &mut Decision) {
        let name = self.names[moved.id as usize];
        let resident = &mut self.residents[moved.id as usize];
        for (node, sign) in [(moved.from, 1.0), (moved.to, -1.0)] {
            let node = &mut self.nodes[node];
            let share = resident.container.vcpus_on(node.kind);
            node.free_vcpus += sign * share.unwrap_or(resident.container.edge_vcpus);
        }
        resident.node = moved.to;
        resident.container.movable = false;
        decision.migrations.push(Migration {
            request: name.request,
            fragment: name.fragment,
            to: HostId::at(moved.to),
            strategy: None,
        });
    }

    /// The open host that can hold the fragment and has most room.
    fn roomiest(&self, world: &World, need: Need) -> Option<usize> {
        (0..self.nodes.len())
            .filter(|&h| {
                self.nodes[h].free_vcpus > f64::NEG_INFINITY
                    && world.ram_for_fragments(h).0 >= need.ram_mib
            })
            .max_by(|&a, &b| {
                let (a_free, b_free) = (self.nodes[a].free_vcpus, self.nodes[b].free_vcpus);
                a_free.total_cmp(&b_free).then(b.cmp(&a))
            })
    }

    /// Brings containers back to the edge where there is room again.
    fn bring_back(&mut self, observation: &Observation<'_>, decision: &mut Decision) {
        for back in plan::returns(&self.nodes, &self.residents, self.headroom_vcpus) {
            let host = HostId::at(back.to);
            let room_mib = if observation.lifecycle(host).serves() {
                observation.ram_free_mib(host)
            } else {
                0.0
            };
            if self.names[back.id as usize].ram_mib <= room_mib {
                self.order(back, decision);
            }
        }
    }
}

impl Policy for EdgeController {
    fn name(&self) -> &str {
        "edge-controller"
    }

    fn decide(
        &mut self,
        observation: &Observation<'_>,
        decision: &mut Decision,
    ) -> Result<(), PolicyError> {
        let world = observation.world();
        self.observe(observation);
        if observation.may_provision() {
            for h in 0..observation.host_count() {
                let host = HostId::at(h);
                if !observation.lifecycle(host).accepts() {
                    decision.provisioning.push(PowerAction { host, on: true });
                }
            }
        }
        for request in observation.waiting() {
            self.deploy(world, &request, decision);
        }
        if observation.may_provision()
            && observation.waiting().count() == decision.deployments.len()
        {
            self.bring_back(observation, decision);
        }
        Ok(())
    }
}

/// Whether host `h` stands at the edge.
fn kind_of(world: &World, h: usize) -> SiteKind {
    world.sites[world.hosts[h].site.index()].kind
}

fn container(world: &World, application: ApplicationId, need: Need, id: u32) -> Container {
    Container {
        id,
        tolerated_s: world.applications[application.index()].deadline.seconds(),
        edge_vcpus: need.edge_vcpus,
        cloud_vcpus: need.cloud_vcpus,
        movable: false,
    }
}

/// What the fragments of a variant need, with the work that is expected of a request.
fn needs(world: &World, application: ApplicationId, variant: VariantId) -> Vec<Need> {
    let a = application.index();
    let fragments = &world.variant(application, variant).fragments;
    let known = Known {
        context_tokens: demand::to_tokens(world.applications[a].mean_context_tokens),
        generated_tokens: None,
        attained_mi: 0.0,
    };
    let work_mi: f64 = (fragments.iter())
        .map(|fragment| demand::expected_mi(world, a, fragment, known))
        .sum();
    (fragments.iter())
        .map(|fragment| {
            let cap = world.caps[fragment.cap];
            let share = |kind| share_vcpus(world, a, kind, work_mi);
            Need {
                edge_vcpus: share(SiteKind::Edge).map_or(cap, |x| x.min(cap)),
                cloud_vcpus: share(SiteKind::Cloud).filter(|x| *x <= cap),
                ram_mib: world.needs_mib(fragment),
            }
        })
        .collect()
}

/// The share on which a request of application `a` with `work_mi` is in time at sites of `kind`, in
/// vCPUs; `None` if there are none, or the way alone takes too long.
fn share_vcpus(world: &World, a: usize, kind: SiteKind, work_mi: f64) -> Option<f64> {
    let application = &world.applications[a];
    let hosts = (0..world.hosts.len()).filter(|&h| kind_of(world, h) == kind);
    let (mut mips, mut way_s) = (f64::INFINITY, 0.0_f64);
    for h in hosts {
        let size = world.size_of(h);
        let bytes = application.input_bytes
            + application.input_bytes_per_context_token * application.mean_context_tokens;
        let input_s = bytes * 8.0 / (size.network.0 * 1e6);
        let latency_s = world.sites[world.hosts[h].site.index()]
            .user_latency
            .seconds();
        mips = mips.min(size.mips_per_vcpu.0);
        way_s = way_s.max(2.0 * latency_s + input_s);
    }
    let left_s = application.deadline.seconds() - way_s;
    (mips.is_finite() && left_s > 0.0).then(|| work_mi / (mips * left_s))
}

#[cfg(test)]
mod tests;
