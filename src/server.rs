//! Puts the parts together and runs them: listeners, supervision, drain.
//!
//! Queries have threads of their own, one single-threaded runtime each, all accepting on the same port; everything else
//! runs on the ordinary runtime and cannot starve them. A part that ends before it is told to ends the process.

use std::net::SocketAddr;
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use socket2::{Domain, Socket, Type};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tonic::service::Routes;
use tonic::transport::Server;
use tonic::transport::server::TcpIncoming;
use tracing::{error, info};

use crate::api::{Context, Orders, Protections, Visibility};
use crate::clock::Clock;
use crate::config::{HttpListen, JournalUrl, ServeArgs};
use crate::desk;
use crate::domain::locator::Links;
use crate::domain::policy::Policy;
use crate::domain::regime::Regimes;
use crate::domain::rules::Rules;
use crate::domain::territory::{DataError, Groups};
use crate::http::{Http, Pages};
use crate::journal::Journal;
use crate::journal::memory::MemoryJournal;
use crate::journal::redis::{LinkChange, RedisJournal, RedisOptions, SetUpError};
use crate::journal::sqlite::{OpenError, SqliteJournal};
use crate::metrics::{self, calls::Calls, calls::Counting};
use crate::pb::v1 as pb;
use crate::readiness::{Gate, Readiness};
use crate::record::snapshot::SnapshotFile;
use crate::replica::{self, Replica, ReplicaError, Snapshots};
use crate::telemetry::causes;

/// What timeline services may call.
const QUERY_SERVICES: &[&str] = &[pb::visibility_service_server::SERVICE_NAME];
/// What operators may call.
const ADMIN_SERVICES: &[&str] = &[pb::order_service_server::SERVICE_NAME, pb::protection_service_server::SERVICE_NAME];

/// What both listeners have beside these.
const COMMON_SERVICES: &[&str] =
    &["grpc.health.v1.Health", "grpc.reflection.v1.ServerReflection", "grpc.reflection.v1alpha.ServerReflection"];
