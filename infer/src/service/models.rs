//! `/v1/models`: the policies that the service holds, and who decides.
//!
//! | request | what it does |
//! |---|---|
//! | `GET /v1/models` | lists them, with the comparison of candidate and active policy |
//! | `POST /v1/models` | loads one: `{"path": "scinet-16"}` below the configured folder, or `{"policy": "greedy"}` |
//! | `POST /v1/models/{key}:activate` | lets it decide |
//! | `POST /v1/models/{key}:shadow` | tries it: `{"shadow_share": 0.1, "canary_share": 0.01}` |
//! | `POST /v1/models:rollback` | lets the one before decide again |
//! | `POST /v1/models:end-shadow` | tries none any longer |
//! | `DELETE /v1/models/{key}` | forgets it |
//!
//! The key of a model is its SHA-256, that of any other policy its name.

use std::sync::Arc;

use axum::extract::{Path, Request, State};
use axum::http::StatusCode;
use axum::response::Response;
use serde::{Deserialize, Serialize};
use twin::wire::from_json;

use super::problem::Refusal;
use super::{App, json};
use crate::pricing::wire::Estimate;
use crate::registry::{Facts, Listed, Origin, Registry, RegistryError, Serving};

/// The share of the decisions that a candidate takes in shadow unless it is told otherwise.
const SHADOW_SHARE: f64 = 0.1;

/// Which policy to load.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Load {
    /// A folder below the configured one.
    path: Option<String>,
    /// One of the twin's own policies.
    policy: Option<String>,
    /// Whether it may have been trained on another world.
    #[serde(default)]
    any_world: bool,
}

/// How to try a policy.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Try {
    /// The share of the decisions that is compared.
    shadow_share: Option<f64>,
    /// The share of the decisions that the candidate takes in earnest.
    canary_share: Option<f64>,
}

/// A policy as it is told.
#[derive(Debug, Serialize)]
struct Told<'a> {
    key: &'a str,
    name: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    sha256: Option<&'a str>,
    /// `active`, `shadow`, `previous` or `loaded`.
    role: &'static str,
    /// Its place among those that decided before, the last one being 1.
    #[serde(skip_serializing_if = "Option::is_none")]
    previous: Option<usize>,
    origin: &'a Origin,
    #[serde(skip_serializing_if = "Option::is_none")]
    facts: Option<&'a Facts>,
}

/// The comparison as it is told.
#[derive(Debug, Serialize)]
struct Comparison<'a> {
    active: &'a str,
    candidate: &'a str,
    shadow_share: f64,
    canary_share: f64,
    #[serde(skip_serializing_if = "Option::is_none")]
    stopped: Option<&'a str>,
    compared: u64,
    compared_in_earnest: u64,
    failed: u64,
    pending: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    agreement_ratio: Option<f64>,
    /// How much better the candidate decides by the twin, in s of penalty.
    #[serde(skip_serializing_if = "Option::is_none")]
    gain_s: Option<Estimate>,
    dropped_since_start: u64,
}

pub(super) async fn list(State(app): State<Arc<App>>) -> Response {
    json(StatusCode::OK, app.told_models())
}

pub(super) async fn load(State(app): State<Arc<App>>, request: Request) -> Response {
    answer(&app, StatusCode::CREATED, app.load_model(request).await)
}

pub(super) async fn roll_back(State(app): State<Arc<App>>) -> Response {
    let changed = app.change(|registry| registry.roll_back().map(drop)).await;
    answer(&app, StatusCode::OK, changed)
}

pub(super) async fn end_shadow(State(app): State<Arc<App>>) -> Response {
    let changed = app.change(|registry| registry.end_shadow().map(drop)).await;
    answer(&app, StatusCode::OK, changed)
}

pub(super) async fn act(
    State(app): State<Arc<App>>,
    Path(target): Path<String>,
    request: Request,
) -> Response {
    answer(
        &app,
        StatusCode::OK,
        app.act_on_model(&target, request).await,
    )
}

pub(super) async fn unload(State(app): State<Arc<App>>, Path(key): Path<String>) -> Response {
    let changed = app.change(move |registry| registry.unload(&key)).await;
    answer(&app, StatusCode::OK, changed)
}

/// The list as it is after a change.
fn answer(app: &App, status: StatusCode, changed: Result<(), Refusal>) -> Response {
    match changed {
        Ok(()) => json(status, app.told_models()),
        Err(refusal) => refusal.into_response(app),
    }
}

impl App {
    async fn load_model(self: &Arc<Self>, request: Request) -> Result<(), Refusal> {
        let _admitted = self.admit()?;
        let body = self.json_body(request).await?;
        let Load {
            path,
            policy,
            any_world,
        } = from_json(&body)?;
        let origin = match (path, policy) {
            (Some(path), None) => Origin::Path(path),
            (None, Some(policy)) => Origin::Policy(policy),
            _ => {
                let problem = "exactly one of path and policy must be there";
                return Err(Refusal::in_field("path", problem));
            }
        };
        self.change(move |registry| registry.load(&origin, any_world).map(drop))
            .await
    }

