//! Rows in and out of files: original CSV to typed rows, typed rows to Parquet and back.
//!
//! A trace implements [`CsvRow`] for the format in which it was published and [`ParquetRow`] for
//! the compact copy that is kept here.
//! Reading checks everything that a row promises, so that a row that exists is valid.
//!
//! Left out: CSV dialects (the separator is a comma), columns that a reader did not ask for (they
//! are skipped), and files over [`MAX_FILE_BYTES`].

mod stream;

use std::fs::{self, File};
use std::io::{self, Cursor, Read};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::str::FromStr;

use csv::StringRecord;
use polars::prelude::*;
use thiserror::Error;

use crate::files::write_atomic;

pub use stream::ParquetStream;

/// The largest file that is read, in bytes (1 GiB): all of it is held in memory.
pub const MAX_FILE_BYTES: u64 = 1 << 30;

/// Rows per Parquet row group; fixed, since it is part of the bytes.
const ROW_GROUP_ROWS: usize = 16_384;

/// Characters of a field that an error message shows.
const SHOWN_CHARS: usize = 60;

/// A row that can be read from the CSV in which its trace was published.
pub trait CsvRow: Sized {
    /// The columns that the header must have, in any order.
    const COLUMNS: &'static [&'static str];

    /// Parses one record; `previous` is the row before it, for traces that must not go backwards.
    ///
    /// # Errors
    ///
    /// [`ReadError`] naming the line, the column, and what was expected and found.
    fn from_fields(fields: &Fields<'_>, previous: Option<&Self>) -> Result<Self, ReadError>;
}

/// A row that can be kept in Parquet, one column a field, names carrying units.
pub trait ParquetRow: Sized {
    /// The columns of `rows`.
    fn to_columns(rows: &[Self]) -> Columns;

    /// The rows of `frame`.
    ///
    /// # Errors
    ///
    /// [`ParquetError`] if a column is missing, has another type, or holds a value that no row may
    /// have.
    fn from_frame(frame: &Frame) -> Result<Vec<Self>, ParquetError>;
}

/// A CSV file that cannot be read; lines count from 1 as an editor counts them.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum ReadError {
    /// The file cannot be opened or read.
    #[error("cannot read {}: {source}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The file has no header, or no record after it.
    #[error("{}: the file holds no {what}; expected a header with {columns} and at least one record", path.display())]
    Empty {
        /// The file.
        path: PathBuf,
        /// What is absent.
        what: &'static str,
        /// The columns that were expected.
        columns: String,
    },
    /// The header lacks a column.
    #[error("{}:{line}: expected a column `{column}`, found the columns {found}", path.display())]
    MissingColumn {
        /// The file.
        path: PathBuf,
        /// The line of the header.
        line: usize,
        /// The column that is absent.
        column: String,
        /// The columns that are present.
        found: String,
    },
    /// A record has more or fewer fields than the header.
    #[error("{}:{line}: expected {expected} fields as in the header, found {found}", path.display())]
    FieldCount {
        /// The file.
        path: PathBuf,
        /// The line of the record.
        line: usize,
        /// Fields of the header.
        expected: usize,
        /// Fields of the record.
        found: usize,
    },
    /// A field is not what its column holds.
    #[error("{}:{line}: column `{column}`: expected {expected}, found `{found}`", path.display())]
    Field {
        /// The file.
        path: PathBuf,
        /// The line of the record.
        line: usize,
        /// The column.
        column: String,
        /// What a good field looks like.
        expected: String,
        /// The field, cut to a readable length.
        found: String,
    },
    /// A record is not UTF-8 text.
    #[error("{}:{line}: field {field} is not UTF-8 text", path.display())]
    NotText {
        /// The file.
        path: PathBuf,
        /// The line of the record.
        line: usize,
        /// The field, from 1.
        field: usize,
    },
}

