//! The virtual Azure against Azure's official OpenAPI documents: each official example is sent, and
//! what comes back is of the official schema.
//!
//! Schemas are closed for this: a field that they do not name is an error. Names of resources,
//! times and metrics of an example are replaced where they name what no virtual Azure has; each
//! replacement is in [`replaced`] or [`body`].

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use infer::virtual_azure::{Layout, Options, Server};
use jsonschema::{Draft, Validator};
use serde::Deserialize;
use serde_json::{Map, Value, json};
use twin::World;

use crate::support::agent;

#[derive(Debug, Deserialize)]
struct Operation {
    document: String,
    method: String,
    path: String,
    parameters: Vec<Parameter>,
    responses: BTreeMap<String, Option<Value>>,
    examples: BTreeMap<String, Example>,
}

#[derive(Debug, Deserialize)]
struct Parameter {
    name: String,
    #[serde(rename = "in")]
    place: String,
    required: Option<bool>,
}

#[derive(Debug, Deserialize)]
struct Example {
    parameters: Map<String, Value>,
    responses: BTreeMap<String, Value>,
}

struct Specification {
    operations: Vec<Operation>,
    open: Map<String, Value>,
    closed: Map<String, Value>,
}

fn read<T: serde::de::DeserializeOwned>(file: &str) -> T {
    let path = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests/arm-specs")
        .join(file);
    let text = std::fs::read_to_string(path).expect("the file is there");
    serde_json::from_str(&text).expect("the file is JSON")
}

impl Specification {
    fn load() -> Self {
        let mut open: Map<String, Value> = read("definitions.json");
        let closed = open.keys().map(|name| {
            let schema = &open[name];
            (name.clone(), close(schema, &open))
        });
        let closed = closed.collect();
        open.values_mut().for_each(allow_new_values);
        Self {
            operations: read("operations.json"),
            closed,
            open,
        }
    }

    fn validator(&self, schema: &Value, closed: bool) -> Validator {
        let definitions = if closed { &self.closed } else { &self.open };
        let root = json!({
            "definitions": definitions,
            "allOf": [schema],
        });
        jsonschema::options()
            .with_draft(Draft::Draft4)
            .should_validate_formats(true)
            .build(&root)
            .expect("the schema can be used")
    }

    /// Holds `value` against `schema`; the first problems, where there are any.
    fn problems(&self, schema: &Value, value: &Value, closed: bool) -> Vec<String> {
        self.validator(schema, closed)
            .iter_errors(value)
            .take(3)
            .map(|error| format!("{}: {error}", error.instance_path()))
            .collect()
    }
}

/// Lets enumerations that may grow take other values, as newer answers do.
fn allow_new_values(schema: &mut Value) {
    match schema {
        Value::Object(fields) => {
            if fields
                .get("x-ms-enum")
                .is_some_and(|e| e["modelAsString"] == true)
            {
                fields.remove("enum");
            }
            fields.values_mut().for_each(allow_new_values);
        }
        Value::Array(items) => items.iter_mut().for_each(allow_new_values),
        _ => {}
    }
}

/// The properties and required fields of `schema`, those that it inherits included.
fn flatten(
    schema: &Value,
    definitions: &Map<String, Value>,
    properties: &mut Map<String, Value>,
    required: &mut Vec<Value>,
) {
    let reference = schema["$ref"].as_str();
    if let Some(name) = reference.and_then(|r| r.strip_prefix("#/definitions/")) {
        flatten(&definitions[name], definitions, properties, required);
    }
    for parent in schema["allOf"].as_array().into_iter().flatten() {
        flatten(parent, definitions, properties, required);
    }
    let own = schema["properties"].as_object().into_iter().flatten();
    properties.extend(own.map(|(name, value)| (name.clone(), value.clone())));
    required.extend(schema["required"].as_array().into_iter().flatten().cloned());
}

