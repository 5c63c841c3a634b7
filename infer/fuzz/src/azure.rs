//! What Resource Manager answers to the control loop.

use std::collections::BTreeMap;
use std::sync::{Arc, LazyLock, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use azure_core::credentials::{AccessToken, TokenCredential, TokenRequestOptions};
use azure_core::error::{Error, ErrorKind};
use azure_core::http::headers::{HeaderName, HeaderValue, Headers};
use azure_core::http::{AsyncRawResponse, HttpClient, Request};
use azure_core::time::{Duration as TokenDuration, OffsetDateTime};
use infer::azure::{Client, Endpoint, Limits, ResourceId, Scope, causes, retry};
use infer::control::action::Change;
use infer::control::cloud::{Azure, Cloud, Submission};
use infer::control::fleet::Fleet;
use infer::control::lease::claim;
use infer::control::ledger::Ledger;
use infer::control::mapping::{Mapping, Rule};
use infer::control::view::{drift, seeing};
use jiff::{SignedDuration, Timestamp};
use tokio::runtime::Runtime;
use twin::units::SimTime;

use super::control::TIMING;
use super::support::{Message, messages, small, told};

/// The most answers of one run.
const MAX_ANSWERS: usize = 32;
/// How long a call may take: an answer is there at once, and a wait before another attempt ends the
/// call.
const CALL_LIMIT: Duration = Duration::ZERO;
/// A place that tokens may be sent to.
const ENDPOINT: &str = "https://management.example.org";
/// The fleet's VMs.
const VM: &str =
    "/subscriptions/s/resourceGroups/fleet/providers/Microsoft.Compute/virtualMachines/near-0";
/// A scale set.
const SET: &str =
    "/subscriptions/s/resourceGroups/fleet/providers/Microsoft.Compute/virtualMachineScaleSets/far";

static RUNTIME: LazyLock<Runtime> = LazyLock::new(|| {
    tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .build()
        .expect("a runtime without threads")
});

/// Answers in their order, then there is nothing.
#[derive(Debug)]
struct Script {
    answers: Mutex<Vec<(u16, Headers, Vec<u8>)>>,
}

#[async_trait]
impl HttpClient for Script {
    async fn execute_request(&self, request: &Request) -> azure_core::Result<AsyncRawResponse> {
        let target = request.url().as_str();
        assert!(target.starts_with(ENDPOINT), "a token goes to {target}");
        let next = self.answers.lock().expect("nobody panicked").pop();
        let (status, headers, body) = next.unwrap_or((404, Headers::new(), Vec::new()));
        // No server answers so: it stands for a connection that breaks.
        if status == 0 {
            return Err(Error::with_message(ErrorKind::Io, "nobody answers"));
        }
        Ok(AsyncRawResponse::from_bytes(status.into(), headers, body))
    }
}

#[derive(Debug)]
struct Token;

#[async_trait]
impl TokenCredential for Token {
    async fn get_token(
        &self,
        _: &[&str],
        _: Option<TokenRequestOptions<'_>>,
    ) -> azure_core::Result<AccessToken> {
        let expires = OffsetDateTime::now_utc() + TokenDuration::hours(1);
        Ok(AccessToken::new("token".to_owned(), expires))
    }
}

/// Answers of Resource Manager, separated by `---`, each a status, headers, an empty line and a
/// body: given one after another to a look at the fleet, to actions, and to whoever follows an
/// operation. A wrong answer is told, and no token goes elsewhere.
pub(crate) fn answers(data: &[u8]) {
    let list = messages(data, MAX_ANSWERS);
    for message in &list {
        let wait = retry::asked(&headers(message));
        assert!(wait.is_none_or(|wait| wait <= retry::MAX_RETRY_AFTER));
    }
    let mut list: Vec<_> = list.iter().map(answer).collect();
    list.reverse();
    let script = Script {
        answers: Mutex::new(list),
    };
    RUNTIME.block_on(drive(Arc::new(script)));
}

fn answer(message: &Message<'_>) -> (u16, Headers, Vec<u8>) {
    let status = message.first.trim().parse().unwrap_or(200);
    (status, headers(message), message.body.to_vec())
}

fn headers(message: &Message<'_>) -> Headers {
    let mut headers = Headers::new();
    for (name, value) in &message.headers {
        headers.insert(
            HeaderName::from(name.to_ascii_lowercase()),
            HeaderValue::from((*value).to_owned()),
        );
    }
    headers
}

async fn drive(script: Arc<Script>) {
    let endpoint = Endpoint::new(ENDPOINT).expect("an address");
    let limits = Limits {
        call: CALL_LIMIT,
        ..Limits::default()
    };
    let client = Client::over(script, &endpoint, "s", Arc::new(Token), limits);
    let client = Arc::new(client.expect("a subscription"));
    let set = ResourceId::parse(SET).expect("an id");
    let scope = Scope::Group {
        group: "fleet".into(),
    };
    let cloud = Azure::new(
        Arc::clone(&client),
        scope,
        vec![set.clone()],
        true,
        Duration::from_secs(1),
    );
    let now = Timestamp::constant(1_767_225_600, 0);
    look(&cloud, now).await;
    let tags = client.group_tags("fleet").await;
    match &tags {
        Ok(tags) => hold(tags, now),
        Err(error) => told(&causes(error)),
    }
    let vm = ResourceId::parse(VM).expect("an id");
    for (target, change) in [
        (&vm, Change::Start),
        (&vm, Change::Deallocate),
        (&set, Change::Capacity { from: 1, to: 2 }),
    ] {
        match cloud.submit(target, change).await {
            Submission::Accepted {
                operation: Some(operation),
            } => {
                assert!(operation.url.starts_with(ENDPOINT), "{}", operation.url);
                cloud.progress(&operation).await;
            }
            Submission::Accepted { operation: None } | Submission::Done => {}
            Submission::Refused { reason } | Submission::Unknown { reason } => told(&reason),
        }
    }
}

/// Looks at the fleet and makes of it what the policy sees.
async fn look(cloud: &Azure, now: Timestamp) {
    let world = small();
    let facts = match cloud.observe(now).await {
        Ok(facts) => facts,
        Err(problem) => return told(&problem),
    };
    for rule in [Rule::Name, Rule::Tag("host".into()), Rule::Size] {
        let mapping = Mapping::of(world, &facts, &rule, &[]);
        let fleet = Fleet::of(world, &facts, mapping, &Ledger::default(), now, &TIMING);
        let seen = seeing(world, &facts, &fleet, None, SimTime::ZERO);
        if let Err(error) = drift(world, &seen.view, &facts, &fleet) {
            panic!("what is seen of Azure is no state: {error}");
        }
    }
}

/// What tags say of the lease.
fn hold(tags: &BTreeMap<String, String>, now: Timestamp) {
    let margin = SignedDuration::from_secs(15);
    assert_eq!(
        claim(tags, "fuzz", now, margin),
        claim(tags, "fuzz", now, margin)
    );
}
