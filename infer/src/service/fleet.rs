//! The fleet that the service keeps: `PUT` and `GET /v1/fleet`, `POST /v1/telemetry`,
//! `GET /v1/fleet/drift`, and decisions on it.
//!
//! There is one fleet behind one lock; what changes it happens one after the other, in the order of
//! the log.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use axum::extract::{RawQuery, Request, State};
use axum::http::StatusCode;
use axum::response::Response;
use tokio::runtime::{Handle, RuntimeFlavor};
use tokio::sync::{Mutex, MutexGuard};
use tokio::time::timeout;
use twin::units::SimTime;
use twin::wire::{
    DecisionRequest, FleetDecisionRequest, FleetResponse, Problem, TelemetryRequest,
    TelemetryResponse,
};
use twin::world::World;
use utoipa::{IntoParams, ToSchema};

use super::decisions::Taken;
use super::guard::Caller;
use super::problem::{BodyRefusals, ParameterRefusals, Refusal, Refusals};
use super::{App, INLINE_BYTES, WAIT_LIMIT, json};
use crate::decider::Decider;
use crate::fleet::drift::DriftReport;
use crate::fleet::{Ask, FleetError, FleetInput, FleetLog, LiveFleet, decide};
use crate::history::FleetSample;
use crate::log::Records;
use crate::openapi;
use crate::recent::Situation;

/// What is said where there is no fleet.
pub(super) const NO_FLEET: &str =
    "the service does not know the fleet yet: send its whole state with PUT /v1/fleet";

/// Fleets of up to this many hosts are kept as they were before each decision, to explain it.
const EXPLAINED_HOSTS: usize = 1000;

/// The fleet, if there is one.
pub(super) struct KeptFleet {
    world: Arc<World>,
    fleet: Mutex<Option<LiveFleet>>,
}

impl KeptFleet {
    /// No fleet yet, of `world`.
    pub(super) fn new(world: &Arc<World>) -> Self {
        Self {
            world: Arc::clone(world),
            fleet: Mutex::new(None),
        }
    }

    /// Begins with `fleet`.
    pub(super) fn begin(&mut self, fleet: Option<LiveFleet>) {
        *self.fleet.get_mut() = fleet;
    }

    async fn lock(&self) -> Result<MutexGuard<'_, Option<LiveFleet>>, Refusal> {
        timeout(WAIT_LIMIT, self.fleet.lock()).await.map_err(|_| {
            let detail = "the fleet is busy";
            Refusal::new(StatusCode::SERVICE_UNAVAILABLE, detail)
        })
    }
}

/// What may stand after the `?`, in the description.
#[derive(IntoParams)]
#[into_params(parameter_in = Query)]
#[expect(dead_code, reason = "only its description is used")]
pub(super) struct FleetQuery {
    /// Whether the whole state is told, or numbers only; the state if absent.
    #[param(inline)]
    view: Option<FleetDetail>,
}

/// How much of the fleet is told.
#[derive(ToSchema)]
#[serde(rename_all = "kebab-case")]
#[expect(dead_code, reason = "only its description is used")]
enum FleetDetail {
    /// The whole state.
    State,
    /// Numbers only.
    Summary,
}

/// Take a whole state as that of the fleet
///
/// From then on the service keeps the fleet in step with what it is told, and decides on it. What
/// was known of the fleet before is forgotten.
#[utoipa::path(
    put,
    path = "/v1/fleet",
    operation_id = "put_fleet",
    tag = "fleet",
    request_body(content = DecisionRequest, example = json!(openapi::example_request())),
    responses(
        (status = 200, description = "The fleet in numbers, without its state.", body = FleetResponse),
        BodyRefusals,
    ),
    security(("bearer" = []), ()),
)]
pub(super) async fn put_fleet(State(app): State<Arc<App>>, request: Request) -> Response {
    respond(&app, app.put_fleet(request).await)
}

/// Tell the fleet that is kept
///
/// Where its live twin has it by now.
#[utoipa::path(
    get,
    path = "/v1/fleet",
    operation_id = "fleet",
    tag = "fleet",
    params(FleetQuery),
    responses(
        (status = 200, description = "The fleet.", body = FleetResponse),
        (status = 409, description = "No fleet is kept yet.",
         body = Problem, content_type = "application/problem+json"),
        ParameterRefusals,
    ),
    security(("bearer" = []), ()),
)]
pub(super) async fn fleet(State(app): State<Arc<App>>, RawQuery(query): RawQuery) -> Response {
    respond(&app, app.fleet(query.as_deref()).await)
}

