//! The events of February 2021, played through real gRPC, against the verdicts worked out beforehand.

use std::collections::BTreeMap;
use std::path::Path;

use withheld::pb::v1 as pb;

use crate::harness::{Service, approve, mk_context, mk_journal, mk_order};

const DIR: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/scenario");

pub fn rows(file: &str) -> Vec<Vec<String>> {
    let mut reader = csv::Reader::from_path(Path::new(DIR).join(file)).unwrap();
    reader.records().map(|row| row.unwrap().iter().map(str::to_owned).collect()).collect()
}

pub fn items(file: &str) -> pb::ItemList {
    let item = |(line, row): (u32, Vec<String>)| pb::Item {
        locator_type: row[0].clone(),
        locator: row[1].clone(),
        line,
        ..Default::default()
    };
    pb::ItemList { items: (2..).zip(rows(file)).map(item).collect() }
}

/// For each step, each account's verdict for IN and US.
fn expected() -> BTreeMap<String, Vec<(u64, bool, bool)>> {
    let mut steps: BTreeMap<String, Vec<(u64, bool, bool)>> = BTreeMap::new();
    for row in rows("expected.csv") {
        let verdict = (row[1].parse().unwrap(), row[2] == "true", row[3] == "true");
        steps.entry(row[0].clone()).or_default().push(verdict);
    }
    steps
}

async fn compare(service: &Service, step: &str) -> usize {
    let steps = expected();
    let verdicts = &steps[step];
    let ids: Vec<u64> = verdicts.iter().map(|(id, ..)| *id).collect();
    let mut visibility = service.visibility().await;
    for (country, wanted) in [("IN", 0), ("US", 1)] {
        let request = pb::BatchCheckRequest {
            viewer_country: country.to_owned(),
            account_ids: ids.clone(),
            ..Default::default()
        };
        let answer = visibility.batch_check(request).await.unwrap().into_inner();
        let withheld: Vec<u32> = answer.accounts.iter().map(|entry| entry.index).collect();
        let should: Vec<u32> = (0..)
            .zip(verdicts)
            .filter(|(_, (_, india, us))| if wanted == 0 { *india } else { *us })
            .map(|(at, _)| at)
            .collect();
        assert_eq!(withheld, should, "{step} in {country}");
    }
    verdicts.len()
}

pub async fn apply(service: &Service, order: pb::OrderSpec, file: &str) -> pb::Order {
    let mut orders = service.orders().await;
    let preview = pb::PreviewOrderRequest {
        order: Some(order.clone()),
        items: Some(pb::preview_order_request::Items::ItemList(items(file))),
    };
    let preview = orders.preview_order(preview).await.unwrap().into_inner();
    let apply = pb::ApplyOrderRequest {
        order: Some(order),
        items: Some(pb::apply_order_request::Items::ItemList(items(file))),
        context: mk_context("", ""),
        preview_digest: preview.digest,
    };
    let applied = orders.apply_order(apply).await.unwrap().into_inner().order.unwrap();
    assert_eq!(applied.dispositions, preview.order.unwrap().dispositions, "applying does what the preview said");
    assert_eq!(applied.state() == pb::OrderState::PendingApproval, !preview.approval_grounds.is_empty());
    applied
}

/// Has an order proposed that takes two. As long as it waits every verdict is that of the step before, also after a
/// crash; then somebody else approves it.
async fn propose(service: Service, journal: &Path, order: pb::OrderSpec, file: &str, before: &str) -> (Service, usize) {
    let id = order.order_id.clone();
    let proposed = apply(&service, order, file).await;
    assert_eq!(proposed.state(), pb::OrderState::PendingApproval);
    let mut compared = compare(&service, before).await;
    let service = restart(service, journal).await;
    compared += compare(&service, before).await;
    let approved = approve(&mut service.orders().await, &id).await.unwrap().order.unwrap();
    assert_eq!((approved.state(), &approved.dispositions), (pb::OrderState::InForce, &proposed.dispositions));
    let approval = approved.approval.unwrap();
    assert_eq!(
        (approval.proposed_by.as_str(), approval.decided_by.as_str()),
        ("desk@example.org", "second@example.org")
    );
    (service, compared)
}

/// Killed as a machine's power loss would, and started again on what it left.
async fn restart(service: Service, journal: &Path) -> Service {
    service.kill();
    Service::start(journal).await
}

