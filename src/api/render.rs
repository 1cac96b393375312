//! Domain values to responses.

use std::collections::BTreeMap;

use jiff::Timestamp;

use crate::domain::approval::{Approval, Ground, Proposed, Verdict};
use crate::domain::country::CountrySet;
use crate::domain::effect::Effect;
use crate::domain::event::{Lift, OrderChange, Recorded};
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

pub(super) use crate::pb::time;

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

pub(super) fn withholding(notice: &Notice, scope: pb::Scope) -> pb::Withholding {
    let word = if scope == pb::Scope::Status { "status" } else { "user" };
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

/// What has become, since it was decided on, of an item that was to be withheld.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Since {
    /// It stands as decided.
    Stands,
    /// It was lifted then, with its order or on its own.
    Lifted(Timestamp),
    /// It never was withheld: its order was rejected.
    Rejected,
    /// It never was withheld: nobody approved its order in time.
    Unapproved,
}

/// That, for the item at each position of an order.
pub(super) fn since(order: &Order, now: Timestamp) -> impl Fn(u32) -> Since + '_ {
    let (state, whole) = (order.state(now), lifted_as_a_whole(order));
    move |position| match state {
        OrderState::Rejected => Since::Rejected,
        OrderState::ExpiredUnapproved => Since::Unapproved,
        _ => order.item_lifted_at(position).or(whole).map_or(Since::Stands, Since::Lifted),
    }
}

fn lifted_as_a_whole(order: &Order) -> Option<Timestamp> {
    let lift =
        |(recorded, change): &(Recorded, OrderChange)| (change.lift() == Some(Lift::Whole)).then_some(recorded.at);
    order.later().iter().find_map(lift)
}

