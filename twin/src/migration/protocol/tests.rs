//! The protocol against closed forms and sums written out.

use super::*;
use crate::migration::DirtyPages;

/// 1 MiB/s.
const ONE: MegabitsPerSecond = MegabitsPerSecond(8.388_608);

fn mib_per_s(value: f64) -> MegabitsPerSecond {
    MegabitsPerSecond(value * ONE.0)
}

fn rounds(max_rounds: u32) -> StopRules {
    StopRules {
        downtime_limit: SimTime::ZERO,
        max_rounds,
        max_sent_ratio: None,
        min_gain: None,
    }
}

fn near(value: f64, expected: f64) -> bool {
    (value - expected).abs() <= 1e-12 * expected.abs()
}

/// 100 MiB at 10 MiB/s; all times differ, so that none can be mistaken for another.
fn timed(strategy: Strategy) -> Spec {
    let ms = |ms: u64| SimTime(ms * 1_000_000);
    Spec {
        state: Mebibytes(1.0),
        image: Mebibytes(30.0),
        rtt: ms(1),
        dump: ms(20),
        restore: ms(40),
        verify: ms(80),
        resume: ms(160),
        ..Spec::new(strategy, Mebibytes(100.0))
    }
}

#[test]
fn a_stop_and_copy_is_down_for_all_but_the_fetch_and_the_handshake() {
    let report = Migration::run_at(timed(Strategy::StopAndCopy), mib_per_s(10.0)).expect("it is");
    // Copy (100 + 1) / 10 = 10.1 s; RTT 0.001, dump 0.02, restore 0.04, verify 0.08, resume 0.16.
    let downtime_s = 10.1 + 0.001 + 0.02 + 0.04 + 0.08 + 0.16;
    assert!(near(report.downtime_s, downtime_s));
    // Image 30 / 10 = 3 s, handshake 0.001 s.
    assert!(near(report.total_s, downtime_s + 3.0 + 0.001));
    assert!(near(report.sent.0, 101.0));
    assert!(near(report.bytes().0, 131.0));
    assert_eq!((report.rounds, report.pre_copy_end), (0, None));
}

#[test]
fn a_post_copy_is_down_for_the_execution_state_alone() {
    let report = Migration::run_at(timed(Strategy::PostCopy), mib_per_s(10.0)).expect("it is");
    // State 1 / 10 = 0.1 s; RTT, dump, restore and resume; it is verified while it runs.
    let downtime_s = 0.1 + 0.001 + 0.02 + 0.04 + 0.16;
    assert!(near(report.downtime_s, downtime_s));
    // Image 3 s, handshake 0.001 s, pull 10 s, verify 0.08 s.
    assert!(near(report.total_s, downtime_s + 3.0 + 0.001 + 10.0 + 0.08));
    assert!(near(report.sent.0, 101.0));
    assert!(report.post_copy && report.stall_s < 1e-12);
}

#[test]
fn each_rule_ends_the_rounds() {
    let run = |rules: StopRules, dirtied: DirtyPages| {
        let spec = Spec {
            dirtied,
            ..Spec::new(Strategy::PreCopy(rules), Mebibytes(100.0))
        };
        let report = Migration::run_at(spec, mib_per_s(10.0)).expect("it makes sense");
        (report.pre_copy_end, report.rounds)
    };
    let half = DirtyPages::Linear {
        rate_mib_per_s: 5.0,
        limit: None,
    };
    // λ = 1/2. Left after round k: 100 / 2ᵏ MiB, that is 10 / 2ᵏ s: below 1 s after four.
    let fits = StopRules {
        downtime_limit: SimTime::from_seconds(1.0),
        ..rounds(30)
    };
    assert_eq!(run(fits, half), (Some(PreCopyEnd::Fits), 4));
    assert_eq!(run(rounds(7), half), (Some(PreCopyEnd::Rounds), 7));
    // Sent after k rounds: 100 · (2 − 2¹⁻ᵏ) MiB: 1.5 V after two, 1.75 V after three.
    let sent = StopRules {
        max_sent_ratio: Some(1.6),
        ..rounds(30)
    };
    assert_eq!(run(sent, half), (Some(PreCopyEnd::Sent), 3));
    // A working set of 40 MiB that is written all the time: 40 are left after each round, so
    // the second, which sends 40, gains nothing.
    let full = DirtyPages::WorkingSet {
        size: Mebibytes(40.0),
        rate_mib_per_s: 1e6,
    };
    let gain = StopRules {
        min_gain: Some(0.1),
        ..rounds(30)
    };
    assert_eq!(run(gain, full), (Some(PreCopyEnd::Gain), 2));
    let nothing = (Some(PreCopyEnd::NothingLeft), 1);
    assert_eq!(run(rounds(30), DirtyPages::None), nothing);
}

#[test]
fn fixed_times_count_against_the_downtime_limit() {
    let run = |limit_s: f64| {
        let spec = Spec {
            dirtied: DirtyPages::Linear {
                rate_mib_per_s: 5.0,
                limit: None,
            },
            restore: SimTime::from_seconds(0.5),
            ..Spec::new(
                Strategy::PreCopy(StopRules {
                    downtime_limit: SimTime::from_seconds(limit_s),
                    ..rounds(12)
                }),
                Mebibytes(100.0),
            )
        };
        let report = Migration::run_at(spec, mib_per_s(10.0)).expect("it makes sense");
        (report.pre_copy_end, report.rounds)
    };
    // 10 / 2ᵏ + 0.5 ≤ 1 from k = 5 on; it never is at most 0.5.
    assert_eq!(run(1.0), (Some(PreCopyEnd::Fits), 5));
    assert_eq!(run(0.5), (Some(PreCopyEnd::Rounds), 12));
}

