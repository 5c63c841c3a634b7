//! The policies that a service holds: which one decides, which one decided before, which one is
//! tried in its shadow.
//!
//! What serves is one immutable value ([`Serving`]) that is swapped as a whole; deciders pick it up
//! at their next request, so a decision is always that of one policy. A model is read, held
//! against the world and asked for a decision before it is listed, so one that is damaged or does
//! not fit never takes the place of a good one. With a state file the choice survives a restart;
//! where it cannot be restored, the policy that the service was started with decides.
//!
//! Left out: fetching models from elsewhere, and keeping several worlds.

mod entry;
mod state;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use arc_swap::ArcSwap;
use models::ModelError;
use serde::{Deserialize, Serialize};
use thiserror::Error;
use twin::policy::PolicyError;
use twin::stream;
use twin::world::World;
use utoipa::ToSchema;

pub use entry::{Entry, Facts, Origin};

use crate::source::Source;

/// The most policies that are held.
pub const MAX_HELD: usize = 16;
/// How many policies are remembered for rolling back.
pub const MAX_PREVIOUS: usize = 8;

/// Which of the service's policies is asked.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[schema(as = PolicyRole)]
#[serde(rename_all = "kebab-case")]
pub enum Role {
    /// The one that decides.
    #[default]
    Active,
    /// The one that is tried.
    Candidate,
}

/// Who decides now.
#[derive(Clone, Debug)]
pub struct Serving {
    /// Rises with every change.
    pub generation: u64,
    /// Who decides.
    pub active: Arc<Entry>,
    /// Who is tried.
    pub candidate: Option<Candidate>,
}

/// A policy that is tried.
#[derive(Clone, Debug)]
pub struct Candidate {
    /// The policy.
    pub entry: Arc<Entry>,
    /// The share of the decisions that it takes in shadow, to be compared.
    pub shadow_share: f64,
    /// The share of the decisions that it takes in earnest.
    pub canary_share: f64,
    /// Why it takes none in earnest any more, where it was stopped.
    pub stopped: Option<String>,
}

impl Serving {
    /// Who takes the decision numbered `id`, by a hash of the number.
    #[must_use]
    pub fn role(&self, id: u64) -> Role {
        match &self.candidate {
            Some(candidate) if stream::unit(id, CANARY) < candidate.canary_share => Role::Candidate,
            _ => Role::Active,
        }
    }

    /// Whether the decision numbered `id` is compared. What the candidate decides in earnest is
    /// compared as often as what it decides in shadow.
    #[must_use]
    pub fn is_compared(&self, id: u64) -> bool {
        let candidate = self.candidate.as_ref();
        candidate.is_some_and(|candidate| stream::unit(id, SHADOW) < candidate.shadow_share)
    }

    /// The policy in `role`; the active one where there is no candidate.
    #[must_use]
    pub fn entry(&self, role: Role) -> &Arc<Entry> {
        match (role, &self.candidate) {
            (Role::Candidate, Some(candidate)) => &candidate.entry,
            _ => &self.active,
        }
    }
}

/// Which hash of a decision's number says whether the candidate takes it.
const CANARY: u64 = 1;
/// Which hash says whether it is compared.
const SHADOW: u64 = 2;

/// Where a registry finds models and keeps its state.
#[derive(Clone, Debug, Default)]
pub struct Places {
    /// The folder under which models may be loaded; none may without.
    pub models: Option<PathBuf>,
    /// The file that keeps the choice over a restart.
    pub state: Option<PathBuf>,
}