/// `schema` without room for fields that it does not name.
fn close(schema: &Value, definitions: &Map<String, Value>) -> Value {
    let mut schema = schema.clone();
    let object = schema["properties"].is_object() || schema["allOf"].is_array();
    if object && schema["additionalProperties"].is_null() {
        let (mut properties, mut required) = (Map::new(), Vec::new());
        flatten(&schema, definitions, &mut properties, &mut required);
        schema = json!({
            "type": "object",
            "properties": properties,
            "additionalProperties": false,
        });
        if !required.is_empty() {
            schema["required"] = json!(required);
        }
    }
    let inner = schema.get_mut("properties").and_then(Value::as_object_mut);
    for (_, property) in inner.into_iter().flatten() {
        // Descriptions that stand beside a reference make it one of all.
        if property["allOf"].is_null() {
            *property = close(property, definitions);
        }
    }
    schema
}

/// A world whose VMs are of the sizes and at the places that examples name.
fn world() -> Arc<World> {
    let small = Path::new(env!("CARGO_MANIFEST_DIR")).join("examples/small.toml");
    let text = std::fs::read_to_string(small).expect("the example");
    let text = text
        .replace("\"near\"", "\"westus\"")
        .replace("near = ", "westus = ")
        .replace("\"far\"", "\"eastus\"")
        .replace("far = ", "eastus = ")
        .replace("\"two-cores\"", "\"Standard_D1_v2\"")
        .replace("count = 2\ninitially_on = 1", "count = 3")
        .replace("count = 1", "count = 3");
    let (before, after) = text.split_once("[[hosts]]").expect("hosts");
    let size = before.split("[[sizes]]").nth(1).expect("a size");
    let other = size.replace("Standard_D1_v2", "Standard_D2_v2");
    let third = size.replace("Standard_D1_v2", "Standard_D2s_v3");
    let text = format!(
        "{before}[[sizes]]{other}[[sizes]]{third}[[hosts]]\nsize = \"Standard_D2_v2\"\n\
         site = \"westus\"\ncount = 1\n[[hosts]]\nsize = \"Standard_D2s_v3\"\nsite = \"eastus\"\n\
         count = 1\n[[hosts]]{after}"
    );
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("world.toml");
    std::fs::write(&path, text).expect("writes");
    Arc::new(World::load(path.to_str().expect("text")).expect("the world is valid"))
}

/// The value of a parameter, where the example's own names nothing that there is.
fn replaced(operation: &Operation, name: &str, value: Option<&Value>) -> Option<String> {
    let set = "Standard_D1_v2-westus";
    let text = value.map(|value| match value {
        Value::String(text) => text.clone(),
        other => other.to_string(),
    });
    match (name, text.as_deref()) {
        ("vmScaleSetName" | "virtualMachineScaleSetName", _) => Some(set.into()),
        ("instanceId", _) => Some("0".into()),
        ("location", Some("eastus" | "westus")) => text,
        ("location", _) => Some("westus".into()),
        ("vmName", None | Some("{vm-name}")) => Some("myVM".into()),
        ("resourceUri", _) => Some(
            "subscriptions/{subscription-id}/resourceGroups/fleet/providers/Microsoft.Compute\
             /virtualMachines/Standard_D1_v2-westus-01"
                .into(),
        ),
        ("metricnames", _) => Some("Percentage CPU,Available Memory Bytes".into()),
        ("metricnamespace", _) => Some("Microsoft.Compute/virtualMachines".into()),
        ("timespan", _) => Some("2026-01-01T00:00:00.000Z/2026-01-01T01:00:00.000Z".into()),
        ("interval", _) => Some("PT1M".into()),
        ("region", _) => Some("westus".into()),
        ("resourceProviderNamespace", _) => Some("Microsoft.Compute".into()),
        // Letters at random in the generated examples.
        ("$filter" | "$expand" | "$select" | "statusOnly", Some(text))
            if text.starts_with("aaa") =>
        {
            None
        }
        ("$filter", _) if operation.document.contains("Insights") => None,
        _ => text,
    }
}

/// The body of an example, without what no virtual Azure has.
fn body(operation: &Operation, example: &Example) -> Option<Value> {
    let named = operation.parameters.iter().find(|p| p.place == "body")?;
    let mut body = example.parameters.get(&named.name)?.clone();
    if !body["instanceIds"].is_null() {
        body["instanceIds"] = json!(["0"]);
    }
    if operation.path.contains("virtualMachineScaleSets") && !body["sku"].is_null() {
        body["sku"] = json!({"name": "Standard_D1_v2", "tier": "Standard", "capacity": 2});
    }
    Some(body)
}

