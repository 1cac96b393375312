//! Follows the journal, folds it into the state, and publishes what queries and desks read.
//!
//! One task owns the state; everybody else has a [`Replica`], a handle on what was published last. Nothing here writes.
//! **Serve-stale-say-so**: when the journal is out of reach what was published last stays, and its age grows.

mod fault;
mod follow;
pub mod lineage;
mod recent;
mod snapshots;

use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Duration;

use arc_swap::{ArcSwap, ArcSwapOption, Guard};
use jiff::{SignedDuration, Timestamp};
use tokio::sync::watch;
use tracing::{error, info};

use crate::clock::Clock;
use crate::compute;
use crate::domain::digest::Digester;
use crate::domain::ids::Revision;
use crate::domain::state::{ApplyError, State};
use crate::index::Snapshot;
use crate::journal::{FollowError, Hash, JournalName, JournalReader, Position, PositionToken, ReadError};
use crate::record::DecodeError;

pub use fault::{Fault, FaultReason};
pub use follow::run;
pub use snapshots::Snapshots;

use recent::RecentPositions;

/// What was published at a revision: the index for queries, the state for everything else.
#[derive(Debug, Clone, Default)]
pub struct Published {
    /// What queries read.
    pub index: Snapshot,
    /// What it was made from.
    pub state: State,
    /// The hash of the last entry in it.
    hash: Hash,
}

impl Published {
    /// The place in the journal's history that this is made from.
    #[must_use]
    pub const fn position(&self) -> Position {
        Position { revision: self.index.revision(), hash: self.hash }
    }

    /// 48 bits, which a metric holds exactly, of the digest of the state and of how it came to be: replicas at one revision
    /// have the same. **Sealed**: with the state alone, whoever reads metrics could try out what is in it; the history's
    /// hash has in it what nobody can guess.
    #[must_use]
    pub fn fingerprint(&self) -> u64 {
        let mut digest = Digester::new("withheld fingerprint 1");
        digest.text(self.state.digest().to_bytes());
        digest.text(self.hash.as_bytes());
        digest.finish().as_bytes().iter().take(6).fold(0, |bits, byte| bits << 8 | u64::from(*byte))
    }

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
#[derive(Clone)]
pub struct Replica(Arc<Shared>);

impl std::fmt::Debug for Replica {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Replica")
    }
}

/// How a position that somebody stands at stands with the journal.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PositionCheck {
    /// It is in the history that is followed here.
    Held,
    /// It is in the journal, and not here yet.
    NotReached,
    /// It is of another journal, or the journal does not have it (any more).
    Foreign,
}

const NEVER: i64 = i64::MIN;
/// Twice as far as a desk's clock may be from that of the journal's server, for this machine's may be as far off.
const MAX_AHEAD: Duration = Duration::from_mins(2);

