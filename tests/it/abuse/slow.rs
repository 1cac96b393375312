//! Slow-loris: whatever is sent a byte at a time, to hold a place for as long as possible at no cost.

use std::time::{Duration, Instant};

use bytes::Bytes;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::task::JoinSet;
use withheld::pb::v1 as pb;

use super::Scene;
use super::bystanders::Bystanders;
use super::http2::head;
use crate::access::Desk;
use crate::frames::{Frame, HEADERS, Wire};
use crate::harness::{mk_accounts, mk_context};
use crate::scrape::Scrape;

/// How long a small request may take; a KiB that has come gives a second more.
const TIME: Duration = Duration::from_secs(10);

/// What comes of a request of which so much is sent at once, and then a byte every half second: the gRPC status, and
/// after how long. If it is to end, its last byte comes after that long.
async fn drip(
    endpoint: String,
    path: &str,
    message: Bytes,
    at_once: usize,
    ends: Option<Duration>,
) -> (String, Duration) {
    let stream = tokio::net::TcpStream::connect(endpoint.trim_start_matches("http://")).await.unwrap();
    let (mut sender, connection) = h2::client::handshake(stream).await.unwrap();
    let connection = tokio::spawn(connection);
    let request = http::Request::post(format!("http://localhost/{path}"))
        .header("content-type", "application/grpc")
        .header("te", "trailers");
    let began = Instant::now();
    let (answer, mut body) = sender.send_request(request.body(()).unwrap(), false).unwrap();
    body.send_data(message.slice(..at_once), false).unwrap();
    let mut sending = tokio::spawn(async move {
        for at in at_once..message.len() - 1 {
            if ends.is_some_and(|end| began.elapsed() >= end) {
                body.send_data(message.slice(at..), true).unwrap();
                return;
            }
            tokio::time::sleep(Duration::from_millis(500)).await;
            if body.send_data(message.slice(at..=at), false).is_err() {
                return;
            }
        }
    });
    let answer = tokio::time::timeout(Duration::from_secs(40), answer).await.expect("given up").unwrap();
    let took = began.elapsed();
    let status = match answer.headers().get("grpc-status") {
        Some(status) => status.to_str().unwrap().to_owned(),
        None => {
            let mut body = answer.into_body();
            while body.data().await.is_some() {}
            body.trailers().await.unwrap().unwrap()["grpc-status"].to_str().unwrap().to_owned()
        }
    };
    sending.abort();
    let _ = (&mut sending).await;
    connection.abort();
    (status, took)
}

fn mk_message(message: &impl prost::Message) -> Bytes {
    let message = message.encode_to_vec();
    [&[0][..], &u32::try_from(message.len()).unwrap().to_be_bytes(), &message].concat().into()
}