/// A server for one example, and a client of it.
struct Try {
    server: Server,
    agent: ureq::Agent,
    token: String,
    subscription: String,
    group: String,
}

impl Try {
    fn new(operation: &Operation, example: &Example) -> Self {
        let text = |name: &str, usual: &str| {
            let found = example.parameters.get(name).and_then(Value::as_str);
            found.unwrap_or(usual).to_owned()
        };
        let subscription = text("subscriptionId", "{subscription-id}");
        let group = text("resourceGroupName", "fleet");
        let sets = operation.path.contains("virtualMachineScaleSets");
        let server = Server::start(Options {
            tls: false,
            subscription: subscription.clone(),
            resource_group: group.clone(),
            layout: if sets { Layout::ScaleSets } else { Layout::Vms },
            ..Options::stepped(world())
        })
        .expect("starts");
        let token = server.token("contract");
        Self {
            server,
            agent: agent(),
            token,
            subscription,
            group,
        }
    }

    fn send(&self, method: &str, target: &str, body: Option<&Value>) -> Got {
        let url = format!("{}{target}", self.server.url());
        let request = ureq::http::Request::builder()
            .method(method)
            .uri(&url)
            .header("authorization", format!("Bearer {}", self.token));
        let mut response = match body {
            Some(body) => {
                let request = request
                    .header("content-type", "application/json")
                    .body(body.to_string())
                    .expect("a request");
                self.agent.run(request)
            }
            None => self.agent.run(request.body(()).expect("a request")),
        }
        .expect("the server answers");
        let text = response.body_mut().read_to_string().expect("a body");
        let header = |name: &str| {
            let value = response.headers().get(name)?;
            value.to_str().ok().map(str::to_owned)
        };
        Got {
            status: response.status().as_u16(),
            poll: header("azure-asyncoperation"),
            location: header("location"),
            body: serde_json::from_str(&text).unwrap_or(Value::Null),
        }
    }

    fn pass(&self, seconds: f64) {
        let got = self.send("POST", "/virtual/advance", Some(&json!({"by_s": seconds})));
        assert_eq!(got.status, 200, "{:?}", got.body);
    }

    /// Makes room for, and where wanted creates, the VM of an example.
    fn prepare(&self, operation: &Operation, example: &Example) {
        if !operation.path.contains("{vmName}") {
            self.pass(70.0);
            return;
        }
        let vms = format!(
            "/subscriptions/{}/resourceGroups/{}/providers/Microsoft.Compute/virtualMachines",
            escaped(&self.subscription),
            escaped(&self.group)
        );
        for size in ["D1_v2-westus-01", "D2_v2-westus-01", "D2s_v3-eastus-01"] {
            self.send("DELETE", &format!("{vms}/Standard_{size}"), None);
        }
        self.pass(60.0);
        if operation.method != "PUT" {
            let name = replaced(operation, "vmName", example.parameters.get("vmName"));
            let name = name.expect("a name");
            let asked = body(operation, example).unwrap_or_default();
            let size = asked["properties"]["hardwareProfile"]["vmSize"].as_str();
            let body = json!({
                "location": "westus",
                "properties": {"hardwareProfile": {"vmSize": size.unwrap_or("Standard_D1_v2")}},
            });
            let got = self.send("PUT", &format!("{vms}/{name}"), Some(&body));
            assert_eq!(got.status, 201, "{:?}", got.body);
            self.pass(60.0);
        }
    }

