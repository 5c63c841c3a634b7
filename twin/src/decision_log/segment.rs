//! Segments in their folder.

use std::fs;
use std::path::{Path, PathBuf};

use super::error::LogError;
use super::frame::MAX_SEQUENCE;

/// Digits of a sequence number in a name: enough for any 64-bit one, so that names sort as numbers do.
const DIGITS: usize = 20;
/// How segments end.
const SUFFIX: &str = ".log";

/// A segment that is not written any more.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Segment {
    /// The sequence number of its first record.
    pub(super) first: u64,
    pub(super) path: PathBuf,
    pub(super) bytes: u64,
    /// When its last record was written at the latest, in ns since 1970.
    pub(super) ended_ns: u64,
}

/// The path of the segment whose first record is `first`.
pub(super) fn path(folder: &Path, first: u64) -> PathBuf {
    folder.join(format!("{first:0DIGITS$}{SUFFIX}"))
}

/// Where what was cut off the segment at `path` is kept.
pub(super) fn torn_path(path: &Path) -> PathBuf {
    path.with_extension("log.torn")
}

/// The sequence number in the name of a segment.
fn first_of(name: &str) -> Option<u64> {
    let digits = name.strip_suffix(SUFFIX)?;
    let all_digits = digits.len() == DIGITS && digits.bytes().all(|b| b.is_ascii_digit());
    let first = all_digits.then(|| digits.parse().ok()).flatten();
    first.filter(|&first| first <= MAX_SEQUENCE)
}

/// The segments of `folder` in their order, with their lengths.
pub(super) fn list(folder: &Path) -> Result<Vec<(u64, PathBuf, u64)>, LogError> {
    let failed = |e| LogError::io(folder, "list", e);
    let mut segments = Vec::new();
    for entry in fs::read_dir(folder).map_err(failed)? {
        let entry = entry.map_err(failed)?;
        let Some(first) = entry.file_name().to_str().and_then(first_of) else {
            continue;
        };
        // One that was removed since is not there.
        if let Ok(data) = entry.metadata()
            && data.is_file()
        {
            segments.push((first, entry.path(), data.len()));
        }
    }
    segments.sort_unstable();
    Ok(segments)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_numbers_of_twenty_digits() {
        let name = path(Path::new("x"), 42);
        assert_eq!(name, Path::new("x/00000000000000000042.log"));
        assert_eq!(
            torn_path(&name),
            Path::new("x/00000000000000000042.log.torn")
        );
        assert_eq!(first_of("09223372036854775807.log"), Some(MAX_SEQUENCE));
        for other in [
            "09223372036854775808.log",
            "18446744073709551615.log",
            "18446744073709551616.log",
            "42.log",
            "0000000000000000004x.log",
            "+0000000000000000042.log",
            "00000000000000000042.log.torn",
            "lock",
        ] {
            assert_eq!(first_of(other), None, "{other}");
        }
    }
}
