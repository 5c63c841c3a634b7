//! Speeds that the twin draws are distributed as they were recorded.

use std::collections::BTreeMap;
use std::path::Path;

use datasets::azure_vm_noise::{Benchmark, Lifespan};
use datasets::{read_parquet, vm_speed};
use twin::speed::SpeedModel;
use twin::stream;

fn benchmarks() -> Vec<Benchmark> {
    let path =
        Path::new(env!("CARGO_MANIFEST_DIR")).join("data/azure-vm-noise/sysbench_cpu.parquet");
    read_parquet(path).expect("the copy is readable")
}

/// The greatest distance between the distribution functions of two ascending samples.
fn kolmogorov_smirnov(a: &[f64], b: &[f64]) -> f64 {
    let at_most = |list: &[f64], x: f64| {
        let count = list.partition_point(|value| *value <= x);
        count as f64 / list.len() as f64
    };
    a.iter()
        .chain(b)
        .map(|x| (at_most(a, *x) - at_most(b, *x)).abs())
        .fold(0.0, f64::max)
}

/// Speeds to five decimals, which is what the table and the recording resolve, ascending.
fn resolved(speeds: impl Iterator<Item = f64>) -> Vec<f64> {
    let mut list: Vec<f64> = speeds.map(|speed| (speed * 1e5).round() / 1e5).collect();
    list.sort_by(f64::total_cmp);
    list
}

#[test]
fn speeds_between_vms_are_those_recorded() {
    let recorded = vm_speed::relative_speeds(&benchmarks());
    assert_eq!(recorded.len(), 4);
    for (name, sample) in recorded {
        let model = SpeedModel::recorded(&name).expect("it was recorded");
        let sample = resolved(sample.into_iter());
        let drawn = resolved((0..10_000).map(|host| model.factor(stream::unit(17, host))));
        let spread = resolved((0..10_000).map(|i| model.factor((f64::from(i) + 0.5) / 10_000.0)));
        let (of_draws, of_table) = (
            kolmogorov_smirnov(&drawn, &sample),
            kolmogorov_smirnov(&spread, &sample),
        );
        println!("{name}: Kolmogorov-Smirnov distance {of_draws:.4}, of the table {of_table:.4}");
        // Two samples of one distribution, of 10,000 and some 10,000 values, differ by more than
        // 1.36 · √(2 / 10,000) = 0.019 in 5 % of cases; a table of 256 steps by up to 1 / 256.
        assert!(of_draws < 0.019, "{name}: {of_draws}");
        assert!(of_table < 1.0 / 256.0, "{name}: {of_table}");
    }
}

/// The sd, and the correlations six hours and eight days later (± 10 %), of deviations from the mean of
/// each of `series`, which are sorted by time in minutes.
fn moments(series: &[Vec<(u32, f64)>]) -> [f64; 3] {
    let (mut squares, mut count) = (0.0, 0.0);
    let mut products = [(0.0, 0.0); 2];
    for points in series {
        let mean = points.iter().map(|p| p.1).sum::<f64>() / points.len() as f64;
        for (i, (time, speed)) in points.iter().enumerate() {
            let off = speed / mean - 1.0;
            squares += off * off;
            count += 1.0;
            for (window, sums) in [(324, 396), (10_368, 12_672)]
                .into_iter()
                .zip(&mut products)
            {
                let later = points[i..]
                    .iter()
                    .skip_while(|p| p.0 < time + window.0)
                    .take_while(|p| p.0 <= time + window.1);
                for other in later {
                    sums.0 += off * (other.1 / mean - 1.0);
                    sums.1 += 1.0;
                }
            }
        }
    }
    let variance: f64 = squares / count;
    let correlation = |(sum, pairs): (f64, f64)| sum / pairs / variance;
    [
        variance.sqrt(),
        correlation(products[0]),
        correlation(products[1]),
    ]
}

#[test]
fn drift_within_vms_is_as_recorded() {
    let rows = benchmarks();
    for (name, size, region) in [
        ("B8ms/eastus", "B8ms", "eastus"),
        ("B8ms/westus2", "B8ms", "westus2"),
    ] {
        let mut series: BTreeMap<u32, Vec<(u32, f64)>> = BTreeMap::new();
        let long = rows
            .iter()
            .filter(|r| r.lifespan == Lifespan::Long && r.size == size && r.region == region);
        for row in long {
            let points = series.entry(row.vm).or_default();
            points.push((row.started_min, row.events_per_s));
        }
        let recorded: Vec<Vec<(u32, f64)>> = series
            .into_values()
            .map(|mut points| {
                points.sort_by_key(|p| p.0);
                points
            })
            .collect();
        // Sixty VMs of the twin, seen every three hours for as long as the recorded ones.
        let model = SpeedModel::recorded(name).expect("it was recorded");
        let simulated: Vec<Vec<(u32, f64)>> = (0..60)
            .map(|key| {
                let mut vm = model.start(key);
                (0..3800)
                    .map(|i| {
                        let seen = (i * 180, vm.factor(&model));
                        (0..3).for_each(|_| vm.step(&model));
                        seen
                    })
                    .collect()
            })
            .collect();
        let (found, expected) = (moments(&simulated), moments(&recorded));
        println!("{name}: sd, correlations: {found:.4?}, recorded {expected:.4?}");
        // Three VMs with a correlation time of weeks leave the recorded figures themselves uncertain.
        assert!((found[0] / expected[0] - 1.0).abs() < 0.15, "{name}");
        assert!((found[1] - expected[1]).abs() < 0.12, "{name}");
        assert!((found[2] - expected[2]).abs() < 0.15, "{name}");
    }
}
