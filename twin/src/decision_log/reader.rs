//! Reads a log forwards, also while it is written.

use std::path::{Path, PathBuf};

use super::entry::{Entry, Kind};
use super::error::LogError;
use super::frame::{RecordHeader, WorldHash};
use super::scan::{Damage, Scanner, Step};
use super::segment;

/// Stretches of damage that are told one by one; more are counted.
const MAX_DAMAGE: usize = 1000;
/// How often a segment may vanish before it is opened.
const ATTEMPTS: usize = 100;

/// A record of a log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Record<'a> {
    /// Its sequence number; the id of what it holds.
    pub sequence: u64,
    /// When it was written, in ns since 1970, by the wall clock.
    pub at_ns: u64,
    /// The number of its kind.
    pub kind: u16,
    /// What it holds.
    pub payload: &'a [u8],
    /// SHA-256 of the world of its segment, where the header of the segment is not damaged.
    pub world: Option<[u8; 32]>,
}

impl<'a> Record<'a> {
    /// What it holds.
    ///
    /// # Errors
    ///
    /// [`LogError::Entry`] if that is not of the schema.
    pub fn entry(&self) -> Result<Entry<'a>, LogError> {
        Entry::read(self.sequence, self.kind, self.payload)
    }

    /// Its kind, where this program knows it.
    #[must_use]
    pub fn kind(&self) -> Option<Kind> {
        Kind::numbered(self.kind)
    }

    pub(super) fn new(header: &RecordHeader, payload: &'a [u8], world: Option<WorldHash>) -> Self {
        Self {
            sequence: header.sequence,
            at_ns: header.at_ns,
            kind: header.kind,
            payload,
            world,
        }
    }
}

/// Reads a log forwards.
///
/// It takes no lock and needs no right to write. Records that are written meanwhile follow;
/// segments that are removed meanwhile are passed over.
#[derive(Debug)]
pub struct Reader {
    folder: PathBuf,
    at: Option<At>,
    next: u64,
    damage: Vec<Damage>,
    damaged: u64,
    tail: Option<Damage>,
}

#[derive(Debug)]
struct At {
    first: u64,
    scanner: Scanner,
    world: Option<WorldHash>,
    /// A later segment is there, so nothing is added to this one.
    sealed: bool,
}

impl Reader {
    /// Reads the log in `folder` from the record `from` on, or the first behind it that is there.
    ///
    /// # Errors
    ///
    /// If the folder cannot be read.
    pub fn open(folder: &Path, from: u64) -> Result<Self, LogError> {
        segment::list(folder)?;
        Ok(Self {
            folder: folder.to_path_buf(),
            at: None,
            next: from,
            damage: Vec::new(),
            damaged: 0,
            tail: None,
        })
    }

    /// The next record; `None` where no more is written yet. It can be asked again.
    ///
    /// # Errors
    ///
    /// If a segment cannot be read or is of another version.
    pub fn next_record(&mut self) -> Result<Option<Record<'_>>, LogError> {
        let Some(header) = self.advance()? else {
            return Ok(None);
        };
        let Some(at) = &self.at else {
            return Ok(None);
        };
        Ok(Some(Record::new(&header, at.scanner.payload(), at.world)))
    }

    /// Damage that was passed: the first 1,000 stretches of it.
    #[must_use]
    pub fn damage(&self) -> &[Damage] {
        &self.damage
    }

    /// How many stretches of damage were passed.
    #[must_use]
    pub fn damaged(&self) -> u64 {
        self.damaged
    }

    /// What is behind the last whole record and is none: being written, or cut off by a crash.
    #[must_use]
    pub fn tail(&self) -> Option<&Damage> {
        self.tail.as_ref()
    }

    /// The sequence number of the next record, if none is missing.
    #[must_use]
    pub fn next_sequence(&self) -> u64 {
        self.next
    }

    fn advance(&mut self) -> Result<Option<RecordHeader>, LogError> {
        loop {
            let Some(at) = &mut self.at else {
                if !self.open_segment()? {
                    return Ok(None);
                }
                continue;
            };
            match at.scanner.step()? {
                Step::Record(header) if header.sequence < self.next => {}
                Step::Record(header) => {
                    self.tail = None;
                    self.next = header.sequence.saturating_add(1);
                    return Ok(Some(header));
                }
                Step::Damage(damage) => self.note(damage),
                step @ (Step::Tail(_) | Step::End) => {
                    let tail = match step {
                        Step::Tail(tail) => Some(tail),
                        _ => None,
                    };
                    if at.sealed {
                        let first = at.first;
                        tail.into_iter().for_each(|damage| self.note(damage));
                        self.at = None;
                        self.next = self.next.max(first.saturating_add(1));
                        if !self.open_behind(first)? {
                            return Ok(None);
                        }
                    } else if self.is_last(at_first(self.at.as_ref()))? {
                        self.tail = tail;
                        return Ok(None);
                    } else if let Some(at) = &mut self.at {
                        // What was added before the next segment was begun comes first.
                        at.sealed = true;
                    }
                }
            }
        }
    }

    fn note(&mut self, damage: Damage) {
        self.damaged += 1;
        if self.damage.len() < MAX_DAMAGE {
            self.damage.push(damage);
        }
    }

    fn is_last(&self, first: u64) -> Result<bool, LogError> {
        let listed = segment::list(&self.folder)?;
        Ok(listed.last().is_none_or(|(last, ..)| *last <= first))
    }

    /// Opens the segment that holds the next record, or the first behind it.
    fn open_segment(&mut self) -> Result<bool, LogError> {
        let next = self.next;
        self.open_chosen(|listed| {
            let after = listed.partition_point(|(first, ..)| *first <= next);
            after.saturating_sub(1)
        })
    }

    /// Opens the first segment behind the one that begins with `first`.
    fn open_behind(&mut self, first: u64) -> Result<bool, LogError> {
        self.open_chosen(|listed| listed.partition_point(|(f, ..)| *f <= first))
    }

    fn open_chosen(
        &mut self,
        choose: impl Fn(&[(u64, PathBuf, u64)]) -> usize,
    ) -> Result<bool, LogError> {
        for _ in 0..ATTEMPTS {
            let listed = segment::list(&self.folder)?;
            let Some((first, path, _)) = listed.get(choose(&listed)) else {
                return Ok(false);
            };
            match Scanner::open(path, *first) {
                Ok((mut scanner, header)) => {
                    scanner
                        .header_damage()
                        .into_iter()
                        .for_each(|damage| self.note(damage));
                    self.at = Some(At {
                        first: *first,
                        scanner,
                        world: header.map(|h| h.world),
                        sealed: false,
                    });
                    return Ok(true);
                }
                // Removed since it was listed.
                Err(LogError::Io { source, .. })
                    if source.kind() == std::io::ErrorKind::NotFound => {}
                Err(error) => return Err(error),
            }
        }
        Ok(false)
    }
}

fn at_first(at: Option<&At>) -> u64 {
    at.map_or(0, |at| at.first)
}
