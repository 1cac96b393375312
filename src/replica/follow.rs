//! The one task that owns the state: reads the journal, folds, publishes.
//!
//! Whatever is wrong with the journal, time goes on: orders start and end when they are to, on what is known.

use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use tokio_util::task::AbortOnDropHandle;
use tracing::{error, info, warn};

use super::fault::FaultReason;
use super::lineage::{Foreign, Known, Lineage, verify_lineage};
use super::snapshots::{Chosen, fold_up_to};
use super::{Published, Replica, ReplicaError, Snapshots};
use crate::clock::jittered;
use crate::compute;
use crate::domain::ids::Revision;
use crate::domain::state::{State, Touched};
use crate::index::{Index, Snapshot};
use crate::journal::{
    Batch, Damage, FollowError, Follower, Hash, Journal, JournalName, JournalReader, Position, ReadError, StoredEntry,
};
use crate::machine;
use crate::metrics;
use crate::record::decode;
use crate::record::snapshot::SnapshotFile;
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
/// How often it is written down how far the journal has been followed.
const KEEP_EVERY: Duration = Duration::from_secs(10);
/// The same trouble is logged again after this long.
const REPEAT: Duration = Duration::from_secs(60);
/// With `--serve-from-snapshot`: a journal is out of reach for so long before what a snapshot says is served instead. README and
/// deploy/withheld.toml have it, too.
const SERVE_SNAPSHOT_AFTER: Duration = Duration::from_secs(5);

/// The state and index, owned by the one task that folds.
struct Fold {
    state: State,
    index: Index,
    hash: Hash,
}

impl Fold {
    fn of(state: State, hash: Hash) -> Self {
        Self { state: state.loading(machine::cores()), index: Index::default(), hash }
    }

    /// Folds entries up to the first that cannot be, and gives what they touched.
    fn take(&mut self, entries: &[StoredEntry], latest: Timestamp) -> (Vec<Touched>, Result<(), ReplicaError>) {
        let mut touched = Vec::with_capacity(entries.len());
        for stored in entries {
            match self.take_one(stored, latest) {
                Ok(one) => touched.push(one),
                Err(error) => return (touched, Err(error)),
            }
        }
        (touched, Ok(()))
    }

    fn take_one(&mut self, stored: &StoredEntry, latest: Timestamp) -> Result<Touched, ReplicaError> {
        let revision = stored.position().revision;
        let entry = decode(stored.payload()).map_err(|source| ReplicaError::Entry { revision, source })?;
        // Bounded-clock: adopted, it would start and end orders before their time, here and for good.
        if entry.at > latest {
            let ahead = format!("{:#}", jiff::SignedDuration::from_secs(entry.at.duration_since(latest).as_secs()));
            return Err(ReplicaError::FromTheFuture { revision, at: entry.at, ahead: format!("more than {ahead}") });
        }
        let touched = self.state.apply(revision, &entry)?;
        self.hash = stored.position().hash;
        Ok(touched)
    }

