//! The telemetry that the twin reads: JSON Lines, one record a line.
//!
//! Two kinds of record, told apart by their only key:
//!
//! - `{"host": {"time_s": 10, "span_s": 5, "host": 3, "on": true, "utilization": 0.31,
//!   "power_w": 89.9, "running": {"blur": 2}}}`: what host 3 of the world showed in the five
//!   seconds that end at 10 s, and how many tasks of each application were on it;
//! - `{"task": {"application": "blur", "variant": "layer", "fragment": 0, "host": 3,
//!   "started_s": 2.5, "finished_s": 9}}`: a fragment that ended.
//!
//! Hosts and fragments are positions in the world's lists, applications and variants go by name,
//! as in [`wire`](crate::wire). Records come in order of `time_s` and `finished_s`; a host's record
//! precedes those of tasks that ended in its span.
//!
//! Left out: memory, network and queues.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::world::{MAX_APPLICATIONS, MAX_HOSTS};

/// The most bytes of a line.
pub const MAX_LINE_BYTES: usize = 64 << 10;
/// The most records that are read from one text.
pub const MAX_RECORDS: usize = 50_000_000;
/// The most tasks of an application on one host.
pub const MAX_RUNNING: u32 = 1_000_000;
/// The latest time, in s: some thirty years.
pub const MAX_TIME_S: f64 = 1e9;
/// The most power of a host, in W.
pub const MAX_POWER_W: f64 = 1e6;
/// The most tokens of a request.
pub const MAX_TOKENS: u32 = 100_000_000;

/// One observation of the real fleet.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Record {
    /// What a host showed.
    Host(HostRecord),
    /// What became of a task.
    Task(TaskRecord),
}

/// What a host showed over a span of time.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct HostRecord {
    /// End of the span, in s.
    pub time_s: f64,
    /// Length of the span, in s.
    pub span_s: f64,
    /// The host: its position in the world.
    pub host: u32,
    /// Whether it was on.
    pub on: bool,
    /// Share of its virtual CPUs in use, between 0 and 1.
    pub utilization: f64,
    /// Measured power, in W, where there is a meter.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub power_w: Option<f64>,
    /// Tasks on it by application.
    #[serde(default)]
    pub running: BTreeMap<String, u32>,
}

/// A fragment of a request that ended.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TaskRecord {
    /// Name of the application.
    pub application: String,
    /// Name of the variant.
    pub variant: String,
    /// Position of the fragment in the variant.
    pub fragment: u32,
    /// The host that ran it: its position in the world.
    pub host: u32,
    /// When it started, in s.
    pub started_s: f64,
    /// When it ended, in s.
    pub finished_s: f64,
    /// Context tokens of the request.
    #[serde(default)]
    pub context_tokens: u32,
    /// Generated tokens of the request.
    #[serde(default)]
    pub generated_tokens: u32,
}

/// Why telemetry could not be read.
#[derive(Debug, Error)]
pub enum TelemetryError {
    /// The file could not be read.
    #[error("{path}: cannot read: {source}")]
    Read {
        /// The file.
        path: String,
        /// The reason.
        source: std::io::Error,
    },
    /// A line is wrong.
    #[error("{origin}:{line}: {field}: {problem}")]
    Line {
        /// The file.
        origin: String,
        /// The line, from 1.
        line: usize,
        /// Path of the field.
        field: String,
        /// What is wrong and what would be right.
        problem: String,
    },
    /// There are too many lines.
    #[error("{origin}: more than {MAX_RECORDS} records; split the file")]
    TooMany {
        /// The file.
        origin: String,
    },
}

/// A field of a record and what is wrong with it.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("{field}: {problem}")]
pub struct FieldProblem {
    /// Path of the field.
    pub field: String,
    /// What is wrong and what would be right.
    pub problem: String,
}

impl Record {
    /// When the record was made, in s.
    #[must_use]
    pub fn time_s(&self) -> f64 {
        match self {
            Self::Host(host) => host.time_s,
            Self::Task(task) => task.finished_s,
        }
    }

    /// Checks that every value is in its range; types read from elsewhere need it too.
    ///
    /// # Errors
    ///
    /// The first field that is out of range.
    pub fn check(&self) -> Result<(), FieldProblem> {
        match self {
            Self::Host(host) => host.check(),
            Self::Task(task) => task.check(),
        }
    }

    /// The record on one line.
    #[must_use]
    pub fn to_line(&self) -> String {
        // Numbers and text always have a form in JSON.
        serde_json::to_string(self).unwrap_or_default()
    }

    /// The record on one line of JSON, which stands at `line` of `origin`.
    ///
    /// # Errors
    ///
    /// If the line is too long, is no record, or a value is out of range.
    pub fn parse_line(text: &str, origin: &str, line: usize) -> Result<Self, TelemetryError> {
        let fail = |field: String, problem: String| TelemetryError::Line {
            origin: origin.into(),
            line,
            field,
            problem,
        };
        if text.len() > MAX_LINE_BYTES {
            let problem = format!("at most {MAX_LINE_BYTES} bytes, found {}", text.len());
            return Err(fail("line".into(), problem));
        }
        let mut json = serde_json::Deserializer::from_str(text);
        let record: Self = serde_path_to_error::deserialize(&mut json)
            .map_err(|e| fail(e.path().to_string(), e.inner().to_string()))?;
        json.end().map_err(|e| fail("line".into(), e.to_string()))?;
        record.check().map_err(|e| fail(e.field, e.problem))?;
        Ok(record)
    }
}

