//! The plain files of the twin's worlds are exactly what the copies give.
//!
//! After a change: `cargo run -p datasets --example import -- worlds`.

use std::fs;
use std::path::Path;

use datasets::azure_vm_noise::Benchmark;
use datasets::{ParquetRow, arrivals, read_parquet, recording, vm_speed};

fn read_copy<R: ParquetRow>(file: &str) -> Vec<R> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("data")
        .join(file);
    read_parquet(path).expect("the copy is readable")
}

fn check(world_file: &str, expected: &str) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../twin/worlds")
        .join(world_file);
    let committed = fs::read_to_string(path).expect("the file is committed");
    assert!(committed == expected, "{world_file} is stale");
}

#[test]
fn arrivals_of_azure_llm_are_current() {
    let requests = read_copy("azure-llm-2023/requests.parquet");
    check("azure-llm.arrivals.csv", &arrivals::to_csv(&requests));
}

#[test]
fn recording_of_scinet_testbed_is_current() {
    let tasks = read_copy("scinet-testbed/tasks.parquet");
    check("scinet-testbed.tasks.csv", &recording::tasks_to_csv(&tasks));
    let hosts = read_copy("scinet-testbed/hosts.parquet");
    check("scinet-testbed.hosts.csv", &recording::hosts_to_csv(&hosts));
}

#[test]
fn speeds_of_azure_vms_are_current() {
    let rows: Vec<Benchmark> = read_copy("azure-vm-noise/sysbench_cpu.parquet");
    check("azure-vm-speed.csv", &vm_speed::quantiles_to_csv(&rows));
    check("azure-vm-drift.csv", &vm_speed::drift_to_csv(&rows));
}
