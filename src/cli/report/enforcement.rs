//! `withheld report enforcement`: printed as it comes, so that an order of a million items takes no memory.

use serde_json::{Value, json};

use super::cells::{print, received};
use crate::cli::client::Client;
use crate::cli::error::CliError;
use crate::cli::output::{Output, counted, progress, waiting};
use crate::cli::show::{
    confidentiality, correspondence, disposition, dispositions_json, freshness_json, instrument, seconds, state, time,
    unset, word,
};
use crate::pb::v1 as pb;
use pb::get_enforcement_report_response::Part;

/// Items that are shown to people; programs get all.
const SHOWN: usize = 100;

const COLUMNS: [&str; 14] = [
    "order_id",
    "external_ref",
    "line",
    "locator_type",
    "locator",
    "disposition",
    "cause",
    "explanation",
    "decline_reason",
    "effect_given_at",
    "effect_ended_at",
    "ended_by",
    "effect",
    "also_removed_own_rules",
];

fn end(number: i32) -> String {
    match pb::EffectEnd::try_from(number).unwrap_or_default() {
        pb::EffectEnd::Unspecified => String::new(),
        other => word(other.as_str_name(), "EFFECT_END_"),
    }
}

pub(super) async fn run(order_id: String, csv: bool, client: &Client, out: &mut Output) -> Result<(), CliError> {
    let request = pb::GetEnforcementReportRequest { order_id, consistency: None };
    let mut reports = client.reports().await?;
    let asking = reports.get_enforcement_report(client.request(request));
    let mut parts = waiting("reading", asking).await?.into_inner();
    let Some(Part::Head(head)) = parts.message().await?.and_then(|message| message.part) else {
        return Err(CliError::failed("the service sends a report without a head"));
    };
    let json = out.is_json();
    match () {
        () if csv => print([COLUMNS.map(str::to_owned).to_vec()], out)?,
        () if json => {
            let head = serde_json::to_string_pretty(&head_json(&head)).unwrap_or_default();
            out.bytes(format!("{{\n\"report\": {head},\n\"items\": [").as_bytes())?;
        }
        () => show_head(&head, out)?,
    }
    let bar = progress(head.items, "items");
    let (mut got, mut shown) = (0_u64, Vec::new());
    while let Some(message) = parts.message().await? {
        let Some(Part::Items(pb::EnforcementItems { items })) = message.part else { continue };
        if csv {
            print(items.iter().map(|item| item_record(&head, item)), out)?;
        } else if json {
            let lines = items.iter().enumerate().map(|(at, item)| {
                let comma = if got == 0 && at == 0 { "" } else { "," };
                format!("{comma}\n{}", item_json(item))
            });
            out.bytes(lines.collect::<String>().as_bytes())?;
        } else {
            let left = SHOWN.saturating_sub(shown.len());
            shown.extend(items.iter().take(left).map(item_row));
        }
        got += items.len() as u64;
        bar.set_position(got);
        if shown.len() == SHOWN {
            // The head has said how many more there are.
            got = head.items;
            break;
        }
    }
    bar.finish_and_clear();
    // A report that is cut short must not pass for a whole one.
    if got != head.items {
        return Err(CliError::failed(format!(
            "the report ended after {got} of {} items: ask for it again",
            head.items
        )));
    }
    if json {
        out.bytes(b"\n]\n}\n")
    } else if csv {
        Ok(())
    } else {
        let more = got.saturating_sub(shown.len() as u64);
        out.table(&["line", "type", "locator", "done", "effect given", "ended", "by", "why"], shown)?;
        let hint = if more > 0 { format!("; {more} more, by `--csv` or `--output json`") } else { String::new() };
        out.line(format!("{}{hint}", counted(got, "item")))
    }
}

fn head_json(head: &pb::EnforcementReportHead) -> Value {
    let letters = head.correspondence.iter().map(|letter| {
        json!({"kind": correspondence(letter.kind), "at": time(letter.at.as_ref()),
               "external_ref": unset(letter.external_ref.clone())})
    });
    json!({
        "order_id": head.order_id, "external_ref": unset(head.external_ref.clone()),
        "issuing_authority": head.issuing_authority, "instrument": instrument(head.instrument),
        "legal_basis": head.legal_basis, "country_codes": head.country_codes,
        "confidentiality": confidentiality(head.confidentiality),
        "issued_at": unset(time(head.issued_at.as_ref())), "received_at": unset(time(head.received_at.as_ref())),
        "state": state(head.state), "effect_given_at": unset(time(head.effect_given_at.as_ref())),
        "ended_at": unset(time(head.ended_at.as_ref())), "specified_items": head.specified_items,
        "items": head.items, "dispositions": dispositions_json(&head.dispositions),
        "redress": unset(head.redress.clone()), "correspondence": letters.collect::<Vec<_>>(),
        "as_of": time(head.as_of.as_ref()), "freshness": freshness_json(head.freshness.as_ref()),
    })
}

