//! How long a request takes on a share of a CPU, from measurements: the delay model of an
//! edge-cloud controller.
//!
//! ```
//! use twin::delay::{Measurements, report::Report};
//!
//! let report = Report::of(&Measurements::embedded()?);
//! let dog = &report.groups[0].best.fit.curve;
//! let share = dog.cpu_share_for(10.0).expect("ten seconds are enough on the whole CPU");
//! assert!((dog.delay_s(share) - 10.0).abs() < 1e-9);
//! # Ok::<(), twin::delay::MeasurementsError>(())
//! ```
//!
//! With *x* the share of the CPU, between 0 and 1, four families are tried:
//!
//! ```text
//! exponential           d = a · exp(−b x)          exponential-offset  d = a · exp(−b x) + c
//! power                 d = a · x^(−b)             power-offset        d = a · x^(−b) + c
//! ```
//!
//! with *a*, *b* > 0 and *c* ≥ 0: more CPU never takes longer, and no delay is negative. All
//! measurements together take a factor (size / reference size)^*g* in front.
//! Parameters are those of least squares weighted by 1 / (*d*² + (*u* / ρ)²), *u* the uncertainty of
//! a value that was read off a chart: relative errors, since a controller compares delays that are
//! tens of times apart, and a value whose uncertainty is a share ρ = 0.05 of it counts half.
//! The family is that of the least error on measurements left out of the fit one by one (Stone,
//! "Cross-validatory choice and assessment of statistical predictions", JRSS B, 1974).
//!
//! Left out: spread between runs, which the measurements do not tell, and more than one CPU.

pub mod command;
pub mod curve;
pub mod fit;
mod measurements;
pub mod report;

pub use measurements::{HEADER, MAX_ROWS, Measurement, Measurements, MeasurementsError};
