//! What the service is put together from, opened: the journal, sockets, and what describes the services.

use std::net::SocketAddr;
use std::os::unix::fs::DirBuilderExt as _;
use std::sync::Arc;

use tonic::service::Routes;
use tracing::warn;

use super::{COMMON_SERVICES, DESCRIPTORS, OTHER_DESCRIPTORS, ServeError};
use crate::config::{JournalUrl, ServeArgs};
use crate::journal::Journal;
use crate::journal::memory::MemoryJournal;
use crate::journal::redis::{LinkChange, RedisJournal, RedisOptions};
use crate::journal::sqlite::SqliteJournal;
use crate::metrics;
use crate::net::{self, Places};
use crate::record::snapshot::SnapshotFile;
use crate::replica::Snapshots;

pub(super) fn journal(args: &ServeArgs) -> Result<(Arc<dyn Journal>, Snapshots), ServeError> {
    let snapshots = || -> Result<Snapshots, ServeError> {
        let Some(path) = args.snapshot.clone().or_else(|| args.journal.beside("snapshot")) else {
            return Ok(Snapshots::none());
        };
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
            let journal = SqliteJournal::open(path)?;
            metrics::journal_connected(true);
            Ok((Arc::new(journal), snapshots()?))
        }
        JournalUrl::Redis(url) => {
            let options = RedisOptions { on_link: linked, ..args.journal.redis(url) };
            let snapshots = snapshots()?;
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
