//! Asks a running service everything a timeline service asks: see `clients/README.md` for what it reads and prints.
#![allow(
    clippy::disallowed_methods,
    unreachable_pub,
    reason = "a client has a clock of its own; `client.rs` is copied"
)]

mod client;

use std::error::Error;
use std::process::ExitCode;
use std::time::Duration;

use client::{Client, Known, Verdict, pb};
use pb::withheld_countries::Subject;
use tonic::Code;

/// As gRPC's specification spells them.
fn spelt(code: Code) -> String {
    let camel = format!("{code:?}");
    let words = camel.char_indices().flat_map(|(at, c)| [('_', at > 0 && c.is_uppercase()), (c, true)]);
    words.filter(|(_, there)| *there).map(|(c, _)| c.to_ascii_uppercase()).collect()
}

fn words(verdict: Verdict) -> String {
    let known = |said: String, known: Known| {
        let fresh = if known.freshness.liveness() == pb::Liveness::Live { "live" } else { "stale" };
        let unknown = if known.country_unknown { ", country unknown" } else { "" };
        format!("{said}, revision {} {fresh}{unknown}", known.freshness.revision)
    };
    match verdict {
        Verdict::Unknown(why) => {
            let said = [vec!["UNKNOWN".to_owned(), spelt(why.code), why.reason], why.bad_fields].concat();
            said.join(" ").trim_end().to_owned()
        }
        Verdict::Visible(of) => known("visible".to_owned(), of),
        Verdict::Withheld(notice_key, of) => known(format!("withheld {notice_key}"), of),
    }
}

/// False if there is no verdict on something.
async fn tour(client: &Client, country: &str, ids: &[u64], at_least: u64) -> Result<bool, Box<dyn Error>> {
    let mut answered = true;
    for id in ids {
        let verdict = client.check(country, *id, at_least).await;
        answered &= !matches!(verdict, Verdict::Unknown(_));
        println!("check {country} {id}: {}", words(verdict));
    }
    for (id, verdict) in ids.iter().zip(client.batch_check(country, ids, at_least).await) {
        answered &= !matches!(verdict, Verdict::Unknown(_));
        println!("batch {country} {id}: {}", words(verdict));
    }
    if !answered {
        return Ok(false);
    }
    for id in ids {
        println!("check nowhere {id}: {}", words(client.check("", *id, at_least).await));
    }
    for (id, codes) in ids.iter().zip(client.withheld_countries(ids, at_least).await?) {
        println!("{}", format!("countries {id}: {}", codes.join(" ")).trim_end());
    }
    for id in ids.iter().take(1) {
        println!("check Atlantis {id}: {}", words(client.check("Atlantis", *id, 0).await));
    }
    Ok(true)
}

async fn watch(client: &Client, position: String, until: u64) {
    let take = |message: pb::WatchWithholdingsResponse| {
        for change in message.changes {
            let subject = match change.subject {
                Some(Subject::AccountId(id)) => format!("account_id {id}"),
                Some(Subject::PostId(id)) => format!("post_id {id}"),
                None => continue,
            };
            println!("{}", format!("changed {subject}: {}", change.country_codes.join(" ")).trim_end());
        }
        println!("resume at {}", message.resume_position);
        message.resume_after_revision < until
    };
    client.watch(position, take, || println!("forget everything")).await;
}

#[tokio::main]
async fn main() -> Result<ExitCode, Box<dyn Error>> {
    let milliseconds = |name: &str| Ok::<_, Box<dyn Error>>(Duration::from_millis(std::env::var(name)?.parse()?));
    let endpoints = std::env::var("ENDPOINTS")?.split(',').map(str::to_owned).collect();
    let client = Client::new(endpoints, milliseconds("DEADLINE_MS")?, milliseconds("MAX_STALENESS_MS")?);
    let at_least: u64 = std::env::var("AT_LEAST_REVISION")?.parse()?;
    let mut arguments = std::env::args().skip(1);
    let (command, first) = (arguments.next().unwrap_or_default(), arguments.next().unwrap_or_default());
    let numbers = arguments.map(|number| number.parse()).collect::<Result<Vec<u64>, _>>()?;
    if command == "watch" {
        watch(&client, first, numbers.first().copied().unwrap_or(u64::MAX)).await;
        return Ok(ExitCode::SUCCESS);
    }
    let answered = tour(&client, &first, &numbers, at_least).await?;
    Ok(if answered { ExitCode::SUCCESS } else { ExitCode::from(3) })
}
