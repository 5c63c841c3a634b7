//! One run of a script through the model, and what a recorder would have noted of it.
//!
//! Interval by interval and host by host: fragments start together at a uniformly random moment of
//! their interval, progress as [`super::model`] says, and end in the interval that is noted. Once
//! an interval, at a fixed phase of it, the CPU is sampled: background plus the use of each
//! fragment that computes at that moment, slowed down as its progress is.
//!
//! This is not the engine of [`crate::State`], which knows no phase of a fragment without CPU, no
//! host that is closed to new work and runs what it has, and no observer that samples; the rule of
//! sharing is the same.

use rayon::prelude::*;
use statrs::distribution::{ContinuousCDF, Normal};

use super::model::Model;
use super::script::{Script, Start};
use crate::stream;

/// Classes of age: 0, 1, 2, 3 intervals since the start, and more.
pub(crate) const AGES: usize = 5;
/// Intervals after the span in which what still runs may end.
const TAIL: u32 = 400;
/// What is left of a fragment that has ended, in s.
const NOTHING_S: f64 = 1e-9;

/// How the system differs from its calibration, by interval of the span.
#[derive(Clone, Debug, Default)]
pub(crate) struct Drift {
    /// Time that passes before a fragment that starts in the interval begins to progress; below
    /// zero, the progress that it is given. In s; nothing where empty.
    pub(crate) delay_s: Vec<f64>,
    /// Factors on the chance that a fragment computes, by age; one where empty.
    pub(crate) factors: Vec<[f64; AGES]>,
    /// Chance that a fragment computes without factors, by application and age.
    pub(crate) chances: Vec<[f64; AGES]>,
}

/// What a recorder would have noted.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Run {
    /// Interval of the start, by fragment.
    pub(crate) started: Vec<u32>,
    /// Interval of the end, by fragment.
    pub(crate) finished: Vec<u32>,
    /// Sampled CPU use in percent, by interval of the span and host.
    pub(crate) cpu_percent: Vec<f64>,
    /// The part of it that is due to fragments, by their age.
    pub(crate) by_age: Vec<[f64; AGES]>,
    /// Fragments on a host when it was sampled.
    pub(crate) seen: Vec<Seen>,
}

/// A fragment when its host was sampled.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Seen {
    /// Position of its application.
    pub(crate) application: usize,
    /// Class of its age.
    pub(crate) age: usize,
    /// Its progress, from 0 to 1.
    pub(crate) progress: f64,
}

/// A fragment on its host.
#[derive(Clone, Copy, Debug)]
struct Active {
    fragment: usize,
    started: u32,
    /// Time before it progresses, in s.
    delay_s: f64,
    /// What is left, in s on an idle host.
    left_s: f64,
    /// All of it.
    total_s: f64,
}

/// Replications 0 to `count` - 1 of `script`.
pub(crate) fn replications(
    script: &Script,
    model: &Model,
    drift: &Drift,
    key: u64,
    count: u32,
) -> Vec<Run> {
    (0..count)
        .into_par_iter()
        .map(|r| Driver::new(script, model, drift, stream::mix(key, u64::from(r))).run())
        .collect()
}

struct Driver<'a> {
    script: &'a Script,
    model: &'a Model,
    drift: &'a Drift,
    key: u64,
    run: Run,
    /// Fragments to start, by interval of the span and its tail.
    starts: Vec<Vec<usize>>,
    active: Vec<Vec<Active>>,
}

impl<'a> Driver<'a> {
    fn new(script: &'a Script, model: &'a Model, drift: &'a Drift, key: u64) -> Self {
        let intervals = script.span.1 - script.span.0;
        let samples = intervals as usize * script.hosts;
        let end = script.span.1 + TAIL;
        let mut starts = vec![Vec::new(); (intervals + TAIL) as usize];
        for (i, fragment) in script.fragments.iter().enumerate() {
            if let Start::At(at) = fragment.start
                && (script.span.0..end).contains(&at)
            {
                starts[(at - script.span.0) as usize].push(i);
            }
        }
        Self {
            script,
            model,
            drift,
            key,
            run: Run {
                started: vec![end; script.fragments.len()],
                finished: vec![end; script.fragments.len()],
                cpu_percent: vec![0.0; samples],
                by_age: vec![[0.0; AGES]; samples],
                seen: Vec::new(),
            },
            starts,
            active: vec![Vec::new(); script.hosts],
        }
    }

    fn run(mut self) -> Run {
        for offset in 0..self.starts.len() {
            let mut arrivals = vec![Vec::new(); self.script.hosts];
            for fragment in std::mem::take(&mut self.starts[offset]) {
                arrivals[self.script.fragments[fragment].host].push(fragment);
            }
            for (host, arriving) in arrivals.iter().enumerate() {
                self.host(offset, host, arriving);
            }
        }
        self.run
    }

