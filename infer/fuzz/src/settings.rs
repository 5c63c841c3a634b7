//! Configurations, tokens and certificates.

use std::path::Path;

use infer::auth::{
    Authenticator, CertificateName, CertificateNames, ClientName, Peer, Role, TokenFile, Tokens,
};
use infer::config::{Format, Settings, Sources};
use infer::control::settings::{ControlFile, LeaseSettings};
use jiff::Timestamp;

use super::support::{scratch, told};

/// Begins a comment that stands for an environment variable: `#$ NAME=value`.
const VARIABLE: &str = "#$ ";
/// Begins a comment that stands for a flag: `#- name=value`.
const FLAG: &str = "#- ";
/// Length of an interval, in s.
const INTERVAL_S: f64 = 5.0;

/// A configuration file of `infer serve`, with variables and flags in comments: what is gathered of
/// it can be shown, and what is shown is the same configuration.
pub(crate) fn config(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else {
        return;
    };
    let of = |mark: &str| {
        text.lines()
            .filter_map(|line| line.strip_prefix(mark)?.split_once('='))
            .map(|(name, value)| (name.to_owned(), value.to_owned()))
            .collect()
    };
    let sources = Sources {
        file: Some(("infer.toml".into(), text.into())),
        variables: of(VARIABLE),
        flags: of(FLAG),
    };
    let settings = match Settings::gather(&sources) {
        Ok(settings) => settings,
        Err(error) => return told_of(&error),
    };
    let shown = settings.show(Format::Text);
    let sources = Sources {
        file: Some(("shown.toml".into(), shown.clone())),
        ..Sources::default()
    };
    let again = Settings::gather(&sources).unwrap_or_else(|error| panic!("{error}\n{shown}"));
    for (path, setting) in settings.iter() {
        let same = again.setting(path).map(|setting| &setting.value);
        assert_eq!(same, Some(&setting.value), "{path}\n{shown}");
    }
    let json = settings.show(Format::Json);
    serde_json::from_str::<serde_json::Value>(&json).expect("what is shown as JSON is JSON");
    if let Err(error) = settings.config() {
        told_of(&error);
    }
}

/// A wrong configuration is told with the place of what is wrong.
fn told_of(error: &infer::config::ConfigError) {
    told(&error.to_string().chars().take(300).collect::<String>());
    assert!(
        error.origin().is_some() || matches!(error, infer::config::ConfigError::NoPolicy),
        "{error}"
    );
}

/// The section `[control]` of a configuration: what is accepted is written and read to the same,
/// and every moment is within a window of its guardrails or not.
pub(crate) fn control(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else {
        return;
    };
    let wrong = |error: &dyn std::error::Error| {
        let text = error.to_string();
        assert!(text.starts_with("fuzz.toml: "), "{text}");
    };
    let file = match ControlFile::parse(text, "fuzz.toml") {
        Ok(file) => file,
        Err(error) => return wrong(&error),
    };
    let settings = match file.clone().check("fuzz.toml", INTERVAL_S, true) {
        Ok(settings) => settings,
        Err(error) => return wrong(&error),
    };
    #[derive(serde::Serialize)]
    struct Whole<'a> {
        control: &'a ControlFile,
    }
    let text = toml::to_string(&Whole { control: &file }).expect("what was read can be written");
    let again = ControlFile::parse(&text, "again.toml").expect("its own text");
    assert_eq!(again, file);
    let guardrails = &settings.rules.guardrails;
    for second in [0, 345_678, 1_767_225_599] {
        let at = Timestamp::from_second(second).expect("within the years of timestamps");
        let closed = guardrails.closed(at);
        assert_eq!(closed.is_some(), guardrails.closed(at).is_some());
    }
    if let LeaseSettings::File(path) = &settings.lease {
        assert!(!path.as_os_str().is_empty(), "a lease on no file");
    }
}

/// A file of tokens behind a header `Authorization` on the first line.
pub(crate) fn tokens(data: &[u8]) {
    let (header, file) = match data.iter().position(|byte| *byte == b'\n') {
        Some(at) => (&data[..at], &data[at + 1..]),
        None => (data, &data[..0]),
    };
    if let Ok(name) = std::str::from_utf8(header) {
        if let Ok(client) = name.parse::<ClientName>() {
            assert_eq!(client.as_str(), name);
        }
        if let Ok(role) = name.parse::<Role>() {
            assert_eq!(role.name(), name);
        }
    }
    let Ok(text) = std::str::from_utf8(file) else {
        return;
    };
    let tokens = match Tokens::parse(Path::new("tokens"), text) {
        Ok(tokens) => tokens,
        Err(error) => return told(&error.to_string()),
    };
    assert!(!tokens.is_empty());
    let folder = scratch();
    let path = folder.path().join("tokens");
    std::fs::write(&path, text).expect("a scratch file");
    let authenticator = Authenticator::Known {
        tokens: Some(TokenFile::open(&path).expect("it was read before").into()),
        certificates: Vec::new(),
    };
    match authenticator.identify(
        [header].into_iter(),
        &Peer::unknown(),
        Timestamp::UNIX_EPOCH,
    ) {
        Ok(client) => assert!(client.name().is_some() && client.role.is_some()),
        Err(error) => told(&error.to_string()),
    }
}

/// A certificate in DER, and a name of one in a configuration.
pub(crate) fn certificate(data: &[u8]) {
    for name in CertificateNames::of(data).iter() {
        let text = name.to_string();
        // An empty name makes nobody known.
        if let Ok(again) = text.parse::<CertificateName>() {
            assert_eq!(&again, name);
        }
    }
    if let Ok(text) = std::str::from_utf8(data) {
        match text.parse::<CertificateName>() {
            Ok(name) => assert_eq!(name.to_string().parse().as_ref(), Ok(&name)),
            Err(problem) => assert!(!problem.is_empty()),
        }
    }
}
