//! The log of decisions in the service: what is answered is in the log before.
//!
//! The store is [`twin::decision_log`]; here it gets its durability, its upkeep, its metrics and
//! what is remembered of it. Appends are short and happen on the thread that decided. With
//! [`Durability::Disk`] an answer also waits until its record is on the disk: one task forces
//! what all have appended meanwhile, so many answers share one sync. Where no log is kept,
//! decisions have ids all the same, made from the time at which the service started.
//!
//! Left out: entries of other modules; they append through [`DecisionLog::store`].

mod commit;
mod fleet;
mod metrics;
mod recent;
pub mod view;

use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use serde::Deserialize;
use thiserror::Error;
use tokio::sync::Semaphore;
use twin::World;
use twin::decision_log::{
    DecisionId, Kind, Log, LogError, NewDecision, Outcome, OwnedRecord, Recovered, Settings,
};

use self::commit::Committer;
pub(crate) use self::fleet::Records;
pub(crate) use self::metrics::{LogMetrics, SYNC_BUCKETS_S, SYNC_SECONDS};
use self::recent::Recent;

/// How often the log is forced to the disk, unless [`Options`] says otherwise.
pub const SYNC_INTERVAL: Duration = Duration::from_secs(1);
/// How long an answer waits for its record to be on the disk.
const COMMIT_LIMIT: Duration = Duration::from_secs(10);
/// How many requests read the log at the same time; each takes a blocking thread.
const READERS: usize = 2;

/// When a decision is answered.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Durability {
    /// When its record is written: it survives the end of the process at any moment
    #[default]
    Process,
    /// When its record is on the disk: it survives the loss of power
    Disk,
}

/// How a log is kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Options {
    /// Its folder.
    pub folder: PathBuf,
    /// When decisions are answered.
    pub durability: Durability,
    /// How often it is forced to the disk and tidied.
    pub sync_interval: Duration,
    /// Rotation and retention.
    pub settings: Settings,
}

impl Options {
    /// A log in `folder`, and the rest as it is by default.
    #[must_use]
    pub fn new(folder: impl Into<PathBuf>) -> Self {
        Self {
            folder: folder.into(),
            durability: Durability::default(),
            sync_interval: SYNC_INTERVAL,
            settings: Settings::default(),
        }
    }
}

/// Why something is not in the log.
#[derive(Debug, Error)]
pub enum KeepError {
    /// It cannot be appended.
    #[error(transparent)]
    Append(#[from] LogError),
    /// It was appended, and may not survive the loss of power.
    #[error("the record could not be forced to the disk")]
    NotOnDisk,
    /// No log is kept.
    #[error("this service keeps no log")]
    NoLog,
}

/// The log of a service, or what takes its place where none is kept.
#[derive(Debug)]
pub struct DecisionLog {
    kept: Option<Kept>,
    /// The next id where no log is kept.
    next: AtomicU64,
}

#[derive(Debug)]
struct Kept {
    store: Arc<Log>,
    durability: Durability,
    sync_interval: Duration,
    committer: Committer,
    recent: Mutex<Recent>,
    readers: Semaphore,
    found: Recovered,
    /// Inputs of the live fleet since the last checkpoint.
    inputs: AtomicU64,
}

impl Default for DecisionLog {
    /// No log is kept.
    fn default() -> Self {
        let since = SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .unwrap_or_default();
        // Fewer than a million decisions are taken in a second, so a later start is ahead.
        let first = u64::try_from(since.as_micros()).unwrap_or(0);
        Self {
            kept: None,
            next: AtomicU64::new(first),
        }
    }
}

impl DecisionLog {
    /// Opens the log of `options` for decisions in `world`.
    ///
    /// # Errors
    ///
    /// As [`Log::open`].
    pub fn open(options: &Options, world: &World) -> Result<Self, LogError> {
        let started = Instant::now();
        let (store, found) = Log::open(&options.folder, &world.hash, options.settings.clone())?;
        let recent = Recent::read(&store)?;
        tell(&found, &options.folder, started.elapsed());
        let kept = Kept {
            store: Arc::new(store),
            durability: options.durability,
            sync_interval: options.sync_interval,
            committer: Committer::default(),
            recent: Mutex::new(recent),
            readers: Semaphore::new(READERS),
            found,
            inputs: AtomicU64::new(0),
        };
        Ok(Self {
            kept: Some(kept),
            next: AtomicU64::new(0),
        })
    }

