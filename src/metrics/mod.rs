//! What is measured, and how it is told to Prometheus.
//!
//! Nothing here is on the path of a query but the counting in [`calls`] and [`verdicts`], which have atomics of their own.
//! What the state says is read from what is published when somebody scrapes. **Sealed**: a label is one of a few words that
//! this program knows beforehand, never an id and never anything of an order.

pub mod calls;
mod config;
mod turned_away;
pub mod verdicts;

use std::fmt::Write as _;

use std::sync::{LazyLock, Mutex, PoisonError};
use std::time::Duration;

use metrics::{Counter, Gauge, Histogram};
use metrics_exporter_prometheus::{PrometheusBuilder, PrometheusHandle};

use crate::audit::checkpoint::Checkpoint;
use crate::domain::due::{self, Deadline};
use crate::domain::ids::Revision;
use crate::domain::order::OrderState;
use crate::journal::{AppendError, Position};
use crate::net::ResponseMemory;
use crate::readiness::Readiness;
use crate::replica::{FaultReason, Published, Replica};

pub use config::{ConfigPart, certificates, reloaded};
pub use turned_away::{Shed, Why, refused, shed};

/// What a metric is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Gauge,
    Counter,
    Histogram,
}

/// A metric's name, and what it says.
#[derive(Debug, Clone, Copy)]
struct Metric {
    name: &'static str,
    kind: Kind,
    help: &'static str,
}

macro_rules! metrics {
    ($($id:ident = $kind:ident $name:literal $help:literal;)*) => {
        $(const $id: Metric = Metric { name: $name, kind: Kind::$kind, help: $help };)*
        /// All of them but those of [`calls`]. Units are in the names: seconds, or things counted.
        const TABLE: &[Metric] = &[$($id),*];
    };
}

