//! What the service is put together from, opened: the journal, sockets, and what describes the services.

use std::net::SocketAddr;
use std::os::unix::fs::DirBuilderExt as _;
use std::sync::Arc;

use tonic::service::Routes;
use tracing::warn;

use super::{COMMON_SERVICES, DESCRIPTORS, OTHER_DESCRIPTORS, ServeError};
use crate::clock::{Clock, new_id, random_id};
use crate::config::{JournalUrl, ServeArgs};
use crate::domain::digest::Digest;
use crate::domain::event::Attribution;
use crate::journal::memory::MemoryJournal;
use crate::journal::redis::{LinkChange, RedisJournal, RedisOptions};
use crate::journal::sqlite::SqliteJournal;
use crate::journal::{Journal, Position, ReadError};
use crate::metrics;
use crate::net::{self, ConnectionLimit};
use crate::record::creation;
use crate::replica::Snapshots;
use crate::replica::lineage::Lineage;

/// A journal, and what is known of it from before.
pub(super) struct Opened {
    pub(super) journal: Arc<dyn Journal>,
    pub(super) snapshots: Snapshots,
    pub(super) lineage: Lineage,
}

pub(super) fn journal(args: &ServeArgs, clock: &Clock) -> Result<Opened, ServeError> {
    let (file, lineage) = (args.evidence.snapshot_file(&args.journal), args.evidence.lineage(&args.journal));
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
            let empty = !SqliteJournal::has_content(path);
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
            Ok(Opened { journal, snapshots, lineage })
        }
    }
}

/// Makes a journal that is this machine's alone, if there is none: its first entry.
pub(super) async fn create(journal: &dyn Journal, lineage: &Lineage, clock: &Clock) -> Result<(), ServeError> {
    let unavailable = |error: ReadError| ServeError::Replica(error.into());
    // If another journal is known, whoever follows this one will say so.
    let made_here = !lineage.must_exist() && lineage.known()?.is_empty();
    if made_here && journal.tail().await.map_err(unavailable)?.end == Position::START {
        let by = attribution("withheld", "there was no journal here").ok_or(ServeError::Ended("naming a request"))?;
        let payload = creation(clock.now(), &by, random_id());
        journal.append(Position::START, vec![payload]).await.map_err(ServeError::Create)?;
    }
    Ok(())
}

/// Who makes a journal, and why.
pub(crate) fn attribution(actor: &str, reason: &str) -> Option<Attribution> {
    let request_id = new_id();
    let request_digest = Digest::of(request_id.as_bytes());
    let (actor, reason, request_id) = (actor.into(), reason.into(), request_id.parse().ok()?);
    Some(Attribution { actor, identity: None, reason, request_id, request_digest })
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

/// As many connections of timeline services as were asked for, if there are descriptors for them.
pub(super) fn connection_limit(asked: u32) -> ConnectionLimit {
    let possible = net::descriptors().saturating_sub(OTHER_DESCRIPTORS).max(16);
    if u64::from(asked) > possible {
        warn!(asked, possible, "this process may not have so many open files: fewer connections are accepted");
    }
    ConnectionLimit::new(usize::try_from(possible.min(asked.into())).unwrap_or(usize::MAX))
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
