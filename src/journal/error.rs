//! What can go wrong with a journal, and what that means for who asked.

use super::position::{Hash, Position, hex};
use crate::domain::ids::Revision;

pub(super) type Source = Box<dyn std::error::Error + Send + Sync>;

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
    /// Too few of those that must have an entry are there now. Nothing was written.
    #[error("the journal would not keep what is acknowledged: {0}")]
    TooFewReplicas(String),
    /// Histories of the journal have diverged, and nothing is written until people have decided. Nothing was.
    #[error("{0}")]
    Sealed(String),
    /// It is not known whether the journal still has all that was acknowledged. Nothing was written.
    #[error("{0}")]
    InDoubt(String),
    /// **Bounded-clock**: this machine's clock and the journal's server's differ by too much. Nothing was written.
    #[error("{0}")]
    ClockOff(String),
}

impl AppendError {
    /// Whether surely nothing was written.
    #[must_use]
    pub const fn nothing_written(&self) -> bool {
        match self {
            Self::Conflict { .. }
            | Self::Unavailable(_)
            | Self::NotDurable(_)
            | Self::TooFewReplicas(_)
            | Self::Sealed(_)
            | Self::InDoubt(_)
            | Self::ClockOff(_) => true,
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
    /// The journal names another hash for the end of what is committed than the entry there has.
    #[error("the journal says that it is committed up to there, with hash {found}, and the entry has hash {expected}")]
    End {
        /// The entry's.
        expected: Hash,
        /// The journal's mark.
        found: Hash,
    },
    /// The journal says that it is committed up to there, and does not have that entry.
    #[error("the journal is committed up to there and ends at revision {end}: entries were deleted")]
    CommittedBeyondEnd {
        /// Where it ends.
        end: Revision,
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
    /// It can be read, and it is not known whether it still has all that was acknowledged: nobody who has read it is level.
    #[error("{0}")]
    InDoubt(String),
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
            Self::Unavailable(_) | Self::InDoubt(_) => true,
            Self::Corrupt { .. } | Self::Diverged { .. } => false,
        }
    }
}
