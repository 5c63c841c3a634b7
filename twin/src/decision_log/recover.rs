//! What is found when a log is opened, and what is made of it without anybody's help.
//!
//! Only the last segment is read through: those before it were left in good order, and what has
//! happened to them since is told by those who read them. A process never appends to a segment
//! that another one began, so damage anywhere stands in nobody's way.

use std::collections::VecDeque;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Seek, SeekFrom};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant, UNIX_EPOCH};

use super::disk::sync_folder;
use super::entry::Kind;
use super::error::LogError;
use super::frame::{SegmentHeader, WorldHash};
use super::scan::{Damage, Scanner, Step};
use super::segment::{self, Segment};
use super::writer::End;

/// How far sequence numbers jump where the last run did not end in good order: more than the
/// records that a power failure can have taken, whose numbers somebody may know.
const JUMP: u64 = 1 << 24;
/// The name of the lock.
const LOCK: &str = "lock";
/// How long a process waits for one that is ending to let go of the lock.
pub(super) const LOCK_PATIENCE: Duration = Duration::from_secs(3);
/// How long it waits between two looks.
const LOCK_PAUSE: Duration = Duration::from_millis(10);

/// What was found when a log was opened.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Recovered {
    /// Segments that are there.
    pub segments: usize,
    /// Whole records in the last of them.
    pub last_records: u64,
    /// Whether the last run ended in good order, or there was none.
    pub in_good_order: bool,
    /// What was cut off the last segment.
    pub torn: Option<Torn>,
    /// Damage in the last segment with records behind it.
    pub damage: Vec<Damage>,
    /// Whether the last segment belongs to another world, or another version of this one.
    pub other_world: bool,
    /// What could not be done about it; nothing of it stands in the way.
    pub cautions: Vec<String>,
}

/// The end of a segment that holds no whole record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Torn {
    /// Where it was.
    pub damage: Damage,
    /// Where it is now; where it was if it could not be set aside.
    pub kept: PathBuf,
}

/// Takes the lock of `folder`, which is made if it is absent; waits for it for `patience`.
pub(super) fn lock(folder: &Path, patience: Duration) -> Result<File, LogError> {
    fs::create_dir_all(folder).map_err(|e| LogError::io(folder, "create", e))?;
    let path = folder.join(LOCK);
    let file = OpenOptions::new()
        .create(true)
        .truncate(false)
        .write(true)
        .open(&path)
        .map_err(|e| LogError::io(&path, "open", e))?;
    let started = Instant::now();
    loop {
        match file.try_lock() {
            Ok(()) => return Ok(file),
            Err(fs::TryLockError::WouldBlock) if started.elapsed() < patience => {
                std::thread::sleep(LOCK_PAUSE);
            }
            Err(fs::TryLockError::WouldBlock) => {
                let folder = folder.to_path_buf();
                return Err(LogError::Locked { folder });
            }
            Err(fs::TryLockError::Error(source)) => {
                return Err(LogError::io(&path, "lock", source));
            }
        }
    }
}

/// Finds the end of the log in `folder`, whose lock is held, and tidies it.
pub(super) fn recover(folder: &Path, world: &WorldHash) -> Result<(End, Recovered), LogError> {
    let mut found = Recovered {
        in_good_order: true,
        ..Recovered::default()
    };
    let mut listed = segment::list(folder)?;
    let mut end = End {
        sealed: VecDeque::new(),
        next: 1,
        anchor: 0,
        since_anchor: 0,
    };
    // A process that ends at once after beginning a segment leaves one without records behind.
    while let Some((first, path, bytes)) = listed.pop() {
        let last = Last::read_or_leave(&path, first, &mut found.cautions)?;
        found.in_good_order &= last.closed;
        end.next = end.next.max(last.next);
        let empty = last.records == 0 && last.damage.is_empty() && last.readable;
        found.damage.extend(last.damage);
        let torn = last.tail.map(|tail| set_aside(tail, &mut found.cautions));
        let left = torn.as_ref().is_some_and(|t| t.kept == path);
        let bytes = torn
            .as_ref()
            .filter(|_| !left)
            .map_or(bytes, |t| t.damage.offset);
        found.torn = found.torn.take().or(torn);
        if last.records == 0 {
            if empty && !left {
                remove_empty(&path, &mut found.cautions);
            }
            continue;
        }
        found.last_records = last.records;
        found.other_world = last.header.is_some_and(|h| h.world != *world);
        if !found.other_world {
            end.anchor = match (last.anchor, last.header) {
                (Some(anchor), _) => anchor,
                (None, Some(header)) => header.anchor,
                (None, None) => anchor_before(&listed)?,
            };
        }
        listed.push((first, path, bytes));
        break;
    }
    if !found.in_good_order {
        end.next = end.next.saturating_add(JUMP);
    }
    end.sealed = listed.into_iter().map(sealed).collect();
    let after = end.sealed.partition_point(|s| s.first <= end.anchor);
    if end.anchor != 0 {
        let needed = end.sealed.iter().skip(after.saturating_sub(1));
        end.since_anchor = needed.map(|s| s.bytes).sum();
    }
    found.segments = end.sealed.len();
    Ok((end, found))
}

