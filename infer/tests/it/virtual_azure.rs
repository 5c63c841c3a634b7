//! The virtual Azure over HTTP: tokens, TLS, lost answers, steps, deployers, hostile input.

use std::io::{BufRead, BufReader, Read};
use std::process::{Command, Stdio};
use std::sync::Arc;

use infer::service::Limits;
use infer::virtual_azure::{
    ClockKind, DeployerChoice, FaultSettings, FaultWeights, Options, Server,
};
use serde_json::{Value, json};
use twin::World;
use twin::decision::Decision;
use twin::observation::Observation;
use twin::policy;
use twin::simulate;
use twin::state::State;
use twin::wire::{DecisionBody, DecisionRequest};

use crate::support::{Running, agent, decider, embedded, small};

const GROUP: &str = "/subscriptions/00000000-0000-0000-0000-000000000001/resourceGroups/fleet";

/// A client of a server without TLS.
struct Client {
    url: String,
    agent: ureq::Agent,
    token: String,
}

impl Client {
    fn of(server: &Server) -> Self {
        Self {
            url: server.url().into(),
            agent: agent(),
            token: server.token("tester"),
        }
    }

    fn try_send(
        &self,
        method: &str,
        target: &str,
        body: &[u8],
    ) -> Result<(u16, Value), ureq::Error> {
        let request = ureq::http::Request::builder()
            .method(method)
            .uri(format!("{}{target}", self.url))
            .header("authorization", format!("Bearer {}", self.token))
            .body(body)
            .expect("a request");
        let mut response = self.agent.run(request)?;
        let text = response.body_mut().read_to_vec()?;
        let body = serde_json::from_slice(&text).unwrap_or(Value::Null);
        Ok((response.status().as_u16(), body))
    }

    fn send(&self, method: &str, target: &str, body: &Value) -> (u16, Value) {
        let body = if body.is_null() {
            Vec::new()
        } else {
            body.to_string().into_bytes()
        };
        self.try_send(method, target, &body).expect("an answer")
    }

    fn get(&self, target: &str) -> Value {
        let (status, body) = self.send("GET", target, &Value::Null);
        assert_eq!(status, 200, "{target}: {body}");
        body
    }

    fn vm(&self, name: &str, action: &str) -> (u16, Value) {
        let target = format!("{GROUP}/providers/Microsoft.Compute/virtualMachines/{name}/{action}");
        self.send("POST", &target, &Value::Null)
    }

    fn advance(&self, how: &Value) -> Value {
        let (status, body) = self.send("POST", "/virtual/advance", how);
        assert_eq!(status, 200, "{body}");
        body
    }
}

fn plain(world: &Arc<World>) -> Options {
    Options {
        tls: false,
        ..Options::stepped(Arc::clone(world))
    }
}

/// Steers a virtual Azure through `intervals` as `policy` decides: VMs through the Resource
/// Manager, and placements, where nobody inside makes them, as a deployer outside.
fn steer(client: &Client, world: &Arc<World>, policy: &str, seed: u64, intervals: u32) -> Value {
    let mut policy = policy::by_name(policy, world, seed).expect("exists");
    let names: Vec<String> = client.get("/virtual/hosts")["value"]
        .as_array()
        .expect("a list")
        .iter()
        .map(|host| host["vm"].as_str().expect("a VM").to_owned())
        .collect();
    let end_s = world.interval.seconds() * f64::from(intervals);
    loop {
        let clock = client.advance(&json!({"until_next_epoch": true, "to_s": end_s}));
        if clock["epoch"].is_null() {
            break;
        }
        let text = client.get("/virtual/state").to_string();
        let request = DecisionRequest::from_json(text.as_bytes()).expect("of the schema");
        let view = request.to_view(world).expect("of the world");
        let state = State::from_view(world, &view).expect("consistent");
        let mut decision = Decision::none();
        policy
            .decide(&Observation::new(world, &state, view.epoch), &mut decision)
            .expect("decides");
        for action in &decision.provisioning {
            let verb = if action.on { "start" } else { "deallocate" };
            let (status, body) = client.vm(&names[action.host.index()], verb);
            // The twin leaves a boot that somebody waits for alone; the cloud says so.
            assert!(status == 202 || status == 409, "{status} {body}");
        }
        let placements = Decision {
            provisioning: Vec::new(),
            ..decision
        };
        if !placements.deployments.is_empty() {
            let body = DecisionBody::from_decision(world, &view, &placements);
            let body = serde_json::to_value(body).expect("serializes");
            let (status, body) = client.send("POST", "/virtual/deployments", &body);
            assert_eq!(status, 200, "{body}");
        }
    }
    client.get("/virtual/qos")
}

