//! Before a handler: who asks, how often, for what, with how much. After it: the audit trail.
//!
//! Connections, handshakes and heads of requests are bounded before ([`super::connections`]);
//! requests in flight and the bytes of a body after (`App::admit`, `App::json_body`).

use std::sync::Arc;
use std::time::Duration;

use axum::extract::{DefaultBodyLimit, MatchedPath, Request, State};
use axum::http::{HeaderMap, HeaderValue, Method, StatusCode, header};
use axum::middleware::Next;
use axum::response::Response;
use jiff::Timestamp;
use tokio::runtime::{Handle, RuntimeFlavor};
use twin::wire::FleetState;

use super::App;
use super::access::{self, Access, Effect, Endpoint, Entry};
use super::connections::Connection;
use super::document::method_not_allowed;
use super::problem::Refusal;
use crate::audit::AuditRecord;
use crate::auth::{Client, ClientName, CredentialError, Identity, Peer, Role};
use crate::config::Audience;
use crate::rate::{Quota, Verdict, Visitor};

/// The name of a request.
const REQUEST_ID: &str = "x-request-id";
/// The most characters of a client's own name for a request.
pub(crate) const REQUEST_ID_CHARS: usize = 64;
/// The version of audit records.
const AUDIT_SCHEMA: u32 = 1;

/// The name of a request; whoever names it first inserts this.
#[derive(Clone, Debug)]
pub(super) struct RequestId(pub(super) Arc<str>);

/// What a call was about, as the id of a decision or a model: a handler puts it into the extensions
/// of its answer, for the audit trail.
#[derive(Clone, Debug)]
pub(super) struct Subject(pub(super) Arc<str>);

/// Who asks, for handlers: in the extensions of every request.
#[derive(Clone, Debug)]
pub(super) struct Caller(pub(super) Arc<Client>);

impl Caller {
    /// Its name, if it has one.
    pub(super) fn name(&self) -> Option<&str> {
        self.0.name().map(ClientName::as_str)
    }
}

/// The most bytes of this request's body.
#[derive(Clone, Copy, Debug)]
pub(super) struct BodyLimit(pub(super) usize);

/// Lets requests through to their handlers, or refuses them.
pub(super) async fn guard(State(app): State<Arc<App>>, request: Request, next: Next) -> Response {
    let id = request_id(&app, &request);
    let mut response = guarded(&app, request, next, &id).await;
    if let Ok(value) = HeaderValue::from_str(&id) {
        response.headers_mut().entry(REQUEST_ID).or_insert(value);
    }
    response
}

async fn guarded(app: &Arc<App>, mut request: Request, next: Next, id: &Arc<str>) -> Response {
    let path = request.extensions().get::<MatchedPath>().cloned();
    let entry = path
        .as_ref()
        .map(|path| access::entry(app.endpoints, request.method(), path.as_str()));
    let (client, rate) = match app.enter(&request, entry) {
        Ok(entered) => entered,
        Err(refused) => return refused.into_response(app),
    };
    let mut response = match (entry, path) {
        (Some(Entry::NoSuchMethod), Some(path)) => {
            let mut response = method_not_allowed(State(Arc::clone(app))).await;
            let methods = access::methods(app.endpoints, path.as_str());
            if let Ok(methods) = HeaderValue::from_str(&methods) {
                response.headers_mut().insert(header::ALLOW, methods);
            }
            response
        }
        (entry, _) => {
            let limit = app.security.body_bytes(&client, app.limits.body_bytes);
            DefaultBodyLimit::max(limit).apply(&mut request);
            let client = Arc::new(client);
            let extensions = request.extensions_mut();
            extensions.insert(BodyLimit(limit));
            extensions.insert(RequestId(Arc::clone(id)));
            extensions.insert(Caller(Arc::clone(&client)));
            app.run(request, next, entry, client, id).await
        }
    };
    if let Some(rate) = rate {
        rate.tell(response.headers_mut());
    }
    response
}

