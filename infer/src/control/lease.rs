//! A lease, so that two copies never act at once.
//!
//! - **A file** that is locked ([`FileLease`]): for copies on one machine, or on a file system whose
//!   locks work across machines. The operating system ends the lock with the process.
//! - **Tags of the resource group** ([`TagLease`]): for copies anywhere. Resource Manager has no
//!   conditional write of tags, so this is Fischer's algorithm: who finds the lease free writes its
//!   name, waits longer than any write may take, and has the lease if its name is still there. It
//!   guarantees one holder at a time as long as (1) a write that was sent takes effect within the
//!   settling time, (2) a read after the settling time sees it, and (3) clocks differ by less than
//!   the margin, a quarter of the time to live. Where these do not hold, two copies can act for at
//!   most one time to live; every action is idempotent, so they waste calls and may exceed limits
//!   counted for each copy, and neither leaves a VM in a state that its own log does not explain.
//!
//! A holder counts its lease from before it asked for it, on its own monotonic clock, and stops
//! before its next action when it runs out.

use std::collections::BTreeMap;
use std::fs::{File, OpenOptions, TryLockError};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use async_trait::async_trait;
use jiff::{SignedDuration, Timestamp};
use thiserror::Error;

use crate::azure::{Client, tag};

/// The tag that names the holder.
pub const HOLDER_TAG: &str = "codesign-control-holder";
/// The tag that tells until when the lease holds.
pub const EXPIRES_TAG: &str = "codesign-control-expires";

/// Why nobody knows who has the lease.
#[derive(Debug, Error)]
#[error("lease {name}: {problem}")]
pub struct LeaseError {
    /// The lease.
    pub name: String,
    /// What is wrong.
    pub problem: String,
}

/// Who has the lease.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Hold {
    /// This copy.
    Mine,
    /// Another copy.
    Other {
        /// Its name, where it is known.
        holder: String,
    },
}

/// A lease.
#[async_trait]
pub trait Lease: Send {
    /// Takes or renews the lease.
    ///
    /// # Errors
    ///
    /// If nobody knows who has it.
    async fn hold(&mut self) -> Result<Hold, LeaseError>;

    /// Whether this copy has the lease now, without asking anybody.
    fn is_held(&self) -> bool;

    /// Gives the lease back.
    async fn release(&mut self);
}

/// No lease: the operator sees to it that there is one copy.
#[derive(Debug)]
pub struct NoLease;

#[async_trait]
impl Lease for NoLease {
    async fn hold(&mut self) -> Result<Hold, LeaseError> {
        Ok(Hold::Mine)
    }

    fn is_held(&self) -> bool {
        true
    }

    async fn release(&mut self) {}
}

/// A file that is locked.
#[derive(Debug)]
pub struct FileLease {
    path: PathBuf,
    file: Option<File>,
}

impl FileLease {
    /// A lease by a lock on the file at `path`, which is made where there is none.
    #[must_use]
    pub fn new(path: &Path) -> Self {
        Self {
            path: path.into(),
            file: None,
        }
    }

    /// Whether the file that is locked is still the one at the path.
    fn is_in_place(&self, file: &File) -> bool {
        let (Ok(held), Ok(named)) = (file.metadata(), std::fs::metadata(&self.path)) else {
            return false;
        };
        same_file(&held, &named)
    }
}

#[cfg(unix)]
fn same_file(a: &std::fs::Metadata, b: &std::fs::Metadata) -> bool {
    use std::os::unix::fs::MetadataExt;
    (a.dev(), a.ino()) == (b.dev(), b.ino())
}

#[cfg(not(unix))]
fn same_file(_: &std::fs::Metadata, _: &std::fs::Metadata) -> bool {
    true
}

#[async_trait]
impl Lease for FileLease {
    async fn hold(&mut self) -> Result<Hold, LeaseError> {
        if self.is_held() {
            return Ok(Hold::Mine);
        }
        self.file = None;
        let error = |problem: std::io::Error| LeaseError {
            name: self.path.display().to_string(),
            problem: problem.to_string(),
        };
        let file = OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(false)
            .open(&self.path)
            .map_err(error)?;
        match file.try_lock() {
            Ok(()) if self.is_in_place(&file) => {
                self.file = Some(file);
                Ok(Hold::Mine)
            }
            Ok(()) | Err(TryLockError::WouldBlock) => Ok(Hold::Other {
                holder: "another process".into(),
            }),
            Err(TryLockError::Error(problem)) => Err(error(problem)),
        }
    }

    fn is_held(&self) -> bool {
        self.file
            .as_ref()
            .is_some_and(|file| self.is_in_place(file))
    }

    async fn release(&mut self) {
        self.file = None;
    }
}

