//! Azure VM sizes and their prices.
//!
//! Sizes, disks, networks, burst credits and CoreMark scores are from the Azure documentation;
//! prices are the published retail prices for Linux, on demand, of 2026-06-18.
//!
//! Left out: discounts, reservations, spot prices, and every region but those named in the columns.

use crate::table::{Columns, CsvRow, Fields, Frame, ParquetError, ParquetRow, ReadError};

/// One VM size of the catalog.
#[derive(Debug, Clone, PartialEq)]
pub struct VmSize {
    /// The name at Azure, such as `Standard_B2ms`.
    pub sku: String,
    /// The series, such as `Bv1`.
    pub series: String,
    /// Virtual CPUs.
    pub vcpu: u32,
    /// Memory, in GiB.
    pub memory_gib: f64,
    /// Temporary disk, in GiB; 0 if there is none.
    pub temp_disk_gib: f64,
    /// Network interfaces at most.
    pub max_nics: u32,
    /// Network bandwidth at most, in Mbit/s, where it is published.
    pub max_network_mbps: Option<f64>,
    /// Disk operations per second without cache.
    pub uncached_disk_iops: f64,
    /// Disk throughput without cache, in MB/s.
    pub uncached_disk_mb_per_s: f64,
    /// Disk operations per second in a burst.
    pub burst_disk_iops: f64,
    /// Disk throughput in a burst, in MB/s.
    pub burst_disk_mb_per_s: f64,
    /// CPU credits, for burstable sizes.
    pub burst: Option<BurstCredits>,
    /// CPUs on which the size may run, separated by `|`.
    pub cpu_models: String,
    /// CoreMark score of the whole VM and its standard deviation, where published.
    pub coremark: Option<CoreMark>,
    /// Price in UK South, in USD per hour.
    pub uksouth_usd_per_h: f64,
    /// Price in West Europe, in USD per hour.
    pub westeurope_usd_per_h: f64,
    /// Price in East US, in USD per hour.
    pub eastus_usd_per_h: f64,
    /// Why a price was repaired; empty for most.
    pub price_note: String,
}

/// The credits of a burstable VM: one is one vCPU at 100 % for one minute.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct BurstCredits {
    /// What the VM may use without spending, in percent of the whole VM.
    pub base_cpu_percent: f64,
    /// Credits at the start.
    pub initial: f64,
    /// Credits earned per hour.
    pub per_hour: f64,
    /// Credits at most.
    pub max: f64,
}

/// A CoreMark result over many VMs of a size, in iterations per second of the whole VM.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct CoreMark {
    /// The mean.
    pub mean: f64,
    /// The standard deviation.
    pub sd: f64,
}

/// The prices of one VM size, in USD per hour; `None` where a region does not offer it.
#[derive(Debug, Clone, PartialEq)]
pub struct Price {
    /// The name at Azure.
    pub sku: String,
    /// The family under which quotas count it.
    pub sku_family: String,
    /// Virtual CPUs.
    pub vcpu: u32,
    /// Memory, in MiB; the source rounds the 512 MiB of `Standard_B1ls` down to 0.
    pub memory_mib: f64,
    /// GPUs.
    pub gpu: u32,
    /// `amd64` or `arm64`.
    pub arch: String,
    /// UK South.
    pub uksouth_usd_per_h: Option<f64>,
    /// West Europe.
    pub westeurope_usd_per_h: Option<f64>,
    /// North Europe.
    pub northeurope_usd_per_h: Option<f64>,
    /// East US.
    pub eastus_usd_per_h: Option<f64>,
    /// West US 2.
    pub westus2_usd_per_h: Option<f64>,
}

