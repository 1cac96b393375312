//! Printing: tables for people, JSON for programs. 64-bit numbers are strings in JSON.

use std::io::{self, IsTerminal as _, Write as _};

use comfy_table::{ContentArrangement, Table, presets};
use indicatif::{ProgressBar, ProgressState, ProgressStyle};
use serde_json::{Value, json};

use super::Format;
use super::error::CliError;
use crate::pb::v1 as pb;

/// See the module.
#[derive(Debug)]
pub(super) struct Output {
    format: Format,
}

impl Output {
    pub(super) const fn new(format: Format) -> Self {
        Self { format }
    }

    pub(super) fn is_json(&self) -> bool {
        self.format == Format::Json
    }

    pub(super) fn bytes(&mut self, bytes: &[u8]) -> Result<(), CliError> {
        let mut stdout = io::stdout().lock();
        stdout.write_all(bytes).and_then(|()| stdout.flush()).map_err(|error| match error.kind() {
            io::ErrorKind::BrokenPipe => CliError::PipeClosed,
            _ => CliError::failed(format!("the output cannot be written: {error}")),
        })
    }

    pub(super) fn line(&mut self, line: impl std::fmt::Display) -> Result<(), CliError> {
        self.bytes(format!("{line}\n").as_bytes())
    }

    pub(super) fn json(&mut self, value: &Value) -> Result<(), CliError> {
        let text = serde_json::to_string_pretty(value).unwrap_or_default();
        self.line(text)
    }

    pub(super) fn table(&mut self, header: &[&str], rows: Vec<Vec<String>>) -> Result<(), CliError> {
        let mut table = Table::new();
        table.load_style(presets::UTF8_BORDERS_ONLY).set_content_arrangement(ContentArrangement::Dynamic);
        // Some containers' terminals say that they are 0 columns wide.
        if table.width() == Some(0) {
            table.set_width(120);
        }
        if header.iter().any(|name| !name.is_empty()) {
            table.set_header(header.to_vec());
        }
        table.add_rows(rows);
        self.line(table)
    }
}

/// Something said to the person at the terminal.
pub(super) fn say(message: impl std::fmt::Display) {
    let _ = writeln!(io::stderr(), "{message}");
}

/// A bar on standard error, where it is a terminal.
pub(super) fn progress(total: u64, what: &'static str) -> ProgressBar {
    let bar = if io::stderr().is_terminal() { ProgressBar::new(total) } else { ProgressBar::hidden() };
    let style = ProgressStyle::with_template("{msg} {wide_bar} {human_pos}/{human_len} {rate} {eta}");
    if let Ok(style) = style {
        bar.set_style(style.with_key("rate", |state: &ProgressState, text: &mut dyn std::fmt::Write| {
            let _ = write!(text, "{:.0}/s", state.per_sec());
        }));
    }
    bar.set_message(what);
    bar
}

/// Asks before something is done.
pub(super) fn confirm(question: &str, yes: bool) -> Result<bool, CliError> {
    if yes {
        return Ok(true);
    }
    if !io::stdin().is_terminal() {
        return Err(CliError::usage("there is nobody to ask at a terminal: look at the preview, then pass --yes"));
    }
    let _ = write!(io::stderr(), "{question} [y/N] ");
    let mut answer = String::new();
    io::stdin().read_line(&mut answer).map_err(|e| CliError::failed(format!("no answer can be read: {e}")))?;
    Ok(matches!(answer.trim(), "y" | "Y" | "yes"))
}

/// A time for people and programs; empty if unset.
pub(super) fn time(at: Option<&prost_types::Timestamp>) -> String {
    at.and_then(|t| jiff::Timestamp::new(t.seconds, t.nanos).ok()).map(|t| t.to_string()).unwrap_or_default()
}

/// A number's name in an enum, lower case, without its prefix.
pub(super) fn word(name: &str, prefix: &str) -> String {
    name.trim_start_matches(prefix).to_lowercase()
}

pub(super) fn basis(number: i32) -> String {
    word(pb::Basis::try_from(number).unwrap_or_default().as_str_name(), "BASIS_")
}

pub(super) fn state(number: i32) -> String {
    word(pb::OrderState::try_from(number).unwrap_or_default().as_str_name(), "ORDER_STATE_")
}

pub(super) fn instrument(number: i32) -> String {
    word(pb::Instrument::try_from(number).unwrap_or_default().as_str_name(), "INSTRUMENT_")
}

pub(super) fn disposition(number: i32) -> String {
    word(pb::Disposition::try_from(number).unwrap_or_default().as_str_name(), "DISPOSITION_")
}

