//! Patterns of names and tags: `*` stands for any characters, `?` for one; case does not matter.

use std::collections::BTreeMap;
use std::fmt;

/// The most characters of a pattern.
const MAX_PATTERN_CHARS: usize = 256;

/// A pattern of names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pattern(Vec<char>);

impl Pattern {
    /// Reads a pattern.
    ///
    /// # Errors
    ///
    /// If it is empty or too long.
    pub fn parse(text: &str) -> Result<Self, String> {
        let chars: Vec<char> = text.to_lowercase().chars().collect();
        if chars.is_empty() || chars.len() > MAX_PATTERN_CHARS {
            return Err(format!(
                "a pattern has 1 to {MAX_PATTERN_CHARS} characters, found {}",
                chars.len()
            ));
        }
        Ok(Self(chars))
    }

    /// Whether `name` is of this pattern. Takes time in the product of both lengths at most.
    #[must_use]
    pub fn matches(&self, name: &str) -> bool {
        let name: Vec<char> = name.to_lowercase().chars().collect();
        let (mut p, mut n) = (0, 0);
        // Where to go on after the last star: the star, and what it has taken.
        let mut back: Option<(usize, usize)> = None;
        while n < name.len() {
            match self.0.get(p) {
                Some('*') => {
                    back = Some((p, n));
                    p += 1;
                }
                Some(&c) if c == '?' || c == name[n] => {
                    p += 1;
                    n += 1;
                }
                _ => match back {
                    None => return false,
                    Some((star, taken)) => {
                        back = Some((star, taken + 1));
                        p = star + 1;
                        n = taken + 1;
                    }
                },
            }
        }
        self.0[p..].iter().all(|c| *c == '*')
    }
}

impl fmt::Display for Pattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0.iter().collect::<String>())
    }
}

/// A tag: `name` or `name=pattern`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TagPattern {
    name: String,
    value: Option<Pattern>,
}

impl TagPattern {
    /// Reads `name` or `name=pattern`.
    ///
    /// # Errors
    ///
    /// If there is no name or the pattern is none.
    pub fn parse(text: &str) -> Result<Self, String> {
        let (name, value) = match text.split_once('=') {
            None => (text, None),
            Some((name, value)) => (name, Some(Pattern::parse(value)?)),
        };
        if name.is_empty() {
            return Err("a tag has a name".into());
        }
        Ok(Self {
            name: name.into(),
            value,
        })
    }

    /// Whether one of `tags` is of this pattern.
    #[must_use]
    pub fn matches(&self, tags: &BTreeMap<String, String>) -> bool {
        tags.iter().any(|(name, value)| {
            name.eq_ignore_ascii_case(&self.name)
                && self.value.as_ref().is_none_or(|v| v.matches(value))
        })
    }
}

impl fmt::Display for TagPattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.value {
            None => write!(f, "{}", self.name),
            Some(value) => write!(f, "{}={value}", self.name),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn matches(pattern: &str, name: &str) -> bool {
        Pattern::parse(pattern).expect("a pattern").matches(name)
    }

    #[test]
    fn stars_and_question_marks() {
        for (pattern, name, expected) in [
            ("db-*", "DB-primary", true),
            ("db-*", "adb-1", false),
            ("*-gpu", "a-gpu", true),
            ("*-gpu", "a-gpu2", false),
            ("w?", "w1", true),
            ("w?", "w12", false),
            ("a*b*c", "a-b-b-c", true),
            ("a*b*c", "a-c-b", false),
            ("*", "", true),
            ("vm", "vm", true),
            ("vm.1", "vmx1", false),
        ] {
            assert_eq!(matches(pattern, name), expected, "{pattern} {name}");
        }
        assert!(Pattern::parse("").is_err());
    }

    #[test]
    fn many_stars_end_soon() {
        assert!(!matches(&"*a".repeat(100), &"b".repeat(2_000)));
    }

    #[test]
    fn tags_by_name_and_value() {
        let tags = BTreeMap::from([("Env".to_owned(), "production".to_owned())]);
        let tag = |text| TagPattern::parse(text).expect("a pattern").matches(&tags);
        assert!(tag("env") && tag("env=prod*"));
        assert!(!tag("env=test") && !tag("owner"));
        assert!(TagPattern::parse("=x").is_err());
    }
}
