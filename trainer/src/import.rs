//! `trainer import`: original traces to the plain files that the twin reads.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use clap::ValueEnum;
use datasets::azure_llm::{self, TraceRow};
use datasets::azure_vm_cpu::{self, Sample, VmNumber};
use datasets::scinet_testbed::{HostSample, Task};
use datasets::{arrivals, read_csv, recording};

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
    ];
    let given: Vec<(&str, &Path)> = inputs
        .into_iter()
        .filter_map(|(name, path)| Some((name, path.as_deref()?)))
        .collect();
    match (args.from, given.as_slice()) {
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
    }
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
