//! Every mistake gets its own error: code, documented reason, the fields it is about. And nothing is written.

use tonic::{Code, Status};
use withheld::pb::v1 as pb;

use crate::harness::{
    CREATED, Service, mk_accounts, mk_apply, mk_batch, mk_context, mk_items, mk_journal, mk_order, refusal,
};

fn territory(territory: pb::territory::Territory) -> Option<pb::Territory> {
    Some(pb::Territory { territory: Some(territory) })
}

fn countries(codes: &[&str]) -> Option<pb::Territory> {
    let country_codes = codes.iter().map(|code| (*code).to_owned()).collect();
    territory(pb::territory::Territory::Countries(pb::CountryList { country_codes }))
}

const fn at(seconds: i64) -> Option<prost_types::Timestamp> {
    Some(prost_types::Timestamp { seconds, nanos: 0 })
}

/// An order that would be fine but for one change.
fn but(change: impl FnOnce(&mut pb::OrderSpec)) -> pb::OrderSpec {
    let mut spec = mk_order("refused", &["IN"]);
    change(&mut spec);
    spec
}

type Row = (&'static str, pb::OrderSpec, pb::ItemList, Code, &'static str, &'static [&'static str]);

fn table() -> Vec<Row> {
    use Code::InvalidArgument as Invalid;
    let one = || mk_accounts([7]);
    let everything_wrong = pb::OrderSpec {
        order_id: "a b".to_owned(),
        instrument: 77,
        territory: countries(&["IN", "QQ", "in", "XX"]),
        confidentiality: 9,
        basis: 9,
        public_notice_url: "javascript:alert(1)".to_owned(),
        expires_at: at(i64::MAX),
        ..Default::default()
    };
    vec![
        ("no id", but(|o| o.order_id.clear()), one(), Invalid, "BAD_FIELDS", &["order.order_id"]),
        ("no instrument", but(|o| o.instrument = 0), one(), Invalid, "BAD_FIELDS", &["order.instrument"]),
        (
            "no authority",
            but(|o| o.issuing_authority = " ".to_owned()),
            one(),
            Invalid,
            "BAD_FIELDS",
            &["order.issuing_authority"],
        ),
        ("no legal basis", but(|o| o.legal_basis.clear()), one(), Invalid, "BAD_FIELDS", &["order.legal_basis"]),
        (
            "names that no regime and no group have room for",
            but(|o| {
                o.regime = "r".repeat(10_000);
                o.territory = territory(pb::territory::Territory::Group("g".repeat(10_000)));
            }),
            one(),
            Invalid,
            "BAD_FIELDS",
            &["order.territory.group", "order.regime"],
        ),
        ("no territory", but(|o| o.territory = None), one(), Invalid, "BAD_FIELDS", &["order.territory"]),
        (
            "an empty territory",
            but(|o| o.territory = countries(&[])),
            one(),
            Invalid,
            "BAD_FIELDS",
            &["order.territory.countries"],
        ),
        (
            "worldwide, but not",
            but(|o| o.territory = territory(pb::territory::Territory::Worldwide(false))),
            one(),
            Invalid,
            "BAD_FIELDS",
            &["order.territory"],
        ),
        (
            "an unknown country",
            but(|o| o.territory = countries(&["IN", "QQ"])),
            one(),
            Invalid,
            "BAD_FIELDS",
            &["order.territory.countries[1]"],
        ),
        (
            "an unknown group",
            but(|o| o.territory = territory(pb::territory::Territory::Group("NATO".to_owned()))),
            one(),
            Invalid,
            "UNKNOWN_GROUP",
            &["order.territory.group"],
        ),
        (
            "an unknown regime",
            but(|o| o.regime = "in-69b".to_owned()),
            one(),
            Invalid,
            "UNKNOWN_REGIME",
            &["order.regime"],
        ),
        (
            "an end before its start",
            but(|o| (o.effective_from, o.expires_at) = (at(4_102_444_800), at(4_102_444_799))),
            one(),
            Invalid,
            "END_BEFORE_START",
            &["order.expires_at"],
        ),
        (
            "an end that is past",
            but(|o| o.expires_at = at(1_612_137_600)),
            one(),
            Invalid,
            "END_BEFORE_START",
            &["order.expires_at"],
        ),
        (
            "a wrong count",
            but(|o| o.specified_items = Some(2)),
            one(),
            Invalid,
            "SPECIFIED_ITEMS_MISMATCH",
            &["order.specified_items"],
        ),
        ("no items", mk_order("refused", &["IN"]), mk_accounts([]), Invalid, "BAD_FIELDS", &["items"]),
        (
            "too many items",
            mk_order("refused", &["IN"]),
            mk_accounts(1..=10_001),
            Invalid,
            "BATCH_TOO_LARGE",
            &["items"],
        ),
        (
            "a locator of a novel's length",
            mk_order("refused", &["IN"]),
            mk_items([("account_id", "7"), ("url", &"x".repeat(5_000))]),
            Invalid,
            "BAD_FIELDS",
            &["items[line 2]"],
        ),
        (
            "everything at once",
            everything_wrong,
            one(),
            Invalid,
            "BAD_FIELDS",
            &[
                "order.order_id",
                "order.instrument",
                "order.issuing_authority",
                "order.legal_basis",
                "order.territory.countries[1]",
                "order.territory.countries[2]",
                "order.territory.countries[3]",
                "order.confidentiality",
                "order.basis",
                "order.public_notice_url",
                "order.expires_at",
            ],
        ),
    ]
}

