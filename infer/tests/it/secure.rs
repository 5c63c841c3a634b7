//! Who may ask for what, how often and with how much, and what is kept of it.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use infer::auth::{NewToken, Role};
use infer::config::{Settings, Sources};
use infer::security::Security;
use infer::service::Limits;
use infer::service::access::{Access, ENDPOINTS};
use twin::wire::{DecisionRequest, Problem};

use crate::support::{Running, agent, busy_view, decider, small};

/// A folder with a token of each role.
pub(crate) struct Tokens {
    pub(crate) folder: tempfile::TempDir,
    secrets: Vec<(Role, String)>,
}

impl Tokens {
    pub(crate) fn new() -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let (mut secrets, mut lines) = (Vec::new(), String::new());
        for role in Role::ALL {
            let name = format!("{role}r").parse().expect("a name");
            let token = NewToken::random(&name, role, None).expect("randomness");
            lines.push_str(token.line());
            lines.push('\n');
            secrets.push((role, token.secret().to_owned()));
        }
        let tokens = Self { folder, secrets };
        std::fs::write(tokens.path(), lines).expect("written");
        tokens
    }

    pub(crate) fn path(&self) -> PathBuf {
        self.folder.path().join("tokens")
    }

    /// Puts `text` in place of the file at once.
    fn replace(&self, text: &str) {
        let beside = self.folder.path().join("beside");
        std::fs::write(&beside, text).expect("written");
        std::fs::rename(beside, self.path()).expect("renamed");
    }

    pub(crate) fn of(&self, role: Role) -> &str {
        let (_, secret) = self
            .secrets
            .iter()
            .find(|(r, _)| *r == role)
            .expect("each has one");
        secret
    }
}

pub(crate) fn security(text: &str) -> Security {
    let settings = Settings::gather(&Sources {
        file: Some(("infer.toml".into(), text.into())),
        ..Sources::default()
    })
    .expect("settings");
    Security::new(&settings.config().expect("a configuration")).expect("its files are there")
}

fn start(security: Security, limits: Limits) -> Running {
    Running::secured(vec![decider(&small(), "least-loaded")], limits, security)
}

/// A service that knows `tokens`, with `more` configuration.
fn with_tokens(tokens: &Tokens, more: &str) -> Running {
    let path = tokens.path();
    let text = format!("[auth]\ntokens_file = {path:?}\n{more}");
    start(security(&text), Limits::default())
}

fn body() -> Vec<u8> {
    let world = small();
    let view = busy_view(&world);
    serde_json::to_vec(&DecisionRequest::from_view(&world, &view)).expect("it serializes")
}

struct Answer {
    status: u16,
    headers: ureq::http::HeaderMap,
    body: Vec<u8>,
}

impl Answer {
    fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name)?.to_str().ok()
    }

    fn problem(&self) -> Problem {
        let problem: Problem = serde_json::from_slice(&self.body).expect("a problem document");
        assert_eq!(problem.status, self.status);
        problem
    }
}

fn ask(
    service: &Running,
    method: &str,
    path: &str,
    authorization: Option<&str>,
    body: &[u8],
) -> Answer {
    let mut request = ureq::http::Request::builder()
        .method(method)
        .uri(format!("{}{path}", service.url))
        .header("content-type", "application/json");
    if let Some(value) = authorization {
        request = request.header("authorization", value);
    }
    let request = request.body(body.to_vec()).expect("a request");
    let mut response = agent().run(request).expect("the service answers");
    Answer {
        status: response.status().as_u16(),
        headers: response.headers().clone(),
        body: response.body_mut().read_to_vec().expect("a body"),
    }
}

fn bearer(token: &str) -> String {
    format!("Bearer {token}")
}

#[test]
fn each_role_may_do_what_its_table_says() {
    let tokens = Tokens::new();
    let service = with_tokens(&tokens, "");
    let body = body();
    for endpoint in ENDPOINTS {
        let needed = match endpoint.access {
            Access::Role(role) => Some(role),
            Access::Metrics => Some(Role::Read),
            Access::Anyone | Access::Health | Access::OpenApi => None,
        };
        let path = endpoint.path.replace(['{', '}'], "");
        for role in [
            None,
            Some(Role::Read),
            Some(Role::Decide),
            Some(Role::Operate),
        ] {
            let authorization = role.map(|role| bearer(tokens.of(role)));
            let sent = if endpoint.method == "GET" {
                &[][..]
            } else {
                &body
            };
            let authorization = authorization.as_deref();
            let answer = ask(&service, endpoint.method, &path, authorization, sent);
            let expected = match (role, needed) {
                _ if role >= needed => None,
                (None, _) => Some(401),
                _ => Some(403),
            };
            let context = format!("{endpoint:?} as {role:?}: {}", answer.status);
            match expected {
                Some(status) => {
                    assert_eq!(answer.status, status, "{context}");
                    answer.problem();
                    let challenge = answer.header("www-authenticate");
                    let wanted = (status == 401).then_some("Bearer realm=\"infer\"");
                    assert_eq!(challenge, wanted, "{context}");
                }
                None => assert!(![401, 403, 405, 500].contains(&answer.status), "{context}"),
            }
        }
    }
}

