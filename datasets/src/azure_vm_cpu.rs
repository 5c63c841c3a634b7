//! CPU use of 100 Azure VMs over four weeks, averaged over five minutes.
//!
//! A sample of the Azure Public Dataset V1 (Cortez et al., "Resource Central", SOSP 2017): a table of
//! one column a VM, and a table that gives the VM's number there.
//!
//! Left out: sizes of the VMs, their lifetimes, and the least and greatest use within five minutes.

use std::fmt::Write;

use crate::table::{Columns, CsvRow, Fields, Frame, ParquetError, ParquetRow, ReadError};

/// VMs of the sample.
pub const VMS: usize = 100;

/// Seconds between two values.
pub const STEP_S: u32 = 300;

/// Thousandths of a percent in all of it.
const FULL: u32 = 100_000;

/// One row of the original: what all VMs used in the five minutes from `time_s`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sample {
    /// Since the first row, in s; 300 s more than in the row before.
    pub time_s: u32,
    /// One value a VM, in thousandths of a percent of the VM.
    pub cpu_mpercent: Vec<u32>,
}

/// The number of a VM in the data set.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VmNumber {
    /// The column, such as `vm000`.
    pub vm: String,
    /// The number in the Azure Public Dataset V1.
    pub azure_vm: u32,
}

/// The CPU use of one VM.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CpuTrace {
    /// The VM, such as `vm000`.
    pub vm: String,
    /// Its number in the Azure Public Dataset V1.
    pub azure_vm: u32,
    /// Every [`STEP_S`] seconds a value, in thousandths of a percent of the VM.
    pub cpu_mpercent: Vec<u32>,
}

impl CsvRow for Sample {
    const COLUMNS: &'static [&'static str] = &["t_s", "vm000", "vm099"];

    fn from_fields(fields: &Fields<'_>, previous: Option<&Self>) -> Result<Self, ReadError> {
        let time_s = fields.u32("t_s")?;
        let expected = previous.map_or(0, |p| p.time_s.saturating_add(STEP_S));
        if time_s != expected {
            return Err(fields.unexpected("t_s", &format!("{expected}, {STEP_S} s after the last")));
        }
        let cpu_mpercent = (0..VMS)
            .map(|vm| {
                let column = format!("vm{vm:03}");
                mpercent(fields.text(&column)?).ok_or_else(|| {
                    let expected = "a percentage from 0 to 100 with at most three decimals";
                    fields.unexpected(&column, expected)
                })
            })
            .collect::<Result<_, _>>()?;
        Ok(Self {
            time_s,
            cpu_mpercent,
        })
    }
}

/// Thousandths of a decimal number with up to three decimals; exact, unlike a detour by floats.
fn mpercent(text: &str) -> Option<u32> {
    let (whole, decimals) = text.split_once('.').unwrap_or((text, ""));
    let digits = |part: &str| part.bytes().all(|b| b.is_ascii_digit());
    if whole.is_empty() || decimals.len() > 3 || !digits(whole) || !digits(decimals) {
        return None;
    }
    let thousandths: u32 = format!("{decimals:0<3}").parse().ok()?;
    let value = whole
        .parse::<u32>()
        .ok()?
        .checked_mul(1000)?
        .checked_add(thousandths)?;
    (value <= FULL).then_some(value)
}

impl CsvRow for VmNumber {
    const COLUMNS: &'static [&'static str] = &["col", "azure_vm_id"];

    fn from_fields(fields: &Fields<'_>, previous: Option<&Self>) -> Result<Self, ReadError> {
        let vm = fields.name("col")?;
        let expected = previous
            .and_then(|p| p.vm.strip_prefix("vm")?.parse::<u32>().ok())
            .map_or(0, |last| last.saturating_add(1));
        let expected = format!("vm{expected:03}");
        if vm != expected {
            return Err(fields.unexpected("col", &format!("`{expected}`")));
        }
        Ok(Self {
            vm,
            azure_vm: fields.u32("azure_vm_id")?,
        })
    }
}

