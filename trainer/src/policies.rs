//! Policies by what the command line calls them.
//!
//! | specification | policy |
//! |---|---|
//! | `NAME` | one of the twin's own ([`twin::policy::POLICIES`]) |
//! | `model:DIR` | the model in folder `DIR`, run in process |
//! | `http://HOST:PORT` | a service that answers `POST /v1/decisions` |

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use sha2::{Digest, Sha256};
use twin::World;
use twin::policy::Policy;

use crate::{model_policy, remote_policy};

/// Files of a model folder that decide what it answers.
const MODEL_FILES: [&str; 2] = ["model.safetensors", "config.json"];

/// A parsed specification.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Spec<'a> {
    Named(&'a str),
    Model(PathBuf),
    Remote(&'a str),
}

impl<'a> Spec<'a> {
    fn parse(text: &'a str) -> Result<Self> {
        if let Some(folder) = text.strip_prefix("model:") {
            if folder.is_empty() {
                bail!("policy {text}: name the folder of the model, as in model:runs/model");
            }
            return Ok(Self::Model(PathBuf::from(folder)));
        }
        if text.starts_with("http://") {
            return Ok(Self::Remote(text));
        }
        if text.contains("://") {
            bail!("policy {text}: services are asked over http://HOST:PORT");
        }
        Ok(Self::Named(text))
    }
}

/// What a policy is compared as.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// The bound that regret is measured from.
    Oracle,
    /// The policy that the oracle rolls futures out with: stronger than what practitioners run.
    Rollout,
    /// What practitioners and earlier work run.
    Heuristic,
    /// A model, in process or behind a service.
    Model,
}

/// The role of the policy that `spec` names.
#[must_use]
pub fn role(spec: &str) -> Role {
    match Spec::parse(spec) {
        Ok(Spec::Named("oracle")) => Role::Oracle,
        Ok(Spec::Named("greedy")) => Role::Rollout,
        Ok(Spec::Model(_) | Spec::Remote(_)) => Role::Model,
        Ok(Spec::Named(_)) | Err(_) => Role::Heuristic,
    }
}

/// The policy that `spec` names, for one run in `world`; random choices come from `seed`.
///
/// # Errors
///
/// If there is no such policy, the model cannot be read or is not for this world, or the service
/// does not answer.
pub fn build(spec: &str, world: &World, seed: u64) -> Result<Box<dyn Policy>> {
    match Spec::parse(spec)? {
        Spec::Named(name) => Ok(twin::policy::by_name(name, world, seed)?),
        Spec::Model(folder) => model_policy::build(&folder, world, seed),
        Spec::Remote(url) => remote_policy::build(url, world, seed),
    }
}

/// What tells two policies of the same `spec` apart: the SHA-256 of a model's files, nothing else.
///
/// # Errors
///
/// If the files cannot be read.
pub fn fingerprint(spec: &str) -> Result<Option<String>> {
    match Spec::parse(spec)? {
        Spec::Model(folder) => hash_model(&folder).map(Some),
        Spec::Named(_) | Spec::Remote(_) => Ok(None),
    }
}

fn hash_model(folder: &Path) -> Result<String> {
    let mut hash = Sha256::new();
    for name in MODEL_FILES {
        let path = folder.join(name);
        let bytes = fs::read(&path)
            .with_context(|| format!("cannot read the model file {}", path.display()))?;
        hash.update(bytes.len().to_le_bytes());
        hash.update(&bytes);
    }
    Ok(hex::encode(hash.finalize()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn roles_follow_from_specifications() {
        let found = [
            "oracle",
            "greedy",
            "best-fit",
            "model:runs/m",
            "http://127.0.0.1:8080",
        ];
        let roles = [
            Role::Oracle,
            Role::Rollout,
            Role::Heuristic,
            Role::Model,
            Role::Model,
        ];
        assert_eq!(found.map(role), roles);
    }

    #[test]
    fn wrong_specifications_say_what_is_right() {
        let world = World::load("scinet-16").expect("the world is embedded");
        for (spec, expected) in [
            ("model:", "model:runs/model"),
            ("https://example.org", "http://HOST:PORT"),
            ("best-fitt", "best-fit"),
        ] {
            let error = build(spec, &world, 1)
                .err()
                .expect("the policy is refused")
                .to_string();
            assert!(error.contains(spec) && error.contains(expected), "{error}");
        }
    }

    #[test]
    fn a_model_is_told_apart_by_its_files() {
        let folder = tempfile::tempdir().expect("a folder");
        let spec = format!("model:{}", folder.path().display());
        let error = fingerprint(&spec)
            .expect_err("the folder is empty")
            .to_string();
        assert!(error.contains("model.safetensors"), "{error}");
        fs::write(folder.path().join("model.safetensors"), "weights").expect("written");
        fs::write(folder.path().join("config.json"), "{}").expect("written");
        let first = fingerprint(&spec).expect("readable");
        fs::write(folder.path().join("config.json"), "{ }").expect("written");
        assert_ne!(first, fingerprint(&spec).expect("readable"));
        assert_eq!(fingerprint("oracle").expect("no file is read"), None);
    }
}
