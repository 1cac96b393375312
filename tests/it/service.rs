//! The process: health, start, snapshots, and what it says when it cannot run.

use std::path::Path;
use std::process::{Output, Stdio};

use tonic::Code;
use tonic::transport::Channel;
use tonic_health::pb::HealthCheckRequest;
use tonic_health::pb::health_check_response::ServingStatus;
use tonic_health::pb::health_client::HealthClient;
use withheld::pb::v1 as pb;

use crate::harness::{Service, get, mk_accounts, mk_apply, mk_batch, mk_context, mk_journal, mk_order, nth, serve};
use crate::redis::until;

async fn health(endpoint: &str) -> HealthClient<Channel> {
    HealthClient::new(Channel::from_shared(endpoint.to_owned()).unwrap().connect().await.unwrap())
}

async fn status_of(endpoint: &str, service: &str) -> Result<ServingStatus, Code> {
    let request = HealthCheckRequest { service: service.to_owned() };
    let answer = health(endpoint).await.check(request).await.map_err(|status| status.code())?.into_inner();
    Ok(answer.status())
}

fn edit(journal: &Path, sql: &str) {
    let db = rusqlite::Connection::open(journal).unwrap();
    db.execute_batch(sql).unwrap();
}

/// A service that must not come up: what it says and how it ends.
fn fails(command: &mut std::process::Command) -> (Option<i32>, String) {
    let Output { status, stderr, .. } = command.stdin(Stdio::null()).output().unwrap();
    (status.code(), String::from_utf8(stderr).unwrap())
}

#[tokio::test(flavor = "multi_thread")]
async fn health_is_told_on_both_listeners_for_the_whole_and_each_service() {
    let (_dir, journal) = mk_journal();
    let service = Service::start(&journal).await;
    for (endpoint, names) in [
        (&service.queries, ["", "withheld.v1.VisibilityService"].as_slice()),
        (
            &service.admin,
            &[
                "",
                "withheld.v1.OrderService",
                "withheld.v1.ProtectionService",
                "withheld.v1.AuditService",
                "withheld.v1.JournalService",
                "withheld.v1.ReportService",
            ],
        ),
    ] {
        for name in names {
            assert_eq!(status_of(endpoint, name).await, Ok(ServingStatus::Serving), "{name}");
        }
        assert_eq!(status_of(endpoint, "withheld.v1.NoSuch").await, Err(Code::NotFound));
    }
    let mut watch = health(&service.queries).await;
    let mut watch = watch.watch(HealthCheckRequest::default()).await.unwrap().into_inner();
    assert_eq!(watch.message().await.unwrap().unwrap().status(), ServingStatus::Serving);
    service.terminate();
    assert_eq!(watch.message().await.unwrap().unwrap().status(), ServingStatus::NotServing, "told before it goes");
    drop(watch);
    assert!(service.wait().success());
}

