//! What the fleet showed since it was last asked, for series over time.

use super::drift::Quantity;

/// Sums over a window of time.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Window {
    /// Requests that were answered.
    pub answered: u64,
    /// Of these, the ones after their deadline.
    pub late: u64,
    /// Sum of their response times, in s.
    pub response_s: f64,
    compared: [Compared; Quantity::ALL.len()],
}

/// Sums of what was predicted and of what was observed.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
struct Compared {
    count: u64,
    predicted: f64,
    observed: f64,
}

impl Window {
    /// Takes a comparison.
    pub(super) fn compare(&mut self, quantity: Quantity, predicted: f64, observed: f64) {
        let sums = &mut self.compared[quantity as usize];
        sums.count += 1;
        sums.predicted += predicted;
        sums.observed += observed;
    }

    /// The means of what was predicted and of what was observed; `None` if nothing was compared.
    #[must_use]
    pub fn means(&self, quantity: Quantity) -> Option<(f64, f64)> {
        let sums = &self.compared[quantity as usize];
        let count = sums.count as f64;
        (sums.count > 0).then(|| (sums.predicted / count, sums.observed / count))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn means_are_over_what_was_compared() {
        let mut window = Window::default();
        assert_eq!(window.means(Quantity::Power), None);
        window.compare(Quantity::Power, 100.0, 110.0);
        window.compare(Quantity::Power, 200.0, 180.0);
        // (100 + 200) / 2 and (110 + 180) / 2.
        assert_eq!(window.means(Quantity::Power), Some((150.0, 145.0)));
        assert_eq!(window.means(Quantity::Response), None);
    }
}
