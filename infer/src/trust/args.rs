//! The flags of all this.

use std::path::PathBuf;
use std::time::Duration;

use clap::Args;

use super::Options;
use crate::range::{SEARCH_TIME_MS, Search, THRESHOLD};
use crate::recent::RECENT_BYTES;

/// Flags about policies, explanations and drift.
#[derive(Debug, Args)]
pub(crate) struct TrustArgs {
    /// Folder under which models may be loaded by POST /v1/models; none may without
    #[arg(long, env = "INFER_MODELS_FOLDER", value_name = "DIR")]
    models_folder: Option<PathBuf>,
    /// File that keeps the choice of policies over a restart
    #[arg(long, env = "INFER_POLICIES_FILE", value_name = "FILE")]
    policies_file: Option<PathBuf>,
    /// Bytes of decisions that are kept to be explained
    #[arg(long, env = "INFER_RECENT_BYTES", default_value_t = RECENT_BYTES, value_name = "BYTES")]
    recent_bytes: usize,
    /// Share of a model's features that must lie outside of its training for search on the twin
    /// to decide in its place; above 1 it never does
    #[arg(long, env = "INFER_SEARCH_THRESHOLD", default_value_t = THRESHOLD, value_name = "SHARE", value_parser = threshold)]
    search_threshold: f64,
    /// Time that search may take, in ms
    #[arg(long, env = "INFER_SEARCH_TIME_MS", default_value_t = SEARCH_TIME_MS, value_name = "MS", value_parser = clap::value_parser!(u64).range(1..=10_000))]
    search_time_ms: u64,
}

fn threshold(text: &str) -> Result<f64, String> {
    match text.parse() {
        Ok(share) if f64::is_finite(share) && share > 0.0 => Ok(share),
        Ok(_) => Err("must be above 0".into()),
        Err(_) => Err("not a number".into()),
    }
}

impl TrustArgs {
    pub(crate) fn options(&self) -> Options {
        let search = Search {
            threshold: self.search_threshold,
            time: Duration::from_millis(self.search_time_ms),
        };
        Options {
            models: self.models_folder.clone(),
            state: self.policies_file.clone(),
            recent_bytes: self.recent_bytes,
            search: (self.search_threshold <= 1.0).then_some(search),
        }
    }
}
