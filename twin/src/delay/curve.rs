//! A curve of delay against CPU share, and its inverse.

use serde::Serialize;

/// The shape of a curve.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Family {
    /// `d = a · exp(−b x)`.
    Exponential,
    /// `d = a · exp(−b x) + c`.
    ExponentialOffset,
    /// `d = a · x^(−b)`.
    Power,
    /// `d = a · x^(−b) + c`.
    PowerOffset,
}

/// Every family, simpler ones first.
pub const FAMILIES: [Family; 4] = [
    Family::Exponential,
    Family::Power,
    Family::ExponentialOffset,
    Family::PowerOffset,
];

impl Family {
    /// Its name in reports.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Exponential => "exponential",
            Self::ExponentialOffset => "exponential-offset",
            Self::Power => "power",
            Self::PowerOffset => "power-offset",
        }
    }

    /// Whether it has a constant term.
    #[must_use]
    pub fn has_offset(self) -> bool {
        matches!(self, Self::ExponentialOffset | Self::PowerOffset)
    }

    /// What *a* multiplies, at the share `x` under the rate `b`.
    #[must_use]
    pub fn shape(self, x: f64, b: f64) -> f64 {
        match self {
            Self::Exponential | Self::ExponentialOffset => (-b * x).exp(),
            Self::Power | Self::PowerOffset => x.powf(-b),
        }
    }

    /// The share at which [`Family::shape`] is `value`.
    fn share_at(self, value: f64, b: f64) -> f64 {
        match self {
            Self::Exponential | Self::ExponentialOffset => -value.ln() / b,
            Self::Power | Self::PowerOffset => value.powf(-1.0 / b),
        }
    }
}

/// Delay against CPU share for requests of one size.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Curve {
    /// Its shape.
    pub family: Family,
    /// Above 0, in s.
    pub a_s: f64,
    /// Above 0; per share of the CPU in exponential families, a plain number in the others.
    pub b: f64,
    /// At least 0, in s; 0 in families without it.
    pub c_s: f64,
    /// The least share that was measured: below it the curve is a guess.
    pub least_share: f64,
}

impl Curve {
    /// The delay on the share `x` of the CPU, in s.
    #[must_use]
    pub fn delay_s(&self, x: f64) -> f64 {
        self.a_s * self.family.shape(x, self.b) + self.c_s
    }

    /// The least share of the CPU on which a request takes at most `tolerated_s`; `None` if the
    /// whole CPU does not suffice.
    ///
    /// It is never below the least share that was measured, so that no promise rests on an
    /// extrapolation to slower CPUs.
    #[must_use]
    pub fn cpu_share_for(&self, tolerated_s: f64) -> Option<f64> {
        let value = (tolerated_s - self.c_s) / self.a_s;
        if value.is_nan() || value <= 0.0 {
            return None;
        }
        let share = self.family.share_at(value, self.b);
        (share <= 1.0).then(|| share.max(self.least_share))
    }

    /// The curve of requests that take `factor` times as long.
    #[must_use]
    pub fn scaled(&self, factor: f64) -> Self {
        Self {
            a_s: self.a_s * factor,
            c_s: self.c_s * factor,
            ..*self
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_inverse_is_the_share_that_is_needed() {
        let curve = Curve {
            family: Family::PowerOffset,
            a_s: 6.0,
            b: 1.0,
            c_s: 2.0,
            least_share: 0.1,
        };
        // 6 / x + 2 = 14 at x = 0.5; the whole CPU takes 8 s; 122 s would be at x = 0.05.
        assert!((curve.cpu_share_for(14.0).unwrap_or(0.0) - 0.5).abs() < 1e-12);
        assert_eq!(curve.cpu_share_for(7.9), None);
        assert_eq!(curve.cpu_share_for(1.0), None);
        assert_eq!(curve.cpu_share_for(f64::NAN), None);
        assert!((curve.cpu_share_for(122.0).unwrap_or(0.0) - 0.1).abs() < 1e-12);

        let exponential = Curve {
            family: Family::Exponential,
            a_s: 10.0,
            b: 2.0,
            c_s: 0.0,
            least_share: 0.1,
        };
        // 10 · exp(−2 · 0.3) = 5.488...; above 10 s any share would do.
        let delay = exponential.delay_s(0.3);
        assert!((delay - 10.0 * (-0.6f64).exp()).abs() < 1e-12);
        assert!((exponential.cpu_share_for(delay).unwrap_or(0.0) - 0.3).abs() < 1e-12);
        assert!((exponential.cpu_share_for(11.0).unwrap_or(0.0) - 0.1).abs() < 1e-12);
    }
}
