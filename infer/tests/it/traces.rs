//! Traces go to a collector, continue the client's, and are all there when the program has ended.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::process::{Child, Command};
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::program::{example, infer};
use crate::support::agent;

/// A collector: takes what is sent until the sender is `sender` and has ended.
struct Collector {
    listener: TcpListener,
}

impl Collector {
    fn new() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        listener.set_nonblocking(true).expect("a setting");
        Self { listener }
    }

    fn url(&self) -> String {
        format!("http://{}", self.listener.local_addr().expect("an address"))
    }

    /// The spans that arrive until `sender` has ended.
    fn spans(&self, sender: &mut Child) -> Vec<Value> {
        let begun = Instant::now();
        let mut spans = Vec::new();
        loop {
            let ended = sender.try_wait().expect("a status").is_some();
            match self.listener.accept() {
                Ok((stream, _)) => collect(stream, &mut spans),
                Err(_) if ended => return spans,
                Err(_) => std::thread::sleep(Duration::from_millis(5)),
            }
            assert!(begun.elapsed() < Duration::from_secs(30), "it never ends");
        }
    }
}

/// Reads the messages of one connection and answers each.
fn collect(stream: TcpStream, spans: &mut Vec<Value>) {
    stream.set_nonblocking(false).expect("a setting");
    let limit = Some(Duration::from_secs(10));
    stream.set_read_timeout(limit).expect("a setting");
    let mut reader = BufReader::new(stream);
    loop {
        let (mut head, mut length) = (String::new(), 0);
        loop {
            let mut line = String::new();
            if reader.read_line(&mut line).unwrap_or(0) == 0 {
                return;
            }
            let lower = line.to_ascii_lowercase();
            if let Some(value) = lower.strip_prefix("content-length:") {
                length = value.trim().parse().expect("a number");
            }
            if line == "\r\n" {
                break;
            }
            head.push_str(&line);
        }
        assert!(head.starts_with("POST /v1/traces "), "{head}");
        let mut body = vec![0; length];
        reader.read_exact(&mut body).expect("the body");
        let message: Value = serde_json::from_slice(&body).expect("OTLP as JSON");
        for resource in message["resourceSpans"].as_array().expect("a list") {
            for scope in resource["scopeSpans"].as_array().expect("a list") {
                spans.extend(scope["spans"].as_array().expect("a list").clone());
            }
        }
        let answer = "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 2\r\n\
                      Connection: close\r\n\r\n{}";
        reader
            .get_mut()
            .write_all(answer.as_bytes())
            .expect("sends");
    }
}

/// The service, and where it answers.
fn serve(arguments: &[&str], environment: &[(&str, &str)]) -> (Child, String) {
    let world = example("small.toml");
    let world = world.to_str().expect("text");
    let mut command = infer(&["serve", "--policy", "least-loaded", "--world", world]);
    command.args(["--listen", "127.0.0.1:0"]).args(arguments);
    for (name, _) in std::env::vars().filter(|(name, _)| name.starts_with("OTEL_")) {
        command.env_remove(name);
    }
    command
        .env("NO_PROXY", "127.0.0.1")
        .env("no_proxy", "127.0.0.1");
    command.envs(environment.iter().copied());
    let mut child = command.spawn().expect("the program starts");
    let mut line = String::new();
    let out = child.stdout.as_mut().expect("piped");
    BufReader::new(out).read_line(&mut line).expect("a line");
    let url = line.trim().strip_prefix("listening on ");
    (child, url.expect("the address").to_owned())
}

fn terminate(child: &Child) {
    let status = Command::new("kill").arg(child.id().to_string()).status();
    assert!(status.expect("kill exists").success());
}

fn attribute<'a>(span: &'a Value, key: &str) -> &'a Value {
    let attributes = span["attributes"].as_array().expect("a list");
    let found = attributes.iter().find(|attribute| attribute["key"] == key);
    &found.expect(key)["value"]
}

