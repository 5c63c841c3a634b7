//! The Azure LLM inference trace of 2023: requests to two production services.
//!
//! The trace is published as one CSV per service (`TIMESTAMP,ContextTokens,GeneratedTokens`), from
//! Patel et al., "Splitwise: Efficient Generative LLM Inference Using Phase Splitting", ISCA 2024.
//! Timestamps have seven fractional digits and no time zone; they are read exactly, as UTC, and
//! only their differences are used.
//!
//! Left out: what the services answered, how long they took, and on which hardware; the trace does
//! not say.

use std::fmt;

use jiff::civil::DateTime;

use crate::table::{Columns, CsvRow, Fields, Frame, ParquetError, ParquetRow, ReadError};

/// One of the two services of the trace.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Service {
    /// Completes source code: long contexts, short answers.
    Code,
    /// Holds conversations: shorter contexts, longer answers.
    Conversation,
}

impl Service {
    /// The name in files: `code` or `conversation`.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Code => "code",
            Self::Conversation => "conversation",
        }
    }

    /// The service of that name.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        [Self::Code, Self::Conversation]
            .into_iter()
            .find(|service| service.name() == name)
    }
}

impl fmt::Display for Service {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// One line of the original file of one service.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TraceRow {
    /// When the request arrived, in nanoseconds since 1970-01-01 00:00, the timestamp read as UTC.
    pub timestamp_ns: i64,
    /// Tokens of the prompt.
    pub context_tokens: u32,
    /// Tokens of the answer.
    pub generated_tokens: u32,
}

/// One request to either service.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LlmRequest {
    /// The service that was asked.
    pub service: Service,
    /// When the request arrived, in nanoseconds since the first request to either service.
    pub arrival_ns: u64,
    /// Tokens of the prompt.
    pub context_tokens: u32,
    /// Tokens of the answer.
    pub generated_tokens: u32,
}

/// Joins the two services on one clock that starts at the first request to either.
///
/// The result is sorted by arrival; of requests that arrive together, `code` comes first, and
/// within a service the order of the file is kept.
#[must_use]
pub fn align(code: &[TraceRow], conversation: &[TraceRow]) -> Vec<LlmRequest> {
    let services = [(Service::Code, code), (Service::Conversation, conversation)];
    let first = services
        .iter()
        .flat_map(|(_, rows)| rows.iter())
        .map(|row| row.timestamp_ns)
        .min();
    let mut requests: Vec<LlmRequest> = services
        .iter()
        .flat_map(|(service, rows)| {
            rows.iter().map(move |row| LlmRequest {
                service: *service,
                arrival_ns: first.map_or(0, |first| row.timestamp_ns.abs_diff(first)),
                context_tokens: row.context_tokens,
                generated_tokens: row.generated_tokens,
            })
        })
        .collect();
    requests.sort_by_key(|request| (request.arrival_ns, request.service));
    requests
}

impl CsvRow for TraceRow {
    const COLUMNS: &'static [&'static str] = &["TIMESTAMP", "ContextTokens", "GeneratedTokens"];

    fn from_fields(fields: &Fields<'_>, previous: Option<&Self>) -> Result<Self, ReadError> {
        let timestamp_ns = parse_timestamp_ns(fields.text("TIMESTAMP")?).ok_or_else(|| {
            fields.unexpected("TIMESTAMP", "a time such as 2023-11-16 18:17:03.9799600")
        })?;
        if previous.is_some_and(|previous| timestamp_ns < previous.timestamp_ns) {
            let expected = "a time not before that of the record above";
            return Err(fields.unexpected("TIMESTAMP", expected));
        }
        Ok(Self {
            timestamp_ns,
            context_tokens: fields.u32("ContextTokens")?,
            generated_tokens: fields.u32("GeneratedTokens")?,
        })
    }
}

