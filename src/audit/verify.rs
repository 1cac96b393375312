//! Whether a journal is what it was: its whole chain, and what its checkpoints say of it.

use super::log::Kept;
use crate::domain::ids::Revision;
use crate::journal::{Hash, JournalReader, Position, ReadError, walk};

/// Why a journal is not what it was.
#[derive(Debug, thiserror::Error)]
pub enum VerifyError {
    /// It cannot be read, or an entry is damaged.
    #[error(transparent)]
    Journal(#[from] ReadError),
    /// It ends before a revision that was signed.
    #[error(
        "entries were lost or taken away: the journal ends at revision {end}, and the checkpoint of {from} says that it \
         reached revision `{revision}`"
    )]
    Shorter {
        /// The signed revision.
        revision: Revision,
        /// Where the journal ends.
        end: Revision,
        /// Which checkpoint.
        from: String,
    },
    /// It has another history.
    #[error(
        "the journal was rewritten, at the latest at entry `{revision}`: it has hash {found} there, and the checkpoint of {from} \
         says {expected}{}", since(*.holds)
    )]
    Rewritten {
        /// The signed revision.
        revision: Revision,
        /// The signed hash.
        expected: Hash,
        /// The journal's.
        found: Hash,
        /// Up to where an earlier checkpoint bears it out.
        holds: Option<Revision>,
        /// Which checkpoint.
        from: String,
    },
}

fn since(holds: Option<Revision>) -> String {
    holds.map_or_else(String::new, |at| format!("; up to entry `{at}` an earlier checkpoint bears it out"))
}

/// Checks the whole chain, and that it passes through every checkpoint. Returns its end.
///
/// # Errors
/// Names the first bad entry, or the first checkpoint that does not hold.
pub async fn verify(
    journal: &dyn JournalReader,
    mut checkpoints: Vec<Kept>,
    mut progress: impl FnMut(Revision, Revision),
) -> Result<Position, VerifyError> {
    checkpoints.sort_by_key(|kept| kept.checkpoint.position.revision);
    let mut left = checkpoints.into_iter().peekable();
    let (mut wrong, mut holds) = (None, None);
    let mut hold = |position: Position| {
        while let Some(kept) = left.next_if(|kept| kept.checkpoint.position.revision == position.revision) {
            let signed = kept.checkpoint.position;
            if signed == position {
                holds = Some(signed.revision);
            } else if wrong.is_none() {
                let (expected, found) = (signed.hash, position.hash);
                wrong =
                    Some(VerifyError::Rewritten { revision: signed.revision, expected, found, holds, from: kept.from });
            }
        }
    };
    hold(Position::START);
    let end = walk(journal, |entries, end| {
        entries.iter().for_each(|entry| hold(entry.position()));
        if let Some(last) = entries.last() {
            progress(last.position().revision, end);
        }
    });
    let end = end.await?;
    if let Some(wrong) = wrong {
        return Err(wrong);
    }
    match left.next() {
        Some(Kept { checkpoint, from, .. }) => {
            Err(VerifyError::Shorter { revision: checkpoint.position.revision, end: end.revision, from })
        }
        None => Ok(end),
    }
}
