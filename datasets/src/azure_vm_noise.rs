//! How fast Azure VMs of one size are: one CPU benchmark on some 44,000 VMs that lived for it alone,
//! and again and again on 12 VMs that lived for months.
//!
//! Sizes B8ms and D8s_v5 in two regions, June 2023 to 2024, `sysbench cpu` in events per second.
//! Source: Azure/AzurePublicDataset, 2024; Freischuetz et al., "TUNA: Tuning Unstable and Noisy Cloud
//! Applications", EuroSys 2025.
//!
//! Left out: the other benchmarks of the data set (memory, disk, cache).

use std::fmt;

use jiff::civil::DateTime;

use crate::table::{Columns, CsvRow, Fields, Frame, ParquetError, ParquetRow, ReadError};

/// The least and the greatest year of a benchmark; minutes since 1970 fit into 32 bits.
const YEARS: std::ops::RangeInclusive<i16> = 2000..=2100;

/// How long a benchmarked VM lived.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Lifespan {
    /// For months, with a benchmark every few hours.
    Long,
    /// For one benchmark.
    Short,
}

impl Lifespan {
    /// The name in files: `long` or `short`.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Long => "long",
            Self::Short => "short",
        }
    }

    /// The lifespan of that name.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        [Self::Long, Self::Short]
            .into_iter()
            .find(|lifespan| lifespan.name() == name)
    }
}

impl fmt::Display for Lifespan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// One benchmark of one VM.
#[derive(Debug, Clone, PartialEq)]
pub struct Benchmark {
    /// The VM size, such as `B8ms`; `sku` in the original.
    pub size: String,
    /// The region, such as `eastus`.
    pub region: String,
    /// How long the VM lived.
    pub lifespan: Lifespan,
    /// The VM, from 0 within its size, region and lifespan.
    pub vm: u32,
    /// When the benchmark started, in minutes since 1970-01-01 00:00.
    pub started_min: u32,
    /// The result, above 0.
    pub events_per_s: f64,
}

impl CsvRow for Benchmark {
    const COLUMNS: &'static [&'static str] =
        &["sku", "region", "lifespan", "vm_id", "start", "value"];

    fn from_fields(fields: &Fields<'_>, _previous: Option<&Self>) -> Result<Self, ReadError> {
        let started_min = minutes(fields.text("start")?).ok_or_else(|| {
            fields.unexpected("start", "a minute from 2000 to 2100 as in 2023-09-01 05:13")
        })?;
        let events_per_s = fields.f64("value")?;
        if events_per_s <= 0.0 {
            return Err(fields.unexpected("value", "a number above 0"));
        }
        Ok(Self {
            size: fields.name("sku")?,
            region: fields.name("region")?,
            lifespan: Lifespan::from_name(fields.text("lifespan")?)
                .ok_or_else(|| fields.unexpected("lifespan", "`long` or `short`"))?,
            vm: fields.u32("vm_id")?,
            started_min,
            events_per_s,
        })
    }
}

/// Minutes since 1970 of a text like `2023-09-01 05:13`.
fn minutes(text: &str) -> Option<u32> {
    let time = DateTime::strptime("%Y-%m-%d %H:%M", text).ok()?;
    if !YEARS.contains(&time.year()) {
        return None;
    }
    let since = time
        .duration_since(DateTime::constant(1970, 1, 1, 0, 0, 0, 0))
        .as_mins();
    u32::try_from(since).ok()
}

impl ParquetRow for Benchmark {
    fn to_columns(rows: &[Self]) -> Columns {
        Columns::new(rows.len())
            .text("size", rows.iter().map(|row| row.size.as_str()))
            .text("region", rows.iter().map(|row| row.region.as_str()))
            .text("lifespan", rows.iter().map(|row| row.lifespan.name()))
            .u32("vm", rows.iter().map(|row| row.vm))
            .u32("started_min", rows.iter().map(|row| row.started_min))
            .f64("events_per_s", rows.iter().map(|row| row.events_per_s))
    }

    fn from_frame(frame: &Frame) -> Result<Vec<Self>, ParquetError> {
        let size = frame.text("size")?;
        let region = frame.text("region")?;
        let lifespan = frame.text("lifespan")?;
        let vm = frame.u32("vm")?;
        let started_min = frame.u32("started_min")?;
        let events_per_s = frame.quantity("events_per_s")?;
        (0..frame.height())
            .map(|row| {
                let name = &lifespan[row];
                if events_per_s[row] <= 0.0 {
                    let found = events_per_s[row].to_string();
                    return Err(frame.unexpected("events_per_s", row, "above 0", &found));
                }
                Ok(Self {
                    size: size[row].clone(),
                    region: region[row].clone(),
                    lifespan: Lifespan::from_name(name).ok_or_else(|| {
                        frame.unexpected("lifespan", row, "`long` or `short`", name)
                    })?,
                    vm: vm[row],
                    started_min: started_min[row],
                    events_per_s: events_per_s[row],
                })
            })
            .collect()
    }
}
