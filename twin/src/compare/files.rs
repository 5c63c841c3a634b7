//! Files that two runs wrote: reports, or event logs.

use std::collections::BTreeMap;
use std::fmt;
use std::io::BufReader;
use std::path::Path;

use serde::Deserialize;
use serde::de::{Deserializer, MapAccess, Visitor};
use serde_json::Value;

use super::{CompareError, Comparison, Divergence, Pairing, metric};
use crate::events::{Event, Log, Reader};

/// Batches that the requests of one run are put into.
const BATCHES: usize = 20;

/// Compares two files of the same kind: what `twin simulate --format json` printed, one run or
/// several one after the other or in a list, or what `twin simulate --events` wrote.
///
/// # Errors
///
/// If a file cannot be read, is not valid, or the two have nothing that can be paired.
pub fn files(a: &Path, b: &Path) -> Result<Comparison, CompareError> {
    match (is_log(a)?, is_log(b)?) {
        (true, true) => logs(a, b),
        (false, false) => reports(a, b),
        (log, _) => {
            let (log, report) = if log { (a, b) } else { (b, a) };
            Err(CompareError::NoPair(format!(
                "{} is an event log and {} is a report; give two of one kind",
                log.display(),
                report.display()
            )))
        }
    }
}

fn cannot_read(path: &Path, source: std::io::Error) -> CompareError {
    CompareError::Read {
        path: path.display().to_string(),
        source,
    }
}

/// Whether the first line of a file is that of an event log.
fn is_log(path: &Path) -> Result<bool, CompareError> {
    use std::io::BufRead;
    let file = std::fs::File::open(path).map_err(|e| cannot_read(path, e))?;
    let mut first = Vec::new();
    // A line of a log is short: what is longer is something else.
    std::io::Read::take(BufReader::new(file), 1 << 16)
        .read_until(b'\n', &mut first)
        .map_err(|e| cannot_read(path, e))?;
    let value: Option<Value> = serde_json::from_slice(&first).ok();
    Ok(value.is_some_and(|value| value.get("event").is_some()))
}

/// One report.
#[derive(Debug)]
struct Report {
    world: String,
    policy: String,
    intervals: u64,
    /// In the order of the file.
    metrics: Vec<(String, f64)>,
}

impl Report {
    fn metric(&self, name: &str) -> Option<f64> {
        self.metrics.iter().find(|m| m.0 == name).map(|m| m.1)
    }
}

/// The fields of an object, in the order of the file.
#[derive(Debug)]
struct Fields(Vec<(String, Value)>);

impl<'de> Deserialize<'de> for Fields {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Entries;
        impl<'de> Visitor<'de> for Entries {
            type Value = Fields;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }
            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Fields, A::Error> {
                let mut fields = Vec::new();
                while let Some(field) = map.next_entry()? {
                    fields.push(field);
                }
                Ok(Fields(fields))
            }
        }
        deserializer.deserialize_map(Entries)
    }
}

/// A report, or a list of them.
#[derive(Debug, Deserialize)]
#[serde(untagged)]
enum Reported {
    One(Fields),
    Many(Vec<Fields>),
}

/// Reports by seed.
type Reports = BTreeMap<u64, Report>;

fn read_reports(path: &Path) -> Result<Reports, CompareError> {
    let text = std::fs::read_to_string(path).map_err(|e| cannot_read(path, e))?;
    let line_of = |offset: usize| text[..offset.min(text.len())].matches('\n').count() + 1;
    let wrong = |line: usize, problem: String| CompareError::Line {
        path: path.display().to_string(),
        line,
        problem,
    };
    let mut reports = Reports::new();
    let mut stream = serde_json::Deserializer::from_str(&text).into_iter::<Reported>();
    loop {
        let start = stream.byte_offset();
        let blank = text[start..].len() - text[start..].trim_start().len();
        let line = line_of(start + blank);
        let Some(value) = stream.next() else { break };
        let value = value.map_err(|e| {
            let at = if e.line() > 0 { e.line() } else { line };
            wrong(
                at,
                format!("is no report as `twin simulate --format json` prints it: {e}"),
            )
        })?;
        let list = match value {
            Reported::Many(list) => list,
            Reported::One(fields) => vec![fields],
        };
        for fields in list {
            let (seed, report) = report(&fields).map_err(|problem| wrong(line, problem))?;
            if reports.insert(seed, report).is_some() {
                return Err(wrong(
                    line,
                    format!("seed {seed} is there twice; keep one run of each seed"),
                ));
            }
        }
    }
    if reports.is_empty() {
        return Err(wrong(
            1,
            "holds no report; `twin simulate --format json` prints one".into(),
        ));
    }
    Ok(reports)
}

