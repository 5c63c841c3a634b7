//! TLS and mutual TLS, with authorities made here.

use std::io::{ErrorKind, Read, Write};
use std::net::TcpStream;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use infer::auth::Role;
use infer::service::Limits;
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned};

use crate::secure::{Tokens, security};
use crate::support::{Running, decider, small};

/// An authority that signs certificates.
struct Authority(CertifiedIssuer<'static, KeyPair>);

/// A certificate and its key.
struct Pair {
    certificate: rcgen::Certificate,
    key: KeyPair,
}

impl Authority {
    fn new(name: &str) -> Self {
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.distinguished_name.push(DnType::CommonName, name);
        let key = KeyPair::generate().expect("a key");
        Self(CertifiedIssuer::self_signed(params, key).expect("an authority"))
    }

    fn sign(&self, dns: &str) -> Pair {
        let mut params = CertificateParams::new(vec![dns.to_owned()]).expect("a name");
        params
            .distinguished_name
            .push(DnType::CommonName, format!("CN of {dns}"));
        let key = KeyPair::generate().expect("a key");
        let certificate = params.signed_by(&key, &self.0).expect("a certificate");
        Pair { certificate, key }
    }
}

impl Pair {
    fn write(&self, folder: &Path) {
        std::fs::write(folder.join("tls.key"), self.key.serialize_pem()).expect("written");
        std::fs::write(folder.join("tls.crt"), self.certificate.pem()).expect("written");
    }
}

/// The configuration of TLS with the files of `folder`.
fn tls(folder: &Path, more: &str) -> String {
    let (certificate, key) = (folder.join("tls.crt"), folder.join("tls.key"));
    format!("[tls]\ncertificate = {certificate:?}\nkey = {key:?}\n{more}")
}

fn start(text: &str) -> Running {
    let deciders = vec![decider(&small(), "least-loaded")];
    Running::secured(deciders, Limits::default(), security(text))
}

/// What a client trusts, shows and speaks.
fn client(authority: &Authority, shown: Option<&Pair>, protocols: &[&[u8]]) -> ClientConfig {
    let mut roots = RootCertStore::empty();
    roots.add(authority.0.der().clone()).expect("an authority");
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let builder = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .expect("versions")
        .with_root_certificates(roots);
    let mut config = match shown {
        None => builder.with_no_client_auth(),
        Some(pair) => {
            let chain = vec![CertificateDer::from(pair.certificate.der().to_vec())];
            let key = PrivateKeyDer::try_from(pair.key.serialize_der()).expect("a key");
            builder.with_client_auth_cert(chain, key).expect("a pair")
        }
    };
    config.alpn_protocols = protocols.iter().map(|p| p.to_vec()).collect();
    config
}

type Stream = StreamOwned<ClientConnection, TcpStream>;

fn connect(service: &Running, config: ClientConfig) -> Stream {
    let address = service.url.trim_start_matches("http://");
    let stream = TcpStream::connect(address).expect("it listens");
    stream
        .set_read_timeout(Some(Duration::from_secs(20)))
        .expect("set");
    let name = ServerName::try_from("infer.example.org").expect("a name");
    let connection = ClientConnection::new(Arc::new(config), name).expect("a client");
    StreamOwned::new(connection, stream)
}

/// The status of GET `path` over HTTP/1.1.
fn get(service: &Running, config: ClientConfig, path: &str, more: &str) -> std::io::Result<u16> {
    let mut stream = connect(service, config);
    let head = format!(
        "GET {path} HTTP/1.1\r\nHost: infer.example.org\r\n{more}Connection: close\r\n\r\n"
    );
    stream.write_all(head.as_bytes())?;
    let mut answer = Vec::new();
    match stream.read_to_end(&mut answer) {
        Err(error) if answer.is_empty() => return Err(error),
        _ => {}
    }
    let text = String::from_utf8_lossy(&answer);
    let status = text.strip_prefix("HTTP/1.1 ").and_then(|t| t.get(..3));
    status
        .and_then(|s| s.parse().ok())
        .ok_or_else(|| ErrorKind::InvalidData.into())
}

#[test]
fn both_versions_of_http_are_answered_over_tls() {
    let folder = tempfile::tempdir().expect("a folder");
    let authority = Authority::new("authority");
    authority.sign("infer.example.org").write(folder.path());
    let service = start(&tls(folder.path(), ""));
    // Without a token or an authority of clients, nobody authenticates, and names are bounded: an
    // address of the loopback is asked for here by another name.
    let config = client(&authority, None, &[b"http/1.1"]);
    assert_eq!(
        get(&service, config, "/healthz", "").expect("answered"),
        403
    );
    let mut stream = connect(&service, client(&authority, None, &[b"h2", b"http/1.1"]));
    stream
        .write_all(&http2_get("/healthz", "127.0.0.1"))
        .expect("sent");
    assert_eq!(stream.conn.alpn_protocol(), Some(&b"h2"[..]));
    assert_eq!(http2_status(&mut stream), 200);
    let stranger = Authority::new("stranger");
    let error = get(&service, client(&stranger, None, &[]), "/healthz", "").expect_err("unknown");
    assert_eq!(error.kind(), ErrorKind::InvalidData);
}

/// The preface of HTTP/2, empty settings, and one request without a body (RFC 9113, RFC 7541).
fn http2_get(path: &str, authority: &str) -> Vec<u8> {
    let text = |text: &str| {
        let length = u8::try_from(text.len()).expect("short");
        [&[length][..], text.as_bytes()].concat()
    };
    // Of the static table: GET, https; by name: path, authority.
    let head = [
        &[0x82, 0x87, 0x04][..],
        &text(path),
        &[0x01],
        &text(authority),
    ]
    .concat();
    let length = u8::try_from(head.len()).expect("short");
    let mut bytes = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec();
    bytes.extend([0, 0, 0, 4, 0, 0, 0, 0, 0]);
    // HEADERS of stream 1 that end the head and the request.
    bytes.extend([0, 0, length, 1, 0x05, 0, 0, 0, 1]);
    bytes.extend(head);
    bytes
}

/// The status of the first answer. Statuses of the static table are one byte.
fn http2_status(stream: &mut Stream) -> u16 {
    loop {
        let mut head = [0; 9];
        stream.read_exact(&mut head).expect("a frame");
        let length = u32::from_be_bytes([0, head[0], head[1], head[2]]);
        let mut payload = vec![0; usize::try_from(length).expect("short")];
        stream.read_exact(&mut payload).expect("its payload");
        if head[3] == 1 {
            return match payload[0] {
                0x88 => 200,
                0x8c => 400,
                0x8d => 404,
                other => panic!("{other:#x} is not a status of the static table"),
            };
        }
    }
}

#[test]
fn certificates_make_clients_known() {
    let tokens = Tokens::new();
    let folder = tokens.folder.path();
    let authority = Authority::new("authority");
    authority.sign("infer.example.org").write(folder);
    let clients = Authority::new("clients");
    std::fs::write(folder.join("clients.crt"), clients.0.pem()).expect("written");
    let text = |rule: &str| {
        let more = format!(
            "client_ca = {:?}\nclient_certificate = \"{rule}\"\n\
             [[tls.clients]]\nmatch = \"dns:reader.example.org\"\nname = \"reader\"\nrole = \"read\"\n\
             [[tls.clients]]\nmatch = \"cn:CN of decider.example.org\"\nname = \"decider\"\nrole = \"decide\"\n\
             [auth]\ntokens_file = {:?}\n",
            folder.join("clients.crt"),
            tokens.path(),
        );
        tls(folder, &more)
    };
    let reader = clients.sign("reader.example.org");
    let decider = clients.sign("decider.example.org");
    let unknown = clients.sign("unknown.example.org");
    let forged = Authority::new("clients").sign("reader.example.org");
    let bearer = format!("Authorization: Bearer {}\r\n", tokens.of(Role::Read));
    let required = start(&text("required"));
    let ask = |service: &Running, shown: Option<&Pair>, path: &str, more: &str| {
        get(service, client(&authority, shown, &[]), path, more).ok()
    };
    // GET on a path that has no such method needs the role read, as the metrics do.
    assert_eq!(ask(&required, Some(&reader), "/metrics", ""), Some(200));
    assert_eq!(
        ask(&required, Some(&reader), "/v1/decisions:validate", ""),
        Some(405)
    );
    assert_eq!(ask(&required, Some(&decider), "/metrics", ""), Some(200));
    assert_eq!(ask(&required, Some(&unknown), "/metrics", ""), Some(403));
    assert_eq!(
        ask(&required, Some(&unknown), "/metrics", &bearer),
        Some(200)
    );
    assert_eq!(ask(&required, Some(&forged), "/metrics", ""), None);
    assert_eq!(ask(&required, None, "/healthz", &bearer), None);
    let optional = start(&text("optional"));
    assert_eq!(ask(&optional, None, "/metrics", ""), Some(401));
    assert_eq!(ask(&optional, None, "/metrics", &bearer), Some(200));
    assert_eq!(ask(&optional, Some(&forged), "/metrics", &bearer), None);
    assert_eq!(ask(&optional, Some(&reader), "/metrics", ""), Some(200));
}

/// The names that the service's certificate has now.
fn shown(service: &Running, authority: &Authority) -> Option<Vec<u8>> {
    let mut stream = connect(service, client(authority, None, &[b"http/1.1"]));
    stream
        .write_all(b"GET /healthz HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n\r\n")
        .ok()?;
    let chain = stream.conn.peer_certificates()?;
    Some(chain.first()?.to_vec())
}

#[test]
fn new_certificates_hold_and_broken_ones_do_not() {
    let folder = tempfile::tempdir().expect("a folder");
    let authority = Authority::new("authority");
    let first = authority.sign("infer.example.org");
    first.write(folder.path());
    let service = start(&tls(folder.path(), "reload_s = 0.01\n"));
    assert_eq!(
        shown(&service, &authority),
        Some(first.certificate.der().to_vec())
    );
    // A certificate without its key is what a change looks like half way.
    let second = authority.sign("infer.example.org");
    std::fs::write(folder.path().join("tls.crt"), second.certificate.pem()).expect("written");
    assert_eq!(
        shown(&service, &authority),
        Some(first.certificate.der().to_vec())
    );
    second.write(folder.path());
    let until = Instant::now() + Duration::from_secs(20);
    while shown(&service, &authority) != Some(second.certificate.der().to_vec()) {
        assert!(Instant::now() < until, "not before long");
    }
}

#[test]
fn a_handshake_that_stalls_is_cut_off() {
    let folder = tempfile::tempdir().expect("a folder");
    let authority = Authority::new("authority");
    authority.sign("infer.example.org").write(folder.path());
    let service = start(&tls(folder.path(), "handshake_timeout_s = 0.1\n"));
    let address = service.url.trim_start_matches("http://");
    let mut stream = TcpStream::connect(address).expect("it listens");
    stream
        .set_read_timeout(Some(Duration::from_secs(20)))
        .expect("set");
    // The first bytes of a greeting of TLS.
    stream.write_all(&[0x16, 0x03, 0x01]).expect("sent");
    let closed = stream.read(&mut [0; 8]);
    assert!(matches!(closed, Ok(0)) || closed.is_err_and(|e| e.kind() != ErrorKind::WouldBlock));
}

#[test]
fn what_was_accepted_over_tls_is_answered_before_the_end() {
    let folder = tempfile::tempdir().expect("a folder");
    let authority = Authority::new("authority");
    authority.sign("infer.example.org").write(folder.path());
    let mut service = start(&tls(folder.path(), ""));
    // A request whose body is not complete when the service is asked to end. It is told to go on
    // once its handler waits for the body.
    let mut stream = connect(&service, client(&authority, None, &[b"http/1.1"]));
    let head = b"POST /v1/decisions HTTP/1.1\r\nHost: 127.0.0.1\r\nExpect: 100-continue\r\n\
                 Content-Type: application/json\r\nContent-Length: 4\r\n\r\n";
    stream.write_all(head).expect("sent");
    let mut told = [0; b"HTTP/1.1 100 Continue\r\n\r\n".len()];
    stream.read_exact(&mut told).expect("told to go on");
    assert!(told.starts_with(b"HTTP/1.1 100 "));
    service.stop();
    let address = service.url.trim_start_matches("http://").to_owned();
    let until = Instant::now() + Duration::from_secs(20);
    while TcpStream::connect(&address).is_ok() {
        assert!(Instant::now() < until, "it still listens");
    }
    stream.write_all(b"null").expect("sent");
    let mut answer = String::new();
    // The end of the stream may come without a farewell.
    let _ = stream.read_to_string(&mut answer);
    assert!(answer.starts_with("HTTP/1.1 422 "), "{answer}");
}

#[test]
fn files_that_hold_something_else_are_named_and_not_repeated() {
    let folder = tempfile::tempdir().expect("a folder");
    let authority = Authority::new("authority");
    let pair = authority.sign("infer.example.org");
    let other = authority.sign("infer.example.org");
    let open = || {
        let settings = infer::config::Settings::gather(&infer::config::Sources {
            file: Some(("infer.toml".into(), tls(folder.path(), ""))),
            ..Default::default()
        });
        let config = settings
            .expect("settings")
            .config()
            .expect("a configuration");
        infer::tls::Tls::open(&config.tls)
            .expect_err("wrong")
            .to_string()
    };
    assert!(open().contains("tls.crt"), "{}", open());
    pair.write(folder.path());
    std::fs::write(folder.path().join("tls.key"), "hunter2").expect("written");
    assert!(
        open().contains("tls.key: there is no private key"),
        "{}",
        open()
    );
    assert!(!open().contains("hunter2"), "{}", open());
    std::fs::write(folder.path().join("tls.key"), other.key.serialize_pem()).expect("written");
    assert!(open().contains("tls.crt with the key"), "{}", open());
    std::fs::write(folder.path().join("tls.crt"), "hunter2").expect("written");
    assert!(
        open().contains("tls.crt: there is no certificate"),
        "{}",
        open()
    );
}