#[test]
fn what_does_not_exist_is_told_to_those_who_may_read_only() {
    let tokens = Tokens::new();
    let service = with_tokens(&tokens, "");
    let read = bearer(tokens.of(Role::Read));
    assert_eq!(ask(&service, "GET", "/v1/nothing", None, b"").status, 401);
    assert_eq!(
        ask(&service, "GET", "/v1/nothing", Some(&read), b"").status,
        404
    );
    assert_eq!(
        ask(&service, "DELETE", "/v1/decisions", None, b"").status,
        401
    );
    let answer = ask(&service, "DELETE", "/v1/decisions", Some(&read), b"");
    assert_eq!(
        (answer.status, answer.header("allow")),
        (405, Some("POST, GET, HEAD"))
    );
}

#[test]
fn wrong_credentials_are_challenged_and_then_slowed_down() {
    let tokens = Tokens::new();
    let service = with_tokens(
        &tokens,
        "[rate_limits]\nfailures_per_s = 0.05\nburst_s = 60.0\n",
    );
    // 0.05 per second over 60 s: three at once, and then one each 20 s.
    for (authorization, error) in [
        ("Bearer infer_0000", "error=\"invalid_token\""),
        ("Basic dTpw", "error=\"invalid_request\""),
        ("Bearer a b", "error=\"invalid_request\""),
    ] {
        let answer = ask(&service, "GET", "/metrics", Some(authorization), b"");
        assert_eq!(answer.status, 401);
        let challenge = answer.header("www-authenticate").expect("a challenge");
        assert_eq!(challenge, format!("Bearer realm=\"infer\", {error}"));
        assert!(!String::from_utf8_lossy(&answer.body).contains("infer_0000"));
    }
    let answer = ask(&service, "GET", "/metrics", Some("Bearer x"), b"");
    assert_eq!(
        (answer.status, answer.header("retry-after")),
        (429, Some("20"))
    );
    // Those who are known, and what anyone may have, are not slowed down.
    let read = bearer(tokens.of(Role::Read));
    assert_eq!(
        ask(&service, "GET", "/metrics", Some(&read), b"").status,
        200
    );
    assert_eq!(
        ask(&service, "GET", "/healthz", Some("Bearer x"), b"").status,
        200
    );
}

/// Asks until `accept` says that the service has noticed something.
fn eventually(service: &Running, authorization: &str, status: u16) {
    let until = Instant::now() + Duration::from_secs(20);
    while ask(service, "GET", "/metrics", Some(authorization), b"").status != status {
        assert!(Instant::now() < until, "not before long");
        std::thread::sleep(Duration::from_millis(5));
    }
}

#[test]
fn a_new_file_of_tokens_holds_and_a_broken_one_does_not() {
    let tokens = Tokens::new();
    let service = with_tokens(
        &tokens,
        "reload_s = 0.01\n[rate_limits]\nfailures_per_s = 1000000\n",
    );
    let old = bearer(tokens.of(Role::Read));
    eventually(&service, &old, 200);
    let name = "new".parse().expect("a name");
    let new = NewToken::random(&name, Role::Read, None).expect("randomness");
    tokens.replace(new.line());
    eventually(&service, &old, 401);
    let new_header = bearer(new.secret());
    eventually(&service, &new_header, 200);
    tokens.replace(&format!("{}\nbroken\n", new.line()));
    // A token that only the broken file lacks stays good; a later good file shows that time passed.
    eventually(&service, &new_header, 200);
    let next = NewToken::random(&name, Role::Read, None).expect("randomness");
    let expires = "2020-01-01T00:00:00Z".parse().expect("a time");
    let expired = NewToken::random(&name, Role::Read, Some(expires)).expect("randomness");
    let lines = format!("{}\n{}\n", next.line(), expired.line());
    tokens.replace(&lines);
    eventually(&service, &bearer(next.secret()), 200);
    let answer = ask(
        &service,
        "GET",
        "/metrics",
        Some(&bearer(expired.secret())),
        b"",
    );
    assert_eq!(answer.status, 401);
    assert_eq!(answer.problem().detail, "the token has expired");
}

