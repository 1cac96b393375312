//! A group of commands decided one after another, and what of it is appended together.
//!
//! **Writes-are-readable**: every replica has to read what is appended, for ever, and there is no taking it back. So an
//! entry becomes a part of the group only if its bytes decode to itself and it applies to the state that it was decided
//! on. Knows nothing of the journal: whether and when the group is appended is the desk's business.

use jiff::Timestamp;
use tracing::error;

use super::{DeskError, Done, Known, Waiting};
use crate::clock::new_id;
use crate::domain::decide;
use crate::domain::event::Entry;
use crate::domain::ids::Revision;
use crate::domain::rules::Rules;
use crate::domain::state::{ApplyError, State};
use crate::journal::Position;
use crate::metrics;
use crate::record::{self, DecodeError};

/// Bytes of entries that are appended as one group, unless a single entry has more: as many as a replica reads at once, so
/// that a group neither holds up those who append after it, nor takes them several reads to see.
const GROUP_BYTES: usize = 4 << 20;

/// Why an entry cannot be appended: no replica could go on from it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Unrecordable {
    /// It does not decode.
    #[error("{}", unread(.0))]
    Unread(DecodeError),
    /// It decodes to another one, of which this is different.
    #[error("its {0} would be read as something else")]
    Altered(&'static str),
    /// It does not follow on the state that it was decided on.
    #[error(transparent)]
    Misfit(#[from] ApplyError),
}

fn unread(error: &DecodeError) -> String {
    match error {
        DecodeError::Field(field) => format!("its field `{field}` could not be read again"),
        DecodeError::Malformed(_) | DecodeError::Newer => format!("it could not be read again: {error}"),
    }
}

/// A group decided on a state: what is to be written after it, and an answer for each command once it is.
pub(super) struct Decided {
    pub(super) group: Vec<Waiting>,
    pub(super) answers: Vec<Result<Done, DeskError>>,
    pub(super) after: Position,
    pub(super) payloads: Vec<Vec<u8>>,
    /// The time that they say they were written at.
    pub(super) at: Timestamp,
    /// Once they are written.
    pub(super) state: State,
    /// Commands that were not decided, for the group is as large as it may be: they are the next one.
    pub(super) rest: Vec<Waiting>,
}

impl Decided {
    /// Nothing is left to be written, and all was written before: that stays so, whatever has come since.
    pub(super) fn is_history(&self) -> bool {
        let repeated = |answer: &Result<Done, DeskError>| answer.as_ref().is_ok_and(|done| done.repeated);
        self.payloads.is_empty() && self.answers.iter().all(repeated)
    }

    /// An answer for each command that was sent before without a certain outcome: what was written for it is not repeated.
    /// Where somebody else has written the same order, it is.
    pub(super) fn knowing(mut self, sent: Vec<Result<Done, DeskError>>) -> Self {
        for ((waiting, answer), sent) in self.group.iter().zip(&mut self.answers).zip(sent) {
            let written_at = self.state.request(&waiting.by.request_id).map(|(_, revision)| revision);
            if let (Ok(done), Ok(sent)) = (answer, sent)
                && done.repeated
                && !sent.repeated
                && written_at == Some(done.revision)
            {
                *done = Done { revision: done.revision, ..sent };
            }
        }
        self
    }
}

/// What a command comes to.
enum Step {
    /// Nothing of it is written.
    Answered(Result<Done, DeskError>),
    /// These bytes are.
    Written(Done, Vec<u8>),
    /// Its entry has more bytes than there is room for; it is not decided.
    NoRoom,
}

/// Decides commands in their order, each on the state as the one before leaves it, until the group is full.
pub(super) fn decide_group(known: Known, rules: &Rules, mut group: Vec<Waiting>, now: Timestamp) -> Decided {
    let Known { mut state, upto } = known;
    let (mut answers, mut payloads, mut bytes) = (Vec::with_capacity(group.len()), Vec::new(), 0_usize);
    for waiting in &group {
        let room = if payloads.is_empty() { usize::MAX } else { GROUP_BYTES.saturating_sub(bytes) };
        match decide_one(&mut state, rules, waiting, now, room) {
            Step::Answered(answer) => answers.push(answer),
            Step::Written(done, payload) => {
                bytes = bytes.saturating_add(payload.len());
                payloads.push(payload);
                answers.push(Ok(done));
            }
            Step::NoRoom => break,
        }
    }
    let rest = group.split_off(answers.len());
    Decided { group, answers, after: upto, payloads, at: now, state, rest }
}

/// Decides a command, and folds its entry in if that is written.
fn decide_one(
    state: &mut State,
    rules: &Rules,
    Waiting { command, by, .. }: &Waiting,
    now: Timestamp,
    room: usize,
) -> Step {
    let decision = match decide::decide(state, rules, command, by, now) {
        Ok(decision) => decision,
        Err(rejection) => return Step::Answered(Err(rejection.into())),
    };
    let done = Done::of(&decision, state.revision());
    let (decide::Decision::Write(event, _) | decide::Decision::Propose(event, _)) = decision else {
        return Step::Answered(Ok(done));
    };
    let entry = Entry { at: now, by: by.clone(), event };
    let payload = record::encode(&entry);
    if payload.len() > room {
        return Step::NoRoom;
    }
    match adopt(state, done.revision, &entry, &payload) {
        Ok(()) => Step::Written(done, payload),
        Err(why) => Step::Answered(Err(unrecordable(&entry, why))),
    }
}

/// Folds in what will be written, if every replica can.
fn adopt(state: &mut State, revision: Revision, entry: &Entry, payload: &[u8]) -> Result<(), Unrecordable> {
    let read = record::decode(payload).map_err(Unrecordable::Unread)?;
    for (part, same) in
        [("time", read.at == entry.at), ("author", read.by == entry.by), ("event", read.event == entry.event)]
    {
        if !same {
            return Err(Unrecordable::Altered(part));
        }
    }
    state.apply(revision, entry)?;
    Ok(())
}

/// A fault of this program or of a file that it was given, to be found by its incident: the command is not at fault.
fn unrecordable(entry: &Entry, why: Unrecordable) -> DeskError {
    let incident = new_id();
    error!(incident, request_id = %entry.by.request_id, error = %why, "a command is not written: no replica could read its entry");
    metrics::command_unrecordable();
    DeskError::Unrecordable { why, incident }
}
