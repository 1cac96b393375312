//! Which subjects' lists differ between what a reader was told last and what is published now.
//!
//! **Sealed**: a reader is sent a list only if it is another one than it was. An order that changes no list, because it starts
//! later, waits for a second person, or withholds what is withheld anyway, is in no message, however it came to be.
//!
//! Between two publications that this process has made, the two indexes tell. For a reader who comes back from further away
//! the orders' own records do, as of the revision that it was told of: they reach back for ever.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use foldhash::fast::RandomState;
use jiff::Timestamp;
use tokio::sync::Mutex;

use crate::api::compute;
use crate::api::status::ServiceError;
use crate::domain::country::CountrySet;
use crate::domain::event::{Lift, OrderChange};
use crate::domain::ids::{Revision, Subject};
use crate::domain::item::subject_of;
use crate::domain::order::{Order, OrderState};
use crate::domain::state::State;
use crate::replica::Published;

/// What a reader has been told of: everything up to a revision, and every start and end up to and including a time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Told {
    pub(super) revision: Revision,
    pub(super) at: Timestamp,
}

impl Told {
    /// All of a publication.
    pub(super) fn of(published: &Published) -> Self {
        Self { revision: published.index.revision(), at: published.index.made_at() }
    }

    /// A revision of before. A start or an end may have come without a new revision since: nothing is taken for told that is
    /// not surely.
    pub(super) fn upto(state: &State, revision: Revision) -> Self {
        let up_to = |order: &Order| {
            let recorded = std::iter::once(order.recorded()).chain(order.later().iter().map(|(recorded, _)| recorded));
            recorded.filter(|r| r.revision <= revision).map(|r| r.at).max()
        };
        let at = state.orders().iter().filter_map(|order| up_to(order)).max().unwrap_or(Timestamp::MIN);
        Self { revision, at }
    }
}

type Subjects = Arc<[Subject]>;

/// What differs between the last two publications, worked out once for all readers that have read everything.
#[derive(Debug, Default)]
pub struct News(Mutex<Option<(Told, Told, Subjects)>>);

impl News {
    /// The subjects whose lists differ between two publications.
    pub(super) async fn between(&self, old: &Arc<Published>, new: &Arc<Published>) -> Result<Subjects, ServiceError> {
        let (from, to) = (Told::of(old), Told::of(new));
        let mut latest = self.0.lock().await;
        match &*latest {
            Some((known_from, known_to, subjects)) if (*known_from, *known_to) == (from, to) => {
                return Ok(Arc::clone(subjects));
            }
            // Who comes from further back keeps nobody waiting.
            Some((_, known_to, _)) if *known_to != from => {
                drop(latest);
                return differing(old, new).await;
            }
            Some(_) | None => {}
        }
        let subjects = differing(old, new).await?;
        *latest = Some((from, to, Arc::clone(&subjects)));
        Ok(subjects)
    }
}

async fn differing(old: &Arc<Published>, new: &Arc<Published>) -> Result<Subjects, ServiceError> {
    let (old, new) = (Arc::clone(old), Arc::clone(new));
    compute(move || {
        let told = Told::of(&old);
        let mut subjects = Vec::new();
        for order in new.state.orders().iter().filter(|order| may_differ(order, told, new.index.made_at())) {
            let items = order.items().resolutions().zip(order.dispositions());
            let dark =
                items.filter(|(_, done)| done.takes_effect()).filter_map(|(resolution, _)| subject_of(resolution));
            subjects.extend(dark.filter(|subject| old.index.countries(*subject) != new.index.countries(*subject)));
        }
        sorted(subjects)
    })
    .await
}

/// The subjects whose lists differ between what was told once and a publication.
pub(super) async fn since(told: Told, published: &Arc<Published>) -> Result<Subjects, ServiceError> {
    let published = Arc::clone(published);
    compute(move || {
        let (state, now) = (&published.state, published.index.made_at());
        // Of the orders that may differ, where they withheld each of their subjects then.
        let mut then: HashMap<Subject, CountrySet, RandomState> = HashMap::default();
        for order in state.orders().iter().filter(|order| may_differ(order, told, now)) {
            let countries =
                if was_in_force(order, told) { order.spec().territory.countries() } else { CountrySet::EMPTY };
            let lifted = lifted(order, told);
            let items = order.items().resolutions().zip(order.dispositions()).zip(0_u32..);
            for ((resolution, _), position) in items.filter(|((_, done), _)| done.takes_effect()) {
                let Some(subject) = subject_of(resolution) else { continue };
                let withheld = if lifted.contains(&position) { CountrySet::EMPTY } else { countries };
                let known = then.entry(subject).or_insert(CountrySet::EMPTY);
                *known = known.union(withheld);
            }
        }
        // The others withhold now what they did then.
        let holdings = state.holdings();
        let by_others = |subject: Subject| {
            let orders =
                holdings.orders_in(holdings.set_of(subject)).iter().filter_map(|at| state.order_by_number(*at));
            let same = orders.filter(|order| !may_differ(order, told, now) && order.state(now) == OrderState::InForce);
            same.fold(CountrySet::EMPTY, |all, order| all.union(order.spec().territory.countries()))
        };
        let differs = |(subject, withheld): (Subject, CountrySet)| {
            (withheld.union(by_others(subject)) != published.index.countries(subject)).then_some(subject)
        };
        sorted(then.into_iter().filter_map(differs).collect())
    })
    .await
}

fn sorted(mut subjects: Vec<Subject>) -> Subjects {
    subjects.sort_unstable();
    subjects.dedup();
    subjects.into()
}

/// Whether an order may withhold something else than it did: it changed, or it has started or ended by itself.
fn may_differ(order: &Order, told: Told, now: Timestamp) -> bool {
    let passed = |at: Option<Timestamp>| at.is_some_and(|at| told.at < at && at <= now);
    let by_itself = passed(order.spec().effective_from) || passed(order.spec().expires_at);
    order.applied().is_some() && (order.last().revision > told.revision || by_itself)
}

/// Whether an order was in force when that was told.
fn was_in_force(order: &Order, told: Told) -> bool {
    let Some(applied) = order.applied().filter(|applied| applied.revision <= told.revision) else { return false };
    let started = order.spec().effective_from.is_none_or(|from| from.max(applied.at) <= told.at);
    let ended = order.spec().expires_at.is_some_and(|end| end <= told.at);
    let stands = order.later().iter().filter(|(recorded, _)| recorded.revision <= told.revision).fold(
        true,
        |stands, (_, change)| match change {
            OrderChange::Stayed => false,
            OrderChange::Resumed => true,
            change => stands && change.lift() != Some(Lift::Whole),
        },
    );
    started && !ended && stands
}

/// The positions of an order's items that were lifted on their own by then.
fn lifted(order: &Order, told: Told) -> HashSet<u32, RandomState> {
    let by_then = order.later().iter().filter(|(recorded, _)| recorded.revision <= told.revision);
    let positions = by_then.filter_map(|(_, change)| match change.lift() {
        Some(Lift::Items(positions)) => Some(positions),
        Some(Lift::Whole) | None => None,
    });
    positions.flat_map(|positions| positions.iter().copied().collect::<Vec<_>>()).collect()
}
