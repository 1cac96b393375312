//! Verdicts from withheld for a timeline service. Copy this file; the messages are made from `proto/` by `build.rs`.
//!
//! tonic knows no service config: balancing, health and retries as `clients/service-config.json` has them are here.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use pb::visibility_service_client::VisibilityServiceClient;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, timeout};
use tonic::transport::{Channel, Endpoint};
use tonic::{Code, Request, Response, Status};
use tonic_health::pb::HealthCheckRequest;
use tonic_health::pb::health_check_response::ServingStatus;
use tonic_health::pb::health_client::HealthClient;
use tonic_types::StatusExt as _;

/// The messages of the API.
#[allow(missing_docs, unreachable_pub, clippy::all)]
pub mod pb {
    tonic::include_proto!("withheld.v1");
}

// [quote: verdict]
/// `Unknown` is not `Visible`: what to show then is the product's decision.
#[derive(Debug, Clone)]
pub enum Verdict {
    /// Nobody has answered, and why.
    Unknown(Problem),
    /// Not withheld.
    Visible(Known),
    /// Withheld, and the key of the notice to show.
    Withheld(String, Known),
}

/// What was known when it was answered.
#[derive(Debug, Clone)]
pub struct Known {
    /// The revision it was made from, and whether that is live.
    pub freshness: pb::Freshness,
    /// The server's policy for unknown viewers decided.
    pub country_unknown: bool,
}

/// What an error says.
#[derive(Debug, Clone)]
pub struct Problem {
    /// As `Unavailable`.
    pub code: Code,
    /// As `TOO_STALE`, of `withheld.v1.ErrorReason`; empty if it is not the service that says so.
    pub reason: String,
    /// The fields that are wrong.
    pub bad_fields: Vec<String>,
}

impl From<Status> for Problem {
    fn from(status: Status) -> Self {
        let details = status.get_error_details();
        let violations = details.bad_request().map(|bad| bad.field_violations.as_slice()).unwrap_or_default();
        Self {
            code: status.code(),
            reason: details.error_info().map(|info| info.reason.clone()).unwrap_or_default(),
            bad_fields: violations.iter().map(|violation| violation.field.clone()).collect(),
        }
    }
}
// [end]

// [quote: channel]
type Service = VisibilityServiceClient<Channel>;
/// The replicas that say they are SERVING.
type Serving = tokio::sync::watch::Sender<BTreeMap<SocketAddr, Service>>;

/// Asks all replicas in turn. One for the whole process; its connections end with it.
#[derive(Debug)]
pub struct Client {
    serving: Arc<Serving>,
    turn: AtomicUsize,
    deadline: Duration,
    max_staleness: Duration,
    _connections: JoinSet<()>,
}

impl Client {
    /// Endpoints are HOST:PORT; all addresses of a name are used, as of `withheld-headless.prod.svc:50051`.
    #[must_use]
    pub fn new(endpoints: Vec<String>, deadline: Duration, max_staleness: Duration) -> Self {
        let serving = Arc::new(Serving::new(BTreeMap::new()));
        let mut connections = JoinSet::new();
        connections.spawn(connect(endpoints, Arc::clone(&serving)));
        Self { serving, turn: AtomicUsize::new(0), deadline, max_staleness, _connections: connections }
    }

    /// The next one in turn; waits until there is one.
    async fn replica(&self) -> Service {
        let mut serving = self.serving.subscribe();
        loop {
            {
                let serving = serving.borrow_and_update();
                let turn = self.turn.fetch_add(1, Ordering::Relaxed).checked_rem(serving.len());
                if let Some(replica) = turn.and_then(|turn| serving.values().nth(turn)) {
                    return replica.clone();
                }
            }
            // It cannot fail: the sender is in `self`.
            let _ = serving.changed().await;
        }
    }

