//! The only writer: decide, append, wait until followed, answer.
//!
//! **One-writer-at-a-revision**: commands that wait together are decided one after another, each on the state as the one
//! before leaves it, and appended as one group at exactly the tail they were decided on. If another desk was first, they
//! are decided anew. So it is with refusals, which are final for those who are given them. **Acked-is-durable**: an answer
//! is given only when the journal said so, and after this process's own replica has it, so that whoever wrote also reads
//! it here. The next group does not wait for that: what the journal has said yes to is known here already.

mod group;

use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use jiff::{SignedDuration, Timestamp};
use tokio::sync::{mpsc, oneshot};
use tracing::{Instrument as _, Span, debug_span, error, info, warn};

use crate::clock::{Clock, new_id};
use crate::compute;
use crate::domain::decide::{Command, Decision};
use crate::domain::digest::Digest;
use crate::domain::effect::Effect;
use crate::domain::event::Attribution;
use crate::domain::ids::{RequestId, Revision};
use crate::domain::rejection::Rejection;
use crate::domain::rules::Rules;
use crate::domain::state::State;
use crate::journal::{AppendError, Journal, Position};
use crate::metrics::{self, Shed};
use crate::replica::{Fault, FaultReason, Published, Replica};
use crate::telemetry::causes;

use group::{Decided, decide_group};

pub use group::Unrecordable;

/// Commands that may wait; more are refused at once.
const QUEUE: usize = 1_024;
/// Commands that are appended as one group.
const GROUP: usize = 256;
/// How often a group is decided anew because others wrote first.
const RACES: usize = 16;
/// How soon a group without a certain outcome is sent again.
const RETRY: Duration = Duration::from_millis(50);
/// How long a command that is written waits for its own entry to be followed.
const FOLLOW_LIMIT: Duration = Duration::from_secs(30);

/// A command that was carried out, or had been before.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Done {
    /// The revision from which it holds.
    pub revision: Revision,
    /// It had been carried out before: nothing was written now.
    pub repeated: bool,
    /// It had an entry of its own written, now; not if it is so already.
    pub written: bool,
    /// What it changed for viewers; empty if repeated.
    pub effect: Effect,
    /// It waits for a second person: the effect is still to come.
    pub pending: bool,
}

impl Done {
    /// What a decision comes to, made on a state at a revision.
    #[must_use]
    pub fn of(decision: &Decision, at: Revision) -> Self {
        let nothing = Self { revision: at, repeated: false, written: false, effect: Effect::default(), pending: false };
        match decision {
            Decision::Write(_, effect) => {
                Self { written: true, revision: at.next(), effect: effect.clone(), ..nothing }
            }
            Decision::Propose(_, effect) => {
                Self { written: true, revision: at.next(), effect: effect.clone(), pending: true, ..nothing }
            }
            Decision::Repeated(revision) => Self { revision: *revision, repeated: true, ..nothing },
            Decision::Nothing => nothing,
        }
    }
}

/// A command that was not carried out, or of which that is not known.
#[derive(Debug, Clone, thiserror::Error)]
pub enum DeskError {
    /// It was refused; nothing was written.
    #[error(transparent)]
    Refused(#[from] Rejection),
    /// Its entry could not be read by any replica, whose fault that may be; nothing was written.
    #[error(
        "no replica could read what this command would write, so it was not written: {why}; nothing was changed, and the log of the service has more on it under `{incident}`"
    )]
    Unrecordable {
        /// What is wrong with it.
        why: Unrecordable,
        /// By which it is found in the log.
        incident: String,
    },
    /// The journal cannot be written; nothing was.
    #[error("the journal cannot be written; nothing was changed")]
    JournalUnavailable,
    /// What keeps the journal would not keep what is acknowledged; nothing was written.
    #[error("the journal would not keep what is acknowledged, nothing was changed: {0}")]
    JournalNotDurable(String),
    /// Too few of those that must have an entry are there now; nothing was written.
    #[error("the journal would not keep what is acknowledged, nothing was changed: {0}")]
    TooFewReplicas(String),
    /// It is not known whether the journal has all that was acknowledged; nothing was written.
    #[error("nothing was changed: {0}")]
    JournalInDoubt(String),
    /// The journal cannot be followed here; nothing was written.
    #[error("nothing was changed: {0}")]
    JournalFaulted(Arc<Fault>),
    /// A clock is wrong; nothing was written.
    #[error("nothing was changed: {0}")]
    ClockOff(String),
    /// The journal has another history than was followed here, and people have to decide; nothing was written.
    #[error("{0}; nothing was changed")]
    JournalDiverged(String),
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

impl DeskError {
    /// What an append that wrote nothing means for those who asked for it.
    fn of(error: &AppendError) -> Self {
        match error {
            AppendError::NotDurable(why) => Self::JournalNotDurable(why.clone()),
            AppendError::TooFewReplicas(why) => Self::TooFewReplicas(why.clone()),
            AppendError::Sealed(why) => Self::JournalDiverged(why.clone()),
            AppendError::InDoubt(why) => Self::JournalInDoubt(why.clone()),
            AppendError::ClockOff(why) => Self::ClockOff(why.clone()),
            AppendError::Conflict { .. } | AppendError::Unavailable(_) | AppendError::Indeterminate(_) => {
                Self::JournalUnavailable
            }
        }
    }
}