metrics! {
    REVISION = Gauge "withheld_revision" "The journal's entries that queries are answered from.";
    DIGEST = Gauge "withheld_state_digest"
        "48 bits of a digest of the state at withheld_revision and its history; replicas at one revision have the same.";
    AGE = Gauge "withheld_knowledge_age_seconds"
        "Since this replica last knew itself level with the journal; since it started, if it never did.";
    LIVE = Gauge "withheld_live" "1 while that is within --stale-after, else 0.";
    READY = Gauge "withheld_ready" "1 while health says SERVING, else 0.";
    SUBJECTS = Gauge "withheld_subjects" "Accounts and posts that orders hold, in force or not, by kind.";
    ORDERS = Gauge "withheld_orders" "Orders by the state they are in.";
    OVERDUE = Gauge "withheld_orders_overdue"
        "Orders past a deadline, by deadline: to give effect (comply_by), or to hold their review (review_due_at).";
    APPROVALS = Gauge "withheld_approvals_pending" "Orders, and liftings of orders, that wait for a second person.";
    REQUEST_MEMORY = Gauge "withheld_request_memory_seconds"
        "How long ago the oldest command was written whose request_id is still remembered: a repetition of an older one is not recognised.";
    APPROVAL_OLDEST = Gauge "withheld_approval_oldest_seconds"
        "How long the oldest of these has waited; 0 if none does.";
    APPENDS = Counter "withheld_journal_appends_total"
        "Appends to the journal by outcome; one append may carry many commands.";
    APPEND_SECONDS = Histogram "withheld_journal_append_seconds" "How long appends took until they were durable.";
    UNRECORDABLE = Counter "withheld_commands_unrecordable_total"
        "Commands that were not written because no replica could have read their entry: a fault of the program or its files.";
    FOLLOWER_RESTARTS = Counter "withheld_follower_restarts_total"
        "How often following the journal failed and was taken up again.";
    JOURNAL_FAULT = Gauge "withheld_journal_fault"
        "1 while the journal cannot be followed, by reason: diverged, damaged, unreadable, from_the_future, unknown_history.";
    CONNECTED = Gauge "withheld_journal_connected" "1 while there is a connection to the journal, else 0.";
    RECONNECTS = Counter "withheld_journal_reconnects_total" "Connections to the journal made after the first.";
    CHECKPOINT_REVISION = Gauge "withheld_checkpoint_revision"
        "The revision of the last signed checkpoint in --checkpoint-log; 0 if there is none.";
    CHECKPOINT_TIME = Gauge "withheld_checkpoint_timestamp_seconds"
        "When that was signed, in seconds since 1970; 0 if there is none.";
    CHECKPOINT_FAILURES = Counter "withheld_checkpoint_failures_total"
        "How often a checkpoint was due and none was written, or the last one did not hold against the journal.";
    INDEX_BYTES = Gauge "withheld_index_bytes" "Memory of the index that queries are answered from.";
    RESPONSE_UNREAD = Gauge "withheld_response_unread_bytes"
        "Bytes of answers that their clients have not read, of all connections that have more than 16 KiB of them.";
    CONNECTIONS = Gauge "withheld_connections" "Open gRPC connections, by listener.";
    ACCEPT_ERRORS = Counter "withheld_accept_errors_total"
        "How often a connection could not be accepted, for want of descriptors for example, by listener.";
    HANDSHAKES_FAILED = Counter "withheld_tls_handshakes_failed_total" "TLS handshakes that came to nothing, by listener.";
    REFUSED = Counter "withheld_refused_total" "Calls of who may not make them, by listener and why: unknown, forbidden, too_often, not_grpc.";
    SHEDS = Counter "withheld_sheds_total"
        "What was refused or ended because there was too much of it: connections, commands, watchers, staged lists, items of a list, bytes of requests, slow requests, watches, bytes of unread answers.";
    JWT_VERIFICATIONS = Counter "withheld_jwt_verifications_total"
        "JWTs whose signature was verified, by outcome: holds, does_not. One that holds is verified once, not at each call.";
    RELOAD_SUCCESSFUL = Gauge "withheld_config_last_reload_successful"
        "1 if that part of the configuration was taken up when it was last read, else 0: settings, access, certificates.";
    RELOAD_TIME = Gauge "withheld_config_last_reload_success_timestamp_seconds"
        "When that part was last taken up, in seconds since 1970.";
    CERTIFICATE_EXPIRY = Gauge "withheld_certificate_expiry_timestamp_seconds"
        "When the first certificate ends to hold of those that the service shows (server) or that vouch for clients (client_ca), in seconds since 1970; 0 if there is none.";
    BUILD_INFO = Gauge "withheld_build_info" "Always 1; the version is a label.";
}

/// The journal that is followed; it has no place among the others, for its label is not known beforehand.
const JOURNAL_INFO: &str = "withheld_journal_info";

/// Upper bounds in seconds: an append is tens of microseconds in memory, milliseconds on a disk or a network.
const BUCKETS: &[f64] = &[
    0.000_05, 0.000_1, 0.000_25, 0.000_5, 0.001, 0.002_5, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0,
];

/// How often what was measured is put into its buckets, lest it pile up where nobody scrapes.
pub const UPKEEP: Duration = Duration::from_secs(5);

/// Written; somebody else was first; surely not written, for another reason; perhaps written.
const OUTCOMES: [&str; 4] = ["done", "conflict", "refused", "indeterminate"];

const STATES: [OrderState; 8] = [
    OrderState::Scheduled,
    OrderState::InForce,
    OrderState::Stayed,
    OrderState::Lifted,
    OrderState::Expired,
    OrderState::PendingApproval,
    OrderState::Rejected,
    OrderState::ExpiredUnapproved,
];

/// Deadlines that are an alarm once they have passed; at the others something happens by itself.
const ALARMING: [Deadline; 2] = [Deadline::ComplyBy, Deadline::ReviewDueAt];

