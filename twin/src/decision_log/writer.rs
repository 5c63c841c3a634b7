//! The end of the log: the segment that is written, and those before it.

use std::collections::VecDeque;
use std::io;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use super::clock::{Clock, Watch};
use super::disk::{Disk, SegmentFile};
use super::entry::{Closed, ENTRY_SCHEMA, Entry, Kind, Resumed};
use super::error::LogError;
use super::frame::{RECORD_HEADER, SEGMENT_HEADER, SegmentHeader, WorldHash, seal};
use super::index::{CACHED, Index};
use super::retention;
use super::segment::{self, Segment};
use super::settings::Settings;

/// What a buffer may keep between two records; more is given back.
const KEPT_BUFFER: usize = 1 << 20;
/// The longest record with which the log tries whether it can be written again.
const ATTEMPT_BYTES: usize = 64 << 10;
/// Stretches whose sync failed that are remembered: those that somebody may still wait for.
const REMEMBERED: usize = 64;

/// What a writer works with.
#[derive(Debug)]
pub(super) struct Environment {
    pub(super) folder: PathBuf,
    pub(super) settings: Settings,
    pub(super) world: WorldHash,
    pub(super) disk: Arc<dyn Disk>,
    pub(super) clock: Arc<dyn Clock>,
}

/// The end of the log.
#[derive(Debug)]
pub(super) struct Writer {
    /// The segment that is written; made when there is something to write.
    current: Option<Current>,
    /// Those before it, in their order.
    pub(super) sealed: VecDeque<Segment>,
    /// Indices of segments that have been sealed since somebody asked.
    pub(super) new_indices: Vec<(u64, Index)>,
    /// The sequence number of the next record.
    pub(super) next: u64,
    /// The last record that the live twin can be rebuilt from; 0 if there is none.
    pub(super) anchor: u64,
    /// Bytes written since.
    pub(super) since_anchor: u64,
    batch: Batch,
    /// Files that are written no more and not forced to the disk yet.
    unsynced: Vec<Arc<dyn SegmentFile>>,
    /// The names in the folder have changed since they were forced to the disk.
    names_changed: bool,
    /// Stretches of records whose sync failed.
    lost: VecDeque<Range<u64>>,
    synced: u64,
    pub(super) append_failure: Option<Failure>,
    pub(super) sync_failure: Option<String>,
    watch: Watch,
    closed: bool,
}

/// Appends fail at present.
#[derive(Clone, Debug)]
pub(super) struct Failure {
    pub(super) message: String,
    pub(super) refused: u64,
    /// Bytes of what was refused last.
    bytes: usize,
}

#[derive(Debug)]
struct Current {
    first: u64,
    path: PathBuf,
    file: Arc<dyn SegmentFile>,
    length: u64,
    begun: Duration,
    ended_ns: u64,
    index: Index,
    unsynced: bool,
}

/// Records on their way to the disk together.
#[derive(Debug, Default)]
pub(super) struct Batch {
    bytes: Vec<u8>,
    /// Where records begin.
    starts: Vec<usize>,
    first: u64,
    at_ns: u64,
    limit: usize,
    /// The last of them that is an anchor, and where it begins.
    anchor: Option<(u64, usize)>,
}

impl Batch {
    fn begin(&mut self, first: u64, at_ns: u64, limit: usize) {
        self.bytes.clear();
        self.bytes.shrink_to(KEPT_BUFFER);
        self.starts.clear();
        (self.first, self.at_ns, self.limit) = (first, at_ns, limit);
        self.anchor = None;
    }

    /// Adds a record of `kind`, whose payload `fill` writes, given its sequence number.
    pub(super) fn add(
        &mut self,
        kind: Kind,
        fill: impl FnOnce(u64, &mut Vec<u8>),
    ) -> Result<u64, LogError> {
        let start = self.bytes.len();
        let sequence = self.first + self.starts.len() as u64;
        self.bytes.resize(start + RECORD_HEADER, 0);
        fill(sequence, &mut self.bytes);
        let record = &mut self.bytes[start..];
        let bytes = record.len() - RECORD_HEADER;
        if bytes > self.limit {
            let limit = self.limit;
            return Err(LogError::TooLong { bytes, limit });
        }
        seal(record, sequence, self.at_ns, kind.number());
        self.starts.push(start);
        if kind.is_anchor() {
            self.anchor = Some((sequence, start));
        }
        Ok(sequence)
    }
}

