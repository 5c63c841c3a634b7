//! What a policy can observe: everything but the future and the work that is left.
//!
//! An [`Observation`] borrows the state and shows only what an operator could measure. A
//! [`FleetView`] is the same as a plain value, for files and for the wire; a state that is made of
//! it ([`State::from_view`]) gives every policy the same answers.

use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::demand::{self, Known};
use crate::host::{Host, Lifecycle};
use crate::ids::{ApplicationId, HostId, RequestId, VariantId};
use crate::network::{Delivery, Endpoint};
use crate::state::{Deployed, Epoch, FragmentRun, Phase, Request, State, TimerKind};
use crate::units::SimTime;
use crate::workload::{RATE_WINDOWS, Rates};
use crate::world::{Fragment, MAX_FRAGMENTS, World};

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

impl<'a> Observation<'a> {
    /// The observation of `state` at an epoch. The state must be settled ([`State::settle`]).
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
        self.state.hosts[host.index()].utilization()
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
            fragment,
            phase: run.phase,
            age: self.state.now.since(request.arrived),
            attained_mi,
            expected_left_mi: expected - attained_mi,
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
            rates_per_s: self.rates().collect(),
        }
    }

    fn host_view(&self, h: usize) -> HostView {
        let host = &self.state.hosts[h];
        HostView {
            lifecycle: host.lifecycle,
            queue: host
                .queue
                .iter()
                .map(|&slot| self.fragment_ref(slot))
                .collect(),
            resident: host
                .resident
                .iter()
                .map(|&slot| self.fragment_ref(slot))
                .collect(),
        }
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
                        phase: run.phase,
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
                (reference.request, Some(reference.fragment))
            }
            Delivery::Output { request } => (self.state.requests[request as usize].id, None),
        };
        let mut views: Vec<TransferView> = self
            .state
            .network
            .transfers
            .iter()
            .map(|t| {
                let (request, fragment) = target(t.delivery);
                let progress = Progress::Sending {
                    from: t.from,
                    bits_left: t.remaining_bits,
                };
                TransferView {
                    request,
                    fragment,
                    progress,
                }
            })
            .collect();
        let mut timers: Vec<_> = self.state.timers.iter().map(|t| t.0).collect();
        timers.sort_unstable();
        for timer in timers {
            let delivery = match timer.kind {
                TimerKind::Boot(_) => continue,
                TimerKind::Input(fragment) => Delivery::Input { fragment },
                TimerKind::Output(request) => Delivery::Output { request },
            };
            let (request, fragment) = target(delivery);
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
    /// Arrival rates of each application, in requests per second, one a time constant.
    pub rates_per_s: Vec<[f64; RATE_WINDOWS]>,
}

/// What can be observed of a host.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct HostView {
    /// Where it is in its life.
    pub lifecycle: Lifecycle,
    /// Fragments that wait for memory or the boot, first in first out.
    pub queue: Vec<FragmentRef>,
    /// Fragments placed here that have not ended, in the order of placement.
    pub resident: Vec<FragmentRef>,
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

/// Why a view is not a possible state of the world's fleet.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("{field}: {problem}")]
pub struct ViewError {
    /// Path of the field.
    pub field: String,
    /// What is wrong and what would be right.
    pub problem: String,
}

impl State {
    /// The state that `view` describes. What is hidden is set to what is expected.
    ///
    /// # Errors
    ///
    /// If the view does not fit the world or contradicts itself; the error names the field.
    pub fn from_view(world: &World, view: &FleetView) -> Result<Self, ViewError> {
        let mut build = Build::new(world, view);
        build.check_sizes()?;
        build.state.now = view.now;
        build.state.next_boundary = view.next_boundary;
        build.state.next_request = view.next_request;
        build.state.rates = view
            .rates_per_s
            .iter()
            .map(|&values| Rates::new(view.now, values))
            .collect();
        for i in 0..view.requests.len() {
            build.request(i)?;
        }
        for h in 0..view.hosts.len() {
            build.host(h)?;
        }
        build.transfers()?;
        build.balance()?;
        Ok(build.state)
    }
}

