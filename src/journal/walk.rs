//! Going through a journal from its first entry to its end, to check it or to show it.

use super::follow::BATCH;
use super::{Damage, JournalReader, Position, ReadError, StoredEntry};
use crate::domain::ids::Revision;

/// Checks the whole chain, and returns its end. `progress` is told the revision reached and the last one.
///
/// # Errors
/// Names the first bad entry.
pub async fn verify(
    journal: &dyn JournalReader,
    mut progress: impl FnMut(Revision, Revision),
) -> Result<Position, ReadError> {
    walk(journal, |entries, end| {
        if let Some(last) = entries.last() {
            progress(last.position().revision, end);
        }
    })
    .await
}

/// The same; `visit` is shown all committed entries in order, some at a time, each with the last revision.
///
/// # Errors
/// Names the first bad entry.
pub async fn walk(
    journal: &dyn JournalReader,
    mut visit: impl FnMut(&[StoredEntry], Revision),
) -> Result<Position, ReadError> {
    let end = journal.tail().await?.committed;
    let mut at = Position::START;
    while at.revision < end.revision {
        let left = usize::try_from(end.revision.get() - at.revision.get()).unwrap_or(usize::MAX);
        let entries = journal.read(at, left.min(BATCH)).await?.entries;
        let Some(last) = entries.last() else {
            return Err(ReadError::Corrupt { revision: at.revision.next(), damage: Damage::Missing });
        };
        at = last.position();
        if at.revision == end.revision && at != end {
            let damage = Damage::End { expected: at.hash, found: end.hash };
            return Err(ReadError::Corrupt { revision: end.revision, damage });
        }
        visit(&entries, end.revision);
    }
    journal.examine().await?;
    Ok(at)
}
