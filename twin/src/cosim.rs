//! Co-simulation: keeps the twin in step with a fleet that sends telemetry, says where the two
//! part, and calibrates again.
//!
//! [`Cosim`] takes one [`telemetry::Record`] after the other. It reads no file and no clock; whoever
//! has records, from a file or from a socket, hands them over.
//!
//! **Predictions.** With `n_a` tasks of application `a` on host `h`, the host uses
//! `b + b_h + Σ d_a n_a` virtual CPUs and, at utilization `u`, draws
//! `i_h P(0) + c_h (P(u) − P(0))` with the power curve `P` of its size. A task takes
//! `o + f g_h a / s` (module `durations`): its duration `a` alone (module `model`), the mean share `s` of its speed that it
//! had beside the recorded company, a factor `f` for its application and variant, the slowness
//! `g_h` of its host and an overhead `o` that all tasks have. The share comes from what was
//! observed, so that more load is no drift: only changed parameters are.
//!
//! **Drift.** Each residual is divided by its standard deviation, uncertainty of the parameters
//! included, and goes to the streams it belongs to (all tasks, application, variant, host), each
//! watched by named tests (module [`detector`]). The run length of each test is
//! `every · tests · rate`, where `every` is the time between false alarms of the whole fleet that
//! was asked for, `tests` the number of tests in all (a Bonferroni correction) and `rate` the
//! values a second that the stream had in the warm-up.
//!
//! **Recalibration.** All coefficients are estimated recursively with forgetting (module
//! [`recursive`]), and cautiously: between alarms they may follow slow change only. An alarm opens
//! the coefficients of its stream, so that they learn anew within some ten observations, and
//! restarts the tests that it makes obsolete. [`Cosim::calibration`] gives the result as a value
//! that changes a world ([`Calibration::apply`]).
//!
//! Left out: queues and waiting, memory, transfers, cross-covariances between the coefficients of
//! durations, changes of the spread (only Kolmogorov–Smirnov notices them).

mod calibration;
pub mod command;
pub mod detector;
mod durations;
mod error;
pub mod evaluate;
pub mod ks;
mod machine;
mod model;
pub mod perturb;
pub mod recursive;
mod report;
pub mod sequential;
pub mod source;
pub mod telemetry;

use std::collections::BTreeMap;

use serde::Serialize;

pub use self::calibration::{Calibration, HostCalibration, WorkCalibration};
use self::detector::{Alarm, CUT, Detector, Stream};
use self::durations::{Durations, Learning};
pub use self::error::CosimError;
use self::machine::{Demand, Machine};
use self::model::Model;
use self::telemetry::{HostRecord, Record, TaskRecord};
use crate::world::World;

/// What to watch for.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Settings {
    /// Time from the first record on in which the model is fitted and nothing is tested, in s.
    pub warmup_s: f64,
    /// Mean time between false alarms of the whole fleet, in s.
    pub false_alarm_every_s: f64,
    /// Step to which recorded times are rounded, in s; 0 where they are exact.
    pub resolution_s: f64,
    /// What happens after the warm-up.
    pub mode: Mode,
}

/// What happens after the warm-up.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Mode {
    /// The model follows the observations.
    Recalibrate,
    /// The model stays as it is; drift is only reported.
    Watch,
}

/// What came of a record.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Observed {
    /// Alarms that it set off.
    pub alarms: Vec<Alarm>,
    /// What was predicted before it was known, and what it says.
    pub comparisons: Vec<Comparison>,
}

/// A prediction and what came.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Comparison {
    /// When it was observed, in s.
    pub time_s: f64,
    /// Where.
    pub host: u32,
    /// What.
    pub quantity: Quantity,
    /// The prediction.
    pub predicted: f64,
    /// The observation.
    pub observed: f64,
}

/// What is predicted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Quantity {
    /// Duration of a task, in s.
    Duration,
    /// Utilization of a host, as a ratio, from what runs on it.
    Utilization,
    /// Power of a host, in W, from its utilization.
    Power,
    /// Power of a host, in W, from what runs on it.
    PowerOfTasks,
}

/// What a host is expected to show, with the tasks that it had last.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct HostPrediction {
    /// The host.
    pub host: u32,
    /// Utilization, as a ratio.
    pub utilization: f64,
    /// Power, in W; 0 if it was off.
    pub power_w: f64,
}

