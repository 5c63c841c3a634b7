//! The Resource Manager without HTTP.

use std::collections::BTreeSet;
use std::sync::Arc;

use proptest::prelude::*;
use serde_json::{Value, json};
use twin::World;
use twin::host::Lifecycle;
use twin::ids::HostId;

use crate::virtual_azure::answer::{Answer, Call, query, segments};
use crate::virtual_azure::cloud::{Cloud, Until};
use crate::virtual_azure::faults::{FaultKind, FaultSettings, FaultWeights};
use crate::virtual_azure::machine::{MachineKey, Power};
use crate::virtual_azure::options::{Layout, Options};
use twin::units::SimTime;

fn small() -> Arc<World> {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/examples/small.toml");
    Arc::new(World::load(path).expect("the world is valid"))
}

fn cloud(change: impl FnOnce(&mut Options)) -> Cloud {
    let mut options = Options::stepped(small());
    change(&mut options);
    Cloud::new(&options, None).expect("the policy exists")
}

fn call(method: &str, target: &str, body: &Value) -> Call {
    let (path, parameters) = target.split_once('?').unwrap_or((target, ""));
    Call {
        method: method.into(),
        path: path.into(),
        segments: segments(path),
        query: query(parameters),
        base: "https://localhost".into(),
        caller: "tester".into(),
        body: if body.is_null() {
            Vec::new()
        } else {
            body.to_string().into_bytes()
        },
        ..Call::default()
    }
}

const GROUP: &str = "/subscriptions/00000000-0000-0000-0000-000000000001/resourceGroups/fleet";
const COMPUTE: &str = "/providers/Microsoft.Compute";

fn vm(name: &str) -> String {
    format!("{GROUP}{COMPUTE}/virtualMachines/{name}")
}

fn get(cloud: &mut Cloud, target: &str) -> Value {
    let answer = cloud.handle(&call("GET", target, &Value::Null));
    assert_eq!(answer.status, 200, "{target}: {answer:?}");
    answer.body.expect("a body")
}

fn post(cloud: &mut Cloud, target: &str) -> Answer {
    cloud.handle(&call("POST", target, &Value::Null))
}

fn power(cloud: &mut Cloud, name: &str) -> String {
    let view = get(cloud, &format!("{}/instanceView", vm(name)));
    let code = view["statuses"][1]["code"].as_str().expect("a code");
    code.trim_start_matches("PowerState/").to_owned()
}

fn pass(cloud: &mut Cloud, seconds: f64) {
    let until = cloud.now().after(SimTime::from_seconds(seconds));
    cloud.advance(Until::time(until));
}

/// The status of the operation of `answer`.
fn poll(cloud: &mut Cloud, answer: &Answer) -> Value {
    let link = answer.header("azure-asyncoperation").expect("a link");
    let target = link.trim_start_matches("https://localhost");
    get(cloud, target)
}

fn code(answer: &Answer) -> &str {
    let body = answer.body.as_ref().expect("a body");
    body["error"]["code"].as_str().expect("a code")
}

#[test]
fn a_vm_boots_and_drains_as_in_the_twin() {
    let mut cloud = cloud(|_| {});
    let names: Vec<String> = get(&mut cloud, &format!("{GROUP}{COMPUTE}/virtualMachines"))["value"]
        .as_array()
        .expect("a list")
        .iter()
        .map(|vm| vm["name"].as_str().expect("a name").to_owned())
        .collect();
    assert_eq!(
        names,
        ["two-cores-far-01", "two-cores-near-01", "two-cores-near-02"]
    );
    assert_eq!(power(&mut cloud, "two-cores-near-02"), "deallocated");
    let answer = post(&mut cloud, &format!("{}/start", vm("TWO-cores-near-02")));
    assert_eq!(answer.status, 202, "{answer:?}");
    assert_eq!(poll(&mut cloud, &answer)["status"], "InProgress");
    assert_eq!(power(&mut cloud, "two-cores-near-02"), "starting");
    // The size boots in 3 s.
    pass(&mut cloud, 2.9);
    assert_eq!(power(&mut cloud, "two-cores-near-02"), "starting");
    pass(&mut cloud, 0.2);
    assert_eq!(power(&mut cloud, "two-cores-near-02"), "running");
    let done = poll(&mut cloud, &answer);
    assert_eq!(done["status"], "Succeeded");
    assert_eq!(done["startTime"], "2026-01-01T00:00:00Z");
    let answer = post(
        &mut cloud,
        &format!("{}/deallocate", vm("two-cores-near-02")),
    );
    pass(&mut cloud, 60.0);
    assert_eq!(poll(&mut cloud, &answer)["status"], "Succeeded");
    assert_eq!(power(&mut cloud, "two-cores-near-02"), "deallocated");
    let effects: Vec<String> = cloud
        .journal
        .after(0)
        .iter()
        .map(|e| e.effect.clone())
        .collect();
    assert_eq!(effects[0], "off -> booting");
    assert!(effects[1].starts_with("on -> "), "{effects:?}");
}

