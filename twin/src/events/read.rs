//! Reads the event log of a run, line by line.

use std::io::BufRead;

use serde::Deserialize;
use thiserror::Error;

use super::SCHEMA;
use crate::migration::{Cause, Step, StrategyKind};

/// The longest line that is read, in bytes; a line of the largest world is shorter.
const LONGEST_LINE: u64 = 1 << 20;

/// Why an event log cannot be read.
#[derive(Debug, Error)]
pub enum EventsError {
    /// The file cannot be read.
    #[error("{path}: cannot read: {source}")]
    Read {
        /// The file.
        path: String,
        /// The reason.
        source: std::io::Error,
    },
    /// A line is not what it should be.
    #[error("{path}:{line}: {problem}")]
    Line {
        /// The file.
        path: String,
        /// The line, from one.
        line: u64,
        /// What is wrong with it.
        problem: String,
    },
}

/// One line.
#[derive(Clone, Debug, PartialEq, Deserialize)]
pub struct Line {
    /// Time since the start, in s.
    pub time_s: f64,
    /// What happened.
    #[serde(flatten)]
    pub event: Event,
}

/// What happened.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(tag = "event", rename_all = "kebab-case")]
pub enum Event {
    /// The first line.
    Started {
        /// Version of the format.
        schema: u32,
        /// Name of the world.
        world: String,
        /// Hash of the world.
        world_hash: String,
    },
    /// A host as it is at the start.
    Host {
        /// Its name.
        host: String,
        /// Name of its size.
        size: String,
        /// Name of its site.
        site: String,
        /// Its state.
        state: HostState,
    },
    /// A request arrived.
    Arrived {
        /// Its number.
        request: u64,
        /// What it asks for.
        application: String,
        /// Length of its input, in tokens.
        context_tokens: u32,
    },
    /// A request was deployed.
    Deployed {
        /// Its number.
        request: u64,
        /// What it asks for.
        application: String,
        /// The variant.
        variant: String,
        /// One host a fragment.
        hosts: Vec<String>,
    },
    /// A fragment ended.
    FragmentDone {
        /// Number of its request.
        request: u64,
        /// The fragment.
        fragment: String,
        /// Where it ran.
        host: String,
    },
    /// A request was answered.
    Completed {
        /// Its number.
        request: u64,
        /// What it asked for.
        application: String,
        /// The variant that answered.
        variant: String,
        /// Time from arrival to answer, in s.
        response_s: f64,
        /// Whether that is beyond the deadline.
        late: bool,
    },
    /// A host changed its state.
    Lifecycle {
        /// The host.
        host: String,
        /// The state.
        state: HostState,
        /// When a host that boots will serve, in s.
        #[serde(default)]
        ready_at_s: Option<f64>,
    },
    /// A migration was ordered.
    MigrationStarted {
        /// Number of the request.
        request: u64,
        /// The fragment.
        fragment: String,
        /// The source.
        from: String,
        /// The destination.
        to: String,
        /// The order of things.
        strategy: StrategyKind,
    },
    /// A migration ended.
    MigrationEnded {
        /// Number of the request.
        request: u64,
        /// The fragment.
        fragment: String,
        /// The source.
        from: String,
        /// The destination.
        to: String,
        /// The order of things.
        strategy: StrategyKind,
        /// What came of it.
        outcome: MigrationOutcome,
        /// At which step it failed.
        #[serde(default)]
        step: Option<Step>,
        /// Why it failed.
        #[serde(default)]
        cause: Option<Cause>,
        /// Whether the fragment's progress was lost with it.
        #[serde(default)]
        lost: Option<bool>,
        /// Its length from the first stage to the last, in s.
        total_s: f64,
        /// The part of it in which the fragment was paused, in s.
        downtime_s: f64,
        /// The part that the fragment lost to memory that had not come, in s.
        stall_s: f64,
        /// Memory and execution state sent, in MiB.
        sent_mib: f64,
        /// Image layers fetched, in MiB.
        fetched_mib: f64,
        /// Rounds of copying while it ran.
        rounds: u32,
    },
    /// A host crashed.
    HostCrashed {
        /// The host.
        host: String,
    },
    /// A slow spell of a host began.
    HostSlow {
        /// The host.
        host: String,
        /// When it ends, in s.
        until_s: f64,
    },
    /// A link went down.
    LinkDown {
        /// Site that transfers come from.
        from: String,
        /// Site that they go to.
        to: String,
        /// When it comes back, in s.
        until_s: f64,
    },
    /// A host that was started found no room in the cloud.
    AllocationFailed {
        /// The host.
        host: String,
    },
    /// A request lost what ran for it, and waits again.
    Withdrawn {
        /// Its number.
        request: u64,
    },
    /// A request was turned away on arrival.
    Rejected {
        /// Its number.
        request: u64,
        /// What it asked for.
        application: String,
    },
    /// What a container wanted and lacked.
    Container {
        /// The container.
        container: String,
        /// Where it runs.
        host: String,
        /// In this time up to now, in s.
        span_s: f64,
        /// What it wanted, in seconds of a virtual CPU.
        demanded_vcpu_s: f64,
        /// What of that it did not get at its moment, in seconds of a virtual CPU.
        unmet_vcpu_s: f64,
    },
}

