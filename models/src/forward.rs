//! The network without burn: the same arithmetic over the same weights, for decisions.
//!
//! Each layer is a small product of a row with a matrix that is kept in blocks of
//! `LANES` columns, so that the compiler keeps a block's sums in vector registers; a general matrix
//! product would allocate and costs more than it saves at these widths.
//!
//! Encoded hosts are kept between questions, and so are their products with the first layer of
//! each head: a host is encoded again only when one of its features changed. Which questions were
//! asked before never changes a score. Once the buffers have grown to the size of the fleet,
//! nothing is allocated.
//!
//! What is computed stands at [`crate::weights`] and, as formulas, at the network in burn
//! (`network`, with the feature `burn`), against which a test holds this module.

use std::sync::Arc;

use ndarray::Array3;

use crate::encoding::{Encoded, HOST_FEATURES, Kind, NO_HOST};
use crate::weights::{FORECASTS, STANDARD_LIMIT, Weights};

/// Columns of a block.
const LANES: usize = 32;

/// Scores candidates. Clones share the weights.
#[derive(Clone, Debug)]
pub struct Forward {
    network: Arc<Network>,
    hosts: Hosts,
    context: Vec<f32>,
    scores: Vec<f32>,
    /// Standardized features, the sums of the first and of the second layer.
    input: Vec<f32>,
    first: Vec<f32>,
    second: Vec<f32>,
    base: Vec<f32>,
}

/// What is known of each host's features.
#[derive(Clone, Debug, Default)]
struct Hosts {
    /// Features as they were last, row-major.
    features: Vec<f32>,
    /// Their encoding, row-major.
    encoded: Vec<f32>,
    /// By kind, the products of the encodings with the head's first layer, row-major.
    products: [Vec<f32>; 3],
    /// By kind, whether a product is yet to be computed.
    stale: [Vec<bool>; 3],
    /// Mean, then greatest value of each encoded feature.
    pooled: Vec<f32>,
}

/// The weights in the form in which they are applied.
#[derive(Debug)]
struct Network {
    input_host: Standardize,
    input_global: Standardize,
    host_1: Dense,
    host_2: Dense,
    context_1: Dense,
    context_2: Dense,
    forecast: Dense,
    heads: [Head; 3],
}

#[derive(Debug)]
struct Head {
    input: Standardize,
    /// Product of the stand-in for a host with the host's part of the first layer.
    none: Vec<f32>,
    host: Dense,
    candidate: Dense,
    context: Dense,
    hidden: Dense,
    output: Vec<f32>,
    skip: Vec<f32>,
}

impl Forward {
    /// The network with these weights.
    #[must_use]
    pub fn new(weights: &Weights) -> Self {
        let network = Network::new(weights);
        Self {
            hosts: Hosts {
                pooled: vec![0.0; 2 * network.host_2.columns],
                ..Hosts::default()
            },
            context: vec![0.0; network.context_2.padded()],
            scores: Vec::new(),
            input: Vec::new(),
            first: Vec::new(),
            second: Vec::new(),
            base: Vec::new(),
            network: Arc::new(network),
        }
    }

    /// The score of each candidate of `encoded`, higher is better.
    pub fn scores(&mut self, encoded: &Encoded) -> &[f32] {
        self.encode_hosts(encoded);
        self.encode_context(&encoded.global);
        self.score(encoded);
        &self.scores
    }

    /// The forecast of the load (see [`FORECASTS`]) with the last question's features.
    #[must_use]
    pub fn forecast(&self) -> [f32; FORECASTS] {
        let mut out = [0.0; LANES];
        self.network.forecast.apply(&self.context, &mut out);
        std::array::from_fn(|i| out[i])
    }

