//! The journal as one desk reaches it: over a link that delays, loses and reorders, in a session that may be with a server
//! that was replaced meanwhile. It keeps the contract of `withheld::journal`, unless it is made to lie.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use withheld::clock::Clock;
use withheld::domain::ids::Revision;
use withheld::journal::memory::MemoryJournal;
use withheld::journal::{AppendError, Batch, Journal, JournalReader, Position, ReadError, StoredEntry, Tail};

use crate::chain::{Link, Path, end, has};
use crate::lies::Lie;
use crate::world::Shared;

/// For so long it counts that a session's server was found to be the primary.
const CERTAIN_FOR: Duration = Duration::from_secs(2);

/// How far a writer's date may be off.
pub const MAX_SKEW: Duration = Duration::from_secs(60);

/// What a server that was replaced had, and until when a session stays with it.
#[derive(Clone)]
struct OldServer {
    entries: Path,
    committed: usize,
    in_doubt: bool,
    replaced_at: Duration,
    until: Duration,
}

#[derive(Default)]
struct Session {
    old: Option<OldServer>,
    down_until: Duration,
    /// What this session knows to be committed: the replay buffer.
    replay: Path,
}

/// See the module.
pub struct Port {
    pub desk: usize,
    shared: Shared,
    clock: Clock,
    session: Mutex<Session>,
}

/// What a session sees of a server at a time.
struct View {
    entries: Path,
    committed: usize,
    in_doubt: bool,
    at: Duration,
}

fn unavailable(why: &str) -> ReadError {
    ReadError::Unavailable(why.into())
}

impl Port {
    /// That of a desk whose machine has this clock.
    pub fn new(desk: usize, shared: Shared, clock: Clock) -> Arc<Self> {
        Arc::new(Self { desk, shared, clock, session: Mutex::default() })
    }

    /// The link is down for so long.
    pub fn cut_off(&self, time: Duration) {
        self.session.lock().unwrap().down_until = self.shared.now() + time;
    }

    /// The session stays with the present server for so long, whatever becomes of that.
    pub fn stay(&self, time: Duration) {
        let replaced_at = self.shared.now();
        let until = replaced_at + time;
        let old = {
            let server = &self.shared.lock().server;
            let (entries, committed, in_doubt) = (Arc::clone(&server.entries), server.committed, server.in_doubt);
            OldServer { entries, committed, in_doubt, replaced_at, until }
        };
        self.session.lock().unwrap().old.get_or_insert(old);
    }

    /// The link is up, and the session with the server of now.
    pub fn heal(&self) {
        let mut session = self.session.lock().unwrap();
        (session.old, session.down_until) = (None, Duration::ZERO);
    }

    /// The process has ended, and with it what it knew.
    pub fn forget(&self) {
        self.session.lock().unwrap().replay = Path::default();
    }

    /// On the way there or back: false if it is lost there.
    async fn travel(&self) -> bool {
        let late = {
            let mut world = self.shared.lock();
            let (delay, much) = (world.faults.delay, world.rng.f64() < 0.1);
            let late = world.happens(delay);
            let most = if much { 4_000 } else { 300 };
            late.then(|| Duration::from_millis(world.rng.u64(1..most)))
        };
        match late {
            Some(late) => tokio::time::sleep(late).await,
            // Even without a delay others may come first.
            None => tokio::task::yield_now().await,
        }
        let down = self.is_down();
        let mut world = self.shared.lock();
        let loss = world.faults.loss;
        !down && !world.happens(loss)
    }

    fn view(&self) -> Result<View, ReadError> {
        let now = self.shared.now();
        let mut session = self.session.lock().unwrap();
        session.old.take_if(|old| old.until <= now);
        if let Some(old) = &session.old {
            let (entries, committed) = (Arc::clone(&old.entries), old.committed);
            return Ok(View { entries, committed, in_doubt: old.in_doubt, at: old.replaced_at });
        }
        let world = self.shared.lock();
        if world.server.down_until > now {
            return Err(unavailable("the server is down"));
        }
        let shows_all = world.lie == Some(Lie::ShowsUncommitted);
        let committed = if shows_all { world.server.entries.len() } else { world.server.committed };
        Ok(View { entries: Arc::clone(&world.server.entries), committed, in_doubt: world.server.in_doubt, at: now })
    }

