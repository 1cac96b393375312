//! Lists come in pages, and the last page says that it is the last.

use withheld::pb::v1 as pb;

use crate::harness::{Service, mk_context, mk_journal, mk_order};

const SUBJECTS: u64 = 4;

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
