//! Loading, swapping, rolling back, and the state file.

use std::path::Path;

use super::*;

fn world() -> Arc<World> {
    Arc::new(World::load("scinet-16").expect("the world is embedded"))
}

fn registry(state: Option<&Path>) -> Registry {
    let places = Places {
        models: Some(committed()),
        state: state.map(Path::to_path_buf),
    };
    Registry::new(&world(), Entry::given("least-loaded", None), places)
}

/// The folder of the committed models.
fn committed() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../models")
}

fn policy(name: &str) -> Origin {
    Origin::Policy(name.into())
}

fn model(path: &str) -> Origin {
    Origin::Path(path.into())
}

#[test]
fn a_model_is_loaded_activated_and_rolled_back() {
    let registry = registry(None);
    assert_eq!(registry.serving().active.name, "least-loaded");
    let entry = registry
        .load(&model("scinet-16"), false)
        .expect("it is committed");
    assert_eq!(entry.name, "model:scinet-16");
    assert_eq!(entry.key().len(), 64);
    let facts = entry.facts.as_ref().expect("it is a model");
    assert_eq!(
        (facts.world.as_str(), facts.caution.as_ref()),
        ("scinet-16", None)
    );
    assert!(
        facts.validation["place"]["regret_s"].is_number(),
        "{facts:?}"
    );
    // Loading alone changes nobody's decisions, and loading again gives the same entry.
    assert_eq!(registry.generation(), 0);
    let again = registry
        .load(&model("scinet-16"), false)
        .expect("it is committed");
    assert!(Arc::ptr_eq(&entry, &again));
    let serving = registry.activate(entry.key()).expect("it is loaded");
    assert_eq!(
        (serving.active.name.as_str(), serving.generation),
        ("model:scinet-16", 1)
    );
    let roles: Vec<(bool, Option<usize>)> = registry
        .list()
        .iter()
        .map(|l| (l.active, l.previous))
        .collect();
    assert!(roles.contains(&(true, None)) && roles.contains(&(false, Some(1))));
    assert!(matches!(
        registry.unload(entry.key()),
        Err(RegistryError::InUse(_))
    ));
    let serving = registry.roll_back().expect("one was active before");
    assert_eq!(
        (serving.active.name.as_str(), serving.generation),
        ("least-loaded", 2)
    );
    assert!(matches!(
        registry.roll_back(),
        Err(RegistryError::NoPrevious)
    ));
    registry.unload(entry.key()).expect("it is not in use");
    assert!(matches!(
        registry.activate(entry.key()),
        Err(RegistryError::Unknown(_))
    ));
    assert!(matches!(
        registry.unload("least-loaded"),
        Err(RegistryError::InUse(_))
    ));
}

#[test]
fn what_does_not_fit_is_refused_and_changes_nothing() {
    let registry = registry(None);
    let folder = tempfile::tempdir().expect("a folder");
    let damaged = folder.path().join("damaged");
    std::fs::create_dir(&damaged).expect("it is new");
    for (origin, problem) in [
        (model("azure-llm"), "was trained on azure-llm"),
        (model("nothing"), "no model folder"),
        (model("../models/scinet-16"), "must name a folder below"),
        (model("/etc"), "must name a folder below"),
        (model(""), "must name a folder below"),
        (policy("best"), "no such policy"),
        (Origin::Given, "no policy"),
    ] {
        let error = registry
            .load(&origin, false)
            .expect_err("it does not fit")
            .to_string();
        assert!(error.contains(problem), "{error}");
    }
    assert_eq!(registry.list().len(), 1);
    let other = registry
        .load(&model("azure-llm"), true)
        .expect("any world is allowed");
    let caution = other.facts.as_ref().and_then(|facts| facts.caution.clone());
    assert!(caution.is_some_and(|text| text.contains("azure-llm")));
    let places = Places {
        models: Some(folder.path().into()),
        state: None,
    };
    let elsewhere = Registry::new(&world(), Entry::given("greedy", None), places);
    let error = elsewhere
        .load(&model("damaged"), false)
        .expect_err("it is empty");
    assert!(matches!(error, RegistryError::Model(_)), "{error}");
    let none = Registry::new(&world(), Entry::given("greedy", None), Places::default());
    let error = none
        .load(&model("scinet-16"), false)
        .expect_err("no folder");
    assert!(matches!(error, RegistryError::NoFolder), "{error}");
}

