//! The one task that owns the state: reads the journal, folds, publishes.

use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use super::{Published, Replica, ReplicaError, Snapshots};
use crate::clock::jittered;
use crate::compute;
use crate::domain::state::{State, Touched};
use crate::index::{Index, Snapshot};
use crate::journal::{Follower, Hash, Journal, Position, StoredEntry};
use crate::machine;
use crate::metrics;
use crate::record::decode;
use crate::subject_map::Changes;
use crate::telemetry::causes;

/// Loading a long journal is told of each time so many entries have been folded.
const TELL_EVERY: u64 = 100_000;
/// The first and the longest pause before a journal that is out of reach is tried again.
const BACKOFF: (Duration, Duration) = (Duration::from_millis(10), Duration::from_millis(250));
/// How often a journal that cannot be followed any further is looked at again.
const FAULT_PAUSE: Duration = Duration::from_secs(1);
/// After so long without an entry, the index is put in order as far as it can be.
const QUIET: Duration = Duration::from_secs(1);

/// The state and index, owned by the one task that folds.
struct Fold {
    state: State,
    index: Index,
    hash: Hash,
}

impl Fold {
    fn take(&mut self, entries: &[StoredEntry]) -> Result<Vec<Touched>, ReplicaError> {
        let mut touched = Vec::with_capacity(entries.len());
        for stored in entries {
            let revision = stored.position().revision;
            let entry = decode(stored.payload()).map_err(|source| ReplicaError::Entry { revision, source })?;
            touched.push(self.state.apply(revision, &entry)?);
            self.hash = stored.position().hash;
        }
        Ok(touched)
    }

    fn published(&self, index: Snapshot) -> Published {
        Published { index, state: self.state.clone(), hash: self.hash }
    }
}

/// Folds the journal into a replica until it is told to stop; then it writes a snapshot for the next start.
///
/// # Errors
/// If the journal is damaged or senseless before it could be folded once. Later, what was published last stays published.
pub async fn run(
    replica: Replica,
    journal: Arc<dyn Journal>,
    mut snapshots: Snapshots,
    stop: CancellationToken,
) -> Result<(), ReplicaError> {
    let mut following = Following::new(replica);
    let (state, start) = tokio::select! {
        () = stop.cancelled() => return Ok(()),
        start = following.begin(&mut snapshots, &*journal) => start,
    };
    let mut follower = Follower::new(journal, start);
    let mut fold = Fold { state: state.loading(machine::cores()), index: Index::default(), hash: start.hash };
    let mut told = start.revision.get();
    loop {
        let entries = tokio::select! {
            biased;
            () = stop.cancelled() => {
                fold.state.settle();
                return snapshots.close(fold.state, fold.hash).await;
            }
            () = following.boundary() => Ok(None),
            entries = follower.next() => entries.map(Some),
            changes = following.untidy(), if follower.is_level() => {
                fold = following.tidy(fold, changes).await?;
                continue;
            }
        };
        let entries = match entries {
            Ok(entries) => entries,
            Err(error) if error.is_retryable() => {
                following.out_of_reach(&error).await;
                continue;
            }
            Err(error) if following.level_before => {
                following.replica.set_fault(error.to_string());
                tokio::time::sleep(jittered(FAULT_PAUSE)).await;
                continue;
            }
            Err(error) => return Err(error.into()),
        };
        following.in_reach();
        if entries.as_ref().is_some_and(Vec::is_empty) {
            if !following.level_before {
                fold = following.loaded(fold).await?;
            }
            following.replica.level();
            snapshots.keep(&fold.state, fold.hash);
            continue;
        }
        let now = following.replica.0.clock.now();
        // Before the first time level, nobody is served: the index is made once, at the end.
        let loading = !following.level_before;
        let folded = compute::begin(move || {
            // Where entries come one after another for ever, there is never nothing else to do.
            if fold.state.untidy() == Some(Changes::Many) {
                fold.state.tidy(Changes::Many);
            }
            let touched = fold.take(&entries.unwrap_or_default())?;
            let index = if loading { None } else { Some(fold.index.advance(&fold.state, &touched, now)) };
            Ok::<_, ReplicaError>((fold, index))
        });
        let (back, index) = match folded.await.map_err(|_| ReplicaError::BrokenOff)? {
            Ok(folded) => folded,
            // An entry of a newer program, perhaps: queries go on from what was understood.
            Err(error) if !loading => {
                following.replica.set_fault(error.to_string());
                stop.cancelled().await;
                return Err(error);
            }
            Err(error) => return Err(error),
        };
        fold = back;
        if loading && fold.state.revision().get() >= told + TELL_EVERY {
            told = fold.state.revision().get();
            info!(revision = told, "loading the journal");
        }
        if let Some(index) = index {
            following.publish(&fold, index);
        }
    }
}

