//! The client.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use azure_core::credentials::TokenCredential;
use azure_core::error::{Error, ErrorKind};
use azure_core::http::headers::{HeaderName, Headers};
use azure_core::http::policies::Policy;
use azure_core::http::policies::auth::BearerTokenAuthorizationPolicy;
use azure_core::http::{
    ClientOptions, Context, Method, Pipeline, PipelineSendOptions, Request, RetryOptions, Transport,
};
use jiff::Timestamp;
use rand::RngExt;
use serde::de::DeserializeOwned;
use tokio::sync::Semaphore;
use url::Url;

use super::endpoint::{Endpoint, Origin};
use super::metrics::{Measured, MetricsBody};
use super::model::{
    ErrorBody, InstanceBody, InstanceView, Page, ScaleSet, ScaleSetBody, Status, TagsBody, Vm,
    VmBody,
};
use super::operation::{self, Operation, OperationKind, Progress, Submitted, short};
use super::retry::{self, Nature};
use super::throttle::{READS, Rate, Throttle, WRITES};
use super::transport::{ATTEMPT_LIMIT, Wire};
use super::{AzureError, ResourceId, causes};

/// Version of the interface of Microsoft.Compute.
const COMPUTE_VERSION: &str = "2024-07-01";
/// Version of the interface of Microsoft.Insights.
const INSIGHTS_VERSION: &str = "2024-02-01";
/// Version of the interface of Microsoft.Resources.
const RESOURCES_VERSION: &str = "2021-04-01";
/// The most pages of a list.
const MAX_PAGES: usize = 2_000;
/// The most resources of a list.
const MAX_RESOURCES: usize = 100_000;

/// Bounds of a client.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Limits {
    /// Calls in flight.
    pub in_flight: usize,
    /// How long a call may take with all its attempts.
    pub call: Duration,
    /// How long one attempt may take.
    pub attempt: Duration,
    /// Reads.
    pub reads: Rate,
    /// Writes.
    pub writes: Rate,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            in_flight: 16,
            call: Duration::from_secs(60),
            attempt: ATTEMPT_LIMIT,
            reads: READS,
            writes: WRITES,
        }
    }
}

/// Which VMs are listed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Scope {
    /// Those of a resource group.
    Group {
        /// Its name.
        group: String,
    },
    /// Those of the subscription that carry a tag.
    Tag {
        /// Its name.
        name: String,
        /// Its value; any if `None`.
        value: Option<String>,
    },
}

/// A client of one subscription.
#[derive(Debug)]
pub struct Client {
    pipeline: Pipeline,
    origin: Origin,
    subscription: String,
    throttle: Throttle,
    permits: Semaphore,
    limits: Limits,
}

/// An answer.
struct Reply {
    status: u16,
    headers: Headers,
    body: Vec<u8>,
}

/// A call.
struct Call<'a> {
    what: &'a str,
    nature: Nature,
    method: Method,
    url: Url,
    body: Option<Vec<u8>>,
}

impl<'a> Call<'a> {
    fn get(what: &'a str, url: Url) -> Self {
        Self {
            what,
            nature: Nature::Read,
            method: Method::Get,
            url,
            body: None,
        }
    }

    fn write(what: &'a str, method: Method, url: Url, body: Option<Vec<u8>>) -> Self {
        Self {
            what,
            nature: Nature::Write,
            method,
            url,
            body,
        }
    }
}

impl Client {
    /// A client of `subscription` at `endpoint` with the tokens of `credential`.
    ///
    /// # Errors
    ///
    /// If the certificates cannot be read or the subscription cannot be part of an address.
    pub fn new(
        endpoint: &Endpoint,
        subscription: &str,
        credential: Arc<dyn TokenCredential>,
        limits: Limits,
    ) -> Result<Self, AzureError> {
        ResourceId::parse(&format!("/subscriptions/{subscription}")).map_err(|problem| {
            AzureError::Setup(format!("subscription {subscription:?}: {problem}"))
        })?;
        let wire = Wire::new(endpoint, true, limits.attempt)?;
        let options = ClientOptions {
            transport: Some(Transport::new(Arc::new(wire))),
            // The pipeline would repeat writes and wait as long as it is told.
            retry: RetryOptions::none(),
            ..ClientOptions::default()
        };
        let bearer = BearerTokenAuthorizationPolicy::new(credential, [endpoint.token_scope()]);
        let per_try: Vec<Arc<dyn Policy>> = vec![Arc::new(bearer)];
        let pipeline = Pipeline::new(
            Some(env!("CARGO_PKG_NAME")),
            Some(env!("CARGO_PKG_VERSION")),
            options,
            Vec::new(),
            per_try,
            None,
        );
        Ok(Self {
            pipeline,
            origin: endpoint.origin.clone(),
            subscription: subscription.to_owned(),
            throttle: Throttle::new(limits.reads, limits.writes),
            permits: Semaphore::new(limits.in_flight.max(1)),
            limits,
        })
    }