#[tokio::test(flavor = "multi_thread")]
async fn requests_that_arrive_byte_by_byte_are_given_up_and_those_that_are_slow_but_large_are_not() {
    let scene = Scene::set(&[]).await;
    let batch = pb::BatchCheckRequest {
        viewer_country: "IN".to_owned(),
        account_ids: (1..=4_000).collect(),
        ..Default::default()
    };
    let items = mk_accounts(1..=2_000).items;
    let upload = mk_message(&pb::UploadItemsRequest { context: mk_context("", "slow"), items });
    let batch = mk_message(&batch);
    let (query, command) = ("withheld.v1.VisibilityService/BatchCheck", "withheld.v1.OrderService/UploadItems");
    let mut slow = JoinSet::new();
    for (endpoint, path, message) in [(&scene.service.queries, query, &batch), (&scene.service.admin, command, &upload)]
    {
        for _ in 0..100 {
            slow.spawn(drip(endpoint.clone(), path, message.clone(), 5, None));
        }
    }
    let mut steady = JoinSet::new();
    for (endpoint, path, message) in [(&scene.service.queries, query, &batch), (&scene.service.admin, command, &upload)]
    {
        let ends = Some(TIME + Duration::from_secs(1));
        steady.spawn(drip(endpoint.clone(), path, message.clone(), 16 << 10, ends));
    }
    let mut soonest = Duration::MAX;
    for (status, took) in slow.join_all().await {
        assert_eq!(status, "4", "DEADLINE_EXCEEDED");
        soonest = soonest.min(took);
    }
    assert!(soonest >= TIME, "given up after {soonest:?}");
    for (status, took) in steady.join_all().await {
        assert_eq!(status, "0", "of 16 KiB and more, after {took:?}");
        assert!(took > TIME, "{took:?} tells nothing");
    }
    let shed = "withheld_sheds_total{what=\"slow_request\",listener=\"any\"}";
    assert_eq!(Scrape::of(&scene.service).await.count(shed), 200);
    scene
        .over("200 requests that arrive byte by byte", "DEADLINE_EXCEEDED after 10 s; two slow large ones answered")
        .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn heads_that_never_end_are_given_up_with_their_connection() {
    let scene = Scene::set(&["--keepalive", "1s"]).await;
    let call = head("/withheld.v1.VisibilityService/Check");
    let mut slow = JoinSet::new();
    for number in 0..200_usize {
        let endpoint = if number % 2 == 0 { &scene.service.queries } else { &scene.service.admin };
        let (endpoint, call) = (endpoint.clone(), call.clone());
        slow.spawn(async move {
            let mut wire = Wire::greet(&endpoint).await;
            // Cut within the frame, or after it; a PING cannot be answered before it has ended.
            let bytes = Frame::of(HEADERS, 0, 1, &call).bytes();
            let cut = bytes.len() - (number / 2) % 40;
            wire.0.write_all(&bytes[..cut]).await.unwrap();
            let ended = async { while wire.next().await.is_some() {} };
            tokio::time::timeout(Duration::from_secs(15), ended).await.is_ok()
        });
    }
    let ended = slow.join_all().await.into_iter().filter(|ended| *ended).count();
    assert_eq!(ended, 200);
    scene.over("200 heads that never end, --keepalive 1s", "all cut off").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn handshakes_that_never_end_are_given_up() {
    let desk = Desk::mk();
    desk.access("anonymous = [\"reader\"]\n");
    let service = desk.with_tls(&[]).await;
    let others = Bystanders::over(async || desk.stranger(&service.queries).await, false).await;
    let open = || std::fs::read_dir(format!("/proc/{}/fd", service.pid())).unwrap().count();
    let before = open();
    let mut slow = JoinSet::new();
    for number in 0..300_usize {
        let endpoint = if number % 2 == 0 { &service.queries } else { &service.admin };
        let endpoint = endpoint.trim_start_matches("http://").to_owned();
        slow.spawn(async move {
            let mut stream = tokio::net::TcpStream::connect(endpoint).await.unwrap();
            // The head of a ClientHello of 512 bytes, and zeros.
            let hello = [&[22, 3, 1, 2, 0, 1, 0, 1, 252, 3, 3][..], &[0; 60]].concat();
            let began = Instant::now();
            for byte in hello {
                let _ = stream.write_all(&[byte]).await;
                let mut end = [0; 64];
                let read = tokio::time::timeout(Duration::from_millis(500), stream.read(&mut end)).await;
                if matches!(read, Ok(Ok(0) | Err(_))) {
                    return began.elapsed();
                }
            }
            panic!("still there after {:?}", began.elapsed());
        });
    }
    let took = slow.join_all().await;
    let soonest = took.iter().min().unwrap();
    assert!(*soonest > Duration::from_secs(4), "that was no handshake to speak of: {soonest:?}");
    crate::redis::until("nothing is left of them", async || open() <= before).await;
    let waited = others.stop().await;
    println!("300 TLS handshakes byte by byte: cut off after 5 s; {waited}");
    assert!(service.stop().success());
}