    async fn act_on_model(self: &Arc<Self>, target: &str, request: Request) -> Result<(), Refusal> {
        let _admitted = self.admit()?;
        match target.rsplit_once(':') {
            Some((key, "activate")) => {
                let key = key.to_owned();
                self.change(move |registry| registry.activate(&key).map(drop))
                    .await
            }
            Some((key, "shadow")) => {
                let key = key.to_owned();
                let body = self.json_body(request).await?;
                let asked: Try = from_json(&body)?;
                let shadow = share("shadow_share", asked.shadow_share.unwrap_or(SHADOW_SHARE))?;
                let canary = share("canary_share", asked.canary_share.unwrap_or(0.0))?;
                self.change(move |registry| registry.shadow(&key, shadow, canary).map(drop))
                    .await
            }
            _ => {
                let detail = "there are POST /v1/models/{key}:activate and /v1/models/{key}:shadow";
                Err(Refusal::new(StatusCode::NOT_FOUND, detail))
            }
        }
    }

    /// Changes the registry, on a thread that may wait for files.
    async fn change(
        self: &Arc<Self>,
        change: impl FnOnce(&Registry) -> Result<(), RegistryError> + Send + 'static,
    ) -> Result<(), Refusal> {
        let registry = Arc::clone(&self.trust.registry);
        let before = registry.generation();
        let changed = tokio::task::spawn_blocking(move || change(&registry)).await;
        let changed = changed
            .map_err(|_| Refusal::new(StatusCode::INTERNAL_SERVER_ERROR, "the change failed"))?;
        let serving = self.trust.registry.serving();
        if serving.generation != before {
            let active = &serving.active.name;
            tracing::info!(
                active,
                generation = serving.generation,
                "the policies have changed"
            );
        }
        Ok(changed?)
    }

    fn told_models(&self) -> Vec<u8> {
        let registry = &self.trust.registry;
        let (serving, listed) = (registry.serving(), registry.list());
        let models: Vec<Told<'_>> = listed.iter().map(told).collect();
        let mut document = serde_json::json!({
            "generation": serving.generation,
            "active": serving.active.key(),
            "models": models,
        });
        if let Some(comparison) = self.comparison(&serving) {
            document["comparison"] = serde_json::json!(comparison);
        }
        document.to_string().into_bytes()
    }

    fn comparison<'a>(&self, serving: &'a Serving) -> Option<Comparison<'a>> {
        let candidate = serving.candidate.as_ref()?;
        let report = self.trust.shadow.report(serving);
        Some(Comparison {
            active: serving.active.key(),
            candidate: candidate.entry.key(),
            shadow_share: candidate.shadow_share,
            canary_share: candidate.canary_share,
            stopped: candidate.stopped.as_deref(),
            compared: report.compared,
            compared_in_earnest: report.in_earnest,
            failed: report.failed,
            pending: report.pending,
            agreement_ratio: report.agreement_ratio,
            gain_s: report.gain_s.map(Into::into),
            dropped_since_start: report.total_dropped,
        })
    }
}

fn told(listed: &Listed) -> Told<'_> {
    let entry = &listed.entry;
    Told {
        key: entry.key(),
        name: &entry.name,
        sha256: entry.sha256.as_deref(),
        role: match listed {
            Listed { active: true, .. } => "active",
            Listed {
                candidate: true, ..
            } => "shadow",
            Listed {
                previous: Some(_), ..
            } => "previous",
            Listed { .. } => "loaded",
        },
        previous: listed.previous,
        origin: &entry.origin,
        facts: entry.facts.as_ref(),
    }
}

fn share(field: &str, share: f64) -> Result<f64, Refusal> {
    if (0.0..=1.0).contains(&share) {
        return Ok(share);
    }
    let problem = format!("must lie between 0 and 1, found {share}");
    Err(Refusal::in_field(field, problem))
}

impl From<RegistryError> for Refusal {
    fn from(error: RegistryError) -> Self {
        let detail = error.to_string();
        match error {
            RegistryError::Unknown(_) => Self::new(StatusCode::NOT_FOUND, detail),
            RegistryError::InUse(_)
            | RegistryError::Full
            | RegistryError::NoPrevious
            | RegistryError::Same(_) => Self::new(StatusCode::CONFLICT, detail),
            RegistryError::State { .. } => Self::new(StatusCode::INTERNAL_SERVER_ERROR, detail),
            RegistryError::Policy(_) => Self::in_field("policy", detail),
            RegistryError::NoFolder
            | RegistryError::Path(_)
            | RegistryError::Model(_)
            | RegistryError::World { .. }
            | RegistryError::Trial(_) => Self::in_field("path", detail),
        }
    }
}
