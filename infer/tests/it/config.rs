//! The configuration as the program's users meet it.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::process::Command;

use infer::auth::Role;

use crate::program::{infer, run};
use crate::secure::Tokens;

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

#[test]
fn the_default_file_is_printed_and_accepted() {
    let output = run(&["show-config", "--default"], b"");
    assert!(output.status.success());
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("infer.toml");
    std::fs::write(&path, &output.stdout).expect("written");
    let output = infer(&["show-config"])
        .env("INFER_CONFIG", &path)
        .env("INFER_THREADS", "3")
        .output()
        .expect("it runs");
    assert!(output.status.success(), "{}", text(&output.stderr));
    let shown = text(&output.stdout);
    let origin = |key: &str| {
        let line = shown
            .lines()
            .find(|line| line.starts_with(key))
            .expect("a key");
        line.split_once("  # ").expect("an origin").1.to_owned()
    };
    assert_eq!(origin("threads = 3 "), "INFER_THREADS");
    assert!(
        origin("max_in_flight").starts_with(path.to_str().expect("text")),
        "{shown}"
    );
    assert_eq!(origin("#tokens_file"), "not set");
}

#[test]
fn what_is_wrong_has_an_exit_code() {
    let folder = tempfile::tempdir().expect("a folder");
    let write = |name: &str, text: &str| {
        let path = folder.path().join(name);
        std::fs::write(&path, text).expect("written");
        path.to_str().expect("text").to_owned()
    };
    let wrong = write("wrong.toml", "[server]\nthreads = 0\n");
    let broken = write("tokens", "a\n");
    let missing = folder
        .path()
        .join("missing.toml")
        .to_str()
        .expect("text")
        .to_owned();
    let small = ["--policy", "least-loaded", "--world", "scinet-16"];
    let serve = |more: &[&'static str]| [&["serve"], &small[..], more].concat();
    for (args, code, told) in [
        (
            vec!["show-config", "--config", &wrong],
            64,
            "wrong.toml:2: server.threads",
        ),
        (
            vec!["show-config", "--config", &missing],
            66,
            "missing.toml",
        ),
        (
            vec!["show-config", "--threads", "0"],
            2,
            "--threads: server.threads",
        ),
        (vec!["serve"], 2, "--model DIR or --policy NAME"),
        (
            serve(&["--listen", "0.0.0.0:0"]),
            2,
            "--listen: server.listen: 0.0.0.0:0 can be reached from elsewhere",
        ),
        (
            [
                &serve(&["--listen", "0.0.0.0:0", "--auth-tokens-file"]),
                &[broken.as_str()][..],
            ]
            .concat(),
            65,
            "tokens:1: the role is missing",
        ),
        (
            [&serve(&["--auth-tokens-file"]), &[missing.as_str()][..]].concat(),
            66,
            "cannot read the tokens",
        ),
    ] {
        let output = run(&args, b"");
        let error = text(&output.stderr);
        assert_eq!(output.status.code(), Some(code), "{args:?}: {error}");
        assert!(error.contains(told), "{args:?}: {error}");
    }
}

#[test]
fn a_new_token_is_told_with_its_line() {
    let args = ["token", "new", "--name", "deployer", "--role", "decide"];
    let output = run(&args, b"");
    assert!(output.status.success(), "{}", text(&output.stderr));
    let told = text(&output.stdout);
    let lines: Vec<_> = told
        .lines()
        .filter(|l| !l.starts_with('#') && !l.is_empty())
        .collect();
    assert!(
        lines[0].starts_with("infer_") && lines[1].starts_with("deployer decide sha256:"),
        "{told}"
    );
    assert_ne!(told, text(&run(&args, b"").stdout));
    assert_eq!(
        run(&["token", "new", "--name", "a b", "--role", "read"], b"")
            .status
            .code(),
        Some(2)
    );
}

/// Sends `bytes` and reads until the service closes.
fn exchange(address: &str, bytes: &[u8]) -> Vec<u8> {
    let mut stream = TcpStream::connect(address).expect("it listens");
    stream.write_all(bytes).expect("sent");
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).expect("answered");
    answer
}

