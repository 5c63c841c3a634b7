//! Which curve fits which measurements, for people and as a value.

use std::collections::BTreeMap;
use std::fmt::Write;

use serde::Serialize;

use super::curve::{Curve, FAMILIES};
use super::fit::{Errors, Fit, Sizes, cross_validate};
use super::measurements::{Measurement, Measurements};

/// Fits of every group of measurements.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Report {
    /// One for each image and resolution in the order of the file, then one for all together where
    /// there are several sizes. Groups with too few measurements for any fit are left out.
    pub groups: Vec<Group>,
}

/// The fits of one group.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Group {
    /// Image and resolution, or `all`.
    pub name: String,
    /// Measurements in it.
    pub rows: usize,
    /// The fit with the least error on what was left out.
    pub best: Candidate,
    /// The other families that could be fitted, better ones first.
    pub others: Vec<Candidate>,
}

/// One family fitted to one group.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Candidate {
    /// Fitted to all measurements of the group.
    #[serde(flatten)]
    pub fit: Fit,
    /// How far it is off them.
    pub fitted: Errors,
    /// How far fits are off the one measurement that they did not see.
    pub left_out: Errors,
    /// How far fits are off the one image that they did not see (`all` only).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub left_out_image: Option<Errors>,
}

impl Group {
    /// Every family that could be fitted, best first.
    pub fn candidates(&self) -> impl Iterator<Item = &Candidate> {
        std::iter::once(&self.best).chain(&self.others)
    }
}

impl Report {
    /// The fits of `measurements`.
    #[must_use]
    pub fn of(measurements: &Measurements) -> Self {
        let mut names: Vec<(&str, &str)> = Vec::new();
        for m in &measurements.rows {
            let name = (m.image.as_str(), m.resolution.as_str());
            if !names.contains(&name) {
                names.push(name);
            }
        }
        let mut groups = Vec::new();
        for (image, resolution) in &names {
            let rows: Vec<&Measurement> = measurements
                .rows
                .iter()
                .filter(|m| m.image == *image && m.resolution == *resolution)
                .collect();
            groups.extend(group(format!("{image} {resolution}"), &rows, Sizes::One));
        }
        let all: Vec<&Measurement> = measurements.rows.iter().collect();
        let sizes: BTreeMap<u64, ()> = all.iter().map(|m| (m.size_kb.to_bits(), ())).collect();
        if sizes.len() > 1 {
            groups.extend(group("all".into(), &all, Sizes::Power));
        }
        Self { groups }
    }

    /// The report as text; with `tolerated_s`, what each group needs for that delay.
    #[must_use]
    pub fn to_text(&self, tolerated_s: Option<f64>) -> String {
        let mut text = String::from(
            "delay = a · exp(−b · share) + c  or  a · share^(−b) + c, times (size / reference)^g\n",
        );
        for group in &self.groups {
            // Writing to a string cannot fail.
            let _ = writeln!(text, "\n{} ({} measurements)", group.name, group.rows);
            let _ = writeln!(
                text,
                "  {:<19} {:>9} {:>8} {:>8} {:>7} {:>8} {:>10} {:>9} {:>13}",
                "family",
                "a (s)",
                "b",
                "c (s)",
                "g",
                "fit (%)",
                "left out (%)",
                "(s rms)",
                "new image (%)"
            );
            for (rank, candidate) in group.candidates().enumerate() {
                text.push_str(&line(candidate, rank == 0));
            }
            if let Some(tolerated_s) = tolerated_s {
                text.push_str(&need(group, tolerated_s));
            }
        }
        text
    }
}

