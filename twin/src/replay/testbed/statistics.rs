//! The few statistics that reports need.

/// Mean; zero of nothing.
pub(crate) fn mean(values: &[f64]) -> f64 {
    values.iter().sum::<f64>() / values.len().max(1) as f64
}

/// Quantile `q` by the nearest-rank method; zero of nothing.
#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "the rank lies between zero and the number of values"
)]
pub(crate) fn quantile(values: &[f64], q: f64) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let n = sorted.len();
    if n == 0 {
        return 0.0;
    }
    sorted[((q * n as f64).ceil() as usize).clamp(1, n) - 1]
}

/// Standard error of the mean of independent values; zero of fewer than two.
pub(crate) fn standard_error(values: &[f64]) -> f64 {
    let n = values.len() as f64;
    if values.len() < 2 {
        return 0.0;
    }
    let m = mean(values);
    (values.iter().map(|v| (v - m).powi(2)).sum::<f64>() / (n - 1.0) / n).sqrt()
}

/// Standard error of the mean of a series whose neighbors depend on each other, by means of
/// batches of `batch` values (Law and Carson, "A sequential procedure for determining the length
/// of a steady-state simulation", Operations Research 27(5), 1979).
pub(crate) fn batch_error(series: &[f64], batch: usize) -> f64 {
    let means: Vec<f64> = series.chunks_exact(batch.max(1)).map(mean).collect();
    standard_error(&means)
}

/// Spearman's rank correlation with mean ranks for ties; `None` for fewer than two pairs or
/// without any spread.
pub(crate) fn spearman(a: &[f64], b: &[f64]) -> Option<f64> {
    let (ra, rb) = (ranks(a), ranks(b));
    let (ma, mb) = (mean(&ra), mean(&rb));
    let (mut cross, mut va, mut vb) = (0.0, 0.0, 0.0);
    for (x, y) in ra.iter().zip(&rb) {
        cross += (x - ma) * (y - mb);
        va += (x - ma).powi(2);
        vb += (y - mb).powi(2);
    }
    (va > 0.0 && vb > 0.0).then(|| cross / (va * vb).sqrt())
}

fn ranks(values: &[f64]) -> Vec<f64> {
    let mut order: Vec<usize> = (0..values.len()).collect();
    order.sort_by(|&i, &j| values[i].total_cmp(&values[j]));
    let mut ranks = vec![0.0; values.len()];
    let mut from = 0;
    for tied in order.chunk_by(|&i, &j| values[i].total_cmp(&values[j]).is_eq()) {
        let rank = from as f64 + (tied.len() as f64 - 1.0) / 2.0 + 1.0;
        for &i in tied {
            ranks[i] = rank;
        }
        from += tied.len();
    }
    ranks
}

/// Weighted least squares with a penalty on the distance from a prior (Hoerl and Kennard, "Ridge
/// regression", Technometrics 12(1), 1970), one row at a time.
#[derive(Clone, Debug)]
pub(crate) struct Ridge {
    gram: Vec<Vec<f64>>,
    right: Vec<f64>,
}

impl Ridge {
    /// Nothing seen of `n` coefficients.
    pub(crate) fn new(n: usize) -> Self {
        Self {
            gram: vec![vec![0.0; n]; n],
            right: vec![0.0; n],
        }
    }

    /// Multiplies the weight of all rows so far by `factor`.
    pub(crate) fn forget(&mut self, factor: f64) {
        for value in self.gram.iter_mut().flatten().chain(&mut self.right) {
            *value *= factor;
        }
    }

    /// Adds a row.
    pub(crate) fn add(&mut self, x: &[f64], y: f64) {
        for (i, xi) in x.iter().enumerate() {
            self.right[i] += xi * y;
            for (g, xj) in self.gram[i].iter_mut().zip(x) {
                *g += xi * xj;
            }
        }
    }

    /// The coefficients with penalty `weight` on their distance from `prior`; `prior` where the
    /// rows leave them open.
    pub(crate) fn solve(&self, prior: &[f64], weight: f64) -> Vec<f64> {
        let n = self.right.len();
        let mut a: Vec<Vec<f64>> = (0..n)
            .map(|i| {
                let mut row = self.gram[i].clone();
                row[i] += weight;
                row.push(self.right[i] + weight * prior[i]);
                row
            })
            .collect();
        // Gauss–Jordan without pivots: the matrix is symmetric and, with the penalty, positive
        // definite.
        for column in 0..n {
            let head = a[column][column];
            if head <= f64::MIN_POSITIVE {
                return prior.to_vec();
            }
            a[column].iter_mut().for_each(|v| *v /= head);
            let source = a[column].clone();
            for (_, row) in a.iter_mut().enumerate().filter(|(i, _)| *i != column) {
                let factor = row[column];
                for (v, s) in row.iter_mut().zip(&source) {
                    *v -= factor * s;
                }
            }
        }
        a.into_iter().map(|row| row[n]).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranks_are_shared_by_ties() {
        // Ranks 1, 2.5, 2.5, 4 against 1, 2, 3, 4: cross 4.5, squares 4.5 and 5.
        let rho = spearman(&[1.0, 2.0, 2.0, 9.0], &[1.0, 2.0, 3.0, 4.0]).expect("there is spread");
        assert!((rho - 4.5 / (4.5f64 * 5.0).sqrt()).abs() < 1e-12);
        assert!(spearman(&[1.0, 1.0], &[1.0, 2.0]).is_none());
    }

    #[test]
    fn quantiles_are_recorded_values() {
        // Rank ceil(0.95 · 20) = 19 of 1 to 20.
        let values: Vec<f64> = (1..=20).map(f64::from).collect();
        assert!((quantile(&values, 0.95) - 19.0).abs() < 1e-12);
        assert!(quantile(&[], 0.5).abs() < 1e-12);
    }

    #[test]
    fn errors_of_means() {
        // Values 1 and 3: variance 2, over 2 values.
        assert!((standard_error(&[1.0, 3.0]) - 1.0).abs() < 1e-12);
        // Batches 1, 1 and 3, 3 have the same means.
        assert!((batch_error(&[1.0, 1.0, 3.0, 3.0], 2) - 1.0).abs() < 1e-12);
    }

    #[test]
    fn ridge_lies_between_prior_and_rows() {
        // One coefficient, rows x = 1, y = 3 twice: 6 / 2 = 3; with weight 2 on prior 1:
        // (6 + 2) / (2 + 2) = 2.
        let mut ridge = Ridge::new(1);
        ridge.add(&[1.0], 3.0);
        ridge.add(&[1.0], 3.0);
        assert!((ridge.solve(&[1.0], 0.0)[0] - 3.0).abs() < 1e-12);
        assert!((ridge.solve(&[1.0], 2.0)[0] - 2.0).abs() < 1e-12);
        // Halved: 3 / 1 with weight 1 on prior 1: (3 + 1) / (1 + 1) = 2.
        ridge.forget(0.5);
        assert!((ridge.solve(&[1.0], 1.0)[0] - 2.0).abs() < 1e-12);
        assert!((Ridge::new(1).solve(&[1.0], 0.0)[0] - 1.0).abs() < 1e-12);
    }
}
