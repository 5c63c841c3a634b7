//! The fleet that the service keeps: told by deltas alone, it sees and decides what the fleet's own
//! twin does.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::{Arc, Mutex};

use infer::decider::Decider;
use infer::fleet::LiveFleet;
use infer::service::Limits;
use infer::source::Source;
use serde_json::{Value, json};
use twin::decision::Decision;
use twin::ids::{ApplicationId, HostId, RequestId, VariantId};
use twin::observation::Observation;
use twin::policy::{Policy, PolicyError};
use twin::simulate::{self, EventSink, Hooks, Options};
use twin::state::{Epoch, State};
use twin::units::SimTime;
use twin::wire::{
    DecisionRequest, DecisionResponse, DeltaKind, FleetDecisionRequest, NewRequest, SCHEMA,
    SeenLifecycle, TelemetryDelta,
};
use twin::world::World;

use crate::support::{Running, agent, decider, embedded, small};

type Reports = Arc<Mutex<Vec<TelemetryDelta<'static>>>>;

/// Writes down what a deployer and the hosts would report.
struct Reporter<'a> {
    world: &'a World,
    /// Generated tokens by request.
    tokens: Vec<u32>,
    deployed: BTreeMap<RequestId, VariantId>,
    applications: Vec<ApplicationId>,
    reports: Reports,
}

impl Reporter<'_> {
    fn tell(&self, at: SimTime, delta: TelemetryDelta<'static>) {
        let at_ns = Some(at.0);
        let delta = TelemetryDelta { at_ns, ..delta };
        self.reports.lock().expect("nobody panics").push(delta);
    }
}

impl EventSink for Reporter<'_> {
    fn deployed(&mut self, _: SimTime, deployment: &twin::decision::Deployment) {
        self.deployed.insert(deployment.request, deployment.variant);
    }

    fn fragment_done(&mut self, now: SimTime, request: RequestId, index: usize, host: HostId) {
        let place = usize::try_from(request.0).expect("few");
        let variant = self.deployed[&request];
        let fragments = &self
            .world
            .variant(self.applications[place], variant)
            .fragments;
        let tells = fragments[index].work_mi_per_generated_token > 0.0;
        let delta = TelemetryDelta {
            request: Some(request.0),
            fragment: Some(u16::try_from(index).expect("few")),
            host: Some(host.0),
            generated_tokens: tells.then_some(self.tokens[place]),
            ..TelemetryDelta::of(DeltaKind::Finished)
        };
        self.tell(now, delta);
    }

    fn lifecycle(&mut self, now: SimTime, host: HostId, lifecycle: twin::host::Lifecycle) {
        let (lifecycle, ready_at_ns) = match lifecycle {
            twin::host::Lifecycle::Off => (SeenLifecycle::Off, None),
            twin::host::Lifecycle::On => (SeenLifecycle::On, None),
            twin::host::Lifecycle::Draining => (SeenLifecycle::Draining, None),
            twin::host::Lifecycle::Booting { ready_at } => {
                (SeenLifecycle::Booting, Some(ready_at.0))
            }
        };
        let delta = TelemetryDelta {
            host: Some(host.0),
            lifecycle: Some(lifecycle),
            ready_at_ns,
            ..TelemetryDelta::of(DeltaKind::Host)
        };
        self.tell(now, delta);
    }
}

/// A deployer that tells the service what is new and asks what to do.
struct Deployer {
    url: String,
    agent: ureq::Agent,
    reports: Reports,
    known: BTreeSet<RequestId>,
    begun: bool,
    /// Looks at the service's fleet at every so many-th epoch.
    looks_every: usize,
    epochs: usize,
}

impl Deployer {
    fn ask(&self, request: &FleetDecisionRequest<'_>) -> Vec<u8> {
        let url = format!("{}/v1/decisions", self.url);
        let mut response = self.agent.post(url).send_json(request).expect("it answers");
        let body = response.body_mut().read_to_vec().expect("a body");
        assert_eq!(response.status(), 200, "{}", String::from_utf8_lossy(&body));
        body
    }

    fn put(&self, observation: &Observation<'_>) {
        let view = observation.view();
        let request = DecisionRequest::from_view(observation.world(), &view);
        let url = format!("{}/v1/fleet", self.url);
        let response = self.agent.put(url).send_json(&request).expect("it answers");
        assert_eq!(response.status(), 200);
    }

