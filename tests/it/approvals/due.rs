//! What has to be done by when, as the desk is told and as metrics count it.

use std::collections::BTreeMap;

use jiff::{SignedDuration, Timestamp};
use withheld::pb::v1 as pb;

use super::{propose, worldwide};
use crate::harness::{Service, approve, mk_accounts, mk_apply, mk_context, mk_journal, mk_order};
use crate::scrape::Scrape;
use crate::time::stamp;

const fn hours(hours: i64) -> SignedDuration {
    SignedDuration::from_hours(hours)
}

async fn due(service: &Service, within: Option<SignedDuration>, page_size: u32) -> Vec<(String, String, bool)> {
    let within = within.map(|span| prost_types::Duration { seconds: span.as_secs(), nanos: 0 });
    let (mut found, mut page_token) = (Vec::new(), String::new());
    loop {
        let request = pb::ListDueOrdersRequest { within, page_size, page_token, consistency: None };
        let page = service.orders().await.list_due_orders(request).await.unwrap().into_inner();
        let times: Vec<_> = page.due.iter().map(|due| due.at.unwrap()).map(|at| (at.seconds, at.nanos)).collect();
        assert!(times.is_sorted());
        found.extend(page.due.into_iter().map(|due| {
            let deadline = due.deadline().as_str_name().trim_start_matches("DEADLINE_").to_lowercase();
            (due.order.unwrap().spec.unwrap().order_id, deadline, due.overdue)
        }));
        page_token = page.next_page_token;
        if page_token.is_empty() {
            return found;
        }
    }
}

async fn overdue(service: &Service) -> BTreeMap<&'static str, u64> {
    let scrape = Scrape::of(service).await;
    let count = |deadline| (deadline, scrape.count(&format!("withheld_orders_overdue{{deadline=\"{deadline}\"}}")));
    ["comply_by", "review_due_at"].map(count).into()
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_due_is_listed_earliest_first_until_it_is_done() {
    let (_dir, journal) = mk_journal();
    let service = Service::start(&journal).await;
    let mut orders = service.orders().await;
    let now = Timestamp::now();
    let by = |spec: pb::OrderSpec, comply: i64| pb::OrderSpec { comply_by: stamp(now + hours(comply)), ..spec };
    let mut apply = async |spec: pb::OrderSpec, items: pb::ItemList| {
        drop(orders.apply_order(mk_apply(spec, items)).await.unwrap());
    };
    // Given effect late is given effect; and an order that starts in time needs nobody.
    apply(by(mk_order("late", &["IN"]), -5), mk_accounts([1])).await;
    let starts = |spec: pb::OrderSpec, from: i64| pb::OrderSpec { effective_from: stamp(now + hours(from)), ..spec };
    apply(starts(by(mk_order("in-time", &["IN"]), 20), 10), mk_accounts([1])).await;
    apply(starts(by(mk_order("too-late", &["IN"]), 10), 20), mk_accounts([1])).await;
    apply(starts(by(mk_order("overdue", &["IN"]), -3), 20), mk_accounts([1])).await;
    // All of it is declined: that was the answer.
    let mut declined = mk_accounts([1]);
    declined.items[0].decline_reason = "satire".to_owned();
    apply(starts(by(mk_order("declined", &["IN"]), -4), 20), declined).await;
    let review = |id, at: i64| pb::OrderSpec { review_due_at: stamp(now + hours(at)), ..mk_order(id, &["IN"]) };
    apply(review("reviewed-late", -2), mk_accounts([1])).await;
    apply(review("review-soon", 30), mk_accounts([1])).await;
    apply(pb::OrderSpec { expires_at: stamp(now + hours(40)), ..mk_order("ends", &["IN"]) }, mk_accounts([1])).await;
    apply(pb::OrderSpec { expires_at: stamp(now + hours(400)), ..mk_order("ends-later", &["IN"]) }, mk_accounts([1]))
        .await;
    propose(&service, by(worldwide("waits"), -1), mk_accounts([1])).await;

    let entry = |id: &str, deadline: &str, overdue| (id.to_owned(), deadline.to_owned(), overdue);
    let all = [
        entry("overdue", "comply_by", true),
        entry("reviewed-late", "review_due_at", true),
        entry("waits", "comply_by", true),
        entry("too-late", "comply_by", false),
        entry("waits", "approval_expires_at", false),
        entry("review-soon", "review_due_at", false),
        entry("ends", "expires_at", false),
    ];
    assert_eq!(due(&service, None, 0).await, all);
    assert_eq!(due(&service, Some(hours(0)), 0).await, all[..3]);
    assert_eq!(due(&service, Some(hours(25)), 2).await, all[..5], "page by page");
    assert_eq!(due(&service, Some(hours(500)), 0).await.len(), 8);
    assert_eq!(overdue(&service).await, BTreeMap::from([("comply_by", 2), ("review_due_at", 1)]));
    let told = service.cli_json(&["order", "due", "--within", "25h"]);
    assert_eq!(told["due"].as_array().unwrap().len(), 5);
    assert_eq!((&told["due"][0]["order"]["order_id"], &told["due"][0]["overdue"]), (&"overdue".into(), &true.into()));
    let table = String::from_utf8(service.cli(&["order", "due"]).stdout).unwrap();
    assert!(table.contains("7 deadlines, 3 overdue") && table.contains("hold its review"), "{table}");

    // The review is held, the proposal approved, the order that is too late is stayed: nothing is overdue any more.
    let letter = pb::Correspondence {
        kind: pb::CorrespondenceKind::ReviewHeld.into(),
        text: "the committee confirmed it".to_owned(),
        ..Default::default()
    };
    let (order_id, context) = ("reviewed-late".to_owned(), mk_context("", ""));
    let note = pb::RecordCorrespondenceRequest { order_id, correspondence: Some(letter), context };
    orders.record_correspondence(note).await.unwrap();
    approve(&mut orders, "waits").await.unwrap();
    let (order_id, context) = ("overdue".to_owned(), mk_context("the court says wait", ""));
    orders.stay_order(pb::StayOrderRequest { order_id, context, validate_only: false }).await.unwrap();
    assert_eq!(due(&service, Some(hours(0)), 0).await, []);
    assert_eq!(overdue(&service).await, BTreeMap::from([("comply_by", 0), ("review_due_at", 0)]));
}
