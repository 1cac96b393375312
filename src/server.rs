//! Puts the parts together and runs them: listeners, supervision, drain.
//!
//! Queries have threads of their own, one single-threaded runtime each, all accepting on the same port; everything else
//! runs on the ordinary runtime and cannot starve them. A part that ends before it is told to ends the process.

use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use socket2::{Domain, Socket, Type};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tonic::service::Routes;
use tonic::transport::Server;
use tonic::transport::server::TcpIncoming;
use tonic_health::ServingStatus;
use tonic_health::server::HealthReporter;
use tracing::{error, info};

use crate::api::{Context, Orders, Protections, Visibility};
use crate::clock::Clock;
use crate::config::{JournalUrl, ServeArgs};
use crate::desk;
use crate::domain::locator::Links;
use crate::domain::regime::Regimes;
use crate::domain::rules::Rules;
use crate::domain::territory::{DataError, Groups};
use crate::journal::Journal;
use crate::journal::memory::MemoryJournal;
use crate::journal::sqlite::{OpenError, SqliteJournal};
use crate::pb::v1 as pb;
use crate::record::snapshot::SnapshotFile;
use crate::replica::{self, Replica, ReplicaError, Snapshots};

/// What timeline services may call.
const QUERY_SERVICES: &[&str] = &[pb::visibility_service_server::SERVICE_NAME];
/// What operators may call.
const ADMIN_SERVICES: &[&str] = &[pb::order_service_server::SERVICE_NAME, pb::protection_service_server::SERVICE_NAME];

/// An item is small, ten thousand of them are not.
const MAX_ADMIN_MESSAGE: usize = 64 << 20;

/// Why the service does not start, or stopped.
#[derive(Debug, thiserror::Error)]
pub enum ServeError {
    /// The journal cannot be opened.
    #[error(transparent)]
    Open(#[from] OpenError),
    /// A data file cannot be read.
    #[error("the data file `{path}` cannot be read")]
    DataFile {
        /// The file.
        path: std::path::PathBuf,
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
    })
}

fn journal(url: &JournalUrl, snapshot_every: u64) -> Result<(Arc<dyn Journal>, Snapshots), ServeError> {
    match url {
        JournalUrl::Memory => Ok((Arc::new(MemoryJournal::default()), Snapshots::none())),
        JournalUrl::Sqlite(path) => {
            let mut beside = path.as_os_str().to_owned();
            beside.push(".snapshot");
            let snapshots = Snapshots::in_file(SnapshotFile::at(beside), snapshot_every);
            Ok((Arc::new(SqliteJournal::open(path)?), snapshots))
        }
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
    let common =
        ["grpc.health.v1.Health", "grpc.reflection.v1.ServerReflection", "grpc.reflection.v1alpha.ServerReflection"];
    let files = || {
        let files = tonic_reflection::server::Builder::configure()
            .register_encoded_file_descriptor_set(pb::DESCRIPTORS)
            .register_encoded_file_descriptor_set(tonic_health::pb::FILE_DESCRIPTOR_SET)
            .register_encoded_file_descriptor_set(tonic_reflection::pb::v1::FILE_DESCRIPTOR_SET)
            .register_encoded_file_descriptor_set(tonic_reflection::pb::v1alpha::FILE_DESCRIPTOR_SET);
        services.iter().chain(&common).fold(files, |files, name| files.with_service_name(*name))
    };
    let broken = |_| ServeError::Ended("reflection");
    Ok(Routes::new(files().build_v1().map_err(broken)?).add_service(files().build_v1alpha().map_err(broken)?))
}

/// A service that is up, for as long as its token is not cancelled.
struct Running {
    context: Context,
    keep_uploads: Duration,
    health: [HealthReporter; 2],
    tasks: TaskTracker,
    /// Cancelled when calls in flight are waited for no longer.
    cut: CancellationToken,
}

impl Running {
    async fn set_health(&self, status: ServingStatus) {
        let [queries, admin] = &self.health;
        for (reporter, names) in [(queries, QUERY_SERVICES), (admin, ADMIN_SERVICES)] {
            for name in names.iter().chain(&[""]) {
                reporter.set_service_status(*name, status).await;
            }
        }
    }

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
    stop: CancellationToken,
    cut: CancellationToken,
) -> Result<(), ServeError> {
    let system = |source| ServeError::System { what: "a listener", source };
    let listener = tokio::net::TcpListener::from_std(listener).map_err(system)?;
    let incoming = TcpIncoming::from(listener).with_nodelay(Some(true));
    let serving = Server::builder()
        .http2_keepalive_interval(Some(Duration::from_secs(30)))
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
    let ended = running.tasks.token();
    let work = move || {
        let _ended = ended;
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        let result = match runtime {
            Ok(runtime) => runtime.block_on(serve_listener(listener, routes, stop, cut)),
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
    let (url, every) = (args.journal.clone(), args.snapshot_every);
    let opened = tokio::task::spawn_blocking(move || journal(&url, every)).await;
    let (journal, snapshots) = opened.map_err(|_| ServeError::Ended("opening the journal"))??;

    let replica = Replica::new(clock, args.stale_after);
    let (desk, desk_work) = desk::open(replica.clone(), Arc::clone(&journal), Arc::clone(&rules));
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
        health: [query_health, admin_health],
        tasks: TaskTracker::new(),
        cut: CancellationToken::new(),
    };
    // Ready-means-loaded: before anything listens, nothing reports SERVING.
    running.set_health(ServingStatus::NotServing).await;

    let (fault, mut faults) = tokio::sync::mpsc::channel(8);
    let admin = listen(args.admin_listen, false)?;
    // A shared port is shared with other processes, too: one on another journal would answer some of the queries. Bound
    // alone, it tells whether anybody has it.
    drop(listen(args.listen, false)?);
    let first = listen(args.listen, true)?;
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
    running.tasks.spawn(async move {
        if let Err(error) = serve_listener(admin, routes, admin_stop, cut).await {
            let _ = admin_fault.try_send(error);
        }
    });
    tokio::spawn(desk_work);
    tokio::spawn(desk::discard_old_uploads(desk, args.keep_uploads, Duration::from_mins(1)));
    // The replica goes on until nothing is appended any more.
    let fold_stop = CancellationToken::new();
    let mut following = tokio::spawn(replica::run(replica.clone(), journal, snapshots, fold_stop.clone()));
    info!(queries = %query_address, admin = %admin_address, journal = %args.journal, threads, "listening");
    ready(query_address, admin_address);

    let fault = tokio::select! {
        () = stop.cancelled() => None,
        ended = &mut following => Some(match ended {
            Ok(Err(error)) => error.into(),
            Ok(Ok(())) | Err(_) => ServeError::Ended("the replica"),
        }),
        error = faults.recv() => error,
        // Never ends by itself: after the first time level, it waits.
        () = async {
            replica.ready().await;
            running.set_health(ServingStatus::Serving).await;
            info!("serving");
            std::future::pending().await
        } => None,
    };

    running.set_health(ServingStatus::NotServing).await;
    stop.cancel();
    running.tasks.close();
    if tokio::time::timeout(args.drain, running.tasks.wait()).await.is_err() {
        info!("calls in flight cut off at the drain deadline");
        running.cut.cancel();
        let _ = tokio::time::timeout(Duration::from_secs(1), running.tasks.wait()).await;
    }
    if let Some(error) = fault {
        error!(%error, source = ?std::error::Error::source(&error), "stopping by a fault");
        return Err(error);
    }
    fold_stop.cancel();
    following.await.map_err(|_| ServeError::Ended("the replica"))??;
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
