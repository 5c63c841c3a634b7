//! The configuration: what a file, the environment and flags say, each value with its origin.
//!
//! A flag goes before a variable, a variable before the file, the file before the default. The
//! default file, which `infer show-config --default` prints, documents every key; names, help and
//! defaults are read from it, and the types below say what is accepted.
//!
//! ```
//! use infer::config::{Settings, Sources};
//!
//! let sources = Sources {
//!     file: Some(("infer.toml".into(), "[server]\nlisten = \"127.0.0.1:1\"\n".into())),
//!     variables: vec![("INFER_MAX_IN_FLIGHT".into(), "8".into())],
//!     flags: vec![("listen".into(), "127.0.0.1:2".into())],
//! };
//! let settings = Settings::gather(&sources)?;
//! let config = settings.config()?;
//! assert_eq!(config.server.listen.port(), 2);
//! assert_eq!(config.server.max_in_flight, 8);
//! assert_eq!(settings.setting("server.listen").map(|s| s.origin.to_string()).as_deref(), Some("--listen"));
//! # Ok::<(), infer::config::ConfigError>(())
//! ```
//!
//! Left out: secrets, which stand in files that the configuration names; changes while the service
//! runs, except in those files.

mod flags;
mod keys;
mod sections;
mod settings;
mod show;

use std::io::{self, Read};
use std::path::{Path, PathBuf};

use serde::de::DeserializeOwned;
use thiserror::Error;

pub use self::flags::{EverySection, Flags, PolicyOnly, Scope};
pub use self::keys::{Key, Kind, keys};
pub use self::sections::{
    Audience, Audit, Auth, AuthMode, CertificateRule, ClientLimits, Config, Durability, Endpoint,
    KnownClient, Log, LogFormat, Policy, RateLimits, Server, Shadow, Telemetry, Tls, TlsVersion,
    Trust, WhatIf,
};
pub use self::settings::{Origin, Setting, Settings, Sources};
pub use self::show::Format;

/// The default file.
#[must_use]
pub fn default_file() -> &'static str {
    keys::DEFAULT
}

/// Why a configuration is refused.
#[derive(Debug, Error)]
pub enum ConfigError {
    /// The file cannot be read.
    #[error("cannot read the configuration {}: {source}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// The reason.
        source: io::Error,
    },
    /// The file is not TOML.
    #[error("{origin}: {problem}")]
    Syntax {
        /// The line.
        origin: Origin,
        /// What is wrong.
        problem: String,
    },
    /// There is no such key, section, variable or flag.
    #[error("{origin}: there is no {what} \"{name}\"{hint}")]
    Unknown {
        /// Where it stands.
        origin: Origin,
        /// What it would be.
        what: &'static str,
        /// The name.
        name: String,
        /// The nearest that there is.
        hint: String,
    },
    /// A value is not one of its key's.
    #[error("{origin}: {key}: {problem}")]
    Invalid {
        /// Where it stands.
        origin: Origin,
        /// The key.
        key: String,
        /// What is wrong, and what would be right.
        problem: String,
    },
    /// Two keys exclude each other.
    #[error("{one} and {other}: {keys} exclude each other: set one of them")]
    Both {
        /// Where the one stands.
        one: Origin,
        /// Where the other stands.
        other: Origin,
        /// The keys.
        keys: String,
    },
    /// Nothing says what decides.
    #[error(
        "nothing says what decides: give --model DIR or --policy NAME (policy.model or policy.policy in a file)"
    )]
    NoPolicy,
}

impl ConfigError {
    fn unknown(origin: Origin, name: &str, what: &'static str, known: &[&str]) -> Self {
        let nearest = known
            .iter()
            .filter(|known| !known.is_empty())
            .map(|known| (strsim::jaro_winkler(name, known), known))
            .filter(|(similarity, _)| *similarity > 0.8)
            .max_by(|a, b| a.0.total_cmp(&b.0));
        let hint = match nearest {
            Some((_, nearest)) => format!(", did you mean \"{nearest}\"?"),
            None => "; `infer show-config --default` tells all keys".into(),
        };
        Self::Unknown {
            origin,
            what,
            name: name.into(),
            hint,
        }
    }

    /// Where the wrong value stands, if one is at fault.
    #[must_use]
    pub fn origin(&self) -> Option<&Origin> {
        match self {
            Self::Syntax { origin, .. }
            | Self::Unknown { origin, .. }
            | Self::Invalid { origin, .. } => Some(origin),
            Self::Both { one, other, .. } => Some(one.max(other)),
            Self::Read { .. } | Self::NoPolicy => None,
        }
    }
}

impl Settings {
    /// The configuration that the settings make.
    ///
    /// # Errors
    ///
    /// If a value is not one of its key's, or two of them contradict each other.
    pub fn config(&self) -> Result<Config, ConfigError> {
        let mut root = toml::Table::new();
        for section in keys::sections() {
            root.insert(section.into(), self.section(section).into());
        }
        let config: Config = self.typed(root.into(), "")?;
        config.check(self)?;
        Ok(config)
    }

    /// The section `name` as its owner reads it, for the sections whose keys stand elsewhere.
    ///
    /// # Errors
    ///
    /// If the section is not what `T` accepts; the message names the file, the line and the key.
    pub fn free_section<T: DeserializeOwned>(&self, name: &str) -> Result<T, ConfigError> {
        self.typed(self.section(name).into(), name)
    }

    /// Reads `value`, which stands at `prefix`.
    fn typed<T: DeserializeOwned>(
        &self,
        value: toml::Value,
        prefix: &str,
    ) -> Result<T, ConfigError> {
        serde_path_to_error::deserialize(value).map_err(|error| {
            let inner = error.path().to_string();
            let key = match (prefix, inner.as_str()) {
                (_, ".") => prefix.into(),
                ("", _) => inner,
                _ => format!("{prefix}.{inner}"),
            };
            self.invalid(&key, error.inner().message().trim_end())
        })
    }

    /// What is wrong with the value of `key`.
    fn invalid(&self, key: &str, problem: impl Into<String>) -> ConfigError {
        ConfigError::Invalid {
            origin: self.origin(key),
            key: key.into(),
            problem: problem.into(),
        }
    }
}

/// The text of the file at `path`, which is no longer than a configuration may be.
///
/// # Errors
///
/// If it cannot be read, is not text or is too long.
pub fn read_file(path: &Path) -> Result<String, ConfigError> {
    let read = || {
        let mut text = String::new();
        let file = std::fs::File::open(path)?;
        file.take(settings::MAX_FILE_BYTES + 1)
            .read_to_string(&mut text)?;
        if text.len() as u64 > settings::MAX_FILE_BYTES {
            let problem = format!("it has more than {} bytes", settings::MAX_FILE_BYTES);
            return Err(io::Error::new(io::ErrorKind::InvalidData, problem));
        }
        Ok(text)
    };
    read().map_err(|source| ConfigError::Read {
        path: path.into(),
        source,
    })
}

#[cfg(test)]
mod tests;
