//! Between messages and the twin's own values.

use std::borrow::Cow;
use std::collections::BTreeMap;

use super::read::shorten;
use super::{
    ArrivalRates, DecisionBody, DecisionRequest, DeployedState, Deployment, Epoch, FleetState,
    FragmentName, FragmentState, HostState, Lifecycle, Migration, MigrationState, ModelState,
    Phase, PowerAction, RequestState, SCHEMA, TransferState, WireError, WireErrorKind, WorldName,
};
use crate::decision::{self, Decision};
use crate::host;
use crate::ids::{ApplicationId, ContainerId, HostId, ModelId, RequestId, VariantId};
use crate::network::Endpoint;
use crate::observation::{
    DeployedView, FleetView, FragmentRef, FragmentView, HostView, ModelView, Progress, RequestView,
    TransferView, ViewError,
};
use crate::state;
use crate::units::SimTime;
use crate::world::{World, did_you_mean};

pub(super) fn inconsistent<T>(field: String, problem: String) -> Result<T, WireError> {
    let problem = shorten(problem);
    Err(WireError {
        kind: WireErrorKind::Inconsistent,
        field,
        problem,
    })
}

/// Whether a message is about `world`.
pub(super) fn check_world(asked: Option<&WorldName<'_>>, world: &World) -> Result<(), WireError> {
    let Some(asked) = asked else {
        return Ok(());
    };
    if asked.name != world.name {
        let problem = format!("decisions are for {}, found {}", world.name, asked.name);
        return inconsistent("world.name".into(), problem);
    }
    if asked.hash.as_ref().is_some_and(|hash| *hash != world.hash) {
        let problem = format!("the world's file has changed: its hash is {}", world.hash);
        return inconsistent("world.hash".into(), problem);
    }
    Ok(())
}

impl<'a> DecisionRequest<'a> {
    /// Asks for a decision in the situation of `view`.
    ///
    /// # Panics
    ///
    /// If `view` is not a view of `world`.
    #[must_use]
    pub fn from_view(world: &'a World, view: &FleetView) -> Self {
        let name = Cow::Borrowed(world.name.as_str());
        let hash = Some(Cow::Borrowed(world.hash.as_str()));
        Self {
            schema: SCHEMA,
            world: Some(WorldName { name, hash }),
            state: FleetState::from_view(world, view),
        }
    }

    /// The view that the message describes, with every name resolved in `world`.
    ///
    /// [`State::from_view`](crate::State::from_view) checks that it makes sense; its errors
    /// convert to [`WireError`].
    ///
    /// # Errors
    ///
    /// If the message is of another world, names what the world does not have, or says of a
    /// transfer or a host what cannot go together.
    pub fn to_view(&self, world: &World) -> Result<FleetView, WireError> {
        check_world(self.world.as_ref(), world)?;
        self.state.to_view(world)
    }
}

impl<'a> FleetState<'a> {
    pub(super) fn from_view(world: &'a World, view: &FleetView) -> Self {
        Self {
            now_ns: view.now.0,
            epoch: match view.epoch {
                state::Epoch::Boundary => Epoch::Boundary,
                state::Epoch::Arrival => Epoch::Arrival,
                state::Epoch::End => Epoch::End,
            },
            next_boundary_ns: view.next_boundary.0,
            next_request: view.next_request,
            hosts: view
                .hosts
                .iter()
                .enumerate()
                .map(|(h, host)| HostState::from_view(world, h, host))
                .collect(),
            requests: view
                .requests
                .iter()
                .map(|r| RequestState::from_view(world, r))
                .collect(),
            transfers: view
                .transfers
                .iter()
                .map(TransferState::from_view)
                .collect(),
            migrations: view
                .migrations
                .iter()
                .map(MigrationState::from_view)
                .collect(),
            arrival_rates: view
                .rates_per_s
                .iter()
                .zip(&world.applications)
                .map(|(&per_s, application)| ArrivalRates {
                    application: Cow::Borrowed(&application.name),
                    per_s,
                })
                .collect(),
        }
    }

