//! One Redis under load: it stands still, and it crashes and loses the end of its append-only file.

use std::sync::Arc;

use super::fleet::Fleet;
use super::traffic::Traffic;
use super::{TellLogs, assert_sound, rounds};
use crate::redis::servers::RedisServer;

async fn three_replicas_under_load() -> (RedisServer, Arc<Fleet>, Traffic) {
    let server = RedisServer::start().await;
    let fleet = Fleet::start((0..3).map(|_| server.url()), &[]).await;
    let traffic = Traffic::start(&fleet, 4);
    (server, fleet, traffic)
}

/// A stopped server answers nothing and forgets nothing; what was sent to it may still be carried out when it goes on.
#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_lost_when_redis_stands_still_for_a_while() {
    let (server, fleet, traffic) = three_replicas_under_load().await;
    let _tell = TellLogs(fleet.clone());
    let rounds = rounds(3);
    for _ in 0..rounds {
        traffic.acknowledged_more(20).await;
        server.pause();
        for replica in 0..3 {
            traffic.answered_more(replica, 20).await;
        }
        server.resume();
    }
    traffic.acknowledged_more(20).await;
    let history = traffic.stop().await;
    assert_sound(&format!("{rounds} times Redis stood still"), &history, &fleet, &server, &server.url()).await;
}

/// The replicas have what the server has lost, and append it again.
#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_lost_when_a_crash_cuts_the_append_only_file() {
    let (server, fleet, traffic) = three_replicas_under_load().await;
    let _tell = TellLogs(fleet.clone());
    let rounds = rounds(3);
    for _ in 0..rounds {
        traffic.acknowledged_more(40).await;
        server.kill();
        server.truncate_aof(2_500);
        server.restart().await;
    }
    traffic.acknowledged_more(40).await;
    let mended = (0..3).any(|replica| fleet.log(replica).contains("the journal has lost its last entries"));
    assert!(mended, "nothing was lost, so that nothing was shown");
    let history = traffic.stop().await;
    assert_sound(&format!("{rounds} crashes that cut the file"), &history, &fleet, &server, &server.url()).await;
}