/// Only the tail is folded after a snapshot: the entries before it are not read, or their damage would be found.
#[tokio::test(flavor = "multi_thread")]
async fn a_start_reads_the_snapshot_and_the_tail_and_no_more() {
    let (_dir, journal) = mk_journal();
    let service = Service::start(&journal).await;
    let mut orders = service.orders().await;
    for n in 0..20_u64 {
        orders.apply_order(mk_apply(mk_order(&format!("order-{n}"), &["IN"]), mk_accounts([n + 1]))).await.unwrap();
    }
    assert!(service.stop().success());
    let service = Service::start(&journal).await;
    let mut orders = service.orders().await;
    for n in 20..25_u64 {
        orders.apply_order(mk_apply(mk_order(&format!("order-{n}"), &["IN"]), mk_accounts([n + 1]))).await.unwrap();
    }
    service.kill();
    edit(&journal, "UPDATE entries SET payload = x'00' WHERE revision = 3");

    let service = Service::start(&journal).await;
    assert!(service.log().contains(&format!("state restored from snapshot revision={}", nth(20))), "{}", service.log());
    let withheld = service.visibility().await.batch_check(mk_batch("IN", 1..=30)).await.unwrap().into_inner();
    assert_eq!(withheld.accounts.len(), 25);
    service.kill();

    // A snapshot that is altered by one bit is set aside; the journal then has to be whole.
    let snapshot = journal.with_extension("db.snapshot");
    let mut bytes = std::fs::read(&snapshot).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    std::fs::write(&snapshot, &bytes).unwrap();
    let (code, said) = fails(&mut serve(&journal));
    assert_eq!(code, Some(1), "{said}");
    assert!(said.contains("snapshot set aside"), "{said}");
    assert!(said.contains("entry `3` of the journal is damaged"), "{said}");
    assert!(journal.with_extension("db.snapshot.damaged").exists());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_damaged_snapshot_costs_time_and_nothing_else() {
    let (dir, journal) = mk_journal();
    let snapshot = journal.with_extension("db.snapshot");
    let service = Service::start(&journal).await;
    let mut orders = service.orders().await;
    for n in 0..10_u64 {
        orders.apply_order(mk_apply(mk_order(&format!("order-{n}"), &["IN"]), mk_accounts([n + 1]))).await.unwrap();
    }
    assert!(service.stop().success());
    let whole = std::fs::read(&snapshot).unwrap();
    let altered = |at: usize| {
        let mut bytes = whole.clone();
        bytes[at] ^= 0x10;
        bytes
    };
    for (what, bytes) in [
        ("empty", vec![]),
        ("torn", whole[..whole.len() / 2].to_vec()),
        ("altered in front", altered(3)),
        ("altered within", altered(whole.len() / 3)),
        ("altered behind", altered(whole.len() - 1)),
        ("another file", b"SQLite format 3\0 and what follows it, which is a journal and no snapshot at all".to_vec()),
    ] {
        std::fs::write(&snapshot, bytes).unwrap();
        let service = Service::start(&journal).await;
        assert!(service.log().contains("snapshot set aside"), "{what}: {}", service.log());
        let answer = service.visibility().await.batch_check(mk_batch("IN", 1..=20)).await.unwrap().into_inner();
        assert_eq!(answer.accounts.len(), 10, "{what}");
        service.kill();
    }
    // One of another journal does not belong here, whole as it is: which of the two is to be followed, nobody guesses.
    let (_other_dir, other) = mk_journal();
    let service = Service::start(&other).await;
    let request = mk_apply(mk_order("elsewhere", &["IN"]), mk_accounts([99]));
    service.orders().await.apply_order(request).await.unwrap();
    assert!(service.stop().success());
    std::fs::copy(other.with_extension("db.snapshot"), &snapshot).unwrap();
    let (here, there) = (name_of(&journal), name_of(&other));
    let service = Service::of(serve(&journal));
    let known =
        format!("this service knows journal {there}, followed to revision {} (by `{}`)", nth(1), snapshot.display());
    let found = format!("finds journal {here} at revision {}", nth(10));
    let readyz = async || get(&service.http, "/readyz").await;
    until("it says so", async || readyz().await.1.contains(&known)).await;
    let (code, said) = readyz().await;
    assert!(code == 503 && said.contains(&found), "{said}");
    assert_eq!(status_of(&service.queries, "").await, Ok(ServingStatus::NotServing));
    // Until a person says by name which is to hold; then the other is kept beside, for who wants to look.
    let url = format!("sqlite:{}", journal.display());
    let accept = |known: &str, found: &str| {
        let names = ["--known", known, "--found", found];
        service.cli(&[["journal", "accept", "--journal", &url].as_slice(), &names].concat())
    };
    let mixed_up = accept(&here, &there);
    assert!(!mixed_up.status.success() && snapshot.exists(), "{mixed_up:?}");
    let accepted = accept(&there, &here);
    assert!(accepted.status.success(), "{accepted:?}");
    service.serving().await;
    let answer = service.visibility().await.batch_check(mk_batch("IN", 1..=99)).await.unwrap().into_inner();
    assert_eq!(answer.accounts.len(), 10);
    let kept = dir.path().read_dir().unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap());
    assert!(kept.into_iter().any(|name| name.starts_with("journal.db.snapshot.before-")), "it is kept");
}

