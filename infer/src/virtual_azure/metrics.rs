//! The metrics of `Microsoft.Insights`: from what the meters showed to what a client asks for.
//!
//! Bins of a minute and longer are Azure's; bins of 1 to 59 s are there too, for the last minutes,
//! since intervals of a twin are shorter than a minute. A bin in which a VM did not serve has a
//! time and no value, as in Azure. Values are there at once; Azure's come minutes late. Of a
//! subscription and a region there are the metrics of all VMs, one by one with the filter
//! `Microsoft.ResourceId eq '*'`.

use jiff::civil::DateTime;
use jiff::tz::TimeZone;
use jiff::{SignedDuration, Span, Timestamp};
use serde_json::{Map, Value, json};
use twin::ids::HostId;
use twin::units::SimTime;

use super::answer::{Answer, Call, Denial, decode};
use super::cloud::{Cloud, Context, azure_location};
use super::history::{MINUTE, Quantity, Summary};
use super::machine::MachineKey;

/// The most bins of an answer.
const MOST_BINS: i64 = 50_000;
/// What is shown where no time span is asked for.
const USUAL_SPAN: SignedDuration = SignedDuration::from_hours(1);
/// The longest bin.
const LONGEST: SignedDuration = SignedDuration::from_hours(24);

/// A metric.
#[derive(Clone, Copy, Debug)]
struct Metric {
    name: &'static str,
    unit: &'static str,
    primary: &'static str,
    quantity: Quantity,
    description: &'static str,
}

/// The metrics of a VM.
const METRICS: [Metric; 8] = [
    Metric {
        name: "Percentage CPU",
        unit: "Percent",
        primary: "Average",
        quantity: Quantity::Cpu,
        description: "The percentage of allocated compute units that are in use",
    },
    Metric {
        name: "Available Memory Bytes",
        unit: "Bytes",
        primary: "Average",
        quantity: Quantity::MemoryFree,
        description: "Amount of memory, in bytes, that nothing on the VM holds",
    },
    Metric {
        name: "CPU Credits Remaining",
        unit: "Count",
        primary: "Average",
        quantity: Quantity::Credits,
        description: "Credits available to burst; only on B-series burstable VMs",
    },
    Metric {
        name: "CPU Credits Consumed",
        unit: "Count",
        primary: "Average",
        quantity: Quantity::CreditsSpent,
        description: "Credits consumed by the VM; only on B-series burstable VMs",
    },
    Metric {
        name: "Network In Total",
        unit: "Bytes",
        primary: "Total",
        quantity: Quantity::Received,
        description: "Bytes received by the VM",
    },
    Metric {
        name: "Network Out Total",
        unit: "Bytes",
        primary: "Total",
        quantity: Quantity::Sent,
        description: "Bytes sent by the VM",
    },
    Metric {
        name: "Network In",
        unit: "Bytes",
        primary: "Total",
        quantity: Quantity::Received,
        description: "Billable bytes received by the VM (deprecated)",
    },
    Metric {
        name: "Network Out",
        unit: "Bytes",
        primary: "Total",
        quantity: Quantity::Sent,
        description: "Billable bytes sent by the VM (deprecated)",
    },
];

/// What a client asks for.
#[derive(Debug)]
struct Query {
    metrics: Vec<Metric>,
    from: Timestamp,
    until: Timestamp,
    interval: SignedDuration,
    aggregations: Vec<&'static str>,
}

/// What the metrics are of.
#[derive(Debug)]
struct Metered {
    /// The path of the resource.
    prefix: String,
    /// Its type.
    kind: &'static str,
    region: String,
    /// One entry a series: whose it is, where it is one of many, and the hosts behind it.
    parts: Vec<(Option<String>, Vec<HostId>)>,
}

/// Aggregations, as clients write them in lower case.
const AGGREGATIONS: [&str; 5] = ["average", "minimum", "maximum", "total", "count"];

