//! The section `[control]` of a configuration file.
//!
//! ```toml
//! [control]
//! subscription = "11111111-1111-1111-1111-111111111111"
//! resource_group = "fleet"
//! interval_s = 60
//!
//! [control.guardrails]
//! never = ["db-*"]
//! minimum_on = 2
//! budget_usd_per_hour = 4.0
//! ```

use std::path::{Path, PathBuf};
use std::time::Duration;

use jiff::SignedDuration;
use serde::{Deserialize, Serialize};
use thiserror::Error;
use url::Url;

use super::controller::Rules;
use super::guard::Guardrails;
use super::mapping::{Rule, SetRule};
use super::pattern::{Pattern, TagPattern};
use super::standing::Timing;
use super::window::Window;
use crate::azure::endpoint::PUBLIC_ENDPOINT;
use crate::azure::{CredentialKind, Endpoint, ResourceId, Scope};

/// The tag that names a VM's host unless another is configured.
pub const HOST_TAG: &str = "codesign-host";
/// The most bytes of a configuration file.
const MAX_FILE_BYTES: u64 = 1 << 20;
/// The longest span that can be configured, in s.
const MAX_SPAN_S: f64 = 30.0 * 86_400.0;
/// The most entries of a list.
const MAX_ENTRIES: usize = 1_000;

/// What is wrong with the configuration, and where.
#[derive(Debug, Error)]
pub enum SettingsError {
    /// The file cannot be read.
    #[error("{}: {source}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// The reason.
        source: std::io::Error,
    },
    /// A field is wrong.
    #[error("{origin}: {field}: {problem}")]
    Field {
        /// The file, or the command line.
        origin: String,
        /// Path of the field.
        field: String,
        /// What is wrong and what would be right.
        problem: String,
    },
}

/// The section `[control]`, as it is written.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct ControlFile {
    /// The subscription.
    pub subscription: Option<String>,
    /// The resource group whose VMs are the fleet.
    pub resource_group: Option<String>,
    /// The tag that VMs of the fleet carry, as `name` or `name=value`; in place of a group.
    pub tag: Option<String>,
    /// How VMs are matched with hosts: `name`, `tag` (or `tag:NAME`) or `size`.
    #[serde(rename = "match")]
    pub matching: Option<String>,
    /// Length of an interval, in s.
    pub interval_s: Option<f64>,
    /// The action log.
    pub action_log: Option<PathBuf>,
    /// The name of this copy; host name and process number if it is not there.
    pub holder: Option<String>,
    /// Whether metrics are read.
    pub metrics: Option<bool>,
    /// How long a reading may be older than what was done, in s.
    pub grace_s: Option<f64>,
    /// How long an operation may take, in s.
    pub operation_limit_s: Option<f64>,
    /// How long looking at the fleet may take, in s.
    pub observe_limit_s: Option<f64>,
    /// Actions that are submitted at once.
    pub in_flight: Option<usize>,
    /// Where the state of the applications can be read.
    pub state_url: Option<String>,
    /// The decision service that is asked in place of a policy here.
    pub service_url: Option<String>,
    /// A file with the bearer token for both.
    pub service_token_file: Option<PathBuf>,
    /// Certificate authorities in PEM that are trusted for both in place of the system's.
    pub service_ca_file: Option<PathBuf>,
    /// The cloud.
    pub azure: AzureFile,
    /// The guardrails.
    pub guardrails: GuardrailsFile,
    /// The lease.
    pub lease: LeaseFile,
    /// Scale sets that are hosts.
    pub scale_sets: Vec<ScaleSetFile>,
}

/// The section `[control.azure]`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct AzureFile {
    /// Where Resource Manager is.
    pub endpoint: Option<String>,
    /// Where tokens come from.
    pub authority: Option<String>,
    /// What tokens are for.
    pub audience: Option<String>,
    /// Certificate authorities in PEM that are trusted in place of the system's.
    pub ca_file: Option<PathBuf>,
    /// Kinds of credentials, in the order in which they are tried.
    pub credentials: Option<Vec<CredentialKind>>,
}

