//! Worlds, questions and weights to test with.

use std::collections::BTreeMap;

use models::encoding::{Encoded, Encoder, Kind};
use models::weights::{Weights, Widths};
use twin::World;
use twin::policy::PolicyError;
use twin::policy::greedy::Greedy;
use twin::sequence::{Chooser, Context, Question, Stepwise};
use twin::simulate::{self, Options};

/// The embedded worlds.
pub(crate) fn worlds() -> [World; 2] {
    ["azure-llm", "scinet-16"].map(|name| World::load(name).expect("the world is embedded"))
}

/// `world` with its file changed.
pub(crate) fn changed(
    world: &World,
    change: impl FnOnce(&mut twin::world::file::WorldFile),
) -> World {
    let mut file = (*world.file).clone();
    change(&mut file);
    World::resolve(file, "changed", None).expect("the changed world is valid")
}

/// Shows every question to `each`, answers as the greedy policy.
pub(crate) struct Watch<F>(pub(crate) F);

impl<F: FnMut(&Context<'_>, &Question<'_>) + Send> Chooser for Watch<F> {
    fn name(&self) -> &'static str {
        "watch"
    }

    fn choose(
        &mut self,
        context: &Context<'_>,
        question: &Question<'_>,
    ) -> Result<usize, PolicyError> {
        (self.0)(context, question);
        Greedy.choose(context, question)
    }
}

/// Shows the questions of a greedy episode of `world` to `each`.
pub(crate) fn episode(
    world: &World,
    intervals: u32,
    each: impl FnMut(&Context<'_>, &Question<'_>) + Send,
) {
    let options = Options {
        intervals: Some(intervals),
        ..Options::new(3)
    };
    simulate::run(world, &mut Stepwise::new(Watch(each)), &options).expect("greedy can decide");
}

/// At most `most` encoded questions of each kind of a greedy episode of `world`.
pub(crate) fn questions(world: &World, most: usize) -> Vec<Encoded> {
    let mut encoder = Encoder::new();
    let mut counts = [0; 3];
    let mut all = Vec::new();
    episode(world, 8, |context, question| {
        let count = &mut counts[Kind::of(question).index()];
        *count += 1;
        // Later questions are about busier hosts: of each hundred, take a few.
        if *count % 7 == 1 && *count < 7 * most {
            let mut encoded = Encoded::default();
            encoder.encode(context, question, &mut encoded);
            all.push(encoded);
        }
    });
    all
}

/// Weights that are different everywhere.
pub(crate) fn random_weights(widths: Widths, seed: u64) -> Weights {
    let mut state = seed;
    let mut unit = move || {
        // Knuth's MMIX generator; its high bits are good enough.
        state = state
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        let high = u16::try_from(state >> 48).expect("16 bits are left");
        f32::from(high) / 65_536.0
    };
    let tensors: BTreeMap<String, Vec<f32>> = widths
        .layout()
        .into_iter()
        .map(|(name, shape)| {
            let count = shape.iter().product::<usize>();
            let rows = u16::try_from(shape[0]).expect("layers are narrow");
            let scale = 2.0 / f32::from(rows).sqrt();
            let value = |u: f32| {
                if name.ends_with(".std") {
                    0.3 + u
                } else {
                    scale * (u - 0.5)
                }
            };
            let values = (0..count).map(|_| value(unit())).collect();
            (name, values)
        })
        .collect();
    Weights::new(widths, tensors).expect("the layout is complete")
}

/// Whether two scores agree to 1e-5, absolute or relative.
pub(crate) fn close(a: f32, b: f32) -> bool {
    (a - b).abs() <= 1e-5 * a.abs().max(b.abs()).max(1.0)
}