impl HostRecord {
    /// Tasks on the host.
    #[must_use]
    pub fn tasks(&self) -> u32 {
        self.running
            .values()
            .fold(0, |sum, n| u32::saturating_add(sum, *n))
    }

    fn check(&self) -> Result<(), FieldProblem> {
        between("host.time_s", self.time_s, 0.0, MAX_TIME_S)?;
        between("host.span_s", self.span_s, 1e-6, MAX_TIME_S)?;
        host("host.host", self.host)?;
        between("host.utilization", self.utilization, 0.0, 1.0)?;
        if let Some(power_w) = self.power_w {
            between("host.power_w", power_w, 0.0, MAX_POWER_W)?;
        }
        if self.running.len() > MAX_APPLICATIONS {
            let found = self.running.len();
            return Err(problem(
                "host.running",
                format!("at most {MAX_APPLICATIONS} applications, found {found}"),
            ));
        }
        match self.running.iter().find(|(_, n)| **n > MAX_RUNNING) {
            None => Ok(()),
            Some((name, n)) => Err(problem(
                &format!("host.running.{name}"),
                format!("expected a whole number from 0 to {MAX_RUNNING}, found {n}"),
            )),
        }
    }
}

impl TaskRecord {
    /// How long the task took, in s.
    #[must_use]
    pub fn duration_s(&self) -> f64 {
        self.finished_s - self.started_s
    }

    fn check(&self) -> Result<(), FieldProblem> {
        host("task.host", self.host)?;
        between("task.started_s", self.started_s, 0.0, MAX_TIME_S)?;
        between(
            "task.finished_s",
            self.finished_s,
            self.started_s,
            MAX_TIME_S,
        )?;
        for (field, n) in [
            ("task.context_tokens", self.context_tokens),
            ("task.generated_tokens", self.generated_tokens),
        ] {
            between(field, f64::from(n), 0.0, f64::from(MAX_TOKENS))?;
        }
        Ok(())
    }
}

/// The records of `text`, which errors call `origin`; empty lines are skipped.
///
/// # Errors
///
/// At the first line that is wrong.
pub fn parse(text: &str, origin: &str) -> Result<Vec<Record>, TelemetryError> {
    let mut records = Vec::new();
    for (i, line) in text.lines().enumerate() {
        if line.trim().is_empty() {
            continue;
        }
        if records.len() == MAX_RECORDS {
            return Err(TelemetryError::TooMany {
                origin: origin.into(),
            });
        }
        records.push(Record::parse_line(line, origin, i + 1)?);
    }
    Ok(records)
}

fn problem(field: &str, problem: String) -> FieldProblem {
    FieldProblem {
        field: field.into(),
        problem,
    }
}

fn host(field: &str, host: u32) -> Result<(), FieldProblem> {
    if (host as usize) < MAX_HOSTS {
        return Ok(());
    }
    Err(problem(
        field,
        format!("expected a position below {MAX_HOSTS}, found {host}"),
    ))
}

fn between(field: &str, value: f64, least: f64, most: f64) -> Result<(), FieldProblem> {
    if (least..=most).contains(&value) {
        return Ok(());
    }
    Err(problem(
        field,
        format!("expected a number from {least} to {most}, found {value}"),
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOST: &str = r#"{"host":{"time_s":10.0,"span_s":5.0,"host":3,"on":true,"utilization":0.31,"power_w":89.9,"running":{"blur":2}}}"#;
    const TASK: &str = r#"{"task":{"application":"blur","variant":"layer","fragment":0,"host":3,"started_s":2.5,"finished_s":9.0,"context_tokens":0,"generated_tokens":0}}"#;

    fn message(text: &str) -> String {
        parse(text, "t.jsonl")
            .expect_err("the text is wrong")
            .to_string()
    }

    #[test]
    fn a_line_and_back() {
        let text = format!("{HOST}\n\n{TASK}\n");
        let records = parse(&text, "t.jsonl").expect("two right records");
        let lines: Vec<String> = records.iter().map(Record::to_line).collect();
        assert_eq!(lines, [HOST, TASK]);
        assert!((records[1].time_s() - 9.0).abs() < 1e-12);
    }

    #[test]
    fn errors_name_file_line_and_field() {
        assert_eq!(
            message(&format!("{TASK}\n{}", HOST.replace("0.31", "1.31"))),
            "t.jsonl:2: host.utilization: expected a number from 0 to 1, found 1.31"
        );
        assert_eq!(
            message(&TASK.replace("9.0", "2.0")),
            "t.jsonl:1: task.finished_s: expected a number from 2.5 to 1000000000, found 2"
        );
        let text = message(&HOST.replace("89.9", "\"89.9\""));
        assert!(
            text.starts_with("t.jsonl:1: host.power_w: invalid type: string"),
            "{text}"
        );
        let text = message(&HOST.replace("span_s", "spam_s"));
        assert!(
            text.starts_with("t.jsonl:1: host.spam_s: unknown field"),
            "{text}"
        );
        let text = message(&HOST.replace("time_s\":10.0", "time_s\":1e999"));
        assert!(text.starts_with("t.jsonl:1: "), "{text}");
        let text = message(&format!("{HOST} {TASK}"));
        assert!(text.starts_with("t.jsonl:1: line: trailing"), "{text}");
        let long = format!("{HOST}{}", " ".repeat(MAX_LINE_BYTES));
        assert!(message(&long).contains("line: at most 65536 bytes"));
    }
}
