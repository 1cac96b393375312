//! `withheld order`: preview, apply, lift, stay, resume, note, show, items, list.

use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Subcommand};
use indicatif::ProgressBar;
use serde_json::json;
use tonic::Status;

use super::client::Client;
use super::error::CliError;
use super::output::{
    Output, confirm, effect_json, effect_text, instrument, item_json, order_json, progress, say, state, time,
};
use super::{item_list, order_file};
use crate::pb::v1 as pb;

/// Items in one message.
const PART: usize = 10_000;

/// See the module.
#[derive(Debug, Subcommand)]
pub enum OrderCommand {
    /// Tell what applying an order would do, and change nothing
    Preview {
        #[command(flatten)]
        files: Files,
    },
    /// Put an order into force: shows the preview and asks first
    Apply {
        #[command(flatten)]
        files: Files,
        /// Why, for the record
        #[arg(long, default_value = "")]
        reason: String,
        /// Do not ask
        #[arg(long)]
        yes: bool,
    },
    /// End an order for good; what other orders withhold stays withheld
    Lift(Named),
    /// End an order for some of its items
    LiftItems {
        #[command(flatten)]
        named: Named,
        /// CSV with `locator_type,locator`, or one locator a line
        #[arg(long, value_name = "LIST.csv")]
        items: PathBuf,
    },
    /// Suspend an order; it may resume
    Stay(Named),
    /// Put a stayed order back into force
    Resume(Named),
    /// Record what was written or said about an order
    Note {
        /// The order
        order_id: String,
        /// What kind
        #[arg(long, value_parser = ["non_compliance_notice", "clarification_asked", "reply_sent", "meeting", "other"])]
        kind: String,
        /// What it says
        #[arg(long)]
        text: String,
        /// When it was sent, received or held [default: now]
        #[arg(long, value_name = "TIME")]
        at: Option<jiff::Timestamp>,
        /// Its own reference
        #[arg(long = "ref", default_value = "")]
        external_ref: String,
    },
    /// Print an order with its history
    Show {
        /// The order
        order_id: String,
    },
    /// Print an order's items and what was done about each
    Items {
        /// The order
        order_id: String,
        /// Only these
        #[arg(long, value_parser = ["withheld", "declined", "no_action", "removed_own_rules", "lifted"])]
        disposition: Vec<String>,
        /// At most this many
        #[arg(long, default_value_t = 1_000)]
        limit: usize,
    },
    /// Print orders, newest first
    List(ListArgs),
}

/// An order and its list.
#[derive(Debug, Args)]
pub struct Files {
    /// The order, in TOML
    #[arg(long, value_name = "ORDER.toml")]
    file: PathBuf,
    /// Its items: CSV with `locator_type,locator[,decline_reason]`, or one locator a line
    #[arg(long, value_name = "LIST.csv")]
    items: PathBuf,
}

/// An order to change.
#[derive(Debug, Args)]
pub struct Named {
    /// The order
    order_id: String,
    /// Why, for the record
    #[arg(long)]
    reason: String,
    /// Do not ask
    #[arg(long)]
    yes: bool,
}

/// Filters of `order list`.
#[derive(Debug, Args)]
pub struct ListArgs {
    /// Only in these states
    #[arg(long, value_parser = ["scheduled", "in_force", "stayed", "lifted", "expired"])]
    state: Vec<String>,
    /// Only those that hold in this country
    #[arg(long, value_name = "CC", default_value = "")]
    country: String,
    /// Only of an authority whose name contains this
    #[arg(long, default_value = "")]
    authority: String,
    /// Only of this regime
    #[arg(long, default_value = "")]
    regime: String,
    /// Only those whose review is due before this time
    #[arg(long, value_name = "TIME")]
    review_due_before: Option<jiff::Timestamp>,
    /// At most this many
    #[arg(long, default_value_t = 100)]
    limit: usize,
}

