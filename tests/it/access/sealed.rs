//! **Sealed**: whoever may only read cannot tell a sealed order from one that is merely not to be told of, nor the one from
//! none where another order withholds anyway; not by an answer, an error, a count, a metric, or a line of the log.

use std::collections::BTreeSet;

use tonic::Request;
use withheld::pb::v1 as pb;
use withheld::pb::v1::order_service_client::OrderServiceClient;
use withheld::pb::v1::visibility_service_client::VisibilityServiceClient;

use super::{Desk, plain, with_token};
use crate::harness::{Service, get, mk_accounts, mk_apply, mk_batch, mk_order};
use crate::redis::eventually;

const PEOPLE: &str = "
[[identity]]
name = \"timeline\"
roles = [\"reader\"]
[[identity]]
name = \"desk@example.org\"
roles = [\"operator\"]
";

/// What nobody but the desk may get to know of the second order.
const SECRETS: [&str; 5] =
    ["the-second-order", "A hidden authority", "a hidden reason", "a hidden reference", "SEALED"];

/// A history with an order of a confidentiality, or without it.
async fn play(service: &Service, token: &str, hidden: Option<pb::Confidentiality>) {
    let mut orders = OrderServiceClient::new(plain(&service.admin).await);
    let apply = |order, ids: &[u64]| {
        let request = mk_apply(order, mk_accounts(ids.iter().copied()));
        with_token(token, pb::ApplyOrderRequest { context: None, ..request })
    };
    let public =
        pb::OrderSpec { public_notice_url: "https://example.org/n".to_owned(), ..mk_order("the-first", &["IN"]) };
    orders.apply_order(apply(public, &[7])).await.unwrap();
    let Some(hidden) = hidden else { return };
    let secret = pb::OrderSpec {
        issuing_authority: "A hidden authority".to_owned(),
        confidential_reason: "a hidden reason".to_owned(),
        external_ref: "a hidden reference".to_owned(),
        confidentiality: hidden.into(),
        ..mk_order("the-second-order", &["IN", "DE"])
    };
    orders.apply_order(apply(secret, &[7, 8])).await.unwrap();
}

/// All that a reader is told, one answer a line, but for what says when it was told.
async fn told(service: &Service, token: &str) -> Vec<String> {
    let mut reader = VisibilityServiceClient::new(plain(&service.queries).await);
    let mut told = Vec::new();
    for country in ["IN", "DE", "FR", "XX", "ZZ", "", "India"] {
        for account in [7, 8, 9, 0] {
            let request =
                pb::CheckRequest { account_id: account, viewer_country: country.to_owned(), ..Default::default() };
            let answer = reader.check(with_token(token, request)).await.map(|answer| {
                let answer = answer.into_inner();
                (answer.withheld, answer.withholding, answer.viewer_country_unknown)
            });
            told.push(format!(
                "{country} {account} {:?}",
                answer.map_err(|status| (status.code(), status.message().to_owned()))
            ));
        }
        let answer = reader.batch_check(with_token(token, mk_batch(country, [7, 8, 9]))).await.map(|answer| {
            let answer = answer.into_inner();
            (answer.accounts, answer.posts, answer.withholdings)
        });
        told.push(format!("{country} {:?}", answer.map_err(|status| (status.code(), status.message().to_owned()))));
    }
    let request = pb::ListWithheldCountriesRequest { account_ids: vec![7, 8, 9], ..Default::default() };
    told.push(format!(
        "{:?}",
        reader.list_withheld_countries(with_token(token, request)).await.unwrap().into_inner().subjects
    ));
    let watch = pb::WatchWithholdingsRequest { after_revision: 0, ..Default::default() };
    let mut changes = reader.watch_withholdings(with_token(token, watch)).await.unwrap().into_inner();
    // The first message is the state of things; every one after it waits for a change.
    let mut first = changes.message().await.unwrap().unwrap();
    first.freshness = None;
    // The journal's name, and a hash that nobody knows who has not read it: by chance another in each journal.
    let [name, revision, hash]: [&str; 3] =
        first.resume_position.split('.').collect::<Vec<_>>().try_into().unwrap_or_else(|parts| panic!("{parts:?}"));
    let chance = |digits: &str| digits.chars().all(|digit| digit.is_ascii_hexdigit()).then_some(digits.len());
    assert_eq!((chance(name), chance(hash)), (Some(32), Some(16)), "{}", first.resume_position);
    first.resume_position = format!("name.{revision}.hash");
    told.push(format!("{first:?}"));
    // What is not for readers is refused in the same words whatever there is.
    let mut orders = OrderServiceClient::new(plain(&service.admin).await);
    for order_id in ["the-first", "the-second-order", "no-such-order"] {
        let request = pb::GetOrderRequest { order_id: order_id.to_owned(), consistency: None };
        let status = orders.get_order(with_token(token, request)).await.unwrap_err();
        told.push(format!("{:?} {} {:?}", status.code(), status.message(), status.details()));
    }
    let status = orders.list_orders(with_token(token, pb::ListOrdersRequest::default())).await.unwrap_err();
    told.push(format!("{:?} {}", status.code(), status.message()));
    let status = orders.list_orders(Request::new(pb::ListOrdersRequest::default())).await.unwrap_err();
    told.push(format!("{:?} {}", status.code(), status.message()));
    told
}

/// All series of a scrape, with the values of those that do not tell of time, work or chance.
async fn measured(service: &Service) -> BTreeSet<String> {
    // That the watch was given up is counted once it is noticed.
    let given_up = r#"grpc_method="WatchWithholdings",grpc_code="Canceled""#;
    let text = eventually("a count of the watch that was given up", async || {
        let (_, text) = get(&service.http, "/metrics").await;
        text.contains(given_up).then_some(text)
    })
    .await;
    let chance =
        ["seconds", "process_", "digest", "build_info", "_bytes", "connections", "heap", "rpc", "grpc_", "_bucket"];
    let line = |line: &str| {
        let (series, value) = line.rsplit_once(' ')?;
        // Each journal has another name.
        Some(if series.starts_with("withheld_journal_info{") {
            series.replace(|c: char| c.is_ascii_hexdigit(), "")
        } else if chance.iter().any(|part| series.contains(part)) {
            series.to_owned()
        } else {
            format!("{series} {value}")
        })
    };
    text.lines().filter(|line| !line.starts_with('#')).filter_map(line).collect()
}

/// The log, without times, addresses, durations and directories.
fn logged(service: &Service) -> Vec<String> {
    let message = |line: &str| {
        let words =
            line.split_whitespace().skip(1).filter(|word| !word.contains(['/', ':']) || word.starts_with("withheld"));
        words
            .filter(|word| !["ms", "µs", "in=", "took", "settings", "elapsed"].iter().any(|part| word.contains(part)))
            .collect::<Vec<_>>()
            .join(" ")
    };
    service.log().lines().filter(|line| !line.contains("configuration")).map(message).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reader_cannot_tell_a_sealed_order_by_anything() {
    let mut worlds = Vec::new();
    for hidden in [Some(pb::Confidentiality::Sealed), Some(pb::Confidentiality::NoticeProhibited), None] {
        let desk = Desk::mk();
        desk.access(PEOPLE);
        let [reader, operator] = [desk.token("timeline"), desk.token("desk@example.org")];
        let service = desk.service().await;
        play(&service, &operator, hidden).await;
        let told = told(&service, &reader).await;
        let (metrics, log) = (measured(&service).await, logged(&service));
        let (_, raw) = get(&service.http, "/metrics").await;
        for secret in SECRETS {
            let leaks = told
                .iter()
                .chain(&metrics)
                .chain(&log)
                .chain([&raw, &service.log()])
                .any(|line| line.to_lowercase().contains(&secret.to_lowercase()));
            assert!(!leaks, "{secret} is told");
        }
        worlds.push((told, metrics, log));
    }
    let [sealed, prohibited, without] = <[_; 3]>::try_from(worlds).unwrap();
    assert_eq!(sealed.0, prohibited.0);
    let differ: Vec<_> = sealed.1.symmetric_difference(&prohibited.1).collect();
    assert!(differ.is_empty(), "{differ:#?}");
    // Threads that start together say so in any order.
    let id = |log: &[String]| {
        let mut lines: Vec<_> = log.iter().map(|line| line.replace(|c: char| c.is_ascii_hexdigit(), "")).collect();
        lines.sort();
        lines
    };
    assert_eq!(id(&sealed.2), id(&prohibited.2));
    // Where the public order withholds, a sealed one beside it changes no answer.
    let of_seven = |told: &[String]| {
        told.iter().filter(|line| line.starts_with("IN 7") || line.starts_with("FR")).cloned().collect::<Vec<_>>()
    };
    assert_eq!(of_seven(&sealed.0), of_seven(&without.0));
    assert!(of_seven(&sealed.0)[0].contains("true") && of_seven(&sealed.0)[0].contains("https://example.org/n"));
    // And it does withhold: 8 is withheld by nothing else, and nobody is told by what.
    let of_eight = sealed.0.iter().find(|line| line.starts_with("IN 8")).unwrap();
    assert!(
        of_eight.contains("true") && of_eight.contains("basis: Unspecified") && of_eight.contains("generic"),
        "{of_eight}"
    );
    assert!(without.0.iter().any(|line| line.starts_with("IN 8") && line.contains("false")));
}
