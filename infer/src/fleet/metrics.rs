//! Metrics of the fleet, for Prometheus.

use metrics::{Counter, Gauge, Unit, counter, describe_counter, describe_gauge, gauge};
use twin::wire::{FleetResponse, FleetTotals};

use super::LiveFleet;
use super::drift::Quantity;

/// The handles.
#[derive(Debug)]
pub(crate) struct FleetMetrics {
    applied: Counter,
    ignored: Counter,
    clock: Gauge,
    requests: Gauge,
    waiting: Gauge,
    power: Gauge,
    price: Gauge,
    utilization: Gauge,
    hosts: [(&'static str, Gauge); 4],
    /// Bias, mean absolute error and alarms of each quantity.
    drift: [(Quantity, Gauge, Gauge, Gauge); 4],
}

impl FleetMetrics {
    /// Registers them with the recorder that is in use.
    pub(crate) fn register() -> Self {
        describe();
        let deltas = |outcome: &'static str| counter!("infer_fleet_telemetry_deltas_total", "outcome" => outcome);
        let hosts = |lifecycle: &'static str| gauge!("infer_fleet_hosts", "lifecycle" => lifecycle);
        Self {
            applied: deltas("applied"),
            ignored: deltas("ignored"),
            clock: gauge!("infer_fleet_clock_seconds"),
            requests: gauge!("infer_fleet_requests"),
            waiting: gauge!("infer_fleet_waiting_requests"),
            power: gauge!("infer_fleet_power_watts"),
            price: gauge!("infer_fleet_price_usd_per_second"),
            utilization: gauge!("infer_fleet_utilization_ratio"),
            hosts: ["off", "booting", "on", "draining"].map(|l| (l, hosts(l))),
            drift: Quantity::ALL.map(|quantity| {
                let (name, unit) = (quantity.name(), unit_of(quantity));
                (
                    quantity,
                    gauge!(format!("infer_fleet_{name}_bias_{unit}")),
                    gauge!(format!("infer_fleet_{name}_mean_absolute_error_{unit}")),
                    gauge!("infer_fleet_drift_alarms", "quantity" => name),
                )
            }),
        }
    }

    /// Counts what became of deltas.
    pub(crate) fn noted(&self, applied: u64, ignored: u64) {
        self.applied.increment(applied);
        self.ignored.increment(ignored);
    }

    /// Sets the gauges to what is known of `fleet`.
    pub(crate) fn show(&self, fleet: &LiveFleet) {
        let FleetTotals {
            hosts,
            requests,
            waiting,
            power_w,
            price_usd_per_hour,
            utilization,
            ..
        } = FleetResponse::of(fleet.world(), fleet.live(), false).totals;
        self.clock.set(fleet.now().seconds());
        self.requests.set(requests as f64);
        self.waiting.set(waiting as f64);
        self.power.set(power_w);
        self.price.set(price_usd_per_hour / 3600.0);
        self.utilization.set(utilization);
        for (lifecycle, gauge) in &self.hosts {
            gauge.set(hosts.get(*lifecycle).copied().unwrap_or(0) as f64);
        }
        for (quantity, bias, error, alarms) in &self.drift {
            if let Some(errors) = fleet.drift().overall(*quantity) {
                bias.set(errors.bias);
                error.set(errors.mean_absolute_error);
                alarms.set(errors.alarms as f64);
            }
        }
    }
}

/// The unit of a quantity in names of metrics.
fn unit_of(quantity: Quantity) -> &'static str {
    match quantity {
        Quantity::Utilization => "ratio",
        Quantity::Power => "watts",
        Quantity::Response | Quantity::Duration => "seconds",
    }
}

fn describe() {
    describe_counter!(
        "infer_fleet_telemetry_deltas_total",
        "Deltas of telemetry accepted, by whether they changed anything."
    );
    describe_gauge!(
        "infer_fleet_clock_seconds",
        Unit::Seconds,
        "Where the clock of the fleet stands."
    );
    describe_gauge!("infer_fleet_requests", "Requests under way in the fleet.");
    describe_gauge!(
        "infer_fleet_waiting_requests",
        "Requests that wait to be deployed."
    );
    describe_gauge!("infer_fleet_power_watts", "Power of the fleet by its twin.");
    describe_gauge!(
        "infer_fleet_price_usd_per_second",
        "Price of the hosts that are billed."
    );
    describe_gauge!(
        "infer_fleet_utilization_ratio",
        "Mean utilization of the hosts that serve, by their twin."
    );
    describe_gauge!(
        "infer_fleet_hosts",
        "Hosts by where they are in their life."
    );
    describe_gauge!(
        "infer_fleet_drift_alarms",
        "Alarms so far that prediction and observation of the fleet have parted."
    );
    for quantity in Quantity::ALL {
        let (name, unit) = (quantity.name(), unit_of(quantity));
        describe_gauge!(
            format!("infer_fleet_{name}_bias_{unit}"),
            format!("Mean of observed less predicted {name}, over the last comparisons.")
        );
        describe_gauge!(
            format!("infer_fleet_{name}_mean_absolute_error_{unit}"),
            format!("Mean distance of observed from predicted {name}, over the last comparisons.")
        );
    }
}
