//! Checkpoints: made by a service, and held against its journal by whoever kept them.

use std::path::Path;
use std::process::Command;

use tonic::Code;
use withheld::audit::checkpoint::Checkpoint;
use withheld::audit::log::{CheckpointLog, Line};
use withheld::audit::note::{SigningKey, VerifierKey};
use withheld::domain::ids::Revision;
use withheld::journal::{Hash, JournalName, Position};
use withheld::pb::v1 as pb;

use super::{ENTRIES, Record, ended, new_key, withheld};
use crate::harness::{BINARY, Service, get, mk_journal, nth, refusal};
use crate::redis::until;

/// Rewrites a journal from an entry on, as one with the keys to it could: everything is chained as it should be.
fn rewrite(journal: &Path, from: u64) {
    let db = rusqlite::Connection::open(journal).unwrap();
    let row = |revision: u64| -> (Vec<u8>, Vec<u8>) {
        let select = "SELECT hash, payload FROM entries WHERE revision = ?1";
        db.query_row(select, [revision], |row| Ok((row.get(0)?, row.get(1)?))).unwrap()
    };
    let mut hash = Hash::from_bytes(row(from - 1).0.try_into().unwrap());
    for revision in from..=ENTRIES {
        let mut payload = row(revision).1;
        if revision == from {
            // Somebody else did it.
            let at = payload.windows(4).position(|bytes| bytes == b"desk").unwrap();
            payload[at..at + 4].copy_from_slice(b"dusk");
        }
        hash = hash.chain(&payload);
        let update = "UPDATE entries SET hash = ?2, payload = ?3 WHERE revision = ?1";
        db.execute(update, (revision, hash.as_bytes(), payload)).unwrap();
    }
}

