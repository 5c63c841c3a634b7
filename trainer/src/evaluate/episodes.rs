//! Runs the episodes that are missing, side by side.

use std::sync::Mutex;
use std::sync::PoisonError;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use twin::World;
use twin::simulate::{self, Hooks, Options};
use twin::workload::Split;

use super::journal::{Episode, Journal};
use super::{Build, Episodes};
use crate::policies::{Role, role};
use crate::progress::Progress;
use crate::statistics::quantile;

/// What is to be run.
pub(super) struct Plan<'a> {
    pub(super) world: &'a World,
    pub(super) build: &'a Build<'a>,
    pub(super) policies: &'a [String],
    pub(super) fingerprints: &'a [Option<String>],
    pub(super) seeds: &'a [u64],
    pub(super) intervals: u32,
    pub(super) split: Split,
    pub(super) threads: usize,
}

/// A policy, by its position, and a seed.
type Task = (usize, u64);

impl Plan<'_> {
    /// All episodes of the plan: those that were `recorded`, and the others, which are run and
    /// written to `journal` as they end.
    ///
    /// # Errors
    ///
    /// If an episode fails; those that ended before stay in the journal.
    pub(super) fn complete(&self, recorded: Vec<Episode>, journal: &Journal) -> Result<Episodes> {
        let mut episodes = self.usable(recorded);
        let mut missing: Vec<Task> = (0..self.policies.len())
            .flat_map(|policy| self.seeds.iter().map(move |&seed| (policy, seed)))
            .filter(|task| !episodes.contains_key(task))
            .collect();
        // The longest runs start first, so that they do not keep one core busy at the end.
        missing.sort_by_key(|&(policy, _)| role(&self.policies[policy]) != Role::Oracle);
        if missing.is_empty() {
            return Ok(episodes);
        }
        let steps = missing.len() as u64 * u64::from(self.intervals);
        let progress = Progress::new("evaluate", steps);
        if !episodes.is_empty() {
            progress.say(&format!(
                "evaluate: {} episodes are in the journal, {} are missing",
                episodes.len(),
                missing.len()
            ));
        }
        for (task, episode) in self.run_all(&missing, journal, &progress)? {
            episodes.insert(task, episode);
        }
        Ok(episodes)
    }

    /// The recorded episodes that the plan asks for.
    fn usable(&self, recorded: Vec<Episode>) -> Episodes {
        let mut episodes = Episodes::new();
        for mut episode in recorded {
            let Some(policy) = self
                .policies
                .iter()
                .position(|spec| *spec == episode.policy)
            else {
                continue;
            };
            let same = self.fingerprints[policy] == episode.fingerprint;
            let asked = self.seeds.binary_search(&episode.seed).is_ok();
            if !self.keeps_timeline(episode.seed) {
                episode.timeline = None;
            } else if episode.timeline.is_none() {
                continue;
            }
            if same && asked {
                episodes.insert((policy, episode.seed), episode);
            }
        }
        episodes
    }

    fn keeps_timeline(&self, seed: u64) -> bool {
        self.seeds.first() == Some(&seed)
    }

    /// Runs `tasks` on as many threads as the plan says.
    ///
    /// Each thread has a pool of its own with one thread, for policies that compute in parallel:
    /// in a shared pool, a policy that waits for its parts would run other episodes meanwhile, and
    /// the time of its decision would be theirs.
    fn run_all(
        &self,
        tasks: &[Task],
        journal: &Journal,
        progress: &Progress,
    ) -> Result<Vec<(Task, Episode)>> {
        let next = AtomicUsize::new(0);
        let failed = AtomicBool::new(false);
        let outcomes = Mutex::new(Vec::with_capacity(tasks.len()));
        let pools = (0..self.threads.min(tasks.len()))
            .map(|_| rayon::ThreadPoolBuilder::new().num_threads(1).build())
            .collect::<Result<Vec<_>, _>>()
            .context("cannot start threads; try a smaller --threads")?;
        std::thread::scope(|scope| {
            for pool in &pools {
                scope.spawn(|| {
                    pool.install(|| {
                        while !failed.load(Ordering::Relaxed) {
                            let position = next.fetch_add(1, Ordering::Relaxed);
                            let Some(&task) = tasks.get(position) else {
                                break;
                            };
                            let outcome = self.run_one(task, progress).and_then(|episode| {
                                journal.append(&episode)?;
                                Ok((task, episode))
                            });
                            failed.fetch_or(outcome.is_err(), Ordering::Relaxed);
                            outcomes
                                .lock()
                                .unwrap_or_else(PoisonError::into_inner)
                                .push((position, outcome));
                        }
                    });
                });
            }
        });
        let mut outcomes = outcomes
            .into_inner()
            .unwrap_or_else(PoisonError::into_inner);
        outcomes.sort_by_key(|&(position, _)| position);
        outcomes.into_iter().map(|(_, outcome)| outcome).collect()
    }

    fn run_one(&self, (policy, seed): Task, progress: &Progress) -> Result<Episode> {
        let spec = &self.policies[policy];
        let mut built = (self.build)(spec, self.world, seed)?;
        let keeps_timeline = self.keeps_timeline(seed);
        let options = Options {
            seed,
            intervals: Some(self.intervals),
            split: self.split,
            timeline: keeps_timeline,
        };
        let started = Instant::now();
        let mut report = |_| progress.add(1);
        let mut hooks = Hooks {
            progress: Some(&mut report),
            clock: Some(&|| started.elapsed()),
            ..Hooks::default()
        };
        let run = simulate::run_with(self.world, built.as_mut(), &options, &mut hooks)
            .with_context(|| format!("policy {spec}, seed {seed}"))?;
        if let Some((name, value)) = run.qos.metrics().iter().find(|(_, v)| !v.is_finite()) {
            bail!("policy {spec}, seed {seed}: {name} is {value}, not a finite number");
        }
        let mut times_us = microseconds(&run.decision_times);
        Ok(Episode {
            policy: spec.clone(),
            fingerprint: self.fingerprints[policy].clone(),
            seed,
            qos: run.qos,
            decision_time_p50_us: quantile(&mut times_us, 0.50),
            decision_time_p99_us: quantile(&mut times_us, 0.99),
            timeline: keeps_timeline.then_some(run.timeline),
        })
    }
}

fn microseconds(times: &[Duration]) -> Vec<f64> {
    times
        .iter()
        .map(|time| time.as_nanos() as f64 / 1_000.0)
        .collect()
}
