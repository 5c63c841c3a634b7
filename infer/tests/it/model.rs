//! A model that is served decides as it does in process.

use std::collections::BTreeMap;
use std::path::Path;

use infer::decider::Decider;
use infer::source::{Source, SourceError};
use models::folder::{Card, ModelConfig};
use models::weights::{Weights, Widths};
use models::{ModelError, ModelFolder, ModelPolicy};
use twin::world::World;

use crate::closed_loop;
use crate::program::{infer, run};
use crate::support::{embedded, small};

/// Writes a model with weights that are as good as random into `folder`.
fn write_model(folder: &Path, world: &World) {
    let widths = Widths {
        host: 8,
        context: 8,
        head: 8,
    };
    let mut tensors = BTreeMap::new();
    let mut draw = 1_u32;
    for (name, shape) in widths.layout() {
        let mut value = || {
            if name.ends_with(".std") {
                return 1.0;
            }
            draw = draw.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            f32::from(u16::try_from(draw >> 16).expect("16 bits")) / 65_536.0 - 0.5
        };
        let values: Vec<f32> = (0..shape.iter().product()).map(|_| value()).collect();
        tensors.insert(name, values);
    }
    let model = ModelFolder {
        config: ModelConfig::new(widths, world, vec![1]),
        weights: Weights::new(widths, tensors).expect("the layout is the model's"),
        metrics: serde_json::json!({}),
        card: Card::default().to_markdown(),
        ranges: None,
    };
    model.save(folder).expect("the folder can be written");
}

#[test]
fn a_served_model_decides_as_in_process() {
    let folder = tempfile::tempdir().expect("a folder");
    for (world, seeds, intervals) in [
        (embedded("scinet-16"), 2, 20),
        (embedded("azure-llm"), 1, 2),
    ] {
        write_model(folder.path(), &world);
        let source = Source::model(folder.path()).expect("the model is readable");
        let deciders = (0..2)
            .map(|_| Decider::new(&world, &source, 1).expect("loads"))
            .collect();
        closed_loop::compare(&world, deciders, seeds, intervals, &|| {
            Box::new(ModelPolicy::load(folder.path()).expect("the model is readable"))
        });
    }
}

#[test]
fn a_model_brings_its_world_and_its_hash() {
    let folder = tempfile::tempdir().expect("a folder");
    let world = embedded("scinet-16");
    write_model(folder.path(), &world);
    let source = Source::model(folder.path()).expect("the model is readable");
    assert_eq!(
        source.world(None).expect("the world is embedded").hash,
        world.hash
    );
    assert_eq!(source.caution(&world), None);
    let caution = source.caution(&small()).expect("another world");
    assert!(
        caution.contains("scinet-16") && caution.contains("small"),
        "{caution}"
    );
    let decider = Decider::new(&world, &source, 1).expect("loads");
    assert_eq!(decider.model_sha256().expect("a model").len(), 64);
    let missing = Source::model(&folder.path().join("nothing")).expect_err("no folder");
    assert!(matches!(
        missing,
        SourceError::Model(ModelError::NoFolder(_))
    ));
}

#[test]
fn the_program_loads_models() {
    let folder = tempfile::tempdir().expect("a folder");
    let world = small();
    write_model(folder.path(), &world);
    let model = folder.path().to_str().expect("text");
    let examples = Path::new(env!("CARGO_MANIFEST_DIR")).join("examples");
    let state = std::fs::read(examples.join("request.json")).expect("the example is there");
    let world = examples.join("small.toml");
    let output = run(
        &[
            "decide",
            "--model",
            model,
            "--world",
            world.to_str().expect("text"),
        ],
        &state,
    );
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    let response = twin::wire::DecisionResponse::from_json(&output.stdout).expect("of the schema");
    assert!(response.model_sha256.is_some() && !response.fallback);
    let output = infer(&["decide", "--model", "no/such/folder"])
        .output()
        .expect("it runs");
    assert_eq!(output.status.code(), Some(66));
    std::fs::write(folder.path().join("config.json"), "{").expect("written");
    let output = infer(&["decide", "--model", model])
        .output()
        .expect("it runs");
    assert_eq!(
        output.status.code(),
        Some(65),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
}
