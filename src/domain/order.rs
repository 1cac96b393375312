//! An order: what was demanded, and what has happened to it since.

use std::sync::Arc;

use jiff::Timestamp;

use super::digest::Digest;
use super::event::{OrderApplied, OrderChange, Recorded};
use super::ids::{OrderId, UploadId};
use super::item::{Disposition, Items};
use super::regime::Confidentiality;
use super::territory::Territory;

macro_rules! words {
    ($(#[$doc:meta])* $name:ident { $($(#[$vdoc:meta])* $variant:ident = $number:literal $word:literal),* $(,)? }) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub enum $name { $($(#[$vdoc])* $variant),* }

        impl $name {
            /// The word for it in files and reports.
            #[must_use]
            pub const fn as_str(self) -> &'static str {
                match self { $(Self::$variant => $word),* }
            }

            /// Its number in stored and sent messages.
            #[must_use]
            pub const fn number(self) -> u32 {
                match self { $(Self::$variant => $number),* }
            }

            /// From its number in stored and sent messages.
            #[must_use]
            pub const fn from_number(number: u32) -> Option<Self> {
                match number { $($number => Some(Self::$variant),)* _ => None }
            }
        }
    };
}

words! {
    /// How a demand was made.
    Instrument {
        /// A court's order.
        CourtOrder = 1 "court_order",
        /// An authority's order.
        ExecutiveOrder = 2 "executive_order",
        /// To be confirmed by review.
        EmergencyInterimOrder = 3 "emergency_interim_order",
        /// A request without the force of an order.
        AgencyRequest = 4 "agency_request",
        /// The platform's own decision, recorded the same way.
        OwnRules = 5 "own_rules",
    }
}
words! {
    /// What viewers are told an order rests on.
    Basis {
        /// A court or an authority demanded it.
        LegalDemand = 1 "legal_demand",
        /// A report under a local law.
        LocalLaw = 2 "local_law",
        /// A copyright notice.
        Copyright = 3 "copyright",
        /// The platform's own rules.
        OwnRules = 4 "own_rules",
    }
}
words! {
    /// What kind of letter or talk about an order.
    CorrespondenceKind {
        /// The authority says that the order was not complied with.
        NonComplianceNotice = 1 "non_compliance_notice",
        /// The platform asks what is meant.
        ClarificationAsked = 2 "clarification_asked",
        /// The platform answers.
        ReplySent = 3 "reply_sent",
        /// They met.
        Meeting = 4 "meeting",
        /// Anything else.
        Other = 5 "other",
    }
}
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

/// What was written or said about an order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Correspondence {
    /// What kind.
    pub kind: CorrespondenceKind,
    /// When it was sent, received or held.
    pub at: Timestamp,
    /// What it says.
    pub text: String,
    /// Its own reference.
    pub external_ref: String,
}

/// A demand as recorded: defaults filled in, territory expanded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OrderSpec {
    /// The desk's name for it.
    pub order_id: OrderId,
    /// How it was made.
    pub instrument: Instrument,
    /// Who demands it.
    pub issuing_authority: String,
    /// The provisions it rests on; at least one.
    pub legal_basis: Vec<String>,
    /// The authority's reference; empty if unknown.
    pub external_ref: String,
    /// The regime its defaults came from.
    pub regime: Option<String>,
    /// Where it holds.
    pub territory: Territory,
    /// Who may know of it.
    pub confidentiality: Confidentiality,
    /// How many items the letter states.
    pub specified_items: Option<u64>,
    /// What viewers are told.
    pub basis: Basis,
    /// When it was issued.
    pub issued_at: Option<Timestamp>,
    /// When the platform got it.
    pub received_at: Timestamp,
    /// By when effect must be given.
    pub comply_by: Option<Timestamp>,
    /// By when it must be reviewed; passing it ends nothing.
    pub review_due_at: Option<Timestamp>,
    /// When it starts by itself.
    pub effective_from: Option<Timestamp>,
    /// When it ends by itself.
    pub expires_at: Option<Timestamp>,
    /// Where it is published.
    pub public_notice_url: Option<Arc<str>>,
    /// Why, confidentially; empty if not said.
    pub confidential_reason: String,
    /// How to seek redress; empty if not said.
    pub redress: String,
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
    later: Vec<(Recorded, OrderChange)>,
    standing: Standing,
    lifted_items: imbl::OrdMap<u32, Timestamp>,
}

impl Order {
    /// An order as it was applied; `items` are the staged ones and the event's own.
    #[must_use]
    pub fn new(number: OrderNo, applied: Recorded, event: Arc<OrderApplied>, items: Items) -> Self {
        let standing = Standing::Applied;
        Self { number, applied, event, items, later: Vec::new(), standing, lifted_items: imbl::OrdMap::new() }
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