/// What came of a migration.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum MigrationOutcome {
    /// The fragment is at the destination.
    Succeeded,
    /// A fault, or a host that was lost.
    Failed,
    /// It found no room.
    Canceled,
    /// The fragment ended first.
    ContainerEnded,
}

/// The state of a host.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum HostState {
    /// Off.
    Off,
    /// Starting.
    Booting,
    /// Serving.
    On,
    /// Serving what it has, then off.
    Draining,
}

impl HostState {
    /// Its name.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Off => "off",
            Self::Booting => "booting",
            Self::On => "on",
            Self::Draining => "draining",
        }
    }
}

/// What the first line of a log says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Log {
    /// Name of the world.
    pub world: String,
    /// Hash of the world.
    pub world_hash: String,
}

/// Reads a log line by line; it holds one line at a time.
///
/// ```
/// use twin::events::{Event, Reader};
///
/// let text = r#"{"time_s":0,"event":"started","schema":1,"world":"w","world_hash":"0"}
/// {"time_s":1.5,"event":"arrived","request":0,"application":"a","context_tokens":3}
/// "#;
/// let mut reader = Reader::new(text.as_bytes(), "events.jsonl")?;
/// let line = reader.next_line()?.expect("there is one more line");
/// assert!(matches!(line.event, Event::Arrived { request: 0, .. }));
/// assert_eq!(reader.next_line()?, None);
/// # Ok::<(), twin::events::EventsError>(())
/// ```
#[derive(Debug)]
pub struct Reader<R> {
    source: R,
    path: String,
    number: u64,
    text: Vec<u8>,
    last_s: f64,
    log: Log,
}

impl<R: BufRead> Reader<R> {
    /// Reads the first line; `path` names the log in errors.
    ///
    /// # Errors
    ///
    /// If it cannot be read or is not the first line of a log of this version.
    pub fn new(source: R, path: &str) -> Result<Self, EventsError> {
        let mut reader = Self {
            source,
            path: path.to_owned(),
            number: 0,
            text: Vec::new(),
            last_s: 0.0,
            log: Log {
                world: String::new(),
                world_hash: String::new(),
            },
        };
        let first = reader.parsed()?;
        match first.map(|line| line.event) {
            Some(Event::Started {
                schema: SCHEMA,
                world,
                world_hash,
            }) => {
                reader.log = Log { world, world_hash };
                Ok(reader)
            }
            Some(Event::Started { schema, .. }) => Err(reader.wrong(format!(
                "this program reads version {SCHEMA} of event logs, found {schema}"
            ))),
            _ => Err(reader.wrong(
                "an event log begins with `started`; `twin simulate --events FILE` writes one"
                    .into(),
            )),
        }
    }

    /// What the first line says.
    pub fn log(&self) -> &Log {
        &self.log
    }

