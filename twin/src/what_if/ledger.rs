//! Accounts whose sums do not depend on the order of their parts.
//!
//! Times are summed in whole nanoseconds, and everything else in fixed point, 2⁻⁶⁴ to the unit.
//! Sums of integers are exact, so that one part can be taken out and another one put in, and the
//! result is that of a new sum to the last bit.

use std::ops::{AddAssign, SubAssign};

use crate::host::Meter;
use crate::qos::Account;
use crate::state::{Request, State};
use crate::units::SimTime;
use crate::world::World;

/// Parts of a unit.
const PARTS: f64 = 18_446_744_073_709_551_616.0;

/// A sum of numbers in fixed point.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Exact(i128);

impl Exact {
    /// `value`, without what lies beyond 2⁻⁶⁴; magnitudes beyond 2⁶³ are cut.
    #[expect(
        clippy::cast_possible_truncation,
        reason = "what is cut is documented; the scale is a power of two and rounds nothing"
    )]
    pub(super) fn of(value: f64) -> Self {
        Self((value * PARTS) as i128)
    }

    fn value(self) -> f64 {
        self.0 as f64 / PARTS
    }
}

impl AddAssign for Exact {
    fn add_assign(&mut self, other: Self) {
        self.0 = self.0.wrapping_add(other.0);
    }
}

impl SubAssign for Exact {
    fn sub_assign(&mut self, other: Self) {
        self.0 = self.0.wrapping_sub(other.0);
    }
}

/// A host's part of an account.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct HostPart {
    energy_j: Exact,
    carbon_g: Exact,
    cost_usd: Exact,
    unmet_vcpu_s: Exact,
}

impl HostPart {
    /// From its meter now, at the horizon, and at the end: what it uses up to the horizon, and
    /// beyond that the energy above that of an idle host.
    ///
    /// Work that is left at the horizon is paid for too, or putting it off would seem to save it.
    pub(super) fn of(world: &World, h: usize, [now, horizon, end]: [Meter; 3]) -> Self {
        let idle_w = world.size_of(h).power.at(0.0).0;
        let above_idle_j = |meter: &Meter| meter.energy_j - idle_w * meter.billed.seconds();
        let beyond_j = above_idle_j(&end) - above_idle_j(&horizon);
        let billed = horizon.billed.since(now.billed);
        let energy_j = horizon.energy_j - now.energy_j + beyond_j;
        Self {
            energy_j: Exact::of(energy_j),
            carbon_g: Exact::of(energy_j * world.carbon_g_per_joule(h)),
            cost_usd: Exact::of(billed.seconds() * world.price_usd_per_second(h)),
            unmet_vcpu_s: Exact::of(world.vcpu_seconds(h, horizon.unmet - now.unmet)),
        }
    }
}

/// A request's part of an account.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct RequestPart {
    response: SimTime,
    late: bool,
    inaccuracy: Exact,
}

impl RequestPart {
    /// A request that is answered, or followed no further, after `response`; with the accuracy of
    /// its variant, if it is deployed.
    pub(super) fn of(
        world: &World,
        request: &Request,
        response: SimTime,
        accuracy: Option<f64>,
    ) -> Self {
        let deadline = world.applications[request.application.index()].deadline;
        Self {
            response,
            late: response > deadline,
            inaccuracy: Exact::of(accuracy.map_or(0.0, |accuracy| 1.0 - accuracy)),
        }
    }
}

/// An account in the making.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Ledger {
    energy_j: Exact,
    carbon_g: Exact,
    cost_usd: Exact,
    unmet_vcpu_s: Exact,
    response_ns: i128,
    late: i64,
    inaccuracy: Exact,
}

impl Ledger {
    pub(super) fn add_host(&mut self, part: HostPart) {
        self.energy_j += part.energy_j;
        self.carbon_g += part.carbon_g;
        self.cost_usd += part.cost_usd;
        self.unmet_vcpu_s += part.unmet_vcpu_s;
    }

    pub(super) fn remove_host(&mut self, part: HostPart) {
        self.energy_j -= part.energy_j;
        self.carbon_g -= part.carbon_g;
        self.cost_usd -= part.cost_usd;
        self.unmet_vcpu_s -= part.unmet_vcpu_s;
    }

    pub(super) fn add_request(&mut self, part: RequestPart) {
        self.response_ns += i128::from(part.response.0);
        self.late += i64::from(part.late);
        self.inaccuracy += part.inaccuracy;
    }

    /// Requests that were turned away: who is has the worst of answers, or turning away would pay.
    pub(super) fn reject(&mut self, count: u64) {
        self.late += i64::try_from(count).unwrap_or(i64::MAX);
        self.inaccuracy += Exact::of(count as f64);
    }

    pub(super) fn remove_request(&mut self, part: RequestPart) {
        self.response_ns -= i128::from(part.response.0);
        self.late -= i64::from(part.late);
        self.inaccuracy -= part.inaccuracy;
    }

    /// The part of a request under way.
    pub(super) fn under_way(world: &World, state: &State, request: &Request) -> RequestPart {
        let accuracy = request.deployed.map(|deployed| {
            world
                .variant(request.application, deployed.variant)
                .accuracy
        });
        RequestPart::of(world, request, state.now.since(request.arrived), accuracy)
    }

    pub(super) fn account(&self) -> Account {
        Account {
            energy_j: self.energy_j.value(),
            cost_usd: self.cost_usd.value(),
            response_s: self.response_ns as f64 / 1e9,
            late: self.late as f64,
            inaccuracy: self.inaccuracy.value(),
            carbon_g: self.carbon_g.value(),
            unmet_vcpu_s: self.unmet_vcpu_s.value(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sums_do_not_depend_on_the_order() {
        let values: [f64; 5] = [1e9, 0.1, -3e-7, 12.345, 1e-12];
        let (mut forward, mut backward) = (Exact::default(), Exact::default());
        for value in values {
            forward += Exact::of(value);
        }
        for value in values.iter().rev() {
            backward += Exact::of(*value);
        }
        assert_eq!(forward, backward);
        // A part that is taken out leaves nothing: 1e9 is no longer there to swallow 1e-12.
        forward -= Exact::of(1e9);
        let rest = 0.1 - 3e-7 + 12.345 + 1e-12;
        assert!(
            (forward.value() - rest).abs() < 1e-15,
            "{}",
            forward.value()
        );
    }
}