    fn to_view(&self, world: &World) -> Result<FleetView, WireError> {
        let names = Names::new(world);
        let mut hosts = Vec::with_capacity(self.hosts.len());
        for (h, host) in self.hosts.iter().enumerate() {
            hosts.push(host.to_view(world, h)?);
        }
        let mut requests = Vec::with_capacity(self.requests.len());
        for (i, request) in self.requests.iter().enumerate() {
            requests.push(request.to_view(&names, i)?);
        }
        let mut transfers = Vec::with_capacity(self.transfers.len());
        for (i, transfer) in self.transfers.iter().enumerate() {
            transfers.push(transfer.to_view(i)?);
        }
        let mut migrations = Vec::with_capacity(self.migrations.len());
        for (i, migration) in self.migrations.iter().enumerate() {
            migrations.push(migration.to_view(i)?);
        }
        for (i, rates) in self.arrival_rates.iter().enumerate() {
            let Some(expected) = world.applications.get(i) else {
                break;
            };
            if rates.application != expected.name {
                let problem = format!("expected {}, the world's order", expected.name);
                return inconsistent(format!("state.arrival_rates[{i}].application"), problem);
            }
        }
        Ok(FleetView {
            now: SimTime(self.now_ns),
            epoch: match self.epoch {
                Epoch::Boundary => state::Epoch::Boundary,
                Epoch::Arrival => state::Epoch::Arrival,
                Epoch::End => state::Epoch::End,
            },
            next_boundary: SimTime(self.next_boundary_ns),
            next_request: self.next_request,
            hosts,
            requests,
            transfers,
            migrations,
            rates_per_s: self.arrival_rates.iter().map(|r| r.per_s).collect(),
        })
    }
}

/// Applications by name.
struct Names<'w> {
    world: &'w World,
    applications: BTreeMap<&'w str, ApplicationId>,
}

impl<'w> Names<'w> {
    fn new(world: &'w World) -> Self {
        let named = |(i, a): (usize, &'w crate::world::Application)| {
            (a.name.as_str(), ApplicationId::at(i))
        };
        Self {
            world,
            applications: world.applications.iter().enumerate().map(named).collect(),
        }
    }

    fn application(&self, name: &str) -> Result<ApplicationId, String> {
        self.applications.get(name).copied().ok_or_else(|| {
            let names: Vec<&str> = self.applications.keys().copied().collect();
            let hint = did_you_mean(name, &names);
            format!("the world has no application {name:?}{hint}")
        })
    }
}

/// The variant called `name`, or what is wrong with the name.
pub(super) fn variant(
    world: &World,
    application: ApplicationId,
    name: &str,
) -> Result<VariantId, String> {
    let application = &world.applications[application.index()];
    match application.variants.iter().position(|v| v.name == name) {
        Some(position) => Ok(VariantId::at(position)),
        None => {
            let names: Vec<&str> = application
                .variants
                .iter()
                .map(|v| v.name.as_str())
                .collect();
            let hint = did_you_mean(name, &names);
            Err(format!(
                "{} has no variant {name:?}{hint}",
                application.name
            ))
        }
    }
}

impl<'a> HostState<'a> {
    fn from_view(world: &'a World, h: usize, view: &HostView) -> Self {
        let (lifecycle, ready_at_ns) = match view.lifecycle {
            host::Lifecycle::Off => (Lifecycle::Off, None),
            host::Lifecycle::Booting { ready_at } => (Lifecycle::Booting, Some(ready_at.0)),
            host::Lifecycle::On => (Lifecycle::On, None),
            host::Lifecycle::Draining => (Lifecycle::Draining, None),
        };
        let names = |list: &[FragmentRef]| {
            list.iter()
                .map(|r| FragmentName {
                    request: r.request.0,
                    fragment: r.fragment,
                })
                .collect()
        };
        Self {
            name: Some(Cow::Borrowed(&world.hosts[h].name)),
            lifecycle,
            ready_at_ns,
            queue: names(&view.queue),
            resident: names(&view.resident),
            speed: (view.speed.to_bits() != 1.0_f64.to_bits()).then_some(view.speed),
            credits: view.credits,
            models: view
                .models
                .iter()
                .map(|m| ModelState {
                    model: Cow::Borrowed(&world.models[m.model.index()].name),
                    ready_at_ns: m.ready_at.0,
                    unused_since_ns: Some(m.unused_since.0),
                })
                .collect(),
            waiting_containers: view
                .waiting_containers
                .iter()
                .map(|&id| Cow::Borrowed(world.containers.get(id).name.as_str()))
                .collect(),
        }
    }