/// Handles on all of them, made once: looking one up by name is what would cost.
struct Metrics {
    handle: PrometheusHandle,
    /// Gauges are set and told under it, so that those of one scrape belong together.
    scrape: Mutex<()>,
    revision: Gauge,
    digest: Gauge,
    age: Gauge,
    live: Gauge,
    ready: Gauge,
    subjects: [Gauge; 2],
    orders: [Gauge; 8],
    overdue: [Gauge; 2],
    approvals: Gauge,
    approval_oldest: Gauge,
    request_memory: Gauge,
    appends: [Counter; 4],
    append_seconds: Histogram,
    unrecordable: Counter,
    follower_restarts: Counter,
    faults: [Gauge; 5],
    connected: Gauge,
    reconnects: Counter,
    checkpoint_revision: Gauge,
    checkpoint_time: Gauge,
    checkpoint_failures: Counter,
    index_bytes: Gauge,
    response_unread: Gauge,
    jwt_verifications: [Counter; 2],
    config: config::ConfigMetrics,
    doors: [Doorkeeping; 3],
    sheds: [Counter; 8],
    /// Of the listeners for queries and for operators, by [`Why`].
    refused: [[Counter; 4]; 2],
}

/// Made when it is first used. Services of one process, as tests have them, count together.
static METRICS: LazyLock<Metrics> = LazyLock::new(|| {
    // Without buckets the exporter would make summaries; that the list is empty is the only error there is.
    let builder = PrometheusBuilder::new();
    let builder = builder.set_buckets(BUCKETS).unwrap_or_default();
    let recorder = builder.build_recorder();
    let handle = recorder.handle();
    metrics::with_local_recorder(&recorder, || Metrics::registered(handle))
});

impl Metrics {
    fn registered(handle: PrometheusHandle) -> Self {
        for Metric { name, kind, help } in TABLE.iter().copied() {
            match kind {
                Kind::Gauge => metrics::describe_gauge!(name, help),
                Kind::Counter => metrics::describe_counter!(name, help),
                Kind::Histogram => metrics::describe_histogram!(name, help),
            }
        }
        metrics::gauge!(BUILD_INFO.name, "version" => env!("CARGO_PKG_VERSION")).set(1);
        Self {
            handle,
            scrape: Mutex::new(()),
            revision: metrics::gauge!(REVISION.name),
            digest: metrics::gauge!(DIGEST.name),
            age: metrics::gauge!(AGE.name),
            live: metrics::gauge!(LIVE.name),
            ready: metrics::gauge!(READY.name),
            subjects: ["account", "post"].map(|kind| metrics::gauge!(SUBJECTS.name, "kind" => kind)),
            orders: STATES.map(|state| metrics::gauge!(ORDERS.name, "state" => state.as_str())),
            overdue: ALARMING.map(|deadline| metrics::gauge!(OVERDUE.name, "deadline" => deadline.as_str())),
            approvals: metrics::gauge!(APPROVALS.name),
            approval_oldest: metrics::gauge!(APPROVAL_OLDEST.name),
            request_memory: metrics::gauge!(REQUEST_MEMORY.name),
            appends: OUTCOMES.map(|outcome| metrics::counter!(APPENDS.name, "outcome" => outcome)),
            append_seconds: metrics::histogram!(APPEND_SECONDS.name),
            unrecordable: metrics::counter!(UNRECORDABLE.name),
            follower_restarts: metrics::counter!(FOLLOWER_RESTARTS.name),
            faults: FaultReason::ALL.map(|reason| metrics::gauge!(JOURNAL_FAULT.name, "reason" => reason.as_str())),
            connected: metrics::gauge!(CONNECTED.name),
            reconnects: metrics::counter!(RECONNECTS.name),
            checkpoint_revision: metrics::gauge!(CHECKPOINT_REVISION.name),
            checkpoint_time: metrics::gauge!(CHECKPOINT_TIME.name),
            checkpoint_failures: metrics::counter!(CHECKPOINT_FAILURES.name),
            index_bytes: metrics::gauge!(INDEX_BYTES.name),
            response_unread: metrics::gauge!(RESPONSE_UNREAD.name),
            jwt_verifications: ["holds", "does_not"]
                .map(|outcome| metrics::counter!(JWT_VERIFICATIONS.name, "outcome" => outcome)),
            config: config::ConfigMetrics::registered(),
            doors: ["queries", "admin", "http"].map(Doorkeeping::registered),
            refused: ["queries", "admin"].map(|listener| {
                ["unknown", "forbidden", "too_often", "not_grpc"]
                    .map(|why| metrics::counter!(REFUSED.name, "listener" => listener, "why" => why))
            }),
            sheds: Shed::ALL
                .map(|(what, listener)| metrics::counter!(SHEDS.name, "what" => what, "listener" => listener)),
        }
    }
}

