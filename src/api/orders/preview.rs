//! What applying an order would do, as an answer.

use std::sync::Arc;

use jiff::Timestamp;

use crate::api::render;
use crate::domain::event::{Attribution, Recorded};
use crate::domain::ids::Revision;
use crate::domain::item::Disposition;
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
        warnings.push(format!("{declined} items name protected accounts and are declined"));
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

/// The order as it would be recorded.
fn planned(plan: &plan::Plan, by: Attribution, now: Timestamp) -> pb::Order {
    let applied = Recorded { revision: Revision::START, at: now, by };
    let order = Order::new(OrderNo(u32::MAX), applied, Arc::clone(&plan.event), plan.items.clone());
    pb::Order { applied_at: None, effect_given_at: None, ..render::order(&order, now) }
}