/// The section `[control.guardrails]`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct GuardrailsFile {
    /// Names of VMs that are never touched; `*` and `?` stand for characters.
    pub never: Vec<String>,
    /// Tags of VMs that are never touched: `name` or `name=pattern`.
    pub never_tags: Vec<String>,
    /// The least number of hosts that are on.
    pub minimum_on: Option<usize>,
    /// The most hosts that may be on.
    pub maximum_on: Option<usize>,
    /// The most VMs that are acted upon in an interval.
    pub maximum_actions: Option<usize>,
    /// How long a VM is left alone after it was acted upon, in s.
    pub cool_down_s: Option<f64>,
    /// How long a VM is left alone after an action on it failed, in s; doubles with each failure.
    pub backoff_s: Option<f64>,
    /// What the fleet may cost, in USD per hour.
    pub budget_usd_per_hour: Option<f64>,
    /// When actions are allowed, in UTC; always if there is none.
    pub act_only: Vec<WindowFile>,
    /// When no actions are allowed, in UTC.
    pub act_never: Vec<WindowFile>,
    /// The most that predicted and measured utilization may differ, between 0 and 1.
    pub maximum_drift: Option<f64>,
    /// The oldest that the newest metric may be, in s.
    pub maximum_metric_age_s: Option<f64>,
}

/// A window of time.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct WindowFile {
    /// Days, as `mon`, `mon-fri` or `daily`.
    pub days: Vec<String>,
    /// Begin, as `22:00`.
    pub from: String,
    /// End, as `06:00`.
    pub to: String,
}

/// The section `[control.lease]`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct LeaseFile {
    /// The kind.
    pub kind: LeaseKind,
    /// The file of a file lease.
    pub path: Option<PathBuf>,
    /// How long a lease in tags holds without renewal, in s.
    pub time_to_live_s: Option<f64>,
    /// How long a write of tags may take to be seen, in s.
    pub settling_s: Option<f64>,
}

/// Kinds of leases.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum LeaseKind {
    /// A lock on a file.
    #[default]
    File,
    /// Tags of the resource group.
    Tags,
    /// None: the operator sees to it that there is one copy.
    None,
}

/// An entry of `[[control.scale_sets]]`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ScaleSetFile {
    /// Its name.
    pub name: String,
    /// Its resource group; the fleet's if it is not there.
    #[serde(default)]
    pub resource_group: Option<String>,
    /// The size of the hosts that are its VMs.
    pub size: String,
    /// The site of these hosts; any if it is not there.
    #[serde(default)]
    pub site: Option<String>,
}

/// What the loop is configured to do.
#[derive(Clone, Debug, PartialEq)]
pub struct Settings {
    /// The cloud.
    pub endpoint: Endpoint,
    /// Kinds of credentials.
    pub credentials: Vec<CredentialKind>,
    /// The subscription.
    pub subscription: String,
    /// The VMs.
    pub scope: Scope,
    /// How the loop works.
    pub rules: Rules,
    /// The action log.
    pub action_log: PathBuf,
    /// The name of this copy.
    pub holder: Option<String>,
    /// Whether metrics are read.
    pub metrics: bool,
    /// How long looking at the fleet may take.
    pub observe_limit: Duration,
    /// Where the state of the applications can be read.
    pub state_url: Option<Url>,
    /// The decision service.
    pub service_url: Option<Url>,
    /// A file with the bearer token for both.
    pub service_token_file: Option<PathBuf>,
    /// Certificate authorities that are trusted for both.
    pub service_ca_file: Option<PathBuf>,
    /// The lease.
    pub lease: LeaseSettings,
}

/// Which lease.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LeaseSettings {
    /// A lock on a file.
    File(PathBuf),
    /// Tags of the resource group.
    Tags {
        /// The resource group.
        group: String,
        /// How long it holds without renewal.
        time_to_live: Duration,
        /// How long a write may take to be seen.
        settling: Duration,
    },
    /// None.
    None,
}

