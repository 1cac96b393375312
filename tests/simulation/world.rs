//! What is true in a run, whoever knows it: the journal's server, the random numbers, true time, and what was acknowledged.

use std::hash::{DefaultHasher, Hasher as _};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use fastrand::Rng;
use jiff::Timestamp;
use tokio::sync::Notify;
use withheld::clock::Clock;
use withheld::journal::Position;

use crate::chain::{Chain, Path, end, has};
use crate::ledger::Ledger;
use crate::lies::Lie;

/// How likely each kind of fault is in a run: some runs have many of one kind and none of another.
#[derive(Debug, Clone)]
pub struct Faults {
    /// A request or an answer is late.
    pub delay: f64,
    /// A request or an answer is lost.
    pub loss: f64,
    /// The journal refuses an append.
    pub refusal: f64,
    /// An appended entry is not committed at once.
    pub late_commit: f64,
    /// In each step: a link goes down, a session stays with a server that was replaced.
    pub link: f64,
    /// In each step: the journal is out of reach of everybody.
    pub outage: f64,
    /// In each step: another server takes over, which has all that is committed.
    pub failover: f64,
    /// In each step: one takes over that may not.
    pub lost_tail: f64,
    /// In each step: the journal is emptied, replaced by another, or cut short, and nothing says so.
    pub replaced: f64,
    /// In each step: a desk is killed, or stopped.
    pub restart: f64,
    /// In each step: a machine's date is set.
    pub date: f64,
    /// In each step: something is appended that no desk of this program would write.
    pub foreign_entry: f64,
    /// Whether sessions put back what the journal has lost.
    pub repairs: bool,
}

impl Faults {
    fn draw(rng: &mut Rng) -> Self {
        let mut some = |chance: f64, most: f64| if rng.f64() < chance { rng.f64() * most } else { 0.0 };
        Self {
            delay: some(0.7, 0.3),
            loss: some(0.5, 0.15),
            refusal: some(0.3, 0.1),
            late_commit: some(0.5, 0.5),
            link: some(0.5, 0.12),
            outage: some(0.3, 0.06),
            failover: some(0.4, 0.1),
            lost_tail: some(0.3, 0.06),
            replaced: some(0.12, 0.06),
            restart: some(0.6, 0.12),
            date: some(0.4, 0.1),
            foreign_entry: some(0.06, 0.08),
            repairs: rng.bool(),
        }
    }
}

/// What keeps the journal.
pub struct Server {
    pub entries: Path,
    pub committed: usize,
    /// Whether it may lack what was acknowledged.
    pub in_doubt: bool,
    /// Something else was found where entries were to be put back.
    pub sealed: bool,
    pub down_until: Duration,
    /// Other entries stand in the place of those there were, and nobody has been told.
    pub replaced: bool,
}

/// Everything that is true, changed in one step at a time.
pub struct World {
    pub rng: Rng,
    pub faults: Faults,
    pub lie: Option<Lie>,
    pub server: Server,
    pub chain: Chain,
    pub ledger: Ledger,
    pub restarts: usize,
    pub takeovers: usize,
    /// No faults any more.
    pub healed: bool,
    /// What has gone wrong; the first is what the run fails for.
    pub wrong: Vec<String>,
    trace: u64,
    tell: bool,
}

/// The world, shared.
#[derive(Clone)]
pub struct Shared {
    world: Arc<Mutex<World>>,
    /// True time: no date that a desk goes by is closer to it than its machine's.
    pub clock: Clock,
    /// Told of commits. Unlike a `watch` channel, it wakes those who wait in their order.
    pub commits: Arc<Notify>,
    /// Told of each publication of any replica.
    pub publications: Arc<Notify>,
}

/// When a run begins.
pub fn noon() -> Timestamp {
    "2021-02-01T12:00:00Z".parse().unwrap()
}

