//! The committed copies: what is published about the originals holds, and each copy survives a
//! round trip with the same bytes.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use datasets::azure_catalog::{Price, VmSize};
use datasets::azure_llm::{LlmRequest, Service};
use datasets::azure_vm_cpu::CpuTrace;
use datasets::azure_vm_noise::{Benchmark, Lifespan};
use datasets::container_trace::{Job, Step};
use datasets::grid_emissions::GridFactor;
use datasets::power_curves::{AzureInstance, PowerCoefficient, PowerCurve};
use datasets::scinet_recorded::{self, Energy, HostState};
use datasets::scinet_testbed::{HostSample, Task};
use datasets::{ParquetError, ParquetRow, read_parquet, write_parquet};

fn data(file: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("data")
        .join(file)
}

/// Reads a copy, after checking that writing what was read gives the committed bytes.
fn read_copy<R: ParquetRow>(file: &str) -> Vec<R> {
    let rows: Vec<R> = read_parquet(data(file)).expect("the copy is readable");
    let folder = tempfile::tempdir().expect("a folder for the test");
    let again = folder.path().join("again.parquet");
    write_parquet(&rows, &again).expect("the rows can be written");
    let bytes = |path: &Path| fs::read(path).expect("the file is there");
    assert!(
        bytes(&again) == bytes(&data(file)),
        "{file}: written again, the bytes differ"
    );
    rows
}

#[test]
fn azure_llm_has_the_published_requests() {
    let requests: Vec<LlmRequest> = read_copy("azure-llm-2023/requests.parquet");
    let of = |service| {
        requests
            .iter()
            .filter(move |request| request.service == service)
    };
    assert_eq!(of(Service::Code).count(), 7_491);
    assert_eq!(of(Service::Conversation).count(), 14_453);
    // First lines of the originals: conversation at 18:15:46.6805900, code at 18:17:03.9799600,
    // that is 77.29937 s later.
    assert_eq!(
        (requests[0].arrival_ns, requests[0].context_tokens),
        (0, 374)
    );
    let code = of(Service::Code).next().expect("there is one");
    assert_eq!(
        (code.arrival_ns, code.context_tokens),
        (77_299_370_000, 4_808)
    );
    // Last line of both: code at 18:56:56.5355240, 2,469.854934 s after the first.
    let last = requests.last().expect("there is one");
    assert_eq!(
        (last.arrival_ns, last.generated_tokens),
        (2_469_854_934_000, 12)
    );
    // Sums of the columns of the originals.
    let tokens = |service| {
        of(service).fold((0, 0), |(context, generated), request| {
            (
                context + u64::from(request.context_tokens),
                generated + u64::from(request.generated_tokens),
            )
        })
    };
    assert_eq!(tokens(Service::Code), (15_282_456, 206_626));
    assert_eq!(tokens(Service::Conversation), (17_181_419, 2_917_114));
}

#[test]
fn scinet_testbed_has_the_recorded_run() {
    let tasks: Vec<Task> = read_copy("scinet-testbed/tasks.parquet");
    assert_eq!(tasks.len(), 1_882);
    // Every request has as many tasks as its variant says, all of one application.
    let mut requests: BTreeMap<u32, Vec<&Task>> = BTreeMap::new();
    for task in &tasks {
        requests.entry(task.request).or_default().push(task);
    }
    assert_eq!(requests.len(), 779);
    for group in requests.values() {
        assert_eq!(group.len(), group[0].variant.tasks() as usize);
        assert!(
            group
                .iter()
                .all(|task| task.application == group[0].application)
        );
    }

    let hosts: Vec<HostSample> = read_copy("scinet-testbed/hosts.parquet");
    assert_eq!(hosts.len(), 700 * 16);
    let mut expected = (1..=700).flat_map(|interval| (0..16).map(move |host| (interval, host)));
    assert!(
        hosts
            .iter()
            .all(|sample| expected.next() == Some((sample.interval, sample.host)))
    );
    assert!(
        hosts
            .iter()
            .all(|sample| sample.enabled == (sample.power_w > 0.0))
    );
    let power_w: f64 = hosts.iter().map(|sample| sample.power_w).sum();
    assert!((power_w - 443_946.648_52).abs() < 1e-6, "{power_w}");
}

