//! What a recording does not tell and a table of applications needs: accuracies, memory, sizes of
//! transfers, the rule for deadlines. One TOML file; every value in it says where it is from.

use std::path::Path;

use serde::{Deserialize, Serialize};

use super::CalibrateError;

/// Values that stand beside the fit.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Inputs {
    /// Virtual CPUs of every recorded host.
    pub vcpus: f64,
    /// Speed of one of them, in million instructions per second.
    pub mips_per_vcpu: f64,
    /// Input of a request, in KiB.
    pub input_kib: f64,
    /// Output of a request, in KiB, shared evenly by parallel branches.
    pub output_kib: f64,
    /// How deadlines follow from the fit.
    pub deadline: DeadlineRule,
    /// Applications, in the order of the table.
    pub applications: Vec<ApplicationInput>,
    /// Variants, in the order of the table.
    pub variants: Vec<VariantInput>,
}

/// deadline = factor · quantile of the response of `variant` on idle hosts, rounded up.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DeadlineRule {
    /// Name of the variant.
    pub variant: String,
    /// Which quantile, above 0 and below 1.
    pub quantile: f64,
    /// What it is multiplied by.
    pub factor: f64,
    /// Deadlines are multiples of this, in s.
    pub step_s: f64,
}

/// An application.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ApplicationInput {
    /// Its name in the recording.
    pub name: String,
    /// Accuracy of the whole model.
    pub accuracy: f64,
}

/// A variant.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct VariantInput {
    /// Its name in the recording.
    pub name: String,
    /// Its accuracy over that of the whole model.
    pub accuracy_factor: f64,
    /// Memory of each fragment, in MiB.
    pub ram_mib: f64,
    /// What a fragment of a chain hands to the next, in KiB.
    #[serde(default)]
    pub intermediate_kib: f64,
}

impl Inputs {
    /// The values that go with the embedded recording.
    ///
    /// # Errors
    ///
    /// Never, unless the program was built from a damaged file.
    pub fn embedded() -> Result<Self, CalibrateError> {
        Self::parse(
            include_str!("../../worlds/scinet-16.inputs.toml"),
            "scinet-16.inputs.toml",
        )
    }

    /// The values in the file at `path`.
    ///
    /// # Errors
    ///
    /// As [`Inputs::parse`], and if the file cannot be read.
    pub fn load(path: &Path) -> Result<Self, CalibrateError> {
        let origin = path.display().to_string();
        match std::fs::read_to_string(path) {
            Ok(text) => Self::parse(&text, &origin),
            Err(source) => Err(CalibrateError::InputsRead {
                path: origin,
                source,
            }),
        }
    }

    /// The values in `text`; `origin` names it in errors.
    ///
    /// # Errors
    ///
    /// If the text is not TOML of this form or a value is out of range.
    pub fn parse(text: &str, origin: &str) -> Result<Self, CalibrateError> {
        let fail = |problem: String| CalibrateError::Inputs {
            origin: origin.into(),
            problem,
        };
        let inputs: Self = toml::from_str(text).map_err(|e| fail(e.to_string()))?;
        for (field, value) in [
            ("vcpus", inputs.vcpus),
            ("mips_per_vcpu", inputs.mips_per_vcpu),
            ("deadline.factor", inputs.deadline.factor),
            ("deadline.step_s", inputs.deadline.step_s),
        ] {
            if !(value.is_finite() && value > 0.0) {
                return Err(fail(format!(
                    "{field}: must be finite and above zero, found {value}"
                )));
            }
        }
        let quantile = inputs.deadline.quantile;
        if !(quantile > 0.0 && quantile < 1.0) {
            return Err(fail(format!(
                "deadline.quantile: must be above 0 and below 1, found {quantile}"
            )));
        }
        Ok(inputs)
    }
}
