//! Requests to the virtual Azure.

use axum::body::to_bytes;
use infer::virtual_azure::{InProcess, Layout, Options};

use super::support::{messages, small};

/// The most requests of one run.
const MAX_REQUESTS: usize = 24;
/// The most that the clock goes on with one request, in s.
const MAX_STEP_S: f64 = 120.0;
/// How the answer to a panic begins; faults on demand have other words.
const DEFECT: &str = "{\"error\":{\"code\":\"InternalServerError\",\"message\":\"The call failed: ";
/// The most bytes of an answer.
const MAX_ANSWER_BYTES: usize = 16 << 20;

/// Requests, separated by `---`, each a method and a target, headers, an empty line and a body: given
/// one after another to a virtual Azure. The first byte says as what hosts appear.
pub(crate) fn virtual_azure(data: &[u8]) {
    let Some((layout, data)) = data.split_first() else {
        return;
    };
    let layout = match layout {
        b's' => Layout::ScaleSets,
        b'm' => Layout::Mixed,
        _ => Layout::Vms,
    };
    let options = Options {
        layout,
        tls: false,
        page_size: 2,
        ..Options::stepped(small().clone())
    };
    let mut azure = InProcess::new(options).expect("the options are right");
    let runtime = tokio::runtime::Builder::new_current_thread().build();
    let runtime = runtime.expect("a runtime without threads");
    let token = format!("Bearer {}", azure.token("fuzz"));
    for message in messages(data, MAX_REQUESTS) {
        let Some(mut request) = message.request() else {
            continue;
        };
        if request.uri().path().ends_with("advance") && !is_short(request.body()) {
            continue;
        }
        let headers = request.headers_mut();
        if !headers.contains_key("authorization")
            && let Ok(token) = token.parse()
        {
            headers.insert("authorization", token);
        }
        let Some(response) = azure.answer(&request) else {
            continue;
        };
        let body = to_bytes(response.into_body(), MAX_ANSWER_BYTES);
        let body = runtime.block_on(body).expect("it is bounded");
        let told = String::from_utf8_lossy(&body);
        assert!(!told.starts_with(DEFECT), "{}: {told}", message.first);
    }
}

/// Whether the clock is to go on for a short time only.
fn is_short(body: &[u8]) -> bool {
    let Ok(body) = serde_json::from_slice::<serde_json::Value>(body) else {
        return true;
    };
    ["by_s", "to_s"]
        .iter()
        .filter_map(|name| body.get(name)?.as_f64())
        .all(|seconds| seconds < MAX_STEP_S)
}
