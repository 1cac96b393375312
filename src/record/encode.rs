//! Domain values to stored messages. Nothing here can fail.

use jiff::Timestamp;
use prost::Message as _;

use super::{items, pb};
use crate::domain::approval::Proposal;
use crate::domain::event::{Attribution, Entry, Event, Lift, OrderApplied, OrderChange};
use crate::domain::format::Format;
use crate::domain::ids::{JournalId, OrderId};
use crate::domain::item::{Disposition, Items};
use crate::domain::protection::Category;
use crate::domain::spec::OrderSpec;
use crate::domain::territory::Territory;
use crate::pb::time;

/// The bytes of an entry, as the journal keeps them.
#[must_use]
pub fn encode(entry: &Entry) -> Vec<u8> {
    message(entry.at, &entry.by, event(&entry.event)).encode_to_vec()
}

/// The bytes of the first entry of a new journal: it is in the newest format that this program writes. The id must be
/// random, for it is what tells this journal from every other.
#[must_use]
pub fn creation(at: Timestamp, by: &Attribution, id: [u8; 16]) -> Vec<u8> {
    let event = Event::JournalCreated { format: Format::NEWEST_WRITABLE, id: JournalId::from_bytes(id) };
    encode(&Entry { at, by: by.clone(), event })
}

pub(super) fn message(at: Timestamp, by: &Attribution, event: pb::entry::Event) -> pb::Entry {
    pb::Entry {
        at: Some(time(at)),
        actor: by.actor.to_string(),
        reason: by.reason.to_string(),
        request_id: by.request_id.to_string(),
        request_digest: by.request_digest.as_bytes().to_vec(),
        person: by.identity.as_ref().map(|identity| identity.person.to_string()).unwrap_or_default(),
        credential: by.identity.as_ref().map(|identity| identity.credential.to_string()).unwrap_or_default(),
        event: Some(event),
    }
}

fn event(event: &Event) -> pb::entry::Event {
    use pb::entry::Event as Pb;
    match event {
        Event::ItemsStaged { upload, items: chunk } => {
            Pb::ItemsStaged(pb::ItemsStaged { upload_id: upload.to_string(), items: Some(items::encode(chunk.iter())) })
        }
        Event::UploadsDiscarded(uploads) => {
            let upload_ids = uploads.iter().map(ToString::to_string).collect();
            Pb::UploadsDiscarded(pb::UploadsDiscarded { upload_ids })
        }
        Event::OrderApplied(order) => Pb::OrderApplied(applied(order, None)),
        Event::OrderProposed { order, proposal } => proposed(order, proposal, None),
        Event::OrderChanged { order, change: c } => change(order, c),
        Event::AccountsProtected(accounts) => Pb::AccountsProtected(pb::AccountsProtected {
            account_ids: accounts.iter().map(|(id, _)| id.get()).collect(),
            categories: accounts.iter().map(|(_, c)| category(*c)).collect(),
        }),
        Event::AccountsUnprotected(accounts) => Pb::AccountsUnprotected(pb::AccountsUnprotected {
            account_ids: accounts.iter().map(|id| id.get()).collect(),
        }),
        Event::JournalCreated { format, id } => {
            Pb::JournalCreated(pb::JournalCreated { format: format.number(), id: id.as_bytes().to_vec() })
        }
        Event::JournalUpgraded(format) => Pb::JournalUpgraded(pb::JournalUpgraded { format: format.number() }),
    }
}

/// An applied order; in a snapshot `all` items are written into it, and the upload they came from is only named.
pub(super) fn applied(order: &OrderApplied, all: Option<&Items>) -> pb::OrderApplied {
    let OrderSpec {
        order_id,
        instrument,
        issuing_authority,
        legal_basis,
        external_ref,
        regime,
        territory: holds_in,
        confidentiality,
        specified_items,
        basis,
        issued_at,
        received_at,
        comply_by,
        review_due_at,
        effective_from,
        expires_at,
        public_notice_url,
        confidential_reason,
        redress,
        protected_override,
    } = &order.spec;
    pb::OrderApplied {
        order_id: order_id.to_string(),
        instrument: instrument.number(),
        issuing_authority: issuing_authority.clone(),
        legal_basis: legal_basis.clone(),
        external_ref: external_ref.clone(),
        regime: regime.clone().unwrap_or_default(),
        territory: Some(territory(holds_in)),
        confidentiality: super::confidentiality_number(*confidentiality),
        specified_items: *specified_items,
        basis: basis.number(),
        issued_at: issued_at.map(time),
        received_at: Some(time(*received_at)),
        comply_by: comply_by.map(time),
        review_due_at: review_due_at.map(time),
        effective_from: effective_from.map(time),
        expires_at: expires_at.map(time),
        public_notice_url: public_notice_url.as_deref().unwrap_or_default().to_owned(),
        confidential_reason: confidential_reason.clone(),
        redress: redress.clone(),
        upload_id: order.upload.as_ref().map(ToString::to_string).unwrap_or_default(),
        items: Some(all.map_or_else(|| items::encode(order.items.iter()), |all| items::encode(all.iter()))),
        dispositions: order.dispositions.iter().map(|d| disposition(*d).into()).collect(),
        content_digest: order.content.as_bytes().to_vec(),
        protected_override: protected_override.as_ref().map(|over| pb::ProtectedOverride {
            account_ids: over.accounts.iter().map(|id| id.get()).collect(),
            reason: over.reason.clone(),
        }),
    }
}

