//! Which orders hold which subjects.
//!
//! Each subject has the number of a *holding set*: the orders that would withhold it were they all in force. Subjects
//! named by the same orders share a set, so an order's standing changes a few sets and no subject.
//!
//! **Union** is kept here: taking an order out of a subject's set leaves the others in it.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use super::finder::Finder;
use super::fingerprint::{Element, Fingerprint, Key};
use super::ids::Subject;
use super::order::{Order, OrderNo};
use super::share::Share;
use crate::subject_map::{Changes, SubjectMap};

/// So many subjects are looked up together.
const TOGETHER: usize = 1_024;

/// It pays to start a thread for so many.
const WORTH_A_THREAD: usize = 25_000;

/// Of so many threads, those that are worth it for so many subjects.
fn threads_for(subjects: usize, threads: usize) -> usize {
    threads.min(subjects / WORTH_A_THREAD).max(1)
}

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

/// What one thread counts, on cache lines of its own: two that write to the same line would wait for each other all the time.
#[derive(Debug, Clone, Default)]
#[repr(align(128))]
struct Counted(Fingerprint);

/// Takes subjects from set to set: what one thread of that keeps to itself.
struct Steps<'a, N> {
    holders: &'a [Holder],
    changed: &'a mut Counted,
    /// Of each holder, the set that subjects of none get, which most are.
    from_none: Vec<Option<SetNo>>,
    from_others: HashMap<(u32, SetNo), SetNo>,
    next: N,
    element: fn(Key, u64) -> Element,
}

impl<'a, N: Fn(&Holder, SetNo) -> SetNo> Steps<'a, N> {
    fn new(holders: &'a [Holder], changed: &'a mut Counted, next: N, element: fn(Key, u64) -> Element) -> Self {
        let (from_none, from_others) = (vec![None; holders.len()], HashMap::new());
        Self { holders, changed, from_none, from_others, next, element }
    }

    fn step(&mut self, id: u64, by: u32, set: SetNo) -> SetNo {
        let Some(holder) = self.holders.get(by as usize) else { return set };
        let next = match self.from_none.get_mut(by as usize) {
            Some(next) if set == 0 => *next.get_or_insert_with(|| (self.next)(holder, set)),
            _ => *self.from_others.entry((by, set)).or_insert_with(|| (self.next)(holder, set)),
        };
        if next != set {
            self.changed.0.add((self.element)(holder.key, id));
        }
        next
    }

    fn by(mut self) -> impl FnMut(u64, u32, SetNo) -> SetNo {
        move |id, by, set| self.step(id, by, set)
    }
}

/// See the module. A clone shares everything.
#[derive(Debug, Clone, Default)]
pub struct Holdings {
    accounts: SubjectMap,
    posts: SubjectMap,
    sets: imbl::Vector<Arc<[OrderNo]>>,
    /// Of sets, by the orders in them.
    numbers: Finder,
    /// By order, the sets it is in; up to the last that is in any.
    containing: imbl::Vector<imbl::Vector<SetNo>>,
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

    /// The sets of many subjects, in their order, sooner than one by one.
    #[must_use]
    pub fn sets_of(&self, subjects: &[Subject]) -> Vec<SetNo> {
        let mut sets = vec![0; subjects.len()];
        for (subjects, sets) in subjects.chunks(TOGETHER).zip(sets.chunks_mut(TOGETHER)) {
            let mut find = |map: &SubjectMap, id: fn(&Subject) -> u64| {
                let ids: Vec<u64> = subjects.iter().map(id).collect();
                for (at, set) in map.find(&ids) {
                    if let Some(to) = sets.get_mut(at) {
                        *to = set;
                    }
                }
            };
            // No subject has the id 0.
            find(&self.accounts, |subject| if let Subject::Account(id) = subject { id.get() } else { 0 });
            find(&self.posts, |subject| if let Subject::Post(id) = subject { id.get() } else { 0 });
        }
        sets
    }

    /// The orders in a set, oldest first.
    #[must_use]
    pub fn orders_in(&self, set: SetNo) -> &[OrderNo] {
        set.checked_sub(1).and_then(|at| self.sets.get(at as usize)).map_or(&[], |orders| orders)
    }

