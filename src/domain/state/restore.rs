//! A state from the parts that a snapshot keeps, many at once where that is quicker.

use std::sync::Arc;

use jiff::Timestamp;

use super::State;
use crate::domain::approval::Proposal;
use crate::domain::digest::Digest;
use crate::domain::event::{Event, Lift, OrderApplied, OrderChange, Recorded};
use crate::domain::holdings::Held;
use crate::domain::ids::{AccountId, RequestId, Revision};
use crate::domain::item::Items;
use crate::domain::order::{Order, OrderNo};
use crate::domain::protection::Protection;
use crate::subject_map::Changes;

/// Puts a state together again from the parts a snapshot keeps; the result is what folding the entries gave.
#[derive(Default)]
pub struct Restore {
    state: State,
    /// What the orders hold that is not among the holdings yet: many at once take a fraction of the time.
    held: Vec<Held>,
    subjects: usize,
}

/// So many subjects are put among the holdings at once.
const AT_ONCE: usize = 1 << 20;

impl Restore {
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
        if items.len() != event.dispositions.len() || self.state.order_numbers.contains_key(&event.spec.order_id) {
            return Err(format!("order `{}` does not fit", event.spec.order_id));
        }
        let number = OrderNo(u32::try_from(self.state.orders.len()).map_err(|_| "too many orders".to_owned())?);
        let mut order = Order::new(number, recorded, event, items, proposal);
        let mut lifted = false;
        for (recorded, change) in later {
            order.admits(&change)?;
            lifted |= change.lift() == Some(Lift::Whole);
            order.change(recorded, change);
        }
        if order.applied().is_some() {
            self.state.bound(&order);
            if !lifted {
                self.held.push(Held::by(&order));
                self.subjects += self.held.last().map_or(0, |held| held.subjects.len());
            }
        }
        self.state.keep_order(order);
        if self.subjects >= AT_ONCE {
            self.hold();
        }
        Ok(())
    }

    fn hold(&mut self) {
        self.state.holdings.add(&std::mem::take(&mut self.held));
        self.subjects = 0;
        while self.state.tidy(Changes::Many) {}
    }

    /// A chunk of a staged list.
    ///
    /// # Errors
    /// Never by itself.
    pub fn staged(&mut self, recorded: Recorded, event: &Event) -> Result<(), String> {
        self.state.fold(recorded, event).map(|_| ())
    }

    /// A place on the protected list.
    pub fn protection(&mut self, account: AccountId, protection: Protection) {
        self.state.put_protection(account, protection);
    }

    /// A remembered command; oldest first.
    pub fn request(&mut self, id: RequestId, digest: Digest, revision: Revision) {
        self.state.remember(id, digest, revision);
    }

    /// The state after the entry at `revision`, which was written at `at`.
    #[must_use]
    pub fn finish(mut self, revision: Revision, at: Timestamp) -> State {
        self.hold();
        (self.state.revision, self.state.at) = (revision, at);
        self.state
    }
}
