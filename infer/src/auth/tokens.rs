//! The file of tokens: a line each, `NAME ROLE sha256:HASH [expires:TIME]`.
//!
//! ```text
//! # Who may come, and until when
//! deployer decide sha256:9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08
//! grafana read sha256:60303ae22b998861bce3b28f33eec1be758a213c86c93c076dbe9f558c11c752 expires:2027-01-01T00:00:00Z
//! ```
//!
//! A client may have several lines, so that its token can be changed without a gap. Write a new file
//! beside the old one and rename it, so that no half of it is ever read.

use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use arc_swap::ArcSwap;
use jiff::Timestamp;
use sha2::{Digest, Sha256};
use subtle::{Choice, ConditionallySelectable, ConstantTimeEq};
use thiserror::Error;

use super::{ClientName, CredentialError, Role};

/// The most tokens of a file: each request is held against all of them.
const MAX_TOKENS: usize = 1_024;
/// The most bytes of a file.
const MAX_BYTES: u64 = 1 << 20;
/// What every new token begins with, so that programs that look for leaked secrets find it.
const PREFIX: &str = "infer_";

/// Why a file of tokens is refused.
#[derive(Debug, Error)]
pub enum TokenError {
    /// It cannot be read.
    #[error("cannot read the tokens {}: {source}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// The reason.
        source: io::Error,
    },
    /// There is no token in it, which is also what a file looks like that is being written.
    #[error("{}: there is no token in it", path.display())]
    Empty {
        /// The file.
        path: PathBuf,
    },
    /// A line is wrong.
    #[error("{}:{line}: {problem}", path.display())]
    Line {
        /// The file.
        path: PathBuf,
        /// The line, from 1.
        line: usize,
        /// What is wrong, without what stands there.
        problem: String,
    },
    /// The system has no randomness.
    #[error("the system gives no random numbers")]
    NoRandomness,
}

/// A hash of a token, and whose it is.
struct Entry {
    hash: [u8; 32],
    name: ClientName,
    role: Role,
    expires: Option<Timestamp>,
}

/// Tokens, as their hashes.
pub struct Tokens {
    entries: Vec<Entry>,
}

impl std::fmt::Debug for Tokens {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let names = self.entries.iter().map(|e| (e.name.as_str(), e.role));
        f.debug_map().entries(names).finish()
    }
}

impl Tokens {
    /// Reads the `text` of the file at `path`.
    ///
    /// # Errors
    ///
    /// If there is no line, or one is wrong; the message does not repeat it, since a token may stand
    /// there.
    pub fn parse(path: &Path, text: &str) -> Result<Self, TokenError> {
        let mut entries: Vec<Entry> = Vec::new();
        for (i, line) in text.lines().enumerate() {
            let line = line.trim();
            if line.is_empty() || line.starts_with('#') {
                continue;
            }
            let wrong = |problem: String| TokenError::Line {
                path: path.into(),
                line: i + 1,
                problem,
            };
            let entry = entry(line).map_err(wrong)?;
            if entries.iter().any(|other| other.hash == entry.hash) {
                return Err(wrong("the same token stands above".into()));
            }
            if entries.len() == MAX_TOKENS {
                return Err(wrong(format!("a file may have {MAX_TOKENS} tokens")));
            }
            entries.push(entry);
        }
        if entries.is_empty() {
            return Err(TokenError::Empty { path: path.into() });
        }
        Ok(Self { entries })
    }

    /// How many there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// Whose `token` is, at the time `now`. The time that this takes does not tell how much of
    /// a token was right, or which.
    pub(super) fn find(
        &self,
        token: &[u8],
        now: Timestamp,
    ) -> Result<(&ClientName, Role), CredentialError> {
        let hash: [u8; 32] = Sha256::digest(token).into();
        let mut found = u32::MAX;
        for (i, entry) in (0_u32..).zip(&self.entries) {
            let is_it: Choice = entry.hash.ct_eq(&hash);
            found.conditional_assign(&i, is_it);
        }
        let entry = usize::try_from(found)
            .ok()
            .and_then(|found| self.entries.get(found))
            .ok_or(CredentialError::Unknown)?;
        if entry.expires.is_some_and(|expires| expires <= now) {
            return Err(CredentialError::Expired);
        }
        Ok((&entry.name, entry.role))
    }
}

fn entry(line: &str) -> Result<Entry, String> {
    let mut words = line.split_whitespace();
    let mut next = |what: &str| words.next().ok_or_else(|| format!("{what} is missing"));
    let name = next("the client's name")?.parse()?;
    let roles = next("the role")?;
    let hash = next("sha256: and the hash")?;
    let hash = hash
        .strip_prefix("sha256:")
        .ok_or("after the role must stand sha256: and the hash of the token")?;
    let mut bytes = [0; 32];
    hex::decode_to_slice(hash, &mut bytes)
        .map_err(|_| "after sha256: must stand 64 hexadecimal digits")?;
    let expires = match words.next() {
        None => None,
        Some(word) => {
            let time = word
                .strip_prefix("expires:")
                .ok_or("after the hash may stand expires: and a time only")?;
            let time = time
                .parse::<Timestamp>()
                .map_err(|_| "after expires: must stand a time as 2027-01-01T00:00:00Z")?;
            Some(time)
        }
    };
    if words.next().is_some() {
        return Err("a line ends after expires".into());
    }
    Ok(Entry {
        hash: bytes,
        name,
        role: highest(roles)?,
        expires,
    })
}