    /// The subscription.
    #[must_use]
    pub fn subscription(&self) -> &str {
        &self.subscription
    }

    /// The VMs of `scope`. The interface lists them without their statuses.
    ///
    /// # Errors
    ///
    /// If a page cannot be had: a part of a list is no list.
    pub async fn vms(&self, scope: &Scope) -> Result<Vec<Vm>, AzureError> {
        let what = "list VMs";
        let (path, wanted) = match scope {
            Scope::Group { group } => (
                format!(
                    "/subscriptions/{}/resourceGroups/{group}/providers/Microsoft.Compute/virtualMachines",
                    self.subscription
                ),
                None,
            ),
            Scope::Tag { name, value } => (
                format!(
                    "/subscriptions/{}/providers/Microsoft.Compute/virtualMachines",
                    self.subscription
                ),
                Some((name, value)),
            ),
        };
        let query = [("api-version", COMPUTE_VERSION)];
        let list = self.vms_at(what, self.origin.at(&path, &query)).await?;
        let mut vms = Vec::with_capacity(list.len());
        for vm in list {
            let carries = |(name, value): (&String, &Option<String>)| {
                let found = tag(&vm.tags, name);
                found.is_some_and(|v| value.as_deref().is_none_or(|wanted| wanted == v))
            };
            if wanted.is_none_or(carries) {
                vms.push(vm);
            }
        }
        vms.sort_by(|a, b| a.id.cmp(&b.id));
        vms.dedup_by(|a, b| a.id == b.id);
        Ok(vms)
    }

    /// The statuses of all VMs of the subscription, in as few calls as there are pages.
    ///
    /// # Errors
    ///
    /// If a page cannot be had, as where only the resource group may be read.
    pub async fn all_statuses(&self) -> Result<BTreeMap<ResourceId, Vec<Status>>, AzureError> {
        let path = format!(
            "/subscriptions/{}/providers/Microsoft.Compute/virtualMachines",
            self.subscription
        );
        let query = [("api-version", COMPUTE_VERSION), ("statusOnly", "true")];
        let url = self.origin.at(&path, &query);
        let vms = self.vms_at("list the statuses of VMs", url).await?;
        let statuses = vms.into_iter().filter_map(|vm| Some((vm.id, vm.statuses?)));
        Ok(statuses.collect())
    }

    async fn vms_at(&self, what: &str, url: Url) -> Result<Vec<Vm>, AzureError> {
        let bodies: Vec<VmBody> = self.list(what, url).await?;
        let read = |body| Vm::try_from(body).map_err(|problem| answer(what, problem));
        bodies.into_iter().map(read).collect()
    }

    /// The statuses of the instance view of a VM.
    ///
    /// # Errors
    ///
    /// If it cannot be had.
    pub async fn instance_view(&self, vm: &ResourceId) -> Result<Vec<Status>, AzureError> {
        let path = format!("{vm}/instanceView");
        let view: InstanceView = self.read("read an instance view", &path, &[]).await?;
        Ok(view.statuses.unwrap_or_default())
    }

    /// Starts a VM.
    ///
    /// # Errors
    ///
    /// If it was not accepted, or nobody knows ([`AzureError::certainly_not_done`]).
    pub async fn start(&self, vm: &ResourceId) -> Result<Submitted, AzureError> {
        self.post("start", vm).await
    }

    /// Deallocates a VM: it is off, and no longer billed.
    ///
    /// # Errors
    ///
    /// As [`Client::start`].
    pub async fn deallocate(&self, vm: &ResourceId) -> Result<Submitted, AzureError> {
        self.post("deallocate", vm).await
    }

