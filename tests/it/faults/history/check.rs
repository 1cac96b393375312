//! Holds what clients were told against the journal, and against time.
//!
//! A write takes effect at its revision; a query sees all up to its own. If that order agrees with real time (what ended
//! before something else began has its place before it), then the calls could have been carried out one after another,
//! each between its begin and its end: the history of writes and strong queries is linearizable.

use std::collections::BTreeMap;

use super::{Accounts, Command, History, Kind, Ledger, Outcome, Read, Write};

/// A promise that was broken.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Violation {
    /// It was acknowledged, and the journal does not have it at that revision.
    Lost { request_id: String, revision: u64 },
    /// A request is in the journal twice.
    Twice { request_id: String, revisions: [u64; 2] },
    /// It was refused for good, and is there.
    RefusedAndThere { request_id: String, revision: u64 },
    /// It had been written, after every answer had said that it was not.
    SaidNotWritten { request_id: String, revision: u64 },
    /// It was refused for something that was not so, by all that was known when it began.
    RefusedWrongly { request_id: String, reason: String },
    /// What is there is not what was asked for.
    Altered { revision: u64, asked: Command, found: Command },
    /// Nobody asked for it.
    Unasked { revision: u64, request_id: String },
    /// It began when a later revision was known already.
    Inverted { request_id: String, revision: u64, known: u64 },
    /// It does not include what was known when it began.
    Stale { read: Read, known: u64 },
    /// It says something else than the journal at its revision.
    Disagrees { read: Read, journal: Option<Accounts> },
    /// Its replica had answered from a later revision before.
    Backwards { read: Read, known: u64 },
}

/// The greatest revision told up to any time.
struct Told(Vec<(u64, u64)>);

impl Told {
    /// From times and revisions.
    fn of(told: impl IntoIterator<Item = (u64, u64)>) -> Self {
        let mut told: Vec<(u64, u64)> = told.into_iter().collect();
        told.sort_unstable();
        let mut greatest = 0;
        for (_, revision) in &mut told {
            greatest = greatest.max(*revision);
            *revision = greatest;
        }
        Self(told)
    }

    /// What had been told before a time.
    fn before(&self, time: u64) -> u64 {
        let earlier = self.0.partition_point(|(ended, _)| *ended < time);
        earlier.checked_sub(1).map_or(0, |last| self.0[last].1)
    }
}

/// Everything that is wrong.
pub fn check(history: &History, ledger: &Ledger) -> Vec<Violation> {
    let mut violations = Vec::new();
    let there = index(ledger, &mut violations);
    let acknowledged = Told::of(history.acknowledged().map(|(write, revision)| (write.span.ended, revision)));
    let asked: BTreeMap<&str, &Write> = history.writes.iter().map(|write| (write.request_id.as_str(), write)).collect();
    assert_eq!(asked.len(), history.writes.len(), "a request id was used for two writes");
    for (revision, entry) in ledger.entries() {
        match asked.get(entry.request_id.as_str()) {
            Some(write) if write.command == entry.command => {}
            Some(write) => violations.push(Violation::Altered {
                revision,
                asked: write.command.clone(),
                found: entry.command.clone(),
            }),
            None => violations.push(Violation::Unasked { revision, request_id: entry.request_id.clone() }),
        }
    }
    violations.extend(history.writes.iter().filter_map(|write| outcome(write, &there, &acknowledged, ledger)));
    real_time(history, &there, &acknowledged, &mut violations);
    for read in &history.reads {
        let journal = ledger.withheld(read.revision, read.country);
        if journal.map(|withheld| withheld & read.asked) != Some(read.withheld) {
            violations.push(Violation::Disagrees { read: read.clone(), journal });
        }
    }
    violations
}