/// A state under construction.
struct Build<'a> {
    world: &'a World,
    view: &'a FleetView,
    state: State,
    /// Request ids and their slots, by id.
    slots: Vec<(RequestId, u32)>,
    /// Unfinished fragments placed on each host, and how many of them are queued.
    placed: Vec<(usize, usize)>,
    /// Whether each fragment has been listed as a resident, and as queued.
    listed: Vec<(bool, bool)>,
    /// Inputs of each fragment that are on their way.
    inputs: Vec<usize>,
    /// Outputs of each request that are on their way.
    outputs: Vec<usize>,
}

fn invalid<T>(field: String, problem: impl Into<String>) -> Result<T, ViewError> {
    Err(ViewError {
        field,
        problem: problem.into(),
    })
}

impl<'a> Build<'a> {
    fn new(world: &'a World, view: &'a FleetView) -> Self {
        Self {
            world,
            view,
            state: State::new(world),
            slots: Vec::with_capacity(view.requests.len()),
            placed: vec![(0, 0); world.hosts.len()],
            listed: Vec::new(),
            inputs: Vec::new(),
            outputs: vec![0; view.requests.len()],
        }
    }

    fn check_sizes(&self) -> Result<(), ViewError> {
        let (world, view) = (self.world, self.view);
        for (field, found, wanted) in [
            ("hosts", view.hosts.len(), world.hosts.len()),
            (
                "rates_per_s",
                view.rates_per_s.len(),
                world.applications.len(),
            ),
        ] {
            if found != wanted {
                let problem = format!("the world has {wanted}, found {found}");
                return invalid(field.into(), problem);
            }
        }
        for (i, rates) in view.rates_per_s.iter().enumerate() {
            if rates.iter().any(|r| !(r.is_finite() && *r >= 0.0)) {
                return invalid(
                    format!("rates_per_s[{i}]"),
                    "must be finite and not negative",
                );
            }
        }
        if view.next_boundary < view.now {
            return invalid("next_boundary".into(), "must not be before now");
        }
        Ok(())
    }

    fn slot(&self, id: RequestId) -> Option<u32> {
        self.slots
            .binary_search_by_key(&id, |s| s.0)
            .ok()
            .map(|i| self.slots[i].1)
    }

    fn request(&mut self, i: usize) -> Result<(), ViewError> {
        let view = &self.view.requests[i];
        let field = |name: &str| format!("requests[{i}].{name}");
        if i > 0 && self.view.requests[i - 1].id >= view.id {
            return invalid(
                field("id"),
                "requests must be sorted by id, without repetition",
            );
        }
        if view.id.0 >= self.view.next_request {
            return invalid(field("id"), "must be below next_request");
        }
        let Some(application) = self.world.applications.get(view.application.index()) else {
            let count = self.world.applications.len();
            return invalid(
                field("application"),
                format!("the world has {count} applications"),
            );
        };
        if view.arrived > self.view.now {
            return invalid(field("arrived"), "must not be after now");
        }
        if view
            .started
            .is_some_and(|s| s > self.view.now || s < view.arrived)
        {
            return invalid(field("started"), "must lie between arrived and now");
        }
        let expected = application
            .generated_tokens
            .as_deref()
            .map_or(0.0, |d| d.mean_given_exceeds(-1.0));
        let request = Request {
            id: view.id,
            application: view.application,
            arrived: view.arrived,
            context_tokens: view.context_tokens,
            generated_tokens: view.generated_tokens.unwrap_or_else(|| whole(expected)),
            generated_known: view.generated_tokens.is_some(),
            key: view.id.0,
            deployed: None,
            started: view.started,
            place: 0,
        };
        let slot = self.state.insert_request(request);
        self.slots.push((view.id, slot));
        if let Some(deployed) = &view.deployed {
            self.state.waiting.pop();
            self.deployed(i, slot, deployed)?;
        }
        Ok(())
    }