fn sealed((first, path, bytes): (u64, PathBuf, u64)) -> Segment {
    let modified = fs::metadata(&path).and_then(|data| data.modified()).ok();
    let since = modified.and_then(|time| time.duration_since(UNIX_EPOCH).ok());
    let ended_ns = since.map_or(u64::MAX, |d| {
        u64::try_from(d.as_nanos()).unwrap_or(u64::MAX)
    });
    Segment {
        first,
        path,
        bytes,
        ended_ns,
    }
}

/// What the last segment holds.
struct Last {
    header: Option<SegmentHeader>,
    records: u64,
    next: u64,
    anchor: Option<u64>,
    closed: bool,
    damage: Vec<Damage>,
    tail: Option<Damage>,
    readable: bool,
}

impl Last {
    /// What the segment at `path` holds; nothing where the disk does not tell.
    fn read_or_leave(
        path: &Path,
        first: u64,
        cautions: &mut Vec<String>,
    ) -> Result<Self, LogError> {
        match Self::read(path, first) {
            Err(error @ LogError::Io { .. }) => {
                cautions.push(format!("{error}; the log goes on behind it"));
                Ok(Self::none(first, None))
            }
            other => other,
        }
    }

    fn none(first: u64, header: Option<SegmentHeader>) -> Self {
        Self {
            header,
            records: 0,
            next: first,
            anchor: None,
            closed: false,
            damage: Vec::new(),
            tail: None,
            readable: false,
        }
    }

    fn read(path: &Path, first: u64) -> Result<Self, LogError> {
        let (mut scanner, header) = Scanner::open(path, first)?;
        let mut last = Self::none(first, header);
        last.damage.extend(scanner.header_damage());
        loop {
            match scanner.step()? {
                Step::Record(record) => {
                    last.records += 1;
                    last.next = record.sequence.saturating_add(1);
                    let kind = Kind::numbered(record.kind);
                    last.closed = kind == Some(Kind::Closed);
                    if kind.is_some_and(Kind::is_anchor) {
                        last.anchor = Some(record.sequence);
                    }
                }
                Step::Damage(damage) => last.damage.push(damage),
                Step::Tail(tail) => {
                    last.closed = false;
                    last.tail = Some(tail);
                    break;
                }
                Step::End => break,
            }
        }
        last.readable = true;
        Ok(last)
    }
}

/// The last anchor in the segments before one whose header is damaged.
fn anchor_before(listed: &[(u64, PathBuf, u64)]) -> Result<u64, LogError> {
    for (first, path, _) in listed.iter().rev() {
        let last = Last::read(path, *first)?;
        match (last.anchor, last.header) {
            (Some(anchor), _) => return Ok(anchor),
            (None, Some(header)) => return Ok(header.anchor),
            (None, None) => {}
        }
    }
    Ok(0)
}

/// Removes a segment without records.
fn remove_empty(path: &Path, cautions: &mut Vec<String>) {
    if let Err(error) = fs::remove_file(path) {
        cautions.push(format!("{}: cannot remove: {error}", path.display()));
    }
}

/// Moves the end of a segment, which holds no whole record, to a file of its own.
fn set_aside(tail: Damage, cautions: &mut Vec<String>) -> Torn {
    match cut_off(&tail) {
        Ok(kept) => Torn { damage: tail, kept },
        Err(error) => {
            cautions.push(format!(
                "{}: cannot set the end aside, so it stays: {error}",
                tail.path.display()
            ));
            let kept = tail.path.clone();
            Torn { damage: tail, kept }
        }
    }
}

/// Copies what is behind the last record, forces the copy to the disk and cuts the segment.
fn cut_off(tail: &Damage) -> io::Result<PathBuf> {
    let kept = segment::torn_path(&tail.path);
    let mut segment = OpenOptions::new().read(true).write(true).open(&tail.path)?;
    segment.seek(SeekFrom::Start(tail.offset))?;
    let mut copy = File::create(&kept)?;
    io::copy(&mut segment, &mut copy)?;
    copy.sync_all()?;
    segment.set_len(tail.offset)?;
    segment.sync_all()?;
    if let Some(folder) = tail.path.parent() {
        sync_folder(folder)?;
    }
    Ok(kept)
}