    /// The service's fleet must be what is observed.
    fn look(&self, observation: &Observation<'_>) {
        let view = observation.view();
        let known = DecisionRequest::from_view(observation.world(), &view);
        let mut known = serde_json::to_value(&known.state).expect("JSON");
        let url = format!("{}/v1/fleet", self.url);
        let mut response = self.agent.get(url).call().expect("it answers");
        let mut told: Value = response.body_mut().read_json().expect("JSON");
        let told = &mut told["state"];
        // Why a decision is due is asked with each decision.
        for state in [&mut known, told] {
            state.as_object_mut().expect("an object").remove("epoch");
        }
        assert_eq!(*told, known, "at {}", observation.now());
    }
}

impl Policy for Deployer {
    fn name(&self) -> &str {
        "deployer"
    }

    fn decide(
        &mut self,
        observation: &Observation<'_>,
        decision: &mut Decision,
    ) -> Result<(), PolicyError> {
        let world = observation.world();
        if !self.begun {
            self.put(observation);
            self.begun = true;
            self.known.extend(observation.waiting().map(|w| w.id));
            self.reports.lock().expect("nobody panics").clear();
        }
        let known = &mut self.known;
        let requests = observation
            .waiting()
            .filter(|w| known.insert(w.id))
            .map(|w| NewRequest {
                id: w.id.0,
                application: world.applications[w.application.index()]
                    .name
                    .as_str()
                    .into(),
                arrived_ns: Some(observation.now().since(w.age).0),
                context_tokens: w.context_tokens,
            });
        let mut request = FleetDecisionRequest {
            schema: SCHEMA,
            world: None,
            now_ns: observation.now().0,
            epoch: match observation.epoch() {
                Epoch::Boundary => twin::wire::Epoch::Boundary,
                _ => twin::wire::Epoch::Arrival,
            },
            next_boundary_ns: None,
            requests: requests.collect(),
            telemetry: std::mem::take(&mut *self.reports.lock().expect("nobody panics")),
            dry_run: false,
        };
        if self.epochs.is_multiple_of(self.looks_every) {
            request.dry_run = true;
            self.ask(&request);
            self.look(observation);
            (request.requests, request.telemetry) = (Vec::new(), Vec::new());
            request.dry_run = false;
        }
        self.epochs += 1;
        let body = self.ask(&request);
        let response = DecisionResponse::from_json(&body).expect("of the schema");
        assert!(!response.fallback, "{:?}", response.fallback_reason);
        response
            .decision
            .to_decision(world, &observation.view(), decision)
            .expect("the names are the world's");
        Ok(())
    }
}

/// Runs episodes with decisions of a service that is told by deltas, and in process.
fn compare(world: &Arc<World>, policy: &str, intervals: u32, looks_every: usize) {
    let service = Running::start(vec![decider(world, policy)], Limits::default());
    let options = Options {
        intervals: Some(intervals),
        ..Options::new(2)
    };
    let mut near = twin::policy::by_name(policy, world, 1).expect("the policy exists");
    let near = simulate::run(world, near.as_mut(), &options).expect("the run ends");
    let arrivals = simulate::arrivals(world, &options);
    let reports = Reports::default();
    let mut reporter = Reporter {
        world,
        tokens: arrivals.iter().map(|a| a.generated_tokens).collect(),
        applications: arrivals.iter().map(|a| a.application).collect(),
        deployed: BTreeMap::new(),
        reports: Arc::clone(&reports),
    };
    let mut far = Deployer {
        url: service.url.clone(),
        agent: agent(),
        reports,
        known: BTreeSet::new(),
        begun: false,
        looks_every,
        epochs: 0,
    };
    let mut hooks = Hooks {
        events: Some(&mut reporter),
        ..Hooks::default()
    };
    let run = simulate::run_with(world, &mut far, &options, &mut hooks).expect("the run ends");
    assert_eq!(
        format!("{:?}", run.qos),
        format!("{:?}", near.qos),
        "{policy}"
    );
    assert!(far.epochs > 5);
}

