//! A flag for each key, and what the process was given.

use std::ffi::OsString;
use std::marker::PhantomData;
use std::path::PathBuf;

use clap::builder::NonEmptyStringValueParser;
use clap::{Arg, ArgMatches, Args, Command, FromArgMatches};

use super::keys::{Key, Kind, keys};
use super::{ConfigError, Settings, Sources, read_file};

/// The variable that names the file.
const FILE_VARIABLE: &str = "INFER_CONFIG";

/// Which keys have flags.
pub trait Scope {
    /// Whether the keys of `section` do.
    fn has(section: &str) -> bool;
}

/// All of them.
#[derive(Clone, Copy, Debug)]
pub struct EverySection;

impl Scope for EverySection {
    fn has(_: &str) -> bool {
        true
    }
}

/// Those that say what decides.
#[derive(Clone, Copy, Debug)]
pub struct PolicyOnly;

impl Scope for PolicyOnly {
    fn has(section: &str) -> bool {
        section == "policy"
    }
}

/// What the command line says of the configuration.
#[derive(Clone, Debug)]
pub struct Flags<S> {
    file: Option<PathBuf>,
    given: Vec<(String, String)>,
    scope: PhantomData<S>,
}

impl<S> Flags<S> {
    /// The settings of this process: these flags, its environment, and the file that either names.
    ///
    /// # Errors
    ///
    /// As [`Settings::gather`], or if the file cannot be read.
    pub fn settings(&self) -> Result<Settings, ConfigError> {
        self.settings_with(std::env::vars_os())
    }

    /// The settings with `environment` in place of the process's.
    fn settings_with(
        &self,
        environment: impl Iterator<Item = (OsString, OsString)>,
    ) -> Result<Settings, ConfigError> {
        // A value that is not text is told apart by the replacement that stands in it.
        let mut variables: Vec<_> = environment
            .map(|(name, value)| {
                (
                    name.to_string_lossy().into(),
                    value.to_string_lossy().into(),
                )
            })
            .filter(|(name, _): &(String, String)| {
                name.starts_with("INFER_") || name == super::settings::COLLECTOR.0
            })
            .collect();
        variables.sort();
        let named = variables
            .iter()
            .find(|(name, value)| name == FILE_VARIABLE && !value.is_empty())
            .map(|(_, value)| PathBuf::from(value));
        let file = match self.file.clone().or(named) {
            Some(path) => {
                let text = read_file(&path)?;
                Some((path, text))
            }
            None => None,
        };
        Settings::gather(&Sources {
            file,
            variables,
            flags: self.given.clone(),
        })
    }
}

fn flagged<S: Scope>() -> impl Iterator<Item = &'static Key> {
    keys()
        .iter()
        .filter(|key| key.kind != Kind::Tables && S::has(key.section()))
}

fn arg(key: &'static Key) -> Arg {
    let mut help = format!("{} [env: {}]", key.help, key.variable);
    if let Some(default) = &key.default {
        help = format!(
            "{help} [default: {}]",
            default.to_string().trim_matches('"')
        );
    }
    let arg = Arg::new(key.path.as_str())
        .long(key.flag.as_str())
        .value_parser(NonEmptyStringValueParser::new())
        .allow_negative_numbers(true)
        .help(help);
    match key.kind {
        Kind::Truth => arg
            .num_args(0..=1)
            .require_equals(true)
            .default_missing_value("true")
            .value_name("true|false"),
        Kind::Whole => arg.value_name("N"),
        Kind::Number => arg.value_name("X"),
        Kind::Text | Kind::Tables => arg.value_name("VALUE"),
    }
}

impl<S: Scope> Args for Flags<S> {
    fn augment_args(command: Command) -> Command {
        let file = Arg::new("config")
            .long("config")
            .value_name("FILE")
            .value_parser(clap::value_parser!(PathBuf))
            .help(format!(
                "File of the configuration; `infer show-config --default` prints one [env: {FILE_VARIABLE}]"
            ));
        flagged::<S>()
            .map(arg)
            .fold(command.arg(file), Command::arg)
    }

    fn augment_args_for_update(command: Command) -> Command {
        Self::augment_args(command)
    }
}

impl<S: Scope> FromArgMatches for Flags<S> {
    fn from_arg_matches(matches: &ArgMatches) -> Result<Self, clap::Error> {
        let given = |key: &Key| {
            let value = matches.get_one::<String>(&key.path)?;
            Some((key.flag.clone(), value.clone()))
        };
        Ok(Self {
            file: matches.get_one::<PathBuf>("config").cloned(),
            given: flagged::<S>().filter_map(given).collect(),
            scope: PhantomData,
        })
    }

    fn update_from_arg_matches(&mut self, matches: &ArgMatches) -> Result<(), clap::Error> {
        *self = Self::from_arg_matches(matches)?;
        Ok(())
    }
}
