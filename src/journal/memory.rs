//! A journal in memory, for tests: it keeps the whole contract but for being durable.

use std::sync::{Mutex, MutexGuard, PoisonError};

use async_trait::async_trait;
use tokio::sync::watch;

use super::{AppendError, Batch, Hash, Journal, JournalReader, Position, ReadError, Tail, chained};
use crate::domain::ids::Revision;
use std::time::Duration;

/// A journal that ends with its process.
#[derive(Debug)]
pub struct MemoryJournal {
    rows: Mutex<Vec<Row>>,
    end: watch::Sender<Revision>,
}

/// An entry as stored: its hash and its bytes.
pub type Row = (Hash, Vec<u8>);

impl Default for MemoryJournal {
    fn default() -> Self {
        Self::from_rows(Vec::new())
    }
}

impl MemoryJournal {
    /// A journal that holds what another one held; nothing is checked, so that tests can damage it.
    #[must_use]
    pub fn from_rows(rows: Vec<Row>) -> Self {
        let end = watch::Sender::new(Revision::new(rows.len() as u64));
        Self { rows: Mutex::new(rows), end }
    }

    /// What it holds.
    #[must_use]
    pub fn rows(&self) -> Vec<Row> {
        self.lock().clone()
    }

    fn lock(&self) -> MutexGuard<'_, Vec<Row>> {
        self.rows.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn end(rows: &[Row]) -> Position {
    rows.last()
        .map_or(Position::START, |(hash, _)| Position { revision: Revision::new(rows.len() as u64), hash: *hash })
}

#[async_trait]
impl Journal for MemoryJournal {
    async fn append(&self, expected: Position, payloads: Vec<Vec<u8>>) -> Result<Position, AppendError> {
        let mut rows = self.lock();
        let actual = end(&rows);
        if actual != expected {
            return Err(AppendError::Conflict { actual });
        }
        let mut at = expected;
        for payload in payloads {
            at = at.after(&payload);
            rows.push((at.hash, payload));
        }
        drop(rows);
        self.end.send_replace(at.revision);
        Ok(at)
    }
}

#[async_trait]
impl JournalReader for MemoryJournal {
    async fn read(&self, after: Position, limit: usize) -> Result<Batch, ReadError> {
        let rows = self.lock();
        let skip = usize::try_from(after.revision.get()).unwrap_or(usize::MAX);
        let known = skip.checked_sub(1).map_or(Some(Hash::GENESIS), |at| rows.get(at).map(|(hash, _)| *hash));
        if known != Some(after.hash) {
            return Err(ReadError::Diverged { revision: after.revision, end: end(&rows).revision });
        }
        let next = (after.revision.next().get()..).zip(rows.iter().skip(skip).take(limit));
        let next = next.map(|(revision, (hash, payload))| (revision, hash.as_bytes().to_vec(), payload.clone()));
        let entries = chained(after, next)?;
        let level = skip + entries.len() == rows.len();
        Ok(Batch { entries, level: level.then_some(Duration::ZERO) })
    }

    async fn tail(&self) -> Result<Tail, ReadError> {
        Ok(Tail::at(end(&self.lock())))
    }

    async fn position(&self, revision: Revision) -> Result<Option<Position>, ReadError> {
        let at = usize::try_from(revision.get()).unwrap_or(usize::MAX);
        let rows = self.lock();
        Ok(match at.checked_sub(1) {
            None => Some(Position::START),
            Some(at) => rows.get(at).map(|(hash, _)| Position { revision, hash: *hash }),
        })
    }

    async fn wait_for_append(&self, seen: Revision) {
        // The sender is this journal's own, so waiting cannot fail.
        let _ = self.end.subscribe().wait_for(|end| *end > seen).await;
    }
}
