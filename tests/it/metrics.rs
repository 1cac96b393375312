//! What the HTTP listener tells: metrics, readiness, and the digest by which replicas are compared.

use std::path::Path;
use std::time::{Duration, Instant};

use tonic::Code;
use withheld::pb::v1 as pb;

use crate::harness::{
    CREATED, ONE_PERSON, Service, get, mk_accounts, mk_apply, mk_batch, mk_context, mk_items, mk_journal, mk_order, nth,
};
use crate::scrape::Scrape;

/// A history with something of everything in it.
async fn some_history(service: &Service) {
    let mut orders = service.orders().await;
    let mut protections = service.protections().await;
    let context = || mk_context("why", "");
    let protect = |id| pb::ProtectedAccount {
        account_id: id,
        category: pb::ProtectionCategory::Journalist.into(),
        ..Default::default()
    };
    let accounts = vec![protect(7), protect(8)];
    protections.protect_accounts(pb::ProtectAccountsRequest { accounts, context: context() }).await.unwrap();
    for (n, country) in (0..6_u64).zip(["IN", "DE", "FR", "IN", "BR", "TR"]) {
        let first = n * 3 + 1;
        let order = mk_order(&format!("order-{n}"), &[country]);
        orders.apply_order(mk_apply(order, mk_accounts(first..first + 10))).await.unwrap();
    }
    let of = |n: u64| format!("order-{n}");
    let standing = |n| pb::StayOrderRequest { order_id: of(n), context: context(), validate_only: false };
    orders.stay_order(standing(1)).await.unwrap();
    orders.stay_order(standing(2)).await.unwrap();
    orders
        .resume_order(pb::ResumeOrderRequest { order_id: of(2), context: context(), validate_only: false })
        .await
        .unwrap();
    orders
        .lift_order(pb::LiftOrderRequest { order_id: of(3), context: context(), validate_only: false })
        .await
        .unwrap();
    let items = pb::LiftItemsRequest {
        order_id: of(4),
        items: Some(pb::lift_items_request::Items::ItemList(mk_items([("account_id", "14")]))),
        context: context(),
        ..Default::default()
    };
    orders.lift_items(items).await.unwrap();
    let remove = pb::UnprotectAccountsRequest { account_ids: vec![8], context: context() };
    protections.unprotect_accounts(remove).await.unwrap();
    let staged = pb::UploadItemsRequest { context: context(), items: mk_accounts(100..200).items };
    orders.upload_items(tokio_stream::iter([staged])).await.unwrap();
}

/// A copy of a journal that nobody has open, with its snapshot or without.
fn copy(journal: &Path, with_snapshot: bool) -> (tempfile::TempDir, std::path::PathBuf) {
    let (dir, to) = mk_journal();
    std::fs::copy(journal, &to).unwrap();
    if with_snapshot {
        std::fs::copy(journal.with_extension("db.snapshot"), to.with_extension("db.snapshot")).unwrap();
    }
    (dir, to)
}

#[tokio::test(flavor = "multi_thread")]
async fn replicas_at_one_revision_have_one_digest_however_they_came_there() {
    let (_dir, journal) = mk_journal();
    let service = Service::start(&journal).await;
    let empty = Scrape::of(&service).await.digest();
    some_history(&service).await;
    let first = Scrape::of(&service).await.digest();
    assert!(first.0 > empty.0 && first.1 != empty.1, "{empty:?} {first:?}");
    assert!(first.1 < 1 << 48);
    assert!(service.stop().success());

    // Folded anew from a copy of the journal; restored from a snapshot.
    let (_folded_dir, folded) = copy(&journal, false);
    let (_restored_dir, restored) = copy(&journal, true);
    let (folded, restored) = (Service::start(&folded).await, Service::start(&restored).await);
    assert!(!folded.log().contains("restored from snapshot"), "{}", folded.log());
    assert!(restored.log().contains("state restored from snapshot"), "{}", restored.log());
    for service in [&folded, &restored] {
        assert_eq!(Scrape::of(service).await.digest(), first, "{}", service.log());
    }

    // From here on their histories differ by one account.
    for (service, account) in [(&folded, 1_000), (&restored, 1_001)] {
        let request = mk_apply(mk_order("another", &["IN"]), mk_accounts([account]));
        service.orders().await.apply_order(request).await.unwrap();
    }
    let (one, other) = (Scrape::of(&folded).await.digest(), Scrape::of(&restored).await.digest());
    assert_eq!(one.0, other.0);
    assert_ne!(one.1, other.1);
}