/// The name of `request`: the one it has, the client's own if that is short and plain, or a new one.
pub(super) fn request_id(app: &App, request: &Request) -> Arc<str> {
    if let Some(RequestId(id)) = request.extensions().get() {
        return Arc::clone(id);
    }
    let own = request.headers().get(REQUEST_ID);
    let own = own.and_then(|id| id.to_str().ok()).filter(|id| {
        let is_plain = |c: char| c.is_ascii_alphanumeric() || "-_.:".contains(c);
        (1..=REQUEST_ID_CHARS).contains(&id.len()) && id.chars().all(is_plain)
    });
    match own {
        Some(id) => id.into(),
        None => app.telemetry.requests.next_id().into(),
    }
}

/// A refusal, with what belongs in its headers.
struct Refused {
    refusal: Refusal,
    challenge: Option<HeaderValue>,
    wait: Option<Duration>,
    rate: Option<Rate>,
}

impl From<Refusal> for Box<Refused> {
    fn from(refusal: Refusal) -> Self {
        Self::new(Refused {
            refusal,
            challenge: None,
            wait: None,
            rate: None,
        })
    }
}

impl Refused {
    fn into_response(self, app: &App) -> Response {
        let mut response = self.refusal.into_response(app);
        let headers = response.headers_mut();
        if let Some(challenge) = self.challenge {
            headers.insert(header::WWW_AUTHENTICATE, challenge);
        }
        if let Some(wait) = self.wait {
            headers.insert(header::RETRY_AFTER, whole_seconds(wait).into());
        }
        if let Some(rate) = self.rate {
            rate.tell(headers);
        }
        response
    }
}

/// Whole seconds, at least one, that are not shorter than `wait`.
fn whole_seconds(wait: Duration) -> u64 {
    let part = u64::from(wait.subsec_nanos() > 0);
    wait.as_secs().saturating_add(part).max(1)
}

/// What is left of a client's quota, for its headers.
#[derive(Clone, Copy)]
struct Rate {
    quota: Quota,
    remaining: u64,
    reset: Duration,
}

impl Rate {
    /// The headers of draft-ietf-httpapi-ratelimit-headers-10.
    fn tell(self, headers: &mut HeaderMap) {
        let (quota, window) = (self.quota.burst(), self.quota.window_s());
        let policy = format!("\"client\";q={quota};w={window}");
        let reset = whole_seconds(self.reset);
        let left = format!("\"client\";r={};t={reset}", self.remaining);
        for (name, text) in [("ratelimit-policy", policy), ("ratelimit", left)] {
            if let Ok(value) = HeaderValue::from_str(&text) {
                headers.insert(name, value);
            }
        }
    }
}

impl App {
    /// Who sends `request`, if they may.
    fn enter(
        &self,
        request: &Request,
        entry: Option<Entry>,
    ) -> Result<(Client, Option<Rate>), Box<Refused>> {
        self.check_host(request).map_err(Box::<Refused>::from)?;
        let peer = match request.extensions().get::<Connection>() {
            Some(connection) => connection.peer.clone(),
            None => Peer::unknown(),
        };
        let needed = match entry {
            Some(Entry::Of(endpoint)) => self.needed(endpoint.access),
            Some(Entry::NoSuchMethod) | None => Some(Role::Read),
            Some(Entry::Forgotten) => {
                let path = request.uri().path();
                tracing::error!(path, "the endpoint has no line in the table of access.rs");
                let detail = "nobody said who may ask for this";
                return Err(Refusal::new(StatusCode::INTERNAL_SERVER_ERROR, detail).into());
            }
        };
        let client = self.identify(request.headers(), &peer, needed)?;
        let rate = self.count(&client)?;
        match needed {
            Some(role) if client.role < Some(role) => {
                let mut refused = forbidden(&client, role);
                refused.rate = rate;
                Err(refused)
            }
            _ => Ok((client, rate)),
        }
    }