/// Where the end of a log was found.
#[derive(Debug)]
pub(super) struct End {
    pub(super) sealed: VecDeque<Segment>,
    pub(super) next: u64,
    pub(super) anchor: u64,
    pub(super) since_anchor: u64,
}

impl Writer {
    pub(super) fn new(end: End, clock: &dyn Clock) -> Self {
        Self {
            current: None,
            sealed: end.sealed,
            new_indices: Vec::new(),
            next: end.next,
            anchor: end.anchor,
            since_anchor: end.since_anchor,
            batch: Batch::default(),
            unsynced: Vec::new(),
            names_changed: false,
            lost: VecDeque::new(),
            synced: end.next.saturating_sub(1),
            append_failure: None,
            sync_failure: None,
            watch: Watch::new(clock),
            closed: false,
        }
    }

    /// Appends the records that `fill` adds, all or none, with one write.
    pub(super) fn append<T>(
        &mut self,
        env: &Environment,
        fill: impl FnOnce(&mut Batch) -> Result<T, LogError>,
    ) -> Result<T, LogError> {
        if self.closed {
            return Err(LogError::Closed);
        }
        let at_ns = env.clock.wall_ns();
        let mut batch = std::mem::take(&mut self.batch);
        batch.begin(self.next, at_ns, env.settings.max_record_bytes);
        let filled = fill(&mut batch);
        let written = match filled {
            Ok(value) => self.write(env, &batch).map(|()| value),
            Err(error) => Err(error),
        };
        self.batch = batch;
        let longest = ATTEMPT_BYTES.min(env.settings.max_record_bytes);
        match &written {
            Ok(_) => self.append_failure = None,
            Err(LogError::TooLong { .. }) => {}
            Err(error) => {
                let refused = self.append_failure.as_ref().map_or(0, |f| f.refused);
                self.append_failure = Some(Failure {
                    message: error.to_string(),
                    refused: refused + 1,
                    bytes: self.batch.bytes.len().min(longest),
                });
            }
        }
        written
    }

    fn write(&mut self, env: &Environment, batch: &Batch) -> Result<(), LogError> {
        if batch.starts.is_empty() {
            return Ok(());
        }
        let records = batch.starts.len() as u64;
        let current = self.current_for(env)?;
        if let Err(source) = write_all(&*current.file, &batch.bytes) {
            let error = LogError::io(&current.path, "append", source);
            if current.file.truncate(current.length).is_err() {
                // Part of the batch stays behind; nothing else may have its numbers.
                self.seal_current();
                self.next += records;
            }
            return Err(error);
        }
        let begin = current.length;
        for (sequence, start) in (batch.first..).zip(&batch.starts) {
            current.index.note(sequence, begin + *start as u64);
        }
        current.length += batch.bytes.len() as u64;
        current.ended_ns = batch.at_ns;
        current.unsynced = true;
        self.next += records;
        self.since_anchor += batch.bytes.len() as u64;
        if let Some((anchor, start)) = batch.anchor {
            self.anchor = anchor;
            self.since_anchor = (batch.bytes.len() - start) as u64;
        }
        Ok(())
    }

    /// The segment to append to: a new one where there is none or it is full.
    fn current_for(&mut self, env: &Environment) -> Result<&mut Current, LogError> {
        let full = |c: &Current| c.length >= env.settings.segment_bytes;
        if self.current.as_ref().is_some_and(full) {
            self.seal_current();
        }
        let current = match self.current.take() {
            Some(current) => current,
            None => self.begin_segment(env)?,
        };
        Ok(self.current.insert(current))
    }

