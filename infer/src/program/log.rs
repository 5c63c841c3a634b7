//! `infer log`.

use std::io::{self, BufWriter, ErrorKind, Write};
use std::path::PathBuf;

use anyhow::{Context, Result};
use clap::{Subcommand, ValueEnum};
use twin::decision_log::{Damage, DecisionId, Kind, LogError, Reader, Record};

use crate::log::view::{DecisionView, RecordView, time};

/// Records that `infer log list` tells unless it is asked for more.
const LISTED: usize = 50;

/// The exit code for an error of a log.
pub(super) fn exit_code(error: &LogError) -> u8 {
    match error {
        LogError::Locked { .. } => 75,
        LogError::Settings { .. } => 64,
        LogError::Version { .. } | LogError::Entry { .. } => 65,
        LogError::Full { .. } => 69,
        _ => 1,
    }
}

/// Read a log of decisions.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Read every record and tell what is damaged; exit code 65 if anything is
    Check {
        /// Folder of the log
        folder: PathBuf,
    },
    /// List records, the oldest first: id, time, kind, bytes
    List {
        /// Folder of the log
        folder: PathBuf,
        /// Only records of this kind, as `decision`
        #[arg(long, value_parser = kind)]
        kind: Option<Kind>,
        /// Only records behind this one
        #[arg(long, value_name = "ID")]
        after: Option<DecisionId>,
        /// The most records
        #[arg(long, value_name = "N", default_value_t = LISTED)]
        limit: usize,
    },
    /// Print one record as JSON
    Show {
        /// Folder of the log
        folder: PathBuf,
        /// Its id
        id: DecisionId,
    },
    /// Print all records, one a line
    Export {
        /// Folder of the log
        folder: PathBuf,
        /// How
        #[arg(long, value_enum, default_value_t = Export::Jsonl)]
        format: Export,
        /// Only records of this kind, as `decision`
        #[arg(long, value_parser = kind)]
        kind: Option<Kind>,
        /// Only records behind this one
        #[arg(long, value_name = "ID")]
        after: Option<DecisionId>,
    },
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Export {
    /// JSON Lines
    Jsonl,
}

fn kind(name: &str) -> Result<Kind, String> {
    Kind::named(name).ok_or_else(|| {
        let names: Vec<&str> = twin::decision_log::KINDS.iter().map(|k| k.2).collect();
        format!("must be one of {}", names.join(", "))
    })
}

/// Runs `infer log`.
pub(super) fn run(args: &Args) -> Result<()> {
    let mut out = BufWriter::new(io::stdout().lock());
    let done = match &args.command {
        Command::Check { folder } => check(&mut reader(folder, None)?, &mut out),
        Command::List {
            folder,
            kind,
            after,
            limit,
        } => {
            let mut reader = reader(folder, *after)?;
            list(&mut reader, *kind, *limit, &mut out)
        }
        Command::Show { folder, id } => show(folder, *id, &mut out),
        Command::Export {
            folder,
            format: Export::Jsonl,
            kind,
            after,
        } => {
            let mut reader = reader(folder, *after)?;
            export(&mut reader, *kind, &mut out)
        }
    };
    match done.and_then(|()| Ok(out.flush()?)) {
        // Who read the output has seen enough of it.
        Err(error)
            if error
                .downcast_ref::<io::Error>()
                .is_some_and(|e| e.kind() == ErrorKind::BrokenPipe) =>
        {
            Ok(())
        }
        other => other,
    }
}

fn reader(folder: &std::path::Path, after: Option<DecisionId>) -> Result<Reader> {
    let from = after.map_or(0, |id| id.0.saturating_add(1));
    Ok(Reader::open(folder, from)?)
}

