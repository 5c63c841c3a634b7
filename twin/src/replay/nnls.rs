//! Least squares with coefficients of at least zero.
//!
//! The active-set algorithm of Lawson and Hanson, *Solving Least Squares Problems* (1974), chapter
//! 23, on the normal equations; systems are a few dozen unknowns.

/// XᵀX and Xᵀy, to which rows are added one by one.
#[derive(Clone, Debug)]
pub(super) struct Normal {
    columns: usize,
    gram: Vec<f64>,
    right: Vec<f64>,
}

impl Normal {
    pub(super) fn new(columns: usize) -> Self {
        Self {
            columns,
            gram: vec![0.0; columns * columns],
            right: vec![0.0; columns],
        }
    }

    /// Adds the equation `row · x = y`.
    pub(super) fn add(&mut self, row: &[f64], y: f64) {
        for (i, a) in row.iter().enumerate() {
            for (j, b) in row.iter().enumerate() {
                self.gram[i * self.columns + j] += a * b;
            }
            self.right[i] += a * y;
        }
    }

    /// The coefficients, each at least 0, with the least sum of squares.
    pub(super) fn solve(&self) -> Vec<f64> {
        let n = self.columns;
        let scale = self.right.iter().fold(0.0_f64, |most, r| most.max(r.abs()));
        let mut x = vec![0.0; n];
        let mut free = vec![false; n];
        // Each round frees one coefficient; three rounds for each are far more than it takes.
        for _ in 0..3 * n {
            let candidate = (0..n)
                .filter(|&i| !free[i])
                .map(|i| (i, self.gradient(&x, i)))
                .filter(|&(_, gradient)| gradient > 1e-10 * scale)
                .max_by(|a, b| a.1.total_cmp(&b.1).then(b.0.cmp(&a.0)));
            let Some((best, _)) = candidate else {
                break;
            };
            free[best] = true;
            while let Some(step) = self.solve_free(&free) {
                let blocked = (0..n)
                    .filter(|&i| free[i] && step[i] <= 0.0)
                    .map(|i| x[i] / (x[i] - step[i]))
                    .min_by(f64::total_cmp);
                let Some(share) = blocked.filter(|share| share.is_finite()) else {
                    if blocked.is_none() {
                        x = step;
                    }
                    break;
                };
                for i in 0..n {
                    if free[i] {
                        x[i] += share * (step[i] - x[i]);
                        // The coefficient that stops the step is on its bound.
                        free[i] = x[i] > 1e-12 || step[i] > 0.0;
                    }
                    if !free[i] {
                        x[i] = 0.0;
                    }
                }
            }
        }
        x
    }

    /// How fast the sum of squares falls along coefficient `i`, halved.
    fn gradient(&self, x: &[f64], i: usize) -> f64 {
        let row = &self.gram[i * self.columns..(i + 1) * self.columns];
        self.right[i] - row.iter().zip(x).map(|(g, x)| g * x).sum::<f64>()
    }

    /// The least squares with the coefficients that are not free at zero; `None` if columns depend
    /// on each other.
    fn solve_free(&self, free: &[bool]) -> Option<Vec<f64>> {
        let index: Vec<usize> = (0..self.columns).filter(|&i| free[i]).collect();
        let n = index.len();
        let mut rows: Vec<Vec<f64>> = index
            .iter()
            .map(|&i| {
                let gram = index.iter().map(|&j| self.gram[i * self.columns + j]);
                gram.chain([self.right[i]]).collect()
            })
            .collect();
        for pivot in 0..n {
            let best = (pivot..n).max_by(|&a, &b| {
                rows[a][pivot]
                    .abs()
                    .total_cmp(&rows[b][pivot].abs())
                    .then(b.cmp(&a))
            })?;
            rows.swap(pivot, best);
            let diagonal = self.gram[index[pivot] * (self.columns + 1)];
            if rows[pivot][pivot].abs() <= 1e-12 * diagonal {
                return None;
            }
            let (above, below) = rows.split_at_mut(pivot + 1);
            for row in below {
                let factor = row[pivot] / above[pivot][pivot];
                for (value, from) in row.iter_mut().zip(&above[pivot]).skip(pivot) {
                    *value -= factor * from;
                }
            }
        }
        let mut x = vec![0.0; self.columns];
        for pivot in (0..n).rev() {
            let known: f64 = (pivot + 1..n).map(|j| rows[pivot][j] * x[index[j]]).sum();
            x[index[pivot]] = (rows[pivot][n] - known) / rows[pivot][pivot];
        }
        Some(x)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn solved(rows: &[(&[f64], f64)]) -> Vec<f64> {
        let mut normal = Normal::new(rows[0].0.len());
        for (row, y) in rows {
            normal.add(row, *y);
        }
        normal.solve()
    }

    fn assert_close(found: &[f64], expected: &[f64]) {
        assert_eq!(found.len(), expected.len());
        for (a, b) in found.iter().zip(expected) {
            assert!((a - b).abs() < 1e-9, "{found:?} instead of {expected:?}");
        }
    }

    #[test]
    fn exact_equations_are_solved() {
        // x + y = 3, x − y = 1
        assert_close(
            &solved(&[(&[1.0, 1.0], 3.0), (&[1.0, -1.0], 1.0)]),
            &[2.0, 1.0],
        );
    }

    #[test]
    fn a_coefficient_that_would_be_negative_is_zero() {
        // y = −1 without the bound; with y = 0 the best x of x = 1, x = 3 is their mean.
        assert_close(
            &solved(&[(&[1.0, 1.0], 1.0), (&[1.0, -1.0], 3.0)]),
            &[2.0, 0.0],
        );
    }

    #[test]
    fn columns_that_depend_on_each_other_do_no_harm() {
        let x = solved(&[(&[1.0, 1.0], 2.0), (&[2.0, 2.0], 4.0)]);
        assert!((x[0] + x[1] - 2.0).abs() < 1e-9, "{x:?}");
        assert_close(&solved(&[(&[0.0, 1.0], 2.0)]), &[0.0, 2.0]);
    }
}
