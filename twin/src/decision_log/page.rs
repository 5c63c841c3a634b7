//! Records by number, and the newest first.

use std::sync::{Arc, PoisonError};

use super::Log;
use super::error::LogError;
use super::index::Index;
use super::reader::Record;
use super::scan::{Scanner, Step};
use super::writer::Place;

/// A record that was read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OwnedRecord {
    /// As [`Record::sequence`].
    pub sequence: u64,
    /// As [`Record::at_ns`].
    pub at_ns: u64,
    /// As [`Record::kind`].
    pub kind: u16,
    /// As [`Record::payload`].
    pub payload: Vec<u8>,
}

/// Some of the newest records of a log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Page<T> {
    /// What was made of them, the newest first.
    pub items: Vec<T>,
    /// Before which record to go on; `None` where there is nothing more.
    pub before: Option<u64>,
}

impl Log {
    /// The record `sequence`, if it is there and not damaged.
    ///
    /// # Errors
    ///
    /// If its segment cannot be read.
    pub fn get(&self, sequence: u64) -> Result<Option<OwnedRecord>, LogError> {
        let Some(place) = self.writer().locate(sequence) else {
            return Ok(None);
        };
        match self.find(&place, sequence) {
            Err(error) if is_missing(&error) => Ok(None),
            other => other,
        }
    }

    fn find(&self, place: &Place, sequence: u64) -> Result<Option<OwnedRecord>, LogError> {
        let (at, offset) = match place.known {
            Some(known) => known,
            None => self.index(place)?.before(sequence),
        };
        let mut found = None;
        scan(place, at, offset, sequence.saturating_add(1), |record| {
            if record.sequence == sequence {
                found = Some(OwnedRecord {
                    sequence,
                    at_ns: record.at_ns,
                    kind: record.kind,
                    payload: record.payload.to_vec(),
                });
            }
        })?;
        Ok(found)
    }

    fn index(&self, place: &Place) -> Result<Arc<Index>, LogError> {
        let new = std::mem::take(&mut self.writer().new_indices);
        let mut indices = self.indices.lock().unwrap_or_else(PoisonError::into_inner);
        for (first, index) in new {
            indices.keep(first, Arc::new(index));
        }
        indices.of(&place.path, place.first)
    }

    /// Up to `limit` of what `take` makes of the records before `before`, the newest first; stops
    /// after looking through some `budget` bytes.
    ///
    /// # Errors
    ///
    /// If a segment cannot be read.
    pub fn newest<T>(
        &self,
        before: u64,
        limit: usize,
        budget: u64,
        mut take: impl FnMut(&Record<'_>) -> Option<T>,
    ) -> Result<Page<T>, LogError> {
        let mut page = Page {
            items: Vec::new(),
            before: None,
        };
        let mut before = before.min(self.status().next);
        let mut looked = 0;
        while let Some(place) = before.checked_sub(1).and_then(|s| self.writer().locate(s)) {
            let block = self.block(&place, before, &mut take);
            let (from, bytes, items) = match block {
                Err(error) if is_missing(&error) => break,
                other => other?,
            };
            looked += bytes;
            for (sequence, item) in items.into_iter().rev() {
                page.items.push(item);
                if page.items.len() == limit {
                    page.before = Some(sequence);
                    return Ok(page);
                }
            }
            before = from;
            if looked >= budget {
                page.before = Some(before);
                break;
            }
        }
        Ok(page)
    }

    /// The last stretch of a segment before `before`: where it begins, its bytes and what was
    /// made of it.
    #[expect(clippy::type_complexity, reason = "it is met in one place")]
    fn block<T>(
        &self,
        place: &Place,
        before: u64,
        take: &mut impl FnMut(&Record<'_>) -> Option<T>,
    ) -> Result<(u64, u64, Vec<(u64, T)>), LogError> {
        let (at, offset) = match place.known {
            Some(known) => known,
            None => self.index(place)?.before(before - 1),
        };
        let mut items = Vec::new();
        let end = scan(place, at, offset, before, |record| {
            if let Some(item) = take(record) {
                items.push((record.sequence, item));
            }
        })?;
        Ok((at, end.saturating_sub(offset), items))
    }
}

/// Shows `see` the records from `offset` on, where the record `at` is, to that before `before`;
/// the offset behind them.
fn scan(
    place: &Place,
    at: u64,
    offset: u64,
    before: u64,
    mut see: impl FnMut(&Record<'_>),
) -> Result<u64, LogError> {
    let mut scanner = Scanner::at(&place.path, offset, at)?;
    while scanner.expected() < before {
        match scanner.step()? {
            Step::Record(header) if header.sequence < before => {
                see(&Record::new(&header, scanner.payload(), None));
            }
            Step::Record(_) | Step::Tail(_) | Step::End => break,
            Step::Damage(_) => {}
        }
    }
    Ok(scanner.offset())
}

fn is_missing(error: &LogError) -> bool {
    matches!(error, LogError::Io { source, .. } if source.kind() == std::io::ErrorKind::NotFound)
}

impl OwnedRecord {
    /// The record.
    #[must_use]
    pub fn as_record(&self) -> Record<'_> {
        Record {
            sequence: self.sequence,
            at_ns: self.at_ns,
            kind: self.kind,
            payload: &self.payload,
            world: None,
        }
    }
}
