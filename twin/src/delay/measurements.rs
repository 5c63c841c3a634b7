//! Measured delays: `image,resolution,size_kb,cpu_limit_pct,cpu_limit_fraction,delay_s,`
//! `abs_uncertainty_s,source`, one row a measurement.

use std::path::Path;

use csv::StringRecord;
use thiserror::Error;

/// The header of a file of measurements.
pub const HEADER: [&str; 8] = [
    "image",
    "resolution",
    "size_kb",
    "cpu_limit_pct",
    "cpu_limit_fraction",
    "delay_s",
    "abs_uncertainty_s",
    "source",
];

/// The most rows of a file; each is left out of a fit once.
pub const MAX_ROWS: usize = 2000;

/// The delay of one request under one limit of the CPU.
#[derive(Clone, Debug, PartialEq)]
pub struct Measurement {
    /// What was sent.
    pub image: String,
    /// Its resolution.
    pub resolution: String,
    /// Its size, in kB.
    pub size_kb: f64,
    /// The share of the CPU, above 0 and at most 1.
    pub cpu_share: f64,
    /// How long it took, in s.
    pub delay_s: f64,
    /// How far that may be off, in s; 0 where it is exact.
    pub uncertainty_s: f64,
}

/// Measurements in the order of the file.
#[derive(Clone, Debug, PartialEq)]
pub struct Measurements {
    /// At least one.
    pub rows: Vec<Measurement>,
}

/// Why measurements could not be read.
#[derive(Debug, Error)]
pub enum MeasurementsError {
    /// The file could not be read.
    #[error("{path}: cannot read: {source}")]
    Read {
        /// The file.
        path: String,
        /// The reason.
        source: std::io::Error,
    },
    /// A line is wrong.
    #[error("{origin}:{line}: {problem}")]
    Line {
        /// The file.
        origin: String,
        /// The line, from 1.
        line: u64,
        /// The column, what is wrong and what would be right.
        problem: String,
    },
    /// There is nothing to fit.
    #[error("{origin}: no rows; the file needs at least one line after the header")]
    Empty {
        /// The file.
        origin: String,
    },
}

impl Measurements {
    /// The measurements that are part of the program: an object detector, three images, six limits.
    ///
    /// # Errors
    ///
    /// Never, unless the program was built from a damaged file.
    pub fn embedded() -> Result<Self, MeasurementsError> {
        Self::parse(include_str!("../../worlds/cpu-delay.csv"), "cpu-delay.csv")
    }

    /// The measurements in a file.
    ///
    /// # Errors
    ///
    /// If it cannot be read or a line of it is wrong.
    pub fn load(path: &Path) -> Result<Self, MeasurementsError> {
        let origin = path.display().to_string();
        match std::fs::read_to_string(path) {
            Ok(text) => Self::parse(&text, &origin),
            Err(source) => Err(MeasurementsError::Read {
                path: origin,
                source,
            }),
        }
    }

    /// The measurements in `text`, which errors call `origin`.
    ///
    /// # Errors
    ///
    /// If a line is wrong, there is none after the header, or there are more than [`MAX_ROWS`].
    pub fn parse(text: &str, origin: &str) -> Result<Self, MeasurementsError> {
        let fail = |line, problem| MeasurementsError::Line {
            origin: origin.into(),
            line,
            problem,
        };
        let mut reader = csv::Reader::from_reader(text.as_bytes());
        let found = reader.headers().map_err(|e| fail(1, e.to_string()))?;
        if found.iter().ne(HEADER) {
            let found = found.iter().collect::<Vec<_>>().join(",");
            let problem = format!("the header must be {}, found {found}", HEADER.join(","));
            return Err(fail(1, problem));
        }
        let mut rows = Vec::new();
        for record in reader.records() {
            let record = record
                .map_err(|e| fail(e.position().map_or(0, csv::Position::line), e.to_string()))?;
            let line = record.position().map_or(0, csv::Position::line);
            if rows.len() == MAX_ROWS {
                return Err(fail(line, format!("more than {MAX_ROWS} measurements")));
            }
            rows.push(measurement(&record).map_err(|problem| fail(line, problem))?);
        }
        if rows.is_empty() {
            return Err(MeasurementsError::Empty {
                origin: origin.into(),
            });
        }
        Ok(Self { rows })
    }
}