fn stamp(at: jiff::Timestamp) -> prost_types::Timestamp {
    prost_types::Timestamp { seconds: at.as_second(), nanos: at.subsec_nanosecond() }
}

/// The number of a word, by the printed words of an enum.
fn number(word: &str, name: fn(i32) -> String) -> i32 {
    (1..16).find(|n| name(*n) == word).unwrap_or_default()
}

pub(super) async fn run(command: OrderCommand, client: &Client, out: &mut Output) -> Result<(), CliError> {
    match command {
        OrderCommand::Preview { files } => preview(&files, client, out).await,
        OrderCommand::Apply { files, reason, yes } => apply(&files, &reason, yes, client, out).await,
        OrderCommand::Lift(named) => {
            let (id, context) = (named.order_id.clone(), client.context(&named.reason));
            let mut orders = client.orders().await?;
            let ask =
                |validate_only| pb::LiftOrderRequest { order_id: id.clone(), context: context.clone(), validate_only };
            let would = orders.lift_order(client.request(ask(true))).await?.into_inner();
            let question = effect_text(would.effect.as_ref(), "would be visible again");
            if !agreed(&format!("lift order {id}? {question}"), named.yes)? {
                return Ok(());
            }
            let done = client.command(ask(false), async |r| orders.lift_order(r).await).await?;
            changed(out, "lifted", done.order, done.effect, done.revision, done.already_done)
        }
        OrderCommand::LiftItems { named, items } => lift_items(named, &items, client, out).await,
        OrderCommand::Stay(named) => {
            let (id, context) = (named.order_id.clone(), client.context(&named.reason));
            let mut orders = client.orders().await?;
            let ask =
                |validate_only| pb::StayOrderRequest { order_id: id.clone(), context: context.clone(), validate_only };
            let would = orders.stay_order(client.request(ask(true))).await?.into_inner();
            let question = effect_text(would.effect.as_ref(), "would be visible again");
            if !agreed(&format!("stay order {id}? {question}"), named.yes)? {
                return Ok(());
            }
            let done = client.command(ask(false), async |r| orders.stay_order(r).await).await?;
            changed(out, "stayed", done.order, done.effect, done.revision, done.already_done)
        }
        OrderCommand::Resume(named) => {
            let (id, context) = (named.order_id.clone(), client.context(&named.reason));
            let mut orders = client.orders().await?;
            let ask = |validate_only| pb::ResumeOrderRequest {
                order_id: id.clone(),
                context: context.clone(),
                validate_only,
            };
            let would = orders.resume_order(client.request(ask(true))).await?.into_inner();
            let question = effect_text(would.effect.as_ref(), "would go dark");
            if !agreed(&format!("resume order {id}? {question}"), named.yes)? {
                return Ok(());
            }
            let done = client.command(ask(false), async |r| orders.resume_order(r).await).await?;
            changed(out, "resumed", done.order, done.effect, done.revision, done.already_done)
        }
        OrderCommand::Note { order_id, kind, text, at, external_ref } => {
            let kind = number(&kind, super::output::correspondence);
            let correspondence = Some(pb::Correspondence { kind, at: at.map(stamp), text, external_ref });
            let context = client.context("");
            let message = pb::RecordCorrespondenceRequest { order_id, correspondence, context };
            let mut orders = client.orders().await?;
            let done = client.command(message, async |r| orders.record_correspondence(r).await).await?;
            changed(out, "noted", done.order, None, done.revision, done.already_done)
        }
        OrderCommand::Show { order_id } => {
            let request = pb::GetOrderRequest { order_id, consistency: None };
            let answer = client.orders().await?.get_order(client.request(request)).await?.into_inner();
            let order = answer.order.unwrap_or_default();
            if out.is_json() { out.json(&order_json(&order)) } else { out.order(&order) }
        }
        OrderCommand::Items { order_id, disposition, limit } => items(order_id, &disposition, limit, client, out).await,
        OrderCommand::List(args) => list(args, client, out).await,
    }
}

