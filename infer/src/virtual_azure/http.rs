//! The HTTP shell: requests to calls, answers to responses, tokens.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::future::Future;
use std::pin::Pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use axum::body::{Body, to_bytes};
use axum::extract::Request;
use axum::http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};
use axum::response::Response;
use serde_json::{Value, json};
use thiserror::Error;
use tokio::time::timeout;
use tower::Service;

use super::access::Access;
use super::answer::{Answer, Call, Denial, query, segments};
use super::engine::{Engine, Unanswered};

/// The most bytes of a body of the Resource Manager.
const BODY_BYTES: usize = 256 << 10;
/// The most bytes of placements.
const PLACEMENT_BYTES: usize = 32 << 20;
/// How long a body may take to arrive.
const READ_LIMIT: Duration = Duration::from_secs(10);

/// What the connections share.
#[derive(Clone, Debug)]
pub(super) struct Shell {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    engine: Engine,
    access: Mutex<Access>,
    scheme: &'static str,
    tenant: String,
    /// Numbers requests.
    requests: AtomicU64,
}

/// A connection is closed in place of an answer, as a fault wants it.
#[derive(Debug, Error)]
#[error("the answer is lost")]
pub(super) struct Lost;

impl From<Infallible> for Lost {
    fn from(never: Infallible) -> Self {
        match never {}
    }
}

impl Shell {
    pub(super) fn new(engine: Engine, access: Access, tls: bool, tenant: &str) -> Self {
        Self {
            shared: Arc::new(Shared {
                engine,
                access: Mutex::new(access),
                scheme: if tls { "https" } else { "http" },
                tenant: tenant.into(),
                requests: AtomicU64::new(0),
            }),
        }
    }

    /// A token of `caller`.
    pub(super) fn token(&self, caller: &str) -> String {
        self.shared.access().issue(caller, Instant::now())
    }
}

impl<B> Service<axum::http::Request<B>> for Shell
where
    B: axum::body::HttpBody<Data = axum::body::Bytes> + Send + 'static,
    B::Error: Into<axum::BoxError>,
{
    type Response = Response;
    type Error = Lost;
    type Future = Pin<Box<dyn Future<Output = Result<Response, Lost>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Lost>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: axum::http::Request<B>) -> Self::Future {
        let shared = Arc::clone(&self.shared);
        Box::pin(async move { shared.respond(request.map(Body::new)).await })
    }
}

impl Shared {
    fn access(&self) -> MutexGuard<'_, Access> {
        self.access.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn respond(&self, request: Request) -> Result<Response, Lost> {
        let number = self.requests.fetch_add(1, Ordering::Relaxed) + 1;
        let headers = request.headers().clone();
        let answer = self.answer(request).await;
        if answer.lost {
            return Err(Lost);
        }
        Ok(response(answer, &headers, number))
    }

    async fn answer(&self, request: Request) -> Answer {
        let mut call = self.call(&request);
        let first = call.segments.first().map(String::as_str);
        let limit = if first == Some("virtual") {
            PLACEMENT_BYTES
        } else {
            BODY_BYTES
        };
        let headers = request.headers().clone();
        match read(request, limit).await {
            Ok(body) => call.body = body,
            Err(denial) => return denial.answer(),
        }
        if let Some(answer) = self.without_token(&call, &headers) {
            return answer;
        }
        if call.segments.first().map(String::as_str) != Some("virtual") {
            let authorization = text(&headers, &header::AUTHORIZATION);
            let caller = self.access().caller(authorization, Instant::now());
            match caller {
                Some(caller) => call.caller = caller,
                None => return self.unauthorized(authorization.is_some()),
            }
        }
        match self.engine.answer(call).await {
            Ok(answer) => answer,
            Err(Unanswered::Busy) => {
                let message = "Too many calls wait for their turn.";
                let mut denial = Denial::new(503, "ServerBusy", message);
                denial.wait = Some(Duration::from_secs(1));
                denial.answer()
            }
            Err(Unanswered::Gone) => {
                Denial::new(503, "ServerUnavailable", "The twin has stopped.").answer()
            }
        }
    }

    /// The call that `request` is, without its body.
    fn call(&self, request: &Request) -> Call {
        let headers = request.headers();
        let uri = request.uri();
        let host = text(headers, &header::HOST)
            .or_else(|| uri.authority().map(axum::http::uri::Authority::as_str))
            .unwrap_or("localhost");
        let owned = |name: &HeaderName| text(headers, name).map(str::to_owned);
        Call {
            method: request.method().as_str().to_owned(),
            path: uri.path().to_owned(),
            segments: segments(uri.path()),
            query: query(uri.query().unwrap_or_default()),
            base: format!("{}://{host}", self.scheme),
            caller: String::new(),
            client_request: owned(&HeaderName::from_static("x-ms-client-request-id")),
            if_match: owned(&header::IF_MATCH),
            if_none_match: owned(&header::IF_NONE_MATCH),
            body: Vec::new(),
        }
    }