#[test]
fn no_secret_is_logged_at_the_finest_level() {
    let tokens = Tokens::new();
    let path = tokens.path();
    let file = path.to_str().expect("text");
    let mut child = infer(&[
        "serve",
        "--policy",
        "least-loaded",
        "--world",
        "scinet-16",
        "--listen",
        "127.0.0.1:0",
        "--auth-tokens-file",
        file,
        "--log",
        "trace",
        "--threads",
        "1",
    ])
    .spawn()
    .expect("it starts");
    let mut line = String::new();
    let mut out = BufReader::new(child.stdout.take().expect("piped"));
    out.read_line(&mut line).expect("a line");
    let address = line
        .trim()
        .strip_prefix("listening on http://")
        .expect("the address")
        .to_owned();
    let mut log = child.stderr.take().expect("piped");
    let log = std::thread::spawn(move || {
        let mut text = String::new();
        log.read_to_string(&mut text).expect("text");
        text
    });
    let secret = tokens.of(Role::Read);
    for (token, status) in [(secret, "200"), ("infer_0123456789abcdef", "401")] {
        let head = format!(
            "GET /metrics HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {token}\r\nConnection: close\r\n\r\n"
        );
        let answer = text(&exchange(&address, head.as_bytes()));
        assert!(
            answer.starts_with(&format!("HTTP/1.1 {status} ")),
            "{answer}"
        );
        assert!(!answer.contains(token), "{answer}");
    }
    http2_with(&address, secret);
    let killed = Command::new("kill").arg(child.id().to_string()).status();
    assert!(killed.expect("kill exists").success());
    assert!(child.wait().expect("it ends").success());
    let log = log.join().expect("read");
    assert!(
        log.contains("TRACE") || log.contains("DEBUG"),
        "nothing is logged: {log}"
    );
    for token in [secret, "infer_0123456789abcdef"] {
        assert!(!log.contains(token), "{token} is in the log");
        // Nor what the logs of libraries would make of its bytes.
        assert!(!log.contains(&token[6..22]), "{token} is in the log");
    }
    let hashes = std::fs::read_to_string(path).expect("there");
    for hash in hashes
        .lines()
        .filter_map(|l| l.split_once("sha256:"))
        .map(|(_, h)| h)
    {
        assert!(!log.contains(hash), "{hash} is in the log");
    }
}

/// One request with a token over HTTP/2 without encryption, as proxies send it.
fn http2_with(address: &str, token: &str) {
    let value = format!("Bearer {token}");
    let text = |text: &str| {
        let length = u8::try_from(text.len()).expect("short");
        assert!(length < 127);
        [&[length][..], text.as_bytes()].concat()
    };
    // Of the static table: GET, http; by name: path, authority, authorization (never indexed).
    let head = [
        &[0x82, 0x86, 0x04][..],
        &text("/metrics"),
        &[0x01],
        &text("localhost"),
        &[0x1f, 0x08],
        &text(&value),
    ]
    .concat();
    let length = u8::try_from(head.len()).expect("short");
    let mut bytes = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec();
    bytes.extend([0, 0, 0, 4, 0, 0, 0, 0, 0]);
    bytes.extend([0, 0, length, 1, 0x05, 0, 0, 0, 1]);
    bytes.extend(head);
    let mut stream = TcpStream::connect(address).expect("it listens");
    stream.write_all(&bytes).expect("sent");
    loop {
        let mut frame = [0; 9];
        stream.read_exact(&mut frame).expect("a frame");
        let length = u32::from_be_bytes([0, frame[0], frame[1], frame[2]]);
        let mut payload = vec![0; usize::try_from(length).expect("short")];
        stream.read_exact(&mut payload).expect("its payload");
        if frame[3] == 1 {
            assert_eq!(payload[0], 0x88, "the status is not 200");
            return;
        }
    }
}
