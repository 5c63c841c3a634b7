//! Values with their origins, gathered from files, the environment and flags.

use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};

use toml::de::{DeTable, DeValue};

use super::ConfigError;
use super::keys::{Key, Kind, is_free, key, keys, sections};

/// The most bytes of a configuration file.
pub(super) const MAX_FILE_BYTES: u64 = 1 << 20;

/// Pairs of keys that say the same in two ways: the higher origin sets the other aside.
const EXCLUSIVE: [[&str; 2]; 1] = [["policy.model", "policy.policy"]];

/// OpenTelemetry's own variable for the collector, and the key that it sets.
pub(super) const COLLECTOR: (&str, &str) =
    ("OTEL_EXPORTER_OTLP_ENDPOINT", "telemetry.otlp_endpoint");

/// Where a value comes from, the lowest first.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Origin {
    /// The program's own default.
    Default,
    /// A line of a file.
    File {
        /// The file.
        path: PathBuf,
        /// The line, from 1.
        line: usize,
    },
    /// An environment variable.
    Variable(String),
    /// A flag.
    Flag(String),
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Default => f.write_str("default"),
            Self::File { path, line } => write!(f, "{}:{line}", path.display()),
            Self::Variable(name) => f.write_str(name),
            Self::Flag(name) => write!(f, "--{name}"),
        }
    }
}

/// A value and where it comes from.
#[derive(Clone, Debug, PartialEq)]
pub struct Setting {
    /// The value.
    pub value: toml::Value,
    /// Where it comes from.
    pub origin: Origin,
}

/// What the configuration is gathered from.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Sources {
    /// A file and its text.
    pub file: Option<(PathBuf, String)>,
    /// Environment variables; those that do not begin with `INFER_` are passed over, but for
    /// OpenTelemetry's own one for the collector.
    pub variables: Vec<(String, String)>,
    /// Flags without their dashes, and their values.
    pub flags: Vec<(String, String)>,
}

/// The value of each key that has one.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Settings {
    values: BTreeMap<String, Setting>,
}

impl Settings {
    /// Gathers the values: flags before variables, variables before the file, the file before the
    /// defaults.
    ///
    /// # Errors
    ///
    /// If the file is not TOML, a key is unknown or set twice in one place, or the text of a
    /// variable or flag is not of the key's kind.
    pub fn gather(sources: &Sources) -> Result<Self, ConfigError> {
        let mut settings = Self::defaults();
        if let Some((path, text)) = &sources.file {
            settings.lay(from_file(path, text)?)?;
        }
        settings.lay(from_variables(&sources.variables)?)?;
        settings.lay(from_flags(&sources.flags)?)?;
        Ok(settings)
    }

    fn defaults() -> Self {
        let default = |key: &Key| {
            let value = key.default.clone()?;
            let origin = Origin::Default;
            Some((key.path.clone(), Setting { value, origin }))
        };
        Self {
            values: keys().iter().filter_map(default).collect(),
        }
    }

    /// Puts `layer` over what there is.
    fn lay(&mut self, layer: Vec<(String, Setting)>) -> Result<(), ConfigError> {
        for [one, other] in EXCLUSIVE {
            let find = |path: &str| layer.iter().find(|(p, _)| p == path);
            match (find(one), find(other)) {
                (Some((_, a)), Some((_, b))) => {
                    return Err(ConfigError::Both {
                        one: a.origin.clone(),
                        other: b.origin.clone(),
                        keys: format!("{one} and {other}"),
                    });
                }
                (Some(_), None) => drop(self.values.remove(other)),
                (None, Some(_)) => drop(self.values.remove(one)),
                (None, None) => {}
            }
        }
        self.values.extend(layer);
        Ok(())
    }

    /// The setting at `path`, as `server.listen`.
    #[must_use]
    pub fn setting(&self, path: &str) -> Option<&Setting> {
        self.values.get(path)
    }

    /// All settings in the order of their keys' names.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &Setting)> {
        self.values.iter().map(|(path, s)| (path.as_str(), s))
    }

    /// The origin of the key at `path`, or of the nearest key above it.
    pub(super) fn origin(&self, path: &str) -> Origin {
        let mut path = path;
        loop {
            if let Some(setting) = self.values.get(path) {
                return setting.origin.clone();
            }
            match path.rfind(['.', '[']) {
                Some(end) => path = &path[..end],
                None => return Origin::Default,
            }
        }
    }

    /// The section `name` as one table.
    pub(super) fn section(&self, name: &str) -> toml::Table {
        let mut table = toml::Table::new();
        for (path, setting) in &self.values {
            if let Some((section, key)) = path.split_once('.')
                && section == name
            {
                table.insert(key.into(), setting.value.clone());
            }
        }
        table
    }
}

