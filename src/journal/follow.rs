//! Following a journal: every committed entry once, in order, for ever.

use std::sync::Arc;
use std::time::Duration;

use super::{Batch, FollowError, JournalReader, Position};

/// How often a follower that is level looks whether the journal is still there.
const HEARTBEAT: Duration = Duration::from_millis(500);
/// Entries read at a time.
pub(super) const BATCH: usize = 4_096;

/// Yields every entry once, in order, for ever.
pub struct Follower {
    journal: Arc<dyn JournalReader>,
    at: Position,
    level: bool,
}

impl Follower {
    /// From the entry after a position on.
    #[must_use]
    pub fn new(journal: Arc<dyn JournalReader>, after: Position) -> Self {
        Self { journal, at: after, level: false }
    }

    /// Whether the last read went up to the end: the next one waits.
    #[must_use]
    pub const fn is_level(&self) -> bool {
        self.level
    }

    /// Reads on from an earlier position: what came after it was not taken.
    pub fn rewind(&mut self, to: Position) {
        (self.at, self.level) = (to, false);
    }

    /// The next entries, and whether they go up to what was committed when they were read. Dropping the future loses
    /// nothing.
    ///
    /// # Errors
    /// See [`super::ReadError`]; after a retryable one, calling again goes on where it was.
    pub async fn next(&mut self) -> Result<Batch, FollowError> {
        if self.level {
            // Either there is something new, or it is time to look whether the journal is still there.
            let _ = tokio::time::timeout(HEARTBEAT, self.journal.wait_for_append(self.at.revision)).await;
        }
        let batch = self.journal.read(self.at, BATCH).await?;
        self.level = batch.level.is_some();
        if let Some(last) = batch.entries.last() {
            self.at = last.position();
        }
        Ok(batch)
    }
}
