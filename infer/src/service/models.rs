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

use axum::body::HttpBody;
use axum::extract::rejection::PathRejection;
use axum::extract::{Path, Request, State};
use axum::http::StatusCode;
use axum::response::Response;
use serde::{Deserialize, Serialize};
use twin::wire::{Problem, from_json, present};
use utoipa::ToSchema;

use super::problem::{BodyRefusals, ParameterRefusals, Refusal, Refusals, parameter};
use super::{App, json};
use crate::pricing::wire::Estimate;
use crate::registry::{Facts, Listed, Origin, Registry, RegistryError, Serving};

/// The share of the decisions that a candidate takes in shadow unless it is told otherwise.
const SHADOW_SHARE: f64 = 0.1;

/// Which policy to load: exactly one of `path` and `policy`.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = LoadRequest, example = json!({ "policy": "greedy" }))]
pub(super) struct Load {
    /// A folder below the configured one.
    #[serde(default, deserialize_with = "present")]
    path: Option<String>,
    /// One of the twin's own policies.
    #[serde(default, deserialize_with = "present")]
    policy: Option<String>,
    /// Whether it may have been trained on another world.
    #[serde(default)]
    any_world: bool,
}

/// How to try a policy.
#[derive(Debug, Default, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = ShadowRequest, example = json!({ "shadow_share": 0.1, "canary_share": 0.01 }))]
pub(super) struct Try {
    /// The share of the decisions that is compared; 0.1 if absent.
    #[serde(default, deserialize_with = "present")]
    #[schema(minimum = 0, maximum = 1)]
    shadow_share: Option<f64>,
    /// The share of the decisions that the candidate takes in earnest; 0 if absent.
    #[serde(default, deserialize_with = "present")]
    #[schema(minimum = 0, maximum = 1)]
    canary_share: Option<f64>,
}

/// The policies that the service holds.
#[derive(Debug, Serialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct ModelList<'a> {
    /// Rises with every change of who decides.
    generation: u64,
    /// The key of the policy that decides.
    active: &'a str,
    /// All of them.
    #[schema(max_items = 16)]
    models: Vec<Told<'a>>,
    /// The comparison of the candidate with the policy that decides, where one is tried.
    #[serde(skip_serializing_if = "Option::is_none")]
    comparison: Option<Comparison<'a>>,
}

/// What a policy is to the service.
#[derive(Clone, Copy, Debug, Serialize, ToSchema)]
#[serde(rename_all = "kebab-case")]
#[schema(as = ModelRole)]
pub(super) enum Standing {
    /// It decides.
    Active,
    /// It is tried.
    Shadow,
    /// It decided before.
    Previous,
    /// It waits.
    Loaded,
}

/// A policy as it is told.
#[derive(Debug, Serialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = Model)]
pub(super) struct Told<'a> {
    /// What names it in requests: the SHA-256 of a model, the name of any other policy.
    key: &'a str,
    /// The name that answers tell.
    name: &'a str,
    /// SHA-256 of the weights in hexadecimal, where it is a model.
    #[serde(skip_serializing_if = "Option::is_none")]
    sha256: Option<&'a str>,
    /// What it is to the service.
    role: Standing,
    /// Its place among those that decided before, the last one being 1.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<u32>, minimum = 1)]
    previous: Option<usize>,
    /// Where it was loaded from.
    #[schema(value_type = Origin)]
    origin: &'a Origin,
    /// What is known of it, where it is a model.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<Facts>)]
    facts: Option<&'a Facts>,
}

/// The comparison as it is told.
#[derive(Debug, Serialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Comparison<'a> {
    /// The key of the policy that decides.
    active: &'a str,
    /// The key of the candidate.
    candidate: &'a str,
    /// The share of the decisions that is compared.
    #[schema(minimum = 0, maximum = 1)]
    shadow_share: f64,
    /// The share of the decisions that the candidate takes in earnest.
    #[schema(minimum = 0, maximum = 1)]
    canary_share: f64,
    /// Why the candidate takes none in earnest any longer, where it was stopped.
    #[serde(skip_serializing_if = "Option::is_none")]
    stopped: Option<&'a str>,
    /// Decisions that were compared.
    compared: u64,
    /// Those of them that the candidate took in earnest.
    compared_in_earnest: u64,
    /// Decisions that one of the two could not take.
    failed: u64,
    /// Comparisons that wait.
    pending: u64,
    /// The share of the compared decisions that were the same.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(minimum = 0, maximum = 1)]
    agreement_ratio: Option<f64>,
    /// How much better the candidate decides by the twin, in s of penalty.
    #[serde(skip_serializing_if = "Option::is_none")]
    gain_s: Option<Estimate>,
    /// Comparisons for which there was no room, since the service started.
    dropped_since_start: u64,
}

/// List policies
///
/// Those that the service holds, and the comparison of the one that is tried with the one that
/// decides.
#[utoipa::path(
    get,
    path = "/v1/models",
    operation_id = "models",
    tag = "models",
    responses(
        (status = 200, description = "The policies.", body = ModelList),
        Refusals,
    ),
    security(("bearer" = []), ()),
)]
pub(super) async fn list(State(app): State<Arc<App>>) -> Response {
    json(StatusCode::OK, app.told_models())
}

