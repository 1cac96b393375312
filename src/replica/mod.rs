//! Follows the journal, folds it into the state, and publishes what queries and desks read.
//!
//! One task owns the state; everybody else has a [`Replica`], a handle on what was published last. Nothing here writes.
//! **Serve-stale-say-so**: when the journal is out of reach the last published snapshot stays, and its age grows.

mod snapshots;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use arc_swap::{ArcSwap, Guard};
use jiff::Timestamp;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use crate::clock::Clock;
use crate::domain::ids::Revision;
use crate::domain::state::{ApplyError, State, Touched};
use crate::index::{Index, Snapshot};
use crate::journal::{FollowError, Follower, Hash, Journal, StoredEntry};
use crate::metrics;
use crate::record::{DecodeError, decode};

pub use snapshots::Snapshots;

/// Loading a long journal is told of each time so many entries have been folded.
const TELL_EVERY: u64 = 100_000;

/// What was published at a revision: the index for queries, the state for everything else.
#[derive(Debug, Clone, Default)]
pub struct Published {
    /// What queries read.
    pub index: Snapshot,
    /// What it was made from.
    pub state: State,
}

impl Published {
    /// The time by which an answer from this is made: never earlier than what it includes.
    #[must_use]
    pub fn now(&self, clock: &Clock) -> Timestamp {
        clock.now().max(self.index.made_at())
    }
}

/// How fresh what is published is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Freshness {
    /// Since the replica last knew itself level with the journal.
    pub age: Duration,
    /// Whether that is within its limit.
    pub live: bool,
}

/// A handle on what the replica knows.
#[derive(Debug, Clone)]
pub struct Replica(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    published: ArcSwap<Published>,
    revision: watch::Sender<Revision>,
    /// Bumped with every publication, also those by time alone.
    publications: watch::Sender<u64>,
    /// Micros of `clock.monotonic()` when last level, plus one; 0 before the first time.
    level_at: AtomicU64,
    ready: watch::Sender<bool>,
    clock: Clock,
    stale_after: Duration,
}

/// The journal cannot be folded: going on would be to guess.
#[derive(Debug, thiserror::Error)]
pub enum ReplicaError {
    /// The journal is damaged, or has another history than this replica.
    #[error("the journal cannot be followed")]
    Journal(#[from] FollowError),
    /// An entry cannot be read.
    #[error("entry `{revision}` cannot be read")]
    Entry {
        /// Which.
        revision: Revision,
        /// Why.
        #[source]
        source: DecodeError,
    },
    /// An entry does not fit.
    #[error(transparent)]
    Apply(#[from] ApplyError),
    /// Folding stopped half way; a bug.
    #[error("the fold of the journal broke off")]
    BrokenOff,
}

impl Replica {
    /// A replica that has nothing yet, for a journal that [`run`] follows.
    #[must_use]
    pub fn new(clock: Clock, stale_after: Duration) -> Self {
        Self(Arc::new(Shared {
            published: ArcSwap::default(),
            revision: watch::Sender::new(Revision::START),
            publications: watch::Sender::new(0),
            level_at: AtomicU64::new(0),
            ready: watch::Sender::new(false),
            clock,
            stale_after,
        }))
    }

    /// What was published last. Hold it for one answer only.
    #[must_use]
    #[inline]
    pub fn load(&self) -> Guard<Arc<Published>> {
        self.0.published.load()
    }

    /// What was published last, to keep.
    #[must_use]
    pub fn current(&self) -> Arc<Published> {
        self.0.published.load_full()
    }

    /// How fresh that is.
    #[must_use]
    pub fn freshness(&self) -> Freshness {
        let now = micros(self.0.clock.monotonic());
        let level_at = self.0.level_at.load(Ordering::Relaxed);
        let age = Duration::from_micros(now.saturating_sub(level_at.saturating_sub(1)));
        Freshness { age, live: level_at != 0 && age <= self.0.stale_after }
    }

    /// Whether the journal has been folded to its end once. **Ready-means-loaded**.
    #[must_use]
    pub fn is_ready(&self) -> bool {
        *self.0.ready.borrow()
    }

    /// Waits for that.
    pub async fn ready(&self) {
        // The sender lives as long as this handle, so waiting cannot fail.
        let _ = self.0.ready.subscribe().wait_for(|ready| *ready).await;
    }

    /// Waits until what is published includes a revision.
    pub async fn reached(&self, revision: Revision) {
        let _ = self.0.revision.subscribe().wait_for(|at| *at >= revision).await;
    }

    /// Counts publications, to wait for the next one.
    #[must_use]
    pub fn publications(&self) -> watch::Receiver<u64> {
        self.0.publications.subscribe()
    }

    /// The clock it goes by.
    #[must_use]
    pub fn clock(&self) -> &Clock {
        &self.0.clock
    }

    fn publish(&self, published: Published, retired: &mut Vec<Arc<Published>>) {
        let revision = published.index.revision();
        // Readers must never be the ones to free a big table: old ones are kept until nobody reads them.
        retired.push(self.0.published.swap(Arc::new(published)));
        retired.retain(|old| Arc::strong_count(old) > 1);
        self.0.revision.send_replace(revision);
        self.0.publications.send_modify(|count| *count += 1);
    }

    fn level(&self) {
        self.0.level_at.store(micros(self.0.clock.monotonic()).saturating_add(1), Ordering::Relaxed);
        self.0.ready.send_if_modified(|ready| !std::mem::replace(ready, true));
    }
}

fn micros(time: Duration) -> u64 {
    u64::try_from(time.as_micros()).unwrap_or(u64::MAX)
}

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
        Published { index, state: self.state.clone() }
    }
}

