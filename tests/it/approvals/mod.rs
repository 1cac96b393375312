//! Two people: what takes two waits, withholding nothing, until a second person approves exactly what they saw.

mod by_clock;
mod due;
mod lifting;
mod overrides;
mod replicas;

use tonic::{Code, Status};
use tonic_types::StatusExt as _;
use withheld::pb::v1 as pb;

use crate::harness::{
    Service, approve, look, mk_accounts, mk_apply, mk_batch, mk_context, mk_journal, mk_order, mk_second, nth, refusal,
};
use crate::scrape::Scrape;

fn worldwide(id: &str) -> pb::OrderSpec {
    let territory = Some(pb::Territory { territory: Some(pb::territory::Territory::Worldwide(true)) });
    pb::OrderSpec { territory, ..mk_order(id, &[]) }
}

async fn withheld(service: &Service, country: &str, accounts: std::ops::RangeInclusive<u64>) -> Vec<u64> {
    let first = *accounts.start();
    let answer = service.visibility().await.batch_check(mk_batch(country, accounts)).await.unwrap().into_inner();
    answer.accounts.iter().map(|entry| first + u64::from(entry.index)).collect()
}

async fn propose(service: &Service, order: pb::OrderSpec, items: pb::ItemList) -> pb::Order {
    let done = service.orders().await.apply_order(mk_apply(order, items)).await.unwrap().into_inner();
    let order = done.order.unwrap();
    assert_eq!((order.state(), done.already_applied), (pb::OrderState::PendingApproval, false));
    assert_eq!(order.approval.as_ref().unwrap().proposed_revision, done.revision);
    order
}

async fn show(service: &Service, order_id: &str) -> pb::Order {
    let request = pb::GetOrderRequest { order_id: order_id.to_owned(), consistency: None };
    service.orders().await.get_order(request).await.unwrap().into_inner().order.unwrap()
}

fn mk_reject(order_id: &str, context: Option<pb::CommandContext>) -> pb::RejectOrderRequest {
    pb::RejectOrderRequest { order_id: order_id.to_owned(), context }
}

/// Code and reason of a refusal, and that nothing was written.
fn refused(status: &Status) -> (Code, String) {
    let (code, reason, _) = refusal(status);
    assert_eq!(status.get_error_details().error_info().unwrap().metadata["written"], "no");
    (code, reason)
}

fn reason(code: Code, reason: &str) -> (Code, String) {
    (code, reason.to_owned())
}

