//! Orders start and end by themselves at their stated times.

use std::time::Duration;

use clap::Parser;
use jiff::{SignedDuration, Timestamp};
use withheld::clock::{Clock, Hand};
use withheld::config::ServeArgs;
use withheld::pb::v1 as pb;
use withheld::pb::v1::order_service_client::OrderServiceClient;
use withheld::pb::v1::visibility_service_client::VisibilityServiceClient;
use withheld::reload::Live;
use withheld::server;
use withheld::stop::{Stop, Urgency};

use crate::harness::{Service, mk_accounts, mk_apply, mk_context, mk_journal, mk_order, nth, serving};

/// A service in this process, by a clock that stands still until its hand is moved.
pub struct Clocked {
    pub queries: String,
    pub admin: String,
    pub hand: Hand,
    stop: Stop,
    running: tokio::task::JoinHandle<Result<(), server::ServeError>>,
}

impl Clocked {
    pub async fn start(now: Timestamp, flags: &[&str]) -> Self {
        #[derive(Parser)]
        struct Flags {
            #[command(flatten)]
            args: ServeArgs,
        }
        let on_free_ports =
            ["serve", "--listen", "127.0.0.1:0", "--admin-listen", "127.0.0.1:0", "--http-listen", "off"];
        let args = Flags::parse_from([&on_free_ports, flags].concat()).args;
        let (clock, hand) = Clock::manual(now);
        let stop = Stop::default();
        let (tell, told) = tokio::sync::oneshot::channel();
        let live = Live::load(&args).unwrap();
        let running = tokio::spawn(server::run(args, live, clock, stop.clone(), |queries, admin| {
            tell.send((queries, admin)).unwrap();
        }));
        let (queries, admin) = told.await.unwrap();
        let service =
            Self { queries: format!("http://{queries}"), admin: format!("http://{admin}"), hand, stop, running };
        serving(&service.queries).await;
        service
    }

    pub async fn stop(self) {
        self.stop.say(Urgency::Prompt);
        self.running.await.unwrap().unwrap();
    }
}

pub fn stamp(at: Timestamp) -> Option<prost_types::Timestamp> {
    Some(prost_types::Timestamp { seconds: at.as_second(), nanos: at.subsec_nanosecond() })
}

pub const fn secs(seconds: i64) -> SignedDuration {
    SignedDuration::from_secs(seconds)
}

/// The next change that a watcher is told; heartbeats are passed over.
pub async fn next_change(watch: &mut tonic::Streaming<pb::WatchWithholdingsResponse>) -> pb::WithheldCountries {
    let change = async {
        loop {
            let message = watch.message().await.unwrap().unwrap();
            if let Some(change) = message.changes.into_iter().next() {
                return change;
            }
        }
    };
    tokio::time::timeout(Duration::from_secs(30), change).await.expect("no change was told")
}

