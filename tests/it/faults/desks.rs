//! Several desks on one journal: they race, they are killed while they write, and one is cut off from the journal.

use std::time::Duration;

use tonic::Code;
use withheld::pb::v1 as pb;

use super::fleet::Fleet;
use super::history::{Command, EVERY_ACCOUNT, History, Outcome};
use super::traffic::{Route, Traffic};
use super::{TellLogs, assert_sound, rounds};
use crate::harness::{mk_accounts, mk_apply, mk_batch, mk_context, mk_order, refusal};
use crate::redis::proxy::{Flow, Proxy, Way};
use crate::redis::sentinel::SentinelGroup;
use crate::redis::servers::RedisServer;
use crate::redis::until;

/// Two operators apply the very same order at two replicas at once, then two orders under one id, then one each.
#[tokio::test(flavor = "multi_thread")]
async fn desks_that_race_for_an_order_id_have_one_winner_and_others_lose_nothing() {
    let server = RedisServer::start().await;
    let fleet = Fleet::start((0..2).map(|_| server.url()), &[]).await;
    let _tell = TellLogs(fleet.clone());
    let mut traffic = Traffic::start(&fleet, 0);
    // Others write all the while, so that groups are decided anew.
    traffic.add_operator(10, 0);
    traffic.add_operator(11, 1);
    let clients = traffic.clients().clone();
    let mut history = History::default();
    for round in 0..50 * rounds(3) {
        let apply = |order: String, bit: u32| Command::Apply { order, accounts: 1 << bit, countries: 0b11 };
        let same = format!("same-{round}");
        let taken = format!("taken-{round}");
        let pairs = [
            [apply(same.clone(), 1), apply(same, 1)],
            [apply(taken.clone(), 2), apply(taken, 3)],
            [apply(format!("own-0-{round}"), 4), apply(format!("own-1-{round}"), 5)],
        ];
        let mut outcomes = Vec::new();
        for (kind, [one, other]) in pairs.into_iter().enumerate() {
            let (mut left, mut right) = (History::default(), History::default());
            let request = |replica| format!("race-{kind}-{round}-{replica}");
            outcomes.push(tokio::join!(
                clients.carry_out(request(0), one, Route::To(0), &mut left),
                clients.carry_out(request(1), other, Route::To(1), &mut right),
            ));
            history.append(left);
            history.append(right);
        }
        use Outcome::{Acknowledged, Refused};
        let [same, taken, own] = outcomes.try_into().unwrap();
        match same {
            (Acknowledged { revision: one, repeated: a }, Acknowledged { revision: other, repeated: b }) => {
                assert!(one == other && a != b, "one order applied twice: {one} {other}");
            }
            outcomes => panic!("{outcomes:?}"),
        }
        match taken {
            (Acknowledged { .. }, Refused { reason }) | (Refused { reason }, Acknowledged { .. }) => {
                assert_eq!(reason, "ORDER_ID_TAKEN");
            }
            outcomes => panic!("{outcomes:?}"),
        }
        match own {
            (Acknowledged { revision: one, repeated: false }, Acknowledged { revision: other, repeated: false }) => {
                assert_ne!(one, other);
            }
            outcomes => panic!("{outcomes:?}"),
        }
    }
    history.append(traffic.stop().await);
    assert_sound("desks that race", &history, &fleet, &server, &server.url()).await;
}

/// What a desk had appended and not committed when it died, others commit; what it was asked, others are asked again.
#[tokio::test(flavor = "multi_thread")]
async fn desks_killed_while_they_write_lose_nothing() {
    let group = SentinelGroup::start().await;
    let fleet = Fleet::start((0..3).map(|_| group.url()), &["--snapshot-every", "50"]).await;
    let _tell = TellLogs(fleet.clone());
    let traffic = Traffic::start(&fleet, 6);
    let kills = 4 * rounds(3);
    let mut random = fastrand::Rng::with_seed(1);
    for _ in 0..kills {
        traffic.acknowledged_more(10).await;
        // Somewhere in the middle of a command, wherever that is.
        tokio::time::sleep(Duration::from_micros(random.u64(0..20_000))).await;
        let replica = random.usize(0..fleet.size());
        fleet.kill(replica);
        traffic.acknowledged_more(10).await;
        fleet.restart(replica).await;
        traffic.answered_more(replica, 5).await;
    }
    let history = traffic.stop().await;
    let what = format!("{kills} kills of replicas of the service");
    assert_sound(&what, &history, &fleet, group.server(0), &group.url()).await;
}

/// All ways in which a replica can lose touch with Redis, one after another, while it is asked and told like the others.
#[tokio::test(flavor = "multi_thread")]
async fn a_replica_cut_off_and_back_has_told_no_lies() {
    const CUT_OFF: usize = 2;
    let server = RedisServer::start().await;
    let proxy = Proxy::start(server.port());
    let fleet = Fleet::start([server.url(), server.url(), server.url_through(&proxy)], &["--stale-after", "1s"]).await;
    let _tell = TellLogs(fleet.clone());
    let mut traffic = Traffic::start(&fleet, 2);
    traffic.add_operator(10, CUT_OFF);
    let rounds = rounds(1);
    for _ in 0..rounds {
        let faults: [(&str, &dyn Fn()); 6] = [
            ("nothing arrives, either way", &|| proxy.set(Way::Both, Flow::Blackhole)),
            ("what it sends arrives, answers do not", &|| proxy.set(Way::ToClient, Flow::Blackhole)),
            ("what it sends does not arrive", &|| proxy.set(Way::ToServer, Flow::Blackhole)),
            ("connections are refused", &|| proxy.refuse()),
            ("answers come later than it waits", &|| proxy.set(Way::ToClient, Flow::Delay(Duration::from_secs(2)))),
            ("an answer breaks off", &|| proxy.cut_reply_to("EVALSHA", 3)),
        ];
        for (what, fault) in faults {
            println!("{what}");
            traffic.acknowledged_more(5).await;
            fault();
            if proxy.is_trap_set() {
                until("the trap has met its request", async || !proxy.is_trap_set()).await;
            } else {
                until("it says that it is stale", async || is_stale(&fleet, CUT_OFF).await).await;
            }
            // The more rounds, the longer each, though never by the clock: others write, and it answers.
            traffic.acknowledged_more(10 * rounds * rounds).await;
            traffic.answered_more(CUT_OFF, 10 * rounds).await;
            proxy.heal();
            let level = fleet.reach(0).unwrap().digest().await.0;
            fleet.await_level(level).await;
        }
    }
    let history = traffic.stop().await;
    assert_sound(&format!("{} partitions of a replica", 6 * rounds), &history, &fleet, &server, &server.url()).await;
}

