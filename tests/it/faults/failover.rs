//! kill -9 of the primary under a stream of orders, again and again: another takes over, and nothing that anybody was
//! told is lost.

use super::fleet::Fleet;
use super::history::{JOURNAL, SEAL};
use super::traffic::Traffic;
use super::{TellLogs, assert_sound, rounds};
use crate::harness::{mk_accounts, mk_apply, mk_order, nth, refusal};
use crate::redis::cluster::Cluster;
use crate::redis::sentinel::{NAME, SentinelGroup};
use crate::redis::servers::RedisServer;
use crate::redis::until;

const REPLICAS: usize = 3;
const OPERATORS: usize = 4;
/// So many commands are acknowledged between one fault and the next.
const BETWEEN: u64 = 20;

#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_lost_when_sentinels_replace_a_killed_primary() {
    let group = SentinelGroup::start().await;
    let fleet = Fleet::start((0..REPLICAS).map(|_| group.url()), &["--snapshot-every", "100"]).await;
    let _tell = TellLogs(fleet.clone());
    let traffic = Traffic::start(&fleet, OPERATORS);
    let rounds = rounds(3);
    for _ in 0..rounds {
        traffic.acknowledged_more(BETWEEN).await;
        let killed = group.kill_primary().await;
        group.await_failover(killed).await;
        // There is another Redis replica, so that writes go on before the old primary is back.
        traffic.acknowledged_more(BETWEEN).await;
        group.restart(killed).await;
    }
    traffic.acknowledged_more(BETWEEN).await;
    let history = traffic.stop().await;
    let primary = group.server(group.primary().await);
    let what = format!("{rounds} failovers under Sentinel");
    assert_sound(&what, &history, &fleet, primary, &group.url()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_lost_when_a_cluster_replaces_a_killed_primary() {
    let cluster = Cluster::start().await;
    let fleet = Fleet::start((0..REPLICAS).map(|_| cluster.url()), &["--snapshot-every", "100"]).await;
    let _tell = TellLogs(fleet.clone());
    let traffic = Traffic::start(&fleet, OPERATORS);
    let rounds = rounds(2);
    for _ in 0..rounds {
        traffic.acknowledged_more(BETWEEN).await;
        let killed = cluster.kill_owner(JOURNAL).await;
        cluster.await_new_owner(JOURNAL, killed).await;
        // The heir has no replica of its own until the old owner is back: only then is anything acknowledged again.
        cluster.restart(killed).await;
    }
    traffic.acknowledged_more(BETWEEN).await;
    let history = traffic.stop().await;
    let owner = cluster.node(cluster.owner_of_key(JOURNAL).await);
    let what = format!("{rounds} failovers of a cluster");
    assert_sound(&what, &history, &fleet, owner, &cluster.url()).await;
}

/// The Sentinel that leads a failover goes on showing the old primary as its master, under the new epoch already, until
/// all replicas follow the new one; that can take minutes. Meanwhile the old one may be back, and still think it is the
/// primary: whoever believes it finds another history there.
#[tokio::test(flavor = "multi_thread")]
async fn a_failover_that_takes_long_leads_nobody_back_to_the_old_primary() {
    let group = SentinelGroup::start_proxied().await;
    let fleet = Fleet::start([group.url()], &[]).await;
    let _tell = TellLogs(fleet.clone());
    for sentinel in 0..3 {
        group.sentinel(sentinel).command(&["SENTINEL", "SET", NAME, "failover-timeout", "600000"]).await;
    }
    // Whichever is promoted, the other one cannot follow it.
    group.proxy(1).wall_off(group.source(2));
    group.proxy(2).wall_off(group.source(1));
    assert_eq!(group.kill_primary().await, 0);
    let heir = group.await_failover(0).await;
    let connected = |log: &str| log.matches("connected to Redis").count();
    let to_heir = format!("connected to Redis primary=127.0.0.1:{}", group.proxy(heir).port());
    until("the service is connected to the new primary", async || fleet.log(0).contains(&to_heir)).await;
    let enough = looked_at(group.server(heir)).await + 60;
    until("it has looked there for a while", async || looked_at(group.server(heir)).await >= enough).await;
    let log = fleet.log(0);
    assert_eq!(connected(log.split(&to_heir).last().unwrap()), 0, "it went elsewhere:\n{log}");
    assert!(!log.contains("the primary was replaced from="), "it was led elsewhere:\n{log}");
}

/// One Sentinel alone, which has slept through a failover, names a primary of which nobody knows anything else. Whoever
/// follows it finds a history there that lost; that says nothing about the one that won.
#[tokio::test(flavor = "multi_thread")]
async fn a_primary_that_was_replaced_is_not_believed_about_history() {
    old_primary_is_not_believed(false, &["JOURNAL_NOT_DURABLE"]).await;
}

/// The same while the old primary still hears from a replica, as it does for a while after they have been taken away:
/// one that hears counts for nothing, only one that confirms.
#[tokio::test(flavor = "multi_thread")]
async fn a_primary_that_still_hears_of_a_replica_is_not_believed_about_history_either() {
    old_primary_is_not_believed(true, &["JOURNAL_IN_DOUBT", "JOURNAL_UNAVAILABLE"]).await;
}

async fn old_primary_is_not_believed(hears_of_a_replica: bool, refusals: &[&str]) {
    let group = SentinelGroup::start_proxied().await;
    let fleet = Fleet::start([group.url()], &[]).await;
    let _tell = TellLogs(fleet.clone());
    let orders = fleet.reach(0).unwrap().orders;
    let apply = async |n: u64| {
        let request = mk_apply(mk_order(&format!("order-{n}"), &["IN"]), mk_accounts([n]));
        orders.clone().apply_order(request).await.map_err(|status| refusal(&status).1)
    };
    for n in 1..=3 {
        until(format!("order {n} is applied"), async || apply(n).await.is_ok()).await;
    }
    group.sentinel(2).kill();
    group.isolate(0);
    // Nobody else ever has this entry.
    group.server(0).command(&["XADD", JOURNAL, &format!("{}-0", nth(4)), "h", &"h".repeat(32), "p", "payload"]).await;
    let heir = group.await_failover(0).await;
    for n in 4..=6 {
        until(format!("order {n} is applied"), async || apply(n).await.is_ok()).await;
    }
    assert_ne!(heir, 0);

    let to_old = format!("connected to Redis primary=127.0.0.1:{}", group.proxy(0).port());
    let connected = || fleet.log(0).matches(&to_old).count();
    let _idle = hears_of_a_replica.then(|| group.server(0).follow_without_confirming());
    if hears_of_a_replica {
        until("the old primary hears of a replica", async || {
            group.server(0).info("replication").await.values().any(|value| value.contains("state=online"))
        })
        .await;
    }
    let before = connected();
    group.sentinel(0).kill();
    group.sentinel(1).kill();
    group.sentinel(2).restart().await;
    until("the service is connected to the old primary", async || connected() > before).await;
    let enough = looked_at(group.server(0)).await + 20;
    until("it has looked there for a while", async || looked_at(group.server(0)).await >= enough).await;
    let refused = apply(7).await.unwrap_err();
    assert!(refusals.contains(&refused.as_str()), "{refused}");
    let seal: Option<String> = group.server(0).ask(&["GET", SEAL]).await;
    assert_eq!(seal, None);

    group.sentinel(0).restart().await;
    group.sentinel(1).restart().await;
    until("orders are applied again", async || apply(7).await.is_ok()).await;
    assert_eq!(apply(8).await.unwrap().into_inner().revision, nth(8));
}

/// How often scripts have run there: a service that is connected looks for news twice a second at least.
async fn looked_at(server: &RedisServer) -> u64 {
    let stats = server.info("commandstats").await;
    stats.get("cmdstat_evalsha").and_then(|stats| stats.split([',', '=']).nth(1)?.parse().ok()).unwrap_or(0)
}