impl Cloud {
    /// Calls below `{resource}/providers/Microsoft.Insights`.
    pub(super) fn insights(
        &mut self,
        call: &Call,
        resource: &[&str],
        path: &[&str],
        _: &Context,
    ) -> Result<Answer, Denial> {
        let metered = self.metered(call, resource)?;
        match (call.method.as_str(), path) {
            ("GET", ["metricdefinitions"]) => Ok(definitions(&metered)),
            ("GET", ["metricnamespaces"]) => Ok(namespaces(&metered)),
            ("GET", ["metrics"]) => Ok(self.metrics(&self.query(call)?, &metered)),
            _ => Err(Denial::new(
                404,
                "InvalidResourceType",
                "There are metrics, metricDefinitions and metricNamespaces.",
            )),
        }
    }

    /// What a call asks the metrics of.
    fn metered(&self, call: &Call, resource: &[&str]) -> Result<Metered, Denial> {
        let (prefix, _) = split_ignoring_case(&call.path, "/providers/microsoft.insights");
        let set = resource.contains(&"virtualmachinescalesets");
        let mut metered = Metered {
            prefix: prefix.into(),
            kind: if set {
                "Microsoft.Compute/virtualMachineScaleSets"
            } else {
                "Microsoft.Compute/virtualMachines"
            },
            region: String::new(),
            parts: Vec::new(),
        };
        if let ["subscriptions", _] = resource {
            let Some(region) = call.parameter("region") else {
                return Err(bad_request("region", "is missing"));
            };
            metered.region = azure_location(region);
            metered.parts = self.parts(call, &metered.region);
            return Ok(metered);
        }
        let hosts = self.hosts_of(resource)?;
        let region = hosts.first().map(|host| self.location_of(*host));
        metered.region = region.unwrap_or_default();
        metered.parts.push((None, hosts));
        Ok(metered)
    }

    /// The VMs of a region: one by one where the filter splits by resource, else together.
    fn parts(&self, call: &Call, region: &str) -> Vec<(Option<String>, Vec<HostId>)> {
        let vms = self.machines.iter().filter(|(key, machine)| {
            matches!(key, MachineKey::Vm(_)) && self.location_of(machine.host) == region
        });
        let filter = call.parameter("$filter").unwrap_or_default().to_lowercase();
        if filter.contains("microsoft.resourceid") {
            return vms
                .map(|(_, vm)| (Some(self.vm_path(&vm.name)), vec![vm.host]))
                .collect();
        }
        vec![(None, vms.map(|(_, vm)| vm.host).collect())]
    }

    /// The hosts behind a resource.
    fn hosts_of(&self, resource: &[&str]) -> Result<Vec<HostId>, Denial> {
        let at = resource
            .iter()
            .position(|part| *part == "microsoft.compute");
        let host = |key: &MachineKey| self.machines.get(key).map(|machine| machine.host);
        let found: Option<Vec<HostId>> = match at.map_or(&[][..], |at| &resource[at + 1..]) {
            ["virtualmachines", name] => host(&MachineKey::vm(name)).map(|host| vec![host]),
            ["virtualmachinescalesets", set] if self.sets.contains_key(*set) => {
                Some(self.instances(set).iter().filter_map(host).collect())
            }
            ["virtualmachinescalesets", set, "virtualmachines", number] => {
                let number = number.parse().ok();
                let key = number.map(|number| MachineKey::Instance((*set).into(), number));
                key.and_then(|key| host(&key)).map(|host| vec![host])
            }
            _ => None,
        };
        found.ok_or_else(|| {
            let name = resource.last().copied().unwrap_or_default();
            Denial::missing("Microsoft.Compute", name, &self.resource_group)
        })
    }

