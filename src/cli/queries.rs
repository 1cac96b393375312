//! Asking: check, countries, explain, watch, healthcheck.

use std::path::PathBuf;
use std::time::Duration;

use clap::Args;
use serde_json::{Value, json};
use tonic::Code;

use super::client::Client;
use super::error::CliError;
use super::item_list;
use super::moment;
use super::output::{Output, progress, say};
use super::show::{
    basis, disposition, freshness_json, freshness_line, item_json, order_json, seconds, state, subject_text, time,
};
use crate::domain::ids::{AccountId, PostId};
use crate::journal::PositionToken;
use crate::pb::v1 as pb;

/// `withheld check`.
#[derive(Debug, Args)]
pub struct CheckArgs {
    /// The viewer's country, for example IN; empty, XX, ZZ and T1 mean unknown
    country: String,
    /// Account ids
    #[arg(value_name = "ID")]
    accounts: Vec<AccountId>,
    /// A post id; may be repeated
    #[arg(long = "post", value_name = "ID")]
    posts: Vec<PostId>,
    /// Ids from a CSV file whose first column is `account_id` or `post_id`, accounts if it has no header; may be repeated
    #[arg(long = "file", value_name = "LIST.csv")]
    files: Vec<PathBuf>,
    /// Print only how many are withheld
    #[arg(long)]
    summary: bool,
}

/// `withheld countries`.
#[derive(Debug, Args)]
pub struct CountriesArgs {
    /// Account ids
    #[arg(value_name = "ID")]
    accounts: Vec<AccountId>,
    /// A post id; may be repeated
    #[arg(long = "post", value_name = "ID")]
    posts: Vec<PostId>,
}

/// `withheld explain`.
#[derive(Debug, Args)]
pub struct ExplainArgs {
    /// An account id; with --post, a post id
    id: AccountId,
    /// The id is a post's
    #[arg(long)]
    post: bool,
    /// Ask about this country
    #[arg(long, value_name = "CC", default_value = "")]
    country: String,
    /// Ask about this time, for example 2021-02-05T12:00:00Z [default: now]
    #[arg(long, value_name = "TIME", value_parser = moment)]
    at: Option<jiff::Timestamp>,
}

/// `withheld watch`.
#[derive(Debug, Args)]
pub struct WatchArgs {
    /// Begin after this revision, or at a position as `resume_position` tells it, which says of which journal it is; 0: with
    /// the current list of everything
    #[arg(long, default_value = "0", value_name = "POSITION")]
    after: Resume,
}

/// `withheld healthcheck`.
#[derive(Debug, Args)]
pub struct HealthArgs {
    /// A service's full name [default: the whole]
    #[arg(long, default_value = "", value_name = "NAME")]
    service: String,
}

fn named(nothing: bool) -> Result<(), CliError> {
    if nothing { Err(CliError::usage("name at least one account or post")) } else { Ok(()) }
}

struct Verdict {
    kind: &'static str,
    id: u64,
    withholding: Option<pb::Withholding>,
}

pub(super) async fn check(args: CheckArgs, client: &Client, out: &mut Output) -> Result<(), CliError> {
    let mut accounts: Vec<u64> = args.accounts.iter().map(|id| id.get()).collect();
    let mut posts: Vec<u64> = args.posts.iter().map(|id| id.get()).collect();
    for file in &args.files {
        let list = item_list::ids(file, &["account_id", "post_id"])?;
        let subjects = if list.header == Some("post_id") { &mut posts } else { &mut accounts };
        subjects.extend(list.rows.into_iter().map(|(_, id, _)| id));
    }
    named(accounts.is_empty() && posts.is_empty())?;
    let mut visibility = client.visibility().await?;
    // An empty batch tells the limit and the revision; the parts after it are asked to be at least as new.
    let ask = |account_ids, post_ids, revision| pb::BatchCheckRequest {
        viewer_country: args.country.clone(),
        account_ids,
        post_ids,
        consistency: Some(pb::Consistency { at_least_revision: revision, ..Default::default() }),
    };
    let mut last = visibility.batch_check(client.request(ask(vec![], vec![], 0))).await?.into_inner();
    let limit = (last.max_batch_size as usize).max(1);
    let revision = last.freshness.map_or(0, |f| f.revision);
    let mut verdicts = Vec::with_capacity(accounts.len() + posts.len());
    let bar = progress((accounts.len() + posts.len()) as u64, "checking");
    for (kind, ids) in [("account_id", &accounts), ("post_id", &posts)] {
        for part in ids.chunks(limit) {
            let (account_ids, post_ids) =
                if kind == "account_id" { (part.to_vec(), vec![]) } else { (vec![], part.to_vec()) };
            last = visibility.batch_check(client.request(ask(account_ids, post_ids, revision))).await?.into_inner();
            bar.inc(part.len() as u64);
            let first = verdicts.len();
            verdicts.extend(part.iter().map(|id| Verdict { kind, id: *id, withholding: None }));
            for entry in last.accounts.iter().chain(&last.posts) {
                let withholding = last.withholdings.get(entry.withholding as usize).cloned().unwrap_or_default();
                if let Some(verdict) = verdicts.get_mut(first + entry.index as usize) {
                    verdict.withholding = Some(withholding);
                }
            }
        }
    }
    bar.finish_and_clear();
    print_verdicts(&args, &verdicts, &last, out)
}

