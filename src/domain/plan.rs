//! What applying an order would do: the one computation behind PreviewOrder and ApplyOrder.

use std::collections::HashSet;
use std::sync::Arc;

use jiff::{SignedDuration, Timestamp};

use super::digest::{Digest, Digester};
use super::effect::{Effect, countries_now};
use super::event::OrderApplied;
use super::ids::{OrderId, Subject, UploadId};
use super::item::{Disposition, Item, ItemChunk, Items};
use super::locator::Resolution;
use super::regime::Confidentiality;
use super::rejection::Rejection;
use super::rules::Rules;
use super::spec::{Basis, Instrument, OrderSpec};
use super::state::State;
use super::territory::TerritorySpec;

/// An order as the desk hands it in: defaults unset, territory not expanded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OrderRequest {
    /// The desk's name for it.
    pub order_id: OrderId,
    /// How it was made.
    pub instrument: Instrument,
    /// Who demands it.
    pub issuing_authority: String,
    /// The provisions it rests on; at least one.
    pub legal_basis: Vec<String>,
    /// The authority's reference.
    pub external_ref: String,
    /// The regime to take defaults from.
    pub regime: Option<String>,
    /// Where it holds.
    pub territory: TerritorySpec,
    /// Who may know of it; `None`: the regime's default, else public.
    pub confidentiality: Option<Confidentiality>,
    /// How many items the letter states.
    pub specified_items: Option<u64>,
    /// What viewers are told; `None`: by the instrument.
    pub basis: Option<Basis>,
    /// When it was issued.
    pub issued_at: Option<Timestamp>,
    /// When the platform got it; `None`: now.
    pub received_at: Option<Timestamp>,
    /// By when effect must be given; `None`: by the regime.
    pub comply_by: Option<Timestamp>,
    /// By when it must be reviewed; `None`: by the regime.
    pub review_due_at: Option<Timestamp>,
    /// When it starts by itself; `None`: now.
    pub effective_from: Option<Timestamp>,
    /// When it ends by itself; `None`: never.
    pub expires_at: Option<Timestamp>,
    /// Where it is published.
    pub public_notice_url: Option<Arc<str>>,
    /// Why, confidentially.
    pub confidential_reason: String,
    /// How to seek redress.
    pub redress: String,
}

/// Where an order's items are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ItemSource {
    /// They came with the command.
    Inline(Arc<ItemChunk>),
    /// They were staged before.
    Staged(UploadId),
}

/// See the module.
#[derive(Debug, Clone)]
pub struct Plan {
    /// What would be written.
    pub event: Arc<OrderApplied>,
    /// All items, staged ones first.
    pub items: Items,
    /// What changes for viewers once the order is in force.
    pub effect: Effect,
    /// Over everything that applying would do.
    pub digest: Digest,
}

/// Works out what applying an order would do now.
///
/// # Errors
/// Everything that makes ApplyOrder refuse it, but for what was applied before.
pub fn apply(
    state: &State,
    rules: &Rules,
    request: &OrderRequest,
    source: &ItemSource,
    now: Timestamp,
) -> Result<Plan, Rejection> {
    let spec = settle(request, rules, now)?;
    let items = take(state, source)?;
    if items.is_empty() {
        return Err(Rejection::NoItems);
    }
    if let Some(specified) = request.specified_items
        && specified != items.len() as u64
    {
        return Err(Rejection::SpecifiedItemsMismatch { specified, actual: items.len() as u64 });
    }
    let dispositions = dispose(state, &spec, &items);
    let content = content(request, &items);
    let (effect, digest) = effect(state, &spec, &items, &dispositions, content, now);
    let (upload, inline) = match source {
        ItemSource::Inline(chunk) => (None, Arc::clone(chunk)),
        ItemSource::Staged(upload) => (Some(upload.clone()), Arc::default()),
    };
    let event = OrderApplied { spec, upload, items: inline, dispositions: dispositions.into(), content };
    Ok(Plan { event: Arc::new(event), items, effect, digest })
}

/// The items of a source.
///
/// # Errors
/// If the staged list is not there.
pub fn take(state: &State, source: &ItemSource) -> Result<Items, Rejection> {
    match source {
        ItemSource::Inline(chunk) => {
            let mut items = Items::default();
            items.push(Arc::clone(chunk));
            Ok(items)
        }
        ItemSource::Staged(upload) => {
            state.upload(upload).map(|u| u.items.clone()).ok_or_else(|| Rejection::UploadNotFound(upload.clone()))
        }
    }
}

