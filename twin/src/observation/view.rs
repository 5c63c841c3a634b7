//! An observation as a plain value, for files and for the wire.

use serde::{Deserialize, Serialize};

use super::{MigrationView, Observation};
use crate::host::Lifecycle;
use crate::ids::{ApplicationId, ContainerId, HostId, ModelId, RequestId, VariantId};
use crate::network::{Delivery, Endpoint};
use crate::state::{Deployed, Epoch, Phase, Request, TimerKind};
use crate::units::SimTime;
use crate::workload::RATE_WINDOWS;

impl Observation<'_> {
    /// This observation as a plain value.
    #[must_use]
    pub fn view(&self) -> FleetView {
        FleetView {
            now: self.state.now,
            epoch: self.epoch,
            next_boundary: self.state.next_boundary,
            next_request: self.state.next_request,
            hosts: (0..self.host_count()).map(|h| self.host_view(h)).collect(),
            requests: self.request_views(),
            transfers: self.transfer_views(),
            migrations: self.migrations().collect(),
            rates_per_s: self.rates().collect(),
        }
    }

    fn host_view(&self, h: usize) -> HostView {
        let host = &self.state.hosts[h];
        let loading = host
            .resident
            .iter()
            .filter(|&&slot| self.state.fragments[slot as usize].phase == Phase::Loading);
        HostView {
            lifecycle: host.lifecycle,
            queue: loading
                .chain(&host.queue)
                .map(|&slot| self.fragment_ref(slot))
                .collect(),
            resident: host
                .resident
                .iter()
                .map(|&slot| self.fragment_ref(slot))
                .collect(),
            speed: host.speed(),
            credits: host.credits.map(|account| account.balance()),
            waiting_containers: self.waiting_containers(HostId::at(h)),
            models: host
                .models
                .iter()
                .map(|loaded| ModelView {
                    model: loaded.model,
                    ready_at: loaded.ready_at,
                    unused_since: loaded.unused_since,
                })
                .collect(),
        }
    }

    fn waiting_containers(&self, host: HostId) -> Vec<ContainerId> {
        let waiting = self.containers(host).filter(|container| container.waits);
        let mut ids: Vec<ContainerId> = waiting.map(|container| container.id).collect();
        ids.sort_unstable();
        ids
    }

    fn fragment_ref(&self, slot: u32) -> FragmentRef {
        let run = &self.state.fragments[slot as usize];
        FragmentRef {
            request: self.state.requests[run.request as usize].id,
            fragment: run.index,
        }
    }

    fn request_views(&self) -> Vec<RequestView> {
        let mut views: Vec<RequestView> = self
            .state
            .active
            .iter()
            .map(|&slot| {
                let request = &self.state.requests[slot as usize];
                RequestView {
                    id: request.id,
                    application: request.application,
                    arrived: request.arrived,
                    context_tokens: request.context_tokens,
                    generated_tokens: request.generated_known.then_some(request.generated_tokens),
                    started: request.started,
                    deployed: request.deployed.map(|d| self.deployed_view(request, d)),
                }
            })
            .collect();
        views.sort_by_key(|v| v.id);
        views
    }

    fn deployed_view(&self, request: &Request, deployed: Deployed) -> DeployedView {
        let count = self
            .world
            .variant(request.application, deployed.variant)
            .fragments
            .len();
        DeployedView {
            variant: deployed.variant,
            outputs_left: deployed.outputs_left,
            fragments: (deployed.first..)
                .take(count)
                .map(|slot| {
                    let run = &self.state.fragments[slot as usize];
                    FragmentView {
                        host: run.host,
                        phase: match run.phase {
                            Phase::Loading => Phase::Queued,
                            phase => phase,
                        },
                        inputs_left: run.inputs_left,
                        attained_mi: self.state.attained_mi(self.world, slot),
                    }
                })
                .collect(),
        }
    }

    fn transfer_views(&self) -> Vec<TransferView> {
        let target = |delivery: Delivery| match delivery {
            Delivery::Input { fragment } => {
                let reference = self.fragment_ref(fragment);
                Some((reference.request, Some(reference.fragment)))
            }
            Delivery::Output { request } => Some((self.state.requests[request as usize].id, None)),
            // Their views tell how far they are.
            Delivery::Migration { .. } => None,
        };
        let mut views: Vec<TransferView> = self
            .state
            .network
            .transfers()
            .into_iter()
            .filter_map(|t| {
                let (request, fragment) = target(t.delivery)?;
                let progress = Progress::Sending {
                    from: t.from,
                    bits_left: t.bits_left(self.state.now),
                };
                Some(TransferView {
                    request,
                    fragment,
                    progress,
                })
            })
            .collect();
        let mut timers: Vec<_> = self.state.timers.iter().map(|t| t.0).collect();
        timers.sort_unstable();
        for timer in timers {
            let delivery = match timer.kind {
                TimerKind::Boot(_)
                | TimerKind::Loaded(_)
                | TimerKind::Fault(_)
                | TimerKind::Migration(_) => continue,
                TimerKind::Input(fragment) => Delivery::Input { fragment },
                TimerKind::Output(request) => Delivery::Output { request },
            };
            let Some((request, fragment)) = target(delivery) else {
                continue;
            };
            let progress = Progress::Arriving { at: timer.at };
            views.push(TransferView {
                request,
                fragment,
                progress,
            });
        }
        views
    }
}

