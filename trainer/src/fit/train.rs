//! One epoch after the other: batches, gradients, steps of the optimizer.
//!
//! Each batch has rows of every kind in their share of the whole, so that each step knows of each
//! kind, however rare. A batch is cut into *chunks* of rows of one kind. The gradients of chunks are computed side by
//! side, each by a copy of the network on one thread, and summed in the order of the chunks: the
//! same seed and data give the same weights on any number of threads. Batches of an epoch follow
//! from the seed and the epoch's number, so that a fit that resumes meets the same ones.

use anyhow::{Context, Result};
use burn::grad_clipping::GradientClippingConfig;
use burn::module::{Module, ModuleMapper, Param, ParamId};
use burn::optim::{AdamWConfig, GradientsAccumulator, GradientsParams, ModuleOptimizer};
use burn::tensor::{Bytes, Device, Tensor};
use models::encoding::Kind;
use models::network::{Batch, Example, PolicyNetwork};
use models::weights::Weights;
use rand::seq::SliceRandom;
use rayon::prelude::*;
use twin::stream;

use super::data::Rows;
use super::loss::{Loss, Scales, Targets, soft_target_weight};
use super::measure::{Answer, Answers, KindMeasure};
use crate::progress::Progress;

/// The most rows of a chunk: enough to hide the overhead of a call, few enough for the cache.
const CHUNK_ROWS: usize = 64;
/// Share of the fit in which the learning rate rises.
const WARMUP: f64 = 0.03;
/// The learning rate at the end, as a share of its peak.
const LAST_RATE: f64 = 0.02;
/// Norm to which the gradient of each tensor is clipped.
const CLIP_NORM: f32 = 1.0;
const WEIGHT_DECAY: f32 = 0.01;
const EPSILON: f32 = 1e-8;

/// What does not change during a fit.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Plan<'a> {
    pub(crate) rows: &'a Rows,
    /// Rows to train on, all of which matter.
    pub(crate) training: &'a [usize],
    pub(crate) scales: &'a Scales,
    pub(crate) epochs: u32,
    pub(crate) batch_rows: usize,
    /// The peak of the learning rate.
    pub(crate) learning_rate: f64,
    pub(crate) seed: u64,
}

/// What was measured while an epoch went on, before each step.
#[derive(Clone, Debug)]
pub(crate) struct Trained {
    pub(crate) loss: Loss,
    pub(crate) total_loss: f64,
    pub(crate) kinds: [KindMeasure; 3],
    pub(crate) regret: f64,
    /// At the end of the epoch.
    pub(crate) learning_rate: f64,
}

/// The network with its optimizer.
pub(crate) struct Learner {
    network: PolicyNetwork,
    optimizer: ModuleOptimizer,
    device: Device,
}

struct ChunkResult {
    gradients: GradientsParams,
    loss: Loss,
    answers: Vec<Answer>,
}

impl Learner {
    /// Starts from `weights`, and from the optimizer's state if there is one.
    pub(crate) fn new(weights: &Weights, optimizer: Option<Vec<u8>>) -> Result<Self> {
        let device = Device::flex().autodiff();
        let network = PolicyNetwork::from_weights(weights, &device).map(&mut Number(0));
        let fresh = AdamWConfig::new()
            .with_epsilon(EPSILON)
            .with_weight_decay(WEIGHT_DECAY)
            .with_grad_clipping(Some(GradientClippingConfig::Norm(CLIP_NORM)))
            .init();
        let optimizer = match optimizer {
            None => fresh,
            Some(bytes) => fresh
                .from_bytes(Bytes::from_bytes_vec(bytes))
                .context("the checkpoint's optimizer state is malformed; start without --resume")?,
        };
        Ok(Self {
            network,
            optimizer,
            device,
        })
    }

    /// The weights.
    pub(crate) fn weights(&self) -> Result<Weights> {
        self.network
            .to_weights()
            .context("the fit diverged; start again with a lower --learning-rate")
    }

    /// The optimizer's state.
    pub(crate) fn optimizer_state(&self) -> Result<Vec<u8>> {
        let bytes = self.optimizer.into_bytes();
        Ok(bytes
            .context("the optimizer's state cannot be written")?
            .to_vec())
    }

    /// Trains for the epoch `epoch`, from 1.
    pub(crate) fn epoch(&mut self, plan: &Plan<'_>, epoch: u32, progress: &Progress) -> Trained {
        let batches = batches(plan, epoch);
        let steps = batches.len() as f64;
        let (mut loss, mut answers) = (Loss::default(), Answers::default());
        let (mut total_loss, mut learning_rate) = (0.0, 0.0);
        for (step, batch) in batches.iter().enumerate() {
            let done =
                (f64::from(epoch - 1) + (step as f64 + 1.0) / steps) / f64::from(plan.epochs);
            let soft_target_weight = soft_target_weight(done);
            learning_rate = plan.learning_rate * rate(done);
            let rows: usize = batch.iter().map(Vec::len).sum();
            let results = self.gradients(plan, batch, rows, soft_target_weight);
            let mut accumulator = GradientsAccumulator::new();
            for result in results {
                accumulator.accumulate(&self.network, result.gradients);
                total_loss += result.loss.total(soft_target_weight) * rows as f64;
                loss.add(&result.loss.per(1.0 / rows as f64));
                for answer in &result.answers {
                    answers.add(answer, plan.scales);
                }
            }
            let network = self.network.clone();
            self.network = self
                .optimizer
                .step(learning_rate, network, accumulator.grads());
            progress.add(rows as u64);
        }
        let rows = plan.training.len() as f64;
        let (kinds, regret) = answers.means(plan.scales);
        Trained {
            loss: loss.per(rows),
            total_loss: total_loss / rows,
            kinds,
            regret,
            learning_rate,
        }
    }