/// The same in process.
fn in_process(world: &World, policy: &str, seed: u64, intervals: u32) -> Value {
    let mut policy = policy::by_name(policy, world, seed).expect("exists");
    let options = simulate::Options {
        intervals: Some(intervals),
        ..simulate::Options::new(seed)
    };
    let run = simulate::run(world, policy.as_mut(), &options).expect("runs");
    serde_json::to_value(run.qos).expect("serializes")
}

fn same_loop(world: &Arc<World>, policy: &str, seed: u64, intervals: u32) {
    let server = Server::start(Options {
        seed,
        intervals: Some(intervals),
        deployer: DeployerChoice::Outside,
        ..plain(world)
    })
    .expect("starts");
    let far = steer(&Client::of(&server), world, policy, seed, intervals);
    let near = in_process(world, policy, seed, intervals);
    for (name, value) in near.as_object().expect("an object") {
        assert_eq!(&far[name], value, "{policy}: {name}");
    }
}

#[test]
fn the_loop_through_the_resource_manager_is_the_loop_in_process() {
    same_loop(&small(), "greedy", 3, 12);
    same_loop(&embedded("scinet-16"), "threshold-autoscaler", 5, 15);
    same_loop(&embedded("azure-llm"), "greedy", 2, 1);
}

#[test]
fn a_policy_inside_places_requests() {
    let world = embedded("scinet-16");
    let start = |deployer: DeployerChoice| {
        let options = Options {
            seed: 4,
            intervals: Some(8),
            deployer,
            ..plain(&world)
        };
        Server::start(options).expect("starts")
    };
    let server = start(DeployerChoice::default());
    let inside = steer(&Client::of(&server), &world, "least-loaded", 4, 8);
    let near = in_process(&world, "least-loaded", 4, 8);
    assert_eq!(inside["objective"], near["objective"]);
    assert_eq!(inside["deployer"]["fallbacks"], 0);

    let service = Running::start(vec![decider(&world, "least-loaded")], Limits::default());
    let server = start(DeployerChoice::Service(service.url.clone()));
    let asked = steer(&Client::of(&server), &world, "least-loaded", 4, 8);
    assert_eq!(asked["objective"], near["objective"]);
    assert_eq!(asked["deployer"]["fallbacks"], 0, "{}", asked["deployer"]);

    let server = start(DeployerChoice::Service("http://127.0.0.1:9".into()));
    let alone = steer(&Client::of(&server), &world, "least-loaded", 4, 8);
    assert_eq!(
        alone["objective"], near["objective"],
        "the fallback is the same policy"
    );
    assert_eq!(alone["deployer"]["fallbacks"], alone["deployer"]["asked"]);
}

#[test]
fn tokens_are_asked_for_and_handed_out() {
    let server = Server::start(plain(&small())).expect("starts");
    let mut client = Client::of(&server);
    let list = format!("{GROUP}/providers/Microsoft.Compute/virtualMachines");
    client.token = "made.up.token".into();
    let (status, body) = client.send("GET", &list, &Value::Null);
    assert_eq!(
        (status, &body["error"]["code"]),
        (401, &json!("InvalidAuthenticationToken"))
    );
    let token = |form: &str| {
        let target = "/00000000-0000-0000-0000-000000000002/oauth2/v2.0/token";
        let got = client.try_send("POST", target, form.as_bytes());
        got.expect("an answer")
    };
    let (status, _) = token("grant_type=client_credentials&client_id=a&client_secret=wrong");
    assert_eq!(status, 401);
    let (status, granted) =
        token("grant_type=client_credentials&client_id=a&client_secret=virtual-secret");
    assert_eq!(status, 200);
    let found = client.get("/common/v2.0/.well-known/openid-configuration");
    assert!(
        found["token_endpoint"]
            .as_str()
            .is_some_and(|url| url.ends_with("/oauth2/v2.0/token"))
    );
    client.token = granted["access_token"].as_str().expect("a token").into();
    assert_eq!(client.get(&list)["value"].as_array().map(Vec::len), Some(3));
    client.vm("two-cores-near-02", "start");
    let log = client.get("/virtual/log");
    assert_eq!(log["entries"][0]["caller"], "a");
    assert_eq!(log["entries"][0]["host"], "two-cores-near-02");
}

#[test]
fn clients_must_trust_its_authority() {
    let server = Server::start(Options::stepped(small())).expect("starts");
    let pem = server.ca_pem().expect("TLS").as_bytes();
    let authority = reqwest::Certificate::from_pem(pem).expect("a certificate");
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .expect("a runtime");
    let url = format!("{}/healthz", server.url());
    runtime.block_on(async {
        let trusting = reqwest::Client::builder()
            .no_proxy()
            .tls_certs_only([authority])
            .build()
            .expect("a client");
        let response = trusting.get(&url).send().await.expect("an answer");
        assert_eq!(response.status(), 200);
        let strange = reqwest::Client::builder()
            .no_proxy()
            .build()
            .expect("a client");
        assert!(
            strange.get(&url).send().await.is_err(),
            "it is not trusted by itself"
        );
    });
}