    fn to_view(&self, world: &World, h: usize) -> Result<HostView, WireError> {
        if let (Some(name), Some(spec)) = (&self.name, world.hosts.get(h))
            && *name != spec.name
        {
            let problem = format!("host {h} of the world is {}, found {name:?}", spec.name);
            return inconsistent(format!("state.hosts[{h}].name"), problem);
        }
        let lifecycle = match (self.lifecycle, self.ready_at_ns) {
            (Lifecycle::Off, None) => host::Lifecycle::Off,
            (Lifecycle::On, None) => host::Lifecycle::On,
            (Lifecycle::Draining, None) => host::Lifecycle::Draining,
            (Lifecycle::Booting, Some(ns)) => host::Lifecycle::Booting {
                ready_at: SimTime(ns),
            },
            _ => {
                let problem = "must be there if and only if lifecycle is \"booting\"".into();
                return inconsistent(format!("state.hosts[{h}].ready_at_ns"), problem);
            }
        };
        let references = |list: &[FragmentName]| {
            list.iter()
                .map(|n| FragmentRef {
                    request: RequestId(n.request),
                    fragment: n.fragment,
                })
                .collect()
        };
        let (queue, resident) = (references(&self.queue), references(&self.resident));
        let mut models = Vec::with_capacity(self.models.len());
        for (k, m) in self.models.iter().enumerate() {
            let names: Vec<&str> = world.models.iter().map(|m| m.name.as_str()).collect();
            let Some(position) = names.iter().position(|name| *name == m.model) else {
                let hint = did_you_mean(&m.model, &names);
                let problem = format!("the world has no model {:?}{hint}", m.model);
                return inconsistent(format!("state.hosts[{h}].models[{k}].model"), problem);
            };
            models.push(ModelView {
                model: ModelId::at(position),
                ready_at: SimTime(m.ready_at_ns),
                unused_since: SimTime(m.unused_since_ns.unwrap_or(m.ready_at_ns)),
            });
        }
        Ok(HostView {
            waiting_containers: self.waiting_containers(world, h)?,
            lifecycle,
            queue,
            resident,
            speed: self.speed.unwrap_or(1.0),
            credits: self.credits,
            models,
        })
    }
}

impl HostState<'_> {
    fn waiting_containers(&self, world: &World, h: usize) -> Result<Vec<ContainerId>, WireError> {
        let list = world.containers.list();
        let names: Vec<&str> = list.iter().map(|c| c.name.as_str()).collect();
        let mut ids = Vec::with_capacity(self.waiting_containers.len());
        for (k, name) in self.waiting_containers.iter().enumerate() {
            let Some(position) = names.iter().position(|known| known == name) else {
                let hint = did_you_mean(name, &names);
                let problem = format!("the world has no container {name:?}{hint}");
                let field = format!("state.hosts[{h}].waiting_containers[{k}]");
                return inconsistent(field, problem);
            };
            ids.push(ContainerId::at(position));
        }
        Ok(ids)
    }
}

impl<'a> RequestState<'a> {
    fn from_view(world: &'a World, view: &RequestView) -> Self {
        let application = &world.applications[view.application.index()];
        Self {
            id: view.id.0,
            application: Cow::Borrowed(&application.name),
            arrived_ns: view.arrived.0,
            context_tokens: view.context_tokens,
            generated_tokens: view.generated_tokens,
            started_ns: view.started.map(|t| t.0),
            deployed: view.deployed.as_ref().map(|deployed| DeployedState {
                variant: Cow::Borrowed(&application.variants[deployed.variant.index()].name),
                outputs_left: deployed.outputs_left,
                fragments: deployed
                    .fragments
                    .iter()
                    .map(FragmentState::from_view)
                    .collect(),
            }),
        }
    }

