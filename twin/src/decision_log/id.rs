//! The identifier of a decision.

use std::fmt;
use std::str::FromStr;

use serde::de::{Deserialize, Deserializer, Error as _};
use serde::{Serialize, Serializer};
use thiserror::Error;

/// Digits of an identifier: enough for any, so that texts sort as numbers do.
pub const ID_DIGITS: usize = 20;

/// A decision: the sequence number of its record in the log.
///
/// As text it has 20 digits, so that identifiers sort by age, and JSON holds it as text, since
/// numbers beyond 2⁵³ are not safe there.
///
/// ```
/// use twin::decision_log::DecisionId;
/// assert_eq!(DecisionId(42).to_string(), "00000000000000000042");
/// assert_eq!("42".parse(), Ok(DecisionId(42)));
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct DecisionId(pub u64);

/// A text is no identifier.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[error("an id of a decision is a number of up to {ID_DIGITS} digits")]
pub struct NoId;

impl DecisionId {
    /// The identifier as ASCII digits.
    #[must_use]
    pub fn digits(self) -> [u8; ID_DIGITS] {
        let mut digits = [b'0'; ID_DIGITS];
        let mut rest = self.0;
        for digit in digits.iter_mut().rev() {
            *digit = b'0' + u8::try_from(rest % 10).unwrap_or(0);
            rest /= 10;
        }
        digits
    }
}

impl fmt::Display for DecisionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:0ID_DIGITS$}", self.0)
    }
}

impl FromStr for DecisionId {
    type Err = NoId;

    fn from_str(text: &str) -> Result<Self, NoId> {
        let digits =
            !text.is_empty() && text.len() <= ID_DIGITS && text.bytes().all(|b| b.is_ascii_digit());
        let number = digits.then(|| text.parse().ok()).flatten();
        number.map(Self).ok_or(NoId)
    }
}

impl Serialize for DecisionId {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for DecisionId {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = std::borrow::Cow::<str>::deserialize(deserializer)?;
        text.parse().map_err(D::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn identifiers_sort_as_texts_and_come_back() {
        let mut texts = Vec::new();
        for number in [0, 1, 9, 10, 1 << 53, u64::MAX - 1, u64::MAX] {
            let id = DecisionId(number);
            let text = id.to_string();
            assert_eq!(text.as_bytes(), id.digits());
            assert_eq!(text.parse(), Ok(id));
            let json = serde_json::to_string(&id).expect("text");
            assert_eq!(serde_json::from_str::<DecisionId>(&json).expect("text"), id);
            texts.push(text);
        }
        assert!(texts.is_sorted());
        for other in [
            "",
            "-1",
            "+1",
            "x",
            "18446744073709551616",
            "000000000000000000001",
        ] {
            assert_eq!(other.parse::<DecisionId>(), Err(NoId), "{other}");
        }
    }
}