/// A proposed order; items in a snapshot as for an applied one.
pub(super) fn proposed(order: &OrderApplied, of: &Proposal, all: Option<&Items>) -> pb::entry::Event {
    let (order, proposal) = (Some(applied(order, all)), Some(proposal(of)));
    pb::entry::Event::OrderProposed(pb::OrderProposed { order, proposal })
}

fn proposal(proposal: &Proposal) -> pb::Proposal {
    pb::Proposal {
        grounds: proposal.grounds.iter().map(|ground| ground.number()).collect(),
        expires_at: Some(time(proposal.expires_at)),
        outcome_digest: proposal.outcome.as_bytes().to_vec(),
        accounts_changed: proposal.changed.accounts,
        posts_changed: proposal.changed.posts,
    }
}

fn positions(lift: &Lift) -> Vec<u32> {
    match lift {
        Lift::Whole => Vec::new(),
        Lift::Items(positions) => positions.to_vec(),
    }
}

fn territory(territory: &Territory) -> pb::Territory {
    let codes =
        |countries: &crate::domain::country::CountrySet| countries.codes().into_iter().map(str::to_owned).collect();
    match territory {
        Territory::Countries(countries) => pb::Territory { country_codes: codes(countries), ..Default::default() },
        Territory::Group { code, version, countries } => pb::Territory {
            worldwide: false,
            country_codes: codes(countries),
            group: code.to_string(),
            group_version: version.to_string(),
        },
        Territory::Worldwide => pb::Territory { worldwide: true, ..Default::default() },
    }
}

pub(super) fn change(order: &OrderId, change: &OrderChange) -> pb::entry::Event {
    use pb::entry::Event as Pb;
    let order_id = order.to_string();
    match change {
        OrderChange::Lifted => Pb::OrderLifted(pb::OrderLifted { order_id }),
        OrderChange::ItemsLifted(positions) => {
            Pb::ItemsLifted(pb::ItemsLifted { order_id, positions: positions.to_vec() })
        }
        OrderChange::Stayed => Pb::OrderStayed(pb::OrderStayed { order_id }),
        OrderChange::Resumed => Pb::OrderResumed(pb::OrderResumed { order_id }),
        OrderChange::Correspondence(c) => Pb::CorrespondenceRecorded(pb::CorrespondenceRecorded {
            order_id,
            kind: c.kind.number(),
            at: Some(time(c.at)),
            text: c.text.clone(),
            external_ref: c.external_ref.clone(),
        }),
        OrderChange::Approved(dispositions) => {
            let dispositions = dispositions.iter().map(|d| disposition(*d).into()).collect();
            Pb::OrderApproved(pb::OrderApproved { order_id, dispositions })
        }
        OrderChange::Rejected => Pb::ProposalRejected(pb::ProposalRejected { order_id }),
        OrderChange::LiftProposed(lift, of) => {
            let (positions, proposal) = (positions(lift), Some(proposal(of)));
            Pb::LiftProposed(pb::LiftProposed { order_id, positions, proposal })
        }
        OrderChange::LiftApproved(lift) => Pb::LiftApproved(pb::LiftApproved { order_id, positions: positions(lift) }),
    }
}

fn disposition(disposition: Disposition) -> pb::Disposition {
    use pb::Disposition as Pb;
    match disposition {
        Disposition::Withheld => Pb::Withheld,
        Disposition::RemovedOwnRules => Pb::RemovedOwnRules,
        Disposition::DeclinedByDesk => Pb::DeclinedByDesk,
        Disposition::DeclinedProtected(Category::NewsMedia) => Pb::DeclinedNewsMedia,
        Disposition::DeclinedProtected(Category::Journalist) => Pb::DeclinedJournalist,
        Disposition::DeclinedProtected(Category::Activist) => Pb::DeclinedActivist,
        Disposition::DeclinedProtected(Category::Politician) => Pb::DeclinedPolitician,
        Disposition::DeclinedProtected(Category::OwnAffairs) => Pb::DeclinedOwnAffairs,
        Disposition::Unresolved => Pb::Unresolved,
        Disposition::Unsupported => Pb::Unsupported,
        Disposition::Duplicate => Pb::Duplicate,
        Disposition::WithheldByOverride => Pb::WithheldByOverride,
    }
}

pub(super) const fn category(category: Category) -> u32 {
    match category {
        Category::NewsMedia => 1,
        Category::Journalist => 2,
        Category::Activist => 3,
        Category::Politician => 4,
        Category::OwnAffairs => 5,
    }
}