#[test]
fn a_client_may_ask_so_often_and_others_are_not_held_back() {
    let tokens = Tokens::new();
    let more = "[rate_limits]\nread_per_s = 0.1\ndecide_per_s = 0.1\nburst_s = 20.0\n";
    let service = with_tokens(&tokens, more);
    let read = bearer(tokens.of(Role::Read));
    for left in [1, 0] {
        let answer = ask(&service, "GET", "/metrics", Some(&read), b"");
        assert_eq!(answer.status, 200);
        assert_eq!(
            answer.header("ratelimit-policy"),
            Some("\"client\";q=2;w=20")
        );
        let told = answer.header("ratelimit").expect("what is left");
        assert!(
            told.starts_with(&format!("\"client\";r={left};t=")),
            "{told}"
        );
    }
    let answer = ask(&service, "GET", "/metrics", Some(&read), b"");
    assert_eq!(
        (answer.status, answer.header("retry-after")),
        (429, Some("10"))
    );
    assert_eq!(answer.header("ratelimit"), Some("\"client\";r=0;t=10"));
    assert_eq!(answer.problem().title, "Too many requests");
    let decide = bearer(tokens.of(Role::Decide));
    assert_eq!(
        ask(&service, "GET", "/metrics", Some(&decide), b"").status,
        200
    );
    let operate = bearer(tokens.of(Role::Operate));
    let answer = ask(&service, "GET", "/metrics", Some(&operate), b"");
    assert_eq!((answer.status, answer.header("ratelimit")), (200, None));
}

#[test]
fn bodies_and_states_are_bounded_by_role() {
    let tokens = Tokens::new();
    let body = body();
    let most = body.len() - 1;
    let more = format!("[client_limits]\ndecide_body_bytes = {most}\n");
    let service = with_tokens(&tokens, &more);
    let decide = bearer(tokens.of(Role::Decide));
    let operate = bearer(tokens.of(Role::Operate));
    let answer = ask(&service, "POST", "/v1/decisions", Some(&decide), &body);
    assert_eq!(answer.status, 413);
    assert_eq!(
        answer.problem().detail,
        format!("a body may have {most} bytes")
    );
    let answer = ask(&service, "POST", "/v1/decisions", Some(&operate), &body);
    assert_eq!(answer.status, 200);
    let service = with_tokens(&tokens, "[client_limits]\ndecide_hosts = 1\n");
    let answer = ask(&service, "POST", "/v1/decisions", Some(&decide), &body);
    assert_eq!(answer.status, 413);
    assert_eq!(answer.problem().field.as_deref(), Some("state.hosts"));
    let answer = ask(&service, "POST", "/v1/decisions", Some(&operate), &body);
    assert_eq!(answer.status, 200);
}

#[test]
fn where_nobody_authenticates_only_this_machine_is_answered() {
    let service = start(security("[server]\n"), Limits::default());
    let address = service.url.trim_start_matches("http://");
    for (host, status) in [
        (address, "200"),
        ("localhost:80", "200"),
        ("[::1]:80", "200"),
        ("rebound.example.org", "403"),
        ("127.0.0.1.example.org:80", "403"),
    ] {
        let mut stream = TcpStream::connect(address).expect("it listens");
        write!(
            stream,
            "GET /healthz HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n"
        )
        .expect("sent");
        let mut answer = String::new();
        stream.read_to_string(&mut answer).expect("answered");
        assert!(
            answer.starts_with(&format!("HTTP/1.1 {status} ")),
            "{host}: {answer}"
        );
    }
}

#[test]
fn a_request_keeps_its_name_and_gets_one() {
    let service = start(Security::open(), Limits::default());
    let name = |own: &str| {
        let request = agent().get(format!("{}/healthz", service.url));
        let response = request
            .header("x-request-id", own)
            .call()
            .expect("answered");
        response.headers()["x-request-id"]
            .to_str()
            .expect("text")
            .to_owned()
    };
    assert_eq!(name("deployer-1.2:3"), "deployer-1.2:3");
    let made = name("no name");
    assert!(!made.is_empty() && made != "no name");
    assert_ne!(made, name("no name"));
}