#[test]
fn a_hybrid_pulls_what_the_rounds_left() {
    // A working set of 40 MiB, always written, and touched at 10 MiB/s.
    let spec = Spec {
        dirtied: DirtyPages::WorkingSet {
            size: Mebibytes(40.0),
            rate_mib_per_s: 1e6,
        },
        touched: DirtyPages::Linear {
            rate_mib_per_s: 10.0,
            limit: None,
        },
        ..Spec::new(Strategy::Hybrid(rounds(2)), Mebibytes(100.0))
    };
    let report = Migration::run_at(spec, mib_per_s(10.0)).expect("it makes sense");
    // 100 + 40 in rounds, 40 pulled: 18 s.
    assert_eq!(report.pre_copy_end, Some(PreCopyEnd::Rounds));
    assert!(report.post_copy);
    assert!(near(report.sent.0, 180.0));
    assert!(near(report.total_s, 18.0));
    assert!(report.downtime_s < 1e-12);
    // T = 4 s; a fault costs a page at 10 MiB/s, c = 1 / 2560 s, so κ r = 256 · 10 / 2560 = 1
    // and the speed is ln 2: S = 4 (1 − ln 2), by S / c faults.
    let stall_s = 4.0 * (1.0 - f64::ln(2.0));
    assert!((report.stall_s - stall_s).abs() < 1e-6);
    assert!((report.remote_faults - 2560.0 * stall_s).abs() < 1e-2);
    // With room in the downtime limit it ends as a pre-copy: 40 MiB take 4 s.
    let rules = StopRules {
        downtime_limit: SimTime::from_seconds(4.0),
        ..rounds(2)
    };
    let spec = Spec {
        strategy: Strategy::Hybrid(rules),
        ..spec
    };
    let report = Migration::run_at(spec, mib_per_s(10.0)).expect("it makes sense");
    assert!(!report.post_copy && near(report.downtime_s, 4.0));
}

#[test]
fn the_next_round_follows_from_how_long_the_last_one_took() {
    let spec = Spec {
        dirtied: DirtyPages::Linear {
            rate_mib_per_s: 2.0,
            limit: None,
        },
        ..Spec::new(Strategy::PreCopy(rounds(2)), Mebibytes(100.0))
    };
    let mut migration = Migration::new(spec, ONE).expect("it makes sense");
    migration.finish(0.0);
    migration.finish(0.0);
    // 100 MiB in 20 s, 40 MiB in 5 s, 10 MiB in 4 s.
    for (mib, elapsed_s) in [(100.0, 20.0), (40.0, 5.0)] {
        assert_eq!(migration.demand(), Demand::Transfer(Mebibytes(mib)));
        assert_eq!(migration.container(), Container::AtSource);
        migration.finish(elapsed_s);
    }
    assert_eq!(migration.stage(), Stage::Dump);
    migration.finish(0.0);
    assert_eq!(migration.demand(), Demand::Transfer(Mebibytes(10.0)));
    assert_eq!(migration.container(), Container::Paused);
    migration.finish(4.0);
    assert!(near(migration.report().total_s, 29.0));
    assert!(near(migration.report().downtime_s, 4.0));
}

#[test]
fn what_is_aborted_goes_back_only_before_the_resume() {
    let reach = |stage: Stage| {
        let mut migration = Migration::new(timed(Strategy::PostCopy), ONE).expect("it makes sense");
        while migration.stage() != stage {
            migration.finish(1.0);
        }
        migration
    };
    let mut copying = reach(Stage::Copy);
    let before = *copying.report();
    copying.abort(0.5, Mebibytes(0.25), false);
    assert_eq!(copying.stage(), Stage::RollBack);
    assert_eq!(copying.container(), Container::Paused);
    copying.finish(0.16);
    assert_eq!(copying.container(), Container::AtSource);
    assert_eq!(copying.demand(), Demand::Nothing);
    assert!(near(copying.report().sent.0, before.sent.0 + 0.25));
    assert!(near(copying.report().downtime_s, before.downtime_s + 0.66));

    let mut pulling = reach(Stage::Pull);
    assert!(!pulling.way_back());
    pulling.abort(0.5, Mebibytes(1.0), false);
    assert_eq!(pulling.stage(), Stage::Aborted { lost: true });
    assert_eq!(pulling.container(), Container::Lost);

    let mut crashed = reach(Stage::FetchImage);
    crashed.abort(0.5, Mebibytes(1.0), true);
    assert_eq!(crashed.container(), Container::Lost);
}

#[test]
fn a_bandwidth_of_nothing_is_refused() {
    let spec = Spec::new(Strategy::StopAndCopy, Mebibytes(1.0));
    for value in [0.0, -1.0, f64::NAN, f64::INFINITY] {
        let refused = Migration::run_at(spec, MegabitsPerSecond(value));
        assert!(refused.is_err(), "{value}");
    }
}
