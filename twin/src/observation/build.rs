//! From a view back to a state: every value is checked, and errors name the field.

use thiserror::Error;

use super::view::{DeployedView, FleetView, FragmentRef, Progress};
use crate::credits::CreditAccount;
use crate::demand::{self, Known};
use crate::host::{Host, Lifecycle, LoadedModel};
use crate::ids::{HostId, RequestId};
use crate::network::{Delivery, Endpoint};
use crate::state::{Deployed, FragmentRun, Phase, Request, State, TimerKind};
use crate::workload::Rates;
use crate::world::{MAX_FRAGMENTS, World};

/// The highest number that the next request may get: what is counted from there on fits in 64 bits.
const MAX_NEXT_REQUEST: u64 = 1 << 56;

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
        if view.next_request > MAX_NEXT_REQUEST {
            let problem = format!("must be at most {MAX_NEXT_REQUEST}");
            return invalid("next_request".into(), problem);
        }
        build.state.now = view.now;
        build.state.timers.clear();
        build.state.expect_faults(world);
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
        build.migrations()?;
        build.loading();
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

pub(super) fn invalid<T>(field: String, problem: impl Into<String>) -> Result<T, ViewError> {
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
            if f.attained_mi > 0.0 && !matches!(f.phase, Phase::Running | Phase::Paused) {
                let problem = "must be 0 unless the fragment runs or is paused";
                return invalid(field("attained_mi"), problem);
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
        let mut host = Host::new(self.world, h, self.state.key);
        host.updated = self.view.now;
        host.lifecycle = view.lifecycle;
        self.machine(h, &mut host)?;
        self.containers(h, &mut host)?;
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
            if matches!(run.phase, Phase::Running | Phase::Paused) {
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

    /// Speed, credits and models of host `h`.
    fn machine(&self, h: usize, host: &mut Host) -> Result<(), ViewError> {
        let (world, view) = (self.world, &self.view.hosts[h]);
        let size = world.size_of(h);
        if !(view.speed.is_finite() && view.speed > 0.0) {
            return invalid(format!("hosts[{h}].speed"), "must be finite and above zero");
        }
        host.vm_factor = view.speed;
        host.set_capacity(size);
        host.credits = None;
        if let (Some(balance), Some(spec)) = (view.credits, &size.credits) {
            if !balance.is_finite() {
                return invalid(format!("hosts[{h}].credits"), "must be finite");
            }
            host.credits = Some(CreditAccount::with_balance(spec, balance));
        } else if let (Some(spec), true) = (&size.credits, host.lifecycle.serves()) {
            host.credits = Some(CreditAccount::started(spec));
        }
        for (k, m) in view.models.iter().enumerate() {
            let field = format!("hosts[{h}].models[{k}]");
            let Some(model) = world.models.get(m.model.index()) else {
                return invalid(field, format!("there is no model {}", m.model));
            };
            if host.models.iter().any(|known| known.model == m.model) {
                return invalid(field, "is listed twice");
            }
            host.ram_free_mib -= model.ram.0;
            if host.ram_free_mib < -1e-6 {
                let problem = format!("the host's {} MiB are exceeded", host.ram_mib);
                return invalid(field, problem);
            }
            host.models.push(LoadedModel {
                model: m.model,
                ram_mib: model.ram.0,
                ready_at: m.ready_at,
                users: 0,
                unused_since: m.unused_since.min(self.view.now),
            });
        }
        Ok(())
    }

    /// The containers of host `h` as the world says, each with its memory unless it waits for it.
    fn containers(&self, h: usize, host: &mut Host) -> Result<(), ViewError> {
        let waiting = &self.view.hosts[h].waiting_containers;
        host.place_containers(self.world, h, self.view.now);
        if let Some(k) = waiting.iter().position(|&id| !host.lacks(id)) {
            let problem = "does not run on this host at this time";
            return invalid(format!("hosts[{h}].waiting_containers[{k}]"), problem);
        }
        if host.lifecycle.serves() {
            host.take_seats(waiting);
        }
        if host.ram_free_mib < -1e-6 {
            let problem = format!("containers exceed the host's {} MiB", host.ram_mib);
            return invalid(format!("hosts[{h}].waiting_containers"), problem);
        }
        Ok(())
    }

    /// Puts a running fragment into its class; a paused one keeps its memory.
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
        if run.phase == Phase::Paused {
            host.holds += 1;
        } else {
            host.classes[fragment.cap].start(slot, run.started_at_mi, run.work_mi);
        }
        if let Some(id) = fragment.model {
            match host.models.iter_mut().find(|m| m.model == id) {
                Some(loaded) => loaded.users += 1,
                None => {
                    let name = &self.world.models[id.index()].name;
                    let problem = format!("runs, but its model \"{name}\" is not on the host");
                    return invalid(field, problem);
                }
            }
        }
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
            let kind = match delivery {
                Delivery::Input { fragment } => {
                    self.inputs[fragment as usize] += 1;
                    TimerKind::Input(fragment)
                }
                Delivery::Output { request } => {
                    self.outputs[request as usize] += 1;
                    TimerKind::Output(request)
                }
                Delivery::Migration { number } => TimerKind::Migration(number),
            };
            match view.progress {
                Progress::Arriving { at } if at < self.view.now => {
                    return invalid(field("progress.at"), "must not be before now");
                }
                Progress::Arriving { at } => {
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
                    let (world, now) = (self.world, self.view.now);
                    self.state
                        .network
                        .start(world, now, (from, to), delivery, bits_left);
                }
            }
        }
        Ok(())
    }

    /// What waits for a model waits again.
    fn loading(&mut self) {
        for (h, host) in self.view.hosts.iter().enumerate() {
            if host.models.iter().any(|m| m.ready_at > self.view.now) {
                self.state.admit(self.world, h);
                self.state.rebuild_finishes(self.world, h);
            }
        }
    }

    /// Fragments are paused by migrations and by nothing else.
    fn migrations(&mut self) -> Result<(), ViewError> {
        for (i, view) in self.view.migrations.iter().enumerate() {
            self.state.restore_migration(self.world, i, view)?;
        }
        for (i, request) in self.view.requests.iter().enumerate() {
            let fragments = request.deployed.iter().flat_map(|d| &d.fragments);
            for (k, fragment) in fragments.enumerate() {
                let moves = || {
                    let migrations = &mut self.view.migrations.iter();
                    migrations.any(|m| m.request == request.id && usize::from(m.fragment) == k)
                };
                if fragment.phase == Phase::Paused && !moves() {
                    return invalid(
                        format!("requests[{i}].deployed.fragments[{k}].phase"),
                        "is paused, but no migration moves it",
                    );
                }
            }
        }
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
                .any(|f| matches!(f.phase, Phase::Running | Phase::Paused | Phase::Done));
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