    async fn post(&self, verb: &str, vm: &ResourceId) -> Result<Submitted, AzureError> {
        let what = format!("{verb} {}", vm.name());
        let path = format!("{vm}/{verb}");
        let url = self.origin.at(&path, &[("api-version", COMPUTE_VERSION)]);
        let reply = self
            .call(&Call::write(&what, Method::Post, url, None))
            .await?;
        self.submitted(&what, vm, &reply)
    }

    /// A scale set.
    ///
    /// # Errors
    ///
    /// If it cannot be had.
    pub async fn scale_set(&self, id: &ResourceId) -> Result<ScaleSet, AzureError> {
        let what = "read a scale set";
        let body: ScaleSetBody = self.read(what, id.as_str(), &[]).await?;
        ScaleSet::try_from(body).map_err(|problem| answer(what, problem))
    }

    /// The VMs of a scale set: number and statuses, where there are some.
    ///
    /// # Errors
    ///
    /// If a page cannot be had.
    pub async fn scale_set_instances(
        &self,
        id: &ResourceId,
    ) -> Result<Vec<(String, Vec<Status>)>, AzureError> {
        let path = format!("{id}/virtualMachines");
        let query = [
            ("api-version", COMPUTE_VERSION),
            ("$expand", "instanceView"),
        ];
        let url = self.origin.at(&path, &query);
        let bodies: Vec<InstanceBody> = self.list("list the VMs of a scale set", url).await?;
        Ok(bodies
            .into_iter()
            .map(|body| {
                let statuses = body
                    .properties
                    .and_then(|p| p.instance_view?.statuses)
                    .unwrap_or_default();
                (body.instance_id.unwrap_or_default(), statuses)
            })
            .collect())
    }

    /// Sets how many VMs a scale set is to have.
    ///
    /// # Errors
    ///
    /// As [`Client::start`].
    pub async fn set_capacity(
        &self,
        id: &ResourceId,
        capacity: u32,
    ) -> Result<Submitted, AzureError> {
        let what = format!("set the capacity of {} to {capacity}", id.name());
        let url = self
            .origin
            .at(id.as_str(), &[("api-version", COMPUTE_VERSION)]);
        let body = serde_json::json!({"sku": {"capacity": capacity}}).to_string();
        let call = Call::write(&what, Method::Patch, url, Some(body.into_bytes()));
        let reply = self.call(&call).await?;
        self.submitted(&what, id, &reply)
    }

    /// The newest values of `names` between two moments.
    ///
    /// # Errors
    ///
    /// If they cannot be had.
    pub async fn metrics(
        &self,
        vm: &ResourceId,
        names: &[&str],
        from: Timestamp,
        to: Timestamp,
    ) -> Result<BTreeMap<String, Measured>, AzureError> {
        let what = "read metrics";
        let path = format!("{vm}/providers/Microsoft.Insights/metrics");
        let whole = |t: Timestamp| Timestamp::from_second(t.as_second()).unwrap_or(t);
        let span = format!("{}/{}", whole(from), whole(to));
        let query = [
            ("api-version", INSIGHTS_VERSION),
            ("metricnames", &names.join(",")),
            ("timespan", &span),
            ("interval", "PT1M"),
            ("aggregation", "Average"),
        ];
        let call = Call::get(what, self.origin.at(&path, &query));
        let body: MetricsBody = parsed(what, &self.call(&call).await?.body)?;
        Ok(body.newest())
    }

    /// How far an operation is.
    ///
    /// # Errors
    ///
    /// If nobody says so.
    pub async fn progress(&self, operation: &Operation) -> Result<Progress, AzureError> {
        let what = "read an operation";
        // The address may come from a file.
        let url = self.origin.follow(what, "operation", &operation.url)?;
        let reply = self.call(&Call::get(what, url)).await?;
        let wait = retry::asked(&reply.headers);
        operation::progress(operation.kind, reply.status, &reply.body, wait).ok_or_else(|| {
            let problem = format!("status {} tells no progress", reply.status);
            answer(what, problem)
        })
    }

    /// Waits until an operation ends, at most until `limit`.
    ///
    /// # Errors
    ///
    /// If it has not ended by then, or nobody says how far it is.
    pub async fn wait(
        &self,
        operation: &Operation,
        limit: Duration,
    ) -> Result<Progress, AzureError> {
        let polled = async {
            let mut attempt = 1;
            loop {
                match self.progress(operation).await? {
                    Progress::Running { retry_after } => {
                        tokio::time::sleep(retry::pause(attempt, retry_after, 1.0)).await;
                        attempt += 1;
                    }
                    end => return Ok(end),
                }
            }
        };
        tokio::time::timeout(limit, polled)
            .await
            .unwrap_or_else(|_| {
                let what = "wait for an operation".into();
                Err(AzureError::Deadline { what, limit })
            })
    }

