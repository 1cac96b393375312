//! What happened: the only things that ever change the state.

use std::sync::Arc;

use jiff::Timestamp;

use super::approval::{Proposal, same_person};
use super::digest::Digest;
use super::format::Format;
use super::ids::{AccountId, JournalId, OrderId, RequestId, Revision, UploadId};
use super::item::{Disposition, ItemChunk};
use super::protection::Category;
use super::spec::{Correspondence, OrderSpec};

/// How it is known who acted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Identity {
    /// The human being or program behind the name: one person may have several.
    pub person: Arc<str>,
    /// By what: a certificate, a token, a JWT; never the secret itself.
    pub credential: Arc<str>,
}

/// Who did something, and why.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Attribution {
    /// The person or system that acted: as they are known, or, where nobody is asked, as they say.
    pub actor: Arc<str>,
    /// How that is known; `None` where nobody is asked.
    pub identity: Option<Identity>,
    /// Why; empty where no reason was asked for and none given.
    pub reason: Arc<str>,
    /// The command, by which a repetition is known.
    pub request_id: RequestId,
    /// What the command said, by which a repetition is told from another command under the same id.
    pub request_digest: Digest,
}

impl Attribution {
    /// Whether the same person did both, under whatever name.
    #[must_use]
    pub fn is_same_person(&self, other: &Self) -> bool {
        let names = |by: &Self| [Some(by.actor.clone()), by.identity.as_ref().map(|identity| identity.person.clone())];
        let (ours, theirs) = (names(self), names(other));
        ours.iter().flatten().any(|one| theirs.iter().flatten().any(|other| same_person(one, other)))
    }
}

/// One thing that happened, as the journal keeps it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// When, to the microsecond; never earlier than the entry before.
    pub at: Timestamp,
    /// Who and why.
    pub by: Attribution,
    /// What.
    pub event: Event,
}

/// What happened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// A chunk of a list was staged.
    ItemsStaged {
        /// The list.
        upload: UploadId,
        /// The next lines of it.
        items: Arc<ItemChunk>,
    },
    /// Staged lists that no order used were thrown away.
    UploadsDiscarded(Vec<UploadId>),
    /// An order was applied.
    OrderApplied(Arc<OrderApplied>),
    /// An order was proposed: it waits for a second person.
    OrderProposed {
        /// The order, with the dispositions of the time.
        order: Arc<OrderApplied>,
        /// Why it waits, and how long.
        proposal: Proposal,
    },
    /// Something happened to an order.
    OrderChanged {
        /// Which.
        order: OrderId,
        /// What.
        change: OrderChange,
    },
    /// Accounts were put on the protected list, or moved on it.
    AccountsProtected(Vec<(AccountId, Category)>),
    /// Accounts were taken off the protected list.
    AccountsUnprotected(Vec<AccountId>),
    /// The journal was created: its first entry.
    JournalCreated {
        /// What its entries may be written in.
        format: Format,
        /// What makes it unlike any other.
        id: JournalId,
    },
    /// From here on entries may be written in this format.
    JournalUpgraded(Format),
}

impl Event {
    /// The format that it lets entries be written in from here on, if it is about that.
    #[must_use]
    pub const fn format(&self) -> Option<Format> {
        match self {
            Self::JournalCreated { format, .. } | Self::JournalUpgraded(format) => Some(*format),
            Self::ItemsStaged { .. }
            | Self::UploadsDiscarded(_)
            | Self::OrderApplied(_)
            | Self::OrderProposed { .. }
            | Self::OrderChanged { .. }
            | Self::AccountsProtected(_)
            | Self::AccountsUnprotected(_) => None,
        }
    }
}

/// An order was applied.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OrderApplied {
    /// The order, with defaults filled in and its territory expanded.
    pub spec: OrderSpec,
    /// The staged list it takes.
    pub upload: Option<UploadId>,
    /// Items that came with it, after the staged ones.
    pub items: Arc<ItemChunk>,
    /// One for each item.
    pub dispositions: Arc<[Disposition]>,
    /// The order and its items as received.
    pub content: Digest,
}

/// What can happen to an order after it was applied.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum OrderChange {
    /// Ended for good.
    Lifted,
    /// Ended for the items at these positions, ascending from 0.
    ItemsLifted(Arc<[u32]>),
    /// Suspended.
    Stayed,
    /// Back in force.
    Resumed,
    /// Something was written about it.
    Correspondence(Correspondence),
    /// A second person approved that it be applied: what is done about each item.
    Approved(Arc<[Disposition]>),
    /// Somebody rejected what waited for a second person, the order or its lifting.
    Rejected,
    /// Its lifting was proposed.
    LiftProposed(Lift, Proposal),
    /// A second person approved that.
    LiftApproved(Lift),
}

/// What of an order is lifted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Lift {
    /// All of it.
    Whole,
    /// The items at these positions, ascending from 0.
    Items(Arc<[u32]>),
}

impl OrderChange {
    /// What it lifts, if it does, whether it took one or two.
    #[must_use]
    pub fn lift(&self) -> Option<Lift> {
        match self {
            Self::Lifted => Some(Lift::Whole),
            Self::ItemsLifted(positions) => Some(Lift::Items(Arc::clone(positions))),
            Self::LiftApproved(lift) => Some(lift.clone()),
            Self::Stayed
            | Self::Resumed
            | Self::Correspondence(_)
            | Self::Approved(_)
            | Self::Rejected
            | Self::LiftProposed(..) => None,
        }
    }
}

/// An entry's place and author, without what happened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Recorded {
    /// Where in the journal.
    pub revision: Revision,
    /// When.
    pub at: Timestamp,
    /// Who and why.
    pub by: Attribution,
}
