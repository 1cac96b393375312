//! The same on Redis: emptied, under another namespace, half deleted; and looked at by who may change nothing.

use withheld::journal::redis::{RedisJournal, RedisReader};
use withheld::journal::{AppendError, Journal as _, JournalReader as _, Position, ReadError};

use super::{apply, check, journal, not_ready};
use crate::harness::Service;
use crate::journal::on_redis::mk_options;
use crate::redis::sentinel::SentinelGroup;
use crate::redis::servers::RedisServer;
use crate::redis::{eventually, until};
use crate::shared::{mk_dir, on, serving_on};

#[tokio::test(flavor = "multi_thread")]
async fn an_emptied_redis_is_no_journal_until_a_person_says_so() {
    let (redis, dir) = (RedisServer::start().await, mk_dir());
    let service = serving_on(&redis.url(), &dir, &[]).await;
    apply(&service, "one", 1).await.unwrap();
    assert!(service.stop().success());
    redis.command(&["FLUSHALL"]).await;
    // Who knows it, and who does not: neither says that nobody is withheld.
    let knows = Service::of(on(&redis.url(), &dir, &[]));
    let said = not_ready(&knows, "without any entry").await;
    assert!(said.contains("journal accept"), "{said}");
    let fresh = mk_dir();
    let stranger = Service::of(on(&redis.url(), &fresh, &[]));
    let said = not_ready(&stranger, "there is no journal there").await;
    assert!(said.contains("journal create"), "{said}");
    for service in [&knows, &stranger] {
        assert_eq!(check(service, 1).await.unwrap_err().code(), tonic::Code::Unavailable);
        assert!(apply(service, "two", 2).await.is_err());
    }
    // Who makes another one does not make the first be forgotten.
    let created = mk_dir();
    let history = created.path().join("history").display().to_string();
    let create = ["create", "--journal", &redis.url(), "--history", &history];
    let (code, said) = journal(&create);
    assert!(code == Some(0) && said.contains("was created"), "{said}");
    let (code, said) = journal(&create);
    assert!(code == Some(0) && said.contains("was there already"), "{said}");
    stranger.serving().await;
    not_ready(&knows, "finds journal").await;
    // Nor does who made it make it again where it was lost.
    redis.command(&["FLUSHALL"]).await;
    let (code, said) = journal(&create);
    assert!(code == Some(1) && said.contains("there is no journal any more"), "{said}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wrong_namespace_is_no_empty_journal() {
    let (redis, dir) = (RedisServer::start().await, mk_dir());
    let service = serving_on(&redis.url(), &dir, &[]).await;
    apply(&service, "one", 1).await.unwrap();
    assert!(service.stop().success());
    let (url, fresh) = (redis.url(), mk_dir());
    let service = Service::of(on(&url, &fresh, &["--redis-namespace", "withheld-"]));
    not_ready(&service, "").await;
    assert_eq!(check(&service, 1).await.unwrap_err().code(), tonic::Code::Unavailable);
}

/// The entries are gone, and the mark still says that there were some.
#[tokio::test(flavor = "multi_thread")]
async fn a_mark_without_its_entries_is_damage_and_not_the_end() {
    let (redis, dir) = (RedisServer::start().await, mk_dir());
    let service = serving_on(&redis.url(), &dir, &[]).await;
    apply(&service, "one", 1).await.unwrap();
    assert!(service.stop().success());
    redis.command(&["DEL", "{withheld}:journal"]).await;
    let reader = RedisReader::open(mk_options(&redis.url(), "withheld")).unwrap();
    reader.connected().await;
    let read = reader.read(Position::START, 10).await.unwrap_err();
    assert!(matches!(read, ReadError::Corrupt { .. }), "{read}");
    assert!(read.to_string().contains("committed up to there"), "{read}");
    let writer = RedisJournal::open(mk_options(&redis.url(), "withheld")).unwrap();
    writer.connected().await;
    let appended = writer.append(Position::START, vec![b"another".to_vec()]).await.unwrap_err();
    assert!(matches!(appended, AppendError::InDoubt(_)), "{appended}");
    let length: u64 = redis.ask(&["XLEN", "{withheld}:journal"]).await;
    assert_eq!(length, 0, "nothing was written");
    let fresh = mk_dir();
    let service = Service::of(on(&redis.url(), &fresh, &[]));
    not_ready(&service, "entries were deleted").await;
}

/// **Looking commits nothing**: an entry that no replica has is there after `journal verify` as it was before.
#[tokio::test(flavor = "multi_thread")]
async fn who_only_looks_at_a_journal_commits_nothing() {
    let (redis, dir) = (RedisServer::start().await, mk_dir());
    let service = serving_on(&redis.url(), &dir, &[]).await;
    apply(&service, "one", 1).await.unwrap();
    assert!(service.stop().success());
    let reader = RedisReader::open(mk_options(&redis.url(), "withheld")).unwrap();
    reader.connected().await;
    let end = reader.tail().await.unwrap().end;
    let next = end.after(b"appended by a desk that died");
    let hash: &[u8] = next.hash.as_bytes();
    let mut append = redis::cmd("XADD");
    append
        .arg("{withheld}:journal")
        .arg(format!("{}-0", next.revision))
        .arg("h")
        .arg(hash)
        .arg("p")
        .arg(b"appended by a desk that died");
    let mut connection = redis.connection().await.unwrap();
    append.query_async::<String>(&mut connection).await.unwrap();
    for args in [&["verify"][..], &["export"], &["seal"]] {
        let (code, said) = journal(&[args, &["--journal", &redis.url()]].concat());
        assert_eq!(code, Some(0), "{said}");
    }
    tokio::time::sleep(std::time::Duration::from_millis(1_200)).await;
    let tail = reader.tail().await.unwrap();
    assert_eq!((tail.end, tail.committed), (next, end), "the entry is still nobody's");
}

/// The mark is written after WAIT and not waited for: an heir has the entry and not the mark, and nobody is level before it
/// is committed again.
#[tokio::test(flavor = "multi_thread")]
async fn a_tail_that_was_there_before_is_in_doubt_until_it_is_committed() {
    let group = SentinelGroup::start().await;
    let mut options = mk_options(&group.url(), "withheld");

    let journal = RedisJournal::open(options.clone()).unwrap();
    journal.connected().await;
    let first =
        eventually("it can be written", async || journal.append(Position::START, vec![b"one".to_vec()]).await.ok())
            .await;
    let second = journal.append(first, vec![b"two".to_vec()]).await.unwrap();
    drop(journal);
    // What the loss of the primary right after WAIT leaves: the entry, and the mark before it.
    let primary = group.primary().await;
    let server = group.server(primary);
    let mut connection = server.connection().await.unwrap();
    let mut back = redis::pipe();
    back.atomic().cmd("DEL").arg("{withheld}:settled");
    let hash: &[u8] = first.hash.as_bytes();
    back.cmd("XADD").arg("{withheld}:settled").arg("1-0").arg("h").arg(hash);
    back.exec_async(&mut connection).await.unwrap();
    let others: Vec<usize> = (0..3).filter(|at| *at != primary).collect();
    group.replicas_in_sync().await;
    for other in &others {
        group.server(*other).pause();
    }
    options.timeout = std::time::Duration::from_secs(2);
    let journal = RedisJournal::open(options).unwrap();
    journal.connected().await;
    let read = journal.read(Position::START, 10).await.unwrap();
    assert!(read.entries.len() == 1 && read.level.is_none(), "{read:?}");
    let level = journal.read(first, 10).await.unwrap_err();
    assert!(matches!(level, ReadError::InDoubt(_) | ReadError::Unavailable(_)), "{level}");
    for other in &others {
        group.server(*other).resume();
    }
    until("what may have been acknowledged is committed again", async || {
        journal
            .read(first, 10)
            .await
            .is_ok_and(|read| read.entries.last().is_some_and(|last| last.position() == second))
    })
    .await;
}