/// The measurement in a line that has as many fields as the header.
fn measurement(record: &StringRecord) -> Result<Measurement, String> {
    let problem = |column: usize, expected: &str| {
        let found = &record[column];
        format!("{}: expected {expected}, found \"{found}\"", HEADER[column])
    };
    let number = |column: usize, expected: &str, right: fn(f64) -> bool| {
        record[column]
            .parse::<f64>()
            .ok()
            .filter(|value| value.is_finite() && right(*value))
            .ok_or_else(|| problem(column, expected))
    };
    let name = |column: usize| match &record[column] {
        "" => Err(problem(column, "a name")),
        name => Ok(name.to_owned()),
    };
    let percent = number(3, "a percentage above 0, at most 100", |p| {
        p > 0.0 && p <= 100.0
    })?;
    let cpu_share = number(4, "a share above 0, at most 1", |x| x > 0.0 && x <= 1.0)?;
    if (cpu_share * 100.0 - percent).abs() > 1e-6 {
        let expected = format!("{}, that is cpu_limit_pct / 100", percent / 100.0);
        return Err(problem(4, &expected));
    }
    Ok(Measurement {
        image: name(0)?,
        resolution: name(1)?,
        size_kb: number(2, "a number above 0", |v| v > 0.0)?,
        cpu_share,
        delay_s: number(5, "a number above 0", |v| v > 0.0)?,
        uncertainty_s: number(6, "a number of at least 0", |v| v >= 0.0)?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = "image,resolution,size_kb,cpu_limit_pct,cpu_limit_fraction,delay_s,\
                        abs_uncertainty_s,source\n\
                        dog,720p,360,10,0.1,54.953,0.0,table\n\
                        dog,720p,360,20,0.2,25.8,0.6,chart\n";

    fn problem(from: &str, to: &str) -> String {
        Measurements::parse(&TEXT.replace(from, to), "delay.csv")
            .expect_err("the text is wrong")
            .to_string()
    }

    #[test]
    fn rows_are_read() {
        let read = Measurements::parse(TEXT, "delay.csv").expect("two right rows");
        assert_eq!(read.rows.len(), 2);
        assert_eq!(read.rows[1].resolution, "720p");
        assert!((read.rows[1].uncertainty_s - 0.6).abs() < 1e-12);
        let embedded = Measurements::embedded().expect("the embedded file is right");
        assert_eq!(embedded.rows.len(), 18);
    }

    #[test]
    fn errors_name_file_line_and_column() {
        assert_eq!(
            problem("25.8", "soon"),
            "delay.csv:3: delay_s: expected a number above 0, found \"soon\""
        );
        assert_eq!(
            problem("0.2,", "0.3,"),
            "delay.csv:3: cpu_limit_fraction: expected 0.2, that is cpu_limit_pct / 100, found \
             \"0.3\""
        );
        assert_eq!(
            problem("0.6,chart", "-1,chart"),
            "delay.csv:3: abs_uncertainty_s: expected a number of at least 0, found \"-1\""
        );
        assert_eq!(
            problem("delay_s", "delay"),
            "delay.csv:1: the header must be image,resolution,size_kb,cpu_limit_pct,\
             cpu_limit_fraction,delay_s,abs_uncertainty_s,source, found image,resolution,size_kb,\
             cpu_limit_pct,cpu_limit_fraction,delay,abs_uncertainty_s,source"
        );
        let header = TEXT.lines().next().expect("a header");
        assert_eq!(
            Measurements::parse(header, "delay.csv")
                .expect_err("there are no rows")
                .to_string(),
            "delay.csv: no rows; the file needs at least one line after the header"
        );
    }
}
