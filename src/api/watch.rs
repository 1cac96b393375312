//! WatchWithholdings: the complete list of every subject that may have changed, from any revision on.
//!
//! What changed since a revision is read off the orders' own records, so any revision can be resumed after, for ever, and
//! resuming is the same computation as going on. A reader is never skipped silently: it gets every publication's subjects
//! with their lists, or is cut off with the revision to resume after.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use tokio::sync::{Mutex, mpsc};
use tokio_stream::wrappers::ReceiverStream;
use tonic::Status;

use super::status::ServiceError;
use super::{Context, compute, render};
use crate::domain::event::{Lift, OrderChange};
use crate::domain::ids::{Revision, Subject};
use crate::domain::item::subject_of;
use crate::domain::order::Order;
use crate::domain::state::State;
use crate::journal::PositionToken;
use crate::metrics::{self, Shed};
use crate::net::{Connection, Endless};
use crate::pb::v1 as pb;
use crate::replica::{PositionCheck, Published};

type Sender = mpsc::Sender<Result<pb::WatchWithholdingsResponse, Status>>;

/// Subjects in one message.
const CHUNK: usize = 1_000;
/// Lists of subjects that are kept for those who are to be told the same.
const KEPT: usize = 100_000;
/// Messages that may wait for a reader.
const WAITING: usize = 16;
/// How long a full queue may stay full.
const PATIENCE: Duration = Duration::from_secs(10);
/// How long the journal may take to tell whether it has a position that is not known here any more.
const CHECK_LIMIT: Duration = Duration::from_secs(2);
/// How often a reader hears something at least.
const HEARTBEAT: Duration = Duration::from_secs(2);

/// What a reader has been told of: everything up to a revision, and every start and end up to and including a time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Told {
    revision: Revision,
    at: Timestamp,
}

/// Where a reader begins.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum From {
    /// After a revision of whatever journal is followed.
    Revision(Revision),
    /// At a position that it was given.
    Position(PositionToken),
}

/// Where a reader may come back: after a revision, and, as a position, in which journal. Unset: it was told of nothing yet.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Resume {
    pub(super) revision: Revision,
    pub(super) position: String,
}

/// What changed between two publications, as it is told.
#[derive(Debug)]
struct Changes {
    from: Told,
    to: Told,
    lists: Vec<pb::WithheldCountries>,
}

impl Changes {
    async fn between(from: Told, to: Told, published: &Arc<Published>) -> Result<Self, ServiceError> {
        let published = Arc::clone(published);
        let lists = move || {
            let changed = changed_since(&published.state, from, to.at);
            changed.into_iter().map(|s| render::countries(s, published.index.countries(s))).collect()
        };
        Ok(Self { from, to, lists: compute(lists).await? })
    }
}

/// What is told to readers that have read everything: the same to all of them, so it is made once.
#[derive(Debug, Default)]
pub(super) struct News(Mutex<Option<Arc<Changes>>>);

impl News {
    async fn between(&self, from: Told, to: Told, published: &Arc<Published>) -> Result<Arc<Changes>, ServiceError> {
        let mut latest = self.0.lock().await;
        match &*latest {
            Some(changes) if (changes.from, changes.to) == (from, to) => return Ok(Arc::clone(changes)),
            // Who comes from further back keeps nobody waiting.
            Some(changes) if changes.to != from => {
                drop(latest);
                return Ok(Arc::new(Changes::between(from, to, published).await?));
            }
            Some(_) | None => {}
        }
        let changes = Arc::new(Changes::between(from, to, published).await?);
        // What is very large is not kept for those who may come.
        let kept = changes.lists.len() <= KEPT;
        *latest = Some(if kept { Arc::clone(&changes) } else { Arc::new(Changes { from: to, to, lists: Vec::new() }) });
        Ok(changes)
    }
}

/// Starts telling a reader everything after a revision.
pub(super) fn start(
    context: Context,
    news: Arc<News>,
    connection: Option<Connection>,
    endless: Option<Endless>,
    from: From,
) -> ReceiverStream<Result<pb::WatchWithholdingsResponse, Status>> {
    let (sender, receiver) = mpsc::channel(WAITING + 1);
    tokio::spawn(async move {
        // One place is kept free for the end: however long the reader does not read, it finds out why no more comes.
        let Ok(last) = sender.clone().reserve_owned().await else { return };
        tokio::select! {
            () = sender.closed() => {}
            ended = tell(Watcher { context, news, connection, sender: &sender }, from) => drop(last.send(Err(ended.into()))),
        }
        // What has not been read is kept until its reader goes, and counts until then.
        sender.closed().await;
        drop(endless);
    });
    ReceiverStream::new(receiver)
}

/// Who is told, and when no more.
struct Watcher<'a> {
    context: Context,
    news: Arc<News>,
    connection: Option<Connection>,
    sender: &'a Sender,
}

impl Watcher<'_> {
    /// Once its connection is to end.
    async fn ending(&self) {
        match &self.connection {
            Some(connection) => connection.ending().await,
            None => std::future::pending().await,
        }
    }
}

