//! What an authority is told about its order: for each item when effect was given, when that ended and by what.
//!
//! **Sealed** is kept here for others' orders: of them nothing is told but public decisions under own rules.

use std::collections::HashMap;

use jiff::Timestamp;

use crate::domain::event::{Lift, OrderChange};
use crate::domain::holdings::SetNo;
use crate::domain::ids::Subject;
use crate::domain::item::{Disposition, subject_of};
use crate::domain::locator::Resolution;
use crate::domain::order::{Order, OrderState};
use crate::domain::regime::Confidentiality;
use crate::domain::spec::{Instrument, words};
use crate::domain::state::State;

words! {
    /// What ended an order's effect.
    EffectEnd {
        /// It was stayed.
        Stayed = 1 "stayed",
        /// It, or the item, was lifted.
        Lifted = 2 "lifted",
        /// Its own time was over.
        Expired = 3 "expired",
    }
}

/// A time in which an order had effect.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Effect {
    /// Since when.
    pub from: Timestamp,
    /// Until when and by what, if it has ended.
    pub ended: Option<(Timestamp, EffectEnd)>,
}

/// When an order had effect up to a time, oldest first. What is to come is not told.
#[must_use]
pub fn effects(order: &Order, now: Timestamp) -> Vec<Effect> {
    let end = |until: Timestamp| {
        let change = order.later().iter().find_map(|(recorded, change)| match change {
            _ if recorded.at != until => None,
            OrderChange::Stayed => Some(EffectEnd::Stayed),
            _ => (change.lift() == Some(Lift::Whole)).then_some(EffectEnd::Lifted),
        });
        (until, change.unwrap_or(EffectEnd::Expired))
    };
    let past = order.intervals().into_iter().filter(|interval| interval.from <= now);
    past.map(|interval| Effect { from: interval.from, ended: interval.until.filter(|at| *at <= now).map(end) })
        .collect()
}

/// The same for an item that takes effect with the order, and was perhaps lifted on its own.
#[must_use]
pub fn of_item(order: &[Effect], lifted: Option<Timestamp>) -> Vec<Effect> {
    let Some(lifted) = lifted else { return order.to_vec() };
    let before = order.iter().filter(|effect| effect.from < lifted);
    let cut = |effect: &Effect| match effect.ended {
        Some((until, _)) if until <= lifted => *effect,
        _ => Effect { ended: Some((lifted, EffectEnd::Lifted)), ..*effect },
    };
    before.map(cut).collect()
}

/// The cause of a disposition, as a word and a sentence, where an authority is told another than the desk: on which list a
/// protected account is, and that one was overridden, stays here.
#[must_use]
pub const fn told(disposition: Disposition) -> Option<(&'static str, &'static str)> {
    match disposition {
        Disposition::DeclinedProtected(_) => Some((
            "protected",
            "the account is protected: news media, a journalist, an activist, a politician, or the platform's own affairs",
        )),
        Disposition::WithheldByOverride => Some(("", "")),
        Disposition::Withheld
        | Disposition::RemovedOwnRules
        | Disposition::DeclinedByDesk
        | Disposition::Unresolved
        | Disposition::Unsupported
        | Disposition::Duplicate => None,
    }
}

/// Which subjects are also removed under own rules, by a public decision in force: asked for one after another.
#[derive(Debug)]
pub struct AlsoRemoved<'a> {
    state: &'a State,
    order: &'a Order,
    now: Timestamp,
    known: HashMap<SetNo, bool>,
}

impl<'a> AlsoRemoved<'a> {
    /// By other orders than this one.
    #[must_use]
    pub fn beside(state: &'a State, order: &'a Order, now: Timestamp) -> Self {
        Self { state, order, now, known: HashMap::new() }
    }

    /// Whether what an item names is.
    pub fn is(&mut self, resolution: Resolution) -> bool {
        let Some(subject) = subject_of(resolution) else { return false };
        let (state, order, now) = (self.state, self.order, self.now);
        let set = state.holdings().set_of(subject);
        *self.known.entry(set).or_insert_with(|| {
            let public = |confidentiality| confidentiality == Confidentiality::Public;
            removing(state, set, now, public).any(|other| other.number() != order.number())
        })
    }
}

/// The own-rules decisions in force among those that hold a set, of the confidentialities that are wanted.
pub(super) fn removing(
    state: &State,
    set: SetNo,
    now: Timestamp,
    wanted: impl Fn(Confidentiality) -> bool,
) -> impl Iterator<Item = &Order> {
    let orders = state.holdings().orders_in(set).iter().filter_map(move |number| state.order_by_number(*number));
    orders.map(|order| &**order).filter(move |order| {
        order.spec().instrument == Instrument::OwnRules
            && wanted(order.spec().confidentiality)
            && order.state(now) == OrderState::InForce
    })
}

/// How many of an order's subjects, accounts and posts, effect was given for up to a time, and how many it names.
#[must_use]
pub fn extent(order: &Order, now: Timestamp) -> (u64, u64) {
    let effects = effects(order, now);
    let (mut given, mut named) = (0, 0);
    for ((resolution, done), position) in order.items().resolutions().zip(order.dispositions()).zip(0_u32..) {
        if first_naming(resolution, *done).is_none() {
            continue;
        }
        named += 1;
        if done.takes_effect() && had_effect(&effects, order.item_lifted_at(position)) {
            given += 1;
        }
    }
    (given, named)
}

/// Whether an item that takes effect with the order ever did.
pub(super) fn had_effect(order: &[Effect], lifted: Option<Timestamp>) -> bool {
    order.first().is_some_and(|first| lifted.is_none_or(|lifted| first.from < lifted))
}

/// What an item names, if its line is the first to.
pub(super) fn first_naming(resolution: Resolution, done: Disposition) -> Option<Subject> {
    if done == Disposition::Duplicate { None } else { subject_of(resolution) }
}