pub(super) fn category(number: i32) -> String {
    word(pb::ProtectionCategory::try_from(number).unwrap_or_default().as_str_name(), "PROTECTION_CATEGORY_")
}

fn unset(text: String) -> Value {
    if text.is_empty() { Value::Null } else { text.into() }
}

pub(super) fn freshness_json(freshness: Option<&pb::Freshness>) -> Value {
    let Some(f) = freshness else { return Value::Null };
    let age = f.age.and_then(|age| std::time::Duration::try_from(age).ok()).unwrap_or_default();
    let live = f.liveness == i32::from(pb::Liveness::Live);
    json!({"revision": f.revision.to_string(), "age_ms": age.as_millis() as u64,
           "liveness": if live { "live" } else { "stale" }})
}

pub(super) fn freshness_line(freshness: Option<&pb::Freshness>) -> String {
    let Some(f) = freshness else { return String::new() };
    let age = f.age.and_then(|age| std::time::Duration::try_from(age).ok()).unwrap_or_default();
    let live = if f.liveness == i32::from(pb::Liveness::Live) { "live" } else { "STALE" };
    format!("at revision {}, {live}, known {} ms ago", f.revision, age.as_millis())
}

pub(super) fn subject_text(subject: Option<&pb::Subject>) -> String {
    match subject.and_then(|s| s.subject.as_ref()) {
        Some(pb::subject::Subject::AccountId(id)) => format!("account {id}"),
        Some(pb::subject::Subject::PostId(id)) => format!("post {id}"),
        None => String::new(),
    }
}

pub(super) fn effect_json(effect: Option<&pb::Effect>) -> Value {
    let Some(e) = effect else { return Value::Null };
    let countries =
        e.countries.iter().map(|c| json!({"country_code": c.country_code, "accounts": c.accounts, "posts": c.posts}));
    json!({"accounts_changed": e.accounts_changed, "posts_changed": e.posts_changed, "unchanged": e.unchanged,
           "countries": countries.collect::<Vec<_>>()})
}

/// What changes for viewers, in a sentence or two.
pub(super) fn effect_text(effect: Option<&pb::Effect>, verb: &str) -> String {
    let Some(e) = effect else { return String::new() };
    let countries: Vec<String> =
        e.countries.iter().map(|c| format!("{}: {} accounts, {} posts", c.country_code, c.accounts, c.posts)).collect();
    let shown = if countries.len() > 8 { format!("{} countries", countries.len()) } else { countries.join("; ") };
    let mut text = format!("{} accounts and {} posts {verb}", e.accounts_changed, e.posts_changed);
    if !shown.is_empty() {
        text.push_str(&format!(" ({shown})"));
    }
    if e.unchanged > 0 {
        text.push_str(&format!("; {} stay as they are, because another order withholds them too", e.unchanged));
    }
    text
}

pub(super) fn dispositions_json(counts: &[pb::DispositionCount]) -> Vec<Value> {
    let count = |c: &pb::DispositionCount| json!({"disposition": disposition(c.disposition), "cause": unset(c.cause.clone()), "items": c.items});
    counts.iter().map(count).collect()
}

pub(super) fn item_json(item: &pb::ItemOutcome) -> Value {
    let id = |subject: &pb::Subject| match subject.subject {
        Some(pb::subject::Subject::AccountId(id)) => json!({"account_id": id.to_string()}),
        Some(pb::subject::Subject::PostId(id)) => json!({"post_id": id.to_string()}),
        None => Value::Null,
    };
    json!({
        "item_number": item.item_number, "line": item.line, "locator_type": item.locator_type,
        "locator": item.locator, "subject": item.subject.as_ref().map(id),
        "disposition": disposition(item.disposition), "cause": unset(item.cause.clone()),
        "explanation": unset(item.explanation.clone()), "decline_reason": unset(item.decline_reason.clone()),
        "lifted_at": unset(time(item.lifted_at.as_ref())), "also_removed_own_rules": item.also_removed_own_rules,
    })
}

