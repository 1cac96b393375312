//! Reads a journal on Redis, and can do nothing else: no entry is committed, put back or sealed by who only looks.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use redis::cmd;
use tokio_util::task::AbortOnDropHandle;

use super::committer::{Committer, extra_time};
use super::connection::{CallError, Connector};
use super::locate::Locator;
use super::options::{RedisOptions, SetUpError};
use super::scripts::{Found, JournalState, Scripts};
use super::session::{Link, Session};
use super::supervisor::Supervisor;
use crate::domain::ids::Revision;
use crate::journal::error::{Peer, Unreachable, UnreachableCause, UnreachableKind};
use crate::journal::{Batch, Damage, Hash, JournalReader, Position, ReadError, Tail, chained};
use crate::telemetry::causes;

/// A read stops after an entry that takes it past this many bytes: the server builds the answer while all others wait.
const READ_BYTES: usize = 4 << 20;
/// How long the server holds a read that has nothing to tell.
const BLOCK: Duration = Duration::from_millis(450);

/// A journal on Redis, to look at.
#[derive(Debug)]
pub struct RedisReader {
    pub(super) link: Link,
    pub(super) scripts: Scripts,
    /// How long a link that has just been lost is waited for.
    timeout: Duration,
    /// Ends with the journal.
    _supervisor: AbortOnDropHandle<()>,
}

pub(super) fn unavailable(error: CallError) -> ReadError {
    let cause = UnreachableCause { peer: Peer::Redis, kind: error.kind(false) };
    ReadError::Unavailable(Unreachable { cause, detail: causes(&error) }.into())
}

/// It cannot be told whether a server is the primary, in words.
pub(super) fn not_primary(detail: &str) -> ReadError {
    let cause = UnreachableCause { peer: Peer::Redis, kind: UnreachableKind::NotPrimary };
    ReadError::Unavailable(Unreachable { cause, detail: detail.to_owned() }.into())
}

impl RedisReader {
    /// Begins to connect to a journal, and returns at once: until there is a session, nothing can be read.
    ///
    /// # Errors
    /// If certificates cannot be used; never because a server does not answer.
    pub fn open(options: RedisOptions) -> Result<Self, SetUpError> {
        let (reader, _) = Self::supervised(options, false)?;
        Ok(reader)
    }

    /// The same, with what commits if somebody may.
    pub(super) fn supervised(options: RedisOptions, commits: bool) -> Result<(Self, Committer), SetUpError> {
        let scripts = Scripts::of(&options.namespace);
        let connector = Connector::new(&options)?;
        let locator = Arc::new(Locator::new(&options, connector.clone(), scripts.keys.journal.clone()));
        let (link, timeout) = (Link::new(), options.timeout);
        let committer = Committer::new(scripts.clone(), Arc::clone(&locator), &options.url.topology);
        let supervisor = Supervisor {
            link: link.clone(),
            options,
            connector,
            locator,
            scripts: scripts.clone(),
            committer: commits.then(|| committer.clone()),
        };
        let _supervisor = AbortOnDropHandle::new(tokio::spawn(supervisor.run()));
        Ok((Self { link, scripts, timeout, _supervisor }, committer))
    }

    /// Waits until there is a session.
    pub async fn connected(&self) {
        self.link.connected().await;
    }

    /// Why there is no session, if there has been none for more than a moment.
    #[must_use]
    pub fn trouble(&self) -> Option<String> {
        self.link.trouble()
    }

    /// Why nothing is appended any more, if the journal is sealed.
    ///
    /// # Errors
    /// If it cannot be read.
    pub async fn seal(&self) -> Result<Option<String>, ReadError> {
        let session = self.session().await?;
        session.ask(cmd("GET").arg(&self.scripts.keys.seal)).await.map_err(unavailable)
    }

    pub(super) async fn session(&self) -> Result<Arc<Session>, ReadError> {
        self.link.session(self.timeout).await.map_err(|why| ReadError::Unavailable(why.into()))
    }

