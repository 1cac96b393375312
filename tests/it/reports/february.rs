//! The reports on February 2021, against figures worked out from the lists by another program.

use std::collections::BTreeMap;
use std::process::Command;

use serde_json::Value;
use withheld::pb::v1 as pb;
use withheld::pb::v1::order_service_client::OrderServiceClient;
use withheld::pb::v1::protection_service_client::ProtectionServiceClient;
use withheld::pb::v1::report_service_client::ReportServiceClient;

use super::attack::{Attack, Published};
use super::suppression::rules;
use super::until_ready;
use crate::harness::{ONE_PERSON, mk_apply, mk_context, mk_order, mk_worldwide, refusal};
use crate::python::python;
use crate::scenario::{items, rows};
use crate::time::{Clocked, stamp};

type Reports = ReportServiceClient<tonic::transport::Channel>;

/// The days are played by a clock; then it is July.
struct February {
    service: Clocked,
    reports: Reports,
}

impl February {
    async fn play() -> Self {
        let at = |time: &str| time.parse().unwrap();
        let flags = ["--journal", "memory:"];
        let service = Clocked::start(at("2021-01-31T15:00:00Z"), &[flags.as_slice(), &ONE_PERSON].concat()).await;
        let mut orders = OrderServiceClient::connect(service.admin.clone()).await.unwrap();
        let mut protections = ProtectionServiceClient::connect(service.admin.clone()).await.unwrap();
        let accounts = rows("protected-accounts.csv").into_iter().map(|row| {
            let category = format!("PROTECTION_CATEGORY_{}", row[1].to_uppercase());
            let category = pb::ProtectionCategory::from_str_name(&category).unwrap().into();
            pb::ProtectedAccount { account_id: row[0].parse().unwrap(), category, since: None }
        });
        let request = pb::ProtectAccountsRequest { accounts: accounts.collect(), context: mk_context("", "") };
        until_ready(async || protections.protect_accounts(request.clone()).await.is_ok()).await;

        service.hand.set(at("2021-02-01T04:00:00Z"));
        let mut first = mk_order("in-2021-01-31-emergency", &["IN"]);
        first.instrument = pb::Instrument::EmergencyInterimOrder.into();
        first.regime = "in-69a-emergency".to_owned();
        first.specified_items = Some(258);
        first.received_at = stamp(at("2021-01-31T14:30:00Z"));
        first.confidential_reason = "the desk's secret".to_owned();
        first.redress = "Write to the reviewing committee".to_owned();
        let mut apply = mk_apply(first, items("in-2021-01-31-emergency.items.csv"));
        apply.context = mk_context("because the desk says so", "");
        orders.apply_order(apply).await.unwrap();

        service.hand.set(at("2021-02-01T15:00:00Z"));
        let lift = pb::LiftOrderRequest {
            order_id: "in-2021-01-31-emergency".to_owned(),
            context: mk_context("free speech and newsworthy", ""),
            validate_only: false,
        };
        orders.lift_order(lift).await.unwrap();
        let letter = pb::RecordCorrespondenceRequest {
            order_id: "in-2021-01-31-emergency".to_owned(),
            correspondence: Some(pb::Correspondence {
                kind: pb::CorrespondenceKind::NonComplianceNotice.into(),
                at: stamp(at("2021-02-03T10:00:00Z")),
                text: "penalties".to_owned(),
                external_ref: "NC/1".to_owned(),
            }),
            context: mk_context("", ""),
        };
        orders.record_correspondence(letter).await.unwrap();

        service.hand.set(at("2021-02-04T14:00:00Z"));
        let mut second = mk_order("in-2021-02-04", &["IN"]);
        second.instrument = pb::Instrument::ExecutiveOrder.into();
        second.regime = "in-69a".to_owned();
        orders.apply_order(mk_apply(second, items("in-2021-02-04.items.csv"))).await.unwrap();

        service.hand.set(at("2021-02-10T12:00:00Z"));
        let own = pb::OrderSpec { instrument: pb::Instrument::OwnRules.into(), ..mk_worldwide("own-rules-2021-02-10") };
        orders.apply_order(mk_apply(own, items("own-rules-2021-02-10.items.csv"))).await.unwrap();

        service.hand.set(at("2021-07-01T00:00:00Z"));
        let reports = ReportServiceClient::connect(service.admin.clone()).await.unwrap();
        Self { service, reports }
    }

    async fn transparency(&mut self, first: &str, last: &str, min_cell: u32) -> pb::GetTransparencyReportResponse {
        let request = pb::GetTransparencyReportRequest {
            first_month: first.to_owned(),
            last_month: last.to_owned(),
            min_cell,
            // The regime makes the ministry's orders sealed.
            include_sealed: true,
            ..Default::default()
        };
        self.reports.get_transparency_report(request).await.unwrap().into_inner()
    }
}

