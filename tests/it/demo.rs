//! `make demo`, as a newcomer runs it: its verdicts are right, it can be repeated, and it leaves nothing behind.

use std::io::{BufRead as _, BufReader};
use std::net::TcpListener;
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::{Command, Stdio};

use crate::harness::{BINARY, Service, mk_journal};

const ROOT: &str = env!("CARGO_MANIFEST_DIR");

fn demo(queries: &str, admin: &str) -> Command {
    let mut command = Command::new(Path::new(ROOT).join("scripts/demo"));
    command
        .env("WITHHELD_BIN", BINARY)
        .env("WITHHELD_ENDPOINT", queries)
        .env("WITHHELD_ADMIN_ENDPOINT", admin)
        .stdin(Stdio::null());
    command
}

fn play(queries: &str, admin: &str) -> String {
    let output = demo(queries, admin).output().unwrap();
    let (said, errors) = (String::from_utf8(output.stdout).unwrap(), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{said}\n{errors}");
    assert_eq!(said.matches('✗').count(), 0, "{said}");
    // Six tables of ten verdicts, and the sum.
    assert_eq!(said.matches('✓').count(), 61, "{said}");
    assert_eq!(said.matches("nobody approves their own").count(), 2, "{said}");
    said
}

/// How many of the accounts that the scenario names are withheld in a country.
fn withheld(service: &Service, country: &str) -> u64 {
    let dir = tempfile::tempdir().unwrap();
    let list = dir.path().join("accounts.csv");
    let named = std::fs::read_to_string(Path::new(ROOT).join("tests/scenario/expected.csv")).unwrap();
    let accounts = named.lines().take(1_271).map(|line| line.split(',').nth(1).unwrap());
    std::fs::write(&list, accounts.collect::<Vec<_>>().join("\n")).unwrap();
    let answer = service.cli_json(&["check", country, "--summary", "--file", list.to_str().unwrap()]);
    assert_eq!(answer["checked"], 1_270);
    answer["withheld_count"].as_u64().unwrap()
}

fn protected(service: &Service) -> serde_json::Value {
    service.cli_json(&["protect", "list"])["accounts"].clone()
}

/// An endpoint where nobody answers.
fn nobody() -> String {
    let free = TcpListener::bind("127.0.0.1:0").unwrap();
    format!("http://{}", free.local_addr().unwrap())
}

#[tokio::test(flavor = "multi_thread")]
async fn on_a_service_that_runs_it_can_be_repeated_and_puts_all_back() {
    let (dir, journal) = mk_journal();
    let service = Service::start(&journal).await;
    play(&service.queries, &service.admin);
    assert_eq!((withheld(&service, "IN"), withheld(&service, "US")), (0, 0));
    assert_eq!(protected(&service), serde_json::json!([]));

    // What others put on the list stays on it: one account of the scenario, in a category of its own, and one more.
    let list = dir.path().join("others.csv");
    std::fs::write(&list, "account_id,category\n1022611122105425723,politician\n7,own_affairs\n").unwrap();
    service.cli_json(&["protect", "add", "--file", list.to_str().unwrap()]);
    let before = protected(&service);
    play(&service.queries, &service.admin);
    assert_eq!((withheld(&service, "IN"), withheld(&service, "US")), (0, 0));
    assert_eq!(protected(&service), before);
    let orders = service.cli_json(&["order", "list"]);
    let states: Vec<_> = orders["orders"].as_array().unwrap().iter().map(|order| order["state"].clone()).collect();
    assert_eq!(states, ["lifted"; 6]);
}

#[test]
fn without_a_service_it_runs_its_own() {
    let said = play(&nobody(), &nobody());
    assert!(said.contains("nobody answers, so the demo runs its own"), "{said}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wrong_verdict_fails_it() {
    let (dir, journal) = mk_journal();
    let service = Service::start(&journal).await;
    let (order, list) = (dir.path().join("order.toml"), dir.path().join("list.csv"));
    let text = "order_id = 'other'\ninstrument = 'court_order'\nissuing_authority = 'a court'\n\
                legal_basis = ['an act']\n[territory]\ncountries = ['US']\n";
    std::fs::write(&order, text).unwrap();
    std::fs::write(&list, "1022611122105425723\n").unwrap();
    let (order, list) = (order.to_str().unwrap(), list.to_str().unwrap());
    service.cli_json(&["order", "apply", "--yes", "--file", order, "--items", list]);
    let output = demo(&service.queries, &service.admin).output().unwrap();
    let said = String::from_utf8(output.stdout).unwrap();
    assert_eq!(output.status.code(), Some(1), "{said}");
    // The count of accounts in the United States, and the news magazine there, in each of six tables; the sum.
    assert_eq!(said.matches('✗').count(), 13, "{said}");
    assert_eq!((withheld(&service, "IN"), withheld(&service, "US")), (0, 1), "the other order stays");
}

/// Runs the demo in a process group of its own and interrupts it as a terminal does, once it says something.
fn interrupt(command: &mut Command, once: &str) -> (Option<i32>, String) {
    let mut child = command.stdout(Stdio::piped()).stderr(Stdio::null()).process_group(0).spawn().unwrap();
    let (mut said, mut sent) = (String::new(), false);
    for line in BufReader::new(child.stdout.take().unwrap()).lines() {
        said.push_str(&line.unwrap());
        said.push('\n');
        if !sent && said.contains(once) {
            let group = format!("-{}", child.id());
            assert!(Command::new("kill").args(["-INT", "--", &group]).status().unwrap().success());
            sent = true;
        }
    }
    (child.wait().unwrap().code(), said)
}

#[tokio::test(flavor = "multi_thread")]
async fn interrupted_it_puts_all_back_too() {
    let (_dir, journal) = mk_journal();
    let service = Service::start(&journal).await;
    // While an order is in force, and while one waits for a second person.
    for (once, left) in [("is in force at revision", "lifted"), ("is pending approval at revision", "rejected")] {
        let (code, said) = interrupt(&mut demo(&service.queries, &service.admin), once);
        assert_eq!(code, Some(130), "{said}");
        assert!(said.contains("put back as it was"), "{said}");
        assert_eq!((withheld(&service, "IN"), withheld(&service, "US")), (0, 0));
        assert_eq!(protected(&service), serde_json::json!([]));
        assert_eq!(service.cli_json(&["order", "list", "--limit", "1"])["orders"][0]["state"], left, "{said}");
    }

    let (code, said) = interrupt(&mut demo(&nobody(), &nobody()), "is in force at revision");
    assert_eq!(code, Some(130), "{said}");
    let process = said.split("its own: process ").nth(1).and_then(|rest| rest.split(',').next()).unwrap();
    assert!(!Path::new("/proc").join(process).exists(), "its service is stopped");
}
