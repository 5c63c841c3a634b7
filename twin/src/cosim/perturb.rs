//! Declared changes of a recording, to see whether drift is found: from an interval on, as if the
//! recorded fleet had changed.
//!
//! Tasks that start from then on take longer, on slow hosts by the reciprocal of the factor and for
//! applications of more demand by the factor; the new length is a whole number of intervals again,
//! rounded up with the probability of the rest, so that means are right. Where a host then has
//! another number of tasks in an interval, its sample is replaced by a recorded one of a host with
//! as many tasks and on or off as it was, of the same part of the recording. Power and background
//! are changed directly. Random values are hashed from task, host and interval.
//!
//! Left out: what follows from tasks that end later (later tasks of a chain and neighbors keep
//! their times).

use std::collections::BTreeMap;
use std::str::FromStr;

use serde::Serialize;
use thiserror::Error;

use crate::recording::{HostSample, MAX_INTERVALS, Recording, Task};
use crate::stream;
use crate::world::MAX_HOSTS;

/// Key of the random values.
const KEY: u64 = 0x9e27_0b5e;
/// The least and the most that a perturbation multiplies by.
const FACTORS: std::ops::RangeInclusive<f64> = 0.01..=100.0;

/// Some hosts and a number.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct OfHosts {
    /// The hosts.
    pub hosts: Vec<u32>,
    /// A factor, or a share of CPU.
    pub value: f64,
}

/// Tasks of an application, and a factor.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct OfWork {
    /// The application.
    pub application: String,
    /// The variant; all if absent.
    pub variant: Option<String>,
    /// The factor.
    pub value: f64,
}

/// What is not a perturbation.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("expected {expected}, found \"{found}\"")]
pub struct PerturbationError {
    expected: &'static str,
    found: String,
}

/// Changes of a recording.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Perturbations {
    /// The first interval that is changed.
    pub from_interval: u32,
    /// Factors of speed.
    pub slow_hosts: Vec<OfHosts>,
    /// Factors of demand.
    pub demand: Vec<OfWork>,
    /// Factors of power.
    pub power: Vec<OfHosts>,
    /// Shares of all virtual CPUs that something else uses.
    pub background: Vec<OfHosts>,
}

impl FromStr for OfHosts {
    type Err = PerturbationError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let parsed = text.split_once('=').and_then(|(hosts, value)| {
            let hosts = hosts
                .split(',')
                .map(|h| h.parse().ok().filter(|h| (*h as usize) < MAX_HOSTS))
                .collect::<Option<Vec<u32>>>()?;
            Some(Self {
                hosts,
                value: factor(value)?,
            })
        });
        parsed.ok_or_else(|| PerturbationError {
            expected: "hosts, \"=\" and a number from 0.01 to 100, as in 3,7=0.7",
            found: text.into(),
        })
    }
}

impl FromStr for OfWork {
    type Err = PerturbationError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let parsed = text.split_once('=').and_then(|(name, value)| {
            let (application, variant) = match name.split_once('/') {
                Some((application, variant)) => (application, Some(variant.to_owned())),
                None => (name, None),
            };
            Some(Self {
                application: (!application.is_empty()).then(|| application.into())?,
                variant,
                value: factor(value)?,
            })
        });
        parsed.ok_or_else(|| PerturbationError {
            expected: "an application or application/variant, \"=\" and a number from 0.01 to 100, \
                       as in blur=1.4",
            found: text.into(),
        })
    }
}

fn factor(text: &str) -> Option<f64> {
    text.parse().ok().filter(|value| FACTORS.contains(value))
}

