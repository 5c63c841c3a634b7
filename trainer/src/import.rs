//! `trainer import`: original traces to the plain files that the twin reads.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use clap::ValueEnum;
use datasets::azure_llm::{self, TraceRow};
use datasets::azure_vm_cpu::{self, Sample, VmNumber};
use datasets::container_trace::{self, Job, Step};
use datasets::scinet_recorded::{self, Energy, HostState};
use datasets::scinet_testbed::{HostSample, Task};
use datasets::{arrivals, bitbrains, read_csv, read_parquet, recording, surf_week};

use twin::replay::MANIFEST_FILE;
use twin::replay::containers::{DEMAND_FILE, JOBS_FILE};

use crate::files::{create_folder, write_atomic};

/// Name of the tasks of a recording.
pub const TASKS_FILE: &str = "tasks.csv";
/// Name of the hosts of a recording.
pub const HOSTS_FILE: &str = "hosts.csv";

/// A trace whose original format is read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Source {
    /// Azure's LLM inference trace of 2023: --code and --conversation; --out is a CSV of arrivals
    AzureLlm,
    /// SciNet's testbed: --tasks and --hosts; --out is a folder for tasks.csv and hosts.csv
    ScinetTestbed,
    /// CPU use of 100 Azure VMs: --cpu and --numbers; --out is a CSV of one column a VM
    AzureVmCpu,
    /// A week of the cluster SURF Lisa: --folder datasets/data/surf-week; --out is a folder
    SurfWeek,
    /// 50 VMs of Bitbrains: --folder datasets/data/bitbrains-small; --out is a folder
    BitbrainsSmall,
    /// SciNet's own oracle: --folder datasets/data/scinet-recorded; --out is a folder
    ScinetRecorded,
}

/// Turn an original trace into the plain files that the twin reads.
#[derive(Clone, Debug, clap::Args)]
pub struct Args {
    /// The trace.
    #[arg(long)]
    pub from: Source,
    /// Requests to the code service, as published.
    #[arg(long, value_name = "FILE", required_if_eq("from", "azure-llm"))]
    pub code: Option<PathBuf>,
    /// Requests to the conversation service, as published.
    #[arg(long, value_name = "FILE", required_if_eq("from", "azure-llm"))]
    pub conversation: Option<PathBuf>,
    /// Tasks of the recorded run.
    #[arg(long, value_name = "FILE", required_if_eq("from", "scinet-testbed"))]
    pub tasks: Option<PathBuf>,
    /// Hosts of the recorded run.
    #[arg(long, value_name = "FILE", required_if_eq("from", "scinet-testbed"))]
    pub hosts: Option<PathBuf>,
    /// CPU use of the VMs, one column a VM.
    #[arg(long, value_name = "FILE", required_if_eq("from", "azure-vm-cpu"))]
    pub cpu: Option<PathBuf>,
    /// Numbers of the VMs in the data set.
    #[arg(long, value_name = "FILE", required_if_eq("from", "azure-vm-cpu"))]
    pub numbers: Option<PathBuf>,
    /// Folder with the project's copy of the trace.
    #[arg(
        long,
        value_name = "FOLDER",
        required_if_eq_any([
            ("from", "surf-week"), ("from", "bitbrains-small"), ("from", "scinet-recorded")
        ])
    )]
    pub folder: Option<PathBuf>,
    /// The file, or for a recording the folder, that is written.
    #[arg(long, value_name = "PATH")]
    pub out: PathBuf,
}

