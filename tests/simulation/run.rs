//! One run: two or three machines over one journal, random commands and random faults; then the faults end, people do what
//! only people can, and everything must come to one state.

use std::collections::HashMap;
use std::path::{Path as Dir, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use withheld::compute;
use withheld::domain::policy::Policy;
use withheld::domain::rules::Rules;

use crate::check::{self, Digests};
use crate::commands;
use crate::faults;
use crate::lies::Lie;
use crate::machine::Machine;
use crate::settle;
use crate::store::Store;
use crate::world::Shared;

/// What came of a run.
#[derive(Debug, Default)]
pub struct Report {
    pub wrong: Option<String>,
    /// Of everything that happened.
    pub trace: u64,
    /// Entries in the journal at the end.
    pub entries: usize,
    /// Commands that were carried out.
    pub acknowledged: usize,
    /// Times a service was started.
    pub restarts: usize,
    /// Times another server took over, or other entries were in the journal's place.
    pub takeovers: usize,
}

impl std::ops::Add for Report {
    type Output = Self;
    fn add(self, other: Self) -> Self {
        Self {
            wrong: self.wrong.or(other.wrong),
            trace: self.trace.wrapping_add(other.trace),
            entries: self.entries + other.entries,
            acknowledged: self.acknowledged + other.acknowledged,
            restarts: self.restarts + other.restarts,
            takeovers: self.takeovers + other.takeovers,
        }
    }
}

/// The rules that desks decide by: one person is enough.
pub fn rules() -> Arc<ArcSwap<Rules>> {
    let policy = Policy::parse(include_str!("../../data/policy-one-person.toml")).unwrap();
    Arc::new(ArcSwap::from_pointee(Rules { policy, ..Rules::builtin() }))
}

/// Where runs keep what is on disks: in memory, where that is to be had.
pub fn mk_disks() -> tempfile::TempDir {
    let memory = Dir::new("/dev/shm");
    let made = if memory.is_dir() { tempfile::tempdir_in(memory) } else { tempfile::tempdir() };
    made.unwrap()
}

/// Everything of one run.
pub struct Run {
    pub shared: Shared,
    pub machines: Vec<Machine>,
    pub digests: Digests,
    /// What the journal had before it was replaced.
    pub backup: Option<crate::chain::Path>,
    /// Whether histories of the journal came apart, so that a person may be needed.
    pub parted: bool,
    /// Whether something was appended that nobody can go on from.
    pub poisoned: bool,
}

/// Runs a history by its seed.
pub fn run(seed: u64, lie: Option<Lie>, tell: bool, disks: &Dir, rules: &Arc<ArcSwap<Rules>>) -> Report {
    compute::without_threads();
    // What is jittered is so by the generator of this thread.
    fastrand::seed(seed);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap();
    let report = runtime.block_on(history(seed, lie, tell, disks, rules));
    drop(runtime);
    report
}

async fn history(seed: u64, lie: Option<Lie>, tell: bool, disks: &Dir, rules: &Arc<ArcSwap<Rules>>) -> Report {
    let shared = Shared::new(seed, lie, tell);
    faults::create(&shared);
    let (count, steps) = {
        let mut world = shared.lock();
        (world.rng.usize(2..=3), world.rng.u32(10..50))
    };
    let store = Arc::new(Store::new(shared.clone()));
    let machine = |number: usize| {
        let (kept, shares) = {
            let mut world = shared.lock();
            (world.rng.f64() < 0.7, world.rng.f64() < 0.3)
        };
        let disk = kept.then(|| disk(disks, seed, number));
        Machine::new(number, shared.clone(), disk, shares.then(|| Arc::clone(&store)), Arc::clone(rules))
    };
    let machines = (0..count).map(machine).collect();
    let mut run = Run { shared, machines, digests: HashMap::new(), backup: None, parted: false, poisoned: false };
    run.machines.iter_mut().for_each(Machine::start);
    for _ in 0..steps {
        run.pass().await;
        faults::step(&mut run).await;
        run.ask();
        if !run.shared.lock().wrong.is_empty() {
            break;
        }
    }
    if run.shared.lock().wrong.is_empty() {
        settle::settle(&mut run).await;
    }
    let world = run.shared.lock();
    let report = Report {
        wrong: world.wrong.first().cloned(),
        trace: world.trace(),
        entries: world.server.entries.len(),
        acknowledged: world.ledger.owed().count(),
        restarts: world.restarts,
        takeovers: world.takeovers,
    };
    drop(world);
    for number in 0..count {
        let _ = std::fs::remove_dir_all(disks.join(format!("{seed}-{number}")));
    }
    report
}

fn disk(disks: &Dir, seed: u64, number: usize) -> PathBuf {
    let dir = disks.join(format!("{seed}-{number}"));
    std::fs::create_dir_all(&dir).unwrap();
    dir
}

impl Run {
    /// A moment passes; whatever is published meanwhile is looked at.
    async fn pass(&mut self) {
        let pause = {
            let mut world = self.shared.lock();
            let long = world.rng.f64() < 0.08;
            world.rng.u64(0..if long { 3_000 } else { 400 })
        };
        self.wait(Duration::from_millis(pause)).await;
    }

    /// So much time passes.
    pub async fn wait(&mut self, time: Duration) {
        let until = self.shared.now() + time;
        while let Some(left) = until.checked_sub(self.shared.now()).filter(|left| !left.is_zero()) {
            let _ = tokio::time::timeout(left, self.shared.published()).await;
            self.look().await;
        }
        self.look().await;
    }

    /// Looks at every replica.
    pub async fn look(&mut self) {
        for machine in &mut self.machines {
            machine.look().await;
            check::look(machine, &mut self.digests);
        }
    }

    /// Somebody asks for something, or again for what was asked before, at any desk.
    fn ask(&mut self) {
        let now = self.shared.clock.now();
        let (request, desk) = {
            let mut world = self.shared.lock();
            if world.rng.f64() < 0.25 {
                return;
            }
            let (asked, again) = (world.ledger.requests.len(), world.rng.f64() < 0.2);
            let request = if again && asked > 0 {
                world.rng.usize(0..asked)
            } else {
                let command = commands::draw(&mut world.rng, now);
                world.ledger.ask(command)
            };
            (request, world.rng.usize(0..self.machines.len()))
        };
        self.machines[desk].submit(request);
    }
}