impl ParquetRow for LlmRequest {
    fn to_columns(rows: &[Self]) -> Columns {
        Columns::new(rows.len())
            .text("service", rows.iter().map(|row| row.service.name()))
            .u64("arrival_ns", rows.iter().map(|row| row.arrival_ns))
            .u32("context_tokens", rows.iter().map(|row| row.context_tokens))
            .u32(
                "generated_tokens",
                rows.iter().map(|row| row.generated_tokens),
            )
    }

    fn from_frame(frame: &Frame) -> Result<Vec<Self>, ParquetError> {
        let services = frame.text("service")?;
        let arrivals = frame.u64("arrival_ns")?;
        let context_tokens = frame.u32("context_tokens")?;
        let generated_tokens = frame.u32("generated_tokens")?;
        let mut latest = 0;
        (0..frame.height())
            .map(|row| {
                let service = Service::from_name(&services[row]).ok_or_else(|| {
                    frame.unexpected("service", row, "code or conversation", &services[row])
                })?;
                if arrivals[row] < latest {
                    let expected = format!("at least {latest}, as in the row before");
                    let found = arrivals[row].to_string();
                    return Err(frame.unexpected("arrival_ns", row, &expected, &found));
                }
                latest = arrivals[row];
                Ok(Self {
                    service,
                    arrival_ns: arrivals[row],
                    context_tokens: context_tokens[row],
                    generated_tokens: generated_tokens[row],
                })
            })
            .collect()
    }
}

/// Nanoseconds since 1970 of `YYYY-MM-DD hh:mm:ss.f…` with one to nine fractional digits.
///
/// The shape is checked here because the date parser also takes forms that the trace never has,
/// and would drop an offset without a word.
fn parse_timestamp_ns(text: &str) -> Option<i64> {
    const SHAPE: &[u8] = b"dddd-dd-dd dd:dd:dd.";
    let bytes = text.as_bytes();
    let fraction = bytes.get(SHAPE.len()..)?;
    let shaped = SHAPE.iter().zip(bytes).all(|(shape, byte)| match shape {
        b'd' => byte.is_ascii_digit(),
        literal => byte == literal,
    });
    if !shaped || !(1..=9).contains(&fraction.len()) || !fraction.iter().all(u8::is_ascii_digit) {
        return None;
    }
    let time: DateTime = text.parse().ok()?;
    let since_epoch = time.duration_since(DateTime::constant(1970, 1, 1, 0, 0, 0, 0));
    i64::try_from(since_epoch.as_nanos()).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn seven_fractional_digits_are_kept_exactly() {
        // 2023-11-16 is day 19,677 after 1970-01-01: 53 years of 365 days, 13 leap days, and 319
        // days of 2023. 19,677 · 86,400 + 18 · 3,600 + 17 · 60 + 3 = 1,700,158,623 s.
        assert_eq!(
            parse_timestamp_ns("2023-11-16 18:17:03.9799601"),
            Some(1_700_158_623_979_960_100)
        );
    }

    #[test]
    fn other_forms_of_time_are_refused() {
        for text in [
            "",
            "2023-11-16",
            "2023-11-16 18:17:03",
            "2023-11-16 18:17:03.",
            "2023-11-16T18:17:03.9",
            "2023-11-16 18:17:03.9799600+00:00",
            "2023-11-16 18:17:03.97996001234",
            "2023-13-16 18:17:03.9799600",
            "9999-11-16 18:17:03.9799600",
            "２０２３-11-16 18:17:03.9",
        ] {
            assert_eq!(parse_timestamp_ns(text), None, "{text}");
        }
    }

    #[test]
    fn services_share_the_clock_of_the_first_request() {
        let row = |timestamp_ns, context_tokens| TraceRow {
            timestamp_ns,
            context_tokens,
            generated_tokens: 1,
        };
        let requests = align(&[row(150, 1), row(170, 2)], &[row(100, 3), row(150, 4)]);
        let seen: Vec<_> = requests
            .iter()
            .map(|r| (r.arrival_ns, r.service.name(), r.context_tokens))
            .collect();
        let expected = [
            (0, "conversation", 3),
            (50, "code", 1),
            (50, "conversation", 4),
            (70, "code", 2),
        ];
        assert_eq!(seen, expected);
    }
}
