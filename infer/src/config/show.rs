//! The configuration as text: each value with its origin.

use std::fmt::Write as _;

use serde_json::{Value, json};

use super::keys::{is_free, key, keys};
use super::settings::written;
use super::{Origin, Settings};

/// How the configuration is shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Format {
    /// TOML, the origins as comments.
    Text,
    /// A list of values and origins.
    Json,
}

impl Settings {
    /// All values and their origins. There is no secret among them: those stand in the files that
    /// the configuration names.
    #[must_use]
    pub fn show(&self, format: Format) -> String {
        match format {
            Format::Text => self.text(),
            Format::Json => self.json(),
        }
    }

    /// Paths of all keys, in the order of the default file, with those of free sections at the end.
    fn paths(&self) -> impl Iterator<Item = &str> {
        let free = self
            .iter()
            .map(|(path, _)| path)
            .filter(|path| path.split_once('.').is_some_and(|(s, _)| is_free(s)));
        keys().iter().map(|key| key.path.as_str()).chain(free)
    }

    fn text(&self) -> String {
        let mut lines = Vec::new();
        for path in self.paths() {
            let (section, name) = path.split_once('.').unwrap_or((path, ""));
            let name = toml_name(name);
            lines.push(match self.setting(path) {
                Some(setting) => {
                    let value = written(key(path), &setting.value);
                    (
                        section,
                        format!("{name} = {value}"),
                        setting.origin.to_string(),
                    )
                }
                None => (section, format!("#{name}"), "not set".into()),
            });
        }
        // Origins stand below each other, unless a value is much longer than the others.
        let width = lines
            .iter()
            .map(|(_, l, _)| l.len())
            .filter(|l| *l <= 60)
            .max();
        let width = width.unwrap_or(0);
        let (mut text, mut at) = (String::new(), "");
        for (section, line, origin) in &lines {
            if *section != at {
                let gap = if at.is_empty() { "" } else { "\n" };
                let _ = writeln!(text, "{gap}[{section}]");
                at = section;
            }
            let _ = writeln!(text, "{line:width$}  # {origin}");
        }
        text
    }

    fn json(&self) -> String {
        let list: Vec<Value> = self
            .paths()
            .map(|path| match self.setting(path) {
                Some(setting) => json!({
                    "key": path,
                    "value": setting.value,
                    "origin": origin(&setting.origin),
                }),
                None => json!({"key": path, "value": null, "origin": null}),
            })
            .collect();
        let mut text = format!("{:#}", Value::from(list));
        text.push('\n');
        text
    }
}

fn toml_name(name: &str) -> String {
    let is_bare = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == '-';
    if !name.is_empty() && name.chars().all(is_bare) {
        name.into()
    } else {
        toml::Value::from(name).to_string()
    }
}

fn origin(origin: &Origin) -> Value {
    match origin {
        Origin::Default => json!({"kind": "default"}),
        Origin::File { path, line } => {
            json!({"kind": "file", "file": path.display().to_string(), "line": line})
        }
        Origin::Variable(name) => json!({"kind": "variable", "variable": name}),
        Origin::Flag(name) => json!({"kind": "flag", "flag": format!("--{name}")}),
    }
}
