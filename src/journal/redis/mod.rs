//! A journal on Redis: any number of replicas on any number of machines share it.
//!
//! ```text
//! {withheld}:journal     stream   the entries; the one of revision N has the id N-0, its hash `h` and its bytes `p`
//! {withheld}:settled     stream   one entry, the committed mark: up to which revision entries are committed, with its hash
//! {withheld}:properties  hash     how many servers there are, how many must have an entry, whose takeover was proven
//! {withheld}:fence       string   there only if histories have diverged: the journal is sealed, nothing is appended
//! {withheld}:snapshot    hash     the snapshot shared last; its parts are under {withheld}:snapshot:REVISION
//! ```
//!
//! **One-writer-at-a-revision**: an append is one script, atomic in the server, that checks where the journal ends and
//! writes all entries or none. **Acked-is-durable**: an entry is *committed* once as many Redis replicas have it as the
//! journal asks for, and a majority of those who could replace the primary names it after that; only then is it
//! acknowledged, or shown to anybody. **One-history**: a server that became the primary by a failover counts only once it is
//! proven to have all that may have been committed. The protocol is a model that a checker explores: `tests/model`.
//!
//! Three parts, each of which can do less than the next: the [`RedisReader`] reads, the committer appends and commits, the
//! repairer puts back what a journal has lost, or seals it. Knows nothing of what an entry says.

mod committer;
mod connection;
mod durability;
mod locate;
mod options;
mod reader;
mod repairer;
mod replay_buffer;
mod rights;
mod scripts;
mod session;
mod snapshot_store;
mod supervisor;

use std::time::Duration;

use async_trait::async_trait;
use redis::cmd;

use super::{AppendError, Batch, Journal, JournalReader, Position, ReadError, Tail};
use crate::domain::ids::Revision;
use committer::Committer;
use connection::Connector;
use reader::{batch, not_primary, unavailable};
use repairer::Repairer;
use scripts::{Found, How};
use session::{Session, SessionState};

pub use options::{
    BadRedisUrl, Credentials, Durability, LinkChange, Node, RedisOptions, RedisUrl, SetUpError, TlsFiles, Topology,
    redacted,
};
pub use reader::RedisReader;

/// A journal on Redis, to append to.
#[derive(Debug)]
pub struct RedisJournal {
    reader: RedisReader,
    committer: Committer,
    repairer: Repairer,
    max_clock_skew: Duration,
}

impl RedisOptions {
    /// Reads the files they name, and reaches for no server.
    ///
    /// # Errors
    /// If a journal could not be set up with them.
    pub fn check(&self) -> Result<(), SetUpError> {
        Connector::new(self).map(|_| ())
    }
}

impl RedisJournal {
    /// Begins to connect to a journal, and returns at once: until there is a session, nothing can be read or written.
    ///
    /// # Errors
    /// If certificates cannot be used; never because a server does not answer.
    pub fn open(options: RedisOptions) -> Result<Self, SetUpError> {
        let (replay_bytes, max_clock_skew) = (options.replay_bytes, options.max_clock_skew);
        let (reader, committer) = RedisReader::supervised(options, true)?;
        let repairer = Repairer::new(committer.clone(), replay_bytes);
        Ok(Self { reader, committer, repairer, max_clock_skew })
    }

    /// Waits until there is a session.
    pub async fn connected(&self) {
        self.reader.connected().await;
    }

    /// What can only read it.
    #[must_use]
    pub const fn reader(&self) -> &RedisReader {
        &self.reader
    }

    /// Lets entries be appended again, on the history that the journal has now.
    ///
    /// # Errors
    /// If it cannot be written.
    pub async fn lift_seal(&self) -> Result<(), ReadError> {
        let session = self.reader.session().await?;
        session.ask(cmd("DEL").arg(&self.reader.scripts.keys.seal)).await.map_err(unavailable)
    }

