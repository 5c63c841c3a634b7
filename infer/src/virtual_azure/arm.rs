//! The Resource Manager: from a call to an answer.
//!
//! Every call may meet a fault and is throttled, reads and writes apart; then it goes to the
//! resource that it names. Paths and names do not tell cases apart.

mod lists;
mod places;
mod polls;
mod render;
mod sets;
mod tags;
mod vms;

use twin::units::SimTime;

use super::answer::{Answer, Call, Denial};
use super::cloud::{Cloud, Context, azure_location};
use super::faults::{CallKind, FaultKind, Met};
use super::machine::MachineKey;
use super::throttle::Scope;

/// The namespace of VMs, in lower case.
const COMPUTE: &str = "microsoft.compute";
/// The namespace of metrics, in lower case.
const INSIGHTS: &str = "microsoft.insights";
/// How long a client should wait in a storm, in virtual s.
const STORM_WAIT_S: f64 = 1.0;

impl Cloud {
    /// Answers `call`.
    pub(super) fn handle(&mut self, call: &Call) -> Answer {
        let lower: Vec<String> = call.segments.iter().map(|s| s.to_lowercase()).collect();
        let path: Vec<&str> = lower.iter().map(String::as_str).collect();
        let met = self.faults.meet(kind_of(call, &path));
        let mut answer = self
            .meet(call, &path, met)
            .unwrap_or_else(|denial| denial.answer());
        answer.lost = met.is_some_and(|met| met.kind == FaultKind::LostResponse);
        answer
    }

    fn meet(&mut self, call: &Call, path: &[&str], met: Option<Met>) -> Result<Answer, Denial> {
        let kind = met.map(|met| met.kind);
        let detail = met.map_or(0.0, |met| met.detail);
        match kind {
            Some(FaultKind::TooManyRequests) => return Err(self.turned_away(STORM_WAIT_S)),
            Some(FaultKind::ServerError) => return Err(server_error(detail)),
            _ => {}
        }
        let left = self.throttle(call, path)?;
        let context = Context {
            caller: call.caller.clone(),
            client_request: call.client_request.clone(),
            fault: met,
            duplicate: false,
        };
        let mut answer = self.dispatch(call, path, &context);
        if kind == Some(FaultKind::Duplicated) {
            let again = Context {
                duplicate: true,
                ..context
            };
            // As where a proxy sends a call again: the client sees the second answer, unless the
            // second finds that the first has done it all.
            answer = self.dispatch(call, path, &again).or(answer);
        }
        let mut answer = answer?;
        if let Some((header, left)) = left {
            answer = answer.with(header, left.to_string());
        }
        Ok(answer)
    }

    fn turned_away(&self, wait_s: f64) -> Denial {
        let mut denial = Denial::new(
            429,
            "TooManyRequests",
            "The request is being throttled as the limit has been reached for the operation type. \
             Retry after the time that the header says.",
        );
        denial.wait = Some(self.clock.real(wait_s));
        denial
    }

    /// Takes one from each bucket that the call is counted in.
    fn throttle(
        &mut self,
        call: &Call,
        path: &[&str],
    ) -> Result<Option<(&'static str, u64)>, Denial> {
        if !self.throttled {
            return Ok(None);
        }
        let vm = vm_of(path);
        let region = vm
            .and_then(|name| self.machines.get(&MachineKey::vm(name)))
            .map_or_else(String::new, |machine| self.location_of(machine.host));
        let scope = match call.method.as_str() {
            "GET" | "HEAD" => Scope::Reads(region),
            "DELETE" => Scope::Deletes(region),
            _ => Scope::Writes(region),
        };
        let now = self.now();
        let mut take = |scope: &Scope| self.throttle.take(scope, now);
        let mut left = take(&scope);
        if let (Ok(_), false, Some(name)) = (left, call.reads(), vm)
            && let Err(away) = take(&Scope::Updates(name.into()))
        {
            left = Err(away);
        }
        match left {
            Ok(left) => Ok(Some((scope.header(), left))),
            Err(away) => Err(self.turned_away(away.wait_s)),
        }
    }

    /// The moment as of which a call reads.
    fn as_of(&self, context: &Context) -> SimTime {
        match context.fault {
            Some(met) if met.kind == FaultKind::StaleRead => {
                let age_s = met.detail * self.faults.settings().stale_s;
                SimTime(self.now().0.saturating_sub(SimTime::from_seconds(age_s).0))
            }
            _ => self.now(),
        }
    }

    fn dispatch(&mut self, call: &Call, path: &[&str], ctx: &Context) -> Result<Answer, Denial> {
        if let Some(at) = path.windows(2).rposition(|p| p == ["providers", INSIGHTS]) {
            self.check_scope(path)?;
            return self.insights(call, &path[..at], &path[at + 2..], ctx);
        }
        match (call.method.as_str(), path) {
            ("GET", ["tenants"]) => Ok(self.tenants()),
            ("GET", ["providers"]) => Ok(self.providers(call)),
            ("GET", ["subscriptions"]) => Ok(self.subscriptions(call)),
            (_, ["subscriptions", _, rest @ ..]) => {
                self.check_scope(path)?;
                self.in_subscription(call, rest, ctx)
            }
            _ => Err(no_route(call)),
        }
    }

