//! The journal: the one place where truth is kept, and the contract every backend keeps.
//!
//! An append-only, totally ordered, hash-chained log at revisions 1, 2, 3 … Knows nothing of orders: an entry is bytes.

pub mod memory;
pub mod redis;
pub mod sqlite;

use std::fmt;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use sha2::{Digest as _, Sha256};

use crate::domain::ids::Revision;

type Source = Box<dyn std::error::Error + Send + Sync>;

/// The hash of an entry: over the hash before and the entry's bytes, so that it vouches for all of the past.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct Hash([u8; 32]);

impl Hash {
    /// Before the first entry.
    pub const GENESIS: Self = Self([0; 32]);

    /// From its bytes.
    #[must_use]
    pub const fn from_bytes(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    /// Its bytes.
    #[must_use]
    pub const fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }

    /// The hash of the entry after this one: `SHA-256("withheld.journal.v1\n" ‖ this ‖ payload)`.
    #[must_use]
    pub fn chain(self, payload: &[u8]) -> Self {
        let hash = Sha256::new().chain_update(b"withheld.journal.v1\n").chain_update(self.0).chain_update(payload);
        Self(hash.finalize().into())
    }
}

impl fmt::Display for Hash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&hex(&self.0))
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

impl fmt::Debug for Hash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self}")
    }
}

/// A place in a journal's history: a revision, and the hash that says which history.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Position {
    /// The entries up to here.
    pub revision: Revision,
    /// The hash of the last of them.
    pub hash: Hash,
}

impl Position {
    /// Before the first entry.
    pub const START: Self = Self { revision: Revision::START, hash: Hash::GENESIS };

    /// The place after one more entry.
    #[must_use]
    pub fn after(self, payload: &[u8]) -> Self {
        Self { revision: self.revision.next(), hash: self.hash.chain(payload) }
    }
}

/// An entry as the journal keeps it, its hash checked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoredEntry {
    position: Position,
    payload: Arc<[u8]>,
}

impl StoredEntry {
    /// Its place.
    #[must_use]
    pub const fn position(&self) -> Position {
        self.position
    }

    /// Its bytes.
    #[must_use]
    pub fn payload(&self) -> &[u8] {
        &self.payload
    }
}

