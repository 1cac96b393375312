//! Whether a command may be carried out, and what it would write: `decide(state, command, now)`.
//!
//! Pure: the same state, command and time give the same decision. The desk is the only caller that writes what comes
//! out; previews call it and write nothing.

use std::sync::Arc;

use jiff::Timestamp;

use super::approval::{self, Proposal};
use super::digest::Digest;
use super::effect::{self, Effect};
use super::event::{Attribution, Event, Lift, OrderChange};
use super::format::Format;
use super::ids::{AccountId, OrderId, Revision, UploadId};
use super::item::ItemChunk;
use super::order::{Order, OrderState};
use super::plan::{self, ItemSource, OrderRequest};
use super::policy::Limits;
use super::protection::Category;
use super::rejection::Rejection;
use super::rules::Rules;
use super::spec::Correspondence;
use super::state::{State, Upload};

/// What somebody asks the desk to do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Command {
    /// Stage a chunk of a list.
    StageItems {
        /// The list.
        upload: UploadId,
        /// Its next lines.
        items: Arc<ItemChunk>,
    },
    /// Throw away staged lists begun before a time.
    DiscardUploads {
        /// That time.
        before: Timestamp,
    },
    /// Put an order into force, or have it wait for a second person.
    ApplyOrder {
        /// The order.
        order: Box<OrderRequest>,
        /// Its items.
        items: ItemSource,
        /// What the preview said; `None`: not asked.
        preview: Option<Digest>,
    },
    /// Carry out what waits for a second person.
    ApproveOrder {
        /// The order.
        order: OrderId,
        /// Of the outcome that was seen; `None`: not asked.
        digest: Option<Digest>,
    },
    /// End what waits for a second person.
    RejectOrder(OrderId),
    /// End what waits as who proposed it, who is no approver.
    WithdrawOrder(OrderId),
    /// End an order.
    LiftOrder(OrderId),
    /// End an order for some items.
    LiftItems {
        /// The order.
        order: OrderId,
        /// The items.
        items: ItemSource,
    },
    /// Suspend an order.
    StayOrder(OrderId),
    /// Put a stayed order back into force.
    ResumeOrder(OrderId),
    /// Record what was written about an order.
    RecordCorrespondence {
        /// The order.
        order: OrderId,
        /// What was written.
        correspondence: Correspondence,
    },
    /// Put accounts on the protected list.
    ProtectAccounts(Vec<(AccountId, Category)>),
    /// Take accounts off the protected list.
    UnprotectAccounts(Vec<AccountId>),
    /// Let entries be written in a format from now on.
    UpgradeJournal(Format),
}

/// What is to be done about a command.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Decision {
    /// Write this; it changes that for viewers.
    Write(Event, Effect),
    /// Write this, a proposal: it changes nothing yet, and that for viewers once a second person approves it.
    Propose(Event, Effect),
    /// It was written before, at this revision.
    Repeated(Revision),
    /// It is so already: there is nothing to write.
    Nothing,
}

