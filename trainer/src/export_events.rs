//! `trainer export-events`: the event log of a run as Parquet, a file for each kind of thing.
//!
//! | file | a row | columns |
//! |---|---|---|
//! | `requests.parquet` | a request | `request_id`, `application`, `context_tokens`, `arrived_s`, `variant`, `deployed_s`, `completed_s`, `response_s`, `late`; empty from where the log ends before it |
//! | `fragments.parquet` | a fragment that ended | `request_id`, `application`, `variant`, `fragment`, `host`, `deployed_s`, `ended_s` |
//! | `hosts.parquet` | a stretch in which a host was one thing | `host`, `size`, `site`, `state`, `start_s`, `end_s`, `until_end` |
//! | `migrations.parquet` | a migration that was ordered | `request_id`, `fragment`, `from_host`, `to_host`, `strategy`, `started_s`, and, empty where the log ends before it, `ended_s`, `outcome`, `failed_step`, `cause`, `progress_lost`, `total_s`, `downtime_s`, `stall_s`, `sent_mib`, `fetched_mib`, `rounds` |
//! | `incidents.parquet` | something that nobody decided | `time_s`, `kind`, `host`, `from_site`, `to_site`, `request_id`, `application`, `until_s`; empty where they do not belong to its kind |
//! | `containers.parquet` | what a container wanted and lacked in a span of time | `container`, `host`, `start_s`, `end_s`, `demanded_vcpu_s`, `unmet_vcpu_s` |
//!
//! Requests come in the order in which they are answered, those that are not last; fragments,
//! stretches and migrations in the order in which they end; incidents and spans of containers in the
//! order of the log.
//! The last stretch of a host ends with the last event of the log, and `until_end` marks it.
//!
//! The log is read once, line by line: memory grows with the requests under way, not with the log.
//! Left out: when fragments start and wait, which the log does not tell.

mod rows;

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{BufReader, Write as _};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use datasets::table::Columns;
use datasets::{ParquetError, ParquetStream};
use twin::events::{Event, EventsError, HostState, Line, Reader};

use self::rows::{ContainerRow, Ended, IncidentRow, MigrationRow};
use crate::files::create_folder;

/// Requests, within the output folder.
pub const REQUESTS_FILE: &str = "requests.parquet";
/// Fragments that ended.
pub const FRAGMENTS_FILE: &str = "fragments.parquet";
/// Stretches of the lives of hosts.
pub const HOSTS_FILE: &str = "hosts.parquet";

/// Migrations that were ordered.
pub const MIGRATIONS_FILE: &str = "migrations.parquet";
/// What happened that nobody decided.
pub const INCIDENTS_FILE: &str = "incidents.parquet";
/// What containers wanted and lacked.
pub const CONTAINERS_FILE: &str = "containers.parquet";

/// Rows that are gathered before they are written.
const PART_ROWS: usize = 16_384;

/// Turn the event log of a run into Parquet: requests, fragments, hosts, migrations, incidents and
/// containers.
#[derive(Clone, Debug, clap::Args)]
pub struct Args {
    /// The log, as `twin simulate --events FILE` writes it.
    #[arg(value_name = "FILE")]
    pub events: PathBuf,
    /// The folder that the Parquet files go to.
    #[arg(long, value_name = "DIR")]
    pub out: PathBuf,
}

/// How many rows there are of each kind.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Exported {
    /// Requests.
    pub requests: u64,
    /// Fragments that ended.
    pub fragments: u64,
    /// Stretches of the lives of hosts.
    pub hosts: u64,
    /// Migrations that were ordered.
    pub migrations: u64,
    /// What happened that nobody decided.
    pub incidents: u64,
    /// Spans of containers.
    pub containers: u64,
}

/// Reads the log, writes the files and prints what they hold.
///
/// # Errors
///
/// As [`export`], and if standard output is closed.
pub fn run(args: &Args) -> Result<()> {
    let exported = export(&args.events, &args.out)?;
    let mut out = std::io::stdout();
    for (name, rows) in [
        (REQUESTS_FILE, exported.requests),
        (FRAGMENTS_FILE, exported.fragments),
        (HOSTS_FILE, exported.hosts),
        (MIGRATIONS_FILE, exported.migrations),
        (INCIDENTS_FILE, exported.incidents),
        (CONTAINERS_FILE, exported.containers),
    ] {
        writeln!(out, "{}: {rows} rows", args.out.join(name).display())?;
    }
    Ok(())
}