/// Folds the journal into a replica until it is told to stop; then it writes a snapshot for the next start.
///
/// # Errors
/// If the journal is damaged or senseless; what was published last stays published.
pub async fn run(
    replica: Replica,
    journal: Arc<dyn Journal>,
    mut snapshots: Snapshots,
    stop: CancellationToken,
) -> Result<(), ReplicaError> {
    let (state, start) = snapshots.restore(&*journal).await;
    let mut follower = Follower::new(journal, start);
    let mut fold = Fold { state, index: Index::default(), hash: start.hash };
    let mut retired = Vec::new();
    let index = fold.index.rebuild(&fold.state, replica.0.clock.now());
    // Boundaries count once the journal is folded; until then nobody is served.
    let mut due = None;
    replica.publish(fold.published(index), &mut retired);
    let mut backoff = Duration::from_millis(10);
    let mut level_before = false;
    let mut told = start.revision.get();
    loop {
        let clock = replica.0.clock.clone();
        let boundary = async {
            match due {
                Some(at) => clock.sleep_until(at).await,
                None => std::future::pending().await,
            }
        };
        let entries = tokio::select! {
            biased;
            () = stop.cancelled() => return snapshots.close(fold.state, fold.hash).await,
            () = boundary => Ok(None),
            entries = follower.next() => entries.map(Some),
        };
        let entries = match entries {
            Ok(entries) => entries,
            Err(error) if error.is_retryable() => {
                warn!(%error, "journal out of reach, trying again");
                metrics::follower_restarted();
                tokio::time::sleep(backoff).await;
                backoff = (backoff * 2).min(Duration::from_secs(1));
                continue;
            }
            Err(error) => return Err(error.into()),
        };
        backoff = Duration::from_millis(10);
        let level = entries.as_ref().is_some_and(Vec::is_empty);
        if !level {
            let now = replica.0.clock.now();
            // Before the first time level, nobody is served: the index is made once, at the end.
            let loading = !level_before;
            let folded = tokio::task::spawn_blocking(move || {
                let touched = fold.take(&entries.unwrap_or_default())?;
                let index = if loading { None } else { Some(fold.index.advance(&fold.state, &touched, now)) };
                Ok::<_, ReplicaError>((fold, index))
            });
            let (back, index) = folded.await.map_err(|_| ReplicaError::BrokenOff)??;
            fold = back;
            if loading && fold.state.revision().get() >= told + TELL_EVERY {
                told = fold.state.revision().get();
                info!(revision = told, "loading the journal");
            }
            if let Some(index) = index {
                due = index.valid_until();
                replica.publish(fold.published(index), &mut retired);
            }
            continue;
        }
        if !level_before {
            level_before = true;
            let index = fold.index.rebuild(&fold.state, replica.0.clock.now());
            due = index.valid_until();
            replica.publish(fold.published(index), &mut retired);
            info!(revision = %fold.state.revision(), orders = fold.state.orders().len(), "level with the journal");
        }
        replica.level();
        snapshots.keep(&fold.state, fold.hash);
    }
}
