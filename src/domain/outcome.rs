//! What an order would do on a state: the one computation behind a preview, an application and an approval.

use std::collections::HashSet;

use jiff::Timestamp;

use super::approval::Ground;
use super::digest::{Digest, Digester};
use super::effect::{Effect, Tally, countries_now};
use super::ids::{AccountId, Subject};
use super::item::{Disposition, Items};
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
    seen.reserve(items.len());
    let mut one = |(resolution, is_declined)| {
        let subject = match resolution {
            Resolution::Subject(subject) => subject,
            Resolution::Unresolved(_) => return Disposition::Unresolved,
            Resolution::Unsupported(_) => return Disposition::Unsupported,
        };
        if !seen.insert(subject) {
            return Disposition::Duplicate;
        }
        if is_declined {
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
    let mut dispositions = Vec::with_capacity(items.len());
    items.with_declined().for_each(|item| dispositions.push(one(item)));
    dispositions
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
    let added = spec.territory.countries();
    let mut tally = Tally::new(|set| {
        let before = countries_now(state, set, now);
        (before, before.union(added))
    });
    let mut effective = Vec::new();
    items.dark(dispositions).for_each(|(_, subject)| effective.push(subject));
    let mut effective = effective.iter().zip(state.holdings().sets_of(&effective));
    for disposition in dispositions {
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
        if disposition.takes_effect()
            && let Some((subject, set)) = effective.next()
        {
            let changes = tally.count(*subject, set);
            digest.number(u64::from(!changes));
        }
    }
    let effect = tally.effect();
    effect.digest(&mut digest);
    (effect, digest)
}