fn print_verdicts(
    args: &CheckArgs,
    verdicts: &[Verdict],
    last: &pb::BatchCheckResponse,
    out: &mut Output,
) -> Result<(), CliError> {
    let withheld = verdicts.iter().filter(|v| v.withholding.is_some()).count();
    if out.is_json() {
        let verdict = |v: &Verdict| {
            let w = v.withholding.as_ref();
            json!({v.kind: v.id.to_string(), "withheld": w.is_some(),
                   "basis": w.map(|w| basis(w.basis)), "notice_key": w.map(|w| w.notice_key.clone()),
                   "public_notice_url": w.and_then(|w| w.public_notice_url.clone()),
                   "valid_until": w.and_then(|w| w.valid_until.as_ref()).map(|at| time(Some(at)))})
        };
        let list: Vec<Value> = if args.summary { vec![] } else { verdicts.iter().map(verdict).collect() };
        return out.json(
            &json!({"viewer_country": args.country, "viewer_country_unknown": last.viewer_country_unknown,
            "freshness": freshness_json(last.freshness.as_ref()), "checked": verdicts.len(),
            "withheld_count": withheld, "verdicts": list}),
        );
    }
    if !args.summary {
        let row = |v: &Verdict| {
            let id = format!("{} {}", v.kind.trim_end_matches("_id"), v.id);
            match &v.withholding {
                Some(w) if w.basis == 0 => vec![id, "withheld".to_owned(), "confidential".to_owned()],
                Some(w) => vec![id, "withheld".to_owned(), basis(w.basis).replace('_', " ")],
                None => vec![id, "visible".to_owned(), String::new()],
            }
        };
        out.table(&["subject", "verdict", "basis"], verdicts.iter().map(row).collect())?;
    }
    let country = if last.viewer_country_unknown { "an unknown country" } else { &args.country };
    let total = verdicts.len();
    out.line(format!("{withheld} of {total} withheld in {country}, {}", freshness_line(last.freshness.as_ref())))
}

pub(super) async fn countries(args: CountriesArgs, client: &Client, out: &mut Output) -> Result<(), CliError> {
    named(args.accounts.is_empty() && args.posts.is_empty())?;
    let request = pb::ListWithheldCountriesRequest {
        account_ids: args.accounts.iter().map(|id| id.get()).collect(),
        post_ids: args.posts.iter().map(|id| id.get()).collect(),
        consistency: None,
    };
    let mut visibility = client.visibility().await?;
    let answer = visibility.list_withheld_countries(client.request(request)).await?.into_inner();
    if out.is_json() {
        let subjects: Vec<Value> = answer.subjects.iter().map(change_json).collect();
        return out.json(&json!({"freshness": freshness_json(answer.freshness.as_ref()), "subjects": subjects}));
    }
    let row = |s: &pb::WithheldCountries| {
        let codes = if s.country_codes.is_empty() { "nowhere".to_owned() } else { s.country_codes.join(", ") };
        vec![change_subject(s), codes]
    };
    out.table(&["subject", "withheld in"], answer.subjects.iter().map(row).collect())?;
    out.line(freshness_line(answer.freshness.as_ref()))
}