#[test]
fn a_lost_answer_is_a_closed_connection_and_the_action_is_done() {
    let weights = FaultWeights {
        too_many_requests: 0.0,
        server_error: 0.0,
        duplicated: 0.0,
        allocation_failed: 0.0,
        operation_failed: 0.0,
        slow: 0.0,
        stuck: 0.0,
        stale_read: 0.0,
        ..FaultWeights::default()
    };
    let server = Server::start(plain(&small())).expect("starts");
    let client = Client::of(&server);
    let faults = json!({"rate": 1.0, "weights": weights});
    let (status, body) = client.send("PUT", "/virtual/faults", &faults);
    assert_eq!(status, 200, "{body}");
    let target =
        format!("{GROUP}/providers/Microsoft.Compute/virtualMachines/two-cores-near-02/start");
    assert!(
        client.try_send("POST", &target, b"").is_err(),
        "no answer comes"
    );
    let log = client.get("/virtual/log");
    assert_eq!(log["entries"][0]["effect"], "off -> booting");
    assert_eq!(log["entries"][0]["fault"], "lost_response");
    assert_eq!(client.get("/virtual/faults")["counts"]["lost_response"], 1);
    let (status, _) = client.send("PUT", "/virtual/faults", &json!({"rate": 2.0}));
    assert_eq!(status, 400);
}

#[test]
fn hostile_input_is_refused_by_name() {
    let server = Server::start(plain(&small())).expect("starts");
    let client = Client::of(&server);
    let vm = format!("{GROUP}/providers/Microsoft.Compute/virtualMachines/x");
    let metrics = format!(
        "{GROUP}/providers/Microsoft.Compute/virtualMachines/two-cores-near-01/providers\
         /Microsoft.Insights/metrics"
    );
    let deep = "[".repeat(100_000);
    for (method, target, body, status, names) in [
        ("PUT", vm.as_str(), "", 400, "content"),
        ("PUT", vm.as_str(), "[]", 400, "body"),
        ("PUT", vm.as_str(), "{\"location\": 7}", 400, "location"),
        (
            "PUT",
            vm.as_str(),
            "{\"location\": \"near\"}",
            400,
            "vmSize",
        ),
        ("PUT", vm.as_str(), "{\"tags\": {\"a\": 1}}", 400, "tags"),
        ("PUT", vm.as_str(), deep.as_str(), 400, "content"),
        ("POST", "/virtual/advance", "{}", 400, "by_s"),
        ("POST", "/virtual/advance", "{\"by_s\": 1e300}", 400, "by_s"),
        ("POST", "/virtual/advance", "{\"by_s\": -1}", 400, "by_s"),
        ("POST", "/virtual/advance", "{\"to_s\": \"x\"}", 400, "to_s"),
        ("POST", "/virtual/advance", "{\"by_h\": 1}", 400, "by_h"),
        ("POST", "/virtual/deployments", "{}", 400, "provisioning"),
        (
            "POST",
            "/virtual/deployments",
            "{\"provisioning\": [], \"deployments\": [{\"request\": 5, \"variant\": \"x\", \"hosts\": []}]}",
            400,
            "deployments[0]",
        ),
        ("GET", "/virtual/state?epoch=never", "", 400, "epoch"),
        ("GET", "/virtual/log?after=x", "", 400, "after"),
        ("GET", "/virtual/nothing", "", 404, "state"),
    ] {
        let got = client.try_send(method, target, body.as_bytes());
        let (found, answer) = got.expect("an answer");
        assert_eq!(found, status, "{method} {target} {answer}");
        let message = answer["error"]["message"].as_str().expect("a message");
        assert!(message.contains(names), "{method} {target}: {message}");
    }
    for (query, names) in [
        ("metricnames=Nothing", "metricnames"),
        ("timespan=yesterday", "timespan"),
        (
            "timespan=2026-01-01T00:00:00Z/2027-01-01T00:00:00Z&interval=PT1S",
            "timespan",
        ),
        (
            "timespan=-009999-01-01T00:00:00Z/9999-01-01T00:00:00Z&interval=P1D",
            "timespan",
        ),
        ("interval=PT0S", "interval"),
        ("aggregation=median", "aggregation"),
    ] {
        let (status, answer) = client.send("GET", &format!("{metrics}?{query}"), &Value::Null);
        assert_eq!(status, 400, "{query}: {answer}");
        let message = answer["error"]["message"].as_str().expect("a message");
        assert!(message.contains(names), "{query}: {message}");
    }
    let large = vec![b' '; 300 << 10];
    let (status, _) = client.try_send("PUT", &vm, &large).expect("an answer");
    assert_eq!(status, 413);
    // It still works.
    client.get("/virtual/clock");
}