async fn revision(service: &Service) -> u64 {
    let answer = service.visibility().await.batch_check(mk_batch("IN", [7])).await.unwrap().into_inner();
    answer.freshness.unwrap().revision
}

/// What an error must be: named in full, nothing written, and no word of what is behind the service.
fn hold(what: &str, status: &Status, code: Code, reason: &str, fields: &[&str]) {
    let (found, said, named) = refusal(status);
    assert_eq!((found, said.as_str()), (code, reason), "{what}: {status}");
    assert_eq!(named, fields, "{what}: {status}");
    assert!(!status.message().is_empty(), "{what}");
    for backend in ["sqlite", "SQLITE", "rusqlite", "tokio", "panicked", "src/"] {
        assert!(!status.message().contains(backend), "{what}: {}", status.message());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn every_bad_order_is_refused_by_name_in_preview_and_apply_and_nothing_is_written() {
    let (_dir, journal) = mk_journal();
    let service = Service::start(&journal).await;
    let mut orders = service.orders().await;
    for (what, order, items, code, reason, fields) in table() {
        let items_previewed = Some(pb::preview_order_request::Items::ItemList(items.clone()));
        let preview = pb::PreviewOrderRequest { order: Some(order.clone()), items: items_previewed };
        hold(what, &orders.preview_order(preview).await.unwrap_err(), code, reason, fields);
        hold(what, &orders.apply_order(mk_apply(order, items)).await.unwrap_err(), code, reason, fields);
    }
    let nothing = orders.apply_order(pb::ApplyOrderRequest::default()).await.unwrap_err();
    hold("an empty request", &nothing, Code::InvalidArgument, "BAD_FIELDS", &["context.actor", "order"]);
    assert_eq!(revision(&service).await, CREATED);
}

#[tokio::test(flavor = "multi_thread")]
async fn every_bad_change_of_an_order_is_refused_by_name_and_nothing_is_written() {
    let (_dir, journal) = mk_journal();
    let service = Service::start(&journal).await;
    let mut orders = service.orders().await;
    let spec = mk_order("order", &["IN"]);
    orders
        .apply_order(mk_apply(spec.clone(), mk_items([("account_id", "7"), ("account_id", "8"), ("handle", "@x")])))
        .await
        .unwrap();
    let before = revision(&service).await;
    let id = |id: &str| id.to_owned();

    let other = pb::OrderSpec { issuing_authority: "Another court".to_owned(), ..spec.clone() };
    let taken = orders.apply_order(mk_apply(other, mk_accounts([7]))).await.unwrap_err();
    hold("other content under its id", &taken, Code::AlreadyExists, "ORDER_ID_TAKEN", &[]);

    let lift = |order_id: &str, reason: &str| pb::LiftOrderRequest {
        order_id: order_id.to_owned(),
        context: mk_context(reason, ""),
        validate_only: false,
    };
    let unknown = orders.lift_order(lift("no-such", "why")).await.unwrap_err();
    hold("an unknown order", &unknown, Code::NotFound, "ORDER_NOT_FOUND", &[]);
    let silent = orders.lift_order(lift("order", "")).await.unwrap_err();
    hold("no reason for a lift", &silent, Code::InvalidArgument, "BAD_FIELDS", &["context.reason"]);

    let resume = pb::ResumeOrderRequest { order_id: id("order"), context: mk_context("why", ""), validate_only: false };
    let running = orders.resume_order(resume).await.unwrap_err();
    hold("resuming what runs", &running, Code::FailedPrecondition, "WRONG_ORDER_STATE", &[]);

    let items = mk_items([("account_id", "7"), ("account_id", "99"), ("handle", "@x"), ("hashtag", "#x")]);
    let lift_items = pb::LiftItemsRequest {
        order_id: id("order"),
        items: Some(pb::lift_items_request::Items::ItemList(items)),
        context: mk_context("why", ""),
        validate_only: false,
    };
    let strangers = orders.lift_items(lift_items).await.unwrap_err();
    let lines = ["items[line 2]", "items[line 3]", "items[line 4]"];
    hold("items the order does not hold", &strangers, Code::InvalidArgument, "ITEMS_NOT_IN_ORDER", &lines);

    let outdated =
        pb::ApplyOrderRequest { preview_digest: vec![7; 32], ..mk_apply(mk_order("new", &["IN"]), mk_accounts([7])) };
    let outdated = orders.apply_order(outdated).await.unwrap_err();
    hold("another preview's digest", &outdated, Code::FailedPrecondition, "PREVIEW_OUTDATED", &[]);
    let short =
        pb::ApplyOrderRequest { preview_digest: vec![7; 5], ..mk_apply(mk_order("new", &["IN"]), mk_accounts([7])) };
    let short = orders.apply_order(short).await.unwrap_err();
    hold("no digest at all", &short, Code::InvalidArgument, "BAD_FIELDS", &["preview_digest"]);
    let nowhere = pb::ApplyOrderRequest {
        items: Some(pb::apply_order_request::Items::UploadId(id("no-such"))),
        ..mk_apply(mk_order("new", &["IN"]), mk_accounts([]))
    };
    let nowhere = orders.apply_order(nowhere).await.unwrap_err();
    hold("an unknown upload", &nowhere, Code::NotFound, "UPLOAD_NOT_FOUND", &[]);

    let letter =
        pb::RecordCorrespondenceRequest { order_id: id("order"), context: mk_context("", ""), correspondence: None };
    let letter = orders.record_correspondence(letter).await.unwrap_err();
    hold(
        "an empty letter",
        &letter,
        Code::InvalidArgument,
        "BAD_FIELDS",
        &["correspondence.kind", "correspondence.text"],
    );
    let get = orders.get_order(pb::GetOrderRequest { order_id: id("no-such"), consistency: None }).await.unwrap_err();
    hold("an unknown order", &get, Code::NotFound, "ORDER_NOT_FOUND", &[]);
    let explain = orders.explain_account(pb::ExplainAccountRequest {
        at: at(33_000_000_000),
        country_code: id("QQ"),
        ..Default::default()
    });
    let explain = explain.await.unwrap_err();
    hold("a question about nothing", &explain, Code::InvalidArgument, "BAD_FIELDS", &["subject", "country_code", "at"]);
    let page = pb::ListOrdersRequest { page_token: id("1.1.abc"), ..Default::default() };
    let page = orders.list_orders(page).await.unwrap_err();
    hold("a made-up page token", &page, Code::InvalidArgument, "BAD_PAGE_TOKEN", &["page_token"]);

    let empty = orders.upload_items(tokio_stream::empty()).await.unwrap_err();
    hold("an empty upload", &empty, Code::InvalidArgument, "BAD_FIELDS", &["items"]);

    let mut protections = service.protections().await;
    let account = |account_id, category| pb::ProtectedAccount { account_id, category, since: None };
    let accounts = vec![account(0, 1), account(7, 0), account(8, 99), account(9, 1), account(9, 1)];
    let protect = pb::ProtectAccountsRequest { accounts, context: mk_context("", "") };
    let protect = protections.protect_accounts(protect).await.unwrap_err();
    let named = ["accounts[0].account_id", "accounts[1].category", "accounts[2].category", "accounts[4].account_id"];
    hold("bad protections", &protect, Code::InvalidArgument, "BAD_FIELDS", &named);
    assert_eq!(revision(&service).await, before);
}

#[tokio::test(flavor = "multi_thread")]
async fn every_bad_query_is_refused_by_name() {
    let (_dir, journal) = mk_journal();
    let service = Service::start_with(&journal, &["--max-batch", "100"]).await;
    let mut visibility = service.visibility().await;
    let check = |account_id, post_id, country: &str| pb::CheckRequest {
        account_id,
        post_id,
        viewer_country: country.to_owned(),
        consistency: None,
    };
    for (what, request, fields) in [
        ("no account", check(0, None, "IN"), ["account_id"].as_slice()),
        ("no post", check(7, Some(0), "IN"), &["post_id"]),
        ("no such country", check(7, None, "QQ"), &["viewer_country"]),
        ("lower case", check(7, None, "in"), &["viewer_country"]),
        ("a name", check(7, None, "India"), &["viewer_country"]),
        ("a withdrawn code", check(7, None, "SU"), &["viewer_country"]),
        ("all of it", check(0, Some(0), "EU"), &["account_id", "post_id", "viewer_country"]),
    ] {
        hold(what, &visibility.check(request).await.unwrap_err(), Code::InvalidArgument, "BAD_FIELDS", fields);
    }
    let many = visibility.batch_check(mk_batch("IN", 1..=101)).await.unwrap_err();
    hold("too many", &many, Code::InvalidArgument, "BATCH_TOO_LARGE", &["accounts and posts"]);
    assert!(many.message().contains("101") && many.message().contains("100"), "{}", many.message());
    // An empty batch tells the limit.
    assert_eq!(visibility.batch_check(mk_batch("IN", [])).await.unwrap().into_inner().max_batch_size, 100);
    let zeros = visibility.batch_check(mk_batch("IN", [7, 0, 8, 0])).await.unwrap_err();
    hold("zeros", &zeros, Code::InvalidArgument, "BAD_FIELDS", &["account_ids[1]", "account_ids[3]"]);

    let future = pb::Consistency { at_least_revision: 9, ..Default::default() };
    let future = pb::CheckRequest { consistency: Some(future), ..check(7, None, "IN") };
    let mut hurried = tonic::Request::new(future);
    hurried.set_timeout(std::time::Duration::from_secs(1));
    let future = visibility.check(hurried).await.unwrap_err();
    hold("a revision that is not written", &future, Code::FailedPrecondition, "REVISION_NOT_WRITTEN", &[]);
    let negative = prost_types::Duration { seconds: -1, nanos: 0 };
    let negative = pb::Consistency { max_staleness: Some(negative), ..Default::default() };
    let negative = pb::CheckRequest { consistency: Some(negative), ..check(7, None, "IN") };
    let negative = visibility.check(negative).await.unwrap_err();
    hold("a negative age", &negative, Code::InvalidArgument, "BAD_FIELDS", &["consistency.max_staleness"]);
    let ahead = visibility
        .watch_withholdings(pb::WatchWithholdingsRequest { after_revision: 9, ..Default::default() })
        .await
        .unwrap_err();
    hold("a watch from the future", &ahead, Code::Unavailable, "REVISION_NOT_REACHED", &[]);
}

/// The details of an error travel in headers, which clients limit: ten thousand bad fields must not lose the error.
#[tokio::test(flavor = "multi_thread")]
async fn ten_thousand_mistakes_are_told_in_an_error_that_fits() {
    let (_dir, journal) = mk_journal();
    let service = Service::start(&journal).await;
    let error = service.visibility().await.batch_check(mk_batch("IN", vec![0; 10_000])).await.unwrap_err();
    let (code, reason, fields) = refusal(&error);
    assert_eq!((code, reason.as_str()), (Code::InvalidArgument, "BAD_FIELDS"));
    assert_eq!((fields[0].as_str(), fields.last().unwrap().as_str()), ("account_ids[0]", "…"));
    assert!(fields.len() > 20, "{fields:?}");

    let mut orders = service.orders().await;
    orders.apply_order(mk_apply(mk_order("order", &["IN"]), mk_accounts([7]))).await.unwrap();
    let request = pb::LiftItemsRequest {
        order_id: "order".to_owned(),
        items: Some(pb::lift_items_request::Items::ItemList(mk_accounts(100..10_100))),
        context: mk_context("why", ""),
        validate_only: false,
    };
    let (code, reason, fields) = refusal(&orders.lift_items(request).await.unwrap_err());
    assert_eq!((code, reason.as_str()), (Code::InvalidArgument, "ITEMS_NOT_IN_ORDER"));
    assert_eq!((fields[0].as_str(), fields.last().unwrap().as_str()), ("items[line 1]", "…"));
}
