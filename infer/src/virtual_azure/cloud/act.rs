//! Actions on machines, and how their operations go on while the twin does.

use twin::host::Lifecycle;
use twin::ids::HostId;
use twin::units::SimTime;

use super::{Cloud, Context};
use crate::virtual_azure::answer::Denial;
use crate::virtual_azure::faults::FaultKind;
use crate::virtual_azure::journal::Entry;
use crate::virtual_azure::machine::MachineKey;
use crate::virtual_azure::operations::{Action, OperationId, Stage};

/// Which way an action turns a host.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Way {
    Up,
    Down,
    DownAndUp,
    None,
}

fn way(action: Action) -> Way {
    match action {
        Action::Start | Action::Create => Way::Up,
        Action::Deallocate | Action::PowerOff | Action::Delete => Way::Down,
        Action::Restart => Way::DownAndUp,
        Action::Update | Action::RunCommand | Action::Group => Way::None,
    }
}

/// Whether an operation ends the one before it on the same machine.
fn preempts(later: Action, earlier: Action) -> bool {
    let (later, earlier) = (way(later), way(earlier));
    let neither = later != Way::None && earlier != Way::None;
    neither && (later != earlier || later == Way::DownAndUp)
}

/// There is no capacity for a VM.
pub(in crate::virtual_azure) fn allocation_failed(size: &str, location: &str) -> Denial {
    Denial::new(
        409,
        "AllocationFailed",
        format!(
            "Allocation failed. We do not have sufficient capacity for the requested VM size \
             {size} in {location}. Read more about improving likelihood of allocation success at \
             http://aka.ms/allocation-guidance"
        ),
    )
}

fn preempted() -> Denial {
    Denial::new(
        409,
        "OperationPreempted",
        "Operation execution has been preempted by a more recent operation.",
    )
}

impl Cloud {
    /// Begins `action` on a machine.
    pub(in crate::virtual_azure) fn begin(
        &mut self,
        key: &MachineKey,
        action: Action,
        context: &Context,
    ) -> Result<OperationId, Denial> {
        let host = self.may(key, action)?;
        let earlier = self.machines.get(key).and_then(|m| m.operation);
        if let Some(earlier) = earlier
            && let Some(found) = self.operations.get(earlier)
            && preempts(action, found.action)
        {
            self.preempt(key, action);
        }
        let stage = match context.fault {
            Some(met) if met.kind == FaultKind::Slow => {
                let delay_s = self.faults.settings().slow_s;
                Stage::Delayed(self.now().after(SimTime::from_seconds(delay_s)))
            }
            _ => Stage::Acted,
        };
        let acts = stage == Stage::Acted;
        let location = self.location_of(host);
        let now = self.now();
        let id = self
            .operations
            .begin(action, Some(key.clone()), &location, (now, stage));
        let entry = self.write_entry(key, action, id, context);
        if let Some(operation) = self.operations.get_mut(id) {
            operation.entry = Some(entry);
            if context.fault.is_some_and(|m| m.kind == FaultKind::Stuck) {
                let silent_s = self.faults.settings().stuck_s;
                operation.silent_until = Some(now.after(SimTime::from_seconds(silent_s)));
            }
        }
        if way(action) != Way::None
            && let Some(machine) = self.machines.get_mut(key)
        {
            machine.operation = Some(id);
        }
        self.touch(key);
        if let Some(denial) = self.fails(key, action, context) {
            self.journal.tell(entry, format!("none: {}", denial.code));
            self.finish(id, Err(denial));
        } else if acts {
            self.act(id);
        }
        self.follow();
        Ok(id)
    }

    /// Ends all operations of a machine that `action` preempts.
    fn preempt(&mut self, key: &MachineKey, action: Action) {
        let now = self.now();
        for id in self.operations.open().to_vec() {
            let Some(operation) = self.operations.get(id) else {
                continue;
            };
            let same = operation.machine.as_ref() == Some(key);
            if same && preempts(action, operation.action) {
                let pending = matches!(operation.stage, Stage::Delayed(_));
                if let (true, Some(entry)) = (pending, operation.entry) {
                    self.journal.tell(entry, "none: preempted".into());
                }
                self.operations.end(id, now, Err(preempted()));
            }
        }
    }