/// See the module.
///
/// # Errors
/// If the command is refused.
pub fn decide(
    state: &State,
    rules: &Rules,
    command: &Command,
    by: &Attribution,
    now: Timestamp,
) -> Result<Decision, Rejection> {
    if let Some((digest, revision)) = state.request(&by.request_id) {
        return if digest == by.request_digest {
            Ok(Decision::Repeated(revision))
        } else {
            Err(Rejection::RequestIdTaken { request: by.request_id.clone(), revision })
        };
    }
    let write = |event| Ok(Decision::Write(event, Effect::default()));
    match command {
        Command::StageItems { upload, items } => {
            stages(state, &rules.policy.limits, upload, items, by)?;
            write(Event::ItemsStaged { upload: upload.clone(), items: Arc::clone(items) })
        }
        Command::DiscardUploads { before } => {
            let old = state.uploads().iter().filter(|(_, upload)| upload.started_at < *before);
            let old: Vec<UploadId> = old.map(|(id, _)| id.clone()).collect();
            if old.is_empty() { Ok(Decision::Nothing) } else { write(Event::UploadsDiscarded(old)) }
        }
        Command::ApplyOrder { order, items, preview } => apply_order(state, rules, order, items, *preview, now),
        Command::ApproveOrder { order, digest } => approval::approve(state, find(state, order)?, *digest, by, now),
        Command::RejectOrder(order) => approval::reject(find(state, order)?, now),
        Command::WithdrawOrder(order) => approval::withdraw(find(state, order)?, by, now),
        Command::LiftOrder(id) => {
            let order = find(state, id)?;
            match order.state(now) {
                OrderState::Scheduled | OrderState::InForce | OrderState::Stayed => {
                    lift(state, rules, order, Lift::Whole, now)
                }
                OrderState::Lifted
                | OrderState::Expired
                | OrderState::PendingApproval
                | OrderState::Rejected
                | OrderState::ExpiredUnapproved => Err(wrong(order, now, "lifted")),
            }
        }
        Command::LiftItems { order, items } => lift_items(state, rules, find(state, order)?, items, now),
        Command::StayOrder(id) => {
            let order = find(state, id)?;
            match order.state(now) {
                OrderState::Scheduled | OrderState::InForce => Ok(change(state, order, OrderChange::Stayed, now)),
                OrderState::Stayed
                | OrderState::Lifted
                | OrderState::Expired
                | OrderState::PendingApproval
                | OrderState::Rejected
                | OrderState::ExpiredUnapproved => Err(wrong(order, now, "stayed")),
            }
        }
        Command::ResumeOrder(id) => {
            let order = find(state, id)?;
            match order.state(now) {
                OrderState::Stayed => Ok(change(state, order, OrderChange::Resumed, now)),
                OrderState::Scheduled
                | OrderState::InForce
                | OrderState::Lifted
                | OrderState::Expired
                | OrderState::PendingApproval
                | OrderState::Rejected
                | OrderState::ExpiredUnapproved => Err(wrong(order, now, "resumed")),
            }
        }
        Command::RecordCorrespondence { order, correspondence } => {
            let order = find(state, order)?;
            let change = OrderChange::Correspondence(correspondence.clone());
            write(Event::OrderChanged { order: order.id().clone(), change })
        }
        Command::ProtectAccounts(accounts) => {
            let known =
                |(id, category): &(AccountId, Category)| state.protection(*id).is_some_and(|p| p.category == *category);
            if accounts.iter().all(known) {
                return Ok(Decision::Nothing);
            }
            write(Event::AccountsProtected(accounts.clone()))
        }
        Command::UnprotectAccounts(accounts) => {
            let listed = accounts.iter().copied().filter(|id| state.protection(*id).is_some());
            let listed: Vec<AccountId> = listed.collect();
            if listed.is_empty() { Ok(Decision::Nothing) } else { write(Event::AccountsUnprotected(listed)) }
        }
        Command::UpgradeJournal(format) if *format <= state.format() => Ok(Decision::Nothing),
        Command::UpgradeJournal(format) if *format > Format::NEWEST_WRITABLE => {
            Err(Rejection::FormatNotWritable { format: *format, newest: Format::NEWEST_WRITABLE })
        }
        Command::UpgradeJournal(format) => write(Event::JournalUpgraded(*format)),
    }
}

fn find<'a>(state: &'a State, id: &OrderId) -> Result<&'a Order, Rejection> {
    state.order(id).map(|order| &**order).ok_or_else(|| Rejection::OrderNotFound(id.clone()))
}

fn wrong(order: &Order, now: Timestamp, command: &'static str) -> Rejection {
    Rejection::WrongState { order: order.id().clone(), state: order.state(now), command }
}

fn apply_order(
    state: &State,
    rules: &Rules,
    request: &OrderRequest,
    items: &ItemSource,
    preview: Option<Digest>,
    now: Timestamp,
) -> Result<Decision, Rejection> {
    if let Some(order) = state.order(&request.order_id) {
        return repeated(state, order, request, items, now);
    }
    let plan = plan::apply(state, rules, request, items, now)?;
    within(&rules.policy.limits, plan.items.len())?;
    if preview.is_some_and(|digest| digest != plan.digest) {
        return Err(Rejection::PreviewOutdated(request.order_id.clone()));
    }
    let changed = plan.effect.changed;
    let effect =
        if plan.event.spec.effective_from.is_some_and(|from| from > now) { Effect::default() } else { plan.effect };
    if plan.grounds.is_empty() {
        return Ok(Decision::Write(Event::OrderApplied(plan.event), effect));
    }
    let (grounds, outcome) = (plan.grounds.into(), plan.digest);
    let proposal = Proposal { grounds, expires_at: lapses_at(rules, now), outcome, changed };
    Ok(Decision::Propose(Event::OrderProposed { order: plan.event, proposal }, effect))
}

