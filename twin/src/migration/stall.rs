//! Stalls of a container that runs while its memory is still being pulled (post-copy).
//!
//! Missing pages M stream in for *T* = M / R seconds, each of them once and in an order that has
//! nothing to do with when they are touched. One that the container touches before it is there is
//! asked for at once, jumps the queue, and costs
//!
//! ```text
//! c = RTT + page / R
//! ```
//!
//! After *t* seconds the share 1 − t/T of the pages has not come. Of the pages that the container
//! touches for the first time, D′(a) a second after it has run for *a* seconds, the share
//! m = min(1, M / bound of D) was missing at the resume, so it runs at the speed
//!
//! ```text
//! da/dt = 1 / (1 + c · m · (1 − t/T) · D′(a) / page)
//! ```
//!
//! and has stalled for S = T − a(T) in the end, by S / c remote faults. With κ = c m / page the
//! solution is ∫₀ᵃ exp(κ D(u) / T) du = T, for linear D it is a / T = ln(1 + κ r) / (κ r); in
//! general it is integrated by Runge and Kutta's method, in steps that grow shorter towards the
//! end. The container is told the mean speed a / T.
//!
//! Left out: threads that go on while another stalls, prefetching around a fault, pages that are
//! touched in the order in which they arrive, and that faults slow down the stream.

use super::{DirtyPages, PAGE};
use crate::units::Mebibytes;

/// Steps of the integration.
const STEPS: u32 = 128;

/// What a container loses to faults while its memory is pulled.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Stall {
    /// Share of the time in which it runs.
    pub(super) speed: f64,
    /// Seconds that one fault costs.
    pub(super) fault_s: f64,
}

/// The stall while `missing` pages are pulled at `bandwidth_mib_per_s`.
pub(super) fn stall(
    touched: DirtyPages,
    missing: Mebibytes,
    bandwidth_mib_per_s: f64,
    rtt_s: f64,
) -> Stall {
    let pull_s = missing.0 / bandwidth_mib_per_s;
    let fault_s = rtt_s + PAGE.0 / bandwidth_mib_per_s;
    let touched = match touched {
        // No page is missing twice.
        DirtyPages::Linear {
            rate_mib_per_s,
            limit: None,
        } => DirtyPages::Linear {
            rate_mib_per_s,
            limit: Some(missing),
        },
        bounded => bounded,
    };
    let missing_share = match touched.bound() {
        Some(bound) if bound > missing => missing.0 / bound.0,
        _ => 1.0,
    };
    let cost = fault_s * missing_share / PAGE.0;
    Stall {
        speed: mean_speed(touched, cost, pull_s),
        fault_s,
    }
}

/// The mean of da/dt over the pull, with `cost` seconds of stall a MiB that is touched while
/// missing.
fn mean_speed(touched: DirtyPages, cost: f64, pull_s: f64) -> f64 {
    // With y² = 1 − t/T, which goes from 1 to 0, and a = α T: dα = 2 y / (1 + cost y² D′) · −dy.
    let slope = |y: f64, run: f64| {
        let stall = cost * y * y * touched.rate_after(run.clamp(0.0, 1.0) * pull_s);
        2.0 * y / (1.0 + stall)
    };
    let step = 1.0 / f64::from(STEPS);
    let mut run = 0.0;
    for k in (0..STEPS).rev() {
        let (end, middle, start) = (
            f64::from(k) * step,
            (f64::from(k) + 0.5) * step,
            f64::from(k + 1) * step,
        );
        let first = slope(start, run);
        let second = slope(middle, run + first * step / 2.0);
        let third = slope(middle, run + second * step / 2.0);
        let fourth = slope(end, run + third * step);
        run += step * (first + 2.0 * second + 2.0 * third + fourth) / 6.0;
    }
    run.clamp(0.0, 1.0)
}

#[cfg(test)]
mod tests {
    use rand::Rng;

    use super::*;

    #[test]
    fn one_that_touches_nothing_never_stalls() {
        let stall = stall(DirtyPages::None, Mebibytes(512.0), 100.0, 0.001);
        assert!((stall.speed - 1.0).abs() < 1e-15);
    }

