//! A protected account is withheld only by an explicit override, with its reason and a second person.

use tonic::Code;
use withheld::pb::v1 as pb;

use super::{propose, refused, show, withheld};
use crate::harness::{Service, approve, look, mk_accounts, mk_apply, mk_context, mk_journal, mk_order, refusal};

fn overriding(id: &str, account_ids: Vec<u64>, reason: &str) -> pb::OrderSpec {
    let over = pb::ProtectedOverride { account_ids, reason: reason.to_owned() };
    pb::OrderSpec { protected_override: Some(over), ..mk_order(id, &["IN"]) }
}

async fn protect(service: &Service, ids: impl IntoIterator<Item = u64>) {
    let category = pb::ProtectionCategory::Journalist.into();
    let account = |account_id| pb::ProtectedAccount { account_id, category, since: None };
    let accounts = ids.into_iter().map(account).collect();
    let request = pb::ProtectAccountsRequest { accounts, context: mk_context("", "") };
    service.protections().await.protect_accounts(request).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_protected_account_is_withheld_by_an_override_and_two_people() {
    let (_dir, journal) = mk_journal();
    // However lax the policy is.
    let service = Service::start_with(&journal, &crate::harness::ONE_PERSON).await;
    let mut orders = service.orders().await;
    protect(&service, [1, 2]).await;
    let order = propose(&service, overriding("order", vec![2], "the High Court insists"), mk_accounts([1, 2, 3])).await;
    assert_eq!(order.approval.unwrap().grounds, ["protected_override"]);
    let seen = look(&mut orders, "order").await.unwrap();
    let shown: Vec<_> =
        seen.exceptions.iter().map(|item| (item.line, item.disposition(), item.cause.as_str())).collect();
    use pb::Disposition::{Declined, Withheld};
    assert_eq!(shown, [(1, Declined, "journalist"), (2, Withheld, "protected_override")]);
    assert!(seen.warnings.iter().any(|warning| warning.contains("by override")), "{:?}", seen.warnings);
    approve(&mut orders, "order").await.unwrap();
    assert_eq!(withheld(&service, "IN", 1..=3).await, [2, 3]);
    service.kill();
    let service = Service::start(&journal).await;
    assert_eq!(withheld(&service, "IN", 1..=3).await, [2, 3]);
    let over = show(&service, "order").await.spec.unwrap().protected_override.unwrap();
    assert_eq!((over.account_ids.as_slice(), over.reason.as_str()), ([2].as_slice(), "the High Court insists"));
    // The same order without its override is another order.
    let without = mk_apply(mk_order("order", &["IN"]), mk_accounts([1, 2, 3]));
    assert_eq!(refused(&service.orders().await.apply_order(without).await.unwrap_err()).1, "ORDER_ID_TAKEN");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_override_is_for_accounts_that_the_list_names_and_says_why() {
    let (_dir, journal) = mk_journal();
    let service = Service::start(&journal).await;
    let mut orders = service.orders().await;
    protect(&service, [1, 9]).await;
    for (order, field, says) in [
        (overriding("order", vec![1, 9], "why"), "order.protected_override.account_ids", "`9`"),
        (overriding("order", vec![], "why"), "order.protected_override.account_ids", "at least one"),
        (overriding("order", vec![1], " "), "order.protected_override.reason", "required"),
        (overriding("order", vec![0], "why"), "order.protected_override.account_ids[0]", "`0`"),
    ] {
        let bad = orders.apply_order(mk_apply(order, mk_accounts([1, 2]))).await.unwrap_err();
        let (code, _, fields) = refusal(&bad);
        assert_eq!((code, fields[0].as_str()), (Code::InvalidArgument, field));
        assert!(bad.message().contains(says), "{}", bad.message());
    }
    // One that is not needed does not hold an order up.
    let applied = mk_apply(overriding("unneeded", vec![2], "why"), mk_accounts([2]));
    let applied = orders.apply_order(applied).await.unwrap().into_inner().order.unwrap();
    assert_eq!((applied.state(), applied.dispositions[0].cause.as_str()), (pb::OrderState::InForce, ""));
}
