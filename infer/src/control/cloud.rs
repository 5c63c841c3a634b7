//! What the loop needs of a cloud: looking, acting, and asking how far an action is.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use jiff::{SignedDuration, Timestamp};
use tokio::task::JoinSet;

use super::action::Change;
use super::facts::{Facts, Power, SetFacts, VmFacts};
use crate::azure::metrics::{CREDITS_REMAINING, Measured, PERCENTAGE_CPU};
use crate::azure::{
    AzureError, Client, Operation, Progress, ResourceId, Scope, Status, Submitted, Vm,
};

/// How far back metrics are asked for.
const METRICS_SPAN: SignedDuration = SignedDuration::from_mins(10);

/// From so many VMs on, their statuses are asked for together.
const MANY: usize = 32;

/// What became of an action that was submitted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Submission {
    /// It was accepted.
    Accepted {
        /// Where its progress can be read.
        operation: Option<Operation>,
    },
    /// It was carried out.
    Done,
    /// It was refused, and certainly not carried out.
    Refused {
        /// Why.
        reason: String,
    },
    /// The answer was lost: it may have been carried out.
    Unknown {
        /// Why.
        reason: String,
    },
}

/// A cloud.
#[async_trait]
pub trait Cloud: Send + Sync {
    /// Looks at the fleet.
    ///
    /// # Errors
    ///
    /// If the fleet cannot be seen as a whole.
    async fn observe(&self, now: Timestamp) -> Result<Facts, String>;

    /// Submits an action.
    async fn submit(&self, target: &ResourceId, change: Change) -> Submission;

    /// How far an operation is; `None` where nobody says.
    async fn progress(&self, operation: &Operation) -> Option<Progress>;
}

/// Azure.
#[derive(Debug)]
pub struct Azure {
    client: Arc<Client>,
    scope: Scope,
    sets: Vec<ResourceId>,
    metrics: bool,
    observe_limit: Duration,
}

impl Azure {
    /// The VMs of `scope` and the scale sets `sets`; with metrics if asked for.
    #[must_use]
    pub fn new(
        client: Arc<Client>,
        scope: Scope,
        sets: Vec<ResourceId>,
        metrics: bool,
        observe_limit: Duration,
    ) -> Self {
        Self {
            client,
            scope,
            sets,
            metrics,
            observe_limit,
        }
    }

    async fn look(&self, now: Timestamp) -> Result<Facts, AzureError> {
        let vms = self.client.vms(&self.scope).await?;
        let statuses = self.statuses(&vms).await;
        let mut facts = Facts::default();
        for vm in vms {
            // A VM whose view cannot be had now is known to exist, and nothing more.
            let power = statuses
                .get(&vm.id)
                .map_or(Power::Unknown, |s| Power::of(s));
            let deleting = vm
                .provisioning
                .as_deref()
                .is_some_and(|state| state.eq_ignore_ascii_case("Deleting"));
            let vm_facts = VmFacts {
                id: vm.id.clone(),
                name: vm.name,
                location: vm.location,
                size: vm.size,
                tags: vm.tags,
                power,
                deleting,
                cpu: None,
                credits: None,
            };
            facts.vms.insert(vm.id, vm_facts);
        }
        for id in &self.sets {
            let set = self.client.scale_set(id).await?;
            let instances = self.client.scale_set_instances(id).await?;
            let runs =
                |(_, statuses): &&(String, Vec<Status>)| Power::of(statuses) == Power::Running;
            let running = instances.iter().filter(runs).count();
            let set_facts = SetFacts {
                id: set.id,
                name: set.name,
                tags: set.tags,
                capacity: set.capacity,
                running: u32::try_from(running).unwrap_or(u32::MAX),
            };
            // Under the id that was asked for.
            facts.sets.insert(id.clone(), set_facts);
        }
        if self.metrics {
            self.measure(&mut facts, now).await;
        }
        Ok(facts)
    }

    /// The statuses of all VMs: of many by a list of the subscription, of few, and of those that
    /// the list does not tell of, one by one.
    async fn statuses(&self, vms: &[Vm]) -> BTreeMap<ResourceId, Vec<Status>> {
        let mut known = BTreeMap::new();
        if vms.len() > MANY {
            match self.client.all_statuses().await {
                Ok(statuses) => known = statuses,
                Err(error) => tracing::debug!(%error, "statuses are asked for one by one"),
            }
        }
        let mut tasks = JoinSet::new();
        for vm in vms {
            let told = known.get(&vm.id).map_or(Power::Unknown, |s| Power::of(s));
            if told == Power::Unknown {
                let (client, id) = (Arc::clone(&self.client), vm.id.clone());
                tasks.spawn(async move { (client.instance_view(&id).await, id) });
            }
        }
        while let Some(ended) = tasks.join_next().await {
            match ended {
                Ok((Ok(statuses), id)) => {
                    known.insert(id, statuses);
                }
                Ok((Err(error), id)) => tracing::warn!(vm = id.name(), %error, "cannot be seen"),
                Err(error) => tracing::error!(%error, "a task broke off"),
            }
        }
        known
    }

    /// Adds the newest metrics of VMs that run. A metric that cannot be had is missing.
    async fn measure(&self, facts: &mut Facts, now: Timestamp) {
        let from = now.checked_sub(METRICS_SPAN).unwrap_or(now);
        let mut tasks = JoinSet::new();
        for vm in facts.vms.values().filter(|vm| vm.power == Power::Running) {
            let (client, id) = (Arc::clone(&self.client), vm.id.clone());
            tasks.spawn(async move {
                let names = [PERCENTAGE_CPU, CREDITS_REMAINING];
                (client.metrics(&id, &names, from, now).await, id)
            });
        }
        while let Some(ended) = tasks.join_next().await {
            let Ok((result, id)) = ended else { continue };
            match result {
                Ok(metrics) => note(facts, &id, &metrics),
                Err(error) => tracing::debug!(vm = id.name(), %error, "no metrics"),
            }
        }
    }
}

fn note(facts: &mut Facts, id: &ResourceId, metrics: &BTreeMap<String, Measured>) {
    if let Some(vm) = facts.vms.get_mut(id) {
        vm.cpu = metrics.get(PERCENTAGE_CPU).copied();
        vm.credits = metrics.get(CREDITS_REMAINING).copied();
    }
}

#[async_trait]
impl Cloud for Azure {
    async fn observe(&self, now: Timestamp) -> Result<Facts, String> {
        let look = tokio::time::timeout(self.observe_limit, self.look(now)).await;
        match look {
            Ok(facts) => facts.map_err(|error| error.to_string()),
            Err(_) => Err(format!(
                "the fleet could not be seen within {} s",
                self.observe_limit.as_secs()
            )),
        }
    }

    async fn submit(&self, target: &ResourceId, change: Change) -> Submission {
        let result = match change {
            Change::Start => self.client.start(target).await,
            Change::Deallocate => self.client.deallocate(target).await,
            Change::Capacity { to, .. } => self.client.set_capacity(target, to).await,
        };
        match result {
            Ok(Submitted::Done) => Submission::Done,
            Ok(Submitted::Running { operation, .. }) => Submission::Accepted {
                operation: Some(operation),
            },
            Err(error) if error.certainly_not_done() => Submission::Refused {
                reason: error.to_string(),
            },
            Err(error) => Submission::Unknown {
                reason: error.to_string(),
            },
        }
    }

    async fn progress(&self, operation: &Operation) -> Option<Progress> {
        match self.client.progress(operation).await {
            Ok(progress) => Some(progress),
            Err(error) => {
                tracing::debug!(%error, "an operation tells nothing");
                None
            }
        }
    }
}
