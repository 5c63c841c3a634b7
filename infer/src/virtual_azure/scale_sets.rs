//! Scale sets: the hosts of one size at one site, of which as many exist as the capacity says.

use std::collections::BTreeMap;

use twin::host::Lifecycle;
use twin::ids::{HostId, SiteId, SizeId};
use twin::units::SimTime;

use super::answer::Denial;
use super::cloud::{Cloud, Context};
use super::machine::MachineKey;
use super::operations::{Action, OperationId, Stage};

/// A scale set.
#[derive(Clone, Debug)]
pub(super) struct ScaleSet {
    pub(super) name: String,
    pub(super) kind: (SizeId, SiteId),
    pub(super) created: SimTime,
    pub(super) tags: BTreeMap<String, String>,
    /// Counts changes of tags and capacity.
    pub(super) version: u64,
    /// The number of the next instance.
    pub(super) next_instance: u32,
    /// The operation under way on the set as a whole.
    pub(super) operation: Option<OperationId>,
}

impl ScaleSet {
    pub(super) fn new(name: String, kind: (SizeId, SiteId), created: SimTime) -> Self {
        Self {
            name,
            kind,
            created,
            tags: BTreeMap::new(),
            version: 1,
            next_instance: 0,
            operation: None,
        }
    }
}

impl Cloud {
    /// The instances of the set `set`, by number.
    pub(super) fn instances(&self, set: &str) -> Vec<MachineKey> {
        let first = MachineKey::Instance(set.into(), 0);
        let last = MachineKey::Instance(set.into(), u32::MAX);
        self.machines
            .range(first..=last)
            .map(|(key, _)| key.clone())
            .collect()
    }

    /// The instances that count: those that are not being deleted.
    fn staying(&self, set: &str) -> Vec<MachineKey> {
        let mut keys = self.instances(set);
        keys.retain(|key| !self.is_deleting(key));
        keys
    }

    fn is_deleting(&self, key: &MachineKey) -> bool {
        let operation = self.machines.get(key).and_then(|m| m.operation);
        operation
            .and_then(|id| self.operations.get(id))
            .is_some_and(|o| o.action == Action::Delete)
    }

    /// How many instances the set has.
    pub(super) fn capacity(&self, set: &str) -> usize {
        self.staying(set).len()
    }

    /// Changes how many instances the set has.
    pub(super) fn set_capacity(
        &mut self,
        set: &str,
        wanted: usize,
        context: &Context,
    ) -> Result<OperationId, Denial> {
        let Some(kind) = self.sets.get(set).map(|found| found.kind) else {
            let kind = "Microsoft.Compute/virtualMachineScaleSets";
            return Err(Denial::missing(kind, set, &self.resource_group));
        };
        let staying = self.staying(set);
        let mut members = Vec::new();
        if wanted > staying.len() {
            let more = wanted - staying.len();
            let free: Vec<HostId> = self.free_hosts(kind).take(more).collect();
            if free.len() < more {
                return Err(self.over_quota(kind, more, free.len()));
            }
            for host in free {
                if let Some(key) = self.add_instance(set, host) {
                    members.push(self.begin(&key, Action::Create, context)?);
                }
            }
        } else {
            for key in self.least_missed(staying, wanted) {
                members.push(self.begin(&key, Action::Delete, context)?);
            }
        }
        Ok(self.group(set, members))
    }

    /// There are fewer hosts than wanted.
    pub(super) fn over_quota(&self, kind: (SizeId, SiteId), more: usize, left: usize) -> Denial {
        let world = self.world();
        let size = super::cloud::azure_size(&world.sizes[kind.0.index()].name);
        let site = super::cloud::azure_location(&world.sites[kind.1.index()].name);
        Denial::new(
            409,
            "QuotaExceeded",
            format!(
                "Operation could not be completed as it results in exceeding approved {size} \
                 quota. Location: {site}, additional required: {more}, left: {left}."
            ),
        )
    }

    /// The instances to delete so that `wanted` stay: those that are off, then those that boot,
    /// then those with the least on them; of equals, the newest.
    fn least_missed(&self, mut keys: Vec<MachineKey>, wanted: usize) -> Vec<MachineKey> {
        keys.reverse();
        keys.sort_by_key(|key| {
            let Some(machine) = self.machines.get(key) else {
                return (0, 0);
            };
            let order = match self.lifecycle(machine.host) {
                Lifecycle::Off => 0,
                Lifecycle::Draining => 1,
                Lifecycle::Booting { .. } => 2,
                Lifecycle::On => 3,
            };
            let residents = self.episode.meter(machine.host).map_or(0, |m| m.residents);
            (order, residents)
        });
        keys.truncate(keys.len().saturating_sub(wanted));
        keys
    }

    /// Acts on instances of a set: on all where none are named.
    pub(super) fn act_on_instances(
        &mut self,
        set: &str,
        numbers: Option<Vec<u32>>,
        action: Action,
        context: &Context,
    ) -> Result<OperationId, Denial> {
        let keys = match numbers {
            None => self.staying(set),
            Some(numbers) => {
                let mut keys = Vec::with_capacity(numbers.len());
                for number in numbers {
                    let key = MachineKey::Instance(set.into(), number);
                    if !self.machines.contains_key(&key) {
                        let problem = format!("there is no instance {number} in {set}");
                        return Err(Denial::invalid("instanceIds", problem));
                    }
                    if !keys.contains(&key) {
                        keys.push(key);
                    }
                }
                keys
            }
        };
        let mut members = Vec::new();
        let mut refused = None;
        for key in keys {
            match self.begin(&key, action, context) {
                Ok(id) => members.push(id),
                Err(denial) => refused = Some(denial),
            }
        }
        match refused {
            // What was begun goes on: the caller looks at the instances.
            Some(denial) if members.is_empty() => Err(denial),
            _ => Ok(self.group(set, members)),
        }
    }

    /// An operation that ends when all `members` have.
    fn group(&mut self, set: &str, members: Vec<OperationId>) -> OperationId {
        let location = self
            .sets
            .get(set)
            .map(|found| &self.world().sites[found.kind.1.index()].name)
            .map_or_else(String::new, |name| super::cloud::azure_location(name));
        let stage = (self.now(), Stage::Members(members));
        let id = self.operations.begin(Action::Group, None, &location, stage);
        if let Some(found) = self.sets.get_mut(set) {
            found.operation = Some(id);
            found.version += 1;
        }
        self.follow();
        id
    }
}
