//! Scales: from values to pixels, with ticks at round numbers, and numbers as text.

/// A value at which an axis is labeled.
#[derive(Clone, Debug, PartialEq)]
pub struct Tick {
    /// The value.
    pub value: f64,
    /// How it is written.
    pub label: String,
}

/// A map from values to pixels, linear in the value or in its logarithm.
#[derive(Clone, Debug)]
pub struct Scale {
    logarithmic: bool,
    /// Ends of the domain, low to high, in values.
    domain: (f64, f64),
    /// Where the ends lie, in pixels.
    range: (f64, f64),
    ticks: Vec<Tick>,
}

/// The most ticks that an axis gets, whatever it is asked for.
const TICK_LIMIT: usize = 40;

impl Scale {
    /// A linear scale over at least `domain`, its ends moved outwards to round numbers, with about
    /// `ticks` ticks.
    pub fn linear(domain: (f64, f64), range: (f64, f64), ticks: f64) -> Self {
        let (low, high) = widened(domain);
        let step = round_step((high - low) / ticks.max(1.0));
        let domain = ((low / step).floor() * step, (high / step).ceil() * step);
        Self {
            logarithmic: false,
            domain,
            range,
            ticks: linear_ticks(domain, step),
        }
    }

    /// A linear scale over exactly `domain`, with about `ticks` ticks at the round numbers in it.
    pub fn exact(domain: (f64, f64), range: (f64, f64), ticks: f64) -> Self {
        let domain = widened(domain);
        let step = round_step((domain.1 - domain.0) / ticks.max(1.0));
        Self {
            logarithmic: false,
            domain,
            range,
            ticks: linear_ticks(domain, step),
        }
    }

    /// A logarithmic scale over at least `domain`, whose ends must be positive, with at most about
    /// `ticks` ticks.
    pub fn logarithmic(domain: (f64, f64), range: (f64, f64), ticks: f64) -> Self {
        let (low, high) = match domain {
            (low, high) if low.is_finite() && high.is_finite() => (low, high),
            _ => (1.0, 10.0),
        };
        let low = low.clamp(1e-12, 1e14);
        let high = high.clamp(low * 1.01, 1e15);
        let decades = (high / low).log10();
        let factors: &[f64] = if decades * 3.0 <= ticks {
            &[1.0, 2.0, 5.0]
        } else {
            &[1.0]
        };
        let domain = (
            below(low, factors).unwrap_or(low),
            above(high, factors).unwrap_or(high),
        );
        Self {
            logarithmic: true,
            domain,
            range,
            ticks: log_ticks(domain, factors, ticks),
        }
    }

    /// Where a value lies, in pixels; not finite for a value that the scale cannot hold.
    pub fn at(&self, value: f64) -> f64 {
        let (low, high) = self.domain;
        let share = if self.logarithmic {
            (value / low).ln() / (high / low).ln()
        } else {
            (value - low) / (high - low)
        };
        self.range.0 + share * (self.range.1 - self.range.0)
    }

    /// Where a value lies, or the nearer end if it lies outside.
    pub fn clamped(&self, value: f64) -> f64 {
        if self.logarithmic && value <= 0.0 {
            return self.range.0;
        }
        let (from, to) = (
            self.range.0.min(self.range.1),
            self.range.0.max(self.range.1),
        );
        self.at(value).clamp(from, to)
    }

    /// The labeled values, low to high.
    pub fn ticks(&self) -> &[Tick] {
        &self.ticks
    }
}

/// Whether values are all positive and so far apart that only a logarithmic scale shows them all.
pub fn far_apart(values: impl IntoIterator<Item = f64>) -> bool {
    extent(values).is_some_and(|(low, high)| low > 0.0 && high / low > 40.0)
}

/// The smallest and the largest of the finite values.
pub fn extent(values: impl IntoIterator<Item = f64>) -> Option<(f64, f64)> {
    values
        .into_iter()
        .filter(|value| value.is_finite())
        .fold(None, |extent, value| match extent {
            None => Some((value, value)),
            Some((low, high)) => Some((f64::min(low, value), f64::max(high, value))),
        })
}

