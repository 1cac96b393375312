//! Orders, their items and their deadlines as lists.

use std::time::Duration;

use serde_json::json;

use super::{ListArgs, number};
use crate::cli::client::Client;
use crate::cli::error::CliError;
use crate::cli::output::{Output, counted, waiting};
use crate::cli::show::{deadline, disposition, instrument, item_json, order_json, seconds, state, territory, time};
use crate::pb::v1 as pb;

pub(super) async fn items(
    order_id: String,
    dispositions: &[String],
    limit: usize,
    client: &Client,
    out: &mut Output,
) -> Result<(), CliError> {
    let mut orders = client.orders().await?;
    let (mut found, mut page_token) = (Vec::new(), String::new());
    while found.len() < limit {
        let request = pb::ListOrderItemsRequest {
            order_id: order_id.clone(),
            dispositions: dispositions.iter().map(|word| number(word, disposition)).collect(),
            page_size: u32::try_from(limit - found.len()).unwrap_or(u32::MAX),
            page_token,
            consistency: None,
        };
        let page = waiting("reading", orders.list_order_items(client.request(request))).await?.into_inner();
        found.extend(page.items);
        page_token = page.next_page_token;
        if page_token.is_empty() {
            break;
        }
    }
    let more = !page_token.is_empty();
    if out.is_json() {
        let list: Vec<_> = found.iter().map(item_json).collect();
        return out.json(&json!({"order_id": order_id, "items": list, "more": more}));
    }
    out.items(&found)?;
    let hint = if more { "; there are more, see --limit" } else { "" };
    out.line(format!("{}{hint}", counted(found.len() as u64, "item")))
}

pub(super) async fn list(args: ListArgs, client: &Client, out: &mut Output) -> Result<(), CliError> {
    let mut orders = client.orders().await?;
    let (mut found, mut page_token) = (Vec::new(), String::new());
    while found.len() < args.limit {
        let request = pb::ListOrdersRequest {
            states: args.state.iter().map(|word| number(word, state)).collect(),
            country_code: args.country.clone(),
            issuing_authority: args.authority.clone(),
            regime: args.regime.clone(),
            review_due_before: args.review_due_before.map(crate::pb::time),
            page_size: u32::try_from(args.limit - found.len()).unwrap_or(u32::MAX),
            page_token,
            ..Default::default()
        };
        let page = waiting("reading", orders.list_orders(client.request(request))).await?.into_inner();
        found.extend(page.orders);
        page_token = page.next_page_token;
        if page_token.is_empty() {
            break;
        }
    }
    if out.is_json() {
        return out.json(&json!({"orders": found.iter().map(order_json).collect::<Vec<_>>(),
            "more": !page_token.is_empty()}));
    }
    let row = |order: &pb::Order| {
        let spec = order.spec.clone().unwrap_or_default();
        let done = |n: pb::Disposition| {
            let counts = order.dispositions.iter().filter(|c| c.disposition == i32::from(n));
            counts.map(|c| c.items).sum::<u64>()
        };
        let dark = done(pb::Disposition::Withheld) + done(pb::Disposition::RemovedOwnRules);
        vec![
            spec.order_id,
            state(order.state).replace('_', " "),
            instrument(spec.instrument).replace('_', " "),
            spec.issuing_authority,
            territory(order),
            format!("{dark} of {}", order.items),
            seconds(order.applied_at.as_ref()),
        ]
    };
    let rows = found.iter().map(row).collect();
    out.table(&["order", "state", "instrument", "authority", "where", "dark", "applied"], rows)?;
    let hint = if page_token.is_empty() { "" } else { "; there are more, see --limit" };
    out.line(format!("{}{hint}", counted(found.len() as u64, "order")))
}

pub(super) async fn due(within: Duration, limit: usize, client: &Client, out: &mut Output) -> Result<(), CliError> {
    let mut orders = client.orders().await?;
    let (mut found, mut page_token) = (Vec::new(), String::new());
    while found.len() < limit {
        let request = pb::ListDueOrdersRequest {
            within: prost_types::Duration::try_from(within).ok(),
            page_size: u32::try_from(limit - found.len()).unwrap_or(u32::MAX),
            page_token,
            consistency: None,
        };
        let page = waiting("reading", orders.list_due_orders(client.request(request))).await?.into_inner();
        found.extend(page.due);
        page_token = page.next_page_token;
        if page_token.is_empty() {
            break;
        }
    }
    let more = !page_token.is_empty();
    if out.is_json() {
        let due = |due: &pb::DueOrder| {
            json!({"at": time(due.at.as_ref()), "deadline": deadline(due.deadline), "overdue": due.overdue,
                "order": due.order.as_ref().map(order_json)})
        };
        return out.json(&json!({"due": found.iter().map(due).collect::<Vec<_>>(), "more": more}));
    }
    let row = |due: &pb::DueOrder| {
        let order = due.order.clone().unwrap_or_default();
        let what = match due.deadline() {
            pb::Deadline::ComplyBy => "comply",
            pb::Deadline::ReviewDueAt => "hold its review",
            pb::Deadline::ApprovalExpiresAt => "approve or reject",
            pb::Deadline::ExpiresAt => "it expires",
            pb::Deadline::Unspecified => "",
        };
        vec![
            seconds(due.at.as_ref()),
            if due.overdue { "OVERDUE".to_owned() } else { String::new() },
            what.to_owned(),
            state(order.state).replace('_', " "),
            order.spec.unwrap_or_default().order_id,
        ]
    };
    out.table(&["by", "", "what", "state", "order"], found.iter().map(row).collect())?;
    let overdue = found.iter().filter(|due| due.overdue).count();
    let hint = if more { "; there are more, see --limit" } else { "" };
    out.line(format!("{}, {overdue} overdue{hint}", counted(found.len() as u64, "deadline")))
}
