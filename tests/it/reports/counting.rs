//! What counts where, when orders name the same accounts, hold in several territories, or have no effect.

use std::collections::BTreeMap;

use withheld::pb::v1 as pb;
use withheld::pb::v1::order_service_client::OrderServiceClient;
use withheld::pb::v1::report_service_client::ReportServiceClient;

use super::until_ready;
use crate::harness::{approve, mk_accounts, mk_apply, mk_context, mk_order, mk_worldwide};
use crate::time::{Clocked, stamp};

/// Accounts, of which some are declined by the desk.
fn accounts(ids: &[u64], declined: &[u64]) -> pb::ItemList {
    let mut list = mk_accounts(ids.iter().copied());
    for item in list.items.iter_mut().filter(|item| declined.contains(&item.locator.parse().unwrap())) {
        item.decline_reason = "satire".to_owned();
    }
    list
}

#[tokio::test(flavor = "multi_thread")]
async fn an_order_counts_in_one_row_and_period_and_an_account_once_in_a_row() {
    let at = |time: &str| -> jiff::Timestamp { time.parse().unwrap() };
    let service = Clocked::start(at("2021-02-10T00:00:00Z"), &["--journal", "memory:"]).await;
    let mut orders = OrderServiceClient::connect(service.admin.clone()).await.unwrap();
    let mut reports = ReportServiceClient::connect(service.admin.clone()).await.unwrap();

    let court = mk_order("court", &["IN"]);
    let agency = pb::OrderSpec { instrument: pb::Instrument::AgencyRequest.into(), ..mk_order("agency", &["IN"]) };
    let union = pb::OrderSpec {
        instrument: pb::Instrument::ExecutiveOrder.into(),
        territory: Some(pb::Territory { territory: Some(pb::territory::Territory::Group("EU".to_owned())) }),
        ..mk_order("union", &[])
    };
    let later = pb::OrderSpec { effective_from: stamp(at("2022-01-01T00:00:00Z")), ..mk_order("later", &["IN"]) };
    let march = pb::OrderSpec { received_at: stamp(at("2021-03-01T00:00:00Z")), ..mk_order("march", &["IN"]) };
    let last = pb::OrderSpec { received_at: stamp(at("2021-02-28T23:59:59Z")), ..mk_order("last", &["BR"]) };
    let own = pb::OrderSpec { instrument: pb::Instrument::OwnRules.into(), ..mk_order("own", &["IN"]) };
    for (order, list) in [
        (court, accounts(&[1, 2, 3, 3], &[2])),
        (agency, accounts(&[2, 3, 4], &[3, 4])),
        (union, accounts(&[1], &[])),
        (later, accounts(&[4, 5], &[4])),
        (march, accounts(&[6], &[])),
        (last, accounts(&[7], &[7])),
        (own, accounts(&[1, 4, 8], &[])),
        (mk_worldwide("waits"), accounts(&[9], &[])),
    ] {
        until_ready(async || orders.apply_order(mk_apply(order.clone(), list.clone())).await.is_ok()).await;
    }
    let lift =
        pb::LiftOrderRequest { order_id: "court".to_owned(), context: mk_context("over", ""), validate_only: false };
    service.hand.set(at("2021-02-10T00:00:01Z"));
    orders.lift_order(lift).await.unwrap();

    service.hand.set(at("2021-03-01T00:00:00Z"));
    let mut february = async || -> BTreeMap<String, BTreeMap<String, u64>> {
        let request =
            pb::GetTransparencyReportRequest { first_month: "2021-02".to_owned(), min_cell: 1, ..Default::default() };
        let report = reports.get_transparency_report(request).await.unwrap().into_inner();
        let counts = |row: pb::TransparencyRow| {
            let name = |cell: &pb::TransparencyCell| cell.column().as_str_name().replace("TRANSPARENCY_COLUMN_", "");
            let told = row.cells.into_iter().map(|cell| (name(&cell), cell.count.unwrap()));
            (row.territory, told.filter(|(_, count)| *count > 0).collect())
        };
        report.rows.into_iter().map(counts).collect()
    };
    let row = |counts: &[(&str, u64)]| counts.iter().map(|(name, count)| ((*name).to_owned(), *count)).collect();
    let mut wanted = BTreeMap::from([
        (
            "BR".to_owned(),
            row(&[
                ("ORDERS_RECEIVED", 1),
                ("COURT_ORDERS", 1),
                ("ORDERS_WITHOUT_CONTENT_WITHHELD", 1),
                ("ACCOUNTS_SPECIFIED", 1),
                ("ACCOUNTS_DECLINED_BY_DESK", 1),
            ]),
        ),
        (
            // Of a decision that holds in India only, nothing is in this row.
            "EU".to_owned(),
            row(&[
                ("ORDERS_RECEIVED", 1),
                ("EXECUTIVE_ORDERS", 1),
                ("ORDERS_WITH_CONTENT_WITHHELD", 1),
                ("ACCOUNTS_SPECIFIED", 1),
                ("ACCOUNTS_WITHHELD", 1),
                ("ACCOUNTS_STILL_WITHHELD", 1),
            ]),
        ),
        (
            // 1 and 3 were withheld and are back; 2 was declined once and is withheld; 4 was declined; 5 is to come.
            "IN".to_owned(),
            row(&[
                ("ORDERS_RECEIVED", 3),
                ("COURT_ORDERS", 2),
                ("AGENCY_REQUESTS", 1),
                ("ORDERS_WITH_CONTENT_WITHHELD", 2),
                ("ORDERS_WITHOUT_CONTENT_WITHHELD", 1),
                ("ACCOUNTS_SPECIFIED", 5),
                ("ACCOUNTS_WITHHELD", 3),
                ("ACCOUNTS_RESTORED", 2),
                ("ACCOUNTS_STILL_WITHHELD", 1),
                ("ACCOUNTS_WITHOUT_EFFECT", 1),
                ("ACCOUNTS_DECLINED_BY_DESK", 1),
                ("ACCOUNTS_ALSO_REMOVED_OWN_RULES", 2),
                ("OWN_RULES_DECISIONS", 1),
                ("ACCOUNTS_REMOVED_OWN_RULES", 3),
            ]),
        ),
    ]);
    assert_eq!(february().await, wanted);

    // What waits counts once it is approved, in the period of its receipt; worldwide is a row of its own.
    service.hand.set(at("2021-03-01T01:00:00Z"));
    assert!(approve(&mut orders, "waits").await.is_err(), "it has lapsed");
    let again = pb::OrderSpec { received_at: stamp(at("2021-02-10T00:00:00Z")), ..mk_worldwide("again") };
    orders.apply_order(mk_apply(again, accounts(&[9], &[]))).await.unwrap();
    assert_eq!(february().await, wanted);
    approve(&mut orders, "again").await.unwrap();
    wanted.insert(
        "XX".to_owned(),
        row(&[
            ("ORDERS_RECEIVED", 1),
            ("COURT_ORDERS", 1),
            ("ORDERS_WITH_CONTENT_WITHHELD", 1),
            ("ACCOUNTS_SPECIFIED", 1),
            ("ACCOUNTS_WITHHELD", 1),
            ("ACCOUNTS_STILL_WITHHELD", 1),
        ]),
    );
    assert_eq!(february().await, wanted);
    service.stop().await;
}