#[test]
fn told_by_deltas_the_service_decides_as_in_process() {
    compare(&small(), "least-loaded", 12, 1);
    compare(&small(), "greedy", 12, 1);
    compare(&small(), "edge-controller", 12, 1);
    compare(&embedded("scinet-16"), "greedy", 30, 5);
    compare(&embedded("azure-llm"), "least-loaded", 2, 40);
}

/// The committed model of `name`, on the fleet and on its live twin.
fn model_decides_the_same(name: &str, intervals: u32) {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../models")
        .join(name);
    let source = Source::model(&folder).expect("the model is committed");
    let world = Arc::new(source.world(None).expect("its world is embedded"));
    let options = Options {
        intervals: Some(intervals),
        ..Options::new(6)
    };
    let arrivals = simulate::arrivals(&world, &options);
    let deciders = [0; 2].map(|_| Decider::new(&world, &source, 1).expect("a decider"));
    let reports = Reports::default();
    let mut reporter = Reporter {
        world: &world,
        tokens: arrivals.iter().map(|a| a.generated_tokens).collect(),
        applications: arrivals.iter().map(|a| a.application).collect(),
        deployed: BTreeMap::new(),
        reports: Arc::clone(&reports),
    };
    let mut both = Both {
        fleet: None,
        deciders,
        reports,
        known: BTreeSet::new(),
        epochs: 0,
    };
    let mut hooks = Hooks {
        events: Some(&mut reporter),
        ..Hooks::default()
    };
    simulate::run_with(&world, &mut both, &options, &mut hooks).expect("the run ends");
    assert!(both.epochs > 10, "{}", both.epochs);
}

/// A model on the fleet and on its live twin, in process.
struct Both {
    fleet: Option<LiveFleet>,
    deciders: [Decider; 2],
    reports: Reports,
    known: BTreeSet<RequestId>,
    epochs: usize,
}

impl Policy for Both {
    fn name(&self) -> &str {
        "both"
    }

    fn decide(
        &mut self,
        observation: &Observation<'_>,
        decision: &mut Decision,
    ) -> Result<(), PolicyError> {
        let world = Arc::clone(self.deciders[0].world());
        let reports = std::mem::take(&mut *self.reports.lock().expect("nobody panics"));
        let fleet = self.fleet.get_or_insert_with(|| {
            self.known.extend(observation.waiting().map(|w| w.id));
            LiveFleet::put(&world, &observation.view()).expect("a view is a state")
        });
        let known = &mut self.known;
        let requests = observation.waiting().filter(|w| known.insert(w.id));
        let request = FleetDecisionRequest {
            schema: SCHEMA,
            world: None,
            now_ns: observation.now().0,
            epoch: twin::wire::Epoch::Arrival,
            next_boundary_ns: None,
            requests: requests
                .map(|w| NewRequest {
                    id: w.id.0,
                    application: world.applications[w.application.index()]
                        .name
                        .as_str()
                        .into(),
                    arrived_ns: Some(observation.now().since(w.age).0),
                    context_tokens: w.context_tokens,
                })
                .collect(),
            telemetry: if self.epochs == 0 {
                Vec::new()
            } else {
                reports
            },
            dry_run: false,
        };
        let deltas = request
            .to_deltas(&world, &|id| fleet.application_of(id))
            .expect("the names are the world's");
        fleet
            .observe(observation.now(), &deltas)
            .expect("the truth");
        if observation.epoch() == Epoch::Boundary {
            let boundary = infer::fleet::FleetInput::Boundary { next: None };
            fleet.accept(&boundary).expect("a boundary");
        }
        let [near, far] = &mut self.deciders;
        let near = near.decide_on(observation);
        let far = far.decide_on(&fleet.observation(observation.epoch()));
        assert_eq!(near.decision, far.decision, "at {}", observation.now());
        assert!(near.fallback.is_none());
        decision.clone_from(near.decision);
        let applied = far.decision.clone();
        fleet.apply(&applied);
        self.epochs += 1;
        Ok(())
    }
}

#[test]
fn the_committed_models_decide_the_same_on_the_live_twin() {
    model_decides_the_same("scinet-16", 15);
    model_decides_the_same("azure-llm", 1);
}

/// A client of a service of the small world.
struct Client {
    service: Running,
    agent: ureq::Agent,
}