/// Reads until the service closes, and tells how long that took.
fn until_closed(mut stream: TcpStream, mut slowly: impl FnMut(&mut TcpStream)) -> Duration {
    let begun = Instant::now();
    stream
        .set_read_timeout(Some(Duration::from_millis(5)))
        .expect("set");
    let mut byte = [0; 64];
    loop {
        slowly(&mut stream);
        match stream.read(&mut byte) {
            Ok(0) => return begun.elapsed(),
            Ok(_) => {}
            Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => {}
            Err(_) => return begun.elapsed(),
        }
        assert!(begun.elapsed() < Duration::from_secs(20), "still open");
    }
}

#[test]
fn whoever_sends_slowly_is_cut_off() {
    let head = Duration::from_millis(200);
    let limits = Limits {
        head,
        ..Limits::default()
    };
    let service = start(Security::open(), limits);
    let address = service.url.trim_start_matches("http://").to_owned();
    // A header that never ends, a protocol that nobody tells, and half of HTTP/2's greeting.
    for first in [&b"GET /healthz HTTP/1.1\r\n"[..], b"", b"PRI * HT"] {
        let mut stream = TcpStream::connect(&address).expect("it listens");
        stream.write_all(first).expect("sent");
        let is_header = first.len() > 20;
        let closed = until_closed(stream, |stream| {
            if is_header {
                // It may be closed already.
                let _ = stream.write_all(b"x: y\r\n");
            }
        });
        assert!(closed >= head / 2, "{first:?}: {closed:?}");
    }
    assert_eq!(ask(&service, "GET", "/healthz", None, b"").status, 200);
}

#[test]
fn connections_are_bounded_and_free_again() {
    let limits = Limits {
        connections: 2,
        ..Limits::default()
    };
    let service = start(Security::open(), limits);
    let address = service.url.trim_start_matches("http://").to_owned();
    let open = || {
        let mut stream = TcpStream::connect(&address).expect("it listens");
        stream
            .set_read_timeout(Some(Duration::from_secs(20)))
            .expect("set");
        let sent = stream.write_all(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n");
        let mut first = [0; 12];
        let read = sent.and_then(|()| stream.read_exact(&mut first));
        (stream, read.is_ok() && &first == b"HTTP/1.1 200")
    };
    let kept = [open(), open()];
    assert!(kept.iter().all(|(_, answered)| *answered));
    assert!(!open().1, "there is no third");
    drop(kept);
    let until = Instant::now() + Duration::from_secs(20);
    while !open().1 {
        assert!(Instant::now() < until, "not free again");
    }
}

/// Asks once over a connection of its own: the status and whether the answer is whole, or nothing
/// if the service took no notice.
fn ask_alone(address: &str, request: &[u8]) -> Option<(String, bool)> {
    let mut stream = TcpStream::connect(address).ok()?;
    stream
        .set_read_timeout(Some(Duration::from_secs(20)))
        .expect("set");
    stream.write_all(request).ok()?;
    let mut answer = Vec::new();
    // A connection that was never taken is reset.
    let ended = stream.read_to_end(&mut answer);
    if answer.is_empty() {
        return None;
    }
    let text = String::from_utf8_lossy(&answer);
    let (head, body) = text.split_once("\r\n\r\n")?;
    let length = head
        .lines()
        .find_map(|l| l.strip_prefix("content-length: "));
    let is_whole = ended.is_ok() && length == Some(body.len().to_string().as_str());
    Some((head.get(9..12)?.to_owned(), is_whole))
}

#[test]
fn the_end_under_load_leaves_no_half_answer() {
    let mut service = start(Security::open(), Limits::default());
    let address = service.url.trim_start_matches("http://").to_owned();
    let body = body();
    let head = format!(
        "POST /v1/decisions HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n\
         Content-Length: {}\r\nConnection: close\r\n\r\n",
        body.len()
    );
    let request = [head.as_bytes(), &body].concat();
    let (tell, told) = std::sync::mpsc::channel();
    std::thread::scope(|scope| {
        let asking: Vec<_> = (0..8)
            .map(|_| {
                let (tell, address, request) = (tell.clone(), &address, &request);
                scope.spawn(move || {
                    let mut statuses = Vec::new();
                    while let Some((status, is_whole)) = ask_alone(address, request) {
                        assert!(is_whole, "{status} broke off");
                        statuses.push(status);
                        // The test has heard enough once it stops the service.
                        let _ = tell.send(());
                    }
                    statuses
                })
            })
            .collect();
        for _ in 0..40 {
            told.recv_timeout(Duration::from_secs(20)).expect("answers");
        }
        service.stop();
        for asking in asking {
            let statuses = asking.join().expect("no panic");
            assert!(
                statuses.iter().all(|s| s == "200" || s == "503"),
                "{statuses:?}"
            );
        }
    });
}