/// Asks; a no is said and no error.
fn agreed(question: &str, yes: bool) -> Result<bool, CliError> {
    let agreed = confirm(question, yes)?;
    if !agreed {
        say("nothing was changed");
    }
    Ok(agreed)
}

/// A list, inside the request or staged: lists that do not fit into one request are uploaded first.
enum Source {
    Inline(pb::ItemList),
    Staged(String),
}

async fn source(items: Vec<pb::Item>, client: &Client) -> Result<Source, CliError> {
    if items.len() <= PART {
        return Ok(Source::Inline(pb::ItemList { items }));
    }
    let bar = uploading(items.len());
    let context = client.context("");
    let (sender, receiver) = tokio::sync::mpsc::channel(4);
    let shown = bar.clone();
    let feed = async move {
        let mut items = items.into_iter();
        loop {
            let items: Vec<_> = items.by_ref().take(PART).collect();
            let count = items.len() as u64;
            if count == 0 || sender.send(pb::UploadItemsRequest { context: context.clone(), items }).await.is_err() {
                break;
            }
            shown.inc(count);
        }
    };
    let mut orders = client.orders().await?;
    let stream = client.request(tokio_stream::wrappers::ReceiverStream::new(receiver));
    let (answer, ()) = tokio::join!(orders.upload_items(stream), feed);
    uploaded(&bar, answer.is_ok());
    Ok(Source::Staged(answer?.into_inner().upload_id))
}

impl Source {
    /// Sends the request that first takes the list to the service; a list inside it has its bar meanwhile.
    async fn first<R>(&self, call: impl Future<Output = Result<R, Status>>) -> Result<R, Status> {
        let Self::Inline(list) = self else { return call.await };
        let bar = uploading(list.items.len());
        let answer = call.await;
        uploaded(&bar, answer.is_ok());
        answer
    }
}

fn uploading(items: usize) -> ProgressBar {
    let bar = progress(items as u64, "uploading");
    bar.enable_steady_tick(Duration::from_millis(200));
    bar
}

/// A bar is full once the service has the whole list, and stays where it was if it has not.
fn uploaded(bar: &ProgressBar, whole: bool) {
    if whole {
        bar.finish();
    } else {
        bar.abandon();
    }
}

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
    if let Some(order) = &preview.order {
        out.order(order)?;
    }
    if !preview.exceptions.is_empty() {
        let shown = preview.exceptions.get(..20).unwrap_or(&preview.exceptions);
        out.items(shown)?;
        let more = preview.exceptions.len().saturating_sub(shown.len());
        if more > 0 {
            out.line(format!("and {more} or more others; after applying, `withheld order items` lists them all"))?;
        }
    }
    for warning in &preview.warnings {
        out.line(format!("warning: {warning}"))?;
    }
    out.line(effect_text(preview.effect.as_ref(), "would go dark"))
}

async fn preview(files: &Files, client: &Client, out: &mut Output) -> Result<(), CliError> {
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
        "digest": digest, "revision": preview.revision.to_string(),
    }))
}

