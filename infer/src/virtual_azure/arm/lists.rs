//! Lists, page by page.

use serde_json::{Value, json};

use crate::virtual_azure::answer::{Answer, Call, Denial};
use crate::virtual_azure::cloud::{Cloud, Context};
use crate::virtual_azure::machine::MachineKey;

impl Cloud {
    /// A page of `entries`, sorted by key, each with its key.
    pub(super) fn page<K: AsRef<str>>(
        &self,
        call: &Call,
        entries: Vec<(K, Value)>,
    ) -> Result<Answer, Denial> {
        let after = call.parameter("$skiptoken");
        let mut left = entries
            .into_iter()
            .filter(|(key, _)| after.is_none_or(|after| key.as_ref() > after))
            .peekable();
        let mut page = Vec::new();
        let mut last = None;
        while let Some((key, value)) = left.next_if(|_| page.len() < self.page_size) {
            page.push(value);
            last = Some(key);
        }
        let mut body = json!({"value": page});
        if let (Some(last), true) = (last, left.peek().is_some()) {
            let mut query = url::form_urlencoded::Serializer::new(String::new());
            let others = call.query.iter().filter(|(name, _)| *name != "$skiptoken");
            query.extend_pairs(others);
            query.append_pair("$skiptoken", last.as_ref());
            let link = format!("{}{}?{}", call.base, call.path, query.finish());
            body["nextLink"] = json!(link);
        }
        Ok(Answer::ok(body))
    }

    /// The VMs of the subscription, the resource group or a location.
    pub(super) fn list_vms(
        &self,
        call: &Call,
        location: Option<&str>,
        context: &Context,
        in_group: bool,
    ) -> Result<Answer, Denial> {
        let expand = call.parameter("$expand").unwrap_or_default();
        let filter = call.parameter("$filter");
        let expands = expand.eq_ignore_ascii_case("instanceview");
        if expands && filter.is_none() {
            let problem = "instanceView can only be expanded where a $filter is given; use \
                           statusOnly=true on the subscription, or ask each VM";
            return Err(Denial::invalid("$expand", problem));
        }
        if let Some(filter) = filter
            && !filter.to_lowercase().contains("virtualmachinescaleset/id")
        {
            let problem = "only 'virtualMachineScaleSet/id' can be filtered by";
            return Err(Denial::invalid("$filter", problem));
        }
        let status_only = call.parameter("statusonly") == Some("true") && !in_group;
        let as_of = self.as_of(context);
        let entries = self
            .machines
            .iter()
            .filter_map(|(key, machine)| {
                let MachineKey::Vm(name) = key else {
                    return None;
                };
                let here = location.is_none_or(|l| self.location_of(machine.host) == l);
                // No VM that stands alone belongs to a scale set.
                let listed = here && filter.is_none() && machine.created <= as_of;
                listed.then(|| (name, self.vm_body(machine, as_of, status_only)))
            })
            .collect();
        self.page(call, entries)
    }

    /// The scale sets of the subscription, the resource group or a location.
    pub(super) fn list_sets(&self, call: &Call, location: Option<&str>) -> Result<Answer, Denial> {
        let entries = self
            .sets
            .iter()
            .map(|(key, set)| (key, self.set_body(key, set)))
            .filter(|(_, body)| location.is_none_or(|l| body["location"] == l))
            .collect();
        self.page(call, entries)
    }

    /// All resources, in short.
    pub(super) fn list_resources(&self, call: &Call, context: &Context) -> Result<Answer, Denial> {
        let as_of = self.as_of(context);
        let wanted = call.parameter("$filter").unwrap_or_default().to_lowercase();
        let short = |full: &Value| {
            let mut short = json!({});
            for field in ["id", "name", "type", "location", "tags"] {
                short[field] = full[field].clone();
            }
            short
        };
        let mut entries: Vec<(String, Value)> = Vec::new();
        for (key, machine) in &self.machines {
            if matches!(key, MachineKey::Vm(_)) && machine.created <= as_of {
                let full = self.vm_body(machine, as_of, false);
                entries.push((key.to_string(), short(&full)));
            }
        }
        for (key, set) in &self.sets {
            entries.push((key.clone(), short(&self.set_body(key, set))));
        }
        entries.retain(|(_, body)| {
            let kind = body["type"].as_str().unwrap_or_default().to_lowercase();
            wanted.is_empty() || wanted == format!("resourcetype eq '{kind}'")
        });
        entries.sort_by(|a, b| a.0.cmp(&b.0));
        self.page(call, entries)
    }
}