/// Where tags are kept.
#[async_trait]
pub trait TagStore: Send + Sync {
    /// All tags.
    ///
    /// # Errors
    ///
    /// If they cannot be read.
    async fn read(&self) -> Result<BTreeMap<String, String>, String>;

    /// Adds or replaces tags.
    ///
    /// # Errors
    ///
    /// If they may not have been written.
    async fn merge(&self, tags: &BTreeMap<String, String>) -> Result<(), String>;
}

/// The tags of a resource group.
#[derive(Debug)]
pub struct GroupTags {
    /// The client.
    pub client: Arc<Client>,
    /// The resource group.
    pub group: String,
}

#[async_trait]
impl TagStore for GroupTags {
    async fn read(&self) -> Result<BTreeMap<String, String>, String> {
        let tags = self.client.group_tags(&self.group).await;
        tags.map_err(|error| error.to_string())
    }

    async fn merge(&self, tags: &BTreeMap<String, String>) -> Result<(), String> {
        let merged = self.client.merge_group_tags(&self.group, tags).await;
        merged.map_err(|error| error.to_string())
    }
}

/// A lease in the tags of a resource group.
#[derive(Debug)]
pub struct TagLease<S> {
    store: S,
    holder: String,
    time_to_live: Duration,
    settling: Duration,
    held_until: Option<Instant>,
}

/// What tags say of the lease.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Claim {
    /// `holder` has it.
    Mine,
    /// Nobody has it.
    Free,
    /// Another has it.
    Other(String),
}

/// What `tags` say of the lease to `holder`, at `now`, for clocks that differ by up to `margin`.
#[must_use]
pub fn claim(
    tags: &BTreeMap<String, String>,
    holder: &str,
    now: Timestamp,
    margin: SignedDuration,
) -> Claim {
    let named = tag(tags, HOLDER_TAG).filter(|name| !name.is_empty());
    let expires = tag(tags, EXPIRES_TAG).and_then(|text| text.parse::<Timestamp>().ok());
    match (named, expires) {
        (Some(name), Some(expires)) => {
            let over = expires.checked_add(margin).unwrap_or(Timestamp::MAX) <= now;
            match name {
                _ if over => Claim::Free,
                name if name == holder => Claim::Mine,
                name => Claim::Other(name.into()),
            }
        }
        // A name without an end, or an end that cannot be read, holds nobody off for ever.
        _ => Claim::Free,
    }
}

impl<S: TagStore> TagLease<S> {
    /// A lease in `store` for `holder`, which must be a name that no other copy has.
    #[must_use]
    pub fn new(store: S, holder: &str, time_to_live: Duration, settling: Duration) -> Self {
        Self {
            store,
            holder: holder.into(),
            time_to_live,
            settling,
            held_until: None,
        }
    }

    fn margin(&self) -> Duration {
        self.time_to_live / 4
    }

    fn error(&self, problem: String) -> LeaseError {
        LeaseError {
            name: format!("tag {HOLDER_TAG}"),
            problem,
        }
    }

    async fn read(&self) -> Result<Claim, LeaseError> {
        let tags = self.store.read().await.map_err(|p| self.error(p))?;
        let margin = SignedDuration::try_from(self.margin()).unwrap_or(SignedDuration::MAX);
        Ok(claim(&tags, &self.holder, Timestamp::now(), margin))
    }

    /// Writes the lease; it holds from before the write.
    async fn write(&self) -> Result<Instant, LeaseError> {
        let before = Instant::now();
        let expires = Timestamp::now()
            .checked_add(self.time_to_live)
            .unwrap_or(Timestamp::MAX);
        let tags = BTreeMap::from([
            (HOLDER_TAG.to_owned(), self.holder.clone()),
            (EXPIRES_TAG.to_owned(), expires.to_string()),
        ]);
        self.store.merge(&tags).await.map_err(|p| self.error(p))?;
        Ok(before + self.time_to_live.saturating_sub(self.margin()))
    }
}

#[async_trait]
impl<S: TagStore> Lease for TagLease<S> {
    async fn hold(&mut self) -> Result<Hold, LeaseError> {
        match self.read().await? {
            Claim::Other(holder) => {
                self.held_until = None;
                return Ok(Hold::Other { holder });
            }
            Claim::Mine if self.is_held() => {
                self.held_until = Some(self.write().await?);
                return Ok(Hold::Mine);
            }
            Claim::Mine | Claim::Free => {}
        }
        self.held_until = None;
        let until = self.write().await?;
        tokio::time::sleep(self.settling).await;
        match self.read().await? {
            Claim::Mine => {
                self.held_until = Some(until);
                Ok(Hold::Mine)
            }
            Claim::Other(holder) => Ok(Hold::Other { holder }),
            Claim::Free => Err(self.error("what was written is not there".into())),
        }
    }