    /// The sets that an order is in.
    pub fn sets_with(&self, order: OrderNo) -> impl Iterator<Item = SetNo> {
        self.containing.get(order.0 as usize).into_iter().flatten().copied()
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

    /// Orders hold all their items that take effect. Many orders at once take a fraction of the time; so many threads share
    /// in what is a lot.
    pub(crate) fn add<O: AsRef<Order> + Sync>(&mut self, orders: &[O], threads: usize) {
        let with = |orders: &[OrderNo], order: OrderNo| {
            let mut orders = orders.to_vec();
            if let Err(at) = orders.binary_search(&order) {
                orders.insert(at, order);
            }
            orders
        };
        let holders: Vec<Holder> = orders.iter().map(|order| Holder::of(order.as_ref())).collect();
        let orders = || (0..).zip(orders.iter().map(AsRef::as_ref));
        let shares = || Share::each(threads_for(orders().map(|(_, order)| order.items().len()).sum(), threads));
        let accounts = shares()
            .map(|share| orders().flat_map(move |(by, order)| order.effective_accounts(share).map(move |id| (id, by))));
        let posts = shares()
            .map(|share| orders().flat_map(move |(by, order)| order.effective_posts(share).map(move |id| (id, by))));
        self.transit(&holders, accounts.collect(), posts.collect(), with, |all, more| *all = all.and(more));
    }

    /// An order does not hold these subjects any more; others may.
    pub(crate) fn remove(&mut self, order: &Order, subjects: &[Subject], threads: usize) {
        let without =
            |orders: &[OrderNo], order: OrderNo| orders.iter().copied().filter(|other| *other != order).collect();
        let account = |subject: &Subject| if let Subject::Account(id) = subject { Some((id.get(), 0)) } else { None };
        let post = |subject: &Subject| if let Subject::Post(id) = subject { Some((id.get(), 0)) } else { None };
        let each = subjects.len().div_ceil(threads_for(subjects.len(), threads)).max(1);
        let shares = || subjects.chunks(each);
        let accounts = shares().map(|subjects| subjects.iter().filter_map(account)).collect();
        let posts = shares().map(|subjects| subjects.iter().filter_map(post)).collect();
        let count = |all: &mut Fingerprint, less| *all = all.without(less);
        self.transit(&[Holder::of(order)], accounts, posts, without, count);
    }

    /// Each subject gets the set that `change` makes of the one it is in and its holder, of which it has the place. There are
    /// as many threads as parts.
    fn transit(
        &mut self,
        holders: &[Holder],
        of_accounts: Vec<impl Iterator<Item = (u64, u32)> + Clone + Send>,
        of_posts: Vec<impl Iterator<Item = (u64, u32)> + Clone + Send>,
        change: impl Fn(&[OrderNo], OrderNo) -> Vec<OrderNo> + Sync,
        count: impl Fn(&mut Fingerprint, Fingerprint),
    ) {
        let (mut accounts, mut posts) = (std::mem::take(&mut self.accounts), std::mem::take(&mut self.posts));
        // Counted are those that get another set: the order was not in theirs and now is, or the other way round.
        let mut changed = vec![Counted::default(); of_accounts.len() + of_posts.len()];
        let (changed_accounts, changed_posts) = changed.split_at_mut(of_accounts.len());
        let sets = Mutex::new(&mut *self);
        let next = |holder: &Holder, set: SetNo| {
            let mut sets = sets.lock().unwrap_or_else(PoisonError::into_inner);
            let orders = change(sets.orders_in(set), holder.order);
            sets.number_of(orders)
        };
        let account = |changed| Steps::new(holders, changed, &next, Key::holds_account).by();
        accounts.update_in_parts(of_accounts, changed_accounts.iter_mut().map(account).collect());
        let post = |changed| Steps::new(holders, changed, &next, Key::holds_post).by();
        posts.update_in_parts(of_posts, changed_posts.iter_mut().map(post).collect());
        changed.into_iter().for_each(|Counted(changed)| count(&mut self.fingerprint, changed));
        (self.accounts, self.posts) = (accounts, posts);
    }

    fn number_of(&mut self, orders: Vec<OrderNo>) -> SetNo {
        if orders.is_empty() {
            return 0;
        }
        if let Some(set) = self.numbers.find(&*orders, |set| self.orders_in(set) == orders) {
            return set;
        }
        let set = self.last_set().saturating_add(1);
        self.numbers.add(&*orders, set, |_| true);
        for order in &orders {
            while self.containing.len() <= order.0 as usize {
                self.containing.push_back(imbl::Vector::new());
            }
            if let Some(sets) = self.containing.get_mut(order.0 as usize) {
                sets.push_back(set);
            }
        }
        self.sets.push_back(orders.into());
        set
    }
}
