//! What has to be done about an order by when.
//!
//! Passing a deadline changes nothing by itself: overdue is an alarm, never an automatic lift.

use jiff::Timestamp;

use super::event::OrderChange;
use super::order::{Order, OrderState};
use super::spec::{CorrespondenceKind, words};

words! {
    /// What an order is due for.
    Deadline {
        /// Effect must be given.
        ComplyBy = 1 "comply_by",
        /// Its review must be held.
        ReviewDueAt = 2 "review_due_at",
        /// What waits for a second person lapses.
        ApprovalExpiresAt = 3 "approval_expires_at",
        /// The order ends by itself.
        ExpiresAt = 4 "expires_at",
    }
}

/// A deadline of an order.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Due {
    /// What it is due for.
    pub deadline: Deadline,
    /// When.
    pub at: Timestamp,
}

impl Due {
    /// Whether that time has passed.
    #[must_use]
    pub fn is_overdue(&self, now: Timestamp) -> bool {
        self.at <= now
    }
}

/// What is still due about an order at a time not earlier than its last change.
pub fn of(order: &Order, now: Timestamp) -> impl Iterator<Item = Due> {
    let spec = order.spec();
    let stands = order.state(now);
    let ends = if stands.is_final() || stands == OrderState::PendingApproval { None } else { spec.expires_at };
    [
        (Deadline::ComplyBy, spec.comply_by.filter(|by| is_unanswered(order, stands, *by))),
        (Deadline::ReviewDueAt, spec.review_due_at.filter(|_| !stands.is_final() && !is_reviewed(order))),
        (Deadline::ApprovalExpiresAt, order.waits(now).and_then(|_| order.approval_lapses_at())),
        (Deadline::ExpiresAt, ends),
    ]
    .into_iter()
    .filter_map(|(deadline, at)| at.map(|at| Due { deadline, at }))
}

/// Whether the demand waits for an answer that will not come in time by itself.
///
/// It is answered once effect was given, be it late: when is in the record, and an alarm could change nothing about it. An
/// order that starts by itself in time needs nobody. One of which every item is declined was answered by declining. One
/// that was rejected, ended, or lapsed unapproved is final: if the demand stands, it comes back under another id. One that
/// is stayed is suspended, and so is its deadline.
fn is_unanswered(order: &Order, stands: OrderState, comply_by: Timestamp) -> bool {
    let late = match stands {
        OrderState::PendingApproval => true,
        OrderState::Scheduled => order.starts_at() > comply_by,
        OrderState::InForce
        | OrderState::Stayed
        | OrderState::Lifted
        | OrderState::Expired
        | OrderState::Rejected
        | OrderState::ExpiredUnapproved => false,
    };
    late && order.dispositions().iter().any(|done| done.takes_effect())
}

/// Whether its review has been held, as its correspondence says.
fn is_reviewed(order: &Order) -> bool {
    order.later().iter().any(|(_, change)| {
        matches!(change, OrderChange::Correspondence(letter) if letter.kind == CorrespondenceKind::ReviewHeld)
    })
}
