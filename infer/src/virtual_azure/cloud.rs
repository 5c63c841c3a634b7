//! The cloud itself: a twin under way, the machines that stand for its hosts, and what was asked
//! of them. No clock, no socket, no file: calls and the passing of time are handed in.

mod act;
mod create;

pub(super) use self::create::{azure_location, azure_size};

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use jiff::{SignedDuration, Timestamp};
use twin::World;
use twin::decision::{Decision, PowerAction};
use twin::episode::Episode;
use twin::host::Lifecycle;
use twin::ids::{HostId, SiteId, SizeId};
use twin::policy::PolicyError;
use twin::simulate;
use twin::state::Epoch;
use twin::units::SimTime;

use super::clock::ClockKind;
use super::deploy::{Ask, Deployer};
use super::faults::{Faults, Met};
use super::history::History;
use super::journal::Journal;
use super::machine::{HOST_TAG, Machine, MachineKey, Power, Provisioning};
use super::operations::{Action, Operations};
use super::options::{Layout, Options};
use super::scale_sets::ScaleSet;
use super::throttle::Throttle;

/// The latest moment of the twin that a virtual time can mean, in s.
const VIRTUAL_YEARS_S: f64 = 3e9;

/// Who calls, and what the call meets.
#[derive(Clone, Debug, Default)]
pub(super) struct Context {
    /// Who calls, as the token says.
    pub(super) caller: String,
    /// `x-ms-client-request-id`, where the client sent one.
    pub(super) client_request: Option<String>,
    /// The fault that the call meets.
    pub(super) fault: Option<Met>,
    /// Whether this is the second execution of the call.
    pub(super) duplicate: bool,
}

/// How far time is to pass.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Until {
    /// The time; a boundary at it is not reached.
    time: SimTime,
    /// Whether to stop before it at an epoch at which somebody outside decides: a boundary, and an
    /// arrival where nobody inside places requests.
    epochs: bool,
}

impl Until {
    /// Up to `time`, whatever happens.
    pub(super) fn time(time: SimTime) -> Self {
        Self {
            time,
            epochs: false,
        }
    }

    /// Up to the next epoch, or to `time` if that comes first.
    pub(super) fn epoch_or(time: SimTime) -> Self {
        Self { time, epochs: true }
    }
}

/// The cloud.
#[derive(Debug)]
pub(super) struct Cloud {
    pub(super) episode: Episode,
    pub(super) clock: ClockKind,
    pub(super) start_time: Timestamp,
    pub(super) subscription: String,
    pub(super) tenant: String,
    pub(super) resource_group: String,
    pub(super) group_tags: BTreeMap<String, String>,
    pub(super) page_size: usize,
    pub(super) throttled: bool,
    /// The epoch at which time stands and somebody outside may decide.
    pub(super) open: Option<Epoch>,
    pub(super) deployer: Deployer,
    pub(super) machines: BTreeMap<MachineKey, Machine>,
    /// The machine of each host of the world; `None` where the host is not listed.
    pub(super) by_host: Vec<Option<MachineKey>>,
    pub(super) sets: BTreeMap<String, ScaleSet>,
    pub(super) operations: Operations,
    pub(super) journal: Journal,
    pub(super) faults: Faults,
    pub(super) throttle: Throttle,
    pub(super) history: History,
    /// Machines whose status may have changed since it was last noted.
    touched: BTreeSet<MachineKey>,
}