/// What can be observed of a fleet, as a plain value.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct FleetView {
    /// The time.
    pub now: SimTime,
    /// Why a decision is due.
    pub epoch: Epoch,
    /// The next interval boundary.
    pub next_boundary: SimTime,
    /// The number that the next request will get.
    pub next_request: u64,
    /// One entry a host of the world, in its order.
    pub hosts: Vec<HostView>,
    /// Requests under way, by id.
    pub requests: Vec<RequestView>,
    /// Transfers under way.
    pub transfers: Vec<TransferView>,
    /// Migrations under way, in the order in which they were asked for.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub migrations: Vec<MigrationView>,
    /// Arrival rates of each application, in requests per second, one a time constant.
    pub rates_per_s: Vec<[f64; RATE_WINDOWS]>,
}

/// What can be observed of a host.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct HostView {
    /// Where it is in its life.
    pub lifecycle: Lifecycle,
    /// Fragments that wait for a model, for memory or the boot, first in first out.
    pub queue: Vec<FragmentRef>,
    /// Fragments placed here that have not ended, in the order of placement.
    pub resident: Vec<FragmentRef>,
    /// Speed relative to the rated one.
    pub speed: f64,
    /// CPU credits left; `None` where the size has none or the VM does not run.
    pub credits: Option<f64>,
    /// Models that are loaded or being loaded.
    pub models: Vec<ModelView>,
    /// Containers that wait for memory; the others of the host that run hold theirs, if it serves.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub waiting_containers: Vec<ContainerId>,
}

/// What can be observed of a model on a host.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct ModelView {
    /// The model.
    pub model: ModelId,
    /// When it is loaded, or was.
    pub ready_at: SimTime,
    /// Since when nothing uses it; where something does, of no meaning.
    pub unused_since: SimTime,
}

/// Names a fragment of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FragmentRef {
    /// The request.
    pub request: RequestId,
    /// Position of the fragment in its variant.
    pub fragment: u16,
}

/// What can be observed of a request.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct RequestView {
    /// The request.
    pub id: RequestId,
    /// What it asks for.
    pub application: ApplicationId,
    /// When it arrived.
    pub arrived: SimTime,
    /// Length of its input, in tokens.
    pub context_tokens: u32,
    /// Length of its answer, where a finished fragment has told.
    pub generated_tokens: Option<u32>,
    /// When its first fragment started.
    pub started: Option<SimTime>,
    /// How it was deployed; `None` while it waits.
    pub deployed: Option<DeployedView>,
}

/// How a request was deployed.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct DeployedView {
    /// The variant.
    pub variant: VariantId,
    /// Outputs that the users still wait for.
    pub outputs_left: u16,
    /// One entry a fragment of the variant.
    pub fragments: Vec<FragmentView>,
}

/// What can be observed of a fragment.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct FragmentView {
    /// Where it is placed.
    pub host: HostId,
    /// Where it is in its life.
    pub phase: Phase,
    /// Inputs it still waits for.
    pub inputs_left: u16,
    /// Service it has had, in MI.
    pub attained_mi: f64,
}

/// A transfer under way.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct TransferView {
    /// The request it belongs to.
    pub request: RequestId,
    /// The fragment it goes to; `None` for an output to the users.
    pub fragment: Option<u16>,
    /// How far it is.
    pub progress: Progress,
}

/// How far a transfer is.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Progress {
    /// Bits are being sent.
    Sending {
        /// Who sends.
        from: Endpoint,
        /// What is left, in bits.
        bits_left: f64,
    },
    /// All bits are sent; the last arrives after the latency.
    Arriving {
        /// When.
        at: SimTime,
    },
}
