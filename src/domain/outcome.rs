//! What an order would do on a state: the one computation behind a preview, an application and an approval.

use std::collections::{HashMap, HashSet};

use jiff::Timestamp;

use super::approval::Ground;
use super::digest::{Digest, Digester};
use super::effect::{Effect, countries_now};
use super::ids::{AccountId, Subject};
use super::item::{Disposition, Item, Items};
use super::locator::Resolution;
use super::spec::{Instrument, OrderSpec};
use super::state::State;

/// See the module.
#[derive(Clone)]
pub struct Outcome {
    /// What is done about each item.
    pub dispositions: Vec<Disposition>,
    /// What changes for viewers once the order is in force.
    pub effect: Effect,
    digester: Digester,
}

impl Outcome {
    /// Of an order, its defaults filled in, with its items; `content` is their digest as received.
    #[must_use]
    pub fn of(state: &State, spec: &OrderSpec, items: &Items, content: Digest, now: Timestamp) -> Self {
        let dispositions = dispose(state, spec, items);
        let (effect, digester) = effect(state, spec, items, &dispositions, content, now);
        Self { dispositions, effect, digester }
    }

    /// Over everything that is done, and whether it takes two.
    #[must_use]
    pub fn digest(&self, grounds: &[Ground]) -> Digest {
        let mut digest = self.digester.clone();
        grounds.iter().for_each(|ground| digest.text(ground.as_str()));
        digest.finish()
    }
}

/// What is done about each item. The platform's own decisions are not declined for protection: it is theirs to make.
fn dispose(state: &State, spec: &OrderSpec, items: &Items) -> Vec<Disposition> {
    let own = spec.instrument == Instrument::OwnRules;
    let overridden: HashSet<AccountId> =
        spec.protected_override.iter().flat_map(|o| o.accounts.iter().copied()).collect();
    let mut seen: HashSet<Subject, foldhash::fast::FixedState> = HashSet::default();
    let mut one = |item: Item<'_>| {
        let subject = match item.resolution {
            Resolution::Subject(subject) => subject,
            Resolution::Unresolved(_) => return Disposition::Unresolved,
            Resolution::Unsupported(_) => return Disposition::Unsupported,
        };
        if !seen.insert(subject) {
            return Disposition::Duplicate;
        }
        if item.decline_reason.is_some() {
            return Disposition::DeclinedByDesk;
        }
        match subject {
            Subject::Account(id) if !own => match state.protection(id) {
                None => Disposition::Withheld,
                Some(_) if overridden.contains(&id) => Disposition::WithheldByOverride,
                Some(protection) => Disposition::DeclinedProtected(protection.category),
            },
            _ if own => Disposition::RemovedOwnRules,
            _ => Disposition::Withheld,
        }
    };
    items.iter().map(&mut one).collect()
}

/// What changes for viewers once the order is in force, and the digest of that with all else that applying does.
fn effect(
    state: &State,
    spec: &OrderSpec,
    items: &Items,
    dispositions: &[Disposition],
    content: Digest,
    now: Timestamp,
) -> (Effect, Digester) {
    let mut digest = Digester::new("withheld order outcome 1");
    digest.text(content.as_bytes());
    spec.territory.countries().codes().iter().for_each(|code| digest.text(code));
    digest.text(spec.confidentiality.as_str());
    let mut effect = Effect::default();
    let mut known = HashMap::new();
    let added = spec.territory.countries();
    for (resolution, disposition) in items.resolutions().zip(dispositions) {
        digest.number(match disposition {
            Disposition::Withheld => 1,
            Disposition::RemovedOwnRules => 2,
            Disposition::DeclinedByDesk => 3,
            Disposition::DeclinedProtected(category) => 16 + *category as u64,
            Disposition::Unresolved => 4,
            Disposition::Unsupported => 5,
            Disposition::Duplicate => 6,
            Disposition::WithheldByOverride => 7,
        });
        let (true, Resolution::Subject(subject)) = (disposition.takes_effect(), resolution) else { continue };
        let set = state.holdings().set_of(subject);
        let before = *known.entry(set).or_insert_with(|| countries_now(state, set, now));
        let after = before.union(added);
        effect.count(subject, before, after);
        digest.number(u64::from(before == after));
    }
    effect.digest(&mut digest);
    (effect, digest)
}
