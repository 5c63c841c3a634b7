//! The network in burn, for training.
//!
//! Hosts are a set: one encoder for each, pooled to their mean and their greatest value. The pooled
//! hosts and the global features make the *context*. Each kind of question has a head that scores a
//! candidate from its host, its own features and the context:
//!
//! ```text
//! e_h   = relu(W₂ relu(W₁ x_h))                              for each host
//! c     = relu(V₂ relu(V₁ [mean e, max e, global]))
//! s_i   = w · relu(H relu(A e_host(i) + B y_i + C c + b)) + k · y_i
//! f     = F c                                                the forecast
//! ```
//!
//! (permutation-equivariant layers: Zaheer et al., Deep Sets, NeurIPS 2017). The cost is linear in
//! hosts and candidates, and no parameter depends on their number. Features `x`, `y` are
//! standardized first. A fresh network answers as the greedy policy: `w` is zero, and `k` is one
//! for the feature that tells the greedy answer and zero for the others.

use std::collections::BTreeMap;

use burn::config::Config;
use burn::module::{Initializer, Module, Param};
use burn::nn::{Linear, LinearConfig};
use burn::tensor::activation::relu;
use burn::tensor::{Device, Int, Tensor, TensorData};

use crate::encoding::{Encoded, GLOBAL_FEATURES, HOST_FEATURES, Kind, NO_HOST};
use crate::weights::{
    FORECASTS, STANDARD_LIMIT, Standardization, Standardizations, Weights, WeightsError, Widths,
};

/// The score of candidates that only fill up a batch.
pub const PADDED_SCORE: f32 = -1e9;

/// How wide the network is.
#[derive(Config, Debug)]
pub struct PolicyConfig {
    /// Width of both layers of the host encoder.
    #[config(default = 32)]
    pub host: usize,
    /// Width of both layers of the context.
    #[config(default = 48)]
    pub context: usize,
    /// Width of both layers of the heads.
    #[config(default = 32)]
    pub head: usize,
}

impl PolicyConfig {
    /// The same as plain widths.
    #[must_use]
    pub fn widths(&self) -> Widths {
        Widths {
            host: self.host,
            context: self.context,
            head: self.head,
        }
    }

    /// A fresh network, which answers as the greedy policy.
    #[must_use]
    pub fn init(&self, standardizations: &Standardizations, device: &Device) -> PolicyNetwork {
        let dense = |rows, columns| LinearConfig::new(rows, columns).init(device);
        let pooled = 2 * self.host + GLOBAL_FEATURES.len();
        PolicyNetwork {
            input_host: Standardize::new(&standardizations.host, device),
            input_global: Standardize::new(&standardizations.global, device),
            host_1: dense(HOST_FEATURES.len(), self.host),
            host_2: dense(self.host, self.host),
            context_1: dense(pooled, self.context),
            context_2: dense(self.context, self.context),
            heads: Kind::ALL
                .map(|kind| self.head(kind, &standardizations.candidates[kind.index()], device))
                .into(),
            forecast: dense(self.context, FORECASTS),
        }
    }

    fn head(&self, kind: Kind, input: &Standardization, device: &Device) -> Head {
        let part = |rows| {
            LinearConfig::new(rows, self.head)
                .with_bias(false)
                .init(device)
        };
        let features = kind.features();
        // In standardized features the greedy answer stands out by the inverse of the deviation.
        let skip: Vec<f32> = features
            .iter()
            .map(|name| if *name == "greedy" { 1.0 } else { 0.0 })
            .collect();
        Head {
            input: Standardize::new(input, device),
            none: Initializer::Normal {
                mean: 0.0,
                std: 0.1,
            }
            .init([self.host], device),
            host: part(self.host),
            candidate: part(features.len()),
            context: part(self.context),
            bias: Initializer::Zeros.init([self.head], device),
            hidden: LinearConfig::new(self.head, self.head).init(device),
            output: Initializer::Zeros.init([self.head], device),
            skip: Param::from_tensor(Tensor::from_data(TensorData::from(&skip[..]), device)),
        }
    }
}

impl From<Widths> for PolicyConfig {
    fn from(widths: Widths) -> Self {
        Self {
            host: widths.host,
            context: widths.context,
            head: widths.head,
        }
    }
}

