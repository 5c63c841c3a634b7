//! The service's description: an OpenAPI document, version 3.1.
//!
//! Each operation is described beside its handler (`#[utoipa::path]`) and each message beside its
//! type (`utoipa::ToSchema`). Three rules of the wire that hold for every message are stated here,
//! once: fields are left out rather than `null`, integers have the bounds of their types, and
//! `schema` is the version that this program speaks.
//!
//! What the document cannot say: that a state fits its world and does not contradict itself (such
//! messages get 422 with a type of their own), and that a whole number in an integer's place must
//! be written without a fraction (`1`, not `1.0`).
//!
//! ```
//! let document = infer::openapi::document();
//! let operations: Vec<String> = infer::openapi::operations(&document)
//!     .map(|operation| operation.to_string())
//!     .collect();
//! assert!(operations.contains(&"POST /v1/decisions".to_owned()));
//! ```

use std::fmt;

use serde_json::{Map, Value, json};
use twin::wire::SCHEMA;
use utoipa::openapi::security::{Http, HttpAuthScheme, SecurityScheme};
use utoipa::openapi::{ComponentsBuilder, InfoBuilder, OpenApiBuilder, Server};

use crate::service::{self, REQUEST_ID_CHARS};

/// What the service is, at the head of its description.
const DESCRIPTION: &str = "Decides online for a fleet of VMs: a state in, a checked decision out.\n\
\n\
Optional fields are left out, never `null`, and unknown fields are errors. Times (`_ns`) are whole \
nanoseconds and may exceed 2^53: parse them as 64-bit integers. What goes wrong is told by a \
problem document (RFC 9457) that names the wrong field.";

/// The request of the documentation.
const EXAMPLE_REQUEST: &str = include_str!("../examples/request.json");
/// The answer to it.
const EXAMPLE_RESPONSE: &str = include_str!("../examples/response.json");
/// A request for a decision on the fleet that is kept.
pub(crate) const FLEET_DECISION: &str = include_str!("../examples/fleet-decision.json");
/// What happened in the fleet.
pub(crate) const TELEMETRY: &str = include_str!("../examples/telemetry.json");
/// Decisions to be priced.
pub(crate) const WHAT_IF: &str = include_str!("../examples/what-if.json");
/// A decision to be held against the rules.
pub(crate) const VALIDATE: &str = include_str!("../examples/validate.json");
/// What became of requests.
pub(crate) const OUTCOMES: &str = include_str!("../examples/outcomes.json");

/// An operation: a method and a path.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Operation<'a> {
    /// The path, parameters in braces.
    pub path: &'a str,
    /// The method in lower case.
    pub method: &'a str,
}

impl fmt::Display for Operation<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.method.to_ascii_uppercase(), self.path)
    }
}

/// The document.
#[must_use]
pub fn document() -> Value {
    let bearer = SecurityScheme::Http(Http::new(HttpAuthScheme::Bearer));
    let mut api = OpenApiBuilder::new()
        .info(
            InfoBuilder::new()
                .title("infer")
                .description(Some(DESCRIPTION))
                .version(env!("CARGO_PKG_VERSION"))
                .license(Some(utoipa::openapi::License::new(env!(
                    "CARGO_PKG_LICENSE"
                ))))
                .build(),
        )
        .servers(Some([Server::new("/")]))
        .components(Some(
            ComponentsBuilder::new()
                .security_scheme("bearer", bearer)
                .build(),
        ))
        .build();
    api.merge(service::operations().into_openapi());
    // A description of strings, numbers and lists always serializes.
    let mut document = serde_json::to_value(&api).unwrap_or_default();
    tighten(&mut document);
    identify(&mut document);
    // The same bytes, whichever map a build of `serde_json` has.
    document.sort_all_objects();
    document
}

/// The document as it is committed and served.
#[must_use]
pub fn text(document: &Value) -> String {
    // A JSON value always serializes.
    let mut text = serde_json::to_string_pretty(document).unwrap_or_default();
    text.push('\n');
    text
}

/// The operations of `document`, by path.
pub fn operations(document: &Value) -> impl Iterator<Item = Operation<'_>> {
    let paths = document["paths"].as_object().into_iter().flatten();
    paths.flat_map(|(path, item)| {
        item.as_object()
            .into_iter()
            .flat_map(|item| item.keys())
            .map(|method| Operation { path, method })
    })
}