    fn is_down(&self) -> bool {
        self.session.lock().unwrap().down_until > self.shared.now()
    }

    fn is_old(&self) -> bool {
        self.session.lock().unwrap().old.is_some()
    }

    /// Puts back what the server has lost and this session knows.
    fn repair(&self, after: Position) -> bool {
        if self.is_old() {
            return false;
        }
        let replay = Arc::clone(&self.session.lock().unwrap().replay);
        let mut world = self.shared.lock();
        let (repairs, at) = (world.faults.repairs, world.end());
        if !repairs || !has(&replay, after) {
            return false;
        }
        if !has(&replay, at) {
            world.server.sealed = true;
            return false;
        }
        let from = world.server.entries.len();
        let missing: Vec<Vec<u8>> = replay.iter().skip(from).map(|link| link.payload.clone()).collect();
        world.append(&missing);
        world.commit(usize::MAX);
        true
    }

    fn keep(&self, entries: &Path, upto: usize) {
        let mut session = self.session.lock().unwrap();
        if upto > session.replay.len() && has(entries, end(&session.replay)) {
            session.replay = entries.iter().take(upto).cloned().collect();
        }
    }

    fn may_append(&self) -> Result<(), AppendError> {
        let now = self.shared.now();
        let mut world = self.shared.lock();
        let refusal = world.faults.refusal;
        if world.server.down_until > now {
            return Err(AppendError::Unavailable("the server is down".into()));
        }
        if world.server.sealed {
            return Err(AppendError::Sealed("the journal is sealed".to_owned()));
        }
        if world.server.in_doubt {
            return Err(AppendError::InDoubt("the journal may lack entries".to_owned()));
        }
        if world.happens(refusal) {
            let few = world.rng.bool();
            let why = "1 replica must have it, and there is none".to_owned();
            return Err(if few { AppendError::TooFewReplicas(why) } else { AppendError::NotDurable(why) });
        }
        Ok(())
    }

    /// Appends on the server, and commits that at once, later, or leaves that to others.
    async fn append_there(&self, expected: Position, payloads: &[Vec<u8>]) -> Result<Position, AppendError> {
        self.may_append()?;
        let (at, late) = {
            let mut world = self.shared.lock();
            let (actual, lie) = (world.end(), world.lie);
            match lie {
                Some(Lie::AppendsAnywhere) => {}
                Some(Lie::AcksWhatIsLost) if world.rng.f64() < 0.05 => {
                    return Ok(payloads.iter().fold(expected, |at, payload| at.after(payload)));
                }
                Some(_) | None if actual != expected => return Err(AppendError::Conflict { actual }),
                Some(_) | None => {}
            }
            let at = world.append(payloads);
            let late_commit = world.faults.late_commit;
            let late = world.happens(late_commit).then(|| Duration::from_millis(world.rng.u64(1..2_000)));
            (at, late)
        };
        if let Some(late) = late {
            tokio::time::sleep(late).await;
        }
        let mut world = self.shared.lock();
        if !has(&world.server.entries, at) || world.server.in_doubt {
            return Err(AppendError::Indeterminate("the server was replaced meanwhile".into()));
        }
        world.commit(usize::try_from(at.revision.get()).unwrap());
        let entries = Arc::clone(&world.server.entries);
        drop(world);
        self.shared.committed();
        self.keep(&entries, usize::try_from(at.revision.get()).unwrap());
        Ok(at)
    }
}

/// Entries as a journal gives them.
async fn stored(entries: &[Arc<Link>], after: Position, limit: usize) -> Vec<StoredEntry> {
    if entries.len() as u64 <= after.revision.get() {
        return Vec::new();
    }
    let rows = entries.iter().map(|link| (link.position.hash, link.payload.clone())).collect();
    let batch = MemoryJournal::from_rows(rows).read(after, limit).await;
    batch.expect("the history is whole").entries
}

