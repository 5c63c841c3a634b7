//! What the energy of a site emits.
//!
//! ```text
//! emissions = energy · grid factor
//! ```
//!
//! with one factor a site (`grid_gco2e_per_kwh`), in grams of CO₂ equivalent per kWh: the location-based
//! method of the Greenhouse Gas Protocol, Scope 2 Guidance, 2015. A site without a factor is not
//! accounted for. Factors by Azure region are in `datasets/data/power/grid_factors.parquet`.
//!
//! Left out: hours of the day, marginal emissions, cooling, and what it took to build the servers.

use crate::units::Joules;
use crate::world::World;

/// Joules in a kWh.
pub const JOULES_PER_KWH: f64 = 3.6e6;

/// CO₂ equivalent of `energy` from a grid that emits `gco2e_per_kwh`, in g.
#[must_use]
pub fn emissions_g(energy: Joules, gco2e_per_kwh: f64) -> f64 {
    energy.0 / JOULES_PER_KWH * gco2e_per_kwh
}

/// CO₂ equivalent of what each host of `world` used, in g; `None` if no site has a factor.
#[must_use]
pub fn fleet_emissions_g(world: &World, energy_of_host: &[Joules]) -> Option<f64> {
    let factors = world
        .hosts
        .iter()
        .map(|host| world.sites[host.site.index()].grid_gco2e_per_kwh);
    let mut total = None;
    for (energy, factor) in energy_of_host.iter().zip(factors) {
        if let Some(factor) = factor {
            *total.get_or_insert(0.0) += emissions_g(*energy, factor);
        }
    }
    total
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `scinet-16` with a factor for its first site.
    fn world(factor: Option<f64>) -> Result<World, crate::world::WorldError> {
        let mut file = World::load("scinet-16")?.file.as_ref().clone();
        file.sites[0].grid_gco2e_per_kwh = factor;
        World::resolve(file, "test", None)
    }

    #[test]
    fn a_kwh_emits_the_factor() {
        // 16 hosts that draw 100 W for an hour use 1.6 kWh; at 228 g/kWh that is 364.8 g.
        let world = world(Some(228.0)).expect("a right world");
        let energy = vec![Joules(100.0 * 3600.0); 16];
        let grams = fleet_emissions_g(&world, &energy).expect("there is a factor");
        assert!((grams - 364.8).abs() < 1e-9, "{grams}");
    }

    #[test]
    fn without_a_factor_nothing_is_accounted_for() {
        let without = world(None).expect("a right world");
        assert_eq!(fleet_emissions_g(&without, &[Joules(1.0); 16]), None);
        let plain = World::load("scinet-16").expect("an embedded world");
        assert_eq!(without.hash, plain.hash, "an absent key leaves no trace");
        let error = world(Some(-1.0)).expect_err("a negative factor");
        assert_eq!(
            error.to_string(),
            "test: sites[0].grid_gco2e_per_kwh: must be finite and not negative, found -1"
        );
    }
}
