//! What a policy can observe: everything but the future and the work that is left.
//!
//! An [`Observation`] borrows the state and shows only what an operator could measure. A
//! [`FleetView`] is the same as a plain value, for files and for the wire; a state that is made of
//! it ([`State::from_view`]) gives every policy the same answers.

mod build;
mod migrations;
mod view;

use crate::container::Stage;
use crate::demand::{self, Known};
use crate::host::Lifecycle;
use crate::ids::{ApplicationId, ContainerId, HostId, RequestId};
use crate::state::{Epoch, Phase, State};
use crate::units::{Mips, SimTime};
use crate::workload::RATE_WINDOWS;
use crate::world::{Fragment, World};

pub use build::ViewError;
pub use migrations::MigrationView;
pub use view::{
    DeployedView, FleetView, FragmentRef, FragmentView, HostView, ModelView, Progress, RequestView,
    TransferView,
};

/// What a policy sees when a decision is due.
#[derive(Clone, Copy, Debug)]
pub struct Observation<'a> {
    world: &'a World,
    state: &'a State,
    epoch: Epoch,
}

/// A request that waits to be deployed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WaitingRequest {
    /// The request.
    pub id: RequestId,
    /// What it asks for.
    pub application: ApplicationId,
    /// How long it has been waiting.
    pub age: SimTime,
    /// Length of its input, in tokens.
    pub context_tokens: u32,
}

/// A placed fragment that has not ended.
#[derive(Clone, Copy, Debug)]
pub struct ResidentFragment<'a> {
    /// Its request.
    pub request: RequestId,
    /// Its application.
    pub application: ApplicationId,
    /// Position in its variant.
    pub index: u16,
    /// What it is.
    pub fragment: &'a Fragment,
    /// Where it is in its life.
    pub phase: Phase,
    /// Age of its request.
    pub age: SimTime,
    /// Service it has had, in MI.
    pub attained_mi: f64,
    /// Expected work left, in MI.
    pub expected_left_mi: f64,
}

/// A long-running container on its host.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct ResidentContainer {
    /// The container.
    pub id: ContainerId,
    /// What it wants.
    pub demand: Mips,
    /// What it gets.
    pub served: Mips,
    /// Whether it waits for memory, on a host that serves.
    pub waits: bool,
}

impl<'a> Observation<'a> {
    /// The observation of `state` at an epoch.
    #[must_use]
    pub fn new(world: &'a World, state: &'a State, epoch: Epoch) -> Self {
        Self {
            world,
            state,
            epoch,
        }
    }

    /// The state behind the observation, for the estimates of this crate.
    pub(crate) fn state(&self) -> &'a State {
        self.state
    }

    /// The world.
    #[must_use]
    pub fn world(&self) -> &'a World {
        self.world
    }

    /// Why a decision is due.
    #[must_use]
    pub fn epoch(&self) -> Epoch {
        self.epoch
    }

    /// Whether hosts may be turned on and off.
    #[must_use]
    pub fn may_provision(&self) -> bool {
        self.epoch == Epoch::Boundary
    }

    /// The time.
    #[must_use]
    pub fn now(&self) -> SimTime {
        self.state.now
    }

    /// Number of hosts.
    #[must_use]
    pub fn host_count(&self) -> usize {
        self.state.hosts.len()
    }

    /// Where host `host` is in its life.
    #[must_use]
    pub fn lifecycle(&self, host: HostId) -> Lifecycle {
        self.state.hosts[host.index()].lifecycle
    }

    /// Utilization of host `host`, between 0 and 1.
    #[must_use]
    pub fn utilization(&self, host: HostId) -> f64 {
        self.state.hosts[host.index()].utilization
    }

    /// Memory of host `host` that no running fragment holds, in MiB.
    #[must_use]
    pub fn ram_free_mib(&self, host: HostId) -> f64 {
        self.state.hosts[host.index()].ram_free_mib
    }

    /// Fragments that run on host `host`.
    #[must_use]
    pub fn running_count(&self, host: HostId) -> usize {
        self.state.hosts[host.index()].running()
    }

    /// Fragments that wait on host `host` for memory or its boot.
    #[must_use]
    pub fn queued_count(&self, host: HostId) -> usize {
        self.state.hosts[host.index()].queue.len()
    }

    /// Fragments placed on host `host` that have not ended.
    #[must_use]
    pub fn resident_count(&self, host: HostId) -> usize {
        self.state.hosts[host.index()].resident.len()
    }

    /// The fragments placed on host `host` that have not ended, in the order of placement.
    pub fn residents(&self, host: HostId) -> impl Iterator<Item = ResidentFragment<'a>> + '_ {
        self.state.hosts[host.index()]
            .resident
            .iter()
            .filter_map(|&slot| self.resident(slot))
    }

    fn resident(&self, slot: u32) -> Option<ResidentFragment<'a>> {
        let run = &self.state.fragments[slot as usize];
        let request = &self.state.requests[run.request as usize];
        let variant = self
            .world
            .variant(request.application, request.deployed?.variant);
        let fragment = &variant.fragments[usize::from(run.index)];
        let attained_mi = self.state.attained_mi(self.world, slot);
        let known = Known {
            context_tokens: request.context_tokens,
            generated_tokens: request.generated_known.then_some(request.generated_tokens),
            attained_mi,
        };
        let expected =
            demand::expected_mi(self.world, request.application.index(), fragment, known);
        Some(ResidentFragment {
            request: request.id,
            application: request.application,
            index: run.index,
            fragment,
            phase: run.phase,
            age: self.state.now.since(request.arrived),
            attained_mi,
            expected_left_mi: expected - attained_mi,
        })
    }

    /// The containers of host `host` that have started and have not ended, whether or not the host
    /// serves; in no particular order.
    pub fn containers(&self, host: HostId) -> impl Iterator<Item = ResidentContainer> + '_ {
        let host = &self.state.hosts[host.index()];
        let running = host
            .containers
            .iter()
            .filter(|run| run.stage == Stage::Running);
        running.map(|run| ResidentContainer {
            id: run.id,
            demand: Mips(run.demand.mhz()),
            served: Mips(run.served.mhz()),
            waits: host.lifecycle.serves() && !run.seated,
        })
    }

    /// The requests that wait to be deployed, in the order of arrival.
    pub fn waiting(&self) -> impl Iterator<Item = WaitingRequest> + '_ {
        self.state.waiting.iter().map(|&slot| {
            let request = &self.state.requests[slot as usize];
            WaitingRequest {
                id: request.id,
                application: request.application,
                age: self.state.now.since(request.arrived),
                context_tokens: request.context_tokens,
            }
        })
    }

    /// Number of requests under way.
    #[must_use]
    pub fn active_count(&self) -> usize {
        self.state.active.len()
    }

    /// Arrival rates of each application in requests per second, one a time constant.
    pub fn rates(&self) -> impl Iterator<Item = [f64; RATE_WINDOWS]> + '_ {
        self.state.rates.iter().map(|r| r.at(self.state.now))
    }

    /// Moments of the recorded workload that resemble the present ([`World::analogs`]).
    #[must_use]
    pub fn analogs(&self) -> Vec<Vec<SimTime>> {
        self.world.analogs(self.state.now, &self.state.rates)
    }

    /// Makes `state` a possible state of the twin: what is observed is as it is, what is hidden
    /// is drawn anew by `key`.
    pub fn sample_into(&self, state: &mut State, key: u64) {
        state.clone_from(self.state);
        state.resample(self.world, key);
    }
}
