//! What goes wrong in a run, and what people do about it meanwhile.

use std::sync::Arc;
use std::time::Duration;

use jiff::SignedDuration;
use withheld::domain::event::{Entry, Event};
use withheld::domain::protection::Category;
use withheld::journal::Position;
use withheld::record::{creation, encode};

use crate::chain::{Path, has};
use crate::commands::{account, attribution};
use crate::lies::Lie;
use crate::run::Run;
use crate::world::{Shared, World};

/// Requests that are no desk's have numbers from here on.
const FOREIGN: usize = 1_000_000;

/// Makes the journal, once.
pub fn create(shared: &Shared) {
    let now = shared.clock.now();
    let mut world = shared.lock();
    let entries = mk_journal(&mut world, now);
    world.replace(entries);
}

fn mk_journal(world: &mut World, now: jiff::Timestamp) -> Path {
    let id = world.rng.u128(..).to_be_bytes();
    let by = attribution(FOREIGN + world.rng.usize(0..FOREIGN));
    let first = world.chain.extend(Position::START, creation(now, &by, id));
    world.chain.path(first).expect("it was just made")
}

fn millis(world: &mut World, most: u64) -> Duration {
    Duration::from_millis(world.rng.u64(1..most))
}

/// What goes wrong in one step.
pub async fn step(run: &mut Run) {
    let shared = run.shared.clone();
    let faults = shared.lock().faults.clone();
    let happens = |likelihood: f64| shared.lock().happens(likelihood);
    people(run);
    if happens(faults.link) {
        let (at, time, stays) = {
            let mut world = shared.lock();
            (world.rng.usize(0..run.machines.len()), millis(&mut world, 4_000), world.rng.bool())
        };
        let port = &run.machines[at].port;
        shared.note(|| format!("machine {at} {} for {time:?}", if stays { "stays behind" } else { "is cut off" }));
        if stays { port.stay(time) } else { port.cut_off(time) }
    }
    if happens(faults.outage) {
        let now = shared.now();
        let mut world = shared.lock();
        world.server.down_until = now + millis(&mut world, 3_000);
        drop(world);
        shared.note(|| "the server is down for a while".to_owned());
    }
    if happens(faults.failover) {
        fail_over(run, 0);
    }
    if happens(faults.lost_tail) {
        let lost = shared.lock().rng.usize(1..4);
        fail_over(run, lost);
    }
    if happens(faults.replaced) {
        replace(run);
    }
    if happens(faults.foreign_entry) {
        append_foreign(run);
    }
    dates(run, faults.date);
    restarts(run, faults.restart).await;
}

/// Another server takes over, which lacks so many of the committed entries. Some sessions do not notice for a while.
fn fail_over(run: &mut Run, lost: usize) {
    let shared = &run.shared;
    for machine in &run.machines {
        let stays = {
            let mut world = shared.lock();
            let stays = world.rng.f64() < 0.4;
            stays.then(|| millis(&mut world, 3_000))
        };
        if let Some(time) = stays {
            machine.port.stay(time);
        }
    }
    let mut world = shared.lock();
    let (committed, lie) = (world.server.committed, world.lie == Some(Lie::TailLostInSilence));
    // The first entry is the journal's name: without it, it would be another one.
    let kept = committed.saturating_sub(lost).max(1).min(committed);
    world.cut(kept);
    world.takeovers += 1;
    if kept < committed {
        world.server.in_doubt = !lie;
        run.parted = true;
    }
    drop(world);
    shared.note(|| format!("another server takes over with {kept} of {committed} committed entries"));
    shared.committed();
}

/// What keeps the journal is emptied, cut short, or another one's, and says nothing of it.
fn replace(run: &mut Run) {
    if run.backup.is_some() {
        return;
    }
    let now = run.shared.clock.now();
    let mut world = run.shared.lock();
    let before = Arc::clone(&world.server.entries);
    let after: Path = match world.rng.u32(0..3) {
        0 => Path::default(),
        1 => mk_journal(&mut world, now),
        _ => {
            let kept = world.rng.usize(1..=before.len().max(1));
            before.iter().take(kept).cloned().collect()
        }
    };
    world.replace(Arc::clone(&after));
    world.server.replaced = true;
    world.takeovers += 1;
    // Who has never seen what is gone cannot know better.
    world.ledger.set_aside(|at| !has(&after, at));
    drop(world);
    (run.backup, run.parted) = (Some(before), true);
    run.shared.note(|| format!("the journal is replaced by one of {} entries", after.len()));
    run.shared.committed();
}

/// Somebody appends what no desk would: from far ahead, or of no format that there is.
fn append_foreign(run: &mut Run) {
    let now = run.shared.clock.now();
    let mut world = run.shared.lock();
    if world.server.in_doubt || world.server.sealed || world.server.entries.is_empty() {
        return;
    }
    let ahead = [130, 3_600, 31_536_000][world.rng.usize(0..3)];
    let payload = if world.rng.bool() {
        b"of no format that there is".to_vec()
    } else {
        let by = attribution(FOREIGN + world.rng.usize(0..FOREIGN));
        let event = Event::AccountsProtected(vec![(account(1), Category::Journalist)]);
        let latest = world.server.entries.iter().filter_map(|link| Some(link.entry.as_ref()?.at)).max();
        let at = latest.unwrap_or(now).max(now + SignedDuration::from_secs(ahead));
        encode(&Entry { at, by, event })
    };
    world.append(&[payload]);
    world.commit(usize::MAX);
    drop(world);
    run.poisoned = true;
    run.shared.note(|| "somebody appends what nobody can go on from".to_owned());
    run.shared.committed();
}

/// Tails are committed by whoever comes by; doubts are cleared up, by servers or by people.
fn people(run: &mut Run) {
    let shared = &run.shared;
    let mut world = shared.lock();
    if world.server.in_doubt {
        if world.rng.f64() < 0.2 && world.is_whole() {
            world.server.in_doubt = false;
            world.commit(usize::MAX);
            drop(world);
            shared.note(|| "the server has all that was acknowledged".to_owned());
        } else if world.rng.f64() < 0.05 {
            world.accept();
            drop(world);
            shared.note(|| "a person accepts what the server has".to_owned());
        }
    } else if world.rng.f64() < 0.4 {
        world.commit(usize::MAX);
        drop(world);
        shared.committed();
    }
}

fn dates(run: &mut Run, likelihood: f64) {
    if !run.shared.lock().happens(likelihood) {
        return;
    }
    let (at, off) = {
        let mut world = run.shared.lock();
        let most = [1_000_000_i64, 20_000_000, 59_000_000, 100_000_000, 86_400_000_000][world.rng.usize(0..5)];
        (world.rng.usize(0..run.machines.len()), world.rng.i64(-most..=most))
    };
    run.machines[at].set_date(off);
}

async fn restarts(run: &mut Run, likelihood: f64) {
    let shared = run.shared.clone();
    for machine in &mut run.machines {
        let (ends, killed, wiped) = {
            let mut world = shared.lock();
            (world.happens(likelihood), world.rng.bool(), world.rng.f64() < 0.1)
        };
        if ends && killed {
            machine.kill();
        } else if ends {
            machine.stop().await;
        }
        if ends && wiped {
            machine.wipe();
        }
        let up_again = shared.lock().rng.f64() < 0.4;
        if machine.running.is_none() && up_again {
            machine.start();
        }
    }
}
