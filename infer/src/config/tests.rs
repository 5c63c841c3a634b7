use std::collections::BTreeSet;

use serde::Deserialize;

use super::keys::keys;
use super::*;

fn file(text: &str) -> Option<(PathBuf, String)> {
    Some(("infer.toml".into(), text.into()))
}

fn pairs(given: &[(&str, &str)]) -> Vec<(String, String)> {
    given
        .iter()
        .map(|(name, value)| ((*name).into(), (*value).into()))
        .collect()
}

fn gather(
    text: &str,
    variables: &[(&str, &str)],
    flags: &[(&str, &str)],
) -> Result<Settings, ConfigError> {
    Settings::gather(&Sources {
        file: (!text.is_empty()).then(|| file(text)).flatten(),
        variables: pairs(variables),
        flags: pairs(flags),
    })
}

fn config(
    text: &str,
    variables: &[(&str, &str)],
    flags: &[(&str, &str)],
) -> Result<Config, ConfigError> {
    gather(text, variables, flags)?.config()
}

/// Three values of the kind of `key`, as a flag would have them.
fn samples(key: &Key) -> [&'static str; 3] {
    match key.kind {
        Kind::Text | Kind::Tables => ["a", "b", "c"],
        Kind::Whole => ["101", "102", "103"],
        Kind::Number => ["1.5", "2.5", "3.5"],
        // There are two only: each layer differs from the one below it.
        Kind::Truth => ["true", "false", "true"],
    }
}

#[test]
fn a_flag_goes_before_a_variable_before_the_file_before_the_default() {
    for key in keys().iter().filter(|key| key.kind != Kind::Tables) {
        let [in_file, in_variable, in_flag] = samples(key);
        let (section, name) = key.path.split_once('.').expect("a section");
        let value = key.value(in_file).expect("of its kind");
        let text = format!("# A file\n[{section}]\n{name} = {value}\n");
        for combination in 0..8 {
            let has = |bit: u8| combination & bit != 0;
            let variable = [(key.variable.as_str(), in_variable)];
            let flag = [(key.flag.as_str(), in_flag)];
            let settings = gather(
                if has(1) { &text } else { "" },
                if has(2) { &variable } else { &[] },
                if has(4) { &flag } else { &[] },
            )
            .expect("of its kind");
            let (expected, origin) = if has(4) {
                (key.value(in_flag).ok(), format!("--{}", key.flag))
            } else if has(2) {
                (key.value(in_variable).ok(), key.variable.clone())
            } else if has(1) {
                (key.value(in_file).ok(), "infer.toml:3".into())
            } else {
                (key.default.clone(), "default".into())
            };
            let setting = settings.setting(&key.path);
            assert_eq!(setting.map(|s| s.value.clone()), expected, "{}", key.path);
            if let Some(setting) = setting {
                assert_eq!(setting.origin.to_string(), origin, "{}", key.path);
            }
        }
    }
}

#[test]
fn the_defaults_and_the_examples_are_accepted() {
    let defaults = config("", &[], &[]).expect("the defaults");
    assert_eq!(defaults.server.listen.to_string(), "127.0.0.1:8080");
    assert!(!defaults.authenticates());
    let examples: Vec<String> = default_file()
        .lines()
        // Two pairs of keys exclude each other.
        .filter(|line| {
            !["#policy = ", "#model = "]
                .iter()
                .any(|p| line.starts_with(p))
        })
        .map(|line| match line.strip_prefix('#') {
            Some(example) if !example.starts_with(' ') => example.into(),
            _ => line.into(),
        })
        .collect();
    let config = config(&examples.join("\n"), &[], &[]).expect("the examples");
    assert!(config.authenticates());
    assert_eq!(config.tls.clients.len(), 1);
    assert_eq!(config.rate_limits.read_per_s, Some(50.0));
}

/// The fields that a section of `T` has, as its error on an unknown one names them.
fn fields<'de, T: Deserialize<'de> + std::fmt::Debug>() -> BTreeSet<String> {
    let table: toml::Table = toml::from_str("no_such_field = 1").expect("TOML");
    let error = T::deserialize(toml::Value::from(table)).expect_err("unknown");
    let text = error.message().to_owned();
    let fields = text.split_once("expected").expect("it names them").1;
    let names = fields.split('`').skip(1).step_by(2);
    names.map(str::to_owned).collect()
}

