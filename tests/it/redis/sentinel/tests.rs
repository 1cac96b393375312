//! The group fails over, and is whole again when what was down is back.

use std::time::Instant;

use super::*;

/// One that the service may touch.
const KEY: &str = "{withheld}:key";

#[tokio::test]
async fn another_takes_over_from_a_killed_primary_which_comes_back_as_a_replica() {
    let started = Instant::now();
    let group = SentinelGroup::start().await;
    println!("started in {:?}", started.elapsed());
    assert_eq!(group.primary().await, 0);
    for round in 1..=2 {
        let before = group.primary().await;
        group.server(before).command(&["INCR", "key"]).await;
        group.replicas_in_sync().await;
        let killed = Instant::now();
        assert_eq!(group.kill_primary().await, before);
        let after = group.await_failover(before).await;
        assert_ne!(after, before);
        println!("failed over in {:?}", killed.elapsed());
        assert_eq!(group.server(after).ask::<u64>(&["GET", "key"]).await, round);
        let back = Instant::now();
        group.restart(before).await;
        println!("back as a replica in {:?}", back.elapsed());
        let refused = group.server(before).try_command::<()>(&["INCR", "key"]).await.unwrap_err();
        assert_eq!(refused.code(), Some("READONLY"));
    }
}

/// The old primary goes on writing for its clients alone; when it is back, that is gone.
#[tokio::test]
async fn an_isolated_primary_is_replaced_and_what_it_wrote_is_lost() {
    let group = SentinelGroup::start_proxied().await;
    group.server(0).command(&["SET", KEY, "known to all"]).await;
    group.replicas_in_sync().await;
    group.isolate(0);
    let client = redis::Client::open(group.server(0).url_through(group.proxy(0))).unwrap();
    let mut client = client.get_multiplexed_async_connection().await.unwrap();
    redis::cmd("SET").arg(&[KEY, "known to one"]).exec_async(&mut client).await.unwrap();
    let after = group.await_failover(0).await;
    assert_eq!(group.server(after).ask::<String>(&["GET", KEY]).await, "known to all");
    assert_eq!(redis::cmd("GET").arg(KEY).query_async::<String>(&mut client).await.unwrap(), "known to one");
    group.heal();
    group.replicas_in_sync().await;
    assert_eq!(group.server(0).ask::<String>(&["GET", KEY]).await, "known to all");
}

#[tokio::test]
async fn a_paused_primary_is_replaced_and_one_sentinel_can_be_missing() {
    let group = SentinelGroup::start_with(&["min-replicas-to-write 1"]).await;
    let sentinels = [0, 1, 2].map(|i| format!("127.0.0.1:{}", group.sentinel(i).port())).join(",");
    assert_eq!(group.url(), format!("redis+sentinel://{}{sentinels}/{NAME}", ServiceUser::shipped().login()));
    let setting: [String; 2] = group.server(2).ask(&["CONFIG", "GET", "min-replicas-to-write"]).await;
    assert_eq!(setting[1], "1");
    group.sentinel(2).kill();
    group.server(0).pause();
    group.await_failover(0).await;
    group.server(0).resume();
    group.replicas_in_sync().await;
    group.restart_sentinel(2).await;
    assert_ne!(group.primary().await, 0);
}