/// The traces of the VMs in `numbers`, which are the columns of `samples` in their order.
#[must_use]
pub fn traces(samples: &[Sample], numbers: &[VmNumber]) -> Vec<CpuTrace> {
    numbers
        .iter()
        .take(VMS)
        .enumerate()
        .map(|(column, number)| CpuTrace {
            vm: number.vm.clone(),
            azure_vm: number.azure_vm,
            cpu_mpercent: samples.iter().map(|s| s.cpu_mpercent[column]).collect(),
        })
        .collect()
}

/// The traces as plain CSV: `time_s`, then one column a VM, in percent of the VM, each value from its
/// time until the next line. Traces that end earlier than others leave their column empty.
#[must_use]
pub fn to_csv(traces: &[CpuTrace]) -> String {
    let mut csv = String::from("time_s");
    for trace in traces {
        csv.push(',');
        csv.push_str(&trace.vm);
    }
    csv.push('\n');
    let steps = traces.iter().map(|t| t.cpu_mpercent.len()).max();
    let mut time_s: u64 = 0;
    for step in 0..steps.unwrap_or(0) {
        // Writing to a string cannot fail.
        let _ = write!(csv, "{time_s}");
        for trace in traces {
            csv.push(',');
            if let Some(&value) = trace.cpu_mpercent.get(step) {
                push_percent(&mut csv, value);
            }
        }
        csv.push('\n');
        time_s += u64::from(STEP_S);
    }
    csv
}

/// Appends thousandths as a decimal number, exactly, without trailing zeros.
fn push_percent(csv: &mut String, mpercent: u32) {
    // Writing to a string cannot fail.
    let _ = write!(csv, "{}", mpercent / 1000);
    if !mpercent.is_multiple_of(1000) {
        let digits = format!("{:03}", mpercent % 1000);
        csv.push('.');
        csv.push_str(digits.trim_end_matches('0'));
    }
}

impl ParquetRow for CpuTrace {
    fn to_columns(rows: &[Self]) -> Columns {
        Columns::new(rows.len())
            .text("vm", rows.iter().map(|row| row.vm.as_str()))
            .u32("azure_vm", rows.iter().map(|row| row.azure_vm))
            .u32_lists(
                "cpu_mpercent",
                rows.iter().map(|row| row.cpu_mpercent.as_slice()),
            )
    }

    fn from_frame(frame: &Frame) -> Result<Vec<Self>, ParquetError> {
        let vm = frame.text("vm")?;
        let azure_vm = frame.u32("azure_vm")?;
        let cpu_mpercent = frame.u32_lists("cpu_mpercent")?;
        let rows = vm.into_iter().zip(azure_vm).zip(cpu_mpercent).enumerate();
        rows.map(|(row, ((vm, azure_vm), cpu_mpercent))| {
            if let Some(above) = cpu_mpercent.iter().find(|value| **value > FULL) {
                let expected = "thousandths of a percent, at most 100000";
                return Err(frame.unexpected("cpu_mpercent", row, expected, &above.to_string()));
            }
            Ok(Self {
                vm,
                azure_vm,
                cpu_mpercent,
            })
        })
        .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentages_are_exact_both_ways() {
        for (text, value) in [
            ("0", 0),
            ("44.459", 44_459),
            ("28.01", 28_010),
            ("0.007", 7),
            ("100", FULL),
        ] {
            assert_eq!(mpercent(text), Some(value), "{text}");
            let mut written = String::new();
            push_percent(&mut written, value);
            assert_eq!(written, text);
        }
        for text in [
            "",
            "-1",
            "+1",
            "1.2345",
            "100.001",
            "1e1",
            ".5",
            "5000000000",
        ] {
            assert_eq!(mpercent(text), None, "{text}");
        }
    }

    #[test]
    fn plain_columns_end_where_traces_end() {
        let trace = |vm: &str, values: &[u32]| CpuTrace {
            vm: vm.into(),
            azure_vm: 1,
            cpu_mpercent: values.to_vec(),
        };
        let csv = to_csv(&[trace("vm000", &[1500, 0]), trace("vm001", &[20])]);
        assert_eq!(csv, "time_s,vm000,vm001\n0,1.5,0.02\n300,0,\n");
    }
}
