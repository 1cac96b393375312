//! What is withheld where, by scanning a history from its first entry, as the README and `proto/withheld/v1` say it: an
//! order holds in its territory from the later of its entry and its `effective_from`, up to its `expires_at`, unless it
//! is stayed or lifted; an item is withheld unless its account was protected when the order was applied, and until it is
//! lifted; a subject is withheld where any order withholds it. Shares no code with the state, the holdings or the index.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use jiff::Timestamp;
use withheld::domain::event::{Event, OrderChange};
use withheld::domain::ids::{AccountId, Subject};
use withheld::domain::locator::Resolution;
use withheld::domain::territory::Territory;

use crate::chain::Link;

struct Told {
    codes: Vec<&'static str>,
    starts: Timestamp,
    ends: Option<Timestamp>,
    stayed: bool,
    lifted: bool,
    /// Each line's subject, while the order withholds it.
    lines: Vec<Option<Subject>>,
}

/// Where a subject is withheld at a time, by a history: codes of countries, `XX` for everywhere.
pub struct Oracle {
    orders: BTreeMap<String, Told>,
    /// When orders start or end by themselves.
    boundaries: BTreeSet<Timestamp>,
}

impl Oracle {
    /// Of a history.
    ///
    /// # Errors
    /// Says what in it cannot be: an order applied twice, an item withheld that was to be declined.
    pub fn of(path: &[Arc<Link>]) -> Result<Self, String> {
        let mut orders: BTreeMap<String, Told> = BTreeMap::new();
        let mut protected: BTreeSet<AccountId> = BTreeSet::new();
        let mut boundaries = BTreeSet::new();
        for link in path {
            let entry = link.entry.as_ref().ok_or_else(|| format!("{} does not decode", link.position.revision))?;
            match &entry.event {
                Event::JournalCreated { .. } => {}
                Event::AccountsProtected(accounts) => protected.extend(accounts.iter().map(|(id, _)| *id)),
                Event::AccountsUnprotected(accounts) => protected.retain(|id| !accounts.contains(id)),
                Event::OrderApplied(applied) => {
                    let spec = &applied.spec;
                    let codes = match &spec.territory {
                        Territory::Worldwide => vec!["XX"],
                        Territory::Countries(set) | Territory::Group { countries: set, .. } => set.codes(),
                    };
                    let mut named = BTreeSet::new();
                    let mut lines = Vec::new();
                    for (item, done) in applied.items.iter().zip(applied.dispositions.iter()) {
                        let Resolution::Subject(subject) = item.resolution else {
                            return Err(format!("{} names what is no subject", spec.order_id));
                        };
                        let declined = matches!(subject, Subject::Account(id) if protected.contains(&id));
                        let withheld = named.insert(subject) && !declined;
                        if withheld != done.takes_effect() {
                            return Err(format!("{}: {subject} is {done:?}", spec.order_id));
                        }
                        lines.push(withheld.then_some(subject));
                    }
                    let starts = spec.effective_from.map_or(entry.at, |from| from.max(entry.at));
                    boundaries.extend([spec.effective_from, spec.expires_at].into_iter().flatten());
                    let ends = spec.expires_at;
                    let told = Told { codes, starts, ends, stayed: false, lifted: false, lines };
                    if orders.insert(spec.order_id.to_string(), told).is_some() {
                        return Err(format!("{} is applied twice", spec.order_id));
                    }
                }
                Event::OrderChanged { order, change } => {
                    let told = orders.get_mut(order.as_str()).ok_or_else(|| format!("{order} was never applied"))?;
                    let over = told.lifted || told.ends.is_some_and(|end| end <= entry.at);
                    if over {
                        return Err(format!("{order} is over, and {change:?}"));
                    }
                    match change {
                        OrderChange::Lifted => told.lifted = true,
                        OrderChange::Stayed if !told.stayed => told.stayed = true,
                        OrderChange::Resumed if told.stayed => told.stayed = false,
                        OrderChange::ItemsLifted(positions) => {
                            for at in positions.iter() {
                                let line = told.lines.get_mut(*at as usize).and_then(Option::take);
                                line.ok_or_else(|| format!("{order} does not withhold its line {at}"))?;
                            }
                        }
                        other => return Err(format!("{order}: {other:?} cannot be")),
                    }
                }
                other => return Err(format!("nobody asked for {other:?}")),
            }
        }
        Ok(Self { orders, boundaries })
    }

    /// Where it is withheld.
    pub fn codes(&self, subject: Subject, at: Timestamp) -> BTreeSet<&'static str> {
        let in_force =
            |told: &&Told| !told.lifted && !told.stayed && told.starts <= at && told.ends.is_none_or(|end| at < end);
        let holding = |told: &&Told| told.lines.contains(&Some(subject));
        self.orders.values().filter(in_force).filter(holding).flat_map(|told| told.codes.iter().copied()).collect()
    }

    /// Whether an order starts or ends by itself after one time and up to another.
    pub fn changes_within(&self, after: Timestamp, upto: Timestamp) -> bool {
        after < upto && self.boundaries.range(after..=upto).any(|at| *at > after)
    }
}
