//! Who may, and what must be so: ACL users, namespaces, and servers that would lose what is acknowledged.

use std::sync::atomic::{AtomicU64, Ordering};

use super::create;
use super::{apply, look, make_journal, mk_dir, on, refused, refused_at_once, serving_on};
use crate::harness::{Service, nth};
use crate::redis::acl::{SERVICE, ServiceUser};
use crate::redis::servers::RedisServer;
use crate::redis::until;

#[tokio::test(flavor = "multi_thread")]
async fn the_user_of_the_shipped_acl_can_do_everything_and_in_another_namespace_nothing() {
    let (redis, dirs) = (RedisServer::start().await, [mk_dir(), mk_dir()]);
    make_journal(&redis.url(), &[]);
    let bare = format!("redis://127.0.0.1:{}", redis.port());
    let mut command = on(&bare, &dirs[0], &["--redis-user", SERVICE.name, "--snapshot-every", "2"]);
    let service = Service::of({
        command.env("WITHHELD_REDIS_PASSWORD", SERVICE.password);
        command
    });
    service.serving().await;
    for n in 1..=4 {
        apply(&service, &format!("order-{n}"), n).await.unwrap();
    }
    until("the snapshot is shared", async || service.log().contains("snapshot shared")).await;
    assert!(!service.log().contains(SERVICE.password), "no password in the log");

    let elsewhere = Service::of(on(&redis.url(), &dirs[1], &["--redis-namespace", "elsewhere"]));
    until("it says why", async || elsewhere.log().contains("may not touch the journal's keys `~{elsewhere}:*`")).await;
    assert!(!elsewhere.log().contains(SERVICE.password), "no password in the log");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wrong_password_is_told_and_tried_again() {
    let (redis, dir) = (RedisServer::start().await, mk_dir());
    let url = format!("redis://withheld:wrong-horse@127.0.0.1:{}", redis.port());
    let service = Service::of(on(&url, &dir, &[]));
    until("it says why", async || service.log().contains("cannot connect to Redis, trying again")).await;
    let log = service.log();
    assert!(log.contains("authentication failed") && !log.contains("wrong-horse"), "{log}");
}

#[test]
fn certificates_that_are_none_are_refused_at_the_start() {
    let dir = mk_dir();
    let none = dir.path().join("none.pem");
    std::fs::write(&none, "not a certificate").unwrap();
    let none = none.to_str().unwrap();
    for (url, flags, says) in [
        ("rediss://127.0.0.1:1", ["--redis-ca", "/nowhere.pem"], "the file `/nowhere.pem` cannot be read"),
        ("redis://127.0.0.1:1", ["--redis-ca", none], "write rediss"),
    ] {
        let output = on(url, &dir, &flags).stdin(std::process::Stdio::null()).output().unwrap();
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.code() == Some(1) && said.contains(says), "{said}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_would_lose_what_is_acknowledged_gets_nothing_to_keep() {
    let redis = RedisServer::start_with(&["appendfsync everysec"]).await;
    let dirs = [mk_dir(), mk_dir()];
    let says = "`appendfsync` is `everysec`: set it to `always`";
    // Not even a journal is made there.
    let made = create(&redis.url(), &[]);
    let said = String::from_utf8_lossy(&made.stderr);
    assert!(made.status.code() == Some(1) && said.contains(says), "{said}");
    assert_eq!(redis.ask::<u64>(&["DBSIZE"]).await, 0, "nothing is written");
    redis.config_set("appendfsync", "always").await;
    make_journal(&redis.url(), &[]);
    redis.config_set("appendfsync", "everysec").await;

    let service = serving_on(&redis.url(), &dirs[0], &[]).await;
    let reason = apply(&service, "one", 1).await.unwrap_err();
    assert!(reason.message().contains(says), "{reason}");
    // Trying again does not mend settings.
    assert_eq!(refused(&service, "one", 1).await, ("JOURNAL_NOT_DURABLE".to_owned(), "no".to_owned(), false));
    assert!(service.log().contains("nothing is written"), "{}", service.log());

    let warned = serving_on(&redis.url(), &dirs[1], &["--redis-durability", "warn"]).await;
    assert!(warned.log().contains("this server may lose what is acknowledged"), "{}", warned.log());
    apply(&warned, "one", 1).await.unwrap();
    until("the other one sees it all the same", async || look(&service, 1).await.0).await;
    // Put right while it runs, it is found out by itself.
    redis.config_set("appendfsync", "always").await;
    until("it is written", async || apply(&service, "two", 2).await.is_ok()).await;

    redis.config_set("maxmemory", "1000000000").await;
    redis.config_set("maxmemory-policy", "allkeys-lru").await;
    let orders = AtomicU64::new(2);
    until("it is found out", async || {
        let n = orders.fetch_add(1, Ordering::Relaxed);
        let refused = apply(&service, &format!("order-{n}"), n).await;
        refused.is_err_and(|refused| refused.message().contains("`maxmemory-policy` is `allkeys-lru`"))
    })
    .await;
}

/// Such a server forgets acknowledged orders at a restart, without a word.
#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_would_not_read_its_own_file_gets_nothing_to_keep() {
    let (redis, dir) = (RedisServer::start().await, mk_dir());
    redis.command(&["ACL", "SETUSER", "desk", "on", ">horse", "~*", "&*", "+@all"]).await;
    let url = format!("redis://desk:horse@127.0.0.1:{}", redis.port());
    let service = serving_on(&url, &dir, &[]).await;
    apply(&service, "one", 1).await.unwrap();
    redis.command(&["ACL", "SETUSER", "default", "resetkeys"]).await;
    let orders = AtomicU64::new(2);
    until("it is found out", async || {
        let n = orders.fetch_add(1, Ordering::Relaxed);
        let refused = apply(&service, &format!("order-{n}"), n).await;
        refused.is_err_and(|refused| refused.message().contains("user default off ~* &* +@all"))
    })
    .await;
    redis.command(&["ACL", "SETUSER", "default", "off", "~*"]).await;
    until("it is put right", async || {
        let n = orders.fetch_add(1, Ordering::Relaxed);
        apply(&service, &format!("order-{n}"), n).await.is_ok()
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_is_full_refuses_and_keeps_what_it_has() {
    let (redis, dir) = (RedisServer::start().await, mk_dir());
    let service = serving_on(&redis.url(), &dir, &[]).await;
    apply(&service, "one", 1).await.unwrap();
    redis.config_set("maxmemory", "1").await;
    assert_eq!(refused_at_once(&service, "two", 2).await, ("JOURNAL_UNAVAILABLE".to_owned(), "no".to_owned()));
    redis.config_set("maxmemory", "0").await;
    assert_eq!(apply(&service, "two", 2).await.unwrap().revision, nth(2));
}

#[tokio::test(flavor = "multi_thread")]
async fn namespaces_share_a_server_and_know_nothing_of_each_other() {
    let (redis, dirs) = (RedisServer::start().await, [mk_dir(), mk_dir()]);
    let url = async |namespace| redis.url_as(&ServiceUser::in_namespace(namespace)).await;
    let (staging, production) = (url("staging").await, url("production").await);
    let staging = serving_on(&staging, &dirs[0], &["--redis-namespace", "staging"]).await;
    let production = serving_on(&production, &dirs[1], &["--redis-namespace", "production"]).await;
    assert_eq!(apply(&staging, "one", 1).await.unwrap().revision, nth(1));
    assert_eq!(apply(&production, "two", 2).await.unwrap().revision, nth(1));
    assert!(look(&staging, 1).await.0 && !look(&staging, 2).await.0);
    assert!(look(&production, 2).await.0 && !look(&production, 1).await.0);
}
