//! `trainer export-decisions`: the decision log of a service as Parquet, a file for each kind of
//! thing.
//!
//! | file | a row | columns |
//! |---|---|---|
//! | `decisions.parquet` | a decision | `decision_id`, `answered_at_ns`, `world_sha256`, `stateless`, `client`, `candidate`, `asked_policy`, `model_sha256`, `policy`, `fallback`, `fallback_reason`, `outside_share`, `searched`, `decision_time_us`, `boundary`, `fleet_now_ns`, `hosts`, `requests`, `waiting`, `power_actions`, `deployments`, `migrations`; with `--json` also `request_json`, `response_json` |
//! | `actions.parquet` | an action, of a deployment each fragment | `decision_id`, `kind` (`power`, `deploy` or `migrate`), `host` (which is turned, placed on or moved to, by its position in the world), `on`, `request_id`, `variant`, `fragment`, `strategy`; empty where they do not belong to its kind |
//! | `outcomes.parquet` | what became of a request, as it was told | `decision_id`, `request_id`, `told_at_ns`, `answered`, `response_s`, `late`; of several for one decision and request the last holds |
//!
//! Rows come in the order of the log. Times are in ns since 1970 by the wall clock of the service,
//! but for `fleet_now_ns`, which is the fleet's own. What a request or a response does not tell is
//! empty: a stateful request has no `hosts`, `requests` and `waiting`.
//!
//! The log is read once, without a lock, and may be that of a running service: what is written
//! meanwhile may be exported or not, and the end that is not whole yet is told and left out. Damage
//! before it is an error that names the segment, unless it is to be skipped. Memory does not grow
//! with the log.
//!
//! Left out: records of other kinds, which `infer log export` tells; the states of stateful
//! decisions, which [`crate::label_log`] rebuilds.

mod rows;

use std::io::Write as _;
use std::path::{Path, PathBuf};

use anyhow::Result;
use thiserror::Error;
use twin::decision_log::{Damage, DecisionId, DecisionRow, LogError, OutcomeRow, Row, Rows};

use self::rows::FlatAction;
use crate::files::create_folder;
use crate::progress::Progress;
use crate::tables::Table;

/// Decisions, within the output folder.
pub const DECISIONS_FILE: &str = "decisions.parquet";
/// Their actions.
pub const ACTIONS_FILE: &str = "actions.parquet";
/// What became of requests.
pub const OUTCOMES_FILE: &str = "outcomes.parquet";

/// Turn the decision log of a service into Parquet: decisions, their actions and outcomes.
#[derive(Clone, Debug, clap::Args)]
pub struct Args {
    /// Folder of the log, as `infer serve --log-folder` keeps it; the service may be running.
    #[arg(value_name = "LOG")]
    pub log: PathBuf,
    /// The folder that the Parquet files go to.
    #[arg(long, value_name = "DIR")]
    pub out: PathBuf,
    /// Only records behind this one.
    #[arg(long, value_name = "ID")]
    pub after: Option<DecisionId>,
    /// Also what was asked and answered, as JSON: states are long.
    #[arg(long)]
    pub json: bool,
    /// Pass over what is damaged or not of the schema, and tell it.
    #[arg(long)]
    pub skip_damage: bool,
}

/// How many rows there are of each kind.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Exported {
    /// Decisions.
    pub decisions: u64,
    /// Actions; of a deployment each fragment.
    pub actions: u64,
    /// Outcomes, as often as they were told.
    pub outcomes: u64,
    /// Stretches of damage and records not of the schema that were passed over.
    pub skipped: u64,
}

/// Why a log is not exported.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum ExportError {
    /// A part of it cannot be read.
    #[error("{0}; give --skip-damage to export the rest")]
    Damaged(Damage),
    /// A record is whole, but not of the schema.
    #[error("{}: {problem}; give --skip-damage to export the rest", log.display())]
    Unreadable {
        /// The log.
        log: PathBuf,
        /// Which record, and what is wrong.
        problem: String,
    },
}

