//! Redis silent, gone, half there: queries go on and tell their age, writes are refused at once and never half done.

use std::time::Duration;

use tonic_health::pb::HealthCheckRequest;
use tonic_health::pb::health_check_response::ServingStatus;
use tonic_health::pb::health_client::HealthClient;
use withheld::pb::v1 as pb;

use super::{
    age, apply, journal, look, make_journal, metric, mk_dir, name_of, on, refused_at_once, serving_on, until_withheld,
};
use crate::harness::{Service, get, mk_batch, nth, refusal};
use crate::redis::cluster::Cluster;
use crate::redis::proxy::{Flow, Proxy, Way};
use crate::redis::sentinel::SentinelGroup;
use crate::redis::servers::RedisServer;
use crate::redis::until;

/// Queries are answered while the journal is out of reach, and their age grows by as much as time goes by.
async fn answers_and_ages(service: &Service, account: u64, by: Duration) {
    let first = age(&look(service, account).await.1);
    until("the age has grown", async || {
        let (withheld, freshness) = look(service, account).await;
        assert!(withheld);
        age(&freshness) >= first + by
    })
    .await;
}

async fn health(service: &Service) -> ServingStatus {
    let channel = tonic::transport::Channel::from_shared(service.queries.clone()).unwrap().connect().await.unwrap();
    let answer = HealthClient::new(channel).check(HealthCheckRequest::default()).await.unwrap();
    answer.into_inner().status()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_redis_that_is_killed_is_told_at_once_and_found_again() {
    let (redis, dir) = (RedisServer::start().await, mk_dir());
    let service = serving_on(&redis.url(), &dir, &["--stale-after", "300ms"]).await;
    apply(&service, "one", 1).await.unwrap();
    redis.kill();
    until("it is stale", async || look(&service, 1).await.1.liveness() == pb::Liveness::Stale).await;
    assert_eq!(refused_at_once(&service, "two", 2).await, ("JOURNAL_UNAVAILABLE".to_owned(), "no".to_owned()));
    answers_and_ages(&service, 1, Duration::from_millis(400)).await;
    assert_eq!(metric(&service, "withheld_journal_connected").await, 0);
    redis.restart().await;
    until("it is live", async || look(&service, 1).await.1.liveness() == pb::Liveness::Live).await;
    assert!(!look(&service, 2).await.0, "what was refused was not done");
    assert_eq!(apply(&service, "two", 2).await.unwrap().revision, nth(2));
    assert!(metric(&service, "withheld_journal_reconnects_total").await >= 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_redis_that_is_stopped_answers_nothing_and_holds_nobody() {
    let (redis, dirs) = (RedisServer::start().await, [mk_dir(), mk_dir()]);
    let services = [
        serving_on(&redis.url(), &dirs[0], &[]).await,
        serving_on(&redis.url(), &dirs[1], &["--stale-after", "300ms"]).await,
    ];
    apply(&services[0], "one", 1).await.unwrap();
    until_withheld(&services[1], 1).await;
    redis.pause();
    // The first one was sent before anybody could know, so it may be carried out later; it says so.
    let (reason, written) = refused_at_once(&services[0], "two", 2).await;
    assert!(
        [("OUTCOME_UNKNOWN", "unknown"), ("JOURNAL_UNAVAILABLE", "no")].contains(&(reason.as_str(), written.as_str())),
        "{reason} {written}"
    );
    until("it is known to be gone", async || {
        refused_at_once(&services[0], "three", 3).await == ("JOURNAL_UNAVAILABLE".to_owned(), "no".to_owned())
    })
    .await;
    until("the other one knows", async || look(&services[1], 1).await.1.liveness() == pb::Liveness::Stale).await;
    answers_and_ages(&services[1], 1, Duration::from_millis(500)).await;
    redis.resume();
    until("it is live", async || look(&services[1], 1).await.1.liveness() == pb::Liveness::Live).await;
    // Sent again under its request id, it is there once, whether it had arrived or not.
    until("it can be written", async || apply(&services[1], "two", 2).await.is_ok()).await;
    until_withheld(&services[0], 2).await;
    let again = apply(&services[0], "two", 2).await.unwrap();
    assert_eq!((again.revision, again.already_applied), (nth(2), true));
    assert!(!look(&services[0], 3).await.0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_line_that_goes_dead_without_a_word_is_noticed_and_a_new_one_taken() {
    let (redis, dirs) = (RedisServer::start().await, [mk_dir(), mk_dir()]);
    let proxy = Proxy::start(redis.port());
    let near = serving_on(&redis.url(), &dirs[0], &[]).await;
    let far = serving_on(&redis.url_through(&proxy), &dirs[1], &["--stale-after", "800ms"]).await;
    for way in [Way::Both, Way::ToClient, Way::ToServer] {
        until("it is live", async || look(&far, 1).await.1.liveness() == pb::Liveness::Live).await;
        proxy.set(way, Flow::Blackhole);
        until("it knows that it is not level", async || look(&far, 1).await.1.liveness() == pb::Liveness::Stale).await;
        let account = 10 + way as u64;
        apply(&near, &format!("dark-{account}"), account).await.unwrap();
        assert!(!look(&far, account).await.0, "nothing comes through");
        proxy.heal();
        until_withheld(&far, account).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_slow_line_is_slow_and_nothing_else() {
    let (redis, dirs) = (RedisServer::start().await, [mk_dir(), mk_dir()]);
    let proxy = Proxy::start(redis.port());
    let far = serving_on(&redis.url_through(&proxy), &dirs[0], &[]).await;
    proxy.set(Way::Both, Flow::Delay(Duration::from_millis(60)));
    for n in 1..=5 {
        assert_eq!(apply(&far, &format!("slow-{n}"), n).await.unwrap().revision, nth(n));
    }
    assert_eq!(metric(&far, "withheld_journal_reconnects_total").await, 0);
}

/// The line is cut before the answer, in the middle of it, and before the request: each time the caller is told what is
/// so, and nothing is done twice.
#[tokio::test(flavor = "multi_thread")]
async fn a_line_cut_around_an_append_costs_no_truth() {
    let (redis, dir) = (RedisServer::start().await, mk_dir());
    let proxy = Proxy::start(redis.port());
    let service = serving_on(&redis.url_through(&proxy), &dir, &["--write-limit", "20s"]).await;
    let mut orders = 0;
    for (n, cut) in (1_u64..).zip([Some(0), Some(3), Some(12), None].into_iter().cycle().take(12)) {
        let order = format!("cut-{n}");
        // Only the append carries the order's name.
        match cut {
            Some(bytes) => proxy.cut_reply_to(&order, bytes),
            None => proxy.cut_before(&order),
        }
        let done = apply(&service, &order, n).await.unwrap();
        assert!(!proxy.is_trap_set(), "the line was not cut");
        orders += 1;
        assert_eq!((done.revision, done.already_applied), (nth(orders), false));
        assert!(apply(&service, &order, n).await.unwrap().already_applied);
        // The line is taken up again before it is cut once more.
        until("it can be written", async || apply(&service, &order, n).await.is_ok()).await;
    }
    let length: u64 = redis.ask(&["XLEN", "{withheld}:journal"]).await;
    assert_eq!(length, nth(orders));
}

#[tokio::test(flavor = "multi_thread")]
async fn at_the_start_without_redis_it_stays_up_and_says_not_serving() {
    let (redis, dir) = (RedisServer::start().await, mk_dir());
    make_journal(&redis.url(), &[]);
    redis.kill();
    let service = Service::of(on(&redis.url(), &dir, &[]));
    assert_eq!(health(&service).await, ServingStatus::NotServing);
    let (reason, written) = refused_at_once(&service, "one", 1).await;
    assert_eq!((reason.as_str(), written.as_str()), ("LOADING", "no"));
    let refused = service.visibility().await.batch_check(mk_batch("IN", [1])).await.unwrap_err();
    assert_eq!(refusal(&refused).1, "LOADING", "an error, never `not withheld`");
    redis.restart().await;
    service.serving().await;
    apply(&service, "one", 1).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_verified_snapshot_may_serve_until_redis_is_there_and_a_damaged_one_never() {
    let (redis, dir) = (RedisServer::start().await, mk_dir());
    let flags = ["--serve-from-snapshot", "--stale-after", "1s"];
    let service = serving_on(&redis.url(), &dir, &flags).await;
    apply(&service, "one", 1).await.unwrap();
    assert!(service.stop().success());
    redis.kill();
    let service = Service::of(on(&redis.url(), &dir, &flags));
    service.serving().await;
    let (withheld, freshness) = look(&service, 1).await;
    assert!(withheld, "from the snapshot");
    assert_eq!((freshness.revision, freshness.liveness()), (nth(1), pb::Liveness::Stale));
    assert_eq!(refused_at_once(&service, "two", 2).await, ("JOURNAL_UNAVAILABLE".to_owned(), "no".to_owned()));
    redis.restart().await;
    until("it is live", async || look(&service, 1).await.1.liveness() == pb::Liveness::Live).await;
    assert_eq!(apply(&service, "two", 2).await.unwrap().revision, nth(2));
    assert!(service.stop().success());

    redis.kill();
    let file = dir.path().join("state.snapshot");
    let mut bytes = std::fs::read(&file).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    std::fs::write(&file, bytes).unwrap();
    let service = Service::of(on(&redis.url(), &dir, &flags));
    until("the damage is told", async || service.log().contains("snapshot set aside")).await;
    assert_eq!(health(&service).await, ServingStatus::NotServing);
    redis.restart().await;
    service.serving().await;
    assert!(look(&service, 1).await.0 && look(&service, 2).await.0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_replica_out_of_reach_for_too_long_takes_itself_out_and_comes_back() {
    let (redis, dir) = (RedisServer::start().await, mk_dir());
    let service = serving_on(&redis.url(), &dir, &["--max-staleness", "1s"]).await;
    apply(&service, "one", 1).await.unwrap();
    redis.kill();
    until("health says so", async || health(&service).await == ServingStatus::NotServing).await;
    assert!(look(&service, 1).await.0, "whoever asks is answered all the same");
    let (code, text) = get(&service.http, "/readyz").await;
    assert!(code == 503 && text.contains("out of reach"), "{code} {text}");
    redis.restart().await;
    until("health says so", async || health(&service).await == ServingStatus::Serving).await;
}

/// An operator's revision makes any other replica wait until it has it.
#[tokio::test(flavor = "multi_thread")]
async fn what_was_acknowledged_here_is_read_there() {
    let (redis, dirs) = (RedisServer::start().await, [mk_dir(), mk_dir(), mk_dir()]);
    let mut services = Vec::new();
    for dir in &dirs {
        services.push(serving_on(&redis.url(), dir, &[]).await);
    }
    for n in 0..60_u64 {
        let [writer, reader] = [&services[(n % 3) as usize], &services[((n + 1) % 3) as usize]];
        let revision = apply(writer, &format!("order-{n}"), n + 1).await.unwrap().revision;
        let mut batch = mk_batch("IN", [n + 1]);
        batch.consistency = Some(pb::Consistency { at_least_revision: revision, ..Default::default() });
        let answer = reader.visibility().await.batch_check(batch).await.unwrap().into_inner();
        assert_eq!(answer.accounts.len(), 1, "{n}");
        assert!(answer.freshness.unwrap().revision >= revision);
    }
}

/// Too few Redis replicas: nothing is acknowledged, nothing of it is seen by anybody; once they are back, it is there once.
#[tokio::test(flavor = "multi_thread")]
async fn what_too_few_redis_replicas_have_is_not_acknowledged_and_not_seen() {
    let group = SentinelGroup::start().await;
    let dirs = [mk_dir(), mk_dir()];
    let flags = ["--redis-wait-replicas", "2"];
    let services = [serving_on(&group.url(), &dirs[0], &flags).await, serving_on(&group.url(), &dirs[1], &flags).await];
    assert_eq!(apply(&services[0], "one", 1).await.unwrap().revision, nth(1));
    let primary = group.primary().await;
    let replica = (primary + 1) % 3;
    group.server(replica).pause();
    let (reason, written) = refused_at_once(&services[0], "two", 2).await;
    assert_eq!((reason.as_str(), written.as_str()), ("OUTCOME_UNKNOWN", "unknown"));
    let length: u64 = group.server(primary).ask(&["XLEN", "{withheld}:journal"]).await;
    assert_eq!(length, nth(2), "it is in the journal");
    for service in &services {
        let (withheld, freshness) = look(service, 2).await;
        assert_eq!((withheld, freshness.revision), (false, nth(1)), "and nobody sees it");
    }
    group.server(replica).resume();
    // Nobody sends it again: a replica commits what the desk had to leave.
    for service in &services {
        until_withheld(service, 2).await;
    }
    let again = apply(&services[1], "two", 2).await.unwrap();
    assert_eq!((again.revision, again.already_applied), (nth(2), true));
}

/// At the command line: Redis goes silent under a command, and comes back; the operator is told what became of it.
#[tokio::test(flavor = "multi_thread")]
async fn the_command_line_asks_until_it_knows_what_became_of_a_command() {
    let (redis, dir) = (RedisServer::start().await, mk_dir());
    let service = serving_on(&redis.url(), &dir, &[]).await;
    let (order, items) = (dir.path().join("order.toml"), dir.path().join("list.csv"));
    std::fs::write(
        &order,
        "order_id = 'one'\ninstrument = 'court_order'\nissuing_authority = 'A court'\nlegal_basis = ['s. 1']\n\
         territory = { countries = ['IN'] }\n",
    )
    .unwrap();
    std::fs::write(&items, "locator_type,locator\naccount_id,1\n").unwrap();
    redis.pause();
    let args = ["order", "apply", "--yes", "--file", order.to_str().unwrap(), "--items", items.to_str().unwrap()];
    let output = tokio::task::block_in_place(|| {
        std::thread::scope(|scope| {
            let running = scope.spawn(|| service.cli(&args));
            // Silent until the service has told that it does not know.
            while !service.log().contains("journal not written") {
                std::thread::sleep(Duration::from_millis(10));
            }
            redis.resume();
            running.join().unwrap()
        })
    });
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    assert!(output.status.success(), "{}", text(&output.stderr));
    assert!(
        text(&output.stdout).contains(&format!("order one is in force at revision {}", nth(1))),
        "{}",
        text(&output.stdout)
    );
    let length: u64 = redis.ask(&["XLEN", "{withheld}:journal"]).await;
    assert_eq!(length, nth(1));
}

/// A slot of a cluster is moved under the journal: for a while part of its keys are here and part there.
#[tokio::test(flavor = "multi_thread")]
async fn a_slot_that_moves_takes_the_journal_with_it() {
    const KEY: &str = "{withheld}:journal";
    let (cluster, dirs) = (Cluster::start().await, [mk_dir(), mk_dir()]);
    let services = [serving_on(&cluster.url(), &dirs[0], &[]).await, serving_on(&cluster.url(), &dirs[1], &[]).await];
    until("it can be written", async || apply(&services[0], "order-1", 1).await.is_ok()).await;
    let owner = cluster.owner_of_key(KEY).await;
    let moving = cluster.begin_move(KEY, (owner + 1) % 3).await;
    moving.move_keys(1).await;
    for service in &services {
        match apply(service, "order-2", 2).await {
            Ok(done) => assert_eq!(done.revision, nth(2)),
            Err(refused) => assert_eq!(refused.code(), tonic::Code::Unavailable, "{refused}"),
        }
        until_withheld(service, 1).await;
    }
    moving.move_keys(usize::MAX).await;
    moving.finish().await;
    // The server that the slot was moved to is none that an entry was ever waited for on: it proves nothing by itself, and
    // whoever moved the slot says that it has all.
    let doubt = "the primary was replaced, and it is not proven that the new one has all that was acknowledged";
    for service in &services {
        until("it says so", async || {
            let refused = apply(service, "order-9", 9).await.err();
            refused
                .is_some_and(|refused| refusal(&refused).1 == "JOURNAL_IN_DOUBT" && refused.message().contains(doubt))
        })
        .await;
    }
    let name = name_of(cluster.node((owner + 1) % 3)).await;
    let (code, out, err) = journal(&cluster.url(), &["accept", "--known", "none", "--found", &name]);
    assert!(code == Some(0) && err.contains(doubt) && out.contains(&name), "{out}{err}");
    for (n, service) in (2..).zip(&services) {
        until("it can be written", async || apply(service, &format!("order-{n}"), n).await.is_ok()).await;
    }
    for service in &services {
        until("all of it is there", async || look(service, 3).await.1.revision == nth(3)).await;
        assert!(look(service, 2).await.0 && look(service, 3).await.0);
    }
    let length: u64 = cluster.node((owner + 1) % 3).ask(&["XLEN", KEY]).await;
    assert_eq!(length, nth(3));
}

/// With `--serve-from-snapshot`, a journal in reach is loaded before anything is served: what a snapshot says may be over.
#[tokio::test(flavor = "multi_thread")]
async fn a_snapshot_is_not_served_while_the_journal_is_in_reach() {
    let (redis, dirs) = (RedisServer::start().await, [mk_dir(), mk_dir()]);
    let flags = ["--serve-from-snapshot", "--stale-after", "60s"];
    let service = serving_on(&redis.url(), &dirs[0], &flags).await;
    apply(&service, "one", 1).await.unwrap();
    assert!(service.stop().success());
    let other = serving_on(&redis.url(), &dirs[1], &[]).await;
    apply(&other, "two", 2).await.unwrap();
    let service = Service::of(on(&redis.url(), &dirs[0], &flags));
    service.serving().await;
    let (withheld, freshness) = look(&service, 2).await;
    assert!(withheld && freshness.liveness() == pb::Liveness::Live, "{freshness:?}\n{}", service.log());
    assert!(!service.log().contains("serving from the snapshot"), "{}", service.log());
    // Out of reach, it is served after the wait that README states.
    assert!(service.stop().success());
    redis.kill();
    let service = Service::of(on(&redis.url(), &dirs[0], &flags));
    service.serving().await;
    let log = service.log();
    assert!(
        log.contains("the journal is out of reach: serving from the snapshot") && log.contains("after=5s"),
        "{log}"
    );
    assert!(look(&service, 2).await.0);
}
