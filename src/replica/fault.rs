//! Why a journal is not followed any further.

use std::fmt;
use std::time::Duration;

use super::ReplicaError;
use crate::domain::state::ApplyError;
use crate::journal::ReadError;

/// What kind of thing stands in the way.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FaultReason {
    /// The journal has another history than was followed here.
    Diverged,
    /// An entry is damaged, or missing.
    Damaged,
    /// An entry cannot be understood by this program.
    Unreadable,
    /// An entry is from the future, or this machine's clock is behind.
    FromTheFuture,
    /// The journal is not the one that this service knows, or there is none.
    UnknownHistory,
}

impl FaultReason {
    /// All of them.
    pub const ALL: [Self; 5] =
        [Self::Diverged, Self::Damaged, Self::Unreadable, Self::FromTheFuture, Self::UnknownHistory];

    /// Its name, in the log and in errors.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Diverged => "diverged",
            Self::Damaged => "damaged",
            Self::Unreadable => "unreadable",
            Self::FromTheFuture => "from_the_future",
            Self::UnknownHistory => "unknown_history",
        }
    }

    /// That of an error that trying again does not mend.
    pub(super) const fn of(error: &ReplicaError) -> Self {
        match error {
            ReplicaError::Journal(ReadError::Corrupt { .. }) => Self::Damaged,
            ReplicaError::Journal(ReadError::Diverged { .. } | ReadError::Unavailable(_) | ReadError::InDoubt(_)) => {
                Self::Diverged
            }
            ReplicaError::Apply(ApplyError::Gap { .. }) => Self::Damaged,
            ReplicaError::Entry { .. } | ReplicaError::Apply(_) | ReplicaError::BrokenOff => Self::Unreadable,
            ReplicaError::FromTheFuture { .. } => Self::FromTheFuture,
            ReplicaError::Lineage(_) => Self::UnknownHistory,
        }
    }
}

/// Why the journal cannot be followed any further, until people or another replica have mended it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fault {
    /// What kind of thing.
    pub reason: FaultReason,
    /// What it is, in words.
    pub why: String,
    /// Since when the journal has not been followed, by the monotonic clock.
    pub since: Duration,
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.why)
    }
}
