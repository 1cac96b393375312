//! Puts the parts together and runs them: listeners, supervision, drain.
//!
//! Queries have threads of their own, one single-threaded runtime each, all accepting on the same port; everything else
//! runs on the ordinary runtime and cannot starve them. A part that ends before it is told to ends the process.
//!
//! Stopping goes in one order, all of it within `--drain`: health says NOT_SERVING; a pause, in which calls are taken all
//! the same, until balancers have noticed; nobody accepts any more, connections are told to leave, streams end with where
//! to resume, other calls finish; what has not finished is cut off; the replica writes its snapshot.

mod open;

pub(crate) use open::attribution;

use std::convert::Infallible;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{Request, Response};
use http_body::Body as HttpBody;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tonic::Status;
use tonic::body::Body;
use tonic::service::Routes;
use tower::util::MapRequest;
use tower::{Layer as _, Service, ServiceExt as _};
use tracing::{error, info, warn};

use open::{Opened, connection_limit, create, journal, listen, reflection};

use crate::access::{self, Guard, Refusal, Refusals};
use crate::api::{
    Audit, Context, Deadlines, Journals, LIMITS, Orders, Protections, Queries, Reports, Visibility, into_tonic,
    turned_away,
};
use crate::audit::keep::{Checkpoints, KeysError, read_keys};
use crate::audit::log::CheckpointLog;
use crate::clock::Clock;
use crate::config::{ConnectionAge, HttpListen, ServeArgs};
use crate::desk;
use crate::health::HealthService;
use crate::http::{Http, Pages};
use crate::journal::AppendError;
use crate::journal::redis::SetUpError;
use crate::journal::sqlite::OpenError;
use crate::machine;
use crate::metrics::{self, Doorkeeping, Tallies, Why, calls::Calls, verdicts::Verdicts};
use crate::net::{
    ConnectionLimit, Door, Drain, Grpc, Http1, MemoryLimiter, Pace, Reclaim, RequestBody, ResponseMemory, Tls,
};
use crate::pb::{health as pb_health, v1 as pb};
use crate::readiness::{Gate, Readiness};
use crate::reload::Live;
use crate::replica::lineage::{Known, LineageError};
use crate::replica::{self, Replica, ReplicaError};
use crate::stop::{Stop, Urgency};
use crate::telemetry::{Sparing, causes};
use crate::trace;

/// What timeline services may call.
const QUERY_SERVICES: &[&str] = &[pb::visibility_service_server::SERVICE_NAME];
/// What operators may call.
const ADMIN_SERVICES: &[&str] = &[
    pb::order_service_server::SERVICE_NAME,
    pb::protection_service_server::SERVICE_NAME,
    pb::report_service_server::SERVICE_NAME,
    pb::audit_service_server::SERVICE_NAME,
    pb::journal_service_server::SERVICE_NAME,
];

/// What both listeners have beside these.
const COMMON_SERVICES: &[&str] =
    &["grpc.health.v1.Health", "grpc.reflection.v1.ServerReflection", "grpc.reflection.v1alpha.ServerReflection"];
/// What describes them all.
const DESCRIPTORS: [&[u8]; 4] = [
    pb::DESCRIPTORS,
    pb_health::DESCRIPTORS,
    tonic_reflection::pb::v1::FILE_DESCRIPTOR_SET,
    tonic_reflection::pb::v1alpha::FILE_DESCRIPTOR_SET,
];

/// Operators and their programs are few.
const MAX_ADMIN_CONNECTIONS: usize = 1_000;
/// Whoever scrapes or probes.
const MAX_HTTP_CONNECTIONS: usize = 200;
/// Descriptors that are for other things than connections of timeline services.
const OTHER_DESCRIPTORS: u64 = 128 + (MAX_ADMIN_CONNECTIONS + MAX_HTTP_CONNECTIONS) as u64;
/// How long what is left may take once everything has been cut off.
const AFTER_THE_CUT: Duration = Duration::from_secs(2);
/// How long the replica may take to write its last snapshot.
const LAST_SNAPSHOT: Duration = Duration::from_secs(5);
/// Bytes of requests that are held at once, for each listener: far more than there are if those who call behave.
const MAX_HELD: usize = 512 << 20;
/// Bytes of answers that nobody has read, of all connections of all listeners: far more than there are if those who ask read.
const MAX_UNREAD: usize = 256 << 20;
/// Ten thousand ids are 80 KB.
const MAX_QUERY_MESSAGE: usize = 4 << 20;
/// An item is small, ten thousand of them are not.
const MAX_ADMIN_MESSAGE: usize = 64 << 20;