fn change_subject(change: &pb::WithheldCountries) -> String {
    match change.subject {
        Some(pb::withheld_countries::Subject::AccountId(id)) => format!("account {id}"),
        Some(pb::withheld_countries::Subject::PostId(id)) => format!("post {id}"),
        None => String::new(),
    }
}

fn change_json(change: &pb::WithheldCountries) -> Value {
    let (kind, id, scope) = match change.subject {
        Some(pb::withheld_countries::Subject::AccountId(id)) => ("account_id", id, "user"),
        Some(pb::withheld_countries::Subject::PostId(id)) => ("post_id", id, "status"),
        None => return Value::Null,
    };
    json!({kind: id.to_string(), "withheld_in_countries": change.country_codes, "withheld_scope": scope})
}

pub(super) async fn explain(args: ExplainArgs, client: &Client, out: &mut Output) -> Result<(), CliError> {
    use pb::subject::Subject;
    let id = args.id.get();
    let subject = if args.post { Subject::PostId(id) } else { Subject::AccountId(id) };
    let at = args.at.map(crate::pb::time);
    let request = pb::ExplainAccountRequest {
        subject: Some(pb::Subject { subject: Some(subject) }),
        country_code: args.country.clone(),
        at,
        consistency: None,
    };
    let answer = client.orders().await?.explain_account(client.request(request)).await?.into_inner();
    if out.is_json() {
        let touch = |t: &pb::OrderTouch| {
            let intervals = t.intervals.iter().map(
                |i| json!({"from": time(i.from.as_ref()), "until": i.until.as_ref().map(|until| time(Some(until)))}),
            );
            json!({"order": t.order.as_ref().map(order_json), "item": t.item.as_ref().map(item_json),
                   "intervals": intervals.collect::<Vec<_>>(), "withheld_then": t.withheld_then})
        };
        let kind = if args.post { "post_id" } else { "account_id" };
        let protected = (!answer.protected_category.is_empty()).then_some(&answer.protected_category);
        return out.json(&json!({kind: id.to_string(), "at": time(answer.at.as_ref()), "country_code": args.country,
            "withheld": answer.withheld, "country_codes": answer.country_codes, "protected_category": protected,
            "orders": answer.orders.iter().map(touch).collect::<Vec<_>>(),
            "freshness": freshness_json(answer.freshness.as_ref())}));
    }
    let row = |t: &pb::OrderTouch| {
        let (order, item) = (t.order.clone().unwrap_or_default(), t.item.clone().unwrap_or_default());
        let ends = |i: &pb::Interval| i.until.as_ref().map_or("now on".to_owned(), |until| seconds(Some(until)));
        let intervals = t.intervals.iter().map(|i| format!("{} – {}", seconds(i.from.as_ref()), ends(i)));
        vec![
            order.spec.unwrap_or_default().order_id,
            state(order.state).replace('_', " "),
            order.country_codes.join(", "),
            format!("line {}: {} {}", item.line, disposition(item.disposition).replace('_', " "), item.explanation),
            intervals.collect::<Vec<_>>().join("\n"),
        ]
    };
    if !answer.orders.is_empty() {
        let header = ["order", "state", "where", "item", "withheld by it"];
        out.table(&header, answer.orders.iter().map(row).collect())?;
    }
    let (named, at) = (subject_text(answer.subject.as_ref()), seconds(answer.at.as_ref()));
    if answer.orders.is_empty() {
        out.line(format!("no order ever named {named}"))?;
    }
    if !answer.protected_category.is_empty() {
        out.line(format!("{named} is protected: {}", answer.protected_category.replace('_', " ")))?;
    }
    match answer.withheld {
        Some(true) => out.line(format!("{named} was withheld in {} at {at}", args.country)),
        Some(false) => out.line(format!("{named} was visible in {} at {at}", args.country)),
        None if answer.country_codes.is_empty() => out.line(format!("{named} was withheld nowhere at {at}")),
        None => out.line(format!("{named} was withheld in {} at {at}", answer.country_codes.join(", "))),
    }
}