    fn position(&self) -> Position {
        Position { revision: self.state.revision(), hash: self.hash }
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
    snapshots: Snapshots,
    lineage: Lineage,
    stop: CancellationToken,
) -> Result<(), ReplicaError> {
    let journal: Arc<dyn JournalReader> = journal;
    let _ = replica.0.journal.set(Arc::clone(&journal));
    let mut following = Following::new(replica, snapshots, lineage);
    let chosen = tokio::select! {
        biased;
        () = stop.cancelled() => return Ok(()),
        start = following.begin(&*journal) => start?,
    };
    let mut follower = Follower::new(Arc::clone(&journal), chosen.position);
    let mut fold = Fold::of(chosen.state, chosen.position.hash);
    let mut verification = chosen.shared.map(|file| Verification::begin(&journal, &fold, file));
    let mut told = chosen.position.revision.get();
    loop {
        let batch = tokio::select! {
            biased;
            () = stop.cancelled() => return following.close(fold).await,
            () = following.boundary() => None,
            batch = following.next(&mut follower) => Some(batch),
            changes = following.untidy(), if follower.is_level() => {
                fold = following.tidy(fold, changes).await?;
                continue;
            }
            verified = Verification::end(&mut verification) => {
                if let Some(right) = following.verified(verified).await {
                    fold = right;
                    follower.rewind(fold.position());
                }
                continue;
            }
        };
        let read_at = following.replica.0.clock.monotonic();
        let Batch { entries, level } = match batch {
            None => Batch { entries: Vec::new(), level: None },
            Some(Ok(batch)) => {
                following.in_reach();
                batch
            }
            Some(Err(error)) if error.is_retryable() => {
                following.out_of_reach(&error);
                continue;
            }
            Some(Err(error)) => {
                following.fault(error.into())?;
                continue;
            }
        };
        let (now, loading) = (following.replica.0.clock.now(), !following.level_before);
        if !entries.is_empty() || level.is_none() {
            let latest = following.latest();
            let folded = compute::begin(move || {
                // Where entries come one after another for ever, there is never nothing else to do.
                if fold.state.untidy() == Some(Changes::Many) {
                    fold.state.tidy(Changes::Many);
                }
                let (touched, outcome) = fold.take(&entries, latest);
                // Before the first time level, nobody is served: the index is made once, at the end.
                let index = if loading { None } else { Some(fold.index.advance(&fold.state, &touched, now)) };
                (fold, index, outcome, entries)
            });
            let (back, index, outcome, entries) = folded.await.map_err(|_| ReplicaError::BrokenOff)?;
            fold = back;
            let taken = entries.partition_point(|entry| entry.position().revision <= fold.state.revision());
            following.replica.recent().extend(entries.get(..taken).unwrap_or_default());
            if loading && fold.state.revision().get() >= told + TELL_EVERY {
                told = fold.state.revision().get();
                info!(revision = told, "loading the journal");
            }
            if let Some(index) = index {
                following.publish(&fold, index);
            }
            if let Err(error) = outcome {
                follower.rewind(fold.position());
                following.fault(error)?;
                continue;
            }
        }
        if let Some(age) = level {
            if loading {
                if !following.is_still_known(&*journal).await? {
                    continue;
                }
                fold = following.loaded(fold).await?;
            }
            following.level(&fold, read_at.saturating_sub(age), &*journal).await;
        }
    }
}

/// Publishes what a local snapshot says as time goes on, until the journal has been folded.
async fn keep_time(replica: Replica, mut state: State, hash: Hash, mut index: Index, mut due: Option<Timestamp>) {
    let mut retired = Vec::new();
    while let Some(at) = due {
        replica.0.clock.sleep_until(at).await;
        let now = replica.0.clock.now();
        let advancing = compute::begin(move || {
            let snapshot = index.advance(&state, &[], now);
            (state, index, snapshot)
        });
        let Ok((same, advanced, snapshot)) = advancing.await else {
            return error!("the index broke off: what a snapshot says is served as of before");
        };
        (state, index, due) = (same, advanced, snapshot.valid_until());
        replica.publish(Published { index: snapshot, state: state.clone(), hash }, &mut retired);
    }
}

/// A shared snapshot being held against the journal.
struct Verification {
    folding: JoinHandle<Result<State, ReplicaError>>,
    said: State,
    at: Position,
    file: SnapshotFile,
}

/// What came of it: whether the snapshot said what the journal says, and what that is.
struct Verified {
    file: SnapshotFile,
    at: Position,
    outcome: Result<(bool, State), String>,
}

impl Verification {
    fn begin(journal: &Arc<dyn JournalReader>, fold: &Fold, file: SnapshotFile) -> Self {
        let at = fold.position();
        let folding = tokio::spawn(fold_up_to(Arc::clone(journal), at));
        Self { folding, said: fold.state.clone(), at, file }
    }