#[test]
fn a_restart_goes_down_and_up_again() {
    let mut cloud = cloud(|_| {});
    let refused = post(&mut cloud, &format!("{}/restart", vm("two-cores-near-02")));
    assert_eq!(
        (refused.status, code(&refused)),
        (409, "OperationNotAllowed")
    );
    let answer = post(&mut cloud, &format!("{}/restart", vm("two-cores-near-01")));
    assert_eq!(answer.status, 202);
    let mut seen = BTreeSet::new();
    for _ in 0..200 {
        seen.insert(power(&mut cloud, "two-cores-near-01"));
        if poll(&mut cloud, &answer)["status"] == "Succeeded" {
            break;
        }
        pass(&mut cloud, 0.5);
    }
    assert!(seen.contains("starting"), "{seen:?}");
    assert_eq!(power(&mut cloud, "two-cores-near-01"), "running");
}

#[test]
fn powered_off_is_stopped_and_then_deallocated() {
    let mut cloud = cloud(|_| {});
    post(&mut cloud, &format!("{}/powerOff", vm("two-cores-near-01")));
    pass(&mut cloud, 60.0);
    assert_eq!(power(&mut cloud, "two-cores-near-01"), "stopped");
    post(
        &mut cloud,
        &format!("{}/deallocate", vm("two-cores-near-01")),
    );
    assert_eq!(power(&mut cloud, "two-cores-near-01"), "deallocated");
}

#[test]
fn a_start_preempts_a_deallocation_under_way() {
    let mut cloud = cloud(|_| {});
    // Two seconds of requests: something runs, so it drains.
    pass(&mut cloud, 2.0);
    let down = post(
        &mut cloud,
        &format!("{}/deallocate", vm("two-cores-near-01")),
    );
    assert_eq!(power(&mut cloud, "two-cores-near-01"), "deallocating");
    let up = post(&mut cloud, &format!("{}/start", vm("two-cores-near-01")));
    assert_eq!(power(&mut cloud, "two-cores-near-01"), "running");
    assert_eq!(poll(&mut cloud, &up)["status"], "Succeeded");
    let status = poll(&mut cloud, &down);
    assert_eq!(status["status"], "Canceled");
    assert_eq!(status["error"]["code"], "OperationPreempted");
}

fn body(size: &str, location: &str) -> Value {
    json!({
        "location": location,
        "tags": {"made": "here"},
        "properties": {
            "hardwareProfile": {"vmSize": size},
            "osProfile": {"computerName": "new", "adminPassword": "hidden"},
        },
    })
}

#[test]
fn a_vm_is_created_on_a_host_that_is_free() {
    let mut cloud = cloud(|_| {});
    let put = |cloud: &mut Cloud, size: &str, location: &str| {
        cloud.handle(&call("PUT", &vm("new-1"), &body(size, location)))
    };
    let full = put(&mut cloud, "Standard_two-cores", "near");
    assert_eq!((full.status, code(&full)), (409, "QuotaExceeded"));
    let odd = put(&mut cloud, "Standard_M416", "near");
    assert_eq!((odd.status, code(&odd)), (400, "InvalidParameter"));
    let nowhere = put(&mut cloud, "Standard_two-cores", "moon");
    assert_eq!(code(&nowhere), "LocationNotAvailableForResourceType");

    let gone = cloud.handle(&call("DELETE", &vm("two-cores-near-01"), &Value::Null));
    assert_eq!(gone.status, 202);
    pass(&mut cloud, 60.0);
    let missing = cloud.handle(&call("GET", &vm("two-cores-near-01"), &Value::Null));
    assert_eq!((missing.status, code(&missing)), (404, "ResourceNotFound"));
    assert_eq!(cloud.lifecycle(HostId(0)), Lifecycle::Off);
    let again = cloud.handle(&call("DELETE", &vm("two-cores-near-01"), &Value::Null));
    assert_eq!(again.status, 204);

    let made = put(&mut cloud, "Standard_two-cores", "Near");
    assert_eq!(made.status, 201, "{made:?}");
    let shown = made.body.as_ref().expect("a body");
    assert_eq!(shown["properties"]["provisioningState"], "Creating");
    assert!(!shown.to_string().contains("hidden"));
    pass(&mut cloud, 4.0);
    assert_eq!(poll(&mut cloud, &made)["status"], "Succeeded");
    assert_eq!(power(&mut cloud, "new-1"), "running");
    assert_eq!(cloud.lifecycle(HostId(0)), Lifecycle::On);
    let resized = put(&mut cloud, "Standard_two-cores", "far");
    assert_eq!(code(&resized), "PropertyChangeNotAllowed");
    let tagged = put(&mut cloud, "Standard_two-cores", "near");
    assert_eq!(tagged.status, 200);
}