impl Client {
    fn new() -> Self {
        let service = Running::start(vec![decider(&small(), "greedy")], Limits::default());
        Self {
            service,
            agent: agent(),
        }
    }

    fn of(response: Result<ureq::http::Response<ureq::Body>, ureq::Error>) -> (u16, Value) {
        let mut response = response.expect("it answers");
        let status = response.status().as_u16();
        (status, response.body_mut().read_json().expect("JSON"))
    }

    fn get(&self, path: &str) -> (u16, Value) {
        Self::of(self.agent.get(format!("{}{path}", self.service.url)).call())
    }

    fn post(&self, path: &str, body: &Value) -> (u16, Value) {
        let url = format!("{}{path}", self.service.url);
        Self::of(self.agent.post(url).send_json(body))
    }

    fn put_fleet(&self, body: &Value) -> (u16, Value) {
        let url = format!("{}/v1/fleet", self.service.url);
        Self::of(self.agent.put(url).send_json(body))
    }

    fn tell(&self, now_ns: u64, deltas: Value) -> (u16, Value) {
        let body = json!({"schema": 1, "now_ns": now_ns, "deltas": deltas});
        self.post("/v1/telemetry", &body)
    }

    fn metrics(&self) -> String {
        let url = format!("{}/metrics", self.service.url);
        let mut response = self.agent.get(url).call().expect("it answers");
        response.body_mut().read_to_string().expect("text")
    }
}

fn whole_state() -> Value {
    let world = small();
    let view = Observation::new(&world, &State::new(&world), Epoch::Boundary).view();
    serde_json::to_value(DecisionRequest::from_view(&world, &view)).expect("JSON")
}

const SECOND: u64 = 1_000_000_000;

#[test]
fn who_asks_twice_is_answered_the_same() {
    let client = Client::new();
    client.put_fleet(&whole_state());
    let ask = json!({"schema": 1, "now_ns": SECOND, "epoch": "arrival",
        "requests": [{"id": 3, "application": "caption"}]});
    let (_, first) = client.post("/v1/decisions", &ask);
    let (status, second) = client.post("/v1/decisions", &ask);
    assert_eq!(status, 200, "{second}");
    assert_eq!(
        first["decision"]["deployments"],
        second["decision"]["deployments"]
    );
    assert_eq!(first["decision"]["deployments"][0]["request"], 3);
    let (_, fleet) = client.get("/v1/fleet?view=summary");
    assert_eq!(fleet["totals"]["requests"], 1);
}

#[test]
fn the_examples_of_the_stateful_way_are_answered() {
    let client = Client::new();
    let example = |name: &str| -> Value {
        let path = Path::new(env!("CARGO_MANIFEST_DIR"))
            .join("examples")
            .join(name);
        let text = std::fs::read_to_string(path).expect("the example is there");
        serde_json::from_str(&text).expect("the example is JSON")
    };
    let (status, body) = client.put_fleet(&example("request.json"));
    assert_eq!(status, 200, "{body}");
    let telemetry = example("telemetry.json");
    let (status, body) = client.post("/v1/telemetry", &telemetry);
    assert_eq!((status, &body["ignored"]), (200, &json!(0)), "{body}");
    assert_eq!(
        body["applied"],
        telemetry["deltas"].as_array().expect("a list").len()
    );
    let (status, body) = client.post("/v1/decisions", &example("ask.json"));
    assert_eq!(status, 200, "{body}");
    assert_eq!(body["decision"]["deployments"][0]["request"], 58, "{body}");
}

#[test]
fn without_a_fleet_there_is_a_conflict() {
    let client = Client::new();
    let ask = json!({"schema": 1, "now_ns": 0, "epoch": "boundary"});
    for (status, body) in [
        client.get("/v1/fleet"),
        client.get("/v1/fleet/drift"),
        client.tell(0, json!([])),
        client.post("/v1/decisions", &ask),
    ] {
        assert_eq!(status, 409, "{body}");
        assert_eq!(body["type"], "urn:problem-type:infer:fleet-conflict");
        assert!(
            body["detail"]
                .as_str()
                .expect("text")
                .contains("PUT /v1/fleet")
        );
    }
    // The stateless way needs none.
    let (status, body) = client.post("/v1/decisions", &whole_state());
    assert_eq!(status, 200, "{body}");
}