/// Hold predictions against observations
///
/// How far the live twin's utilization, power, response times and durations are from those that
/// telemetry tells, by host, and which of these errors have changed.
#[utoipa::path(
    get,
    path = "/v1/fleet/drift",
    operation_id = "drift",
    tag = "fleet",
    responses(
        (status = 200, description = "The drift.", body = DriftReport),
        (status = 409, description = "No fleet is kept yet.",
         body = Problem, content_type = "application/problem+json"),
        Refusals,
    ),
    security(("bearer" = []), ()),
)]
pub(super) async fn drift(State(app): State<Arc<App>>) -> Response {
    respond(&app, app.drift().await)
}

/// Tell what happened in the fleet
///
/// Arrivals, starts, ends, lives of hosts and measurements, in any order. Which fields a delta has
/// follows from its kind. What cannot be true of the fleet is refused as a whole, and what changes
/// nothing is told.
#[utoipa::path(
    post,
    path = "/v1/telemetry",
    operation_id = "tell",
    tag = "fleet",
    request_body(content = TelemetryRequest, example = json!(openapi::example(openapi::TELEMETRY))),
    responses(
        (status = 200, description = "What became of it.", body = TelemetryResponse),
        (status = 409, description = "No fleet is kept yet, or its clock is beyond this time.",
         body = Problem, content_type = "application/problem+json"),
        BodyRefusals,
    ),
    security(("bearer" = []), ()),
)]
pub(super) async fn telemetry(State(app): State<Arc<App>>, request: Request) -> Response {
    respond(&app, app.note(request).await)
}

fn respond(app: &App, result: Result<Vec<u8>, Refusal>) -> Response {
    match result {
        Ok(body) => json(StatusCode::OK, body),
        Err(refusal) => refusal.into_response(app),
    }
}

/// Does `work` where it keeps no other request waiting, if it is `large`.
fn apart<T>(large: bool, work: impl FnOnce() -> T) -> T {
    if large && Handle::current().runtime_flavor() == RuntimeFlavor::MultiThread {
        tokio::task::block_in_place(work)
    } else {
        work()
    }
}

/// Changes the fleet by `work`. After a panic, which would be a defect, the fleet is not known any
/// more: half of a change is worse than none.
fn change<T>(
    kept: &mut Option<LiveFleet>,
    work: impl FnOnce(&mut LiveFleet) -> Result<T, Refusal>,
) -> Result<T, Refusal> {
    let Some(fleet) = kept else {
        return Err(Refusal::no_fleet());
    };
    match catch_unwind(AssertUnwindSafe(|| work(fleet))) {
        Ok(result) => result,
        Err(_) => {
            tracing::error!("a change of the fleet panicked: it is forgotten");
            *kept = None;
            let detail = "the change failed: send the whole state again with PUT /v1/fleet";
            Err(Refusal::new(StatusCode::INTERNAL_SERVER_ERROR, detail))
        }
    }
}

impl App {
    async fn put_fleet(&self, request: Request) -> Result<Vec<u8>, Refusal> {
        let _admitted = self.admit()?;
        let caller = request.extensions().get::<Caller>().cloned();
        let body = self.json_body(request).await?;
        let world = &self.fleet.world;
        let built = apart(body.len() > INLINE_BYTES, || {
            let made = catch_unwind(|| -> Result<_, Refusal> {
                let view = DecisionRequest::from_json(&body)?.to_view(world)?;
                let fleet = LiveFleet::put(world, &view)?;
                Ok((view, fleet))
            });
            made.unwrap_or_else(|_| {
                tracing::error!("a state panicked");
                let detail = "the state could not be taken";
                Err(Refusal::new(StatusCode::INTERNAL_SERVER_ERROR, detail))
            })
        });
        let (view, fleet) = built?;
        let mut kept = self.fleet.lock().await?;
        let input = FleetInput::Put(Box::new(view));
        let records = self.records(caller.as_ref());
        let last = records.input(&input).map_err(FleetError::from)?;
        let summary = summary(&fleet);
        *kept = Some(fleet);
        drop(kept);
        self.log.committed(last).await?;
        tracing::info!("the fleet is known");
        Ok(summary)
    }

    async fn fleet(&self, query: Option<&str>) -> Result<Vec<u8>, Refusal> {
        let whole = match query {
            None | Some("" | "view=state") => true,
            Some("view=summary") => false,
            Some(_) => {
                let detail = "expected ?view=state, ?view=summary or nothing";
                return Err(Refusal::in_parameter("view", detail));
            }
        };
        let _admitted = self.admit()?;
        let kept = self.fleet.lock().await?;
        let fleet = known(&kept)?;
        let response = || FleetResponse::of(fleet.world(), fleet.live(), whole);
        // A response of names and finite numbers always serializes.
        Ok(apart(whole, || {
            serde_json::to_vec(&response()).unwrap_or_default()
        }))
    }

    async fn drift(&self) -> Result<Vec<u8>, Refusal> {
        let _admitted = self.admit()?;
        let kept = self.fleet.lock().await?;
        let fleet = known(&kept)?;
        let report = fleet.drift().report(fleet.world(), fleet.now());
        Ok(serde_json::to_vec(&report).unwrap_or_default())
    }