/// Questions of one kind, padded to the same numbers of hosts and candidates.
///
/// `B` questions, `H` hosts, `N` candidates.
#[derive(Clone, Debug)]
pub struct Batch {
    /// What is asked in all of them.
    pub kind: Kind,
    /// Features of the hosts, `[B, H, features]`.
    pub hosts: Tensor<3>,
    /// One for hosts, zero for padding, `[B, H]`.
    pub host_mask: Tensor<2>,
    /// Global features, `[B, features]`.
    pub global: Tensor<2>,
    /// Features of the candidates, `[B, N, features]`.
    pub candidates: Tensor<3>,
    /// Positions of the candidates' hosts, `H` where there is none, `[B, N]`.
    pub candidate_hosts: Tensor<2, Int>,
    /// One for candidates, zero for padding, `[B, N]`.
    pub candidate_mask: Tensor<2>,
}

/// One encoded question, borrowed from wherever it is kept.
#[derive(Clone, Copy, Debug)]
pub struct Example<'a> {
    /// What is asked.
    pub kind: Kind,
    /// As [`Encoded::global`].
    pub global: &'a [f32],
    /// As [`Encoded::hosts`].
    pub hosts: &'a [f32],
    /// As [`Encoded::candidates`].
    pub candidates: &'a [f32],
    /// As [`Encoded::candidate_hosts`].
    pub candidate_hosts: &'a [u32],
}

impl<'a> From<&'a Encoded> for Example<'a> {
    fn from(encoded: &'a Encoded) -> Self {
        Self {
            kind: encoded.kind,
            global: &encoded.global,
            hosts: &encoded.hosts,
            candidates: &encoded.candidates,
            candidate_hosts: &encoded.candidate_hosts,
        }
    }
}

