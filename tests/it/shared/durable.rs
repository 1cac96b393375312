//! A server whose append-only file fares badly, whatever its settings say: what it would not keep is not acknowledged.

use std::fs;
use std::path::PathBuf;

use super::{apply, create_journal, mk_dir, on, serving_on};
use crate::harness::{Service, nth, refusal};
use crate::redis::program::ServerProgram;
use crate::redis::servers::RedisServer;
use crate::redis::setup::Setup;
use crate::redis::until;

/// Directories in the places of the next files that a rewrite would make: it cannot give them their names.
struct Obstacles(Vec<PathBuf>);

impl Obstacles {
    fn put(redis: &RedisServer) -> Self {
        let dir = redis.aof().parent().unwrap().to_owned();
        let places = (1..=200).map(|number| dir.join(format!("appendonly.aof.{number}.base.rdb")));
        let places: Vec<PathBuf> = places.filter(|place| !place.exists()).collect();
        places.iter().for_each(|place| fs::create_dir(place).unwrap());
        Self(places)
    }

    fn take_away(self) {
        self.0.iter().for_each(|place| fs::remove_dir(place).unwrap());
    }
}

async fn status(redis: &RedisServer) -> String {
    redis.info("persistence").await.remove("aof_last_bgrewrite_status").unwrap()
}

/// Waits until a rewrite has succeeded; the server may have begun one by itself.
async fn rewritten(redis: &RedisServer) {
    until("a rewrite has succeeded", async || {
        let _ = redis.try_command::<String>(&["BGREWRITEAOF"]).await;
        status(redis).await == "ok"
    })
    .await;
}

/// Refused by the name of what is wrong, with what to do about it.
async fn refused_by_name(service: &Service, order: &str) {
    until("it is refused by name", async || match apply(service, order, 9).await {
        Err(refused) => {
            let said = refused.message();
            refusal(&refused).1 == "JOURNAL_NOT_DURABLE"
                && said.contains("`aof_last_bgrewrite_status` is `err`")
                && said.contains("BGREWRITEAOF")
        }
        Ok(_) => false,
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_whose_rewrite_fails_acknowledges_nothing_until_one_succeeds() {
    for program in ServerProgram::ALL {
        let (redis, dir) = (RedisServer::start_as(&Setup { program, ..Setup::default() }).await, mk_dir());
        let service = serving_on(&redis.url(), &dir, &[]).await;
        apply(&service, "one", 1).await.unwrap();
        let obstacles = Obstacles::put(&redis);
        redis.command(&["BGREWRITEAOF"]).await;
        until("the rewrite has failed", async || status(&redis).await == "err").await;
        until("it is noticed", async || service.log().contains("aof_last_bgrewrite_status")).await;
        refused_by_name(&service, "two").await;
        obstacles.take_away();
        rewritten(&redis).await;
        until("it is acknowledged again", async || apply(&service, "three", 3).await.is_ok()).await;
    }
}

/// After a full resync a server has no file until the rewrite has made one. This one is promoted, and would acknowledge what is
/// in no file.
#[tokio::test(flavor = "multi_thread")]
async fn an_heir_whose_rewrite_failed_after_a_full_resync_acknowledges_nothing() {
    let (first, heir, dir) = (RedisServer::start().await, RedisServer::start().await, mk_dir());
    tokio::task::block_in_place(|| create_journal(&first.url(), &[]));
    let obstacles = Obstacles::put(&heir);
    heir.command(&["REPLICAOF", "127.0.0.1", &first.port().to_string()]).await;
    heir.catch_up_with(&first).await;
    until("its rewrite has failed", async || status(&heir).await == "err").await;
    heir.command(&["REPLICAOF", "NO", "ONE"]).await;
    first.kill();
    let service = Service::of(on(&heir.url(), &dir, &[]));
    service.serving().await;
    refused_by_name(&service, "one").await;
    obstacles.take_away();
    rewritten(&heir).await;
    until("it is acknowledged", async || apply(&service, "two", 2).await.is_ok()).await;
    assert_eq!(apply(&service, "two", 2).await.unwrap().revision, nth(1), "nothing of the first was written");
}
