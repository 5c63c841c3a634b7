//! The control loop and a deployer that keep the service's one live fleet in step.

use std::collections::BTreeMap;

use super::*;
use crate::support::{agent, small};

/// A deployer outside: it asks the service, which keeps the fleet, where new requests go, and tells
/// it what has ended.
struct Outside {
    url: String,
    agent: ureq::Agent,
    /// Requests that the service knows, and which of their fragments are known to have ended.
    known: BTreeMap<u64, Vec<bool>>,
}

impl Outside {
    fn of(service: &Running) -> Self {
        Self {
            url: service.url.clone(),
            agent: agent(),
            known: BTreeMap::new(),
        }
    }

    /// Another service has taken the whole fleet over from a document.
    fn turn_to(&mut self, service: &Running) {
        self.url.clone_from(&service.url);
    }

    fn call(&self, method: &str, path: &str, body: &Value) -> (u16, Value) {
        let request = ureq::http::Request::builder()
            .method(method)
            .uri(format!("{}{path}", self.url))
            .header("content-type", "application/json")
            .body(body.to_string().into_bytes())
            .expect("a request");
        let mut response = self.agent.run(request).expect("an answer");
        let text = response.body_mut().read_to_vec().expect("a body");
        let body = serde_json::from_slice(&text).unwrap_or(Value::Null);
        (response.status().as_u16(), body)
    }

    fn fleet(&self) -> Value {
        let (status, fleet) = self.call("GET", "/v1/fleet", &Value::Null);
        assert_eq!(status, 200, "{fleet}");
        fleet
    }

    /// What has ended since it last looked, by the state of the cloud.
    fn ends(&mut self, state: &Value) -> Vec<Value> {
        let mut deltas = Vec::new();
        let requests = state["requests"].as_array().expect("requests");
        let there: BTreeMap<u64, &Value> = requests
            .iter()
            .map(|r| (r["id"].as_u64().expect("a number"), r))
            .collect();
        self.known.retain(|id, ended| {
            let Some(request) = there.get(id) else {
                deltas.push(json!({"kind": "answered", "request": id}));
                return false;
            };
            let fragments = request["deployed"]["fragments"].as_array();
            for (i, fragment) in fragments.into_iter().flatten().enumerate() {
                ended.resize(ended.len().max(i + 1), false);
                if fragment["phase"] == "done" && !std::mem::replace(&mut ended[i], true) {
                    deltas.push(json!({"kind": "finished", "request": id, "fragment": i}));
                }
            }
            true
        });
        deltas
    }

    /// Tells what has ended.
    fn tell(&mut self, cloud: &Virtual) {
        let state = cloud.get("state?epoch=boundary")["state"].take();
        let deltas = self.ends(&state);
        let body = json!({"schema": 1, "now_ns": state["now_ns"], "deltas": deltas});
        let (status, answer) = self.call("POST", "/v1/telemetry", &body);
        assert!([200, 409].contains(&status), "{answer}");
    }

    /// Has the requests that wait deployed.
    fn deploy(&mut self, cloud: &Virtual) {
        let state = cloud.get("state?epoch=arrival")["state"].take();
        let telemetry = self.ends(&state);
        let mut new = Vec::new();
        for request in state["requests"].as_array().expect("requests") {
            let id = request["id"].as_u64().expect("a number");
            if request.get("deployed").is_none() && !self.known.contains_key(&id) {
                let (application, tokens) = (&request["application"], &request["context_tokens"]);
                new.push(json!({"id": id, "application": application,
                    "arrived_ns": request["arrived_ns"], "context_tokens": tokens}));
                self.known.insert(id, Vec::new());
            }
        }
        let question = json!({"schema": 1, "now_ns": state["now_ns"], "epoch": "arrival",
            "requests": new, "telemetry": telemetry});
        let (status, answer) = self.call("POST", "/v1/decisions", &question);
        assert_eq!(status, 200, "{answer}");
        let deployments = &answer["decision"]["deployments"];
        assert!(!deployments.as_array().expect("a list").is_empty());
        let body = json!({"provisioning": [], "deployments": deployments});
        // The cloud refuses what is sent to a host that does not run.
        cloud.post("deployments", &body);
    }
}

fn kept_service(world: &Arc<World>) -> Running {
    let source = Source::named("greedy");
    Running::start(vec![decider(world, &source)], Limits::default())
}

