//! The guard before handlers that there are not in the service: with a table of their own.

use std::sync::Mutex;

use axum::Router;
use axum::body::Body;
use axum::middleware::from_fn_with_state;
use axum::routing::{get, post};
use tower::ServiceExt;
use twin::World;

use super::*;
use crate::audit::{AuditError, AuditFile, AuditSink};
use crate::decider::Decider;
use crate::security::Security;
use crate::service::{Limits, Service};
use crate::source::Source;

const TABLE: &[Endpoint] = &[
    Endpoint {
        method: "POST",
        path: "/change/{id}",
        access: Access::Role(Role::Operate),
        effect: Effect::Change,
    },
    Endpoint {
        method: "POST",
        path: "/perhaps",
        access: Access::Role(Role::Decide),
        effect: Effect::ChangeIfTold,
    },
    Endpoint {
        method: "GET",
        path: "/see",
        access: Access::Role(Role::Read),
        effect: Effect::None,
    },
];

/// Keeps records as JSON, or refuses them.
#[derive(Debug, Default)]
struct Kept {
    is_full: bool,
    records: Mutex<Vec<serde_json::Value>>,
}

impl AuditSink for Kept {
    fn record(&self, record: &AuditRecord<'_>) -> Result<(), AuditError> {
        if self.is_full {
            return Err(AuditError {
                path: "full".into(),
                source: std::io::ErrorKind::StorageFull.into(),
            });
        }
        let record = serde_json::to_value(record).expect("it serializes");
        self.records.lock().expect("nobody panicked").push(record);
        Ok(())
    }
}

impl Kept {
    fn records(&self) -> Vec<serde_json::Value> {
        self.records.lock().expect("nobody panicked").clone()
    }
}

async fn app(security: Security) -> Arc<App> {
    let world = Arc::new(World::load("scinet-16").expect("it is embedded"));
    let decider = Decider::new(&world, &Source::named("least-loaded"), 1).expect("it exists");
    let address = "127.0.0.1:0".parse().expect("an address");
    let service = Service::bind(address, vec![decider], Limits::default()).await;
    let mut app = service.expect("it binds").secured(security).app;
    app.endpoints = TABLE;
    Arc::new(app)
}

/// Handlers that are in the table, one that is not, and one that never ends.
fn router(app: &Arc<App>) -> Router {
    async fn told() -> Response {
        let mut response = Response::new(Body::empty());
        response.extensions_mut().insert(Subject("model-1".into()));
        response
    }
    Router::new()
        .route("/change/{id}", post(told).put(told))
        .route(
            "/perhaps",
            post(async |body: String| match body.as_str() {
                "change" => told().await,
                _ => Response::new(Body::empty()),
            }),
        )
        .route("/see", get(told))
        .route("/forgotten", get(told))
        .layer(from_fn_with_state(Arc::clone(app), guard))
}

fn request(method: &str, path: &str, body: &str) -> Request {
    Request::builder()
        .method(method)
        .uri(path)
        .header(REQUEST_ID, "r-1")
        .body(Body::from(body.to_owned()))
        .expect("a request")
}

async fn status(router: &Router, method: &str, path: &str, body: &str) -> u16 {
    let response = router.clone().oneshot(request(method, path, body)).await;
    response.expect("answered").status().as_u16()
}

#[tokio::test]
async fn an_endpoint_without_a_line_in_the_table_works_for_nobody() {
    let router = router(&app(Security::open()).await);
    assert_eq!(status(&router, "GET", "/see", "").await, 200);
    assert_eq!(status(&router, "POST", "/change/7", "").await, 200);
    assert_eq!(status(&router, "GET", "/forgotten", "").await, 500);
    // A method that has a handler and no line.
    assert_eq!(status(&router, "PUT", "/change/7", "").await, 405);
}

#[tokio::test]
async fn what_changes_something_is_recorded_before_it_is_answered() {
    let kept = Arc::new(Kept::default());
    let router = router(&app(Security::open().with_audit(Arc::clone(&kept) as _)).await);
    assert_eq!(status(&router, "POST", "/change/7?key=a", "").await, 200);
    assert_eq!(status(&router, "POST", "/perhaps", "").await, 200);
    assert_eq!(status(&router, "POST", "/perhaps", "change").await, 200);
    assert_eq!(status(&router, "GET", "/see", "").await, 200);
    let mut records = kept.records();
    assert_eq!(records.len(), 2);
    assert_eq!(records[1]["path"], "/perhaps");
    let time = records[0]["time"].take();
    let time = time
        .as_str()
        .expect("text")
        .parse::<Timestamp>()
        .expect("a time");
    assert!(Timestamp::now().duration_since(time).as_secs() < 60);
    assert_eq!(
        records[0],
        serde_json::json!({
            "schema": 1, "time": null, "client": null, "known_by": "anyone", "role": "operate",
            "address": "0.0.0.0", "method": "POST", "path": "/change/7", "status": 200,
            "subject": "model-1", "request_id": "r-1",
        })
    );
}

#[tokio::test]
async fn what_cannot_be_recorded_is_not_answered_as_done() {
    let full = Arc::new(Kept {
        is_full: true,
        ..Kept::default()
    });
    let router = router(&app(Security::open().with_audit(full)).await);
    assert_eq!(status(&router, "POST", "/change/7", "").await, 500);
    assert_eq!(status(&router, "POST", "/perhaps", "change").await, 500);
    assert_eq!(status(&router, "POST", "/perhaps", "").await, 200);
    assert_eq!(status(&router, "GET", "/see", "").await, 200);
}

#[tokio::test]
async fn a_call_whose_client_went_away_is_recorded() {
    let kept = Arc::new(Kept::default());
    let app = app(Security::open().with_audit(Arc::clone(&kept) as _)).await;
    let waiting = Router::new()
        .route(
            "/change/{id}",
            post(async || std::future::pending::<()>().await),
        )
        .layer(from_fn_with_state(Arc::clone(&app), guard));
    let mut call = Box::pin(waiting.oneshot(request("POST", "/change/7", "")));
    let begun = std::future::poll_fn(|cx| std::task::Poll::Ready(call.as_mut().poll(cx))).await;
    assert!(begun.is_pending());
    assert_eq!(kept.records().len(), 0);
    drop(call);
    let records = kept.records();
    assert_eq!(records.len(), 1);
    assert_eq!(records[0]["status"], serde_json::Value::Null);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_record_is_in_the_file_when_the_answer_comes() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("audit.jsonl");
    let sink = AuditFile::open(&path, true).expect("opened");
    let router = router(&app(Security::open().with_audit(Arc::new(sink))).await);
    for count in 1..=3 {
        assert_eq!(status(&router, "POST", "/change/7", "").await, 200);
        let text = std::fs::read_to_string(&path).expect("there");
        assert_eq!(text.lines().count(), count);
    }
}

#[test]
fn this_machine_has_few_names() {
    for (authority, is_ours) in [
        ("localhost", true),
        ("LOCALHOST:8080", true),
        ("127.0.0.1:8080", true),
        ("192.0.2.1", true),
        ("[::1]:8080", true),
        ("example.org", false),
        ("localhost.example.org:8080", false),
        ("127.0.0.1.example.org", false),
        ("", false),
    ] {
        assert_eq!(is_of_this_machine(authority), is_ours, "{authority}");
    }
}
