//! `withheld report` as operators use it, with mistakes in it.

use std::io::Write as _;
use std::process::{Command, Stdio};

use serde_json::{Value, json};
use withheld::pb::v1 as pb;
use withheld::pb::v1::order_service_client::OrderServiceClient;
use withheld::pb::v1::report_service_client::ReportServiceClient;

use super::until_ready;
use crate::harness::{
    Service, approve, mk_accounts, mk_apply, mk_context, mk_items, mk_journal, mk_order, mk_worldwide,
};
use crate::python::python;
use crate::time::{Clocked, secs, stamp};

/// A service with a court's order that has lines of every kind in it.
async fn desk() -> (tempfile::TempDir, Service) {
    let (dir, journal) = mk_journal();
    let service = Service::start(&journal).await;
    let mut order = mk_order("court-1", &["BR", "IN"]);
    order.external_ref = "=HYPERLINK(\"x\")".to_owned();
    order.received_at = stamp("2021-02-03T00:00:00Z".parse().unwrap());
    order.issued_at = stamp("2021-02-02T12:00:00Z".parse().unwrap());
    let mut list = mk_items(LINES);
    list.items[1].decline_reason = "-1 for us, \"it is\na parody\"".to_owned();
    service.orders().await.apply_order(mk_apply(order, list)).await.unwrap();
    (dir, service)
}

const LINES: [(&str, &str); 9] = [
    ("account_id", "1022611122105425723"),
    ("account_id", "1022611122105425724"),
    ("url", "https://twitter.com/i/web/status/1189184660199785015"),
    ("url", "https://example.org/,\"quoted\";=1"),
    ("handle", "@someone"),
    ("handle", "=cmd|' /C calc'!A0"),
    ("account_id", "1.0226E+18"),
    ("handle", "'apostrophe"),
    ("+type", "two\nlines"),
];

fn run(service: &Service, args: &[&str]) -> (i32, String, String) {
    let output = service.cli(&[&["report"], args].concat());
    let text = |bytes| String::from_utf8(bytes).unwrap();
    (output.status.code().unwrap(), text(output.stdout), text(output.stderr))
}

/// CSV as Python reads it, each row by its columns.
fn read_by_python(csv: &str) -> Vec<Value> {
    let script = "import csv, io, json, sys\n\
                  print(json.dumps(list(csv.DictReader(io.StringIO(sys.stdin.read(), newline='')))))";
    let mut child = Command::new(python())
        .args(["-c", script])
        .env("PYTHONUTF8", "1")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    child.stdin.take().unwrap().write_all(csv.as_bytes()).unwrap();
    let output = child.wait_with_output().unwrap();
    serde_json::from_slice::<Value>(&output.stdout).unwrap().as_array().unwrap().clone()
}

