//! The sections of the configuration, as types that accept only what makes sense.

use std::fmt;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use serde::de::Error as _;
use serde::{Deserialize, Deserializer};
use tracing_subscriber::EnvFilter;
use twin::World;
use twin::decision_log::LogError;
use url::Url;

use super::{ConfigError, Settings};
use crate::auth::{CertificateName, ClientName, Role};
use crate::log::{DecisionLog, Durability, Options};
use crate::{range, trust};

/// The whole configuration.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// How the service listens, and its bounds.
    pub server: Server,
    /// What decides.
    pub policy: Policy,
    /// Encryption.
    pub tls: Tls,
    /// Who is asked who they are.
    pub auth: Auth,
    /// Requests per second.
    pub rate_limits: RateLimits,
    /// Sizes of bodies and states, by role.
    pub client_limits: ClientLimits,
    /// The trail of calls that change something.
    pub audit: Audit,
    /// The log of decisions.
    pub log: Log,
    /// Models to choose from, explanations, and search in a model's place.
    pub policies: Policies,
    /// Logs and traces.
    pub telemetry: Telemetry,
    /// The control loop's keys; [`Settings::free_section`] reads them as their owner's type.
    pub control: toml::Table,
}

/// How the service listens, and its bounds.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Server {
    /// Address and port.
    pub listen: SocketAddr,
    /// Threads; none: one a core.
    #[serde(default, deserialize_with = "some_whole::<_, _, 1, 1024>")]
    pub threads: Option<u16>,
    /// Requests for decisions in flight.
    #[serde(deserialize_with = "whole::<_, _, 1, 1_000_000>")]
    pub max_in_flight: usize,
    /// Bytes of a body.
    #[serde(deserialize_with = "whole::<_, _, 1, 4_294_967_296>")]
    pub max_body_bytes: usize,
    /// Connections.
    #[serde(deserialize_with = "whole::<_, _, 1, 1_000_000>")]
    pub max_connections: usize,
    /// The time for the head of a request.
    #[serde(rename = "header_timeout_s", deserialize_with = "time")]
    pub header_timeout: Duration,
    /// The time for a body.
    #[serde(rename = "body_timeout_s", deserialize_with = "time")]
    pub body_timeout: Duration,
    /// The time for requests to end.
    #[serde(rename = "shutdown_limit_s", deserialize_with = "time")]
    pub shutdown_limit: Duration,
    /// Whether anybody may come from anywhere.
    pub insecure: bool,
}

/// What decides.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Policy {
    /// Folder of a model.
    pub model: Option<PathBuf>,
    /// One of the twin's own policies.
    pub policy: Option<String>,
    /// World; none: the model's.
    pub world: Option<String>,
    /// Seed of random choices.
    pub seed: u64,
}

/// Encryption.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Tls {
    /// Certificate chain; none: plain HTTP.
    pub certificate: Option<PathBuf>,
    /// Its private key.
    pub key: Option<PathBuf>,
    /// Authorities that sign clients' certificates.
    pub client_ca: Option<PathBuf>,
    /// Whether clients must have one.
    pub client_certificate: CertificateRule,
    /// The oldest version.
    pub min_version: TlsVersion,
    /// The time for a handshake.
    #[serde(rename = "handshake_timeout_s", deserialize_with = "time")]
    pub handshake_timeout: Duration,
    /// The time between looks at the files.
    #[serde(rename = "reload_s", deserialize_with = "time")]
    pub reload: Duration,
    /// Clients known by their certificates.
    #[serde(default)]
    pub clients: Vec<KnownClient>,
}

/// Whether clients must have a certificate.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum CertificateRule {
    /// No connection without one.
    Required,
    /// A token does as well.
    Optional,
}

/// A version of TLS.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
pub enum TlsVersion {
    /// TLS 1.2.
    #[serde(rename = "1.2")]
    V1_2,
    /// TLS 1.3.
    #[serde(rename = "1.3")]
    V1_3,
}

/// A client known by its certificate.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct KnownClient {
    /// A name of the certificate.
    #[serde(rename = "match")]
    pub certificate: CertificateName,
    /// What the client is called.
    pub name: ClientName,
    /// What it may do.
    pub role: Role,
}