#[test]
fn a_request_from_arrival_to_answer() {
    let client = Client::new();
    let (status, body) = client.put_fleet(&whole_state());
    assert_eq!(status, 200, "{body}");
    let ask = json!({"schema": 1, "now_ns": SECOND, "epoch": "arrival",
        "requests": [{"id": 7, "application": "detect"}]});
    let (status, body) = client.post("/v1/decisions", &ask);
    assert_eq!(status, 200, "{body}");
    let deployment = &body["decision"]["deployments"][0];
    assert_eq!(deployment["request"], 7);
    let host = deployment["hosts"][0].as_u64().expect("a host");
    let (_, fleet) = client.get("/v1/fleet?view=summary");
    let at = usize::try_from(host).expect("small");
    assert_eq!(fleet["hosts"][at]["resident"], 1);
    assert_eq!(fleet["totals"]["requests"], 1);
    assert!(fleet.get("state").is_none());

    let deltas = json!([
        {"kind": "started", "request": 7, "fragment": 0, "host": host, "at_ns": 2 * SECOND},
        {"kind": "finished", "request": 7, "fragment": 0, "host": host, "at_ns": 3 * SECOND},
        {"kind": "answered", "request": 7, "at_ns": 3 * SECOND + 1000},
        {"kind": "sample", "host": host, "at_ns": 4 * SECOND, "utilization": 0.3, "power_w": 13},
    ]);
    let (status, body) = client.tell(4 * SECOND, deltas.clone());
    assert_eq!((status, &body["applied"]), (200, &json!(4)), "{body}");
    assert_eq!(body["now_ns"], 4 * SECOND);
    // Told again, nothing happens: the sample is one more, the rest has ended.
    let (status, body) = client.tell(4 * SECOND, deltas);
    assert_eq!((status, &body["ignored"]), (200, &json!(3)), "{body}");
    assert_eq!(
        body["ignored_deltas"][0],
        json!({"delta": 0, "reason": "ended"})
    );
    let (_, fleet) = client.get("/v1/fleet");
    assert_eq!(fleet["state"]["requests"], json!([]));

    let (status, drift) = client.get("/v1/fleet/drift");
    assert_eq!(status, 200);
    assert_eq!(drift["overall"]["response"]["count"], 1, "{drift}");
    assert_eq!(drift["overall"]["duration"]["count"], 1, "{drift}");
    let page = client.metrics();
    for line in [
        "infer_fleet_telemetry_deltas_total{outcome=\"applied\"} 6",
        "infer_fleet_telemetry_deltas_total{outcome=\"ignored\"} 3",
        "infer_fleet_hosts{lifecycle=\"off\"} 1",
        "infer_fleet_requests 0",
        "infer_fleet_clock_seconds 4",
    ] {
        assert!(page.contains(line), "{line} is missing in\n{page}");
    }
    assert!(page.contains("infer_fleet_response_bias_seconds"));
}

/// The report that request 1 was deployed to `hosts`.
fn deployed(hosts: &Value) -> Value {
    json!({"kind": "deployed", "request": 1, "variant": "split", "hosts": hosts})
}

