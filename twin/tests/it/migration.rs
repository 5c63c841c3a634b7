//! Migration against what others publish: dirty pages against QEMU, durations against Liu et al.

use twin::migration::{DirtyPages, Migration, Spec, StopRules, Strategy};
use twin::units::{Mebibytes, MegabitsPerSecond, SimTime};

use crate::statistics::{at_most, relative_difference};

/// 3 million random writes a second to 1 GiB in pages of 4 KiB: W = 1024 MiB and
/// r = 3e6 · 4 / 1024 = 11718.75 MiB/s. The rate over a window t is D(t) / t. The published
/// column, "theoretical (at 3M wr/sec)" of QEMU's commit 34a68001f1, follows from some
/// 3.014 million writes a second, which is why the shortest windows differ by 0.2 %.
#[test]
fn dirty_rates_are_those_that_qemu_publishes() {
    let writes = DirtyPages::WorkingSet {
        size: Mebibytes(1024.0),
        rate_mib_per_s: 3e6 * 4.0 / 1024.0,
    };
    for (window_ms, published_mib_per_s) in [
        (100.0, 6996.0),
        (200.0, 4606.0),
        (300.0, 3305.0),
        (400.0, 2534.0),
        (500.0, 2041.0),
        (750.0, 1365.0),
        (1000.0, 1024.0),
        (1500.0, 683.0),
        (2000.0, 512.0),
    ] {
        let window_s = window_ms / 1e3;
        let rate = writes.after(window_s).0 / window_s;
        let what = format!(
            "QEMU, dirty rate over {window_ms} ms: {rate:.1}, {published_mib_per_s} MiB/s published"
        );
        let error = (rate / published_mib_per_s - 1.0).abs();
        at_most(error, 0.0025, &what);
    }
}

/// n rounds without any rule but their number, at λ = D / R.
fn rounds(lambda: f64, n: u32) -> Spec {
    let rules = StopRules {
        downtime_limit: SimTime::ZERO,
        max_rounds: n,
        max_sent_ratio: None,
        min_gain: None,
    };
    Spec {
        dirtied: DirtyPages::Linear {
            rate_mib_per_s: lambda * BANDWIDTH_MIB_PER_S,
            limit: None,
        },
        resume: SimTime(20_000_000),
        ..Spec::new(Strategy::PreCopy(rules), Mebibytes(MEMORY_MIB))
    }
}

const MEMORY_MIB: f64 = 1024.0;
const BANDWIDTH_MIB_PER_S: f64 = 100.0;
/// 1 MiB/s in Mbit/s.
const MBPS_PER_MIB_PER_S: f64 = 8.388_608;

/// Liu et al.: T = V/R (1 − λⁿ⁺¹) / (1 − λ), and V λⁿ / R + resume.
#[test]
fn linear_writes_at_constant_bandwidth_give_the_closed_form() {
    let bandwidth = MegabitsPerSecond(BANDWIDTH_MIB_PER_S * MBPS_PER_MIB_PER_S);
    let mut largest = [0.0; 3];
    for lambda in [0.01, 0.1, 0.3, 0.5, 0.9, 0.99, 1.5, 3.0] {
        for n in [0, 1, 2, 3, 5, 10, 29] {
            let report =
                Migration::run_at(rounds(lambda, n), bandwidth).expect("the migration makes sense");
            assert_eq!(report.rounds, n, "λ = {lambda}");
            let power = f64::powi(lambda, i32::try_from(n).expect("it is small"));
            let copy_s = MEMORY_MIB / BANDWIDTH_MIB_PER_S;
            let total_s = copy_s * (1.0 - power * lambda) / (1.0 - lambda);
            for (largest, (found, theory)) in largest.iter_mut().zip([
                (report.total_s, total_s + 0.02),
                (report.downtime_s, copy_s * power + 0.02),
                (report.sent.0, total_s * BANDWIDTH_MIB_PER_S),
            ]) {
                *largest = f64::max(*largest, relative_difference(found, theory));
            }
        }
    }
    let names = ["total time", "downtime", "bytes sent"];
    for (largest, name) in largest.into_iter().zip(names) {
        let what = format!("Liu et al., {name}, λ from 0.01 to 3, 0 to 29 rounds");
        at_most(largest, 1e-12, &what);
    }
}