#[test]
fn preconditions_of_headers_are_held() {
    let mut cloud = cloud(|_| {});
    let name = vm("two-cores-far-01");
    let etag = get(&mut cloud, &name)["etag"]
        .as_str()
        .expect("a tag")
        .to_owned();
    let tags = json!({"tags": {"a": "b"}});
    let mut patch = call("PATCH", &name, &tags);
    patch.if_match = Some("\"77\"".into());
    assert_eq!(cloud.handle(&patch).status, 412);
    patch.if_match = Some(etag.clone());
    let patched = cloud.handle(&patch);
    assert_eq!(patched.status, 200, "{patched:?}");
    assert_ne!(patched.header("etag"), Some(etag.as_str()));
    assert_eq!(cloud.handle(&patch).status, 412, "the tag is an old one");
    let mut put = call("PUT", &name, &body("Standard_two-cores", "far"));
    put.if_none_match = Some("*".into());
    assert_eq!(cloud.handle(&put).status, 412);
}

#[test]
fn lists_come_page_by_page() {
    let mut cloud = cloud(|options| options.page_size = 2);
    let mut target = format!("{GROUP}{COMPUTE}/virtualMachines?api-version=2024-07-01");
    let mut names = Vec::new();
    for page in 0..2 {
        let list = get(&mut cloud, &target);
        let vms = list["value"].as_array().expect("a list");
        names.extend(vms.iter().map(|vm| vm["name"].to_string()));
        match list["nextLink"].as_str() {
            Some(link) => target = link.trim_start_matches("https://localhost").to_owned(),
            None => assert_eq!(page, 1, "the last page has no link"),
        }
    }
    assert_eq!(names.len(), 3);
}

#[test]
fn scale_sets_take_and_give_back_hosts() {
    let mut cloud = cloud(|options| options.layout = Layout::ScaleSets);
    let set = format!("{GROUP}{COMPUTE}/virtualMachineScaleSets/two-cores-near");
    let capacity = |cloud: &mut Cloud| get(cloud, &set)["sku"]["capacity"].clone();
    assert_eq!(capacity(&mut cloud), 1, "one of two is on at the start");
    let scale = |cloud: &mut Cloud, to: u32| {
        let answer = cloud.handle(&call("PATCH", &set, &json!({"sku": {"capacity": to}})));
        pass(cloud, 60.0);
        answer
    };
    let out = scale(&mut cloud, 2);
    assert_eq!(out.status, 200, "{out:?}");
    assert_eq!(poll(&mut cloud, &out)["status"], "Succeeded");
    assert_eq!(cloud.lifecycle(HostId(1)), Lifecycle::On);
    let over = scale(&mut cloud, 3);
    assert_eq!((over.status, code(&over)), (409, "QuotaExceeded"));
    let list = get(
        &mut cloud,
        &format!("{set}/virtualMachines?$expand=instanceView"),
    );
    assert_eq!(list["value"].as_array().map(Vec::len), Some(2));
    let stop = cloud.handle(&call(
        "POST",
        &format!("{set}/deallocate"),
        &json!({"instanceIds": ["1"]}),
    ));
    assert_eq!(stop.status, 202);
    pass(&mut cloud, 60.0);
    let view = get(&mut cloud, &format!("{set}/virtualMachines/1/instanceView"));
    assert_eq!(view["statuses"][1]["code"], "PowerState/deallocated");
    let scaled_in = scale(&mut cloud, 0);
    assert_eq!(poll(&mut cloud, &scaled_in)["status"], "Succeeded");
    assert_eq!(capacity(&mut cloud), 0);
    assert!((0..2).all(|h| cloud.lifecycle(HostId(h)) == Lifecycle::Off));
}

