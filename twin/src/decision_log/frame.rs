//! The bytes: the header of a segment, and the frame of a record.
//!
//! All integers are little endian. A segment begins with
//!
//! | bytes | meaning |
//! |---|---|
//! | 0 to 7 | `TWINLOG` and a line feed |
//! | 8 to 9 | [`VERSION`] |
//! | 10 to 15 | zero |
//! | 16 to 23 | sequence number of its first record |
//! | 24 to 31 | when it was begun, in ns since 1970 |
//! | 32 to 39 | sequence number of the last anchor before it; 0 if there was none |
//! | 40 to 71 | SHA-256 of the world |
//! | 72 to 75 | CRC-32 of bytes 0 to 71 |
//!
//! and then holds records without anything between them:
//!
//! | bytes | meaning |
//! |---|---|
//! | 0 to 3 | `ff` and `rec`: no JSON holds this, so records are found again after damage |
//! | 4 to 7 | length of the payload |
//! | 8 to 15 | sequence number: one more than that of the record before it |
//! | 16 to 23 | when it was written, in ns since 1970 |
//! | 24 to 25 | kind |
//! | 26 to 27 | zero |
//! | 28 to 31 | CRC-32 of the payload |
//! | 32 to 35 | CRC-32 of bytes 0 to 31 |
//! | from 36 | payload |

/// The version of the bytes.
pub const VERSION: u16 = 1;
/// Bytes before the first record of a segment.
pub(super) const SEGMENT_HEADER: usize = 76;
/// Bytes before the payload of a record.
pub(super) const RECORD_HEADER: usize = 36;
/// The longest payload that is read or written.
pub const MAX_RECORD_BYTES: usize = 72 << 20;
/// What a record begins with.
pub(super) const MARKER: [u8; 4] = [0xff, b'r', b'e', b'c'];

const MAGIC: [u8; 8] = *b"TWINLOG\n";

/// SHA-256 of a world ([`World::hash`](crate::World)).
pub(super) type WorldHash = [u8; 32];

/// What a segment says about itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct SegmentHeader {
    pub(super) first: u64,
    pub(super) begun_ns: u64,
    pub(super) anchor: u64,
    pub(super) world: WorldHash,
}

/// Why bytes are no header of a segment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum BadSegment {
    Damaged,
    Version(u16),
}

/// What a record says about itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct RecordHeader {
    pub(super) length: usize,
    pub(super) sequence: u64,
    pub(super) at_ns: u64,
    pub(super) kind: u16,
    pub(super) payload_crc: u32,
}

fn u16_at(bytes: &[u8], at: usize) -> u16 {
    u16::from_le_bytes([bytes[at], bytes[at + 1]])
}

fn u32_at(bytes: &[u8], at: usize) -> u32 {
    let mut word = [0; 4];
    word.copy_from_slice(&bytes[at..at + 4]);
    u32::from_le_bytes(word)
}

fn u64_at(bytes: &[u8], at: usize) -> u64 {
    let mut word = [0; 8];
    word.copy_from_slice(&bytes[at..at + 8]);
    u64::from_le_bytes(word)
}

impl SegmentHeader {
    pub(super) fn encode(&self) -> [u8; SEGMENT_HEADER] {
        let mut bytes = [0; SEGMENT_HEADER];
        bytes[..8].copy_from_slice(&MAGIC);
        bytes[8..10].copy_from_slice(&VERSION.to_le_bytes());
        bytes[16..24].copy_from_slice(&self.first.to_le_bytes());
        bytes[24..32].copy_from_slice(&self.begun_ns.to_le_bytes());
        bytes[32..40].copy_from_slice(&self.anchor.to_le_bytes());
        bytes[40..72].copy_from_slice(&self.world);
        let crc = crc32fast::hash(&bytes[..72]);
        bytes[72..].copy_from_slice(&crc.to_le_bytes());
        bytes
    }