    /// The next event; `None` at the end.
    ///
    /// # Errors
    ///
    /// If the line cannot be read, is not an event, or is earlier than the one before.
    pub fn next_line(&mut self) -> Result<Option<Line>, EventsError> {
        let Some(line) = self.parsed()? else {
            return Ok(None);
        };
        if matches!(line.event, Event::Started { .. }) {
            return Err(self.wrong("`started` is the first line only; give one log a file".into()));
        }
        if !(line.time_s.is_finite() && line.time_s >= self.last_s) {
            let (time_s, last_s) = (line.time_s, self.last_s);
            return Err(self.wrong(format!(
                "time_s is {time_s}, before that of the line above, {last_s}"
            )));
        }
        self.last_s = line.time_s;
        Ok(Some(line))
    }

    fn parsed(&mut self) -> Result<Option<Line>, EventsError> {
        self.text.clear();
        self.number += 1;
        let read = std::io::Read::take(&mut self.source, LONGEST_LINE)
            .read_until(b'\n', &mut self.text)
            .map_err(|source| EventsError::Read {
                path: self.path.clone(),
                source,
            })?;
        if read == 0 {
            return Ok(None);
        }
        if read as u64 == LONGEST_LINE {
            return Err(self.wrong(format!("is longer than {LONGEST_LINE} bytes")));
        }
        serde_json::from_slice(&self.text)
            .map(Some)
            .map_err(|error| {
                let last = if self.text.ends_with(b"\n") {
                    ""
                } else {
                    "; the log ends in the middle of it, so the run may have been killed"
                };
                // The position that serde tells is within the line.
                let message = error.to_string();
                let message = message.split(" at line ").next().unwrap_or_default();
                self.wrong(format!("is no event: {message}{last}"))
            })
    }

    /// An error about the line that was read last.
    pub fn wrong(&self, problem: String) -> EventsError {
        EventsError::Line {
            path: self.path.clone(),
            line: self.number,
            problem,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const STARTED: &str =
        r#"{"time_s":0,"event":"started","schema":1,"world":"w","world_hash":"0"}"#;

    #[track_caller]
    fn check(lines: &[&str], expected: &str) {
        let text = lines.join("\n");
        let read = || -> Result<(), EventsError> {
            let mut reader = Reader::new(text.as_bytes(), "log.jsonl")?;
            while reader.next_line()?.is_some() {}
            Ok(())
        };
        assert_eq!(read().expect_err("the log is wrong").to_string(), expected);
    }

    #[test]
    fn errors_name_the_line() {
        check(
            &[""],
            "log.jsonl:1: an event log begins with `started`; `twin simulate --events FILE` writes one",
        );
        check(
            &[&STARTED.replace("\"schema\":1", "\"schema\":9")],
            "log.jsonl:1: this program reads version 1 of event logs, found 9",
        );
        check(
            &[STARTED, r#"{"time_s":1,"event":"evaporated"}"#],
            "log.jsonl:2: is no event: unknown variant `evaporated`, expected one of `started`, `host`, \
             `arrived`, `deployed`, `fragment-done`, `completed`, `lifecycle`, `migration-started`, \
             `migration-ended`, `host-crashed`, `host-slow`, `link-down`, `allocation-failed`, \
             `withdrawn`, `rejected`, `container`; the log ends in the middle of it, so the run may have been killed",
        );
        let arrived =
            r#"{"time_s":2,"event":"arrived","request":0,"application":"a","context_tokens":0}"#;
        check(
            &[STARTED, arrived, &arrived.replace(":2,", ":1,"), ""],
            "log.jsonl:3: time_s is 1, before that of the line above, 2",
        );
        check(
            &[STARTED, STARTED, ""],
            "log.jsonl:2: `started` is the first line only; give one log a file",
        );
        check(
            &[STARTED, &arrived[..30]],
            "log.jsonl:2: is no event: EOF while parsing a value; the log ends in the middle of it, \
             so the run may have been killed",
        );
    }
}