#[test]
fn metrics_are_the_meters_of_the_twin() {
    let mut cloud = cloud(|_| {});
    pass(&mut cloud, 120.0);
    let target = format!(
        "{}/providers/Microsoft.Insights/metrics?metricnames=Percentage%20CPU,Available%20Memory\
         %20Bytes&timespan=2026-01-01T00:00:00Z/2026-01-01T00:02:00Z&interval=PT1M\
         &aggregation=Average,Count",
        vm("two-cores-near-01")
    );
    let answer = get(&mut cloud, &target);
    let data = answer["value"][0]["timeseries"][0]["data"]
        .as_array()
        .expect("data")
        .clone();
    assert_eq!(data.len(), 2);
    assert_eq!(data[0]["timeStamp"], "2026-01-01T00:00:00Z");
    let sum: f64 = data
        .iter()
        .map(|point| {
            let field = |name: &str| point[name].as_f64().expect("a number");
            field("average") * field("count") / 100.0
        })
        .sum();
    let meter = cloud.episode.meter(HostId(0)).expect("a host");
    assert!((sum - meter.busy_s).abs() < 1e-6, "{sum} {}", meter.busy_s);
    assert_eq!(answer["namespace"], "Microsoft.Compute/virtualMachines");
    let off = target.replace("near-01", "near-02");
    let answer = get(&mut cloud, &off);
    let point = &answer["value"][0]["timeseries"][0]["data"][0];
    assert!(point["average"].is_null(), "a VM that is off has no values");
}

#[test]
fn metrics_of_a_region_come_in_one_call() {
    let mut cloud = cloud(|_| {});
    pass(&mut cloud, 60.0);
    let subscription = "/subscriptions/00000000-0000-0000-0000-000000000001";
    let target = format!(
        "{subscription}/providers/Microsoft.Insights/metrics?region=near\
         &metricnamespace=Microsoft.Compute/virtualMachines&metricnames=Percentage%20CPU\
         &timespan=2026-01-01T00:00:00Z/2026-01-01T00:01:00Z&interval=PT10S"
    );
    let together = get(&mut cloud, &target);
    let split = get(
        &mut cloud,
        &format!("{target}&$filter=Microsoft.ResourceId%20eq%20'*'"),
    );
    let series = |answer: &Value| answer["value"][0]["timeseries"].as_array().map(Vec::len);
    assert_eq!((series(&together), series(&split)), (Some(1), Some(2)));
    let first = &split["value"][0]["timeseries"][0];
    let id = first["metadatavalues"][0]["value"].as_str().expect("an id");
    assert!(id.ends_with("/virtualMachines/two-cores-near-01"), "{id}");
    assert_eq!(first["data"].as_array().map(Vec::len), Some(6));
    let nowhere = target.replace("region=near", "");
    assert_eq!(
        cloud.handle(&call("GET", &nowhere, &Value::Null)).status,
        400
    );
}