fn report(Fields(fields): &Fields) -> Result<(u64, Report), String> {
    let field = |key: &str| fields.iter().find(|f| f.0 == key).map(|f| &f.1);
    let text = |key: &str| {
        let value = field(key).and_then(Value::as_str);
        value.ok_or(format!("`{key}` is missing or no text"))
    };
    let whole = |key: &str| {
        let value = field(key).and_then(Value::as_u64);
        value.ok_or(format!("`{key}` is missing or no whole number"))
    };
    let mut report = Report {
        world: text("world")?.to_owned(),
        policy: text("policy")?.to_owned(),
        intervals: whole("intervals")?,
        metrics: Vec::new(),
    };
    for (key, value) in fields {
        if ["world", "policy", "seed", "intervals"].contains(&key.as_str()) {
            continue;
        }
        let value = value
            .as_f64()
            .ok_or_else(|| format!("`{key}` is {value}, not a number"))?;
        report.metrics.push((key.clone(), value));
    }
    Ok((whole("seed")?, report))
}

fn reports(path_a: &Path, path_b: &Path) -> Result<Comparison, CompareError> {
    let (a, b) = (read_reports(path_a)?, read_reports(path_b)?);
    let no_pair = |problem: String| Err(CompareError::NoPair(problem));
    for (seed, (here, there), (reports, others)) in a
        .keys()
        .map(|seed| (seed, (path_a, path_b), (&a, &b)))
        .chain(b.keys().map(|seed| (seed, (path_b, path_a), (&b, &a))))
    {
        let Some(other) = others.get(seed) else {
            return no_pair(format!(
                "{} has a run with seed {seed} and {} has none; compare runs of the same seeds",
                here.display(),
                there.display()
            ));
        };
        let report = &reports[seed];
        if (&report.world, report.intervals) != (&other.world, other.intervals) {
            return no_pair(format!(
                "seed {seed}: {} is {} intervals of {}, and {} is {} intervals of {}; compare runs \
                 of the same world and length",
                here.display(),
                report.intervals,
                report.world,
                there.display(),
                other.intervals,
                other.world
            ));
        }
    }
    let column = |reports: &Reports, name: &str| -> Option<Vec<f64>> {
        reports.values().map(|r| r.metric(name)).collect()
    };
    let names = a.values().next().into_iter().flat_map(|r| &r.metrics);
    let metrics = names
        .filter_map(|(name, _)| metric(name, &column(&a, name)?, &column(&b, name)?))
        .collect();
    let first = |reports: &Reports| {
        reports
            .values()
            .next()
            .map(|r| (r.policy.clone(), r.world.clone()))
    };
    let ((policy_a, world), (policy_b, _)) =
        (first(&a).unwrap_or_default(), first(&b).unwrap_or_default());
    Ok(Comparison {
        a: format!("{policy_a} ({})", path_a.display()),
        b: format!("{policy_b} ({})", path_b.display()),
        world,
        pairing: Pairing::Seeds,
        pairs: a.len(),
        metrics,
        divergences: Vec::new(),
    })
}

/// What both sides did with a request: response time, and one if late.
type Pair = ((f64, f64), (f64, f64));

/// What is kept of an event log.
#[derive(Default)]
struct Kept {
    /// Arrivals: time, application, context tokens.
    arrived: BTreeMap<u64, (f64, String, u32)>,
    /// Answers: response time, and one if late.
    answered: BTreeMap<u64, (f64, f64)>,
    /// What was decided: when, and what.
    decided: Vec<(f64, String)>,
}

