//! AuditService: the record, read from the journal itself.
//!
//! An entry is told without what its order contains. Only who proposed and who decided, where something took two, is read
//! off the state: the two entries may be far apart.

use std::sync::Arc;

use tokio::sync::{Semaphore, mpsc};
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Response, Status};

use super::page::{self, Cursor};
use super::status::ServiceError;
use super::{Context, render};
use crate::audit::keep::Checkpoints;
use crate::domain::approval::Verdict;
use crate::domain::event::{Event, OrderChange, Recorded};
use crate::domain::ids::{OrderId, Revision};
use crate::domain::order::Order;
use crate::domain::state::State;
use crate::journal::{Damage, JournalReader, Position, ReadError, StoredEntry, verify};
use crate::net::Connection;
use crate::pb::v1 as pb;
use crate::pb::v1::audit_service_server::AuditService;
use crate::record::decode;

/// Entries in one page.
const MOST: usize = 1_000;
/// Steps that may wait for a reader; what is more of them is left out.
const WAITING: usize = 4;

/// See the module.
#[derive(Clone)]
pub struct Audit {
    context: Context,
    journal: Arc<dyn JournalReader>,
    checkpoints: Checkpoints,
    /// A verification reads the whole journal: one at a time is enough.
    verifying: Arc<Semaphore>,
}

impl std::fmt::Debug for Audit {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Audit")
    }
}

impl Audit {
    /// The service over a journal, and what signs its checkpoints.
    #[must_use]
    pub fn new(context: Context, journal: Arc<dyn JournalReader>, checkpoints: Checkpoints) -> Self {
        Self { context, journal, checkpoints, verifying: Arc::new(Semaphore::new(1)) }
    }

    /// Up to `most` entries after a revision, and up to another.
    async fn entries(
        &self,
        after: Revision,
        up_to: Revision,
        most: usize,
        state: &State,
    ) -> Result<Vec<pb::JournalEntry>, ServiceError> {
        let mut found = Vec::new();
        let Some(mut at) = self.journal.position(after).await? else { return Ok(found) };
        while found.len() < most && at.revision < up_to {
            let left = most - found.len();
            let stored = self.journal.read(at, left).await?.entries;
            let Some(last) = stored.last() else { break };
            at = last.position();
            for entry in stored.iter().take_while(|entry| entry.position().revision <= up_to) {
                found.push(render_entry(entry, state)?);
            }
        }
        Ok(found)
    }
}

fn render_entry(stored: &StoredEntry, state: &State) -> Result<pb::JournalEntry, ServiceError> {
    let Position { revision, hash } = stored.position();
    let entry = decode(stored.payload()).map_err(|source| ServiceError::EntryUnreadable { revision, source })?;
    let order = order_of(&entry.event);
    let approval = order.and_then(|id| state.order(id)).and_then(|order| two_people(order, revision));
    Ok(pb::JournalEntry {
        revision: revision.get(),
        at: Some(render::time(entry.at)),
        actor: entry.by.actor.to_string(),
        reason: entry.by.reason.to_string(),
        request_id: entry.by.request_id.to_string(),
        kind: kind(&entry.event).to_owned(),
        order_id: order.map(ToString::to_string).unwrap_or_default(),
        approval,
        hash: hash.as_bytes().to_vec(),
    })
}

fn order_of(event: &Event) -> Option<&OrderId> {
    match event {
        Event::OrderApplied(applied) | Event::OrderProposed { order: applied, .. } => Some(&applied.spec.order_id),
        Event::OrderChanged { order, .. } => Some(order),
        Event::ItemsStaged { .. }
        | Event::UploadsDiscarded(_)
        | Event::AccountsProtected(_)
        | Event::AccountsUnprotected(_)
        | Event::JournalCreated { .. }
        | Event::JournalUpgraded(_) => None,
    }
}