/// Where each request is.
fn index<'a>(ledger: &'a Ledger, violations: &mut Vec<Violation>) -> BTreeMap<&'a str, u64> {
    let mut there = BTreeMap::new();
    for (revision, entry) in ledger.entries() {
        if let Some(first) = there.insert(entry.request_id.as_str(), revision) {
            let request_id = entry.request_id.clone();
            violations.push(Violation::Twice { request_id, revisions: [first, revision] });
        }
    }
    there
}

/// Whether what was said about a write is so.
fn outcome(write: &Write, there: &BTreeMap<&str, u64>, told: &Told, ledger: &Ledger) -> Option<Violation> {
    let request_id = write.request_id.clone();
    let own = there.get(write.request_id.as_str()).copied();
    match (&write.outcome, own) {
        (Outcome::Acknowledged { revision, repeated }, Some(own)) if own == *revision => {
            let was_told = !repeated || write.in_doubt;
            (!was_told).then_some(Violation::SaidNotWritten { request_id, revision: own })
        }
        // The very same order had been applied by somebody else.
        (Outcome::Acknowledged { revision, repeated: true }, None)
            if matches!(write.command, Command::Apply { .. })
                && ledger.entry(*revision).is_some_and(|entry| entry.command == write.command) =>
        {
            None
        }
        (Outcome::Acknowledged { revision, .. }, Some(_) | None) => {
            Some(Violation::Lost { request_id, revision: *revision })
        }
        (Outcome::Refused { .. }, Some(revision)) => Some(Violation::RefusedAndThere { request_id, revision }),
        (Outcome::Refused { reason }, None) => {
            let known = told.before(write.span.began);
            let rightly = may_refuse(reason, write.command.order(), known, ledger);
            (!rightly).then(|| Violation::RefusedWrongly { request_id, reason: reason.clone() })
        }
        (Outcome::Unknown, Some(_) | None) => None,
    }
}

/// Whether a command about an order may be refused for a reason, when a revision is known already.
fn may_refuse(reason: &str, order: &str, known: u64, ledger: &Ledger) -> bool {
    let mut about = ledger.entries().filter(|(_, entry)| entry.command.order() == order);
    match reason {
        "ORDER_ID_TAKEN" => about.next().is_some(),
        "WRONG_ORDER_STATE" => about.any(|(_, entry)| matches!(entry.command, Command::Lift { .. })),
        "ORDER_NOT_FOUND" => about.next().is_none_or(|(applied, _)| applied > known),
        _ => false,
    }
}

/// Whether the order of revisions is one that time allows.
fn real_time(history: &History, there: &BTreeMap<&str, u64>, acknowledged: &Told, violations: &mut Vec<Violation>) {
    let told = |reads: &mut dyn Iterator<Item = &Read>| Told::of(reads.map(|read| (read.span.ended, read.revision)));
    let read = told(&mut history.reads.iter());
    let read_strongly = told(&mut history.reads.iter().filter(|read| read.kind == Kind::Strong));
    for write in &history.writes {
        // A write that nobody acknowledged took effect after it began, too.
        let Some(&revision) = there.get(write.request_id.as_str()) else { continue };
        let known = acknowledged.before(write.span.began).max(read.before(write.span.began));
        if known >= revision {
            violations.push(Violation::Inverted { request_id: write.request_id.clone(), revision, known });
        }
    }
    for read in history.reads.iter().filter(|read| read.kind == Kind::Strong) {
        let known = acknowledged.before(read.span.began).max(read_strongly.before(read.span.began));
        if known > read.revision {
            violations.push(Violation::Stale { read: read.clone(), known });
        }
    }
    let mut lives = BTreeMap::<(usize, u32), Vec<&Read>>::new();
    for read in &history.reads {
        lives.entry((read.replica, read.life)).or_default().push(read);
    }
    for reads in lives.into_values() {
        let answered = told(&mut reads.iter().copied());
        for read in reads {
            let known = answered.before(read.span.began);
            if known > read.revision {
                violations.push(Violation::Backwards { read: read.clone(), known });
            }
        }
    }
}
