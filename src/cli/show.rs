//! The API's messages as people and programs read them. 64-bit numbers are strings in JSON.

use serde_json::{Value, json};

use super::error::CliError;
use super::output::{Output, counted};
use crate::pb::v1 as pb;

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

pub(super) fn confidentiality(number: i32) -> String {
    word(pb::Confidentiality::try_from(number).unwrap_or_default().as_str_name(), "CONFIDENTIALITY_")
}

/// Where an order holds, short enough for a table.
pub(super) fn territory(order: &pb::Order) -> String {
    use pb::territory::Territory;
    let stated = order.spec.as_ref().and_then(|spec| spec.territory.as_ref()).and_then(|t| t.territory.as_ref());
    match (stated, order.country_codes.as_slice()) {
        (Some(Territory::Worldwide(_)), _) => "worldwide".to_owned(),
        (Some(Territory::Group(group)), codes) => format!("{group} ({} countries)", codes.len()),
        (_, codes @ [_, _, _, _, _, ..]) => format!("{} countries", codes.len()),
        (_, codes) => codes.join(", "),
    }
}

pub(super) fn disposition(number: i32) -> String {
    word(pb::Disposition::try_from(number).unwrap_or_default().as_str_name(), "DISPOSITION_")
}

pub(super) fn category(number: i32) -> String {
    word(pb::ProtectionCategory::try_from(number).unwrap_or_default().as_str_name(), "PROTECTION_CATEGORY_")
}

/// The same to the second, for tables.
pub(super) fn seconds(at: Option<&prost_types::Timestamp>) -> String {
    time(at.map(|at| prost_types::Timestamp { seconds: at.seconds, nanos: 0 }).as_ref())
}