/// A twin in step with a real fleet.
#[derive(Clone, Debug)]
pub struct Cosim {
    model: Model,
    settings: Settings,
    interval_s: f64,
    /// Time of the first and of the latest record, in s.
    span_s: Option<(f64, f64)>,
    armed: bool,
    durations: Durations,
    demand: Demand,
    machines: Vec<Machine>,
    /// Values of the present interval, by the stream of all hosts or tasks.
    fleet: [(Stream, Bucket); 3],
    /// Number of the present interval.
    interval: f64,
    detectors: BTreeMap<Stream, Detector>,
}

/// Values of an interval that are yet to be averaged.
#[derive(Clone, Copy, Debug, Default)]
struct Bucket {
    sum: f64,
    count: f64,
}

impl Bucket {
    fn add(&mut self, value: f64) {
        self.sum += value.clamp(-CUT, CUT);
        self.count += 1.0;
    }
}

impl Cosim {
    /// A twin of `world` that has seen nothing yet.
    ///
    /// # Errors
    ///
    /// If a setting is out of range.
    pub fn new(world: &World, settings: Settings) -> Result<Self, CosimError> {
        settings.check()?;
        let model = Model::new(world);
        let fleet = [Stream::Durations, Stream::Utilizations, Stream::Powers];
        let mut streams = fleet.to_vec();
        streams.extend(model.applications().map(|a| Stream::Application(a.into())));
        let variants = model.variants();
        streams.extend(variants.map(|(a, v)| Stream::Variant(a.into(), v.into())));
        let hosts = u32::try_from(model.hosts()).unwrap_or(u32::MAX);
        for host in 0..hosts {
            streams.extend([
                Stream::Speed(host),
                Stream::Utilization(host),
                Stream::Power(host),
            ]);
        }
        Ok(Self {
            settings,
            interval_s: world.interval.seconds(),
            span_s: None,
            armed: false,
            durations: Durations::new(&model, settings.resolution_s),
            demand: Demand::new(model.applications().count()),
            machines: (0..model.hosts())
                .map(|h| Machine::new(world, &model, h))
                .collect(),
            fleet: fleet.map(|stream| (stream, Bucket::default())),
            interval: 0.0,
            detectors: streams
                .into_iter()
                .map(|s| (s.clone(), Detector::new(&s)))
                .collect(),
            model,
        })
    }

    /// Takes the next record.
    ///
    /// # Errors
    ///
    /// If a value is out of range, the record names something that the world does not have, or a
    /// host's records are not in order of time. The state is then as before.
    pub fn observe(&mut self, record: &Record) -> Result<Observed, CosimError> {
        record.check()?;
        let mut observed = Observed::default();
        match record {
            Record::Host(host) => self.host(host, &mut observed)?,
            Record::Task(task) => self.task(task, &mut observed)?,
        }
        Ok(observed)
    }

    /// What the hosts are expected to show next, if their tasks stay; hosts that no record was of
    /// are left out.
    #[must_use]
    pub fn predict(&self) -> Vec<HostPrediction> {
        (0..)
            .zip(&self.machines)
            .filter_map(|(host, machine)| {
                let last = machine.last.as_ref()?;
                let x = self.demand.input(&self.model, &last.running);
                let utilization = machine.utilization(&self.demand, &x);
                Some(HostPrediction {
                    host,
                    utilization,
                    power_w: if last.on {
                        machine.power_w(utilization)
                    } else {
                        0.0
                    },
                })
            })
            .collect()
    }

    /// How long `task` is expected to take, in s, if it runs beside `others` tasks; its times do
    /// not matter.
    ///
    /// # Errors
    ///
    /// If the world does not have what the task names.
    pub fn predict_duration_s(&self, task: &TaskRecord, others: u32) -> Result<f64, CosimError> {
        let alone = self.model.alone(task)?;
        let host = self.model.host(task.host)?;
        let share = self.model.share(host, alone.cap, others.saturating_add(1));
        let slowness = self.machines[host].slowness;
        self.durations.predict_s(task, alone, slowness, share)
    }