impl ControlFile {
    /// Reads the section `[control]` of the file at `path`; other sections are others'.
    ///
    /// # Errors
    ///
    /// If it cannot be read or is not of the schema; the error names the field.
    pub fn read(path: &Path) -> Result<Self, SettingsError> {
        use std::io::Read;
        let read = |source| SettingsError::Read {
            path: path.into(),
            source,
        };
        let file = std::fs::File::open(path).map_err(read)?;
        let mut text = String::new();
        file.take(MAX_FILE_BYTES)
            .read_to_string(&mut text)
            .map_err(read)?;
        Self::parse(&text, &path.display().to_string())
    }

    /// Reads the section `[control]` of `text`, which came from `origin`.
    ///
    /// # Errors
    ///
    /// If it is not of the schema; the error names the field.
    pub fn parse(text: &str, origin: &str) -> Result<Self, SettingsError> {
        let wrong = |field: String, problem: String| SettingsError::Field {
            origin: origin.into(),
            field,
            problem: problem.trim().to_owned(),
        };
        let mut table: toml::Table = text
            .parse()
            .map_err(|error: toml::de::Error| wrong("file".into(), error.to_string()))?;
        let Some(section) = table.remove("control") else {
            return Ok(Self::default());
        };
        serde_path_to_error::deserialize(section).map_err(|error| {
            let field = match error.path().to_string() {
                path if path == "." => "control".to_owned(),
                path => format!("control.{path}"),
            };
            wrong(field, error.inner().to_string())
        })
    }

    /// Checks the section, which came from `origin`. `interval_s` is that of the world, for where
    /// the section has none.
    ///
    /// # Errors
    ///
    /// The first field that is wrong.
    pub fn check(
        self,
        origin: &str,
        interval_s: f64,
        apply: bool,
    ) -> Result<Settings, SettingsError> {
        let check = Check { origin };
        let scope = check.scope(&self)?;
        let Some(subscription) = self.subscription.clone() else {
            let problem = "is needed: set it here or with --subscription";
            return Err(check.wrong("subscription", problem));
        };
        let mut endpoint = Endpoint::new(self.azure.endpoint.as_deref().unwrap_or(PUBLIC_ENDPOINT))
            .map_err(|error| check.wrong("azure.endpoint", error))?;
        endpoint.authority.clone_from(&self.azure.authority);
        endpoint.ca_file.clone_from(&self.azure.ca_file);
        if let Some(audience) = &self.azure.audience {
            endpoint.audience.clone_from(audience);
        }
        let interval = check.span("interval_s", self.interval_s, interval_s, 0.001)?;
        let lease = check.lease(&self.lease, &scope, &self.resource_group)?;
        let observe = check.span("observe_limit_s", self.observe_limit_s, 60.0, 0.1)?;
        let rules = Rules {
            matching: check.matching(self.matching.as_deref())?,
            sets: check.sets(
                &self.scale_sets,
                &subscription,
                self.resource_group.as_deref(),
            )?,
            guardrails: check.guardrails(&self.guardrails)?,
            timing: Timing {
                grace: check.span("grace_s", self.grace_s, 120.0, 0.0)?,
                operation: check.span("operation_limit_s", self.operation_limit_s, 900.0, 0.0)?,
            },
            interval,
            in_flight: check.at_least_one("in_flight", self.in_flight.unwrap_or(8))?,
            apply,
        };
        Ok(Settings {
            endpoint,
            credentials: self
                .azure
                .credentials
                .unwrap_or_else(|| CredentialKind::ALL.to_vec()),
            subscription,
            scope,
            rules,
            action_log: self.action_log.unwrap_or_else(|| "actions.jsonl".into()),
            holder: self.holder,
            metrics: self.metrics.unwrap_or(true),
            observe_limit: unsigned(observe),
            state_url: check.url("state_url", self.state_url.as_deref())?,
            service_url: check.url("service_url", self.service_url.as_deref())?,
            service_token_file: self.service_token_file,
            service_ca_file: self.service_ca_file,
            lease,
        })
    }
}

