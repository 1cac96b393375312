//! A state from the parts that a snapshot keeps, many at once where that is quicker.

use std::sync::Arc;

use jiff::Timestamp;

use super::State;
use crate::domain::approval::Proposal;
use crate::domain::digest::Digest;
use crate::domain::event::{Event, OrderApplied, OrderChange, Recorded};
use crate::domain::format::Format;
use crate::domain::ids::{AccountId, RequestId, Revision};
use crate::domain::item::Items;
use crate::domain::order::{Order, OrderNo};
use crate::domain::protection::Protection;

/// Puts a state together again from the parts a snapshot keeps; the result is what folding the entries gave.
pub struct Restore(State);

impl Restore {
    /// Of nothing yet; so many threads share in what is a lot.
    #[must_use]
    pub fn new(threads: usize) -> Self {
        Self(State::default().loading(threads))
    }

    /// The journal's format.
    pub fn format(&mut self, format: Format) {
        self.0.put_format(format);
    }

    /// An order with what happened to it; orders come in the order they were recorded.
    ///
    /// # Errors
    /// If the parts do not fit together.
    pub fn order(
        &mut self,
        recorded: Recorded,
        event: Arc<OrderApplied>,
        proposal: Option<Proposal>,
        later: Vec<(Recorded, OrderChange)>,
    ) -> Result<(), String> {
        let mut items = Items::default();
        items.push(Arc::clone(&event.items));
        if items.len() != event.dispositions.len() || self.0.order(&event.spec.order_id).is_some() {
            return Err(format!("order `{}` does not fit", event.spec.order_id));
        }
        let number = OrderNo(u32::try_from(self.0.orders.len()).map_err(|_| "too many orders".to_owned())?);
        let mut order = Order::new(number, recorded, event, items, proposal);
        for (recorded, change) in later {
            order.admits(&change)?;
            order.change(recorded, change);
        }
        self.0.add_order(order);
        Ok(())
    }

    /// A chunk of a staged list.
    ///
    /// # Errors
    /// Never by itself.
    pub fn staged(&mut self, recorded: Recorded, event: &Event) -> Result<(), String> {
        self.0.fold(recorded, event).map(|_| ())
    }

    /// A place on the protected list.
    pub fn protection(&mut self, account: AccountId, protection: Protection) {
        self.0.put_protection(account, protection);
    }

    /// A remembered command; oldest first.
    pub fn request(&mut self, id: RequestId, digest: Digest, revision: Revision, at: Option<Timestamp>) {
        self.0.requests.put(id, digest, revision, at);
    }

    /// The state after the entry at `revision`, which was written at `at`.
    #[must_use]
    pub fn finish(mut self, revision: Revision, at: Timestamp) -> State {
        self.0.settle();
        (self.0.revision, self.0.at) = (revision, at);
        self.0
    }
}
