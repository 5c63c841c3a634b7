//! The independent checker: holds a decision against what is observed, before it is carried out.
//!
//! It shares no code with the policies and knows nothing of how a decision was found.

use std::collections::{BTreeMap, BTreeSet};

use thiserror::Error;

use crate::decision::Decision;
use crate::ids::{ApplicationId, HostId, RequestId, VariantId};
use crate::observation::Observation;
use crate::state::Phase;
use crate::world::Fragment;

/// Why a decision cannot be carried out.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum Infeasible {
    /// Hosts may be turned on and off at boundaries only.
    #[error("provisioning[{index}]: hosts are turned on and off at interval boundaries only")]
    NotNow {
        /// Position in the decision.
        index: usize,
    },
    /// The host does not exist or is named twice.
    #[error("provisioning[{index}].host: host {host} does not exist or is named twice")]
    Host {
        /// Position in the decision.
        index: usize,
        /// The host.
        host: HostId,
    },
    /// The request does not wait, or is named twice.
    #[error("deployments[{index}].request: request {request} does not wait or is named twice")]
    Request {
        /// Position in the decision.
        index: usize,
        /// The request.
        request: RequestId,
    },
    /// The application has no such variant.
    #[error("deployments[{index}].variant: the application has no variant {variant}")]
    Variant {
        /// Position in the decision.
        index: usize,
        /// The variant.
        variant: VariantId,
    },
    /// There must be one host for each fragment.
    #[error("deployments[{index}].hosts: the variant has {wanted} fragments, found {found} hosts")]
    HostCount {
        /// Position in the decision.
        index: usize,
        /// Fragments of the variant.
        wanted: usize,
        /// Hosts in the decision.
        found: usize,
    },
    /// The host does not take new fragments.
    #[error(
        "deployments[{index}].hosts[{fragment}]: host {host} does not exist or takes no fragments"
    )]
    Closed {
        /// Position in the decision.
        index: usize,
        /// The fragment.
        fragment: usize,
        /// The host.
        host: HostId,
    },
    /// The fragment can never fit into the host's memory.
    #[error(
        "deployments[{index}].hosts[{fragment}]: the fragment needs more memory than host {host} has"
    )]
    Memory {
        /// Position in the decision.
        index: usize,
        /// The fragment.
        fragment: usize,
        /// The host.
        host: HostId,
    },
    /// A fragment cannot be migrated.
    #[error("migrations[{index}].{problem}")]
    Migration {
        /// Position in the decision.
        index: usize,
        /// Field and reason.
        problem: Immovable,
    },
}

/// Why a migration cannot be carried out.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum Immovable {
    /// There is no such fragment, or it does not run.
    #[error("request: the fragment does not exist or does not run")]
    Fragment,
    /// It is being migrated, or is named twice.
    #[error("request: the fragment is already being migrated or is named twice")]
    Moving,
    /// It is there.
    #[error("to: the fragment is on this host")]
    There,
    /// The host does not take fragments.
    #[error("to: the host does not exist or takes no fragments")]
    Closed,
    /// The fragment can never fit into the host's memory.
    #[error("to: the fragment needs more memory than the host has")]
    Memory,
}

impl Infeasible {
    /// Path of the field that is wrong, as in `deployments[2].hosts[0]`.
    #[must_use]
    pub fn field(&self) -> String {
        self.parts().0
    }

    /// What is wrong with it.
    #[must_use]
    pub fn problem(&self) -> String {
        self.parts().1
    }

    /// The message begins with the path.
    fn parts(&self) -> (String, String) {
        let message = self.to_string();
        match message.split_once(": ") {
            Some((field, problem)) => (field.into(), problem.into()),
            None => (String::new(), message),
        }
    }
}

/// Whether `decision` can be carried out in the situation of `observation`.
///
/// # Errors
///
/// The first reason why it cannot.
pub fn check(observation: &Observation<'_>, decision: &Decision) -> Result<(), Infeasible> {
    match check_all(observation, decision, 1).pop() {
        None => Ok(()),
        Some(reason) => Err(reason),
    }
}

