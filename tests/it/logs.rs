//! What the log says, how, and what it must not say.

use std::collections::BTreeSet;

use serde_json::Value;
use withheld::pb::v1 as pb;

use crate::harness::{Service, mk_accounts, mk_apply, mk_batch, mk_context, mk_journal, mk_order};
use crate::redis::until;
use crate::scenario::{apply, rows};

const LISTS: [&str; 4] = [
    "in-2021-01-31-emergency.items.csv",
    "in-2021-02-04.items.csv",
    "own-rules-2021-02-10.items.csv",
    "hurried.items.csv",
];

/// An order whose every text is found again wherever it is repeated.
fn mk_telling(id: &str) -> pb::OrderSpec {
    pb::OrderSpec {
        issuing_authority: "Ministry of Telltale Affairs".to_owned(),
        legal_basis: vec!["Telltale Act, s. 69A".to_owned()],
        external_ref: "telltale-ref/2021".to_owned(),
        confidential_reason: "telltale reason".to_owned(),
        redress: "telltale redress".to_owned(),
        confidentiality: pb::Confidentiality::Sealed.into(),
        ..mk_order(id, &["IN"])
    }
}

/// The events of February 2021, mistakes among them; returns the log of a service that then ended as it should.
async fn february(flags: &[&str]) -> String {
    let (_dir, journal) = mk_journal();
    let service = Service::start_with(&journal, flags).await;
    let accounts = rows("protected-accounts.csv").into_iter().map(|row| {
        let category = pb::ProtectionCategory::from_str_name(&format!("PROTECTION_CATEGORY_{}", row[1].to_uppercase()));
        let category = category.unwrap().into();
        pb::ProtectedAccount { account_id: row[0].parse().unwrap(), category, since: None }
    });
    let request = pb::ProtectAccountsRequest { accounts: accounts.collect(), context: mk_context("", "") };
    service.protections().await.protect_accounts(request).await.unwrap();
    let mut orders = service.orders().await;
    for list in LISTS {
        apply(&service, mk_telling(&format!("telltale-{list}")), list).await;
    }
    let reason = mk_context("a telltale reason", "telltale-request");
    let order_id = format!("telltale-{}", LISTS[0]);
    let lift = pb::LiftOrderRequest { order_id: order_id.clone(), context: reason.clone(), validate_only: false };
    orders.lift_order(lift).await.unwrap();
    let text = "telltale penalties".to_owned();
    let kind = pb::CorrespondenceKind::NonComplianceNotice.into();
    let correspondence = Some(pb::Correspondence { kind, text, ..Default::default() });
    let notice = pb::RecordCorrespondenceRequest { order_id, correspondence, context: mk_context("", "") };
    orders.record_correspondence(notice).await.unwrap();
    // Refusals, too: one for the order, one for its list, one because it is there already, and one of a query.
    let mut refused = mk_telling("telltale-refused");
    refused.specified_items = Some(7);
    orders.apply_order(mk_apply(refused.clone(), mk_accounts([84_498_425_876_227_194]))).await.unwrap_err();
    refused.regime = "telltale-regime".to_owned();
    orders.apply_order(mk_apply(refused, mk_accounts([84_498_425_876_227_194]))).await.unwrap_err();
    let other = mk_telling(&format!("telltale-{}", LISTS[1]));
    orders.apply_order(mk_apply(other, mk_accounts([84_498_425_876_227_194]))).await.unwrap_err();
    service.visibility().await.batch_check(mk_batch("QQ", [84_498_425_876_227_194])).await.unwrap_err();
    service.terminate();
    until("the service has stopped", || async { service.log().contains("stopped") }).await;
    service.log()
}

/// Every id of the lists, every locator, and what [`mk_telling`] says of itself.
fn secrets() -> BTreeSet<String> {
    let mut secrets = BTreeSet::from(["elltale".to_owned()]);
    for list in LISTS.iter().chain(&["protected-accounts.csv"]) {
        for cell in rows(list).into_iter().flatten() {
            // Alone, and as it is in a link.
            let numbers = cell.split(|c: char| !c.is_ascii_digit()).map(str::to_owned);
            secrets.extend(numbers.chain([cell.trim().to_owned()]).filter(|text| text.len() > 12));
        }
    }
    assert!(secrets.len() > 2_000, "{}", secrets.len());
    secrets
}

#[tokio::test(flavor = "multi_thread")]
async fn the_events_of_february_2021_leave_no_id_and_no_text_of_an_order_in_the_log() {
    let secrets = secrets();
    for format in ["text", "json"] {
        let log = february(&["--log-format", format, "--log-level", "info"]).await;
        assert!(log.lines().count() > 5, "{log}");
        for secret in &secrets {
            assert!(!log.contains(secret), "`{secret}` is in the log:\n{log}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_log_for_programs_is_one_object_a_line() {
    let (_dir, journal) = mk_journal();
    let service = Service::start_with(&journal, &["--log-format", "json", "--log-level", "debug"]).await;
    // A line is one line, whatever is in it.
    let unreadable = pb::GetOrderRequest { order_id: "two\nlines \"quoted\"".to_owned(), consistency: None };
    service.orders().await.get_order(unreadable).await.unwrap_err();
    service.terminate();
    until("the service has stopped", || async { service.log().contains("stopped") }).await;
    let log = service.log();
    let mut messages = BTreeSet::new();
    for line in log.lines() {
        let object: Value = serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}"));
        let text = |key: &str| object[key].as_str().unwrap_or_else(|| panic!("no `{key}`: {line}")).to_owned();
        text("timestamp").parse::<jiff::Timestamp>().unwrap();
        assert!(["ERROR", "WARN", "INFO", "DEBUG"].contains(&text("level").as_str()), "{line}");
        assert!(!text("target").is_empty(), "{line}");
        messages.insert(object["fields"]["message"].as_str().unwrap_or_default().to_owned());
    }
    for message in ["configuration", "listening", "serving", "told to stop", "stopped"] {
        assert!(messages.contains(message), "`{message}` is missing: {messages:?}");
    }
}
