//! The fleet as the loop sees it in an interval: hosts, what stands for them, and how it stands.

use std::collections::BTreeMap;

use jiff::Timestamp;
use twin::world::World;

use super::facts::Facts;
use super::ledger::Ledger;
use super::mapping::{Mapping, Seat};
use super::standing::{Standing, Timing, standing};
use crate::azure::ResourceId;

/// The fleet in an interval.
#[derive(Clone, Debug, PartialEq)]
pub struct Fleet {
    /// Which VM is which host.
    pub mapping: Mapping,
    /// How each host of the world stands.
    pub standings: Vec<Standing>,
    /// Price of each host that is on, in USD per hour.
    pub prices: Vec<f64>,
    /// Scale sets that hosts belong to.
    pub sets: BTreeMap<ResourceId, SetState>,
}

/// A scale set in an interval.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SetState {
    /// How many VMs it has been asked to have.
    pub asked: u32,
    /// How many of them run.
    pub running: u32,
}

impl Fleet {
    /// The fleet that `facts` and `ledger` tell of.
    #[must_use]
    pub fn of(
        world: &World,
        facts: &Facts,
        mapping: Mapping,
        ledger: &Ledger,
        now: Timestamp,
        timing: &Timing,
    ) -> Self {
        let sets: BTreeMap<ResourceId, SetState> = facts
            .sets
            .values()
            .map(|set| {
                let asked = asked(set.capacity, &set.id, ledger, now, timing);
                let running = set.running;
                (set.id.clone(), SetState { asked, running })
            })
            .collect();
        let of_seat = |seat: &Seat| match seat {
            Seat::Missing => Standing::Off,
            Seat::Vm(id) => facts.vms.get(id).map_or(Standing::Unknown, |vm| {
                if vm.deleting {
                    return Standing::Unknown;
                }
                standing(vm.power, id, ledger, now, timing)
            }),
            Seat::Instance { set, place } => sets
                .get(set)
                .map_or(Standing::Unknown, |s| s.standing(*place)),
        };
        Self {
            standings: mapping.seats.iter().map(of_seat).collect(),
            prices: (0..world.hosts.len())
                .map(|h| world.price_usd_per_second(h) * 3600.0)
                .collect(),
            mapping,
            sets,
        }
    }

    /// What the fleet may cost, in USD per hour: all hosts that are not certainly off.
    #[must_use]
    pub fn price_usd_per_hour(&self) -> f64 {
        let billed = self.standings.iter().zip(&self.prices);
        billed
            .filter(|(standing, _)| standing.may_be_billed())
            .map(|(_, price)| price)
            .sum()
    }

    /// How many hosts stand so.
    #[must_use]
    pub fn count(&self, wanted: Standing) -> usize {
        self.standings.iter().filter(|s| **s == wanted).count()
    }
}

impl SetState {
    /// How the VM at `place` stands: those that run come first, then those that were asked for.
    fn standing(self, place: u32) -> Standing {
        if place < self.asked.min(self.running) {
            Standing::On
        } else if place < self.asked {
            Standing::Booting
        } else if place < self.running {
            Standing::Draining
        } else {
            Standing::Off
        }
    }
}

/// What a scale set that reads `capacity` has been asked to have.
fn asked(capacity: u32, id: &ResourceId, ledger: &Ledger, now: Timestamp, timing: &Timing) -> u32 {
    use super::action::Change;
    let of = |change| match change {
        Change::Capacity { to, .. } => Some(to),
        Change::Start | Change::Deallocate => None,
    };
    let open = ledger.open_on(id).and_then(|open| of(open.plan.change));
    let recent = || {
        let past = ledger.past_of(id)?;
        let fresh = past.succeeded && now.duration_since(past.ended_at) < timing.grace;
        fresh.then(|| of(past.change)).flatten()
    };
    open.or_else(recent).unwrap_or(capacity)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_of_a_scale_set() {
        let set = SetState {
            asked: 3,
            running: 2,
        };
        let all: Vec<Standing> = (0..4).map(|place| set.standing(place)).collect();
        use Standing::{Booting, Draining, Off, On};
        assert_eq!(all, [On, On, Booting, Off]);
        let shrinking = SetState {
            asked: 1,
            running: 2,
        };
        let all: Vec<Standing> = (0..3).map(|place| shrinking.standing(place)).collect();
        assert_eq!(all, [On, Draining, Off]);
    }
}
