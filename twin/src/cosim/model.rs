//! What the twin predicts of a single task and a single host: the part of a world that telemetry
//! can be held against.
//!
//! A task alone on host `h` takes `a = work / (mips · min(cap, vcpus))`. With `n` tasks on the host
//! it is served at `min(cap, vcpus / n)` virtual CPUs, a share `min(cap, vcpus / n) / min(cap,
//! vcpus)` of that; the service that a task has had is the integral of the share (virtual time).
//!
//! Left out: what tasks with a smaller cap leave to others, memory, transfers.

use std::collections::{BTreeMap, VecDeque};

use super::CosimError;
use super::telemetry::{HostRecord, TaskRecord};
use crate::distribution::Distribution;
use crate::world::{World, did_you_mean};

/// The most records of a host that are remembered.
const HISTORY: usize = 4096;

/// A world, as far as single tasks and hosts are concerned.
#[derive(Clone, Debug)]
pub(crate) struct Model {
    /// Applications by name.
    applications: BTreeMap<String, BTreeMap<String, Vec<Piece>>>,
    /// Distinct parallelism caps, in vCPUs.
    caps: Vec<f64>,
    /// Virtual CPUs, speed of each in MIPS.
    hosts: Vec<(f64, f64)>,
}

/// A fragment.
#[derive(Clone, Debug)]
struct Piece {
    work_mi: f64,
    cv: f64,
    work_mi_per_context_token: f64,
    work_mi_per_generated_token: f64,
    /// Position in the list of caps.
    cap: usize,
}

impl Piece {
    /// Mean work of `task`, in million instructions.
    fn work_mi(&self, task: &TaskRecord) -> f64 {
        self.work_mi
            + self.work_mi_per_context_token * f64::from(task.context_tokens)
            + self.work_mi_per_generated_token * f64::from(task.generated_tokens)
    }
}

/// A task on an otherwise idle host.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Alone {
    /// Mean duration, in s.
    pub(crate) mean_s: f64,
    /// Its standard deviation, in s.
    pub(crate) deviation_s: f64,
    /// Position of the cap.
    pub(crate) cap: usize,
}

impl Model {
    pub(crate) fn new(world: &World) -> Self {
        let applications = world
            .applications
            .iter()
            .map(|application| {
                let variants = application.variants.iter().map(|variant| {
                    let pieces = variant.fragments.iter().map(|f| Piece {
                        work_mi: f.work_mi.mean(),
                        cv: coefficient_of_variation(&f.work_mi),
                        work_mi_per_context_token: f.work_mi_per_context_token,
                        work_mi_per_generated_token: f.work_mi_per_generated_token,
                        cap: f.cap,
                    });
                    (variant.name.clone(), pieces.collect())
                });
                (application.name.clone(), variants.collect())
            })
            .collect();
        let hosts = (0..world.hosts.len())
            .map(|h| (world.size_of(h).vcpus, world.size_of(h).mips_per_vcpu.0))
            .collect();
        Self {
            applications,
            caps: world.caps.clone(),
            hosts,
        }
    }

    /// Names of the applications, in order.
    pub(crate) fn applications(&self) -> impl Iterator<Item = &str> {
        self.applications.keys().map(String::as_str)
    }

    /// Applications and variants, in order.
    pub(crate) fn variants(&self) -> impl Iterator<Item = (&str, &str)> {
        self.applications
            .iter()
            .flat_map(|(application, variants)| {
                variants
                    .keys()
                    .map(|variant| (application.as_str(), variant.as_str()))
            })
    }

    pub(crate) fn hosts(&self) -> usize {
        self.hosts.len()
    }

    pub(crate) fn caps(&self) -> usize {
        self.caps.len()
    }

    /// Position of the host of a record.
    pub(crate) fn host(&self, host: u32) -> Result<usize, CosimError> {
        let position = host as usize;
        if position < self.hosts.len() {
            return Ok(position);
        }
        Err(CosimError::Host {
            host,
            hosts: self.hosts.len(),
        })
    }

    /// Whether `name` is an application of the world.
    pub(crate) fn application(&self, name: &str) -> Result<(), CosimError> {
        self.variants_of(name).map(|_| ())
    }

    fn variants_of(&self, name: &str) -> Result<&BTreeMap<String, Vec<Piece>>, CosimError> {
        self.applications
            .get(name)
            .ok_or_else(|| unknown("application", name, self.applications.keys()))
    }

    /// `task` on an otherwise idle host.
    pub(crate) fn alone(&self, task: &TaskRecord) -> Result<Alone, CosimError> {
        let host = self.host(task.host)?;
        let variants = self.variants_of(&task.application)?;
        let pieces = variants
            .get(&task.variant)
            .ok_or_else(|| unknown("variant", &task.variant, variants.keys()))?;
        let piece = pieces
            .get(task.fragment as usize)
            .ok_or_else(|| CosimError::Fragment {
                application: task.application.clone(),
                variant: task.variant.clone(),
                fragment: task.fragment,
                fragments: pieces.len(),
            })?;
        Ok(self.alone_on(piece, piece.work_mi(task), host))
    }

    /// `piece` of `work_mi` on the otherwise idle host `host`.
    fn alone_on(&self, piece: &Piece, work_mi: f64, host: usize) -> Alone {
        let (vcpus, mips) = self.hosts[host];
        let rate = mips * self.caps[piece.cap].min(vcpus);
        Alone {
            mean_s: work_mi / rate,
            deviation_s: piece.cv * piece.work_mi / rate,
            cap: piece.cap,
        }
    }