/// Every reason why `decision` cannot be carried out, in the order of its fields; no more than
/// the first `most`.
///
/// What a wrong part makes meaningless is not looked at: the hosts of a request that does not
/// wait are not judged.
#[must_use]
pub fn check_all(
    observation: &Observation<'_>,
    decision: &Decision,
    most: usize,
) -> Vec<Infeasible> {
    let plan = Plan::new(observation, decision);
    let mut found = Vec::new();
    for index in 0..decision.provisioning.len() {
        if found.len() >= most {
            return found;
        }
        found.extend(plan.power(index));
    }
    for index in 0..decision.deployments.len() {
        if found.len() >= most {
            break;
        }
        plan.deployment(index, &mut found);
    }
    for index in 0..decision.migrations.len() {
        if found.len() >= most {
            break;
        }
        let problem = plan.immovable(index);
        found.extend(problem.map(|problem| Infeasible::Migration { index, problem }));
    }
    found.truncate(most);
    found
}

/// Where a fragment is.
#[derive(Clone, Copy)]
struct Placed<'a> {
    host: HostId,
    phase: Phase,
    fragment: &'a Fragment,
}

/// Lists of up to this many actions are searched as they are: that is faster than to index them.
const FEW: usize = 8;

/// A decision next to what is observed, so that looking a thing up does not mean a long search.
struct Plan<'a> {
    observation: &'a Observation<'a>,
    decision: &'a Decision,
    /// Whether no list is long, so that power actions, deployments and waiting requests are not
    /// indexed.
    is_short: bool,
    /// The first power action of each host.
    powers: BTreeMap<HostId, usize>,
    /// The requests that wait, if any is deployed.
    waiting: BTreeMap<RequestId, ApplicationId>,
    /// The first deployment of each request.
    deployed: BTreeMap<RequestId, usize>,
    /// The fragments that are placed, if any is migrated.
    placed: BTreeMap<(RequestId, u16), Placed<'a>>,
    /// The fragments that are being migrated.
    moving: BTreeSet<(RequestId, u16)>,
    /// The first migration of each fragment.
    moved: BTreeMap<(RequestId, u16), usize>,
}

impl<'a> Plan<'a> {
    fn new(observation: &'a Observation<'a>, decision: &'a Decision) -> Self {
        let is_short = decision.provisioning.len().max(decision.deployments.len()) <= FEW;
        let mut waiting = BTreeMap::new();
        if !is_short {
            waiting.extend(observation.waiting().map(|w| (w.id, w.application)));
        }
        let (mut placed, mut moving) = (BTreeMap::new(), BTreeSet::new());
        if !decision.migrations.is_empty() {
            moving.extend(observation.migrations().map(|m| (m.request, m.fragment)));
            for host in (0..observation.host_count()).map(HostId::at) {
                placed.extend(observation.residents(host).map(|r| {
                    let (phase, fragment) = (r.phase, r.fragment);
                    let place = Placed {
                        host,
                        phase,
                        fragment,
                    };
                    ((r.request, r.index), place)
                }));
            }
        }
        let (mut powers, mut deployed) = (BTreeMap::new(), BTreeMap::new());
        if !is_short {
            powers = firsts(decision.provisioning.iter().map(|a| a.host));
            deployed = firsts(decision.deployments.iter().map(|d| d.request));
        }
        Self {
            observation,
            decision,
            is_short,
            powers,
            waiting,
            deployed,
            placed,
            moving,
            moved: firsts(decision.migrations.iter().map(|m| (m.request, m.fragment))),
        }
    }

    /// The first power action of `host`.
    fn first_power(&self, host: HostId) -> Option<usize> {
        if self.is_short {
            let actions = &self.decision.provisioning;
            actions.iter().position(|action| action.host == host)
        } else {
            self.powers.get(&host).copied()
        }
    }

    /// The first deployment of `request`.
    fn first_deployment(&self, request: RequestId) -> Option<usize> {
        if self.is_short {
            let deployments = &self.decision.deployments;
            deployments.iter().position(|d| d.request == request)
        } else {
            self.deployed.get(&request).copied()
        }
    }

