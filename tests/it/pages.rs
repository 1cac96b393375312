//! Lists come in pages, and the last page says that it is the last.

use tonic::Code;
use withheld::pb::v1 as pb;

use crate::harness::{
    Service, mk_accounts, mk_apply, mk_context, mk_items, mk_journal, mk_order, mk_worldwide, put_into_force, refusal,
};

const SUBJECTS: u64 = 4;

#[tokio::test(flavor = "multi_thread")]
async fn a_filter_by_nothing_lets_everything_through_and_one_by_what_is_not_known_is_refused() {
    let (_dir, journal) = mk_journal();
    let service = Service::start(&journal).await;
    let mut orders = service.orders().await;
    orders.apply_order(mk_apply(mk_order("order", &["IN"]), mk_accounts([7, 8]))).await.unwrap();
    let (in_force, lifted) = (pb::OrderState::InForce.into(), pb::OrderState::Lifted.into());
    for (states, found) in [(vec![], 1), (vec![0], 1), (vec![in_force], 1), (vec![lifted], 0), (vec![lifted, 0], 1)] {
        let request = pb::ListOrdersRequest { states: states.clone(), ..Default::default() };
        let answer = orders.list_orders(request).await.unwrap().into_inner();
        assert_eq!(answer.orders.len(), found, "{states:?}");
    }
    let items =
        |dispositions| pb::ListOrderItemsRequest { order_id: "order".to_owned(), dispositions, ..Default::default() };
    let declined = pb::Disposition::Declined.into();
    for (dispositions, found) in [(vec![], 2), (vec![0], 2), (vec![declined], 0)] {
        let answer = orders.list_order_items(items(dispositions.clone())).await.unwrap().into_inner();
        assert_eq!(answer.items.len(), found, "{dispositions:?}");
    }
    let unknown = pb::ListOrdersRequest { states: vec![in_force, 99], instrument: 99, ..Default::default() };
    let unknown = orders.list_orders(unknown).await.unwrap_err();
    let named = ["states[1]", "instrument"].map(str::to_owned).to_vec();
    assert_eq!(refusal(&unknown), (Code::InvalidArgument, "BAD_FIELDS".to_owned(), named));
    let unknown = orders.list_order_items(items(vec![-1])).await.unwrap_err();
    assert_eq!(refusal(&unknown).2, ["dispositions[0]"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_last_page_has_no_next() {
    let (_dir, journal) = mk_journal();
    let service = Service::start(&journal).await;
    let (mut orders, mut protections) = (service.orders().await, service.protections().await);
    for number in 1..=SUBJECTS {
        let item =
            |id: u64| pb::Item { locator_type: "account_id".into(), locator: id.to_string(), ..Default::default() };
        let items = pb::ItemList { items: (1..=SUBJECTS).map(item).collect() };
        let apply = pb::ApplyOrderRequest {
            order: Some(mk_order(&format!("order-{number}"), &["IN"])),
            items: Some(pb::apply_order_request::Items::ItemList(items)),
            context: mk_context("", ""),
            preview_digest: Vec::new(),
        };
        orders.apply_order(apply).await.unwrap();
    }
    let category = pb::ProtectionCategory::Journalist.into();
    let accounts = (1..=SUBJECTS).map(|account_id| pb::ProtectedAccount { account_id, category, since: None });
    let protect = pb::ProtectAccountsRequest { accounts: accounts.collect(), context: mk_context("", "") };
    protections.protect_accounts(protect).await.unwrap();

    for page_size in 1..=5_u32 {
        let mut sizes = [vec![], vec![], vec![]];
        let mut token = String::new();
        loop {
            let request = pb::ListOrdersRequest { page_size, page_token: token, ..Default::default() };
            let page = orders.list_orders(request).await.unwrap().into_inner();
            sizes[0].push(page.orders.len());
            token = page.next_page_token;
            if token.is_empty() {
                break;
            }
        }
        loop {
            let order_id = "order-1".to_owned();
            let request = pb::ListOrderItemsRequest { order_id, page_size, page_token: token, ..Default::default() };
            let page = orders.list_order_items(request).await.unwrap().into_inner();
            sizes[1].push(page.items.len());
            token = page.next_page_token;
            if token.is_empty() {
                break;
            }
        }
        loop {
            let request = pb::ListProtectedAccountsRequest { page_size, page_token: token, ..Default::default() };
            let page = protections.list_protected_accounts(request).await.unwrap().into_inner();
            sizes[2].push(page.accounts.len());
            token = page.next_page_token;
            if token.is_empty() {
                break;
            }
        }
        let pages: Vec<usize> = match page_size {
            1 => vec![1, 1, 1, 1],
            2 => vec![2, 2],
            3 => vec![3, 1],
            _ => vec![4],
        };
        assert_eq!(sizes, [pages.clone(), pages.clone(), pages], "pages of {page_size}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn orders_are_listed_by_filter_page_by_page() {
    let (_dir, journal) = mk_journal();
    let service = Service::start(&journal).await;
    let mut orders = service.orders().await;
    for n in 0..25_u64 {
        let id = format!("order-{n:02}");
        let mut spec = if n % 5 == 0 { mk_worldwide(&id) } else { mk_order(&id, &[["IN", "DE"][(n % 2) as usize]]) };
        if n % 3 == 0 {
            spec.regime = "in-69a-emergency".to_owned();
            spec.received_at = Some(prost_types::Timestamp { seconds: 2_000_000_000 - n as i64, nanos: 0 });
        }
        spec.issuing_authority = format!("Ministry {}", n % 4);
        put_into_force(&service, mk_apply(spec, mk_accounts([n + 1]))).await;
    }
    let (order_id, context) = ("order-07".to_owned(), mk_context("the court withdrew it", ""));
    orders.lift_order(pb::LiftOrderRequest { order_id, context, validate_only: false }).await.unwrap();
    let mut list = async |request: pb::ListOrdersRequest| {
        let (mut found, mut page_token) = (Vec::new(), String::new());
        loop {
            let request = pb::ListOrdersRequest { page_size: 4, page_token, ..request.clone() };
            let page = orders.list_orders(request).await.unwrap().into_inner();
            assert!(page.orders.len() <= 4);
            assert!(page.next_page_token.is_empty() || page.orders.len() == 4, "a page that is not full is the last");
            found.extend(page.orders.into_iter().map(|order| order.spec.unwrap().order_id));
            page_token = page.next_page_token;
            if page_token.is_empty() {
                return found;
            }
        }
    };
    let named = |wanted: &dyn Fn(u64) -> bool| {
        (0..25).filter(|n| wanted(*n)).map(|n| format!("order-{n:02}")).collect::<Vec<_>>()
    };
    let newest_first = |wanted: &dyn Fn(u64) -> bool| named(wanted).into_iter().rev().collect::<Vec<_>>();
    let all = pb::ListOrdersRequest::default();
    assert_eq!(list(all.clone()).await, newest_first(&|_| true));
    let oldest = pb::ListOrdersRequest { sort: pb::OrderSort::OldestFirst.into(), ..all.clone() };
    assert_eq!(list(oldest).await, named(&|_| true));
    let lifted = pb::ListOrdersRequest { states: vec![pb::OrderState::Lifted.into()], ..all.clone() };
    assert_eq!(list(lifted).await, ["order-07"]);
    let india = pb::ListOrdersRequest { country_code: "IN".to_owned(), ..all.clone() };
    assert_eq!(list(india).await, newest_first(&|n| n % 5 == 0 || n % 2 == 0), "worldwide holds in India too");
    let ministry = pb::ListOrdersRequest { issuing_authority: "ministry 3".to_owned(), ..all.clone() };
    assert_eq!(list(ministry).await, newest_first(&|n| n % 4 == 3));
    let regime = pb::ListOrdersRequest { regime: "in-69a-emergency".to_owned(), ..all.clone() };
    assert_eq!(list(regime).await, newest_first(&|n| n % 3 == 0));
    let due = pb::ListOrdersRequest { sort: pb::OrderSort::ReviewDueFirst.into(), ..all.clone() };
    assert_eq!(list(due).await, newest_first(&|n| n % 3 == 0), "received later, due later");
    // A token of one list is not one of another.
    let page = pb::ListOrdersRequest { page_size: 4, ..all.clone() };
    let token = orders.list_orders(page).await.unwrap().into_inner().next_page_token;
    let other = pb::ListOrdersRequest { page_token: token, regime: "in-69a".to_owned(), ..all };
    assert_eq!(refusal(&orders.list_orders(other).await.unwrap_err()).1, "BAD_PAGE_TOKEN");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_items_of_an_order_are_listed_page_by_page_as_received() {
    let (_dir, journal) = mk_journal();
    let service = Service::start(&journal).await;
    let rows: Vec<(String, String)> = (1..=250_u64)
        .map(|n| {
            if n % 10 == 0 {
                ("handle".to_owned(), format!("@user{n}"))
            } else {
                ("account_id".to_owned(), n.to_string())
            }
        })
        .collect();
    let items = mk_items(rows.iter().map(|(kind, locator)| (kind.as_str(), locator.as_str())));
    put_into_force(&service, mk_apply(mk_order("order", &["IN"]), items)).await;
    let mut orders = service.orders().await;
    let mut list = async |dispositions: Vec<i32>| {
        let (mut found, mut page_token) = (Vec::new(), String::new());
        loop {
            let order_id = "order".to_owned();
            let dispositions = dispositions.clone();
            let request =
                pb::ListOrderItemsRequest { order_id, dispositions, page_size: 40, page_token, consistency: None };
            let page = orders.list_order_items(request).await.unwrap().into_inner();
            found.extend(page.items);
            page_token = page.next_page_token;
            if page_token.is_empty() {
                return found;
            }
        }
    };
    let all = list(vec![]).await;
    let as_received: Vec<_> = all.iter().map(|item| (item.locator_type.clone(), item.locator.clone())).collect();
    assert_eq!(as_received, rows);
    let lines: Vec<u32> = all.iter().map(|item| item.line).collect();
    assert_eq!(lines, (1..=250).collect::<Vec<_>>());
    let undone = list(vec![pb::Disposition::NoAction.into()]).await;
    assert_eq!(undone.len(), 25);
    assert!(undone.iter().all(|item| item.cause == "handle" && item.subject.is_none() && !item.explanation.is_empty()));
}