impl CsvRow for VmSize {
    const COLUMNS: &'static [&'static str] = &[
        "sku",
        "series",
        "vcpu",
        "mem_gib",
        "temp_disk_gib",
        "max_nics",
        "max_network_mbps",
        "uncached_disk_iops",
        "uncached_disk_mbps",
        "burst_disk_iops",
        "burst_disk_mbps",
        "b_base_cpu_pct_of_vm",
        "b_initial_credits",
        "b_credits_per_hour",
        "b_max_credits",
        "cpu_models",
        "coremark_mean",
        "coremark_sd",
        "usd_h_uksouth",
        "usd_h_westeurope",
        "usd_h_eastus",
        "price_note",
    ];

    fn from_fields(fields: &Fields<'_>, _previous: Option<&Self>) -> Result<Self, ReadError> {
        Ok(Self {
            sku: fields.name("sku")?,
            series: fields.name("series")?,
            vcpu: fields.u32("vcpu")?,
            memory_gib: fields.f64("mem_gib")?,
            temp_disk_gib: fields.f64("temp_disk_gib")?,
            max_nics: fields.u32("max_nics")?,
            max_network_mbps: fields.optional_f64("max_network_mbps")?,
            uncached_disk_iops: fields.f64("uncached_disk_iops")?,
            uncached_disk_mb_per_s: fields.f64("uncached_disk_mbps")?,
            burst_disk_iops: fields.f64("burst_disk_iops")?,
            burst_disk_mb_per_s: fields.f64("burst_disk_mbps")?,
            burst: burst_from(fields)?,
            cpu_models: fields.name("cpu_models")?,
            coremark: coremark_from(fields)?,
            uksouth_usd_per_h: fields.f64("usd_h_uksouth")?,
            westeurope_usd_per_h: fields.f64("usd_h_westeurope")?,
            eastus_usd_per_h: fields.f64("usd_h_eastus")?,
            price_note: fields.text("price_note")?.to_owned(),
        })
    }
}

impl CsvRow for Price {
    const COLUMNS: &'static [&'static str] = &[
        "sku",
        "sku_family",
        "vcpu",
        "memory_mb",
        "gpu",
        "arch",
        "uksouth",
        "westeurope",
        "northeurope",
        "eastus",
        "westus2",
    ];

    fn from_fields(fields: &Fields<'_>, _previous: Option<&Self>) -> Result<Self, ReadError> {
        Ok(Self {
            sku: fields.name("sku")?,
            sku_family: fields.name("sku_family")?,
            vcpu: fields.u32("vcpu")?,
            memory_mib: fields.f64("memory_mb")?,
            gpu: fields.u32("gpu")?,
            arch: fields.name("arch")?,
            uksouth_usd_per_h: fields.optional_f64("uksouth")?,
            westeurope_usd_per_h: fields.optional_f64("westeurope")?,
            northeurope_usd_per_h: fields.optional_f64("northeurope")?,
            eastus_usd_per_h: fields.optional_f64("eastus")?,
            westus2_usd_per_h: fields.optional_f64("westus2")?,
        })
    }
}

impl ParquetRow for VmSize {
    fn to_columns(rows: &[Self]) -> Columns {
        let burst = |of: fn(BurstCredits) -> f64| rows.iter().map(move |row| row.burst.map(of));
        Columns::new(rows.len())
            .text("sku", rows.iter().map(|row| row.sku.as_str()))
            .text("series", rows.iter().map(|row| row.series.as_str()))
            .u32("vcpu", rows.iter().map(|row| row.vcpu))
            .f64("memory_gib", rows.iter().map(|row| row.memory_gib))
            .f64("temp_disk_gib", rows.iter().map(|row| row.temp_disk_gib))
            .u32("max_nics", rows.iter().map(|row| row.max_nics))
            .optional_f64(
                "max_network_mbps",
                rows.iter().map(|row| row.max_network_mbps),
            )
            .f64(
                "uncached_disk_iops",
                rows.iter().map(|row| row.uncached_disk_iops),
            )
            .f64(
                "uncached_disk_mb_per_s",
                rows.iter().map(|row| row.uncached_disk_mb_per_s),
            )
            .f64(
                "burst_disk_iops",
                rows.iter().map(|row| row.burst_disk_iops),
            )
            .f64(
                "burst_disk_mb_per_s",
                rows.iter().map(|row| row.burst_disk_mb_per_s),
            )
            .optional_f64(
                "burst_base_cpu_percent",
                burst(|burst| burst.base_cpu_percent),
            )
            .optional_f64("burst_initial_credits", burst(|burst| burst.initial))
            .optional_f64("burst_credits_per_h", burst(|burst| burst.per_hour))
            .optional_f64("burst_max_credits", burst(|burst| burst.max))
            .text("cpu_models", rows.iter().map(|row| row.cpu_models.as_str()))
            .optional_f64(
                "coremark_mean",
                rows.iter().map(|row| row.coremark.map(|c| c.mean)),
            )
            .optional_f64(
                "coremark_sd",
                rows.iter().map(|row| row.coremark.map(|c| c.sd)),
            )
            .f64(
                "uksouth_usd_per_h",
                rows.iter().map(|row| row.uksouth_usd_per_h),
            )
            .f64(
                "westeurope_usd_per_h",
                rows.iter().map(|row| row.westeurope_usd_per_h),
            )
            .f64(
                "eastus_usd_per_h",
                rows.iter().map(|row| row.eastus_usd_per_h),
            )
            .text("price_note", rows.iter().map(|row| row.price_note.as_str()))
    }

