//! Calls about one VM.

use std::collections::BTreeMap;

use serde_json::{Map, Value, json};
use twin::host::Lifecycle;

use crate::virtual_azure::answer::{Answer, Call, Denial};
use crate::virtual_azure::cloud::{Cloud, Context};
use crate::virtual_azure::machine::{HOST_TAG, Machine, MachineKey};
use crate::virtual_azure::operations::{Action, OperationId};

/// The most tags of a resource, and the most characters of their names and values (Azure's limits).
const MOST_TAGS: usize = 50;
const TAG_NAME_CHARS: usize = 512;
const TAG_VALUE_CHARS: usize = 256;
/// The most characters of the name of a VM.
const NAME_CHARS: usize = 64;
/// Fields of a VM that are secret, or of which nothing is made.
const SECRETS: [&str; 3] = ["adminPassword", "customData", "secrets"];

impl Cloud {
    /// Calls below `…/virtualMachines/{name}`.
    pub(super) fn vm(
        &mut self,
        call: &Call,
        name: &str,
        path: &[&str],
        ctx: &Context,
    ) -> Result<Answer, Denial> {
        let key = MachineKey::vm(name);
        match (call.method.as_str(), path) {
            ("GET", []) => self.get_vm(call, &key, ctx),
            ("GET", ["instanceview"]) => {
                let at = self.as_of(ctx);
                let machine = self.find_vm(&key, ctx)?;
                Ok(Answer::ok(self.view_body(machine, at)))
            }
            ("GET", ["vmsizes"]) => {
                let location = self.location_of(self.find_vm(&key, ctx)?.host);
                self.sizes(&location)
            }
            ("PUT", []) => self.put_vm(call, &key, ctx),
            ("PATCH", []) => self.patch_vm(call, &key, ctx),
            ("DELETE", []) => self.delete_vm(call, &key, ctx),
            ("POST", ["start"]) => self.act_on_vm(call, &key, Action::Start, ctx),
            ("POST", ["deallocate"]) => self.act_on_vm(call, &key, Action::Deallocate, ctx),
            ("POST", ["poweroff"]) => self.act_on_vm(call, &key, Action::PowerOff, ctx),
            ("POST", ["restart"]) => self.act_on_vm(call, &key, Action::Restart, ctx),
            ("POST", ["runcommand"]) => self.run_command(call, &key, ctx),
            _ => Err(super::no_route(call)),
        }
    }

    fn find_vm(&self, key: &MachineKey, ctx: &Context) -> Result<&Machine, Denial> {
        let at = self.as_of(ctx);
        let found = self.machines.get(key).filter(|vm| vm.created <= at);
        found.ok_or_else(|| self.no_vm(key))
    }

    fn no_vm(&self, key: &MachineKey) -> Denial {
        let kind = "Microsoft.Compute/virtualMachines";
        Denial::missing(kind, &key.to_string(), &self.resource_group)
    }

    fn get_vm(&self, call: &Call, key: &MachineKey, ctx: &Context) -> Result<Answer, Denial> {
        let view = call
            .parameter("$expand")
            .is_some_and(|expand| expand.to_lowercase().contains("instanceview"));
        let machine = self.find_vm(key, ctx)?;
        let body = self.vm_body(machine, self.as_of(ctx), view);
        Ok(Answer::ok(body).with("etag", machine.etag()))
    }

    fn act_on_vm(
        &mut self,
        call: &Call,
        key: &MachineKey,
        action: Action,
        ctx: &Context,
    ) -> Result<Answer, Denial> {
        let id = self.begin(key, action, ctx)?;
        Ok(self.with_operation(Answer::of(202, None), call, id))
    }

    fn delete_vm(
        &mut self,
        call: &Call,
        key: &MachineKey,
        ctx: &Context,
    ) -> Result<Answer, Denial> {
        let Some(machine) = self.machines.get(key) else {
            return Ok(Answer::of(204, None));
        };
        check_match(call, Some(machine.etag()))?;
        let id = self.begin(key, Action::Delete, ctx)?;
        Ok(self.with_operation(Answer::of(202, None), call, id))
    }

    /// Creates a VM, or changes the tags of one.
    fn put_vm(&mut self, call: &Call, key: &MachineKey, ctx: &Context) -> Result<Answer, Denial> {
        let body = call.json()?;
        let wanted = Wanted::read(&body)?;
        let existing = self.machines.get(key);
        check_match(call, existing.map(Machine::etag))?;
        if existing.is_some() {
            self.check_unchanged(key, &wanted)?;
            if self.never_started(key) {
                let id = self.begin(key, Action::Create, ctx)?;
                return self.created(call, key, id);
            }
            return self.update_vm(call, key, wanted, ctx);
        }
        let name = call.segments.get(7).cloned().unwrap_or_default();
        check_name(&name)?;
        let machine = self.new_vm(name, wanted)?;
        let id = self.create(machine, ctx)?;
        self.created(call, key, id)
    }