    fn query(&self, call: &Call) -> Result<Query, Denial> {
        let now = self.time(self.now());
        let usual_from = now.saturating_sub(USUAL_SPAN).unwrap_or(Timestamp::MIN);
        let (from, until) = match call.parameter("timespan") {
            None | Some("") => (usual_from, now),
            Some(text) => time_span(text)?,
        };
        let interval = match call.parameter("interval") {
            None | Some("" | "FULL") => SignedDuration::from_mins(1),
            Some(text) => duration("interval", text)?,
        };
        let bins = until.duration_since(from).as_nanos() / interval.as_nanos().max(1);
        if from > until || bins > i128::from(MOST_BINS) {
            let problem = format!("must be a time span of at most {MOST_BINS} intervals");
            return Err(bad_request("timespan", &problem));
        }
        let metrics = metrics_of(call.parameter("metricnames"))?;
        let mut aggregations = Vec::new();
        let asked = call.parameter("aggregation").unwrap_or_default();
        for name in asked.split(',').map(|name| name.trim().to_lowercase()) {
            match AGGREGATIONS.iter().find(|known| **known == name) {
                Some(known) => aggregations.push(*known),
                None if name.is_empty() => {}
                None => return Err(bad_request("aggregation", &format!("'{name}' is unknown"))),
            }
        }
        Ok(Query {
            metrics,
            from,
            until,
            interval,
            aggregations,
        })
    }

    fn metrics(&self, query: &Query, metered: &Metered) -> Answer {
        let list: Vec<Value> = query
            .metrics
            .iter()
            .map(|metric| {
                let prefix = &metered.prefix;
                json!({
                    "id": format!("{prefix}/providers/Microsoft.Insights/metrics/{}", metric.name),
                    "type": "Microsoft.Insights/metrics",
                    "name": {"value": metric.name, "localizedValue": metric.name},
                    "displayDescription": metric.description,
                    "unit": metric.unit,
                    "timeseries": self.all_series(query, metric, metered),
                    "errorCode": "Success",
                })
            })
            .collect();
        Answer::ok(json!({
            "cost": 0,
            "timespan": format!("{}/{}", query.from, query.until),
            "interval": written(query.interval),
            "namespace": metered.kind,
            "resourceregion": metered.region,
            "value": list,
        }))
    }

    /// One series a part.
    fn all_series(&self, query: &Query, metric: &Metric, metered: &Metered) -> Vec<Value> {
        let dimension = "Microsoft.ResourceId";
        metered
            .parts
            .iter()
            .map(|(id, hosts)| {
                let named = id.iter().map(|id| {
                    let name = json!({"value": dimension, "localizedValue": dimension});
                    json!({"name": name, "value": id})
                });
                let metadata: Vec<Value> = named.collect();
                json!({
                    "metadatavalues": metadata,
                    "data": self.series(query, metric, hosts),
                })
            })
            .collect()
    }

    /// One value a bin.
    fn series(&self, query: &Query, metric: &Metric, hosts: &[HostId]) -> Vec<Value> {
        let fine = query.interval < SignedDuration::from_mins(1);
        let length = i64::try_from(query.interval.as_nanos()).unwrap_or(i64::MAX);
        let step = length.max(1);
        let start = query.from.as_nanosecond();
        let first = start - start.rem_euclid(i128::from(step));
        let end = query.until.as_nanosecond();
        let mut data = Vec::new();
        let mut at = first;
        while at < end {
            let next = at + i128::from(step);
            let (Ok(from), Ok(until)) = (
                Timestamp::from_nanosecond(at),
                Timestamp::from_nanosecond(next),
            ) else {
                break;
            };
            let span = (self.binned(from, fine), self.binned(until, fine));
            let mut summary = Summary::none();
            for host in hosts {
                let quantity = metric.quantity;
                summary.merge(&self.history.summary(*host, quantity, span, fine));
            }
            data.push(point(from, &summary, query, metric));
            at = next;
        }
        data
    }

    /// The moment of the twin at which the bin of a virtual time begins. The twin's bins are
    /// counted from its own start, which need not be a whole minute.
    fn binned(&self, time: Timestamp, fine: bool) -> SimTime {
        let moment = self.moment(time);
        if fine {
            return moment;
        }
        // The twin's bin that begins within the client's bin belongs to it.
        SimTime(moment.0.div_ceil(MINUTE.0) * MINUTE.0)
    }
}

