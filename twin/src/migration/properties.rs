//! Properties of migrations whatever their numbers.

use proptest::prelude::*;
use proptest::strategy::Strategy as Values;

use super::{
    Attempt, Cause, Container, Demand, DirtyPages, Ending, FaultProbabilities, Location, Migration,
    Order, Report, Reservation, Spec, StopRules, Strategy,
};
use crate::ids::HostId;
use crate::units::{Mebibytes, MegabitsPerSecond, Ratio, SimTime};

/// Rounding in sums of a few dozen terms.
const ROUNDING: f64 = 1e-9;

fn at_most(value: f64, limit: f64) -> bool {
    value <= limit + ROUNDING * (1.0 + limit.abs())
}

/// Models of pages within a memory of `memory_mib`.
fn pages(memory_mib: f64) -> impl Values<Value = DirtyPages> {
    let rate = 0.0..500.0;
    let size = 0.01..1.0;
    prop_oneof![
        Just(DirtyPages::None),
        (rate.clone(), size.clone()).prop_map(move |(rate_mib_per_s, share)| DirtyPages::Linear {
            rate_mib_per_s,
            limit: Some(Mebibytes(share * memory_mib)),
        }),
        (rate, size).prop_map(move |(rate_mib_per_s, share)| DirtyPages::WorkingSet {
            size: Mebibytes(share * memory_mib),
            rate_mib_per_s,
        }),
    ]
}

fn rules() -> impl Values<Value = StopRules> {
    (
        0_u64..1_000_000_000,
        0_u32..20,
        prop::option::of(1.0..5.0),
        prop::option::of(0.0..0.9),
    )
        .prop_map(
            |(downtime_limit, max_rounds, max_sent_ratio, min_gain)| StopRules {
                downtime_limit: SimTime(downtime_limit),
                max_rounds,
                max_sent_ratio,
                min_gain,
            },
        )
}

/// A stop-and-copy of anything; other strategies are put in its place.
fn specs() -> impl Values<Value = Spec> {
    let span = || (0_u64..500_000_000).prop_map(SimTime);
    (1.0..2_000.0).prop_flat_map(move |memory_mib| {
        (
            (pages(memory_mib), pages(memory_mib)),
            (0.0..10.0, 0.0..300.0),
            (0_u64..50_000_000).prop_map(SimTime),
            (span(), span(), span(), span()),
        )
            .prop_map(
                move |(
                    (dirtied, touched),
                    (state, image),
                    rtt,
                    (dump, restore, verify, resume),
                )| {
                    Spec {
                        state: Mebibytes(state),
                        dirtied,
                        touched,
                        image: Mebibytes(image),
                        rtt,
                        dump,
                        restore,
                        verify,
                        resume,
                        ..Spec::new(Strategy::StopAndCopy, Mebibytes(memory_mib))
                    }
                },
            )
    })
}

fn strategies() -> impl Values<Value = Strategy> {
    prop_oneof![
        Just(Strategy::StopAndCopy),
        rules().prop_map(Strategy::PreCopy),
        Just(Strategy::PostCopy),
        rules().prop_map(Strategy::Hybrid),
    ]
}

fn probabilities() -> impl Values<Value = FaultProbabilities> {
    let p = || (0.0..0.6).prop_map(Ratio);
    (p(), p(), p(), p()).prop_map(|(planning, preparing, executing, verifying)| {
        FaultProbabilities {
            planning,
            preparing,
            executing,
            verifying,
        }
    })
}

fn run(spec: Spec, strategy: Strategy, mbps: f64) -> Report {
    Migration::run_at(Spec { strategy, ..spec }, MegabitsPerSecond(mbps)).expect("it makes sense")
}