    /// Up to four attempts within the deadline, each at another replica, while the answer is UNAVAILABLE.
    async fn call<Q: Clone, A>(
        &self,
        query: Q,
        rpc: impl AsyncFn(Service, Request<Q>) -> Result<Response<A>, Status>,
    ) -> Result<A, Status> {
        let until = Instant::now() + self.deadline;
        let attempts = async {
            let mut pauses = [10, 20, 40].map(Duration::from_millis).into_iter();
            loop {
                let replica = self.replica().await;
                let mut request = Request::new(query.clone());
                request.set_timeout(until.saturating_duration_since(Instant::now()));
                match (rpc(replica, request).await, pauses.next()) {
                    (Err(status), Some(pause)) if status.code() == Code::Unavailable => {
                        sleep(pause.mul_f64(fastrand::f64())).await;
                    }
                    (answer, _) => return answer.map(Response::into_inner),
                }
            }
        };
        timeout(self.deadline, attempts).await.unwrap_or_else(|_| Err(Status::deadline_exceeded("no answer in time")))
    }
}

/// Keeps a connection to each address that the names have, asking for them again all the time.
async fn connect(endpoints: Vec<String>, serving: Arc<Serving>) {
    let mut connections = BTreeMap::new();
    loop {
        let (mut found, mut complete) = (BTreeSet::new(), true);
        for endpoint in &endpoints {
            match tokio::net::lookup_host(endpoint).await {
                Ok(addresses) => found.extend(addresses),
                Err(_) => complete = false,
            }
        }
        // A name that DNS does not know for a moment has not lost its addresses.
        connections.retain(|address, _| !complete || found.contains(address));
        for address in found {
            connections.entry(address).or_insert_with(|| {
                let mut connection = JoinSet::new();
                connection.spawn(follow_health(address, Arc::clone(&serving)));
                connection
            });
        }
        sleep(Duration::from_secs(5)).await;
    }
}

/// Lists a replica for as long as it says that it is SERVING.
async fn follow_health(address: SocketAddr, serving: Arc<Serving>) {
    let Ok(endpoint) = Endpoint::from_shared(format!("http://{address}")) else { return };
    let channel = endpoint
        .connect_timeout(Duration::from_secs(2))
        .tcp_nodelay(true)
        // A connection that says nothing any more is found out after 15 s, and not when TCP gives up.
        .http2_keep_alive_interval(Duration::from_secs(10))
        .keep_alive_timeout(Duration::from_secs(5))
        .keep_alive_while_idle(true)
        .connect_lazy();
    let listing = Listing { address, serving };
    let service = VisibilityServiceClient::new(channel.clone());
    loop {
        let request = HealthCheckRequest { service: "withheld.v1.VisibilityService".to_owned() };
        if let Ok(changes) = HealthClient::new(channel.clone()).watch(request).await {
            let mut changes = changes.into_inner();
            while let Ok(Some(health)) = changes.message().await {
                listing.set((health.status() == ServingStatus::Serving).then_some(&service));
            }
        }
        listing.set(None);
        sleep(Duration::from_millis(fastrand::u64(200..1_000))).await;
    }
}

/// Takes a replica off the list when its connection is given up, too.
struct Listing {
    address: SocketAddr,
    serving: Arc<Serving>,
}

impl Listing {
    fn set(&self, service: Option<&Service>) {
        self.serving.send_modify(|serving| match service {
            Some(service) => drop(serving.insert(self.address, service.clone())),
            None => drop(serving.remove(&self.address)),
        });
    }
}

impl Drop for Listing {
    fn drop(&mut self) {
        self.set(None);
    }
}
// [end]

impl Client {
    // [quote: check]
    /// The verdict on one account. With `at_least_revision` it includes everything up to that revision.
    pub async fn check(&self, country: &str, account_id: u64, at_least_revision: u64) -> Verdict {
        let query = pb::CheckRequest {
            account_id,
            post_id: None,
            viewer_country: country.to_owned(),
            consistency: self.consistency(at_least_revision),
        };
        let answer = match self.call(query, async |mut replica, request| replica.check(request).await).await {
            Ok(answer) => answer,
            Err(status) => return Verdict::Unknown(status.into()),
        };
        let known =
            Known { freshness: answer.freshness.unwrap_or_default(), country_unknown: answer.viewer_country_unknown };
        if answer.withheld {
            Verdict::Withheld(answer.withholding.unwrap_or_default().notice_key, known)
        } else {
            Verdict::Visible(known)
        }
    }

