//! What applying an order would do, or approving what waits, as an answer.

use std::sync::Arc;

use jiff::Timestamp;

use crate::api::render::{self, Since};
use crate::domain::approval::{self, Proposed};
use crate::domain::event::{Attribution, Recorded};
use crate::domain::ids::{Revision, Subject};
use crate::domain::item::{Disposition, Items, subject_of};
use crate::domain::order::{Order, OrderNo};
use crate::domain::plan::{self, ItemSource, OrderRequest};
use crate::domain::rejection::Rejection;
use crate::domain::rules::Rules;
use crate::domain::spec::OrderSpec;
use crate::domain::state::State;
use crate::pb::v1 as pb;

/// Exceptions shown in a preview.
const SHOWN: usize = 100;

/// Answers PreviewOrder from one state.
pub(super) fn preview(
    state: &State,
    rules: &Rules,
    order: &OrderRequest,
    source: &ItemSource,
    by: Attribution,
    now: Timestamp,
) -> Result<pb::PreviewOrderResponse, Rejection> {
    if let Some(known) = state.order(&order.order_id) {
        let (order, revision) = (known.id().clone(), known.recorded().revision);
        return Err(Rejection::OrderIdTaken { order, revision });
    }
    let plan = plan::apply(state, rules, order, source, now)?;
    Ok(pb::PreviewOrderResponse {
        order: Some(planned(&plan, by, now)),
        effect: Some(render::effect(&plan.effect)),
        exceptions: exceptions(&plan.items, &plan.event.dispositions),
        warnings: warnings(&Listed::of_plan(&plan), now),
        digest: plan.digest.as_bytes().to_vec(),
        revision: state.revision().get(),
        approval_grounds: render::grounds(&plan.grounds),
    })
}

/// Answers ApproveOrder that only validates, from one state.
pub(super) fn pending(state: &State, order: &Order, now: Timestamp) -> Result<pb::ApproveOrderResponse, Rejection> {
    let pending = approval::pending(state, order, now)?;
    let listed = Listed { spec: order.spec(), items: order.items(), dispositions: &pending.dispositions };
    let applies = order.approval().is_some_and(|approval| approval.of == Proposed::Apply);
    let mut said: Vec<String> =
        pending.differs.iter().map(|differs| format!("it is not as it was proposed: {differs}")).collect();
    let (mut exceptional, mut rendered) = (Vec::new(), render::order(order, now));
    if applies {
        said.extend(warnings(&listed, now));
        exceptional = exceptions(order.items(), &pending.dispositions);
        let counted = pending.dispositions.iter().zip(order.items().resolutions());
        rendered.dispositions = render::dispositions(counted.map(|(done, named)| (*done, named, Since::Stands)));
    }
    Ok(pb::ApproveOrderResponse {
        order: Some(rendered),
        effect: Some(render::effect(&pending.effect)),
        exceptions: exceptional,
        warnings: said,
        digest: pending.digest.as_bytes().to_vec(),
        revision: state.revision().get(),
        already_done: false,
    })
}

/// The first items on which nothing is done, that are declined, or that are withheld by an override.
fn exceptions(items: &Items, dispositions: &[Disposition]) -> Vec<pb::ItemOutcome> {
    let all = (0_u32..).zip(items.iter()).zip(dispositions);
    let exceptional = all.filter(|(_, done)| !matches!(done, Disposition::Withheld | Disposition::RemovedOwnRules));
    exceptional.take(SHOWN).map(|((at, item), done)| render::item(at, item, *done, Since::Stands, false)).collect()
}

/// An order, its list, and what would be done about it.
struct Listed<'a> {
    spec: &'a OrderSpec,
    items: &'a Items,
    dispositions: &'a [Disposition],
}

impl<'a> Listed<'a> {
    fn of_plan(plan: &'a plan::Plan) -> Self {
        Self { spec: &plan.event.spec, items: &plan.items, dispositions: &plan.event.dispositions }
    }
}

/// What is worth a second look.
fn warnings(listed: &Listed<'_>, now: Timestamp) -> Vec<String> {
    let Listed { spec, items, dispositions } = listed;
    let count = |wanted: fn(Disposition) -> bool| dispositions.iter().filter(|done| wanted(**done)).count();
    let mut warnings = Vec::new();
    let unresolved = count(|d| matches!(d, Disposition::Unresolved | Disposition::Unsupported));
    if unresolved > 0 {
        warnings.push(format!("{unresolved} of {} items get no action: they do not resolve", items.len()));
    }
    let declined = count(|d| matches!(d, Disposition::DeclinedProtected(_)));
    if declined > 0 {
        warnings.push(format!("{declined} of {} items name protected accounts: they are declined", items.len()));
    }
    let overridden = count(|d| d == Disposition::WithheldByOverride);
    if overridden > 0 {
        let all = items.len();
        warnings.push(format!("{overridden} of {all} items name protected accounts that are withheld by override"));
    }
    let idle = spec.protected_override.as_ref().map_or(0, |over| over.accounts.len()).saturating_sub(overridden);
    if idle > 0 {
        warnings.push(format!("{idle} of the accounts in protected_override do not need it: they are not declined"));
    }
    let rounded = looking_rounded(listed);
    if rounded > 0 {
        let why = "as a spreadsheet leaves them that keeps 15 digits of a number: compare them with the letter";
        warnings.push(format!("{rounded} of {} items have ids that end in zeros, {why}", items.len()));
    }
    if count(Disposition::takes_effect) == 0 {
        warnings.push("nothing would be withheld".to_owned());
    }
    if spec.specified_items.is_none() {
        warnings.push("specified_items is not stated, so the list is not checked against the letter".to_owned());
    }
    if spec.comply_by.is_some_and(|due| due < now) {
        warnings.push("comply_by has passed already".to_owned());
    }
    if spec.territory.countries().is_everywhere() {
        warnings.push("the order holds worldwide".to_owned());
    }
    if let Some(from) = spec.effective_from.filter(|from| *from > now) {
        warnings.push(format!("nothing changes before {from}, when the order starts by itself"));
    }
    warnings
}

/// How many ids look as if a spreadsheet had kept only their first 15 digits; none if chance alone may leave so many.
/// **Never-guess**: they are withheld as they are written, and pointed out.
fn looking_rounded(listed: &Listed<'_>) -> usize {
    let effective = listed.items.resolutions().zip(listed.dispositions).filter(|(_, done)| done.takes_effect());
    let (mut found, mut by_chance) = (0_u32, 0.0);
    for subject in effective.filter_map(|(resolution, _)| subject_of(resolution)) {
        let id = match subject {
            Subject::Account(id) => id.get(),
            Subject::Post(id) => id.get(),
        };
        let Some(lost) = id.ilog10().checked_sub(14).filter(|lost| *lost > 0) else { continue };
        let unit = 10_u64.pow(lost);
        found += u32::from(id % unit == 0);
        by_chance += 1.0 / unit as f64;
    }
    if f64::from(found) > 10.0 * by_chance { found as usize } else { 0 }
}

/// The order as it would be recorded.
fn planned(plan: &plan::Plan, by: Attribution, now: Timestamp) -> pb::Order {
    let applied = Recorded { revision: Revision::START, at: now, by };
    let order = Order::new(OrderNo(u32::MAX), applied, Arc::clone(&plan.event), plan.items.clone(), None);
    pb::Order { applied_at: None, effect_given_at: None, ..render::order(&order, now) }
}
