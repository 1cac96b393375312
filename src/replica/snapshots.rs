//! When the state is written to a file, and how a start makes use of it.
//!
//! A snapshot is only ever a shortcut: one that is damaged, or that the journal does not bear out, is not used.

use tokio::task::JoinHandle;
use tracing::{error, info, warn};

use super::ReplicaError;
use crate::domain::state::State;
use crate::journal::{Hash, Journal, Position};
use crate::record::snapshot::SnapshotFile;

/// Keeps a journal's snapshot up to date.
#[derive(Debug)]
pub struct Snapshots {
    file: Option<SnapshotFile>,
    every: u64,
    /// The revision of the last snapshot.
    last: u64,
    /// At most one is written at a time.
    writing: Option<JoinHandle<()>>,
}

impl Snapshots {
    /// In a file, each time so many entries have come since the last one, and at the end.
    #[must_use]
    pub const fn in_file(file: SnapshotFile, every: u64) -> Self {
        Self { file: Some(file), every, last: 0, writing: None }
    }

    /// Nowhere.
    #[must_use]
    pub const fn none() -> Self {
        Self { file: None, every: u64::MAX, last: 0, writing: None }
    }

    /// The state of a verified snapshot and the entry it was taken after, or an empty state and the beginning.
    pub(super) async fn restore(&mut self, journal: &dyn Journal) -> (State, Position) {
        let Some(file) = self.file.clone() else { return Default::default() };
        let reading = file.clone();
        let read = tokio::task::spawn_blocking(move || reading.read()).await;
        let (state, position) = match read {
            Ok(Ok(Some(found))) => found,
            Ok(Ok(None)) => return Default::default(),
            Ok(Err(error)) => {
                let aside = file.set_aside();
                warn!(%error, ?aside, "snapshot set aside, folding the journal from its start");
                return Default::default();
            }
            Err(error) => {
                error!(%error, "reading the snapshot broke off, folding the journal from its start");
                return Default::default();
            }
        };
        // A snapshot counts only if the journal has the very entry it was taken after.
        match journal.read(position, 1).await {
            Ok(_) => {
                info!(revision = %position.revision, "state restored from snapshot");
                self.last = position.revision.get();
                (state, position)
            }
            Err(error) => {
                warn!(%error, revision = %position.revision, "the journal does not have the snapshot's entry: not used");
                Default::default()
            }
        }
    }

    /// Writes one in the background if it is time to.
    pub(super) fn keep(&mut self, state: &State, hash: Hash) {
        let busy = self.writing.as_ref().is_some_and(|writing| !writing.is_finished());
        if state.revision().get().saturating_sub(self.last) >= self.every && !busy {
            self.writing = self.write(state.clone(), hash);
        }
    }

    /// Writes the last one, if anything has come since the one before.
    pub(super) async fn close(mut self, state: State, hash: Hash) -> Result<(), ReplicaError> {
        if let Some(writing) = self.writing.take() {
            writing.await.map_err(|_| ReplicaError::BrokenOff)?;
        }
        if state.revision().get() > self.last
            && let Some(writing) = self.write(state, hash)
        {
            writing.await.map_err(|_| ReplicaError::BrokenOff)?;
        }
        Ok(())
    }

    fn write(&mut self, state: State, hash: Hash) -> Option<JoinHandle<()>> {
        let file = self.file.clone()?;
        self.last = state.revision().get();
        Some(tokio::task::spawn_blocking(move || match file.write(&state, hash) {
            Ok(()) => info!(revision = %state.revision(), path = %file.path().display(), "snapshot written"),
            Err(error) => error!(%error, source = ?std::error::Error::source(&error), "snapshot not written"),
        }))
    }
}
