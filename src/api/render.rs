//! Domain values to responses.

use std::collections::BTreeMap;

use jiff::Timestamp;

use crate::domain::country::CountrySet;
use crate::domain::effect::Effect;
use crate::domain::event::{OrderChange, Recorded};
use crate::domain::ids::Subject;
use crate::domain::item::{Disposition, Item, subject_of};
use crate::domain::locator::{Resolution, Unsupported};
use crate::domain::order::{Interval, Order, OrderState};
use crate::domain::protection::Category;
use crate::domain::regime::Confidentiality;
use crate::domain::spec::{Correspondence, Instrument, OrderSpec};
use crate::domain::state::State;
use crate::domain::territory::Territory;
use crate::index::Notice;
use crate::pb::v1 as pb;
use crate::replica::Freshness;

pub(super) fn time(at: Timestamp) -> prost_types::Timestamp {
    prost_types::Timestamp { seconds: at.as_second(), nanos: at.subsec_nanosecond() }
}

pub(super) fn freshness(revision: crate::domain::ids::Revision, freshness: Freshness) -> pb::Freshness {
    let liveness = if freshness.live { pb::Liveness::Live } else { pb::Liveness::Stale };
    pb::Freshness {
        revision: revision.get(),
        age: prost_types::Duration::try_from(freshness.age).ok(),
        liveness: liveness.into(),
    }
}

pub(super) fn subject(subject: Subject) -> pb::Subject {
    let subject = match subject {
        Subject::Account(id) => pb::subject::Subject::AccountId(id.get()),
        Subject::Post(id) => pb::subject::Subject::PostId(id.get()),
    };
    pb::Subject { subject: Some(subject) }
}

pub(super) const fn scope(subject: Subject) -> pb::Scope {
    match subject {
        Subject::Account(_) => pb::Scope::User,
        Subject::Post(_) => pb::Scope::Status,
    }
}

pub(super) fn withholding(notice: &Notice, subject: Subject) -> pb::Withholding {
    let (scope, word) = match subject {
        Subject::Account(_) => (pb::Scope::User, "user"),
        Subject::Post(_) => (pb::Scope::Status, "status"),
    };
    pb::Withholding {
        basis: notice.basis.map_or(0, |basis| i32::try_from(basis.number()).unwrap_or_default()),
        scope: scope.into(),
        notice_key: format!("withheld.{word}.{}", notice.basis.map_or("generic", |basis| basis.as_str())),
        public_notice_url: notice.public_notice_url.as_deref().map(str::to_owned),
        valid_until: notice.valid_until.map(time),
    }
}

pub(super) fn countries(subject: Subject, countries: CountrySet) -> pb::WithheldCountries {
    use pb::withheld_countries::Subject as Pb;
    pb::WithheldCountries {
        subject: Some(match subject {
            Subject::Account(id) => Pb::AccountId(id.get()),
            Subject::Post(id) => Pb::PostId(id.get()),
        }),
        country_codes: codes(countries),
        scope: scope(subject).into(),
    }
}

pub(super) fn codes(countries: CountrySet) -> Vec<String> {
    countries.codes().into_iter().map(str::to_owned).collect()
}

pub(super) fn effect(effect: &Effect) -> pb::Effect {
    let countries = effect.countries.iter().map(|(code, change)| pb::CountryChange {
        country_code: (*code).to_owned(),
        accounts: change.accounts,
        posts: change.posts,
    });
    pb::Effect {
        accounts_changed: effect.changed.accounts,
        posts_changed: effect.changed.posts,
        unchanged: effect.unchanged,
        countries: countries.collect(),
    }
}

/// The public disposition of an item, its cause as a word, and as a sentence.
fn done(
    disposition: Disposition,
    resolution: Resolution,
    lifted: bool,
) -> (pb::Disposition, &'static str, &'static str) {
    match disposition {
        Disposition::Withheld | Disposition::RemovedOwnRules if lifted => (pb::Disposition::Lifted, "", ""),
        Disposition::Withheld => (pb::Disposition::Withheld, "", ""),
        Disposition::RemovedOwnRules => (pb::Disposition::RemovedOwnRules, "", ""),
        Disposition::DeclinedByDesk => (pb::Disposition::Declined, "desk", "the desk declined it"),
        Disposition::DeclinedProtected(category) => {
            let sentence = match category {
                Category::NewsMedia => "the account is protected: news media",
                Category::Journalist => "the account is protected: journalist",
                Category::Activist => "the account is protected: activist",
                Category::Politician => "the account is protected: politician",
                Category::OwnAffairs => "the account is protected: the platform's own affairs",
            };
            (pb::Disposition::Declined, category.as_str(), sentence)
        }
        Disposition::Duplicate => {
            (pb::Disposition::NoAction, "duplicate", "an earlier line names the same account or post")
        }
        Disposition::Unresolved | Disposition::Unsupported => {
            let (cause, sentence) = undone(resolution);
            (pb::Disposition::NoAction, cause, sentence)
        }
    }
}

