//! What is done about a journal that does not have an entry which was followed here: the lost entries are appended again
//! just as they were, or, if something else stands in their place, the journal is sealed.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use redis::Value;
use tracing::{error, warn};

use super::committer::Committer;
use super::connection::CallError;
use super::reader::{RedisReader, not_primary, unavailable};
use super::replay_buffer::{Lost, ReplayBuffer};
use super::scripts::How;
use super::session::Session;
use crate::domain::ids::Revision;
use crate::journal::{AppendError, Hash, Position, ReadError, StoredEntry};
use std::sync::Arc;

/// Lost entries are appended again in groups of about this many bytes.
const REPAIR_BYTES: usize = 4 << 20;

/// See the module.
#[derive(Debug)]
pub(super) struct Repairer {
    committer: Committer,
    replay: Mutex<ReplayBuffer>,
    /// Lost entries are being appended again, by this replica or by others: told once they are all there.
    repairing: AtomicBool,
}

impl Repairer {
    pub(super) fn new(committer: Committer, replay_bytes: usize) -> Self {
        Self { committer, replay: Mutex::new(ReplayBuffer::keeping(replay_bytes)), repairing: AtomicBool::new(false) }
    }

    fn replay(&self) -> MutexGuard<'_, ReplayBuffer> {
        self.replay.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Keeps what was followed, for the day on which the journal has lost it.
    pub(super) fn keep(&self, after: Position, entries: &[StoredEntry]) {
        self.replay().extend(after, entries);
    }

    /// The journal, which ends at `end`, does not have `known`: appends the lost entries again, or says what diverged.
    pub(super) async fn repair_tail(
        &self,
        reader: &RedisReader,
        session: &Arc<Session>,
        known: Position,
        end: Position,
    ) -> Result<(), ReadError> {
        // A primary that was replaced has another history by right, and not the one that holds.
        if !self.committer.locator.confirms(&session.node, session.epoch).await {
            return Err(not_primary("the server may not be the primary any more"));
        }
        let lost = self.replay().lost(known, end);
        match lost {
            Lost::Tail(entries) => {
                if !self.repairing.swap(true, Ordering::Relaxed) {
                    error!(ends_at = %end.revision, known = %known.revision, entries = entries.len(),
                        "revision went back: the journal has lost its last entries: appending them again");
                }
                self.append_again(session, end, &entries).await
            }
            Lost::Replaced => Err(self.seal(reader, session, known, end).await),
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
                let fits = bytes < REPAIR_BYTES;
                bytes += entry.payload().len();
                fits
            });
            let (group, rest) = entries.split_at(fits.count());
            let group: Vec<(Hash, &[u8])> = group.iter().map(|e| (e.position().hash, e.payload())).collect();
            match self.committer.append(session, at, &group, How::Repair).await {
                Ok(end) => (at, entries) = (end, rest),
                // Another replica does the same: the next read shows how far it has come.
                Err(AppendError::Conflict { .. }) => return Ok(()),
                Err(error) => return Err(ReadError::Unavailable(error.into())),
            }
        }
        Ok(())
    }

    /// The journal has what is known here. Replicas that put lost entries back at once are in each other's way, and none of
    /// them appends the last one by itself: each says so by what it reads.
    pub(super) fn found(&self, known: Position) {
        if self.repairing.swap(false, Ordering::Relaxed) {
            error!(revision = %known.revision, "the journal has its lost entries again");
        }
    }

    /// Finds the first entry that differs, and seals the journal.
    async fn seal(&self, reader: &RedisReader, session: &Session, known: Position, end: Position) -> ReadError {
        let (mut same, last) = self.replay().span();
        let mut differs = last.min(end.revision);
        // Histories are the same up to some entry and differ from there on, for each hash vouches for all before it.
        while same.next() < differs {
            let middle = Revision::new(same.get().midpoint(differs.get()));
            let here = self.replay().at(middle).map(|position| position.hash);
            match reader.hash_at(session, middle).await {
                Ok(there) if there.is_some() && there == here => same = middle,
                Ok(_) => differs = middle,
                Err(error) => return unavailable(error),
            }
        }
        let there = reader.hash_at(session, differs).await.ok().flatten();
        let (here, there) = (self.replay().at(differs).map(|p| p.hash), there);
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
        let sealing: Result<Value, CallError> = session.ask(&reader.scripts.seal(&session.stream, &why)).await;
        if let Err(error) = sealing {
            warn!(%error, "the journal is not sealed yet");
        }
        ReadError::Diverged { revision: differs, end: end.revision }
    }
}