/// Checks values that came from `origin`.
struct Check<'a> {
    origin: &'a str,
}

impl Check<'_> {
    fn wrong(&self, field: &str, problem: impl ToString) -> SettingsError {
        SettingsError::Field {
            origin: self.origin.into(),
            field: format!("control.{field}"),
            problem: problem.to_string(),
        }
    }

    fn span(
        &self,
        field: &str,
        value_s: Option<f64>,
        default_s: f64,
        least_s: f64,
    ) -> Result<SignedDuration, SettingsError> {
        let value_s = value_s.unwrap_or(default_s);
        if !(least_s..=MAX_SPAN_S).contains(&value_s) {
            let problem = format!("must lie between {least_s} and {MAX_SPAN_S}, found {value_s}");
            return Err(self.wrong(field, problem));
        }
        Ok(SignedDuration::from_secs_f64(value_s))
    }

    fn url(&self, field: &str, text: Option<&str>) -> Result<Option<Url>, SettingsError> {
        let Some(text) = text else { return Ok(None) };
        match Url::parse(text) {
            Ok(url) if ["http", "https"].contains(&url.scheme()) && url.has_host() => Ok(Some(url)),
            Ok(_) => Err(self.wrong(field, "must begin with http:// or https://")),
            Err(error) => Err(self.wrong(field, error)),
        }
    }

    fn at_least_one(&self, field: &str, value: usize) -> Result<usize, SettingsError> {
        if value == 0 || value > MAX_ENTRIES {
            let problem = format!("must lie between 1 and {MAX_ENTRIES}, found {value}");
            return Err(self.wrong(field, problem));
        }
        Ok(value)
    }

    fn scope(&self, file: &ControlFile) -> Result<Scope, SettingsError> {
        match (&file.resource_group, &file.tag) {
            (Some(group), None) => Ok(Scope::Group {
                group: group.clone(),
            }),
            (group, Some(tag)) => {
                if group.is_some() && file.scale_sets.is_empty() {
                    let problem = "name a resource group or a tag, not both";
                    return Err(self.wrong("tag", problem));
                }
                let (name, value) = match tag.split_once('=') {
                    None => (tag.as_str(), None),
                    Some((name, value)) => (name, Some(value.to_owned())),
                };
                if name.is_empty() {
                    return Err(self.wrong("tag", "a tag has a name"));
                }
                let name = name.to_owned();
                Ok(Scope::Tag { name, value })
            }
            (None, None) => {
                let problem = "is needed, or a tag: set it here or with --resource-group";
                Err(self.wrong("resource_group", problem))
            }
        }
    }

    fn matching(&self, text: Option<&str>) -> Result<Rule, SettingsError> {
        match text {
            None | Some("name") => Ok(Rule::Name),
            Some("tag") => Ok(Rule::Tag(HOST_TAG.into())),
            Some("size") => Ok(Rule::Size),
            Some(other) => match other.strip_prefix("tag:").filter(|name| !name.is_empty()) {
                Some(name) => Ok(Rule::Tag(name.into())),
                None => Err(self.wrong("match", "is one of name, tag, tag:NAME, size")),
            },
        }
    }

    fn sets(
        &self,
        files: &[ScaleSetFile],
        subscription: &str,
        group: Option<&str>,
    ) -> Result<Vec<SetRule>, SettingsError> {
        let of = |(i, file): (usize, &ScaleSetFile)| {
            let field = |name: &str| format!("scale_sets[{i}].{name}");
            let group = file.resource_group.as_deref().or(group);
            let Some(group) = group else {
                return Err(self.wrong(&field("resource_group"), "is needed"));
            };
            let kind = "virtualMachineScaleSets";
            let id = ResourceId::compute(subscription, group, kind, &file.name)
                .map_err(|problem| self.wrong(&field("name"), problem))?;
            Ok(SetRule {
                id,
                size: file.size.clone(),
                site: file.site.clone(),
            })
        };
        files.iter().enumerate().map(of).collect()
    }

    fn guardrails(&self, file: &GuardrailsFile) -> Result<Guardrails, SettingsError> {
        let defaults = Guardrails::default();
        let never = self.list("never", &file.never, |text| Pattern::parse(text))?;
        let never_tags = self.list("never_tags", &file.never_tags, |t| TagPattern::parse(t))?;
        let window = |w: &WindowFile| Window::parse(&w.days, &w.from, &w.to);
        let minimum_on = file.minimum_on.unwrap_or(0);
        if file.maximum_on.is_some_and(|maximum| maximum < minimum_on) {
            let problem = format!("must not be below minimum_on, which is {minimum_on}");
            return Err(self.wrong("guardrails.maximum_on", problem));
        }
        let positive = |field: &str, value: Option<f64>, most: f64| match value {
            Some(value) if !(0.0..=most).contains(&value) => {
                let problem = format!("must lie between 0 and {most}, found {value}");
                Err(self.wrong(&format!("guardrails.{field}"), problem))
            }
            value => Ok(value),
        };
        Ok(Guardrails {
            never,
            never_tags,
            minimum_on,
            maximum_on: file.maximum_on,
            maximum_actions: file.maximum_actions.unwrap_or(defaults.maximum_actions),
            cool_down: self.span("guardrails.cool_down_s", file.cool_down_s, 0.0, 0.0)?,
            backoff: self.span("guardrails.backoff_s", file.backoff_s, 60.0, 0.0)?,
            budget_usd_per_hour: positive("budget_usd_per_hour", file.budget_usd_per_hour, 1e9)?,
            act_only: self.list("act_only", &file.act_only, window)?,
            act_never: self.list("act_never", &file.act_never, window)?,
            maximum_drift: positive("maximum_drift", file.maximum_drift, 1.0)?,
            maximum_metric_age_s: positive(
                "maximum_metric_age_s",
                file.maximum_metric_age_s,
                MAX_SPAN_S,
            )?,
        })
    }

    fn list<T, U>(
        &self,
        field: &str,
        list: &[T],
        read: impl Fn(&T) -> Result<U, String>,
    ) -> Result<Vec<U>, SettingsError> {
        if list.len() > MAX_ENTRIES {
            let problem = format!("has at most {MAX_ENTRIES} entries, found {}", list.len());
            return Err(self.wrong(&format!("guardrails.{field}"), problem));
        }
        let entry = |(i, item): (usize, &T)| {
            read(item).map_err(|problem| self.wrong(&format!("guardrails.{field}[{i}]"), problem))
        };
        list.iter().enumerate().map(entry).collect()
    }

    fn lease(
        &self,
        file: &LeaseFile,
        scope: &Scope,
        group: &Option<String>,
    ) -> Result<LeaseSettings, SettingsError> {
        match file.kind {
            LeaseKind::None => Ok(LeaseSettings::None),
            LeaseKind::File => Ok(LeaseSettings::File(
                file.path.clone().unwrap_or_else(|| "control.lock".into()),
            )),
            LeaseKind::Tags => {
                let of_scope = match scope {
                    Scope::Group { group } => Some(group.clone()),
                    Scope::Tag { .. } => group.clone(),
                };
                let Some(group) = of_scope else {
                    let problem = "needs a resource group, whose tags hold the lease";
                    return Err(self.wrong("lease.kind", problem));
                };
                let live = self.span("lease.time_to_live_s", file.time_to_live_s, 300.0, 0.1)?;
                let settling = self.span("lease.settling_s", file.settling_s, 10.0, 0.0)?;
                if settling.saturating_mul(2) > live {
                    let problem = "must be at least twice lease.settling_s";
                    return Err(self.wrong("lease.time_to_live_s", problem));
                }
                Ok(LeaseSettings::Tags {
                    group,
                    time_to_live: unsigned(live),
                    settling: unsigned(settling),
                })
            }
        }
    }
}

