//! What the fuzz targets do with their bytes.
//!
//! Each target takes any bytes, leads them through one parser as the programs do, and goes on with
//! what it accepts. Beyond not panicking, most hold an answer to something: what was read is written
//! and read again to an equal value, what is refused is refused with a field and a reason, what the
//! checker accepts can be carried out. [`TARGETS`] lists them all.
//!
//! The functions are part of no program. The workspace's own tests run them on every committed seed
//! (`infer/tests/it/fuzz_seeds.rs`), cargo-fuzz on what it makes of those.

mod azure;
mod control;
mod fleet;
mod log;
mod models;
mod recordings;
mod service;
mod settings;
mod support;
mod virtual_azure;
mod wire;
mod worlds;

/// A target: its name, as of the file in `fuzz_targets` and the folder in `seeds`, and its function.
pub type Target = (&'static str, fn(&[u8]));

/// All targets.
pub const TARGETS: &[Target] = &[
    ("azure_answers", azure::answers),
    ("certificate", settings::certificate),
    ("config", settings::config),
    ("control_config", settings::control),
    ("control_journal", control::journal),
    ("control_state", control::state),
    ("decision_log", log::segment),
    ("decision_request", wire::decision_request),
    ("decision_response", wire::decision_response),
    ("fleet", fleet::fleet),
    ("log_entry", log::entry),
    ("model", models::model),
    ("outcomes", wire::outcomes),
    ("recordings", recordings::recordings),
    ("registry_state", service::registry_state),
    ("service", service::service),
    ("snapshot", log::snapshot),
    ("tokens", settings::tokens),
    ("validate", wire::validate),
    ("virtual_azure", virtual_azure::virtual_azure),
    ("what_if", wire::what_if),
    ("world", worlds::world),
];

/// Runs the target `name` on `data`.
///
/// # Panics
///
/// If there is no such target, or it has found a defect.
pub fn run(name: &str, data: &[u8]) {
    let (_, target) = TARGETS
        .iter()
        .find(|(known, _)| *known == name)
        .expect("the target is in the list");
    target(data);
}
