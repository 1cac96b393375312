//! Connections: how many, how long they live, and what happens when there are no more descriptors.

use std::process::Command;
use std::time::{Duration, Instant};

use withheld::pb::v1 as pb;

use crate::frames::{Frame, GOAWAY, PING, Wire};
use crate::harness::{Service, mk_accounts, mk_apply, mk_journal, mk_order, nth};
use crate::redis::{eventually, until};
use crate::scrape::Scrape;

/// A call on a connection of its own.
async fn check(service: &Service) -> Result<pb::CheckResponse, tonic::Status> {
    let channel = tonic::transport::Channel::from_shared(service.queries.clone()).unwrap();
    let channel = channel.connect().await.map_err(|error| tonic::Status::unavailable(error.to_string()))?;
    let mut client = pb::visibility_service_client::VisibilityServiceClient::new(channel);
    let request = pb::CheckRequest { account_id: 1, viewer_country: "IN".to_owned(), ..Default::default() };
    client.check(request).await.map(tonic::Response::into_inner)
}

/// How long after the beginning a new connection that does nothing is told to leave.
async fn told_to_leave(endpoint: String, began: Instant) -> Duration {
    let mut wire = Wire::greet(&endpoint).await;
    let goaway = wire.until(GOAWAY).await.expect("told before it is closed");
    let told = began.elapsed();
    // The greatest stream number and NO_ERROR: what is on its way is still taken.
    assert_eq!(goaway.payload[..8], [0x7f, 0xff, 0xff, 0xff, 0, 0, 0, 0]);
    wire.until_closed().await;
    told
}

#[tokio::test(flavor = "multi_thread")]
async fn a_connection_of_age_is_told_to_leave_and_not_all_at_once() {
    let (_dir, journal) = mk_journal();
    let service = Service::start_with(&journal, &["--max-connection-age", "2s"]).await;
    let began = Instant::now();
    let connections: tokio::task::JoinSet<Duration> =
        (0..12).map(|_| told_to_leave(service.queries.clone(), began)).collect();
    let mut told = connections.join_all().await;
    told.sort();
    let (first, last) = (told[0], told[told.len() - 1]);
    // A quarter less or more; how late a busy machine is, is not asked.
    assert!(first >= Duration::from_millis(1_500), "{first:?}");
    assert!(last - first >= Duration::from_millis(200), "all at once: {told:?}");

    // A watch is told where to go on, by which time its connection has been left for as long again.
    let mut watcher = service.visibility().await;
    let mut orders = service.orders().await;
    orders.apply_order(mk_apply(mk_order("order", &["IN"]), mk_accounts([1]))).await.unwrap();
    let request = pb::WatchWithholdingsRequest { after_revision: 0, ..Default::default() };
    let mut watch = watcher.watch_withholdings(request).await.unwrap().into_inner();
    let ended = loop {
        match watch.message().await {
            Ok(message) => assert!(message.is_some(), "ended without a word"),
            Err(status) => break status,
        }
    };
    assert_eq!(ended.code(), tonic::Code::Unavailable, "{ended}");
    assert!(ended.message().ends_with(&format!("watch again after revision {}", nth(1))), "{ended}");
    assert!(service.stop().success());
}

#[tokio::test(flavor = "multi_thread")]
async fn an_idle_connection_is_asked_whether_it_is_there_and_may_ask_itself() {
    let (_dir, journal) = mk_journal();
    let service = Service::start_with(&journal, &["--keepalive", "1s"]).await;
    let mut silent = Wire::greet(&service.queries).await;
    let ping = silent.until(PING).await.expect("asked");
    assert_eq!(ping.stream, 0);
    // `until` has answered that one. From now on nothing is answered.
    let ended = async { while silent.next().await.is_some() {} };
    tokio::time::timeout(Duration::from_secs(20), ended).await.expect("who does not answer is given up");
    let mut lively = Wire::greet(&service.queries).await;
    // Who answers stays, and gets answers to as many questions as it likes: nobody is told off for pinging.
    for n in 0..200_u64 {
        lively.send(&Frame::of(PING, 0, 0, &n.to_be_bytes())).await;
    }
    let mut answered = 0;
    while answered < 200 {
        let frame = lively.next().await.expect("still there");
        assert_ne!(frame.kind, GOAWAY);
        match frame {
            Frame { kind: PING, flags: 0, payload, .. } => lively.send(&Frame::of(PING, 1, 0, &payload)).await,
            Frame { kind: PING, payload, .. } => {
                assert_eq!(payload, u64::to_be_bytes(answered));
                answered += 1;
            }
            _ => {}
        }
    }
    assert!(service.stop().success());
}

#[tokio::test(flavor = "multi_thread")]
async fn who_comes_when_all_places_are_taken_is_turned_away_at_once_and_operators_have_places_of_their_own() {
    let (_dir, journal) = mk_journal();
    let service = Service::start_with(&journal, &["--max-connections", "4"]).await;
    let open = "withheld_connections{listener=\"queries\"}";
    // The one that the harness asked health on may still be there.
    until("nobody is connected", async || Scrape::of(&service).await.count(open) == 0).await;
    let mut inside = Vec::new();
    for _ in 0..4 {
        inside.push(Wire::greet(&service.queries).await);
    }
    assert_eq!(Scrape::of(&service).await.count(open), 4);
    let mut outside = Wire::connect(&service.queries).await;
    assert_eq!(outside.next().await, None, "closed without a word");
    assert!(check(&service).await.is_err());
    let sheds = "withheld_sheds_total{what=\"connection\",listener=\"queries\"}";
    assert!(Scrape::of(&service).await.count(sheds) >= 2);
    service.orders().await.list_orders(pb::ListOrdersRequest::default()).await.expect("operators are not affected");
    // A place that was left is free again.
    inside.pop();
    eventually("a place is free", async || check(&service).await.ok()).await;
    assert!(service.stop().success());
}

/// Out of descriptors, accepting fails at once, again and again: that must not take a core.
#[tokio::test(flavor = "multi_thread")]
async fn without_descriptors_accepting_waits_and_those_who_are_inside_are_answered() {
    let (_dir, journal) = mk_journal();
    let service = Service::start(&journal).await;
    let mut inside = service.visibility().await;
    let request = pb::CheckRequest { account_id: 1, viewer_country: "IN".to_owned(), ..Default::default() };
    inside.check(request.clone()).await.unwrap();
    let used = std::fs::read_dir(format!("/proc/{}/fd", service.pid())).unwrap().count() - 1;
    let limit = format!("--nofile={0}:{0}", used + 3);
    let limited = Command::new("prlimit").args(["--pid", &service.pid().to_string(), &limit]).status().unwrap();
    assert!(limited.success());
    let mut waiting = Vec::new();
    for _ in 0..20 {
        waiting.push(Wire::connect(&service.queries).await);
    }
    eventually("accepting fails", async || service.log().contains("cannot accept connections").then_some(())).await;

    let (before, began) = (service.cpu(), Instant::now());
    let mut answered = 0;
    while began.elapsed() < Duration::from_secs(2) {
        inside.check(request.clone()).await.expect("answered as ever");
        answered += 1;
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    let used = service.cpu() - before;
    assert!(used < Duration::from_secs(1), "{used:?} of 2 s went into accepting, beside {answered} answers");
    assert!(service.log().matches("cannot accept connections").count() < 40, "{}", service.log());

    // As soon as descriptors are free again, so is the way in.
    drop(waiting);
    eventually("accepting goes on", async || check(&service).await.ok()).await;
    assert!(service.stop().success());
}