    pub(super) async fn state(&self) -> Result<JournalState, ReadError> {
        let session = self.session().await?;
        self.scripts.state(&session).await.map_err(unavailable)
    }

    /// What a session's server has after a position; it may not have the position.
    pub(super) async fn find(&self, session: &Session, after: Position, limit: usize) -> Result<Found, ReadError> {
        let read = self.scripts.read(after, limit, READ_BYTES, &session.stream);
        // An answer may be as long as that, and an entry longer.
        let within = session.limit + extra_time(2 * READ_BYTES);
        let answer = session.ask_within(&read, within).await.map_err(unavailable)?;
        let found = Found::parse(answer).map_err(|error| ReadError::Unavailable(error.into()))?;
        if matches!(found, Found::Replaced) {
            session.over.cancel();
        }
        Ok(found)
    }

    pub(super) async fn hash_at(&self, session: &Session, revision: Revision) -> Result<Option<Hash>, CallError> {
        let id = format!("{revision}-0");
        let mut range = cmd("XRANGE");
        range.arg(&self.scripts.keys.journal).arg(&id).arg(&id);
        let within = session.limit + extra_time(2 * READ_BYTES);
        let found: Vec<(String, Vec<Vec<u8>>)> = session.ask_within(&range, within).await?;
        let hash = found.into_iter().next().and_then(|(_, fields)| fields.into_iter().nth(1));
        Ok(hash.and_then(|hash| hash.try_into().ok()).map(Hash::from_bytes))
    }
}

/// What was found, as a batch; whether it goes up to what is committed is said beside it.
pub(super) fn batch(found: Found, after: Position) -> Result<(Batch, bool), ReadError> {
    match found {
        Found::Replaced => Err(not_primary("the primary was replaced")),
        Found::Elsewhere(end) => Err(ReadError::Diverged { revision: after.revision, end: end.revision }),
        Found::MarkBeyondEnd { mark, end } => {
            let revision = end.next().min(mark);
            Err(ReadError::Corrupt { revision, damage: Damage::CommittedBeyondEnd { end } })
        }
        Found::MarkDiffers { entry, mark } => {
            let damage = Damage::End { expected: entry.hash, found: mark };
            Err(ReadError::Corrupt { revision: entry.revision, damage })
        }
        Found::Entries { committed, rows } => {
            let entries = chained(after, rows)?;
            let at = entries.last().map_or(after, |last| last.position());
            // Who has followed beyond the mark is not level by it: it is to be moved on first.
            Ok((Batch { entries, level: None }, at.revision == committed))
        }
    }
}

#[async_trait]
impl JournalReader for RedisReader {
    async fn read(&self, after: Position, limit: usize) -> Result<Batch, ReadError> {
        let session = self.session().await?;
        let (mut batch, at_end) = batch(self.find(&session, after, limit).await?, after)?;
        // Who only looks tells what this server has committed, and calls nothing fresh by it.
        batch.level = at_end.then_some(Duration::ZERO);
        Ok(batch)
    }

    async fn tail(&self) -> Result<Tail, ReadError> {
        Ok(self.state().await?.tail)
    }

    async fn position(&self, revision: Revision) -> Result<Option<Position>, ReadError> {
        if revision == Revision::START {
            return Ok(Some(Position::START));
        }
        let session = self.session().await?;
        // What is not committed yet is shown to nobody.
        let committed = self.scripts.state(&session).await.map_err(unavailable)?.tail.committed.revision;
        if revision > committed {
            return Ok(None);
        }
        let hash = self.hash_at(&session, revision).await.map_err(unavailable)?;
        Ok(hash.map(|hash| Position { revision, hash }))
    }

    async fn wait_for_append(&self, seen: Revision) {
        let session = self.link.connected().await;
        // Whatever comes of it, the caller looks for itself.
        let _ = session.block(&self.scripts.wait(seen, BLOCK), BLOCK).await;
    }
}