    /// Returns once it has ended; never if there is none.
    async fn end(verification: &mut Option<Self>) -> Verified {
        let Some(going_on) = verification else { return std::future::pending().await };
        let folded = (&mut going_on.folding).await;
        let Some(Self { said, at, file, .. }) = verification.take() else { return std::future::pending().await };
        let outcome = match folded {
            Ok(Ok(state)) => Ok((state.digest() == said.digest(), state)),
            Ok(Err(error)) => Err(causes(&error)),
            Err(error) => Err(error.to_string()),
        };
        Verified { file, at, outcome }
    }
}

/// What is published, and how it stands with the journal.
struct Following {
    replica: Replica,
    snapshots: Snapshots,
    lineage: Lineage,
    /// What was known of the journal at the start.
    known: Vec<Known>,
    retired: Vec<Arc<Published>>,
    /// What a local snapshot says, to be served while the journal is out of reach at the start.
    fallback: Option<(State, Position)>,
    /// Since when the journal has been out of reach, by the monotonic clock.
    out_since: Option<Duration>,
    /// Has time go on for what is served before the journal has been folded.
    time: Option<AbortOnDropHandle<()>>,
    /// When an order starts or ends by itself next. Boundaries count once the journal is folded.
    due: Option<Timestamp>,
    /// What of the index is to be put in order, from when on by the monotonic clock.
    untidy: Option<(Changes, Duration)>,
    level_before: bool,
    backoff: Duration,
    /// The journal is not read before this, by the monotonic clock.
    not_before: Duration,
    /// The trouble told last, and when.
    told: Option<(String, Duration)>,
    /// When it was written down last how far the journal has been followed, and how far.
    kept: (Duration, Position),
    /// At most one at a time writes that down.
    keeping: Option<JoinHandle<()>>,
}

impl Following {
    fn new(replica: Replica, snapshots: Snapshots, lineage: Lineage) -> Self {
        Self {
            replica,
            snapshots,
            lineage,
            known: Vec::new(),
            retired: Vec::new(),
            fallback: None,
            out_since: None,
            time: None,
            due: None,
            untidy: None,
            level_before: false,
            backoff: BACKOFF.0,
            not_before: Duration::ZERO,
            told: None,
            kept: (Duration::ZERO, Position::START),
            keeping: None,
        }
    }

    /// Where to fold from; waits as long as it takes for the journal, and for a person if it is not the one known here.
    async fn begin(&mut self, journal: &dyn JournalReader) -> Result<Chosen, ReplicaError> {
        let mut local = if self.snapshots.may_serve() { self.snapshots.local().await } else { None };
        self.fallback = local.clone();
        loop {
            self.wait().await;
            let known = self.lineage.known()?;
            match self.find_journal(&known, journal).await {
                Ok(true) => {}
                Ok(false) => continue,
                Err(error) => {
                    self.out_of_reach(&error);
                    continue;
                }
            }
            let from = match local.take() {
                // What was served from may have been set aside meanwhile.
                Some(taken) if known.iter().any(|one| one.position == taken.1) => Some(taken),
                Some(_) | None => self.snapshots.local().await,
            };
            match self.snapshots.choose(from, journal, self.latest()).await {
                Ok(start) => {
                    self.known = known;
                    return Ok(start);
                }
                Err(error) if error.is_retryable() => self.out_of_reach(&error),
                Err(error) => return Err(error.into()),
            }
        }
    }

    /// Whether this is the journal to follow. **One-history**: if it is not the one known here, that is told, until a person
    /// says that it is to be, or it is put back.
    async fn find_journal(&mut self, known: &[Known], journal: &dyn JournalReader) -> Result<bool, FollowError> {
        if let Some(foreign) = verify_lineage(known, journal).await? {
            self.stand_still(FaultReason::UnknownHistory, foreign.to_string());
            return Ok(false);
        }
        match journal.name().await? {
            Some(name) => {
                info!(journal = %name, "journal found");
                self.replica.0.name.store(Some(Arc::new(name)));
            }
            None if journal.tail().await?.committed != Position::START => {
                let damage = Damage::CommittedBeyondEnd { end: journal.tail().await?.end.revision };
                self.stand_still(FaultReason::Damaged, format!("the journal lacks its first entry: {damage}"));
                return Ok(false);
            }
            None if self.lineage.must_exist() => {
                let why = "there is no journal there: check the URL and --redis-namespace, or make one with `withheld journal create`";
                self.stand_still(FaultReason::UnknownHistory, why.to_owned());
                return Ok(false);
            }
            None => {}
        }
        self.in_reach();
        Ok(true)
    }

