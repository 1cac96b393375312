//! What goes wrong in production, done to a whole fleet while clients go on; then everything that anybody was told is
//! held against the journal.
//!
//! `WITHHELD_FAULT_ROUNDS` says how often each fault is done; `make soak` sets it high. `WITHHELD_TEST_SERVER` says on
//! which server program, as everywhere where a test does not choose one itself. No test is timed: limits only bound what
//! hangs, and times are printed.

mod desks;
mod failover;
mod fleet;
mod history;
mod server;
mod traffic;

use std::fs::File;
use std::io::Write as _;
use std::sync::Arc;
use std::time::Duration;

use fleet::Fleet;
use history::{ASKED, EVERY_ACCOUNT, History, Kind, Ledger, Outcome, Violation, check, ids};

use crate::harness::BINARY;
use crate::redis::acl::log_in_to_sentinels;
use crate::redis::servers::RedisServer;

/// How often a fault is done.
fn rounds(default: u64) -> u64 {
    let given = std::env::var("WITHHELD_FAULT_ROUNDS").ok();
    given.map_or(default, |text| text.parse().expect("WITHHELD_FAULT_ROUNDS is a number"))
}

/// Prints what the replicas have logged, should the test fail.
struct TellLogs(Arc<Fleet>);

impl Drop for TellLogs {
    fn drop(&mut self) {
        if std::thread::panicking() {
            for replica in 0..self.0.size() {
                println!("--- replica {replica}\n{}", self.0.log(replica));
            }
        }
    }
}

/// Nothing acknowledged is lost, nothing is twice, every answer is true, and all replicas are the same; says what was
/// done. Nobody may be writing.
async fn assert_sound(what: &str, history: &History, fleet: &Fleet, primary: &RedisServer, journal: &str) {
    let ledger = Ledger::read(primary).await;
    let violations = check(history, &ledger);
    report(what, history, &ledger, &violations);
    assert!(violations.is_empty(), "{} violations: {:#?}", violations.len(), &violations[..violations.len().min(20)]);
    assert!(history.failed_reads.is_empty(), "queries failed: {:#?}", history.failed_reads);
    fleet.await_level(ledger.end()).await;
    let level = fleet.assert_identical(&ids(EVERY_ACCOUNT).collect::<Vec<_>>(), &ASKED).await;
    assert_eq!(level, ledger.end());
    let mut verify = std::process::Command::new(BINARY);
    verify.args(["--output", "json", "journal", "verify", "--journal", journal]);
    let verified = log_in_to_sentinels(&mut verify).output().unwrap();
    assert!(verified.status.success(), "{}", String::from_utf8_lossy(&verified.stderr));
    let verified: serde_json::Value = serde_json::from_slice(&verified.stdout).unwrap();
    assert_eq!(verified["revision"], ledger.end().to_string());
}

/// Says what was done; to the file that `WITHHELD_FAULT_TABLE` names, as a row of the table that `make soak` prints.
fn report(what: &str, history: &History, ledger: &Ledger, violations: &[Violation]) {
    let acknowledged = history.acknowledged().count();
    let lost = violations.iter().filter(|violation| matches!(violation, Violation::Lost { .. })).count();
    let count = |wanted: fn(&Outcome) -> bool| history.writes.iter().filter(|write| wanted(&write.outcome)).count();
    let refused = count(|outcome| matches!(outcome, Outcome::Refused { .. }));
    let unknown = count(|outcome| matches!(outcome, Outcome::Unknown));
    let strong = history.reads.iter().filter(|read| read.kind == Kind::Strong).count();
    let (queries, failed) = (history.reads.len(), history.failed_reads.values().sum::<u64>());
    let longest = Duration::from_nanos(history.longest_refusal()).as_secs_f64();
    println!(
        "{what}: {} revisions; {acknowledged} commands acknowledged, {lost} lost, {refused} refused, {unknown} unknown; \
         nobody was acknowledged anything for at most {longest:.2} s; {queries} queries answered, {strong} of them \
         strong, {failed} failed; told to come again: {:?}",
        ledger.end(),
        history.told_to_wait,
    );
    if let Some(table) = std::env::var_os("WITHHELD_FAULT_TABLE") {
        let mut table = File::options().create(true).append(true).open(table).unwrap();
        writeln!(table, "{what}\t{acknowledged}\t{lost}\t{unknown}\t{longest:.2}\t{queries}\t{failed}").unwrap();
    }
}