#[test]
fn a_decision_is_a_trace_that_goes_on_from_the_clients() {
    let collector = Collector::new();
    let url = collector.url();
    let (mut child, service) = serve(
        &["--trace-share", "1"],
        &[("OTEL_EXPORTER_OTLP_ENDPOINT", &url)],
    );
    let state = std::fs::read(example("request.json")).expect("the example is there");
    let (trace, parent) = ("0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331");
    let response = agent()
        .post(format!("{service}/v1/decisions"))
        .content_type("application/json")
        .header("traceparent", format!("00-{trace}-{parent}-01"))
        .header("x-request-id", "from-the-client-1")
        .send(&state[..])
        .expect("the service answers");
    assert_eq!(response.status(), 200);
    assert_eq!(response.headers()["x-request-id"], "from-the-client-1");
    terminate(&child);
    let spans = collector.spans(&mut child);
    let named = |name: &str| {
        let found: Vec<&Value> = spans.iter().filter(|span| span["name"] == name).collect();
        assert_eq!(found.len(), 1, "{name} in {spans:#?}");
        found[0]
    };
    let request = named("POST /v1/decisions");
    assert_eq!(request["traceId"], trace);
    assert_eq!(request["parentSpanId"], parent);
    assert_eq!(
        attribute(request, "request.id")["stringValue"],
        "from-the-client-1"
    );
    // JSON of protocol buffers may write 64-bit integers as strings.
    let status = attribute(request, "http.response.status_code")["intValue"].to_string();
    assert_eq!(status.trim_matches('"'), "200");
    for name in ["parse", "decide", "check"] {
        let inner = named(name);
        assert_eq!(inner["traceId"], trace, "{name}");
        assert_eq!(inner["parentSpanId"], request["spanId"], "{name}");
    }
}

#[test]
fn the_share_decides_where_the_client_does_not() {
    let collector = Collector::new();
    let url = collector.url();
    let share = ["--otlp-endpoint", &url, "--trace-share", "0"];
    let (mut child, service) = serve(&share, &[]);
    let sampled = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
    for parent in ["", "nonsense", sampled] {
        let health = agent()
            .get(format!("{service}/healthz"))
            .header("traceparent", parent)
            .call();
        assert_eq!(health.expect("the service answers").status(), 200);
    }
    terminate(&child);
    let spans = collector.spans(&mut child);
    assert_eq!(spans.len(), 1, "{spans:#?}");
    assert_eq!(spans[0]["parentSpanId"], "b7ad6b7169203331");
}

#[test]
fn without_a_collector_there_are_no_traces_and_a_wrong_one_is_told() {
    let collector = Collector::new();
    let (mut child, service) = serve(&[], &[("OTEL_EXPORTER_OTLP_ENDPOINT", "")]);
    let health = agent().get(format!("{service}/healthz")).call();
    assert_eq!(health.expect("the service answers").status(), 200);
    terminate(&child);
    assert!(collector.spans(&mut child).is_empty());
    let mut child = infer(&["serve", "--policy", "least-loaded", "--world", "scinet-16"])
        .args(["--listen", "127.0.0.1:0", "--otlp-endpoint", "not a url"])
        .spawn()
        .expect("the program starts");
    let status = child.wait().expect("the program ends");
    let mut error = String::new();
    let out = child.stderr.as_mut().expect("piped");
    out.read_to_string(&mut error).expect("text");
    assert_eq!(status.code(), Some(2), "{error}");
    assert!(error.contains("--otlp-endpoint"), "{error}");
}

#[test]
fn a_collector_that_does_not_answer_does_not_hold_the_service() {
    // Nothing listens there any more.
    let gone = Collector::new().url();
    let (mut child, service) = serve(&["--otlp-endpoint", &gone], &[]);
    let health = agent().get(format!("{service}/healthz")).call();
    assert_eq!(health.expect("the service answers").status(), 200);
    let begun = Instant::now();
    terminate(&child);
    let status = child.wait().expect("the program ends");
    assert!(status.success());
    assert!(begun.elapsed() < Duration::from_secs(10));
}
