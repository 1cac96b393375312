//! When the state is written to a file, and how a start makes use of it.
//!
//! A snapshot is only ever a shortcut: one that is damaged is not used, nor one that the journal does not have the entry of. A
//! snapshot that others share could have been made by anybody who can write where it is shared: what it says is held
//! against the journal afterwards, entry by entry, before it is kept as one of our own.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use jiff::Timestamp;
use tokio::task::JoinHandle;
use tracing::{error, info, warn};

use super::ReplicaError;
use crate::compute;
use crate::domain::state::State;
use crate::journal::{Hash, JournalName, JournalReader, Position, ReadError, SnapshotStore};
use crate::record::decode;
use crate::record::snapshot::{SnapshotError, SnapshotFile};
use crate::telemetry::causes;

/// A snapshot that could not be written is tried again after this long.
const RETRY: Duration = Duration::from_mins(1);
/// Entries folded at a time when a shared snapshot is held against the journal.
const VERIFY_BATCH: usize = 4_096;

/// A state and the entry it was taken after.
type Taken = (State, Position);

/// What a replica begins with.
pub(super) struct Chosen {
    pub(super) state: State,
    pub(super) position: Position,
    /// It was shared by others: to be verified, and kept once that is done.
    pub(super) shared: Option<SnapshotFile>,
}

/// Keeps a journal's snapshot up to date.
#[derive(Debug)]
pub struct Snapshots {
    file: Option<SnapshotFile>,
    /// Where those who share the journal leave one for each other.
    store: Option<Arc<dyn SnapshotStore>>,
    every: u64,
    /// The revision of the last snapshot that was written.
    last: Arc<AtomicU64>,
    /// At most one is written at a time.
    writing: Option<JoinHandle<()>>,
    /// What `last` was when one was begun last, and until when, by the monotonic clock, no other is if it is still that: it
    /// could not be written.
    begun: (u64, Duration),
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
    pub fn none() -> Self {
        Self {
            file: None,
            store: None,
            every: u64::MAX,
            last: Arc::default(),
            writing: None,
            begun: (0, Duration::ZERO),
            may_serve: false,
        }
    }