    /// Where nobody authenticates, only pages of this machine may ask: a page from elsewhere could
    /// otherwise make a browser ask in its user's place, under a name that it lets point here.
    fn check_host(&self, request: &Request) -> Result<(), Refusal> {
        if !self.security.is_local {
            return Ok(());
        }
        let named = request.uri().authority().map(|a| a.as_str());
        let header = || request.headers().get(header::HOST)?.to_str().ok();
        match named.or_else(header) {
            Some(authority) if !is_of_this_machine(authority) => {
                let detail = "nobody authenticates, so the service answers to localhost and to \
                              addresses only, not to other names";
                Err(Refusal::new(StatusCode::FORBIDDEN, detail))
            }
            _ => Ok(()),
        }
    }

    /// The role that `access` asks for.
    fn needed(&self, access: Access) -> Option<Role> {
        let audience = match access {
            Access::Anyone => Audience::Anyone,
            Access::Health => self.security.audiences.health,
            Access::Metrics => self.security.audiences.metrics,
            Access::OpenApi => self.security.audiences.openapi,
            Access::Role(role) => return Some(role),
        };
        (audience == Audience::Read).then_some(Role::Read)
    }

    fn identify(
        &self,
        headers: &HeaderMap,
        peer: &Peer,
        needed: Option<Role>,
    ) -> Result<Client, Box<Refused>> {
        let given = headers.get_all(header::AUTHORIZATION).iter();
        let given = given.map(HeaderValue::as_bytes);
        let error = match self
            .security
            .authenticator
            .identify(given, peer, Timestamp::now())
        {
            Ok(client) => return Ok(client),
            // What anyone may have is not kept from those who show something that is wrong.
            Err(_) if needed.is_none() => return Ok(Client::nobody(peer.address)),
            Err(error) => error,
        };
        if let Some(quota) = self.security.failures() {
            let visitor = Visitor::failing(peer.address);
            let now = self.security.now();
            if let Verdict::Refused { wait } = self.security.limiter.take(&visitor, quota, now) {
                let detail = "too many wrong credentials came from this address";
                return Err(too_many(detail, wait, None));
            }
        }
        Err(unauthorized(Some(error)))
    }

    /// Counts a request of `client`.
    fn count(&self, client: &Client) -> Result<Option<Rate>, Box<Refused>> {
        let Some((visitor, quota)) = self.security.quota(client) else {
            return Ok(None);
        };
        let now = self.security.now();
        match self.security.limiter.take(&visitor, quota, now) {
            Verdict::Allowed { remaining, reset } => Ok(Some(Rate {
                quota,
                remaining,
                reset,
            })),
            Verdict::Refused { wait } => {
                let rate = Rate {
                    quota,
                    remaining: 0,
                    reset: wait,
                };
                let detail = "this client asks more often than it may";
                Err(too_many(detail, wait, Some(rate)))
            }
        }
    }

    /// Whether the client may ask about a state of this size.
    pub(super) fn check_state(
        &self,
        caller: Option<&Caller>,
        state: &FleetState<'_>,
    ) -> Result<(), Refusal> {
        let Some(Caller(client)) = caller else {
            return Ok(());
        };
        let (hosts, requests) = (state.hosts.len(), state.requests.len());
        let checked = self.security.check_state(client, hosts, requests);
        checked.map_err(|(field, problem)| {
            let mut refusal = Refusal::new(StatusCode::PAYLOAD_TOO_LARGE, problem);
            refusal.field = Some(field.into());
            refusal
        })
    }

    /// Runs the handler, and puts the call into the audit trail if it changes something.
    async fn run(
        &self,
        request: Request,
        next: Next,
        entry: Option<Entry>,
        client: Arc<Client>,
        id: &Arc<str>,
    ) -> Response {
        let endpoint = match entry {
            Some(Entry::Of(endpoint)) if endpoint.effect != Effect::None => endpoint,
            _ => return next.run(request).await,
        };
        if self.security.audit.is_none() {
            return next.run(request).await;
        }
        let mut call = Call {
            app: self,
            endpoint,
            client,
            method: request.method().clone(),
            path: request.uri().path().to_owned(),
            id: Arc::clone(id),
            is_told: false,
        };
        let response = next.run(request).await;
        let subject = response.extensions().get::<Subject>().cloned();
        let changed = endpoint.effect == Effect::Change || subject.is_some();
        call.is_told = true;
        if changed && !call.tell(Some(response.status()), subject.as_ref()) {
            let detail = "the audit trail cannot be written: what was asked for may have been done";
            return Refusal::new(StatusCode::INTERNAL_SERVER_ERROR, detail).into_response(self);
        }
        response
    }
}