#[tokio::test(flavor = "multi_thread")]
async fn an_order_starts_and_ends_at_its_times_to_the_microsecond_and_nobody_calls_anything() {
    let now: Timestamp = "2021-02-01T08:00:00Z".parse().unwrap();
    let (start, end) = (now + secs(3_600), now + secs(7_200));
    let service = Clocked::start(now, &["--journal", "memory:"]).await;
    let mut orders = OrderServiceClient::connect(service.admin.clone()).await.unwrap();
    let mut visibility = VisibilityServiceClient::connect(service.queries.clone()).await.unwrap();
    let mut watch = visibility.clone();
    let mut watch = watch
        .watch_withholdings(pb::WatchWithholdingsRequest { after_revision: 0, ..Default::default() })
        .await
        .unwrap()
        .into_inner();

    let spec = pb::OrderSpec { effective_from: stamp(start), expires_at: stamp(end), ..mk_order("timed", &["IN"]) };
    let applied = orders.apply_order(mk_apply(spec, mk_accounts([7]))).await.unwrap().into_inner().order.unwrap();
    assert_eq!((applied.state(), applied.effect_given_at), (pb::OrderState::Scheduled, None));
    // That it was applied changes no list: a watcher is told of nothing before it starts.

    let instant = SignedDuration::from_micros(1);
    for (at, withheld, state) in [
        (start - instant, false, pb::OrderState::Scheduled),
        (start, true, pb::OrderState::InForce),
        (end - instant, true, pb::OrderState::InForce),
        (end, false, pb::OrderState::Expired),
    ] {
        service.hand.set(at);
        if at == start || at == end {
            let change = next_change(&mut watch).await;
            assert_eq!(change.country_codes, if withheld { vec!["IN"] } else { vec![] });
        } else {
            // A command is answered only after what it wrote is published, as of the clock's time.
            let letter = pb::Correspondence { kind: 5, text: "a letter".to_owned(), ..Default::default() };
            let context = mk_context("", "");
            let note =
                pb::RecordCorrespondenceRequest { order_id: "timed".to_owned(), correspondence: Some(letter), context };
            orders.record_correspondence(note).await.unwrap();
        }
        let check = pb::CheckRequest { account_id: 7, viewer_country: "IN".to_owned(), ..Default::default() };
        assert_eq!(visibility.check(check).await.unwrap().into_inner().withheld, withheld, "at {at}");
        let get = pb::GetOrderRequest { order_id: "timed".to_owned(), consistency: None };
        let order = orders.get_order(get).await.unwrap().into_inner().order.unwrap();
        assert_eq!(order.state(), state, "at {at}");
    }
    let get = pb::GetOrderRequest { order_id: "timed".to_owned(), consistency: None };
    let order = orders.get_order(get).await.unwrap().into_inner().order.unwrap();
    assert_eq!((order.effect_given_at, order.ended_at), (stamp(start), stamp(end)));
    drop(watch);
    service.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_staged_list_that_no_order_uses_is_thrown_away_in_time() {
    let now: Timestamp = "2021-02-01T08:00:00Z".parse().unwrap();
    let service = Clocked::start(now, &["--journal", "memory:", "--keep-uploads", "1h"]).await;
    let mut orders = OrderServiceClient::connect(service.admin.clone()).await.unwrap();
    let chunk = || pb::UploadItemsRequest { context: mk_context("", ""), items: mk_accounts([7]).items };
    let upload = orders.upload_items(tokio_stream::once(chunk())).await.unwrap().into_inner();
    assert_eq!(upload.expires_at, stamp(now + secs(3_600)));
    let mut preview = async || {
        let items = Some(pb::preview_order_request::Items::UploadId(upload.upload_id.clone()));
        orders.preview_order(pb::PreviewOrderRequest { order: Some(mk_order("late", &["IN"])), items }).await
    };
    service.hand.set(now + secs(3_599));
    preview().await.unwrap();
    service.hand.set(now + secs(3_700));
    let gone = async { while preview().await.is_ok() {} };
    tokio::time::timeout(Duration::from_secs(30), gone).await.expect("the list is kept for ever");
    assert_eq!(preview().await.unwrap_err().code(), tonic::Code::NotFound);
    service.stop().await;
}

/// By the machine's own clock: five starts, each told to a watcher. The middle one of the delays is held to the limit,
/// because a busy machine can only ever add to a delay.
#[tokio::test(flavor = "multi_thread")]
async fn by_the_real_clock_orders_start_within_100_ms() {
    let (_dir, journal) = mk_journal();
    let service = Service::start(&journal).await;
    let (mut orders, mut visibility) = (service.orders().await, service.visibility().await);
    let first = Timestamp::now() + SignedDuration::from_millis(1_500);
    let times: Vec<Timestamp> = (0..5).map(|n| first + SignedDuration::from_millis(400) * n).collect();
    for (n, at) in (1..).zip(&times) {
        let spec = pb::OrderSpec { effective_from: stamp(*at), ..mk_order(&format!("timed-{n}"), &["IN"]) };
        let scheduled = orders.apply_order(mk_apply(spec, mk_accounts([n]))).await.unwrap().into_inner();
        assert_eq!(
            scheduled.order.unwrap().state(),
            pb::OrderState::Scheduled,
            "the machine is too slow for this test"
        );
    }
    let watch = pb::WatchWithholdingsRequest { after_revision: nth(times.len() as u64), ..Default::default() };
    let mut watch = visibility.watch_withholdings(watch).await.unwrap().into_inner();
    let mut delays = Vec::new();
    for at in &times {
        let change = loop {
            let change = next_change(&mut watch).await;
            if !change.country_codes.is_empty() {
                break change;
            }
        };
        let delay = Timestamp::now().duration_since(*at);
        assert!(!delay.is_negative(), "{:?} went dark {delay} early", change.subject);
        delays.push(delay);
    }
    delays.sort();
    println!("delays: {delays:?}");
    assert!(delays[2] <= SignedDuration::from_millis(100), "{delays:?}");
}