    /// Why it is not known whether the journal has all that was acknowledged; `None` if it has. Waits until that is found
    /// out, or cannot be.
    ///
    /// # Errors
    /// If it cannot be read.
    pub async fn doubt(&self) -> Result<Option<String>, ReadError> {
        let session = self.reader.session().await?;
        let mut states = session.state.subscribe();
        let examined = states.wait_for(|state| *state != SessionState::InDoubt(session::Doubt::Unexamined));
        let _ = tokio::time::timeout(session.limit * 2, examined).await;
        let doubt = match &*session.state.borrow() {
            SessionState::Fresh => None,
            SessionState::InDoubt(doubt) => Some(doubt.to_string()),
        };
        Ok(doubt)
    }

    /// A person says that what the journal has now counts as all that was acknowledged.
    ///
    /// # Errors
    /// If it cannot be committed.
    pub async fn accept(&self) -> Result<(), AppendError> {
        let session = self.reader.session().await.map_err(|error| AppendError::Unavailable(error.into()))?;
        let info = durability::server_info(&session.reader, session.limit).await;
        let info = info.map_err(|error| AppendError::Unavailable(error.into()))?;
        self.committer.examine(&session, &info, &[], true).await.map_err(AppendError::Indeterminate)
    }

    /// Renames the journal's keys, so that another one can be put in its place; gives their new names. What is said of servers
    /// stays, for the servers do. It takes rights that the service's own user does not have.
    ///
    /// # Errors
    /// If one of them cannot be renamed: none is then.
    pub async fn set_aside(&self, mark: &str) -> Result<Vec<String>, ReadError> {
        let session = self.reader.session().await?;
        let keys = &self.reader.scripts.keys;
        let tail = self.reader.tail().await?;
        let there = [
            (&keys.journal, tail.end != Position::START),
            (&keys.committed, tail.committed != Position::START),
            (&keys.seal, self.reader.seal().await?.is_some()),
        ];
        let there: Vec<&String> = there.into_iter().filter_map(|(key, there)| there.then_some(key)).collect();
        let aside = |key: &str| key.replacen("}:", &format!("}}:before-{mark}:"), 1);
        let mut rename = redis::pipe();
        rename.atomic();
        for key in &there {
            rename.cmd("RENAMENX").arg(key).arg(aside(key));
        }
        // A snapshot is made again from what is put there.
        rename.cmd("DEL").arg(&keys.snapshot);
        for answer in session.write(&mut rename, session.limit).await.map_err(unavailable)? {
            answer.map_err(unavailable)?;
        }
        Ok(there.into_iter().map(|key| aside(key)).collect())
    }

    /// How many replicas must have an entry, and how many servers keep the journal.
    ///
    /// # Errors
    /// If that cannot be read.
    pub async fn quorum(&self) -> Result<(u8, usize), ReadError> {
        let quorum = **self.reader.session().await?.quorum.load();
        Ok((quorum.wait_replicas, quorum.servers))
    }

    /// Sets how many servers keep the journal, and how many replicas must have an entry. Unset: as it is.
    ///
    /// # Errors
    /// If it cannot be written.
    pub async fn configure(&self, servers: Option<u8>, wait_replicas: Option<u8>) -> Result<(u8, usize), ReadError> {
        let session = self.reader.session().await?;
        let kept = **session.quorum.load();
        let (servers, wait) = (servers.map_or(kept.servers, usize::from), wait_replicas.unwrap_or(kept.wait_replicas));
        let mut keep = cmd("HSET");
        keep.arg(&self.reader.scripts.keys.properties).arg("wait_replicas").arg(wait).arg("servers").arg(servers);
        session.ask::<i64>(&keep).await.map_err(unavailable)?;
        session.quorum.store(std::sync::Arc::new(session::Quorum { wait_replicas: wait, servers }));
        Ok((wait, servers))
    }