fn kept(path: &Path) -> Result<(Log, Kept), CompareError> {
    let file = std::fs::File::open(path).map_err(|e| cannot_read(path, e))?;
    let mut reader = Reader::new(BufReader::new(file), &path.display().to_string())?;
    let mut kept = Kept::default();
    while let Some(line) = reader.next_line()? {
        match line.event {
            Event::Arrived {
                request,
                application,
                context_tokens,
            } => {
                let arrival = (line.time_s, application, context_tokens);
                kept.arrived.insert(request, arrival);
            }
            Event::Completed {
                request,
                response_s,
                late,
                ..
            } => {
                let late = f64::from(u8::from(late));
                kept.answered.insert(request, (response_s, late));
            }
            Event::Deployed {
                request,
                application,
                variant,
                hosts,
            } => {
                let hosts = hosts.join(" + ");
                let told = format!("request {request} ({application}) as {variant} on {hosts}");
                kept.decided.push((line.time_s, told));
            }
            Event::Lifecycle { host, state, .. } => {
                kept.decided
                    .push((line.time_s, format!("{host} {}", state.name())));
            }
            Event::MigrationStarted {
                request,
                fragment,
                to,
                ..
            } => {
                let told = format!("{fragment} of request {request} moves to {to}");
                kept.decided.push((line.time_s, told));
            }
            Event::Started { .. }
            | Event::MigrationEnded { .. }
            | Event::Host { .. }
            | Event::FragmentDone { .. }
            | Event::HostCrashed { .. }
            | Event::HostSlow { .. }
            | Event::LinkDown { .. }
            | Event::AllocationFailed { .. }
            | Event::Withdrawn { .. }
            | Event::Rejected { .. }
            | Event::Container { .. } => {}
        }
    }
    Ok((reader.log().clone(), kept))
}

fn logs(path_a: &Path, path_b: &Path) -> Result<Comparison, CompareError> {
    let ((log_a, a), (log_b, b)) = (kept(path_a)?, kept(path_b)?);
    let no_pair = |problem: String| Err(CompareError::NoPair(problem));
    if log_a.world_hash != log_b.world_hash {
        return no_pair(format!(
            "{} is a run of {} and {} one of {}, which are not the same world; compare runs of one",
            path_a.display(),
            log_a.world,
            path_b.display(),
            log_b.world
        ));
    }
    for (request, arrival) in &a.arrived {
        if b.arrived.get(request).is_some_and(|other| other != arrival) {
            return no_pair(format!(
                "request {request} is not the same in {} and {}; compare runs with the same seed, \
                 split and length",
                path_a.display(),
                path_b.display()
            ));
        }
    }
    let pairs: Vec<Pair> = a
        .answered
        .iter()
        .filter_map(|(request, answer)| Some((*answer, *b.answered.get(request)?)))
        .collect();
    if pairs.is_empty() {
        return no_pair(format!(
            "no request is answered in both {} and {}; compare longer runs",
            path_a.display(),
            path_b.display()
        ));
    }
    let batch = pairs.len().div_ceil(BATCHES).max(1);
    let means = |of: &dyn Fn(&Pair) -> f64| -> Vec<f64> {
        let mean = |part: &[_]| part.iter().map(of).sum::<f64>() / part.len() as f64;
        pairs.chunks(batch).map(mean).collect()
    };
    let metrics = [
        metric("response_s", &means(&|p| p.0.0), &means(&|p| p.1.0)),
        metric("late_ratio", &means(&|p| p.0.1), &means(&|p| p.1.1)),
    ];
    Ok(Comparison {
        a: path_a.display().to_string(),
        b: path_b.display().to_string(),
        world: log_a.world,
        pairing: Pairing::Requests,
        pairs: pairs.len(),
        metrics: metrics.into_iter().flatten().collect(),
        divergences: vec![divergence(&a.decided, &b.decided)],
    })
}

fn divergence(a: &[(f64, String)], b: &[(f64, String)]) -> Divergence {
    let same = a.iter().zip(b).take_while(|(a, b)| a == b).count();
    let (a, b) = (a.get(same), b.get(same));
    let first_s = a.map(|x| x.0).into_iter().chain(b.map(|x| x.0));
    let first_s = first_s.reduce(f64::min);
    let told = |decided: Option<&(f64, String)>| match decided {
        None => "nothing more".into(),
        Some((time_s, what)) if Some(*time_s) == first_s => what.clone(),
        Some((time_s, what)) => format!("{what}, at {time_s} s"),
    };
    Divergence {
        seed: None,
        time_s: first_s,
        a: told(a),
        b: told(b),
    }
}
