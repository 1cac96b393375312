//! What a command changes for viewers: which subjects go dark or come back, and where.

use std::collections::{BTreeMap, HashMap};

use jiff::Timestamp;

use super::country::CountrySet;
use super::digest::Digester;
use super::holdings::SetNo;
use super::ids::Subject;
use super::order::{OrderNo, OrderState};
use super::state::State;

/// Accounts and posts whose visibility changes in a country.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Change {
    /// Accounts.
    pub accounts: u64,
    /// Posts.
    pub posts: u64,
}

impl Change {
    const fn count(&mut self, subject: Subject) {
        match subject {
            Subject::Account(_) => self.accounts += 1,
            Subject::Post(_) => self.posts += 1,
        }
    }

    const fn add(&mut self, more: Self) {
        self.accounts += more.accounts;
        self.posts += more.posts;
    }
}

/// See the module.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Effect {
    /// Subjects that change somewhere.
    pub changed: Change,
    /// Subjects that change nowhere, because another order withholds them all the same.
    pub unchanged: u64,
    /// By country code, `XX` for worldwide.
    pub countries: BTreeMap<&'static str, Change>,
}

impl Effect {
    /// Counts subjects that are dark in `before` and will be in `after`.
    fn count(&mut self, subjects: Change, before: CountrySet, after: CountrySet) {
        let (dark, back) = (after.minus(before), before.minus(after));
        if dark.is_empty() && back.is_empty() {
            self.unchanged += subjects.accounts + subjects.posts;
            return;
        }
        self.changed.add(subjects);
        for code in dark.codes().into_iter().chain(back.codes()) {
            self.countries.entry(code).or_default().add(subjects);
        }
    }

    /// Adds what changes where to a digest.
    pub(super) fn digest(&self, digest: &mut Digester) {
        for (code, change) in &self.countries {
            digest.text(code);
            digest.number(change.accounts);
            digest.number(change.posts);
        }
    }
}

/// Subjects of a set.
struct OfSet {
    set: SetNo,
    before: CountrySet,
    after: CountrySet,
    subjects: Change,
}

/// Counts subjects by the set they are in: what changes for one of them changes for all.
pub(super) struct Tally<F> {
    /// Where those of a set are dark, and will be.
    change: F,
    sets: Vec<OfSet>,
    places: HashMap<SetNo, usize>,
    /// Where the one before was counted: most are of the same set as that.
    last: usize,
}

impl<F: Fn(SetNo) -> (CountrySet, CountrySet)> Tally<F> {
    pub(super) fn new(change: F) -> Self {
        Self { change, sets: Vec::new(), places: HashMap::new(), last: 0 }
    }

    /// Counts one. Gives whether anything changes for it.
    pub(super) fn count(&mut self, subject: Subject, set: SetNo) -> bool {
        if self.sets.get(self.last).is_none_or(|last| last.set != set) {
            self.last = *self.places.entry(set).or_insert_with(|| {
                let (before, after) = (self.change)(set);
                self.sets.push(OfSet { set, before, after, subjects: Change::default() });
                self.sets.len() - 1
            });
        }
        self.sets.get_mut(self.last).is_some_and(|of_set| {
            of_set.subjects.count(subject);
            of_set.before != of_set.after
        })
    }

    pub(super) fn effect(self) -> Effect {
        let mut effect = Effect::default();
        self.sets.into_iter().for_each(|of_set| effect.count(of_set.subjects, of_set.before, of_set.after));
        effect
    }
}

/// Where the orders of a set withhold at a time, one order's standing being supposed.
fn dark_in(state: &State, set: SetNo, now: Timestamp, supposed: OrderNo, in_force: bool) -> CountrySet {
    state.holdings().orders_in(set).iter().filter_map(|number| state.order_by_number(*number)).fold(
        CountrySet::EMPTY,
        |dark, order| {
            let holds = if order.number() == supposed { in_force } else { order.state(now) == OrderState::InForce };
            if holds { dark.union(order.spec().territory.countries()) } else { dark }
        },
    )
}

/// What changes for these subjects when an order that holds them goes in or out of force.
#[must_use]
pub fn of_standing(
    state: &State,
    order: OrderNo,
    subjects: impl Iterator<Item = Subject>,
    from_force: bool,
    to_force: bool,
    now: Timestamp,
) -> Effect {
    let dark = |set, in_force| dark_in(state, set, now, order, in_force);
    let mut tally = Tally::new(|set| (dark(set, from_force), dark(set, to_force)));
    let subjects: Vec<Subject> = subjects.collect();
    for (subject, set) in subjects.iter().zip(state.holdings().sets_of(&subjects)) {
        tally.count(*subject, set);
    }
    tally.effect()
}

/// Where a subject is dark at a time by the orders known now.
#[must_use]
pub fn countries_now(state: &State, set: SetNo, now: Timestamp) -> CountrySet {
    state
        .holdings()
        .orders_in(set)
        .iter()
        .filter_map(|number| state.order_by_number(*number))
        .filter(|order| order.state(now) == OrderState::InForce)
        .fold(CountrySet::EMPTY, |dark, order| dark.union(order.spec().territory.countries()))
}
