//! What became of requests, as deployers tell it.

use serde::{Deserialize, Serialize};

use super::read::{bounded, check_schema, from_json, present};
use super::{WireError, WireErrorKind};
use crate::decision_log::{DecisionId, ENTRY_SCHEMA, Outcome};

/// The most outcomes in one message.
pub const MAX_OUTCOMES: usize = 1000;

/// Tells what became of requests. To tell the same again changes nothing; of two different
/// outcomes of one request the later one holds.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct OutcomesRequest {
    /// Version of the schema: [`SCHEMA`](super::SCHEMA).
    pub schema: u32,
    /// What became of them.
    #[serde(deserialize_with = "bounded::<_, _, MAX_OUTCOMES>")]
    #[cfg_attr(feature = "openapi", schema(max_items = 1_000))]
    pub outcomes: Vec<OutcomeReport>,
}

/// Tells what became of one request.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct OutcomeReport {
    /// The decision that deployed it.
    #[cfg_attr(feature = "openapi", schema(value_type = String, pattern = "^0?[0-9]{1,19}$"))]
    pub decision: DecisionId,
    /// Its number.
    pub request: u64,
    /// Whether it was answered; a request that failed or was given up was not.
    pub answered: bool,
    /// How long its users waited, where it was answered.
    #[serde(
        default,
        skip_serializing_if = "Option::is_none",
        deserialize_with = "present"
    )]
    #[cfg_attr(feature = "openapi", schema(minimum = 0))]
    pub response_s: Option<f64>,
    /// Whether its deadline was missed.
    pub late: bool,
}

/// Answers an [`OutcomesRequest`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct OutcomesResponse {
    /// Version of the schema: [`SCHEMA`](super::SCHEMA).
    pub schema: u32,
    /// Outcomes that were written down.
    pub recorded: u64,
    /// Outcomes that were known already.
    pub known: u64,
}

impl OutcomesRequest {
    /// Reads a request.
    ///
    /// # Errors
    ///
    /// If it is not JSON, not of the schema or contradicts itself; the error names the field.
    pub fn from_json(json: &[u8]) -> Result<Self, WireError> {
        let request: Self = from_json(json)?;
        check_schema(request.schema)?;
        for (i, report) in request.outcomes.iter().enumerate() {
            report.check(i)?;
        }
        Ok(request)
    }
}

impl OutcomeReport {
    fn check(&self, position: usize) -> Result<(), WireError> {
        let problem = match (self.answered, self.response_s) {
            (true, None) => "is missing, though the request was answered",
            (false, Some(_)) => "is there, though the request was not answered",
            (true, Some(response_s)) if response_s < 0.0 => "must not be negative",
            _ => return Ok(()),
        };
        Err(WireError {
            kind: WireErrorKind::Inconsistent,
            field: format!("outcomes[{position}].response_s"),
            problem: problem.into(),
        })
    }
}

impl From<OutcomeReport> for Outcome {
    fn from(report: OutcomeReport) -> Self {
        Self {
            schema: ENTRY_SCHEMA,
            decision: report.decision,
            request: report.request,
            answered: report.answered,
            response_s: report.response_s,
            late: report.late,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn outcomes_are_read_and_errors_name_the_field() {
        let good = r#"{"schema":1,"outcomes":[{"decision":"42","request":7,"answered":true,"response_s":0.5,"late":false}]}"#;
        let read = OutcomesRequest::from_json(good.as_bytes()).expect("of the schema");
        assert_eq!(Outcome::from(read.outcomes[0]).decision, DecisionId(42));
        for (from, to, field) in [
            ("\"schema\":1", "\"schema\":2", "schema"),
            ("\"42\"", "\"x\"", "outcomes[0].decision"),
            ("\"42\"", "42", "outcomes[0].decision"),
            ("0.5", "-0.5", "outcomes[0].response_s"),
            ("0.5", "null", "outcomes[0].response_s"),
            ("true", "false", "outcomes[0].response_s"),
            ("\"response_s\":0.5,", "", "outcomes[0].response_s"),
            ("\"late\"", "\"tardy\"", "outcomes[0].tardy"),
        ] {
            let wrong = good.replace(from, to);
            let error = OutcomesRequest::from_json(wrong.as_bytes()).expect_err("wrong");
            assert_eq!(error.field, field, "{error}");
        }
        let one = &good[good.find("{\"decision").expect("there")..good.len() - 2];
        let many = vec![one; MAX_OUTCOMES + 1].join(",");
        let wrong = format!("{{\"schema\":1,\"outcomes\":[{many}]}}");
        let error = OutcomesRequest::from_json(wrong.as_bytes()).expect_err("too many");
        assert!(error.problem.contains("more than 1000"), "{error}");
    }
}