#[tokio::test(flavor = "multi_thread")]
async fn an_enforcement_report_is_a_table_json_and_csv_that_no_spreadsheet_runs_or_rounds() {
    let (_dir, service) = desk().await;
    let (code, out, err) = run(&service, &["enforcement", "court-1"]);
    assert_eq!((code, out.contains("A court"), out.contains("9 items")), (0, true, true), "{out}{err}");

    // People are shown the first hundred.
    let long = mk_apply(mk_order("long", &["IN"]), mk_accounts(2_000..4_500));
    let waits = service.orders().await.apply_order(long).await.unwrap().into_inner().order.unwrap();
    assert_eq!(waits.state(), pb::OrderState::PendingApproval);
    approve(&mut service.orders().await, "long").await.unwrap();
    let (code, out, err) = run(&service, &["enforcement", "long"]);
    assert_eq!((code, out.contains("2099"), out.contains("2100")), (0, true, false), "{out}{err}");
    assert!(out.contains("2500 items; 2400 more, by `--csv` or `--output json`"), "{out}");
    let (_, csv, _) = run(&service, &["enforcement", "long", "--csv"]);
    assert_eq!(csv.lines().count(), 2_501);

    let report = service.cli_json(&["report", "enforcement", "court-1"]);
    let items = report["items"].as_array().unwrap();
    let received: Vec<_> = items.iter().map(|item| (&item["locator_type"], &item["locator"])).collect();
    let wanted: Vec<_> = LINES.iter().map(|(kind, locator)| (json!(kind), json!(locator))).collect();
    assert_eq!(received, wanted.iter().map(|(kind, locator)| (kind, locator)).collect::<Vec<_>>());
    assert_eq!((&report["report"]["state"], &report["report"]["items"]), (&json!("in_force"), &json!(9)));
    assert_eq!(items[0]["disposition"], "withheld");
    assert_eq!(items[0]["effect"][0]["from"], report["report"]["effect_given_at"]);
    assert_eq!(items[0]["effect"][0]["until"], Value::Null);
    assert_eq!((&items[1]["disposition"], &items[1]["cause"]), (&json!("declined"), &json!("desk")));

    let (code, csv, err) = run(&service, &["enforcement", "court-1", "--csv"]);
    assert_eq!(code, 0, "{err}");
    let rows = read_by_python(&csv);
    assert_eq!(rows.len(), LINES.len());
    for (row, (kind, locator)) in rows.iter().zip(LINES) {
        let back = |name: &str| {
            let cell = row[name].as_str().unwrap();
            let first = cell.chars().next();
            assert!(first.is_none_or(|c| !"=+-@\t\r".contains(c)), "a spreadsheet would run {cell}");
            assert!(name == "line" || first.is_none_or(|c| !c.is_ascii_digit()), "a spreadsheet would round {cell}");
            cell.strip_prefix('\'').unwrap_or(cell).to_owned()
        };
        assert_eq!((back("locator_type").as_str(), back("locator").as_str()), (kind, locator));
        assert_eq!(back("external_ref"), "=HYPERLINK(\"x\")");
    }
    assert_eq!(rows[1]["decline_reason"], "'-1 for us, \"it is\na parody\"");
    assert_eq!(json!(rows[0]["effect_given_at"]), report["report"]["effect_given_at"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_transparency_report_is_a_table_json_and_csv_with_the_same_counts() {
    let (_dir, service) = desk().await;
    let report = service.cli_json(&["report", "transparency", "--period", "2021-02", "--min-cell", "1"]);
    let row = &report["rows"][0];
    assert_eq!((&row["territory"], &row["country_codes"]), (&json!("BR+IN"), &json!(["BR", "IN"])));
    let wanted = json!({
        "orders_received": 1, "court_orders": 1, "orders_with_content_withheld": 1, "accounts_specified": 2,
        "accounts_withheld": 1, "accounts_still_withheld": 1, "accounts_declined_by_desk": 1, "posts_specified": 1,
        "posts_withheld": 1, "posts_still_withheld": 1, "items_unresolved": 6,
    });
    for (column, count) in row["counts"].as_object().unwrap() {
        assert_eq!(*count, wanted.get(column).cloned().unwrap_or(json!(0)), "{column}");
    }
    let (code, csv, err) = run(&service, &["transparency", "--from", "2021-02", "--min-cell", "1", "--csv"]);
    assert_eq!((code, err.contains("not for publication")), (0, true), "{err}");
    let rows = read_by_python(&csv);
    let territories: Vec<_> = rows.iter().map(|row| row["territory"].as_str().unwrap()).collect();
    assert_eq!(territories, ["BR+IN", "total"]);
    for (column, count) in row["counts"].as_object().unwrap() {
        assert_eq!(rows[0][column], json!(count.to_string()), "{column}");
    }

    // Everything is small here, so nothing but what is 0 is told.
    let hidden = service.cli_json(&["report", "transparency", "--period", "2021-H1"]);
    for (column, count) in hidden["rows"][0]["counts"].as_object().unwrap() {
        let told = if wanted.get(column).is_some() { Value::Null } else { json!(0) };
        assert_eq!(*count, told, "{column}");
    }
    let (_, csv, _) = run(&service, &["transparency", "--period", "2021-H1", "--csv"]);
    let rows = read_by_python(&csv);
    assert_eq!((&rows[0]["orders_received"], &rows[0]["agency_requests"]), (&json!("*"), &json!("0")));
    let (code, out, _) = run(&service, &["transparency", "--period", "2021"]);
    assert_eq!((code, out.contains("BR+IN"), out.contains("*: suppressed")), (0, true, true), "{out}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_notice_is_what_lumen_takes_with_links_as_received_and_no_account() {
    let (_dir, service) = desk().await;
    let notice = &service.cli_json(&["report", "notice", "court-1"])["notice"];
    let urls: Vec<_> = LINES.iter().filter(|(kind, _)| *kind == "url").map(|(_, url)| json!({"url": url})).collect();
    assert_eq!(notice["works_attributes"], json!([{"infringing_urls_attributes": urls}]));
    assert_eq!((&notice["type"], &notice["action_taken"]), (&json!("CourtOrder"), &json!("Partial")));
    assert_eq!((&notice["date_sent"], &notice["date_received"]), (&json!("2021-02-02"), &json!("2021-02-03")));
    assert_eq!((&notice["jurisdiction_list"], &notice["regulation_list"]), (&json!("BR, IN"), &json!("An act, s. 1")));
    let roles: Vec<_> =
        notice["entity_notice_roles_attributes"].as_array().unwrap().iter().map(|e| &e["name"]).collect();
    assert_eq!(roles, ["sender", "principal", "issuing_court"]);
    let text = notice.to_string();
    for left_out in ["1022611122105425723", "@someone", "parody", "desk@"] {
        assert!(!text.contains(left_out), "{left_out}: {text}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn mistakes_are_told_by_name_and_what_to_do() {
    let (_dir, service) = desk().await;
    let mut orders = service.orders().await;
    orders.apply_order(mk_apply(mk_worldwide("waits"), mk_accounts([1]))).await.unwrap();
    let year = 1 + jiff::Timestamp::now().strftime("%Y").to_string().parse::<u16>().unwrap();
    let future = format!("{year}-01");
    for (args, code, says) in [
        (["enforcement", "no-such"].as_slice(), 1, "there is no order `no-such`"),
        (&["enforcement", "waits"], 1, "order `waits` is pending approval: it cannot be reported on"),
        (&["enforcement", "a b"], 1, "`a b`"),
        (&["notice", "no-such"], 1, "there is no order `no-such`"),
        (&["notice", "waits"], 1, "order `waits` is pending approval: it cannot be reported on"),
        (
            &["transparency", "--from", "2021-02", "--to", "2021-01"],
            1,
            "ends with `2021-01`, before it begins with `2021-02`",
        ),
        (&["transparency", "--period", &future], 1, "is not over yet"),
        (&["transparency", "--from", "2021-13"], 1, "`2021-13` is not a month: write it like 2021-02"),
        (&["transparency", "--period", "2021-02", "--min-cell", "2"], 1, "take 3 or more, or 1 for none"),
        (&["transparency", "--period", "2021-02", "--min-cell", "1001"], 1, "at most 1000"),
        (&["transparency", "--period", "2021-02", "--min-cell", "0"], 2, "0 is not in 1.."),
        (&["transparency", "--period", "February"], 2, "write a month, quarter, half-year or year"),
        (&["transparency", "--period", "2021-02", "--from", "2021-01"], 2, "cannot be used with"),
        (&["transparency", "--to", "2021-01"], 2, "--from"),
        (&["transparency"], 2, "--period"),
    ] {
        let (ended, out, err) = run(&service, args);
        assert_eq!((ended, out.as_str()), (code, ""), "{args:?}: {err}");
        assert!(err.contains(says), "{args:?}: {err}");
    }
    let output = service.cli(&["--output", "json", "report", "enforcement", "court-1", "--csv"]);
    assert_eq!(output.status.code(), Some(2));
    // What waits, and was never approved, is in no report.
    let report = service.cli_json(&["report", "transparency", "--period", "2021-02", "--min-cell", "1"]);
    assert_eq!(report["rows"].as_array().unwrap().len(), 1);
}

/// Stayed, resumed, lifted item by item, expired: each item is told its own periods of effect.
#[tokio::test(flavor = "multi_thread")]
async fn effect_is_told_period_by_period_and_item_by_item() {
    let start: jiff::Timestamp = "2021-02-01T00:00:00Z".parse().unwrap();
    let service = Clocked::start(start, &["--journal", "memory:"]).await;
    let mut orders = OrderServiceClient::connect(service.admin.clone()).await.unwrap();
    let mut reports = ReportServiceClient::connect(service.admin.clone()).await.unwrap();
    let hour = |hours: i64| start + secs(3_600 * hours);
    let mut order = mk_order("order", &["IN"]);
    (order.effective_from, order.expires_at) = (stamp(hour(1)), stamp(hour(9)));
    let apply = mk_apply(order, mk_accounts([1, 2, 3, 2]));
    until_ready(async || orders.apply_order(apply.clone()).await.is_ok()).await;
    let order_id = || "order".to_owned();
    let lift = |id| pb::LiftItemsRequest {
        order_id: order_id(),
        items: Some(pb::lift_items_request::Items::ItemList(mk_accounts([id]))),
        context: mk_context("a mistake", ""),
        validate_only: false,
    };
    // The third never gets that far.
    orders.lift_items(lift(3)).await.unwrap();
    service.hand.set(hour(2));
    let stay = pb::StayOrderRequest { order_id: order_id(), context: mk_context("a court", ""), validate_only: false };
    orders.stay_order(stay).await.unwrap();
    service.hand.set(hour(4));
    let resume =
        pb::ResumeOrderRequest { order_id: order_id(), context: mk_context("the court", ""), validate_only: false };
    orders.resume_order(resume).await.unwrap();
    service.hand.set(hour(6));
    orders.lift_items(lift(2)).await.unwrap();

    use pb::EffectEnd::{Expired, Lifted, Stayed, Unspecified};
    let period = |from, until: Option<i64>, by: pb::EffectEnd| pb::EffectPeriod {
        from: stamp(hour(from)),
        until: until.and_then(|until| stamp(hour(until))),
        ended_by: by.into(),
    };
    let first = period(1, Some(2), Stayed);
    for (now, last) in [(7, period(4, None, Unspecified)), (10, period(4, Some(9), Expired))] {
        service.hand.set(hour(now));
        let request = pb::GetEnforcementReportRequest { order_id: order_id(), consistency: None };
        let mut parts = reports.get_enforcement_report(request).await.unwrap().into_inner();
        let mut told = Vec::new();
        while let Some(message) = parts.message().await.unwrap() {
            if let Some(pb::get_enforcement_report_response::Part::Items(items)) = message.part {
                told.extend(items.items.into_iter().map(|item| (item.disposition(), item.cause, item.effect)));
            }
        }
        use pb::Disposition::{Lifted as WasLifted, NoAction, Withheld};
        let lifted = vec![first, period(4, Some(6), Lifted)];
        let none = String::new;
        assert_eq!(
            told,
            [
                (Withheld, none(), vec![first, last]),
                (WasLifted, none(), lifted),
                (WasLifted, none(), vec![]),
                (NoAction, "duplicate".to_owned(), vec![]),
            ]
        );
    }
    service.stop().await;
}