    /// Whether `action` may begin; the host of the machine.
    fn may(&self, key: &MachineKey, action: Action) -> Result<HostId, Denial> {
        let Some(machine) = self.machines.get(key) else {
            let name = key.to_string();
            let kind = "Microsoft.Compute/virtualMachines";
            return Err(Denial::missing(kind, &name, &self.resource_group));
        };
        let conflict = |code, message: String| Err(Denial::new(409, code, message));
        let operation = machine.operation.and_then(|id| self.operations.get(id));
        let deleting = operation.is_some_and(|o| o.action == Action::Delete);
        if deleting && action != Action::Delete {
            let message = format!("The VM '{}' is being deleted.", machine.name);
            return conflict("Conflict", message);
        }
        let lifecycle = self.lifecycle(machine.host);
        let residents = self
            .episode
            .meter(machine.host)
            .map_or(0, |meter| meter.residents);
        match (action, lifecycle) {
            (Action::Deallocate | Action::PowerOff, Lifecycle::Booting { .. }) if residents > 0 => {
                let message = format!(
                    "The VM '{}' is starting, and requests wait on it. Try again once it runs.",
                    machine.name
                );
                conflict("Conflict", message)
            }
            (Action::Restart | Action::RunCommand, Lifecycle::Off | Lifecycle::Booting { .. })
            | (Action::Restart, Lifecycle::Draining) => {
                let message = format!(
                    "The operation requires the VM '{}' to be running, and it is {}.",
                    machine.name,
                    self.power(machine).code()
                );
                conflict("OperationNotAllowed", message)
            }
            _ => Ok(machine.host),
        }
    }

    /// Why the operation fails before it does anything, if a fault wants it so.
    fn fails(&self, key: &MachineKey, action: Action, context: &Context) -> Option<Denial> {
        let machine = self.machines.get(key)?;
        let (size, location) = (self.size_of(machine.host), self.location_of(machine.host));
        match context.fault?.kind {
            FaultKind::AllocationFailed if way(action) == Way::Up => {
                // What is allocated already stays so.
                (self.lifecycle(machine.host) == Lifecycle::Off)
                    .then(|| allocation_failed(&size, &location))
            }
            FaultKind::OperationFailed => Some(Denial::new(
                500,
                "InternalExecutionError",
                "An internal execution error occurred. Please retry later.",
            )),
            _ => None,
        }
    }

    fn write_entry(
        &mut self,
        key: &MachineKey,
        action: Action,
        operation: OperationId,
        context: &Context,
    ) -> u64 {
        let now = self.now();
        let host = self
            .machines
            .get(key)
            .and_then(|machine| self.world().hosts.get(machine.host.index()))
            .map_or_else(String::new, |spec| spec.name.clone());
        let vm = self
            .machines
            .get(key)
            .map_or_else(|| key.to_string(), |m| m.name.clone());
        self.journal.write(Entry {
            sequence: 0,
            at_ns: now.0,
            time: self.time(now).to_string(),
            caller: context.caller.clone(),
            client_request_id: context.client_request.clone(),
            action: action.name(),
            vm,
            host,
            operation: Some(operation.to_string()),
            effect: "pending".into(),
            fault: context.fault.map(|met| met.kind),
            duplicate: context.duplicate,
        })
    }

    /// Carries an operation out in the twin.
    fn act(&mut self, id: OperationId) {
        let Some(operation) = self.operations.get_mut(id) else {
            return;
        };
        operation.stage = Stage::Acted;
        let (action, entry) = (operation.action, operation.entry);
        let Some(key) = operation.machine.clone() else {
            return;
        };
        let Some(machine) = self.machines.get_mut(&key) else {
            return;
        };
        let host = machine.host;
        machine.halted = match action {
            Action::PowerOff => true,
            Action::Start | Action::Create | Action::Deallocate | Action::Delete => false,
            _ => machine.halted,
        };
        let effect = match way(action) {
            Way::Up => self.turn(host, true),
            Way::Down | Way::DownAndUp => self.turn(host, false),
            Way::None => super::name_of(self.lifecycle(host)).into(),
        };
        if let Some(entry) = entry {
            self.journal.tell(entry, effect);
        }
        self.touch(&key);
        self.look(id);
    }

