//! Preview and apply: what would happen is shown before it does.

use serde_json::json;

use super::upload::{Source, source};
use super::{Files, agreed};
use crate::cli::client::Client;
use crate::cli::error::CliError;
use crate::cli::output::{Output, counted};
use crate::cli::show::{effect_json, effect_text, grounds_text, item_json, order_json, seconds, state};
use crate::cli::{item_list, order_file};
use crate::pb::v1 as pb;

async fn look(spec: &pb::OrderSpec, source: &Source, client: &Client) -> Result<pb::PreviewOrderResponse, CliError> {
    use pb::preview_order_request::Items;
    let items = match source {
        Source::Inline(list) => Items::ItemList(list.clone()),
        Source::Staged(upload) => Items::UploadId(upload.clone()),
    };
    let request = pb::PreviewOrderRequest { order: Some(spec.clone()), items: Some(items) };
    let mut orders = client.orders().await?;
    Ok(source.first(orders.preview_order(client.request(request))).await?.into_inner())
}

fn show_preview(preview: &pb::PreviewOrderResponse, out: &mut Output) -> Result<(), CliError> {
    out.line("This is a preview: nothing has been changed.")?;
    if let Some(order) = &preview.order {
        out.order(&pb::Order { state: 0, ..order.clone() })?;
    }
    show_exceptions(preview.order.as_ref(), &preview.exceptions, out)?;
    for warning in &preview.warnings {
        out.line(format!("warning: {warning}"))?;
    }
    if !preview.approval_grounds.is_empty() {
        let why = grounds_text(&preview.approval_grounds);
        out.line(format!("it takes two ({why}): it would wait until somebody else approves it"))?;
    }
    out.line(effect_text(preview.effect.as_ref(), "would go dark"))
}

/// The first items that are not simply withheld.
pub(super) fn show_exceptions(
    order: Option<&pb::Order>,
    exceptions: &[pb::ItemOutcome],
    out: &mut Output,
) -> Result<(), CliError> {
    if exceptions.is_empty() {
        return Ok(());
    }
    let shown = exceptions.get(..20).unwrap_or(exceptions);
    out.items(shown)?;
    let plain = |count: &&pb::DispositionCount| {
        let effective = [pb::Disposition::Withheld, pb::Disposition::RemovedOwnRules];
        !(effective.contains(&count.disposition()) && count.cause.is_empty())
    };
    let counts = order.into_iter().flat_map(|order| &order.dispositions);
    let all: u64 = counts.filter(plain).map(|c| c.items).sum();
    let more = all.saturating_sub(shown.len() as u64);
    if more > 0 {
        let more = counted(more, "other");
        out.line(format!("and {more}; once it is recorded, `withheld order items` lists them all"))?;
    }
    Ok(())
}

pub(super) async fn preview(files: &Files, client: &Client, out: &mut Output) -> Result<(), CliError> {
    let spec = order_file::read(&files.file)?;
    let source = source(item_list::read(&files.items)?, client).await?;
    let preview = look(&spec, &source, client).await?;
    if !out.is_json() {
        return show_preview(&preview, out);
    }
    let digest: String = preview.digest.iter().map(|b| format!("{b:02x}")).collect();
    out.json(&json!({
        "order": preview.order.as_ref().map(order_json), "effect": effect_json(preview.effect.as_ref()),
        "exceptions": preview.exceptions.iter().map(item_json).collect::<Vec<_>>(), "warnings": preview.warnings,
        "digest": digest, "revision": preview.revision.to_string(), "approval_grounds": preview.approval_grounds,
    }))
}

pub(super) async fn apply(
    files: &Files,
    reason: &str,
    yes: bool,
    client: &Client,
    out: &mut Output,
) -> Result<(), CliError> {
    let spec = order_file::read(&files.file)?;
    let source = source(item_list::read(&files.items)?, client).await?;
    let preview_digest = match look(&spec, &source, client).await {
        Ok(preview) => {
            if !out.is_json() {
                show_preview(&preview, out)?;
            }
            // In JSON the preview is not shown: the question has to say what it is about.
            let effect = effect_text(preview.effect.as_ref(), "would go dark");
            let question = match preview.approval_grounds.as_slice() {
                [] => format!("put order {} into force? {effect}", spec.order_id),
                _ => format!("propose order {}? {effect} once somebody else approves", spec.order_id),
            };
            agreed(&question, yes)?;
            preview.digest
        }
        // Applied before: applying it again tells whether it is the same, and changes nothing.
        Err(CliError::Runtime { reason, .. }) if reason == "ORDER_ID_TAKEN" => Vec::new(),
        Err(error) => return Err(error),
    };
    let items = match source {
        Source::Inline(list) => pb::apply_order_request::Items::ItemList(list),
        Source::Staged(upload) => pb::apply_order_request::Items::UploadId(upload),
    };
    let context = client.context(reason);
    let message = pb::ApplyOrderRequest { order: Some(spec), items: Some(items), context, preview_digest };
    let mut orders = client.orders().await?;
    let done = client.command(message, async |r| orders.apply_order(r).await).await?;
    let order = done.order.unwrap_or_default();
    if out.is_json() {
        return out.json(&json!({"order": order_json(&order), "revision": done.revision.to_string(),
            "already_applied": done.already_applied}));
    }
    let id = order.spec.clone().unwrap_or_default().order_id;
    let approval = order.approval.as_ref().filter(|approval| approval.state() == pb::ApprovalState::Pending);
    let first = if order.state() == pb::OrderState::PendingApproval { "proposed" } else { "applied" };
    if done.already_applied {
        return out.line(format!("order {id} was {first} before, at revision {}; nothing was changed", done.revision));
    }
    if let Some(approval) = approval {
        out.line(format!(
            "it takes two ({}): somebody else has until {} to say `withheld order approve {id}`",
            grounds_text(&approval.grounds),
            seconds(approval.expires_at.as_ref())
        ))?;
    }
    out.line(format!("order {id} is {} at revision {}", state(order.state).replace('_', " "), done.revision))
}
