//! Shards in order, from episodes that run side by side.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::{self, Receiver};
use std::thread;
use std::time::Instant;

use anyhow::{Context, Result, bail};
use datasets::decisions::{self, DecisionRow, Manifest};

use super::episode::Job;
use super::{Labeled, Part, Tally};
use crate::progress::Progress;

/// What is to be done.
pub(super) struct Shards<'a> {
    pub(super) job: &'a Job<'a>,
    pub(super) out: &'a Path,
    pub(super) part: Part,
    /// Episodes in a shard.
    pub(super) episodes: u64,
    /// Rows at which the run ends.
    pub(super) wanted: u64,
    pub(super) threads: usize,
    pub(super) progress: &'a Progress,
}

/// The rows of an episode by its position in the run.
type Outcome = (u64, Result<Vec<DecisionRow>>);

/// Stops the others if a thread panics: they would label on for an end that cannot come.
struct StopOnPanic<'a>(&'a AtomicBool);

impl Drop for StopOnPanic<'_> {
    fn drop(&mut self) {
        if thread::panicking() {
            self.0.store(true, Ordering::Relaxed);
        }
    }
}

impl Shards<'_> {
    /// Adds to `manifest` what is missing.
    ///
    /// # Errors
    ///
    /// If an episode fails, gives nothing to label, or a shard cannot be written.
    pub(super) fn complete(&self, mut manifest: Manifest) -> Result<Labeled> {
        let mut labeled = Labeled {
            tally: Tally::default(),
            new_rows: 0,
        };
        self.keep(&mut manifest, &mut labeled.tally)?;
        let kept = manifest.row_count();
        self.progress.add(kept);
        if kept > 0 && kept < self.wanted {
            let count = manifest.shards.len();
            self.progress.say(&format!(
                "label: {kept} rows in {count} shards are there already"
            ));
        }
        if kept < self.wanted {
            manifest.complete = false;
            manifest.save(self.out)?;
            self.produce(&mut manifest, &mut labeled)?;
        }
        if !manifest.complete {
            manifest.complete = true;
            manifest.save(self.out)?;
        }
        Ok(labeled)
    }

    /// The place in the dataset of the `k`-th shard of this part.
    fn index(&self, k: usize) -> Result<u32> {
        u32::try_from(k)
            .ok()
            .and_then(|k| k.checked_mul(self.part.count)?.checked_add(self.part.index))
            .context("there are too many shards; give more --episodes-per-shard")
    }

    /// Keeps the first shards of `manifest` that are whole, and drops the others.
    fn keep(&self, manifest: &mut Manifest, tally: &mut Tally) -> Result<()> {
        let mut whole = 0;
        while let Some(entry) = manifest.shards.get(whole) {
            if entry.index != self.index(whole)? {
                break;
            }
            match Manifest::read_shard(self.out, entry) {
                Ok(rows) => tally.add(&rows),
                Err(_) => {
                    let file = &entry.file;
                    let text = format!("label: {file} is absent or damaged; it is made again");
                    self.progress.say(&text);
                    break;
                }
            }
            whole += 1;
        }
        manifest.shards.truncate(whole);
        Ok(())
    }

    /// Runs episodes on as many threads as there are to be, and writes the shards in order.
    ///
    /// Each thread has a pool of its own with one thread, for what computes in parallel below: in
    /// a shared pool, an oracle that waits for its parts would begin other episodes meanwhile.
    fn produce(&self, manifest: &mut Manifest, labeled: &mut Labeled) -> Result<()> {
        let first = manifest.shards.len() as u64 * self.episodes;
        let next = AtomicU64::new(first);
        let stop = AtomicBool::new(false);
        let pools = (0..self.threads)
            .map(|_| rayon::ThreadPoolBuilder::new().num_threads(1).build())
            .collect::<Result<Vec<_>, _>>()
            .context("cannot start threads; try a smaller --threads")?;
        let (sender, receiver) = mpsc::channel::<Outcome>();
        thread::scope(|scope| {
            for pool in &pools {
                let (sender, next, stop) = (sender.clone(), &next, &stop);
                scope.spawn(move || {
                    let _guard = StopOnPanic(stop);
                    pool.install(|| {
                        while !stop.load(Ordering::Relaxed) {
                            let position = next.fetch_add(1, Ordering::Relaxed);
                            let outcome = self
                                .episode(position)
                                .and_then(|episode| self.job.run(episode, stop, self.progress));
                            let Some(outcome) = outcome.transpose() else {
                                break;
                            };
                            // Nobody listens any more once the last shard is there.
                            if sender.send((position, outcome)).is_err() {
                                break;
                            }
                        }
                    });
                });
            }
            drop(sender);
            let result = self.collect(first, &receiver, manifest, labeled);
            stop.store(true, Ordering::Relaxed);
            result
        })
    }

    /// The episode at `position` of this part of the run.
    fn episode(&self, position: u64) -> Result<u64> {
        let k = usize::try_from(position / self.episodes)?;
        Ok(u64::from(self.index(k)?) * self.episodes + position % self.episodes)
    }

    /// Writes shards until enough rows are there.
    fn collect(
        &self,
        first: u64,
        receiver: &Receiver<Outcome>,
        manifest: &mut Manifest,
        labeled: &mut Labeled,
    ) -> Result<()> {
        let started = Instant::now();
        let mut early = BTreeMap::new();
        let mut position = first;
        let mut rows = Vec::new();
        while manifest.row_count() < self.wanted {
            let Some(outcome) = early.remove(&position) else {
                let (at, outcome) = receiver.recv().context("a thread has ended early")?;
                early.insert(at, outcome);
                continue;
            };
            rows.append(&mut outcome?);
            position += 1;
            if !position.is_multiple_of(self.episodes) {
                continue;
            }
            let index = self.index(manifest.shards.len())?;
            if rows.is_empty() {
                bail!(
                    "shard {index} has no question to label; give more --intervals or \
                     --episodes-per-shard"
                );
            }
            let entry = decisions::write_shard(self.out, index, &rows)?;
            labeled.tally.add(&rows);
            labeled.new_rows += entry.rows;
            manifest.shards.push(entry);
            manifest.save(self.out)?;
            rows.clear();
            let rate = labeled.new_rows as f64 / started.elapsed().as_secs_f64();
            let total = manifest.row_count();
            self.progress.say(&format!(
                "label: shard {index}, {total} rows, {rate:.1} labels/s"
            ));
        }
        Ok(())
    }
}