    fn consistency(&self, at_least_revision: u64) -> Option<pb::Consistency> {
        let max_staleness = self.max_staleness.try_into().ok();
        Some(pb::Consistency { at_least_revision, max_staleness, ..Default::default() })
    }
    // [end]

    // [quote: batch]
    /// A verdict for each account, in the order asked, all from one revision.
    pub async fn batch_check(&self, country: &str, account_ids: &[u64], at_least_revision: u64) -> Vec<Verdict> {
        let query = pb::BatchCheckRequest {
            viewer_country: country.to_owned(),
            account_ids: account_ids.to_vec(),
            post_ids: Vec::new(),
            consistency: self.consistency(at_least_revision),
        };
        let answer = match self.call(query, async |mut replica, request| replica.batch_check(request).await).await {
            Ok(answer) => answer,
            Err(status) => return vec![Verdict::Unknown(status.into()); account_ids.len()],
        };
        let known =
            Known { freshness: answer.freshness.unwrap_or_default(), country_unknown: answer.viewer_country_unknown };
        let mut verdicts = vec![Verdict::Visible(known.clone()); account_ids.len()];
        for entry in answer.accounts {
            let withholding = answer.withholdings.get(entry.withholding as usize);
            let notice_key = withholding.map(|w| w.notice_key.clone()).unwrap_or_default();
            if let Some(verdict) = verdicts.get_mut(entry.index as usize) {
                *verdict = Verdict::Withheld(notice_key, known.clone());
            }
        }
        verdicts
    }
    // [end]

    // [quote: countries]
    /// For each account the countries it is withheld in. An error is not an empty list.
    pub async fn withheld_countries(
        &self,
        account_ids: &[u64],
        at_least_revision: u64,
    ) -> Result<Vec<Vec<String>>, Status> {
        let query = pb::ListWithheldCountriesRequest {
            account_ids: account_ids.to_vec(),
            post_ids: Vec::new(),
            consistency: self.consistency(at_least_revision),
        };
        let rpc = async |mut replica: Service, request| replica.list_withheld_countries(request).await;
        let answer = self.call(query, rpc).await?;
        Ok(answer.subjects.into_iter().map(|subject| subject.country_codes).collect())
    }
    // [end]

    // [quote: watch]
    /// Gives every message to `take`, until that says no: whoever stores its changes stores its position with them, where it
    /// has one. Calls `forget` where what was told before may not be so: all of it is told anew.
    pub async fn watch(
        &self,
        mut position: String,
        mut take: impl FnMut(pb::WatchWithholdingsResponse) -> bool,
        mut forget: impl FnMut(),
    ) {
        const LEAST: Duration = Duration::from_millis(100);
        const MOST: Duration = Duration::from_secs(5);
        let mut pause = LEAST;
        loop {
            let request = pb::WatchWithholdingsRequest { resume_position: position.clone(), ..Default::default() };
            // No deadline: it goes on for ever. A dead connection is ended by keepalive.
            let ended = match self.replica().await.watch_withholdings(request).await {
                Err(status) => status,
                Ok(stream) => {
                    let mut stream = stream.into_inner();
                    loop {
                        match stream.message().await {
                            Ok(Some(message)) => {
                                pause = LEAST;
                                // Without one, there is more of the same revision to come.
                                if !message.resume_position.is_empty() {
                                    position.clone_from(&message.resume_position);
                                }
                                if !take(message) {
                                    return;
                                }
                            }
                            Ok(None) => break Status::unavailable("it has ended"),
                            Err(status) => break status,
                        }
                    }
                }
            };
            let problem = Problem::from(ended);
            if problem.reason == "FOREIGN_POSITION" {
                // It is of another journal, or of entries that this one has lost.
                position.clear();
                forget();
            }
            println!("the watch is resumed at `{position}`: {problem:?}");
            sleep(pause.mul_f64(fastrand::f64())).await;
            pause = MOST.min(pause * 2);
        }
    }
    // [end]
}