#[async_trait]
impl JournalReader for Port {
    async fn read(&self, after: Position, limit: usize) -> Result<Batch, ReadError> {
        if !self.travel().await {
            return Err(unavailable("the line went dead"));
        }
        let mut view = self.view()?;
        if !has(&view.entries, after) && self.repair(after) {
            view = self.view()?;
        }
        if !has(&view.entries, after) {
            return Err(ReadError::Diverged { revision: after.revision, end: end(&view.entries).revision });
        }
        let part = {
            let mut world = self.shared.lock();
            let part = !world.healed && world.rng.f64() < 0.1;
            if part { world.rng.usize(1..=2) } else { limit }
        };
        let entries = stored(&view.entries[..view.committed], after, limit.min(part)).await;
        if !self.travel().await {
            return Err(unavailable("the line went dead"));
        }
        let upto = entries.last().map_or(after, |last| last.position()).revision.get() as usize;
        self.keep(&view.entries, upto.min(view.committed));
        let level = upto >= view.committed;
        let lies = self.shared.lock().lie == Some(Lie::LevelEarly);
        let age = if lies { Duration::ZERO } else { self.shared.now() - view.at };
        match level {
            true if view.in_doubt && entries.is_empty() => {
                Err(ReadError::InDoubt("the journal may lack entries".to_owned()))
            }
            true if age > CERTAIN_FOR && entries.is_empty() => Err(unavailable("no majority names this server")),
            true if view.in_doubt || age > CERTAIN_FOR => Ok(Batch { entries, level: None }),
            true => Ok(Batch { entries, level: Some(age) }),
            false => Ok(Batch { entries, level: None }),
        }
    }

    async fn tail(&self) -> Result<Tail, ReadError> {
        if !self.travel().await {
            return Err(unavailable("the line went dead"));
        }
        let view = self.view()?;
        Ok(Tail { end: end(&view.entries), committed: end(&view.entries[..view.committed]) })
    }

    async fn position(&self, revision: Revision) -> Result<Option<Position>, ReadError> {
        if !self.travel().await {
            return Err(unavailable("the line went dead"));
        }
        let view = self.view()?;
        let Some(last) = usize::try_from(revision.get()).unwrap().checked_sub(1) else {
            return Ok(Some(Position::START));
        };
        Ok(view.entries[..view.committed].get(last).map(|link| link.position))
    }

    async fn wait_for_append(&self, seen: Revision) {
        loop {
            let committed = self.shared.commits.notified();
            let there = self.shared.lock().server.committed as u64;
            if there > seen.get() && !self.is_old() {
                return;
            }
            committed.await;
        }
    }
}

#[async_trait]
impl Journal for Port {
    async fn append(&self, expected: Position, payloads: Vec<Vec<u8>>) -> Result<Position, AppendError> {
        if self.is_down() {
            return Err(AppendError::Unavailable("no connection".into()));
        }
        let skew = self.clock.now().duration_since(self.shared.clock.now()).unsigned_abs();
        if skew > MAX_SKEW {
            return Err(AppendError::ClockOff(format!("the date is off by {skew:?}")));
        }
        if !self.travel().await {
            return Err(AppendError::Indeterminate("the line went dead".into()));
        }
        if self.is_old() && self.view().is_ok() && self.is_old() {
            // The server that was replaced may have it, and nobody will ever commit it there.
            return Err(AppendError::Indeterminate("no majority names this server".into()));
        }
        let outcome = self.append_there(expected, &payloads).await;
        let shown = outcome.as_ref().map_or_else(ToString::to_string, |at| format!("at {}", at.revision));
        self.shared.note(|| format!("desk {} appends after {}: {shown}", self.desk, expected.revision));
        if !self.travel().await {
            return Err(match self.shared.lock().lie {
                Some(Lie::UnavailableIsNothingWritten) => AppendError::Unavailable("the line went dead".into()),
                Some(_) | None => AppendError::Indeterminate("the line went dead".into()),
            });
        }
        if let Ok(at) = &outcome {
            let now = self.shared.now();
            self.shared.lock().acknowledge(*at, now);
        }
        outcome
    }
    async fn confirm_end(&self, at: Position) -> Result<(), AppendError> {
        let began = self.shared.now();
        let batch = self.read(at, 1).await.map_err(|error| AppendError::Unavailable(error.into()))?;
        if let Some(last) = batch.entries.last() {
            return Err(AppendError::Conflict { actual: last.position() });
        }
        if batch.level.is_none_or(|age| age > self.shared.now() - began) {
            return Err(AppendError::Unavailable("no majority names this server any more".into()));
        }
        Ok(())
    }
}
