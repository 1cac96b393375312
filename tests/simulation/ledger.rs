//! What was asked for, and what was answered.

use std::time::Duration;

use withheld::desk::{DeskError, Done};
use withheld::domain::decide::Command;
use withheld::journal::Position;

/// An entry that was acknowledged, and when.
#[derive(Debug, Clone)]
pub struct Owed {
    pub position: Position,
    pub at: Duration,
}

/// What became of one try of a request.
#[derive(Debug, Clone)]
pub enum Outcome {
    /// Nobody knows: no answer, or one that says so.
    Unknown,
    /// Surely nothing was written for it.
    NothingWritten,
    /// It is in the journal there.
    Written(Position),
}

/// A request, and its tries.
#[derive(Debug)]
pub struct Request {
    pub command: Command,
    pub tries: Vec<Outcome>,
}

/// See the module.
#[derive(Debug, Default)]
pub struct Ledger {
    pub requests: Vec<Request>,
    owed: Vec<Owed>,
    aside: Vec<Owed>,
    is_replaced: bool,
    /// Tries for which nothing was written in the journal that stands in the place of the one there was.
    refused_aside: Vec<(usize, usize)>,
}

impl Ledger {
    /// A new request.
    pub fn ask(&mut self, command: Command) -> usize {
        self.requests.push(Request { command, tries: Vec::new() });
        self.requests.len() - 1
    }

    /// One more try of it.
    pub fn again(&mut self, request: usize) -> usize {
        self.requests[request].tries.push(Outcome::Unknown);
        self.requests[request].tries.len() - 1
    }

    /// What became of a try.
    pub fn conclude(&mut self, request: usize, attempt: usize, outcome: Outcome) {
        if self.is_replaced && matches!(outcome, Outcome::NothingWritten) {
            self.refused_aside.push((request, attempt));
        }
        self.requests[request].tries[attempt] = outcome;
    }

    /// An entry is acknowledged; it may be of a journal that has been replaced meanwhile.
    pub fn acknowledge(&mut self, position: Position, at: Duration, replaced: bool) {
        let owed = if replaced { &mut self.aside } else { &mut self.owed };
        owed.push(Owed { position, at });
    }

    /// What was acknowledged and never given up, in the order of that.
    pub fn owed(&self) -> impl Iterator<Item = &Owed> {
        self.owed.iter()
    }

    /// The journal has been replaced by one without some of it: only who knew of that can miss it.
    pub fn set_aside(&mut self, which: impl Fn(Position) -> bool) {
        let (aside, owed) = std::mem::take(&mut self.owed).into_iter().partition(|owed| which(owed.position));
        (self.owed, self.is_replaced) = (owed, true);
        self.aside.extend::<Vec<_>>(aside);
    }

    /// The journal that there was is back, with these entries: from now on it can be told who lacks them.
    pub fn put_back(&mut self, now: Duration, is_there: impl Fn(Position) -> bool) {
        self.owed.extend(self.aside.drain(..).map(|owed| Owed { at: now, ..owed }));
        self.give_up(|at| !is_there(at));
        // What was on its way to that one when it was replaced may be in it: who looked elsewhere could not know.
        for (request, attempt) in self.refused_aside.drain(..) {
            self.requests[request].tries[attempt] = Outcome::Unknown;
        }
        self.is_replaced = false;
    }

    /// A person has given that up for good.
    pub fn forget_aside(&mut self) {
        self.aside.clear();
        self.refused_aside.clear();
        self.is_replaced = false;
    }

    /// A person has given some of it up.
    pub fn give_up(&mut self, which: impl Fn(Position) -> bool) {
        self.owed.retain(|owed| !which(owed.position));
    }
}

/// What an answer says about whether something was written.
pub fn outcome(answer: &Result<Done, DeskError>, written_at: Option<Position>) -> Outcome {
    match answer {
        Ok(done) if done.written || done.repeated => written_at.map_or(Outcome::Unknown, Outcome::Written),
        Ok(_) => Outcome::NothingWritten,
        Err(DeskError::OutcomeUnknown(_)) => Outcome::Unknown,
        Err(
            DeskError::Refused(_)
            | DeskError::Unrecordable { .. }
            | DeskError::JournalUnavailable
            | DeskError::JournalNotDurable(_)
            | DeskError::TooFewReplicas(_)
            | DeskError::JournalInDoubt(_)
            | DeskError::JournalFaulted(_)
            | DeskError::ClockOff(_)
            | DeskError::JournalDiverged(_)
            | DeskError::LostRace
            | DeskError::Overloaded
            | DeskError::Loading
            | DeskError::Closed,
        ) => Outcome::NothingWritten,
    }
}
