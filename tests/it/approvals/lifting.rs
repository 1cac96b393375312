//! Where policy asks for it, lifting takes two as well: what is withheld stays so until then.

use tonic::Code;
use withheld::pb::v1 as pb;

use super::{reason, refused, show, withheld};
use crate::harness::{Service, approve, look, mk_accounts, mk_apply, mk_context, mk_journal, mk_order, mk_second};
use crate::scrape::Scrape;

const POLICY: &str = "expires_after = '24h'\n[applying]\nworldwide = false\n[lifting]\norders = true\nitems = true\n";

fn mk_lift(validate_only: bool) -> pb::LiftOrderRequest {
    pb::LiftOrderRequest { order_id: "order".to_owned(), context: mk_context("withdrawn", ""), validate_only }
}

fn mk_lift_items(accounts: &[u64]) -> pb::LiftItemsRequest {
    pb::LiftItemsRequest {
        order_id: "order".to_owned(),
        items: Some(pb::lift_items_request::Items::ItemList(mk_accounts(accounts.iter().copied()))),
        context: mk_context("wrong people", ""),
        validate_only: false,
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn lifting_waits_for_a_second_person_and_until_then_all_stays_withheld() {
    let (dir, journal) = mk_journal();
    let policy = dir.path().join("policy.toml");
    std::fs::write(&policy, POLICY).unwrap();
    let flags = ["--policy", policy.to_str().unwrap()];
    let service = Service::start_with(&journal, &flags).await;
    let mut orders = service.orders().await;
    orders.apply_order(mk_apply(mk_order("order", &["IN"]), mk_accounts([1, 2, 3]))).await.unwrap();

    // Items first.
    let proposed = orders.lift_items(mk_lift_items(&[1, 3])).await.unwrap().into_inner();
    assert_eq!(
        (proposed.pending_approval, proposed.items_lifted, proposed.effect.unwrap().accounts_changed),
        (true, 2, 2)
    );
    let order = proposed.order.unwrap();
    assert_eq!((order.state(), order.approval.unwrap().proposed()), (pb::OrderState::InForce, pb::Proposed::LiftItems));
    assert_eq!(withheld(&service, "IN", 1..=3).await, [1, 2, 3]);
    assert_eq!(Scrape::of(&service).await.count("withheld_approvals_pending"), 1);
    // One thing at a time waits.
    for refusal in [
        orders.lift_order(mk_lift(false)).await.unwrap_err(),
        orders.lift_items(mk_lift_items(&[2])).await.unwrap_err(),
    ] {
        assert_eq!(refused(&refusal), reason(Code::FailedPrecondition, "APPROVAL_PENDING"));
    }
    // A stay meanwhile changes what approving would do.
    let seen = look(&mut orders, "order").await.unwrap();
    let (order_id, context) = ("order".to_owned(), mk_context("the court says wait", ""));
    orders.stay_order(pb::StayOrderRequest { order_id, context, validate_only: false }).await.unwrap();
    let (order_id, context, digest) = ("order".to_owned(), mk_second(""), seen.digest.clone());
    let request = pb::ApproveOrderRequest { order_id, context, digest, validate_only: false };
    let outdated = orders.approve_order(request.clone()).await.unwrap_err();
    assert_eq!(refused(&outdated), reason(Code::FailedPrecondition, "PREVIEW_OUTDATED"));
    let says = "0 accounts and 0 posts would be visible again, not 2 accounts and 0 posts as proposed";
    assert!(outdated.message().contains(says), "{}", outdated.message());
    let (order_id, context) = ("order".to_owned(), mk_context("it has said", ""));
    orders.resume_order(pb::ResumeOrderRequest { order_id, context, validate_only: false }).await.unwrap();
    // It waits through a crash, too.
    service.kill();
    let service = Service::start_with(&journal, &flags).await;
    let mut orders = service.orders().await;
    let own = pb::ApproveOrderRequest { context: mk_context("", ""), ..request.clone() };
    assert_eq!(refused(&orders.approve_order(own).await.unwrap_err()).1, "OWN_PROPOSAL");
    orders.approve_order(request).await.unwrap();
    assert_eq!(withheld(&service, "IN", 1..=3).await, [2]);

    // Then the whole order: rejected once, approved the second time.
    let would = orders.lift_order(mk_lift(true)).await.unwrap().into_inner();
    assert_eq!((would.pending_approval, would.revision, would.effect.unwrap().accounts_changed), (true, 0, 1));
    assert!(orders.lift_order(mk_lift(false)).await.unwrap().into_inner().pending_approval);
    orders.reject_order(super::mk_reject("order", mk_second("not yet"))).await.unwrap();
    assert_eq!(show(&service, "order").await.state(), pb::OrderState::InForce, "only its lifting was rejected");
    orders.lift_order(mk_lift(false)).await.unwrap();
    let watch = pb::WatchWithholdingsRequest {
        after_revision: show(&service, "order").await.last_revision,
        ..Default::default()
    };
    let mut watch = service.visibility().await.watch_withholdings(watch).await.unwrap().into_inner();
    let approved = approve(&mut orders, "order").await.unwrap();
    assert_eq!(approved.order.unwrap().state(), pb::OrderState::Lifted);
    assert_eq!(withheld(&service, "IN", 1..=3).await, [0; 0]);
    let change = crate::time::next_change(&mut watch).await;
    assert_eq!(change.country_codes, [""; 0]);

    let order = show(&service, "order").await;
    let history: Vec<_> = order.history.iter().map(|event| (event.kind.as_str(), event.actor.as_str())).collect();
    let (desk, second) = ("desk@example.org", "second@example.org");
    assert_eq!(
        history,
        [
            ("applied", desk),
            ("items_lift_proposed", desk),
            ("stayed", desk),
            ("resumed", desk),
            ("items_lift_approved", second),
            ("lift_proposed", desk),
            ("rejected", second),
            ("lift_proposed", desk),
            ("lift_approved", second),
        ]
    );
    assert_eq!(order.ended_at, order.history[8].at);
    // What was dark and until when is in the record of each item.
    let items = pb::ListOrderItemsRequest { order_id: "order".to_owned(), ..Default::default() };
    let items = orders.list_order_items(items).await.unwrap().into_inner().items;
    let lifted: Vec<_> = items.iter().map(|item| item.lifted_at).collect();
    assert_eq!(lifted, [order.history[4].at, order.history[8].at, order.history[4].at]);
    let explain = pb::ExplainAccountRequest {
        subject: Some(pb::Subject { subject: Some(pb::subject::Subject::AccountId(2)) }),
        ..Default::default()
    };
    let told = orders.explain_account(explain).await.unwrap().into_inner();
    assert_eq!(told.orders[0].intervals.last().unwrap().until, order.history[8].at);
}
