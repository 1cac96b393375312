//! When the state is written to a file, and how a start makes use of it.
//!
//! A snapshot is only ever a shortcut: one that is damaged, or that the journal does not bear out, is not used.

use std::sync::Arc;

use tokio::task::JoinHandle;
use tracing::{error, info, warn};

use super::ReplicaError;
use crate::compute;
use crate::domain::state::State;
use crate::journal::{Hash, Journal, Position, ReadError, SnapshotShelf};
use crate::record::snapshot::SnapshotFile;
use crate::telemetry::causes;

/// A state and the entry it was taken after.
type Taken = (State, Position);

/// Keeps a journal's snapshot up to date.
#[derive(Debug)]
pub struct Snapshots {
    file: Option<SnapshotFile>,
    /// Where those who share the journal leave one for each other.
    shelf: Option<Arc<dyn SnapshotShelf>>,
    every: u64,
    /// The revision of the last snapshot.
    last: u64,
    /// At most one is written at a time.
    writing: Option<JoinHandle<()>>,
    may_serve: bool,
}

impl Snapshots {
    /// In a file, each time so many entries have come since the last one, and at the end.
    #[must_use]
    pub fn in_file(file: SnapshotFile, every: u64) -> Self {
        Self { file: Some(file), every, ..Self::none() }
    }

    /// Nowhere.
    #[must_use]
    pub const fn none() -> Self {
        Self { file: None, shelf: None, every: u64::MAX, last: 0, writing: None, may_serve: false }
    }

    /// Shared with others.
    #[must_use]
    pub fn shared(self, shelf: Arc<dyn SnapshotShelf>) -> Self {
        Self { shelf: Some(shelf), ..self }
    }

    /// Allows to serve from the file while the journal has not been reached yet.
    #[must_use]
    pub fn serving(self, may_serve: bool) -> Self {
        Self { may_serve, ..self }
    }

    pub(super) const fn may_serve(&self) -> bool {
        self.may_serve
    }

    /// What the file has, if it is whole.
    pub(super) async fn local(&self) -> Option<Taken> {
        read(self.file.clone()?).await
    }

    /// The state to begin with and the entry it was taken after: of a snapshot that the journal bears out, or an empty
    /// state and the beginning.
    ///
    /// # Errors
    /// If the journal cannot be read now.
    pub(super) async fn choose(&mut self, local: Option<Taken>, journal: &dyn Journal) -> Result<Taken, ReadError> {
        let local = match (local, &self.file) {
            (Some(taken), Some(file)) => borne_out(taken, file, journal).await?,
            (Some(_) | None, _) => None,
        };
        let have = local.as_ref().map_or(0, |(_, position)| position.revision.get());
        let chosen = match self.shelved(have, journal).await? {
            Some(shared) => Some(shared),
            None => local,
        };
        let Some((state, position)) = chosen else { return Ok(Default::default()) };
        info!(revision = %position.revision, "state restored from snapshot");
        self.last = position.revision.get();
        Ok((state, position))
    }

    /// The shared snapshot, if it saves folding many entries.
    async fn shelved(&self, have: u64, journal: &dyn Journal) -> Result<Option<Taken>, ReadError> {
        let (Some(shelf), Some(file)) = (&self.shelf, &self.file) else { return Ok(None) };
        let newest = shelf.newest().await?;
        if newest.is_none_or(|newest| newest.get() < have.saturating_add(self.every)) {
            return Ok(None);
        }
        let fetched = SnapshotFile::at(file.path().with_extension("shared.snapshot"));
        match shelf.fetch(fetched.path()).await {
            Ok(Some(revision)) => info!(%revision, "shared snapshot fetched"),
            Ok(None) => return Ok(None),
            Err(error) => {
                warn!(error = causes(&error), "shared snapshot not fetched");
                return Ok(None);
            }
        }
        let Some(taken) = read(fetched.clone()).await else { return Ok(None) };
        let taken = borne_out(taken, &fetched, journal).await?;
        if taken.is_some()
            && let Err(error) = tokio::fs::rename(fetched.path(), file.path()).await
        {
            warn!(%error, "shared snapshot not kept");
        }
        Ok(taken)
    }

    /// Writes one in the background if it is time to, and shares it.
    pub(super) fn keep(&mut self, state: &State, hash: Hash) {
        let busy = self.writing.as_ref().is_some_and(|writing| !writing.is_finished());
        if state.revision().get().saturating_sub(self.last) >= self.every && !busy {
            self.writing = self.write(state.clone(), hash, self.shelf.clone());
        }
    }

    /// Writes the last one, if anything has come since the one before.
    pub(super) async fn close(mut self, state: State, hash: Hash) -> Result<(), ReplicaError> {
        if let Some(writing) = self.writing.take() {
            writing.await.map_err(|_| ReplicaError::BrokenOff)?;
        }
        if state.revision().get() > self.last
            && let Some(writing) = self.write(state, hash, None)
        {
            writing.await.map_err(|_| ReplicaError::BrokenOff)?;
        }
        Ok(())
    }

    fn write(&mut self, state: State, hash: Hash, shelf: Option<Arc<dyn SnapshotShelf>>) -> Option<JoinHandle<()>> {
        let file = self.file.clone()?;
        let revision = state.revision();
        self.last = revision.get();
        Some(tokio::spawn(async move {
            let path = file.path().to_owned();
            match compute::begin(move || file.write(&state, hash, None)).await {
                Ok(Ok(())) => info!(%revision, path = %path.display(), "snapshot written"),
                Ok(Err(error)) => {
                    return error!(error = causes(&error), "snapshot not written");
                }
                Err(error) => return error!(%error, "writing a snapshot broke off"),
            }
            let Some(shelf) = shelf else { return };
            match shelf.offer(revision, &path).await {
                Ok(true) => info!(%revision, "snapshot shared"),
                Ok(false) => {}
                Err(error) => warn!(error = causes(&error), "snapshot not shared"),
            }
        }))
    }
}

/// What a file has, if it is whole; one that is not is set aside.
async fn read(file: SnapshotFile) -> Option<Taken> {
    let reading = file.clone();
    match compute::begin(move || reading.read()).await {
        Ok(Ok(found)) => found.map(|(state, taken)| (state, taken.position)),
        Ok(Err(error)) => {
            let aside = file.set_aside();
            warn!(%error, ?aside, "snapshot set aside, folding the journal from its start");
            None
        }
        Err(error) => {
            error!(%error, "reading the snapshot broke off, folding the journal from its start");
            None
        }
    }
}

/// What was taken, if the journal has the very entry it was taken after; a snapshot of another history is set aside.
async fn borne_out(taken: Taken, file: &SnapshotFile, journal: &dyn Journal) -> Result<Option<Taken>, ReadError> {
    match journal.read(taken.1, 1).await {
        Ok(_) | Err(ReadError::Corrupt { .. }) => Ok(Some(taken)),
        Err(error @ ReadError::Diverged { .. }) => {
            let aside = file.set_aside();
            warn!(%error, ?aside, revision = %taken.1.revision, "the journal does not have the snapshot's entry: not used");
            Ok(None)
        }
        Err(error @ ReadError::Unavailable(_)) => Err(error),
    }
}