/// What a journal has at a revision.
fn position_of(journal: &Path, revision: u64) -> Position {
    let db = rusqlite::Connection::open(journal).unwrap();
    let select = "SELECT hash FROM entries WHERE revision = ?1";
    let hash: Vec<u8> = db.query_row(select, [revision], |row| row.get(0)).unwrap();
    Position { revision: Revision::new(revision), hash: Hash::from_bytes(hash.try_into().unwrap()) }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_journal_that_was_rewritten_or_cut_off_is_whole_and_yet_found_out() {
    let record = Record::written().await;
    let (code, out, err) = record.verify_against(&record.checkpoints());
    assert_eq!((code, out.contains(&format!("{ENTRIES} entries")) && out.contains("hold")), (0, true), "{out}{err}");
    // An earlier one, so that more is known of where it was rewritten.
    let key: SigningKey = std::fs::read_to_string(record.path("key")).unwrap().parse().unwrap();
    let position = position_of(&record.journal(), 3);
    let origin = "withheld.example.org".to_owned();
    let early = Checkpoint { origin, position, at: None }.sign(&[key]);
    std::fs::write(record.path("early"), early).unwrap();

    rewrite(&record.journal(), 5);
    assert_eq!(record.verify(&[]).0, 0, "the chain itself is whole");
    let (code, out, err) = record.verify_against(&record.checkpoints());
    assert_eq!((code, out.as_str()), (1, ""));
    assert!(err.contains(&format!("rewritten, at the latest at entry `{ENTRIES}`")), "{err}");
    let (early, late) = (record.path("early"), record.checkpoints());
    let [early, late] = [&early, &late].map(|path| path.to_str().unwrap());
    let (_, _, err) = record.verify(&["--checkpoints", late, "--checkpoints", early, "--trust", &record.trust]);
    assert!(err.contains("up to entry `3` an earlier checkpoint bears it out"), "{err}");
    assert_eq!(record.verify(&["--checkpoints", early, "--trust", &record.trust]).0, 0);

    let db = rusqlite::Connection::open(record.journal()).unwrap();
    db.execute("DELETE FROM entries WHERE revision > 6", []).unwrap();
    drop(db);
    assert_eq!(record.verify(&[]).0, 0, "the chain itself is whole");
    let (code, _, err) = record.verify_against(&record.checkpoints());
    assert_eq!(code, 1);
    assert!(err.contains("ends at revision 6") && err.contains(&format!("reached revision `{ENTRIES}`")), "{err}");
    assert!(err.contains("journal.db.checkpoints`, line"), "{err}");

    // A service that is started on it finds that out by the checkpoints alone, too: it does not follow it.
    for known in ["journal.db.snapshot", "journal.db.history"] {
        std::fs::remove_file(record.path(known)).unwrap();
    }
    let before = std::fs::read(record.checkpoints()).unwrap();
    let service = record.spawn(&["key"]);
    until("it says so", || async { service.log().contains("reason=\"unknown_history\"") }).await;
    let (code, said) = get(&service.http, "/readyz").await;
    let name = JournalName::of(position_of(&record.journal(), 1).hash).to_string();
    let says = [format!("followed to revision {ENTRIES} (by `{late}`)"), format!("finds journal {name} at revision 6")];
    assert_eq!((code, says.iter().all(|part| said.contains(part))), (503, true), "{said}");
    drop(service);

    // A person says that this is the journal that is to hold, and somebody puts what was set aside back under a service that
    // runs: it signs nothing more there.
    let (code, _, err) = record.accept(&["--known", "none", "--found", &name]);
    assert_eq!((code, record.checkpoints().exists()), (0, false), "{err}");
    let service = record.serve(&["key"]).await;
    record.checkpointed(6).await;
    std::fs::write(record.checkpoints(), &before).unwrap();
    until("it says so", || async {
        let says = format!("the journal does not have what the last checkpoint says, revision `{ENTRIES}`");
        service.log().contains(&says)
    })
    .await;
    until("it is counted", || async {
        get(&service.http, "/metrics").await.1.lines().any(|line| {
            line.strip_prefix("withheld_checkpoint_failures_total ")
                .is_some_and(|count| count.parse::<u64>().unwrap() > 0)
        })
    })
    .await;
    assert_eq!(std::fs::read(record.checkpoints()).unwrap(), before);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_checkpoint_is_made_on_demand_and_at_intervals_only_if_something_is_new() {
    let record = Record::empty();
    let service = record.serve(&["key"]).await;
    record.write(&service).await;
    record.checkpointed(ENTRIES).await;
    let made = service.audit().await.get_checkpoint(pb::GetCheckpointRequest {}).await.unwrap().into_inner();
    assert_eq!((made.revision, made.hash.len()), (ENTRIES, 32));
    let at: jiff::Timestamp = made.note.lines().nth(3).unwrap().strip_prefix("time ").unwrap().parse().unwrap();
    assert_eq!(at.as_second(), made.at.unwrap().seconds);
    let output = service.cli(&["journal", "checkpoint"]);
    std::fs::write(record.path("kept"), &output.stdout).unwrap();
    let (code, out, err) = record.verify_against(&record.path("kept"));
    assert_eq!((code, out.contains("1 checkpoint holds")), (0, true), "{out}{err}");
    assert_eq!(service.cli_json(&["journal", "checkpoint"])["revision"], ENTRIES.to_string());
    // Two more intervals pass, and nothing is written.
    let before = std::fs::read_to_string(record.checkpoints()).unwrap();
    let revision = format!("withheld_checkpoint_revision {ENTRIES}");
    until("it is told", || async { get(&service.http, "/metrics").await.1.contains(&revision) }).await;
    let passed = service.log().matches("nothing new since").count();
    until("they pass", || async { service.log().matches("nothing new since").count() >= passed + 2 }).await;
    assert_eq!(std::fs::read_to_string(record.checkpoints()).unwrap(), before);
    let told = service.log().lines().filter(|line| line.contains(&format!("checkpoint revision={ENTRIES}"))).count();
    assert_eq!(told, 1, "{}", service.log());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_is_replaced_without_a_gap_in_what_can_be_verified() {
    let record = Record::empty();
    let next = new_key(&record.path("next"));
    for (round, keys) in [["key"].as_slice(), &["key", "next"], &["next"]].into_iter().enumerate() {
        let service = record.serve(keys).await;
        let account = pb::ProtectedAccount { account_id: 1 + round as u64, category: 2, since: None };
        let context = crate::harness::mk_context("", "");
        let protect = pb::ProtectAccountsRequest { accounts: vec![account], context };
        service.protections().await.protect_accounts(protect).await.unwrap();
        record.checkpointed(nth(1 + round as u64)).await;
        assert!(service.stop().success());
    }
    let file = record.checkpoints();
    let file = file.to_str().unwrap();
    let (code, out, err) = record.verify(&["--checkpoints", file, "--trust", &record.trust, "--trust", &next]);
    assert_eq!((code, out.contains("checkpoints hold")), (0, true), "{out}{err}");
    let (code, _, err) = record.verify(&["--checkpoints", file, "--trust", &next]);
    assert_eq!((code, err.contains("line 1: no trusted key has signed it")), (1, true), "{err}");
    // Whoever has only the new one verifies what was signed by both, and since.
    let by_next = |line: &&str| {
        let line: Line = serde_json::from_str(line).unwrap();
        Checkpoint::open(&line.checkpoint, &[next.parse().unwrap()]).is_ok()
    };
    let text = std::fs::read_to_string(file).unwrap();
    let since: Vec<&str> = text.lines().filter(by_next).collect();
    assert_eq!(since.len(), 2, "{text}");
    std::fs::write(record.path("since"), since.join("\n")).unwrap();
    let since = record.path("since");
    assert_eq!(record.verify(&["--checkpoints", since.to_str().unwrap(), "--trust", &next]).0, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_key_and_with_a_bad_one_it_is_said_what_to_do() {
    let (_dir, journal) = mk_journal();
    let service = Service::start(&journal).await;
    let refused = service.audit().await.get_checkpoint(pb::GetCheckpointRequest {}).await.unwrap_err();
    let (code, reason, _) = refusal(&refused);
    assert_eq!((code, reason.as_str()), (Code::FailedPrecondition, "NO_CHECKPOINT_KEY"));
    assert!(refused.message().contains("withheld journal key new"), "{}", refused.message());

    let record = Record::empty();
    std::fs::copy(record.path("key"), record.path("none")).unwrap();
    std::fs::write(record.path("none"), "not a key\n").unwrap();
    assert_eq!(withheld(&["journal", "key", "new", "other", "--out", record.path("other").to_str().unwrap()]).0, 0);
    for (keys, says) in [("missing", "cannot be read"), ("none", "no signing key"), ("key,other", "have the same name")]
    {
        let keys: Vec<String> = keys.split(',').map(|key| record.path(key).display().to_string()).collect();
        let mut command = Command::new(BINARY);
        command.args(["serve", "--validate", "--checkpoint-key", &keys.join(",")]);
        let (code, _, err) = ended(&mut command);
        assert_eq!((code, err.contains(says)), (1, true), "{says}: {err}");
    }
    let (code, _, err) = record.verify(&["--checkpoints", "x"]);
    assert_eq!((code, err.contains("--trust")), (2, true), "{err}");
}

#[test]
fn a_line_that_a_crash_left_in_part_is_taken_away() {
    let record = Record::empty();
    let key: SigningKey = std::fs::read_to_string(record.path("key")).unwrap().parse().unwrap();
    let trusted: [VerifierKey; 1] = [key.verifier().clone()];
    let log = CheckpointLog::at(record.path("deep/log"));
    assert_eq!(log.last(&trusted).unwrap(), None);
    let mut position = Position::START;
    let keys = [key];
    for round in 1..=3_u8 {
        position = position.after(&[round]);
        let origin = "withheld.example.org".to_owned();
        let made = Checkpoint { origin, position, at: None };
        log.append(&made.sign(&keys)).unwrap();
        assert_eq!(log.last(&trusted).unwrap(), Some(made));
        let whole = std::fs::read_to_string(log.path()).unwrap();
        assert_eq!(whole.lines().count(), usize::from(round));
        std::fs::write(log.path(), format!("{whole}{{\"checkpoint\":\"with")).unwrap();
        assert_eq!(log.last(&trusted).unwrap().unwrap().position, position);
    }
}
