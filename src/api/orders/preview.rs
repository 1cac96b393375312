//! What applying an order would do, as an answer.

use std::sync::Arc;

use jiff::Timestamp;

use crate::api::render;
use crate::domain::event::{Attribution, Recorded};
use crate::domain::ids::{Revision, Subject};
use crate::domain::item::{Disposition, subject_of};
use crate::domain::order::{Order, OrderNo};
use crate::domain::plan::{self, ItemSource, OrderRequest};
use crate::domain::rejection::Rejection;
use crate::domain::rules::Rules;
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
    if let Some(applied) = state.order(&order.order_id) {
        let (order, revision) = (applied.id().clone(), applied.applied().revision);
        return Err(Rejection::OrderIdTaken { order, revision });
    }
    let plan = plan::apply(state, rules, order, source, now)?;
    Ok(pb::PreviewOrderResponse {
        order: Some(planned(&plan, by, now)),
        effect: Some(render::effect(&plan.effect)),
        exceptions: exceptions(&plan),
        warnings: warnings(&plan, now),
        digest: plan.digest.as_bytes().to_vec(),
        revision: state.revision().get(),
    })
}

/// The first items on which nothing is done, or that are declined.
fn exceptions(plan: &plan::Plan) -> Vec<pb::ItemOutcome> {
    let all = (0_u32..).zip(plan.items.iter()).zip(plan.event.dispositions.iter());
    let exceptional = all.filter(|(_, disposition)| !disposition.takes_effect());
    exceptional.take(SHOWN).map(|((at, item), done)| render::item(at, item, *done, None, false)).collect()
}

/// What is worth a second look.
fn warnings(plan: &plan::Plan, now: Timestamp) -> Vec<String> {
    let spec = &plan.event.spec;
    let count = |wanted: fn(Disposition) -> bool| plan.event.dispositions.iter().filter(|d| wanted(**d)).count();
    let mut warnings = Vec::new();
    let unresolved = count(|d| matches!(d, Disposition::Unresolved | Disposition::Unsupported));
    if unresolved > 0 {
        warnings.push(format!("{unresolved} of {} items get no action: they do not resolve", plan.items.len()));
    }
    let declined = count(|d| matches!(d, Disposition::DeclinedProtected(_)));
    if declined > 0 {
        warnings.push(format!("{declined} of {} items name protected accounts: they are declined", plan.items.len()));
    }
    let rounded = looking_rounded(plan);
    if rounded > 0 {
        let why = "as a spreadsheet leaves them that keeps 15 digits of a number: compare them with the letter";
        warnings.push(format!("{rounded} of {} items have ids that end in zeros, {why}", plan.items.len()));
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
fn looking_rounded(plan: &plan::Plan) -> usize {
    let effective =
        plan.items.resolutions().zip(plan.event.dispositions.iter()).filter(|(_, done)| done.takes_effect());
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
    let order = Order::new(OrderNo(u32::MAX), applied, Arc::clone(&plan.event), plan.items.clone());
    pb::Order { applied_at: None, effect_given_at: None, ..render::order(&order, now) }
}
