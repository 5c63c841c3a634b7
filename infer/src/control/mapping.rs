//! Which VM is which host of the world.
//!
//! VMs that are no host, and hosts that have no VM, are reported and left alone.

use std::collections::{BTreeMap, BTreeSet};

use twin::ids::HostId;
use twin::world::World;

use super::facts::{Facts, VmFacts};
use crate::azure::ResourceId;

/// How VMs are matched with hosts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Rule {
    /// The VM has the host's name.
    Name,
    /// The VM carries a tag of this name with the host's name.
    Tag(String),
    /// The VM has the host's size and site; the first by name is the first host.
    Size,
}

/// Hosts of one size at one site that are the VMs of a scale set.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SetRule {
    /// The scale set.
    pub id: ResourceId,
    /// The size.
    pub size: String,
    /// The site; any if `None`.
    pub site: Option<String>,
}

/// What stands for a host.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Seat {
    /// A VM.
    Vm(ResourceId),
    /// A VM of a scale set: the one at this place, counted from zero.
    Instance {
        /// The scale set.
        set: ResourceId,
        /// The place.
        place: u32,
    },
    /// Nothing.
    Missing,
}

/// Which VM is which host.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mapping {
    /// What stands for each host of the world.
    pub seats: Vec<Seat>,
    /// Names of VMs that are no host, and why not.
    pub unknown: Vec<(String, String)>,
}

impl Mapping {
    /// Matches the VMs of `facts` with the hosts of `world`.
    #[must_use]
    pub fn of(world: &World, facts: &Facts, rule: &Rule, sets: &[SetRule]) -> Self {
        let mut seats = vec![Seat::Missing; world.hosts.len()];
        for set in sets.iter().filter(|set| facts.sets.contains_key(&set.id)) {
            let mut place = 0;
            for (h, seat) in seats.iter_mut().enumerate() {
                if *seat == Seat::Missing && hosts_of(world, set, h) {
                    *seat = Seat::Instance {
                        set: set.id.clone(),
                        place,
                    };
                    place += 1;
                }
            }
        }
        let mut mapping = Self {
            seats,
            unknown: Vec::new(),
        };
        let mut vms: Vec<&VmFacts> = facts.vms.values().collect();
        vms.sort_by(|a, b| {
            natural(&a.name)
                .cmp(&natural(&b.name))
                .then(a.id.cmp(&b.id))
        });
        let names: BTreeMap<String, usize> = world
            .hosts
            .iter()
            .enumerate()
            .map(|(h, host)| (host.name.to_lowercase(), h))
            .collect();
        let mut taken = BTreeSet::new();
        for vm in vms {
            match mapping.seat(world, vm, rule, &names) {
                Ok(h) if taken.insert(h) => mapping.seats[h] = Seat::Vm(vm.id.clone()),
                Ok(h) => {
                    let host = &world.hosts[h].name;
                    // Which of the two is meant cannot be told, so neither is touched.
                    mapping.seats[h] = Seat::Missing;
                    let problem = format!("several VMs claim the host {host}");
                    mapping.unknown.push((vm.name.clone(), problem));
                }
                Err(problem) => mapping.unknown.push((vm.name.clone(), problem)),
            }
        }
        mapping
    }

    /// The host that `vm` is.
    fn seat(
        &self,
        world: &World,
        vm: &VmFacts,
        rule: &Rule,
        names: &BTreeMap<String, usize>,
    ) -> Result<usize, String> {
        let by_name = |name: &str| {
            let found = names.get(&name.to_lowercase());
            found
                .copied()
                .ok_or_else(|| format!("the world {} has no host {name:?}", world.name))
        };
        match rule {
            Rule::Name => by_name(&vm.name),
            Rule::Tag(tag) => match crate::azure::tag(&vm.tags, tag) {
                None => Err(format!("it has no tag {tag:?}")),
                Some(name) => by_name(name),
            },
            Rule::Size => {
                let size = vm.size.as_deref().unwrap_or_default();
                let free = |h: &usize| {
                    let host = &world.hosts[*h];
                    let site = &world.sites[host.site.index()].name;
                    self.seats[*h] == Seat::Missing
                        && same_size(&world.size_of(*h).name, size)
                        && (vm.location.is_empty() || same_place(site, &vm.location))
                };
                (0..world.hosts.len()).find(free).ok_or_else(|| {
                    format!(
                        "the world has no further host of {size} in {:?}",
                        vm.location
                    )
                })
            }
        }
    }

