//! Power of machines against load.
//!
//! Three tables: 11-point curves from SPECpower_ssj2008 results, as used for the VM sizes of the
//! reference system; watts per vCPU by processor generation; and the hardware behind Azure
//! instances, which joins the two.
//! The last two are from Cloud Carbon Footprint.
//!
//! Left out: the SPEC results themselves; the emissions of power grids are in
//! [`grid_emissions`](crate::grid_emissions).

use crate::table::{Columns, CsvRow, Fields, Frame, ParquetError, ParquetRow, ReadError};

/// Points of a power curve: at 0, 10, … 100 % load.
pub const CURVE_POINTS: usize = 11;

/// Names of the points, in the original and in Parquet.
const CURVE_COLUMNS: [&str; CURVE_POINTS] = [
    "w_0", "w_10", "w_20", "w_30", "w_40", "w_50", "w_60", "w_70", "w_80", "w_90", "w_100",
];

const PARQUET_CURVE_COLUMNS: [&str; CURVE_POINTS] = [
    "power_at_0_percent_w",
    "power_at_10_percent_w",
    "power_at_20_percent_w",
    "power_at_30_percent_w",
    "power_at_40_percent_w",
    "power_at_50_percent_w",
    "power_at_60_percent_w",
    "power_at_70_percent_w",
    "power_at_80_percent_w",
    "power_at_90_percent_w",
    "power_at_100_percent_w",
];

/// The power of one machine against its load.
#[derive(Debug, Clone, PartialEq)]
pub struct PowerCurve {
    /// The VM size, or the machine, for which the curve is used.
    pub vm_size: String,
    /// Watts at 0, 10, … 100 % load; none is below the one before.
    pub power_w: [f64; CURVE_POINTS],
    /// The SPEC result that was taken; empty if it is not from SPEC.
    pub spec_result: String,
}

/// Power per vCPU of one processor generation in the cloud.
#[derive(Debug, Clone, PartialEq)]
pub struct PowerCoefficient {
    /// The generation, such as `Cascade Lake`.
    pub architecture: String,
    /// Watts per vCPU when idle.
    pub min_w_per_vcpu: f64,
    /// Watts per vCPU at full load.
    pub max_w_per_vcpu: f64,
    /// Memory per processor of the servers measured, in GB.
    pub memory_gb_per_chip: f64,
}

/// The hardware behind one Azure instance, once for each processor it may get.
#[derive(Debug, Clone, PartialEq)]
pub struct AzureInstance {
    /// The series, such as `Bs-series`.
    pub series: String,
    /// The virtual machine, such as `B2MS`.
    pub virtual_machine: String,
    /// The processor generation, or `Unknown`.
    pub microarchitecture: String,
    /// vCPUs of the instance; a fraction where the size has a share of one.
    pub instance_vcpus: f64,
    /// Memory of the instance, in GiB.
    pub instance_memory_gib: f64,
    /// vCPUs of the largest instance on the same platform.
    pub platform_vcpus: u32,
    /// Memory of the largest instance on the same platform, in GiB.
    pub platform_memory_gib: f64,
    /// `HDD`, `SSD` or `N/A`.
    pub platform_storage_type: String,
    /// Drives of the largest instance on the same platform.
    pub platform_storage_drives: u32,
    /// GPUs of the instance.
    pub instance_gpus: Option<u32>,
    /// GPUs of the platform.
    pub platform_gpus: Option<u32>,
}

impl CsvRow for PowerCurve {
    const COLUMNS: &'static [&'static str] = &[
        "vm_size",
        "w_0",
        "w_10",
        "w_20",
        "w_30",
        "w_40",
        "w_50",
        "w_60",
        "w_70",
        "w_80",
        "w_90",
        "w_100",
        "spec_power_ssj2008_result",
    ];

    fn from_fields(fields: &Fields<'_>, _previous: Option<&Self>) -> Result<Self, ReadError> {
        let mut power_w = [0.0; CURVE_POINTS];
        let mut least = 0.0;
        for (point, column) in power_w.iter_mut().zip(CURVE_COLUMNS) {
            *point = fields.f64(column)?;
            if *point < least {
                let expected = format!("at least {least}, the power at the load before");
                return Err(fields.unexpected(column, &expected));
            }
            least = *point;
        }
        Ok(Self {
            vm_size: fields.name("vm_size")?,
            power_w,
            spec_result: fields.text("spec_power_ssj2008_result")?.to_owned(),
        })
    }
}

