//! Long-running operations: what an answer means is the client's to say.
//!
//! An accepted call leaves an address in `Azure-AsyncOperation` (its document tells a status), else
//! in `Location` (202 while it runs), else the resource itself (`properties.provisioningState`).
//! Everything here is a function of an answer; the client does the polling, bounded in every wait,
//! so the traps of a poller that is driven past its end do not arise.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::model::CloudError;

/// The most bytes of a message that are kept.
const MAX_MESSAGE_CHARS: usize = 500;

/// Where the progress of an operation can be read.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Operation {
    /// How its answers are read.
    pub kind: OperationKind,
    /// The address.
    pub url: String,
}

/// How the answers of an operation are read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum OperationKind {
    /// `status` in the document.
    AsyncOperation,
    /// 202 while it runs.
    Location,
    /// `properties.provisioningState` of the resource.
    Resource,
}

/// What became of a call that changes something.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Submitted {
    /// It is done.
    Done,
    /// It goes on.
    Running {
        /// Where to look.
        operation: Operation,
        /// When to look, where the server says so.
        retry_after: Option<Duration>,
    },
}

/// How far an operation is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Progress {
    /// It goes on.
    Running {
        /// When to look again, where the server says so.
        retry_after: Option<Duration>,
    },
    /// It succeeded.
    Succeeded,
    /// It failed or was canceled.
    Failed {
        /// Code of the error, as `AllocationFailed`.
        code: String,
        /// The error in words.
        message: String,
    },
}

#[derive(Debug, Default, Deserialize)]
struct StatusBody {
    #[serde(default)]
    status: Option<String>,
    #[serde(default)]
    error: Option<CloudError>,
    #[serde(default)]
    properties: Option<StatusProperties>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase")]
struct StatusProperties {
    #[serde(default)]
    provisioning_state: Option<String>,
}

/// The progress that an answer to a poll tells; `None` where it tells none.
#[must_use]
pub fn progress(
    kind: OperationKind,
    status: u16,
    body: &[u8],
    retry_after: Option<Duration>,
) -> Option<Progress> {
    let running = Progress::Running { retry_after };
    let document = || serde_json::from_slice::<StatusBody>(body).unwrap_or_default();
    match (kind, status) {
        (OperationKind::Location, 202) => Some(running),
        (OperationKind::Location, 200 | 201 | 204) => Some(Progress::Succeeded),
        (OperationKind::AsyncOperation, 200..=202) => {
            let document = document();
            let state = document.status.clone()?;
            Some(by_state(&state, document.error, running))
        }
        (OperationKind::Resource, 200 | 201) => {
            let document = document();
            // A resource without a state is done.
            match document.properties.unwrap_or_default().provisioning_state {
                None => Some(Progress::Succeeded),
                Some(state) => Some(by_state(&state, document.error, running)),
            }
        }
        _ => None,
    }
}

/// The progress in a state; every state that is not an end goes on.
fn by_state(state: &str, error: Option<CloudError>, running: Progress) -> Progress {
    if state.eq_ignore_ascii_case("Succeeded") {
        return Progress::Succeeded;
    }
    let ends = ["Failed", "Canceled", "Cancelled"];
    if !ends.iter().any(|end| state.eq_ignore_ascii_case(end)) {
        return running;
    }
    let error = error.unwrap_or_default();
    Progress::Failed {
        code: short(error.code.as_deref().unwrap_or(state)),
        message: short(error.message.as_deref().unwrap_or("no reason was given")),
    }
}

/// The beginning of a text from outside, without control characters.
pub(super) fn short(text: &str) -> String {
    text.chars()
        .take(MAX_MESSAGE_CHARS)
        .map(|c| if c.is_control() { ' ' } else { c })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn statuses_in_documents() {
        let look = |body: &str| progress(OperationKind::AsyncOperation, 200, body.as_bytes(), None);
        let running = Some(Progress::Running { retry_after: None });
        assert_eq!(look(r#"{"status": "InProgress"}"#), running);
        assert_eq!(look(r#"{"status": "SomethingNew"}"#), running);
        assert_eq!(
            look(r#"{"status": "succeeded"}"#),
            Some(Progress::Succeeded)
        );
        assert_eq!(
            look(
                r#"{"status": "Failed", "error": {"code": "AllocationFailed", "message": "full"}}"#
            ),
            Some(Progress::Failed {
                code: "AllocationFailed".into(),
                message: "full".into()
            })
        );
        assert_eq!(look("{}"), None);
        assert_eq!(look("<html>"), None);
    }

    #[test]
    fn locations_tell_by_status() {
        let look = |status| progress(OperationKind::Location, status, b"", None);
        assert_eq!(look(202), Some(Progress::Running { retry_after: None }));
        assert_eq!(look(204), Some(Progress::Succeeded));
        assert_eq!(look(404), None);
    }

    #[test]
    fn resources_tell_by_their_provisioning_state() {
        let look = |body: &str| progress(OperationKind::Resource, 200, body.as_bytes(), None);
        assert_eq!(
            look(r#"{"properties": {"provisioningState": "Updating"}}"#),
            Some(Progress::Running { retry_after: None })
        );
        assert_eq!(look("{}"), Some(Progress::Succeeded));
    }
}
