//! The objective: one number for a run, fixed in the world before any run.
//!
//! Each term is a rate divided by a reference that the world fixes, so the terms have no unit and
//! the sum over time is additive: the value of an hour is the mean of the values of its seconds.
//!
//! ```text
//! penalty = w_energy   · energy   / reference power
//!         + w_cost     · cost     / reference cost rate
//!         + w_response · Σ response times / (reference response · reference arrival rate)
//!         + w_sla      · late requests    / reference arrival rate
//!         + w_accuracy · Σ (1 − accuracy) / reference arrival rate
//!         + w_carbon   · greenhouse gas / reference carbon rate
//!         + w_unmet    · unmet demand of containers / reference demand    [seconds]
//! objective = − penalty / duration                                         [1]
//! ```
//!
//! Higher is better; zero would be a free, instant and perfect service.

use serde::{Deserialize, Serialize};

/// Weights of the terms, none negative.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Weights {
    /// Weight of energy.
    pub energy: f64,
    /// Weight of cost.
    pub cost: f64,
    /// Weight of response time.
    pub response: f64,
    /// Weight of late requests.
    pub sla: f64,
    /// Weight of missing accuracy.
    pub accuracy: f64,
    /// Weight of greenhouse gas.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub carbon: f64,
    /// Weight of unmet demand of containers.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub unmet: f64,
}

#[expect(
    clippy::trivially_copy_pass_by_ref,
    reason = "serde hands over a reference"
)]
fn is_zero(value: &f64) -> bool {
    value.to_bits() == 0
}

impl Weights {
    /// The weights in a fixed order: energy, cost, response, SLA, accuracy. Greenhouse gas is not
    /// among them: it is proportional to the energy of each site. Nor is unmet demand of containers,
    /// which most worlds do not have.
    #[must_use]
    pub fn to_array(self) -> [f64; 5] {
        [
            self.energy,
            self.cost,
            self.response,
            self.sla,
            self.accuracy,
        ]
    }

    /// The inverse of [`Weights::to_array`].
    #[must_use]
    pub fn from_array([energy, cost, response, sla, accuracy]: [f64; 5]) -> Self {
        Self {
            energy,
            cost,
            response,
            sla,
            accuracy,
            carbon: 0.0,
            unmet: 0.0,
        }
    }
}

/// Weights and normalizers.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Objective {
    /// Weights of the terms.
    pub weights: Weights,
    /// Power that counts as one, in W.
    pub reference_power_w: f64,
    /// Cost rate that counts as one, in USD per hour.
    pub reference_cost_usd_per_hour: f64,
    /// Response time that counts as one, in s.
    pub reference_response_s: f64,
    /// Arrival rate that counts as one, in requests per second.
    pub reference_rate_per_s: f64,
    /// Greenhouse gas that counts as one, in g CO2e per hour; needed if it has a weight.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reference_carbon_g_per_hour: Option<f64>,
    /// Unmet demand of containers that counts as one, in virtual CPUs; needed if it has a weight.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reference_unmet_vcpus: Option<f64>,
}

impl Objective {
    /// What is wrong with the values, if anything: the field and the reason.
    #[must_use]
    pub fn problem(&self) -> Option<(String, String)> {
        let names = [
            "energy", "cost", "response", "sla", "accuracy", "carbon", "unmet",
        ];
        let weights = self.weights.to_array().into_iter();
        for (name, weight) in names
            .iter()
            .zip(weights.chain([self.weights.carbon, self.weights.unmet]))
        {
            if !(weight.is_finite() && weight >= 0.0) {
                return Some((
                    format!("weights.{name}"),
                    format!("must be finite and not negative, found {weight}"),
                ));
            }
        }
        for (name, value) in [
            ("reference_power_w", self.reference_power_w),
            (
                "reference_cost_usd_per_hour",
                self.reference_cost_usd_per_hour,
            ),
            ("reference_response_s", self.reference_response_s),
            ("reference_rate_per_s", self.reference_rate_per_s),
            (
                "reference_carbon_g_per_hour",
                match self.reference_carbon_g_per_hour {
                    None if self.weights.carbon > 0.0 => f64::NAN,
                    reference => reference.unwrap_or(1.0),
                },
            ),
            (
                "reference_unmet_vcpus",
                match self.reference_unmet_vcpus {
                    None if self.weights.unmet > 0.0 => f64::NAN,
                    reference => reference.unwrap_or(1.0),
                },
            ),
        ] {
            if !(value.is_finite() && value > 0.0) {
                return Some((
                    name.into(),
                    format!("must be finite and above zero, found {value}"),
                ));
            }
        }
        None
    }

    /// Penalty of a joule, in seconds.
    #[must_use]
    pub fn per_joule(&self) -> f64 {
        self.weights.energy / self.reference_power_w
    }

    /// Penalty of a dollar, in seconds.
    #[must_use]
    pub fn per_usd(&self) -> f64 {
        self.weights.cost * 3600.0 / self.reference_cost_usd_per_hour
    }

    /// Penalty of a gram of CO2e, in seconds.
    #[must_use]
    pub fn per_gram_co2e(&self) -> f64 {
        self.reference_carbon_g_per_hour
            .map_or(0.0, |reference| self.weights.carbon * 3600.0 / reference)
    }

    /// Penalty of a second for which a container lacks one virtual CPU, in seconds.
    #[must_use]
    pub fn per_unmet_vcpu_second(&self) -> f64 {
        self.reference_unmet_vcpus
            .map_or(0.0, |reference| self.weights.unmet / reference)
    }

    /// Penalty of a second of response time, in seconds.
    #[must_use]
    pub fn per_response_second(&self) -> f64 {
        self.weights.response / (self.reference_response_s * self.reference_rate_per_s)
    }

    /// Penalty of a late request, in seconds.
    #[must_use]
    pub fn per_late_request(&self) -> f64 {
        self.weights.sla / self.reference_rate_per_s
    }

    /// Penalty of a request answered with accuracy zero, in seconds.
    #[must_use]
    pub fn per_inaccuracy(&self) -> f64 {
        self.weights.accuracy / self.reference_rate_per_s
    }
}
