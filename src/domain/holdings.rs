//! Which orders hold which subjects.
//!
//! Each subject has the number of a *holding set*: the orders that would withhold it were they all in force. Subjects
//! named by the same orders share a set, so an order's standing changes a few sets and no subject.
//!
//! **Union** is kept here: taking an order out of a subject's set leaves the others in it.

use std::collections::HashMap;
use std::sync::Arc;

use super::fingerprint::{Element, Fingerprint, Key};
use super::ids::Subject;
use super::order::{Order, OrderNo};
use crate::subject_map::{Changes, SubjectMap};

/// Numbers a holding set; 0 is the empty one.
pub type SetNo = u32;

/// Who holds: an order, and what its elements of the state's digest are hashed under.
struct Holder {
    order: OrderNo,
    key: Key,
}

impl Holder {
    const fn of(order: &Order) -> Self {
        Self { order: order.number(), key: order.key() }
    }
}

/// See the module. A clone shares everything.
#[derive(Debug, Clone, Default)]
pub struct Holdings {
    accounts: SubjectMap,
    posts: SubjectMap,
    sets: imbl::Vector<Arc<[OrderNo]>>,
    numbers: imbl::HashMap<Arc<[OrderNo]>, SetNo>,
    containing: imbl::HashMap<OrderNo, imbl::Vector<SetNo>>,
    /// Of every order with every subject it holds.
    fingerprint: Fingerprint,
}

impl Holdings {
    /// The set of a subject.
    #[must_use]
    pub fn set_of(&self, subject: Subject) -> SetNo {
        match subject {
            Subject::Account(id) => self.accounts.get(id.get()),
            Subject::Post(id) => self.posts.get(id.get()),
        }
    }

    /// The orders in a set, oldest first.
    #[must_use]
    pub fn orders_in(&self, set: SetNo) -> &[OrderNo] {
        set.checked_sub(1).and_then(|at| self.sets.get(at as usize)).map_or(&[], |orders| orders)
    }

    /// The sets that an order is in.
    pub fn sets_with(&self, order: OrderNo) -> impl Iterator<Item = SetNo> {
        self.containing.get(&order).into_iter().flatten().copied()
    }

    /// The greatest set number given out so far.
    #[must_use]
    pub fn last_set(&self) -> SetNo {
        SetNo::try_from(self.sets.len()).unwrap_or(SetNo::MAX)
    }

    /// Account ids to sets, to be shared with readers.
    #[must_use]
    pub const fn accounts(&self) -> &SubjectMap {
        &self.accounts
    }

    /// Post ids to sets, to be shared with readers.
    #[must_use]
    pub const fn posts(&self) -> &SubjectMap {
        &self.posts
    }

    /// What of the maps is to be put in order, if anything is.
    pub(crate) fn untidy(&self) -> Option<Changes> {
        self.accounts.untidy().max(self.posts.untidy())
    }

    /// Puts a part of it in order.
    pub(crate) fn tidy(&mut self, which: Changes) {
        for map in [&mut self.accounts, &mut self.posts].into_iter().filter(|map| map.untidy() >= Some(which)) {
            map.tidy(which);
        }
    }

    /// Of all that is held, for the state's digest.
    pub(crate) const fn fingerprint(&self) -> Fingerprint {
        self.fingerprint
    }

    /// Orders hold all their items that take effect. Many orders at once take a fraction of the time.
    pub(crate) fn add<O: AsRef<Order>>(&mut self, orders: &[O]) {
        let with = |orders: &[OrderNo], order: OrderNo| {
            let mut orders = orders.to_vec();
            if let Err(at) = orders.binary_search(&order) {
                orders.insert(at, order);
            }
            orders
        };
        let holders: Vec<Holder> = orders.iter().map(|order| Holder::of(order.as_ref())).collect();
        let subjects = (0_u32..)
            .zip(orders)
            .flat_map(|(by, order)| order.as_ref().effective_items().map(move |(_, subject)| (by, subject)));
        self.transit(&holders, subjects, with, |all, more| *all = all.and(more));
    }

    /// An order does not hold these subjects any more; others may.
    pub(crate) fn remove(&mut self, order: &Order, subjects: &[Subject]) {
        let without =
            |orders: &[OrderNo], order: OrderNo| orders.iter().copied().filter(|other| *other != order).collect();
        let subjects = subjects.iter().map(|subject| (0, *subject));
        self.transit(&[Holder::of(order)], subjects, without, |all, less| *all = all.without(less));
    }

    /// Each subject gets the set that `change` makes of the one it is in and its holder, of which it has the place.
    fn transit(
        &mut self,
        holders: &[Holder],
        subjects: impl Iterator<Item = (u32, Subject)> + Clone,
        change: impl Fn(&[OrderNo], OrderNo) -> Vec<OrderNo>,
        count: impl Fn(&mut Fingerprint, Fingerprint),
    ) {
        let (mut accounts, mut posts) = (std::mem::take(&mut self.accounts), std::mem::take(&mut self.posts));
        // Most are held by nobody before, or come from one other set.
        let mut from_none = vec![None; holders.len()];
        let mut from_others = HashMap::new();
        let mut next = |by: u32, holder: &Holder, set: SetNo| {
            let known = match from_none.get_mut(by as usize) {
                Some(known) if set == 0 => known,
                _ => from_others.entry((by, set)).or_default(),
            };
            *known.get_or_insert_with(|| self.number_of(change(self.orders_in(set), holder.order)))
        };
        // Counted are those that get another set: the order was not in theirs and now is, or the other way round.
        let mut changed = Fingerprint::default();
        let mut step = |by: u32, set: SetNo, element: &dyn Fn(Key) -> Element| {
            let Some(holder) = holders.get(by as usize) else { return set };
            let next = next(by, holder, set);
            if next != set {
                changed.add(element(holder.key));
            }
            next
        };
        let account = |(by, subject)| if let Subject::Account(id) = subject { Some((id.get(), by)) } else { None };
        let post = |(by, subject)| if let Subject::Post(id) = subject { Some((id.get(), by)) } else { None };
        accounts
            .update(subjects.clone().filter_map(account), |id, by, set| step(by, set, &|key| key.holds_account(id)));
        posts.update(subjects.filter_map(post), |id, by, set| step(by, set, &|key| key.holds_post(id)));
        count(&mut self.fingerprint, changed);
        (self.accounts, self.posts) = (accounts, posts);
    }

    fn number_of(&mut self, orders: Vec<OrderNo>) -> SetNo {
        if orders.is_empty() {
            return 0;
        }
        let orders: Arc<[OrderNo]> = orders.into();
        if let Some(number) = self.numbers.get(&orders) {
            return *number;
        }
        self.sets.push_back(Arc::clone(&orders));
        let number = self.last_set();
        for order in orders.iter() {
            self.containing.entry(*order).or_default().push_back(number);
        }
        self.numbers.insert(orders, number);
        number
    }
}
