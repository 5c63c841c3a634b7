//! What the tests of this module share: the small world and its VMs.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use jiff::{SignedDuration, Timestamp};
use twin::decision::{Decision, PowerAction};
use twin::ids::HostId;
use twin::world::World;

use super::facts::{Facts, Power, VmFacts};
use super::fleet::Fleet;
use super::ledger::Ledger;
use super::mapping::{Mapping, Rule};
use super::standing::Timing;
use crate::azure::ResourceId;

/// The world of the examples: three hosts.
pub(super) fn small() -> Arc<World> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("examples/small.toml");
    Arc::new(World::load(path.to_str().expect("text")).expect("a world"))
}

/// A VM that runs.
pub(super) fn vm(name: &str, size: &str, location: &str) -> VmFacts {
    let id = ResourceId::compute("s", "g", "virtualMachines", name).expect("an id");
    VmFacts {
        id,
        name: name.into(),
        location: location.into(),
        size: Some(size.into()),
        tags: BTreeMap::new(),
        power: Power::Running,
        deleting: false,
        cpu: None,
        credits: None,
    }
}

/// One VM that runs for each host of `world`; the last carries the tag `role` with `last`.
pub(super) fn fleet(world: &World) -> Facts {
    let mut facts = Facts::default();
    for (h, host) in world.hosts.iter().enumerate() {
        let site = &world.sites[host.site.index()].name;
        let size = format!("Standard_{}", world.size_of(h).name);
        let mut vm = vm(&host.name, &size, site);
        if h + 1 == world.hosts.len() {
            vm.tags.insert("role".into(), "last".into());
        }
        facts.vms.insert(vm.id.clone(), vm);
    }
    facts
}

/// The fleet of `facts` with nothing under way.
pub(super) fn fleet_of(world: &World, facts: &Facts) -> Fleet {
    let mapping = Mapping::of(world, facts, &Rule::Name, &[]);
    let timing = Timing {
        grace: SignedDuration::from_secs(60),
        operation: SignedDuration::from_secs(600),
    };
    let now = Timestamp::from_second(1_000).expect("a time");
    Fleet::of(world, facts, mapping, &Ledger::default(), now, &timing)
}

/// A decision that turns hosts on and off.
pub(super) fn decision(provisioning: &[(u32, bool)]) -> Decision {
    let action = |&(host, on): &(u32, bool)| PowerAction {
        host: HostId(host),
        on,
    };
    Decision {
        provisioning: provisioning.iter().map(action).collect(),
        ..Decision::none()
    }
}

/// Lets the VMs of the first hosts read `powers`.
pub(super) fn set_powers(world: &World, facts: &mut Facts, powers: &[Power]) {
    for (host, power) in world.hosts.iter().zip(powers) {
        vm_of(facts, &host.name).power = *power;
    }
}

/// The VM with the name of a host.
pub(super) fn vm_of<'a>(facts: &'a mut Facts, name: &str) -> &'a mut VmFacts {
    let mut vms = facts.vms.values_mut();
    vms.find(|vm| vm.name == name).expect("a VM")
}