/// The name of an event's field in `withheld.journal.v1.Entry`.
const fn kind(event: &Event) -> &'static str {
    match event {
        Event::ItemsStaged { .. } => "items_staged",
        Event::UploadsDiscarded(_) => "uploads_discarded",
        Event::OrderApplied(_) => "order_applied",
        Event::OrderProposed { .. } => "order_proposed",
        Event::AccountsProtected(_) => "accounts_protected",
        Event::AccountsUnprotected(_) => "accounts_unprotected",
        Event::JournalCreated { .. } => "journal_created",
        Event::JournalUpgraded(_) => "journal_upgraded",
        Event::OrderChanged { change, .. } => match change {
            OrderChange::Lifted => "order_lifted",
            OrderChange::ItemsLifted(_) => "items_lifted",
            OrderChange::Stayed => "order_stayed",
            OrderChange::Resumed => "order_resumed",
            OrderChange::Correspondence(_) => "correspondence_recorded",
            OrderChange::Approved(_) => "order_approved",
            OrderChange::Rejected => "proposal_rejected",
            OrderChange::LiftProposed(..) => "lift_proposed",
            OrderChange::LiftApproved(_) => "lift_approved",
        },
    }
}

/// Who proposed and who decided, if the entry at a revision is one of the two.
fn two_people(order: &Order, revision: Revision) -> Option<pb::TwoPeople> {
    let mut proposed = order.first_proposal().map(|_| order.recorded());
    let told = |proposed: &Recorded, decided: Option<(&Recorded, Verdict)>| pb::TwoPeople {
        proposed_by: proposed.by.actor.to_string(),
        proposed_revision: proposed.revision.get(),
        decided_by: decided.map(|(by, _)| by.by.actor.to_string()).unwrap_or_default(),
        decided_revision: decided.map_or(0, |(by, _)| by.revision.get()),
        approved: decided.is_some_and(|(_, verdict)| verdict == Verdict::Approved),
    };
    for (recorded, change) in order.later() {
        let verdict = match change {
            OrderChange::LiftProposed(..) => {
                // One that lapsed is followed by the next.
                if let Some(lapsed) = proposed.filter(|lapsed| lapsed.revision == revision) {
                    return Some(told(lapsed, None));
                }
                proposed = Some(recorded);
                continue;
            }
            OrderChange::Approved(_) | OrderChange::LiftApproved(_) => Verdict::Approved,
            OrderChange::Rejected => Verdict::Rejected,
            OrderChange::Lifted
            | OrderChange::ItemsLifted(_)
            | OrderChange::Stayed
            | OrderChange::Resumed
            | OrderChange::Correspondence(_) => continue,
        };
        if let Some(by) = proposed.take().filter(|by| by.revision == revision || recorded.revision == revision) {
            return Some(told(by, Some((recorded, verdict))));
        }
    }
    proposed.filter(|by| by.revision == revision).map(|by| told(by, None))
}

fn result(outcome: Result<Position, ReadError>) -> Result<pb::VerifyResult, ServiceError> {
    match outcome {
        Ok(Position { revision, hash }) => Ok(pb::VerifyResult {
            valid: true,
            revision: revision.get(),
            hash: hash.as_bytes().to_vec(),
            first_bad: None,
        }),
        Err(ReadError::Corrupt { revision, damage }) => {
            let what = damage.to_string();
            let (expected_hash, found_hash) = match damage {
                Damage::Missing | Damage::CommittedBeyondEnd { .. } | Damage::Storage => Default::default(),
                Damage::Hash { expected, found } => (expected.as_bytes().to_vec(), found),
                Damage::End { expected, found } => (expected.as_bytes().to_vec(), found.as_bytes().to_vec()),
            };
            let first_bad = Some(pb::BadEntry { revision: revision.get(), what, expected_hash, found_hash });
            let revision = revision.get().saturating_sub(1);
            Ok(pb::VerifyResult { valid: false, revision, hash: Vec::new(), first_bad })
        }
        Err(error @ (ReadError::Unavailable(_) | ReadError::InDoubt(_) | ReadError::Diverged { .. })) => {
            Err(error.into())
        }
    }
}

