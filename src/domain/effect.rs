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
    fn count(&mut self, subject: Subject) {
        match subject {
            Subject::Account(_) => self.accounts += 1,
            Subject::Post(_) => self.posts += 1,
        }
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
    /// Counts a subject that is dark in `before` and will be in `after`.
    pub fn count(&mut self, subject: Subject, before: CountrySet, after: CountrySet) {
        let (dark, back) = (after.minus(before), before.minus(after));
        if dark.is_empty() && back.is_empty() {
            self.unchanged += 1;
            return;
        }
        self.changed.count(subject);
        for code in dark.codes().into_iter().chain(back.codes()) {
            self.countries.entry(code).or_default().count(subject);
        }
    }
}

impl Effect {
    /// Adds what changes where to a digest.
    pub(super) fn digest(&self, digest: &mut Digester) {
        for (code, change) in &self.countries {
            digest.text(code);
            digest.number(change.accounts);
            digest.number(change.posts);
        }
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
    let mut effect = Effect::default();
    let mut known = HashMap::new();
    for subject in subjects {
        let set = state.holdings().set_of(subject);
        let (before, after) = *known.entry(set).or_insert_with(|| {
            (dark_in(state, set, now, order, from_force), dark_in(state, set, now, order, to_force))
        });
        effect.count(subject, before, after);
    }
    effect
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
