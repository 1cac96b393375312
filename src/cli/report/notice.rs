//! `withheld report notice`: in the words of Lumen's API, to be completed and submitted by whoever has a token there.

use serde_json::{Map, Value, json};

use crate::cli::client::Client;
use crate::cli::error::CliError;
use crate::cli::output::{Output, progress, waiting};
use crate::cli::show::time;
use crate::pb::v1 as pb;
use pb::get_notice_response::Part;

pub(super) async fn run(order_id: String, client: &Client, out: &mut Output) -> Result<(), CliError> {
    let request = pb::GetNoticeRequest { order_id, consistency: None };
    let mut reports = client.reports().await?;
    let mut parts = waiting("reading", reports.get_notice(client.request(request))).await?.into_inner();
    let Some(Part::Head(head)) = parts.message().await?.and_then(|message| message.part) else {
        return Err(CliError::failed("the service sends a notice without a head"));
    };
    let text = notice(&head).to_string();
    // The links stand in the place of the last bracket: there may be a million of them.
    let opened = text.strip_suffix("}").unwrap_or(&text);
    out.bytes(format!("{{\"notice\":{opened},\n\"works_attributes\":[{{\"infringing_urls_attributes\":[").as_bytes())?;
    let bar = progress(head.links, "links");
    let mut got = 0_u64;
    while let Some(message) = parts.message().await? {
        let Some(Part::Links(pb::NoticeLinks { urls })) = message.part else { continue };
        let lines = urls.iter().enumerate().map(|(at, url)| {
            let comma = if got == 0 && at == 0 { "" } else { "," };
            format!("{comma}\n{}", json!({"url": url}))
        });
        out.bytes(lines.collect::<String>().as_bytes())?;
        got += urls.len() as u64;
        bar.set_position(got);
    }
    bar.finish_and_clear();
    if got != head.links {
        return Err(CliError::failed(format!(
            "the notice ended after {got} of {} links: ask for it again",
            head.links
        )));
    }
    out.bytes(b"\n]}]}}\n")
}

fn notice(head: &pb::NoticeHead) -> Value {
    // Lumen has entities of two kinds, and takes dates without a time.
    let entity = |entity: &pb::NoticeEntity| json!({"name": entity.role, "entity_attributes": {"name": entity.name, "kind": "organization"}});
    let day = |at: Option<&prost_types::Timestamp>| time(at).split('T').next().unwrap_or_default().to_owned();
    let mut notice = Map::new();
    let mut put = |name: &str, value: Value| notice.insert(name.to_owned(), value);
    put("type", head.r#type.clone().into());
    put("title", head.title.clone().into());
    put("subject", head.subject.clone().into());
    put("body", head.body.clone().into());
    if head.date_sent.is_some() {
        put("date_sent", day(head.date_sent.as_ref()).into());
    }
    put("date_received", day(head.date_received.as_ref()).into());
    put("action_taken", head.action_taken.clone().into());
    put("jurisdiction_list", head.jurisdictions.join(", ").into());
    if head.r#type == "CourtOrder" {
        // The other kind has no such field; its body says them, too.
        put("regulation_list", head.laws.join(", ").into());
    }
    put("entity_notice_roles_attributes", head.entities.iter().map(entity).collect());
    Value::Object(notice)
}