fn check(reader: &mut Reader, out: &mut impl Write) -> Result<()> {
    let mut counts = [0_u64; twin::decision_log::KINDS.len()];
    let mut unreadable = 0_u64;
    let mut first_unreadable = None;
    let mut told = 0;
    let mut ends: Option<(u64, u64)> = None;
    while let Some(record) = reader.next_record()? {
        let sequence = record.sequence;
        ends = Some((ends.map_or(sequence, |e| e.0), sequence));
        match record.entry() {
            Ok(entry) => {
                let kind = entry.kind();
                let kinds = twin::decision_log::KINDS.iter();
                for (count, _) in counts.iter_mut().zip(kinds).filter(|(_, k)| k.0 == kind) {
                    *count += 1;
                }
            }
            Err(error) => {
                unreadable += 1;
                first_unreadable.get_or_insert(error);
            }
        }
        told = tell_damage(reader.damage(), told, out)?;
    }
    tell_damage(reader.damage(), told, out)?;
    if let Some(tail) = reader.tail() {
        writeln!(out, "unfinished: {tail}")?;
    }
    if let Some((first, last)) = ends {
        writeln!(out, "records {} to {}", DecisionId(first), DecisionId(last))?;
    }
    for (count, (_, _, name)) in counts.iter().zip(twin::decision_log::KINDS) {
        if *count > 0 {
            writeln!(out, "{name}: {count}")?;
        }
    }
    writeln!(out, "damaged: {}", reader.damaged())?;
    out.flush()?;
    if let Some(error) = first_unreadable {
        return Err(error).with_context(|| format!("{unreadable} records are not of the schema"));
    }
    match reader.damage().first() {
        Some(damage) => Err(LogError::Entry {
            sequence: damage.first,
            problem: format!("the log is damaged in {} places", reader.damaged()),
        }
        .into()),
        None => Ok(()),
    }
}

/// Tells the damage that has not been told; how much has been.
fn tell_damage(damage: &[Damage], told: usize, out: &mut impl Write) -> Result<usize> {
    for damage in &damage[told..] {
        writeln!(out, "damaged: {damage}")?;
    }
    Ok(damage.len())
}

fn list(reader: &mut Reader, kind: Option<Kind>, limit: usize, out: &mut impl Write) -> Result<()> {
    let mut left = limit;
    while left > 0
        && let Some(record) = reader.next_record()?
    {
        if !is_of(&record, kind) {
            continue;
        }
        left -= 1;
        writeln!(
            out,
            "{}  {}  {:<10}  {}",
            DecisionId(record.sequence),
            time(record.at_ns),
            record.kind().map_or("unknown", Kind::name),
            record.payload.len()
        )?;
    }
    Ok(())
}

fn is_of(record: &Record<'_>, kind: Option<Kind>) -> bool {
    kind.is_none_or(|kind| record.kind() == Some(kind))
}

fn show(folder: &std::path::Path, id: DecisionId, out: &mut impl Write) -> Result<()> {
    let mut reader = Reader::open(folder, id.0)?;
    let Some(record) = reader.next_record()?.filter(|r| r.sequence == id.0) else {
        let missing = io::Error::new(ErrorKind::NotFound, "there is no such record");
        return Err(missing).with_context(|| format!("{}: {id}", folder.display()));
    };
    let text = match record.kind() {
        Some(Kind::Decision) => serde_json::to_string_pretty(&DecisionView::new(&record, &[])?)?,
        _ => serde_json::to_string_pretty(&RecordView::new(&record)?)?,
    };
    writeln!(out, "{text}")?;
    Ok(())
}

fn export(reader: &mut Reader, kind: Option<Kind>, out: &mut impl Write) -> Result<()> {
    while let Some(record) = reader.next_record()? {
        if is_of(&record, kind) {
            serde_json::to_writer(&mut *out, &RecordView::new(&record)?)
                .map_err(io::Error::from)?;
            out.write_all(b"\n")?;
        }
    }
    for damage in reader.damage() {
        // Standard output holds nothing but records.
        let _ = writeln!(io::stderr(), "warning: {damage}");
    }
    Ok(())
}