fn from_file(path: &Path, text: &str) -> Result<Vec<(String, Setting)>, ConfigError> {
    let origin = |at: usize| Origin::File {
        path: path.into(),
        line: line_at(text, at),
    };
    let syntax = |error: &toml::de::Error| ConfigError::Syntax {
        origin: origin(error.span().map_or(0, |span| span.start)),
        problem: error.message().into(),
    };
    let root = DeTable::parse(text).map_err(|e| syntax(&e))?;
    // The values once more, with their types: spans and types come from two readers.
    let plain: toml::Table = toml::from_str(text).map_err(|e| syntax(&e))?;
    let mut layer = Vec::new();
    for (section, entries) in root.get_ref() {
        let at = origin(section.span().start);
        let section = section.get_ref().as_ref();
        if !sections().contains(&section) {
            return Err(ConfigError::unknown(at, section, "section", &sections()));
        }
        let DeValue::Table(entries) = entries.get_ref() else {
            return Err(ConfigError::Syntax {
                origin: at,
                problem: format!("{section} is a section: write [{section}]"),
            });
        };
        for name in entries.keys() {
            let at = origin(name.span().start);
            let path = format!("{section}.{}", name.get_ref());
            if !is_free(section) && key(&path).is_none() {
                let known: Vec<_> = keys().iter().map(|k| k.path.as_str()).collect();
                return Err(ConfigError::unknown(at, &path, "key", &known));
            }
            if let Some(value) = plain[section].get(name.get_ref().as_ref()) {
                let value = value.clone();
                layer.push((path, Setting { value, origin: at }));
            }
        }
    }
    Ok(layer)
}

/// The line of the byte at `at`, from 1.
fn line_at(text: &str, at: usize) -> usize {
    1 + text.bytes().take(at).filter(|b| *b == b'\n').count()
}

fn from_variables(variables: &[(String, String)]) -> Result<Vec<(String, Setting)>, ConfigError> {
    let mut layer = Vec::new();
    // The general variable comes first, so that the service's own goes over it.
    let general = variables.iter().filter(|(name, _)| name == COLLECTOR.0);
    for (name, text) in general.filter(|(_, text)| !text.is_empty()) {
        let origin = Origin::Variable(name.clone());
        if let Some(key) = keys().iter().find(|k| k.path == COLLECTOR.1) {
            layer.push(parsed(key, text, origin)?);
        }
    }
    for (name, text) in variables {
        let Some(rest) = name.strip_prefix("INFER_") else {
            continue;
        };
        let is_others = rest == "CONFIG" || rest.starts_with("CONTROL_") || is_service_link(rest);
        if text.is_empty() || is_others {
            continue;
        }
        let origin = Origin::Variable(name.clone());
        let Some(key) = keys().iter().find(|k| k.variable == *name) else {
            let known: Vec<_> = keys().iter().map(|k| k.variable.as_str()).collect();
            return Err(ConfigError::unknown(origin, name, "variable", &known));
        };
        layer.push(parsed(key, text, origin)?);
    }
    Ok(layer)
}

/// Whether Kubernetes sets such a variable in every pod, for a service whose name begins with
/// `infer`.
fn is_service_link(rest: &str) -> bool {
    let rest = format!("_{rest}");
    rest.contains("_SERVICE_HOST")
        || rest.contains("_SERVICE_PORT")
        || rest.ends_with("_PORT")
        || ["_TCP", "_UDP", "_SCTP"]
            .iter()
            .any(|protocol| rest.contains("_PORT_") && rest.contains(protocol))
}

fn from_flags(flags: &[(String, String)]) -> Result<Vec<(String, Setting)>, ConfigError> {
    let mut layer = Vec::new();
    for (name, text) in flags {
        let origin = Origin::Flag(name.clone());
        let Some(key) = keys().iter().find(|k| k.flag == *name && !name.is_empty()) else {
            let known: Vec<_> = keys().iter().map(|k| k.flag.as_str()).collect();
            return Err(ConfigError::unknown(origin, name, "flag", &known));
        };
        layer.push(parsed(key, text, origin)?);
    }
    Ok(layer)
}

fn parsed(key: &Key, text: &str, origin: Origin) -> Result<(String, Setting), ConfigError> {
    match key.value(text) {
        Ok(value) => Ok((key.path.clone(), Setting { value, origin })),
        Err(problem) => Err(ConfigError::Invalid {
            origin,
            key: key.path.clone(),
            problem,
        }),
    }
}

/// The text of `setting`'s value as TOML writes it, on one line.
pub(super) fn written(key: Option<&Key>, value: &toml::Value) -> String {
    match (key.map(|k| k.kind), value) {
        (Some(Kind::Tables), toml::Value::Array(tables)) => format!(
            "[{}]",
            tables.iter().map(inline).collect::<Vec<_>>().join(", ")
        ),
        _ => inline(value),
    }
}

fn inline(value: &toml::Value) -> String {
    match value {
        toml::Value::Table(table) => {
            let entries: Vec<_> = table
                .iter()
                .map(|(name, value)| {
                    format!("{} = {}", toml::Value::from(name.as_str()), inline(value))
                })
                .collect();
            format!("{{ {} }}", entries.join(", "))
        }
        toml::Value::Array(items) => {
            let items: Vec<_> = items.iter().map(inline).collect();
            format!("[{}]", items.join(", "))
        }
        plain => plain.to_string(),
    }
}