    fn deployed(&mut self, i: usize, slot: u32, view: &DeployedView) -> Result<(), ViewError> {
        let field = |name: &str| format!("requests[{i}].deployed.{name}");
        let request = self.state.requests[slot as usize];
        let variants = &self.world.applications[request.application.index()].variants;
        let Some(variant) = variants.get(view.variant.index()) else {
            let problem = format!("the application has {} variants", variants.len());
            return invalid(field("variant"), problem);
        };
        let count = variant.fragments.len();
        if view.fragments.len() != count || count > MAX_FRAGMENTS {
            let problem = format!("the variant has {count}, found {}", view.fragments.len());
            return invalid(field("fragments"), problem);
        }
        let sinks = variant.sinks().count();
        if view.outputs_left == 0 || usize::from(view.outputs_left) > sinks {
            return invalid(
                field("outputs_left"),
                format!("must lie between 1 and {sinks}"),
            );
        }
        let first = u32::try_from(self.state.fragments.len()).unwrap_or(u32::MAX);
        for (k, f) in view.fragments.iter().enumerate() {
            let field = |name: &str| format!("requests[{i}].deployed.fragments[{k}].{name}");
            if f.host.index() >= self.world.hosts.len() {
                return invalid(field("host"), format!("there is no host {}", f.host));
            }
            if !(f.attained_mi.is_finite() && f.attained_mi >= 0.0) {
                return invalid(field("attained_mi"), "must be finite and not negative");
            }
            let inputs = variant.fragments[k].predecessors.len().max(1);
            let waits = f.phase == Phase::Waiting;
            if usize::from(f.inputs_left) > inputs || waits != (f.inputs_left > 0) {
                let problem = format!("contradicts the phase or is above {inputs}");
                return invalid(field("inputs_left"), problem);
            }
            if f.attained_mi > 0.0 && f.phase != Phase::Running {
                return invalid(field("attained_mi"), "must be 0 unless the fragment runs");
            }
            let placed = &mut self.placed[f.host.index()];
            placed.0 += usize::from(f.phase != Phase::Done);
            placed.1 += usize::from(f.phase == Phase::Queued);
            self.listed.push((false, false));
            self.inputs.push(0);
            let known = Known {
                context_tokens: request.context_tokens,
                generated_tokens: request.generated_known.then_some(request.generated_tokens),
                attained_mi: f.attained_mi,
            };
            let application = request.application.index();
            let work = demand::expected_mi(self.world, application, &variant.fragments[k], known);
            self.state.fragments.push(FragmentRun {
                request: slot,
                index: u16::try_from(k).unwrap_or(u16::MAX),
                host: f.host,
                phase: f.phase,
                inputs_left: f.inputs_left,
                work_mi: work,
                started_at_mi: -f.attained_mi,
            });
        }
        self.state.requests[slot as usize].deployed = Some(Deployed {
            variant: view.variant,
            first,
            outputs_left: view.outputs_left,
        });
        Ok(())
    }

    /// The slot of a fragment that is on host `h` and has not ended.
    fn on_host(&self, h: usize, reference: FragmentRef, field: String) -> Result<u32, ViewError> {
        let found = self
            .slot(reference.request)
            .and_then(|slot| self.state.requests[slot as usize].deployed)
            .map(|d| d.first + u32::from(reference.fragment))
            .and_then(|slot| {
                self.state
                    .fragments
                    .get(slot as usize)
                    .map(|run| (slot, run))
            })
            .filter(|(_, run)| {
                run.index == reference.fragment
                    && run.host.index() == h
                    && run.phase != Phase::Done
                    && self.state.requests[run.request as usize].id == reference.request
            });
        match found {
            Some((slot, _)) => Ok(slot),
            None => invalid(
                field,
                format!(
                    "request {} has no unfinished fragment {} on this host",
                    reference.request, reference.fragment
                ),
            ),
        }
    }

