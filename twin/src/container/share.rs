//! Max-min fair sharing.

use super::CpuRate;

/// Shares `capacity` max-min fairly, each share at most its demand, and writes the shares to
/// `served`; `order` is scratch space that may be kept between calls.
///
/// The shares are exact: they add up to the smaller of `capacity` and Σ `demands`. Where that does
/// not divide evenly, shares that should be equal differ by at most one unit, the later container
/// getting more.
pub fn water_fill(
    capacity: CpuRate,
    demands: &[CpuRate],
    served: &mut Vec<CpuRate>,
    order: &mut Vec<usize>,
) {
    served.clear();
    served.extend_from_slice(demands);
    order.clear();
    order.extend(0..demands.len());
    order.sort_by_key(|&index| (demands[index], index));
    let mut left = capacity.0;
    let mut sharers = demands.len() as u64;
    for &index in &*order {
        let share = demands[index].0.min(left / sharers);
        served[index] = CpuRate(share);
        left -= share;
        sharers -= 1;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn filled(capacity: u64, demands: &[u64]) -> Vec<u64> {
        let demands: Vec<CpuRate> = demands.iter().copied().map(CpuRate).collect();
        let mut served = Vec::new();
        water_fill(CpuRate(capacity), &demands, &mut served, &mut Vec::new());
        served.into_iter().map(|rate| rate.0).collect()
    }

    #[test]
    fn small_demands_are_met_and_the_rest_is_level() {
        // 10 among 1, 8 and 4: an equal share is 3, so 1 is met; the other two share 9 as 4.5 each,
        // so 4 is met; what is left is 5.
        assert_eq!(filled(10, &[1, 8, 4]), [1, 5, 4]);
        // 10 among 6, 6 and 2: 2 is met, 8 is left for two.
        assert_eq!(filled(10, &[6, 6, 2]), [4, 4, 2]);
        // Enough for all.
        assert_eq!(filled(20, &[6, 6, 2]), [6, 6, 2]);
        // 10 among three: 3, 3 and what is left.
        assert_eq!(filled(10, &[9, 9, 9]), [3, 3, 4]);
        assert_eq!(filled(0, &[1, 2]), [0, 0]);
        assert_eq!(filled(5, &[]), [0; 0]);
    }

    proptest! {
        #![proptest_config(crate::validation::property(256, ProptestConfig::default()))]

        #[test]
        fn shares_are_exact_capped_and_fair(
            capacity in 0_u64..1000,
            demands in prop::collection::vec(0_u64..300, 0..12),
        ) {
            let served = filled(capacity, &demands);
            let wanted: u64 = demands.iter().sum();
            prop_assert_eq!(served.iter().sum::<u64>(), capacity.min(wanted));
            let level = served.iter().copied().max().unwrap_or(0);
            for (share, demand) in served.iter().zip(&demands) {
                prop_assert!(share <= demand);
                // Who gets less than asked for gets as much as anyone, up to one unit.
                prop_assert!(share == demand || share + 1 >= level);
            }
        }
    }
}