impl CsvRow for PowerCoefficient {
    const COLUMNS: &'static [&'static str] = &["Architecture", "Min Watts", "Max Watts", "GB/Chip"];

    fn from_fields(fields: &Fields<'_>, _previous: Option<&Self>) -> Result<Self, ReadError> {
        let min_w_per_vcpu = fields.f64("Min Watts")?;
        let max_w_per_vcpu = fields.f64("Max Watts")?;
        if max_w_per_vcpu < min_w_per_vcpu {
            let expected = format!("at least {min_w_per_vcpu}, the `Min Watts`");
            return Err(fields.unexpected("Max Watts", &expected));
        }
        Ok(Self {
            architecture: fields.name("Architecture")?,
            min_w_per_vcpu,
            max_w_per_vcpu,
            memory_gb_per_chip: fields.f64("GB/Chip")?,
        })
    }
}

impl CsvRow for AzureInstance {
    const COLUMNS: &'static [&'static str] = &[
        "Series",
        "Virtual Machine",
        "Microarchitecture",
        "Instance vCPUs",
        "Instance Memory",
        "Platform vCPUs (highest vCPU possible)",
        "Platform Memory",
        "Platform Storage Type",
        "Platform (largest instance) Storage Drive quantity",
        "Instance GPUs",
        "Platform GPU",
    ];

    fn from_fields(fields: &Fields<'_>, _previous: Option<&Self>) -> Result<Self, ReadError> {
        Ok(Self {
            series: fields.name("Series")?,
            virtual_machine: fields.name("Virtual Machine")?,
            microarchitecture: fields.name("Microarchitecture")?,
            instance_vcpus: fields.f64("Instance vCPUs")?,
            instance_memory_gib: fields.f64("Instance Memory")?,
            platform_vcpus: fields.u32("Platform vCPUs (highest vCPU possible)")?,
            platform_memory_gib: fields.f64("Platform Memory")?,
            platform_storage_type: fields.name("Platform Storage Type")?,
            platform_storage_drives: fields
                .u32("Platform (largest instance) Storage Drive quantity")?,
            instance_gpus: fields.optional_u32("Instance GPUs")?,
            platform_gpus: fields.optional_u32("Platform GPU")?,
        })
    }
}

impl ParquetRow for PowerCurve {
    fn to_columns(rows: &[Self]) -> Columns {
        let named =
            Columns::new(rows.len()).text("vm_size", rows.iter().map(|row| row.vm_size.as_str()));
        PARQUET_CURVE_COLUMNS
            .iter()
            .enumerate()
            .fold(named, |columns, (point, name)| {
                columns.f64(name, rows.iter().map(|row| row.power_w[point]))
            })
            .text(
                "spec_result",
                rows.iter().map(|row| row.spec_result.as_str()),
            )
    }

    fn from_frame(frame: &Frame) -> Result<Vec<Self>, ParquetError> {
        let vm_size = frame.text("vm_size")?;
        let spec_result = frame.text("spec_result")?;
        let points: Vec<Vec<f64>> = PARQUET_CURVE_COLUMNS
            .iter()
            .map(|column| frame.quantity(column))
            .collect::<Result<_, _>>()?;
        let rows = (0..frame.height()).map(|row| Self {
            vm_size: vm_size[row].clone(),
            power_w: std::array::from_fn(|point| points[point][row]),
            spec_result: spec_result[row].clone(),
        });
        Ok(rows.collect())
    }
}