impl Cloud {
    /// The cloud that `options` describes, at time zero; a decision service is asked through `ask`.
    pub(super) fn new(options: &Options, ask: Option<Ask>) -> Result<Self, PolicyError> {
        let world = &options.world;
        let deployer = Deployer::new(&options.deployer, world, options.seed, ask)?;
        let episode_options = simulate::Options {
            intervals: options.intervals,
            split: options.split,
            ..simulate::Options::new(options.seed)
        };
        let mut cloud = Self {
            episode: Episode::new(Arc::clone(world), &episode_options),
            clock: options.clock,
            start_time: options.start_time,
            subscription: options.subscription.clone(),
            tenant: options.tenant.clone(),
            resource_group: options.resource_group.clone(),
            group_tags: BTreeMap::from([("world".to_owned(), world.name.clone())]),
            page_size: options.page_size.max(1),
            throttled: options.throttle,
            open: None,
            deployer,
            machines: BTreeMap::new(),
            by_host: vec![None; world.hosts.len()],
            sets: BTreeMap::new(),
            operations: Operations::default(),
            journal: Journal::default(),
            faults: Faults::new(options.faults.clone()),
            throttle: Throttle::default(),
            history: History::new(world.hosts.len()),
            touched: BTreeSet::new(),
        };
        cloud.list_hosts(options.layout);
        cloud.note_touched();
        Ok(cloud)
    }

    /// Lists the hosts of the world as machines.
    fn list_hosts(&mut self, layout: Layout) {
        let world = Arc::clone(self.world());
        let mut groups: Vec<(SizeId, SiteId)> = Vec::new();
        for (h, spec) in world.hosts.iter().enumerate() {
            let kind = (spec.size, spec.site);
            let group = match groups.iter().position(|known| *known == kind) {
                Some(group) => group,
                None => {
                    groups.push(kind);
                    groups.len() - 1
                }
            };
            let in_set = match layout {
                Layout::Vms => false,
                Layout::ScaleSets => true,
                Layout::Mixed => group % 2 == 1,
            };
            let host = HostId::at(h);
            if in_set {
                let set = self.set_of(kind);
                if spec.initially_on {
                    self.add_instance(&set, host);
                }
            } else {
                let mut machine = Machine::new(spec.name.clone(), host, SimTime::ZERO);
                let tag = (HOST_TAG.to_owned(), spec.name.clone());
                machine.tags.extend([tag]);
                self.list(MachineKey::vm(&spec.name), machine);
            }
        }
    }

    /// Adds `machine` to what is listed.
    pub(super) fn list(&mut self, key: MachineKey, machine: Machine) {
        if let Some(slot) = self.by_host.get_mut(machine.host.index()) {
            *slot = Some(key.clone());
        }
        self.touched.insert(key.clone());
        self.machines.insert(key, machine);
    }

    /// Takes a machine off the lists; its host is free.
    pub(super) fn unlist(&mut self, key: &MachineKey) {
        if let Some(machine) = self.machines.remove(key)
            && let Some(slot) = self.by_host.get_mut(machine.host.index())
        {
            *slot = None;
        }
        self.touched.remove(key);
    }

    pub(super) fn world(&self) -> &Arc<World> {
        self.episode.world()
    }

    pub(super) fn now(&self) -> SimTime {
        self.episode.now()
    }

    /// The virtual time of `at`, as people write it.
    pub(super) fn time(&self, at: SimTime) -> Timestamp {
        let nanos = i64::try_from(at.0).unwrap_or(i64::MAX);
        self.start_time
            .saturating_add(SignedDuration::from_nanos(nanos))
            .unwrap_or(Timestamp::MAX)
    }

    /// The moment of the twin at a virtual time; zero before the start.
    pub(super) fn moment(&self, time: Timestamp) -> SimTime {
        let since = time.duration_since(self.start_time).as_secs_f64();
        SimTime::from_seconds(since.clamp(0.0, VIRTUAL_YEARS_S))
    }

    /// Where host `host` is in its life.
    pub(super) fn lifecycle(&self, host: HostId) -> Lifecycle {
        self.episode.lifecycle(host).unwrap_or(Lifecycle::Off)
    }

    /// Power state of `machine` now.
    pub(super) fn power(&self, machine: &Machine) -> Power {
        Power::of(self.lifecycle(machine.host), machine.halted)
    }

