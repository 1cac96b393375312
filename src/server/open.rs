//! What the service is put together from, opened: the journal, sockets, and what describes the services.

use std::net::SocketAddr;
use std::os::unix::fs::DirBuilderExt as _;
use std::sync::Arc;

use tonic::service::Routes;
use tracing::warn;

use super::{COMMON_SERVICES, DESCRIPTORS, OTHER_DESCRIPTORS, ServeError};
use crate::audit::log::last_position;
use crate::clock::{Clock, random_id};
use crate::config::{JournalUrl, ServeArgs};
use crate::domain::event::Attribution;
use crate::journal::{Journal, Position, ReadError};
use crate::journal::memory::MemoryJournal;
use crate::journal::redis::{LinkChange, RedisJournal, RedisOptions};
use crate::journal::sqlite::SqliteJournal;
use crate::metrics;
use crate::net::{self, Places};
use crate::record::snapshot::SnapshotFile;
use crate::record::creation;
use crate::replica::Snapshots;
use crate::replica::lineage::{Evidence, HistoryFile, Lineage};

/// A journal, and what is known of it from before.
pub(super) struct Opened {
    pub(super) journal: Arc<dyn Journal>,
    pub(super) snapshots: Snapshots,
    pub(super) lineage: Lineage,
}

pub(super) fn journal(args: &ServeArgs, clock: &Clock) -> Result<Opened, ServeError> {
    let (file, lineage) = (snapshot_file(args), lineage(args));
    if let Some(parent) = file.as_ref().and_then(|file| file.path().parent()).filter(|it| !it.as_os_str().is_empty()) {
        let made = std::fs::DirBuilder::new().recursive(true).mode(0o700).create(parent);
        made.map_err(|source| ServeError::Snapshot { path: parent.to_owned(), source })?;
    }
    let snapshots = match file {
        Some(file) => Snapshots::in_file(file, args.snapshot_every).serving(args.serve_from_snapshot),
        None => Snapshots::none(),
    };
    match &args.journal.journal {
        JournalUrl::Memory => {
            metrics::journal_connected(true);
            Ok(Opened { journal: Arc::new(MemoryJournal::default()), snapshots, lineage })
        }
        JournalUrl::Sqlite(path) => {
            // One-history: what is known is looked at before anything is made where the journal should be.
            let empty = std::fs::metadata(path).map_or(true, |file| file.len() == 0);
            if let Some(known) = lineage.known()?.into_iter().next().filter(|_| empty) {
                return Err(ServeError::JournalGone { path: path.clone(), known });
            }
            let journal = SqliteJournal::open(path)?;
            metrics::journal_connected(true);
            Ok(Opened { journal: Arc::new(journal), snapshots, lineage })
        }
        JournalUrl::Redis(url) => {
            let options = RedisOptions {
                on_link: linked,
                clock: clock.clone(),
                max_clock_skew: args.max_clock_skew,
                ..args.journal.redis(url)
            };
            let journal = Arc::new(RedisJournal::open(options)?);
            let snapshots = snapshots.shared(Arc::clone(&journal) as _);
            Ok(Opened { journal, snapshots, lineage: lineage.of_existing() })
        }
    }
}

fn snapshot_file(args: &ServeArgs) -> Option<SnapshotFile> {
    args.snapshot.clone().or_else(|| args.journal.beside("snapshot")).map(SnapshotFile::at)
}

/// Where what this service knows of its journal is kept: beside the journal, or beside the snapshot if that has a place of
/// its own.
fn lineage(args: &ServeArgs) -> Lineage {
    let history = args.history.clone().or_else(|| match &args.snapshot {
        Some(snapshot) => Some(snapshot.with_extension("history")),
        None => args.journal.beside("history"),
    });
    let history = history.filter(|_| args.journal.journal != JournalUrl::Memory);
    let log = args.checkpoint_log.clone().or_else(|| args.journal.beside("checkpoints"));
    let checkpoints = log.map(|path| Evidence { path, last_position });
    Lineage::of(history.map(HistoryFile::at), snapshot_file(args), checkpoints)
}

/// Makes a journal that is this machine's alone, if there is none: its first entry.
pub(super) async fn create(journal: &dyn Journal, lineage: &Lineage, clock: &Clock) -> Result<(), ServeError> {
    let unavailable = |error: ReadError| ServeError::Replica(error.into());
    if lineage.must_exist() || journal.tail().await.map_err(unavailable)?.end != Position::START {
        return Ok(());
    }
    if !lineage.known()?.is_empty() {
        // It is not the one that is known: whoever follows it will say so.
        return Ok(());
    }
    let payload = creation(clock.now(), &program("there was no journal here"), random_id());
    journal.append(Position::START, vec![payload]).await.map_err(ServeError::Create)?;
    Ok(())
}

fn linked(change: LinkChange) {
    metrics::journal_connected(change != LinkChange::Down);
    if change == LinkChange::UpAgain {
        metrics::journal_reconnected();
    }
}

pub(super) fn listen(address: SocketAddr, shared: bool) -> Result<std::net::TcpListener, ServeError> {
    net::bind(address, shared).map_err(|source| ServeError::Listen { address, source })
}

/// As many places for timeline services as were asked for, if there are descriptors for them.
pub(super) fn places(asked: u32) -> Places {
    let possible = net::descriptors().saturating_sub(OTHER_DESCRIPTORS).max(16);
    if u64::from(asked) > possible {
        warn!(asked, possible, "this process may not have so many open files: fewer connections are accepted");
    }
    Places::new(usize::try_from(possible.min(asked.into())).unwrap_or(usize::MAX))
}

/// Reflection that lists the services of one listener; the files it serves describe those of both.
pub(super) fn reflection(services: &[&str]) -> Result<Routes, ServeError> {
    let files = || {
        let files = tonic_reflection::server::Builder::configure();
        let files = DESCRIPTORS.iter().fold(files, |files, set| files.register_encoded_file_descriptor_set(set));
        services.iter().chain(COMMON_SERVICES).fold(files, |files, name| files.with_service_name(*name))
    };
    let broken = |_| ServeError::Ended("reflection");
    Ok(Routes::new(files().build_v1().map_err(broken)?).add_service(files().build_v1alpha().map_err(broken)?))
}