/// Reads the log `events` and writes the files into the folder `out`, which is made if it is absent.
///
/// # Errors
///
/// If the log cannot be read, a line of it is not what it should be (the message names file and
/// line), or a file cannot be written. Then none of the files is replaced.
pub fn export(events: &Path, out: &Path) -> Result<Exported> {
    let file = File::open(events).with_context(|| format!("{}: cannot read", events.display()))?;
    let mut reader = Reader::new(BufReader::new(file), &events.display().to_string())?;
    create_folder(out)?;
    let mut tables = Tables::create(out)?;
    let mut run = Run::default();
    while let Some(line) = reader.next_line()? {
        run.take(line, &mut tables, &reader)?;
    }
    run.end(&mut tables)?;
    Ok(tables.finish()?)
}

struct RequestRow {
    id: u64,
    application: String,
    context_tokens: u32,
    arrived_s: f64,
    deployed: Option<(String, f64)>,
    completed: Option<(f64, f64, bool)>,
}

struct FragmentRow {
    request: u64,
    application: String,
    variant: String,
    fragment: String,
    host: String,
    deployed_s: f64,
    ended_s: f64,
}

struct SpanRow {
    host: String,
    size: String,
    site: String,
    state: HostState,
    start_s: f64,
    end_s: f64,
    until_end: bool,
}

fn request_columns(rows: &[RequestRow]) -> Columns {
    let deployed_s = |row: &RequestRow| row.deployed.as_ref().map(|d| d.1);
    Columns::new(rows.len())
        .u64("request_id", rows.iter().map(|row| row.id))
        .text(
            "application",
            rows.iter().map(|row| row.application.as_str()),
        )
        .u32("context_tokens", rows.iter().map(|row| row.context_tokens))
        .f64("arrived_s", rows.iter().map(|row| row.arrived_s))
        .optional_text(
            "variant",
            rows.iter()
                .map(|row| row.deployed.as_ref().map(|d| d.0.as_str())),
        )
        .optional_f64("deployed_s", rows.iter().map(deployed_s))
        .optional_f64(
            "completed_s",
            rows.iter().map(|row| row.completed.map(|c| c.0)),
        )
        .optional_f64(
            "response_s",
            rows.iter().map(|row| row.completed.map(|c| c.1)),
        )
        .optional_flag("late", rows.iter().map(|row| row.completed.map(|c| c.2)))
}

fn fragment_columns(rows: &[FragmentRow]) -> Columns {
    Columns::new(rows.len())
        .u64("request_id", rows.iter().map(|row| row.request))
        .text(
            "application",
            rows.iter().map(|row| row.application.as_str()),
        )
        .text("variant", rows.iter().map(|row| row.variant.as_str()))
        .text("fragment", rows.iter().map(|row| row.fragment.as_str()))
        .text("host", rows.iter().map(|row| row.host.as_str()))
        .f64("deployed_s", rows.iter().map(|row| row.deployed_s))
        .f64("ended_s", rows.iter().map(|row| row.ended_s))
}

fn span_columns(rows: &[SpanRow]) -> Columns {
    Columns::new(rows.len())
        .text("host", rows.iter().map(|row| row.host.as_str()))
        .text("size", rows.iter().map(|row| row.size.as_str()))
        .text("site", rows.iter().map(|row| row.site.as_str()))
        .text("state", rows.iter().map(|row| row.state.name()))
        .f64("start_s", rows.iter().map(|row| row.start_s))
        .f64("end_s", rows.iter().map(|row| row.end_s))
        .flag("until_end", rows.iter().map(|row| row.until_end))
}

/// One of the files, with the rows that are not written yet.
struct Table<R> {
    stream: ParquetStream,
    rows: Vec<R>,
    count: u64,
    columns: fn(&[R]) -> Columns,
}

impl<R> Table<R> {
    fn create(path: &Path, columns: fn(&[R]) -> Columns) -> Result<Self, ParquetError> {
        Ok(Self {
            stream: ParquetStream::create(path, columns(&[]))?,
            rows: Vec::new(),
            count: 0,
            columns,
        })
    }

    fn push(&mut self, row: R) -> Result<(), ParquetError> {
        self.rows.push(row);
        self.count += 1;
        if self.rows.len() >= PART_ROWS {
            self.flush()?;
        }
        Ok(())
    }

    fn flush(&mut self) -> Result<(), ParquetError> {
        self.stream.write((self.columns)(&self.rows))?;
        self.rows.clear();
        Ok(())
    }
}

struct Tables {
    requests: Table<RequestRow>,
    fragments: Table<FragmentRow>,
    hosts: Table<SpanRow>,
    migrations: Table<MigrationRow>,
    incidents: Table<IncidentRow>,
    containers: Table<ContainerRow>,
}

