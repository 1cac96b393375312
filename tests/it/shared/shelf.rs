//! One snapshot for all: a new replica takes the shared one and folds only what came after.

use withheld::domain::format::Format;
use withheld::domain::ids::Revision;
use withheld::domain::state::Restore;
use withheld::journal::Hash;
use withheld::record::snapshot::SnapshotFile;

use super::{apply, look, mk_dir, serving_on, until_withheld};
use crate::redis::servers::RedisServer;
use crate::redis::until;

#[tokio::test(flavor = "multi_thread")]
async fn a_new_replica_begins_from_the_shared_snapshot() {
    let (redis, dirs) = (RedisServer::start().await, [mk_dir(), mk_dir(), mk_dir()]);
    let flags = ["--snapshot-every", "10"];
    let first = serving_on(&redis.url(), &dirs[0], &flags).await;
    for n in 1..=25 {
        apply(&first, &format!("order-{n}"), n).await.unwrap();
    }
    let shared = async || redis.ask::<Option<u64>>(&["HGET", "{withheld}:snapshot", "revision"]).await;
    until("a snapshot is shared", async || shared().await.is_some_and(|revision| revision >= 20)).await;
    let second = serving_on(&redis.url(), &dirs[1], &flags).await;
    assert!(second.log().contains("shared snapshot fetched"), "{}", second.log());
    let restored = format!("state restored from snapshot revision={}", shared().await.unwrap());
    assert!(second.log().contains(&restored), "{}", second.log());
    for n in 1..=25 {
        assert!(look(&second, n).await.0);
    }
    assert_eq!(
        super::metric(&first, "withheld_state_digest").await,
        super::metric(&second, "withheld_state_digest").await
    );

    // Old parts do not stay: each has an end, but for the one referred to.
    for n in 26..=50 {
        apply(&second, &format!("order-{n}"), n).await.unwrap();
    }
    until("a later one is shared", async || shared().await.is_some_and(|revision| revision >= 40)).await;
    // Sharing goes on meanwhile, so it is looked at until it stands still.
    until("old parts have an end, and those referred to have none", async || {
        let newest = format!("{{withheld}}:snapshot:{}", shared().await.unwrap());
        let keys: Vec<String> = redis.ask(&["KEYS", "{withheld}:snapshot:*"]).await;
        let mut so = keys.contains(&newest);
        for key in keys.iter().filter(|key| !key.ends_with(":lock")) {
            so &= (redis.ask::<i64>(&["TTL", key]).await > 0) == (*key != newest);
        }
        so
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_shared_snapshot_that_is_damaged_costs_time_and_nothing_else() {
    let (redis, dirs) = (RedisServer::start().await, [mk_dir(), mk_dir()]);
    let flags = ["--snapshot-every", "5"];
    let first = serving_on(&redis.url(), &dirs[0], &flags).await;
    for n in 1..=6 {
        apply(&first, &format!("order-{n}"), n).await.unwrap();
    }
    let shared = async || redis.ask::<Option<u64>>(&["HGET", "{withheld}:snapshot", "revision"]).await;
    until("a snapshot is shared", async || shared().await.is_some()).await;
    let key = format!("{{withheld}}:snapshot:{}", shared().await.unwrap());
    redis.command(&["HSET", &key, "0", "nothing like a snapshot"]).await;
    let second = serving_on(&redis.url(), &dirs[1], &flags).await;
    assert!(second.log().contains("snapshot set aside"), "{}", second.log());
    until_withheld(&second, 6).await;
    // A reference to parts that are gone is no trouble either.
    redis.command(&["DEL", &key]).await;
    drop(second);
    std::fs::remove_file(dirs[1].path().join("state.snapshot")).ok();
    let second = serving_on(&redis.url(), &dirs[1], &flags).await;
    until_withheld(&second, 6).await;
}

/// **One-history**: whoever can write Redis can leave a snapshot there that says what they like, with a checksum and an entry
/// that are right. It is held against the journal, and what the journal says is what counts.
#[tokio::test(flavor = "multi_thread")]
async fn a_shared_snapshot_that_somebody_made_up_does_not_last() {
    let (redis, dirs) = (RedisServer::start().await, [mk_dir(), mk_dir()]);
    let flags = ["--snapshot-every", "5"];
    let first = serving_on(&redis.url(), &dirs[0], &flags).await;
    for n in 1..=6 {
        apply(&first, &format!("order-{n}"), n).await.unwrap();
    }
    let shared = async || redis.ask::<Option<u64>>(&["HGET", "{withheld}:snapshot", "revision"]).await;
    until("a snapshot is shared", async || shared().await.is_some()).await;
    // All that is withheld is taken out of it.
    let revision = shared().await.unwrap();
    let id = format!("{revision}-0");
    let entry: Vec<(String, Vec<Vec<u8>>)> = redis.ask(&["XRANGE", "{withheld}:journal", &id, &id]).await;
    let hash = Hash::from_bytes(entry[0].1[1].clone().try_into().unwrap());
    let mut made_up = Restore::new(1);
    made_up.format(Format::NEWEST_WRITABLE);
    let state = made_up.finish(Revision::new(revision), jiff::Timestamp::now());
    let file = dirs[1].path().join("made-up.snapshot");
    SnapshotFile::at(&file).write(&state, hash, None).unwrap();
    let mut put = redis::cmd("HSET");
    put.arg(format!("{{withheld}}:snapshot:{revision}")).arg("0").arg(std::fs::read(&file).unwrap());
    put.query_async::<i64>(&mut redis.connection().await.unwrap()).await.unwrap();
    let second = serving_on(&redis.url(), &dirs[1], &flags).await;
    assert!(second.log().contains("shared snapshot fetched"), "{}", second.log());
    until("it is found out", async || second.log().contains("somebody has tampered with it")).await;
    for n in 1..=6 {
        until_withheld(&second, n).await;
    }
}
