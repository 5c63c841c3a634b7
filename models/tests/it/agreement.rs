//! The plain forward pass and the network in burn are the same function.

use burn::tensor::Device;
use models::encoding::{Encoded, Kind, NO_HOST};
use models::forward::Forward;
use models::network::{Batch, Example, PADDED_SCORE, PolicyConfig, PolicyNetwork};
use models::weights::{FORECASTS, Standardization, Standardizations, Widths};

use crate::common::{close, questions, random_weights, worlds};

/// Scores and forecasts of `encoded` by burn, in one padded batch.
fn in_burn(network: &PolicyNetwork, encoded: &[&Encoded]) -> Vec<(Vec<f32>, Vec<f32>)> {
    let device = Device::flex();
    let examples: Vec<Example<'_>> = encoded.iter().map(|e| Example::from(*e)).collect();
    let output = network.forward(Batch::of(encoded[0].kind, &examples, &device));
    let [_, width] = output.scores.dims();
    let scores: Vec<f32> = output.scores.into_data().iter().collect();
    let forecast: Vec<f32> = output.forecast.into_data().iter().collect();
    encoded
        .iter()
        .enumerate()
        .map(|(b, e)| {
            let row = &scores[b * width..(b + 1) * width];
            assert!(row[e.candidate_count..].iter().all(|s| *s <= PADDED_SCORE));
            let forecast = &forecast[b * FORECASTS..(b + 1) * FORECASTS];
            (row[..e.candidate_count].to_vec(), forecast.to_vec())
        })
        .collect()
}

#[test]
fn the_forward_pass_agrees_with_burn() {
    // Both worlds together, so that batches pad hosts and candidates.
    let all: Vec<Encoded> = worlds().iter().flat_map(|w| questions(w, 25)).collect();
    for widths in [
        Widths::default(),
        Widths {
            host: 20,
            context: 33,
            head: 7,
        },
    ] {
        let weights = random_weights(widths, 11);
        let network = PolicyNetwork::from_weights(&weights, &Device::flex());
        let mut forward = Forward::new(&weights);
        for kind in Kind::ALL {
            let some: Vec<&Encoded> = all.iter().filter(|e| e.kind == kind).collect();
            assert!(some.len() > 5, "{kind:?}: {} questions", some.len());
            for (encoded, (expected, forecast)) in some.iter().zip(in_burn(&network, &some)) {
                let scores = forward.scores(encoded);
                assert_eq!(scores.len(), expected.len());
                for (a, b) in scores.iter().zip(&expected) {
                    assert!(close(*a, *b), "{kind:?}: {a}, by burn {b}");
                }
                for (a, b) in forward.forecast().iter().zip(&forecast) {
                    assert!(close(*a, *b), "forecast {a}, by burn {b}");
                }
            }
        }
    }
}

#[test]
fn weights_survive_the_network() {
    let weights = random_weights(
        Widths {
            host: 20,
            context: 33,
            head: 7,
        },
        5,
    );
    let network = PolicyNetwork::from_weights(&weights, &Device::flex());
    assert!(network.to_weights().expect("all weights are finite") == weights);
}

#[test]
fn a_fresh_network_answers_as_greedy() {
    let standardizations = Standardizations {
        host: Standardization::of(std::iter::empty(), models::encoding::HOST_FEATURES.len()),
        ..Standardizations::default()
    };
    let network = PolicyConfig::new().init(&standardizations, &Device::flex());
    let mut forward = Forward::new(&network.to_weights().expect("all weights are finite"));
    for encoded in worlds().iter().flat_map(|w| questions(w, 10)) {
        let names = encoded.kind.features();
        let greedy = names
            .iter()
            .position(|n| *n == "greedy")
            .expect("each kind has it");
        let best = models::policy::argmax(forward.scores(&encoded));
        assert!(encoded.candidate(best)[greedy] > 0.5);
    }
}

#[test]
fn gradients_reach_every_weight() {
    use burn::module::{Module, ModuleVisitor, Param};
    use burn::tensor::{Gradients, Tensor};

    struct Check<'a>(&'a Gradients, usize);
    impl ModuleVisitor for Check<'_> {
        fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
            assert!(
                param.val().grad(self.0).is_some(),
                "{:?} has no gradient",
                param.shape()
            );
            self.1 += 1;
        }
    }
    let device = Device::flex().autodiff();
    let network = PolicyNetwork::from_weights(&random_weights(Widths::default(), 2), &device);
    let [world, _] = worlds();
    let all = questions(&world, 10);
    let mut loss: Option<Tensor<1>> = None;
    for kind in Kind::ALL {
        let examples: Vec<Example<'_>> = all
            .iter()
            .filter(|e| e.kind == kind)
            .map(Example::from)
            .collect();
        let output = network.forward(Batch::of(kind, &examples, &device));
        let mean = output.scores.clamp_min(-100.0).mean() + output.forecast.mean();
        loss = Some(loss.map_or(mean.clone(), |sum| sum + mean));
    }
    let gradients = loss.expect("there are kinds").backward();
    let mut check = Check(&gradients, 0);
    network.visit(&mut check);
    let constants = 10;
    assert_eq!(check.1 + constants, Widths::default().layout().len());
}

#[test]
fn the_order_of_hosts_and_candidates_does_not_matter() {
    let weights = random_weights(Widths::default(), 7);
    for encoded in worlds().iter().flat_map(|w| questions(w, 10)) {
        let expected = Forward::new(&weights).scores(&encoded).to_vec();
        let (hosts, count) = (encoded.host_count, encoded.candidate_count);
        let moved = reversed(&encoded);
        let scores = Forward::new(&weights).scores(&moved).to_vec();
        for (i, score) in scores.iter().enumerate() {
            let other = expected[count - 1 - i];
            assert!(
                close(*score, other),
                "{score} and {other} with {hosts} hosts"
            );
        }
    }
}

/// The same question with hosts and candidates in reverse.
fn reversed(encoded: &Encoded) -> Encoded {
    let last = u32::try_from(encoded.host_count - 1).expect("fleets are small");
    let back = |count: usize| (0..count).rev();
    Encoded {
        hosts: back(encoded.host_count)
            .flat_map(|h| encoded.host(h).to_vec())
            .collect(),
        candidates: back(encoded.candidate_count)
            .flat_map(|i| encoded.candidate(i).to_vec())
            .collect(),
        candidate_hosts: encoded
            .candidate_hosts
            .iter()
            .rev()
            .map(|&host| if host == NO_HOST { host } else { last - host })
            .collect(),
        ..encoded.clone()
    }
}

#[test]
fn what_was_scored_before_does_not_matter() {
    let weights = random_weights(Widths::default(), 3);
    let mut used = Forward::new(&weights);
    for encoded in worlds().iter().flat_map(|w| questions(w, 15)) {
        let expected = Forward::new(&weights).scores(&encoded).to_vec();
        assert_eq!(used.scores(&encoded), expected, "to the last bit");
    }
}
