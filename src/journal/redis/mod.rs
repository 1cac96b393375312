//! A journal on Redis: any number of replicas on any number of machines share it.
//!
//! ```text
//! {withheld}:journal    stream   the entries; the one of revision N has the id N-0, its hash `h` and its bytes `p`
//! {withheld}:settled    stream   one entry: up to which revision entries are settled, with that one's hash
//! {withheld}:fence      string   there only if histories have diverged: nothing is appended then
//! {withheld}:snapshot   hash     the snapshot shared last; its parts are under {withheld}:snapshot:REVISION
//! ```
//!
//! **One-writer-at-a-revision**: an append is one script, atomic in the server, that checks where the journal ends and
//! writes all entries or none. **Acked-is-durable**: an entry is *settled* once as many Redis replicas have it as are
//! asked for (`WAIT`, or `WAITAOF` where the server knows it), and only then acknowledged, or shown to anybody. So a failover to one of those replicas takes
//! nothing away that anybody has seen. If it happens all the same, because two servers were lost at once, whoever has
//! followed the lost entries appends them again; and if something else stands in their place by then, the journal is
//! fenced: nothing more is written until people have decided which history holds.
//!
//! Knows nothing of what an entry says.

mod connection;
mod durability;
mod link;
mod locate;
mod options;
mod recent;
mod scripts;
mod shelf;
mod writer;

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use redis::{Value, cmd};
use tokio_util::task::AbortOnDropHandle;
use tracing::{error, warn};

use super::{AppendError, Hash, Journal, Position, ReadError, StoredEntry, chained};
use crate::domain::ids::Revision;
use connection::{CallError, Connector};
use link::{Link, Session, Supervisor};
use locate::Locator;
use recent::{Lost, Recent};
use scripts::{Found, Scripts};
use writer::Writer;

pub use options::{
    BadRedisUrl, Credentials, Durability, LinkChange, Node, RedisOptions, RedisUrl, SetUpError, TlsFiles, Topology,
    redacted,
};

/// A read stops after an entry that takes it past this many bytes: the server builds the answer while all others wait.
const READ_BYTES: usize = 4 << 20;
/// How long the server holds a read that has nothing to tell.
const BLOCK: Duration = Duration::from_millis(450);
/// Lost entries are appended again in groups of about this many bytes.
const MEND_BYTES: usize = 4 << 20;

/// See the module.
#[derive(Debug)]
pub struct RedisJournal {
    writer: Writer,
    link: Link,
    recent: Mutex<Recent>,
    /// Ends with the journal.
    _supervisor: AbortOnDropHandle<()>,
}

fn unavailable(error: CallError) -> ReadError {
    ReadError::Unavailable(error.into())
}