    /// T = 100 MiB / 100 MiB/s = 1 s, and a MiB is 256 pages, so κ r = 256 c r, and the speed is
    /// ln(1 + κ r) / (κ r), from 0.88 at r = 2 MiB/s to 0.07 at r = 90 MiB/s.
    #[test]
    fn a_linear_stall_has_a_closed_form() {
        for (rate_mib_per_s, rtt_s) in [(2.0, 0.5e-3), (20.0, 0.5e-3), (90.0, 2e-3)] {
            let touched = DirtyPages::Linear {
                rate_mib_per_s,
                limit: None,
            };
            let stall = stall(touched, Mebibytes(100.0), 100.0, rtt_s);
            let kappa_r = 256.0 * (rtt_s + 1.0 / 25_600.0) * rate_mib_per_s;
            let expected = kappa_r.ln_1p() / kappa_r;
            assert!((stall.speed / expected - 1.0).abs() < 1e-6, "{stall:?}");
        }
    }

    /// The running time a solves ∫₀ᵃ exp(κ D(u) / T) du = T; here by the sum over 100,000 pieces.
    #[test]
    fn the_stall_of_a_working_set_solves_its_equation() {
        let (missing, bandwidth, rtt_s) = (Mebibytes(64.0), 64.0, 0.2e-3);
        for rate_mib_per_s in [1.0, 20.0, 200.0] {
            let touched = DirtyPages::WorkingSet {
                size: Mebibytes(16.0),
                rate_mib_per_s,
            };
            let stall = stall(touched, missing, bandwidth, rtt_s);
            let pull_s = missing.0 / bandwidth;
            let kappa = stall.fault_s / PAGE.0;
            let pieces = 100_000;
            let width = stall.speed * pull_s / f64::from(pieces);
            let integral: f64 = (0..pieces)
                .map(|k| (f64::from(k) + 0.5) * width)
                .map(|u| (kappa * touched.after(u).0 / pull_s).exp() * width)
                .sum();
            assert!(
                (integral / pull_s - 1.0).abs() < 1e-5,
                "{stall:?}: {integral}"
            );
        }
    }

    /// Pages, touches and arrivals one by one: pages arrive in a random order, and the container
    /// touches pages at random and waits for those that are missing.
    #[test]
    fn the_stall_is_that_of_pages_simulated_one_by_one() {
        let (pages, working_set) = (16_384_u32, 4_096_u32);
        let memory = Mebibytes(f64::from(pages) * PAGE.0);
        // 64 MiB at 64 MiB/s: a page each 61 µs, 1 s in all.
        let (bandwidth, rtt_s) = (64.0, 0.2e-3);
        for touches_per_s in [500.0, 5_000.0, 50_000.0] {
            let touched = DirtyPages::WorkingSet {
                size: Mebibytes(f64::from(working_set) * PAGE.0),
                rate_mib_per_s: touches_per_s * PAGE.0,
            };
            let predicted = stall(touched, memory, bandwidth, rtt_s);
            let simulated_s: f64 = (0..8)
                .map(|run| simulate(pages, working_set, touches_per_s, bandwidth, rtt_s, run))
                .sum::<f64>()
                / 8.0;
            let predicted_s = (1.0 - predicted.speed) * memory.0 / bandwidth;
            let error = predicted_s / simulated_s - 1.0;
            assert!(
                error.abs() < 0.02,
                "{touches_per_s} touches/s: {predicted_s} s for {simulated_s} s"
            );
        }
    }

    /// Seconds stalled, in one run.
    fn simulate(
        pages: u32,
        working_set: u32,
        touches_per_s: f64,
        bandwidth: f64,
        rtt_s: f64,
        run: u64,
    ) -> f64 {
        let mut stream = crate::stream::named(run, "pages");
        let mut uniform = move || ((stream.next_u64() >> 11) as f64) / 9_007_199_254_740_992.0;
        let page_s = PAGE.0 / bandwidth;
        // A page's place in the stream, in units of the whole stream.
        let arrives_s: Vec<f64> = (0..working_set)
            .map(|_| uniform() * f64::from(pages) * page_s)
            .collect();
        let mut here = vec![false; arrives_s.len()];
        let end_s = f64::from(pages) * page_s;
        let (mut now_s, mut stalled_s) = (0.0, 0.0);
        loop {
            now_s += -(1.0 - uniform()).ln() / touches_per_s;
            if now_s >= end_s {
                return stalled_s;
            }
            #[expect(
                clippy::cast_possible_truncation,
                clippy::cast_sign_loss,
                reason = "a uniform value times the number of pages is a page"
            )]
            let page = (uniform() * f64::from(working_set)) as usize;
            if !here[page] && arrives_s[page] > now_s {
                now_s += rtt_s + page_s;
                stalled_s += rtt_s + page_s;
            }
            here[page] = true;
        }
    }
}
