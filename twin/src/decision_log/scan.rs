//! One segment, record after record, past what is damaged.

use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};
use std::ops::Range;
use std::path::{Path, PathBuf};

use super::error::LogError;
use super::frame::{
    BadSegment, MARKER, MAX_RECORD_BYTES, RECORD_HEADER, RecordHeader, SEGMENT_HEADER,
    SegmentHeader,
};

/// Bytes that are read at a time.
const CHUNK: usize = 256 << 10;

/// A stretch of a segment that cannot be read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Damage {
    /// The segment.
    pub path: PathBuf,
    /// Where it begins.
    pub offset: u64,
    /// How long it is.
    pub bytes: u64,
    /// The first record that is missing.
    pub first: u64,
    /// How many records are missing; 0 where the records around it tell that none is, or the
    /// segment ends with it.
    pub records: u64,
}

impl std::fmt::Display for Damage {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self {
            path,
            offset,
            bytes,
            first,
            records,
        } = self;
        write!(
            f,
            "{}: {bytes} bytes from offset {offset} on cannot be read",
            path.display()
        )?;
        match records {
            0 => write!(f, ": no whole record begins with sequence number {first}"),
            1 => write!(f, ": record {first} is lost"),
            _ => write!(f, ": {records} records from {first} on are lost"),
        }
    }
}

/// What comes next in a segment.
#[derive(Debug)]
pub(super) enum Step {
    /// A whole record.
    Record(RecordHeader),
    /// Something that is none, with records behind it.
    Damage(Damage),
    /// Bytes that are no record, with none behind them: cut off, or still being written.
    Tail(Damage),
    /// Nothing.
    End,
}

/// Reads a segment.
#[derive(Debug)]
pub(super) struct Scanner {
    path: PathBuf,
    file: File,
    /// Where the next record begins, from the start of the file.
    offset: u64,
    /// The sequence number that it should have.
    expected: u64,
    /// What was read ahead, from `offset` on.
    window: Vec<u8>,
    /// Bytes of `window` that belong to records passed already.
    passed: usize,
    payload: Range<usize>,
    /// The header of the segment, where that is damaged.
    header_damage: Option<Damage>,
}

impl Scanner {
    /// Reads from the first record on; also tells what the segment says about itself, if that is
    /// not damaged.
    pub(super) fn open(path: &Path, first: u64) -> Result<(Self, Option<SegmentHeader>), LogError> {
        let mut scanner = Self::at(path, SEGMENT_HEADER as u64, first)?;
        let mut bytes = Vec::with_capacity(SEGMENT_HEADER);
        let read = |e| LogError::io(path, "read", e);
        scanner.file.seek(SeekFrom::Start(0)).map_err(read)?;
        Read::by_ref(&mut scanner.file)
            .take(SEGMENT_HEADER as u64)
            .read_to_end(&mut bytes)
            .map_err(read)?;
        let header = match SegmentHeader::decode(&bytes) {
            Ok(header) if header.first == first => Some(header),
            Ok(_) | Err(BadSegment::Damaged) => {
                let whole = bytes.len() == SEGMENT_HEADER;
                let damage = scanner.damage(0, SEGMENT_HEADER as u64, first, 0);
                scanner.header_damage = whole.then_some(damage);
                None
            }
            Err(BadSegment::Version(found)) => {
                let path = path.to_path_buf();
                return Err(LogError::Version { path, found });
            }
        };
        Ok((scanner, header))
    }

    /// Reads from `offset` on, where the record `expected` begins.
    pub(super) fn at(path: &Path, offset: u64, expected: u64) -> Result<Self, LogError> {
        let file = File::open(path).map_err(|e| LogError::io(path, "open", e))?;
        Ok(Self {
            path: path.to_path_buf(),
            file,
            offset,
            expected,
            window: Vec::new(),
            passed: 0,
            payload: 0..0,
            header_damage: None,
        })
    }

    /// The header of the segment, where that is whole and damaged; told once.
    pub(super) fn header_damage(&mut self) -> Option<Damage> {
        self.header_damage.take()
    }

    /// Where the next record begins.
    pub(super) fn offset(&self) -> u64 {
        self.offset
    }

    /// The sequence number of the next record.
    pub(super) fn expected(&self) -> u64 {
        self.expected
    }

    /// The payload of the record that was told last.
    pub(super) fn payload(&self) -> &[u8] {
        &self.window[self.payload.clone()]
    }

    /// Reads on; at a tail or the end it stays, and can be asked again when more may be there.
    pub(super) fn step(&mut self) -> Result<Step, LogError> {
        self.step_or_fail()
            .map_err(|e| LogError::io(&self.path, "read", e))
    }