#[tokio::test(flavor = "multi_thread")]
async fn every_verdict_of_february_2021_before_and_after_a_crash() {
    let (_dir, journal) = mk_journal();
    let mut service = Service::start(&journal).await;
    let mut compared = 0;

    let accounts = rows("protected-accounts.csv").into_iter().map(|row| {
        let category = format!("PROTECTION_CATEGORY_{}", row[1].to_uppercase());
        let category = pb::ProtectionCategory::from_str_name(&category).unwrap().into();
        pb::ProtectedAccount { account_id: row[0].parse().unwrap(), category, since: None }
    });
    let request = pb::ProtectAccountsRequest { accounts: accounts.collect(), context: mk_context("", "") };
    let done = service.protections().await.protect_accounts(request).await.unwrap().into_inner();
    assert_eq!(done.added, 569);
    compared += compare(&service, "2021-01-31T20:00:00Z").await;

    let mut first = mk_order("in-2021-01-31-emergency", &["IN"]);
    first.instrument = pb::Instrument::EmergencyInterimOrder.into();
    first.regime = "in-69a-emergency".to_owned();
    first.specified_items = Some(258);
    let order = apply(&service, first, "in-2021-01-31-emergency.items.csv").await;
    assert!(order.spec.unwrap().review_due_at.is_some(), "the regime's review within 48 hours");
    for _ in 0..2 {
        compared += compare(&service, "2021-02-01T09:00:00Z").await;
        service = restart(service, &journal).await;
    }

    let lift = pb::LiftOrderRequest {
        order_id: "in-2021-01-31-emergency".to_owned(),
        context: mk_context("free speech and newsworthy", ""),
        validate_only: false,
    };
    let lifted = service.orders().await.lift_order(lift).await.unwrap().into_inner();
    let effect = lifted.effect.unwrap();
    assert_eq!((effect.accounts_changed, effect.posts_changed, effect.unchanged), (66, 153, 0));
    for _ in 0..2 {
        compared += compare(&service, "2021-02-01T21:00:00Z").await;
        service = restart(service, &journal).await;
    }

    let notice = pb::RecordCorrespondenceRequest {
        order_id: "in-2021-01-31-emergency".to_owned(),
        correspondence: Some(pb::Correspondence {
            kind: pb::CorrespondenceKind::NonComplianceNotice.into(),
            text: "penalties under s. 69A(3)".to_owned(),
            ..Default::default()
        }),
        context: mk_context("", ""),
    };
    service.orders().await.record_correspondence(notice).await.unwrap();
    let mut second = mk_order("in-2021-02-04", &["IN"]);
    second.specified_items = Some(1_178);
    let waits;
    (service, waits) = propose(service, &journal, second, "in-2021-02-04.items.csv", "2021-02-01T21:00:00Z").await;
    compared += waits;
    for _ in 0..2 {
        compared += compare(&service, "2021-02-05T12:00:00Z").await;
        service = restart(service, &journal).await;
    }

    let mut own = mk_order("own-rules-2021-02-10", &[]);
    own.instrument = pb::Instrument::OwnRules.into();
    own.territory = Some(pb::Territory { territory: Some(pb::territory::Territory::Worldwide(true)) });
    let waits;
    (service, waits) = propose(service, &journal, own, "own-rules-2021-02-10.items.csv", "2021-02-05T12:00:00Z").await;
    compared += waits;
    for _ in 0..2 {
        compared += compare(&service, "2021-02-10T12:00:00Z").await;
        service = restart(service, &journal).await;
    }
    // Every step but the first twice, before and after the crash; and twice while each of two orders waits.
    assert_eq!(compared, 1_270 * 13);

    let show = service.cli_json(&["order", "show", "in-2021-01-31-emergency"]);
    assert_eq!(show["state"], "lifted");
    assert_eq!(show["history"][2]["correspondence"]["kind"], "non_compliance_notice");
    let verified = service.cli_json(&["journal", "verify", "--journal", &format!("sqlite:{}", journal.display())]);
    assert_eq!(verified["valid"], true);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hurried_list_is_resolved_without_guessing() {
    let (_dir, journal) = mk_journal();
    let service = Service::start(&journal).await;
    let order = apply(&service, mk_order("hurried", &["IN"]), "hurried.items.csv").await;
    let counted = |disposition: pb::Disposition| {
        let counts = order.dispositions.iter().filter(move |c| c.disposition == i32::from(disposition));
        counts.map(|c| (c.cause.as_str(), c.items)).collect::<BTreeMap<_, _>>()
    };
    assert_eq!(order.items, 14);
    assert_eq!(counted(pb::Disposition::Withheld), BTreeMap::from([("", 3)]));
    assert_eq!(
        counted(pb::Disposition::NoAction),
        BTreeMap::from([
            ("duplicate", 1),
            ("rounded_id", 1),
            ("not_an_id", 2),
            ("zero_id", 1),
            ("id_too_large", 1),
            ("handle", 1),
            ("empty_locator", 2),
            ("foreign_link", 1),
            ("unknown_locator_type", 1),
        ])
    );
    let items = service.cli_json(&["order", "items", "hurried", "--disposition", "withheld"]);
    let lines: Vec<_> = items["items"].as_array().unwrap().iter().map(|item| item["line"].as_u64().unwrap()).collect();
    assert_eq!(lines, [2, 11, 12]);
}