async fn is_stale(fleet: &Fleet, replica: usize) -> bool {
    let mut queries = fleet.reach(replica).unwrap().queries;
    let answer = queries.batch_check(mk_batch("IN", super::ids(EVERY_ACCOUNT))).await.unwrap().into_inner();
    answer.freshness.unwrap().liveness() == pb::Liveness::Stale
}

/// A replica that does not know what others have been told says that it cannot say, and neither no nor "it is so
/// already": a refusal is for good, and the caller would believe it.
#[tokio::test(flavor = "multi_thread")]
async fn a_replica_cut_off_refuses_nothing_for_good_on_what_it_knew() {
    let server = RedisServer::start().await;
    let proxy = Proxy::start(server.port());
    let fleet = Fleet::start([server.url(), server.url_through(&proxy)], &[]).await;
    let _tell = TellLogs(fleet.clone());
    let (mut here, mut cut_off) = (fleet.reach(0).unwrap().orders, fleet.reach(1).unwrap().orders);
    let lift = |order: &str, request: &str| pb::LiftOrderRequest {
        order_id: order.to_owned(),
        context: mk_context("a test", request),
        validate_only: false,
    };
    let apply = |order: &str, account| mk_apply(mk_order(order, &["IN"]), mk_accounts([account]));
    here.apply_order(apply("before", 1)).await.unwrap();
    let level = here.lift_order(lift("before", "first")).await.unwrap().into_inner().revision;
    fleet.await_level(level).await;

    proxy.set(Way::Both, Flow::Blackhole);
    let known = here.apply_order(apply("meanwhile", 2)).await.unwrap().into_inner().revision;
    let not_found = cut_off.lift_order(lift("meanwhile", "")).await.unwrap_err();
    assert_eq!(refusal(&not_found).1, "JOURNAL_UNAVAILABLE", "{not_found:?}");
    let wrong_state = cut_off.lift_order(lift("before", "")).await.unwrap_err();
    assert_eq!(refusal(&wrong_state).1, "JOURNAL_UNAVAILABLE", "{wrong_state:?}");
    // What was written stays written: for this nobody has to be asked.
    let again = cut_off.lift_order(lift("before", "first")).await.unwrap().into_inner();
    assert!(again.already_done && again.revision == level, "{again:?}");

    // Nor may it say that there is no such revision, however little time the caller has.
    let mut asked = tonic::Request::new(pb::CheckRequest {
        account_id: 2,
        viewer_country: "IN".to_owned(),
        consistency: Some(pb::Consistency { at_least_revision: known, ..Default::default() }),
        ..Default::default()
    });
    asked.set_timeout(Duration::from_secs(1));
    let not_reached = fleet.reach(1).unwrap().queries.check(asked).await.unwrap_err();
    let (code, reason, _) = refusal(&not_reached);
    assert_eq!((code, reason.as_str()), (Code::Unavailable, "REVISION_NOT_REACHED"), "{not_reached:?}");

    proxy.heal();
    fleet.await_level(known).await;
    cut_off.lift_order(lift("meanwhile", "")).await.unwrap();
}

/// To find that there is nothing to do is an answer from what is known, too.
#[tokio::test(flavor = "multi_thread")]
async fn a_replica_cut_off_does_not_say_that_it_is_so_already() {
    let server = RedisServer::start().await;
    let proxy = Proxy::start(server.port());
    let fleet = Fleet::start([server.url(), server.url_through(&proxy)], &[]).await;
    let _tell = TellLogs(fleet.clone());
    let (mut here, mut cut_off) = (fleet.protections(0).await, fleet.protections(1).await);
    let protect = || pb::ProtectAccountsRequest {
        accounts: vec![pb::ProtectedAccount {
            account_id: 7,
            category: pb::ProtectionCategory::Journalist.into(),
            ..Default::default()
        }],
        context: mk_context("a test", ""),
    };
    let level = here.protect_accounts(protect()).await.unwrap().into_inner().revision;
    fleet.await_level(level).await;
    proxy.set(Way::Both, Flow::Blackhole);
    let remove = pb::UnprotectAccountsRequest { account_ids: vec![7], context: mk_context("a test", "") };
    here.unprotect_accounts(remove).await.unwrap();
    let status = cut_off.protect_accounts(protect()).await.unwrap_err();
    assert_eq!(refusal(&status).1, "JOURNAL_UNAVAILABLE", "{status:?}");
    proxy.heal();
    fleet.await_level(level + 1).await;
    let revision = cut_off.protect_accounts(protect()).await.unwrap().into_inner().revision;
    assert_eq!(revision, level + 2);
}