    fn is_held(&self) -> bool {
        self.held_until.is_some_and(|until| Instant::now() < until)
    }

    async fn release(&mut self) {
        if !self.is_held() {
            return;
        }
        self.held_until = None;
        // Only one's own lease is given back; what cannot be given back runs out.
        if !matches!(self.read().await, Ok(Claim::Mine)) {
            return;
        }
        let tags = BTreeMap::from([(HOLDER_TAG.to_owned(), String::new())]);
        if let Err(problem) = self.store.merge(&tags).await {
            tracing::warn!(problem, "the lease was not given back: it runs out");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Mutex;

    #[derive(Clone, Default)]
    struct Shared(Arc<Mutex<BTreeMap<String, String>>>);

    #[async_trait]
    impl TagStore for Shared {
        async fn read(&self) -> Result<BTreeMap<String, String>, String> {
            Ok(self.0.lock().expect("whole").clone())
        }

        async fn merge(&self, tags: &BTreeMap<String, String>) -> Result<(), String> {
            self.0.lock().expect("whole").extend(tags.clone());
            Ok(())
        }
    }

    fn lease(store: &Shared, holder: &str, ttl_ms: u64) -> TagLease<Shared> {
        let millis = Duration::from_millis;
        TagLease::new(store.clone(), holder, millis(ttl_ms), millis(20))
    }

    #[tokio::test]
    async fn one_of_two_holds_until_it_gives_back() {
        let store = Shared::default();
        let mut a = lease(&store, "a", 60_000);
        let mut b = lease(&store, "b", 60_000);
        assert_eq!(a.hold().await.expect("known"), Hold::Mine);
        assert_eq!(
            b.hold().await.expect("known"),
            Hold::Other { holder: "a".into() }
        );
        assert!(a.is_held() && !b.is_held());
        assert_eq!(a.hold().await.expect("known"), Hold::Mine);
        a.release().await;
        assert!(!a.is_held());
        assert_eq!(b.hold().await.expect("known"), Hold::Mine);
    }

    #[tokio::test]
    async fn of_many_who_ask_at_once_one_gets_it() {
        let store = Shared::default();
        let mut asking = tokio::task::JoinSet::new();
        for name in ["a", "b", "c", "d"] {
            let mut lease = lease(&store, name, 60_000);
            asking.spawn(async move { lease.hold().await.expect("known") == Hold::Mine });
        }
        let held = asking.join_all().await;
        assert_eq!(held.into_iter().filter(|mine| *mine).count(), 1);
    }

    #[tokio::test]
    async fn a_lease_runs_out_for_its_holder_first() {
        let store = Shared::default();
        let mut a = lease(&store, "a", 80);
        assert_eq!(a.hold().await.expect("known"), Hold::Mine);
        let began = Instant::now();
        let mut b = lease(&store, "b", 80);
        while b.hold().await.expect("known") != Hold::Mine {
            assert!(began.elapsed() < Duration::from_secs(10));
        }
        assert!(!a.is_held(), "b has it, so a must not think that it does");
    }

    #[test]
    fn what_cannot_be_read_holds_nobody_off() {
        let now = Timestamp::UNIX_EPOCH;
        let margin = SignedDuration::from_secs(1);
        let tags = |holder: &str, expires: &str| {
            BTreeMap::from([
                (HOLDER_TAG.to_owned(), holder.to_owned()),
                (EXPIRES_TAG.to_owned(), expires.to_owned()),
            ])
        };
        let claim = |tags| claim(&tags, "me", now, margin);
        assert_eq!(claim(tags("you", "soon")), Claim::Free);
        assert_eq!(claim(tags("", "1970-01-01T01:00:00Z")), Claim::Free);
        let later = tags("you", "1970-01-01T00:00:00Z");
        assert_eq!(claim(later), Claim::Other("you".into()), "clocks differ");
        let over = tags("you", "1969-12-31T23:59:58Z");
        assert_eq!(claim(over), Claim::Free);
        assert_eq!(claim(tags("me", "1970-01-01T01:00:00Z")), Claim::Mine);
    }

    #[tokio::test]
    async fn a_file_is_held_by_one_and_not_by_who_lost_it() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("lease");
        let mut a = FileLease::new(&path);
        let mut b = FileLease::new(&path);
        assert_eq!(a.hold().await.expect("known"), Hold::Mine);
        assert!(matches!(b.hold().await, Ok(Hold::Other { .. })));
        std::fs::remove_file(&path).expect("removed");
        assert!(!a.is_held(), "the file that it locked has no name any more");
        assert_eq!(b.hold().await.expect("known"), Hold::Mine);
        assert!(matches!(a.hold().await, Ok(Hold::Other { .. })));
        b.release().await;
        assert_eq!(a.hold().await.expect("known"), Hold::Mine);
    }
}
