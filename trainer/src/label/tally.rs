//! What the rows of a dataset tell at a glance.

use std::fmt;

use datasets::decisions::DecisionRow;
use models::encoding::Kind;

/// Counts over rows; the greedy policy's answer is held against the oracle's values.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Tally {
    /// Rows by [`Kind`].
    pub rows: [u64; 3],
    /// Rows in which the greedy answer is worth less than the oracle's or has no value, by [`Kind`].
    pub worse: [u64; 3],
    /// Rows in which the greedy answer has a value, by [`Kind`].
    pub valued: [u64; 3],
    /// Sum over these of what the greedy answer is worse than the oracle's, in seconds of penalty.
    pub regret_s: [f64; 3],
}

impl Tally {
    /// All rows.
    #[must_use]
    pub fn total(&self) -> u64 {
        self.rows.iter().sum()
    }

    /// Counts `rows`.
    pub fn add(&mut self, rows: &[DecisionRow]) {
        for row in rows {
            let Some(kind) = Kind::at(usize::from(row.kind)) else {
                continue;
            };
            let k = kind.index();
            self.rows[k] += 1;
            let best = row.best as usize;
            let value = greedy(kind, row).and_then(|answer| row.values.get(answer));
            let (Some(value), Some(most)) = (value, row.values.get(best)) else {
                continue;
            };
            // An answer without a price is not among the promising ones.
            if value.is_nan() {
                self.worse[k] += 1;
                continue;
            }
            self.valued[k] += 1;
            self.worse[k] += u64::from(value < most);
            self.regret_s[k] += f64::from(most - value);
        }
    }
}

/// The candidate that the greedy policy would choose, as the features tell.
fn greedy(kind: Kind, row: &DecisionRow) -> Option<usize> {
    let names = kind.features();
    let column = names.iter().position(|name| *name == "greedy")?;
    row.candidates
        .chunks(names.len())
        .position(|features| features[column] > 0.5)
}

impl fmt::Display for Tally {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "question    rows  greedy not best  mean regret of greedy [s of penalty]"
        )?;
        for kind in Kind::ALL {
            let k = kind.index();
            let share = 100.0 * self.worse[k] as f64 / self.rows[k].max(1) as f64;
            let regret_s = self.regret_s[k] / self.valued[k].max(1) as f64;
            let (name, rows) = (kind.name(), self.rows[k]);
            writeln!(f, "{name:<8}{rows:>8}{share:>15.1} %  {regret_s:.6}")?;
        }
        writeln!(f, "{} rows", self.total())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A row about a variant; `greedy` is marked in the features.
    fn row(values: &[f32], best: u32, greedy: usize) -> DecisionRow {
        let names = Kind::Variant.features();
        let mut candidates = vec![0.0; names.len() * values.len()];
        let column = names.iter().position(|name| *name == "greedy");
        candidates[greedy * names.len() + column.expect("it is a feature")] = 1.0;
        DecisionRow {
            episode: 0,
            step: 0,
            policy: "greedy".to_owned(),
            kind: 1,
            time_s: 0.0,
            weight: 1.0,
            global: Vec::new(),
            hosts: Vec::new(),
            host_count: 0,
            candidates,
            candidate_count: 3,
            candidate_hosts: Vec::new(),
            values: values.to_vec(),
            best,
            target_load: Vec::new(),
            state: Vec::new(),
        }
    }

    #[test]
    fn regret_is_counted_where_there_is_a_value() {
        let mut tally = Tally::default();
        tally.add(&[
            row(&[0.0, -2.0, -1.0], 0, 1),
            row(&[-1.0, 0.0, -1.0], 1, 1),
            row(&[f32::NAN, 0.0, -1.0], 1, 0),
        ]);
        assert_eq!(tally.rows, [0, 3, 0]);
        // The first; and the third, which has no value for the greedy answer.
        assert_eq!(tally.worse, [0, 2, 0]);
        assert_eq!(tally.valued, [0, 2, 0]);
        assert!((tally.regret_s[1] - 2.0).abs() < 1e-12);
        // 2 of 3 rows, and 2 s over 2 rows.
        let text = tally.to_string();
        assert!(
            text.contains("variant        3           66.7 %  1.000000"),
            "{text}"
        );
    }
}
