//! The independent checker: holds a decision against what is observed, before it is carried out.
//!
//! It shares no code with the policies and knows nothing of how a decision was found.

use thiserror::Error;

use crate::decision::{Decision, Migration};
use crate::ids::{HostId, RequestId, VariantId};
use crate::observation::Observation;
use crate::state::Phase;

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

/// Whether `decision` can be carried out in the situation of `observation`.
///
/// # Errors
///
/// The first reason why it cannot.
pub fn check(observation: &Observation<'_>, decision: &Decision) -> Result<(), Infeasible> {
    let hosts = observation.host_count();
    for (index, action) in decision.provisioning.iter().enumerate() {
        if !observation.may_provision() {
            return Err(Infeasible::NotNow { index });
        }
        let host = action.host;
        let repeated = decision.provisioning[..index]
            .iter()
            .any(|a| a.host == host);
        if host.index() >= hosts || repeated {
            return Err(Infeasible::Host { index, host });
        }
    }
    for (index, deployment) in decision.deployments.iter().enumerate() {
        let request = deployment.request;
        let waiting = observation.waiting().find(|w| w.id == request);
        let repeated = decision.deployments[..index]
            .iter()
            .any(|d| d.request == request);
        let (Some(waiting), false) = (waiting, repeated) else {
            return Err(Infeasible::Request { index, request });
        };
        let application = &observation.world().applications[waiting.application.index()];
        let Some(variant) = application.variants.get(deployment.variant.index()) else {
            return Err(Infeasible::Variant {
                index,
                variant: deployment.variant,
            });
        };
        let (wanted, found) = (variant.fragments.len(), deployment.hosts.len());
        if wanted != found {
            return Err(Infeasible::HostCount {
                index,
                wanted,
                found,
            });
        }
        for (fragment, &host) in deployment.hosts.iter().enumerate() {
            if host.index() >= hosts || !accepts_after(observation, decision, host) {
                return Err(Infeasible::Closed {
                    index,
                    fragment,
                    host,
                });
            }
            let ram = observation.world().ram_for_fragments(host.index());
            if observation.world().needs_mib(&variant.fragments[fragment]) > ram.0 {
                return Err(Infeasible::Memory {
                    index,
                    fragment,
                    host,
                });
            }
        }
    }
    for (index, migration) in decision.migrations.iter().enumerate() {
        let earlier = &decision.migrations[..index];
        let named =
            |m: &Migration| (m.request, m.fragment) == (migration.request, migration.fragment);
        let problem = match immovable(observation, decision, migration) {
            None if earlier.iter().any(named) => Some(Immovable::Moving),
            problem => problem,
        };
        if let Some(problem) = problem {
            return Err(Infeasible::Migration { index, problem });
        }
    }
    Ok(())
}

/// Why `migration` cannot be carried out, if it cannot.
fn immovable(
    observation: &Observation<'_>,
    decision: &Decision,
    migration: &Migration,
) -> Option<Immovable> {
    let hosts = observation.host_count();
    let here = (0..hosts).map(HostId::at).find_map(|host| {
        let mut residents = observation.residents(host);
        let found =
            residents.find(|r| (r.request, r.index) == (migration.request, migration.fragment))?;
        Some((host, found))
    });
    let Some((from, resident)) = here else {
        return Some(Immovable::Fragment);
    };
    if observation.migrates(migration.request, migration.fragment) {
        return Some(Immovable::Moving);
    }
    if resident.phase != Phase::Running {
        return Some(Immovable::Fragment);
    }
    if migration.to == from {
        return Some(Immovable::There);
    }
    if migration.to.index() >= hosts || !accepts_after(observation, decision, migration.to) {
        return Some(Immovable::Closed);
    }
    let world = observation.world();
    let ram = world.ram_for_fragments(migration.to.index());
    (world.needs_mib(resident.fragment) > ram.0).then_some(Immovable::Memory)
}

/// Whether `host` takes fragments once the decision's provisioning has been carried out.
fn accepts_after(observation: &Observation<'_>, decision: &Decision, host: HostId) -> bool {
    match decision.provisioning.iter().find(|a| a.host == host) {
        Some(action) => action.on,
        None => observation.lifecycle(host).accepts(),
    }
}