    /// Hosts that have no VM.
    pub fn missing(&self) -> impl Iterator<Item = HostId> + '_ {
        let missing = |(h, seat): (usize, &Seat)| (*seat == Seat::Missing).then(|| HostId::at(h));
        self.seats.iter().enumerate().filter_map(missing)
    }

    /// The hosts that are VMs of `set`, in the order of their places.
    pub fn instances<'a>(&'a self, set: &'a ResourceId) -> impl Iterator<Item = usize> + 'a {
        let of = move |(h, seat): (usize, &Seat)| match seat {
            Seat::Instance { set: found, .. } if found == set => Some(h),
            _ => None,
        };
        self.seats.iter().enumerate().filter_map(of)
    }
}

fn hosts_of(world: &World, set: &SetRule, h: usize) -> bool {
    let site = &world.sites[world.hosts[h].site.index()].name;
    same_size(&world.size_of(h).name, &set.size)
        && set.site.as_ref().is_none_or(|s| same_place(s, site))
}

/// Whether two names of sizes mean the same: `B2s` is `Standard_B2s`.
fn same_size(a: &str, b: &str) -> bool {
    let bare = |name: &str| {
        let name = name.to_lowercase();
        name.strip_prefix("standard_").unwrap_or(&name).to_owned()
    };
    bare(a) == bare(b)
}

/// Whether two names of regions mean the same: `UK South` is `uksouth`.
fn same_place(a: &str, b: &str) -> bool {
    let bare = |name: &str| name.to_lowercase().replace([' ', '-'], "");
    bare(a) == bare(b)
}

/// A key by which `w-2` comes before `w-10`.
fn natural(name: &str) -> Vec<(String, u64)> {
    let mut parts = Vec::new();
    let mut text = String::new();
    let mut number = String::new();
    for c in name.to_lowercase().chars() {
        if c.is_ascii_digit() {
            number.push(c);
            continue;
        }
        if !number.is_empty() {
            parts.push((
                std::mem::take(&mut text),
                number.parse().unwrap_or(u64::MAX),
            ));
            number.clear();
        }
        text.push(c);
    }
    parts.push((text, number.parse().unwrap_or(0)));
    parts
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::control::test_fleet::{fleet, small, vm};

    #[test]
    fn by_name_by_tag_and_by_size() {
        let world = small();
        let names: Vec<String> = world.hosts.iter().map(|h| h.name.clone()).collect();
        let mut facts = fleet(&world);
        let by_name = Mapping::of(&world, &facts, &Rule::Name, &[]);
        assert_eq!(by_name.missing().count(), 0);
        assert!(by_name.unknown.is_empty());
        let stranger = vm("stranger", "Standard_two-cores", "near");
        facts.vms.insert(stranger.id.clone(), stranger);
        let by_name = Mapping::of(&world, &facts, &Rule::Name, &[]);
        assert_eq!(by_name.missing().count(), 0);
        assert_eq!(by_name.unknown[0].0, "stranger");
        let by_size = Mapping::of(&world, &facts, &Rule::Size, &[]);
        assert_eq!(by_size.missing().count(), 0);
        assert_eq!(by_size.unknown.len(), 1, "{:?}", by_size.unknown);
        let rule = Rule::Tag("codesign-host".into());
        for vm in facts.vms.values_mut() {
            vm.tags.insert("Codesign-Host".into(), names[0].clone());
        }
        let by_tag = Mapping::of(&world, &facts, &rule, &[]);
        assert_eq!(
            by_tag.missing().count(),
            3,
            "two claim one host: none has it"
        );
    }

    #[test]
    fn scale_sets_take_hosts_of_their_size() {
        let world = small();
        let mut facts = fleet(&world);
        facts.vms.clear();
        let id = ResourceId::compute("s", "g", "virtualMachineScaleSets", "workers").expect("id");
        let set = super::super::facts::SetFacts {
            id: id.clone(),
            name: "workers".into(),
            tags: BTreeMap::new(),
            capacity: 1,
            running: 1,
        };
        facts.sets.insert(id.clone(), set);
        let rule = SetRule {
            id: id.clone(),
            size: "Standard_Two-Cores".into(),
            site: Some("near".into()),
        };
        let mapping = Mapping::of(&world, &facts, &Rule::Name, &[rule]);
        assert_eq!(mapping.instances(&id).count(), 2);
        assert_eq!(mapping.missing().count(), 1);
    }

    #[test]
    fn numbers_in_names_count() {
        assert!(natural("w-2") < natural("w-10"));
        assert!(natural("a10") < natural("b1"));
    }
}