    /// Gradients of the chunks of one batch of `rows` rows, in their order.
    fn gradients(
        &self,
        plan: &Plan<'_>,
        batch: &[Vec<usize>],
        rows: usize,
        soft_target_weight: f64,
    ) -> Vec<ChunkResult> {
        let copies: Vec<(PolicyNetwork, &Vec<usize>)> = batch
            .iter()
            .map(|chunk| (self.network.clone(), chunk))
            .collect();
        copies
            .into_par_iter()
            .map(|(network, chunk)| {
                // Copies share no node of the graph, so that threads do not wait for each other.
                let network = network.fork(&self.device);
                chunk_gradients(plan, &network, chunk, rows, soft_target_weight)
            })
            .collect()
    }
}

fn chunk_gradients(
    plan: &Plan<'_>,
    network: &PolicyNetwork,
    chunk: &[usize],
    rows: usize,
    soft_target_weight: f64,
) -> ChunkResult {
    let device = Device::flex().autodiff();
    let kind = plan.rows.kind(chunk[0]);
    let examples: Vec<Example<'_>> = chunk.iter().map(|&row| plan.rows.example(row)).collect();
    let output = network.forward(Batch::of(kind, &examples, &device));
    let [_, width] = output.scores.dims();
    let scores: Vec<f32> = output.scores.to_data().iter().collect();
    let answers = chunk
        .iter()
        .zip(scores.chunks_exact(width))
        .map(|(&row, scores)| Answer::of(plan.rows, row, scores))
        .collect();
    let scale = &plan.scales[kind.index()];
    let targets = Targets::of(plan.rows, chunk, scale, width, &device);
    let loss = targets.loss(output, rows as f64);
    let gradients = loss.total(soft_target_weight).backward();
    ChunkResult {
        gradients: GradientsParams::from_grads(gradients, network),
        loss: loss.values(),
        answers,
    }
}

/// Numbers parameters in their order, so that the optimizer's state finds them when a fit resumes.
struct Number(u64);

impl ModuleMapper for Number {
    fn map_float<const D: usize>(&mut self, param: Param<Tensor<D>>) -> Param<Tensor<D>> {
        let (_, tensor, mapper) = param.consume();
        self.0 += 1;
        Param::from_mapped_value(ParamId::from(self.0), tensor, mapper)
    }
}

/// The learning rate after `done` (0 to 1) of the fit, as a share of its peak: a linear rise, then
/// half a cosine (Loshchilov and Hutter, SGDR, ICLR 2017).
fn rate(done: f64) -> f64 {
    if done < WARMUP {
        return done / WARMUP;
    }
    let fallen = (done - WARMUP) / (1.0 - WARMUP);
    LAST_RATE + (1.0 - LAST_RATE) * 0.5 * (1.0 + (std::f64::consts::PI * fallen).cos())
}

/// The rows of an epoch, shuffled: batches of chunks of one kind.
fn batches(plan: &Plan<'_>, epoch: u32) -> Vec<Vec<Vec<usize>>> {
    let mut stream = stream::named(plan.seed, &format!("batches of epoch {epoch}"));
    let count = plan.training.len().div_ceil(plan.batch_rows);
    let mut batches = vec![Vec::new(); count];
    for kind in Kind::ALL {
        let of_kind = |row: &usize| plan.rows.kind(*row) == kind;
        let mut rows: Vec<usize> = plan.training.iter().copied().filter(of_kind).collect();
        rows.shuffle(&mut stream);
        for (b, batch) in batches.iter_mut().enumerate() {
            let part = &rows[b * rows.len() / count..(b + 1) * rows.len() / count];
            batch.extend(part.chunks(CHUNK_ROWS).map(<[usize]>::to_vec));
        }
    }
    // Where rows are few, the parts of all kinds may be empty.
    batches.retain(|batch: &Vec<Vec<usize>>| !batch.is_empty());
    batches
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_learning_rate_rises_then_falls() {
        for (done, expected) in [(0.0, 0.0), (WARMUP / 2.0, 0.5), (WARMUP, 1.0), (1.0, 0.02)] {
            assert!((rate(done) - expected).abs() < 1e-9, "{done}");
        }
        // Halfway down the cosine: the mean of 1 and 0.02.
        assert!((rate(WARMUP + (1.0 - WARMUP) / 2.0) - 0.51).abs() < 1e-9);
    }
}