    fn host(&mut self, h: usize) -> Result<(), ViewError> {
        let view = &self.view.hosts[h];
        let mut host = Host::new(self.world, h);
        host.updated = self.view.now;
        host.lifecycle = view.lifecycle;
        if let Lifecycle::Booting { ready_at } = view.lifecycle {
            if ready_at < self.view.now {
                return invalid(
                    format!("hosts[{h}].lifecycle.ready_at"),
                    "must not be before now",
                );
            }
            self.state
                .set_timer(ready_at, TimerKind::Boot(HostId::at(h)));
        }
        for (k, reference) in view.resident.iter().enumerate() {
            let field = format!("hosts[{h}].resident[{k}]");
            let slot = self.on_host(h, *reference, field.clone())?;
            if std::mem::replace(&mut self.listed[slot as usize].0, true) {
                return invalid(field, "is listed twice");
            }
            host.resident.push(slot);
            let run = self.state.fragments[slot as usize];
            if run.phase == Phase::Running {
                self.run(&mut host, slot, &run, field)?;
            }
        }
        for (k, reference) in view.queue.iter().enumerate() {
            let field = format!("hosts[{h}].queue[{k}]");
            let slot = self.on_host(h, *reference, field.clone())?;
            if self.state.fragments[slot as usize].phase != Phase::Queued
                || std::mem::replace(&mut self.listed[slot as usize].1, true)
            {
                return invalid(field, "is listed twice or its phase is not \"queued\"");
            }
            host.queue.push_back(slot);
        }
        self.complete(h, &host)?;
        self.state.hosts[h] = host;
        self.state.rebuild_finishes(self.world, h);
        Ok(())
    }

    /// Puts a running fragment into its class.
    fn run(
        &self,
        host: &mut Host,
        slot: u32,
        run: &FragmentRun,
        field: String,
    ) -> Result<(), ViewError> {
        if !host.lifecycle.serves() {
            return invalid(field, "runs on a host that does not serve");
        }
        let request = &self.state.requests[run.request as usize];
        let Some(deployed) = request.deployed else {
            return Ok(());
        };
        let variant = self.world.variant(request.application, deployed.variant);
        let fragment = &variant.fragments[usize::from(run.index)];
        host.ram_free_mib -= fragment.ram.0;
        if host.ram_free_mib < -1e-6 {
            return invalid(
                field,
                format!("the host's {} MiB are exceeded", host.ram_mib),
            );
        }
        host.classes[fragment.cap].start(slot, run.started_at_mi, run.work_mi);
        Ok(())
    }

    /// Every unfinished fragment on host `h` must be listed there.
    fn complete(&self, h: usize, host: &Host) -> Result<(), ViewError> {
        if host.lifecycle == Lifecycle::Off && !host.resident.is_empty() {
            return invalid(format!("hosts[{h}].resident"), "the host is off");
        }
        let (count, queued) = self.placed[h];
        if count != host.resident.len() {
            let listed = host.resident.len();
            let problem =
                format!("lists {listed} fragments, but {count} unfinished are placed here");
            return invalid(format!("hosts[{h}].resident"), problem);
        }
        if queued != self.view.hosts[h].queue.len() {
            let listed = self.view.hosts[h].queue.len();
            let problem = format!("lists {listed} fragments, but {queued} are queued here");
            return invalid(format!("hosts[{h}].queue"), problem);
        }
        Ok(())
    }