/// Reads the log, writes the files and prints what they hold.
///
/// # Errors
///
/// As [`export`], and if standard output is closed.
pub fn run(args: &Args) -> Result<()> {
    let exported = export(args)?;
    let mut out = std::io::stdout();
    for (name, rows) in [
        (DECISIONS_FILE, exported.decisions),
        (ACTIONS_FILE, exported.actions),
        (OUTCOMES_FILE, exported.outcomes),
    ] {
        writeln!(out, "{}: {rows} rows", args.out.join(name).display())?;
    }
    Ok(())
}

/// Reads the log and writes the files into the output folder, which is made if it is absent.
///
/// # Errors
///
/// If the log cannot be read, a part of it is damaged or not of the schema (the message names the
/// segment or record) and is not to be skipped, or a file cannot be written. Then none of the files
/// is replaced.
pub fn export(args: &Args) -> Result<Exported> {
    let from = args.after.map_or(0, |id| id.0.saturating_add(1));
    let mut rows = Rows::open(&args.log, from)?;
    let progress = Progress::new("export-decisions", rows.reader().bytes_ahead()?);
    create_folder(&args.out)?;
    let mut tables = Tables::create(&args.out, args.json)?;
    let mut seen = 0;
    loop {
        let next = rows.next_row();
        if !args.skip_damage {
            check(&rows, &args.log)?;
        }
        let Some(row) = next? else {
            break;
        };
        tables.take(row, args.json)?;
        progress.add(rows.reader().bytes() - seen);
        seen = rows.reader().bytes();
    }
    tell(&rows, &progress);
    let skipped = rows.reader().damaged() + rows.unreadable();
    Ok(Exported {
        skipped,
        ..tables.finish()?
    })
}

/// Whether everything so far could be read.
fn check(rows: &Rows, log: &Path) -> Result<(), ExportError> {
    if let Some(damage) = rows.reader().damage().first() {
        return Err(ExportError::Damaged(damage.clone()));
    }
    match rows.first_unreadable() {
        Some(problem) => Err(unreadable(log, problem)),
        None => Ok(()),
    }
}

fn unreadable(log: &Path, problem: &LogError) -> ExportError {
    ExportError::Unreadable {
        log: log.to_path_buf(),
        problem: problem.to_string(),
    }
}

/// Tells what is not in the files.
fn tell(rows: &Rows, progress: &Progress) {
    let reader = rows.reader();
    for damage in reader.damage() {
        progress.say(&format!("skipped: {damage}"));
    }
    if let Some(problem) = rows.first_unreadable() {
        let count = rows.unreadable();
        progress.say(&format!(
            "skipped: {count} records not of the schema, the first: {problem}"
        ));
    }
    if let Some(tail) = reader.tail() {
        progress.say(&format!(
            "the end is being written, or was cut off by a crash: {tail}"
        ));
    }
}

struct Tables {
    decisions: Table<DecisionRow>,
    actions: Table<FlatAction>,
    outcomes: Table<OutcomeRow>,
}

impl Tables {
    fn create(out: &Path, json: bool) -> Result<Self> {
        let decisions = if json {
            rows::decisions_with_json
        } else {
            rows::decisions
        };
        Ok(Self {
            decisions: Table::create(&out.join(DECISIONS_FILE), decisions)?,
            actions: Table::create(&out.join(ACTIONS_FILE), rows::actions)?,
            outcomes: Table::create(&out.join(OUTCOMES_FILE), rows::outcomes)?,
        })
    }

    fn take(&mut self, row: Row, json: bool) -> Result<()> {
        match row {
            Row::Outcome(row) => self.outcomes.push(row)?,
            Row::Decision(mut row) => {
                if !json {
                    (row.request_json, row.response_json) = (String::new(), String::new());
                }
                for action in FlatAction::all(&row) {
                    self.actions.push(action)?;
                }
                let bytes = row.request_json.len() + row.response_json.len();
                self.decisions.push_sized(*row, bytes)?;
            }
        }
        Ok(())
    }

    fn finish(self) -> Result<Exported> {
        let files = [
            self.decisions.end()?,
            self.actions.end()?,
            self.outcomes.end()?,
        ];
        let [decisions, actions, outcomes] = [0, 1, 2].map(|file: usize| files[file].count);
        for file in files {
            file.finish()?;
        }
        Ok(Exported {
            decisions,
            actions,
            outcomes,
            skipped: 0,
        })
    }
}