/// The counts that are not 0, by the columns' names.
fn counts(row: &pb::TransparencyRow) -> BTreeMap<String, u64> {
    let count = |cell: &pb::TransparencyCell| {
        let name = cell.column().as_str_name().trim_start_matches("TRANSPARENCY_COLUMN_").to_lowercase();
        (name, cell.count.unwrap())
    };
    row.cells.iter().map(count).filter(|(_, count)| *count > 0).collect()
}

/// What another program makes of the lists.
fn worked_out(months: &[&str]) -> Value {
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/python/february.py");
    let lists = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/scenario");
    let output = Command::new(python()).arg(script).arg(lists).args(months).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn the_transparency_reports_of_february_2021_are_what_the_lists_say() {
    let mut february = February::play().await;
    for (first, last, months) in [
        ("2021-01", "", ["2021-01"].as_slice()),
        ("2021-02", "2021-02", &["2021-02"]),
        ("2021-01", "2021-06", &["2021-01", "2021-02"]),
        ("2021-03", "2021-06", &[]),
        ("2020-01", "2020-12", &[]),
    ] {
        let report = february.transparency(first, last, 1).await;
        let told: BTreeMap<_, _> = report.rows.iter().map(|row| (row.territory.clone(), counts(row))).collect();
        assert_eq!(serde_json::to_value(told).unwrap(), worked_out(months), "{first} to {last}");
        for sum in &report.sums {
            for row in report.rows.iter().chain(&report.total) {
                let count = |column: i32| row.cells.iter().find(|cell| cell.column == column).unwrap().count.unwrap();
                let parts: u64 = sum.parts.iter().map(|part| count(*part)).sum();
                assert_eq!(count(sum.whole), parts, "{sum:?} of {}", row.territory);
            }
        }
    }
    // The figures that were in the newspapers.
    let half = february.transparency("2021-01", "2021-06", 1).await;
    let india = counts(half.rows.iter().find(|row| row.territory == "IN").unwrap());
    let wanted = [("orders_received", 2), ("accounts_specified", 1_270), ("accounts_still_withheld", 1_042)];
    wanted.iter().for_each(|(column, count)| assert_eq!(india[*column], *count, "{column}"));
    assert_eq!(counts(&half.rows[1])["accounts_removed_own_rules"], 523);
    assert_eq!(half.rows[0].share_of_orders_with_content_withheld, Some(1.0));
    february.service.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn small_counts_of_february_2021_are_not_told_nor_to_be_worked_out() {
    let mut february = February::play().await;
    for (first, last) in [("2021-01", "2021-01"), ("2021-02", "2021-02"), ("2021-01", "2021-06")] {
        let open = february.transparency(first, last, 1).await;
        let report = february.transparency(first, last, 0).await;
        assert_eq!(report.min_cell, 10);
        let all = |report: &pb::GetTransparencyReportResponse| {
            let rows = report.rows.iter().chain(&report.total);
            rows.map(|row| row.cells.iter().map(|cell| cell.count).collect::<Vec<_>>()).collect::<Vec<_>>()
        };
        let (open, told) = (all(&open), all(&report));
        let mut hidden = 0;
        for (open, told) in open.iter().flatten().zip(told.iter().flatten()) {
            let open = open.unwrap();
            assert!(told.is_none() || *told == Some(open));
            assert!(told.is_none() || !(1..10).contains(&open), "{open} is told");
            hidden += usize::from(told.is_none());
        }
        assert!(hidden > 0 && hidden < told.iter().flatten().count());
        let attack = Attack::on(&Published { rows: told, rules: rules() }, |row, column| {
            let count = i64::try_from(open[row][column].unwrap()).unwrap();
            ((count - 2).max(1), count + 2)
        });
        for (cell, values) in attack.cells.iter().zip(attack.values()) {
            assert!(values.len() > 1, "{first} to {last}: {cell:?} can only be {values:?}");
        }
    }
    february.service.stop().await;
}

/// Without sealed orders a report is the one of a service that has none.
#[tokio::test(flavor = "multi_thread")]
async fn a_report_without_sealed_orders_does_not_tell_that_there_are_any() {
    let mut february = February::play().await;
    let clean = Clocked::start(
        "2021-02-10T12:00:00Z".parse().unwrap(),
        &["--journal", "memory:", ONE_PERSON[0], ONE_PERSON[1]],
    )
    .await;
    let mut orders = OrderServiceClient::connect(clean.admin.clone()).await.unwrap();
    let own = pb::OrderSpec { instrument: pb::Instrument::OwnRules.into(), ..mk_worldwide("own-rules-2021-02-10") };
    let apply = mk_apply(own, items("own-rules-2021-02-10.items.csv"));
    until_ready(async || orders.apply_order(apply.clone()).await.is_ok()).await;
    clean.hand.set("2021-07-01T00:00:00Z".parse().unwrap());
    let mut other = ReportServiceClient::connect(clean.admin.clone()).await.unwrap();
    for min_cell in [1, 10] {
        let request = pb::GetTransparencyReportRequest {
            first_month: "2021-01".to_owned(),
            last_month: "2021-06".to_owned(),
            min_cell,
            ..Default::default()
        };
        let mut told = february.reports.get_transparency_report(request.clone()).await.unwrap().into_inner();
        let mut without = other.get_transparency_report(request).await.unwrap().into_inner();
        (told.freshness, without.freshness) = (None, None);
        assert_eq!(told, without);
        assert!(told.notes[0].contains("Sealed orders are not counted"), "{:?}", told.notes);
    }
    clean.stop().await;
    february.service.stop().await;
}

async fn enforcement(reports: &mut Reports, order: &str) -> (pb::EnforcementReportHead, Vec<pb::EnforcementItem>) {
    use pb::get_enforcement_report_response::Part;
    let request = pb::GetEnforcementReportRequest { order_id: order.to_owned(), consistency: None };
    let mut parts = reports.get_enforcement_report(request).await.unwrap().into_inner();
    let Some(Part::Head(head)) = parts.message().await.unwrap().unwrap().part else { panic!("a head first") };
    let mut items = Vec::new();
    while let Some(message) = parts.message().await.unwrap() {
        let Some(Part::Items(more)) = message.part else { panic!("then items") };
        assert!(!more.items.is_empty() && more.items.len() <= 1_000);
        items.extend(more.items);
    }
    (head, items)
}

#[tokio::test(flavor = "multi_thread")]
async fn the_ministry_is_told_what_was_done_and_when_and_nothing_of_the_desk() {
    let mut february = February::play().await;
    let (head, told) = enforcement(&mut february.reports, "in-2021-01-31-emergency").await;
    let list = rows("in-2021-01-31-emergency.items.csv");
    let received: Vec<_> = told.iter().map(|item| vec![item.locator_type.clone(), item.locator.clone()]).collect();
    assert_eq!(received, list, "every item as received, in order");
    assert_eq!((head.items, head.specified_items), (258, Some(258)));
    assert_eq!((head.state(), head.redress.as_str()), (pb::OrderState::Lifted, "Write to the reviewing committee"));
    assert_eq!(head.correspondence.len(), 1);
    assert_eq!(head.correspondence[0].external_ref, "NC/1");
    let time = |text: &str| stamp(text.parse().unwrap());
    let (given, ended) = (time("2021-02-01T04:00:00Z"), time("2021-02-01T15:00:00Z"));
    assert_eq!((head.effect_given_at, head.ended_at), (given, ended));

    // By the verdicts worked out beforehand: dark after step 2, and not any more after step 3.
    let dark =
        rows("expected.csv").into_iter().filter(|row| row[0] == "2021-02-01T09:00:00Z" && row[2] == "true").count();
    let lifted: Vec<_> = told.iter().filter(|item| item.disposition() == pb::Disposition::Lifted).collect();
    let posts = list.iter().filter(|row| row[1].contains("/i/web/status/")).count();
    assert_eq!((dark, lifted.len()), (66, 66 + posts));
    for item in &lifted {
        let period = pb::EffectPeriod { from: given, until: ended, ended_by: pb::EffectEnd::Lifted.into() };
        assert_eq!(item.effect, [period]);
    }
    let protected = told.iter().filter(|item| item.disposition() == pb::Disposition::Declined);
    let causes: Vec<_> = protected.map(|item| (item.cause.as_str(), item.effect.len())).collect();
    assert_eq!(causes, [("protected", 0)].repeat(104 - 66));
    let counted: u64 = head.dispositions.iter().map(|count| count.items).sum();
    assert_eq!(counted, 258);

    // Whatever is asked for, nothing that is the desk's own is in any byte of it.
    let (other, rest) = enforcement(&mut february.reports, "in-2021-02-04").await;
    let all = format!("{head:?} {told:?} {other:?} {rest:?}");
    for secret in [
        "secret",
        "example.org",
        "because",
        "newsworthy",
        "penalties",
        "own-rules-2021",
        "\"journalist\"",
        "\"activist\"",
    ] {
        assert!(!all.contains(secret), "{secret}");
    }
    assert_eq!(rest.iter().filter(|item| item.also_removed_own_rules).count(), 523);
    february.service.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn there_is_no_notice_of_an_order_that_is_not_public_and_the_refusal_says_no_more() {
    let mut february = February::play().await;
    let mut orders = OrderServiceClient::connect(february.service.admin.clone()).await.unwrap();
    let mut quiet = mk_order("quiet", &["IN"]);
    quiet.confidentiality = pb::Confidentiality::NoticeProhibited.into();
    orders.apply_order(mk_apply(quiet, crate::harness::mk_accounts([1]))).await.unwrap();
    let mut refusals = Vec::new();
    for order in ["in-2021-02-04", "quiet"] {
        let request = pb::GetNoticeRequest { order_id: order.to_owned(), consistency: None };
        let error = february.reports.get_notice(request).await.unwrap_err();
        assert_eq!(refusal(&error), (tonic::Code::FailedPrecondition, "ORDER_NOT_PUBLIC".to_owned(), vec![]));
        refusals.push(error.message().replace(order, ""));
    }
    assert_eq!(refusals[0], refusals[1]);
    february.service.stop().await;
}
