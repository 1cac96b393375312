//! What must hold at every moment of a run, of every replica and of every answer.

use std::collections::HashMap;
use std::time::Duration;

use jiff::SignedDuration;
use withheld::desk::{DeskError, Done};
use withheld::domain::country::{UnknownViewerPolicy, Viewer};
use withheld::domain::decide::Command;
use withheld::domain::event::Event;
use withheld::domain::fingerprint::StateDigest;
use withheld::domain::ids::Subject;
use withheld::journal::{Hash, Position};
use withheld::replica::Replica;
use withheld::replica::lineage::Known;

use crate::chain::{Path, has};
use crate::commands::{ACCOUNTS, COUNTRIES, account, attribution};
use crate::ledger::Owed;
use crate::machine::{MAX_AHEAD, Machine};
use crate::oracle::Oracle;
use crate::world::Shared;

/// What a service has shown since it was started, and what it knew then.
pub struct Seen {
    known: Vec<Known>,
    last: Position,
}

impl Seen {
    /// Of a start.
    pub fn new(known: Vec<Known>) -> Self {
        Self { known, last: Position::START }
    }

    /// What it knew, in words.
    pub fn known(&self) -> String {
        let places: Vec<_> = self.known.iter().map(|known| known.position.revision.to_string()).collect();
        places.join(" and ")
    }
}

/// The digest of the state that each history comes to.
pub type Digests = HashMap<Hash, StateDigest>;

/// All that was acknowledged by now.
pub fn owed_now(shared: &Shared) -> Vec<Position> {
    shared.lock().ledger.owed().map(|owed| owed.position).collect()
}

/// Asks a replica everything that can be asked, now.
pub fn look(machine: &mut Machine, digests: &mut Digests) {
    let (shared, number) = (machine.shared.clone(), machine.number);
    let Some(running) = &mut machine.running else { return };
    if !running.replica.is_ready() {
        return;
    }
    let published = running.replica.current();
    let (at, made_at, now) = (published.position(), published.index.made_at(), machine.clock.now());
    let wrong = |what: String| shared.wrong(|| format!("machine {number} at revision {}: {what}", at.revision));

    let Some(path) = shared.lock().chain.path(at) else {
        return wrong("it shows a history that there never was".to_owned());
    };
    if !path.iter().all(|link| shared.lock().chain.was_committed(link)) {
        return wrong("it shows an entry that was never committed".to_owned());
    }
    if !has(&path, running.seen.last) {
        wrong(format!("it was at {:?} before, in another history", running.seen.last));
    }
    running.seen.last = at;
    if *digests.entry(at.hash).or_insert_with(|| published.state.digest()) != published.state.digest() {
        wrong("its state is another one than elsewhere, or than before".to_owned());
    }

    let latest = machine.before.max(machine.latest).max(now);
    let adopted = path.iter().filter(|link| link.position.revision > machine.adopted.revision);
    for entry in adopted.filter_map(|link| link.entry.as_ref()) {
        if entry.at > latest + SignedDuration::try_from(MAX_AHEAD).unwrap() {
            wrong(format!("it adopted an entry of {} at {now}", entry.at));
        }
    }
    if !has(&path, machine.adopted) || machine.adopted.revision < at.revision {
        machine.adopted = at;
    }
    // An entry that was read when the date was right may be published after the date was set: not before all that was read
    // is known to be published is the date that was forgotten.
    if running.replica.freshness().live {
        machine.before = std::mem::replace(&mut machine.latest, now);
    } else {
        machine.latest = latest;
    }

    match Oracle::of(&path) {
        Ok(oracle) => {
            for id in 1..=ACCOUNTS {
                let subject = Subject::Account(account(id));
                let expected = oracle.codes(subject, made_at);
                let codes: Vec<_> = expected.iter().copied().collect();
                let shown = published.index.countries(subject).codes();
                let everywhere = codes.contains(&"XX");
                if shown != codes {
                    wrong(format!("account {id} is withheld in {shown:?} at {made_at}, and it should be {codes:?}"));
                }
                for country in COUNTRIES {
                    let viewer = Viewer::In(country.parse().unwrap());
                    let policy = UnknownViewerPolicy::WorldwideOnly;
                    let withheld = published.index.check(subject, viewer, policy).is_some();
                    if withheld != (everywhere || expected.contains(country)) {
                        wrong(format!("account {id} in {country}: {withheld}, by the log {codes:?}"));
                    }
                }
            }
            // A date that is set is noticed within a second.
            let settled = shared.now().saturating_sub(machine.set_at) > Duration::from_millis(1_100);
            let due = now - SignedDuration::from_millis(20);
            if settled && oracle.changes_within(made_at, due) {
                wrong(format!("an order starts or ends by {due}, and it answers as of {made_at}"));
            }
        }
        Err(why) => wrong(format!("the history makes no sense: {why}")),
    }
    live(&shared, running, &path, wrong);
}

/// Nothing that is called LIVE lacks what was acknowledged before the moment that it is LIVE of, nor what was known at the
/// start.
fn live(shared: &Shared, running: &mut crate::machine::Running, path: &Path, wrong: impl Fn(String)) {
    let fresh = running.replica.freshness();
    if !fresh.live {
        return;
    }
    let as_of = shared.now().saturating_sub(fresh.age);
    let lacking = |owed: &&Owed| owed.at < as_of && !has(path, owed.position);
    let found = shared.lock().ledger.owed().find(lacking).cloned();
    if let Some(owed) = found {
        wrong(format!("LIVE as of {as_of:?}, and it lacks {owed:?}"));
    }
    if let Some(known) = running.seen.known.iter().find(|known| !has(path, known.position)) {
        wrong(format!("LIVE in another history than it knew: {known}"));
    }
}

/// Holds an answer against what is published where it was given; where it says that the command is.
pub fn answer(
    shared: &Shared,
    replica: &Replica,
    desk: usize,
    request: usize,
    command: &Command,
    answer: &Result<Done, DeskError>,
    acknowledged: &[Position],
) -> Option<Position> {
    let wrong = |what: &str| shared.wrong(|| format!("desk {desk}, request {request}: {what}: {answer:?}"));
    let done = match answer {
        Ok(done) => done,
        Err(DeskError::Unrecordable { .. }) => {
            wrong("an entry that nobody could read");
            return None;
        }
        Err(_) => return None,
    };
    let path = shared.lock().chain.path(replica.current().position())?;
    if !done.repeated && !done.written {
        // What was decided knew all that had been acknowledged before it was asked for.
        let owed: Vec<Position> = owed_now(shared);
        let known = path.iter().take(usize::try_from(done.revision.get()).unwrap()).cloned().collect::<Vec<_>>();
        if acknowledged.iter().any(|at| owed.contains(at) && !has(&known, *at)) {
            wrong("decided without what had been acknowledged before");
        }
    }
    if !done.repeated && !done.written {
        return None;
    }
    let last = usize::try_from(done.revision.get()).ok()?.checked_sub(1)?;
    let Some(entry) = path.get(last).and_then(|link| link.entry.as_ref()) else {
        wrong("answered before it was followed");
        return None;
    };
    let own = entry.by.request_id == attribution(request).request_id;
    let same_order = match (command, &entry.event) {
        (Command::ApplyOrder { order, .. }, Event::OrderApplied(applied)) => applied.spec.order_id == order.order_id,
        _ => false,
    };
    if !(own || done.repeated && same_order) {
        wrong("another entry is there");
    }
    own.then(|| path[last].position)
}
