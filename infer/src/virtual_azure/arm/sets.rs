//! Calls about one scale set and its instances.

use serde_json::Value;

use crate::virtual_azure::answer::{Answer, Call, Denial};
use crate::virtual_azure::cloud::{Cloud, Context};
use crate::virtual_azure::machine::{Machine, MachineKey};
use crate::virtual_azure::operations::Action;
use crate::virtual_azure::scale_sets::ScaleSet;

use super::vms::{check_match, read_tags};

/// The most instances that a scale set may be asked to have.
const MOST_INSTANCES: u64 = 100_000;

impl Cloud {
    /// Calls below `…/virtualMachineScaleSets/{name}`; `name` is in lower case.
    pub(super) fn set(
        &mut self,
        call: &Call,
        name: &str,
        path: &[&str],
        ctx: &Context,
    ) -> Result<Answer, Denial> {
        let at = self.as_of(ctx);
        let set = self.find_set(name)?;
        match (call.method.as_str(), path) {
            ("GET", []) => {
                let etag = format!("\"{}\"", set.version);
                Ok(Answer::ok(self.set_body(name, set)).with("etag", etag))
            }
            ("GET", ["instanceview"]) => Ok(Answer::ok(self.set_view(name, set, at))),
            ("PATCH" | "PUT", []) => self.patch_set(call, name, ctx),
            ("GET", ["virtualmachines"]) => self.list_instances(call, name, ctx),
            ("POST", [verb]) => {
                let action = action_of(verb).ok_or_else(|| super::no_route(call))?;
                let numbers = instance_ids(&call.json_or_empty()?)?;
                if action == Action::Delete && numbers.is_none() {
                    return Err(Denial::invalid("instanceIds", "is missing"));
                }
                let id = self.act_on_instances(name, numbers, action, ctx)?;
                Ok(self.with_operation(Answer::of(202, None), call, id))
            }
            (_, ["virtualmachines", number, rest @ ..]) => {
                self.instance(call, (name, number), rest, ctx)
            }
            _ => Err(super::no_route(call)),
        }
    }

    fn find_set(&self, name: &str) -> Result<&ScaleSet, Denial> {
        let kind = "Microsoft.Compute/virtualMachineScaleSets";
        let missing = || Denial::missing(kind, name, &self.resource_group);
        self.sets.get(name).ok_or_else(missing)
    }

    /// Changes capacity and tags.
    fn patch_set(&mut self, call: &Call, name: &str, ctx: &Context) -> Result<Answer, Denial> {
        let body = call.json_or_empty()?;
        if !body.is_object() {
            return Err(Denial::invalid("body", "must be an object"));
        }
        let tags = read_tags(&body)?;
        let capacity = capacity_of(&body)?;
        let set = self.find_set(name)?;
        check_match(call, Some(format!("\"{}\"", set.version)))?;
        if let Some(size) = body["sku"]["name"].as_str()
            && self.find_size(size) != Some(set.kind.0)
        {
            let message = "Changing property 'sku.name' is not allowed.";
            return Err(Denial::new(409, "PropertyChangeNotAllowed", message).about("sku.name"));
        }
        let id = match capacity {
            Some(capacity) => Some(self.set_capacity(name, capacity, ctx)?),
            None => None,
        };
        if let (Some(tags), Some(set)) = (tags, self.sets.get_mut(name)) {
            set.tags = tags;
            set.version += 1;
        }
        let set = self.find_set(name)?;
        let answer = Answer::ok(self.set_body(name, set));
        Ok(match id {
            Some(id) => self.with_operation(answer, call, id),
            None => answer,
        })
    }

    fn list_instances(&self, call: &Call, name: &str, ctx: &Context) -> Result<Answer, Denial> {
        let at = self.as_of(ctx);
        let set = self.find_set(name)?;
        let view = expands(call);
        let entries = self
            .instances(name)
            .into_iter()
            .filter_map(|key| {
                let machine = self.machines.get(&key).filter(|m| m.created <= at)?;
                let MachineKey::Instance(_, number) = key else {
                    return None;
                };
                let body = self.instance_body((set, number), machine, at, view);
                Some((format!("{number:010}"), body))
            })
            .collect();
        self.page(call, entries)
    }

    fn instance(
        &mut self,
        call: &Call,
        (name, number): (&str, &str),
        path: &[&str],
        ctx: &Context,
    ) -> Result<Answer, Denial> {
        let at = self.as_of(ctx);
        let number = parse_number(number)?;
        let key = MachineKey::Instance(name.into(), number);
        let found = self.machines.get(&key);
        let machine: &Machine = found.ok_or_else(|| {
            let message =
                format!("The entity was not found: instance {number} of the scale set {name}.");
            Denial::new(404, "InstanceNotFound", message)
        })?;
        let action = match (call.method.as_str(), path) {
            ("GET", []) => {
                let set = self.find_set(name)?;
                let body = self.instance_body((set, number), machine, at, expands(call));
                return Ok(Answer::ok(body));
            }
            ("GET", ["instanceview"]) => {
                return Ok(Answer::ok(self.instance_view(machine, at)));
            }
            ("DELETE", []) => Action::Delete,
            ("POST", [verb]) => action_of(verb)
                .filter(|action| *action != Action::Delete)
                .ok_or_else(|| super::no_route(call))?,
            _ => return Err(super::no_route(call)),
        };
        let id = self.begin(&key, action, ctx)?;
        Ok(self.with_operation(Answer::of(202, None), call, id))
    }
}

fn expands(call: &Call) -> bool {
    let expand = call.parameter("$expand").unwrap_or_default();
    expand.to_lowercase().contains("instanceview")
}

fn action_of(verb: &str) -> Option<Action> {
    Some(match verb {
        "start" => Action::Start,
        "deallocate" => Action::Deallocate,
        "poweroff" => Action::PowerOff,
        "restart" => Action::Restart,
        "delete" => Action::Delete,
        _ => return None,
    })
}

fn parse_number(text: &str) -> Result<u32, Denial> {
    text.parse()
        .map_err(|_| Denial::invalid("instanceId", format!("'{text}' is no instance")))
}

/// The instances that a body names; all if `None`.
fn instance_ids(body: &Value) -> Result<Option<Vec<u32>>, Denial> {
    let ids = match body.get("instanceIds") {
        None | Some(Value::Null) => return Ok(None),
        Some(Value::Array(ids)) => ids,
        Some(_) => return Err(Denial::invalid("instanceIds", "must be a list")),
    };
    let mut numbers = Vec::with_capacity(ids.len());
    for id in ids {
        match id.as_str() {
            Some("*") => return Ok(None),
            Some(text) => numbers.push(parse_number(text)?),
            None => return Err(Denial::invalid("instanceIds", "must be texts")),
        }
    }
    Ok(Some(numbers))
}

/// The capacity that a body asks for.
fn capacity_of(body: &Value) -> Result<Option<usize>, Denial> {
    let value = match body.get("sku").and_then(|sku| sku.get("capacity")) {
        None | Some(Value::Null) => return Ok(None),
        Some(value) => value,
    };
    let found = value.as_u64().filter(|found| *found <= MOST_INSTANCES);
    let found = found.and_then(|found| usize::try_from(found).ok());
    let problem = format!("must be a whole number up to {MOST_INSTANCES}, found {value}");
    found
        .map(Some)
        .ok_or_else(|| Denial::invalid("sku.capacity", problem))
}
