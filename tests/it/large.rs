//! Large orders: staged, previewed and applied while reads go on, and seen whole or not at all.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use withheld::pb::v1 as pb;

use crate::harness::{ONE_PERSON, Service, approve, mk_accounts, mk_apply, mk_batch, mk_context, mk_journal, mk_order};

const MILLION: u64 = 1_000_000;
const PART: u64 = 10_000;

/// Accounts spread over the whole order, three of four; every fourth is not in it.
fn probes() -> Vec<u64> {
    (0..2_000).map(|n| 1 + n * (MILLION / 1_500)).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_million_accounts_go_dark_at_one_revision_while_reads_are_answered() {
    let (_dir, journal) = mk_journal();
    let service = Service::start(&journal).await;
    let named = probes().iter().filter(|id| **id <= MILLION).count();

    // The reader asks without a pause from before the upload until after the order is in force.
    let (stop, answered) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
    let reading = {
        let (mut visibility, stop, answered) = (service.visibility().await, Arc::clone(&stop), Arc::clone(&answered));
        tokio::spawn(async move {
            let mut seen = BTreeMap::new();
            while !stop.load(Ordering::Relaxed) {
                let answer = visibility.batch_check(mk_batch("IN", probes())).await.unwrap().into_inner();
                let revision = answer.freshness.unwrap().revision;
                let withheld = answer.accounts.len();
                assert_eq!(*seen.entry(revision).or_insert(withheld), withheld, "two verdicts at revision {revision}");
                answered.fetch_add(1, Ordering::Relaxed);
            }
            seen
        })
    };

    let mut orders = service.orders().await;
    let chunks = (0..MILLION / PART).map(|chunk| pb::UploadItemsRequest {
        context: mk_context("", ""),
        items: mk_accounts((1 + chunk * PART..).take(PART as usize)).items,
    });
    let upload = orders.upload_items(tokio_stream::iter(chunks)).await.unwrap().into_inner();
    assert_eq!((upload.items, upload.unresolved), (MILLION, vec![]));
    let spec = pb::OrderSpec { specified_items: Some(MILLION), ..mk_order("million", &["IN"]) };
    let preview = pb::PreviewOrderRequest {
        order: Some(spec.clone()),
        items: Some(pb::preview_order_request::Items::UploadId(upload.upload_id.clone())),
    };
    let preview = orders.preview_order(preview).await.unwrap().into_inner();
    assert_eq!(preview.effect.unwrap().accounts_changed, MILLION);
    let before = answered.load(Ordering::Relaxed);
    let apply = pb::ApplyOrderRequest {
        order: Some(spec),
        items: Some(pb::apply_order_request::Items::UploadId(upload.upload_id)),
        context: mk_context("", ""),
        preview_digest: preview.digest,
    };
    // So many take two: what waits is seen by nobody, and its items are the order's own.
    let proposed = orders.apply_order(apply).await.unwrap().into_inner().order.unwrap();
    assert_eq!((proposed.state(), proposed.items), (pb::OrderState::PendingApproval, MILLION));
    let applied = approve(&mut orders, "million").await.unwrap();
    assert_eq!(applied.effect.unwrap().accounts_changed, MILLION);
    let during = answered.load(Ordering::Relaxed) - before;
    assert!(during > 0, "no read was answered while the order was applied");

    // One more answer that includes the order, then the reader has seen all there is to see.
    let consistency = Some(pb::Consistency { at_least_revision: applied.revision, ..Default::default() });
    let after = pb::BatchCheckRequest { consistency, ..mk_batch("IN", probes()) };
    let after = service.visibility().await.batch_check(after).await.unwrap().into_inner();
    assert_eq!(after.accounts.len(), named);
    stop.store(true, Ordering::Relaxed);
    for (revision, withheld) in reading.await.unwrap() {
        let whole = if revision < applied.revision { 0 } else { named };
        assert_eq!(withheld, whole, "part of the order is seen at revision {revision}");
    }

    // And it is all there after a crash.
    service.kill();
    let service = Service::start(&journal).await;
    for chunk in [0, 37, 99] {
        let request = mk_batch("IN", (1 + chunk * PART..).take(PART as usize));
        let answer = service.visibility().await.batch_check(request).await.unwrap().into_inner();
        assert_eq!(answer.accounts.len() as u64, PART);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_batch_never_sees_a_part_of_an_order() {
    let (_dir, journal) = mk_journal();
    let service = Service::start_with(&journal, &[["--query-threads", "2"], ONE_PERSON].concat()).await;
    // Orders over the same accounts come and go; between two revisions either all of them are dark or none.
    let (first, last) = (1_u64, 3_000_u64);
    let stop = Arc::new(AtomicBool::new(false));
    let mut readers = Vec::new();
    for _ in 0..2 {
        let (mut visibility, stop) = (service.visibility().await, Arc::clone(&stop));
        readers.push(tokio::spawn(async move {
            let (mut dark, mut visible) = (0, 0);
            while !stop.load(Ordering::Relaxed) {
                let answer = visibility.batch_check(mk_batch("DE", first..=last)).await.unwrap().into_inner();
                match answer.accounts.len() as u64 {
                    0 => visible += 1,
                    all if all == last => dark += 1,
                    part => panic!("{part} of {last} accounts at revision {}", answer.freshness.unwrap().revision),
                }
            }
            (dark, visible)
        }));
    }
    let mut orders = service.orders().await;
    for n in 0..60 {
        let order_id = format!("order-{n}");
        orders.apply_order(mk_apply(mk_order(&order_id, &["DE"]), mk_accounts(first..=last))).await.unwrap();
        let context = mk_context("over", "");
        orders.lift_order(pb::LiftOrderRequest { order_id, context, validate_only: false }).await.unwrap();
    }
    stop.store(true, Ordering::Relaxed);
    let (mut dark, mut visible) = (0, 0);
    for reader in readers {
        let seen = reader.await.unwrap();
        (dark, visible) = (dark + seen.0, visible + seen.1);
    }
    assert!(dark > 0 && visible > 0, "the readers saw {dark} dark and {visible} visible answers: too few to tell");
}