#[tokio::test(flavor = "multi_thread")]
async fn what_takes_two_withholds_nothing_until_somebody_else_approves_it() {
    let (_dir, journal) = mk_journal();
    let service = Service::start(&journal).await;
    let mut orders = service.orders().await;
    let ask = pb::PreviewOrderRequest {
        order: Some(worldwide("order")),
        items: Some(pb::preview_order_request::Items::ItemList(mk_accounts([1, 2]))),
    };
    let preview = orders.preview_order(ask).await.unwrap().into_inner();
    assert_eq!(preview.approval_grounds, ["worldwide"]);
    let apply = pb::ApplyOrderRequest {
        preview_digest: preview.digest.clone(),
        ..mk_apply(worldwide("order"), mk_accounts([1, 2]))
    };
    let proposed = orders.apply_order(apply.clone()).await.unwrap().into_inner();
    let again = orders.apply_order(apply).await.unwrap().into_inner();
    assert_eq!((again.already_applied, again.revision, &again.order), (true, proposed.revision, &proposed.order));
    let other = orders.apply_order(mk_apply(worldwide("order"), mk_accounts([1]))).await.unwrap_err();
    assert_eq!(refused(&other), reason(Code::AlreadyExists, "ORDER_ID_TAKEN"));

    // It is told everywhere as what it is, and nowhere as something that withholds.
    let order = proposed.order.unwrap();
    assert_eq!((order.state(), order.applied_at, order.effect_given_at), (pb::OrderState::PendingApproval, None, None));
    let list = pb::ListOrdersRequest { states: vec![pb::OrderState::PendingApproval.into()], ..Default::default() };
    let listed = orders.list_orders(list).await.unwrap().into_inner().orders;
    assert_eq!(listed, std::slice::from_ref(&order));
    assert_eq!(withheld(&service, "US", 1..=2).await, [0; 0]);
    let explain = pb::ExplainAccountRequest {
        subject: Some(pb::Subject { subject: Some(pb::subject::Subject::AccountId(1)) }),
        country_code: "US".to_owned(),
        ..Default::default()
    };
    let told = orders.explain_account(explain.clone()).await.unwrap().into_inner();
    assert_eq!((told.withheld, told.country_codes.len(), told.orders[0].intervals.len()), (Some(false), 0, 0));
    assert!(!told.orders[0].withheld_then && told.orders[0].order.as_ref() == Some(&order));
    let scrape = Scrape::of(&service).await;
    for (series, value) in [
        ("withheld_orders{state=\"pending_approval\"}", 1),
        ("withheld_orders{state=\"in_force\"}", 0),
        ("withheld_approvals_pending", 1),
        ("withheld_subjects{kind=\"account\"}", 0),
    ] {
        assert_eq!(scrape.count(series), value, "{series}");
    }
    assert!(scrape.value("withheld_approval_oldest_seconds") < 120.0);

    // Nobody approves their own, however they write themselves.
    for actor in ["desk@example.org", " DESK@example.org", "Desk@Example.ORG "] {
        let context = Some(pb::CommandContext { actor: actor.to_owned(), ..Default::default() });
        for (validate_only, digest) in [(true, Vec::new()), (false, preview.digest.clone())] {
            let order_id = "order".to_owned();
            let own = pb::ApproveOrderRequest { order_id, context: context.clone(), digest, validate_only };
            let own = orders.approve_order(own).await.unwrap_err();
            assert_eq!(refused(&own), reason(Code::PermissionDenied, "OWN_PROPOSAL"), "{actor}");
        }
    }
    // Nor does anybody approve what they have not seen.
    let unseen = pb::ApproveOrderRequest { order_id: "order".to_owned(), context: mk_second(""), ..Default::default() };
    let unseen = orders.approve_order(unseen).await.unwrap_err();
    assert_eq!(refusal(&unseen), (Code::InvalidArgument, "BAD_FIELDS".to_owned(), vec!["digest".to_owned()]));
    assert_eq!(withheld(&service, "US", 1..=2).await, [0; 0]);

    // What the second person sees is what the first one saw.
    let seen = look(&mut orders, "order").await.unwrap();
    assert_eq!((&seen.digest, &seen.effect), (&preview.digest, &preview.effect));
    assert_eq!(seen.warnings, preview.warnings);
    let approved = approve(&mut orders, "order").await.unwrap();
    assert_eq!((approved.effect, approved.revision), (preview.effect, proposed.revision + 1));
    assert_eq!(withheld(&service, "US", 1..=2).await, [1, 2]);

    // The record says who did what, also after a crash.
    service.kill();
    let service = Service::start(&journal).await;
    let order = show(&service, "order").await;
    let history: Vec<_> = order.history.iter().map(|event| (event.kind.as_str(), event.actor.as_str())).collect();
    assert_eq!(history, [("proposed", "desk@example.org"), ("approved", "second@example.org")]);
    assert_eq!(order.history[1].reason, "as it should be");
    assert_eq!((order.applied_at, order.applied_revision), (order.history[1].at, approved.revision));
    assert_eq!(order.effect_given_at, order.applied_at);
    let approval = order.approval.unwrap();
    assert_eq!(
        (approval.state(), approval.grounds.as_slice()),
        (pb::ApprovalState::Approved, ["worldwide".to_owned()].as_slice())
    );
    assert_eq!(
        (approval.proposed_by.as_str(), approval.decided_by.as_str()),
        ("desk@example.org", "second@example.org")
    );
    assert_eq!((approval.decided_revision, approval.accounts_changed), (approved.revision, 2));
    let told = service.orders().await.explain_account(explain).await.unwrap().into_inner();
    assert_eq!((told.withheld, told.orders[0].intervals[0].from), (Some(true), order.applied_at));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_approval_is_of_what_was_seen_or_is_refused_and_says_what_changed() {
    let (_dir, journal) = mk_journal();
    let service = Service::start(&journal).await;
    let mut orders = service.orders().await;
    propose(&service, worldwide("order"), mk_accounts([1, 2, 3])).await;
    let try_with = |digest: &[u8]| pb::ApproveOrderRequest {
        order_id: "order".to_owned(),
        context: mk_second(""),
        digest: digest.to_vec(),
        validate_only: false,
    };
    let seen = look(&mut orders, "order").await.unwrap();
    assert!(!seen.warnings.iter().any(|warning| warning.contains("not as it was proposed")), "{:?}", seen.warnings);

    // Somebody protects one of the accounts.
    let accounts = vec![pb::ProtectedAccount { account_id: 2, category: 1, since: None }];
    let protect = pb::ProtectAccountsRequest { accounts, context: mk_context("", "") };
    service.protections().await.protect_accounts(protect).await.unwrap();
    let outdated = orders.approve_order(try_with(&seen.digest)).await.unwrap_err();
    assert_eq!(refused(&outdated), reason(Code::FailedPrecondition, "PREVIEW_OUTDATED"));
    let says =
        ["1 of the items", "line 2", "2 accounts and 0 posts would go dark, not 3 accounts and 0 posts as proposed"];
    assert!(says.iter().all(|part| outdated.message().contains(part)), "{}", outdated.message());

    // Another order withholds another of them already, elsewhere approved. Then it is lifted: each changes the outcome.
    let seen = look(&mut orders, "order").await.unwrap();
    assert_eq!(seen.exceptions[0].cause, "news_media");
    assert!(seen.warnings[0].contains("not as it was proposed: 1 of the items"), "{:?}", seen.warnings);
    propose(&service, worldwide("other"), mk_accounts([3])).await;
    approve(&mut orders, "other").await.unwrap();
    let outdated = orders.approve_order(try_with(&seen.digest)).await.unwrap_err();
    assert!(outdated.message().contains("1 accounts and 0 posts would go dark, not 3"), "{}", outdated.message());
    let while_other = look(&mut orders, "order").await.unwrap();
    let lift =
        pb::LiftOrderRequest { order_id: "other".to_owned(), context: mk_context("over", ""), validate_only: false };
    orders.lift_order(lift).await.unwrap();
    let outdated = orders.approve_order(try_with(&while_other.digest)).await.unwrap_err();
    assert_eq!(refused(&outdated).1, "PREVIEW_OUTDATED");
    assert_eq!(withheld(&service, "US", 1..=3).await, [0; 0]);

    // It is as it was when they first looked again: what they saw then is what is done.
    let approved = orders.approve_order(try_with(&seen.digest)).await.unwrap().into_inner();
    assert_eq!(approved.effect.unwrap().accounts_changed, 2);
    assert_eq!(withheld(&service, "US", 1..=3).await, [1, 3]);
    let declined = show(&service, "order").await.dispositions;
    assert!(declined.iter().any(|count| count.cause == "news_media" && count.items == 1), "{declined:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn of_many_who_approve_at_once_one_does() {
    let (_dir, journal) = mk_journal();
    let service = Service::start(&journal).await;
    let mut orders = service.orders().await;
    propose(&service, worldwide("order"), mk_accounts([1])).await;
    let digest = look(&mut orders, "order").await.unwrap().digest;
    let mk_approve = |n: u64| pb::ApproveOrderRequest {
        order_id: "order".to_owned(),
        context: Some(pb::CommandContext {
            actor: format!("second-{n}@example.org"),
            request_id: format!("approve-{n}"),
            ..Default::default()
        }),
        digest: digest.clone(),
        validate_only: false,
    };
    let mut calls = tokio::task::JoinSet::new();
    for n in 0..20 {
        let mut orders = service.orders().await;
        let request = mk_approve(n);
        calls.spawn(async move { (n, orders.approve_order(request).await.map(tonic::Response::into_inner)) });
    }
    let (mut done, mut late) = (Vec::new(), 0);
    for (n, answer) in calls.join_all().await {
        match answer {
            Ok(answer) => done.push((n, answer.revision)),
            Err(status) => {
                assert_eq!(refused(&status), reason(Code::FailedPrecondition, "NOTHING_PENDING"));
                late += 1;
            }
        }
    }
    let [(n, revision)] = done.as_slice() else { panic!("{done:?}") };
    assert_eq!(late, 19);
    assert_eq!(show(&service, "order").await.approval.unwrap().decided_by, format!("second-{n}@example.org"));
    // The very same again is told what came of it, and nothing is written.
    let again = orders.approve_order(mk_approve(*n)).await.unwrap().into_inner();
    assert_eq!((again.already_done, again.revision), (true, *revision));
    assert_eq!(Scrape::of(&service).await.count("withheld_revision"), nth(2));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_rejected_or_withdrawn_stays_so_and_its_id_taken() {
    let (_dir, journal) = mk_journal();
    let service = Service::start(&journal).await;
    let mut orders = service.orders().await;
    // Somebody else rejects one; its proposer withdraws the other.
    for (id, context) in [("rejected", mk_second("too wide")), ("withdrawn", mk_context("a mistake", ""))] {
        propose(&service, worldwide(id), mk_accounts([1, 2])).await;
        let without = mk_reject(id, mk_second(""));
        assert_eq!(refusal(&orders.reject_order(without).await.unwrap_err()).2, ["context.reason"]);
        let done = orders.reject_order(mk_reject(id, context.clone())).await.unwrap().into_inner();
        let order = done.order.unwrap();
        assert_eq!((order.state(), order.applied_at), (pb::OrderState::Rejected, None));
        let by = context.unwrap().actor;
        let approval = order.approval.unwrap();
        assert_eq!((approval.state(), approval.decided_by), (pb::ApprovalState::Rejected, by));
        assert_eq!(order.ended_at, approval.decided_at);
        // None of its items was ever withheld, and that is what they say.
        let items = pb::ListOrderItemsRequest { order_id: id.to_owned(), ..Default::default() };
        let items = orders.list_order_items(items).await.unwrap().into_inner().items;
        assert!(items.iter().all(|item| item.disposition() == pb::Disposition::NoAction && item.cause == "rejected"));

        // It is final.
        let late = look(&mut orders, id).await.unwrap_err();
        assert_eq!(refused(&late), reason(Code::FailedPrecondition, "NOTHING_PENDING"));
        let twice = orders.reject_order(mk_reject(id, mk_second("again"))).await.unwrap_err();
        assert_eq!(refused(&twice).1, "NOTHING_PENDING");
        let lift =
            pb::LiftOrderRequest { order_id: id.to_owned(), context: mk_context("why", ""), validate_only: false };
        assert_eq!(refused(&orders.lift_order(lift).await.unwrap_err()).1, "WRONG_ORDER_STATE");
        for accounts in [vec![1, 2], vec![3]] {
            let anew = orders.apply_order(mk_apply(worldwide(id), mk_accounts(accounts))).await.unwrap_err();
            assert_eq!(refused(&anew), reason(Code::AlreadyExists, "ORDER_ID_TAKEN"));
            assert!(anew.message().contains("under another order_id"), "{}", anew.message());
            assert_eq!(anew.get_error_details().error_info().unwrap().metadata["state"], "rejected");
        }
        // Letters about it are still recorded.
        let letter = pb::Correspondence { kind: 5, text: "we declined it".to_owned(), ..Default::default() };
        let (order_id, context) = (id.to_owned(), mk_context("", ""));
        let note = pb::RecordCorrespondenceRequest { order_id, correspondence: Some(letter), context };
        orders.record_correspondence(note).await.unwrap();
    }
    assert_eq!(withheld(&service, "US", 1..=3).await, [0; 0]);
    let scrape = Scrape::of(&service).await;
    assert_eq!(
        (scrape.count("withheld_orders{state=\"rejected\"}"), scrape.count("withheld_approvals_pending")),
        (2, 0)
    );
    propose(&service, worldwide("anew"), mk_accounts([1, 2])).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_policy_file_says_what_takes_two() {
    let (dir, journal) = mk_journal();
    let policy = dir.path().join("policy.toml");
    let text = "expires_after = '2h'\n[applying]\nworldwide = false\nnames_more_than = 3\nwithholds_more_than = 2\n\
                [lifting]\norders = false\nitems = false\n";
    std::fs::write(&policy, text).unwrap();
    let flags = ["--policy", policy.to_str().unwrap()];
    let service = Service::start_with(&journal, &flags).await;
    let mut orders = service.orders().await;
    let mut grounds = async |order: pb::OrderSpec, items: pb::ItemList| {
        let applied = orders.apply_order(mk_apply(order, items)).await.unwrap().into_inner().order.unwrap();
        let waits = applied.state() == pb::OrderState::PendingApproval;
        assert_eq!(waits, applied.approval.is_some());
        applied.approval.map(|approval| approval.grounds).unwrap_or_default()
    };
    assert_eq!(grounds(worldwide("two"), mk_accounts([1, 2])).await, [""; 0]);
    assert_eq!(grounds(mk_order("three", &["IN"]), mk_accounts([5, 6, 7])).await, ["many_withheld"]);
    assert_eq!(
        grounds(mk_order("four", &["IN"]), mk_accounts([1, 2, 8, 9])).await,
        ["many_named"],
        "two are dark already"
    );
    assert_eq!(grounds(mk_order("same", &["IN"]), mk_accounts([8, 8, 8, 9, 9])).await, [""; 0], "two, named often");
    // Nothing of it would be withheld: nobody else is needed to decline it.
    let mut declined = mk_accounts(20..30);
    declined.items.iter_mut().for_each(|item| item.decline_reason = "satire".to_owned());
    assert_eq!(grounds(mk_order("declined", &["IN"]), declined).await, [""; 0]);

    // What waits goes on waiting under another policy, and is approved under it.
    assert!(service.stop().success());
    let service = Service::start_with(&journal, &crate::harness::ONE_PERSON).await;
    for id in ["three", "four"] {
        assert_eq!(show(&service, id).await.state(), pb::OrderState::PendingApproval);
        approve(&mut service.orders().await, id).await.unwrap();
    }
    assert_eq!(withheld(&service, "IN", 1..=9).await, [1, 2, 5, 6, 7, 8, 9]);
    drop(service);
    std::fs::write(&policy, text.replace("worldwide", "world_wide")).unwrap();
    let output = crate::harness::serve(&journal).args(flags).output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(!output.status.success() && said.contains("policy") && said.contains("world_wide"), "{said}");
}