/// Why nothing can be done about a resolution.
pub(super) const fn undone(resolution: Resolution) -> (&'static str, &'static str) {
    match resolution {
        Resolution::Unresolved(cause) => (cause.as_str(), cause.describe()),
        Resolution::Unsupported(Unsupported::Hashtag) => ("hashtag", "a hashtag cannot be withheld"),
        Resolution::Subject(_) => ("", ""),
    }
}

/// Items by disposition and cause.
pub(super) fn dispositions(
    counted: impl Iterator<Item = (Disposition, Resolution, bool)>,
) -> Vec<pb::DispositionCount> {
    let mut counts: BTreeMap<(i32, &'static str), u64> = BTreeMap::new();
    for (disposition, resolution, lifted) in counted {
        let (disposition, cause, _) = done(disposition, resolution, lifted);
        *counts.entry((disposition.into(), cause)).or_default() += 1;
    }
    let count = |((disposition, cause), items): ((i32, &str), u64)| pb::DispositionCount {
        disposition,
        cause: cause.to_owned(),
        items,
    };
    counts.into_iter().map(count).collect()
}

/// An item and what was done about it; `position` is from 0.
pub(super) fn item(
    position: u32,
    item: Item<'_>,
    disposition: Disposition,
    lifted_at: Option<Timestamp>,
    also_removed: bool,
) -> pb::ItemOutcome {
    let (done, cause, explanation) = done(disposition, item.resolution, lifted_at.is_some());
    pb::ItemOutcome {
        item_number: position.saturating_add(1),
        line: item.line,
        locator_type: item.locator_type.to_owned(),
        locator: item.locator.to_owned(),
        subject: subject_of(item.resolution).map(subject),
        disposition: done.into(),
        cause: cause.to_owned(),
        explanation: explanation.to_owned(),
        decline_reason: item.decline_reason.unwrap_or_default().to_owned(),
        lifted_at: lifted_at.map(time),
        also_removed_own_rules: also_removed,
    }
}

/// When the item at a position was lifted: with its order, or on its own.
pub(super) fn lifted_at(order: &Order, position: u32) -> Option<Timestamp> {
    order.item_lifted_at(position).or_else(|| {
        let lift =
            |(recorded, change): &(Recorded, OrderChange)| (*change == OrderChange::Lifted).then_some(recorded.at);
        order.later().iter().find_map(lift)
    })
}

/// Whether a subject is removed under own rules by an order other than this.
pub(super) fn also_removed(state: &State, order: &Order, resolution: Resolution, now: Timestamp) -> bool {
    subject_of(resolution).is_some_and(|subject| {
        let set = state.holdings().set_of(subject);
        state.holdings().orders_in(set).iter().filter_map(|number| state.order_by_number(*number)).any(|other| {
            other.number() != order.number()
                && other.spec().instrument == Instrument::OwnRules
                && other.state(now) == OrderState::InForce
        })
    })
}

pub(super) fn spec(spec: &OrderSpec) -> pb::OrderSpec {
    use pb::territory::Territory as Pb;
    let number = |number: u32| i32::try_from(number).unwrap_or_default();
    let territory = match &spec.territory {
        Territory::Countries(countries) => Pb::Countries(pb::CountryList { country_codes: codes(*countries) }),
        Territory::Group { code, .. } => Pb::Group(code.to_string()),
        Territory::Worldwide => Pb::Worldwide(true),
    };
    pb::OrderSpec {
        order_id: spec.order_id.to_string(),
        instrument: number(spec.instrument.number()),
        issuing_authority: spec.issuing_authority.clone(),
        legal_basis: spec.legal_basis.clone(),
        external_ref: spec.external_ref.clone(),
        regime: spec.regime.clone().unwrap_or_default(),
        territory: Some(pb::Territory { territory: Some(territory) }),
        confidentiality: match spec.confidentiality {
            Confidentiality::Public => pb::Confidentiality::Public,
            Confidentiality::NoticeProhibited => pb::Confidentiality::NoticeProhibited,
            Confidentiality::Sealed => pb::Confidentiality::Sealed,
        }
        .into(),
        specified_items: spec.specified_items,
        basis: number(spec.basis.number()),
        issued_at: spec.issued_at.map(time),
        received_at: Some(time(spec.received_at)),
        comply_by: spec.comply_by.map(time),
        review_due_at: spec.review_due_at.map(time),
        effective_from: spec.effective_from.map(time),
        expires_at: spec.expires_at.map(time),
        public_notice_url: spec.public_notice_url.as_deref().unwrap_or_default().to_owned(),
        confidential_reason: spec.confidential_reason.clone(),
        redress: spec.redress.clone(),
    }
}

pub(super) fn state_number(state: OrderState) -> i32 {
    i32::try_from(state.number()).unwrap_or_default()
}

/// An order as recorded, without its history.
pub(super) fn order(order: &Order, now: Timestamp) -> pb::Order {
    let state = order.state(now);
    let whole_lifted = state == OrderState::Lifted;
    let counted = order.dispositions().iter().zip(order.items().resolutions()).zip(0_u32..);
    let counted = counted.map(|((disposition, resolution), position)| {
        (*disposition, resolution, whole_lifted || order.item_lifted_at(position).is_some())
    });
    let intervals = order.intervals();
    let gave_effect = intervals.first().map(|i| i.from).filter(|from| *from <= now);
    let ended = matches!(state, OrderState::Lifted | OrderState::Expired);
    let ended_at = match state {
        OrderState::Expired => order.spec().expires_at,
        _ if ended => lifted_at(order, u32::MAX),
        _ => None,
    };
    pb::Order {
        spec: Some(spec(order.spec())),
        state: state_number(state),
        country_codes: codes(order.spec().territory.countries()),
        group_version: match &order.spec().territory {
            Territory::Group { version, .. } => version.to_string(),
            Territory::Countries(_) | Territory::Worldwide => String::new(),
        },
        items: order.items().len() as u64,
        dispositions: dispositions(counted),
        applied_at: Some(time(order.applied().at)),
        effect_given_at: gave_effect.map(time),
        ended_at: ended_at.map(time),
        applied_revision: order.applied().revision.get(),
        last_revision: order.last().revision.get(),
        history: Vec::new(),
    }
}

/// An order with its history.
pub(super) fn order_with_history(of: &Order, now: Timestamp) -> pb::Order {
    let event = |recorded: &Recorded, kind: &str, items: usize, letter: Option<&Correspondence>| pb::OrderEvent {
        kind: kind.to_owned(),
        revision: recorded.revision.get(),
        at: Some(time(recorded.at)),
        actor: recorded.by.actor.to_string(),
        reason: recorded.by.reason.to_string(),
        request_id: recorded.by.request_id.to_string(),
        items: items as u64,
        correspondence: letter.map(|letter| pb::Correspondence {
            kind: i32::try_from(letter.kind.number()).unwrap_or_default(),
            at: Some(time(letter.at)),
            text: letter.text.clone(),
            external_ref: letter.external_ref.clone(),
        }),
    };
    let mut history = vec![event(of.applied(), "applied", 0, None)];
    history.extend(of.later().iter().map(|(recorded, change)| match change {
        OrderChange::Lifted => event(recorded, "lifted", 0, None),
        OrderChange::ItemsLifted(positions) => event(recorded, "items_lifted", positions.len(), None),
        OrderChange::Stayed => event(recorded, "stayed", 0, None),
        OrderChange::Resumed => event(recorded, "resumed", 0, None),
        OrderChange::Correspondence(letter) => event(recorded, "correspondence", 0, Some(letter)),
    }));
    pb::Order { history, ..order(of, now) }
}

pub(super) fn interval(interval: Interval) -> pb::Interval {
    pb::Interval { from: Some(time(interval.from)), until: interval.until.map(time) }
}

pub(super) fn category(category: Category) -> i32 {
    match category {
        Category::NewsMedia => pb::ProtectionCategory::NewsMedia,
        Category::Journalist => pb::ProtectionCategory::Journalist,
        Category::Activist => pb::ProtectionCategory::Activist,
        Category::Politician => pb::ProtectionCategory::Politician,
        Category::OwnAffairs => pb::ProtectionCategory::OwnAffairs,
    }
    .into()
}
