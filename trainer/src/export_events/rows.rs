//! Rows of migrations, incidents and containers.

use datasets::table::Columns;
use twin::events::{Event, MigrationOutcome};
use twin::migration::{Cause, Step, StrategyKind};

/// A migration that was ordered.
pub(super) struct MigrationRow {
    pub(super) request: u64,
    pub(super) fragment: String,
    pub(super) from: String,
    pub(super) to: String,
    pub(super) strategy: StrategyKind,
    pub(super) started_s: f64,
    /// Absent where the log ends before it.
    pub(super) ended: Option<Ended>,
}

/// What came of a migration, and what it took.
pub(super) struct Ended {
    at_s: f64,
    outcome: MigrationOutcome,
    step: Option<Step>,
    cause: Option<Cause>,
    lost: Option<bool>,
    total_s: f64,
    downtime_s: f64,
    stall_s: f64,
    sent_mib: f64,
    fetched_mib: f64,
    rounds: u32,
}

impl Ended {
    /// What `event` says of a migration that has ended, with its request and fragment.
    pub(super) fn of(at_s: f64, event: Event) -> Option<((u64, String), Self)> {
        let Event::MigrationEnded {
            request,
            fragment,
            outcome,
            step,
            cause,
            lost,
            total_s,
            downtime_s,
            stall_s,
            sent_mib,
            fetched_mib,
            rounds,
            ..
        } = event
        else {
            return None;
        };
        let ended = Self {
            at_s,
            outcome,
            step,
            cause,
            lost,
            total_s,
            downtime_s,
            stall_s,
            sent_mib,
            fetched_mib,
            rounds,
        };
        Some(((request, fragment), ended))
    }
}

/// The name that `value` has in a log.
fn name<T: serde::Serialize>(value: T) -> String {
    match serde_json::to_value(value) {
        Ok(serde_json::Value::String(name)) => name,
        _ => String::new(),
    }
}

fn outcome(outcome: MigrationOutcome) -> &'static str {
    match outcome {
        MigrationOutcome::Succeeded => "succeeded",
        MigrationOutcome::Failed => "failed",
        MigrationOutcome::Canceled => "canceled",
        MigrationOutcome::ContainerEnded => "container-ended",
    }
}

pub(super) fn migrations(rows: &[MigrationRow]) -> Columns {
    let ended = || rows.iter().map(|row| row.ended.as_ref());
    let number = |of: fn(&Ended) -> f64| ended().map(move |ended| ended.map(of));
    let names = |of: &dyn Fn(&MigrationRow) -> Option<String>| -> Vec<Option<String>> {
        rows.iter().map(of).collect()
    };
    let strategies = names(&|row| Some(name(row.strategy)));
    let steps = names(&|row| Some(name(row.ended.as_ref()?.step?)));
    let causes = names(&|row| Some(name(row.ended.as_ref()?.cause?)));
    Columns::new(rows.len())
        .u64("request_id", rows.iter().map(|row| row.request))
        .text("fragment", rows.iter().map(|row| row.fragment.as_str()))
        .text("from_host", rows.iter().map(|row| row.from.as_str()))
        .text("to_host", rows.iter().map(|row| row.to.as_str()))
        .text(
            "strategy",
            strategies.iter().map(|s| s.as_deref().unwrap_or_default()),
        )
        .f64("started_s", rows.iter().map(|row| row.started_s))
        .optional_f64("ended_s", number(|ended| ended.at_s))
        .optional_text("outcome", ended().map(|e| Some(outcome(e?.outcome))))
        .optional_text("failed_step", steps.iter().map(Option::as_deref))
        .optional_text("cause", causes.iter().map(Option::as_deref))
        .optional_flag("progress_lost", ended().map(|e| e?.lost))
        .optional_f64("total_s", number(|ended| ended.total_s))
        .optional_f64("downtime_s", number(|ended| ended.downtime_s))
        .optional_f64("stall_s", number(|ended| ended.stall_s))
        .optional_f64("sent_mib", number(|ended| ended.sent_mib))
        .optional_f64("fetched_mib", number(|ended| ended.fetched_mib))
        .optional_u32("rounds", ended().map(|e| Some(e?.rounds)))
}

/// Something that nobody decided.
#[derive(Default)]
pub(super) struct IncidentRow {
    time_s: f64,
    kind: &'static str,
    host: Option<String>,
    from: Option<String>,
    to: Option<String>,
    request: Option<u64>,
    application: Option<String>,
    until_s: Option<f64>,
}

impl IncidentRow {
    /// The incident that `event` tells of, if it does.
    pub(super) fn of(time_s: f64, event: &Event) -> Option<Self> {
        let row = Self {
            time_s,
            ..Self::default()
        };
        Some(match event {
            Event::HostCrashed { host } => Self {
                kind: "host-crashed",
                host: Some(host.clone()),
                ..row
            },
            Event::HostSlow { host, until_s } => Self {
                kind: "host-slow",
                host: Some(host.clone()),
                until_s: Some(*until_s),
                ..row
            },
            Event::LinkDown { from, to, until_s } => Self {
                kind: "link-down",
                from: Some(from.clone()),
                to: Some(to.clone()),
                until_s: Some(*until_s),
                ..row
            },
            Event::AllocationFailed { host } => Self {
                kind: "allocation-failed",
                host: Some(host.clone()),
                ..row
            },
            Event::Withdrawn { request } => Self {
                kind: "withdrawn",
                request: Some(*request),
                ..row
            },
            Event::Rejected {
                request,
                application,
            } => Self {
                kind: "rejected",
                request: Some(*request),
                application: Some(application.clone()),
                ..row
            },
            _ => return None,
        })
    }
}

pub(super) fn incidents(rows: &[IncidentRow]) -> Columns {
    Columns::new(rows.len())
        .f64("time_s", rows.iter().map(|row| row.time_s))
        .text("kind", rows.iter().map(|row| row.kind))
        .optional_text("host", rows.iter().map(|row| row.host.as_deref()))
        .optional_text("from_site", rows.iter().map(|row| row.from.as_deref()))
        .optional_text("to_site", rows.iter().map(|row| row.to.as_deref()))
        .optional_u64("request_id", rows.iter().map(|row| row.request))
        .optional_text(
            "application",
            rows.iter().map(|row| row.application.as_deref()),
        )
        .optional_f64("until_s", rows.iter().map(|row| row.until_s))
}

/// What a container wanted and lacked in a span of time.
pub(super) struct ContainerRow {
    pub(super) container: String,
    pub(super) host: String,
    pub(super) start_s: f64,
    pub(super) end_s: f64,
    pub(super) demanded_vcpu_s: f64,
    pub(super) unmet_vcpu_s: f64,
}

pub(super) fn containers(rows: &[ContainerRow]) -> Columns {
    Columns::new(rows.len())
        .text("container", rows.iter().map(|row| row.container.as_str()))
        .text("host", rows.iter().map(|row| row.host.as_str()))
        .f64("start_s", rows.iter().map(|row| row.start_s))
        .f64("end_s", rows.iter().map(|row| row.end_s))
        .f64(
            "demanded_vcpu_s",
            rows.iter().map(|row| row.demanded_vcpu_s),
        )
        .f64("unmet_vcpu_s", rows.iter().map(|row| row.unmet_vcpu_s))
}