#[test]
fn every_field_of_a_section_is_a_documented_key() {
    for (section, fields) in [
        ("server", fields::<Server>()),
        ("policy", fields::<Policy>()),
        ("tls", fields::<Tls>()),
        ("auth", fields::<Auth>()),
        ("rate_limits", fields::<RateLimits>()),
        ("client_limits", fields::<ClientLimits>()),
        ("audit", fields::<Audit>()),
        ("log", fields::<Log>()),
        ("trust", fields::<Trust>()),
        ("shadow", fields::<Shadow>()),
        ("what_if", fields::<WhatIf>()),
        ("telemetry", fields::<Telemetry>()),
    ] {
        let known: BTreeSet<String> = keys()
            .iter()
            .filter(|key| key.section() == section)
            .map(|key| key.path[section.len() + 1..].to_owned())
            .collect();
        assert_eq!(fields, known, "{section}");
    }
    let sections: BTreeSet<String> = super::keys::sections()
        .into_iter()
        .map(Into::into)
        .collect();
    assert_eq!(fields::<Config>(), sections);
}

/// What is told begins with `told`.
fn refused(text: &str, variables: &[(&str, &str)], flags: &[(&str, &str)], told: &str) {
    let error = config(text, variables, flags).expect_err(told).to_string();
    assert!(error.starts_with(told), "{error}");
}

#[test]
fn what_there_is_not_is_told_with_its_place_and_what_is_near() {
    let told = "infer.toml:3: there is no key \"server.threds\", did you mean \"server.threads\"?";
    refused("[server]\n\nthreds = 2\n", &[], &[], told);
    let told = "infer.toml:1: there is no section \"sevrer\", did you mean \"server\"?";
    refused("[sevrer]\nthreads = 2\n", &[], &[], told);
    let told = "infer.toml:1: server is a section: write [server]";
    refused("server = 1\n", &[], &[], told);
    refused("[server]\nthreads = = 2\n", &[], &[], "infer.toml:2: ");
    let told =
        "INFER_LISTNE: there is no variable \"INFER_LISTNE\", did you mean \"INFER_LISTEN\"?";
    refused("", &[("INFER_LISTNE", "127.0.0.1:1")], &[], told);
}

#[test]
fn what_is_no_value_of_its_key_is_told_with_its_place() {
    let told = "infer.toml:2: server.threads: invalid type: string \"two\", expected i64";
    refused("[server]\nthreads = \"two\"\n", &[], &[], told);
    let told = "INFER_THREADS: server.threads: must be from 1 to 1024, not 0";
    refused("", &[("INFER_THREADS", "0")], &[], told);
    let told = "--threads: server.threads: \"many\" is not a whole number";
    refused("", &[], &[("threads", "many")], told);
    let told = "--listen: server.listen: invalid socket address syntax";
    refused("", &[], &[("listen", "nowhere")], told);
    let told = "infer.toml:2: auth.mode: unknown variant `of`, expected one of `on`, `off`, `auto`";
    refused("[auth]\nmode = \"of\"\n", &[], &[], told);
    refused(
        "",
        &[("INFER_LOG", "infer=loud")],
        &[],
        "INFER_LOG: telemetry.log: ",
    );
    let text = "[tls]\ncertificate = \"c\"\nkey = \"k\"\nclient_ca = \"a\"\n[[tls.clients]]\n\
                match = \"host:a\"\nname = \"a\"\nrole = \"read\"\n";
    let told = "infer.toml:5: tls.clients[0].match: there is no kind of name \"host\"";
    refused(text, &[], &[], told);
}

#[test]
fn what_contradicts_itself_is_told_with_a_way_out() {
    let told = "infer.toml:2: tls.key: is of no use without tls.certificate: set it too";
    refused("[tls]\nkey = \"k\"\n", &[], &[], told);
    let told = "infer.toml:2: auth.mode: nobody could: set auth.tokens_file or tls.client_ca";
    refused("[auth]\nmode = \"on\"\n", &[], &[], told);
    let told = "infer.toml:3: auth.tokens_file: auth.mode is \"off\"";
    refused(
        "[auth]\nmode = \"off\"\ntokens_file = \"t\"\n",
        &[],
        &[],
        told,
    );
    let told = "INFER_MODEL and INFER_POLICY: policy.model and policy.policy exclude each other";
    refused(
        "",
        &[("INFER_MODEL", "a"), ("INFER_POLICY", "b")],
        &[],
        told,
    );
}

#[test]
fn of_two_that_exclude_each_other_the_higher_holds() {
    let text = "[policy]\nmodel = \"m\"\n";
    let policy = config(text, &[], &[]).expect("a model").policy;
    assert_eq!((policy.model.is_some(), policy.policy), (true, None));
    let variables = [("INFER_POLICY", "random")];
    let policy = config(text, &variables, &[]).expect("a policy").policy;
    assert_eq!((policy.model, policy.policy), (None, Some("random".into())));
    let flags = [("model", "n")];
    let policy = config(text, &variables, &flags).expect("a model").policy;
    assert_eq!((policy.model, policy.policy), (Some("n".into()), None));
}

