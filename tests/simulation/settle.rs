//! The end of a run: faults are over, people do what only people can, and all must agree.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use withheld::replica::FaultReason;

use crate::chain::has;
use crate::commands::attribution;
use crate::ledger::Outcome;
use crate::run::Run;

/// Within this long all agree, once nothing is wrong any more.
const AGREED_WITHIN: Duration = Duration::from_secs(8);
const LOOK_EVERY: Duration = Duration::from_millis(500);

/// See the module.
pub async fn settle(run: &mut Run) {
    heal(run);
    if run.shared.lock().server.in_doubt {
        // Whoever has what is missing puts it back.
        run.wait(Duration::from_secs(3)).await;
        let mut world = run.shared.lock();
        if !world.is_whole() {
            world.accept();
        }
        world.server.in_doubt = false;
        world.commit(usize::MAX);
    }
    run.shared.committed();
    if !agreed_in_time(run).await {
        let faulted = stand_still(run);
        for at in faulted {
            run.machines[at].accept().await;
        }
        if !agreed_in_time(run).await && !run.poisoned {
            tell_why(run);
        }
    }
    run.look().await;
    hold_to_account(run);
}

fn heal(run: &mut Run) {
    let shared = run.shared.clone();
    {
        let now = shared.now();
        let mut world = shared.lock();
        world.healed = true;
        (world.server.down_until, world.server.replaced) = (Duration::ZERO, false);
        if let Some(backup) = run.backup.take() {
            if world.rng.bool() {
                // The journal is put back: what others wrote meanwhile is given up.
                world.replace(Arc::clone(&backup));
                world.server.sealed = false;
                world.chain.give_up_all_but(&backup);
                world.ledger.put_back(now, |at| has(&backup, at));
            } else {
                world.accept();
                world.ledger.forget_aside();
            }
            world.server.in_doubt = false;
        }
        if world.server.sealed {
            world.accept();
        }
        if !world.server.in_doubt {
            world.commit(usize::MAX);
        }
    }
    if shared.lock().server.entries.is_empty() {
        crate::faults::create(&shared);
    }
    shared.note(|| "faults are over".to_owned());
    for machine in &mut run.machines {
        machine.port.heal();
        machine.set_date(0);
        machine.start();
    }
    shared.committed();
}

async fn agreed_in_time(run: &mut Run) -> bool {
    let began = run.shared.now();
    while run.shared.now() - began < AGREED_WITHIN {
        run.wait(LOOK_EVERY).await;
        if !run.shared.lock().wrong.is_empty() {
            return true;
        }
        for machine in &mut run.machines {
            // A supervisor starts what ends.
            machine.start();
        }
        if is_agreed(run) {
            return true;
        }
    }
    false
}

fn is_agreed(run: &Run) -> bool {
    let end = run.shared.lock().end();
    let mut digests = HashSet::new();
    run.machines.iter().all(|machine| {
        machine.running.as_ref().is_some_and(|running| {
            let published = running.replica.load();
            digests.insert(published.state.digest().to_bytes());
            let agrees = published.position() == end && digests.len() == 1;
            agrees && running.replica.freshness().live && running.replica.fault().is_none()
        })
    })
}

/// Those that wait for a person, and say why.
fn stand_still(run: &Run) -> Vec<usize> {
    let mut faulted = Vec::new();
    for (at, machine) in run.machines.iter().enumerate() {
        let Some(running) = &machine.running else {
            continue;
        };
        match running.replica.fault().map(|fault| fault.reason) {
            Some(FaultReason::Diverged | FaultReason::UnknownHistory) if run.parted => faulted.push(at),
            Some(FaultReason::Unreadable | FaultReason::FromTheFuture) if run.poisoned => {}
            Some(other) => run.shared.wrong(|| format!("machine {at} stands still without a cause: {other:?}")),
            None => {}
        }
    }
    faulted
}

fn tell_why(run: &Run) {
    let shows: Vec<_> = run.machines.iter().map(crate::machine::Machine::shows).collect();
    let end = run.shared.lock().end();
    run.shared.wrong(|| format!("no agreement: the journal ends at {}, and they are at {shows:?}", end.revision));
}

/// What was acknowledged is there, once; what was not written is not; times never go back.
fn hold_to_account(run: &Run) {
    let world = run.shared.lock();
    let entries = Arc::clone(&world.server.entries);
    let mut wrong = Vec::new();
    for owed in world.ledger.owed().filter(|owed| !has(&entries, owed.position)) {
        wrong.push(format!("{owed:?} was acknowledged, and is not in the journal"));
    }
    let (mut ids, mut latest) = (HashSet::new(), None);
    for (link, entry) in entries.iter().filter_map(|link| Some((link, link.entry.as_ref()?))) {
        if !ids.insert(entry.by.request_id.clone()) {
            wrong.push(format!("{} is in the journal twice", entry.by.request_id));
        }
        if latest > Some(entry.at) {
            wrong.push(format!("entry {} is earlier than the one before", link.position.revision));
        }
        latest = latest.max(Some(entry.at));
    }
    for (number, request) in world.ledger.requests.iter().enumerate() {
        let written = ids.contains(&attribution(number).request_id);
        let nothing = request.tries.iter().all(|it| matches!(it, Outcome::NothingWritten));
        if written && nothing {
            wrong.push(format!("request {number} is in the journal, and all answers said that nothing was written"));
        }
        for outcome in &request.tries {
            if let Outcome::Written(at) = outcome
                && !has(&entries, *at)
                && !world.chain.is_given_up(*at)
            {
                wrong.push(format!("request {number} was answered, and is not in the journal: {at:?}"));
            }
        }
    }
    drop(world);
    wrong.into_iter().for_each(|what| run.shared.wrong(|| what));
}