/// Load a policy
///
/// It is held against the world and asked for a decision first, and decides nothing yet.
#[utoipa::path(
    post,
    path = "/v1/models",
    operation_id = "load_model",
    tag = "models",
    request_body(content = Load),
    responses(
        (status = 201, description = "The policies, with the new one.", body = ModelList),
        (status = 409, description = "As many are held as may be.",
         body = Problem, content_type = "application/problem+json"),
        BodyRefusals,
    ),
    security(("bearer" = []), ()),
)]
pub(super) async fn load(State(app): State<Arc<App>>, request: Request) -> Response {
    answer(&app, StatusCode::CREATED, app.load_model(request).await)
}

/// Let the policy before decide again
#[utoipa::path(
    post,
    path = "/v1/models:rollback",
    operation_id = "roll_back",
    tag = "models",
    responses(
        (status = 200, description = "The policies.", body = ModelList),
        (status = 409, description = "No policy decided before.",
         body = Problem, content_type = "application/problem+json"),
        Refusals,
    ),
    security(("bearer" = []), ()),
)]
pub(super) async fn roll_back(State(app): State<Arc<App>>) -> Response {
    let changed = app.change(|registry| registry.roll_back().map(drop)).await;
    answer(&app, StatusCode::OK, changed)
}

/// Try no policy any longer
#[utoipa::path(
    post,
    path = "/v1/models:end-shadow",
    operation_id = "end_shadow",
    tag = "models",
    responses(
        (status = 200, description = "The policies.", body = ModelList),
        Refusals,
    ),
    security(("bearer" = []), ()),
)]
pub(super) async fn end_shadow(State(app): State<Arc<App>>) -> Response {
    let changed = app.change(|registry| registry.end_shadow().map(drop)).await;
    answer(&app, StatusCode::OK, changed)
}

/// Let a policy decide, or try it
///
/// `KEY:activate` lets it decide. `KEY:shadow` compares it with the policy that decides, and lets it
/// take a share of the decisions; the shares stand in the body, which may be left out.
#[utoipa::path(
    post,
    path = "/v1/models/{key}",
    operation_id = "act_on_model",
    tag = "models",
    params(("key" = String, Path, description = "The key of a policy, and what to do with it.",
         pattern = "^[^:/]+:(activate|shadow)$", example = "least-loaded:activate")),
    request_body(content = Option<Try>),
    responses(
        (status = 200, description = "The policies.", body = ModelList),
        (status = 404, description = "There is no such policy.",
         body = Problem, content_type = "application/problem+json"),
        (status = 409, description = "It decides already.",
         body = Problem, content_type = "application/problem+json"),
        BodyRefusals,
    ),
    security(("bearer" = []), ()),
)]
pub(super) async fn act(
    State(app): State<Arc<App>>,
    target: Result<Path<String>, PathRejection>,
    request: Request,
) -> Response {
    let changed = match parameter("key", target) {
        Ok(target) => app.act_on_model(&target, request).await,
        Err(refusal) => Err(refusal),
    };
    answer(&app, StatusCode::OK, changed)
}

/// Forget a policy
#[utoipa::path(
    delete,
    path = "/v1/models/{key}",
    operation_id = "unload_model",
    tag = "models",
    params(("key" = String, Path, description = "The key of a policy.")),
    responses(
        (status = 200, description = "The policies that are left.", body = ModelList),
        (status = 404, description = "There is no such policy.",
         body = Problem, content_type = "application/problem+json"),
        (status = 409, description = "It is in use.",
         body = Problem, content_type = "application/problem+json"),
        ParameterRefusals,
    ),
    security(("bearer" = []), ()),
)]
pub(super) async fn unload(
    State(app): State<Arc<App>>,
    key: Result<Path<String>, PathRejection>,
) -> Response {
    let changed = match parameter("key", key) {
        Ok(key) => app.change(move |registry| registry.unload(&key)).await,
        Err(refusal) => Err(refusal),
    };
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
                let Try {
                    shadow_share,
                    canary_share,
                } = self.optional_body(request).await?;
                for (field, share) in [
                    ("shadow_share", shadow_share),
                    ("canary_share", canary_share),
                ] {
                    if share.is_some() {
                        return Err(Refusal::in_field(field, "goes with KEY:shadow"));
                    }
                }
                self.change(move |registry| registry.activate(&key).map(drop))
                    .await
            }
            Some((key, "shadow")) => {
                let key = key.to_owned();
                let asked = self.optional_body(request).await?;
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

    /// The shares that `request` asks for; none where it has no body.
    async fn optional_body(&self, request: Request) -> Result<Try, Refusal> {
        if request.body().is_end_stream() {
            return Ok(Try::default());
        }
        let body = self.json_body(request).await?;
        Ok(from_json(&body)?)
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
        let list = ModelList {
            generation: serving.generation,
            active: serving.active.key(),
            models,
            comparison: self.comparison(&serving),
        };
        // A document of strings and finite numbers always serializes.
        serde_json::to_vec(&list).unwrap_or_default()
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
            Listed { active: true, .. } => Standing::Active,
            Listed {
                candidate: true, ..
            } => Standing::Shadow,
            Listed {
                previous: Some(_), ..
            } => Standing::Previous,
            Listed { .. } => Standing::Loaded,
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