/// What is said to whoever applies an order whose id is known.
fn repeated(
    state: &State,
    order: &Order,
    request: &OrderRequest,
    items: &ItemSource,
    now: Timestamp,
) -> Result<Decision, Rejection> {
    let stands = order.state(now);
    if matches!(stands, OrderState::Rejected | OrderState::ExpiredUnapproved) {
        let (order, revision) = (order.id().clone(), order.last().revision);
        return Err(Rejection::OrderIdSpent { order, state: stands, revision });
    }
    let revision = order.recorded().revision;
    let list = match items {
        // The upload this very order took is gone, so its items are the order's own.
        ItemSource::Staged(upload) if order.upload() == Some(upload) => order.items().clone(),
        source @ (ItemSource::Staged(_) | ItemSource::Inline(_)) => plan::take(state, source)?,
    };
    if plan::content(request, &list) == order.content() {
        Ok(Decision::Repeated(revision))
    } else {
        Err(Rejection::OrderIdTaken { order: order.id().clone(), revision })
    }
}

/// When what is proposed now lapses.
fn lapses_at(rules: &Rules, now: Timestamp) -> Timestamp {
    now.checked_add(rules.policy.expires_after).unwrap_or(Timestamp::MAX)
}

/// A change of an order, as an event.
pub(super) fn standing_change(order: &Order, change: OrderChange) -> Event {
    Event::OrderChanged { order: order.id().clone(), change }
}

/// A change of standing, with what it changes for viewers.
fn change(state: &State, order: &Order, change: OrderChange, now: Timestamp) -> Decision {
    let from_force = order.state(now) == OrderState::InForce;
    let to_force = change == OrderChange::Resumed && order.starts_at() <= now;
    let subjects = order.effective_items().map(|(_, subject)| subject);
    let effect = effect::of_standing(state, order.number(), subjects, from_force, to_force, now);
    Decision::Write(standing_change(order, change), effect)
}

/// Lifts an order, or some of it; or has that wait for a second person.
fn lift(state: &State, rules: &Rules, order: &Order, lift: Lift, now: Timestamp) -> Result<Decision, Rejection> {
    if order.waits(now).is_some() {
        return Err(Rejection::ApprovalPending(order.id().clone()));
    }
    let (takes_two, change) = match &lift {
        Lift::Whole => (rules.policy.lifting.orders, OrderChange::Lifted),
        Lift::Items(positions) => (rules.policy.lifting.items, OrderChange::ItemsLifted(Arc::clone(positions))),
    };
    if takes_two {
        return Ok(approval::propose_lift(state, order, lift, lapses_at(rules, now), now));
    }
    let (effect, _) = approval::lifting(state, order, &lift, &[], now);
    Ok(Decision::Write(standing_change(order, change), effect))
}

fn lift_items(
    state: &State,
    rules: &Rules,
    order: &Order,
    items: &ItemSource,
    now: Timestamp,
) -> Result<Decision, Rejection> {
    let stands = order.state(now);
    if stands.is_final() || stands == OrderState::PendingApproval {
        return Err(wrong(order, now, "lifted in part"));
    }
    let list = plan::take(state, items)?;
    if list.is_empty() {
        return Err(Rejection::NoItems);
    }
    let positions = super::lift::positions(order, &list)?;
    lift(state, rules, order, Lift::Items(positions.into()), now)
}

fn within(limits: &Limits, items: usize) -> Result<(), Rejection> {
    let (limit, actual) = (limits.items, items as u64);
    if actual > limit { Err(Rejection::TooManyItems { limit, actual }) } else { Ok(()) }
}

/// Whether somebody may stage more: what is staged is held in every replica's memory.
fn stages(
    state: &State,
    limits: &Limits,
    upload: &UploadId,
    items: &ItemChunk,
    by: &Attribution,
) -> Result<(), Rejection> {
    let before = state.upload(upload).map_or(0, |upload| upload.items.len());
    within(limits, before + items.len())?;
    let theirs = |(id, staged): &(&UploadId, &Arc<Upload>)| {
        let first = staged.entries.first();
        *id != upload && first.is_some_and(|(recorded, _)| recorded.by.is_same_person(by))
    };
    let limit = limits.staged_lists;
    // Most have none at all; whoever has many has their limit counted to, not all there is.
    if state.uploads().iter().filter(theirs).take(limit as usize).count() == limit as usize {
        return Err(Rejection::TooManyStagedLists { actor: by.actor.to_string(), limit });
    }
    Ok(())
}
