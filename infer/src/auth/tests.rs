use std::path::Path;

use sha2::{Digest, Sha256};

use super::*;

fn time(text: &str) -> Timestamp {
    text.parse().expect("a time")
}

fn now() -> Timestamp {
    time("2026-06-01T12:00:00Z")
}

fn hash(token: &str) -> String {
    hex::encode(Sha256::digest(token))
}

fn tokens(text: &str) -> Result<Tokens, TokenError> {
    Tokens::parse(Path::new("tokens"), text)
}

#[test]
fn each_line_makes_a_client_known() {
    let text = format!(
        "# Clients\n\nplanner read,decide sha256:{}\n  old read sha256:{} expires:2026-06-01T12:00:00Z\n\
         new operate sha256:{} expires:2026-06-01T12:00:01Z\nnew read sha256:{}\n",
        hash("a"),
        hash("b"),
        hash("c"),
        hash("d"),
    );
    let tokens = tokens(&text).expect("four lines");
    let find = |token: &str| {
        let found = tokens.find(token.as_bytes(), now());
        found.map(|(name, role)| (name.as_str(), role))
    };
    assert_eq!(tokens.len(), 4);
    assert_eq!(find("a"), Ok(("planner", Role::Decide)));
    assert_eq!(find("b"), Err(CredentialError::Expired));
    assert_eq!(find("c"), Ok(("new", Role::Operate)));
    assert_eq!(find("d"), Ok(("new", Role::Read)));
    assert_eq!(find("e"), Err(CredentialError::Unknown));
    assert_eq!(find(&hash("a")), Err(CredentialError::Unknown));
    assert!(!format!("{tokens:?}").contains(&hash("a")));
}

#[test]
fn a_wrong_line_is_told_by_its_number_and_not_repeated() {
    let secret = "infer_5ec4e7";
    let good = hash("a");
    for (line, problem) in [
        (secret.to_owned(), "the role is missing"),
        (
            format!("a {secret} sha256:{good}"),
            "after the name must stand a role",
        ),
        (
            format!("{secret}! read sha256:{good}"),
            "a client's name has",
        ),
        ("a read".into(), "sha256: and the hash is missing"),
        (
            format!("a read {secret}"),
            "after the role must stand sha256:",
        ),
        (format!("a read sha256:{secret}"), "64 hexadecimal digits"),
        (
            format!("a read sha256:{good} {secret}"),
            "expires: and a time only",
        ),
        (
            format!("a read sha256:{good} expires:{secret}"),
            "must stand a time",
        ),
        (
            format!("a read sha256:{good} expires:2027-01-01T00:00:00Z {secret}"),
            "a line ends",
        ),
        (
            format!("a read sha256:{good}\nb read sha256:{good}"),
            "the same token stands above",
        ),
    ] {
        let error = tokens(&format!("# First\n{line}\n")).expect_err("wrong");
        let text = format!("{error} {error:?}");
        assert!(text.contains(problem), "{text}");
        assert!(text.starts_with("tokens:"), "{text}");
        assert!(!text.contains("5ec4e7"), "{text}");
    }
}

#[test]
fn a_new_token_is_known_by_its_line_and_not_told_by_accident() {
    let name = "deployer".parse().expect("a name");
    let expires = Some(time("2027-01-01T00:00:00Z"));
    let token = NewToken::random(&name, Role::Decide, expires).expect("randomness");
    let other = NewToken::random(&name, Role::Decide, expires).expect("randomness");
    assert_ne!(token.secret(), other.secret());
    // 6 characters of a prefix and 256 bits in hexadecimal.
    assert_eq!(token.secret().len(), 6 + 64);
    let tokens = tokens(token.line()).expect("a line");
    let found = tokens
        .find(token.secret().as_bytes(), now())
        .expect("it is known");
    assert_eq!((found.0.as_str(), found.1), ("deployer", Role::Decide));
    assert!(!token.line().contains(token.secret()));
    assert!(!format!("{token:?}").contains(token.secret()));
}

