//! CPU use of many VMs in one table, as plain CSV: the first column is `time_s` (or `t_s`), each
//! other one a VM with its CPU use in percent of its size.
//!
//! A value holds from its time until the next line; the last one as long as the one before. A column
//! that is empty from some line on has ended there.

use std::path::Path;

use thiserror::Error;

use crate::units::SimTime;

/// The largest file that is read, in bytes.
pub const MAX_BYTES: u64 = 256 << 20;
/// The most columns beside the time.
pub const MAX_COLUMNS: usize = 10_000;
/// The largest value, in percent: recordings show some above 100.
pub const MAX_PERCENT: f64 = 10_000.0;

/// The latest time, in s: some thirty years.
const MAX_TIME_S: f64 = 1e9;

/// Names of the column of times.
const TIMES: [&str; 2] = ["time_s", "t_s"];

/// Why a table cannot be read.
#[derive(Debug, Error)]
pub enum ColumnsError {
    /// The file cannot be read.
    #[error("{path}: cannot read: {source}")]
    Read {
        /// The file.
        path: String,
        /// The reason.
        source: std::io::Error,
    },
    /// The file is too large.
    #[error("{path}: {bytes} bytes; at most {MAX_BYTES} are read")]
    Large {
        /// The file.
        path: String,
        /// Its size.
        bytes: u64,
    },
    /// A line is wrong.
    #[error("{path}:{line}: {problem}")]
    Line {
        /// The file.
        path: String,
        /// The line.
        line: u64,
        /// What is wrong and what would be right.
        problem: String,
    },
}

/// A table.
#[derive(Clone, Debug, PartialEq)]
pub struct Columns {
    names: Vec<String>,
    /// Length of each line's span.
    spans: Vec<SimTime>,
    /// Percent by column and line.
    values: Vec<Vec<f64>>,
}

impl Columns {
    /// The table in the file at `path`.
    ///
    /// # Errors
    ///
    /// If the file cannot be read or a line is wrong.
    pub fn load(path: &Path) -> Result<Self, ColumnsError> {
        let name = || path.display().to_string();
        let read = |source| ColumnsError::Read {
            path: name(),
            source,
        };
        let bytes = std::fs::metadata(path).map_err(read)?.len();
        if bytes > MAX_BYTES {
            return Err(ColumnsError::Large {
                path: name(),
                bytes,
            });
        }
        let text = std::fs::read_to_string(path).map_err(read)?;
        Self::parse(&text, &name())
    }

    /// The table `text`; `path` names it in errors.
    ///
    /// # Errors
    ///
    /// If a line is wrong.
    ///
    /// ```
    /// use twin::container::columns::Columns;
    /// let table = Columns::parse("time_s,a,b\n0,50,1.5\n300,25,\n", "cpu.csv")?;
    /// assert_eq!(table.names(), ["a", "b"]);
    /// // `b` has ended after 300 s.
    /// assert_eq!(table.steps(1).count(), 1);
    /// # Ok::<(), twin::container::columns::ColumnsError>(())
    /// ```
    pub fn parse(text: &str, path: &str) -> Result<Self, ColumnsError> {
        let wrong = |line: u64, problem: String| ColumnsError::Line {
            path: path.into(),
            line,
            problem,
        };
        let mut lines = (1_u64..).zip(text.lines());
        let header = lines.next().map_or("", |(_, text)| text);
        let (first, names) = header.split_once(',').unwrap_or((header, ""));
        if !TIMES.contains(&first) {
            let problem = format!("the first column must be time_s, found {first:?}");
            return Err(wrong(1, problem));
        }
        let names: Vec<String> = names.split(',').map(str::to_owned).collect();
        if names.len() > MAX_COLUMNS || names.iter().any(String::is_empty) {
            let problem = format!("needs 1 to {MAX_COLUMNS} columns, each with a name");
            return Err(wrong(1, problem));
        }
        let mut table = Self {
            spans: Vec::new(),
            values: vec![Vec::new(); names.len()],
            names,
        };
        let mut times = Vec::new();
        for (line, text) in lines {
            table
                .push(first, text, &mut times)
                .map_err(|problem| wrong(line, problem))?;
        }
        table.spans = times.windows(2).map(|w| w[1].since(w[0])).collect();
        let Some(&last) = table.spans.last() else {
            return Err(wrong(1, "needs at least two lines of values".into()));
        };
        table.spans.push(last);
        Ok(table)
    }