    /// The tags of a resource group.
    ///
    /// # Errors
    ///
    /// If they cannot be had.
    pub async fn group_tags(&self, group: &str) -> Result<BTreeMap<String, String>, AzureError> {
        let what = "read the tags of the resource group";
        let call = Call::get(what, self.tags_url(group));
        let body: TagsBody = parsed(what, &self.call(&call).await?.body)?;
        Ok(body.properties.tags.unwrap_or_default())
    }

    /// Adds tags to a resource group, or replaces those of the same names; others stay.
    ///
    /// # Errors
    ///
    /// As [`Client::start`].
    pub async fn merge_group_tags(
        &self,
        group: &str,
        tags: &BTreeMap<String, String>,
    ) -> Result<(), AzureError> {
        let what = "write tags of the resource group";
        let body = serde_json::json!({"operation": "Merge", "properties": {"tags": tags}});
        let body = body.to_string().into_bytes();
        let url = self.tags_url(group);
        self.call(&Call::write(what, Method::Patch, url, Some(body)))
            .await?;
        Ok(())
    }

    fn tags_url(&self, group: &str) -> Url {
        let path = format!(
            "/subscriptions/{}/resourceGroups/{group}/providers/Microsoft.Resources/tags/default",
            self.subscription
        );
        self.origin.at(&path, &[("api-version", RESOURCES_VERSION)])
    }

    /// All pages of a list.
    async fn list<T: DeserializeOwned>(
        &self,
        what: &str,
        first: Url,
    ) -> Result<Vec<T>, AzureError> {
        let mut items = Vec::new();
        let mut next = Some(first);
        for _ in 0..MAX_PAGES {
            let Some(url) = next.take() else {
                return Ok(items);
            };
            let reply = self.call(&Call::get(what, url)).await?;
            let page: Page<T> = parsed(what, &reply.body)?;
            items.extend(page.value);
            if items.len() > MAX_RESOURCES {
                let problem = format!("the list has more than {MAX_RESOURCES} resources");
                return Err(answer(what, problem));
            }
            next = match page.next_link.filter(|link| !link.is_empty()) {
                None => None,
                Some(link) => Some(self.origin.follow(what, "nextLink", &link)?),
            };
        }
        if next.is_none() {
            return Ok(items);
        }
        let problem = format!("the list does not end within {MAX_PAGES} pages");
        Err(answer(what, problem))
    }

    async fn read<T: DeserializeOwned>(
        &self,
        what: &str,
        path: &str,
        more: &[(&str, &str)],
    ) -> Result<T, AzureError> {
        let query = [&[("api-version", COMPUTE_VERSION)], more].concat();
        let reply = self
            .call(&Call::get(what, self.origin.at(path, &query)))
            .await?;
        parsed(what, &reply.body)
    }

