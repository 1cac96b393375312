//! Why Redis is out of reach: `/readyz` and the log say the cause that stands now, by kind and in the runbook's words. What a
//! server said, and where it is, is told in the log only.

use std::process::Command;

use tempfile::TempDir;

use super::{mk_dir, on};
use crate::harness::{Service, get};
use crate::redis::acl::SERVICE;
use crate::redis::ports::Port;
use crate::redis::program::ServerProgram;
use crate::redis::sentinel::SentinelGroup;
use crate::redis::servers::RedisServer;
use crate::redis::tls::Certificates;
use crate::redis::until;

const RUNBOOK: &str = include_str!("../../../deploy/runbook.md");

/// It says so, at `/readyz` and in the log, and the runbook has the words.
async fn says(service: &Service, cause: &str) {
    until(format!("`/readyz` says: {cause}"), async || {
        let (status, text) = get(&service.http, "/readyz").await;
        assert_eq!(status, 503, "{text}");
        // No address, nor what a server said.
        assert!(!text.contains("127.0.0.1") && !text.contains("WRONGPASS") && !text.contains("os error"), "{text}");
        text.trim_end() == format!("not ready: the journal is still being loaded: {cause}")
    })
    .await;
    let logged = |line: &str| line.contains("cannot connect to Redis") && line.contains(cause);
    until(format!("the log says: {cause}"), async || {
        let log = service.log();
        log.contains(&format!("not ready: the journal is still being loaded: {cause}")) && log.lines().any(logged)
    })
    .await;
    assert!(RUNBOOK.contains(cause), "the runbook does not have: {cause}");
}

fn start(url: &str, dir: &TempDir, flags: &[&str]) -> Service {
    Service::of(on(url, dir, flags))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wrong_password_is_said_and_then_whatever_stands_in_the_way_next() {
    let (redis, dir) = (RedisServer::start().await, mk_dir());
    let wrong = redis.url().replace(SERVICE.password, "wrong-horse");
    let service = start(&wrong, &dir, &[]);
    says(&service, "wrong user or password for Redis").await;
    assert!(!service.log().contains("wrong-horse"));
    redis.kill();
    says(&service, "connection refused by Redis").await;
    redis.restart().await;
    says(&service, "wrong user or password for Redis").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wrong_password_for_the_sentinels_is_told_from_one_for_redis() {
    let (group, dirs) = (SentinelGroup::start().await, [mk_dir(), mk_dir()]);
    let mut command: Command = on(&group.url(), &dirs[0], &[]);
    command.env("WITHHELD_REDIS_SENTINEL_PASSWORD", "wrong-horse");
    let service = Service::of(command);
    says(&service, "wrong user or password for a Sentinel").await;
    // Also where one of them is down: its refusal tells less.
    group.sentinel(0).kill();
    let mut command = on(&group.url(), &dirs[1], &[]);
    command.env("WITHHELD_REDIS_SENTINEL_PASSWORD", "wrong-horse");
    says(&Service::of(command), "wrong user or password for a Sentinel").await;
    let other = group.url().replace(SERVICE.password, "wrong-horse");
    says(&start(&other, &mk_dir(), &[]), "wrong user or password for Redis").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn certificates_names_and_ports_are_told_apart() {
    let (certificates, others) = (Certificates::mk(), Certificates::mk());
    let redis = RedisServer::start_tls(ServerProgram::DebianRedis, &certificates, true).await;
    let (ca, other_ca) = (certificates.ca(), others.ca());
    let (ca, other_ca) = (ca.to_str().unwrap(), other_ca.to_str().unwrap());
    let (nobody, silent) = (Port::reserve(), RedisServer::start().await);
    silent.pause();
    let refused = format!("redis://127.0.0.1:{}", nobody.number());
    for (url, flags, cause) in [
        (redis.url().as_str(), vec!["--redis-ca", ca], "Redis wants a client certificate"),
        (&redis.url(), vec!["--redis-ca", other_ca], "the certificate of Redis is not trusted"),
        (&refused, vec![], "connection refused by Redis"),
        (&silent.url(), vec![], "no answer from Redis in time"),
        ("redis://no-such-host.invalid", vec![], "the host name of Redis cannot be resolved"),
    ] {
        let dir = mk_dir();
        says(&start(url, &dir, &flags), cause).await;
    }
}
