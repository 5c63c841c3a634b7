//! Calls and answers as plain values: what HTTP carries, without HTTP.

use std::collections::BTreeMap;
use std::time::Duration;

use serde_json::{Value, json};

/// A call of the Resource Manager.
#[derive(Clone, Debug, Default)]
pub(super) struct Call {
    /// The method, in capitals.
    pub(super) method: String,
    /// The path, percent-encoded as it came.
    pub(super) path: String,
    /// Segments of the path, decoded.
    pub(super) segments: Vec<String>,
    /// Parameters, decoded, with their names in lower case.
    pub(super) query: BTreeMap<String, String>,
    /// Scheme and authority that the client used: the start of links.
    pub(super) base: String,
    /// Who calls, as the token says.
    pub(super) caller: String,
    /// `x-ms-client-request-id`, where the client sent one.
    pub(super) client_request: Option<String>,
    /// `If-Match` and `If-None-Match`.
    pub(super) if_match: Option<String>,
    /// See `if_match`.
    pub(super) if_none_match: Option<String>,
    /// The body.
    pub(super) body: Vec<u8>,
}

impl Call {
    /// Whether the call reads only.
    pub(super) fn reads(&self) -> bool {
        matches!(self.method.as_str(), "GET" | "HEAD")
    }

    /// The value of a parameter; its name in lower case.
    pub(super) fn parameter(&self, name: &str) -> Option<&str> {
        self.query.get(name).map(String::as_str)
    }

    /// The body as JSON.
    pub(super) fn json(&self) -> Result<Value, Denial> {
        serde_json::from_slice(&self.body).map_err(|error| {
            Denial::new(
                400,
                "InvalidRequestContent",
                format!("The request content was invalid and could not be deserialized: {error}"),
            )
        })
    }

    /// The body as JSON, or an empty object where there is none.
    pub(super) fn json_or_empty(&self) -> Result<Value, Denial> {
        if self.body.iter().all(u8::is_ascii_whitespace) {
            return Ok(json!({}));
        }
        self.json()
    }
}

/// An answer.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Answer {
    /// The status.
    pub(super) status: u16,
    /// Headers beside those that every answer has.
    pub(super) headers: Vec<(&'static str, String)>,
    /// The body, where there is one.
    pub(super) body: Option<Value>,
    /// Whether the connection is closed in place of an answer.
    pub(super) lost: bool,
}

impl Answer {
    /// An answer with a body.
    pub(super) fn ok(body: Value) -> Self {
        Self::of(200, Some(body))
    }

    /// An answer of `status`.
    pub(super) fn of(status: u16, body: Option<Value>) -> Self {
        Self {
            status,
            headers: Vec::new(),
            body,
            lost: false,
        }
    }

    /// With one more header.
    pub(super) fn with(mut self, name: &'static str, value: impl Into<String>) -> Self {
        self.headers.push((name, value.into()));
        self
    }

    /// With the request to wait. `Retry-After` is in whole seconds and `0` makes clients fall back
    /// to half a minute, so what is shorter goes in milliseconds only.
    pub(super) fn after(self, wait: Duration) -> Self {
        let with = self.with("retry-after-ms", wait.as_millis().to_string());
        if wait < Duration::from_secs(1) {
            return with;
        }
        let seconds = wait.as_secs_f64().ceil();
        with.with("retry-after", format!("{seconds:.0}"))
    }

    /// The value of a header.
    #[cfg(test)]
    pub(super) fn header(&self, name: &str) -> Option<&str> {
        let found = self.headers.iter().find(|(known, _)| *known == name);
        found.map(|(_, value)| value.as_str())
    }
}

/// Why a call is not done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Denial {
    /// The status.
    pub(super) status: u16,
    /// The code that programs read.
    pub(super) code: &'static str,
    /// The message that people read.
    pub(super) message: String,
    /// What it is about.
    pub(super) target: Option<String>,
    /// How long to wait before the next try.
    pub(super) wait: Option<Duration>,
}