    fn begin_segment(&mut self, env: &Environment) -> Result<Current, LogError> {
        let first = self.next;
        let path = segment::path(&env.folder, first);
        let file = env
            .disk
            .create(&path)
            .map_err(|e| LogError::io(&path, "create", e))?;
        let header = SegmentHeader {
            first,
            begun_ns: env.clock.wall_ns(),
            anchor: self.anchor,
            world: env.world,
        };
        if let Err(source) = write_all(&*file, &header.encode()) {
            if env.disk.remove(&path).is_err() {
                // The name is taken; the next attempt needs another.
                self.next += 1;
            }
            return Err(LogError::io(&path, "begin", source));
        }
        self.names_changed = true;
        Ok(Current {
            first,
            index: Index::new(first),
            path,
            file,
            length: SEGMENT_HEADER as u64,
            begun: env.clock.steady(),
            ended_ns: header.begun_ns,
            unsynced: true,
        })
    }

    /// Writes no more to the current segment.
    fn seal_current(&mut self) {
        let Some(current) = self.current.take() else {
            return;
        };
        if current.unsynced {
            self.unsynced.push(current.file);
        }
        if self.new_indices.len() == CACHED {
            self.new_indices.remove(0);
        }
        self.new_indices.push((current.first, current.index));
        self.sealed.push_back(Segment {
            first: current.first,
            path: current.path,
            bytes: current.length,
            ended_ns: current.ended_ns,
        });
    }

    /// What has to be forced to the disk, and the last record in it.
    pub(super) fn take_unsynced(&mut self) -> Unsynced {
        let mut files = std::mem::take(&mut self.unsynced);
        if let Some(current) = &mut self.current
            && std::mem::take(&mut current.unsynced)
        {
            files.push(Arc::clone(&current.file));
        }
        Unsynced {
            files,
            names: std::mem::take(&mut self.names_changed),
            through: self.next.saturating_sub(1),
        }
    }

    /// Everything up to `through` is on the disk.
    pub(super) fn synced(&mut self, through: u64) {
        self.synced = self.synced.max(through);
        self.sync_failure = None;
    }

    /// A sync failed: what has not been synced may never be on the disk, even if a later sync of
    /// the same file succeeds, so the file is left.
    pub(super) fn sync_failed(&mut self, error: &LogError) {
        self.seal_current();
        self.unsynced.clear();
        self.names_changed = true;
        if self.lost.len() == REMEMBERED {
            self.lost.pop_front();
        }
        self.lost.push_back(self.synced + 1..self.next);
        self.synced = self.next.saturating_sub(1);
        self.sync_failure = Some(error.to_string());
    }

    /// Whether `sequence` was written and its sync failed.
    pub(super) fn lost(&self, sequence: u64) -> bool {
        self.lost.iter().any(|range| range.contains(&sequence))
    }

    /// Seals the segment that has become too old, and lets go of those that need not be kept.
    pub(super) fn let_go(&mut self, env: &Environment) -> Vec<Segment> {
        let age = |c: &Current| env.clock.steady().saturating_sub(c.begun);
        let old = |c: &Current| age(c) >= env.settings.segment_age;
        if self.current.as_ref().is_some_and(old) {
            self.seal_current();
        }
        let trusted = self.watch.trusted(&*env.clock);
        let now_ns = trusted.then(|| env.clock.wall_ns());
        let current = self.current.as_ref().map_or(0, |c| c.length);
        let count = retention::expired(
            self.sealed.make_contiguous(),
            current,
            self.anchor,
            now_ns,
            &env.settings,
        );
        self.sealed.drain(..count).collect()
    }

    /// Takes back segments, the oldest first, that could not be removed.
    pub(super) fn take_back(&mut self, segments: Vec<Segment>) {
        for segment in segments.into_iter().rev() {
            self.sealed.push_front(segment);
        }
    }

    /// Tries to append where that failed last. The record is as long as what was refused, so that
    /// a disk with room for a few bytes does not pass for one that can be written.
    pub(super) fn resume(&mut self, env: &Environment) -> Result<(), LogError> {
        let Some(failure) = self.append_failure.clone() else {
            return Ok(());
        };
        let entry = Entry::Resumed(Resumed {
            schema: ENTRY_SCHEMA,
            refused: failure.refused,
        });
        self.append(env, |batch| {
            batch.add(Kind::Resumed, |_, buffer| {
                entry.write(buffer);
                // Behind a JSON value white space means nothing.
                buffer.resize(buffer.len().max(failure.bytes), b' ');
            })?;
            Ok(())
        })
    }