    /// One interval of one host.
    fn host(&mut self, offset: usize, host: usize, arriving: &[usize]) {
        let length = self.model.interval_s;
        let mut active = std::mem::take(&mut self.active[host]);
        let mut arrival = (!arriving.is_empty()).then(|| self.phase(offset, host) * length);
        let mut sample = Some(self.model.sample_phase_ratio * length);
        let mut now = 0.0;
        loop {
            let progressing = active.iter().filter(|a| a.delay_s <= 0.0).count();
            let rate = self.model.hosts[host].speed * self.model.share(progressing);
            let mut then = length;
            for at in [arrival, sample].into_iter().flatten() {
                then = then.min(at);
            }
            for a in &active {
                let wait = if a.delay_s > 0.0 {
                    a.delay_s
                } else {
                    a.left_s / rate
                };
                then = then.min(now + wait);
            }
            let passed = (then - now).max(0.0);
            for a in &mut active {
                if a.delay_s > 0.0 {
                    a.delay_s -= passed;
                    if a.delay_s < NOTHING_S {
                        a.delay_s = 0.0;
                    }
                } else {
                    a.left_s -= passed * rate;
                }
            }
            now = then;
            if sample.is_some_and(|at| at <= now) {
                sample = None;
                self.sample(offset, host, &active, self.model.share(progressing));
            }
            active.retain(|a| {
                let ended = a.delay_s <= 0.0 && a.left_s <= NOTHING_S;
                if ended {
                    self.end(offset, a.fragment);
                }
                !ended
            });
            if arrival.is_some_and(|at| at <= now) {
                arrival = None;
                active.extend(arriving.iter().map(|f| self.begin(offset, *f)));
            }
            if now >= length {
                break;
            }
        }
        self.active[host] = active;
    }

    /// When in interval `offset` the fragments of `host` start, as a part of it.
    fn phase(&self, offset: usize, host: usize) -> f64 {
        let named = stream::mix(self.key ^ 0x7068_6173_6500, host as u64);
        stream::unit(named, offset as u64)
    }

    fn begin(&mut self, offset: usize, fragment: usize) -> Active {
        let demand = &self.model.fragments[self.script.fragments[fragment].demand];
        let variance = (demand.cv * demand.cv).ln_1p();
        let normal = Normal::standard()
            .inverse_cdf(stream::unit(self.key ^ 0x6465_6d61_6e64, fragment as u64));
        let total_s = (demand.alone_s.ln() - variance / 2.0 + variance.sqrt() * normal).exp();
        let delay_s = self.drift.delay_s.get(offset).copied().unwrap_or(0.0);
        let started = self.interval(offset);
        self.run.started[fragment] = started;
        Active {
            fragment,
            started,
            delay_s: delay_s.max(0.0),
            left_s: (total_s + delay_s.min(0.0)).max(NOTHING_S),
            total_s,
        }
    }

    fn end(&mut self, offset: usize, fragment: usize) {
        self.run.finished[fragment] = self.interval(offset);
        if let Some(next) = self.script.fragments.get(fragment + 1)
            && let Start::After(lag) = next.start
            && let Some(starts) = self.starts.get_mut(offset + lag as usize)
        {
            starts.push(fragment + 1);
        }
    }

    #[expect(
        clippy::cast_possible_truncation,
        reason = "offsets come from intervals, which are 32 bits wide"
    )]
    fn interval(&self, offset: usize) -> u32 {
        self.script.span.0 + offset as u32
    }

    fn sample(&mut self, offset: usize, host: usize, active: &[Active], share: f64) {
        let at = offset * self.script.hosts + host;
        if at >= self.run.cpu_percent.len() {
            return;
        }
        let now = self.interval(offset);
        let mut by_age = [0.0; AGES];
        for a in active {
            let application = self.script.fragments[a.fragment].application;
            let window = &self.model.applications[application];
            let progress = 1.0 - a.left_s / a.total_s;
            let age = ((now - a.started) as usize).min(AGES - 1);
            self.run.seen.push(Seen {
                application,
                age,
                progress,
            });
            let computes = (window.begin_ratio..window.end_ratio).contains(&progress);
            let draw = |name: u64| {
                let named = stream::mix(self.key ^ name, a.fragment as u64);
                stream::unit(named, u64::from(now - a.started))
            };
            if self.computes(offset, application, age, computes, draw(0x6661_6374)) {
                by_age[age] += window.level_percent(draw(0x6c65_7665)) * share;
            }
        }
        let background = self.model.hosts[host].background_percent;
        let total: f64 = by_age.iter().sum();
        self.run.by_age[at] = by_age;
        self.run.cpu_percent[at] = (background + total).min(100.0);
    }

    /// Whether a fragment computes once the drift's factor is applied: a factor below one lets
    /// some that compute rest, one above lets some that rest compute.
    fn computes(&self, offset: usize, application: usize, age: usize, does: bool, u: f64) -> bool {
        let Some(factors) = self.drift.factors.get(offset) else {
            return does;
        };
        if does {
            return u < factors[age];
        }
        let chance = self.drift.chances[application][age];
        u < (factors[age] - 1.0) * chance / (1.0 - chance).max(NOTHING_S)
    }
}