/// The committed example of a request for a decision.
pub(crate) fn example_request() -> Value {
    example(EXAMPLE_REQUEST)
}

/// The committed example of a decision.
pub(crate) fn example_response() -> Value {
    example(EXAMPLE_RESPONSE)
}

/// A committed example, to stand in the description. A test keeps those of decisions readable.
pub(crate) fn example(text: &str) -> Value {
    serde_json::from_str(text).unwrap_or_default()
}

/// Every response names its request.
fn identify(document: &mut Value) {
    let identity = json!({
        "description": "Names the request in logs and traces: as the client named it in a header \
                        of the same name, or by a name of the service's own.",
        "schema": {"type": "string", "minLength": 1, "maxLength": REQUEST_ID_CHARS},
    });
    let items = document["paths"].as_object_mut().into_iter().flatten();
    let operations = items.flat_map(|(_, item)| item.as_object_mut().into_iter().flatten());
    for (_, operation) in operations {
        let responses = operation["responses"].as_object_mut().into_iter().flatten();
        for (_, response) in responses {
            response["headers"]["X-Request-Id"] = identity.clone();
        }
    }
}

/// Applies the rules of the wire to every schema.
fn tighten(value: &mut Value) {
    match value {
        Value::Array(items) => items.iter_mut().for_each(tighten),
        Value::Object(members) => {
            forbid_null(members);
            bound_integers(members);
            pin_version(members);
            unlink(members);
            for (name, member) in members.iter_mut() {
                // Examples and constants are values, not schemas.
                if !matches!(name.as_str(), "example" | "examples" | "const" | "enum") {
                    tighten(member);
                }
            }
        }
        _ => {}
    }
}

/// An optional field is left out, never `null`.
fn forbid_null(schema: &mut Map<String, Value>) {
    if let Some(Value::Array(types)) = schema.get_mut("type") {
        types.retain(|t| *t != json!("null"));
        if let [one] = &types[..] {
            let one = one.clone();
            schema.insert("type".into(), one);
        }
    }
    if let Some(Value::Array(choices)) = schema.get_mut("oneOf") {
        choices.retain(|choice| *choice != json!({"type": "null"}));
        if let [Value::Object(one)] = &choices[..] {
            let one = one.clone();
            schema.remove("oneOf");
            schema.extend(one);
        }
    }
}

/// An integer has the bounds of its type.
fn bound_integers(schema: &mut Map<String, Value>) {
    let format = schema.get("format").and_then(Value::as_str).unwrap_or("");
    // OpenAPI's registry of formats has `uint64`.
    let format = format.replacen("u-int", "uint", 1);
    let (minimum, maximum) = match format.as_str() {
        "uint8" => (json!(0), json!(u8::MAX)),
        "uint16" => (json!(0), json!(u16::MAX)),
        "uint32" => (json!(0), json!(u32::MAX)),
        "uint64" => (json!(0), json!(u64::MAX)),
        "int32" => (json!(i32::MIN), json!(i32::MAX)),
        "int64" => (json!(i64::MIN), json!(i64::MAX)),
        _ => return,
    };
    schema.insert("format".into(), format.into());
    for (name, bound) in [("minimum", minimum), ("maximum", maximum)] {
        schema.entry(name).or_insert(bound);
    }
}

/// A description is for readers who have no crate to look links up in.
fn unlink(members: &mut Map<String, Value>) {
    for name in ["description", "summary"] {
        if let Some(Value::String(text)) = members.get_mut(name) {
            *text = text
                .replace("[`", "`")
                .replace("`]", "`")
                .replace("\n\n", "\r");
            *text = text.replace('\n', " ").replace('\r', "\n\n");
        }
    }
}

/// `schema` is the version that this program speaks.
fn pin_version(schema: &mut Map<String, Value>) {
    if let Some(Value::Object(version)) = schema
        .get_mut("properties")
        .and_then(|properties| properties.get_mut("schema"))
    {
        let description = version.remove("description");
        *version = Map::from_iter([
            ("type".into(), json!("integer")),
            ("const".into(), json!(SCHEMA)),
        ]);
        version.extend(description.map(|text| ("description".into(), text)));
    }
}