    /// Whether subscription and resource group of a path are the ones that there are.
    fn check_scope(&self, path: &[&str]) -> Result<(), Denial> {
        let same = |known: &str, named: &str| known.eq_ignore_ascii_case(named);
        if let ["subscriptions", named, ..] = path
            && !same(&self.subscription, named)
        {
            let message = format!("The subscription '{named}' could not be found.");
            return Err(Denial::new(404, "SubscriptionNotFound", message));
        }
        if let ["subscriptions", _, "resourcegroups", named, ..] = path
            && !same(&self.resource_group, named)
        {
            let message = format!("Resource group '{named}' could not be found.");
            return Err(Denial::new(404, "ResourceGroupNotFound", message));
        }
        Ok(())
    }

    /// Calls below `/subscriptions/{subscription}`.
    fn in_subscription(
        &mut self,
        call: &Call,
        path: &[&str],
        ctx: &Context,
    ) -> Result<Answer, Denial> {
        let method = call.method.as_str();
        match (method, path) {
            ("GET", []) => Ok(Answer::ok(self.subscription_body())),
            ("GET", ["locations"]) => Ok(self.locations()),
            ("GET", ["providers"]) => Ok(self.providers(call)),
            ("GET", ["providers", namespace]) => self.provider(namespace),
            ("POST", ["providers", namespace, "register"]) => self.provider(namespace),
            ("GET", ["resourcegroups"]) => Ok(self.groups()),
            ("HEAD", ["resourcegroups", _]) => Ok(Answer::of(204, None)),
            ("GET" | "PUT" | "PATCH", ["resourcegroups", _]) => Ok(Answer::ok(self.group_body())),
            (
                _,
                [
                    "resourcegroups",
                    _,
                    "providers",
                    "microsoft.resources",
                    "tags",
                    "default",
                ],
            ) => self.group_tags(call),
            ("GET", ["resources"] | ["resourcegroups", _, "resources"]) => {
                self.list_resources(call, ctx)
            }
            (_, ["providers", COMPUTE, rest @ ..]) => self.compute(call, rest, ctx, false),
            (_, ["resourcegroups", _, "providers", COMPUTE, rest @ ..]) => {
                self.compute(call, rest, ctx, true)
            }
            _ => Err(no_route(call)),
        }
    }

    /// Calls of `Microsoft.Compute`.
    fn compute(
        &mut self,
        call: &Call,
        path: &[&str],
        ctx: &Context,
        in_group: bool,
    ) -> Result<Answer, Denial> {
        match (call.method.as_str(), path) {
            ("GET", ["virtualmachines"]) => self.list_vms(call, None, ctx, in_group),
            ("GET", ["virtualmachinescalesets"]) => self.list_sets(call, None),
            ("GET", ["locations", location, "virtualmachines"]) => {
                self.list_vms(call, Some(&azure_location(location)), ctx, in_group)
            }
            ("GET", ["locations", location, "virtualmachinescalesets"]) => {
                self.list_sets(call, Some(&azure_location(location)))
            }
            ("GET", ["locations", location, "vmsizes"]) => self.sizes(location),
            ("GET", ["locations", location, "usages"]) => self.usages(location),
            ("GET", ["locations", _, "operations", id]) => self.poll(call, id),
            (_, ["virtualmachines", name, rest @ ..]) if in_group => self.vm(call, name, rest, ctx),
            (_, ["virtualmachinescalesets", name, rest @ ..]) if in_group => {
                self.set(call, name, rest, ctx)
            }
            _ => Err(no_route(call)),
        }
    }

    /// The start of the path of everything in the resource group.
    fn group_path(&self) -> String {
        format!(
            "/subscriptions/{}/resourceGroups/{}",
            self.subscription, self.resource_group
        )
    }
}

/// What kind of call this is, for faults.
fn kind_of(call: &Call, path: &[&str]) -> CallKind {
    match (call.method.as_str(), path.last().copied()) {
        ("GET" | "HEAD", _) if path.contains(&"operations") => CallKind::Poll,
        ("GET" | "HEAD", _) => CallKind::Read,
        ("PUT", _) | ("POST", Some("start" | "restart")) => CallKind::Allocation,
        ("PATCH", _) if path.contains(&"virtualmachinescalesets") => CallKind::Allocation,
        ("PATCH", _) => CallKind::Write,
        _ => CallKind::Action,
    }
}

/// The VM that a path is about.
fn vm_of<'a>(path: &[&'a str]) -> Option<&'a str> {
    let at = path.iter().position(|part| *part == "virtualmachines")?;
    path.get(at + 1).copied()
}

fn server_error(detail: f64) -> Denial {
    let (status, code, message) = match detail {
        d if d < 0.25 => (500, "InternalServerError", "An internal error occurred."),
        d if d < 0.5 => (502, "BadGateway", "The gateway received a bad response."),
        d if d < 0.75 => (
            503,
            "ServerUnavailable",
            "The server is temporarily unavailable.",
        ),
        _ => (504, "GatewayTimeout", "The gateway did not get a response."),
    };
    Denial::new(status, code, message)
}

fn no_route(call: &Call) -> Denial {
    let known = matches!(
        call.method.as_str(),
        "GET" | "HEAD" | "PUT" | "POST" | "PATCH" | "DELETE"
    );
    if !known {
        let message = format!("The method {} is not supported.", call.method);
        return Denial::new(405, "MethodNotAllowed", message);
    }
    Denial::new(
        404,
        "InvalidResourceType",
        format!(
            "The resource type could not be found for {} {}: this virtual Azure has the VMs and \
             scale sets of Microsoft.Compute, the metrics of Microsoft.Insights, subscriptions, \
             locations, resource groups and providers.",
            call.method, call.path
        ),
    )
}

#[cfg(test)]
mod tests;
