//! Makes checkpoints: on demand, and at intervals into a file.
//!
//! What is signed is what this replica has followed, entry by entry along the chain, and never what the journal says of
//! itself. Before one more is made at an interval, the last one is held against the journal.

use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use tracing::{debug, error, info};

use super::checkpoint::{Checkpoint, CheckpointError};
use super::log::{CheckpointLog, LineError, LogError};
use super::note::{KeyError, NoteError, SigningKey, VerifierKey};
use crate::clock::jittered;
use crate::domain::ids::Revision;
use crate::journal::{JournalReader, Position, ReadError};
use crate::metrics;
use crate::replica::Replica;
use crate::telemetry::causes;

/// After a failure it is tried again so soon, or at the next interval if that is sooner.
const AGAIN: Duration = Duration::from_mins(1);

/// Why keys cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum KeysError {
    /// The file cannot be read.
    #[error("the checkpoint key `{path}` cannot be read")]
    Io {
        /// The file.
        path: PathBuf,
        /// The cause.
        #[source]
        source: std::io::Error,
    },
    /// Everybody can read it.
    #[error(
        "the checkpoint key `{0}` can be read by everybody: `chmod 600` it, and if others have been there, make a new one"
    )]
    Open(PathBuf),
    /// There is no key in it.
    #[error("the checkpoint key `{path}` cannot be used: {source}")]
    Key {
        /// The file.
        path: PathBuf,
        /// Why.
        source: KeyError,
    },
    /// They are of different journals.
    #[error(
        "the checkpoint keys are named `{one}` and `{other}`: a key and the one that follows it have the same name"
    )]
    Names {
        /// One name.
        one: String,
        /// Another.
        other: String,
    },
}

/// Reads a key.
///
/// # Errors
/// If there is none in the file, or everybody can read it.
pub fn read_key(path: &Path) -> Result<SigningKey, KeysError> {
    let io = |source| KeysError::Io { path: path.to_owned(), source };
    let text = std::fs::read_to_string(path).map_err(io)?;
    if std::fs::metadata(path).map_err(io)?.permissions().mode() & 0o007 != 0 {
        return Err(KeysError::Open(path.to_owned()));
    }
    text.parse().map_err(|source| KeysError::Key { path: path.to_owned(), source })
}

/// Reads the keys that checkpoints are signed with.
///
/// # Errors
/// If one of them cannot be used, or they do not go together.
pub fn read_keys(paths: &[PathBuf]) -> Result<Vec<SigningKey>, KeysError> {
    let keys: Vec<SigningKey> = paths.iter().map(|path| read_key(path)).collect::<Result<_, _>>()?;
    let names = || keys.iter().map(|key| key.verifier().name());
    match names().zip(names().skip(1)).find(|(one, other)| one != other) {
        Some((one, other)) => Err(KeysError::Names { one: one.to_owned(), other: other.to_owned() }),
        None => Ok(keys),
    }
}

/// Why there is no checkpoint now.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum NotNow {
    /// Nothing to sign with.
    #[error(
        "this service has no key to sign checkpoints with: make one with `withheld journal key new NAME`, and give it as --checkpoint-key"
    )]
    NoKey,
    /// Nothing has been followed.
    #[error("this replica is still loading the journal")]
    Loading,
    /// The journal may have gone on.
    #[error("this replica is not level with the journal")]
    Stale,
}

/// A checkpoint that was made.
#[derive(Debug, Clone)]
pub struct Made {
    /// What it says.
    pub checkpoint: Checkpoint,
    /// As it is signed.
    pub note: String,
}

/// Why none was written at an interval.
#[derive(Debug, thiserror::Error)]
enum KeepError {
    #[error(transparent)]
    NotNow(#[from] NotNow),
    #[error(transparent)]
    Log(#[from] LogError),
    #[error("the last checkpoint cannot be held against the journal")]
    Unread(#[source] ReadError),
    #[error(
        "the journal does not have what the last checkpoint says, revision `{0}`: entries were lost or rewritten, and `withheld \
         journal verify --checkpoints` says more; if a backup was put in its place, set this file aside, and keep it"
    )]
    DoesNotHold(Revision),
    #[error("writing broke off")]
    BrokenOff,
}

/// See the module.
#[derive(Debug, Clone)]
pub struct Checkpoints {
    keys: Arc<[SigningKey]>,
    replica: Replica,
}

impl Checkpoints {
    /// Signed with each of some keys, of what a replica has followed.
    #[must_use]
    pub fn new(keys: Vec<SigningKey>, replica: Replica) -> Self {
        Self { keys: keys.into(), replica }
    }

    /// Makes one.
    ///
    /// # Errors
    /// If there is no key, or what is known is not fresh.
    pub fn make(&self) -> Result<Made, NotNow> {
        let Some(key) = self.keys.first() else { return Err(NotNow::NoKey) };
        if !self.replica.is_ready() {
            return Err(NotNow::Loading);
        }
        if !self.replica.freshness().live {
            return Err(NotNow::Stale);
        }
        let position = self.replica.current().position();
        let at = Some(self.replica.clock().now());
        let checkpoint = Checkpoint { origin: key.verifier().name().to_owned(), position, at };
        let note = checkpoint.sign(&self.keys);
        Ok(Made { checkpoint, note })
    }

    /// Leaves one in a file about every so often, if there is something new, for ever. Returns at once if there are no keys.
    pub async fn keep(self, journal: Arc<dyn JournalReader>, log: CheckpointLog, every: Duration) {
        if self.keys.is_empty() {
            return;
        }
        self.replica.ready().await;
        loop {
            let wait = match self.keep_one(&*journal, &log).await {
                Ok(()) => every,
                Err(error) => {
                    metrics::checkpoint_failed();
                    error!(error = causes(&error), log = %log.path().display(), "no checkpoint was written");
                    every.min(AGAIN)
                }
            };
            tokio::time::sleep(jittered(wait)).await;
        }
    }

    async fn keep_one(&self, journal: &dyn JournalReader, log: &CheckpointLog) -> Result<(), KeepError> {
        let trusted: Vec<VerifierKey> = self.keys.iter().map(|key| key.verifier().clone()).collect();
        let of_log = log.clone();
        let last = tokio::task::spawn_blocking(move || of_log.last(&trusted)).await;
        let last = match last.map_err(|_| KeepError::BrokenOff)? {
            // The last one was signed by a key that has been replaced altogether since.
            Err(LogError::Line {
                why: LineError::Checkpoint(CheckpointError::Note(NoteError::Untrusted(_))), ..
            }) => None,
            last => last?,
        };
        if let Some(last) = &last {
            match journal.read(last.position, 1).await {
                Ok(_) | Err(ReadError::Corrupt { .. }) => {}
                Err(ReadError::Diverged { .. }) => return Err(KeepError::DoesNotHold(last.position.revision)),
                Err(error @ (ReadError::Unavailable(_) | ReadError::InDoubt(_))) => {
                    return Err(KeepError::Unread(error));
                }
            }
            metrics::checkpoint_kept(last);
        }
        let Made { checkpoint, note } = self.make()?;
        if last.map_or(Revision::START, |last| last.position.revision) == checkpoint.position.revision {
            debug!("nothing new since the last checkpoint");
            return Ok(());
        }
        let to = log.clone();
        let written = tokio::task::spawn_blocking(move || to.append(&note)).await;
        written.map_err(|_| KeepError::BrokenOff)??;
        metrics::checkpoint_kept(&checkpoint);
        let Position { revision, hash } = checkpoint.position;
        info!(%revision, %hash, "checkpoint");
        Ok(())
    }
}