/// Deltas that are wrong after request 1 has arrived and was deployed, and the field that is.
fn wrong_deltas() -> Vec<(Value, &'static str)> {
    let started = json!({"kind": "started", "request": 1});
    vec![
        (started, "deltas[2].fragment"),
        (
            json!({"kind": "answered", "request": 9}),
            "deltas[2].request",
        ),
        (
            json!({"kind": "answered", "request": 1, "host": 0}),
            "deltas[2].host",
        ),
        (
            json!({"kind": "finished", "request": 1, "fragment": 2}),
            "deltas[2].fragment",
        ),
        (
            json!({"kind": "finished", "request": 1, "fragment": 0, "host": 1}),
            "deltas[2].host",
        ),
        (
            json!({"kind": "host", "host": 3, "lifecycle": "on"}),
            "deltas[2].host",
        ),
        (
            json!({"kind": "host", "host": 0, "lifecycle": "on", "ready_at_ns": 1}),
            "deltas[2].ready_at_ns",
        ),
        (
            json!({"kind": "host", "host": 0, "lifecycle": "gone"}),
            "deltas[2].lifecycle",
        ),
        (
            json!({"kind": "sample", "host": 0, "utilization": 1.5}),
            "deltas[2].utilization",
        ),
        (
            json!({"kind": "sample", "host": 0, "speed": 0}),
            "deltas[2].speed",
        ),
        (
            json!({"kind": "arrived", "request": 2, "application": "captain"}),
            "deltas[2].application",
        ),
        (
            json!({"kind": "arrived", "request": 2, "application": "caption", "at_ns": 9 * SECOND}),
            "deltas[2].at_ns",
        ),
        (
            json!({"kind": "deployed", "request": 1, "variant": "spilt", "hosts": [0, 0]}),
            "deltas[2].variant",
        ),
        (deployed(&json!([0])), "deltas[2].hosts"),
        (deployed(&json!([0, 9])), "deltas[2].hosts[1]"),
        (
            json!({"kind": "arrived", "request": null}),
            "deltas[2].request",
        ),
        (json!({"kind": "arrived", "wish": 1}), "deltas[2].wish"),
    ]
}

#[test]
fn what_is_wrong_is_named_and_changes_nothing() {
    let client = Client::new();
    client.put_fleet(&whole_state());
    let arrived = json!({"kind": "arrived", "request": 1, "application": "caption"});
    for (delta, field) in wrong_deltas() {
        let deltas = json!([arrived, deployed(&json!([0, 0])), delta]);
        let (status, body) = client.tell(SECOND, deltas);
        assert_eq!(
            (status, &body["field"]),
            (422, &json!(field)),
            "{delta}: {body}"
        );
    }
    let (_, fleet) = client.get("/v1/fleet?view=summary");
    assert_eq!(
        (&fleet["totals"]["requests"], &fleet["now_ns"]),
        (&json!(0), &json!(0))
    );
}

#[test]
fn what_is_wrong_with_a_question_is_named() {
    let client = Client::new();
    client.put_fleet(&whole_state());
    for (ask, status, field) in [
        (json!({"schema": 1}), 422, "now_ns"),
        (json!({"schema": 1, "now_ns": 1}), 422, "epoch"),
        (
            json!({"schema": 1, "now_ns": 1, "epoch": "end"}),
            422,
            "epoch",
        ),
        (
            json!({"schema": 1, "now_ns": 1, "epoch": "arrival", "next_boundary_ns": 2}),
            422,
            "next_boundary_ns",
        ),
        (
            json!({"schema": 1, "now_ns": 1, "epoch": "arrival", "requests": [{"id": 1, "application": "x"}]}),
            422,
            "requests[0].application",
        ),
        (
            json!({"schema": 1, "now_ns": 1, "epoch": "arrival", "requests": [{"id": 1, "application": "detect", "arrived_ns": 5}]}),
            422,
            "requests[0].arrived_ns",
        ),
        (
            json!({"schema": 1, "now_ns": 1, "epoch": "arrival", "telemetry": [{"kind": "failed", "request": 3}]}),
            422,
            "telemetry[0].request",
        ),
        (
            json!({"schema": 1, "now_ns": 1, "epoch": "arrival", "world": {"name": "other"}}),
            422,
            "world.name",
        ),
        (
            json!({"schema": 1, "now_ns": u64::MAX, "epoch": "arrival"}),
            409,
            "now_ns",
        ),
    ] {
        let (found, body) = client.post("/v1/decisions", &ask);
        assert_eq!(
            (found, &body["field"]),
            (status, &json!(field)),
            "{ask}: {body}"
        );
    }
    let mut both = whole_state();
    both["now_ns"] = json!(1);
    let (status, body) = client.post("/v1/decisions", &both);
    assert_eq!((status, &body["field"]), (422, &json!("now_ns")), "{body}");
    let (status, body) = client.get("/v1/fleet?view=all");
    assert_eq!((status, &body["field"]), (422, &json!("view")), "{body}");
    let mut broken = whole_state();
    broken["state"]["hosts"][0]["lifecycle"] = json!("asleep");
    let (status, body) = client.put_fleet(&broken);
    assert_eq!(
        (status, &body["field"]),
        (422, &json!("state.hosts[0].lifecycle")),
        "{body}"
    );
}
