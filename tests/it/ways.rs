//! A query that is there whole when it is looked at goes a shorter way than one that comes in pieces: both say the same.

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD_NO_PAD;
use bytes::Bytes;
use http::HeaderMap;
use prost::Message;
use withheld::pb::v1 as pb;

use crate::harness::{Service, mk_accounts, mk_apply, mk_batch, mk_journal, mk_order};

/// What was answered: headers and trailers together, and the message, but for how old it is.
type Answer = (Vec<(String, Vec<u8>)>, Vec<u8>);

/// Sends a body in these pieces, the last ending it.
async fn ask(endpoint: &str, method: &str, pieces: &[&[u8]]) -> Answer {
    let stream = tokio::net::TcpStream::connect(endpoint.trim_start_matches("http://")).await.unwrap();
    let (sender, connection) = h2::client::handshake(stream).await.unwrap();
    let connection = tokio::spawn(connection);
    let request = http::Request::post(format!("http://localhost/withheld.v1.VisibilityService/{method}"))
        .header("content-type", "application/grpc")
        .header("te", "trailers");
    let mut sender = sender.ready().await.unwrap();
    let (answer, mut body) = sender.send_request(request.body(()).unwrap(), false).unwrap();
    let (last, first) = pieces.split_last().unwrap();
    for piece in first {
        body.send_data(Bytes::copy_from_slice(piece), false).unwrap();
    }
    body.send_data(Bytes::copy_from_slice(last), true).unwrap();
    let (head, mut body) = answer.await.unwrap().into_parts();
    let mut message = Vec::new();
    while let Some(data) = body.data().await {
        message.extend(data.unwrap());
    }
    let mut all = told(&head.headers);
    all.extend(body.trailers().await.unwrap().iter().flat_map(told));
    all.sort();
    connection.abort();
    (all, ageless(method, &message))
}

/// The details of an error have a map in them, whose order is another one each time: their bytes in order are the same.
fn told(headers: &HeaderMap) -> Vec<(String, Vec<u8>)> {
    let value = |name: &str, value: &[u8]| {
        if name != "grpc-status-details-bin" {
            return value.to_vec();
        }
        let mut details = BASE64_STANDARD_NO_PAD.decode(value).unwrap();
        details.sort_unstable();
        details
    };
    headers.iter().map(|(name, told)| (name.to_string(), value(name.as_str(), told.as_bytes()))).collect()
}

fn ageless(method: &str, message: &[u8]) -> Vec<u8> {
    let Some((_, message)) = message.split_at_checked(5) else { return Vec::new() };
    if method == "Check" {
        let mut answer = pb::CheckResponse::decode(message).unwrap();
        answer.freshness.as_mut().unwrap().age = None;
        answer.encode_to_vec()
    } else {
        let mut answer = pb::BatchCheckResponse::decode(message).unwrap();
        answer.freshness.as_mut().unwrap().age = None;
        answer.encode_to_vec()
    }
}

fn framed(message: &[u8]) -> Vec<u8> {
    [&[0], &u32::try_from(message.len()).unwrap().to_be_bytes()[..], message].concat()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_query_is_answered_the_same_in_one_piece_and_in_two() {
    let (_dir, journal) = mk_journal();
    let service = Service::start(&journal).await;
    let revision = service.orders().await.apply_order(mk_apply(mk_order("o", &["IN"]), mk_accounts(1..50))).await;
    let revision = revision.unwrap().into_inner().revision;
    let check = |account_id, country: &str, at_least_revision| {
        let consistency = Some(pb::Consistency { at_least_revision, ..Default::default() });
        pb::CheckRequest { account_id, viewer_country: country.to_owned(), consistency, ..Default::default() }
            .encode_to_vec()
    };
    let batch = |country: &str, ids: &[u64]| mk_batch(country, ids.iter().copied()).encode_to_vec();
    let posts = pb::BatchCheckRequest { post_ids: vec![7, 8], ..mk_batch("IN", [3]) }.encode_to_vec();
    let many: Vec<u64> = (40..540).collect();
    let compressed = [&[1], &framed(&check(7, "IN", 0))[1..]].concat();
    let twice = framed(&check(7, "IN", 0)).repeat(2);
    let asked: Vec<(&str, Vec<u8>, &str)> = vec![
        ("Check", framed(&check(7, "IN", 0)), "0"),
        ("Check", framed(&check(7, "IN", revision)), "0"),
        ("Check", framed(&check(70, "IN", 0)), "0"),
        ("Check", framed(&check(7, "US", 0)), "0"),
        ("Check", framed(&check(0, "XYZ", 0)), "3"),
        ("Check", framed(b"\xff\xff\xff"), "13"),
        ("Check", compressed, "13"),
        ("Check", twice, "0"),
        ("Check", Vec::new(), "13"),
        ("Check", framed(&check(7, "IN", 0))[..9].to_vec(), "13"),
        ("BatchCheck", framed(&batch("IN", &many)), "0"),
        ("BatchCheck", framed(&posts), "0"),
        ("BatchCheck", framed(&batch("IN", &[5, 0, 6, 0])), "3"),
        ("BatchCheck", framed(&batch("IN", &(1..=10_001).collect::<Vec<_>>())), "3"),
        ("BatchCheck", framed(b"\x12\x07short"), "13"),
    ];
    let mut otherwise = Vec::new();
    for (number, (method, body, status)) in asked.into_iter().enumerate() {
        let whole = ask(&service.queries, method, &[&body]).await;
        if !whole.0.contains(&("grpc-status".to_owned(), status.into())) {
            otherwise.push(format!("{method} {number}: {whole:?}"));
        }
        let (first, second) = body.split_at(body.len() / 2);
        assert_eq!(ask(&service.queries, method, &[first, second]).await, whole, "{method} {number}");
    }
    assert!(otherwise.is_empty(), "{otherwise:#?}");
}