fn unsigned(span: SignedDuration) -> Duration {
    span.unsigned_abs()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(text: &str) -> Result<Settings, SettingsError> {
        ControlFile::parse(text, "infer.toml")?.check("infer.toml", 30.0, false)
    }

    const LEAST: &str = "[control]\nsubscription = \"s\"\nresource_group = \"g\"\n";

    #[test]
    fn the_least_that_works() {
        let settings = check(LEAST).expect("settings");
        assert_eq!(settings.rules.interval, SignedDuration::from_secs(30));
        assert_eq!(settings.rules.guardrails, Guardrails::default());
        assert!(!settings.rules.apply);
        assert_eq!(settings.endpoint.origin.host(), "management.azure.com");
    }

    #[test]
    fn everything_at_once() {
        let text = r#"
            [serve]
            listen = "0.0.0.0:8080"
            [control]
            subscription = "s"
            resource_group = "g"
            match = "tag:host"
            interval_s = 15
            [control.azure]
            endpoint = "https://localhost:8443"
            credentials = ["environment", "managed-identity"]
            [control.guardrails]
            never = ["db-*"]
            never_tags = ["env=prod*"]
            minimum_on = 1
            maximum_on = 8
            act_only = [{ days = ["mon-fri"], from = "08:00", to = "18:00" }]
            [control.lease]
            kind = "tags"
            [[control.scale_sets]]
            name = "workers"
            size = "Standard_B2s"
        "#;
        let settings = check(text).expect("settings");
        assert_eq!(settings.rules.matching, Rule::Tag("host".into()));
        assert_eq!(settings.rules.sets.len(), 1);
        assert!(matches!(settings.lease, LeaseSettings::Tags { .. }));
    }

    #[test]
    fn the_example_is_read_and_says_all() {
        let text = include_str!("../../examples/control.toml");
        let settings = check(text).expect("settings");
        assert_eq!(settings.rules.guardrails.act_only.len(), 1);
        // Every key is there, be it in a comment.
        let file = serde_json::to_value(ControlFile::default()).expect("JSON");
        for section in [&file, &file["azure"], &file["guardrails"], &file["lease"]] {
            for key in section.as_object().expect("a section").keys() {
                assert!(text.contains(key), "{key} is not in the example");
            }
        }
    }

    #[test]
    fn errors_name_file_and_field() {
        for (text, expected) in [
            (
                "[control]\nresource_group = \"g\"\n",
                "infer.toml: control.subscription: is needed",
            ),
            (
                "[control]\nsubscription = \"s\"\n",
                "infer.toml: control.resource_group: is needed",
            ),
            ("[control.guardrails]\nminimum = 1\n", "control.guardrails"),
            (
                "[control]\ninterval_s = \"x\"\n",
                "control.interval_s: invalid type",
            ),
            ("[control", "infer.toml: file: "),
        ] {
            let error = check(text).expect_err(text).to_string();
            assert!(error.contains(expected), "{error}");
        }
        for (more, expected) in [
            ("interval_s = 0\n", "control.interval_s: must lie between"),
            ("match = \"color\"\n", "control.match: is one of"),
            (
                "[control.azure]\nendpoint = \"http://x\"\n",
                "control.azure.endpoint: ",
            ),
            (
                "[control.guardrails]\nnever = [\"\"]\n",
                "control.guardrails.never[0]: ",
            ),
            (
                "[control.guardrails]\nminimum_on = 3\nmaximum_on = 2\n",
                "control.guardrails.maximum_on: must not be below",
            ),
            (
                "[control.guardrails]\nmaximum_drift = 2.0\n",
                "maximum_drift: must lie between",
            ),
            (
                "[control.guardrails]\nact_only = [{days = [\"x\"], from = \"1\", to = \"2\"}]\n",
                "control.guardrails.act_only[0]: days: \"x\"",
            ),
            (
                "[control.lease]\nkind = \"tags\"\ntime_to_live_s = 10\n",
                "control.lease.time_to_live_s: must be at least twice",
            ),
        ] {
            let error = check(&format!("{LEAST}{more}"))
                .expect_err(more)
                .to_string();
            assert!(error.contains(expected), "{error}");
        }
    }
}
