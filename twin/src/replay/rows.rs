//! Lines of a recording's CSV files.

use std::path::Path;
use std::str::FromStr;

use csv::StringRecord;

use super::{MAX_FILE_BYTES, ReplayError};

/// The text of a file.
pub(super) fn read_text(path: &Path) -> Result<String, ReplayError> {
    let read = |source| ReplayError::Read {
        path: path.display().to_string(),
        source,
    };
    let size = std::fs::metadata(path).map_err(read)?.len();
    if size > MAX_FILE_BYTES {
        return Err(ReplayError::file(
            path,
            format!("{size} bytes; at most {MAX_FILE_BYTES} are read"),
        ));
    }
    std::fs::read_to_string(path).map_err(read)
}

/// Gives every line of the CSV file at `path` to `take`, with its number.
pub(super) fn read_rows(
    path: &Path,
    header: &[&'static str],
    mut take: impl FnMut(&Row<'_>) -> Result<(), String>,
) -> Result<(), ReplayError> {
    let text = read_text(path)?;
    let fail = |line, problem| ReplayError::Line {
        path: path.display().to_string(),
        line,
        problem,
    };
    let mut reader = csv::Reader::from_reader(text.as_bytes());
    let found = reader.headers().map_err(|e| fail(1, e.to_string()))?;
    if found.iter().ne(header.iter().copied()) {
        let found = found.iter().collect::<Vec<_>>().join(",");
        let problem = format!("the header must be {}, found {found}", header.join(","));
        return Err(fail(1, problem));
    }
    let mut record = StringRecord::new();
    let mut lines = 0_u64;
    loop {
        let more = reader
            .read_record(&mut record)
            .map_err(|e| fail(e.position().map_or(0, csv::Position::line), e.to_string()))?;
        if !more {
            break;
        }
        lines = record.position().map_or(0, csv::Position::line);
        let record = &record;
        take(&Row { header, record }).map_err(|problem| fail(lines, problem))?;
    }
    if lines == 0 {
        return Err(ReplayError::file(path, "no rows after the header"));
    }
    if !text.ends_with('\n') {
        let problem = "the file ends within a line, so it was cut off; copy it again";
        return Err(fail(lines, problem.into()));
    }
    Ok(())
}

/// A line with as many fields as the header, which the CSV reader sees to.
pub(super) struct Row<'a> {
    header: &'a [&'static str],
    record: &'a StringRecord,
}

impl Row<'_> {
    pub(super) fn problem(&self, column: usize, expected: &str) -> String {
        format!(
            "{}: expected {expected}, found \"{}\"",
            self.header[column], &self.record[column]
        )
    }

    /// A whole number from `least` to `most`.
    pub(super) fn whole<T: FromStr + PartialOrd + std::fmt::Display + Copy>(
        &self,
        column: usize,
        least: T,
        most: T,
    ) -> Result<T, String> {
        match self.record[column].parse() {
            Ok(value) if (least..=most).contains(&value) => Ok(value),
            _ => Err(self.problem(column, &format!("a whole number from {least} to {most}"))),
        }
    }

    /// A number from `least` to `most`.
    pub(super) fn number(&self, column: usize, least: f64, most: f64) -> Result<f64, String> {
        match self.record[column].parse() {
            Ok(value) if (least..=most).contains(&value) => Ok(value),
            _ => Err(self.problem(column, &format!("a number from {least} to {most}"))),
        }
    }
}