/// An append came back, after so long.
pub fn journal_append(outcome: &Result<Position, AppendError>, took: Duration) {
    let [done, conflict, refused, indeterminate] = &METRICS.appends;
    let counter = match outcome {
        Ok(_) => done,
        Err(AppendError::Conflict { .. }) => conflict,
        Err(error) if error.nothing_written() => refused,
        Err(_) => indeterminate,
    };
    counter.increment(1);
    METRICS.append_seconds.record(took);
}

/// A command was not written because no replica could have read its entry.
pub fn command_unrecordable() {
    METRICS.unrecordable.increment(1);
}

/// There is a connection to the journal, or none any more. A journal in a local file is connected once it is opened.
pub fn journal_connected(connected: bool) {
    METRICS.connected.set(if connected { 1.0 } else { 0.0 });
}

/// A connection to the journal was made that was not the first.
pub fn journal_reconnected() {
    METRICS.reconnects.increment(1);
}

/// A JWT was verified, and holds or does not.
pub fn jwt_verified(holds: bool) {
    let [yes, no] = &METRICS.jwt_verifications;
    if holds { yes } else { no }.increment(1);
}

/// Following the journal failed and is taken up again.
pub fn follower_restarted() {
    METRICS.follower_restarts.increment(1);
}

/// This is the last checkpoint in the file.
pub fn checkpoint_kept(last: &Checkpoint) {
    METRICS.checkpoint_revision.set(last.position.revision.get() as f64);
    METRICS.checkpoint_time.set(last.at.map_or(0.0, |at| at.as_millisecond() as f64 / 1e3));
}

/// None was written although it was time to.
pub fn checkpoint_failed() {
    METRICS.checkpoint_failures.increment(1);
}

/// Counts the connections of one listener.
#[derive(Clone)]
pub struct Doorkeeping {
    open: Gauge,
    turned_away: Counter,
    failed: Counter,
    no_handshake: Counter,
}

impl Doorkeeping {
    fn registered(listener: &'static str) -> Self {
        Self {
            open: metrics::gauge!(CONNECTIONS.name, "listener" => listener),
            turned_away: metrics::counter!(SHEDS.name, "what" => "connection", "listener" => listener),
            no_handshake: metrics::counter!(HANDSHAKES_FAILED.name, "listener" => listener),
            failed: metrics::counter!(ACCEPT_ERRORS.name, "listener" => listener),
        }
    }

    /// Of the listener for queries, the one for operators, and the one for pages.
    #[must_use]
    pub fn of_listeners() -> [Self; 3] {
        METRICS.doors.clone()
    }

    /// There was no place for a connection.
    pub fn turned_away(&self) {
        self.turned_away.increment(1);
    }

    /// Accepting failed.
    pub fn failed(&self) {
        self.failed.increment(1);
    }

    /// Who connected and TLS did not come to terms.
    pub fn no_handshake(&self) {
        self.no_handshake.increment(1);
    }

    /// A connection is open until this is dropped.
    #[must_use]
    pub fn enter(&self) -> impl Drop + Send + use<> {
        self.open.increment(1);
        Inside(self.open.clone())
    }
}

impl std::fmt::Debug for Doorkeeping {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Doorkeeping")
    }
}

struct Inside(Gauge);

impl Drop for Inside {
    fn drop(&mut self) {
        self.0.decrement(1);
    }
}

/// Puts what was measured into its buckets; to be called every [`UPKEEP`].
pub fn upkeep() {
    METRICS.handle.run_upkeep();
}

/// What a scrape tells of the replica, all from one thing that was published.
struct View {
    revision: Revision,
    digest: u64,
    age: Duration,
    live: bool,
    subjects: [usize; 2],
    index_bytes: usize,
    orders: [u64; 8],
    overdue: [u64; 2],
    approvals: u64,
    approval_oldest: Duration,
    request_memory: Duration,
}

