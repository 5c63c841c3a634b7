//! Drift: what the fleet shows against what its live twin predicts.
//!
//! | quantity | predicted by | observed in |
//! |---|---|---|
//! | utilization | the twin's own, averaged from one sample of the host to the next | samples |
//! | power | the twin's energy over the same time | samples |
//! | response | the quick estimate when the request was deployed | reports of answers |
//! | duration | the recorded one times expected work over the service that the twin counts | starts and ends of fragments |
//!
//! A response counts for every host that the request was placed on. The error is observed less
//! predicted. Bias and mean absolute error are over the last [`WINDOW`] values.
//!
//! **Alarms.** The first [`WARMUP`] errors of a series give its mean and deviation; from then on the
//! errors, in these deviations, go to a CUSUM and a Page–Hinkley test ([`twin::cosim::sequential`])
//! with one false alarm of all series in [`FALSE_ALARM_VALUES`] values of each. So a constant error of
//! the twin is bias, and a change of it is an alarm. After an alarm the series learns anew.
//!
//! Left out: recalibration, which [`twin::cosim`] does from recorded telemetry.

use std::collections::{BTreeMap, VecDeque};

use serde::Serialize;
use twin::cosim::detector::{CUSUM_ALLOWANCE, CUT, PAGE_HINKLEY_ALLOWANCE, Test};
use twin::cosim::sequential::{Cusum, Limits, PageHinkley};
use twin::ids::{HostId, RequestId};
use twin::live::{Expected, Fact, HostMeter, Sample};
use twin::units::SimTime;
use twin::world::World;
use utoipa::ToSchema;

use super::window::Window;

/// Errors that bias and mean absolute error are taken over.
pub const WINDOW: usize = 32;
/// Errors of a series before it is tested.
pub const WARMUP: u32 = 20;
/// Values of each series between false alarms of the fleet.
pub const FALSE_ALARM_VALUES: f64 = 10_000.0;
/// The last alarms that are kept.
pub const MAX_ALARMS: usize = 256;
/// The most requests whose answer is waited for.
const MAX_EXPECTED: usize = 65_536;
/// The least deviation that a series is taken to have, in its unit: what is below is rounding.
const LEAST_DEVIATION: [f64; QUANTITIES] = [1e-3, 1e-2, 1e-4, 1e-4];

/// Number of quantities.
const QUANTITIES: usize = 4;

/// What is compared.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, ToSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Quantity {
    /// Share of a host's virtual CPUs in use.
    Utilization,
    /// Power of a host, in W.
    Power,
    /// Response time of a request, in s.
    Response,
    /// Duration of a fragment, in s.
    Duration,
}

impl Quantity {
    /// All of them.
    pub const ALL: [Self; QUANTITIES] = [
        Self::Utilization,
        Self::Power,
        Self::Response,
        Self::Duration,
    ];

    /// Its name, as in labels.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Utilization => "utilization",
            Self::Power => "power",
            Self::Response => "response",
            Self::Duration => "duration",
        }
    }

    /// Its unit.
    #[must_use]
    pub fn unit(self) -> &'static str {
        match self {
            Self::Utilization => "ratio",
            Self::Power => "W",
            Self::Response | Self::Duration => "s",
        }
    }
}

/// The errors of one quantity, of a host or of all.
#[derive(Clone, Debug, Default)]
struct Series {
    window: VecDeque<(SimTime, f64)>,
    count: u64,
    alarms: u64,
    /// Errors of the warm-up: number, mean, sum of squared distances from it.
    warm: (u32, f64, f64),
    tests: Option<(Cusum, PageHinkley)>,
}

/// What a test found.
#[derive(Clone, Copy, Debug)]
struct Found {
    test: Test,
    statistic: f64,
    threshold: f64,
    changed: SimTime,
    effect: f64,
}

/// Prediction and observation have parted.
#[derive(Clone, Debug, PartialEq, Serialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct DriftAlarm {
    /// When the test signaled.
    pub at_ns: u64,
    /// What drifted.
    pub quantity: Quantity,
    /// Where; not there if it is the fleet as a whole.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub host: Option<u32>,
    /// The test.
    pub test: Test,
    /// Its statistic, in standard deviations.
    pub statistic: f64,
    /// What the statistic exceeded.
    pub threshold: f64,
    /// When the change is estimated to have happened.
    pub changed_at_ns: u64,
    /// The change of the error, in the quantity's unit.
    pub effect: f64,
}

/// The errors of one quantity in numbers.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Errors {
    /// Comparisons so far.
    pub count: u64,
    /// Mean of observed less predicted over the window.
    pub bias: f64,
    /// Mean of its absolute value.
    pub mean_absolute_error: f64,
    /// Alarms so far.
    pub alarms: u64,
    /// Whether the warm-up is over.
    pub watched: bool,
}

/// The errors of all quantities, by name; those without a value are left out.
pub type ErrorsByQuantity = BTreeMap<&'static str, Errors>;

