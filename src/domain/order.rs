//! An order: what was demanded, and what has happened to it since.

use std::sync::Arc;

use jiff::Timestamp;

use super::approval::{Approval, Proposal, Proposed, Verdict};
use super::digest::Digest;
use super::event::{Lift, OrderApplied, OrderChange, Recorded};
use super::fingerprint::{Element, Key};
use super::ids::{OrderId, Subject, UploadId};
use super::item::{Disposition, Items};
use super::share::Share;
use super::spec::{OrderSpec, words};

words! {
    /// Where an order stands.
    OrderState {
        /// Applied; its effective-from time is still to come.
        Scheduled = 1 "scheduled",
        /// Withholding now.
        InForce = 2 "in_force",
        /// Suspended; may resume.
        Stayed = 3 "stayed",
        /// Ended by the desk.
        Lifted = 4 "lifted",
        /// Ended by its own expires-at time.
        Expired = 5 "expired",
        /// Waits for a second person; withholds nothing.
        PendingApproval = 6 "pending_approval",
        /// Somebody said no, or it was withdrawn, before it withheld anything. Final.
        Rejected = 7 "rejected",
        /// Nobody approved it in time; it never withheld anything. Final.
        ExpiredUnapproved = 8 "expired_unapproved",
    }
}

impl OrderState {
    /// Whether nothing can come of the order any more.
    #[must_use]
    pub const fn is_final(self) -> bool {
        match self {
            Self::Lifted | Self::Expired | Self::Rejected | Self::ExpiredUnapproved => true,
            Self::Scheduled | Self::InForce | Self::Stayed | Self::PendingApproval => false,
        }
    }
}

/// Numbers orders in the order they were recorded, from 0.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct OrderNo(pub(crate) u32);

/// From one time up to, not including, another.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Interval {
    /// The beginning.
    pub from: Timestamp,
    /// The end, if it has one.
    pub until: Option<Timestamp>,
}