/// Reads the originals, checks every line, and writes the plain files.
///
/// # Errors
///
/// If a file cannot be read or written, or a line is not what the trace promises; the message names
/// the file, the line and the column.
pub fn run(args: &Args) -> Result<()> {
    let inputs = [
        ("--code", &args.code),
        ("--conversation", &args.conversation),
        ("--tasks", &args.tasks),
        ("--hosts", &args.hosts),
        ("--cpu", &args.cpu),
        ("--numbers", &args.numbers),
        ("--folder", &args.folder),
    ];
    let given: Vec<(&str, &Path)> = inputs
        .into_iter()
        .filter_map(|(name, path)| Some((name, path.as_deref()?)))
        .collect();
    match (args.from, given.as_slice()) {
        (
            Source::SurfWeek | Source::BitbrainsSmall | Source::ScinetRecorded,
            [("--folder", folder)],
        ) => import_copy(args.from, folder, &args.out),
        (Source::AzureLlm, [("--code", code), ("--conversation", conversation)]) => {
            import_azure_llm(code, conversation, &args.out)
        }
        (Source::ScinetTestbed, [("--tasks", tasks), ("--hosts", hosts)]) => {
            import_scinet_testbed(tasks, hosts, &args.out)
        }
        (Source::AzureVmCpu, [("--cpu", cpu), ("--numbers", numbers)]) => {
            import_azure_vm_cpu(cpu, numbers, &args.out)
        }
        (Source::AzureLlm, _) => {
            bail!("--from azure-llm takes --code and --conversation, and no other input")
        }
        (Source::ScinetTestbed, _) => {
            bail!("--from scinet-testbed takes --tasks and --hosts, and no other input")
        }
        (Source::AzureVmCpu, _) => {
            bail!("--from azure-vm-cpu takes --cpu and --numbers, and no other input")
        }
        (Source::SurfWeek | Source::BitbrainsSmall | Source::ScinetRecorded, _) => {
            bail!("this trace takes --folder, and no other input")
        }
    }
}

/// Turns the copy in `folder` into a recording that `twin replay` takes.
fn import_copy(from: Source, folder: &Path, out: &Path) -> Result<()> {
    let files = match from {
        Source::SurfWeek => containers(folder, surf_week::MANIFEST)?,
        Source::BitbrainsSmall => containers(folder, bitbrains::MANIFEST)?,
        Source::ScinetRecorded => {
            let hosts: Vec<HostState> = read_parquet(folder.join("hosts.parquet"))?;
            let energy: Vec<Energy> = read_parquet(folder.join("energy.parquet"))?;
            vec![
                (MANIFEST_FILE, scinet_recorded::manifest()),
                ("hosts.csv", scinet_recorded::hosts_to_csv(&hosts)),
                ("energy.csv", scinet_recorded::energy_to_csv(&energy)),
            ]
        }
        Source::AzureLlm | Source::ScinetTestbed | Source::AzureVmCpu => {
            bail!("--folder is for surf-week, bitbrains-small and scinet-recorded")
        }
    };
    create_folder(out).context("--out of a recording is a folder")?;
    for (name, text) in files {
        write_atomic(&out.join(name), text.as_bytes())?;
    }
    Ok(())
}

/// The plain files of a trace of containers.
fn containers(folder: &Path, manifest: &str) -> Result<Vec<(&'static str, String)>> {
    let jobs: Vec<Job> = read_parquet(folder.join("jobs.parquet"))?;
    let demand: Vec<Step> = read_parquet(folder.join("demand.parquet"))?;
    Ok(vec![
        (MANIFEST_FILE, manifest.to_owned()),
        (JOBS_FILE, container_trace::jobs_to_csv(&jobs)),
        (DEMAND_FILE, container_trace::demand_to_csv(&demand)),
    ])
}

fn import_azure_llm(code: &Path, conversation: &Path, out: &Path) -> Result<()> {
    let code: Vec<TraceRow> = read_csv(code)?;
    let conversation: Vec<TraceRow> = read_csv(conversation)?;
    let requests = azure_llm::align(&code, &conversation);
    write_atomic(out, arrivals::to_csv(&requests).as_bytes())
}

fn import_scinet_testbed(tasks: &Path, hosts: &Path, out: &Path) -> Result<()> {
    let tasks: Vec<Task> = read_csv(tasks)?;
    let hosts: Vec<HostSample> = read_csv(hosts)?;
    create_folder(out).context("--out of a recording is a folder")?;
    write_atomic(&out.join(MANIFEST_FILE), recording::MANIFEST.as_bytes())?;
    write_atomic(
        &out.join(TASKS_FILE),
        recording::tasks_to_csv(&tasks).as_bytes(),
    )?;
    write_atomic(
        &out.join(HOSTS_FILE),
        recording::hosts_to_csv(&hosts).as_bytes(),
    )
}

fn import_azure_vm_cpu(cpu: &Path, numbers: &Path, out: &Path) -> Result<()> {
    let samples: Vec<Sample> = read_csv(cpu)?;
    let numbers: Vec<VmNumber> = read_csv(numbers)?;
    let traces = azure_vm_cpu::traces(&samples, &numbers);
    write_atomic(out, azure_vm_cpu::to_csv(&traces).as_bytes())
}
