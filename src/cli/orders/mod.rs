//! `withheld order`: preview, apply, approve, reject, due, lift, lift-items, stay, resume, note, show, items, list.

mod apply;
mod approve;
mod change;
mod list;
mod upload;

use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Subcommand};

use super::client::Client;
use super::error::CliError;
use super::item_list;
use super::moment;
use super::output::{Output, confirm};
use super::show::{correspondence, order_json};
use crate::config::span;
use crate::pb::v1 as pb;
use change::{Change, Changed};

/// See the module.
#[derive(Debug, Subcommand)]
pub enum OrderCommand {
    /// Tell what applying an order would do, and change nothing
    Preview {
        #[command(flatten)]
        files: Files,
    },
    /// Put an order into force, or propose it where it takes two: shows the preview and asks first
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
    /// Approve what somebody else proposed: shows what it would do now, asks, and does exactly that
    Approve {
        /// The order
        order_id: String,
        /// Why, for the record
        #[arg(long, default_value = "")]
        reason: String,
        /// Do not ask
        #[arg(long)]
        yes: bool,
    },
    /// Reject what somebody else proposed, or withdraw one's own proposal
    Reject(Named),
    /// Print what has to be done by when, earliest first; what is overdue comes first of all
    Due {
        /// As far ahead as this
        #[arg(long, value_name = "DURATION", default_value = "7d", value_parser = ahead)]
        within: Duration,
        /// At most this many
        #[arg(long, default_value_t = 100)]
        limit: usize,
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
        #[arg(long, value_parser = ["non_compliance_notice", "clarification_asked", "reply_sent", "meeting", "review_held", "other"])]
        kind: String,
        /// What it says
        #[arg(long)]
        text: String,
        /// When it was sent, received or held [default: now]
        #[arg(long, value_name = "TIME", value_parser = moment)]
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
    #[arg(long, value_parser = ["scheduled", "in_force", "stayed", "lifted", "expired", "pending_approval", "rejected",
        "expired_unapproved"])]
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
    #[arg(long, value_name = "TIME", value_parser = moment)]
    review_due_before: Option<jiff::Timestamp>,
    /// At most this many
    #[arg(long, default_value_t = 100)]
    limit: usize,
}

/// A length of time that may be in days, too.
fn ahead(text: &str) -> Result<Duration, String> {
    match text.strip_suffix('d').and_then(|days| days.trim().parse::<u32>().ok()) {
        Some(days) => Ok(Duration::from_hours(24 * u64::from(days))),
        None => span(text).map_err(|_| "write it like 7d, 36h or 90m".to_owned()),
    }
}

/// The number of a word, by the printed words of an enum.
fn number(word: &str, name: fn(i32) -> String) -> i32 {
    (1..16).find(|n| name(*n) == word).unwrap_or_default()
}

pub(super) async fn run(command: OrderCommand, client: &Client, out: &mut Output) -> Result<(), CliError> {
    match command {
        OrderCommand::Preview { files } => apply::preview(&files, client, out).await,
        OrderCommand::Apply { files, reason, yes } => apply::apply(&files, &reason, yes, client, out).await,
        OrderCommand::Approve { order_id, reason, yes } => approve::approve(order_id, &reason, yes, client, out).await,
        OrderCommand::Reject(Named { order_id, reason, yes }) => {
            approve::reject(order_id, &reason, yes, client, out).await
        }
        OrderCommand::Due { within, limit } => list::due(within, limit, client, out).await,
        OrderCommand::Lift(named) => Change::Lift.run(named, client, out).await,
        OrderCommand::LiftItems { named, items } => {
            let items = upload::source(item_list::read(&items)?, client).await?;
            Change::LiftItems(items).run(named, client, out).await
        }
        OrderCommand::Stay(named) => Change::Stay.run(named, client, out).await,
        OrderCommand::Resume(named) => Change::Resume.run(named, client, out).await,
        OrderCommand::Note { order_id, kind, text, at, external_ref } => {
            let kind = number(&kind, correspondence);
            let correspondence = Some(pb::Correspondence { kind, at: at.map(crate::pb::time), text, external_ref });
            let message = pb::RecordCorrespondenceRequest { order_id, correspondence, context: client.context("") };
            let mut orders = client.orders().await?;
            let done = client.command(message, async |r| orders.record_correspondence(r).await).await?;
            Changed::from(done).print("noted", "", out)
        }
        OrderCommand::Show { order_id } => {
            let request = pb::GetOrderRequest { order_id, consistency: None };
            let answer = client.orders().await?.get_order(client.request(request)).await?.into_inner();
            let order = answer.order.unwrap_or_default();
            if out.is_json() { out.json(&order_json(&order)) } else { out.order(&order) }
        }
        OrderCommand::Items { order_id, disposition, limit } => {
            list::items(order_id, &disposition, limit, client, out).await
        }
        OrderCommand::List(args) => list::list(args, client, out).await,
    }
}

/// Asks; a no ends the command, and no script takes it for done.
fn agreed(question: &str, yes: bool) -> Result<(), CliError> {
    if confirm(question, yes)? { Ok(()) } else { Err(CliError::Declined) }
}