#[test]
fn faults_do_what_they_say() {
    let only = |kind: FaultKind| {
        let mut weights = serde_json::to_value(FaultWeights::default()).expect("serializes");
        for (_, weight) in weights.as_object_mut().expect("an object") {
            *weight = json!(0.0);
        }
        let name = serde_json::to_value(kind).expect("a name");
        weights[name.as_str().expect("a text")] = json!(1.0);
        FaultSettings {
            rate: 1.0,
            weights: serde_json::from_value(weights).expect("weights"),
            storm_calls: 1,
            ..FaultSettings::default()
        }
    };
    let start = format!("{}/start", vm("two-cores-near-02"));
    let run = |kind: FaultKind| {
        let mut cloud = cloud(|options| options.faults = only(kind));
        let answer = post(&mut cloud, &start);
        cloud.faults.set(FaultSettings::default());
        (cloud, answer)
    };
    let off = |cloud: &Cloud| cloud.lifecycle(HostId(1)) == Lifecycle::Off;

    let (cloud, answer) = run(FaultKind::TooManyRequests);
    assert!(off(&cloud) && answer.status == 429 && answer.header("retry-after-ms").is_some());
    let (cloud, answer) = run(FaultKind::ServerError);
    assert!(off(&cloud) && (500..=504).contains(&answer.status));
    let (cloud, answer) = run(FaultKind::LostResponse);
    assert!(!off(&cloud) && answer.lost);
    let (cloud, _) = run(FaultKind::Duplicated);
    let entries = cloud.journal.after(0);
    assert_eq!(
        entries.iter().map(|e| e.duplicate).collect::<Vec<_>>(),
        [false, true]
    );
    assert_eq!(entries[1].effect, "none: booting");
    for kind in [FaultKind::AllocationFailed, FaultKind::OperationFailed] {
        let (mut cloud, answer) = run(kind);
        assert!(off(&cloud));
        assert_eq!(poll(&mut cloud, &answer)["status"], "Failed");
        assert_eq!(
            get(&mut cloud, &vm("two-cores-near-02"))["properties"]["provisioningState"],
            "Failed"
        );
    }
    let (mut cloud, answer) = run(FaultKind::Slow);
    assert!(off(&cloud));
    assert_eq!(cloud.journal.after(0)[0].effect, "pending");
    pass(&mut cloud, 65.0);
    assert_eq!(power(&mut cloud, "two-cores-near-02"), "running");
    assert_eq!(poll(&mut cloud, &answer)["status"], "Succeeded");
    let (mut cloud, answer) = run(FaultKind::Stuck);
    pass(&mut cloud, 65.0);
    assert_eq!(power(&mut cloud, "two-cores-near-02"), "running");
    assert_eq!(poll(&mut cloud, &answer)["status"], "InProgress");
    pass(&mut cloud, 600.0);
    assert_eq!(poll(&mut cloud, &answer)["status"], "Succeeded");
}

#[test]
fn a_slow_operation_that_is_preempted_never_acts() {
    let slow = FaultSettings {
        rate: 1.0,
        weights: FaultWeights {
            too_many_requests: 0.0,
            server_error: 0.0,
            lost_response: 0.0,
            duplicated: 0.0,
            allocation_failed: 0.0,
            operation_failed: 0.0,
            stuck: 0.0,
            ..FaultWeights::default()
        },
        ..FaultSettings::default()
    };
    let mut cloud = cloud(|options| options.faults = slow);
    let first = post(&mut cloud, &format!("{}/start", vm("two-cores-near-02")));
    cloud.faults.set(FaultSettings::default());
    post(
        &mut cloud,
        &format!("{}/deallocate", vm("two-cores-near-02")),
    );
    pass(&mut cloud, 300.0);
    assert_eq!(power(&mut cloud, "two-cores-near-02"), "deallocated");
    assert_eq!(
        poll(&mut cloud, &first)["error"]["code"],
        "OperationPreempted"
    );
    assert_eq!(cloud.journal.after(0)[0].effect, "none: preempted");
}

#[test]
fn stale_reads_show_the_past() {
    let mut cloud = cloud(|_| {});
    pass(&mut cloud, 100.0);
    post(&mut cloud, &format!("{}/start", vm("two-cores-near-02")));
    let stale = FaultSettings {
        rate: 1.0,
        weights: FaultWeights {
            too_many_requests: 0.0,
            server_error: 0.0,
            lost_response: 0.0,
            ..FaultWeights::default()
        },
        ..FaultSettings::default()
    };
    assert_eq!(power(&mut cloud, "two-cores-near-02"), "starting");
    cloud.faults.set(stale);
    assert_eq!(power(&mut cloud, "two-cores-near-02"), "deallocated");
}

#[test]
fn calls_are_throttled() {
    let mut cloud = cloud(|options| options.throttle = true);
    let target = format!("{GROUP}{COMPUTE}/virtualMachines");
    let first = cloud.handle(&call("GET", &target, &Value::Null));
    let header = "x-ms-ratelimit-remaining-subscription-reads";
    assert_eq!(first.header(header), Some("249"));
    let statuses: Vec<u16> = (0..260)
        .map(|_| cloud.handle(&call("GET", &target, &Value::Null)).status)
        .collect();
    assert_eq!(statuses.iter().position(|status| *status == 429), Some(249));
}

