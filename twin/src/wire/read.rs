//! Reading JSON: limits, and errors that name the field.

use std::fmt;
use std::marker::PhantomData;

use serde::de::{Deserialize, Deserializer, Error as _, SeqAccess, Visitor};
use serde_json::error::Category;

use super::{DecisionRequest, DecisionResponse, SCHEMA, WireError, WireErrorKind};

/// The most characters of a problem that are passed on: it may quote its input.
const PROBLEM_CHARS: usize = 300;

/// A field that may be left out but not be `null`, for `deserialize_with`.
///
/// # Errors
///
/// If it is there and not a `T`.
pub fn present<'de, D, T>(deserializer: D) -> Result<Option<T>, D::Error>
where
    D: Deserializer<'de>,
    T: Deserialize<'de>,
{
    T::deserialize(deserializer).map(Some)
}

/// A list of at most `N`, for `deserialize_with`.
///
/// # Errors
///
/// If it is not a list of `T`, or a longer one.
pub fn bounded<'de, D, T, const N: usize>(deserializer: D) -> Result<Vec<T>, D::Error>
where
    D: Deserializer<'de>,
    T: Deserialize<'de>,
{
    struct Bounded<T, const N: usize>(PhantomData<T>);

    impl<'de, T: Deserialize<'de>, const N: usize> Visitor<'de> for Bounded<T, N> {
        type Value = Vec<T>;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            write!(f, "a list of at most {N}")
        }

        fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Vec<T>, A::Error> {
            let mut list = Vec::new();
            while let Some(item) = items.next_element()? {
                if list.len() == N {
                    return Err(A::Error::custom(format_args!(
                        "the list has more than {N} entries"
                    )));
                }
                list.push(item);
            }
            Ok(list)
        }
    }

    deserializer.deserialize_seq(Bounded::<T, N>(PhantomData))
}

impl<'a> DecisionRequest<'a> {
    /// Reads a request; names are borrowed from `json` where they hold no escapes.
    ///
    /// # Errors
    ///
    /// If it is not JSON or not of the schema; the error names the field.
    pub fn from_json(json: &'a [u8]) -> Result<Self, WireError> {
        let request: Self = from_json(json)?;
        check_schema(request.schema)?;
        Ok(request)
    }
}

impl<'a> DecisionResponse<'a> {
    /// Reads a response; names are borrowed from `json` where they hold no escapes.
    ///
    /// # Errors
    ///
    /// If it is not JSON or not of the schema; the error names the field.
    pub fn from_json(json: &'a [u8]) -> Result<Self, WireError> {
        let response: Self = from_json(json)?;
        check_schema(response.schema)?;
        Ok(response)
    }
}

/// Whether a message is of the version that this program speaks.
///
/// # Errors
///
/// If it is of another one.
pub fn check_schema(found: u32) -> Result<(), WireError> {
    if found == SCHEMA {
        return Ok(());
    }
    Err(WireError {
        kind: WireErrorKind::Schema,
        field: "schema".into(),
        problem: format!("this program speaks version {SCHEMA}, found {found}"),
    })
}

/// The version alone, of a message that may be of another version.
#[derive(serde::Deserialize)]
struct Version {
    schema: u32,
}

/// Reads a message of this schema version that has its version in the field `schema`; whoever
/// reads holds the version against [`SCHEMA`] by [`check_schema`].
///
/// # Errors
///
/// If it is not JSON or not of the schema; the error names the field.
pub fn from_json<'a, T: Deserialize<'a>>(json: &'a [u8]) -> Result<T, WireError> {
    match serde_json::from_slice(json) {
        // Fields without their names, which serde would take.
        Ok(_) if is_list(json) => Err(list()),
        Ok(value) => Ok(value),
        Err(error) if error.is_data() && is_list(json) => Err(list()),
        Err(error) => {
            if let Ok(version) = serde_json::from_slice::<Version>(json) {
                check_schema(version.schema)?;
            }
            Err(located::<T>(json, &error))
        }
    }
}

fn is_list(json: &[u8]) -> bool {
    json.trim_ascii_start().starts_with(b"[")
}

