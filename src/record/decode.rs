//! Stored messages to domain values. Anything that this program could not have written is an error that says what.

use std::sync::Arc;

use jiff::Timestamp;
use prost::Message as _;

use super::{DecodeError, items, pb};
use crate::domain::approval::{Ground, Proposal};
use crate::domain::country::{CountryCode, CountrySet};
use crate::domain::digest::Digest;
use crate::domain::effect::Change;
use crate::domain::event::{Attribution, Entry, Event, Identity, Lift, OrderApplied, OrderChange};
use crate::domain::format::Format;
use crate::domain::ids::{AccountId, JournalId};
use crate::domain::item::Disposition;
use crate::domain::protection::Category;
use crate::domain::regime::Confidentiality;
use crate::domain::spec::{Basis, Correspondence, CorrespondenceKind, Instrument, OrderSpec, ProtectedOverride};
use crate::domain::territory::Territory;

type Result<T> = std::result::Result<T, DecodeError>;

/// An entry from its bytes.
///
/// # Errors
/// If they are not what [`super::encode()`] writes.
pub fn decode(bytes: &[u8]) -> Result<Entry> {
    let message = pb::Entry::decode(bytes)?;
    // What is not known is skipped when a message is read, and every known field is written in one way only: so whatever
    // is skipped makes the bytes longer than what was read of them. Shorter ones were not written by this program either.
    if message.encoded_len() != bytes.len() {
        return Err(DecodeError::Newer);
    }
    entry(message)
}

pub(super) fn entry(message: pb::Entry) -> Result<Entry> {
    if message.person.is_empty() && !message.credential.is_empty() {
        return Err(DecodeError::Field("credential"));
    }
    let by = Attribution {
        actor: message.actor.into(),
        reason: message.reason.into(),
        request_id: name(&message.request_id, "request_id")?,
        request_digest: digest(&message.request_digest, "request_digest")?,
        identity: (!message.person.is_empty())
            .then(|| Identity { person: message.person.into(), credential: message.credential.into() }),
    };
    let event = event(message.event.ok_or(DecodeError::Field("event"))?)?;
    Ok(Entry { at: required_time(message.at, "at")?, by, event })
}

fn name<T: std::str::FromStr>(text: &str, field: &'static str) -> Result<T> {
    text.parse().map_err(|_| DecodeError::Field(field))
}

pub(super) fn digest(bytes: &[u8], field: &'static str) -> Result<Digest> {
    Digest::from_slice(bytes).ok_or(DecodeError::Field(field))
}

fn time(time: Option<prost_types::Timestamp>, field: &'static str) -> Result<Option<Timestamp>> {
    time.map(|t| Timestamp::new(t.seconds, t.nanos).map_err(|_| DecodeError::Field(field))).transpose()
}

pub(super) fn required_time(at: Option<prost_types::Timestamp>, field: &'static str) -> Result<Timestamp> {
    time(at, field)?.ok_or(DecodeError::Field(field))
}