#[tokio::test(flavor = "multi_thread")]
async fn metrics_are_in_the_format_and_tell_what_there_is() {
    let (_dir, journal) = mk_journal();
    let service = Service::start(&journal).await;
    let before = Scrape::of(&service).await;
    assert_eq!(before.count("withheld_revision"), CREATED);
    assert_eq!(before.count("withheld_journal_append_seconds_count"), 0);
    some_history(&service).await;
    let scrape = Scrape::of(&service).await;
    let kinds = [
        ("withheld_revision", "gauge"),
        ("withheld_state_digest", "gauge"),
        ("withheld_knowledge_age_seconds", "gauge"),
        ("withheld_live", "gauge"),
        ("withheld_ready", "gauge"),
        ("withheld_subjects", "gauge"),
        ("withheld_orders", "gauge"),
        ("withheld_orders_overdue", "gauge"),
        ("withheld_approvals_pending", "gauge"),
        ("withheld_approval_oldest_seconds", "gauge"),
        ("withheld_request_memory_seconds", "gauge"),
        ("withheld_commands_unrecordable_total", "counter"),
        ("withheld_journal_info", "gauge"),
        ("withheld_journal_fault", "gauge"),
        ("withheld_journal_appends_total", "counter"),
        ("withheld_journal_append_seconds", "histogram"),
        ("withheld_follower_restarts_total", "counter"),
        ("withheld_journal_connected", "gauge"),
        ("withheld_journal_reconnects_total", "counter"),
        ("withheld_checkpoint_revision", "gauge"),
        ("withheld_checkpoint_timestamp_seconds", "gauge"),
        ("withheld_checkpoint_failures_total", "counter"),
        ("withheld_config_last_reload_successful", "gauge"),
        ("withheld_config_last_reload_success_timestamp_seconds", "gauge"),
        ("withheld_certificate_expiry_timestamp_seconds", "gauge"),
        ("withheld_jwt_verifications_total", "counter"),
        ("withheld_build_info", "gauge"),
        ("withheld_index_bytes", "gauge"),
        ("withheld_response_unread_bytes", "gauge"),
        ("withheld_verdicts_total", "counter"),
        ("withheld_connections", "gauge"),
        ("withheld_accept_errors_total", "counter"),
        ("withheld_sheds_total", "counter"),
        ("withheld_refused_total", "counter"),
        ("withheld_tls_handshakes_failed_total", "counter"),
        ("grpc_server_started_total", "counter"),
        ("grpc_server_handled_total", "counter"),
        ("grpc_server_handling_seconds", "histogram"),
    ];
    for (name, kind) in kinds {
        assert_eq!(scrape.families.get(name).map(String::as_str), Some(kind), "{name}");
    }
    assert_eq!(scrape.families.len(), kinds.len(), "{:?}", scrape.families);

    assert_eq!(scrape.count("withheld_revision"), nth(14));
    for (series, value) in [
        ("withheld_live", 1),
        ("withheld_ready", 1),
        // Accounts 1 to 25 but the two that were protected; what was lifted others hold still.
        ("withheld_subjects{kind=\"account\"}", 23),
        ("withheld_subjects{kind=\"post\"}", 0),
        ("withheld_orders{state=\"in_force\"}", 4),
        ("withheld_orders{state=\"stayed\"}", 1),
        ("withheld_orders{state=\"lifted\"}", 1),
        ("withheld_orders{state=\"scheduled\"}", 0),
        ("withheld_orders{state=\"expired\"}", 0),
        ("withheld_orders{state=\"pending_approval\"}", 0),
        ("withheld_orders{state=\"rejected\"}", 0),
        ("withheld_orders{state=\"expired_unapproved\"}", 0),
        ("withheld_orders_overdue{deadline=\"comply_by\"}", 0),
        ("withheld_orders_overdue{deadline=\"review_due_at\"}", 0),
        ("withheld_approvals_pending", 0),
        ("withheld_approval_oldest_seconds", 0),
        ("withheld_journal_appends_total{outcome=\"done\"}", 14),
        ("withheld_journal_appends_total{outcome=\"conflict\"}", 0),
        ("withheld_journal_append_seconds_count", 14),
        ("withheld_follower_restarts_total", 0),
        ("withheld_journal_connected", 1),
        ("withheld_journal_reconnects_total", 0),
        (concat!("withheld_build_info{version=\"", env!("CARGO_PKG_VERSION"), "\"}"), 1),
    ] {
        assert_eq!(scrape.count(series), value, "{series}");
    }
    assert!(scrape.value("withheld_knowledge_age_seconds") < 5.0);
    assert!(scrape.value("withheld_journal_append_seconds_sum") > 0.0);
    for secret in ["order-", "desk@example.org", "A court", "IN\"", "\"14\""] {
        assert!(!scrape.text.contains(secret), "`{secret}` in {}", scrape.text);
    }
}

