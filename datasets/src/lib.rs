//! Real traces in, decision datasets out.
//!
//! ```
//! use datasets::azure_llm::{LlmRequest, Service};
//!
//! let copy = concat!(env!("CARGO_MANIFEST_DIR"), "/data/azure-llm-2023/requests.parquet");
//! let requests: Vec<LlmRequest> = datasets::read_parquet(copy)?;
//! let to_code = requests.iter().filter(|request| request.service == Service::Code);
//! assert_eq!(to_code.count(), 7_491);
//!
//! // The plain format that the twin reads.
//! let arrivals = datasets::arrivals::to_csv(&requests);
//! assert!(arrivals.starts_with("time_s,application,context_tokens,generated_tokens\n0,conver"));
//! # Ok::<(), datasets::ParquetError>(())
//! ```
//!
//! - **Traces** as they were published: one module each ([`azure_llm`], [`scinet_testbed`],
//!   [`scinet_recorded`], [`surf_week`], [`bitbrains`], [`azure_catalog`], [`power_curves`],
//!   [`grid_emissions`], [`azure_vm_noise`], [`azure_vm_cpu`]), read with errors that name file, line
//!   and column, as by [`read_csv`].
//! - **Copies** of them in `data/`, in compact Parquet with a card and a license each, read by
//!   [`read_parquet`].
//! - **Plain formats** for the twin: [`arrivals`], [`recording`], [`container_trace`], [`vm_speed`]
//!   and [`azure_vm_cpu::to_csv`].
//! - **Decision datasets**, which teach a policy: [`decisions`].
//!
//! Left out: downloading, and simulation of any kind.
//! To add a trace, implement [`CsvRow`] for its original format and [`ParquetRow`] for its copy, and
//! give it a folder in `data/` with a card and the license.

pub mod arrivals;
pub mod azure_catalog;
pub mod azure_llm;
pub mod azure_vm_cpu;
pub mod azure_vm_noise;
pub mod bitbrains;
pub mod container_trace;
pub mod decisions;
mod files;
pub mod grid_emissions;
pub mod power_curves;
pub mod recording;
pub mod scinet_recorded;
pub mod scinet_testbed;
pub mod surf_week;
pub mod table;
pub mod vm_speed;

pub use table::{
    CsvRow, ParquetError, ParquetRow, ParquetStream, ReadError, parse_csv, read_csv, read_parquet,
    write_parquet,
};