    /// Whether the creation of a VM failed, so that asking for it again is to try again.
    fn never_started(&self, key: &MachineKey) -> bool {
        let failed = |vm: &Machine| vm.failed && self.lifecycle(vm.host) == Lifecycle::Off;
        self.machines.get(key).is_some_and(failed)
    }

    fn created(&self, call: &Call, key: &MachineKey, id: OperationId) -> Result<Answer, Denial> {
        let machine = self.machines.get(key).ok_or_else(|| self.no_vm(key))?;
        let shown = self.vm_body(machine, self.now(), false);
        let answer = Answer::of(201, Some(shown)).with("etag", machine.etag());
        Ok(self.with_operation(answer, call, id))
    }

    /// A VM on a host of the wanted size and location that is not listed.
    fn new_vm(&self, name: String, wanted: Wanted) -> Result<Machine, Denial> {
        let location = wanted
            .location
            .ok_or_else(|| Denial::invalid("location", "is missing"))?;
        let site = self
            .find_site(&location)
            .ok_or_else(|| self.no_location(&location))?;
        let size_name = wanted.size.unwrap_or_default();
        let Some(size) = self.find_size(&size_name) else {
            let problem = format!(
                "The value {size_name} provided for the VM size is not valid. The valid sizes in \
                 the current region are those of {location}/vmSizes."
            );
            return Err(Denial::invalid("vmSize", problem));
        };
        let kind = (size, site);
        let offered = self.world().hosts.iter();
        if !offered.into_iter().any(|h| (h.size, h.site) == kind) {
            let message = format!(
                "The requested VM size {size_name} is currently not available in location \
                 '{location}'. Please try another size or deploy to a different location."
            );
            return Err(Denial::new(409, "SkuNotAvailable", message));
        }
        let named = wanted.tags.as_ref().and_then(|tags| tags.get(HOST_TAG));
        let hosts = &self.world().hosts;
        let preferred = named
            .and_then(|name| hosts.iter().position(|spec| spec.name == *name))
            .map(twin::ids::HostId::at);
        let mut free = self.free_hosts(kind);
        let host = match preferred {
            Some(preferred) => free.find(|host| *host == preferred),
            None => free.next(),
        };
        let Some(host) = host else {
            return Err(self.over_quota(kind, 1, self.free_hosts(kind).count()));
        };
        let mut machine = Machine::new(name, host, self.now());
        machine.tags = wanted.tags.unwrap_or_default();
        machine.properties = wanted.properties;
        Ok(machine)
    }

    /// Whether `wanted` has the size and location that the VM has.
    fn check_unchanged(&self, key: &MachineKey, wanted: &Wanted) -> Result<(), Denial> {
        let machine = self.machines.get(key).ok_or_else(|| self.no_vm(key))?;
        let host = machine.host;
        let spec = &self.world().hosts[host.index()];
        let changed = |field: &str| {
            let message = format!("Changing property '{field}' is not allowed.");
            Err(Denial::new(409, "PropertyChangeNotAllowed", message).about(field))
        };
        if let Some(location) = &wanted.location
            && self.find_site(location) != Some(spec.site)
        {
            return changed("location");
        }
        if let Some(size) = &wanted.size
            && self.find_size(size) != Some(spec.size)
        {
            return changed("hardwareProfile.vmSize");
        }
        Ok(())
    }

    fn patch_vm(&mut self, call: &Call, key: &MachineKey, ctx: &Context) -> Result<Answer, Denial> {
        let wanted = Wanted::read(&call.json_or_empty()?)?;
        let machine = self.machines.get(key).ok_or_else(|| self.no_vm(key))?;
        check_match(call, Some(machine.etag()))?;
        self.check_unchanged(key, &wanted)?;
        self.update_vm(call, key, wanted, ctx)
    }

    fn update_vm(
        &mut self,
        call: &Call,
        key: &MachineKey,
        wanted: Wanted,
        ctx: &Context,
    ) -> Result<Answer, Denial> {
        let id = self.begin(key, Action::Update, ctx)?;
        let failed = self
            .operations
            .get(id)
            .and_then(|operation| operation.ended())
            .is_some_and(|(_, outcome)| outcome.is_err());
        if let (Some(machine), false) = (self.machines.get_mut(key), failed) {
            if let Some(tags) = wanted.tags {
                machine.tags = tags;
            }
            machine.properties.extend(wanted.properties);
            machine.version += 1;
        }
        let machine = self.machines.get(key).ok_or_else(|| self.no_vm(key))?;
        let body = self.vm_body(machine, self.now(), false);
        let answer = Answer::ok(body).with("etag", machine.etag());
        Ok(self.with_operation(answer, call, id))
    }

