//! The life of orders: overlap, stay, resume, lifts in part, repetition, secrecy, lists.

use std::collections::BTreeSet;

use tonic::Code;
use withheld::pb::v1 as pb;

use crate::harness::{
    Service, mk_accounts, mk_apply, mk_batch, mk_context, mk_items, mk_journal, mk_order, mk_worldwide, put_into_force,
    refusal,
};

fn group(id: &str, group: &str) -> pb::OrderSpec {
    let territory = Some(pb::territory::Territory::Group(group.to_owned()));
    pb::OrderSpec { territory: Some(pb::Territory { territory }), ..mk_order(id, &[]) }
}

async fn withheld(service: &Service, country: &str, accounts: std::ops::RangeInclusive<u64>) -> Vec<u64> {
    let first = *accounts.start();
    let answer = service.visibility().await.batch_check(mk_batch(country, accounts)).await.unwrap().into_inner();
    answer.accounts.iter().map(|entry| first + u64::from(entry.index)).collect()
}

async fn countries(service: &Service, account: u64) -> Vec<String> {
    let request = pb::ListWithheldCountriesRequest { account_ids: vec![account], ..Default::default() };
    let answer = service.visibility().await.list_withheld_countries(request).await.unwrap().into_inner();
    answer.subjects[0].country_codes.clone()
}

async fn apply(service: &Service, order: pb::OrderSpec, items: pb::ItemList) -> pb::ApplyOrderResponse {
    put_into_force(service, mk_apply(order, items)).await
}

async fn lift(service: &Service, order_id: &str) -> pb::LiftOrderResponse {
    let (order_id, context) = (order_id.to_owned(), mk_context("the court withdrew it", ""));
    let request = pb::LiftOrderRequest { order_id, context, validate_only: false };
    service.orders().await.lift_order(request).await.unwrap().into_inner()
}

fn changed(effect: Option<pb::Effect>) -> (u64, u64, u64) {
    let effect = effect.unwrap();
    (effect.accounts_changed, effect.posts_changed, effect.unchanged)
}

