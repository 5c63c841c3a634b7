//! Asynchronous operations: how their calls are answered, and how they are polled.

use serde_json::{Value, json};

use crate::virtual_azure::answer::{Answer, Call, Denial};
use crate::virtual_azure::cloud::Cloud;
use crate::virtual_azure::operations::{Operation, OperationId};

impl Cloud {
    /// Adds to an answer where its operation can be polled.
    pub(super) fn with_operation(&self, answer: Answer, call: &Call, id: OperationId) -> Answer {
        let Some(operation) = self.operations.get(id) else {
            return answer;
        };
        let version = call.parameter("api-version").unwrap_or("2024-07-01");
        let version: String = url::form_urlencoded::byte_serialize(version.as_bytes()).collect();
        let status = format!(
            "{}/subscriptions/{}/providers/Microsoft.Compute/locations/{}/operations/{id}\
             ?api-version={version}",
            call.base, self.subscription, operation.location
        );
        let mut answer = answer.with("azure-asyncoperation", status.clone());
        if call.method == "POST" || call.method == "DELETE" {
            answer = answer.with("location", format!("{status}&monitor=true"));
        }
        answer.after(self.clock.poll())
    }

    /// `GET …/operations/{id}`, by the one header or the other.
    pub(super) fn poll(&mut self, call: &Call, id: &str) -> Result<Answer, Denial> {
        let found = OperationId::parse(id).and_then(|id| self.operations.get(id));
        let Some(operation) = found else {
            let message = format!("The operation '{id}' was not found.");
            return Err(Denial::new(404, "NotFound", message));
        };
        if call.parameter("monitor").is_some() {
            return self.monitor(call, operation);
        }
        let answer = Answer::ok(self.operation_body(operation));
        if operation.ended().is_some() {
            return Ok(answer);
        }
        Ok(answer.after(self.clock.poll()))
    }

    /// `Location`: accepted while the operation is under way, then its result.
    fn monitor(&self, call: &Call, operation: &Operation) -> Result<Answer, Denial> {
        match operation.ended() {
            None => {
                let answer = Answer::of(202, None);
                let here = format!("{}{}?{}", call.base, call.path, query_of(call));
                Ok(answer.with("location", here).after(self.clock.poll()))
            }
            Some((_, Ok(()))) => Ok(match &operation.output {
                Some(output) => Answer::ok(output.clone()),
                None => Answer::of(200, None),
            }),
            Some((_, Err(denial))) => Err(denial.clone()),
        }
    }

    /// `Azure-AsyncOperation`: how far it is, in the body.
    fn operation_body(&self, operation: &Operation) -> Value {
        let mut body = json!({
            "startTime": self.time(operation.started).to_string(),
            "name": operation.id.to_string(),
            "status": "InProgress",
        });
        if let Some((at, outcome)) = operation.ended() {
            body["endTime"] = json!(self.time(at).to_string());
            match outcome {
                Ok(()) => {
                    body["status"] = json!("Succeeded");
                    if let Some(output) = &operation.output {
                        body["properties"] = json!({"output": output});
                    }
                }
                Err(denial) => {
                    let canceled = denial.code == "OperationPreempted";
                    body["status"] = json!(if canceled { "Canceled" } else { "Failed" });
                    body["error"] = denial.error();
                }
            }
        }
        body
    }
}

fn query_of(call: &Call) -> String {
    let mut query = url::form_urlencoded::Serializer::new(String::new());
    query.extend_pairs(&call.query);
    query.finish()
}
