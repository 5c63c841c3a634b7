//! What the twin knows of one host, and the demand for CPU that all hosts share.

use std::collections::BTreeMap;

use super::calibration::HostCalibration;
use super::detector::CUT;
use super::model::{Model, Service};
use super::recursive::{Estimate, Rls, Spread};
use super::telemetry::HostRecord;
use crate::world::{PowerCurve, World};

/// Standard error of the vCPUs that a task uses before the first observation.
const DEMAND_PRIOR_VCPUS: f64 = 1.0;
/// The same of the background of all hosts.
const BACKGROUND_PRIOR_VCPUS: f64 = 0.1;
/// The same of one host's difference from it.
const HOST_BACKGROUND_PRIOR_VCPUS: f64 = 0.01;
/// Standard error of a host's background after an alarm.
const BACKGROUND_OPEN_VCPUS: f64 = 0.3;
/// Standard error of a host's slowness before the first observation.
const SLOWNESS_PRIOR: f64 = 0.05;
/// The same after an alarm.
const SLOWNESS_OPEN: f64 = 0.4;
/// The most that forgetting opens a host's slowness.
const SLOWNESS_DRIFT: f64 = 0.03;
/// Standard error of the scales of power, and the most that forgetting opens them.
const POWER_PRIOR: f64 = 0.2;
/// Forgetting a record of a host.
const FORGETTING_HOST: f64 = 0.998;
/// Forgetting a record of any host, for what all share.
const FORGETTING_ALL: f64 = 0.9995;
/// Forgetting a task of a host.
const FORGETTING_TASK: f64 = 0.99;
/// Prior standard deviation of CPU use, in vCPUs.
const NOISE_PRIOR_VCPUS: f64 = 0.1;
/// Prior standard deviation of power, as a share of idle power.
const POWER_NOISE_PRIOR: f64 = 0.02;
/// Observations that the prior of a variance is worth.
const SPREAD_PRIOR: f64 = 5.0;
/// The most coefficients for which a host's record is explained by application.
const MAX_COEFFICIENTS: usize = 64;
/// Numbers of tasks that have a spread of their own: 0, 1, 2, 3 and more.
const CLASSES: usize = 4;

/// vCPUs in use: a background and a demand of each task by application, the same on all hosts.
#[derive(Clone, Debug)]
pub(crate) struct Demand {
    rls: Rls,
    /// Spread of CPU use by number of tasks.
    noise: [Spread; CLASSES],
    /// Whether applications are told apart.
    applications: Option<usize>,
}

/// Tasks as the regression sees them.
pub(crate) struct Input {
    x: Vec<f64>,
    class: usize,
}

impl Demand {
    pub(crate) fn new(applications: usize) -> Self {
        let apart = (applications < MAX_COEFFICIENTS).then_some(applications);
        let mut priors = vec![Estimate::new(0.0, BACKGROUND_PRIOR_VCPUS)];
        priors.extend(vec![
            Estimate::new(0.0, DEMAND_PRIOR_VCPUS);
            apart.unwrap_or(1)
        ]);
        Self {
            rls: Rls::new(&priors),
            noise: [Spread::new(NOISE_PRIOR_VCPUS.powi(2), SPREAD_PRIOR); CLASSES],
            applications: apart,
        }
    }

    pub(crate) fn input(&self, model: &Model, running: &BTreeMap<String, u32>) -> Input {
        let mut x = vec![1.0];
        let total = running
            .values()
            .fold(0, |sum, n| u32::saturating_add(sum, *n));
        match self.applications {
            Some(_) => x.extend(
                model
                    .applications()
                    .map(|name| f64::from(running.get(name).copied().unwrap_or(0))),
            ),
            None => x.push(f64::from(total)),
        }
        Input {
            x,
            class: (total as usize).min(CLASSES - 1),
        }
    }

    /// Lets all coefficients learn anew.
    pub(crate) fn open(&mut self) {
        self.rls.open();
    }

    pub(crate) fn background_vcpus(&self) -> f64 {
        self.rls.coefficients()[0]
    }

    /// By application, or one for all.
    pub(crate) fn demand_vcpus(&self) -> &[f64] {
        &self.rls.coefficients()[1..]
    }
}