    pub(super) fn decode(bytes: &[u8]) -> Result<Self, BadSegment> {
        if bytes.len() < SEGMENT_HEADER
            || bytes[..8] != MAGIC
            || u32_at(bytes, 72) != crc32fast::hash(&bytes[..72])
        {
            return Err(BadSegment::Damaged);
        }
        let version = u16_at(bytes, 8);
        if version != VERSION {
            return Err(BadSegment::Version(version));
        }
        let mut world = [0; 32];
        world.copy_from_slice(&bytes[40..72]);
        Ok(Self {
            first: u64_at(bytes, 16),
            begun_ns: u64_at(bytes, 24),
            anchor: u64_at(bytes, 32),
            world,
        })
    }
}

impl RecordHeader {
    /// The header at the front of `bytes`, if they hold a whole and undamaged one.
    pub(super) fn decode(bytes: &[u8]) -> Option<Self> {
        if bytes.len() < RECORD_HEADER
            || bytes[..4] != MARKER
            || u32_at(bytes, 32) != crc32fast::hash(&bytes[..32])
        {
            return None;
        }
        let length = usize::try_from(u32_at(bytes, 4)).ok()?;
        (length <= MAX_RECORD_BYTES).then(|| Self {
            length,
            sequence: u64_at(bytes, 8),
            at_ns: u64_at(bytes, 16),
            kind: u16_at(bytes, 24),
            payload_crc: u32_at(bytes, 28),
        })
    }

    /// Bytes of the whole record.
    pub(super) fn total(&self) -> usize {
        RECORD_HEADER + self.length
    }
}

/// Fills in the first [`RECORD_HEADER`] bytes of `record`; its payload follows them.
pub(super) fn seal(record: &mut [u8], sequence: u64, at_ns: u64, kind: u16) {
    let (header, payload) = record.split_at_mut(RECORD_HEADER);
    // A payload is bounded by `MAX_RECORD_BYTES`.
    let length = u32::try_from(payload.len()).unwrap_or(u32::MAX);
    header[..4].copy_from_slice(&MARKER);
    header[4..8].copy_from_slice(&length.to_le_bytes());
    header[8..16].copy_from_slice(&sequence.to_le_bytes());
    header[16..24].copy_from_slice(&at_ns.to_le_bytes());
    header[24..26].copy_from_slice(&kind.to_le_bytes());
    header[26..28].copy_from_slice(&[0; 2]);
    header[28..32].copy_from_slice(&crc32fast::hash(payload).to_le_bytes());
    let crc = crc32fast::hash(&header[..32]);
    header[32..].copy_from_slice(&crc.to_le_bytes());
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_sealed_is_read_and_a_flipped_bit_is_noticed() {
        let mut record = vec![0; RECORD_HEADER];
        record.extend(b"{\"schema\":1}");
        seal(&mut record, 42, 7, 3);
        let header = RecordHeader::decode(&record).expect("whole");
        assert_eq!((header.sequence, header.at_ns, header.kind), (42, 7, 3));
        assert_eq!(header.total(), record.len());
        for bit in 0..RECORD_HEADER * 8 {
            let mut damaged = record.clone();
            damaged[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(RecordHeader::decode(&damaged), None, "bit {bit}");
        }
    }

    #[test]
    fn headers_of_segments_are_read_back_and_checked() {
        let header = SegmentHeader {
            first: 42,
            begun_ns: 1,
            anchor: 40,
            world: [7; 32],
        };
        let bytes = header.encode();
        assert_eq!(SegmentHeader::decode(&bytes), Ok(header));
        assert_eq!(
            SegmentHeader::decode(&bytes[..75]),
            Err(BadSegment::Damaged)
        );
        for bit in 0..SEGMENT_HEADER * 8 {
            let mut damaged = bytes;
            damaged[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(SegmentHeader::decode(&damaged), Err(BadSegment::Damaged));
        }
        let mut newer = bytes;
        newer[8] = 2;
        let crc = crc32fast::hash(&newer[..72]);
        newer[72..].copy_from_slice(&crc.to_le_bytes());
        assert_eq!(SegmentHeader::decode(&newer), Err(BadSegment::Version(2)));
    }
}