    /// Runs nothing: tells what the twin knows of the host.
    fn run_command(
        &mut self,
        call: &Call,
        key: &MachineKey,
        ctx: &Context,
    ) -> Result<Answer, Denial> {
        let body = call.json()?;
        if !body["commandId"].is_string() {
            return Err(Denial::invalid("commandId", "is missing"));
        }
        let id = self.begin(key, Action::RunCommand, ctx)?;
        let printed = self.machines.get(key).map(|machine| {
            let observation = self.episode.observation(twin::state::Epoch::Arrival);
            let host = machine.host;
            format!(
                "Enable succeeded: \n[stdout]\n{}: {:.1} % CPU, {} running, {} queued, \
                 {:.0} MiB free\n\n[stderr]\n",
                self.world().hosts[host.index()].name,
                100.0 * observation.utilization(host),
                observation.running_count(host),
                observation.queued_count(host),
                observation.ram_free_mib(host),
            )
        });
        if let Some(operation) = self.operations.get_mut(id) {
            operation.output = Some(json!({"value": [{
                "code": "ProvisioningState/succeeded",
                "level": "Info",
                "displayStatus": "Provisioning succeeded",
                "message": printed.unwrap_or_default(),
            }]}));
        }
        Ok(self.with_operation(Answer::of(202, None), call, id))
    }
}

/// What a body asks for.
#[derive(Debug, Default)]
pub(super) struct Wanted {
    pub(super) location: Option<String>,
    pub(super) size: Option<String>,
    pub(super) tags: Option<BTreeMap<String, String>>,
    pub(super) properties: Map<String, Value>,
}

impl Wanted {
    /// Reads the body of a PUT or PATCH.
    fn read(body: &Value) -> Result<Self, Denial> {
        let Value::Object(fields) = body else {
            return Err(Denial::invalid("body", "must be an object"));
        };
        let mut properties = match fields.get("properties") {
            None | Some(Value::Null) => Map::new(),
            Some(Value::Object(properties)) => properties.clone(),
            Some(_) => return Err(Denial::invalid("properties", "must be an object")),
        };
        let size = match properties.remove("hardwareProfile") {
            None | Some(Value::Null) => None,
            Some(profile) => text(&profile, "vmSize")?,
        };
        for shown in ["instanceView", "provisioningState", "vmId", "timeCreated"] {
            properties.remove(shown);
        }
        properties.remove("userData");
        if let Some(Value::Object(profile)) = properties.get_mut("osProfile") {
            profile.retain(|field, _| !SECRETS.contains(&field.as_str()));
        }
        properties.retain(|_, value| !value.is_null());
        Ok(Self {
            location: text(body, "location")?,
            size,
            tags: read_tags(body)?,
            properties,
        })
    }
}

/// A text field of an object.
fn text(body: &Value, field: &str) -> Result<Option<String>, Denial> {
    match body.get(field) {
        None | Some(Value::Null) => Ok(None),
        Some(Value::String(text)) => Ok(Some(text.clone())),
        Some(_) => Err(Denial::invalid(field, "must be a text")),
    }
}

/// The tags of a body.
pub(super) fn read_tags(body: &Value) -> Result<Option<BTreeMap<String, String>>, Denial> {
    let fields = match body.get("tags") {
        None | Some(Value::Null) => return Ok(None),
        Some(Value::Object(fields)) => fields,
        Some(_) => return Err(Denial::invalid("tags", "must be an object")),
    };
    if fields.len() > MOST_TAGS {
        let problem = format!(
            "a resource may have {MOST_TAGS} tags, found {}",
            fields.len()
        );
        return Err(Denial::invalid("tags", problem));
    }
    let mut tags = BTreeMap::new();
    for (name, value) in fields {
        let Value::String(value) = value else {
            return Err(Denial::invalid("tags", format!("{name}: must be a text")));
        };
        let (name_chars, value_chars) = (name.chars().count(), value.chars().count());
        if name_chars > TAG_NAME_CHARS || value_chars > TAG_VALUE_CHARS {
            let problem =
                format!("names may have {TAG_NAME_CHARS} characters and values {TAG_VALUE_CHARS}");
            return Err(Denial::invalid("tags", problem));
        }
        tags.insert(name.clone(), value.clone());
    }
    Ok(Some(tags))
}

fn check_name(name: &str) -> Result<(), Denial> {
    let allowed = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
    if (1..=NAME_CHARS).contains(&name.len()) && name.chars().all(allowed) {
        return Ok(());
    }
    Err(Denial::new(
        400,
        "InvalidResourceName",
        format!(
            "The name of a VM has 1 to {NAME_CHARS} letters, digits, hyphens, underscores and dots."
        ),
    ))
}

/// Whether the preconditions of the headers hold for a resource with this entity tag.
pub(super) fn check_match(call: &Call, etag: Option<String>) -> Result<(), Denial> {
    let failed = |header: &str| {
        let message = format!("The condition specified using HTTP header '{header}' is not met.");
        Err(Denial::new(412, "PreconditionFailed", message))
    };
    let among = |list: &str, etag: &str| list.split(',').any(|one| one.trim() == etag);
    match (&call.if_match, &etag) {
        (None, _) => {}
        (Some(_), None) => return failed("If-Match"),
        (Some(wanted), Some(etag)) if wanted.trim() != "*" && !among(wanted, etag) => {
            return failed("If-Match");
        }
        (Some(_), Some(_)) => {}
    }
    match (&call.if_none_match, &etag) {
        (Some(wanted), Some(etag)) if wanted.trim() == "*" || among(wanted, etag) => {
            failed("If-None-Match")
        }
        _ => Ok(()),
    }
}