fn show_head(head: &pb::EnforcementReportHead, out: &mut Output) -> Result<(), CliError> {
    let mut rows = vec![
        ("to", head.issuing_authority.clone()),
        ("order", head.order_id.clone()),
        ("reference", head.external_ref.clone()),
        ("instrument", instrument(head.instrument).replace('_', " ")),
        ("legal basis", head.legal_basis.join("; ")),
        ("territory", head.country_codes.join(", ")),
        ("confidentiality", confidentiality(head.confidentiality).replace('_', " ")),
        ("issued", seconds(head.issued_at.as_ref())),
        ("received", seconds(head.received_at.as_ref())),
        ("state", state(head.state).replace('_', " ")),
        ("effect given", seconds(head.effect_given_at.as_ref())),
        ("ended", seconds(head.ended_at.as_ref())),
        ("specified", head.specified_items.map(|items| counted(items, "item")).unwrap_or_default()),
        ("items", head.items.to_string()),
    ];
    for count in &head.dispositions {
        let done = disposition(count.disposition).replace('_', " ");
        rows.push(("", format!("{:>9} {done} {}", count.items, count.cause.replace('_', " "))));
    }
    rows.push(("redress", head.redress.clone()));
    for letter in &head.correspondence {
        let what = correspondence(letter.kind).replace('_', " ");
        rows.push(("correspondence", format!("{} {what} {}", seconds(letter.at.as_ref()), letter.external_ref)));
    }
    rows.push(("as of", seconds(head.as_of.as_ref())));
    rows.retain(|(_, value)| !value.is_empty());
    out.table(&["", ""], rows.into_iter().map(|(name, value)| vec![name.to_owned(), value]).collect())
}

fn item_json(item: &pb::EnforcementItem) -> Value {
    let effect = item.effect.iter().map(|period| {
        json!({"from": time(period.from.as_ref()), "until": unset(time(period.until.as_ref())),
               "ended_by": unset(end(period.ended_by))})
    });
    json!({
        "line": item.line, "locator_type": item.locator_type, "locator": item.locator,
        "disposition": disposition(item.disposition), "cause": unset(item.cause.clone()),
        "explanation": unset(item.explanation.clone()), "decline_reason": unset(item.decline_reason.clone()),
        "effect": effect.collect::<Vec<_>>(), "also_removed_own_rules": item.also_removed_own_rules,
    })
}

/// First given, last ended, and by what.
fn effect(item: &pb::EnforcementItem) -> [String; 3] {
    let (first, last) = (item.effect.first(), item.effect.last());
    [
        time(first.and_then(|period| period.from.as_ref())),
        time(last.and_then(|period| period.until.as_ref())),
        last.map(|period| end(period.ended_by)).unwrap_or_default(),
    ]
}

fn item_record(head: &pb::EnforcementReportHead, item: &pb::EnforcementItem) -> Vec<String> {
    let [given, ended, by] = effect(item);
    let periods =
        item.effect.iter().map(|period| format!("{}/{}", time(period.from.as_ref()), time(period.until.as_ref())));
    vec![
        received(&head.order_id),
        received(&head.external_ref),
        item.line.to_string(),
        received(&item.locator_type),
        received(&item.locator),
        disposition(item.disposition),
        item.cause.clone(),
        item.explanation.clone(),
        received(&item.decline_reason),
        given,
        ended,
        by,
        periods.collect::<Vec<_>>().join(" "),
        item.also_removed_own_rules.to_string(),
    ]
}

fn item_row(item: &pb::EnforcementItem) -> Vec<String> {
    let last = item.effect.last();
    let why = if item.decline_reason.is_empty() { &item.explanation } else { &item.decline_reason };
    vec![
        item.line.to_string(),
        item.locator_type.clone(),
        item.locator.clone(),
        disposition(item.disposition).replace('_', " "),
        seconds(item.effect.first().and_then(|period| period.from.as_ref())),
        seconds(last.and_then(|period| period.until.as_ref())),
        last.map(|period| end(period.ended_by)).unwrap_or_default(),
        why.clone(),
    ]
}
