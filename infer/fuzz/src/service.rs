//! Requests to the service, and the file that keeps its choice of policies.

use std::cell::RefCell;
use std::net::SocketAddr;
use std::time::Duration;

use axum::Router;
use axum::body::{Body, Bytes, to_bytes};
use axum::http::{HeaderValue, Request, Response, header};
use infer::decider::Decider;
use infer::registry::{Entry, Places, Registry};
use infer::service::{Limits, Service};
use infer::source::Source;
use serde_json::{Value, json};
use tokio::runtime::Runtime;
use tower::ServiceExt as _;

use super::support::{REQUEST, messages, scratch, small};

/// The most requests of one run.
const MAX_REQUESTS: usize = 16;
/// The most bytes of an answer.
const MAX_ANSWER_BYTES: usize = 16 << 20;
/// The statuses of requests that have a wrong value, which is named.
const WRONG_VALUE: [u16; 6] = [400, 401, 408, 413, 415, 422];
/// The policy that the service begins with.
const POLICY: &str = "least-loaded";
/// What panics are answered with.
const DEFECT: u16 = 500;

/// A service in this process.
struct Running {
    runtime: Runtime,
    router: Router,
}

thread_local! {
    static SERVICE: RefCell<Option<Running>> = const { RefCell::new(None) };
}

impl Running {
    fn start() -> Self {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .max_blocking_threads(1)
            .build()
            .expect("a runtime");
        let decider = Decider::new(small(), &Source::named(POLICY), 1).expect("a policy");
        let address = SocketAddr::from(([127, 0, 0, 1], 0));
        let limits = Limits {
            body: Duration::from_secs(2),
            ..Limits::default()
        };
        let service = runtime
            .block_on(Service::bind(address, vec![decider], limits))
            .expect("a free port");
        Self {
            router: service.into_router(),
            runtime,
        }
    }

    /// Leaves the policy that it began with alone, for the next run.
    fn forget_policies(&self) {
        let call = |method: &str, target: &str| {
            let request = Request::builder().method(method).uri(target);
            let (_, body) = self.answer(request.body(Bytes::new()).expect("a request"));
            body
        };
        call("POST", "/v1/models:end-shadow");
        call("POST", &format!("/v1/models/{POLICY}:activate"));
        let list: Value = serde_json::from_slice(&call("GET", "/v1/models")).expect("JSON");
        for model in list["models"].as_array().into_iter().flatten() {
            if let Some(key) = model["key"].as_str().filter(|key| *key != POLICY) {
                call("DELETE", &format!("/v1/models/{key}"));
            }
        }
    }

    fn answer(&self, request: Request<Bytes>) -> (Response<()>, Bytes) {
        self.runtime.block_on(async {
            let request = request.map(Body::from);
            let response = match self.router.clone().oneshot(request).await {
                Ok(response) => response,
                Err(never) => match never {},
            };
            let (parts, body) = response.into_parts();
            let body = to_bytes(body, MAX_ANSWER_BYTES).await;
            (
                Response::from_parts(parts, ()),
                body.expect("it is bounded"),
            )
        })
    }
}

/// Requests, separated by `---`, each a method and a target, headers, an empty line and a body: given
/// one after another to a service that keeps the fleet of the example. Nothing fails, and whatever is
/// refused for a wrong value says which.
pub(crate) fn service(data: &[u8]) {
    SERVICE.with_borrow_mut(|kept| {
        let running = kept.get_or_insert_with(Running::start);
        let fleet = Request::put("/v1/fleet")
            .header(header::CONTENT_TYPE, "application/json")
            .body(Bytes::from_static(REQUEST))
            .expect("a request");
        let (response, _) = running.answer(fleet);
        assert_eq!(response.status(), 200);
        let mut policies = false;
        for message in messages(data, MAX_REQUESTS) {
            if let Some(request) = message.request() {
                policies |= request.uri().path().starts_with("/v1/models");
                check(running, shortened(request));
            }
        }
        if policies {
            running.forget_policies();
        }
    });
}

/// The request as JSON unless it says otherwise; prices are asked for over as little as there can be.
fn shortened(mut request: Request<Bytes>) -> Request<Bytes> {
    let json = HeaderValue::from_static("application/json");
    request
        .headers_mut()
        .entry(header::CONTENT_TYPE)
        .or_insert(json);
    if request.uri().path().contains("what-if")
        && let Ok(Value::Object(mut body)) = serde_json::from_slice(request.body())
    {
        body.insert("futures".into(), json!(2));
        body.insert("horizon_intervals".into(), json!(1));
        *request.body_mut() = Value::Object(body).to_string().into();
    }
    request
}

fn check(running: &Running, request: Request<Bytes>) {
    let what = format!("{} {}", request.method(), request.uri());
    let (response, body) = running.answer(request);
    let status = response.status().as_u16();
    let told = String::from_utf8_lossy(&body);
    assert_ne!(status, DEFECT, "{what}: {told}");
    assert!(response.headers().contains_key("x-request-id"), "{what}");
    let kind = response.headers().get(header::CONTENT_TYPE);
    let kind = kind.and_then(|kind| kind.to_str().ok()).unwrap_or_default();
    if kind.ends_with("json") {
        let document: Value = serde_json::from_slice(&body).expect("what is JSON is JSON");
        if WRONG_VALUE.contains(&status) {
            let field = document["field"].as_str().unwrap_or_default();
            assert!(
                !field.is_empty(),
                "{what}: {status} without a field: {told}"
            );
        }
        if status >= 400 {
            let detail = document["detail"].as_str().unwrap_or_default();
            assert!(
                !detail.is_empty(),
                "{what}: {status} without a reason: {told}"
            );
        }
    } else {
        assert!(!WRONG_VALUE.contains(&status), "{what}: {status} {kind}");
    }
}

/// The file that keeps the choice of policies over a restart: whatever stands in it, the service
/// starts and somebody decides.
pub(crate) fn registry_state(data: &[u8]) {
    let folder = scratch();
    let path = folder.path().join("policies.json");
    // The hash of the world is no secret, and nothing can be guessed about it.
    let text = String::from_utf8_lossy(data).replace("WORLD", &small().hash);
    std::fs::write(&path, text).expect("a scratch file");
    let places = Places {
        models: None,
        state: Some(path.clone()),
    };
    let registry = || Registry::new(small(), Entry::given(POLICY, None), places.clone());
    let restored = registry();
    let serving = restored.serving();
    assert!(restored.list().iter().any(|listed| listed.active));
    let active = serving.active.key().to_owned();
    if restored.shadow("greedy", 0.5, 0.1).is_ok() || restored.roll_back().is_ok() {
        let active = restored.serving().active.key().to_owned();
        assert_eq!(registry().serving().active.key(), active);
    } else {
        assert_eq!(registry().serving().active.key(), active);
    }
}
