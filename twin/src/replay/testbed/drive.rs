//! One run of a script through the model, and what a recorder would have noted of it.
//!
//! Interval by interval and host by host: fragments start at the boundary at which they were
//! placed and progress as [`super::model`] says. Once an interval, at a fixed phase of it, the CPU
//! is sampled: background plus the use of each fragment that computes at that moment, slowed down
//! as its progress is. The recorder's clock for ends has an unknown phase against that of starts,
//! drawn anew for what starts together: a fragment that ran for `d` intervals is noted with
//! `floor(d + phase)`, as in the fit of demands. Whole intervals cannot tell whether the mean phase
//! is a half, so that a fragment may go on for up to half an interval after its noted end; whether
//! it computes then, CPU use tells.
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
/// How long a fragment may compute after its noted end, in intervals.
const LINGER: f64 = 0.5;
/// What is left of a fragment that has ended, in s.
const NOTHING_S: f64 = 1e-9;

/// How the system differs from its calibration, by interval of the span.
#[derive(Clone, Debug, Default)]
pub(crate) struct Drift {
    /// Time that passes before a fragment that starts in the interval begins to progress; below
    /// zero, the progress that it is given. In s, by demand; nothing where empty.
    pub(crate) delay_s: Vec<Vec<f64>>,
    /// Factors on the chance that a fragment computes, by age; one where empty.
    pub(crate) factors: Vec<[f64; AGES]>,
    /// Chance that a fragment computes without factors, by application and age; as long as the
    /// factors.
    pub(crate) chances: Vec<Vec<[f64; AGES]>>,
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
    /// The interval, from the start of the span.
    pub(crate) offset: usize,
    /// Position of its application.
    pub(crate) application: usize,
    /// Class of its age.
    pub(crate) age: usize,
    /// Its progress: from 0 to 1, and above after its noted end.
    pub(crate) progress: f64,
    /// How fast it progresses, relative to one alone.
    pub(crate) share: f64,
}

/// What a fragment does on its host.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    /// Waits before it progresses, for a work that is to begin after it.
    Delayed,
    /// Progresses.
    Running,
    /// Has been noted as ended.
    Lingering,
}