impl Shared {
    /// Of a seed.
    pub fn new(seed: u64, lie: Option<Lie>, tell: bool) -> Self {
        let mut rng = Rng::with_seed(seed);
        let faults = Faults::draw(&mut rng);
        let (entries, committed, down_until) = (Path::default(), 0, Duration::ZERO);
        let server = Server { entries, committed, in_doubt: false, sealed: false, down_until, replaced: false };
        let world = World {
            rng,
            faults,
            lie,
            server,
            chain: Chain::default(),
            ledger: Ledger::default(),
            restarts: 0,
            takeovers: 0,
            healed: false,
            wrong: Vec::new(),
            trace: 0,
            tell,
        };
        let (clock, _) = Clock::simulated(noon());
        let (world, publications) = (Arc::new(Mutex::new(world)), Arc::default());
        let shared = Self { world, clock, commits: Arc::default(), publications };
        if tell {
            println!("seed {seed}: {:?}", shared.lock().faults);
        }
        shared
    }

    /// For one step, which must not wait for anything.
    pub fn lock(&self) -> MutexGuard<'_, World> {
        self.world.lock().unwrap()
    }

    /// True time since the run began.
    pub fn now(&self) -> Duration {
        self.clock.monotonic()
    }

    /// Remembers what happened: the same seed gives the same trace. What happens at the same time may come in any order, since
    /// tokio's `watch` channel wakes those who wait for a replica in one that it draws itself.
    pub fn note(&self, what: impl FnOnce() -> String) {
        let (now, what) = (self.now(), what());
        let mut one = DefaultHasher::new();
        one.write_u128(now.as_micros());
        one.write(what.as_bytes());
        let mut world = self.lock();
        world.trace = world.trace.wrapping_add(one.finish());
        if world.tell {
            println!("{:>9.3} {what}", now.as_secs_f64());
        }
    }

    /// Remembers that something is not as it must be.
    pub fn wrong(&self, what: impl FnOnce() -> String) {
        let what = format!("at {:.3} s: {}", self.now().as_secs_f64(), what());
        self.note(|| format!("WRONG {what}"));
        self.lock().wrong.push(what);
    }

    /// Returns once a replica has published something.
    pub async fn published(&self) {
        self.publications.notified().await;
    }

    /// A commit may have happened.
    pub fn committed(&self) {
        self.commits.notify_waiters();
    }
}

impl World {
    /// Whether something of this likelihood happens.
    pub fn happens(&mut self, likelihood: f64) -> bool {
        !self.healed && likelihood > 0.0 && self.rng.f64() < likelihood
    }

    /// Everything that was noted, in one number.
    pub const fn trace(&self) -> u64 {
        self.trace
    }

    /// Commits the first so many entries.
    pub fn commit(&mut self, upto: usize) {
        let upto = upto.min(self.server.entries.len());
        if upto > self.server.committed {
            let entries = Arc::clone(&self.server.entries);
            self.chain.commit(&entries[self.server.committed..upto]);
            self.server.committed = upto;
        }
    }

    /// Puts other entries in place of what the server has, all of them committed.
    pub fn replace(&mut self, entries: Path) {
        (self.server.committed, self.server.entries) = (0, entries);
        self.commit(usize::MAX);
    }

    /// Cuts the server's entries to so many.
    pub fn cut(&mut self, to: usize) {
        self.server.entries = self.server.entries.iter().take(to).cloned().collect();
        self.server.committed = self.server.committed.min(to);
    }

    /// Where the server's entries end.
    pub fn end(&self) -> Position {
        end(&self.server.entries)
    }

    /// Appends to the server's entries.
    pub fn append(&mut self, payloads: &[Vec<u8>]) -> Position {
        let at = payloads.iter().fold(self.end(), |at, payload| self.chain.extend(at, payload.clone()));
        self.server.entries = self.chain.path(at).expect("it was just made");
        at
    }

    /// An entry is acknowledged to a desk. That may be late: it may have been given up meanwhile.
    pub fn acknowledge(&mut self, position: Position, now: Duration) {
        let is_there = has(&self.server.entries, position);
        if !self.chain.is_given_up(position) {
            self.ledger.acknowledge(position, now, self.server.replaced && !is_there);
        }
    }

    /// A person says that what the server has is what counts: whatever else was acknowledged is given up.
    pub fn accept(&mut self) {
        (self.server.in_doubt, self.server.sealed) = (false, false);
        self.commit(usize::MAX);
        let entries = Arc::clone(&self.server.entries);
        self.chain.give_up_all_but(&entries);
        self.ledger.give_up(|at| !has(&entries, at));
    }

    /// Whether the server has all that may have been acknowledged, or been read by somebody.
    pub fn is_whole(&self) -> bool {
        self.chain.is_whole(&self.server.entries)
    }
}