    /// What the twin has learned.
    #[must_use]
    pub fn calibration(&self) -> Calibration {
        Calibration {
            time_s: self.now_s(),
            overhead_s: self.durations.overhead.value,
            overhead_error_s: self.durations.overhead.standard_error(),
            background_vcpus: self.demand.background_vcpus(),
            demand_vcpus: self
                .model
                .applications()
                .zip(self.demand.demand_vcpus())
                .map(|(name, vcpus)| (name.to_owned(), *vcpus))
                .collect(),
            hosts: (0..)
                .zip(&self.machines)
                .map(|(host, machine)| machine.calibration(host))
                .collect(),
            work: self.durations.calibration(),
        }
    }

    /// Time of the latest record, in s.
    #[must_use]
    pub fn now_s(&self) -> f64 {
        self.span_s.map_or(0.0, |s| s.1)
    }

    /// Whether the warm-up is over.
    #[must_use]
    pub fn is_watching(&self) -> bool {
        self.armed
    }

    /// Streams that are watched.
    #[must_use]
    pub fn streams(&self) -> usize {
        self.detectors.len()
    }

    /// Tests of all streams.
    #[must_use]
    pub fn tests(&self) -> usize {
        self.detectors.values().map(Detector::tests).sum()
    }

    fn host(&mut self, record: &HostRecord, observed: &mut Observed) -> Result<(), CosimError> {
        let host = self.model.host(record.host)?;
        for name in record.running.keys() {
            self.model.application(name)?;
        }
        let known_s = self.machines[host].service.time_s();
        if let Some(known_s) = known_s.filter(|known| *known >= record.time_s) {
            return Err(CosimError::Order {
                host: record.host,
                time_s: record.time_s,
                known_s,
            });
        }
        self.advance(record.time_s, observed);
        let learns = !self.armed || self.settings.mode == Mode::Recalibrate;
        let machine = &mut self.machines[host];
        machine.service.observe(&self.model, host, record);
        machine.last = Some(record.clone());
        if !record.on {
            return Ok(());
        }
        let x = self.demand.input(&self.model, &record.running);
        let mut compare = |quantity, predicted, observed_value| {
            observed.comparisons.push(Comparison {
                time_s: record.time_s,
                host: record.host,
                quantity,
                predicted,
                observed: observed_value,
            });
        };
        let predicted = machine.utilization(&self.demand, &x);
        compare(Quantity::Utilization, predicted, record.utilization);
        let mut values = Vec::new();
        if let Some(power_w) = record.power_w {
            let of_tasks = machine.power_w(predicted);
            compare(Quantity::PowerOfTasks, of_tasks, power_w);
            compare(
                Quantity::Power,
                machine.power_w(record.utilization),
                power_w,
            );
            let value = machine.observe_power(record.utilization, power_w, learns, !self.armed);
            values.push((Stream::Power(record.host), value));
        }
        let value = machine.observe_utilization(&mut self.demand, &x, record, learns, !self.armed);
        values.push((Stream::Utilization(record.host), value));
        for (stream, value) in values {
            match stream {
                Stream::Power(_) => self.gather(&Stream::Powers, value),
                // An idle host says nothing of the demand of tasks.
                _ if record.tasks() > 0 => self.gather(&Stream::Utilizations, value),
                _ => {}
            }
            self.watch(&stream, record.time_s, value, observed);
        }
        Ok(())
    }

    fn task(&mut self, task: &TaskRecord, observed: &mut Observed) -> Result<(), CosimError> {
        let alone = self.model.alone(task)?;
        let host = self.model.host(task.host)?;
        let machine = &self.machines[host];
        let share = machine
            .service
            .mean_share(alone.cap, task.started_s, task.finished_s);
        let predicted = self
            .durations
            .predict_s(task, alone, machine.slowness, share)?;
        observed.comparisons.push(Comparison {
            time_s: task.finished_s,
            host: task.host,
            quantity: Quantity::Duration,
            predicted,
            observed: task.duration_s(),
        });
        self.advance(task.finished_s, observed);
        let learning = match (self.armed, self.settings.mode) {
            (false, _) => Learning::Fit,
            (true, Mode::Recalibrate) => Learning::Follow,
            (true, Mode::Watch) => Learning::Stopped,
        };
        let slowness = &mut self.machines[host].slowness;
        let value = self
            .durations
            .observe(task, alone, slowness, share, learning)?;
        self.gather(&Stream::Durations, value);
        let streams = [
            Stream::Application(task.application.clone()),
            Stream::Variant(task.application.clone(), task.variant.clone()),
            Stream::Speed(task.host),
        ];
        for stream in streams {
            self.watch(&stream, task.finished_s, value, observed);
        }
        Ok(())
    }