impl Tables {
    fn create(out: &Path) -> Result<Self, ParquetError> {
        Ok(Self {
            requests: Table::create(&out.join(REQUESTS_FILE), request_columns)?,
            fragments: Table::create(&out.join(FRAGMENTS_FILE), fragment_columns)?,
            hosts: Table::create(&out.join(HOSTS_FILE), span_columns)?,
            migrations: Table::create(&out.join(MIGRATIONS_FILE), rows::migrations)?,
            incidents: Table::create(&out.join(INCIDENTS_FILE), rows::incidents)?,
            containers: Table::create(&out.join(CONTAINERS_FILE), rows::containers)?,
        })
    }

    fn finish(mut self) -> Result<Exported, ParquetError> {
        self.requests.flush()?;
        self.fragments.flush()?;
        self.hosts.flush()?;
        self.migrations.flush()?;
        self.incidents.flush()?;
        self.containers.flush()?;
        let exported = Exported {
            requests: self.requests.count,
            fragments: self.fragments.count,
            hosts: self.hosts.count,
            migrations: self.migrations.count,
            incidents: self.incidents.count,
            containers: self.containers.count,
        };
        self.requests.stream.finish()?;
        self.fragments.stream.finish()?;
        self.hosts.stream.finish()?;
        self.migrations.stream.finish()?;
        self.incidents.stream.finish()?;
        self.containers.stream.finish()?;
        Ok(exported)
    }
}

/// A host, and the stretch of its life that has begun.
struct Life {
    size: String,
    site: String,
    state: HostState,
    start_s: f64,
}

impl Life {
    /// Ends a stretch, unless the host was that for no time at all, and begins the next.
    fn change(
        &mut self,
        host: &str,
        (state, start_s): (HostState, f64),
        tables: &mut Tables,
    ) -> Result<(), ParquetError> {
        if start_s > self.start_s {
            tables.hosts.push(self.row(host, start_s, false))?;
        }
        (self.state, self.start_s) = (state, start_s);
        Ok(())
    }

    fn row(&self, host: &str, end_s: f64, until_end: bool) -> SpanRow {
        SpanRow {
            host: host.to_owned(),
            size: self.size.clone(),
            site: self.site.clone(),
            state: self.state,
            start_s: self.start_s,
            end_s,
            until_end,
        }
    }
}

/// What is under way.
#[derive(Default)]
struct Run {
    requests: BTreeMap<u64, RequestRow>,
    hosts: BTreeMap<String, Life>,
    /// Migrations under way, by request and fragment.
    migrations: BTreeMap<(u64, String), MigrationRow>,
    last_s: f64,
}

impl Run {
    /// Takes the next line in.
    fn take<R: std::io::BufRead>(
        &mut self,
        line: Line,
        tables: &mut Tables,
        reader: &Reader<R>,
    ) -> Result<()> {
        self.last_s = line.time_s;
        let time_s = line.time_s;
        if let Some(incident) = IncidentRow::of(time_s, &line.event) {
            tables.incidents.push(incident)?;
        }
        match line.event {
            Event::Started { .. } => {}
            Event::Host {
                host,
                size,
                site,
                state,
            } => self.begin(host, size, site, (state, time_s), reader)?,
            Event::Arrived {
                request,
                application,
                context_tokens,
            } => {
                self.arrive((request, application), context_tokens, (time_s, reader))?;
            }
            Event::Deployed {
                request, variant, ..
            } => {
                let row = self.requests.get_mut(&request);
                let row = row.ok_or_else(|| unknown(reader, "request", &request))?;
                row.deployed = Some((variant, time_s));
            }
            Event::FragmentDone {
                request,
                fragment,
                host,
            } => {
                let row = self.requests.get(&request);
                let row = row.ok_or_else(|| unknown(reader, "request", &request))?;
                tables
                    .fragments
                    .push(ended(row, fragment, host, time_s, reader)?)?;
            }
            Event::Completed {
                request,
                response_s,
                late,
                ..
            } => {
                let row = self.requests.remove(&request);
                let mut row = row.ok_or_else(|| unknown(reader, "request", &request))?;
                row.completed = Some((time_s, response_s, late));
                tables.requests.push(row)?;
            }
            Event::Withdrawn { request } => {
                let row = self.requests.get_mut(&request);
                row.ok_or_else(|| unknown(reader, "request", &request))?
                    .deployed = None;
            }
            Event::Rejected { request, .. } => {
                let row = self.requests.remove(&request);
                let row = row.ok_or_else(|| unknown(reader, "request", &request))?;
                tables.requests.push(row)?;
            }
            event => self.take_of_fleet(event, time_s, tables, reader)?,
        }
        Ok(())
    }

