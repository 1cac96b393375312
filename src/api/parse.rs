//! Requests to domain values: whole, or refused naming every bad field.

use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use prost::Message;
use tonic::Request;

use super::status::{BadFields, ServiceError};
use crate::access::{Principal, Role};
use crate::clock::new_id;
use crate::domain::country::CountryCode;
use crate::domain::digest::{Digest, Digester};
use crate::domain::event::{Attribution, Identity};
use crate::domain::ids::{AccountId, OrderId, PostId, RequestId, Revision, Subject};
use crate::domain::item::ItemChunk;
use crate::domain::locator::Links;
use crate::domain::plan::{ItemSource, OrderRequest};
use crate::domain::regime::Confidentiality;
use crate::domain::spec::{Basis, Correspondence, CorrespondenceKind, Instrument, ProtectedOverride};
use crate::domain::state::State;
use crate::domain::territory::TerritorySpec;
use crate::journal::JournalName;
use crate::pb::v1 as pb;

/// Items in one request.
pub(super) const MAX_ITEMS: usize = 10_000;

/// What a caller asks of the knowledge behind an answer.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Consistency {
    pub(super) at_least_revision: Option<Revision>,
    pub(super) max_staleness: Option<Duration>,
    /// The journal that the revision is of.
    pub(super) journal: Option<JournalName>,
}

impl TryFrom<Option<pb::Consistency>> for Consistency {
    type Error = ServiceError;

    fn try_from(asked: Option<pb::Consistency>) -> Result<Self, ServiceError> {
        let Some(asked) = asked else { return Ok(Self::default()) };
        let mut bad = BadFields::default();
        let staleness =
            asked.max_staleness.map(|limit| Duration::try_from(limit).map_err(|_| "a duration is not negative"));
        let max_staleness = match staleness {
            Some(limit) => bad.take("consistency.max_staleness", limit),
            None => None,
        };
        let journal = match asked.journal.as_str() {
            "" => None,
            name => bad.take("consistency.journal", name.parse::<JournalName>()),
        };
        bad.none()?;
        let wanted = asked.at_least_revision;
        Ok(Self { at_least_revision: (wanted > 0).then(|| Revision::new(wanted)), max_staleness, journal })
    }
}

/// A time that may be unset, to the microsecond.
pub(super) fn time(bad: &mut BadFields, field: &str, at: Option<prost_types::Timestamp>) -> Option<Timestamp> {
    let at = at?;
    let time = Timestamp::new(at.seconds, at.nanos).and_then(|t| Timestamp::from_microsecond(t.as_microsecond()));
    bad.take(field, time.map_err(|_| format!("`{}` seconds since 1970 is out of range", at.seconds)))
}

fn text(bad: &mut BadFields, field: &str, text: String, most: usize, required: bool) -> String {
    if required && text.trim().is_empty() {
        bad.add(field, "it is required");
    } else if text.len() > most {
        bad.add(field, format!("it has {} bytes, at most {most} are allowed", text.len()));
    }
    text
}

/// An order's id.
pub(super) fn order_id(bad: &mut BadFields, field: &str, id: &str) -> Option<OrderId> {
    bad.take(field, id.parse::<OrderId>().map_err(|why| format!("`{}`: {why}", id.escape_debug())))
}

/// A code that is no country's by today's table is one's all the same if an order names it: what was ordered there still
/// holds, and can be asked about.
pub(super) fn named(state: &State, code: &str) -> Option<CountryCode> {
    CountryCode::recorded(code).filter(|code| state.names_country(*code))
}

/// A filter by country; unset is none.
pub(super) fn country(bad: &mut BadFields, field: &str, code: &str, state: &State) -> Option<CountryCode> {
    if code.is_empty() {
        return None;
    }
    bad.take(field, code.parse::<CountryCode>().or_else(|error| named(state, code).ok_or(error)))
}

/// A subject that must be named.
pub(super) fn subject(bad: &mut BadFields, subject: Option<pb::Subject>) -> Option<Subject> {
    match subject.and_then(|s| s.subject) {
        Some(pb::subject::Subject::AccountId(id)) => {
            bad.take("subject.account_id", AccountId::try_from(id)).map(Subject::Account)
        }
        Some(pb::subject::Subject::PostId(id)) => bad.take("subject.post_id", PostId::try_from(id)).map(Subject::Post),
        None => {
            bad.add("subject", "name an account or a post");
            None
        }
    }
}

/// Who calls, as far as that is known: nobody is asked where there is no access file.
#[derive(Debug, Default)]
pub(super) struct Caller(Option<Principal>);

impl Caller {
    /// Of a request, and what it says.
    pub(super) fn of<T>(request: Request<T>) -> (Self, T) {
        let (_, mut extensions, message) = request.into_parts();
        (Self(extensions.remove::<Principal>()), message)
    }

