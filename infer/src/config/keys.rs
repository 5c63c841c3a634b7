//! The keys of the configuration, read from its default file: name, help, kind and default of each
//! stand there once.

use std::sync::OnceLock;

/// The default file, which documents every key.
pub(super) const DEFAULT: &str = include_str!("default.toml");

/// Sections whose keys have flags and variables without the section's name.
const SHORT: [&str; 4] = ["server", "policy", "trust", "telemetry"];
/// Sections whose keys others know.
const FREE: [&str; 1] = ["control"];

/// One key.
#[derive(Clone, Debug, PartialEq)]
pub struct Key {
    /// Section and name, as `server.listen`.
    pub path: String,
    /// The flag without its dashes, as `listen`; empty for what only a file can hold.
    pub flag: String,
    /// The environment variable, as `INFER_LISTEN`; empty for what only a file can hold.
    pub variable: String,
    /// What it does.
    pub help: String,
    /// What its values are.
    pub kind: Kind,
    /// The default, if there is one.
    pub default: Option<toml::Value>,
}

/// What the values of a key are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Text, an address, a path or one of some words.
    Text,
    /// A whole number.
    Whole,
    /// A number.
    Number,
    /// True or false.
    Truth,
    /// A list of tables, in files only.
    Tables,
}

impl Key {
    /// Its section.
    #[must_use]
    pub fn section(&self) -> &str {
        self.path.split('.').next().unwrap_or_default()
    }

    /// The value that `text` means, or what is wrong with it.
    pub(super) fn value(&self, text: &str) -> Result<toml::Value, String> {
        use toml::Value;
        let wrong = |what: &str| format!("\"{text}\" is not {what}");
        match self.kind {
            Kind::Text => Ok(Value::String(text.into())),
            Kind::Whole => text
                .parse()
                .map(Value::Integer)
                .map_err(|_| wrong("a whole number")),
            Kind::Number => match text.parse::<f64>() {
                Ok(number) if number.is_finite() => Ok(Value::Float(number)),
                _ => Err(wrong("a number")),
            },
            Kind::Truth => text
                .parse()
                .map(Value::Boolean)
                .map_err(|_| wrong("true or false")),
            Kind::Tables => Err("stands in a file only".into()),
        }
    }
}

/// All keys, in the order of the default file.
#[must_use]
pub fn keys() -> &'static [Key] {
    static KEYS: OnceLock<Vec<Key>> = OnceLock::new();
    KEYS.get_or_init(|| read(DEFAULT))
}

/// The key at `path`.
pub(super) fn key(path: &str) -> Option<&'static Key> {
    keys().iter().find(|key| key.path == path)
}

/// Whether the keys of `section` are somebody else's.
pub(super) fn is_free(section: &str) -> bool {
    FREE.contains(&section)
}

/// Sections that may stand in a file.
pub(super) fn sections() -> Vec<&'static str> {
    let mut sections: Vec<_> = FREE.to_vec();
    sections.extend(keys().iter().map(Key::section));
    sections.sort_unstable();
    sections.dedup();
    sections
}

/// Reads the keys of a default file: a block of comments, then `name = value` or `#name = example`.
fn read(text: &str) -> Vec<Key> {
    let mut keys = Vec::new();
    let (mut section, mut help) = (String::new(), String::new());
    let mut in_list = false;
    for line in text.lines() {
        if let Some(name) = line.strip_prefix("#[[").and_then(|l| l.strip_suffix("]]")) {
            keys.push(Key {
                path: name.into(),
                flag: String::new(),
                variable: String::new(),
                help: std::mem::take(&mut help),
                kind: Kind::Tables,
                default: None,
            });
            in_list = true;
        } else if let Some(name) = line.strip_prefix('[').and_then(|l| l.strip_suffix(']')) {
            section = name.into();
            help.clear();
        } else if line.is_empty() {
            help.clear();
            in_list = false;
        } else if let Some(comment) = line.strip_prefix("# ") {
            if !help.is_empty() {
                help.push(' ');
            }
            help.push_str(comment);
        } else if !in_list {
            keys.extend(assignment(&section, line, std::mem::take(&mut help)));
        }
    }
    keys
}

/// The key that `line` of `section` sets, or gives an example of.
fn assignment(section: &str, line: &str, help: String) -> Option<Key> {
    let (is_example, line) = match line.strip_prefix('#') {
        Some(example) => (true, example),
        None => (false, line),
    };
    let table: toml::Table = toml::from_str(line).ok()?;
    let (name, value) = table.into_iter().next()?;
    let kind = match value {
        toml::Value::Integer(_) => Kind::Whole,
        toml::Value::Float(_) => Kind::Number,
        toml::Value::Boolean(_) => Kind::Truth,
        _ => Kind::Text,
    };
    let path = format!("{section}.{name}");
    let long = if SHORT.contains(&section) {
        &name
    } else {
        &path
    };
    Some(Key {
        flag: long.replace(['.', '_'], "-"),
        variable: format!("INFER_{}", long.replace('.', "_").to_uppercase()),
        path,
        help,
        kind,
        default: (!is_example).then_some(value),
    })
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn the_default_file_is_read_line_by_line() {
        let text = "# Not a key\n\n[server]\n# Where to\n# listen\nlisten = \"a\"\n\n[tls]\n# One\n#client_ca = \"b\"\n# Many\n#[[tls.clients]]\n#name = \"c\"\n\n[auth]\n# Two\nreload_s = 2.0\n";
        let keys = read(text);
        let told: Vec<_> = keys
            .iter()
            .map(|k| (k.path.as_str(), k.flag.as_str(), k.help.as_str(), k.kind))
            .collect();
        assert_eq!(
            told,
            [
                ("server.listen", "listen", "Where to listen", Kind::Text),
                ("tls.client_ca", "tls-client-ca", "One", Kind::Text),
                ("tls.clients", "", "Many", Kind::Tables),
                ("auth.reload_s", "auth-reload-s", "Two", Kind::Number),
            ]
        );
        assert_eq!(keys[0].default, Some("a".into()));
        assert_eq!(keys[1].default, None);
        assert_eq!(keys[1].variable, "INFER_TLS_CLIENT_CA");
    }

    #[test]
    fn every_line_of_the_default_file_is_understood() {
        let parsed: toml::Table = toml::from_str(DEFAULT).expect("it is TOML");
        let mut set = 0;
        for (section, table) in &parsed {
            for name in table.as_table().expect("a section").keys() {
                let path = format!("{section}.{name}");
                assert!(key(&path).is_some_and(|k| k.default.is_some()), "{path}");
                set += 1;
            }
        }
        assert_eq!(set, keys().iter().filter(|k| k.default.is_some()).count());
        let examples = DEFAULT
            .lines()
            .filter(|l| l.starts_with('#') && !l.starts_with("# ") && l.len() > 1)
            .count();
        // Of the list of clients, the head is a key and three lines are of its table.
        let optional = keys().iter().filter(|k| k.default.is_none()).count();
        assert_eq!(examples, optional + 3);
    }

    #[test]
    fn every_key_has_help_and_a_name_of_its_own() {
        let mut names = BTreeSet::from(["config", "help", "version"]);
        for key in keys() {
            assert!(key.help.len() > 10, "{}", key.path);
            if key.kind != Kind::Tables {
                assert!(names.insert(&key.flag), "{}", key.flag);
            }
        }
    }
}