    /// What became of a call that changes `resource`.
    fn submitted(
        &self,
        what: &str,
        resource: &ResourceId,
        reply: &Reply,
    ) -> Result<Submitted, AzureError> {
        let header = |name: &'static str| {
            reply
                .headers
                .get_optional_string(&HeaderName::from_static(name))
        };
        let retry_after = retry::asked(&reply.headers);
        for (name, shown, kind) in [
            (
                "azure-asyncoperation",
                "Azure-AsyncOperation",
                OperationKind::AsyncOperation,
            ),
            ("location", "Location", OperationKind::Location),
        ] {
            if let Some(target) = header(name) {
                let url = self.origin.follow(what, shown, &target)?;
                let url = url.into();
                let operation = Operation { kind, url };
                return Ok(Submitted::Running {
                    operation,
                    retry_after,
                });
            }
        }
        let state = operation::progress(
            OperationKind::Resource,
            reply.status,
            &reply.body,
            retry_after,
        );
        if matches!(state, None | Some(Progress::Running { .. })) && reply.status != 204 {
            let query = [("api-version", COMPUTE_VERSION)];
            let url = self.origin.at(resource.as_str(), &query).into();
            let kind = OperationKind::Resource;
            return Ok(Submitted::Running {
                operation: Operation { kind, url },
                retry_after,
            });
        }
        Ok(Submitted::Done)
    }

    /// Makes a call, with attempts and waits within the limits.
    async fn call(&self, call: &Call<'_>) -> Result<Reply, AzureError> {
        let limit = self.limits.call;
        tokio::time::timeout(limit, self.attempts(call))
            .await
            .unwrap_or_else(|_| {
                let what = call.what.into();
                Err(AzureError::Deadline { what, limit })
            })
    }

    async fn attempts(&self, call: &Call<'_>) -> Result<Reply, AzureError> {
        let mut attempt = 1;
        loop {
            let outcome = self.attempt(call).await;
            let (asked, repeat) = match &outcome {
                Ok(reply) if (200..300).contains(&reply.status) => (None, false),
                Ok(reply) => (
                    retry::asked(&reply.headers),
                    retry::again(call.nature, reply.status, attempt),
                ),
                Err(AzureError::Transport { .. }) => (
                    None,
                    call.nature == Nature::Read && attempt < retry::MAX_ATTEMPTS,
                ),
                Err(_) => (None, false),
            };
            if !repeat {
                return outcome.and_then(|reply| accepted(call.what, reply));
            }
            let jitter = rand::rng().random::<f64>();
            let wait = retry::pause(attempt, asked, jitter);
            tracing::debug!(what = call.what, attempt, ?wait, "trying again");
            tokio::time::sleep(wait).await;
            attempt += 1;
        }
    }

    async fn attempt(&self, call: &Call<'_>) -> Result<Reply, AzureError> {
        self.throttle.admit(call.nature).await;
        // The semaphore is never closed.
        let _permit = self.permits.acquire().await.ok();
        let mut request = Request::new(call.url.clone(), call.method);
        request.insert_header("accept", "application/json");
        if let Some(body) = &call.body {
            request.insert_header("content-type", "application/json");
            request.set_body(body.clone());
        } else if call.nature == Nature::Write {
            request.insert_header("content-length", "0");
        }
        let options = PipelineSendOptions {
            skip_checks: true,
            ..PipelineSendOptions::default()
        };
        let sent = self
            .pipeline
            .send(&Context::new(), &mut request, Some(options))
            .await;
        let response = sent.map_err(|error| unsent(call.what, &error))?;
        let (status, headers, body) = response.deconstruct();
        let status = u16::from(status);
        let wait = retry::asked(&headers).unwrap_or(retry::MIN_PAUSE);
        self.throttle.learn(call.nature, status, &headers, wait);
        let body = body.as_ref().to_vec();
        Ok(Reply {
            status,
            headers,
            body,
        })
    }
}

/// The error for a call that the pipeline could not send or whose answer broke off.
fn unsent(what: &str, error: &Error) -> AzureError {
    let what = what.to_owned();
    let causes = short(&causes(error));
    match error.kind() {
        ErrorKind::Credential => AzureError::Credential { what, causes },
        _ => AzureError::Transport { what, causes },
    }
}

/// The reply if it is a success, else the refusal that it tells.
fn accepted(what: &str, reply: Reply) -> Result<Reply, AzureError> {
    if (200..300).contains(&reply.status) {
        return Ok(reply);
    }
    let error = serde_json::from_slice::<ErrorBody>(&reply.body)
        .unwrap_or_default()
        .error
        .unwrap_or_default();
    Err(AzureError::Refused {
        what: what.into(),
        status: reply.status,
        code: short(error.code.as_deref().unwrap_or("no code")),
        message: short(error.message.as_deref().unwrap_or("no message")),
        retry_after: retry::asked(&reply.headers),
    })
}

fn answer(what: &str, problem: String) -> AzureError {
    AzureError::Answer {
        what: what.into(),
        problem,
    }
}

fn parsed<T: DeserializeOwned>(what: &str, body: &[u8]) -> Result<T, AzureError> {
    let mut reader = serde_json::Deserializer::from_slice(body);
    serde_path_to_error::deserialize(&mut reader).map_err(|error| {
        let problem = format!("unreadable answer at {}: {}", error.path(), error.inner());
        answer(what, short(&problem))
    })
}

/// The value of the tag `name`; names of tags are case-insensitive.
pub(crate) fn tag<'a>(tags: &'a BTreeMap<String, String>, name: &str) -> Option<&'a str> {
    tags.iter()
        .find(|(key, _)| key.eq_ignore_ascii_case(name))
        .map(|(_, value)| value.as_str())
}