fn list() -> WireError {
    WireError {
        kind: WireErrorKind::Schema,
        field: "body".into(),
        problem: "is a list, where an object must be".into(),
    }
}

/// Reads again to find out where it goes wrong: following the path costs time that good messages
/// need not spend.
fn located<'a, T: Deserialize<'a>>(json: &'a [u8], error: &serde_json::Error) -> WireError {
    let mut deserializer = serde_json::Deserializer::from_slice(json);
    let field = match serde_path_to_error::deserialize::<_, T>(&mut deserializer) {
        Ok(_) => "body".into(),
        Err(error) => {
            let path = error.path().to_string();
            // Where the text ends too early the last step of the path is unknown, and a name that
            // nobody can see is none.
            let known = path.trim_end_matches('?').trim_end_matches('.');
            if known.trim().is_empty() {
                "body".into()
            } else {
                known.into()
            }
        }
    };
    let (kind, problem) = match error.classify() {
        Category::Data => (WireErrorKind::Schema, error.to_string()),
        Category::Io | Category::Syntax | Category::Eof => (
            WireErrorKind::Malformed,
            format!("is not JSON (numbers must be finite): {error}"),
        ),
    };
    WireError {
        kind,
        field: shorten(field),
        problem: shorten(problem),
    }
}

/// Cuts what quotes its input to a bounded length.
#[must_use]
pub fn shorten(mut text: String) -> String {
    if let Some((end, _)) = text.char_indices().nth(PROBLEM_CHARS) {
        text.truncate(end);
        text.push('…');
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn error(json: &str) -> WireError {
        DecisionRequest::from_json(json.as_bytes()).expect_err("the message is wrong")
    }

    #[test]
    fn errors_name_the_field() {
        for (json, kind, field) in [
            ("", WireErrorKind::Malformed, "body"),
            ("[", WireErrorKind::Malformed, "body"),
            ("{\"schema\": 1", WireErrorKind::Malformed, "body"),
            (
                "{\"schema\": 1, \"state\": {\"now_ns\": NaN",
                WireErrorKind::Malformed,
                "state.now_ns",
            ),
            (
                "{\"schema\": 1, \"state\": {\"now_ns\": null}}",
                WireErrorKind::Schema,
                "state.now_ns",
            ),
            (
                "{\"schema\": 1, \"world\": null}",
                WireErrorKind::Schema,
                "world",
            ),
            (
                "{\"schema\": 2, \"anything\": 1}",
                WireErrorKind::Schema,
                "schema",
            ),
            (
                "{\"schema\": 1, \"other\": 1}",
                WireErrorKind::Schema,
                "other",
            ),
            ("{\"schema\": 1}", WireErrorKind::Schema, "body"),
            ("[1, {\"name\": 2}]", WireErrorKind::Schema, "body"),
            ("{\"\": 1}", WireErrorKind::Schema, "body"),
            ("{\" \": 1}", WireErrorKind::Schema, "body"),
        ] {
            let found = error(json);
            assert_eq!(
                (found.kind, found.field.as_str()),
                (kind, field),
                "{json}: {found}"
            );
        }
    }

    #[test]
    fn fields_have_names() {
        use super::super::OutcomesRequest;
        assert!(OutcomesRequest::from_json(br#"{"schema": 1, "outcomes": []}"#).is_ok());
        let found = OutcomesRequest::from_json(b" [1, []]").expect_err("a list");
        assert_eq!(
            (found.kind, found.field.as_str()),
            (WireErrorKind::Schema, "body")
        );
    }

    #[test]
    fn lists_are_bounded_and_quotes_are_short() {
        let json =
            br#"{"request": 1, "variant": "x", "hosts": [0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0]}"#;
        let found = from_json::<super::super::Deployment<'_>>(json).expect_err("17 hosts");
        assert_eq!(found.field, "hosts");
        assert!(found.problem.contains("more than 16"), "{found}");
        let long = format!("{{\"schema\": 1, \"{}\": 1}}", "x".repeat(100_000));
        let found = error(&long);
        assert!(found.problem.len() < 1000 && found.field.len() < 1000);
    }
}
