//! The weights of the network, by name, and their safetensors form.
//!
//! One table ([`Widths::layout`]) says which tensors there are and of what shape; the network in
//! burn, the plain forward pass and the file all follow it. A matrix is stored row-major with its
//! inputs as rows: `output = input · weight + bias`.
//!
//! | tensors | of |
//! |---|---|
//! | `input.{host,global,power,variant,place}.{mean,std}` | standardization of the features |
//! | `host.{1,2}.{weight,bias}` | the host encoder |
//! | `context.{1,2}.{weight,bias}` | the context: pooled hosts (mean, then greatest) and global features |
//! | `KIND.none` | stands for the host where a candidate is about none |
//! | `KIND.{host,candidate,context}.weight`, `KIND.bias` | first layer of a head |
//! | `KIND.hidden.{weight,bias}`, `KIND.output.weight` | second layer and the score |
//! | `KIND.skip.weight` | the score's straight share of the candidate's features |
//! | `forecast.{weight,bias}` | the forecast of the load |

use std::collections::BTreeMap;

use safetensors::tensor::{Dtype, SafeTensors, TensorView};
use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::encoding::{GLOBAL_FEATURES, HOST_FEATURES, Kind};

/// What the forecast tells: the logarithm of one plus the demand over the next interval, and over
/// the next three, relative to the speed of all hosts.
pub const FORECASTS: usize = 2;

/// Standardized features lie within plus and minus this, so that a world unlike those of training
/// cannot drive the network arbitrarily far from what it has seen.
pub const STANDARD_LIMIT: f32 = 8.0;

/// The greatest width that is read from a file.
const MOST_WIDTH: usize = 4096;

/// Widths of the network's layers; none depends on how many hosts or requests there are.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Widths {
    /// Both layers of the host encoder.
    pub host: usize,
    /// Both layers of the context.
    pub context: usize,
    /// Both layers of the heads.
    pub head: usize,
}

impl Default for Widths {
    fn default() -> Self {
        Self {
            host: 32,
            context: 48,
            head: 32,
        }
    }
}

/// The name of a tensor and its shape.
pub type Named = (String, Vec<usize>);

impl Widths {
    /// Whether the widths are usable.
    #[must_use]
    pub fn valid(&self) -> bool {
        [self.host, self.context, self.head]
            .iter()
            .all(|w| (1..=MOST_WIDTH).contains(w))
    }

    /// All tensors, each with its shape.
    #[must_use]
    pub fn layout(&self) -> Vec<Named> {
        let (hosts, globals) = (HOST_FEATURES.len(), GLOBAL_FEATURES.len());
        let mut all: Vec<Named> = Vec::new();
        let mut add = |name: String, shape: &[usize]| all.push((name, shape.to_vec()));
        for (name, width) in inputs() {
            add(format!("input.{name}.mean"), &[width]);
            add(format!("input.{name}.std"), &[width]);
        }
        let dense = [
            ("host.1", hosts, self.host),
            ("host.2", self.host, self.host),
            ("context.1", 2 * self.host + globals, self.context),
            ("context.2", self.context, self.context),
            ("forecast", self.context, FORECASTS),
        ];
        for (name, rows, columns) in dense {
            add(format!("{name}.weight"), &[rows, columns]);
            add(format!("{name}.bias"), &[columns]);
        }
        for kind in Kind::ALL {
            let (name, width) = (kind.name(), kind.features().len());
            add(format!("{name}.none"), &[self.host]);
            add(format!("{name}.host.weight"), &[self.host, self.head]);
            add(format!("{name}.candidate.weight"), &[width, self.head]);
            add(format!("{name}.context.weight"), &[self.context, self.head]);
            add(format!("{name}.bias"), &[self.head]);
            add(format!("{name}.hidden.weight"), &[self.head, self.head]);
            add(format!("{name}.hidden.bias"), &[self.head]);
            add(format!("{name}.output.weight"), &[self.head]);
            add(format!("{name}.skip.weight"), &[width]);
        }
        all
    }

    /// Number of parameters that are fitted.
    #[must_use]
    pub fn parameter_count(&self) -> usize {
        let fitted = self
            .layout()
            .into_iter()
            .filter(|(name, _)| !name.starts_with("input."));
        fitted
            .map(|(_, shape)| shape.iter().product::<usize>())
            .sum()
    }
}

