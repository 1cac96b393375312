//! kill -9 of the primary under a stream of orders, again and again: another takes over, and nothing that anybody was
//! told is lost.

use super::fleet::Fleet;
use super::history::JOURNAL;
use super::traffic::Traffic;
use super::{TellLogs, assert_sound, rounds};
use crate::redis::cluster::Cluster;
use crate::redis::sentinel::SentinelGroup;

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