/// What describes them all.
const DESCRIPTORS: [&[u8]; 4] = [
    pb::DESCRIPTORS,
    tonic_health::pb::FILE_DESCRIPTOR_SET,
    tonic_reflection::pb::v1::FILE_DESCRIPTOR_SET,
    tonic_reflection::pb::v1alpha::FILE_DESCRIPTOR_SET,
];

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
    /// There is no place for a snapshot.
    #[error("the snapshot `{path}` has no place")]
    Snapshot {
        /// The file.
        path: PathBuf,
        /// The cause.
        #[source]
        source: std::io::Error,
    },
    /// A data file cannot be read.
    #[error("the data file `{path}` cannot be read")]
    DataFile {
        /// The file.
        path: PathBuf,
        /// The cause.
        #[source]
        source: std::io::Error,
    },
    /// A data file makes no sense.
    #[error(transparent)]
    Data(#[from] DataError),
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

fn data<T: Default>(
    path: Option<&Path>,
    parse: fn(&str) -> Result<T, DataError>,
    builtin: fn() -> T,
) -> Result<T, ServeError> {
    let Some(path) = path else { return Ok(builtin()) };
    let text =
        std::fs::read_to_string(path).map_err(|source| ServeError::DataFile { path: path.to_owned(), source })?;
    Ok(parse(&text)?)
}

fn rules(args: &ServeArgs) -> Result<Rules, ServeError> {
    Ok(Rules {
        regimes: data(args.regimes.as_deref(), Regimes::parse, Regimes::builtin)?,
        groups: data(args.groups.as_deref(), Groups::parse, Groups::builtin)?,
        links: data(args.links.as_deref(), Links::parse, Links::builtin)?,
        policy: data(args.policy.as_deref(), Policy::parse, Policy::builtin)?,
    })
}

fn journal(args: &ServeArgs) -> Result<(Arc<dyn Journal>, Snapshots), ServeError> {
    let snapshots = |beside: PathBuf| -> Result<Snapshots, ServeError> {
        let path = args.snapshot.clone().unwrap_or(beside);
        if let Some(parent) = path.parent().filter(|parent| !parent.as_os_str().is_empty()) {
            let made = std::fs::DirBuilder::new().recursive(true).mode(0o700).create(parent);
            made.map_err(|source| ServeError::Snapshot { path: path.clone(), source })?;
        }
        Ok(Snapshots::in_file(SnapshotFile::at(path), args.snapshot_every).serving(args.serve_from_snapshot))
    };
    match &args.journal.journal {
        JournalUrl::Memory => {
            metrics::journal_connected(true);
            Ok((Arc::new(MemoryJournal::default()), Snapshots::none()))
        }
        JournalUrl::Sqlite(path) => {
            let mut beside = path.as_os_str().to_owned();
            beside.push(".snapshot");
            let journal = SqliteJournal::open(path)?;
            metrics::journal_connected(true);
            Ok((Arc::new(journal), snapshots(beside.into())?))
        }
        JournalUrl::Redis(url) => {
            let options = RedisOptions { on_link: linked, ..args.journal.redis(url) };
            let snapshots = snapshots(format!("withheld-data/{}.snapshot", options.namespace).into())?;
            let journal = Arc::new(RedisJournal::open(options)?);
            Ok((Arc::clone(&journal) as _, snapshots.shared(journal)))
        }
    }
}

fn linked(change: LinkChange) {
    metrics::journal_connected(change != LinkChange::Down);
    if change == LinkChange::UpAgain {
        metrics::journal_reconnected();
    }
}

fn listen(address: SocketAddr, shared: bool) -> Result<std::net::TcpListener, ServeError> {
    let bind = || {
        let socket = Socket::new(Domain::for_address(address), Type::STREAM, None)?;
        socket.set_reuse_address(true)?;
        socket.set_reuse_port(shared)?;
        socket.set_nonblocking(true)?;
        socket.bind(&address.into())?;
        socket.listen(1_024)?;
        Ok(std::net::TcpListener::from(socket))
    };
    bind().map_err(|source| ServeError::Listen { address, source })
}

/// Reflection that lists the services of one listener; the files it serves describe those of both.
fn reflection(services: &[&str]) -> Result<Routes, ServeError> {
    let files = || {
        let files = tonic_reflection::server::Builder::configure();
        let files = DESCRIPTORS.iter().fold(files, |files, set| files.register_encoded_file_descriptor_set(set));
        services.iter().chain(COMMON_SERVICES).fold(files, |files, name| files.with_service_name(*name))
    };
    let broken = |_| ServeError::Ended("reflection");
    Ok(Routes::new(files().build_v1().map_err(broken)?).add_service(files().build_v1alpha().map_err(broken)?))
}

/// A service that is up, for as long as its token is not cancelled.
struct Running {
    context: Context,
    keep_uploads: Duration,
    gate: Gate,
    calls: Calls,
    tasks: TaskTracker,
    /// Cancelled when calls in flight are waited for no longer.
    cut: CancellationToken,
}

impl Running {
    fn query_routes(&self, health: Routes) -> Routes {
        let visibility =
            pb::visibility_service_server::VisibilityServiceServer::new(Visibility::new(self.context.clone()));
        health.add_service(visibility)
    }

    fn admin_routes(&self, health: Routes) -> Routes {
        let orders = Orders::new(self.context.clone(), self.keep_uploads);
        let orders = pb::order_service_server::OrderServiceServer::new(orders)
            .max_decoding_message_size(MAX_ADMIN_MESSAGE)
            .max_encoding_message_size(MAX_ADMIN_MESSAGE);
        let protections =
            pb::protection_service_server::ProtectionServiceServer::new(Protections::new(self.context.clone()));
        health.add_service(orders).add_service(protections)
    }
}

async fn serve_listener(
    listener: std::net::TcpListener,
    routes: Routes,
    counting: Counting,
    stop: CancellationToken,
    cut: CancellationToken,
) -> Result<(), ServeError> {
    let system = |source| ServeError::System { what: "a listener", source };
    let listener = tokio::net::TcpListener::from_std(listener).map_err(system)?;
    let incoming = TcpIncoming::from(listener).with_nodelay(Some(true));
    let serving = Server::builder()
        .http2_keepalive_interval(Some(Duration::from_secs(30)))
        .layer(counting)
        .add_routes(routes)
        .serve_with_incoming_shutdown(incoming, stop.clone().cancelled_owned());
    tokio::select! {
        ended = serving => match ended {
            Ok(()) if stop.is_cancelled() => Ok(()),
            Ok(()) | Err(_) => Err(ServeError::Ended("a listener")),
        },
        // An idle connection would hold a shutdown for ever.
        () = cut.cancelled() => Ok(()),
    }
}

fn spawn_query_thread(
    listener: std::net::TcpListener,
    routes: Routes,
    running: &Running,
    fault: tokio::sync::mpsc::Sender<ServeError>,
) -> Result<(), ServeError> {
    let (stop, cut) = (running.context.stop.clone(), running.cut.clone());
    let counting = running.calls.layer();
    let ended = running.tasks.token();
    let work = move || {
        let _ended = ended;
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        let result = match runtime {
            Ok(runtime) => runtime.block_on(serve_listener(listener, routes, counting, stop, cut)),
            Err(source) => Err(ServeError::System { what: "a runtime", source }),
        };
        if let Err(error) = result {
            let _ = fault.try_send(error);
        }
    };
    let spawned = std::thread::Builder::new().name("query".to_owned()).spawn(work);
    spawned.map(|_| ()).map_err(|source| ServeError::System { what: "a thread", source })
}

/// Runs the service until `stop` is cancelled, then drains it. `ready` is told the two addresses once they listen.
///
/// # Errors
/// If it cannot start, or a part of it ends by itself.
pub async fn run(
    args: ServeArgs,
    clock: Clock,
    stop: CancellationToken,
    ready: impl FnOnce(SocketAddr, SocketAddr),
) -> Result<(), ServeError> {
    let rules = Arc::new(rules(&args)?);
    let for_journal = args.clone();
    let opened = tokio::task::spawn_blocking(move || journal(&for_journal)).await;
    let (journal, snapshots) = opened.map_err(|_| ServeError::Ended("opening the journal"))??;

    let replica = Replica::new(clock.clone(), args.stale_after);
    let (desk, desk_work) = desk::open(replica.clone(), Arc::clone(&journal), Arc::clone(&rules), args.write_limit);
    let context = Context {
        replica: replica.clone(),
        desk: desk.clone(),
        rules,
        unknown_viewer: args.unknown_viewer.into(),
        max_batch: args.max_batch as usize,
        stop: stop.clone(),
    };
    let [(query_health, query_health_service), (admin_health, admin_health_service)] =
        [tonic_health::server::health_reporter(), tonic_health::server::health_reporter()];
    let running = Running {
        context,
        keep_uploads: args.keep_uploads,
        // Ready-means-loaded: before anything listens, nothing reports SERVING.
        gate: Gate::closed([(query_health, QUERY_SERVICES), (admin_health, ADMIN_SERVICES)]).await,
        calls: Calls::new(&DESCRIPTORS, &[QUERY_SERVICES, ADMIN_SERVICES, COMMON_SERVICES].concat(), clock)
            .map_err(|_| ServeError::Ended("counting calls"))?,
        tasks: TaskTracker::new(),
        cut: CancellationToken::new(),
    };

    let (fault, mut faults) = tokio::sync::mpsc::channel(8);
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
    let threads = args
        .query_threads
        .map_or_else(|| std::thread::available_parallelism().map_or(1, std::num::NonZero::get), usize::from);
    let mut listeners = vec![first];
    for _ in 1..threads {
        listeners.push(listen(query_address, true)?);
    }
    for listener in listeners {
        let routes = running.query_routes(reflection(QUERY_SERVICES)?.add_service(query_health_service.clone()));
        spawn_query_thread(listener, routes, &running, fault.clone())?;
    }
    let routes = running.admin_routes(reflection(ADMIN_SERVICES)?.add_service(admin_health_service));
    let (admin_stop, cut, admin_fault) = (stop.clone(), running.cut.clone(), fault.clone());
    let counting = running.calls.layer();
    running.tasks.spawn(async move {
        if let Err(error) = serve_listener(admin, routes, counting, admin_stop, cut).await {
            let _ = admin_fault.try_send(error);
        }
    });
    let pages = Pages { replica: replica.clone(), gate: running.gate.clone(), calls: running.calls.clone() };
    let http = Http::start(http, pages, move |ended| {
        let system = |source| ServeError::System { what: "a listener", source };
        let _ = fault.try_send(ended.map_or_else(system, |()| ServeError::Ended("the HTTP listener")));
    });
    tokio::spawn(desk_work);
    tokio::spawn(desk::discard_old_uploads(desk, args.keep_uploads, Duration::from_mins(1)));
    // The replica goes on until nothing is appended any more.
    let fold_stop = CancellationToken::new();
    let mut following = tokio::spawn(replica::run(replica.clone(), journal, snapshots, fold_stop.clone()));
    info!(queries = %query_address, admin = %admin_address, http = %http, journal = %args.journal, threads, "listening");
    ready(query_address, admin_address);

    let fault = tokio::select! {
        () = stop.cancelled() => None,
        ended = &mut following => Some(match ended {
            Ok(Err(error)) => error.into(),
            Ok(Ok(())) | Err(_) => ServeError::Ended("the replica"),
        }),
        error = faults.recv() => error,
        () = running.gate.keep(&replica, args.max_staleness) => None,
    };

    running.gate.set(Readiness::Stopping).await;
    stop.cancel();
    running.tasks.close();
    if tokio::time::timeout(args.drain, running.tasks.wait()).await.is_err() {
        info!("calls in flight cut off at the drain deadline");
        running.cut.cancel();
        let _ = tokio::time::timeout(Duration::from_secs(1), running.tasks.wait()).await;
    }
    if let Some(error) = fault {
        error!(error = causes(&error), "stopping by a fault");
        return Err(error);
    }
    fold_stop.cancel();
    following.await.map_err(|_| ServeError::Ended("the replica"))??;
    http.stop().await;
    info!("stopped");
    Ok(())
}

/// Cancels `stop` on SIGTERM or Ctrl-C.
///
/// # Errors
/// If signals cannot be had.
pub fn stop_on_signals(stop: CancellationToken) -> Result<(), ServeError> {
    use tokio::signal::unix::{SignalKind, signal};
    let system = |source| ServeError::System { what: "signals", source };
    let mut terminate = signal(SignalKind::terminate()).map_err(system)?;
    let mut interrupt = signal(SignalKind::interrupt()).map_err(system)?;
    tokio::spawn(async move {
        tokio::select! { _ = terminate.recv() => {}, _ = interrupt.recv() => {} }
        info!("told to stop");
        stop.cancel();
    });
    Ok(())
}
