//! The table of applications of a world, from a fit and its inputs.

use std::fmt::Write;

use super::cells::{Cell, Shape};
use super::inputs::{ApplicationInput, Inputs, VariantInput};
use super::{CalibrateError, Calibration};
use crate::distribution::Distribution;
use crate::stream;
use crate::world::did_you_mean;
use crate::world::file::{ApplicationFile, FragmentFile, VariantFile};

/// Draws from which the quantile of a response is taken.
const DRAWS: u32 = 20_000;
/// Name of the world's marker before the table.
pub const BEGIN: &str = "# BEGIN: written by `twin calibrate --format toml`, not by hand";
/// Name of the world's marker after the table.
pub const END: &str = "# END: written by `twin calibrate --format toml`";

/// The applications of `inputs`, with the work that `calibration` found.
///
/// # Errors
///
/// If an application or a variant of the inputs is not in the recording, or the other way round.
pub fn applications(
    calibration: &Calibration,
    inputs: &Inputs,
) -> Result<Vec<ApplicationFile>, CalibrateError> {
    let names: Vec<&str> = inputs
        .applications
        .iter()
        .map(|a| a.name.as_str())
        .collect();
    let variants: Vec<&str> = inputs.variants.iter().map(|v| v.name.as_str()).collect();
    for cell in &calibration.demands {
        known("application", &cell.cell.application, &names)?;
        known("variant", &cell.cell.variant, &variants)?;
    }
    known("variant", &inputs.deadline.variant, &variants)?;
    inputs
        .applications
        .iter()
        .map(|a| application(calibration, inputs, a))
        .collect()
}

fn known(kind: &'static str, name: &str, names: &[&str]) -> Result<(), CalibrateError> {
    if names.contains(&name) {
        return Ok(());
    }
    Err(CalibrateError::NoInput {
        kind,
        name: name.into(),
        hint: did_you_mean(name, names),
    })
}

fn application(
    calibration: &Calibration,
    inputs: &Inputs,
    input: &ApplicationInput,
) -> Result<ApplicationFile, CalibrateError> {
    let mut variants = Vec::new();
    let mut deadline_s = 0.0;
    for variant in &inputs.variants {
        let fragments = fragments(calibration, inputs, &input.name, variant)?;
        if variant.name == inputs.deadline.variant {
            let works: Vec<&Distribution> = fragments.iter().map(|f| &f.work_mi).collect();
            let chain = fragments.iter().skip(1).all(|f| !f.after.is_empty());
            let work = response_mi(&works, chain, inputs.deadline.quantile);
            let speed = inputs.mips_per_vcpu * calibration.cap_vcpus;
            let step_s = inputs.deadline.step_s;
            deadline_s = (inputs.deadline.factor * work / speed / step_s).ceil() * step_s;
        }
        let accuracy = round(input.accuracy * variant.accuracy_factor, 1e4);
        variants.push(VariantFile {
            name: variant.name.clone(),
            accuracy,
            fragments,
        });
    }
    Ok(ApplicationFile {
        name: input.name.clone(),
        share: 1.0,
        deadline_s,
        input_kib: inputs.input_kib,
        input_bytes_per_context_token: 0.0,
        variants,
    })
}