/// The drift of a host.
#[derive(Clone, Debug, PartialEq, Serialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct HostDrift {
    /// Position of the host.
    pub host: u32,
    /// Its name.
    pub name: String,
    /// Its errors.
    #[schema(value_type = BTreeMap<String, Errors>)]
    pub errors: ErrorsByQuantity,
}

/// The drift of a fleet.
#[derive(Clone, Debug, PartialEq, Serialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct DriftReport {
    /// Version of the schema.
    pub schema: u32,
    /// Where the fleet's clock stands.
    pub now_ns: u64,
    /// The most values that errors are taken over.
    #[schema(value_type = u32)]
    pub window: usize,
    /// Units of the quantities.
    #[schema(value_type = BTreeMap<String, String>)]
    pub units: BTreeMap<&'static str, &'static str>,
    /// All hosts together.
    #[schema(value_type = BTreeMap<String, Errors>)]
    pub overall: ErrorsByQuantity,
    /// Hosts of which there are values.
    #[schema(max_items = 100_000)]
    pub hosts: Vec<HostDrift>,
    /// The last alarms, the latest last.
    #[schema(max_items = 256)]
    pub alarms: Vec<DriftAlarm>,
}

/// A comparison.
#[derive(Clone, Copy, Debug)]
struct Compared {
    at: SimTime,
    quantity: Quantity,
    predicted: f64,
    observed: f64,
}

/// What is known of the drift of a fleet.
#[derive(Clone, Debug)]
pub struct Drift {
    overall: [Series; QUANTITIES],
    hosts: BTreeMap<HostId, Box<HostSeries>>,
    expected: BTreeMap<RequestId, Expected>,
    alarms: VecDeque<DriftAlarm>,
    /// Since it was last taken.
    pub(super) window: Window,
    /// Limits of CUSUM and of Page–Hinkley.
    limits: (Limits, Limits),
}

/// What is known of a host.
#[derive(Clone, Debug, Default)]
struct HostSeries {
    series: [Series; QUANTITIES],
    /// When it was last measured, and the twin's account then.
    last: Option<(SimTime, HostMeter)>,
}

impl Drift {
    /// Nothing is known of a fleet of `hosts` hosts.
    #[must_use]
    pub fn new(hosts: usize) -> Self {
        let series = (QUANTITIES * (hosts + 1)) as f64;
        let run_length = FALSE_ALARM_VALUES * series * 2.0;
        let limits = |allowance| Limits::for_run_length(allowance, run_length);
        Self {
            overall: Default::default(),
            hosts: BTreeMap::new(),
            expected: BTreeMap::new(),
            alarms: VecDeque::new(),
            window: Window::default(),
            limits: (limits(CUSUM_ALLOWANCE), limits(PAGE_HINKLEY_ALLOWANCE)),
        }
    }

    /// Waits for the answers of requests that are about to be deployed.
    pub fn expect(&mut self, expected: Vec<Expected>) {
        for one in expected {
            if self.expected.len() >= MAX_EXPECTED {
                self.expected.pop_first();
            }
            self.expected.insert(one.request, one);
        }
    }

    /// Takes what came to be known.
    pub fn note(&mut self, facts: &[Fact]) {
        for fact in facts {
            match *fact {
                Fact::Sampled {
                    at,
                    sample,
                    meter,
                    utilization,
                } => self.sampled(at, &sample, meter, utilization),
                Fact::Answered {
                    request,
                    at,
                    response,
                    ..
                } => self.answered(request, at, response),
                Fact::Finished {
                    host,
                    started,
                    finished,
                    expected_mi,
                    attained_mi,
                    ..
                } => {
                    let observed = finished.since(started).seconds();
                    if attained_mi > 0.0 && observed > 0.0 {
                        let compared = Compared {
                            at: finished,
                            quantity: Quantity::Duration,
                            predicted: observed * expected_mi / attained_mi,
                            observed,
                        };
                        self.compare(&[host], compared);
                    }
                }
                Fact::Failed { request } => {
                    self.expected.remove(&request);
                }
            }
        }
    }

    fn sampled(&mut self, at: SimTime, sample: &Sample, meter: HostMeter, utilization: f64) {
        let host = self.hosts.entry(sample.host).or_default();
        let last = host.last.replace((at, meter));
        let Some((since, before)) = last else {
            return;
        };
        // The twin's account is of the clock, which may be ahead of the sample.
        let span_s = meter.at.since(before.at).seconds();
        if at <= since || span_s <= 0.0 {
            // A sample that comes late: what was then is not known any more.
            host.last = last;
            return;
        }
        let mean_w = (meter.energy_j - before.energy_j) / span_s;
        let mean = (meter.busy_s - before.busy_s) / span_s;
        // A sample of a moment is held against that moment.
        let short = sample
            .span
            .is_some_and(|span| span.seconds() < span_s / 2.0);
        let predicted = if short { utilization } else { mean };
        if let Some(observed) = sample.utilization {
            let compared = Compared {
                at,
                quantity: Quantity::Utilization,
                predicted,
                observed,
            };
            self.compare(&[sample.host], compared);
        }
        if let (Some(observed), false) = (sample.power_w, short) {
            let compared = Compared {
                at,
                quantity: Quantity::Power,
                predicted: mean_w,
                observed,
            };
            self.compare(&[sample.host], compared);
        }
    }

