//! The only writer: decide, append, wait until followed, answer.
//!
//! **One-writer-at-a-revision**: commands that wait together are decided one after another, each on the state as the one
//! before leaves it, and appended as one group at exactly the tail they were decided on. If another desk was first, they
//! are decided anew. **Acked-is-durable**: an answer is given only when the journal said so, and after this process's own
//! replica has it, so that whoever wrote also reads it here.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{mpsc, oneshot};
use tracing::{error, info, warn};

use crate::clock::{Clock, new_id};
use crate::domain::decide::{Command, Decision, decide};
use crate::domain::digest::Digest;
use crate::domain::effect::Effect;
use crate::domain::event::{Attribution, Entry};
use crate::domain::ids::{RequestId, Revision};
use crate::domain::rejection::Rejection;
use crate::domain::rules::Rules;
use crate::domain::state::State;
use crate::journal::{AppendError, Journal, Position};
use crate::metrics;
use crate::record::encode;
use crate::replica::Replica;

/// Commands that may wait; more are refused at once.
const QUEUE: usize = 1_024;
/// Commands that are appended as one group.
const GROUP: usize = 256;
/// How often a group is decided anew because others wrote first.
const RACES: usize = 16;
/// How long a command waits for its own entry to be followed.
const FOLLOW_LIMIT: Duration = Duration::from_secs(10);

/// A command that was carried out, or had been before.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Done {
    /// The revision from which it holds.
    pub revision: Revision,
    /// It had been carried out before: nothing was written now.
    pub repeated: bool,
    /// What it changed for viewers; empty if repeated.
    pub effect: Effect,
}

/// A command that was not carried out, or of which that is not known.
#[derive(Debug, Clone, thiserror::Error)]
pub enum DeskError {
    /// It was refused; nothing was written.
    #[error(transparent)]
    Refused(#[from] Rejection),
    /// The journal cannot be written; nothing was.
    #[error("the journal cannot be written; nothing was changed")]
    JournalUnavailable,
    /// Whether it was written could not be found out.
    #[error("whether the command was written could not be found out; send it again with request_id `{0}`")]
    OutcomeUnknown(RequestId),
    /// Other desks wrote first every time; nothing was written.
    #[error("other desks wrote first {RACES} times in a row; nothing was changed")]
    LostRace,
    /// Too many commands wait; nothing was written.
    #[error("{QUEUE} commands wait already; nothing was changed")]
    Overloaded,
    /// The journal has not been loaded yet; nothing was written.
    #[error("the journal is still being loaded; nothing was changed")]
    Loading,
    /// The desk is closed; nothing was written.
    #[error("the service is shutting down; nothing was changed")]
    Closed,
}

struct Waiting {
    command: Command,
    by: Attribution,
    answer: oneshot::Sender<Result<Done, DeskError>>,
}

/// A handle on the desk.
#[derive(Debug, Clone)]
pub struct Desk {
    queue: mpsc::Sender<Waiting>,
    replica: Replica,
}

impl Desk {
    /// Hands in a command. Dropping the future does not take it back.
    ///
    /// # Errors
    /// If it was refused, or could not be carried out; each error says whether anything was written.
    pub async fn submit(&self, command: Command, by: Attribution) -> Result<Done, DeskError> {
        if !self.replica.is_ready() {
            return Err(DeskError::Loading);
        }
        let request = by.request_id.clone();
        let (answer, answered) = oneshot::channel();
        self.queue.try_send(Waiting { command, by, answer }).map_err(|error| match error {
            mpsc::error::TrySendError::Full(_) => DeskError::Overloaded,
            mpsc::error::TrySendError::Closed(_) => DeskError::Closed,
        })?;
        answered.await.unwrap_or(Err(DeskError::OutcomeUnknown(request)))
    }
}

/// Opens the desk; the second part is the task that does its work, until every handle is dropped.
pub fn open(
    replica: Replica,
    journal: Arc<dyn Journal>,
    rules: Arc<Rules>,
) -> (Desk, impl Future<Output = ()> + Send + 'static) {
    let (queue, waiting) = mpsc::channel(QUEUE);
    let worker = Worker { clock: replica.clock().clone(), replica: replica.clone(), journal, rules, tail: None };
    (Desk { queue, replica }, worker.run(waiting))
}

struct Worker {
    clock: Clock,
    replica: Replica,
    journal: Arc<dyn Journal>,
    rules: Arc<Rules>,
    /// Where the journal ended when this desk looked last.
    tail: Option<Position>,
}

/// A group decided on a state: what is to be written, and an answer for each command once it is.
struct Decided {
    group: Vec<Waiting>,
    answers: Vec<Result<Done, Rejection>>,
    payloads: Vec<Vec<u8>>,
}

impl Worker {
    async fn run(mut self, mut waiting: mpsc::Receiver<Waiting>) {
        let mut group = Vec::new();
        while waiting.recv_many(&mut group, GROUP).await > 0 {
            self.carry_out(std::mem::take(&mut group)).await;
        }
    }

