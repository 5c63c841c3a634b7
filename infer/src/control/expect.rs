//! What the twin expects of a decision: priced over sampled futures, against doing nothing.

use serde::Serialize;
use twin::decision::Decision;
use twin::ids::HostId;
use twin::observation::{FleetView, Observation, ViewError};
use twin::qos::Account;
use twin::state::{Epoch, State};
use twin::stream;
use twin::units::SimTime;
use twin::what_if::{self, Futures, Horizon};
use twin::world::World;

/// Futures that a decision is priced over.
const FUTURES: usize = 8;
/// Intervals that are looked ahead.
const INTERVALS: u64 = 3;
/// The most changes that are priced one by one; more take too long.
pub const MAX_PRICED: usize = 16;

/// What the twin expects of a decision against doing nothing, up to the horizon.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Expected {
    /// Gain of the objective, in s of penalty saved.
    pub gain_s: f64,
    /// Change of the energy, in Wh.
    pub energy_change_wh: f64,
    /// Change of the cost, in USD.
    pub cost_change_usd: f64,
    /// Change of the sum of response times, in s.
    pub response_change_s: f64,
    /// Change of the number of late requests.
    pub late_change: f64,
    /// How far is looked ahead, in s.
    pub horizon_s: f64,
}

/// What is expected of a decision as a whole, and of each of some groups of hosts: the gain against
/// leaving what it says of them out.
///
/// # Errors
///
/// If the view contradicts itself.
pub fn expected(
    world: &World,
    view: &FleetView,
    decision: &Decision,
    groups: &[Vec<HostId>],
) -> Result<(Expected, Vec<Option<f64>>), ViewError> {
    let state = State::from_view(world, view)?;
    let observation = Observation::new(world, &state, Epoch::Boundary);
    let span = SimTime(world.interval.0.saturating_mul(INTERVALS));
    let mut stream = stream::named(view.now.0, "control/expected");
    let futures = Futures::sample(&observation, FUTURES, span, &mut stream);
    let horizon = Horizon {
        span,
        drain: span,
        provisions: false,
    };
    let mut decisions = vec![decision.clone(), Decision::none()];
    let priced = groups.len().min(MAX_PRICED);
    decisions.extend(
        groups[..priced]
            .iter()
            .map(|hosts| without(decision, hosts)),
    );
    let accounts = what_if::accounts(world, &futures, &decisions, horizon);
    let penalties: Vec<f64> = accounts
        .iter()
        .map(|list| mean(list, |account| account.penalty(&world.objective)))
        .collect();
    let change = |part: fn(&Account) -> f64| mean(&accounts[0], part) - mean(&accounts[1], part);
    let whole = Expected {
        gain_s: penalties[1] - penalties[0],
        energy_change_wh: change(|a| a.energy_j) / 3600.0,
        cost_change_usd: change(|a| a.cost_usd),
        response_change_s: change(|a| a.response_s),
        late_change: change(|a| a.late),
        horizon_s: span.seconds(),
    };
    let each = (0..groups.len())
        .map(|i| penalties.get(i + 2).map(|without| without - penalties[0]))
        .collect();
    Ok((whole, each))
}

/// `decision` without what it says of turning `hosts` on or off.
fn without(decision: &Decision, hosts: &[HostId]) -> Decision {
    let mut rest = decision.clone();
    rest.provisioning
        .retain(|action| !hosts.contains(&action.host));
    rest
}

fn mean(accounts: &[Account], part: impl Fn(&Account) -> f64) -> f64 {
    let count = accounts.len().max(1) as f64;
    accounts.iter().map(part).sum::<f64>() / count
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::control::test_fleet::{decision, fleet, fleet_of, small};
    use crate::control::view::seeing;

    #[test]
    fn turning_an_idle_host_off_saves_its_price() {
        let world = small();
        let facts = fleet(&world);
        let fleet = fleet_of(&world, &facts);
        let view = seeing(&world, &facts, &fleet, None, SimTime::ZERO).view;
        let off = decision(&[(1, false)]);
        let groups = [vec![HostId(1)]];
        let (whole, each) = expected(&world, &view, &off, &groups).expect("a view");
        // 0.3 USD an hour over 3 intervals of 5 s.
        let saved = 0.3 * 15.0 / 3600.0;
        assert!((whole.cost_change_usd + saved).abs() < 1e-9, "{whole:?}");
        assert!(whole.energy_change_wh < 0.0);
        let alone = each[0].expect("priced");
        assert!((alone - whole.gain_s).abs() < 1e-9);
    }
}
