//! Lists come in pages, and the last page says that it is the last.

use tonic::Code;
use withheld::pb::v1 as pb;

use crate::harness::{Service, mk_accounts, mk_apply, mk_context, mk_journal, mk_order, refusal};

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
