//! An order: what was demanded, and what has happened to it since.

use std::sync::Arc;

use jiff::Timestamp;

use super::digest::Digest;
use super::event::{OrderApplied, OrderChange, Recorded};
use super::fingerprint::{Element, Key};
use super::ids::{OrderId, UploadId};
use super::item::{Disposition, Items};
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
    }
}

/// Numbers orders in the order they were applied, from 0.
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
    Applied,
    Stayed,
    Lifted,
}

/// An order and all that happened to it.
#[derive(Debug, Clone)]
pub struct Order {
    number: OrderNo,
    applied: Recorded,
    event: Arc<OrderApplied>,
    items: Items,
    key: Key,
    later: Vec<(Recorded, OrderChange)>,
    standing: Standing,
    lifted_items: imbl::OrdMap<u32, Timestamp>,
}

impl Order {
    /// An order as it was applied; `items` are the staged ones and the event's own.
    #[must_use]
    pub fn new(number: OrderNo, applied: Recorded, event: Arc<OrderApplied>, items: Items) -> Self {
        let (key, standing) = (Key::of_order(&event), Standing::Applied);
        Self { number, applied, event, items, key, later: Vec::new(), standing, lifted_items: imbl::OrdMap::new() }
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

    /// Who applied it, when, at which revision.
    #[must_use]
    pub const fn applied(&self) -> &Recorded {
        &self.applied
    }

    /// The event that applied it.
    #[must_use]
    pub const fn applied_event(&self) -> &Arc<OrderApplied> {
        &self.event
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

    /// Its last change, or its application.
    #[must_use]
    pub fn last(&self) -> &Recorded {
        self.later.last().map_or(&self.applied, |(recorded, _)| recorded)
    }

    /// All items.
    #[must_use]
    pub const fn items(&self) -> &Items {
        &self.items
    }

    /// What was done about the item at a position when the order was applied.
    #[must_use]
    pub fn disposition(&self, position: usize) -> Option<Disposition> {
        self.event.dispositions.get(position).copied()
    }

    /// What was done about each item when the order was applied.
    #[must_use]
    pub fn dispositions(&self) -> &[Disposition] {
        &self.event.dispositions
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

    /// Where it stands, as an element of the state's digest.
    pub(crate) fn element(&self) -> Element {
        let standing = match self.standing {
            Standing::Applied => "applied",
            Standing::Stayed => "stayed",
            Standing::Lifted => "lifted",
        };
        self.key.stands(standing, self.last().revision)
    }

    /// Folds in what happened to it.
    pub fn change(&mut self, recorded: Recorded, change: OrderChange) {
        match &change {
            OrderChange::Lifted => self.standing = Standing::Lifted,
            OrderChange::Stayed => self.standing = Standing::Stayed,
            OrderChange::Resumed => self.standing = Standing::Applied,
            OrderChange::ItemsLifted(positions) => {
                for position in positions.iter() {
                    self.lifted_items.insert(*position, recorded.at);
                }
            }
            OrderChange::Correspondence(_) => {}
        }
        self.later.push((recorded, change));
    }

    /// Where it stands at a time not earlier than its last change.
    #[must_use]
    pub fn state(&self, now: Timestamp) -> OrderState {
        match self.standing {
            Standing::Lifted => OrderState::Lifted,
            _ if self.spec().expires_at.is_some_and(|end| end <= now) => OrderState::Expired,
            Standing::Stayed => OrderState::Stayed,
            Standing::Applied if self.starts_at() > now => OrderState::Scheduled,
            Standing::Applied => OrderState::InForce,
        }
    }

    /// When it starts, or started, by itself.
    #[must_use]
    pub fn starts_at(&self) -> Timestamp {
        self.spec().effective_from.map_or(self.applied.at, |from| from.max(self.applied.at))
    }

    /// The items whose subjects are dark while the order is in force.
    pub fn effective_items(&self) -> impl Iterator<Item = (u32, super::ids::Subject)> {
        self.items.resolutions().zip(self.dispositions()).zip(0_u32..).filter_map(|((resolution, done), position)| {
            let dark = done.takes_effect() && !self.lifted_items.contains_key(&position);
            if dark { super::item::subject_of(resolution).map(|subject| (position, subject)) } else { None }
        })
    }

    /// When it was in force, oldest first, as far as its record says.
    #[must_use]
    pub fn intervals(&self) -> Vec<Interval> {
        let mut intervals = Vec::new();
        let mut open = Some(self.starts_at());
        for (recorded, change) in &self.later {
            match (change, open) {
                (OrderChange::Lifted | OrderChange::Stayed, Some(from)) => {
                    intervals.push(Interval { from, until: Some(recorded.at) });
                    open = None;
                }
                (OrderChange::Resumed, None) => open = Some(recorded.at.max(self.starts_at())),
                _ => {}
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