    /// Whether the journal that was loaded is the one known here. **One-history**: it may have been replaced after that was asked
    /// first, and before it was read.
    async fn is_still_known(&mut self, journal: &dyn JournalReader) -> Result<bool, ReplicaError> {
        match verify_lineage(&self.known, journal).await {
            Ok(None) => Ok(true),
            Ok(Some(Foreign { known, found })) => {
                let end = found.map_or(Revision::START, |(_, at)| at.revision);
                Err(ReadError::Diverged { revision: known.position.revision, end }.into())
            }
            Err(error) if error.is_retryable() => {
                self.out_of_reach(&error);
                Ok(false)
            }
            Err(error) => Err(error.into()),
        }
    }

    /// The latest time that an entry may have been written at, to be adopted now.
    fn latest(&self) -> Timestamp {
        let now = self.replica.0.clock.now();
        now.checked_add(self.replica.0.max_ahead).unwrap_or(now)
    }

    fn stand_still(&mut self, reason: FaultReason, why: String) {
        self.replica.set_fault(reason, why);
        self.not_before = self.replica.0.clock.monotonic() + jittered(FAULT_PAUSE);
    }

    /// What trying again does not mend. Before the journal has been folded once that ends the service, but for what a clock
    /// that is set right will mend.
    fn fault(&mut self, error: ReplicaError) -> Result<(), ReplicaError> {
        let reason = FaultReason::of(&error);
        if !self.level_before && reason != FaultReason::FromTheFuture {
            return Err(error);
        }
        self.stand_still(reason, causes(&error));
        Ok(())
    }

    async fn wait(&self) {
        tokio::time::sleep(self.not_before.saturating_sub(self.replica.0.clock.monotonic())).await;
    }

