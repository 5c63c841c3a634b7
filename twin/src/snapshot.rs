//! Snapshots: a state of the twin as compact bytes, from which it can be continued.
//!
//! | bytes | meaning |
//! |---|---|
//! | 0 | [`VERSION`] |
//! | 1 to 8 | the first bytes of the SHA-256 of what follows |
//! | from 9 | the [`State`] as bincode 2 writes it: little endian, integers of variable length |
//!
//! A snapshot holds what no policy can see, such as the work that fragments have left, so that a
//! run can be continued from it bit by bit. It does not hold the world: a state means nothing
//! without the world that it was in.
//!
//! Left out: reading other versions. Snapshots are cheap to make again.

use bincode::config::{Configuration, Limit, LittleEndian, Varint};
use sha2::{Digest, Sha256};
use thiserror::Error;

use crate::state::{Epoch, State};
use crate::world::World;

/// The version of the bytes; it rises when any field of [`State`] does.
pub const VERSION: u8 = 3;

/// The longest snapshot that is read, in bytes.
pub const MAX_BYTES: usize = 256 << 20;

/// Bytes before the state.
const HEADER: usize = 1 + CHECK;

/// Bytes of the checksum.
const CHECK: usize = 8;

/// Why bytes are no snapshot.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum SnapshotError {
    /// There are too few bytes.
    #[error("the snapshot is cut off after {length} bytes")]
    Short {
        /// How many there are.
        length: usize,
    },
    /// There are too many bytes.
    #[error("the snapshot has {length} bytes, but at most {MAX_BYTES} are read")]
    Long {
        /// How many there are.
        length: usize,
    },
    /// The bytes are of another version, or no snapshot at all.
    #[error("the snapshot is of version {found}, but this program reads version {VERSION}")]
    Version {
        /// The first byte.
        found: u8,
    },
    /// The bytes are not those that were written.
    #[error("the snapshot is damaged: its checksum does not match")]
    Checksum,
    /// The bytes are no state.
    #[error("the snapshot holds no state: {reason}")]
    Malformed {
        /// What is wrong.
        reason: String,
    },
}

fn configuration() -> Configuration<LittleEndian, Varint, Limit<MAX_BYTES>> {
    bincode::config::standard().with_limit::<MAX_BYTES>()
}

fn checksum(payload: &[u8]) -> [u8; CHECK] {
    let mut check = [0; CHECK];
    check.copy_from_slice(&Sha256::digest(payload)[..CHECK]);
    check
}

/// `state` as bytes; equal states give equal bytes.
///
/// # Panics
///
/// Never: a state holds nothing that cannot be written.
#[must_use]
pub fn encode(state: &State) -> Vec<u8> {
    let payload = bincode::serde::encode_to_vec(state, configuration())
        .expect("a state is made of numbers, lists and enumerations");
    let mut bytes = Vec::with_capacity(HEADER + payload.len());
    bytes.push(VERSION);
    bytes.extend(checksum(&payload));
    bytes.extend(payload);
    bytes
}

/// The state that [`encode`] wrote; it can be continued in the world that it was in.
///
/// # Errors
///
/// [`SnapshotError`] if the bytes are cut off, damaged, of another version, or no snapshot.
pub fn decode(bytes: &[u8]) -> Result<State, SnapshotError> {
    let length = bytes.len();
    match bytes.first() {
        Some(&found) if found != VERSION => return Err(SnapshotError::Version { found }),
        _ if length <= HEADER => return Err(SnapshotError::Short { length }),
        _ if length > MAX_BYTES => return Err(SnapshotError::Long { length }),
        _ => {}
    }
    let (header, payload) = bytes.split_at(HEADER);
    if header[1..] != checksum(payload) {
        return Err(SnapshotError::Checksum);
    }
    let (state, read) =
        bincode::serde::decode_from_slice(payload, configuration()).map_err(|error| {
            SnapshotError::Malformed {
                reason: error.to_string(),
            }
        })?;
    if read != payload.len() {
        let reason = format!("{} bytes are left over", payload.len() - read);
        return Err(SnapshotError::Malformed { reason });
    }
    Ok(state)
}