#[tokio::test(flavor = "multi_thread")]
async fn lifting_one_of_several_orders_restores_only_what_no_other_withholds() {
    let (_dir, journal) = mk_journal();
    let service = Service::start(&journal).await;
    apply(&service, mk_order("a", &["IN", "DE"]), mk_accounts([1, 2, 3])).await;
    apply(&service, group("b", "EU"), mk_accounts([2, 3])).await;
    apply(&service, mk_worldwide("c"), mk_accounts([3])).await;
    assert_eq!(countries(&service, 1).await, ["DE", "IN"]);
    assert_eq!(countries(&service, 2).await.len(), 28, "27 of the EU, and IN");
    // Worldwide withholds everywhere, also for a viewer of unknown country; the named countries stay named.
    assert_eq!(withheld(&service, "XX", 1..=3).await, [3]);

    let lifted = lift(&service, "a").await;
    assert_eq!(changed(lifted.effect), (2, 0, 1), "account 1 everywhere, 2 in IN, 3 nowhere");
    assert_eq!(withheld(&service, "IN", 1..=3).await, [3]);
    assert_eq!(withheld(&service, "DE", 1..=3).await, [2, 3]);
    lift(&service, "c").await;
    assert_eq!(withheld(&service, "IN", 1..=3).await, [0_u64; 0]);
    assert_eq!(withheld(&service, "FR", 1..=3).await, [2, 3]);
    lift(&service, "b").await;
    assert_eq!(countries(&service, 3).await, [""; 0]);
    // Lifted is for good.
    let again = pb::LiftOrderRequest { order_id: "b".to_owned(), context: mk_context("why", ""), validate_only: false };
    let again = service.orders().await.lift_order(again).await.unwrap_err();
    assert_eq!((again.code(), refusal(&again).1.as_str()), (Code::FailedPrecondition, "WRONG_ORDER_STATE"));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_order_is_stayed_resumed_and_lifted_in_part() {
    let (_dir, journal) = mk_journal();
    let service = Service::start(&journal).await;
    let items = mk_items([
        ("account_id", "1"),
        ("account_id", "2"),
        ("url", "https://twitter.com/x/status/9"),
        ("account_id", "4"),
    ]);
    apply(&service, mk_order("order", &["IN"]), items).await;
    let mut orders = service.orders().await;
    let stay = |validate_only| pb::StayOrderRequest {
        order_id: "order".to_owned(),
        context: mk_context("stayed by the High Court", ""),
        validate_only,
    };
    let would = orders.stay_order(stay(true)).await.unwrap().into_inner();
    assert_eq!((changed(would.effect), would.revision), ((3, 1, 0), 0));
    assert_eq!(withheld(&service, "IN", 1..=4).await, [1, 2, 4], "validating changes nothing");
    let stayed = orders.stay_order(stay(false)).await.unwrap().into_inner();
    assert_eq!((stayed.order.unwrap().state(), changed(stayed.effect)), (pb::OrderState::Stayed, (3, 1, 0)));
    assert_eq!(withheld(&service, "IN", 1..=4).await, [0_u64; 0]);

    // Items can be lifted while it is stayed; they stay lifted when it resumes.
    let lift_items = |items, validate_only| pb::LiftItemsRequest {
        order_id: "order".to_owned(),
        items: Some(pb::lift_items_request::Items::ItemList(items)),
        context: mk_context("wrong person", ""),
        validate_only,
    };
    let part = orders.lift_items(lift_items(mk_accounts([2]), false)).await.unwrap().into_inner();
    assert_eq!((changed(part.effect), part.items_lifted), ((0, 0, 1), 1), "it was visible before");
    let resume = |validate_only| pb::ResumeOrderRequest {
        order_id: "order".to_owned(),
        context: mk_context("the stay was lifted", ""),
        validate_only,
    };
    let resumed = orders.resume_order(resume(false)).await.unwrap().into_inner();
    assert_eq!((resumed.order.unwrap().state(), changed(resumed.effect)), (pb::OrderState::InForce, (2, 1, 0)));
    assert_eq!(withheld(&service, "IN", 1..=4).await, [1, 4]);
    // The same item named in two ways is one item.
    let post = mk_items([("post_id", "9"), ("url", "https://twitter.com/i/web/status/9?s=20")]);
    let part = orders.lift_items(lift_items(post, false)).await.unwrap().into_inner();
    assert_eq!((changed(part.effect), part.items_lifted), ((0, 1, 0), 1));

    let show = orders.get_order(pb::GetOrderRequest { order_id: "order".to_owned(), consistency: None }).await.unwrap();
    let order = show.into_inner().order.unwrap();
    let kinds: Vec<_> = order.history.iter().map(|event| event.kind.as_str()).collect();
    assert_eq!(kinds, ["applied", "stayed", "items_lifted", "resumed", "items_lifted"]);
    let who: BTreeSet<_> = order.history.iter().map(|event| event.actor.as_str()).collect();
    assert_eq!(who, BTreeSet::from(["desk@example.org"]));
    let items = pb::ListOrderItemsRequest { order_id: "order".to_owned(), ..Default::default() };
    let items = orders.list_order_items(items).await.unwrap().into_inner().items;
    let dispositions: Vec<_> = items.iter().map(pb::ItemOutcome::disposition).collect();
    use pb::Disposition::{Lifted, Withheld};
    assert_eq!(dispositions, [Withheld, Lifted, Lifted, Withheld]);

    // What it did, it did: the record of when each was dark survives.
    let explain = pb::ExplainAccountRequest {
        subject: Some(pb::Subject { subject: Some(pb::subject::Subject::AccountId(1)) }),
        country_code: "IN".to_owned(),
        ..Default::default()
    };
    let told = orders.explain_account(explain.clone()).await.unwrap().into_inner();
    assert_eq!((told.withheld, told.orders[0].intervals.len()), (Some(true), 2));
    let (first, second) = (told.orders[0].intervals[0], told.orders[0].intervals[1]);
    assert_eq!((first.until, second.until), (order.history[1].at, None));
    assert_eq!((first.from, second.from), (order.applied_at, order.history[3].at));
    for (at, dark) in [(first.from, true), (first.until, false), (second.from, true)] {
        let told = orders.explain_account(pb::ExplainAccountRequest { at, ..explain.clone() }).await.unwrap();
        assert_eq!(told.into_inner().withheld, Some(dark), "at {at:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_command_sent_twice_is_done_once() {
    let (_dir, journal) = mk_journal();
    let service = Service::start(&journal).await;
    let mut orders = service.orders().await;
    // By the order's own id, whatever else the request carries.
    let first = apply(&service, mk_order("order", &["IN"]), mk_accounts([1, 2])).await;
    let second = apply(&service, mk_order("order", &["IN"]), mk_accounts([1, 2])).await;
    assert_eq!((first.already_applied, second.already_applied), (false, true));
    assert_eq!(first.revision, second.revision);
    let other = orders.apply_order(mk_apply(mk_order("order", &["IN"]), mk_accounts([2, 1]))).await.unwrap_err();
    assert_eq!(refusal(&other).1, "ORDER_ID_TAKEN", "the same accounts in another order are another list");

    // By the request's id.
    let lift = |reason: &str| pb::LiftOrderRequest {
        order_id: "order".to_owned(),
        context: mk_context(reason, "lift-7"),
        validate_only: false,
    };
    let done = orders.lift_order(lift("why")).await.unwrap().into_inner();
    let again = orders.lift_order(lift("why, in other words")).await.unwrap().into_inner();
    assert_eq!((done.already_done, again.already_done, done.revision), (false, true, again.revision));
    let stay = pb::StayOrderRequest {
        order_id: "order".to_owned(),
        context: mk_context("why", "lift-7"),
        validate_only: false,
    };
    let stay = orders.stay_order(stay).await.unwrap_err();
    assert_eq!((stay.code(), refusal(&stay).1.as_str()), (Code::AlreadyExists, "REQUEST_ID_TAKEN"));

    // Also after a restart, and twenty times at once.
    service.kill();
    let service = Service::start(&journal).await;
    let mut calls = tokio::task::JoinSet::new();
    for _ in 0..20 {
        let mut orders = service.orders().await;
        calls.spawn(async move { orders.lift_order(lift("why")).await.unwrap().into_inner() });
    }
    let mut orders = service.orders().await;
    let new = |n: u64| mk_apply(mk_order("at-once", &["IN"]), mk_accounts([n]));
    let mut applies = tokio::task::JoinSet::new();
    for _ in 0..20 {
        let mut orders = service.orders().await;
        applies.spawn(async move { orders.apply_order(new(5)).await.unwrap().into_inner() });
    }
    for answer in calls.join_all().await {
        assert!(answer.already_done && answer.revision == done.revision);
    }
    let answers = applies.join_all().await;
    assert_eq!(answers.iter().filter(|answer| !answer.already_applied).count(), 1);
    let revisions: BTreeSet<u64> = answers.iter().map(|answer| answer.revision).collect();
    assert_eq!(revisions.len(), 1);
    assert_eq!(orders.apply_order(new(6)).await.unwrap_err().code(), Code::AlreadyExists);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_previewed_is_what_is_applied_or_nothing_is() {
    let (_dir, journal) = mk_journal();
    let service = Service::start(&journal).await;
    let mut orders = service.orders().await;
    let (spec, items) = (mk_order("order", &["IN"]), mk_accounts([1, 2]));
    let ask = pb::PreviewOrderRequest {
        order: Some(spec.clone()),
        items: Some(pb::preview_order_request::Items::ItemList(items.clone())),
    };
    let preview = orders.preview_order(ask.clone()).await.unwrap().into_inner();
    assert_eq!(orders.preview_order(ask.clone()).await.unwrap().into_inner().digest, preview.digest);
    // Between the two, somebody protects one of the accounts.
    let accounts = vec![pb::ProtectedAccount { account_id: 2, category: 1, since: None }];
    let protect = pb::ProtectAccountsRequest { accounts, context: mk_context("", "") };
    service.protections().await.protect_accounts(protect).await.unwrap();
    let apply = |digest: &[u8]| pb::ApplyOrderRequest {
        preview_digest: digest.to_vec(),
        ..mk_apply(spec.clone(), items.clone())
    };
    let outdated = orders.apply_order(apply(&preview.digest)).await.unwrap_err();
    assert_eq!(refusal(&outdated).1, "PREVIEW_OUTDATED");
    let preview = orders.preview_order(ask).await.unwrap().into_inner();
    assert_eq!(preview.exceptions[0].cause, "news_media");
    orders.apply_order(apply(&preview.digest)).await.unwrap();
    assert_eq!(withheld(&service, "IN", 1..=2).await, [1]);
}

#[tokio::test(flavor = "multi_thread")]
async fn protection_declines_orders_to_come_and_lifts_none() {
    let (_dir, journal) = mk_journal();
    let service = Service::start(&journal).await;
    let mut protections = service.protections().await;
    apply(&service, mk_order("before", &["IN"]), mk_accounts([1])).await;
    let protect = |ids: &[u64], category: pb::ProtectionCategory| {
        let account = |id: &u64| pb::ProtectedAccount { account_id: *id, category: category.into(), since: None };
        pb::ProtectAccountsRequest { accounts: ids.iter().map(account).collect(), context: mk_context("", "") }
    };
    let added = protections.protect_accounts(protect(&[1, 2], pb::ProtectionCategory::Journalist)).await.unwrap();
    let added = added.into_inner();
    assert_eq!((added.added, added.withheld_account_ids.as_slice()), (2, [1].as_slice()));
    let moved = protections.protect_accounts(protect(&[2, 3], pb::ProtectionCategory::Politician)).await.unwrap();
    let moved = moved.into_inner();
    assert_eq!((moved.added, moved.moved, moved.unchanged), (1, 1, 0));
    // On one line of the other order the desk itself declines.
    let mut items = mk_accounts([2, 3, 4, 5]);
    items.items[3].decline_reason = "satire".to_owned();
    let order = apply(&service, mk_order("after", &["IN"]), items).await.order.unwrap();
    let declined = order.dispositions.iter().filter(|count| count.disposition() == pb::Disposition::Declined);
    let declined: Vec<_> = declined.map(|count| (count.cause.as_str(), count.items)).collect();
    assert_eq!(declined, [("desk", 1), ("politician", 2)]);
    assert_eq!(withheld(&service, "IN", 1..=5).await, [1, 4]);
    // The platform's own rules hold for everybody.
    let own = pb::OrderSpec { instrument: pb::Instrument::OwnRules.into(), ..mk_worldwide("own") };
    apply(&service, own, mk_accounts([3])).await;
    assert_eq!(withheld(&service, "US", 1..=5).await, [3]);

    let remove = pb::UnprotectAccountsRequest { account_ids: vec![2, 99], context: mk_context("a mistake", "") };
    let removed = protections.unprotect_accounts(remove).await.unwrap().into_inner();
    assert_eq!((removed.removed, removed.unchanged), (1, 1));
    let mut listed = Vec::new();
    let mut page_token = String::new();
    loop {
        let request = pb::ListProtectedAccountsRequest { page_size: 1, page_token, ..Default::default() };
        let page = protections.list_protected_accounts(request).await.unwrap().into_inner();
        assert_eq!(page.total, 2);
        listed.extend(page.accounts.iter().map(|a| (a.account_id, a.category())));
        page_token = page.next_page_token;
        if page_token.is_empty() {
            break;
        }
    }
    assert_eq!(listed, [(1, pb::ProtectionCategory::Journalist), (3, pb::ProtectionCategory::Politician)]);
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_of_a_confidential_order_is_told_to_viewers() {
    let (_dir, journal) = mk_journal();
    let service = Service::start(&journal).await;
    let secret = |id: &str, confidentiality: pb::Confidentiality| pb::OrderSpec {
        confidentiality: confidentiality.into(),
        public_notice_url: "https://example.org/secret".to_owned(),
        expires_at: Some(prost_types::Timestamp { seconds: 4_102_444_800, nanos: 0 }),
        ..mk_order(id, &["IN"])
    };
    apply(&service, secret("sealed", pb::Confidentiality::Sealed), mk_accounts([1, 3])).await;
    apply(&service, secret("quiet", pb::Confidentiality::NoticeProhibited), mk_accounts([2])).await;
    apply(&service, secret("public", pb::Confidentiality::Public), mk_accounts([3])).await;
    let mut visibility = service.visibility().await;
    for account_id in [1, 2] {
        let request = pb::CheckRequest { account_id, viewer_country: "IN".to_owned(), ..Default::default() };
        let told = visibility.check(request).await.unwrap().into_inner().withholding.unwrap();
        let generic = pb::Withholding {
            scope: pb::Scope::User.into(),
            notice_key: "withheld.user.generic".to_owned(),
            ..Default::default()
        };
        assert_eq!(told, generic, "no basis, no address, no end");
    }
    // Where a public order withholds it too, that one is told of.
    let request = pb::CheckRequest { account_id: 3, viewer_country: "IN".to_owned(), ..Default::default() };
    let told = visibility.check(request).await.unwrap().into_inner().withholding.unwrap();
    assert_eq!((told.basis(), told.notice_key.as_str()), (pb::Basis::LegalDemand, "withheld.user.legal_demand"));
    assert_eq!(told.public_notice_url.as_deref(), Some("https://example.org/secret"));
    assert!(told.valid_until.is_some());
}

#[tokio::test(flavor = "multi_thread")]
async fn viewers_of_unknown_country_are_served_by_the_policy_and_told_so() {
    let (_dir, journal) = mk_journal();
    for (policy, dark) in [("worldwide-only", vec![2]), ("strict", vec![1, 2])] {
        let service = Service::start_with(&journal, &["--unknown-viewer", policy]).await;
        apply(&service, mk_order("india", &["IN"]), mk_accounts([1])).await;
        apply(&service, mk_worldwide("everywhere"), mk_accounts([2])).await;
        for unknown in ["", "XX", "ZZ", "T1"] {
            assert_eq!(withheld(&service, unknown, 1..=3).await, dark, "`{unknown}` under {policy}");
            let request = pb::CheckRequest { account_id: 1, viewer_country: unknown.to_owned(), ..Default::default() };
            assert!(service.visibility().await.check(request).await.unwrap().into_inner().viewer_country_unknown);
        }
        assert!(service.stop().success());
    }
    let service = Service::start(&journal).await;
    apply(&service, mk_order("aliases", &["GB", "GR", "XK"]), mk_accounts([5])).await;
    for viewer in ["UK", "GB", "EL", "GR", "XK"] {
        assert_eq!(withheld(&service, viewer, 5..=5).await, [5], "{viewer}");
    }
    assert_eq!(countries(&service, 5).await, ["GB", "GR", "XK"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn posts_go_dark_on_their_own_or_with_their_account() {
    let (_dir, journal) = mk_journal();
    let service = Service::start(&journal).await;
    // The same number names an account and, elsewhere, a post: they are two subjects.
    apply(&service, mk_order("posts", &["IN"]), mk_items([("post_id", "7")])).await;
    let mut visibility = service.visibility().await;
    let mut check = async |account_id, post_id| {
        let request = pb::CheckRequest { account_id, post_id, viewer_country: "IN".to_owned(), consistency: None };
        visibility.check(request).await.unwrap().into_inner().withholding.map(|w| w.scope())
    };
    assert_eq!(check(7, None).await, None);
    assert_eq!(check(1, Some(7)).await, Some(pb::Scope::Status));
    apply(&service, mk_order("account", &["IN"]), mk_accounts([1])).await;
    assert_eq!(check(1, Some(7)).await, Some(pb::Scope::User), "the account is the wider one");
    assert_eq!(check(1, Some(8)).await, Some(pb::Scope::User));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_preview_points_out_ids_that_a_spreadsheet_has_rounded() {
    let (_dir, journal) = mk_journal();
    let service = Service::start(&journal).await;
    let mut orders = service.orders().await;
    for (ids, rounded) in [
        (vec![1_022_611_122_105_420_000, 1_022_611_122_105_425_723, 7_000], Some("1 of 3 items")),
        // Every thousandth of many ids of 18 digits ends in three zeros.
        ((700_000_000_000_000_001..=700_000_000_000_002_000).collect(), None),
    ] {
        let request = pb::PreviewOrderRequest {
            order: Some(mk_order("order", &["IN"])),
            items: Some(pb::preview_order_request::Items::ItemList(mk_accounts(ids))),
        };
        let warnings = orders.preview_order(request).await.unwrap().into_inner().warnings;
        let warning = warnings.iter().find(|warning| warning.contains("end in zeros"));
        assert_eq!(
            warning.map(|w| rounded.is_some_and(|said| w.starts_with(said))),
            rounded.map(|_| true),
            "{warnings:?}"
        );
    }
}