    /// Share of its speed alone that a task with cap `cap` gets with `tasks` on the host.
    pub(crate) fn share(&self, host: usize, cap: usize, tasks: u32) -> f64 {
        let (vcpus, cap) = (self.hosts[host].0, self.caps[cap]);
        cap.min(vcpus / f64::from(tasks.max(1))) / cap.min(vcpus)
    }
}

fn unknown<'a>(
    kind: &'static str,
    name: &str,
    names: impl Iterator<Item = &'a String>,
) -> CosimError {
    let names: Vec<&str> = names.map(String::as_str).collect();
    CosimError::Unknown {
        kind,
        name: name.into(),
        hint: did_you_mean(name, &names),
    }
}

/// Standard deviation over mean.
fn coefficient_of_variation(work: &Distribution) -> f64 {
    match work {
        Distribution::Constant { .. } => 0.0,
        Distribution::Exponential { .. } => 1.0,
        Distribution::Lognormal { cv, .. } => *cv,
    }
}

/// The service that a task on a host would have had, by cap, as a function of time.
#[derive(Clone, Debug)]
pub(crate) struct Service {
    /// End of each span and the service until then, in s.
    points: VecDeque<(f64, Vec<f64>)>,
    /// The share in the last span.
    share: Vec<f64>,
}

impl Service {
    pub(crate) fn new(caps: usize) -> Self {
        Self {
            points: VecDeque::new(),
            share: vec![1.0; caps],
        }
    }

    /// Takes the record of `host` for the next span, which is later than the last.
    pub(crate) fn observe(&mut self, model: &Model, host: usize, record: &HostRecord) {
        let tasks = record.tasks();
        for (cap, share) in self.share.iter_mut().enumerate() {
            *share = model.share(host, cap, tasks);
        }
        let start = record.time_s - record.span_s;
        let last = match self.points.back() {
            Some((time_s, served)) => {
                // Between records the host is taken to be as it was at the later one.
                let gap = start.max(*time_s) - time_s;
                served
                    .iter()
                    .zip(&self.share)
                    .map(|(v, share)| v + gap * share)
                    .collect()
            }
            None => {
                self.points.push_back((start, vec![0.0; self.share.len()]));
                vec![0.0; self.share.len()]
            }
        };
        let from = self.points.back().map_or(start, |(t, _)| t.max(start));
        let span = record.time_s - from;
        let served = last
            .iter()
            .zip(&self.share)
            .map(|(v, share)| v + span * share)
            .collect();
        if self.points.len() == HISTORY {
            self.points.pop_front();
        }
        self.points.push_back((record.time_s, served));
    }

    /// Time of the last record, in s.
    pub(crate) fn time_s(&self) -> Option<f64> {
        self.points.back().map(|p| p.0)
    }

    /// Mean share between two times; that of the last record where there is no other.
    pub(crate) fn mean_share(&self, cap: usize, from_s: f64, until_s: f64) -> f64 {
        let least = self.points.front().map_or(f64::INFINITY, |p| p.0);
        if until_s <= from_s || from_s < least {
            return self.share[cap];
        }
        (self.at(cap, until_s) - self.at(cap, from_s)) / (until_s - from_s)
    }

    fn at(&self, cap: usize, time_s: f64) -> f64 {
        let next = self.points.partition_point(|p| p.0 < time_s);
        match (
            next.checked_sub(1).and_then(|i| self.points.get(i)),
            self.points.get(next),
        ) {
            (Some((t0, v0)), Some((t1, v1))) => {
                v0[cap] + (v1[cap] - v0[cap]) * (time_s - t0) / (t1 - t0)
            }
            (Some((t0, v0)), None) => v0[cap] + (time_s - t0) * self.share[cap],
            (None, Some((_, v1))) => v1[cap],
            (None, None) => 0.0,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(time_s: f64, tasks: u32) -> HostRecord {
        HostRecord {
            time_s,
            span_s: 5.0,
            host: 0,
            on: true,
            utilization: 0.0,
            power_w: None,
            running: BTreeMap::from([("blur".to_owned(), tasks)]),
        }
    }

    #[test]
    fn shares_and_their_integral() {
        // Cap 1.3 of 2 vCPUs: alone or two 1.0 and (2/2)/1.3 = 0.7692; four 0.5/1.3 = 0.3846.
        let world = World::load("scinet-16").expect("the world is embedded");
        let model = Model::new(&world);
        assert!((model.share(0, 0, 1) - 1.0).abs() < 1e-12);
        assert!((model.share(0, 0, 4) - 0.5 / 1.3).abs() < 1e-12);
        let mut service = Service::new(model.caps());
        for (time_s, tasks) in [(5.0, 1), (10.0, 4), (15.0, 2)] {
            service.observe(&model, 0, &record(time_s, tasks));
        }
        // From 2.5 to 12.5: 2.5 · 1 + 5 · 0.3846 + 2.5 · 0.7692 = 6.3462 of 10.
        let mean = service.mean_share(0, 2.5, 12.5);
        assert!((mean - 0.634_615_384).abs() < 1e-6, "{mean}");
        // After the last record its share holds on; before the first it stands in.
        assert!((service.mean_share(0, 15.0, 17.0) - 1.0 / 1.3).abs() < 1e-12);
        assert!((service.mean_share(0, -3.0, 5.0) - 1.0 / 1.3).abs() < 1e-12);
    }
}