async fn tell(watcher: Watcher<'_>, from: From) -> ServiceError {
    let context = &watcher.context;
    let mut resume = match begin(context, from).await {
        Ok(resume) => resume,
        Err(error) => return error,
    };
    let mut publications = context.replica.publications();
    // A boundary may have been passed without a new revision since the reader was told: go back to the revision's time.
    let at = time_of(&context.replica.load().state, resume.revision);
    let mut told = Told { revision: resume.revision, at };
    loop {
        publications.mark_unchanged();
        let published = context.replica.current();
        let to = Told { revision: published.index.revision(), at: published.index.made_at() };
        let changes = match watcher.news.between(told, to, &published).await {
            Ok(changes) => changes,
            Err(error) => return error,
        };
        if let Err(error) = send(&watcher, &published, &changes.lists, &mut resume).await {
            return error;
        }
        told = to;
        tokio::select! {
            () = watcher.ending() => return ServiceError::StreamEnding { resume_after: resume },
            _ = tokio::time::timeout(HEARTBEAT, publications.changed()) => {}
        }
    }
}

/// Where a reader begins, if that is in the history that is followed here. **One-history**.
async fn begin(context: &Context, from: From) -> Result<Resume, ServiceError> {
    let token = match from {
        From::Revision(revision) => return Ok(Resume { revision, position: String::new() }),
        From::Position(token) => token,
    };
    match tokio::time::timeout(CHECK_LIMIT, context.replica.check_position(&token)).await {
        Ok(Ok(PositionCheck::Held)) => Ok(Resume { revision: token.revision(), position: token.to_string() }),
        Ok(Ok(PositionCheck::NotReached)) => {
            let at = context.replica.load().index.revision();
            Err(ServiceError::RevisionNotReached { wanted: token.revision(), at })
        }
        Ok(Ok(PositionCheck::Foreign)) => Err(ServiceError::ForeignPosition { wanted: token.to_string() }),
        Ok(Err(error)) => Err(error.into()),
        Err(_) => Err(ServiceError::Loading),
    }
}

/// Sends the lists of changed subjects, the last message advancing the revision to resume after; none is a heartbeat.
async fn send(
    watcher: &Watcher<'_>,
    published: &Published,
    changed: &[pb::WithheldCountries],
    resume: &mut Resume,
) -> Result<(), ServiceError> {
    let revision = published.index.revision();
    let position = watcher.context.replica.token(published.position());
    let next = Resume { revision, position: position.map(|position| position.to_string()).unwrap_or_default() };
    let mut chunks = changed.chunks(CHUNK).peekable();
    loop {
        let chunk = chunks.next().unwrap_or_default();
        let last = chunks.peek().is_none();
        let message = pb::WatchWithholdingsResponse {
            changes: chunk.to_vec(),
            resume_after_revision: if last { revision } else { resume.revision }.get(),
            resume_position: if last { next.position.clone() } else { resume.position.clone() },
            freshness: Some(render::freshness(revision, watcher.context.replica.freshness())),
        };
        let slot = tokio::select! {
            () = watcher.ending() => return Err(ServiceError::StreamEnding { resume_after: resume.clone() }),
            slot = tokio::time::timeout(PATIENCE, watcher.sender.reserve()) => slot,
        };
        match slot {
            Ok(Ok(slot)) => slot.send(Ok(message)),
            Ok(Err(_)) | Err(_) => {
                metrics::shed(Shed::Watcher);
                tracing::info!(resume_after = %resume.revision, "watcher too slow, cut off");
                return Err(ServiceError::WatcherTooSlow { resume_after: resume.clone() });
            }
        }
        if last {
            *resume = next;
            return Ok(());
        }
    }
}

/// A time up to which a reader of this revision was told of every start and end: no snapshot is older than its entries.
fn time_of(state: &State, revision: Revision) -> Timestamp {
    let up_to = |order: &Order| {
        let recorded = std::iter::once(order.recorded()).chain(order.later().iter().map(|(recorded, _)| recorded));
        recorded.filter(|r| r.revision <= revision).map(|r| r.at).max()
    };
    state.orders().iter().filter_map(|order| up_to(order)).max().unwrap_or(Timestamp::MIN)
}

/// The subjects whose list may have changed since: those of orders that changed, or started or ended by themselves.
fn changed_since(state: &State, told: Told, now: Timestamp) -> Vec<Subject> {
    let mut seen = HashSet::new();
    let mut changed = Vec::new();
    let mut add = |subject: Subject| {
        if seen.insert(subject) {
            changed.push(subject);
        }
    };
    let passed = |at: Option<Timestamp>| at.is_some_and(|at| told.at < at && at <= now);
    for order in state.orders() {
        // What waits for a second person, or never was approved, is nothing to viewers: not even that it is there.
        let Some(applied) = order.applied() else { continue };
        let by_itself = passed(order.spec().effective_from) || passed(order.spec().expires_at);
        if order.last().revision <= told.revision && !by_itself {
            continue;
        }
        let news: Vec<&OrderChange> =
            order.later().iter().filter(|(r, _)| r.revision > told.revision).map(|(_, change)| change).collect();
        let stands_anew = |change: &OrderChange| {
            matches!(change, OrderChange::Stayed | OrderChange::Resumed) || change.lift() == Some(Lift::Whole)
        };
        if by_itself || applied.revision > told.revision || news.iter().any(|change| stands_anew(change)) {
            let dark = order.items().resolutions().zip(order.dispositions()).filter(|(_, done)| done.takes_effect());
            dark.filter_map(|(resolution, _)| subject_of(resolution)).for_each(&mut add);
            continue;
        }
        for change in news {
            if let Some(Lift::Items(positions)) = change.lift() {
                let items = positions.iter().filter_map(|at| order.items().get(*at as usize));
                items.filter_map(|item| subject_of(item.resolution)).for_each(&mut add);
            }
        }
    }
    changed
}