/// Why the registry did not do as it was told. Nothing has changed then, unless the variant says so.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum RegistryError {
    /// No folder is configured.
    #[error("no folder of models is configured, so none can be loaded")]
    NoFolder,
    /// The path leads elsewhere.
    #[error("{0:?} must name a folder below the configured folder of models")]
    Path(String),
    /// The model cannot be read.
    #[error(transparent)]
    Model(#[from] ModelError),
    /// There is no such policy of the twin.
    #[error(transparent)]
    Policy(#[from] PolicyError),
    /// The model is for another world.
    #[error(
        "it was trained on {trained}, but this service decides for {world}; to load it nevertheless, \
         set any_world"
    )]
    World {
        /// The world of training.
        trained: String,
        /// The world of the service.
        world: String,
    },
    /// The policy does not decide on the world's first state.
    #[error("it does not decide on the first state of the world: {0}")]
    Trial(String),
    /// There is no such policy.
    #[error("no policy {0:?} is loaded")]
    Unknown(String),
    /// The policy is in use.
    #[error("{0} is in use: activate another one, or end the shadow, first")]
    InUse(String),
    /// There are too many.
    #[error("{MAX_HELD} policies are held already: unload one first")]
    Full,
    /// There is nothing to go back to.
    #[error("no policy was active before")]
    NoPrevious,
    /// A policy cannot be its own candidate.
    #[error("{0} is the active policy, so there is nothing to compare it with")]
    Same(String),
    /// The change was made but cannot be kept over a restart.
    #[error("the change is made, but {} cannot be written: {reason}; it will not survive a restart", path.display())]
    State {
        /// The file.
        path: PathBuf,
        /// Why not.
        reason: String,
    },
}

/// A policy as it is listed.
#[derive(Clone, Debug)]
pub struct Listed {
    /// The policy.
    pub entry: Arc<Entry>,
    /// Whether it decides.
    pub active: bool,
    /// Whether it is tried.
    pub candidate: bool,
    /// Its place among those that decided before, the last one being 1.
    pub previous: Option<usize>,
}

/// The policies of a service.
#[derive(Debug)]
pub struct Registry {
    world: Arc<World>,
    places: Places,
    serving: ArcSwap<Serving>,
    /// Changes take turns here; readers do not.
    book: Mutex<Book>,
}

#[derive(Debug)]
struct Book {
    /// By key.
    held: BTreeMap<String, Arc<Entry>>,
    /// Those that decided before, the last one last.
    previous: Vec<Arc<Entry>>,
}

impl Registry {
    /// A registry of `given`, the policy that the service was started with, for `world`; then
    /// restored from the state file where there is one.
    #[must_use]
    pub fn new(world: &Arc<World>, given: Entry, places: Places) -> Self {
        let given = Arc::new(given);
        let registry = Self {
            world: Arc::clone(world),
            places,
            serving: ArcSwap::from_pointee(Serving {
                generation: 0,
                active: Arc::clone(&given),
                candidate: None,
            }),
            book: Mutex::new(Book {
                held: BTreeMap::from([(given.key().to_owned(), given)]),
                previous: Vec::new(),
            }),
        };
        registry.restore();
        registry
    }

    /// Who decides now.
    #[must_use]
    pub fn serving(&self) -> Arc<Serving> {
        self.serving.load_full()
    }

    /// The generation of who decides now.
    #[must_use]
    pub fn generation(&self) -> u64 {
        self.serving.load().generation
    }

    /// All policies, by key.
    #[must_use]
    pub fn list(&self) -> Vec<Listed> {
        let book = self.book();
        let serving = self.serving();
        let candidate = serving.candidate.as_ref().map(|c| c.entry.key().to_owned());
        book.held
            .iter()
            .map(|(key, entry)| Listed {
                entry: Arc::clone(entry),
                active: serving.active.key() == key,
                candidate: candidate.as_ref() == Some(key),
                previous: book
                    .previous
                    .iter()
                    .rev()
                    .position(|entry| entry.key() == key)
                    .map(|place| place + 1),
            })
            .collect()
    }

    /// Reads the policy of `origin` and lists it; the one that is held where it is the same.
    ///
    /// # Errors
    ///
    /// If it cannot be read, does not fit or does not decide, or if too many are held.
    pub fn load(&self, origin: &Origin, any_world: bool) -> Result<Arc<Entry>, RegistryError> {
        // Read before the lock is taken: it takes time.
        let entry = entry::read(&self.world, &self.places, origin, any_world)?;
        let mut book = self.book();
        if let Some(held) = book.held.get(entry.key()) {
            return Ok(Arc::clone(held));
        }
        if book.held.len() >= MAX_HELD {
            return Err(RegistryError::Full);
        }
        let entry = Arc::new(entry);
        book.held.insert(entry.key().to_owned(), Arc::clone(&entry));
        self.save(&book)?;
        Ok(entry)
    }