    /// The next entries, once the pause after the last trouble is over.
    async fn next(&self, follower: &mut Follower) -> Result<Batch, FollowError> {
        self.wait().await;
        follower.next().await
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

    /// Logged once a minute for each trouble that lasts; tried again for ever.
    fn out_of_reach(&mut self, error: &FollowError) {
        let cause = error.public_cause();
        let (error, now) = (causes(error), self.replica.0.clock.monotonic());
        let told = self.told.as_ref().is_some_and(|(told, at)| *told == error && now.saturating_sub(*at) < REPEAT);
        if self.backoff >= BACKOFF.1 && !told {
            warn!(error, "journal out of reach, trying again");
            self.told = Some((error.clone(), now));
        }
        // What a server said is for the log. What kind of cause it is may be told to anybody who asks.
        self.replica.0.trouble.store(cause.map(Arc::new));
        metrics::follower_restarted();
        self.not_before = now + jittered(self.backoff);
        self.backoff = (self.backoff * 2).min(BACKOFF.1);
        let since = *self.out_since.get_or_insert(now);
        if now.saturating_sub(since) >= SERVE_SNAPSHOT_AFTER {
            self.serve_fallback();
        }
    }

    /// Serves what the local snapshot says, if that was allowed, until the journal has been folded.
    fn serve_fallback(&mut self) {
        let Some((state, position)) = self.fallback.take().filter(|_| !self.level_before) else { return };
        warn!(revision = %position.revision, after = ?SERVE_SNAPSHOT_AFTER,
            "the journal is out of reach: serving from the snapshot until it is not");
        let now = self.replica.0.clock.now();
        let mut index = Index::default();
        let snapshot = index.rebuild(&state, now);
        let due = snapshot.valid_until();
        self.replica
            .publish(Published { index: snapshot, state: state.clone(), hash: position.hash }, &mut self.retired);
        // When it was level last is not known: surely when it took its last entry.
        self.replica.level_since(now.duration_since(state.at()).unsigned_abs());
        let going_on = keep_time(self.replica.clone(), state, position.hash, index, due);
        self.time = Some(AbortOnDropHandle::new(tokio::spawn(going_on)));
    }

    fn in_reach(&mut self) {
        if self.told.take().is_some() {
            info!("journal in reach again");
        }
        if self.replica.0.trouble.load().is_some() {
            self.replica.0.trouble.store(None);
        }
        (self.backoff, self.out_since) = (BACKOFF.0, None);
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
        (self.level_before, self.fallback) = (true, None);
        // Nothing older is published after what the journal says.
        if let Some(time) = self.time.take() {
            time.abort();
            let _ = time.await;
        }
        self.publish(&fold, index);
        info!(revision = %fold.state.revision(), orders = fold.state.orders().len(), "level with the journal");
        Ok(fold)
    }

    /// All that is committed was folded, as of a time of the monotonic clock.
    async fn level(&mut self, fold: &Fold, at: Duration, journal: &dyn JournalReader) {
        self.replica.level_at(at);
        let (now, position) = (self.replica.0.clock.monotonic(), fold.position());
        if position == Position::START {
            return;
        }
        if self.replica.journal_name().is_none()
            && let Ok(Some(name)) = journal.name().await
        {
            self.replica.0.name.store(Some(Arc::new(name)));
        }
        let Some(name) = self.replica.journal_name() else { return };
        self.snapshots.keep(&fold.state, fold.hash, Some(name), now);
        let first = self.kept.1 == Position::START;
        let busy = self.keeping.as_ref().is_some_and(|keeping| !keeping.is_finished());
        if position != self.kept.1 && !busy && (first || now.saturating_sub(self.kept.0) >= KEEP_EVERY) {
            self.kept = (now, position);
            let lineage = self.lineage.clone();
            // Beside, for whoever waits for the next entries is not to wait for a disk.
            self.keeping = Some(compute::begin(move || keep(&lineage, name, position)));
        }
    }

    /// A shared snapshot was held against the journal: gives what is right, if it was wrong.
    async fn verified(&mut self, Verified { file, at, outcome }: Verified) -> Option<Fold> {
        match outcome {
            Ok((true, _)) => {
                info!(revision = %at.revision, "the shared snapshot says what the journal says");
                self.snapshots.keep_shared(&file).await;
                None
            }
            Ok((false, state)) => {
                let aside = file.set_aside();
                error!(revision = %at.revision, ?aside,
                    "the shared snapshot says something else than the journal: somebody has tampered with it; folding the \
                     journal itself");
                self.replica.doubted();
                self.level_before = false;
                self.due = None;
                Some(Fold::of(state, at.hash))
            }
            Err(error) => {
                warn!(error, "the shared snapshot was not held against the journal, and is not kept");
                None
            }
        }
    }

    async fn close(mut self, mut fold: Fold) -> Result<(), ReplicaError> {
        fold.state.settle();
        if let Some(keeping) = self.keeping.take() {
            keeping.await.map_err(|_| ReplicaError::BrokenOff)?;
        }
        let (name, position) = (self.replica.journal_name(), fold.position());
        if let Some(name) = name.filter(|_| self.level_before && position != self.kept.1) {
            let lineage = self.lineage;
            compute::begin(move || keep(&lineage, name, position)).await.map_err(|_| ReplicaError::BrokenOff)?;
        }
        self.snapshots.close(fold.state, fold.hash, name).await
    }
}

/// Writes down how far a journal has been followed.
fn keep(lineage: &Lineage, name: JournalName, at: Position) {
    if let Err(error) = lineage.keep(name, at) {
        warn!(error = causes(&error), "not written down how far the journal was followed");
    }
}
