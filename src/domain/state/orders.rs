//! What entries about orders change of the state: an order begins, and something happens to it.

use std::sync::Arc;

use super::{State, Touched};
use crate::domain::approval::Proposal;
use crate::domain::event::{Lift, OrderApplied, OrderChange, Recorded};
use crate::domain::ids::{OrderId, Subject};
use crate::domain::item::{Items, subject_of};
use crate::domain::order::{Order, OrderNo};

impl State {
    /// An order is applied, or proposed. Either takes its staged list, so that nothing that waits can lose it.
    pub(super) fn fold_recorded(
        &mut self,
        recorded: Recorded,
        applied: &Arc<OrderApplied>,
        proposal: Option<&Proposal>,
    ) -> Result<Touched, String> {
        let id = &applied.spec.order_id;
        if self.order(id).is_some() {
            return Err(format!("order `{id}` is recorded twice"));
        }
        let mut items = match &applied.upload {
            Some(upload) => {
                self.uploads.get(upload).map(|u| u.items.clone()).ok_or_else(|| format!("no upload `{upload}`"))?
            }
            None => Items::default(),
        };
        items.push(Arc::clone(&applied.items));
        if items.len() != applied.dispositions.len() {
            return Err(format!("{} items, but {} dispositions", items.len(), applied.dispositions.len()));
        }
        let number = OrderNo(u32::try_from(self.orders.len()).map_err(|_| "too many orders".to_owned())?);
        if let Some(upload) = &applied.upload {
            self.drop_upload(upload);
        }
        self.add_order(Order::new(number, recorded, Arc::clone(applied), items, proposal.cloned()));
        Ok(Touched { order: Some(number) })
    }

    pub(super) fn add_order(&mut self, order: Order) {
        let (number, order) = (order.number(), Arc::new(order));
        self.named = self.named.union(order.spec().territory.countries());
        order.elements().for_each(|element| self.fingerprint.add(element));
        self.order_numbers.add(order.id(), number.0, |_| true);
        self.orders.push_back(Arc::clone(&order));
        if order.applied().is_some() {
            self.enter(order);
        }
    }

    /// An order holds its subjects from here on, unless it is lifted, and its times count. What waits for a second person
    /// holds nothing.
    fn enter(&mut self, order: Arc<Order>) {
        for boundary in [order.spec().effective_from, order.spec().expires_at].into_iter().flatten() {
            self.boundaries.insert((boundary, order.number()));
        }
        match &mut self.loading {
            _ if order.is_lifted() => {}
            Some(waiting) => {
                waiting.insert(order.number());
            }
            None => self.holdings.add(&[order], self.threads),
        }
    }

    pub(super) fn fold_changed(
        &mut self,
        recorded: Recorded,
        id: &OrderId,
        change: &OrderChange,
    ) -> Result<Touched, String> {
        let order = Arc::clone(self.order(id).ok_or_else(|| format!("no order `{id}`"))?);
        order.admits(change)?;
        let number = order.number();
        let lifted: Option<Vec<Subject>> = match change.lift() {
            Some(Lift::Whole) => Some(order.effective_items().map(|(_, subject)| subject).collect()),
            Some(Lift::Items(positions)) => {
                let subject =
                    |position: &u32| order.items().get(*position as usize).and_then(|item| subject_of(item.resolution));
                let subjects: Option<Vec<Subject>> = positions.iter().map(subject).collect();
                Some(subjects.ok_or_else(|| format!("order `{id}` has no such items"))?)
            }
            None => None,
        };
        if let Some(subjects) = lifted {
            match &mut self.loading {
                Some(waiting) if waiting.contains(&number) => {
                    if change.lift() == Some(Lift::Whole) {
                        waiting.remove(&number);
                    }
                }
                // Union: only this order lets go of them; the sets keep every other one.
                _ => self.holdings.remove(&order, &subjects, self.threads),
            }
        }
        drop(order);
        if let Some(order) = self.orders.get_mut(number.0 as usize) {
            order.elements().for_each(|element| self.fingerprint.remove(element));
            Arc::make_mut(order).change(recorded, change.clone());
            order.elements().for_each(|element| self.fingerprint.add(element));
        }
        if let OrderChange::Approved(_) = change
            && let Some(order) = self.order_by_number(number).map(Arc::clone)
        {
            self.enter(order);
        }
        Ok(Touched { order: Some(number) })
    }
}