    fn step_or_fail(&mut self) -> io::Result<Step> {
        let (begin, first) = (self.offset, self.expected);
        match self.record_at(0)? {
            Some(header) if header.sequence == first => return Ok(self.pass(header)),
            Some(header) if header.sequence > first => {
                self.expected = header.sequence;
                return Ok(Step::Damage(self.damage(
                    begin,
                    0,
                    first,
                    header.sequence - first,
                )));
            }
            _ => {}
        }
        if self.fill(1)? == 0 {
            return Ok(Step::End);
        }
        Ok(match self.search(begin)? {
            Some((skipped, found)) => {
                // It may have been written to its end since it was looked at.
                if let Some(header) = self.record_at(0)?
                    && header.sequence == first
                {
                    return Ok(self.pass(header));
                }
                self.skip(skipped);
                self.expected = found.sequence;
                Step::Damage(self.damage(begin, skipped as u64, first, found.sequence - first))
            }
            None => {
                // What comes next may be more of it: it is read anew.
                self.window.clear();
                self.passed = 0;
                let length = self.file.metadata()?.len();
                Step::Tail(self.damage(begin, length.saturating_sub(begin), first, 0))
            }
        })
    }

    fn damage(&self, offset: u64, bytes: u64, first: u64, records: u64) -> Damage {
        Damage {
            path: self.path.clone(),
            offset,
            bytes,
            first,
            records,
        }
    }

    /// Goes past a record.
    fn pass(&mut self, header: RecordHeader) -> Step {
        let begin = self.passed + RECORD_HEADER;
        self.payload = begin..begin + header.length;
        self.skip(header.total());
        self.expected = header.sequence.saturating_add(1);
        Step::Record(header)
    }

    fn skip(&mut self, bytes: usize) {
        // Of what is passed without having been kept, nothing is in the window.
        self.passed = (self.passed + bytes).min(self.window.len());
        self.offset += bytes as u64;
    }

    /// The first whole record behind something that is none, and how far away it begins.
    /// What is none begins at `begin`.
    fn search(&mut self, begin: u64) -> io::Result<Option<(usize, RecordHeader)>> {
        let mut from = 1;
        loop {
            let there = self.fill(from + CHUNK)?;
            let window = &self.window[self.passed..];
            let candidate = (from..there.saturating_sub(MARKER.len() - 1))
                .find(|&at| window[at..].starts_with(&MARKER));
            let Some(at) = candidate else {
                if there < from + CHUNK {
                    return Ok(None);
                }
                from = there - (MARKER.len() - 1);
                if from > MAX_RECORD_BYTES {
                    return self.search_far(begin, from);
                }
                continue;
            };
            if let Some(header) = self.record_at(at)?
                && self.plausible(&header, self.offset + at as u64 - begin)
            {
                return Ok(Some((at, header)));
            }
            from = at + 1;
        }
    }

    /// Goes on searching without keeping what was searched: damage longer than any record.
    fn search_far(&mut self, begin: u64, done: usize) -> io::Result<Option<(usize, RecordHeader)>> {
        let offset = self.offset;
        self.skip(done);
        let found = self.search(begin);
        self.offset = offset;
        self.window.clear();
        self.passed = 0;
        Ok(found?.map(|(at, header)| (done + at, header)))
    }

    /// Whether as many records as are missing could have been in the bytes between.
    fn plausible(&self, header: &RecordHeader, bytes: u64) -> bool {
        let missing = header.sequence.checked_sub(self.expected);
        missing.is_some_and(|missing| missing <= bytes / RECORD_HEADER as u64)
    }

    /// The whole, undamaged record that begins `at` bytes from here, if one does.
    fn record_at(&mut self, at: usize) -> io::Result<Option<RecordHeader>> {
        if self.fill(at + RECORD_HEADER)? < at + RECORD_HEADER {
            return Ok(None);
        }
        let Some(header) = RecordHeader::decode(&self.window[self.passed + at..]) else {
            return Ok(None);
        };
        let end = at + header.total();
        if self.fill(end)? < end {
            return Ok(None);
        }
        let payload = &self.window[self.passed + at + RECORD_HEADER..self.passed + end];
        Ok((crc32fast::hash(payload) == header.payload_crc).then_some(header))
    }

    /// Reads ahead until `need` bytes from here are there, or the file ends; how many are there.
    fn fill(&mut self, need: usize) -> io::Result<usize> {
        let there = self.window.len().saturating_sub(self.passed);
        if there >= need {
            return Ok(there);
        }
        if self.passed >= self.window.len() {
            self.window.clear();
        } else {
            self.window.drain(..self.passed);
        }
        self.passed = 0;
        self.window.shrink_to(need.max(2 * CHUNK));
        let from = self.offset + self.window.len() as u64;
        self.file.seek(SeekFrom::Start(from))?;
        let more = (need - self.window.len()).max(CHUNK) as u64;
        Read::by_ref(&mut self.file)
            .take(more)
            .read_to_end(&mut self.window)?;
        Ok(self.window.len())
    }
}