    /// Lets the policy called `key` decide from now on; a candidate that becomes active is tried
    /// no longer.
    ///
    /// # Errors
    ///
    /// If there is no such policy.
    pub fn activate(&self, key: &str) -> Result<Arc<Serving>, RegistryError> {
        let mut book = self.book();
        let entry = book.find(key)?;
        let serving = self.serving();
        if serving.active.key() != entry.key() {
            book.remember(&serving.active);
        }
        let kept = |candidate: &Candidate| candidate.entry.key() != entry.key();
        let candidate = serving.candidate.clone().filter(kept);
        self.swap(entry, candidate);
        self.save(&book)?;
        Ok(self.serving())
    }

    /// Lets the policy that decided before decide again.
    ///
    /// # Errors
    ///
    /// If none did.
    pub fn roll_back(&self) -> Result<Arc<Serving>, RegistryError> {
        let mut book = self.book();
        let entry = book.previous.pop().ok_or(RegistryError::NoPrevious)?;
        let kept = |candidate: &Candidate| candidate.entry.key() != entry.key();
        let candidate = self.serving().candidate.clone().filter(kept);
        self.swap(entry, candidate);
        self.save(&book)?;
        Ok(self.serving())
    }

    /// Tries the policy called `key` in shadow on a share of the decisions, and in earnest on
    /// another; in place of the one that was tried.
    ///
    /// # Errors
    ///
    /// If there is no such policy, or it is the active one.
    pub fn shadow(
        &self,
        key: &str,
        shadow_share: f64,
        canary_share: f64,
    ) -> Result<Arc<Serving>, RegistryError> {
        let book = self.book();
        let entry = book.find(key)?;
        let active = Arc::clone(&self.serving().active);
        if active.key() == entry.key() {
            return Err(RegistryError::Same(entry.name.clone()));
        }
        let candidate = Candidate {
            entry,
            shadow_share,
            canary_share,
            stopped: None,
        };
        self.swap(active, Some(candidate));
        self.save(&book)?;
        Ok(self.serving())
    }

    /// Tries no policy any longer.
    ///
    /// # Errors
    ///
    /// If the state cannot be kept.
    pub fn end_shadow(&self) -> Result<Arc<Serving>, RegistryError> {
        let book = self.book();
        self.swap(Arc::clone(&self.serving().active), None);
        self.save(&book)?;
        Ok(self.serving())
    }

    /// Lets the candidate of `generation` take no decision in earnest any more, for `reason`; it
    /// is still compared. Whether there was something to stop.
    pub fn stop_canary(&self, generation: u64, reason: &str) -> bool {
        let book = self.book();
        let serving = self.serving();
        let Some(candidate) = &serving.candidate else {
            return false;
        };
        if serving.generation != generation || candidate.canary_share <= 0.0 {
            return false;
        }
        let candidate = Candidate {
            canary_share: 0.0,
            stopped: Some(reason.into()),
            ..candidate.clone()
        };
        self.swap(Arc::clone(&serving.active), Some(candidate));
        if let Err(error) = self.save(&book) {
            tracing::warn!("{error}");
        }
        true
    }

    /// Forgets the policy called `key`.
    ///
    /// # Errors
    ///
    /// If there is no such policy, or it is in use.
    pub fn unload(&self, key: &str) -> Result<(), RegistryError> {
        let mut book = self.book();
        let entry = book.find(key)?;
        let serving = self.serving();
        let tried = serving.candidate.as_ref().map(|c| c.entry.key());
        let used = [Some(serving.active.key()), tried];
        if entry.is_given() || used.contains(&Some(entry.key())) {
            return Err(RegistryError::InUse(entry.name.clone()));
        }
        book.held.remove(entry.key());
        book.previous
            .retain(|previous| previous.key() != entry.key());
        self.save(&book)
    }

    fn book(&self) -> MutexGuard<'_, Book> {
        self.book.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Who decides is changed as a whole.
    fn swap(&self, active: Arc<Entry>, candidate: Option<Candidate>) {
        let generation = self.generation() + 1;
        self.serving.store(Arc::new(Serving {
            generation,
            active,
            candidate,
        }));
    }
}

impl Book {
    fn find(&self, key: &str) -> Result<Arc<Entry>, RegistryError> {
        let unknown = || RegistryError::Unknown(key.into());
        self.held.get(key).cloned().ok_or_else(unknown)
    }

    fn remember(&mut self, entry: &Arc<Entry>) {
        self.previous.push(Arc::clone(entry));
        if self.previous.len() > MAX_PREVIOUS {
            self.previous.remove(0);
        }
    }
}

#[cfg(test)]
mod tests;