    /// The store, where a log is kept.
    #[must_use]
    pub fn store(&self) -> Option<&Arc<Log>> {
        self.kept.as_ref().map(|kept| &kept.store)
    }

    /// Why the log cannot be written at present; `None` where it can, or none is kept.
    #[must_use]
    pub fn failure(&self) -> Option<String> {
        self.store().and_then(|store| store.status().failure)
    }

    /// Appends a decision; its id. It may be answered after [`DecisionLog::committed`].
    ///
    /// # Errors
    ///
    /// As [`Log::append`].
    pub(crate) fn decision(
        &self,
        decision: &NewDecision<'_>,
        metrics: &LogMetrics,
    ) -> Result<DecisionId, KeepError> {
        let Some(kept) = &self.kept else {
            return Ok(DecisionId(self.next.fetch_add(1, Ordering::Relaxed)));
        };
        let appended = kept.store.append_decision(decision);
        match &appended {
            Ok(id) => {
                metrics.appended(Kind::Decision, 1);
                kept.recent().decided(*id);
            }
            Err(error) => metrics.failed(error),
        }
        Ok(appended?)
    }

    /// Appends `outcomes`; how many were new.
    ///
    /// # Errors
    ///
    /// As [`Log::append`], and if no log is kept.
    pub(crate) fn outcomes(
        &self,
        outcomes: &[Outcome],
        metrics: &LogMetrics,
    ) -> Result<(usize, Option<u64>), KeepError> {
        let kept = self.kept.as_ref().ok_or(KeepError::NoLog)?;
        // Whoever tells the same again at the same time waits here.
        let mut recent = kept.recent();
        let mut new: Vec<Outcome> = Vec::with_capacity(outcomes.len());
        for outcome in outcomes {
            if !recent.knows(outcome) && !new.contains(outcome) {
                new.push(*outcome);
            }
        }
        let appended = kept.store.append_outcomes(&new);
        if let Err(error) = &appended {
            metrics.failed(error);
        }
        let first = appended?;
        metrics.appended(Kind::Outcome, new.len());
        for outcome in &new {
            recent.became(*outcome);
        }
        Ok((new.len(), first.map(|first| first + new.len() as u64 - 1)))
    }

    /// Waits until the record `sequence` is as durable as it should be.
    ///
    /// # Errors
    ///
    /// If it cannot be forced to the disk.
    pub(crate) async fn committed(&self, sequence: u64) -> Result<(), KeepError> {
        let Some(kept) = &self.kept else {
            return Ok(());
        };
        if kept.durability == Durability::Process {
            return Ok(());
        }
        let waited = tokio::time::timeout(COMMIT_LIMIT, kept.committer.wait()).await;
        match waited {
            Ok(true) if !kept.store.lost(sequence) => Ok(()),
            _ => Err(KeepError::NotOnDisk),
        }
    }

    /// Whether there is such a decision.
    ///
    /// # Errors
    ///
    /// If the log cannot be read, or none is kept.
    pub(crate) fn has_decision(&self, id: DecisionId) -> Result<bool, KeepError> {
        let kept = self.kept.as_ref().ok_or(KeepError::NoLog)?;
        if kept.recent().has_decision(id) {
            return Ok(true);
        }
        let record = kept.store.get(id.0)?;
        Ok(record.is_some_and(|r| r.as_record().kind() == Some(Kind::Decision)))
    }