/// Why the service does not start, or stopped.
#[derive(Debug, thiserror::Error)]
pub enum ServeError {
    /// The journal cannot be opened.
    #[error(transparent)]
    Open(#[from] OpenError),
    /// The journal on Redis cannot be set up.
    #[error(transparent)]
    SetUp(#[from] SetUpError),
    /// Checkpoints cannot be signed.
    #[error(transparent)]
    Keys(#[from] KeysError),
    /// There is no journal where there was one.
    #[error(
        "there is no journal in `{path}`, and this service knows {known}: nothing was made in its place. Put it back from a \
         backup; or, if a new journal is to begin here, say `withheld journal accept`, which names what is given up"
    )]
    JournalGone {
        /// Where it was.
        path: PathBuf,
        /// What is known.
        known: Known,
    },
    /// What is known of a journal cannot be read.
    #[error(transparent)]
    Lineage(#[from] LineageError),
    /// A new journal cannot be begun.
    #[error("a journal cannot be created")]
    Create(#[source] AppendError),
    /// There is no place for a snapshot.
    #[error("the snapshot `{path}` has no place")]
    Snapshot {
        /// The file.
        path: PathBuf,
        /// The cause.
        #[source]
        source: std::io::Error,
    },
    /// An address cannot be listened on.
    #[error("cannot listen on `{address}`: is another service there?")]
    Listen {
        /// The address.
        address: SocketAddr,
        /// The cause.
        #[source]
        source: std::io::Error,
    },
    /// The journal cannot be followed.
    #[error(transparent)]
    Replica(#[from] ReplicaError),
    /// A part of the service ended by itself.
    #[error("{0} ended by itself")]
    Ended(&'static str),
    /// A thread or signal handler cannot be had.
    #[error("the operating system refuses {what}")]
    System {
        /// What.
        what: &'static str,
        /// The cause.
        #[source]
        source: std::io::Error,
    },
}

/// What the listeners have in common.
struct Running {
    context: Context,
    audit: Audit,
    keep_uploads: Duration,
    gate: Gate,
    access: access::Current,
    clock: Clock,
    tallies: Tallies,
    tasks: TaskTracker,
    drain: Drain,
    fault: mpsc::Sender<ServeError>,
}

impl Running {
    /// The services for queries, for one thread.
    fn queries(&self, health: Routes) -> Queries {
        let visibility = Visibility::new(self.context.clone(), self.tallies.verdicts.tally());
        let service = pb::visibility_service_server::VisibilityServiceServer::new(visibility.clone());
        Queries::new(visibility, health.add_service(service))
    }

    fn admin_routes(&self, health: Routes) -> Routes {
        let orders = Orders::new(self.context.clone(), self.keep_uploads);
        let orders = pb::order_service_server::OrderServiceServer::new(orders)
            .max_decoding_message_size(MAX_ADMIN_MESSAGE)
            .max_encoding_message_size(MAX_ADMIN_MESSAGE);
        let protections =
            pb::protection_service_server::ProtectionServiceServer::new(Protections::new(self.context.clone()));
        let reports = pb::report_service_server::ReportServiceServer::new(Reports::new(self.context.clone()));
        let audit = pb::audit_service_server::AuditServiceServer::new(self.audit.clone());
        let journals = pb::journal_service_server::JournalServiceServer::new(Journals::new(self.context.clone()));
        let routes = health.add_service(orders).add_service(protections).add_service(reports);
        routes.add_service(audit).add_service(journals)
    }

    /// Turns away who may not call what a listener serves, and has that recorded.
    fn guard(&self, listener: &'static str) -> Guard {
        let refusals = Refusals::of(listener, self.clock.clone());
        Guard::new(Arc::clone(&self.access), self.clock.clone(), move |path, peer, refusal| {
            let why = match &refusal {
                Refusal::NotGrpc => Why::NotGrpc,
                Refusal::Unknown(_) => Why::Unknown,
                Refusal::Forbidden { .. } => Why::Forbidden,
                Refusal::TooOften { .. } => Why::TooOften,
            };
            metrics::refused(listener, why);
            refusals.record(path, peer, &refusal);
            turned_away(refusal)
        })
    }

    fn door<P>(
        &self,
        protocol: P,
        limit: ConnectionLimit,
        tls: Option<Tls>,
        counts: Doorkeeping,
        pace: Pace,
    ) -> Door<P> {
        let failures = Arc::new(Sparing::new(self.clock.clone()));
        let access = Arc::clone(&self.access);
        // Where nobody is asked who they are, nobody is more of a stranger than another.
        let reclaim = Reclaim::when(move || access.load().is_some());
        let (clock, drain) = (self.clock.clone(), self.drain.clone());
        Door { limit, reclaim, protocol, tls, pace, drain, counts, clock, failures }
    }

    /// Serves one socket until its end; to be run where its calls are to run.
    fn serve<S, B>(
        &self,
        door: Door<Grpc>,
        listener: std::net::TcpListener,
        guard: Guard,
        service: S,
    ) -> impl Future<Output = ()> + use<S, B>
    where
        S: Service<Request<RequestBody>, Response = Response<B>, Error = Infallible> + Clone + Unpin + Send + 'static,
        S::Future: Unpin + Send + 'static,
        B: HttpBody<Data = Bytes, Error = Status> + From<Body> + Unpin + Send + 'static,
    {
        // What strangers call has no span: they could have any number recorded.
        let service = guard.layer(trace::layer().layer(Deadlines.layer(service)));
        let service = self.tallies.calls.layer().layer(service);
        let (fault, ended) = (self.fault.clone(), self.tasks.token());
        async move {
            if let Err(source) = door.serve(listener, service).await {
                let _ = fault.try_send(ServeError::System { what: "a listener", source });
            }
            drop(ended);
        }
    }

    /// Serves one socket on a thread of its own.
    fn spawn_query_thread(
        &self,
        door: Door<Grpc>,
        listener: std::net::TcpListener,
        guard: Guard,
        queries: Queries,
    ) -> Result<(), ServeError> {
        let serving = self.serve(door, listener, guard, queries);
        let fault = self.fault.clone();
        let work = move || match tokio::runtime::Builder::new_current_thread().enable_all().build() {
            Ok(runtime) => runtime.block_on(serving),
            Err(source) => drop(fault.try_send(ServeError::System { what: "a runtime", source })),
        };
        let spawned = std::thread::Builder::new().name("query".to_owned()).spawn(work);
        spawned.map(|_| ()).map_err(|source| ServeError::System { what: "a thread", source })
    }

    /// Ends all connections, within this time, and then those that have not ended. What is urgent is not waited for.
    async fn drain(&self, stop: &Stop, pause: Duration, all: Duration) {
        let mut end = pin!(tokio::time::sleep(all));
        self.gate.set(Readiness::Stopping);
        tokio::select! { () = tokio::time::sleep(pause) => {}, () = stop.reaches(Urgency::Prompt) => {} }
        self.drain.leave();
        self.gate.dismiss();
        self.tasks.close();
        let cut = tokio::select! {
            () = self.tasks.wait() => false,
            () = end.as_mut() => true,
            () = stop.reaches(Urgency::Immediate) => true,
        };
        if cut {
            info!("calls in flight are cut off");
            self.drain.cut();
            let _ = tokio::time::timeout(AFTER_THE_CUT, self.tasks.wait()).await;
        }
    }
}

/// Runs the service until it is told to stop, then drains it. `ready` is told the two addresses once they listen.
///
/// # Errors
/// If it cannot start, or a part of it ends by itself.
pub async fn run(
    args: ServeArgs,
    live: Live,
    clock: Clock,
    stop: Stop,
    ready: impl FnOnce(SocketAddr, SocketAddr),
) -> Result<(), ServeError> {
    let for_journal = args.clone();
    let for_clock = clock.clone();
    let opened = tokio::task::spawn_blocking(move || journal(&for_journal, &for_clock)).await;
    let Opened { journal, snapshots, lineage } = opened.map_err(|_| ServeError::Ended("opening the journal"))??;
    create(&*journal, &lineage, &clock).await?;

    // An entry's clock and this machine's may each be off by so much.
    let replica = Replica::new(clock.clone(), args.stale_after).with_max_ahead(2 * args.max_clock_skew);
    let (desk, desk_work) =
        desk::open(replica.clone(), Arc::clone(&journal), Arc::clone(&live.rules), args.write_limit);
    let context = Context {
        replica: replica.clone(),
        desk: desk.clone(),
        rules: live.rules,
        unknown_viewer: args.unknown_viewer.into(),
        max_batch: args.max_batch as usize,
        control: tokio::runtime::Handle::current(),
        news: Arc::default(),
    };
    let checkpoints = Checkpoints::new(read_keys(&args.checkpoint_key)?, replica.clone());
    let (fault, mut faults) = mpsc::channel(8);
    let services = [QUERY_SERVICES, ADMIN_SERVICES, COMMON_SERVICES].concat();
    let calls = Calls::new(&DESCRIPTORS, &services, clock.clone()).map_err(|_| ServeError::Ended("counting calls"))?;
    let running = Running {
        audit: Audit::new(context.clone(), Arc::clone(&journal) as _, checkpoints.clone()),
        context,
        keep_uploads: args.keep_uploads,
        // Ready-means-loaded: before anything listens, nothing reports SERVING.
        gate: Gate::closed(),
        access: live.access,
        clock,
        tallies: Tallies { calls, verdicts: Verdicts::default(), responses: ResponseMemory::new(MAX_UNREAD) },
        tasks: TaskTracker::new(),
        drain: Drain::default(),
        fault: fault.clone(),
    };
    let age = match args.max_connection_age {
        ConnectionAge::Off => None,
        ConnectionAge::Most(age) => Some(age),
    };
    let pace = Pace { age, limit: None, keepalive: args.keepalive };
    let [query_counts, admin_counts, http_counts] = Doorkeeping::of_listeners();
    let [query_tls, admin_tls, http_tls] = live.tls.map_or_else(Default::default, |tls| tls.map(Some));
    let responses = running.tallies.responses.clone();
    let grpc = |max_message| Grpc {
        memory: MemoryLimiter::new(MAX_HELD),
        responses: responses.clone(),
        max_message,
        statuses: LIMITS,
    };
    let query_door =
        running.door(grpc(MAX_QUERY_MESSAGE), connection_limit(args.max_connections), query_tls, query_counts, pace);
    let admin_door = running.door(
        grpc(MAX_ADMIN_MESSAGE),
        ConnectionLimit::new(MAX_ADMIN_CONNECTIONS),
        admin_tls,
        admin_counts,
        pace,
    );
    // It goes on while the others drain, so that it can be seen.
    let http_door = running.door(Http1, ConnectionLimit::new(MAX_HTTP_CONNECTIONS), http_tls, http_counts, pace);
    // Nobody is ever known to it: who has been there longest goes.
    let http_door = Door { drain: Drain::default(), reclaim: Reclaim::when(|| true), ..http_door };

    let admin = listen(args.admin_listen, false)?;
    // A shared port is shared with other processes, too: one on another journal would answer some of the queries. Bound
    // alone, it tells whether anybody has it.
    drop(listen(args.listen, false)?);
    let first = listen(args.listen, true)?;
    let http = match args.http_listen {
        HttpListen::Off => None,
        HttpListen::At(address) => Some(listen(address, false)?),
    };
    let local = |listener: &std::net::TcpListener, address| listener.local_addr().unwrap_or(address);
    let (query_address, admin_address) = (local(&first, args.listen), local(&admin, args.admin_listen));
    let threads = args.query_threads.map_or_else(machine::cores, usize::from);
    let mut listeners = vec![first];
    for _ in 1..threads {
        listeners.push(listen(query_address, true)?);
    }
    let guard = running.guard("queries");
    for listener in listeners {
        let health = HealthService::server(QUERY_SERVICES, &running.gate);
        let queries = running.queries(reflection(QUERY_SERVICES)?.add_service(health));
        running.spawn_query_thread(query_door.clone(), listener, guard.clone(), queries)?;
    }
    let health = HealthService::server(ADMIN_SERVICES, &running.gate);
    let routes = running.admin_routes(reflection(ADMIN_SERVICES)?.add_service(health));
    let routes = MapRequest::new(routes, into_tonic).map_future(Box::pin);
    tokio::spawn(running.serve(admin_door, admin, running.guard("admin"), routes));
    let pages = Pages { replica: replica.clone(), gate: running.gate.clone(), tallies: running.tallies.clone() };
    let http = Http::start(http, http_door, pages, move |source| {
        let _ = fault.try_send(ServeError::System { what: "the HTTP listener", source });
    });
    tokio::spawn(desk_work);
    tokio::spawn(desk::discard_old_uploads(desk, args.keep_uploads, Duration::from_mins(1)));
    if let Some(log) = args.evidence.checkpoints(&args.journal).map(CheckpointLog::at) {
        tokio::spawn(checkpoints.keep(Arc::clone(&journal) as _, log, args.checkpoint_every));
    }
    // The replica goes on until nothing is appended any more.
    let fold_stop = CancellationToken::new();
    let mut following = tokio::spawn(replica::run(replica.clone(), journal, snapshots, lineage, fold_stop.clone()));
    info!(queries = %query_address, admin = %admin_address, http = %http, journal = %args.journal, threads, "listening");
    ready(query_address, admin_address);

    let fault = tokio::select! {
        () = stop.reaches(Urgency::Announced) => None,
        ended = &mut following => Some(match ended {
            Ok(Err(error)) => error.into(),
            Ok(Ok(())) | Err(_) => ServeError::Ended("the replica"),
        }),
        error = faults.recv() => error,
        () = running.gate.keep(&replica, args.max_staleness, args.max_fault) => None,
    };
    if let Some(error) = &fault {
        error!(error = causes(error), "stopping by a fault");
        stop.say(Urgency::Prompt);
    }
    running.drain(&stop, args.drain_pause, args.drain).await;
    if let Some(error) = fault {
        return Err(error);
    }
    fold_stop.cancel();
    match tokio::time::timeout(LAST_SNAPSHOT, following).await {
        Ok(ended) => ended.map_err(|_| ServeError::Ended("the replica"))??,
        Err(_) => warn!("the last snapshot takes too long and is left: the next start folds more of the journal"),
    }
    http.stop().await;
    info!("stopped");
    Ok(())
}
