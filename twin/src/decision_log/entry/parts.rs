//! A decision on its way into the log, made of bytes that are JSON already.

use std::borrow::Cow;

use super::super::id::{DecisionId, ID_DIGITS};
use super::{ENTRY_SCHEMA, write_json};

/// Bytes that are one JSON value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Json<'a>(&'a [u8]);

impl<'a> Json<'a> {
    /// Bytes that have been read as JSON already.
    ///
    /// They are not looked at again; of others, the record could be kept but not be read.
    #[must_use]
    pub fn parsed(bytes: &'a [u8]) -> Self {
        Self(bytes)
    }

    /// Bytes that come from elsewhere.
    ///
    /// # Errors
    ///
    /// If they are not JSON.
    pub fn check(bytes: &'a [u8]) -> Result<Self, serde_json::Error> {
        serde_json::from_slice::<serde::de::IgnoredAny>(bytes)?;
        Ok(Self(bytes))
    }

    /// The bytes.
    #[must_use]
    pub fn bytes(self) -> &'a [u8] {
        self.0
    }
}

/// A decision that is about to be answered; in the log it is a [`Decision`](super::Decision).
#[derive(Clone, Copy, Debug)]
pub struct NewDecision<'a> {
    /// The policy that was asked.
    pub policy: &'a str,
    /// SHA-256 of the model's weights in hexadecimal, where the policy is a model.
    pub model_sha256: Option<&'a str>,
    /// Who asked, where that is known.
    pub client: Option<&'a str>,
    /// What was asked: the body of a stateless request, or the new requests of a stateful one.
    pub request: Json<'a>,
    /// Of a stateful request, the last telemetry that the live twin had taken in, if any.
    pub stateful: Option<Option<u64>>,
    /// What is answered: an object without the id, which [`with_id`] puts in.
    pub response: Json<'a>,
}

impl NewDecision<'_> {
    /// Writes the entry behind what is in `buffer`, without looking into the JSON.
    pub(in super::super) fn write(&self, id: DecisionId, buffer: &mut Vec<u8>) {
        buffer.extend_from_slice(b"{\"schema\":");
        write_json(&ENTRY_SCHEMA, buffer);
        buffer.extend_from_slice(b",\"policy\":");
        write_json(&self.policy, buffer);
        for (name, value) in [
            (",\"model_sha256\":", self.model_sha256),
            (",\"client\":", self.client),
        ] {
            if let Some(value) = value {
                buffer.extend_from_slice(name.as_bytes());
                write_json(&Cow::Borrowed(value), buffer);
            }
        }
        match self.stateful {
            None => {
                buffer.extend_from_slice(b",\"mode\":{\"stateless\":{\"request\":");
                buffer.extend_from_slice(self.request.0);
            }
            Some(telemetry) => {
                buffer.extend_from_slice(b",\"mode\":{\"stateful\":{\"requests\":");
                buffer.extend_from_slice(self.request.0);
                if let Some(telemetry) = telemetry {
                    buffer.extend_from_slice(b",\"telemetry\":");
                    write_json(&telemetry, buffer);
                }
            }
        }
        buffer.extend_from_slice(b"}},\"response\":");
        put_id(self.response, id, buffer);
        buffer.push(b'}');
    }
}

/// `response`, an object with members but without an id, with the member `id` before the others.
#[must_use]
pub fn with_id(response: Json<'_>, id: DecisionId) -> Vec<u8> {
    let mut body = Vec::with_capacity(response.0.len() + ID_DIGITS + 8);
    put_id(response, id, &mut body);
    body
}

fn put_id(response: Json<'_>, id: DecisionId, buffer: &mut Vec<u8>) {
    let members = response.0.strip_prefix(b"{").unwrap_or(response.0);
    buffer.extend_from_slice(b"{\"id\":\"");
    buffer.extend_from_slice(&id.digits());
    buffer.extend_from_slice(b"\",");
    buffer.extend_from_slice(members);
}