    /// Reads the log on a thread that may wait for the disk; a few at a time.
    ///
    /// # Errors
    ///
    /// If `read` fails, or no log is kept.
    pub(crate) async fn read<T: Send + 'static>(
        &self,
        read: impl FnOnce(&Log) -> Result<T, LogError> + Send + 'static,
    ) -> Result<T, KeepError> {
        let kept = self.kept.as_ref().ok_or(KeepError::NoLog)?;
        // The semaphore is never closed.
        let _permit = kept.readers.acquire().await;
        let store = Arc::clone(&kept.store);
        match tokio::task::spawn_blocking(move || read(&store)).await {
            Ok(done) => Ok(done?),
            Err(_) => Err(KeepError::NotOnDisk),
        }
    }

    /// A decision by its id.
    ///
    /// # Errors
    ///
    /// If the log cannot be read, or none is kept.
    pub(crate) async fn find(&self, id: DecisionId) -> Result<Option<OwnedRecord>, KeepError> {
        let found = self.read(move |store| store.get(id.0)).await?;
        Ok(found.filter(|r| r.as_record().kind() == Some(Kind::Decision)))
    }

    /// What became of a decision, as far as it is remembered.
    pub(crate) fn outcomes_of(&self, id: DecisionId) -> Vec<Outcome> {
        let kept = self.kept.as_ref();
        kept.map_or_else(Vec::new, |kept| kept.recent().outcomes_of(id))
    }

    /// Forces the log to the disk and tidies it, for as long as the service runs.
    pub(crate) async fn keep(&self, metrics: &LogMetrics) {
        let Some(kept) = &self.kept else {
            return std::future::pending().await;
        };
        metrics.recovered(&kept.found);
        tokio::join!(
            kept.committer.run(&kept.store, metrics),
            kept.upkeep(metrics)
        );
    }

    /// Marks the log as closed in good order.
    pub(crate) async fn close(&self) {
        let Some(store) = self.store().cloned() else {
            return;
        };
        let closed = tokio::task::spawn_blocking(move || store.close()).await;
        match closed {
            Ok(Ok(())) => {}
            Ok(Err(error)) => tracing::error!(%error, "the decision log was not closed"),
            Err(_) => tracing::error!("the decision log was not closed"),
        }
    }
}

impl Kept {
    fn recent(&self) -> MutexGuard<'_, Recent> {
        self.recent.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn upkeep(&self, metrics: &LogMetrics) {
        let mut ticks = tokio::time::interval(self.sync_interval);
        ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            ticks.tick().await;
            self.committer.sync(&self.store, metrics).await;
            let store = Arc::clone(&self.store);
            match tokio::task::spawn_blocking(move || store.tidy()).await {
                Ok(Ok(removed)) if removed.is_empty() => {}
                Ok(Ok(removed)) => {
                    tracing::info!(segments = removed.len(), "old segments are removed");
                }
                Ok(Err(error)) => {
                    metrics.failed(&error);
                    tracing::error!(%error, "the decision log");
                }
                Err(_) => tracing::error!("tidying the decision log panicked"),
            }
            metrics.status(&self.store.status());
        }
    }
}

/// Tells what was found when the log was opened.
fn tell(found: &Recovered, folder: &std::path::Path, elapsed: Duration) {
    for damage in &found.damage {
        tracing::warn!(%damage, "the decision log is damaged");
    }
    if let Some(torn) = &found.torn {
        let (damage, kept) = (&torn.damage, torn.kept.display());
        tracing::warn!(%damage, %kept, "the end of the decision log is set aside");
    }
    for caution in &found.cautions {
        tracing::warn!("{caution}");
    }
    if found.other_world {
        tracing::warn!("the decision log was about another world: a new segment is begun");
    }
    tracing::info!(
        folder = %folder.display(),
        segments = found.segments,
        in_good_order = found.in_good_order,
        elapsed_ms = elapsed.as_secs_f64() * 1e3,
        "the decision log is open"
    );
}
