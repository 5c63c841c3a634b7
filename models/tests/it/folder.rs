//! Model folders: round trip, and damage that is explained.

use std::fs;
use std::path::Path;

use models::folder::{
    CARD_FILE, CONFIG_FILE, Card, METRICS_FILE, ModelConfig, SUMS_FILE, WEIGHTS_FILE,
};
use models::weights::Widths;
use models::{ModelFolder, ModelPolicy};
use sha2::{Digest, Sha256};

use crate::common::{random_weights, worlds};

fn model() -> ModelFolder {
    let widths = Widths::default();
    let [world, _] = worlds();
    let card = Card {
        license: "MIT OR Apache-2.0".into(),
        tags: vec!["scheduling".into()],
        datasets: vec!["azure-llm".into()],
        metrics: Vec::new(),
        text: "# A model: with \"text\"\n".into(),
    };
    ModelFolder {
        config: ModelConfig::new(widths, &world, vec![1, 2]),
        weights: random_weights(widths, 1),
        metrics: serde_json::json!({ "accuracy": 0.5 }),
        card: card.to_markdown(),
        ranges: None,
    }
}

fn saved() -> tempfile::TempDir {
    let folder = tempfile::tempdir().expect("a folder for the test");
    model().save(folder.path()).expect("it can be written");
    folder
}

fn error(dir: &Path) -> String {
    ModelFolder::load(dir)
        .expect_err("the folder is damaged")
        .to_string()
}

/// Changes a file and corrects its checksum, as one who edits would.
fn edit(dir: &Path, file: &str, change: impl FnOnce(Vec<u8>) -> Vec<u8>) {
    let old = fs::read(dir.join(file)).expect("it is there");
    let new = change(old.clone());
    let sums = fs::read_to_string(dir.join(SUMS_FILE)).expect("it is there");
    let sum = |bytes: &[u8]| hex::encode(Sha256::digest(bytes));
    fs::write(dir.join(SUMS_FILE), sums.replace(&sum(&old), &sum(&new))).expect("writable");
    fs::write(dir.join(file), new).expect("it can be written");
}

#[test]
fn a_model_survives_a_round_trip() {
    let folder = saved();
    let read = ModelFolder::load(folder.path()).expect("it is whole");
    assert!(read == model());
    let policy = ModelPolicy::load(folder.path()).expect("it is whole");
    let sums = fs::read_to_string(folder.path().join(SUMS_FILE)).expect("it is there");
    assert!(sums.contains(&format!("{}  {WEIGHTS_FILE}", policy.sha256())));
    assert_eq!(policy.config().world, "azure-llm");
    let other = saved();
    assert_eq!(
        sums,
        fs::read_to_string(other.path().join(SUMS_FILE)).expect("it is there"),
        "equal models are equal bytes"
    );
    model()
        .save(folder.path())
        .expect("a model can be replaced");
    assert_eq!(fs::read_dir(folder.path()).expect("it is there").count(), 5);
}

#[test]
fn missing_and_damaged_files_are_named() {
    let folder = saved();
    let dir = folder.path();
    assert!(error(&dir.join("nowhere")).contains("there is no model folder"));
    for file in [
        WEIGHTS_FILE,
        CONFIG_FILE,
        METRICS_FILE,
        CARD_FILE,
        SUMS_FILE,
    ] {
        let folder = saved();
        let path = folder.path().join(file);
        fs::remove_file(&path).expect("it is there");
        let message = error(folder.path());
        assert!(
            message.contains(file) && message.contains("is missing"),
            "{message}"
        );
    }
    for file in [WEIGHTS_FILE, CONFIG_FILE, METRICS_FILE, CARD_FILE] {
        let folder = saved();
        let path = folder.path().join(file);
        let mut bytes = fs::read(&path).expect("it is there");
        let middle = bytes.len() / 2;
        bytes[middle] ^= 1;
        fs::write(&path, bytes).expect("it can be written");
        let message = error(folder.path());
        assert!(
            message.contains(file) && message.contains("is damaged"),
            "{message}"
        );
    }
    fs::write(dir.join(SUMS_FILE), "nonsense\n").expect("it can be written");
    assert!(error(dir).contains("line 1 is not a checksum and a name"));
    fs::write(dir.join(SUMS_FILE), "").expect("it can be written");
    assert!(error(dir).contains("config.json is not listed"));
}

#[test]
fn other_encodings_and_formats_are_refused() {
    for (from, to, expected) in [
        (
            "\"format_version\": 1",
            "\"format_version\": 9",
            "format version 9",
        ),
        (
            "\"world_hash\"",
            "\"word_hash\"",
            "unknown field `word_hash`",
        ),
        (
            "\"encoding_hash\": \"",
            "\"encoding_hash\": \"ff",
            "another encoding",
        ),
        ("\"host\": 32", "\"host\": 31", "has shape"),
        ("\"host\": 32", "\"host\": 0", "out of range"),
        ("\"host\": 32", "\"host\": 1000000000", "out of range"),
        ("\"host\": 32", "\"host\": -1", "invalid value"),
    ] {
        let folder = saved();
        edit(folder.path(), CONFIG_FILE, |bytes| {
            let text = String::from_utf8(bytes).expect("JSON is text");
            assert!(text.contains(from));
            text.replace(from, to).into_bytes()
        });
        let message = error(folder.path());
        let expected = expected.replace("another encoding", "trained on observation encoding");
        assert!(message.contains(&expected), "{message}");
    }
}

#[test]
fn bad_weights_are_named() {
    let nan = |mut bytes: Vec<u8>| {
        let length = bytes.len();
        bytes[length - 4..].copy_from_slice(&f32::NAN.to_le_bytes());
        bytes
    };
    let renamed = |bytes: Vec<u8>| {
        let at = bytes
            .windows(10)
            .position(|w| w == b"place.bias")
            .expect("it is a name");
        let mut bytes = bytes;
        bytes[at..at + 10].copy_from_slice(b"plane.bias");
        bytes
    };
    let cut = |mut bytes: Vec<u8>| {
        bytes.truncate(100);
        bytes
    };
    let check = |change: &dyn Fn(Vec<u8>) -> Vec<u8>, expected: &str| {
        let folder = saved();
        edit(folder.path(), WEIGHTS_FILE, change);
        let message = error(folder.path());
        assert!(
            message.contains(expected) && message.contains(WEIGHTS_FILE),
            "{message}"
        );
    };
    check(&nan, "holds NaN");
    check(&renamed, "tensor `plane.bias` is unknown");
    check(&cut, "not a safetensors file");
}

#[test]
fn the_card_opens_with_front_matter() {
    let card = model().card;
    assert!(card.starts_with("---\nlicense: \"MIT OR Apache-2.0\"\ntags:\n  - \"scheduling\"\n"));
    assert!(card.contains("metrics: []\n---\n\n# A model"));
}