pub(super) fn unset(text: String) -> Value {
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

fn subjects(accounts: u64, posts: u64) -> String {
    format!("{} and {}", counted(accounts, "account"), counted(posts, "post"))
}

/// What changes for viewers, in a sentence or two.
pub(super) fn effect_text(effect: Option<&pb::Effect>, verb: &str) -> String {
    let Some(e) = effect else { return String::new() };
    if e.accounts_changed + e.posts_changed == 0 {
        return "nothing changes for viewers".to_owned();
    }
    let mut text = format!("{} {verb}", subjects(e.accounts_changed, e.posts_changed));
    match e.countries.as_slice() {
        // The only country has the same numbers once more.
        [only] if only.country_code == "XX" => text.push_str(" worldwide"),
        [only] => text.push_str(&format!(" in {}", only.country_code)),
        few if few.len() <= 8 => {
            let country = |c: &pb::CountryChange| format!("{}: {}", c.country_code, subjects(c.accounts, c.posts));
            text.push_str(&format!(" ({})", few.iter().map(country).collect::<Vec<_>>().join("; ")));
        }
        many => text.push_str(&format!(" in {} countries", many.len())),
    }
    if e.unchanged > 0 {
        let stay = if e.unchanged == 1 { "stays as it is" } else { "stay as they are" };
        text.push_str(&format!("; {} {stay}, because of other orders", e.unchanged));
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

fn approval_state(number: i32) -> String {
    word(pb::ApprovalState::try_from(number).unwrap_or_default().as_str_name(), "APPROVAL_STATE_")
}

fn proposed(number: i32) -> String {
    word(pb::Proposed::try_from(number).unwrap_or_default().as_str_name(), "PROPOSED_")
}

pub(super) fn deadline(number: i32) -> String {
    word(pb::Deadline::try_from(number).unwrap_or_default().as_str_name(), "DEADLINE_")
}

/// Grounds for a second person, for people.
pub(super) fn grounds_text(grounds: &[String]) -> String {
    grounds.iter().map(|ground| ground.replace('_', " ")).collect::<Vec<_>>().join(", ")
}

fn approval_json(approval: &pb::Approval) -> Value {
    json!({
        "proposed": proposed(approval.proposed), "state": approval_state(approval.state), "grounds": approval.grounds,
        "proposed_by": approval.proposed_by, "proposed_at": time(approval.proposed_at.as_ref()),
        "proposed_revision": approval.proposed_revision.to_string(),
        "expires_at": unset(time(approval.expires_at.as_ref())),
        "decided_by": unset(approval.decided_by.clone()), "decided_at": unset(time(approval.decided_at.as_ref())),
        "decided_revision": (approval.decided_revision > 0).then(|| approval.decided_revision.to_string()),
        "accounts_changed": approval.accounts_changed, "posts_changed": approval.posts_changed,
    })
}

fn override_json(over: &pb::ProtectedOverride) -> Value {
    let ids: Vec<String> = over.account_ids.iter().map(ToString::to_string).collect();
    json!({"account_ids": ids, "reason": over.reason})
}

/// Who proposed what and who decided, for people.
fn approval_text(approval: &pb::Approval) -> String {
    let what = match pb::Proposed::try_from(approval.proposed).unwrap_or_default() {
        pb::Proposed::Apply | pb::Proposed::Unspecified => "proposed",
        pb::Proposed::Lift => "lifting proposed",
        pb::Proposed::LiftItems => "lifting of items proposed",
    };
    let (who, why) = (&approval.proposed_by, grounds_text(&approval.grounds));
    let then = match pb::ApprovalState::try_from(approval.state).unwrap_or_default() {
        pb::ApprovalState::Pending => {
            format!("waits for somebody else until {}", seconds(approval.expires_at.as_ref()))
        }
        pb::ApprovalState::Approved => format!("approved by {}", approval.decided_by),
        pb::ApprovalState::Rejected => format!("rejected by {}", approval.decided_by),
        pb::ApprovalState::Expired => {
            format!("lapsed at {}, nobody decided", seconds(approval.expires_at.as_ref()))
        }
        pb::ApprovalState::Unspecified => String::new(),
    };
    format!("{what} by {who} ({why}); {then}")
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
    json!({
        "order_id": spec.order_id, "state": state(order.state), "instrument": instrument(spec.instrument),
        "issuing_authority": spec.issuing_authority, "legal_basis": spec.legal_basis,
        "external_ref": unset(spec.external_ref), "regime": unset(spec.regime),
        "confidentiality": confidentiality(spec.confidentiality), "basis": basis(spec.basis),
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
        "protected_override": spec.protected_override.as_ref().map(override_json),
        "approval": order.approval.as_ref().map(approval_json),
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
        let (spec, territory) = (order.spec.clone().unwrap_or_default(), territory(order));
        let mut rows = vec![
            ("order", spec.order_id),
            ("state", if order.state == 0 { String::new() } else { state(order.state).replace('_', " ") }),
            ("instrument", instrument(spec.instrument).replace('_', " ")),
            ("authority", spec.issuing_authority),
            ("legal basis", spec.legal_basis.join("; ")),
            ("reference", spec.external_ref),
            ("regime", spec.regime),
            ("confidentiality", confidentiality(spec.confidentiality).replace('_', " ")),
            ("territory", territory),
            ("received", seconds(spec.received_at.as_ref())),
            ("comply by", seconds(spec.comply_by.as_ref())),
            ("review due", seconds(spec.review_due_at.as_ref())),
            ("effective from", seconds(spec.effective_from.as_ref())),
            ("expires", seconds(spec.expires_at.as_ref())),
            ("effect given", seconds(order.effect_given_at.as_ref())),
            ("ended", seconds(order.ended_at.as_ref())),
            ("notice", spec.public_notice_url),
            ("why", spec.confidential_reason),
            ("redress", spec.redress),
            (
                "override",
                spec.protected_override.map_or_else(String::new, |over| {
                    format!("{}: {}", counted(over.account_ids.len() as u64, "protected account"), over.reason)
                }),
            ),
            ("approval", order.approval.as_ref().map(approval_text).unwrap_or_default()),
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
            vec![
                event.revision.to_string(),
                seconds(event.at.as_ref()),
                kind,
                event.actor.clone(),
                event.reason.clone(),
            ]
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
