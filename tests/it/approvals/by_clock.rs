//! What waits lapses by the clock, without an entry; and an order keeps its own times however long it has waited.

use jiff::Timestamp;
use tonic::Code;
use withheld::pb::v1 as pb;
use withheld::pb::v1::order_service_client::OrderServiceClient;
use withheld::pb::v1::visibility_service_client::VisibilityServiceClient;

use super::{reason, refused, worldwide};
use crate::harness::{approve, look, mk_accounts, mk_apply, mk_context, mk_order};
use crate::time::{Clocked, secs, stamp};

const NOW: &str = "2021-02-01T08:00:00Z";
const DAY: i64 = 24 * 3_600;

async fn apply(
    orders: &mut OrderServiceClient<tonic::transport::Channel>,
    request: pb::ApplyOrderRequest,
) -> pb::Order {
    loop {
        // Until the empty journal has been folded the desk is not open.
        match orders.apply_order(request.clone()).await {
            Ok(answer) => return answer.into_inner().order.unwrap(),
            Err(status) => assert_eq!(status.code(), Code::Unavailable, "{status}"),
        }
    }
}

async fn state(orders: &mut OrderServiceClient<tonic::transport::Channel>, id: &str) -> pb::OrderState {
    let request = pb::GetOrderRequest { order_id: id.to_owned(), consistency: None };
    orders.get_order(request).await.unwrap().into_inner().order.unwrap().state()
}

