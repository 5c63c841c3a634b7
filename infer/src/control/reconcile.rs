//! From what is decided to what is to be done.
//!
//! Level-triggered: what is done follows from what is wanted and what is seen, not from what was
//! done before, so that a lost answer or a restart is put right by looking again. A host that a
//! decision does not name is wanted as it stands; one whose standing is unknown is left alone.

use std::collections::BTreeMap;

use twin::decision::Decision;
use twin::ids::HostId;
use twin::world::World;

use super::action::Change;
use super::facts::Facts;
use super::fleet::Fleet;
use super::mapping::Seat;
use super::standing::Standing;
use crate::azure::ResourceId;

/// Whether a host is to be on, and who wants that.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wish {
    /// It is left as it is.
    AsItIs,
    /// The decision names it.
    Decided {
        /// On or off.
        on: bool,
    },
    /// The least number of hosts that are on asks for it.
    Minimum,
}

impl Wish {
    fn on(self) -> Option<bool> {
        match self {
            Self::AsItIs => None,
            Self::Decided { on } => Some(on),
            Self::Minimum => Some(true),
        }
    }
}

/// What is wanted of each host.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Wishes(pub Vec<Wish>);

impl Wishes {
    /// What `decision` wants, and at least `minimum` hosts on: first hosts that would go off stay,
    /// then hosts that are off are started, the cheapest first.
    #[must_use]
    pub fn of(fleet: &Fleet, decision: &Decision, minimum: usize) -> Self {
        let mut wishes = vec![Wish::AsItIs; fleet.standings.len()];
        for action in &decision.provisioning {
            if let Some(wish) = wishes.get_mut(action.host.index()) {
                *wish = Wish::Decided { on: action.on };
            }
        }
        let stays = |h: usize, wish: Wish| {
            let runs = matches!(fleet.standings[h], Standing::On | Standing::Booting);
            wish.on().unwrap_or(runs)
        };
        let on = (0..wishes.len()).filter(|&h| stays(h, wishes[h])).count();
        let mut candidates: Vec<usize> = (0..wishes.len())
            .filter(|&h| !stays(h, wishes[h]) && fleet.mapping.seats[h] != Seat::Missing)
            .filter(|&h| !matches!(fleet.standings[h], Standing::Unknown | Standing::Draining))
            .collect();
        let rank = |h: usize| match fleet.standings[h] {
            Standing::On => 0,
            Standing::Booting => 1,
            _ => 2,
        };
        candidates.sort_by(|&a, &b| {
            let prices = fleet.prices[a].total_cmp(&fleet.prices[b]);
            rank(a).cmp(&rank(b)).then(prices).then(a.cmp(&b))
        });
        for &h in candidates.iter().take(minimum.saturating_sub(on)) {
            wishes[h] = Wish::Minimum;
        }
        Self(wishes)
    }
}

/// Something to be done.
#[derive(Clone, Debug, PartialEq)]
pub struct Proposal {
    /// What is acted upon.
    pub target: ResourceId,
    /// Its name.
    pub name: String,
    /// Its tags.
    pub tags: BTreeMap<String, String>,
    /// The hosts that it changes, and whether each is to be on.
    pub hosts: Vec<(HostId, bool)>,
    /// What is to be done.
    pub change: Change,
    /// Whether the least number of hosts that are on asks for it.
    pub by_minimum: bool,
    /// Change of the fleet's price, in USD per hour.
    pub price_change_usd_per_hour: f64,
}

/// What is to be done so that the fleet becomes as it is wanted, and the hosts that are wanted on
/// and have no VM.
#[must_use]
pub fn proposals(
    world: &World,
    facts: &Facts,
    fleet: &Fleet,
    wishes: &Wishes,
) -> (Vec<Proposal>, Vec<String>) {
    let mut list = Vec::new();
    let mut without_vm = Vec::new();
    for (h, wish) in wishes.0.iter().enumerate() {
        let Some(on) = wish.on() else { continue };
        match &fleet.mapping.seats[h] {
            Seat::Missing if on => without_vm.push(world.hosts[h].name.clone()),
            Seat::Missing | Seat::Instance { .. } => {}
            Seat::Vm(id) => {
                let (Some(vm), Some(change)) = (facts.vms.get(id), change(fleet.standings[h], on))
                else {
                    continue;
                };
                let sign = if on { 1.0 } else { -1.0 };
                list.push(Proposal {
                    target: id.clone(),
                    name: vm.name.clone(),
                    tags: vm.tags.clone(),
                    hosts: vec![(HostId::at(h), on)],
                    change,
                    by_minimum: *wish == Wish::Minimum,
                    price_change_usd_per_hour: sign * fleet.prices[h],
                });
            }
        }
    }
    for set in fleet.sets.keys() {
        list.extend(capacity(facts, fleet, wishes, set));
    }
    (list, without_vm)
}

