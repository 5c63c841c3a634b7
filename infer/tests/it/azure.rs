//! The client of Resource Manager against a server over TLS that does what servers do.

use std::collections::{BTreeMap, VecDeque};
use std::net::{SocketAddr, TcpListener};
use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use async_trait::async_trait;
use axum::Router;
use axum::body::Bytes;
use axum::extract::State;
use axum::http::{HeaderMap, Method, StatusCode, Uri};
use axum::response::{IntoResponse, Response};
use axum_server::tls_rustls::RustlsConfig;
use azure_core::credentials::{AccessToken, TokenCredential, TokenRequestOptions};
use azure_core::time::{Duration as TokenDuration, OffsetDateTime};
use infer::azure::{
    AzureError, Client, CredentialKind, Endpoint, Environment, Limits, Operation, Progress,
    ResourceId, Scope, Submitted, chain,
};
use infer::control::facts::Power;
use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair};

/// What the server answers.
#[derive(Clone, Default)]
struct Answer {
    status: u16,
    headers: Vec<(&'static str, String)>,
    body: String,
    /// How long it takes.
    delay: Duration,
}

impl Answer {
    fn new(status: u16, body: &str) -> Self {
        Self {
            status,
            body: body.into(),
            ..Self::default()
        }
    }

    fn with(mut self, name: &'static str, value: &str) -> Self {
        self.headers.push((name, value.into()));
        self
    }
}

/// A request that came.
#[derive(Clone, Debug)]
struct Seen {
    what: String,
    query: String,
    authorization: Option<String>,
    body: String,
}

#[derive(Default)]
struct Script {
    answers: BTreeMap<String, VecDeque<Answer>>,
    seen: Vec<Seen>,
    base: String,
}

type Shared = Arc<Mutex<Script>>;

/// A server on a free port, with a certificate authority of its own.
struct Server {
    url: String,
    script: Shared,
    folder: tempfile::TempDir,
    handle: axum_server::Handle<SocketAddr>,
}

impl Server {
    async fn start() -> Self {
        // Another test may have been first.
        let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
        let folder = tempfile::tempdir().expect("a folder");
        let (authority, leaf, key) = certificates();
        std::fs::write(folder.path().join("ca.pem"), authority).expect("written");
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        listener.set_nonblocking(true).expect("non-blocking");
        let port = listener.local_addr().expect("an address").port();
        let url = format!("https://localhost:{port}");
        let script: Shared = Arc::new(Mutex::new(Script {
            base: url.clone(),
            ..Script::default()
        }));
        let router = Router::new()
            .fallback(answer)
            .with_state(Arc::clone(&script));
        let config = RustlsConfig::from_pem(leaf.into_bytes(), key.into_bytes())
            .await
            .expect("a certificate");
        let handle = axum_server::Handle::new();
        let server = axum_server::from_tcp_rustls(listener, config)
            .expect("listens")
            .handle(handle.clone());
        tokio::spawn(async move { server.serve(router.into_make_service()).await });
        Self {
            url,
            script,
            folder,
            handle,
        }
    }

    /// Answers `what` (method and path) so, one after another; the last for ever.
    fn on(&self, what: &str, answers: Vec<Answer>) {
        let mut script = self.script.lock().expect("whole");
        script.answers.insert(what.into(), answers.into());
    }

    fn seen(&self) -> Vec<Seen> {
        self.script.lock().expect("whole").seen.clone()
    }

    fn count(&self, what: &str) -> usize {
        self.seen().iter().filter(|s| s.what == what).count()
    }

    fn ca(&self) -> PathBuf {
        self.folder.path().join("ca.pem")
    }

    fn endpoint(&self) -> Endpoint {
        let mut endpoint = Endpoint::new(&self.url).expect("an endpoint");
        endpoint.ca_file = Some(self.ca());
        endpoint.authority = Some(self.url.clone());
        endpoint
    }

    fn client(&self) -> Client {
        self.client_within(Duration::from_secs(10), Duration::from_secs(5))
    }