/// One value of a series.
fn point(from: Timestamp, summary: &Summary, query: &Query, metric: &Metric) -> Value {
    let mut point = Map::new();
    point.insert("timeStamp".into(), json!(from.to_string()));
    if summary.count > 0 {
        let primary = metric.primary.to_lowercase();
        let usual = [primary.as_str()];
        let wanted: &[&str] = if query.aggregations.is_empty() {
            &usual
        } else {
            &query.aggregations
        };
        for aggregation in wanted {
            let value = match *aggregation {
                "average" => summary.sum / f64::from(summary.count),
                "minimum" => f64::from(summary.least),
                "maximum" => f64::from(summary.most),
                "total" => summary.sum,
                _ => f64::from(summary.count),
            };
            point.insert((*aggregation).into(), json!(value));
        }
    }
    Value::Object(point)
}

fn bad_request(field: &str, problem: &str) -> Denial {
    Denial::new(400, "BadRequest", format!("{field}: {problem}")).about(field)
}

/// The metrics that a list of names asks for; the first if none is named.
fn metrics_of(names: Option<&str>) -> Result<Vec<Metric>, Denial> {
    let names = names.unwrap_or_default();
    let mut found = Vec::new();
    for name in names.split(',').map(str::trim).filter(|n| !n.is_empty()) {
        let known = METRICS
            .iter()
            .find(|metric| metric.name.eq_ignore_ascii_case(name));
        let Some(known) = known else {
            let names: Vec<&str> = METRICS.iter().map(|metric| metric.name).collect();
            let problem = format!(
                "Failed to find metric configuration for '{name}'. Valid metrics: {}",
                names.join(",")
            );
            return Err(bad_request("metricnames", &problem));
        };
        found.push(*known);
    }
    if found.is_empty() {
        found.push(METRICS[0]);
    }
    Ok(found)
}

/// Reads `start/end`, of which one may be a duration.
fn time_span(text: &str) -> Result<(Timestamp, Timestamp), Denial> {
    let wrong = |problem: &str| bad_request("timespan", problem);
    // azure-cli encodes it twice.
    let decoded = decode(text);
    let (from, until) = decoded
        .split_once('/')
        .ok_or_else(|| wrong("must be two times with a slash between"))?;
    let time = |part: &str| {
        // A plus sign that was not encoded arrives as a space; a time without a zone is in UTC.
        let text = part.trim().replace(' ', "+");
        let zoned = text.parse::<Timestamp>();
        zoned.or_else(|_| TimeZone::UTC.to_timestamp(text.parse::<DateTime>()?))
    };
    let overflow = |_: jiff::Error| wrong("is out of range");
    match (time(from), time(until)) {
        (Ok(from), Ok(until)) => Ok((from, until)),
        (Ok(from), Err(_)) => {
            let until = from
                .checked_add(duration("timespan", until)?)
                .map_err(overflow)?;
            Ok((from, until))
        }
        (Err(_), Ok(until)) => {
            let from = until
                .checked_sub(duration("timespan", from)?)
                .map_err(overflow)?;
            Ok((from, until))
        }
        (Err(_), Err(_)) => Err(wrong("must be two times of ISO 8601")),
    }
}

/// Reads a duration of ISO 8601, as `PT1M` or `P1D`, between a second and a day.
fn duration(field: &str, text: &str) -> Result<SignedDuration, Denial> {
    let wrong = || {
        let problem = "must be a duration of ISO 8601 in whole seconds up to a day, as PT1M";
        bad_request(field, problem)
    };
    let span: Span = text.parse().map_err(|_| wrong())?;
    let days = i64::from(span.get_days());
    let rest = span.days(0);
    let rest: SignedDuration = rest.try_into().map_err(|_| wrong())?;
    let days = SignedDuration::from_secs(days.saturating_mul(86_400));
    let whole = days.checked_add(rest).ok_or_else(wrong)?;
    let in_range = whole >= SignedDuration::from_secs(1) && whole <= LONGEST;
    if !in_range || whole.subsec_nanos() != 0 {
        return Err(wrong());
    }
    Ok(whole)
}

/// Writes a bin's length as Azure does.
fn written(interval: SignedDuration) -> String {
    let seconds = interval.as_secs();
    match (seconds / 3600, seconds / 60, seconds) {
        (24, _, _) => "P1D".into(),
        (hours, _, _) if hours > 0 && seconds % 3600 == 0 => format!("PT{hours}H"),
        (_, minutes, _) if minutes > 0 && seconds % 60 == 0 => format!("PT{minutes}M"),
        _ => format!("PT{seconds}S"),
    }
}