/// A controller that has `service` keep the fleet; where it knows none, it begins with the state of
/// the cloud, or with hosts alone.
fn keeping(
    cloud: &Virtual,
    world: &Arc<World>,
    service: &Running,
    seed: bool,
    apply: bool,
) -> Controller {
    let kept = format!(
        "state = \"service\"\nstate_epoch = \"2026-01-01T00:00:00Z\"\nservice_url = \"{}\"",
        service.url
    );
    let mut text = cloud.settings(&kept) + UNBOUND;
    if !seed {
        text = text.replace("state_url", "# state_url");
    }
    let file = ControlFile::parse(&text, "test").expect("settings");
    assert_eq!(file.state_url.is_some(), seed);
    if apply {
        return cloud.controller(world, &text, None);
    }
    let settings = file
        .check("test", world.interval.seconds(), false)
        .expect("settings");
    let telemetry = Arc::new(Telemetry::new().expect("metrics"));
    let token = Arc::new(Token(cloud.server.token("control")));
    let parts = parts(world, &settings, None, telemetry, token).expect("parts");
    Controller::new(parts, settings.rules)
}

/// Where the hosts are in their lives, by the cloud and by the service.
fn lives(cloud: &Virtual, outside: &Outside) -> (Vec<String>, Vec<String>) {
    let of = |list: &Value| {
        let hosts = list.as_array().expect("hosts").iter();
        let life = |host: &Value| host["lifecycle"].as_str().expect("a word").to_owned();
        hosts.map(life).collect()
    };
    (
        of(&cloud.get("hosts")["value"]),
        of(&outside.fleet()["hosts"]),
    )
}

/// Goes on to the next boundary; the deployer places what arrives on the way.
fn to_the_boundary(cloud: &Virtual, outside: &mut Outside) {
    loop {
        cloud.post("advance", &json!({"until_next_epoch": true}));
        if cloud.read_clock()["epoch"] == "boundary" {
            outside.tell(cloud);
            return;
        }
        outside.deploy(cloud);
    }
}

fn requests_of(state: &Value) -> Vec<u64> {
    let list = state["requests"].as_array().expect("requests").iter();
    list.map(|r| r["id"].as_u64().expect("a number")).collect()
}

#[test]
fn the_loop_and_a_deployer_keep_one_fleet() {
    let world = small();
    let cloud = Virtual::start(Options {
        seed: 11,
        intervals: Some(40),
        deployer: DeployerChoice::Outside,
        ..Options::stepped(Arc::clone(&world))
    });
    let mut service = kept_service(&world);
    let mut outside = Outside::of(&service);
    let mut controller = keeping(&cloud, &world, &service, true, true);
    let mut changes: BTreeMap<String, u32> = BTreeMap::new();
    for interval in 0..40 {
        to_the_boundary(&cloud, &mut outside);
        match interval {
            // The loop is killed and started again.
            7 => {
                drop(controller);
                controller = keeping(&cloud, &world, &service, false, true);
            }
            // The service is, and has lost its fleet.
            14 => {
                drop(controller);
                service = kept_service(&world);
                outside.turn_to(&service);
                let (status, _) = outside.call("GET", "/v1/fleet", &Value::Null);
                assert_eq!(status, 409);
                controller = keeping(&cloud, &world, &service, true, true);
            }
            _ => {}
        }
        let report = cloud.step(&mut controller);
        assert_eq!(report.outcome, Outcome::Acted, "{report:?}");
        assert!(report.disputed_hosts.is_empty(), "{report:?}");
        assert!(report.fallback.is_none(), "{report:?}");
        for action in &report.actions {
            *changes.entry(action.change.clone()).or_default() += 1;
        }
        let (azure, kept) = lives(&cloud, &outside);
        assert_eq!(azure, kept, "interval {interval}: {report:?}");
        let there = cloud.get("state?epoch=boundary");
        let fleet = outside.fleet();
        assert_eq!(fleet["now_ns"], there["state"]["now_ns"]);
        assert_eq!(requests_of(&fleet["state"]), requests_of(&there["state"]));
    }
    let done = |change: &str| changes.get(change).copied().unwrap_or(0);
    assert!(done("start") > 1 && done("deallocate") > 1, "{changes:?}");
}