/// The fits of one group; `None` where none can be made.
fn group(name: String, rows: &[&Measurement], sizes: Sizes) -> Option<Group> {
    let images: Vec<usize> = rows
        .iter()
        .map(|m| rows.iter().position(|o| o.image == m.image).unwrap_or(0))
        .collect();
    let mut candidates: Vec<Candidate> = FAMILIES
        .into_iter()
        .filter_map(|family| {
            let fit = Fit::of(rows, family, sizes)?;
            Some(Candidate {
                fit,
                fitted: fit.errors(rows),
                left_out: cross_validate(rows, |i| i, family, sizes)?,
                left_out_image: match sizes {
                    Sizes::One => None,
                    Sizes::Power => cross_validate(rows, |i| images[i], family, sizes),
                },
            })
        })
        .collect();
    // The order of families decides between equal errors: a stable sort keeps the simpler one.
    candidates.sort_by(|a, b| a.left_out.relative.total_cmp(&b.left_out.relative));
    let mut ranked = candidates.into_iter();
    Some(Group {
        name,
        rows: rows.len(),
        best: ranked.next()?,
        others: ranked.collect(),
    })
}

fn line(candidate: &Candidate, best: bool) -> String {
    let Curve {
        family,
        a_s,
        b,
        c_s,
        ..
    } = candidate.fit.curve;
    let image = candidate
        .left_out_image
        .map_or_else(String::new, |e| format!(" {:>13.1}", e.relative * 100.0));
    format!(
        "{} {:<19} {a_s:>9.3} {b:>8.3} {c_s:>8.3} {:>7.3} {:>8.1} {:>12.1} {:>9.2}{image}\n",
        if best { '*' } else { ' ' },
        family.name(),
        candidate.fit.size_exponent,
        candidate.fitted.relative * 100.0,
        candidate.left_out.relative * 100.0,
        candidate.left_out.rmse_s,
    )
}

fn need(group: &Group, tolerated_s: f64) -> String {
    match group.best.fit.curve.cpu_share_for(tolerated_s) {
        Some(share) => {
            format!("  {tolerated_s} s need {:.1} % of the CPU\n", share * 100.0)
        }
        None => format!("  {tolerated_s} s are not enough on the whole CPU\n"),
    }
}

#[cfg(test)]
mod tests {
    use super::super::curve::Family;
    use super::*;

    /// Measurements of `f` at ten shares, off by some percent in turn.
    fn noisy(f: impl Fn(f64) -> f64) -> Measurements {
        let rows = (1..=10u32).map(|i| {
            let cpu_share = f64::from(i) / 10.0;
            let off = 1.0 + 0.02 * f64::from((i * 7) % 5) - 0.04;
            Measurement {
                image: "any".into(),
                resolution: "720p".into(),
                size_kb: 100.0,
                cpu_share,
                delay_s: f(cpu_share) * off,
                uncertainty_s: 0.0,
            }
        });
        Measurements {
            rows: rows.collect(),
        }
    }

    fn chosen(f: impl Fn(f64) -> f64) -> Family {
        Report::of(&noisy(f)).groups[0].best.fit.curve.family
    }

    #[test]
    fn the_family_of_the_measurements_is_chosen() {
        assert_eq!(chosen(|x| 60.0 * (-3.0 * x).exp()), Family::Exponential);
        assert_eq!(chosen(|x| 6.0 / x), Family::Power);
        assert_eq!(
            chosen(|x| 60.0 * (-9.0 * x).exp() + 8.0),
            Family::ExponentialOffset
        );
        assert_eq!(chosen(|x| x.powf(-1.5) + 8.0), Family::PowerOffset);
    }

    #[test]
    fn the_embedded_measurements_have_a_best_curve_each() {
        let measurements = Measurements::embedded().expect("the embedded file is right");
        let report = Report::of(&measurements);
        let names: Vec<&str> = report.groups.iter().map(|g| g.name.as_str()).collect();
        assert_eq!(names, ["dog 720p", "girl 1080p", "cat 4k", "all"]);
        for group in &report.groups {
            let errors: Vec<f64> = group.candidates().map(|c| c.left_out.relative).collect();
            assert!(errors.is_sorted(), "{}: {errors:?}", group.name);
            let curve = group.best.fit.curve;
            for m in &measurements.rows {
                if let Some(share) = curve.cpu_share_for(m.delay_s) {
                    assert!((0.1..=1.0).contains(&share));
                    assert!(curve.delay_s(share) <= m.delay_s * (1.0 + 1e-9));
                }
            }
        }
    }
}