/// Why nothing, or perhaps nothing, was appended.
#[derive(Debug, thiserror::Error)]
pub enum AppendError {
    /// The journal does not end where the caller thought. Nothing was written.
    #[error("the journal ends at revision `{}`, not where expected", actual.revision)]
    Conflict {
        /// Where it ends.
        actual: Position,
    },
    /// The journal cannot be written. Nothing was.
    #[error("the journal cannot be written")]
    Unavailable(#[source] Source),
    /// It may have been written: read it again and find out, never guess.
    #[error("whether the journal was written is not known")]
    Indeterminate(#[source] Source),
    /// What keeps the journal is not set up to keep what is acknowledged. Nothing was written.
    #[error("the journal would not keep what is acknowledged: {0}")]
    NotDurable(String),
    /// Histories of the journal have diverged, and nothing is written until people have decided. Nothing was.
    #[error("{0}")]
    Fenced(String),
}

impl AppendError {
    /// Whether surely nothing was written.
    #[must_use]
    pub const fn nothing_written(&self) -> bool {
        match self {
            Self::Conflict { .. } | Self::Unavailable(_) | Self::NotDurable(_) | Self::Fenced(_) => true,
            Self::Indeterminate(_) => false,
        }
    }
}

/// What is wrong with an entry.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Damage {
    /// There are later ones, or the journal says so.
    #[error("it is missing")]
    Missing,
    /// Its contents, its hash, or the entry before are not what they were.
    #[error("its hash should be {expected}, by its contents and the entry before, and is {}", hex(found))]
    Hash {
        /// What its contents and the entry before make of it.
        expected: Hash,
        /// What is stored: 32 bytes, unless its length is damaged, too.
        found: Vec<u8>,
    },
    /// The journal names another hash for its end than the entry there has.
    #[error("the journal says that it ends there, with hash {found}, and the entry has hash {expected}")]
    End {
        /// The entry's.
        expected: Hash,
        /// The journal's mark.
        found: Hash,
    },
    /// What keeps the journal is damaged there, or further on, where entries may have been.
    #[error("what the journal is stored in is damaged there")]
    Storage,
}

/// Why there are no entries to be had.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    /// The journal cannot be read now.
    #[error("the journal cannot be read")]
    Unavailable(#[source] Source),
    /// An entry is not what was written.
    #[error("entry `{revision}` of the journal is damaged: {damage}")]
    Corrupt {
        /// Which.
        revision: Revision,
        /// What was found.
        damage: Damage,
    },
    /// The journal has another history than the caller: it does not have the entry the caller stands at.
    #[error("{}", diverged(*revision, *end))]
    Diverged {
        /// The first entry known to differ, or else where the caller stands.
        revision: Revision,
        /// Where the journal ends: earlier, if it has lost entries.
        end: Revision,
    },
}

fn diverged(revision: Revision, end: Revision) -> String {
    if end < revision {
        format!("the journal has lost entries: it ends at revision {end}, before the entry `{revision}` known here")
    } else {
        format!("the journal has another history: its entry `{revision}` is not the one known here")
    }
}

/// Why entries stopped coming.
pub type FollowError = ReadError;

impl ReadError {
    /// Whether trying again can help.
    #[must_use]
    pub const fn is_retryable(&self) -> bool {
        match self {
            Self::Unavailable(_) => true,
            Self::Corrupt { .. } | Self::Diverged { .. } => false,
        }
    }
}

/// The contract. One suite of tests holds every backend to it.
///
/// - Revisions are dense from 1; each entry's hash is chained to the one before.
/// - Entries of one append become visible together or not at all.
/// - What was appended is never changed.
#[async_trait]
pub trait Journal: Send + Sync + 'static {
    /// Appends entries right after `expected`, all or none, and returns the new end once they are durable. Dropping the
    /// future leaves all or none of them.
    ///
    /// # Errors
    /// `Conflict` if the journal does not end at `expected`; see [`AppendError`] for the others.
    async fn append(&self, expected: Position, payloads: Vec<Vec<u8>>) -> Result<Position, AppendError>;

    /// Up to `limit` entries after a position, fewer where they are large, each checked against the chain. None: the
    /// position is the end.
    ///
    /// # Errors
    /// `Diverged` if the position is not in this journal; see [`ReadError`] for the others.
    async fn read(&self, after: Position, limit: usize) -> Result<Vec<StoredEntry>, ReadError>;

    /// Where the journal ends.
    ///
    /// # Errors
    /// If it cannot be read.
    async fn tail(&self) -> Result<Position, ReadError>;

    /// The place in this journal's history at a revision, to read on from: `None` if the journal ends before it. As it is
    /// stored: only what is read after it is checked.
    ///
    /// # Errors
    /// If it cannot be read.
    async fn position(&self, revision: Revision) -> Result<Option<Position>, ReadError>;

    /// Has what keeps the journal look for damage of its own, which may take as long as reading all of it. Entries are
    /// chained and vouch for each other, but for none that was lost from the end.
    ///
    /// # Errors
    /// `Corrupt` with the revision after which entries may have been lost.
    async fn examine(&self) -> Result<(), ReadError> {
        Ok(())
    }

    /// Returns when there may be entries after a revision; it may return without there being any.
    async fn changed(&self, seen: Revision);
}

/// Where those who share a journal leave a snapshot of the state for each other. What a snapshot says is not known here.
#[async_trait]
pub trait SnapshotShelf: fmt::Debug + Send + Sync + 'static {
    /// After which entry the snapshot there was taken.
    ///
    /// # Errors
    /// If it cannot be found out.
    async fn newest(&self) -> Result<Option<Revision>, ReadError>;

    /// Writes the snapshot there into a file; `None` if there is none, or it was replaced meanwhile.
    ///
    /// # Errors
    /// If it cannot be read, or the file not be written.
    async fn fetch(&self, into: &Path) -> Result<Option<Revision>, ReadError>;

    /// Leaves a newer snapshot; false if there is one as new, or somebody else is about it.
    ///
    /// # Errors
    /// If the file cannot be read, or the snapshot not be left.
    async fn offer(&self, revision: Revision, from: &Path) -> Result<bool, ReadError>;
}