#[tokio::test(flavor = "multi_thread")]
async fn what_nobody_approves_in_time_lapses_to_the_microsecond() {
    let now: Timestamp = NOW.parse().unwrap();
    let service = Clocked::start(now, &["--journal", "memory:"]).await;
    let mut orders = OrderServiceClient::connect(service.admin.clone()).await.unwrap();
    // One lapses by the policy, after a day; the other ends by itself before that.
    let waits = apply(&mut orders, mk_apply(worldwide("day"), mk_accounts([1]))).await;
    assert_eq!(waits.approval.unwrap().expires_at, stamp(now + secs(DAY)));
    let hour = pb::OrderSpec { expires_at: stamp(now + secs(3_600)), ..worldwide("hour") };
    let waits = apply(&mut orders, mk_apply(hour, mk_accounts([2]))).await;
    assert_eq!(waits.approval.unwrap().expires_at, stamp(now + secs(3_600)));
    let instant = jiff::SignedDuration::from_micros(1);
    for (id, end) in [("hour", now + secs(3_600)), ("day", now + secs(DAY))] {
        service.hand.set(end - instant);
        assert_eq!(state(&mut orders, id).await, pb::OrderState::PendingApproval);
        let digest = look(&mut orders, id).await.unwrap().digest;
        service.hand.set(end);
        assert_eq!(state(&mut orders, id).await, pb::OrderState::ExpiredUnapproved);
        let request = pb::ApproveOrderRequest {
            order_id: id.to_owned(),
            context: crate::harness::mk_second(""),
            digest,
            validate_only: false,
        };
        let late = orders.approve_order(request).await.unwrap_err();
        assert_eq!(refused(&late), reason(Code::FailedPrecondition, "NOTHING_PENDING"));
        assert!(late.message().contains("is expired unapproved"), "{}", late.message());
        let anew = orders.apply_order(mk_apply(worldwide(id), mk_accounts([1]))).await.unwrap_err();
        assert_eq!(refused(&anew), reason(Code::AlreadyExists, "ORDER_ID_TAKEN"));
    }
    let order = pb::GetOrderRequest { order_id: "day".to_owned(), consistency: None };
    let order = orders.get_order(order).await.unwrap().into_inner().order.unwrap();
    assert_eq!((order.ended_at, order.history.len()), (stamp(now + secs(DAY)), 1), "and no entry says so");
    assert_eq!(order.approval.unwrap().state(), pb::ApprovalState::Expired);
    assert_eq!(order.dispositions[0].cause, "expired_unapproved");
    service.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_order_starts_at_its_time_or_when_it_is_approved_whichever_is_later() {
    let now: Timestamp = NOW.parse().unwrap();
    let (start, end) = (now + secs(3_600), now + secs(3 * 3_600));
    let service = Clocked::start(now, &["--journal", "memory:"]).await;
    let mut orders = OrderServiceClient::connect(service.admin.clone()).await.unwrap();
    let mut visibility = VisibilityServiceClient::connect(service.queries.clone()).await.unwrap();
    let timed = |id: &str| pb::OrderSpec { effective_from: stamp(start), expires_at: stamp(end), ..worldwide(id) };
    apply(&mut orders, mk_apply(timed("early"), mk_accounts([1]))).await;
    apply(&mut orders, mk_apply(timed("late"), mk_accounts([2]))).await;
    let watch = pb::WatchWithholdingsRequest { after_revision: 0, ..Default::default() };
    let mut watch = visibility.watch_withholdings(watch).await.unwrap().into_inner();

    let approved = approve(&mut orders, "early").await.unwrap();
    assert_eq!(approved.effect.unwrap().accounts_changed, 0, "nothing yet");
    assert_eq!(approved.order.unwrap().state(), pb::OrderState::Scheduled);
    // A watcher is told of neither before it changes a list: not even that there is something.
    service.hand.set(start);
    assert_eq!(next_changes(&mut watch).await, [(1, "XX".to_owned())]);
    assert_eq!(state(&mut orders, "late").await, pb::OrderState::PendingApproval);
    service.hand.set(start + secs(60));
    approve(&mut orders, "late").await.unwrap();
    assert_eq!(next_changes(&mut watch).await, [(2, "XX".to_owned())]);
    for (id, began) in [("early", start), ("late", start + secs(60))] {
        let get = pb::GetOrderRequest { order_id: id.to_owned(), consistency: None };
        let order = orders.get_order(get).await.unwrap().into_inner().order.unwrap();
        assert_eq!(order.effect_given_at, stamp(began), "{id}");
    }
    service.hand.set(end);
    assert_eq!(next_changes(&mut watch).await, [(1, String::new()), (2, String::new())]);
    assert_eq!(state(&mut orders, "late").await, pb::OrderState::Expired);
    drop(watch);
    service.stop().await;
}

/// All that the next message with changes in it tells: accounts, and where they are withheld.
async fn next_changes(watch: &mut tonic::Streaming<pb::WatchWithholdingsResponse>) -> Vec<(u64, String)> {
    let told = |change: pb::WithheldCountries| match change.subject {
        Some(pb::withheld_countries::Subject::AccountId(id)) => (id, change.country_codes.join(" ")),
        other => panic!("{other:?}"),
    };
    let changes = async {
        loop {
            let message = watch.message().await.unwrap().unwrap();
            if !message.changes.is_empty() {
                return message.changes.into_iter().map(told).collect();
            }
        }
    };
    tokio::time::timeout(std::time::Duration::from_secs(30), changes).await.expect("no change was told")
}

#[tokio::test(flavor = "multi_thread")]
async fn the_staged_list_of_what_waits_is_kept_when_old_ones_are_thrown_away() {
    let now: Timestamp = NOW.parse().unwrap();
    let service = Clocked::start(now, &["--journal", "memory:", "--keep-uploads", "1h"]).await;
    let mut orders = OrderServiceClient::connect(service.admin.clone()).await.unwrap();
    let mut upload = async |first: u64| {
        loop {
            let items = mk_accounts(first..first + 50).items;
            let chunk = pb::UploadItemsRequest { context: mk_context("", ""), items };
            match orders.upload_items(tokio_stream::once(chunk)).await {
                Ok(answer) => return answer.into_inner().upload_id,
                Err(status) => assert_eq!(status.code(), Code::Unavailable, "{status}"),
            }
        }
    };
    let (used, unused) = (upload(1).await, upload(101).await);
    let request = |order: pb::OrderSpec, upload: &str| pb::ApplyOrderRequest {
        items: Some(pb::apply_order_request::Items::UploadId(upload.to_owned())),
        ..mk_apply(order, pb::ItemList::default())
    };
    let proposal = request(worldwide("order"), &used);
    assert_eq!(apply(&mut orders, proposal.clone()).await.items, 50);
    service.hand.set(now + secs(3_700));
    let gone = async {
        while orders
            .preview_order(pb::PreviewOrderRequest {
                order: Some(mk_order("unused", &["IN"])),
                items: Some(pb::preview_order_request::Items::UploadId(unused.clone())),
            })
            .await
            .is_ok()
        {}
    };
    tokio::time::timeout(std::time::Duration::from_secs(30), gone).await.expect("the unused list is kept for ever");
    // Sent again with the list it has taken, it is still known.
    assert!(orders.apply_order(proposal).await.unwrap().into_inner().already_applied);
    let approved = approve(&mut orders, "order").await.unwrap();
    assert_eq!(approved.effect.unwrap().accounts_changed, 50);
    service.stop().await;
}