/// Names and widths of the feature tables: hosts, global, then the kinds.
fn inputs() -> [(&'static str, usize); 5] {
    [
        ("host", HOST_FEATURES.len()),
        ("global", GLOBAL_FEATURES.len()),
        ("power", Kind::Power.features().len()),
        ("variant", Kind::Variant.features().len()),
        ("place", Kind::Place.features().len()),
    ]
}

/// Why tensors are not the weights of a network.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum WeightsError {
    /// The bytes are not a safetensors file.
    #[error("not a safetensors file: {0}")]
    Format(String),
    /// The widths are out of range.
    #[error("widths {0:?} are out of range: each must lie between 1 and {MOST_WIDTH}")]
    Widths(Widths),
    /// A tensor is absent.
    #[error("tensor `{0}` is missing")]
    Missing(String),
    /// There is a tensor too many.
    #[error("tensor `{0}` is unknown")]
    Unknown(String),
    /// A tensor has another shape.
    #[error("tensor `{name}` has shape {found:?}, expected {expected:?}")]
    Shape {
        /// The tensor.
        name: String,
        /// Its shape.
        found: Vec<usize>,
        /// The shape by the widths.
        expected: Vec<usize>,
    },
    /// A tensor is not of 32-bit floats.
    #[error("tensor `{name}` holds {found}, expected F32")]
    Type {
        /// The tensor.
        name: String,
        /// What it holds.
        found: String,
    },
    /// A number is NaN, infinite, or a standard deviation that is not above zero.
    #[error("tensor `{name}` holds {value} at {position}, which is no possible weight")]
    Value {
        /// The tensor.
        name: String,
        /// The position in row-major order.
        position: usize,
        /// The number.
        value: String,
    },
}

/// The weights of a network: every tensor of the layout, in its shape, finite.
#[derive(Clone, Debug, PartialEq)]
pub struct Weights {
    widths: Widths,
    tensors: BTreeMap<String, Vec<f32>>,
}

impl Weights {
    /// Takes `tensors`, row-major by name.
    ///
    /// # Errors
    ///
    /// If one is missing, unknown, of another length, or holds an impossible number.
    pub fn new(widths: Widths, tensors: BTreeMap<String, Vec<f32>>) -> Result<Self, WeightsError> {
        if !widths.valid() {
            return Err(WeightsError::Widths(widths));
        }
        let layout = widths.layout();
        for (name, expected) in &layout {
            let values = tensors
                .get(name)
                .ok_or_else(|| WeightsError::Missing(name.clone()))?;
            if values.len() != expected.iter().product::<usize>() {
                let (name, expected) = (name.clone(), expected.clone());
                return Err(WeightsError::Shape {
                    name,
                    found: vec![values.len()],
                    expected,
                });
            }
            let scale = name.starts_with("input.") && name.ends_with(".std");
            let bad = |v: &f32| !v.is_finite() || (scale && *v <= 0.0);
            if let Some(position) = values.iter().position(bad) {
                let value = values[position].to_string();
                return Err(WeightsError::Value {
                    name: name.clone(),
                    position,
                    value,
                });
            }
        }
        if let Some(name) = tensors
            .keys()
            .find(|name| !layout.iter().any(|(n, _)| n == *name))
        {
            return Err(WeightsError::Unknown(name.clone()));
        }
        Ok(Self { widths, tensors })
    }

    /// The widths.
    #[must_use]
    pub fn widths(&self) -> Widths {
        self.widths
    }

    /// The tensor `name`, row-major; empty if the layout has none of that name.
    #[must_use]
    pub fn get(&self, name: &str) -> &[f32] {
        self.tensors.get(name).map_or(&[], Vec::as_slice)
    }

    /// The bytes of a safetensors file of these weights; equal weights give equal bytes.
    ///
    /// # Errors
    ///
    /// If the format refuses, which no valid weights give reason for.
    pub fn to_safetensors(&self) -> Result<Vec<u8>, WeightsError> {
        let layout = self.widths.layout();
        let bytes: Vec<Vec<u8>> = layout
            .iter()
            .map(|(name, _)| {
                self.get(name)
                    .iter()
                    .flat_map(|v| v.to_le_bytes())
                    .collect()
            })
            .collect();
        let format = |error: safetensors::SafeTensorError| WeightsError::Format(error.to_string());
        let mut views = BTreeMap::new();
        for ((name, shape), bytes) in layout.iter().zip(&bytes) {
            let view = TensorView::new(Dtype::F32, shape.clone(), bytes).map_err(format)?;
            views.insert(name.as_str(), view);
        }
        safetensors::serialize(views, None).map_err(format)
    }

