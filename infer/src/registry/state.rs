//! The choice of policies as a file, so that it survives a restart.

use std::fs;
use std::io::{self, Write};
use std::path::Path;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::{
    Book, Candidate, Entry, MAX_HELD, MAX_PREVIOUS, Origin, Registry, RegistryError, entry,
};

/// Version of the file.
const SCHEMA: u32 = 1;
/// The most bytes of a file that is read.
const MOST_BYTES: u64 = 1 << 20;

/// The file. Policies go by their keys; that of the policy that the service was started with is
/// absent, since it may be another one the next time.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct StateFile {
    schema: u32,
    /// Hash of the world that they decide for.
    world_hash: String,
    held: Vec<Held>,
    active: Option<String>,
    previous: Vec<Option<String>>,
    candidate: Option<Tried>,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Held {
    key: String,
    origin: Origin,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Tried {
    key: Option<String>,
    shadow_share: f64,
    canary_share: f64,
    stopped: Option<String>,
}

fn key_of(entry: &Entry) -> Option<String> {
    (!entry.is_given()).then(|| entry.key().to_owned())
}

impl Registry {
    /// Writes the state, if it is kept: the old file or the whole new one.
    pub(super) fn save(&self, book: &Book) -> Result<(), RegistryError> {
        let Some(path) = &self.places.state else {
            return Ok(());
        };
        let serving = self.serving();
        let held = book.held.values().filter(|entry| !entry.is_given());
        let file = StateFile {
            schema: SCHEMA,
            world_hash: self.world.hash.clone(),
            held: held
                .map(|entry| Held {
                    key: entry.key().into(),
                    origin: entry.origin.clone(),
                })
                .collect(),
            active: key_of(&serving.active),
            previous: book.previous.iter().map(|entry| key_of(entry)).collect(),
            candidate: serving.candidate.as_ref().map(|candidate| Tried {
                key: key_of(&candidate.entry),
                shadow_share: candidate.shadow_share,
                canary_share: candidate.canary_share,
                stopped: candidate.stopped.clone(),
            }),
        };
        let written = serde_json::to_vec_pretty(&file)
            .map_err(io::Error::other)
            .and_then(|bytes| write_atomic(path, &bytes));
        written.map_err(|error| RegistryError::State {
            path: path.clone(),
            reason: error.to_string(),
        })
    }

    /// Takes up the state of an earlier run. What cannot be restored is told in the log and left
    /// out: a start needs no hand.
    pub(super) fn restore(&self) {
        let Some(path) = &self.places.state else {
            return;
        };
        let file = match read(path) {
            Ok(Some(file)) => file,
            Ok(None) => return,
            Err(reason) => {
                tracing::warn!(path = %path.display(), %reason, "the choice of policies is not restored");
                return;
            }
        };
        if file.world_hash != self.world.hash {
            let path = path.display();
            tracing::warn!(%path, "the choice of policies was for another world: it is not restored");
            return;
        }
        let mut book = self.book();
        for held in file.held.into_iter().take(MAX_HELD) {
            // That it was for another world was allowed when it was loaded.
            match entry::read(&self.world, &self.places, &held.origin, true) {
                Ok(entry) if entry.key() == held.key => {
                    book.held.insert(held.key, Arc::new(entry));
                }
                Ok(_) => {
                    tracing::warn!(key = held.key, "the model has changed: it is not restored")
                }
                Err(error) => tracing::warn!(key = held.key, %error, "a policy is not restored"),
            }
        }
        let given = Arc::clone(&self.serving().active);
        let find = |key: Option<&String>| match key {
            None => Some(Arc::clone(&given)),
            Some(key) => book.held.get(key).cloned(),
        };
        let active = find(file.active.as_ref()).unwrap_or_else(|| Arc::clone(&given));
        let candidate = file.candidate.and_then(|tried| {
            let entry = find(tried.key.as_ref()).filter(|entry| entry.key() != active.key())?;
            let share = |share: f64| {
                if share.is_finite() {
                    share.clamp(0.0, 1.0)
                } else {
                    0.0
                }
            };
            Some(Candidate {
                entry,
                shadow_share: share(tried.shadow_share),
                canary_share: share(tried.canary_share),
                stopped: tried.stopped,
            })
        });
        let previous = file.previous.iter().take(MAX_PREVIOUS);
        let previous: Vec<_> = previous.filter_map(|key| find(key.as_ref())).collect();
        book.previous = previous;
        if active.key() != given.key() || candidate.is_some() {
            tracing::info!(active = active.name, "the choice of policies is restored");
            self.swap(active, candidate);
        }
    }
}

/// The file, or `None` if there is none.
fn read(path: &Path) -> Result<Option<StateFile>, String> {
    let length = match fs::metadata(path) {
        Ok(metadata) => metadata.len(),
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error.to_string()),
    };
    if length > MOST_BYTES {
        return Err(format!("it has {length} bytes, more than {MOST_BYTES}"));
    }
    let bytes = fs::read(path).map_err(|error| error.to_string())?;
    let file: StateFile = serde_json::from_slice(&bytes).map_err(|error| error.to_string())?;
    match file.schema {
        SCHEMA => Ok(Some(file)),
        found => Err(format!(
            "its schema is {found}, this program reads {SCHEMA}"
        )),
    }
}

fn write_atomic(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let mut name = std::ffi::OsString::from(".");
    name.push(path.file_name().unwrap_or_default());
    name.push(".tmp");
    let temporary = path.with_file_name(name);
    let mut file = fs::File::create(&temporary)?;
    file.write_all(bytes)?;
    file.sync_all()?;
    drop(file);
    fs::rename(&temporary, path)?;
    // The rename itself must be on the disk too.
    match path
        .parent()
        .filter(|parent| !parent.as_os_str().is_empty())
    {
        Some(parent) => fs::File::open(parent)?.sync_all(),
        None => Ok(()),
    }
}