/// A Parquet file that cannot be written or read.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum ParquetError {
    /// The file cannot be opened, read or written.
    #[error("cannot access {}: {source}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The file is not Parquet, or is truncated or damaged.
    #[error("{} is not a readable Parquet file (truncated or damaged?): {reason}", path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What the decoder said.
        reason: String,
    },
    /// A column is missing or has another type.
    #[error("{}: expected a column `{column}` of {expected}, found {found}", path.display())]
    Column {
        /// The file.
        path: PathBuf,
        /// The column.
        column: String,
        /// The type expected.
        expected: &'static str,
        /// The type found, or `none`.
        found: String,
    },
    /// A value is not what its column may hold.
    #[error("{}: column `{column}`, row {row}: expected {expected}, found {found}", path.display())]
    Value {
        /// The file.
        path: PathBuf,
        /// The column.
        column: String,
        /// The row, from 0.
        row: usize,
        /// What a good value looks like.
        expected: String,
        /// The value.
        found: String,
    },
    /// The rows cannot be encoded.
    #[error("cannot encode {}: {reason}", path.display())]
    Encode {
        /// The file.
        path: PathBuf,
        /// What the encoder said.
        reason: String,
    },
}

/// Reads a CSV file of rows in the format in which they were published.
///
/// # Errors
///
/// [`ReadError`] naming file, line and column; nothing is skipped or repaired.
pub fn read_csv<R: CsvRow>(path: impl AsRef<Path>) -> Result<Vec<R>, ReadError> {
    let path = path.as_ref();
    let bytes = read_bytes(path).map_err(|source| ReadError::Io {
        path: path.to_path_buf(),
        source,
    })?;
    parse_csv(path, &bytes)
}

/// Parses the bytes of a CSV file; `path` only names it in errors.
///
/// # Errors
///
/// As [`read_csv`].
pub fn parse_csv<R: CsvRow>(path: &Path, bytes: &[u8]) -> Result<Vec<R>, ReadError> {
    let mut reader = csv::ReaderBuilder::new()
        .has_headers(false)
        .flexible(true)
        .from_reader(bytes);
    let mut lines = Lines {
        bytes,
        offset: 0,
        line: 1,
    };
    let Some((header, line)) = next_record(&mut reader, &mut lines, path)? else {
        return Err(empty::<R>(path, "header"));
    };
    for column in R::COLUMNS {
        if !header.iter().any(|name| name == *column) {
            return Err(missing_column(path, line, column, &header));
        }
    }
    let header_line = line;
    let mut rows: Vec<R> = Vec::new();
    while let Some((record, line)) = next_record(&mut reader, &mut lines, path)? {
        if record.len() != header.len() {
            return Err(ReadError::FieldCount {
                path: path.to_path_buf(),
                line,
                expected: header.len(),
                found: record.len(),
            });
        }
        let fields = Fields {
            path,
            line,
            header_line,
            header: &header,
            record: &record,
        };
        let row = R::from_fields(&fields, rows.last())?;
        rows.push(row);
    }
    if rows.is_empty() {
        return Err(empty::<R>(path, "record"));
    }
    Ok(rows)
}

/// Writes `rows` as Parquet (zstd), atomically; equal rows give equal bytes.
///
/// # Errors
///
/// [`ParquetError`] if the rows cannot be encoded or the file cannot be written.
pub fn write_parquet<R: ParquetRow>(
    rows: &[R],
    path: impl AsRef<Path>,
) -> Result<(), ParquetError> {
    let path = path.as_ref();
    let bytes = R::to_columns(rows).encode(path)?;
    write_atomic(path, &bytes).map_err(|source| ParquetError::Io {
        path: path.to_path_buf(),
        source,
    })
}

/// Reads what [`write_parquet`] wrote.
///
/// # Errors
///
/// [`ParquetError`] naming the file and the column; a truncated or damaged file is an error too.
pub fn read_parquet<R: ParquetRow>(path: impl AsRef<Path>) -> Result<Vec<R>, ParquetError> {
    let path = path.as_ref();
    let bytes = read_bytes(path).map_err(|source| ParquetError::Io {
        path: path.to_path_buf(),
        source,
    })?;
    R::from_frame(&Frame::decode(path, bytes)?)
}

