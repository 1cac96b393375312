//! Services of the program as it was before journals had names and formats, beside those of today, on one journal: `make
//! try-upgrade` builds the old program and runs these.

use std::path::Path;

use super::*;
use crate::harness::mk_journal;

/// Where `scripts/build-old-program` has put it.
fn old_program() -> String {
    std::env::var("WITHHELD_OLD_PROGRAM").expect("WITHHELD_OLD_PROGRAM is not set: run `make try-upgrade`")
}

/// The program of one version or the other, on a journal, keeping what it knows under this name.
async fn start(program: &str, url: &str, dir: &TempDir, name: &str) -> Service {
    let mut command = Command::new(program);
    command
        .args(["serve", "--listen", "127.0.0.1:0", "--admin-listen", "127.0.0.1:0", "--http-listen", "127.0.0.1:0"])
        .args(["--journal", url, "--snapshot"])
        .arg(dir.path().join(name).with_extension("snapshot"))
        .args(["--drain-pause", "0s"])
        .env("WITHHELD_QUERY_THREADS", "1")
        .env("RUST_LOG", "info");
    let service = Service::of(command);
    service.serving().await;
    service
}

/// All of them withhold it in India, and know no more than each other.
async fn agree(services: &[&Service], account: u64) {
    let mut digests = Vec::new();
    for service in services {
        until_withheld(service, account).await;
        let (_, freshness) = look(service, account).await;
        assert_eq!(freshness.liveness(), pb::Liveness::Live, "{freshness:?}\n{}", service.log());
        digests.push(freshness.revision);
    }
    digests.dedup();
    assert_eq!(digests.len(), 1, "{digests:?}");
}

async fn lift(service: &Service, order: &str) {
    let context = crate::harness::mk_context("quashed", &format!("lift-{order}"));
    let request = pb::LiftOrderRequest { order_id: order.to_owned(), context, ..Default::default() };
    service.orders().await.lift_order(request).await.unwrap();
}

async fn until_visible(service: &Service, account: u64) {
    until(format!("account {account} is visible"), async || !look(service, account).await.0).await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "takes the old program: make try-upgrade"]
async fn a_fleet_on_redis_is_upgraded_one_by_one_and_back_and_for_good() {
    let (old, new) = (old_program(), BINARY.to_owned());
    let (redis, dir) = (RedisServer::start().await, mk_dir());
    let url = redis.url();

    // A journal that the old program has begun, and orders in it.
    let a = start(&old, &url, &dir, "a").await;
    let b = start(&old, &url, &dir, "b").await;
    apply(&a, "by-old", 1).await.unwrap();
    agree(&[&a, &b], 1).await;

    // A new one beside them: it takes the journal up as it is, and what either writes is read by both.
    create_journal(&url, &[]);
    let c = start(&new, &url, &dir, "c").await;
    agree(&[&a, &b, &c], 1).await;
    apply(&c, "by-new", 2).await.unwrap();
    agree(&[&a, &b, &c], 2).await;
    apply(&b, "by-old-again", 3).await.unwrap();
    agree(&[&a, &b, &c], 3).await;
    lift(&c, "by-old").await;
    for service in [&a, &b, &c] {
        until_visible(service, 1).await;
    }

    // The old ones are replaced one by one, each knowing what the old one has kept. Then one goes back.
    assert!(tokio::task::spawn_blocking(|| a.stop()).await.unwrap().success());
    let a = start(&new, &url, &dir, "a").await;
    agree(&[&a, &b, &c], 2).await;
    assert!(tokio::task::spawn_blocking(|| b.stop()).await.unwrap().success());
    let b = start(&new, &url, &dir, "b").await;
    apply(&b, "all-new", 4).await.unwrap();
    agree(&[&a, &b, &c], 4).await;
    assert!(tokio::task::spawn_blocking(|| b.stop()).await.unwrap().success());
    let b = start(&old, &url, &dir, "b").await;
    agree(&[&a, &b, &c], 4).await;
    apply(&b, "back", 5).await.unwrap();
    agree(&[&a, &b, &c], 5).await;

    // For good: from then on entries may be of the newer format. Who does not read it does not call itself LIVE for long.
    let upgraded = a.cli(&["journal", "upgrade", "--reason", "every replica is new", "--yes"]);
    assert!(upgraded.status.success(), "{}", String::from_utf8_lossy(&upgraded.stderr));
    apply(&c, "in-the-new-format", 6).await.unwrap();
    agree(&[&a, &c], 6).await;
    until("the old program is not LIVE", async || look(&b, 5).await.1.liveness() != pb::Liveness::Live).await;
    let (withheld, _) = look(&b, 5).await;
    assert!(withheld, "it answers on from before");
    let (verified, said, errors) = journal(&url, &["verify"]);
    assert_eq!(verified, Some(0), "{said}{errors}");
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "takes the old program: make try-upgrade"]
async fn a_file_is_taken_up_by_the_new_program_and_goes_back_to_the_old() {
    let (old, new) = (old_program(), BINARY.to_owned());
    let ((dir, file), mut account) = (mk_journal(), 0);
    let url = format!("sqlite:{}", Path::new(&file).display());
    for program in [&old, &new, &old, &new] {
        let service = start(program, &url, &dir, "one").await;
        for earlier in 1..=account {
            until_withheld(&service, earlier).await;
        }
        account += 1;
        apply(&service, &format!("order-{account}"), account).await.unwrap();
        agree(&[&service], account).await;
        assert!(tokio::task::spawn_blocking(|| service.stop()).await.unwrap().success());
    }
    let (verified, said, errors) = journal(&url, &["verify"]);
    assert_eq!(verified, Some(0), "{said}{errors}");
}
