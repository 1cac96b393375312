//! What applying an order would do: the one computation behind PreviewOrder and ApplyOrder.

use std::collections::HashSet;
use std::fmt::Write as _;
use std::sync::Arc;

use jiff::{SignedDuration, Timestamp};

use super::approval::Ground;
use super::digest::{Digest, Digester};
use super::effect::Effect;
use super::event::OrderApplied;
use super::ids::{AccountId, OrderId, Subject, UploadId};
use super::item::{ItemChunk, Items, subject_of};
use super::outcome::Outcome;
use super::regime::Confidentiality;
use super::rejection::Rejection;
use super::rules::Rules;
use super::spec::{Basis, Instrument, OrderSpec, ProtectedOverride};
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
    /// Protected accounts to withhold all the same.
    pub protected_override: Option<ProtectedOverride>,
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
    /// Why it takes a second person; empty if it does not.
    pub grounds: Vec<Ground>,
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
    named(request.protected_override.as_ref(), &items)?;
    let content = content(request, &items);
    let outcome = Outcome::of(state, &spec, &items, content, now);
    let grounds = rules.policy.grounds_for_applying(&spec, &items, &outcome.dispositions, &outcome.effect);
    let digest = outcome.digest(&grounds);
    let Outcome { dispositions, effect, .. } = outcome;
    let (upload, inline) = match source {
        ItemSource::Inline(chunk) => (None, Arc::clone(chunk)),
        ItemSource::Staged(upload) => (Some(upload.clone()), Arc::default()),
    };
    let event = OrderApplied { spec, upload, items: inline, dispositions: dispositions.into(), content };
    Ok(Plan { event: Arc::new(event), items, effect, grounds, digest })
}

/// An override is for accounts that the list names: any other is a slip.
fn named(over: Option<&ProtectedOverride>, items: &Items) -> Result<(), Rejection> {
    let Some(over) = over else { return Ok(()) };
    let named: HashSet<Subject> = items.resolutions().filter_map(subject_of).collect();
    let missing: Vec<AccountId> =
        over.accounts.iter().copied().filter(|id| !named.contains(&Subject::Account(*id))).collect();
    if missing.is_empty() { Ok(()) } else { Err(Rejection::OverrideNotNamed { accounts: missing }) }
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
        protected_override: request.protected_override.clone(),
    })
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
    let mut locator = String::new();
    for item in items.iter() {
        digest.text(item.locator_type);
        locator.clear();
        let _ = write!(locator, "{}", item.locator);
        digest.text(&locator);
        digest.text(item.decline_reason.unwrap_or_default());
    }
    // Only where there is one: orders of before there were overrides keep the digest they are known by. No text is so
    // long that this number could be its length.
    if let Some(over) = &request.protected_override {
        digest.number(u64::MAX);
        over.accounts.iter().for_each(|id| digest.number(id.get()));
        digest.text(&over.reason);
    }
    digest.finish()
}