impl ParquetRow for PowerCoefficient {
    fn to_columns(rows: &[Self]) -> Columns {
        Columns::new(rows.len())
            .text(
                "architecture",
                rows.iter().map(|row| row.architecture.as_str()),
            )
            .f64("min_w_per_vcpu", rows.iter().map(|row| row.min_w_per_vcpu))
            .f64("max_w_per_vcpu", rows.iter().map(|row| row.max_w_per_vcpu))
            .f64(
                "memory_gb_per_chip",
                rows.iter().map(|row| row.memory_gb_per_chip),
            )
    }

    fn from_frame(frame: &Frame) -> Result<Vec<Self>, ParquetError> {
        let architecture = frame.text("architecture")?;
        let min_w_per_vcpu = frame.quantity("min_w_per_vcpu")?;
        let max_w_per_vcpu = frame.quantity("max_w_per_vcpu")?;
        let memory_gb_per_chip = frame.quantity("memory_gb_per_chip")?;
        let rows = (0..frame.height()).map(|row| Self {
            architecture: architecture[row].clone(),
            min_w_per_vcpu: min_w_per_vcpu[row],
            max_w_per_vcpu: max_w_per_vcpu[row],
            memory_gb_per_chip: memory_gb_per_chip[row],
        });
        Ok(rows.collect())
    }
}

impl ParquetRow for AzureInstance {
    fn to_columns(rows: &[Self]) -> Columns {
        Columns::new(rows.len())
            .text("series", rows.iter().map(|row| row.series.as_str()))
            .text(
                "virtual_machine",
                rows.iter().map(|row| row.virtual_machine.as_str()),
            )
            .text(
                "microarchitecture",
                rows.iter().map(|row| row.microarchitecture.as_str()),
            )
            .f64("instance_vcpus", rows.iter().map(|row| row.instance_vcpus))
            .f64(
                "instance_memory_gib",
                rows.iter().map(|row| row.instance_memory_gib),
            )
            .u32("platform_vcpus", rows.iter().map(|row| row.platform_vcpus))
            .f64(
                "platform_memory_gib",
                rows.iter().map(|row| row.platform_memory_gib),
            )
            .text(
                "platform_storage_type",
                rows.iter().map(|row| row.platform_storage_type.as_str()),
            )
            .u32(
                "platform_storage_drives",
                rows.iter().map(|row| row.platform_storage_drives),
            )
            .optional_u32("instance_gpus", rows.iter().map(|row| row.instance_gpus))
            .optional_u32("platform_gpus", rows.iter().map(|row| row.platform_gpus))
    }

    fn from_frame(frame: &Frame) -> Result<Vec<Self>, ParquetError> {
        let series = frame.text("series")?;
        let virtual_machine = frame.text("virtual_machine")?;
        let microarchitecture = frame.text("microarchitecture")?;
        let instance_vcpus = frame.quantity("instance_vcpus")?;
        let instance_memory_gib = frame.quantity("instance_memory_gib")?;
        let platform_vcpus = frame.u32("platform_vcpus")?;
        let platform_memory_gib = frame.quantity("platform_memory_gib")?;
        let platform_storage_type = frame.text("platform_storage_type")?;
        let platform_storage_drives = frame.u32("platform_storage_drives")?;
        let instance_gpus = frame.optional_u32("instance_gpus")?;
        let platform_gpus = frame.optional_u32("platform_gpus")?;
        let rows = (0..frame.height()).map(|row| Self {
            series: series[row].clone(),
            virtual_machine: virtual_machine[row].clone(),
            microarchitecture: microarchitecture[row].clone(),
            instance_vcpus: instance_vcpus[row],
            instance_memory_gib: instance_memory_gib[row],
            platform_vcpus: platform_vcpus[row],
            platform_memory_gib: platform_memory_gib[row],
            platform_storage_type: platform_storage_type[row].clone(),
            platform_storage_drives: platform_storage_drives[row],
            instance_gpus: instance_gpus[row],
            platform_gpus: platform_gpus[row],
        });
        Ok(rows.collect())
    }
}