/// A fragment on its host.
#[derive(Clone, Copy, Debug)]
struct Active {
    fragment: usize,
    started: u32,
    /// What it does.
    stage: Stage,
    /// How long it does so: in s, while it progresses in s on an idle host.
    left_s: f64,
    /// All of it.
    total_s: f64,
    /// Phase of the recorder's clock when it ends, as a part of an interval.
    phase: f64,
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
        for fragment in arriving {
            active.push(self.begin(offset, *fragment));
        }
        let mut sample = Some(self.model.sample_phase_ratio * length);
        let mut now = 0.0;
        loop {
            let running = active.iter().filter(|a| a.stage == Stage::Running);
            let share = self.model.share(running.count());
            let rate = self.model.hosts[host].speed * share;
            let pace = |a: &Active| if a.stage == Stage::Running { rate } else { 1.0 };
            let ends = active.iter().map(|a| now + a.left_s / pace(a));
            let then = ends.chain(sample).fold(length, f64::min);
            for a in &mut active {
                a.left_s -= (then - now) * pace(a);
            }
            now = then;
            if sample.is_some_and(|at| at <= now) {
                sample = None;
                self.sample(offset, host, &active, share);
            }
            active.retain_mut(|a| a.left_s > NOTHING_S || self.next(a, offset, now / length));
            if now >= length {
                break;
            }
        }
        self.active[host] = active;
    }

    /// Phase of the recorder's clock for what starts on `host` in interval `offset`.
    fn phase(&self, offset: usize, host: usize) -> f64 {
        let named = stream::mix(self.key ^ 0x7068_6173_6500, host as u64);
        stream::unit(named, offset as u64)
    }

    fn begin(&mut self, offset: usize, fragment: usize) -> Active {
        let position = self.script.fragments[fragment].demand;
        let demand = &self.model.fragments[position];
        let variance = (demand.cv * demand.cv).ln_1p();
        let normal = Normal::standard()
            .inverse_cdf(stream::unit(self.key ^ 0x6465_6d61_6e64, fragment as u64));
        let total_s = (demand.alone_s.ln() - variance / 2.0 + variance.sqrt() * normal).exp();
        let delay_s = self.drift.delay_s.get(offset).map_or(0.0, |d| d[position]);
        let started = self.interval(offset);
        self.run.started[fragment] = started;
        let running_s = (total_s + delay_s.min(0.0)).max(NOTHING_S);
        let (stage, left_s) = if delay_s > NOTHING_S {
            (Stage::Delayed, delay_s)
        } else {
            (Stage::Running, running_s)
        };
        Active {
            fragment,
            started,
            stage,
            left_s,
            total_s,
            phase: self.phase(offset, self.script.fragments[fragment].host),
        }
    }

    /// Moves a fragment whose stage is over at the part `at` of interval `offset` to the next one;
    /// false if there is none.
    fn next(&mut self, a: &mut Active, offset: usize, at: f64) -> bool {
        match a.stage {
            Stage::Delayed => {
                a.stage = Stage::Running;
                a.left_s = a.total_s;
                true
            }
            Stage::Running => {
                let later = at + a.phase >= 1.0;
                self.end(offset + usize::from(later), a.fragment);
                a.stage = Stage::Lingering;
                a.left_s = LINGER * self.model.interval_s;
                true
            }
            Stage::Lingering => false,
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
            let progress = match a.stage {
                Stage::Delayed => continue,
                Stage::Running => 1.0 - a.left_s / a.total_s,
                Stage::Lingering => 1.0 + (LINGER * self.model.interval_s - a.left_s) / a.total_s,
            };
            let age = ((now - a.started) as usize).min(AGES - 1);
            self.run.seen.push(Seen {
                offset,
                application,
                age,
                progress,
                share,
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
        let chance = self.drift.chances[offset][application][age];
        u < (factors[age] - 1.0) * chance / (1.0 - chance).max(NOTHING_S)
    }
}

#[cfg(test)]
mod tests {
    use super::super::model::{CpuWindow, Demand, HostFit, KIND, LEVELS, SCHEMA};
    use super::super::script::{Fragment, Request};
    use super::*;

    /// One host of 2 vCPUs without background, fragments of 8 s that compute from 25 to 75 % of
    /// their progress with half of the CPU, samples in the middle of an interval of 5 s.
    fn model() -> Model {
        Model {
            schema: SCHEMA,
            kind: KIND.into(),
            window: [0, 10],
            interval_s: 5.0,
            vcpus: 2.0,
            cap_vcpus: 2.0,
            sample_phase_ratio: 0.5,
            power_w: [0.0; 11],
            fragments: vec![Demand {
                application: "a".into(),
                variant: "v".into(),
                place: 0,
                alone_s: 8.0,
                cv: 0.0,
            }],
            applications: vec![CpuWindow {
                application: "a".into(),
                begin_ratio: 0.25,
                end_ratio: 0.75,
                levels_percent: [50.0; LEVELS],
            }],
            hosts: vec![HostFit {
                host: 0,
                speed: 1.0,
                background_percent: 0.0,
            }],
        }
    }

    fn script(starts: &[Start]) -> Script {
        let fragment = |start: &Start| Fragment {
            demand: 0,
            application: 0,
            host: 0,
            start: *start,
            started: 0,
            finished: 0,
        };
        Script {
            span: (0, 10),
            hosts: 1,
            fragments: starts.iter().map(fragment).collect(),
            requests: vec![Request {
                application: "a".into(),
                variant: "v".into(),
                created: 0,
                first: 0,
                count: starts.len(),
            }],
            enabled: vec![true; 10],
        }
    }

    fn ends(starts: &[Start], model: &Model, drift: &Drift, fragment: usize) -> f64 {
        let runs = replications(&script(starts), model, drift, 7, 2000);
        let sum: f64 = runs.iter().map(|r| f64::from(r.finished[fragment])).sum();
        sum / runs.len() as f64
    }

    #[test]
    fn noted_ends_have_the_mean_of_true_ones() {
        // Alone for 8 s from the start of interval 1: 1 + 8/5 = 2.6 on average.
        let end = ends(&[Start::At(1)], &model(), &Drift::default(), 0);
        assert!((end - 2.6).abs() < 0.05, "{end}");
        // Two share the host: 16 s, 1 + 16/5 = 4.2.
        let end = ends(&[Start::At(1); 2], &model(), &Drift::default(), 1);
        assert!((end - 4.2).abs() < 0.05, "{end}");
        // A host of double speed halves that again.
        let mut fast = model();
        fast.hosts[0].speed = 2.0;
        let end = ends(&[Start::At(1); 2], &fast, &Drift::default(), 1);
        assert!((end - 2.6).abs() < 0.05, "{end}");
        // 4 s later, or 4 s of progress ahead.
        for (delay_s, expected) in [(4.0, 3.4), (-4.0, 1.8)] {
            let drift = Drift {
                delay_s: vec![vec![delay_s]; 10],
                ..Drift::default()
            };
            let end = ends(&[Start::At(1)], &model(), &drift, 0);
            assert!((end - expected).abs() < 0.05, "{end} {expected}");
        }
    }

    #[test]
    fn the_next_of_a_chain_follows_the_end() {
        let script = script(&[Start::At(0), Start::After(3)]);
        for run in replications(&script, &model(), &Drift::default(), 7, 20) {
            assert_eq!(run.started[1], run.finished[0] + 3);
        }
    }

    #[test]
    fn samples_see_who_computes() {
        // Progress when sampled: 2.5 / 8 = 0.31 computes, 7.5 / 8 = 0.94 does not.
        let run = &replications(&script(&[Start::At(1)]), &model(), &Drift::default(), 7, 1)[0];
        assert!((run.cpu_percent[1] - 50.0).abs() < 1e-9);
        assert!(run.cpu_percent[2].abs() < 1e-9);
        // Two at half the pace: 0.16 does not compute, 0.47 does, each at half the level.
        let pair = script(&[Start::At(1); 2]);
        let run = &replications(&pair, &model(), &Drift::default(), 7, 1)[0];
        assert!(run.cpu_percent[1].abs() < 1e-9);
        assert!((run.cpu_percent[2] - 50.0).abs() < 1e-9);
        assert!((run.by_age[2][1] - 50.0).abs() < 1e-9);
    }

    #[test]
    fn factors_change_the_chance() {
        // Computing is certain at age 0: a factor of 0.3 leaves 30 % of it.
        let drift = Drift {
            factors: vec![[0.3; AGES]; 10],
            chances: vec![vec![[1.0, 0.0, 0.0, 0.0, 0.0]]; 10],
            ..Drift::default()
        };
        let runs = replications(&script(&[Start::At(1)]), &model(), &drift, 7, 2000);
        let mean = runs.iter().map(|r| r.cpu_percent[1]).sum::<f64>() / 2000.0;
        assert!((mean - 15.0).abs() < 1.5, "{mean}");
    }
}