/// Reads a whole file of at most [`MAX_FILE_BYTES`].
pub(crate) fn read_bytes(path: &Path) -> io::Result<Vec<u8>> {
    if fs::metadata(path)?.is_dir() {
        return Err(io::Error::new(
            io::ErrorKind::IsADirectory,
            "it is a folder",
        ));
    }
    let mut bytes = Vec::new();
    File::open(path)?
        .take(MAX_FILE_BYTES + 1)
        .read_to_end(&mut bytes)?;
    if bytes.len() as u64 > MAX_FILE_BYTES {
        let reason = format!("it is larger than {MAX_FILE_BYTES} bytes; split it");
        return Err(io::Error::new(io::ErrorKind::FileTooLarge, reason));
    }
    Ok(bytes)
}

/// One record of a CSV file; fields are asked for by the name of their column.
#[derive(Debug)]
pub struct Fields<'a> {
    path: &'a Path,
    line: usize,
    header_line: usize,
    header: &'a StringRecord,
    record: &'a StringRecord,
}

impl<'a> Fields<'a> {
    /// The field of `column` as it stands in the file.
    ///
    /// # Errors
    ///
    /// [`ReadError::MissingColumn`] if the header has no such column.
    pub fn text(&self, column: &str) -> Result<&'a str, ReadError> {
        self.header
            .iter()
            .position(|name| name == column)
            .and_then(|index| self.record.get(index))
            .ok_or_else(|| missing_column(self.path, self.header_line, column, self.header))
    }

    /// The field of `column` as text that may not be empty.
    ///
    /// # Errors
    ///
    /// [`ReadError::Field`] if it is empty.
    pub fn name(&self, column: &str) -> Result<String, ReadError> {
        match self.text(column)? {
            "" => Err(self.unexpected(column, "a name")),
            name => Ok(name.to_owned()),
        }
    }

    /// The field of `column` as a whole number.
    ///
    /// # Errors
    ///
    /// [`ReadError::Field`] if it is not an integer from 0 to 2³² − 1.
    pub fn u32(&self, column: &str) -> Result<u32, ReadError> {
        self.parse(column, "a whole number from 0 to 4294967295")
    }

    /// As [`Fields::u32`]; an empty field is `None`.
    ///
    /// # Errors
    ///
    /// As [`Fields::u32`].
    pub fn optional_u32(&self, column: &str) -> Result<Option<u32>, ReadError> {
        if self.text(column)?.is_empty() {
            Ok(None)
        } else {
            self.u32(column).map(Some)
        }
    }

    /// The field of `column` as a finite number of at least 0.
    ///
    /// # Errors
    ///
    /// [`ReadError::Field`] if it is not a number, or is NaN, infinite or negative.
    pub fn f64(&self, column: &str) -> Result<f64, ReadError> {
        const EXPECTED: &str = "a finite number of at least 0";
        let value: f64 = self.parse(column, EXPECTED)?;
        if value.is_finite() && value >= 0.0 {
            Ok(value)
        } else {
            Err(self.unexpected(column, EXPECTED))
        }
    }

    /// As [`Fields::f64`]; an empty field is `None`.
    ///
    /// # Errors
    ///
    /// As [`Fields::f64`].
    pub fn optional_f64(&self, column: &str) -> Result<Option<f64>, ReadError> {
        if self.text(column)?.is_empty() {
            Ok(None)
        } else {
            self.f64(column).map(Some)
        }
    }

    /// The field of `column` as a share of 100.
    ///
    /// # Errors
    ///
    /// [`ReadError::Field`] if it is not a number from 0 to 100.
    pub fn percent(&self, column: &str) -> Result<f64, ReadError> {
        let value = self.f64(column)?;
        if value <= 100.0 {
            Ok(value)
        } else {
            Err(self.unexpected(column, "a percentage from 0 to 100"))
        }
    }

    /// The field of `column` as a flag.
    ///
    /// # Errors
    ///
    /// [`ReadError::Field`] if it is neither `0` nor `1`.
    pub fn flag(&self, column: &str) -> Result<bool, ReadError> {
        match self.text(column)? {
            "0" => Ok(false),
            "1" => Ok(true),
            _ => Err(self.unexpected(column, "0 or 1")),
        }
    }

    /// The error that says that the field of `column` is not what was `expected`.
    #[must_use]
    pub fn unexpected(&self, column: &str, expected: &str) -> ReadError {
        match self.text(column) {
            Ok(found) => ReadError::Field {
                path: self.path.to_path_buf(),
                line: self.line,
                column: column.to_owned(),
                expected: expected.to_owned(),
                found: shorten(found),
            },
            Err(missing) => missing,
        }
    }

    fn parse<T: FromStr>(&self, column: &str, expected: &str) -> Result<T, ReadError> {
        self.text(column)?
            .parse()
            .map_err(|_| self.unexpected(column, expected))
    }
}

