//! Where records are: a sparse index of a segment.

use std::collections::VecDeque;
use std::path::Path;
use std::sync::Arc;

use super::error::LogError;
use super::frame::SEGMENT_HEADER;
use super::scan::{Scanner, Step};

/// Bytes between two entries, at first.
const STRIDE: u64 = 64 << 10;
/// The most entries of an index; when it is full every second one is dropped.
const MAX_ENTRIES: usize = 1024;
/// Indices of old segments that are kept.
pub(super) const CACHED: usize = 32;

/// Sequence numbers and offsets of some of a segment's records, in their order.
#[derive(Clone, Debug)]
pub(super) struct Index {
    stride: u64,
    entries: Vec<(u64, u64)>,
}

impl Index {
    /// The index of a segment that begins with record `first`.
    pub(super) fn new(first: u64) -> Self {
        Self {
            stride: STRIDE,
            entries: vec![(first, SEGMENT_HEADER as u64)],
        }
    }

    /// Notes that the record `sequence` is at `offset`.
    pub(super) fn note(&mut self, sequence: u64, offset: u64) {
        let last = self.entries.last().map_or(0, |e| e.1);
        if offset < last + self.stride {
            return;
        }
        if self.entries.len() == MAX_ENTRIES {
            self.stride *= 2;
            let mut at = 0;
            self.entries.retain(|_| {
                at += 1;
                at % 2 == 1
            });
        }
        self.entries.push((sequence, offset));
    }

    /// The last entry at or before `sequence`; the first one where there is none.
    pub(super) fn before(&self, sequence: u64) -> (u64, u64) {
        let after = self.entries.partition_point(|e| e.0 <= sequence);
        self.entries[after.saturating_sub(1)]
    }

    /// Reads the segment at `path`.
    fn read(path: &Path, first: u64) -> Result<Self, LogError> {
        let (mut scanner, _) = Scanner::open(path, first)?;
        let mut index = Self::new(first);
        loop {
            let offset = scanner.offset();
            match scanner.step()? {
                Step::Record(header) => index.note(header.sequence, offset),
                Step::Damage(_) => {}
                Step::Tail(_) | Step::End => return Ok(index),
            }
        }
    }
}

/// Indices of segments that are not written any more, the least recently used first.
#[derive(Debug, Default)]
pub(super) struct Indices(VecDeque<(u64, Arc<Index>)>);

impl Indices {
    /// The index of a segment; reads the segment where it is not known.
    pub(super) fn of(&mut self, path: &Path, first: u64) -> Result<Arc<Index>, LogError> {
        let index = match self.0.iter().position(|(f, _)| *f == first) {
            Some(at) => self.0.remove(at).map(|(_, index)| index),
            None => None,
        };
        let index = match index {
            Some(index) => index,
            None => Arc::new(Index::read(path, first)?),
        };
        self.keep(first, Arc::clone(&index));
        Ok(index)
    }

    /// Keeps an index that is known already.
    pub(super) fn keep(&mut self, first: u64, index: Arc<Index>) {
        if self.0.len() == CACHED {
            self.0.pop_front();
        }
        self.0.push_back((first, index));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_index_is_bounded_and_never_points_too_far() {
        let mut index = Index::new(100);
        let mut offset = SEGMENT_HEADER as u64;
        let mut offsets = Vec::new();
        for sequence in 100..20_100 {
            index.note(sequence, offset);
            offsets.push(offset);
            offset += 30_000;
        }
        assert!(index.entries.len() <= MAX_ENTRIES && index.entries.len() > MAX_ENTRIES / 4);
        for sequence in [100, 101, 5_000, 20_099, 30_000] {
            let (entry, offset) = index.before(sequence);
            assert!(entry <= sequence);
            let position = usize::try_from(entry - 100).expect("small");
            assert_eq!(offset, offsets[position]);
        }
        assert_eq!(index.before(1), (100, SEGMENT_HEADER as u64));
    }
}
