//! What goes wrong with a call, and whether it may have been carried out all the same.

use std::error::Error;
use std::time::Duration;

use thiserror::Error;

/// Why a call has no result. `what` names the call.
#[derive(Debug, Error)]
pub enum AzureError {
    /// Nobody answered, or the answer broke off.
    #[error("{what}: {causes}")]
    Transport {
        /// The call.
        what: String,
        /// The error and all its causes.
        causes: String,
    },
    /// No token could be had, so nothing was sent.
    #[error("{what}: {causes}")]
    Credential {
        /// The call.
        what: String,
        /// What was tried.
        causes: String,
    },
    /// Resource Manager refused.
    #[error("{what}: status {status}, {code}: {message}")]
    Refused {
        /// The call.
        what: String,
        /// HTTP status.
        status: u16,
        /// Code of the error, as `AllocationFailed`.
        code: String,
        /// The error in words.
        message: String,
        /// How long to wait before another attempt, capped.
        retry_after: Option<Duration>,
    },
    /// It took too long.
    #[error("{what}: no result within {} s", limit.as_secs_f64())]
    Deadline {
        /// The call.
        what: String,
        /// The limit.
        limit: Duration,
    },
    /// The answer is not what the interface promises.
    #[error("{what}: {problem}")]
    Answer {
        /// The call.
        what: String,
        /// What is wrong.
        problem: String,
    },
    /// The answer sends the client, and its token, to another host.
    #[error("{what}: {header} leads to {target}, which is not {own}; the token is not sent there")]
    Foreign {
        /// The call.
        what: String,
        /// Where the address stood.
        header: &'static str,
        /// Where it leads.
        target: String,
        /// The endpoint.
        own: String,
    },
    /// The client cannot be set up.
    #[error("{0}")]
    Setup(String),
}

impl AzureError {
    /// Whether the call certainly was not carried out: a write may then be sent again.
    #[must_use]
    pub fn certainly_not_done(&self) -> bool {
        match self {
            Self::Credential { .. } | Self::Setup(_) => true,
            // A server that fails may have done it; one that refuses has not.
            Self::Refused { status, .. } => (400..500).contains(status) && *status != 408,
            Self::Transport { .. }
            | Self::Deadline { .. }
            | Self::Answer { .. }
            | Self::Foreign { .. } => false,
        }
    }

    /// The code of a refusal.
    #[must_use]
    pub fn code(&self) -> Option<&str> {
        match self {
            Self::Refused { code, .. } => Some(code),
            _ => None,
        }
    }
}

/// An error and all its causes, each once: the `Display` of the errors of `azure_core` hides them.
#[must_use]
pub fn causes(error: &(dyn Error + 'static)) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(cause) = next {
        let message = cause.to_string();
        if !text.contains(&message) {
            text = format!("{text}: {message}");
        }
        next = cause.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, Error)]
    #[error("outer")]
    struct Outer(#[source] std::io::Error);

    #[test]
    fn causes_are_told_once() {
        let error = Outer(std::io::Error::other("connection refused"));
        assert_eq!(causes(&error), "outer: connection refused");
    }

    #[test]
    fn only_what_was_refused_is_certainly_not_done() {
        let refused = |status| AzureError::Refused {
            what: "start".into(),
            status,
            code: "x".into(),
            message: String::new(),
            retry_after: None,
        };
        assert!(refused(429).certainly_not_done());
        assert!(refused(409).certainly_not_done());
        assert!(!refused(408).certainly_not_done());
        assert!(!refused(503).certainly_not_done());
        let lost = AzureError::Transport {
            what: "start".into(),
            causes: "reset".into(),
        };
        assert!(!lost.certainly_not_done());
    }
}