    /// Encodes the hosts whose features changed, and pools.
    fn encode_hosts(&mut self, encoded: &Encoded) {
        let Self {
            network,
            hosts,
            input,
            first,
            ..
        } = self;
        let width = HOST_FEATURES.len();
        let stride = network.host_2.padded();
        let mut changed = hosts.stale[0].len() != encoded.host_count;
        // No feature is NaN, so a new host differs from what fills its place.
        hosts.features.resize(encoded.host_count * width, f32::NAN);
        hosts.encoded.resize(encoded.host_count * stride, 0.0);
        for (k, head) in network.heads.iter().enumerate() {
            hosts.products[k].resize(encoded.host_count * head.host.padded(), 0.0);
            hosts.stale[k].resize(encoded.host_count, true);
        }
        first.resize(network.host_1.padded(), 0.0);
        for (h, new) in encoded.hosts.chunks_exact(width).enumerate() {
            let old = &mut hosts.features[h * width..(h + 1) * width];
            if same(old, new) {
                continue;
            }
            old.copy_from_slice(new);
            changed = true;
            hosts.stale.iter_mut().for_each(|stale| stale[h] = true);
            network.input_host.apply(new, input);
            network.host_1.apply(input, first);
            relu(first);
            let out = &mut hosts.encoded[h * stride..(h + 1) * stride];
            network.host_2.apply(first, out);
            relu(out);
        }
        if changed {
            hosts.pool(network.host_2.columns, stride, encoded.host_count);
        }
    }

    fn encode_context(&mut self, global: &[f32]) {
        let Self {
            network,
            hosts,
            context,
            input,
            first,
            second,
            ..
        } = self;
        network.input_global.apply(global, second);
        input.clear();
        input.extend_from_slice(&hosts.pooled);
        input.extend_from_slice(second);
        first.resize(network.context_1.padded(), 0.0);
        network.context_1.apply(input, first);
        relu(first);
        network.context_2.apply(first, context);
        relu(context);
    }

    fn score(&mut self, encoded: &Encoded) {
        let Self {
            network,
            hosts,
            context,
            scores,
            input,
            first,
            second,
            base,
        } = self;
        let k = encoded.kind.index();
        let head = &network.heads[k];
        let stride = head.host.padded();
        let host_stride = network.host_2.padded();
        for lane in [&mut *base, &mut *first, &mut *second] {
            lane.resize(stride, 0.0);
        }
        head.context.apply(context, base);
        scores.clear();
        let width = encoded.kind.features().len();
        for (features, &host) in encoded
            .candidates
            .chunks_exact(width)
            .zip(&encoded.candidate_hosts)
        {
            let product = if host == NO_HOST {
                &head.none
            } else {
                let h = host as usize;
                let product = &mut hosts.products[k][h * stride..(h + 1) * stride];
                if std::mem::take(&mut hosts.stale[k][h]) {
                    let from = &hosts.encoded[h * host_stride..(h + 1) * host_stride];
                    head.host.apply(from, product);
                }
                &*product
            };
            for ((sum, a), b) in first.iter_mut().zip(product).zip(&*base) {
                *sum = a + b;
            }
            head.input.apply(features, input);
            head.candidate.add(input, first);
            relu(first);
            head.hidden.apply(first, second);
            relu(second);
            scores.push(dot(second, &head.output) + dot(input, &head.skip));
        }
    }
}

impl Hosts {
    fn pool(&mut self, width: usize, stride: usize, count: usize) {
        let (mean, most) = self.pooled.split_at_mut(width);
        mean.fill(0.0);
        most.fill(0.0);
        for row in self.encoded.chunks_exact(stride) {
            for ((sum, most), &value) in mean.iter_mut().zip(most.iter_mut()).zip(row) {
                *sum += value;
                *most = most.max(value);
            }
        }
        let count = count.max(1) as f32;
        mean.iter_mut().for_each(|sum| *sum /= count);
    }
}