    fn transfers(&mut self) -> Result<(), ViewError> {
        self.state.network.advance(self.view.now);
        for (i, view) in self.view.transfers.iter().enumerate() {
            let field = |name: &str| format!("transfers[{i}].{name}");
            let Some(slot) = self.slot(view.request) else {
                return invalid(
                    field("request"),
                    format!("there is no request {}", view.request),
                );
            };
            let Some(deployed) = self.state.requests[slot as usize].deployed else {
                return invalid(field("request"), "is not deployed");
            };
            let (delivery, to) = match view.fragment {
                None => (Delivery::Output { request: slot }, Endpoint::User),
                Some(k) => {
                    let at = deployed.first + u32::from(k);
                    match self.state.fragments.get(at as usize) {
                        Some(run) if run.request == slot && run.phase == Phase::Waiting => {
                            (Delivery::Input { fragment: at }, Endpoint::Host(run.host))
                        }
                        _ => return invalid(field("fragment"), "does not wait for an input"),
                    }
                }
            };
            match delivery {
                Delivery::Input { fragment } => self.inputs[fragment as usize] += 1,
                Delivery::Output { request } => self.outputs[request as usize] += 1,
            }
            match view.progress {
                Progress::Arriving { at } if at < self.view.now => {
                    return invalid(field("progress.at"), "must not be before now");
                }
                Progress::Arriving { at } => {
                    let kind = match delivery {
                        Delivery::Input { fragment } => TimerKind::Input(fragment),
                        Delivery::Output { request } => TimerKind::Output(request),
                    };
                    self.state.set_timer(at, kind);
                }
                Progress::Sending { from, bits_left } => {
                    let known = match from {
                        Endpoint::User => true,
                        Endpoint::Host(host) => host.index() < self.world.hosts.len(),
                    };
                    if !known || from == to {
                        return invalid(field("progress.from"), "is not another end of a transfer");
                    }
                    if !(bits_left.is_finite() && bits_left >= 0.0) {
                        return invalid(
                            field("progress.bits_left"),
                            "must be finite and not negative",
                        );
                    }
                    self.state
                        .network
                        .start(self.world, (from, to), delivery, bits_left);
                }
            }
        }
        self.state.network.share(self.world);
        Ok(())
    }

    /// What is still waited for must be on its way or be made by an unfinished fragment.
    fn balance(&self) -> Result<(), ViewError> {
        for (i, request) in self.view.requests.iter().enumerate() {
            let Some(view) = &request.deployed else {
                continue;
            };
            let slot = self.slots[i].1 as usize;
            let Some(deployed) = self.state.requests[slot].deployed else {
                continue;
            };
            let fragments = &self
                .world
                .variant(request.application, view.variant)
                .fragments;
            let unfinished = |k: usize| view.fragments[k].phase != Phase::Done;
            let field = |name: &str| format!("requests[{i}].{name}");
            let served = view
                .fragments
                .iter()
                .any(|f| matches!(f.phase, Phase::Running | Phase::Done));
            if served != request.started.is_some() {
                let problem = "must be there if and only if a fragment runs or has ended";
                return invalid(field("started"), problem);
            }
            for (k, (fragment, f)) in fragments.iter().zip(&view.fragments).enumerate() {
                let coming = self.inputs[deployed.first as usize + k];
                let due = fragment
                    .predecessors
                    .iter()
                    .filter(|&&p| unfinished(p))
                    .count();
                if usize::from(f.inputs_left) != coming + due {
                    let problem = format!("must be {coming} under way + {due} not yet sent");
                    return invalid(
                        field(&format!("deployed.fragments[{k}].inputs_left")),
                        problem,
                    );
                }
            }
            let coming = self.outputs[slot];
            let due = (0..fragments.len())
                .filter(|&k| fragments[k].successors.is_empty() && unfinished(k))
                .count();
            if usize::from(view.outputs_left) != coming + due {
                let problem = format!("must be {coming} under way + {due} not yet sent");
                return invalid(field("deployed.outputs_left"), problem);
            }
        }
        Ok(())
    }
}

#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "token counts come from a trace and saturate"
)]
fn whole(value: f64) -> u32 {
    value.round() as u32
}