    fn answered(&mut self, request: RequestId, at: SimTime, response: SimTime) {
        let Some(expected) = self.expected.remove(&request) else {
            return;
        };
        let compared = Compared {
            at,
            quantity: Quantity::Response,
            predicted: expected.response_s,
            observed: response.seconds(),
        };
        self.compare(&expected.hosts, compared);
    }

    /// Takes a comparison for the fleet and for `hosts`.
    fn compare(&mut self, hosts: &[HostId], compared: Compared) {
        let q = compared.quantity as usize;
        let limits = self.limits;
        self.window
            .compare(compared.quantity, compared.predicted, compared.observed);
        let found = self.overall[q].take(compared, limits);
        self.alarm(compared, None, found);
        for &id in hosts {
            let host = self.hosts.entry(id).or_default();
            let found = host.series[q].take(compared, limits);
            self.alarm(compared, Some(id.0), found);
        }
    }

    fn alarm(&mut self, compared: Compared, host: Option<u32>, found: Option<Found>) {
        let Some(found) = found else {
            return;
        };
        if self.alarms.len() == MAX_ALARMS {
            self.alarms.pop_front();
        }
        self.alarms.push_back(DriftAlarm {
            at_ns: compared.at.0,
            quantity: compared.quantity,
            host,
            test: found.test,
            statistic: found.statistic,
            threshold: found.threshold,
            changed_at_ns: found.changed.0,
            effect: found.effect,
        });
    }

    /// The errors of the fleet as a whole; `None` where there is no value.
    #[must_use]
    pub fn overall(&self, quantity: Quantity) -> Option<Errors> {
        self.overall[quantity as usize].errors()
    }

    /// The last alarms, the latest last.
    pub fn alarms(&self) -> impl Iterator<Item = &DriftAlarm> {
        self.alarms.iter()
    }

    /// All of it as of `now`.
    #[must_use]
    pub fn report(&self, world: &World, now: SimTime) -> DriftReport {
        let units = Quantity::ALL.map(|q| (q.name(), q.unit()));
        DriftReport {
            schema: twin::wire::SCHEMA,
            now_ns: now.0,
            window: WINDOW,
            units: units.into_iter().collect(),
            overall: by_quantity(&self.overall),
            hosts: self
                .hosts
                .iter()
                .map(|(id, host)| HostDrift {
                    host: id.0,
                    name: world.hosts[id.index()].name.clone(),
                    errors: by_quantity(&host.series),
                })
                .filter(|host| !host.errors.is_empty())
                .collect(),
            alarms: self.alarms.iter().cloned().collect(),
        }
    }
}

fn by_quantity(series: &[Series; QUANTITIES]) -> ErrorsByQuantity {
    let pairs = Quantity::ALL.into_iter().zip(series);
    pairs
        .filter_map(|(quantity, series)| Some((quantity.name(), series.errors()?)))
        .collect()
}

impl Series {
    fn errors(&self) -> Option<Errors> {
        if self.window.is_empty() {
            return None;
        }
        let n = self.window.len() as f64;
        let errors = self.window.iter().map(|(_, error)| error);
        Some(Errors {
            count: self.count,
            bias: errors.clone().sum::<f64>() / n,
            mean_absolute_error: errors.map(|e| e.abs()).sum::<f64>() / n,
            alarms: self.alarms,
            watched: self.tests.is_some(),
        })
    }

    /// Takes a comparison; at most one test signals.
    fn take(&mut self, compared: Compared, limits: (Limits, Limits)) -> Option<Found> {
        let error = compared.observed - compared.predicted;
        if !error.is_finite() {
            return None;
        }
        if self.window.len() == WINDOW {
            self.window.pop_front();
        }
        self.window.push_back((compared.at, error));
        self.count += 1;
        let (n, mean, squares) = &mut self.warm;
        let Some((cusum, page)) = &mut self.tests else {
            *n += 1;
            let distance = error - *mean;
            *mean += distance / f64::from(*n);
            *squares += distance * (error - *mean);
            if *n >= WARMUP {
                self.tests = Some((Cusum::new(limits.0), PageHinkley::new(limits.1)));
            }
            return None;
        };
        let least = LEAST_DEVIATION[compared.quantity as usize];
        let deviation = (*squares / f64::from(WARMUP - 1)).sqrt().max(least);
        let value = ((error - *mean) / deviation).clamp(-CUT, CUT);
        let by_cusum = cusum.observe(value).map(|s| (Test::Cusum, s));
        let by_page = page.observe(value).map(|s| (Test::PageHinkley, s));
        let (test, signal) = by_cusum.or(by_page)?;
        self.alarms += 1;
        let since = self.window.len().saturating_sub(signal.since);
        let changed = self.window.get(since).map_or(compared.at, |(at, _)| *at);
        (self.warm, self.tests) = ((0, 0.0, 0.0), None);
        Some(Found {
            test,
            statistic: signal.statistic,
            threshold: signal.threshold,
            changed,
            effect: signal.effect * deviation,
        })
    }
}