/// Checks entries read from storage: dense, chained to `after`.
fn chained(
    after: Position,
    rows: impl IntoIterator<Item = (u64, Vec<u8>, Vec<u8>)>,
) -> Result<Vec<StoredEntry>, ReadError> {
    let mut position = after;
    let mut entries = Vec::new();
    for (revision, hash, payload) in rows {
        position = position.after(&payload);
        let revision_wanted = position.revision;
        let corrupt = |damage| ReadError::Corrupt { revision: revision_wanted, damage };
        if Revision::new(revision) != revision_wanted {
            return Err(corrupt(Damage::Missing));
        }
        if position.hash.as_bytes().as_slice() != hash {
            return Err(corrupt(Damage::Hash { expected: position.hash, found: hash }));
        }
        entries.push(StoredEntry { position, payload: payload.into() });
    }
    Ok(entries)
}

/// How often a follower that is level says so.
const HEARTBEAT: Duration = Duration::from_millis(500);
const BATCH: usize = 4_096;

/// Yields every entry once, in order, for ever.
pub struct Follower {
    journal: Arc<dyn Journal>,
    at: Position,
    level: bool,
}

impl Follower {
    /// From the entry after a position on.
    #[must_use]
    pub fn new(journal: Arc<dyn Journal>, after: Position) -> Self {
        Self { journal, at: after, level: false }
    }

    /// Whether the last read found nothing: the next one waits.
    #[must_use]
    pub const fn is_level(&self) -> bool {
        self.level
    }

    /// The next entries; none means: level with the journal just now. Dropping the future loses nothing.
    ///
    /// # Errors
    /// See [`ReadError`]; after a retryable one, calling again goes on where it was.
    pub async fn next(&mut self) -> Result<Vec<StoredEntry>, FollowError> {
        if self.level {
            // Either there is something new, or it is time to look whether the journal is still there.
            let _ = tokio::time::timeout(HEARTBEAT, self.journal.changed(self.at.revision)).await;
        }
        let entries = self.journal.read(self.at, BATCH).await?;
        self.level = entries.is_empty();
        if let Some(last) = entries.last() {
            self.at = last.position();
        }
        Ok(entries)
    }
}

/// Checks the whole chain, and returns its end. `progress` is told the revision reached and the last one.
///
/// # Errors
/// Names the first bad entry.
pub async fn verify(
    journal: &dyn Journal,
    mut progress: impl FnMut(Revision, Revision),
) -> Result<Position, ReadError> {
    walk(journal, |entries, end| {
        if let Some(last) = entries.last() {
            progress(last.position().revision, end);
        }
    })
    .await
}

/// The same; `visit` is shown all entries in order, some at a time, each with the last revision.
///
/// # Errors
/// Names the first bad entry.
pub async fn walk(
    journal: &dyn Journal,
    mut visit: impl FnMut(&[StoredEntry], Revision),
) -> Result<Position, ReadError> {
    let end = journal.tail().await?;
    let mut at = Position::START;
    loop {
        let entries = journal.read(at, BATCH).await?;
        let Some(last) = entries.last() else { break };
        at = last.position();
        if let Some(entry) = entries.iter().find(|entry| entry.position().revision == end.revision)
            && entry.position() != end
        {
            let damage = Damage::End { expected: entry.position().hash, found: end.hash };
            return Err(ReadError::Corrupt { revision: end.revision, damage });
        }
        visit(&entries, end.revision.max(at.revision));
    }
    if at.revision < end.revision {
        return Err(ReadError::Corrupt { revision: at.revision.next(), damage: Damage::Missing });
    }
    journal.examine().await?;
    Ok(at)
}