/// Columns of equal height on their way to a Parquet file.
#[derive(Debug)]
pub struct Columns {
    height: usize,
    columns: Vec<Column>,
}

impl Columns {
    /// No columns yet, each to have `height` values.
    #[must_use]
    pub fn new(height: usize) -> Self {
        Self {
            height,
            columns: Vec::new(),
        }
    }

    /// Adds a column of 32-bit whole numbers.
    #[must_use]
    pub fn u32(self, name: &str, values: impl Iterator<Item = u32>) -> Self {
        self.push(Column::new(name.into(), values.collect::<Vec<_>>()))
    }

    /// Adds a column of 32-bit whole numbers, some of which may be absent.
    #[must_use]
    pub fn optional_u32(self, name: &str, values: impl Iterator<Item = Option<u32>>) -> Self {
        self.push(Column::new(name.into(), values.collect::<Vec<_>>()))
    }

    /// Adds a column of 64-bit whole numbers.
    #[must_use]
    pub fn u64(self, name: &str, values: impl Iterator<Item = u64>) -> Self {
        self.push(Column::new(name.into(), values.collect::<Vec<_>>()))
    }

    /// Adds a column of 64-bit whole numbers, some of which may be absent.
    #[must_use]
    pub fn optional_u64(self, name: &str, values: impl Iterator<Item = Option<u64>>) -> Self {
        self.push(Column::new(name.into(), values.collect::<Vec<_>>()))
    }

    /// Adds a column of 32-bit numbers.
    #[must_use]
    pub fn f32(self, name: &str, values: impl Iterator<Item = f32>) -> Self {
        self.push(Column::new(name.into(), values.collect::<Vec<_>>()))
    }

    /// Adds a column of 64-bit numbers.
    #[must_use]
    pub fn f64(self, name: &str, values: impl Iterator<Item = f64>) -> Self {
        self.push(Column::new(name.into(), values.collect::<Vec<_>>()))
    }

    /// Adds a column of 64-bit numbers, some of which may be absent.
    #[must_use]
    pub fn optional_f64(self, name: &str, values: impl Iterator<Item = Option<f64>>) -> Self {
        self.push(Column::new(name.into(), values.collect::<Vec<_>>()))
    }

    /// Adds a column of flags.
    #[must_use]
    pub fn flag(self, name: &str, values: impl Iterator<Item = bool>) -> Self {
        self.push(Column::new(name.into(), values.collect::<Vec<_>>()))
    }

    /// Adds a column of flags, some of which may be absent.
    #[must_use]
    pub fn optional_flag(self, name: &str, values: impl Iterator<Item = Option<bool>>) -> Self {
        self.push(Column::new(name.into(), values.collect::<Vec<_>>()))
    }