/// The public disposition of an item, its cause as a word, and as a sentence.
pub(super) fn done(
    disposition: Disposition,
    resolution: Resolution,
    since: Since,
) -> (pb::Disposition, &'static str, &'static str) {
    match (disposition.takes_effect(), since) {
        (false, _) | (true, Since::Stands) => {}
        (true, Since::Lifted(_)) => return (pb::Disposition::Lifted, "", ""),
        (true, Since::Rejected) => return (pb::Disposition::NoAction, "rejected", "the order was rejected"),
        (true, Since::Unapproved) => {
            return (pb::Disposition::NoAction, "expired_unapproved", "nobody approved the order in time");
        }
    }
    match disposition {
        Disposition::Withheld => (pb::Disposition::Withheld, "", ""),
        Disposition::WithheldByOverride => {
            let sentence = "the account is protected, and withheld all the same by the order's override";
            (pb::Disposition::Withheld, "protected_override", sentence)
        }
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
    counted: impl Iterator<Item = (Disposition, Resolution, Since)>,
) -> Vec<pb::DispositionCount> {
    let mut counts: BTreeMap<(i32, &'static str), u64> = BTreeMap::new();
    for (disposition, resolution, since) in counted {
        let (disposition, cause, _) = done(disposition, resolution, since);
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
    since: Since,
    also_removed: bool,
) -> pb::ItemOutcome {
    let (done, cause, explanation) = done(disposition, item.resolution, since);
    let lifted_at = match since {
        Since::Lifted(at) if disposition.takes_effect() => Some(at),
        Since::Lifted(_) | Since::Stands | Since::Rejected | Since::Unapproved => None,
    };
    pb::ItemOutcome {
        item_number: position.saturating_add(1),
        line: item.line,
        locator_type: item.locator_type.to_owned(),
        locator: item.locator.to_string(),
        subject: subject_of(item.resolution).map(subject),
        disposition: done.into(),
        cause: cause.to_owned(),
        explanation: explanation.to_owned(),
        decline_reason: item.decline_reason.unwrap_or_default().to_owned(),
        lifted_at: lifted_at.map(time),
        also_removed_own_rules: also_removed,
    }
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
        protected_override: spec.protected_override.as_ref().map(|over| pb::ProtectedOverride {
            account_ids: over.accounts.iter().map(|id| id.get()).collect(),
            reason: over.reason.clone(),
        }),
    }
}

pub(super) fn state_number(state: OrderState) -> i32 {
    i32::try_from(state.number()).unwrap_or_default()
}

/// The second person that an order's last change to need one needs, or needed.
fn approval(order: &Order, now: Timestamp) -> Option<pb::Approval> {
    let Approval { of, proposed, proposal, decided } = order.approval()?;
    let what = match of {
        Proposed::Apply => pb::Proposed::Apply,
        Proposed::Lift(Lift::Whole) => pb::Proposed::Lift,
        Proposed::Lift(Lift::Items(_)) => pb::Proposed::LiftItems,
    };
    let state = match decided {
        Some((_, Verdict::Approved)) => pb::ApprovalState::Approved,
        Some((_, Verdict::Rejected)) => pb::ApprovalState::Rejected,
        None if order.waits(now).is_some() => pb::ApprovalState::Pending,
        None => pb::ApprovalState::Expired,
    };
    let decision = decided.as_ref().map(|(recorded, _)| recorded);
    Some(pb::Approval {
        proposed: what.into(),
        state: state.into(),
        grounds: grounds(&proposal.grounds),
        proposed_by: proposed.by.actor.to_string(),
        proposed_at: Some(time(proposed.at)),
        proposed_revision: proposed.revision.get(),
        expires_at: order.approval_lapses_at().map(time),
        decided_by: decision.map(|recorded| recorded.by.actor.to_string()).unwrap_or_default(),
        decided_at: decision.map(|recorded| time(recorded.at)),
        decided_revision: decision.map_or(0, |recorded| recorded.revision.get()),
        accounts_changed: proposal.changed.accounts,
        posts_changed: proposal.changed.posts,
    })
}

/// Why something takes two, as words.
pub(super) fn grounds(grounds: &[Ground]) -> Vec<String> {
    grounds.iter().map(|ground| ground.as_str().to_owned()).collect()
}

/// An order as recorded, without its history.
pub(super) fn order(order: &Order, now: Timestamp) -> pb::Order {
    let (state, since) = (order.state(now), since(order, now));
    let counted = order.dispositions().iter().zip(order.items().resolutions()).zip(0_u32..);
    let counted = counted.map(|((disposition, resolution), position)| (*disposition, resolution, since(position)));
    let intervals = order.intervals();
    let gave_effect = intervals.first().map(|i| i.from).filter(|from| *from <= now);
    let ended_at = match state {
        OrderState::Expired => order.spec().expires_at,
        OrderState::Lifted => lifted_as_a_whole(order),
        OrderState::Rejected => order.approval().and_then(|a| a.decided.as_ref()).map(|(recorded, _)| recorded.at),
        OrderState::ExpiredUnapproved => order.approval_lapses_at(),
        OrderState::Scheduled | OrderState::InForce | OrderState::Stayed | OrderState::PendingApproval => None,
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
        applied_at: order.applied().map(|applied| time(applied.at)),
        effect_given_at: gave_effect.map(time),
        ended_at: ended_at.map(time),
        applied_revision: order.applied().map_or(0, |applied| applied.revision.get()),
        last_revision: order.last().revision.get(),
        history: Vec::new(),
        approval: approval(order, now),
    }
}

/// An order with its history.
pub(super) fn order_with_history(of: &Order, now: Timestamp) -> pb::Order {
    let event = |recorded: &Recorded, kind: &str, items: usize, letter: Option<&Correspondence>| pb::OrderEvent {
        kind: kind.to_owned(),
        revision: recorded.revision.get(),
        at: Some(time(recorded.at)),
        actor: recorded.by.actor.to_string(),
        credential: recorded.by.identity.as_ref().map(|known| known.credential.to_string()).unwrap_or_default(),
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
    let first = if of.first_proposal().is_some() { "proposed" } else { "applied" };
    let mut history = vec![event(of.recorded(), first, 0, None)];
    history.extend(of.later().iter().map(|(recorded, change)| match change {
        OrderChange::Lifted => event(recorded, "lifted", 0, None),
        OrderChange::ItemsLifted(positions) => event(recorded, "items_lifted", positions.len(), None),
        OrderChange::Stayed => event(recorded, "stayed", 0, None),
        OrderChange::Resumed => event(recorded, "resumed", 0, None),
        OrderChange::Correspondence(letter) => event(recorded, "correspondence", 0, Some(letter)),
        OrderChange::Approved(_) => event(recorded, "approved", 0, None),
        OrderChange::Rejected => event(recorded, "rejected", 0, None),
        OrderChange::LiftProposed(Lift::Whole, _) => event(recorded, "lift_proposed", 0, None),
        OrderChange::LiftProposed(Lift::Items(at), _) => event(recorded, "items_lift_proposed", at.len(), None),
        OrderChange::LiftApproved(Lift::Whole) => event(recorded, "lift_approved", 0, None),
        OrderChange::LiftApproved(Lift::Items(at)) => event(recorded, "items_lift_approved", at.len(), None),
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