proptest! {
    #![proptest_config(crate::validation::property(128, ProptestConfig::default()))]

    #[test]
    fn every_report_adds_up(
        spec in specs(),
        strategy in strategies(),
        mbps in 10.0..10_000.0,
    ) {
        let report = run(spec, strategy, mbps);
        let whole = spec.memory + spec.state;
        prop_assert!(at_most(whole.0, report.sent.0), "all memory is sent: {report:?}");
        prop_assert!(at_most(report.downtime_s + report.stall_s, report.total_s), "{report:?}");
        prop_assert!((report.fetched.0 - spec.image.0).abs() <= ROUNDING);
        prop_assert!(report.stall_s >= 0.0 && report.remote_faults >= 0.0);
        let least_s = report.bytes().0 / super::mib_per_second(MegabitsPerSecond(mbps));
        prop_assert!(at_most(least_s, report.total_s), "the path carries no more: {report:?}");
        if let Strategy::PreCopy(rules) | Strategy::Hybrid(rules) = strategy {
            prop_assert!(report.rounds <= rules.max_rounds);
            prop_assert!(report.pre_copy_end.is_some());
        }
    }

    /// Pages that are never written twice within a round bound what is left by the memory.
    #[test]
    fn stop_and_copy_sends_least_and_is_down_longest(
        spec in specs(),
        other in strategies(),
        mbps in 10.0..10_000.0,
    ) {
        let stop = run(spec, Strategy::StopAndCopy, mbps);
        let other = run(spec, other, mbps);
        prop_assert!(at_most(stop.sent.0, other.sent.0), "{stop:?}, {other:?}");
        prop_assert!(at_most(other.downtime_s, stop.downtime_s), "{stop:?}, {other:?}");
    }

    #[test]
    fn post_copy_sends_each_page_once_whatever_is_written(
        spec in specs(),
        mbps in 10.0..10_000.0,
    ) {
        let report = run(spec, Strategy::PostCopy, mbps);
        let whole = spec.memory + spec.state;
        prop_assert!((report.sent.0 - whole.0).abs() <= ROUNDING * whole.0);
        // Not even all pages can be asked for more than once.
        prop_assert!(at_most(report.remote_faults, spec.memory.0 / super::PAGE.0));
    }

    /// What has no rule that trades bytes for rounds is no worse with more bandwidth.
    #[test]
    fn more_bandwidth_never_hurts(
        spec in specs(),
        mbps in 10.0..5_000.0,
        factor in 1.0..4.0,
        max_rounds in 0_u32..10,
    ) {
        let fixed = StopRules {
            downtime_limit: SimTime::ZERO,
            max_rounds,
            max_sent_ratio: None,
            min_gain: None,
        };
        for strategy in [
            Strategy::StopAndCopy,
            Strategy::PreCopy(fixed),
            Strategy::PostCopy,
            Strategy::Hybrid(fixed),
        ] {
            let (slow, fast) = (run(spec, strategy, mbps), run(spec, strategy, mbps * factor));
            prop_assert!(at_most(fast.total_s, slow.total_s), "{fast:?}, {slow:?}");
            prop_assert!(at_most(fast.downtime_s, slow.downtime_s), "{fast:?}, {slow:?}");
            prop_assert!(at_most(fast.stall_s, slow.stall_s), "{fast:?}, {slow:?}");
            prop_assert!(at_most(fast.sent.0, slow.sent.0), "{fast:?}, {slow:?}");
        }
    }

    /// Where rounds end because the rest fits, the downtime keeps its limit.
    #[test]
    fn what_fits_keeps_the_limit(
        spec in specs(),
        rules in rules(),
        mbps in 10.0..10_000.0,
    ) {
        let report = run(spec, Strategy::PreCopy(rules), mbps);
        if report.pre_copy_end == Some(super::PreCopyEnd::Fits) {
            let limit_s = rules.downtime_limit.seconds();
            prop_assert!(at_most(report.downtime_s, limit_s), "{report:?}");
        }
    }

    /// Faults from the seed, interruptions from outside, and bandwidth that varies: the ends'
    /// memory adds up, and the container is at one place.
    #[test]
    fn attempts_settle_what_they_reserve(
        spec in specs(),
        strategy in strategies(),
        faults in probabilities(),
        key in any::<u64>(),
        bandwidths in prop::collection::vec(1.0..1_000.0_f64, 1..8),
        interrupted in prop::option::of((0_usize..40, 0_usize..3)),
    ) {
        let spec = Spec { strategy, ..spec };
        let expected = MegabitsPerSecond(100.0);
        let mut attempt = Attempt::new(key, spec, expected, faults).expect("it makes sense");
        let mut reserved = 0;
        attempt.plan().expect("it is pending");
        let mut order = attempt
            .prepare(|ram| {
                reserved += 1;
                Some(Reservation { host: HostId(1), ram })
            })
            .expect("it is planned");
        let mut carried = 0;
        let (mut total_s, mut downtime_s) = (0.0, 0.0);
        let ending = loop {
            let (demand, container) = match order {
                Order::End(ending) => break ending,
                Order::Carry { demand, container, .. } => (demand, container),
            };
            prop_assert_eq!(
                matches!(container, Container::AtDestination { .. }),
                attempt.machine().location() == Location::Destination
            );
            let mib_per_s = bandwidths[carried % bandwidths.len()];
            let (elapsed_s, sent) = match demand {
                Demand::Transfer(size) => (size.0 / mib_per_s, size),
                Demand::Delay(span) => (span.seconds(), Mebibytes(0.0)),
                Demand::Nothing => unreachable!("orders demand something"),
            };
            let cut = interrupted.filter(|&(at, _)| at == carried);
            let share = if cut.is_some() { 0.5 } else { 1.0 };
            total_s += share * elapsed_s;
            if container == Container::Paused {
                downtime_s += share * elapsed_s;
            }
            order = match cut {
                Some((_, cause)) => {
                    let causes = [Cause::SourceLost, Cause::DestinationLost, Cause::LinkLost];
                    let half = Mebibytes(0.5 * sent.0);
                    attempt.interrupt(causes[cause], 0.5 * elapsed_s, half)
                }
                None => attempt.finish(elapsed_s),
            }
            .expect("an order is under way");
            carried += 1;
        };
        let (settled, location) = match ending {
            Ending::Completed { reservation } => (Some(reservation), Location::Destination),
            Ending::RolledBack { reservation } => (reservation, Location::Source),
            Ending::Lost { reservation } => (reservation, Location::Lost),
        };
        prop_assert_eq!(usize::from(settled.is_some()), reserved);
        prop_assert_eq!(attempt.machine().location(), location);
        prop_assert!(attempt.machine().ended() && attempt.outcome().is_some());
        let report = attempt.report();
        prop_assert!((report.total_s - total_s).abs() <= ROUNDING * (1.0 + total_s));
        prop_assert!((report.downtime_s - downtime_s).abs() <= ROUNDING * (1.0 + downtime_s));
    }
}