impl Network {
    fn new(weights: &Weights) -> Self {
        let dense = |name: &str| Dense::new(weights, name, &format!("{name}.bias"));
        let input = |name: &str| Standardize {
            mean: weights.get(&format!("input.{name}.mean")).to_vec(),
            inverse_std: weights
                .get(&format!("input.{name}.std"))
                .iter()
                .map(|std| 1.0 / std)
                .collect(),
        };
        Self {
            input_host: input("host"),
            input_global: input("global"),
            host_1: dense("host.1"),
            host_2: dense("host.2"),
            context_1: dense("context.1"),
            context_2: dense("context.2"),
            forecast: dense("forecast"),
            heads: Kind::ALL.map(|kind| {
                let name = kind.name();
                let part = |part: &str| Dense::new(weights, &format!("{name}.{part}"), "");
                let host = part("host");
                let mut none = vec![0.0; host.padded()];
                host.apply(weights.get(&format!("{name}.none")), &mut none);
                Head {
                    input: input(name),
                    none,
                    host,
                    candidate: part("candidate"),
                    context: Dense::new(
                        weights,
                        &format!("{name}.context"),
                        &format!("{name}.bias"),
                    ),
                    hidden: dense(&format!("{name}.hidden")),
                    output: weights.get(&format!("{name}.output.weight")).to_vec(),
                    skip: weights.get(&format!("{name}.skip.weight")).to_vec(),
                }
            }),
        }
    }
}

/// Mean and inverse of the standard deviation of features.
#[derive(Debug)]
struct Standardize {
    mean: Vec<f32>,
    inverse_std: Vec<f32>,
}

impl Standardize {
    fn apply(&self, features: &[f32], out: &mut Vec<f32>) {
        let scales = self.mean.iter().zip(&self.inverse_std);
        out.clear();
        out.extend(features.iter().zip(scales).map(|(x, (mean, inverse))| {
            ((x - mean) * inverse).clamp(-STANDARD_LIMIT, STANDARD_LIMIT)
        }));
    }
}

/// A layer: `output = input · weight + bias`.
#[derive(Debug)]
struct Dense {
    rows: usize,
    columns: usize,
    /// Blocks of columns × rows × [`LANES`]; columns beyond the layer's are zero.
    weight: Array3<f32>,
    bias: Vec<f32>,
}

impl Dense {
    /// The layer `name` with the bias `bias`, which is zero if there is none of that name.
    fn new(weights: &Weights, name: &str, bias: &str) -> Self {
        let values = weights.get(&format!("{name}.weight"));
        let layout = weights.widths().layout();
        let wanted = format!("{name}.weight");
        let shape = layout
            .iter()
            .find(|(n, _)| *n == wanted)
            .map(|(_, shape)| shape);
        let (rows, columns) = shape.map_or((0, 0), |shape| (shape[0], shape[1]));
        let blocks = columns.div_ceil(LANES);
        let weight = Array3::from_shape_fn((blocks, rows, LANES), |(block, row, lane)| {
            let column = block * LANES + lane;
            if column < columns {
                values[row * columns + column]
            } else {
                0.0
            }
        });
        let mut padded = weights.get(bias).to_vec();
        padded.resize(blocks * LANES, 0.0);
        Self {
            rows,
            columns,
            weight,
            bias: padded,
        }
    }

    /// Length of an output: the columns, rounded up to whole blocks.
    fn padded(&self) -> usize {
        self.bias.len()
    }

    /// Writes the output for `input`, of which what lies beyond the layer's rows is ignored.
    fn apply(&self, input: &[f32], out: &mut [f32]) {
        out.copy_from_slice(&self.bias);
        self.add(input, out);
    }

    /// Adds the product of `input` with the weights.
    fn add(&self, input: &[f32], out: &mut [f32]) {
        let weight = self.weight.as_slice().unwrap_or_default();
        let (out, _) = out.as_chunks_mut::<LANES>();
        for (block, out) in weight.chunks_exact(self.rows * LANES).zip(out) {
            let mut sums = *out;
            let (rows, _) = block.as_chunks::<LANES>();
            for (&x, row) in input.iter().zip(rows) {
                for (sum, w) in sums.iter_mut().zip(row) {
                    *sum += x * w;
                }
            }
            *out = sums;
        }
    }
}

fn relu(values: &mut [f32]) {
    values.iter_mut().for_each(|value| *value = value.max(0.0));
}

