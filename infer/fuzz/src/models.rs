//! Files of a model's folder.

use std::fmt::Write as _;
use std::fs;

use models::ModelPolicy;
use models::folder::{
    CARD_FILE, CONFIG_FILE, METRICS_FILE, ModelConfig, ModelFolder, RANGES_FILE, SUMS_FILE,
    WEIGHTS_FILE,
};
use models::weights::{Weights, Widths};
use sha2::{Digest, Sha256};
use twin::decision::Decision;
use twin::observation::Observation;
use twin::policy::Policy as _;
use twin::state::State;

use super::support::{carry_out, json, scratch, small, told, view};

/// The smallest network.
const WIDTHS: Widths = Widths {
    host: 1,
    context: 1,
    head: 1,
};

/// One file of a model's folder; the others are there and right, but for the ranges, which need not be. The first byte says which: `c` the
/// configuration, `m` the metrics, `r` the ranges, `s` the list of checksums, else the weights.
pub(crate) fn model(data: &[u8]) {
    let Some((which, bytes)) = data.split_first() else {
        return;
    };
    let name = match which {
        b'c' => CONFIG_FILE,
        b'm' => METRICS_FILE,
        b'r' => RANGES_FILE,
        b's' => SUMS_FILE,
        _ => WEIGHTS_FILE,
    };
    let folder = scratch();
    let mut sums = String::new();
    let mut files = files();
    if name == RANGES_FILE {
        files.push((RANGES_FILE, Vec::new()));
    }
    for (file, right) in files {
        let bytes = if file == name { bytes } else { &right };
        let sum: String = Sha256::digest(bytes)
            .iter()
            .fold(String::new(), |mut sum, byte| {
                write!(sum, "{byte:02x}").expect("a text grows");
                sum
            });
        writeln!(sums, "{sum}  {file}").expect("a text grows");
        fs::write(folder.path().join(file), bytes).expect("a scratch file");
    }
    let sums = if name == SUMS_FILE {
        bytes
    } else {
        sums.as_bytes()
    };
    fs::write(folder.path().join(SUMS_FILE), sums).expect("a scratch file");
    let model = match ModelFolder::load(folder.path()) {
        Ok(model) => model,
        Err(error) => {
            let text = error.to_string();
            assert!(
                text.contains(&folder.path().display().to_string()),
                "{text}"
            );
            return;
        }
    };
    let other = scratch();
    model
        .save(other.path())
        .expect("what was read can be written");
    let again = ModelFolder::load(other.path()).expect("what was written can be read");
    assert_eq!(json(&again.metrics), json(&model.metrics));
    assert_eq!(again.config, model.config);
    decide(&model);
}

/// A model that was read decides something that can be carried out, whatever its numbers are.
fn decide(model: &ModelFolder) {
    let (world, view) = (small(), view());
    let mut policy = match ModelPolicy::new("fuzz", model) {
        Ok(policy) => policy,
        Err(error) => return told(&error.to_string()),
    };
    let state = State::from_view(world, view).expect("the example is valid");
    let observation = Observation::new(world, &state, view.epoch);
    let mut decision = Decision::none();
    if policy.decide(&observation, &mut decision).is_ok() {
        carry_out(world, &state, view.epoch, &decision);
    }
}

/// A small model, but for its checksums.
fn files() -> Vec<(&'static str, Vec<u8>)> {
    let tensors = WIDTHS
        .layout()
        .into_iter()
        .map(|(name, shape)| (name, vec![0.5; shape.iter().product()]))
        .collect();
    let weights = Weights::new(WIDTHS, tensors).expect("they are of this layout");
    let config = ModelConfig::new(WIDTHS, small(), vec![1]);
    vec![
        (
            WEIGHTS_FILE,
            weights.to_safetensors().expect("valid weights"),
        ),
        (CONFIG_FILE, json(&config)),
        (METRICS_FILE, b"{}".to_vec()),
        (CARD_FILE, b"A card.".to_vec()),
    ]
}
