//! What is particular to the journal in a file.

use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::{Command, Stdio};

use tempfile::TempDir;
use withheld::journal::sqlite::{OpenError, SqliteJournal};
use withheld::journal::{AppendError, Journal as _, JournalReader as _, Position, verify};

use super::{append, mk_payloads, read_all};
use crate::harness::{BINARY, ONE_PERSON, Service, mk_accounts, mk_apply, mk_batch, mk_journal, mk_order, nth};

fn refused(path: &Path) -> String {
    SqliteJournal::open(path).unwrap_err().to_string()
}

#[test]
fn a_second_opening_is_refused_and_names_the_process() {
    let (_dir, path) = mk_journal();
    let journal = SqliteJournal::open(&path).unwrap();
    let second = SqliteJournal::open(&path).unwrap_err();
    assert!(matches!(&second, OpenError::Locked { pid, .. } if *pid == std::process::id().to_string()), "{second}");
    assert!(second.to_string().contains("stop that process, or give this one another --journal"), "{second}");
    drop(journal);
    SqliteJournal::open(&path).unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn others_may_look_on_and_cannot_write() {
    let (_dir, path) = mk_journal();
    let journal = SqliteJournal::open(&path).unwrap();
    append(&journal, mk_payloads(1..=3)).await;
    let onlooker = SqliteJournal::open_read_only(&path).unwrap();
    assert_eq!(read_all(&onlooker, Position::START).await.len(), 3);
    let end = append(&journal, mk_payloads(4..=5)).await;
    assert_eq!(verify(&onlooker, |_, _| {}).await.unwrap(), end);
    let written = onlooker.append(end, mk_payloads([6])).await.unwrap_err();
    assert!(matches!(written, AppendError::Unavailable(_)), "{written}");
    assert_eq!(journal.tail().await.unwrap().end, end);
}

#[test]
fn files_of_others_are_refused_and_left_as_they_are() {
    let dir = TempDir::new().unwrap();
    let foreign = dir.path().join("foreign.db");
    rusqlite::Connection::open(&foreign).unwrap().execute_batch("CREATE TABLE songs (name TEXT)").unwrap();
    let text = dir.path().join("notes.txt");
    std::fs::write(&text, "a shopping list, and not a short one, so that it is longer than any header\n".repeat(20))
        .unwrap();
    let newer = dir.path().join("newer.db");
    drop(SqliteJournal::open(&newer).unwrap());
    rusqlite::Connection::open(&newer).unwrap().execute_batch("PRAGMA user_version = 2").unwrap();
    for (path, says) in
        [(&foreign, "of another program"), (&text, "of another program"), (&newer, "use a newer withheld")]
    {
        let before = std::fs::read(path).unwrap();
        let said = refused(path);
        assert!(said.contains(says) && said.contains(path.to_str().unwrap()), "{said}");
        assert_eq!(std::fs::read(path).unwrap(), before);
        let said = SqliteJournal::open_read_only(path).unwrap_err().to_string();
        assert!(said.contains(says), "{said}");
    }
    // Empty, or with nothing in it yet: nothing to look at.
    let (empty, blank) = (dir.path().join("empty.db"), dir.path().join("blank.db"));
    std::fs::write(&empty, "").unwrap();
    rusqlite::Connection::open(&blank).unwrap().execute_batch("VACUUM").unwrap();
    for path in [&empty, &blank] {
        let said = SqliteJournal::open_read_only(path).unwrap_err().to_string();
        assert!(said.contains("there is no journal in it") && said.contains(path.to_str().unwrap()), "{said}");
    }
    assert!(refused(dir.path()).contains("cannot be opened"));
    assert!(refused(&text.join("journal.db")).contains("cannot be opened"), "a file is no directory");
}

#[test]
fn only_its_owner_can_read_it() {
    let dir = TempDir::new().unwrap();
    let path = dir.path().join("new").join("deep").join("journal.db");
    drop(SqliteJournal::open(&path).unwrap());
    let mode = |path: &Path| std::fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!((mode(&path), mode(path.parent().unwrap())), (0o600, 0o700));
}

/// Power is lost while the write-ahead log is being written: whatever part of it is left, a prefix is found.
#[tokio::test(flavor = "multi_thread")]
async fn a_torn_write_leaves_a_whole_prefix() {
    let (dir, path) = mk_journal();
    let journal = SqliteJournal::open(&path).unwrap();
    let mut payloads = Vec::new();
    for group in 0..12 {
        let numbers = group * 4..group * 4 + 4;
        append(&journal, mk_payloads(numbers.clone())).await;
        payloads.extend(mk_payloads(numbers));
    }
    let (db, log) = (std::fs::read(&path).unwrap(), std::fs::read(dir.path().join("journal.db-wal")).unwrap());
    let mut found = std::collections::BTreeSet::new();
    for cut in (0..=log.len()).rev().step_by(997) {
        let torn = TempDir::new().unwrap();
        std::fs::write(torn.path().join("journal.db"), &db).unwrap();
        std::fs::write(torn.path().join("journal.db-wal"), &log[..cut]).unwrap();
        let Ok(journal) = SqliteJournal::open(&torn.path().join("journal.db")) else {
            panic!("cut at {cut}: {}", refused(&torn.path().join("journal.db")));
        };
        let end = verify(&journal, |_, _| {}).await.unwrap().revision.get();
        let read = read_all(&journal, Position::START).await;
        assert!(read.iter().map(|entry| entry.payload()).eq(payloads.iter().take(read.len()).map(Vec::as_slice)));
        assert!(end.is_multiple_of(4), "an append in part: {end}");
        found.insert(end);
    }
    assert!(found.contains(&0) && found.contains(&48) && found.len() > 8, "{found:?}");
}

/// A disk that is full: what cannot be written is refused, what was acknowledged stays, and reads go on.
#[tokio::test(flavor = "multi_thread")]
async fn on_a_full_disk_nothing_is_half_written() {
    let (_dir, journal) = mk_journal();
    // Files may grow to a megabyte and a half, and no signal is sent where one would: a write just fails.
    let limited = r#"trap "" XFSZ; ulimit -f 3072; exec "$@""#;
    let mut command = Command::new("bash");
    let flags = ["serve", "--listen", "127.0.0.1:0", "--admin-listen", "127.0.0.1:0", "--http-listen", "127.0.0.1:0"];
    command
        .args(["-c", limited, "bash", BINARY])
        .args(flags)
        .arg("--journal")
        .arg(format!("sqlite:{}", journal.display()))
        .args(ONE_PERSON);
    let service = Service::of(command);
    service.serving().await;
    let mut orders = service.orders().await;
    let mut acknowledged = 0;
    let refused = loop {
        let list = mk_accounts(acknowledged * 2_000 + 1..=(acknowledged + 1) * 2_000);
        match orders.apply_order(mk_apply(mk_order(&format!("order-{acknowledged}"), &["IN"]), list)).await {
            Ok(_) => acknowledged += 1,
            Err(status) => break status,
        }
        assert!(acknowledged < 1_000, "the disk is never full");
    };
    assert_eq!(
        (refused.code(), crate::harness::refusal(&refused).1.as_str()),
        (tonic::Code::Unavailable, "JOURNAL_UNAVAILABLE")
    );
    assert!(refused.message().contains("nothing was changed"), "{}", refused.message());
    let withheld = async |service: &Service, order: u64| {
        let accounts = order * 2_000 + 1..=(order + 1) * 2_000;
        let answer = service.visibility().await.batch_check(mk_batch("IN", accounts)).await.unwrap();
        answer.into_inner().accounts.len()
    };
    assert_eq!((withheld(&service, 0).await, withheld(&service, acknowledged).await), (2_000, 0));
    service.kill();
    let service = Service::start(&journal).await;
    assert!(acknowledged > 0);
    for order in 0..=acknowledged {
        assert_eq!(withheld(&service, order).await, if order < acknowledged { 2_000 } else { 0 });
    }
    let verified = service.cli_json(&["journal", "verify", "--journal", &format!("sqlite:{}", journal.display())]);
    assert_eq!(verified["revision"], nth(acknowledged).to_string());
}

#[tokio::test(flavor = "multi_thread")]
async fn verify_names_the_first_bad_entry_and_fails() {
    let (_dir, path) = mk_journal();
    let service = Service::start(&path).await;
    for n in 1..=5_u64 {
        let request = mk_apply(mk_order(&format!("order-{n}"), &["IN"]), mk_accounts([n]));
        service.orders().await.apply_order(request).await.unwrap();
    }
    let verify = |flags: &[&str]| {
        let url = format!("sqlite:{}", path.display());
        let mut command = Command::new(BINARY);
        command.args(["journal", "verify", "--journal", &url]).args(flags).stdin(Stdio::null());
        let output = command.output().unwrap();
        let text = |bytes| String::from_utf8(bytes).unwrap();
        (output.status.code(), text(output.stdout), text(output.stderr))
    };
    let (code, out, _) = verify(&[]);
    let db = rusqlite::Connection::open(&path).unwrap();
    let first = "SELECT lower(hex(substr(hash, 1, 16))) FROM entries WHERE revision = 1";
    let name: String = db.query_row(first, [], |row| row.get(0)).unwrap();
    let whole = format!("the chain of journal {name} is whole: {} entries", nth(5));
    assert_eq!((code, out.contains(&whole)), (Some(0), true), "{out}");
    db.execute_batch("UPDATE entries SET payload = zeroblob(20) WHERE revision = 3").unwrap();
    let (code, out, err) = verify(&[]);
    assert_eq!((code, out.as_str()), (Some(1), ""));
    assert!(err.contains("entry `3` of the journal is damaged"), "{err}");
    let (code, _, err) = verify(&["--output", "json"]);
    let error: serde_json::Value = serde_json::from_str(&err).unwrap();
    assert_eq!(code, Some(1));
    assert!(error["error"].as_str().unwrap().contains("`3`"), "{error}");
    // A service that stands behind the damage goes on with what it knows.
    let answer = service.visibility().await.batch_check(mk_batch("IN", 1..=5)).await.unwrap().into_inner();
    assert_eq!((answer.accounts.len(), answer.freshness.unwrap().revision), (5, nth(5)));
}