/// The fragments of `variant` of the application `name`.
fn fragments(
    calibration: &Calibration,
    inputs: &Inputs,
    name: &str,
    variant: &VariantInput,
) -> Result<Vec<FragmentFile>, CalibrateError> {
    let missing = || CalibrateError::NotRecorded {
        application: name.into(),
        variant: variant.name.clone(),
    };
    let shape = *calibration.shapes.get(&variant.name).ok_or_else(missing)?;
    let mut fragments: Vec<FragmentFile> = Vec::new();
    for task in 0..shape.tasks() {
        let place = if shape.demands() > 1 { task } else { 0 };
        let cell = Cell {
            application: name.into(),
            variant: variant.name.clone(),
            place,
        };
        let demand = calibration
            .demands
            .iter()
            .find(|d| d.cell == cell)
            .ok_or_else(missing)?;
        let (label, after, output_kib) = match shape {
            Shape::Chain(n) if task + 1 < n => (
                format!("part-{}", task + 1),
                task.checked_sub(1),
                variant.intermediate_kib,
            ),
            Shape::Chain(1) => ("model".into(), None, inputs.output_kib),
            Shape::Chain(_) => (
                format!("part-{}", task + 1),
                task.checked_sub(1),
                inputs.output_kib,
            ),
            Shape::Parallel(n) => (
                format!("branch-{}", task + 1),
                None,
                inputs.output_kib / n as f64,
            ),
        };
        fragments.push(FragmentFile {
            name: label,
            after: after
                .map(|i| vec![fragments[i].name.clone()])
                .unwrap_or_default(),
            work_mi: Distribution::Lognormal {
                mean: round(demand.work_mi, 0.1),
                cv: round(demand.cv, 100.0),
            },
            work_mi_per_context_token: 0.0,
            work_mi_per_generated_token: 0.0,
            max_vcpus: calibration.cap_vcpus,
            ram_mib: variant.ram_mib,
            model: None,
            dirty_mib_per_s: None,
            working_set_mib: None,
            output_kib,
            output_bytes_per_token: 0.0,
        });
    }
    Ok(fragments)
}

/// Quantile `q` of the work on the way from input to output: the sum along a chain, the largest of
/// parallel branches; by sampling with fixed random values.
fn response_mi(works: &[&Distribution], chain: bool, q: f64) -> f64 {
    let mut draws: Vec<f64> = (0..DRAWS)
        .map(|draw| {
            let parts = works
                .iter()
                .enumerate()
                .map(|(i, w)| w.quantile(stream::unit(u64::from(draw), i as u64)));
            if chain {
                parts.sum()
            } else {
                parts.fold(0.0, f64::max)
            }
        })
        .collect();
    draws.sort_by(f64::total_cmp);
    let below = (0..draws.len())
        .take_while(|i| (*i as f64) < q * draws.len() as f64)
        .count();
    draws[below.min(draws.len() - 1)]
}

fn round(value: f64, scale: f64) -> f64 {
    (value * scale).round() / scale
}

/// `applications` as TOML: what stands between the markers of a world file.
#[must_use]
pub fn to_toml(applications: &[ApplicationFile]) -> String {
    let mut text = String::new();
    for application in applications {
        // Writing to a string cannot fail.
        let _ = writeln!(
            text,
            "[[applications]]\nname = \"{}\"\ndeadline_s = {}\ninput_kib = {}",
            application.name, application.deadline_s, application.input_kib
        );
        for variant in &application.variants {
            let _ = writeln!(
                text,
                "[[applications.variants]]\nname = \"{}\"\naccuracy = {}\nfragments = [",
                variant.name, variant.accuracy
            );
            for fragment in &variant.fragments {
                let _ = writeln!(text, "  {},", fragment_toml(fragment));
            }
            let _ = writeln!(text, "]");
        }
        let _ = writeln!(text);
    }
    text
}

fn fragment_toml(fragment: &FragmentFile) -> String {
    let after = match fragment.after.as_slice() {
        [] => String::new(),
        names => format!(", after = [\"{}\"]", names.join("\", \"")),
    };
    let work = match fragment.work_mi {
        Distribution::Lognormal { mean, cv } => {
            format!("{{ kind = \"lognormal\", mean = {mean}, cv = {cv} }}")
        }
        Distribution::Exponential { mean } => {
            format!("{{ kind = \"exponential\", mean = {mean} }}")
        }
        Distribution::Constant { value } => format!("{{ kind = \"constant\", value = {value} }}"),
    };
    format!(
        "{{ name = \"{}\"{after}, work_mi = {work}, max_vcpus = {}, ram_mib = {}, output_kib = {} }}",
        fragment.name, fragment.max_vcpus, fragment.ram_mib, fragment.output_kib
    )
}
