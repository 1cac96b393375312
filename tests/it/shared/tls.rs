//! TLS everywhere, with client certificates: to one server, and to Sentinels, servers and cluster nodes, which speak nothing
//! else among themselves either.

use std::path::PathBuf;

use super::{apply, mk_dir, on, serving_on, until_withheld};
use crate::harness::{Service, nth};
use crate::redis::cluster::Cluster;
use crate::redis::program::ServerProgram;
use crate::redis::sentinel::SentinelGroup;
use crate::redis::servers::RedisServer;
use crate::redis::setup::Setup;
use crate::redis::tls::Certificates;
use crate::redis::until;

const KEY: &str = "{withheld}:journal";

/// What the service is told of its certificates.
fn flags(certificates: &Certificates) -> [String; 6] {
    let text = |path: PathBuf| path.to_str().unwrap().to_owned();
    let [ca, cert, key] = [certificates.ca(), certificates.client_cert(), certificates.client_key()].map(text);
    ["--redis-ca".to_owned(), ca, "--redis-cert".to_owned(), cert, "--redis-key".to_owned(), key]
}

/// Two replicas of the service on one journal.
async fn two_on(url: &str, dirs: &[tempfile::TempDir; 2], certificates: &Certificates) -> [Service; 2] {
    let flags = flags(certificates);
    let flags = flags.each_ref().map(String::as_str);
    [serving_on(url, &dirs[0], &flags).await, serving_on(url, &dirs[1], &flags).await]
}

/// An order applied at one replica of the service is enforced at the other, once orders are taken.
async fn assert_enforced(services: &[Service; 2], account: u64) {
    let order = format!("order-{account}");
    until("the order is acknowledged", async || apply(&services[0], &order, account).await.is_ok()).await;
    until_withheld(&services[1], account).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn with_client_certificates_one_server_takes_the_service_and_nobody_without() {
    for program in ServerProgram::WITH_TLS {
        let (certificates, dirs) = (Certificates::mk(), [mk_dir(), mk_dir(), mk_dir()]);
        let redis = RedisServer::start_tls(program, &certificates, true).await;
        let all = flags(&certificates);
        let all = all.each_ref().map(String::as_str);
        let service = serving_on(&redis.url(), &dirs[0], &all).await;
        assert_eq!(apply(&service, "one", 1).await.unwrap().revision, nth(1));
        for (dir, flags) in [(&dirs[1], &all[..0]), (&dirs[2], &all[..2])] {
            let refused = Service::of(on(&redis.url(), dir, flags));
            until("it says why", async || refused.log().contains("cannot connect to Redis")).await;
        }
    }
}

async fn under_sentinels(program: ServerProgram) {
    let (certificates, dirs) = (Certificates::mk(), [mk_dir(), mk_dir()]);
    let group = SentinelGroup::start_as(&Setup { program, tls: Some(&certificates), ..Setup::default() }).await;
    assert!(group.url().starts_with("rediss+sentinel://"));
    let services = two_on(&group.url(), &dirs, &certificates).await;
    assert_enforced(&services, 1).await;
    let killed = group.kill_primary().await;
    group.await_failover(killed).await;
    assert_enforced(&services, 2).await;
    group.restart(killed).await;
    assert_enforced(&services, 3).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_failover_by_sentinels_over_tls_on_debian_redis() {
    under_sentinels(ServerProgram::DebianRedis).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_failover_by_sentinels_over_tls_on_redis_7_4() {
    under_sentinels(ServerProgram::Redis74).await;
}

async fn in_a_cluster(program: ServerProgram) {
    let (certificates, dirs) = (Certificates::mk(), [mk_dir(), mk_dir()]);
    let cluster = Cluster::start_as(&Setup { program, tls: Some(&certificates), ..Setup::default() }).await;
    assert!(cluster.url().starts_with("rediss+cluster://"));
    let services = two_on(&cluster.url(), &dirs, &certificates).await;
    assert_enforced(&services, 1).await;
    let killed = cluster.kill_owner(KEY).await;
    cluster.await_new_owner(KEY, killed).await;
    // The new owner has no replica until the old one is back: only then is anything acknowledged again.
    cluster.restart(killed).await;
    assert_enforced(&services, 2).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_failover_of_a_cluster_over_tls_on_debian_redis() {
    in_a_cluster(ServerProgram::DebianRedis).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_failover_of_a_cluster_over_tls_on_redis_7_4() {
    in_a_cluster(ServerProgram::Redis74).await;
}