    /// Takes in the line `text`, of which `first` names the time; gives what is wrong with it.
    fn push(&mut self, first: &str, text: &str, times: &mut Vec<SimTime>) -> Result<(), String> {
        let mut fields = text.split(',');
        let time_s = number(first, fields.next().unwrap_or(""), MAX_TIME_S)?;
        let time = SimTime::from_seconds(time_s);
        if times.last().is_some_and(|&last| time <= last) {
            return Err(format!("{first}: must be after that of the line above"));
        }
        for (name, list) in self.names.iter().zip(&mut self.values) {
            let Some(field) = fields.next() else {
                return Err(format!("{name}: is missing; was the file cut off?"));
            };
            let ended = list.len() < times.len();
            match (field, ended) {
                ("", _) => {}
                (_, true) => return Err(format!("{name}: has a value after it had ended")),
                (value, false) => list.push(number(name, value, MAX_PERCENT)?),
            }
        }
        if fields.next().is_some() {
            let count = self.names.len() + 1;
            return Err(format!("more fields than the {count} of the header"));
        }
        times.push(time);
        Ok(())
    }

    /// Names of the columns, without that of the times.
    #[must_use]
    pub fn names(&self) -> &[String] {
        &self.names
    }

    /// The values of column `column` in percent, each with the time that it holds.
    pub fn steps(&self, column: usize) -> impl Iterator<Item = (SimTime, f64)> + '_ {
        let values = self.values.get(column).into_iter().flatten();
        self.spans.iter().copied().zip(values.copied())
    }
}

/// The number `text` from 0 to `most`.
fn number(column: &str, text: &str, most: f64) -> Result<f64, String> {
    match text.parse() {
        Ok(value) if (0.0..=most).contains(&value) => Ok(value),
        _ => Err(format!(
            "{column}: expected a number from 0 to {most}, found {text:?}"
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(text: &str, expected: &str) {
        let error = Columns::parse(text, "cpu.csv").expect_err("a line is wrong");
        assert_eq!(error.to_string(), expected);
    }

    #[test]
    fn values_hold_until_the_next_line() {
        let table = Columns::parse("t_s,vm000,vm001\n0,1.5,0.02\n300,0,\n400,7,\n", "cpu.csv")
            .expect("a good table");
        let steps = |column| -> Vec<(u64, f64)> {
            table
                .steps(column)
                .map(|(span, v)| (span.0 / 1_000_000_000, v))
                .collect()
        };
        // The last line lasts as long as the one before.
        assert_eq!(steps(0), [(300, 1.5), (100, 0.0), (100, 7.0)]);
        assert_eq!(steps(1), [(300, 0.02)]);
        assert_eq!(steps(2), []);
    }

    #[test]
    fn errors_name_the_line_and_the_column() {
        check("", "cpu.csv:1: the first column must be time_s, found \"\"");
        check(
            "time_s\n",
            "cpu.csv:1: needs 1 to 10000 columns, each with a name",
        );
        check(
            "time_s,a\n0,1\n",
            "cpu.csv:1: needs at least two lines of values",
        );
        check(
            "time_s,a\n0,1\n0,1\n",
            "cpu.csv:3: time_s: must be after that of the line above",
        );
        check(
            "time_s,a\n0,1\n1\n",
            "cpu.csv:3: a: is missing; was the file cut off?",
        );
        check(
            "time_s,a\n0,1\n1,NaN\n",
            "cpu.csv:3: a: expected a number from 0 to 10000, found \"NaN\"",
        );
        check(
            "time_s,a\n0,1\n1,2,3\n",
            "cpu.csv:3: more fields than the 2 of the header",
        );
        check(
            "time_s,a\n0,1\n1,\n2,3\n",
            "cpu.csv:4: a: has a value after it had ended",
        );
    }
}