impl Perturbations {
    /// Whether nothing changes.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.slow_hosts.is_empty()
            && self.demand.is_empty()
            && self.power.is_empty()
            && self.background.is_empty()
    }

    /// `recording` with the changes.
    #[must_use]
    pub fn apply(&self, recording: &Recording) -> Recording {
        let tasks: Vec<Task> = recording.tasks.iter().map(|t| self.task(t)).collect();
        let before = presence(&recording.tasks);
        let after = presence(&tasks);
        let mut samples: BTreeMap<(bool, u32), Vec<&HostSample>> = BTreeMap::new();
        for sample in &recording.hosts {
            if self.changes(sample.interval) {
                let key = (sample.enabled, sample.running_tasks);
                samples.entry(key).or_default().push(sample);
            }
        }
        let hosts = recording
            .hosts
            .iter()
            .map(|sample| {
                let key = (sample.interval, sample.host);
                let (old, new) = (
                    before.get(&key).copied().unwrap_or(0),
                    after.get(&key).copied().unwrap_or(0),
                );
                let tasks = (sample.running_tasks + new).saturating_sub(old);
                self.sample(sample, tasks, &samples)
            })
            .collect();
        Recording { tasks, hosts }
    }

    fn changes(&self, interval: u32) -> bool {
        interval >= self.from_interval
    }

    fn task(&self, task: &Task) -> Task {
        if !self.changes(task.started_interval) {
            return task.clone();
        }
        let longer = 1.0 / of_host(&self.slow_hosts, task.host).product::<f64>();
        let more: f64 = self
            .demand
            .iter()
            .filter(|d| {
                d.application == task.application
                    && d.variant.as_ref().is_none_or(|v| *v == task.variant)
            })
            .map(|d| d.value)
            .product();
        let length = f64::from(task.finished_interval - task.started_interval);
        let key = stream::mix(KEY, u64::from(task.request));
        let drawn = length * longer * more + stream::unit(key, u64::from(task.task));
        Task {
            finished_interval: task
                .started_interval
                .saturating_add(whole(drawn))
                .min(MAX_INTERVALS),
            ..task.clone()
        }
    }

    fn sample(
        &self,
        sample: &HostSample,
        tasks: u32,
        samples: &BTreeMap<(bool, u32), Vec<&HostSample>>,
    ) -> HostSample {
        let mut changed = *sample;
        if !self.changes(sample.interval) {
            return changed;
        }
        if tasks != sample.running_tasks {
            changed.running_tasks = tasks;
            // The nearest number of tasks of which there are samples.
            let alike = (0..=tasks)
                .rev()
                .find_map(|n| samples.get(&(sample.enabled, n)));
            if let Some(alike) = alike {
                let key = stream::mix(KEY, u64::from(sample.host));
                let unit = stream::unit(key, u64::from(sample.interval));
                let other = alike[(whole(unit * alike.len() as f64) as usize).min(alike.len() - 1)];
                changed.cpu_percent = other.cpu_percent;
                changed.power_w = other.power_w;
            }
        }
        let power: f64 = of_host(&self.power, sample.host).product();
        let background: f64 = of_host(&self.background, sample.host).sum();
        changed.power_w *= power;
        changed.cpu_percent = (changed.cpu_percent + 100.0 * background).min(100.0);
        changed
    }
}

fn of_host(list: &[OfHosts], host: u32) -> impl Iterator<Item = f64> + '_ {
    list.iter()
        .filter(move |p| p.hosts.contains(&host))
        .map(|p| p.value)
}

/// Number of tasks by interval and host.
fn presence(tasks: &[Task]) -> BTreeMap<(u32, u32), u32> {
    let mut counts = BTreeMap::new();
    for task in tasks {
        for interval in task.started_interval..=task.finished_interval {
            *counts.entry((interval, task.host)).or_default() += 1;
        }
    }
    counts
}

#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "lengths are far below the limit, and casts from floats saturate"
)]
fn whole(value: f64) -> u32 {
    value.floor() as u32
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn perturbations_are_parsed() {
        let slow: OfHosts = "3,7=0.7".parse().expect("two hosts");
        assert_eq!(slow.hosts, [3, 7]);
        let work: OfWork = "blur/layer=1.4".parse().expect("a variant");
        assert_eq!(work.variant.as_deref(), Some("layer"));
        for wrong in ["3,=0.7", "3,7", "3=0", "3=NaN", "3=1e9", "-1=2", "200000=2"] {
            assert!(wrong.parse::<OfHosts>().is_err(), "{wrong}");
        }
        assert_eq!(
            "=2".parse::<OfWork>()
                .expect_err("no application")
                .to_string(),
            "expected an application or application/variant, \"=\" and a number from 0.01 to 100, \
             as in blur=1.4, found \"=2\""
        );
    }

    #[test]
    fn nothing_changes_before_the_interval_and_means_do_after() {
        let recording = Recording::embedded().expect("the recording is embedded");
        let perturbations = Perturbations {
            from_interval: 350,
            slow_hosts: vec!["3,7=0.5".parse().expect("hosts")],
            power: vec!["1=1.1".parse().expect("a host")],
            ..Perturbations::default()
        };
        let changed = perturbations.apply(&recording);
        let (mut before, mut after) = (0.0, 0.0);
        for (old, new) in recording.tasks.iter().zip(&changed.tasks) {
            if old.started_interval < 350 || ![3, 7].contains(&old.host) {
                assert_eq!(old, new);
            } else {
                before += f64::from(old.finished_interval - old.started_interval);
                after += f64::from(new.finished_interval - new.started_interval);
            }
        }
        // Twice as long: 119 tasks, whose rounding has a standard deviation of at most half an
        // interval each; lengths of some 250 intervals in all, so at most 3 · 5.5 of 500.
        assert!((after / before - 2.0).abs() < 0.06, "{before} {after}");
        for (old, new) in recording.hosts.iter().zip(&changed.hosts) {
            if old.interval < 350 {
                assert_eq!(old, new);
            } else if old.host == 1 {
                assert!((new.power_w - 1.1 * old.power_w).abs() < 1e-9);
            }
        }
        assert_eq!(Perturbations::default().apply(&recording), recording);
    }
}