fn event(event: pb::entry::Event) -> Result<Event> {
    use pb::entry::Event as Pb;
    let change = |id: &str, change| Ok(Event::OrderChanged { order: name(id, "order_id")?, change });
    match event {
        Pb::ItemsStaged(staged) => Ok(Event::ItemsStaged {
            upload: name(&staged.upload_id, "upload_id")?,
            items: Arc::new(items::decode(staged.items.ok_or(DecodeError::Field("items"))?)?),
        }),
        Pb::UploadsDiscarded(uploads) => {
            let ids: Result<_> = uploads.upload_ids.iter().map(|id| name(id, "upload_ids")).collect();
            Ok(Event::UploadsDiscarded(ids?))
        }
        Pb::OrderApplied(order) => Ok(Event::OrderApplied(Arc::new(applied(order)?))),
        Pb::OrderProposed(proposed) => Ok(Event::OrderProposed {
            order: Arc::new(applied(proposed.order.ok_or(DecodeError::Field("order"))?)?),
            proposal: proposal(proposed.proposal)?,
        }),
        Pb::OrderApproved(order) => {
            let dispositions: Result<Vec<Disposition>> = order.dispositions.iter().map(|d| disposition(*d)).collect();
            change(&order.order_id, OrderChange::Approved(dispositions?.into()))
        }
        Pb::ProposalRejected(order) => change(&order.order_id, OrderChange::Rejected),
        Pb::LiftProposed(order) => {
            change(&order.order_id, OrderChange::LiftProposed(lift(order.positions), proposal(order.proposal)?))
        }
        Pb::LiftApproved(order) => change(&order.order_id, OrderChange::LiftApproved(lift(order.positions))),
        Pb::OrderLifted(order) => change(&order.order_id, OrderChange::Lifted),
        Pb::ItemsLifted(lifted) => change(&lifted.order_id, OrderChange::ItemsLifted(lifted.positions.into())),
        Pb::OrderStayed(order) => change(&order.order_id, OrderChange::Stayed),
        Pb::OrderResumed(order) => change(&order.order_id, OrderChange::Resumed),
        Pb::CorrespondenceRecorded(c) => {
            let correspondence = Correspondence {
                kind: CorrespondenceKind::from_number(c.kind).ok_or(DecodeError::Field("kind"))?,
                at: required_time(c.at, "at")?,
                text: c.text,
                external_ref: c.external_ref,
            };
            change(&c.order_id, OrderChange::Correspondence(correspondence))
        }
        Pb::AccountsProtected(accounts) => {
            if accounts.account_ids.len() != accounts.categories.len() {
                return Err(DecodeError::Field("categories"));
            }
            let pairs = accounts.account_ids.iter().zip(&accounts.categories);
            let pairs: Result<_> = pairs.map(|(id, c)| Ok((account(*id)?, category(*c)?))).collect();
            Ok(Event::AccountsProtected(pairs?))
        }
        Pb::AccountsUnprotected(accounts) => {
            let ids: Result<_> = accounts.account_ids.into_iter().map(account).collect();
            Ok(Event::AccountsUnprotected(ids?))
        }
        Pb::JournalCreated(created) => Ok(Event::JournalCreated {
            format: format(created.format)?,
            id: JournalId::from_bytes(created.id.try_into().map_err(|_| DecodeError::Field("id"))?),
        }),
        Pb::JournalUpgraded(upgraded) => Ok(Event::JournalUpgraded(format(upgraded.format)?)),
    }
}

fn format(number: u32) -> Result<Format> {
    Format::from_number(number).ok_or(DecodeError::Field("format"))
}

fn lift(positions: Vec<u32>) -> Lift {
    if positions.is_empty() { Lift::Whole } else { Lift::Items(positions.into()) }
}

fn proposal(proposal: Option<pb::Proposal>) -> Result<Proposal> {
    let proposal = proposal.ok_or(DecodeError::Field("proposal"))?;
    let ground = |number: &u32| Ground::from_number(*number).ok_or(DecodeError::Field("grounds"));
    let grounds: Result<Vec<Ground>> = proposal.grounds.iter().map(ground).collect();
    Ok(Proposal {
        grounds: Some(grounds?).filter(|grounds| !grounds.is_empty()).ok_or(DecodeError::Field("grounds"))?.into(),
        expires_at: required_time(proposal.expires_at, "expires_at")?,
        outcome: digest(&proposal.outcome_digest, "outcome_digest")?,
        changed: Change { accounts: proposal.accounts_changed, posts: proposal.posts_changed },
    })
}

fn protected_override(over: pb::ProtectedOverride) -> Result<ProtectedOverride> {
    let accounts: Result<Vec<AccountId>> = over.account_ids.into_iter().map(account).collect();
    Ok(ProtectedOverride { accounts: accounts?, reason: over.reason })
}

pub(super) fn account(id: u64) -> Result<AccountId> {
    AccountId::try_from(id).map_err(|_| DecodeError::Field("account_ids"))
}

pub(super) fn category(number: u32) -> Result<Category> {
    Category::ALL.into_iter().find(|c| super::encode::category(*c) == number).ok_or(DecodeError::Field("categories"))
}

pub(super) fn applied(order: pb::OrderApplied) -> Result<OrderApplied> {
    let field = DecodeError::Field;
    let some = |text: String| if text.is_empty() { None } else { Some(text) };
    let dispositions: Result<Vec<Disposition>> = order.dispositions.iter().map(|d| disposition(*d)).collect();
    Ok(OrderApplied {
        upload: some(order.upload_id).map(|id| name(&id, "upload_id")).transpose()?,
        items: Arc::new(items::decode(order.items.ok_or(field("items"))?)?),
        dispositions: dispositions?.into(),
        content: digest(&order.content_digest, "content_digest")?,
        spec: OrderSpec {
            order_id: name(&order.order_id, "order_id")?,
            instrument: Instrument::from_number(order.instrument).ok_or(field("instrument"))?,
            issuing_authority: order.issuing_authority,
            legal_basis: order.legal_basis,
            external_ref: order.external_ref,
            regime: some(order.regime),
            territory: territory(order.territory.ok_or(field("territory"))?)?,
            confidentiality: confidentiality(order.confidentiality)?,
            specified_items: order.specified_items,
            basis: Basis::from_number(order.basis).ok_or(field("basis"))?,
            issued_at: time(order.issued_at, "issued_at")?,
            received_at: required_time(order.received_at, "received_at")?,
            comply_by: time(order.comply_by, "comply_by")?,
            review_due_at: time(order.review_due_at, "review_due_at")?,
            effective_from: time(order.effective_from, "effective_from")?,
            expires_at: time(order.expires_at, "expires_at")?,
            public_notice_url: some(order.public_notice_url).map(Into::into),
            confidential_reason: order.confidential_reason,
            redress: order.redress,
            protected_override: order.protected_override.map(protected_override).transpose()?,
        },
    })
}