#[test]
fn a_running_clock_runs() {
    let server = Server::start(Options {
        clock: ClockKind::Running { speed: 5000.0 },
        ..plain(&small())
    })
    .expect("starts");
    let client = Client::of(&server);
    let (status, body) = client.send("POST", "/virtual/advance", &json!({"by_s": 1}));
    assert_eq!((status, &body["error"]["code"]), (409, &json!("ClockRuns")));
    client.vm("two-cores-near-02", "start");
    // A boot of 3 s is over in less than a millisecond of real time.
    let view = format!(
        "{GROUP}/providers/Microsoft.Compute/virtualMachines/two-cores-near-02/instanceView"
    );
    let running = (0..1000).any(|_| {
        let found = client.get(&view);
        found["statuses"][1]["code"] == "PowerState/running"
    });
    assert!(running);
    assert!(client.get("/virtual/clock")["now_s"].as_f64() > Some(3.0));
}

#[test]
fn faults_and_seeds_repeat() {
    let world = small();
    let run = || {
        let server = Server::start(Options {
            faults: FaultSettings {
                rate: 0.3,
                seed: 11,
                ..FaultSettings::default()
            },
            ..plain(&world)
        })
        .expect("starts");
        let client = Client::of(&server);
        for k in 0..40 {
            let verb = if k % 3 == 0 { "deallocate" } else { "start" };
            let target = format!(
                "{GROUP}/providers/Microsoft.Compute/virtualMachines/two-cores-near-0{}/{verb}",
                1 + k % 2
            );
            // Some answers are lost.
            let _ = client.try_send("POST", &target, b"");
            client.advance(&json!({"by_s": 1.5}));
        }
        (
            client.get("/virtual/log"),
            client.get("/virtual/faults"),
            client.get("/virtual/qos"),
        )
    };
    let (once, again) = (run(), run());
    assert_eq!(once, again);
    let counts = once.1["counts"].as_object().expect("counts");
    assert!(counts.len() > 4, "{counts:?}");
}

#[test]
fn the_program_serves_until_it_is_told_to_end() {
    let mut child = Command::new(env!("CARGO_BIN_EXE_virtual-azure"))
        .args([
            "--world",
            "scinet-16",
            "--listen",
            "127.0.0.1:0",
            "--plain",
            "--clock",
            "stepped",
        ])
        .stdout(Stdio::piped())
        .spawn()
        .expect("starts");
    let mut out = BufReader::new(child.stdout.take().expect("a pipe"));
    let mut line = String::new();
    out.read_line(&mut line).expect("a line");
    let url = line
        .trim()
        .strip_prefix("listening on ")
        .expect("an address");
    let clock = agent()
        .get(format!("{url}/virtual/clock"))
        .call()
        .expect("an answer")
        .body_mut()
        .read_to_string()
        .expect("a body");
    assert!(clock.contains("\"stepped\""), "{clock}");
    let id = child.id().to_string();
    let killed = Command::new("kill").args(["-TERM", &id]).status();
    assert!(killed.expect("kill runs").success());
    assert!(child.wait().expect("ends").success());
    let mut rest = String::new();
    out.read_to_string(&mut rest).expect("the rest");
    assert!(rest.contains("resource group fleet"), "{rest}");
}

#[test]
fn the_program_says_what_is_wrong() {
    for (arguments, code, says) in [
        (vec!["--world", "nowhere"], 64, "nowhere"),
        (vec!["--world", "scinet-16", "--speed", "0"], 2, "between"),
        (
            vec!["--world", "scinet-16", "--deployer", "nobody"],
            64,
            "nobody",
        ),
        (
            vec!["--world", "scinet-16", "--faults", "/nowhere.toml"],
            66,
            "/nowhere.toml",
        ),
        (
            vec!["--world", "scinet-16", "--fault-rate", "7"],
            64,
            "rate",
        ),
        (
            vec!["--world", "scinet-16", "--listen", "192.0.2.1:1"],
            69,
            "192.0.2.1",
        ),
    ] {
        let listens = arguments.contains(&"--listen");
        let listen: &[&str] = if listens {
            &[]
        } else {
            &["--listen", "127.0.0.1:0"]
        };
        let output = Command::new(env!("CARGO_BIN_EXE_virtual-azure"))
            .args(&arguments)
            .args(listen)
            .output()
            .expect("runs");
        let text = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(code), "{arguments:?}: {text}");
        assert!(text.contains(says), "{arguments:?}: {text}");
    }
}