/// Who is asked who they are.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Auth {
    /// Whether clients authenticate.
    pub mode: AuthMode,
    /// File of bearer tokens.
    pub tokens_file: Option<PathBuf>,
    /// The time between looks at the file.
    #[serde(rename = "reload_s", deserialize_with = "time")]
    pub reload: Duration,
    /// Who may ask how the service is.
    pub health: Audience,
    /// Who may read the metrics.
    pub metrics: Audience,
    /// Who may read the description of the interface.
    pub openapi: Audience,
}

/// Whether clients authenticate.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum AuthMode {
    /// They do.
    On,
    /// They do not.
    Off,
    /// They do where there is something to know them by.
    Auto,
}

/// Who may ask.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Audience {
    /// Anyone.
    Anyone,
    /// Clients with the role `read`.
    Read,
}

/// Requests per second, by role.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RateLimits {
    /// Of a client with the role `read`.
    #[serde(default, deserialize_with = "some_rate")]
    pub read_per_s: Option<f64>,
    /// Of a client with the role `decide`.
    #[serde(default, deserialize_with = "some_rate")]
    pub decide_per_s: Option<f64>,
    /// Of a client with the role `operate`.
    #[serde(default, deserialize_with = "some_rate")]
    pub operate_per_s: Option<f64>,
    /// Of an address that needs no role.
    #[serde(default, deserialize_with = "some_rate")]
    pub anyone_per_s: Option<f64>,
    /// Wrong credentials of an address.
    #[serde(deserialize_with = "rate")]
    pub failures_per_s: f64,
    /// The time that may be saved up.
    #[serde(rename = "burst_s", deserialize_with = "time")]
    pub burst: Duration,
    /// Clients that are kept count of.
    #[serde(deserialize_with = "whole::<_, _, 16, 10_000_000>")]
    pub max_clients: usize,
}

/// Sizes of bodies and states, by role.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ClientLimits {
    /// Bytes of a body from the role `read`.
    #[serde(default, deserialize_with = "some_whole::<_, _, 1, 4_294_967_296>")]
    pub read_body_bytes: Option<usize>,
    /// Bytes of a body from the role `decide`.
    #[serde(default, deserialize_with = "some_whole::<_, _, 1, 4_294_967_296>")]
    pub decide_body_bytes: Option<usize>,
    /// Bytes of a body from the role `operate`.
    #[serde(default, deserialize_with = "some_whole::<_, _, 1, 4_294_967_296>")]
    pub operate_body_bytes: Option<usize>,
    /// Hosts of a state from the role `decide`.
    #[serde(deserialize_with = "whole::<_, _, 1, 100_000>")]
    pub decide_hosts: usize,
    /// Requests of a state from the role `decide`.
    #[serde(deserialize_with = "whole::<_, _, 1, 1_000_000>")]
    pub decide_requests: usize,
}

/// The trail of calls that change something.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Audit {
    /// The file; none: no trail.
    pub file: Option<PathBuf>,
    /// Whether a line is on the disk before the answer goes out.
    pub sync: bool,
}

/// The log of decisions.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Log {
    /// The folder; none: no log.
    pub folder: Option<PathBuf>,
    /// What a written decision survives.
    pub durability: Durability,
    /// The time between two times that it is forced to the disk and tidied.
    #[serde(rename = "sync_s", deserialize_with = "time")]
    pub sync: Duration,
    /// Bytes of a segment.
    #[serde(deserialize_with = "whole::<_, _, 4_096, 1_073_741_824>")]
    pub segment_bytes: u64,
    /// Age of a segment.
    #[serde(rename = "segment_age_s", deserialize_with = "time")]
    pub segment_age: Duration,
    /// Bytes of all segments.
    #[serde(deserialize_with = "whole::<_, _, 4_096, 1_125_899_906_842_624>")]
    pub retain_bytes: u64,
    /// Age of the oldest segment.
    #[serde(rename = "retain_age_s", deserialize_with = "time")]
    pub retain_age: Duration,
}