/// A verdict is counted for each subject asked for, by where the viewer is; what could not be answered is none.
#[tokio::test(flavor = "multi_thread")]
async fn verdicts_are_counted_by_country_and_outcome_over_all_threads() {
    let (_dir, journal) = mk_journal();
    let service = Service::start_with(&journal, &[["--query-threads", "2"], ONE_PERSON].concat()).await;
    let mut orders = service.orders().await;
    orders.apply_order(mk_apply(mk_order("order", &["IN"]), mk_accounts(1..=3))).await.unwrap();
    // On a connection each, so that both threads have some.
    for _ in 0..10 {
        for (country, ids) in [("IN", 1..=10), ("UK", 1..=5), ("", 3..=4)] {
            service.visibility().await.batch_check(mk_batch(country, ids)).await.unwrap();
        }
        for (id, post) in [(1, Some(77)), (9, None)] {
            let request = pb::CheckRequest {
                account_id: id,
                post_id: post,
                viewer_country: "IN".to_owned(),
                ..Default::default()
            };
            service.visibility().await.check(request).await.unwrap();
        }
        service.visibility().await.batch_check(mk_batch("in", 1..=10)).await.unwrap_err();
    }
    let scrape = Scrape::of(&service).await;
    let told: Vec<_> =
        scrape.samples.iter().filter(|(series, _)| series.starts_with("withheld_verdicts_total")).collect();
    assert_eq!(told.len(), 6, "only of countries that were asked for: {told:?}");
    for (country, visible, withheld) in [("IN", 80, 40), ("GB", 50, 0), ("XX", 20, 0)] {
        for (outcome, count) in [("visible", visible), ("withheld", withheld)] {
            let series = format!("withheld_verdicts_total{{country=\"{country}\",outcome=\"{outcome}\"}}");
            assert_eq!(scrape.count(&series), count, "{series}");
        }
    }
    let mut bytes = scrape.count("withheld_index_bytes");
    assert!(bytes > 0);
    // An account takes at least its id and a number.
    orders.apply_order(mk_apply(mk_order("more", &["IN"]), mk_accounts(100..=9_100))).await.unwrap();
    bytes = Scrape::of(&service).await.count("withheld_index_bytes") - bytes;
    assert!((9_000 * 12..9_000 * 100).contains(&bytes), "{bytes} bytes for 9,000 accounts");
}

fn series(name: &str, service: &str, method: &str, code: &str) -> String {
    format!("{name}{{grpc_service=\"withheld.v1.{service}\",grpc_method=\"{method}\",grpc_code=\"{code}\"}}")
}

#[tokio::test(flavor = "multi_thread")]
async fn calls_are_counted_by_how_they_ended_and_those_given_up_apart() {
    let (_dir, journal) = mk_journal();
    let service = Service::start_with(&journal, &["--query-threads", "2"]).await;
    let handled = "grpc_server_handled_total";
    let check = |at_least_revision, country: &str| pb::CheckRequest {
        account_id: 1,
        viewer_country: country.to_owned(),
        consistency: Some(pb::Consistency { at_least_revision, ..Default::default() }),
        ..Default::default()
    };
    for _ in 0..8 {
        service.visibility().await.check(check(0, "IN")).await.unwrap();
    }
    let refused = service.visibility().await.check(check(0, "in")).await.unwrap_err();
    assert_eq!(refused.code(), Code::InvalidArgument);
    let missing = pb::GetOrderRequest { order_id: "no-such".to_owned(), consistency: None };
    assert_eq!(service.orders().await.get_order(missing).await.unwrap_err().code(), Code::NotFound);
    // Nobody serves orders on the port for queries.
    let astray = pb::order_service_client::OrderServiceClient::connect(service.queries.clone()).await;
    let missing = pb::GetOrderRequest { order_id: "no-such".to_owned(), consistency: None };
    assert_eq!(astray.unwrap().get_order(missing).await.unwrap_err().code(), Code::Unimplemented);
    // One waits for a revision that does not come, and the client goes away; one watches.
    let mut waiting = service.visibility().await;
    let given_up = tokio::time::timeout(Duration::from_millis(200), waiting.check(check(1_000, "IN"))).await;
    assert!(given_up.is_err());
    let request = pb::WatchWithholdingsRequest { after_revision: 0, ..Default::default() };
    let watch = service.visibility().await.watch_withholdings(request).await.unwrap();

    let canceled = series(handled, "VisibilityService", "Check", "Canceled");
    let began = Instant::now();
    let scrape = loop {
        let scrape = Scrape::of(&service).await;
        if scrape.samples.contains_key(&canceled) || began.elapsed() > Duration::from_secs(5) {
            break scrape;
        }
    };
    assert_eq!(scrape.count(&canceled), 1);
    for (service, method, code, count) in [
        ("VisibilityService", "Check", "OK", 8),
        ("VisibilityService", "Check", "InvalidArgument", 1),
        ("VisibilityService", "BatchCheck", "OK", 0),
        ("OrderService", "GetOrder", "NotFound", 1),
        ("OrderService", "GetOrder", "Unimplemented", 1),
        ("VisibilityService", "WatchWithholdings", "OK", 0),
    ] {
        assert_eq!(scrape.count(&series(handled, service, method, code)), count, "{service} {method} {code}");
    }
    let of = "{grpc_service=\"withheld.v1.VisibilityService\",grpc_method=\"Check\"}";
    assert_eq!(scrape.count(&format!("grpc_server_started_total{of}")), 10);
    assert_eq!(scrape.count(&format!("grpc_server_handling_seconds_count{of}")), 10);
    assert!(scrape.value(&format!("grpc_server_handling_seconds_sum{of}")) > 0.2, "the one given up took so long");
    let watching =
        "grpc_server_started_total{grpc_service=\"withheld.v1.VisibilityService\",grpc_method=\"WatchWithholdings\"}";
    assert_eq!(scrape.count(watching), 1);
    assert_eq!(scrape.count("grpc_server_started_total{grpc_service=\"unknown\",grpc_method=\"unknown\"}"), 0);
    drop(watch);
}

