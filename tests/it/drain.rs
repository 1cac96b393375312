//! Stopping: in which order, how soon, and whatever its clients do meanwhile.

use std::process::Command;
use std::time::{Duration, Instant};

use tokio::io::AsyncWriteExt as _;
use tonic::Code;
use tonic::transport::Channel;
use tonic_health::pb::HealthCheckRequest;
use tonic_health::pb::health_check_response::ServingStatus;
use tonic_health::pb::health_client::HealthClient;
use withheld::pb::v1 as pb;

use crate::frames::{GOAWAY, GREETING, Wire};
use crate::harness::{ONE_PERSON, Service, mk_accounts, mk_apply, mk_batch, mk_context, mk_journal, mk_order, nth};
use crate::redis::until;
use crate::scrape::Scrape;

fn signal(service: &Service, name: &str) {
    assert!(Command::new("kill").args(["-s", name, &service.pid().to_string()]).status().unwrap().success());
}

/// A call that is not answered for five seconds, unless it is cut off: it waits for a revision that nobody writes.
fn mk_long_call() -> pb::CheckRequest {
    let consistency = Some(pb::Consistency { at_least_revision: 1_000, ..Default::default() });
    pb::CheckRequest { account_id: 1, viewer_country: "IN".to_owned(), consistency, ..Default::default() }
}