struct Waiting {
    command: Command,
    by: Attribution,
    answer: oneshot::Sender<Result<Done, DeskError>>,
    /// The call that it came with.
    call: Span,
}

/// A step on the way of a group, for those of its calls that are traced; it is over when this is dropped.
macro_rules! step {
    ($name:literal, $group:expr) => {{
        let traced = $group.iter().filter(|waiting| !waiting.call.is_disabled());
        traced.map(|waiting| debug_span!(parent: &waiting.call, $name)).collect::<Vec<Span>>()
    }};
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
        if let Some(fault) = self.replica.fault() {
            return Err(match fault.reason {
                FaultReason::Diverged => DeskError::JournalDiverged(fault.to_string()),
                FaultReason::Damaged
                | FaultReason::Unreadable
                | FaultReason::FromTheFuture
                | FaultReason::UnknownHistory => DeskError::JournalFaulted(fault),
            });
        }
        if !self.replica.is_ready() {
            return Err(DeskError::Loading);
        }
        if let Some(behind) = self.replica.clock_behind() {
            let behind = jiff::SignedDuration::from_secs(behind.as_secs());
            return Err(DeskError::ClockOff(format!(
                "this machine's clock is {behind:#} behind the last entry of the journal: set it right"
            )));
        }
        let request = by.request_id.clone();
        let (answer, answered) = oneshot::channel();
        self.queue.try_send(Waiting { command, by, answer, call: Span::current() }).map_err(|error| match error {
            mpsc::error::TrySendError::Full(_) => {
                metrics::shed(Shed::Command);
                DeskError::Overloaded
            }
            mpsc::error::TrySendError::Closed(_) => DeskError::Closed,
        })?;
        answered.await.unwrap_or(Err(DeskError::OutcomeUnknown(request)))
    }
}

/// Opens the desk; the second part is the task that does its work, until every handle is dropped. A command is refused
/// if the journal has been out of reach for as long as `write_limit`.
pub fn open(
    replica: Replica,
    journal: Arc<dyn Journal>,
    rules: Arc<ArcSwap<Rules>>,
    write_limit: Duration,
) -> (Desk, impl Future<Output = ()> + Send + 'static) {
    let (queue, waiting) = mpsc::channel(QUEUE);
    let worker = Worker { clock: replica.clock().clone(), replica: replica.clone(), journal, rules, write_limit };
    (Desk { queue, replica }, worker.run(waiting))
}

struct Worker {
    clock: Clock,
    replica: Replica,
    journal: Arc<dyn Journal>,
    rules: Arc<ArcSwap<Rules>>,
    write_limit: Duration,
}

/// The journal up to a position, as it is known here before it has been followed.
struct Known {
    state: State,
    upto: Position,
}

impl Worker {
    async fn run(self, mut waiting: mpsc::Receiver<Waiting>) {
        let (mut group, mut known) = (Vec::new(), None::<Known>);
        loop {
            let upto = known.as_ref().map_or(Revision::START, |known| known.upto.revision);
            let come = tokio::select! {
                biased;
                // What one group had no room for came before all that waits.
                () = std::future::ready(()), if !group.is_empty() => group.len(),
                come = waiting.recv_many(&mut group, GROUP) => come,
                // Kept for longer it would keep all that is old of it.
                () = self.replica.reached(upto), if known.is_some() => {
                    let followed = known.take();
                    compute::begin(move || drop(followed));
                    continue;
                }
            };
            if come == 0 {
                break;
            }
            // What is logged of a group is told of the call that came first.
            let first = group.first().map_or_else(Span::none, |waiting| waiting.call.clone());
            let mut commands = std::mem::take(&mut group);
            known = self.carry_out(&mut commands, known).instrument(first).await;
            group = commands;
        }
    }