/// What a journal is called, by the documentation: 16 bytes of the hash of its first entry.
fn name_of(journal: &Path) -> String {
    let db = rusqlite::Connection::open(journal).unwrap();
    let first = "SELECT lower(hex(substr(hash, 1, 16))) FROM entries WHERE revision = 1";
    db.query_row(first, [], |row| row.get(0)).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_service_that_cannot_run_says_why_and_what_to_do() {
    let (dir, journal) = mk_journal();
    let service = Service::start(&journal).await;
    let (code, said) = fails(&mut serve(&journal));
    assert_eq!(code, Some(1), "{said}");
    assert!(said.contains(&format!("is in use by process `{}`", service.pid())), "{said}");

    let (_other_dir, other) = mk_journal();
    let address = service.queries.trim_start_matches("http://");
    for (what, flags, wanted, hint) in [
        ("an address in use", ["--admin-listen", address], 1, "cannot listen on"),
        ("an HTTP address in use", ["--http-listen", address], 1, "cannot listen on"),
        ("no HTTP address", ["--http-listen", "9090"], 2, "or `off`"),
        ("the queries' address in use", ["--listen", address], 1, "cannot listen on"),
        ("no such journal", ["--journal", "postgres://x"], 2, "write `sqlite:PATH`"),
        ("an unknown flag", ["--jurnal", "memory:"], 2, "--journal"),
        ("a negative time", ["--drain", "-1s"], 2, "--drain"),
        ("no time", ["--drain", "soon"], 2, "90s"),
        ("a pause that leaves no time", ["--drain-pause", "20s"], 1, "make the pause shorter"),
        ("no data file", ["--regimes", "/no/such/file"], 1, "/no/such/file"),
    ] {
        let (code, said) = fails(
            std::process::Command::new(crate::harness::BINARY)
                .args(["serve"])
                .args(flags)
                .env("WITHHELD_LISTEN", "127.0.0.1:0")
                .env("WITHHELD_HTTP_LISTEN", "127.0.0.1:0")
                .env("WITHHELD_ADMIN_LISTEN", "127.0.0.1:0")
                .env("WITHHELD_JOURNAL", format!("sqlite:{}", other.display())),
        );
        assert_eq!(code, Some(wanted), "{what}: {said}");
        assert!(said.contains(hint), "{what}: {said}");
    }
    let bad = dir.path().join("groups.toml");
    std::fs::write(&bad, "[[group]]\ncode = 'EU'\nversion = '1'\ncountries = ['DE', 'QQ']\n").unwrap();
    let (code, said) = fails(serve(&other).arg("--groups").arg(&bad));
    assert_eq!(code, Some(1), "{said}");
    assert!(said.contains("`QQ`") && said.contains("`EU`"), "{said}");
}

/// Stays answers queries, and refuses to write, when the disk of its journal says no.
#[tokio::test(flavor = "multi_thread")]
async fn queries_are_answered_while_the_journal_cannot_be_written() {
    let (_dir, journal) = mk_journal();
    let service = Service::start(&journal).await;
    let mut orders = service.orders().await;
    orders.apply_order(mk_apply(mk_order("order", &["IN"]), mk_accounts([1]))).await.unwrap();
    // Another program holds SQLite's write lock on the file.
    let db = rusqlite::Connection::open(&journal).unwrap();
    db.execute_batch("BEGIN IMMEDIATE").unwrap();
    let lift = pb::LiftOrderRequest {
        order_id: "order".to_owned(),
        context: mk_context("why", "lift-1"),
        validate_only: false,
    };
    let refused = orders.lift_order(lift.clone()).await.unwrap_err();
    assert_eq!(
        (refused.code(), crate::harness::refusal(&refused).1.as_str()),
        (Code::Unavailable, "JOURNAL_UNAVAILABLE")
    );
    let answer = service.visibility().await.batch_check(mk_batch("IN", [1])).await.unwrap().into_inner();
    assert_eq!(answer.accounts.len(), 1);
    db.execute_batch("ROLLBACK").unwrap();
    let lifted = orders.lift_order(lift).await.unwrap().into_inner();
    assert!(!lifted.already_done, "what was refused had not been done");
}