    /// Moves on to `time_s`: closes the interval and ends the warm-up where it is time.
    fn advance(&mut self, time_s: f64, observed: &mut Observed) {
        let (began_s, last_s) = self.span_s.unwrap_or((time_s, time_s));
        self.span_s = Some((began_s, last_s.max(time_s)));
        let interval = (time_s / self.interval_s).ceil();
        if interval > self.interval {
            self.interval = interval;
            for i in 0..self.fleet.len() {
                let (stream, bucket) = &mut self.fleet[i];
                let (stream, closed) = (stream.clone(), std::mem::take(bucket));
                if closed.count > 0.0 {
                    let value = closed.sum / closed.count.sqrt();
                    self.watch(&stream, last_s, value, observed);
                }
            }
        }
        if !self.armed && time_s - began_s >= self.settings.warmup_s {
            self.armed = true;
            let tests = self.tests() as f64;
            let spans = self.settings.false_alarm_every_s / self.settings.warmup_s;
            for detector in self.detectors.values_mut() {
                let values = (detector.seen() + 1) as f64;
                detector.arm(spans * tests * values);
            }
        }
    }

    /// Adds a value to those of the present interval.
    fn gather(&mut self, stream: &Stream, value: f64) {
        for (gathered, bucket) in &mut self.fleet {
            if gathered == stream {
                bucket.add(value);
            }
        }
    }

    /// Hands a value to the tests of its stream, and opens what an alarm puts in doubt.
    fn watch(&mut self, stream: &Stream, time_s: f64, value: f64, observed: &mut Observed) {
        let Some(detector) = self.detectors.get_mut(stream) else {
            return;
        };
        if let Some(alarm) = detector.observe(stream, time_s, value) {
            if self.settings.mode == Mode::Recalibrate {
                self.open(stream);
            }
            observed.alarms.push(alarm);
        }
    }

    /// Lets the coefficients of `stream` learn anew.
    fn open(&mut self, stream: &Stream) {
        match stream {
            Stream::Durations => self.durations.open_overhead(),
            Stream::Utilizations => self.demand.open(),
            Stream::Powers => self.machines.iter_mut().for_each(Machine::open_power),
            Stream::Application(application) => self.durations.open_work(application, None),
            Stream::Variant(application, variant) => {
                self.durations.open_work(application, Some(variant));
            }
            Stream::Speed(host) => self.machines[*host as usize].open_slowness(),
            Stream::Utilization(host) => self.machines[*host as usize].open_background(),
            Stream::Power(host) => self.machines[*host as usize].open_power(),
        }
        for (other, detector) in &mut self.detectors {
            let obsolete = match (stream, other) {
                (
                    Stream::Durations,
                    Stream::Application(_) | Stream::Variant(..) | Stream::Speed(_),
                )
                | (Stream::Utilizations, Stream::Utilization(_))
                | (Stream::Powers, Stream::Power(_)) => true,
                (Stream::Application(a), Stream::Variant(b, _)) => a == b,
                (Stream::Variant(a, _), Stream::Application(b)) => a == b,
                _ => false,
            };
            if obsolete {
                detector.restart();
            }
        }
    }
}

impl Settings {
    fn check(&self) -> Result<(), CosimError> {
        let at_least = |name, value: f64, least: f64, expected| {
            if value.is_finite() && value >= least {
                return Ok(());
            }
            Err(CosimError::Setting {
                name,
                expected,
                value,
            })
        };
        let above = "above zero";
        at_least("warmup_s", self.warmup_s, f64::MIN_POSITIVE, above)?;
        let every_s = self.false_alarm_every_s;
        at_least("false_alarm_every_s", every_s, f64::MIN_POSITIVE, above)?;
        at_least("resolution_s", self.resolution_s, 0.0, "not negative")
    }
}