/// A call that is under way; told as broken off if it is dropped before it was told.
struct Call<'a> {
    app: &'a App,
    endpoint: Endpoint,
    client: Arc<Client>,
    method: Method,
    path: String,
    id: Arc<str>,
    is_told: bool,
}

impl Call<'_> {
    /// Whether the record is written.
    fn tell(&self, status: Option<StatusCode>, subject: Option<&Subject>) -> bool {
        let Some(sink) = &self.app.security.audit else {
            return true;
        };
        let record = AuditRecord {
            schema: AUDIT_SCHEMA,
            time: Timestamp::now().to_string(),
            client: self.client.name().map(|name| name.as_str()),
            known_by: match self.client.identity {
                Identity::Token(_) => "token",
                Identity::Certificate(_) => "certificate",
                Identity::Anyone => "anyone",
                Identity::Nobody => "nobody",
                Identity::Stranger => "stranger",
            },
            role: self.client.role.map(Role::name),
            address: self.client.address.to_canonical().to_string(),
            method: self.method.as_str(),
            path: &self.path,
            status: status.map(|status| status.as_u16()),
            subject: subject.map(|Subject(subject)| subject.as_ref()),
            request_id: &self.id,
        };
        let flavor = Handle::try_current().map(|handle| handle.runtime_flavor());
        let written = match flavor {
            Ok(RuntimeFlavor::MultiThread) => tokio::task::block_in_place(|| sink.record(&record)),
            _ => sink.record(&record),
        };
        if let Err(error) = &written {
            tracing::error!(%error, request_id = %self.id, "a call is missing in the audit trail");
        }
        written.is_ok()
    }
}

impl Drop for Call<'_> {
    fn drop(&mut self) {
        if !self.is_told && self.endpoint.effect == Effect::Change {
            self.tell(None, None);
        }
    }
}

/// Whether `authority`, as the header `Host` has it, names this machine or gives an address.
fn is_of_this_machine(authority: &str) -> bool {
    let host = match authority.rsplit_once(':') {
        Some((host, port)) if port.chars().all(|c| c.is_ascii_digit()) => host,
        _ => authority,
    };
    let address = host.trim_start_matches('[').trim_end_matches(']');
    host.eq_ignore_ascii_case("localhost") || address.parse::<std::net::IpAddr>().is_ok()
}

fn too_many(detail: &str, wait: Duration, rate: Option<Rate>) -> Box<Refused> {
    Box::new(Refused {
        refusal: Refusal::new(StatusCode::TOO_MANY_REQUESTS, detail),
        challenge: None,
        wait: Some(wait),
        rate,
    })
}

fn unauthorized(error: Option<CredentialError>) -> Box<Refused> {
    let (detail, challenge) = match error {
        None => (
            "a bearer token or a client certificate is needed".to_owned(),
            "Bearer realm=\"infer\"",
        ),
        Some(CredentialError::Malformed) => (
            CredentialError::Malformed.to_string(),
            "Bearer realm=\"infer\", error=\"invalid_request\"",
        ),
        Some(error) => (
            error.to_string(),
            "Bearer realm=\"infer\", error=\"invalid_token\"",
        ),
    };
    let mut refused: Box<Refused> = Refusal::new(StatusCode::UNAUTHORIZED, detail).into();
    refused.challenge = Some(HeaderValue::from_static(challenge));
    refused
}

fn forbidden(client: &Client, needed: Role) -> Box<Refused> {
    let detail = match (&client.identity, client.role) {
        (Identity::Nobody, _) => return unauthorized(None),
        (Identity::Stranger, _) | (_, None) => {
            "the client's certificate is not one of those in tls.clients".to_owned()
        }
        (_, Some(role)) => format!("the role {needed} is needed, and the client has {role}"),
    };
    Refusal::new(StatusCode::FORBIDDEN, detail).into()
}

#[cfg(test)]
mod tests;