    /// Refuses to write where that would lose something or bend the record's times.
    fn may_append(&self, session: &Session) -> Result<(), AppendError> {
        let shortcomings = session.shortcomings();
        if !shortcomings.is_empty() {
            return Err(AppendError::NotDurable(shortcomings.join("; ")));
        }
        let (wanted, replicas) = (session.quorum.load().wait_replicas, session.replicas());
        if replicas < usize::from(wanted) {
            return Err(AppendError::TooFewReplicas(format!(
                "{wanted} Redis replicas must have an entry, and the primary is in touch with {replicas}"
            )));
        }
        if let SessionState::InDoubt(doubt) = &*session.state.borrow() {
            return Err(AppendError::InDoubt(doubt.to_string()));
        }
        // Bounded-clock: an entry's time is this machine's, and whoever reads it goes by theirs.
        match session.clock_ahead() {
            Some(ahead) if ahead.unsigned_abs() > self.max_clock_skew => Err(AppendError::ClockOff(format!(
                "this machine's clock is {} {} the one of Redis at `{}`, more than --max-clock-skew `{:?}`: set the one that is wrong",
                round(ahead),
                if ahead.is_negative() { "ahead of" } else { "behind" },
                session::shown(&session.node),
                self.max_clock_skew,
            ))),
            Some(_) | None => Ok(()),
        }
    }
}

fn round(ahead: jiff::SignedDuration) -> String {
    format!("{:#}", jiff::SignedDuration::from_secs(ahead.as_secs().saturating_abs()))
}

#[async_trait]
impl JournalReader for RedisJournal {
    async fn read(&self, after: Position, limit: usize) -> Result<Batch, ReadError> {
        let session = self.reader.session().await?;
        let mut found = self.reader.find(&session, after, limit).await?;
        if let Found::Elsewhere(end) = found {
            self.repairer.repair_tail(&self.reader, &session, after, end).await?;
            found = self.reader.find(&session, after, limit).await?;
        }
        let (mut batch, at_end) = batch(found, after)?;
        self.repairer.found(after);
        self.repairer.keep(after, &batch.entries);
        if !at_end && batch.entries.is_empty() {
            let why = "the journal is not committed again yet up to where it was followed";
            return Err(ReadError::InDoubt(why.to_owned()));
        }
        if !at_end {
            return Ok(batch);
        }
        // One-history: nobody is level by the word of a server that may lack what was acknowledged, or may be replaced.
        let doubt = match &*session.state.borrow() {
            SessionState::Fresh => None,
            SessionState::InDoubt(doubt) => Some(doubt.to_string()),
        };
        batch.level = session.certain().filter(|_| doubt.is_none());
        match doubt {
            _ if !batch.entries.is_empty() || batch.level.is_some() => Ok(batch),
            Some(doubt) => Err(ReadError::InDoubt(doubt)),
            None => Err(not_primary(
                "no majority of those who could replace the primary names it: it may not be the primary any more",
            )),
        }
    }

    async fn tail(&self) -> Result<Tail, ReadError> {
        self.reader.tail().await
    }

    async fn position(&self, revision: Revision) -> Result<Option<Position>, ReadError> {
        self.reader.position(revision).await
    }

    async fn wait_for_append(&self, seen: Revision) {
        self.reader.wait_for_append(seen).await;
    }
}

#[async_trait]
impl Journal for RedisJournal {
    async fn append(&self, expected: Position, payloads: Vec<Vec<u8>>) -> Result<Position, AppendError> {
        let session = self.reader.session().await.map_err(|error| AppendError::Unavailable(error.into()))?;
        self.may_append(&session)?;
        let mut hash = expected.hash;
        let chain = payloads.iter().map(|payload| {
            hash = hash.chain(payload);
            (hash, payload.as_slice())
        });
        self.committer.append(&session, expected, &chain.collect::<Vec<_>>(), How::Wait).await
    }

    async fn confirm_end(&self, at: Position) -> Result<(), AppendError> {
        let unavailable = |error: ReadError| AppendError::Unavailable(error.into());
        let session = self.reader.session().await.map_err(unavailable)?;
        let found = self.reader.find(&session, at, 1).await.map_err(unavailable)?;
        let (batch, _) = batch(found, at).map_err(unavailable)?;
        if let Some(last) = batch.entries.last() {
            return Err(AppendError::Conflict { actual: last.position() });
        }
        if let SessionState::InDoubt(doubt) = &*session.state.borrow() {
            return Err(AppendError::InDoubt(doubt.to_string()));
        }
        // One-history: a server that was replaced knows nothing of what was acknowledged since.
        self.committer.confirm_primary(&session).await.map_err(AppendError::Unavailable)
    }
}