#[tonic::async_trait]
impl AuditService for Audit {
    async fn list_entries(
        &self,
        request: Request<pb::ListEntriesRequest>,
    ) -> Result<Response<pb::ListEntriesResponse>, Status> {
        let published = self.context.published(&request, None).await?;
        let request = request.into_inner();
        let filters = [&[u8::from(request.oldest_first)], request.after_revision.to_le_bytes().as_slice()].concat();
        let cursor = page::cursor(&request.page_token, &filters)?.map(|Cursor(_, revision)| Revision::new(revision));
        let size = page::size(request.page_size, MOST);
        let least = Revision::new(request.after_revision);
        let end = published.index.revision();
        let (entries, next) = if request.oldest_first {
            let mut entries =
                self.entries(cursor.unwrap_or(least), end, size.saturating_add(1), &published.state).await?;
            let next = page::cut(&mut entries, size).map(|last| last.revision);
            (entries, next)
        } else {
            // The cursor is the last entry told: those before it come next.
            let up_to = cursor.map_or(end, |told| Revision::new(told.get().saturating_sub(1)));
            let after = up_to.get().saturating_sub(size as u64).max(least.get());
            let mut entries = self.entries(Revision::new(after), up_to, size, &published.state).await?;
            entries.reverse();
            let next = entries.last().map(|last| last.revision).filter(|_| after > least.get());
            (entries, next)
        };
        Ok(Response::new(pb::ListEntriesResponse {
            entries,
            next_page_token: next.map(|at| page::token(Cursor(0, at), &filters)).unwrap_or_default(),
            freshness: Some(render::freshness(published.index.revision(), self.context.replica.freshness())),
        }))
    }

    type VerifyJournalStream = ReceiverStream<Result<pb::VerifyJournalResponse, Status>>;

    async fn verify_journal(
        &self,
        request: Request<pb::VerifyJournalRequest>,
    ) -> Result<Response<Self::VerifyJournalStream>, Status> {
        let turn = Arc::clone(&self.verifying).try_acquire_owned().map_err(|_| ServiceError::Verifying)?;
        let connection = request.extensions().get::<Connection>().cloned();
        let (sender, receiver) = mpsc::channel(WAITING);
        let journal = Arc::clone(&self.journal);
        let message = |step| Ok(pb::VerifyJournalResponse { step: Some(step) });
        tokio::spawn(async move {
            let verifying = verify(&*journal, |at, of| {
                let progress = pb::VerifyProgress { revision: at.get(), end_revision: of.get() };
                // A reader who is slow to read is told of fewer steps.
                let _ = sender.try_send(message(pb::verify_journal_response::Step::Progress(progress)));
            });
            let ending = async {
                match &connection {
                    Some(connection) => connection.ending().await,
                    None => std::future::pending().await,
                }
            };
            let outcome = tokio::select! {
                () = sender.closed() => return,
                () = ending => Err(ServiceError::CutOff),
                outcome = verifying => result(outcome),
            };
            // However long the reader takes to read it, the next one may begin.
            drop(turn);
            let last = match outcome {
                Ok(result) => message(pb::verify_journal_response::Step::Result(result)),
                Err(error) => Err(error.into()),
            };
            let _ = sender.send(last).await;
        });
        Ok(Response::new(ReceiverStream::new(receiver)))
    }

    async fn get_checkpoint(
        &self,
        _: Request<pb::GetCheckpointRequest>,
    ) -> Result<Response<pb::GetCheckpointResponse>, Status> {
        let made = self.checkpoints.make().map_err(|why| {
            let age = self.context.replica.freshness().age;
            ServiceError::NoCheckpoint { why, age }
        })?;
        Ok(Response::new(pb::GetCheckpointResponse {
            note: made.note,
            revision: made.checkpoint.position.revision.get(),
            hash: made.checkpoint.position.hash.as_bytes().to_vec(),
            at: made.checkpoint.at.map(render::time),
        }))
    }
}