/// Prints changes for ever, connecting again where it left off when the service goes away.
pub(super) async fn watch(args: WatchArgs, client: &Client, out: &mut Output) -> Result<(), CliError> {
    let (mut told, mut pause) = (args.after, Duration::from_millis(200));
    // The first connection failing is the user's to know; later ones are tried again.
    let mut visibility = client.visibility().await?;
    loop {
        let started = visibility.watch_withholdings(told.request()).await;
        let ended = match started {
            Ok(stream) => {
                let mut stream = stream.into_inner();
                loop {
                    match stream.message().await {
                        Ok(Some(message)) => {
                            pause = Duration::from_millis(200);
                            print_changes(&message, &told, out)?;
                            told = Resume::Position(message.resume_after_revision, message.resume_position);
                        }
                        Ok(None) => break None,
                        Err(status) => break Some(status),
                    }
                }
            }
            Err(status) => Some(status),
        };
        if let Some(status) = ended {
            match status.code() {
                Code::InvalidArgument | Code::Unimplemented | Code::PermissionDenied | Code::Unauthenticated => {
                    return Err(status.into());
                }
                // One-history: what was printed up to there may not be so.
                Code::FailedPrecondition => return Err(status.into()),
                _ => say(format!("connecting again after revision {}: {}", told.revision(), status.message())),
            }
        }
        tokio::time::sleep(pause).await;
        pause = (pause * 2).min(Duration::from_secs(5));
    }
}

/// Where a watch goes on: a bare revision, as somebody may type it, or a position as it was given.
#[derive(Debug, Clone)]
pub(super) enum Resume {
    /// After a revision of whatever journal the service follows.
    Revision(u64),
    /// The same of one journal.
    Position(u64, String),
}

impl std::str::FromStr for Resume {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        match (text.parse::<u64>(), text.parse::<PositionToken>()) {
            (Ok(revision), _) => Ok(Self::Revision(revision)),
            (Err(_), Ok(position)) => Ok(Self::Position(position.revision().get(), text.to_owned())),
            (Err(_), Err(error)) => Err(format!("{error}, or a revision")),
        }
    }
}

impl Resume {
    const fn revision(&self) -> u64 {
        match self {
            Self::Revision(revision) | Self::Position(revision, _) => *revision,
        }
    }

    fn position(&self) -> &str {
        match self {
            Self::Revision(_) => "",
            Self::Position(_, position) => position,
        }
    }

    fn request(&self) -> pb::WatchWithholdingsRequest {
        pb::WatchWithholdingsRequest { after_revision: self.revision(), resume_position: self.position().to_owned() }
    }
}

/// `before` is where to resume until the last line of the message is dealt with.
fn print_changes(message: &pb::WatchWithholdingsResponse, before: &Resume, out: &mut Output) -> Result<(), CliError> {
    for (at, change) in message.changes.iter().enumerate() {
        if out.is_json() {
            let mut line = change_json(change);
            if let Some(fields) = line.as_object_mut() {
                let last = at + 1 == message.changes.len();
                let after = Resume::Position(message.resume_after_revision, message.resume_position.clone());
                let after = if last { &after } else { before };
                let revision = message.freshness.map_or(0, |f| f.revision);
                fields.insert("revision".to_owned(), revision.to_string().into());
                fields.insert("resume_after_revision".to_owned(), after.revision().to_string().into());
                fields.insert("resume_position".to_owned(), after.position().into());
            }
            out.line(line)?;
        } else {
            let nowhere = change.country_codes.is_empty();
            let codes = if nowhere { "nowhere".to_owned() } else { change.country_codes.join(", ") };
            out.line(format!("{}  withheld in: {codes}", change_subject(change)))?;
        }
    }
    Ok(())
}

pub(super) async fn healthcheck(args: HealthArgs, client: &Client, out: &mut Output) -> Result<(), CliError> {
    use crate::pb::health::health_check_response::ServingStatus;
    use crate::pb::health::{HealthCheckRequest, health_client::HealthClient};
    let mut health = HealthClient::new(client.channel().await?);
    let answer = health.check(client.request(HealthCheckRequest { service: args.service })).await?.into_inner();
    let status = ServingStatus::try_from(answer.status).unwrap_or(ServingStatus::Unknown).as_str_name();
    if status == "SERVING" {
        if out.is_json() { out.json(&json!({"status": status})) } else { out.line(status) }
    } else {
        Err(CliError::failed(format!("the service is {status}")))
    }
}