/// The most characters of a message; what quotes its input is cut.
const MESSAGE_CHARS: usize = 500;

impl Denial {
    pub(super) fn new(status: u16, code: &'static str, message: impl Into<String>) -> Self {
        let mut message = message.into();
        if let Some((end, _)) = message.char_indices().nth(MESSAGE_CHARS) {
            message.truncate(end);
            message.push('…');
        }
        Self {
            status,
            code,
            message,
            target: None,
            wait: None,
        }
    }

    /// About the field or thing called `target`.
    pub(super) fn about(mut self, target: impl Into<String>) -> Self {
        self.target = Some(target.into());
        self
    }

    /// There is no such resource.
    pub(super) fn missing(kind: &str, name: &str, group: &str) -> Self {
        Self::new(
            404,
            "ResourceNotFound",
            format!(
                "The Resource '{kind}/{name}' under resource group '{group}' was not found. \
                 For more details please go to https://aka.ms/ARMResourceNotFoundFix"
            ),
        )
    }

    /// A parameter or field is wrong.
    pub(super) fn invalid(field: &str, problem: impl std::fmt::Display) -> Self {
        Self::new(400, "InvalidParameter", format!("{field}: {problem}")).about(field)
    }

    /// The error as the common types of the Resource Manager define it.
    pub(super) fn error(&self) -> Value {
        let mut error = json!({"code": self.code, "message": self.message});
        if let Some(target) = &self.target {
            error["target"] = json!(target);
        }
        error
    }

    /// The answer.
    pub(super) fn answer(&self) -> Answer {
        let body = json!({"error": self.error()});
        let answer = Answer::of(self.status, Some(body));
        match self.wait {
            Some(wait) => answer.after(wait),
            None => answer,
        }
    }
}

/// Reads a query string.
pub(super) fn query(text: &str) -> BTreeMap<String, String> {
    url::form_urlencoded::parse(text.as_bytes())
        .map(|(name, value)| (name.to_lowercase(), value.into_owned()))
        .collect()
}

/// The segments of a path, decoded.
pub(super) fn segments(path: &str) -> Vec<String> {
    path.split('/')
        .filter(|segment| !segment.is_empty())
        .map(decode)
        .collect()
}

/// Undoes percent-encoding; what is not text becomes `�`.
pub(super) fn decode(segment: &str) -> String {
    let bytes = segment.as_bytes();
    let mut plain = Vec::with_capacity(bytes.len());
    let mut at = 0;
    while let Some(&byte) = bytes.get(at) {
        let pair = bytes
            .get(at + 1..at + 3)
            .and_then(|pair| std::str::from_utf8(pair).ok());
        let value = pair.and_then(|pair| u8::from_str_radix(pair, 16).ok());
        match (byte, value) {
            (b'%', Some(value)) => {
                plain.push(value);
                at += 3;
            }
            _ => {
                plain.push(byte);
                at += 1;
            }
        }
    }
    String::from_utf8_lossy(&plain).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_split_and_decoded() {
        assert_eq!(
            segments("/subscriptions//a%20b/%zz%"),
            ["subscriptions", "a b", "%zz%"]
        );
        assert_eq!(segments("/%ff"), ["\u{fffd}"]);
        let query = query("Api-Version=1&$filter=a%20eq%20b&x");
        assert_eq!(query["api-version"], "1");
        assert_eq!(query["$filter"], "a eq b");
        assert_eq!(query["x"], "");
    }

    #[test]
    fn waits_under_a_second_are_told_in_milliseconds_only() {
        let short = Answer::of(202, None).after(Duration::from_millis(50));
        assert_eq!(short.header("retry-after-ms"), Some("50"));
        assert_eq!(short.header("retry-after"), None);
        let long = Answer::of(202, None).after(Duration::from_millis(1500));
        assert_eq!(long.header("retry-after"), Some("2"));
    }

    #[test]
    fn messages_are_short() {
        let long = Denial::invalid("name", "x".repeat(10_000));
        assert!(long.message.chars().count() <= MESSAGE_CHARS + 1);
    }
}