    fn to_view(&self, names: &Names<'_>, i: usize) -> Result<RequestView, WireError> {
        let application = match names.application(&self.application) {
            Ok(application) => application,
            Err(problem) => {
                return inconsistent(format!("state.requests[{i}].application"), problem);
            }
        };
        let deployed = match &self.deployed {
            None => None,
            Some(deployed) => {
                let variant = match variant(names.world, application, &deployed.variant) {
                    Ok(variant) => variant,
                    Err(problem) => {
                        let field = format!("state.requests[{i}].deployed.variant");
                        return inconsistent(field, problem);
                    }
                };
                let fragments = deployed.fragments.iter().map(|f| f.to_view()).collect();
                Some(DeployedView {
                    variant,
                    outputs_left: deployed.outputs_left,
                    fragments,
                })
            }
        };
        Ok(RequestView {
            id: RequestId(self.id),
            application,
            arrived: SimTime(self.arrived_ns),
            context_tokens: self.context_tokens,
            generated_tokens: self.generated_tokens,
            started: self.started_ns.map(SimTime),
            deployed,
        })
    }
}

impl FragmentState {
    fn from_view(view: &FragmentView) -> Self {
        let phase = match view.phase {
            state::Phase::Waiting => Phase::Waiting,
            state::Phase::Queued | state::Phase::Loading => Phase::Queued,
            state::Phase::Running => Phase::Running,
            state::Phase::Paused => Phase::Paused,
            state::Phase::Done => Phase::Done,
        };
        Self {
            host: view.host.0,
            phase,
            inputs_left: view.inputs_left,
            attained_mi: view.attained_mi,
        }
    }

    fn to_view(self) -> FragmentView {
        let phase = match self.phase {
            Phase::Waiting => state::Phase::Waiting,
            Phase::Queued => state::Phase::Queued,
            Phase::Running => state::Phase::Running,
            Phase::Paused => state::Phase::Paused,
            Phase::Done => state::Phase::Done,
        };
        FragmentView {
            host: HostId(self.host),
            phase,
            inputs_left: self.inputs_left,
            attained_mi: self.attained_mi,
        }
    }
}

impl TransferState {
    fn from_view(view: &TransferView) -> Self {
        let mut transfer = Self {
            request: view.request.0,
            fragment: view.fragment,
            from_host: None,
            bits_left: None,
            arrives_at_ns: None,
        };
        match view.progress {
            Progress::Sending { from, bits_left } => {
                transfer.bits_left = Some(bits_left);
                if let Endpoint::Host(host) = from {
                    transfer.from_host = Some(host.0);
                }
            }
            Progress::Arriving { at } => transfer.arrives_at_ns = Some(at.0),
        }
        transfer
    }

    fn to_view(self, i: usize) -> Result<TransferView, WireError> {
        let progress = match (self.from_host, self.bits_left, self.arrives_at_ns) {
            (from, Some(bits_left), None) => {
                let from = from.map_or(Endpoint::User, |h| Endpoint::Host(HostId(h)));
                Progress::Sending { from, bits_left }
            }
            (None, None, Some(at)) => Progress::Arriving { at: SimTime(at) },
            (Some(_), None, Some(_)) => {
                let problem = "goes with bits_left, not with arrives_at_ns".into();
                return inconsistent(format!("state.transfers[{i}].from_host"), problem);
            }
            (_, Some(_), Some(_)) | (_, None, None) => {
                let problem = "exactly one of bits_left and arrives_at_ns must be there".into();
                return inconsistent(format!("state.transfers[{i}].bits_left"), problem);
            }
        };
        Ok(TransferView {
            request: RequestId(self.request),
            fragment: self.fragment,
            progress,
        })
    }
}

