//! WatchWithholdings: the complete list of every subject whose list is another one than it was, from any revision on.
//!
//! Who begins anew is told of all that is withheld, by going through the index part by part; who resumes, and who follows,
//! of what differs since ([`changes`]). A reader is never skipped silently: it gets every publication's subjects with their
//! lists, or is cut off with the revision to resume after.
//!
//! All of it is done on the control plane, a message at a time, as the reader takes them: a reader costs no query thread
//! anything but sending, and no more memory than the messages that wait for it.

mod changes;

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::Status;

use super::status::ServiceError;
use super::{Context, compute, render};
use crate::domain::ids::{Revision, Subject};
use crate::index::Snapshot;
use crate::journal::PositionToken;
use crate::metrics::{self, Shed};
use crate::net::{Connection, Endless};
use crate::pb::v1 as pb;
use crate::replica::{PositionCheck, Published};
use changes::Told;

pub use changes::News;

type Sender = mpsc::Sender<Result<pb::WatchWithholdingsResponse, Status>>;

/// Subjects in one message.
const CHUNK: usize = 1_000;
/// Messages that may wait for a reader.
const WAITING: usize = 2;
/// How long a full queue may stay full.
const PATIENCE: Duration = Duration::from_secs(10);
/// How long the journal may take to tell whether it has a position that is not known here any more.
const CHECK_LIMIT: Duration = Duration::from_secs(2);
/// How often a reader hears something at least.
const HEARTBEAT: Duration = Duration::from_secs(2);

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

/// Starts telling a reader everything after a revision.
pub(super) fn start(
    context: Context,
    connection: Option<Connection>,
    endless: Option<Endless>,
    from: From,
) -> ReceiverStream<Result<pb::WatchWithholdingsResponse, Status>> {
    let (sender, receiver) = mpsc::channel(WAITING + 1);
    let control = context.control.clone();
    control.spawn(async move {
        // One place is kept free for the end: however long the reader does not read, it finds out why no more comes.
        let Ok(last) = sender.clone().reserve_owned().await else { return };
        tokio::select! {
            () = sender.closed() => {}
            ended = tell(Watcher { context, connection, sender: &sender }, from) => drop(last.send(Err(ended.into()))),
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

    /// Tells of all that a publication withholds.
    async fn tell_all(&self, published: &Published, resume: &mut Resume) -> Result<(), ServiceError> {
        let mut subjects = Vec::with_capacity(CHUNK);
        for part in 0..Snapshot::PARTS {
            for subject in published.index.part(part) {
                if subjects.len() == CHUNK {
                    self.send(&subjects, published, resume, false).await?;
                    subjects.clear();
                }
                subjects.push(subject);
            }
        }
        self.send(&subjects, published, resume, true).await
    }

    /// Tells of these; none are a heartbeat.
    async fn tell_of(
        &self,
        subjects: &[Subject],
        published: &Published,
        resume: &mut Resume,
    ) -> Result<(), ServiceError> {
        let mut chunks = subjects.chunks(CHUNK).peekable();
        loop {
            let chunk = chunks.next().unwrap_or_default();
            let last = chunks.peek().is_none();
            self.send(chunk, published, resume, last).await?;
            if last {
                return Ok(());
            }
        }
    }

    /// Sends the lists of some subjects; the last message of a publication advances where to resume.
    async fn send(
        &self,
        subjects: &[Subject],
        published: &Published,
        resume: &mut Resume,
        last: bool,
    ) -> Result<(), ServiceError> {
        // Only then is it made: what waits for a reader is all that is held for it.
        let slot = tokio::select! {
            () = self.ending() => return Err(ServiceError::StreamEnding { resume_after: resume.clone() }),
            slot = tokio::time::timeout(PATIENCE, self.sender.reserve()) => slot,
        };
        let Ok(Ok(slot)) = slot else {
            metrics::shed(Shed::Watcher);
            tracing::info!(resume_after = %resume.revision, "watcher too slow, cut off");
            return Err(ServiceError::WatcherTooSlow { resume_after: resume.clone() });
        };
        let (revision, replica) = (published.index.revision(), &self.context.replica);
        if last {
            let position = replica.token(published.position()).map(|position| position.to_string());
            *resume = Resume { revision, position: position.unwrap_or_default() };
        }
        slot.send(Ok(pb::WatchWithholdingsResponse {
            changes: subjects.iter().map(|s| render::countries(*s, published.index.countries(*s))).collect(),
            resume_after_revision: resume.revision.get(),
            resume_position: resume.position.clone(),
            freshness: Some(render::freshness(revision, replica.freshness())),
        }));
        Ok(())
    }
}

async fn tell(watcher: Watcher<'_>, from: From) -> ServiceError {
    match follow(&watcher, from).await {
        Ok(never) => match never {},
        Err(error) => error,
    }
}

/// Tells a reader what there is and what comes, until it ends.
async fn follow(watcher: &Watcher<'_>, from: From) -> Result<std::convert::Infallible, ServiceError> {
    let context = &watcher.context;
    let mut resume = begin(context, from).await?;
    let mut publications = context.replica.publications();
    publications.mark_unchanged();
    let mut last = context.replica.current();
    if resume.revision == Revision::START {
        watcher.tell_all(&last, &mut resume).await?;
    } else {
        let (of, revision) = (Arc::clone(&last), resume.revision);
        let told = compute(move || Told::upto(&of.state, revision)).await?;
        let subjects = changes::since(told, &last).await?;
        watcher.tell_of(&subjects, &last, &mut resume).await?;
    }
    loop {
        tokio::select! {
            () = watcher.ending() => return Err(ServiceError::StreamEnding { resume_after: resume }),
            _ = tokio::time::timeout(HEARTBEAT, publications.changed()) => {}
        }
        publications.mark_unchanged();
        let published = context.replica.current();
        let subjects = context.news.between(&last, &published).await?;
        watcher.tell_of(&subjects, &published, &mut resume).await?;
        last = published;
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
