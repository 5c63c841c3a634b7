//! The LLM trace as the plain arrivals that the twin reads.
//!
//! One CSV line a request, sorted by time:
//! `time_s,application,context_tokens,generated_tokens`.
//! Times are seconds since the first request, written exactly (up to nine decimals); applications
//! are `code` and `conversation`.

use std::fmt::Write;

use crate::azure_llm::LlmRequest;

/// The first line of an arrivals file.
pub const HEADER: &str = "time_s,application,context_tokens,generated_tokens";

/// The arrivals file of `requests`, which are sorted by arrival as every reader here returns them.
#[must_use]
pub fn to_csv(requests: &[LlmRequest]) -> String {
    let mut csv = String::from(HEADER);
    csv.push('\n');
    for request in requests {
        push_seconds(&mut csv, request.arrival_ns);
        // Writing to a string cannot fail.
        let _ = writeln!(
            csv,
            ",{},{},{}",
            request.service, request.context_tokens, request.generated_tokens
        );
    }
    csv
}

/// Appends nanoseconds as seconds, exactly, without trailing zeros.
fn push_seconds(csv: &mut String, time_ns: u64) {
    const NS_PER_S: u64 = 1_000_000_000;
    let (seconds, fraction) = (time_ns / NS_PER_S, time_ns % NS_PER_S);
    // Writing to a string cannot fail.
    let _ = write!(csv, "{seconds}");
    if fraction > 0 {
        let digits = format!("{fraction:09}");
        csv.push('.');
        csv.push_str(digits.trim_end_matches('0'));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::azure_llm::Service;

    #[test]
    fn seconds_are_exact() {
        let request = |service, arrival_ns| LlmRequest {
            service,
            arrival_ns,
            context_tokens: 7,
            generated_tokens: 9,
        };
        let csv = to_csv(&[
            request(Service::Conversation, 0),
            request(Service::Code, 1),
            request(Service::Code, 77_299_370_000),
            request(Service::Conversation, 120_000_000_000),
        ]);
        let expected = "time_s,application,context_tokens,generated_tokens\n\
                        0,conversation,7,9\n\
                        0.000000001,code,7,9\n\
                        77.29937,code,7,9\n\
                        120,conversation,7,9\n";
        assert_eq!(csv, expected);
    }
}