    /// Carries out as many commands as fit into a group, and leaves the others. Gives what is known of the journal after
    /// it, if anything is.
    async fn carry_out(&self, commands: &mut Vec<Waiting>, known: Option<Known>) -> Option<Known> {
        let mut decided = self.decide(std::mem::take(commands), known).await?;
        let (mut in_doubt, mut races) = (false, 0);
        *commands = std::mem::take(&mut decided.rest);
        let mut patience = std::pin::pin!(tokio::time::sleep(self.write_limit));
        loop {
            if decided.is_history() {
                let upto = decided.after;
                return Some(self.acknowledge(decided, upto));
            }
            let appending = step!("append", decided.group);
            let outcome = if decided.payloads.is_empty() {
                // What others have been acknowledged meanwhile may have made it wrong.
                // Nothing is written, so nobody waits for longer than for a journal that is out of reach.
                match tokio::time::timeout(self.write_limit, self.journal.confirm_end(decided.after)).await {
                    Ok(confirmed) => confirmed.map(|()| decided.after),
                    Err(elapsed) => Err(AppendError::Unavailable(elapsed.into())),
                }
            } else if self.is_ahead(decided.at) {
                // Bounded-clock: the date was set back since, and the journal goes by what it is now.
                Err(AppendError::ClockOff(format!(
                    "this was decided at {} by this machine's clock, which was set back since: try again",
                    decided.at
                )))
            } else {
                self.append(decided.after, decided.payloads.clone()).await
            };
            drop(appending);
            match outcome {
                Ok(end) => return Some(self.acknowledge(decided, end)),
                Err(AppendError::Conflict { actual }) => {
                    info!(%actual.revision, expected = %decided.after.revision, "the journal ends elsewhere");
                }
                Err(error) => {
                    error!(error = causes(&error), "journal not written");
                    if !in_doubt && error.nothing_written() {
                        refuse(decided.group, |_| DeskError::of(&error));
                        return None;
                    }
                    // What has been sent may still arrive: the very same is sent again, until the journal is known to
                    // have it, or to have gone on without it.
                    in_doubt = true;
                }
            }
            let moved = tokio::select! {
                biased;
                () = self.replica.reached(decided.after.revision.next()) => true,
                () = tokio::time::sleep(RETRY) => false,
                () = &mut patience => {
                    give_up(decided.group, in_doubt);
                    return None;
                }
            };
            if moved {
                races += 1;
                if races > RACES && !in_doubt {
                    refuse(decided.group, |_| DeskError::LostRace);
                    return None;
                }
                let mut anew = self.decide(decided.group, None).await?;
                // In the order they came.
                anew.rest.append(commands);
                *commands = std::mem::take(&mut anew.rest);
                decided = if in_doubt { anew.knowing(decided.answers) } else { anew };
                if !in_doubt {
                    patience.set(tokio::time::sleep(self.write_limit));
                }
            }
        }
    }

    /// Decides a group on what is published now, or on what is known to come next.
    async fn decide(&self, group: Vec<Waiting>, known: Option<Known>) -> Option<Decided> {
        let _deciding = step!("decide", group);
        let (published, rules) = (self.replica.current(), self.rules.load_full());
        let followed = || Known { state: published.state.clone(), upto: published.position() };
        let known = known.filter(|known| known.upto.revision > published.position().revision).unwrap_or_else(followed);
        // A clock set back must not make the record contradict itself.
        let now = self.time_by(&published).max(known.state.at());
        let deciding = compute::begin(move || decide_group(known, &rules, group, now)).await;
        if deciding.is_err() {
            error!("deciding broke off; its commands are answered as unknown");
        }
        deciding.ok()
    }

    /// The time to decide by. **Bounded-clock**: where this machine's date was further ahead than a date may be off, what was
    /// published meanwhile is of a time that has yet to come, and no entry may be.
    fn time_by(&self, published: &Published) -> Timestamp {
        let (now, shown) = (self.clock.now(), published.now(&self.clock));
        if self.is_ahead(shown) { now } else { shown }
    }

    fn is_ahead(&self, at: Timestamp) -> bool {
        at.duration_since(self.clock.now())
            > SignedDuration::try_from(self.replica.max_skew()).unwrap_or(SignedDuration::MAX)
    }

    /// Appends, and has it counted how that went.
    async fn append(&self, after: Position, payloads: Vec<Vec<u8>>) -> Result<Position, AppendError> {
        let began = self.clock.monotonic();
        let outcome = self.journal.append(after, payloads).await;
        metrics::journal_append(&outcome, self.clock.monotonic().saturating_sub(began));
        outcome
    }

    /// Answers once this replica has what was written. Nobody else waits for that.
    fn acknowledge(&self, decided: Decided, upto: Position) -> Known {
        let Decided { group, answers, state, .. } = decided;
        let following = step!("follow", group);
        let (replica, revision) = (self.replica.clone(), upto.revision);
        let followed = async move {
            let followed = tokio::time::timeout(FOLLOW_LIMIT, replica.reached(revision)).await;
            drop(following);
            // One-history: what is followed here up to that revision may be another history by now.
            if followed.is_ok() && !replica.contradicts(upto) {
                return answer(group, answers);
            }
            // What the command came to cannot be shown here yet. Sent again, here or elsewhere, it is told.
            warn!(%revision, "written, and not followed here for long: its outcome is told to whoever asks again");
            refuse(group, |by| DeskError::OutcomeUnknown(by.request_id.clone()));
        };
        tokio::spawn(followed.in_current_span());
        Known { state, upto }
    }
}

fn give_up(group: Vec<Waiting>, in_doubt: bool) {
    refuse(group, |by| {
        if in_doubt { DeskError::OutcomeUnknown(by.request_id.clone()) } else { DeskError::JournalUnavailable }
    });
}

fn answer(group: Vec<Waiting>, answers: Vec<Result<Done, DeskError>>) {
    for (waiting, answer) in group.into_iter().zip(answers) {
        // Nobody waits any more: the caller went away, its command holds all the same.
        let _ = waiting.answer.send(answer);
    }
}

fn refuse(group: Vec<Waiting>, why: impl Fn(&Attribution) -> DeskError) {
    for waiting in group {
        let error = why(&waiting.by);
        let _ = waiting.answer.send(Err(error));
    }
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
                identity: None,
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
