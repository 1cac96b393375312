//! The cluster fails over, moves slots, and is whole again when what was down is back.

use std::time::Instant;

use super::*;

const KEY: &str = "{withheld}:key";

#[tokio::test]
async fn a_replica_takes_over_the_slot_of_a_killed_owner_which_comes_back_as_a_replica() {
    let started = Instant::now();
    let cluster = Cluster::start().await;
    println!("started in {:?}", started.elapsed());
    let owner = cluster.owner_of_key(KEY).await;
    cluster.node(owner).command(&["SET", KEY, "value"]).await;
    cluster.replicas_in_sync(KEY).await;
    let killed = Instant::now();
    assert_eq!(cluster.kill_owner(KEY).await, owner);
    let heir = cluster.await_new_owner(KEY, owner).await;
    println!("failed over in {:?}", killed.elapsed());
    assert_eq!(heir, owner + 3);
    assert_eq!(cluster.node(heir).ask::<String>(&["GET", KEY]).await, "value");
    let back = Instant::now();
    cluster.restart(owner).await;
    println!("back as a replica in {:?}", back.elapsed());
    assert_eq!(cluster.node(owner).info("replication").await["role"], "slave");
    assert_eq!(cluster.owner_of_key(KEY).await, heir);
}

#[tokio::test]
async fn a_slot_moves_with_its_keys_and_askers_are_sent_on() {
    let cluster = Cluster::start().await;
    let from = cluster.owner_of_key(KEY).await;
    let to = (from + 1) % PRIMARIES;
    let keys = ["{withheld}:key", "{withheld}:other"];
    for key in keys {
        cluster.node(from).command(&["SET", key, key]).await;
    }
    let denied = async |node: usize, command: &[&str]| {
        let error = cluster.node(node).try_command::<Value>(command).await.unwrap_err();
        error.code().unwrap().to_owned()
    };
    let moving = cluster.begin_move(KEY, to).await;
    assert_eq!(moving.move_keys(1).await, 1);
    assert_eq!(denied(from, &["MGET", keys[0], keys[1]]).await, "TRYAGAIN");
    assert_eq!(denied(from, &["GET", "{withheld}:new"]).await, "ASK");
    assert_eq!(denied(to, &["GET", "{withheld}:new"]).await, "MOVED");
    assert_eq!(moving.move_keys(usize::MAX).await, 1);
    moving.finish().await;
    assert_eq!(cluster.owner_of_key(KEY).await, to);
    assert_eq!(denied(from, &["GET", KEY]).await, "MOVED");
    assert_eq!(cluster.node(to).ask::<[String; 2]>(&["MGET", keys[0], keys[1]]).await, keys);
    cluster.move_slot(KEY, from).await;
    assert_eq!(cluster.node(from).ask::<[String; 2]>(&["MGET", keys[0], keys[1]]).await, keys);
    cluster.ready().await;
}

#[tokio::test]
async fn a_paused_owner_is_replaced() {
    let cluster = Cluster::start_with(&["cluster-require-full-coverage no"]).await;
    let nodes = [0, 1, 2, 3, 4, 5].map(|i| format!("127.0.0.1:{}", cluster.node(i).port())).join(",");
    assert_eq!(cluster.url(), format!("redis+cluster://{}{nodes}", ServiceUser::shipped().login()));
    let setting: [String; 2] = cluster.node(5).ask(&["CONFIG", "GET", "cluster-require-full-coverage"]).await;
    assert_eq!(setting[1], "no");
    let owner = cluster.owner_of_key(KEY).await;
    cluster.node(owner).pause();
    assert_eq!(cluster.await_new_owner(KEY, owner).await, owner + 3);
    cluster.node(owner).resume();
    cluster.ready().await;
    until("it has become a replica", async || cluster.node(owner).info("replication").await["role"] == "slave").await;
}

/// The old owner goes on writing for its clients alone; when it is back, that is gone.
#[tokio::test]
async fn an_isolated_owner_is_replaced_and_what_it_wrote_is_lost() {
    let cluster = Cluster::start_proxied().await;
    let owner = cluster.owner_of_key(KEY).await;
    cluster.node(owner).command(&["SET", KEY, "known to all"]).await;
    cluster.replicas_in_sync(KEY).await;
    cluster.isolate(owner);
    let client = redis::Client::open(cluster.node(owner).url_through(cluster.proxy(owner))).unwrap();
    let mut client = client.get_multiplexed_async_connection().await.unwrap();
    redis::cmd("SET").arg(&[KEY, "known to one"]).exec_async(&mut client).await.unwrap();
    let heir = cluster.await_new_owner(KEY, owner).await;
    assert_eq!(cluster.node(heir).ask::<String>(&["GET", KEY]).await, "known to all");
    // By now it has noticed that it is alone.
    let down = redis::cmd("GET").arg(KEY).query_async::<String>(&mut client).await.unwrap_err();
    assert_eq!(down.code(), Some("CLUSTERDOWN"));
    cluster.heal();
    until("it has become a replica", async || cluster.node(owner).info("replication").await["role"] == "slave").await;
    cluster.ready().await;
    assert_eq!(cluster.node(heir).ask::<String>(&["GET", KEY]).await, "known to all");
}