    /// Appends the mark of good order; nothing can be appended afterwards.
    pub(super) fn close(&mut self, env: &Environment) -> Result<(), LogError> {
        if self.closed {
            return Ok(());
        }
        let entry = Entry::Closed(Closed {
            schema: ENTRY_SCHEMA,
        });
        // A log in which nothing was written needs no mark.
        let marked = match &self.current {
            None => Ok(()),
            Some(_) => self.append(env, |batch| {
                batch.add(Kind::Closed, |_, buffer| entry.write(buffer))?;
                Ok(())
            }),
        };
        self.closed = true;
        self.seal_current();
        marked
    }

    /// Where to begin to look for a record: segment, offset and the sequence number there.
    pub(super) fn locate(&self, sequence: u64) -> Option<Place> {
        if sequence >= self.next {
            return None;
        }
        if let Some(current) = &self.current
            && sequence >= current.first
        {
            let (at, offset) = current.index.before(sequence);
            return Some(Place {
                path: current.path.clone(),
                first: current.first,
                known: Some((at, offset)),
            });
        }
        let after = self.sealed.partition_point(|s| s.first <= sequence);
        let segment = self.sealed.get(after.checked_sub(1)?)?;
        Some(Place {
            path: segment.path.clone(),
            first: segment.first,
            known: None,
        })
    }

    /// Bytes of all segments, and how many segments there are.
    pub(super) fn size(&self) -> (u64, usize) {
        let sealed: u64 = self.sealed.iter().map(|s| s.bytes).sum();
        let current = self.current.as_ref().map_or(0, |c| c.length);
        let count = self.sealed.len() + usize::from(self.current.is_some());
        (sealed + current, count)
    }

    /// The first sequence number that may still be there.
    pub(super) fn oldest(&self) -> u64 {
        let current = self.current.as_ref().map(|c| c.first);
        let sealed = self.sealed.front().map(|s| s.first);
        sealed.or(current).unwrap_or(self.next)
    }
}

/// Where to begin to look for a record.
#[derive(Debug)]
pub(super) struct Place {
    pub(super) path: PathBuf,
    /// The first record of the segment.
    pub(super) first: u64,
    /// A record at or before it and its offset, where that is known.
    pub(super) known: Option<(u64, u64)>,
}

/// Removes `segments` in their order, until one cannot be; those that are left, with the reason.
pub(super) fn remove(
    disk: &dyn Disk,
    segments: Vec<Segment>,
) -> (Vec<PathBuf>, Option<(Vec<Segment>, LogError)>) {
    let mut removed = Vec::new();
    let mut left = segments.into_iter();
    while let Some(segment) = left.next() {
        match disk.remove(&segment.path) {
            Err(source) if source.kind() != io::ErrorKind::NotFound => {
                let error = LogError::io(&segment.path, "remove", source);
                let left = std::iter::once(segment).chain(left).collect();
                return (removed, Some((left, error)));
            }
            _ => {}
        }
        // Most segments have no such file.
        let _ = disk.remove(&segment::torn_path(&segment.path));
        removed.push(segment.path);
    }
    (removed, None)
}

/// What has to be forced to the disk.
#[derive(Debug)]
pub(super) struct Unsynced {
    files: Vec<Arc<dyn SegmentFile>>,
    names: bool,
    pub(super) through: u64,
}

impl Unsynced {
    pub(super) fn is_empty(&self) -> bool {
        self.files.is_empty() && !self.names
    }

    pub(super) fn sync(&self, disk: &dyn Disk, folder: &Path) -> Result<(), LogError> {
        let failed = |source| LogError::io(folder, "sync", source);
        for file in &self.files {
            file.sync().map_err(failed)?;
        }
        if self.names {
            disk.sync_folder(folder).map_err(failed)?;
        }
        Ok(())
    }
}

fn write_all(file: &dyn SegmentFile, mut bytes: &[u8]) -> io::Result<()> {
    while !bytes.is_empty() {
        match file.append(bytes) {
            Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
            Ok(written) => bytes = &bytes[written..],
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}