    /// The name for the record. Who is known cannot say to be somebody else.
    fn actor(&self, bad: &mut BadFields, said: String) -> Arc<str> {
        const FIELD: &str = "context.actor";
        let Some(known) = &self.0 else { return text(bad, FIELD, said, 256, true).into() };
        if !said.is_empty() && *said != *known.name {
            let said = said.chars().take(256).collect::<String>();
            bad.add(
                FIELD,
                format!("`{}` is not who calls, which is `{}`: leave it out", said.escape_debug(), known.name),
            );
        }
        Arc::clone(&known.name)
    }

    /// Whether it may reject what others have proposed; where nobody is asked, everybody may.
    pub(super) fn may_reject(&self) -> bool {
        self.0.as_ref().is_none_or(|known| known.roles.has(Role::Approver) || known.roles.has(Role::Admin))
    }

    fn identity(&self) -> Option<Identity> {
        let known = self.0.as_ref()?;
        Some(Identity { person: Arc::clone(&known.person), credential: known.credential.to_string().into() })
    }
}

/// Who and why. `command` is the request without its context: what it says, by which a repetition is known.
pub(super) fn attribution(
    bad: &mut BadFields,
    caller: &Caller,
    context: Option<pb::CommandContext>,
    reason_required: bool,
    rpc: &str,
    command: &impl Message,
) -> Option<Attribution> {
    let context = context.unwrap_or_default();
    let actor = caller.actor(bad, context.actor);
    let reason = text(bad, "context.reason", context.reason, 4_096, reason_required);
    let request_id = if context.request_id.is_empty() { new_id() } else { context.request_id };
    let request_id = bad.take("context.request_id", request_id.parse::<RequestId>())?;
    let mut digest = Digester::new("withheld request 1");
    digest.text(rpc);
    digest.text(command.encode_to_vec());
    let request_digest = digest.finish();
    let identity = caller.identity();
    Some(Attribution { actor, identity, reason: reason.into(), request_id, request_digest })
}

/// Items as received, each resolved or marked; `first` is the position of the first one, from 1.
pub(super) fn items(list: Vec<pb::Item>, first: u32, links: &Links) -> Result<Arc<ItemChunk>, ServiceError> {
    if list.len() > MAX_ITEMS {
        return Err(ServiceError::BatchTooLarge { field: "items", limit: MAX_ITEMS, actual: list.len() });
    }
    let mut bad = BadFields::default();
    let mut chunk = ItemChunk::default();
    for (position, item) in (first..).zip(list) {
        let line = if item.line == 0 { position } else { item.line };
        if item.locator_type.len() > 64 || item.locator.len() > 4_096 || item.decline_reason.len() > 4_096 {
            let why = "at most 64 bytes of type, 4096 of locator and 4096 of reason are allowed";
            bad.add(format!("items[line {line}]"), why);
            continue;
        }
        let decline = Some(item.decline_reason.as_str()).filter(|reason| !reason.trim().is_empty());
        chunk.receive(line, &item.locator_type, &item.locator, decline, links);
    }
    bad.none()?;
    Ok(Arc::new(chunk.complete()))
}

/// Where a command's items are.
pub(super) fn source(list: Option<Result<pb::ItemList, String>>, links: &Links) -> Result<ItemSource, ServiceError> {
    let mut bad = BadFields::default();
    match list {
        Some(Ok(list)) => return items(list.items, 1, links).map(ItemSource::Inline),
        Some(Err(upload)) => {
            if let Some(upload) = bad.take("upload_id", upload.parse()) {
                return Ok(ItemSource::Staged(upload));
            }
        }
        None => bad.add("items", "give `item_list` or `upload_id`"),
    }
    Err(bad.into())
}

fn territory(bad: &mut BadFields, territory: Option<pb::Territory>) -> Option<TerritorySpec> {
    use pb::territory::Territory;
    match territory.and_then(|t| t.territory) {
        Some(Territory::Countries(list)) => {
            if list.country_codes.is_empty() {
                bad.add("order.territory.countries", crate::domain::territory::TerritoryError::Empty);
                return None;
            }
            let mut codes = Vec::new();
            for (at, code) in list.country_codes.iter().enumerate() {
                let field = format!("order.territory.countries[{at}]");
                codes.extend(bad.take(field, code.parse::<CountryCode>()));
            }
            Some(TerritorySpec::Countries(codes))
        }
        Some(Territory::Group(group)) => {
            Some(TerritorySpec::Group(text(bad, "order.territory.group", group, 128, false)))
        }
        Some(Territory::Worldwide(true)) => Some(TerritorySpec::Worldwide),
        Some(Territory::Worldwide(false)) | None => {
            bad.add("order.territory", crate::domain::territory::TerritoryError::Empty);
            None
        }
    }
}

fn confidentiality(number: i32) -> Result<Option<Confidentiality>, String> {
    match pb::Confidentiality::try_from(number) {
        Ok(pb::Confidentiality::Unspecified) => Ok(None),
        Ok(pb::Confidentiality::Public) => Ok(Some(Confidentiality::Public)),
        Ok(pb::Confidentiality::NoticeProhibited) => Ok(Some(Confidentiality::NoticeProhibited)),
        Ok(pb::Confidentiality::Sealed) => Ok(Some(Confidentiality::Sealed)),
        Err(_) => Err(format!("`{number}` is no confidentiality")),
    }
}