pub(super) fn order_json(order: &pb::Order) -> Value {
    let spec = order.spec.clone().unwrap_or_default();
    let history = order.history.iter().map(|event| {
        json!({
            "kind": event.kind, "revision": event.revision.to_string(), "at": time(event.at.as_ref()),
            "actor": event.actor, "reason": unset(event.reason.clone()), "request_id": event.request_id,
            "items": event.items,
            "correspondence": event.correspondence.as_ref().map(|letter| json!({
                "kind": correspondence(letter.kind), "at": time(letter.at.as_ref()), "text": letter.text,
                "external_ref": unset(letter.external_ref.clone()),
            })),
        })
    });
    let confidentiality = pb::Confidentiality::try_from(spec.confidentiality).unwrap_or_default();
    json!({
        "order_id": spec.order_id, "state": state(order.state), "instrument": instrument(spec.instrument),
        "issuing_authority": spec.issuing_authority, "legal_basis": spec.legal_basis,
        "external_ref": unset(spec.external_ref), "regime": unset(spec.regime),
        "confidentiality": word(confidentiality.as_str_name(), "CONFIDENTIALITY_"), "basis": basis(spec.basis),
        "country_codes": order.country_codes, "group_version": unset(order.group_version.clone()),
        "specified_items": spec.specified_items, "items": order.items,
        "dispositions": dispositions_json(&order.dispositions),
        "issued_at": unset(time(spec.issued_at.as_ref())), "received_at": unset(time(spec.received_at.as_ref())),
        "comply_by": unset(time(spec.comply_by.as_ref())),
        "review_due_at": unset(time(spec.review_due_at.as_ref())),
        "effective_from": unset(time(spec.effective_from.as_ref())),
        "expires_at": unset(time(spec.expires_at.as_ref())),
        "applied_at": unset(time(order.applied_at.as_ref())),
        "effect_given_at": unset(time(order.effect_given_at.as_ref())),
        "ended_at": unset(time(order.ended_at.as_ref())),
        "public_notice_url": unset(spec.public_notice_url), "confidential_reason": unset(spec.confidential_reason),
        "redress": unset(spec.redress),
        "applied_revision": order.applied_revision.to_string(), "last_revision": order.last_revision.to_string(),
        "history": history.collect::<Vec<_>>(),
    })
}

pub(super) fn correspondence(kind: i32) -> String {
    word(pb::CorrespondenceKind::try_from(kind).unwrap_or_default().as_str_name(), "CORRESPONDENCE_KIND_")
}

impl Output {
    /// An order for people: what it says, what was done, what happened.
    pub(super) fn order(&mut self, order: &pb::Order) -> Result<(), CliError> {
        let spec = order.spec.clone().unwrap_or_default();
        let territory = match order.country_codes.len() {
            0..=8 => order.country_codes.join(", "),
            many => format!("{many} countries"),
        };
        let mut rows = vec![
            ("order", spec.order_id),
            ("state", state(order.state).replace('_', " ")),
            ("instrument", instrument(spec.instrument).replace('_', " ")),
            ("authority", spec.issuing_authority),
            ("legal basis", spec.legal_basis.join("; ")),
            ("reference", spec.external_ref),
            ("regime", spec.regime),
            ("territory", territory),
            ("received", time(spec.received_at.as_ref())),
            ("comply by", time(spec.comply_by.as_ref())),
            ("review due", time(spec.review_due_at.as_ref())),
            ("effective from", time(spec.effective_from.as_ref())),
            ("expires", time(spec.expires_at.as_ref())),
            ("effect given", time(order.effect_given_at.as_ref())),
            ("ended", time(order.ended_at.as_ref())),
            ("items", order.items.to_string()),
        ];
        for count in &order.dispositions {
            let done = disposition(count.disposition).replace('_', " ");
            rows.push(("", format!("{:>9} {done} {}", count.items, count.cause.replace('_', " "))));
        }
        rows.retain(|(_, value)| !value.is_empty());
        self.table(&["", ""], rows.into_iter().map(|(name, value)| vec![name.to_owned(), value]).collect())?;
        if order.history.is_empty() {
            return Ok(());
        }
        let history = order.history.iter().map(|event| {
            let letter = event.correspondence.as_ref();
            let what = letter.map_or_else(String::new, |l| format!(": {} — {}", correspondence(l.kind), l.text));
            let kind = format!("{}{what}", event.kind.replace('_', " "));
            vec![event.revision.to_string(), time(event.at.as_ref()), kind, event.actor.clone(), event.reason.clone()]
        });
        self.table(&["revision", "at", "what", "who", "why"], history.collect())
    }

    /// Items for people.
    pub(super) fn items(&mut self, items: &[pb::ItemOutcome]) -> Result<(), CliError> {
        let row = |item: &pb::ItemOutcome| {
            let why = if item.decline_reason.is_empty() { &item.explanation } else { &item.decline_reason };
            vec![
                item.line.to_string(),
                item.locator_type.clone(),
                item.locator.clone(),
                subject_text(item.subject.as_ref()),
                disposition(item.disposition).replace('_', " "),
                why.clone(),
            ]
        };
        self.table(&["line", "type", "locator", "names", "done", "why"], items.iter().map(row).collect())
    }
}
