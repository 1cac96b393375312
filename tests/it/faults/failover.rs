//! kill -9 of the primary under a stream of orders, again and again: another takes over, and nothing that anybody was
//! told is lost.

use super::fleet::Fleet;
use super::history::JOURNAL;
use super::traffic::Traffic;
use super::{TellLogs, assert_sound, rounds};
use crate::redis::cluster::Cluster;
use crate::redis::sentinel::{NAME, SentinelGroup};
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
    let linked = |log: &str| log.matches("linked to Redis").count();
    let to_heir = format!("linked to Redis primary=127.0.0.1:{}", group.proxy(heir).port());
    until("the service is linked to the new primary", async || fleet.log(0).contains(&to_heir)).await;
    let looked = async || {
        let stats = group.server(heir).info("commandstats").await;
        stats.get("cmdstat_evalsha").and_then(|stats| stats.split([',', '=']).nth(1)?.parse::<u64>().ok()).unwrap_or(0)
    };
    let enough = looked().await + 60;
    until("it has looked there for a while", async || looked().await >= enough).await;
    let log = fleet.log(0);
    assert_eq!(linked(log.split(&to_heir).last().unwrap()), 0, "it went elsewhere:\n{log}");
    assert!(!log.contains("the primary is another one now"), "it was led elsewhere:\n{log}");
}
