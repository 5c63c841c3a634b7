//! A live twin as bytes, from which it can be continued.
//!
//! | bytes | meaning |
//! |---|---|
//! | 0 to 7 | length of the state's snapshot, little endian |
//! | from 8 | the state, as [`crate::snapshot`] writes it |
//! | then, 8 | the first bytes of the SHA-256 of what follows |
//! | then | the accounts of requests and hosts, as JSON |

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use thiserror::Error;

use super::{Ended, Live, Track};
use crate::ids::RequestId;
use crate::snapshot::{self, SnapshotError};
use crate::units::SimTime;
use crate::world::World;

/// Bytes of the length.
const LENGTH: usize = 8;
/// Bytes of the checksum.
const CHECK: usize = 8;

fn checksum(accounts: &[u8]) -> [u8; CHECK] {
    let mut check = [0; CHECK];
    check.copy_from_slice(&Sha256::digest(accounts)[..CHECK]);
    check
}

/// Why bytes are no live twin of a world.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum LiveSnapshotError {
    /// There are too few bytes.
    #[error("the snapshot is cut off after {length} bytes")]
    Short {
        /// How many there are.
        length: usize,
    },
    /// The state cannot be read.
    #[error(transparent)]
    State(#[from] SnapshotError),
    /// The accounts cannot be read.
    #[error("the accounts of the snapshot cannot be read: {0}")]
    Accounts(#[from] serde_json::Error),
    /// The bytes are not those that were written.
    #[error("the snapshot is damaged: the checksum of its accounts does not match")]
    Checksum,
    /// It is of another world.
    #[error("the snapshot has {found} hosts, but the world has {expected}")]
    World {
        /// Hosts of the snapshot.
        found: usize,
        /// Hosts of the world.
        expected: usize,
    },
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Accounts {
    tracks: Vec<(RequestId, Track)>,
    ended: Vec<(RequestId, Ended)>,
    turned: Vec<SimTime>,
}

impl Live {
    /// This twin as bytes; twins that were told the same give the same bytes.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let state = snapshot::encode(&self.state);
        let accounts = Accounts {
            tracks: self.tracks.iter().map(|(k, v)| (*k, v.clone())).collect(),
            ended: self.ended.iter().map(|(k, v)| (*k, *v)).collect(),
            turned: self.turned.clone(),
        };
        let mut bytes = (state.len() as u64).to_le_bytes().to_vec();
        bytes.extend(state);
        // Numbers and lists always have a form in JSON.
        let accounts = serde_json::to_vec(&accounts).unwrap_or_default();
        bytes.extend(checksum(&accounts));
        bytes.extend(accounts);
        bytes
    }

    /// The twin of `world` that [`Live::encode`] wrote.
    ///
    /// # Errors
    ///
    /// If the bytes are damaged or of another world.
    pub fn decode(world: &World, bytes: &[u8]) -> Result<Self, LiveSnapshotError> {
        let length = bytes.len();
        let short = LiveSnapshotError::Short { length };
        let Some((head, rest)) = bytes.split_first_chunk::<LENGTH>() else {
            return Err(short);
        };
        let of_state = usize::try_from(u64::from_le_bytes(*head)).unwrap_or(usize::MAX);
        if of_state > rest.len() {
            return Err(short);
        }
        let (state, rest) = rest.split_at(of_state);
        let Some((check, accounts)) = rest.split_first_chunk::<CHECK>() else {
            return Err(short);
        };
        if *check != checksum(accounts) {
            return Err(LiveSnapshotError::Checksum);
        }
        let mut state = snapshot::decode(state)?;
        let accounts: Accounts = serde_json::from_slice(accounts)?;
        let (found, expected) = (state.hosts.len(), world.hosts.len());
        if found != expected || accounts.turned.len() != expected {
            return Err(LiveSnapshotError::World { found, expected });
        }
        state.starts = Some(Vec::new());
        Ok(Self {
            state,
            tracks: accounts.tracks.into_iter().collect::<BTreeMap<_, _>>(),
            ended: accounts.ended.into_iter().collect(),
            turned: accounts.turned,
        })
    }
}