/// A domain of some width around what was given.
fn widened((low, high): (f64, f64)) -> (f64, f64) {
    if !(low.is_finite() && high.is_finite()) {
        return (0.0, 1.0);
    }
    let room = (high - low).abs();
    let least = low.abs().max(high.abs()) * 1e-9;
    if room > least {
        (low, high)
    } else if low.abs() > 0.0 {
        (low - low.abs() * 0.1, high + low.abs() * 0.1)
    } else {
        (0.0, 1.0)
    }
}

/// The smallest of 1, 2 and 5 times a power of ten that is at least `step`.
fn round_step(step: f64) -> f64 {
    let power = 10_f64.powf(step.log10().floor());
    [1.0, 2.0, 5.0, 10.0]
        .into_iter()
        .map(|factor| factor * power)
        .find(|candidate| *candidate >= step * (1.0 - 1e-9))
        .unwrap_or(10.0 * power)
}

fn linear_ticks((low, high): (f64, f64), step: f64) -> Vec<Tick> {
    let slack = step * 1e-6;
    let decimals = decimals_of_step(step);
    let first = ((low - slack) / step).ceil();
    std::iter::successors(Some(first), |index| Some(index + 1.0))
        .map(|index| index * step)
        .take_while(|value| *value <= high + slack)
        .take(TICK_LIMIT)
        .map(|value| Tick {
            value,
            label: tick_label(value, decimals),
        })
        .collect()
}

fn decades() -> impl DoubleEndedIterator<Item = f64> {
    (-12_i32..=15).map(|exponent| 10_f64.powi(exponent))
}

fn below(value: f64, factors: &[f64]) -> Option<f64> {
    decades()
        .flat_map(|decade| factors.iter().map(move |factor| factor * decade))
        .take_while(|candidate| *candidate <= value * (1.0 + 1e-9))
        .last()
}

fn above(value: f64, factors: &[f64]) -> Option<f64> {
    decades()
        .flat_map(|decade| factors.iter().map(move |factor| factor * decade))
        .find(|candidate| *candidate >= value * (1.0 - 1e-9))
}

fn log_ticks((low, high): (f64, f64), factors: &[f64], most: f64) -> Vec<Tick> {
    let values: Vec<f64> = decades()
        .flat_map(|decade| factors.iter().map(move |factor| factor * decade))
        .filter(|value| *value >= low * (1.0 - 1e-9) && *value <= high * (1.0 + 1e-9))
        .collect();
    let every = (1..=values.len().max(1))
        .find(|every| values.len().div_ceil(*every) as f64 <= most.max(2.0))
        .unwrap_or(1);
    values
        .into_iter()
        .step_by(every)
        .map(|value| Tick {
            value,
            label: tick_label(value, decimals_of_step(value)),
        })
        .collect()
}

fn decimals_of_step(step: f64) -> usize {
    (0..9)
        .find(|decimals| step * decade(*decimals) >= 1.0 - 1e-9)
        .unwrap_or(9)
}

fn decade(decimals: usize) -> f64 {
    (0..decimals).fold(1.0, |power, _| power * 10.0)
}

fn tick_label(value: f64, decimals: usize) -> String {
    let size = value.abs();
    let (divisor, suffix) = if size >= 1e15 || (size > 0.0 && decimals > 6) {
        return signed(format!("{value:.0e}"));
    } else if size >= 1e9 {
        (1e9, "G")
    } else if size >= 1e6 {
        (1e6, "M")
    } else if size >= 1e4 {
        (1e3, "k")
    } else {
        return number(value, decimals);
    };
    let scaled = format!("{:.3}", value / divisor);
    let scaled = scaled.trim_end_matches('0').trim_end_matches('.');
    signed(format!("{scaled}{suffix}"))
}