    /// Takes in what happened to hosts, migrations and containers.
    fn take_of_fleet<R: std::io::BufRead>(
        &mut self,
        event: Event,
        time_s: f64,
        tables: &mut Tables,
        reader: &Reader<R>,
    ) -> Result<()> {
        match event {
            Event::Lifecycle { host, state, .. } => {
                let life = self.hosts.get_mut(&host);
                let life = life.ok_or_else(|| unknown(reader, "host", &host))?;
                life.change(&host, (state, time_s), tables)?;
            }
            Event::MigrationStarted { .. } | Event::MigrationEnded { .. } => {
                self.migrate(time_s, event, tables, reader)?;
            }
            Event::Container {
                container,
                host,
                span_s,
                demanded_vcpu_s,
                unmet_vcpu_s,
            } => tables.containers.push(ContainerRow {
                container,
                host,
                start_s: time_s - span_s,
                end_s: time_s,
                demanded_vcpu_s,
                unmet_vcpu_s,
            })?,
            // Requests are taken in above, and what the others do to requests and hosts has events of
            // its own.
            _ => {}
        }
        Ok(())
    }

    /// Notes a migration that begins, or writes one that has ended.
    fn migrate<R: std::io::BufRead>(
        &mut self,
        time_s: f64,
        event: Event,
        tables: &mut Tables,
        reader: &Reader<R>,
    ) -> Result<()> {
        match event {
            Event::MigrationStarted {
                request,
                fragment,
                from,
                to,
                strategy,
            } => {
                let key = (request, fragment.clone());
                let row = MigrationRow {
                    request,
                    fragment,
                    from,
                    to,
                    strategy,
                    started_s: time_s,
                    ended: None,
                };
                if let Some(before) = self.migrations.insert(key, row) {
                    let problem = format!("{} of request {request} moves already", before.fragment);
                    return Err(reader.wrong(problem).into());
                }
            }
            event => {
                let Some((key, ended)) = Ended::of(time_s, event) else {
                    return Ok(());
                };
                let row = self.migrations.remove(&key);
                let mut row =
                    row.ok_or_else(|| unknown(reader, "a migration of request", &key.0))?;
                row.ended = Some(ended);
                tables.migrations.push(row)?;
            }
        }
        Ok(())
    }

    /// Notes a request that arrived.
    fn arrive<R: std::io::BufRead>(
        &mut self,
        (request, application): (u64, String),
        context_tokens: u32,
        (time_s, reader): (f64, &Reader<R>),
    ) -> Result<(), EventsError> {
        let row = RequestRow {
            id: request,
            application,
            context_tokens,
            arrived_s: time_s,
            deployed: None,
            completed: None,
        };
        match self.requests.insert(request, row) {
            None => Ok(()),
            Some(_) => Err(reader.wrong(format!("request {request} arrives twice"))),
        }
    }

    /// Notes a host as it is at the start.
    fn begin<R: std::io::BufRead>(
        &mut self,
        host: String,
        size: String,
        site: String,
        (state, start_s): (HostState, f64),
        reader: &Reader<R>,
    ) -> Result<(), EventsError> {
        if self.hosts.contains_key(&host) {
            return Err(reader.wrong(format!("host {host} is there twice")));
        }
        let life = Life {
            size,
            site,
            state,
            start_s,
        };
        self.hosts.insert(host, life);
        Ok(())
    }

    /// Writes what is under way when the log ends.
    fn end(self, tables: &mut Tables) -> Result<(), ParquetError> {
        for row in self.requests.into_values() {
            tables.requests.push(row)?;
        }
        for row in self.migrations.into_values() {
            tables.migrations.push(row)?;
        }
        for (host, life) in &self.hosts {
            tables.hosts.push(life.row(host, self.last_s, true))?;
        }
        Ok(())
    }
}

fn ended<R: std::io::BufRead>(
    row: &RequestRow,
    fragment: String,
    host: String,
    ended_s: f64,
    reader: &Reader<R>,
) -> Result<FragmentRow, EventsError> {
    let Some((variant, deployed_s)) = &row.deployed else {
        return Err(reader.wrong(format!(
            "a fragment of request {} ends, which was not deployed",
            row.id
        )));
    };
    Ok(FragmentRow {
        request: row.id,
        application: row.application.clone(),
        variant: variant.clone(),
        fragment,
        host,
        deployed_s: *deployed_s,
        ended_s,
    })
}

fn unknown<R: std::io::BufRead>(
    reader: &Reader<R>,
    kind: &str,
    name: &dyn std::fmt::Display,
) -> EventsError {
    reader.wrong(format!(
        "{kind} {name} is not known here: an earlier line is missing; write the log again with \
         `twin simulate --events FILE`"
    ))
}
