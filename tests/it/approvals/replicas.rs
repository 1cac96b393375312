//! Replicas on one journal: one person at one of them, the other at another; and desks with different policies.

use super::{mk_reject, propose, refused, show, withheld, worldwide};
use crate::harness::{ONE_PERSON, Service, approve, look, mk_accounts, mk_apply, mk_order, mk_second};
use crate::redis::servers::RedisServer;
use crate::redis::until;
use crate::scrape::Scrape;
use crate::shared::{mk_dir, serving_on};
use withheld::pb::v1 as pb;

async fn until_level(replicas: [&Service; 2], revision: u64) {
    until("both replicas have it, and are alike", async || {
        let [one, other] = [Scrape::of(replicas[0]).await.digest(), Scrape::of(replicas[1]).await.digest()];
        one.0 >= revision && one == other
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_proposed_at_one_replica_is_approved_at_another() {
    let (redis, dirs) = (RedisServer::start().await, [mk_dir(), mk_dir()]);
    let strict = serving_on(&redis.url(), &dirs[0], &[]).await;
    // By the other desk's policy nothing takes two; what the first desk decided holds there, too.
    let lax = serving_on(&redis.url(), &dirs[1], &ONE_PERSON).await;
    let last = propose(&strict, worldwide("order"), mk_accounts([1, 2])).await.last_revision;
    until_level([&strict, &lax], last).await;
    assert_eq!(withheld(&lax, "US", 1..=2).await, [0; 0]);
    let approved = approve(&mut lax.orders().await, "order").await.unwrap();
    assert_eq!(withheld(&lax, "US", 1..=2).await, [1, 2]);
    until_level([&strict, &lax], approved.revision).await;
    assert_eq!(withheld(&strict, "US", 1..=2).await, [1, 2]);

    // Approved at one and rejected at the other at once: one of the two holds, everywhere.
    for n in 0..10 {
        let id = format!("order-{n}");
        let last = propose(&strict, worldwide(&id), mk_accounts([100 + n])).await.last_revision;
        until_level([&strict, &lax], last).await;
        let digest = look(&mut strict.orders().await, &id).await.unwrap().digest;
        let (mut here, mut there) = (strict.orders().await, lax.orders().await);
        let request =
            pb::ApproveOrderRequest { order_id: id.clone(), context: mk_second(""), digest, validate_only: false };
        let (approved, rejected) =
            tokio::join!(here.approve_order(request), there.reject_order(mk_reject(&id, mk_second("no"))));
        let loser = match (approved, rejected) {
            (Ok(_), Err(loser)) | (Err(loser), Ok(_)) => loser,
            (approved, rejected) => panic!("{approved:?} {rejected:?}"),
        };
        assert_eq!(refused(&loser).1, "NOTHING_PENDING", "{loser}");
        until_level([&strict, &lax], last + 1).await;
        let [one, other] = [show(&strict, &id).await, show(&lax, &id).await];
        assert_eq!(one, other);
        let dark = one.state() == pb::OrderState::InForce;
        assert_eq!(withheld(&lax, "US", 100 + n..=100 + n).await.len(), usize::from(dark));
    }

    // What the lax desk applies at once is in force at the strict one.
    let applied = lax.orders().await.apply_order(mk_apply(worldwide("at-once"), mk_accounts([5]))).await.unwrap();
    until_level([&strict, &lax], applied.into_inner().revision).await;
    assert_eq!(withheld(&strict, "US", 5..=5).await, [5]);
    strict.orders().await.apply_order(mk_apply(mk_order("small", &["IN"]), mk_accounts([6]))).await.unwrap();
}
