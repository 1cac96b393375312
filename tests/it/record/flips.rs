//! One flipped bit anywhere in a journal, a snapshot, an export or a checkpoint is found, and where it is is named.

use std::path::Path;
use std::process::Command;

use withheld::audit::log;
use withheld::domain::ids::Revision;
use withheld::journal::memory::MemoryJournal;
use withheld::journal::redis::RedisJournal;
use withheld::journal::sqlite::SqliteJournal;
use withheld::journal::{Damage, Hash, Journal, JournalReader, Position, ReadError, walk};
use withheld::record::snapshot::SnapshotFile;

use super::{Record, ended};
use crate::journal::on_redis::mk_options;
use crate::redis::acl::ServiceUser;
use crate::redis::servers::RedisServer;

/// Bits of a few bytes, as many as asked for of each byte, so that each bit has its turn.
fn flips(bytes: &[u8], of_each: usize) -> impl Iterator<Item = (usize, Vec<u8>)> + '_ {
    (0..bytes.len()).flat_map(move |at| {
        (0..of_each).map(move |turn| {
            let mut bent = bytes.to_vec();
            bent[at] ^= 1 << ((at + turn) % 8);
            (at, bent)
        })
    })
}

/// The revision that a verification names.
async fn named(journal: &dyn Journal) -> u64 {
    match walk(journal, |_, _| {}).await {
        Err(ReadError::Corrupt { revision, .. }) => revision.get(),
        other => panic!("{other:?}"),
    }
}

type Rows = Vec<(Hash, Vec<u8>)>;