/// Sum of products, in eight sums side by side.
fn dot(a: &[f32], b: &[f32]) -> f32 {
    let length = a.len().min(b.len());
    let (a, more_a) = a[..length].as_chunks::<8>();
    let (b, more_b) = b[..length].as_chunks::<8>();
    let mut sums = [0.0; 8];
    for (x, y) in a.iter().zip(b) {
        for (sum, (x, y)) in sums.iter_mut().zip(x.iter().zip(y)) {
            *sum += x * y;
        }
    }
    let rest: f32 = more_a.iter().zip(more_b).map(|(x, y)| x * y).sum();
    sums.iter().sum::<f32>() + rest
}

/// Whether all bits are the same; without a branch for each number.
fn same(a: &[f32], b: &[f32]) -> bool {
    a.iter()
        .zip(b)
        .fold(0, |bits, (x, y)| bits | (x.to_bits() ^ y.to_bits()))
        == 0
}

#[cfg(test)]
impl Forward {
    /// Allocated sizes of all buffers.
    pub(crate) fn capacities(&self) -> Vec<usize> {
        let hosts = &self.hosts;
        let mut all = vec![
            hosts.features.capacity(),
            hosts.encoded.capacity(),
            hosts.pooled.capacity(),
            self.context.capacity(),
            self.scores.capacity(),
            self.input.capacity(),
            self.first.capacity(),
            self.second.capacity(),
            self.base.capacity(),
        ];
        all.extend(hosts.products.iter().map(Vec::capacity));
        all.extend(hosts.stale.iter().map(Vec::capacity));
        all
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::weights::Widths;

    /// A question of `hosts` hosts, each of which is a candidate.
    fn question(kind: Kind, hosts: usize, value: f32) -> Encoded {
        let width = kind.features().len();
        Encoded {
            kind,
            global: vec![value; crate::encoding::GLOBAL_FEATURES.len()],
            hosts: vec![value; hosts * HOST_FEATURES.len()],
            host_count: hosts,
            candidates: vec![value; hosts * width],
            candidate_hosts: (0..).take(hosts).collect(),
            answers: (0..).take(hosts).collect(),
            candidate_count: hosts,
        }
    }

    #[test]
    fn nothing_is_allocated_once_the_buffers_have_grown() {
        let widths = Widths::default();
        let tensors = widths
            .layout()
            .into_iter()
            .map(|(name, shape)| (name, vec![0.5; shape.iter().product()]))
            .collect();
        let weights = Weights::new(widths, tensors).expect("the layout is complete");
        let mut forward = Forward::new(&weights);
        for kind in Kind::ALL {
            forward.scores(&question(kind, 100, 0.0));
        }
        let before = forward.capacities();
        for step in 1_u8..20 {
            for kind in Kind::ALL {
                let hosts = 100 - 3 * usize::from(step);
                forward.scores(&question(kind, hosts, f32::from(step)));
                forward.scores(&question(kind, 100, f32::from(step)));
            }
        }
        assert_eq!(forward.capacities(), before);
    }

    #[test]
    fn a_layer_is_a_product_and_a_bias() {
        let widths = Widths {
            host: 3,
            context: 2,
            head: 2,
        };
        let mut tensors: std::collections::BTreeMap<String, Vec<f32>> = widths
            .layout()
            .into_iter()
            .map(|(name, shape)| (name, vec![1.0; shape.iter().product()]))
            .collect();
        tensors.insert("power.hidden.weight".into(), vec![1.0, 2.0, 3.0, 4.0]);
        tensors.insert("power.hidden.bias".into(), vec![0.5, -0.5]);
        let weights = Weights::new(widths, tensors).expect("the layout is complete");
        let dense = Dense::new(&weights, "power.hidden", "power.hidden.bias");
        let mut out = vec![0.0; dense.padded()];
        dense.apply(&[10.0, 1.0], &mut out);
        // 10 · 1 + 1 · 3 + 0.5 and 10 · 2 + 1 · 4 − 0.5.
        assert_eq!(out[..3], [13.5, 23.5, 0.0]);
    }
}