/// One host.
#[derive(Clone, Debug)]
pub(crate) struct Machine {
    pub(crate) service: Service,
    pub(crate) last: Option<HostRecord>,
    /// Durations on it over those that its size says.
    pub(crate) slowness: Estimate,
    vcpus: f64,
    curve: PowerCurve,
    background: Estimate,
    /// Scales of what power grows by with utilization, and of idle power.
    power: Rls,
    power_noise: Spread,
}

impl Machine {
    pub(crate) fn new(world: &World, model: &Model, host: usize) -> Self {
        let size = world.size_of(host);
        let curve = size.power;
        let noise_w = (curve.at(0.0).0 * POWER_NOISE_PRIOR).max(1e-3);
        Self {
            service: Service::new(model.caps()),
            last: None,
            slowness: Estimate::new(1.0, SLOWNESS_PRIOR),
            vcpus: size.vcpus,
            curve,
            background: Estimate::new(0.0, HOST_BACKGROUND_PRIOR_VCPUS),
            power: Rls::new(&[Estimate::new(1.0, POWER_PRIOR); 2]),
            power_noise: Spread::new(noise_w * noise_w, SPREAD_PRIOR),
        }
    }

    pub(crate) fn utilization(&self, demand: &Demand, input: &Input) -> f64 {
        let vcpus = demand.rls.predict(&input.x) + self.background.value;
        (vcpus / self.vcpus).clamp(0.0, 1.0)
    }

    pub(crate) fn power_w(&self, utilization: f64) -> f64 {
        self.power.predict(&self.power_input(utilization)).max(0.0)
    }

    fn power_input(&self, utilization: f64) -> [f64; 2] {
        let idle_w = self.curve.at(0.0).0;
        [self.curve.at(utilization).0 - idle_w, idle_w]
    }

    /// Takes the utilization of a record; the residual in standard deviations.
    pub(crate) fn observe_utilization(
        &mut self,
        demand: &mut Demand,
        input: &Input,
        record: &HostRecord,
        learns: bool,
        warming: bool,
    ) -> f64 {
        let predicted = self.utilization(demand, input) * self.vcpus;
        let residual = record.utilization * self.vcpus - predicted;
        let noise = demand.noise[input.class].variance();
        let total = noise + demand.rls.variance(&input.x) + self.background.variance;
        let value = residual / total.sqrt();
        let step = value.clamp(-CUT, CUT) * total.sqrt();
        if warming {
            demand.noise[input.class].observe(residual);
        }
        if learns {
            let rest = noise + self.background.variance;
            demand.rls.update(&input.x, step, rest, FORGETTING_ALL);
            let most = HOST_BACKGROUND_PRIOR_VCPUS;
            self.background
                .update(step, 1.0, total, FORGETTING_HOST, most);
        }
        value
    }

    /// Takes the power at a utilization; the residual in standard deviations.
    pub(crate) fn observe_power(
        &mut self,
        utilization: f64,
        power_w: f64,
        learns: bool,
        warming: bool,
    ) -> f64 {
        let x = self.power_input(utilization);
        let residual = power_w - self.power.predict(&x);
        let noise = self.power_noise.variance();
        let total = noise + self.power.variance(&x);
        let value = residual / total.sqrt();
        if warming {
            self.power_noise.observe(residual);
        }
        if learns {
            let step = value.clamp(-CUT, CUT) * total.sqrt();
            self.power.update(&x, step, noise, FORGETTING_HOST);
        }
        value
    }

    pub(crate) fn open_slowness(&mut self) {
        self.slowness.open(SLOWNESS_OPEN);
    }

    pub(crate) fn open_background(&mut self) {
        self.background.open(BACKGROUND_OPEN_VCPUS);
    }

    pub(crate) fn open_power(&mut self) {
        self.power.open();
    }

    pub(crate) fn calibration(&self, host: u32) -> HostCalibration {
        let scales = self.power.coefficients();
        HostCalibration {
            host,
            speed: 1.0 / self.slowness.value.max(1e-3),
            speed_error: self.slowness.standard_error() / self.slowness.value.max(1e-3).powi(2),
            background_vcpus: self.background.value,
            dynamic_power_scale: scales[0],
            idle_power_scale: scales[1],
        }
    }
}

/// Takes the residual of a task on a host of `slowness`.
pub(crate) fn update_slowness(
    slowness: &mut Estimate,
    step_s: f64,
    slope: f64,
    total: f64,
    fits: bool,
) {
    let most = if fits { SLOWNESS_PRIOR } else { SLOWNESS_DRIFT };
    slowness.update(step_s, slope, total, FORGETTING_TASK, most);
}