async fn under_way(service: &Service, method: &str) {
    let (service_name, name) = method.split_once('/').unwrap();
    let started = format!("grpc_server_started_total{{grpc_service=\"{service_name}\",grpc_method=\"{name}\"}}");
    until(format!("{method} is under way"), async || Scrape::of(service).await.count(&started) > 0).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn it_says_not_serving_then_pauses_then_goaway_and_is_gone() {
    let (_dir, journal) = mk_journal();
    let service = Service::start_with(&journal, &["--drain-pause", "1s"]).await;
    let channel = Channel::from_shared(service.queries.clone()).unwrap().connect().await.unwrap();
    let health = HealthClient::new(channel).watch(HealthCheckRequest::default()).await;
    let mut health = health.unwrap().into_inner();
    assert_eq!(health.message().await.unwrap().unwrap().status(), ServingStatus::Serving);
    let mut before = Wire::greet(&service.queries).await;

    let told = Instant::now();
    service.terminate();
    assert_eq!(health.message().await.unwrap().unwrap().status(), ServingStatus::NotServing);
    assert!(told.elapsed() < Duration::from_secs(1), "told at once, not after the pause");
    // Who has not noticed yet is served as ever, on an old connection and on a new one; operators, too.
    let mut orders = service.orders().await;
    orders.apply_order(mk_apply(mk_order("late", &["IN"]), mk_accounts([1]))).await.unwrap();
    let answer = service.visibility().await.batch_check(mk_batch("IN", [1])).await.unwrap().into_inner();
    assert_eq!(answer.accounts.len(), 1);
    assert!(told.elapsed() < Duration::from_secs(1), "that was no pause to speak of: {:?}", told.elapsed());

    let goaway = before.until(GOAWAY).await.expect("told to leave");
    assert!(told.elapsed() >= Duration::from_secs(1), "after the pause: {:?}", told.elapsed());
    assert_eq!(goaway.payload[4..8], [0; 4], "NO_ERROR");
    before.until_closed().await;
    assert_eq!(health.message().await.unwrap(), None, "and those who watch health are let go");
    assert!(service.wait().success());
}

#[tokio::test(flavor = "multi_thread")]
async fn who_watches_is_told_where_to_resume_and_what_was_acknowledged_is_there_then() {
    let (_dir, journal) = mk_journal();
    let service = Service::start(&journal).await;
    let mut orders = service.orders().await;
    orders.apply_order(mk_apply(mk_order("first", &["IN"]), mk_accounts([1]))).await.unwrap();
    let mut visibility = service.visibility().await;
    let request = pb::WatchWithholdingsRequest { after_revision: 0, ..Default::default() };
    let mut watch = visibility.watch_withholdings(request).await.unwrap().into_inner();
    watch.message().await.unwrap().unwrap();
    let began = Instant::now();
    service.terminate();
    let ended = loop {
        match watch.message().await {
            Ok(message) => assert!(message.is_some(), "ended without a word"),
            Err(status) => break status,
        }
    };
    assert_eq!(ended.code(), Code::Unavailable);
    let details = tonic_types::StatusExt::get_details_error_info(&ended).unwrap();
    assert_eq!(details.metadata["resume_after_revision"], nth(1).to_string());
    assert!(service.wait().success());
    assert!(began.elapsed() < Duration::from_secs(5), "nobody was waited for: {:?}", began.elapsed());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_person_at_a_terminal_does_not_wait_for_balancers_and_asking_twice_cuts_off() {
    let (_dir, journal) = mk_journal();
    let service = Service::start_with(&journal, &["--drain-pause", "60s", "--drain", "90s"]).await;
    let began = Instant::now();
    signal(&service, "INT");
    assert!(service.wait().success());
    assert!(began.elapsed() < Duration::from_secs(20), "no pause: {:?}", began.elapsed());

    let service = Service::start_with(&journal, &["--drain-pause", "60s", "--drain", "90s"]).await;
    let mut visibility = service.visibility().await;
    let call = tokio::spawn(async move { visibility.check(mk_long_call()).await });
    under_way(&service, "withheld.v1.VisibilityService/Check").await;
    let began = Instant::now();
    signal(&service, "TERM");
    until("it has heard", async || service.log().contains("told to stop")).await;
    signal(&service, "TERM");
    assert!(service.wait().success());
    assert!(began.elapsed() < Duration::from_secs(20), "at once: {:?}", began.elapsed());
    assert_eq!(call.await.unwrap().unwrap_err().code(), Code::Unavailable, "cut off is no verdict");
}

/// What a client does that keeps its connection open, and whether stopping has to wait for its deadline for that.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Client {
    SaysNothing,
    StopsInTheGreeting,
    GreetsAndIsIdle,
    GreetsAndAnswersNothing,
    WatchesHealth,
    WatchesAndNeverReads,
    NeverReadsItsAnswers,
    Uploads,
    WaitsForARevision,
}

/// Each stops within its deadline, and at once where nothing is under way.
#[tokio::test(flavor = "multi_thread")]
async fn stopping_ends_in_time_whatever_clients_do() {
    use Client::*;
    let drain = Duration::from_secs(2);
    for (client, waits) in [
        (SaysNothing, false),
        (StopsInTheGreeting, false),
        (GreetsAndIsIdle, false),
        (GreetsAndAnswersNothing, true),
        (WatchesHealth, false),
        (WatchesAndNeverReads, true),
        (NeverReadsItsAnswers, true),
        (Uploads, true),
        (WaitsForARevision, true),
    ] {
        let (_dir, journal) = mk_journal();
        let service = Service::start_with(&journal, &[["--drain", "2s"], ONE_PERSON].concat()).await;
        let mut orders = service.orders().await;
        orders.apply_order(mk_apply(mk_order("order", &["IN"]), mk_accounts(1..=10_000))).await.unwrap();
        drop(orders);
        let held = hold(&service, client).await;
        let began = Instant::now();
        service.terminate();
        assert!(service.wait().success(), "{client:?}: a drain that was cut short is no fault");
        let took = began.elapsed();
        println!("SIGTERM to exit, --drain 2s, client {client:?}: {:.2} s", took.as_secs_f64());
        assert!(took < drain + Duration::from_secs(4), "{client:?}: {took:?}");
        assert_eq!(took >= drain, waits, "{client:?}: {took:?}");
        drop(held);
        // Nothing was lost by it.
        let service = Service::start(&journal).await;
        let answer = service.visibility().await.batch_check(mk_batch("IN", 1..=10_000)).await.unwrap().into_inner();
        assert_eq!(answer.accounts.len(), 10_000, "{client:?}");
        service.kill();
    }
}

/// Does it, and goes on doing it until the result is dropped.
async fn hold(service: &Service, client: Client) -> Box<dyn std::any::Any> {
    match client {
        Client::SaysNothing => Box::new(Wire::connect(&service.queries).await),
        Client::StopsInTheGreeting => {
            let mut wire = Wire::connect(&service.queries).await;
            wire.0.write_all(&GREETING[..16]).await.unwrap();
            Box::new(wire)
        }
        Client::GreetsAndIsIdle => {
            let mut wire = Wire::greet(&service.queries).await;
            Box::new(Dropped(tokio::spawn(async move { wire.until_closed().await })))
        }
        Client::GreetsAndAnswersNothing => Box::new(Wire::greet(&service.queries).await),
        Client::WatchesHealth => {
            let channel = Channel::from_shared(service.admin.clone()).unwrap().connect().await.unwrap();
            let mut watch = HealthClient::new(channel).watch(HealthCheckRequest::default()).await.unwrap().into_inner();
            watch.message().await.unwrap().unwrap();
            Box::new(watch)
        }
        Client::WatchesAndNeverReads => {
            let mut wire = Wire::greet(&service.queries).await;
            let method = "withheld.v1.VisibilityService/WatchWithholdings";
            wire.call(1, method, &pb::WatchWithholdingsRequest { after_revision: 0, ..Default::default() }).await;
            under_way(service, method).await;
            Box::new(wire)
        }
        Client::NeverReadsItsAnswers => {
            let mut wire = Wire::greet(&service.queries).await;
            let method = "withheld.v1.VisibilityService/ListWithheldCountries";
            // More than the 65,535 bytes that may be sent to who does not say that it has read some.
            let request = pb::ListWithheldCountriesRequest { account_ids: (1..=5_000).collect(), ..Default::default() };
            wire.call(1, method, &request).await;
            under_way(service, method).await;
            Box::new(wire)
        }
        Client::Uploads => {
            let mut orders = service.orders().await;
            let (sender, receiver) = tokio::sync::mpsc::channel(1);
            let first = pb::UploadItemsRequest { context: mk_context("", ""), items: mk_accounts([1]).items };
            sender.send(first).await.unwrap();
            let stream = tokio_stream::wrappers::ReceiverStream::new(receiver);
            let call = Dropped(tokio::spawn(async move { drop(orders.upload_items(stream).await) }));
            under_way(service, "withheld.v1.OrderService/UploadItems").await;
            Box::new((sender, call))
        }
        Client::WaitsForARevision => {
            let mut visibility = service.visibility().await;
            let call = Dropped(tokio::spawn(async move { drop(visibility.check(mk_long_call()).await) }));
            under_way(service, "withheld.v1.VisibilityService/Check").await;
            Box::new(call)
        }
    }
}

/// A task that ends with this.
struct Dropped(tokio::task::JoinHandle<()>);

impl Drop for Dropped {
    fn drop(&mut self) {
        self.0.abort();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn calls_in_flight_finish_and_what_was_acknowledged_is_kept_when_it_is_told_to_stop() {
    let (_dir, journal) = mk_journal();
    let service = Service::start(&journal).await;
    let mut applying = tokio::task::JoinSet::new();
    for n in 0..40_u64 {
        let mut orders = service.orders().await;
        applying.spawn(async move {
            let request = mk_apply(mk_order(&format!("order-{n}"), &["IN"]), mk_accounts([n + 1]));
            orders.apply_order(request).await.map(|_| n + 1)
        });
    }
    // As soon as the first is done, the others being under way.
    let mut done = vec![applying.join_next().await.unwrap().unwrap().unwrap()];
    service.terminate();
    for ended in applying.join_all().await {
        match ended {
            Ok(account) => done.push(account),
            Err(status) => assert_eq!(status.code(), Code::Unavailable, "{status}"),
        }
    }
    assert!(service.wait().success());
    let service = Service::start(&journal).await;
    let answer = service.visibility().await.batch_check(mk_batch("IN", done.clone())).await.unwrap().into_inner();
    assert_eq!(answer.accounts.len(), done.len());
}