    async fn note(&self, request: Request) -> Result<Vec<u8>, Refusal> {
        let _admitted = self.admit()?;
        let caller = request.extensions().get::<Caller>().cloned();
        let body = self.json_body(request).await?;
        let large = body.len() > INLINE_BYTES;
        let request = apart(large, || TelemetryRequest::from_json(&body))?;
        let mut kept = self.fleet.lock().await?;
        let (noted, last) = apart(large, || {
            change(&mut kept, |fleet| {
                let deltas = request.to_deltas(fleet.world(), &|id| fleet.application_of(id))?;
                let now = SimTime(request.now_ns);
                let input = FleetInput::Observe { now, deltas };
                fleet.check(&input)?;
                let records = self.records(caller.as_ref());
                let last = records.input(&input).map_err(FleetError::from)?;
                let noted = fleet.accept(&input)?;
                Ok((TelemetryResponse::of(fleet.now(), &noted), last))
            })
        })?;
        drop(kept);
        self.log.committed(last).await?;
        self.telemetry.fleet.noted(noted.applied, noted.ignored);
        Ok(serde_json::to_vec(&noted).unwrap_or_default())
    }

    /// Decides on the fleet that is kept, as `request`, read from `body`, asks.
    pub(super) async fn decide_kept(
        &self,
        decider: &mut Decider,
        request: &FleetDecisionRequest<'_>,
        body: &[u8],
        caller: Option<&Caller>,
    ) -> Result<Taken, Refusal> {
        let records = self.records(caller);
        let mut kept = self.fleet.lock().await?;
        let decided = change(&mut kept, |fleet| {
            let world = Arc::clone(fleet.world());
            let deltas = request.to_deltas(&world, &|id| fleet.application_of(id))?;
            let ask = Ask {
                request: body,
                now: SimTime(request.now_ns),
                epoch: request.epoch(),
                next_boundary: request.next_boundary_ns.map(SimTime),
                deltas,
                dry_run: request.dry_run,
                with_view: world.hosts.len() <= EXPLAINED_HOSTS,
            };
            decide(fleet, decider, ask, &records).map_err(|error| match error {
                FleetError::Delta(error) => Refusal::from(request.located(error)),
                other => other.into(),
            })
        })?;
        let (applied, ignored) = (
            decided.noted.applied as u64,
            decided.noted.ignored.len() as u64,
        );
        self.telemetry.fleet.noted(applied, ignored);
        Ok(Taken {
            id: decided.id,
            answer: decided.answer,
            situation: decided.view.map(|view| Situation::View(Arc::new(view))),
            last: decided.last,
            changes: !request.dry_run,
        })
    }

    /// Where what the fleet accepts from `caller` is kept.
    fn records<'a>(&'a self, caller: Option<&'a Caller>) -> Records<'a> {
        Records {
            log: &self.log,
            metrics: &self.telemetry.log,
            client: caller.and_then(Caller::name),
        }
    }

    /// Writes the fleet into the log whole, if much has come in since it was last; `at_the_end` if
    /// anything has.
    pub(super) async fn checkpoint(&self, at_the_end: bool) {
        if !self.log.wants_checkpoint(at_the_end) {
            return;
        }
        let kept = self.fleet.fleet.lock().await;
        let Some(fleet) = kept.as_ref() else {
            return;
        };
        let written = apart(true, || self.log.checkpoint(fleet, &self.telemetry.log));
        if let Err(error) = written {
            tracing::error!(%error, "no checkpoint of the fleet was written");
        }
    }

    /// Takes a sample of the service and its fleet for the dashboard.
    pub(super) async fn sample(&self) {
        let fleet = {
            let mut kept = self.fleet.fleet.lock().await;
            kept.as_mut().map(|fleet| {
                let window = fleet.take_window();
                FleetSample::of(fleet, &window)
            })
        };
        let since = SystemTime::now().duration_since(UNIX_EPOCH);
        let at_s = since.unwrap_or_default().as_secs_f64();
        self.telemetry.history.sample(at_s, fleet);
    }

    /// Brings the gauges of the fleet up to date.
    pub(super) async fn show_fleet(&self) {
        if let Ok(kept) = self.fleet.lock().await
            && let Some(fleet) = kept.as_ref()
        {
            self.telemetry.fleet.show(fleet);
        }
    }
}

fn known(kept: &Option<LiveFleet>) -> Result<&LiveFleet, Refusal> {
    kept.as_ref().ok_or_else(Refusal::no_fleet)
}

/// What a fleet was taken to be.
fn summary(fleet: &LiveFleet) -> Vec<u8> {
    let response = FleetResponse::of(fleet.world(), fleet.live(), false);
    serde_json::to_vec(&response).unwrap_or_default()
}