struct Shared {
    published: ArcSwap<Published>,
    revision: watch::Sender<Revision>,
    /// Bumped with every publication, also those by time alone.
    publications: watch::Sender<u64>,
    /// Micros of `clock.monotonic()` when last level, negative if before this process began; [`NEVER`] level yet.
    level_at: AtomicI64,
    ready: watch::Sender<bool>,
    /// Whether this process has been level with the journal itself; what a snapshot says is STALE, however young.
    was_level: AtomicBool,
    /// Why the journal cannot be followed any further, until people or another replica have mended it.
    fault: ArcSwapOption<Fault>,
    /// Why the journal is out of reach now.
    trouble: ArcSwapOption<String>,
    /// The journal that is followed.
    name: ArcSwapOption<JournalName>,
    /// The same, to ask it where a revision was.
    journal: OnceLock<Arc<dyn JournalReader>>,
    /// The places passed last.
    recent: Mutex<RecentPositions>,
    clock: Clock,
    stale_after: Duration,
    /// **Bounded-clock**: an entry that is further ahead of this machine's clock is not adopted.
    max_ahead: Duration,
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
    /// An entry is from the future, by this machine's clock.
    #[error(
        "entry `{revision}` is from {at}, {ahead} ahead of this machine's clock: one of the two clocks is wrong, and until that \
         is mended the entry is not adopted"
    )]
    FromTheFuture {
        /// Which.
        revision: Revision,
        /// When it says that it was written.
        at: Timestamp,
        /// By how much that is ahead.
        ahead: String,
    },
    /// What this service knows of its journal cannot be read.
    #[error(transparent)]
    Lineage(#[from] lineage::LineageError),
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
            level_at: AtomicI64::new(NEVER),
            ready: watch::Sender::new(false),
            was_level: AtomicBool::new(false),
            fault: ArcSwapOption::empty(),
            trouble: ArcSwapOption::empty(),
            name: ArcSwapOption::empty(),
            journal: OnceLock::new(),
            recent: Mutex::default(),
            clock,
            stale_after,
            max_ahead: MAX_AHEAD,
        }))
    }

    /// With another bound for how far ahead of this machine's clock an entry may be.
    #[must_use]
    pub fn with_max_ahead(self, max_ahead: Duration) -> Self {
        match Arc::try_unwrap(self.0) {
            Ok(shared) => Self(Arc::new(Shared { max_ahead, ..shared })),
            Err(shared) => Self(shared),
        }
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
        let since = if level_at == NEVER { now } else { now.saturating_sub(level_at) };
        let age = Duration::from_micros(u64::try_from(since).unwrap_or_default());
        Freshness { age, live: self.0.was_level.load(Ordering::Relaxed) && age <= self.0.stale_after }
    }

    /// Why the journal cannot be followed any further; nothing may be written then.
    #[must_use]
    pub fn fault(&self) -> Option<Arc<Fault>> {
        self.0.fault.load_full()
    }

    /// Why the journal is out of reach now, if it is.
    #[must_use]
    pub fn trouble(&self) -> Option<Arc<String>> {
        self.0.trouble.load_full()
    }

    /// The journal that is followed, once it has been found.
    #[must_use]
    pub fn journal_name(&self) -> Option<JournalName> {
        self.0.name.load().as_deref().copied()
    }

    /// Whether there is something to answer from: the journal has been folded to its end once, or, if that was allowed, a
    /// verified snapshot was restored. **Ready-means-loaded**.
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

    /// How far off a desk's date may be, so that every replica adopts what it writes.
    pub(crate) fn max_skew(&self) -> Duration {
        self.0.max_ahead / 2
    }

    /// Whether something else is known to be at a place than in the history that is followed here.
    pub(crate) fn contradicts(&self, position: Position) -> bool {
        let published = self.load().position();
        if position.revision == published.revision {
            return position != published;
        }
        self.recent().at(position.revision).is_some_and(|passed| passed != position)
    }

    /// Replaces what is published by the same in another form: nobody is told.
    fn replace(&self, published: Published, retired: &mut Vec<Arc<Published>>) {
        // Readers must never be the ones to free a big table: old ones are kept until nobody reads them.
        retired.push(self.0.published.swap(Arc::new(published)));
        let free: Vec<_> = retired.extract_if(.., |old| Arc::strong_count(old) == 1).collect();
        compute::begin(move || drop(free));
    }

    fn publish(&self, published: Published, retired: &mut Vec<Arc<Published>>) {
        let revision = published.index.revision();
        self.replace(published, retired);
        self.0.revision.send_replace(revision);
        self.0.publications.send_modify(|count| *count += 1);
    }

    /// What is published was level with the journal at a time of the monotonic clock, and is the journal's.
    fn level_at(&self, at: Duration) {
        self.0.level_at.store(micros(at), Ordering::Relaxed);
        self.0.ready.send_if_modified(|ready| !std::mem::replace(ready, true));
        self.0.was_level.store(true, Ordering::Relaxed);
        if let Some(fault) = self.0.fault.swap(None) {
            info!(%fault, "the journal can be followed again");
        }
    }

    /// What is published is not known to be the journal's any more.
    fn doubted(&self) {
        self.0.was_level.store(false, Ordering::Relaxed);
    }

    /// What is published was level with the journal so long ago.
    fn level_since(&self, age: Duration) {
        self.0.level_at.store(micros(self.0.clock.monotonic()).saturating_sub(micros(age)), Ordering::Relaxed);
        self.0.ready.send_if_modified(|ready| !std::mem::replace(ready, true));
    }

    /// **Serve-stale-say-so**: going on would be to guess, so what is published stays, and nothing is written.
    fn set_fault(&self, reason: FaultReason, why: String) {
        let before = self.fault();
        if before.as_ref().is_none_or(|told| told.why != why) {
            error!(
                reason = reason.as_str(),
                fault = why,
                "the journal cannot be followed: answering from what is known, writing nothing"
            );
        }
        // Since when counts from the first fault: each might say something else, and none of them was mended.
        let since = before.map_or_else(|| self.0.clock.monotonic(), |before| before.since);
        self.0.fault.store(Some(Arc::new(Fault { reason, why, since })));
    }

    fn recent(&self) -> MutexGuard<'_, RecentPositions> {
        self.0.recent.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What is published now, as a position that somebody may come back with.
    #[must_use]
    pub fn token(&self, position: Position) -> Option<PositionToken> {
        Some(PositionToken::new(self.journal_name()?, position))
    }

    /// Whether a position that somebody comes back with is one of the history followed here. **One-history**: what was told up
    /// to a position of another one may not be so.
    ///
    /// # Errors
    /// If it is so old that the journal has to be asked, and that cannot be read now.
    pub async fn check_position(&self, token: &PositionToken) -> Result<PositionCheck, ReadError> {
        let Some(name) = self.journal_name().filter(|name| *name == token.name()) else {
            return Ok(PositionCheck::Foreign);
        };
        let held = |is: bool| if is { PositionCheck::Held } else { PositionCheck::Foreign };
        let published = self.load().position();
        if token.revision() == published.revision {
            return Ok(held(token.is(name, published)));
        }
        let passed = self.recent().at(token.revision());
        if let Some(position) = passed.filter(|_| token.revision() < published.revision) {
            return Ok(held(token.is(name, position)));
        }
        let Some(journal) = self.0.journal.get() else { return Ok(PositionCheck::Foreign) };
        let there = journal.position(token.revision()).await?.filter(|there| token.is(name, *there));
        Ok(match there {
            Some(there) if there.revision > published.revision => PositionCheck::NotReached,
            there => held(there.is_some()),
        })
    }

    /// By how much this machine's clock is behind what is published, if that is more than an entry may be ahead of it.
    /// **Bounded-clock**: an entry is never earlier than what came before it, so one that was written now would be from the
    /// future here.
    #[must_use]
    pub fn clock_behind(&self) -> Option<SignedDuration> {
        let (now, published) = (self.0.clock.now(), self.load());
        let last = published.now(&self.0.clock).max(published.state.at());
        let latest = now.checked_add(self.0.max_ahead).unwrap_or(now);
        (last > latest).then(|| last.duration_since(now))
    }

    /// For how long the journal has not been followed because of a fault.
    #[must_use]
    pub fn faulted_for(&self) -> Option<Duration> {
        Some(self.0.clock.monotonic().saturating_sub(self.fault()?.since))
    }
}

fn micros(time: Duration) -> i64 {
    i64::try_from(time.as_micros()).unwrap_or(i64::MAX)
}