    fn from_frame(frame: &Frame) -> Result<Vec<Self>, ParquetError> {
        let sku = frame.text("sku")?;
        let series = frame.text("series")?;
        let vcpu = frame.u32("vcpu")?;
        let memory_gib = frame.quantity("memory_gib")?;
        let temp_disk_gib = frame.quantity("temp_disk_gib")?;
        let max_nics = frame.u32("max_nics")?;
        let max_network_mbps = frame.optional_quantity("max_network_mbps")?;
        let uncached_disk_iops = frame.quantity("uncached_disk_iops")?;
        let uncached_disk_mb_per_s = frame.quantity("uncached_disk_mb_per_s")?;
        let burst_disk_iops = frame.quantity("burst_disk_iops")?;
        let burst_disk_mb_per_s = frame.quantity("burst_disk_mb_per_s")?;
        let burst = burst_columns(frame)?;
        let cpu_models = frame.text("cpu_models")?;
        let coremark_mean = frame.optional_quantity("coremark_mean")?;
        let coremark_sd = frame.optional_quantity("coremark_sd")?;
        let uksouth_usd_per_h = frame.quantity("uksouth_usd_per_h")?;
        let westeurope_usd_per_h = frame.quantity("westeurope_usd_per_h")?;
        let eastus_usd_per_h = frame.quantity("eastus_usd_per_h")?;
        let price_note = frame.text("price_note")?;
        let rows = (0..frame.height()).map(|row| Self {
            sku: sku[row].clone(),
            series: series[row].clone(),
            vcpu: vcpu[row],
            memory_gib: memory_gib[row],
            temp_disk_gib: temp_disk_gib[row],
            max_nics: max_nics[row],
            max_network_mbps: max_network_mbps[row],
            uncached_disk_iops: uncached_disk_iops[row],
            uncached_disk_mb_per_s: uncached_disk_mb_per_s[row],
            burst_disk_iops: burst_disk_iops[row],
            burst_disk_mb_per_s: burst_disk_mb_per_s[row],
            burst: burst[row],
            cpu_models: cpu_models[row].clone(),
            coremark: coremark_mean[row]
                .zip(coremark_sd[row])
                .map(|(mean, sd)| CoreMark { mean, sd }),
            uksouth_usd_per_h: uksouth_usd_per_h[row],
            westeurope_usd_per_h: westeurope_usd_per_h[row],
            eastus_usd_per_h: eastus_usd_per_h[row],
            price_note: price_note[row].clone(),
        });
        Ok(rows.collect())
    }
}

impl ParquetRow for Price {
    fn to_columns(rows: &[Self]) -> Columns {
        Columns::new(rows.len())
            .text("sku", rows.iter().map(|row| row.sku.as_str()))
            .text("sku_family", rows.iter().map(|row| row.sku_family.as_str()))
            .u32("vcpu", rows.iter().map(|row| row.vcpu))
            .f64("memory_mib", rows.iter().map(|row| row.memory_mib))
            .u32("gpu", rows.iter().map(|row| row.gpu))
            .text("arch", rows.iter().map(|row| row.arch.as_str()))
            .optional_f64(
                "uksouth_usd_per_h",
                rows.iter().map(|row| row.uksouth_usd_per_h),
            )
            .optional_f64(
                "westeurope_usd_per_h",
                rows.iter().map(|row| row.westeurope_usd_per_h),
            )
            .optional_f64(
                "northeurope_usd_per_h",
                rows.iter().map(|row| row.northeurope_usd_per_h),
            )
            .optional_f64(
                "eastus_usd_per_h",
                rows.iter().map(|row| row.eastus_usd_per_h),
            )
            .optional_f64(
                "westus2_usd_per_h",
                rows.iter().map(|row| row.westus2_usd_per_h),
            )
    }