    /// Shared with others.
    #[must_use]
    pub fn shared(self, store: Arc<dyn SnapshotStore>) -> Self {
        Self { store: Some(store), ..self }
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

    /// The state to begin with and the entry it was taken after: of a snapshot whose entry the journal has, or an empty state
    /// and the beginning. What the local one says has been held against the journal by the lineage. One that others share may
    /// not have been taken later than `latest`.
    ///
    /// # Errors
    /// If the journal cannot be read now, or has another entry than the local snapshot was taken after.
    pub(super) async fn choose(
        &mut self,
        local: Option<Taken>,
        journal: &dyn JournalReader,
        latest: Timestamp,
    ) -> Result<Chosen, ReadError> {
        if let Some((_, position)) = &local {
            has_entry(*position, journal).await?;
        }
        let have = local.as_ref().map_or(0, |(_, position)| position.revision.get());
        let (chosen, shared) = match self.fetched(have, journal, latest).await? {
            Some((taken, file)) => (Some(taken), Some(file)),
            None => (local, None),
        };
        let Some((state, position)) = chosen else {
            return Ok(Chosen { state: State::default(), position: Position::START, shared: None });
        };
        info!(revision = %position.revision, shared = shared.is_some(), "state restored from snapshot");
        self.last.store(position.revision.get(), Ordering::Relaxed);
        Ok(Chosen { state, position, shared })
    }

    /// The shared snapshot, if it saves folding many entries.
    async fn fetched(
        &self,
        have: u64,
        journal: &dyn JournalReader,
        latest: Timestamp,
    ) -> Result<Option<(Taken, SnapshotFile)>, ReadError> {
        let (Some(store), Some(file)) = (&self.store, &self.file) else { return Ok(None) };
        let newest = store.newest().await?;
        if newest.is_none_or(|newest| newest.get() < have.saturating_add(self.every)) {
            return Ok(None);
        }
        let fetched = SnapshotFile::at(file.path().with_extension("shared.snapshot"));
        match store.fetch(fetched.path()).await {
            Ok(Some(revision)) => info!(%revision, "shared snapshot fetched"),
            Ok(None) => return Ok(None),
            Err(error) => {
                warn!(error = causes(&error), "shared snapshot not fetched");
                return Ok(None);
            }
        }
        let Some(taken) = read(fetched.clone()).await else { return Ok(None) };
        // Bounded-clock: what would not be adopted entry by entry is not adopted at once.
        if taken.0.at() > latest {
            warn!(at = %taken.0.at(), "the shared snapshot is from the future, or this machine's clock is behind: not used");
            return Ok(None);
        }
        match has_entry(taken.1, journal).await {
            Ok(()) => Ok(Some((taken, fetched))),
            Err(error @ ReadError::Diverged { .. }) => {
                warn!(%error, revision = %taken.1.revision, "the journal does not have the shared snapshot's entry: not used");
                Ok(None)
            }
            Err(error) => Err(error),
        }
    }

    /// Keeps a shared snapshot that was verified as one of our own.
    pub(super) async fn keep_shared(&self, shared: &SnapshotFile) {
        let Some(file) = &self.file else { return };
        let (from, to) = (shared.path().to_owned(), file.path().to_owned());
        if let Ok(Err(error)) = compute::begin(move || std::fs::rename(from, to)).await {
            warn!(%error, "shared snapshot not kept");
        }
    }

    /// Writes one in the background if it is time to, and shares it.
    pub(super) fn keep(&mut self, state: &State, hash: Hash, name: Option<JournalName>, now: Duration) {
        let busy = self.writing.as_ref().is_some_and(|writing| !writing.is_finished());
        let last = self.last.load(Ordering::Relaxed);
        let due = state.revision().get().saturating_sub(last) >= self.every;
        let failed = last == self.begun.0 && now < self.begun.1;
        if due && !busy && !failed {
            self.begun = (last, now + RETRY);
            self.writing = self.write(state.clone(), hash, name, self.store.clone());
        }
    }

    /// Writes the last one, if anything has come since the one before.
    pub(super) async fn close(
        mut self,
        state: State,
        hash: Hash,
        name: Option<JournalName>,
    ) -> Result<(), ReplicaError> {
        if let Some(writing) = self.writing.take() {
            writing.await.map_err(|_| ReplicaError::BrokenOff)?;
        }
        if state.revision().get() > self.last.load(Ordering::Relaxed)
            && let Some(writing) = self.write(state, hash, name, None)
        {
            writing.await.map_err(|_| ReplicaError::BrokenOff)?;
        }
        Ok(())
    }

    fn write(
        &self,
        state: State,
        hash: Hash,
        name: Option<JournalName>,
        store: Option<Arc<dyn SnapshotStore>>,
    ) -> Option<JoinHandle<()>> {
        let (file, last) = (self.file.clone()?, Arc::clone(&self.last));
        let revision = state.revision();
        Some(tokio::spawn(async move {
            let path = file.path().to_owned();
            let name = name.map(|name| *name.as_bytes());
            match compute::begin(move || file.write(&state, hash, name)).await {
                Ok(Ok(())) => info!(%revision, path = %path.display(), "snapshot written"),
                Ok(Err(error)) => {
                    return error!(error = causes(&error), retry_after = ?RETRY, "snapshot not written, trying again later");
                }
                Err(error) => return error!(%error, "writing a snapshot broke off"),
            }
            last.fetch_max(revision.get(), Ordering::Relaxed);
            let Some(store) = store else { return };
            match store.offer(revision, &path).await {
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
        // It is a newer program's, which may come back: the journal itself will say that it cannot be read here.
        Ok(Err(error @ SnapshotError::NewerFormat { .. })) => {
            warn!(%error, "snapshot not used, folding the journal from its start");
            None
        }
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

/// Whether the journal has the very entry that a snapshot was taken after; what comes after it may be damaged.
async fn has_entry(position: Position, journal: &dyn JournalReader) -> Result<(), ReadError> {
    match journal.read(position, 1).await {
        Ok(_) | Err(ReadError::Corrupt { .. } | ReadError::InDoubt(_)) => Ok(()),
        Err(error @ (ReadError::Diverged { .. } | ReadError::Unavailable(_))) => Err(error),
    }
}

/// The state that the journal itself makes, up to a position: what a shared snapshot taken there should have said.
pub(super) async fn fold_up_to(journal: Arc<dyn JournalReader>, end: Position) -> Result<State, ReplicaError> {
    let (mut state, mut at) = (State::default(), Position::START);
    while at.revision < end.revision {
        let left = usize::try_from(end.revision.get() - at.revision.get()).unwrap_or(usize::MAX);
        let entries = match journal.read(at, left.min(VERIFY_BATCH)).await {
            Ok(batch) => batch.entries,
            Err(error) if error.is_retryable() => {
                tokio::time::sleep(RETRY / 60).await;
                continue;
            }
            Err(error) => return Err(error.into()),
        };
        let Some(last) = entries.last() else { continue };
        at = last.position();
        let folded = compute::begin(move || {
            for stored in &entries {
                let revision = stored.position().revision;
                let entry = decode(stored.payload()).map_err(|source| ReplicaError::Entry { revision, source })?;
                state.apply(revision, &entry)?;
            }
            Ok::<_, ReplicaError>(state)
        });
        state = folded.await.map_err(|_| ReplicaError::BrokenOff)??;
    }
    Ok(state)
}
