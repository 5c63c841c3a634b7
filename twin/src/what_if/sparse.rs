//! Arrays that are cleared in no time: values count only while their mark is that of the present.

/// One value a place, most of them not set.
#[derive(Clone, Debug, Default)]
pub(super) struct Sparse<T> {
    cells: Vec<(u32, T)>,
    mark: u32,
}

impl<T: Copy + Default> Sparse<T> {
    /// Forgets all values, and makes room for `length`.
    pub(super) fn clear(&mut self, length: usize) {
        if self.mark == u32::MAX {
            self.cells.clear();
            self.mark = 0;
        }
        self.mark += 1;
        if self.cells.len() < length {
            self.cells.resize(length, (0, T::default()));
        }
    }

    pub(super) fn get(&self, at: usize) -> Option<T> {
        let (mark, value) = *self.cells.get(at)?;
        (mark == self.mark).then_some(value)
    }

    pub(super) fn set(&mut self, at: usize, value: T) {
        if at >= self.cells.len() {
            self.cells.resize(at + 1, (0, T::default()));
        }
        self.cells[at] = (self.mark, value);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_set_before_is_forgotten() {
        let mut sparse = Sparse::default();
        sparse.clear(2);
        sparse.set(1, 7);
        assert_eq!((sparse.get(0), sparse.get(1)), (None, Some(7)));
        sparse.clear(2);
        assert_eq!(sparse.get(1), None);
        sparse.set(5, 1);
        assert_eq!((sparse.get(5), sparse.get(9)), (Some(1), None));
    }
}