impl Interval {
    /// Whether a time lies in it.
    #[must_use]
    pub fn contains(&self, at: Timestamp) -> bool {
        self.from <= at && self.until.is_none_or(|until| at < until)
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Standing {
    Pending,
    Applied,
    Stayed,
    Lifted,
    Rejected,
}

/// An order and all that happened to it.
#[derive(Debug, Clone)]
pub struct Order {
    number: OrderNo,
    recorded: Recorded,
    event: Arc<OrderApplied>,
    items: Items,
    /// As last decided: when it was applied, proposed, or approved.
    dispositions: Arc<[Disposition]>,
    key: Key,
    later: Vec<(Recorded, OrderChange)>,
    standing: Standing,
    /// Where in `later` it was approved, if that took two and was done.
    approved: Option<usize>,
    /// What the desk decided when it was proposed, if it was.
    first_proposal: Option<Proposal>,
    /// Few have one, and it takes more room than all the rest.
    approval: Option<Box<Approval>>,
    lifted_items: imbl::OrdMap<u32, Timestamp>,
}

impl Order {
    /// An order as it was recorded: in force, or, if it was proposed, waiting for a second person.
    #[must_use]
    pub fn new(
        number: OrderNo,
        recorded: Recorded,
        event: Arc<OrderApplied>,
        items: Items,
        proposal: Option<Proposal>,
    ) -> Self {
        let of_apply = |proposal: &Proposal| {
            let (proposed, proposal) = (recorded.clone(), proposal.clone());
            Box::new(Approval { of: Proposed::Apply, proposed, proposal, decided: None })
        };
        Self {
            number,
            items,
            dispositions: Arc::clone(&event.dispositions),
            key: Key::of_order(&event),
            event,
            later: Vec::new(),
            standing: if proposal.is_some() { Standing::Pending } else { Standing::Applied },
            approved: None,
            approval: proposal.as_ref().map(of_apply),
            first_proposal: proposal,
            lifted_items: imbl::OrdMap::new(),
            recorded,
        }
    }

    /// Its number.
    #[must_use]
    pub const fn number(&self) -> OrderNo {
        self.number
    }

    /// The desk's name for it.
    #[must_use]
    pub fn id(&self) -> &OrderId {
        &self.event.spec.order_id
    }

    /// What was demanded.
    #[must_use]
    pub fn spec(&self) -> &OrderSpec {
        &self.event.spec
    }

    /// Its first entry, which applied or proposed it: who, when, at which revision.
    #[must_use]
    pub const fn recorded(&self) -> &Recorded {
        &self.recorded
    }

    /// The entry that applied it: its first, or its approval. `None` if it waits, or never was.
    #[must_use]
    pub fn applied(&self) -> Option<&Recorded> {
        match self.standing {
            Standing::Pending | Standing::Rejected => None,
            Standing::Applied | Standing::Stayed | Standing::Lifted => match self.approved {
                Some(at) => self.later.get(at).map(|(recorded, _)| recorded),
                None => Some(&self.recorded),
            },
        }
    }

    /// The order and its items as they were first recorded.
    #[must_use]
    pub const fn event(&self) -> &Arc<OrderApplied> {
        &self.event
    }

    /// If it was proposed first: what the desk decided then.
    #[must_use]
    pub const fn first_proposal(&self) -> Option<&Proposal> {
        self.first_proposal.as_ref()
    }

    /// The last change of it that took two.
    #[must_use]
    pub fn approval(&self) -> Option<&Approval> {
        self.approval.as_deref()
    }

    /// When that lapses, or has lapsed, unless somebody decides: nothing waits for longer than the order itself lasts.
    #[must_use]
    pub fn approval_lapses_at(&self) -> Option<Timestamp> {
        let lapses = self.approval.as_ref()?.proposal.expires_at;
        Some(self.spec().expires_at.map_or(lapses, |end| end.min(lapses)))
    }

    /// What waits for a second person at a time not earlier than its last change.
    #[must_use]
    pub fn waits(&self, now: Timestamp) -> Option<&Approval> {
        let approval = self.approval().filter(|approval| approval.decided.is_none())?;
        let open = self.standing != Standing::Lifted && self.approval_lapses_at().is_some_and(|end| now < end);
        open.then_some(approval)
    }

    /// The digest of the order and its items as received.
    #[must_use]
    pub fn content(&self) -> Digest {
        self.event.content
    }

    /// The staged list it took.
    #[must_use]
    pub fn upload(&self) -> Option<&UploadId> {
        self.event.upload.as_ref()
    }

    /// What happened to it since, oldest first.
    #[must_use]
    pub fn later(&self) -> &[(Recorded, OrderChange)] {
        &self.later
    }

    /// Its last change, or its first entry.
    #[must_use]
    pub fn last(&self) -> &Recorded {
        self.later.last().map_or(&self.recorded, |(recorded, _)| recorded)
    }

    /// All items.
    #[must_use]
    pub const fn items(&self) -> &Items {
        &self.items
    }

    /// What was done about the item at a position when the order was applied; as proposed, as long as it waits.
    #[must_use]
    pub fn disposition(&self, position: usize) -> Option<Disposition> {
        self.dispositions.get(position).copied()
    }

    /// What was done about each item when the order was applied; as proposed, as long as it waits.
    #[must_use]
    pub fn dispositions(&self) -> &[Disposition] {
        &self.dispositions
    }

    /// When the item at a position was lifted on its own, if it was.
    #[must_use]
    pub fn item_lifted_at(&self, position: u32) -> Option<Timestamp> {
        self.lifted_items.get(&position).copied()
    }

    /// How many items were lifted on their own.
    #[must_use]
    pub fn items_lifted(&self) -> usize {
        self.lifted_items.len()
    }

    /// What its elements of the state's digest are hashed under.
    pub(crate) const fn key(&self) -> Key {
        self.key
    }

    /// Where it stands and what waits, as elements of the state's digest.
    pub(crate) fn elements(&self) -> impl Iterator<Item = Element> {
        let standing = match self.standing {
            Standing::Pending => "pending",
            Standing::Applied => "applied",
            Standing::Stayed => "stayed",
            Standing::Lifted => "lifted",
            Standing::Rejected => "rejected",
        };
        let undecided = self.approval.as_ref().filter(|approval| approval.decided.is_none());
        let waits = undecided.map(|approval| {
            let what = match &approval.of {
                Proposed::Apply => "apply",
                Proposed::Lift(Lift::Whole) => "lift",
                Proposed::Lift(Lift::Items(_)) => "lift items",
            };
            self.key.waits(what, approval.proposed.revision, approval.proposal.expires_at)
        });
        std::iter::once(self.key.stands(standing, self.last().revision)).chain(waits)
    }

    /// Whether a change may come next, as far as the fold depends on it.
    ///
    /// # Errors
    /// What does not fit.
    pub(crate) fn admits(&self, change: &OrderChange) -> Result<(), String> {
        let waits = |wanted: fn(&Proposed) -> bool| {
            self.approval.as_ref().is_some_and(|approval| approval.decided.is_none() && wanted(&approval.of))
        };
        let fits = match change {
            OrderChange::Approved(dispositions) => {
                waits(|of| *of == Proposed::Apply) && dispositions.len() == self.items.len()
            }
            OrderChange::LiftApproved(_) => waits(|of| *of != Proposed::Apply),
            OrderChange::Rejected => waits(|_| true),
            OrderChange::Lifted
            | OrderChange::ItemsLifted(_)
            | OrderChange::Stayed
            | OrderChange::Resumed
            | OrderChange::LiftProposed(..) => self.applied().is_some(),
            OrderChange::Correspondence(_) => true,
        };
        if fits { Ok(()) } else { Err(format!("order `{}` does not stand so that this can come next", self.id())) }
    }

    /// Folds in what happened to it.
    pub fn change(&mut self, recorded: Recorded, change: OrderChange) {
        match change.lift() {
            Some(Lift::Whole) => self.standing = Standing::Lifted,
            Some(Lift::Items(positions)) => {
                for position in positions.iter() {
                    self.lifted_items.insert(*position, recorded.at);
                }
            }
            None => {}
        }
        let mut decided = |verdict| {
            if let Some(approval) = &mut self.approval {
                approval.decided = Some((recorded.clone(), verdict));
            }
        };
        match &change {
            OrderChange::Stayed => self.standing = Standing::Stayed,
            OrderChange::Resumed => self.standing = Standing::Applied,
            OrderChange::Approved(dispositions) => {
                decided(Verdict::Approved);
                self.dispositions = Arc::clone(dispositions);
                (self.standing, self.approved) = (Standing::Applied, Some(self.later.len()));
            }
            OrderChange::Rejected => {
                decided(Verdict::Rejected);
                if self.standing == Standing::Pending {
                    self.standing = Standing::Rejected;
                }
            }
            OrderChange::LiftProposed(lift, proposal) => {
                let (of, proposal) = (Proposed::Lift(lift.clone()), proposal.clone());
                let approval = Approval { of, proposed: recorded.clone(), proposal, decided: None };
                self.approval = Some(Box::new(approval));
            }
            OrderChange::LiftApproved(_) => decided(Verdict::Approved),
            OrderChange::Lifted | OrderChange::ItemsLifted(_) | OrderChange::Correspondence(_) => {}
        }
        self.later.push((recorded, change));
    }

    /// Whether all of it was lifted.
    pub(crate) const fn is_lifted(&self) -> bool {
        matches!(self.standing, Standing::Lifted)
    }

    /// Where it stands at a time not earlier than its last change.
    #[must_use]
    pub fn state(&self, now: Timestamp) -> OrderState {
        match self.standing {
            Standing::Rejected => OrderState::Rejected,
            Standing::Pending if self.waits(now).is_some() => OrderState::PendingApproval,
            Standing::Pending => OrderState::ExpiredUnapproved,
            Standing::Lifted => OrderState::Lifted,
            _ if self.spec().expires_at.is_some_and(|end| end <= now) => OrderState::Expired,
            Standing::Stayed => OrderState::Stayed,
            Standing::Applied if self.starts_at() > now => OrderState::Scheduled,
            Standing::Applied => OrderState::InForce,
        }
    }

    /// When it starts, or started, by itself; while it waits, when it would start if it were approved at once.
    #[must_use]
    pub fn starts_at(&self) -> Timestamp {
        let applied = self.applied().unwrap_or(&self.recorded).at;
        self.spec().effective_from.map_or(applied, |from| from.max(applied))
    }

    /// The items whose subjects are dark while the order is in force.
    pub fn effective_items(&self) -> impl Iterator<Item = (u32, Subject)> + Clone {
        self.not_lifted(self.items.dark(&self.dispositions))
    }

    /// The accounts among them, of a share of all items.
    pub(super) fn effective_accounts(&self, share: Share) -> impl Iterator<Item = u64> + Clone {
        self.not_lifted(self.items.dark_accounts(&self.dispositions, share.after(self.number.0 as usize)))
            .map(|(_, id)| id)
    }

    /// The posts among them.
    pub(super) fn effective_posts(&self, share: Share) -> impl Iterator<Item = u64> + Clone {
        self.not_lifted(self.items.dark_posts(&self.dispositions, share.after(self.number.0 as usize)))
            .map(|(_, id)| id)
    }

    fn not_lifted<T>(&self, items: impl Iterator<Item = (u32, T)> + Clone) -> impl Iterator<Item = (u32, T)> + Clone {
        let lifted = Some(&self.lifted_items).filter(|lifted| !lifted.is_empty());
        items.filter(move |(position, _)| lifted.is_none_or(|lifted| !lifted.contains_key(position)))
    }

    /// When it was in force, oldest first, as far as its record says.
    #[must_use]
    pub fn intervals(&self) -> Vec<Interval> {
        let mut intervals = Vec::new();
        let mut open = self.applied().map(|_| self.starts_at());
        for (recorded, change) in &self.later {
            let ends = *change == OrderChange::Stayed || change.lift() == Some(Lift::Whole);
            if let (true, Some(from)) = (ends, open) {
                intervals.push(Interval { from, until: Some(recorded.at) });
                open = None;
            }
            if *change == OrderChange::Resumed && open.is_none() {
                open = Some(recorded.at.max(self.starts_at()));
            }
        }
        intervals.extend(open.map(|from| Interval { from, until: None }));
        clip(intervals, self.spec().expires_at)
    }

    /// When the item at a position was dark by this order, oldest first.
    #[must_use]
    pub fn item_intervals(&self, position: u32) -> Vec<Interval> {
        match self.disposition(position as usize) {
            Some(done) if done.takes_effect() => clip(self.intervals(), self.item_lifted_at(position)),
            _ => Vec::new(),
        }
    }
}

/// Cuts intervals off at an end, dropping those that are empty by it.
fn clip(intervals: Vec<Interval>, end: Option<Timestamp>) -> Vec<Interval> {
    let cut = |interval: Interval| match (interval.until, end) {
        (Some(until), Some(end)) => Interval { until: Some(until.min(end)), ..interval },
        (until, end) => Interval { until: until.or(end), ..interval },
    };
    intervals.into_iter().map(cut).filter(|i| i.until.is_none_or(|until| i.from < until)).collect()
}