#[test]
fn azure_catalog_has_sizes_and_prices() {
    let sizes: Vec<VmSize> = read_copy("azure-catalog/vm_sizes.parquet");
    assert_eq!(sizes.len(), 19);
    let size = |sku: &str| {
        sizes
            .iter()
            .find(|size| size.sku == sku)
            .expect("it is listed")
    };
    let b2ms = size("Standard_B2ms");
    let burst = b2ms.burst.expect("it is burstable");
    assert_eq!((b2ms.vcpu, b2ms.memory_gib, burst.per_hour), (2, 8.0, 36.0));
    // An hour at the base use earns what it spends: 30 % of 2 vCPUs for 60 minutes is 36 credits.
    assert!((burst.base_cpu_percent / 100.0 * 2.0 * 60.0 - burst.per_hour).abs() < 1e-9);
    assert!(size("Standard_D8as_v5").burst.is_none());
    assert_eq!(
        sizes
            .iter()
            .filter(|size| !size.price_note.is_empty())
            .count(),
        4
    );

    let prices: Vec<Price> = read_copy("azure-catalog/prices.parquet");
    assert_eq!(prices.len(), 1_347);
    assert_eq!(
        prices
            .iter()
            .filter(|price| price.uksouth_usd_per_h.is_some())
            .count(),
        1_235
    );
    let b2s = prices
        .iter()
        .find(|price| price.sku == "Standard_B2s")
        .expect("it is listed");
    assert_eq!(
        b2s.uksouth_usd_per_h,
        Some(size("Standard_B2s").uksouth_usd_per_h)
    );
}

#[test]
fn power_has_curves_and_coefficients() {
    let curves: Vec<PowerCurve> = read_copy("power/curves.parquet");
    assert_eq!(curves.len(), 8);
    let b8ms = curves
        .iter()
        .find(|curve| curve.vm_size == "B8ms")
        .expect("it is listed");
    assert_eq!((b8ms.power_w[0], b8ms.power_w[10]), (68.7, 137.0));
    assert_eq!(b8ms.spec_result, "power_ssj2008-20140408-00655");

    let coefficients: Vec<PowerCoefficient> = read_copy("power/coefficients.parquet");
    assert_eq!(coefficients.len(), 8);
    let instances: Vec<AzureInstance> = read_copy("power/azure_instances.parquet");
    assert_eq!(instances.len(), 595);
    // Each instance has a coefficient, but for those whose processor is not known.
    let known = |instance: &&AzureInstance| {
        coefficients
            .iter()
            .any(|c| c.architecture == instance.microarchitecture)
    };
    assert_eq!(instances.iter().filter(known).count(), 595 - 129);
}

#[test]
fn power_has_factors_of_grids() {
    let factors: Vec<GridFactor> = read_copy("power/grid_factors.parquet");
    assert_eq!(factors.len(), 24);
    let of = |region: &str| {
        factors
            .iter()
            .find(|factor| factor.region == region)
            .map(|factor| factor.gco2e_per_kwh)
    };
    // 0.000228 t/kWh; the mended lines; three more digits in the United States.
    assert_eq!(of("UK South"), Some(228.0));
    assert_eq!(of("Finland Central"), Some(77.0));
    assert_eq!(of("Germany West Central"), Some(402.0));
    assert_eq!(of("East US"), Some(415.755));
}

#[test]
fn azure_vm_noise_has_the_published_benchmarks() {
    let rows: Vec<Benchmark> = read_copy("azure-vm-noise/sysbench_cpu.parquet");
    assert_eq!(rows.len(), 93_133);
    // Counts and means as in the summary that is published with the data.
    for (size, region, lifespan, count, mean) in [
        ("B8ms", "eastus", Lifespan::Long, 6_952, 8203.77),
        ("B8ms", "westus2", Lifespan::Short, 9_287, 7135.96),
        ("D8s_v5", "eastus", Lifespan::Short, 11_862, 12_506.2),
        ("D8s_v5", "westus2", Lifespan::Long, 20_747, 12_509.4),
    ] {
        let values: Vec<f64> = rows
            .iter()
            .filter(|r| r.size == size && r.region == region && r.lifespan == lifespan)
            .map(|r| r.events_per_s)
            .collect();
        assert_eq!(values.len(), count, "{size} {region}");
        let found = values.iter().sum::<f64>() / values.len() as f64;
        assert!(
            (found / mean - 1.0).abs() < 1e-5,
            "{size} {region}: {found}"
        );
    }
    // The first line: 2023-09-01 05:13, that is 19,601 days and 313 minutes after 1970.
    assert_eq!(rows[0].started_min, 19_601 * 1440 + 313);
}

