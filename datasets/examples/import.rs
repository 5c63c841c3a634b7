//! Makes the copies in `data/` from the original files, and the twin's plain files from the copies.
//!
//! ```text
//! cargo run -p datasets --example import -- data FOLDER    # folders as in data/, original files
//! cargo run -p datasets --example import -- worlds         # twin/worlds/*.csv from data/
//! ```

use std::fs;
use std::path::Path;

use anyhow::{Context, Result, bail};
use datasets::azure_catalog::{Price, VmSize};
use datasets::azure_llm::{self, LlmRequest, TraceRow};
use datasets::azure_vm_cpu::{self, Sample, VmNumber};
use datasets::azure_vm_noise::Benchmark;
use datasets::container_trace;
use datasets::grid_emissions::{self, GridFactor};
use datasets::power_curves::{AzureInstance, PowerCoefficient, PowerCurve};
use datasets::scinet_testbed::{HostSample, Task};
use datasets::{
    CsvRow, ParquetRow, arrivals, parse_csv, read_csv, read_parquet, recording, scinet_recorded,
    vm_speed, write_parquet,
};

const DATA: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/data");
const WORLDS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../twin/worlds");

fn main() -> Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    match arguments
        .iter()
        .map(String::as_str)
        .collect::<Vec<_>>()
        .as_slice()
    {
        ["data", folder] => import(Path::new(folder)),
        ["worlds"] => export(Path::new(WORLDS)),
        _ => bail!("usage: import data FOLDER | import worlds"),
    }
}

/// Reads every original file under `from` and writes its copy.
fn import(from: &Path) -> Result<()> {
    let to = Path::new(DATA);
    import_recordings(from, to)?;
    let trace = from.join("azure-llm-2023");
    let code: Vec<TraceRow> = read_csv(trace.join("AzureLLMInferenceTrace_code.csv"))?;
    let conversation: Vec<TraceRow> = read_csv(trace.join("AzureLLMInferenceTrace_conv.csv"))?;
    let requests = azure_llm::align(&code, &conversation);
    write_parquet(&requests, to.join("azure-llm-2023/requests.parquet"))?;

    let pair = |original: &str, copy: &str| (from.join(original), to.join(copy));
    copy::<Task>(pair(
        "scinet-testbed/tasks.csv",
        "scinet-testbed/tasks.parquet",
    ))?;
    copy::<HostSample>(pair(
        "scinet-testbed/hosts.csv",
        "scinet-testbed/hosts.parquet",
    ))?;
    copy::<VmSize>(pair(
        "azure-catalog/azure_vm_catalog.csv",
        "azure-catalog/vm_sizes.parquet",
    ))?;
    copy::<Price>(pair(
        "azure-catalog/prices_linux_ondemand_usd_2026-06-18.csv",
        "azure-catalog/prices.parquet",
    ))?;
    copy::<PowerCurve>(pair("power/curves.csv", "power/curves.parquet"))?;
    copy::<PowerCoefficient>(pair(
        "power/coefficients-azure-use.csv",
        "power/coefficients.parquet",
    ))?;
    copy::<AzureInstance>(pair(
        "power/azure-instances.csv",
        "power/azure_instances.parquet",
    ))?;
    copy::<Benchmark>(pair(
        "azure-vm-noise/sysbench_cpu.csv",
        "azure-vm-noise/sysbench_cpu.parquet",
    ))?;
    import_grid(from, to)?;
    let folder = from.join("azure-vm-cpu-100");
    let samples: Vec<Sample> = read_csv(folder.join("microsoft_avg_100.csv"))?;
    let numbers: Vec<VmNumber> = read_csv(folder.join("vm_id_map.csv"))?;
    let traces = azure_vm_cpu::traces(&samples, &numbers);
    Ok(write_parquet(
        &traces,
        to.join("azure-vm-cpu-100/traces.parquet"),
    )?)
}

/// Mends and reads the emissions of grids.
fn import_grid(from: &Path, to: &Path) -> Result<()> {
    let path = from.join("power/grid-emissions-factors-azure.csv");
    let text =
        fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))?;
    let rows: Vec<GridFactor> = parse_csv(&path, grid_emissions::repair(&text).as_bytes())?;
    Ok(write_parquet(&rows, to.join("power/grid_factors.parquet"))?)
}

/// Those whose originals are not one CSV file a table.
fn import_recordings(from: &Path, to: &Path) -> Result<()> {
    for name in ["surf-week", "bitbrains-small"] {
        let (from, to) = (from.join(name), to.join(name));
        let trace = container_trace::read_original(
            &from.join("tasks.parquet"),
            &from.join("fragments.parquet"),
        )?;
        write_parquet(&trace.jobs, to.join("jobs.parquet"))?;
        write_parquet(&trace.demand, to.join("demand.parquet"))?;
    }
    let name = |what: &str| {
        let file = format!("scinet-recorded/scinet_{what}_with_interval.csv");
        from.join(file)
    };
    let (hosts, energy) =
        scinet_recorded::read_original(&name("cpu"), &name("enable"), &name("energy"))?;
    write_parquet(&hosts, to.join("scinet-recorded/hosts.parquet"))?;
    write_parquet(&energy, to.join("scinet-recorded/energy.parquet"))?;
    Ok(())
}

fn copy<R: CsvRow + ParquetRow>(
    (original, copy): (std::path::PathBuf, std::path::PathBuf),
) -> Result<()> {
    let rows: Vec<R> = read_csv(original)?;
    Ok(write_parquet(&rows, copy)?)
}

/// Writes the plain files that the twin's worlds read.
fn export(to: &Path) -> Result<()> {
    let data = Path::new(DATA);
    let requests: Vec<LlmRequest> = read_parquet(data.join("azure-llm-2023/requests.parquet"))?;
    let tasks: Vec<Task> = read_parquet(data.join("scinet-testbed/tasks.parquet"))?;
    let hosts: Vec<HostSample> = read_parquet(data.join("scinet-testbed/hosts.parquet"))?;
    let benchmarks: Vec<Benchmark> =
        read_parquet(data.join("azure-vm-noise/sysbench_cpu.parquet"))?;
    fs::create_dir_all(to).with_context(|| format!("cannot create {}", to.display()))?;
    for (name, content) in [
        ("azure-llm.arrivals.csv", arrivals::to_csv(&requests)),
        ("scinet-testbed.tasks.csv", recording::tasks_to_csv(&tasks)),
        ("scinet-testbed.hosts.csv", recording::hosts_to_csv(&hosts)),
        (
            "azure-vm-speed.csv",
            vm_speed::quantiles_to_csv(&benchmarks),
        ),
        ("azure-vm-drift.csv", vm_speed::drift_to_csv(&benchmarks)),
    ] {
        let path = to.join(name);
        fs::write(&path, content).with_context(|| format!("cannot write {}", path.display()))?;
    }
    Ok(())
}
