//! Checkpoints: signed statements that the journal reached a hash at a revision.
//!
//! The text is that of <https://c2sp.org/tlog-checkpoint>: the origin, the number of entries, the hash, then one line with
//! the time. The hash is that of the chain, and not the root of a tree: what it proves is proven by going along the chain.

use std::str::FromStr;

use jiff::Timestamp;

use super::note::{Note, NoteError, SigningKey, VerifierKey, base64, sign, to_base64};
use crate::domain::ids::Revision;
use crate::journal::{Hash, Position};

/// What the line with the time begins with.
const TIME: &str = "time ";

/// Where the journal was, and when.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Checkpoint {
    /// Which journal: the name of the keys that sign.
    pub origin: String,
    /// What it reached.
    pub position: Position,
    /// When that was stated; unset if it does not say.
    pub at: Option<Timestamp>,
}

/// Why something is no checkpoint to rely on.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CheckpointError {
    /// It is no note, or not signed by whom it should be.
    #[error(transparent)]
    Note(#[from] NoteError),
    /// The note says something else.
    #[error("what is signed is no checkpoint: {0}")]
    Malformed(&'static str),
    /// It is about another journal.
    #[error("it is a checkpoint of `{found}`, signed by the key of `{name}`: not of this journal")]
    Origin {
        /// Whose key signed it.
        name: String,
        /// What it says.
        found: String,
    },
}

impl Checkpoint {
    /// Its text.
    #[must_use]
    pub fn text(&self) -> String {
        let Self { origin, position, at } = self;
        let time = at.map(|at| format!("{TIME}{at}\n")).unwrap_or_default();
        format!("{origin}\n{}\n{}\n{time}", position.revision, to_base64(position.hash.as_bytes()))
    }

    /// As a note signed with each of some keys.
    #[must_use]
    pub fn sign(&self, keys: &[SigningKey]) -> String {
        sign(&self.text(), keys)
    }

    /// What a note says, if a trusted key has signed it.
    ///
    /// # Errors
    /// If none has, or it is no checkpoint.
    pub fn open(note: &str, trusted: &[VerifierKey]) -> Result<Self, CheckpointError> {
        let note: Note = note.parse()?;
        let key = note.verify(trusted)?;
        let checkpoint: Self = note.text().parse()?;
        if checkpoint.origin != key.name() {
            return Err(CheckpointError::Origin { name: key.name().to_owned(), found: checkpoint.origin });
        }
        Ok(checkpoint)
    }
}

impl FromStr for Checkpoint {
    type Err = CheckpointError;
    fn from_str(text: &str) -> Result<Self, CheckpointError> {
        let malformed = CheckpointError::Malformed;
        let text = text.strip_suffix('\n').ok_or(malformed("its last line is not whole"))?;
        let mut lines = text.split('\n');
        let origin = lines.next().filter(|origin| !origin.is_empty()).ok_or(malformed("it has no origin"))?;
        let count = lines.next().unwrap_or_default();
        let revision: u64 = count.parse().map_err(|_| malformed("its second line is no revision"))?;
        if revision.to_string() != count {
            return Err(malformed("its second line is no revision"));
        }
        let hash = lines.next().and_then(base64).and_then(|hash| <[u8; 32]>::try_from(hash).ok());
        let hash = Hash::from_bytes(hash.ok_or(malformed("its third line is no hash"))?);
        let at = match lines.find_map(|line| line.strip_prefix(TIME)) {
            Some(time) => Some(time.parse().map_err(|_| malformed("its time is none"))?),
            None => None,
        };
        let position = Position { revision: Revision::new(revision), hash };
        Ok(Self { origin: origin.to_owned(), position, at })
    }
}

#[cfg(test)]
#[path = "../../fuzz/notes.rs"]
mod fuzz;