    /// Adds a column of texts, some of which may be absent.
    #[must_use]
    pub fn optional_text<'a>(
        self,
        name: &str,
        values: impl Iterator<Item = Option<&'a str>>,
    ) -> Self {
        self.push(Column::new(name.into(), values.collect::<Vec<_>>()))
    }

    /// Adds a column of text.
    #[must_use]
    pub fn text<'a>(self, name: &str, values: impl Iterator<Item = &'a str>) -> Self {
        self.push(Column::new(name.into(), values.collect::<Vec<_>>()))
    }

    /// Adds a column of byte strings.
    #[must_use]
    pub fn bytes<'a>(self, name: &str, values: impl Iterator<Item = &'a [u8]>) -> Self {
        self.push(Column::new(name.into(), values.collect::<Vec<_>>()))
    }

    /// Adds a column of lists of 32-bit numbers.
    #[must_use]
    pub fn f32_lists<'a>(self, name: &str, values: impl Iterator<Item = &'a [f32]>) -> Self {
        let lists: Vec<&[f32]> = values.collect();
        let total = lists.iter().map(|list| list.len()).sum();
        let mut builder = ListPrimitiveChunkedBuilder::<Float32Type>::new(
            name.into(),
            lists.len(),
            total,
            DataType::Float32,
        );
        for list in lists {
            builder.append_slice(list);
        }
        self.push(builder.finish().into_series().into_column())
    }

    /// Adds a column of lists of 32-bit whole numbers.
    #[must_use]
    pub fn u32_lists<'a>(self, name: &str, values: impl Iterator<Item = &'a [u32]>) -> Self {
        let lists: Vec<&[u32]> = values.collect();
        let total = lists.iter().map(|list| list.len()).sum();
        let mut builder = ListPrimitiveChunkedBuilder::<UInt32Type>::new(
            name.into(),
            lists.len(),
            total,
            DataType::UInt32,
        );
        for list in lists {
            builder.append_slice(list);
        }
        self.push(builder.finish().into_series().into_column())
    }

    /// The bytes of a Parquet file of these columns; `path` only names it in errors.
    ///
    /// # Errors
    ///
    /// [`ParquetError::Encode`] if two columns share a name or differ in height.
    pub fn encode(self, path: &Path) -> Result<Vec<u8>, ParquetError> {
        let fail = |error: PolarsError| ParquetError::Encode {
            path: path.to_path_buf(),
            reason: error.to_string(),
        };
        let mut frame = DataFrame::new(self.height, self.columns).map_err(fail)?;
        let mut bytes = Vec::new();
        // Statistics are left out: for columns of byte strings they would repeat whole values.
        ParquetWriter::new(&mut bytes)
            .with_compression(ParquetCompression::Zstd(None))
            .with_statistics(StatisticsOptions::empty())
            .with_row_group_size(Some(ROW_GROUP_ROWS))
            .set_parallel(false)
            .finish(&mut frame)
            .map_err(fail)?;
        Ok(bytes)
    }

    fn push(mut self, column: Column) -> Self {
        self.columns.push(column);
        self
    }
}

/// The decoded columns of a Parquet file.
#[derive(Debug)]
pub struct Frame {
    path: PathBuf,
    frame: DataFrame,
}

