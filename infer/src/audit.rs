//! The trail of calls that change something: who, what, and how it ended.
//!
//! A record is written before the call is answered, and where it cannot be, the call is answered
//! with an error. A call whose client went away is recorded too. Records are lines of JSON that are
//! appended to one file, which is opened again once it has been moved away, so that any rotation
//! does.

use std::fs::{File, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use serde::Serialize;
use thiserror::Error;

/// A call that changed something, or was to.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct AuditRecord<'a> {
    /// The version of this record.
    pub schema: u32,
    /// When it ended (RFC 3339, UTC).
    pub time: String,
    /// The client, as it is called; none where nobody authenticates.
    pub client: Option<&'a str>,
    /// How the client is known: `token`, `certificate`, `anyone`, `nobody` or `stranger`.
    pub known_by: &'static str,
    /// What it may do.
    pub role: Option<&'static str>,
    /// Where it is.
    pub address: String,
    /// The method.
    pub method: &'a str,
    /// The path, without the query.
    pub path: &'a str,
    /// How it ended; none where the client went away before that.
    pub status: Option<u16>,
    /// What it was about, as the id of a decision or of a model.
    pub subject: Option<&'a str>,
    /// The id of the request.
    pub request_id: &'a str,
}

/// Why a record is not written.
#[derive(Debug, Error)]
#[error("cannot write the audit trail {}: {source}", path.display())]
pub struct AuditError {
    /// The file.
    pub path: PathBuf,
    /// The reason.
    pub source: io::Error,
}

/// Where records go.
pub trait AuditSink: Send + Sync + std::fmt::Debug {
    /// Writes `record`; it is safe once this returns.
    ///
    /// # Errors
    ///
    /// If it cannot be written.
    fn record(&self, record: &AuditRecord<'_>) -> Result<(), AuditError>;

    /// Follows the file where it was moved; called now and then.
    ///
    /// # Errors
    ///
    /// If there is no new file to be had.
    fn tidy(&self) -> Result<(), AuditError> {
        Ok(())
    }
}

/// Appends records to a file.
#[derive(Debug)]
pub struct AuditFile {
    path: PathBuf,
    sync: bool,
    file: Mutex<File>,
}

impl AuditFile {
    /// Opens or creates the file at `path`, which the owner alone may read. With `sync`, a record
    /// is on the disk before it counts as written.
    ///
    /// # Errors
    ///
    /// If it cannot be opened for appending.
    pub fn open(path: &Path, sync: bool) -> Result<Self, AuditError> {
        let file = open(path).map_err(|source| AuditError {
            path: path.into(),
            source,
        })?;
        Ok(Self {
            path: path.into(),
            sync,
            file: Mutex::new(file),
        })
    }

    fn error(&self, source: io::Error) -> AuditError {
        AuditError {
            path: self.path.clone(),
            source,
        }
    }
}

impl AuditSink for AuditFile {
    fn record(&self, record: &AuditRecord<'_>) -> Result<(), AuditError> {
        let mut line = serde_json::to_vec(record).map_err(|e| self.error(e.into()))?;
        line.push(b'\n');
        let mut file = self.file.lock().unwrap_or_else(PoisonError::into_inner);
        append(&mut file, &line, self.sync).map_err(|e| self.error(e))
    }

    fn tidy(&self) -> Result<(), AuditError> {
        let mut file = self.file.lock().unwrap_or_else(PoisonError::into_inner);
        if is_at(&file, &self.path) {
            return Ok(());
        }
        *file = open(&self.path).map_err(|e| self.error(e))?;
        Ok(())
    }
}

/// Writes the whole `line` or, as far as the file allows, nothing of it.
fn append(file: &mut File, line: &[u8], sync: bool) -> io::Result<()> {
    let before = file.metadata()?.len();
    if let Err(error) = file.write_all(line) {
        // Half a line would be taken for the head of the next one.
        let _ = file.set_len(before);
        return Err(error);
    }
    if sync { file.sync_data() } else { Ok(()) }
}

fn open(path: &Path) -> io::Result<File> {
    let mut options = OpenOptions::new();
    options.create(true).append(true).read(true);
    #[cfg(unix)]
    {
        use std::os::unix::fs::OpenOptionsExt;
        options.mode(0o600);
    }
    let mut file = options.open(path)?;
    // A process that was killed may have left half a line.
    if file.metadata()?.is_file() && file.metadata()?.len() > 0 {
        let mut last = [0];
        file.seek(SeekFrom::End(-1))?;
        file.read_exact(&mut last)?;
        if last != *b"\n" {
            file.write_all(b"\n")?;
        }
    }
    Ok(file)
}

/// Whether `file` still stands at `path`.
fn is_at(file: &File, path: &Path) -> bool {
    #[cfg(unix)]
    {
        use std::os::unix::fs::MetadataExt;
        match (file.metadata(), std::fs::metadata(path)) {
            (Ok(ours), Ok(there)) => (ours.dev(), ours.ino()) == (there.dev(), there.ino()),
            _ => false,
        }
    }
    #[cfg(not(unix))]
    {
        let _ = file;
        path.exists()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(path: &str) -> AuditRecord<'_> {
        AuditRecord {
            schema: 1,
            time: "2027-01-01T00:00:00Z".into(),
            client: Some("operator"),
            known_by: "token",
            role: Some("operate"),
            address: "10.0.0.1".into(),
            method: "POST",
            path,
            status: Some(200),
            subject: Some("model-1"),
            request_id: "r-1",
        }
    }

    fn lines(path: &Path) -> Vec<serde_json::Value> {
        let text = std::fs::read_to_string(path).expect("it is there");
        text.lines()
            .filter(|line| !line.starts_with("half"))
            .map(|line| serde_json::from_str(line).expect("JSON"))
            .collect()
    }

    #[test]
    fn records_are_appended_after_half_a_line_and_after_a_move() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("audit.jsonl");
        std::fs::write(&path, "half a li").expect("written");
        let sink = AuditFile::open(&path, true).expect("opened");
        sink.record(&record("/a")).expect("written");
        sink.tidy().expect("nothing to do");
        sink.record(&record("/b")).expect("written");
        let written = lines(&path);
        assert_eq!(written.len(), 2);
        assert_eq!(written[1]["path"], "/b");
        assert_eq!(written[1]["client"], "operator");
        let moved = folder.path().join("audit.1");
        std::fs::rename(&path, &moved).expect("moved");
        sink.record(&record("/c")).expect("written");
        sink.tidy().expect("opened again");
        sink.record(&record("/d")).expect("written");
        assert_eq!(lines(&moved).len(), 3);
        assert_eq!(lines(&path)[0]["path"], "/d");
    }

    #[cfg(unix)]
    #[test]
    fn the_owner_alone_may_read_a_new_file() {
        use std::os::unix::fs::PermissionsExt;
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("audit.jsonl");
        AuditFile::open(&path, false).expect("opened");
        let mode = std::fs::metadata(&path)
            .expect("there")
            .permissions()
            .mode();
        assert_eq!(mode & 0o077, 0, "{mode:o}");
    }

    #[test]
    fn a_file_that_cannot_be_opened_is_named() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("missing/audit.jsonl");
        let error = AuditFile::open(&path, false).expect_err("no folder");
        assert!(error.to_string().contains("missing/audit.jsonl"), "{error}");
    }
}