    fn client_within(&self, call: Duration, attempt: Duration) -> Client {
        let limits = Limits {
            call,
            attempt,
            ..Limits::default()
        };
        Client::new(&self.endpoint(), "s", Arc::new(Given), limits).expect("a client")
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.handle.shutdown();
    }
}

async fn answer(
    State(script): State<Shared>,
    method: Method,
    uri: Uri,
    headers: HeaderMap,
    body: Bytes,
) -> Response {
    let what = format!("{method} {}", uri.path());
    let (answer, base) = {
        let mut script = script.lock().expect("whole");
        let authorization = headers.get("authorization");
        script.seen.push(Seen {
            what: what.clone(),
            query: uri.query().unwrap_or_default().into(),
            authorization: authorization.map(|v| v.to_str().expect("text").into()),
            body: String::from_utf8_lossy(&body).into_owned(),
        });
        let base = script.base.clone();
        let answers = script.answers.get_mut(&what);
        let answer = answers.map(|list| match list.len() {
            0 | 1 => list.front().cloned().unwrap_or_default(),
            _ => list.pop_front().unwrap_or_default(),
        });
        (answer, base)
    };
    let Some(answer) = answer else {
        return (StatusCode::NOT_FOUND, format!("no answer to {what}")).into_response();
    };
    tokio::time::sleep(answer.delay).await;
    let mut response = answer.body.replace("{base}", &base).into_response();
    *response.status_mut() = StatusCode::from_u16(answer.status).expect("a status");
    for (name, value) in answer.headers {
        let value = value.replace("{base}", &base).parse().expect("a header");
        response.headers_mut().insert(name, value);
    }
    response
}

/// A certificate authority, a certificate of it for this machine, and its key, in PEM.
fn certificates() -> (String, String, String) {
    let mut params = CertificateParams::default();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params
        .distinguished_name
        .push(DnType::CommonName, "authority of a test");
    let key = KeyPair::generate().expect("a key");
    let authority = params.self_signed(&key).expect("a certificate");
    let issuer = Issuer::new(params, key);
    let leaf_key = KeyPair::generate().expect("a key");
    let mut leaf = CertificateParams::new(["localhost".into(), "127.0.0.1".into()]).expect("names");
    leaf.distinguished_name
        .push(DnType::CommonName, "server of a test");
    let leaf = leaf.signed_by(&leaf_key, &issuer).expect("signed");
    (authority.pem(), leaf.pem(), leaf_key.serialize_pem())
}

/// A token.
#[derive(Debug)]
struct Given;

#[async_trait]
impl TokenCredential for Given {
    async fn get_token(
        &self,
        scopes: &[&str],
        _: Option<TokenRequestOptions<'_>>,
    ) -> azure_core::Result<AccessToken> {
        assert!(scopes[0].ends_with("/.default"), "{scopes:?}");
        let expires = OffsetDateTime::now_utc() + TokenDuration::hours(1);
        Ok(AccessToken::new("token-of-a-test".to_owned(), expires))
    }
}

const LIST: &str =
    "GET /subscriptions/s/resourceGroups/g/providers/Microsoft.Compute/virtualMachines";
const OTHER_PAGE: &str = "GET /page2";
const VM: &str =
    "/subscriptions/s/resourcegroups/g/providers/microsoft.compute/virtualmachines/vm-1";

fn vm() -> ResourceId {
    ResourceId::parse(VM).expect("an id")
}

fn start() -> String {
    format!("POST {VM}/start")
}

fn group() -> Scope {
    Scope::Group { group: "g".into() }
}

fn page(names: &[&str], next: Option<&str>) -> String {
    let vms: Vec<_> = names
        .iter()
        .map(|name| {
            serde_json::json!({
                "id": format!("/subscriptions/s/resourceGroups/G/providers/Microsoft.Compute/virtualMachines/{name}"),
                "name": name,
                "location": "uksouth",
                "tags": {"fleet": "a"},
                "properties": {
                    "provisioningState": "Succeeded",
                    "hardwareProfile": {"vmSize": "Standard_B2s"},
                    "instanceView": {"statuses": [{"code": "PowerState/running"}]},
                    "aFieldOfTomorrow": [1, 2, 3],
                },
            })
        })
        .collect();
    let mut page = serde_json::json!({ "value": vms });
    if let Some(next) = next {
        page["nextLink"] = next.into();
    }
    page.to_string()
}

#[tokio::test]
async fn pages_are_followed_with_the_token() {
    let server = Server::start().await;
    server.on(
        LIST,
        vec![Answer::new(
            200,
            &page(&["b"], Some("{base}/page2?token=1")),
        )],
    );
    server.on(
        OTHER_PAGE,
        vec![Answer::new(200, &page(&["a", "b"], Some("")))],
    );
    let vms = server.client().vms(&group()).await.expect("VMs");
    let names: Vec<&str> = vms.iter().map(|vm| vm.name.as_str()).collect();
    assert_eq!(names, ["a", "b"]);
    let statuses = vms[0].statuses.as_deref().expect("statuses");
    assert_eq!(Power::of(statuses), Power::Running);
    assert_eq!(vms[0].size.as_deref(), Some("Standard_B2s"));
    for seen in server.seen() {
        assert_eq!(
            seen.authorization.as_deref(),
            Some("Bearer token-of-a-test")
        );
    }
    assert!(server.seen()[0].query.contains("api-version="));
}

#[tokio::test]
async fn no_token_goes_to_another_host() {
    let server = Server::start().await;
    let evil = Server::start().await;
    let away = format!("{}/steal", evil.url);
    let client = server.client();
    server.on(LIST, vec![Answer::new(200, &page(&["a"], Some(&away)))]);
    let error = client.vms(&group()).await.expect_err("a foreign page");
    assert!(matches!(error, AzureError::Foreign { .. }), "{error}");
    for header in ["location", "azure-asyncoperation"] {
        server.on(&start(), vec![Answer::new(202, "").with(header, &away)]);
        let error = client.start(&vm()).await.expect_err("a foreign operation");
        assert!(matches!(error, AzureError::Foreign { .. }), "{error}");
        assert!(!error.certainly_not_done(), "it may have been started");
    }
    server.on(&start(), vec![Answer::new(307, "").with("location", &away)]);
    let error = client.start(&vm()).await.expect_err("a redirection");
    assert!(
        matches!(error, AzureError::Refused { status: 307, .. }),
        "{error}"
    );
    let kind = infer::azure::operation::OperationKind::Location;
    let from_a_file = Operation { kind, url: away };
    let error = client.progress(&from_a_file).await.expect_err("foreign");
    assert!(matches!(error, AzureError::Foreign { .. }), "{error}");
    assert!(evil.seen().is_empty(), "{:?}", evil.seen());
}

#[tokio::test]
async fn writes_are_repeated_only_where_they_were_refused() {
    let server = Server::start().await;
    let client = server.client();
    let busy = || Answer::new(429, "").with("retry-after-ms", "20");
    server.on(&start(), vec![busy(), busy(), Answer::new(200, "")]);
    assert_eq!(client.start(&vm()).await.expect("started"), Submitted::Done);
    assert_eq!(server.count(&start()), 3);
    let body = r#"{"error": {"code": "InternalError", "message": "oh"}}"#;
    server.on(&start(), vec![Answer::new(500, body), Answer::new(200, "")]);
    let error = client.start(&vm()).await.expect_err("a failure");
    assert_eq!(error.code(), Some("InternalError"));
    assert!(!error.certainly_not_done());
    assert_eq!(server.count(&start()), 4, "it may have been carried out");
    server.on(
        LIST,
        vec![Answer::new(503, ""), Answer::new(200, &page(&["a"], None))],
    );
    assert_eq!(client.vms(&group()).await.expect("VMs").len(), 1);
}

#[tokio::test]
async fn a_lost_answer_is_unknown_for_a_write_and_asked_for_again_for_a_read() {
    let server = Server::start().await;
    let client = server.client_within(Duration::from_secs(10), Duration::from_millis(250));
    let slow = |status, body: &str| Answer {
        delay: Duration::from_secs(5),
        ..Answer::new(status, body)
    };
    server.on(&start(), vec![slow(202, "")]);
    let error = client.start(&vm()).await.expect_err("lost");
    assert!(matches!(error, AzureError::Transport { .. }), "{error}");
    assert!(!error.certainly_not_done());
    assert_eq!(server.count(&start()), 1);
    server.on(
        LIST,
        vec![slow(200, ""), Answer::new(200, &page(&["a"], None))],
    );
    assert_eq!(client.vms(&group()).await.expect("VMs").len(), 1);
}

#[tokio::test]
async fn no_wait_is_longer_than_the_limit_of_a_call() {
    let server = Server::start().await;
    let client = server.client_within(Duration::from_millis(400), Duration::from_secs(5));
    server.on(
        LIST,
        vec![Answer::new(429, "").with("retry-after", "86400")],
    );
    let began = Instant::now();
    let error = client.vms(&group()).await.expect_err("throttled");
    assert!(matches!(error, AzureError::Deadline { .. }), "{error}");
    assert!(began.elapsed() < Duration::from_secs(10));
}

#[tokio::test]
async fn operations_are_followed_to_their_end() {
    let server = Server::start().await;
    let client = server.client();
    let accepted = Answer::new(202, "")
        .with("azure-asyncoperation", "{base}/operations/1")
        .with("location", "{base}/locations/1");
    server.on(&start(), vec![accepted]);
    let running = Answer::new(200, r#"{"status": "InProgress"}"#).with("retry-after-ms", "1");
    let failed =
        r#"{"status": "Failed", "error": {"code": "AllocationFailed", "message": "full"}}"#;
    server.on(
        "GET /operations/1",
        vec![running.clone(), running.clone(), Answer::new(200, failed)],
    );
    let Submitted::Running { operation, .. } = client.start(&vm()).await.expect("accepted") else {
        panic!("it goes on");
    };
    let end = client.wait(&operation, Duration::from_secs(10)).await;
    let Progress::Failed { code, message } = end.expect("an end") else {
        panic!("it failed");
    };
    assert_eq!(
        (code.as_str(), message.as_str()),
        ("AllocationFailed", "full")
    );
    assert_eq!(server.count("GET /operations/1"), 3);
    assert_eq!(server.count("GET /locations/1"), 0, "one tells enough");
    server.on("GET /operations/1", vec![running]);
    let end = client.wait(&operation, Duration::from_millis(200)).await;
    assert!(matches!(end, Err(AzureError::Deadline { .. })));
}

#[tokio::test]
async fn scale_sets_are_read_and_resized() {
    let server = Server::start().await;
    let client = server.client();
    let id = ResourceId::compute("s", "g", "virtualMachineScaleSets", "Workers").expect("an id");
    let path = id.as_str();
    let body = format!(
        r#"{{"id": "{path}", "sku": {{"name": "Standard_B2s", "capacity": 2}},
            "properties": {{"provisioningState": "Succeeded"}}}}"#
    );
    server.on(&format!("GET {path}"), vec![Answer::new(200, &body)]);
    assert_eq!(client.scale_set(&id).await.expect("a set").capacity, 2);
    let instance = r#"{"instanceId": "0", "properties": {"instanceView":
        {"statuses": [{"code": "PowerState/starting"}]}}}"#;
    server.on(
        &format!("GET {path}/virtualMachines"),
        vec![Answer::new(200, &format!(r#"{{"value": [{instance}]}}"#))],
    );
    let instances = client.scale_set_instances(&id).await.expect("instances");
    assert_eq!(Power::of(&instances[0].1), Power::Starting);
    let updating = body.replace("Succeeded", "Updating");
    server.on(&format!("PATCH {path}"), vec![Answer::new(200, &updating)]);
    let submitted = client.set_capacity(&id, 5).await.expect("accepted");
    let Submitted::Running { operation, .. } = submitted else {
        panic!("it is updating");
    };
    assert_eq!(
        server.seen().last().expect("seen").body,
        r#"{"sku":{"capacity":5}}"#
    );
    let end = client.progress(&operation).await.expect("progress");
    assert_eq!(end, Progress::Succeeded);
}

#[tokio::test]
async fn tags_choose_vms_of_the_subscription() {
    let server = Server::start().await;
    let list = "GET /subscriptions/s/providers/Microsoft.Compute/virtualMachines";
    server.on(list, vec![Answer::new(200, &page(&["a", "b"], None))]);
    let client = server.client();
    let count = async |value: Option<&str>| {
        let scope = Scope::Tag {
            name: "Fleet".into(),
            value: value.map(Into::into),
        };
        client.vms(&scope).await.expect("VMs").len()
    };
    assert_eq!(count(None).await, 2);
    assert_eq!(count(Some("a")).await, 2);
    assert_eq!(count(Some("b")).await, 0);
}

#[tokio::test]
async fn a_refused_token_is_dropped_and_asked_for_once_more() {
    let server = Server::start().await;
    let client = server.client();
    server.on(
        LIST,
        vec![Answer::new(401, ""), Answer::new(200, &page(&["a"], None))],
    );
    assert_eq!(client.vms(&group()).await.expect("VMs").len(), 1);
    server.on(LIST, vec![Answer::new(401, "")]);
    let error = client.vms(&group()).await.expect_err("refused");
    assert!(
        matches!(error, AzureError::Refused { status: 401, .. }),
        "{error}"
    );
    assert_eq!(server.count(LIST), 4);
}

#[tokio::test]
async fn what_cannot_be_read_is_named() {
    let server = Server::start().await;
    let client = server.client();
    for (body, expected) in [
        (r#"{"value": [{"id": 3}]}"#, "value[0].id"),
        (
            r#"{"value": [{"id": "/x"}]}"#,
            "is not the id of a resource",
        ),
        ("<html>", "unreadable answer"),
    ] {
        server.on(LIST, vec![Answer::new(200, body)]);
        let error = client.vms(&group()).await.expect_err(body).to_string();
        assert!(
            error.starts_with("list VMs: ") && error.contains(expected),
            "{error}"
        );
    }
}

#[tokio::test]
async fn a_server_that_is_not_trusted_is_told_with_its_cause() {
    let server = Server::start().await;
    let other = Server::start().await;
    let mut endpoint = server.endpoint();
    endpoint.ca_file = Some(other.ca());
    let limits = Limits {
        call: Duration::from_secs(2),
        ..Limits::default()
    };
    let client = Client::new(&endpoint, "s", Arc::new(Given), limits).expect("a client");
    let error = client
        .start(&vm())
        .await
        .expect_err("not trusted")
        .to_string();
    assert!(error.to_lowercase().contains("certificate"), "{error}");
    assert!(server.seen().is_empty());
}

#[tokio::test]
async fn the_chain_signs_in_with_a_client_secret() {
    let server = Server::start().await;
    let token = r#"{"token_type": "Bearer", "expires_in": 3600, "ext_expires_in": 3600,
        "access_token": "from-entra"}"#;
    server.on("POST /t/oauth2/v2.0/token", vec![Answer::new(200, token)]);
    server.on(LIST, vec![Answer::new(200, &page(&["a"], None))]);
    let environment = Environment::of(&[
        ("AZURE_TENANT_ID", "t"),
        ("AZURE_CLIENT_ID", "c"),
        ("AZURE_CLIENT_SECRET", "hush"),
    ]);
    let kinds = [
        CredentialKind::WorkloadIdentity,
        CredentialKind::Environment,
    ];
    let credential = chain(&server.endpoint(), &kinds, &environment).expect("a chain");
    let client = Client::new(&server.endpoint(), "s", credential, Limits::default());
    let client = client.expect("a client");
    assert_eq!(client.vms(&group()).await.expect("VMs").len(), 1);
    let listed = server.seen().into_iter().find(|s| s.what == LIST);
    let authorization = listed.expect("listed").authorization;
    assert_eq!(authorization.as_deref(), Some("Bearer from-entra"));
    let refused = r#"{"error": "invalid_client", "error_description": "wrong secret", "error_codes": [7000215]}"#;
    server.on("POST /t/oauth2/v2.0/token", vec![Answer::new(401, refused)]);
    let credential = chain(&server.endpoint(), &kinds, &environment).expect("a chain");
    let client = Client::new(&server.endpoint(), "s", credential, Limits::default());
    let error = client.expect("a client").vms(&group()).await;
    let error = error.expect_err("no token");
    assert!(error.certainly_not_done(), "{error}");
    let text = error.to_string();
    assert!(
        text.contains("wrong secret") && text.contains("workload identity"),
        "{text}"
    );
    assert!(!text.contains("hush"), "{text}");
}

/// The answers to the official examples of `GET` on paths that end so.
fn official(end: &str) -> Vec<serde_json::Value> {
    let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/arm-specs");
    let text = std::fs::read_to_string(path.join("operations.json")).expect("the file is there");
    let operations: Vec<serde_json::Value> = serde_json::from_str(&text).expect("JSON");
    let of_path = operations.into_iter().filter(|operation| {
        let path = operation["path"].as_str().expect("a path");
        operation["method"]
            .as_str()
            .expect("a method")
            .eq_ignore_ascii_case("get")
            && path.ends_with(end)
    });
    of_path
        .flat_map(|operation| {
            let examples = operation["examples"].as_object().expect("examples").clone();
            examples.into_iter().map(|(_, example)| example)
        })
        .map(|example| example["responses"]["200"]["body"].clone())
        .collect()
}

#[tokio::test]
async fn the_official_examples_are_read() {
    let server = Server::start().await;
    let client = server.client();
    let lists =
        official("resourceGroups/{resourceGroupName}/providers/Microsoft.Compute/virtualMachines");
    assert!(!lists.is_empty());
    for mut list in lists {
        for vm in list["value"].as_array_mut().expect("VMs") {
            vm["id"] = VM.into();
        }
        list["nextLink"] = serde_json::Value::Null;
        server.on(LIST, vec![Answer::new(200, &list.to_string())]);
        client.vms(&group()).await.expect("the example is read");
    }
    let views = official("virtualMachines/{vmName}/instanceView");
    assert!(!views.is_empty());
    for view in views {
        server.on(
            &format!("GET {VM}/instanceView"),
            vec![Answer::new(200, &view.to_string())],
        );
        let statuses = client
            .instance_view(&vm())
            .await
            .expect("the example is read");
        assert!(!statuses.is_empty());
    }
    let sets = official("virtualMachineScaleSets/{vmScaleSetName}");
    assert!(!sets.is_empty());
    let id = ResourceId::compute("s", "g", "virtualMachineScaleSets", "w").expect("an id");
    for mut set in sets {
        set["id"] = id.as_str().into();
        let sized = set["sku"]["capacity"].is_u64();
        server.on(
            &format!("GET {id}"),
            vec![Answer::new(200, &set.to_string())],
        );
        assert_eq!(client.scale_set(&id).await.is_ok(), sized, "{set}");
    }
    let metrics = official("/providers/Microsoft.Insights/metrics");
    assert!(!metrics.is_empty());
    for metric in metrics {
        server.on(
            &format!("GET {VM}/providers/Microsoft.Insights/metrics"),
            vec![Answer::new(200, &metric.to_string())],
        );
        let now = jiff::Timestamp::now();
        let read = client.metrics(&vm(), &["Percentage CPU"], now, now).await;
        read.expect("the example is read");
    }
}
