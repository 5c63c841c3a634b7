//! The client of the decision service: the fleet whole, what happens in it, and decisions.

use std::borrow::Cow;
use std::time::Instant;

use anyhow::{Context, Result};
use reqwest::Method;
use serde::Serialize;
use twin::World;
use twin::units::SimTime;
use twin::wire::{
    ArrivalRates, DecisionRequest, Epoch, FleetDecisionRequest, FleetState, HostState, Lifecycle,
    NewRequest, SCHEMA, TelemetryDelta, TelemetryRequest, WorldName,
};
use twin::world::Application;

use crate::Args;
use crate::clients::Http;

/// The service, and the fleet's clock.
pub(super) struct Service {
    http: Http,
    url: String,
    token: Option<String>,
    world: String,
    began: Instant,
    speed: f64,
}

impl Service {
    pub(super) fn new(args: &Args, world: &World) -> Result<Self> {
        let read = |path: &std::path::PathBuf| -> Result<String> {
            let text = std::fs::read_to_string(path);
            let text = text.with_context(|| format!("--token-file {}", path.display()))?;
            Ok(text.trim().into())
        };
        Ok(Self {
            http: Http::new()?,
            url: args.service.trim_end_matches('/').into(),
            token: args.token_file.as_ref().map(read).transpose()?,
            world: world.name.clone(),
            began: Instant::now(),
            speed: args.speed,
        })
    }

    /// The fleet's time.
    pub(super) fn now_ns(&self) -> u64 {
        SimTime::from_seconds(self.began.elapsed().as_secs_f64() * self.speed).0
    }

    /// Messages name the world, so that a service of another one refuses them.
    fn world(&self) -> Option<WorldName<'_>> {
        let name = Cow::Borrowed(self.world.as_str());
        Some(WorldName { name, hash: None })
    }

    fn call(&self, method: &Method, path: &str, body: &impl Serialize) -> Result<Vec<u8>> {
        let body = serde_json::to_value(body)?;
        let request = self
            .http
            .json(method, &format!("{}{path}", self.url), &body);
        self.http.ask(match &self.token {
            Some(token) => request.bearer_auth(token),
            None => request,
        })
    }

    /// Tells the whole state: these hosts serve, and nothing runs yet.
    pub(super) fn put(&self, world: &World, up: &[bool]) -> Result<()> {
        let host = |&up: &bool| HostState {
            name: None,
            lifecycle: if up { Lifecycle::On } else { Lifecycle::Off },
            ready_at_ns: None,
            queue: Vec::new(),
            resident: Vec::new(),
            speed: None,
            credits: None,
            models: Vec::new(),
            waiting_containers: Vec::new(),
        };
        let rates = |application: &Application| ArrivalRates {
            application: Cow::Owned(application.name.clone()),
            per_s: [0.0; 3],
        };
        let now_ns = self.now_ns();
        let state = FleetState {
            now_ns,
            epoch: Epoch::Boundary,
            next_boundary_ns: now_ns + world.interval.0,
            next_request: 0,
            hosts: up.iter().map(host).collect(),
            requests: Vec::new(),
            transfers: Vec::new(),
            migrations: Vec::new(),
            arrival_rates: world.applications.iter().map(rates).collect(),
        };
        let request = DecisionRequest {
            schema: SCHEMA,
            world: self.world(),
            state,
        };
        self.call(&Method::PUT, "/v1/fleet", &request).map(drop)
    }

    /// Tells what happened.
    pub(super) fn tell(&self, deltas: Vec<TelemetryDelta<'_>>) -> Result<()> {
        let request = TelemetryRequest {
            schema: SCHEMA,
            world: self.world(),
            now_ns: self.now_ns(),
            deltas,
        };
        self.call(&Method::POST, "/v1/telemetry", &request)
            .map(drop)
    }

    /// Asks for a decision, where these requests are new; the body of the answer.
    pub(super) fn decide(&self, epoch: Epoch, requests: Vec<NewRequest<'_>>) -> Result<Vec<u8>> {
        let request = FleetDecisionRequest {
            schema: SCHEMA,
            world: self.world(),
            now_ns: self.now_ns(),
            epoch,
            next_boundary_ns: None,
            requests,
            telemetry: Vec::new(),
            dry_run: false,
        };
        self.call(&Method::POST, "/v1/decisions", &request)
    }
}