/// The highest of `roles`, which commas separate: it may do what the others may.
fn highest(roles: &str) -> Result<Role, String> {
    let mut highest = None;
    for role in roles.split(',') {
        // The word may be a token that stands in the wrong place.
        let role: Role = role
            .parse()
            .map_err(|_| "after the name must stand a role: read, decide or operate")?;
        highest = highest.max(Some(role));
    }
    highest.ok_or_else(|| "the role is missing".into())
}

/// A file of tokens, and what it held when it was last right.
#[derive(Debug)]
pub struct TokenFile {
    path: PathBuf,
    current: ArcSwap<Tokens>,
    /// What was read last, right or wrong.
    seen: Mutex<Result<String, io::ErrorKind>>,
}

/// What a look at a file found.
#[derive(Debug)]
pub enum Reload {
    /// Nothing new.
    Unchanged,
    /// As many tokens, which hold from now on.
    Loaded(usize),
    /// Something wrong: the old tokens still hold.
    Kept(TokenError),
}

impl TokenFile {
    /// Reads the file at `path`.
    ///
    /// # Errors
    ///
    /// If it cannot be read, or a line is wrong.
    pub fn open(path: &Path) -> Result<Self, TokenError> {
        let text = read(path).map_err(|source| TokenError::Read {
            path: path.into(),
            source,
        })?;
        let tokens = Tokens::parse(path, &text)?;
        Ok(Self {
            path: path.into(),
            current: ArcSwap::from_pointee(tokens),
            seen: Mutex::new(Ok(text)),
        })
    }

    /// The tokens that hold.
    #[must_use]
    pub fn current(&self) -> Arc<Tokens> {
        self.current.load_full()
    }

    /// Whether others than the owner can read the file.
    #[must_use]
    pub fn is_exposed(&self) -> bool {
        crate::files::is_readable_by_all(&self.path)
    }

    /// The file.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Looks at the file again. What is wrong is told once, not at each look.
    pub fn reload(&self) -> Reload {
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        let read = read(&self.path);
        let now = read.as_ref().map_err(io::Error::kind);
        if now == seen.as_ref().map_err(|kind| *kind) {
            return Reload::Unchanged;
        }
        *seen = now.cloned();
        let parsed = match read {
            Ok(text) => Tokens::parse(&self.path, &text),
            Err(source) => Err(TokenError::Read {
                path: self.path.clone(),
                source,
            }),
        };
        match parsed {
            Ok(tokens) => {
                let count = tokens.len();
                self.current.store(Arc::new(tokens));
                Reload::Loaded(count)
            }
            Err(error) => Reload::Kept(error),
        }
    }
}

fn read(path: &Path) -> io::Result<String> {
    let mut text = String::new();
    std::fs::File::open(path)?
        .take(MAX_BYTES + 1)
        .read_to_string(&mut text)?;
    if text.len() as u64 > MAX_BYTES {
        let problem = format!("it has more than {MAX_BYTES} bytes");
        return Err(io::Error::new(io::ErrorKind::FileTooLarge, problem));
    }
    Ok(text)
}

/// A token that is told once.
pub struct NewToken {
    secret: String,
    line: String,
}

impl std::fmt::Debug for NewToken {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("NewToken")
            .field("line", &self.line)
            .finish_non_exhaustive()
    }
}

impl NewToken {
    /// A new token of the client `name`.
    ///
    /// # Errors
    ///
    /// If the system gives no random numbers.
    pub fn random(
        name: &ClientName,
        role: Role,
        expires: Option<Timestamp>,
    ) -> Result<Self, TokenError> {
        let mut bytes = [0; 32];
        rustls::crypto::aws_lc_rs::default_provider()
            .secure_random
            .fill(&mut bytes)
            .map_err(|_| TokenError::NoRandomness)?;
        let secret = format!("{PREFIX}{}", hex::encode(bytes));
        let hash = hex::encode(Sha256::digest(&secret));
        let mut line = format!("{name} {role} sha256:{hash}");
        if let Some(expires) = expires {
            line = format!("{line} expires:{expires}");
        }
        Ok(Self { secret, line })
    }

    /// The token itself.
    #[must_use]
    pub fn secret(&self) -> &str {
        &self.secret
    }

    /// The line that makes it known.
    #[must_use]
    pub fn line(&self) -> &str {
        &self.line
    }
}