/// A method that reads a column of one type, absent values being errors.
macro_rules! column_reader {
    ($(#[$doc:meta])* $name:ident, $accessor:ident, $type:ty, $expected:literal) => {
        $(#[$doc])*
        ///
        /// # Errors
        ///
        /// [`ParquetError`] if the column is missing, has another type, or lacks a value.
        pub fn $name(&self, column: &str) -> Result<Vec<$type>, ParquetError> {
            let found = self.column(column, $expected)?;
            let values =
                found.$accessor().map_err(|_| self.wrong_type(column, $expected, found))?;
            self.present(column, $expected, values.iter())
        }
    };
}

/// A method that reads a column of one type, absent values being `None`.
macro_rules! optional_column_reader {
    ($(#[$doc:meta])* $name:ident, $accessor:ident, $type:ty, $expected:literal) => {
        $(#[$doc])*
        ///
        /// # Errors
        ///
        /// [`ParquetError`] if the column is missing or has another type.
        pub fn $name(&self, column: &str) -> Result<Vec<Option<$type>>, ParquetError> {
            let found = self.column(column, $expected)?;
            let values =
                found.$accessor().map_err(|_| self.wrong_type(column, $expected, found))?;
            Ok(values.iter().collect())
        }
    };
}

impl Frame {
    column_reader!(
        /// The 32-bit whole numbers of `column`.
        u32, u32, u32, "unsigned 32-bit integers"
    );
    column_reader!(
        /// The 64-bit whole numbers of `column`.
        u64, u64, u64, "unsigned 64-bit integers"
    );
    column_reader!(
        /// The 32-bit whole numbers of `column`, which may be below 0.
        i32, i32, i32, "signed 32-bit integers"
    );
    column_reader!(
        /// The 64-bit whole numbers of `column`, which may be below 0.
        i64, i64, i64, "signed 64-bit integers"
    );
    column_reader!(
        /// The 32-bit numbers of `column`.
        f32, f32, f32, "32-bit floats"
    );
    column_reader!(
        /// The 64-bit numbers of `column`.
        f64, f64, f64, "64-bit floats"
    );
    column_reader!(
        /// The flags of `column`.
        flag, bool, bool, "booleans"
    );
    optional_column_reader!(
        /// The 32-bit whole numbers of `column`.
        optional_u32, u32, u32, "unsigned 32-bit integers"
    );
    optional_column_reader!(
        /// The 64-bit whole numbers of `column`.
        optional_u64, u64, u64, "unsigned 64-bit integers"
    );
    optional_column_reader!(
        /// The 64-bit numbers of `column`.
        optional_f64, f64, f64, "64-bit floats"
    );

    optional_column_reader!(
        /// The flags of `column`.
        optional_flag, bool, bool, "booleans"
    );

    /// Decodes the bytes of a Parquet file; `path` only names it in errors.
    ///
    /// # Errors
    ///
    /// [`ParquetError::Damaged`] if they are not a whole Parquet file.
    pub fn decode(path: &Path, bytes: Vec<u8>) -> Result<Self, ParquetError> {
        let damaged = |reason: String| ParquetError::Damaged {
            path: path.to_path_buf(),
            reason,
        };
        // The decoder trusts lengths and offsets inside the file and panics on some that are wrong;
        // bytes from outside must not be able to end the process.
        let decoded = catch_unwind(AssertUnwindSafe(|| {
            ParquetReader::new(Cursor::new(bytes))
                .set_rechunk(true)
                .finish()
        }));
        match decoded {
            Ok(Ok(frame)) => Ok(Self {
                path: path.to_path_buf(),
                frame,
            }),
            Ok(Err(error)) => Err(damaged(error.to_string())),
            Err(_) => Err(damaged("the decoder gave up on it".to_owned())),
        }
    }

    /// The number of rows.
    #[must_use]
    pub fn height(&self) -> usize {
        self.frame.height()
    }

    /// Whether there is a column of that name.
    #[must_use]
    pub fn has(&self, column: &str) -> bool {
        self.frame.column(column).is_ok()
    }

    /// The texts of `column`.
    ///
    /// # Errors
    ///
    /// [`ParquetError`] if the column is missing, has another type, or lacks a value.
    pub fn text(&self, column: &str) -> Result<Vec<String>, ParquetError> {
        const EXPECTED: &str = "text";
        let found = self.column(column, EXPECTED)?;
        let values = found
            .str()
            .map_err(|_| self.wrong_type(column, EXPECTED, found))?;
        self.present(
            column,
            EXPECTED,
            values.iter().map(|value| value.map(str::to_owned)),
        )
    }

    /// The texts of `column`; absent ones are `None`.
    ///
    /// # Errors
    ///
    /// [`ParquetError`] if the column is missing or has another type.
    pub fn optional_text(&self, column: &str) -> Result<Vec<Option<String>>, ParquetError> {
        const EXPECTED: &str = "text";
        let found = self.column(column, EXPECTED)?;
        let values = found
            .str()
            .map_err(|_| self.wrong_type(column, EXPECTED, found))?;
        Ok(values
            .iter()
            .map(|value| value.map(str::to_owned))
            .collect())
    }

    /// The byte strings of `column`.
    ///
    /// # Errors
    ///
    /// [`ParquetError`] if the column is missing, has another type, or lacks a value.
    pub fn bytes(&self, column: &str) -> Result<Vec<Vec<u8>>, ParquetError> {
        const EXPECTED: &str = "byte strings";
        let found = self.column(column, EXPECTED)?;
        let values = found
            .binary()
            .map_err(|_| self.wrong_type(column, EXPECTED, found))?;
        self.present(
            column,
            EXPECTED,
            values.iter().map(|value| value.map(<[u8]>::to_vec)),
        )
    }

    /// The lists of 32-bit numbers of `column`.
    ///
    /// # Errors
    ///
    /// [`ParquetError`] if the column is missing, has another type, or lacks a value.
    pub fn f32_lists(&self, column: &str) -> Result<Vec<Vec<f32>>, ParquetError> {
        const EXPECTED: &str = "lists of 32-bit floats";
        let found = self.column(column, EXPECTED)?;
        let wrong_type = || self.wrong_type(column, EXPECTED, found);
        let lists = found.list().map_err(|_| wrong_type())?;
        (0..lists.len())
            .map(|row| {
                let list = lists
                    .get_as_series(row)
                    .ok_or_else(|| self.unexpected(column, row, EXPECTED, "no value"))?;
                let values = list.f32().map_err(|_| wrong_type())?;
                self.present(column, EXPECTED, values.iter())
            })
            .collect()
    }

    /// The lists of 32-bit whole numbers of `column`.
    ///
    /// # Errors
    ///
    /// [`ParquetError`] if the column is missing, has another type, or lacks a value.
    pub fn u32_lists(&self, column: &str) -> Result<Vec<Vec<u32>>, ParquetError> {
        const EXPECTED: &str = "lists of unsigned 32-bit integers";
        let found = self.column(column, EXPECTED)?;
        let wrong_type = || self.wrong_type(column, EXPECTED, found);
        let lists = found.list().map_err(|_| wrong_type())?;
        (0..lists.len())
            .map(|row| {
                let list = lists
                    .get_as_series(row)
                    .ok_or_else(|| self.unexpected(column, row, EXPECTED, "no value"))?;
                let values = list.u32().map_err(|_| wrong_type())?;
                self.present(column, EXPECTED, values.iter())
            })
            .collect()
    }

    /// The 64-bit numbers of `column`, each finite and at least 0.
    ///
    /// # Errors
    ///
    /// [`ParquetError`] as [`Frame::f64`], and if one is NaN, infinite or negative.
    pub fn quantity(&self, column: &str) -> Result<Vec<f64>, ParquetError> {
        let values = self.f64(column)?;
        self.check_quantities(column, values.iter().copied().map(Some))?;
        Ok(values)
    }

    /// As [`Frame::quantity`]; absent values are `None`.
    ///
    /// # Errors
    ///
    /// As [`Frame::quantity`].
    pub fn optional_quantity(&self, column: &str) -> Result<Vec<Option<f64>>, ParquetError> {
        let values = self.optional_f64(column)?;
        self.check_quantities(column, values.iter().copied())?;
        Ok(values)
    }

    /// The error that says that `column` does not hold in `row` what was `expected`.
    #[must_use]
    pub fn unexpected(
        &self,
        column: &str,
        row: usize,
        expected: &str,
        found: &str,
    ) -> ParquetError {
        ParquetError::Value {
            path: self.path.clone(),
            column: column.to_owned(),
            row,
            expected: expected.to_owned(),
            found: shorten(found),
        }
    }

    fn column(&self, column: &str, expected: &'static str) -> Result<&Column, ParquetError> {
        self.frame.column(column).map_err(|_| ParquetError::Column {
            path: self.path.clone(),
            column: column.to_owned(),
            expected,
            found: "none".to_owned(),
        })
    }

    fn wrong_type(&self, column: &str, expected: &'static str, found: &Column) -> ParquetError {
        ParquetError::Column {
            path: self.path.clone(),
            column: column.to_owned(),
            expected,
            found: found.dtype().to_string(),
        }
    }

    fn present<T>(
        &self,
        column: &str,
        expected: &str,
        values: impl Iterator<Item = Option<T>>,
    ) -> Result<Vec<T>, ParquetError> {
        values
            .enumerate()
            .map(|(row, value)| {
                value.ok_or_else(|| self.unexpected(column, row, expected, "no value"))
            })
            .collect()
    }

    fn check_quantities(
        &self,
        column: &str,
        values: impl Iterator<Item = Option<f64>>,
    ) -> Result<(), ParquetError> {
        for (row, value) in values.enumerate() {
            if let Some(value) = value
                && !(value.is_finite() && value >= 0.0)
            {
                let expected = "a finite number of at least 0";
                return Err(self.unexpected(column, row, expected, &value.to_string()));
            }
        }
        Ok(())
    }
}

/// Counts lines up to byte offsets that only grow.
struct Lines<'a> {
    bytes: &'a [u8],
    offset: usize,
    line: usize,
}

impl Lines<'_> {
    /// The line of the record that the CSV reader says starts at `start`.
    ///
    /// The reader's own position lies before the blank lines, and before the line feed of a CRLF,
    /// that it skips to get to the record; an editor's count does not.
    fn of_record(&mut self, start: u64) -> usize {
        let start = usize::try_from(start).unwrap_or(self.bytes.len());
        let mut end = start.max(self.offset).min(self.bytes.len());
        while let Some(b'\r' | b'\n') = self.bytes.get(end) {
            end += 1;
        }
        self.line += self.bytes[self.offset..end]
            .iter()
            .filter(|byte| **byte == b'\n')
            .count();
        self.offset = end;
        self.line
    }
}

/// The next record and its line, or `None` at the end.
fn next_record(
    reader: &mut csv::Reader<&[u8]>,
    lines: &mut Lines<'_>,
    path: &Path,
) -> Result<Option<(StringRecord, usize)>, ReadError> {
    let mut record = csv::ByteRecord::new();
    let start = reader.position().byte();
    let more = reader
        .read_byte_record(&mut record)
        .map_err(|error| ReadError::Io {
            path: path.to_path_buf(),
            source: io::Error::other(error),
        })?;
    if !more {
        return Ok(None);
    }
    let line = lines.of_record(start);
    match StringRecord::from_byte_record(record) {
        Ok(record) => Ok(Some((record, line))),
        Err(error) => Err(ReadError::NotText {
            path: path.to_path_buf(),
            line,
            field: error.utf8_error().field() + 1,
        }),
    }
}

fn empty<R: CsvRow>(path: &Path, what: &'static str) -> ReadError {
    ReadError::Empty {
        path: path.to_path_buf(),
        what,
        columns: quoted(R::COLUMNS.iter().copied()),
    }
}

fn missing_column(path: &Path, line: usize, column: &str, header: &StringRecord) -> ReadError {
    ReadError::MissingColumn {
        path: path.to_path_buf(),
        line,
        column: column.to_owned(),
        found: quoted(
            header
                .iter()
                .map(|name| if name.is_empty() { "(unnamed)" } else { name }),
        ),
    }
}

fn quoted<'a>(names: impl Iterator<Item = &'a str>) -> String {
    let names: Vec<String> = names.map(|name| format!("`{}`", shorten(name))).collect();
    names.join(", ")
}

fn shorten(text: &str) -> String {
    let mut characters = text.chars();
    let mut shown: String = characters.by_ref().take(SHOWN_CHARS).collect();
    if characters.next().is_some() {
        shown.push('…');
    }
    shown
}