    /// Answers what needs no token: the authority, the metadata service, health.
    fn without_token(&self, call: &Call, headers: &HeaderMap) -> Option<Answer> {
        let path: Vec<&str> = call.segments.iter().map(String::as_str).collect();
        let base = call.base.as_str();
        Some(match (call.method.as_str(), path.as_slice()) {
            ("GET", ["healthz"]) => Answer::ok(json!({"status": "ok"})),
            ("GET", ["common" | "organizations", "discovery", "instance"]) => {
                Answer::ok(Access::instances(base, &self.tenant))
            }
            ("GET", [tenant, "v2.0", ".well-known", "openid-configuration"]) => {
                Answer::ok(Access::discovery(base, tenant))
            }
            ("GET", [_, "discovery", "v2.0", "keys"]) => Answer::ok(json!({"keys": []})),
            ("POST", [_, "oauth2", "v2.0", "token"] | [_, "oauth2", "token"]) => {
                let form = query(&String::from_utf8_lossy(&call.body));
                match self.access().grant(&form, Instant::now()) {
                    Ok(body) => Answer::ok(body),
                    Err(refused) => Answer::of(refused.status(), Some(refused.body())),
                }
            }
            ("GET", ["metadata", "identity", "oauth2", "token"] | ["msi", "token"]) => {
                self.identity(call, headers)
            }
            _ => return None,
        })
    }

    fn identity(&self, call: &Call, headers: &HeaderMap) -> Answer {
        let asked = ["metadata", "x-identity-header"];
        let resource = call.parameter("resource");
        match resource {
            Some(resource) if asked.iter().any(|name| headers.contains_key(*name)) => {
                Answer::ok(self.access().identity(resource, Instant::now()))
            }
            _ => {
                let description = "the header Metadata: true and the parameter resource are needed";
                let body = json!({
                    "error": "invalid_request",
                    "error_description": description,
                });
                Answer::of(400, Some(body))
            }
        }
    }

    fn unauthorized(&self, sent: bool) -> Answer {
        let (code, message) = if sent {
            ("InvalidAuthenticationToken", "The access token is invalid.")
        } else {
            (
                "AuthenticationFailed",
                "Authentication failed. The 'Authorization' header is missing.",
            )
        };
        let challenge = format!(
            "Bearer authorization_uri=\"{}://localhost/{}\", error=\"invalid_token\", \
             error_description=\"{message}\"",
            self.scheme, self.tenant
        );
        Denial::new(401, code, message)
            .answer()
            .with("www-authenticate", challenge)
    }
}

fn text<'a>(headers: &'a HeaderMap, name: &HeaderName) -> Option<&'a str> {
    headers.get(name).and_then(|value| value.to_str().ok())
}

async fn read(request: Request, limit: usize) -> Result<Vec<u8>, Denial> {
    match timeout(READ_LIMIT, to_bytes(request.into_body(), limit)).await {
        Ok(Ok(bytes)) => Ok(bytes.to_vec()),
        Ok(Err(_)) => Err(Denial::new(
            413,
            "RequestContentTooLarge",
            format!("The body broke off or has more than {limit} bytes."),
        )),
        Err(_) => Err(Denial::new(
            408,
            "RequestTimeout",
            format!("A body must arrive within {} s.", READ_LIMIT.as_secs()),
        )),
    }
}

/// The response of `answer`, with the headers that every one has.
fn response(answer: Answer, request: &HeaderMap, number: u64) -> Response {
    let mut body = answer.body.as_ref().map(Value::to_string);
    let id = format!("0000ca11-0000-4000-8000-{number:012x}");
    let correlation = HeaderName::from_static("x-ms-correlation-request-id");
    let asked = text(request, &correlation).unwrap_or(&id);
    let mut headers: BTreeMap<&str, String> = BTreeMap::new();
    headers.insert("x-ms-request-id", id.clone());
    headers.insert("x-ms-correlation-request-id", asked.to_owned());
    headers.insert("cache-control", "no-cache".into());
    headers.insert("x-content-type-options", "nosniff".into());
    if body.is_some() {
        headers.insert("content-type", "application/json; charset=utf-8".into());
    }
    if answer.status == 204 {
        body = None;
    }
    headers.extend(answer.headers);
    let mut response = Response::new(Body::from(body.unwrap_or_default()));
    *response.status_mut() =
        StatusCode::from_u16(answer.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    for (name, value) in headers {
        if let (Ok(name), Ok(value)) = (
            HeaderName::from_bytes(name.as_bytes()),
            HeaderValue::from_str(&value),
        ) {
            response.headers_mut().insert(name, value);
        }
    }
    response
}
