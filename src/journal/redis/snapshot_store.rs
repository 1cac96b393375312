//! One snapshot of the state, shared through Redis, so that a new replica need not fold years of entries.
//!
//! It is kept in parts, so that no command holds the server for long. A reference to it is put in place only when all
//! parts are there, and the parts before are kept for a while for those who are reading them. Whoever takes it checks it
//! like one of its own: it counts only if it is whole and the journal has the very entry it was taken after.

use std::path::Path;
use std::time::Duration;

use async_trait::async_trait;
use redis::{Value, cmd};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use super::RedisJournal;
use super::reader::unavailable;
use crate::clock::new_id;
use crate::domain::ids::Revision;
use crate::journal::{ReadError, SnapshotStore};

const PART: usize = 1 << 20;
/// Whoever shares a snapshot and dies holds others up for so long.
const LOCK: Duration = Duration::from_mins(10);
/// Parts that nothing refers to (any more) are gone after this.
const KEEP: Duration = Duration::from_mins(30);

fn io(error: std::io::Error) -> ReadError {
    ReadError::Unavailable(error.into())
}

impl RedisJournal {
    /// The revision and the number of parts of the snapshot there is.
    async fn shelved(&self) -> Result<Option<(Revision, u64)>, ReadError> {
        let session = self.reader.session().await?;
        let snapshot = &self.reader.scripts.keys.snapshot;
        let found: (Option<u64>, Option<u64>) =
            session.ask(cmd("HMGET").arg(snapshot).arg("revision").arg("parts")).await.map_err(unavailable)?;
        Ok(found.0.map(Revision::new).zip(found.1))
    }

    /// The revision of the snapshot before the one there is.
    async fn previous(&self) -> Result<Option<Revision>, ReadError> {
        let session = self.reader.session().await?;
        let snapshot = &self.reader.scripts.keys.snapshot;
        let found: Option<u64> = session.ask(cmd("HGET").arg(snapshot).arg("previous")).await.map_err(unavailable)?;
        Ok(found.map(Revision::new))
    }

    async fn shelve(&self, revision: Revision, from: &Path) -> Result<(), ReadError> {
        let session = self.reader.session().await?;
        let keys = &self.reader.scripts.keys;
        let before = self.shelved().await?;
        let key = keys.snapshot_parts(revision);
        let mut file = tokio::fs::File::open(from).await.map_err(io)?;
        let (mut parts, mut part) = (0_u64, Vec::with_capacity(PART));
        session.ask::<Value>(cmd("DEL").arg(&key)).await.map_err(unavailable)?;
        loop {
            part.clear();
            let read = (&mut file).take(PART as u64).read_to_end(&mut part).await.map_err(io)?;
            if read == 0 {
                break;
            }
            session.ask::<Value>(cmd("HSET").arg(&key).arg(parts).arg(&part)).await.map_err(unavailable)?;
            if parts == 0 {
                session.ask::<Value>(cmd("EXPIRE").arg(&key).arg(KEEP.as_secs())).await.map_err(unavailable)?;
            }
            parts += 1;
        }
        let mut refer = redis::pipe();
        refer.atomic();
        refer.cmd("HSET").arg(&keys.snapshot).arg("revision").arg(revision.get()).arg("parts").arg(parts);
        refer.cmd("PERSIST").arg(&key);
        if let Some((before, _)) = before.filter(|(before, _)| *before != revision) {
            refer.cmd("EXPIRE").arg(keys.snapshot_parts(before)).arg(KEEP.as_secs());
            refer.cmd("HSET").arg(&keys.snapshot).arg("previous").arg(before.get());
        }
        // One more is enough for who is reading it: entries that come fast must not fill the server with snapshots.
        if let Some(older) = self.previous().await?.filter(|older| *older != revision) {
            refer.cmd("DEL").arg(keys.snapshot_parts(older));
        }
        for answer in session.write(&mut refer, session.limit).await.map_err(unavailable)? {
            answer.map_err(unavailable)?;
        }
        Ok(())
    }
}

#[async_trait]
impl SnapshotStore for RedisJournal {
    async fn newest(&self) -> Result<Option<Revision>, ReadError> {
        Ok(self.shelved().await?.map(|(revision, _)| revision))
    }

    async fn fetch(&self, into: &Path) -> Result<Option<Revision>, ReadError> {
        let Some((revision, parts)) = self.shelved().await? else { return Ok(None) };
        let key = self.reader.scripts.keys.snapshot_parts(revision);
        let mut file = tokio::fs::OpenOptions::new();
        let mut file = file.write(true).create(true).truncate(true).mode(0o600).open(into).await.map_err(io)?;
        for part in 0..parts {
            let session = self.reader.session().await?;
            let part: Option<Vec<u8>> = session.ask(cmd("HGET").arg(&key).arg(part)).await.map_err(unavailable)?;
            // Replaced by a newer one, and let go, while it was being read.
            let Some(part) = part else { return Ok(None) };
            file.write_all(&part).await.map_err(io)?;
        }
        file.sync_all().await.map_err(io)?;
        Ok(Some(revision))
    }

    async fn offer(&self, revision: Revision, from: &Path) -> Result<bool, ReadError> {
        if self.newest().await?.is_some_and(|newest| newest >= revision) {
            return Ok(false);
        }
        let session = self.reader.session().await?;
        let (lock, mine) = (&self.reader.scripts.keys.snapshot_lock, new_id());
        let locked: Option<String> = session
            .ask(cmd("SET").arg(lock).arg(&mine).arg("NX").arg("EX").arg(LOCK.as_secs()))
            .await
            .map_err(unavailable)?;
        if locked.is_none() {
            return Ok(false);
        }
        let shelved = self.shelve(revision, from).await;
        // Held longer than the lock lasts, it may be somebody else's by now.
        let holder: Option<String> = session.ask(cmd("GET").arg(lock)).await.map_err(unavailable)?;
        if holder.as_deref() == Some(&mine) {
            session.ask::<Value>(cmd("DEL").arg(lock)).await.map_err(unavailable)?;
        }
        shelved.map(|()| true)
    }
}