    async fn carry_out(&mut self, mut group: Vec<Waiting>) {
        for _ in 0..RACES {
            let Some(tail) = self.level().await else {
                return refuse(group, |_| DeskError::JournalUnavailable);
            };
            let (published, rules) = (self.replica.current(), Arc::clone(&self.rules));
            // A clock set back must not make the record contradict itself.
            let now = published.now(&self.clock);
            let deciding =
                tokio::task::spawn_blocking(move || decide_group(published.state.clone(), &rules, group, now)).await;
            let Ok(decided) = deciding else {
                return error!("deciding broke off; its commands are answered as unknown");
            };
            if decided.payloads.is_empty() {
                return answer(decided.group, decided.answers);
            }
            match self.append(tail, decided.payloads).await {
                Ok(position) => {
                    self.tail = Some(position);
                    return self.acknowledge(decided.group, decided.answers, position.revision).await;
                }
                Err(AppendError::Conflict { actual }) => {
                    info!(%actual.revision, "another desk wrote first, deciding anew");
                    self.tail = Some(actual);
                    group = decided.group;
                }
                Err(error) if error.nothing_written() => {
                    error!(%error, source = ?std::error::Error::source(&error), "journal not written");
                    self.tail = None;
                    return refuse(decided.group, |_| DeskError::JournalUnavailable);
                }
                Err(error) => {
                    error!(%error, source = ?std::error::Error::source(&error), "append without a certain outcome");
                    return self.find_out(decided.group, decided.answers).await;
                }
            }
        }
        refuse(group, |_| DeskError::LostRace);
    }

    /// Appends, and has it counted how that went.
    async fn append(&self, after: Position, payloads: Vec<Vec<u8>>) -> Result<Position, AppendError> {
        let began = self.clock.monotonic();
        let outcome = self.journal.append(after, payloads).await;
        metrics::journal_append(&outcome, self.clock.monotonic().saturating_sub(began));
        outcome
    }

    /// The journal's tail, once this process's replica has it.
    async fn level(&mut self) -> Option<Position> {
        let tail = match self.tail {
            Some(tail) => tail,
            None => match self.journal.tail().await {
                Ok(tail) => tail,
                Err(error) => {
                    error!(%error, "the journal's tail cannot be read");
                    return None;
                }
            },
        };
        let followed = tokio::time::timeout(FOLLOW_LIMIT, self.replica.reached(tail.revision)).await;
        self.tail = followed.is_ok().then_some(tail);
        self.tail
    }

    async fn acknowledge(&self, group: Vec<Waiting>, answers: Vec<Result<Done, Rejection>>, revision: Revision) {
        if tokio::time::timeout(FOLLOW_LIMIT, self.replica.reached(revision)).await.is_err() {
            warn!(%revision, "acknowledging what this replica has not followed yet");
        }
        answer(group, answers);
    }

    /// After an append without a certain outcome: reads the journal again and looks for the commands.
    async fn find_out(&mut self, group: Vec<Waiting>, answers: Vec<Result<Done, Rejection>>) {
        self.tail = None;
        if self.level().await.is_none() {
            return refuse(group, |by| DeskError::OutcomeUnknown(by.request_id.clone()));
        }
        let current = self.replica.current();
        for (waiting, planned) in group.into_iter().zip(answers) {
            let outcome = match current.state.request(&waiting.by.request_id) {
                Some((_, revision)) => planned.map(|done| Done { revision, ..done }).map_err(DeskError::from),
                None => Err(DeskError::JournalUnavailable),
            };
            let _ = waiting.answer.send(outcome);
        }
    }
}

fn answer(group: Vec<Waiting>, answers: Vec<Result<Done, Rejection>>) {
    for (waiting, answer) in group.into_iter().zip(answers) {
        // Nobody waits any more: the caller went away, its command holds all the same.
        let _ = waiting.answer.send(answer.map_err(DeskError::from));
    }
}

fn refuse(group: Vec<Waiting>, why: impl Fn(&Attribution) -> DeskError) {
    for waiting in group {
        let error = why(&waiting.by);
        let _ = waiting.answer.send(Err(error));
    }
}

fn decide_group(mut state: State, rules: &Rules, group: Vec<Waiting>, now: jiff::Timestamp) -> Decided {
    let (mut answers, mut payloads) = (Vec::with_capacity(group.len()), Vec::new());
    for waiting in &group {
        answers.push(decide(&state, rules, &waiting.command, &waiting.by, now).map(|decision| match decision {
            Decision::Write(event, effect) => {
                let entry = Entry { at: now, by: waiting.by.clone(), event };
                let revision = state.revision().next();
                if let Err(error) = state.apply(revision, &entry) {
                    error!(%error, "a decision does not fit the state it was made on");
                }
                payloads.push(encode(&entry));
                Done { revision, repeated: false, effect }
            }
            Decision::Repeated(revision) => Done { revision, repeated: true, effect: Effect::default() },
            Decision::Nothing => Done { revision: state.revision(), repeated: false, effect: Effect::default() },
        }));
    }
    Decided { group, answers, payloads }
}

/// Throws staged lists away that no order has used for this long, looking every so often, for ever.
pub async fn discard_old_uploads(desk: Desk, keep: Duration, every: Duration) {
    let clock = desk.replica.clock().clone();
    loop {
        let now = clock.now();
        if let Ok(before) = now.checked_sub(keep)
            && desk.replica.is_ready()
            && desk.replica.load().state.uploads().iter().any(|(_, upload)| upload.started_at < before)
            && let Ok(request_id) = new_id().parse()
        {
            let by = Attribution {
                actor: "withheld".into(),
                reason: "staged and never used".into(),
                request_id,
                request_digest: Digest::of(b"discard uploads"),
            };
            if let Err(error) = desk.submit(Command::DiscardUploads { before }, by).await {
                warn!(%error, "old uploads not discarded");
            }
        }
        let Ok(next) = now.checked_add(every) else { return };
        clock.sleep_until(next).await;
    }
}