fn replaced() -> ReadError {
    ReadError::Unavailable("the server may not be the primary any more".into())
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
    /// Begins to link up with a journal, and returns at once: until there is a link, nothing can be read or written.
    ///
    /// # Errors
    /// If certificates cannot be used; never because a server does not answer.
    pub fn open(options: RedisOptions) -> Result<Self, SetUpError> {
        let scripts = Scripts::of(&options.namespace);
        let (wait_replicas, timeout) = (options.wait_replicas, options.timeout);
        let writer = Writer { scripts: scripts.clone(), wait_replicas, timeout };
        let connector = Connector::new(&options)?;
        let locator = Locator::new(&options, connector.clone(), scripts.keys.journal.clone());
        let link = Link::new();
        let recent = Mutex::new(Recent::keeping(options.recent_bytes));
        let supervisor = Supervisor { link: link.clone(), options, connector, locator, scripts };
        let settler = writer.clone();
        let supervising =
            tokio::spawn(supervisor.run(async move |session: &Session, at| settler.settle(session, at).await));
        Ok(Self { writer, link, recent, _supervisor: AbortOnDropHandle::new(supervising) })
    }

    /// Waits until there is a link.
    pub async fn connected(&self) {
        self.link.connected().await;
    }

    /// Why nothing is appended any more, if the journal is fenced.
    ///
    /// # Errors
    /// If it cannot be read.
    pub async fn fence(&self) -> Result<Option<String>, ReadError> {
        let session = self.session().await?;
        session.ask(cmd("GET").arg(&self.writer.scripts.keys.fence)).await.map_err(unavailable)
    }

    /// Lets entries be appended again, on the history that the journal has now.
    ///
    /// # Errors
    /// If it cannot be written.
    pub async fn lift_fence(&self) -> Result<(), ReadError> {
        let session = self.session().await?;
        session.ask(cmd("DEL").arg(&self.writer.scripts.keys.fence)).await.map_err(unavailable)
    }

    async fn session(&self) -> Result<Arc<Session>, ReadError> {
        let session = self.link.session(self.writer.timeout).await;
        session.ok_or_else(|| ReadError::Unavailable("there is no link to Redis".into()))
    }

    fn recent(&self) -> MutexGuard<'_, Recent> {
        self.recent.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The journal does not have an entry that was followed: appends the lost ones again, or says what diverged.
    async fn mend(&self, session: &Arc<Session>, known: Position, end: Position) -> Result<(), ReadError> {
        let lost = self.recent().lost(known, end);
        match lost {
            Lost::Tail(entries) => {
                error!(ends_at = %end.revision, known = %known.revision, entries = entries.len(),
                    "the journal has lost its last entries: appending them again");
                self.append_again(session, end, &entries).await
            }
            Lost::Replaced => Err(self.diverged(session, known, end).await),
            Lost::Unknown => Err(ReadError::Diverged { revision: known.revision, end: end.revision }),
        }
    }

    async fn append_again(
        &self,
        session: &Arc<Session>,
        mut at: Position,
        mut entries: &[StoredEntry],
    ) -> Result<(), ReadError> {
        while !entries.is_empty() {
            let mut bytes = 0;
            let fits = entries.iter().take_while(|entry| {
                let fits = bytes < MEND_BYTES;
                bytes += entry.payload().len();
                fits
            });
            let (group, rest) = entries.split_at(fits.count());
            let group: Vec<(Hash, &[u8])> = group.iter().map(|e| (e.position().hash, e.payload())).collect();
            match self.writer.append(session, at, &group).await {
                Ok(end) => (at, entries) = (end, rest),
                // Another replica does the same: the next read shows how far it has come.
                Err(AppendError::Conflict { .. }) => return Ok(()),
                Err(error) => return Err(ReadError::Unavailable(error.into())),
            }
        }
        error!(revision = %at.revision, "the journal has its lost entries again");
        Ok(())
    }

    /// Finds the first entry that differs, and fences the journal.
    async fn diverged(&self, session: &Session, known: Position, end: Position) -> ReadError {
        let (mut same, last) = self.recent().span();
        let mut differs = last.min(end.revision);
        // Histories are the same up to some entry and differ from there on, for each hash vouches for all before it.
        while same.next() < differs {
            let middle = Revision::new(same.get().midpoint(differs.get()));
            let here = self.recent().at(middle).map(|position| position.hash);
            match self.hash_at(session, middle).await {
                Ok(there) if there.is_some() && there == here => same = middle,
                Ok(_) => differs = middle,
                Err(error) => return unavailable(error),
            }
        }
        let there = self.hash_at(session, differs).await.ok().flatten();
        let (here, there) = (self.recent().at(differs).map(|p| p.hash), there);
        let hash = |hash: Option<Hash>| hash.map_or_else(|| "missing".to_owned(), |hash| hash.to_string());
        let why = format!(
            "the journal's histories have diverged at revision {differs}: entry {differs} has hash {} in the journal, \
             and had hash {} when it was followed; the journal ends at revision {}, what was followed at {}",
            hash(there),
            hash(here),
            end.revision,
            known.revision
        );
        error!("{why}; nothing is written any more");
        let fencing: Result<Value, CallError> =
            session.ask(cmd("SET").arg(&self.writer.scripts.keys.fence).arg(&why).arg("NX")).await;
        if let Err(error) = fencing {
            warn!(%error, "the journal is not fenced yet");
        }
        ReadError::Diverged { revision: differs, end: end.revision }
    }

    async fn hash_at(&self, session: &Session, revision: Revision) -> Result<Option<Hash>, CallError> {
        let id = format!("{revision}-0");
        let mut range = cmd("XRANGE");
        range.arg(&self.writer.scripts.keys.journal).arg(&id).arg(&id);
        let found: Vec<(String, Vec<Vec<u8>>)> = session.ask(&range).await?;
        let hash = found.into_iter().next().and_then(|(_, fields)| fields.into_iter().nth(1));
        Ok(hash.and_then(|hash| hash.try_into().ok()).map(Hash::from_bytes))
    }
}