#[test]
fn a_broken_file_keeps_the_old_tokens() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("tokens");
    let write = |text: &str| std::fs::write(&path, text).expect("written");
    write(&format!("a read sha256:{}\n", hash("a")));
    let file = TokenFile::open(&path).expect("one line");
    let knows = |token: &str| file.current().find(token.as_bytes(), now()).is_ok();
    assert!(matches!(file.reload(), Reload::Unchanged));
    // Of the same length, and within the same tick of the file system's clock.
    write(&format!("a read sha256:{}\n", hash("b")));
    assert!(matches!(file.reload(), Reload::Loaded(1)));
    assert_eq!((knows("a"), knows("b")), (false, true));
    write(&format!("a read sha256:{}\nb\n", hash("a")));
    match file.reload() {
        Reload::Kept(error) => {
            assert!(error.to_string().ends_with("tokens:2: the role is missing"))
        }
        other => panic!("{other:?}"),
    }
    assert!(matches!(file.reload(), Reload::Unchanged), "told once");
    assert_eq!((knows("a"), knows("b")), (false, true));
    write("");
    match file.reload() {
        Reload::Kept(error) => assert!(error.to_string().ends_with("there is no token in it")),
        other => panic!("{other:?}"),
    }
    std::fs::remove_file(&path).expect("removed");
    assert!(matches!(file.reload(), Reload::Kept(_)));
    assert!(matches!(file.reload(), Reload::Unchanged), "told once");
    assert!(knows("b"));
    write(&format!("a read sha256:{}\n", hash("c")));
    assert!(matches!(file.reload(), Reload::Loaded(1)));
    assert!(knows("c"));
}

#[test]
fn only_bearer_and_a_token_are_credentials() {
    for (header, token) in [
        ("Bearer a", Some("a")),
        ("bearer a", Some("a")),
        ("BEARER   a ", Some("a")),
        ("Bearer", None),
        ("Bearer ", None),
        ("Bearer a b", None),
        ("Bearera", None),
        ("Basic a", None),
        ("", None),
        ("Bearer \u{e9}", None),
    ] {
        let found = bearer(header.as_bytes());
        assert_eq!(found, token.map(str::as_bytes), "{header:?}");
    }
}

fn peer(names: Option<&[u8]>) -> Peer {
    Peer {
        address: [192, 0, 2, 1].into(),
        certificate: names.map(|der| Arc::new(CertificateNames::of(der))),
    }
}

#[test]
fn a_token_goes_before_a_certificate() {
    let mut params = rcgen::CertificateParams::new(vec!["a.example.org".into()]).expect("a name");
    params.distinguished_name = rcgen::DistinguishedName::new();
    let key = rcgen::KeyPair::generate().expect("a key");
    let der = params
        .self_signed(&key)
        .expect("a certificate")
        .der()
        .to_vec();
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("tokens");
    std::fs::write(&path, format!("by-token operate sha256:{}\n", hash("t"))).expect("written");
    let known = |certificate: &str| Authenticator::Known {
        tokens: Some(Arc::new(TokenFile::open(&path).expect("one line"))),
        certificates: vec![KnownClient {
            certificate: certificate.parse().expect("a name"),
            name: "by-certificate".parse().expect("a name"),
            role: Role::Read,
        }],
    };
    let identify = |authenticator: &Authenticator, headers: &[&str], peer: &Peer| {
        let headers = headers.iter().map(|h| h.as_bytes());
        authenticator.identify(headers, peer, now())
    };
    let shown = peer(Some(&der));
    let authenticator = known("dns:A.example.org");
    let client = identify(&authenticator, &["Bearer t"], &shown).expect("known");
    assert_eq!(client.name().map(ClientName::as_str), Some("by-token"));
    let client = identify(&authenticator, &[], &shown).expect("known");
    assert_eq!(
        client.name().map(ClientName::as_str),
        Some("by-certificate")
    );
    assert_eq!(client.role, Some(Role::Read));
    let client = identify(&known("dns:b.example.org"), &[], &shown).expect("a stranger");
    assert_eq!((client.identity, client.role), (Identity::Stranger, None));
    let client = identify(&authenticator, &[], &peer(None)).expect("nobody");
    assert_eq!((client.identity, client.role), (Identity::Nobody, None));
    let twice = identify(&authenticator, &["Bearer t", "Bearer t"], &shown);
    assert_eq!(twice, Err(CredentialError::Malformed));
    let client = identify(&Authenticator::Open, &["Basic x"], &peer(None)).expect("anyone");
    assert_eq!(client.role, Some(Role::Operate));
}
