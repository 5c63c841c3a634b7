//! `trainer report`: what an evaluation found, as one HTML page.
//!
//! The page holds everything it needs: the style sheet and the figures are part of it, and it asks
//! for nothing from a network.
//! It reads without a script, in light, in dark, on a phone and on paper.
//! The same files give the same bytes.
//!
//! It shows what is in the folder of the evaluation, and says what is absent: the summary
//! `evaluation.json`, the rows `runs.parquet`, the run `timeline.parquet`, and the training curves
//! `model/metrics.json`.
//! Means and intervals are taken from the summary as they stand; none is computed here.
//!
//! Left out: metrics beyond those of [`METRICS`](crate::evaluate::METRICS), and more
//! than one evaluation on a page.

mod figures;
mod input;
mod metric;
mod page;
mod table;

use std::fs;
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};

use datasets::ParquetError;
use thiserror::Error;
use twin::chart::{axis, scale, svg};

use input::Results;

/// Show what an evaluation found, as one HTML page.
///
/// The page stands alone: it needs no network and no script.
#[derive(Clone, Debug, clap::Args)]
pub struct Args {
    /// Folder of an evaluation, or of a quickstart.
    #[arg(value_name = "DIR")]
    pub dir: PathBuf,
    /// Where the page goes; report.html in the folder if it is left out.
    #[arg(long, value_name = "FILE")]
    pub out: Option<PathBuf>,
}

/// A report that cannot be written.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum ReportError {
    /// The folder is not there.
    #[error("{} is not a folder that can be read; give the one that `trainer evaluate --out` wrote", folder.display())]
    NoFolder {
        /// The folder that was asked for.
        folder: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The folder holds nothing that a report shows.
    #[error("{} holds no evaluation.json, runs.parquet, timeline.parquet or model/metrics.json; give the folder that `trainer evaluate --out` wrote", folder.display())]
    Nothing {
        /// The folder that was asked for.
        folder: PathBuf,
    },
    /// A file cannot be read or written.
    #[error("cannot access {}: {source}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// A file is not the JSON that it should be.
    #[error("{}: {source}; write it again with `trainer evaluate` or `trainer fit`", path.display())]
    Json {
        /// The file.
        path: PathBuf,
        /// What is wrong with it, and where.
        source: serde_json::Error,
    },
    /// A Parquet file is damaged or lacks a column.
    #[error("{0}")]
    Parquet(#[source] ParquetError),
}

/// Writes the page and prints its path on standard output.
///
/// # Errors
///
/// As [`write()`], and if standard output is closed.
pub fn run(args: &Args) -> anyhow::Result<()> {
    let path = write(&args.dir, args.out.as_deref())?;
    writeln!(io::stdout(), "{}", path.display())?;
    Ok(())
}

/// Writes the page for the evaluation in `dir` to `out`, or else to `dir/report.html`, and returns
/// where it is.
///
/// # Errors
///
/// [`ReportError`] if `dir` holds nothing to report, a file in it cannot be read, or the page
/// cannot be written.
pub fn write(dir: &Path, out: Option<&Path>) -> Result<PathBuf, ReportError> {
    let page = render(dir)?;
    let path = out.map_or_else(|| dir.join("report.html"), Path::to_path_buf);
    match fs::write(&path, page) {
        Ok(()) => Ok(path),
        Err(source) => Err(ReportError::Io { path, source }),
    }
}

/// The page for the evaluation in `dir`, as HTML.
///
/// # Errors
///
/// [`ReportError`] if `dir` holds nothing to report or a file in it cannot be read.
pub fn render(dir: &Path) -> Result<String, ReportError> {
    Ok(page::render(&Results::read(dir)?))
}