    /// Provisioning state of `machine` now.
    pub(super) fn provisioning(&self, machine: &Machine) -> Provisioning {
        let operation = machine.operation.and_then(|id| self.operations.get(id));
        match operation.map(|operation| operation.action) {
            Some(Action::Create) => Provisioning::Creating,
            Some(Action::Delete) => Provisioning::Deleting,
            Some(_) => Provisioning::Updating,
            None if machine.failed => Provisioning::Failed,
            None => Provisioning::Succeeded,
        }
    }

    /// Lets time pass.
    pub(super) fn advance(&mut self, until: Until) -> Epoch {
        self.close();
        loop {
            self.follow();
            if self.now() >= until.time {
                return Epoch::End;
            }
            let part = until
                .time
                .min(self.history.next_sample())
                .min(self.operations.next_due());
            let epoch = self.episode.advance(part);
            let stops = match epoch {
                Epoch::Boundary => true,
                Epoch::Arrival => self.deployer.is_outside(),
                Epoch::End => false,
            };
            if stops && until.epochs {
                self.open = Some(epoch);
                self.follow();
                return epoch;
            }
            if epoch != Epoch::End {
                self.deploy();
            }
        }
    }

    /// Ends the epoch at which time stands: whoever decides inside has the last word.
    fn close(&mut self) {
        if self.open.take().is_some() {
            self.deploy();
        }
    }

    /// Lets the deployer place the requests that wait.
    fn deploy(&mut self) {
        let observation = self.episode.observation(Epoch::Arrival);
        if observation.waiting().next().is_none() {
            return;
        }
        let decision = self.deployer.decide(&observation);
        self.episode.apply(&decision);
    }

    /// Lets everything follow the twin: the past of machines, operations, meters.
    pub(super) fn follow(&mut self) {
        self.note_changes();
        self.progress();
        self.note_changes();
        self.note_touched();
        let now = self.now();
        if now >= self.history.next_sample() {
            self.history.sample(now, &self.episode);
        }
    }

    /// Remembers at which time hosts changed.
    fn note_changes(&mut self) {
        for change in self.episode.take_changes() {
            let key = self.by_host.get(change.host.index());
            let Some(key) = key.and_then(Option::as_ref).cloned() else {
                continue;
            };
            let Some(machine) = self.machines.get(&key) else {
                continue;
            };
            let power = Power::of(change.lifecycle, machine.halted);
            let provisioning = self.provisioning(machine);
            if let Some(machine) = self.machines.get_mut(&key) {
                machine.note(change.at, power, provisioning);
            }
            self.touched.insert(key);
        }
    }

    /// Remembers the status of the machines whose operations went on.
    fn note_touched(&mut self) {
        let now = self.now();
        for key in std::mem::take(&mut self.touched) {
            let Some(machine) = self.machines.get(&key) else {
                continue;
            };
            let (power, provisioning) = (self.power(machine), self.provisioning(machine));
            if let Some(machine) = self.machines.get_mut(&key) {
                machine.note(now, power, provisioning);
            }
        }
    }

    /// The status of a machine may have changed.
    pub(super) fn touch(&mut self, key: &MachineKey) {
        self.touched.insert(key.clone());
    }

    /// Turns a host on or off in the twin, and says what that did.
    pub(super) fn turn(&mut self, host: HostId, on: bool) -> String {
        let before = name_of(self.lifecycle(host));
        let decision = Decision {
            provisioning: vec![PowerAction { host, on }],
            ..Decision::none()
        };
        self.episode.apply(&decision);
        let after = name_of(self.lifecycle(host));
        if before == after {
            return format!("none: {after}");
        }
        format!("{before} -> {after}")
    }
}

/// The state of a host in a word.
pub(super) fn name_of(lifecycle: Lifecycle) -> &'static str {
    match lifecycle {
        Lifecycle::Off => "off",
        Lifecycle::Booting { .. } => "booting",
        Lifecycle::On => "on",
        Lifecycle::Draining => "draining",
    }
}
