//! `withheld protect`: the accounts on which orders are declined by default.

use std::path::PathBuf;

use clap::Subcommand;
use serde_json::json;

use super::client::Client;
use super::error::CliError;
use super::item_list;
use super::output::{Output, counted, progress, say, waiting};
use super::show::{category, seconds, time};
use crate::domain::protection::Category;
use crate::pb::v1 as pb;

/// Accounts in one request.
const PART: usize = 10_000;

/// See the module.
#[derive(Debug, Subcommand)]
pub enum ProtectCommand {
    /// Put accounts on the list
    Add {
        /// CSV with `account_id,category`
        #[arg(long, value_name = "LIST.csv")]
        file: PathBuf,
        /// Why, for the record
        #[arg(long, default_value = "")]
        reason: String,
    },
    /// Take accounts off the list
    Remove {
        /// CSV with `account_id`; further columns are not read
        #[arg(long, value_name = "LIST.csv")]
        file: PathBuf,
        /// Why, for the record
        #[arg(long)]
        reason: String,
    },
    /// Print the list
    List {
        /// Only this category
        #[arg(long)]
        category: Option<Category>,
    },
}

fn number(category: Category) -> i32 {
    (1..=5).find(|n| self::category(*n) == category.as_str()).unwrap_or_default()
}

pub(super) async fn run(command: ProtectCommand, client: &Client, out: &mut Output) -> Result<(), CliError> {
    match command {
        ProtectCommand::Add { file, reason } => add(&file, &reason, client, out).await,
        ProtectCommand::Remove { file, reason } => remove(&file, &reason, client, out).await,
        ProtectCommand::List { category } => list(category, client, out).await,
    }
}

async fn add(file: &std::path::Path, reason: &str, client: &Client, out: &mut Output) -> Result<(), CliError> {
    let (mut accounts, mut bad) = (Vec::new(), Vec::new());
    for (line, account_id, word) in item_list::accounts(file)? {
        match word.parse::<Category>() {
            Ok(category) => accounts.push(pb::ProtectedAccount { account_id, category: number(category), since: None }),
            Err(why) => bad.push(format!("line {line}: {why}")),
        }
    }
    if !bad.is_empty() {
        let bad = bad.join("\n  ");
        return Err(CliError::usage(format!("the list `{}` is not used:\n  {bad}", file.display())));
    }
    let mut orders = client.protections().await?;
    let mut sum = pb::ProtectAccountsResponse::default();
    let bar = progress(accounts.len() as u64, "protecting");
    for part in accounts.chunks(PART) {
        let message = pb::ProtectAccountsRequest { accounts: part.to_vec(), context: client.context(reason) };
        let done = client.command(message, async |r| orders.protect_accounts(r).await).await?;
        bar.inc(part.len() as u64);
        sum.added += done.added;
        sum.moved += done.moved;
        sum.unchanged += done.unchanged;
        sum.revision = done.revision;
        sum.withheld_account_ids.extend(done.withheld_account_ids);
    }
    bar.finish_and_clear();
    let withheld: Vec<String> = sum.withheld_account_ids.iter().map(ToString::to_string).collect();
    if out.is_json() {
        return out.json(&json!({"added": sum.added, "moved": sum.moved, "unchanged": sum.unchanged,
            "withheld_account_ids": withheld, "revision": sum.revision.to_string()}));
    }
    if !withheld.is_empty() {
        say(format!("warning: orders withhold {} of them all the same: {}", withheld.len(), withheld.join(", ")));
    }
    let pb::ProtectAccountsResponse { added, moved, unchanged, revision, .. } = sum;
    out.line(format!("protected: {added} added, {moved} moved, {unchanged} there before; at revision {revision}"))
}

async fn remove(file: &std::path::Path, reason: &str, client: &Client, out: &mut Output) -> Result<(), CliError> {
    let ids: Vec<u64> = item_list::accounts(file)?.into_iter().map(|(_, id, _)| id).collect();
    let mut orders = client.protections().await?;
    let (mut removed, mut unchanged, mut revision) = (0, 0, 0);
    let bar = progress(ids.len() as u64, "unprotecting");
    for part in ids.chunks(PART) {
        let message = pb::UnprotectAccountsRequest { account_ids: part.to_vec(), context: client.context(reason) };
        let done = client.command(message, async |r| orders.unprotect_accounts(r).await).await?;
        bar.inc(part.len() as u64);
        (removed, unchanged, revision) = (removed + done.removed, unchanged + done.unchanged, done.revision);
    }
    bar.finish_and_clear();
    if out.is_json() {
        let revision = revision.to_string();
        return out.json(&json!({"removed": removed, "unchanged": unchanged, "revision": revision}));
    }
    out.line(format!("unprotected: {removed} removed, {unchanged} were not on the list; at revision {revision}"))
}

async fn list(wanted: Option<Category>, client: &Client, out: &mut Output) -> Result<(), CliError> {
    let mut orders = client.protections().await?;
    let (mut accounts, mut page_token) = (Vec::new(), String::new());
    loop {
        let request = pb::ListProtectedAccountsRequest {
            category: wanted.map(number).unwrap_or_default(),
            page_size: 10_000,
            page_token,
            consistency: None,
        };
        let page = waiting("reading", orders.list_protected_accounts(client.request(request))).await?.into_inner();
        accounts.extend(page.accounts);
        page_token = page.next_page_token;
        if page_token.is_empty() {
            break;
        }
    }
    if out.is_json() {
        let row = |a: &pb::ProtectedAccount| {
            json!({"account_id": a.account_id.to_string(), "category": category(a.category),
                   "since": time(a.since.as_ref())})
        };
        return out.json(&json!({"accounts": accounts.iter().map(row).collect::<Vec<_>>()}));
    }
    let row = |a: &pb::ProtectedAccount| {
        vec![a.account_id.to_string(), category(a.category).replace('_', " "), seconds(a.since.as_ref())]
    };
    out.table(&["account", "category", "since"], accounts.iter().map(row).collect())?;
    out.line(counted(accounts.len() as u64, "account"))
}