/// What is published, and how it stands with the journal.
struct Following {
    replica: Replica,
    retired: Vec<Arc<Published>>,
    /// When an order starts or ends by itself next. Boundaries count once the journal is folded.
    due: Option<Timestamp>,
    /// What of the index is to be put in order, from when on by the monotonic clock.
    untidy: Option<(Changes, Duration)>,
    level_before: bool,
    backoff: Duration,
    /// The trouble told last.
    told: String,
}

impl Following {
    fn new(replica: Replica) -> Self {
        let (retired, due, untidy, told) = (Vec::new(), None, None, String::new());
        Self { replica, retired, due, untidy, level_before: false, backoff: BACKOFF.0, told }
    }

    /// Where to fold from; waits for the journal as long as it takes.
    async fn begin(&mut self, snapshots: &mut Snapshots, journal: &dyn Journal) -> (State, Position) {
        let local = snapshots.local().await;
        if let Some((state, position)) = local.as_ref().filter(|_| snapshots.may_serve()) {
            let now = self.replica.0.clock.now();
            let index = Index::default().rebuild(state, now);
            let published = Published { index, state: state.clone(), hash: position.hash };
            self.replica.publish(published, &mut self.retired);
            // When it was level last is not known: surely when it took its last entry.
            self.replica.level_since(now.duration_since(state.at()).unsigned_abs());
            warn!(revision = %position.revision, "serving from the snapshot until the journal is in reach");
        }
        loop {
            match snapshots.choose(local.clone(), journal).await {
                Ok(start) => return start,
                Err(error) => self.out_of_reach(&error).await,
            }
        }
    }

    async fn boundary(&self) {
        match self.due {
            Some(at) => self.replica.0.clock.sleep_until(at).await,
            None => std::future::pending().await,
        }
    }

    fn publish(&mut self, fold: &Fold, index: Snapshot) {
        self.due = index.valid_until();
        self.replica.publish(fold.published(index), &mut self.retired);
        self.look_after(&fold.state);
    }

    fn look_after(&mut self, state: &State) {
        self.untidy = state.untidy().map(|changes| match changes {
            Changes::Many => (changes, Duration::ZERO),
            Changes::Any => (changes, self.replica.0.clock.monotonic() + QUIET),
        });
    }

    /// Once there is something to be put in order, and nothing else to do.
    async fn untidy(&self) -> Changes {
        match self.untidy {
            Some((changes, from)) => {
                tokio::time::sleep(from.saturating_sub(self.replica.0.clock.monotonic())).await;
                changes
            }
            None => std::future::pending().await,
        }
    }

    /// Puts a part of it in order, and publishes the same in that form.
    async fn tidy(&mut self, mut fold: Fold, changes: Changes) -> Result<Fold, ReplicaError> {
        let tidied = compute::begin(move || {
            fold.state.tidy(changes);
            let index = fold.index.again(&fold.state);
            (fold, index)
        });
        let (fold, index) = tidied.await.map_err(|_| ReplicaError::BrokenOff)?;
        self.replica.replace(fold.published(index), &mut self.retired);
        match fold.state.untidy() {
            // It goes on with what it began with.
            Some(_) if changes == Changes::Any => self.untidy = Some((changes, Duration::ZERO)),
            _ => self.look_after(&fold.state),
        }
        Ok(fold)
    }

    /// Told once for each trouble that lasts; tried again for ever.
    async fn out_of_reach(&mut self, error: &crate::journal::ReadError) {
        let error = causes(error);
        if self.backoff >= BACKOFF.1 && self.told != error {
            warn!(error, "journal out of reach, trying again");
            self.told = error;
        }
        metrics::follower_restarted();
        tokio::time::sleep(jittered(self.backoff)).await;
        self.backoff = (self.backoff * 2).min(BACKOFF.1);
    }

    fn in_reach(&mut self) {
        if !self.told.is_empty() {
            info!("journal in reach again");
        }
        (self.backoff, self.told) = (BACKOFF.0, String::new());
    }

    /// For the first time all of the journal is folded: it is put in order and published.
    async fn loaded(&mut self, mut fold: Fold) -> Result<Fold, ReplicaError> {
        let now = self.replica.0.clock.now();
        let settled = compute::begin(move || {
            fold.state.settle();
            let index = fold.index.rebuild(&fold.state, now);
            (fold, index)
        });
        let (fold, index) = settled.await.map_err(|_| ReplicaError::BrokenOff)?;
        self.level_before = true;
        self.publish(&fold, index);
        info!(revision = %fold.state.revision(), orders = fold.state.orders().len(), "level with the journal");
        Ok(fold)
    }
}