#[cfg(unix)]
#[test]
fn links_do_not_lead_out_of_the_folder() {
    let folder = tempfile::tempdir().expect("a folder");
    let target = committed()
        .join("scinet-16")
        .canonicalize()
        .expect("it is committed");
    std::os::unix::fs::symlink(target, folder.path().join("link")).expect("links work");
    let places = Places {
        models: Some(folder.path().into()),
        state: None,
    };
    let registry = Registry::new(&world(), Entry::given("greedy", None), places);
    let error = registry
        .load(&model("link"), false)
        .expect_err("it leads elsewhere");
    assert!(matches!(error, RegistryError::Path(_)), "{error}");
}

#[test]
fn a_candidate_takes_its_share_and_can_be_stopped() {
    let registry = registry(None);
    registry.load(&policy("greedy"), false).expect("it exists");
    assert!(matches!(
        registry.shadow("least-loaded", 0.5, 0.0),
        Err(RegistryError::Same(_))
    ));
    let serving = registry.shadow("greedy", 0.5, 0.25).expect("it is loaded");
    let share = |of: &dyn Fn(u64) -> bool| (0..10_000).filter(|&id| of(id)).count();
    // The standard deviation of the number is at most 50.
    let canary = share(&|id| serving.role(id) == Role::Candidate);
    assert!(canary.abs_diff(2_500) < 250, "{canary}");
    let shadow = share(&|id| serving.is_compared(id));
    assert!(shadow.abs_diff(5_000) < 250, "{shadow}");
    let both = share(&|id| serving.is_compared(id) && serving.role(id) == Role::Candidate);
    assert!(
        both.abs_diff(1_250) < 250,
        "independent of each other: {both}"
    );
    assert!(!registry.stop_canary(serving.generation + 1, "another one"));
    assert!(registry.stop_canary(serving.generation, "it is worse"));
    let stopped = registry.serving();
    let candidate = stopped.candidate.as_ref().expect("it is still compared");
    assert_eq!(candidate.stopped.as_deref(), Some("it is worse"));
    assert!((0..1_000).all(|id| stopped.role(id) == Role::Active));
    let promoted = registry.activate("greedy").expect("it is loaded");
    assert!(promoted.candidate.is_none());
    assert!(registry.end_shadow().expect("kept").candidate.is_none());
}

#[test]
fn the_choice_survives_a_restart() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("policies.json");
    let first = registry(Some(&path));
    let entry = first
        .load(&model("scinet-16"), false)
        .expect("it is committed");
    first.load(&policy("greedy"), false).expect("it exists");
    first.activate(entry.key()).expect("it is loaded");
    first.shadow("greedy", 0.5, 0.1).expect("it is loaded");
    let second = registry(Some(&path));
    let serving = second.serving();
    assert_eq!(serving.active.name, "model:scinet-16");
    let candidate = serving.candidate.as_ref().expect("it was tried");
    assert_eq!(candidate.entry.name, "greedy");
    assert_eq!(second.list().len(), 3);
    assert_eq!(
        second.roll_back().expect("it was given").active.name,
        "least-loaded"
    );
    assert_eq!(registry(Some(&path)).serving().active.name, "least-loaded");
}

#[test]
fn a_state_that_cannot_be_restored_is_left_out() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("policies.json");
    let first = registry(Some(&path));
    let entry = first
        .load(&model("scinet-16"), false)
        .expect("it is committed");
    first.activate(entry.key()).expect("it is loaded");
    let written = std::fs::read_to_string(&path).expect("it is kept");
    let other_world = written.replace(&world().hash, "0");
    let other_model = written.replace(entry.key(), &"0".repeat(64));
    for broken in ["", "{", "[]", "{\"schema\":9}", &other_world, &other_model] {
        std::fs::write(&path, broken).expect("writable");
        let serving = registry(Some(&path)).serving();
        assert_eq!(serving.active.name, "least-loaded", "{broken:.20}");
    }
    let nowhere = folder.path().join("no/such/folder/policies.json");
    let registry = registry(Some(&nowhere));
    let error = registry
        .load(&policy("greedy"), false)
        .expect_err("it cannot be kept");
    assert!(matches!(error, RegistryError::State { .. }), "{error}");
}

#[test]
fn no_more_are_held_than_there_is_room_for() {
    let registry = registry(None);
    let names = twin::policy::POLICIES.iter().map(|(name, _)| *name);
    let others: Vec<&str> = names.filter(|name| *name != "oracle").collect();
    for name in &others {
        registry.load(&policy(name), false).expect("there is room");
    }
    assert!(others.len() < MAX_HELD);
    for _ in 0..2 * MAX_PREVIOUS {
        registry.activate("greedy").expect("it is loaded");
        registry.activate("least-loaded").expect("it is loaded");
    }
    let back = (0..100)
        .take_while(|_| registry.roll_back().is_ok())
        .count();
    assert_eq!(back, MAX_PREVIOUS);
}
