//! Rows of decisions, actions and outcomes.

use datasets::table::Columns;
use twin::decision_log::{ActionRow, DecisionId, DecisionRow, OutcomeRow};
use twin::migration::StrategyKind;

use crate::export_events::name;

pub(super) fn decisions(rows: &[DecisionRow]) -> Columns {
    let each = || rows.iter();
    let count = |of: fn(&ActionRow) -> bool| {
        each().map(move |row| {
            let actions = row.actions.as_ref()?;
            Some(actions.iter().filter(|action| of(action)).count() as u64)
        })
    };
    Columns::new(rows.len())
        .u64("decision_id", each().map(|row| row.id.0))
        .u64("answered_at_ns", each().map(|row| row.at_ns))
        .optional_text(
            "world_sha256",
            each().map(|row| row.world_sha256.as_deref()),
        )
        .flag("stateless", each().map(|row| row.stateless))
        .optional_text("client", each().map(|row| row.client.as_deref()))
        .flag("candidate", each().map(|row| row.candidate))
        .text("asked_policy", each().map(|row| row.asked_policy.as_str()))
        .optional_text(
            "model_sha256",
            each().map(|row| row.model_sha256.as_deref()),
        )
        .optional_text("policy", each().map(|row| row.policy.as_deref()))
        .optional_flag("fallback", each().map(|row| row.fallback))
        .optional_text(
            "fallback_reason",
            each().map(|row| row.fallback_reason.as_deref()),
        )
        .optional_f64("outside_share", each().map(|row| row.outside_share))
        .optional_flag("searched", each().map(|row| row.searched))
        .optional_f64("decision_time_us", each().map(|row| row.decision_time_us))
        .optional_flag("boundary", each().map(|row| row.boundary))
        .optional_u64("fleet_now_ns", each().map(|row| row.now_ns))
        .optional_u64("hosts", each().map(|row| row.hosts))
        .optional_u64("requests", each().map(|row| row.requests))
        .optional_u64("waiting", each().map(|row| row.waiting))
        .optional_u64(
            "power_actions",
            count(|a| matches!(a, ActionRow::Power { .. })),
        )
        .optional_u64(
            "deployments",
            count(|a| matches!(a, ActionRow::Deploy { .. })),
        )
        .optional_u64(
            "migrations",
            count(|a| matches!(a, ActionRow::Migrate { .. })),
        )
}

pub(super) fn decisions_with_json(rows: &[DecisionRow]) -> Columns {
    decisions(rows)
        .text(
            "request_json",
            rows.iter().map(|row| row.request_json.as_str()),
        )
        .text(
            "response_json",
            rows.iter().map(|row| row.response_json.as_str()),
        )
}

/// An action; of a deployment one fragment.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct FlatAction {
    decision: DecisionId,
    kind: &'static str,
    host: Option<u32>,
    on: Option<bool>,
    request: Option<u64>,
    variant: Option<String>,
    fragment: Option<u32>,
    strategy: Option<StrategyKind>,
}

impl FlatAction {
    /// The actions of `row`.
    pub(super) fn all(row: &DecisionRow) -> Vec<Self> {
        let mut all = Vec::new();
        for action in row.actions.iter().flatten() {
            let flat = |kind| Self {
                decision: row.id,
                kind,
                host: None,
                on: None,
                request: None,
                variant: None,
                fragment: None,
                strategy: None,
            };
            match action {
                ActionRow::Power { host, on } => all.push(Self {
                    host: Some(*host),
                    on: Some(*on),
                    ..flat("power")
                }),
                ActionRow::Deploy {
                    request,
                    variant,
                    hosts,
                } => all.extend((0..).zip(hosts).map(|(fragment, host)| Self {
                    host: Some(*host),
                    request: Some(*request),
                    variant: Some(variant.clone()),
                    fragment: Some(fragment),
                    ..flat("deploy")
                })),
                ActionRow::Migrate {
                    request,
                    fragment,
                    to_host,
                    strategy,
                } => all.push(Self {
                    host: Some(*to_host),
                    request: Some(*request),
                    fragment: Some(u32::from(*fragment)),
                    strategy: *strategy,
                    ..flat("migrate")
                }),
            }
        }
        all
    }
}

pub(super) fn actions(rows: &[FlatAction]) -> Columns {
    let each = || rows.iter();
    let strategies: Vec<Option<String>> = each().map(|row| row.strategy.map(name)).collect();
    Columns::new(rows.len())
        .u64("decision_id", each().map(|row| row.decision.0))
        .text("kind", each().map(|row| row.kind))
        .optional_u32("host", each().map(|row| row.host))
        .optional_flag("on", each().map(|row| row.on))
        .optional_u64("request_id", each().map(|row| row.request))
        .optional_text("variant", each().map(|row| row.variant.as_deref()))
        .optional_u32("fragment", each().map(|row| row.fragment))
        .optional_text("strategy", strategies.iter().map(Option::as_deref))
}

pub(super) fn outcomes(rows: &[OutcomeRow]) -> Columns {
    let each = || rows.iter();
    Columns::new(rows.len())
        .u64("decision_id", each().map(|row| row.decision_id.0))
        .u64("request_id", each().map(|row| row.request_id))
        .u64("told_at_ns", each().map(|row| row.at_ns))
        .flag("answered", each().map(|row| row.answered))
        .optional_f64("response_s", each().map(|row| row.response_s))
        .flag("late", each().map(|row| row.late))
}
