//! What can go wrong with a journal, and what that means for who asked.

use std::fmt;

use super::position::{Hash, Position, hex};
use crate::domain::ids::Revision;

pub(super) type Source = Box<dyn std::error::Error + Send + Sync>;

/// What comes before anything else where a journal is behind what was known of it.
pub const FIRST_RULE: &str =
    "never stop or delete the replica with the highest revision: it may be the last that has what was lost";

/// Whom a journal on Redis is out of reach by.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Peer {
    /// The server that keeps the journal, or should.
    Redis,
    /// Those who know which server that is.
    Sentinel,
    /// The same in a cluster.
    ClusterNode,
}

impl fmt::Display for Peer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Redis => "Redis",
            Self::Sentinel => "a Sentinel",
            Self::ClusterNode => "a cluster node",
        })
    }
}

/// What kind of cause a journal is out of reach by. Of several, the greatest tells the most.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum UnreachableKind {
    /// None of the others.
    Other,
    /// Nothing came back in time.
    TimedOut,
    /// Nobody listens there.
    ConnectionRefused,
    /// It is reading its data.
    Loading,
    /// It is a replica, or the word of a majority that it is the primary is missing.
    NotPrimary,
    /// No primary has that name.
    UnknownPrimary,
    /// The URL does not name enough of them to have a majority.
    TooFewNamed,
    /// DNS does not know the name.
    NameNotResolved,
    /// It does not speak TLS.
    NotTls,
    /// Nobody who is trusted vouches for its certificate.
    UntrustedCertificate,
    /// It asks for a client certificate, or does not take the one it is shown.
    ClientCertificate,
    /// The ACL user lacks a right.
    MissingRight,
    /// It does not know the user, or the password is another one.
    WrongPassword,
}

/// Why a journal is out of reach, in the words that the runbook has. What a server said is no part of it, so that it may be
/// told to anybody.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct UnreachableCause {
    /// On whose side.
    pub peer: Peer,
    /// What kind.
    pub kind: UnreachableKind,
}

impl fmt::Display for UnreachableCause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let peer = self.peer;
        match self.kind {
            UnreachableKind::Other => write!(f, "no connection to {peer}"),
            UnreachableKind::TimedOut => write!(f, "no answer from {peer} in time"),
            UnreachableKind::ConnectionRefused => write!(f, "connection refused by {peer}"),
            UnreachableKind::Loading => write!(f, "{peer} is still reading its data"),
            UnreachableKind::NotPrimary => f.write_str("no server is surely the primary"),
            UnreachableKind::UnknownPrimary => f.write_str("no Sentinel knows a primary of that name"),
            UnreachableKind::TooFewNamed => f.write_str("the URL names too few of the Sentinels"),
            UnreachableKind::NameNotResolved => write!(f, "the host name of {peer} cannot be resolved"),
            UnreachableKind::NotTls => write!(f, "{peer} does not speak TLS"),
            UnreachableKind::UntrustedCertificate => write!(f, "the certificate of {peer} is not trusted"),
            UnreachableKind::ClientCertificate => write!(f, "{peer} wants a client certificate"),
            UnreachableKind::MissingRight => f.write_str("the ACL user lacks a right"),
            UnreachableKind::WrongPassword => write!(f, "wrong user or password for {peer}"),
        }
    }
}

/// A journal is out of reach: the cause for everybody, and what was said, for the log.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{cause}: {detail}")]
pub struct Unreachable {
    /// Why.
    pub cause: UnreachableCause,
    /// What the driver or the server said.
    pub detail: String,
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
        format!(
            "revision went back: the journal has lost entries: it ends at revision {end}, before the entry `{revision}` known \
             here; {FIRST_RULE}"
        )
    } else {
        format!("the journal has another history: its entry `{revision}` is not the one known here")
    }
}

/// Why entries stopped coming.
pub type FollowError = ReadError;

impl ReadError {
    /// What anybody may be told of why a journal cannot be read now. `None` if it can be.
    #[must_use]
    pub fn public_cause(&self) -> Option<String> {
        match self {
            Self::Unavailable(source) => Some(match source.downcast_ref::<Unreachable>() {
                Some(unreachable) => unreachable.cause.to_string(),
                None => "it cannot be read, the log says why".to_owned(),
            }),
            Self::InDoubt(doubt) => Some(doubt.clone()),
            Self::Corrupt { .. } | Self::Diverged { .. } => None,
        }
    }

    /// Whether trying again can help.
    #[must_use]
    pub const fn is_retryable(&self) -> bool {
        match self {
            Self::Unavailable(_) | Self::InDoubt(_) => true,
            Self::Corrupt { .. } | Self::Diverged { .. } => false,
        }
    }
}