impl Batch {
    /// Puts `examples` of the kind `kind` together; shorter ones are padded.
    ///
    /// # Panics
    ///
    /// If an example's features do not have the widths of the encoding, or it is of another kind.
    #[must_use]
    pub fn of(kind: Kind, examples: &[Example<'_>], device: &Device) -> Self {
        let (host_width, width) = (HOST_FEATURES.len(), kind.features().len());
        let batch = examples.len();
        let most = |count: fn(&Example<'_>) -> usize| examples.iter().map(count).max();
        let hosts = most(|e| e.hosts.len())
            .unwrap_or(0)
            .div_ceil(host_width)
            .max(1);
        let candidates = most(|e| e.candidate_hosts.len()).unwrap_or(0).max(1);
        let mut host_rows = vec![0.0; batch * hosts * host_width];
        let mut host_mask = vec![0.0; batch * hosts];
        let mut global = Vec::with_capacity(batch * GLOBAL_FEATURES.len());
        let mut candidate_rows = vec![0.0; batch * candidates * width];
        let mut candidate_mask = vec![0.0; batch * candidates];
        let none = i64::try_from(hosts).expect("hosts are bounded by the world's limits");
        let mut candidate_hosts = vec![none; batch * candidates];
        for (b, example) in examples.iter().enumerate() {
            assert_eq!(example.kind, kind, "a batch is of one kind");
            let at = b * hosts * host_width;
            host_rows[at..at + example.hosts.len()].copy_from_slice(example.hosts);
            let count = example.hosts.len() / host_width;
            host_mask[b * hosts..b * hosts + count].fill(1.0);
            global.extend_from_slice(example.global);
            let at = b * candidates * width;
            candidate_rows[at..at + example.candidates.len()].copy_from_slice(example.candidates);
            let count = example.candidate_hosts.len();
            candidate_mask[b * candidates..b * candidates + count].fill(1.0);
            for (i, &host) in example.candidate_hosts.iter().enumerate() {
                if host != NO_HOST {
                    candidate_hosts[b * candidates + i] = i64::from(host);
                }
            }
        }
        let width_of_global = GLOBAL_FEATURES.len();
        Self {
            kind,
            hosts: tensor(host_rows, [batch, hosts, host_width], device),
            host_mask: tensor(host_mask, [batch, hosts], device),
            global: tensor(global, [batch, width_of_global], device),
            candidates: tensor(candidate_rows, [batch, candidates, width], device),
            candidate_hosts: Tensor::from_data(
                TensorData::new(candidate_hosts, [batch, candidates]),
                device,
            ),
            candidate_mask: tensor(candidate_mask, [batch, candidates], device),
        }
    }
}

fn tensor<const D: usize>(values: Vec<f32>, shape: [usize; D], device: &Device) -> Tensor<D> {
    Tensor::from_data(TensorData::new(values, shape), device)
}

/// What the network says of a batch.
#[derive(Clone, Debug)]
pub struct Output {
    /// Score of each candidate, higher is better, [`PADDED_SCORE`] for padding, `[B, N]`.
    pub scores: Tensor<2>,
    /// The forecast of the load (see [`FORECASTS`]), `[B, 2]`.
    pub forecast: Tensor<2>,
}

/// Standardizes features; not fitted.
#[derive(Module, Debug)]
struct Standardize {
    mean: Tensor<1>,
    std: Tensor<1>,
}

impl Standardize {
    fn new(values: &Standardization, device: &Device) -> Self {
        Self {
            mean: Tensor::from_data(TensorData::from(&values.mean[..]), device),
            std: Tensor::from_data(TensorData::from(&values.std[..]), device),
        }
    }

    fn forward<const D: usize>(&self, features: Tensor<D>) -> Tensor<D> {
        ((features - self.mean.clone().unsqueeze()) / self.std.clone().unsqueeze())
            .clamp(-STANDARD_LIMIT, STANDARD_LIMIT)
    }
}

#[derive(Module, Debug)]
struct Head {
    input: Standardize,
    none: Param<Tensor<1>>,
    host: Linear,
    candidate: Linear,
    context: Linear,
    bias: Param<Tensor<1>>,
    hidden: Linear,
    output: Param<Tensor<1>>,
    skip: Param<Tensor<1>>,
}

/// The network.
#[derive(Module, Debug)]
pub struct PolicyNetwork {
    input_host: Standardize,
    input_global: Standardize,
    host_1: Linear,
    host_2: Linear,
    context_1: Linear,
    context_2: Linear,
    heads: Vec<Head>,
    forecast: Linear,
}

impl PolicyNetwork {
    /// Scores the candidates of a batch and forecasts the load.
    #[must_use]
    pub fn forward(&self, batch: Batch) -> Output {
        let hosts = self.input_host.forward(batch.hosts);
        let hosts = relu(self.host_2.forward(relu(self.host_1.forward(hosts))));
        // Encoded hosts are not negative, so padding of zero changes neither sum nor maximum.
        let hosts = hosts * batch.host_mask.clone().unsqueeze_dim::<3>(2);
        let count = batch.host_mask.sum_dim(1).clamp_min(1.0);
        let mean = hosts.clone().sum_dim(1).squeeze_dim::<2>(1) / count;
        let most = hosts.clone().max_dim(1).squeeze_dim::<2>(1);
        let global = self.input_global.forward(batch.global);
        let context = Tensor::cat(vec![mean, most, global], 1);
        let context = relu(
            self.context_2
                .forward(relu(self.context_1.forward(context))),
        );
        let scores = self.heads[batch.kind.index()].forward(
            &hosts,
            &context,
            batch.candidates,
            batch.candidate_hosts,
        );
        let mask = batch.candidate_mask;
        let scores = scores * mask.clone() + (mask - 1.0) * (-PADDED_SCORE);
        Output {
            scores,
            forecast: self.forecast.forward(context),
        }
    }
}

impl Head {
    /// Scores `[B, N]` from hosts `[B, H, E]`, context `[B, C]` and candidates `[B, N, F]`.
    fn forward(
        &self,
        hosts: &Tensor<3>,
        context: &Tensor<2>,
        candidates: Tensor<3>,
        candidate_hosts: Tensor<2, Int>,
    ) -> Tensor<2> {
        let [batch, _, width] = hosts.dims();
        let none = self
            .none
            .val()
            .reshape([1, 1, width])
            .expand([batch, 1, width]);
        let hosts = self.host.forward(Tensor::cat(vec![hosts.clone(), none], 1));
        let [_, _, head] = hosts.dims();
        let [batch, count] = candidate_hosts.dims();
        let index = candidate_hosts
            .unsqueeze_dim::<3>(2)
            .expand([batch, count, head]);
        let hosts = hosts.gather(1, index);
        let candidates = self.input.forward(candidates);
        let context = self.context.forward(context.clone()).unsqueeze_dim::<3>(1);
        let first = hosts
            + self.candidate.forward(candidates.clone())
            + context
            + self.bias.val().unsqueeze();
        let second = relu(self.hidden.forward(relu(first)));
        let score = (second * self.output.val().unsqueeze()).sum_dim(2)
            + (candidates * self.skip.val().unsqueeze()).sum_dim(2);
        score.squeeze_dim::<2>(2)
    }
}

// Weights by name.

impl PolicyNetwork {
    /// The network with these weights.
    #[must_use]
    pub fn from_weights(weights: &Weights, device: &Device) -> Self {
        let config = PolicyConfig::from(weights.widths());
        let mut network = config.init(&Standardizations::default(), device);
        let shapes: BTreeMap<String, Vec<usize>> = weights.widths().layout().into_iter().collect();
        network.visit_named(&mut |name, slot| {
            let data = TensorData::new(weights.get(name).to_vec(), shapes[name].clone());
            match slot {
                Slot::Constant(tensor) => *tensor = Tensor::from_data(data, device),
                Slot::Vector(param) => *param = Param::from_data(data, device),
                Slot::Matrix(param) => *param = Param::from_data(data, device),
            }
        });
        network
    }

    /// The weights by name.
    ///
    /// # Errors
    ///
    /// If training made one of them NaN or infinite.
    pub fn to_weights(&self) -> Result<Weights, WeightsError> {
        let mut tensors = BTreeMap::new();
        let mut network = self.clone();
        let mut widths = Widths::default();
        network.visit_named(&mut |name, slot| {
            let data = match slot {
                Slot::Constant(tensor) => tensor.to_data(),
                Slot::Vector(param) => param.val().to_data(),
                Slot::Matrix(param) => param.val().to_data(),
            };
            match name {
                "host.2.bias" => widths.host = data.num_elements(),
                "context.2.bias" => widths.context = data.num_elements(),
                "power.bias" => widths.head = data.num_elements(),
                _ => {}
            }
            tensors.insert(name.to_owned(), data.iter::<f32>().collect());
        });
        Weights::new(widths, tensors)
    }

    /// Calls `each` with the name and the place of every tensor of the layout.
    fn visit_named(&mut self, each: &mut dyn FnMut(&str, Slot<'_>)) {
        self.input_host.visit_named("host", each);
        self.input_global.visit_named("global", each);
        visit_linear("host.1", &mut self.host_1, each);
        visit_linear("host.2", &mut self.host_2, each);
        visit_linear("context.1", &mut self.context_1, each);
        visit_linear("context.2", &mut self.context_2, each);
        visit_linear("forecast", &mut self.forecast, each);
        for (kind, head) in Kind::ALL.into_iter().zip(&mut self.heads) {
            let name = kind.name();
            head.input.visit_named(name, each);
            each(&format!("{name}.none"), Slot::Vector(&mut head.none));
            visit_linear(&format!("{name}.host"), &mut head.host, each);
            visit_linear(&format!("{name}.candidate"), &mut head.candidate, each);
            visit_linear(&format!("{name}.context"), &mut head.context, each);
            each(&format!("{name}.bias"), Slot::Vector(&mut head.bias));
            visit_linear(&format!("{name}.hidden"), &mut head.hidden, each);
            each(
                &format!("{name}.output.weight"),
                Slot::Vector(&mut head.output),
            );
            each(&format!("{name}.skip.weight"), Slot::Vector(&mut head.skip));
        }
    }
}

/// Where a named tensor is kept.
enum Slot<'a> {
    Constant(&'a mut Tensor<1>),
    Vector(&'a mut Param<Tensor<1>>),
    Matrix(&'a mut Param<Tensor<2>>),
}

impl Standardize {
    fn visit_named(&mut self, name: &str, each: &mut dyn FnMut(&str, Slot<'_>)) {
        each(
            &format!("input.{name}.mean"),
            Slot::Constant(&mut self.mean),
        );
        each(&format!("input.{name}.std"), Slot::Constant(&mut self.std));
    }
}

fn visit_linear(name: &str, linear: &mut Linear, each: &mut dyn FnMut(&str, Slot<'_>)) {
    each(&format!("{name}.weight"), Slot::Matrix(&mut linear.weight));
    if let Some(bias) = &mut linear.bias {
        each(&format!("{name}.bias"), Slot::Vector(bias));
    }
}
