//! Tables that are written part by part while a log is read: memory does not grow with the log.

use std::path::Path;

use datasets::table::Columns;
use datasets::{ParquetError, ParquetStream};

/// Rows that are gathered before they are written.
const PART_ROWS: usize = 16_384;
/// Bytes of rows that are gathered before they are written, where rows tell their size.
const PART_BYTES: usize = 32 << 20;

/// A Parquet file, with the rows that are not written yet.
pub(crate) struct Table<R> {
    stream: ParquetStream,
    rows: Vec<R>,
    bytes: usize,
    count: u64,
    columns: fn(&[R]) -> Columns,
}

impl<R> Table<R> {
    /// Begins the file `path`, whose columns `columns` makes of rows.
    ///
    /// # Errors
    ///
    /// If it cannot be written.
    pub(crate) fn create(path: &Path, columns: fn(&[R]) -> Columns) -> Result<Self, ParquetError> {
        Ok(Self {
            stream: ParquetStream::create(path, columns(&[]))?,
            rows: Vec::new(),
            bytes: 0,
            count: 0,
            columns,
        })
    }

    /// Adds a short row.
    ///
    /// # Errors
    ///
    /// If the file cannot be written.
    pub(crate) fn push(&mut self, row: R) -> Result<(), ParquetError> {
        self.push_sized(row, 0)
    }

    /// Adds a row that takes some `bytes`.
    ///
    /// # Errors
    ///
    /// If the file cannot be written.
    pub(crate) fn push_sized(&mut self, row: R, bytes: usize) -> Result<(), ParquetError> {
        self.rows.push(row);
        self.bytes += bytes;
        self.count += 1;
        if self.rows.len() >= PART_ROWS || self.bytes >= PART_BYTES {
            self.flush()?;
        }
        Ok(())
    }

    fn flush(&mut self) -> Result<(), ParquetError> {
        self.stream.write((self.columns)(&self.rows))?;
        self.rows.clear();
        self.bytes = 0;
        Ok(())
    }

    /// Writes the last rows to the file, which has its name only after [`Whole::finish`].
    ///
    /// # Errors
    ///
    /// If the file cannot be written.
    pub(crate) fn end(mut self) -> Result<Whole, ParquetError> {
        self.flush()?;
        Ok(Whole {
            stream: self.stream,
            count: self.count,
        })
    }
}

/// A file with all its rows, not in its place yet.
pub(crate) struct Whole {
    stream: ParquetStream,
    /// Its rows.
    pub(crate) count: u64,
}

impl Whole {
    /// Puts the file in its place.
    ///
    /// # Errors
    ///
    /// If the file cannot be written.
    pub(crate) fn finish(self) -> Result<(), ParquetError> {
        self.stream.finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn numbers(rows: &[u64]) -> Columns {
        Columns::new(rows.len()).u64("number", rows.iter().copied())
    }

    #[test]
    fn what_is_gathered_is_bounded_by_rows_and_by_bytes() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("numbers.parquet");
        let mut table = Table::create(&path, numbers).expect("it is begun");
        let many = 3 * PART_ROWS as u64 + 5;
        for number in 0..many {
            table.push(number).expect("written");
            assert!(table.rows.len() < PART_ROWS);
        }
        assert_eq!(table.rows.len(), 5);
        table.push_sized(many, PART_BYTES).expect("written");
        assert!(table.rows.is_empty(), "a long row does not wait");
        assert!(!path.exists(), "it has its name when it is whole");
        let whole = table.end().expect("written");
        assert_eq!(whole.count, many + 1);
        whole.finish().expect("written");
        let bytes = std::fs::read(&path).expect("it is there");
        let frame = datasets::table::Frame::decode(&path, bytes).expect("it is whole");
        let found = frame.u64("number").expect("a column");
        assert_eq!(found, (0..=many).collect::<Vec<u64>>());
    }
}