async fn rows(journal: &Path) -> Rows {
    let journal = SqliteJournal::open_read_only(journal).unwrap();
    let entries = journal.read(Position::START, 100).await.unwrap().entries;
    entries.iter().map(|entry| (entry.position().hash, entry.payload().to_vec())).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn every_bit_of_every_entry_and_hash_vouches_for_itself() {
    let rows = rows(&Record::written().await.journal()).await;
    let mut count = 0;
    for revision in 0..rows.len() {
        let (hash, payload) = &rows[revision];
        for (_, bent) in flips(payload, 8) {
            let mut rows = rows.clone();
            rows[revision].1 = bent;
            assert_eq!(named(&MemoryJournal::from_rows(rows)).await, revision as u64 + 1);
            count += 1;
        }
        for (_, bent) in flips(hash.as_bytes(), 8) {
            let mut rows = rows.clone();
            rows[revision].0 = Hash::from_bytes(bent.try_into().unwrap());
            assert_eq!(named(&MemoryJournal::from_rows(rows)).await, revision as u64 + 1);
            count += 1;
        }
    }
    println!("{count} bits of {} entries, each found and its revision named", rows.len());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bit_of_a_row_in_sqlite_is_found() {
    let record = Record::written().await;
    let rows = rows(&record.journal()).await;
    let db = rusqlite::Connection::open(record.journal()).unwrap();
    db.execute_batch("PRAGMA synchronous = OFF").unwrap();
    let journal = SqliteJournal::open_read_only(&record.journal()).unwrap();
    let mut count = 0;
    for (revision, (hash, payload)) in (1_u64..).zip(&rows) {
        for (column, bytes) in [("hash", hash.as_bytes().as_slice()), ("payload", payload)] {
            let update = format!("UPDATE entries SET {column} = ?2 WHERE revision = ?1");
            for (_, bent) in flips(bytes, 1) {
                db.execute(&update, (revision, bent)).unwrap();
                assert_eq!(named(&journal).await, revision);
                count += 1;
            }
            db.execute(&update, (revision, bytes)).unwrap();
        }
    }
    assert!(walk(&journal, |_, _| {}).await.is_ok());
    println!("{count} flips in {} rows, each found and its revision named", rows.len());
}

/// A page of an SQLite file.
const PAGE: usize = 4_096;

/// What comes of reading a file as a journal: nothing that can be told from what was written, or an error.
#[derive(Debug, PartialEq, Eq)]
enum Outcome {
    Named(String),
    Same,
    Shorter(Position),
    Other,
}

async fn outcome(file: &Path, rows: &Rows) -> Outcome {
    let journal = match SqliteJournal::open_read_only(file) {
        Ok(journal) => journal,
        Err(error) => {
            let said = error.to_string();
            assert!(said.contains(file.to_str().unwrap()), "{said}");
            return Outcome::Named(said);
        }
    };
    let mut read = Vec::new();
    let walked = walk(&journal, |entries, _| {
        read.extend(entries.iter().map(|entry| (entry.position().hash, entry.payload().to_vec())));
    });
    match walked.await {
        Ok(_) if read == *rows => Outcome::Same,
        Ok(end) if rows.starts_with(&read) => Outcome::Shorter(end),
        Ok(_) => Outcome::Other,
        Err(ReadError::Diverged { .. }) => Outcome::Other,
        Err(error) => Outcome::Named(error.to_string()),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bit_of_the_sqlite_file_is_found_or_changes_nothing_that_is_read() {
    let record = Record::written().await;
    let (whole, rows) = (std::fs::read(record.journal()).unwrap(), rows(&record.journal()).await);
    let (mut found, mut same) = (0_usize, 0);
    // Every bit where a page says how many entries it has and where they are: one there can hide entries from the end.
    let heads = flips(&whole, 8).filter(|(at, _)| at % PAGE < 128);
    for (at, bent) in heads.chain(flips(&whole, 1).filter(|(at, _)| at % PAGE >= 128)) {
        let copy = tempfile::tempdir().unwrap();
        let file = copy.path().join("copy.db");
        std::fs::write(&file, bent).unwrap();
        match outcome(&file, &rows).await {
            Outcome::Named(_) => found += 1,
            Outcome::Same => same += 1,
            wrong => panic!("byte {at}: {wrong:?}"),
        }
    }
    println!("{} bytes: {found} flips found, {same} in what is not read", whole.len());
    let stored: usize = rows.iter().map(|(_, payload)| payload.len() + 32).sum();
    assert!(found > stored, "each of the entries at least");
}

/// Of what has not yet been moved from the write-ahead log, SQLite takes what is whole: a journal that lost its end is
/// whole, too, and it is a checkpoint that finds it out.
#[tokio::test(flavor = "multi_thread")]
async fn a_bit_of_the_write_ahead_log_is_found_by_the_checkpoint() {
    let record = Record::empty();
    let service = record.serve(&["key"]).await;
    record.write(&service).await;
    record.checkpointed(super::ENTRIES).await;
    service.kill();
    let log = record.path("journal.db-wal");
    let (db, wal) = (std::fs::read(record.journal()).unwrap(), std::fs::read(&log).unwrap());
    let copy = |wal: &[u8]| {
        let copy = tempfile::tempdir().unwrap();
        std::fs::write(copy.path().join("copy.db"), &db).unwrap();
        std::fs::write(copy.path().join("copy.db-wal"), wal).unwrap();
        copy
    };
    let rows = rows(&copy(&wal).path().join("copy.db")).await;
    assert_eq!(rows.len() as u64, super::ENTRIES);
    let kept = log::read(&record.checkpoints(), &[record.trust.parse().unwrap()]).unwrap();
    let (mut found, mut same, mut shorter) = (0, 0, 0);
    // One byte in seven: the log is a whole page for each entry.
    for (_, bent) in flips(&wal, 1).step_by(7) {
        let copy = copy(&bent);
        let file = copy.path().join("copy.db");
        match outcome(&file, &rows).await {
            Outcome::Named(_) => found += 1,
            Outcome::Same => same += 1,
            Outcome::Shorter(_) => {
                let journal = SqliteJournal::open_read_only(&file).unwrap();
                let verified = withheld::audit::verify::verify(&journal, kept.clone(), |_, _| {}).await;
                let said = verified.unwrap_err().to_string();
                assert!(said.contains("entries were lost or taken away"), "{said}");
                shorter += 1;
            }
            Outcome::Other => panic!("what is read is not what was written"),
        }
    }
    println!("{} bytes of log: {found} named, {shorter} by the checkpoint, {same} not read", wal.len());
    assert!(shorter > 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bit_of_an_entry_on_redis_is_found() {
    let rows = rows(&Record::written().await.journal()).await;
    let server = RedisServer::start().await;
    let url = server.url_as(&ServiceUser::in_namespace("flips")).await;
    let journal = RedisJournal::open(mk_options(&url, "flips")).unwrap();
    journal.connected().await;
    let end = journal.append(Position::START, rows.iter().map(|(_, payload)| payload.clone()).collect()).await.unwrap();
    let mut redis = server.connection().await.unwrap();
    let rewrite = |rows: Vec<(Vec<u8>, Vec<u8>)>| {
        let mut rewrite = redis::pipe();
        rewrite.atomic().cmd("DEL").arg("{flips}:journal");
        for (revision, (hash, payload)) in (1..).zip(rows) {
            let id = format!("{revision}-0");
            rewrite.cmd("XADD").arg("{flips}:journal").arg(id).arg("h").arg(hash).arg("p").arg(payload);
        }
        rewrite
    };
    let stored: Vec<(Vec<u8>, Vec<u8>)> =
        rows.iter().map(|(hash, payload)| (hash.as_bytes().to_vec(), payload.clone())).collect();
    let mut count = 0;
    for at in 0..stored.len() {
        let (hash, payload) = &stored[at];
        let hashes = flips(hash, 1).map(|(_, bent)| (bent, payload.clone()));
        let payloads = flips(payload, 1).map(|(_, bent)| (hash.clone(), bent));
        for bent in hashes.chain(payloads) {
            let mut rows = stored.clone();
            rows[at] = bent;
            rewrite(rows).exec_async(&mut redis).await.unwrap();
            assert_eq!(named(&journal).await, at as u64 + 1);
            count += 1;
        }
    }
    rewrite(stored).exec_async(&mut redis).await.unwrap();
    assert_eq!(walk(&journal, |_, _| {}).await.unwrap(), end);
    // The committed mark: another hash, a later and an earlier revision.
    let mark = |revision: u64, hash: Vec<u8>| {
        let mut mark = redis::pipe();
        mark.atomic().cmd("DEL").arg("{flips}:settled");
        mark.cmd("XADD").arg("{flips}:settled").arg(format!("{revision}-0")).arg("h").arg(hash);
        mark
    };
    for (_, bent) in flips(end.hash.as_bytes(), 1) {
        mark(end.revision.get(), bent).exec_async(&mut redis).await.unwrap();
        let error = walk(&journal, |_, _| {}).await.unwrap_err();
        assert!(
            matches!(error, ReadError::Corrupt { revision, damage: Damage::End { .. } } if revision == end.revision),
            "{error}"
        );
        count += 1;
    }
    for bit in 0..4 {
        let revision = end.revision.get() ^ (1 << bit);
        mark(revision, end.hash.as_bytes().to_vec()).exec_async(&mut redis).await.unwrap();
        let first = if revision > end.revision.get() { end.revision.get() + 1 } else { revision };
        assert_eq!(named(&journal).await, first, "{revision}");
        count += 1;
    }
    println!("{count} flips on Redis, each found and its revision named");
}

#[tokio::test(flavor = "multi_thread")]
async fn every_bit_of_a_snapshot_is_found() {
    let record = Record::written().await;
    let file = SnapshotFile::at(record.path("journal.db.snapshot"));
    let whole = std::fs::read(file.path()).unwrap();
    let (_, taken) = file.read().unwrap().unwrap();
    assert_eq!(taken.position.revision, Revision::new(super::ENTRIES));
    for (at, bent) in flips(&whole, 8) {
        std::fs::write(file.path(), bent).unwrap();
        let said = file.read().unwrap_err().to_string();
        assert!(said.contains("journal.db.snapshot` is damaged"), "byte {at}: {said}");
    }
    println!("{} bytes of a snapshot, every bit found and the file named", whole.len());
}

#[tokio::test(flavor = "multi_thread")]
async fn every_bit_of_a_checkpoint_is_found() {
    let record = Record::written().await;
    let trusted = [record.trust.parse().unwrap()];
    let text = std::fs::read(record.checkpoints()).unwrap();
    let line: Vec<u8> = text.split_inclusive(|byte| *byte == b'\n').next_back().unwrap().to_vec();
    let file = record.path("bent");
    std::fs::write(&file, &line).unwrap();
    let good = log::read(&file, &trusted).unwrap();
    for (at, bent) in flips(&line, 8) {
        std::fs::write(&file, bent).unwrap();
        match log::read(&file, &trusted) {
            Err(error) => assert!(error.to_string().contains("bent`"), "{error}"),
            // The end of the line is no part of it.
            Ok(read) => assert!(at + 1 == line.len() && read == good, "byte {at}: {read:?}"),
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bit_of_an_export_is_found_by_the_program_that_auditors_are_given() {
    let record = Record::written().await;
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut python = Command::new("python3");
    python.arg(root.join("tests/python/flips.py")).arg(record.exported()).arg(&record.trust);
    let (code, out, err) = ended(python.arg(root.join("proto/withheld/journal/v1/journal.proto")));
    assert!(code == 0 && out.ends_with("each found and its line named\n"), "{out}{err}");
    println!("{out}");
}