    /// The weights in the bytes of a safetensors file.
    ///
    /// # Errors
    ///
    /// As [`Weights::new`], and if the bytes are not a safetensors file of 32-bit floats.
    pub fn from_safetensors(widths: Widths, bytes: &[u8]) -> Result<Self, WeightsError> {
        if !widths.valid() {
            return Err(WeightsError::Widths(widths));
        }
        let file = SafeTensors::deserialize(bytes)
            .map_err(|error| WeightsError::Format(error.to_string()))?;
        let expected: BTreeMap<String, Vec<usize>> = widths.layout().into_iter().collect();
        let mut tensors = BTreeMap::new();
        for (name, view) in file.iter() {
            let name = name.to_owned();
            let Some(shape) = expected.get(&name) else {
                return Err(WeightsError::Unknown(name));
            };
            if view.shape() != shape.as_slice() {
                let (found, expected) = (view.shape().to_vec(), shape.clone());
                return Err(WeightsError::Shape {
                    name,
                    found,
                    expected,
                });
            }
            if view.dtype() != Dtype::F32 {
                return Err(WeightsError::Type {
                    name,
                    found: format!("{:?}", view.dtype()),
                });
            }
            let (words, _) = view.data().as_chunks::<4>();
            tensors.insert(
                name,
                words.iter().map(|word| f32::from_le_bytes(*word)).collect(),
            );
        }
        Self::new(widths, tensors)
    }
}

/// Mean and standard deviation of each feature, by which features are standardized.
#[derive(Clone, Debug, PartialEq)]
pub struct Standardization {
    /// Means, one a feature.
    pub mean: Vec<f32>,
    /// Standard deviations, one a feature, each above zero.
    pub std: Vec<f32>,
}

/// Features that vary less than this are not stretched to unit variance.
const LEAST_STD: f64 = 1e-3;

impl Standardization {
    /// Changes nothing.
    #[must_use]
    pub fn identity(width: usize) -> Self {
        Self {
            mean: vec![0.0; width],
            std: vec![1.0; width],
        }
    }

    /// Mean and standard deviation of the columns of `rows`, each of `width` features; without
    /// rows the identity. Features that (almost) do not vary keep their scale.
    #[must_use]
    #[expect(
        clippy::cast_possible_truncation,
        reason = "weights are single precision"
    )]
    pub fn of<'a>(rows: impl Iterator<Item = &'a [f32]>, width: usize) -> Self {
        // Welford's algorithm: stable in one pass.
        let mut count = 0.0_f64;
        let mut mean = vec![0.0_f64; width];
        let mut squares = vec![0.0_f64; width];
        for row in rows {
            count += 1.0;
            for ((m, s), &x) in mean.iter_mut().zip(&mut squares).zip(row) {
                let off = f64::from(x) - *m;
                *m += off / count;
                *s += off * (f64::from(x) - *m);
            }
        }
        if count == 0.0 {
            return Self::identity(width);
        }
        let std = squares.iter().map(|s| (s / count).sqrt());
        Self {
            mean: mean.iter().map(|m| *m as f32).collect(),
            std: std
                .map(|s| if s < LEAST_STD { 1.0 } else { s as f32 })
                .collect(),
        }
    }
}

/// The standardization of all features.
#[derive(Clone, Debug, PartialEq)]
pub struct Standardizations {
    /// Of the host features.
    pub host: Standardization,
    /// Of the global features.
    pub global: Standardization,
    /// Of the candidate features, by [`Kind::index`].
    pub candidates: [Standardization; 3],
}

impl Default for Standardizations {
    fn default() -> Self {
        Self {
            host: Standardization::identity(HOST_FEATURES.len()),
            global: Standardization::identity(GLOBAL_FEATURES.len()),
            candidates: Kind::ALL.map(|kind| Standardization::identity(kind.features().len())),
        }
    }
}
