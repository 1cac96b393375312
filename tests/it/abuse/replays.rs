//! Approvals that somebody has recorded, sent once more when what they approved is not so any more.

use tonic::Code;
use withheld::pb::v1 as pb;

use super::Scene;
use crate::harness::{look, mk_accounts, mk_apply, mk_context, mk_second, mk_worldwide, refusal};
use crate::scrape::Scrape;

#[tokio::test(flavor = "multi_thread")]
async fn a_recorded_approval_does_what_it_did_once_and_nothing_after() {
    let scene = Scene::set(&[]).await;
    let revision = async || Scrape::of(&scene.service).await.count("withheld_revision");
    let mut orders = scene.service.orders().await;
    // Worldwide takes two. Two proposals: one is approved, the other overtaken.
    for (id, account) in [("approved", 18), ("overtaken", 19)] {
        orders.apply_order(mk_apply(mk_worldwide(id), mk_accounts([account]))).await.unwrap();
    }
    let mut recorded = Vec::new();
    for id in ["approved", "overtaken"] {
        let digest = look(&mut orders, id).await.unwrap().digest;
        let context = mk_second("as it should be");
        let context = context.map(|context| pb::CommandContext { request_id: format!("approve-{id}"), ..context });
        recorded.push(pb::ApproveOrderRequest { order_id: id.to_owned(), context, digest, validate_only: false });
    }
    let [approved, overtaken] = <[_; 2]>::try_from(recorded).unwrap();
    let first = orders.approve_order(approved.clone()).await.unwrap().into_inner();
    let after = revision().await;
    for _ in 0..20 {
        // On a connection of its own, as whoever has recorded it would.
        let again = scene.service.orders().await.approve_order(approved.clone()).await.unwrap().into_inner();
        assert_eq!(again.revision, first.revision, "as the first time");
    }
    assert_eq!(revision().await, after);

    // What the second person saw is not so any more.
    let protect = pb::ProtectAccountsRequest {
        accounts: vec![pb::ProtectedAccount {
            account_id: 19,
            category: pb::ProtectionCategory::Journalist.into(),
            ..Default::default()
        }],
        context: mk_context("a journalist", ""),
    };
    scene.service.protections().await.protect_accounts(protect).await.unwrap();
    let lift = pb::LiftOrderRequest {
        order_id: "approved".to_owned(),
        context: mk_context("as appealed", ""),
        ..Default::default()
    };
    orders.lift_order(lift).await.unwrap();
    let after = revision().await;
    for _ in 0..20 {
        let status = scene.service.orders().await.approve_order(overtaken.clone()).await.unwrap_err();
        let (code, reason, _) = refusal(&status);
        assert_eq!((code, reason.as_str()), (Code::FailedPrecondition, "PREVIEW_OUTDATED"), "{status}");
        // The one that was approved, and is lifted: it is answered as the first time, and stays lifted.
        let again = scene.service.orders().await.approve_order(approved.clone()).await.unwrap().into_inner();
        assert_eq!(again.revision, first.revision);
    }
    assert_eq!(revision().await, after);
    for account_id in [18, 19] {
        let request = pb::CheckRequest { account_id, viewer_country: "US".to_owned(), ..Default::default() };
        let answer = scene.service.visibility().await.check(request).await.unwrap().into_inner();
        assert!(!answer.withheld, "account {account_id}");
    }
    drop(orders);
    scene.over("60 approvals sent again", "answered as the first time or PREVIEW_OUTDATED, no entry more").await;
}
