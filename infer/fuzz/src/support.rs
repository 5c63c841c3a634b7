//! What the targets share.

use std::path::Path;
use std::sync::{Arc, LazyLock};

use serde::Serialize;
use tempfile::TempDir;
use twin::checker;
use twin::decision::Decision;
use twin::observation::{FleetView, Observation};
use twin::sink::Silent;
use twin::state::{Epoch, Future, State};
use twin::units::SimTime;
use twin::wire::{DecisionRequest, WireError};
use twin::world::World;

/// The most bytes of a name or a reason in a refusal, which may quote its input.
const MAX_TOLD_BYTES: usize = 4_000;
/// How long the twin goes on after a decision, in s.
const AFTERWARDS_S: f64 = 60.0;
/// Where scratch files are, if it is there: in memory.
const MEMORY: &str = "/dev/shm";

/// A state of the world of the examples.
pub(crate) const REQUEST: &[u8] = include_bytes!("../../examples/request.json");

static SMALL: LazyLock<Arc<World>> = LazyLock::new(|| {
    let text = include_str!("../../examples/small.toml");
    Arc::new(World::parse(text, "small.toml", None).expect("the example is valid"))
});

static RICH: LazyLock<Arc<World>> = LazyLock::new(|| {
    let text = include_str!("rich.toml");
    Arc::new(World::parse(text, "rich.toml", None).expect("the world is valid"))
});

static VIEW: LazyLock<FleetView> = LazyLock::new(|| {
    let request = DecisionRequest::from_json(REQUEST).expect("the example is valid");
    request.to_view(&SMALL).expect("the example is valid")
});

/// The world of the examples.
pub(crate) fn small() -> &'static Arc<World> {
    &SMALL
}

/// The world that `data` speaks of: one that has everything where its name stands anywhere, else
/// that of the examples.
pub(crate) fn world_of(data: &[u8]) -> &'static Arc<World> {
    let name: &[u8] = b"\"rich\"";
    match data.windows(name.len()).any(|window| window == name) {
        true => &RICH,
        false => &SMALL,
    }
}

/// The state of the examples.
pub(crate) fn view() -> &'static FleetView {
    &VIEW
}

/// A refusal names its field and its reason, both of bounded length.
pub(crate) fn named(error: &WireError) {
    told(&error.field);
    told(&error.problem);
}

/// A message is there, and of bounded length.
pub(crate) fn told(text: &str) {
    assert!(!text.trim().is_empty(), "nothing is told");
    assert!(
        text.len() <= MAX_TOLD_BYTES,
        "{} bytes are told: {}",
        text.len(),
        text.chars().take(200).collect::<String>()
    );
}

/// `value` as JSON.
pub(crate) fn json(value: &impl Serialize) -> Vec<u8> {
    serde_json::to_vec(value).expect("what was read can be written")
}

/// A folder for files that a parser reads from the disk.
pub(crate) fn scratch() -> TempDir {
    let memory = Path::new(MEMORY);
    let made = if memory.is_dir() {
        tempfile::tempdir_in(memory)
    } else {
        tempfile::tempdir()
    };
    made.expect("a folder can be made")
}

/// Decides on `view` by a policy, and lets the twin go on with the decision; a view that contradicts
/// itself is refused with a field.
pub(crate) fn decide(world: &World, view: &FleetView) {
    let state = match State::from_view(world, view) {
        Ok(state) => state,
        Err(error) => return named(&WireError::from(error)),
    };
    let observation = Observation::new(world, &state, view.epoch);
    assert_eq!(
        observation.view(),
        *view,
        "a state is what was observed of it"
    );
    let mut policy = twin::policy::by_name("least-loaded", world, 1).expect("there is this policy");
    let mut decision = Decision::none();
    policy
        .decide(&observation, &mut decision)
        .expect("this policy always decides");
    carry_out(world, &state, view.epoch, &decision);
}

/// Carries `decision` out if the checker finds it feasible, and lets a minute pass; else the checker
/// names what is wrong.
pub(crate) fn carry_out(world: &World, state: &State, epoch: Epoch, decision: &Decision) {
    let observation = Observation::new(world, state, epoch);
    if let Err(reason) = checker::check(&observation, decision) {
        told(&reason.field());
        told(&reason.problem());
        return;
    }
    let mut state = state.clone();
    state.apply(world, decision, &mut Silent);
    let until = state.now().after(SimTime::from_seconds(AFTERWARDS_S));
    while state.advance(world, &mut Future::empty(), until, &mut Silent) != Epoch::End {}
}

/// Stands between two messages of one run, on a line of its own.
const BETWEEN: &[u8] = b"\n---\n";

/// A message as HTTP writes it: a first line, headers, an empty line, a body.
pub(crate) struct Message<'a> {
    /// The first line.
    pub(crate) first: &'a str,
    /// The headers.
    pub(crate) headers: Vec<(&'a str, &'a str)>,
    /// The body.
    pub(crate) body: &'a [u8],
}

/// The messages in `data`, at most `most`; heads that are not text are left out.
pub(crate) fn messages(data: &[u8], most: usize) -> Vec<Message<'_>> {
    let mut rest = Some(data);
    std::iter::from_fn(|| {
        let (message, after) = cut(rest?, BETWEEN);
        rest = after;
        Some(message)
    })
    .take(most)
    .filter_map(|message| {
        let (head, body) = cut(message, b"\n\n");
        let mut lines = std::str::from_utf8(head).ok()?.lines();
        Some(Message {
            first: lines.next().unwrap_or_default(),
            headers: lines
                .filter_map(|line| line.split_once(':'))
                .filter(|(name, _)| name.bytes().all(is_of_name))
                .map(|(name, value)| (name, value.trim()))
                .collect(),
            body: body.unwrap_or_default(),
        })
    })
    .collect()
}

/// Whether the name of a header may have this byte.
fn is_of_name(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"-_".contains(&byte)
}

/// What stands before and after the first `mark`.
fn cut<'a>(data: &'a [u8], mark: &[u8]) -> (&'a [u8], Option<&'a [u8]>) {
    match data.windows(mark.len()).position(|window| window == mark) {
        Some(at) => (&data[..at], Some(&data[at + mark.len()..])),
        None => (data, None),
    }
}

impl Message<'_> {
    /// The request that the message is; `None` if it can be none.
    pub(crate) fn request(&self) -> Option<axum::http::Request<axum::body::Bytes>> {
        let (method, target) = self.first.split_once(' ')?;
        let mut builder = axum::http::Request::builder()
            .method(method)
            .uri(target.trim());
        for (name, value) in &self.headers {
            builder = builder.header(*name, *value);
        }
        builder.body(self.body.to_vec().into()).ok()
    }
}