async fn apply(files: &Files, reason: &str, yes: bool, client: &Client, out: &mut Output) -> Result<(), CliError> {
    let spec = order_file::read(&files.file)?;
    let source = source(item_list::read(&files.items)?, client).await?;
    let preview_digest = match look(&spec, &source, client).await {
        Ok(preview) => {
            if !out.is_json() {
                show_preview(&preview, out)?;
            }
            if !agreed("put this order into force?", yes)? {
                return Ok(());
            }
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
    if done.already_applied {
        return out.line(format!("order {id} was applied before, at revision {}; nothing was changed", done.revision));
    }
    out.line(format!("order {id} is {} at revision {}", state(order.state).replace('_', " "), done.revision))
}

async fn lift_items(named: Named, items: &std::path::Path, client: &Client, out: &mut Output) -> Result<(), CliError> {
    let source = source(item_list::read(items)?, client).await?;
    let items = match &source {
        Source::Inline(list) => pb::lift_items_request::Items::ItemList(list.clone()),
        Source::Staged(upload) => pb::lift_items_request::Items::UploadId(upload.clone()),
    };
    let (order_id, context) = (named.order_id.clone(), client.context(&named.reason));
    let ask = |validate_only| pb::LiftItemsRequest {
        order_id: order_id.clone(),
        items: Some(items.clone()),
        context: context.clone(),
        validate_only,
    };
    let mut orders = client.orders().await?;
    let would = source.first(orders.lift_items(client.request(ask(true)))).await?.into_inner();
    let effect = effect_text(would.effect.as_ref(), "would be visible again");
    if !agreed(&format!("lift {} items of order {order_id}? {effect}", would.items_lifted), named.yes)? {
        return Ok(());
    }
    let done = client.command(ask(false), async |r| orders.lift_items(r).await).await?;
    changed(out, "lifted in part", done.order, done.effect, done.revision, done.already_done)
}

fn changed(
    out: &mut Output,
    word: &str,
    order: Option<pb::Order>,
    effect: Option<pb::Effect>,
    revision: u64,
    already_done: bool,
) -> Result<(), CliError> {
    let order = order.unwrap_or_default();
    if out.is_json() {
        return out.json(&json!({"order": order_json(&order), "effect": effect_json(effect.as_ref()),
            "revision": revision.to_string(), "already_done": already_done}));
    }
    let id = order.spec.unwrap_or_default().order_id;
    let verb = if word == "resumed" { "went dark" } else { "are visible again" };
    let effect = match effect.as_ref() {
        Some(effect) => format!(": {}", effect_text(Some(effect), verb)),
        None => String::new(),
    };
    out.line(format!("order {id} {word} at revision {revision}{effect}"))
}

async fn items(
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
            dispositions: dispositions.iter().map(|word| number(word, super::output::disposition)).collect(),
            page_size: u32::try_from(limit - found.len()).unwrap_or(u32::MAX),
            page_token,
            consistency: None,
        };
        let page = orders.list_order_items(client.request(request)).await?.into_inner();
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
    out.line(format!("{} items{hint}", found.len()))
}

async fn list(args: ListArgs, client: &Client, out: &mut Output) -> Result<(), CliError> {
    let mut orders = client.orders().await?;
    let (mut found, mut page_token) = (Vec::new(), String::new());
    while found.len() < args.limit {
        let request = pb::ListOrdersRequest {
            states: args.state.iter().map(|word| number(word, state)).collect(),
            country_code: args.country.clone(),
            issuing_authority: args.authority.clone(),
            regime: args.regime.clone(),
            review_due_before: args.review_due_before.map(stamp),
            page_size: u32::try_from(args.limit - found.len()).unwrap_or(u32::MAX),
            page_token,
            ..Default::default()
        };
        let page = orders.list_orders(client.request(request)).await?.into_inner();
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
            if order.country_codes.len() > 4 { spec_group(order) } else { order.country_codes.join(", ") },
            format!("{dark} of {}", order.items),
            time(order.applied_at.as_ref()),
        ]
    };
    let rows = found.iter().map(row).collect();
    out.table(&["order", "state", "instrument", "authority", "where", "dark", "applied"], rows)?;
    let hint = if page_token.is_empty() { "" } else { "; there are more, see --limit" };
    out.line(format!("{} orders{hint}", found.len()))
}

fn spec_group(order: &pb::Order) -> String {
    use pb::territory::Territory;
    match order.spec.as_ref().and_then(|s| s.territory.as_ref()).and_then(|t| t.territory.as_ref()) {
        Some(Territory::Group(group)) => group.clone(),
        _ => format!("{} countries", order.country_codes.len()),
    }
}