impl State {
    /// Why [`State::advance`] came back to this state, if it was to decide.
    #[must_use]
    pub fn epoch(&self, world: &World) -> Epoch {
        // Arrivals come before the boundary of the same moment.
        if self.next_boundary == self.now.after(world.interval) {
            Epoch::Boundary
        } else {
            Epoch::Arrival
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::decision::Decision;
    use crate::observation::Observation;
    use crate::policy;
    use crate::qos::{Qos, ResponseTimes};
    use crate::sink::Silent;
    use crate::state::Future;
    use crate::units::SimTime;
    use crate::workload::{Arrival, Split};

    /// Continues `state` under the greedy policy until `until`, by way of bytes at every epoch if
    /// `through_bytes`.
    fn steer(
        world: &World,
        mut state: State,
        arrivals: &[Arrival],
        until: SimTime,
        through_bytes: bool,
    ) -> State {
        let mut policy = policy::by_name("greedy", world, 1).expect("it is there");
        let past = arrivals.partition_point(|a| a.time <= state.now());
        let mut future = Future::skipping(arrivals, past);
        let mut decision = Decision::none();
        loop {
            let epoch = state.advance(world, &mut future, until, &mut Silent);
            if epoch == Epoch::End {
                return state;
            }
            assert_eq!(state.epoch(world), epoch);
            if through_bytes {
                state = decode(&encode(&state)).expect("a snapshot");
            }
            decision.clear();
            policy
                .decide(&Observation::new(world, &state, epoch), &mut decision)
                .expect("greedy always decides");
            state.apply(world, &decision, &mut Silent);
        }
    }

    #[test]
    fn a_decoded_state_comes_to_the_same_end() {
        for name in ["scinet-16", "azure-llm"] {
            let world = World::load(name).expect("it is embedded");
            let span = SimTime(world.interval.0 * 6);
            let mut stream = crate::stream::named(3, "test");
            let arrivals = world.arrivals(Split::Training, span, &mut stream);
            let start = || State::new(&world);
            let straight = steer(&world, start(), &arrivals, span, false);
            let detour = steer(&world, start(), &arrivals, span, true);
            let qos = |state: &State| Qos::of(&world, state, &mut ResponseTimes::default());
            assert_eq!(qos(&straight), qos(&detour), "{name}");
            assert!(
                !straight.active.is_empty(),
                "{name}: the test has requests under way"
            );
            assert_eq!(encode(&straight), encode(&detour), "{name}");
        }
    }

    #[test]
    fn other_bytes_are_refused_with_the_reason() {
        let world = World::load("scinet-16").expect("it is embedded");
        let bytes = encode(&State::new(&world));
        let refused = |bytes: &[u8]| {
            decode(bytes)
                .err()
                .map(|e| e.to_string())
                .unwrap_or_default()
        };
        assert_eq!(refused(&bytes), "");
        for length in [0, 1, HEADER] {
            assert!(refused(&bytes[..length]).contains("cut off"), "{length}");
        }
        for length in HEADER + 1..bytes.len() {
            assert!(refused(&bytes[..length]).contains("checksum"), "{length}");
        }
        let mut flipped = bytes.clone();
        flipped[bytes.len() / 2] ^= 1;
        assert!(refused(&flipped).contains("checksum"));
        assert!(refused(b"PAR1 is something else").contains("version 80"));

        // Bytes whose checksum is right, but which are no state: cut off, or with more behind.
        let sealed = |payload: &[u8]| {
            let mut bytes = vec![VERSION];
            bytes.extend(checksum(payload));
            bytes.extend(payload);
            bytes
        };
        let payload = &bytes[HEADER..];
        for length in 1..payload.len() {
            assert!(
                refused(&sealed(&payload[..length])).contains("no state"),
                "{length}"
            );
        }
        assert!(refused(&sealed(&[payload, &[0]].concat())).contains("1 bytes are left over"));
        // A list that claims to be longer than any snapshot.
        let mut greedy = vec![0, 253];
        greedy.extend([255; 8]);
        assert!(refused(&sealed(&greedy)).contains("no state"));
    }
}