/// What is to be done with a VM that stands so.
fn change(standing: Standing, on: bool) -> Option<Change> {
    match (standing, on) {
        (Standing::Off | Standing::Stopped | Standing::Draining, true) => Some(Change::Start),
        (Standing::On | Standing::Booting | Standing::Stopped, false) => Some(Change::Deallocate),
        _ => None,
    }
}

/// The change of a scale set's capacity.
fn capacity(facts: &Facts, fleet: &Fleet, wishes: &Wishes, set: &ResourceId) -> Option<Proposal> {
    let (state, seen) = (fleet.sets.get(set)?, facts.sets.get(set)?);
    let hosts: Vec<usize> = fleet.mapping.instances(set).collect();
    let mut to = state.asked;
    let mut changed = Vec::new();
    let mut by_minimum = false;
    for &h in &hosts {
        let runs = matches!(fleet.standings[h], Standing::On | Standing::Booting);
        match wishes.0[h].on() {
            Some(true) if !runs => to = to.saturating_add(1),
            Some(false) if runs => to = to.saturating_sub(1),
            _ => continue,
        }
        by_minimum |= wishes.0[h] == Wish::Minimum;
        changed.push((HostId::at(h), !runs));
    }
    let from = state.asked;
    if to == from {
        return None;
    }
    let each = hosts.first().map_or(0.0, |&h| fleet.prices[h]);
    Some(Proposal {
        target: set.clone(),
        name: seen.name.clone(),
        tags: seen.tags.clone(),
        hosts: changed,
        change: Change::Capacity { from, to },
        by_minimum,
        price_change_usd_per_hour: each * (f64::from(to) - f64::from(from)),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::control::facts::Power;
    use crate::control::test_fleet::{decision, fleet, fleet_of, set_powers, small};

    /// Proposals for VMs that read `powers` under a decision, as text.
    fn proposed(powers: [Power; 3], decided: &[(u32, bool)], minimum: usize) -> Vec<String> {
        let world = small();
        let mut facts = fleet(&world);
        set_powers(&world, &mut facts, &powers);
        let fleet = fleet_of(&world, &facts);
        let wishes = Wishes::of(&fleet, &decision(decided), minimum);
        let (list, without_vm) = proposals(&world, &facts, &fleet, &wishes);
        assert!(without_vm.is_empty());
        list.iter()
            .map(|p| format!("{} {}", p.change, p.hosts[0].0))
            .collect()
    }

    use Power::{Deallocated, Deallocating, Running, Starting, Stopped, Unknown};

    #[test]
    fn what_is_as_wanted_is_left_alone() {
        let decided = [(0, true), (1, true), (2, false)];
        assert!(proposed([Running, Starting, Deallocated], &decided, 0).is_empty());
        assert!(proposed([Running, Starting, Deallocating], &decided, 0).is_empty());
        assert!(proposed([Running, Stopped, Unknown], &[], 0).is_empty());
    }

    #[test]
    fn what_is_not_is_changed() {
        let decided = [(0, false), (1, true), (2, true)];
        let list = proposed([Running, Deallocated, Stopped], &decided, 0);
        assert_eq!(list, ["deallocate 0", "start 1", "start 2"]);
        let unknown = proposed([Unknown, Unknown, Unknown], &decided, 0);
        assert!(unknown.is_empty());
    }

    #[test]
    fn a_minimum_keeps_hosts_on_and_starts_the_cheapest() {
        // Prices: 0.3, 0.3 near; 0.1 far.
        let all_off = [(0, false), (1, false), (2, false)];
        let list = proposed([Running, Running, Deallocated], &all_off, 1);
        assert_eq!(list, ["deallocate 1"], "a host that runs stays");
        let list = proposed([Deallocated, Deallocated, Deallocated], &[], 2);
        assert_eq!(list, ["start 0", "start 2"]);
    }
}
