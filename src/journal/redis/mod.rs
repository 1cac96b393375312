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

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use redis::{Value, cmd};
use tokio_util::task::AbortOnDropHandle;
use tracing::{error, warn};

use super::{AppendError, Hash, Journal, Position, ReadError, StoredEntry, chained};
use crate::domain::ids::Revision;
use crate::telemetry::causes;
use connection::{CallError, Connector};
use link::{Link, Session, Supervisor};
use locate::Locator;
use recent::{Lost, Recent};
use scripts::{Appended, Found, Scripts};

pub use options::{
    BadRedisUrl, Credentials, Durability, LinkChange, Node, RedisOptions, RedisUrl, SetUpError, TlsFiles, Topology,
    redacted,
};

/// A read stops after an entry that takes it past this many bytes: the server builds the answer while all others wait.
const READ_BYTES: usize = 4 << 20;
/// How long the server holds a read that has nothing to tell.
const BLOCK: Duration = Duration::from_millis(450);
/// An append of many bytes may take longer than others, by this much for each MiB.
const PER_MIB: Duration = Duration::from_millis(250);
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

/// Appends, and settles what was appended.
#[derive(Debug, Clone)]
struct Writer {
    scripts: Scripts,
    wait_replicas: u8,
    /// How long a link that has just been lost is waited for.
    timeout: Duration,
}

fn unavailable(error: CallError) -> ReadError {
    ReadError::Unavailable(error.into())
}

fn replaced() -> ReadError {
    ReadError::Unavailable("the server may not be the primary any more".into())
}

impl Writer {
    fn settled_at_once(&self) -> bool {
        self.wait_replicas == 0
    }

    /// Appends entries that are chained to `expected`, and settles them.
    async fn append(
        &self,
        session: &Arc<Session>,
        expected: Position,
        entries: &[(Hash, &[u8])],
    ) -> Result<Position, AppendError> {
        let Some((hash, _)) = entries.last() else { return Ok(expected) };
        let end = Position { revision: expected.revision.plus(entries.len() as u64), hash: *hash };
        let bytes: usize = entries.iter().map(|(_, payload)| payload.len()).sum();
        let more = PER_MIB * u32::try_from(bytes >> 20).unwrap_or(u32::MAX);
        let mut commands = redis::pipe();
        commands.add_command(self.scripts.append(expected, entries, self.settled_at_once()));
        let wait = self.add_wait(&mut commands, session, more);
        let answers = session.write(&mut commands, session.limit() + more + wait).await;
        let mut answers = answers.map_err(|error| AppendError::Indeterminate(error.into()))?.into_iter();
        let appended = match answers.next() {
            Some(Ok(appended)) => {
                Appended::parse(appended).map_err(|error| AppendError::Indeterminate(error.into()))?
            }
            Some(Err(error)) if error.refused() => return Err(AppendError::Unavailable(error.into())),
            Some(Err(error)) => return Err(AppendError::Indeterminate(error.into())),
            None => return Err(AppendError::Indeterminate("no answer".into())),
        };
        match appended {
            Appended::Done if self.settled_at_once() => Ok(end),
            Appended::Done => {
                let settled = self.confirm(session, end, answers).await;
                settled.map(|()| end).map_err(AppendError::Indeterminate)
            }
            Appended::Conflict { end, settled } => {
                if end.revision > settled {
                    // The desk that wrote it may be gone: who is in its way settles it.
                    let (writer, session) = (self.clone(), Arc::clone(session));
                    tokio::spawn(async move { writer.settle(&session, end).await });
                }
                Err(AppendError::Conflict { actual: end })
            }
            Appended::Fenced(why) => Err(AppendError::Fenced(why)),
        }
    }

    /// Adds a WAIT for what was written before it on the same connection, and tells how long it may take.
    fn add_wait(&self, commands: &mut redis::Pipeline, session: &Session, more: Duration) -> Duration {
        if self.settled_at_once() {
            return Duration::ZERO;
        }
        let wait = session.limit() / 2 + more;
        let millis = u64::try_from(wait.as_millis()).unwrap_or(u64::MAX);
        if session.knows_waitaof() {
            // On the primary's own disk. It could wait for those of replicas, too, but they tell of theirs once a second:
            // measured on two idle servers, 875 ms instead of 2.
            commands.cmd("WAITAOF").arg(1).arg(0).arg(millis);
        }
        commands.cmd("WAIT").arg(self.wait_replicas).arg(millis);
        wait
    }

    /// After the answers of what was waited for: marks a position as settled if all have it that must.
    async fn confirm(
        &self,
        session: &Session,
        at: Position,
        waited: impl Iterator<Item = Result<Value, CallError>>,
    ) -> Result<(), super::Source> {
        let mut confirmed = self.settled_at_once();
        for answer in waited {
            match answer? {
                Value::Int(replicas) if replicas >= i64::from(self.wait_replicas) => confirmed = true,
                Value::Int(replicas) => {
                    return Err(format!("{replicas} of {} Redis replicas have confirmed it", self.wait_replicas).into());
                }
                Value::Array(disks) if matches!(disks.as_slice(), [Value::Int(1..), _]) => {}
                Value::Array(_) => return Err("it is not on the primary's disk".into()),
                _ => return Err(scripts::Senseless.into()),
            }
        }
        if !confirmed {
            return Err(scripts::Senseless.into());
        }
        let marked = session.write(redis::pipe().add_command(self.scripts.settle(at)), session.limit()).await?;
        match marked.into_iter().next() {
            Some(Ok(Value::Int(1))) => Ok(()),
            Some(Err(error)) => Err(error.into()),
            Some(Ok(_)) | None => Err("the entry is not there any more".into()),
        }
    }

    /// Settles what another desk appended and left: waits until enough replicas have it, and marks it.
    async fn settle(&self, session: &Session, at: Position) {
        let mut commands = redis::pipe();
        commands.cmd("SET").arg(&self.scripts.keys.settling).arg(at.revision.get());
        let wait = self.add_wait(&mut commands, session, Duration::ZERO);
        let settled = async {
            let mut answers = session.write(&mut commands, session.limit() + wait).await?.into_iter();
            // Without a write of its own before it, a WAIT waits for nothing.
            answers.next().ok_or(scripts::Senseless)??;
            self.confirm(session, at, answers).await
        };
        match settled.await {
            Ok(()) => tracing::info!(revision = %at.revision, "settled what another desk had appended"),
            Err(error) => {
                warn!(error = causes(&*error), revision = %at.revision, "what another desk appended is not settled yet");
            }
        }
    }
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
            if !session.is_in_touch() {
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
