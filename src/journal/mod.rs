//! The journal: the one place where truth is kept, and the contract every backend keeps.
//!
//! An append-only, totally ordered, hash-chained log at revisions 1, 2, 3 … with a name of its own. An entry is
//! *committed* once it is sure to stay: only then is it acknowledged to who wrote it, or read by anybody. Who can only read
//! (a [`JournalReader`]) changes nothing, not even what is committed. Knows nothing of orders: an entry is bytes.

mod error;
mod follow;
pub mod memory;
mod position;
pub mod redis;
pub mod sqlite;
mod walk;

use std::fmt;
use std::path::Path;
use std::time::Duration;

use async_trait::async_trait;

use crate::domain::ids::Revision;

pub use error::{
    AppendError, Damage, FIRST_RULE, FollowError, Peer, ReadError, Unreachable, UnreachableCause, UnreachableKind,
};
pub use follow::Follower;
pub use position::{BadHash, BadJournalName, BadPosition, Hash, JournalName, Position, PositionToken, StoredEntry};
pub use walk::{verify, walk};

use position::chained;

/// Where a journal ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Tail {
    /// The last entry there is: where the next one is appended.
    pub end: Position,
    /// The last entry that is committed. Those after it may have been acknowledged by who wrote them, or may never be.
    pub committed: Position,
}

impl Tail {
    /// Of a journal that commits what it appends.
    #[must_use]
    pub const fn at(end: Position) -> Self {
        Self { end, committed: end }
    }
}

/// What was read after a position.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Batch {
    /// The next committed entries, each checked against the chain.
    pub entries: Vec<StoredEntry>,
    /// Set if they go up to all that was committed when they were read: so long ago it was certain that nobody could have
    /// been acknowledged anything else. Unset only if there are entries.
    pub level: Option<Duration>,
}

/// What anybody may do with a journal who only looks. One suite of tests holds every backend to this and to [`Journal`].
///
/// - Revisions are dense from 1; each entry's hash is chained to the one before.
/// - Entries of one append become visible together or not at all.
/// - What was appended is never changed.
#[async_trait]
pub trait JournalReader: Send + Sync + 'static {
    /// Up to `limit` committed entries after a position, fewer where they are large.
    ///
    /// # Errors
    /// `Diverged` if the position is not in this journal; `InDoubt` if there are none and whether that is all is not known;
    /// see [`ReadError`] for the others.
    async fn read(&self, after: Position, limit: usize) -> Result<Batch, ReadError>;

    /// Where the journal ends.
    ///
    /// # Errors
    /// If it cannot be read.
    async fn tail(&self) -> Result<Tail, ReadError>;

    /// The place in this journal's history at a revision, to read on from: `None` if nothing is committed there. As it is
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

    /// Returns when there may be committed entries after a revision; it may return without there being any.
    async fn wait_for_append(&self, seen: Revision);

    /// What the journal is called; `None` if it has no entry.
    ///
    /// # Errors
    /// If it cannot be read.
    async fn name(&self) -> Result<Option<JournalName>, ReadError> {
        Ok(self.position(Revision::new(1)).await?.map(|first| JournalName::of(first.hash)))
    }
}

/// Who may also append.
#[async_trait]
pub trait Journal: JournalReader {
    /// Appends entries right after `expected`, all or none, and returns the new end once they are committed. Dropping the
    /// future leaves all or none of them.
    ///
    /// # Errors
    /// `Conflict` if the journal does not end at `expected`; see [`AppendError`] for the others.
    async fn append(&self, expected: Position, payloads: Vec<Vec<u8>>) -> Result<Position, AppendError>;

    /// Whether nothing is committed after a position, as of a moment after this was called. An answer that writes nothing
    /// rests on that alone: what a session knew a while ago is not enough, for others may have been acknowledged since.
    ///
    /// # Errors
    /// `Conflict` if something is; see [`AppendError`] for the others.
    async fn confirm_end(&self, at: Position) -> Result<(), AppendError> {
        match self.read(at, 1).await {
            Ok(batch) => {
                batch.entries.last().map_or(Ok(()), |last| Err(AppendError::Conflict { actual: last.position() }))
            }
            Err(error) => Err(AppendError::Unavailable(error.into())),
        }
    }
}

/// Where those who share a journal leave a snapshot of the state for each other. What a snapshot says is not known here.
#[async_trait]
pub trait SnapshotStore: fmt::Debug + Send + Sync + 'static {
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