#[tokio::test(flavor = "multi_thread")]
async fn readyz_says_whether_to_ask_and_if_not_why() {
    let (_dir, journal) = mk_journal();
    let service = Service::start_with(&journal, &ONE_PERSON).await;
    // A list so long that loading it takes a moment.
    let mut orders = service.orders().await;
    let chunks = (0..40_u64).map(|chunk| pb::UploadItemsRequest {
        context: mk_context("", ""),
        items: mk_accounts((1 + chunk * 10_000..).take(10_000)).items,
    });
    let upload = orders.upload_items(tokio_stream::iter(chunks)).await.unwrap().into_inner();
    let apply = pb::ApplyOrderRequest {
        items: Some(pb::apply_order_request::Items::UploadId(upload.upload_id)),
        ..mk_apply(mk_order("order", &["IN"]), pb::ItemList::default())
    };
    orders.apply_order(apply).await.unwrap();
    service.kill();

    let service = Service::spawn(&journal, &["--drain", "3s"]);
    let loading = get(&service.http, "/readyz").await;
    assert_eq!(loading, (503, "not ready: the journal is still being loaded\n".to_owned()));
    let scrape = Scrape::of(&service).await;
    assert_eq!((scrape.count("withheld_ready"), scrape.count("withheld_live")), (0, 0));
    assert_eq!(get(&service.http, "/healthz").await, (200, "alive\n".to_owned()));
    service.serving().await;
    assert_eq!(get(&service.http, "/readyz").await, (200, "ready\n".to_owned()));
    assert_eq!(get(&service.http, "/").await.0, 404);

    // It is seen draining, for as long as a call in flight takes.
    let waiting = service.visibility().await;
    let consistency = Some(pb::Consistency { at_least_revision: 1_000, ..Default::default() });
    let request =
        pb::CheckRequest { account_id: 1, viewer_country: "IN".to_owned(), consistency, ..Default::default() };
    let call = tokio::spawn(async move { waiting.clone().check(request).await });
    let began = Instant::now();
    while Scrape::of(&service)
        .await
        .count("grpc_server_started_total{grpc_service=\"withheld.v1.VisibilityService\",grpc_method=\"Check\"}")
        == 0
    {
        assert!(began.elapsed() < Duration::from_secs(5), "the call never came in");
    }
    service.terminate();
    let draining = loop {
        let answer = get(&service.http, "/readyz").await;
        if answer.0 != 200 {
            break answer;
        }
    };
    assert_eq!(draining, (503, "not ready: the service is shutting down\n".to_owned()));
    assert_eq!(Scrape::of(&service).await.count("withheld_ready"), 0);
    // Somebody who says nothing does not hold it up at the end.
    let silent = std::net::TcpStream::connect(&service.http).unwrap();
    assert!(service.wait().success());
    drop((silent, call));
}

#[tokio::test(flavor = "multi_thread")]
async fn the_listener_can_be_left_out() {
    let (_dir, journal) = mk_journal();
    let service = Service::start_with(&journal, &["--http-listen", "off"]).await;
    assert_eq!(service.http, "off");
    assert!(service.stop().success());
}