    /// Sends the request of an example.
    fn request(&self, operation: &Operation, example: &Example) -> Got {
        let mut path = operation.path.clone();
        let mut query = url::form_urlencoded::Serializer::new(String::new());
        for (name, value) in &example.parameters {
            let Some(value) = replaced(operation, name, Some(value)) else {
                continue;
            };
            let declared = operation.parameters.iter().find(|p| p.name == *name);
            let in_query = declared.is_some_and(|p| p.place == "query");
            let slot = format!("{{{name}}}");
            if path.contains(&slot) {
                let value = match name.as_str() {
                    "resourceUri" => {
                        value.replace("{subscription-id}", &escaped("{subscription-id}"))
                    }
                    _ => escaped(&value),
                };
                path = path.replace(&slot, &value);
            } else if in_query || name == "api-version" {
                query.append_pair(name, &value);
            }
        }
        for parameter in &operation.parameters {
            let needed = parameter.place == "query" && parameter.required == Some(true);
            if needed && !example.parameters.contains_key(&parameter.name) {
                let value = replaced(operation, &parameter.name, None);
                query.append_pair(&parameter.name, &value.unwrap_or_default());
            }
        }
        for (slot, value) in [
            ("{subscriptionId}", &self.subscription),
            ("{resourceGroupName}", &self.group),
            (
                "{resourceProviderNamespace}",
                &"Microsoft.Compute".to_owned(),
            ),
        ] {
            path = path.replace(slot, &escaped(value));
        }
        assert!(!path.contains('{'), "{path}");
        let target = format!("{path}?{}", query.finish());
        self.send(
            &operation.method,
            &target,
            body(operation, example).as_ref(),
        )
    }
}

fn escaped(text: &str) -> String {
    text.replace('{', "%7B").replace('}', "%7D")
}

struct Got {
    status: u16,
    poll: Option<String>,
    location: Option<String>,
    body: Value,
}

/// Holds an answer, and what its operation comes to, against the documents.
fn hold(specification: &Specification, operation: &Operation, name: &str, tried: &Try, got: &Got) {
    let what = format!("{} {} ({name})", operation.method, operation.path);
    assert!(
        (200..300).contains(&got.status),
        "{what}: {} {}",
        got.status,
        got.body
    );
    let declared = operation.responses.get(&got.status.to_string());
    let schema = declared.unwrap_or_else(|| panic!("{what}: {} is not declared", got.status));
    match schema {
        // An action is accepted without a body, whatever its result is of.
        Some(_) if got.status == 202 => assert!(got.body.is_null(), "{what}"),
        Some(schema) => {
            let problems = specification.problems(schema, &got.body, true);
            assert!(problems.is_empty(), "{what}: {problems:#?}\n{:#}", got.body);
        }
        None => assert!(got.body.is_null(), "{what}: {}", got.body),
    }
    if got.status == 202 {
        assert!(
            got.poll.is_some() && got.location.is_some(),
            "{what}: it can be followed"
        );
    }
    let Some(poll) = &got.poll else {
        return;
    };
    tried.pass(120.0);
    let target = |link: &str| link.trim_start_matches(tried.server.url()).to_owned();
    let status = tried.send("GET", &target(poll), None);
    let result = specification
        .open
        .keys()
        .find(|key| key.ends_with("~OperationStatusResult"))
        .expect("it is there");
    let schema = json!({"$ref": format!("#/definitions/{result}")});
    let problems = specification.problems(&schema, &status.body, false);
    assert!(problems.is_empty(), "{what}: {problems:#?}");
    assert_eq!(
        status.body["status"], "Succeeded",
        "{what}: {}",
        status.body
    );
    if let Some(location) = &got.location {
        let last = tried.send("GET", &target(location), None);
        assert_eq!(last.status, 200, "{what}");
        if let Some(Some(schema)) = operation.responses.get("200") {
            let problems = specification.problems(schema, &last.body, true);
            assert!(problems.is_empty(), "{what}: {problems:#?}");
        }
    }
}

fn check(wanted: impl Fn(&Operation) -> bool) {
    let specification = Specification::load();
    let mut tried_some = 0;
    for operation in specification.operations.iter().filter(|o| wanted(o)) {
        let nothing = Example {
            parameters: Map::new(),
            responses: BTreeMap::new(),
        };
        let mut examples: Vec<(&str, &Example)> = operation
            .examples
            .iter()
            .map(|(name, example)| (name.as_str(), example))
            .collect();
        if examples.is_empty() {
            // Operations without an example need no more than their path.
            examples.push(("no example", &nothing));
        }
        for (name, example) in examples {
            let tried = Try::new(operation, example);
            tried.prepare(operation, example);
            let got = tried.request(operation, example);
            hold(&specification, operation, name, &tried, &got);
            tried_some += 1;
        }
    }
    assert!(tried_some > 0);
}