#[test]
fn variables_of_others_are_passed_over() {
    let variables = [
        ("INFER_SERVICE_HOST", "10.0.0.1"),
        ("INFER_SERVICE_PORT_HTTP", "80"),
        ("INFER_PORT", "tcp://10.0.0.1:80"),
        ("INFER_PORT_80_TCP_ADDR", "10.0.0.1"),
        ("INFER_API_PORT_80_TCP", "tcp://10.0.0.1:80"),
        ("INFER_CONFIG", "infer.toml"),
        ("INFER_THREADS", ""),
        ("PATH", "/bin"),
    ];
    assert_eq!(
        gather("", &variables, &[]).expect("nothing new"),
        gather("", &[], &[]).expect("the defaults")
    );
}

#[test]
fn nobody_comes_from_elsewhere_unless_that_is_wanted() {
    for (listen, more, is_refused) in [
        ("127.0.0.1:1", "", false),
        ("127.9.9.9:1", "", false),
        ("[::1]:1", "", false),
        ("[::ffff:127.0.0.1]:1", "", false),
        ("0.0.0.0:1", "", true),
        ("[::]:1", "", true),
        ("192.0.2.1:1", "", true),
        ("0.0.0.0:1", "insecure = true", false),
        ("0.0.0.0:1", "[auth]\nmode = \"off\"", true),
        (
            "0.0.0.0:1",
            "insecure = true\n[auth]\nmode = \"off\"",
            false,
        ),
        ("0.0.0.0:1", "[auth]\ntokens_file = \"t\"", false),
    ] {
        let text = format!("[server]\nlisten = \"{listen}\"\n{more}\n");
        let settings = gather(&text, &[], &[]).expect("settings");
        let config = settings.config().expect("a configuration");
        let checked = config.check_exposure(&settings);
        assert_eq!(checked.is_err(), is_refused, "{text}");
        if let Err(error) = checked {
            let error = error.to_string();
            assert!(
                error.starts_with("infer.toml:2: server.listen: "),
                "{error}"
            );
            assert!(error.contains("--insecure"), "{error}");
        }
    }
}

#[test]
fn no_secret_may_stand_in_an_address_and_none_is_repeated() {
    for address in [
        "http://user:hunter2@collector:4318",
        "http://collector:4318/?key=hunter2",
        "ftp://collector/hunter2",
    ] {
        let error = config("", &[("INFER_OTLP_ENDPOINT", address)], &[]).expect_err("a secret");
        let text = format!("{error} {error:?}");
        assert!(text.contains("INFER_OTLP_ENDPOINT"), "{text}");
        assert!(!text.contains("hunter2"), "{text}");
    }
}

#[derive(Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
struct Control {
    interval_s: f64,
}

#[test]
fn a_free_section_is_read_by_its_owner() {
    let settings = gather("[control]\ninterval_s = 60.0\n", &[], &[]).expect("settings");
    let control: Control = settings.free_section("control").expect("it fits");
    assert_eq!(control, Control { interval_s: 60.0 });
    let settings = gather("[control]\n\ninterval_s = \"a\"\n", &[], &[]).expect("settings");
    let error = settings
        .free_section::<Control>("control")
        .expect_err("a text");
    let text = error.to_string();
    assert!(
        text.starts_with("infer.toml:3: control.interval_s: "),
        "{text}"
    );
}

#[test]
fn the_configuration_is_shown_with_its_origins() {
    let text = "[server]\nlisten = \"0.0.0.0:8443\"\n\n[auth]\ntokens_file = \"/etc/infer/tokens\"\n\
                \n[control]\ninterval_s = 60.0\n\n[tls]\ncertificate = \"c\"\nkey = \"k\"\n\
                client_ca = \"a\"\n\n[[tls.clients]]\nmatch = \"dns:a.example.org\"\nname = \"a\"\n\
                role = \"read\"\n";
    let variables = [("INFER_MAX_IN_FLIGHT", "8")];
    let settings = gather(text, &variables, &[("insecure", "true")]).expect("settings");
    let shown = settings.show(Format::Text);
    insta::assert_snapshot!("show_config", shown);
    // What is shown says the same when it is read again.
    let again = gather(&shown, &[], &[]).expect("TOML");
    let values = |s: &Settings| -> Vec<_> {
        s.iter()
            .map(|(k, s)| (k.to_owned(), s.value.clone()))
            .collect()
    };
    assert_eq!(values(&again), values(&settings));
    let list: Vec<serde_json::Value> =
        serde_json::from_str(&settings.show(Format::Json)).expect("a list");
    assert_eq!(list.len(), keys().len() + 1);
    assert_eq!(
        list[0],
        serde_json::json!({
            "key": "server.listen",
            "value": "0.0.0.0:8443",
            "origin": {"kind": "file", "file": "infer.toml", "line": 2},
        })
    );
}
