//! Where to begin to rebuild the live twin.

use std::io;
use std::path::Path;

use super::entry::Kind;
use super::error::LogError;
use super::scan::{Scanner, Step};
use super::segment;

/// The last record before `sequence` that the live twin can be rebuilt from, as far as segments
/// tell; whether it is still there is for the reader to find.
pub(super) fn anchor_before(folder: &Path, sequence: u64) -> Result<Option<u64>, LogError> {
    let mut listed = segment::list(folder)?;
    let before = listed.partition_point(|(first, ..)| *first < sequence);
    listed.truncate(before);
    for (first, path, _) in listed.iter().rev() {
        match look(path, *first, sequence) {
            Ok(Look::Anchor(anchor)) => return Ok(anchor),
            Ok(Look::Unknown) => {}
            // Removed since it was listed; so are those before it.
            Err(LogError::Io { source, .. }) if source.kind() == io::ErrorKind::NotFound => break,
            Err(error) => return Err(error),
        }
    }
    Ok(None)
}

/// What a segment tells of the last anchor.
enum Look {
    Anchor(Option<u64>),
    /// Its header is damaged, and it has no anchor itself.
    Unknown,
}

fn look(path: &Path, first: u64, sequence: u64) -> Result<Look, LogError> {
    let (mut scanner, header) = Scanner::open(path, first)?;
    let mut anchor = None;
    loop {
        match scanner.step()? {
            Step::Record(record) if record.sequence >= sequence => break,
            Step::Record(record) => {
                if Kind::numbered(record.kind).is_some_and(Kind::is_anchor) {
                    anchor = Some(record.sequence);
                }
            }
            Step::Damage(_) => {}
            Step::Tail(_) | Step::End => break,
        }
    }
    Ok(match (anchor, header) {
        (Some(_), _) => Look::Anchor(anchor),
        (None, Some(header)) => Look::Anchor((header.anchor != 0).then_some(header.anchor)),
        (None, None) => Look::Unknown,
    })
}