    fn from_frame(frame: &Frame) -> Result<Vec<Self>, ParquetError> {
        let sku = frame.text("sku")?;
        let sku_family = frame.text("sku_family")?;
        let vcpu = frame.u32("vcpu")?;
        let memory_mib = frame.quantity("memory_mib")?;
        let gpu = frame.u32("gpu")?;
        let arch = frame.text("arch")?;
        let uksouth_usd_per_h = frame.optional_quantity("uksouth_usd_per_h")?;
        let westeurope_usd_per_h = frame.optional_quantity("westeurope_usd_per_h")?;
        let northeurope_usd_per_h = frame.optional_quantity("northeurope_usd_per_h")?;
        let eastus_usd_per_h = frame.optional_quantity("eastus_usd_per_h")?;
        let westus2_usd_per_h = frame.optional_quantity("westus2_usd_per_h")?;
        let rows = (0..frame.height()).map(|row| Self {
            sku: sku[row].clone(),
            sku_family: sku_family[row].clone(),
            vcpu: vcpu[row],
            memory_mib: memory_mib[row],
            gpu: gpu[row],
            arch: arch[row].clone(),
            uksouth_usd_per_h: uksouth_usd_per_h[row],
            westeurope_usd_per_h: westeurope_usd_per_h[row],
            northeurope_usd_per_h: northeurope_usd_per_h[row],
            eastus_usd_per_h: eastus_usd_per_h[row],
            westus2_usd_per_h: westus2_usd_per_h[row],
        });
        Ok(rows.collect())
    }
}

/// The credits of a record: all four columns, or none of them.
fn burst_from(fields: &Fields<'_>) -> Result<Option<BurstCredits>, ReadError> {
    const REST: [&str; 3] = ["b_initial_credits", "b_credits_per_hour", "b_max_credits"];
    if fields.text("b_base_cpu_pct_of_vm")?.is_empty() {
        for column in REST {
            if !fields.text(column)?.is_empty() {
                return Err(
                    fields.unexpected(column, "nothing, as `b_base_cpu_pct_of_vm` is empty")
                );
            }
        }
        return Ok(None);
    }
    Ok(Some(BurstCredits {
        base_cpu_percent: fields.percent("b_base_cpu_pct_of_vm")?,
        initial: fields.f64(REST[0])?,
        per_hour: fields.f64(REST[1])?,
        max: fields.f64(REST[2])?,
    }))
}

/// The benchmark of a record: both columns, or none of them.
fn coremark_from(fields: &Fields<'_>) -> Result<Option<CoreMark>, ReadError> {
    if fields.text("coremark_mean")?.is_empty() {
        return match fields.text("coremark_sd")? {
            "" => Ok(None),
            _ => Err(fields.unexpected("coremark_sd", "nothing, as `coremark_mean` is empty")),
        };
    }
    Ok(Some(CoreMark {
        mean: fields.f64("coremark_mean")?,
        sd: fields.f64("coremark_sd")?,
    }))
}

fn burst_columns(frame: &Frame) -> Result<Vec<Option<BurstCredits>>, ParquetError> {
    let base = frame.optional_quantity("burst_base_cpu_percent")?;
    let initial = frame.optional_quantity("burst_initial_credits")?;
    let per_hour = frame.optional_quantity("burst_credits_per_h")?;
    let max = frame.optional_quantity("burst_max_credits")?;
    let credits = (0..frame.height()).map(|row| {
        Some(BurstCredits {
            base_cpu_percent: base[row]?,
            initial: initial[row]?,
            per_hour: per_hour[row]?,
            max: max[row]?,
        })
    });
    Ok(credits.collect())
}