    /// What `request` asks for, if it waits.
    fn waiting(&self, request: RequestId) -> Option<ApplicationId> {
        if self.is_short {
            let mut waiting = self.observation.waiting();
            waiting.find(|w| w.id == request).map(|w| w.application)
        } else {
            self.waiting.get(&request).copied()
        }
    }

    /// Why the power action at `index` cannot be carried out, if it cannot.
    fn power(&self, index: usize) -> Option<Infeasible> {
        if !self.observation.may_provision() {
            return Some(Infeasible::NotNow { index });
        }
        let host = self.decision.provisioning[index].host;
        let repeated = self.first_power(host) != Some(index);
        let unknown = host.index() >= self.observation.host_count();
        (unknown || repeated).then_some(Infeasible::Host { index, host })
    }

    /// Adds why the deployment at `index` cannot be carried out.
    fn deployment(&self, index: usize, found: &mut Vec<Infeasible>) {
        let deployment = &self.decision.deployments[index];
        let request = deployment.request;
        let repeated = self.first_deployment(request) != Some(index);
        let (Some(application), false) = (self.waiting(request), repeated) else {
            found.push(Infeasible::Request { index, request });
            return;
        };
        let world = self.observation.world();
        let application = &world.applications[application.index()];
        let Some(variant) = application.variants.get(deployment.variant.index()) else {
            let variant = deployment.variant;
            found.push(Infeasible::Variant { index, variant });
            return;
        };
        let (wanted, hosts) = (variant.fragments.len(), deployment.hosts.len());
        if wanted != hosts {
            found.push(Infeasible::HostCount {
                index,
                wanted,
                found: hosts,
            });
            return;
        }
        for (fragment, &host) in deployment.hosts.iter().enumerate() {
            if !self.accepts_after(host) {
                found.push(Infeasible::Closed {
                    index,
                    fragment,
                    host,
                });
            } else if !self.fits(&variant.fragments[fragment], host) {
                found.push(Infeasible::Memory {
                    index,
                    fragment,
                    host,
                });
            }
        }
    }

    /// Why the migration at `index` cannot be carried out, if it cannot.
    fn immovable(&self, index: usize) -> Option<Immovable> {
        let migration = &self.decision.migrations[index];
        let named = (migration.request, migration.fragment);
        let Some(placed) = self.placed.get(&named) else {
            return Some(Immovable::Fragment);
        };
        if self.moving.contains(&named) {
            return Some(Immovable::Moving);
        }
        if placed.phase != Phase::Running {
            return Some(Immovable::Fragment);
        }
        if migration.to == placed.host {
            return Some(Immovable::There);
        }
        if !self.accepts_after(migration.to) {
            return Some(Immovable::Closed);
        }
        if !self.fits(placed.fragment, migration.to) {
            return Some(Immovable::Memory);
        }
        (self.moved.get(&named) != Some(&index)).then_some(Immovable::Moving)
    }

    /// Whether `host` exists and takes fragments once the decision's provisioning has been
    /// carried out.
    fn accepts_after(&self, host: HostId) -> bool {
        if host.index() >= self.observation.host_count() {
            return false;
        }
        match self.first_power(host) {
            Some(first) => self.decision.provisioning[first].on,
            None => self.observation.lifecycle(host).accepts(),
        }
    }

    /// Whether `fragment` can ever fit into the memory of `host`.
    fn fits(&self, fragment: &Fragment, host: HostId) -> bool {
        let world = self.observation.world();
        world.needs_mib(fragment) <= world.ram_for_fragments(host.index()).0
    }
}

/// The first position of each of `names`.
fn firsts<K: Ord>(
    names: impl ExactSizeIterator<Item = K> + DoubleEndedIterator,
) -> BTreeMap<K, usize> {
    // The last one that is put in stays, so the first goes last.
    names
        .enumerate()
        .rev()
        .map(|(at, name)| (name, at))
        .collect()
}

#[cfg(test)]
mod tests;