#[test]
fn examples_of_vms() {
    check(|operation| {
        let compute = operation.document.contains("Microsoft.Compute");
        compute && !operation.path.contains("ScaleSets")
    });
}

#[test]
fn examples_of_scale_sets() {
    check(|operation| operation.path.contains("ScaleSets"));
}

#[test]
fn examples_of_metrics_and_subscriptions() {
    check(|operation| !operation.document.contains("Microsoft.Compute"));
}

/// Official examples that are not of their own schema, and why.
const WRONG_EXAMPLES: [(&str, &str); 2] = [
    (
        "VirtualMachineScaleSetVM_Get_InstanceViewAutoPlacedOnDedicatedHostGroup.json",
        "null stands for what is not there",
    ),
    (
        "VirtualMachine_Get_InstanceView.json",
        "null stands for what is not there",
    ),
];

#[test]
fn official_examples_are_of_the_schema() {
    let specification = Specification::load();
    let (mut seen, mut wrong) = (0, BTreeMap::new());
    for operation in &specification.operations {
        for (name, example) in &operation.examples {
            for (status, response) in &example.responses {
                let Some(Some(schema)) = operation.responses.get(status) else {
                    continue;
                };
                if response["body"].is_null() {
                    continue;
                }
                let problems = specification.problems(schema, &response["body"], false);
                if !problems.is_empty() {
                    wrong.insert(name.as_str(), problems);
                }
                seen += 1;
            }
        }
    }
    let known: Vec<&str> = WRONG_EXAMPLES.iter().map(|(name, _)| *name).collect();
    let found: Vec<&str> = wrong.keys().copied().collect();
    assert_eq!(found, known, "{wrong:#?}");
    assert!(seen > 40, "{seen}");
}

#[test]
fn the_validator_refuses_what_is_wrong() {
    let specification = Specification::load();
    let operation = specification
        .operations
        .iter()
        .find(|o| o.method == "GET" && o.path.ends_with("/virtualMachines/{vmName}"))
        .expect("it is there");
    let example = &operation.examples["VirtualMachine_Get.json"];
    let tried = Try::new(operation, example);
    tried.prepare(operation, example);
    let good = tried.request(operation, example).body;
    let schema = operation.responses["200"].as_ref().expect("a schema");
    assert!(specification.problems(schema, &good, true).is_empty());
    for (pointer, value) in [
        ("/location", json!(7)),
        ("/properties/hardwareProfile/vmSize", json!({})),
        ("/properties/timeCreated", json!("yesterday")),
        ("/properties/storageProfile/osDisk/osType", json!("Plan9")),
    ] {
        let mut bad = good.clone();
        *bad.pointer_mut(pointer).expect("it is there") = value;
        assert!(
            !specification.problems(schema, &bad, true).is_empty(),
            "{pointer}"
        );
    }
    for parent in ["", "/properties", "/properties/storageProfile/osDisk"] {
        let mut bad = good.clone();
        bad.pointer_mut(parent).expect("it is there")["more"] = json!(1);
        assert!(
            !specification.problems(schema, &bad, true).is_empty(),
            "{parent}"
        );
    }
    let mut bad = good.clone();
    bad.as_object_mut().expect("an object").remove("location");
    assert!(!specification.problems(schema, &bad, true).is_empty());
}

#[test]
fn errors_are_of_the_schema() {
    let specification = Specification::load();
    let operation = specification
        .operations
        .iter()
        .find(|o| o.method == "GET" && o.path.ends_with("/virtualMachines/{vmName}"))
        .expect("it is there");
    let example = &operation.examples["VirtualMachine_Get.json"];
    let tried = Try::new(operation, example);
    let got = tried.request(operation, example);
    assert_eq!(got.status, 404);
    let schema = operation.responses["default"].as_ref().expect("a schema");
    let problems = specification.problems(schema, &got.body, true);
    assert!(problems.is_empty(), "{problems:#?}");
    assert_eq!(got.body["error"]["code"], "ResourceNotFound");
}