/// Fills in the regime's defaults and expands the territory.
fn settle(request: &OrderRequest, rules: &Rules, now: Timestamp) -> Result<OrderSpec, Rejection> {
    let regime = request.regime.as_deref().map(|id| rules.regimes.get(id)).transpose()?;
    let received_at = request.received_at.unwrap_or(now);
    let due = |within: Option<SignedDuration>| within.and_then(|within| received_at.checked_add(within).ok());
    let start = request.effective_from.map_or(now, |from| from.max(now));
    if let Some(end) = request.expires_at
        && end <= start
    {
        return Err(Rejection::EndBeforeStart { start, end });
    }
    let default_basis = if request.instrument == Instrument::OwnRules { Basis::OwnRules } else { Basis::LegalDemand };
    Ok(OrderSpec {
        order_id: request.order_id.clone(),
        instrument: request.instrument,
        issuing_authority: request.issuing_authority.clone(),
        legal_basis: request.legal_basis.clone(),
        external_ref: request.external_ref.clone(),
        regime: request.regime.clone(),
        territory: request.territory.expand(&rules.groups)?,
        confidentiality: request
            .confidentiality
            .or(regime.map(|r| r.confidentiality))
            .unwrap_or(Confidentiality::Public),
        specified_items: request.specified_items,
        basis: request.basis.unwrap_or(default_basis),
        issued_at: request.issued_at,
        received_at,
        comply_by: request.comply_by.or_else(|| due(regime.and_then(|r| r.comply_within))),
        review_due_at: request.review_due_at.or_else(|| due(regime.and_then(|r| r.review_within))),
        effective_from: request.effective_from,
        expires_at: request.expires_at,
        public_notice_url: request.public_notice_url.clone(),
        confidential_reason: request.confidential_reason.clone(),
        redress: request.redress.clone(),
    })
}

/// What is done about each item. The platform's own decisions are not declined for protection: it is theirs to make.
fn dispose(state: &State, spec: &OrderSpec, items: &Items) -> Vec<Disposition> {
    let own = spec.instrument == Instrument::OwnRules;
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
            Subject::Account(id) if !own => {
                state.protection(id).map_or(Disposition::Withheld, |p| Disposition::DeclinedProtected(p.category))
            }
            _ if own => Disposition::RemovedOwnRules,
            _ => Disposition::Withheld,
        }
    };
    items.iter().map(&mut one).collect()
}

/// Over the order and its items as received.
pub(crate) fn content(request: &OrderRequest, items: &Items) -> Digest {
    let mut digest = Digester::new("withheld order content 1");
    digest.text(request.order_id.as_str());
    digest.number(request.instrument.number().into());
    digest.text(&request.issuing_authority);
    digest.number(request.legal_basis.len() as u64);
    request.legal_basis.iter().for_each(|basis| digest.text(basis));
    digest.text(&request.external_ref);
    digest.text(request.regime.as_deref().unwrap_or_default());
    match &request.territory {
        TerritorySpec::Countries(codes) => {
            digest.number(1);
            digest.number(codes.len() as u64);
            codes.iter().for_each(|code| digest.text(code.as_str()));
        }
        TerritorySpec::Group(group) => {
            digest.number(2);
            digest.text(group);
        }
        TerritorySpec::Worldwide => digest.number(3),
    }
    digest.text(request.confidentiality.map(Confidentiality::as_str).unwrap_or_default());
    digest.number(request.specified_items.map_or(0, |n| n.saturating_add(1)));
    digest.text(request.basis.map(Basis::as_str).unwrap_or_default());
    for time in [
        request.issued_at,
        request.received_at,
        request.comply_by,
        request.review_due_at,
        request.effective_from,
        request.expires_at,
    ] {
        digest.time(time);
    }
    digest.text(request.public_notice_url.as_deref().unwrap_or_default());
    digest.text(&request.confidential_reason);
    digest.text(&request.redress);
    for item in items.iter() {
        digest.text(item.locator_type);
        digest.text(item.locator);
        digest.text(item.decline_reason.unwrap_or_default());
    }
    digest.finish()
}

/// What changes for viewers once the order is in force, and the digest of that with all else that applying does.
fn effect(
    state: &State,
    spec: &OrderSpec,
    items: &Items,
    dispositions: &[Disposition],
    content: Digest,
    now: Timestamp,
) -> (Effect, Digest) {
    let mut digest = Digester::new("withheld order outcome 1");
    digest.text(content.as_bytes());
    spec.territory.countries().codes().iter().for_each(|code| digest.text(code));
    digest.text(spec.confidentiality.as_str());
    let mut effect = Effect::default();
    let mut known = std::collections::HashMap::new();
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
        });
        let (true, Resolution::Subject(subject)) = (disposition.takes_effect(), resolution) else { continue };
        let set = state.holdings().set_of(subject);
        let before = *known.entry(set).or_insert_with(|| countries_now(state, set, now));
        let after = before.union(added);
        effect.count(subject, before, after);
        digest.number(u64::from(before == after));
    }
    for (code, change) in &effect.countries {
        digest.text(code);
        digest.number(change.accounts);
        digest.number(change.posts);
    }
    (effect, digest.finish())
}