#[test]
fn what_is_not_there_is_said() {
    let mut cloud = cloud(|_| {});
    for (method, target, status, wanted) in [
        ("GET", "/", 404, "InvalidResourceType"),
        ("GET", "/subscriptions/other", 404, "SubscriptionNotFound"),
        ("TRACE", "/subscriptions", 405, "MethodNotAllowed"),
        (
            "GET",
            "/subscriptions/00000000-0000-0000-0000-000000000001/resourceGroups/x/providers/Microsoft.Compute/virtualMachines",
            404,
            "ResourceGroupNotFound",
        ),
        (
            "GET",
            "/subscriptions/00000000-0000-0000-0000-000000000001/providers/Microsoft.Compute/locations/near/operations/x",
            404,
            "NotFound",
        ),
    ] {
        let answer = cloud.handle(&call(method, target, &Value::Null));
        assert_eq!((answer.status, code(&answer)), (status, wanted), "{target}");
    }
}

/// What may be called in a random sequence.
#[derive(Clone, Debug)]
enum Step {
    Pass(u8),
    Call(u8, u8),
    Capacity(u8),
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        (0..40_u8).prop_map(Step::Pass),
        (0..9_u8, 0..4_u8).prop_map(|(what, which)| Step::Call(what, which)),
        (0..4_u8).prop_map(Step::Capacity),
    ];
    proptest::collection::vec(step, 1..40)
}

fn take(cloud: &mut Cloud, step: &Step) {
    const NAMES: [&str; 4] = ["two-cores-near-01", "two-cores-near-02", "new", "absent"];
    let far = format!("{GROUP}{COMPUTE}/virtualMachineScaleSets/two-cores-far");
    match *step {
        Step::Pass(seconds) => pass(cloud, f64::from(seconds)),
        Step::Capacity(to) => {
            cloud.handle(&call("PATCH", &far, &json!({"sku": {"capacity": to}})));
        }
        Step::Call(what, which) => {
            let name = vm(NAMES[usize::from(which) % NAMES.len()]);
            let one = match what {
                0 => call("POST", &format!("{name}/start"), &Value::Null),
                1 => call("POST", &format!("{name}/deallocate"), &Value::Null),
                2 => call("POST", &format!("{name}/powerOff"), &Value::Null),
                3 => call("POST", &format!("{name}/restart"), &Value::Null),
                4 => call("DELETE", &name, &Value::Null),
                5 => call("PUT", &name, &body("Standard_two-cores", "near")),
                6 => call("PATCH", &name, &json!({"tags": {"a": "b"}})),
                7 => call("GET", &name, &Value::Null),
                _ => call("POST", &format!("{far}/deallocate"), &json!({})),
            };
            cloud.handle(&one);
        }
    }
}

/// What the lists say is what the twin does.
fn agree(cloud: &Cloud) {
    let mut hosts = BTreeSet::new();
    for (key, machine) in &cloud.machines {
        assert!(hosts.insert(machine.host), "a host stands for one machine");
        assert_eq!(cloud.by_host[machine.host.index()].as_ref(), Some(key));
        let expected = Power::of(cloud.lifecycle(machine.host), machine.halted);
        let told = machine.status(cloud.now()).map(|status| status.power);
        assert_eq!(told, Some(expected), "{key}");
        if let Some(operation) = machine.operation {
            let operation = cloud.operations.get(operation).expect("it is known");
            assert!(operation.ended().is_none(), "{key}: {operation:?}");
        }
    }
    for (h, key) in cloud.by_host.iter().enumerate() {
        match key {
            Some(key) => assert!(cloud.machines.contains_key(key)),
            None => assert_eq!(
                cloud.lifecycle(HostId::at(h)),
                Lifecycle::Off,
                "a host that is not listed is off"
            ),
        }
    }
    assert!(!cloud.machines.contains_key(&MachineKey::vm("absent")) || hosts.len() <= 3);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, ..ProptestConfig::default() })]

    #[test]
    fn the_twin_and_the_lists_agree_after_anything(
        steps in steps(),
        rate in prop_oneof![Just(0.0), Just(0.3), Just(1.0)],
        seed in 0..1000_u64,
    ) {
        let mut cloud = cloud(|options| {
            options.layout = Layout::Mixed;
            options.faults.rate = rate;
            options.faults.seed = seed;
        });
        for step in &steps {
            take(&mut cloud, step);
            agree(&cloud);
        }
        // Nothing stays under way for ever.
        cloud.faults.set(FaultSettings::default());
        pass(&mut cloud, 700.0);
        agree(&cloud);
        prop_assert!(cloud.operations.open().is_empty(), "{:?}", cloud.operations);
    }
}