fn confidentiality(number: u32) -> Result<Confidentiality> {
    [Confidentiality::Public, Confidentiality::NoticeProhibited, Confidentiality::Sealed]
        .into_iter()
        .find(|c| super::confidentiality_number(*c) == number)
        .ok_or(DecodeError::Field("confidentiality"))
}

fn territory(territory: pb::Territory) -> Result<Territory> {
    // History is never re-validated by today's tables: a code that has been retired since is kept.
    let codes = territory.country_codes.iter().map(|code| CountryCode::recorded(code));
    let countries: CountrySet = codes.collect::<Option<_>>().ok_or(DecodeError::Field("country_codes"))?;
    if countries.codes() != territory.country_codes {
        return Err(DecodeError::Field("country_codes"));
    }
    let (group, version) = (territory.group, territory.group_version);
    match (territory.worldwide, countries.is_empty(), group.is_empty()) {
        (true, true, true) if version.is_empty() => Ok(Territory::Worldwide),
        (false, false, true) if version.is_empty() => Ok(Territory::Countries(countries)),
        (false, false, false) => Ok(Territory::Group { code: group.into(), version: version.into(), countries }),
        _ => Err(DecodeError::Field("territory")),
    }
}

fn disposition(code: i32) -> Result<Disposition> {
    use pb::Disposition as Pb;
    let bad = || DecodeError::Field("dispositions");
    Ok(match Pb::try_from(code).map_err(|_| bad())? {
        Pb::Unspecified => return Err(bad()),
        Pb::Withheld => Disposition::Withheld,
        Pb::RemovedOwnRules => Disposition::RemovedOwnRules,
        Pb::DeclinedByDesk => Disposition::DeclinedByDesk,
        Pb::DeclinedNewsMedia => Disposition::DeclinedProtected(Category::NewsMedia),
        Pb::DeclinedJournalist => Disposition::DeclinedProtected(Category::Journalist),
        Pb::DeclinedActivist => Disposition::DeclinedProtected(Category::Activist),
        Pb::DeclinedPolitician => Disposition::DeclinedProtected(Category::Politician),
        Pb::DeclinedOwnAffairs => Disposition::DeclinedProtected(Category::OwnAffairs),
        Pb::Unresolved => Disposition::Unresolved,
        Pb::Unsupported => Disposition::Unsupported,
        Pb::Duplicate => Disposition::Duplicate,
        Pb::WithheldByOverride => Disposition::WithheldByOverride,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_and_fields_that_do_not_belong_together_are_refused_and_not_left_out() {
        let territory = |codes: &[&str], worldwide, group: &str, version: &str| {
            let country_codes = codes.iter().map(|code| (*code).to_owned()).collect();
            super::territory(pb::Territory {
                worldwide,
                country_codes,
                group: group.to_owned(),
                group_version: version.to_owned(),
            })
        };
        assert!(territory(&["DE", "FR"], false, "EU", "1").is_ok());
        for bad in [
            territory(&["DE"], true, "", ""),
            territory(&[], true, "EU", ""),
            territory(&["DE"], false, "", "1"),
            territory(&[], false, "EU", "1"),
            territory(&["FR", "DE"], false, "", ""),
            territory(&["DE", "DE"], false, "", ""),
            territory(&["UK"], false, "", ""),
        ] {
            assert!(bad.is_err(), "{bad:?}");
        }

        let protected = |categories| {
            event(pb::entry::Event::AccountsProtected(pb::AccountsProtected { account_ids: vec![7, 8], categories }))
        };
        assert!(protected(vec![1, 1]).is_ok());
        assert_eq!(protected(vec![1]), Err(DecodeError::Field("categories")));
        let nobody = pb::Entry { credential: "token 1".to_owned(), ..Default::default() };
        assert_eq!(entry(nobody), Err(DecodeError::Field("credential")));
    }
}
