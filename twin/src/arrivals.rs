//! The plain arrivals format: CSV with the header
//! `time_s,application,context_tokens,generated_tokens`, sorted by time.

use thiserror::Error;

use crate::units::SimTime;
use crate::workload::TraceArrival;

/// The header of an arrivals file.
pub const HEADER: [&str; 4] = [
    "time_s",
    "application",
    "context_tokens",
    "generated_tokens",
];

/// Why an arrivals file could not be read.
#[derive(Debug, Error)]
pub enum ArrivalsError {
    /// A line is wrong.
    #[error("{origin}:{line}: {problem}")]
    Line {
        /// The file.
        origin: String,
        /// The line, from 1.
        line: u64,
        /// What is wrong and what would be right.
        problem: String,
    },
    /// There is no arrival.
    #[error("{origin}: no arrivals; the file needs at least one line after the header")]
    Empty {
        /// The file.
        origin: String,
    },
}

/// The arrivals in `text`, one list for each of `applications`; `origin` names the file in errors.
///
/// # Errors
///
/// If a line is malformed, out of order or names an unknown application, or there is no line.
pub fn parse(
    text: &str,
    origin: &str,
    applications: &[&str],
) -> Result<Vec<Vec<TraceArrival>>, ArrivalsError> {
    let mut reader = csv::ReaderBuilder::new()
        .has_headers(true)
        .from_reader(text.as_bytes());
    let fail = |line: u64, problem: String| ArrivalsError::Line {
        origin: origin.into(),
        line,
        problem,
    };
    let header = reader.headers().map_err(|e| fail(1, e.to_string()))?;
    if header.iter().ne(HEADER) {
        let found = header.iter().collect::<Vec<_>>().join(",");
        return Err(fail(
            1,
            format!("the header must be {}, found {found}", HEADER.join(",")),
        ));
    }
    let mut lists = vec![Vec::new(); applications.len()];
    let mut last = SimTime::ZERO;
    let mut record = csv::StringRecord::new();
    while reader
        .read_record(&mut record)
        .map_err(|e| fail(e.position().map_or(0, csv::Position::line), e.to_string()))?
    {
        let line = record.position().map_or(0, csv::Position::line);
        let (a, arrival) =
            parse_record(&record, last, applications).map_err(|problem| fail(line, problem))?;
        last = arrival.time;
        lists[a].push(arrival);
    }
    if lists.iter().all(Vec::is_empty) {
        return Err(ArrivalsError::Empty {
            origin: origin.into(),
        });
    }
    Ok(lists)
}

/// One line: the application's position and the arrival; or what is wrong.
fn parse_record(
    record: &csv::StringRecord,
    last: SimTime,
    applications: &[&str],
) -> Result<(usize, TraceArrival), String> {
    let time: f64 = record[0]
        .parse()
        .ok()
        .filter(|t: &f64| t.is_finite() && *t >= 0.0)
        .ok_or_else(|| format!("time_s: not a time in seconds: {}", &record[0]))?;
    let time = SimTime::from_seconds(time);
    if time < last {
        return Err(format!("time_s: {} is before the line above", &record[0]));
    }
    let a = applications
        .iter()
        .position(|name| *name == &record[1])
        .ok_or_else(|| {
            let hint = crate::world::did_you_mean(&record[1], applications);
            format!("application: the world has no \"{}\"{hint}", &record[1])
        })?;
    let tokens = |column: usize| {
        record[column].parse::<u32>().map_err(|_| {
            format!(
                "{}: not a number of tokens: {}",
                HEADER[column], &record[column]
            )
        })
    };
    let arrival = TraceArrival {
        time,
        context_tokens: tokens(2)?,
        generated_tokens: tokens(3)?,
    };
    Ok((a, arrival))
}