fn definitions(metered: &Metered) -> Answer {
    let (prefix, kind) = (&metered.prefix, metered.kind);
    let grains = [
        "PT1M", "PT5M", "PT15M", "PT30M", "PT1H", "PT6H", "PT12H", "P1D",
    ];
    let availabilities = grains.map(|grain| json!({"timeGrain": grain, "retention": "P93D"}));
    let list: Vec<Value> = METRICS
        .iter()
        .map(|metric| {
            json!({
                "id": format!(
                    "{prefix}/providers/Microsoft.Insights/metricdefinitions/{}", metric.name
                ),
                "resourceId": prefix,
                "namespace": kind,
                "name": {"value": metric.name, "localizedValue": metric.name},
                "displayDescription": metric.description,
                "isDimensionRequired": false,
                "unit": metric.unit,
                "primaryAggregationType": metric.primary,
                "supportedAggregationTypes": ["Average", "Minimum", "Maximum", "Total", "Count"],
                "metricAvailabilities": availabilities,
            })
        })
        .collect();
    Answer::ok(json!({"value": list}))
}

fn namespaces(metered: &Metered) -> Answer {
    let (prefix, kind) = (&metered.prefix, metered.kind);
    Answer::ok(json!({"value": [{
        "id": format!("{prefix}/providers/Microsoft.Insights/metricNamespaces/{kind}"),
        "type": "Microsoft.Insights/metricNamespaces",
        "name": kind,
        "classification": "Platform",
        "properties": {"metricNamespaceName": kind},
    }]}))
}

/// What stands before and after `needle`, which is in lower case.
fn split_ignoring_case<'a>(text: &'a str, needle: &str) -> (&'a str, &'a str) {
    let at = text.to_ascii_lowercase().rfind(needle);
    at.map_or((text, ""), |at| text.split_at(at))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_read_and_written() {
        for (text, seconds, again) in [
            ("PT1M", 60, "PT1M"),
            ("PT60S", 60, "PT1M"),
            ("PT5S", 5, "PT5S"),
            ("PT1H", 3600, "PT1H"),
            ("P1D", 86_400, "P1D"),
            ("PT90M", 5400, "PT90M"),
        ] {
            let read = duration("interval", text).expect(text);
            assert_eq!(read.as_secs(), seconds, "{text}");
            assert_eq!(written(read), again);
        }
        for wrong in [
            "", "1M", "PT0S", "-PT1M", "P2D", "PT0.5S", "P1Y", "P1M", "x",
        ] {
            assert!(duration("interval", wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn time_spans_have_two_ends() {
        let (from, until) = time_span("2026-01-01T00:00:00Z/PT1H").expect("a span");
        assert_eq!(until.duration_since(from), SignedDuration::from_hours(1));
        let (from, until) =
            time_span("2026-01-01T00:00:00 00:00/2026-01-01T01:00:00Z").expect("a span");
        assert_eq!(until.duration_since(from), SignedDuration::from_hours(1));
        let twice = "2026-01-01T00%3A00%3A00.5%2F2026-01-01T01%3A00%3A00.5";
        let (from, until) = time_span(twice).expect("a span");
        assert_eq!(until.duration_since(from), SignedDuration::from_hours(1));
        for wrong in [
            "",
            "x",
            "x/y",
            "2026-01-01T00:00:00Z",
            "2026-01-01T00:00:00Z/x",
        ] {
            assert!(time_span(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn names_of_metrics_are_checked() {
        let found = metrics_of(Some("percentage cpu, Network In Total")).expect("known");
        assert_eq!(found.len(), 2);
        assert_eq!(metrics_of(None).expect("the first").len(), 1);
        let error = metrics_of(Some("Prcentage CPU")).expect_err("unknown");
        assert!(
            error.message.contains("Percentage CPU"),
            "{}",
            error.message
        );
    }
}
