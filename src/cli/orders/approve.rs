//! The second person: sees what waits as it would be done now, and approves exactly that or rejects it.

use serde_json::json;

use super::agreed;
use super::apply::show_exceptions;
use super::change::Changed;
use crate::cli::client::Client;
use crate::cli::error::CliError;
use crate::cli::output::Output;
use crate::cli::show::{effect_json, effect_text, item_json, order_json};
use crate::pb::v1 as pb;

/// What is proposed: the verb, what it is once done, and what that does to viewers.
fn words(order: &pb::Order) -> (&'static str, &'static str, &'static str) {
    match order.approval.as_ref().map(pb::Approval::proposed).unwrap_or_default() {
        pb::Proposed::Apply | pb::Proposed::Unspecified => ("put", "would go dark", "gone dark"),
        pb::Proposed::Lift => ("lift", "would be visible again", "visible again"),
        pb::Proposed::LiftItems => ("lift the proposed items of", "would be visible again", "visible again"),
    }
}

pub(super) async fn approve(
    order_id: String,
    reason: &str,
    yes: bool,
    client: &Client,
    out: &mut Output,
) -> Result<(), CliError> {
    let mut orders = client.orders().await?;
    let (id, context) = (order_id.clone(), client.context(reason));
    let look = pb::ApproveOrderRequest { order_id, context: context.clone(), digest: Vec::new(), validate_only: true };
    let seen = client.command(look.clone(), async |r| orders.approve_order(r).await).await?;
    let order = seen.order.unwrap_or_default();
    let (verb, would, done) = words(&order);
    if !out.is_json() {
        out.line("This is what waits, as it would be done now; nothing has been changed.")?;
        out.order(&order)?;
        show_exceptions(Some(&order), &seen.exceptions, out)?;
        for warning in &seen.warnings {
            out.line(format!("warning: {warning}"))?;
        }
        out.line(effect_text(seen.effect.as_ref(), would))?;
    }
    let into_force = if verb == "put" { " into force" } else { "" };
    agreed(&format!("{verb} order {id}{into_force}? {}", effect_text(seen.effect.as_ref(), would)), yes)?;
    let message = pb::ApproveOrderRequest { context, digest: seen.digest, validate_only: false, ..look };
    let approved = client.command(message, async |r| orders.approve_order(r).await).await?;
    if out.is_json() {
        let order = approved.order.unwrap_or_default();
        return out.json(&json!({"order": order_json(&order), "effect": effect_json(approved.effect.as_ref()),
            "exceptions": seen.exceptions.iter().map(item_json).collect::<Vec<_>>(), "warnings": seen.warnings,
            "revision": approved.revision.to_string(), "already_done": approved.already_done}));
    }
    Changed::from(approved).print("approved", done, out)
}

pub(super) async fn reject(
    order_id: String,
    reason: &str,
    yes: bool,
    client: &Client,
    out: &mut Output,
) -> Result<(), CliError> {
    agreed(&format!("reject what waits for approval of order {order_id}? it is final"), yes)?;
    let message = pb::RejectOrderRequest { order_id, context: client.context(reason) };
    let mut orders = client.orders().await?;
    let rejected = client.command(message, async |r| orders.reject_order(r).await).await?;
    Changed::from(rejected).print("rejected", "", out)
}