impl Log {
    /// Opens the log, if one is to be kept.
    ///
    /// # Errors
    ///
    /// As [`DecisionLog::open`].
    pub fn open(&self, world: &World) -> Result<DecisionLog, LogError> {
        let Some(folder) = &self.folder else {
            return Ok(DecisionLog::default());
        };
        let mut options = Options::new(folder);
        options.durability = self.durability;
        options.sync_interval = self.sync;
        options.settings.segment_bytes = self.segment_bytes;
        options.settings.segment_age = self.segment_age;
        options.settings.retain_bytes = self.retain_bytes;
        options.settings.retain_age = self.retain_age;
        DecisionLog::open(&options, world)
    }
}

/// Models to choose from, explanations, and search in a model's place.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Policies {
    /// Folder under which models may be loaded.
    pub folder: Option<PathBuf>,
    /// File of the choice of policies.
    pub state_file: Option<PathBuf>,
    /// Bytes of decisions to explain.
    #[serde(deserialize_with = "whole::<_, _, 0, 1_099_511_627_776>")]
    pub recent_bytes: usize,
    /// Share of features out of range from which on search decides; above 1 it never does.
    #[serde(deserialize_with = "threshold")]
    pub search_threshold: f64,
    /// The time of a search.
    #[serde(rename = "search_time_s", deserialize_with = "time")]
    pub search_time: Duration,
}

impl Policies {
    /// What the service makes of it.
    #[must_use]
    pub fn options(&self) -> trust::Options {
        let search = range::Search {
            threshold: self.search_threshold,
            time: self.search_time,
        };
        trust::Options {
            models: self.folder.clone(),
            state: self.state_file.clone(),
            recent_bytes: self.recent_bytes,
            search: (self.search_threshold <= 1.0).then_some(search),
        }
    }
}

/// Logs and traces.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Telemetry {
    /// How logs are written.
    pub log_format: LogFormat,
    /// What is logged.
    pub log: String,
    /// Where traces go; none: nowhere.
    pub otlp_endpoint: Option<Endpoint>,
    /// The share of requests that are traced.
    #[serde(deserialize_with = "share")]
    pub trace_share: f64,
}

/// How logs are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LogFormat {
    /// Lines for people.
    Text,
    /// Lines of JSON.
    Json,
}

/// An address of HTTP that holds no secret.
#[derive(Clone, PartialEq, Eq)]
pub struct Endpoint(Url);

impl Endpoint {
    /// The address.
    #[must_use]
    pub fn url(&self) -> &Url {
        &self.0
    }
}

impl fmt::Debug for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0.as_str())
    }
}

impl<'de> Deserialize<'de> for Endpoint {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        // What is refused may be a secret: it is not repeated.
        let text = String::deserialize(deserializer)?;
        let url = Url::parse(&text).map_err(D::Error::custom)?;
        if !matches!(url.scheme(), "http" | "https") {
            return Err(D::Error::custom(
                "the address must begin with http:// or https://",
            ));
        }
        if !url.username().is_empty() || url.password().is_some() || url.query().is_some() {
            let problem = "the address must have no user, password or query: no secret stands in \
                           the configuration";
            return Err(D::Error::custom(problem));
        }
        Ok(Self(url))
    }
}

impl Config {
    /// What single values cannot tell.
    pub(super) fn check(&self, settings: &Settings) -> Result<(), ConfigError> {
        if self.tls.certificate.is_some() != self.tls.key.is_some() {
            let (set, missing) = match self.tls.key {
                None => ("tls.certificate", "tls.key"),
                Some(_) => ("tls.key", "tls.certificate"),
            };
            return Err(
                settings.invalid(set, format!("is of no use without {missing}: set it too"))
            );
        }
        if self.tls.client_ca.is_some() && self.tls.certificate.is_none() {
            let problem =
                "clients have certificates only over TLS: set tls.certificate and tls.key";
            return Err(settings.invalid("tls.client_ca", problem));
        }
        if !self.tls.clients.is_empty() && self.tls.client_ca.is_none() {
            let problem = "no client can show a certificate: set tls.client_ca";
            return Err(settings.invalid("tls.clients", problem));
        }
        for (i, client) in self.tls.clients.iter().enumerate() {
            let is_same = |other: &KnownClient| other.certificate == client.certificate;
            if self.tls.clients[..i].iter().any(is_same) {
                let problem = "the same name stands above";
                return Err(settings.invalid(&format!("tls.clients[{i}].match"), problem));
            }
        }
        if self.log.retain_bytes < self.log.segment_bytes {
            let problem = format!(
                "must be at least log.segment_bytes, {}",
                self.log.segment_bytes
            );
            return Err(settings.invalid("log.retain_bytes", problem));
        }
        if let Err(error) = EnvFilter::try_new(&self.telemetry.log) {
            return Err(settings.invalid("telemetry.log", error.to_string()));
        }
        self.check_auth(settings)
    }