#[test]
fn azure_vm_cpu_has_four_weeks_of_a_hundred_vms() {
    let traces: Vec<CpuTrace> = read_copy("azure-vm-cpu-100/traces.parquet");
    assert_eq!(traces.len(), 100);
    assert!(traces.iter().all(|trace| trace.cpu_mpercent.len() == 8_004));
    assert_eq!(
        (traces[0].vm.as_str(), traces[0].azure_vm),
        ("vm000", 1_633_748)
    );
    // The first line: 44.459,5.861,6.605,…; the sum of all values is 8,502,440.918 %.
    let first: Vec<u32> = traces[..3].iter().map(|t| t.cpu_mpercent[0]).collect();
    assert_eq!(first, [44_459, 5_861, 6_605]);
    let sum: u64 = traces
        .iter()
        .flat_map(|trace| &trace.cpu_mpercent)
        .map(|value| u64::from(*value))
        .sum();
    assert_eq!(sum, 8_502_440_918);
}

#[test]
fn cards_name_license_source_and_rows() {
    for (folder, rows) in [
        ("azure-llm-2023", "21944"),
        ("scinet-testbed", "11200"),
        ("azure-catalog", "1347"),
        ("power", "595"),
        ("azure-vm-noise", "93133"),
        ("azure-vm-cpu-100", "100"),
    ] {
        let card = fs::read_to_string(data(folder).join("README.md")).expect("there is a card");
        let front = card
            .split("---\n")
            .nth(1)
            .expect("the card has front matter");
        for key in ["license:", "source:", "citation:", "sha256:", "rows:", rows] {
            assert!(
                front.contains(key),
                "{folder}: no {key} in the front matter"
            );
        }
        assert!(
            data(folder).join("LICENSE").is_file(),
            "{folder}: no license"
        );
    }
}

#[test]
fn another_table_is_refused_by_the_missing_column() {
    let error = read_parquet::<Task>(data("scinet-testbed/hosts.parquet"))
        .expect_err("hosts are not tasks");
    assert!(
        matches!(&error, ParquetError::Column { column, .. } if column == "request"),
        "{error}"
    );
}

/// Jobs of a trace of containers, after checking that each has steps that last as long as it does.
fn read_containers(name: &str) -> (Vec<Job>, Vec<Step>) {
    let jobs: Vec<Job> = read_copy(&format!("{name}/jobs.parquet"));
    let demand: Vec<Step> = read_copy(&format!("{name}/demand.parquet"));
    let mut groups = demand.chunk_by(|a, b| a.job == b.job);
    for job in &jobs {
        let steps = groups.next().expect("each job has steps");
        assert_eq!(steps[0].job, job.job);
        let lasting: u64 = steps.iter().map(|step| step.duration_ms).sum();
        assert_eq!(lasting, job.duration_ms);
    }
    assert!(groups.next().is_none());
    (jobs, demand)
}

#[test]
fn surf_week_has_the_published_jobs() {
    let (jobs, demand) = read_containers("surf-week");
    assert_eq!(jobs.len(), 6_295);
    assert!(
        jobs.iter()
            .all(|job| job.cores == 16 && job.start_ms < 7 * 86_400_000)
    );
    // 2,323,475 fragments of 30 s in the original.
    let fragments: u64 = demand.iter().map(|step| step.duration_ms / 30_000).sum();
    assert_eq!(fragments, 2_323_475);
    assert!(demand.iter().all(|step| step.cpu_mhz <= 33_600.0));
}

#[test]
fn bitbrains_small_has_the_published_vms() {
    let (jobs, demand) = read_containers("bitbrains-small");
    assert_eq!(jobs.len(), 50);
    let end_ms = jobs.iter().map(|job| job.start_ms + job.duration_ms).max();
    // 30 days.
    assert_eq!(end_ms, Some(30 * 86_400_000));
    assert!(
        demand
            .iter()
            .all(|step| step.duration_ms.is_multiple_of(1_000))
    );
}

#[test]
fn scinet_recorded_uses_the_published_curve() {
    let hosts: Vec<HostState> = read_copy("scinet-recorded/hosts.parquet");
    let energy: Vec<Energy> = read_copy("scinet-recorded/energy.parquet");
    assert_eq!((hosts.len(), energy.len()), (16_000, 1_000));
    let curves: Vec<PowerCurve> = read_copy("power/curves.parquet");
    for size in ["B2s", "B2ms"] {
        let curve = curves.iter().find(|curve| curve.vm_size == size);
        let curve = curve.expect("it is listed");
        assert_eq!(curve.power_w.to_vec(), scinet_recorded::POWER_W.to_vec());
    }
}