/// A number with a fixed count of decimals, a true minus sign, and commas between thousands.
pub fn number(value: f64, decimals: usize) -> String {
    let written = format!("{:.decimals$}", value.abs());
    let (whole, fraction) = written
        .split_once('.')
        .map_or((written.as_str(), None), |(whole, fraction)| {
            (whole, Some(fraction))
        });
    let mut grouped = String::new();
    if value < 0.0 && written.contains(|digit: char| ('1'..='9').contains(&digit)) {
        grouped.push('\u{2212}');
    }
    for (index, digit) in whole.chars().enumerate() {
        if index > 0 && (whole.len() - index).is_multiple_of(3) {
            grouped.push(',');
        }
        grouped.push(digit);
    }
    if let Some(fraction) = fraction {
        grouped.push('.');
        grouped.push_str(fraction);
    }
    grouped
}

/// The decimals that show a value as far as it is known: two digits of the half width of its
/// interval, or four digits of the value where there is no interval, and never more than six.
pub fn decimals_for(value: f64, half_width: Option<f64>) -> usize {
    let (size, digits) = match half_width {
        Some(half) if half > 0.0 && half.is_finite() => (half, 10.0),
        _ if value.abs() > 0.0 => (value.abs(), 1000.0),
        _ => return 0,
    };
    (0..6)
        .find(|decimals| {
            let power = decade(*decimals) * (1.0 + 1e-9);
            size * power >= digits || value.abs() * power >= 1e5
        })
        .unwrap_or(6)
}

fn signed(written: String) -> String {
    match written.strip_prefix('-') {
        Some(rest) => format!("\u{2212}{rest}"),
        None => written,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn labels(scale: &Scale) -> Vec<&str> {
        scale
            .ticks()
            .iter()
            .map(|tick| tick.label.as_str())
            .collect()
    }

    #[test]
    fn linear_ticks_are_round_and_cover_the_domain() {
        // A fifth of 3.4 is 0.68, and the next round step is 1: from -1 to 3.
        let scale = Scale::linear((-0.4, 3.0), (0.0, 400.0), 5.0);
        assert_eq!(labels(&scale), ["\u{2212}1", "0", "1", "2", "3"]);
        assert!((scale.at(1.0) - 200.0).abs() < 1e-9);
        assert!((scale.clamped(9.0) - 400.0).abs() < 1e-9);
    }

    #[test]
    fn a_log_axis_labels_decades_or_finer_where_there_is_room() {
        let wide = Scale::logarithmic((3.0, 40_000.0), (0.0, 500.0), 6.0);
        assert_eq!(labels(&wide), ["1", "10", "100", "1,000", "10k", "100k"]);
        let narrow = Scale::logarithmic((0.3, 4.0), (0.0, 300.0), 6.0);
        assert_eq!(labels(&narrow), ["0.2", "0.5", "1", "2", "5"]);
        assert!(narrow.clamped(-1.0).abs() < 1e-9 && (narrow.clamped(9.0) - 300.0).abs() < 1e-9);
        assert!((narrow.at(1.0) - 300.0 * 5_f64.ln() / 25_f64.ln()).abs() < 1e-9);
    }

    #[test]
    fn degenerate_domains_still_have_a_scale() {
        for domain in [(0.0, 0.0), (5.0, 5.0), (f64::NAN, 1.0), (1e300, 1e300)] {
            let scale = Scale::linear(domain, (0.0, 100.0), 4.0);
            assert!(!scale.ticks().is_empty(), "{domain:?}");
            let scale = Scale::logarithmic(domain, (0.0, 100.0), 4.0);
            assert!(!scale.ticks().is_empty(), "{domain:?}");
        }
    }

    #[test]
    fn numbers_show_what_is_known() {
        assert_eq!(number(-1_234_567.891, 1), "\u{2212}1,234,567.9");
        assert_eq!(number(-0.001, 2), "0.00");
        // A half width of 0.012 is known to two digits at three decimals.
        assert_eq!(decimals_for(0.9, Some(0.012)), 3);
        assert_eq!(decimals_for(123.4, None), 1);
        assert_eq!(decimals_for(12.5, Some(1e-15)), 4);
        assert_eq!(decimals_for(0.0, None), 0);
        assert_eq!(extent([f64::NAN, 2.0, -1.0]), Some((-1.0, 2.0)));
    }
}