impl From<ViewError> for WireError {
    /// The view's path becomes the message's path.
    fn from(error: ViewError) -> Self {
        let mut field = format!("state.{}", error.field);
        for (view, wire) in [
            (".next_boundary", ".next_boundary_ns"),
            (".arrived", ".arrived_ns"),
            (".started", ".started_ns"),
            (".lifecycle.ready_at", ".ready_at_ns"),
            (".progress.at", ".arrives_at_ns"),
            (".progress.from", ".from_host"),
            (".progress.bits_left", ".bits_left"),
            (".rates_per_s", ".arrival_rates"),
            (".from", ".from_host"),
            (".to", ".to_host"),
            (".left", ".left_mib"),
            (".stage_sent", ".stage_sent_mib"),
            (".stage_elapsed", ".stage_elapsed_ns"),
            (".sent", ".sent_mib"),
            (".fetched", ".fetched_mib"),
        ] {
            if let Some(start) = field.strip_suffix(view) {
                field = format!("{start}{wire}");
                break;
            }
        }
        if let Some(place) = field.strip_prefix("state.rates_per_s[") {
            field = format!("state.arrival_rates[{place}.per_s");
        }
        Self {
            kind: WireErrorKind::Inconsistent,
            field,
            problem: error.problem,
        }
    }
}

/// The application of the request numbered `id`, if it is among those of `view`.
fn application_of(view: &FleetView, id: RequestId) -> Option<ApplicationId> {
    let place = view.requests.binary_search_by_key(&id, |r| r.id).ok()?;
    Some(view.requests[place].application)
}

impl<'a> DecisionBody<'a> {
    /// The message that says `decision`, taken in the situation of `view`.
    ///
    /// Deployments of requests or variants that do not exist are left out; a checked decision has
    /// none.
    #[must_use]
    pub fn from_decision(world: &'a World, view: &FleetView, decision: &Decision) -> Self {
        Self::of(world, decision, &|id| application_of(view, id))
    }

    /// As [`DecisionBody::from_decision`], where `asks` tells what requests ask for.
    #[must_use]
    pub fn of(
        world: &'a World,
        decision: &Decision,
        asks: &dyn Fn(RequestId) -> Option<ApplicationId>,
    ) -> Self {
        let deployment = |d: &decision::Deployment| {
            let application = asks(d.request)?;
            let variants = &world.applications[application.index()].variants;
            Some(Deployment {
                request: d.request.0,
                variant: Cow::Borrowed(variants.get(d.variant.index())?.name.as_str()),
                hosts: d.hosts.iter().map(|h| h.0).collect(),
            })
        };
        Self {
            provisioning: decision
                .provisioning
                .iter()
                .map(|a| PowerAction {
                    host: a.host.0,
                    on: a.on,
                })
                .collect(),
            deployments: decision.deployments.iter().filter_map(deployment).collect(),
            migrations: decision
                .migrations
                .iter()
                .map(Migration::from_decision)
                .collect(),
        }
    }

    /// Writes the decision that the message says into `decision`, which comes empty. Whether it
    /// is feasible is for the checker to say.
    ///
    /// # Errors
    ///
    /// If it deploys a request that is not in `view`, or in a variant that there is not.
    pub fn to_decision(
        &self,
        world: &World,
        view: &FleetView,
        decision: &mut Decision,
    ) -> Result<(), WireError> {
        decision
            .provisioning
            .extend(self.provisioning.iter().map(|a| decision::PowerAction {
                host: HostId(a.host),
                on: a.on,
            }));
        for (i, d) in self.deployments.iter().enumerate() {
            let request = RequestId(d.request);
            let field = |name: &str| format!("decision.deployments[{i}].{name}");
            let Some(application) = application_of(view, request) else {
                return inconsistent(field("request"), format!("there is no request {request}"));
            };
            let variant = match variant(world, application, &d.variant) {
                Ok(variant) => variant,
                Err(problem) => return inconsistent(field("variant"), problem),
            };
            let hosts = d.hosts.iter().map(|&h| HostId(h)).collect();
            decision.deployments.push(decision::Deployment {
                request,
                variant,
                hosts,
            });
        }
        decision
            .migrations
            .extend(self.migrations.iter().map(|m| m.to_decision()));
        Ok(())
    }
}