impl View {
    fn of(replica: &Replica) -> Self {
        let (published, freshness) = (replica.current(), replica.freshness());
        let Published { state, .. } = &*published;
        let now = published.now(replica.clock());
        let request = state.oldest_request().and_then(|(_, at)| at);
        let (mut orders, mut overdue, mut approvals, mut oldest) = ([0; 8], [0; 2], 0, now);
        for order in state.orders() {
            let stands = order.state(now);
            STATES.iter().zip(&mut orders).filter(|(state, _)| **state == stands).for_each(|(_, count)| *count += 1);
            for due in due::of(order, now).filter(|due| due.is_overdue(now)) {
                let counts = ALARMING.iter().zip(&mut overdue);
                counts.filter(|(deadline, _)| **deadline == due.deadline).for_each(|(_, count)| *count += 1);
            }
            if let Some(approval) = order.waits(now) {
                approvals += 1;
                oldest = oldest.min(approval.proposed.at);
            }
        }
        Self {
            revision: state.revision(),
            digest: published.fingerprint(),
            age: freshness.age,
            live: freshness.live,
            subjects: [state.holdings().accounts().len(), state.holdings().posts().len()],
            index_bytes: published.index.bytes(),
            orders,
            overdue,
            approvals,
            approval_oldest: now.duration_since(oldest).unsigned_abs(),
            request_memory: request.map_or(Duration::ZERO, |at| now.duration_since(at).unsigned_abs()),
        }
    }
}

/// What is counted on the path of queries. A clone counts together with it.
#[derive(Debug, Clone)]
pub struct Tallies {
    /// Calls, by how they ended.
    pub calls: calls::Calls,
    /// Verdicts, by country.
    pub verdicts: verdicts::Verdicts,
    /// Answers that nobody has read.
    pub responses: ResponseMemory,
}

/// What Prometheus reads before a metric's values.
fn head(text: &mut String, name: &str, kind: &str, help: &str) -> std::fmt::Result {
    writeln!(text, "# HELP {name} {help}\n# TYPE {name} {kind}")
}

/// All metrics as Prometheus reads them. Takes some milliseconds where there are very many orders.
#[must_use]
pub fn render(replica: &Replica, readiness: Readiness, tallies: &Tallies) -> String {
    let view = View::of(replica);
    let flag = |is: bool| if is { 1.0 } else { 0.0 };
    let all = &*METRICS;
    let mut text = {
        let _scrape = all.scrape.lock().unwrap_or_else(PoisonError::into_inner);
        all.revision.set(view.revision.get() as f64);
        all.digest.set(view.digest as f64);
        all.age.set(view.age.as_secs_f64());
        all.live.set(flag(view.live));
        all.ready.set(flag(readiness.is_ready()));
        let fault = replica.fault().map(|fault| fault.reason);
        all.faults.iter().zip(FaultReason::ALL).for_each(|(gauge, reason)| gauge.set(flag(fault == Some(reason))));

        all.subjects.iter().zip(view.subjects).for_each(|(gauge, count)| gauge.set(count as f64));
        all.index_bytes.set(view.index_bytes as f64);
        all.response_unread.set(tallies.responses.unread() as f64);
        all.orders.iter().zip(view.orders).for_each(|(gauge, count)| gauge.set(count as f64));
        all.overdue.iter().zip(view.overdue).for_each(|(gauge, count)| gauge.set(count as f64));
        all.approvals.set(view.approvals as f64);
        all.approval_oldest.set(view.approval_oldest.as_secs_f64());
        all.request_memory.set(view.request_memory.as_secs_f64());
        all.handle.render()
    };
    if let Some(name) = replica.journal_name() {
        // Of a String, writing cannot fail.
        let _ =
            head(&mut text, JOURNAL_INFO, "gauge", "Always 1; the name of the journal that is followed is a label.");
        let _ = writeln!(text, "{JOURNAL_INFO}{{journal=\"{name}\"}} 1");
    }
    tallies.calls.render(&mut text);
    tallies.verdicts.render(&mut text);
    text
}