    fn check_auth(&self, settings: &Settings) -> Result<(), ConfigError> {
        let is_known_by = self.auth.tokens_file.is_some() || self.tls.client_ca.is_some();
        if self.auth.mode == AuthMode::On && !is_known_by {
            let problem = "nobody could: set auth.tokens_file or tls.client_ca";
            return Err(settings.invalid("auth.mode", problem));
        }
        if self.auth.mode == AuthMode::Off && self.auth.tokens_file.is_some() {
            let problem = "auth.mode is \"off\", so that nobody would be asked for a token: leave \
                           out one of the two";
            return Err(settings.invalid("auth.tokens_file", problem));
        }
        Ok(())
    }

    /// Whether clients authenticate.
    #[must_use]
    pub fn authenticates(&self) -> bool {
        match self.auth.mode {
            AuthMode::On => true,
            AuthMode::Off => false,
            AuthMode::Auto => self.auth.tokens_file.is_some() || self.tls.client_ca.is_some(),
        }
    }

    /// Refuses to let anybody in from elsewhere, unless that is wanted.
    ///
    /// # Errors
    ///
    /// If nobody has to authenticate and the address is not a loopback one.
    pub fn check_exposure(&self, settings: &Settings) -> Result<(), ConfigError> {
        let listen = self.server.listen;
        if self.authenticates() || listen.ip().to_canonical().is_loopback() || self.server.insecure
        {
            return Ok(());
        }
        let problem = format!(
            "{listen} can be reached from elsewhere and nobody has to authenticate: set \
             auth.tokens_file or tls.client_ca, listen on 127.0.0.1, or give --insecure"
        );
        Err(settings.invalid("server.listen", problem))
    }
}

/// A whole number from `MIN` to `MAX`.
fn whole<'de, D, T, const MIN: u64, const MAX: u64>(deserializer: D) -> Result<T, D::Error>
where
    D: Deserializer<'de>,
    T: TryFrom<u64>,
{
    let number = i64::deserialize(deserializer)?;
    u64::try_from(number)
        .ok()
        .filter(|number| (MIN..=MAX).contains(number))
        .and_then(|number| T::try_from(number).ok())
        .ok_or_else(|| D::Error::custom(format!("must be from {MIN} to {MAX}, not {number}")))
}

fn some_whole<'de, D, T, const MIN: u64, const MAX: u64>(
    deserializer: D,
) -> Result<Option<T>, D::Error>
where
    D: Deserializer<'de>,
    T: TryFrom<u64>,
{
    whole::<D, T, MIN, MAX>(deserializer).map(Some)
}

/// A number from `min` to `max`.
fn number<'de, D: Deserializer<'de>>(deserializer: D, min: f64, max: f64) -> Result<f64, D::Error> {
    let number = f64::deserialize(deserializer)?;
    if (min..=max).contains(&number) {
        Ok(number)
    } else {
        let problem = format!("must be from {min} to {max}, not {number}");
        Err(D::Error::custom(problem))
    }
}

/// A time from a millisecond to ten years, in seconds.
fn time<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Duration, D::Error> {
    number(deserializer, 1e-3, 315_360_000.0).map(Duration::from_secs_f64)
}

/// A rate from one a minute or so to a million a second.
fn rate<'de, D: Deserializer<'de>>(deserializer: D) -> Result<f64, D::Error> {
    number(deserializer, 0.01, 1e6)
}

fn some_rate<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<f64>, D::Error> {
    rate(deserializer).map(Some)
}

/// A share from none to all.
fn share<'de, D: Deserializer<'de>>(deserializer: D) -> Result<f64, D::Error> {
    number(deserializer, 0.0, 1.0)
}

/// A share, or more than all for what never happens.
fn threshold<'de, D: Deserializer<'de>>(deserializer: D) -> Result<f64, D::Error> {
    number(deserializer, 1e-6, 1e6)
}