#[async_trait]
impl Journal for RedisJournal {
    async fn append(&self, expected: Position, payloads: Vec<Vec<u8>>) -> Result<Position, AppendError> {
        let session = self.session().await.map_err(|error| AppendError::Unavailable(error.into()))?;
        let shortcomings = session.shortcomings();
        if !shortcomings.is_empty() {
            return Err(AppendError::NotDurable(shortcomings.join("; ")));
        }
        let replicas = session.replicas();
        if replicas < usize::from(self.writer.wait_replicas) {
            let wanted = self.writer.wait_replicas;
            return Err(AppendError::NotDurable(format!(
                "{wanted} Redis replicas must have an entry, and the primary is in touch with {replicas}"
            )));
        }
        let mut hash = expected.hash;
        let chain = payloads.iter().map(|payload| {
            hash = hash.chain(payload);
            (hash, payload.as_slice())
        });
        self.writer.append(&session, expected, &chain.collect::<Vec<_>>()).await
    }

    async fn read(&self, after: Position, limit: usize) -> Result<Vec<StoredEntry>, ReadError> {
        let session = self.session().await?;
        let read = self.writer.scripts.read(after, limit, READ_BYTES);
        let ask = async || -> Result<Found, ReadError> {
            let answer = session.ask(&read).await.map_err(unavailable)?;
            Found::parse(answer).map_err(|error| ReadError::Unavailable(error.into()))
        };
        let mut found = ask().await?;
        if let Found::Elsewhere(end) = found {
            // A primary that was replaced has another history by right, and not the one that holds.
            if !self.writer.is_primary(&session).await {
                return Err(replaced());
            }
            self.mend(&session, after, end).await?;
            found = ask().await?;
        }
        match found {
            Found::Level if session.is_in_touch() => Ok(Vec::new()),
            Found::Level => Err(replaced()),
            Found::Elsewhere(end) => Err(ReadError::Diverged { revision: after.revision, end: end.revision }),
            Found::Entries(rows) => {
                let entries = chained(after, rows)?;
                self.recent().extend(after, &entries);
                Ok(entries)
            }
        }
    }

    async fn tail(&self) -> Result<Position, ReadError> {
        let session = self.session().await?;
        self.writer.scripts.ends(&session).await.map(|ends| ends.settled).map_err(unavailable)
    }

    async fn position(&self, revision: Revision) -> Result<Option<Position>, ReadError> {
        if revision == Revision::START {
            return Ok(Some(Position::START));
        }
        let session = self.session().await?;
        // What is not settled yet is shown to nobody.
        let settled = self.writer.scripts.ends(&session).await.map_err(unavailable)?.settled.revision;
        if revision > settled {
            return Ok(None);
        }
        let hash = self.hash_at(&session, revision).await.map_err(unavailable)?;
        Ok(hash.map(|hash| Position { revision, hash }))
    }

    async fn changed(&self, seen: Revision) {
        let session = self.link.connected().await;
        // Whatever comes of it, the caller looks for itself.
        let _ = session.block(&self.writer.scripts.wait(seen, BLOCK), BLOCK).await;
    }
}
