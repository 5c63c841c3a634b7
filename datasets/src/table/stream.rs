//! Parquet that is written part by part, so that memory does not grow with the file.

use std::fs::{self, File};
use std::io::{self, BufWriter};
use std::path::{Path, PathBuf};

use polars::io::parquet::write::BatchedWriter;
use polars::prelude::*;

use super::{Columns, ParquetError, ROW_GROUP_ROWS};

/// Writes a Parquet file (zstd) part by part; the file is whole or absent.
///
/// The parts go to `.NAME.tmp` in the same folder, which takes the final name when
/// [`ParquetStream::finish`] is called, and is removed when the stream is dropped before that.
pub struct ParquetStream {
    path: PathBuf,
    temporary: PathBuf,
    /// `None` once it is finished.
    writer: Option<BatchedWriter<BufWriter<File>>>,
}

impl std::fmt::Debug for ParquetStream {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ParquetStream")
            .field("path", &self.path)
            .finish_non_exhaustive()
    }
}

impl ParquetStream {
    /// Starts the file `path`; `columns` tells names and types, and its rows are the first part.
    ///
    /// # Errors
    ///
    /// [`ParquetError`] if the file cannot be written, or two columns share a name.
    pub fn create(path: &Path, columns: Columns) -> Result<Self, ParquetError> {
        let name = path.file_name().map(|name| name.to_string_lossy());
        let temporary = path.with_file_name(format!(".{}.tmp", name.unwrap_or_default()));
        let io = |source| ParquetError::Io {
            path: path.to_path_buf(),
            source,
        };
        let fail = |error| encode(path, &error);
        let frame = DataFrame::new(columns.height, columns.columns).map_err(fail)?;
        let file = File::create(&temporary).map_err(io)?;
        let writer = ParquetWriter::new(BufWriter::new(file))
            .with_compression(ParquetCompression::Zstd(None))
            .with_statistics(StatisticsOptions::empty())
            .with_row_group_size(Some(ROW_GROUP_ROWS))
            .set_parallel(false)
            .batched(frame.schema())
            .map_err(fail)?;
        let mut stream = Self {
            path: path.to_path_buf(),
            temporary,
            writer: Some(writer),
        };
        stream.write_frame(&frame)?;
        Ok(stream)
    }

    /// Writes the next part, which must have the columns of the first.
    ///
    /// # Errors
    ///
    /// [`ParquetError`] if the file cannot be written.
    pub fn write(&mut self, columns: Columns) -> Result<(), ParquetError> {
        let frame = DataFrame::new(columns.height, columns.columns)
            .map_err(|error| encode(&self.path, &error))?;
        self.write_frame(&frame)
    }

    fn write_frame(&mut self, frame: &DataFrame) -> Result<(), ParquetError> {
        match &mut self.writer {
            Some(writer) if frame.height() > 0 => writer
                .write_batch(frame)
                .map_err(|error| encode(&self.path, &error)),
            _ => Ok(()),
        }
    }

    /// Ends the file and gives it its name.
    ///
    /// # Errors
    ///
    /// [`ParquetError`] if the file cannot be written.
    pub fn finish(mut self) -> Result<(), ParquetError> {
        if let Some(writer) = &self.writer {
            let fail = |error| encode(&self.path, &error);
            writer.finish().map_err(fail)?;
        }
        // Closes the file.
        self.writer = None;
        let rename = || -> io::Result<()> {
            File::open(&self.temporary)?.sync_all()?;
            fs::rename(&self.temporary, &self.path)
        };
        rename().map_err(|source| ParquetError::Io {
            path: self.path.clone(),
            source,
        })
    }
}

impl Drop for ParquetStream {
    fn drop(&mut self) {
        if self.writer.take().is_some() {
            // What is left is no result; a later run overwrites it anyway.
            let _ = fs::remove_file(&self.temporary);
        }
    }
}

fn encode(path: &Path, error: &PolarsError) -> ParquetError {
    ParquetError::Encode {
        path: path.to_path_buf(),
        reason: error.to_string(),
    }
}