    /// Lets every operation under way go on.
    pub(super) fn progress(&mut self) {
        let now = self.now();
        for id in self.operations.open().to_vec() {
            let Some(operation) = self.operations.get(id) else {
                continue;
            };
            match &operation.stage {
                Stage::Delayed(at) if *at <= now => self.act_late(id),
                Stage::Silent(at) if *at <= now => self.conclude(id, Ok(())),
                Stage::Acted | Stage::TurnedOn => self.look(id),
                Stage::Members(members) => {
                    let outcomes: Vec<_> = members
                        .iter()
                        // What is forgotten ended long ago.
                        .filter_map(|member| self.operations.get(*member))
                        .map(|member| member.ended().map(|(_, outcome)| outcome.clone()))
                        .collect();
                    if outcomes.iter().all(Option::is_some) {
                        let outcome = outcomes.into_iter().flatten().find(Result::is_err);
                        self.finish(id, outcome.unwrap_or(Ok(())));
                    }
                }
                _ => {}
            }
        }
    }

    /// Acts after a delay, if that is still possible.
    fn act_late(&mut self, id: OperationId) {
        let Some(operation) = self.operations.get(id) else {
            return;
        };
        let (action, entry) = (operation.action, operation.entry);
        let Some(key) = operation.machine.clone() else {
            return;
        };
        // An operation does not stand in its own way.
        let may = self.may(&key, action);
        match may {
            Ok(_) => self.act(id),
            Err(denial) => {
                if let Some(entry) = entry {
                    self.journal.tell(entry, format!("none: {}", denial.code));
                }
                self.finish(id, Err(denial));
            }
        }
    }

    /// Looks whether the host is where the operation wants it.
    fn look(&mut self, id: OperationId) {
        let Some(operation) = self.operations.get(id) else {
            return;
        };
        let (action, stage) = (operation.action, operation.stage.clone());
        let machine = operation.machine.as_ref();
        let Some(machine) = machine.and_then(|key| self.machines.get(key)) else {
            self.finish(id, Err(preempted()));
            return;
        };
        let host = machine.host;
        let turned_on = stage == Stage::TurnedOn;
        match (way(action), self.lifecycle(host)) {
            (Way::None, _) | (Way::Down, Lifecycle::Off) => self.finish(id, Ok(())),
            (Way::Up, Lifecycle::On) => self.finish(id, Ok(())),
            (Way::DownAndUp, Lifecycle::On) if turned_on => self.finish(id, Ok(())),
            (Way::Up, Lifecycle::Off) => self.finish_unallocated(id, host),
            (Way::DownAndUp, Lifecycle::Off) if turned_on => self.finish_unallocated(id, host),
            (Way::DownAndUp, Lifecycle::Off) => {
                self.turn(host, true);
                self.turned_on(id);
            }
            // A host that crashed boots by itself.
            (Way::DownAndUp, Lifecycle::Booting { .. }) => self.turned_on(id),
            (Way::Down, Lifecycle::On | Lifecycle::Booting { .. })
            | (Way::DownAndUp, Lifecycle::On) => {
                self.turn(host, false);
            }
            (_, Lifecycle::Draining | Lifecycle::Booting { .. }) => {}
        }
    }

    fn turned_on(&mut self, id: OperationId) {
        if let Some(operation) = self.operations.get_mut(id) {
            operation.stage = Stage::TurnedOn;
        }
    }

    fn finish_unallocated(&mut self, id: OperationId, host: HostId) {
        let (size, location) = (self.size_of(host), self.location_of(host));
        self.finish(id, Err(allocation_failed(&size, &location)));
    }

    /// Ends an operation, or lets it keep silent for a while.
    pub(in crate::virtual_azure) fn finish(
        &mut self,
        id: OperationId,
        outcome: Result<(), Denial>,
    ) {
        let now = self.now();
        if let Some(operation) = self.operations.get_mut(id)
            && let Some(until) = operation.silent_until
            && outcome.is_ok()
            && until > now
        {
            operation.stage = Stage::Silent(until);
            return;
        }
        self.conclude(id, outcome);
    }

    fn conclude(&mut self, id: OperationId, outcome: Result<(), Denial>) {
        let now = self.now();
        let Some(operation) = self.operations.get(id) else {
            return;
        };
        let (action, key) = (operation.action, operation.machine.clone());
        let failed = outcome.is_err();
        self.operations.end(id, now, outcome);
        let Some(key) = key else {
            return;
        };
        if action == Action::Delete && !failed {
            self.unlist(&key);
            return;
        }
        if let Some(machine) = self.machines.get_mut(&key)
            && machine.operation == Some(id)
        {
            machine.operation = None;
            machine.failed = failed;
        }
        self.touch(&key);
    }
}