fn numbered<T>(from: impl Fn(u32) -> Option<T>, number: i32, what: &str) -> Result<T, String> {
    u32::try_from(number).ok().and_then(from).ok_or_else(|| match number {
        0 => "it is required".to_owned(),
        _ => format!("`{number}` is no {what}"),
    })
}

fn protected_override(bad: &mut BadFields, over: Option<pb::ProtectedOverride>) -> Option<ProtectedOverride> {
    const FIELD: &str = "order.protected_override";
    let over = over?;
    let ids = over.account_ids.into_iter().enumerate();
    let ids: Vec<_> =
        ids.filter_map(|(at, id)| bad.take(format!("{FIELD}.account_ids[{at}]"), AccountId::try_from(id))).collect();
    if ids.is_empty() {
        bad.add(format!("{FIELD}.account_ids"), "name at least one account");
    } else if ids.len() > MAX_ITEMS {
        bad.add(format!("{FIELD}.account_ids"), format!("it has {}, at most {MAX_ITEMS} are allowed", ids.len()));
    }
    let reason = text(bad, &format!("{FIELD}.reason"), over.reason, 4_096, true);
    Some(ProtectedOverride { accounts: ids, reason })
}

/// An order as received.
pub(super) fn order(bad: &mut BadFields, spec: Option<pb::OrderSpec>) -> Option<OrderRequest> {
    let Some(spec) = spec else {
        bad.add("order", "it is required");
        return None;
    };
    let order_id = order_id(bad, "order.order_id", &spec.order_id);
    let instrument = numbered(Instrument::from_number, spec.instrument, "instrument");
    let instrument = bad.take("order.instrument", instrument);
    let issuing_authority = text(bad, "order.issuing_authority", spec.issuing_authority, 512, true);
    if spec.legal_basis.is_empty() {
        bad.add("order.legal_basis", "name at least one provision");
    }
    let legal_basis = spec.legal_basis.into_iter().enumerate();
    let legal_basis =
        legal_basis.map(|(at, basis)| text(bad, &format!("order.legal_basis[{at}]"), basis, 512, true)).collect();
    let territory = territory(bad, spec.territory);
    let confidentiality = bad.take("order.confidentiality", confidentiality(spec.confidentiality)).flatten();
    let basis = match spec.basis {
        0 => None,
        basis => bad.take("order.basis", numbered(Basis::from_number, basis, "basis")),
    };
    let url = text(bad, "order.public_notice_url", spec.public_notice_url, 2_048, false);
    if !url.is_empty() && !url.starts_with("https://") && !url.starts_with("http://") {
        bad.add("order.public_notice_url", format!("`{url}` does not begin with https://"));
    }
    Some(OrderRequest {
        issuing_authority,
        legal_basis,
        external_ref: text(bad, "order.external_ref", spec.external_ref, 512, false),
        regime: Some(text(bad, "order.regime", spec.regime, 128, false)).filter(|regime| !regime.is_empty()),
        confidentiality,
        specified_items: spec.specified_items,
        basis,
        issued_at: time(bad, "order.issued_at", spec.issued_at),
        received_at: time(bad, "order.received_at", spec.received_at),
        comply_by: time(bad, "order.comply_by", spec.comply_by),
        review_due_at: time(bad, "order.review_due_at", spec.review_due_at),
        effective_from: time(bad, "order.effective_from", spec.effective_from),
        expires_at: time(bad, "order.expires_at", spec.expires_at),
        public_notice_url: Some(url).filter(|url| !url.is_empty()).map(Into::into),
        confidential_reason: text(bad, "order.confidential_reason", spec.confidential_reason, 4_096, false),
        redress: text(bad, "order.redress", spec.redress, 4_096, false),
        protected_override: protected_override(bad, spec.protected_override),
        // Last, so that every other field has been looked at when one of these is missing.
        order_id: order_id?,
        instrument: instrument?,
        territory: territory?,
    })
}

/// What was written about an order; `now` is when, if it does not say.
pub(super) fn correspondence(
    bad: &mut BadFields,
    letter: Option<pb::Correspondence>,
    now: Timestamp,
) -> Option<Correspondence> {
    let letter = letter.unwrap_or_default();
    let kind = numbered(CorrespondenceKind::from_number, letter.kind, "kind of correspondence");
    let kind = bad.take("correspondence.kind", kind);
    let at = time(bad, "correspondence.at", letter.at).unwrap_or(now);
    let external_ref = text(bad, "correspondence.external_ref", letter.external_ref, 512, false);
    let text = text(bad, "correspondence.text", letter.text, 16_384, true);
    Some(Correspondence { kind: kind?, at, text, external_ref })
}

/// The digest of a preview; unset is none.
pub(super) fn preview_digest(bad: &mut BadFields, field: &str, digest: &[u8]) -> Option<Digest> {
    if digest.is_empty() {
        return None;
    }
    bad.take(field, Digest::from_slice(digest).ok_or("it has not the 32 bytes of a preview's digest"))
}