#[test]
fn what_others_do_to_vms_is_told() {
    let world = small();
    let cloud = Virtual::start(Options {
        deployer: DeployerChoice::Policy("least-loaded".into()),
        ..Options::stepped(Arc::clone(&world))
    });
    let service = kept_service(&world);
    let outside = Outside::of(&service);
    let never = "[control.guardrails]\nnever = [\"*\"]\n[control.lease]\nkind = \"none\"\n";
    let kept = format!(
        "state = \"service\"\nstate_epoch = \"2026-01-01T00:00:00Z\"\nservice_url = \"{}\"",
        service.url
    );
    let text = cloud.settings(&kept).replace("state_url", "# state_url") + never;
    let mut controller = cloud.controller(&world, &text, None);
    cloud.next_boundary();
    cloud.step(&mut controller);
    let (azure, kept) = lives(&cloud, &outside);
    assert_eq!(azure, kept, "what it begins with is what Azure shows");
    let vm = |host: usize, verb: &str| {
        let url = format!(
            "{}/subscriptions/00000000-0000-0000-0000-000000000001/resourceGroups/fleet/providers/\
             Microsoft.Compute/virtualMachines/{}/{verb}?api-version=2024-07-01",
            cloud.server.url(),
            world.hosts[host].name
        );
        let token = cloud.server.token("somebody");
        let request = cloud.client.post(url).bearer_auth(token).body("");
        let status = cloud.runtime.block_on(async {
            let answer = request.send().await.expect("an answer");
            answer.status().as_u16()
        });
        assert_eq!(status, 202, "{verb}");
    };
    // Somebody else turns one off and another on, or the other way round.
    for verbs in [("deallocate", "start"), ("start", "deallocate")] {
        for (h, life) in lives(&cloud, &outside).0.iter().enumerate() {
            let verb = if h == 0 { verbs.0 } else { verbs.1 };
            if (life == "on") == (verb == "deallocate") {
                vm(h, verb);
            }
        }
        for _ in 0..4 {
            cloud.next_boundary();
            let report = cloud.step(&mut controller);
            assert_eq!(report.outcome, Outcome::Acted, "{report:?}");
        }
        let (azure, kept) = lives(&cloud, &outside);
        assert_eq!(azure, kept, "{verbs:?}");
    }
}

#[test]
fn a_dry_run_leaves_the_fleet_of_the_service_alone() {
    let world = small();
    let cloud = Virtual::start(Options::stepped(Arc::clone(&world)));
    let service = kept_service(&world);
    let outside = Outside::of(&service);
    cloud.next_boundary();
    let mut dry = keeping(&cloud, &world, &service, true, false);
    let report = cloud.step(&mut dry);
    assert_eq!(report.outcome, Outcome::DryRun, "{report:?}");
    assert!(!report.actions.is_empty());
    let (status, _) = outside.call("GET", "/v1/fleet", &Value::Null);
    assert_eq!(status, 409, "nobody told it the fleet");

    let mut acting = keeping(&cloud, &world, &service, true, true);
    cloud.step(&mut acting);
    let before = outside.fleet();
    cloud.next_boundary();
    let report = cloud.step(&mut dry);
    assert_eq!(report.outcome, Outcome::DryRun, "{report:?}");
    assert_eq!(outside.fleet(), before, "not even its clock went on");
}

#[test]
fn a_clock_that_is_far_from_the_fleets_is_told() {
    let world = small();
    let cloud = Virtual::start(Options::stepped(Arc::clone(&world)));
    let service = kept_service(&world);
    cloud.next_boundary();
    let mut controller = keeping(&cloud, &world, &service, true, true);
    assert_eq!(cloud.step(&mut controller).outcome, Outcome::Acted);
    let kept = format!("state = \"service\"\nservice_url = \"{}\"", service.url);
    let text = cloud.settings(&kept) + UNBOUND;
    drop(controller);
    // Its zero is 1970, that of the fleet 2026.
    let mut controller = cloud.controller(&world, &text, None);
    let report = cloud.step(&mut controller);
    let Outcome::Undecided { problem } = &report.outcome else {
        panic!("{report:?}");
    };
    assert!(
        problem.contains("/v1/telemetry: status 409") && problem.contains("clock"),
        "{problem}"
    );
}
